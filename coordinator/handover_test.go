package coordinator_test

import (
	"bytes"
	"testing"
	"time"

	"github.com/helenusdb/helenus/coordinator"
	"github.com/helenusdb/helenus/coordinator/batchlog"
	"github.com/helenusdb/helenus/meta"
	"github.com/helenusdb/helenus/rpc"
)

// TestMovement_ANodeThatLeavesHandsBatchesOver: a batch of which a dead replica is to have a part, and for which no hint is kept, would stay where it is until gc_grace_seconds
// are over. A node that leaves gives it, under its name, to nodes that stay, also where only one of them is alive; they bring it to the replica when that is back.
func TestMovement_ANodeThatLeavesHandsBatchesOver(t *testing.T) {
	for _, live := range []int{4, 1} {
		simulated(t, func(t *testing.T) {
			c := newCluster(t, layout{dcs: nodesIn("dc1", 6), tune: func(o *coordinator.Options) { o.HintsOff = true }})
			leaving := c.apply(c.state, meta.Command{Kind: meta.StartOperation, OperationKind: meta.Decommission, Node: meta.Node{ID: hostID(1)}})
			var pk []byte
			for i := 0; pk == nil; i++ {
				if k := key(i); c.isReplica(2, k) && c.isReplicaIn(leaving.After("ks"), 2, k) {
					pk = k
				}
			}
			for _, dead := range []int{2, 3, 4, 5}[:5-live] {
				c.setDown(dead, true)
			}
			began := time.Now()
			id := batchlog.NewID(began, hostID(5), 7)
			ms := c.put(c.wide, pk, "a", began.UnixMicro(), "x")
			if status, _, err := c.call(message{from: 0, to: 1, verb: coordinator.VerbBatchStore, body: ms.Append(bytes.Clone(id[:]))}); err != nil || status != rpc.StatusOK {
				t.Fatalf("a batch to keep: %s %v", status, err)
			}
			c.everywhere(leaving)
			c.everywhere(c.switched(leaving))
			if _, err := c.nodes[1].coord.HandOver(t.Context()); err != nil || c.nodes[1].entries() != 1 {
				t.Fatalf("one that its coordinator may be at work on: %d entries, %v", c.nodes[1].entries(), err)
			}
			time.Sleep(time.Minute)
			if n := c.nodes[1].entries(); n != 1 {
				t.Fatalf("%d entries of a batch that cannot be replayed", n)
			}
			if _, err := c.nodes[1].coord.HandOver(t.Context()); err != nil || c.nodes[1].entries() != 0 {
				t.Fatalf("%d entries are left, %v", c.nodes[1].entries(), err)
			}
			time.Sleep(100 * time.Millisecond) // one of them was enough
			kept := 0
			for i, n := range c.nodes {
				_ = engine{n.engine, n}.ScanBatchlog(nil, nil, func(k, _ []byte) bool {
					if !bytes.Equal(k, id[:]) {
						t.Errorf("node %d keeps it as %x instead of %x", i, k, id)
					}
					kept++
					return true
				})
			}
			if want := min(live, 2); kept != want {
				t.Errorf("%d nodes keep it, want %d", kept, want)
			}
			c.nodes[1].halt()
			c.everywhere(c.moved(leaving))
			for _, dead := range []int{2, 3, 4, 5}[:5-live] {
				c.setDownBut(1, dead, false)
			}
			eventually(t, "the dead replica has its part", func() bool { return c.has(2, c.wide, pk) == "a=x " })
			eventually(t, "nobody keeps it", func() bool {
				all := 0
				for i, n := range c.nodes {
					if i != 1 {
						all += n.entries()
					}
				}
				return all == 0
			})
		})
	}
}
