package coordinator

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/helenusdb/helenus/coordinator/paxos"
	"github.com/helenusdb/helenus/internal/planted"
	"github.com/helenusdb/helenus/internal/trace"
	"github.com/helenusdb/helenus/meta"
	"github.com/helenusdb/helenus/ring"
	"github.com/helenusdb/helenus/row"
)

// CASType is the write type of conditional writes in timeouts and failures.
const CASType WriteType = "CAS"

// CAS is a conditional write of one partition (docs/design/0006-paxos.md). The caller owns it; Coordinator.CAS blocks, so it
// is called on a goroutine apart.
type CAS struct {
	Command row.Command   // what the conditions need of the partition: one partition, Digest unset
	Serial  Level         // Serial or LocalSerial
	Commit  Level         // level of the commit, any write level: whose acknowledgements are awaited once it is decided
	Timeout time.Duration // how long new ballots are begun; 0: Options.CASTimeout
	Trace   *trace.Session
	// Decide is told the partition's latest decided content and returns what to write: mutations of this partition whose every
	// timestamp is ts (µs, later than all that was decided before), or applied == false. It may be called more than once, each
	// time with newer content, also for attempts that come to nothing; it must be pure. now is in seconds. An error ends the
	// conditional write; nothing is written then.
	Decide func(page *row.Page, ts, now int64) (ms []row.Mutation, applied bool, err error)
	Page   row.Page // afterwards: the content that Decide saw last
}

// CASWriteUnknown says that a conditional write was proposed, and that contention kept this node from learning whether it is
// applied. CAS_WRITE_UNKNOWN in protocol v5; a WriteTimeout of CASType in older ones.
type CASWriteUnknown struct {
	Level              Level
	Received, BlockFor int
}

// Error returns Cassandra's text.
func (e *CASWriteUnknown) Error() string {
	return fmt.Sprintf("CAS operation result is unknown - proposal accepted by %d but not a quorum.", e.Received)
}

// errNoRegisters is for a coordinator without Options.Registers.
var errNoRegisters = errors.New("coordinator: this node keeps no Paxos registers")

// CAS carries out a conditional write, blocking, and tells whether it was applied: read, decided and written as if nobody
// else did anything to the partition in between. Errors: *Unavailable (nothing was sent), *WriteTimeout and *CASWriteUnknown
// (it may be applied, now or later), *WriteFailure (replicas refused, it is not applied), *TooLarge, *UnknownTable,
// *Overloaded, and those of Decide (not applied).
func (c *Coordinator) CAS(ctx context.Context, op *CAS) (applied bool, err error) {
	began := time.Now()
	w := &casOp{cmd: op.Command, serial: op.Serial, level: op.Commit, decide: op.Decide, trace: op.Trace}
	err = c.serialize(ctx, w, op.Timeout, false)
	op.Page = w.page
	c.metrics.CASLatency.observe(time.Since(began))
	c.metrics.countCAS(w, err)
	return w.applied && err == nil, err
}

// SerialRead reads one partition linearizably, blocking; r.Level is Serial or LocalSerial. It finishes what other proposers
// have left undone. Errors: *Unavailable, *ReadTimeout, *ReadFailure, *UnknownTable, *Overloaded.
func (c *Coordinator) SerialRead(ctx context.Context, r *Read) error {
	w := &casOp{cmd: r.Command, serial: r.Level, level: Any, trace: r.Trace, readOnly: true}
	err := c.serialize(ctx, w, r.Timeout, true)
	r.Page = w.page
	c.metrics.SerialReads.Add(1)
	return readErrorOf(err)
}

// readErrorOf tells of a serial read what would be told of a write.
func readErrorOf(err error) error {
	var timeout *WriteTimeout
	var failure *WriteFailure
	var unknown *CASWriteUnknown
	switch {
	case errors.As(err, &timeout):
		return &ReadTimeout{Level: timeout.Level, Received: timeout.Received, BlockFor: timeout.BlockFor}
	case errors.As(err, &unknown):
		return &ReadTimeout{Level: unknown.Level, Received: unknown.Received, BlockFor: unknown.BlockFor}
	case errors.As(err, &failure):
		if !refused(failure.Failures) {
			return &ReadTimeout{Level: failure.Level, Received: failure.Received, BlockFor: failure.BlockFor}
		}
		return &ReadFailure{Level: failure.Level, Received: failure.Received, BlockFor: failure.BlockFor, Failures: failure.Failures}
	}
	return err
}

// casOp is one conditional write or serial read under way. Its fields are its caller's goroutine's, and while it is in a
// batch the leader's, who hands it back by answering.
type casOp struct {
	cmd      row.Command
	encoded  string // cmd, by which equal ones are known
	serial   Level
	level    Level // of the commit
	readOnly bool
	decide   func(page *row.Page, ts, now int64) ([]row.Mutation, bool, error)
	trace    *trace.Session

	began, contended, deadline time.Time

	wake   chan struct{} // capacity 1: it leads, or it is answered
	queued bool          // guarded by proposals.mu: it waits in the queue

	sent     bool // something was sent for it
	page     row.Page
	applied  bool
	commit   *commitRun // nil: nothing to wait for
	err      error
	answered bool
}

func (w *casOp) answer(applied bool, err error) {
	w.applied, w.err, w.answered = applied, err, true
	w.wake <- struct{}{}
}

// serialize checks, dates and queues an operation and waits for its end.
func (c *Coordinator) serialize(ctx context.Context, w *casOp, timeout time.Duration, look bool) error {
	if c.o.Registers == nil {
		return errNoRegisters
	}
	if c.inFlight.Add(1) > int64(c.o.InFlightMax) {
		c.inFlight.Add(-1)
		return &Overloaded{"too many requests are in flight on this coordinator"}
	}
	defer c.inFlight.Add(-1)
	if !c.join() {
		return &Overloaded{"this node is stopping"}
	}
	defer c.running.Done()
	c.date(w, timeout)
	if err := c.admitCAS(ctx, w); err != nil {
		return err
	}
	if look && !c.proposals.busy(w) {
		if done, err := c.lookAt(ctx, w); done {
			return err
		}
	}
	return c.propose(ctx, w)
}

func (c *Coordinator) date(w *casOp, timeout time.Duration) {
	w.began = time.Now()
	contend := timeout
	if contend == 0 {
		contend = c.o.CASTimeout
	}
	w.contended = w.began.Add(contend)
	w.deadline = w.began.Add(max(contend, c.o.WriteTimeout))
	w.wake = make(chan struct{}, 1)
	if w.cmd.Now == 0 {
		w.cmd.Now = c.o.Now().Unix()
	}
	if w.cmd.Bytes <= 0 {
		w.cmd.Bytes = row.DefaultPageBytes
	}
	w.cmd.Bytes, w.cmd.Digest = min(w.cmd.Bytes, replyBytesMax), false
}

// admitCAS decides whether the operation can be carried out at all; nothing has been sent yet.
func (c *Coordinator) admitCAS(ctx context.Context, w *casOp) error {
	v := c.view()
	t := v.table(w.cmd.Generation)
	if t == nil {
		return &UnknownTable{w.cmd.Generation}
	}
	if err := v.understands("Conditional writes and serial reads"); err != nil {
		return err
	}
	if t.user && v.state.Quiet() {
		if !c.awaitJoined(v, w.deadline) {
			return &Overloaded{"a node is joining; user tables take no writes until it has joined"}
		}
		if t = c.view().table(w.cmd.Generation); t == nil {
			return &UnknownTable{w.cmd.Generation}
		}
	}
	w.cmd.GCBefore = t.gcBefore(w.cmd.Now)
	w.encoded = string(w.cmd.Append(nil))
	g := c.gather(t, w)
	c.metrics.routed(hasSelf(g.peers[:g.natural]))
	if err := g.available(c, w.serial); err != nil {
		return err
	}
	if w.readOnly {
		return ctx.Err()
	}
	replicas, natural := t.replicas(nil, w.cmd.Token)
	q := t.quotaOf(w.level, w.cmd.Token, replicas, natural)
	if w.level != Any {
		if err := q.available(c, replicas, t.view.localDC); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// assembly is who votes on a partition in one view.
type assembly struct {
	t        *tablePlan
	peers    []*peer // the natural ones first
	natural  int
	need     int // of peers, to promise and to accept
	readers  int // the first ones, which have content
	readNeed int // of those, to know what is decided
	local    bool
	hash     uint64
}

func (c *Coordinator) gather(t *tablePlan, w *casOp) *assembly {
	g := &assembly{t: t, local: w.serial == LocalSerial}
	g.peers, g.natural = t.electorate(nil, w.cmd.Token, g.local)
	g.need = t.ballotNeed(g, w.cmd.Token)
	g.readers, g.readNeed = g.natural, g.natural/2+1
	if t.switched {
		g.readers, g.readNeed = len(g.peers), g.need
	}
	g.hash = electorateHash(g.peers)
	return g
}

// ballotNeed is how many of the assembly have to agree: so many that they make up a majority of the replicas before the movement, and one of
// those after it, whoever is missing (meta.Acknowledgements). More than there are where nobody is read.
func (t *tablePlan) ballotNeed(g *assembly, token ring.Token) int {
	u, b := len(g.peers), g.natural
	if t.future == nil || b == 0 || planted.On(planted.ElectorateWithoutPending) {
		return u - b + b/2 + 1
	}
	a := 0
	for _, i := range t.future.Replicas(token) {
		if slices.Contains(g.peers, t.view.future[i]) {
			a++
		}
	}
	if a == 0 { // in this data centre
		a = b
	}
	return meta.Acknowledgements(b, a, u)
}

// available is decided before anything is sent.
func (g *assembly) available(c *Coordinator, level Level) error {
	alive := 0
	for _, p := range g.peers {
		if c.live(p) {
			alive++
		}
	}
	if alive < g.need || len(g.peers) > paxos.ParticipantsMax {
		return &Unavailable{Level: level, Required: g.need, Alive: alive}
	}
	return nil
}

// request returns a message about the partition of a command.
func (g *assembly) request(cmd *row.Command) ballotRequest {
	return ballotRequest{local: g.local, planned: g.t.view.state.RingEpoch, electorate: g.hash, generation: cmd.Generation, token: cmd.Token, key: cmd.Key}
}

// lookAt is a serial read that promises nothing. done false: something is in flight, and the read has to propose.
func (c *Coordinator) lookAt(ctx context.Context, w *casOp) (done bool, err error) {
	for try := range looksMax {
		if try > 0 {
			if !sleepFor(ctx, c.jitter(lookPause<<try)) {
				return true, ctx.Err()
			}
			if c.proposals.busy(w) {
				break
			}
		}
		if c.lookOnce(w) {
			c.metrics.SerialLooks.Add(1)
			return true, nil
		}
	}
	return false, nil
}

const (
	looksMax  = 3
	lookPause = time.Millisecond
)

// lookOnce asks a majority first, and the others when those do not agree or are late.
func (c *Coordinator) lookOnce(w *casOp) bool {
	t := c.view().table(w.cmd.Generation)
	if t == nil {
		return false
	}
	g := c.gather(t, w)
	if len(g.peers) > g.readers { // joining ones have no content yet
		return false
	}
	poll := c.newPoll(g, w.deadline)
	live := slicesOfLive(c, g.peers)
	rank(live, t.view.localDC, c.peers.now())
	if len(live) < g.need {
		return false
	}
	ask := func(peers []*peer) {
		for _, p := range peers {
			q := g.request(&w.cmd)
			q.verb, q.commands = VerbPeek, []row.Command{w.cmd}
			q.commands[0].Digest = p != live[0]
			poll.ask(p, &q)
		}
	}
	ask(live[:g.need])
	rest := live[g.need:]
	late := time.NewTimer(t.latencies.percentile(99))
	defer late.Stop()
	l := paxos.NewLook(len(g.peers), g.need)
	for i, p := range g.peers {
		if !c.live(p) {
			l.Fail(i)
		}
	}
	for open := g.need; open > 0; {
		var further bool
		select {
		case a := <-poll.answers:
			open--
			if a.failed() {
				l.Fail(a.from)
				further = true
				break
			}
			poll.got[a.from] = a
			settled := l.Answer(a.from, a.promise, a.pages[0].Digest)
			if data := poll.index(live[0]); settled && l.Agrees(data, a.from) && !poll.got[data].failed() {
				w.page = poll.got[data].pages[0]
				return true
			}
			further = l.Answers() >= g.need
		case <-late.C:
			further = true
		case <-poll.timer.C:
			return false
		}
		if further {
			ask(rest)
			open += len(rest)
			rest = nil
		}
	}
	return false
}

func slicesOfLive(c *Coordinator, peers []*peer) (live []*peer) {
	for _, p := range peers {
		if c.live(p) {
			live = append(live, p)
		}
	}
	return live
}

// ballotReplyOf is what one participant answered, or did not.
type ballotReplyOf struct {
	ballotAnswer
	from  int
	err   error // no answer came
	epoch uint64
	asked bool
	ballotAsked
}

func (r *ballotReplyOf) failed() bool { return !r.asked || r.err != nil || r.status != 0 }

// pollMessages is how many messages a participant gets from one poll, beside commits it lacks: prepare and accept.
const pollMessages = 2

// poll sends messages to the participants of an assembly and collects what they answer.
type poll struct {
	c       *Coordinator
	g       *assembly
	answers chan ballotReplyOf
	got     []ballotReplyOf
	timer   *time.Timer
	until   time.Time
}

func (c *Coordinator) newPoll(g *assembly, until time.Time) *poll {
	return &poll{c: c, g: g, until: until, answers: make(chan ballotReplyOf, (pollMessages+len(g.peers))*len(g.peers)), got: make([]ballotReplyOf, len(g.peers)),
		timer: time.NewTimer(time.Until(until))}
}

func (p *poll) index(peer *peer) int {
	for i, q := range p.g.peers {
		if q == peer {
			return i
		}
	}
	return -1
}

// ask sends q to a participant, which may be this node. The answer comes through p.answers, which has room for it.
func (p *poll) ask(to *peer, q *ballotRequest) {
	from, asked := p.index(to), ballotAsked{q.verb, len(q.commands), q.proposal.Ballot}
	if to.self {
		p.c.acceptor.vote(q, func(a *ballotAnswer) {
			p.answers <- ballotReplyOf{ballotAnswer: *a, from: from, asked: true, ballotAsked: asked, epoch: p.c.o.Cluster.Current().Epoch}
		})
		return
	}
	p.c.o.Transport.Send(to.id, ballotClass, q.verb, p.until, q.append(nil), &ballotCall{p, asked, from})
}

// next returns the next answer; ok false: the time is up.
func (p *poll) next() (r ballotReplyOf, ok bool) {
	select {
	case r = <-p.answers:
		return r, true
	case <-p.timer.C:
		return r, false
	}
}

func sleepFor(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// jitter returns a duration between half of d and all of it, never the same on two nodes for long.
func (c *Coordinator) jitter(d time.Duration) time.Duration {
	n := c.attempts.Add(1)
	h := (c.nonce ^ n) * 0x9E3779B97F4A7C15
	h = (h ^ h>>29) * 0xBF58476D1CE4E5B9
	return d/2 + time.Duration((h>>33)%uint64(max(d/2, 1)))
}
