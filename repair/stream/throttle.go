package stream

import (
	"sync"
	"time"
)

// Throttle limits bytes per second; all who share it take from one account. It is safe for concurrent use.
type Throttle struct {
	mu   sync.Mutex // held for a few instructions
	rate int64      // bytes per second; 0: unlimited
	paid time.Time  // when all that was taken is paid for
}

// throttleBurst is how much idle time counts as saved up.
const throttleBurst = 100 * time.Millisecond

// NewThrottle returns one of so many bytes per second; 0 is no limit.
func NewThrottle(rate int64) *Throttle { return &Throttle{rate: max(rate, 0)} }

// Set changes the rate, in bytes per second; 0 is no limit. What waits already waits as it was told.
func (t *Throttle) Set(rate int64) {
	t.mu.Lock()
	t.rate, t.paid = max(rate, 0), time.Time{}
	t.mu.Unlock()
}

// Rate returns the limit in bytes per second; 0: none.
func (t *Throttle) Rate() int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.rate
}

// take takes n bytes and returns how long to wait before they are used: until what others took is paid for. False when that is
// longer than patience: nothing was taken.
func (t *Throttle) take(now time.Time, n int, patience time.Duration) (wait time.Duration, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.rate == 0 {
		return 0, true
	}
	if saved := now.Add(-throttleBurst); t.paid.Before(saved) {
		t.paid = saved
	}
	if wait = max(t.paid.Sub(now), 0); wait > patience {
		return wait, false
	}
	t.paid = t.paid.Add(time.Duration(float64(n) / float64(t.rate) * float64(time.Second)))
	return wait, true
}
