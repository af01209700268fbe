package merkle

import (
	"math/bits"

	"github.com/helenusdb/helenus/ring"
	"github.com/helenusdb/helenus/row"
)

// Limits of a Walk. The zero value of a field means its default.
type Limits struct {
	Batch int // intervals that are asked for at a time; default 64, at least 1
	Items int // an interval in which no replica has more items than this is not cut further; default 8
}

const (
	defaultBatch = 64
	defaultItems = 8
	fanBits      = 4 // an interval is cut into 2^fanBits parts, one more when it is not aligned
)

// Leaf is an interval in which replicas differ, with what each has there.
type Leaf struct {
	Tokens  ring.Interval
	Tallies []row.Tally // by replica
}

// Lopsided tells whether some replica lacks most of what another one has: comparing row by row would cost more than it saves.
func (l *Leaf) Lopsided() bool {
	least, most := extent(l.Tallies)
	return lopsided(least, most)
}

func lopsided(least, most uint64) bool { return most > defaultItems && least < most/2 }

// Items returns what the replica with the most has.
func (l *Leaf) Items() uint64 {
	_, most := extent(l.Tallies)
	return most
}

// Walk is one search for the differences between replicas. It belongs to one goroutine.
type Walk struct {
	limits   Limits
	replicas int
	todo     []ring.Interval // a stack; disjoint, the first in token order on top
	asked    []ring.Interval // by Next, to be answered by Compare
	leaves   []Leaf

	Compared  int // intervals whose tallies were compared
	Different int // of them, those that differed
}

// NewWalk returns a walk over an interval.
func NewWalk(tokens ring.Interval, replicas int, l Limits) *Walk {
	if l.Batch <= 0 {
		l.Batch = defaultBatch
	}
	if l.Items <= 0 {
		l.Items = defaultItems
	}
	return &Walk{limits: l, replicas: replicas, todo: []ring.Interval{tokens}}
}

// Next returns the intervals whose tallies are wanted, ascending and disjoint, valid until the next call; nil when the walk has ended.
// Compare has to follow.
func (w *Walk) Next() []ring.Interval {
	n := min(len(w.todo), w.limits.Batch)
	if n == 0 {
		return nil
	}
	w.asked = w.asked[:0]
	for range n {
		last := len(w.todo) - 1
		w.asked = append(w.asked, w.todo[last])
		w.todo = w.todo[:last]
	}
	return w.asked
}

// Compare takes what each replica has in the intervals of the last Next, tallies[replica][interval], and returns the leaves that were found,
// in token order, valid until the next call. The tallies are copied.
func (w *Walk) Compare(tallies [][]row.Tally) []Leaf {
	w.leaves = w.leaves[:0]
	for i := len(w.asked) - 1; i >= 0; i-- {
		w.Compared++
		if iv := w.asked[i]; w.differs(tallies, i) {
			w.Different++
			w.narrow(iv, tallies, i)
		}
	}
	for i, j := 0, len(w.leaves)-1; i < j; i, j = i+1, j-1 {
		w.leaves[i], w.leaves[j] = w.leaves[j], w.leaves[i]
	}
	return w.leaves
}

func (w *Walk) differs(tallies [][]row.Tally, i int) bool {
	for r := 1; r < w.replicas; r++ {
		if tallies[r][i] != tallies[0][i] {
			return true
		}
	}
	return false
}

// narrow makes a leaf of an interval that differs, or cuts it.
func (w *Walk) narrow(iv ring.Interval, tallies [][]row.Tally, i int) {
	each := make([]row.Tally, w.replicas)
	for r := range each {
		each[r] = tallies[r][i]
	}
	least, most := extent(each)
	if iv.First == iv.Last || most <= uint64(w.limits.Items) || lopsided(least, most) {
		w.leaves = append(w.leaves, Leaf{iv, each})
		return
	}
	at := len(w.todo)
	w.todo = Split(w.todo, iv)
	for a, b := at, len(w.todo)-1; a < b; a, b = a+1, b-1 {
		w.todo[a], w.todo[b] = w.todo[b], w.todo[a]
	}
}

// extent returns the fewest and the most items that a replica has.
func extent(tallies []row.Tally) (least, most uint64) {
	least = 1<<64 - 1
	for i := range tallies {
		least, most = min(least, tallies[i].Items), max(most, tallies[i].Items)
	}
	return least, most
}

// Split appends the parts of an interval of at least two tokens, ascending: 2 to 17 of them, cut at multiples of one power of two, as the
// buckets of leaves are.
func Split(dst []ring.Interval, iv ring.Interval) []ring.Interval {
	first, last := ordered(iv.First), ordered(iv.Last)
	shift := max(bits.Len64(last-first)-fanBits, 0)
	for {
		end := first | (1<<shift - 1)
		if end >= last {
			return append(dst, ring.Interval{First: token(first), Last: token(last)})
		}
		dst = append(dst, ring.Interval{First: token(first), Last: token(end)})
		first = end + 1
	}
}

func ordered(t ring.Token) uint64 { return uint64(t) ^ 1<<63 }

func token(o uint64) ring.Token { return ring.Token(o ^ 1<<63) }
