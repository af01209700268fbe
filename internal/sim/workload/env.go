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
	Dial(ctx context.Context, node int) (net.Conn, error) // a client connection to the node's CQL port, through the simulated network
	Rand(stream string) *rand.Rand                        // math/rand/v2, a function of (seed, stream)
	Now() time.Time                                       // true time, without any node's skew
	Record(kind, format string, args ...any)              // one line into the trace of logical events
	Features() Features                                   // what the seed switched on (swarm)
}

// Workload is one kind of client. Setup runs before faults begin; Run until ctx ends while faults are injected; Verify after all faults have
// ended, every node is up and hints have drained: final reads and the checkers. ops counts checked operations.
type Workload interface {
	Name() string
	Setup(ctx context.Context, env Env) error
	Run(ctx context.Context, env Env) error
	Verify(ctx context.Context, env Env) []check.Violation
	Ops() int64
}

// Features are parts of the language that workloads may use.
type Features struct{ LWT, Counters, LoggedBatches, TTL, Deletes, Pages, ServerTimestamps bool } // may grow

// Options configure a workload. Zero values are the defaults.
type Options struct{}

// Constructor makes one kind of workload.
type Constructor struct {
	Name  string
	New   func(Options) Workload
	Wants func(Features) bool // whether it does anything with these features
}

// All returns the constructors of all kinds, in a fixed order.
func All() []Constructor {
	return []Constructor{{"registers", func(Options) Workload { return &registers{} }, func(Features) bool { return true }}}
}
