package storage

import (
	"fmt"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/helenusdb/helenus/row"
)

// manyDeletes writes n range tombstones that do not fold into one another, each over one of n positions.
func manyDeletes(t testing.TB, e *Engine, n int) {
	t.Helper()
	b := e.NewBatch()
	var wg sync.WaitGroup
	for i := range n {
		m := mutation(genWide, pkey(1), func(f *row.FragmentBuilder) {
			f.RangeTombstone(row.RangeTombstone{Start: fmt.Appendf(nil, "%06d", i), End: fmt.Appendf(nil, "%06d", i+1), Deletion: row.Deletion{Timestamp: int64(100 + i%7), LocalTime: int64(i)}})
		})
		if err := b.Apply(&m); err != nil {
			t.Fatal(err)
		}
		if b.Len() >= 100 || i == n-1 {
			wg.Add(1)
			b.Commit(CommittedFunc(func(error) { wg.Done() }))
		}
	}
	wg.Wait()
}

func TestPointReadsUnderManyRangeTombstones(t *testing.T) {
	const n = 3000
	e := openMem(t)
	manyDeletes(t, e, n)
	r := testRand(1)
	written, deleted := map[int]bool{}, map[int]bool{} // at timestamp 1000
	for range 400 {
		i := r.IntN(n / 30)
		ck := fmt.Sprintf("%06d", i)
		switch r.IntN(4) {
		case 0: // above its tombstone
			write(t, e, put(genWide, pkey(1), ck, 1000, "v"))
			written[i] = true
		case 1: // below it
			write(t, e, put(genWide, pkey(1), ck, 50, "old"))
		case 2: // a newer tombstone, so that what is decoded is stale
			write(t, e, mutation(genWide, pkey(1), func(f *row.FragmentBuilder) {
				f.RangeTombstone(row.RangeTombstone{Start: []byte(ck), End: []byte(ck + "\xff"), Deletion: row.Deletion{Timestamp: 1000, LocalTime: 1}})
			}))
			deleted[i] = true
		}
		want := ""
		if written[i] && !deleted[i] {
			want = "00000001/" + ck + "=v "
		}
		for range 2 {
			if got, _ := read(t, e, point(genWide, pkey(1), ck)); got != want {
				t.Fatalf("row %s: %q, want %q", ck, got, want)
			}
		}
	}
	if len(e.many.parts) != 1 {
		t.Errorf("%d decoded partitions", len(e.many.parts))
	}
}

func BenchmarkPointReadUnderManyRangeTombstones(b *testing.B) {
	e := openTest(b, testOptions(vfs.NewMem()))
	defer e.Close()
	manyDeletes(b, e, 20_000)
	cmd := point(genWide, pkey(1), "000777")
	var page row.Page
	b.ResetTimer()
	for range b.N {
		if _, err := e.Read(&cmd, &page); err != nil {
			b.Fatal(err)
		}
	}
}
