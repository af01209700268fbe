package hlc

import (
	"sync"
	"testing"
	"time"
)

func TestTimestampsIncreaseWhenTheClockStepsBack(t *testing.T) {
	now := time.UnixMicro(1_000_000)
	c := New(func() time.Time { return now }, 0, func(int64) error { return nil })
	a := c.Timestamp()
	now = now.Add(-time.Hour)
	b := c.Timestamp()
	now = now.Add(2 * time.Hour)
	d := c.Timestamp()
	if a != 1_000_000 || b != a+1 || d != now.UnixMicro() {
		t.Errorf("got %d %d %d", a, b, d)
	}
}

// TestScenario_K3_RestartWithTheClockSetBack: what was given before a crash stays below what is given after it.
func TestScenario_K3_RestartWithTheClockSetBack(t *testing.T) {
	var durable int64
	now := time.Unix(1_700_000_000, 0)
	clock := func() time.Time { return now }
	persist := func(c int64) error { durable = c; return nil }
	c := New(clock, 0, persist)
	var last int64
	for range 50 {
		if err := c.Extend(); err != nil {
			t.Fatal(err)
		}
		now = now.Add(400 * time.Millisecond)
		last = c.Timestamp()
	}
	now = now.Add(-time.Hour)
	again := New(clock, durable, persist)
	if first := again.Timestamp(); first <= last {
		t.Errorf("after the restart %d, before it %d", first, last)
	}
	if lead := durable - last; lead > int64(2*time.Second/time.Microsecond) {
		t.Errorf("the ceiling leads by %d µs", lead)
	}
}

// TestLead: after a crash timestamps lead a clock that is right by at most Ahead, after a clean stop not at all.
func TestLead(t *testing.T) {
	var durable int64
	now := time.Unix(1_700_000_000, 0)
	clock := func() time.Time { return now }
	persist := func(c int64) error { durable = c; return nil }
	c := New(clock, 0, persist)
	if err := c.Extend(); err != nil {
		t.Fatal(err)
	}
	last := c.Timestamp()
	crashed := New(clock, durable, persist)
	if lead := crashed.Lead(); lead <= 0 || lead > Ahead+time.Microsecond {
		t.Errorf("after a crash: %s", lead)
	}
	if err := c.Rest(); err != nil {
		t.Fatal(err)
	}
	now = now.Add(time.Millisecond)
	rested := New(clock, durable, persist)
	if lead := rested.Lead(); lead != 0 {
		t.Errorf("after a clean stop: %s", lead)
	}
	if first := rested.Timestamp(); first <= last {
		t.Errorf("%d after %d", first, last)
	}
	now = now.Add(-time.Hour)
	if lead := rested.Lead(); lead <= Ahead {
		t.Errorf("with the clock set back by an hour: %s", lead)
	}
}

func TestConcurrentTimestampsAreUnique(t *testing.T) {
	c := New(func() time.Time { return time.UnixMicro(5) }, 0, func(int64) error { return nil })
	var mu sync.Mutex
	seen := map[int64]bool{}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 1000 {
				ts := c.Timestamp()
				mu.Lock()
				if seen[ts] {
					t.Errorf("%d twice", ts)
				}
				seen[ts] = true
				mu.Unlock()
			}
		})
	}
	wg.Wait()
}
