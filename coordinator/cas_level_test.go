package coordinator_test

import (
	"bytes"
	"testing"
	"time"

	"github.com/helenusdb/helenus/coordinator"
	"github.com/helenusdb/helenus/schema"
)

// TestCommitLevelIsThatOfItsOwnRows: a conditional write at ALL is overtaken; another coordinator finishes it, its commit does not reach one of the replicas, and a
// decision that follows reaches all. That one tells the first coordinator that its write is applied; it has to see the rows at ALL before it says so.
func TestCommitLevelIsThatOfItsOwnRows(t *testing.T) {
	simulated(t, func(t *testing.T) {
		c := newCluster(t, layout{dcs: nodesIn("dc1", 5)})
		pk := key(1)
		in, out := c.replicasOf(pk)
		first, second, lacks := out[0], out[1], in[2]
		finished := 0 // commits of it that the second has sent
		c.setFault(func(m message) action {
			switch {
			case m.from == first && m.verb == coordinator.VerbAccept && m.to != in[0]: // comes when more was promised
				return action{delay: 100 * time.Millisecond}
			case m.from == second && m.verb == coordinator.VerbPrepare && m.to == lacks: // not among those that the next decision waits for
				return action{delay: 20 * time.Millisecond}
			case m.from == second && m.verb == coordinator.VerbCommit && bytes.Contains(m.body, []byte("mine")):
				finished++
				return action{drop: m.to == lacks}
			}
			return action{}
		})
		type result struct {
			applied bool
			err     error
		}
		done := make(chan result, 1)
		go func() {
			applied, _, err := c.cas(first, pk, set("", "mine"), func(op *coordinator.CAS) { op.Commit = coordinator.All })
			done <- result{applied, err}
		}()
		time.Sleep(10 * time.Millisecond)
		c.mustSerial(second, pk, "mine")
		if got := c.has(lacks, c.wide, pk); got != "" || finished == 0 {
			t.Fatalf("one replica should lack it: it has %q, %d commits", got, finished)
		}
		if r := <-done; !r.applied || r.err != nil {
			t.Fatal(r.applied, r.err)
		}
		for _, n := range in {
			if got := c.has(n, c.wide, pk); got != "a=mine " {
				t.Errorf("acknowledged at ALL, and node %d has %q", n, got)
			}
		}
		if n := c.nodes[first].coord.Metrics().CASContention.Load(); n == 0 {
			t.Error("it was not overtaken")
		}
	})
}

// TestHintsOfOldCommits: what was decided long ago and is committed only now is left out by replicas when a deletion over it may be gone; no hint brings it
// back. A hint that is kept is as old as what it carries.
func TestHintsOfOldCommits(t *testing.T) {
	for _, x := range []struct {
		name       string
		age, later time.Duration // when it is finished, and how long after that the hint is delivered
		applied    bool          // by those that are up
		hinted     bool
		delivered  bool
	}{
		{"young", time.Hour, time.Hour, true, true, true},
		{"old when it is finished", 5 * time.Hour, 0, false, false, false},
		{"old when it is delivered", 3 * time.Hour, 2 * time.Hour, true, true, false},
	} {
		t.Run(x.name, func(t *testing.T) {
			simulated(t, func(t *testing.T) {
				c := newCluster(t, layout{dcs: nodesIn("dc1", 5), options: []schema.Property{{Name: "gc_grace_seconds", Value: "14400"}},
					tune: func(o *coordinator.Options) { o.PaxosSweep, o.HintWindow = 1000*time.Hour, 1000*time.Hour }})
				skew := func(d time.Duration) {
					for _, n := range c.nodes {
						n.skew.Add(int64(d))
					}
				}
				pk := key(1)
				in, out := c.replicasOf(pk)
				first, second, lacks := out[0], in[0], in[2]
				c.setFault(func(m message) action {
					return action{drop: m.verb == coordinator.VerbCommit || m.verb == coordinator.VerbAccept && m.to == lacks}
				})
				if applied, _, err := c.cas(first, pk, set("", "old"), func(op *coordinator.CAS) { op.Commit = coordinator.Any }); !applied || err != nil {
					t.Fatal(applied, err)
				}
				c.setDown(first, true) // it keeps its hints to itself
				skew(x.age)
				c.setFault(func(m message) action { // one replica learns nothing for a while
					return action{drop: m.to == lacks && (m.verb == coordinator.VerbCommit || m.verb == coordinator.VerbMutate)}
				})
				if _, err := c.serial(second, pk, coordinator.Serial); err != nil {
					t.Fatal(err)
				}
				time.Sleep(10 * time.Second)
				if got := c.has(second, c.wide, pk) != ""; got != x.applied {
					t.Errorf("written by the one that finished it: %v", got)
				}
				hints := func() int64 { return c.nodes[second].coord.Hints().PendingFor(hostID(lacks)) }
				if got := hints() > 0; got != x.hinted {
					t.Errorf("a hint is kept: %v", got)
				}
				skew(x.later)
				c.setFault(nil)
				eventually(t, "no hint is left", func() bool { return hints() == 0 })
				time.Sleep(time.Second)
				if got := c.has(lacks, c.wide, pk) != ""; got != x.delivered {
					t.Errorf("delivered: %v", got)
				}
			})
		})
	}
}
