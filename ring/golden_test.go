package ring

import (
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"os"
	"slices"
	"strconv"
	"testing"
)

// numbers are tokens as JSON strings, because JSON numbers lose the low bits.
func token(t *testing.T, s string) Token {
	t.Helper()
	v, err := ParseToken(s)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func readJSON(t *testing.T, name string, into any) {
	t.Helper()
	b, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, into); err != nil {
		t.Fatal(err)
	}
}

func TestMurmur3TokensAreTheDriversTokens(t *testing.T) {
	var vectors [][2]string
	readJSON(t, "murmur3.json", &vectors)
	tails := map[int]bool{}
	for _, v := range vectors {
		key, err := hex.DecodeString(v[0])
		if err != nil {
			t.Fatal(err)
		}
		tails[len(key)%16] = true
		h1, _ := Murmur3Hash(key)
		if got := strconv.FormatInt(h1, 10); got != v[1] {
			t.Errorf("hash of %s is %s, the driver's is %s", v[0], got, v[1])
		}
	}
	if len(vectors) < 200 || len(tails) != 16 {
		t.Fatalf("%d vectors with %d of 16 tail lengths", len(vectors), len(tails))
	}
}

type placementCase struct {
	Nodes []struct {
		DC, Rack string
		Tokens   []string
	}
	Strategies []struct {
		Options  map[string]string
		Replicas [][]int
		Probes   []probe
	}
}

type probe struct {
	token    string
	replicas []int
}

func (p *probe) UnmarshalJSON(b []byte) error {
	return json.Unmarshal(b, &[2]any{&p.token, &p.replicas})
}

// hostID numbers nodes from 0; the order of ids is the order of numbers.
func hostID(n int) (id HostID) {
	binary.BigEndian.PutUint32(id[:], uint32(n))
	id[15] = 1
	return id
}

func numbers(replicas []int32) []int {
	out := make([]int, len(replicas))
	for i, n := range replicas {
		out[i] = int(n)
	}
	return out
}

// The Python driver groups replicas by data centre and lists second nodes of a rack last, so its order differs from
// Cassandra's beyond the first of each data centre: the sets per data centre and the first of each must agree, and for
// SimpleStrategy the whole list. The driver also lists a node twice when it skipped two of its tokens; such a list may
// miss a node that Cassandra has.
func TestPlacementIsTheDriversPlacement(t *testing.T) {
	var cases []placementCase
	readJSON(t, "placement.json", &cases)
	compared := 0
	for i, c := range cases {
		nodes := make([]Node, len(c.Nodes))
		for j, n := range c.Nodes {
			nodes[j] = Node{ID: hostID(j), DC: n.DC, Rack: n.Rack}
			for _, s := range n.Tokens {
				nodes[j].Tokens = append(nodes[j].Tokens, token(t, s))
			}
		}
		r := mustRing(t, nodes)
		for _, want := range c.Strategies {
			s, err := ParseStrategy(want.Options, nil)
			if err != nil {
				t.Fatal(err)
			}
			p := r.Placement(s)
			for j := range r.Tokens() {
				checkLikeDriver(t, r, s, numbers(p.SegmentReplicas(j)), want.Replicas[j])
				compared++
			}
			for _, probe := range want.Probes {
				checkLikeDriver(t, r, s, numbers(p.Replicas(token(t, probe.token))), probe.replicas)
			}
			if t.Failed() {
				t.Fatalf("case %d, %s", i, s)
			}
		}
	}
	if compared < 3000 {
		t.Fatalf("only %d segments compared", compared)
	}
}

func checkLikeDriver(t *testing.T, r *Ring, s Strategy, got, driver []int) {
	t.Helper()
	if s.Class == SimpleStrategy {
		if !slices.Equal(got, driver) {
			t.Errorf("replicas %v, the driver has %v", got, driver)
		}
		return
	}
	for _, dc := range r.DCs() {
		in := func(all []int) (out []int) {
			for _, n := range all {
				if r.Nodes()[n].DC == dc {
					out = append(out, n)
				}
			}
			return out
		}
		g, d := in(got), in(driver)
		if (len(g) == 0) != (len(d) == 0) || len(g) > 0 && g[0] != d[0] {
			t.Errorf("%s: first of %v, the driver has %v", dc, g, d)
		}
		if len(g) == 0 || len(d) == 0 {
			continue
		}
		repeated := sortUnique(&d)
		sortUnique(&g)
		missing := slices.DeleteFunc(slices.Clone(d), func(n int) bool { return slices.Contains(g, n) })
		if len(missing) > 0 || !repeated && len(g) != len(d) {
			t.Errorf("%s: replica set %v, the driver has %v", dc, g, d)
		}
	}
}

func sortUnique(s *[]int) (repeated bool) {
	n := len(*s)
	slices.Sort(*s)
	*s = slices.Compact(*s)
	return len(*s) != n
}

func mustRing(t testing.TB, nodes []Node) *Ring {
	t.Helper()
	r, err := New(nodes, Murmur3{})
	if err != nil {
		t.Fatal(err)
	}
	return r
}
