package coordinator

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// era counts the requests under way that were planned under one RingEpoch. Views that differ in other things only share one.
type era struct {
	ringEpoch uint64
	requests  atomic.Int64
}

// eras holds those of the newest views and older ones with requests under way.
type eras struct {
	mu  sync.Mutex // guards all; held for an instant
	all []*era
}

// of returns the era of a RingEpoch.
func (e *eras) of(ringEpoch uint64) *era {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.all = slices.DeleteFunc(e.all, func(o *era) bool { return o.ringEpoch < ringEpoch && o.requests.Load() == 0 })
	if i := slices.IndexFunc(e.all, func(o *era) bool { return o.ringEpoch == ringEpoch }); i >= 0 {
		return e.all[i]
	}
	o := &era{ringEpoch: ringEpoch}
	e.all = append(e.all, o)
	return o
}

// before counts the requests under way of older RingEpochs.
func (e *eras) before(ringEpoch uint64) (n int64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, o := range e.all {
		if o.ringEpoch < ringEpoch {
			n += o.requests.Load()
		}
	}
	return n
}

// Settled returns when no read, write or ballot is under way any more that this node began to coordinate under an older RingEpoch than this one,
// which its metadata have reached: every answer that a replica owes is here, or will not come. A request that was planned before and has not
// begun yet is not waited for: whatever it asks for is refused. The error is that of ctx.
func (c *Coordinator) Settled(ctx context.Context, ringEpoch uint64) error {
	t := time.NewTicker(settleTick)
	defer t.Stop()
	for c.eras.before(ringEpoch) > 0 {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-t.C:
		}
	}
	return nil
}
