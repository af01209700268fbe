package coordinator

import (
	"time"

	"github.com/helenusdb/helenus/internal/trace"
	"github.com/helenusdb/helenus/ring"
	"github.com/helenusdb/helenus/row"
	"github.com/helenusdb/helenus/rpc"
)

// tracedTransport is a Transport that brings what replicas did into a client's trace; *rpc.Transport is one.
type tracedTransport interface {
	SendTraced(session [16]byte, to ring.HostID, class rpc.Class, verb rpc.Verb, deadline time.Time, body []byte, cb rpc.Callback)
}

// send is Transport.Send, class Data, for a request that may be traced.
func (c *Coordinator) send(s *trace.Session, to *peer, verb rpc.Verb, deadline time.Time, body []byte, cb rpc.Callback) {
	if s == nil {
		c.o.Transport.Send(to.id, rpc.Data, verb, deadline, body, cb)
		return
	}
	s.Event("Sending %s message to /%s message size %d bytes", verbName(verb), to.address(), len(body))
	if c.traced == nil {
		c.o.Transport.Send(to.id, rpc.Data, verb, deadline, body, cb)
		return
	}
	c.traced.SendTraced(s.ID, to.id, rpc.Data, verb, deadline, body, &tracedCall{c, s, to, time.Now(), cb})
}

// tracedCall adds what the replica did to the trace before the answer is looked at.
type tracedCall struct {
	c       *Coordinator
	session *trace.Session
	to      *peer
	sent    time.Time
	cb      rpc.Callback
}

// Done implements rpc.Callback.
func (t *tracedCall) Done(r *rpc.Response) {
	if err := t.session.Answered(t.to.address(), t.sent, r.Trace); err != nil {
		t.c.o.Logger.Debug("a replica's part of a trace is malformed", "from", t.to.id.String(), "err", err)
	}
	t.cb.Done(r)
}

// verbName is how Cassandra's traces name the message.
func verbName(v rpc.Verb) string {
	switch v {
	case VerbMutate:
		return "MUTATION_REQ"
	case VerbRead:
		return "READ_REQ"
	}
	return "REQUEST"
}

// traceReceived records that a request has come.
func (s *replicaSession) traceReceived(req *rpc.Request) {
	if req.Trace != nil {
		s.c.view() // knows the members' addresses
		req.Trace.Event("%s message received from /%s", verbName(req.Verb), s.c.peers.of(s.from).address())
	}
}

// readEvent is what a trace says of a read that begins.
func (t *tablePlan) readEvent(cmd *row.Command) string {
	if cmd.Range != nil {
		return "Executing seq scan for " + cmd.Range.String() + " on " + t.table.Name
	}
	return "Executing single-partition query on " + t.table.Name
}

// traceRead records that a replica begins to read.
func (c *Coordinator) traceRead(l *trace.Log, cmd *row.Command) {
	if l == nil {
		return
	}
	if t := c.view().table(cmd.Generation); t != nil {
		l.Event("%s", t.readEvent(cmd))
	}
}

// traceFound records what it found.
func traceFound(l *trace.Log, p *row.Page) {
	if l != nil {
		l.Event("Read %d live rows", p.Rows)
	}
}
