package sim

import (
	"context"
	"sync"
	"time"

	"github.com/helenusdb/helenus/gossip"
	"github.com/helenusdb/helenus/ring"
)

// Times of the deterministic failure detector. Each observer draws its own for each conviction, within these bounds, which are
// those of package gossip's defaults, and looks at everybody about every watchEvery.
const (
	watchEvery    = 250 * time.Millisecond
	convictMin    = 3 * time.Second
	convictMax    = 7 * time.Second
	forgiveMin    = 200 * time.Millisecond
	forgiveMax    = 1500 * time.Millisecond
	goodbyeWithin = time.Second
)

// grapevine is what all detectors of a run hear of one another: who runs, and what each says about itself. A detector hears
// another one when the path from there to here is open, whatever the way back is, so that a path that is cut in one direction
// gives two opinions.
type grapevine struct {
	seed  draw
	hosts int
	heard func(from, to int) bool // whether what host from says reaches host to now

	mu    sync.Mutex
	lives map[int]*detector // by host: the life that runs
}

func newGrapevine(seed draw, hosts int, heard func(from, to int) bool) *grapevine {
	return &grapevine{seed: seed.of("grapevine"), hosts: hosts, heard: heard, lives: map[int]*detector{}}
}

// detector is the failure detector of one life of a node.
type detector struct {
	vine  *grapevine
	host  int
	opts  gossip.Options
	view  *gossip.Static
	ready chan struct{}

	mu    sync.Mutex
	state gossip.State // what this node says of itself
	past  map[int]*opinion
	looks uint64
}

// opinion is what an observer remembers of another host. The observer's goroutine owns it.
type opinion struct {
	id         ring.HostID
	generation int64
	alive      bool
	turning    time.Time // since when the evidence is against the opinion; zero: it is not
	delay      time.Duration
	times      uint64 // changes of opinion
}

func (v *grapevine) detector(host int, o gossip.Options) *detector {
	d := &detector{vine: v, host: host, opts: o, ready: make(chan struct{}), past: map[int]*opinion{}}
	d.state = gossip.State{ID: o.HostID, Generation: o.Generation, Addr: o.Advertise, Meta: o.Meta, Alive: true, Since: time.Now()}
	d.view = gossip.NewStatic(o.Events, d.state)
	return d
}

// Run implements node.Detector.
func (d *detector) Run(ctx context.Context) error {
	d.vine.enter(d)
	defer d.vine.exit(d)
	d.look()
	close(d.ready)
	timer := time.NewTimer(d.pause())
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
			d.look()
			timer.Reset(d.pause())
		}
	}
}

// pause is the time until the next look: nearly the same each time, but never the nanosecond of another event.
func (d *detector) pause() time.Duration {
	d.looks++
	return watchEvery + time.Duration(d.vine.seed.of("look", uint64(d.host), uint64(d.opts.Generation), d.looks).below(int64(watchEvery/10)))
}

func (v *grapevine) enter(d *detector) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.lives[d.host] = d
}

func (v *grapevine) exit(d *detector) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.lives[d.host] == d {
		delete(v.lives, d.host)
	}
}

// drop takes a life that has crashed out, so that nobody hears of it any more.
func (v *grapevine) drop(host int) {
	v.mu.Lock()
	defer v.mu.Unlock()
	delete(v.lives, host)
}

// hear returns what a host says to another one now.
func (v *grapevine) hear(from, to int) (st gossip.State, ok bool) {
	v.mu.Lock()
	d := v.lives[from]
	v.mu.Unlock()
	if d == nil || !v.heard(from, to) {
		return st, false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.state, true
}

// look hears everybody and changes opinions that the evidence has spoken against for long enough.
func (d *detector) look() {
	for host := range d.vine.hosts {
		if host == d.host {
			continue
		}
		st, heard := d.vine.hear(host, d.host)
		d.judge(host, st, heard)
	}
}

func (d *detector) judge(host int, st gossip.State, heard bool) {
	o := d.past[host]
	switch {
	case o == nil && !heard:
		return
	case o == nil || heard && o.generation != st.Generation: // met for the first time, or a new life: believed at once
		times := uint64(0)
		if o != nil {
			times = o.times
		}
		o = &opinion{id: st.ID, generation: st.Generation, alive: st.Alive, times: times + 1}
		d.past[host] = o
		d.tell(st, st.Alive)
		return
	case heard && st.Left && o.alive: // it has said goodbye
		o.alive = false
		d.tell(st, false)
		return
	case heard == o.alive || heard && st.Left:
		o.turning = time.Time{}
		if heard && o.alive {
			d.tell(st, true)
		}
		return
	}
	d.turn(host, o, st, heard)
}

// turn counts the time that the evidence is against the opinion, and changes it in the end.
func (d *detector) turn(host int, o *opinion, st gossip.State, heard bool) {
	now := time.Now()
	if o.turning.IsZero() {
		o.turning, o.delay = now, d.delay(host, o, heard)
	}
	if now.Sub(o.turning) < o.delay {
		return
	}
	o.turning, o.alive = time.Time{}, heard
	o.times++
	if !heard {
		known, ok := d.view.State(o.id)
		if !ok {
			return
		}
		st = known
	}
	d.tell(st, heard)
}

func (d *detector) delay(host int, o *opinion, forgive bool) time.Duration {
	k := d.vine.seed.of("delay", uint64(d.host), uint64(d.opts.Generation), uint64(host), o.times)
	if forgive {
		return forgiveMin + time.Duration(k.below(int64(forgiveMax-forgiveMin)))
	}
	return convictMin + time.Duration(k.below(int64(convictMax-convictMin)))
}

// tell makes it the node's belief.
func (d *detector) tell(st gossip.State, alive bool) {
	old, known := d.view.State(st.ID)
	if st.Alive = alive; known && old.Alive == alive && old.Generation == st.Generation {
		st.Since = old.Since
	} else {
		st.Since = d.opts.Now()
	}
	if known && old == st {
		return
	}
	d.view.Set(st)
}

// Ready implements node.Detector.
func (d *detector) Ready() <-chan struct{} { return d.ready }

// Alive implements gossip.Detector.
func (d *detector) Alive(id ring.HostID) bool { return d.view.Alive(id) }

// State implements gossip.Detector.
func (d *detector) State(id ring.HostID) (gossip.State, bool) { return d.view.State(id) }

// Members implements gossip.Detector.
func (d *detector) Members() []gossip.State { return d.view.Members() }

// Join implements node.Detector: whoever can be heard was heard when Run began.
func (d *detector) Join(context.Context, []string) (int, error) {
	return len(d.view.Members()) - 1, nil
}

// SetPeers implements node.Detector.
func (d *detector) SetPeers([]string) {}

// Forget implements node.Detector: nobody is contacted by address here.
func (d *detector) Forget(ring.HostID) {}

// UpdateMeta implements node.Detector; the others hear it when they look.
func (d *detector) UpdateMeta(m gossip.NodeMeta) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.state.Meta = m
	return nil
}

// Leave implements node.Detector: it returns when everybody who can hear it has.
func (d *detector) Leave(ctx context.Context) error {
	d.mu.Lock()
	d.state.Meta.Phase, d.state.Left, d.state.Alive = gossip.Draining, true, false
	d.mu.Unlock()
	timer := time.NewTimer(goodbyeWithin)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
	return nil
}
