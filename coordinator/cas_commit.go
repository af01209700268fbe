package coordinator

import (
	"slices"
	"sync"
	"time"

	"github.com/helenusdb/helenus/coordinator/paxos"
	"github.com/helenusdb/helenus/ring"
	"github.com/helenusdb/helenus/rpc"
)

// ballotClass carries all messages about ballots: a commit goes before the prepare that follows it.
const ballotClass = rpc.Data

// commitRun is a commit on its way to the replicas.
type commitRun struct {
	c     *Coordinator
	at    Register
	p     paxos.Proposal
	began time.Time
	until time.Time
	owing bool

	mu      sync.Mutex // guards what follows; held for an instant
	t       *tablePlan // by which it was planned last
	acked   []*peer
	open    int  // answers that may yet come, or plans
	anew    bool // it is being planned anew
	waiters []*commitWaiter
}

// commitWaiter is told when its level is reached, or cannot be any more.
type commitWaiter struct {
	level Level
	quota quota
	done  chan bool // capacity 1
	told  bool
}

// commitAll sends a decided proposal to all replicas, or what writes nothing to those that vote, and does not wait; what this
// node stores is visible when it returns. A replica that misses rows gets a hint.
func (c *Coordinator) commitAll(g *assembly, at Register, p paxos.Proposal) *commitRun {
	run := &commitRun{c: c, t: g.t, at: at, p: p, began: time.Now()}
	run.until = run.began.Add(c.o.WriteTimeout)
	replicas := g.peers
	if len(p.Value) > 0 {
		replicas, _ = g.t.replicas(nil, at.Token)
	}
	if len(p.Value) > 0 {
		run.owing = true
		c.owing.Add(1)
	}
	run.open = len(replicas)
	run.t.view.era.Enter()
	run.send(g.t, replicas)
	return run
}

// send sends the commit to replicas, each of which is counted as open.
func (run *commitRun) send(t *tablePlan, replicas []*peer) {
	c, at := run.c, run.at
	q := ballotRequest{verb: VerbCommit, planned: t.view.state.RingEpoch, generation: at.Generation, token: at.Token, key: at.Key, proposal: run.p}
	body := q.append(nil)
	var self *peer
	for _, to := range replicas {
		switch {
		case to.self:
			self = to
		case c.live(to):
			c.o.Transport.Send(to.id, ballotClass, VerbCommit, run.until, body, &commitCall{run, t, to})
		default:
			run.outcome(t, to, outcomeDown)
		}
	}
	if self != nil {
		c.acceptor.vote(&q, func(a *ballotAnswer) {
			run.outcome(t, self, statusOutcome(&rpc.Response{Status: a.status, Epoch: c.o.Cluster.Current().Epoch}, t.view.state.Epoch))
		})
	}
}

// commitCall is the callback of one replica's answer.
type commitCall struct {
	run *commitRun
	t   *tablePlan
	to  *peer
}

// Done implements rpc.Callback.
func (k *commitCall) Done(r *rpc.Response) {
	out := outcomeTimeout
	if r.Err == nil {
		out = statusOutcome(r, k.t.view.state.Epoch)
	}
	k.run.outcome(k.t, k.to, out)
}

// outcome takes note of what became of one replica. One that refused by newer metadata has the commit planned anew.
func (run *commitRun) outcome(t *tablePlan, p *peer, o outcome) {
	run.mu.Lock()
	ok, anew := o == outcomeAcked, o == outcomeStale && len(run.p.Value) > 0 && run.t == t && !run.anew
	if anew {
		run.anew = true
		run.open++
	}
	if ok && !slices.Contains(run.acked, p) {
		run.acked = append(run.acked, p)
		run.tellLocked(p)
	}
	run.mu.Unlock()
	if !ok && !anew && !p.self && (o != outcomeStale || run.t == t) {
		run.missed(p)
	}
	if anew && !run.c.spawn(func() { run.sendAnew(t, p) }) {
		run.missed(p)
		run.ended()
	}
	run.ended()
}

// missed has a hint kept for a replica that may lack the rows, as long as it would apply the commit itself. The hint is as old as the
// rows, not as the commit, which may be of what was left undone long ago: a deletion over them may be purged gc_grace_seconds after it.
func (run *commitRun) missed(p *peer) {
	c := run.c
	if len(run.p.Value) == 0 || p.self || !c.appliesCommit(run.at.Generation, run.p.Origin) {
		return
	}
	age := time.Duration(c.o.Now().UnixMicro()-run.p.Origin.Micros) * time.Microsecond
	c.hints.Missed(p.id, run.p.Value, max(age, time.Since(run.began)))
}

// tellLocked tells those whose level one more acknowledgement reaches. Under mu.
func (run *commitRun) tellLocked(p *peer) {
	for _, w := range run.waiters {
		if !w.told && w.quota.count(p, run.t.view.localDC) {
			w.tell(true)
		}
	}
}

// ended takes note that one answer less is open.
func (run *commitRun) ended() {
	run.mu.Lock()
	run.open--
	last := run.open == 0
	if last {
		run.t.view.era.Leave()
	}
	for _, w := range run.waiters {
		if last && !w.told {
			w.tell(false)
		}
	}
	run.mu.Unlock()
	if last && run.owing {
		run.c.owing.Add(-1)
	}
}

// sendAnew sends the commit to those that are to have it by newer metadata, and counts by these from then on. by is who has them.
func (run *commitRun) sendAnew(t *tablePlan, by *peer) {
	defer run.ended()
	from := by.id
	if by.self {
		from = ring.HostID{}
	}
	v := t.view
	if run.c.newerThan(v.state.Epoch, from, run.until) {
		v = run.c.view()
	}
	now := v.table(run.at.Generation)
	if v == t.view || now == nil {
		run.missed(by)
		return
	}
	replicas, _ := now.replicas(nil, run.at.Token)
	run.mu.Lock()
	run.t.view.era.Leave()
	now.view.era.Enter()
	run.t, run.anew = now, false
	run.open += len(replicas)
	for _, w := range run.waiters {
		if !w.told {
			w.quota = now.writeQuota(w.level, run.at.Token)
			run.recountLocked(w)
		}
	}
	run.mu.Unlock()
	run.send(now, replicas)
}

// recountLocked counts what was acknowledged by those that are replicas by the present plan. Under mu.
func (run *commitRun) recountLocked(k *commitWaiter) {
	replicas, _ := run.t.replicas(nil, run.at.Token)
	for _, p := range run.acked {
		if !k.told && slices.Contains(replicas, p) && k.quota.count(p, run.t.view.localDC) {
			k.tell(true)
		}
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
	run.mu.Lock()
	k := &commitWaiter{level: w.level, quota: run.t.writeQuota(w.level, run.at.Token), done: make(chan bool, 1)}
	run.recountLocked(k)
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
