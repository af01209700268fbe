package coordinator

import (
	"context"
	"encoding/binary"
	"slices"
	"sync"
	"time"

	"github.com/helenusdb/helenus/coordinator/paxos"
)

const (
	casBatchMax      = 64      // operations that one ballot decides
	casBatchBytesMax = 1 << 20 // of mutations that one ballot writes, unless a single operation writes more
	casQueueMax      = 4096    // operations that wait for one partition; further ones are Overloaded
	crowdedMax       = 4096    // partitions that are remembered as contended
	crowdedFor       = time.Second
)

// proposals are the queues of this coordinator: per partition one operation leads, and proposes for all that wait.
type proposals struct {
	mu      sync.Mutex // held for an instant
	queues  map[string]*casQueue
	crowded map[string]crowd
}

// crowd is a partition that other coordinators propose to as well.
type crowd struct {
	until time.Time    // when that is not believed any more
	own   paxos.Ballot // the last decision of this coordinator
}

// casQueue is there while an operation leads. All but waiting belongs to the leader.
type casQueue struct {
	key     string
	waiting []*casOp       // guarded by proposals.mu
	floor   int64          // µs that the next ballot has to exceed
	known   paxos.Proposal // the last decision that this coordinator knows of
}

func (p *proposals) init() {
	p.queues, p.crowded = map[string]*casQueue{}, map[string]crowd{}
}

// partitionKey names a register and its electorate.
func (w *casOp) partitionKey() string {
	b := make([]byte, 0, 13+len(w.cmd.Key))
	b = append(b, byte(w.serial))
	b = binary.BigEndian.AppendUint32(b, uint32(w.cmd.Generation))
	b = binary.BigEndian.AppendUint64(b, uint64(w.cmd.Token))
	return string(append(b, w.cmd.Key...))
}

// busy tells whether somebody leads.
func (p *proposals) busy(w *casOp) bool {
	key := w.partitionKey()
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.queues[key] != nil
}

// enter queues an operation, or lets it lead at once. Queued, it hears of everything further by its wake channel only.
func (p *proposals) enter(w *casOp) (q *casQueue, leads, full bool) {
	key := w.partitionKey()
	p.mu.Lock()
	defer p.mu.Unlock()
	q = p.queues[key]
	switch {
	case q == nil:
		q = &casQueue{key: key}
		p.queues[key] = q
		return q, true, false
	case len(q.waiting) >= casQueueMax:
		return nil, false, true
	default:
		w.queued = true
		q.waiting = append(q.waiting, w)
	}
	return q, false, false
}

// leave takes an operation out of the queue; false: it is in a batch, or leads.
func (p *proposals) leave(q *casQueue, w *casOp) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !w.queued {
		return false
	}
	q.waiting = slices.DeleteFunc(q.waiting, func(o *casOp) bool { return o == w })
	w.queued = false
	return true
}

// take moves operations from the queue to a batch.
func (p *proposals) take(q *casQueue, batch []*casOp) []*casOp {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := min(len(q.waiting), casBatchMax-len(batch))
	for _, w := range q.waiting[:max(n, 0)] {
		w.queued = false
		batch = append(batch, w)
	}
	q.waiting = slices.Delete(q.waiting, 0, max(n, 0))
	return batch
}

// handOver lets the next operation lead; those of a batch that are not answered come first.
func (p *proposals) handOver(q *casQueue, open []*casOp) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, w := range open {
		w.queued = true
	}
	q.waiting = append(open, q.waiting...)
	if len(q.waiting) == 0 {
		delete(p.queues, q.key)
		return
	}
	next := q.waiting[0]
	q.waiting = slices.Delete(q.waiting, 0, 1)
	next.queued = false
	next.wake <- struct{}{}
}

// crowd remembers that others propose to the partition too.
func (p *proposals) crowd(key string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	if len(p.crowded) >= crowdedMax {
		for k, x := range p.crowded {
			if now.After(x.until) {
				delete(p.crowded, k)
			}
		}
	}
	if len(p.crowded) < crowdedMax {
		p.crowded[key] = crowd{until: now.Add(crowdedFor), own: p.crowded[key].own}
	}
}

// decided takes note of the last decision on a partition: a recent one that is not of this coordinator keeps it crowded.
func (p *proposals) decided(key string, b paxos.Ballot, own bool, now int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	x, ok := p.crowded[key]
	switch {
	case !ok:
		return
	case own:
		x.own = b
	case b != x.own && now-b.Micros < crowdedFor.Microseconds():
		x.until = time.Now().Add(crowdedFor)
	}
	p.crowded[key] = x
}

func (p *proposals) isCrowded(key string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	x, ok := p.crowded[key]
	if ok && time.Now().After(x.until) {
		delete(p.crowded, key)
		ok = false
	}
	return ok
}

// propose waits for the operation's turn in the queue and for its answer, and then for its commit.
func (c *Coordinator) propose(ctx context.Context, w *casOp) error {
	q, leads, full := c.proposals.enter(w)
	if full {
		return &Overloaded{"too many conditional writes wait for this partition"}
	}
	if !leads && !c.waitToLead(ctx, q, w) {
		return c.contentionTimeout(w)
	}
	if !w.answered {
		c.lead(ctx, q, w)
	}
	if w.err != nil || w.commit == nil {
		return w.err
	}
	return w.commit.await(w)
}

// waitToLead returns when the operation leads or is answered; false: it was never taken up.
func (c *Coordinator) waitToLead(ctx context.Context, q *casQueue, w *casOp) bool {
	timer := time.NewTimer(time.Until(w.contended))
	defer timer.Stop()
	select {
	case <-w.wake:
		return true
	case <-ctx.Done():
	case <-timer.C:
	}
	if c.proposals.leave(q, w) {
		return false
	}
	<-w.wake // whoever took it answers, or lets it lead
	return true
}

func (c *Coordinator) contentionTimeout(w *casOp) error {
	c.metrics.CASContentionTimeouts.Add(1)
	need := 1
	if t := c.view().table(w.cmd.Generation); t != nil {
		need = c.gather(t, w).need
	}
	return &WriteTimeout{Level: w.serial, BlockFor: need, Type: CASType}
}

// lead proposes for all that wait until the operation is answered, and hands over.
func (c *Coordinator) lead(ctx context.Context, q *casQueue, w *casOp) {
	r := casRun{c: c, ctx: ctx, q: q, me: w, ops: []*casOp{w}}
	for !w.answered {
		r.attempt()
	}
	// Nothing that is handed over is in a proposal that may yet be decided: those are answered together.
	open := slices.DeleteFunc(r.ops, func(o *casOp) bool { return o.answered })
	c.proposals.handOver(q, open)
}
