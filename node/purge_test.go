package node

import (
	"testing"

	"github.com/helenusdb/helenus/meta"
	"github.com/helenusdb/helenus/repair/history"
	"github.com/helenusdb/helenus/ring"
	"github.com/helenusdb/helenus/storage"
)

// TestPurgeStandsStillWhereRangesMove: no tombstone goes of a token whose replicas differ between both sides, in both phases, whenever the purge began; the
// others, and all of them before and after the movement, go as they would.
func TestPurgeStandsStillWhereRangesMove(t *testing.T) {
	s := meta.Empty()
	apply := func(c *meta.Command) { t.Helper(); s = applied(t, s, c) }
	member := func(i byte) meta.Node {
		return meta.Node{ID: ring.HostID{i, 15: i}, Internode: addrOf(i, 7000), Native: addrOf(i, 9042), DC: "dc1", Rack: "r1", Tokens: []ring.Token{ring.Token(i) << 58}, Version: meta.Version}
	}
	apply(&meta.Command{Kind: meta.Found, Node: member(1), ClusterID: [16]byte{1}, ClusterName: "test", Partitioner: ring.Murmur3{}.Name()})
	for i := byte(2); i < 6; i++ {
		m := member(i)
		m.Quiet = true
		apply(&meta.Command{Kind: meta.AddPending, Node: m})
		apply(&meta.Command{Kind: meta.CommitJoin, Node: *s.Node(m.ID)})
	}
	const keyspace, plain, careful = "system_auth", 100, 50
	current := func() *meta.State { return s }
	bounds := []storage.GCBefore{keepWhatMoves(current, keyspace, storage.GCBefore{Latest: plain}), // of a purge that began before
		keepWhatMoves(current, keyspace, storage.GCBefore{Latest: plain, Of: func(_ ring.Token, conditional bool) int64 {
			if conditional {
				return careful
			}
			return plain
		}})}
	check := func(phase meta.Phase) {
		t.Helper()
		moving := 0
		for i := range 256 {
			tok := ring.Token(uint64(i)<<56 + 1)
			moves := false
			for _, m := range s.Moves(keyspace) {
				moves = moves || m.Range.Contains(tok)
			}
			want := [3]int64{plain, plain, careful}
			if moves {
				moving++
				want = [3]int64{history.None, history.None, history.None}
			}
			if got := [3]int64{bounds[0].Of(tok, false), bounds[1].Of(tok, false), bounds[1].Of(tok, true)}; got != want {
				t.Fatalf("%s: token %d, which moves %t: %d", phase, tok, moves, got)
			}
		}
		if s.Phase() != phase || (moving > 0) != (phase != meta.None) || moving == 256 {
			t.Errorf("%s: %d of 256 tokens move", s.Phase(), moving)
		}
	}
	check(meta.None)
	apply(&meta.Command{Kind: meta.AddPending, Node: member(7)})
	check(meta.Filling)
	for _, id := range s.Unfilled() {
		apply(&meta.Command{Kind: meta.ReportFilled, Node: meta.Node{ID: id}, Plan: s.Plan})
	}
	apply(&meta.Command{Kind: meta.Switch, Plan: s.Plan})
	check(meta.Switched)
	for _, id := range s.Unheard() {
		apply(&meta.Command{Kind: meta.ReportSwitched, Node: meta.Node{ID: id}, Plan: s.SwitchedAt})
	}
	apply(&meta.Command{Kind: meta.Finish, Plan: s.SwitchedAt})
	check(meta.None)
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
