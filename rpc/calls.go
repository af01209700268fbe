package rpc

import (
	"errors"
	"math"
	"net"
	"time"

	"github.com/helenusdb/helenus/ring"
)

// slotsMax bounds the calls in flight on one connection: an id carries its slot in 16 bits.
const slotsMax = 1 << 16

// slot is one outstanding call.
type slot struct {
	cb    Callback
	id    uint64 // counter<<16 | index of the slot: a late answer never meets the next user of its slot
	chunk uint64 // the chunk that holds the request, to know whether the writer has taken it
	verb  Verb
}

// calls is the table of outstanding calls of one connection, guarded by the owner's mutex.
type calls struct {
	slots     []slot
	deadlines []int64 // by slot, 0 when free: dense, because expiry scans it
	free      []uint16
	counter   uint64
	active    int
	max       int
	earliest  int64 // no deadline is before it
}

// add returns the id of a new call, ok false when the table is full.
func (c *calls) add(cb Callback, verb Verb, deadline int64) (id uint64, ok bool) {
	if c.active >= c.max {
		return 0, false
	}
	var i uint16
	if k := len(c.free); k > 0 {
		i, c.free = c.free[k-1], c.free[:k-1]
	} else {
		i = uint16(len(c.slots))
		c.slots = append(c.slots, slot{})
		c.deadlines = append(c.deadlines, 0)
	}
	c.counter++
	id = c.counter<<16 | uint64(i)
	c.slots[i] = slot{cb: cb, id: id, verb: verb}
	c.deadlines[i] = deadline
	c.active++
	return id, true
}

// remove takes a call out of the table; ok false when it has ended before.
func (c *calls) remove(id uint64) (s slot, ok bool) {
	i := int(uint16(id))
	if i >= len(c.slots) || c.slots[i].id != id || c.slots[i].cb == nil {
		return slot{}, false
	}
	s = c.slots[i]
	c.slots[i] = slot{}
	c.deadlines[i] = 0
	c.free = append(c.free, uint16(i))
	c.active--
	return s, true
}

// expire removes the calls whose deadline is not after now, appends them to dst, and sets earliest.
func (c *calls) expire(now int64, dst []slot) []slot {
	c.earliest = math.MaxInt64
	for i, d := range c.deadlines {
		switch {
		case d == 0:
		case d <= now:
			s, _ := c.remove(c.slots[i].id)
			dst = append(dst, s)
		default:
			c.earliest = min(c.earliest, d)
		}
	}
	return dst
}

// dialed is one connection to a peer with its outstanding calls, from the first request (the dial has not even
// begun) until it fails; a failed one is never used again.
type dialed struct {
	outbox
	calls calls         // guarded by mu
	armed int64         // the keeper looks at the deadlines at this time at the latest; guarded by mu
	rearm chan struct{} // capacity 1: a deadline before armed was added

	t       *Transport
	to      ring.HostID
	class   Class
	lim     Limits
	up      bool // the handshake is done; guarded by mu, as are the next three
	sends   uint64
	shedAt  int64
	shedIDs []uint64
	rsp     Response // reused by the reader

	cause error // why it failed; set before dead is closed
	err   error
}

func newDialed(t *Transport, to ring.HostID, class Class) *dialed {
	d := &dialed{outbox: newOutbox(keepBytes(class)), t: t, to: to, class: class, lim: t.opt.limits(class),
		rearm: make(chan struct{}, 1), armed: math.MaxInt64}
	d.calls.max = d.lim.InFlight
	d.calls.earliest = math.MaxInt64
	return d
}

// keepBytes is the size up to which the buffers of a class are reused.
func keepBytes(c Class) int {
	if c == Stream {
		return 2 << 20
	}
	return 256 << 10
}

type verdict uint8

const (
	queued verdict = iota
	full
	gone // the connection has failed; nothing was queued
)

// send queues a request, or a one-way message when cb is nil.
func (d *dialed) send(verb Verb, flags uint8, deadline int64, body []byte, cb Callback) verdict {
	epoch := d.t.opt.Epoch()
	d.mu.Lock()
	if d.closed {
		d.mu.Unlock()
		return gone
	}
	if d.fullLocked(len(body)) {
		d.mu.Unlock()
		return d.sendFull(verb, flags, deadline, body, cb, epoch)
	}
	rouse, rearm := d.pushLocked(verb, flags, deadline, body, cb, epoch)
	d.mu.Unlock()
	d.signal(rouse, rearm)
	return queued
}

// sendFull makes room by shedding what has expired in the queue, at most once per tick, then tries once more. The
// calls themselves are ended by the writer's owner, not on the caller's goroutine.
func (d *dialed) sendFull(verb Verb, flags uint8, deadline int64, body []byte, cb Callback, epoch uint64) verdict {
	now := d.t.now()
	d.mu.Lock()
	if d.closed {
		d.mu.Unlock()
		return gone
	}
	if now-d.shedAt >= int64(d.t.opt.ExpiryTick) {
		d.shedAt = now
		d.shedIDs = d.q.shed(now, d.shedIDs[:0])
		d.t.metrics.class(d.class).Shed.Add(int64(len(d.shedIDs)))
	}
	if d.fullLocked(len(body)) {
		d.mu.Unlock()
		return full
	}
	rouse, rearm := d.pushLocked(verb, flags, deadline, body, cb, epoch)
	d.mu.Unlock()
	d.signal(rouse, rearm)
	return queued
}

// expireLocked removes the calls past their deadline; frames of them that are still queued stay for the writer to
// drop.
func (d *dialed) expireLocked(now int64, dst []ended) []ended {
	if d.calls.earliest > now {
		return dst
	}
	for _, s := range d.calls.expire(now, nil) {
		dst = append(dst, ended{s, s.chunk <= d.q.taken})
	}
	return dst
}

func (d *dialed) fullLocked(n int) bool {
	return d.calls.active >= d.calls.max || d.q.frames >= 2*d.calls.max ||
		d.q.bytes > 0 && d.q.bytes+headerLen+n > d.lim.QueueBytes
}

func (d *dialed) pushLocked(verb Verb, flags uint8, deadline int64, body []byte, cb Callback, epoch uint64) (rouse, rearm bool) {
	h := header{kind: kindOneWay, code: uint8(verb), flags: flags, epoch: epoch}
	if cb != nil {
		h.kind = kindRequest
		h.id, _ = d.calls.add(cb, verb, deadline)
		if deadline < d.calls.earliest {
			d.calls.earliest = deadline
			if rearm = deadline < d.armed; rearm {
				d.armed = deadline
			}
		}
	}
	n := d.q.push(h, body, deadline)
	if cb != nil {
		d.calls.slots[uint16(h.id)].chunk = n
	}
	d.sends++
	return d.nudgeLocked(), rearm
}

func (d *dialed) signal(rouse, rearm bool) {
	if rouse {
		d.rouse()
	}
	if rearm {
		select {
		case d.rearm <- struct{}{}:
		default:
		}
	}
}

// ended is a call that got no answer, and whether its request may have left.
type ended struct {
	slot
	sent bool
}

// failAll tells the callers.
func (d *dialed) failAll(list []ended, cause, detail error) {
	if len(list) == 0 {
		return
	}
	if errors.Is(cause, ErrTimeout) {
		d.t.metrics.class(d.class).Timeouts.Add(int64(len(list)))
	}
	var errs [2]*Error
	for _, e := range list {
		k := 0
		if e.sent {
			k = 1
		}
		if errs[k] == nil {
			errs[k] = &Error{To: d.to, Class: d.class, Cause: cause, Err: detail, Sent: e.sent}
		}
		e.cb.Done(&Response{From: d.to, Verb: e.verb, Err: errs[k]})
	}
}

// fail ends the connection: every outstanding call fails at once, later sends are turned away. Only the first call
// counts.
func (d *dialed) fail(cause, detail error) {
	d.mu.Lock()
	if d.closed {
		d.mu.Unlock()
		return
	}
	d.cause, d.err = cause, detail
	d.closeLocked()
	var list []ended
	for _, s := range d.calls.slots {
		if s.cb != nil {
			list = append(list, ended{s, s.chunk <= d.q.taken})
		}
	}
	d.calls, d.q = calls{}, queue{}
	d.mu.Unlock()
	d.failAll(list, cause, detail)
}

// dropShed ends the calls whose requests expired before the writer got to them.
func (d *dialed) dropShed(ids []uint64) {
	var list []ended
	d.mu.Lock()
	for _, id := range ids {
		if s, ok := d.calls.remove(id); ok {
			list = append(list, ended{s, false})
		}
	}
	d.mu.Unlock()
	d.failAll(list, ErrTimeout, nil)
}

// tick expires calls and returns how long the keeper may sleep.
func (d *dialed) tick() time.Duration {
	now := d.t.now()
	d.mu.Lock()
	list := d.expireLocked(now, nil)
	d.armed = d.calls.earliest
	next := d.armed
	d.mu.Unlock()
	d.failAll(list, ErrTimeout, nil)
	return min(max(time.Duration(next-now), d.t.opt.ExpiryTick), d.t.opt.IdleAfter/4, time.Minute)
}

// serve runs the connection until it fails or is closed; the caller has made the handshake. It waits for both
// goroutines.
func (d *dialed) serve(conn net.Conn) {
	w := writer{box: &d.outbox, conn: conn, t: d.t, class: d.class, requests: true, onShed: d.dropShed}
	if d.lim.Compress {
		w.pack = new(packer)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := w.run(); err != nil {
			d.fail(ErrConnLost, err)
		}
		hangUp(conn)
	}()
	err := d.read(conn)
	d.fail(ErrConnLost, err)
	hangUp(conn)
	<-done
}

// answersMax bounds the answers that are taken out of the table under one lock.
const answersMax = 64

// answer is a response frame that has been cut but not delivered.
type answer struct {
	h     header
	body  []byte
	trace []byte
	slot  slot
}

// read delivers answers until the connection fails.
func (d *dialed) read(conn net.Conn) error {
	in := newReceiver(d.t, &d.outbox, conn, d.to, d.class)
	batch := make([]answer, 0, answersMax)
	for {
		if err := in.fill(); err != nil {
			return err
		}
		for more := true; more; {
			var err error
			batch, more, err = d.cut(in, batch[:0])
			d.deliver(batch)
			in.frames.dropUnpacked()
			if err != nil {
				return err
			}
		}
		d.rsp.Body, d.rsp.Trace = nil, nil
		in.drained()
	}
}

// cut collects answers that are complete in the buffer; more says that there may be others.
func (d *dialed) cut(in *receiver, batch []answer) (_ []answer, more bool, err error) {
	for len(batch) < answersMax && !in.frames.crowded() {
		h, body, ok, err := in.next()
		if err != nil || !ok {
			return batch, false, err
		}
		if h.kind != kindResponse {
			return batch, false, unexpectedKind(h.kind)
		}
		traced, body, err := h.splitTrace(body)
		if err != nil {
			return batch, false, err
		}
		batch = append(batch, answer{h: h, body: body, trace: traced})
	}
	return batch, true, nil
}

// deliver calls back for each answer; answers to calls that have ended are dropped.
func (d *dialed) deliver(batch []answer) {
	if len(batch) == 0 {
		return
	}
	late := 0
	d.mu.Lock()
	for i := range batch {
		batch[i].slot, _ = d.calls.remove(batch[i].h.id)
	}
	d.mu.Unlock()
	for i := range batch {
		a := &batch[i]
		if a.slot.cb == nil {
			late++
			continue
		}
		d.rsp = Response{From: d.to, Verb: a.slot.verb, Status: Status(a.h.code), Epoch: a.h.epoch, Body: a.body, Trace: a.trace}
		a.slot.cb.Done(&d.rsp)
		a.slot.cb = nil
	}
	m := d.t.metrics.class(d.class)
	m.FramesIn.Add(int64(len(batch)))
	if late > 0 {
		m.Late.Add(int64(late))
	}
}
