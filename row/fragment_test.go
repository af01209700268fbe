package row

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"testing"
)

// modelPartition is a partition by brute force.
type modelPartition struct {
	del    Deletion
	static *modelRow
	ranges []RangeTombstone
	rows   map[string]*modelRow
}

func newModelPartition() *modelPartition {
	return &modelPartition{del: Live(), static: newModelRow(), rows: map[string]*modelRow{}}
}

func (p *modelPartition) merge(o *modelPartition) *modelPartition {
	n := newModelPartition()
	n.del = maxDeletion(p.del, o.del)
	n.static = p.static.merge(o.static)
	n.ranges = append(slices.Clone(p.ranges), o.ranges...)
	n.rows = maps.Clone(p.rows)
	for ck, r := range o.rows {
		if old, ok := n.rows[ck]; ok {
			r = old.merge(r)
		}
		n.rows[ck] = r
	}
	return n
}

// over returns the strongest deletion over a position, the partition's included.
func (p *modelPartition) over(pos string) Deletion {
	d := p.del
	for _, rt := range p.ranges {
		if string(rt.Start) <= pos && (rt.End == nil || pos < string(rt.End)) && rt.Supersedes(d) {
			d = rt.Deletion
		}
	}
	return d
}

// reduced applies all deletions to static row and rows, and drops what is empty.
func (p *modelPartition) reduced() *modelPartition {
	n := newModelPartition()
	n.del, n.ranges = p.del, p.ranges
	n.static = p.static.shadowed(p.del)
	for ck, r := range p.rows {
		if r = r.shadowed(p.over(ck)); !r.empty() {
			n.rows[ck] = r
		}
	}
	return n
}

func (p *modelPartition) keys(reversed bool) []string {
	keys := slices.Sorted(maps.Keys(p.rows))
	if reversed {
		slices.Reverse(keys)
	}
	return keys
}

func (p *modelPartition) encode(reversed bool) []byte {
	var f FragmentBuilder
	f.Reset(nil, reversed)
	f.PartitionDeletion(p.del)
	f.Static(p.static.encode())
	for _, ck := range p.keys(reversed) {
		f.Row([]byte(ck), p.rows[ck].encode())
	}
	for _, rt := range p.ranges {
		f.RangeTombstone(rt)
	}
	return f.Finish()
}

func decodePartition(t testing.TB, frag []byte) *modelPartition {
	t.Helper()
	p := newModelPartition()
	var f FragmentReader
	if err := f.Init(frag); err != nil {
		t.Fatal(err)
	}
	p.del = f.PartitionDeletion()
	if f.Static() != nil {
		p.static = decodeModel(t, f.Static())
	}
	for f.NextRow() {
		p.rows[string(f.Ckey)] = decodeModel(t, f.Row)
	}
	p.ranges = f.appendAllRanges(nil)
	if f.Err() != nil {
		t.Fatal(f.Err())
	}
	return p
}

// Clustering keys of two components, and all positions that ranges may begin or end at.
var genKeys, genPositions = keysAndPositions()

func keysAndPositions() (keys, positions []string) {
	const letters = "abc"
	for _, a := range letters {
		positions = append(positions, string(a), string(a)+"\xff")
		for _, b := range letters {
			k := string(a) + string(b)
			keys = append(keys, k)
			positions = append(positions, k, k+"\xff")
		}
	}
	slices.Sort(positions)
	return keys, positions
}

func (g *gen) rangeTombstone() RangeTombstone {
	rt := RangeTombstone{Deletion: g.deletion()}
	i, j := g.IntN(len(genPositions)), g.IntN(len(genPositions)+1)
	if g.IntN(5) != 0 {
		rt.Start = []byte(genPositions[i])
	}
	if j < len(genPositions) && g.IntN(6) != 0 {
		if i > j {
			i, j = j, i
			rt.Start = []byte(genPositions[i])
		}
		rt.End = []byte(genPositions[j])
	}
	return rt
}

func (g *gen) partition() *modelPartition {
	p := newModelPartition()
	p.del = g.maybeDeletion(8)
	if g.IntN(3) == 0 {
		p.static = g.row()
		p.static.live, p.static.del, p.static.orig = NoLiveness(), Live(), noOriginal()
	}
	for range g.IntN(4) * g.IntN(3) {
		if rt := g.rangeTombstone(); before(rt.Start, rt.End) {
			p.ranges = append(p.ranges, rt)
		}
	}
	for range g.IntN(6) {
		p.rows[genKeys[g.IntN(len(genKeys))]] = g.row()
	}
	return p
}

func sameRanges(t *testing.T, seed uint64, got []RangeTombstone, want *modelPartition) {
	t.Helper()
	if !normalized(got) {
		t.Fatalf("seed %d: not normalized: %v", seed, got)
	}
	for _, pos := range append([]string{""}, genPositions...) {
		p := modelPartition{del: want.del, ranges: got}
		if p.over(pos) != want.over(pos) {
			t.Fatalf("seed %d: at %q: %v, want %v", seed, pos, p.over(pos), want.over(pos))
		}
	}
}

func TestNormalizeRanges(t *testing.T) {
	for seed := range seeds(8000) {
		g := newGen(seed)
		p := newModelPartition()
		for range g.IntN(12) {
			rt := g.rangeTombstone()
			if g.IntN(10) == 0 {
				rt.Deletion = Live()
			}
			p.ranges = append(p.ranges, rt)
		}
		got := NormalizeRanges(slices.Clone(p.ranges))
		sameRanges(t, seed, got, p)
		shuffled := slices.Clone(p.ranges)
		g.Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
		var a, b FragmentBuilder
		a.Reset(nil, false)
		b.Reset(nil, false)
		for i := range got {
			a.RangeTombstone(got[i])
		}
		for i := range shuffled {
			b.RangeTombstone(shuffled[i])
		}
		if !bytes.Equal(a.Finish(), b.Finish()) {
			t.Fatalf("seed %d: depends on order", seed)
		}
		for _, reverse := range []bool{false, true} {
			c := newCover(got, reverse)
			pos := slices.Clone(genPositions)
			if reverse {
				slices.Reverse(pos)
			}
			for _, at := range pos {
				if c.over([]byte(at)) != p.over(at) {
					t.Fatalf("seed %d: cover at %q", seed, at)
				}
			}
		}
	}
}

func TestFragmentRoundTripAndMerge(t *testing.T) {
	for seed := range seeds(6000) {
		g := newGen(seed)
		reversed := g.IntN(2) == 0
		n := 1 + g.IntN(4)
		frags := make([][]byte, n)
		want := newModelPartition()
		for i := range frags {
			p := g.partition()
			want = want.merge(p)
			frags[i] = p.encode(reversed)
			if err := ValidateFragment(frags[i]); err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
		}
		want = want.reduced()
		got, err := MergeFragments(nil, frags)
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		if err := ValidateFragment(got); err != nil {
			t.Fatalf("seed %d: result: %v", seed, err)
		}
		back := decodePartition(t, got)
		sameRanges(t, seed, back.ranges, want)
		for _, rt := range back.ranges {
			if !rt.Supersedes(back.del) {
				t.Fatalf("seed %d: range under the partition deletion", seed)
			}
		}
		back.ranges, want.ranges = nil, nil
		if !bytes.Equal(back.encode(reversed), want.encode(reversed)) {
			t.Fatalf("seed %d:\n got %v\nwant %v", seed, back, want)
		}
		slices.Reverse(frags)
		again, err := MergeFragments(nil, slices.Concat(frags, [][]byte{got, nil}))
		if err != nil || !bytes.Equal(again, got) {
			t.Fatalf("seed %d: depends on order or grouping: %v", seed, err)
		}
	}
}

// counted is what counts of a partition after a merge: the basis on which digests and diffs agree.
func (p *modelPartition) counted(now, gcBefore int64) *modelPartition {
	n := p.reduced()
	n.static = n.static.compacted(now, gcBefore)
	for ck, r := range n.rows {
		if r = r.compacted(now, gcBefore); r.empty() {
			delete(n.rows, ck)
		} else {
			n.rows[ck] = r
		}
	}
	if n.static.empty() {
		n.static = newModelRow()
	}
	n.ranges = slices.DeleteFunc(aboveDeletion(NormalizeRanges(slices.Clone(n.ranges)), n.del), func(rt RangeTombstone) bool { return rt.LocalTime < gcBefore })
	if n.del.LocalTime < gcBefore {
		n.del = Live()
	}
	return n
}

func TestDiffConvergesInOneStep(t *testing.T) {
	for seed := range seeds(8000) {
		g := newGen(seed)
		reversed := g.IntN(2) == 0
		p := Purge{Now: g.local(), GCBefore: g.local()}
		if g.IntN(3) == 0 {
			p.GCBefore = NoTimestamp
		}
		a, b := g.partition(), g.partition()
		if g.IntN(2) == 0 {
			b = b.merge(a)
		}
		have, err := MergeFragments(nil, [][]byte{a.encode(reversed)})
		if err != nil {
			t.Fatal(err)
		}
		merged, err := MergeFragments(nil, [][]byte{have, b.encode(reversed)})
		if err != nil {
			t.Fatal(err)
		}
		diff, any, err := Diff(nil, merged, have, p)
		if err != nil {
			t.Fatal(err)
		}
		want := decodePartition(t, merged).counted(p.Now, p.GCBefore).encode(false)
		if !any {
			if got := decodePartition(t, have).counted(p.Now, p.GCBefore).encode(false); !bytes.Equal(got, want) {
				t.Fatalf("seed %d: nothing to repair, but contents differ", seed)
			}
			continue
		}
		if err := ValidateFragment(diff); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		forward := decodePartition(t, have).encode(false)
		after, err := MergeFragments(nil, [][]byte{forward, diff})
		if err != nil {
			t.Fatal(err)
		}
		if got := decodePartition(t, after).counted(p.Now, p.GCBefore).encode(false); !bytes.Equal(got, want) {
			t.Fatalf("seed %d: not converged %v\n have %v\nmerged %v\n diff %v\n got %v\nwant %v", seed, p, decodePartition(t, have), decodePartition(t, merged), decodePartition(t, diff),
				decodePartition(t, got), decodePartition(t, want))
		}
		mergedForward := decodePartition(t, merged).encode(false)
		if again, any, err := Diff(nil, mergedForward, after, p); any || err != nil {
			t.Fatalf("seed %d: second diff: %v, %v\n first %v", seed, decodePartition(t, again), err, decodePartition(t, diff))
		}
		// What a replica purged is not sent to it again: R10.
		merged = decodePartition(t, merged).counted(p.Now, NoTimestamp).encode(reversed) // as in a page
		purged := decodePartition(t, merged).counted(p.Now, p.GCBefore).encode(reversed)
		if again, any, err := Diff(nil, merged, purged, p); any || err != nil {
			t.Fatalf("seed %d: diff against a purged replica: %v, %v\nmerged %v\npurge %v", seed, decodePartition(t, again).rows, err, decodePartition(t, merged).rows, p)
		}
	}
}

func (p *modelPartition) String() string {
	s := fmt.Sprintf("del=%v ranges=%v static={%v}", p.del, p.ranges, p.static)
	for _, ck := range p.keys(false) {
		s += fmt.Sprintf("\n   %q {%v}", ck, p.rows[ck])
	}
	return s
}
