package coordinator

import (
	"context"
	"sync"
	"time"

	"github.com/helenusdb/helenus/ring"
	"github.com/helenusdb/helenus/rpc"
)

const (
	turnLapse    = 200 * time.Millisecond // after which a turn that was not given back is over
	turnWait     = 500 * time.Millisecond // how long a coordinator waits for its turn before it proposes without
	turnsMax     = 4096                   // partitions with turns; further ones are granted at once
	turnsWaitMax = 256                    // coordinators that wait for one partition; further ones are granted at once
	turnTick     = 5 * time.Millisecond
)

// turns lets one coordinator after another propose to a partition. It is kept by the first live replica of a partition, and is
// advice: nothing depends on it but that proposers do not get into each other's way.
type turns struct {
	wake chan struct{}

	mu  sync.Mutex // held for an instant, never across a grant
	all map[string]*turn
}

type turn struct {
	holder  ring.HostID
	until   time.Time
	waiting []turnAsk
}

type turnAsk struct {
	id    ring.HostID
	until time.Time
	grant func()
}

func (t *turns) init() { t.all, t.wake = map[string]*turn{}, make(chan struct{}, 1) }

// ask calls grant, which must not block, when it is the turn of id, now or later; not at all after until.
func (t *turns) ask(key string, id ring.HostID, until time.Time, grant func()) {
	t.mu.Lock()
	u := t.all[key]
	switch {
	case u == nil && len(t.all) < turnsMax:
		t.all[key] = &turn{holder: id, until: time.Now().Add(turnLapse)}
	case u != nil && len(u.waiting) < turnsWaitMax:
		u.waiting = append(u.waiting, turnAsk{id, until, grant})
		grant = nil
	}
	t.mu.Unlock()
	select {
	case t.wake <- struct{}{}:
	default:
	}
	if grant != nil {
		grant()
	}
}

// yield gives a turn back.
func (t *turns) yield(key string, id ring.HostID) {
	t.mu.Lock()
	var grant func()
	if u := t.all[key]; u != nil && u.holder == id {
		grant = t.nextLocked(key, u, time.Now())
	}
	t.mu.Unlock()
	if grant != nil {
		grant()
	}
}

// nextLocked passes the turn on, and drops it when nobody waits.
func (t *turns) nextLocked(key string, u *turn, now time.Time) (grant func()) {
	for len(u.waiting) > 0 {
		next := u.waiting[0]
		u.waiting = u.waiting[1:]
		if now.Before(next.until) {
			u.holder, u.until = next.id, now.Add(turnLapse)
			return next.grant
		}
	}
	delete(t.all, key)
	return nil
}

// taken tells whether anybody has the turn.
func (t *turns) taken(key string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.all[key] != nil
}

// lapse ends the turns that were not given back, and tells whether there are any.
func (t *turns) lapse(now time.Time) (any bool) {
	var grants []func()
	t.mu.Lock()
	for key, u := range t.all {
		if now.After(u.until) {
			if g := t.nextLocked(key, u, now); g != nil {
				grants = append(grants, g)
			}
		}
	}
	any = len(t.all) > 0
	t.mu.Unlock()
	for _, g := range grants {
		g()
	}
	return any
}

// run lapses turns until ctx ends. It stands still while there are none.
func (t *turns) run(ctx context.Context) {
	tick := time.NewTicker(turnTick)
	defer tick.Stop()
	for ctx.Err() == nil {
		if !t.lapse(time.Now()) {
			tick.Stop()
			select {
			case <-ctx.Done():
			case <-t.wake:
			}
			tick.Reset(turnTick)
		}
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
}

// takeTurn waits for the turn of a partition that others propose to as well, and returns what gives it back.
func (c *Coordinator) takeTurn(ctx context.Context, g *assembly, key string, w *casOp) (yield func()) {
	first := c.keeper(g)
	if first == nil || !c.proposals.isCrowded(key) && !(first.self && c.turns.taken(key)) {
		return func() {}
	}
	until := time.Now().Add(turnWait)
	if w.contended.Before(until) {
		until = w.contended
	}
	q := g.request(&w.cmd)
	q.electorate = 0
	granted := make(chan struct{}, 1)
	if first.self {
		yield = func() { c.turns.yield(key, c.o.Self) }
		c.turns.ask(key, c.o.Self, until, func() { granted <- struct{}{} })
	} else {
		body := q.append(nil)
		yield = func() {
			c.o.Transport.Send(first.id, ballotClass, VerbYield, time.Now().Add(turnWait), body, ignored{})
		}
		c.o.Transport.Send(first.id, ballotClass, VerbTurn, until, body, turnGranted(granted))
	}
	timer := time.NewTimer(time.Until(until))
	defer timer.Stop()
	select {
	case <-granted:
		c.metrics.CASTurns.Add(1)
	case <-timer.C:
	case <-ctx.Done():
	}
	return yield
}

// keeper is who keeps the turns: the first live natural replica.
func (c *Coordinator) keeper(g *assembly) *peer {
	for _, p := range g.peers[:g.natural] {
		if c.live(p) {
			return p
		}
	}
	return nil
}

type turnGranted chan struct{}

// Done implements rpc.Callback.
func (t turnGranted) Done(*rpc.Response) { t <- struct{}{} }

type ignored struct{}

// Done implements rpc.Callback.
func (ignored) Done(*rpc.Response) {}

// turn handles a message about turns that came over the network.
func (s *replicaSession) turn(req *rpc.Request, rsp rpc.Responder) {
	q := ballotRequest{}
	if q.decode(req.Verb, req.Body) != nil {
		rsp.Reply(rpc.StatusBadRequest, nil)
		return
	}
	w := casOp{serial: Serial}
	if q.local {
		w.serial = LocalSerial
	}
	w.cmd.Generation, w.cmd.Token, w.cmd.Key = q.generation, q.token, q.key
	key := w.partitionKey()
	if req.Verb == VerbYield {
		s.c.turns.yield(key, s.from)
		rsp.Reply(rpc.StatusOK, nil)
		return
	}
	s.c.turns.ask(key, s.from, req.Deadline, func() { rsp.Reply(rpc.StatusOK, nil) })
}
