package coordinator

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/helenusdb/helenus/internal/trace"
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

	mu      sync.Mutex // guards what follows; never held across callbacks
	r       *Read      // nil once its answer is decided or reconciliation has taken over
	need    int
	spares  []*peer // replicas not asked yet, best first
	spareIn [replicasInline]*peer
	asked   []readTarget
	askedIn [replicasInline + 2]readTarget
	waiting int
	heard   int
	data    int  // index in asked of the best page with data; -1
	wrong   bool // digests differ
	fails   []Failure
	stale   bool
	body    []byte // the encoded command, data and digest
	digest  []byte
}

// readTarget is one replica that was asked; it is the callback of its answer.
type readTarget struct {
	op     *readOp
	peer   *peer
	sent   time.Time
	digest bool // only the digest was asked for
	done   bool
	page   row.Page
	err    error
	seq    uint64
}

// Read begins a read of one partition. What this node holds is read before it returns, on the caller's goroutine: it is
// for reads that are bounded. The answer may come before Read returns.
func (b *Burst) Read(r *Read) {
	c := b.c
	if c.inFlight.Add(1) > int64(c.o.InFlightMax) {
		c.inFlight.Add(-1)
		r.Done.ReadDone(r, &Overloaded{"too many requests are in flight on this coordinator"})
		return
	}
	r.c = c
	v := c.view()
	t := v.table(r.Command.Generation)
	if t == nil {
		c.readDone(r, &UnknownTable{r.Command.Generation})
		return
	}
	r.Command.GCBefore = t.gcBefore(r.Command.Now)
	r.Command.Bytes = min(r.Command.Bytes, replyBytesMax)
	var buf [2 * replicasInline]*peer
	replicas, natural := t.replicas(buf[:0], r.Command.Token)
	replicas = replicas[:natural]
	quota := t.quota(r.Level)
	if quota.need == 1 && r.Trace == nil && hasSelf(replicas) {
		c.readHere(r)
		return
	}
	if err := quota.available(replicas, c.live, v.localDC); err != nil {
		c.readDone(r, err)
		return
	}
	c.readAt(v, t, r, quota, replicas)
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
	r.retried = false
	c.inFlight.Add(-1)
	r.Done.ReadDone(r, err)
}

// readHere answers from this node alone.
func (c *Coordinator) readHere(r *Read) {
	seq, err := c.o.Storage.Read(&r.Command, &r.Page)
	switch {
	case err != nil:
		c.readDone(r, c.localReadError(r.Level, 1, err))
	case seq == 0:
		c.readDone(r, nil)
	default:
		c.o.Storage.WhenSynced(seq, r)
	}
}

// Committed implements Committed: what the read saw is durable now.
func (r *Read) Committed(err error) {
	if err != nil {
		err = r.c.localReadError(r.Level, 1, err)
	}
	r.c.readDone(r, err)
}

func (c *Coordinator) localReadError(level Level, need int, err error) error {
	if c.o.IsUnknownTable(err) {
		return &UnknownTable{}
	}
	c.o.Logger.Error("local read failed", "err", err)
	return &ReadFailure{Level: level, BlockFor: need, Failures: []Failure{{c.o.Self, c.peers.of(c.o.Self).address().Addr(), ReasonUnknown}}}
}

// readAt asks as many replicas as the level needs: the best for data, the others for digests.
func (c *Coordinator) readAt(v *view, t *tablePlan, r *Read, q quota, replicas []*peer) {
	timeout := r.Timeout
	if timeout == 0 {
		timeout = c.o.ReadTimeout
	}
	op := c.reads.Get().(*readOp)
	now := time.Now()
	op.c, op.view, op.plan, op.r, op.began, op.deadline, op.trace = c, v, t, r, now, now.Add(timeout), r.Trace
	op.need, op.waiting, op.heard, op.data = q.need, 0, 0, -1
	op.wrong, op.stale, op.fails = false, false, nil
	op.asked, op.spares = op.askedIn[:0], op.spareIn[:0]
	op.refs.Store(1)
	live := make([]*peer, 0, 2*replicasInline)
	for _, p := range replicas {
		if c.live(p) {
			live = append(live, p)
		}
	}
	rank(live, v.localDC)
	for _, p := range live {
		if len(op.asked) < op.need && q.counts(p, v.localDC) {
			q.count(p, v.localDC)
			op.asked = append(op.asked, readTarget{op: op, peer: p, digest: len(op.asked) > 0, page: op.keptPage(len(op.asked))})
		} else if q.dcs == nil && q.counts(p, v.localDC) {
			op.spares = append(op.spares, p)
		}
	}
	if cap(op.asked) < len(op.asked)+2 { // further replicas are appended while targets are addressed by pointer
		op.asked = append(make([]readTarget, 0, len(op.asked)+2), op.asked...)
	}
	op.waiting = len(op.asked)
	op.refs.Add(int32(op.waiting))
	op.dispatch(&r.Command)
	op.release()
}

// keptPage returns the page of an earlier use, for its buffer.
func (op *readOp) keptPage(i int) row.Page {
	if i < len(op.askedIn) {
		return op.askedIn[:cap(op.askedIn)][i].page
	}
	return row.Page{}
}

func (op *readOp) dispatch(cmd *row.Command) {
	op.body = cmd.Append(op.body[:0])
	digest := *cmd
	digest.Digest = true
	op.digest = digest.Append(op.digest[:0])
	n := len(op.asked)
	for i := range n { // remote ones first: they work while this node reads
		if t := &op.asked[i]; !t.peer.self {
			t.send()
		}
	}
	if after, ok := op.c.speculateAfter(op.plan); ok && len(op.spares) > 0 {
		op.refs.Add(1)
		op.c.wheel.add(op, op.began.Add(after))
	}
	for i := range n {
		if t := &op.asked[i]; t.peer.self {
			t.readHere()
		}
	}
}

func (t *readTarget) send() {
	op := t.op
	t.sent = time.Now()
	t.peer.outstanding.Add(1)
	body := op.body
	if t.digest {
		body = op.digest
	}
	if op.trace != nil {
		op.trace.Event("Sending READ message to %s", t.peer.address())
	}
	op.c.o.Transport.Send(t.peer.id, rpc.Data, VerbRead, op.deadline, body, t)
}

func (t *readTarget) readHere() {
	op := t.op
	var cmd row.Command
	if _, err := row.DecodeCommand(&cmd, op.body); err != nil {
		t.answered(err)
		return
	}
	cmd.Digest = t.digest
	seq, err := op.c.o.Storage.Read(&cmd, &t.page)
	if err == nil && seq != 0 {
		op.c.o.Storage.WhenSynced(seq, t)
		return
	}
	t.answered(err)
}

// Committed implements Committed: what this node read is durable now.
func (t *readTarget) Committed(err error) { t.answered(err) }

var (
	errStale   = errors.New("coordinator: the replica's metadata differs")
	errRefused = errors.New("coordinator: the replica refused")
)

// Done implements rpc.Callback.
func (t *readTarget) Done(r *rpc.Response) {
	t.peer.outstanding.Add(-1)
	if r.Err == nil {
		t.peer.answered(time.Since(t.sent))
	}
	switch {
	case r.Err != nil:
		t.answered(r.Err)
	case r.Status == rpc.StatusOK:
		t.answered(decodePage(&t.page, r.Body))
	case statusOutcome(r.Status) == outcomeStale:
		t.answered(errStale)
	default:
		t.answered(errRefused)
	}
}

// decodePage decodes a replica's answer, whose bytes are copied into the page's buffer.
func decodePage(p *row.Page, body []byte) error {
	kept := append(p.Data[:0], body...)
	if _, err := row.DecodePage(p, kept); err != nil {
		return err
	}
	return nil
}

// answered records a replica's answer and decides what follows from it.
func (t *readTarget) answered(err error) {
	op := t.op
	op.mu.Lock()
	t.done, t.err = true, err
	op.waiting--
	step := op.step(t, err)
	r := op.r
	if step != readGoesOn {
		op.r = nil
	}
	spare := op.nextSpare(step, err)
	op.mu.Unlock()
	if spare != nil {
		spare.begin()
	}
	if op.trace != nil {
		op.trace.Event("Received response from %s", t.peer.address())
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
		if op.waiting == 0 && op.heard+len(op.spares) < op.need {
			return readFails
		}
		return readGoesOn
	}
	op.heard++
	if op.data < 0 && !t.digest {
		op.data = op.indexOf(t)
	}
	if op.heard >= op.need && op.data >= 0 {
		if op.digestsAgree() {
			return readComplete
		}
		return readDiffers
	}
	if op.waiting == 0 && len(op.spares) == 0 {
		return readFails
	}
	return readGoesOn
}

func (op *readOp) indexOf(t *readTarget) int {
	for i := range op.asked {
		if &op.asked[i] == t {
			return i
		}
	}
	return -1
}

func (op *readOp) digestsAgree() bool {
	want := op.asked[op.data].page.Digest
	for i := range op.asked {
		if t := &op.asked[i]; t.done && t.err == nil && t.page.Digest != want {
			return false
		}
	}
	return true
}

func (op *readOp) fail(t *readTarget, err error) {
	if errors.Is(err, errStale) {
		op.stale = true
	}
	if !errors.Is(err, rpc.ErrTimeout) {
		op.fails = append(op.fails, Failure{t.peer.id, t.peer.address().Addr(), ReasonUnknown})
	}
}

// nextSpare returns a further target when an answer failed and another replica may stand in, or when all that is left to
// wait for is not enough. It is under op.mu and takes a reference for the target.
func (op *readOp) nextSpare(step readStep, err error) *readTarget {
	if step != readGoesOn || op.r == nil || len(op.spares) == 0 {
		return nil
	}
	if err == nil && (op.waiting > 0 || op.heard >= op.need && op.data >= 0) {
		return nil
	}
	return op.addSpare()
}

func (op *readOp) addSpare() *readTarget {
	if len(op.asked) == cap(op.asked) || len(op.spares) == 0 {
		return nil
	}
	p := op.spares[0]
	op.spares = op.spares[1:]
	op.asked = append(op.asked, readTarget{op: op, peer: p, page: op.keptPage(len(op.asked))})
	op.waiting++
	op.refs.Add(1)
	return &op.asked[len(op.asked)-1]
}

// begin asks a further replica, which may be this node.
func (t *readTarget) begin() {
	t.op.c.metrics.SpeculativeReads.Add(1)
	if t.peer.self {
		t.readHere()
		return
	}
	t.send()
}

// speculate is called by the wheel when the answer is late. It holds a reference.
func (op *readOp) speculate() {
	op.mu.Lock()
	var spare *readTarget
	if op.r != nil {
		spare = op.addSpare()
	}
	op.mu.Unlock()
	if spare != nil {
		spare.begin()
	}
	op.release()
}

// conclude answers the caller, or hands the read over to reconciliation. r is nil when there is nothing to do.
func (op *readOp) conclude(step readStep, r *Read) {
	if r == nil {
		return
	}
	switch step {
	case readComplete:
		d := &op.asked[op.data].page
		r.Page.Rows, r.Page.More, r.Page.Digest = d.Rows, d.More, d.Digest
		r.Page.Data = append(r.Page.Data[:0], d.Data...)
		r.Page.Cut = clonePosition(d.Cut)
		op.c.latencies.add(time.Since(op.began), len(op.asked) > op.need)
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

func clonePosition(p row.Position) row.Position {
	p.Key = append([]byte(nil), p.Key...)
	p.Clustering = append([]byte(nil), p.Clustering...)
	return p
}

func (op *readOp) failed(r *Read) {
	op.mu.Lock()
	err := op.errorNow(r.Level)
	stale := op.stale
	op.mu.Unlock()
	if stale && !r.retried {
		op.refs.Add(1)
		if op.c.spawn(func() { op.retry(r, err) }) {
			return
		}
		op.release()
	}
	op.c.readDone(r, err)
}

// errorNow is under op.mu.
func (op *readOp) errorNow(level Level) error {
	if len(op.fails) > 0 && op.waiting == 0 && !op.timedOut() {
		return &ReadFailure{Level: level, Received: op.heard, BlockFor: op.need, DataPresent: op.data >= 0, Failures: op.fails}
	}
	return &ReadTimeout{Level: level, Received: op.heard, BlockFor: op.need, DataPresent: op.data >= 0}
}

func (op *readOp) timedOut() bool {
	for i := range op.asked {
		if t := &op.asked[i]; t.done && errors.Is(t.err, rpc.ErrTimeout) {
			return true
		}
	}
	return false
}

// retry waits for newer metadata and reads again, once.
func (op *readOp) retry(r *Read, first error) {
	defer op.release()
	if !op.c.awaitNewer(op.view.state.Epoch, op.deadline) {
		op.c.readDone(r, first)
		return
	}
	r.retried = true
	op.c.inFlight.Add(-1)
	op.c.NewBurst().Read(r)
}

func (op *readOp) release() {
	if op.refs.Add(-1) > 0 {
		return
	}
	for i := range op.asked {
		if t := &op.asked[i]; cap(t.page.Data) > bodyKeptMax {
			t.page = row.Page{}
		}
	}
	op.view, op.plan, op.fails, op.trace = nil, nil, nil, nil
	op.c.reads.Put(op)
}
