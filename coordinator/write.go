package coordinator

import (
	"bytes"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/helenusdb/helenus/internal/planted"
	"github.com/helenusdb/helenus/internal/trace"
	"github.com/helenusdb/helenus/ring"
	"github.com/helenusdb/helenus/row"
	"github.com/helenusdb/helenus/rpc"
)

// whyBytesMax bounds what a client is told of a replica's refusal.
const whyBytesMax = 256

// replicasInline is how many replicas an operation holds without allocating.
const replicasInline = 6

// mutationBytesMax bounds the encoded mutations of one partition: they travel in one message.
const mutationBytesMax = rpc.BodyMax - plannedBytes

// writeOp is a write under way. It outlives the caller's Write, because replicas answer after the level was reached. It
// is made of parts, one for each partition, and is returned to the pool when the last replica of the last part has
// answered, failed or timed out.
type writeOp struct {
	c     *Coordinator
	refs  atomic.Int32 // outstanding replicas, plus one while it is dispatched
	trace *trace.Session
	view  *view

	// Not changed between begin and the last release, except for what mu guards in the parts.
	began    time.Time
	deadline time.Time
	level    Level
	kind     WriteType
	unhinted bool             // no hints for replicas that miss it
	applied  bool             // this node has it already
	among    func(*peer) bool // which of the replicas are written to; nil: all
	again    bool             // not the first attempt

	mu      sync.Mutex // guards what follows; never held across callbacks
	w       *Write     // nil once its answer is decided
	parts   []writePart
	open    int         // parts whose level is not reached
	sending bool        // the caller's Write is still being read: no answer yet
	stale   bool        // a replica with newer metadata refused
	newer   ring.HostID // that replica
	anew    bool        // it is being planned anew, for all replicas
}

// writePart is one partition's share of a write: the mutations of one token and key. Targets are addressed by pointer
// once the write is dispatched.
type writePart struct {
	plan    *tablePlan
	body    []byte // as sent: what it is planned under, and the encoded mutations
	from    int    // its mutations are Write.Mutations[from:to]
	to      int
	targets []writeTarget
	inline  [replicasInline]writeTarget

	quota   quota // this and the following are guarded by writeOp.mu
	reached bool
	waiting int // targets without an outcome
	unknown int // targets that may have applied it
	fails   []Failure
}

// writeTarget is one replica of one part; it is the callback of its answer.
type writeTarget struct {
	op   *writeOp
	part int
	peer *peer
	why  string // what it says when it refuses
	left bool   // it refused as it has newer metadata; guarded by writeOp.mu
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
	if w.Type == CounterWrite {
		c.count(v, w)
		return
	}
	if b.writeAlone(v, w) {
		return
	}
	b.begin(v, w, false)
}

// begin plans and dispatches a write that is counted as in flight.
func (b *Burst) begin(v *view, w *Write, again bool) {
	if v.holds(w) {
		b.c.hold(v, w, again)
		return
	}
	op := b.c.writes.Get().(*writeOp)
	op.begin(b.c, v, w, again)
	if err := op.plan(w); err != nil {
		op.refuse(w, b.unkept(op, w, err))
	} else if op.isLogged() {
		if err := v.understands("Logged batches over several partitions"); err != nil {
			op.refuse(w, err)
		} else {
			b.log(op, w)
		}
	} else {
		b.dispatch(op, w)
	}
	op.release()
}

// writeDone ends a write.
func (c *Coordinator) writeDone(w *Write, err error) {
	c.inFlight.Add(-1)
	w.Done.WriteDone(w, err)
}

// writeAlone handles the write of a single mutation that this node alone carries out: no state is needed beyond the
// burst's. It reports false when that is not so.
func (b *Burst) writeAlone(v *view, w *Write) bool {
	if len(w.Mutations) != 1 || w.Trace != nil {
		return false
	}
	m := &w.Mutations[0]
	t := v.table(m.Generation)
	if t == nil || !t.onlyHere(m.Token, w.Level) {
		return false
	}
	if err := b.applyAlone(v, m); err != nil {
		if v.stale(b.c, err) {
			return false // newer metadata are here: the way that looks at them again
		}
		b.c.writeDone(w, b.c.localWriteError(err, w))
		return true
	}
	if planted.On(planted.AckBeforeApply) {
		b.c.writeDone(w, nil)
		return true
	}
	b.alone = append(b.alone, w)
	b.c.metrics.routed(true)
	return true
}

// localWriteError is the answer when this node, the only replica, refused.
func (c *Coordinator) localWriteError(err error, w *Write) error {
	if c.o.IsUnknownTable(err) {
		return &UnknownTable{w.Mutations[0].Generation}
	}
	if m := &w.Mutations[0]; c.o.IsBatchFull(err) { // it had a batch to itself
		return &TooLarge{len(m.Key) + len(m.Fragment), mutationBytesMax}
	}
	if c.o.IsInvalid(err) {
		return err
	}
	c.o.Logger.Debug("write refused", "err", err)
	here := c.peers.of(c.o.Self).failure(ReasonUnknown)
	here.Why = err.Error()
	return &WriteFailure{Level: w.Level, BlockFor: 1, Type: w.Type, Failures: []Failure{here}}
}

func (op *writeOp) begin(c *Coordinator, v *view, w *Write, again bool) {
	timeout := w.Timeout
	if timeout == 0 {
		timeout = c.o.WriteTimeout
	}
	op.c, op.view, op.w, op.trace = c, v, w, w.Trace
	op.level, op.kind, op.unhinted, op.applied, op.among, op.again = w.Level, w.Type, w.unhinted, w.applied, w.among, again
	op.began = time.Now()
	op.deadline = op.began.Add(timeout)
	op.sending, op.stale, op.anew, op.open, op.newer = true, false, false, 0, ring.HostID{}
	op.trace.Hold()
	v.era.Enter()
	op.refs.Store(1)
	op.parts = op.parts[:0]
	if !op.unhinted {
		c.owing.Add(1)
	}
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
		for to < len(w.Mutations) && w.Mutations[to].Token == m.Token && bytes.Equal(w.Mutations[to].Key, m.Key) && op.sameKeyspace(t, &w.Mutations[to]) && !planted.On(planted.BatchSplit) {
			to++
		}
		p := op.addPart(t, i, to)
		if err := op.place(p, m.Token); err != nil {
			return err
		}
		i = to
	}
	op.open = len(op.parts)
	for i := range op.parts {
		if err := op.parts[i].encode(op.view, w); err != nil {
			return err
		}
	}
	return nil
}

func (op *writeOp) sameKeyspace(t *tablePlan, m *row.Mutation) bool {
	o := op.view.table(m.Generation)
	return o != nil && o.table.Keyspace == t.table.Keyspace
}

func (op *writeOp) addPart(t *tablePlan, from, to int) *writePart {
	if len(op.parts) < cap(op.parts) {
		op.parts = op.parts[:len(op.parts)+1]
	} else {
		op.parts = append(op.parts, writePart{})
	}
	p := &op.parts[len(op.parts)-1]
	p.plan, p.from, p.to = t, from, to
	p.reached, p.unknown, p.fails, p.body = false, 0, nil, p.body[:0]
	return p
}

// place chooses the replicas of the last part and tells whether they can reach the level.
func (op *writeOp) place(p *writePart, token ring.Token) error {
	var buf [2 * replicasInline]*peer
	replicas, natural := p.plan.replicas(buf[:0], token)
	p.quota = p.plan.quotaOf(op.level, token, replicas, natural)
	if op.among != nil {
		replicas = slices.DeleteFunc(replicas, func(q *peer) bool { return !op.among(q) })
		p.quota = quota{level: op.level, need: max(len(replicas), 1)}
	}
	if op.applied {
	} else if op.level == Any {
		if !op.anyTakes(replicas) {
			return &Unavailable{Level: Any, Required: 1}
		}
	} else if err := p.quota.available(op.c, replicas, op.view.localDC); err != nil && !planted.On(planted.UnavailableAfterDispatch) {
		return err
	}
	p.targets = p.inline[:0]
	for _, q := range replicas {
		p.targets = append(p.targets, writeTarget{op: op, part: len(op.parts) - 1, peer: q})
	}
	p.waiting = len(p.targets)
	return nil
}

// anyTakes tells whether the write can reach a replica, or a hint be kept for one.
func (op *writeOp) anyTakes(replicas []*peer) bool {
	for _, q := range replicas {
		if op.c.live(q) || !op.unhinted && op.c.hints.Keeps(q.id) {
			return true
		}
	}
	return false
}

func (p *writePart) encode(v *view, w *Write) error {
	p.body = v.appendPlanned(p.body[:0])
	for i := p.from; i < p.to; i++ {
		p.body = w.Mutations[i].Append(p.body)
	}
	if size := len(p.mutations()); size > mutationBytesMax {
		return &TooLarge{size, mutationBytesMax}
	}
	return nil
}

// mutations are those of the body, as hints and the batchlog keep them: under what they are planned is decided when they are made.
func (p *writePart) mutations() []byte { return p.body[plannedBytes:] }

// dispatch sends every part to its replicas. Answers may come while it runs; they decide nothing before it is through
// with the caller's Write. The op's own reference keeps it alive.
func (b *Burst) dispatch(op *writeOp, w *Write) {
	total := 0
	for i := range op.parts {
		// Targets are addressed by pointer from here on: parts does not move any more.
		p := &op.parts[i]
		if len(p.targets) <= replicasInline {
			p.targets = p.inline[:copy(p.inline[:], p.targets)]
		}
		total += len(p.targets)
		b.c.metrics.routed(p.here())
	}
	op.refs.Add(int32(total))
	for i := range op.parts {
		p := &op.parts[i]
		for j := range p.targets {
			b.send(op, p, &p.targets[j], w)
		}
	}
	op.mu.Lock()
	op.sending = false
	w, d, err := op.decide()
	op.mu.Unlock()
	op.conclude(w, d, err)
}

// here tells whether this node is one of the part's replicas.
func (p *writePart) here() bool {
	for i := range p.targets {
		if p.targets[i].peer.self {
			return true
		}
	}
	return false
}

func (b *Burst) send(op *writeOp, p *writePart, t *writeTarget, w *Write) {
	c := b.c
	switch {
	case t.peer.self && op.applied:
		t.outcome(outcomeAcked)
	case t.peer.self:
		b.sendHere(op, p, t, w)
	case c.live(t.peer):
		c.send(op.trace, t.peer, VerbMutate, op.deadline, p.body, t)
	case op.unhinted || c.hints.Put(b.open(op.view, len(p.body)), t.peer.id, p.mutations()) != nil:
		t.outcome(outcomeDown)
	default:
		if op.trace != nil {
			op.trace.Event("Storing hint for %s", t.peer.address())
		}
		b.acks = append(b.acks, localAck{target: t, hint: true, peer: t.peer, size: len(p.mutations())})
	}
}

// sendHere adds the part to the burst's batch, which has room for all of it.
func (b *Burst) sendHere(op *writeOp, p *writePart, t *writeTarget, w *Write) {
	if op.trace != nil {
		op.trace.Event("Appending to commitlog and %s memtable", p.plan.table.Name)
	}
	if err := b.open(op.view, len(p.body)).ApplyAll(w.Mutations[p.from:p.to]); err != nil {
		t.refusedHere(err)
		return
	}
	if planted.On(planted.AckBeforeApply) {
		t.outcome(outcomeAcked)
		return
	}
	b.acks = append(b.acks, localAck{target: t})
}

func (t *writeTarget) refusedHere(err error) {
	op := t.op
	if op.trace != nil {
		op.trace.Event("Local store refused: %v", err)
	}
	if op.view.stale(op.c, err) {
		t.outcome(outcomeStale)
		return
	}
	op.c.o.Logger.Debug("local write refused", "err", err)
	t.why = err.Error()
	t.outcome(outcomeFailed)
}

// outcome of one target.
type outcome uint8

const (
	outcomeAcked    outcome = iota
	outcomeHinted           // it was down; a hint is durable
	outcomeDown             // it was down; no hint is kept for it
	outcomeHintLate         // it was down; whether a hint is durable is not known in time
	outcomeFailed           // it refused
	outcomeStale            // it refused because its metadata is newer than ours
	outcomeUnsent           // it did not get it
	outcomeTimeout          // it may have applied it
)

var outcomeWords = [...]string{"Write acknowledged by", "Hint stored for", "No hint is kept for", "Hint not stored in time for", "Write refused by",
	"Write refused (metadata differs) by", "Write not delivered to", "No answer from"}

// Done implements rpc.Callback.
func (t *writeTarget) Done(r *rpc.Response) {
	var e *rpc.Error
	switch {
	case r.Err == nil:
		if r.Status == rpc.StatusFailed {
			t.why = string(r.Body[:min(len(r.Body), whyBytesMax)])
		}
		t.outcome(statusOutcome(r, t.op.view.state.Epoch))
	case errors.As(r.Err, &e) && !e.Sent:
		t.outcome(outcomeUnsent)
	default:
		t.outcome(outcomeTimeout)
	}
}

// statusOutcome says what a replica's answer to a request that was planned at an epoch means.
func statusOutcome(r *rpc.Response, planned uint64) outcome {
	if planted.On(planted.RefusalCountsAsAck) {
		return outcomeAcked
	}
	switch r.Status {
	case rpc.StatusOK:
		return outcomeAcked
	case rpc.StatusWrongEpoch, rpc.StatusNotOwner, rpc.StatusUnknownTable:
		if r.Epoch > planned {
			return outcomeStale
		}
	case rpc.StatusExpired, rpc.StatusOverloaded, rpc.StatusNotReady:
		return outcomeUnsent
	}
	return outcomeFailed
}

// outcome records what became of the target, answers the write when that decides it, and keeps a hint for a replica that
// may have missed it. It gives the target's reference back.
func (t *writeTarget) outcome(o outcome) {
	op := t.op
	op.mu.Lock()
	p := &op.parts[t.part]
	p.waiting--
	if o == outcomeAcked || o == outcomeHinted && (op.level == Any || planted.On(planted.HintCountsAsAck)) {
		if !p.reached && p.quota.count(t.peer, op.view.localDC) {
			p.reached = true
			op.open--
		}
	} else {
		op.note(p, t, o)
	}
	w, d, err := op.decide()
	op.mu.Unlock()
	if op.trace != nil {
		op.trace.Event("%s %s", outcomeWords[o], t.peer.address())
	}
	if o >= outcomeFailed && o != outcomeStale {
		t.missed()
	}
	op.conclude(w, d, err)
	op.release()
}

// missed has a hint kept for a replica that may have missed the write.
func (t *writeTarget) missed() {
	if op := t.op; !op.unhinted && !t.peer.self {
		op.c.hints.Missed(t.peer.id, op.parts[t.part].mutations(), time.Since(op.began))
	}
}

// note is under op.mu.
func (op *writeOp) note(p *writePart, t *writeTarget, o outcome) {
	switch o {
	case outcomeTimeout:
		p.unknown++
	case outcomeHintLate:
		if op.level == Any {
			p.unknown++
		}
	case outcomeStale:
		op.stale, t.left = true, true
		if !t.peer.self {
			op.newer = t.peer.id
		}
		p.fails = append(p.fails, t.peer.failure(ReasonIncompatibleSchema))
	case outcomeUnsent:
		p.fails = append(p.fails, t.peer.failure(ReasonTimeout))
	case outcomeFailed:
		f := t.peer.failure(ReasonUnknown)
		f.Why = t.why
		p.fails = append(p.fails, f)
	}
}

// decision is what follows from the outcomes so far.
type decision uint8

const (
	decidesNothing decision = iota
	decidesAnswer           // the caller is told
	decidesAnew             // it is planned anew, and what comes of that is the answer
	decidesResend           // the caller has been told, and all of it is sent again by newer metadata
)

// decide returns the caller's Write when its answer is certain now, or is another attempt's. Under op.mu.
func (op *writeOp) decide() (w *Write, d decision, err error) {
	switch {
	case op.sending:
		return nil, decidesNothing, nil
	case op.w == nil:
		return nil, op.resends(), nil
	case op.open == 0:
		w, op.w = op.w, nil
		return w, decidesAnswer, nil
	case op.stale && time.Now().Before(op.deadline):
		w, op.w, op.anew = op.w, nil, true
		return w, decidesAnew, nil
	}
	for i := range op.parts {
		if p := &op.parts[i]; !p.reached && p.waiting == 0 {
			w, op.w = op.w, nil
			return w, decidesAnswer, op.errorOf(p)
		}
	}
	return nil, decidesNothing, nil
}

// resends tells whether what stale replicas have refused is to be sent again although nobody waits for it. Under op.mu.
func (op *writeOp) resends() decision {
	if !op.stale || op.anew {
		return decidesNothing
	}
	op.anew = true
	return decidesResend
}

// errorNow is the truth about the write when nothing more is waited for.
func (op *writeOp) errorNow() error {
	op.mu.Lock()
	defer op.mu.Unlock()
	for i := range op.parts {
		switch p := &op.parts[i]; {
		case p.reached:
		case p.waiting > 0:
			return &WriteTimeout{Level: op.level, Received: p.quota.got, BlockFor: p.quota.need, Type: op.kind}
		default:
			return op.errorOf(p)
		}
	}
	return nil
}

// errorOf is the truth about a part that has not reached its level and never will. That it failed is said only when a replica
// refused: one that was not reached gets a hint, so the write may yet be applied there.
func (op *writeOp) errorOf(p *writePart) error {
	if planted.On(planted.UnavailableAfterDispatch) {
		return &Unavailable{Level: op.level, Required: p.quota.need, Alive: p.quota.got}
	}
	if planted.On(planted.TimeoutAsRefused) {
		return &Overloaded{"nothing was done"}
	}
	if p.unknown == 0 && refused(p.fails) {
		return &WriteFailure{Level: op.level, Received: p.quota.got, BlockFor: p.quota.need, Type: op.kind, Failures: p.fails}
	}
	return &WriteTimeout{Level: op.level, Received: p.quota.got, BlockFor: p.quota.need, Type: op.kind}
}

// conclude does what was decided.
func (op *writeOp) conclude(w *Write, d decision, err error) {
	switch d {
	case decidesAnswer:
		op.mu.Lock()
		again := op.resends()
		op.mu.Unlock()
		op.c.writeDone(w, err)
		if again == decidesResend {
			op.spawnAnew(func() { op.resend() }, nil)
		}
	case decidesResend:
		op.spawnAnew(func() { op.resend() }, nil)
	case decidesAnew:
		op.spawnAnew(func() { op.retry(w) }, w)
	}
}

// spawnAnew runs f, which plans the write anew and gives a reference back, on a goroutine of its own. Without one w, unless it is nil, has failed.
func (op *writeOp) spawnAnew(f func(), w *Write) {
	op.refs.Add(1)
	if op.c.spawn(f) {
		return
	}
	op.hintLeft()
	if w != nil {
		op.c.writeDone(w, op.errorNow())
	}
	op.release()
}

// hintLeft has hints kept for the replicas that refused because their metadata are newer: it could not be sent to them again.
func (op *writeOp) hintLeft() {
	for i := range op.parts {
		p := &op.parts[i]
		for j := range p.targets {
			t := &p.targets[j]
			op.mu.Lock()
			left := t.left
			op.mu.Unlock()
			if left {
				t.missed()
			}
		}
	}
}

// knows returns a replica that has newer metadata; zero: only this node.
func (op *writeOp) knows() ring.HostID {
	op.mu.Lock()
	defer op.mu.Unlock()
	return op.newer
}

// retry waits for newer metadata and writes again, as an operation of its own: mutations are idempotent, they carry their timestamps. Nobody
// is waited for that might still answer: that replica would be of the old plan. It holds one reference.
func (op *writeOp) retry(w *Write) {
	defer op.release()
	mutations, err := op.decodeAll()
	if err != nil || !op.c.newerThan(op.view.state.Epoch, op.knows(), op.deadline) {
		op.hintLeft()
		op.c.writeDone(w, op.errorNow())
		return
	}
	c, first := op.c, op.errorNow()
	second := &Write{Mutations: mutations, Level: op.level, Type: op.kind, Timeout: max(time.Until(op.deadline), time.Millisecond), Trace: op.trace, unhinted: op.unhinted, applied: op.applied, among: op.among}
	second.Done = writeDoneFunc(func(_ *Write, err error) {
		// The first attempt was sent: that nothing was is no longer true.
		if neverSent(err) {
			err = first
		}
		c.writeDone(w, err)
	})
	c.begin(second)
}

// neverSent tells that an error means that no replica has been told.
func neverSent(err error) bool {
	var missing *Unavailable
	var busy *Overloaded
	return errors.As(err, &missing) || errors.As(err, &busy)
}

// resend brings a write that has been answered to those that are to have it by newer metadata. It holds one reference.
func (op *writeOp) resend() {
	defer op.release()
	c := op.c
	mutations, err := op.decodeAll()
	if err != nil || !c.newerThan(op.view.state.Epoch, op.knows(), time.Now().Add(c.o.WriteTimeout)) {
		op.hintLeft()
		return
	}
	c.begin(&Write{Mutations: mutations, Level: Any, Type: op.kind, unhinted: op.unhinted, applied: op.applied, among: op.among, Done: writeDoneFunc(func(_ *Write, err error) {
		if err != nil {
			c.o.Logger.Debug("a write that replicas had refused by newer metadata did not reach them", "err", err)
		}
	})})
}

// begin begins a further attempt at a write by the newest metadata.
func (c *Coordinator) begin(w *Write) {
	c.inFlight.Add(1)
	b := c.NewBurst()
	b.begin(c.view(), w, true)
	b.Close()
}

func (op *writeOp) decodeAll() ([]row.Mutation, error) {
	var out []row.Mutation
	for i := range op.parts {
		for src := bytes.Clone(op.parts[i].mutations()); len(src) > 0; {
			m, rest, err := row.DecodeMutation(src)
			if err != nil {
				return nil, err
			}
			out = append(out, m)
			src = rest
		}
	}
	return out, nil
}

const (
	bodyKeptMax  = 64 << 10 // the largest encoded part that a pooled op keeps room for
	partsKeptMax = 16       // the largest number of parts
)

// release gives one reference back; the last one returns the op to the pool.
func (op *writeOp) release() {
	if op.refs.Add(-1) > 0 {
		return
	}
	kept := op.parts[:cap(op.parts)]
	if len(kept) > partsKeptMax {
		op.parts, kept = nil, nil
	}
	for i := range kept {
		p := &kept[i]
		if cap(p.body) > bodyKeptMax {
			p.body = nil
		}
		p.plan, p.fails, p.quota.dcs = nil, nil, nil
		if cap(p.targets) > replicasInline {
			p.targets = nil
		}
	}
	op.trace.Release()
	op.view.era.Leave()
	op.view, op.trace, op.among = nil, nil, nil
	if !op.unhinted {
		op.c.owing.Add(-1)
	}
	op.c.writes.Put(op)
}

type writeDoneFunc func(w *Write, err error)

func (f writeDoneFunc) WriteDone(w *Write, err error) { f(w, err) }
