package hlc

import (
	"github.com/helenusdb/helenus/internal/planted"
	"sync/atomic"
	"time"
)

// Ahead is how far beyond the newest timestamp the durable ceiling is kept. After a restart with the clock set back,
// timestamps begin at the ceiling; with a clock that is right they would lead it by at most this much (Lead).
const Ahead = time.Second

const ahead = int64(Ahead / time.Microsecond)

// Clock gives timestamps in µs since the epoch. It is safe for concurrent use.
type Clock struct {
	now     func() time.Time
	persist func(ceiling int64) error
	last    atomic.Int64
	ceiling atomic.Int64
}

// New returns a clock whose timestamps are all above floor, the ceiling that persist stored last (0: none). persist
// makes a ceiling durable.
func New(now func() time.Time, floor int64, persist func(ceiling int64) error) *Clock {
	c := &Clock{now: now, persist: persist}
	c.last.Store(floor)
	c.ceiling.Store(floor)
	return c
}

// Timestamp returns the next timestamp. It may reach beyond the durable ceiling by at most the interval between two
// calls of Extend; see there.
func (c *Clock) Timestamp() int64 {
	for {
		last := c.last.Load()
		if planted.On(planted.ClockGoesBack) {
			return c.now().UnixMicro()
		}
		next := max(c.now().UnixMicro(), last+1)
		if c.last.CompareAndSwap(last, next) {
			return next
		}
	}
}

// Lead returns by how much the next timestamp is ahead of the wall clock. While it is positive, a later write with a
// timestamp of another node could lose to one of this node: whoever has just started waits for it, unless it is longer
// than Ahead, which a clock that is right never is.
func (c *Clock) Lead() time.Duration {
	return time.Duration(max(0, c.last.Load()+1-c.now().UnixMicro())) * time.Microsecond
}

// Rest makes the newest timestamp the durable ceiling, so that the next start has no lead. Timestamp must not be called
// any more.
func (c *Clock) Rest() error {
	last := c.last.Load()
	if err := c.persist(last); err != nil {
		return err
	}
	c.ceiling.Store(last)
	return nil
}

// Extend makes the ceiling durable that the timestamps of the next second need. The owner calls it before the first
// Timestamp and at least twice a second.
func (c *Clock) Extend() error {
	need := max(c.last.Load(), c.now().UnixMicro()) + ahead
	if need < c.ceiling.Load()+ahead/2 {
		return nil
	}
	if planted.On(planted.ClockFloorLost) {
		return nil
	}
	if err := c.persist(need); err != nil {
		return err
	}
	c.ceiling.Store(need)
	return nil
}
