package coordinator

import (
	"sync"
	"time"

	"github.com/helenusdb/helenus/coordinator/paxos"
	"github.com/helenusdb/helenus/rpc"
)

// ballotClass carries all messages about ballots: a commit goes before the prepare that follows it.
const ballotClass = rpc.Data

// commitRun is a commit on its way to the replicas.
type commitRun struct {
	c     *Coordinator
	t     *tablePlan
	value []byte
	began time.Time
	owing bool

	mu      sync.Mutex // guards what follows; held for an instant
	acked   []*peer
	open    int // replicas that may yet acknowledge
	waiters []*commitWaiter
}

// commitWaiter is told when its level is reached, or cannot be any more.
type commitWaiter struct {
	quota quota
	done  chan bool // capacity 1
	told  bool
}

// commitAll sends a decided proposal to all replicas, or what writes nothing to those that vote, and does not wait; what this
// node stores is visible when it returns. A replica that misses rows gets a hint.
func (c *Coordinator) commitAll(g *assembly, at Register, p paxos.Proposal) *commitRun {
	run := &commitRun{c: c, t: g.t, value: p.Value, began: time.Now()}
	replicas := g.peers
	if len(p.Value) > 0 {
		replicas, _ = g.t.replicas(nil, at.Token)
	}
	run.open = len(replicas)
	if len(p.Value) > 0 {
		run.owing = true
		c.owing.Add(1)
	}
	q := ballotRequest{verb: VerbCommit, planned: g.t.view.state.RingEpoch, generation: at.Generation, token: at.Token, key: at.Key, proposal: p}
	body := q.append(nil)
	until := time.Now().Add(c.o.WriteTimeout)
	var self *peer
	for _, to := range replicas {
		switch {
		case to.self:
			self = to
		case c.live(to):
			c.o.Transport.Send(to.id, ballotClass, VerbCommit, until, body, &commitCall{run, to})
		default:
			run.outcome(to, false)
		}
	}
	if self != nil {
		c.acceptor.vote(&q, func(a *ballotAnswer) { run.outcome(self, a.status == rpc.StatusOK) })
	}
	return run
}

// commitCall is the callback of one replica's answer.
type commitCall struct {
	run *commitRun
	to  *peer
}

// Done implements rpc.Callback.
func (k *commitCall) Done(r *rpc.Response) {
	k.run.outcome(k.to, r.Err == nil && r.Status == rpc.StatusOK)
}

// outcome takes note of what became of one replica.
func (run *commitRun) outcome(p *peer, ok bool) {
	if !ok && len(run.value) > 0 && !p.self {
		run.c.hints.Missed(p.id, run.value, time.Since(run.began))
	}
	run.mu.Lock()
	run.open--
	last := run.open == 0
	if ok {
		run.acked = append(run.acked, p)
	}
	for _, w := range run.waiters {
		if ok && !w.told && w.quota.count(p, run.t.view.localDC) {
			w.tell(true)
		}
		if last && !w.told {
			w.tell(false)
		}
	}
	run.mu.Unlock()
	if last && run.owing {
		run.c.owing.Add(-1)
	}
}

// tell is under commitRun.mu; the channel has room.
func (w *commitWaiter) tell(reached bool) {
	w.told = true
	w.done <- reached
}

// await waits until as many replicas as the operation's commit level asks have applied the commit. It is decided, so that
// whatever else happens is a timeout.
func (run *commitRun) await(w *casOp) error {
	if w.level == Any {
		return nil
	}
	k := &commitWaiter{quota: run.t.quota(w.level), done: make(chan bool, 1)}
	replicas, natural := run.t.replicas(nil, w.cmd.Token)
	for _, p := range replicas[natural:] {
		k.quota.expect(p, run.t.view.localDC)
	}
	run.mu.Lock()
	for _, p := range run.acked {
		if !k.told && k.quota.count(p, run.t.view.localDC) {
			k.tell(true)
		}
	}
	if !k.told && run.open == 0 {
		k.tell(false)
	}
	run.waiters = append(run.waiters, k)
	run.mu.Unlock()
	timer := time.NewTimer(time.Until(w.deadline))
	defer timer.Stop()
	select {
	case reached := <-k.done:
		if reached {
			return nil
		}
	case <-timer.C:
	}
	run.mu.Lock()
	defer run.mu.Unlock()
	return &WriteTimeout{Level: w.level, Received: k.quota.got, BlockFor: k.quota.need, Type: CASType}
}
