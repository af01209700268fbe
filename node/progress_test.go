package node

import (
	"testing"

	"github.com/helenusdb/helenus/meta"
	"github.com/helenusdb/helenus/ring"
)

// TestOutcome: how an operation stands is read from the state alone, also by a node that has not heard of its beginning.
func TestOutcome(t *testing.T) {
	s := meta.Empty()
	apply := func(c *meta.Command) { t.Helper(); s = applied(t, s, c) }
	member := func(i byte) meta.Node {
		return meta.Node{ID: ring.HostID{i}, Generation: 1, Internode: addrOf(i, 7000), Native: addrOf(i, 9042), DC: "dc1", Rack: "r1", Tokens: []ring.Token{ring.Token(i) << 40}, Version: meta.Version}
	}
	begun := func(id byte) OperationStatus {
		t.Helper()
		o := s.OperationOn(ring.HostID{id})
		if o == nil {
			t.Fatalf("nothing is under way on %d", id)
		}
		return operationStatus(s, o)
	}
	check := func(what string, o OperationStatus, want string) {
		t.Helper()
		if got := outcome(s, &o); got != want {
			t.Errorf("%s: %s, want %s", what, got, want)
		}
	}
	finish := func() {
		t.Helper()
		for _, id := range s.Unfilled() {
			apply(&meta.Command{Kind: meta.ReportFilled, Node: meta.Node{ID: id}, Plan: s.Plan})
		}
		apply(&meta.Command{Kind: meta.Switch, Plan: s.Plan})
		apply(&meta.Command{Kind: meta.Finish, Plan: s.SwitchedAt})
	}
	apply(&meta.Command{Kind: meta.Found, Node: member(1), ClusterID: [16]byte{1}, ClusterName: "c", Partitioner: ring.Murmur3{}.Name()})
	young := s
	apply(&meta.Command{Kind: meta.AddPending, Node: member(2)})
	join := begun(2)
	check("a join", join, OutcomeUnderWay)
	if got := outcome(young, &join); got != OutcomeUnderWay {
		t.Errorf("who has not heard of it says %s", got)
	}
	finish()
	check("a join that is over", join, OutcomeDone)

	apply(&meta.Command{Kind: meta.AddPending, Node: member(3)})
	join = begun(3)
	apply(&meta.Command{Kind: meta.AbortOperation, Operation: join.ID})
	check("a join that was aborted", join, OutcomeAborted)

	move := &meta.Command{Kind: meta.StartOperation, OperationKind: meta.Move, Node: meta.Node{ID: ring.HostID{2}, Next: []ring.Token{77}}}
	apply(move)
	moving := begun(2)
	apply(&meta.Command{Kind: meta.AbortOperation, Operation: moving.ID})
	check("a move that was aborted", moving, OutcomeAborted)
	apply(move)
	moving = begun(2)
	finish()
	check("a move", moving, OutcomeDone)

	for _, abort := range []bool{true, false} {
		apply(&meta.Command{Kind: meta.StartOperation, OperationKind: meta.Decommission, Node: meta.Node{ID: ring.HostID{2}}})
		leaving := begun(2)
		check("a decommission", leaving, OutcomeUnderWay)
		if abort {
			apply(&meta.Command{Kind: meta.AbortOperation, Operation: leaving.ID})
			check("a decommission that was aborted", leaving, OutcomeAborted)
			continue
		}
		finish()
		check("a decommission that is over", leaving, OutcomeDone)
	}
	check("a keyspace that was dropped", OperationStatus{ID: 1, Kind: meta.Replication.String(), Keyspace: "gone"}, OutcomeDone)
	ks, _ := s.Catalog.Keyspace("system_auth")
	check("a keyspace as before", OperationStatus{ID: 1, Kind: meta.Replication.String(), Keyspace: ks.Name, Held: ks.Strategy.String()}, OutcomeAborted)
	check("a keyspace that is not as before", OperationStatus{ID: 1, Kind: meta.Replication.String(), Keyspace: ks.Name, Held: "another"}, OutcomeDone)
}
