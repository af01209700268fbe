package row

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/helenusdb/helenus/ring"
	"github.com/helenusdb/helenus/schema"
)

type partKey struct {
	token ring.Token
	key   string
}

func comparePartKeys(a, b partKey) int {
	return cmp.Or(cmp.Compare(a.token, b.token), cmp.Compare(a.key, b.key))
}

// replica stores partitions as merged fragments in ascending order.
type replica struct {
	parts   map[partKey][]byte
	builder PageBuilder
}

func (r *replica) apply(t testing.TB, m Mutation) {
	t.Helper()
	if err := ValidateFragment(m.Fragment); err != nil {
		t.Fatalf("mutation: %v", err)
	}
	k := partKey{m.Token, string(m.Key)}
	frag, err := MergeFragments(nil, [][]byte{r.parts[k], m.Fragment})
	if err != nil {
		t.Fatal(err)
	}
	r.parts[k] = frag
}

// read answers a command as storage would.
func (r *replica) read(t testing.TB, c Command) *Page {
	t.Helper()
	page := &Page{}
	b := &r.builder
	b.Init(&c, page)
	keys := slices.SortedFunc(maps.Keys(r.parts), comparePartKeys)
	for _, k := range keys {
		if c.Range == nil && (k.token != c.Token || k.key != string(c.Key)) {
			continue
		}
		if c.Range != nil && !c.Range.Contains(k.token) {
			continue
		}
		if c.Range != nil && c.From != nil {
			here := Position{Kind: InPartition, Token: k.token, Key: []byte(k.key)}
			from := *c.From
			from.Clustering = nil
			if here.Compare(&from, false) < 0 {
				continue
			}
		}
		if r.readPartition(t, &c, k) == Full {
			break
		}
	}
	b.Finish()
	return page
}

func (r *replica) readPartition(t testing.TB, c *Command, k partKey) Progress {
	b := &r.builder
	var f FragmentReader
	if err := f.Init(r.parts[k]); err != nil {
		t.Fatal(err)
	}
	b.BeginPartition(k.token, []byte(k.key))
	b.PartitionDeletion(f.PartitionDeletion())
	var rt RangeTombstone
	for f.NextRange(&rt) {
		b.RangeTombstone(rt)
	}
	if err := b.Static(f.Static()); err != nil {
		t.Fatal(err)
	}
	type kv struct{ ck, row []byte }
	var rows []kv
	slicesOf := c.SlicesOf(nil, k.token, []byte(k.key))
	for f.NextRow() {
		for _, s := range slicesOf {
			if bytes.Compare(s.Start, f.Ckey) <= 0 && before(f.Ckey, s.End) {
				rows = append(rows, kv{f.Ckey, f.Row})
			}
		}
	}
	if c.Reverse {
		slices.Reverse(rows)
	}
	for _, row := range rows {
		p, err := b.Row(row.ck, row.row)
		if err != nil {
			t.Fatal(err)
		}
		if p == Full {
			return Full
		}
		if p == NextPartition {
			break
		}
	}
	return b.EndPartition()
}

// result is what a client sees of a read: visible rows in order, with what counts of them.
type result struct {
	lines []string
	rows  int // in partition at hand
	part  partKey
	begun bool
	alone string // static row to show when the partition has no rows
}

func (res *result) flush() {
	if res.begun && res.rows == 0 && res.alone != "" {
		res.lines = append(res.lines, res.alone)
	}
	res.begun, res.rows, res.alone = false, 0, ""
}

func (res *result) partition(k partKey, c *Command, static *modelRow) {
	if res.begun && res.part != k {
		res.flush()
	}
	if !res.begun {
		res.begun, res.part = true, k
	}
	if static.visible(c.Now) && (c.WithStatic || c.StaticOnly) {
		res.alone = fmt.Sprintf("%v static %v", k, projected(static, c))
	}
}

func (res *result) row(k partKey, c *Command, ck string, r *modelRow) {
	if r.visible(c.Now) {
		res.rows++
		res.lines = append(res.lines, fmt.Sprintf("%v %q %v", k, ck, projected(r, c)))
	}
}

// projected returns what a client sees of a row.
func projected(r *modelRow, c *Command) string {
	n := r.compacted(c.Now, c.GCBefore)
	n.live, n.del = NoLiveness(), Live()
	for k, cell := range n.cells {
		if cell.Tombstone || c.Columns != nil && !slices.Contains(c.Columns, k.col) {
			delete(n.cells, k)
		}
	}
	n.cdel = nil
	return n.String()
}

func (res *result) addPage(t testing.TB, c *Command, p *Page) {
	t.Helper()
	before := len(res.lines)
	var r PageReader
	r.Init(p.Data)
	for r.Next() {
		part := decodePartition(t, r.Fragment)
		k := partKey{r.Token, string(r.Key)}
		if res.begun && res.part != k {
			res.flush()
		}
		res.partition(k, c, part.static)
		for _, ck := range part.keys(c.Reverse) {
			res.row(k, c, ck, part.rows[ck])
		}
		if !p.Unfinished(r.Token, r.Key) {
			res.flush()
		}
	}
	if r.Err() != nil {
		t.Fatal(r.Err())
	}
	if n := len(res.lines) - before; n != p.Rows {
		t.Fatalf("page says %d rows, has %d: %q", p.Rows, n, res.lines[before:])
	}
}

// expected reads by brute force.
func expected(t testing.TB, replicas []*replica, c Command) []string {
	merged := map[partKey]*modelPartition{}
	for _, r := range replicas {
		for k, frag := range r.parts {
			p := decodePartition(t, frag)
			if old, ok := merged[k]; ok {
				p = old.merge(p)
			}
			merged[k] = p
		}
	}
	var res result
	for _, k := range slices.SortedFunc(maps.Keys(merged), comparePartKeys) {
		if c.Range == nil && (k.token != c.Token || k.key != string(c.Key)) || c.Range != nil && !c.Range.Contains(k.token) {
			continue
		}
		p := merged[k].reduced()
		res.partition(k, &c, p.static)
		for _, ck := range p.keys(c.Reverse) {
			in := c.Slices == nil && !c.StaticOnly
			for _, s := range c.Slices {
				in = in || !c.StaticOnly && string(s.Start) <= ck && before([]byte(ck), s.End)
			}
			if in && (c.PerPartition == 0 || res.rows < c.PerPartition) {
				res.row(k, &c, ck, p.rows[ck])
			}
		}
		res.flush()
	}
	return res.lines
}

func (g *gen) command() Command {
	c := Command{Generation: 7, Now: g.local(), GCBefore: NoTimestamp, Reverse: g.IntN(2) == 0, WithStatic: g.IntN(2) == 0}
	if g.IntN(2) == 0 {
		c.GCBefore = g.local()
	}
	if g.IntN(2) == 0 {
		k := genPartitions[g.IntN(len(genPartitions))]
		c.Token, c.Key = k.token, []byte(k.key)
	} else {
		r := [...]ring.Range{ring.FullRange(), {Start: -5, End: 3}, {Start: 0, End: 9}}[g.IntN(3)]
		c.Range = &r
	}
	if g.IntN(2) == 0 {
		c.Limit = 1 + g.IntN(5)
	}
	if g.IntN(3) == 0 {
		c.PerPartition = 1 + g.IntN(3)
	}
	if g.IntN(3) == 0 {
		c.Bytes = 1 + g.IntN(300)
	}
	if g.IntN(6) == 0 {
		c.Partitions = 1 + g.IntN(3)
	}
	c.StaticOnly = g.IntN(10) == 0
	switch g.IntN(4) {
	case 0:
		c.Slices = g.points()
	case 1:
		c.Slices = g.slices()
	}
	return c
}

func (g *gen) points() []Slice {
	s := []Slice{}
	for _, k := range genKeys {
		if g.IntN(3) == 0 {
			s = append(s, Slice{[]byte(k), []byte(k + "\xff"), true})
		}
	}
	return s
}

func (g *gen) slices() []Slice {
	s := []Slice{}
	for i := g.IntN(4); i+1 < len(genPositions); i += 1 + g.IntN(6) {
		j := min(i+1+g.IntN(5), len(genPositions)-1)
		s = append(s, Slice{Start: []byte(genPositions[i]), End: []byte(genPositions[j])})
		i = j
	}
	if g.IntN(4) == 0 && len(s) > 0 {
		s[0].Start = nil
	}
	if g.IntN(4) == 0 && len(s) > 0 {
		s[len(s)-1].End = nil
	}
	return s
}

var genPartitions = []partKey{{-4, "p"}, {1, "a"}, {1, "b"}, {1, ""}, {5, "q"}, {9, "r"}}

// replicas builds a cluster whose members missed some writes and purged some of what they had.
func (g *gen) replicas(t testing.TB, n int) []*replica {
	rs := make([]*replica, n)
	for i := range rs {
		rs[i] = &replica{parts: map[partKey][]byte{}}
	}
	for range 1 + g.IntN(12) {
		k := genPartitions[g.IntN(len(genPartitions))]
		frag := g.partition().encode(false)
		for _, r := range rs {
			if g.IntN(3) != 0 {
				r.apply(t, Mutation{7, k.token, []byte(k.key), frag})
			}
		}
	}
	for _, r := range rs {
		if g.IntN(3) != 0 {
			continue
		}
		now, gc := g.local(), g.local()
		for _, k := range slices.SortedFunc(maps.Keys(r.parts), comparePartKeys) {
			r.parts[k] = decodePartition(t, r.parts[k]).counted(now-6, gc).encode(false)
		}
	}
	return rs
}

// One coordinator pages through a table on replicas that differ: it sees exactly what their union holds; every repair is
// complete; afterwards digests agree and nothing is left to repair. Repair moves what there is and makes nothing new, so that a
// reader of another Now sees what it would have seen. R3 to R7, R10, R12, R17, T10.
func TestReconcilePages(t *testing.T) {
	for seed := range seeds(5000) {
		g := newGen(seed)
		rs := g.replicas(t, 1+g.IntN(3))
		c := g.command()
		want := expected(t, rs, c)
		if debugPages {
			t.Log("seed", seed)
		}
		all := union(t, rs)
		got, _ := readAll(t, seed, rs, c)
		if !slices.Equal(got, want) {
			t.Fatalf("seed %d: %+v\n got %q\nwant %q", seed, c, got, want)
		}
		again, repairs := readAll(t, seed, rs, c)
		if !slices.Equal(again, want) || repairs != 0 {
			t.Fatalf("seed %d: %+v: second read: %d repairs\n got %q\nwant %q", seed, c, repairs, again, want)
		}
		for _, r := range rs { // each replica alone now holds all of it
			if alone, _ := readAll(t, seed, []*replica{r}, c); !slices.Equal(alone, want) {
				t.Fatalf("seed %d: after repair one replica differs", seed)
			}
		}
		if now := union(t, rs); !maps.EqualFunc(now, all, bytes.Equal) {
			t.Fatalf("seed %d: %+v: repair changed what the replicas hold together", seed, c)
		}
	}
}

// union is what replicas hold together.
func union(t testing.TB, rs []*replica) map[partKey][]byte {
	t.Helper()
	all := &replica{parts: map[partKey][]byte{}}
	for _, r := range rs {
		for k, frag := range r.parts {
			all.apply(t, Mutation{7, k.token, []byte(k.key), frag})
		}
	}
	return all.parts
}

const debugPages = false

func readAll(t testing.TB, seed uint64, rs []*replica, c Command) (lines []string, repairs int) {
	t.Helper()
	var res result
	for step := 0; ; step++ {
		if step > 400 {
			t.Fatalf("seed %d: no end: %+v", seed, c)
		}
		pages := make([]*Page, len(rs))
		same := true
		for i, r := range rs {
			pages[i] = r.read(t, c)
			digest := c
			digest.Digest = true
			d := r.read(t, digest)
			if len(d.Data) != 0 || d.Digest != pages[i].Digest || d.Rows != pages[i].Rows || d.More != pages[i].More {
				t.Fatalf("seed %d: digest read differs from data read", seed)
			}
			same = same && d.Digest == pages[0].Digest
			if c.Limit > 0 && pages[i].Rows > c.Limit {
				t.Fatalf("seed %d: %d rows over limit %d", seed, pages[i].Rows, c.Limit)
			}
		}
		var page Page
		todo, err := ReconcilePages(&page, &c, pages)
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		for i, ms := range todo {
			repairs += len(ms)
			for _, m := range ms {
				rs[i].apply(t, m)
			}
			if same && len(ms) > 0 {
				t.Fatalf("seed %d: digests agree, but there is something to repair", seed)
			}
		}
		if same && (page.Digest != pages[0].Digest || page.Rows != pages[0].Rows) {
			t.Fatalf("seed %d: digests agree, but the merged page differs", seed)
		}
		if !same && repairs == 0 {
			sameCut := true
			for _, p := range pages {
				sameCut = sameCut && p.More == pages[0].More && p.Cut.Compare(&pages[0].Cut, c.Reverse) == 0
			}
			if sameCut {
				t.Fatalf("seed %d: digests differ, but there is nothing to repair", seed)
			}
		}
		if c.Limit > 0 && page.Rows > c.Limit {
			t.Fatalf("seed %d: %d merged rows over limit %d", seed, page.Rows, c.Limit)
		}
		if debugPages {
			t.Logf("%+v", c)
			for i, p := range slices.Concat(pages, []*Page{&page}) {
				t.Logf("page %d: rows %d more %v cut %+v", i, p.Rows, p.More, p.Cut)
				var r PageReader
				r.Init(p.Data)
				for r.Next() {
					t.Logf("  %v %q bound %q: %v", r.Token, r.Key, r.Bound, decodePartition(t, r.Fragment))
				}
			}
		}
		res.addPage(t, &c, &page)
		if !page.More {
			break
		}
		cut, _, err := DecodePosition(page.Cut.Append(nil))
		if err != nil {
			t.Fatal(err)
		}
		if c.From != nil && c.From.Compare(&cut, c.Reverse) >= 0 {
			t.Fatalf("seed %d: no progress from %+v to %+v", seed, c.From, cut)
		}
		c.From = &cut
	}
	res.flush()
	return res.lines, repairs
}

// When projected digests agree, one replica's page is the answer: R8.
func TestProjectedPages(t *testing.T) {
	agreed, total := uint64(0), seeds(5000)
	for seed := range total {
		g := newGen(seed)
		rs := g.replicas(t, 2)
		if g.IntN(3) == 0 { // replicas that agree
			rs[1].parts = maps.Clone(rs[0].parts)
		}
		c := g.command()
		c.Limit, c.PerPartition, c.Bytes, c.Partitions = 0, 0, 0, 0
		c.Columns = []schema.ColumnID{}
		for _, col := range append(slices.Clone(simpleColumns), complexColumns...) {
			if g.IntN(4) == 0 {
				c.Columns = append(c.Columns, col)
			}
		}
		slices.Sort(c.Columns)
		a, b := rs[0].read(t, c), rs[1].read(t, c)
		if a.Digest != b.Digest {
			var p Page
			if _, err := ReconcilePages(&p, &c, []*Page{a, b}); err == nil {
				t.Fatal("projected pages were reconciled")
			}
			full := c.Full()
			if full.Columns != nil || full.Digest {
				t.Fatal("Full is not full")
			}
			continue
		}
		agreed++
		var res result
		res.addPage(t, &c, a)
		res.flush()
		if want := expected(t, rs, c); !slices.Equal(res.lines, want) {
			t.Fatalf("seed %d: %+v\n got %q\nwant %q", seed, c, res.lines, want)
		}
	}
	if agreed < total*3/50 {
		t.Fatalf("only %d of %d cases agreed", agreed, total)
	}
}
