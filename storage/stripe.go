package storage

import (
	"sync"
	"sync/atomic"
	"time"
)

// A stripe is the token that orders the work on the partitions that hash to it. Writers hold it shared from Batch.Apply until
// their batch is applied and the row cache knows; fold and purge hold it exclusively, because they read a row and Set it, and a
// MERGE that landed in between would be lost.
//
// It is no mutex: Pebble may wait for I/O under it, and a goroutine waiting here must wait on a channel (virtual time).
//
// Writers wait for a bounded time: who holds the stripe exclusively reads from a disk that may be stuck. The first of them that
// gives up marks the stripe, so that those that come later do not wait at all, until the exclusive holder is through.
//
// Deadlock freedom: an exclusive holder holds one stripe and waits for no other one; an exclusive taker that is still waiting
// stops new batches only, never a batch that holds a stripe already.
type stripe struct {
	word atomic.Uint64 // shared holders, and the three bits below

	// applying counts batches between the start of their Pebble apply and the end of their update of the row cache. While it
	// is not 0 a cached row may be older than what another reader has seen in Pebble.
	applying atomic.Int64
	// epoch counts applied batches. A batch adds one after it is visible and before it tells the row cache. So a row read
	// from Pebble may be cached if the epoch, looked at under the cache shard's lock, is still what it was before the read;
	// and several keys read one by one belong together if the stripe was calm before and the epoch is the same after.
	epoch atomic.Uint64
	// last is the ordinal of the newest batch that touched the stripe, set before that batch is visible.
	last atomic.Uint64
	// markerEpoch counts applied batches that may carry markers, raised as epoch is.
	markerEpoch atomic.Uint64

	_ [8]byte

	mu   sync.Mutex    // held for a few instructions, never across a wait
	wake chan struct{} // closed and forgotten when the stripe may have become free; nil when nobody waits

}

const (
	stripeHeld    = 1 << 63 // held exclusively
	stripeWanted  = 1 << 62 // somebody waits to hold it exclusively
	stripeStuck   = 1 << 61 // held or wanted, and a writer has given up
	stripeSharers = stripeStuck - 1
)

// acquireShared takes s shared; false: it was not free within the limit, or was not for others before. A holder of other stripes
// may pass a waiting exclusive taker.
func (s *stripe) acquireShared(holdsOthers bool, limit time.Duration) bool {
	blocked := uint64(stripeHeld | stripeWanted)
	if holdsOthers {
		blocked = stripeHeld
	}
	var timer *time.Timer
	for {
		w := s.word.Load()
		switch {
		case w&blocked == 0:
			if s.word.CompareAndSwap(w, w+1) {
				return true
			}
			continue
		case w&stripeStuck != 0:
			return false
		case timer == nil:
			timer = time.NewTimer(limit)
			defer timer.Stop()
		}
		if s.wait(func() bool { return s.word.Load()&blocked != 0 }, timer.C) {
			continue
		}
		if w := s.word.Load(); w&blocked != 0 && s.word.CompareAndSwap(w, w|stripeStuck) {
			return false
		}
		timer.Reset(0) // it has moved on this instant: one more look
	}
}

func (s *stripe) releaseShared() {
	w := s.word.Add(^uint64(0))
	if w&stripeWanted != 0 && w&stripeSharers == 0 {
		s.wakeAll()
	}
}

// acquire takes s exclusively.
func (s *stripe) acquire() {
	for {
		w := s.word.Load()
		if w&(stripeHeld|stripeSharers) == 0 {
			if s.word.CompareAndSwap(w, stripeHeld) {
				return
			}
			continue
		}
		if w&stripeWanted == 0 && !s.word.CompareAndSwap(w, w|stripeWanted) {
			continue
		}
		s.wait(func() bool { w := s.word.Load(); return w&(stripeHeld|stripeSharers) != 0 }, nil)
	}
}

func (s *stripe) release() {
	for {
		w := s.word.Load()
		if s.word.CompareAndSwap(w, w&^(stripeHeld|stripeWanted|stripeStuck)) {
			break
		}
	}
	s.wakeAll()
}

// wait blocks until the stripe was woken after blocked was last true; false: enough came before.
func (s *stripe) wait(blocked func() bool, enough <-chan time.Time) bool {
	s.mu.Lock()
	if s.wake == nil {
		s.wake = make(chan struct{})
	}
	ch := s.wake
	s.mu.Unlock()
	if !blocked() {
		return true
	}
	select {
	case <-ch:
		return true
	case <-enough:
		return false
	}
}

func (s *stripe) wakeAll() {
	s.mu.Lock()
	ch := s.wake
	s.wake = nil
	s.mu.Unlock()
	if ch != nil {
		close(ch)
	}
}

// calm returns the epoch and whether no batch is being applied: then what the row cache holds is what Pebble holds.
func (s *stripe) calm() (epoch uint64, ok bool) {
	epoch = s.epoch.Load()
	return epoch, s.applying.Load() == 0
}

// undisturbed tells whether nothing was applied since calm returned epoch and true.
func (s *stripe) undisturbed(epoch uint64) bool {
	return s.applying.Load() == 0 && s.epoch.Load() == epoch
}

// raise makes v at least x.
func raise(v *atomic.Uint64, x uint64) {
	for {
		old := v.Load()
		if old >= x || v.CompareAndSwap(old, x) {
			return
		}
	}
}
