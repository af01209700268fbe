package coordinator

import (
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

// readOp is a read under way that involves other replicas. It outlives the caller's Read and is returned to the pool
// when every replica that was asked has answered or timed out.
type readOp struct {
	c        *Coordinator
	refs     atomic.Int32 // replicas asked and not heard of, plus one while it is dispatched, plus one in the wheel
	view     *view
	plan     *tablePlan
	began    time.Time
	deadline time.Time
	trace    *trace.Session
	level    Level
	need     int
	asks     quota  // what the level asks for
	each     bool   // the level counts per data centre: every replica that was asked is needed
	body     []byte // the request, for data and for a digest: what it is planned under, and the command
	digest   []byte
	here     row.Command // decoded from body for the read of this node's store
	turn     int         // of a scan: how many replicas to pass over, so that its parts are spread
	ranged   bool        // of a scan

	mu      sync.Mutex // guards what follows; never held across callbacks
	r       *Read      // nil once its answer is decided or reconciliation has taken over
	spares  []*peer    // replicas not asked yet, best first
	spareIn [2 * replicasInline]*peer
	asked   []readTarget // addressed by pointer once dispatched
	askedIn [replicasInline + 2]readTarget
	waiting int
	quota   quota       // of those that answered
	data    *readTarget // the first that answered with data
	fails   []Failure
	late    bool // a replica did not answer in time
	stale   bool // a replica with newer metadata refused
	newer   ring.HostID
}

// readTarget is one replica that was asked; it is the callback of its answer.
type readTarget struct {
	op     *readOp
	peer   *peer
	sent   time.Time
	digest bool // only the digest was asked for
	extra  bool // asked later than the others
	page   row.Page
	buf    []byte // what page aliases when it came from another node

	done bool // guarded by op.mu
	err  error
}

// Read begins a read of one partition. What this node holds is read on the caller's goroutine, before Read returns or, when
// there are writes to flush, in Flush, so that no partition is locked meanwhile: it is for reads that are bounded. The answer
// may come before Read returns.
func (b *Burst) Read(r *Read) {
	if b.batch != nil {
		b.reads = append(b.reads, r)
		return
	}
	b.read(r)
}

func (b *Burst) read(r *Read) {
	if b.place == nil {
		b.place = b.c.watch.join()
	}
	b.c.read(r, b.place)
}

// read begins a read. What this node holds is read at the place; without one on a goroutine of its own.
func (c *Coordinator) read(r *Read, at *place) {
	if c.inFlight.Add(1) > int64(c.o.InFlightMax) {
		c.inFlight.Add(-1)
		r.Done.ReadDone(r, &Overloaded{"too many requests are in flight on this coordinator"})
		return
	}
	v := c.view()
	t := v.table(r.Command.Generation)
	if t == nil {
		c.readDone(r, &UnknownTable{r.Command.Generation})
		return
	}
	var buf [2 * replicasInline]*peer
	replicas, q := t.readers(buf[:0], r.Command.Token, r.Level)
	c.metrics.routed(hasSelf(replicas))
	c.readFrom(t, r, &q, replicas, at)
}

// readFrom carries out a read, counted as in flight, on replicas that hold all it asks for.
func (c *Coordinator) readFrom(t *tablePlan, r *Read, q *quota, replicas []*peer, at *place) {
	prepare(t, &r.Command)
	if at != nil && q.need == 1 && r.Trace == nil && hasSelf(replicas) && !c.stalling() {
		c.readHere(t, r, q, replicas, at)
		return
	}
	if err := q.available(c, replicas, t.view.localDC); err != nil {
		c.readDone(r, err)
		return
	}
	c.readAt(t, r, q, replicas, at, nil)
}

// prepare fills in what replicas are told. It writes nothing to a command that has been prepared: the local store may still be
// looking at it.
func prepare(t *tablePlan, cmd *row.Command) {
	bytes := cmd.Bytes
	if bytes <= 0 {
		bytes = row.DefaultPageBytes
	}
	bytes, before := min(bytes, replyBytesMax), t.gcBefore(cmd.Now)
	if cmd.Bytes != bytes || cmd.GCBefore != before || cmd.Digest {
		cmd.Bytes, cmd.GCBefore, cmd.Digest = bytes, before, false
	}
}

func hasSelf(replicas []*peer) bool {
	for _, p := range replicas {
		if p.self {
			return true
		}
	}
	return false
}

// readDone ends a Read.
func (c *Coordinator) readDone(r *Read, err error) {
	r.until = time.Time{}
	c.inFlight.Add(-1)
	r.Done.ReadDone(r, err)
}

// readHere answers from this node alone, or from others when its store fails.
func (c *Coordinator) readHere(t *tablePlan, r *Read, q *quota, replicas []*peer, at *place) {
	c.enter(at, r, nil)
	seq, err := c.o.Storage.Read(&r.Command, &at.page)
	mine, held := c.leave(at)
	if held {
		defer r.Holder.Release()
	}
	if !mine {
		return
	}
	r.Page, at.page = at.page, r.Page
	switch {
	case err == nil && c.readFence(t.view.state.RingEpoch) != rpc.StatusOK:
		c.readAnew(r, time.Now().Add(c.timeoutOf(r)))
	case err != nil && !c.o.IsUnknownTable(err) && len(replicas) > 1 && q.available(c, others(replicas), t.view.localDC) == nil:
		c.o.Logger.Error("local read failed: asking another replica", "err", err)
		c.readAt(t, r, q, others(replicas), nil, []Failure{c.self.failure(ReasonUnknown)})
	case err != nil:
		c.readDone(r, c.localReadError(r, err))
	case seq == 0:
		c.readDone(r, nil)
	default:
		c.whenSynced(seq, r, nil, c.overdue.now()+c.timeoutOf(r))
	}
}

func (c *Coordinator) localReadError(r *Read, err error) error {
	if c.o.IsUnknownTable(err) {
		return &UnknownTable{r.Command.Generation}
	}
	c.o.Logger.Error("local read failed", "err", err)
	return &ReadFailure{Level: r.Level, BlockFor: 1, Failures: []Failure{c.self.failure(ReasonUnknown)}}
}

// readAt asks as many replicas as the level needs: the best for data, the others for digests. fails are replicas that have
// failed before.
func (c *Coordinator) readAt(t *tablePlan, r *Read, q *quota, replicas []*peer, at *place, fails []Failure) {
	op := c.reads.Get().(*readOp)
	op.begin(c, t, r, q)
	op.fails = fails
	if err := op.choose(*q, replicas); err != nil {
		op.r = nil
		c.readDone(r, err)
	} else {
		op.dispatch(&r.Command, at)
	}
	op.release()
}

func (op *readOp) begin(c *Coordinator, t *tablePlan, r *Read, q *quota) {
	now := time.Now()
	op.c, op.view, op.plan, op.r, op.began, op.deadline, op.trace = c, t.view, t, r, now, now.Add(c.timeoutOf(r)), r.Trace
	op.level, op.need, op.each, op.turn, op.quota = r.Level, q.need, q.dcs != nil, r.turn, *q
	op.ranged = r.Command.Range != nil
	op.asks = *q
	op.waiting, op.data, op.fails = 0, nil, nil
	op.trace.Hold()
	op.view.era.Enter()
	op.late, op.stale, op.newer = false, false, ring.HostID{}
	op.asked, op.spares = op.askedIn[:0], op.spareIn[:0]
	op.refs.Store(1)
}

// choose decides whom to ask first and who may stand in: any that is live and counts.
func (op *readOp) choose(q quota, replicas []*peer) error {
	c, localDC := op.c, op.view.localDC
	var buf [2 * replicasInline]*peer
	live := buf[:0]
	for _, p := range replicas {
		if c.live(p) {
			live = append(live, p)
		}
	}
	rank(live, localDC, c.peers.now())
	op.spread(live)
	for _, p := range live {
		switch {
		case q.got < q.need && q.counts(p, localDC):
			q.count(p, localDC)
			op.ask(p, len(op.asked) > 0, false)
		case op.quota.counts(p, localDC):
			op.spares = append(op.spares, p)
		}
	}
	if q.got < q.need { // somebody died since availability was looked at
		return &Unavailable{Level: q.level, Required: q.need, Alive: q.got}
	}
	if all := len(op.asked) + len(op.spares); cap(op.asked) < all { // targets must not move when further ones are added
		op.asked = append(make([]readTarget, 0, all), op.asked...)
	}
	op.waiting = len(op.asked)
	op.refs.Add(int32(op.waiting))
	return nil
}

// spread lets the parts of one scan begin with different replicas of this data centre. They are as good as each other while
// the disks and processors, not the network, are what a scan waits for.
func (op *readOp) spread(live []*peer) {
	if op.turn == 0 {
		return
	}
	n := 0
	for n < len(live) && *live[n].dc.Load() == op.view.localDC && (!live[n].self || !op.c.stalling()) {
		n++
	}
	if n > 1 {
		k := op.turn % n
		slices.Reverse(live[:k])
		slices.Reverse(live[k:n])
		slices.Reverse(live[:n])
	}
}

// ask adds a target, in the place of an earlier use of the op for the sake of its buffers.
func (op *readOp) ask(p *peer, digest, extra bool) *readTarget {
	n := len(op.asked)
	if n < cap(op.asked) {
		op.asked = op.asked[:n+1]
	} else {
		op.asked = append(op.asked, readTarget{})
	}
	t := &op.asked[n]
	t.op, t.peer, t.digest, t.extra, t.done, t.err = op, p, digest, extra, false, nil
	return t
}

func (op *readOp) dispatch(cmd *row.Command, at *place) {
	op.body = cmd.Append(op.view.appendPlanned(op.body[:0]))
	digest := *cmd
	digest.Digest = true
	op.digest = digest.Append(op.view.appendPlanned(op.digest[:0]))
	first := op.asked
	for i := range first { // remote ones first: they work while this node reads
		if t := &first[i]; !t.peer.self {
			t.send()
		}
	}
	op.arm()
	for i := range first {
		t := &first[i]
		switch {
		case !t.peer.self:
		case at == nil || op.c.stalling():
			t.readApart(at == nil)
		default:
			t.readHere(at)
		}
	}
}

// arm arranges for a further replica to be asked when the answers are late.
func (op *readOp) arm() {
	after, ok := speculateAfter(op.plan)
	op.mu.Lock()
	ok = ok && len(op.spares) > 0 && op.r != nil
	op.mu.Unlock()
	if !ok {
		return
	}
	op.refs.Add(1)
	if after <= 0 {
		op.speculate()
		return
	}
	op.c.wheel.add(op, op.began.Add(after))
}

func (t *readTarget) send() {
	op := t.op
	t.sent = time.Now()
	t.peer.outstanding.Add(1)
	body := op.body
	if t.digest {
		body = op.digest
	}
	op.c.send(op.trace, t.peer, VerbRead, op.deadline, body, t)
}

// readApart reads this node's store on a goroutine of its own. When there are too many, or the node is stopping, a caller that
// may wait does it.
func (t *readTarget) readApart(mayWait bool) {
	c := t.op.c
	read := func() {
		at := c.watch.join()
		t.readHere(at)
		c.watch.part(at)
	}
	switch {
	case c.self.stalled.Load() < stalledMax && c.spawn(read):
	case mayWait && !c.stalling():
		read()
	default:
		t.answered(errRefused)
	}
}

// readHere reads this node's store at a place.
func (t *readTarget) readHere(at *place) {
	op := t.op
	if _, err := row.DecodeCommand(&op.here, op.body[plannedBytes:]); err != nil {
		t.answered(err)
		return
	}
	op.here.Digest = t.digest
	if op.trace != nil {
		op.trace.Event("%s", op.plan.readEvent(&op.here))
	}
	op.c.enter(at, nil, t)
	seq, err := op.c.o.Storage.Read(&op.here, &t.page)
	mine, held := op.c.leave(at)
	if held {
		defer op.release()
	}
	if !mine {
		return
	}
	if err = op.view.localError(op.c, err); err == nil && seq != 0 {
		op.c.whenSynced(seq, nil, t, op.deadline.Sub(op.c.overdue.base))
		return
	}
	t.answered(err)
}

// localError tells metadata that has moved on from other errors.
func (v *view) localError(c *Coordinator, err error) error {
	if err == nil {
		if c.readFence(v.state.RingEpoch) != rpc.StatusOK {
			return errStale
		}
		return nil
	}
	if c.o.IsUnknownTable(err) && c.o.Cluster.Current().Epoch > v.state.Epoch {
		return errStale
	}
	c.o.Logger.Error("local read failed", "err", err)
	return err
}

var (
	errStale   = errors.New("coordinator: the replica's metadata is newer")
	errRefused = errors.New("coordinator: the replica refused")
)

// Done implements rpc.Callback.
func (t *readTarget) Done(r *rpc.Response) {
	t.peer.outstanding.Add(-1)
	err := readError(r, t.op.view.state.Epoch)
	t.observe(r, err)
	if err == nil {
		t.buf, err = decodePage(&t.page, t.buf, r.Body)
	}
	t.answered(err)
}

// observe takes note of how fast the replica was.
func (t *readTarget) observe(r *rpc.Response, err error) {
	took, now := time.Since(t.sent), t.op.c.peers.now()
	switch {
	case err == nil:
		t.peer.answered(took, now)
		if !t.extra && !t.op.ranged {
			t.op.plan.latencies.add(took)
		}
	case errors.Is(r.Err, rpc.ErrOverloaded) && took < latencyBase: // our own queue
	default:
		t.peer.answered(max(took, latencyRefused), now)
	}
}

// readError says what an answer to a read that was planned at an epoch means; nil: it carries a page.
func readError(r *rpc.Response, planned uint64) error {
	switch {
	case r.Err != nil:
		return r.Err
	case r.Status == rpc.StatusOK:
		return nil
	}
	switch statusOutcome(r, planned) {
	case outcomeStale:
		return errStale
	case outcomeUnsent:
		return errNotTaken
	}
	return errRefused
}

// decodePage decodes a replica's answer, whose bytes are copied into buf, which the page aliases.
func decodePage(p *row.Page, buf, body []byte) ([]byte, error) {
	buf = append(buf[:0], body...)
	_, err := row.DecodePage(p, buf)
	return buf, err
}

// answered records a replica's answer and decides what follows from it. It gives the target's reference back.
func (t *readTarget) answered(err error) {
	op := t.op
	if op.trace != nil {
		op.trace.Event("Processing response from /%s", t.peer.address())
	}
	op.mu.Lock()
	t.done, t.err = true, err
	op.waiting--
	step := op.step(t, err)
	r := op.r
	var spare *readTarget
	if step != readGoesOn {
		op.r = nil
	} else {
		spare = op.nextSpare(t, err)
	}
	op.mu.Unlock()
	if spare != nil {
		spare.begin()
	}
	op.conclude(step, r)
	op.release()
}

type readStep uint8

const (
	readGoesOn readStep = iota
	readComplete
	readDiffers
	readFails
)

// step decides, under op.mu, what the answer of t changes.
func (op *readOp) step(t *readTarget, err error) readStep {
	if op.r == nil {
		return readGoesOn
	}
	if err != nil {
		op.fail(t, err)
	} else {
		op.quota.count(t.peer, op.view.localDC)
		if planted.On(planted.SpeculativeCountedTwice) && t.extra {
			op.quota.count(t.peer, op.view.localDC)
		}
		if op.data == nil && !t.digest {
			op.data = t
		}
		if op.quota.got >= op.need && op.data != nil {
			if op.digestsAgree() {
				return readComplete
			}
			return readDiffers
		}
	}
	if op.waiting == 0 && op.spareFor(t, err) < 0 {
		return readFails
	}
	return readGoesOn
}

func (op *readOp) digestsAgree() bool {
	if planted.On(planted.DigestNotCompared) {
		return true
	}
	want := op.data.page.Digest
	for i := range op.asked {
		if t := &op.asked[i]; t.done && t.err == nil && t.page.Digest != want {
			return false
		}
	}
	return true
}

func (op *readOp) fail(t *readTarget, err error) {
	switch {
	case errors.Is(err, rpc.ErrTimeout):
		op.late = true
		return
	case errors.Is(err, errStale):
		op.stale = true
		if !t.peer.self {
			op.newer = t.peer.id
		}
	}
	op.fails = append(op.fails, t.peer.failure(reasonOf(err)))
}

// nextSpare returns a further target when the answer of t failed and another replica may stand in, or when there is nothing
// left to wait for. It is under op.mu and takes a reference for the target.
func (op *readOp) nextSpare(t *readTarget, err error) *readTarget {
	if op.r == nil || err == nil && op.waiting > 0 {
		return nil
	}
	return op.addSpare(op.spareFor(t, err))
}

// spareFor returns the index of the replica to ask further: one that stands in for t if t failed, else any that is missing;
// -1: there is none. EACH_QUORUM wants replicas of certain data centres. Under op.mu.
func (op *readOp) spareFor(t *readTarget, err error) int {
	if !op.each {
		return min(len(op.spares), 1) - 1
	}
	other := -1
	for i, p := range op.spares {
		if !op.quota.counts(p, op.view.localDC) {
			continue
		}
		if t == nil || err == nil || *p.dc.Load() == *t.peer.dc.Load() {
			return i
		}
		if other < 0 && op.waiting == 0 {
			other = i
		}
	}
	return other
}

func (op *readOp) addSpare(i int) *readTarget {
	if i < 0 {
		return nil
	}
	p := op.spares[i]
	copy(op.spares[i:], op.spares[i+1:])
	op.spares = op.spares[:len(op.spares)-1]
	op.waiting++
	op.refs.Add(1)
	return op.ask(p, false, true)
}

// begin asks a further replica, which may be this node: then on a goroutine of its own, for here runs the transport's or
// the wheel's.
func (t *readTarget) begin() {
	c := t.op.c
	c.metrics.SpeculativeReads.Add(1)
	if !t.peer.self {
		t.send()
		return
	}
	t.readApart(false)
}

// speculate is called by the wheel when the answer is late. It holds a reference.
func (op *readOp) speculate() {
	op.mu.Lock()
	var spare *readTarget
	if op.r != nil {
		spare = op.addSpare(op.spareFor(nil, nil))
	}
	op.mu.Unlock()
	if spare != nil {
		spare.begin()
	}
	op.release()
}

// answered tells whether the read needs no replica any more.
func (op *readOp) answered() bool {
	op.mu.Lock()
	defer op.mu.Unlock()
	return op.r == nil
}

// conclude answers the caller, or hands the read over to reconciliation.
func (op *readOp) conclude(step readStep, r *Read) {
	switch step {
	case readComplete:
		d := &op.data.page
		r.Page.Rows, r.Page.More, r.Page.Digest = d.Rows, d.More, d.Digest
		r.Page.Data = append(r.Page.Data[:0], d.Data...)
		r.Page.Cut = clonePosition(&d.Cut)
		op.c.readDone(r, nil)
	case readDiffers:
		op.refs.Add(1)
		if !op.c.spawn(func() { op.reconcile(r) }) {
			op.release()
			op.c.readDone(r, &Overloaded{"too many reads are being reconciled"})
		}
	case readFails:
		op.failed(r)
	}
}

// clonePosition copies the position, which is mostly the zero one.
func clonePosition(p *row.Position) row.Position {
	c := *p
	if p.Key != nil {
		c.Key = append([]byte{}, p.Key...)
	}
	if p.Clustering != nil {
		c.Clustering = append([]byte{}, p.Clustering...)
	}
	return c
}

// staleScan tells a scan that its plan is out of date; nothing was read.
type staleScan struct {
	newer ring.HostID
	err   error // if there is no newer plan
}

// Error implements error.
func (e *staleScan) Error() string { return e.err.Error() }

func (op *readOp) failed(r *Read) {
	op.mu.Lock()
	err, stale := op.errorNow(), op.stale
	op.mu.Unlock()
	switch {
	case stale && r.part:
		err = &staleScan{op.newer, err}
	case stale && time.Now().Before(op.deadline):
		op.refs.Add(1)
		if op.c.spawn(func() { op.retry(r, err) }) {
			return
		}
		op.release()
	}
	op.c.readDone(r, err)
}

// errorNow is under op.mu.
func (op *readOp) errorNow() error {
	if refused(op.fails) && !op.late {
		return &ReadFailure{Level: op.level, Received: op.quota.got, BlockFor: op.need, DataPresent: op.data != nil, Failures: op.fails}
	}
	return &ReadTimeout{Level: op.level, Received: op.quota.got, BlockFor: op.need, DataPresent: op.data != nil}
}

// retry waits for newer metadata and reads again, until the deadline. It holds a reference.
func (op *readOp) retry(r *Read, first error) {
	defer op.release()
	if !op.c.newerThan(op.view.state.Epoch, op.newer, op.deadline) {
		op.c.readDone(r, first)
		return
	}
	op.c.readAnew(r, op.deadline)
}

// readAnew plans a read, which is counted as in flight, by newer metadata, to end at the deadline.
func (c *Coordinator) readAnew(r *Read, deadline time.Time) {
	r.until = deadline
	c.inFlight.Add(-1)
	c.read(r, nil)
}

// release gives one reference back; the last one returns the op to the pool.
func (op *readOp) release() {
	if op.refs.Add(-1) > 0 {
		return
	}
	for i := range op.asked {
		if t := &op.asked[i]; max(cap(t.page.Data), cap(t.buf)) > bodyKeptMax {
			t.page, t.buf = row.Page{}, nil
		}
	}
	op.trace.Release()
	op.view.era.Leave()
	op.view, op.plan, op.fails, op.trace, op.data, op.quota, op.asks = nil, nil, nil, nil, nil, quota{}, quota{}
	op.c.reads.Put(op)
}
