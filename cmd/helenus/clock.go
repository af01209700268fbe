//go:build !faultclock

package main

import "time"

// wallClock is the clock of the machine.
func wallClock() func() time.Time { return time.Now }
