package workload

import (
	"context"
	"math/rand/v2"
	"net"
	"time"

	"github.com/helenusdb/helenus/internal/sim/check"
)

// Env is the cluster as a workload sees it.
type Env interface {
	Nodes() int                                           // nodes are 0..Nodes()-1
	Members() []int                                       // those of them that clients may ask now, ascending
	Dial(ctx context.Context, node int) (net.Conn, error) // a client connection to the node's CQL port, through the simulated network
	Rand(stream string) *rand.Rand                        // a function of (seed, stream)
	Now() time.Time                                       // true time, without any node's skew
	Record(kind, format string, args ...any)              // one line into the trace of logical events
	Features() Features                                   // what the seed switched on (swarm)
}

// Workload is one kind of use. Its methods are called in this order, once each; Ops at any time.
type Workload interface {
	Name() string
	Setup(ctx context.Context, env Env) error
	Run(ctx context.Context, env Env) error                // until ctx ends, while faults are injected
	Verify(ctx context.Context, env Env) []check.Violation // after faults ended, all nodes up, hints drained
	Ops() int64
	// Searched returns how many histories Verify has searched for an order that explains them, and how many of those it gave up undecided.
	Searched() (all, undecided int)
	Keyspace() string // in which everything is
}

// Features are what a seed switched on.
type Features struct{ LWT, Counters, LoggedBatches, TTL, Deletes, Pages, ServerTimestamps bool }

// Options configure a workload. Zero values are the defaults.
type Options struct {
	Clients int           // goroutines with a connection to each node; 4
	Keys    int           // registers, partitions, counters; 8
	RF      int           // replicas in each data centre, at most its nodes; 3
	Pace    time.Duration // a client rests for up to twice as long between two operations; 5 ms
	Timeout time.Duration // after which a client gives an operation up; 12 s, above what a node takes at most
	Skew    time.Duration // no node's clock is further from true time; 30 s
	GCGrace time.Duration // gc_grace of tables with deletions, longer than any fault; 10 days
	// Settle is how long Verify waits before it reads rows again, for purges to do their worst.
	Settle time.Duration
	// Moving: ranges move and replication changes while the clients work, so that only what quorums have counts until the end.
	Moving bool
	// Strong: all writes are made at a quorum. Machines are lost for good, and with them what only they had acknowledged.
	Strong bool
}

func (o Options) withDefaults() Options {
	setDefault(&o.Clients, 4)
	setDefault(&o.Keys, 8)
	setDefault(&o.RF, 3)
	setDefault(&o.Pace, 5*time.Millisecond)
	setDefault(&o.Timeout, 12*time.Second)
	setDefault(&o.Skew, 30*time.Second)
	setDefault(&o.GCGrace, 240*time.Hour)
	o.Clients = min(o.Clients, clientsMax)
	return o
}

func setDefault[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

// Constructor makes one kind of workload.
type Constructor struct {
	Name  string
	New   func(Options) Workload
	Wants func(Features) bool // whether it does anything with these features
}

// All returns the constructors of all kinds, in a fixed order.
func All() []Constructor {
	always := func(Features) bool { return true }
	return []Constructor{
		{"registers", NewRegisters, always},
		{"deletes", NewDeletes, func(f Features) bool { return f.Deletes }},
		{"pages", NewPages, func(f Features) bool { return f.Pages }},
		{"batches", NewBatches, always},
		{"counters", NewCounters, func(f Features) bool { return f.Counters }},
		{"lwt", NewLWT, func(f Features) bool { return f.LWT }},
	}
}
