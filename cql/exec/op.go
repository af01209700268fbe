package exec

import (
	"bytes"
	"context"
	"errors"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/helenusdb/helenus/coordinator"
	"github.com/helenusdb/helenus/cql/plan"
	"github.com/helenusdb/helenus/cql/protocol"
	"github.com/helenusdb/helenus/cql/server"
	"github.com/helenusdb/helenus/internal/trace"
	"github.com/helenusdb/helenus/row"
)

// keepMax bounds one buffer of a pooled op, in bytes: an op that grew beyond it is left to the collector, and with it what
// package plan needed for such a request.
const keepMax = 64 << 10

// triesMax bounds how often a QUERY or BATCH is begun anew because a table was truncated meanwhile.
const triesMax = 8

// op is one request from its arrival to its answer. It is pooled: it returns when its answer was given and, for a write,
// when the coordinator no longer uses its mutations.
type op struct {
	x    *Executor
	s    *Session
	r    server.Responder
	refs atomic.Int32

	version  protocol.Version
	traced   bool
	apart    bool   // not on the connection's goroutine: its burst is out of reach
	tries    int    // how often it was compiled anew because a table had another generation meanwhile
	keyspace string // of the session, or of the request (v5)

	body     []byte // copy of the request's, when it is needed after Request returned
	execute  protocol.Execute
	query    protocol.Query
	batch    protocol.Batch
	params   *protocol.QueryParams // of one of the three above
	named    []protocol.Value      // values put in order by their names
	stmt     *stmt
	compiled *compiled
	mode     protocol.MetadataMode
	items    []batchItem           // of a BATCH
	kind     coordinator.WriteType // of a batch

	args     plan.Args
	buf      plan.Buffer
	writer   plan.RowWriter
	resume   plan.State
	write    coordinator.Write
	read     coordinator.Read
	out      []byte
	result   bytesBody
	warnings []string
	trace    *trace.Session
	extras   protocol.Extras
	began    time.Time // when it was dispatched; zero: not yet
	scanned  bool      // it read a range of the ring
}

func (x *Executor) newOp() *op {
	o := &op{x: x}
	o.write.Done, o.read.Done, o.read.Holder = o, o, o
	o.args.NewTimeUUID, o.args.NewUUID = x.o.NewTimeUUID, x.o.NewUUID
	if x.o.Limits.Stamps != (StampLimits{}) {
		o.args.Stamps = o
	}
	return o
}

// begin takes an op for a request.
func (s *Session) begin(h protocol.Header, r server.Responder) *op {
	o := s.x.ops.Get().(*op)
	o.s, o.r, o.version = s, r, r.Version()
	o.traced = h.Flags&protocol.FlagTracing != 0
	o.keyspace = s.keyspace
	o.apart, o.tries = false, 0
	o.began, o.scanned = time.Time{}, false
	o.refs.Store(1)
	return o
}

// release gives up one reference; the last one returns the op to the pool.
func (o *op) release() {
	if o.refs.Add(-1) > 0 {
		return
	}
	if cap(o.body) > keepMax || cap(o.out) > keepMax || cap(o.read.Page.Data) > keepMax {
		return
	}
	o.s, o.r, o.params, o.stmt, o.compiled, o.trace = nil, server.Responder{}, nil, nil, nil, nil
	o.write.Trace, o.read.Trace, o.write.Mutations = nil, nil, nil
	o.args.Values, o.args.Read = nil, nil
	o.extras, o.result.b = protocol.Extras{}, nil
	o.warnings = o.warnings[:0]
	clear(o.items)
	o.items = o.items[:0]
	o.read.Command, o.body = row.Command{}, o.body[:0]
	o.x.ops.Put(o)
}

// Hold and Release implement coordinator.Holder.
func (o *op) Hold() { o.refs.Add(1) }

// Release ends a Hold.
func (o *op) Release() { o.release() }

// keep copies a request's body, which is valid only until Request returns.
func (o *op) keep(body []byte) []byte {
	o.body = append(o.body[:0], body...)
	return o.body
}

// warn adds a warning for the client.
func (o *op) warn(text string) { o.warnings = append(o.warnings, text) }

// head returns what stands before the answer's message, nil for nothing.
func (o *op) head() *protocol.Extras {
	if len(o.warnings) == 0 && o.trace == nil {
		return nil
	}
	o.extras = protocol.Extras{Warnings: o.warnings}
	if o.trace != nil {
		o.extras.Traced, o.extras.TracingID = true, o.trace.ID
	}
	return &o.extras
}

// bytesBody is a finished body: by pointer it becomes a server.Body without an allocation.
type bytesBody struct{ b []byte }

// AppendBody implements server.Body.
func (b *bytesBody) AppendBody(dst []byte) []byte { return append(dst, b.b...) }

// answer answers with the body of a RESULT and gives the op back.
func (o *op) answer(body []byte) {
	o.observe()
	o.x.trace.end(o)
	o.r.RespondBytes(protocol.OpResult, o.head(), body)
	o.release()
}

// fail answers with an error and gives the op back.
func (o *op) fail(err error) {
	if o.again(err) {
		return
	}
	o.observe()
	e := o.x.wireError(o, err)
	o.x.trace.end(o)
	o.r.Error(e, o.head())
	o.release()
}

// again runs a QUERY or BATCH once more when a table was truncated or created anew after it was compiled, and reports
// whether it does. An EXECUTE is answered UNPREPARED instead: its values may be gone.
func (o *op) again(err error) bool {
	var unknown *coordinator.UnknownTable
	if o.tries >= triesMax || o.params == nil || o.params == &o.execute.QueryParams || !errors.As(err, &unknown) {
		return false
	}
	n := o.x.ops.Get().(*op) // the coordinator may still be busy with this one's buffers
	n.s, n.r, n.version, n.traced, n.keyspace, n.trace = o.s, o.r, o.version, o.traced, o.keyspace, o.trace
	n.apart, n.tries, n.began, n.scanned = true, o.tries+1, o.began, false
	n.refs.Store(1)
	body, run := bytes.Clone(o.body), (*op).runQuery
	if o.params == &o.batch.QueryParams {
		run = (*op).runBatch
	}
	o.release()
	n.later(&n.x.heavy, func(_ context.Context, n *op) { run(n, body) })
	return true
}

// guard runs f and answers with a server error when it panics, unless it has answered.
func (o *op) guard(ctx context.Context, f func(context.Context, *op)) {
	defer func() {
		if v := recover(); v != nil {
			o.x.o.Logger.Error("request panicked", "value", v, "stack", string(debug.Stack()))
			o.r.Error(protocol.Errorf(protocol.CodeServerError, "internal error"), nil) // op is not pooled again
		}
	}()
	f(ctx, o)
}

// later queues the op for a goroutine of the lane; run answers it.
func (o *op) later(l *lane, run func(context.Context, *op)) {
	switch l {
	case &o.x.ddl:
		o.x.metrics.DDL.Add(1)
	case &o.x.cas:
		o.x.metrics.CAS.Add(1)
	default:
		o.x.metrics.Heavy.Add(1)
	}
	if !l.submit(work{o, run}) {
		o.x.metrics.Overloaded.Add(1)
		o.fail(errOverloaded)
	}
}

var (
	errStopping   = protocol.Errorf(protocol.CodeOverloaded, "the node is shutting down")
	errGone       = protocol.Errorf(protocol.CodeServerError, "the connection has ended")
	errOverloaded = protocol.Errorf(protocol.CodeOverloaded, "too many requests are waiting on this node")
)

// startWrite hands the mutations to the burst; WriteDone answers.
func (o *op) startWrite(muts []row.Mutation, kind coordinator.WriteType) {
	if len(muts) == 0 {
		o.answer(o.x.void.b)
		return
	}
	if err := o.x.refuseWrite(o); err != nil {
		o.fail(err)
		return
	}
	o.write.Mutations, o.write.Type, o.write.Level = muts, kind, o.writeLevel()
	o.refs.Add(1)
	o.s.burst.Write(&o.write)
	o.release()
}

// WriteDone implements coordinator.WriteDone.
func (o *op) WriteDone(_ *coordinator.Write, err error) {
	if err != nil {
		o.fail(err)
		return
	}
	o.observe()
	o.r.Respond(protocol.OpResult, o.head(), &o.x.void)
	o.release()
}

// startRead begins a read of one row; ReadDone answers.
func (o *op) startRead(cmd *row.Command) {
	o.read.Command, o.read.Level = *cmd, coordinator.Level(o.params.Consistency)
	o.refs.Add(1)
	o.s.burst.Read(&o.read)
	o.release()
}

// ReadDone implements coordinator.ReadDone.
func (o *op) ReadDone(_ *coordinator.Read, err error) {
	if err != nil {
		o.fail(err)
		return
	}
	dst, mark := protocol.BeginRows(o.out[:0], o.version, o.compiled.result, o.mode)
	if dst, err = o.writer.Add(dst, &o.read.Page); err == nil && o.writer.Next() == nil {
		dst, err = o.writer.Finish(dst)
	} else if err == nil {
		err = errNotPoint
	}
	o.out = dst
	if err != nil {
		o.fail(err)
		return
	}
	o.out = protocol.EndRows(dst, mark, o.writer.Rows(), nil)
	o.result.b = o.out
	o.observe()
	o.r.Respond(protocol.OpResult, o.head(), &o.result)
	o.release()
}

// errNotPoint is a fault of the plan: what it called a point read was not done after one page.
var errNotPoint = errors.New("exec: a read of one row needs more than one page")
