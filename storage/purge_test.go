package storage

import (
	"context"
	"fmt"
	"math"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/helenusdb/helenus/ring"
	"github.com/helenusdb/helenus/row"
	"github.com/helenusdb/helenus/schema"
)

// TestPurgeByToken: every partition is purged by its own bound, one with a Paxos register by the more careful one, and what goes takes along what it shadows,
// also when the bound rises while the partition is being purged.
func TestPurgeByToken(t *testing.T) {
	const partitions, rows = 12, 3 * purgeChunkRows / 2
	bounds, registers := map[ring.Token]int64{}, map[ring.Token]bool{}
	asked := map[ring.Token]int{}
	o := testOptions(vfs.NewMem())
	now := int64(10_000)
	o.Now = unixTime(&now)
	o.GCBefore = func(*schema.Table, int64) GCBefore {
		return GCBefore{Latest: math.MaxInt32, Of: func(token ring.Token, conditional bool) int64 {
			asked[token]++
			if asked[token] > 2 { // it rises while the partition is looked at
				return 9000
			}
			if conditional {
				return min(bounds[token], 500)
			}
			return bounds[token]
		}}
	}
	e := openTest(t, o)
	defer func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	}()
	for i := range partitions {
		key := pkey(i)
		bounds[token(key)] = []int64{row.NoTimestamp, 1000, 1001, 2001}[i%4]
		if registers[token(key)] = i >= partitions/2; registers[token(key)] {
			b := e.NewBatch()
			if err := b.SetRegister(genWide, token(key), key, registerHead, []byte("head")); err != nil {
				t.Fatal(err)
			}
			if err := e.CommitWait(context.Background(), b); err != nil {
				t.Fatal(err)
			}
		}
		var ms []row.Mutation
		for r := range rows {
			ms = append(ms, put(genWide, key, fmt.Sprintf("k%05d", r), 10, "old"))
		}
		ms = append(ms, mutation(genWide, key, func(f *row.FragmentBuilder) {
			f.PartitionDeletion(row.Deletion{Timestamp: 20, LocalTime: 1000})
			f.RangeTombstone(row.RangeTombstone{Start: []byte("a"), End: []byte("z"), Deletion: row.Deletion{Timestamp: 30, LocalTime: 2000}})
		}))
		write(t, e, ms...)
	}
	if _, err := e.Purge(context.Background(), genWide); err != nil {
		t.Fatal(err)
	}
	for i := range partitions {
		tk := token(pkey(i))
		text, page := read(t, e, single(genWide, pkey(i)))
		if text != "" {
			t.Errorf("partition %d: %d bytes of rows came back", i, len(text))
		}
		var left []int64
		var pr row.PageReader
		for pr.Init(page.Data); pr.Next(); {
			var f row.FragmentReader
			if err := f.Init(pr.Fragment); err != nil {
				t.Fatal(err)
			}
			if d := f.PartitionDeletion(); !d.Live() {
				left = append(left, d.LocalTime)
			}
			var rt row.RangeTombstone
			for f.NextRange(&rt) {
				left = append(left, rt.LocalTime)
			}
		}
		bound := bounds[tk]
		if registers[tk] {
			bound = min(bound, 500)
		}
		var want []int64
		for _, at := range []int64{1000, 2000} {
			if at >= bound {
				want = append(want, at)
			}
		}
		if fmt.Sprint(left) != fmt.Sprint(want) {
			t.Errorf("partition %d, bound %d, register %v: deletions of %v are left, want %v", i, bounds[tk], registers[tk], left, want)
		}
	}
}
