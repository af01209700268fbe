package history

import (
	"math"
	"slices"

	"github.com/helenusdb/helenus/ring"
)

// None stands for a time that is not known.
const None = math.MinInt64

// Entry says what is known of the tokens of an interval. Times are seconds since the epoch.
type Entry struct {
	Tokens ring.Interval
	At     int64 // when the last session that repaired all Replicas began, by the slowest of their clocks; None: never
	// Before: deletions made before it are on all Replicas, and no hint or batch that was written before it waited anywhere when the session began.
	// None: nothing is known. It may be earlier than At, and of an earlier session.
	Before   int64
	Replicas []ring.HostID // ascending; never written to
}

// Covers tells whether e says something about these replicas: all of them were repaired.
func (e *Entry) Covers(replicas []ring.HostID) bool { return subset(replicas, e.Replicas) }

// subset tells whether all of a are in b.
func subset(a, b []ring.HostID) bool {
	for _, id := range a {
		if !slices.Contains(b, id) {
			return false
		}
	}
	return true
}

func (e *Entry) same(o *Entry) bool {
	return e.At == o.At && e.Before == o.Before && slices.Equal(e.Replicas, o.Replicas)
}

// Map says for each token what is known of it. It is never changed; the zero value knows nothing.
type Map struct {
	entries []Entry // ascending, disjoint; neighbours that touch differ
}

// Entries returns what is known, ascending and disjoint. It must not be written to.
func (m *Map) Entries() []Entry { return m.entries }

// at returns the index of the first entry that does not end before a token.
func (m *Map) at(t ring.Token) int {
	i, _ := slices.BinarySearchFunc(m.entries, t, func(e Entry, t ring.Token) int {
		if e.Tokens.Last < t {
			return -1
		}
		return 1
	})
	return i
}

// Lookup returns what is known of a token; its Tokens are those of which the same is known, as far as they are stored together.
func (m *Map) Lookup(t ring.Token) (Entry, bool) {
	if i := m.at(t); i < len(m.entries) && m.entries[i].Tokens.First <= t {
		return m.entries[i], true
	}
	return Entry{At: None, Before: None}, false
}

// Visit calls f for the parts of an interval, ascending: what is known of each, with Tokens cut to the interval; At and Before are None where nothing is.
func (m *Map) Visit(iv ring.Interval, f func(Entry)) {
	next := iv.First
	for i := m.at(iv.First); i < len(m.entries) && m.entries[i].Tokens.First <= iv.Last; i++ {
		e := m.entries[i]
		e.Tokens.First, e.Tokens.Last = max(e.Tokens.First, iv.First), min(e.Tokens.Last, iv.Last)
		if next < e.Tokens.First {
			f(Entry{Tokens: ring.Interval{First: next, Last: e.Tokens.First - 1}, At: None, Before: None})
		}
		f(e)
		if e.Tokens.Last == iv.Last {
			return
		}
		next = e.Tokens.Last + 1
	}
	f(Entry{Tokens: ring.Interval{First: next, Last: iv.Last}, At: None, Before: None})
}

// Put returns a map that knows e as well. Where e says less than is known already of the replicas that it names, the more stays. The result has at most
// entriesMax entries: beyond it neighbours are joined to what is true of both.
func (m *Map) Put(e Entry) *Map {
	i, j := m.at(e.Tokens.First), m.at(e.Tokens.Last)
	if j < len(m.entries) && m.entries[j].Tokens.First <= e.Tokens.Last {
		j++
	}
	b := builder{entries: make([]Entry, 0, len(m.entries)+3)}
	b.entries = append(b.entries, m.entries[:i]...)
	if i < j && m.entries[i].Tokens.First < e.Tokens.First {
		left := m.entries[i]
		left.Tokens.Last = e.Tokens.First - 1
		b.add(left)
	}
	m.Visit(e.Tokens, func(old Entry) { b.add(renewed(old, e)) })
	if i < j && m.entries[j-1].Tokens.Last > e.Tokens.Last {
		right := m.entries[j-1]
		right.Tokens.First = e.Tokens.Last + 1
		b.add(right)
	}
	for _, r := range m.entries[j:] {
		b.add(r)
	}
	return &Map{bounded(b.entries)}
}

// renewed returns what is known of old's tokens when e has come.
func renewed(old, e Entry) Entry {
	tokens := old.Tokens
	if old.Covers(e.Replicas) {
		e.At, e.Before = max(e.At, old.At), max(e.Before, old.Before)
	}
	e.Tokens = tokens
	return e
}

// builder joins entries that touch and say the same.
type builder struct{ entries []Entry }

func (b *builder) add(e Entry) {
	if n := len(b.entries); n > 0 && touch(&b.entries[n-1], &e) && b.entries[n-1].same(&e) {
		b.entries[n-1].Tokens.Last = e.Tokens.Last
		return
	}
	b.entries = append(b.entries, e)
}

func touch(a, b *Entry) bool {
	return a.Tokens.Last != ring.MaxToken && a.Tokens.Last+1 == b.Tokens.First
}

// entriesMax is how many entries a map has at most: a node has a few hundred ranges.
const entriesMax = 4096

func bounded(entries []Entry) []Entry {
	for len(entries) > entriesMax {
		entries = coarser(entries)
	}
	return entries
}

// coarser returns one entry less: two neighbours of nearly the same time become one that is true of both, or the oldest one goes.
func coarser(entries []Entry) []Entry {
	best, gap, oldest := -1, uint64(math.MaxUint64), 0
	for i := range entries {
		if entries[i].At < entries[oldest].At {
			oldest = i
		}
		if i == 0 || !touch(&entries[i-1], &entries[i]) {
			continue
		}
		if d := distance(&entries[i-1], &entries[i]); d < gap {
			best, gap = i, d
		}
	}
	if best < 0 {
		return slices.Delete(entries, oldest, oldest+1)
	}
	entries[best-1] = both(&entries[best-1], &entries[best])
	return slices.Delete(entries, best, best+1)
}

func distance(a, b *Entry) uint64 { return uint64(max(a.At, b.At)) - uint64(min(a.At, b.At)) }

// both returns what is true of two neighbours.
func both(a, b *Entry) Entry {
	e := Entry{Tokens: ring.Interval{First: a.Tokens.First, Last: b.Tokens.Last}, At: min(a.At, b.At), Before: min(a.Before, b.Before)}
	for _, id := range a.Replicas {
		if slices.Contains(b.Replicas, id) {
			e.Replicas = append(e.Replicas, id)
		}
	}
	return e
}
