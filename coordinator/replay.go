package coordinator

import (
	"bytes"
	"context"
	"time"

	"github.com/helenusdb/helenus/coordinator/batchlog"
	"github.com/helenusdb/helenus/internal/planted"
	"github.com/helenusdb/helenus/ring"
	"github.com/helenusdb/helenus/row"
	"github.com/helenusdb/helenus/rpc"
)

// replayPart is one partition's share of an entry.
type replayPart struct {
	plan  *tablePlan
	token ring.Token
	key   []byte
	body  []byte // as sent: what it is planned under, and the mutations
}

// missed is a replica that has not acknowledged a part of an entry.
type missed struct {
	entry int
	peer  *peer
	body  []byte // mutations
}

// replays is a page of entries being made again.
type replays struct {
	c        *Coordinator
	v        *view
	page     []batchlog.Entry
	outcomes []batchlog.Outcome
	answers  chan replayAnswer
	waiting  map[*replayTarget]bool
	missed   []missed
}

type replayAnswer struct {
	target *replayTarget
	out    outcome
}

// replayTarget is one replica of one part; it is the callback of its answer.
type replayTarget struct {
	r       *replays
	missed  missed
	answers chan<- replayAnswer
}

// replay makes the mutations of entries again on all their replicas, together, so that one that does not answer holds up a
// page once; what a replica misses becomes a hint. It returns what became of each entry, nil when ctx has ended.
func (c *Coordinator) replay(ctx context.Context, page []batchlog.Entry) []batchlog.Outcome {
	r := &replays{c: c, v: c.view(), page: page, outcomes: make([]batchlog.Outcome, len(page)), waiting: map[*replayTarget]bool{}}
	if !r.v.state.Founded() {
		return r.outcomes // nothing is known of tables yet
	}
	parts := make([][]replayPart, len(page))
	targets := 0
	for i := range page {
		parts[i], r.outcomes[i] = r.parts(&page[i])
		for j := range parts[i] {
			var buf [2 * replicasInline]*peer
			all, _ := parts[i][j].plan.replicas(buf[:0], parts[i][j].token)
			targets += len(all)
		}
	}
	r.answers = make(chan replayAnswer, targets)
	for i := range page {
		for j := range parts[i] {
			r.send(i, &parts[i][j])
		}
	}
	if !r.collect(ctx) || !r.hint(ctx) {
		return nil
	}
	return r.outcomes
}

// parts splits an entry by partition, without what nobody wants any more: mutations of tables that are gone, and the whole
// of it when it is older than gc_grace of one of its tables. Without parts the outcome says what becomes of the entry.
func (r *replays) parts(e *batchlog.Entry) ([]replayPart, batchlog.Outcome) {
	var out []replayPart
	age := r.c.o.Now().Sub(e.ID.Time())
	if planted.On(planted.BatchlogRestamped) {
		e.Mutations = restamp(e.Mutations, r.c.o.Now().UnixMicro())
	}
	for src := e.Mutations; len(src) > 0; {
		m, rest, err := row.DecodeMutation(src)
		if err != nil {
			r.c.o.Logger.Error("a damaged batch is given up", "coordinator", e.ID.Coordinator().String(), "begun", e.ID.Time(), "err", err)
			return nil, batchlog.Useless
		}
		t := r.v.table(m.Generation)
		switch {
		case t == nil && m.Generation >= r.v.state.Catalog.NextGeneration:
			return nil, batchlog.Again // this node has not heard of the table yet
		case t == nil:
		case age >= time.Duration(t.table.Options.GCGraceSeconds)*time.Second:
			return nil, batchlog.Useless
		default:
			out = r.v.appendPart(out, t, &m, src[:len(src)-len(rest)])
		}
		src = rest
	}
	if len(out) == 0 {
		return nil, batchlog.Useless
	}
	if planted.On(planted.BatchlogReplaysHalf) {
		out = out[:1]
	}
	return out, batchlog.Replayed // unless a replica has another word
}

// appendPart adds an encoded mutation to the last part when it is of the same partition: those are applied as one.
func (v *view) appendPart(out []replayPart, t *tablePlan, m *row.Mutation, encoded []byte) []replayPart {
	if n := len(out); n > 0 {
		last := &out[n-1]
		if last.token == m.Token && last.plan.table.Keyspace == t.table.Keyspace && bytes.Equal(last.key, m.Key) {
			last.body = append(last.body, encoded...)
			return out
		}
	}
	return append(out, replayPart{t, m.Token, m.Key, append(v.appendPlanned(make([]byte, 0, plannedBytes+len(encoded))), encoded...)})
}

// send gives a part to all of its replicas, those that are joining among them.
func (r *replays) send(entry int, p *replayPart) {
	var buf [2 * replicasInline]*peer
	all, _ := p.plan.replicas(buf[:0], p.token)
	for _, q := range all {
		m := missed{entry, q, p.body[plannedBytes:]}
		if !q.self && !r.c.live(q) {
			r.missed = append(r.missed, m)
			continue
		}
		t := &replayTarget{r: r, missed: m, answers: r.answers}
		r.waiting[t] = true
		if q.self {
			r.here(t)
		} else {
			r.c.o.Transport.Send(q.id, rpc.Data, VerbMutate, time.Now().Add(r.c.o.WriteTimeout), p.body, t)
		}
	}
}

// here applies a part to this node.
func (r *replays) here(t *replayTarget) {
	b := r.c.o.Storage.NewBatch()
	b.Planned(r.v.state.RingEpoch)
	if status, _, _ := r.c.applyAll(b, t.missed.body, nil); status != rpc.StatusOK {
		b.Discard()
		t.answers <- replayAnswer{t, outcomeStale} // there are no hints for this node itself: the entry stays
		return
	}
	answers := t.answers
	b.Commit(committedFunc(func(err error) {
		if err != nil {
			answers <- replayAnswer{t, outcomeStale}
			return
		}
		answers <- replayAnswer{t, outcomeAcked}
	}))
}

// Done implements rpc.Callback.
func (t *replayTarget) Done(r *rpc.Response) {
	out := outcomeTimeout
	if r.Err == nil {
		out = statusOutcome(r, t.r.v.state.Epoch)
	}
	if out == outcomeStale {
		t.r.c.pull(t.r.v, t.missed.peer.id)
	}
	t.answers <- replayAnswer{t, out}
}

// limit bounds how long a replay waits for this node's own disk.
func (r *replays) limit(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, r.c.o.WriteTimeout+settleSlack)
}

// collect waits for all replicas; false when ctx has ended.
func (r *replays) collect(ctx context.Context) bool {
	limit, cancel := r.limit(ctx)
	defer cancel()
	for len(r.waiting) > 0 {
		select {
		case a := <-r.answers:
			delete(r.waiting, a.target)
			switch a.out {
			case outcomeAcked:
			case outcomeStale: // newer metadata say who is to have it, next time
				r.outcomes[a.target.missed.entry] = batchlog.Again
			default:
				r.missed = append(r.missed, a.target.missed)
			}
		case <-limit.Done():
			for t := range r.waiting { // this node's own disk
				r.outcomes[t.missed.entry] = batchlog.Again
			}
			return ctx.Err() == nil
		}
	}
	return ctx.Err() == nil
}

// hint stores a hint for whoever missed a part, and waits until they are durable; false when ctx has ended. Where none is
// kept, for the replica has been down for too long or has too many, the entry stays. So does one that stays anyway.
func (r *replays) hint(ctx context.Context) bool {
	b := r.c.o.Storage.NewBatch()
	var put []missed
	for _, m := range r.missed {
		if r.outcomes[m.entry] == batchlog.Again {
			continue
		}
		if err := r.c.hints.PutAt(b, m.peer.id, m.body, r.page[m.entry].ID.Time()); err != nil {
			r.outcomes[m.entry] = batchlog.Again
			continue
		}
		put = append(put, m)
	}
	if len(put) == 0 {
		b.Discard()
		return true
	}
	if err := r.commit(ctx, b, put); err != nil {
		r.c.o.Logger.Warn("hints of replayed batches were not stored", "hints", len(put), "err", err)
		for _, m := range put {
			r.outcomes[m.entry] = batchlog.Again
		}
	}
	return ctx.Err() == nil
}

// commit waits until hints are durable.
func (r *replays) commit(ctx context.Context, b Batch, put []missed) error {
	done := make(chan error, 1)
	b.Commit(committedFunc(func(err error) { done <- err }))
	limit, cancel := r.limit(ctx)
	defer cancel()
	select {
	case err := <-done:
		if err != nil {
			for _, m := range put {
				r.c.hints.Revoke(m.peer.id, len(m.body))
			}
		}
		return err
	case <-limit.Done(): // the hints may be there: a second delivery does no harm
		return limit.Err()
	}
}
