package node

import (
	"bytes"
	"encoding/hex"
	"testing"

	"github.com/helenusdb/helenus/ring"
	"github.com/helenusdb/helenus/row"
	"github.com/helenusdb/helenus/storage"
)

func TestShardRecord(t *testing.T) {
	raw := appendShard(nil, row.ShardID{1, 15: 2}, ring.HostID{3, 15: 4})
	if got := hex.EncodeToString(raw); got != "01"+"01000000000000000000000000000002"+"03000000000000000000000000000004" {
		t.Errorf("%s", got)
	}
	if shard, ok := decodeShard(raw, ring.HostID{3, 15: 4}); !ok || shard != (row.ShardID{1, 15: 2}) {
		t.Errorf("%x %v", shard, ok)
	}
	for _, bad := range [][]byte{nil, raw[:32], append(bytes.Clone(raw), 0), append([]byte{2}, raw[1:]...)} {
		if _, ok := decodeShard(bad, ring.HostID{3, 15: 4}); ok {
			t.Errorf("%x is taken for a record", bad)
		}
	}
	if _, ok := decodeShard(raw, ring.HostID{9}); ok {
		t.Error("another host's shard is used")
	}
}

// TestShardBelongsToOneIncarnation: a store keeps what it counts with over clean and other stops, takes a new one when it may
// have forgotten something, also when the operator clears the suspicion at once, and one at each start when it is synced only
// now and then.
func TestShardBelongsToOneIncarnation(t *testing.T) {
	fs := storage.Memory()
	seen := map[row.ShardID]bool{}
	start := func(clear bool, sync string) (fresh bool) {
		t.Helper()
		n := testNode(t, 8, host(8), func(o *Options) { o.FS, o.ClearSuspect, o.Config.CommitSync = fs, clear, sync })
		ended, stop := run(n)
		awaitReady(t, n, ended)
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		fresh = !seen[n.shard] && n.shard != row.ShardID{}
		seen[n.shard] = true
		return fresh
	}
	for i, step := range []struct {
		lose, clear bool
		sync        string
		fresh       bool
	}{
		{false, false, "group", true}, {false, false, "group", false}, {true, true, "group", true}, {false, false, "group", false},
		{true, false, "group", true}, {false, false, "group", true}, {false, true, "group", true}, {false, false, "batch", false},
		{false, false, "periodic", true}, {false, false, "periodic", true}, {false, false, "group", false},
	} {
		if step.lose {
			if err := fs.Remove("helenus-data/store/WATERMARK"); err != nil {
				t.Fatal(err)
			}
		}
		if fresh := start(step.clear, step.sync); fresh != step.fresh {
			t.Errorf("start %d: a new shard %v, want %v", i, fresh, step.fresh)
		}
	}
}
