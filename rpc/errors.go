package rpc

import (
	"errors"
	"fmt"

	"github.com/helenusdb/helenus/ring"
)

// Causes of an [Error], to be matched with errors.Is.
var (
	ErrNoAddress   = errors.New("no address known")          // Resolve does not know the host
	ErrUnreachable = errors.New("unreachable")               // dialing failed, also a short while ago
	ErrRefused     = errors.New("handshake refused")         // by either end; see Refusal
	ErrConnLost    = errors.New("connection lost")           // after the handshake
	ErrTimeout     = errors.New("no answer before deadline") // or the request expired in the queue
	ErrCanceled    = errors.New("canceled")                  // the context of a Call or Probe
	ErrOverloaded  = errors.New("queue full")                // see Limits
	ErrTooLarge    = errors.New("body too large")            // see BodyMax
	ErrNoCluster   = errors.New("no cluster id yet")         // this node belongs to no cluster yet
	ErrClosed      = errors.New("transport not running")     // Run has not begun, or has ended
)

// Error says why a call brought no answer. errors.Is matches the cause and what is wrapped below it.
type Error struct {
	To    ring.HostID // zero for a probe
	Class Class
	Cause error // one of the Err variables
	Err   error // detail, may be nil
	// Sent is false when the peer cannot have seen the whole request, so that it had no effect there and may be
	// sent again; true when it may have been handled.
	Sent bool
}

// Error returns the peer, the class, the cause, its detail and whether the request may have arrived.
func (e *Error) Error() string {
	fate := "not sent"
	if e.Sent {
		fate = "maybe sent"
	}
	if e.Err != nil {
		return fmt.Sprintf("rpc: %s to %v: %v (%s): %v", e.Class, e.To, e.Cause, fate, e.Err)
	}
	return fmt.Sprintf("rpc: %s to %v: %v (%s)", e.Class, e.To, e.Cause, fate)
}

// Unwrap returns the cause and the detail.
func (e *Error) Unwrap() []error {
	if e.Err == nil {
		return []error{e.Cause}
	}
	return []error{e.Cause, e.Err}
}

// Refusal is a handshake turned down by the other end, or an answer of it that this end does not accept.
type Refusal struct {
	Code   RefusalCode
	Reason string // for people; from the peer when it refused
	Remote bool   // the peer refused
}

// Error returns the reason.
func (r *Refusal) Error() string {
	by := "by this node"
	if r.Remote {
		by = "by the peer"
	}
	return fmt.Sprintf("refused %s: %s (%s)", by, r.Reason, r.Code)
}

// Is makes errors.Is(err, ErrRefused) true.
func (r *Refusal) Is(target error) bool { return target == ErrRefused }

// RefusalCode says why a handshake was refused.
type RefusalCode uint8

const (
	RefusedCluster    RefusalCode = 1 // another cluster
	RefusedHost       RefusalCode = 2 // the receiver is not the host that was meant
	RefusedVersion    RefusalCode = 3 // no common protocol version
	RefusedPlain      RefusalCode = 4 // TLS is required
	RefusedBusy       RefusalCode = 5 // too many connections
	RefusedNotMember  RefusalCode = 6 // Options.Admit said no
	RefusedNoCluster  RefusalCode = 7 // the receiver belongs to no cluster yet
	RefusedProbe      RefusalCode = 8 // the receiver answers no probes
	RefusedMalformed  RefusalCode = 9 // not a handshake
	refusalCodesKnown             = 9
)

// String returns a short name of the code.
func (c RefusalCode) String() string {
	names := [...]string{"", "wrong cluster", "wrong host", "wrong version", "TLS required", "busy", "not a member",
		"no cluster", "no probes", "malformed"}
	if c >= 1 && c <= refusalCodesKnown {
		return names[c]
	}
	return fmt.Sprintf("refusal(%d)", uint8(c))
}
