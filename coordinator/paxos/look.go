package paxos

// Look is a read that promises nothing: a majority that agrees shows the decided content as it was at one instant while the
// look lasted, because whoever decides something later needs the promise of one of them after it has answered.
type Look struct {
	need, all int
	answered  set
	failed    set
	seen      []sight
}

type sight struct {
	committed Ballot
	digest    uint64
	quiet     bool
}

// NewLook returns a look at all acceptors, of which need, a majority, have to agree.
func NewLook(all, need int) *Look {
	if all > ParticipantsMax || need > all || 2*need <= all {
		panic("paxos: need is no majority")
	}
	return &Look{need: need, all: all, seen: make([]sight, all)}
}

// Answer takes what an acceptor answers to peek, and the digest of what it read. settled tells that the acceptors that agree
// with this one are a majority: what it read is the answer.
func (l *Look) Answer(from int, p Promise, digest uint64) (settled bool) {
	if l.answered.has(from) || l.failed.has(from) {
		return false
	}
	l.answered.add(from)
	s := State{Promised: p.Promised, Committed: p.Committed}
	l.seen[from] = sight{p.Committed.Ballot, digest, s.Finished() && p.Accepted.Ballot.IsZero()}
	return l.seen[from].quiet && l.agree(from) >= l.need
}

// Agrees tells whether an acceptor has answered as another one did.
func (l *Look) Agrees(i, with int) bool {
	return l.answered.has(i) && l.seen[i] == l.seen[with]
}

func (l *Look) agree(with int) (n int) {
	for i := range l.all {
		if l.Agrees(i, with) {
			n++
		}
	}
	return n
}

// Fail says that no answer of an acceptor will come.
func (l *Look) Fail(from int) { l.failed.add(from) }

// Answers returns how many have answered.
func (l *Look) Answers() int { return l.answered.len() }

// Over tells that all have answered or failed.
func (l *Look) Over() bool { return (l.answered | l.failed).len() == l.all }
