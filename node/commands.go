package node

import (
	"context"
	"fmt"
	"net/url"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/helenusdb/helenus/admin"
	"github.com/helenusdb/helenus/cql/exec"
	"github.com/helenusdb/helenus/internal/latency"
	"github.com/helenusdb/helenus/ring"
	"github.com/helenusdb/helenus/rpc"
	"github.com/helenusdb/helenus/schema"
)

// This file answers the operator's commands about the cluster and the node; tables.go those about tables. Each answer is what the
// command prints with --json; internal/nodetool lays it out.

func bad(format string, args ...any) error {
	return &admin.BadRequest{Why: fmt.Sprintf(format, args...)}
}

// get is an endpoint that only looks.
func get(path string, do func(url.Values) (any, error)) admin.Endpoint {
	return admin.Endpoint{Method: "GET", Path: path, Do: func(_ context.Context, args url.Values) (any, error) { return do(args) }}
}

func post(path string, do func(context.Context, url.Values) (any, error)) admin.Endpoint {
	return admin.Endpoint{Method: "POST", Path: path, Do: do}
}

func (n *Node) endpoints() []admin.Endpoint {
	return []admin.Endpoint{
		get("info", func(url.Values) (any, error) { return n.info(), nil }),
		get("ring", n.ringTokens),
		get("describering", n.describeRing),
		get("describecluster", func(url.Values) (any, error) { return n.describeCluster(), nil }),
		get("getendpoints", n.endpointsOf),
		get("netstats", func(url.Values) (any, error) { return n.netStats(), nil }),
		get("tpstats", func(url.Values) (any, error) { return n.poolStats(), nil }),
		get("compactionstats", func(url.Values) (any, error) { return n.compactionStats(), nil }),
		get("repairstatus", func(url.Values) (any, error) { return n.repairStatus(), nil }),
		get("proxyhistograms", func(url.Values) (any, error) { return n.proxyHistograms(), nil }),
		get("gossipinfo", func(url.Values) (any, error) { return n.gossipInfo(), nil }),
		get("tablestats", n.tableStats),
		get("tablehistograms", n.tableHistograms),
		post("flush", n.flush),
		post("compact", n.compact),
		n.anywhere("POST", "snapshot"),
		n.anywhere("GET", "listsnapshots"),
		n.anywhere("POST", "clearsnapshot"),
		n.anywhere("POST", "restore"),
	}
}

// Info is this node.
type Info struct {
	ID            string    `json:"id"`
	GossipActive  bool      `json:"gossip_active"`
	NativeActive  bool      `json:"native_transport_active"`
	Load          uint64    `json:"load_bytes"`
	Generation    int64     `json:"generation_no"`
	Uptime        int64     `json:"uptime_seconds"`
	HeapUsed      uint64    `json:"heap_used_bytes"`
	HeapLimit     int64     `json:"heap_limit_bytes"` // memory_limit, or what the configuration implies
	DC            string    `json:"data_center"`
	Rack          string    `json:"rack"`
	Exceptions    int64     `json:"exceptions"`  // panics caught in requests
	BlockCache    CacheInfo `json:"block_cache"` // in the place of Cassandra's key and chunk caches
	RowCache      CacheInfo `json:"row_cache"`
	InFlightLimit uint64    `json:"request_data_limit_bytes"`
	Tokens        []string  `json:"tokens"`
	State         string    `json:"state"`
	Abstains      string    `json:"abstains,omitempty"` // why it does not vote on conditional writes, or what that waits for; empty: it votes
}

// CacheInfo is the state of a cache since the start.
type CacheInfo struct {
	Entries  int64  `json:"entries"`
	Size     int64  `json:"size_bytes"`
	Capacity uint64 `json:"capacity_bytes"`
	Hits     int64  `json:"hits"`
	Requests int64  `json:"requests"`
}

func (n *Node) info() Info {
	var mem runtime.MemStats
	runtime.ReadMemStats(&mem)
	c, e, st := n.o.Config, n.engineMetrics, n.engine.Stats()
	hits, misses := e.CacheHits.Load(), e.CacheMisses.Load()
	out := Info{ID: n.home.HostID.String(), GossipActive: n.liveness() != nil, Load: st.DiskBytes, Generation: n.home.Generation,
		Uptime: int64(time.Since(n.started).Seconds()), HeapUsed: mem.HeapAlloc, HeapLimit: int64(c.MemoryTarget()), DC: n.self.DC, Rack: n.self.Rack,
		BlockCache: CacheInfo{st.BlockCacheEntries, st.BlockCacheBytes, uint64(c.BlockCache), st.BlockCacheHits, st.BlockCacheHits + st.BlockCacheMisses},
		RowCache:   CacheInfo{int64(st.RowCacheEntries), st.RowCacheBytes, uint64(c.RowCache), hits, hits + misses}, InFlightLimit: uint64(c.InFlight), State: "joining", Abstains: n.abstains()}
	out.NativeActive, _ = n.servesClients()
	if s := n.cql.Load(); s != nil {
		out.Exceptions = s.server.Metrics().Panics.Load()
	}
	if m := n.log.Current().Node(n.home.HostID); m != nil {
		out.State = m.State.String()
		for _, t := range m.Tokens {
			out.Tokens = append(out.Tokens, t.String())
		}
	}
	return out
}

// RingToken is one token of the ring.
type RingToken struct {
	Token   string  `json:"token"`
	HostID  string  `json:"host_id"`
	Address string  `json:"address"`
	DC      string  `json:"data_center"`
	Rack    string  `json:"rack"`
	Up      bool    `json:"up"`
	State   string  `json:"state"`
	Load    uint64  `json:"load_bytes"`
	Owns    float64 `json:"owns"` // of the node, [0, 1]
}

// Ring is the answer of ring: tokens ascending.
type Ring struct {
	Effective bool        `json:"effective"` // Owns counts all replicas; else primary ranges, and it means nothing
	Tokens    []RingToken `json:"tokens"`
}

func (n *Node) ringTokens(args url.Values) (any, error) {
	st := n.Status()
	owns, effective, err := st.Ownership(args.Get("keyspace"))
	if err != nil {
		return nil, err
	}
	out := Ring{Effective: effective}
	s := n.log.Current()
	byID := map[string]NodeStatus{}
	for _, m := range st.Nodes {
		byID[m.HostID] = m
	}
	type entry struct {
		token ring.Token
		node  NodeStatus
	}
	var all []entry
	for _, m := range s.Members() {
		for _, t := range m.Tokens {
			all = append(all, entry{t, byID[m.ID.String()]})
		}
	}
	slices.SortFunc(all, func(a, b entry) int { return compareTokens(a.token, b.token) })
	for _, e := range all {
		out.Tokens = append(out.Tokens, RingToken{Token: e.token.String(), HostID: e.node.HostID, Address: e.node.Address, DC: e.node.DC, Rack: e.node.Rack,
			Up: e.node.Up, State: e.node.State, Load: e.node.Load, Owns: owns[e.node.HostID]})
	}
	return out, nil
}

func compareTokens(a, b ring.Token) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// Ownership is the share of each node: of the keyspace, or of all user keyspaces when they agree, or else of the primary ranges,
// which says nothing about replicas.
func (s *Status) Ownership(keyspace string) (owns map[string]float64, effective bool, err error) {
	for _, k := range s.Keyspaces {
		if k.Keyspace == keyspace {
			return k.Owns, true, nil
		}
	}
	if keyspace != "" {
		return nil, false, bad("The keyspace %s, does not exist", keyspace)
	}
	if len(s.Keyspaces) > 0 {
		first := s.Keyspaces[0].Owns
		if !slices.ContainsFunc(s.Keyspaces, func(k Ownership) bool { return !sameOwners(k.Owns, first) }) {
			return first, true, nil
		}
	}
	owns = map[string]float64{}
	for _, n := range s.Nodes {
		owns[n.HostID] = n.Owns
	}
	return owns, len(s.Keyspaces) == 0, nil
}

func sameOwners(a, b map[string]float64) bool {
	for k, v := range a {
		if b[k] != v {
			return false
		}
	}
	return len(a) == len(b)
}

// Endpoint is one replica of a range.
type Endpoint struct {
	HostID string `json:"host_id"`
	Host   string `json:"host"`
	Native string `json:"rpc_host"`
	DC     string `json:"data_center"`
	Rack   string `json:"rack"`
}

// TokenRange is (start, end] with its replicas, the primary first.
type TokenRange struct {
	Start     string     `json:"start_token"`
	End       string     `json:"end_token"`
	Endpoints []Endpoint `json:"endpoints"`
}

// DescribeRing is the answer of describering, in ring order.
type DescribeRing struct {
	Schema string       `json:"schema_version"`
	Ranges []TokenRange `json:"ranges"`
}

func (n *Node) describeRing(args url.Values) (any, error) {
	s := n.log.Current()
	p := s.Placement(args.Get("keyspace"))
	if p == nil {
		return nil, bad("No such keyspace: %s", args.Get("keyspace"))
	}
	out := DescribeRing{Schema: schema.ID(s.Catalog.Version).String()}
	for i := range s.Ring.Segments() {
		seg := s.Ring.Segment(i)
		r := TokenRange{Start: seg.Start.String(), End: seg.End.String()}
		for _, at := range p.SegmentReplicas(i) {
			r.Endpoints = append(r.Endpoints, n.endpointOf(s.Ring.Nodes()[at].ID))
		}
		out.Ranges = append(out.Ranges, r)
	}
	return out, nil
}

func (n *Node) endpointOf(id ring.HostID) Endpoint {
	m := n.log.Current().Node(id)
	if m == nil {
		return Endpoint{HostID: id.String()}
	}
	return Endpoint{HostID: id.String(), Host: m.Internode.Addr().String(), Native: m.Native.Addr().String(), DC: m.DC, Rack: m.Rack}
}

// EndpointsOf is the answer of getendpoints.
type EndpointsOf struct {
	Token     string     `json:"token"`
	Endpoints []Endpoint `json:"endpoints"`
}

func (n *Node) endpointsOf(args url.Values) (any, error) {
	s := n.log.Current()
	if _, ok := s.Catalog.Keyspace(args.Get("keyspace")); !ok {
		return nil, bad("Unknown keyspace '%s'", args.Get("keyspace"))
	}
	t, ok := s.Catalog.Table(args.Get("keyspace"), args.Get("table"))
	if !ok {
		return nil, bad("Unknown table '%s' in keyspace '%s'", args.Get("table"), args.Get("keyspace"))
	}
	key, err := parseKey(t, args.Get("key"))
	if err != nil {
		return nil, err
	}
	p := s.Placement(t.Keyspace)
	if p == nil {
		return EndpointsOf{Endpoints: []Endpoint{n.endpointOf(n.home.HostID)}}, nil
	}
	token := s.Ring.Partitioner().Token(key)
	out := EndpointsOf{Token: token.String()}
	for _, at := range p.Replicas(token) {
		out.Endpoints = append(out.Endpoints, n.endpointOf(s.Ring.Nodes()[at].ID))
	}
	return out, nil
}

// parseKey reads a partition key as nodetool takes it: the value as a constant, the components of several columns with : between
// them. A text needs no quotes.
func parseKey(t *schema.Table, text string) ([]byte, error) {
	parts := []string{text}
	if len(t.PartitionKey) > 1 {
		parts = strings.Split(text, ":")
	}
	if len(parts) != len(t.PartitionKey) {
		return nil, bad("The key of %s.%s has %d components, separated by colons", t.Keyspace, t.Name, len(t.PartitionKey))
	}
	var values [][]byte
	for i, c := range t.PartitionKey {
		v, err := c.Type.ParseLiteral(parts[i])
		if err != nil {
			quoted, err2 := c.Type.ParseLiteral("'" + strings.ReplaceAll(parts[i], "'", "''") + "'")
			if err2 != nil {
				return nil, bad("%q is no %s: %s", parts[i], c.Type, err)
			}
			v = quoted
		}
		values = append(values, v)
	}
	key := t.PartitionKeyOf(nil, values)
	if err := t.ValidatePartitionKey(key); err != nil {
		return nil, bad("%s", err)
	}
	return key, nil
}

// DescribeCluster is the answer of describecluster.
type DescribeCluster struct {
	Name        string              `json:"name"`
	Partitioner string              `json:"partitioner"`
	Schemas     map[string][]string `json:"schema_versions"` // version, or UNREACHABLE -> internode addresses
	Live        int                 `json:"live"`
	Joining     int                 `json:"joining"`
	Leaving     int                 `json:"leaving"`
	Unreachable int                 `json:"unreachable"`
	DCs         []DCInfo            `json:"data_centers"`
	Versions    map[string][]string `json:"database_versions"` // release -> internode addresses with ports
	Keyspaces   []KeyspaceInfo      `json:"keyspaces"`
	Effective   bool                `json:"effective"`
}

// DCInfo counts the nodes of a data centre.
type DCInfo struct {
	Name  string `json:"name"`
	Nodes int    `json:"nodes"`
	Down  int    `json:"down"`
}

// KeyspaceInfo is a keyspace with its replication.
type KeyspaceInfo struct {
	Name    string            `json:"name"`
	Class   string            `json:"class"`
	Options map[string]string `json:"options"`
}

func (n *Node) describeCluster() DescribeCluster {
	s := n.log.Current()
	st := n.Status()
	out := DescribeCluster{Name: s.ClusterName, Partitioner: s.Partitioner, Schemas: map[string][]string{}, Versions: map[string][]string{}}
	dcs := map[string]*DCInfo{}
	for _, m := range s.Members() {
		dc := dcs[m.DC]
		if dc == nil {
			dc = &DCInfo{Name: m.DC}
			dcs[m.DC] = dc
		}
		dc.Nodes++
		version := "UNREACHABLE"
		switch {
		case !n.alive(m.ID):
			out.Unreachable++
			dc.Down++
		case m.ID == n.home.HostID:
			out.Live++
			version = schema.ID(s.Catalog.Version).String()
		default:
			out.Live++
			version = n.schemaOf(m.ID)
		}
		switch m.State.String() {
		case "joining":
			out.Joining++
		case "leaving":
			out.Leaving++
		}
		out.Schemas[version] = append(out.Schemas[version], m.Internode.Addr().String())
		out.Versions[m.ReleaseVersion] = append(out.Versions[m.ReleaseVersion], m.Internode.String())
	}
	for _, dc := range dcs {
		out.DCs = append(out.DCs, *dc)
	}
	slices.SortFunc(out.DCs, func(a, b DCInfo) int { return strings.Compare(a.Name, b.Name) })
	for _, k := range s.Catalog.Keyspaces() {
		if k.Virtual {
			continue
		}
		info := KeyspaceInfo{Name: k.Name, Class: k.Strategy.Class, Options: k.Strategy.Options()}
		delete(info.Options, "class")
		out.Keyspaces = append(out.Keyspaces, info)
	}
	_, out.Effective, _ = st.Ownership("")
	return out
}

// schemaOf is the schema version that a member has told of.
func (n *Node) schemaOf(id ring.HostID) string {
	if g := n.liveness(); g != nil {
		if s, ok := g.State(id); ok {
			return schema.ID(s.Meta.SchemaVersion).String()
		}
	}
	return "UNREACHABLE"
}

// NetStats is the answer of netstats.
type NetStats struct {
	Mode       string      `json:"mode"`
	Streams    StreamStats `json:"streams"`
	Attempted  int64       `json:"read_repair_attempted"`
	Mismatch   int64       `json:"read_repair_mismatch_blocking"`
	Pools      []NetClass  `json:"pools"`
	Hints      int64       `json:"hints_pending"`
	HintsBytes int64       `json:"hints_pending_bytes"`
}

// NetClass is the traffic between nodes of one class, over all peers.
type NetClass struct {
	Name      string `json:"name"`
	Completed int64  `json:"completed"` // frames sent
	Dropped   int64  `json:"dropped"`   // had expired in a queue, or were answers that found no room in one
	BytesOut  int64  `json:"bytes_out"`
	BytesIn   int64  `json:"bytes_in"`
}

func (n *Node) netStats() NetStats {
	m := n.coord.Metrics()
	out := NetStats{Mode: strings.ToUpper(n.info().State), Streams: n.streamStats(), Attempted: m.ReadRepairs.Load(), Mismatch: m.DigestMismatches.Load()}
	for _, c := range []struct {
		name  string
		class rpc.Class
	}{{"Large messages", rpc.Stream}, {"Small messages", rpc.Data}, {"Gossip messages", rpc.Urgent}} {
		x := &n.rpc.Metrics().Classes[c.class]
		out.Pools = append(out.Pools, NetClass{Name: c.name, Completed: x.FramesOut.Load(), Dropped: x.Shed.Load() + x.Unanswered.Load(), BytesOut: x.BytesOut.Load(), BytesIn: x.BytesIn.Load()})
	}
	out.Hints, out.HintsBytes = n.coord.Hints().Pending()
	return out
}

// PoolStats is the answer of tpstats.
type PoolStats struct {
	Pools   []PoolInfo    `json:"pools"`
	Dropped []DroppedInfo `json:"dropped_messages"`
}

// PoolInfo is a stage whose work is counted; there is no pool of threads behind it.
type PoolInfo struct {
	Name      string `json:"name"`
	Active    int64  `json:"active"`
	Pending   int64  `json:"pending"`
	Completed int64  `json:"completed"`
	Blocked   int64  `json:"all_time_blocked"`
}

// DroppedInfo counts requests between nodes that were given up before they were begun, by class of message.
type DroppedInfo struct {
	Type    string `json:"type"`
	Dropped int64  `json:"dropped"`
}

func (n *Node) poolStats() PoolStats {
	var out PoolStats
	if s := n.cql.Load(); s != nil {
		for _, p := range s.pools() {
			out.Pools = append(out.Pools, PoolInfo{Name: p.Name, Active: p.Active, Pending: p.Pending, Completed: p.Completed, Blocked: p.Blocked})
		}
	}
	hints, _ := n.coord.Hints().Pending()
	out.Pools = append(out.Pools, PoolInfo{Name: "HintsDispatcher", Pending: hints, Completed: n.coord.Hints().Metrics().Delivered.Load()})
	slices.SortFunc(out.Pools, func(a, b PoolInfo) int { return strings.Compare(a.Name, b.Name) })
	for _, c := range n.netStats().Pools {
		out.Dropped = append(out.Dropped, DroppedInfo{strings.ToUpper(strings.ReplaceAll(c.Name, " messages", "_REQ")), c.Dropped})
	}
	return out
}

// CompactionStats is the answer of compactionstats.
type CompactionStats struct {
	Concurrent  int     `json:"concurrent_compactors"`
	Pending     int     `json:"pending_tasks"` // 1 while there is debt or a compaction under way: Pebble picks one after another
	Running     int64   `json:"running"`
	Debt        uint64  `json:"debt_bytes"`
	Completed   int64   `json:"completed"`
	Bytes       uint64  `json:"data_compacted_bytes"`
	Aborted     int64   `json:"aborted"`
	MeanPerHour float64 `json:"mean_rate_per_hour"`
	PurgedKeys  int64   `json:"purged_keys"`
}

func (n *Node) compactionStats() CompactionStats {
	st := n.engine.Stats()
	out := CompactionStats{Concurrent: 2, Running: st.Compacting, Debt: st.CompactionDebt, Completed: st.Compactions, Bytes: st.CompactedBytes,
		Aborted: st.CompactionsCancelled, PurgedKeys: n.engineMetrics.PurgeChanged.Load(), Pending: int(st.Compacting)}
	if h := time.Since(n.started).Hours(); h > 0 {
		out.MeanPerHour = float64(st.Compactions) / h
	}
	return out
}

// Percentiles of a latency, in µs.
type Percentiles struct {
	Count uint64  `json:"count"`
	P50   float64 `json:"p50_micros"`
	P75   float64 `json:"p75_micros"`
	P95   float64 `json:"p95_micros"`
	P98   float64 `json:"p98_micros"`
	P99   float64 `json:"p99_micros"`
	Min   float64 `json:"min_micros"`
	Max   float64 `json:"max_micros"`
}

func percentilesOf(s latency.Snapshot) Percentiles {
	q := func(q float64) float64 { return float64(s.Quantile(q)) / float64(time.Microsecond) }
	return Percentiles{Count: s.Count, P50: q(.5), P75: q(.75), P95: q(.95), P98: q(.98), P99: q(.99), Min: q(0), Max: q(1)}
}

// ProxyHistograms is the answer of proxyhistograms: how long requests took that this node coordinated since its start.
type ProxyHistograms struct {
	Read     Percentiles `json:"read"`
	Write    Percentiles `json:"write"`
	Range    Percentiles `json:"range"`
	CASRead  Percentiles `json:"cas_read"`
	CASWrite Percentiles `json:"cas_write"`
}

func (n *Node) proxyHistograms() ProxyHistograms {
	s := n.cql.Load()
	if s == nil {
		return ProxyHistograms{}
	}
	p := func(w exec.Way) Percentiles { return percentilesOf(s.executor.Latencies(w)) }
	return ProxyHistograms{Read: p(exec.WayRead), Write: p(exec.WayWrite), Range: p(exec.WayRange), CASRead: p(exec.WayCASRead), CASWrite: p(exec.WayCASWrite)}
}

// GossipNode is what gossip says about a node.
type GossipNode struct {
	Address    string    `json:"address"`
	Generation int64     `json:"generation"`
	Alive      bool      `json:"alive"`
	Since      time.Time `json:"since"`
	Status     string    `json:"status"`
	Load       uint64    `json:"load_bytes"`
	Schema     string    `json:"schema"`
	Epoch      uint64    `json:"epoch"`
	DC         string    `json:"data_center"`
	Rack       string    `json:"rack"`
	Release    string    `json:"release_version"`
	Native     string    `json:"native_address_and_port"`
	HostID     string    `json:"host_id"`
	Ready      bool      `json:"rpc_ready"`
}

func (n *Node) gossipInfo() []GossipNode {
	g := n.liveness()
	if g == nil {
		return nil
	}
	var out []GossipNode
	for _, s := range g.Members() {
		m := n.log.Current().Node(s.ID)
		status := "UNKNOWN"
		if m != nil {
			status = strings.ToUpper(m.State.String())
		}
		if s.Left {
			status = "shutdown"
		}
		v := GossipNode{Address: s.Meta.Internode.Addr().String(), Generation: s.Generation, Alive: s.Alive, Since: s.Since.UTC(), Status: status, Load: s.Meta.LoadBytes,
			Schema: schema.ID(s.Meta.SchemaVersion).String(), Epoch: s.Meta.Epoch, DC: s.Meta.DC, Rack: s.Meta.Rack, Release: s.Meta.Version, HostID: s.ID.String(),
			Ready: s.Meta.Native.IsValid()}
		if v.Ready {
			v.Native = s.Meta.Native.String()
		}
		out = append(out, v)
	}
	slices.SortFunc(out, func(a, b GossipNode) int { return strings.Compare(a.Address+a.HostID, b.Address+b.HostID) })
	return out
}
