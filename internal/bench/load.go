package bench

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/helenusdb/helenus/cql/protocol"
)

const (
	columns  = 5
	cellLen  = 34
	bufBytes = 64 << 10
	bodyMax  = 64 << 20
	depthMax = 16384

	answerMax  = 30 * time.Second      // without an answer for so long a connection is given up
	idleWait   = 20 * time.Millisecond // how often a waiting connection looks whether anything is still to come
	schemaWait = 10 * time.Second      // for a new table to be known everywhere
)

// Op is what a run does.
type Op string

// The operations: load writes every key once, write and update overwrite random keys, read reads them, mixed is half
// reads and half writes; cas overwrites a column of random keys if another one is what load wrote, which it is: every
// condition holds, and an answer that says otherwise is wrong; counter adds one to random counters and then checks their sum.
const (
	Load   Op = "load"
	Write  Op = "write"
	Update Op = "update"
	Read   Op = "read"
	Mixed  Op = "mixed"
	Count  Op = "counter"
	CAS    Op = "cas"
)

// Options describe a run.
type Options struct {
	Hosts    []string // host:port; connections are spread over them
	Op       Op
	Level    protocol.Consistency
	Rows     uint64
	Conns    int
	Depth    int           // requests in flight per connection
	Rate     float64       // operations per second in all; 0: as fast as answers come
	Warm     time.Duration // before measuring; not for load
	Duration time.Duration // of the measurement; not for load
	// Tick is called every second with what was measured since the call before.
	Tick func(Sample)
}

// Sample is one second of a run.
type Sample struct {
	At        time.Duration // since the measurement began; not positive while warming
	Ops       float64       // per second
	P50, P99  time.Duration // 0 while warming
	Bad       uint64        // in all
	Done, All uint64        // for load: rows written, of how many
}

// ErrOptions is returned for a run that makes no sense.
var ErrOptions = errors.New("bench: options")

func (o *Options) validate() error {
	switch {
	case len(o.Hosts) == 0:
		return fmt.Errorf("%w: no hosts", ErrOptions)
	case o.Rows == 0:
		return fmt.Errorf("%w: no rows", ErrOptions)
	case o.Conns < 1 || o.Depth < 1 || o.Depth > depthMax:
		return fmt.Errorf("%w: connections and depth must be positive, depth at most %d", ErrOptions, depthMax)
	}
	switch o.Op {
	case Load, Write, Update, Read, Mixed, CAS, Count:
		return nil
	}
	return fmt.Errorf("%w: %q is not load, write, update, read, mixed, cas or counter", ErrOptions, o.Op)
}

// conn is one connection of the generator, protocol v4.
type conn struct {
	net.Conn
	r   *bufio.Reader
	w   *bufio.Writer
	hdr [protocol.HeaderLen]byte
	buf []byte
}

func dial(ctx context.Context, addr string) (*conn, error) {
	var d net.Dialer
	nc, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	c := &conn{Conn: nc, r: bufio.NewReaderSize(nc, bufBytes), w: bufio.NewWriterSize(nc, bufBytes)}
	op, _, err := c.call(protocol.AppendStartup(nil, protocol.V4, 0, []protocol.StringPair{{Key: "CQL_VERSION", Value: "3.0.0"}}))
	if err == nil && op != protocol.OpReady {
		err = fmt.Errorf("bench: %s answers STARTUP with opcode %d", addr, op)
	}
	if err != nil {
		nc.Close()
		return nil, err
	}
	return c, nil
}

// next returns the next frame; the body is valid until the next call.
func (c *conn) next() (stream uint16, op protocol.Opcode, body []byte, err error) {
	if _, err = io.ReadFull(c.r, c.hdr[:]); err != nil {
		return
	}
	n := binary.BigEndian.Uint32(c.hdr[5:])
	if n > bodyMax {
		return 0, 0, nil, fmt.Errorf("bench: an answer of %d bytes", n)
	}
	if int(n) > cap(c.buf) {
		c.buf = make([]byte, n)
	}
	body = c.buf[:n]
	_, err = io.ReadFull(c.r, body)
	return binary.BigEndian.Uint16(c.hdr[2:]), protocol.Opcode(c.hdr[4]), body, err
}

// buffered tells whether next will return without reading from the connection.
func (c *conn) buffered() bool {
	if c.r.Buffered() < protocol.HeaderLen {
		return false
	}
	h, err := c.r.Peek(protocol.HeaderLen)
	return err == nil && uint64(c.r.Buffered()) >= protocol.HeaderLen+uint64(binary.BigEndian.Uint32(h[5:]))
}

func (c *conn) call(frame []byte) (protocol.Opcode, []byte, error) {
	if _, err := c.Write(frame); err != nil {
		return 0, nil, err
	}
	_, op, body, err := c.next()
	if err == nil && op == protocol.OpError {
		err = serverError(body)
	}
	return op, body, err
}

func serverError(body []byte) error {
	e, err := protocol.DecodeError(protocol.V4, body)
	if err != nil {
		return err
	}
	return e
}

func (c *conn) query(text string) error {
	_, _, err := c.call(protocol.AppendQuery(nil, protocol.V4, 0, 0, text, &protocol.QueryParams{Consistency: protocol.One,
		PageSize: protocol.NoPageSize, SerialConsistency: protocol.Serial, Timestamp: protocol.NoTimestamp, NowInSeconds: protocol.NoNowInSeconds}))
	return err
}

func (c *conn) prepare(text string) ([]byte, error) {
	_, body, err := c.call(protocol.AppendPrepare(nil, protocol.V4, 0, 0, text, ""))
	if err != nil {
		return nil, err
	}
	if len(body) < 6 || len(body) < 6+int(binary.BigEndian.Uint16(body[4:])) {
		return nil, errors.New("bench: PREPARE was not answered with an id")
	}
	n := int(binary.BigEndian.Uint16(body[4:]))
	return append([]byte(nil), body[6:6+n]...), nil
}

// prepareSoon prepares; for a while it bears with a node that does not know the table yet, which Cassandra also says
// with a server error.
func (c *conn) prepareSoon(ctx context.Context, text string) ([]byte, error) {
	for end := time.Now().Add(schemaWait); ; {
		id, err := c.prepare(text)
		var e *protocol.Error
		if err == nil || !errors.As(err, &e) || e.Code != protocol.CodeInvalid && e.Code != protocol.CodeServerError || time.Now().After(end) {
			return id, err
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// Setup drops and creates bench.kv and bench.counters.
func Setup(ctx context.Context, host string, rf int) error {
	c, err := dial(ctx, host)
	if err != nil {
		return err
	}
	defer c.Close()
	for _, q := range []string{
		fmt.Sprintf("CREATE KEYSPACE IF NOT EXISTS bench WITH replication = {'class': 'SimpleStrategy', 'replication_factor': %d}", rf),
		"DROP TABLE IF EXISTS bench.kv",
		"CREATE TABLE bench.kv (key bigint PRIMARY KEY, c0 blob, c1 blob, c2 blob, c3 blob, c4 blob)",
		"DROP TABLE IF EXISTS bench.counters",
		"CREATE TABLE bench.counters (key bigint PRIMARY KEY, c counter)",
	} {
		if err := c.query(q); err != nil {
			return fmt.Errorf("bench: setup: %w", err)
		}
	}
	return nil
}

// mix is the finalizer of splitmix64 (Steele, Lea, Flood 2014): the same i gives the same number on every run.
func mix(i uint64) uint64 {
	i += 0x9e3779b97f4a7c15
	i = (i ^ i>>30) * 0xbf58476d1ce4e5b9
	i = (i ^ i>>27) * 0x94d049bb133111eb
	return i ^ i>>31
}

func appendKey(b []byte, key uint64) []byte {
	return binary.BigEndian.AppendUint64(append(b, 0, 0, 0, 8), key)
}

// appendCell appends the value of one column: a function of key and column.
func appendCell(b []byte, key, col uint64) []byte {
	b = append(b, 0, 0, 0, cellLen)
	v := mix(key*8 + col)
	for range cellLen / 8 {
		b = binary.LittleEndian.AppendUint64(b, v)
		v = v*0x9e3779b97f4a7c15 + 1
	}
	return append(b, byte(v), byte(v>>8))
}

// rowIs tells whether a RESULT Rows body without metadata ends with the row of the key.
func rowIs(body []byte, key uint64, scratch []byte) bool {
	want := appendKey(scratch[:0], key)
	for col := range uint64(columns) {
		want = appendCell(want, key, col)
	}
	return len(body) >= len(want) && string(body[len(body)-len(want):]) == string(want)
}

// isApplied tells whether a RESULT Rows body ends with one row of a single column that is true.
func isApplied(body []byte) bool {
	return bytes.HasSuffix(body, []byte{0, 0, 0, 1, 0, 0, 0, 1, 1})
}

// run is the state shared by the connections of a run.
type run struct {
	o         Options
	next      atomic.Uint64
	done      atomic.Uint64
	bad       atomic.Uint64
	counted   atomic.Uint64 // increments that were acknowledged, while warming too
	measuring atomic.Bool
	stopping  atomic.Bool
	canceled  atomic.Bool // the connections are being closed, what fails now says nothing
	began     time.Time

	badOnce  sync.Once
	firstBad string
}

func (r *run) note(what string) {
	if r.canceled.Load() {
		return
	}
	r.bad.Add(1)
	r.badOnce.Do(func() { r.firstBad = what })
}

// lane is one connection with what is in flight on it. The sending goroutine owns a free slot, the receiving one a
// slot that is taken.
type lane struct {
	r             *run
	c             *conn
	ins, upd, sel []byte
	cas           []byte // prepared for Op CAS only
	free          chan uint16
	ended         chan struct{} // closed when the receiver returns
	slots         []slot
	sent, got     atomic.Uint64
	sentAll       atomic.Bool
	hist          *histogram
}

type slot struct {
	began  int64 // ns since run.began
	key    uint64
	isRead bool
}

func newLane(ctx context.Context, r *run, host string) (*lane, error) {
	c, err := dial(ctx, host)
	if err != nil {
		return nil, err
	}
	l := &lane{r: r, c: c, free: make(chan uint16, r.o.Depth), ended: make(chan struct{}), slots: make([]slot, r.o.Depth), hist: &histogram{}}
	statements := []struct {
		id   *[]byte
		text string
	}{
		{&l.ins, "INSERT INTO bench.kv (key, c0, c1, c2, c3, c4) VALUES (?, ?, ?, ?, ?, ?)"},
		{&l.upd, "UPDATE bench.kv SET c2 = ? WHERE key = ?"},
		{&l.sel, "SELECT key, c0, c1, c2, c3, c4 FROM bench.kv WHERE key = ?"},
	}
	if r.o.Op == Count {
		statements = append(statements[:0], struct {
			id   *[]byte
			text string
		}{&l.upd, "UPDATE bench.counters SET c = c + ? WHERE key = ?"})
	}
	for _, p := range statements {
		if *p.id, err = c.prepareSoon(ctx, p.text); err != nil {
			c.Close()
			return nil, fmt.Errorf("bench: prepare on %s: %w", host, err)
		}
	}
	if r.o.Op == CAS {
		if l.cas, err = c.prepareSoon(ctx, "UPDATE bench.kv SET c2 = ? WHERE key = ? IF c0 = ?"); err != nil {
			c.Close()
			return nil, fmt.Errorf("bench: prepare on %s: %w", host, err)
		}
	}
	for s := range r.o.Depth {
		l.free <- uint16(s)
	}
	return l, nil
}

// send offers requests until the run stops; it flushes whenever it would have to wait.
func (l *lane) send() {
	defer l.sentAll.Store(true)
	r := l.r
	var frame []byte
	interval := time.Duration(0)
	if r.o.Rate > 0 {
		interval = time.Duration(float64(r.o.Conns) / r.o.Rate * float64(time.Second))
	}
	due := time.Now()
	for !r.stopping.Load() {
		i := r.next.Add(1) - 1
		if r.o.Op == Load && i >= r.o.Rows {
			break
		}
		if interval > 0 {
			due = due.Add(interval)
			if wait := time.Until(due); wait > 0 {
				l.flush()
				time.Sleep(wait)
			}
		}
		s, ok := l.take()
		if !ok {
			break
		}
		frame = l.request(frame[:0], s, i)
		x := &l.slots[s]
		if x.began = int64(time.Since(r.began)); interval > 0 {
			x.began = int64(due.Sub(r.began))
		}
		l.sent.Add(1)
		if _, err := l.c.w.Write(frame); err != nil {
			r.note(err.Error())
			return
		}
	}
	l.flush()
}

func (l *lane) flush() {
	if err := l.c.w.Flush(); err != nil {
		l.r.note(err.Error())
	}
}

// take waits for a free slot; false when the receiver has given up.
func (l *lane) take() (uint16, bool) {
	select {
	case s := <-l.free:
		return s, true
	default:
	}
	l.flush()
	select {
	case s := <-l.free:
		return s, true
	case <-l.ended:
		return 0, false
	}
}

// request builds the EXECUTE of the i-th operation.
func (l *lane) request(frame []byte, s uint16, i uint64) []byte {
	op := l.r.o.Op
	if op == Mixed {
		if op = Write; mix(i+7)&1 == 0 {
			op = Read
		}
	}
	key := mix(i) % l.r.o.Rows
	if op == Load {
		key = i
	}
	x := &l.slots[s]
	x.key, x.isRead = key, op == Read
	frame = append(frame, byte(protocol.V4), 0, byte(s>>8), byte(s), byte(protocol.OpExecute), 0, 0, 0, 0)
	switch op {
	case Read:
		frame = l.execute(frame, l.sel, 0x03, 1) // values, skip metadata
		frame = appendKey(frame, key)
	case Count:
		frame = l.execute(frame, l.upd, 0x01, 2)
		frame = appendKey(appendKey(frame, 1), key)
	case Update:
		frame = l.execute(frame, l.upd, 0x01, 2)
		frame = appendKey(appendCell(frame, key, 2), key)
	case CAS:
		frame = l.execute(frame, l.cas, 0x01, 3)
		frame = appendCell(appendKey(appendCell(frame, key, 2), key), key, 0)
	default:
		frame = l.execute(frame, l.ins, 0x01, columns+1)
		frame = appendKey(frame, key)
		for col := range uint64(columns) {
			frame = appendCell(frame, key, col)
		}
	}
	binary.BigEndian.PutUint32(frame[5:], uint32(len(frame)-protocol.HeaderLen))
	return frame
}

func (l *lane) execute(frame, id []byte, flags byte, values uint16) []byte {
	frame = append(binary.BigEndian.AppendUint16(frame, uint16(len(id))), id...)
	frame = append(binary.BigEndian.AppendUint16(frame, uint16(l.r.o.Level)), flags)
	return binary.BigEndian.AppendUint16(frame, values)
}

// receive checks answers until all are there.
func (l *lane) receive() {
	defer close(l.ended)
	r := l.r
	scratch := make([]byte, 0, 512)
	for {
		more, err := l.wait()
		if !more {
			return
		}
		var s uint16
		var op protocol.Opcode
		var body []byte
		if err == nil {
			s, op, body, err = l.c.next()
		}
		if err != nil {
			r.note(err.Error())
			return
		}
		if int(s) >= len(l.slots) {
			r.note(fmt.Sprintf("an answer on stream %d, which was not used", s))
			return
		}
		x := &l.slots[s]
		ns := int64(time.Since(r.began)) - x.began
		switch {
		case op != protocol.OpResult:
			r.note(serverError(body).Error())
		case r.o.Op == CAS && !isApplied(body):
			r.note(fmt.Sprintf("key %d: the answer (%d bytes) does not say that the condition held", x.key, len(body)))
		case x.isRead && !rowIs(body, x.key, scratch):
			r.note(fmt.Sprintf("key %d: the answer (%d bytes) is not the row that was written", x.key, len(body)))
		case r.o.Op == Count:
			r.counted.Add(1)
		}
		if r.measuring.Load() {
			l.hist.add(ns)
			r.done.Add(1)
		}
		l.got.Add(1)
		l.free <- s
	}
}

// wait returns when an answer has begun to arrive; more is false when none will come. A whole answer in the buffer
// costs no call to the system. Otherwise the wait is cut in short ones, because the last answer may come before the
// sender knows that it was the last.
func (l *lane) wait() (more bool, err error) {
	if l.c.buffered() {
		return true, nil
	}
	began := time.Now()
	for l.c.r.Buffered() == 0 {
		l.c.SetReadDeadline(time.Now().Add(idleWait))
		_, err := l.c.r.Peek(1)
		if err == nil {
			break
		}
		all := l.sentAll.Load() // before the counters: after it sent does not change
		idle := l.got.Load() == l.sent.Load()
		switch {
		case all && idle:
			return false, nil
		case !errors.Is(err, os.ErrDeadlineExceeded):
			return true, err
		case idle:
			began = time.Now()
		case time.Since(began) > answerMax:
			return true, fmt.Errorf("bench: no answer for %v", answerMax)
		}
	}
	l.c.SetReadDeadline(time.Now().Add(answerMax))
	return true, nil
}
