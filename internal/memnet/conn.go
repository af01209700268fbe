package memnet

import (
	"encoding/binary"
	"errors"
	"hash/fnv"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// conn is one end of a connection.
type conn struct {
	net           *Network
	host          string
	in, out       *pipe
	peer          *conn
	local, remote net.Addr
	once          sync.Once
	gone          atomic.Bool // the host has crashed
	closed        chan struct{}
	reading       chan struct{} // tokens: one Read and one Write at a time
	writing       chan struct{}
}

func newConn(n *Network, host string, in, out *pipe, local, remote net.Addr) *conn {
	return &conn{net: n, host: host, in: in, out: out, local: local, remote: remote, closed: make(chan struct{}),
		reading: make(chan struct{}, 1), writing: make(chan struct{}, 1)}
}

// LocalAddr returns this end's address.
func (c *conn) LocalAddr() net.Addr { return c.local }

// RemoteAddr returns the other end's address.
func (c *conn) RemoteAddr() net.Addr { return c.remote }

// Read returns what has arrived, waiting for at least one byte; io.EOF after the other end's Close, an error that
// wraps syscall.ECONNRESET after its crash, net.ErrClosed after Close of this end, os.ErrDeadlineExceeded.
func (c *conn) Read(b []byte) (int, error) {
	if err := c.enter(c.reading); err != nil {
		return 0, c.fail("read", err)
	}
	defer func() { <-c.reading }()
	n, err := c.in.read(b, c.closed)
	return n, c.fail("read", err)
}

// Write returns when all bytes are in the buffer. The error wraps syscall.EPIPE when the other end is known to be
// gone, net.ErrClosed after Close of this end, os.ErrDeadlineExceeded; n bytes were buffered before it.
func (c *conn) Write(b []byte) (int, error) {
	if err := c.enter(c.writing); err != nil {
		return 0, c.fail("write", err)
	}
	defer func() { <-c.writing }()
	if c.gone.Load() {
		return 0, c.fail("write", net.ErrClosed)
	}
	n, err := c.out.write(b, c.closed)
	return n, c.fail("write", err)
}

func (c *conn) enter(token chan struct{}) error {
	select {
	case token <- struct{}{}:
		return nil
	case <-c.closed:
		return net.ErrClosed
	}
}

func (c *conn) fail(op string, err error) error {
	if err == nil || errors.Is(err, io.EOF) {
		return err
	}
	return &net.OpError{Op: op, Net: "tcp", Source: c.local, Addr: c.remote, Err: err}
}

// Close ends the connection: the other end reads what is under way, then io.EOF.
func (c *conn) Close() error {
	if c.gone.Load() { // the crash is what the other end hears of
		c.reset(false)
		return nil
	}
	err := c.fail("close", net.ErrClosed)
	c.once.Do(func() {
		close(c.closed)
		c.out.end(nil, true)
		c.in.abandon()
		c.net.forget(c)
		err = nil
	})
	return err
}

// reset ends the connection as a crash does: the other end reads an error, which may overtake what was written.
func (c *conn) reset(overtakes bool) {
	c.once.Do(func() {
		close(c.closed)
		c.out.end(syscall.ECONNRESET, overtakes)
		c.in.abandon()
		c.net.forget(c)
	})
}

// SetDeadline sets both deadlines.
func (c *conn) SetDeadline(t time.Time) error {
	c.in.setReadDeadline(t)
	c.out.setWriteDeadline(t)
	return c.open()
}

// SetReadDeadline ends a Read that waits at t; zero means never.
func (c *conn) SetReadDeadline(t time.Time) error {
	c.in.setReadDeadline(t)
	return c.open()
}

// SetWriteDeadline ends a Write that waits at t; zero means never.
func (c *conn) SetWriteDeadline(t time.Time) error {
	c.out.setWriteDeadline(t)
	return c.open()
}

func (c *conn) open() error {
	select {
	case <-c.closed:
		return c.fail("set", net.ErrClosed)
	default:
		return nil
	}
}

// pipe is one direction of a connection.
type pipe struct {
	net      *Network
	from, to string
	flow     *Flow

	mu       sync.Mutex
	segments []segment
	written  time.Time // when the last segment was written
	held     bool      // the path was cut at the last look
	bytes    int
	ended    bool  // by the writer
	endErr   error // nil: io.EOF
	endAt    time.Time
	orphan   bool // the reader has gone
	rdl, wdl time.Time

	readable, writable chan struct{} // capacity 1: look again
	rtimer, wtimer     *time.Timer   // of the one reader and the one writer
}

// segment is a run of bytes that arrives at one time.
type segment struct {
	data []byte
	at   time.Time // zero: at once
}

func newPipe(n *Network, f *Flow) *pipe {
	return &pipe{net: n, from: f.From, to: f.To, flow: f, readable: make(chan struct{}, 1), writable: make(chan struct{}, 1)}
}

func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// refresh lets both ends look again after the network has changed.
func (p *pipe) refresh() {
	poke(p.readable)
	poke(p.writable)
}

func (p *pipe) setReadDeadline(t time.Time) {
	p.mu.Lock()
	p.rdl = t
	p.mu.Unlock()
	poke(p.readable)
}

func (p *pipe) setWriteDeadline(t time.Time) {
	p.mu.Lock()
	p.wdl = t
	p.mu.Unlock()
	poke(p.writable)
}

// end marks the end of the stream, which arrives behind everything written before, unless it is an error that overtakes.
func (p *pipe) end(err error, overtakes bool) {
	delay := p.delay()
	p.mu.Lock()
	if !p.ended {
		p.ended, p.endErr = true, err
		if delay > 0 {
			p.endAt = time.Now().Add(delay)
		}
	}
	if err != nil && overtakes {
		p.segments, p.bytes = nil, 0
	}
	p.mu.Unlock()
	p.refresh()
}

// delay returns how long what is written now is under way.
func (p *pipe) delay() time.Duration {
	if latency := p.net.opt.Latency; latency != nil {
		return latency(p.flow)
	}
	_, delay := p.net.state(p.from, p.to)
	return delay
}

// release gives what a cut has held back its times of arrival, when the path has just been opened.
func (p *pipe) release() {
	cut, _ := p.net.state(p.from, p.to)
	delay, spacing := time.Duration(0), p.net.opt.Spacing
	if spacing > 0 && !cut {
		delay = p.delay()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.held && !cut && spacing > 0 {
		at := time.Now().Add(delay)
		for i := range p.segments {
			p.segments[i].at, at = at, at.Add(spacing)
		}
		if p.ended && p.endAt.Before(at) {
			p.endAt = at
		}
	}
	p.held = cut
}

// orphaned marks that what is written from now on is lost; what is under way arrives.
func (p *pipe) orphaned() {
	p.mu.Lock()
	p.orphan = true
	p.mu.Unlock()
	p.refresh()
}

// abandon marks that nobody will read any more.
func (p *pipe) abandon() {
	p.mu.Lock()
	p.orphan = true
	p.segments = nil
	p.mu.Unlock()
	p.refresh()
}

func (p *pipe) read(b []byte, closed chan struct{}) (int, error) {
	for {
		select {
		case <-closed:
			return 0, net.ErrClosed
		default:
		}
		cut, _ := p.net.state(p.from, p.to)
		n, until, done, err := p.tryRead(b, cut, p.net.isSilent(p.from))
		if done {
			return n, err
		}
		wait(&p.rtimer, until, p.readable, closed)
	}
}

// tryRead returns what can be read now; done false means to look again at until (zero: when poked).
func (p *pipe) tryRead(b []byte, cut, silent bool) (n int, until time.Time, done bool, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	if !p.rdl.IsZero() && !now.Before(p.rdl) {
		return 0, until, true, os.ErrDeadlineExceeded
	}
	until = p.rdl
	due := func(at time.Time) bool {
		if cut {
			return false
		}
		if now.Before(at) {
			if until.IsZero() || at.Before(until) {
				until = at
			}
			return false
		}
		return true
	}
	switch {
	case len(p.segments) > 0:
		if !due(p.segments[0].at) {
			return 0, until, false, nil
		}
		return p.takeLocked(b, now), until, true, nil
	case p.ended && (p.endErr == nil || !silent) && due(p.endAt):
		if p.endErr != nil {
			return 0, until, true, p.endErr
		}
		return 0, until, true, io.EOF
	}
	return 0, until, len(b) == 0, nil
}

// takeLocked copies the bytes that have arrived.
func (p *pipe) takeLocked(b []byte, now time.Time) (n int) {
	for len(p.segments) > 0 && n < len(b) && !now.Before(p.segments[0].at) {
		s := &p.segments[0]
		k := copy(b[n:], s.data)
		n += k
		if s.data = s.data[k:]; len(s.data) > 0 {
			break
		}
		p.segments[0] = segment{}
		p.segments = p.segments[1:]
	}
	p.bytes -= n
	poke(p.writable)
	return n
}

func (p *pipe) write(b []byte, closed chan struct{}) (int, error) {
	total := 0
	for {
		select {
		case <-closed:
			return total, net.ErrClosed
		default:
		}
		p.name(b)
		cut, _ := p.net.state(p.from, p.to)
		back, _ := p.net.state(p.to, p.from)
		silent := p.net.isSilent(p.to)
		n, until, err := p.tryWrite(b[total:], p.delay(), cut || back || silent)
		total += n
		if err != nil || total == len(b) {
			return total, err
		}
		wait(&p.wtimer, until, p.writable, closed)
	}
}

// name labels the connection by what its dialer says first.
func (p *pipe) name(b []byte) {
	if !p.flow.Forward || len(b) == 0 || p.flow.label.Load() != 0 {
		return
	}
	h := fnv.New64a()
	_, _ = h.Write(b[:min(len(b), labelBytesMax)])
	_, _ = h.Write(binary.BigEndian.AppendUint64(nil, uint64(p.flow.dialed.UnixNano())))
	p.flow.label.CompareAndSwap(0, max(h.Sum64(), 1))
}

const labelBytesMax = 256

// tryWrite buffers what fits; unaware means that the writer cannot know whether the reader has gone.
func (p *pipe) tryWrite(b []byte, delay time.Duration, unaware bool) (n int, until time.Time, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	switch {
	case p.orphan && !unaware:
		return 0, until, syscall.EPIPE
	case !p.wdl.IsZero() && !now.Before(p.wdl):
		return 0, until, os.ErrDeadlineExceeded
	}
	n = min(p.net.opt.Buffer-p.bytes, len(b))
	if n > 0 {
		if observe := p.net.opt.Observe; observe != nil {
			observe(p.flow, b[:n])
		}
		p.appendLocked(b[:n], now, delay)
		poke(p.readable)
	}
	return n, p.wdl, nil
}

// appendLocked adds bytes, to the last segment when they arrive together with it.
func (p *pipe) appendLocked(b []byte, now time.Time, delay time.Duration) {
	p.bytes += len(b)
	var at time.Time
	if delay > 0 {
		at = now.Add(delay)
	}
	if k := len(p.segments); k > 0 {
		last := &p.segments[k-1]
		if at.Before(last.at) { // a stream keeps its order when the delay shrinks
			at = last.at
			if !now.Equal(p.written) {
				at = at.Add(p.net.opt.Spacing)
			}
		}
		if at.Equal(last.at) {
			last.data = append(last.data, b...)
			return
		}
	}
	p.segments, p.written = append(p.segments, segment{data: append([]byte(nil), b...), at: at}), now
}

// wait returns when poked, at until, or when this end is closed.
func wait(timer **time.Timer, until time.Time, poked, closed chan struct{}) {
	if until.IsZero() {
		select {
		case <-poked:
		case <-closed:
		}
		return
	}
	d := time.Until(until)
	if *timer == nil {
		*timer = time.NewTimer(d)
	} else {
		(*timer).Reset(d)
	}
	select {
	case <-poked:
	case <-closed:
	case <-(*timer).C:
	}
	(*timer).Stop()
}
