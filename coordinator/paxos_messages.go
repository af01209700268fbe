package coordinator

import (
	"encoding/binary"
	"errors"

	"github.com/helenusdb/helenus/coordinator/paxos"
	"github.com/helenusdb/helenus/ring"
	"github.com/helenusdb/helenus/row"
	"github.com/helenusdb/helenus/rpc"
	"github.com/helenusdb/helenus/schema"
)

// Verbs of conditional writes; docs/format/messages.md draws the bodies.
const (
	VerbPrepare rpc.Verb = 48 // promise a ballot, and read
	VerbPeek    rpc.Verb = 49 // read, and show the register
	VerbAccept  rpc.Verb = 50 // take a proposal
	VerbCommit  rpc.Verb = 51 // a proposal is decided: apply it
	VerbForget  rpc.Verb = 52 // the register is finished everywhere: drop it
	VerbTurn    rpc.Verb = 53 // wait for one's turn to propose
	VerbYield   rpc.Verb = 54 // it is over
)

const (
	ballotVersion = 1
	ballotHead    = 30 // bytes up to the key's length

	ballotLocal = 1 << 0 // the electorate is that of the local data centre
	ballotFlags = ballotLocal

	// ballotCommandsMax is how many reads go with one prepare.
	ballotCommandsMax = 64
)

// errBallot is returned for bytes that are no message of this package.
var errBallot = errors.New("coordinator: a message about a ballot does not decode")

// ballotRequest is one message to an acceptor. Decoded, it aliases the body.
type ballotRequest struct {
	verb       rpc.Verb
	local      bool
	planned    uint64 // RingEpoch of the sender's metadata; not looked at with turns
	electorate uint64 // hash of those who vote, by the sender's metadata; 0 with commits, forget and turns, on which nobody votes
	generation schema.Generation
	token      ring.Token
	key        []byte

	ballot   paxos.Ballot   // prepare, forget
	known    paxos.Ballot   // prepare: the commit whose value the sender has
	commands []row.Command  // prepare, peek: of this partition
	proposal paxos.Proposal // accept, commit
}

func (q *ballotRequest) append(dst []byte) []byte {
	flags := byte(0)
	if q.local {
		flags |= ballotLocal
	}
	dst = append(dst, ballotVersion, flags)
	dst = binary.BigEndian.AppendUint64(dst, q.planned)
	dst = binary.BigEndian.AppendUint64(dst, q.electorate)
	dst = binary.BigEndian.AppendUint32(dst, uint32(q.generation))
	dst = binary.BigEndian.AppendUint64(dst, uint64(q.token))
	dst = binary.AppendUvarint(dst, uint64(len(q.key)))
	dst = append(dst, q.key...)
	switch q.verb {
	case VerbPrepare:
		dst = q.known.Append(q.ballot.Append(dst))
		return appendCommands(dst, q.commands)
	case VerbPeek:
		return appendCommands(dst, q.commands)
	case VerbAccept, VerbCommit:
		return q.proposal.Append(dst)
	case VerbForget:
		return q.ballot.Append(dst)
	}
	return dst
}

func appendCommands(dst []byte, cmds []row.Command) []byte {
	dst = append(dst, byte(len(cmds)))
	for i := range cmds {
		dst = cmds[i].Append(dst)
	}
	return dst
}

func (q *ballotRequest) decode(verb rpc.Verb, src []byte) error {
	if len(src) < ballotHead || src[0] != ballotVersion || src[1]&^ballotFlags != 0 {
		return errBallot
	}
	q.verb, q.local = verb, src[1]&ballotLocal != 0
	q.planned = binary.BigEndian.Uint64(src[2:])
	q.electorate = binary.BigEndian.Uint64(src[10:])
	q.generation = schema.Generation(binary.BigEndian.Uint32(src[18:]))
	q.token = ring.Token(binary.BigEndian.Uint64(src[22:]))
	n, w := binary.Uvarint(src[ballotHead:])
	src = src[ballotHead:]
	if w <= 0 || n == 0 || n > ring.ComponentBytesMax || n > uint64(len(src)-w) {
		return errBallot
	}
	q.key, src = src[w:w+int(n):w+int(n)], src[w+int(n):]
	var err error
	switch verb {
	case VerbPrepare:
		if q.ballot, src, err = paxos.DecodeBallot(src); err == nil {
			if q.known, src, err = paxos.DecodeBallot(src); err == nil {
				src, err = q.decodeCommands(src)
			}
		}
	case VerbPeek:
		src, err = q.decodeCommands(src)
	case VerbAccept, VerbCommit:
		q.proposal, src, err = paxos.DecodeProposal(src)
	case VerbForget:
		q.ballot, src, err = paxos.DecodeBallot(src)
	}
	if err != nil || len(src) > 0 {
		return errBallot
	}
	return q.checkValue()
}

func (q *ballotRequest) decodeCommands(src []byte) ([]byte, error) {
	if len(src) == 0 || src[0] > ballotCommandsMax {
		return src, errBallot
	}
	q.commands = make([]row.Command, src[0])
	src = src[1:]
	var err error
	for i := range q.commands {
		c := &q.commands[i]
		if src, err = row.DecodeCommand(c, src); err != nil {
			return src, err
		}
		if c.Range != nil || c.Generation != q.generation || c.Token != q.token || string(c.Key) != string(q.key) {
			return src, errBallot
		}
	}
	return src, nil
}

// checkValue looks at the mutations of a proposal: they are of this partition.
func (q *ballotRequest) checkValue() error {
	for src := q.proposal.Value; len(src) > 0; {
		m, rest, err := row.DecodeMutation(src)
		if err != nil || m.Generation != q.generation || m.Token != q.token || string(m.Key) != string(q.key) {
			return errBallot
		}
		src = rest
	}
	return nil
}

// mutations decodes the value of a proposal that was checked.
func decodeMutations(value []byte) (ms []row.Mutation, err error) {
	for src := value; len(src) > 0; {
		m, rest, err := row.DecodeMutation(src)
		if err != nil {
			return nil, err
		}
		ms, src = append(ms, m), rest
	}
	return ms, nil
}

// ballotAnswer is what an acceptor says to a message. With a status that is not StatusOK nothing was done, unless Maybe.
type ballotAnswer struct {
	status    rpc.Status
	text      string // why, for StatusFailed
	valueless bool   // the promise leaves out the value of a commit that the asker has

	promise  paxos.Promise // prepare, peek
	pages    []row.Page    // one for each command, unless refused or pageless
	pageless bool          // prepare: there was no room for the pages
	accepted bool          // accept
	obstacle paxos.Ballot  // accept that is refused
	never    bool          // accept that is refused: it was not taken before either
}

func (a *ballotAnswer) leaveOutPages() { a.pages, a.pageless = nil, true }

// fitted returns the encoded answer. What it has no room for in limit bytes is left out of a promise: the pages, which can be read again,
// and then the value of a commit when something is accepted, for whoever learns of that goes on from there.
func (a *ballotAnswer) fitted(verb rpc.Verb, limit int) []byte {
	body := a.append(nil, verb)
	if len(body) > limit && verb == VerbPrepare && len(a.pages) > 0 {
		a.leaveOutPages()
		body = a.append(nil, verb)
	}
	if len(body) > limit && verb == VerbPrepare && !a.promise.Accepted.Ballot.IsZero() {
		a.valueless = true
		body = a.append(nil, verb)
	}
	return body
}

func (a *ballotAnswer) append(dst []byte, verb rpc.Verb) []byte {
	switch verb {
	case VerbPrepare, VerbPeek:
		dst = a.promise.Append(append(dst, ballotVersion), a.valueless)
		for i := range a.pages {
			dst = a.pages[i].Append(dst)
		}
	case VerbAccept:
		ok := byte(0)
		switch {
		case a.accepted:
			ok = 1
		case a.never:
			ok = 2
		}
		dst = a.obstacle.Append(append(dst, ballotVersion, ok))
	}
	return dst
}

// decode reads an answer to verb, for which n pages were asked. It aliases src.
func (a *ballotAnswer) decode(verb rpc.Verb, src []byte, n int) (err error) {
	switch verb {
	case VerbPrepare, VerbPeek:
		if len(src) == 0 || src[0] != ballotVersion {
			return errBallot
		}
		if a.promise, a.valueless, src, err = paxos.DecodePromise(src[1:]); err != nil {
			return errBallot
		}
		if a.pageless = verb == VerbPrepare && n > 0 && len(src) == 0 && !a.promise.Refused; a.promise.Refused || a.pageless {
			n = 0
		}
		a.pages = make([]row.Page, n)
		for i := range a.pages {
			if src, err = row.DecodePage(&a.pages[i], src); err != nil {
				return errBallot
			}
		}
	case VerbAccept:
		if len(src) < 2 || src[0] != ballotVersion || src[1] > 2 {
			return errBallot
		}
		a.accepted, a.never = src[1] == 1, src[1] == 2
		if a.obstacle, src, err = paxos.DecodeBallot(src[2:]); err != nil {
			return errBallot
		}
	}
	if len(src) > 0 {
		return errBallot
	}
	return nil
}
