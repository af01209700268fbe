package node

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"slices"
	"testing"
	"time"

	gocql "github.com/apache/cassandra-gocql-driver/v2"

	"github.com/helenusdb/helenus/meta"
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
		fresh = !seen[n.use.shard] && n.use.shard != row.ShardID{}
		seen[n.use.shard] = true
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

// TestShardUseRecord pins the bytes that docs/format/storage-keys.md draws.
func TestShardUseRecord(t *testing.T) {
	c := shardUse{shard: row.ShardID{1, 15: 2}, ranges: map[string][]ring.Range{"ks": {{Start: 1, End: 5}}}}
	raw := c.append(nil)
	if got := hex.EncodeToString(raw); got != "01"+"01000000000000000000000000000002"+"01"+"00"+"01"+"02"+"6b73"+"01"+"00000000000000010000000000000005"+"00" {
		t.Errorf("%s", got)
	}
	if got, ok := decodeShardUse(raw); !ok || got.shard != c.shard || !slices.Equal(got.ranges["ks"], c.ranges["ks"]) || got.all {
		t.Errorf("%+v %v", got, ok)
	}
	for _, bad := range [][]byte{nil, raw[:17], raw[:len(raw)-1], append([]byte{2}, raw[1:]...), append(bytes.Clone(raw), 0)} {
		if _, ok := decodeShardUse(bad); ok {
			t.Errorf("%x is taken for a record", bad)
		}
	}
}

// TestShardUse: ranges add up by keyspace, and what is there already is no news; of a shard of which nothing was noted nothing can be.
func TestShardUse(t *testing.T) {
	c := shardUse{}
	var grown bool
	for _, step := range []struct {
		keyspace string
		r        ring.Range
		grown    bool
	}{{"a", ring.Range{Start: 0, End: 10}, true}, {"a", ring.Range{Start: 2, End: 8}, false}, {"b", ring.Range{Start: 2, End: 8}, true}, {"a", ring.Range{Start: 5, End: 20}, true}} {
		before := c
		if c, grown = c.with(step.keyspace, []ring.Range{step.r}); grown != step.grown {
			t.Errorf("%s %s: more %v", step.keyspace, step.r, grown)
		}
		if grown && len(ring.Subtract(c.ranges[step.keyspace], before.ranges[step.keyspace])) == 0 {
			t.Error("what was there before has changed")
		}
	}
	if want := []ring.Range{{Start: 0, End: 20}}; !slices.Equal(c.ranges["a"], want) {
		t.Errorf("%v", c.ranges)
	}
	all := shardUse{all: true}
	if more, grown := all.with("a", []ring.Range{{Start: 0, End: 10}}); grown || !more.all {
		t.Error("something is noted of a shard of which it is not known where it was counted")
	}
}

// TestRegainedRangesAreCountedInANewShard: a node gives a range away and gets it back, and a replica that was down then knows an increment that nobody else does. What the node
// counts afterwards does not take it away, for it has another shard; one that gained nothing it had before keeps its own, also over a restart.
func TestRegainedRangesAreCountedInANewShard(t *testing.T) {
	if testing.Short() {
		t.Skip("ranges move twice")
	}
	c := newTrioWith(t, 200, func(_ int, o *Options) { filled(o, nil) })
	s, err := pinned(host(200), 19042).CreateSession()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	exec := func(q string, args ...any) {
		t.Helper()
		if err := s.Query(q, args...).Consistency(gocql.All).Exec(); err != nil {
			t.Fatalf("%s: %v", q, err)
		}
	}
	replicate := func(factor int) {
		t.Helper()
		exec(fmt.Sprintf("ALTER KEYSPACE cnt WITH replication = {'class': 'SimpleStrategy', 'replication_factor': %d}", factor))
		for _, n := range c.nodes {
			c.await("ranges have moved", func() bool {
				now := n.log.Current()
				ks, ok := now.Catalog.Keyspace("cnt")
				return ok && now.Phase() == meta.None && ks.Strategy.RF == factor
			})
		}
	}
	count := func(key string) (n int64) {
		t.Helper()
		if err := s.Query("SELECT n FROM cnt.c WHERE k = ?", key).Consistency(gocql.All).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	exec("CREATE KEYSPACE cnt WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 3}")
	exec("CREATE TABLE cnt.c (k text PRIMARY KEY, n counter)")
	for i := range 20 {
		for range 5 {
			exec("UPDATE cnt.c SET n = n + 1 WHERE k = ?", fmt.Sprint("key", i))
		}
	}
	was := [3]row.ShardID{}
	for i, n := range c.nodes {
		was[i] = n.coord.Shard()
	}
	replicate(1)
	lost := ""
	for i := 0; lost == "" && i < 20; i++ {
		key := fmt.Sprint("key", i)
		p := c.nodes[0].log.Current().Placement("cnt")
		if p.Ring().Nodes()[p.Replicas(ring.Murmur3{}.Token([]byte(key)))[0]].ID != c.nodes[0].home.HostID {
			lost = key
		}
	}
	if c.nodes[0].coord.Shard() != was[0] {
		t.Error("a new shard although it gained nothing")
	}
	replicate(3)
	for i, n := range c.nodes {
		if n.coord.Shard() == was[i] {
			t.Errorf("node %d goes on with the shard that it had", i)
		}
	}

	table, _ := c.nodes[1].log.Current().Catalog.Table("cnt", "c")
	col := table.Column("n")
	var b row.Builder
	b.Reset(nil)
	b.Cell(row.Cell{Column: col.ID, Path: was[0][:], Timestamp: time.Now().UnixMicro(), Value: row.AppendCount(nil, 6)})
	var f row.FragmentBuilder
	f.Reset(nil, false)
	f.Row(nil, b.Finish())
	late := row.Mutation{Generation: table.Generation, Token: ring.Murmur3{}.Token([]byte(lost)), Key: []byte(lost), Fragment: f.Finish()}
	if err := (repairStore{c.nodes[1].engine, &c.nodes[1].gate}).Apply(t.Context(), []row.Mutation{late}); err != nil {
		t.Fatal(err)
	}
	exec("UPDATE cnt.c SET n = n + 1 WHERE k = ?", lost)
	if n := count(lost); n != 7 {
		t.Errorf("%s is %d after 5 increments, one that a node knew which was down, and one more", lost, n)
	}
	for i := range 20 {
		if key := fmt.Sprint("key", i); key != lost && count(key) != 5 {
			t.Errorf("%s is %d after 5 increments", key, count(key))
		}
	}
}
