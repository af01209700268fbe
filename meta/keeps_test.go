package meta_test

import (
	"testing"

	"github.com/helenusdb/helenus/meta"
)

// lossesKept is a state after a forced join of the fourth of four nodes, with replicas on three.
func lossesKept(t testing.TB) *meta.State {
	s := must(t, withKeyspace(t, 3), &meta.Command{Kind: meta.AddPending, Force: true, Node: member(4)})
	return finished(t, switched(t, fill(t, s)))
}

func keepers(s *meta.State) (out []int) {
	for i := range s.Nodes {
		if s.Nodes[i].Keeps {
			out = append(out, i+1)
		}
	}
	return out
}

// TestLossesOfForcedMovementsAreKept: the nodes that lose ranges in a movement that was forced keep them until they have been cleaned up, one by one; those of a movement that
// was not forced do not; and what was filled while it was forced counts as forced, although the operation that was is aborted before the end.
func TestLossesOfForcedMovementsAreKept(t *testing.T) {
	plain := finished(t, switched(t, fill(t, must(t, withKeyspace(t, 3), &meta.Command{Kind: meta.AddPending, Node: member(4)}))))
	if k := keepers(plain); len(k) != 0 {
		t.Errorf("%v keep what they lost in a movement that was not forced", k)
	}
	s := lossesKept(t)
	if k := keepers(s); len(k) != 3 {
		t.Fatalf("%v keep what they lost, want all three old replicas", k)
	}
	decoded, err := meta.DecodeState(s.Encode())
	if err != nil || len(keepers(decoded)) != 3 {
		t.Errorf("decoded: %v, %v", keepers(decoded), err)
	}
	clean := must(t, s, &meta.Command{Kind: meta.ReportCleaned, Node: meta.Node{ID: host(2)}})
	if k := keepers(clean); len(k) != 2 || clean.Node(host(2)).Keeps || clean.RingEpoch != s.RingEpoch {
		t.Errorf("after one was cleaned up %v keep it", k)
	}
	again := finished(t, switched(t, fill(t, must(t, clean, start(meta.Decommission, 4)))))
	if k := keepers(again); len(k) != 2 {
		t.Errorf("after another movement %v keep it", k)
	}
	if _, err := must(t, clean, start(meta.Decommission, 4)).Apply(&meta.Command{Kind: meta.ReportCleaned, Node: meta.Node{ID: host(1)}}); err == nil {
		t.Error("one reports while ranges move")
	}

	both := must(t, withKeyspace(t, 4), &meta.Command{Kind: meta.AddPending, Node: member(5)})
	both = must(t, both, &meta.Command{Kind: meta.AddPending, Force: true, Node: member(6)})
	left := must(t, both, &meta.Command{Kind: meta.AbortOperation, Operation: both.OperationOn(host(6)).ID})
	if !left.Forced() {
		t.Error("the movement is not forced any more, although ranges may have been filled while it was")
	}
	if alone := must(t, both, &meta.Command{Kind: meta.AbortOperation, Operation: both.OperationOn(host(5)).ID}); !alone.Forced() {
		t.Error("the abort of the other operation took the force away")
	}
}

// TestLossesAreKeptFromAVersionOn: before every member knows it, commands come to what they came to in older builds.
func TestLossesAreKeptFromAVersionOn(t *testing.T) {
	old := versionOne(t)
	for i := range old.Nodes {
		old = must(t, old, &meta.Command{Kind: meta.UpdateNode, Node: with(*old.Node(old.Nodes[i].ID), func(n *meta.Node) { n.Generation++; n.Version = meta.VersionMovement })})
	}
	old = must(t, old, &meta.Command{Kind: meta.SetVersion, Version: meta.VersionMovement})
	s := must(t, old, &meta.Command{Kind: meta.AddPending, Force: true, Node: with(member(4), func(n *meta.Node) { n.Version = meta.VersionMovement })})
	s = finished(t, switched(t, fill(t, s)))
	if k := keepers(s); len(k) != 0 || s.Encode()[0] != 2 {
		t.Errorf("%v keep what they lost, state of format %d", k, s.Encode()[0])
	}
	if _, err := s.Apply(&meta.Command{Kind: meta.ReportCleaned, Node: meta.Node{ID: host(1)}}); err == nil {
		t.Error("a command of a later version has an effect")
	}
}
