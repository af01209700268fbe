package coordinator

import (
	"bytes"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/helenusdb/helenus/internal/planted"
	"github.com/helenusdb/helenus/internal/trace"
	"github.com/helenusdb/helenus/ring"
	"github.com/helenusdb/helenus/row"
	"github.com/helenusdb/helenus/rpc"
	"github.com/helenusdb/helenus/schema"
)

// A write to a counter table is no write like others: it says by how much, not what, so it must be carried out once. Each
// partition of it goes to one leader, a live replica: this node if it is one, else the best of the local data centre. The
// leader (counterlead.go) turns the increments into the new state of its own shard, which is an ordinary mutation from then
// on. A leader that may have seen a request is never passed over for another one: when its answer is lost, the client is told
// of a timeout with write type COUNTER, and whether to count again is the client's choice (C1). Another leader is asked only
// when it is certain that the first has done nothing (C3).

// counterWrite is a write to counters under way.
type counterWrite struct {
	c        *Coordinator
	w        *Write
	level    Level
	deadline time.Time
	trace    *trace.Session
	parts    []counterPart // addressed by pointer; one for each partition and table

	mu      sync.Mutex // guards what follows; held for an instant
	open    int        // parts that have not ended
	applied bool       // some part is applied, or may be
	err     error      // of the first part that failed
}

// counterPart is one partition's share of a counterWrite. Its fields belong to whoever carries it on: the caller at first,
// then the answer of a leader. It is the callback of that answer.
type counterPart struct {
	cw         *counterWrite
	first      int // its first mutation, for plan
	view       *view
	plan       *tablePlan
	generation schema.Generation
	token      ring.Token
	need       int    // answers that the level wants
	request    []byte // as sent
	leader     *peer
	tried      []*peer
	fails      []Failure
}

// count carries out a write to counters that is counted as in flight.
func (c *Coordinator) count(v *view, w *Write) {
	if err := v.understands("Counters"); err != nil {
		c.writeDone(w, err)
		return
	}
	timeout := w.Timeout
	if timeout == 0 {
		timeout = c.o.CounterTimeout
	}
	cw := &counterWrite{c: c, w: w, level: w.Level, deadline: time.Now().Add(timeout), trace: w.Trace}
	if err := cw.plan(v, w); err != nil {
		c.writeDone(w, err)
		return
	}
	if !v.holds(w) {
		cw.start()
		return
	}
	if !c.spawn(func() { cw.startJoined(v) }) {
		c.writeDone(w, &Overloaded{"too many writes wait for a node that is joining"})
	}
}

// plan splits the write into parts and decides availability of all of them. Nothing of w is used afterwards but its Done.
func (cw *counterWrite) plan(v *view, w *Write) error {
	for i := range w.Mutations {
		m := &w.Mutations[i]
		p := cw.partOf(w, m)
		if p == nil {
			cw.parts = append(cw.parts, counterPart{cw: cw, first: i, generation: m.Generation, token: m.Token, request: appendCountHeader(nil, w.Level)})
			p = &cw.parts[len(cw.parts)-1]
		}
		p.request = m.Append(p.request)
	}
	for i := range cw.parts {
		p := &cw.parts[i]
		if len(p.request) > mutationBytesMax {
			return &TooLarge{len(p.request), mutationBytesMax}
		}
		if err := p.place(v); err != nil {
			return err
		}
	}
	for i := range cw.parts {
		p := &cw.parts[i]
		cw.c.metrics.routed(p.plan.leads(v.self, p.token))
	}
	cw.open = len(cw.parts)
	return nil
}

// partOf returns the part that a mutation belongs to, nil if it is the first of one. The mutations of one partition are next
// to one another, those of several tables mixed.
func (cw *counterWrite) partOf(w *Write, m *row.Mutation) *counterPart {
	for i := len(cw.parts) - 1; i >= 0 && cw.parts[i].token == m.Token; i-- {
		if sameTarget(&w.Mutations[cw.parts[i].first], m) {
			return &cw.parts[i]
		}
	}
	return nil
}

// sameTarget tells whether two mutations are of one partition of one table.
func sameTarget(a, b *row.Mutation) bool {
	return a.Generation == b.Generation && a.Token == b.Token && bytes.Equal(a.Key, b.Key)
}

// place looks up the part's replicas and tells whether those that are live can reach the level.
func (p *counterPart) place(v *view) error {
	t := v.table(p.generation)
	if t == nil {
		return &UnknownTable{p.generation}
	}
	p.view, p.plan = v, t
	planCount(p.request, v.state.RingEpoch)
	var err error
	p.need, err = p.cw.c.countAvailable(t, p.token, p.cw.level)
	return err
}

// countAvailable returns how many answers the level wants, or *Unavailable.
func (c *Coordinator) countAvailable(t *tablePlan, token ring.Token, level Level) (need int, err error) {
	var buf [2 * replicasInline]*peer
	replicas, natural := t.replicas(buf[:0], token)
	q := t.quotaOf(level, token, replicas, natural)
	if u := q.available(c, replicas, t.view.localDC); u != nil {
		return q.need, u
	}
	if !slices.ContainsFunc(replicas[:natural], c.live) { // whoever is joining leads no counters
		return q.need, &Unavailable{Level: level, Required: q.need}
	}
	return q.need, nil
}

// startJoined starts when no node is joining any more.
func (cw *counterWrite) startJoined(v *view) {
	if !cw.c.awaitJoined(v, cw.deadline) {
		cw.c.writeDone(cw.w, &Overloaded{"a node is joining; user tables take no writes until it has joined"})
		return
	}
	v = cw.c.view()
	for i := range cw.parts {
		if err := cw.parts[i].place(v); err != nil {
			cw.c.writeDone(cw.w, err)
			return
		}
	}
	cw.start()
}

func (cw *counterWrite) start() {
	for i := range cw.parts {
		cw.parts[i].lead()
	}
}

// lead asks the next leader, which has not been asked yet.
func (p *counterPart) lead() {
	cw := p.cw
	c := cw.c
	p.leader = p.choose()
	switch {
	case !time.Now().Before(cw.deadline):
		p.ended(&WriteTimeout{Level: cw.level, BlockFor: p.need, Type: CounterWrite})
	case p.leader == nil:
		p.ended(&WriteFailure{Level: cw.level, BlockFor: p.need, Type: CounterWrite, Failures: p.fails})
	case p.leader.self:
		p.tried = append(p.tried, p.leader)
		op := &leadOp{c: c, level: cw.level, planned: p.view.state.RingEpoch, need: p.need, deadline: cw.deadline, trace: cw.trace, end: p}
		var ok bool
		if op.ms, ok = decodeTarget(p.request[countHeaderLen:]); !ok {
			p.refused(&refusal{rpc.StatusBadRequest, "malformed increments"})
			return
		}
		c.overdue.add(&op.entry, op, cw.deadline.Sub(c.overdue.base))
		c.counters.lead(op)
	default:
		p.tried = append(p.tried, p.leader)
		if cw.trace != nil {
			cw.trace.Event("Enqueuing counter update to %s", p.leader.address())
		}
		c.metrics.CountersForwarded.Add(1)
		numberCount(p.request, c.counters.number.Add(1)) // a refused request must not be what makes the next one come twice
		c.o.Transport.Send(p.leader.id, rpc.Data, VerbCount, cw.deadline, p.request, p)
	}
}

// choose returns the best live replica that has not been tried: this node, the local data centre, the others; nil: none.
func (p *counterPart) choose() *peer {
	c := p.cw.c
	var buf [2 * replicasInline]*peer
	all, natural := p.plan.replicas(buf[:0], p.token)
	live := all[:0]
	for _, r := range all[:natural] {
		if c.live(r) && !slices.Contains(p.tried, r) && (!r.self || c.Shard() != row.ShardID{}) {
			live = append(live, r)
		}
	}
	if len(live) == 0 {
		return nil
	}
	rank(live, p.view.localDC, c.peers.now())
	return live[0]
}

// Done implements rpc.Callback: what has become of a request to another leader.
func (p *counterPart) Done(r *rpc.Response) {
	var e *rpc.Error
	switch {
	case r.Err == nil && r.Status == rpc.StatusOK:
		err := p.cw.c.decodeCountAnswer(r.Body, p.cw.level)
		if errors.Is(err, errMalformed) {
			err = p.unknown()
		}
		p.led(err, r.Epoch)
	case r.Err == nil && r.Status == rpc.StatusFailed && len(r.Body) == 0: // applied, and not durable
		p.led(p.unknown(), r.Epoch)
	case r.Err == nil:
		p.led(&refusal{r.Status, string(r.Body[:min(len(r.Body), whyBytesMax)])}, r.Epoch)
	case errors.As(r.Err, &e) && !e.Sent:
		p.led(&refusal{rpc.StatusNotReady, ""}, 0)
	default:
		p.led(p.unknown(), 0)
	}
}

// unknown says that the increments may have been counted.
func (p *counterPart) unknown() error {
	return &WriteTimeout{Level: p.cw.level, BlockFor: p.need, Type: CounterWrite}
}

// led implements leadEnd. Only a refusal, after which nothing is applied, is followed by another attempt. epoch is the
// leader's.
func (p *counterPart) led(err error, epoch uint64) {
	var r *refusal
	if late := (*WriteTimeout)(nil); planted.On(planted.CounterTwiceOnRetry) && errors.As(err, &late) {
		p.lead()
		return
	}
	if !errors.As(err, &r) {
		p.ended(err)
		return
	}
	if stale := r.status == rpc.StatusWrongEpoch || behind(r.status); stale {
		from := ring.HostID{}
		if epoch > p.view.state.Epoch {
			from = p.leader.id
		}
		if p.cw.c.spawn(func() { p.replan(from, r) }) {
			return
		}
	}
	p.refused(r)
}

// refused goes on with another leader.
func (p *counterPart) refused(r *refusal) {
	code := ReasonUnknown
	switch {
	case behind(r.status), r.status == rpc.StatusWrongEpoch:
		code = ReasonIncompatibleSchema
	case statusOutcome(&rpc.Response{Status: r.status}, 0) == outcomeUnsent:
		code = ReasonTimeout
	}
	f := p.leader.failure(code)
	f.Why = r.why
	p.fails = append(p.fails, f)
	p.lead()
}

// replan begins anew with the metadata by which a leader has refused, on a goroutine of its own. from is who has newer ones
// than those that the part was planned with; zero: they may come here by themselves.
func (p *counterPart) replan(from ring.HostID, r *refusal) {
	c := p.cw.c
	if from == (ring.HostID{}) && c.o.Cluster.Current().Epoch <= p.view.state.Epoch || !c.newerThan(p.view.state.Epoch, from, p.cw.deadline) {
		p.refused(r)
		return
	}
	v := c.view()
	if t := v.table(p.generation); t != nil && t.user && v.state.Quiet() && !c.awaitJoined(v, p.cw.deadline) {
		p.refused(r)
		return
	}
	if err := p.place(c.view()); err != nil {
		p.ended(err)
		return
	}
	p.tried = p.tried[:0]
	p.lead()
}

// ended takes note of how the part ended; the last one ends the write.
func (p *counterPart) ended(err error) {
	cw := p.cw
	cw.mu.Lock()
	cw.open--
	cw.applied = cw.applied || mayHaveCounted(err)
	if cw.err == nil {
		cw.err = err
	}
	last, applied, err := cw.open == 0, cw.applied, cw.err
	cw.mu.Unlock()
	if !last {
		return
	}
	if err != nil && applied && !mayHaveCounted(err) { // that nothing was done is not true of all parts
		err = p.unknown()
	}
	cw.c.writeDone(cw.w, err)
}

// mayHaveCounted tells whether something may be applied of a part that ended with err.
func mayHaveCounted(err error) bool {
	var (
		timeout *WriteTimeout
		failure *WriteFailure
	)
	return err == nil || errors.As(err, &timeout) || errors.As(err, &failure) && failure.Received > 0
}
