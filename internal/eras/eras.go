package eras

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// tick is how often Wait looks.
const tick = time.Millisecond

// Era counts what is under way that was planned under one RingEpoch.
type Era struct {
	ringEpoch uint64
	n         atomic.Int64
}

// Enter counts one more.
func (e *Era) Enter() { e.n.Add(1) }

// Leave counts one less.
func (e *Era) Leave() { e.n.Add(-1) }

// Eras are those of the newest RingEpoch and of older ones with something under way. The zero value is ready for use.
type Eras struct {
	newest atomic.Pointer[Era] // of all; nil: none yet
	mu     sync.Mutex          // guards all; held for an instant
	all    []*Era
}

// Of returns the era of a RingEpoch. Of the newest it costs one atomic load. One that was returned before, had nothing in it and is older than another one asked
// for since is no longer waited for: who enters it has to look afterwards whether its RingEpoch still holds.
func (s *Eras) Of(ringEpoch uint64) *Era {
	if e := s.newest.Load(); e != nil && e.ringEpoch == ringEpoch {
		return e
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = slices.DeleteFunc(s.all, func(e *Era) bool { return e.ringEpoch < ringEpoch && e.n.Load() == 0 })
	if i := slices.IndexFunc(s.all, func(e *Era) bool { return e.ringEpoch == ringEpoch }); i >= 0 {
		return s.all[i]
	}
	e := &Era{ringEpoch: ringEpoch}
	s.all = append(s.all, e)
	if n := s.newest.Load(); n == nil || n.ringEpoch < ringEpoch {
		s.newest.Store(e)
	}
	return e
}

// Before counts what is under way of older RingEpochs.
func (s *Eras) Before(ringEpoch uint64) (n int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.all {
		if e.ringEpoch < ringEpoch {
			n += e.n.Load()
		}
	}
	return n
}

// Wait returns when nothing is under way of older RingEpochs. The error is that of ctx.
func (s *Eras) Wait(ctx context.Context, ringEpoch uint64) error {
	if s.Before(ringEpoch) == 0 {
		return nil
	}
	t := time.NewTicker(tick)
	defer t.Stop()
	for s.Before(ringEpoch) != 0 {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-t.C:
		}
	}
	return nil
}
