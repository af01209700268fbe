package gossip

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/helenusdb/helenus/ring"
)

// ErrNotRunning is returned by what needs the network before Run has bound its address or after it has ended.
var ErrNotRunning = errors.New("gossip: not running")

// ErrNotEncrypted is returned by SetKeys when the node was started without keys.
var ErrNotEncrypted = errors.New("gossip: started without encryption keys")

// Gossip is the local node's view of who is alive, kept by memberlist. It implements Detector. Before Run it knows only
// itself.
type Gossip struct {
	opts    Options
	log     *slog.Logger
	keyring *memberlist.Keyring // nil: no encryption
	snap    atomic.Pointer[snapshot]
	meta    atomic.Pointer[[]byte] // encoded facts of the local node
	ready   chan struct{}

	changed chan struct{} // capacity 1: view.dirty or view.rival is not empty
	updated chan struct{} // capacity 1: meta has changed
	rejoin  chan struct{} // capacity 1: do a round now

	// mu guards what follows. It is taken inside memberlist's callbacks, hence under memberlist's locks: nothing is
	// called and nothing waits while it is held.
	mu       sync.Mutex
	view     *view
	lastTick time.Time
	contacts []*contact
	cursor   int // where the next round of rejoin starts
	ml       *memberlist.Memberlist
	state    runState
	users    sync.WaitGroup // callers inside ml; Add only while state is running
}

type runState uint8

const (
	idle runState = iota
	running
	stopped
)

// New returns a Gossip that does nothing yet. It returns ErrOptions or ErrMeta, wrapped.
func New(o Options) (*Gossip, error) {
	o = o.withDefaults()
	if err := o.validate(); err != nil {
		return nil, err
	}
	g := &Gossip{
		opts: o, log: o.Logger.With("component", "gossip"), ready: make(chan struct{}),
		changed: make(chan struct{}, 1), updated: make(chan struct{}, 1), rejoin: make(chan struct{}, 1),
	}
	if len(o.Keys) > 0 {
		keyring, err := memberlist.NewKeyring(o.Keys, o.Keys[0])
		if err != nil {
			return nil, fmt.Errorf("%w: keys: %w", ErrOptions, err)
		}
		g.keyring = keyring
	}
	self := State{ID: o.HostID, Generation: o.Generation, Addr: o.Advertise, Meta: o.Meta, Alive: true, Since: o.Now()}
	g.view = newView(self, o.MembersMax)
	g.snap.Store(g.view.snapshot())
	encoded := AppendMeta(nil, o.Meta)
	g.meta.Store(&encoded)
	for _, s := range o.Seeds {
		g.contacts = append(g.contacts, &contact{text: s})
	}
	return g, nil
}

// Run binds the address, gossips until ctx ends and returns nil then, or the error that kept it from starting. It may
// be called once. It returns after its own goroutines have; memberlist's end on their own right after. Ending ctx alone
// looks like a crash to others: call Leave before.
func (g *Gossip) Run(ctx context.Context) error {
	ml, err := g.start()
	if err != nil {
		return err
	}
	close(g.ready)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	for _, loop := range []func(context.Context){g.dispatchLoop, g.tickLoop, g.rejoinLoop, g.updateLoop} {
		wg.Go(func() { loop(ctx) })
	}
	<-ctx.Done()
	wg.Wait()
	g.mu.Lock()
	g.state = stopped
	g.mu.Unlock()
	g.users.Wait()
	if err := ml.Shutdown(); err != nil {
		return fmt.Errorf("gossip: shut down: %w", err)
	}
	return nil
}

func (g *Gossip) start() (*memberlist.Memberlist, error) {
	g.mu.Lock()
	first := g.state == idle && g.ml == nil
	g.lastTick = g.opts.Now()
	g.mu.Unlock()
	if !first {
		return nil, errors.New("gossip: Run was called before")
	}
	conf := g.opts.memberlistConfig()
	conf.Keyring = g.keyring
	conf.Logger = newLogger(g.log)
	conf.Delegate, conf.Events, conf.Alive = delegate{g}, delegate{g}, delegate{g}
	transport, err := listen(conf, g.opts.filter)
	if err != nil {
		return nil, fmt.Errorf("gossip: bind %s: %w", g.opts.Bind, err)
	}
	conf.Transport = transport
	ml, err := memberlist.Create(conf)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("gossip: start: %w", err), transport.Shutdown())
	}
	addr, _ := nodeAddr(ml.LocalNode())
	g.mu.Lock()
	defer g.mu.Unlock()
	g.ml, g.state = ml, running
	g.view.self.Addr = addr
	g.snap.Store(g.view.snapshot())
	return ml, nil
}

// use returns memberlist and a function to call when done with it; nil if Run is not in between start and end.
func (g *Gossip) use() (*memberlist.Memberlist, func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.state != running {
		return nil, nil
	}
	g.users.Add(1)
	return g.ml, g.users.Done
}

// Ready is closed when Run has bound its address.
func (g *Gossip) Ready() <-chan struct{} { return g.ready }

// Addr returns the address that others are told, once Ready is closed.
func (g *Gossip) Addr() netip.AddrPort {
	st, _ := g.State(g.opts.HostID)
	return st.Addr
}

// Alive implements Detector. The local node is always alive.
func (g *Gossip) Alive(id ring.HostID) bool { return g.snap.Load().alive(id) }

// State implements Detector.
func (g *Gossip) State(id ring.HostID) (State, bool) { return g.snap.Load().state(id) }

// Members implements Detector; the local node is one of them.
func (g *Gossip) Members() []State { return slices.Clone(g.snap.Load().states) }

// Health returns memberlist's score of how badly this node itself keeps up with the protocol: 0 is good, 7 is worst.
func (g *Gossip) Health() int {
	ml, done := g.use()
	if ml == nil {
		return 0
	}
	defer done()
	return ml.GetHealthScore()
}

// UpdateMeta replaces the local node's facts and spreads them soon; a burst of updates is spread once. It returns
// ErrMeta, wrapped.
func (g *Gossip) UpdateMeta(m NodeMeta) error {
	if err := m.Validate(); err != nil {
		return err
	}
	if g.setMeta(func(NodeMeta) NodeMeta { return m }) {
		nudge(g.updated)
	}
	return nil
}

func (g *Gossip) setMeta(f func(NodeMeta) NodeMeta) (changed bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	old := g.view.self.Meta
	g.view.self.Meta = f(old)
	encoded := AppendMeta(nil, g.view.self.Meta)
	g.meta.Store(&encoded)
	g.snap.Store(g.view.snapshot())
	return g.view.self.Meta != old
}

// SetKeys replaces the encryption keys, the first one encrypting from now on. To rotate, first add the new key as the
// last one everywhere, then make it the first everywhere, then drop the old one.
func (g *Gossip) SetKeys(keys [][]byte) error {
	if g.keyring == nil {
		return ErrNotEncrypted
	}
	if len(keys) == 0 {
		return fmt.Errorf("%w: no keys", ErrOptions)
	}
	for _, k := range keys {
		if err := g.keyring.AddKey(k); err != nil {
			return fmt.Errorf("%w: %w", ErrOptions, err)
		}
	}
	if err := g.keyring.UseKey(keys[0]); err != nil {
		return fmt.Errorf("gossip: use key: %w", err)
	}
	for _, old := range g.keyring.GetKeys() {
		if slices.ContainsFunc(keys, func(k []byte) bool { return slices.Equal(k, old) }) {
			continue
		}
		if err := g.keyring.RemoveKey(old); err != nil {
			return fmt.Errorf("gossip: remove key: %w", err)
		}
	}
	return nil
}

// Forget drops a node that has left the cluster for good, so that nobody contacts its address any more. Should it
// gossip again it is known again.
func (g *Gossip) Forget(id ring.HostID) {
	g.change(func(v *view, _ time.Time) { v.forget(id) })
}

// Leave tells the others that this node shuts down, so that they see it as down at once, and waits until some have been
// told, ctx ends or 2 s have passed. First the facts say Draining, which is how a farewell differs from a conviction.
// Gossip goes on until Run's context ends, but the node stays down.
func (g *Gossip) Leave(ctx context.Context) error {
	ml, done := g.use()
	if ml == nil {
		return ErrNotRunning
	}
	defer done()
	ctx, cancel := context.WithTimeout(ctx, updateTimeout)
	defer cancel()
	g.setMeta(func(m NodeMeta) NodeMeta {
		m.Phase = Draining
		return m
	})
	if err := ml.UpdateNode(remaining(ctx)); err != nil {
		g.log.Debug("facts are spreading slowly", "error", err)
	}
	if err := ml.Leave(remaining(ctx)); err != nil {
		return fmt.Errorf("gossip: leave: %w", err)
	}
	return nil
}

// remaining returns the time until ctx's deadline, at least 1 ms because memberlist takes 0 for no limit.
func remaining(ctx context.Context) time.Duration {
	deadline, _ := ctx.Deadline()
	return max(time.Until(deadline), time.Millisecond)
}

// change applies f to the view, publishes the result and wakes the dispatcher.
func (g *Gossip) change(f func(v *view, now time.Time)) {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := g.opts.Now()
	if gap := now.Sub(g.lastTick); g.state == running && gap > g.opts.PauseMin {
		g.view.hold(now.Add(g.opts.PauseGrace)) // the pause ended just now and the ticker has not run yet
	}
	f(g.view, now)
	if len(g.view.dirty) > 0 {
		g.snap.Store(g.view.snapshot())
		nudge(g.changed)
	}
	if g.view.rival != nil {
		nudge(g.changed)
	}
}

func nudge(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// dispatchLoop delivers events one at a time, without a lock.
func (g *Gossip) dispatchLoop(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-g.changed:
		}
		for g.deliverOne() && ctx.Err() == nil {
		}
	}
}

func (g *Gossip) deliverOne() bool {
	g.mu.Lock()
	old, known, now, ok := g.view.next()
	rival, superseded := g.view.takeRival()
	g.mu.Unlock()
	if superseded {
		g.log.Error("another process uses this host id with a newer generation", "generation", rival.Generation, "address", rival.Addr)
		call(g.opts.Events.Superseded, rival)
	}
	if !ok {
		return superseded
	}
	if !known || old.Alive != now.Alive || old.Generation != now.Generation {
		g.log.Info("node changed", "host", now.ID, "generation", now.Generation, "address", now.Addr, "alive", now.Alive, "left", now.Left)
	}
	g.opts.Events.deliver(old, known, now)
	return true
}

// tickLoop measures its own lateness: a tick that comes much too late means that the whole process stood still, and
// whatever timers conclude right after that is about the past.
func (g *Gossip) tickLoop(ctx context.Context) {
	t := time.NewTicker(tickInterval)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		var gap time.Duration
		g.change(func(v *view, now time.Time) {
			gap = now.Sub(g.lastTick)
			g.lastTick = now
			v.tick(now)
		})
		if gap > g.opts.PauseMin {
			g.log.Warn("process was paused; convictions are held", "pause", gap, "grace", g.opts.PauseGrace)
			nudge(g.rejoin)
		}
	}
}

// updateLoop spreads changed facts.
func (g *Gossip) updateLoop(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-g.updated:
		}
		if err := g.ml.UpdateNode(updateTimeout); err != nil {
			g.log.Debug("facts are spreading slowly", "error", err)
		}
	}
}
