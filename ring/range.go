package ring

import (
	"cmp"
	"math/bits"
	"slices"
)

// Range is the half-open arc (Start, End] of the ring. It wraps past the largest token when Start >= End, and it is the
// full ring when both are equal. A Range is therefore never empty: set operations return slices of ranges instead.
type Range struct {
	Start Token // exclusive
	End   Token // inclusive
}

// FullRange returns the whole ring in its normal form.
func FullRange() Range { return Range{MinToken, MinToken} }

// Interval is the closed, never wrapping interval [First, Last], First <= Last: what a scan over ordered keys needs.
type Interval struct {
	First Token
	Last  Token
}

// String returns "(start,end]", as nodetool prints ranges.
func (r Range) String() string { return "(" + r.Start.String() + "," + r.End.String() + "]" }

// IsFull tells whether r is the whole ring.
func (r Range) IsFull() bool { return r.Start == r.End }

// Wraps tells whether r goes past the largest token, which includes ranges that end at MinToken.
func (r Range) Wraps() bool { return r.Start >= r.End }

// Contains tells whether t lies in r.
func (r Range) Contains(t Token) bool {
	if r.Start >= r.End {
		return t > r.Start || t <= r.End
	}
	return t > r.Start && t <= r.End
}

// ContainsRange tells whether every token of o lies in r.
func (r Range) ContainsRange(o Range) bool { return len(Subtract([]Range{o}, []Range{r})) == 0 }

// Intersects tells whether r and o share a token.
func (r Range) Intersects(o Range) bool {
	return r.Contains(o.End) || o.Contains(r.End)
}

// Size returns the number of tokens in r, and 0 for the full ring (which has 2^64).
func (r Range) Size() uint64 { return uint64(r.End) - uint64(r.Start) }

// Fraction returns the share of the ring that r covers, in (0, 1].
func (r Range) Fraction() float64 {
	if r.IsFull() {
		return 1
	}
	return float64(r.Size()) / (1 << 64)
}

// Intervals appends the one or two closed intervals that hold exactly the tokens of r to dst, ascending.
func (r Range) Intervals(dst []Interval) []Interval {
	switch {
	case r.IsFull():
		return append(dst, Interval{MinToken, MaxToken})
	case r.Start < r.End:
		return append(dst, Interval{r.Start + 1, r.End})
	case r.Start == MaxToken:
		return append(dst, Interval{MinToken, r.End})
	}
	return append(dst, Interval{MinToken, r.End}, Interval{r.Start + 1, MaxToken})
}

// Unwrap returns r as one or two ranges that do not cross the end of the ring: a range that wraps past MinToken is cut
// there into (Start, MinToken] and (MinToken, End]. The parts hold exactly the tokens of r.
func (r Range) Unwrap() []Range {
	if r.Start < r.End || r.End == MinToken || r.Start == MinToken {
		return []Range{r}
	}
	return []Range{{r.Start, MinToken}, {MinToken, r.End}}
}

// SplitAt cuts r after t into (Start, t] and (t, End]. False when t is not in r or is its end, so that one part would
// be empty.
func (r Range) SplitAt(t Token) (left, right Range, ok bool) {
	if t == r.End || !r.Contains(t) {
		return Range{}, Range{}, false
	}
	return Range{r.Start, t}, Range{t, r.End}, true
}

// Split cuts r into n ranges of nearly equal size, in ring order; fewer if r has fewer tokens than n. n < 2 returns r
// itself.
func (r Range) Split(n int) []Range {
	size := r.Size()
	if n < 2 || size == 1 {
		return []Range{r}
	}
	if size != 0 && uint64(n) > size {
		n = int(size)
	}
	out := make([]Range, 0, n)
	start := r.Start
	for i := 1; i < n; i++ {
		end := Token(uint64(r.Start) + portion(size, uint64(i), uint64(n)))
		out = append(out, Range{start, end})
		start = end
	}
	return append(out, Range{start, r.End})
}

// portion returns size*i/n for i < n, where size 0 stands for 2^64.
func portion(size, i, n uint64) uint64 {
	hi, lo := bits.Mul64(size, i)
	if size == 0 {
		hi = i
	}
	q, _ := bits.Div64(hi, lo, n)
	return q
}

// Intersect returns the tokens that are in both, as 0 to 2 ranges in ascending order.
func (r Range) Intersect(o Range) []Range { return Intersect([]Range{r}, []Range{o}) }

// Subtract returns the tokens of r that are not in o, as 0 to 2 ranges in ascending order.
func (r Range) Subtract(o Range) []Range { return Subtract([]Range{r}, []Range{o}) }

// Normalize returns the same tokens as few disjoint ranges, ascending by their start, adjacent ones merged across the
// end of the ring too (such a range comes last). The argument is not changed.
func Normalize(rs []Range) []Range { return fromIntervals(toIntervals(rs)) }

// Intersect returns the tokens that are both in a and in b, normalized.
func Intersect(a, b []Range) []Range {
	x, y := toIntervals(a), toIntervals(b)
	var out []Interval
	for i, j := 0, 0; i < len(x) && j < len(y); {
		lo, hi := max(x[i].First, y[j].First), min(x[i].Last, y[j].Last)
		if lo <= hi {
			out = append(out, Interval{lo, hi})
		}
		if x[i].Last < y[j].Last {
			i++
		} else {
			j++
		}
	}
	return fromIntervals(out)
}

// Subtract returns the tokens of a that are not in b, normalized.
func Subtract(a, b []Range) []Range { return Intersect(a, complement(b)) }

func complement(rs []Range) []Range {
	var out []Interval
	next, done := MinToken, false
	for _, iv := range toIntervals(rs) {
		if iv.First > next {
			out = append(out, Interval{next, iv.First - 1})
		}
		if iv.Last == MaxToken {
			done = true
			break
		}
		next = iv.Last + 1
	}
	if !done {
		out = append(out, Interval{next, MaxToken})
	}
	return fromIntervals(out)
}

// toIntervals returns the tokens of rs as disjoint, non-adjacent, ascending intervals.
func toIntervals(rs []Range) []Interval {
	ivs := make([]Interval, 0, len(rs)+1)
	for _, r := range rs {
		ivs = r.Intervals(ivs)
	}
	slices.SortFunc(ivs, func(a, b Interval) int { return cmp.Compare(a.First, b.First) })
	out := ivs[:0]
	for _, iv := range ivs {
		last := len(out) - 1
		if last >= 0 && (out[last].Last == MaxToken || iv.First <= out[last].Last+1) {
			out[last].Last = max(out[last].Last, iv.Last)
			continue
		}
		out = append(out, iv)
	}
	return out
}

// fromIntervals is the inverse of toIntervals; the last and the first interval are joined when they meet at the end of
// the ring.
func fromIntervals(ivs []Interval) []Range {
	n := len(ivs)
	if n == 0 {
		return nil
	}
	if n == 1 && ivs[0] == (Interval{MinToken, MaxToken}) {
		return []Range{FullRange()}
	}
	out := make([]Range, 0, n)
	joined := n > 1 && ivs[0].First == MinToken && ivs[n-1].Last == MaxToken
	if joined {
		ivs[n-1].Last = ivs[0].Last
		ivs = ivs[1:]
	}
	for _, iv := range ivs {
		start := MaxToken
		if iv.First != MinToken {
			start = iv.First - 1
		}
		out = append(out, Range{start, iv.Last})
	}
	return out
}
