package server

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/helenusdb/helenus/cql/protocol"
)

const (
	burstMax    = 256      // requests after which answers are written although more requests wait
	partialFree = 64 << 10 // bytes of an unfinished envelope that no budget counts
)

// conn is one connection. Its reader goroutine runs serve; from the moment it is ready a writer goroutine runs
// writeLate.
type conn struct {
	s        *Server
	id       uint64
	index    int      // in Server.conns; guarded by Server.mu
	raw      net.Conn // closed to end the connection from anywhere
	from     *Listener
	addr     *clientAddr
	accepted time.Time
	remote   netip.AddrPort
	local    netip.AddrPort

	// Of the reader. nc and the four after it do not change once the writer runs.
	nc          net.Conn // raw, or TLS over it
	version     protocol.Version
	compression protocol.Compression // of bodies: none from v5 on
	segments    protocol.Compression // of segments
	framed      bool                 // v5 segments go around what is written
	fr          *protocol.FrameReader
	session     Session
	exchange    Exchange
	bytes       reserve // for requests
	partial     int64   // counted for an unfinished envelope
	room        int     // requests that can be started before answers must be counted
	burst       int     // requests since the last write
	unflushed   bool    // the session has got a request since its last Flush
	startedSize int64   // bytes of all requests given to the session
	lost        bool    // the session does not know any more what to answer
	tally       [17]int64

	stage  atomic.Uint32            // protocol.Stage; written by the reader
	info   atomic.Pointer[ConnInfo] // replaced by the reader
	events atomic.Uint32            // protocol.EventSet; written by the reader

	started  atomic.Uint64 // requests given to the session; written by the reader
	inBurst  atomic.Bool   // the reader will write; set back under mu
	full     atomic.Bool   // the reader should write now
	draining atomic.Bool

	// Times on the server's coarse clock, 0: not now.
	fillSince    atomic.Int64 // waiting for bytes
	partialSince atomic.Int64 // an envelope is not finished
	writeSince   atomic.Int64 // a write has not got on

	wake  chan struct{} // capacity 1: the writer should look
	moved chan struct{} // capacity 1: the waiting reader should look
	dead  chan struct{} // closed by kill
	dying atomic.Bool
	wg    sync.WaitGroup // the writer

	// mu guards what follows. It is never held across I/O or a callback but Body.AppendBody.
	mu      sync.Mutex
	out     *outBuf // answers that nobody is writing yet; nil: none
	writing int     // bytes that somebody is writing; 0: nobody
	woken   bool    // the writer has been woken and has not looked yet
	waiting bool    // the reader waits on moved
	closed  bool    // answers are dropped

	answered     uint64   // requests answered, dropped answers included
	answeredSize int64    // bytes of them
	newest       uint64   // highest seq that was answered
	void         []uint64 // seqs that were answered by the server because the session panicked
}

func newConn(s *Server, raw net.Conn, l *Listener, id uint64) *conn {
	c := &conn{s: s, id: id, raw: raw, nc: raw, from: l, accepted: time.Now(),
		remote: addrPort(raw.RemoteAddr()), local: addrPort(raw.LocalAddr()),
		wake: make(chan struct{}, 1), moved: make(chan struct{}, 1), dead: make(chan struct{})}
	c.fr = protocol.NewFrameReader(protocol.ReaderOptions{ID: shortID(id)})
	c.info.Store(&ConnInfo{ID: id, Remote: c.remote, Local: c.local, Accepted: c.accepted})
	c.fillSince.Store(s.coarse.Load())
	return c
}

// shortID names a connection in the text about a broken segment.
func shortID(id uint64) string {
	const digits = "0123456789abcdef"
	var b [8]byte
	for i := range b {
		b[7-i] = digits[id>>(4*i)&15]
	}
	return string(b[:])
}

func addrPort(a net.Addr) netip.AddrPort {
	if t, ok := a.(*net.TCPAddr); ok {
		p := t.AddrPort()
		return netip.AddrPortFrom(p.Addr().Unmap(), p.Port())
	}
	p, _ := netip.ParseAddrPort(a.String())
	return p
}

// serve is the reader goroutine.
func (c *conn) serve() {
	defer c.finish()
	if err := c.secure(); err != nil {
		c.s.metrics.TLSErrors.Add(1)
		c.s.opt.Logger.Debug("TLS handshake failed", "client", c.remote, "err", err)
		return
	}
	for c.readOnce() {
	}
	if c.draining.Load() {
		c.await((*conn).quietLocked)
	}
	c.linger()
}

// lingerMax is how long the client has to read the last answers.
const lingerMax = time.Second

// linger says that nothing more will be written, and drops what comes until the client closes its end too: closing
// with bytes unread would make the kernel take back answers that are on their way.
func (c *conn) linger() {
	type halfCloser interface{ CloseWrite() error }
	if c.dying.Load() {
		return
	}
	c.raw.SetReadDeadline(time.Now().Add(lingerMax))
	if t, ok := c.nc.(*tls.Conn); ok {
		_ = t.SetWriteDeadline(time.Now().Add(lingerMax))
		_ = t.CloseWrite() // a farewell: the connection ends either way
	}
	if h, ok := c.raw.(halfCloser); ok && h.CloseWrite() == nil {
		_, _ = io.Copy(io.Discard, c.raw)
	}
}

// finish ends the connection, whatever its state.
func (c *conn) finish() {
	c.kill()
	c.wg.Wait()
	c.mu.Lock()
	c.closed = true
	o := c.out
	c.out = nil
	if c.lost {
		c.addr.force(c.answeredSize - c.startedSize)
	}
	c.mu.Unlock()
	if o != nil {
		c.recycle(o)
	}
	c.bytes.close()
	c.addr.force(-c.partial)
	if c.session != nil {
		c.closeSession()
	}
	c.s.remove(c)
}

func (c *conn) closeSession() {
	defer func() {
		if p := recover(); p != nil {
			c.logPanic("Close", p, debug.Stack())
		}
	}()
	c.session.Close()
}

// kill makes every goroutine of the connection end soon. It may be called from anywhere, more than once.
func (c *conn) kill() {
	if c.dying.CompareAndSwap(false, true) {
		close(c.dead)
		c.raw.Close()
	}
}

// readOnce reads what has come and does all of it. It returns false when the connection should end.
func (c *conn) readOnce() bool {
	c.fillSince.Store(c.s.coarse.Load())
	n, err := c.fr.Fill(c.nc)
	c.fillSince.Store(0)
	if n > 0 {
		c.s.metrics.Reads.Add(1)
		c.s.metrics.BytesIn.Add(int64(n))
	}
	goOn := c.doAll()
	c.endOfRead()
	return goOn && err == nil
}

// doAll does all envelopes that have come. It returns false when the connection should end.
func (c *conn) doAll() bool {
	c.inBurst.Store(true)
	c.bytes.left += c.partial // the envelope may be complete now, and is counted as a request then
	c.partial = 0
	count := 0
	for {
		f, ok, err := c.fr.Next()
		if err != nil {
			if !c.badFrame(err) {
				return false
			}
			continue
		}
		if !ok {
			break
		}
		count++
		if !c.handle(f) {
			return false
		}
		if c.full.Load() || c.burst >= burstMax {
			c.relieve()
		}
	}
	if !c.flushSession() {
		return false
	}
	c.countPartial(count > 0)
	return true
}

// badFrame tells the client about bytes that cannot be understood. It returns false when nothing after them can.
func (c *conn) badFrame(err error) bool {
	var bad *protocol.BadFrame
	if !errors.As(err, &bad) {
		return false
	}
	if bad.Err.Code == protocol.CodeOverloaded {
		c.s.metrics.Overloaded.Add(1)
	} else {
		c.s.metrics.BadFrames.Add(1)
	}
	c.s.metrics.Errors.Add(1)
	c.mu.Lock()
	o := c.outLocked()
	o.b = protocol.AppendBadFrame(o.b, bad)
	c.mu.Unlock()
	return !bad.Fatal
}

// countPartial counts the part of an unfinished envelope that has come, and has it dropped when there is no budget for
// it.
func (c *conn) countPartial(progress bool) {
	size := c.fr.Buffered()
	if since := c.partialSince.Load(); size == 0 && since != 0 {
		c.partialSince.Store(0)
	} else if size > 0 && (since == 0 || progress) {
		c.partialSince.Store(c.s.coarse.Load())
	}
	want := int64(max(size-partialFree, 0))
	if want > 0 && !c.bytes.take(want) {
		c.fr.Refuse(c.overloaded())
		want = 0
	}
	c.partial = want
}

func (c *conn) overloaded() *protocol.Error {
	a, g := &c.addr.budget, c.addr.parent
	return protocol.Errorf(protocol.CodeOverloaded, "Request breached limit on bytes in flight. (Endpoint: %d/%d bytes, "+
		"Global: %d/%d bytes.) Server is currently in an overloaded state and cannot accept more requests.",
		a.used.Load(), a.max, g.used.Load(), g.max)
}

// handle does one envelope. It returns false when the connection should end.
func (c *conn) handle(f protocol.Frame) bool {
	stage := c.stageNow()
	c.tally[f.Header.Op]++
	if err := protocol.CheckSequence(stage, f.Header.Op); err != nil {
		stream := f.Header.Stream
		if stage == protocol.StageEstablished {
			stream = 0
		}
		c.refuse(f.Header.Version, stream, err)
		return true
	}
	switch f.Header.Op {
	case protocol.OpExecute, protocol.OpQuery, protocol.OpPrepare, protocol.OpBatch:
		c.request(f)
		return true
	}
	return c.handleOther(f)
}

// refuse answers a request that does not reach the session with an error.
func (c *conn) refuse(v protocol.Version, stream int16, err *protocol.Error) {
	if err.Code == protocol.CodeProtocol {
		c.s.metrics.ProtocolErrors.Add(1)
	}
	c.s.metrics.Errors.Add(1)
	c.mu.Lock()
	o := c.outLocked()
	o.b = protocol.AppendErrorFrame(o.b, v, stream, err)
	c.mu.Unlock()
}

// request gives a request to the session.
func (c *conn) request(f protocol.Frame) {
	r := Responder{c: c, stream: f.Header.Stream, size: protocol.HeaderLen + len(f.Body)}
	if !c.bytes.take(int64(r.size)) {
		c.s.metrics.Overloaded.Add(1)
		c.refuse(c.version, r.stream, c.overloaded())
		return
	}
	var payload []protocol.PayloadEntry
	body := f.Body
	if f.Header.Flags&protocol.FlagCustomPayload != 0 {
		var err error
		if payload, body, err = protocol.SplitRequest(f.Header, body); err != nil {
			c.bytes.left += int64(r.size)
			c.refuse(c.version, r.stream, asError(err))
			return
		}
		r.echo = c.echo(payload)
	}
	if c.room == 0 {
		c.makeRoom()
	}
	c.room--
	c.burst++
	r.seq = c.started.Load() + 1
	if r.seq%LatencySample == 0 {
		r.at = c.s.now()
	}
	c.started.Store(r.seq)
	c.startedSize += int64(r.size)
	c.unflushed = true
	c.call(f.Header, payload, body, r)
}

// echo returns a copy of a payload that is to be sent back, nil if none is.
func (c *conn) echo(payload []protocol.PayloadEntry) *[]protocol.PayloadEntry {
	if !c.s.opt.EchoPayload || len(payload) == 0 {
		return nil
	}
	out := make([]protocol.PayloadEntry, len(payload))
	for i, e := range payload {
		out[i].Key = e.Key
		if e.Value != nil {
			out[i].Value = append([]byte{}, e.Value...)
		}
	}
	return &out
}

func asError(err error) *protocol.Error {
	var e *protocol.Error
	if errors.As(err, &e) {
		return e
	}
	return protocol.Errorf(protocol.CodeServerError, "%v", err)
}

// call calls the session and catches its panics.
func (c *conn) call(h protocol.Header, payload []protocol.PayloadEntry, body []byte, r Responder) {
	defer func() {
		if p := recover(); p != nil {
			c.logPanic(h.Op.String(), p, debug.Stack())
			c.answerPanic(r)
		}
	}()
	c.session.Request(h, payload, body, r)
}

func (c *conn) logPanic(doing string, p any, stack []byte) {
	c.s.metrics.Panics.Add(1)
	c.s.opt.Logger.Error("panic in a CQL session", "client", c.remote, "doing", doing, "panic", p, "stack", string(stack))
}

// voidMax bounds the answers that may still come for requests that were answered by answerPanic.
const voidMax = 64

// answerPanic answers the request during which the session panicked, unless that has been done.
func (c *conn) answerPanic(r Responder) {
	c.mu.Lock()
	answered, tooMany := c.newest == r.seq, len(c.void) == voidMax
	c.mu.Unlock()
	if tooMany {
		c.kill()
	}
	if answered || tooMany {
		return
	}
	r.Error(errPanic(), nil)
	c.mu.Lock()
	c.void = append(c.void, r.seq)
	c.mu.Unlock()
}

func errPanic() *protocol.Error {
	return protocol.Errorf(protocol.CodeServerError, "Internal error; the server's log has the details")
}

// flushSession ends a burst. It returns false when the session panicked: which requests it left unanswered is unknown.
func (c *conn) flushSession() (ok bool) {
	defer func() {
		if p := recover(); p != nil {
			c.logPanic("Flush", p, debug.Stack())
			c.lost, ok = true, false
		}
	}()
	if c.unflushed {
		c.unflushed = false
		c.session.Flush()
	}
	return true
}

// endOfRead writes what has been answered, counts, and waits while too much is unsent.
func (c *conn) endOfRead() {
	c.endBurst()
	c.bytes.close()
	c.count()
	c.mu.Lock()
	over := c.overLocked()
	c.mu.Unlock()
	if over {
		c.pause((*conn).relievedLocked)
	}
}

// count adds what the reader has counted on its own to the metrics.
func (c *conn) count() {
	total := int64(0)
	for op, n := range c.tally {
		if n > 0 {
			c.s.metrics.Requests[op].Add(n)
			c.tally[op] = 0
			total += n
		}
	}
	if total > 0 {
		c.s.metrics.RequestsPerRead.Add(total)
	}
}

// relieve writes what has been answered so far within a burst, and waits while too much is unsent.
func (c *conn) relieve() {
	c.full.Store(false)
	c.endBurst()
	c.mu.Lock()
	over := c.overLocked()
	c.mu.Unlock()
	if over {
		c.flushAndPause((*conn).relievedLocked)
	}
	c.inBurst.Store(true)
}

// makeRoom finds out how many requests can be started, waiting until there is one.
func (c *conn) makeRoom() {
	for {
		c.mu.Lock()
		c.room = c.s.opt.Limits.InFlightMax - c.inFlightLocked()
		c.mu.Unlock()
		if c.room > 0 || c.dying.Load() {
			c.room = max(c.room, 1)
			return
		}
		c.endBurst()
		c.flushAndPause((*conn).roomyLocked)
		c.inBurst.Store(true)
	}
}

func (c *conn) flushAndPause(until func(*conn) bool) {
	if !c.flushSession() {
		c.kill()
	}
	c.pause(until)
}

func (c *conn) pause(until func(*conn) bool) {
	c.s.metrics.Pauses.Add(1)
	c.await(until)
	if c.partialSince.Load() != 0 {
		c.partialSince.Store(c.s.coarse.Load()) // the pause was not the client's
	}
}

// await waits until cond, which is called under the lock, holds, or the connection is dead. What has been answered is
// written by the writer in the meantime.
func (c *conn) await(cond func(*conn) bool) {
	for {
		c.mu.Lock()
		c.inBurst.Store(false)
		c.waiting = !cond(c)
		waiting, wake := c.waiting, c.wakeLocked()
		c.mu.Unlock()
		if wake {
			poke(c.wake)
		}
		if !waiting {
			return
		}
		select {
		case <-c.moved:
		case <-c.dead:
			return
		}
	}
}

func (c *conn) inFlightLocked() int { return int(c.started.Load() - c.answered) }

// roomyLocked reports whether enough requests are answered to start some again.
func (c *conn) roomyLocked() bool { return c.inFlightLocked() <= c.s.opt.Limits.InFlightMax/2 }

// overLocked reports whether more is unsent than may be; relievedLocked whether that is over.
func (c *conn) overLocked() bool { return c.unsentLocked() > c.s.opt.Limits.UnsentMax }

func (c *conn) relievedLocked() bool { return c.unsentLocked() <= c.s.opt.Limits.UnsentMax/2 }

func (c *conn) unsentLocked() int {
	n := c.writing
	if c.out != nil {
		n += len(c.out.b)
	}
	return n
}

// quietLocked reports whether everything has been answered and written.
func (c *conn) quietLocked() bool { return c.inFlightLocked() == 0 && c.unsentLocked() == 0 }

func (c *conn) stageNow() protocol.Stage { return protocol.Stage(c.stage.Load()) }

// drain makes the reader end once it has done what has come and that is answered.
func (c *conn) drain() {
	c.draining.Store(true)
	c.raw.SetReadDeadline(time.Unix(1, 0))
}

func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
