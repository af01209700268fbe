// Package latency counts durations in a histogram of fixed size that may be written from many goroutines without a lock
// and without an allocation. Buckets are a quarter of an octave wide, so a quantile is at most a quarter too high.
package latency
