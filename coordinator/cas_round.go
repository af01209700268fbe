package coordinator

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/helenusdb/helenus/coordinator/paxos"
	"github.com/helenusdb/helenus/internal/planted"
	"github.com/helenusdb/helenus/ring"
	"github.com/helenusdb/helenus/row"
	"github.com/helenusdb/helenus/rpc"
)

// casRun is a leader at work: attempt after attempt, each with a ballot of its own, until its operation is answered.
type casRun struct {
	c   *Coordinator
	ctx context.Context //nolint:containedctx // of the leader's operation; between attempts only
	q   *casQueue
	me  *casOp
	ops []*casOp // the batch; those that are answered are taken out before the next attempt

	tries       int // attempts in all
	contentions int
	waits       int // of them, those that others got in the way of
	bumps       int
	made        []made // proposals of this batch that may be decided
	fails       []Failure
	unknown     int // acceptances of the last proposal that was not decided
}

// made is a proposal of this run, as it was made, and what each operation of it is told if it is decided.
type made struct {
	proposal paxos.Proposal
	results  []casResult
}

type casResult struct {
	op      *casOp
	applied bool
	page    row.Page
	err     error // of Decide
}

const (
	backoffBase = 500 * time.Microsecond
	backoffMax  = 20 * time.Millisecond
	bumpsMax    = 3 // attempts with a later ballot for the sake of newer cells
)

// ballot returns a ballot that was never used, later than floor.
func (c *Coordinator) ballot(floor int64) paxos.Ballot {
	if planted.On(planted.BallotReused) {
		return paxos.Ballot{Micros: max(c.o.Now().Truncate(time.Second).UnixMicro(), floor+1), ID: 1}
	}
	var b [24]byte
	copy(b[:], c.o.Self[:])
	id := c.attempts.Add(1)
	for i := range 8 {
		b[16+i] = byte((id ^ c.nonce) >> (8 * i))
	}
	return paxos.Ballot{Micros: max(c.o.Timestamp(), floor+1), ID: xxhash.Sum64(b[:])}
}

// attempt makes one attempt, after which operations of the batch may be answered.
func (r *casRun) attempt() {
	r.ops = slices.DeleteFunc(r.ops, func(o *casOp) bool { return o.answered })
	if planted.On(planted.CASRetriedBlindly) {
		r.made = nil
	}
	if r.tries > 0 && (time.Now().After(r.me.contended) || r.ctx.Err() != nil || r.waits > 0 && !r.pause()) {
		r.giveUp()
		return
	}
	r.tries++
	r.waits++
	if len(r.made) == 0 {
		r.ops = r.c.proposals.take(r.q, r.ops)
	}
	t := r.c.view().table(r.me.cmd.Generation)
	if t == nil {
		r.end(&UnknownTable{r.me.cmd.Generation})
		return
	}
	g := r.c.gather(t, r.me)
	if err := g.available(r.c, r.me.serial); err != nil {
		r.end(err)
		return
	}
	yield := r.c.takeTurn(r.ctx, g, r.q.key, r.me)
	defer yield()
	t.view.era.Enter()
	defer t.view.era.Leave()
	a := casAttempt{r: r, c: r.c, t: t, g: g, at: Register{r.me.cmd.Generation, r.me.cmd.Token, r.me.cmd.Key}}
	a.run()
}

// pause backs off; false: no further attempt is to be made.
func (r *casRun) pause() bool {
	d := r.c.jitter(min(backoffBase<<min(r.waits, 6), backoffMax))
	if time.Now().Add(d).After(r.me.contended) {
		return false
	}
	return sleepFor(r.ctx, d)
}

// giveUp ends the leader's operation, and those that share a proposal with it.
func (r *casRun) giveUp() {
	g := r.need()
	if len(r.made) > 0 {
		r.end(&CASWriteUnknown{Level: r.me.serial, Received: r.unknown, BlockFor: g})
		return
	}
	if len(r.fails) > 0 {
		r.end(&WriteFailure{Level: r.me.serial, BlockFor: g, Type: CASType, Failures: r.fails})
		return
	}
	r.c.metrics.CASContentionTimeouts.Add(1)
	r.me.answer(false, r.timeout(0, g))
}

func (r *casRun) timeout(got, need int) error {
	return &WriteTimeout{Level: r.me.serial, Received: got, BlockFor: need, Type: CASType, Contentions: r.contentions}
}

func (r *casRun) need() int {
	if t := r.c.view().table(r.me.cmd.Generation); t != nil {
		return r.c.gather(t, r.me).need
	}
	return 1
}

// end answers all operations of the batch with an error. What says that nothing happened is only told to those for which
// nothing was sent.
func (r *casRun) end(err error) {
	var never *Unavailable
	var gone *UnknownTable
	for _, w := range r.ops {
		if w.answered {
			continue
		}
		told := err
		if planted.On(planted.CASTimeoutAsNotApplied) {
			told = nil
		}
		if len(r.made) > 0 && planted.On(planted.CASUnknownAsFailure) {
			told = &WriteFailure{Level: r.me.serial, BlockFor: r.need(), Type: CASType}
		}
		if w.sent && errors.As(err, &never) || len(r.made) > 0 && errors.As(err, &gone) {
			told = r.timeout(0, r.need())
		}
		w.answer(false, told)
	}
}

// casAttempt is one ballot.
type casAttempt struct {
	r  *casRun
	c  *Coordinator
	t  *tablePlan
	g  *assembly
	at Register

	poll   *poll
	round  *paxos.Round
	cmds   []row.Command // distinct ones of the batch
	which  map[string]int
	data   []*peer      // who is asked for content, not only for digests; the nearest first
	bare   paxos.Ballot // of a commit whose value had no room in a promise
	reread bool
	stale  bool
	newer  ring.HostID
	late   bool // somebody did not answer in time
	fails  []Failure
}

func (a *casAttempt) run() {
	r := a.r
	b := a.c.ballot(r.q.floor)
	r.q.floor = b.Micros
	a.round = paxos.NewRound(b, len(a.g.peers), a.g.need)
	a.poll = a.c.newPoll(a.g, r.me.deadline)
	defer a.poll.timer.Stop()
	switch step := a.prepare(); step {
	case paxos.Decide:
		a.decide()
	case paxos.Finish:
		a.c.metrics.CASUnfinished.Add(1)
		if a.lacksLatest() || !a.settled() {
			a.propose(a.round.ProposeAgain(), nil)
		}
	case paxos.Learned:
		a.c.metrics.CASUnfinished.Add(1)
		if a.lacksLatest() || !a.settled() {
			a.finished(a.round.InFlight())
		}
	default:
		a.stopped(step, false)
	}
}

// prepare asks for promises and content, and brings those up to date that lack the last commit.
func (a *casAttempt) prepare() paxos.Step {
	a.commands()
	a.chooseData()
	step := paxos.Wait
	for i, p := range a.g.peers {
		if !a.c.live(p) {
			step = a.round.Fail(i, true)
		}
	}
	var self *peer
	for _, p := range a.g.peers {
		if p.self {
			self = p
		} else if a.c.live(p) {
			a.sendPrepare(p)
		}
	}
	if self != nil {
		a.sendPrepare(self)
	}
	for _, w := range a.r.ops {
		w.sent = true
	}
	for step == paxos.Wait {
		m, ok := a.poll.next()
		if !ok {
			a.late = true
			return paxos.Wait
		}
		step = a.promised(&m)
		if step == paxos.Refresh {
			a.refresh()
			step = paxos.Wait
		}
	}
	return step
}

// commands collects the distinct reads of the batch. Several operations need whole rows: what one leaves is put over them.
func (a *casAttempt) commands() {
	a.which = map[string]int{}
	ops := a.r.ops
	for _, w := range ops {
		if _, ok := a.which[w.encoded]; ok {
			continue
		}
		a.which[w.encoded] = len(a.cmds)
		cmd := w.cmd
		if len(ops) > 1 {
			cmd = cmd.Full()
		}
		a.cmds = append(a.cmds, cmd)
	}
}

// chooseData chooses who is asked for content: so many of the nearest live replicas that one of them is in every majority that may
// promise, whoever is late. Otherwise content would have to be read again, and what was read then to be proposed even if it is nothing.
func (a *casAttempt) chooseData() {
	best := slicesOfLive(a.c, a.g.peers[:a.g.readers])
	rank(best, a.t.view.localDC, a.c.peers.now())
	a.data = best[:max(0, len(best)-a.g.readNeed+1)]
}

// lacksLatest tells that the last decision is known without its value, which its acceptor had no room for beside that of something in
// flight after it.
func (a *casAttempt) lacksLatest() bool {
	return !a.bare.IsZero() && a.round.Latest().Ballot == a.bare
}

func (a *casAttempt) sendPrepare(to *peer) {
	q := a.g.request(&a.r.me.cmd)
	q.verb, q.ballot, q.known = VerbPrepare, a.round.Ballot, a.r.q.known.Ballot
	if a.poll.index(to) < a.g.readers { // a joining one has no content yet
		q.commands = slices.Clone(a.cmds)
		for i := range q.commands {
			q.commands[i].Digest = !slices.Contains(a.data, to)
		}
	}
	if tr := a.r.me.trace; tr != nil {
		tr.Event("Sending PAXOS2_PREPARE message to %s", to.address())
	}
	a.poll.ask(to, &q)
}

// promised takes one answer of the first phase.
func (a *casAttempt) promised(m *ballotReplyOf) paxos.Step {
	if m.verb == VerbCommit {
		if m.failed() {
			return a.round.NotRefreshed(m.from)
		}
		return a.round.Refreshed(m.from, m.committed)
	}
	if m.failed() {
		a.note(m)
		if a.stale { // by newer metadata others vote
			return paxos.Failed
		}
		return a.round.Fail(m.from, false)
	}
	switch c := &m.promise.Committed; {
	case m.valueless && c.Ballot == a.r.q.known.Ballot:
		c.Value = a.r.q.known.Value
	case m.valueless:
		a.bare = c.Ballot
	}
	a.poll.got[m.from] = *m
	return a.round.Promise(m.from, m.promise)
}

// note remembers why a participant is out.
func (a *casAttempt) note(m *ballotReplyOf) {
	p := a.g.peers[m.from]
	reason := reasonOf(m.err)
	switch {
	case errors.Is(m.err, rpc.ErrTimeout):
		a.late = true
		return
	case m.err == nil && statusOutcome(&rpc.Response{Status: m.status, Epoch: m.epoch}, a.t.view.state.Epoch) == outcomeStale:
		a.stale, reason = true, ReasonIncompatibleSchema
		if !p.self {
			a.newer = p.id
		}
	case m.err == nil && statusOutcome(&rpc.Response{Status: m.status}, 0) == outcomeUnsent:
		reason = ReasonTimeout
	}
	f := p.failure(reason)
	f.Why = m.text
	a.fails = append(a.fails, f)
}

func (a *casAttempt) refresh() {
	latest := a.round.Latest()
	for _, i := range a.round.TakeLagging() {
		a.c.metrics.CASRefreshes.Add(1)
		q := a.g.request(&a.r.me.cmd)
		q.verb, q.proposal = VerbCommit, latest
		a.poll.ask(a.g.peers[i], &q)
	}
}

// content returns the pages of the commands as of the last decision, of the first ones at least. It comes with the promises, or is
// read again.
func (a *casAttempt) content() (pages []row.Page, err error) {
	if pages, ok := a.promisedContent(); ok {
		return pages, nil
	}
	a.reread = true
	from := a.readable()
	size := 0
	for i := range a.cmds {
		if size > replyBytesMax { // whoever needs more waits for the next ballot
			break
		}
		page, err := a.readAgain(&a.cmds[i], from)
		if err != nil {
			return nil, err
		}
		pages, size = append(pages, page), size+len(page.Data)
	}
	return pages, nil
}

// readable are the replicas of which a majority shows the last decision: those that are known to have it, and when joining ones are
// among the majority that has it, any.
func (a *casAttempt) readable() (from []*peer) {
	for i, p := range a.g.peers[:a.g.readers] {
		if a.round.Current(i) {
			from = append(from, p)
		}
	}
	if len(from) >= a.g.readNeed {
		return from
	}
	return slicesOfLive(a.c, a.g.peers[:a.g.readers])
}

func (a *casAttempt) readAgain(cmd *row.Command, from []*peer) (row.Page, error) {
	level := Quorum
	if a.g.local {
		level = LocalQuorum
	}
	done := make(chan error, 1)
	rd := &Read{Command: *cmd, Level: level, Timeout: time.Until(a.r.me.deadline), Trace: a.r.me.trace}
	rd.Done = readDoneFunc(func(_ *Read, err error) { done <- err })
	q := quota{level: level, need: a.g.readNeed, local: a.g.local}
	a.c.inFlight.Add(1)
	a.c.readFrom(a.t, rd, &q, from, nil)
	err := <-done
	return rd.Page, err
}

func (a *casAttempt) promisedContent() ([]row.Page, bool) {
	if planted.On(planted.CASReadAtOne) && len(a.data) > 0 {
		if i := a.poll.index(a.data[0]); len(a.poll.got[i].pages) > 0 {
			return a.poll.got[i].pages, true
		}
	}
	fresh, from := 0, -1
	for i, p := range a.g.peers[:a.g.readers] {
		if !a.fresh(i) {
			continue
		}
		fresh++
		if from < 0 && slices.Contains(a.data, p) {
			from = i
		}
	}
	if from < 0 || fresh < a.g.readNeed {
		return nil, false
	}
	pages := a.poll.got[from].pages
	for i := range a.g.peers[:a.g.readers] {
		if !a.fresh(i) {
			continue
		}
		for j := range pages {
			if a.poll.got[i].pages[j].Digest != pages[j].Digest {
				a.c.metrics.DigestMismatches.Add(1)
				return nil, false
			}
		}
	}
	return pages, true
}

// fresh tells whether a replica's promise came with pages as of the last decision.
func (a *casAttempt) fresh(i int) bool { return a.round.Fresh(i) && !a.poll.got[i].pageless }

// decide evaluates the batch: nothing is in flight, and a majority has the last decision applied.
func (a *casAttempt) decide() {
	latest := a.round.Latest()
	a.c.proposals.decided(a.r.q.key, latest.Ballot, false, a.c.o.Now().UnixMicro())
	if a.settled() {
		return
	}
	pages, err := a.content()
	if err != nil {
		a.late = true
		a.stopped(paxos.Failed, false)
		return
	}
	e := evaluation{a: a, pages: pages, after: latest.Ballot.Micros}
	if later := e.newest(); later > 0 {
		a.r.q.floor, a.r.bumps, a.r.waits = later, a.r.bumps+1, 0
		return
	}
	e.run()
	switch {
	case len(e.value) > 0:
		p := a.round.Propose(e.value)
		a.r.made = append(a.r.made, made{p, e.results})
		a.propose(p, e.results)
	case a.round.Clean() && !a.reread:
		none := a.round.Nothing()
		a.c.commitAll(a.g, a.at, none)
		a.r.q.known = none
		a.answer(e.results, nil)
	default:
		a.propose(a.round.Propose(nil), e.results)
	}
}

// settled deals with what earlier proposals of the batch came to, as far as the last decision tells. True: the attempt is over.
func (a *casAttempt) settled() bool { return a.settledBy(a.round.Latest()) }

// settledBy is settled, of any decision.
func (a *casAttempt) settledBy(p paxos.Proposal) bool {
	r := a.r
	var open []made
	lost := false
	for _, m := range r.made {
		switch p.Tells(m.proposal.Ballot) {
		case paxos.Applied:
			a.answer(m.results, a.commitOf(&m.proposal, p))
			r.made = nil
			return true
		case paxos.Open:
			open = append(open, m)
		case paxos.Lost: // decisions followed one another too fast
			lost = true
			open = append(open, m)
		}
	}
	r.made = open
	if lost {
		a.unknown()
	}
	return r.me.answered
}

// commitOf commits a decision that tells that a proposal of this run was decided, and returns the commit whose acknowledgements say who has
// the proposal's rows: the decision may be a later one, with other rows or none, and who has that may have missed the one before it.
func (a *casAttempt) commitOf(own *paxos.Proposal, p paxos.Proposal) *commitRun {
	if own.Ballot == p.Origin {
		return a.c.commitAll(a.g, a.at, p)
	}
	run := a.c.commitAll(a.g, a.at, *own)
	a.c.commitAll(a.g, a.at, p)
	return run
}

// unknown answers the operations that wrote in a proposal that may be decided: they cannot know, and are not tried again. The
// others of the batch have written nothing.
func (a *casAttempt) unknown() {
	r := a.r
	for _, m := range r.made {
		for _, x := range m.results {
			if x.applied && !x.op.answered {
				x.op.answer(false, &CASWriteUnknown{Level: x.op.serial, Received: r.unknown, BlockFor: a.g.need})
			}
		}
	}
	r.made = nil
	r.ops = slices.DeleteFunc(r.ops, func(o *casOp) bool { return o.answered })
}

// propose sends a proposal to all participants and waits for a majority. results are nil for a proposal of others.
func (a *casAttempt) propose(p paxos.Proposal, results []casResult) {
	step := paxos.Wait
	var self *peer
	for i, to := range a.g.peers {
		switch {
		case !a.c.live(to):
			step = a.round.Fail(i, true)
		case to.self:
			self = to
		default:
			a.sendAccept(to, p)
		}
	}
	if self != nil {
		a.sendAccept(self, p)
	}
	for step == paxos.Wait {
		m, ok := a.poll.next()
		if !ok {
			a.late = true
			break
		}
		step = a.accepted(&m)
	}
	if step != paxos.Decided {
		if len(p.Value) > 0 && !a.late {
			a.hearOut()
		}
		a.stopped(step, len(p.Value) > 0 && results != nil)
		return
	}
	if results == nil {
		a.finished(p)
		return
	}
	run := a.c.commitAll(a.g, a.at, p)
	a.r.q.known = p
	a.c.proposals.decided(a.r.q.key, p.Ballot, true, 0)
	a.r.made = nil // the others are dead
	a.answer(results, run)
}

// accepted takes one answer of the second phase.
func (a *casAttempt) accepted(m *ballotReplyOf) paxos.Step {
	switch {
	case m.verb != VerbAccept:
		return paxos.Wait
	case m.failed():
		a.note(m)
		return a.round.Fail(m.from, m.never)
	}
	return a.round.Accepted(m.from, m.accepted, m.never, m.obstacle)
}

// hearOutMax is how long the rest of the answers to a proposal that others overtook is waited for.
const hearOutMax = 20 * time.Millisecond

// hearOut waits a little for the rest of the answers to a proposal that is not decided: when nobody has accepted it, the
// operations can go on as if it had not been.
func (a *casAttempt) hearOut() {
	timer := time.NewTimer(hearOutMax)
	defer timer.Stop()
	for a.round.Acceptances() == 0 && !a.round.Heard() {
		select {
		case m := <-a.poll.answers:
			a.accepted(&m)
		case <-timer.C:
			return
		}
	}
}

func (a *casAttempt) sendAccept(to *peer, p paxos.Proposal) {
	q := a.g.request(&a.r.me.cmd)
	q.verb, q.proposal = VerbAccept, p
	if tr := a.r.me.trace; tr != nil {
		tr.Event("Sending PAXOS2_PROPOSE message to %s", to.address())
	}
	a.poll.ask(to, &q)
}

// finished goes on after what somebody, maybe this run, had left undone.
func (a *casAttempt) finished(p paxos.Proposal) {
	a.r.q.known = p
	if a.settledBy(p) {
		return
	}
	a.c.commitAll(a.g, a.at, p)
	a.r.waits = 0 // no reason to back off
}

// answer gives each operation its result.
func (a *casAttempt) answer(results []casResult, run *commitRun) {
	for _, x := range results {
		if x.op.answered {
			continue
		}
		x.op.page = x.page
		if x.applied {
			x.op.commit = run
		}
		x.op.answer(x.applied, x.err)
	}
}

// stopped ends an attempt that decided nothing. own tells that it proposed something of the batch.
func (a *casAttempt) stopped(step paxos.Step, own bool) {
	r := a.r
	r.q.floor = max(r.q.floor, a.round.Seen().Micros)
	if own {
		if r.unknown = a.round.Acceptances(); a.round.Untouched() {
			r.made = r.made[:len(r.made)-1]
		}
	}
	r.fails = nil
	switch step {
	case paxos.Superseded:
		r.contentions++
		a.c.metrics.CASContention.Add(1)
		a.c.proposals.crowd(r.q.key)
		return
	case paxos.Failed:
		if a.stale && a.c.newerThan(a.t.view.state.Epoch, a.newer, r.me.contended) {
			return
		}
		if !a.late {
			r.fails = a.fails
		}
		return
	}
	got := a.round.Promises()
	if !a.round.Proposal().Ballot.IsZero() {
		got = a.round.Acceptances()
	}
	r.end(r.timeout(got, a.g.need))
}

// evaluation asks the operations of a batch, one after another, each on the content that the one before it leaves.
type evaluation struct {
	a       *casAttempt
	pages   []row.Page // of the commands; replaced as operations write
	after   int64      // µs of the last decision: timestamps are later
	value   []byte
	results []casResult
}

// newest returns the timestamp that a further attempt has to exceed, because the content is newer than this ballot; 0: it
// is not, or too far ahead to wait for.
func (e *evaluation) newest() int64 {
	n := int64(len(e.a.r.ops))
	first := max(e.a.round.Ballot.Micros-n+1, e.after+1)
	newest := int64(0)
	for i := range e.pages {
		newest = max(newest, newestTimestamp(&e.pages[i]))
	}
	if newest < first || e.a.r.bumps >= bumpsMax || !e.writes() {
		return 0
	}
	if newest+n >= e.a.c.o.Now().Add(BallotAheadMax).UnixMicro() {
		e.a.c.metrics.CASShadowed.Add(1)
		return 0
	}
	return newest + n
}

func (e *evaluation) writes() bool {
	return slices.ContainsFunc(e.a.r.ops, func(w *casOp) bool { return !w.readOnly })
}

func (e *evaluation) run() {
	ops := e.a.r.ops
	b := e.a.round.Ballot.Micros
	n := int(min(int64(len(ops)), b-e.after))
	for i, w := range ops[:n] {
		if !e.one(w, b-int64(n-1-i)) {
			return
		}
	}
}

// one asks one operation; false: it and those behind it wait for the next ballot.
func (e *evaluation) one(w *casOp, ts int64) bool {
	at := e.a.which[w.encoded]
	cmd := &e.a.cmds[at]
	if at >= len(e.pages) || len(e.value) > 0 && (e.pages[at].More || cmd.Reverse) {
		return false
	}
	x := casResult{op: w, page: clonePage(&e.pages[at])}
	if w.readOnly {
		e.results = append(e.results, x)
		return true
	}
	ms, applied, err := w.decide(&x.page, ts, w.cmd.Now)
	if err == nil && applied {
		err = e.add(w, ms)
	}
	switch {
	case errors.Is(err, errBatchFull):
		return false
	case err != nil:
		applied = false
	}
	x.applied, x.err = applied, err
	e.results = append(e.results, x)
	return true
}

var errBatchFull = errors.New("coordinator: the ballot writes enough")

// add appends an operation's mutations to the value and puts them over the pages.
func (e *evaluation) add(w *casOp, ms []row.Mutation) error {
	var enc []byte
	for i := range ms {
		m := &ms[i]
		if m.Generation != w.cmd.Generation || m.Token != w.cmd.Token || !bytes.Equal(m.Key, w.cmd.Key) {
			return fmt.Errorf("coordinator: a conditional write writes to another partition than it reads")
		}
		enc = m.Append(enc)
	}
	switch {
	case len(enc) > casValueBytesMax:
		return &TooLarge{len(enc), casValueBytesMax}
	case len(e.value) > 0 && len(e.value)+len(enc) > casBatchBytesMax:
		return errBatchFull
	}
	if len(e.a.r.ops) > 1 {
		for i := range e.pages {
			p, err := overlay(&e.a.cmds[i], &e.pages[i], ms)
			if err != nil {
				return err
			}
			e.pages[i] = p
		}
	}
	e.value = append(e.value, enc...)
	return nil
}

// casValueBytesMax leaves room for the rest of a message.
const casValueBytesMax = mutationBytesMax - 256<<10

func clonePage(p *row.Page) row.Page {
	return row.Page{Data: bytes.Clone(p.Data), Rows: p.Rows, More: p.More, Cut: clonePosition(&p.Cut), Digest: p.Digest}
}

// ballotCall is the callback of one participant's answer.
type ballotCall struct {
	p    *poll
	q    ballotAsked
	from int
}

type ballotAsked struct {
	verb      rpc.Verb
	asks      int // pages
	committed paxos.Ballot
}

// Done implements rpc.Callback.
func (k *ballotCall) Done(r *rpc.Response) {
	m := ballotReplyOf{from: k.from, ballotAsked: k.q, epoch: r.Epoch, asked: true, err: r.Err}
	var e *rpc.Error
	switch {
	case r.Err != nil:
		m.never = errors.As(r.Err, &e) && !e.Sent
	case r.Status != rpc.StatusOK:
		m.status, m.text = r.Status, string(r.Body[:min(len(r.Body), whyBytesMax)])
	default:
		m.err = m.decode(k.q.verb, bytes.Clone(r.Body), k.q.asks)
	}
	k.p.answers <- m
}
