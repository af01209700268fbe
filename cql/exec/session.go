package exec

import (
	"sync/atomic"

	"github.com/helenusdb/helenus/coordinator"
	"github.com/helenusdb/helenus/cql/plan"
	"github.com/helenusdb/helenus/cql/protocol"
	"github.com/helenusdb/helenus/cql/server"
)

// Session runs the requests of one connection. It implements server.Session: its methods are called one at a time.
type Session struct {
	x     *Executor
	info  server.ConnInfo
	burst *coordinator.Burst
	shard uint32 // of the histograms

	keyspace string      // of USE
	warned   atomic.Bool // about prepared statements after USE
	closed   atomic.Bool // the connection has ended: what waits for a goroutine is not begun, SELECTs end early
}

// Request implements server.Session.
func (s *Session) Request(h protocol.Header, _ []protocol.PayloadEntry, body []byte, r server.Responder) {
	o := s.begin(h, r)
	switch h.Op {
	case protocol.OpExecute:
		o.runExecute(body)
	case protocol.OpQuery:
		o.runQuery(body)
	case protocol.OpBatch:
		o.runBatch(body)
	case protocol.OpPrepare:
		o.runPrepare(body)
	default:
		o.fail(protocol.Errorf(protocol.CodeProtocol, "Unsupported message"))
	}
}

// Flush implements server.Session.
func (s *Session) Flush() { s.burst.Flush() }

// Close implements server.Session.
func (s *Session) Close() {
	s.closed.Store(true)
	s.burst.Close()
}

// runExecute decodes an EXECUTE and starts it.
func (o *op) runExecute(body []byte) {
	o.x.metrics.PreparedExecuted.Add(1)
	id := peekID(body)
	s := o.x.lookup(id)
	if s == nil || !o.compile(s, true) {
		// Decoded all the same: a malformed request is told so first.
		o.unprepared(body, id)
		return
	}
	if o.outlives() {
		body = o.keep(body)
	}
	if err := protocol.DecodeExecute(o.version, body, &o.execute); err != nil {
		o.fail(err)
		return
	}
	o.params = &o.execute.QueryParams
	if err := o.bindPrepared(); err != nil {
		o.fail(err)
		return
	}
	o.warnUse()
	if o.compiled.result != nil {
		o.mode = protocol.ModeFor(o.version, &o.execute, o.compiled.result.ID(), s.first, o.compiled.Conditional)
	}
	o.dispatch()
}

// outlives reports whether the values of an EXECUTE are needed after Request has returned.
func (o *op) outlives() bool {
	m := o.compiled.Modify
	return o.traced || o.x.observed.values || o.compiled.Kind != plan.KindModify || m.ReadsFirst() || m.Among() || o.compiled.Conditional
}

// peekID returns the statement id that the body of an EXECUTE begins with, nil when there is none.
func peekID(body []byte) []byte {
	if len(body) < 2 {
		return nil
	}
	n := int(body[0])<<8 | int(body[1])
	if len(body) < 2+n {
		return nil
	}
	return body[2 : 2+n]
}

// compile sets the op's statement, compiled against the newest catalog. false: a prepared statement that the client has
// to prepare again, or an error, which only a statement that is not prepared can have and which was answered.
func (o *op) compile(s *stmt, prepared bool) bool {
	c, affected, err := s.fresh(o.x.o.Schema.Current().Catalog)
	if prepared && (affected || err != nil) {
		if o.x.prepared.drop(s.id, s) {
			o.x.metrics.PreparedDropped.Add(1)
		}
		return false
	}
	if err != nil {
		o.fail(err)
		return false
	}
	o.stmt, o.compiled = s, c
	return true
}

// unprepared answers an EXECUTE of a statement that is not known.
func (o *op) unprepared(body, id []byte) {
	if err := protocol.DecodeExecute(o.version, body, &o.execute); err != nil {
		o.fail(err)
		return
	}
	o.x.metrics.PreparedMissed.Add(1)
	o.fail(unpreparedError(id))
}

// dispatch runs a statement that has its values: inline if that is bounded.
func (o *op) dispatch() {
	c := o.compiled
	o.warnings = append(o.warnings, c.Warnings...)
	if err := o.checkLevel(); err != nil {
		o.fail(err)
		return
	}
	o.setArgs()
	switch c.Kind {
	case plan.KindModify:
		o.dispatchModify()
	case plan.KindSelect:
		o.dispatchSelect()
	case plan.KindBatch:
		o.dispatchBatch()
	case plan.KindUse:
		o.use()
	case plan.KindTruncate, plan.KindDDL:
		o.later(&o.x.ddl, runDDL)
	case plan.KindDescribe:
		o.later(&o.x.heavy, runDescribe)
	default:
		o.fail(authError(c.AST))
	}
}

// setArgs fills in what an execution gets besides its values.
func (o *op) setArgs() {
	now := o.x.o.Now()
	if o.began.IsZero() {
		o.began = now
	}
	o.args.Millis = now.UnixMilli()
	if o.args.Now = o.params.NowInSeconds; o.args.Now == protocol.NoNowInSeconds {
		o.args.Now = now.Unix()
	}
	if o.args.Timestamp = o.params.Timestamp; o.args.Timestamp == protocol.NoTimestamp {
		o.args.Timestamp = o.x.o.Clock()
	}
}

func (o *op) dispatchModify() {
	o.x.metrics.Writes.Add(1)
	if o.compiled.Conditional {
		o.later(&o.x.cas, runConditional)
		return
	}
	m := o.compiled.Modify
	if o.traced || o.apart || m.ReadsFirst() || m.Many(&o.args) {
		o.later(&o.x.heavy, runModify)
		return
	}
	o.x.metrics.Inline.Add(1)
	muts, err := m.Mutations(&o.buf, &o.args)
	if err != nil {
		o.fail(err)
		return
	}
	o.startWrite(muts, o.writeType(len(muts)))
}

func (o *op) writeType(partitions int) coordinator.WriteType {
	switch {
	case o.compiled.counter():
		return coordinator.CounterWrite
	case partitions > 1:
		return coordinator.UnloggedBatch
	}
	return coordinator.Simple
}

func (o *op) dispatchSelect() {
	o.x.metrics.Reads.Add(1)
	o.r.ReadsOnly()
	if o.params.Consistency.IsSerial() && !o.compiled.Table.Virtual {
		o.later(&o.x.cas, runSelect)
		return
	}
	if o.traced || o.apart || o.compiled.Table.Virtual || o.params.PagingState != nil || o.compiled.Select.Many(&o.args) {
		o.later(&o.x.heavy, runSelect)
		return
	}
	acc, err := o.compiled.Select.Access(&o.buf, &o.args)
	if err != nil {
		o.fail(err)
		return
	}
	if !acc.Point {
		o.later(&o.x.heavy, runSelect)
		return
	}
	o.x.metrics.Inline.Add(1)
	if err := o.writer.Begin(o.compiled.Select, &o.args, acc, o.page()); err != nil {
		o.fail(err)
		return
	}
	cmd := o.writer.Next()
	if cmd == nil {
		o.finishSelect()
		return
	}
	o.startRead(cmd)
}

// finishSelect answers a SELECT that reads nothing.
func (o *op) finishSelect() {
	dst, mark := protocol.BeginRows(o.out[:0], o.version, o.compiled.result, o.mode)
	dst, err := o.writer.Finish(dst)
	o.out = dst
	if err != nil {
		o.fail(err)
		return
	}
	o.out = protocol.EndRows(dst, mark, o.writer.Rows(), nil)
	o.answer(o.out)
}

// page returns how long a page may be.
func (o *op) page() plan.Page { return plan.Page{Rows: o.pageSize(), Bytes: o.x.o.Limits.PageBytes} }

// pageSize returns how many rows a page has; 0: all.
func (o *op) pageSize() int { return int(max(o.params.PageSize, 0)) }

// use answers USE.
func (o *op) use() {
	if err := checkKeyspace(o.x.o.Schema.Current().Catalog, o.compiled.Use); err != nil {
		o.fail(err)
		return
	}
	o.s.keyspace = o.compiled.Use
	o.answer(protocol.AppendSetKeyspace(nil, o.compiled.Use))
}
