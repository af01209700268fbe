package coordinator

import (
	"context"
	"math"
	"sync"
	"time"

	"github.com/helenusdb/helenus/rpc"
)

const (
	overdueTick      = 50 * time.Millisecond // how exact the deadlines of local work are
	overdueWarnEvery = 10 * time.Second
	never            = time.Duration(math.MaxInt64)
)

// overdue holds the work that waits for this node's own disk: batches that are being committed, and reads of what is not
// durable yet. Storage has no deadlines, so a disk that is stuck would leave clients without an answer; a sweep answers
// for it. What storage says afterwards finds nobody waiting.
type overdue struct {
	base time.Time
	wake chan struct{}

	mu       sync.Mutex // guards what follows, the links, and what the entries hold for others; held for an instant
	first    *overdueEntry
	earliest time.Duration // no deadline is before it
	idle     bool          // the sweep waits for wake
}

// overdueEntry is embedded in the work that waits.
type overdueEntry struct {
	prev, next *overdueEntry
	linked     bool
	deadline   time.Duration // on the clock of overdue
	work       localWork
}

// localWork gives up, under overdue.mu, what is due, and returns its next deadline.
type localWork interface {
	expire(now time.Duration, due *dueWork) time.Duration
}

func (o *overdue) init() { o.base, o.wake, o.earliest = time.Now(), make(chan struct{}, 1), never }

func (o *overdue) now() time.Duration { return time.Since(o.base) }

// add begins to watch an entry.
func (o *overdue) add(e *overdueEntry, work localWork, deadline time.Duration) {
	o.mu.Lock()
	e.work, e.deadline, e.linked = work, deadline, true
	e.prev, e.next = nil, o.first
	if o.first != nil {
		o.first.prev = e
	}
	o.first = e
	o.earliest = min(o.earliest, deadline)
	rouse := o.idle
	o.idle = false
	o.mu.Unlock()
	if rouse {
		select {
		case o.wake <- struct{}{}:
		default:
		}
	}
}

// remove ends the watch: what the entry still holds is the caller's.
func (o *overdue) remove(e *overdueEntry) {
	o.mu.Lock()
	o.unlink(e)
	o.mu.Unlock()
}

// claim is remove for work that expires as a whole: false when it has.
func (o *overdue) claim(e *overdueEntry) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	mine := e.linked
	o.unlink(e)
	return mine
}

// unlink is under o.mu.
func (o *overdue) unlink(e *overdueEntry) {
	if !e.linked {
		return
	}
	if e.prev != nil {
		e.prev.next = e.next
	} else {
		o.first = e.next
	}
	if e.next != nil {
		e.next.prev = e.prev
	}
	e.prev, e.next, e.linked, e.work = nil, nil, false, nil
}

// run answers for the disk until ctx ends. It stands still while nothing waits.
func (c *Coordinator) runOverdue(ctx context.Context) {
	o := &c.overdue
	t := time.NewTicker(overdueTick)
	defer t.Stop()
	var due dueWork
	warned := -overdueWarnEvery
	for ctx.Err() == nil {
		if o.rest() {
			t.Stop()
			select {
			case <-ctx.Done():
			case <-o.wake:
			}
			t.Reset(overdueTick)
		}
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		now := o.now()
		o.sweep(now, &due)
		if n := due.len(); n > 0 && now-warned >= overdueWarnEvery {
			warned = now
			c.o.Logger.Warn("the local store does not answer in time", "requests", n)
		}
		due.answer(c)
	}
}

// rest tells whether there is nothing to watch; the next add wakes.
func (o *overdue) rest() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.idle = o.first == nil
	return o.idle
}

// sweep collects what is due.
func (o *overdue) sweep(now time.Duration, due *dueWork) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if now < o.earliest {
		return
	}
	o.earliest = never
	for e := o.first; e != nil; {
		next := e.next
		if e.deadline <= now {
			e.deadline = e.work.expire(now, due)
		}
		if e.deadline == never {
			o.unlink(e)
		} else {
			o.earliest = min(o.earliest, e.deadline)
		}
		e = next
	}
}

// dueWork is whom a sweep has to answer.
type dueWork struct {
	writes  []*Write
	acks    []localAck
	reads   []*Read
	targets []*readTarget
	leads   []*leadOp
}

func (d *dueWork) len() int {
	return len(d.writes) + len(d.acks) + len(d.reads) + len(d.targets) + len(d.leads)
}

func (d *dueWork) answer(c *Coordinator) {
	for _, w := range d.writes {
		c.writeDone(w, &WriteTimeout{Level: w.Level, BlockFor: 1, Type: w.Type})
	}
	for _, a := range d.acks {
		if a.hint {
			a.target.outcome(outcomeHintLate)
		} else {
			a.target.outcome(outcomeTimeout)
		}
	}
	for _, r := range d.reads {
		c.readDone(r, &ReadTimeout{Level: r.Level, BlockFor: 1})
	}
	for _, t := range d.targets {
		t.answered(rpc.ErrTimeout)
	}
	for _, l := range d.leads {
		l.finish(&WriteTimeout{Level: l.level, BlockFor: l.need, Type: CounterWrite})
	}
	clear(d.leads)
	d.leads = d.leads[:0]
	clear(d.writes)
	clear(d.acks)
	clear(d.reads)
	clear(d.targets)
	d.writes, d.acks, d.reads, d.targets = d.writes[:0], d.acks[:0], d.reads[:0], d.targets[:0]
}

// deadlineOf returns when a write of the group times out.
func (g *commitGroup) deadlineOf(w *Write) time.Duration {
	if w.Timeout != 0 {
		return g.began + w.Timeout
	}
	return g.began + g.c.o.WriteTimeout
}

// watch begins to watch the group, which storage is given next.
func (g *commitGroup) watch() {
	o := &g.c.overdue
	g.began = o.now()
	deadline := never
	for _, w := range g.alone {
		deadline = min(deadline, g.deadlineOf(w))
	}
	for _, a := range g.acks {
		deadline = min(deadline, a.target.op.deadline.Sub(o.base))
	}
	if deadline != never {
		o.add(&g.entry, g, deadline)
	}
}

// expire implements localWork.
func (g *commitGroup) expire(now time.Duration, due *dueWork) time.Duration {
	next := never
	for i, w := range g.alone {
		if w == nil {
			continue
		}
		if at := g.deadlineOf(w); at > now {
			next = min(next, at)
			continue
		}
		due.writes = append(due.writes, w)
		g.alone[i] = nil
	}
	for i, a := range g.acks {
		if a.target == nil {
			continue
		}
		if at := a.target.op.deadline.Sub(g.c.overdue.base); at > now {
			next = min(next, at)
			continue
		}
		due.acks = append(due.acks, a)
		g.acks[i].target = nil
	}
	return next
}

// localWait is a read of this node's that waits until what it saw is durable: of a whole request, or of one target.
type localWait struct {
	entry  overdueEntry
	c      *Coordinator
	read   *Read
	target *readTarget
}

// whenSynced answers a read, or a target of one, when seq is durable or its time is up.
func (c *Coordinator) whenSynced(seq uint64, r *Read, t *readTarget, deadline time.Duration) {
	w := c.localWaits.Get().(*localWait)
	w.c, w.read, w.target = c, r, t
	c.overdue.add(&w.entry, w, deadline)
	c.o.Storage.WhenSynced(seq, w)
}

// expire implements localWork.
func (w *localWait) expire(_ time.Duration, due *dueWork) time.Duration {
	if w.read != nil {
		due.reads = append(due.reads, w.read)
	} else {
		due.targets = append(due.targets, w.target)
	}
	w.read, w.target = nil, nil
	return never
}

// Committed implements Committed: what the read saw is durable now.
func (w *localWait) Committed(err error) {
	c := w.c
	c.overdue.remove(&w.entry)
	r, t := w.read, w.target
	w.read, w.target = nil, nil
	c.localWaits.Put(w)
	switch {
	case r != nil && err != nil:
		c.readDone(r, c.localReadError(r, err))
	case r != nil:
		c.readDone(r, nil)
	case t != nil:
		t.answered(err)
	}
}
