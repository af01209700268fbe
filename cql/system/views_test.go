package system

import (
	"bytes"
	"encoding/binary"
	"math"
	"testing"
	"time"

	"github.com/helenusdb/helenus/meta"
	"github.com/helenusdb/helenus/ring"
	"github.com/helenusdb/helenus/row"
)

// TestViewsOfTheNode: what the node tells of its tables, caches and pools is in the tables where clients look for it, and all of
// them are empty where nobody tells.
func TestViewsOfTheNode(t *testing.T) {
	ranges := []RangeSize{{ring.Range{Start: ring.MinToken, End: -5}, 4, 401}, {ring.Range{Start: -5, End: 7}, 0, 0}}
	o := Options{
		Sizes:  func() []Size { return []Size{{"ks", "a", 3<<20 + 1, ranges, ranges[:1]}, {"ks", "b", 0, nil, nil}} },
		Caches: func() []CacheState { return []CacheState{{"rows", 100, 50, 7, 4, 1}, {Name: "chunks"}} },
		Repairs: func() []Repair {
			return []Repair{{ID: [16]byte{1, 6: 0x10}, Keyspace: "ks", Table: "a", Range: ranges[0].Range, Replicas: []string{"127.0.0.1:7000", "127.0.0.2:7000"}, At: time.UnixMilli(5000)},
				{ID: [16]byte{2, 6: 0x10}, Keyspace: "ks", Table: "b", Range: ranges[1].Range, Why: "replica 127.0.0.2 is down"}}
		},
		Pools: func() []Pool { return []Pool{{"ReadStage", 1, 0, 2, 3, 1 << 40}} },
	}
	full, empty := newTables(t, o), newTables(t, Options{})
	catalog := meta.Empty().Catalog
	for _, c := range []struct {
		keyspace, table string
		rows            int
	}{{"system", "size_estimates", 2}, {"system", "table_estimates", 3}, {"system_views", "disk_usage", 2}, {"system_views", "caches", 2}, {"system_views", "thread_pools", 1}, {"system_views", "repairs", 2}} {
		table, ok := catalog.Table(c.keyspace, c.table)
		if !ok {
			t.Fatalf("no table %s.%s", c.keyspace, c.table)
		}
		cmd := row.Command{Range: &ring.Range{Start: ring.MinToken, End: ring.MinToken}, Now: 1}
		for limit := range 3 {
			if got := readAll(t, full, table, cmd, limit); len(got) != c.rows {
				t.Errorf("%s in pages of %d: %d rows, want %d", c.table, limit, len(got), c.rows)
			}
			if got := readAll(t, empty, table, cmd, limit); len(got) != 0 {
				t.Errorf("%s: %d rows of nothing", c.table, len(got))
			}
		}
	}
	number := func(r record, column string) int64 {
		if len(r[column]) == 4 {
			return int64(binary.BigEndian.Uint32(r[column]))
		}
		return int64(binary.BigEndian.Uint64(r[column]))
	}
	if r := full.sizeEstimates(); string(r[0]["range_start"]) != "-9223372036854775808" || string(r[0]["range_end"]) != "-5" || number(r[0], "mean_partition_size") != 100 ||
		number(r[0], "partitions_count") != 4 || number(r[1], "mean_partition_size") != 0 {
		t.Errorf("size_estimates: %q", r)
	}
	if r := full.diskUsage(); number(r[0], "mebibytes") != 4 || number(r[1], "mebibytes") != 0 {
		t.Errorf("disk_usage: %q", r)
	}
	if r := full.caches(); math.Float64frombits(uint64(number(r[0], "hit_ratio"))) != 0.25 || !math.IsNaN(math.Float64frombits(uint64(number(r[1], "hit_ratio")))) {
		t.Errorf("caches: %q", r)
	}
	if r := full.repairs(); number(r[0], "state_success_timestamp") != 5000 || r[0]["failure_cause"] != nil || string(r[1]["failure_cause"]) != "replica 127.0.0.2 is down" ||
		r[1]["state_success_timestamp"] != nil || !bytes.Contains(r[0]["ranges"], []byte("(-9223372036854775808,-5]")) || !bytes.Contains(r[0]["participants"], []byte("127.0.0.2:7000")) {
		t.Errorf("repairs: %q", r)
	}
	if r := full.threadPools(); number(r[0], "active_tasks_limit") != math.MaxInt32 || number(r[0], "completed_tasks") != 1<<40 || number(r[0], "pending_tasks") != 2 {
		t.Errorf("thread_pools: %q", r)
	}
}
