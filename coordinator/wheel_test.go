package coordinator

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/helenusdb/helenus/schema"
)

// TestWheelIsNotEarlyAfterAPause: what is added to a wheel that stood still fires at its time, not at once.
func TestWheelIsNotEarlyAfterAPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var w wheel
		w.init()
		for _, pause := range []time.Duration{0, 10 * time.Second, time.Hour} {
			time.Sleep(pause)
			began := time.Now()
			w.add(&readOp{}, began.Add(50*time.Millisecond))
			for fired := 0; fired == 0; {
				time.Sleep(wheelTick)
				fired = len(w.turn(time.Now(), nil))
			}
			if after := time.Since(began); after < 50*time.Millisecond || after > 50*time.Millisecond+3*wheelTick {
				t.Errorf("after a pause of %v: fired after %v", pause, after)
			}
			if w.held != 0 {
				t.Errorf("%d held", w.held)
			}
		}
	})
}

// TestWheelWaitsForMoreThanATurn: a wait of several turns is kept, unless the read is answered meanwhile.
func TestWheelWaitsForMoreThanATurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var w wheel
		w.init()
		const wait = 5 * wheelSlots * wheelTick / 2
		late, answered := &readOp{r: &Read{}}, &readOp{}
		late.refs.Store(2)
		answered.refs.Store(2)
		began := time.Now()
		w.add(late, began.Add(wait))
		w.add(answered, began.Add(wait))
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { defer close(ended); w.run(ctx) }()
		time.Sleep(wait - wheelTick)
		if late.refs.Load() != 2 || answered.refs.Load() != 1 {
			t.Errorf("after %v the references are %d and %d", time.Since(began), late.refs.Load(), answered.refs.Load())
		}
		time.Sleep(3 * wheelTick)
		if late.refs.Load() != 1 {
			t.Error("the time of the one that waits has passed")
		}
		stop()
		<-ended
	})
}

// TestLatencyPercentiles are right to the width of a bucket.
func TestLatencyPercentiles(t *testing.T) {
	var l latencies
	if got := l.percentile(99); got != latencyFirst {
		t.Errorf("without experience %v", got)
	}
	for i := range 10000 {
		l.add(time.Duration(i) * 10 * time.Microsecond) // up to 100 ms
	}
	for _, p := range []float64{50, 90, 99} {
		want := time.Duration(p * float64(time.Millisecond))
		if got := l.percentile(p); got < want || got > want*5/4 {
			t.Errorf("p%v is %v, want about %v", p, got, want)
		}
	}
}

// TestLatenciesAreOfATable: they outlast views, and those of tables that are gone do not add up.
func TestLatenciesAreOfATable(t *testing.T) {
	var all tableLatencies
	catalog := &schema.Catalog{}
	table := func(g int) *schema.Table { return &schema.Table{Generation: schema.Generation(g)} }
	first := all.get(table(1), catalog)
	first.add(time.Second)
	if all.get(table(1), catalog) != first || all.get(table(2), catalog) == first {
		t.Error("each table has its own, always the same")
	}
	for g := range 10 * latenciesSpare {
		all.get(table(g), catalog)
	}
	if len(all.of) > latenciesSpare {
		t.Errorf("%d tables of an empty catalog", len(all.of))
	}
}

// TestRank: this node, then the replica that answers soonest, other data centres last; slowness is forgotten.
func TestRank(t *testing.T) {
	self, fast, slow, busy, far := peerIn("dc1"), peerIn("dc1"), peerIn("dc1"), peerIn("dc1"), peerIn("dc2")
	self.self = true
	fast.answered(time.Millisecond, 0)
	slow.answered(time.Second, 0)
	busy.answered(time.Millisecond, 0)
	busy.outstanding.Store(50)
	list := []*peer{far, slow, busy, fast, self}
	rank(list, "dc1", 0)
	for i, want := range []*peer{self, fast, busy, slow, far} {
		if list[i] != want {
			t.Fatalf("place %d is wrong", i)
		}
	}
	slow.at.Store(0)
	fast.at.Store(int64(time.Hour))
	rank(list, "dc1", time.Hour)
	if list[1] != slow {
		t.Error("a replica that was slow an hour ago is never asked again")
	}
}
