package exec

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/helenusdb/helenus/cql/protocol"
	"github.com/helenusdb/helenus/cql/server"
)

// Executor runs the requests of all connections. It implements server.Handler and is safe for concurrent use.
type Executor struct {
	o       Options
	metrics Metrics

	prepared   *cache[protocol.StatementID]
	statements *cache[uint64]
	unused     atomic.Int64 // where the statements' cache counts
	stmtBytes  atomic.Int64

	ops   sync.Pool
	heavy lane
	cas   lane // conditional writes and serial reads: they wait for one another, and nothing else for them
	ddl   lane
	void  bytesBody // RESULT Void
	trace *tracer

	observed observer
}

var _ server.Handler = (*Executor)(nil)

// New returns an executor. It does no I/O and starts nothing.
func New(o Options) (*Executor, error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	o = o.withDefaults()
	x := &Executor{o: o, void: bytesBody{protocol.AppendVoid(nil)}}
	x.prepared = newCache(o.Limits.PreparedBytes, &x.metrics.PreparedBytes, &x.metrics.Prepared, func(id protocol.StatementID) uint8 { return id[0] })
	x.statements = newCache(o.Limits.StatementsBytes, &x.stmtBytes, &x.unused, func(h uint64) uint8 { return uint8(h) })
	x.ops.New = func() any { return x.newOp() }
	x.heavy.init(o.Limits.HeavyQueue)
	x.cas.init(o.Limits.CASQueue)
	x.ddl.init(o.Limits.DDLQueue)
	x.trace = newTracer(x)
	x.observed.init(&x.o)
	return x, nil
}

// Run runs what does not run inline until ctx ends, and returns when all goroutines have. Requests that wait then are
// answered with an error.
func (x *Executor) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	for range x.o.Limits.Heavy {
		wg.Go(func() { x.heavy.work(ctx) })
	}
	for range x.o.Limits.CAS {
		wg.Go(func() { x.cas.work(ctx) })
	}
	wg.Go(func() { x.trace.run(ctx) })
	for range x.o.Limits.DDL {
		wg.Go(func() { x.ddl.work(ctx) })
	}
	<-ctx.Done()
	x.heavy.close()
	x.cas.close()
	x.ddl.close()
	wg.Wait()
	return nil
}

// Metrics returns the counters.
func (x *Executor) Metrics() *Metrics { return &x.metrics }

// NewSession returns the session of a connection.
func (x *Executor) NewSession(info server.ConnInfo) server.Session {
	return &Session{x: x, info: info, burst: x.o.Coordinator.NewBurst(), shard: x.observed.next.Add(1) % shardsMax}
}

// Prepared calls fn for each prepared statement held: for system.prepared_statements.
func (x *Executor) Prepared(fn func(id [16]byte, keyspace, text string)) {
	x.prepared.all(func(id protocol.StatementID, s *stmt) { fn(id, s.keyspace, s.text) })
}

// lookup returns the prepared statement of that id, nil when there is none.
func (x *Executor) lookup(id []byte) *stmt {
	if len(id) != len(protocol.StatementID{}) {
		return nil
	}
	return x.prepared.get(protocol.StatementID(id))
}

// lane is a bounded queue of requests before a fixed number of goroutines.
type lane struct {
	queue chan work
	mu    sync.RWMutex // held shared to put into queue; never across a wait
	over  bool
}

// work is a request that does not run inline.
type work struct {
	op  *op
	run func(context.Context, *op)
}

func (l *lane) init(size int) { l.queue = make(chan work, size) }

// submit queues w and reports whether there was room.
func (l *lane) submit(w work) bool {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if l.over {
		return false
	}
	select {
	case l.queue <- w:
		return true
	default:
		return false
	}
}

// work runs requests until the queue is closed and empty. When ctx has ended they are refused.
func (l *lane) work(ctx context.Context) {
	for w := range l.queue {
		switch {
		case ctx.Err() != nil:
			w.op.fail(errStopping)
		case w.op.s.closed.Load():
			w.op.fail(errGone)
		default:
			w.op.guard(ctx, w.run)
		}
	}
}

func (l *lane) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.over {
		l.over = true
		close(l.queue)
	}
}
