package meta_test

import (
	"encoding/hex"
	"errors"
	"fmt"
	"math/bits"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/helenusdb/helenus/meta"
	"github.com/helenusdb/helenus/ring"
)

// withKeyspace returns a cluster of hosts 1 to n in three racks with keyspace ks.
func withKeyspace(t testing.TB, n int) *meta.State {
	s := joined(t, n)
	return must(t, s, &meta.Command{Kind: meta.Schema, BaseSchema: s.Catalog.Version, Changes: createKeyspace(t, s, "ks")})
}

func start(kind meta.OperationKind, i int) *meta.Command {
	return &meta.Command{Kind: meta.StartOperation, OperationKind: kind, Node: meta.Node{ID: host(i)}}
}

func moveTo(i int, tokens ...ring.Token) *meta.Command {
	return &meta.Command{Kind: meta.StartOperation, OperationKind: meta.Move, Node: meta.Node{ID: host(i), Next: tokens}}
}

func replace(i, dead int) *meta.Command {
	return &meta.Command{Kind: meta.AddPending, Node: with(member(i), func(n *meta.Node) {
		n.Replaces, n.Rack, n.Tokens = host(dead), member(dead).Rack, nil
	})}
}

// fill reports the plan for all that have to.
func fill(t testing.TB, s *meta.State) *meta.State {
	for _, id := range s.Unfilled() {
		s = must(t, s, &meta.Command{Kind: meta.ReportFilled, Node: meta.Node{ID: id}, Plan: s.Plan})
	}
	return s
}

func switched(t testing.TB, s *meta.State) *meta.State {
	return must(t, fill(t, s), &meta.Command{Kind: meta.Switch, Plan: s.Plan})
}

func finished(t testing.TB, s *meta.State) *meta.State {
	for _, id := range s.Unheard() {
		s = must(t, s, &meta.Command{Kind: meta.ReportSwitched, Node: meta.Node{ID: id}, Plan: s.SwitchedAt})
	}
	return must(t, s, &meta.Command{Kind: meta.Finish, Plan: s.SwitchedAt})
}

func owners(r *ring.Ring) (out []int) {
	if r == nil {
		return nil
	}
	for _, n := range r.Nodes() {
		out = append(out, int(n.ID[0]))
	}
	return out
}

// TestOperations: what each operation says of who is read and who is written, in each phase, and what it leaves.
func TestOperations(t *testing.T) {
	cases := []struct {
		name          string
		c             *meta.Command
		before, after []int // rings of B and of A
		about         int   // the node that changes
		state         meta.NodeState
		left          meta.NodeState // of the node after the movement
	}{
		{"join", &meta.Command{Kind: meta.AddPending, Node: member(5)}, []int{1, 2, 3, 4}, []int{1, 2, 3, 4, 5}, 5, meta.Pending, meta.Normal},
		{"replace", replace(5, 2), []int{1, 2, 3, 4}, []int{1, 3, 4, 5}, 5, meta.Pending, meta.Normal},
		{"decommission", start(meta.Decommission, 2), []int{1, 2, 3, 4}, []int{1, 3, 4}, 2, meta.Leaving, meta.Left},
		{"remove", start(meta.Remove, 2), []int{1, 2, 3, 4}, []int{1, 3, 4}, 2, meta.Leaving, meta.Left},
		{"move", moveTo(2, 99, -99), []int{1, 2, 3, 4}, []int{1, 2, 3, 4}, 2, meta.Normal, meta.Normal},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			s := withKeyspace(t, 4)
			before := s.Placement("ks")
			filling := must(t, s, c.c)
			if filling.Phase() != meta.Filling || filling.Plan != filling.Epoch || filling.RingEpoch != filling.Epoch || filling.Operations[0].ID != filling.Epoch {
				t.Errorf("phase %s plan %d ring epoch %d of epoch %d", filling.Phase(), filling.Plan, filling.RingEpoch, filling.Epoch)
			}
			if got := owners(filling.Ring); !slices.Equal(got, c.before) || !slices.Equal(owners(filling.Other), c.after) {
				t.Errorf("filling: read %v, other %v", got, owners(filling.Other))
			}
			if n := filling.Node(host(c.about)); n.State != c.state {
				t.Errorf("it is %s", n.State)
			}
			if filling.Placement("ks") != before {
				t.Error("the placement that is read was computed again")
			}
			after := filling.OtherPlacement("ks")
			sw := switched(t, filling)
			if got := owners(sw.Ring); !slices.Equal(got, c.after) || !slices.Equal(owners(sw.Other), c.before) || sw.RingEpoch != sw.Epoch || sw.SwitchedAt != sw.Epoch {
				t.Errorf("switched: read %v, other %v, ring epoch %d of %d", got, owners(sw.Other), sw.RingEpoch, sw.Epoch)
			}
			if sw.Placement("ks") != after || sw.OtherPlacement("ks") != before {
				t.Error("placements were computed again by the switch")
			}
			done := finished(t, sw)
			if got := owners(done.Ring); !slices.Equal(got, c.after) || done.Other != nil || done.OtherPlacement("ks") != nil || done.Phase() != meta.None || done.RingEpoch != done.Epoch {
				t.Errorf("done: read %v, other %v", got, owners(done.Other))
			}
			if n := done.Node(host(c.about)); n.State != c.left || len(n.Next) > 0 || !n.Replaces.IsZero() || n.Filled != 0 || n.Switched != 0 {
				t.Errorf("it is %+v", n)
			}
			if done.Placement("ks") != after {
				t.Error("the placement was computed again by the end")
			}
			if c.name == "replace" && (done.Node(host(2)).State != meta.Left || !slices.Equal(done.Node(host(5)).Tokens, s.Node(host(2)).Tokens)) {
				t.Errorf("the replaced node is %+v", done.Node(host(2)))
			}
			if c.name == "move" && !slices.Equal(done.Node(host(2)).Tokens, []ring.Token{-99, 99}) {
				t.Errorf("tokens %v", done.Node(host(2)).Tokens)
			}
			undone := must(t, filling, &meta.Command{Kind: meta.AbortOperation, Operation: filling.Operations[0].ID})
			if undone.Phase() != meta.None || undone.Other != nil || undone.Plan != 0 || undone.Placement("ks") != before || undone.RingEpoch != undone.Epoch {
				t.Errorf("aborted: %s, other %v, plan %d", undone.Phase(), owners(undone.Other), undone.Plan)
			}
			if n := undone.Node(host(c.about)); c.state == meta.Pending && n.State != meta.Left || c.state != meta.Pending && n.State != meta.Normal {
				t.Errorf("aborted: it is %s", n.State)
			}
		})
	}
}

// TestReplication: ALTER KEYSPACE shows in the catalog at once and is read by once its new replicas have the rows.
func TestReplication(t *testing.T) {
	s := withKeyspace(t, 5)
	held := s.Placement("ks")
	c := alter(t, s, "ks", network("dc1", 2))
	at := *c
	at.Moves = false
	if now := must(t, s, &at); now.Phase() != meta.None || now.Placement("ks").Strategy().Factor() != 2 || now.RingEpoch != now.Epoch {
		t.Error("an entry without movement moves")
	}
	f := must(t, s, c)
	ks, _ := f.Catalog.Keyspace("ks")
	if ks.Strategy.Factor() != 2 || f.Placement("ks") != held || f.OtherPlacement("ks").Strategy().Factor() != 2 || f.Phase() != meta.Filling {
		t.Errorf("catalog %v, read %v, other %v", ks.Strategy, f.Placement("ks").Strategy(), f.OtherPlacement("ks").Strategy())
	}
	if f.OtherPlacement("system_auth") != nil {
		t.Error("a keyspace that does not move has a second placement")
	}
	if again := must(t, f, alter(t, f, "ks", network("dc1", 4))); len(again.Operations) != 1 || again.Plan != again.Epoch || !again.Operations[0].Held.Equal(held.Strategy()) {
		t.Errorf("altered again: %+v plan %d", again.Operations, again.Plan)
	}
	if back := must(t, f, alter(t, f, "ks", held.Strategy())); back.Phase() != meta.None || back.Placement("ks") != held {
		t.Error("altered back: it still moves")
	}
	undone := must(t, f, &meta.Command{Kind: meta.AbortOperation, Operation: f.Operations[0].ID})
	if ks, _ := undone.Catalog.Keyspace("ks"); !ks.Strategy.Equal(held.Strategy()) || undone.Placement("ks") != held || undone.Catalog.Version != s.Catalog.Version {
		t.Errorf("aborted: %v", ks.Strategy)
	}
	sw := switched(t, f)
	if _, err := sw.Apply(alter(t, sw, "ks", network("dc1", 1))); err == nil || !strings.Contains(err.Error(), "being completed") {
		t.Errorf("altered while switched: %v", err)
	}
	if sw.Placement("ks").Strategy().Factor() != 2 || sw.OtherPlacement("ks") != held {
		t.Error("switched: it is not read by the new strategy")
	}
	if done := finished(t, sw); done.Placement("ks").Strategy().Factor() != 2 || done.OtherPlacement("ks") != nil {
		t.Error("done: it still moves")
	}
}

// TestReplicationThatPlacesNothingElse is no movement: as many replicas as there are nodes, and more.
func TestReplicationThatPlacesNothingElse(t *testing.T) {
	s := withKeyspace(t, 2)
	s = must(t, s, alter(t, s, "ks", network("dc1", 2)))
	if s = must(t, s, alter(t, s, "ks", network("dc1", 3))); s.Phase() != meta.None || s.Placement("ks").Strategy().Factor() != 3 {
		t.Errorf("operations %v", s.Operations)
	}
}

// TestOperationsShareOneMovement: one that starts changes the plan, what was reported of the old one does not count, and all end
// together.
func TestOperationsShareOneMovement(t *testing.T) {
	s := must(t, withKeyspace(t, 5), &meta.Command{Kind: meta.AddPending, Node: member(6)})
	first := s.Plan
	s = must(t, fill(t, s), &meta.Command{Kind: meta.AddPending, Node: member(7)}, start(meta.Decommission, 2))
	if s.PriorPlan == 0 || s.PriorPlan == first {
		t.Errorf("prior plan %d: two plans followed %d", s.PriorPlan, first)
	}
	if s.Plan == first || len(s.Unfilled()) == 0 || !slices.Contains(s.Unfilled(), host(6)) {
		t.Errorf("plan %d after %d, unfilled %v", s.Plan, first, s.Unfilled())
	}
	if _, err := s.Apply(&meta.Command{Kind: meta.Switch, Plan: first}); !errors.Is(err, meta.ErrConflict) {
		t.Errorf("a switch for an old plan: %v", err)
	}
	if _, err := s.Apply(&meta.Command{Kind: meta.Switch, Plan: s.Plan}); err == nil || !strings.Contains(err.Error(), "has not reported") {
		t.Errorf("a switch before the reports: %v", err)
	}
	s = must(t, s, &meta.Command{Kind: meta.AbortOperation, Operation: s.OperationOn(host(7)).ID})
	dead := func(which ...int) func(ring.HostID) bool {
		return func(id ring.HostID) bool { return slices.Contains(which, int(id[0])) }
	}
	if s.Advance(dead()) != nil {
		t.Error("it goes on before the reports")
	}
	s = fill(t, s)
	s = must(t, s, s.Advance(dead()))
	for _, i := range []int{1, 3, 4, 6} {
		s = must(t, s, &meta.Command{Kind: meta.ReportSwitched, Node: meta.Node{ID: host(i)}, Plan: s.SwitchedAt})
	}
	if s.Phase() != meta.Switched || s.Advance(dead()) != nil || s.Advance(dead(2)) != nil {
		t.Error("it ends before every live member has heard")
	}
	if s.Advance(dead(2, 5)) != nil {
		t.Error("it ends while two of three old replicas may not have heard")
	}
	s = must(t, s, &meta.Command{Kind: meta.ReportSwitched, Node: meta.Node{ID: host(5)}, Plan: s.SwitchedAt})
	if s.Advance(dead(2)) != nil {
		t.Error("it ends before those who filled ranges have compared them once more")
	}
	for _, id := range s.Uncompared() {
		s = must(t, s, &meta.Command{Kind: meta.ReportFilled, Node: meta.Node{ID: id}, Plan: s.SwitchedAt})
	}
	done := must(t, s, s.Advance(dead(2)))
	if got := owners(done.Ring); !slices.Equal(got, []int{1, 3, 4, 5, 6}) {
		t.Errorf("in the end %v own ranges", got)
	}
}

// TestOperationRefusals: what cannot begin, be aborted, switched or finished says why.
func TestOperationRefusals(t *testing.T) {
	s := withKeyspace(t, 4)
	joining := must(t, s, &meta.Command{Kind: meta.AddPending, Node: member(5)})
	leaving := must(t, s, start(meta.Decommission, 2))
	replacing := must(t, s, replace(5, 2))
	quiet := must(t, s, &meta.Command{Kind: meta.AddPending, Node: with(member(5), func(n *meta.Node) { n.Quiet = true })})
	sw := switched(t, leaving)
	id := joining.Operations[0].ID
	cases := []struct {
		name string
		in   *meta.State
		c    *meta.Command
		want string
	}{
		{"decommission of nobody", s, start(meta.Decommission, 9), "is no member"},
		{"decommission of a joining node", joining, start(meta.Decommission, 5), fmt.Sprintf("operation %d (join of %s)", id, host(5))},
		{"twice", leaving, start(meta.Remove, 2), "decommission of"},
		{"of the replaced", replacing, start(meta.Move, 2), "replace of"},
		{"of the replacing", replacing, start(meta.Move, 5), "replace of"},
		{"two replace one", replacing, replace(6, 2), "replace of"},
		{"replace one that leaves", leaving, replace(6, 2), "decommission of"},
		{"replace nobody", s, replace(6, 9), "is no member"},
		{"replace in another rack", s, &meta.Command{Kind: meta.AddPending, Node: with(member(6), func(n *meta.Node) { n.Replaces = host(2) })}, "same data centre and rack"},
		{"too few would be left", must(t, leaving), start(meta.Decommission, 3), "has 3 replicas, and 2 nodes would be left"},
		{"move nowhere", s, moveTo(2), "1 to 256 tokens"},
		{"move to its own", s, moveTo(2, s.Node(host(2)).Tokens...), "has those tokens"},
		{"move to another's", s, moveTo(2, s.Node(host(3)).Tokens...), "token is owned twice"},
		{"join as a plain operation", s, start(meta.Join, 2), "does not begin like this"},
		{"beside a join without rows", quiet, start(meta.Decommission, 2), "joining while there are no rows"},
		{"join without rows beside", leaving, &meta.Command{Kind: meta.AddPending, Node: with(member(5), func(n *meta.Node) { n.Quiet = true })}, "only while nothing moves"},
		{"replace without rows", s, &meta.Command{Kind: meta.AddPending, Node: with(member(5), func(n *meta.Node) { n.Quiet, n.Replaces = true, host(2) })}, "without moving its rows"},
		{"commit of a movement", joining, &meta.Command{Kind: meta.CommitJoin, Node: *joining.Node(host(5))}, "ends by itself"},
		{"removal under an operation", joining, &meta.Command{Kind: meta.RemoveNode, Node: meta.Node{ID: host(5)}}, "abort it"},
		{"removal beside an operation", joining, &meta.Command{Kind: meta.RemoveNode, Node: meta.Node{ID: host(3)}}, "is under way"},
		{"abort of nothing", joining, &meta.Command{Kind: meta.AbortOperation, Operation: 77}, "is not under way"},
		{"abort too late", sw, &meta.Command{Kind: meta.AbortOperation, Operation: sw.Operations[0].ID}, "too late"},
		{"start while switched", sw, start(meta.Decommission, 3), "being completed"},
		{"join while switched", sw, &meta.Command{Kind: meta.AddPending, Node: member(5)}, "being completed"},
		{"finish before anybody has heard", sw, &meta.Command{Kind: meta.Finish, Plan: sw.SwitchedAt}, "too few of the replicas"},
		{"report of a stranger", joining, &meta.Command{Kind: meta.ReportFilled, Node: meta.Node{ID: host(9)}, Plan: joining.Plan}, "is no member"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			var refused *meta.Refused
			if next, err := c.in.Apply(c.c); next != nil || !errors.As(err, &refused) || !strings.Contains(refused.Reason, c.want) {
				t.Errorf("got %v, want a refusal with %q", err, c.want)
			}
		})
	}
	for name, c := range map[string]*meta.Command{
		"report of another plan":   {Kind: meta.ReportFilled, Node: meta.Node{ID: host(5)}, Plan: joining.Plan - 1},
		"switch of another plan":   {Kind: meta.Switch, Plan: joining.Plan - 1},
		"finish before the switch": {Kind: meta.Finish, Plan: joining.Plan},
		"report before the switch": {Kind: meta.ReportSwitched, Node: meta.Node{ID: host(1)}, Plan: joining.Plan},
	} {
		if _, err := joining.Apply(c); !errors.Is(err, meta.ErrConflict) {
			t.Errorf("%s: %v", name, err)
		}
	}
	forced := must(t, leaving, &meta.Command{Kind: meta.StartOperation, OperationKind: meta.Decommission, Node: meta.Node{ID: host(3)}, Force: true})
	if !forced.Forced() || leaving.Forced() {
		t.Error("forced")
	}
	if again := must(t, leaving, &meta.Command{Kind: meta.StartOperation, OperationKind: meta.Decommission, Node: meta.Node{ID: host(2)}, Force: true}); !again.Forced() || again.Plan != leaving.Plan || again.RingEpoch != leaving.RingEpoch {
		t.Error("forcing an operation later changes its plan")
	}
}

// TestFinishNeedsEnoughOldReplicas: of three replicas two have to have heard, or the others could be a quorum for somebody who has
// not.
func TestFinishNeedsEnoughOldReplicas(t *testing.T) {
	s := switched(t, must(t, withKeyspace(t, 3), replace(5, 3)))
	finish := func(s *meta.State, heard ...int) error {
		for _, i := range heard {
			s = must(t, s, &meta.Command{Kind: meta.ReportSwitched, Node: meta.Node{ID: host(i)}, Plan: s.SwitchedAt})
		}
		_, err := s.Apply(&meta.Command{Kind: meta.Finish, Plan: s.SwitchedAt})
		return err
	}
	if finish(s, 1, 5) == nil || finish(s, 1, 2) != nil || finish(s, 2, 3) != nil {
		t.Error(finish(s, 1, 5), finish(s, 1, 2), finish(s, 2, 3))
	}
	for b := 1; b <= 9; b++ { // Sources meets every write quorum, and one replica fewer does not
		if q := b/2 + 1; meta.Sources(b)+q <= b || meta.Sources(b)-1+q > b {
			t.Errorf("%d of %d", meta.Sources(b), b)
		}
	}
}

// TestJoinSurvivesRestarts: a joining node that starts again, elsewhere too, goes on with its operation, tokens and reports; one that
// was wiped begins again.
func TestJoinSurvivesRestarts(t *testing.T) {
	s := fill(t, must(t, withKeyspace(t, 3), &meta.Command{Kind: meta.AddPending, Node: member(5)}))
	again := must(t, s, &meta.Command{Kind: meta.AddPending, Node: with(member(5), func(n *meta.Node) {
		n.Generation, n.Internode, n.Tokens = 101, addr(9, 7000), []ring.Token{7777}
	})})
	n, old := again.Node(host(5)), s.Node(host(5))
	if !slices.Equal(n.Tokens, old.Tokens) || n.Filled != old.Filled || n.Since != old.Since || n.Internode != addr(9, 7000) || again.Plan != s.Plan || len(again.Operations) != 1 || again.RingEpoch != s.RingEpoch {
		t.Errorf("%+v became %+v", old, n)
	}
	if _, err := s.Apply(&meta.Command{Kind: meta.AddPending, Node: with(member(5), func(n *meta.Node) { n.Generation, n.Quiet = 101, true })}); err == nil {
		t.Error("it goes on without rows")
	}
	if _, err := s.Apply(&meta.Command{Kind: meta.AddPending, Node: with(member(5), func(n *meta.Node) { n.Generation = 99 })}); err == nil {
		t.Error("a former start of it goes on")
	}
}

// TestSameAddressReplaces: a node may stand where the dead one stood, which then cannot come back.
func TestSameAddressReplaces(t *testing.T) {
	c := replace(5, 2)
	c.Node.Internode, c.Node.Native = addr(2, 7000), addr(2, 9042)
	s := must(t, withKeyspace(t, 3), c)
	if _, err := s.Apply(&meta.Command{Kind: meta.UpdateNode, Node: with(member(2), func(n *meta.Node) { n.Generation = 101 })}); err == nil {
		t.Error("the dead node is back beside the one that takes its place")
	}
	s = must(t, s, &meta.Command{Kind: meta.UpdateNode, Node: with(c.Node, func(n *meta.Node) { n.Generation = 101 })})
	s = finished(t, switched(t, s))
	if _, err := s.Apply(&meta.Command{Kind: meta.AddPending, Node: member(2)}); err == nil || !strings.Contains(err.Error(), "has left") {
		t.Errorf("the replaced host id comes back: %v", err)
	}
}

// TestMovementNeedsTheVersion: a cluster with an older member knows no operation, and its bytes are those that the member knows.
func TestMovementNeedsTheVersion(t *testing.T) {
	s := must(t, versionOne(t), &meta.Command{Kind: meta.AddPending, Node: with(member(4), func(n *meta.Node) { n.Quiet = true })})
	s = must(t, s, &meta.Command{Kind: meta.CommitJoin, Node: meta.Node{ID: host(4), Since: s.Node(host(4)).Since}})
	for _, c := range []*meta.Command{start(meta.Decommission, 2), replace(5, 2), {Kind: meta.AbortOperation, Operation: 1}, {Kind: meta.Switch, Plan: 1}} {
		if _, err := s.Apply(c); err == nil || !strings.Contains(err.Error(), "upgrade every member") {
			t.Errorf("command %d: %v", c.Kind, err)
		}
	}
	if raw := s.Encode(); raw[0] != 1 || s.RingEpoch != 0 {
		t.Errorf("format %d, ring epoch %d", raw[0], s.RingEpoch)
	}
	if _, err := s.Apply(&meta.Command{Kind: meta.SetVersion, Version: 2}); err == nil {
		t.Error("raised above a member")
	}
	for i := 1; i <= 3; i++ {
		s = must(t, s, &meta.Command{Kind: meta.UpdateNode, Node: with(member(i), func(n *meta.Node) { n.Generation = 101 })})
	}
	s = must(t, s, &meta.Command{Kind: meta.SetVersion, Version: 2})
	if raw := s.Encode(); raw[0] != 2 || s.RingEpoch != s.Epoch {
		t.Errorf("format %d, ring epoch %d of %d", raw[0], s.RingEpoch, s.Epoch)
	}
	must(t, s, start(meta.Decommission, 2))
}

// versionOne is a cluster of hosts 1 to 3 that has a build of metadata version 1 on every node.
func versionOne(t testing.TB) *meta.State {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("testdata", "golden-1.txt"))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(raw), "state quiet ")
	line, _, _ := strings.Cut(rest, "\n")
	b, err := hex.DecodeString(line)
	if err != nil {
		t.Fatal(err)
	}
	s, err := meta.DecodeState(b)
	if err != nil {
		t.Fatal(err)
	}
	return must(t, s, &meta.Command{Kind: meta.RemoveNode, Node: meta.Node{ID: host(4)}})
}

// TestQuorumsIntersect: for every pair of replica sets, what a write or a ballot has to reach in one phase meets what a read or a
// ballot has to reach in it and in the next, whichever replicas are missing.
func TestQuorumsIntersect(t *testing.T) {
	const nodes = 6
	quorum := func(n int) int { return n/2 + 1 }
	size := bits.OnesCount
	each := func(of uint, n int, visit func(uint)) { // the subsets of n
		for w := of; ; w = (w - 1) & of {
			if size(w) == n {
				visit(w)
			}
			if w == 0 {
				return
			}
		}
	}
	for b := uint(1); b < 1<<nodes; b++ {
		for a := uint(1); a < 1<<nodes; a++ {
			if size(b) > 3 || size(a) > 3 {
				continue
			}
			u := a | b
			need := meta.Acknowledgements(size(b), size(a), size(u))
			if at := quorum(size(b)) + size(u&^b); size(a) >= size(b) && need != at {
				t.Fatalf("b %b a %b: %d acknowledgements, as Cassandra counts %d", b, a, need, at)
			}
			each(u, need, func(w uint) {
				if size(w&b) < quorum(size(b)) || size(w&a) < quorum(size(a)) {
					t.Fatalf("b %b a %b: %b is no quorum of both", b, a, w)
				}
				each(b, quorum(size(b)), func(r uint) {
					if r&w == 0 {
						t.Fatalf("b %b a %b: %b and %b before the movement do not meet", b, a, w, r)
					}
				})
				each(a, quorum(size(a)), func(r uint) {
					if r&w == 0 {
						t.Fatalf("b %b a %b: %b and %b after the switch do not meet", b, a, w, r)
					}
				})
			})
		}
	}
}

// TestFilledReplicasKnowWhatQuorumsHad: a write that a quorum of B took before the movement is known to each quorum of A once those have
// filled that State.Fills says, whichever of B took it.
func TestFilledReplicasKnowWhatQuorumsHad(t *testing.T) {
	for rf := 1; rf <= 5; rf++ {
		for to := 1; to <= 5; to++ {
			s := withKeyspace(t, 6)
			at := alter(t, s, "ks", network("dc1", rf))
			at.Moves = false
			s = must(t, s, at)
			if rf == to {
				s = must(t, s, start(meta.Decommission, 2))
			} else {
				s = must(t, s, alter(t, s, "ks", network("dc1", to)))
			}
			checkFills(t, s)
		}
	}
}

func checkFills(t testing.TB, s *meta.State) {
	fills := map[ring.HostID][]ring.Movement{}
	for _, n := range s.Nodes {
		fills[n.ID] = s.Fills("ks", n.ID)
	}
	for _, m := range s.Moves("ks") {
		filled := func(id ring.HostID) bool {
			return slices.ContainsFunc(fills[id], func(f ring.Movement) bool { return f.Range == m.Range })
		}
		b, a := len(m.Before), len(m.After)
		for w := range uint(1) << b {
			if bits.OnesCount(w) < b/2+1 {
				continue
			}
			lack := 0
			for _, id := range m.After {
				if i := slices.Index(m.Before, id); !filled(id) && (i < 0 || w>>i&1 == 0) {
					lack++
				}
			}
			if lack >= a/2+1 {
				t.Fatalf("%v: a write on %b of B is not known to %d of %d after it", m, w, lack, a)
			}
		}
	}
}

// TestAnyMovementsKeepWhoIsRead: whatever operations begin, end, are aborted, reported and restarted in whatever order, nobody who is read stops
// being written before reads have moved, reads move only as a whole, host ids never come back, and all nodes agree.
func TestAnyMovementsKeepWhoIsRead(t *testing.T) {
	seeds := uint64(24)
	if testing.Short() {
		seeds = 6
	}
	phases := map[meta.Phase]int{}
	for seed := range seeds {
		r := rand.New(rand.NewPCG(seed, 2))
		s := withKeyspace(t, 5)
		gone := map[ring.HostID]bool{}
		for step := range 120 {
			c := randomMovement(t, r, s)
			c.ID = [16]byte{1: byte(step), 2: 3}
			next := checkApply(t, s, c)
			checkState(t, next)
			if next != s {
				checkStep(t, s, next, c)
				checkFills(t, next)
			}
			for i := range next.Nodes {
				n := &next.Nodes[i]
				if gone[n.ID] && n.State != meta.Left {
					t.Errorf("%s is back", n.ID)
				}
				gone[n.ID] = n.State == meta.Left
			}
			if t.Failed() {
				t.Fatalf("seed %d step %d command %+v", seed, step, c)
			}
			s = next
			phases[s.Phase()]++
		}
	}
	for _, p := range []meta.Phase{meta.None, meta.Filling, meta.Switched} {
		if phases[p] < int(seeds) {
			t.Errorf("%d steps were %s", phases[p], p)
		}
	}
}

func randomMovement(t testing.TB, r *rand.Rand, s *meta.State) *meta.Command {
	i := 1 + r.IntN(12)
	n := with(member(i), func(n *meta.Node) {
		n.Generation += int64(r.IntN(30))
		n.Tokens = []ring.Token{ring.Token(r.Int64()), ring.Token(r.Int64())}
	})
	id := uint64(0)
	if k := len(s.Operations); k > 0 {
		id = s.Operations[r.IntN(k)].ID
	}
	switch r.IntN(12) {
	case 0, 1:
		return &meta.Command{Kind: meta.AddPending, Node: n}
	case 2:
		n.Replaces = host(1 + r.IntN(12))
		if d := s.Node(n.Replaces); d != nil {
			n.Rack = d.Rack
		}
		return &meta.Command{Kind: meta.AddPending, Node: n}
	case 3:
		return start(meta.Decommission+meta.OperationKind(r.IntN(2)), i)
	case 4:
		return moveTo(i, n.Tokens...)
	case 5:
		if ks, _ := s.Catalog.Keyspace("ks"); ks.Strategy.Factor() == 2 {
			return alter(t, s, "ks", network("dc1", 1+2*r.IntN(2)))
		}
		return alter(t, s, "ks", network("dc1", 2))
	case 6:
		if r.IntN(3) > 0 {
			return &meta.Command{Kind: meta.UpdateNode, Node: n}
		}
		return &meta.Command{Kind: meta.AbortOperation, Operation: id}
	case 7:
		return &meta.Command{Kind: meta.Switch, Plan: s.Plan}
	case 8:
		return &meta.Command{Kind: meta.Finish, Plan: s.SwitchedAt}
	case 9, 10:
		if open := s.Unheard(); len(open) > 0 {
			return &meta.Command{Kind: meta.ReportSwitched, Node: meta.Node{ID: open[r.IntN(len(open))]}, Plan: s.SwitchedAt}
		}
		fallthrough
	default:
		if open := s.Unfilled(); len(open) > 0 {
			return &meta.Command{Kind: meta.ReportFilled, Node: meta.Node{ID: open[r.IntN(len(open))]}, Plan: s.Plan - uint64(r.IntN(8)/7)}
		}
		return &meta.Command{Kind: meta.ReportFilled, Node: n, Plan: s.Plan}
	}
}

// checkStep compares who is read and who is written before and after one command.
func checkStep(t testing.TB, s, next *meta.State, c *meta.Command) {
	tokens := slices.Concat(s.Ring.Tokens(), next.Ring.Tokens())
	read, other := s.Placement("ks"), s.OtherPlacement("ks")
	read2, other2 := next.Placement("ks"), next.OtherPlacement("ks")
	for _, tok := range tokens {
		was, will := replicasOf(read, tok), replicasOf(read2, tok)
		written := append(replicasOf(other, tok), was...)
		written2 := append(replicasOf(other2, tok), will...)
		for _, id := range will { // who is read has been written
			if s.Phase() != meta.None && !slices.Contains(written, id) {
				t.Errorf("%s is read and was not written", id)
			}
		}
		if c.Kind != meta.Switch && !slices.Equal(was, will) {
			t.Errorf("command %d moves reads from %v to %v", c.Kind, was, will)
		}
		if c.Kind == meta.Switch && (other != nil && !slices.Equal(will, replicasOf(other, tok)) || other2 != nil && !slices.Equal(replicasOf(other2, tok), was)) {
			t.Errorf("the switch moves reads to %v", will)
		}
		if c.Kind != meta.Finish {
			for _, id := range was { // who was read is written still
				if !slices.Contains(written2, id) {
					t.Errorf("%s was read and is not written", id)
				}
			}
		}
	}
	changed := s.Phase() != next.Phase() || slices.ContainsFunc(tokens, func(tok ring.Token) bool {
		return !slices.Equal(replicasOf(read, tok), replicasOf(read2, tok)) || !slices.Equal(replicasOf(other, tok), replicasOf(other2, tok))
	})
	if changed && next.RingEpoch != next.Epoch {
		t.Errorf("ring epoch %d of %d", next.RingEpoch, next.Epoch)
	}
	if s.Phase() == meta.Switched && next.Phase() == meta.Switched && next.RingEpoch != s.RingEpoch {
		t.Errorf("command %d changes what moves while a movement is being completed", c.Kind)
	}
	if c.Kind == meta.ReportFilled && next.RingEpoch != s.RingEpoch {
		t.Error("a report fences writes")
	}
}

func replicasOf(p *ring.Placement, t ring.Token) (out []ring.HostID) {
	if p == nil {
		return nil
	}
	for _, i := range p.Replicas(t) {
		out = append(out, p.Ring().Nodes()[i].ID)
	}
	slices.SortFunc(out, ring.HostID.Compare)
	return out
}

// TestJoinsStayEven: nodes that join one by one, with the tokens that formation gives them, own nearly the same.
func TestJoinsStayEven(t *testing.T) {
	s := must(t, meta.Empty(), founder(func(c *meta.Command) {
		c.Node.Tokens = ring.Allocate(nil, ring.Node{ID: host(1), DC: "dc1", Rack: "r"}, 16, 3, 1)
		c.Node.Rack = "r"
	}))
	s = must(t, s, &meta.Command{Kind: meta.Schema, BaseSchema: s.Catalog.Version, Changes: createKeyspace(t, s, "ks")})
	for i := 2; i <= 12; i++ {
		n := with(member(i), func(n *meta.Node) {
			n.Rack = "r"
			n.Tokens = ring.Allocate(s.Ring.Nodes(), ring.Node{ID: n.ID, DC: n.DC, Rack: "r"}, 16, 3, uint64(i))
		})
		s = finished(t, switched(t, must(t, s, &meta.Command{Kind: meta.AddPending, Node: n})))
		own := s.Placement("ks").Ownership()
		if most, least := slices.Max(own), slices.Min(own); most/least >= 1.2 {
			t.Errorf("%d nodes: %.3f", i, most/least)
		}
	}
}

func founder(change func(*meta.Command)) *meta.Command {
	c := found()
	change(c)
	return c
}
