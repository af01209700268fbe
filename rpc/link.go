package rpc

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/helenusdb/helenus/ring"
)

// settled is how long a connection must have lived for its end not to count as a failed dial.
const settled = 5 * time.Second

// link is the way to one peer in one class: at most one dialed connection at a time, and what happens between two
// of them. Its goroutine is started by the transport's Run when the first request wants it, and lives until then.
type link struct {
	t     *Transport
	to    ring.HostID
	class Class

	cur  atomic.Pointer[dialed] // nil: none; changed under mu
	kick chan struct{}          // capacity 1: cur has been made, or the backoff shall end

	mu      sync.Mutex
	started bool
	cancel  context.CancelFunc // ends the goroutine; nil before Run has started it
	closed  bool
	addr    string // dialed last
	down    *Error // while set sends fail with it at once
	wanted  int64  // time of the last send that failed at once, or of the last use of a connection

	jitter *rand.Rand // the goroutine's
}

func newLink(t *Transport, to ring.HostID, class Class) *link {
	var seed xxhash.Digest
	seed.Write(t.opt.Self[:])
	seed.Write(to[:])
	return &link{t: t, to: to, class: class, kick: make(chan struct{}, 1),
		jitter: rand.New(rand.NewPCG(seed.Sum64(), uint64(class)))}
}

// send queues a request on the current connection, or makes one.
func (l *link) send(verb Verb, flags uint8, deadline int64, body []byte, cb Callback) *Error {
	for {
		d := l.cur.Load()
		if d == nil {
			var err *Error
			if d, err = l.connect(); err != nil {
				l.t.metrics.class(l.class).Unreachable.Add(1)
				return err
			}
		}
		switch d.send(verb, flags, deadline, body, cb) {
		case queued:
			return nil
		case full:
			l.t.metrics.class(l.class).Overloaded.Add(1)
			return l.error(ErrOverloaded, nil)
		case gone:
			l.retire(d)
		}
	}
}

func (l *link) error(cause, detail error) *Error {
	return &Error{To: l.to, Class: l.class, Cause: cause, Err: detail}
}

// connect returns the current connection, a new one that the goroutine will dial, or why there is none.
func (l *link) connect() (*dialed, *Error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, l.error(ErrClosed, nil)
	}
	if d := l.cur.Load(); d != nil {
		return d, nil
	}
	l.wanted = l.t.now()
	if l.down != nil {
		return nil, l.down
	}
	d := newDialed(l.t, l.to, l.class)
	l.cur.Store(d)
	if !l.started {
		if l.started = l.t.start(l); !l.started {
			l.cur.Store(nil)
			return nil, l.error(ErrClosed, nil)
		}
	}
	l.signal()
	return d, nil
}

// signal wakes the goroutine.
func (l *link) signal() {
	select {
	case l.kick <- struct{}{}:
	default:
	}
}

// retire forgets a connection that has failed.
func (l *link) retire(d *dialed) {
	l.mu.Lock()
	l.cur.CompareAndSwap(d, nil)
	l.mu.Unlock()
}

// adopt tells the link how to end its goroutine, which is about to start.
func (l *link) adopt(cancel context.CancelFunc) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cancel = cancel
	if l.closed {
		cancel()
	}
}

// forget ends the link for good.
func (l *link) forget() {
	l.mu.Lock()
	l.closed = true
	cancel := l.cancel
	l.mu.Unlock()
	if cancel != nil {
		cancel()
	}
}

// run dials when there is demand and keeps the connection, until ctx ends.
func (l *link) run(ctx context.Context) {
	defer l.close()
	failures := 0
	for ctx.Err() == nil {
		d := l.cur.Load()
		if d == nil {
			if !l.pause(ctx, failures) {
				return
			}
			if d = l.next(); d == nil {
				failures = 0
				continue
			}
		}
		if l.live(ctx, d) {
			failures = 0
		} else {
			failures++
		}
	}
}

// pause waits for a request after success, or for the end of the backoff; false when ctx ended.
func (l *link) pause(ctx context.Context, failures int) bool {
	if failures == 0 {
		select {
		case <-l.kick:
			return true
		case <-ctx.Done():
			return false
		}
	}
	timer := time.NewTimer(l.backoff(failures))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-l.kick:
	case <-ctx.Done():
		return false
	}
	return true
}

// backoff returns the pause after so many failures in a row: doubled each time, between half of it and all of it.
func (l *link) backoff(failures int) time.Duration {
	full := l.t.opt.BackoffMax
	if shift := failures - 1; shift < 20 && l.t.opt.BackoffMin<<shift < full {
		full = l.t.opt.BackoffMin << shift
	}
	return full/2 + time.Duration(l.jitter.Float64()*float64(full/2))
}

// next returns the connection to dial: the one that a request waits on, or one for the background redial while
// somebody wants it. nil ends the redialing, and with it the immediate failures.
func (l *link) next() *dialed {
	l.mu.Lock()
	defer l.mu.Unlock()
	if d := l.cur.Load(); d != nil {
		return d
	}
	if l.down == nil {
		return nil
	}
	if l.t.now()-l.wanted > int64(l.t.opt.RedialFor) {
		l.down = nil
		return nil
	}
	return newDialed(l.t, l.to, l.class) // not in cur: until it is up, sends fail at once
}

// live dials d and serves it to its end; it returns whether that was a good connection.
func (l *link) live(ctx context.Context, d *dialed) bool {
	conn, err := l.dial(ctx, d)
	if err != nil {
		l.lost(ctx, d, err, true)
		return false
	}
	l.up(d)
	begin := l.t.now()
	err = l.keep(ctx, d, conn)
	good := l.t.now()-begin >= int64(settled) || errors.Is(err, errIdle)
	l.lost(ctx, d, err, !good)
	return good
}

// up makes d the connection that requests use.
func (l *link) up(d *dialed) {
	l.mu.Lock()
	l.down = nil
	l.cur.Store(d)
	addr := l.addr
	l.mu.Unlock()
	d.mu.Lock()
	d.up = true
	d.mu.Unlock()
	l.t.metrics.OpenOut.Add(1)
	l.t.opt.Logger.Info("rpc: connected", "to", l.to, "class", l.class.String(), "addr", addr)
}

// lost ends d. With failed set requests fail at once from now on, until a dial succeeds.
func (l *link) lost(ctx context.Context, d *dialed, err error, failed bool) {
	cause := causeOf(err)
	if ctx.Err() != nil {
		cause, err, failed = ErrClosed, nil, false
	}
	l.mu.Lock()
	l.cur.CompareAndSwap(d, nil)
	news := l.down == nil || !errors.Is(l.down.Cause, cause)
	var early *dialed // made by a sender after d had failed and before this was known here
	down := l.error(cause, err)
	if errors.Is(cause, ErrConnLost) {
		down.Cause = ErrUnreachable
	}
	if failed {
		l.down = down
		early = l.cur.Load()
		l.cur.Store(nil)
		select {
		case <-l.kick:
		default:
		}
	}
	addr := l.addr
	l.mu.Unlock()
	d.fail(cause, err)
	if early != nil {
		early.fail(down.Cause, err)
	}
	if news && ctx.Err() == nil && !errors.Is(err, errIdle) {
		l.t.opt.Logger.Warn("rpc: no connection", "to", l.to, "class", l.class.String(), "addr", addr,
			"cause", cause.Error(), "err", err)
	}
}

// causeOf returns the Err variable that describes why a dial failed or a connection ended.
func causeOf(err error) error {
	for _, cause := range []error{ErrRefused, ErrNoAddress, ErrNoCluster, ErrConnLost} {
		if errors.Is(err, cause) {
			return cause
		}
	}
	return ErrUnreachable
}

// dial connects while it expires the calls that wait for it.
func (l *link) dial(ctx context.Context, d *dialed) (net.Conn, error) {
	type result struct {
		conn net.Conn
		err  error
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	done := make(chan result, 1)
	go func() {
		conn, err := l.greet(ctx)
		done <- result{conn, err}
	}()
	timer := time.NewTimer(d.tick())
	defer timer.Stop()
	for {
		select {
		case r := <-done:
			if r.err != nil {
				l.t.metrics.DialErrors.Add(1)
			}
			return r.conn, r.err
		case <-d.rearm:
			timer.Reset(d.tick())
		case <-timer.C:
			timer.Reset(d.tick())
		}
	}
}

// greet resolves, dials and shakes hands.
func (l *link) greet(ctx context.Context) (net.Conn, error) {
	addr, ok := l.t.opt.Resolve(l.to)
	if !ok {
		return nil, ErrNoAddress
	}
	l.mu.Lock()
	l.addr = addr
	l.mu.Unlock()
	h := &hello{version: versionMax, mode: modeConnect, class: l.class, cluster: l.t.opt.ClusterID(),
		from: l.t.opt.Self, to: l.to, epoch: l.t.opt.Epoch()}
	if h.cluster == [16]byte{} {
		return nil, ErrNoCluster
	}
	conn, r, err := l.t.greet(ctx, addr, h)
	if err != nil {
		return nil, err
	}
	if r.epoch > h.epoch && l.t.opt.OnEpoch != nil {
		l.t.opt.OnEpoch(l.to, r.epoch)
	}
	return conn, nil
}

var errIdle = fmt.Errorf("%w: idle", ErrConnLost)

// keep serves a connection, expires its calls and closes it when it has been idle too long or ctx ends.
func (l *link) keep(ctx context.Context, d *dialed, conn net.Conn) error {
	done := make(chan struct{})
	go func() {
		defer close(done)
		d.serve(conn)
	}()
	defer l.t.metrics.OpenOut.Add(-1)
	timer := time.NewTimer(d.tick())
	defer timer.Stop()
	idle := idleWatch{since: l.t.now()}
	for {
		select {
		case <-done:
			l.t.metrics.class(l.class).Lost.Add(1)
			return fmt.Errorf("%w: %w", ErrConnLost, d.err)
		case <-ctx.Done():
			d.fail(ErrClosed, nil)
			hangUp(conn)
			<-done
			return ErrClosed
		case <-d.rearm:
		case <-timer.C:
			if idle.over(d, l.t.now(), int64(l.t.opt.IdleAfter)) {
				d.fail(ErrConnLost, errIdle)
				hangUp(conn)
				<-done
				return errIdle
			}
		}
		timer.Reset(d.tick())
	}
}

// idleWatch notices that no request has been sent for a while.
type idleWatch struct {
	sends uint64
	since int64
}

func (w *idleWatch) over(d *dialed, now, limit int64) bool {
	d.mu.Lock()
	sends, active := d.sends, d.calls.active
	d.mu.Unlock()
	if sends != w.sends || active > 0 {
		w.sends, w.since = sends, now
	}
	return now-w.since >= limit
}

// close turns later sends away and fails the calls of a connection that has not been dialed.
func (l *link) close() {
	l.mu.Lock()
	l.closed = true
	d := l.cur.Load()
	l.cur.Store(nil)
	l.mu.Unlock()
	if d != nil {
		d.fail(ErrClosed, nil)
	}
}
