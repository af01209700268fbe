package rpc

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/helenusdb/helenus/ring"
)

// Transport carries the messages of one node. All methods may be used from any goroutine.
type Transport struct {
	opt     Options
	base    time.Time // zero of the transport's clock
	metrics Metrics
	pool    sync.Pool // of *call

	links atomic.Pointer[linkMap] // replaced under mu

	mu      sync.Mutex
	begun   bool // Run has been called
	running bool
	spawn   []*link // that Run shall start
	inbound map[inboundKey]*accepted
	wake    chan struct{} // capacity 1: spawn is not empty
}

type linkMap map[ring.HostID]*[classes]*link

// inboundKey identifies the one accepted connection that a peer has per class.
type inboundKey struct {
	from  ring.HostID
	class Class
}

// New checks the options and returns a transport that neither does I/O nor runs a goroutine before Run.
func New(opt Options) (*Transport, error) {
	opt = opt.withDefaults()
	if err := opt.validate(); err != nil {
		return nil, err
	}
	t := &Transport{opt: opt, base: time.Now(), inbound: map[inboundKey]*accepted{}, wake: make(chan struct{}, 1)}
	t.links.Store(&linkMap{})
	t.pool.New = func() any { return &call{t: t, done: make(chan struct{}, 1)} }
	return t, nil
}

// now returns the time on the transport's own clock, which never jumps.
func (t *Transport) now() int64 { return int64(time.Since(t.base)) }

// at converts a time of the transport's clock.
func (t *Transport) at(ns int64) time.Time { return t.base.Add(time.Duration(ns)) }

// Metrics returns the counters of t.
func (t *Transport) Metrics() *Metrics { return &t.metrics }

// Send queues a request for a host and returns; it never blocks. The body is copied before Send returns. cb is
// called exactly once; when the request cannot be queued that happens before Send returns, so cb must not take a
// lock that the caller of Send holds. A nil cb makes it a one-way message: nobody learns whether it arrived, and it
// is dropped when it cannot be queued. A zero deadline means Options.Timeout from now.
func (t *Transport) Send(to ring.HostID, class Class, verb Verb, deadline time.Time, body []byte, cb Callback) {
	if err := t.send(to, class, verb, 0, deadline, body, cb); err != nil && cb != nil {
		cb.Done(&Response{From: to, Verb: verb, Err: err})
	}
}

func (t *Transport) send(to ring.HostID, class Class, verb Verb, flags uint8, deadline time.Time, body []byte, cb Callback) *Error {
	if len(body) > BodyMax {
		return &Error{To: to, Class: class, Cause: ErrTooLarge}
	}
	l, err := t.link(to, class)
	if err != nil {
		return err
	}
	at := int64(deadline.Sub(t.base))
	if deadline.IsZero() {
		at = t.now() + int64(t.opt.Timeout)
	}
	return l.send(verb, flags, max(at, 1), body, cb)
}

// link returns the link to a host, a new one when its address is known.
func (t *Transport) link(to ring.HostID, class Class) (*link, *Error) {
	if ls := (*t.links.Load())[to]; ls != nil {
		return ls[class], nil
	}
	if _, ok := t.opt.Resolve(to); !ok {
		return nil, &Error{To: to, Class: class, Cause: ErrNoAddress}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if ls := (*t.links.Load())[to]; ls != nil {
		return ls[class], nil
	}
	ls := new([classes]*link)
	for c := range ls {
		ls[c] = newLink(t, to, Class(c))
	}
	m := maps.Clone(*t.links.Load())
	m[to] = ls
	t.links.Store(&m)
	return ls[class], nil
}

// Forget closes the connections to a host that has left the cluster; outstanding calls fail.
func (t *Transport) Forget(id ring.HostID) {
	t.mu.Lock()
	m := maps.Clone(*t.links.Load())
	ls := m[id]
	delete(m, id)
	t.links.Store(&m)
	t.mu.Unlock()
	if ls == nil {
		return
	}
	for _, l := range ls {
		l.forget()
	}
}

// Nudge ends the pause between two attempts to reach a host, for example because gossip sees it alive.
func (t *Transport) Nudge(id ring.HostID) {
	ls := (*t.links.Load())[id]
	if ls == nil {
		return
	}
	for _, l := range ls {
		l.mu.Lock()
		down := l.down != nil
		l.mu.Unlock()
		if down {
			l.signal()
		}
	}
}

// start hands a link to Run, which starts its goroutine; false when Run is not running.
func (t *Transport) start(l *link) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.running {
		return false
	}
	t.spawn = append(t.spawn, l)
	select {
	case t.wake <- struct{}{}:
	default:
	}
	return true
}

// spawned returns the links that wait for their goroutine.
func (t *Transport) spawned() []*link {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := t.spawn
	t.spawn = nil
	return out
}

// Run opens the listener, accepts connections and dials those that Send asks for, until ctx ends; then all
// connections are closed, outstanding calls fail with ErrClosed, and Run returns when every goroutine has. The
// error is that of the listener, nil when ctx ended. A transport runs once.
func (t *Transport) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	defer wg.Wait()
	failed, err := t.begin(ctx, &wg)
	if err != nil {
		return err
	}
	defer t.end()
	defer cancel()
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-failed:
			return err
		case <-t.wake:
		}
		for _, l := range t.spawned() {
			ctx, cancel := context.WithCancel(ctx)
			l.adopt(cancel)
			wg.Go(func() {
				defer cancel()
				l.run(ctx)
			})
		}
	}
}

// begin opens the listener and lets sends through. failed delivers the error that ends accepting.
func (t *Transport) begin(ctx context.Context, wg *sync.WaitGroup) (failed chan error, err error) {
	t.mu.Lock()
	again := t.begun
	t.begun = true
	t.mu.Unlock()
	if again {
		return nil, errors.New("rpc: a transport runs only once")
	}
	failed = make(chan error, 1)
	if t.opt.Listen != nil {
		l, err := t.opt.Listen(ctx)
		if err != nil {
			return nil, fmt.Errorf("rpc: listen: %w", err)
		}
		wg.Go(func() { failed <- t.accept(ctx, l) })
	}
	t.mu.Lock()
	t.running = true
	t.mu.Unlock()
	return failed, nil
}

// end turns later sends away, and those whose link was not started yet.
func (t *Transport) end() {
	t.mu.Lock()
	t.running = false
	t.mu.Unlock()
	for _, l := range t.spawned() {
		l.close()
	}
}

// Peer is the state of the connection to one peer in one class.
type Peer struct {
	ID         ring.HostID
	Class      Class
	Addr       string // dialed last
	State      string // "idle", "connecting", "connected" or "down"
	InFlight   int    // calls without an answer
	QueueBytes int    // bytes that wait for the writer
	Err        error  // why it is down
}

// Peers returns the links that exist, sorted by host id and class.
func (t *Transport) Peers() []Peer {
	var out []Peer
	for _, ls := range *t.links.Load() {
		for _, l := range ls {
			out = append(out, l.peer())
		}
	}
	slices.SortFunc(out, func(a, b Peer) int {
		if c := a.ID.Compare(b.ID); c != 0 {
			return c
		}
		return int(a.Class) - int(b.Class)
	})
	return out
}

func (l *link) peer() Peer {
	p := Peer{ID: l.to, Class: l.class, State: "idle"}
	l.mu.Lock()
	p.Addr = l.addr
	if l.down != nil {
		p.State, p.Err = "down", l.down
	}
	l.mu.Unlock()
	if d := l.cur.Load(); d != nil {
		p.State = "connecting"
		d.mu.Lock()
		if d.up {
			p.State = "connected"
		}
		p.InFlight, p.QueueBytes = d.calls.active, d.q.bytes
		d.mu.Unlock()
	}
	return p
}
