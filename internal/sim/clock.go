package sim

import (
	"sync"
	"time"
)

// clock is the wall clock of one node: true time, wrong by an offset, a drift and jumps. It goes backwards when a jump says so.
type clock struct {
	mu     sync.Mutex
	since  time.Time     // true time at which offset held
	offset time.Duration // at since
	drift  int64         // ns gained per second, may be negative
	frozen time.Time     // reading of a paused node whose clock stands still; zero: it runs
}

// now returns what the node's clock shows.
func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.frozen.IsZero() {
		return c.frozen
	}
	return c.readLocked()
}

func (c *clock) readLocked() time.Time {
	now := time.Now()
	return now.Add(c.offset + c.gainedLocked(now))
}

func (c *clock) gainedLocked(now time.Time) time.Duration {
	return time.Duration(int64(now.Sub(c.since)/time.Microsecond) * c.drift / 1_000_000)
}

// set makes the clock wrong by offset and drift from now on.
func (c *clock) set(offset time.Duration, drift int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.since, c.offset, c.drift = time.Now(), offset, drift
}

// jump adds to the offset.
func (c *clock) jump(by time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	c.offset += c.gainedLocked(now) + by
	c.since = now
}

// freeze stops the clock, or lets it run again with the time that has passed.
func (c *clock) freeze(on bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.frozen = (time.Time{}); on {
		c.frozen = c.readLocked()
	}
}
