package ring

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

// spread returns the largest over the smallest ratio of ownership to fair share among the nodes of one data centre,
// replicated rf times.
func spread(t testing.TB, nodes []Node, dc string, rf int) float64 {
	t.Helper()
	r := mustRing(t, nodes)
	own := r.Placement(network(DCReplication{dc, rf})).Ownership()
	var in []allocNode
	var share []float64
	racks := map[string]int32{}
	for i, n := range r.Nodes() {
		if n.DC != dc || len(n.Tokens) == 0 {
			continue
		}
		if _, ok := racks[n.Rack]; !ok {
			racks[n.Rack] = int32(len(racks))
		}
		in = append(in, allocNode{racks[n.Rack], float64(len(n.Tokens))})
		share = append(share, own[i])
	}
	lo, hi := 1e9, 0.0
	for i, fair := range fairShares(in, rf) {
		lo, hi = min(lo, share[i]/fair), max(hi, share[i]/fair)
	}
	return hi / lo
}

func found(t testing.TB, n, racks, vnodes, rf int, seed uint64) []Node {
	nodes := make([]Node, n)
	for i := range nodes {
		nodes[i] = Node{ID: hostID(i), DC: "dc1", Rack: fmt.Sprint("r", i%racks)}
	}
	for i, tokens := range AllocateInitial(nodes, vnodes, rf, seed) {
		nodes[i].Tokens = tokens
	}
	return nodes
}

// join adds a node of that rack.
func join(nodes []Node, number, rack, vnodes, rf int, seed uint64) []Node {
	j := Node{ID: hostID(number), DC: "dc1", Rack: fmt.Sprint("r", rack)}
	j.Tokens = Allocate(nodes, j, vnodes, rf, seed)
	return append(nodes, j)
}

func TestOwnershipStaysEvenThroughJoins(t *testing.T) {
	for _, c := range []struct{ racks, rf int }{{1, 3}, {3, 3}, {2, 3}, {1, 1}, {1, 2}, {1, 5}} {
		nodes := found(t, 3, c.racks, 16, c.rf, 11)
		worst := spread(t, nodes, "dc1", c.rf)
		for n := 3; n < 30 && !(raceEnabled && n > 12); n++ {
			nodes = join(nodes, n, n%c.racks, 16, c.rf, uint64(n))
			s := spread(t, nodes, "dc1", c.rf)
			if s >= 1.2 {
				t.Errorf("%d racks, rf %d: max/min is %.3f at %d nodes", c.racks, c.rf, s, len(nodes))
			}
			worst = max(worst, s)
		}
		t.Logf("%d racks, rf %d: worst max/min %.3f", c.racks, c.rf, worst)
	}
}

// M23: 1,000 random joins and leaves. A leave cannot be corrected before the next join, since nobody else's tokens
// move, hence its bound is wider.
func TestOwnershipStaysBoundedThroughChurn(t *testing.T) {
	steps := 500
	if testing.Short() || raceEnabled {
		steps = 30
	}
	for _, racks := range []int{1, 3} {
		t.Run(fmt.Sprint(racks, " racks"), func(t *testing.T) {
			c := churn{rng: rand.New(rand.NewPCG(5, uint64(racks))), racks: racks, nodes: found(t, 9, racks, 16, 3, 1), next: 9}
			for range steps {
				c.step()
				c.check(t)
			}
			slices.Sort(c.joined)
			slices.Sort(c.left)
			median, worst, worstLeft := c.joined[len(c.joined)/2], c.joined[len(c.joined)-1], c.left[len(c.left)-1]
			t.Logf("after a join: median %.3f, worst %.3f; after a leave: median %.3f, worst %.3f", median, worst, c.left[len(c.left)/2], worstLeft)
			if median >= 1.1 || worst >= 2.2 || worstLeft >= 2.6 {
				t.Error("ownership is out of bounds")
			}
		})
	}
}

type churn struct {
	rng          *rand.Rand
	racks, next  int
	nodes        []Node
	joined, left []float64 // spread after each join and leave
	join         bool
}

func (c *churn) step() {
	c.join = len(c.nodes) <= 6 || len(c.nodes) < 30 && c.rng.IntN(2) == 0
	perRack := make([]int, c.racks)
	for _, n := range c.nodes {
		perRack[n.Rack[1]-'0']++
	}
	if !c.join {
		i := c.rng.IntN(len(c.nodes))
		for perRack[c.nodes[i].Rack[1]-'0'] == 1 { // a rack that vanishes changes the rules for all
			i = c.rng.IntN(len(c.nodes))
		}
		c.nodes = slices.Delete(c.nodes, i, i+1)
		return
	}
	c.nodes = join(c.nodes, c.next, slices.Index(perRack, slices.Min(perRack)), 16, 3, c.rng.Uint64())
	c.next++
}

func (c *churn) check(t *testing.T) {
	t.Helper()
	s := spread(t, c.nodes, "dc1", 3)
	if c.join {
		c.joined = append(c.joined, s)
	} else {
		c.left = append(c.left, s)
	}
	r := mustRing(t, c.nodes)
	p := r.Placement(network(DCReplication{"dc1", 3}))
	for i := range r.Segments() {
		racks := map[string]bool{}
		for _, n := range p.SegmentReplicas(i) {
			racks[r.Nodes()[n].Rack] = true
		}
		if len(p.SegmentReplicas(i)) != 3 || len(racks) != min(3, r.dcs[0].racks) {
			t.Fatalf("segment %d has replicas %v on %d racks", i, p.SegmentReplicas(i), len(racks))
		}
	}
}

func TestFoundersAreEven(t *testing.T) {
	for _, c := range []struct{ n, racks, vnodes, rf int }{
		{1, 1, 16, 3}, {3, 1, 16, 3}, {3, 3, 16, 3}, {5, 1, 16, 3}, {6, 3, 16, 3}, {10, 1, 16, 3}, {12, 3, 8, 3}, {7, 1, 1, 2}, {30, 3, 16, 3},
	} {
		nodes := found(t, c.n, c.racks, c.vnodes, c.rf, 3)
		for _, n := range nodes {
			if len(n.Tokens) != c.vnodes || !slices.IsSorted(n.Tokens) {
				t.Fatalf("%+v: tokens %v", c, n.Tokens)
			}
		}
		if s := spread(t, nodes, "dc1", c.rf); s > 1.1 {
			t.Errorf("%+v: max/min is %.3f", c, s)
		}
		if s := spread(t, nodes, "dc1", 1); s > 1.01 {
			t.Errorf("%+v: primary max/min is %.3f", c, s)
		}
	}
}

// A founder's neighbours vary, so that many nodes share the load of one that is lost.
func TestFoundersHaveManyNeighbours(t *testing.T) {
	r := mustRing(t, found(t, 12, 1, 16, 3, 4))
	next := map[int32]bool{}
	for i := range r.Segments() {
		if r.owners[i] == 0 {
			next[r.ownerAt(i+1)] = true
		}
	}
	if len(next) < 6 {
		t.Errorf("the tokens of node 0 are followed by only %d other nodes", len(next))
	}
}

func TestAllocateIsDeterministicAndAvoidsEveryToken(t *testing.T) {
	nodes := []Node{{ID: hostID(0), DC: "a", Rack: "r"}, {ID: hostID(1), DC: "b", Rack: "r"}, {ID: hostID(2), DC: "b", Rack: "s"}}
	tokens := AllocateInitial(nodes, 16, 2, 9)
	for i := range nodes {
		nodes[i].Tokens = tokens[i]
	}
	if again := AllocateInitial(nodes, 16, 2, 9); !slices.EqualFunc(again, tokens, slices.Equal[[]Token]) {
		t.Error("founders differ between two calls")
	}
	joiner := Node{ID: hostID(3), DC: "b", Rack: "r"}
	joiner.Tokens = Allocate(nodes, joiner, 32, 2, 1)
	reversed := []Node{nodes[2], nodes[1], nodes[0]}
	if again := Allocate(reversed, joiner, 32, 2, 1); !slices.Equal(again, joiner.Tokens) {
		t.Error("the order of nodes matters")
	}
	if len(joiner.Tokens) != 32 || !slices.IsSorted(joiner.Tokens) {
		t.Errorf("tokens %v", joiner.Tokens)
	}
	mustRing(t, append(nodes, joiner)) // refuses duplicates
	if got := Allocate(nodes, Node{ID: hostID(4), DC: "new", Rack: "r"}, 8, 3, 9); len(got) != 8 {
		t.Errorf("first node of a data centre gets %v", got)
	}
}

func TestAllocateGivesBiggerNodesMore(t *testing.T) {
	nodes := found(t, 6, 1, 16, 3, 2)
	nodes = join(nodes, 6, 0, 32, 3, 2)
	own := mustRing(t, nodes).Placement(network(DCReplication{"dc1", 3})).Ownership()
	if ratio := own[6] / own[0]; ratio < 1.7 || ratio > 2.3 {
		t.Errorf("a node with twice the tokens owns %.2f times as much", ratio)
	}
}

func TestFairShares(t *testing.T) {
	equal := func(racks ...int32) (out []allocNode) {
		for _, r := range racks {
			out = append(out, allocNode{r, 16})
		}
		return out
	}
	for _, c := range []struct {
		nodes []allocNode
		rf    int
		want  []float64
	}{
		{equal(0, 0, 0, 0), 3, []float64{.75, .75, .75, .75}},
		{equal(0, 0), 3, []float64{1, 1}},
		{equal(0, 1, 2, 2), 3, []float64{1, 1, .5, .5}},
		{equal(0, 0, 0, 1), 2, []float64{1. / 3, 1. / 3, 1. / 3, 1}},
		{equal(0, 1, 1, 1, 1), 3, []float64{1, .5, .5, .5, .5}},
		{[]allocNode{{0, 16}, {0, 16}, {0, 32}}, 1, []float64{.25, .25, .5}},
		{[]allocNode{{0, 1}, {0, 1}, {0, 100}}, 2, []float64{.5, .5, 1}},
	} {
		got := fairShares(c.nodes, c.rf)
		for i := range got {
			if d := got[i] - c.want[i]; d > 1e-6 || d < -1e-6 {
				t.Errorf("%v at rf %d: %v, want %v", c.nodes, c.rf, got, c.want)
				break
			}
		}
	}
}

// The incremental evaluation of a candidate equals inserting the token and measuring again.
func TestEvaluateEqualsMeasure(t *testing.T) {
	for seed := range uint64(200) {
		rng := rand.New(rand.NewPCG(seed, 6))
		var nodes []Node
		for _, n := range randomNodes(rng) {
			if len(n.Tokens) > 0 {
				nodes = append(nodes, n)
			}
		}
		nodes = append(nodes, Node{ID: hostID(50), Rack: fmt.Sprint("r", rng.IntN(4)), Tokens: []Token{Token(rng.Uint64())}})
		x := int32(rng.IntN(len(nodes)))
		a := newAllocation(nodes, 1+rng.IntN(5), map[Token]bool{}, rng)
		a.measure()
		before := slices.Clone(a.own)
		at := rng.IntN(len(a.tokens))
		part := a.length(at) * rng.Float64()
		a.evaluate(at, x)
		want := slices.Clone(before)
		for i := range want {
			want[i] += a.cand.base[i] + part*a.cand.slope[i]
		}
		a.insert(Token(uint64(a.tokens[a.wrap(at-1)])+uint64(part*(1<<63))*2), x)
		a.measure()
		for i := range want {
			if d := want[i] - a.own[i]; d > 1e-6 || d < -1e-6 {
				t.Fatalf("seed %d: node %d owns %g after the token, evaluated as %g", seed, i, a.own[i], want[i])
			}
		}
	}
}

func BenchmarkAllocate(b *testing.B) {
	for _, n := range []int{3, 30, 300} {
		b.Run(fmt.Sprint(n, "nodes"), func(b *testing.B) {
			nodes := evenRing(b, n).Nodes()
			for i := 0; b.Loop(); i++ {
				Allocate(nodes, Node{ID: hostID(n), DC: "dc1", Rack: "r0"}, 16, 3, uint64(i))
			}
		})
	}
}
