package rpc

import (
	"net"
	"sync/atomic"
	"time"

	"github.com/helenusdb/helenus/internal/trace"
	"github.com/helenusdb/helenus/ring"
)

// Responder answers one request. It is a small value: copy it, keep it, use it from any goroutine, exactly once.
// The zero value, and the one of a one-way message, do nothing.
type Responder struct {
	conn     *accepted
	id       uint64
	deadline int64
	trace    *trace.Log
}

// Trace returns where to record what is done for the request: nil unless it is traced.
func (r Responder) Trace() *trace.Log { return r.trace }

// Reply queues the answer and returns; it never blocks. The body is copied. The answer is dropped when the deadline has
// passed by the time it would be written, when the connection is gone, and when the queue of answers is full: what the
// request has done is not denied for want of room. At that bound small answers are queued all the same, a StatusFailed
// without its text, and in place of a status that says that nothing was done an empty StatusOverloaded. In place of a
// body above BodyMax an empty StatusFailed goes out.
func (r Responder) Reply(status Status, body []byte) {
	if r.conn != nil {
		r.conn.reply(r, status, body, status.harmless())
	}
}

// ReplyRead is Reply with StatusOK to a request that has changed nothing, or nothing that matters when it is made again:
// an answer that finds no room is replaced by an empty StatusOverloaded, so that the caller can ask somebody else at once.
func (r Responder) ReplyRead(body []byte) {
	if r.conn != nil {
		r.conn.reply(r, StatusOK, body, true)
	}
}

// ReplyText is Reply with a text as its body.
func (r Responder) ReplyText(status Status, text string) {
	r.Reply(status, []byte(text))
}

// Deadline returns when the caller stops waiting, by this node's clock; zero for a one-way message.
func (r Responder) Deadline() time.Time {
	if r.conn == nil {
		return time.Time{}
	}
	return r.conn.t.at(r.deadline)
}

// accepted is a connection on which this end answers.
type accepted struct {
	outbox
	t     *Transport
	conn  net.Conn
	from  ring.HostID
	class Class
	lim   Limits

	started int64        // requests handed to the session; the reader's
	replied atomic.Int64 // answers given; incremented under mu
	req     Request

	dropped   int    // answers that found no room since the writer had taken droppedAt chunks; guarded by mu
	droppedAt uint64 // likewise
}

// answerAlways is the size up to which the body of an answer is queued although the queue is full, in bytes: what would
// stand for it is hardly smaller.
const answerAlways = 64

func (a *accepted) reply(r Responder, status Status, body []byte, harmless bool) {
	h := header{kind: kindResponse, code: uint8(status), id: r.id, epoch: a.t.opt.Epoch()}
	if len(body) > BodyMax {
		a.t.opt.Logger.Error("rpc: an answer is too large", "to", a.from, "class", a.class.String(), "bytes", len(body))
		h.code, body = uint8(StatusFailed), nil
		if harmless {
			body = []byte("rpc: answer too large")
		}
	}
	whole := body
	if r.trace != nil {
		addr, _ := a.t.opt.Resolve(a.from)
		r.trace.Event("Enqueuing response to %s", addr)
		if traced, ok := tracedAnswer(r.trace, body); ok {
			h.flags, whole = flagTrace, traced
		}
	}
	a.mu.Lock()
	a.replied.Add(1)
	if a.closed {
		a.mu.Unlock()
		return
	}
	room := a.q.bytes == 0 || a.q.bytes+headerLen+len(whole) <= a.lim.QueueBytes
	if !room {
		h.flags = 0
		whole, room = cramped(&h, body, harmless)
	}
	if !room {
		a.dropLocked()
	}
	if a.unreadLocked() {
		a.closeLocked() // it asks and asks, and reads no answer
		a.mu.Unlock()
		hangUp(a.conn)
		a.t.metrics.class(a.class).SlowReaders.Add(1)
		a.t.opt.Logger.Warn("rpc: peer does not read its answers", "from", a.from, "class", a.class.String())
		return
	}
	rouse := false
	if room {
		a.q.push(h, whole, r.deadline)
		rouse = a.nudgeLocked()
	}
	a.mu.Unlock()
	if rouse {
		a.rouse()
	}
}

// cramped returns what is queued of an answer when the queue is full, whose status it may replace; ok false: nothing,
// because anything else would be a lie.
func cramped(h *header, body []byte, harmless bool) (_ []byte, ok bool) {
	switch {
	case len(body) <= answerAlways:
		return body, true
	case harmless:
		h.code = uint8(StatusOverloaded)
		return nil, true
	case Status(h.code) == StatusFailed: // without the text it says less
		return nil, true
	}
	return nil, false
}

// dropLocked counts an answer that is dropped for want of room.
func (a *accepted) dropLocked() {
	if a.droppedAt != a.q.taken {
		a.dropped, a.droppedAt = 0, a.q.taken
	}
	a.dropped++
	a.t.metrics.class(a.class).Unanswered.Add(1)
}

// unreadLocked tells whether more answers wait, or have found no room since the writer got on, than anybody who reads
// them leaves.
func (a *accepted) unreadLocked() bool {
	n := a.q.frames
	if a.droppedAt == a.q.taken {
		n += a.dropped
	}
	return n >= 4*a.lim.InFlight
}

// run handles requests until the connection fails or the transport stops, and returns why, never nil; it waits for its
// writer.
func (a *accepted) run(session Session) error {
	w := writer{box: &a.outbox, conn: a.conn, t: a.t, class: a.class}
	if a.lim.Compress {
		w.pack = new(packer)
	}
	done := make(chan struct{})
	go func() {
		_ = w.run() // a connection that cannot be written is shut, which is what the reader then reports
		a.shut()
		close(done)
	}()
	err := a.read(session)
	session.Close()
	a.shut()
	<-done
	return err
}

// shut closes the outbox and the connection.
func (a *accepted) shut() {
	a.mu.Lock()
	a.closeLocked()
	a.mu.Unlock()
	hangUp(a.conn)
}

func (a *accepted) read(session Session) error {
	in := newReceiver(a.t, &a.outbox, a.conn, a.from, a.class)
	for {
		if err := in.fill(); err != nil {
			return err
		}
		a.busy.Store(true)
		err := a.handle(in, session)
		a.busy.Store(false)
		if err != nil {
			return err
		}
		in.drained()
	}
}

// handle gives the session every request that is complete in the buffer, then flushes it.
func (a *accepted) handle(in *receiver, session Session) error {
	for more := true; more; {
		n := 0
		var err error
		for more = true; more && !in.frames.crowded(); {
			more, err = a.one(in, session)
			if more {
				n++
			}
		}
		if n > 0 {
			a.t.metrics.class(a.class).FramesIn.Add(int64(n))
			session.Flush()
		}
		if err != nil {
			return err
		}
		in.frames.dropUnpacked()
	}
	return nil
}

// one handles the next request; more is false when none is complete.
func (a *accepted) one(in *receiver, session Session) (more bool, err error) {
	h, body, ok, err := in.next()
	if err != nil || !ok {
		return false, err
	}
	if h.kind != kindRequest && h.kind != kindOneWay {
		return false, unexpectedKind(h.kind)
	}
	traced, body, err := h.splitTrace(body)
	if err != nil {
		return false, err
	}
	deadline := in.now + int64(h.micros)*1000
	a.req = Request{From: a.from, Class: a.class, Verb: Verb(h.code), OneWay: h.kind == kindOneWay, Epoch: h.epoch,
		Deadline: a.t.at(deadline), Body: body}
	if a.req.OneWay {
		session.Handle(&a.req, Responder{})
		return true, nil
	}
	rsp := Responder{conn: a, id: h.id, deadline: deadline}
	if traced != nil {
		a.req.Trace = trace.NewLog([16]byte(traced))
		rsp.trace = a.req.Trace
	}
	a.started++
	switch {
	case h.micros == 0:
		rsp.Reply(StatusExpired, nil)
	case a.started-a.replied.Load() > int64(a.lim.InFlight):
		a.t.metrics.class(a.class).Overloaded.Add(1)
		rsp.Reply(StatusOverloaded, nil)
	default:
		session.Handle(&a.req, rsp)
	}
	return true, nil
}

// noSession answers when Options.NewSession is nil.
type noSession struct{}

func (noSession) Handle(_ *Request, rsp Responder) { rsp.Reply(StatusUnknownVerb, nil) }
func (noSession) Flush()                           {}
func (noSession) Close()                           {}

// Mux is a Session that routes requests by ranges of verbs; an unknown verb is answered StatusUnknownVerb. Flush
// reaches the sessions that handled something since the last one, Close all of them.
type Mux struct {
	routes []route
}

type route struct {
	first, last Verb
	session     Session
	dirty       bool
}

// Add routes the verbs from first to last, both included, to a session; ranges must not overlap. Only before the
// first Handle.
func (m *Mux) Add(first, last Verb, s Session) {
	for _, r := range m.routes {
		if first > last || first <= r.last && r.first <= last {
			panic("rpc: ranges of verbs overlap")
		}
	}
	m.routes = append(m.routes, route{first: first, last: last, session: s})
}

// Handle implements Session.
func (m *Mux) Handle(req *Request, rsp Responder) {
	for i := range m.routes {
		if r := &m.routes[i]; r.first <= req.Verb && req.Verb <= r.last {
			r.dirty = true
			r.session.Handle(req, rsp)
			return
		}
	}
	rsp.Reply(StatusUnknownVerb, nil)
}

// Flush implements Session.
func (m *Mux) Flush() {
	for i := range m.routes {
		if m.routes[i].dirty {
			m.routes[i].dirty = false
			m.routes[i].session.Flush()
		}
	}
}

// Close implements Session.
func (m *Mux) Close() {
	for i := range m.routes {
		m.routes[i].session.Close()
	}
}
