package storage

import (
	"testing"
	"time"
)

// TestPace: tables are written at their rate while logs are, at once while none is or the store is behind.
func TestPace(t *testing.T) {
	const piece = 32 << 10
	now := time.Unix(1_700_000_000, 0)
	// seconds writes so many bytes of tables beside logs of so many bytes per second and returns how long it took.
	seconds := func(p *pace, bytes, logs int) float64 {
		began, next := now, now
		for ; bytes > 0; bytes -= piece {
			for ; logs > 0 && !next.After(now); next = next.Add(10 * time.Millisecond) {
				p.log(logs/100, next)
			}
			now = now.Add(p.table(piece, now) + 10*time.Microsecond)
		}
		return now.Sub(began).Seconds()
	}
	within := func(what string, got, least, most float64) {
		t.Helper()
		if got < least || got > most {
			t.Errorf("%s: %.3f s, want %.3f to %.3f", what, got, least, most)
		}
	}
	var p pace
	within("no log is written", seconds(&p, 64*mib, 0), 0, 0.05)
	within("little goes into logs", seconds(&p, 4*paceLeast, mib), 3.8, 4.1)
	seconds(&p, paceLeast, 40*mib) // the rate is that of the second before
	within("much goes into logs", seconds(&p, paceShare*40*mib*2, 40*mib), 1.8, 2.2)
	p.behind.Store(true)
	within("the store is behind", seconds(&p, 64*mib, 40*mib), 0, 0.05)
	p.behind.Store(false)
	now = now.Add(time.Minute)
	within("logs are at rest", seconds(&p, 64*mib, 0), 0, 0.05)
	within("and written again", seconds(&p, 2*paceLeast, mib), 0.2, 2.1)
}
