package batchlog

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/helenusdb/helenus/ring"
)

// topology reads "a:r1 b:r1 c:r2!": names, racks, and a mark for those that are down. The node named self is "a".
func topology(text string) (nodes []Node) {
	for _, f := range strings.Fields(text) {
		name, rack, _ := strings.Cut(f, ":")
		n := Node{ID: ring.HostID{0: name[0]}, Rack: strings.TrimSuffix(rack, "!"), Alive: !strings.HasSuffix(rack, "!")}
		nodes = append(nodes, n)
	}
	return nodes
}

func names(ids []ring.HostID) string {
	var out []byte
	for _, id := range ids {
		out = append(out, id[0])
	}
	slices.Sort(out)
	return string(out)
}

func seeded(seed uint64) func() uint64 { return rand.New(rand.NewPCG(seed, 1)).Uint64 }

// TestScenario_B4_Endpoints: who keeps a batch, with one, two and three racks, as Cassandra 5.0.8 decides it. Every answer
// that is possible comes up.
func TestScenario_B4_Endpoints(t *testing.T) {
	for _, x := range []struct {
		nodes, want string // answers in alphabetical order
		enough      bool
	}{
		{"a:r1", "a", true},
		{"a:r1 b:r1", "ab", true},
		{"a:r1 b:r2", "ab", true},
		{"a:r1 b:r1!", "a", false},
		{"a:r1 b:r1 c:r1", "bc", true},
		{"a:r1 b:r1! c:r1", "c", true},
		{"a:r1 b:r1! c:r1!", "", false},
		{"a:r1 b:r1 c:r1 d:r1", "bc bd cd", true},
		{"a:r1 b:r1 c:r1 d:r2", "bd cd", true},          // one elsewhere is not enough: the own rack counts
		{"a:r1 b:r1 c:r2 d:r2", "cd", true},             // two elsewhere, in one rack
		{"a:r1 b:r1 c:r2 d:r2 e:r2", "cd ce de", true},  // any two of that rack
		{"a:r1 b:r2 c:r3", "bc", true},                  //
		{"a:r1 b:r2 c:r2 d:r3", "bd cd", true},          // two racks, one of each
		{"a:r1 b:r2 c:r3 d:r4", "bc bd cd", true},       //
		{"a:r1 b:r1 c:r2 d:r3!", "bc", true},            // with one dead two are left
		{"a:r1 b:r1 c:r1 d:r2 e:r3!", "bd cd", true},    //
		{"a:r1 b:r1 c:r2 d:r2! e:r3", "ce", true},       //
		{"a:r1 b:r1! c:r2! d:r3!", "", false},           //
		{"a:r1 b:r1! c:r2! d:r3", "d", true},            //
		{"a:r1 b:r1 c:r1 d:r2! e:r2!", "bc", true},      // the own rack alone
		{"a:r1 b:r1 c:r1 d:r1 e:r2!", "bc bd cd", true}, //
		{"a:r1 b:r2 c:r2 d:r2 e:r2", "bc bd be cd ce de", true},
	} {
		seen := map[string]bool{}
		for seed := range uint64(400) {
			got, enough := Choose(ring.HostID{'a'}, "r1", topology(x.nodes), seeded(seed))
			if enough != x.enough {
				t.Errorf("%s: enough is %t", x.nodes, enough)
			}
			seen[names(got)] = true
		}
		var all []string
		for s := range seen {
			all = append(all, s)
		}
		slices.Sort(all)
		if got := strings.Join(all, " "); got != x.want {
			t.Errorf("%s: %s, want %s", x.nodes, got, x.want)
		}
	}
}

// legal says by the rules alone whether an answer may be given.
func legal(rack string, nodes []Node, chosen []ring.HostID, enough bool) error {
	self := ring.HostID{'a'}
	node := func(id ring.HostID) Node {
		return nodes[slices.IndexFunc(nodes, func(n Node) bool { return n.ID == id })]
	}
	able, elsewhere := map[ring.HostID]bool{}, map[ring.HostID]bool{}
	racks, racksElsewhere := map[string]bool{}, map[string]bool{}
	for _, n := range nodes {
		if n.Alive && (n.ID != self || len(nodes) <= 2) {
			able[n.ID], racks[n.Rack] = true, true
			if n.Rack != rack {
				elsewhere[n.ID], racksElsewhere[n.Rack] = true, true
			}
		}
	}
	for i, id := range chosen {
		if !able[id] || slices.Contains(chosen[:i], id) {
			return fmt.Errorf("%c is dead, or this node, or chosen twice", id[0])
		}
	}
	switch {
	case len(chosen) != min(2, len(able)):
		return fmt.Errorf("%d chosen of %d", len(chosen), len(able))
	case len(nodes) <= 2 && enough != (len(able) == len(nodes)), len(nodes) > 2 && enough != (len(able) > 0):
		return fmt.Errorf("enough: %t", enough)
	case len(able) <= 2:
		return nil
	}
	a, b := node(chosen[0]), node(chosen[1])
	switch {
	case len(elsewhere) >= 2 && (a.Rack == rack || b.Rack == rack):
		return fmt.Errorf("the own rack, though there are others")
	case len(elsewhere) >= 2 && len(racksElsewhere) > 1 && a.Rack == b.Rack, len(elsewhere) < 2 && len(racks) > 1 && a.Rack == b.Rack:
		return fmt.Errorf("one rack, though there are two")
	}
	return nil
}

// TestChooseIsLegal: random data centres against the rules; and the same arguments give the same answer.
func TestChooseIsLegal(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	for round := range 20_000 {
		nodes := []Node{{ID: ring.HostID{'a'}, Rack: "r0", Alive: true}}
		for i := range random.IntN(9) {
			nodes = append(nodes, Node{ID: ring.HostID{byte('b' + i)}, Rack: fmt.Sprint("r", random.IntN(4)), Alive: random.IntN(3) > 0})
		}
		random.Shuffle(len(nodes), func(i, j int) { nodes[i], nodes[j] = nodes[j], nodes[i] })
		before := slices.Clone(nodes)
		chosen, enough := Choose(ring.HostID{'a'}, "r0", nodes, seeded(uint64(round)))
		again, _ := Choose(ring.HostID{'a'}, "r0", nodes, seeded(uint64(round)))
		if err := legal("r0", nodes, chosen, enough); err != nil || !slices.Equal(chosen, again) || !slices.Equal(before, nodes) {
			t.Fatalf("%+v\nchosen %s, again %s: %v", nodes, names(chosen), names(again), err)
		}
	}
}

// TestChooseIsFair: racks count alike, and the nodes of a rack too.
func TestChooseIsFair(t *testing.T) {
	nodes := topology("a:r1 b:r2 c:r3 d:r3 e:r4 f:r4 g:r4")
	count := map[byte]int{}
	random := seeded(5)
	const rounds = 60_000
	for range rounds {
		chosen, _ := Choose(ring.HostID{'a'}, "r1", nodes, random)
		for _, id := range chosen {
			count[id[0]]++
		}
	}
	for _, n := range nodes[1:] {
		members := 0
		for _, o := range nodes {
			if o.Rack == n.Rack {
				members++
			}
		}
		want := rounds * 2 / 3 / members
		if got := count[n.ID[0]]; got < want*95/100 || got > want*105/100 {
			t.Errorf("%c was chosen %d times, want about %d", n.ID[0], got, want)
		}
	}
}
