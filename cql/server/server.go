package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/helenusdb/helenus/cql/protocol"
)

// ErrClosed says that the server has been shut down before.
var ErrClosed = errors.New("server: closed")

// Server serves CQL clients. Use: New, Run in a goroutine, and Shutdown or the end of Run's context. Its methods may be
// called from any goroutine.
type Server struct {
	opt     Options
	metrics Metrics
	start   time.Time
	coarse  atomic.Int64 // ns since start, as of the last tick; at least 1
	global  budget
	buffers sync.Pool // of *outBuf

	mu        sync.Mutex
	state     state
	listeners []net.Listener // one per Options.Listeners once listening
	conns     []*conn
	addrs     map[netip.Addr]*clientAddr
	lastID    uint64
	ran       bool
	refuses   bool          // its listeners are closed, and it serves on
	drained   chan struct{} // closed when draining and no connection is left
	wg        sync.WaitGroup
}

// state is how far a server has come.
type state uint8

const (
	idle state = iota
	listening
	running
	draining
	closed
)

// clientAddr is what the connections of one address share. Its counts are guarded by Server.mu.
type clientAddr struct {
	budget
	conns int
}

// New returns a server that does nothing yet. The error says which option is wrong.
func New(o Options) (*Server, error) {
	o = o.withDefaults()
	if err := o.validate(); err != nil {
		return nil, err
	}
	s := &Server{opt: o, start: time.Now(), addrs: map[netip.Addr]*clientAddr{}, drained: make(chan struct{})}
	s.global.max = o.Limits.InFlightBytes
	s.buffers.New = func() any { return new(outBuf) }
	s.coarse.Store(1)
	return s, nil
}

// Metrics returns the live counts.
func (s *Server) Metrics() *Metrics { return &s.metrics }

// InFlightBytes returns what is counted against Limits.InFlightBytes now.
func (s *Server) InFlightBytes() int64 { return s.global.used.Load() }

// now returns the time in ns since the server was made.
func (s *Server) now() int64 { return int64(time.Since(s.start)) + 1 }

// Listen opens the listeners, so that Addrs is known and errors are seen before Run; Run does it otherwise. On an error
// none stays open.
func (s *Server) Listen(ctx context.Context) error {
	s.mu.Lock()
	if s.state != idle {
		defer s.mu.Unlock()
		if s.state == listening {
			return nil
		}
		return ErrClosed
	}
	s.state = listening
	s.mu.Unlock()
	var opened []net.Listener
	for _, l := range s.opt.Listeners {
		ln, err := s.opt.Listen(ctx, l.Addr.String())
		if err != nil {
			closeAll(opened)
			s.setState(closed)
			return fmt.Errorf("server: listen on %s: %w", l.Addr, err)
		}
		opened = append(opened, ln)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state != listening { // Shutdown was faster
		closeAll(opened)
		return ErrClosed
	}
	s.listeners = opened
	for i := range opened {
		s.announce(i)
	}
	return nil
}

// announce logs the line that cluster tools of Cassandra's ecosystem wait for, word by word.
func (s *Server) announce(i int) {
	how := "unencrypted"
	if l := s.opt.Listeners[i]; l.TLS != nil && l.TLSOptional {
		how = "optionally encrypted"
	} else if l.TLS != nil {
		how = "encrypted"
	}
	s.opt.Logger.Info(fmt.Sprintf("Starting listening for CQL clients on /%s (%s)...", s.addrLocked(i), how))
}

func (s *Server) addrLocked(i int) netip.AddrPort {
	return netip.AddrPortFrom(s.opt.Listeners[i].Addr.Addr(), addrPort(s.listeners[i].Addr()).Port())
}

// Addrs returns the addresses that the server listens on, in the order of Options.Listeners; nil before Listen.
func (s *Server) Addrs() []netip.AddrPort {
	s.mu.Lock()
	defer s.mu.Unlock()
	var addrs []netip.AddrPort
	for i := range s.listeners {
		addrs = append(addrs, s.addrLocked(i))
	}
	return addrs
}

func (s *Server) setState(to state) {
	s.mu.Lock()
	s.state = to
	s.mu.Unlock()
}

func closeAll(listeners []net.Listener) {
	for _, l := range listeners {
		l.Close()
	}
}

// Run serves until ctx ends, and then closes all connections at once, or until Shutdown has drained them; it returns nil
// in both cases, when all its goroutines have ended, and also when Shutdown was called before it began. A server runs once.
func (s *Server) Run(ctx context.Context) error {
	if err := s.Listen(ctx); err != nil && !errors.Is(err, ErrClosed) {
		return err
	}
	s.mu.Lock()
	switch {
	case s.ran || s.state == closed:
		s.mu.Unlock()
		return ErrClosed
	case s.state == draining: // there is nothing left to serve
		s.ran = true
		s.mu.Unlock()
		return nil
	}
	s.ran, s.state = true, running
	s.wg.Add(len(s.listeners) + 1)
	stop := make(chan struct{})
	for i, l := range s.listeners {
		go s.accept(l, &s.opt.Listeners[i], stop)
	}
	go s.watch(stop)
	s.mu.Unlock()
	select {
	case <-ctx.Done():
	case <-s.drained:
	}
	close(stop)
	s.stop()
	s.wg.Wait()
	return nil
}

// Refuse closes the listeners: no client connects any more, and those that are there are served on. It tells whether it is news.
func (s *Server) Refuse() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state != running || s.refuses {
		return false
	}
	s.refuses = true
	s.closeListenersLocked()
	return true
}

// stop closes everything at once.
func (s *Server) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closeListenersLocked()
	for _, c := range s.conns {
		c.kill()
	}
	s.state = closed
	s.drainedLocked()
}

func (s *Server) closeListenersLocked() {
	closeAll(s.listeners)
}

// drainedLocked closes drained when there is nothing left to wait for.
func (s *Server) drainedLocked() {
	if s.state < draining || len(s.conns) > 0 {
		return
	}
	select {
	case <-s.drained:
	default:
		close(s.drained)
	}
}

// Shutdown stops accepting connections and reading requests, waits until those under way have been answered, and closes
// the connections; Run returns after that. When ctx ends first, the connections left are closed at once and the error
// says how many they were; it wraps ctx's.
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	if s.state < draining {
		s.state = draining
	}
	s.closeListenersLocked()
	for _, c := range s.conns {
		c.drain()
	}
	s.drainedLocked()
	s.mu.Unlock()
	select {
	case <-s.drained:
		return nil
	case <-ctx.Done():
	}
	s.mu.Lock()
	left := len(s.conns)
	for _, c := range s.conns {
		c.kill()
	}
	s.mu.Unlock()
	if left == 0 {
		return nil
	}
	return fmt.Errorf("server: %d connections were cut off: %w", left, context.Cause(ctx))
}

// acceptRetryMax bounds the pause after an accept that failed, for example for want of file descriptors.
const acceptRetryMax = time.Second

func (s *Server) accept(l net.Listener, from *Listener, stop chan struct{}) {
	defer s.wg.Done()
	pause := 5 * time.Millisecond
	for {
		nc, err := l.Accept()
		if err == nil {
			s.add(nc, from)
			pause = 5 * time.Millisecond
			continue
		}
		if errors.Is(err, net.ErrClosed) {
			return
		}
		s.opt.Logger.Warn("accepting a CQL client failed", "err", err, "again", pause)
		select {
		case <-time.After(pause):
		case <-stop:
			return
		}
		pause = min(2*pause, acceptRetryMax)
	}
}

// add starts a connection, unless there are too many.
func (s *Server) add(nc net.Conn, from *Listener) {
	s.metrics.Accepted.Add(1)
	s.mu.Lock()
	addr := s.admitLocked(addrPort(nc.RemoteAddr()).Addr())
	if addr == nil {
		s.mu.Unlock()
		nc.Close()
		return
	}
	s.lastID++
	c := newConn(s, nc, from, s.lastID)
	c.addr, c.bytes.from = addr, &addr.budget
	c.index = len(s.conns)
	s.conns = append(s.conns, c)
	s.wg.Add(1)
	s.mu.Unlock()
	s.metrics.Open.Add(1)
	go c.serve()
}

// admitLocked counts a connection from ip, or returns nil when there are too many.
func (s *Server) admitLocked(ip netip.Addr) *clientAddr {
	if s.state != running {
		return nil
	}
	if len(s.conns) >= s.opt.Limits.ConnsMax {
		s.metrics.OverConns.Add(1)
		return nil
	}
	a := s.addrs[ip]
	if a == nil {
		a = &clientAddr{budget: budget{max: s.opt.Limits.InFlightBytesPerAddr, parent: &s.global}}
		s.addrs[ip] = a
	}
	if a.conns >= s.opt.Limits.ConnsPerAddrMax {
		s.metrics.OverConnsAddr.Add(1)
		return nil
	}
	a.conns++
	return a
}

// remove forgets a connection that has ended; its reader calls it last.
func (s *Server) remove(c *conn) {
	s.metrics.Open.Add(-1)
	if c.stageNow() == protocol.StageReady {
		s.metrics.Ready.Add(-1)
	}
	if c.events.Load() != 0 {
		s.metrics.Registered.Add(-1)
	}
	s.mu.Lock()
	last := s.conns[len(s.conns)-1]
	s.conns[c.index], last.index = last, c.index
	s.conns[len(s.conns)-1] = nil
	s.conns = s.conns[:len(s.conns)-1]
	c.addr.conns--
	s.forgetAddrLocked(c.remote.Addr(), c.addr)
	s.drainedLocked()
	s.mu.Unlock()
	s.wg.Done()
}

// forgetAddrLocked drops the counts of an address that has no connection and nothing under way.
func (s *Server) forgetAddrLocked(ip netip.Addr, a *clientAddr) {
	if a.conns == 0 && a.used.Load() == 0 {
		delete(s.addrs, ip)
	}
}

// watch keeps the coarse clock and ends connections that do not get on.
func (s *Server) watch(stop chan struct{}) {
	defer s.wg.Done()
	t := time.NewTicker(s.opt.Timeouts.tick())
	defer t.Stop()
	for {
		select {
		case <-t.C:
			s.look()
		case <-stop:
			return
		}
	}
}

// look is one tick. What it does is independent of the order of the maps.
func (s *Server) look() {
	now := s.now()
	s.coarse.Store(now)
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.conns {
		if late := s.late(c, now); late != nil && !c.dying.Load() {
			late.Add(1)
			c.kill()
		}
	}
	for ip, a := range s.addrs {
		s.forgetAddrLocked(ip, a)
	}
}

// late returns the counter of the timeout that a connection has exceeded, nil if none.
func (s *Server) late(c *conn, now int64) *atomic.Int64 {
	t, m := &s.opt.Timeouts, &s.metrics
	past := func(since int64, d time.Duration) bool { return since != 0 && d > 0 && now-since > int64(d) }
	fill := c.fillSince.Load()
	switch {
	case c.stageNow() != protocol.StageReady && past(int64(c.accepted.Sub(s.start))+1, t.Handshake):
		return &m.HandshakeLate
	case past(c.writeSince.Load(), t.Write):
		return &m.WriteLate
	case fill != 0 && past(c.partialSince.Load(), t.Frame):
		return &m.FrameLate
	case past(fill, t.Idle) && c.idle():
		return &m.IdleClosed
	}
	return nil
}

// idle reports whether nothing is under way.
func (c *conn) idle() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.quietLocked()
}

// Connections returns a snapshot of all connections, in the order of their ids.
func (s *Server) Connections() []ConnState {
	conns := s.snapshot()
	now := s.now()
	states := make([]ConnState, len(conns))
	for i, c := range conns {
		states[i] = c.state(now)
	}
	slices.SortFunc(states, func(a, b ConnState) int { return cmp.Compare(a.Info.ID, b.Info.ID) })
	return states
}

func (s *Server) snapshot() []*conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.conns)
}

// CloseConnections closes at once the connections that match, for example those of a user who may no longer log in, and
// returns their number. match must not block.
func (s *Server) CloseConnections(match func(ConnInfo) bool) int {
	n := 0
	for _, c := range s.snapshot() {
		if match(*c.info.Load()) {
			c.kill()
			n++
		}
	}
	return n
}

// Broadcast sends an event to all connections that have registered for its type. It does not block: a client that does
// not read what it is sent misses events.
func (s *Server) Broadcast(e *protocol.Event) {
	if s.metrics.Registered.Load() == 0 {
		return
	}
	var envelopes [protocol.MaxVersion + 1][]byte
	for _, c := range s.snapshot() {
		if !protocol.EventSet(c.events.Load()).Has(e.Type) {
			continue
		}
		v := c.version // set before events
		if envelopes[v] == nil {
			envelopes[v] = protocol.AppendEvent(nil, v, e)
		}
		c.event(e.Type, envelopes[v])
	}
}
