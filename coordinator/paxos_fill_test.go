package coordinator_test

import (
	"math"
	"testing"
	"testing/synctest"
	"time"

	"github.com/helenusdb/helenus/coordinator"
	"github.com/helenusdb/helenus/ring"
	"github.com/helenusdb/helenus/rpc"
)

// TestFinishAll: what a node has accepted and does not know to be decided is finished at once in the tokens that are asked for, and nowhere else; a
// repair leaves it to its proposer while that may still be at work.
func TestFinishAll(t *testing.T) {
	simulated(t, func(t *testing.T) {
		c := three(t)
		c.setFault(lose(commits, 1, 2))
		for i := range 2 {
			if applied, _, err := c.cas(0, key(i), set("", "x"), func(op *coordinator.CAS) { op.Commit = coordinator.Any }); !applied || err != nil {
				t.Fatal(applied, err)
			}
		}
		synctest.Wait() // the third has accepted it too
		c.setFault(nil)
		at := ring.Interval{First: tokenOf(key(0)), Last: tokenOf(key(0))}
		one := c.nodes[1].coord
		if err := one.FinishRange(t.Context(), c.wide.Generation, at); err != nil || c.has(1, c.wide, key(0)) != "" {
			t.Errorf("a young one was finished: %v", err)
		}
		if err := one.FinishAll(t.Context(), c.wide.Generation, at); err != nil {
			t.Fatal(err)
		}
		if n := one.Metrics().CASSwept.Load(); n != 1 {
			t.Errorf("%d were finished", n)
		}
		if got := c.has(1, c.wide, key(1)); got != "" {
			t.Errorf("one outside of the tokens was finished: %q", got)
		}
		for n := range c.nodes {
			eventually(t, "the row is there", func() bool { return c.has(n, c.wide, key(0)) == "a=x " })
		}
		if err := one.FinishAll(t.Context(), c.wide.Generation+100, at); err != nil {
			t.Errorf("of no table: %v", err)
		}
	})
}

// TestOldestIn: of the partitions in an interval the oldest last commit counts, and one that is accepted and not known to be decided, with the time at which it was made first.
func TestOldestIn(t *testing.T) {
	simulated(t, func(t *testing.T) {
		c := three(t)
		oldest := func(n int, keys ...[]byte) (since int64, some bool) {
			t.Helper()
			since = math.MaxInt64
			for _, pk := range keys {
				s, ok, err := c.nodes[n].coord.OldestIn(c.wide.Generation, ring.Interval{First: tokenOf(pk), Last: tokenOf(pk)})
				if err != nil {
					t.Fatal(err)
				}
				if ok {
					since, some = min(since, s), true
				}
			}
			return since, some
		}
		if _, some := oldest(1, key(0)); some {
			t.Error("there is one before anything was written")
		}
		first := time.Now().Unix()
		c.setFault(lose(commits, 1, 2))
		if applied, _, err := c.cas(0, key(0), set("", "x"), func(op *coordinator.CAS) { op.Commit = coordinator.Any }); !applied || err != nil {
			t.Fatal(applied, err)
		}
		synctest.Wait() // the third has accepted it too
		c.setFault(nil)
		time.Sleep(time.Minute)
		for n := range 3 {
			if got, some := oldest(n, key(0)); !some || got != first {
				t.Errorf("node %d, committed there or accepted: %d, %t, want %d", n, got, some, first)
			}
		}
		one := c.nodes[1].coord
		if err := one.FinishAll(t.Context(), c.wide.Generation, ring.Interval{First: tokenOf(key(0)), Last: tokenOf(key(0))}); err != nil {
			t.Fatal(err)
		}
		if got, some := oldest(1, key(0)); !some || got != first+60 {
			t.Errorf("once it is finished: %d, %t, want %d: the commit of nothing that says so", got, some, first+60)
		}
		time.Sleep(time.Minute)
		second := time.Now().Unix()
		c.mustCAS(0, key(1), "", "y")
		if got, _ := oldest(0, key(1)); got != second {
			t.Errorf("of the other partition %d, want %d", got, second)
		}
		if got, some, err := one.OldestIn(c.wide.Generation, ring.Interval{First: ring.MinToken, Last: ring.MaxToken}); err != nil || !some || got != first+60 {
			t.Errorf("of all: %d, %t, %v, want %d", got, some, err, first+60)
		}
	})
}

// TestForgottenHereLast: one that sweeps keeps its register until all others have forgotten theirs, so that a repair which asks one after another hears of it.
func TestForgottenHereLast(t *testing.T) {
	simulated(t, func(t *testing.T) {
		c := three(t)
		c.mustCAS(0, key(0), "", "x")
		c.setFault(lose([]rpc.Verb{coordinator.VerbForget}, 0, 1, 2))
		time.Sleep(3 * time.Hour)
		if n := [3]int{c.registers(0), c.registers(1), c.registers(2)}; n != [3]int{1, 1, 1} {
			t.Errorf("registers %v, want one on each node: no other has forgotten its own", n)
		}
		c.setFault(nil)
		time.Sleep(time.Hour)
		if n := c.registers(0) + c.registers(1) + c.registers(2); n != 0 {
			t.Errorf("%d registers are left", n)
		}
	})
}

// TestLowBoundOfOneThatFills: the latest promise in an interval is found, the low bound rises to it durably and never falls, and ballots up to it are
// refused after a restart too.
func TestLowBoundOfOneThatFills(t *testing.T) {
	simulated(t, func(t *testing.T) {
		c := three(t)
		for i := range 3 {
			c.mustCAS(0, key(i), "", "x")
			time.Sleep(time.Second)
		}
		var latest int64
		for i := range 3 {
			_, head := c.register(1, key(i))
			tok := tokenOf(key(i))
			got, err := c.nodes[1].coord.LatestPromise(c.wide.Generation, ring.Interval{First: tok, Last: tok})
			if err != nil || got != head.Promised.Micros || got <= latest {
				t.Errorf("promise of partition %d: %d, %v, want %d", i, got, err, head.Promised.Micros)
			}
			latest = got
		}
		if got, err := c.nodes[1].coord.LatestPromise(c.wide.Generation, ring.Interval{First: ring.MinToken, Last: ring.MaxToken}); err != nil || got != latest {
			t.Errorf("of all: %d, %v, want %d", got, err, latest)
		}
		if got, err := c.nodes[1].coord.LatestPromise(c.wide.Generation+100, ring.Interval{First: ring.MinToken, Last: ring.MaxToken}); err != nil || got != 0 {
			t.Errorf("of no table: %d, %v", got, err)
		}
		bound := time.Now().Add(20 * time.Second).UnixMicro()
		for _, b := range []int64{latest, bound, latest} {
			if err := c.nodes[1].coord.RaiseLowBound(t.Context(), b); err != nil {
				t.Fatal(err)
			}
		}
		if low := (engine{c.nodes[1].engine, c.nodes[1]}).lowBound(); low != bound {
			t.Errorf("low bound %d, want %d", low, bound)
		}
		c.nodes[1].halt()
		c.nodes[1].start()
		c.nodes[1].connect()
		if got, err := c.nodes[1].coord.LatestPromise(c.wide.Generation, ring.Interval{First: 0, Last: 0}); err != nil || got != bound {
			t.Errorf("after a restart: %d, %v, want %d", got, err, bound)
		}
		c.setDown(2, true)
		c.mustCAS(0, key(7), "", "y") // needs node 1, which takes no ballot up to the bound
		if _, head := c.register(1, key(7)); head.Promised.Micros <= bound {
			t.Errorf("it promised %d, low bound %d", head.Promised.Micros, bound)
		}
	})
}
