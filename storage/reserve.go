package storage

import (
	"fmt"
	"sync/atomic"
)

// reserve refuses writes before the disk is full, because Pebble ends the process when a commit meets a full disk. left is the
// free space above the reserve at the last look minus what was written since, counted twice: once for the log, once for the table
// that the memtable becomes.
type reserve struct {
	opts *Options
	left atomic.Int64
	full atomic.Bool
}

const writeAmplification = 2

func (r *reserve) init(o *Options) {
	r.opts = o
	r.left.Store(1 << 62)
}

func (r *reserve) exhausted() bool { return r.full.Load() || r.left.Load() <= 0 }

func (r *reserve) spend(bytes int64) { r.left.Add(-bytes * writeAmplification) }

// empty refuses writes until the next look finds space.
func (r *reserve) empty() { r.left.Store(0) }

// look asks the file system. Writes that were refused are taken again once a sixteenth more than the reserve is free.
// Without a reserve they are refused only while nothing is free at all, or the file system cannot tell and is full.
func (r *reserve) look() error {
	reserve := max(r.opts.ReserveBytes, 0)
	free, err := r.opts.FreeSpace()
	if err != nil && r.opts.ReserveBytes < 0 { // such as a file system in memory
		r.left.Store(1 << 62)
		return nil
	}
	if err != nil {
		return fmt.Errorf("free space of %s: %w", r.opts.Dir, err)
	}
	r.opts.Metrics.FreeBytes.Store(int64(min(free, 1<<62)))
	left := int64(min(free, 1<<62)) - reserve
	wasFull := r.exhausted()
	if wasFull && left < reserve/16 {
		left = min(left, 0)
	}
	r.left.Store(left)
	r.full.Store(left <= 0)
	if full := left <= 0; full != wasFull {
		r.opts.Logger.Warn("storage: free space crossed the reserve", "free", free, "reserve", reserve, "writes_refused", full)
	}
	return nil
}
