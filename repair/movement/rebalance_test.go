package movement_test

import (
	"fmt"
	"reflect"
	"slices"
	"testing"

	"github.com/helenusdb/helenus/meta"
	"github.com/helenusdb/helenus/repair/movement"
	"github.com/helenusdb/helenus/ring"
)

// grown is a cluster whose nodes have the given tokens, in one rack.
func grown(t *testing.T, tokens func(i int) []ring.Token, n int) *meta.State {
	t.Helper()
	named := func(i int) meta.Node {
		m := member(i, "dc1")
		m.Rack, m.Tokens, m.Quiet = "r", tokens(i), true
		return m
	}
	s := must(t, meta.Empty(), &meta.Command{Kind: meta.Found, Node: named(1), ClusterID: [16]byte{1}, ClusterName: "test", Partitioner: ring.Murmur3{}.Name()})
	for i := 2; i <= n; i++ {
		s = must(t, s, &meta.Command{Kind: meta.AddPending, Node: named(i)})
		s = must(t, s, &meta.Command{Kind: meta.CommitJoin, Node: *s.Node(host(i))})
	}
	return s
}

// TestRebalance: of a ring that grew badly few nodes get other tokens, and then it is even; one that is even stays as it is.
func TestRebalance(t *testing.T) {
	for n := 4; n <= 8; n += 2 {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			s := grown(t, func(i int) (out []ring.Token) { // 8 tokens each, the first node's neighbours all on one side
				for v := range 8 {
					out = append(out, ring.Token(int64(i)<<54+int64(v)<<58))
				}
				return out
			}, n)
			r := movement.Rebalance(s)
			if r.Before < movement.EvenEnough || r.After >= movement.EvenEnough || len(r.Moves) == 0 || r.Moved <= 0 || r.Moved > 1 {
				t.Fatalf("%.2f becomes %.2f by %d moves of %.2f", r.Before, r.After, len(r.Moves), r.Moved)
			}
			if again := movement.Rebalance(s); !reflect.DeepEqual(r, again) {
				t.Error("the same state gives other moves")
			}
			for _, m := range r.Moves {
				if len(m.Tokens) != 8 || !slices.IsSorted(m.Tokens) {
					t.Errorf("%v", m)
				}
				s = must(t, s, &meta.Command{Kind: meta.StartOperation, OperationKind: meta.Move, Node: meta.Node{ID: m.Node, Next: m.Tokens}})
			}
			for _, id := range s.Reporters() {
				s = must(t, s, &meta.Command{Kind: meta.ReportFilled, Node: meta.Node{ID: id}, Plan: s.Plan})
			}
			s = must(t, s, s.Advance(dead()))
			for _, id := range s.Unheard() {
				s = must(t, s, &meta.Command{Kind: meta.ReportSwitched, Node: meta.Node{ID: id}, Plan: s.SwitchedAt})
			}
			for _, id := range s.Uncompared() {
				s = must(t, s, &meta.Command{Kind: meta.ReportFilled, Node: meta.Node{ID: id}, Plan: s.SwitchedAt})
			}
			s = must(t, s, s.Advance(dead()))
			if r := movement.Rebalance(s); len(r.Moves) != 0 || r.Before >= movement.EvenEnough {
				t.Errorf("afterwards %.2f, %d moves", r.Before, len(r.Moves))
			}
		})
	}
}
