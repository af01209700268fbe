package server

import (
	"context"
	"crypto/tls"
	"net/netip"
	"time"

	"github.com/helenusdb/helenus/cql/protocol"
)

// Handler makes a Session for each connection once it is ready: after STARTUP and, where needed, authentication. Its
// method may be called from many goroutines at once.
type Handler interface {
	NewSession(info ConnInfo) Session
}

// Session executes the requests of one connection. Its methods are called one at a time by the connection's reader
// goroutine, so what they do delays the requests behind them, and the answers that come from elsewhere meanwhile, which
// leave with the burst's own: long work belongs elsewhere.
//
// A panic in Request is logged and answered with a server error; one in Flush closes the connection.
type Session interface {
	// Request is one QUERY, PREPARE, EXECUTE or BATCH, as h.Op says. It must be answered exactly once through r, from
	// any goroutine, before or after Request returns, and even after Close. body is the message without the custom
	// payload, which is nil when there is none; both are valid only until Request returns.
	Request(h protocol.Header, payload []protocol.PayloadEntry, body []byte, r Responder)

	// Flush follows the last Request of what was read in one go: what the session has gathered should be done now.
	// It is also called early when the connection must wait for answers before it can go on.
	Flush()

	// Close says that the connection has ended: nothing is called after it. Answers to requests still under way are
	// dropped, but must be given, because they release what the requests hold.
	Close()
}

// Body is the body of an answer.
type Body interface {
	// AppendBody appends the body and returns the extended slice. It is called under the lock of the connection's out
	// buffer, at most once and before Respond returns: it must be quick and must not block. It is not called when the
	// connection has ended.
	AppendBody(dst []byte) []byte
}

// ConnInfo describes a ready connection. It is immutable.
type ConnInfo struct {
	ID       uint64 // unique in this server
	Remote   netip.AddrPort
	Local    netip.AddrPort
	Accepted time.Time

	Version         protocol.Version
	CQLVersion      string
	Compression     protocol.Compression
	DriverName      string // "" when the client does not say
	DriverVersion   string
	Options         []protocol.StringPair // of STARTUP: keys in upper case, in order of arrival
	ThrowOnOverload bool

	User string               // "anonymous" when nobody has to log in
	TLS  *tls.ConnectionState // nil for a plain connection
}

// Authenticator decides who may connect. Its methods may be called from many goroutines at once.
type Authenticator interface {
	// Class is the class name that AUTHENTICATE carries, or "" when nobody has to log in; NewExchange is then not called.
	Class() string

	// NewExchange begins an authentication. info has neither User nor anything later than STARTUP.
	NewExchange(info ConnInfo) Exchange
}

// Exchange is one attempt to log in. A failed attempt is followed by a new Exchange.
type Exchange interface {
	// Step evaluates the token of an AUTH_RESPONSE (nil: null; valid until Step returns). It returns either who the
	// user is with done set (reply then goes out in AUTH_SUCCESS, nil for null), or a challenge in reply. ctx ends when
	// the client has taken too long or has gone. A *protocol.Error is sent as it is; any other error is logged and
	// answered with a server error.
	Step(ctx context.Context, token []byte) (reply []byte, user string, done bool, err error)
}

// AllowAll is the Authenticator that lets everybody in, as "anonymous".
type AllowAll struct{}

// Anonymous is the user of connections that did not have to log in.
const Anonymous = "anonymous"

// Class returns "".
func (AllowAll) Class() string { return "" }

// NewExchange returns nil: it is never called.
func (AllowAll) NewExchange(ConnInfo) Exchange { return nil }

// Responder answers one request. It is a small value to be copied; it holds no resources, and may be used from any
// goroutine. Exactly one call of one of its methods answers the request; none of them ever blocks.
type Responder struct {
	c      *conn
	echo   *[]protocol.PayloadEntry // to send back; nil unless Options.EchoPayload
	at     int64                    // ns on the server's clock when the request came, of sampled requests; else 0
	seq    uint64                   // number of the request on its connection
	size   int                      // bytes of the request, to be released when the answer has been written
	taken  int64                    // bytes of the budget for the answer, to be released likewise
	stream int16
	reads  bool // the answer may be replaced by OVERLOADED
}

// ReadsOnly says that the request has no effect: while the client leaves more than Limits.UnsentMax unread, its answer needs room in the budget of
// bytes in flight, and becomes OVERLOADED when there is none.
func (r *Responder) ReadsOnly() { r.reads = true }

// Room takes n more bytes of the budget of bytes in flight for an answer that is being built. The error, when they are not there, is the answer to give
// instead. They are given back when the answer has been written.
func (r *Responder) Room(n int) *protocol.Error {
	if !r.c.addr.acquire(int64(n)) {
		r.c.s.metrics.Overloaded.Add(1)
		return r.c.overloaded()
	}
	r.taken += int64(n)
	return nil
}

// LargeBody is the size in bytes from which a body should rather be built by its owner and given to RespondBytes, so
// that other answers do not wait for it.
const LargeBody = 64 << 10

// Respond answers with opcode op and the body that b appends. extras may be nil; neither it nor b is kept.
func (r Responder) Respond(op protocol.Opcode, extras *protocol.Extras, b Body) {
	r.c.respond(r, op, extras, b)
}

// RespondBytes is Respond with a finished body, which is copied.
func (r Responder) RespondBytes(op protocol.Opcode, extras *protocol.Extras, body []byte) {
	r.c.respondBytes(r, op, extras, body)
}

// Error answers with an ERROR. extras may be nil: it carries the warnings and the tracing id.
func (r Responder) Error(err *protocol.Error, extras *protocol.Extras) {
	r.c.respondError(r, err, extras)
}

// Version returns the protocol version that the answer goes out in.
func (r Responder) Version() protocol.Version { return r.c.version }
