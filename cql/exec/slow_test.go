package exec

import (
	"testing"
	"time"
)

// TestSlowLogIsRateLimited: ten lines at once, then ten per second, whatever asks.
func TestSlowLogIsRateLimited(t *testing.T) {
	b := &observer{began: time.Now()}
	admitted := func(at time.Duration, tries int) (n int) {
		for range tries {
			if b.admit(b.began.Add(at)) {
				n++
			}
		}
		return n
	}
	for _, c := range []struct {
		at          time.Duration
		tries, want int
	}{{0, 1000, slowPerSecond}, {50 * time.Millisecond, 100, 0}, {100 * time.Millisecond, 100, 1}, {600 * time.Millisecond, 100, 5},
		{time.Hour, 1000, slowPerSecond}, {time.Hour + time.Second, 3, 3}, {time.Hour + time.Second, 100, slowPerSecond - 3}} {
		if got := admitted(c.at, c.tries); got != c.want {
			t.Errorf("at %s: %d of %d, want %d", c.at, got, c.tries, c.want)
		}
	}
}
