package coordinator_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/helenusdb/helenus/coordinator"
	"github.com/helenusdb/helenus/row"
	"github.com/helenusdb/helenus/rpc"
	"github.com/helenusdb/helenus/schema"
)

// lateVotes tells of votes after a while, as of a disk that is slower than those of the others.
type lateVotes struct{ coordinator.Registers }

func (l lateVotes) NewRegisterBatch() coordinator.RegisterBatch {
	return lateBatch{l.Registers.NewRegisterBatch()}
}

type lateBatch struct{ coordinator.RegisterBatch }

func (l lateBatch) CommitSynced(c coordinator.Committed) { l.RegisterBatch.CommitSynced(lateCommit{c}) }

type lateCommit struct{ c coordinator.Committed }

func (l lateCommit) Committed(err error) {
	time.AfterFunc(5*time.Millisecond, func() { l.c.Committed(err) })
}

// TestContentComesWithAnyMajority: a leader whose own disk is slow has the content from another replica with the promises. It reads nothing
// again, and what does not apply costs one round trip.
func TestContentComesWithAnyMajority(t *testing.T) {
	simulated(t, func(t *testing.T) {
		c := newCluster(t, layout{dcs: nodesIn("dc1", 3), tune: func(o *coordinator.Options) {
			if o.Self == hostID(0) {
				o.Registers = lateVotes{o.Registers}
			}
		}})
		c.mustCAS(0, key(1), "", "x")
		time.Sleep(time.Second)
		c.setFault(func(message) action { return action{} }) // count from here
		if applied, was, err := c.cas(0, key(1), set("", "y")); applied || was != "x" || err != nil {
			t.Error(applied, was, err)
		}
		if a, r := c.sent(coordinator.VerbAccept), c.sent(coordinator.VerbRead); a != 0 || r != 0 {
			t.Errorf("%d accepts, %d reads", a, r)
		}
	})
}

// TestScenario_P3_AJoiningReplicaIsFaster: when a joining replica, which has no content, is among the first majority, the content is
// read from the others.
func TestScenario_P3_AJoiningReplicaIsFaster(t *testing.T) {
	simulated(t, func(t *testing.T) {
		c := newCluster(t, layout{dcs: nodesIn("dc1", 3), joining: 1, keyspace: []schema.Pair{{Key: "class", Value: "SimpleStrategy"}, {Key: "replication_factor", Value: "2"}}})
		pk := c.keyJoining(1)
		var verbs = []rpc.Verb{coordinator.VerbPrepare, coordinator.VerbAccept}
		c.setFault(func(m message) action {
			if m.to != 2 && slices.Contains(verbs, m.verb) { // all but the joining one are slow
				return action{delay: 20 * time.Millisecond}
			}
			return action{}
		})
		c.mustCAS(0, pk, "", "x")
		c.mustCAS(0, pk, "x", "y")
		c.mustSerial(1, pk, "y")
	})
}

// casRow makes a conditional write of any row, unless it has the value already.
func (c *cluster) casRow(n int, pk []byte, ck, value string) (applied bool, err error) {
	cmd := c.pointRead(c.wide, pk)
	cmd.Slices = []row.Slice{{Start: []byte(ck), End: append([]byte(ck), 0xFF), Point: true}}
	op := &coordinator.CAS{Command: cmd, Serial: coordinator.Serial, Commit: coordinator.Quorum}
	op.Decide = func(page *row.Page, ts, _ int64) ([]row.Mutation, bool, error) {
		if bytes.Contains(page.Data, []byte(value)) {
			return nil, false, nil
		}
		return []row.Mutation{c.put(c.wide, pk, ck, ts, value)}, true, nil
	}
	return c.nodes[n].up().CAS(context.Background(), op)
}

// TestLargeReadsOfOneBatch: conditions on rows that are too large together for one message are decided one after another, though they
// were asked for at the same time.
func TestLargeReadsOfOneBatch(t *testing.T) {
	simulated(t, func(t *testing.T) {
		c := five(t)
		pk := key(1)
		in, out := c.replicasOf(pk)
		const rows = 4
		large := strings.Repeat("x", 6<<20)
		for i := range rows {
			c.mustWrite(0, coordinator.All, c.put(c.wide, pk, fmt.Sprintf("r%02d", i), 1, large))
		}
		c.setDown(in[2], true) // both others are needed
		c.setFault(func(m message) action { return action{drop: m.to == in[2]} })
		var wg sync.WaitGroup
		for i := range rows {
			wg.Go(func() {
				if applied, err := c.casRow(out[0], pk, fmt.Sprintf("r%02d", i), fmt.Sprintf("small%02d", i)); err != nil || !applied {
					t.Errorf("row %d: %v, %v", i, applied, err)
				}
			})
		}
		wg.Wait()
	})
}

// TestTwoLargeValues: a large value that was interrupted after another large one leaves the partition usable.
func TestTwoLargeValues(t *testing.T) {
	simulated(t, func(t *testing.T) {
		c := three(t)
		pk := key(1)
		large := func(s string) string { return strings.Repeat(s, 9<<20) }
		if applied, err := c.casRow(0, pk, "a", large("1")); err != nil || !applied {
			t.Fatal(applied, err)
		}
		time.Sleep(3 * time.Second)
		commits := []rpc.Verb{coordinator.VerbCommit, coordinator.VerbMutate}
		c.setFault(lose(commits, 1, 2))
		var late *coordinator.WriteTimeout
		if _, err := c.casRow(0, pk, "b", large("2")); !errors.As(err, &late) {
			t.Errorf("got %v", err)
		}
		c.setDown(0, true)
		c.setFault(func(m message) action { return action{drop: m.to == 0 || m.from == 0} })
		for n := 1; n < 3; n++ {
			if applied, err := c.casRow(n, pk, "b", large("2")); applied || err != nil {
				t.Errorf("node %d: %v, %v", n, applied, err)
			}
		}
	})
}
