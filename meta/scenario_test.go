package meta_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/helenusdb/helenus/meta"
	"github.com/helenusdb/helenus/ring"
)

func refusedFor(t *testing.T, what string, s *meta.State, c *meta.Command, want string) {
	t.Helper()
	if _, err := s.Apply(c); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("%s: %v, want %q", what, err, want)
	}
}

// TestScenario_M5_AnAddressHasOneMember: an empty node may not join at the address of a member, whether that is up, down or being replaced, of other nodes or of clients; at that of one that
// has left it may.
func TestScenario_M5_AnAddressHasOneMember(t *testing.T) {
	s := withKeyspace(t, 4)
	at := func(i int) []*meta.Command {
		return []*meta.Command{
			{Kind: meta.AddPending, Node: with(member(9), func(n *meta.Node) { n.Internode = addr(i, 7000) })},
			{Kind: meta.AddPending, Node: with(member(9), func(n *meta.Node) { n.Native = addr(i, 9042) })},
		}
	}
	replacing := must(t, s, replace(5, 2))
	for _, c := range at(2) {
		refusedFor(t, "of a member", s, c, "belongs to member")
		refusedFor(t, "of one that is being replaced", replacing, c, "belongs to member")
		refusedFor(t, "of one that is being replaced, once reads have moved", switched(t, replacing), c, "")
		must(t, finished(t, switched(t, replacing)), c)
	}
	refusedFor(t, "clients' address of the one that replaces", replacing, at(5)[1], "which is joining")
}

// TestScenario_M7_APlaceIsFixed: a replacement stands in the data centre and the rack of the dead node, and no member ever moves to others, also when it starts again.
func TestScenario_M7_APlaceIsFixed(t *testing.T) {
	s := withKeyspace(t, 4)
	for name, move := range map[string]func(*meta.Node){
		"data centre": func(n *meta.Node) { n.DC = "dc2" },
		"rack":        func(n *meta.Node) { n.Rack = "another" },
	} {
		c := replace(5, 2)
		move(&c.Node)
		refusedFor(t, "replace in another "+name, s, c, "same data centre and rack")
		n := with(member(2), func(n *meta.Node) { n.Generation++ })
		move(&n)
		refusedFor(t, "start in another "+name, s, &meta.Command{Kind: meta.UpdateNode, Node: n}, "cannot change")
	}
}

// TestScenario_M21_NobodyWaitsForThoseThatAreGone: a node joins a cluster from which one was removed and another replaced: neither is waited for, in no phase; one that is being replaced at the same time
// is dead, and does not hold up the end.
func TestScenario_M21_NobodyWaitsForThoseThatAreGone(t *testing.T) {
	s := withKeyspace(t, 6)
	s = finished(t, switched(t, must(t, s, start(meta.Remove, 2))))
	s = finished(t, switched(t, must(t, s, replace(7, 3))))
	s = must(t, s, &meta.Command{Kind: meta.AddPending, Node: member(8)}, replace(9, 4))
	gone := []ring.HostID{host(2), host(3), host(4)}
	dead := func(id ring.HostID) bool { return id == host(4) } // of those that have left nobody asks any more
	waited := func(phase string, ids []ring.HostID) {
		t.Helper()
		for _, id := range ids {
			if slices.Contains(gone[:2], id) {
				t.Errorf("%s waits for %s, which has left", phase, id)
			}
		}
	}
	waited("filling", s.Unfilled())
	if slices.Contains(s.Unfilled(), host(4)) {
		t.Error("filling waits for the node that is being replaced")
	}
	s = fill(t, s)
	if c := s.Advance(dead); c == nil || c.Kind != meta.Switch {
		t.Fatalf("after all have filled: %+v", c)
	}
	s = switched(t, s)
	waited("switched", append(s.Unheard(), s.Uncompared()...))
	for _, id := range s.Unheard() {
		if id != host(4) {
			s = must(t, s, &meta.Command{Kind: meta.ReportSwitched, Node: meta.Node{ID: id}, Plan: s.SwitchedAt})
		}
	}
	for _, id := range s.Uncompared() {
		s = must(t, s, &meta.Command{Kind: meta.ReportFilled, Node: meta.Node{ID: id}, Plan: s.SwitchedAt})
	}
	c := s.Advance(dead)
	if c == nil || c.Kind != meta.Finish {
		t.Fatalf("after all that are alive have reported: %+v", c)
	}
	if s = must(t, s, c); s.Phase() != meta.None || s.Node(host(4)).State != meta.Left || !s.Owns(host(8)) || !s.Owns(host(9)) {
		t.Errorf("in the end: %s, %+v", s.Phase(), s.Node(host(4)))
	}
}

// TestScenario_M22_DecommissionKilledHalfWay: the node that leaves dies. While ranges are filled its operation is aborted, and then it is replaced or removed like any dead node; once reads have moved
// the others end the operation without it, and its former self does not come back.
func TestScenario_M22_DecommissionKilledHalfWay(t *testing.T) {
	leaving := must(t, withKeyspace(t, 5), start(meta.Decommission, 2))
	refusedFor(t, "replaced at once", leaving, replace(6, 2), "abort it first")
	refusedFor(t, "removed at once", leaving, start(meta.Remove, 2), "abort it first")
	back := must(t, leaving, &meta.Command{Kind: meta.AbortOperation, Operation: leaving.Operations[0].ID})
	if back.Phase() != meta.None || back.Node(host(2)).State != meta.Normal {
		t.Fatalf("after the abort: %s, %s", back.Phase(), back.Node(host(2)).State)
	}
	for name, c := range map[string]*meta.Command{"replaced": replace(6, 2), "removed": start(meta.Remove, 2)} {
		if s := finished(t, switched(t, must(t, back, c))); s.Node(host(2)).State != meta.Left || s.Phase() != meta.None {
			t.Errorf("%s: %s, %s", name, s.Node(host(2)).State, s.Phase())
		}
	}

	s := switched(t, leaving)
	refusedFor(t, "aborted after the switch", s, &meta.Command{Kind: meta.AbortOperation, Operation: s.Operations[0].ID}, "too late")
	dead := func(id ring.HostID) bool { return id == host(2) }
	for _, id := range s.Unheard() {
		if !dead(id) {
			s = must(t, s, &meta.Command{Kind: meta.ReportSwitched, Node: meta.Node{ID: id}, Plan: s.SwitchedAt})
		}
	}
	for _, id := range s.Uncompared() {
		s = must(t, s, &meta.Command{Kind: meta.ReportFilled, Node: meta.Node{ID: id}, Plan: s.SwitchedAt})
	}
	c := s.Advance(dead)
	if c == nil || c.Kind != meta.Finish {
		t.Fatalf("with the leaving node dead: %+v", c)
	}
	s = must(t, s, c)
	refusedFor(t, "its former self", s, &meta.Command{Kind: meta.UpdateNode, Node: with(member(2), func(n *meta.Node) { n.Generation++ })}, "is no member")
}
