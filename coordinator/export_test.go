package coordinator

// ScanAhead returns how many bytes are reserved for parts that scans read ahead.
func (c *Coordinator) ScanAhead() int64 { return c.ahead.Load() }
