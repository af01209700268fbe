package history

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"

	"github.com/helenusdb/helenus/ring"
	"github.com/helenusdb/helenus/schema"
)

// The tokens that the model knows, the first and the last of all among them.
const modelTokens = 24

func modelToken(i int) ring.Token {
	if i < modelTokens/2 {
		return ring.MinToken + ring.Token(i)
	}
	return ring.MaxToken - ring.Token(modelTokens-1-i)
}

func host(n int) ring.HostID { return ring.HostID{15: byte(n)} }

// random returns an entry between two tokens of the model. One from the lower to the upper half has all tokens between them too.
func random(rng *rand.Rand) (e Entry, from, to int) {
	from = rng.IntN(modelTokens)
	to = from + rng.IntN(modelTokens-from)
	e = Entry{Tokens: ring.Interval{First: modelToken(from), Last: modelToken(to)}, At: int64(rng.IntN(5)), Before: int64(rng.IntN(5))}
	if rng.IntN(4) == 0 {
		e.Before = None
	}
	for i := range 4 {
		if rng.IntN(2) == 0 {
			e.Replicas = append(e.Replicas, host(i))
		}
	}
	return e, from, to
}

func check(t *testing.T, m *Map) {
	t.Helper()
	for i, e := range m.entries {
		if e.Tokens.First > e.Tokens.Last {
			t.Fatalf("an interval ends before it begins: %v", e)
		}
		if i == 0 {
			continue
		}
		if before := m.entries[i-1]; before.Tokens.Last >= e.Tokens.First || touch(&before, &e) && before.same(&e) {
			t.Fatalf("%v and %v are neighbours", before, e)
		}
	}
}

// TestMap_AsPerToken: a map says of each token what a list of what came says of it alone, however intervals were cut.
func TestMap_AsPerToken(t *testing.T) {
	for seed := range uint64(400) {
		rng := rand.New(rand.NewPCG(seed, 1))
		m, model := &Map{}, make([]Entry, modelTokens)
		for i := range model {
			model[i] = Entry{At: None, Before: None}
		}
		for range 30 {
			e, from, to := random(rng)
			m = m.Put(e)
			check(t, m)
			for i := from; i <= to; i++ {
				next := e
				if model[i].Covers(e.Replicas) {
					next.At, next.Before = max(e.At, model[i].At), max(e.Before, model[i].Before)
				}
				model[i] = next
			}
			for i := range model {
				got, _ := m.Lookup(modelToken(i))
				if !got.same(&model[i]) {
					t.Fatalf("seed %d: token %d: %+v instead of %+v", seed, modelToken(i), got, model[i])
				}
			}
			visited(t, m, rng)
		}
	}
}

// visited: the parts of an interval are all of it, in order, and say what Lookup says.
func visited(t *testing.T, m *Map, rng *rand.Rand) {
	t.Helper()
	e, _, _ := random(rng)
	next, ended := e.Tokens.First, false
	m.Visit(e.Tokens, func(part Entry) {
		if ended || part.Tokens.First != next || part.Tokens.Last < next || part.Tokens.Last > e.Tokens.Last {
			t.Fatalf("%v of %v, wanted from %d on", part.Tokens, e.Tokens, next)
		}
		for _, at := range []ring.Token{part.Tokens.First, part.Tokens.Last} {
			if got, _ := m.Lookup(at); !got.same(&part) {
				t.Fatalf("token %d: %+v and %+v", at, got, part)
			}
		}
		ended = part.Tokens.Last == e.Tokens.Last
		next = part.Tokens.Last + 1
	})
	if !ended {
		t.Fatalf("%v was not visited to its end", e.Tokens)
	}
}

// TestMap_Bounded: beyond its bound a map gets coarser, and never says more than was put.
func TestMap_Bounded(t *testing.T) {
	for seed := range uint64(200) {
		rng := rand.New(rand.NewPCG(seed, 2))
		exact := &Map{}
		for range 20 {
			e, _, _ := random(rng)
			exact = exact.Put(e)
		}
		for coarse := slices.Clone(exact.entries); len(coarse) > 0; {
			n := len(coarse)
			if coarse = coarser(coarse); len(coarse) != n-1 {
				t.Fatalf("seed %d: %d entries of %d", seed, len(coarse), n)
			}
			m := &Map{coarse}
			for i := range modelTokens {
				got, ok := m.Lookup(modelToken(i))
				if want, _ := exact.Lookup(modelToken(i)); ok && (got.At > want.At || got.Before > want.Before || !subset(got.Replicas, want.Replicas)) {
					t.Fatalf("seed %d: token %d: %+v says more than %+v", seed, modelToken(i), got, want)
				}
			}
		}
	}
	m := &Map{}
	for i := range ring.Token(entriesMax + 10) {
		m = m.Put(Entry{Tokens: ring.Interval{First: 10 * i, Last: 10*i + 9}, At: int64(i % 7), Before: int64(i % 5), Replicas: []ring.HostID{host(1)}})
	}
	if n := len(m.entries); n > entriesMax {
		t.Errorf("%d entries", n)
	}
}

// TestBound is the table of what may be purged.
func TestBound(t *testing.T) {
	const now = 1_000_000_000
	for name, c := range map[string]struct {
		terms Terms
		want  int64
	}{
		"timeout":                         {Terms{Mode: schema.TombstoneGCTimeout, Grace: 100, Replicas: 3, Before: now}, now - 100},
		"immediate":                       {Terms{Mode: schema.TombstoneGCImmediate, Grace: 100, Replicas: 3, Before: None}, now},
		"disabled":                        {Terms{Mode: schema.TombstoneGCDisabled, Grace: 100, Replicas: 3, Before: now}, None},
		"disabled, one replica":           {Terms{Mode: schema.TombstoneGCDisabled, Replicas: 1, Before: None}, None},
		"repair, never":                   {Terms{Grace: 100, Replicas: 3, Before: None}, None},
		"repair, never, one replica":      {Terms{Grace: 100, Replicas: 1, Before: None}, now - 100},
		"repair":                          {Terms{Grace: 10, Delay: 3600, Replicas: 3, Before: now - 1000}, now - 4600},
		"repair, no delay":                {Terms{Grace: 10, Replicas: 2, Before: now - 1000}, now - 1000 - SkewMax},
		"repair, clock behind":            {Terms{Grace: 10, Replicas: 2, Before: now + 1000}, now},
		"repair, commits again":           {Terms{Grace: 864000, Replicas: 2, Before: now - 1000, Again: true}, now - 1000 - SkewMax},
		"repair, never, commits again":    {Terms{Grace: 864000, Replicas: 2, Before: None, Again: true}, None},
		"immediate, commits again":        {Terms{Mode: schema.TombstoneGCImmediate, Grace: 100, Before: None, Again: true}, now - 3*60*60},
		"immediate, commits again, grace": {Terms{Mode: schema.TombstoneGCImmediate, Grace: 864000, Before: None, Again: true}, now - 864000},
	} {
		if got := Bound(now, &c.terms); got != c.want {
			t.Errorf("%s: %d instead of %d", name, got, c.want)
		}
	}
}

// TestTermsOf: what a table says is what counts.
func TestTermsOf(t *testing.T) {
	o := schema.DefaultTableOptions()
	if got := TermsOf(&o); got != (Terms{Mode: schema.TombstoneGCRepair, Grace: 864000, Delay: 3600, Before: None}) {
		t.Errorf("the default: %+v", got)
	}
	for text, want := range map[string]Terms{
		"timeout":       {Mode: schema.TombstoneGCTimeout, Grace: 864000, Delay: 3600, Before: None},
		"repair:5":      {Mode: schema.TombstoneGCRepair, Grace: 864000, Delay: 5, Before: None},
		"of the future": {Mode: schema.TombstoneGCDisabled, Grace: 864000, Delay: 3600, Before: None},
	} {
		o.Extensions = []schema.Extension{{Name: schema.ExtensionTombstoneGC, Value: []byte(text)}}
		if got := TermsOf(&o); got != want {
			t.Errorf("%s: %+v", text, got)
		}
	}
}

// memory is a store in a map.
type memory struct {
	records map[string][]byte
	err     error
}

func (m *memory) Scan(start, end []byte, fn func(key, value []byte) bool) error {
	for _, k := range slices.Sorted(maps.Keys(m.records)) {
		if k >= string(start) && k < string(end) && !fn([]byte(k), m.records[k]) {
			break
		}
	}
	return nil
}

func (m *memory) Commit(_ context.Context, changes []Write) error {
	if m.err != nil {
		return m.err
	}
	for i, w := range changes {
		if i > 0 && bytes.Compare(changes[i-1].Key, w.Key) >= 0 {
			return errors.New("keys out of order")
		}
		if w.Value == nil {
			delete(m.records, string(w.Key))
		} else {
			m.records[string(w.Key)] = w.Value
		}
	}
	return nil
}

// TestBook: what is in the book is in the store, for the next that opens it; what the store refuses is in neither.
func TestBook(t *testing.T) {
	for seed := range uint64(60) {
		rng := rand.New(rand.NewPCG(seed, 3))
		store := &memory{records: map[string][]byte{"clock": {1}, "repairee": {2}}}
		b, err := Open(store)
		if err != nil {
			t.Fatal(err)
		}
		want := map[schema.Generation]*Map{}
		for range 40 {
			e, _, _ := random(rng)
			gen := schema.Generation(rng.IntN(3))
			store.err = nil
			switch {
			case rng.IntN(8) == 0:
				if err := b.Forget(t.Context(), gen); err != nil {
					t.Fatal(err)
				}
				delete(want, gen)
			case rng.IntN(8) == 0:
				store.err = errors.New("full")
				if err := b.Put(t.Context(), gen, e); err != nil && !errors.Is(err, store.err) {
					t.Fatal(err)
				} else if err == nil { // nothing new
					want[gen] = b.Table(gen)
				}
			default:
				slices.Reverse(e.Replicas)
				if err := b.Put(t.Context(), gen, e); err != nil {
					t.Fatal(err)
				}
				slices.Reverse(e.Replicas)
				if want[gen] == nil {
					want[gen] = &Map{}
				}
				want[gen] = want[gen].Put(e)
			}
			again, err := Open(store)
			if err != nil || again.Damaged != 0 {
				t.Fatal(err, again.Damaged)
			}
			if !slices.Equal(again.Generations(), b.Generations()) {
				t.Fatalf("seed %d: %v and %v", seed, again.Generations(), b.Generations())
			}
			for gen := range schema.Generation(3) {
				w := want[gen]
				if w == nil {
					w = &Map{}
				}
				for _, got := range []*Map{b.Table(gen), again.Table(gen)} {
					if !equal(got, w) {
						t.Fatalf("seed %d: %+v instead of %+v", seed, got, w)
					}
				}
			}
		}
	}
}

func equal(a, b *Map) bool {
	return slices.EqualFunc(a.entries, b.entries, func(x, y Entry) bool { return x.Tokens == y.Tokens && x.same(&y) })
}

// TestRecord: the bytes are those of docs/format/storage-keys.md; what is damaged, or overlaps, is left out and counted.
func TestRecord(t *testing.T) {
	e := Entry{Tokens: ring.Interval{First: -5, Last: 7}, At: 1_000_000, Before: 999_000, Replicas: []ring.HostID{host(1), host(2)}}
	key, value := AppendKey(nil, 9, e.Tokens.First), AppendValue(nil, &e)
	if got := hex.EncodeToString(key); got != "7265706169726564000000097ffffffffffffffb" {
		t.Errorf("key %s", got)
	}
	if got := hex.EncodeToString(value); got != "01800000000000000700000000000f424000000000000f3e58"+"00000000000000000000000000000001"+"00000000000000000000000000000002" {
		t.Errorf("value %s", got)
	}
	if gen, got, err := DecodeRecord(key, value); err != nil || gen != 9 || !reflect.DeepEqual(got, e) {
		t.Errorf("%d, %+v, %v", gen, got, err)
	}
	for n := range value {
		if _, got, err := DecodeRecord(key, value[:n]); err == nil && len(got.Replicas) == len(e.Replicas) {
			t.Errorf("%d bytes are taken for a record", n)
		}
	}
	backwards := e
	backwards.Tokens.Last = e.Tokens.First - 1
	store := &memory{records: map[string][]byte{string(key): value, string(AppendKey(nil, 9, 3)): value, string(AppendKey(nil, 8, -5)): value[:5],
		string(AppendKey(nil, 7, -5)): AppendValue(nil, &backwards)}}
	b, err := Open(store)
	if err != nil || b.Damaged != 3 || len(b.Table(9).Entries()) != 1 {
		t.Errorf("%v, %d damaged, %v", err, b.Damaged, b.Table(9).Entries())
	}
}

func FuzzDecodeRecord(f *testing.F) {
	e := Entry{Tokens: ring.Interval{First: -5, Last: 7}, At: 1, Before: None, Replicas: []ring.HostID{host(1)}}
	f.Add(AppendKey(nil, 9, -5), AppendValue(nil, &e))
	f.Fuzz(func(t *testing.T, key, value []byte) {
		gen, e, err := DecodeRecord(key, value)
		if err == nil && (!bytes.Equal(AppendKey(nil, gen, e.Tokens.First), key) || !bytes.Equal(AppendValue(nil, &e), value)) {
			t.Errorf("%x %x decodes to %+v", key, value, e)
		}
	})
}
