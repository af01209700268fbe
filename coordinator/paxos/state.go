package paxos

import "time"

// State is one acceptor's register of a partition. The zero State is that of a partition that nobody has proposed to.
//
// Invariants: Promised is not before Accepted.Ballot and Committed.Ballot; Accepted is later than Committed or zero.
type State struct {
	Promised  Ballot
	Accepted  Proposal  // not known to be decided
	Committed Proposal  // the latest that is; its Value is needed by those that missed it
	Took      [2]Ballot // the last two proposals that were ever taken, the newest first
	Local     bool      // the last ballot was for the electorate of the local data centre; for whoever finishes it
}

// Bounds are the ballots that an acceptor takes, in µs since the epoch.
type Bounds struct {
	Low  int64 // what was promised up to here may be forgotten: at or below it nothing is taken
	High int64 // above it a ballot is ahead of the acceptor's clock, and refused unless it hardly leads the last promise
}

// beyondPromise is by how much a ballot above Bounds.High may lead the promise: a register whose promise is ahead, because
// clocks were, must not be locked when they are right again.
const beyondPromise = int64(time.Second / time.Microsecond)

// Verdict is an acceptor's word on a ballot.
type Verdict uint8

// The verdicts.
const (
	Taken   Verdict = iota // store the state, then answer
	Refused                // something later stands in the way
	Ahead                  // the ballot is too far ahead of the acceptor's clock
)

// Promise is an acceptor's answer to prepare and peek.
type Promise struct {
	Refused   bool
	Promised  Ballot   // refused: what stands in the way; peek: the promise; else what was promised before
	Accepted  Proposal // zero: nothing beyond Committed
	Committed Proposal
}

func (s *State) judge(b Ballot, bounds Bounds) Verdict {
	switch {
	case b.Micros <= bounds.Low:
		return Refused
	case b.Micros > bounds.High && b.Micros > s.Promised.Micros+beyondPromise:
		return Ahead
	case b == s.Promised || b.After(s.Promised):
		return Taken
	}
	return Refused
}

// obstacle is what a refused proposer has to exceed.
func (s *State) obstacle(bounds Bounds) Ballot { return Later(s.Promised, Ballot{Micros: bounds.Low}) }

// Prepare promises b: nothing earlier is taken from now on.
func (s *State) Prepare(b Ballot, bounds Bounds) (Promise, Verdict) {
	v := s.judge(b, bounds)
	if v != Taken {
		return Promise{Refused: true, Promised: s.obstacle(bounds)}, v
	}
	p := s.Peek()
	s.Promised = b
	return p, Taken
}

// Peek is what Prepare would answer, without promising.
func (s *State) Peek() Promise {
	return Promise{Promised: s.Promised, Accepted: s.Accepted, Committed: s.Committed}
}

// Accept takes a proposal. obstacle is what stands in the way of one that is refused; it may have been taken all the same, when it
// came before.
func (s *State) Accept(p Proposal, bounds Bounds) (obstacle Ballot, v Verdict) {
	if s.Accepted.Ballot == p.Ballot && !p.Ballot.IsZero() {
		return Ballot{}, Taken // it comes again
	}
	if v = s.judge(p.Ballot, bounds); v != Taken {
		return s.obstacle(bounds), v
	}
	s.Promised = p.Ballot
	if s.Took[0] != p.Ballot {
		s.Took = [2]Ballot{p.Ballot, s.Took[0]}
	}
	if p.Ballot.After(s.Committed.Ballot) { // else it is this one, decided already
		s.Accepted = p
	}
	return Ballot{}, Taken
}

// NeverTook tells that a proposal under b was never taken here: proposals are taken in the order of their ballots, so one that was
// is among the last two, or before them. A refusal alone does not tell, for a message may come twice.
func (s *State) NeverTook(b Ballot) bool { return b != s.Took[0] && b.After(s.Took[1]) }

// Commit takes note that a proposal is decided, and tells whether that is news. Its rows are to be written in any case: an
// earlier decision that comes late is one that this acceptor missed.
func (s *State) Commit(p Proposal) (news bool) {
	if !p.Ballot.After(s.Committed.Ballot) {
		return false
	}
	s.Committed = p
	s.Promised = Later(s.Promised, p.Ballot)
	if !s.Accepted.Ballot.After(p.Ballot) {
		s.Accepted = Proposal{}
	}
	return true
}

// Disown forgets what was accepted and is not known to be decided, and tells whether there was anything. Only where another one of every majority that
// may have decided it has accepted it too, or it is known to have come to its end.
func (s *State) Disown() (any bool) {
	any = !s.Accepted.Ballot.IsZero()
	s.Accepted = Proposal{}
	return any
}

// Finished tells whether everything that was ever promised has come to its end, as far as this acceptor knows.
func (s *State) Finished() bool { return !s.Promised.After(s.Committed.Ballot) }
