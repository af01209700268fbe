package paxos

import (
	"encoding/binary"
	"errors"
)

// ErrCorrupt is returned for bytes that are not what they should be; ErrVersion for those of a version that is not known.
var (
	ErrCorrupt = errors.New("paxos: corrupt bytes")
	ErrVersion = errors.New("paxos: unknown version")
)

const (
	headVersion  = 1
	headAccepted = 1 << 0 // a proposal is accepted
	headLocal    = 1 << 1
	ballotBytes  = 16
)

// Append appends the encoding of a ballot.
func (b Ballot) Append(dst []byte) []byte {
	dst = binary.BigEndian.AppendUint64(dst, uint64(b.Micros))
	return binary.BigEndian.AppendUint64(dst, b.ID)
}

// DecodeBallot returns the ballot at the start of src and what follows. ErrCorrupt.
func DecodeBallot(src []byte) (b Ballot, rest []byte, err error) {
	if len(src) < ballotBytes {
		return b, src, ErrCorrupt
	}
	b.Micros, b.ID = int64(binary.BigEndian.Uint64(src)), binary.BigEndian.Uint64(src[8:])
	if b.Micros < 0 {
		return b, src, ErrCorrupt
	}
	return b, src[ballotBytes:], nil
}

func decodeBallots(src []byte, bs ...*Ballot) (rest []byte, err error) {
	for _, b := range bs {
		if *b, src, err = DecodeBallot(src); err != nil {
			return src, err
		}
	}
	return src, nil
}

// Append appends the encoding of a proposal.
func (p *Proposal) Append(dst []byte) []byte {
	dst = p.Prev.Append(p.Origin.Append(p.Ballot.Append(dst)))
	dst = binary.AppendUvarint(dst, uint64(len(p.Value)))
	return append(dst, p.Value...)
}

// DecodeProposal returns the proposal at the start of src, whose bytes it aliases, and what follows. ErrCorrupt.
func DecodeProposal(src []byte) (p Proposal, rest []byte, err error) {
	if src, err = decodeBallots(src, &p.Ballot, &p.Origin, &p.Prev); err != nil {
		return p, src, err
	}
	n, w := binary.Uvarint(src)
	if w <= 0 || n > uint64(len(src)-w) {
		return p, src, ErrCorrupt
	}
	src = src[w:]
	if n > 0 {
		p.Value = src[:n:n]
	}
	return p, src[n:], nil
}

// AppendHead appends the encoding of a state without its values.
func (s *State) AppendHead(dst []byte) []byte {
	flags := byte(0)
	if !s.Accepted.Ballot.IsZero() {
		flags |= headAccepted
	}
	if s.Local {
		flags |= headLocal
	}
	dst = s.Promised.Append(append(dst, headVersion, flags))
	dst = s.Committed.Prev.Append(s.Committed.Origin.Append(s.Committed.Ballot.Append(dst)))
	dst = s.Took[1].Append(s.Took[0].Append(dst))
	if flags&headAccepted != 0 {
		dst = s.Accepted.Prev.Append(s.Accepted.Origin.Append(s.Accepted.Ballot.Append(dst)))
	}
	return dst
}

// DecodeHead returns a state without its values. ErrCorrupt, ErrVersion.
func DecodeHead(src []byte) (s State, err error) {
	if len(src) < 2 {
		return s, ErrCorrupt
	}
	if src[0] != headVersion || src[1]&^(headAccepted|headLocal) != 0 {
		return s, ErrVersion
	}
	accepted := src[1]&headAccepted != 0
	s.Local = src[1]&headLocal != 0
	if src, err = decodeBallots(src[2:], &s.Promised, &s.Committed.Ballot, &s.Committed.Origin, &s.Committed.Prev, &s.Took[0], &s.Took[1]); err == nil && accepted {
		src, err = decodeBallots(src, &s.Accepted.Ballot, &s.Accepted.Origin, &s.Accepted.Prev)
	}
	if err != nil || len(src) > 0 || accepted && !s.Accepted.Ballot.After(s.Committed.Ballot) ||
		s.Committed.Ballot.After(s.Promised) || s.Accepted.Ballot.After(s.Promised) {
		return State{}, ErrCorrupt
	}
	return s, nil
}

const (
	promiseRefused   = 1 << 0
	promiseAccepted  = 1 << 1 // a proposal is in flight
	promiseValueless = 1 << 2 // the value of the commit is left out
	promiseFlags     = promiseRefused | promiseAccepted | promiseValueless
)

// Append appends the encoding of a promise, without the value of the commit when the receiver has it.
func (p *Promise) Append(dst []byte, valueless bool) []byte {
	flags := byte(0)
	if p.Refused {
		return p.Promised.Append(append(dst, promiseRefused))
	}
	if !p.Accepted.Ballot.IsZero() {
		flags |= promiseAccepted
	}
	c := p.Committed
	if valueless {
		flags |= promiseValueless
		c.Value = nil
	}
	dst = p.Promised.Append(append(dst, flags))
	dst = c.Append(dst)
	if flags&promiseAccepted != 0 {
		dst = p.Accepted.Append(dst)
	}
	return dst
}

// DecodePromise returns the promise at the start of src, whose bytes it aliases, and what follows; valueless tells that the
// value of the commit was left out. ErrCorrupt, ErrVersion.
func DecodePromise(src []byte) (p Promise, valueless bool, rest []byte, err error) {
	if len(src) == 0 {
		return p, false, src, ErrCorrupt
	}
	flags := src[0]
	if flags&^promiseFlags != 0 || flags&promiseRefused != 0 && flags != promiseRefused {
		return p, false, src, ErrVersion
	}
	p.Refused, valueless = flags&promiseRefused != 0, flags&promiseValueless != 0
	if p.Promised, src, err = DecodeBallot(src[1:]); err != nil || p.Refused {
		return p, false, src, err
	}
	if p.Committed, src, err = DecodeProposal(src); err == nil && flags&promiseAccepted != 0 {
		p.Accepted, src, err = DecodeProposal(src)
	}
	if err == nil && valueless && p.Committed.Value != nil {
		err = ErrCorrupt
	}
	return p, valueless, src, err
}
