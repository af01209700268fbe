package node

import (
	"context"
	"slices"
	"sync/atomic"
	"time"

	"github.com/helenusdb/helenus/admin"
	"github.com/helenusdb/helenus/meta"
	"github.com/helenusdb/helenus/schema"
	"github.com/helenusdb/helenus/storage"
)

// Status is what /api/v1/status says: the cluster as this node sees it.
type Status struct {
	Cluster     string       `json:"cluster"`
	ClusterID   string       `json:"cluster_id"`
	Epoch       uint64       `json:"epoch"`
	Schema      string       `json:"schema_version"`
	Partitioner string       `json:"partitioner"`
	Leader      string       `json:"metadata_leader,omitempty"`
	Self        string       `json:"self"`
	Version     string       `json:"version"`
	Uptime      float64      `json:"uptime_seconds"`
	InFlight    int64        `json:"requests_in_flight"` // coordinated by this node
	Keyspaces   []Ownership  `json:"keyspaces"`
	Nodes       []NodeStatus `json:"nodes"`
}

// Ownership is the share of the ring per node for one user keyspace.
type Ownership struct {
	Keyspace string             `json:"keyspace"`
	Owns     map[string]float64 `json:"owns"` // host id -> [0, 1]
}

// NodeStatus is one member.
type NodeStatus struct {
	HostID  string  `json:"host_id"`
	Address string  `json:"address"`
	Native  string  `json:"native_address"`
	DC      string  `json:"data_center"`
	Rack    string  `json:"rack"`
	Up      bool    `json:"up"`
	State   string  `json:"state"` // normal, joining, leaving, moving
	Tokens  int     `json:"tokens"`
	Load    uint64  `json:"load_bytes"`
	Owns    float64 `json:"owns"` // primary ranges, [0, 1]
	Voter   bool    `json:"metadata_voter"`
	Hints   int64   `json:"hints_pending"`
}

// Status describes the cluster as this node sees it now.
func (n *Node) Status() Status {
	s := n.log.Current()
	out := Status{Cluster: s.ClusterName, ClusterID: storageID(s.ClusterID), Epoch: s.Epoch, Schema: schema.ID(s.Catalog.Version).String(),
		Partitioner: s.Partitioner, Self: n.home.HostID.String(), Version: n.o.Version, Uptime: time.Since(n.started).Seconds(),
		InFlight: n.coord.InFlight()}
	if id, ok := n.log.Leader(); ok {
		out.Leader = id.String()
	}
	owned := map[string]float64{}
	for i := range s.Ring.Segments() {
		r := s.Ring.Segment(i)
		owned[s.Ring.Nodes()[s.Ring.Primary(r.End)].ID.String()] += r.Fraction()
	}
	for _, ks := range s.Catalog.Keyspaces() {
		p := s.Placement(ks.Name)
		if p == nil || schema.IsSystemKeyspace(ks.Name) {
			continue
		}
		o := Ownership{Keyspace: ks.Name, Owns: map[string]float64{}}
		for i, share := range p.Ownership() {
			o.Owns[p.Ring().Nodes()[i].ID.String()] = share
		}
		out.Keyspaces = append(out.Keyspaces, o)
	}
	for _, m := range s.Members() {
		out.Nodes = append(out.Nodes, n.nodeStatus(m, owned))
	}
	return out
}

func storageID(id [16]byte) string { return schema.ID(id).String() }

func (n *Node) nodeStatus(m meta.Node, owned map[string]float64) NodeStatus {
	st := NodeStatus{HostID: m.ID.String(), Address: m.Internode.Addr().String(), Native: m.Native.String(), DC: m.DC, Rack: m.Rack,
		Up: n.alive(m.ID), State: m.State.String(), Tokens: len(m.Tokens), Owns: owned[m.ID.String()], Voter: m.Voter,
		Hints: n.coord.Hints().PendingFor(m.ID)}
	if len(m.Next) > 0 {
		st.State = "moving"
	}
	if m.ID == n.home.HostID {
		st.Load = n.engine.Stats().DiskBytes
	} else if g := n.liveness(); g != nil {
		if s, ok := g.State(m.ID); ok {
			st.Load = s.Meta.LoadBytes
		}
	}
	return st
}

func (n *Node) startAdmin(ctx context.Context) error {
	addr := n.o.Config.Admin()
	if addr.Port() == 0 {
		return nil
	}
	s, err := admin.New(admin.Options{Addr: addr.String(), Listen: n.o.Net.Listen, Ready: n.servesClients,
		Status: func() any { return n.Status() }, Metrics: n.metrics(),
		Collect:   func() []admin.Sample { return slices.Concat(n.tableMetrics(), n.streamMetrics(), n.rangeMetrics()) },
		Endpoints: slices.Concat(n.endpoints(), n.operationEndpoints(), n.o.Endpoints), Streams: []admin.Stream{{Path: RepairPath, Run: n.serveRepair}}, Logger: n.o.Logger})
	if err != nil {
		return err
	}
	if err := s.Listen(ctx); err != nil {
		return err
	}
	n.services.start("admin interface", s.Run, nil)
	return nil
}

// metrics lists what /metrics shows.
func (n *Node) metrics() []admin.Metric {
	counter := func(name, help string, load func() int64) admin.Metric {
		return admin.Metric{Name: name, Help: help, Value: func() float64 { return float64(load()) }}
	}
	gauge := func(name, help string, value func() float64) admin.Metric {
		return admin.Metric{Name: name, Help: help, Kind: admin.Gauge, Value: value}
	}
	routed := func(replica string, v *atomic.Int64) admin.Metric {
		m := counter("helenus_coordinated_total", "requests for one partition coordinated here, by whether this node is a replica of it", v.Load)
		m.Label = "replica=" + replica
		return m
	}
	e, c, h, b := n.engineMetrics, n.coord.Metrics(), n.coord.Hints(), n.coord.Batchlog().Metrics()
	out := []admin.Metric{
		gauge("helenus_metadata_epoch", "epoch of the cluster metadata on this node", func() float64 { return float64(n.log.Current().Epoch) }),
		gauge("helenus_hints_pending", "hints that wait for their target", func() float64 { v, _ := h.Pending(); return float64(v) }),
		gauge("helenus_hints_pending_bytes", "bytes of hints that wait for their target", func() float64 { _, v := h.Pending(); return float64(v) }),
		counter("helenus_hints_stored_total", "hints stored", h.Metrics().Stored.Load),
		counter("helenus_hints_delivered_total", "hints delivered", h.Metrics().Delivered.Load),
		counter("helenus_hints_expired_total", "hints that became useless before they were delivered", h.Metrics().Expired.Load),
		counter("helenus_hints_dropped_total", "hints that were not kept: window, bound, or full disk", h.Metrics().Dropped.Load),
		counter("helenus_batchlog_logged_total", "logged batches over several partitions coordinated here that are in the batchlog", b.Logged.Load),
		counter("helenus_batchlog_stored_total", "batches kept here for a coordinator", b.Stored.Load),
		counter("helenus_batchlog_replayed_total", "batches that were left behind and were made again from here", b.Replayed.Load),
		counter("helenus_batchlog_handed_over_total", "batches that were given to other nodes since this one leaves the cluster", b.Given.Load),
		counter("helenus_batchlog_dropped_total", "batches left behind that nobody wants any more: tables gone, older than gc_grace, damaged", b.Dropped.Load),
		gauge("helenus_batchlog_pending", "batches kept here at the last look, once a second", func() float64 { return float64(b.Pending.Load()) }),
		gauge("helenus_batchlog_stuck", "those of them that could not be replayed: a replica is down and no hint is kept for it, or it refuses", func() float64 { return float64(b.Stuck.Load()) }),
		gauge("helenus_coordinator_in_flight", "requests under way", func() float64 { return float64(n.coord.InFlight()) }),
		routed("here", &c.Here),
		routed("elsewhere", &c.Elsewhere),
		counter("helenus_speculative_reads_total", "further replicas asked because an answer was late", c.SpeculativeReads.Load),
		counter("helenus_stalled_reads_total", "reads of the local store that did not come back for a while", c.StalledReads.Load),
		gauge("helenus_stalled_reads", "reads of the local store that have not come back yet", func() float64 { return float64(n.coord.Stalled()) }),
		counter("helenus_hints_damaged_total", "stored hints that could not be read to their end", c.DamagedHints.Load),
		counter("helenus_digest_mismatches_total", "reads whose replicas differed", c.DigestMismatches.Load),
		counter("helenus_read_repairs_total", "replicas repaired by reads", c.ReadRepairs.Load),
		counter("helenus_counters_led_total", "counter writes of one partition that this node has led", c.CountersLed.Load),
		counter("helenus_counters_forwarded_total", "counter writes of one partition that this node has given to another leader", c.CountersForwarded.Load),
		counter("helenus_storage_writes_total", "keys written", e.Writes.Load),
		counter("helenus_storage_batches_total", "batches committed", e.Batches.Load),
		counter("helenus_storage_writes_refused_total", "mutations refused, for example on a full disk", e.WritesRefused.Load),
		counter("helenus_storage_reads_total", "read commands", e.Reads.Load),
		counter("helenus_storage_point_reads_total", "point reads", e.PointReads.Load),
		counter("helenus_storage_scans_total", "scans", e.Scans.Load),
		counter("helenus_row_cache_hits_total", "rows found in the row cache", e.CacheHits.Load),
		counter("helenus_row_cache_misses_total", "rows not found in the row cache", e.CacheMisses.Load),
		counter("helenus_purged_keys_total", "keys rewritten or removed by purge", e.PurgeChanged.Load),
		gauge("helenus_meta_suspect", "1 while this node takes no part in the metadata log because the end of a log was found missing", func() float64 {
			if n.log.Suspect() {
				return 1
			}
			return 0
		}),
		gauge("helenus_storage_suspect", "1 when the end of the log was found missing: acknowledged writes may be gone from this node", func() float64 {
			if n.engine.Suspect() {
				return 1
			}
			return 0
		}),
		counter("helenus_storage_corruptions_total", "blocks or files that were found damaged", e.Corruptions.Load),
		counter("helenus_storage_stalls_total", "times that writes waited for compactions", e.WriteStalls.Load),
		gauge("helenus_disk_free_bytes", "free bytes of the file system at the last look", func() float64 { return float64(e.FreeBytes.Load()) }),
		gauge("helenus_storage_disk_bytes", "bytes of tables and log", func() float64 { return float64(n.engine.Stats().DiskBytes) }),
		{Name: "helenus_sync_seconds", Help: "from applied to durable", Histogram: func() (map[float64]uint64, uint64, float64) { return syncHistogram(&e.SyncLatency) }},
	}
	out = append(out, n.casMetrics()...)
	out = append(out, n.repairMetrics()...)
	out = append(out, n.scheduleMetrics()...)
	return append(out, n.serverMetrics()...)
}

func (n *Node) serverMetrics() []admin.Metric {
	s := n.cql.Load()
	m, x := s.server.Metrics(), s.executor.Metrics()
	value := func(name, help string, kind admin.Kind, load func() int64) admin.Metric {
		return admin.Metric{Name: name, Help: help, Kind: kind, Value: func() float64 { return float64(load()) }}
	}
	return []admin.Metric{
		value("helenus_client_connections", "open client connections", admin.Gauge, m.Open.Load),
		value("helenus_client_connections_accepted_total", "client connections accepted", admin.Counter, m.Accepted.Load),
		value("helenus_client_overloaded_total", "requests refused with OVERLOADED: bytes in flight, or a full queue", admin.Counter,
			func() int64 { return m.Overloaded.Load() + x.Overloaded.Load() }),
		value("helenus_client_connections_refused_total", "client connections refused: too many", admin.Counter,
			func() int64 { return m.OverConns.Load() + m.OverConnsAddr.Load() }),
		value("helenus_client_errors_total", "ERROR answers", admin.Counter, m.Errors.Load),
		value("helenus_client_protocol_errors_total", "requests that could not be understood", admin.Counter, m.ProtocolErrors.Load),
		value("helenus_client_bad_frames_total", "broken frames", admin.Counter, m.BadFrames.Load),
		value("helenus_client_panics_total", "panics caught in requests", admin.Counter, m.Panics.Load),
		value("helenus_cql_reads_total", "SELECT statements coordinated here", admin.Counter, x.Reads.Load),
		value("helenus_cql_writes_total", "modifications coordinated here", admin.Counter, x.Writes.Load),
		value("helenus_cql_serial_total", "conditional writes and serial reads coordinated here", admin.Counter, x.CAS.Load),
		value("helenus_prepared_statements", "prepared statements held", admin.Gauge, x.Prepared.Load),
		value("helenus_prepared_evicted_total", "prepared statements forgotten for want of room", admin.Counter, x.PreparedEvicted.Load),
		value("helenus_slow_queries_total", "requests that took longer than slow_query_log_threshold", admin.Counter, s.executor.SlowQueries),
		value("helenus_unavailable_total", "requests answered UNAVAILABLE", admin.Counter, x.Unavailable.Load),
		value("helenus_timeouts_total", "requests that timed out", admin.Counter, x.Timeouts.Load),
		value("helenus_failures_total", "requests that replicas failed", admin.Counter, x.Failures.Load),
	}
}

// syncHistogram turns storage's buckets (powers of two µs) into cumulative counts by seconds.
func syncHistogram(h *storage.Histogram) (map[float64]uint64, uint64, float64) {
	buckets, total := map[float64]uint64{}, uint64(0)
	for i := range h.Buckets {
		total += uint64(h.Buckets[i].Load())
		if i < len(h.Buckets)-1 {
			buckets[(time.Microsecond << i).Seconds()] = total
		}
	}
	return buckets, total, time.Duration(h.Sum.Load()).Seconds()
}
