package coordinator

import (
	"bytes"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/helenusdb/helenus/internal/trace"
	"github.com/helenusdb/helenus/row"
	"github.com/helenusdb/helenus/rpc"
)

// replicasInline is how many replicas an operation holds without allocating.
const replicasInline = 6

// writeOp is a write under way. It outlives the caller's Write, because replicas answer after the level was reached. It
// is made of parts, one for each partition, and is returned to the pool when the last replica of the last part has
// answered, failed or timed out.
type writeOp struct {
	c     *Coordinator
	refs  atomic.Int32 // outstanding replicas, plus one while it is dispatched
	trace *trace.Session
	view  *view

	mu       sync.Mutex // guards what follows; never held across callbacks
	w        *Write     // nil once its answer is decided
	parts    []writePart
	open     int // parts whose level is not reached
	deadline time.Time
	level    Level
	kind     WriteType
	retried  bool
}

// writePart is one partition's share of a write: the mutations of one token and key.
type writePart struct {
	quota   quota
	plan    *tablePlan
	body    []byte // encoded mutations, as sent and hinted
	gens    genRange
	targets []writeTarget
	inline  [replicasInline]writeTarget
	reached bool
	waiting int // targets without an outcome
	unknown int // targets that may have applied it
	stale   bool
	fails   []Failure
}

// genRange is where a part's mutations stand in Write.Mutations.
type genRange struct{ from, to int }

// writeTarget is one replica of one part; it is the callback of its answer.
type writeTarget struct {
	op     *writeOp
	part   int
	peer   *peer
	counts bool // its answer counts toward the level
}

// Write begins a write: it is sent to all live replicas, applied here with the burst's batch, and answered when its
// level is reached.
func (b *Burst) Write(w *Write) {
	c := b.c
	if c.inFlight.Add(1) > int64(c.o.InFlightMax) {
		c.inFlight.Add(-1)
		w.Done.WriteDone(w, &Overloaded{"too many requests are in flight on this coordinator"})
		return
	}
	v := c.view()
	if b.writeAlone(v, w) {
		return
	}
	op := c.writes.Get().(*writeOp)
	op.begin(c, v, w)
	if err := op.plan(w); err != nil {
		op.finish(err)
		op.release()
		return
	}
	b.dispatch(op, w)
	op.release()
}

// writeAlone handles the write for which this node is the only replica of a single mutation: no state is needed beyond
// the burst's. It reports false when that is not so.
func (b *Burst) writeAlone(v *view, w *Write) bool {
	if len(w.Mutations) != 1 || w.Trace != nil {
		return false
	}
	m := &w.Mutations[0]
	t := v.table(m.Generation)
	if t == nil || t.future != nil || t.rf != 1 || w.Level == EachQuorum || w.Level == Two || w.Level == Three {
		return false
	}
	if t.placement != nil {
		r := t.placement.Replicas(m.Token)
		if len(r) != 1 || v.members[r[0]] != v.self {
			return false
		}
	}
	if err := b.apply(m); err != nil {
		b.c.inFlight.Add(-1)
		w.Done.WriteDone(w, b.c.localWriteError(err, w.Level, 1, w.Type))
		return true
	}
	b.alone = append(b.alone, w)
	return true
}

// localWriteError is the answer when this node, the only replica, refused.
func (c *Coordinator) localWriteError(err error, level Level, need int, kind WriteType) error {
	if c.o.IsUnknownTable(err) {
		return &UnknownTable{}
	}
	if c.o.IsInvalid(err) {
		return err
	}
	c.o.Logger.Debug("write refused", "err", err)
	return &WriteFailure{Level: level, BlockFor: need, Type: kind,
		Failures: []Failure{{Host: c.o.Self, Addr: c.peers.of(c.o.Self).address().Addr(), Code: ReasonUnknown}}}
}

func (op *writeOp) begin(c *Coordinator, v *view, w *Write) {
	timeout := w.Timeout
	if timeout == 0 {
		timeout = c.o.WriteTimeout
	}
	op.c, op.view, op.w, op.trace = c, v, w, w.Trace
	op.level, op.kind, op.deadline = w.Level, w.Type, time.Now().Add(timeout)
	op.retried, op.open = false, 0
	op.refs.Store(1)
	op.parts = op.parts[:0]
}

// plan splits the write into parts and decides availability of all of them; nothing has been sent when it fails.
func (op *writeOp) plan(w *Write) error {
	for i := 0; i < len(w.Mutations); {
		m := &w.Mutations[i]
		t := op.view.table(m.Generation)
		if t == nil {
			return &UnknownTable{m.Generation}
		}
		to := i + 1
		for to < len(w.Mutations) && w.Mutations[to].Token == m.Token && bytes.Equal(w.Mutations[to].Key, m.Key) && op.sameKeyspace(t, &w.Mutations[to]) {
			to++
		}
		if err := op.addPart(t, m, genRange{i, to}); err != nil {
			return err
		}
		i = to
	}
	op.open = len(op.parts)
	for i := range op.parts {
		op.parts[i].encode(w)
	}
	return nil
}

func (op *writeOp) sameKeyspace(t *tablePlan, m *row.Mutation) bool {
	o := op.view.table(m.Generation)
	return o != nil && o.table.Keyspace == t.table.Keyspace
}

func (op *writeOp) addPart(t *tablePlan, m *row.Mutation, r genRange) error {
	if len(op.parts) < cap(op.parts) {
		op.parts = op.parts[:len(op.parts)+1]
	} else {
		op.parts = append(op.parts, writePart{})
	}
	p := &op.parts[len(op.parts)-1]
	p.reset(t, r)
	var buf [2 * replicasInline]*peer
	replicas, natural := t.replicas(buf[:0], m.Token)
	p.quota = t.quota(op.level)
	for _, q := range replicas[natural:] {
		if p.quota.counts(q, op.view.localDC) {
			p.quota.need++ // a joining replica must not replace a natural one
		}
	}
	if op.level != Any {
		if err := p.quota.available(replicas, op.c.live, op.view.localDC); err != nil {
			return err
		}
	}
	part := len(op.parts) - 1
	p.targets = p.inline[:0]
	for _, q := range replicas {
		p.targets = append(p.targets, writeTarget{op: op, part: part, peer: q, counts: true})
	}
	p.waiting = len(p.targets)
	return nil
}

func (p *writePart) reset(t *tablePlan, r genRange) {
	p.plan, p.gens, p.reached, p.stale, p.unknown = t, r, false, false, 0
	p.fails, p.body = nil, p.body[:0]
}

func (p *writePart) encode(w *Write) {
	p.body = p.body[:0]
	for i := p.gens.from; i < p.gens.to; i++ {
		p.body = w.Mutations[i].Append(p.body)
	}
}

// dispatch sends every part to its replicas. Answers may come while it runs; the op's own reference keeps it alive.
func (b *Burst) dispatch(op *writeOp, w *Write) {
	total := 0
	for i := range op.parts {
		// Targets are addressed by pointer from here on: parts does not move any more.
		p := &op.parts[i]
		if len(p.targets) <= replicasInline {
			p.targets = p.inline[:copy(p.inline[:], p.targets)]
		}
		total += len(p.targets)
	}
	op.refs.Add(int32(total))
	for i := range op.parts {
		p := &op.parts[i]
		for j := range p.targets {
			b.send(op, p, &p.targets[j], w)
		}
	}
}

func (b *Burst) send(op *writeOp, p *writePart, t *writeTarget, w *Write) {
	c := b.c
	switch {
	case t.peer.self:
		b.sendHere(op, p, t, w)
	case !c.live(t.peer):
		op.trace.Event("Storing hint for %s", t.peer.address())
		stored := c.hints.Put(b.open(), t.peer.id, p.body) == nil
		if stored && op.level == Any {
			b.acks = append(b.acks, localAck{target: t, hint: true})
			return
		}
		t.outcome(outcomeHinted)
	default:
		op.trace.Event("Sending MUTATION message to %s", t.peer.address())
		c.o.Transport.Send(t.peer.id, rpc.Data, VerbMutate, op.deadline, p.body, t)
	}
}

func (b *Burst) sendHere(op *writeOp, p *writePart, t *writeTarget, w *Write) {
	op.trace.Event("Appending to the local store")
	for i := p.gens.from; i < p.gens.to; i++ {
		if err := b.apply(&w.Mutations[i]); err != nil {
			op.trace.Event("Local store refused: %v", err)
			if b.c.o.IsUnknownTable(err) {
				t.outcome(outcomeStale)
			} else {
				b.c.o.Logger.Debug("local write refused", "err", err)
				t.outcome(outcomeFailed)
			}
			return
		}
	}
	b.acks = append(b.acks, localAck{target: t})
}

// outcome of one target.
type outcome uint8

const (
	outcomeAcked   outcome = iota
	outcomeHinted          // not sent, a hint was stored
	outcomeFailed          // it refused: not applied there
	outcomeStale           // it refused because its metadata and ours differ: not applied there
	outcomeUnsent          // it did not get it
	outcomeTimeout         // it may have applied it
)

// Done implements rpc.Callback.
func (t *writeTarget) Done(r *rpc.Response) {
	var e *rpc.Error
	switch {
	case r.Err == nil:
		t.outcome(statusOutcome(r.Status))
	case errors.As(r.Err, &e) && !e.Sent:
		t.outcome(outcomeUnsent)
	default:
		t.outcome(outcomeTimeout)
	}
}

func statusOutcome(s rpc.Status) outcome {
	switch s {
	case rpc.StatusOK:
		return outcomeAcked
	case rpc.StatusWrongEpoch, rpc.StatusNotOwner, rpc.StatusUnknownTable, rpc.StatusNotReady:
		return outcomeStale
	case rpc.StatusExpired, rpc.StatusOverloaded:
		return outcomeUnsent
	}
	return outcomeFailed
}

// outcome records what became of the target, answers the write when that decides it, and keeps a hint for a replica that
// may have missed it.
func (t *writeTarget) outcome(o outcome) {
	op := t.op
	op.mu.Lock()
	p := &op.parts[t.part]
	p.waiting--
	if o == outcomeAcked {
		if !p.reached && p.quota.count(t.peer, op.view.localDC) {
			p.reached = true
			op.open--
		}
	} else {
		p.note(t, o)
	}
	w, err, decided := op.decide()
	op.mu.Unlock()
	if op.trace != nil {
		op.trace.Event("%s", describe(o, t.peer))
	}
	if o == outcomeFailed || o == outcomeUnsent || o == outcomeTimeout || o == outcomeStale {
		op.c.missed(t.peer, p.body)
	}
	if decided {
		op.answer(w, err)
	}
	op.release()
}

func describe(o outcome, p *peer) string {
	words := [...]string{"Write acknowledged by", "Hint stored for", "Write refused by", "Write refused (metadata differs) by", "Write not delivered to", "No answer from"}
	return words[o] + " " + p.address().String()
}

func (p *writePart) note(t *writeTarget, o outcome) {
	switch o {
	case outcomeTimeout:
		p.unknown++
	case outcomeStale:
		p.stale = true
		p.fails = append(p.fails, Failure{t.peer.id, t.peer.address().Addr(), ReasonUnknown})
	case outcomeFailed, outcomeUnsent:
		p.fails = append(p.fails, Failure{t.peer.id, t.peer.address().Addr(), ReasonUnknown})
	}
}

// decide returns the caller's Write when its answer is certain now. Under op.mu.
func (op *writeOp) decide() (w *Write, err error, decided bool) {
	if op.w == nil {
		return nil, nil, false
	}
	if op.open == 0 {
		w, op.w = op.w, nil
		return w, nil, true
	}
	for i := range op.parts {
		if p := &op.parts[i]; !p.reached && p.waiting == 0 {
			w, op.w = op.w, nil
			return w, op.errorOf(p), true
		}
	}
	return nil, nil, false
}

// errorOf is the truth about a part that has not reached its level and never will.
func (op *writeOp) errorOf(p *writePart) error {
	if p.unknown == 0 && len(p.fails) > 0 {
		return &WriteFailure{Level: op.level, Received: p.quota.got, BlockFor: p.quota.need, Type: op.kind, Failures: p.fails}
	}
	return &WriteTimeout{Level: op.level, Received: p.quota.got, BlockFor: p.quota.need, Type: op.kind}
}

// answer calls Done; a failure that came from metadata that differs is tried once more with newer metadata, for
// mutations are idempotent: they carry their timestamps.
func (op *writeOp) answer(w *Write, err error) {
	if err != nil && op.isStale() {
		op.refs.Add(1)
		if op.c.spawn(func() { op.retry(w, err) }) {
			return
		}
		op.release()
	}
	op.c.inFlight.Add(-1)
	w.Done.WriteDone(w, err)
}

func (op *writeOp) isStale() bool {
	op.mu.Lock()
	defer op.mu.Unlock()
	return !op.retried && op.anyStale()
}

// anyStale is under op.mu.
func (op *writeOp) anyStale() bool {
	for i := range op.parts {
		if op.parts[i].stale {
			return true
		}
	}
	return false
}

// retry waits for newer metadata and writes again, as an operation of its own. It holds one reference.
func (op *writeOp) retry(w *Write, first error) {
	defer op.release()
	mutations, err := op.decodeAll()
	if err != nil || !op.c.awaitNewer(op.view.state.Epoch, op.deadline) {
		op.c.inFlight.Add(-1)
		w.Done.WriteDone(w, first)
		return
	}
	again := &Write{Mutations: mutations, Level: op.level, Type: op.kind, Timeout: time.Until(op.deadline), Trace: op.trace}
	again.Done = writeDoneFunc(func(_ *Write, err error) {
		op.c.inFlight.Add(-1)
		w.Done.WriteDone(w, err)
	})
	b := op.c.NewBurst()
	b.writeOnce(again)
	b.Flush()
}

// writeOnce is Write without another retry.
func (b *Burst) writeOnce(w *Write) {
	b.c.inFlight.Add(1)
	op := b.c.writes.Get().(*writeOp)
	op.begin(b.c, b.c.view(), w)
	op.retried = true
	if err := op.plan(w); err != nil {
		op.finish(err)
	} else {
		b.dispatch(op, w)
	}
	op.release()
}

func (op *writeOp) decodeAll() ([]row.Mutation, error) {
	var out []row.Mutation
	for i := range op.parts {
		for src := op.parts[i].body; len(src) > 0; {
			m, rest, err := row.DecodeMutation(src)
			if err != nil {
				return nil, err
			}
			m.Key, m.Fragment = bytes.Clone(m.Key), bytes.Clone(m.Fragment)
			out = append(out, m)
			src = rest
		}
	}
	return out, nil
}

// finish answers a write that was not dispatched.
func (op *writeOp) finish(err error) {
	w := op.w
	op.w = nil
	op.c.inFlight.Add(-1)
	w.Done.WriteDone(w, err)
}

// bodyKeptMax is the largest encoded part that a pooled op keeps room for.
const bodyKeptMax = 64 << 10

func (op *writeOp) release() {
	if op.refs.Add(-1) > 0 {
		return
	}
	for i := range op.parts {
		if p := &op.parts[i]; cap(p.body) > bodyKeptMax {
			p.body = nil
		}
	}
	if cap(op.parts) > replicasInline {
		op.parts = nil
	}
	op.view, op.trace = nil, nil
	op.c.writes.Put(op)
}

type writeDoneFunc func(w *Write, err error)

func (f writeDoneFunc) WriteDone(w *Write, err error) { f(w, err) }
