package row

import (
	"testing"

	"github.com/helenusdb/helenus/ring"
)

// TestPurgedIsNoPartOfADigest: a replica that still has tombstones which all have seen gives the digest of one that has purged them, and only of one; a command by which nothing may be
// purged is not overruled.
func TestPurgedIsNoPartOfADigest(t *testing.T) {
	asked := 0
	digest := func(gcBefore, purged int64, tombstones bool) uint64 {
		cmd := Command{Generation: 1, Now: 10_000, GCBefore: gcBefore, Token: 7, Key: []byte("k"), WithStatic: true, Digest: true}
		var b PageBuilder
		b.Purged = func(token ring.Token) int64 {
			if asked++; token != 7 {
				t.Errorf("asked for token %d", token)
			}
			return purged
		}
		var page Page
		b.Init(&cmd, &page)
		b.BeginPartition(7, []byte("k"))
		d := Deletion{Timestamp: 5, LocalTime: 1000}
		if tombstones {
			b.PartitionDeletion(d)
			b.RangeTombstone(RangeTombstone{Start: []byte("a"), End: []byte("b"), Deletion: Deletion{Timestamp: 6, LocalTime: 1000}})
		}
		var live, dead Builder
		live.Reset(nil)
		live.SetLiveness(Liveness{Timestamp: 50})
		dead.Reset(nil)
		dead.SetDeletion(Deletion{Timestamp: 7, LocalTime: 1000})
		if err := b.Static(nil); err != nil {
			t.Fatal(err)
		}
		if _, err := b.Row([]byte("m"), live.Finish()); err != nil {
			t.Fatal(err)
		}
		if tombstones {
			if _, err := b.Row([]byte("n"), dead.Finish()); err != nil {
				t.Fatal(err)
			}
		}
		b.EndPartition()
		b.Finish()
		return page.Digest
	}
	without := digest(500, 500, false)
	if asked > 0 {
		t.Error("asked although nothing is mortal")
	}
	if digest(500, 1001, true) != without {
		t.Error("tombstones that were purged elsewhere count")
	}
	if asked != 1 {
		t.Errorf("asked %d times for one partition", asked)
	}
	for _, purged := range []int64{NoTimestamp, 1000} {
		if digest(500, purged, true) == without {
			t.Errorf("purged before %d: tombstones do not count", purged)
		}
	}
	if digest(NoTimestamp, 1001, true) == without {
		t.Error("a command by which nothing may be purged is overruled")
	}
	if digest(1001, NoTimestamp, true) != without {
		t.Error("what the command says does not count any more")
	}
}
