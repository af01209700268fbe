package server

import (
	"runtime"
	"runtime/debug"

	"github.com/helenusdb/helenus/cql/protocol"
)

const (
	flushAt    = 64 << 10  // bytes of answers that are worth a write within a burst
	unsentFree = 32 << 10  // bytes of unsent answers of one connection that no budget counts
	unsentStep = 64 << 10  // the budget is touched once per so many bytes of answers
	writePiece = 128 << 10 // bytes of one call of Write
	bufKeep    = 256 << 10 // larger buffers are left to the garbage collector
)

// outBuf holds answers, as bare envelopes back to back.
type outBuf struct {
	b       []byte
	size    int64 // bytes of the answered requests, released when b has been written
	charged int64 // counted for b itself
}

// outLocked returns the buffer that answers are appended to.
func (c *conn) outLocked() *outBuf {
	if c.out == nil {
		c.out = c.s.buffers.Get().(*outBuf)
	}
	return c.out
}

// recycle releases what an out buffer holds and gives it back.
func (c *conn) recycle(o *outBuf) {
	c.addr.force(-o.size - o.charged)
	c.s.putBuf(o)
}

// putBuf keeps a buffer for reuse, by any connection.
func (s *Server) putBuf(o *outBuf) {
	if cap(o.b) <= bufKeep {
		*o = outBuf{b: o.b[:0]}
		s.buffers.Put(o)
	}
}

func (c *conn) respond(r Responder, op protocol.Opcode, extras *protocol.Extras, b Body) {
	if r.echo != nil {
		extras = withPayload(extras, *r.echo)
	}
	var caught any
	var stack []byte
	c.mu.Lock()
	if c.acceptLocked(r) {
		start := len(c.out.b)
		caught, stack = c.appendLocked(r, op, extras, b)
		c.admitLocked(r, start)
	}
	wake := c.endLocked()
	c.mu.Unlock()
	c.answeredOne(r, op, wake)
	if caught != nil {
		c.logPanic("AppendBody", caught, stack)
	}
}

func (c *conn) respondBytes(r Responder, op protocol.Opcode, extras *protocol.Extras, body []byte) {
	if c.compression == protocol.NoCompression {
		c.respond(r, op, extras, rawBody(body))
		return
	}
	// The envelope is compressed before the lock is taken.
	if r.echo != nil {
		extras = withPayload(extras, *r.echo)
	}
	envelope, mark := protocol.BeginResponse(make([]byte, 0, protocol.HeaderLen+len(body)+len(body)/2), c.version, op, r.stream, extras)
	envelope = protocol.EndFrameCompressed(append(envelope, body...), mark, c.compression)
	c.mu.Lock()
	if c.acceptLocked(r) {
		start := len(c.out.b)
		c.out.b = append(c.out.b, envelope...)
		c.admitLocked(r, start)
	}
	wake := c.endLocked()
	c.mu.Unlock()
	c.answeredOne(r, op, wake)
}

type rawBody []byte

func (b rawBody) AppendBody(dst []byte) []byte { return append(dst, b...) }

type errorBody struct {
	v   protocol.Version
	err *protocol.Error
}

func (e *errorBody) AppendBody(dst []byte) []byte { return protocol.AppendError(dst, e.v, e.err) }

func (c *conn) respondError(r Responder, err *protocol.Error, extras *protocol.Extras) {
	c.respond(r, protocol.OpError, extras, &errorBody{c.version, err})
}

func withPayload(extras *protocol.Extras, payload []protocol.PayloadEntry) *protocol.Extras {
	var e protocol.Extras
	if extras != nil {
		e = *extras
	}
	e.Payload = payload
	return &e
}

// acceptLocked counts an answer and reports whether it should be appended, to c.out.
func (c *conn) acceptLocked(r Responder) bool {
	if c.answered >= c.started.Load() {
		c.s.metrics.AnswersTwice.Add(1)
		return false // what was taken is the first one's
	}
	if c.voidLocked(r.seq) {
		c.s.metrics.AnswersTwice.Add(1)
		c.addr.force(-r.taken)
		return false
	}
	c.answered++
	c.answeredSize += int64(r.size)
	c.newest = max(c.newest, r.seq)
	if c.closed {
		c.s.metrics.AnswersLate.Add(1)
		c.addr.force(-r.taken)
		if !c.lost {
			c.addr.force(-int64(r.size))
		}
		return false
	}
	c.outLocked().size += int64(r.size)
	return true
}

// voidLocked reports whether the server has answered a request itself, and forgets that.
func (c *conn) voidLocked(seq uint64) bool {
	for i, s := range c.void {
		if s == seq {
			c.void = append(c.void[:i], c.void[i+1:]...)
			return true
		}
	}
	return false
}

// appendLocked appends an answer; if b panics, a server error instead.
func (c *conn) appendLocked(r Responder, op protocol.Opcode, extras *protocol.Extras, b Body) (caught any, stack []byte) {
	o := c.out
	defer func() {
		if caught = recover(); caught != nil {
			stack = debug.Stack()
			o.b = protocol.AppendErrorFrame(o.b, c.version, r.stream, errPanic())
		}
	}()
	dst, mark := protocol.BeginResponse(o.b, c.version, op, r.stream, extras)
	o.b = protocol.EndFrameCompressed(b.AppendBody(dst), mark, c.compression)
	return nil, nil
}

// admitLocked counts an answer that was appended at start of the buffer: what Room has taken for it, and what it needs beyond that when it is of a read
// whose client leaves too much unread. Without room it is replaced by an error: the requests of such a client that are under way could fill the memory.
func (c *conn) admitLocked(r Responder, start int) {
	o := c.out
	o.charged += r.taken
	need := int64(len(o.b)-start) - r.taken
	if !r.reads || need <= 0 || !c.overLocked() {
		return
	}
	if c.addr.acquire(need) {
		o.charged += need
		return
	}
	c.s.metrics.Overloaded.Add(1)
	c.s.metrics.Errors.Add(1)
	o.b = protocol.AppendErrorFrame(o.b[:start], c.version, r.stream, c.overloaded())
}

// endLocked follows an answer. It returns whether the caller must wake the writer after unlocking.
func (c *conn) endLocked() (wake bool) {
	if c.waiting {
		poke(c.moved)
	}
	if c.out == nil {
		return false
	}
	if n := len(c.out.b); n >= unsentFree {
		c.chargeLocked(c.out, int64(n))
		if n >= flushAt && !c.full.Load() {
			c.full.Store(true)
		}
	}
	return c.wakeLocked()
}

func (c *conn) chargeLocked(o *outBuf, n int64) {
	if n > o.charged {
		step := n - o.charged + unsentStep
		if o.charged == 0 {
			step = n
		}
		c.addr.force(step)
		o.charged += step
	}
}

// wakeLocked returns whether the writer must be woken: something waits and nobody else will write it.
func (c *conn) wakeLocked() bool {
	if c.out == nil || c.writing > 0 || c.woken || c.inBurst.Load() {
		return false
	}
	c.woken = true
	return true
}

// answeredOne is the rest of an answer, after unlocking.
func (c *conn) answeredOne(r Responder, op protocol.Opcode, wake bool) {
	if wake {
		poke(c.wake)
	}
	if op == protocol.OpError {
		c.s.metrics.Errors.Add(1)
	}
	if r.at != 0 {
		c.s.metrics.Latency.Add(c.s.now() - r.at)
	}
}

// endBurst writes what was answered during a burst, once, unless the writer is at it: it goes on then. What has been
// added in the meantime is left to the writer too, and so is more than a slow client may leave unread: the reader pauses
// for that, and must not be held up in a write where nobody sees it.
func (c *conn) endBurst() {
	c.burst = 0
	c.mu.Lock()
	c.inBurst.Store(false)
	if c.writing > 0 || c.out == nil || c.overLocked() {
		wake := c.wakeLocked()
		c.mu.Unlock()
		if wake {
			poke(c.wake)
		}
		return
	}
	o := c.takeLocked()
	c.mu.Unlock()
	c.write(o)
	c.mu.Lock()
	wake := c.wroteLocked()
	c.mu.Unlock()
	if wake {
		poke(c.wake)
	}
}

// takeLocked takes the answers that wait; the caller must write them and call wroteLocked.
func (c *conn) takeLocked() *outBuf {
	o := c.out
	c.out, c.writing = nil, len(o.b)
	return o
}

func (c *conn) wroteLocked() (wake bool) {
	c.writing = 0
	if c.waiting {
		poke(c.moved)
	}
	return c.wakeLocked()
}

// writeLate is the writer goroutine: it writes what is answered outside of bursts.
func (c *conn) writeLate() {
	defer c.wg.Done()
	for {
		select {
		case <-c.wake:
		case <-c.dead:
			return
		}
		runtime.Gosched() // lets more answers gather
		c.writeAll()
	}
}

// writeAll writes until nothing is left or the reader has taken over.
func (c *conn) writeAll() {
	c.mu.Lock()
	c.woken = false
	for c.out != nil && c.writing == 0 && !c.inBurst.Load() {
		o := c.takeLocked()
		c.mu.Unlock()
		c.write(o)
		c.mu.Lock()
		c.writing = 0
		if c.waiting {
			poke(c.moved)
		}
	}
	c.mu.Unlock()
}

// write writes a buffer and recycles it. An error ends the connection.
func (c *conn) write(o *outBuf) {
	if c.framed {
		seg := c.s.buffers.Get().(*outBuf)
		seg.b = protocol.AppendSegments(seg.b[:0], o.b, c.segments)
		c.writeBytes(seg.b)
		c.s.putBuf(seg)
	} else {
		c.writeBytes(o.b)
	}
	c.recycle(o)
}

func (c *conn) writeBytes(b []byte) {
	m := &c.s.metrics
	m.BytesPerWrite.Add(int64(len(b)))
	for len(b) > 0 {
		c.writeSince.Store(c.s.coarse.Load())
		m.Writes.Add(1)
		n, err := c.nc.Write(b[:min(len(b), writePiece)])
		m.BytesOut.Add(int64(n))
		if err != nil {
			c.kill()
			return
		}
		b = b[n:]
	}
	c.writeSince.Store(0)
}
