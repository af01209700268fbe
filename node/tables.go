package node

import (
	"context"
	"errors"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/helenusdb/helenus/admin"
	"github.com/helenusdb/helenus/internal/latency"
	"github.com/helenusdb/helenus/ring"
	"github.com/helenusdb/helenus/schema"
	"github.com/helenusdb/helenus/storage"
)

// partitionSample is how many partitions of a table are measured for their sizes.
const partitionSample = 128

// tablesNamed returns the tables that names choose: "keyspace", "keyspace.table" or, for none, all of the users'.
func (n *Node) tablesNamed(names []string) ([]*schema.Table, error) {
	c := n.log.Current().Catalog
	var out []*schema.Table
	if len(names) == 0 {
		for _, k := range c.Keyspaces() {
			if !k.System() {
				out = append(out, k.Tables()...)
			}
		}
	}
	for _, name := range names {
		ks, table, one := strings.Cut(name, ".")
		k, ok := c.Keyspace(ks)
		if !ok || k.Virtual {
			return nil, bad("Keyspace [%s] does not exist.", ks)
		}
		if !one {
			out = append(out, k.Tables()...)
			continue
		}
		t, ok := k.Table(table)
		if !ok {
			return nil, bad("Unknown keyspace/cf pair (%s.%s)", ks, table)
		}
		out = append(out, t)
	}
	out = slices.DeleteFunc(out, func(t *schema.Table) bool { return t.Virtual })
	slices.SortStableFunc(out, func(a, b *schema.Table) int {
		return strings.Compare(a.Keyspace+"."+a.Name, b.Keyspace+"."+b.Name)
	})
	return slices.Compact(out), nil
}

// flush writes memtables to tables. All tables share them, so that naming one only checks that it exists.
func (n *Node) flush(_ context.Context, args url.Values) (any, error) {
	if _, err := n.tablesNamed(args["table"]); err != nil {
		return nil, err
	}
	return struct{}{}, n.engine.Flush()
}

// compact brings the rows of tables to the bottom of the store; without tables, of all.
func (n *Node) compact(ctx context.Context, args url.Values) (any, error) {
	tables, err := n.tablesNamed(args["table"])
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(n.life, cancel)()
	for _, t := range tables {
		if err := n.engine.Compact(ctx, t.Generation); err != nil {
			return nil, err
		}
	}
	return struct{}{}, nil
}

// TableStats is one table on this node. Pointers are nil where nothing is known: memtables and files are shared by all tables.
type TableStats struct {
	Keyspace     string  `json:"keyspace"`
	Table        string  `json:"table"`
	Files        int64   `json:"sstable_count"` // that hold rows of it; others may be in them
	LargestFile  int64   `json:"max_sstable_size"`
	Space        uint64  `json:"space_used_live"` // estimated from blocks
	Snapshots    int64   `json:"space_used_by_snapshots_total"`
	Ratio        float64 `json:"sstable_compression_ratio"` // -1: no file
	Partitions   int64   `json:"number_of_partitions_estimate"`
	Reads        int64   `json:"local_read_count"`
	ReadMicros   float64 `json:"local_read_latency_micros"` // mean of those that were timed; -1: none
	Writes       int64   `json:"local_write_count"`
	WriteMicros  float64 `json:"local_write_latency_micros"`
	Sampled      int     `json:"partitions_measured"`
	SmallestPart int64   `json:"partition_minimum_bytes"`
	LargestPart  int64   `json:"partition_maximum_bytes"`
	MeanPart     int64   `json:"partition_mean_bytes"`
	MeanCells    float64 `json:"average_cells_per_partition"`
	MaxCells     int64   `json:"maximum_cells_per_partition"`
	MeanDead     float64 `json:"average_tombstones_per_partition"`
	MaxDead      int64   `json:"maximum_tombstones_per_partition"`
}

func (n *Node) tableStats(args url.Values) (any, error) {
	tables, err := n.tablesNamed(args["table"])
	if err != nil {
		return nil, err
	}
	out := []TableStats{}
	list, err := n.snapshots.List()
	if err != nil {
		n.o.Logger.Warn("not all snapshots can be read", "err", err)
	}
	for _, t := range tables {
		s, err := n.statsOf(t)
		if err != nil {
			return nil, err
		}
		s.Snapshots = n.snapshotBytes(list, t)
		out = append(out, s)
	}
	return out, nil
}

func (n *Node) statsOf(t *schema.Table) (TableStats, error) {
	s := TableStats{Keyspace: t.Keyspace, Table: t.Name, Ratio: -1, ReadMicros: -1, WriteMicros: -1}
	files, err := n.engine.TableFiles(t.Generation)
	if err != nil {
		return s, err
	}
	if s.Files, s.LargestFile = files.Count, files.Largest; files.Count > 0 {
		s.Ratio = files.Ratio
	}
	if s.Space, err = n.engine.DiskUsage(t.Generation); err != nil {
		return s, err
	}
	if s.Partitions, _, err = n.engine.Estimate(t.Generation, ring.FullRange()); err != nil {
		return s, err
	}
	if c := n.engine.TableStats(t.Generation); c != nil {
		s.Reads, s.Writes = c.Reads.Load(), c.Writes.Load()
		s.ReadMicros, s.WriteMicros = meanMicros(c.ReadLatency.Snapshot()), meanMicros(c.WriteLatency.Snapshot())
	}
	sizes, err := n.engine.SampleSizes(t.Generation, ring.FullRange(), partitionSample)
	if err != nil {
		return s, err
	}
	s.measure(sizes)
	return s, nil
}

func meanMicros(s latency.Snapshot) float64 {
	if s.Count == 0 {
		return -1
	}
	return float64(s.Mean()) / float64(time.Microsecond)
}

func (s *TableStats) measure(sizes []storage.PartitionSize) {
	var bytes, cells, dead int64
	for i, p := range sizes {
		if i == 0 {
			s.SmallestPart = p.Bytes
		}
		s.SmallestPart, s.LargestPart = min(s.SmallestPart, p.Bytes), max(s.LargestPart, p.Bytes)
		s.MaxCells, s.MaxDead = max(s.MaxCells, p.Cells), max(s.MaxDead, p.Tombstones)
		bytes, cells, dead = bytes+p.Bytes, cells+p.Cells, dead+p.Tombstones
	}
	if s.Sampled = len(sizes); s.Sampled > 0 {
		n := int64(s.Sampled)
		s.MeanPart, s.MeanCells, s.MeanDead = bytes/n, float64(cells)/float64(n), float64(dead)/float64(n)
	}
}

// Distribution of a number over the partitions that were measured.
type Distribution struct {
	P50 int64 `json:"p50"`
	P75 int64 `json:"p75"`
	P95 int64 `json:"p95"`
	P98 int64 `json:"p98"`
	P99 int64 `json:"p99"`
	Min int64 `json:"min"`
	Max int64 `json:"max"`
}

func distributionOf(values []int64) Distribution {
	if len(values) == 0 {
		return Distribution{}
	}
	slices.Sort(values)
	q := func(q float64) int64 { return values[int(q*float64(len(values)-1))] }
	return Distribution{P50: q(.5), P75: q(.75), P95: q(.95), P98: q(.98), P99: q(.99), Min: q(0), Max: q(1)}
}

// TableHistograms is the answer of tablehistograms.
type TableHistograms struct {
	Keyspace   string       `json:"keyspace"`
	Table      string       `json:"table"`
	Read       Percentiles  `json:"read"` // of this node's store, since its start
	Write      Percentiles  `json:"write"`
	Partitions Distribution `json:"partition_bytes"`
	Cells      Distribution `json:"cells"`
	Sampled    int          `json:"partitions_measured"`
}

func (n *Node) tableHistograms(args url.Values) (any, error) {
	t, ok := n.log.Current().Catalog.Table(args.Get("keyspace"), args.Get("table"))
	if !ok || t.Virtual {
		return nil, bad("Unknown table %s.%s", args.Get("keyspace"), args.Get("table"))
	}
	out := TableHistograms{Keyspace: t.Keyspace, Table: t.Name}
	if c := n.engine.TableStats(t.Generation); c != nil {
		out.Read, out.Write = percentilesOf(c.ReadLatency.Snapshot()), percentilesOf(c.WriteLatency.Snapshot())
	}
	sizes, err := n.engine.SampleSizes(t.Generation, ring.FullRange(), partitionSample)
	if err != nil {
		return nil, err
	}
	var bytes, cells []int64
	for _, p := range sizes {
		bytes, cells = append(bytes, p.Bytes), append(cells, p.Cells)
	}
	out.Partitions, out.Cells, out.Sampled = distributionOf(bytes), distributionOf(cells), len(sizes)
	return out, nil
}

// tableMetricsMax is for how many tables /metrics has figures of their own, the oldest tables first, so that a table does not
// come and go; those beyond are one, with the labels "_other".
const tableMetricsMax = 200

const otherTables = "_other"

// latencyBounds are the buckets on /metrics.
var latencyBounds = [...]time.Duration{64 * time.Microsecond, 256 * time.Microsecond, time.Millisecond, 4 * time.Millisecond, 16 * time.Millisecond,
	64 * time.Millisecond, 256 * time.Millisecond, 1024 * time.Millisecond, 4096 * time.Millisecond}

// tableFigures are those of one table, or of all beyond the bound.
type tableFigures struct {
	keyspace, table string
	reads, writes   int64
	local           [2]latency.Snapshot // read, write
	coordinated     [2]latency.Snapshot
	bytes           uint64
}

// tableMetrics are the figures of user tables, when Prometheus asks.
func (n *Node) tableMetrics() []admin.Sample {
	var all []*schema.Table
	for _, k := range n.log.Current().Catalog.Keyspaces() {
		if !k.System() {
			all = append(all, k.Tables()...)
		}
	}
	slices.SortFunc(all, func(a, b *schema.Table) int { return int(int64(a.Generation) - int64(b.Generation)) })
	var figures []*tableFigures
	for i, t := range all {
		f := &tableFigures{keyspace: t.Keyspace, table: t.Name}
		if i >= tableMetricsMax {
			f = &tableFigures{keyspace: otherTables, table: otherTables}
			if i > tableMetricsMax {
				f = figures[tableMetricsMax]
			}
		}
		n.addFigures(f, t)
		if i <= tableMetricsMax {
			figures = append(figures, f)
		}
	}
	var out []admin.Sample
	for _, f := range figures {
		out = f.append(out)
	}
	return out
}

func (n *Node) addFigures(f *tableFigures, t *schema.Table) {
	if c := n.engine.TableStats(t.Generation); c != nil {
		f.reads, f.writes = f.reads+c.Reads.Load(), f.writes+c.Writes.Load()
		f.local[0].Add(&c.ReadLatency)
		f.local[1].Add(&c.WriteLatency)
	}
	if s := n.cql.Load(); s != nil {
		if l := s.executor.TableLatency(t.ID); l != nil {
			f.coordinated[0].Add(&l.Read)
			f.coordinated[1].Add(&l.Write)
		}
	}
	if b, err := n.engine.DiskUsage(t.Generation); err == nil || errors.Is(err, storage.ErrClosed) {
		f.bytes += b
	}
}

var tableLabels = []string{"keyspace", "table"}

func (f *tableFigures) append(out []admin.Sample) []admin.Sample {
	one := func(name, help string, kind admin.Kind, v float64) {
		out = append(out, admin.Sample{Name: name, Help: help, Kind: kind, Labels: tableLabels, Values: []string{f.keyspace, f.table}, Value: v})
	}
	histogram := func(name, help string, s *latency.Snapshot) {
		buckets := map[float64]uint64{}
		for i, c := range s.Within(latencyBounds[:]) {
			buckets[latencyBounds[i].Seconds()] = c
		}
		out = append(out, admin.Sample{Name: name, Help: help, Labels: tableLabels, Values: []string{f.keyspace, f.table}, Buckets: buckets, Count: s.Count, Sum: s.Sum.Seconds()})
	}
	one("helenus_table_reads_total", "read commands that this node's store answered", admin.Counter, float64(f.reads))
	one("helenus_table_writes_total", "mutations that this node's store took", admin.Counter, float64(f.writes))
	one("helenus_table_disk_bytes", "bytes on disk, estimated", admin.Gauge, float64(f.bytes))
	histogram("helenus_table_read_seconds", "reads of this node's store, one in sixteen", &f.local[0])
	histogram("helenus_table_write_seconds", "writes to this node's store, one in sixteen", &f.local[1])
	histogram("helenus_table_client_read_seconds", "SELECTs that this node coordinated", &f.coordinated[0])
	histogram("helenus_table_client_write_seconds", "modifications that this node coordinated", &f.coordinated[1])
	return out
}
