package server

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"net"
	"runtime/debug"
	"time"

	"github.com/helenusdb/helenus/cql/protocol"
)

// secure does the TLS handshake where there is one.
func (c *conn) secure() error {
	if c.from == nil || c.from.TLS == nil {
		return nil
	}
	nc := c.raw
	if c.from.TLSOptional {
		p := &peekConn{Conn: nc, r: bufio.NewReaderSize(nc, 16)}
		first, err := p.r.Peek(1)
		if err != nil {
			return err
		}
		c.nc, nc = p, p
		if first[0] != tlsHandshakeRecord {
			return nil
		}
	}
	t := tls.Server(nc, c.from.TLS())
	c.nc = t
	if err := t.Handshake(); err != nil {
		return err
	}
	state := t.ConnectionState()
	info := *c.info.Load()
	info.TLS = &state
	c.info.Store(&info)
	return nil
}

// tlsHandshakeRecord is the first byte of a TLS connection; no native protocol request starts with it.
const tlsHandshakeRecord = 0x16

// peekConn is a connection of which a byte has been looked at.
type peekConn struct {
	net.Conn
	r *bufio.Reader
}

// Read reads what was looked at first.
func (p *peekConn) Read(b []byte) (int, error) {
	if p.r.Buffered() > 0 {
		return p.r.Read(b)
	}
	return p.Conn.Read(b)
}

// handleOther does the requests that no session sees. It returns false when the connection should end.
func (c *conn) handleOther(f protocol.Frame) bool {
	h := f.Header
	switch h.Op {
	case protocol.OpOptions:
		c.reply(h, protocol.OpSupported, protocol.AppendSupported(nil, c.s.opt.Supported))
	case protocol.OpStartup:
		return c.startup(h, f.Body)
	case protocol.OpAuthResponse:
		return c.authenticate(h, f.Body)
	case protocol.OpRegister:
		c.register(h, f.Body)
	}
	return true
}

// reply answers a request that no session sees.
func (c *conn) reply(h protocol.Header, op protocol.Opcode, body []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.replyLocked(h, op, body)
}

func (c *conn) replyLocked(h protocol.Header, op protocol.Opcode, body []byte) {
	o := c.outLocked()
	dst, mark := protocol.BeginFrame(o.b, h.Version, op, h.Stream, 0)
	o.b = protocol.EndFrameCompressed(append(dst, body...), mark, c.compression)
}

// startup does a STARTUP: a wrong one leaves the connection as it was.
func (c *conn) startup(h protocol.Header, body []byte) bool {
	st, err := protocol.DecodeStartup(h.Version, body)
	if err != nil {
		c.refuse(h.Version, h.Stream, asError(err))
		return true
	}
	info := *c.info.Load()
	info.Version, info.CQLVersion, info.Compression = h.Version, st.CQLVersion, st.Compression
	info.DriverName, info.DriverVersion = st.DriverName, st.DriverVersion
	info.Options, info.ThrowOnOverload = st.Options, st.ThrowOnOverload
	class := c.s.opt.Auth.Class()
	if class != "" {
		c.info.Store(&info)
		c.reply(h, protocol.OpAuthenticate, protocol.AppendAuthenticate(nil, class))
		c.agree(h.Version, st.Compression)
		c.stage.Store(uint32(protocol.StageAuthentication))
		return true
	}
	info.User = Anonymous
	if !c.openSession(h, info) {
		return false
	}
	c.reply(h, protocol.OpReady, nil)
	c.agree(h.Version, st.Compression)
	c.ready()
	return true
}

// agree makes what follows the answer to STARTUP go by what it agreed on.
func (c *conn) agree(v protocol.Version, compression protocol.Compression) {
	c.endBurst() // everything up to here goes out bare
	c.version = v
	c.fr.SetVersion(v)
	if v >= protocol.V5 {
		c.framed, c.segments = true, compression
		c.fr.StartSegments(compression)
	} else {
		c.compression = compression
		c.fr.SetCompression(compression)
	}
	c.inBurst.Store(true)
}

// openSession makes the session. It returns false when that panicked.
func (c *conn) openSession(h protocol.Header, info ConnInfo) (ok bool) {
	defer func() {
		if p := recover(); p != nil {
			c.logPanic("NewSession", p, debug.Stack())
			c.refuse(h.Version, h.Stream, errPanic())
			ok = false
		}
	}()
	c.info.Store(&info)
	c.session = c.s.opt.Handler.NewSession(info)
	return true
}

// ready starts what a connection only has when requests can come.
func (c *conn) ready() {
	c.fr.SetFrameMax(c.s.opt.Limits.FrameMax)
	c.stage.Store(uint32(protocol.StageReady))
	c.s.metrics.Ready.Add(1)
	c.exchange = nil
	c.wg.Add(1)
	go c.writeLate()
}

// authenticate does an AUTH_RESPONSE. After a failed attempt the client may make another one.
func (c *conn) authenticate(h protocol.Header, body []byte) bool {
	token, err := protocol.DecodeAuthResponse(body)
	if err != nil {
		c.refuse(h.Version, h.Stream, asError(err))
		return true
	}
	if c.exchange == nil {
		c.exchange = c.s.opt.Auth.NewExchange(*c.info.Load())
	}
	reply, user, done, err := c.step(token)
	if err != nil {
		c.exchange = nil
		c.s.metrics.AuthFailures.Add(1)
		c.refuse(h.Version, h.Stream, c.authError(err))
		return true
	}
	if !done {
		c.reply(h, protocol.OpAuthChallenge, protocol.AppendAuthChallenge(nil, reply))
		return true
	}
	c.s.metrics.AuthSuccesses.Add(1)
	info := *c.info.Load()
	info.User = user
	if !c.openSession(h, info) {
		return false
	}
	c.reply(h, protocol.OpAuthSuccess, protocol.AppendAuthSuccess(nil, reply))
	c.ready()
	return true
}

// step runs one step of the exchange, with a context that ends with the connection.
func (c *conn) step(token []byte) (reply []byte, user string, done bool, err error) {
	ctx, cancel := context.WithCancel(context.Background())
	if d := c.s.opt.Timeouts.Handshake; d > 0 {
		ctx, cancel = context.WithDeadline(context.Background(), c.accepted.Add(d))
	}
	var wait = make(chan struct{})
	go func() {
		defer close(wait)
		select {
		case <-c.dead:
			cancel()
		case <-ctx.Done():
		}
	}()
	defer func() {
		cancel()
		<-wait
		if p := recover(); p != nil {
			c.logPanic("authentication", p, debug.Stack())
			err = errPanic()
		}
	}()
	return c.exchange.Step(ctx, token)
}

func (c *conn) authError(err error) *protocol.Error {
	var e *protocol.Error
	if errors.As(err, &e) {
		return e
	}
	c.s.opt.Logger.Error("authentication could not be decided", "client", c.remote, "err", err)
	return protocol.Errorf(protocol.CodeServerError, "Authentication is not possible at the moment")
}

// register does a REGISTER. Events can follow right behind its answer.
func (c *conn) register(h protocol.Header, body []byte) {
	set, err := protocol.DecodeRegister(body)
	if err != nil {
		c.refuse(h.Version, h.Stream, asError(err))
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.replyLocked(h, protocol.OpReady, nil)
	before := protocol.EventSet(c.events.Load())
	c.events.Store(uint32(before | set))
	if before == 0 && set != 0 {
		c.s.metrics.Registered.Add(1)
	}
}

// event appends an encoded EVENT if the client has asked for it and reads what it is sent.
func (c *conn) event(t protocol.EventType, envelope []byte) {
	c.mu.Lock()
	if c.closed || !protocol.EventSet(c.events.Load()).Has(t) {
		c.mu.Unlock()
		return
	}
	if c.overLocked() {
		c.mu.Unlock()
		c.s.metrics.EventsDropped.Add(1)
		return
	}
	o := c.outLocked()
	o.b = append(o.b, envelope...)
	wake := c.endLocked()
	c.mu.Unlock()
	c.s.metrics.Events.Add(1)
	if wake {
		poke(c.wake)
	}
}

// state returns a snapshot of the connection.
func (c *conn) state(now int64) ConnState {
	s := ConnState{Info: *c.info.Load(), Stage: c.stageNow(), Requests: int64(c.started.Load()),
		Events: protocol.EventSet(c.events.Load())}
	if since := c.fillSince.Load(); since != 0 {
		s.Idle = time.Duration(max(now-since, 0))
	}
	c.mu.Lock()
	s.InFlight, s.UnsentSize = int64(c.inFlightLocked()), c.unsentLocked()
	c.mu.Unlock()
	return s
}
