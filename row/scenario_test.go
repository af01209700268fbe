package row

import (
	"bytes"
	"math"
	"testing"

	"github.com/helenusdb/helenus/ring"
	"github.com/helenusdb/helenus/schema"
)

func cells(cs ...Cell) []byte {
	var b Builder
	b.Reset(nil)
	for _, c := range cs {
		b.Cell(c)
	}
	return b.Finish()
}

// Every tie that Cassandra's Cells.resolveRegular decides, and those it leaves open (T9, T17). Later lines win.
func TestCellOrder(t *testing.T) {
	order := []Cell{
		{Timestamp: 1, Value: []byte("zz")},
		{Timestamp: 2, Value: nil},
		{Timestamp: 2, Value: []byte("a")},
		{Timestamp: 2, Value: []byte("a\x00")},
		{Timestamp: 2, Value: []byte("\xff")}, // unsigned
		{Timestamp: 2, TTL: 9, Expiry: 10, Value: []byte("b")},
		{Timestamp: 2, TTL: 9, Expiry: 11, Value: []byte("a")}, // expiry before value
		{Timestamp: 2, TTL: 8, Expiry: 11, Value: []byte("a")}, // T9: same expiry, other TTL
		{Timestamp: 2, TTL: 8, Expiry: 11, Value: []byte("b")},
		{Timestamp: 2, TTL: 8, Expiry: 11, Tombstone: true}, // its value is gone
		{Timestamp: 2, TTL: 8, Expiry: 12, Value: []byte("a")},
		{Timestamp: 2, Tombstone: true, Expiry: 3}, // a deletion beats all of the same timestamp
		{Timestamp: 2, Tombstone: true, Expiry: 4},
		{Timestamp: 3, Value: nil},
	}
	for i := range order {
		for j := range order {
			a, b := order[i], order[j]
			a.Column, b.Column = 1, 1
			want := cells(order[max(i, j)].at(1))
			if got := mustMerge(t, cells(a), cells(b)); !bytes.Equal(got, want) {
				t.Errorf("%d and %d: got %v", i, j, decodeModel(t, got))
			}
		}
	}
}

func (c Cell) at(col schema.ColumnID) Cell { c.Column = col; return c }

func TestLivenessAndDeletionOrder(t *testing.T) {
	lives := []Liveness{NoLiveness(), {1, 5, 100}, {Timestamp: 2}, {2, 5, 10}, {2, 6, 11}, {2, 5, 11}, {Timestamp: 3}}
	for i := range lives {
		for j := range lives {
			if got := lives[i].Supersedes(lives[j]); got != (i > j) {
				t.Errorf("liveness %d over %d: %v", i, j, got)
			}
		}
	}
	dels := []Deletion{Live(), {math.MinInt64 + 1, -5}, {1, 9}, {2, 1}, {2, 2}}
	for i := range dels {
		for j := range dels {
			if got := dels[i].Supersedes(dels[j]); got != (i > j) {
				t.Errorf("deletion %d over %d: %v", i, j, got)
			}
		}
	}
}

// T8: times far beyond 2106 keep their value.
//
// Scenarios: TestScenario_T8.
func TestFarExpiry(t *testing.T) {
	for _, exp := range []int64{1 << 31, 1 << 32, 1<<32 + 5, 1 << 40, math.MaxInt64} {
		c := Cell{Column: 1, Timestamp: benchTime, TTL: math.MaxInt32, Expiry: exp, Value: []byte("v")}
		m := decodeModel(t, cells(c))
		if got := m.cells[cellKey{1, ""}]; !got.equal(&c) {
			t.Errorf("%v became %v", c, got)
		}
		if !HasLive(cells(c), exp-1) || HasLive(cells(c), exp) {
			t.Errorf("expiry %d is not where it was set", exp)
		}
	}
}

// A row made only by UPDATE vanishes with its last cell; one made by INSERT does not.
func TestRowLiveness(t *testing.T) {
	null := Cell{Column: 1, Timestamp: 2, Tombstone: true, Expiry: 1}
	if HasLive(mustMerge(t, cells(Cell{Column: 1, Timestamp: 1, Value: []byte("v")}), cells(null)), 5) {
		t.Error("a row of a null cell is visible")
	}
	if !HasLive(mustMerge(t, insert(1, 1, 3), cells(null)), 5) {
		t.Error("an inserted row of nulls is not visible")
	}
}

// A whole collection written over another one keeps nothing of it; both collections of a row keep their deletions: T13.
//
// Scenarios: TestScenario_T13.
func TestCollections(t *testing.T) {
	write := func(ts int64, path string) []byte {
		var b Builder
		b.Reset(nil)
		for col := schema.ColumnID(4); col < 7; col++ {
			b.ComplexDeletion(col, Deletion{ts - 1, 5})
			b.Cell(Cell{Column: col, Path: []byte(path), Timestamp: ts, Value: []byte("v")})
		}
		return b.Finish()
	}
	got := decodeModel(t, mustMerge(t, write(10, "@a"), write(20, "@b")))
	if len(got.cdel) != 3 || len(got.cells) != 3 || got.cdel[5] != (Deletion{19, 5}) {
		t.Errorf("got %v", got)
	}
}

// T10: a read whose Now lies behind an expiry repairs a replica with the value, not with the fact that it has expired: a reader whose
// clock is behind, or who has asked for longer, still sees all of the row.
func TestRepairKeepsWhatExpires(t *testing.T) {
	var b Builder
	b.Reset(nil)
	b.SetLiveness(Liveness{Timestamp: benchTime, TTL: 5, Expiry: 105})
	b.Cell(Cell{Column: 1, Timestamp: benchTime, TTL: 5, Expiry: 105, Value: []byte("v")})
	b.ComplexDeletion(2, Deletion{benchTime - 1, 100})
	b.Cell(Cell{Column: 2, Path: []byte("@e"), Timestamp: benchTime, TTL: 5, Expiry: 105, Value: []byte("w")})
	written := b.Finish()
	purged, err := Compact(nil, written, 105, NoTimestamp, nil)
	if err != nil {
		t.Fatal(err)
	}
	c := *pointCommand()
	c.Slices, c.Now, c.GCBefore = nil, 105, 100
	k := partKey{c.Token, string(c.Key)}
	with := func(enc []byte) *replica {
		var f FragmentBuilder
		f.Reset(nil, false)
		if enc != nil {
			f.Row([]byte("@ck"), enc)
		}
		return &replica{parts: map[partKey][]byte{k: f.Finish()}}
	}
	has, lacks, stripped := with(written), with(nil), with(purged)
	digest := c
	digest.Digest = true
	if has.read(t, c).Digest != stripped.read(t, digest).Digest {
		t.Error("a value that has expired is part of the digest")
	}
	var page Page
	repairs, err := ReconcilePages(&page, &c, []*Page{has.read(t, c), lacks.read(t, c)})
	if err != nil || len(repairs[0]) != 0 || len(repairs[1]) != 1 || page.Rows != 0 {
		t.Fatalf("%d live rows, repairs %v, %v", page.Rows, repairs, err)
	}
	lacks.apply(t, repairs[1][0])
	if got, want := lacks.parts[k], has.parts[k]; !bytes.Equal(got, want) {
		t.Errorf("the repaired replica has %v, not %v", decodePartition(t, got).rows["@ck"], decodePartition(t, want).rows["@ck"])
	}
	// What one replica has purged and another has not is no difference.
	if repairs, err = ReconcilePages(&page, &c, []*Page{has.read(t, c), stripped.read(t, c)}); err != nil || len(repairs[0])+len(repairs[1]) != 0 {
		t.Errorf("a purged value is repaired: %v, %v", repairs, err)
	}
	// To a reader for whom it is alive it is one.
	c.Now = 104
	if repairs, err = ReconcilePages(&page, &c, []*Page{has.read(t, c), stripped.read(t, c)}); err != nil || len(repairs[0]) != 1 || len(repairs[1]) != 0 {
		t.Errorf("replicas that show different values are not repaired: %v, %v", repairs, err)
	}
}

func TestDroppedColumn(t *testing.T) {
	dropped := func(col schema.ColumnID, ts int64) bool { return col == 2 && ts <= 7 }
	got, err := Compact(nil, insert(7, 3, 1), 5, NoTimestamp, dropped)
	if m := decodeModel(t, got); err != nil || len(m.cells) != 2 {
		t.Errorf("got %v, %v", m, err)
	}
	if got, _ := Compact(nil, insert(8, 3, 1), 5, NoTimestamp, dropped); len(decodeModel(t, got).cells) != 3 {
		t.Error("a cell written after the drop is gone")
	}
}

// R17: one replica has data, one has purged the tombstone over it, one has it still. What a quorum sees must not depend
// on which two answer, once they were reconciled with the one that knows.
func TestPurgeableTombstoneStillShadows(t *testing.T) {
	c := pointCommand()
	c.Slices = nil
	k := partKey{c.Token, string(c.Key)}
	data := newModelPartition()
	data.rows["@ck"] = decodeModel(t, insert(100, 2, 3))
	tomb := newModelPartition()
	tomb.rows["@ck"] = newModelRow()
	tomb.rows["@ck"].del = Deletion{200, c.GCBefore - 1}
	stale := &replica{parts: map[partKey][]byte{k: data.encode(false)}}
	knows := &replica{parts: map[partKey][]byte{k: tomb.encode(false)}}
	purged := &replica{parts: map[partKey][]byte{}}

	if a, b := knows.read(t, *c), purged.read(t, *c); a.Digest != b.Digest {
		t.Error("a purgeable tombstone makes digests differ")
	}
	var page Page
	repairs, err := ReconcilePages(&page, c, []*Page{stale.read(t, *c), knows.read(t, *c)})
	if err != nil || page.Rows != 0 {
		t.Fatalf("deleted row is back: %d rows, %v", page.Rows, err)
	}
	if len(repairs[0]) != 1 || len(repairs[1]) != 0 {
		t.Fatalf("repairs: %v", repairs)
	}
	stale.apply(t, repairs[0][0])
	if a, b := stale.read(t, *c), purged.read(t, *c); a.Digest != b.Digest || a.Rows != 0 {
		t.Error("after the repair the row is still there")
	}
	repairs, err = ReconcilePages(&page, c, []*Page{purged.read(t, *c), knows.read(t, *c)})
	if err != nil || len(repairs[0])+len(repairs[1]) != 0 {
		t.Errorf("a purged tombstone is sent back: %v, %v", repairs, err)
	}
}

// R7: a page that ends inside a range tombstone has it up to the cut, the next one from there on, in both directions.
func TestPageCutInsideRangeTombstone(t *testing.T) {
	p := newModelPartition()
	p.ranges = []RangeTombstone{{[]byte("a"), []byte("z"), Deletion{50, 5}}}
	for _, ck := range []string{"b", "d", "f"} {
		p.rows[ck] = decodeModel(t, insert(100, 1, 3))
	}
	r := &replica{parts: map[partKey][]byte{{1, "k"}: p.encode(false)}}
	for _, reverse := range []bool{false, true} {
		c := Command{Token: 1, Key: []byte("k"), Limit: 2, Reverse: reverse, GCBefore: NoTimestamp, Now: 10}
		first := r.read(t, c)
		c.From = &first.Cut
		second := r.read(t, c)
		var got []RangeTombstone
		for _, page := range []*Page{first, second} {
			var pr PageReader
			pr.Init(page.Data)
			for pr.Next() {
				got = append(got, decodePartition(t, pr.Fragment).ranges...)
			}
		}
		if len(got) != 2 || first.Rows != 2 || second.Rows != 1 || !first.More || second.More {
			t.Fatalf("reverse %v: ranges %v, rows %d and %d", reverse, got, first.Rows, second.Rows)
		}
		if all := NormalizeRanges(got); len(all) != 1 || string(all[0].Start) != "a" || string(all[0].End) != "z" {
			t.Errorf("reverse %v: the pieces do not make the range: %v", reverse, all)
		}
	}
}

// R12: a partition of a static row alone is one row, also over pages; reading one full key ends without a second page.
//
// Scenarios: TestScenario_R12.
func TestStaticOnlyAndPointReads(t *testing.T) {
	p := newModelPartition()
	p.static = decodeModel(t, update(5, 9, 2))
	r := &replica{parts: map[partKey][]byte{}}
	for token := range ring.Token(3) {
		r.parts[partKey{token, "k"}] = p.encode(false)
	}
	all := ring.FullRange()
	c := Command{Range: &all, Limit: 2, WithStatic: true, GCBefore: NoTimestamp}
	page := r.read(t, c)
	if page.Rows != 2 || !page.More || page.Cut.Kind != AfterPartition || page.Cut.Token != 1 {
		t.Errorf("static rows: %d rows, cut %+v", page.Rows, page.Cut)
	}
	var pb PageBuilder
	point := pointCommand()
	point.Limit = 1
	pointRead(&pb, point, page, insert(100, 1, 3))
	if page.Rows != 1 || page.More {
		t.Errorf("point read: %d rows, more %v", page.Rows, page.More)
	}
}

// A page is bounded even when nothing on it counts, and reading on gets through.
func TestDeadRowsAreBounded(t *testing.T) {
	var page Page
	var b PageBuilder
	c := Command{Token: 1, Key: []byte("k"), GCBefore: NoTimestamp, Bytes: 1000}
	row := insert(5, 1, 1<<20)
	seen, pages := 0, 0
	for next := 0; ; pages++ {
		b.Init(&c, &page)
		b.BeginPartition(1, []byte("k"))
		b.PartitionDeletion(Deletion{10, 10})
		for ; next < 100; next++ {
			if got, err := b.Row([]byte{'@', byte(next)}, row); err != nil {
				t.Fatal(err)
			} else if got == Full {
				next++
				break
			}
		}
		b.Finish()
		seen++
		if !page.More {
			break
		}
		from, _, err := DecodePosition(page.Cut.Append(nil))
		if err != nil || string(from.Clustering) != string([]byte{'@', byte(next - 1), 0xFF}) {
			t.Fatalf("cut at %q, %v", from.Clustering, err)
		}
		c.From = &from
	}
	if seen < 20 || seen > 25 || len(page.Data) > 1000 {
		t.Errorf("%d pages", seen)
	}
}

// Many range tombstones are cut into pages as well.
func TestRangeTombstonesArePaged(t *testing.T) {
	for _, reverse := range []bool{false, true} {
		p := newModelPartition()
		for i := range 200 {
			k := []byte{'@', byte(i), 'x'}
			p.ranges = append(p.ranges, RangeTombstone{k, append(k[:2:2], 'y'), Deletion{int64(i), 5}})
		}
		p.rows["@\x10"] = decodeModel(t, insert(1000, 1, 3))
		p.rows["@\xc0"] = decodeModel(t, insert(1000, 1, 3))
		rs := []*replica{{parts: map[partKey][]byte{{1, "k"}: p.encode(false)}}, {parts: map[partKey][]byte{}}}
		c := Command{Token: 1, Key: []byte("k"), GCBefore: NoTimestamp, Bytes: 1000, Reverse: reverse}
		if first := rs[0].read(t, c); len(first.Data) > 3000 || !first.More {
			t.Errorf("first page has %d bytes", len(first.Data))
		}
		lines, repairs := readAll(t, 0, rs, c)
		if len(lines) != 2 || repairs < 3 {
			t.Errorf("reverse %v: %d rows, %d repairs", reverse, len(lines), repairs)
		}
		if _, repairs := readAll(t, 0, rs, c); repairs != 0 {
			t.Errorf("reverse %v: %d repairs afterwards", reverse, repairs)
		}
	}
}

func TestBuilderRefusesDisorder(t *testing.T) {
	panics := func(name string, f func(b *Builder)) {
		t.Helper()
		defer func() {
			if recover() == nil {
				t.Errorf("%s: no panic", name)
			}
		}()
		var b Builder
		b.Reset(nil)
		f(&b)
	}
	panics("columns", func(b *Builder) { b.Cell(Cell{Column: 2, Timestamp: 1}); b.Cell(Cell{Column: 1, Timestamp: 1}) })
	panics("same column", func(b *Builder) { b.Cell(Cell{Column: 2, Timestamp: 1}); b.Cell(Cell{Column: 2, Timestamp: 1}) })
	panics("elements", func(b *Builder) {
		b.Cell(Cell{Column: 2, Path: []byte("b"), Timestamp: 1})
		b.Cell(Cell{Column: 2, Path: []byte("a"), Timestamp: 1})
	})
	panics("liveness late", func(b *Builder) { b.Cell(Cell{Column: 2, Timestamp: 1}); b.SetLiveness(Liveness{Timestamp: 1}) })
	panics("column after its elements", func(b *Builder) {
		b.Cell(Cell{Column: 2, Path: []byte("b"), Timestamp: 1})
		b.Cell(Cell{Column: 1, Timestamp: 1})
	})
}

func TestEmptyRowHasNoBytes(t *testing.T) {
	var b Builder
	b.Reset([]byte("x"))
	b.SetClustering([]byte("1.00"), 5)
	if got := b.Finish(); string(got) != "x" {
		t.Errorf("got %q", got)
	}
	var r Reader
	if r.Init(nil) != nil || r.Next() || HasLive(nil, 1) {
		t.Error("the empty row has content")
	}
}
