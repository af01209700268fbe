package system

import (
	"encoding/binary"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/helenusdb/helenus/cql/types"
	"github.com/helenusdb/helenus/ring"
)

// Size is what one table holds on this node.
type Size struct {
	Keyspace, Table string
	Bytes           uint64 // on disk
	Primary         []RangeSize
	LocalPrimary    []RangeSize // of this node's data centre alone
}

// RangeSize is what a table holds in one token range that this node is the first replica of. Ranges do not wrap.
type RangeSize struct {
	Range      ring.Range
	Partitions int64 // about
	Bytes      uint64
}

// CacheState is a row of system_views.caches. Rates of the recent past are not measured.
type CacheState struct {
	Name           string
	Capacity, Size int64 // bytes
	Entries        int64
	Requests, Hits int64
}

// Pool is a row of system_views.thread_pools. Limit 0 means that there is none, shown as the highest number.
type Pool struct {
	Name                   string
	Active, Limit, Pending int64
	Blocked, Completed     int64
}

// Repair is a row of system_views.repairs: a range of a table that this node keeps repaired.
type Repair struct {
	ID              [16]byte // a time UUID
	Keyspace, Table string
	Range           ring.Range
	Replicas        []string
	At              time.Time // when the last session that repaired it on all replicas began; zero: none did
	Why             string    // why it is not repaired; empty: it is
}

// repairs are the rows of system_views.repairs. Cassandra has one there for each command; here each range that is kept repaired has one for its last session.
func (s *Tables) repairs() []record {
	if s.o.Repairs == nil {
		return nil
	}
	var out []record
	for _, r := range s.o.Repairs() {
		rg := listOf([][]byte{listOf(texts(r.Range.String()))})
		rec := record{"id": slices.Clone(r.ID[:]), "keyspace_name": text(r.Keyspace), "table_names": listOf(texts(r.Table)), "ranges": rg, "unfiltered_ranges": rg,
			"participants": listOf(texts(r.Replicas...)), "type": text("scheduled"), "options_primary_range": boolean(true), "options_incremental": boolean(false),
			"completed": boolean(!r.At.IsZero()), "status": text("not repaired")}
		if !r.At.IsZero() {
			at := bigint(r.At.UnixMilli())
			rec["last_updated_at"], rec["state_success_timestamp"], rec["status"] = at, at, text("repaired")
		}
		if r.Why != "" {
			rec["failure_cause"] = text(r.Why)
		}
		out = append(out, rec)
	}
	return out
}

func texts(list ...string) (out [][]byte) {
	for _, s := range list {
		out = append(out, text(s))
	}
	return out
}

func listOf(elems [][]byte) []byte {
	return types.ListOf(types.Text, true).AppendCollection(nil, elems)
}

// sizeEstimates are the rows of system.size_estimates.
func (s *Tables) sizeEstimates() []record {
	var out []record
	for _, t := range s.sizes() {
		for _, r := range t.Primary {
			out = append(out, rangeRecord(t, r))
		}
	}
	return out
}

// tableEstimates are the rows of system.table_estimates.
func (s *Tables) tableEstimates() []record {
	var out []record
	for _, t := range s.sizes() {
		for kind, ranges := range map[string][]RangeSize{"primary": t.Primary, "local_primary": t.LocalPrimary} { // encode sorts
			for _, r := range ranges {
				rec := rangeRecord(t, r)
				rec["range_type"] = text(kind)
				out = append(out, rec)
			}
		}
	}
	return out
}

func rangeRecord(t Size, r RangeSize) record {
	mean := int64(0)
	if r.Partitions > 0 {
		mean = int64(r.Bytes) / r.Partitions
	}
	return record{"keyspace_name": text(t.Keyspace), "table_name": text(t.Table), "range_start": token(r.Range.Start), "range_end": token(r.Range.End),
		"mean_partition_size": bigint(mean), "partitions_count": bigint(r.Partitions)}
}

func token(t ring.Token) []byte { return text(strconv.FormatInt(int64(t), 10)) }

// diskUsage are the rows of system_views.disk_usage; part of a mebibyte counts as one.
func (s *Tables) diskUsage() []record {
	var out []record
	for _, t := range s.sizes() {
		out = append(out, record{"keyspace_name": text(t.Keyspace), "table_name": text(t.Table), "mebibytes": bigint(int64((t.Bytes + 1<<20 - 1) >> 20))})
	}
	return out
}

func (s *Tables) sizes() []Size {
	if s.o.Sizes == nil {
		return nil
	}
	return s.o.Sizes()
}

func (s *Tables) caches() []record {
	if s.o.Caches == nil {
		return nil
	}
	var out []record
	for _, c := range s.o.Caches() {
		ratio := math.NaN() // as in Cassandra, before the first request
		if c.Requests > 0 {
			ratio = float64(c.Hits) / float64(c.Requests)
		}
		out = append(out, record{"name": text(c.Name), "capacity_bytes": bigint(c.Capacity), "size_bytes": bigint(c.Size), "entry_count": integer(narrow(c.Entries)),
			"request_count": bigint(c.Requests), "hit_count": bigint(c.Hits), "hit_ratio": double(ratio)})
	}
	return out
}

func (s *Tables) threadPools() []record {
	if s.o.Pools == nil {
		return nil
	}
	var out []record
	for _, p := range s.o.Pools() {
		limit := p.Limit
		if limit == 0 {
			limit = math.MaxInt32
		}
		out = append(out, record{"name": text(p.Name), "active_tasks": integer(narrow(p.Active)), "active_tasks_limit": integer(narrow(limit)),
			"pending_tasks": integer(narrow(p.Pending)), "blocked_tasks": bigint(0), "blocked_tasks_all_time": bigint(p.Blocked),
			"completed_tasks": bigint(p.Completed)})
	}
	return out
}

func narrow(n int64) int32 { return int32(min(max(n, 0), math.MaxInt32)) }

func double(f float64) []byte { return binary.BigEndian.AppendUint64(nil, math.Float64bits(f)) }
