package coordinator

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/helenusdb/helenus/row"
)

// Reads of this node's store run on the goroutine that wants them, for a hand-over costs more than most reads. The store has
// no deadlines, so a disk that is stuck keeps such a goroutine. The watch notices, within stallLooks+1 ticks, a read that has not come
// back: it has other replicas answer in its place, or answers at the deadline, and until the disk is back local reads run on
// goroutines of their own, no more than stalledMax of which are kept, and this node is the last replica to be asked. Most such
// reads are only slow; the operator is told of those that take stuckLooks ticks.
const (
	stallTick      = 20 * time.Millisecond
	stallLooks     = 2
	stuckLooks     = 50
	stalledMax     = 64
	stuckWarnEvery = 10 * time.Second
)

// place is where one goroutine reads this node's store, one read at a time.
type place struct {
	page row.Page // what a whole Read is read into: its own page belongs to whoever answers for it
	at   int      // in watch.places; guarded by watch.mu

	mu     sync.Mutex // guards what follows; held for an instant
	busy   bool
	count  uint64      // reads begun
	read   *Read       // the read under way, when it is a whole one; unchanged while entry is linked
	target *readTarget // or that of one target; both nil: another node's
	fate   fate

	entry overdueEntry
	seen  uint64 // count at the last look
	looks int    // at the same read
}

// fate is what the watch has done about a read.
type fate uint8

const (
	fateNone  fate = iota
	fateNoted      // it counts as stalled
	fateWaits      // and its deadline is watched: it counts if it comes before
	fateGiven      // others answer
)

// watch holds the places.
type watch struct {
	idle atomic.Bool // nobody looks: the next read rouses
	wake chan struct{}

	mu     sync.Mutex // guards what follows
	places []*place
	free   []*place
}

// placesFree is how many places are kept for reads on goroutines of their own.
const placesFree = 64

func (w *watch) init() { w.wake = make(chan struct{}, 1) }

// join returns a place, until part.
func (w *watch) join() *place {
	w.mu.Lock()
	defer w.mu.Unlock()
	var p *place
	if n := len(w.free); n > 0 {
		p, w.free = w.free[n-1], w.free[:n-1]
	} else {
		p = &place{}
	}
	p.at = len(w.places)
	w.places = append(w.places, p)
	return p
}

// part gives an idle place back.
func (w *watch) part(p *place) {
	w.mu.Lock()
	defer w.mu.Unlock()
	last := w.places[len(w.places)-1]
	w.places[p.at], last.at = last, p.at
	w.places[len(w.places)-1] = nil
	w.places = w.places[:len(w.places)-1]
	if len(w.free) < placesFree && cap(p.page.Data) <= bodyKeptMax {
		w.free = append(w.free, p)
	}
}

// enter begins a read of the store at a place. Both r and t may be nil.
func (c *Coordinator) enter(p *place, r *Read, t *readTarget) {
	p.mu.Lock()
	p.busy, p.read, p.target = true, r, t
	p.count++
	p.mu.Unlock()
	if c.watch.idle.Load() && c.watch.idle.CompareAndSwap(true, false) {
		select {
		case c.watch.wake <- struct{}{}:
		default:
		}
	}
}

// leave ends it. mine tells whether the answer is still wanted; with held the caller then gives back what the watch has
// taken for it: a hold of the Read, or a reference to the op.
func (c *Coordinator) leave(p *place) (mine, held bool) {
	p.mu.Lock()
	f := p.fate
	p.busy, p.fate = false, fateNone
	if f != fateWaits {
		p.read, p.target = nil, nil
	}
	p.mu.Unlock()
	switch f {
	case fateNone:
		return true, false
	case fateNoted:
		c.self.stalled.Add(-1)
		return true, false
	case fateWaits:
		c.self.stalled.Add(-1)
		return c.overdue.claim(&p.entry), true
	}
	c.self.stalled.Add(-1)
	return false, true
}

// stalling tells whether reads of this node's store do not come back: then further ones do not run inline.
func (c *Coordinator) stalling() bool { return c.self.stalled.Load() > 0 }

// Stalled returns how many reads of this node's store are under way that have taken long.
func (c *Coordinator) Stalled() int64 { return c.self.stalled.Load() }

// runWatch looks until ctx ends. It stands still while nothing is read.
func (c *Coordinator) runWatch(ctx context.Context) {
	w := &c.watch
	t := time.NewTicker(stallTick)
	defer t.Stop()
	var s sight
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		if active := c.look(&s); active {
			continue
		}
		w.idle.Store(true)
		if c.look(&s) && w.idle.CompareAndSwap(true, false) {
			continue // a read began before it could see that nobody looks
		}
		t.Stop()
		select {
		case <-ctx.Done():
		case <-w.wake:
		}
		t.Reset(stallTick)
	}
}

// sight is what one look has found; its memory is reused.
type sight struct {
	places []*place
	late   []*readOp     // that should ask one more replica
	given  []*Read       // that others are to answer
	stuck  int           // reads that have reached stuckLooks
	warned time.Duration // on the clock of overdue: when the operator was told last
}

// look returns whether something was read since the last look, or is being read and has not taken stuckLooks yet.
func (c *Coordinator) look(s *sight) (active bool) {
	w := &c.watch
	w.mu.Lock()
	s.places = append(s.places[:0], w.places...)
	w.mu.Unlock()
	for _, p := range s.places {
		p.mu.Lock()
		switch {
		case p.seen != p.count:
			p.seen, p.looks, active = p.count, 0, true
		case p.busy && p.fate == fateNone:
			active = true
			if p.looks++; p.looks >= stallLooks {
				c.stall(p, s)
			}
		case p.busy && p.looks < stuckLooks:
			active = true
			if p.looks++; p.looks == stuckLooks {
				s.stuck++
			}
		}
		p.mu.Unlock()
	}
	c.warnOfStuck(s)
	for i, op := range s.late {
		op.speculate()
		s.late[i] = nil
	}
	for i, r := range s.given {
		c.readElsewhere(r)
		s.given[i] = nil
	}
	clear(s.places)
	s.late, s.given = s.late[:0], s.given[:0]
	return active
}

// warnOfStuck tells the operator of reads that hang, not of every one of a disk that is stuck.
func (c *Coordinator) warnOfStuck(s *sight) {
	now := c.overdue.now()
	if s.stuck > 0 && (s.warned == 0 || now-s.warned >= stuckWarnEvery) {
		s.warned = now
		c.o.Logger.Warn("reads of the local store do not come back: is the disk stuck?", "reads", s.stuck, "after", (stuckLooks * stallTick).String())
	}
	s.stuck = 0
}

// stall decides, under p.mu, what becomes of the read at p, which has not come back.
func (c *Coordinator) stall(p *place, s *sight) {
	c.self.stalled.Add(1)
	c.metrics.StalledReads.Add(1)
	switch {
	case p.target != nil:
		op := p.target.op
		op.refs.Add(2) // the goroutine that reads, and speculate
		p.fate = fateWaits
		c.overdue.add(&p.entry, p, op.deadline.Sub(c.overdue.base))
		s.late = append(s.late, op)
	case p.read == nil || p.read.Holder == nil:
		p.fate = fateNoted
	case c.servedElsewhere(p.read):
		p.read.Holder.Hold()
		p.fate = fateGiven
		s.given = append(s.given, p.read)
	default:
		p.read.Holder.Hold()
		p.fate = fateWaits
		c.overdue.add(&p.entry, p, c.overdue.now()+c.timeoutOf(p.read)-stallLooks*stallTick)
	}
}

// expire implements localWork: the time of a stalled read is up.
func (p *place) expire(_ time.Duration, due *dueWork) time.Duration {
	if p.read != nil {
		due.reads = append(due.reads, p.read)
	} else {
		due.targets = append(due.targets, p.target)
	}
	return never
}

func (c *Coordinator) timeoutOf(r *Read) time.Duration {
	if !r.until.IsZero() {
		return max(time.Until(r.until), time.Millisecond)
	}
	if r.Timeout != 0 {
		return r.Timeout
	}
	return c.o.ReadTimeout
}

// others returns the replicas without this node.
func others(replicas []*peer) []*peer {
	return slices.DeleteFunc(slices.Clone(replicas), func(p *peer) bool { return p.self })
}

// servedElsewhere tells whether the other replicas can answer a read.
func (c *Coordinator) servedElsewhere(r *Read) bool {
	t := c.view().table(r.Command.Generation)
	if t == nil {
		return false
	}
	replicas, q := t.readers(nil, r.Command.Token, r.Level)
	return q.available(c, others(replicas), t.view.localDC) == nil
}

// readElsewhere has the other replicas answer a read.
func (c *Coordinator) readElsewhere(r *Read) {
	t := c.view().table(r.Command.Generation)
	if t == nil {
		c.readDone(r, &UnknownTable{r.Command.Generation})
		return
	}
	replicas, q := t.readers(nil, r.Command.Token, r.Level)
	c.readAt(t, r, &q, others(replicas), nil, nil)
}
