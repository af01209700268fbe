package paxos

import "fmt"

// Ballot names one attempt of a proposer. No two attempts have the same. The zero Ballot is before all others.
type Ballot struct {
	Micros int64  // µs since the epoch; attempts are ordered by it alone, and an acceptor gives each to one ID only
	ID     uint64 // of the attempt
}

// IsZero tells whether it is no ballot.
func (b Ballot) IsZero() bool { return b == Ballot{} }

// After tells whether b is later than o. Of two with the same µs neither is.
func (b Ballot) After(o Ballot) bool { return b.Micros > o.Micros }

// String is for logs and tests.
func (b Ballot) String() string { return fmt.Sprintf("%d.%x", b.Micros, b.ID) }

// Later returns the later of two ballots, a when neither is.
func Later(a, b Ballot) Ballot {
	if b.After(a) {
		return b
	}
	return a
}

// Proposal is a value under a ballot. A value that was interrupted is proposed again under another Ballot; Origin is the
// one it was made with, from which its timestamps come and by which its maker knows it again. An empty Value writes nothing:
// it only makes every earlier proposal that is not decided impossible.
type Proposal struct {
	Ballot, Origin Ballot
	Prev           Ballot // Origin of the decision that it was made after; zero: none
	Value          []byte
}

// Fate is what became of a proposal.
type Fate uint8

// The fates.
const (
	Open    Fate = iota // not known: it may yet be decided
	Applied             // decided
	Dead                // not decided, and never will be
	Lost                // something later is decided, before which it may have been
)

// Tells returns what it means for a proposal made with ballot o that p is decided.
func (p *Proposal) Tells(o Ballot) Fate {
	switch {
	case o == p.Origin || o == p.Prev:
		return Applied
	case !p.Ballot.After(o):
		return Open
	case o.After(p.Prev):
		return Dead
	}
	return Lost
}
