package ring

import (
	"bytes"
	"errors"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
)

func TestTokenEdges(t *testing.T) {
	for _, p := range []Partitioner{Murmur3{}, XXHash{}} {
		if got := p.Token(nil); got != MinToken {
			t.Errorf("%s: the empty key has token %d", p.Name(), got)
		}
		if again, ok := PartitionerByName(p.Name()); !ok || again != p {
			t.Errorf("PartitionerByName(%q) = %v, %v", p.Name(), again, ok)
		}
	}
	if normalize(1<<63) != MaxToken || normalize(1<<63+1) != MinToken+1 {
		t.Error("only MinInt64 moves to MaxInt64")
	}
	if _, ok := PartitionerByName("org.apache.cassandra.dht.ByteOrderedPartitioner"); ok {
		t.Error("ByteOrderedPartitioner is accepted")
	}
	if p, ok := PartitionerByName("Murmur3Partitioner"); !ok || p != (Murmur3{}) {
		t.Error("short name is not accepted")
	}
	if _, err := ParseToken("9223372036854775808"); err == nil {
		t.Error("token beyond 64 bits is accepted")
	}
}

// naive membership: count steps around the ring in 128-bit-free arithmetic.
func naiveContains(r Range, t Token) bool {
	if r.Start == r.End {
		return true
	}
	return uint64(t)-uint64(r.Start)-1 < uint64(r.End)-uint64(r.Start)
}

// smallToken draws from few values near the edges so that coincidences happen.
func smallToken(rng *rand.Rand) Token {
	switch rng.IntN(3) {
	case 0:
		return MinToken + Token(rng.IntN(4))
	case 1:
		return MaxToken - Token(rng.IntN(4))
	}
	return Token(rng.IntN(8) - 4)
}

func edgeTokens() (out []Token) {
	for i := Token(0); i < 6; i++ {
		out = append(out, MinToken+i, MaxToken-i, i, -i)
	}
	return out
}

func anyContains(rs []Range, t Token) bool {
	return slices.ContainsFunc(rs, func(r Range) bool { return r.Contains(t) })
}

func TestRangeSetOperations(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 7))
	random := func() []Range {
		out := make([]Range, rng.IntN(4))
		for i := range out {
			out[i] = Range{smallToken(rng), smallToken(rng)}
		}
		return out
	}
	for range 3000 {
		a, b := random(), random()
		norm, both, less := Normalize(a), Intersect(a, b), Subtract(a, b)
		for _, at := range edgeTokens() {
			inA, inB := anyContains(a, at), anyContains(b, at)
			if anyContains(norm, at) != inA {
				t.Fatalf("Normalize(%v) = %v is wrong at %d", a, norm, at)
			}
			if anyContains(both, at) != (inA && inB) {
				t.Fatalf("Intersect(%v, %v) = %v is wrong at %d", a, b, both, at)
			}
			if anyContains(less, at) != (inA && !inB) {
				t.Fatalf("Subtract(%v, %v) = %v is wrong at %d", a, b, less, at)
			}
		}
		if !slices.Equal(Normalize(norm), norm) {
			t.Fatalf("Normalize is not idempotent: %v, %v", norm, Normalize(norm))
		}
	}
}

func TestRangeContains(t *testing.T) {
	rng := rand.New(rand.NewPCG(8, 8))
	for range 3000 {
		r, o := Range{smallToken(rng), smallToken(rng)}, Range{smallToken(rng), smallToken(rng)}
		for _, at := range edgeTokens() {
			if r.Contains(at) != naiveContains(r, at) {
				t.Fatalf("%s contains %d: %v", r, at, r.Contains(at))
			}
			if anyContains(r.Unwrap(), at) != r.Contains(at) {
				t.Fatalf("%s unwraps to %v, wrong at %d", r, r.Unwrap(), at)
			}
			checkSplitAt(t, r, at)
		}
		if r.Intersects(o) != (len(r.Intersect(o)) > 0) {
			t.Fatalf("%s intersects %s: %v", r, o, r.Intersects(o))
		}
		if r.ContainsRange(o) != (len(o.Subtract(r)) == 0) {
			t.Fatalf("%s contains %s: %v", r, o, r.ContainsRange(o))
		}
	}
}

func checkSplitAt(t *testing.T, r Range, at Token) {
	t.Helper()
	left, right, ok := r.SplitAt(at)
	if ok != (r.Contains(at) && at != r.End) {
		t.Fatalf("%s splits at %d: %v", r, at, ok)
	}
	if !ok {
		return
	}
	if left.Intersects(right) || !slices.Equal(Normalize([]Range{left, right}), Normalize([]Range{r})) {
		t.Fatalf("%s at %d splits into %s and %s", r, at, left, right)
	}
}

func TestRangeSplitIsEvenAndExact(t *testing.T) {
	for _, r := range []Range{{0, 1}, {0, 10}, {MaxToken - 3, MinToken + 3}, {5, 5}, FullRange(), {100, -100}, {MinToken, 0}} {
		for _, n := range []int{0, 1, 2, 3, 7, 16} {
			parts := r.Split(n)
			if parts[0].Start != r.Start || parts[len(parts)-1].End != r.End {
				t.Fatalf("%s in %d: %v", r, n, parts)
			}
			lo, hi := parts[0].Size(), parts[0].Size()
			for i, p := range parts {
				if i > 0 && p.Start != parts[i-1].End {
					t.Fatalf("%s in %d: gap in %v", r, n, parts)
				}
				lo, hi = min(lo, p.Size()), max(hi, p.Size())
			}
			if len(parts) > 1 && (lo == 0 || hi-lo > 1) {
				t.Fatalf("%s in %d: sizes %d to %d", r, n, lo, hi)
			}
			if want := min(uint64(max(n, 1)), r.Size()); r.Size() != 0 && uint64(len(parts)) != want {
				t.Fatalf("%s in %d gives %d parts", r, n, len(parts))
			}
		}
	}
}

func TestRangeIntervals(t *testing.T) {
	for _, c := range []struct {
		r    Range
		want []Interval
	}{
		{FullRange(), []Interval{{MinToken, MaxToken}}},
		{Range{3, 3}, []Interval{{MinToken, MaxToken}}},
		{Range{1, 5}, []Interval{{2, 5}}},
		{Range{5, 1}, []Interval{{MinToken, 1}, {6, MaxToken}}},
		{Range{MaxToken, 1}, []Interval{{MinToken, 1}}},
		{Range{5, MinToken}, []Interval{{MinToken, MinToken}, {6, MaxToken}}},
		{Range{MinToken, MaxToken}, []Interval{{MinToken + 1, MaxToken}}},
	} {
		if got := c.r.Intervals(nil); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", c.r, got, c.want)
		}
	}
	if got := (Range{5, -1}).String(); got != "(5,-1]" {
		t.Error(got)
	}
}

func TestCompositeKeyRoundTrip(t *testing.T) {
	long := bytes.Repeat([]byte{7}, ComponentBytesMax)
	for _, c := range [][][]byte{{{1, 2, 3}}, {{}}, {{1}, {}}, {{}, {}, {0, 0}}, {long, {0xff}}} {
		key := AppendCompositeKey([]byte("x"), c)[1:]
		got, err := SplitCompositeKey(nil, key, len(c))
		if err != nil || !slices.EqualFunc(got, c, bytes.Equal) {
			t.Errorf("%v -> %v -> %v, %v", c, key, got, err)
		}
	}
	if got := AppendCompositeKey(nil, [][]byte{[]byte("ab"), {9}}); !bytes.Equal(got, []byte{0, 2, 'a', 'b', 0, 0, 1, 9, 0}) {
		t.Errorf("encoding %v", got)
	}
	for _, bad := range [][]byte{{}, {0}, {0, 1}, {0, 1, 5}, {0, 1, 5, 1}, {0, 0, 0, 0, 0, 0, 9}, {0, 0, 0}} {
		if _, err := SplitCompositeKey(nil, bad, 2); !errors.Is(err, ErrBadKey) {
			t.Errorf("%v: %v", bad, err)
		}
	}
	if err := CheckKeyComponents([][]byte{append(long, 1)}); !errors.Is(err, ErrKeyTooLong) {
		t.Error(err)
	}
}

func FuzzSplitCompositeKey(f *testing.F) {
	f.Add([]byte{0, 1, 5, 0, 0, 0, 0}, 2)
	f.Add([]byte{0xff, 0xff, 5, 0}, 3)
	f.Fuzz(func(t *testing.T, key []byte, n int) {
		if n < 2 || n > 8 {
			return
		}
		parts, err := SplitCompositeKey(nil, key, n)
		if err == nil && !bytes.Equal(AppendCompositeKey(nil, parts), key) {
			t.Fatalf("%v splits into %v", key, parts)
		}
	})
}

func TestHostID(t *testing.T) {
	const text = "00112233-4455-6677-8899-aabbccddeeff"
	id, err := ParseHostID(text)
	if err != nil || id.String() != text || id.IsZero() || id[15] != 0xff {
		t.Fatalf("%s, %v", id, err)
	}
	if up, err := ParseHostID("00112233-4455-6677-8899-AABBCCDDEEFF"); err != nil || up.Compare(id) != 0 {
		t.Error("upper case is refused")
	}
	for _, bad := range []string{"", text[1:], text + "0", "0011223344556677-8899-aabb-ccddeeffxx", "0011223g-4455-6677-8899-aabbccddeeff"} {
		if _, err := ParseHostID(bad); err == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
}

// Each text and result here was seen from Cassandra 5.0.8 (with other data centre names).
func TestParseStrategy(t *testing.T) {
	type m = map[string]string
	dcs := []string{"dc1", "dc2"}
	for _, c := range []struct {
		name     string
		in, prev m
		want     string // Strategy.String, or the error's text
		invalid  bool
	}{
		{name: "simple", in: m{"class": "SimpleStrategy", "replication_factor": "3"}, want: "SimpleStrategy{3}"},
		{name: "full name", in: m{"class": "org.apache.cassandra.locator.SimpleStrategy", "replication_factor": "2"}, want: "SimpleStrategy{2}"},
		{name: "default factor", in: m{"class": "SimpleStrategy"}, want: "SimpleStrategy{1}"},
		{name: "simple keeps factor", in: m{"class": "SimpleStrategy"}, prev: m{"class": "x", "replication_factor": "4"}, want: "SimpleStrategy{4}"},
		{name: "network", in: m{"class": "NetworkTopologyStrategy", "dc2": "2", "dc1": "3"}, want: "NetworkTopologyStrategy{dc1:3 dc2:2}"},
		{name: "expansion", in: m{"class": "NetworkTopologyStrategy", "replication_factor": "3"}, want: "NetworkTopologyStrategy{dc1:3 dc2:3}"},
		{name: "expansion with exception", in: m{"class": "NetworkTopologyStrategy", "replication_factor": "3", "dc2": "1"},
			want: "NetworkTopologyStrategy{dc1:3 dc2:1}"},
		{name: "expansion without one", in: m{"class": "NetworkTopologyStrategy", "replication_factor": "3", "dc2": "0"}, want: "NetworkTopologyStrategy{dc1:3}"},
		{name: "expansion only adds", in: m{"class": "NetworkTopologyStrategy", "replication_factor": "3"}, prev: m{"class": "NetworkTopologyStrategy", "dc1": "1"},
			want: "NetworkTopologyStrategy{dc1:1 dc2:3}"},
		{name: "from simple", in: m{"class": "NetworkTopologyStrategy"}, prev: m{"class": "SimpleStrategy", "replication_factor": "2"},
			want: "NetworkTopologyStrategy{dc1:2 dc2:2}"},
		{name: "class alone", in: m{"class": "NetworkTopologyStrategy"}, want: "NetworkTopologyStrategy{dc1:1 dc2:1}"},
		{name: "local", in: m{"class": "LocalStrategy"}, want: "LocalStrategy"},
		{name: "no class", in: m{"replication_factor": "3"}, want: "Missing replication strategy class"},
		{name: "empty class", in: m{"class": ""}, want: "Unable to find replication strategy class 'org.apache.cassandra.locator.'"},
		{name: "class in lower case", in: m{"class": "simplestrategy"}, want: "Unable to find replication strategy class 'org.apache.cassandra.locator.simplestrategy'"},
		{name: "expansion of no number", in: m{"class": "NetworkTopologyStrategy", "replication_factor": "x"},
			want: "Configuration for at least one datacenter must be present"},
		{name: "expansion of a negative", in: m{"class": "NetworkTopologyStrategy", "replication_factor": "-1"},
			want: "Configuration for at least one datacenter must be present"},
		{name: "transient expansion", in: m{"class": "NetworkTopologyStrategy", "replication_factor": "3/1"},
			want: "Configuration for at least one datacenter must be present"},
		{name: "expansion to none", in: m{"class": "NetworkTopologyStrategy", "replication_factor": "0"},
			want: "Configuration for at least one datacenter must be present"},
		{name: "number before name", in: m{"class": "NetworkTopologyStrategy", "nodc": "x"}, want: `For input string: "x"`},
		{name: "network alone again", in: m{"class": "NetworkTopologyStrategy"}, prev: m{"class": "NetworkTopologyStrategy", "dc1": "2", "dc2": "1"},
			want: "NetworkTopologyStrategy{dc1:2 dc2:1}"},
		{name: "network to simple", in: m{"class": "SimpleStrategy"}, prev: m{"class": "NetworkTopologyStrategy", "dc1": "2"}, want: "SimpleStrategy{1}"},
		{name: "not transient", in: m{"class": "SimpleStrategy", "replication_factor": "3/0"}, want: "SimpleStrategy{3}"},
		{name: "bad transient", in: m{"class": "SimpleStrategy", "replication_factor": "3/x"}, want: `For input string: "x"`},
		{name: "plus", in: m{"class": "SimpleStrategy", "replication_factor": "+2"}, want: "SimpleStrategy{2}"},
		{name: "zero", in: m{"class": "SimpleStrategy", "replication_factor": "0"}, want: "SimpleStrategy{0}"},
		{name: "too big", in: m{"class": "SimpleStrategy", "replication_factor": "99999999999"}, want: `For input string: "99999999999"`},
		{name: "unknown class", in: m{"class": "Foo"}, want: "Unable to find replication strategy class 'org.apache.cassandra.locator.Foo'"},
		{name: "unknown full class", in: m{"class": "a.Foo"}, want: "Unable to find replication strategy class 'a.Foo'"},
		{name: "old", in: m{"class": "OldNetworkTopologyStrategy"},
			want: "The support for the OldNetworkTopologyStrategy has been removed in C* version 4.0. The keyspace strategy should be switch to NetworkTopologyStrategy"},
		{name: "unknown dc", in: m{"class": "NetworkTopologyStrategy", "nodc": "1"},
			want: "Unrecognized strategy option {nodc} passed to NetworkTopologyStrategy for keyspace ks"},
		{name: "dc in simple", in: m{"class": "SimpleStrategy", "replication_factor": "1", "dc1": "1"},
			want: "Unrecognized strategy option {dc1} passed to SimpleStrategy for keyspace ks"},
		{name: "local with option", in: m{"class": "LocalStrategy", "x": "1"}, invalid: true,
			want: "Unable to use given strategy class: LocalStrategy is reserved for internal use."},
		{name: "all zero", in: m{"class": "NetworkTopologyStrategy", "dc1": "0"}, want: "Configuration for at least one datacenter must be present"},
		{name: "not a number", in: m{"class": "SimpleStrategy", "replication_factor": "abc"}, want: `For input string: "abc"`},
		{name: "not a number in dc", in: m{"class": "NetworkTopologyStrategy", "dc1": ""}, want: `For input string: ""`},
		{name: "negative", in: m{"class": "SimpleStrategy", "replication_factor": "-1"}, want: "Replication factor must be non-negative, found -1"},
		{name: "transient", in: m{"class": "NetworkTopologyStrategy", "dc1": "3/1"}, want: "Transient replication is not enabled on this node"},
		{name: "two slashes", in: m{"class": "SimpleStrategy", "replication_factor": "3/1/1"},
			want: "Replication factor format is <replicas> or <replicas>/<transient>"},
		{name: "case", in: m{"class": "NetworkTopologyStrategy", "Replication_Factor": "3"},
			want: "replication_factor should not appear as an option at construction time for NetworkTopologyStrategy"},
	} {
		t.Run(c.name, func(t *testing.T) {
			in, prev := maps.Clone(c.in), maps.Clone(c.prev)
			s, err := StrategyRequest{Keyspace: "ks", Options: c.in, Previous: c.prev, DCs: dcs}.Parse()
			got := s.String()
			if err != nil {
				got = err.Error()
				var se *StrategyError
				if !errors.As(err, &se) || se.Invalid != c.invalid {
					t.Errorf("error %#v", err)
				}
			}
			if got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
			if !maps.Equal(in, c.in) || !maps.Equal(prev, c.prev) {
				t.Error("the arguments were changed")
			}
			if err == nil {
				if again, err := ParseStrategy(s.Options(), nil); err != nil || !again.Equal(s) {
					t.Errorf("options %v parse to %s, %v", s.Options(), again, err)
				}
			}
		})
	}
}

func TestStrategyFactorsAndWarnings(t *testing.T) {
	r := mustRing(t, []Node{{ID: hostID(1), DC: "dc1", Rack: "r", Tokens: []Token{1}}, {ID: hostID(2), DC: "dc1", Rack: "r", Tokens: []Token{2}}})
	n := network(DCReplication{"dc1", 3}, DCReplication{"dc9", 2})
	if n.Factor() != 5 || n.FactorIn("dc9") != 2 || n.FactorIn("x") != 0 || simple(4).FactorIn("x") != 4 || simple(4).Factor() != 4 {
		t.Error("factors")
	}
	if got := n.Warnings("k", r); !slices.Equal(got, []string{"Your replication factor 3 for keyspace k is higher than the number of nodes 2 for datacenter dc1"}) {
		t.Error(got)
	}
	if got := simple(3).Warnings("k", r); !slices.Equal(got, []string{"Your replication factor 3 for keyspace k is higher than the number of nodes 2"}) {
		t.Error(got)
	}
	if got := simple(2).Warnings("k", r); got != nil {
		t.Error(got)
	}
}
