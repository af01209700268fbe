package coordinator_test

import (
	"bytes"
	"testing"
	"time"

	"github.com/helenusdb/helenus/coordinator"
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
