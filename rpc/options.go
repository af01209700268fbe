package rpc

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/helenusdb/helenus/ring"
)

// TLSMode says which connections are encrypted. The middle modes exist to switch a running cluster over, one
// rolling restart per step.
type TLSMode uint8

const (
	TLSOff      TLSMode = iota // plaintext only; a TLS dialer is refused
	TLSAccept                  // dial plaintext, accept both
	TLSPrefer                  // dial TLS, accept both
	TLSRequired                // dial TLS, refuse plaintext
)

// TLS configures encryption. The functions are called for every connection, so that certificates can change while
// the process runs.
type TLS struct {
	Mode TLSMode
	// Server and Client return the configuration of an accepted and of a dialed connection; both are needed unless
	// Mode is TLSOff. A client configuration without ServerName gets the host part of the dialed address.
	Server, Client func() *tls.Config
}

// Limits bound one class of one connection. They hold for the requests of a dialed connection and for the answers
// of an accepted one; the memory of a connection is at most twice QueueBytes plus one frame being read, and that of
// four times InFlight answers without a body.
type Limits struct {
	// QueueBytes bounds the encoded frames that wait for the writer; a single frame is always admitted to an empty
	// queue. At the bound a request fails with ErrOverloaded, and an answer is dropped, or replaced by an empty
	// StatusOverloaded where that is true: see Responder.Reply. Answers that are hardly larger than none are let in.
	// 0 means 8 MiB for Urgent, 32 MiB for Data and Stream.
	QueueBytes int
	// InFlight bounds the requests without an answer, 1 to 65536. At the bound of the sender a request fails with
	// ErrOverloaded, at the bound of the receiver it is answered with StatusOverloaded.
	// 0 means 4096 for Urgent, 16384 for Data, 1024 for Stream.
	InFlight int
	// Compress sends bodies of CompressMin bytes and more as LZ4 where that saves an eighth. Every receiver
	// understands it. Off by default: on a LAN it costs more than it saves.
	Compress bool
}

// CompressMin is the smallest body, in bytes, that Limits.Compress considers.
const CompressMin = 1 << 10

// Options configure a Transport; they do not change after New.
type Options struct {
	// Self is this node's host id; needed.
	Self ring.HostID
	// ClusterID returns the id of this node's cluster, zero while it belongs to none: until then calls fail with
	// ErrNoCluster and only probes are answered. Needed.
	ClusterID func() [16]byte
	// Epoch returns the local epoch of the cluster metadata; called for every message, so it must be as cheap as an
	// atomic load. Needed.
	Epoch func() uint64
	// OnEpoch is called when a message from a peer carries a newer epoch than Epoch, at most every EpochEvery per
	// connection, and by handshakes, on a goroutine of the transport: it must not block. The value is what the peer claims, it may be
	// absurdly high. nil: not called.
	OnEpoch    func(from ring.HostID, epoch uint64)
	EpochEvery time.Duration // default 100 ms

	// Listen opens the listener when Run begins; Run closes it. nil: nothing is accepted.
	Listen func(ctx context.Context) (net.Listener, error)
	// Dial opens a connection to an address that Resolve returned; needed.
	Dial func(ctx context.Context, addr string) (net.Conn, error)
	// Resolve returns the address (host:port) of a host as it is known now, ok false when it is not; needed.
	Resolve func(id ring.HostID) (addr string, ok bool)
	// NewSession returns the handler of an accepted connection; nil: all requests are answered StatusUnknownVerb.
	NewSession func(from ring.HostID, class Class) Session
	// Admit may refuse a peer whose handshake is otherwise right, for example a removed node; the error's text
	// reaches the peer. nil: all members of the cluster are admitted.
	Admit func(from ring.HostID, remote net.Addr) error
	// OnProbe answers Probe of any node, of this cluster or not; it runs in the connection's own goroutine, at most
	// HandshakesMax at a time, and may take DialTimeout. nil: probes are refused.
	OnProbe func(from net.Addr, body []byte) []byte

	TLS TLS

	// Urgent, Data, Stream: zero fields take the defaults of Limits.
	Urgent, Data, Stream Limits

	// ConnsMax bounds the accepted connections; default 4096. Further ones are refused.
	ConnsMax int
	// HandshakesMax bounds the accepted connections whose handshake is not finished; default 256. Further ones are
	// closed at once.
	HandshakesMax int

	DialTimeout time.Duration // for dial plus handshake, on either end; default 3 s
	Heartbeat   time.Duration // interval of heartbeats, default 2 s
	// DeadAfter closes a connection on which nothing arrived, or none of what was sent was received, for so long.
	// At least twice Heartbeat; default 6 s, so that a dead direction is noticed within 8 s.
	DeadAfter  time.Duration
	BackoffMin time.Duration // pause after the first failed dial, doubled each time; default 50 ms
	BackoffMax time.Duration // default 2 s; each pause is jittered between half of it and all of it
	RedialFor  time.Duration // redialing goes on in the background for so long after the last Send; default 1 min
	IdleAfter  time.Duration // a dialed connection without a request for so long is closed; default 15 min
	ExpiryTick time.Duration // granularity of expiry; default 2 ms
	// Timeout is the deadline of a Call whose context has none and of a Send with a zero deadline; default 10 s.
	Timeout time.Duration

	Logger *slog.Logger // default: discard
}

// withDefaults returns o with the documented defaults in place of zero values.
func (o Options) withDefaults() Options {
	durations := []struct {
		d   *time.Duration
		def time.Duration
	}{
		{&o.EpochEvery, 100 * time.Millisecond}, {&o.DialTimeout, 3 * time.Second}, {&o.Heartbeat, 2 * time.Second},
		{&o.DeadAfter, 6 * time.Second}, {&o.BackoffMin, 50 * time.Millisecond}, {&o.BackoffMax, 2 * time.Second},
		{&o.RedialFor, time.Minute}, {&o.IdleAfter, 15 * time.Minute}, {&o.ExpiryTick, 2 * time.Millisecond},
		{&o.Timeout, 10 * time.Second},
	}
	for _, f := range durations {
		if *f.d == 0 {
			*f.d = f.def
		}
	}
	o.Urgent = o.Urgent.withDefaults(8<<20, 4096)
	o.Data = o.Data.withDefaults(32<<20, 16384)
	o.Stream = o.Stream.withDefaults(32<<20, 1024)
	if o.ConnsMax == 0 {
		o.ConnsMax = 4096
	}
	if o.HandshakesMax == 0 {
		o.HandshakesMax = 256
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o
}

func (l Limits) withDefaults(bytes, inFlight int) Limits {
	if l.QueueBytes == 0 {
		l.QueueBytes = bytes
	}
	if l.InFlight == 0 {
		l.InFlight = inFlight
	}
	return l
}

// validate reports the first field of o, defaults applied, that is missing or out of its range.
func (o *Options) validate() error {
	switch {
	case o.Self == ring.HostID{}:
		return errors.New("rpc: options: Self is missing")
	case o.ClusterID == nil || o.Epoch == nil || o.Dial == nil || o.Resolve == nil:
		return errors.New("rpc: options: ClusterID, Epoch, Dial and Resolve are needed")
	case o.TLS.Mode > TLSRequired:
		return fmt.Errorf("rpc: options: TLS mode %d is unknown", o.TLS.Mode)
	case o.TLS.Mode != TLSOff && (o.TLS.Server == nil || o.TLS.Client == nil):
		return errors.New("rpc: options: TLS needs both Server and Client")
	case o.DeadAfter < 2*o.Heartbeat || o.Heartbeat < 0:
		return errors.New("rpc: options: DeadAfter must be at least twice Heartbeat")
	case o.BackoffMin < 0 || o.BackoffMax < o.BackoffMin:
		return errors.New("rpc: options: BackoffMax must not be below BackoffMin")
	case o.ExpiryTick < 0 || o.Timeout < 0 || o.DialTimeout < 0 || o.ConnsMax < 0 || o.HandshakesMax < 0:
		return errors.New("rpc: options: negative limit or duration")
	}
	for _, l := range []Limits{o.Urgent, o.Data, o.Stream} {
		if l.QueueBytes < 0 || l.InFlight < 1 || l.InFlight > slotsMax {
			return fmt.Errorf("rpc: options: limits %+v are out of range", l)
		}
	}
	return nil
}

func (o *Options) limits(c Class) Limits {
	switch c {
	case Urgent:
		return o.Urgent
	case Stream:
		return o.Stream
	}
	return o.Data
}
