package row

import (
	"bytes"
	"github.com/helenusdb/helenus/internal/planted"
	"slices"
)

// compareEnd orders the ends of half-open intervals, where nil is past everything.
func compareEnd(a, b []byte) int {
	switch {
	case a == nil && b == nil:
		return 0
	case a == nil:
		return 1
	case b == nil:
		return -1
	}
	return bytes.Compare(a, b)
}

// before reports whether the position p lies before the interval end, which may be nil.
func before(p, end []byte) bool { return end == nil || bytes.Compare(p, end) < 0 }

// NormalizeRanges returns the same deletions as disjoint range tombstones in ascending order, where each position has
// the one that supersedes all others, and neighbours with equal deletions are joined. What deletes nothing is left out.
// It may reuse rts, and the result aliases the bytes in it. O(n log n).
func NormalizeRanges(rts []RangeTombstone) []RangeTombstone {
	if normalized(rts) {
		return rts
	}
	kept := rts[:0]
	for _, rt := range rts {
		if !rt.Deletion.Live() && before(rt.Start, rt.End) {
			kept = append(kept, rt)
		}
	}
	slices.SortFunc(kept, func(a, b RangeTombstone) int { return bytes.Compare(a.Start, b.Start) })
	return sweep(kept)
}

func normalized(rts []RangeTombstone) bool {
	for i := range rts {
		rt := &rts[i]
		if rt.Deletion.Live() || !before(rt.Start, rt.End) {
			return false
		}
		if i == 0 {
			continue
		}
		last := &rts[i-1]
		if last.End == nil || bytes.Compare(rt.Start, last.End) < 0 {
			return false
		}
		if rt.Deletion == last.Deletion && bytes.Equal(rt.Start, last.End) {
			return false
		}
	}
	return true
}

// sweep walks the bounds of sorted ranges in order and keeps, in a heap, those that have begun: the strongest on top.
// Those that have ended are dropped when they come to the top.
func sweep(sorted []RangeTombstone) []RangeTombstone {
	bounds := make([][]byte, 0, 2*len(sorted))
	for i := range sorted {
		bounds = append(bounds, sorted[i].Start)
		if sorted[i].End != nil {
			bounds = append(bounds, sorted[i].End)
		}
	}
	slices.SortFunc(bounds, bytes.Compare)
	bounds = slices.CompactFunc(bounds, bytes.Equal)
	out := make([]RangeTombstone, 0, len(sorted))
	var heap rangeHeap
	next := 0
	for i, at := range bounds {
		for ; next < len(sorted) && bytes.Compare(sorted[next].Start, at) <= 0; next++ {
			heap.push(&sorted[next])
		}
		for len(heap) > 0 && !before(at, heap[0].End) {
			heap.pop()
		}
		if len(heap) == 0 {
			continue
		}
		var end []byte
		if i+1 < len(bounds) {
			end = bounds[i+1]
		}
		out = appendRange(out, RangeTombstone{Start: at, End: end, Deletion: heap[0].Deletion})
	}
	return out
}

// appendRange appends rt, which does not begin before the last one ends, and joins the two if they are one.
func appendRange(rts []RangeTombstone, rt RangeTombstone) []RangeTombstone {
	if n := len(rts); n > 0 {
		last := &rts[n-1]
		if last.Deletion == rt.Deletion && last.End != nil && bytes.Equal(last.End, rt.Start) {
			last.End = rt.End
			return rts
		}
	}
	return append(rts, rt)
}

// rangeHeap is a binary heap of ranges, the superseding deletion first.
type rangeHeap []*RangeTombstone

func (h *rangeHeap) push(rt *RangeTombstone) {
	s := append(*h, rt)
	for i := len(s) - 1; i > 0; {
		up := (i - 1) / 2
		if !s[i].Supersedes(s[up].Deletion) {
			break
		}
		s[i], s[up] = s[up], s[i]
		i = up
	}
	*h = s
}

func (h *rangeHeap) pop() {
	s := *h
	n := len(s) - 1
	s[0], s[n] = s[n], nil
	s = s[:n]
	for i := 0; ; {
		child := 2*i + 1
		if child >= n {
			break
		}
		if child+1 < n && s[child+1].Supersedes(s[child].Deletion) {
			child++
		}
		if !s[child].Supersedes(s[i].Deletion) {
			break
		}
		s[i], s[child] = s[child], s[i]
		i = child
	}
	*h = s
}

// aboveDeletion drops in place the ranges that d, the partition deletion, makes meaningless.
func aboveDeletion(rts []RangeTombstone, d Deletion) []RangeTombstone {
	if d.Live() {
		return rts
	}
	return slices.DeleteFunc(rts, func(rt RangeTombstone) bool { return !rt.Supersedes(d) })
}

// appendClipped appends to dst the parts of the disjoint ranges rts that lie in [start, end).
func appendClipped(dst, rts []RangeTombstone, start, end []byte) []RangeTombstone {
	for _, rt := range rts {
		if bytes.Compare(rt.Start, start) < 0 {
			rt.Start = start
		}
		if compareEnd(end, rt.End) < 0 {
			rt.End = end
		}
		if before(rt.Start, rt.End) {
			dst = append(dst, rt)
		}
	}
	return dst
}

// cover finds the range over each of a run of positions, which ascend or, in reverse, descend: one pass over the ranges.
type cover struct {
	rts     []RangeTombstone // disjoint, ascending
	at      int              // the candidate
	reverse bool
}

func newCover(rts []RangeTombstone, reverse bool) cover {
	c := cover{rts: rts, reverse: reverse}
	if reverse {
		c.at = len(rts) - 1
	}
	return c
}

// over returns the deletion of the range over position p, or Live.
func (c *cover) over(p []byte) Deletion {
	if c.reverse && planted.On(planted.ReverseRangeIgnored) {
		return Live()
	}
	if c.reverse {
		for c.at >= 0 && bytes.Compare(p, c.rts[c.at].Start) < 0 {
			c.at--
		}
		if c.at >= 0 && before(p, c.rts[c.at].End) {
			return c.rts[c.at].Deletion
		}
		return Live()
	}
	for c.at < len(c.rts) && !before(p, c.rts[c.at].End) {
		c.at++
	}
	if c.at < len(c.rts) && bytes.Compare(c.rts[c.at].Start, p) <= 0 {
		return c.rts[c.at].Deletion
	}
	return Live()
}
