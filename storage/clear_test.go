package storage

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/helenusdb/helenus/ring"
	"github.com/helenusdb/helenus/row"
)

func yes() bool { return true }

// TestClearRanges: everything in the ranges goes, durably, from the row cache and from kept leaves too, and nothing else.
func TestClearRanges(t *testing.T) {
	fs := vfs.NewCrashableMem()
	e := openTest(t, testOptions(fs))
	fillWide(t, e, 60, 3, 5)
	write(t, e, put(genPlain, pkey(1), "", 1, "another table"))
	b := e.NewBatch()
	for i := range 60 {
		d := mutation(genWide, pkey(i), func(f *row.FragmentBuilder) {
			f.RangeTombstone(row.RangeTombstone{Start: []byte("0002"), End: []byte("0009"), Deletion: row.Deletion{Timestamp: 1, LocalTime: 1}})
		})
		if err := b.Apply(&d); err != nil {
			t.Fatal(err)
		}
		if err := b.SetRegister(genWide, token(pkey(i)), pkey(i), 1, []byte("head")); err != nil {
			t.Fatal(err)
		}
	}
	if err := e.CommitWait(context.Background(), b); err != nil {
		t.Fatal(err)
	}
	rgs := []ring.Range{{Start: 1 << 62, End: -1 << 62}, {Start: 0, End: 1 << 60}}
	for i := range 60 { // into the row cache
		_, _ = read(t, e, point(genWide, pkey(i), "0001"))
		_, _ = read(t, e, point(genWide, pkey(i), "0001"))
	}
	q := TallyRequest{Generation: genWide, Tokens: allTokens, At: row.Purge{Now: 1, GCBefore: row.NoTimestamp}, Keep: true}
	before := tally(t, e, q)
	if found, err := e.ClearRanges(genWide, rgs, func() bool { return false }); !found || err != nil {
		t.Fatalf("%v %v", found, err)
	}
	if got := tally(t, e, q); got != before {
		t.Errorf("cleared although it was not to be any more: %v of %v", got, before)
	}
	if found, err := e.ClearRanges(genWide, rgs, yes); !found || err != nil {
		t.Fatalf("%v %v", found, err)
	}
	check := func(e *Engine) {
		t.Helper()
		items := uint64(0)
		for i := range 60 {
			inside := containsToken(rgs, token(pkey(i)))
			if !inside {
				items += 5 // a static row, three rows, a range tombstone
			}
			for range 2 {
				if got, _ := read(t, e, point(genWide, pkey(i), "0001")); inside != (got == "") {
					t.Errorf("partition %d: %q", i, got)
				}
			}
			if _, ok, _, err := e.Register(genWide, token(pkey(i)), pkey(i), 1); err != nil || ok == inside {
				t.Errorf("register %d: %v %v", i, ok, err)
			}
		}
		if got := tally(t, e, q); got.Items != items {
			t.Errorf("%d items are left, want %d", got.Items, items)
		}
		if got, _ := read(t, e, point(genPlain, pkey(1), "")); got == "" {
			t.Error("another table's row is gone")
		}
		if found, err := e.ClearRanges(genWide, rgs, yes); found || err != nil {
			t.Errorf("something is left: %v %v", found, err)
		}
	}
	check(e)
	crashed := openTest(t, testOptions(fs.CrashClone(vfs.CrashCloneCfg{})))
	check(crashed)
	for _, e := range []*Engine{e, crashed} {
		if err := e.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestClearRanges_BesideFolds: a fold that read a row before does not bring it back.
func TestClearRanges_BesideFolds(t *testing.T) {
	o := testOptions(vfs.NewMem())
	o.FoldOperands, o.Stripes = 2, 2
	e := openTest(t, o)
	var wg sync.WaitGroup
	for round := range 100 {
		for i := range 8 {
			for ts := range 3 {
				write(t, e, put(genWide, pkey(i), "k", int64(ts), fmt.Sprint(round)))
			}
			_, _ = read(t, e, single(genWide, pkey(i))) // offers it for a fold
		}
		wg.Go(func() { _, _ = readOr(t, e, all(genWide)) })
		if _, err := e.ClearRanges(genWide, []ring.Range{ring.FullRange()}, yes); err != nil {
			t.Fatal(err)
		}
		if got, _ := read(t, e, all(genWide)); got != "" {
			t.Fatalf("round %d: %s", round, got)
		}
	}
	wg.Wait()
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestRangeFromTheLastToken: a range that begins at the last token holds nothing, or what comes after the end of the ring. It is what is left of an interval that begins with
// the first token, and was taken for the whole ring.
func TestRangeFromTheLastToken(t *testing.T) {
	e := openTest(t, testOptions(vfs.NewCrashableMem()))
	fillWide(t, e, 60, 3, 5)
	last := ring.Range{Start: ring.MaxToken, End: ring.MinToken}
	s, err := e.Snapshot(genWide, last, false)
	if err != nil {
		t.Fatal(err)
	}
	if end, done, err := s.Scan(t.Context(), nil, 1<<20, func(k, _ []byte) error { return fmt.Errorf("record %x", k) }); end != nil || !done || err != nil {
		t.Errorf("a snapshot shows something: %x, %v, %v", end, done, err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if n, err := e.DiskUsageRange(genWide, last); n != 0 || err != nil {
		t.Errorf("it takes %d bytes, %v", n, err)
	}
	below := ring.Range{Start: ring.MaxToken, End: -1}
	if _, err := e.ClearRanges(genWide, []ring.Range{below}, yes); err != nil {
		t.Fatal(err)
	}
	left, want := tally(t, e, TallyRequest{Generation: genWide, Tokens: allTokens, At: row.Purge{Now: 1, GCBefore: row.NoTimestamp}}), uint64(0)
	for i := range 60 {
		if !below.Contains(token(pkey(i))) {
			want += 4 // a static row, three rows
		}
	}
	if left.Items != want || want == 0 {
		t.Errorf("%d items are left, not %d", left.Items, want)
	}
}
