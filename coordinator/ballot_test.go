package coordinator

import (
	"encoding/hex"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/helenusdb/helenus/coordinator/paxos"
	"github.com/helenusdb/helenus/row"
	"github.com/helenusdb/helenus/rpc"
)

func sampleRequests() map[string]*ballotRequest {
	key := []byte{0, 0, 0, 1}
	cmd := row.Command{Generation: 1024, Now: 1_700_000_000, Token: -2, Key: key, Limit: 10, Slices: []row.Slice{{Start: []byte("a"), End: []byte("a\xff"), Point: true}}}
	var f row.FragmentBuilder
	f.Reset(nil, false)
	var b row.Builder
	b.Reset(nil)
	b.SetLiveness(row.Liveness{Timestamp: 1_700_000_000_000_000})
	f.Row([]byte("a"), b.Finish())
	m := row.Mutation{Generation: 1024, Token: -2, Key: key, Fragment: f.Finish()}
	of := func(verb rpc.Verb, fill func(*ballotRequest)) *ballotRequest {
		q := &ballotRequest{verb: verb, planned: 9, electorate: 0x1122334455667788, generation: 1024, token: -2, key: key}
		if fill != nil {
			fill(q)
		}
		return q
	}
	at := paxos.Ballot{Micros: 1_700_000_000_000_000, ID: 0xAB}
	p := paxos.Proposal{Ballot: at, Origin: at, Prev: paxos.Ballot{Micros: 9, ID: 10}, Value: m.Append(nil)}
	return map[string]*ballotRequest{
		"prepare": of(VerbPrepare, func(q *ballotRequest) {
			q.ballot, q.known, q.commands = at, paxos.Ballot{Micros: 7, ID: 8}, []row.Command{cmd}
		}),
		"peek":   of(VerbPeek, func(q *ballotRequest) { q.commands, q.local = []row.Command{cmd}, true }),
		"accept": of(VerbAccept, func(q *ballotRequest) { q.proposal = p }),
		"commit": of(VerbCommit, func(q *ballotRequest) { q.proposal, q.electorate = p, 0 }),
		"forget": of(VerbForget, func(q *ballotRequest) { q.ballot, q.electorate = at, 0 }),
		"turn":   of(VerbTurn, nil),
	}
}

// TestGoldenBallots: what goes over the wire is what docs/format/messages.md shows, and comes back.
func TestGoldenBallots(t *testing.T) {
	doc, err := os.ReadFile("../docs/format/messages.md")
	if err != nil {
		t.Fatal(err)
	}
	for name, q := range sampleRequests() {
		b := q.append(nil)
		if want := name + " " + hex.EncodeToString(b); !strings.Contains(strings.Join(strings.Fields(string(doc)), " "), want) {
			t.Errorf("messages.md does not show %s", want)
		}
		back := &ballotRequest{}
		if err := back.decode(q.verb, b); err != nil || string(back.append(nil)) != string(b) {
			t.Errorf("%s: %v", name, err)
		}
		for i := range b {
			if (&ballotRequest{}).decode(q.verb, b[:i]) == nil {
				t.Errorf("%s: the first %d of %d bytes decode", name, i, len(b))
			}
		}
	}
}

// TestForeignCommands: reads and mutations of other partitions do not get in with a ballot.
func TestForeignCommands(t *testing.T) {
	for _, name := range []string{"prepare", "peek", "accept", "commit"} {
		q := sampleRequests()[name]
		q.key = []byte{0, 0, 0, 2}
		if (&ballotRequest{}).decode(q.verb, q.append(nil)) == nil {
			t.Errorf("%s of another partition decodes", name)
		}
	}
}

func sampleAnswers() map[rpc.Verb]*ballotAnswer {
	at := paxos.Ballot{Micros: 5, ID: 6}
	return map[rpc.Verb]*ballotAnswer{
		VerbPrepare: {promise: paxos.Promise{Promised: at, Committed: paxos.Proposal{Ballot: at, Origin: at, Value: []byte("v")}}, pages: []row.Page{{Rows: 1, Digest: 9, Data: []byte{}}}},
		VerbPeek:    {promise: paxos.Promise{Promised: at}, valueless: true, pages: []row.Page{{Digest: 9}}},
		VerbAccept:  {accepted: true, obstacle: at},
	}
}

func TestAnswersRoundTrip(t *testing.T) {
	for verb, a := range sampleAnswers() {
		b := a.append(nil, verb)
		var back ballotAnswer
		if err := back.decode(verb, b, len(a.pages)); err != nil {
			t.Errorf("verb %d: %v", verb, err)
			continue
		}
		if !reflect.DeepEqual(back.promise, a.promise) || back.accepted != a.accepted || back.obstacle != a.obstacle || len(back.pages) != len(a.pages) {
			t.Errorf("verb %d: %+v", verb, back)
		}
		if string(back.append(nil, verb)) != string(b) {
			t.Errorf("verb %d: other bytes", verb)
		}
	}
}

func FuzzDecodeBallots(f *testing.F) {
	for _, q := range sampleRequests() {
		f.Add(uint8(q.verb), q.append(nil))
	}
	for verb, a := range sampleAnswers() {
		f.Add(uint8(verb), a.append(nil, verb))
	}
	f.Fuzz(func(t *testing.T, verb uint8, b []byte) {
		q := &ballotRequest{}
		if q.decode(rpc.Verb(verb), b) == nil {
			again := &ballotRequest{}
			if err := again.decode(rpc.Verb(verb), q.append(nil)); err != nil {
				t.Errorf("verb %d: %x comes back with %v", verb, b, err)
			}
			if _, err := decodeMutations(q.proposal.Value); err != nil {
				t.Errorf("a checked value: %v", err)
			}
		}
		var a ballotAnswer
		_ = a.decode(rpc.Verb(verb), b, 1)
	})
}
