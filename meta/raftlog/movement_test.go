package raftlog

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/helenusdb/helenus/meta"
	"github.com/helenusdb/helenus/ring"
)

func joiner(i int) meta.Node {
	return meta.Node{ID: hostID(i), Generation: 1, Internode: addrOf(i, 7000), Native: addrOf(i, 9042), DC: "dc1", Rack: "r", Tokens: []ring.Token{ring.Token(i)}, Version: meta.Version}
}

// report proposes, for whoever has not reported, what it would, until nobody is left.
func (c *cluster) report(kind meta.CommandKind) {
	c.t.Helper()
	ctx, cancel := within(time.Minute)
	defer cancel()
	for open := true; open; {
		_, err := c.nodes[0].svc.Propose(ctx, func(s *meta.State) (*meta.Command, bool, error) {
			ids, plan, kind := s.Unfilled(), s.Plan, kind
			if kind == meta.ReportSwitched {
				ids, plan = s.Unheard(), s.SwitchedAt
				if len(ids) == 0 {
					ids, kind = s.Uncompared(), meta.ReportFilled
				}
			}
			if open = len(ids) > 0; !open {
				return nil, false, nil
			}
			return &meta.Command{Kind: kind, Node: meta.Node{ID: ids[0]}, Plan: plan}, true, nil
		})
		if err != nil {
			c.t.Fatal(err)
		}
	}
}

// TestProposeWaitsForTheEndOfAMovement: while reads have moved nothing may change the replicas; a proposer waits until the movement has ended, and
// one whose time is up before is told why.
func TestProposeWaitsForTheEndOfAMovement(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := formed(t, 1, 3, nil)
		ctx, cancel := within(5 * time.Minute)
		defer cancel()
		add := func(n meta.Node) (*meta.State, error) {
			return c.nodes[1].svc.Propose(ctx, func(*meta.State) (*meta.Command, bool, error) {
				return &meta.Command{Kind: meta.AddPending, Node: n}, true, nil
			})
		}
		if _, err := add(joiner(6)); err != nil {
			t.Fatal(err)
		}
		c.report(meta.ReportFilled)
		c.eventually(20*time.Second, "reads move", func() bool { return c.settled().Phase() == meta.Switched })
		short, stop := within(5 * time.Second)
		defer stop()
		var refused *meta.Refused
		_, err := c.nodes[1].svc.Propose(short, func(*meta.State) (*meta.Command, bool, error) {
			return &meta.Command{Kind: meta.StartOperation, OperationKind: meta.Decommission, Node: meta.Node{ID: hostID(2)}}, true, nil
		})
		if !errors.As(err, &refused) || !strings.Contains(refused.Reason, "being completed") {
			t.Errorf("in 5 s: %v", err)
		}
		done := make(chan error, 1)
		go func() {
			s, err := add(joiner(7))
			if err == nil && (s.OperationOn(hostID(7)) == nil || s.Node(hostID(6)).State != meta.Normal) {
				err = errors.New("it began before the end")
			}
			done <- err
		}()
		time.Sleep(10 * time.Second)
		select {
		case err := <-done:
			t.Fatalf("it did not wait: %v", err)
		default:
		}
		c.report(meta.ReportSwitched)
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// TestADeadJoinerIsAborted: the operation of a node that is down for long while it is sent its rows is aborted by the leader; those of others, and of
// one that was only away for a while, go on.
func TestADeadJoinerIsAborted(t *testing.T) {
	dead := map[ring.HostID]bool{}
	absent := map[uint64]int{}
	s := joinedState(t, 3)
	apply := func(c *meta.Command) { t.Helper(); s = applied(t, s, c) }
	apply(&meta.Command{Kind: meta.AddPending, Node: joiner(6)})
	apply(&meta.Command{Kind: meta.AddPending, Node: joiner(7)})
	apply(&meta.Command{Kind: meta.StartOperation, OperationKind: meta.Decommission, Node: meta.Node{ID: hostID(1)}})
	tick := func(n int) *meta.Operation {
		for range n {
			miss(absent, s, func(id ring.HostID) bool { return dead[id] })
		}
		return abandoned(absent, s, 10)
	}
	dead[hostID(6)], dead[hostID(1)] = true, true
	if o := tick(10); o != nil {
		t.Errorf("too early: %s", o)
	}
	dead[hostID(6)] = false
	tick(1)
	dead[hostID(6)] = true
	if o := tick(10); o != nil {
		t.Errorf("although it was back: %s", o)
	}
	if o := tick(1); o == nil || o.Node != hostID(6) {
		t.Fatalf("after its time: %v", o)
	}
	apply(&meta.Command{Kind: meta.AbortOperation, Operation: abandoned(absent, s, 10).ID})
	if o := tick(20); o != nil || len(absent) != 0 {
		t.Errorf("afterwards: %v, %v", o, absent)
	}
}

// joinedState is a state of n members.
func joinedState(t *testing.T, n int) *meta.State {
	t.Helper()
	s, err := meta.Empty().Apply(&meta.Command{Kind: meta.Found, Node: joiner(0), ClusterID: clusterID, ClusterName: "test", Partitioner: ring.Murmur3{}.Name()})
	for i := 1; i < n && err == nil; i++ {
		m := joiner(i)
		m.Quiet = true
		if s, err = s.Apply(&meta.Command{Kind: meta.AddPending, Node: m}); err == nil {
			s, err = s.Apply(&meta.Command{Kind: meta.CommitJoin, Node: *s.Node(m.ID)})
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// applied returns what a command makes of a state.
func applied(t *testing.T, s *meta.State, c *meta.Command) *meta.State {
	t.Helper()
	next, err := s.Apply(c)
	if err != nil {
		t.Fatal(err)
	}
	return next
}
