package paxos

import (
	"cmp"
	"math/bits"
	"slices"

	"github.com/helenusdb/helenus/internal/planted"
)

// ParticipantsMax is how many acceptors a Round can have.
const ParticipantsMax = 64

// Step is what the owner of a Round does next.
type Step uint8

// The steps.
const (
	Wait       Step = iota // for more answers
	Refresh                // send a commit of Latest to the acceptors that TakeLagging returns
	Decide                 // nothing is in flight, a majority has Latest applied: make a value and Propose it, or end if Clean
	Finish                 // ProposeAgain what is in flight; then start again
	Learned                // InFlight is decided already: commit it; then start again
	Decided                // the proposal is decided: commit it
	Superseded             // refused: start again with a ballot after Seen
	Failed                 // too few acceptors can answer
)

type phase uint8

const (
	preparing phase = iota
	proposing       // a value is wanted
	accepting
	beaten // accepting, and a majority cannot be had any more: answers are still taken note of
	over
)

// set is a set of acceptors.
type set uint64

func (s set) has(i int) bool { return s&(1<<i) != 0 }
func (s *set) add(i int)     { *s |= 1 << i }
func (s set) len() int       { return bits.OnesCount64(uint64(s)) }

// Round is one attempt of a proposer: one ballot, from prepare to decision. Acceptors are numbered from 0. An answer that
// comes twice, or after it could matter, changes nothing.
type Round struct {
	Ballot    Ballot
	need, all int
	phase     phase

	promised, refused, failed set
	behind                    set // promised, and could not be brought up to date
	asked                     set // were sent Latest
	fresh                     set // had Latest applied when they promised
	before, committed         []Ballot
	latest, flight            Proposal
	holders                   set      // of flight
	obstacles                 []Ballot // of those that refused

	proposal Proposal
	accepted set
	without  set // has not accepted, and never will
}

// NewRound returns an attempt with all acceptors, of which need, a majority, have to agree.
func NewRound(b Ballot, all, need int) *Round {
	if all > ParticipantsMax || need > all || 2*need <= all {
		panic("paxos: need is no majority")
	}
	return &Round{Ballot: b, need: need, all: all, before: make([]Ballot, all), committed: make([]Ballot, all)}
}

// Promise takes an acceptor's answer to prepare.
func (r *Round) Promise(from int, p Promise) Step {
	if r.phase != preparing || r.heard(from) {
		return Wait
	}
	if p.Refused {
		r.refused.add(from)
		r.obstacles = append(r.obstacles, p.Promised)
		return r.afterPromise()
	}
	r.promised.add(from)
	r.before[from], r.committed[from] = p.Promised, p.Committed.Ballot
	if p.Committed.Ballot.After(r.latest.Ballot) {
		r.latest, r.fresh, r.asked = p.Committed, 0, 0
	}
	if p.Committed.Ballot == r.latest.Ballot {
		r.fresh.add(from)
	}
	switch a := p.Accepted; {
	case a.Ballot.After(r.flight.Ballot):
		r.flight, r.holders = a, 1<<from
	case !a.Ballot.IsZero() && a.Ballot == r.flight.Ballot:
		r.holders.add(from)
	}
	return r.afterPromise()
}

func (r *Round) heard(i int) bool { return r.promised.has(i) || r.refused.has(i) || r.failed.has(i) }

func (r *Round) afterPromise() Step {
	if r.promised.len() < r.need {
		return r.stuck(r.refused | r.failed)
	}
	// Also one that writes nothing: its maker had a majority brought up to date, but maybe after these promises, so what it
	// followed may be a decision that none of them shows.
	if r.flight.Ballot.After(r.latest.Ballot) && !planted.On(planted.SerialReadSkipsInFlight) {
		if r.holders.len() >= r.need {
			r.phase = over
			return Learned
		}
		r.phase = proposing
		return Finish
	}
	if r.current().len() >= r.need {
		r.phase = proposing
		return Decide
	}
	if r.lagging() != 0 {
		return Refresh
	}
	return r.stuck(r.refused | r.failed | r.behind)
}

// stuck ends the round when those that are not out are no majority.
func (r *Round) stuck(out set) Step {
	switch {
	case r.all-out.len() >= r.need:
		return Wait
	case r.refused != 0:
		r.phase = over
		return Superseded
	}
	r.phase = over
	return Failed
}

// current are those of the promisers that have applied latest.
func (r *Round) current() (s set) {
	for i := range r.all {
		if r.promised.has(i) && r.committed[i] == r.latest.Ballot {
			s.add(i)
		}
	}
	return s
}

func (r *Round) lagging() set { return r.promised &^ r.current() &^ r.asked &^ r.behind }

// TakeLagging returns the acceptors that have to be sent Latest, each once.
func (r *Round) TakeLagging() (out []int) {
	s := r.lagging()
	r.asked |= s
	for i := range r.all {
		if s.has(i) {
			out = append(out, i)
		}
	}
	return out
}

// Refreshed takes an acceptor's acknowledgement of a commit of b.
func (r *Round) Refreshed(from int, b Ballot) Step {
	if r.phase != preparing || b != r.latest.Ballot {
		return Wait
	}
	r.committed[from] = b
	return r.afterPromise()
}

// NotRefreshed says that an acceptor did not take Latest.
func (r *Round) NotRefreshed(from int) Step {
	if r.phase != preparing {
		return Wait
	}
	r.behind.add(from)
	return r.afterPromise()
}

// Fail says that no answer of an acceptor will come. never tells that it did not get the message and will not.
func (r *Round) Fail(from int, never bool) Step {
	switch r.phase {
	case preparing:
		if r.heard(from) {
			return Wait
		}
		r.failed.add(from)
		return r.afterPromise()
	case accepting, beaten:
		if r.answered(from) {
			return Wait
		}
		r.failed.add(from)
		if never {
			r.without.add(from)
		}
		return r.afterAccept()
	}
	return Wait
}

// Latest is the last decision that any promiser knew of.
func (r *Round) Latest() Proposal { return r.latest }

// InFlight is the proposal to Finish or that was Learned.
func (r *Round) InFlight() Proposal { return r.flight }

// Seen is the ballot that a later attempt has to exceed for a majority: not the latest obstacle when fewer have that one, for an
// acceptor whose clock is wrong must not lead the others astray. Those that have not answered may be willing.
func (r *Round) Seen() Ballot {
	willing := r.promised
	if r.phase == accepting || !r.proposal.Ballot.IsZero() {
		willing = r.accepted
	}
	n := len(r.obstacles)
	if n == 0 {
		return Ballot{}
	}
	slices.SortFunc(r.obstacles, func(a, b Ballot) int { return cmp.Compare(a.Micros, b.Micros) })
	open := r.all - (willing | r.refused | r.failed).len()
	return r.obstacles[min(max(r.need-willing.len()-open, 1), n)-1]
}

// Fresh tells whether what an acceptor read when it promised is as of Latest.
func (r *Round) Fresh(i int) bool { return r.promised.has(i) && r.fresh.has(i) }

// Current tells whether an acceptor has Latest applied by now: a read of a majority of those shows it.
func (r *Round) Current(i int) bool { return r.promised.has(i) && r.committed[i] == r.latest.Ballot }

// Clean tells that no proposal between Latest and Ballot exists anywhere, or can come to exist: a majority had promised
// nothing beyond Latest, and whoever proposes needs the promise of one of them.
func (r *Round) Clean() bool {
	n := 0
	for i := range r.all {
		if r.promised.has(i) && !r.before[i].After(r.latest.Ballot) {
			n++
		}
	}
	return n >= r.need
}

// Promises returns how many acceptors have promised.
func (r *Round) Promises() int { return r.promised.len() }

// Propose returns what to send to all acceptors after Decide; an empty value decides that nothing is written.
func (r *Round) Propose(value []byte) Proposal {
	p := r.Nothing()
	p.Value = value
	return r.propose(p)
}

// ProposeAgain returns what to send to all acceptors after Finish.
func (r *Round) ProposeAgain() Proposal {
	p := r.flight
	p.Ballot = r.Ballot
	return r.propose(p)
}

// Nothing is what a Clean round has decided without a word: that nothing is written. It may be committed at once.
func (r *Round) Nothing() Proposal {
	return Proposal{Ballot: r.Ballot, Origin: r.Ballot, Prev: r.latest.Origin}
}

func (r *Round) propose(p Proposal) Proposal {
	if r.phase != proposing {
		panic("paxos: proposed without a majority of promises")
	}
	r.phase = accepting
	r.refused, r.failed, r.obstacles = 0, 0, nil
	r.proposal = p
	return p
}

func (r *Round) answered(i int) bool { return r.accepted.has(i) || r.refused.has(i) || r.failed.has(i) }

// Accepted takes an acceptor's answer to accept; obstacle is what made it refuse, never that it had not
// accepted before (State.NeverTook). A proposal that has no majority of acceptances
// may be decided all the same, by whoever finishes it: Proposal.Tells.
func (r *Round) Accepted(from int, ok, never bool, obstacle Ballot) Step {
	if r.phase != accepting && r.phase != beaten || r.answered(from) {
		return Wait
	}
	if never && !ok {
		r.without.add(from)
	}
	if ok {
		r.accepted.add(from)
	} else {
		r.refused.add(from)
		r.obstacles = append(r.obstacles, obstacle)
	}
	return r.afterAccept()
}

func (r *Round) afterAccept() Step {
	switch {
	case r.phase == beaten:
		return Wait
	case r.accepted.len() >= r.need:
		r.phase = over
		return Decided
	}
	step := r.stuck(r.refused | r.failed)
	if step != Wait {
		r.phase = beaten
	}
	return step
}

// Proposal is what Propose returned.
func (r *Round) Proposal() Proposal { return r.proposal }

// Acceptances returns how many acceptors are known to have accepted.
func (r *Round) Acceptances() int { return r.accepted.len() }

// Heard tells that every acceptor has answered, or never will.
func (r *Round) Heard() bool { return (r.accepted | r.refused | r.failed).len() == r.all }

// Untouched tells that no acceptor has accepted the proposal, or ever will.
func (r *Round) Untouched() bool { return r.without.len() == r.all }
