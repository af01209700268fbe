package paxos_test

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"

	. "github.com/helenusdb/helenus/coordinator/paxos"
)

// The model: acceptors with the rows that commits have brought them, proposers that carry out operations as the coordinator
// does, and a network that loses, repeats and reorders. Each value writes a row of its own: it is the ballot that it was made
// with, and the rows that its maker saw, which have to be all that were decided before. ghost knows what really was.

const acceptors = 3

// rows is a set of rows, each named by the µs of the ballot that wrote it.
type rows [4]uint64

func (r *rows) add(id int64) { r[id/64] |= 1 << (id % 64) }
func (r *rows) merge(o rows) {
	for i := range r {
		r[i] |= o[i]
	}
}
func (r rows) has(id int64) bool { return r[id/64]&(1<<(id%64)) != 0 }

func (r rows) String() string {
	var out []int64
	for id := range int64(64 * len(r)) {
		if r.has(id) {
			out = append(out, id)
		}
	}
	return fmt.Sprint(out)
}

type value struct {
	seen rows
	id   int64
}

func encode(v value) (b []byte) {
	for _, x := range append(v.seen[:], uint64(v.id)) {
		b = binary.BigEndian.AppendUint64(b, x)
	}
	return b
}

func decode(b []byte) (v value) {
	for i := range v.seen {
		v.seen[i] = binary.BigEndian.Uint64(b[8*i:])
	}
	v.id = int64(binary.BigEndian.Uint64(b[8*len(v.seen):]))
	return v
}

type acceptor struct {
	State
	rows rows // applied
}

func (a *acceptor) commit(p Proposal) {
	a.Commit(p)
	if len(p.Value) > 0 {
		a.rows.add(decode(p.Value).id)
	}
}

type kind uint8

const (
	mPrepare kind = iota
	mPromise
	mAccept
	mAccepted
	mCommit
	mRefresh
	mRefreshed
	mPeek
	mSeen
)

type message struct {
	kind     kind
	proposer int
	acceptor int
	ballot   Ballot // of the attempt
	proposal Proposal
	promise  Promise
	rows     rows
	ok       bool
	never    bool
	obstacle Ballot
}

// proposer carries out a script of operations: 'w' writes what follows from what it sees, 'r' reads,
// 'p' looks first.
type proposer struct {
	script   string
	round    *Round
	look     *Look
	looks    int
	rows     [acceptors]rows
	reread   bool
	hearing  bool // out the answers to a proposal that is beaten
	resolves bool // the proposal at hand finishes another's
	began    int  // step at which the operation began
	origins  []Ballot
	seen     rows // what the proposal at hand was made from
	floor    int64
	attempts int
}

type outcome struct {
	op         byte
	began, end int
	id         int64 // what it wrote; 0: it is not told
	seen       rows  // what it read
}

type ghost struct {
	by        map[int64]map[int]bool // acceptors that took a proposal, by its ballot
	proposals map[int64]Proposal
	chain     []int64       // decided values in order
	decided   map[int64]int // step at which a value was decided, by its id
	abandoned map[int64]int // step at which its maker gave a value up
	outcomes  []outcome
	ops       map[int64][2]int // proposer and operation that made a value
	applied   map[[2]int]int64 // the value by which an operation was applied
}

type world struct {
	acc      [acceptors]acceptor
	prop     []*proposer
	net      []message
	step     int
	g        ghost
	repeat   int  // one message in so many comes again
	amnesia  bool // planted: an acceptor forgets its promise when it restarts
	rash     bool // planted: a refusal is taken for a sign that the proposal was never taken
	sloppy   bool // planted: a read answers without being clean
	renewed  bool // planted: an interrupted value gets the timestamps of who finishes it
	failures []string
}

func newWorld(scripts ...string) *world {
	w := &world{repeat: 12, g: ghost{by: map[int64]map[int]bool{}, proposals: map[int64]Proposal{}, decided: map[int64]int{}, abandoned: map[int64]int{}, ops: map[int64][2]int{}, applied: map[[2]int]int64{}}}
	for _, s := range scripts {
		w.prop = append(w.prop, &proposer{script: s})
	}
	return w
}

func (w *world) fail(format string, args ...any) {
	w.failures = append(w.failures, fmt.Sprintf(format, args...))
}

func (w *world) send(m message) { w.net = append(w.net, m) }

const attemptsMax = 5

// begin starts the next attempt of a proposer, or of its next operation.
func (w *world) begin(i int) {
	p := w.prop[i]
	if len(p.script) == 0 {
		return
	}
	if p.attempts == 0 {
		p.began = w.step
	}
	p.attempts++
	if p.script[0] == 'p' && p.attempts == 1 {
		p.look, p.looks = NewLook(acceptors, acceptors/2+1), w.step
		for a := range acceptors {
			w.send(message{kind: mPeek, proposer: i, acceptor: a, ballot: Ballot{Micros: int64(w.step)}})
		}
		return
	}
	p.look = nil
	if p.attempts > attemptsMax {
		w.giveUp(i)
		return
	}
	micros := p.floor + 1
	for micros%int64(len(w.prop)) != int64(i) {
		micros++ // a clock of its own
	}
	p.floor = micros
	p.round = NewRound(Ballot{micros, uint64(i)}, acceptors, acceptors/2+1)
	p.reread, p.resolves, p.hearing, p.rows = false, false, false, [acceptors]rows{}
	for a := range acceptors {
		w.send(message{kind: mPrepare, proposer: i, acceptor: a, ballot: p.round.Ballot})
	}
}

// giveUp ends an operation whose outcome is not known.
func (w *world) giveUp(i int) {
	p := w.prop[i]
	for _, o := range p.origins {
		w.g.abandoned[o.Micros] = w.step
	}
	w.next(i)
}

func (w *world) done(i int, id int64, seen rows) {
	p := w.prop[i]
	w.g.outcomes = append(w.g.outcomes, outcome{p.script[0], p.began, w.step, id, seen})
	w.next(i)
}

func (w *world) next(i int) {
	p := w.prop[i]
	p.script, p.round, p.look, p.attempts, p.origins = p.script[1:], nil, nil, 0, nil
}

// timeout ends an attempt; what it proposed may be decided nonetheless.
func (w *world) timeout(i int) {
	p := w.prop[i]
	p.look = nil
	if p.round == nil {
		return
	}
	w.uncertain(p)
	p.round = nil
}

func (w *world) uncertain(p *proposer) {
	if prop := p.round.Proposal(); !p.resolves && len(prop.Value) > 0 && !p.round.Untouched() {
		p.origins = append(p.origins, prop.Origin)
	}
}

func (w *world) commitAll(i int, p Proposal) {
	for a := range acceptors {
		w.send(message{kind: mCommit, proposer: i, acceptor: a, proposal: p})
	}
}

func (w *world) act(i int, s Step) {
	p := w.prop[i]
	r := p.round
	switch s {
	case Refresh:
		for _, a := range r.TakeLagging() {
			p.reread = true
			w.send(message{kind: mRefresh, proposer: i, acceptor: a, ballot: r.Ballot, proposal: r.Latest()})
		}
	case Decide:
		w.decide(i)
	case Finish:
		if w.fate(i) {
			return
		}
		p.resolves = true
		f := r.ProposeAgain()
		if w.renewed && len(f.Value) > 0 {
			f.Value = encode(value{decode(f.Value).seen, r.Ballot.Micros})
		}
		w.propose(i, f)
	case Learned:
		f := r.InFlight()
		if w.fate(i) {
			return
		}
		w.commitAll(i, f)
		w.resolved(i, f)
	case Decided:
		f := r.Proposal()
		w.commitAll(i, f)
		switch {
		case p.resolves:
			w.resolved(i, f)
		case p.script[0] != 'w':
			w.done(i, 0, p.seen)
		default:
			w.done(i, decode(f.Value).id, rows{})
		}
	case Superseded, Failed:
		if len(r.Proposal().Value) > 0 && r.Acceptances() == 0 && !r.Heard() {
			p.hearing = true // the others out, until a timeout
			return
		}
		w.uncertain(p)
		p.floor = max(p.floor, r.Seen().Micros)
		p.round = nil
	}
}

// fate looks at what the last decision tells about a proposer's earlier proposals, and tells whether the operation is over.
func (w *world) fate(i int) bool {
	p := w.prop[i]
	latest := p.round.Latest()
	var open []Ballot
	for _, o := range p.origins {
		switch latest.Tells(o) {
		case Applied:
			w.done(i, o.Micros, rows{})
			return true
		case Lost:
			w.giveUp(i)
			return true
		case Open:
			open = append(open, o)
		}
	}
	p.origins = open
	return false
}

// resolved goes on after an interrupted value was finished: it may be one's own.
func (w *world) resolved(i int, f Proposal) {
	p := w.prop[i]
	if slices.Contains(p.origins, f.Origin) {
		w.done(i, decode(f.Value).id, rows{})
		return
	}
	p.origins, p.round = nil, nil // dead: something else was decided in their place
}

func (w *world) decide(i int) {
	p := w.prop[i]
	r := p.round
	fresh := 0
	p.seen = rows{}
	for a := range acceptors {
		if r.Fresh(a) {
			fresh++
			p.seen.merge(p.rows[a])
		}
	}
	again := fresh <= acceptors/2
	if again { // read again from those that were brought up to date
		for a := range acceptors {
			if r.Current(a) {
				p.seen.merge(w.acc[a].rows)
			}
		}
	}
	if w.fate(i) {
		return
	}
	if p.script[0] == 'w' {
		w.g.ops[r.Ballot.Micros] = [2]int{i, len(p.script)}
		w.propose(i, r.Propose(encode(value{p.seen, r.Ballot.Micros})))
		return
	}
	if (r.Clean() || w.sloppy) && !again {
		w.commitAll(i, r.Nothing())
		w.done(i, 0, p.seen)
		return
	}
	w.propose(i, r.Propose(nil))
}

func (w *world) propose(i int, p Proposal) {
	for a := range acceptors {
		w.send(message{kind: mAccept, proposer: i, acceptor: a, ballot: p.Ballot, proposal: p})
	}
}

func (w *world) deliver(m message) {
	a, p := &w.acc[m.acceptor], w.prop[m.proposer]
	all := Bounds{High: 1 << 60}
	mine := p.round != nil && p.round.Ballot == m.ballot
	switch m.kind {
	case mPrepare:
		m.promise, _ = a.Prepare(m.ballot, all)
		m.kind, m.rows = mPromise, a.rows
		w.send(m)
	case mAccept:
		var v Verdict
		m.obstacle, v = a.Accept(m.proposal, all)
		m.kind, m.ok, m.never = mAccepted, v == Taken, a.NeverTook(m.proposal.Ballot) && !w.rash || w.rash && v != Taken
		if m.ok {
			w.accepted(m.acceptor, m.proposal)
		}
		w.send(m)
	case mCommit:
		a.commit(m.proposal)
	case mRefresh:
		a.commit(m.proposal)
		m.kind = mRefreshed
		w.send(m)
	case mPeek:
		m.kind, m.promise, m.rows = mSeen, a.Peek(), a.rows
		w.send(m)
	case mSeen:
		if p.look != nil && int64(p.looks) == m.ballot.Micros && p.look.Answer(m.acceptor, m.promise, digest(m.rows)) {
			w.done(m.proposer, 0, m.rows)
		}
	case mPromise:
		if mine {
			p.rows[m.acceptor] = m.rows
			w.act(m.proposer, p.round.Promise(m.acceptor, m.promise))
		}
	case mAccepted:
		if mine {
			s := p.round.Accepted(m.acceptor, m.ok, m.never, m.obstacle)
			if p.hearing && (p.round.Heard() || p.round.Acceptances() > 0) {
				s = Superseded
			}
			w.act(m.proposer, s)
		}
	case mRefreshed:
		if mine {
			w.act(m.proposer, p.round.Refreshed(m.acceptor, m.proposal.Ballot))
		}
	}
}

// accepted is what ghost sees: a value is decided when a majority has taken it under one ballot.
func (w *world) accepted(a int, p Proposal) {
	b := p.Ballot.Micros
	if old, ok := w.g.proposals[b]; ok && (old.Origin != p.Origin || string(old.Value) != string(p.Value)) {
		w.fail("ballot %d carries two values", b)
	}
	w.g.proposals[b] = p
	if w.g.by[b] == nil {
		w.g.by[b] = map[int]bool{}
	}
	w.g.by[b][a] = true
	if len(w.g.by[b]) != acceptors/2+1 || len(p.Value) == 0 {
		return
	}
	v := decode(p.Value)
	if at, ok := w.g.decided[v.id]; ok && at <= w.step {
		return // decided before, under another ballot
	}
	if all := w.g.rows(len(w.g.chain)); v.seen != all {
		w.fail("%d was decided after %v, but made from %v", v.id, all, v.seen)
	}
	if n := len(w.g.chain); n > 0 && v.id <= w.g.chain[n-1] {
		w.fail("%d was decided after %d: timestamps went back", v.id, w.g.chain[n-1])
	}
	if other, ok := w.g.applied[w.g.ops[v.id]]; ok {
		w.fail("%d and %d are the same operation, applied twice", other, v.id)
	}
	w.g.applied[w.g.ops[v.id]] = v.id
	w.g.chain = append(w.g.chain, v.id)
	w.g.decided[v.id] = w.step
	if end, ok := w.g.abandoned[v.id]; ok { // P1: who has read since was told that it is not there
		for _, o := range w.g.outcomes {
			if o.op != 'w' && o.began > end && !o.seen.has(v.id) {
				w.fail("%d was given up, a read said that it is not there, and then it was", v.id)
			}
		}
	}
}

// rows are those of the first n decisions.
func (g *ghost) rows(n int) (out rows) {
	for _, id := range g.chain[:n] {
		out.add(id)
	}
	return out
}

func digest(r rows) (d uint64) {
	for _, x := range r {
		d = (d ^ x) * 0x9E3779B97F4A7C15
	}
	return d
}

// check looks at the history of one run.
func (w *world) check() {
	for _, o := range w.g.outcomes {
		if o.op == 'w' {
			if at, ok := w.g.decided[o.id]; !ok || at > o.end {
				w.fail("a write answered at %d that %d is applied, which was decided at %d", o.end, o.id, at)
			}
			continue
		}
		known := false
		for n := range len(w.g.chain) + 1 {
			if o.seen != w.g.rows(n) {
				continue
			}
			known = true
			if n > 0 && w.g.decided[w.g.chain[n-1]] > o.end {
				w.fail("a read that ended at %d shows %v, decided later", o.end, o.seen)
			}
			if n < len(w.g.chain) && w.g.decided[w.g.chain[n]] < o.began {
				w.fail("a read that began at %d shows %v, after %d was decided", o.began, o.seen, w.g.chain[n])
			}
		}
		if !known {
			w.fail("a read shows %v, which never was: %v", o.seen, w.g.chain)
		}
	}
}

// run plays random events until nothing is left to do.
func (w *world) run(r *rand.Rand) {
	for w.step = 1; w.step < 3000; w.step++ {
		idle := true
		for i, p := range w.prop {
			if len(p.script) > 0 {
				idle = false
				if p.round == nil && p.look == nil && r.IntN(4) == 0 {
					w.begin(i)
				}
			}
		}
		if idle && len(w.net) == 0 {
			break
		}
		switch n := len(w.net); {
		case r.IntN(60) == 0:
			w.timeout(r.IntN(len(w.prop)))
		case w.amnesia && r.IntN(40) == 0:
			a := &w.acc[r.IntN(acceptors)]
			a.Promised, a.Accepted = a.Committed.Ballot, Proposal{}
		case n == 0:
		default:
			k := r.IntN(n)
			m := w.net[k]
			if r.IntN(w.repeat) != 0 { // else it comes again
				w.net[k] = w.net[n-1]
				w.net = w.net[:n-1]
			}
			if r.IntN(10) != 0 { // else it is lost
				w.deliver(m)
			}
		}
	}
	w.check()
}

// TestRandomSchedules: proposers and readers under loss, repetition, reordering and crashes of proposers never lose an
// update, never show what is not decided, and never go back on a read.
func TestRandomSchedules(t *testing.T) {
	runs := 20000
	switch {
	case testing.Short():
		runs = 3000
	case os.Getenv("HELENUS_LONG") != "":
		runs *= 20
	}
	decided, unknown := 0, 0
	for seed := range uint64(runs) {
		scripts := [][]string{{"wwrw", "wrww"}, {"ww", "rrr", "wwr"}, {"rw", "wr", "w"}, {"wp", "r", "pr"}, {"pwp", "wpw"}}[seed%5]
		w := newWorld(scripts...)
		w.run(rand.New(rand.NewPCG(seed, 7)))
		if len(w.failures) > 0 {
			t.Fatalf("seed %d: %s", seed, strings.Join(w.failures, "; "))
		}
		decided += len(w.g.chain)
		unknown += len(w.g.abandoned)
	}
	if decided < runs || unknown == 0 {
		t.Errorf("%d values decided, %d given up: the schedules are not what they should be", decided, unknown)
	}
	t.Logf("%d runs: %d values decided, %d given up", runs, decided, unknown)
}

// TestScenario_P14_AmnesiaIsSeen and its like: the checker catches what the protocol excludes.
func TestScenario_P14_AmnesiaIsSeen(t *testing.T) { planted(t, func(w *world) { w.amnesia = true }) }

func TestScenario_P1_AReadThatIsNotCleanIsSeen(t *testing.T) {
	planted(t, func(w *world) { w.sloppy = true })
}

func TestScenario_P5_ARefusalProvesNothing(t *testing.T) {
	planted(t, func(w *world) { w.rash, w.repeat = true, 2 })
}

func TestScenario_P10_NewTimestampsForOldValuesAreSeen(t *testing.T) {
	planted(t, func(w *world) { w.renewed = true })
}

func planted(t *testing.T, plant func(*world)) {
	t.Helper()
	for seed := range uint64(20000) {
		w := newWorld([][]string{{"wwrw", "wrww"}, {"ww", "rrr", "wwr"}, {"rw", "wr", "w"}, {"wp", "r", "pr"}, {"pwp", "wpw"}}[seed%5]...)
		plant(w)
		w.run(rand.New(rand.NewPCG(seed, 7)))
		if len(w.failures) > 0 {
			t.Logf("seed %d: %s", seed, w.failures[0])
			return
		}
	}
	t.Error("not seen in 20,000 runs")
}
