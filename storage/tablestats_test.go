package storage

import (
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/helenusdb/helenus/ring"
	"github.com/helenusdb/helenus/row"
)

// TestTableStats: reads and writes are counted exactly and per table, one in sixteen is timed, and a drop forgets them.
func TestTableStats(t *testing.T) {
	e := openTest(t, testOptions(vfs.NewMem()))
	defer e.Close()
	if e.TableStats(genPlain) != nil {
		t.Fatal("figures without any operation")
	}
	const n = 100
	for i := range n {
		write(t, e, put(genPlain, pkey(i), "", 1, "v"))
	}
	for i := range n / 2 {
		var page row.Page
		if _, err := e.Read(&row.Command{Generation: genPlain, Token: token(pkey(i)), Key: pkey(i), Limit: 1, Now: 1}, &page); err != nil {
			t.Fatal(err)
		}
	}
	write(t, e, put(genOther, pkey(1), "c", 1, "v"))
	s := e.TableStats(genPlain)
	r, w := s.ReadLatency.Snapshot(), s.WriteLatency.Snapshot()
	if s.Writes.Load() != n || s.Reads.Load() != n/2 || w.Count != 7 || r.Count != 4 {
		t.Errorf("%d writes, %d timed; %d reads, %d timed; want 100, 7, 50, 4", s.Writes.Load(), w.Count, s.Reads.Load(), r.Count)
	}
	if o := e.TableStats(genOther); o == nil || o.Writes.Load() != 1 || o.Reads.Load() != 0 {
		t.Errorf("the other table: %+v", o)
	}
	if err := e.DropGeneration(genPlain); err != nil {
		t.Fatal(err)
	}
	if e.TableStats(genPlain) != nil {
		t.Error("the dropped table is still counted")
	}
}

// TestSampleSizes: each partition once when there are few, as many as asked for when there are many, and their true sizes.
func TestSampleSizes(t *testing.T) {
	e := openTest(t, testOptions(vfs.NewMem()))
	defer e.Close()
	for i := range 300 {
		for c := range 1 + i%3 {
			write(t, e, put(genWide, pkey(i), string(rune('a'+c)), 1, "value"))
		}
	}
	for _, n := range []int{1, 50, 5000} {
		sizes, err := e.SampleSizes(genWide, ring.FullRange(), n)
		if err != nil {
			t.Fatal(err)
		}
		if len(sizes) > n || len(sizes) > 300 || n == 5000 && len(sizes) < 250 || n == 50 && len(sizes) < 40 {
			t.Errorf("%d sizes of 300 partitions, %d wanted", len(sizes), n)
		}
		for _, s := range sizes {
			if s.Rows < 1 || s.Rows > 3 || s.Cells != s.Rows || s.Bytes < 10*s.Rows || s.Tombstones != 0 {
				t.Fatalf("a partition of 1 to 3 rows is %+v", s)
			}
		}
	}
	if sizes, err := e.SampleSizes(genOther, ring.FullRange(), 10); err != nil || len(sizes) != 0 {
		t.Errorf("of an empty table: %v, %v", sizes, err)
	}
}

// TestSampleSizesOfTheDead: what has expired is a tombstone, purged or not.
func TestSampleSizesOfTheDead(t *testing.T) {
	o := testOptions(vfs.NewMem())
	o.Now = func() time.Time { return time.Unix(1000, 0) }
	e := openTest(t, o)
	defer e.Close()
	write(t, e, mutation(genWide, pkey(1), func(f *row.FragmentBuilder) {
		var b row.Builder
		b.Reset(nil)
		b.Cell(row.Cell{Column: 1, Timestamp: 1, TTL: 9, Expiry: 1000, Value: []byte("expired")})
		b.Cell(row.Cell{Column: 2, Timestamp: 1, TTL: 9, Expiry: 1001, Value: []byte("alive")})
		b.Cell(row.Cell{Column: 3, Timestamp: 1, Expiry: 1000, Tombstone: true})
		f.Row([]byte("a"), b.Finish())
	}))
	if sizes, err := e.SampleSizes(genWide, ring.FullRange(), 1); err != nil || len(sizes) != 1 || sizes[0].Cells != 3 || sizes[0].Tombstones != 2 {
		t.Errorf("three cells, one deleted and one expired: %+v, %v", sizes, err)
	}
}

// TestTableFiles: what is flushed shows.
func TestTableFiles(t *testing.T) {
	e := openTest(t, testOptions(vfs.NewMem()))
	defer e.Close()
	if f, err := e.TableFiles(genPlain); err != nil || f != (Files{}) {
		t.Fatalf("without rows: %+v, %v", f, err)
	}
	for i := range 1000 {
		write(t, e, put(genPlain, pkey(i), "", 1, "some value of a row, some value of a row"))
	}
	if err := e.Flush(); err != nil {
		t.Fatal(err)
	}
	if f, err := e.TableFiles(genPlain); err != nil || f.Count != 1 || f.Largest < 1000 || f.Ratio <= 0 || f.Ratio > 1.1 {
		t.Errorf("a flushed table: %+v, %v", f, err)
	}
}
