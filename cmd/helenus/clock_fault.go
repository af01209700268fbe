//go:build faultclock

package main

import (
	"os"
	"strings"
	"sync/atomic"
	"time"
)

// clockReread is after how long a clock looks for a new offset.
const clockReread = 50 * time.Millisecond

// wallClock is, in the binary that the fault tests build, the machine's clock plus the duration in the file that FAULT_CLOCK
// names: tests set the clock of one node. No file, or none that can be read: no offset.
func wallClock() func() time.Time {
	file := os.Getenv("FAULT_CLOCK")
	var offset, read atomic.Int64
	start := time.Now()
	return func() time.Time {
		now := time.Now()
		at := int64(now.Sub(start)) + 1
		if last := read.Load(); (last == 0 || at-last > int64(clockReread)) && read.CompareAndSwap(last, at) {
			if b, err := os.ReadFile(file); err == nil {
				if d, err := time.ParseDuration(strings.TrimSpace(string(b))); err == nil {
					offset.Store(int64(d))
				}
			}
		}
		return now.Add(time.Duration(offset.Load()))
	}
}
