package coordinator_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/helenusdb/helenus/coordinator"
	"github.com/helenusdb/helenus/meta"
	"github.com/helenusdb/helenus/rpc"
	"github.com/helenusdb/helenus/schema"
)

func hintsOf(n *node) int64 {
	count, _ := n.coord.Hints().Pending()
	return count
}

// TestHintsBringAReplicaUpToDate: one that was down gets what it missed, deletions with it, and nothing stays behind.
func TestHintsBringAReplicaUpToDate(t *testing.T) {
	simulated(t, func(t *testing.T) {
		c := three(t)
		c.setDown(2, true)
		for i := range 300 {
			c.mustWrite(i%2, coordinator.Quorum, c.put(c.wide, key(i), "a", 1, "x"))
		}
		c.mustWrite(0, coordinator.Quorum, c.deleteRow(c.wide, key(7), "a", 2))
		if got := hintsOf(c.nodes[0]) + hintsOf(c.nodes[1]); got != 301 {
			t.Errorf("%d hints", got)
		}
		c.setDown(2, false)
		eventually(t, "delivered", func() bool { return hintsOf(c.nodes[0])+hintsOf(c.nodes[1]) == 0 })
		for i := range 300 {
			want := "a=x "
			if i == 7 {
				want = ""
			}
			if got := c.has(2, c.wide, key(i)); got != want {
				t.Fatalf("partition %d: %q", i, got)
			}
		}
		m := c.nodes[0].coord.Hints().Metrics()
		if s, d := m.Stored.Load(), m.Delivered.Load(); s != d || m.Dropped.Load() != 0 || m.Expired.Load() != 0 {
			t.Errorf("stored %d, delivered %d", s, d)
		}
	})
}

// TestHintForAWriteThatTimedOut: a replica that is up but did not answer gets a hint as well.
func TestHintForAWriteThatTimedOut(t *testing.T) {
	simulated(t, func(t *testing.T) {
		for _, a := range []action{{drop: true}, {unsent: true}, {refuse: rpc.StatusFailed}, {refuse: rpc.StatusOverloaded}} {
			c := three(t)
			c.setFault(func(m message) action {
				if m.to == 2 {
					return a
				}
				return action{}
			})
			c.mustWrite(0, coordinator.Quorum, c.put(c.wide, key(1), "a", 1, "x"))
			time.Sleep(3 * time.Second)
			c.setFault(nil)
			eventually(t, "delivered", func() bool { return c.has(2, c.wide, key(1)) == "a=x " })
			eventually(t, "deleted", func() bool { return hintsOf(c.nodes[0]) == 0 })
		}
	})
}

// TestAnyCountsHints: a hint is enough for ANY, and for no other level.
func TestAnyCountsHints(t *testing.T) {
	simulated(t, func(t *testing.T) {
		c := newCluster(t, layout{dcs: nodesIn("dc1", 3), keyspace: []schema.Pair{{Key: "class", Value: "SimpleStrategy"}, {Key: "replication_factor", Value: "1"}}})
		pk := c.keyOf(1)
		c.setDown(1, true)
		c.mustWrite(0, coordinator.Any, c.put(c.wide, pk, "a", 1, "x"))
		var u *coordinator.Unavailable
		if err := c.nodes[0].write(coordinator.One, c.put(c.wide, pk, "b", 1, "x")); !errors.As(err, &u) {
			t.Errorf("ONE: %v", err)
		}
		c.setDown(1, false)
		eventually(t, "delivered", func() bool { return c.has(1, c.wide, pk) == "a=x " })
	})
}

// TestAnyWithoutHintsIsUnavailable: nothing can take the write, so it is not accepted, and not silently forgotten.
func TestAnyWithoutHintsIsUnavailable(t *testing.T) {
	simulated(t, func(t *testing.T) {
		c := newCluster(t, layout{dcs: nodesIn("dc1", 2), keyspace: []schema.Pair{{Key: "class", Value: "SimpleStrategy"}, {Key: "replication_factor", Value: "1"}},
			tune: func(o *coordinator.Options) { o.HintsOff = true }})
		c.setDown(1, true)
		var u *coordinator.Unavailable
		if err := c.nodes[0].write(coordinator.Any, c.put(c.wide, c.keyOf(1), "a", 1, "x")); !errors.As(err, &u) {
			t.Errorf("got %v", err)
		}
	})
}

// keyOf returns a key whose first replica is a node.
func (c *cluster) keyOf(n int) []byte {
	for i := 0; ; i++ {
		p := c.state.Placement("ks")
		if r := p.Replicas(tokenOf(key(i))); p.Ring().Nodes()[r[0]].ID == hostID(n) {
			return key(i)
		}
	}
}

// TestScenario_H1_ReplayWhileTheRangeMoves: a hint also reaches the node that is becoming a replica.
func TestScenario_H1_ReplayWhileTheRangeMoves(t *testing.T) {
	simulated(t, func(t *testing.T) {
		c := newCluster(t, layout{dcs: nodesIn("dc1", 4), joining: 1})
		// A key that the joining node is going to replicate, and node 2 has.
		var pk []byte
		for i := 0; pk == nil; i++ {
			k := key(i)
			future := c.state.OtherPlacement("ks")
			for _, r := range future.Replicas(tokenOf(k)) {
				if future.Ring().Nodes()[r].ID == hostID(3) {
					pk = k
				}
			}
		}
		// The hint is made before node 3 is announced: it knows of node 2 only.
		alone, again := c.alone, c.state
		all := func(s *meta.State) {
			for _, n := range c.nodes {
				n.state.Store(s)
			}
		}
		all(alone)
		c.setFault(func(m message) action { return action{drop: m.to == 2} })
		c.mustWrite(0, coordinator.Quorum, c.put(c.wide, pk, "a", 1, "x"))
		time.Sleep(3 * time.Second)
		if got := c.has(3, c.wide, pk); got != "" || hintsOf(c.nodes[0]) != 1 {
			t.Fatalf("before: node 3 has %q, %d hints", got, hintsOf(c.nodes[0]))
		}
		all(again)
		c.setFault(nil)
		eventually(t, "both have it", func() bool { return c.has(2, c.wide, pk) == "a=x " && c.has(3, c.wide, pk) == "a=x " })
	})
}

// TestScenario_H2_HintOfANodeThatLeft: it goes to all that own the data now.
func TestScenario_H2_HintOfANodeThatLeft(t *testing.T) {
	simulated(t, func(t *testing.T) {
		c := newCluster(t, layout{dcs: nodesIn("dc1", 4), keyspace: []schema.Pair{{Key: "class", Value: "SimpleStrategy"}, {Key: "replication_factor", Value: "1"}}})
		pk := c.keyOf(3)
		c.setDown(3, true)
		c.mustWrite(0, coordinator.Any, c.put(c.wide, pk, "a", 1, "x"))
		next := c.apply(c.state, meta.Command{Kind: meta.RemoveNode, Node: meta.Node{ID: hostID(3)}})
		for _, n := range c.nodes {
			n.state.Store(next)
		}
		p := next.Placement("ks")
		owner := int(p.Ring().Nodes()[p.Replicas(tokenOf(pk))[0]].ID[15]) - 1
		eventually(t, "the owner has it", func() bool { return c.has(owner, c.wide, pk) == "a=x " })
		eventually(t, "the hint is gone", func() bool { return hintsOf(c.nodes[0]) == 0 })
	})
}

// TestScenario_H3_TheWindowDoesNotBeginAnew: neither when the target flaps nor when the hinting node restarts.
func TestScenario_H3_TheWindowDoesNotBeginAnew(t *testing.T) {
	simulated(t, func(t *testing.T) {
		c := three(t)
		time.Sleep(time.Second) // what is put while hints of an earlier run are counted may be counted twice for a while
		refuse := func(m message) action { return action{unsent: m.to == 2} }
		c.setFault(refuse)
		c.setDown(2, true)
		c.mustWrite(0, coordinator.Quorum, c.put(c.wide, key(1), "a", 1, "x"))
		time.Sleep(2 * time.Hour)
		c.setDown(2, false) // it flaps, and takes nothing
		time.Sleep(time.Minute)
		c.setDown(2, true)
		c.mustWrite(0, coordinator.Quorum, c.put(c.wide, key(2), "a", 1, "x"))
		if got := hintsOf(c.nodes[0]); got != 2 {
			t.Errorf("%d hints within the window", got)
		}
		c.nodes[0].halt()
		c.nodes[0].start()
		c.nodes[0].connect()
		time.Sleep(time.Hour)
		c.setDown(2, true) // this node believes that it is down since now
		dropped := c.nodes[0].coord.Hints().Metrics().Dropped.Load()
		c.mustWrite(0, coordinator.Quorum, c.put(c.wide, key(3), "a", 1, "x"))
		if got := hintsOf(c.nodes[0]); got != 2 || c.nodes[0].coord.Hints().Metrics().Dropped.Load() != dropped+1 {
			t.Errorf("%d hints after the window", got)
		}
		c.setFault(nil)
		c.setDown(2, false)
		eventually(t, "delivered", func() bool { return hintsOf(c.nodes[0]) == 0 })
		// After delivery there is a new window.
		c.setDown(2, true)
		c.mustWrite(0, coordinator.Quorum, c.put(c.wide, key(4), "a", 1, "x"))
		if got := hintsOf(c.nodes[0]); got != 1 {
			t.Errorf("%d hints in a new window", got)
		}
	})
}

// TestScenario_H4_NoHintOlderThanGCGrace: its age counts from the write, and past gc_grace it is given up.
func TestScenario_H4_NoHintOlderThanGCGrace(t *testing.T) {
	simulated(t, func(t *testing.T) {
		c := newCluster(t, layout{dcs: nodesIn("dc1", 3), options: []schema.Property{{Name: "gc_grace_seconds", Value: "600"}}})
		c.setDown(2, true)
		c.mustWrite(0, coordinator.Quorum, c.put(c.wide, key(1), "a", 1, "x"))
		time.Sleep(300 * time.Second)
		// This one is noticed at its timeout, 2 s after it began.
		c.setDown(2, false)
		c.setFault(func(m message) action { return action{drop: m.to == 2} })
		c.mustWrite(0, coordinator.Quorum, c.put(c.wide, key(2), "a", 1, "x"))
		time.Sleep(3 * time.Second)
		c.setDown(2, true)
		c.setFault(nil)
		time.Sleep(600*time.Second - 4*time.Second + 500*time.Millisecond) // 599.5 s after it began: still in time
		c.setDown(2, false)
		eventually(t, "settled", func() bool { return hintsOf(c.nodes[0]) == 0 })
		if got := c.has(2, c.wide, key(1)); got != "" {
			t.Errorf("the hint that had grown too old was delivered: %q", got)
		}
		if got := c.has(2, c.wide, key(2)); got != "a=x " && c.nodes[0].coord.Hints().Metrics().Expired.Load() != 2 {
			t.Errorf("the other one: %q", got)
		}
		if c.nodes[0].coord.Hints().Metrics().Expired.Load() == 0 {
			t.Error("not counted")
		}
	})
}

// TestScenario_H5_TheTargetFlapsDuringDelivery: nothing is skipped, nothing counted twice.
func TestScenario_H5_TheTargetFlapsDuringDelivery(t *testing.T) {
	simulated(t, func(t *testing.T) {
		c := three(t)
		c.setDown(2, true)
		const hints = 500
		for i := range hints {
			c.mustWrite(0, coordinator.Quorum, c.put(c.wide, key(i), "a", 1, "x"))
		}
		left := 100
		c.setFault(func(m message) action { // under the cluster's lock
			if m.to != 2 || m.verb != coordinator.VerbMutate {
				return action{}
			}
			if left--; left%100 < 40 {
				return action{drop: true}
			}
			return action{twice: left%7 == 0}
		})
		for range 20 {
			c.setDown(2, false)
			time.Sleep(1500 * time.Millisecond)
			c.setDown(2, true)
			time.Sleep(11 * time.Second)
		}
		c.setFault(nil)
		c.setDown(2, false)
		eventually(t, "delivered", func() bool { return hintsOf(c.nodes[0]) == 0 })
		for i := range hints {
			if got := c.has(2, c.wide, key(i)); got != "a=x " {
				t.Fatalf("partition %d: %q", i, got)
			}
		}
		if m := c.nodes[0].coord.Hints().Metrics(); m.Delivered.Load() != hints || m.Stored.Load() != hints {
			t.Errorf("stored %d, delivered %d", m.Stored.Load(), m.Delivered.Load())
		}
	})
}

// TestScenario_H7_HintsSurviveARestart: also one before anything could be delivered.
func TestScenario_H7_HintsSurviveARestart(t *testing.T) {
	simulated(t, func(t *testing.T) {
		disk := vfs.NewCrashableMem()
		c := newCluster(t, layout{dcs: nodesIn("dc1", 3), fs: func(i int) vfs.FS {
			if i == 0 {
				return disk
			}
			return vfs.NewMem()
		}})
		c.setDown(2, true)
		for i := range 50 {
			c.mustWrite(0, coordinator.Quorum, c.put(c.wide, key(i), "a", 1, "x"))
		}
		time.Sleep(10 * time.Millisecond) // the acknowledgement came from node 1; the batch with the hint is durable now
		crashed := disk.CrashClone(vfs.CrashCloneCfg{})
		c.nodes[0].halt()
		c.nodes[0].fs = crashed
		c.nodes[0].start()
		c.nodes[0].halt()
		c.nodes[0].start()
		c.setDown(2, false)
		eventually(t, "delivered", func() bool { return c.has(2, c.wide, key(49)) != "" && hintsOf(c.nodes[0]) == 0 })
		for i := range 50 {
			if got := c.has(2, c.wide, key(i)); got != "a=x " {
				t.Fatalf("partition %d: %q", i, got)
			}
		}
	})
}

// TestScenario_H9_HintDuringASchemaMismatch: the target learns of the table from the message.
func TestScenario_H9_HintDuringASchemaMismatch(t *testing.T) {
	simulated(t, func(t *testing.T) {
		c := three(t)
		old := c.state
		next := c.ddl(old, func(k *schema.Catalog) (schema.Plan, error) {
			return k.Truncate(schema.Truncate{Keyspace: "ks", Name: "wide"}, schema.Env{})
		})
		table, _ := next.Catalog.Table("ks", "wide")
		c.setDown(2, true)
		c.nodes[0].state.Store(next)
		c.nodes[1].state.Store(next)
		c.mustWrite(0, coordinator.Quorum, c.put(table, key(1), "a", 1, "x"))
		c.setDown(2, false)
		eventually(t, "delivered", func() bool { return hintsOf(c.nodes[0]) == 0 })
		if got := c.has(2, table, key(1)); got != "a=x " {
			t.Errorf("the target has %q", got)
		}
	})
}

// TestHintOfADroppedTableIsGivenUp: it is counted, and does not stop those behind it.
func TestHintOfADroppedTableIsGivenUp(t *testing.T) {
	simulated(t, func(t *testing.T) {
		c := three(t)
		c.setDown(2, true)
		c.mustWrite(0, coordinator.Quorum, c.put(c.wide, key(1), "a", 1, "x"))
		c.mustWrite(0, coordinator.Quorum, c.put(c.plain, key(1), "", 1, "y"))
		// One message with both tables: the other half arrives.
		c.mustWrite(0, coordinator.Quorum, c.put(c.wide, key(2), "a", 1, "x"), c.put(c.plain, key(2), "", 1, "y"))
		next := c.ddl(c.state, func(k *schema.Catalog) (schema.Plan, error) {
			return k.Truncate(schema.Truncate{Keyspace: "ks", Name: "wide"}, schema.Env{})
		})
		for _, n := range c.nodes {
			n.state.Store(next)
		}
		c.setDown(2, false)
		eventually(t, "settled", func() bool { return hintsOf(c.nodes[0]) == 0 })
		if a, b := c.has(2, c.plain, key(1)), c.has(2, c.plain, key(2)); a != "=y " || b != "=y " {
			t.Errorf("got %q and %q", a, b)
		}
		if got := c.nodes[0].coord.Hints().Metrics().Expired.Load(); got != 1 {
			t.Errorf("%d given up", got)
		}
	})
}

// TestScenario_H10_TheBoundOfHints: writes answer by their level, what is not kept is counted exactly.
func TestScenario_H10_TheBoundOfHints(t *testing.T) {
	simulated(t, func(t *testing.T) {
		c := newCluster(t, layout{dcs: nodesIn("dc1", 3), tune: func(o *coordinator.Options) { o.HintsBytesMax = 2000 }})
		c.setDown(2, true)
		for i := range 100 {
			c.mustWrite(0, coordinator.Quorum, c.put(c.wide, key(i), "a", 1, fmt.Sprint(i)))
		}
		m := c.nodes[0].coord.Hints().Metrics()
		count, bytes := c.nodes[0].coord.Hints().Pending()
		if m.Stored.Load()+m.Dropped.Load() != 100 || m.Dropped.Load() == 0 || count != m.Stored.Load() || bytes > 2000 {
			t.Errorf("stored %d, dropped %d, pending %d of %d bytes", m.Stored.Load(), m.Dropped.Load(), count, bytes)
		}
	})
}

// TestFullDiskRefusesOnlyHere: a replica without space refuses, the others carry the level, and a hint heals it.
func TestFullDiskRefusesOnlyHere(t *testing.T) {
	simulated(t, func(t *testing.T) {
		c := three(t)
		c.nodes[2].free.Store(0)
		time.Sleep(time.Second)
		c.mustWrite(0, coordinator.Quorum, c.put(c.wide, key(1), "a", 1, "x"))
		var f *coordinator.WriteFailure
		if err := c.nodes[0].write(coordinator.All, c.put(c.wide, key(1), "b", 1, "x")); !errors.As(err, &f) || f.Received != 2 || len(f.Failures) != 1 || f.Failures[0].Host != hostID(2) {
			t.Errorf("ALL: %v %+v", err, f)
		}
		if err := c.nodes[2].write(coordinator.All, c.put(c.wide, key(1), "c", 1, "x")); !errors.As(err, &f) {
			t.Errorf("ALL from the full one: %v", err)
		}
		c.nodes[2].free.Store(1 << 40)
		eventually(t, "healed", func() bool { return c.has(2, c.wide, key(1)) == "a=x b=x " })
	})
}

// TestHintsLeaveAFullReplicaAlone: what it refuses is offered in bounded numbers, after longer and longer rests, and arrives soon after there is room.
func TestHintsLeaveAFullReplicaAlone(t *testing.T) {
	simulated(t, func(t *testing.T) {
		c := three(t)
		c.setDown(2, true)
		const hints, vainMax = 5000, 4096 + 64 // and those on their way
		for i := range hints {
			c.mustWrite(0, coordinator.Quorum, c.put(c.wide, key(i), "a", 1, "x"))
		}
		c.nodes[2].free.Store(0)
		time.Sleep(time.Second)
		offers := 0
		c.setFault(func(m message) action { // under the cluster's lock
			if m.to == 2 && m.verb == coordinator.VerbMutate {
				offers++
			}
			return action{}
		})
		c.setDown(2, false)
		time.Sleep(90 * time.Second) // rests of 1, 2, 4, 8, 16 and 16 looks, and the turns
		c.setFault(nil)
		if offers == 0 || offers > 9*vainMax {
			t.Errorf("%d offers in 90 s", offers)
		}
		if got := hintsOf(c.nodes[0]); got != hints {
			t.Errorf("%d hints are left", got)
		}
		c.nodes[2].free.Store(1 << 40)
		time.Sleep(20 * time.Second)
		if got := hintsOf(c.nodes[0]); got != 0 {
			t.Errorf("%d hints are left 20 s after there was room", got)
		}
	})
}

// TestStopHintsWhatIsOutstanding: a write was acknowledged at its level, and the node stops before it knows that the third
// replica has missed it: the hint is on its disk when it has stopped, and waiting for that is bounded.
func TestStopHintsWhatIsOutstanding(t *testing.T) {
	simulated(t, func(t *testing.T) {
		c := three(t)
		for round, a := range []action{{drop: true}, {unsent: true}, {delay: 500 * time.Millisecond}} {
			c.setFault(func(m message) action {
				if m.to == 2 {
					return a
				}
				return action{}
			})
			pk := key(round)
			c.mustWrite(0, coordinator.Quorum, c.put(c.wide, pk, "a", 1, "x"))
			began := time.Now()
			c.nodes[0].halt()
			if took := time.Since(began); took > 3*time.Second {
				t.Errorf("%+v: stopping took %v", a, took)
			}
			c.setFault(nil)
			c.nodes[0].start()
			c.nodes[0].connect()
			eventually(t, "delivered", func() bool { return c.has(2, c.wide, pk) == "a=x " })
		}
	})
}
