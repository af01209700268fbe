package system

import (
	"errors"
	"net/netip"
	"sync"

	"github.com/helenusdb/helenus/cql/server"
	"github.com/helenusdb/helenus/meta"
	"github.com/helenusdb/helenus/ring"
)

// What clients are told about this version.
const (
	ReleaseVersion        = "5.0.8" // of Cassandra: drivers decide by it what they may ask
	NativeProtocolVersion = "5"
)

// Setting is a row of system_views.settings.
type Setting struct{ Name, Value string }

// Options configure Tables; they do not change after New.
type Options struct {
	// Current returns the newest metadata of this node; an atomic load. Needed.
	Current func() *meta.State
	Self    ring.HostID

	// Native and Listen are this node's own addresses for clients and for other nodes. Zero: those of the metadata.
	Native, Listen netip.AddrPort

	// Clients returns the open connections, for system_views.clients; may be nil.
	Clients func() []server.ConnState
	// Prepared calls fn for each prepared statement (exec.Executor.Prepared), for system.prepared_statements; may be nil.
	Prepared func(fn func(id [16]byte, keyspace, text string))
	// Settings returns the configuration, for system_views.settings; may be nil.
	Settings func() []Setting
	// Sizes returns what the tables hold here, for the size estimates and system_views.disk_usage; may be nil.
	Sizes func() []Size
	// Caches and Pools are for the tables of system_views that Cassandra calls caches and thread_pools; may be nil.
	Caches func() []CacheState
	Pools  func() []Pool
	// Repairs returns the ranges that this node keeps repaired, for system_views.repairs; may be nil.
	Repairs func() []Repair
}

// Tables evaluates virtual tables. It is safe for concurrent use.
type Tables struct {
	o Options

	mu    sync.Mutex // guards what follows; only held for map access
	cache map[tableName]cached
}

// New returns the tables.
func New(o Options) (*Tables, error) {
	if o.Current == nil {
		return nil, errors.New("system: Current is needed")
	}
	return &Tables{o: o, cache: map[tableName]cached{}}, nil
}
