package exec

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"time"

	"github.com/helenusdb/helenus/coordinator"
	"github.com/helenusdb/helenus/cql/system"
	"github.com/helenusdb/helenus/meta"
	"github.com/helenusdb/helenus/schema"
)

// Schema is the cluster's metadata as exec sees it; node binds it.
type Schema interface {
	// Current returns the newest state of this node; an atomic load.
	Current() *meta.State
	// Change plans against the newest catalog, puts the changes into the metadata log and waits until all live nodes have
	// applied them; build may be called again when the catalog moved on meanwhile. A plan without changes is returned as
	// it is. Errors of build are returned as they are.
	Change(ctx context.Context, build func(*meta.State) (schema.Plan, error)) (plan schema.Plan, warnings []string, err error)
}

// Limits bound what clients can make this node hold. 0 always means the default.
type Limits struct {
	// PreparedBytes bounds the prepared statements, by an estimate of their size. Beyond it the least recently used are
	// forgotten. Default 32 MiB.
	PreparedBytes int64
	// StatementsBytes bounds the cache of parsed and compiled QUERY texts likewise. Default 8 MiB.
	StatementsBytes int64
	// Heavy is the number of goroutines for requests that do not run inline, HeavyQueue how many requests wait for one.
	// Defaults 128 and 4096.
	Heavy, HeavyQueue int
	// CAS is the number of goroutines for conditional writes and serial reads, each of which holds one until it is answered;
	// CASQueue how many wait for one. Defaults 256 and 4096.
	CAS, CASQueue int
	// DDL is the number of goroutines for schema changes, DDLQueue how many wait. Defaults 4 and 256.
	DDL, DDLQueue int
	// ResultBytes bounds one answer; PageBytes one that is a page: it ends with the row that reaches it. Defaults 128 and 8 MiB.
	ResultBytes, PageBytes int
	// BatchWarn and BatchFail are Cassandra's batch_size_warn_threshold and batch_size_fail_threshold in bytes.
	// Defaults 5 KiB and 50 KiB; negative: none.
	BatchWarn, BatchFail int
	// UnloggedWarn is unlogged_batch_across_partitions_warn_threshold. Default 10; negative: none.
	UnloggedWarn int
	// Stamps bounds what USING TIMESTAMP may say.
	Stamps StampLimits
}

// Options configure an Executor; they do not change after New.
type Options struct {
	Coordinator *coordinator.Coordinator // needed
	Consensus   Consensus                // default Coordinator
	Schema      Schema                   // needed
	System      *system.Tables           // needed

	// Native is this node's address for clients, as traces name it.
	Native netip.AddrPort

	// Clock returns write timestamps, µs since the epoch, each larger than the one before (hlc.Clock.Timestamp). Needed.
	Clock func() int64
	// NewTimeUUID returns version 1 UUIDs, each later than the one before; NewUUID version 4 UUIDs. Needed.
	NewTimeUUID, NewUUID func() [16]byte
	Now                  func() time.Time // default time.Now

	Limits Limits
	// FailWritesTo is a keyspace whose writes fail with WRITE_FAILURE: suites of drivers want one.
	FailWritesTo string
	// IsInvalid tells errors of storage that are the request's own fault (a mutation that is too large), whose text the client is
	// told; may be nil.
	IsInvalid func(error) bool
	// DefaultRF is the replication factor of keyspaces that do not name one. 0 means 1.
	DefaultRF int

	// DDLTimeout bounds one schema change. Default 30 s.
	DDLTimeout time.Duration

	// SlowThreshold: what takes longer is logged as a slow query, 10 a second at most. 0: nothing is.
	SlowThreshold time.Duration
	// SlowValues shows constants and bound values of slow queries, which otherwise never reach the log.
	SlowValues bool

	Logger *slog.Logger // nil: discard
}

func (o Options) withDefaults() Options {
	l := &o.Limits
	orDefault(&l.PreparedBytes, 32<<20)
	orDefault(&l.StatementsBytes, 8<<20)
	orDefault(&l.Heavy, 128)
	orDefault(&l.HeavyQueue, 4096)
	orDefault(&l.CAS, 256)
	orDefault(&l.CASQueue, 4096)
	orDefault(&l.DDL, 4)
	orDefault(&l.DDLQueue, 256)
	orDefault(&l.ResultBytes, 128<<20)
	orDefault(&l.PageBytes, 8<<20)
	orDefault(&l.BatchWarn, 5<<10)
	orDefault(&l.BatchFail, 50<<10)
	orDefault(&l.UnloggedWarn, 10)
	orDefault(&o.DDLTimeout, 30*time.Second)
	if o.Consensus == nil {
		o.Consensus = o.Coordinator
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o
}

func orDefault[T comparable](v *T, def T) {
	var zero T
	if *v == zero {
		*v = def
	}
}

func (o *Options) validate() error {
	if o.Coordinator == nil || o.Schema == nil || o.System == nil || o.Clock == nil || o.NewTimeUUID == nil || o.NewUUID == nil {
		return errors.New("exec: Coordinator, Schema, System, Clock, NewTimeUUID and NewUUID are needed")
	}
	return nil
}
