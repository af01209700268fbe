package merkle

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/helenusdb/helenus/ring"
	"github.com/helenusdb/helenus/row"
)

var all = ring.Interval{First: ring.MinToken, Last: ring.MaxToken}

// replica is a dumb one: items by token.
type replica map[ring.Token]row.Tally

func (r replica) tally(iv ring.Interval) (t row.Tally) {
	for token, item := range r {
		if iv.First <= token && token <= iv.Last {
			t.Add(item)
		}
	}
	return t
}

// index makes tallies of many intervals cheap.
type index struct {
	tokens []ring.Token
	sums   []row.Tally // of tokens[:i]
}

func newIndex(r replica) *index {
	x := &index{sums: []row.Tally{{}}}
	for t := range r {
		x.tokens = append(x.tokens, t)
	}
	slices.Sort(x.tokens)
	for _, t := range x.tokens {
		s := x.sums[len(x.sums)-1]
		s.Add(r[t])
		x.sums = append(x.sums, s)
	}
	return x
}

func (x *index) tally(iv ring.Interval) row.Tally {
	i, _ := slices.BinarySearch(x.tokens, iv.First)
	j, found := slices.BinarySearch(x.tokens, iv.Last)
	if found {
		j++
	}
	a, b := x.sums[i], x.sums[j]
	return row.Tally{Sum: b.Sum - a.Sum, Items: b.Items - a.Items, Bytes: b.Bytes - a.Bytes}
}

func walk(t *testing.T, iv ring.Interval, replicas []replica, l Limits) (leaves []Leaf, w *Walk, widest int) {
	t.Helper()
	var idx []*index
	for _, r := range replicas {
		idx = append(idx, newIndex(r))
	}
	w = NewWalk(iv, len(replicas), l)
	for spans := w.Next(); spans != nil; spans = w.Next() {
		tallies := make([][]row.Tally, len(replicas))
		for i, x := range idx {
			for j, s := range spans {
				if j > 0 && s.First <= spans[j-1].Last {
					t.Fatalf("%v after %v", s, spans[j-1])
				}
				tallies[i] = append(tallies[i], x.tally(s))
			}
		}
		leaves = append(leaves, w.Compare(tallies)...)
		widest = max(widest, len(w.todo))
	}
	return leaves, w, widest
}

func item(rng *rand.Rand) row.Tally { return row.Tally{Sum: rng.Uint64(), Items: 1, Bytes: 10} }

// TestEveryDifferenceIsFound: ten thousand random differences, changed, missing and surplus items on any of three replicas, are all in
// some leaf, and a leaf has no more items than it may.
//
// Scenarios: TestScenario_A10.
func TestEveryDifferenceIsFound(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	replicas := []replica{{}, {}, {}}
	var tokens []ring.Token
	for range 100_000 {
		token, v := ring.Token(rng.Uint64()), item(rng)
		for _, r := range replicas {
			r[token] = v
		}
		tokens = append(tokens, token)
	}
	planted := map[ring.Token]bool{}
	for len(planted) < 10_000 {
		token, r := tokens[rng.IntN(len(tokens))], replicas[rng.IntN(3)]
		if planted[token] {
			continue
		}
		switch rng.IntN(3) {
		case 0:
			delete(r, token)
		case 1:
			r[token] = item(rng)
		case 2:
			token = ring.Token(rng.Uint64())
			r[token] = item(rng)
		}
		planted[token] = true
	}
	leaves, w, widest := walk(t, all, replicas, Limits{})
	slices.SortFunc(leaves, func(a, b Leaf) int { return cmp.Compare(a.Tokens.First, b.Tokens.First) })
	for i, l := range leaves {
		if i > 0 && l.Tokens.First <= leaves[i-1].Tokens.Last {
			t.Fatalf("leaf %v after %v", l.Tokens, leaves[i-1].Tokens)
		}
		if l.Items() > defaultItems && l.Tokens.First != l.Tokens.Last && !l.Lopsided() {
			t.Errorf("leaf %v has %d items", l.Tokens, l.Items())
		}
	}
	for token := range planted {
		i, _ := slices.BinarySearchFunc(leaves, token, func(l Leaf, t ring.Token) int {
			if l.Tokens.Last < t {
				return -1
			}
			return 1
		})
		if i == len(leaves) || leaves[i].Tokens.First > token {
			t.Errorf("the difference at %d is in no leaf", token)
		}
	}
	if widest > 16*17*defaultBatch {
		t.Errorf("%d intervals waited", widest)
	}
	t.Logf("%d leaves, %d intervals compared, %d waited at most", len(leaves), w.Compared, widest)
}

// TestMemoryIsBounded: a walk over replicas that differ everywhere holds a bounded number of intervals, and so does one after the other over
// 100,000 ranges.
//
// Scenarios: TestScenario_A7.
func TestMemoryIsBounded(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	a, b := replica{}, replica{}
	for range 200_000 {
		token := ring.Token(rng.Uint64())
		a[token], b[token] = item(rng), item(rng)
	}
	leaves, _, widest := walk(t, all, []replica{a, b}, Limits{})
	if widest > 16*17*defaultBatch {
		t.Errorf("%d intervals waited", widest)
	}
	if len(leaves) < 200_000/defaultItems {
		t.Errorf("%d leaves", len(leaves))
	}
	ranges := 100_000
	step := uint64(1<<64-1)/uint64(ranges) + 1
	if n := testing.AllocsPerRun(1, func() {
		for i := range ranges {
			w := NewWalk(ring.Interval{First: token(uint64(i) * step), Last: token(uint64(i)*step + 100)}, 2, Limits{})
			w.Next()
			w.Compare([][]row.Tally{{{}}, {{}}})
			if w.Next() != nil {
				t.Fatal("an equal range is looked at twice")
			}
		}
	}); n > 6*float64(ranges) {
		t.Errorf("%v allocations for %d ranges", n, ranges)
	}
}

// TestEqualIsOneStep: nothing but the root is asked for where nothing differs.
func TestEqualIsOneStep(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	a := replica{}
	for range 1000 {
		a[ring.Token(rng.Uint64())] = item(rng)
	}
	leaves, w, _ := walk(t, all, []replica{a, a, a}, Limits{})
	if len(leaves) != 0 || w.Compared != 1 || w.Different != 0 {
		t.Errorf("%d leaves, %d compared", len(leaves), w.Compared)
	}
	leaves, w, _ = walk(t, all, []replica{a, {}, a}, Limits{})
	if len(leaves) != 1 || leaves[0].Tokens != all || !leaves[0].Lopsided() || w.Compared != 1 {
		t.Errorf("an empty replica: %d leaves, %d compared", len(leaves), w.Compared)
	}
}

// TestSplit: the parts cover the interval, in order, and there are 2 to 17 of them.
func TestSplit(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 8))
	check := func(iv ring.Interval) {
		t.Helper()
		parts := Split(nil, iv)
		if len(parts) < 2 || len(parts) > 17 || parts[0].First != iv.First || parts[len(parts)-1].Last != iv.Last {
			t.Fatalf("%v: %v", iv, parts)
		}
		for i, p := range parts {
			if p.First > p.Last || i > 0 && p.First != parts[i-1].Last+1 {
				t.Fatalf("%v: %v", iv, parts)
			}
		}
	}
	if n := len(Split(nil, all)); n != 16 {
		t.Errorf("the ring is cut into %d", n)
	}
	check(all)
	for range 10_000 {
		first := rng.Uint64()
		last := first + 1 + rng.Uint64()>>rng.IntN(64)
		if last > first {
			check(ring.Interval{First: token(first), Last: token(last)})
		}
	}
}

// TestSumsAreDumbSums: the index of these tests says what the replica says.
func TestSumsAreDumbSums(t *testing.T) {
	rng := rand.New(rand.NewPCG(9, 10))
	r := replica{}
	for range 200 {
		r[ring.Token(rng.Uint64())] = item(rng)
	}
	x := newIndex(r)
	for range 200 {
		a, b := ring.Token(rng.Uint64()), ring.Token(rng.Uint64())
		iv := ring.Interval{First: min(a, b), Last: max(a, b)}
		if got, want := x.tally(iv), r.tally(iv); got != want {
			t.Fatalf("%v: %v instead of %v", iv, got, want)
		}
	}
}
