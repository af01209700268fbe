package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"time"

	"github.com/helenusdb/helenus/cql/protocol"
)

// Listener is one address to listen on.
type Listener struct {
	// Addr is the address; port 0 takes a free one.
	Addr netip.AddrPort
	// TLS returns the configuration for a new connection; it is called for each of them, so that certificates can
	// change. nil: connections are not encrypted.
	TLS func() *tls.Config
	// TLSOptional accepts clients that do not encrypt too, on the same port.
	TLSOptional bool
}

// Limits bound what clients can make the server hold. 0 always means the default.
type Limits struct {
	// ConnsMax bounds the open connections, ConnsPerAddrMax those from one address; further ones are closed at once.
	// Defaults: 10,000, and no bound per address but ConnsMax.
	ConnsMax, ConnsPerAddrMax int
	// InFlightBytes bounds the bytes of requests that are not answered yet (until the answer has been written), of
	// unfinished large envelopes and of unsent answers, over all connections; InFlightBytesPerAddr those of one client
	// address. Beyond it a request is refused with OVERLOADED, and so are answers of reads (Responder.ReadsOnly) beyond UnsentMax
	// and what Responder.Room asks for; other answers never are. Up to 32 KiB of unsent answers and 64 KiB of an unfinished envelope
	// per connection are not counted.
	// Defaults: 256 MiB and half of InFlightBytes. Both should be larger than FrameMax.
	InFlightBytes, InFlightBytesPerAddr int64
	// InFlightMax bounds the unanswered requests of one connection: at the bound it is not read further. Default and
	// largest value: 32,768, which is what streams can tell apart.
	InFlightMax int
	// UnsentMax bounds the unsent answers of one connection, in bytes: beyond it the connection is not read further,
	// and events are dropped. Requests under way still add their answers, those of reads if the budget has room. Default 1 MiB.
	UnsentMax int
	// FrameMax bounds an envelope, in bytes. Default 16 MiB. Before STARTUP it is 64 KiB.
	FrameMax int
}

// Timeouts end connections that do not get on. They are exact to an eighth, or half a second if that is less. 0 means
// the default, a negative value never.
type Timeouts struct {
	Handshake time.Duration // from accept until ready: TLS, STARTUP and authentication. Default 10 s
	Frame     time.Duration // from the first byte of an envelope to the last one. Default 2 min
	Write     time.Duration // without the client having taken 64 KiB that wait for it. Default 30 s
	Idle      time.Duration // without a byte from the client, and nothing under way. Default never
}

// Options configure a Server; they do not change after New.
type Options struct {
	Listeners []Listener    // at least one
	Handler   Handler       // needed
	Auth      Authenticator // nil: AllowAll

	Limits   Limits
	Timeouts Timeouts

	// EchoPayload sends the custom payload of a request back in its answer, as Cassandra's mirroring query handler does.
	// For tests of drivers.
	EchoPayload bool

	// Supported is what SUPPORTED says; nil: protocol.DefaultSupported.
	Supported []protocol.SupportedOption

	// Listen opens a listener on "ip:port". nil: TCP.
	Listen func(ctx context.Context, addr string) (net.Listener, error)

	Logger *slog.Logger // nil: discard
}

// Defaults and fixed bounds.
const (
	connsDefault     = 10_000
	inFlightDefault  = 256 << 20
	inFlightMax      = 1 << 15 // stream ids of one sign
	unsentDefault    = 1 << 20
	handshakeDefault = 10 * time.Second
	frameDefault     = 2 * time.Minute
	writeDefault     = 30 * time.Second
	tickMax          = 500 * time.Millisecond
)

func (o Options) withDefaults() Options {
	if o.Auth == nil {
		o.Auth = AllowAll{}
	}
	if o.Supported == nil {
		o.Supported = protocol.DefaultSupported()
	}
	if o.Listen == nil {
		o.Listen = func(ctx context.Context, addr string) (net.Listener, error) {
			var c net.ListenConfig
			return c.Listen(ctx, "tcp", addr)
		}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	o.Limits = o.Limits.withDefaults()
	o.Timeouts = o.Timeouts.withDefaults()
	return o
}

func (l Limits) withDefaults() Limits {
	orDefault(&l.ConnsMax, connsDefault)
	orDefault(&l.ConnsPerAddrMax, l.ConnsMax)
	orDefault(&l.InFlightBytes, inFlightDefault)
	orDefault(&l.InFlightBytesPerAddr, l.InFlightBytes/2)
	orDefault(&l.InFlightMax, inFlightMax)
	orDefault(&l.UnsentMax, unsentDefault)
	orDefault(&l.FrameMax, protocol.FrameMax)
	return l
}

func (t Timeouts) withDefaults() Timeouts {
	orDefault(&t.Handshake, handshakeDefault)
	orDefault(&t.Frame, frameDefault)
	orDefault(&t.Write, writeDefault)
	return t
}

func orDefault[T comparable](v *T, def T) {
	var zero T
	if *v == zero {
		*v = def
	}
}

// tick returns how often connections are looked at.
func (t Timeouts) tick() time.Duration {
	tick := tickMax
	for _, d := range []time.Duration{t.Handshake, t.Frame, t.Write, t.Idle} {
		if d > 0 {
			tick = min(tick, d/8)
		}
	}
	return max(tick, time.Millisecond)
}

func (o *Options) validate() error {
	switch l := o.Limits; {
	case len(o.Listeners) == 0:
		return errors.New("server: no address to listen on")
	case o.Handler == nil:
		return errors.New("server: no handler")
	case l.ConnsMax < 0 || l.ConnsPerAddrMax < 0 || l.InFlightBytes < 0 || l.InFlightBytesPerAddr < 0 || l.UnsentMax < 0:
		return errors.New("server: negative limit")
	case l.InFlightMax < 0 || l.InFlightMax > inFlightMax:
		return fmt.Errorf("server: InFlightMax %d is not between 1 and %d", l.InFlightMax, inFlightMax)
	case l.FrameMax < protocol.PreStartupMax+1 || l.FrameMax > 256<<20:
		return fmt.Errorf("server: FrameMax %d is not between %d and %d", l.FrameMax, protocol.PreStartupMax+1, 256<<20)
	}
	for _, l := range o.Listeners {
		if !l.Addr.IsValid() {
			return errors.New("server: listener without an address")
		}
	}
	return nil
}
