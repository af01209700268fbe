package rpc

import (
	"fmt"
	"time"

	"github.com/helenusdb/helenus/internal/trace"
	"github.com/helenusdb/helenus/ring"
)

// Verb says what a request asks for; the ranges are in the package comment.
type Verb uint8

// Ranges of verbs, both ends included.
const (
	VerbMetaFirst, VerbMetaLast               Verb = 1, 31
	VerbCoordinatorFirst, VerbCoordinatorLast Verb = 32, 95
	VerbStreamFirst, VerbStreamLast           Verb = 96, 127
)

// Class selects the connection, and with it the queue, that carries a request and its answer.
type Class uint8

const (
	Urgent Class = iota // small messages that must not wait: Raft, Paxos, liveness
	Data                // reads and writes of rows
	Stream              // bulk transfer

	classes = 3
)

// String returns "urgent", "data" or "stream".
func (c Class) String() string {
	switch c {
	case Urgent:
		return "urgent"
	case Data:
		return "data"
	case Stream:
		return "stream"
	}
	return fmt.Sprintf("class(%d)", uint8(c))
}

// Status is the outcome of a request as its handler reports it. Values from StatusUser on belong to the users of the
// package; the body of an answer carries details in a form that the verb defines, a text unless it says otherwise. "No
// effect" is certain: nobody but the handler may say it once a request was handled, so an answer that finds no room is
// dropped, and the caller is told of a timeout.
type Status uint8

const (
	StatusOK           Status = 0
	StatusFailed       Status = 1  // the handler failed; the body is a text, empty if the request may have had an effect
	StatusOverloaded   Status = 2  // a bound was reached; the request had no effect
	StatusExpired      Status = 3  // the deadline had passed before the handler began; no effect
	StatusWrongEpoch   Status = 4  // the epochs of the two nodes do not fit; no effect unless the verb says otherwise
	StatusNotOwner     Status = 5  // the receiver does not own the token; likewise
	StatusUnknownTable Status = 6  // no such table generation here; likewise
	StatusUnknownVerb  Status = 7  // no handler for the verb; no effect
	StatusBadRequest   Status = 8  // the body does not decode; no effect
	StatusNotReady     Status = 9  // the receiver is starting or stopping; no effect
	StatusUser         Status = 64 // first value for the users of the package
)

// String returns the name of a status, "status(n)" for those of the users.
func (s Status) String() string {
	names := [...]string{"ok", "failed", "overloaded", "expired", "wrong epoch", "not owner", "unknown table",
		"unknown verb", "bad request", "not ready"}
	if int(s) < len(names) {
		return names[s]
	}
	return fmt.Sprintf("status(%d)", uint8(s))
}

// harmless tells that a request with such an outcome has had no effect, whatever its verb.
func (s Status) harmless() bool {
	switch s {
	case StatusOverloaded, StatusExpired, StatusUnknownVerb, StatusBadRequest, StatusNotReady:
		return true
	}
	return false
}

// BodyMax is the largest body of a request or an answer, in bytes, before and after compression.
const BodyMax = 16 << 20

// Request is a request as its handler sees it. It belongs to the connection and is overwritten by the next one: a
// handler copies the fields it wants to keep after Handle returned.
type Request struct {
	From     ring.HostID
	Class    Class
	Verb     Verb
	OneWay   bool      // the sender waits for no answer: the Responder does nothing
	Epoch    uint64    // of the sender when it sent
	Deadline time.Time // by this node's clock; never zero
	// Trace takes what this node does for a request that is traced, and travels with the answer; nil for all others.
	Trace *trace.Log
	// Body aliases the connection's read buffer. It stays valid, and unchanged, until Flush of the same session
	// returns; Retain makes a copy.
	Body []byte
}

// Retain replaces Body by a copy that the caller owns, and returns it.
func (r *Request) Retain() []byte {
	r.Body = append([]byte(nil), r.Body...)
	return r.Body
}

// Session handles the requests of one accepted connection. All methods are called by the goroutine that reads the
// connection, one at a time. While one of them runs nothing is read from this connection, so they should not wait
// for other nodes. When a peer connects again its new session begins while the old one may still be handling what it
// had read.
type Session interface {
	// Handle receives one request. rsp must be answered exactly once, now or later, unless req.OneWay.
	Handle(req *Request, rsp Responder)
	// Flush is called after the last Handle of the requests that one socket read brought.
	Flush()
	// Close is called once, after the last Flush. Answers given later are dropped silently.
	Close()
}

// Response is the outcome of a call. It belongs to the transport: Done copies what it keeps.
type Response struct {
	From   ring.HostID
	Verb   Verb   // of the request
	Status Status // meaningless when Err is set
	Epoch  uint64 // of the responder when it answered; 0 when Err is set
	Body   []byte // aliases a read buffer; valid only during the callback
	Trace  []byte // events of the responder (trace.Session.Answered), of a request sent by SendTraced; likewise
	Err    error  // *Error when no answer came; nil otherwise, whatever Status says
}

// Callback receives the outcome of a call. It is an interface so that callers can pool the objects behind it.
type Callback interface {
	// Done is called exactly once per Send: by a goroutine of the transport, or by Send itself before it returns
	// when the request could not be queued. It must not block: everything behind it on the connection waits.
	Done(*Response)
}
