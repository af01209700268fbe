package ring

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

func network(dcs ...DCReplication) Strategy {
	return Strategy{Class: NetworkTopologyStrategy, DCs: dcs}
}

func simple(rf int) Strategy { return Strategy{Class: SimpleStrategy, RF: rf} }

// randomNodes returns up to 12 nodes in up to 3 data centres with up to 4 racks each, some of them without tokens.
func randomNodes(rng *rand.Rand) []Node {
	nodes := make([]Node, 1+rng.IntN(12))
	dcs, racks := 1+rng.IntN(3), 1+rng.IntN(4)
	for i := range nodes {
		nodes[i] = Node{ID: hostID(i), DC: fmt.Sprint("dc", rng.IntN(dcs)), Rack: fmt.Sprint("r", rng.IntN(racks))}
		for range rng.IntN(9) {
			nodes[i].Tokens = append(nodes[i].Tokens, Token(rng.Uint64()))
		}
	}
	return nodes
}

func randomStrategy(rng *rand.Rand) Strategy {
	if rng.IntN(4) == 0 {
		return simple(rng.IntN(6))
	}
	s := Strategy{Class: NetworkTopologyStrategy}
	for i := range 4 { // dc3 never has nodes
		if rf := rng.IntN(6); rf > 0 {
			s.DCs = append(s.DCs, DCReplication{fmt.Sprint("dc", i), rf})
		}
	}
	return s
}

// cassandraReplicas is a deliberately dumb transcription of the rules in words: walk the owners clockwise; take a node
// if its data centre wants more replicas, it is not taken yet, and its rack is new, or as many rack repeats are left as
// the factor exceeds the number of racks.
func cassandraReplicas(nodes []Node, s Strategy, at Token) []int {
	type owned struct {
		t Token
		n int
	}
	var walk []owned
	for i, n := range nodes {
		for _, t := range n.Tokens {
			walk = append(walk, owned{t, i})
		}
	}
	slices.SortFunc(walk, func(a, b owned) int {
		wrapA, wrapB := a.t < at, b.t < at
		if wrapA != wrapB {
			if wrapA {
				return 1
			}
			return -1
		}
		if a.t < b.t {
			return -1
		}
		return 1
	})
	nodesIn, racksIn := map[string]map[int]bool{}, map[string]map[string]bool{}
	for _, o := range walk {
		dc := nodes[o.n].DC
		if nodesIn[dc] == nil {
			nodesIn[dc], racksIn[dc] = map[int]bool{}, map[string]bool{}
		}
		nodesIn[dc][o.n], racksIn[dc][nodes[o.n].Rack] = true, true
	}
	want, repeats, seenRack := map[string]int{}, map[string]int{}, map[string]bool{}
	for dc := range nodesIn {
		want[dc] = min(s.FactorIn(dc), len(nodesIn[dc]))
		repeats[dc] = s.FactorIn(dc) - len(racksIn[dc])
	}
	var out []int
	for _, o := range walk {
		n := nodes[o.n]
		if s.Class == SimpleStrategy {
			if len(out) < s.RF && !slices.Contains(out, o.n) {
				out = append(out, o.n)
			}
			continue
		}
		if want[n.DC] == 0 || slices.Contains(out, o.n) {
			continue
		}
		if seenRack[n.DC+"/"+n.Rack] {
			if repeats[n.DC] <= 0 {
				continue
			}
			repeats[n.DC]--
		}
		seenRack[n.DC+"/"+n.Rack] = true
		want[n.DC]--
		out = append(out, o.n)
	}
	return out
}

func TestPlacementEqualsTheDumbModel(t *testing.T) {
	for seed := range uint64(600) {
		rng := rand.New(rand.NewPCG(seed, 1))
		nodes := randomNodes(rng)
		r := mustRing(t, nodes)
		for range 4 {
			s := randomStrategy(rng)
			p := r.Placement(s)
			for _, at := range probes(rng, r) {
				want := cassandraReplicas(nodes, s, at)
				if got := numbers(p.Replicas(at)); !slices.Equal(got, want) {
					t.Fatalf("seed %d, %s, token %d: replicas %v, want %v", seed, s, at, got, want)
				}
			}
		}
	}
}

func probes(rng *rand.Rand, r *Ring) []Token {
	out := []Token{MinToken, MaxToken, 0, Token(rng.Uint64()), Token(rng.Uint64())}
	for _, t := range r.Tokens() {
		out = append(out, t, t-1, t+1)
	}
	return out
}

// Every range has min(RF, nodes) replicas in each data centre, on as many racks as there can be (M23).
func TestPlacementSpreadsOverRacks(t *testing.T) {
	for seed := range uint64(300) {
		rng := rand.New(rand.NewPCG(seed, 2))
		r := mustRing(t, randomNodes(rng))
		s := randomStrategy(rng)
		if s.Class != NetworkTopologyStrategy {
			continue
		}
		p := r.Placement(s)
		for i := range r.Segments() {
			for _, d := range r.dcs {
				count, racks := 0, map[string]bool{}
				for _, n := range p.SegmentReplicas(i) {
					if r.Nodes()[n].DC == d.name {
						count++
						racks[r.Nodes()[n].Rack] = true
					}
				}
				rf := s.FactorIn(d.name)
				if count != min(rf, d.nodes) || len(racks) != min(rf, d.racks) {
					t.Fatalf("seed %d, %s: segment %d has %d replicas on %d racks in %s", seed, s, i, count, len(racks), d.name)
				}
			}
		}
	}
}

func TestRangesCoverTheRing(t *testing.T) {
	for seed := range uint64(200) {
		rng := rand.New(rand.NewPCG(seed, 3))
		r := mustRing(t, randomNodes(rng))
		s := randomStrategy(rng)
		p := r.Placement(s)
		primary := map[Range]int{}
		total := 0.0
		for n := range r.Nodes() {
			for _, rg := range p.PrimaryRanges(int32(n)) {
				primary[rg]++
			}
			for _, rg := range p.Ranges(int32(n)) {
				total += rg.Fraction()
				if !p.IsReplica(rg.End, int32(n)) {
					t.Fatalf("seed %d: node %d does not replicate %s", seed, n, rg)
				}
			}
		}
		sum := 0.0
		for _, o := range p.Ownership() {
			sum += o
		}
		if diff := sum - total; diff > 1e-9 || diff < -1e-9 {
			t.Fatalf("seed %d: ownership %g, ranges %g", seed, sum, total)
		}
		for rg, n := range primary {
			if n != 1 {
				t.Fatalf("seed %d: %s is primary of %d nodes", seed, rg, n)
			}
		}
		if r.Segments() > 0 && len(p.Replicas(0)) > 0 && len(primary) > 0 {
			all := make([]Range, 0, len(primary))
			for rg := range primary {
				all = append(all, rg)
			}
			if s.Class == SimpleStrategy && !slices.Equal(Normalize(all), []Range{FullRange()}) {
				t.Fatalf("seed %d: primary ranges cover %v", seed, Normalize(all))
			}
		}
	}
}

func TestPrimaryRangesWithinDCCoverTheRingOncePerDC(t *testing.T) {
	nodes := []Node{
		{ID: hostID(0), DC: "a", Rack: "1", Tokens: []Token{-50, 10}},
		{ID: hostID(1), DC: "a", Rack: "1", Tokens: []Token{-20, 60}},
		{ID: hostID(2), DC: "b", Rack: "1", Tokens: []Token{0, 90}},
		{ID: hostID(3), DC: "b", Rack: "2", Tokens: []Token{5, 70}},
		{ID: hostID(4), DC: "c", Rack: "1", Tokens: []Token{42}},
	}
	p := mustRing(t, nodes).Placement(network(DCReplication{"a", 1}, DCReplication{"b", 2}))
	for _, dc := range [][]int32{{0, 1}, {2, 3}} {
		var all []Range
		for _, n := range dc {
			all = append(all, p.PrimaryRangesWithinDC(n)...)
		}
		if len(all) != p.Ring().Segments() || !slices.Equal(Normalize(all), []Range{FullRange()}) {
			t.Errorf("nodes %v: %v", dc, all)
		}
	}
	if got := p.PrimaryRangesWithinDC(4); len(got) != 0 {
		t.Errorf("c is not replicated to, but has %v", got)
	}
}

func TestSingleTokenOwnsTheFullRing(t *testing.T) {
	p := mustRing(t, []Node{{ID: hostID(0), DC: "a", Rack: "1", Tokens: []Token{7}}}).Placement(simple(3))
	for _, at := range []Token{MinToken, 6, 7, 8, MaxToken} {
		if got := p.Replicas(at); !slices.Equal(got, []int32{0}) {
			t.Errorf("token %d: %v", at, got)
		}
	}
	if got := p.Ranges(0); !slices.Equal(got, []Range{{7, 7}}) || got[0].Fraction() != 1 {
		t.Errorf("ranges %v", got)
	}
}

func TestEmptyRingHasNoReplicas(t *testing.T) {
	r := mustRing(t, []Node{{ID: hostID(0), DC: "a", Rack: "1"}})
	if got := r.Placement(simple(3)).Replicas(0); len(got) != 0 {
		t.Errorf("replicas %v", got)
	}
	if r.Primary(0) != -1 || r.SegmentOf(0) != -1 || len(r.DCs()) != 0 {
		t.Error("a ring without tokens has an owner")
	}
	if got := mustRing(t, nil).Placement(simple(1)).Replicas(5); len(got) != 0 {
		t.Errorf("replicas %v", got)
	}
}

func TestLocalStrategyPlacesNothing(t *testing.T) {
	r := mustRing(t, []Node{{ID: hostID(0), Tokens: []Token{1}}})
	if got := r.Placement(Strategy{Class: LocalStrategy}).Replicas(0); len(got) != 0 {
		t.Errorf("replicas %v", got)
	}
}

func TestNewRefusesContradictions(t *testing.T) {
	a := Node{ID: hostID(1), Tokens: []Token{1, 2}}
	for _, c := range []struct {
		nodes []Node
		want  error
	}{
		{[]Node{a, {ID: hostID(2), Tokens: []Token{3, 2}}}, ErrDuplicateToken},
		{[]Node{{ID: hostID(2), Tokens: []Token{3, 3}}}, ErrDuplicateToken},
		{[]Node{a, {ID: hostID(1), Tokens: []Token{9}}}, ErrDuplicateNode},
	} {
		if _, err := New(c.nodes, Murmur3{}); !errors.Is(err, c.want) {
			t.Errorf("got %v, want %v", err, c.want)
		}
	}
}

func TestNewDoesNotKeepTheCallersTokens(t *testing.T) {
	nodes := []Node{{ID: hostID(1), Tokens: []Token{5, 1}}}
	r := mustRing(t, nodes)
	nodes[0].Tokens[0] = 99
	if !slices.Equal(r.Tokens(), []Token{1, 5}) || !slices.Equal(r.Nodes()[0].Tokens, []Token{1, 5}) {
		t.Errorf("ring has %v", r.Nodes())
	}
}

// movements applied to the placement before must give the placement after, at every token.
func TestDiffLeadsFromBeforeToAfter(t *testing.T) {
	for seed := range uint64(300) {
		rng := rand.New(rand.NewPCG(seed, 4))
		nodes := randomNodes(rng)
		s := randomStrategy(rng)
		before := mustRing(t, nodes).Placement(s)
		changed := slices.Clone(nodes)
		switch rng.IntN(3) {
		case 0:
			changed = slices.Delete(changed, 0, 1)
		case 1:
			changed = append(changed, Node{ID: hostID(99), DC: "dc0", Rack: "r0", Tokens: []Token{Token(rng.Uint64()), Token(rng.Uint64())}})
		case 2:
			changed[0].Tokens = []Token{Token(rng.Uint64())}
		}
		after := mustRing(t, changed).Placement(s)
		ms := Diff(before, after)
		for _, at := range append(probes(rng, before.Ring()), probes(rng, after.Ring())...) {
			was, is := before.hostIDs(at), after.hostIDs(at)
			hits := 0
			for _, m := range ms {
				if m.Range.Contains(at) {
					hits++
					if !slices.Equal(m.Before, was) || !slices.Equal(m.After, is) {
						t.Fatalf("seed %d: movement %+v at %d, was %v is %v", seed, m, at, was, is)
					}
				}
			}
			moved := len(without(was, is))+len(without(is, was)) > 0
			if moved && hits != 1 || !moved && hits != 0 {
				t.Fatalf("seed %d: token %d moved=%v, %d movements", seed, at, moved, hits)
			}
		}
	}
}

func TestMovementsOfOneNode(t *testing.T) {
	a := Node{ID: hostID(1), DC: "d", Rack: "r", Tokens: []Token{0}}
	b := Node{ID: hostID(2), DC: "d", Rack: "r", Tokens: []Token{100}}
	before := mustRing(t, []Node{a}).Placement(simple(1))
	after := mustRing(t, []Node{a, b}).Placement(simple(1))
	ms := Diff(before, after)
	gains, losses := MovementsOf(ms, b.ID)
	if len(gains) != 1 || len(losses) != 0 || gains[0].Range != (Range{0, 100}) {
		t.Errorf("node b: gains %v, losses %v", gains, losses)
	}
	gains, losses = MovementsOf(ms, a.ID)
	if len(gains) != 0 || len(losses) != 1 {
		t.Errorf("node a: gains %v, losses %v", gains, losses)
	}
	if got := Diff(before, before); len(got) != 0 {
		t.Errorf("no change moves %v", got)
	}
}
