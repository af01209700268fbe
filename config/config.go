package config

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"
)

// Config is everything an operator can choose for one node. The tag `key` is the name in helenus.yaml; the
// environment variable is HELENUS_ + the name in upper case, the flag is the name with dashes. Names are those of
// cassandra.yaml where the thing is the same.
type Config struct {
	ClusterName string   `key:"cluster_name" default:"helenus" doc:"name shown to clients; nodes of one cluster share it"`
	DataDir     string   `key:"data_dir" default:"helenus-data" doc:"folder that holds everything this node keeps"`
	Seeds       []string `key:"seeds" default:"" doc:"comma-separated ADDRESS[:STORAGE_PORT] of nodes to find the cluster by; the same list on all nodes, and only the first may found a cluster; empty: this node alone"`
	DataCenter  string   `key:"data_center" default:"datacenter1" doc:"data centre of this node, fixed once it has joined"`
	Rack        string   `key:"rack" default:"rack1" doc:"rack of this node, fixed once it has joined"`
	Partitioner string   `key:"partitioner" default:"Murmur3Partitioner" doc:"Murmur3Partitioner (drivers route by token) or XXHashPartitioner; fixed when the cluster is founded"`
	NumTokens   int      `key:"num_tokens" default:"16" doc:"virtual nodes of this node, 1 to 256"`

	ListenAddress    netip.Addr `key:"listen_address" default:"127.0.0.1" doc:"address for other nodes: storage and gossip ports"`
	BroadcastAddress string     `key:"broadcast_address" default:"" doc:"address that other nodes use for this one; empty: listen_address"`
	StoragePort      int        `key:"storage_port" default:"7000" doc:"TCP port for other nodes"`
	GossipPort       int        `key:"gossip_port" default:"7946" doc:"UDP and TCP port of the failure detector"`
	RPCAddress       string     `key:"rpc_address" default:"" doc:"address for CQL clients; empty: listen_address"`
	BroadcastRPC     string     `key:"broadcast_rpc_address" default:"" doc:"address that drivers are told for this node; empty: rpc_address"`
	NativePort       int        `key:"native_transport_port" default:"9042" doc:"TCP port for CQL clients"`
	AdminAddress     string     `key:"admin_address" default:"" doc:"address of /metrics, /healthz, /readyz; empty: listen_address if that is a loopback address, else 127.0.0.1"`
	AdminPort        int        `key:"admin_port" default:"9180" doc:"TCP port of the admin interface; 0 closes it"`

	CommitSync       string        `key:"commit_sync" default:"group" doc:"group: a write is acknowledged when an fsync that it may share with others has returned; batch: each commit asks for its own; periodic: at once, and a power loss takes the last commit_sync_period"`
	CommitSyncPeriod time.Duration `key:"commit_sync_period" default:"10s" doc:"longest time a periodic write stays unsynced"`
	BlockCache       Bytes         `key:"block_cache_size" default:"64MiB" doc:"memory for uncompressed blocks of the store"`
	RowCache         Bytes         `key:"row_cache_size" default:"96MiB" doc:"memory for merged rows"`
	Memtable         Bytes         `key:"memtable_size" default:"32MiB" doc:"size at which a memtable is flushed"`
	DiskReserve      Bytes         `key:"disk_reserve" default:"512MiB" doc:"free space below which writes are refused; reads and gossip go on, and writes resume by themselves"`
	MemoryLimit      Bytes         `key:"memory_limit" default:"0" doc:"soft limit of the process's memory, beyond which the garbage collector works harder; 0: what the caches, four memtables and the requests in flight need, and 64MiB"`

	ReadTimeout     time.Duration `key:"read_request_timeout" default:"5s" doc:"longest wait for replicas of a single-partition read"`
	RangeTimeout    time.Duration `key:"range_request_timeout" default:"10s" doc:"longest wait for replicas of a scan page"`
	WriteTimeout    time.Duration `key:"write_request_timeout" default:"2s" doc:"longest wait for replicas of a write"`
	CounterTimeout  time.Duration `key:"counter_write_request_timeout" default:"5s" doc:"longest wait for the leader and the replicas of an increment of a counter"`
	CASTimeout      time.Duration `key:"cas_contention_timeout" default:"1s" doc:"how long a conditional write or a serial read tries against others on the same partition; what was sent is waited for until write_request_timeout"`
	DDLTimeout      time.Duration `key:"ddl_timeout" default:"10s" doc:"longest wait for the metadata log to accept a change"`
	HintedHandoff   bool          `key:"hinted_handoff" default:"on" doc:"keep writes that a replica missed and deliver them when it is back"`
	HintWindow      time.Duration `key:"max_hint_window" default:"3h" doc:"no hints for a replica that has been down for longer; hinted_handoff turns them off"`
	HintThrottle    Bytes         `key:"hinted_handoff_throttle" default:"16MiB" doc:"hint replay per second and target; 0: unlimited"`
	HintsPerHostMax Bytes         `key:"max_hints_size_per_host" default:"4GiB" doc:"hints kept for one replica; more are dropped and counted"`

	StreamThroughput Rate `key:"stream_throughput" default:"24MiB/s" doc:"bytes per second that this node sends to all others together when token ranges move; 0: unlimited"`

	BatchWarn    Bytes         `key:"batch_size_warn_threshold" default:"5KiB" doc:"batches over several partitions beyond this size warn the client"`
	BatchFail    Bytes         `key:"batch_size_fail_threshold" default:"50KiB" doc:"batches over several partitions beyond this size are refused"`
	UnloggedWarn int           `key:"unlogged_batch_across_partitions_warn_threshold" default:"10" doc:"unlogged batches over more partitions warn the client"`
	MaxStampWarn time.Duration `key:"maximum_timestamp_warn_threshold" default:"0s" doc:"USING TIMESTAMP further than this in the future warns the client; 0: never"`
	MaxStampFail time.Duration `key:"maximum_timestamp_fail_threshold" default:"0s" doc:"USING TIMESTAMP further than this in the future is refused; 0: never"`
	MinStampWarn time.Duration `key:"minimum_timestamp_warn_threshold" default:"0s" doc:"USING TIMESTAMP further than this in the past warns the client; 0: never"`
	MinStampFail time.Duration `key:"minimum_timestamp_fail_threshold" default:"0s" doc:"USING TIMESTAMP further than this in the past is refused; 0: never"`

	BatchlogThrottle Bytes `key:"batchlog_replay_throttle" default:"1024KiB" doc:"bytes per second of logged batches that the whole cluster replays after a coordinator was lost; each node takes its share. 0: unlimited"`

	RepairWithin time.Duration `key:"repair_within" default:"24h" doc:"every range of every table is compared with its other replicas, and mended, within so long; 0: only by helenus repair"`

	AutoReplaceAfter time.Duration `key:"auto_replace_after" default:"0s" doc:"a node that has been down for so long is removed, and the others make up for it, when it is the only one that is down, enough nodes are left and nothing else moves; the same on all nodes. 0: never by itself"`

	MaxConnections   int           `key:"native_transport_max_connections" default:"10000" doc:"client connections"`
	MaxConnectionsIP int           `key:"native_transport_max_connections_per_ip" default:"5000" doc:"client connections from one address"`
	InFlight         Bytes         `key:"native_transport_max_request_data_in_flight" default:"256MiB" doc:"bytes of requests and answers in flight; beyond it requests are answered OVERLOADED"`
	InFlightIP       Bytes         `key:"native_transport_max_request_data_in_flight_per_ip" default:"128MiB" doc:"the same for the connections from one address"`
	IdleTimeout      time.Duration `key:"native_transport_idle_timeout" default:"0s" doc:"close a client connection that has been silent for so long; 0: never"`
	PreparedCache    Bytes         `key:"prepared_statements_cache_size" default:"64MiB" doc:"memory for prepared statements; the least used are forgotten, and drivers prepare them again"`
	HeavyQueries     int           `key:"concurrent_heavy_queries" default:"32" doc:"scans, aggregations and large slices that run at the same time"`

	AutoSnapshot    bool          `key:"auto_snapshot" default:"on" doc:"take a snapshot of a table on every node before DROP and TRUNCATE remove its rows; it keeps their disk space"`
	AutoSnapshotTTL time.Duration `key:"auto_snapshot_ttl" default:"0s" doc:"automatic snapshots are removed after so long; 0: they stay until they are cleared"`
	AutoSnapshotMax int           `key:"auto_snapshots_max" default:"0" doc:"automatic snapshots beyond so many are removed, the oldest first; 0: they stay"`

	SlowQueryThreshold time.Duration `key:"slow_query_log_threshold" default:"500ms" doc:"requests that take longer are logged, ten a second at most, without the values in them; 0: none are"`
	SlowQueryValues    bool          `key:"slow_query_log_values" default:"off" doc:"show constants and bound values of slow queries in the log"`

	NativeTLSCert     string `key:"native_tls_cert" default:"" doc:"PEM certificate for CQL clients; empty: no TLS"`
	NativeTLSKey      string `key:"native_tls_key" default:"" doc:"PEM key of native_tls_cert"`
	NativeTLSCA       string `key:"native_tls_client_ca" default:"" doc:"PEM authorities that clients' certificates must come from; empty: clients need none"`
	InternodeTLSCert  string `key:"internode_tls_cert" default:"" doc:"PEM certificate of this node for other nodes; empty: no TLS. All nodes must agree"`
	InternodeTLSKey   string `key:"internode_tls_key" default:"" doc:"PEM key of internode_tls_cert"`
	InternodeTLSCA    string `key:"internode_tls_ca" default:"" doc:"PEM authorities that other nodes' certificates must come from; needed with internode_tls_cert, whose certificates name the addresses of their nodes"`
	GossipKey         string `key:"gossip_encryption_key" default:"" doc:"base64 of 16, 24 or 32 bytes: encrypts gossip; all nodes must agree"`
	LogLevel          string `key:"log_level" default:"info" doc:"debug, info, warn or error"`
	LogFormat         string `key:"log_format" default:"text" doc:"text or json"`
	EchoCustomPayload bool   `key:"test_echo_custom_payload" default:"off" doc:"for driver test suites: answer with the request's custom payload"`
	FailWritesTo      string `key:"test_fail_writes_keyspace" default:"" doc:"for driver test suites: every write to this keyspace fails"`
}

// memoryBase is what a node needs beside its caches and what clients have in flight.
const memoryBase = 64 << 20

// MemoryTarget is memory_limit, or what the rest of the configuration implies.
func (c *Config) MemoryTarget() Bytes {
	if c.MemoryLimit > 0 {
		return c.MemoryLimit
	}
	return c.BlockCache + c.RowCache + 4*c.Memtable + c.InFlight + memoryBase
}

// Internode is the address that other nodes use for this one.
func (c *Config) Internode() netip.AddrPort {
	return netip.AddrPortFrom(c.orListen(c.BroadcastAddress), uint16(c.StoragePort))
}

// Native is the address that drivers are told; NativeListen is the one that is bound.
func (c *Config) Native() netip.AddrPort {
	if c.BroadcastRPC != "" {
		return netip.AddrPortFrom(c.orListen(c.BroadcastRPC), uint16(c.NativePort))
	}
	return c.NativeListen()
}

// NativeListen is the address bound for CQL clients.
func (c *Config) NativeListen() netip.AddrPort {
	return netip.AddrPortFrom(c.orListen(c.RPCAddress), uint16(c.NativePort))
}

// Gossip is the address of the failure detector.
func (c *Config) Gossip() netip.AddrPort {
	return netip.AddrPortFrom(c.ListenAddress, uint16(c.GossipPort))
}

// Admin is the address of the operator's interface; its port is 0 when that is closed.
func (c *Config) Admin() netip.AddrPort {
	a := netip.AddrFrom4([4]byte{127, 0, 0, 1})
	if c.AdminAddress != "" {
		a = c.orListen(c.AdminAddress)
	} else if c.ListenAddress.IsLoopback() {
		a = c.ListenAddress
	}
	return netip.AddrPortFrom(a, uint16(c.AdminPort))
}

// SeedAddresses is the seed list with ports filled in, in order; this node alone when none is given.
func (c *Config) SeedAddresses() ([]netip.AddrPort, error) {
	if len(c.Seeds) == 0 {
		return []netip.AddrPort{c.Internode()}, nil
	}
	out := make([]netip.AddrPort, 0, len(c.Seeds))
	for _, s := range c.Seeds {
		if ap, err := netip.ParseAddrPort(s); err == nil {
			out = append(out, ap)
			continue
		}
		a, err := netip.ParseAddr(s)
		if err != nil {
			return nil, fmt.Errorf("config: seeds: %q is neither ADDRESS nor ADDRESS:PORT", s)
		}
		out = append(out, netip.AddrPortFrom(a, uint16(c.StoragePort)))
	}
	return out, nil
}

// GossipKeyBytes is gossip_encryption_key decoded; nil without one. The error does not show it.
func (c *Config) GossipKeyBytes() ([]byte, error) {
	if c.GossipKey == "" {
		return nil, nil
	}
	key, err := base64.StdEncoding.DecodeString(c.GossipKey)
	if err != nil || len(key) != 16 && len(key) != 24 && len(key) != 32 {
		return nil, errors.New("it is not base64 of 16, 24 or 32 bytes")
	}
	return key, nil
}

func (c *Config) orListen(s string) netip.Addr {
	if a, err := netip.ParseAddr(s); err == nil {
		return a
	}
	return c.ListenAddress
}

// Validate returns every mistake at once, each naming its key.
func (c *Config) Validate() error {
	var errs []error
	bad := func(key, format string, args ...any) {
		errs = append(errs, fmt.Errorf("config: %s: %s", key, fmt.Sprintf(format, args...)))
	}
	for _, p := range []struct {
		key    string
		port   int
		lowest int
	}{{"storage_port", c.StoragePort, 1}, {"gossip_port", c.GossipPort, 1}, {"native_transport_port", c.NativePort, 1}, {"admin_port", c.AdminPort, 0}} {
		if p.port < p.lowest || p.port > 65535 {
			bad(p.key, "%d is no port (%d to 65535)", p.port, p.lowest)
		}
	}
	for key, s := range map[string]string{"broadcast_address": c.BroadcastAddress, "rpc_address": c.RPCAddress, "broadcast_rpc_address": c.BroadcastRPC, "admin_address": c.AdminAddress} {
		if _, err := netip.ParseAddr(s); s != "" && err != nil {
			bad(key, "%q is not an IP address", s)
		}
	}
	if c.Native().Addr().IsUnspecified() || c.Internode().Addr().IsUnspecified() {
		bad("broadcast_address", "0.0.0.0 cannot be told to others: set broadcast_address and broadcast_rpc_address")
	}
	if _, err := c.SeedAddresses(); err != nil {
		errs = append(errs, err)
	}
	oneOf := func(key, value string, allowed ...string) {
		for _, a := range allowed {
			if value == a {
				return
			}
		}
		bad(key, "%q is not one of %s", value, strings.Join(allowed, ", "))
	}
	oneOf("commit_sync", c.CommitSync, "group", "batch", "periodic")
	oneOf("log_level", c.LogLevel, "debug", "info", "warn", "error")
	oneOf("log_format", c.LogFormat, "text", "json")
	oneOf("partitioner", c.Partitioner, "Murmur3Partitioner", "XXHashPartitioner")
	within := func(key string, v, low, high int64, unit string) {
		if v < low || v > high {
			bad(key, "%d%s is not within %d and %d", v, unit, low, high)
		}
	}
	within("num_tokens", int64(c.NumTokens), 1, 256, "")
	within("native_transport_max_request_data_in_flight", int64(c.InFlight), 32<<20, 1<<40, " bytes")
	within("native_transport_max_request_data_in_flight_per_ip", int64(c.InFlightIP), 32<<20, 1<<40, " bytes")
	within("concurrent_heavy_queries", int64(c.HeavyQueries), 1, 4096, "")
	within("native_transport_max_connections", int64(c.MaxConnections), 1, 1<<20, "")
	within("native_transport_max_connections_per_ip", int64(c.MaxConnectionsIP), 1, 1<<20, "")
	within("memtable_size", int64(c.Memtable), 1<<20, 1<<30, " bytes")
	within("block_cache_size", int64(c.BlockCache), 1<<20, 1<<37, " bytes")
	within("row_cache_size", int64(c.RowCache), 0, 1<<37, " bytes")
	within("prepared_statements_cache_size", int64(c.PreparedCache), 1<<20, 1<<37, " bytes")
	within("batch_size_warn_threshold", int64(c.BatchWarn), 1, 1<<30, " bytes")
	within("batch_size_fail_threshold", int64(c.BatchFail), 1, 1<<30, " bytes")
	within("unlogged_batch_across_partitions_warn_threshold", int64(c.UnloggedWarn), 1, 1<<30, "")
	within("batchlog_replay_throttle", int64(c.BatchlogThrottle), 0, 1<<40, " bytes")
	within("stream_throughput", int64(c.StreamThroughput), 0, 1<<40, " bytes")
	within("max_hints_size_per_host", int64(c.HintsPerHostMax), 1<<20, 1<<50, " bytes")
	for key, d := range map[string]time.Duration{"read_request_timeout": c.ReadTimeout, "range_request_timeout": c.RangeTimeout, "write_request_timeout": c.WriteTimeout,
		"counter_write_request_timeout": c.CounterTimeout, "cas_contention_timeout": c.CASTimeout, "ddl_timeout": c.DDLTimeout, "commit_sync_period": c.CommitSyncPeriod} {
		if d < 10*time.Millisecond || d > time.Hour {
			bad(key, "%s is not within 10ms and 1h", d)
		}
	}
	if c.HintWindow < time.Second || c.HintWindow > 365*24*time.Hour {
		bad("max_hint_window", "%s is not within 1s and 8760h", c.HintWindow)
	}
	if c.RepairWithin != 0 && (c.RepairWithin < time.Minute || c.RepairWithin > 365*24*time.Hour) {
		bad("repair_within", "%s is neither 0 nor within 1m and 8760h", c.RepairWithin)
	}
	if c.AutoReplaceAfter != 0 && (c.AutoReplaceAfter < 10*time.Minute || c.AutoReplaceAfter > 365*24*time.Hour) {
		bad("auto_replace_after", "%s is neither 0 nor within 10m and 8760h", c.AutoReplaceAfter)
	}
	if c.AutoSnapshotTTL != 0 && c.AutoSnapshotTTL < time.Minute {
		bad("auto_snapshot_ttl", "%s is neither 0 nor at least a minute", c.AutoSnapshotTTL)
	}
	within("auto_snapshots_max", int64(c.AutoSnapshotMax), 0, 1<<20, "")
	for key, d := range map[string]time.Duration{"slow_query_log_threshold": c.SlowQueryThreshold, "native_transport_idle_timeout": c.IdleTimeout,
		"maximum_timestamp_warn_threshold": c.MaxStampWarn, "maximum_timestamp_fail_threshold": c.MaxStampFail,
		"minimum_timestamp_warn_threshold": c.MinStampWarn, "minimum_timestamp_fail_threshold": c.MinStampFail} {
		if d < 0 {
			bad(key, "%s is negative", d)
		}
	}
	pair := func(cert, key, certKey, keyKey string) {
		if (cert == "") != (key == "") {
			bad(certKey, "needs %s beside it, and the other way round", keyKey)
		}
	}
	pair(c.NativeTLSCert, c.NativeTLSKey, "native_tls_cert", "native_tls_key")
	pair(c.InternodeTLSCert, c.InternodeTLSKey, "internode_tls_cert", "internode_tls_key")
	pair(c.InternodeTLSCert, c.InternodeTLSCA, "internode_tls_cert", "internode_tls_ca")
	if c.NativeTLSCA != "" && c.NativeTLSCert == "" {
		bad("native_tls_client_ca", "needs native_tls_cert beside it")
	}
	if _, err := c.GossipKeyBytes(); err != nil {
		bad("gossip_encryption_key", "%v", err)
	}
	if c.DataDir == "" {
		bad("data_dir", "must be given")
	}
	return errors.Join(sortErrors(errs)...)
}
