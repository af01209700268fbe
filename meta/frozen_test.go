package meta_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/helenusdb/helenus/meta"
	"github.com/helenusdb/helenus/ring"
)

// TestFrozenWhileSwitched: while a movement is being completed nothing changes A: what would is refused, and a proposer is told that it may
// ask again afterwards; what ends the movement, or forces it, is not held up, and neither is anything before the switch.
func TestFrozenWhileSwitched(t *testing.T) {
	filling := must(t, withKeyspace(t, 4), start(meta.Decommission, 4))
	sw := switched(t, filling)
	anew := func(s *meta.State) *meta.Command { return alter(t, s, "ks", network("dc1", 2)) }
	for name, c := range map[string]*meta.Command{
		"decommission": start(meta.Decommission, 2), "removal": start(meta.Remove, 3), "move": moveTo(2, 77), "join": {Kind: meta.AddPending, Node: member(6)},
		"replacement": replace(6, 3), "replication": anew(sw),
	} {
		var refused *meta.Refused
		if _, err := sw.Apply(c); !errors.As(err, &refused) || !strings.Contains(refused.Reason, "being completed") {
			t.Errorf("%s while switched: %v", name, err)
		}
		if !sw.Frozen(c) || filling.Frozen(c) {
			t.Errorf("%s: frozen %t while switched, %t before", name, sw.Frozen(c), filling.Frozen(c))
		}
	}
	force := &meta.Command{Kind: meta.ForceOperation, Operation: sw.Operations[0].ID}
	again := &meta.Command{Kind: meta.StartOperation, OperationKind: meta.Decommission, Node: meta.Node{ID: host(4)}, Force: true}
	schema := &meta.Command{Kind: meta.Schema, BaseEpoch: sw.Epoch, Changes: createKeyspace(t, sw, "other")}
	for _, c := range []*meta.Command{force, again, schema, {Kind: meta.ReportSwitched, Node: meta.Node{ID: host(1)}, Plan: sw.SwitchedAt}, {Kind: meta.UpdateNode, Node: with(member(2), func(n *meta.Node) { n.Generation = 1 << 33 })}} {
		if _, err := sw.Apply(c); err != nil || sw.Frozen(c) {
			t.Errorf("command %d: %v, frozen %t", c.Kind, err, sw.Frozen(c))
		}
	}
	if next := must(t, sw, force); next.RingEpoch != sw.RingEpoch || next.SwitchedAt != sw.SwitchedAt {
		t.Error("forcing begins a new plan")
	}
}

// TestForceOnceSwitched: when a second replica dies after the switch, so that too few old ones can hear of it, an operation of whatever kind can be
// forced, and the movement ends.
func TestForceOnceSwitched(t *testing.T) {
	for name, begin := range map[string]func(s *meta.State) *meta.Command{
		"replace":     func(*meta.State) *meta.Command { return replace(5, 3) },
		"replication": func(s *meta.State) *meta.Command { return alter(t, s, "ks", network("dc1", 1)) },
	} {
		s := withKeyspace(t, 3)
		s = switched(t, must(t, s, begin(s)))
		dead := func(id ring.HostID) bool { return id == host(2) || id == host(3) }
		for _, id := range s.Unheard() {
			if !dead(id) {
				s = must(t, s, &meta.Command{Kind: meta.ReportSwitched, Node: meta.Node{ID: id}, Plan: s.SwitchedAt})
			}
		}
		for _, id := range s.Uncompared() {
			if !dead(id) {
				s = must(t, s, &meta.Command{Kind: meta.ReportFilled, Node: meta.Node{ID: id}, Plan: s.SwitchedAt})
			}
		}
		if c := s.Advance(dead); c != nil {
			t.Errorf("%s: it ends although too few have heard", name)
		}
		s = must(t, s, &meta.Command{Kind: meta.ForceOperation, Operation: s.Operations[0].ID})
		if _, err := s.Apply(&meta.Command{Kind: meta.ForceOperation, Operation: s.Operations[0].ID}); err == nil {
			t.Errorf("%s: forced twice", name)
		}
		c := s.Advance(dead)
		if c == nil || c.Kind != meta.Finish {
			t.Fatalf("%s: forced, %v", name, c)
		}
		if s = must(t, s, c); s.Phase() != meta.None {
			t.Errorf("%s: %s", name, s.Phase())
		}
	}
}
