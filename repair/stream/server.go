package stream

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/helenusdb/helenus/ring"
	"github.com/helenusdb/helenus/rpc"
	"github.com/helenusdb/helenus/schema"
)

const (
	endBytesMax   = 1 << 18 // of a stream key: both keys may be 64 KiB, escaped twice as long
	pieceBytesMax = 4 << 20
	pieceBytesMin = 4 << 10
	asksMax       = 16              // requests for pieces of one session that may wait
	laterAfter    = 3 * time.Second // a throttled source says so after this long at the latest
)

// Source is the store that ranges are read from.
type Source interface {
	// Snapshot opens one of a range, which does not wrap. ErrUnknownTable.
	Snapshot(table schema.Generation, rg ring.Range, registers bool) (Snapshot, error)
}

// Snapshot is a range as of one moment; it is used by one goroutine at a time.
type Snapshot interface {
	// Bytes estimates the size of the range on disk.
	Bytes() uint64
	// Scan calls fn for the records behind the stream key after (empty: all), ascending, until about budget bytes were looked at. It
	// returns the stream key up to which all was, and whether that was the end. ErrUnknownTable: the table is gone.
	Scan(ctx context.Context, after []byte, budget int, fn func(key, value []byte) error) (end []byte, done bool, err error)
	Close() error
}

// Members is what a source knows of the cluster.
type Members interface {
	Epoch() uint64
	// CatchUp pulls newer metadata from a member.
	CatchUp(ctx context.Context, from ring.HostID) error
	// Admit returns nil when this node may be read for a range, which may take until what it owes is in the store; ErrUnknownTable,
	// ErrNotOwner.
	Admit(ctx context.Context, table schema.Generation, rg ring.Range) error
}

// ServerOptions of NewServer.
type ServerOptions struct {
	Source   Source    // needed
	Members  Members   // needed
	Ledger   *Ledger   // needed
	Throttle *Throttle // of everything that is sent; nil: none
	// SessionsMax bounds the sessions, and with them the snapshots, that are open or being opened; default 16.
	SessionsMax int
	IdleAfter   time.Duration // a session that was not asked for so long is closed; default 30 s
	Logger      *slog.Logger  // nil: discard
}

// Server is the sending half: it answers other nodes' requests for ranges. It takes none before Run and after.
type Server struct {
	o ServerOptions

	mu       sync.Mutex      // not held while anything is waited for
	life     context.Context //nolint:containedctx // of Run: bounds what requests start; nil: not running
	counter  uint64
	sessions map[uint64]*session
	opening  int
	running  sync.WaitGroup
}

// NewServer returns a server that does nothing before Run.
func NewServer(o ServerOptions) *Server {
	if o.Throttle == nil {
		o.Throttle = NewThrottle(0)
	}
	if o.SessionsMax == 0 {
		o.SessionsMax = 16
	}
	if o.IdleAfter == 0 {
		o.IdleAfter = 30 * time.Second
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return &Server{o: o, sessions: map[uint64]*session{}}
}

// Run answers until ctx ends; it returns when all sessions are closed, their snapshots too.
func (s *Server) Run(ctx context.Context) error {
	s.mu.Lock()
	s.life = ctx
	s.mu.Unlock()
	<-ctx.Done()
	s.mu.Lock()
	s.life = nil
	s.mu.Unlock()
	s.running.Wait()
	return nil
}

// Sessions returns how many are open.
func (s *Server) Sessions() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.sessions)
}

// NewSession is for rpc's accepted connections. Streams end with the connection on which they were opened.
func (s *Server) NewSession(from ring.HostID) rpc.Session { return &conn{s: s, from: from} }

// conn is one connection.
type conn struct {
	s      *Server
	from   ring.HostID
	closed bool // guarded by s.mu
}

// Handle implements rpc.Session.
func (c *conn) Handle(req *rpc.Request, rsp rpc.Responder) {
	switch req.Verb {
	case VerbOpen:
		c.openSession(req, rsp)
	case VerbNext:
		c.next(req, rsp)
	case VerbClose:
		if id, err := decodeSession(req.Body); err == nil {
			c.s.stop(func(v *session) bool { return v.id == id && v.c == c })
		}
		rsp.Reply(rpc.StatusOK, nil)
	default:
		rsp.Reply(rpc.StatusUnknownVerb, nil)
	}
}

// Flush implements rpc.Session.
func (c *conn) Flush() {}

// Close implements rpc.Session.
func (c *conn) Close() {
	c.s.mu.Lock()
	c.closed = true
	c.s.mu.Unlock()
	c.s.stop(func(v *session) bool { return v.c == c })
}

// stop ends the sessions that match.
func (s *Server) stop(match func(*session) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, v := range s.sessions {
		if match(v) {
			v.cancel()
		}
	}
}

func (c *conn) openSession(req *rpc.Request, rsp rpc.Responder) {
	q, err := decodeOpen(req.Body)
	if err != nil {
		rsp.ReplyText(rpc.StatusBadRequest, err.Error())
		return
	}
	q.after = bytes.Clone(q.after)
	life, status := c.s.enter()
	if status != rpc.StatusOK {
		rsp.Reply(status, nil)
		return
	}
	epoch, deadline := req.Epoch, req.Deadline
	go func() {
		defer c.s.running.Done()
		v, status, why := c.openSnapshot(life, epoch, deadline, q)
		if v == nil {
			rsp.ReplyText(status, why)
			return
		}
		rsp.Reply(rpc.StatusOK, opened{v.id, v.snapshot.Bytes()}.append(nil))
		v.run()
	}()
}

// enter counts a session that is being opened; running.Done ends what begins here.
func (s *Server) enter() (life context.Context, status rpc.Status) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.life == nil || s.life.Err() != nil:
		return nil, rpc.StatusNotReady
	case s.opening+len(s.sessions) >= s.o.SessionsMax:
		return nil, rpc.StatusOverloaded
	}
	s.opening++
	s.running.Add(1)
	return s.life, rpc.StatusOK
}

// openSnapshot returns a session that is in the server's list; nil with the reason.
func (c *conn) openSnapshot(life context.Context, epoch uint64, deadline time.Time, q openRequest) (*session, rpc.Status, string) {
	s := c.s
	snapshot, status, why := c.admitted(life, epoch, deadline, q)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.opening--
	if status != rpc.StatusOK {
		return nil, status, why
	}
	s.counter++
	v := &session{s: s, c: c, id: s.counter, q: q, snapshot: snapshot, after: q.after, asks: make(chan rpc.Responder, asksMax)}
	v.life, v.cancel = context.WithCancel(life)
	if c.closed {
		v.cancel() // it closes at once
	}
	v.entry = s.o.Ledger.begin(Progress{Stream: q.stream, Peer: c.from, Outgoing: true, Table: q.table, Range: q.rg, Expected: int64(snapshot.Bytes())})
	s.sessions[v.id] = v
	return v, rpc.StatusOK, ""
}

// admitted opens the snapshot if this node may be read for the range, by metadata at least as new as the asker's.
func (c *conn) admitted(life context.Context, epoch uint64, deadline time.Time, q openRequest) (Snapshot, rpc.Status, string) {
	ctx, cancel := context.WithDeadline(life, deadline)
	defer cancel()
	m := c.s.o.Members
	if m.Epoch() < epoch {
		if err := m.CatchUp(ctx, c.from); err != nil || m.Epoch() < epoch {
			return nil, rpc.StatusWrongEpoch, fmt.Sprintf("metadata of epoch %d could not be had: %v", epoch, err)
		}
	}
	if err := m.Admit(ctx, q.table, q.rg); err != nil {
		return nil, statusOf(err), err.Error()
	}
	snapshot, err := c.s.o.Source.Snapshot(q.table, q.rg, q.registers)
	if err != nil {
		return nil, statusOf(err), err.Error()
	}
	return snapshot, rpc.StatusOK, ""
}

func statusOf(err error) rpc.Status {
	switch {
	case errors.Is(err, ErrUnknownTable):
		return rpc.StatusUnknownTable
	case errors.Is(err, ErrNotOwner):
		return rpc.StatusNotOwner
	case errors.Is(err, context.Canceled):
		return rpc.StatusNotReady
	}
	return rpc.StatusFailed
}

func (c *conn) next(req *rpc.Request, rsp rpc.Responder) {
	id, err := decodeSession(req.Body)
	if err != nil {
		rsp.ReplyText(rpc.StatusBadRequest, err.Error())
		return
	}
	if status := c.s.ask(c, id, rsp); status != rpc.StatusOK {
		rsp.Reply(status, nil)
	}
}

// ask queues a request for a piece.
func (s *Server) ask(c *conn, id uint64, rsp rpc.Responder) rpc.Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	v := s.sessions[id]
	if v == nil || v.c != c {
		return StatusNoSession
	}
	select {
	case v.asks <- rsp:
		return rpc.StatusOK
	default:
		return rpc.StatusOverloaded
	}
}

// session is one stream of this node to another. It belongs to the goroutine that run is on.
type session struct {
	s        *Server
	c        *conn
	id       uint64
	q        openRequest
	life     context.Context //nolint:containedctx // ends with the connection, and with the server
	cancel   context.CancelFunc
	snapshot Snapshot
	asks     chan rpc.Responder // sent to under s.mu while the session is in the list
	entry    *entry

	after  []byte // stream key behind which the next chunk begins
	done   bool   // there is none
	number uint64
	chunk  recordWriter
	rest   []byte // of the chunk; aliases it
	end    []byte // of the chunk
	began  bool   // a part of the chunk is to be sent
	added  int64  // records in the chunk
	out    []byte
}

// run answers until everything was sent, nobody asks, or life ends.
func (v *session) run() {
	defer v.leave()
	idle := time.NewTimer(v.s.o.IdleAfter)
	defer idle.Stop()
	for last := false; !last; {
		select {
		case rsp := <-v.asks:
			if last = v.answer(rsp); v.life.Err() != nil {
				return
			}
			idle.Reset(v.s.o.IdleAfter)
		case <-idle.C:
			v.s.o.Logger.Info("stream: nobody asks for more", "peer", v.c.from.String(), "table", uint32(v.q.table), "range", v.q.rg.String())
			return
		case <-v.life.Done():
			return
		}
	}
	v.entry.update(func(_ *Progress, total *Peer) { total.RangesOut++ })
}

// leave takes the session out of the list, so that no request comes any more, and answers those that wait.
func (v *session) leave() {
	v.s.mu.Lock()
	delete(v.s.sessions, v.id)
	v.s.mu.Unlock()
	v.cancel()
	v.entry.end()
	for len(v.asks) > 0 {
		(<-v.asks).Reply(StatusNoSession, nil)
	}
	if err := v.snapshot.Close(); err != nil {
		v.s.o.Logger.Error("stream: close snapshot", "err", err)
	}
}

// answer sends the next piece, and tells whether it was the last.
func (v *session) answer(rsp rpc.Responder) (last bool) {
	if !v.began {
		if err := v.read(); err != nil {
			rsp.ReplyText(statusOf(err), err.Error())
			v.cancel()
			return false
		}
	}
	p := v.piece()
	if !v.wait(len(p.records), rsp.Deadline()) {
		later := piece{flags: pieceLater}
		v.out = later.append(v.out[:0])
		rsp.Reply(rpc.StatusOK, v.out)
		return false
	}
	v.out = p.append(v.out[:0])
	rsp.Reply(rpc.StatusOK, v.out)
	v.sent(&p)
	return p.flags&pieceLast != 0
}

// read makes the next chunk.
func (v *session) read() error {
	v.chunk.reset()
	v.added = 0
	size := max(v.q.pieceSize, pieceBytesMin)
	end, done, err := v.snapshot.Scan(v.life, v.after, size, func(key, value []byte) error {
		v.added++
		return v.chunk.add(key, value)
	})
	if err != nil {
		v.s.o.Logger.Warn("stream: a range could not be read", "peer", v.c.from.String(), "table", uint32(v.q.table), "range", v.q.rg.String(), "err", err)
		return err
	}
	v.end, v.done, v.rest, v.began = end, done, v.chunk.buf, true
	return nil
}

// piece returns the next one of the chunk.
func (v *session) piece() piece {
	p := piece{number: v.number, records: v.rest}
	switch {
	case len(v.rest) > pieceBytesMax:
		p.flags, p.records = pieceMore, v.rest[:pieceBytesMax]
	case v.done:
		p.flags, p.end = pieceLast, v.end
	default:
		p.end = v.end
	}
	return p
}

// wait waits for the throttle; false: it would take too long for an answer by the deadline.
func (v *session) wait(n int, deadline time.Time) bool {
	now := time.Now()
	d, ok := v.s.o.Throttle.take(now, n, min(laterAfter, deadline.Sub(now)/2))
	if !ok {
		d = min(laterAfter, deadline.Sub(now)/2) // or asking and answering "later" would spin
	}
	if d > 0 {
		t := time.NewTimer(d)
		defer t.Stop()
		select {
		case <-t.C:
		case <-v.life.Done():
			return false
		}
	}
	return ok
}

// sent goes on to the next piece.
func (v *session) sent(p *piece) {
	v.number++
	v.rest = v.rest[len(p.records):]
	if v.began = p.flags&pieceMore != 0; !v.began && len(v.end) > 0 {
		v.after = v.end
	}
	v.entry.update(func(g *Progress, total *Peer) {
		g.Bytes += int64(len(p.records))
		total.BytesOut += int64(len(p.records))
		if !v.began {
			g.Records += v.added
		}
	})
}
