package paxos_test

import (
	"encoding/hex"
	"os"
	"reflect"
	"strings"
	"testing"

	. "github.com/helenusdb/helenus/coordinator/paxos"
)

// head is the state whose bytes docs/format/storage-keys.md shows.
func head() State {
	return State{Promised: Ballot{0x0102030405060708, 0xA1}, Local: true, Took: [2]Ballot{{0x0102030405060707, 0xD4}, {0x0102030405060700, 0xB2}},
		Committed: Proposal{Ballot: Ballot{0x0102030405060700, 0xB2}, Origin: Ballot{0x0102030405060600, 0xC3}, Prev: Ballot{0x0102030405060500, 0xC4}},
		Accepted:  Proposal{Ballot: Ballot{0x0102030405060707, 0xD4}, Origin: Ballot{0x0102030405060706, 0xE5}, Prev: Ballot{0x0102030405060600, 0xC3}}}
}

// TestGoldenHead: what is on disk is what docs/format/storage-keys.md shows.
func TestGoldenHead(t *testing.T) {
	doc, err := os.ReadFile("../../docs/format/storage-keys.md")
	if err != nil {
		t.Fatal(err)
	}
	s := head()
	got := hex.EncodeToString(s.AppendHead(nil))
	if !strings.Contains(strings.ReplaceAll(string(doc), " ", ""), got) {
		t.Errorf("storage-keys.md does not show %s", got)
	}
	back, err := DecodeHead(s.AppendHead(nil))
	if err != nil || !reflect.DeepEqual(back, s) {
		t.Errorf("%+v, %v", back, err)
	}
}

func TestRoundTrips(t *testing.T) {
	p := Promise{Promised: Ballot{9, 1}, Committed: Proposal{Ballot{7, 2}, Ballot{6, 3}, Ballot{5, 3}, []byte("c")},
		Accepted: Proposal{Ballot{8, 4}, Ballot{8, 4}, Ballot{6, 3}, []byte("a")}}
	for _, valueless := range []bool{false, true} {
		back, without, rest, err := DecodePromise(append(p.Append(nil, valueless), 'x'))
		want := p
		if valueless {
			want.Committed.Value = nil
		}
		if err != nil || without != valueless || string(rest) != "x" || !reflect.DeepEqual(back, want) {
			t.Errorf("%+v, %v, %q, %v", back, without, rest, err)
		}
	}
	refused := Promise{Refused: true, Promised: Ballot{9, 1}}
	back, _, rest, err := DecodePromise(refused.Append(nil, false))
	if err != nil || len(rest) > 0 || !reflect.DeepEqual(back, refused) {
		t.Errorf("%+v, %v", back, err)
	}
}

func FuzzDecode(f *testing.F) {
	s := head()
	p := Promise{Promised: Ballot{9, 1}, Committed: Proposal{Ballot{7, 2}, Ballot{6, 3}, Ballot{5, 3}, []byte("c")}, Accepted: Proposal{Ballot{8, 4}, Ballot{8, 4}, Ballot{6, 3}, []byte("a")}}
	f.Add(s.AppendHead(nil))
	f.Add(p.Append(nil, false))
	f.Add(p.Append(nil, true))
	f.Add(p.Committed.Append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		if s, err := DecodeHead(b); err == nil {
			if got := s.AppendHead(nil); string(got) != string(b) {
				t.Errorf("head %x comes back as %x", b, got)
			}
		}
		if p, valueless, rest, err := DecodePromise(b); err == nil {
			again, _, _, err := DecodePromise(p.Append(nil, valueless))
			if err != nil || !reflect.DeepEqual(p, again) || len(rest) > len(b) {
				t.Errorf("promise %x: %+v, %+v, %v", b, p, again, err)
			}
		}
		if p, _, err := DecodeProposal(b); err == nil {
			again, rest, err := DecodeProposal(p.Append(nil))
			if err != nil || len(rest) > 0 || !reflect.DeepEqual(p, again) {
				t.Errorf("proposal %x: %+v, %+v, %v", b, p, again, err)
			}
		}
	})
}

// TestBounds: ballots of the purged era and of the future are refused, but for those that hardly lead the promise.
func TestBounds(t *testing.T) {
	b := Bounds{Low: 100, High: 10_000_000}
	for _, x := range []struct {
		promised, ballot int64
		want             Verdict
	}{
		{0, 100, Refused}, {0, 101, Taken}, {200, 150, Refused}, {200, 201, Taken}, {0, 10_000_000, Taken}, {0, 10_000_001, Ahead},
		{20_000_000, 20_000_001, Taken}, {20_000_000, 21_000_000, Taken}, {20_000_000, 21_000_001, Ahead},
	} {
		s := State{Promised: Ballot{x.promised, 1}}
		p, v := s.Prepare(Ballot{x.ballot, 2}, b)
		if v != x.want || p.Refused != (v != Taken) {
			t.Errorf("%+v: %v %+v", x, v, p)
		}
		if v == Refused && p.Promised.Micros < max(x.promised, b.Low) {
			t.Errorf("%+v: the obstacle is %v", x, p.Promised)
		}
		s = State{Promised: Ballot{x.promised, 1}}
		if _, v := s.Accept(Proposal{Ballot: Ballot{x.ballot, 2}}, b); v != x.want {
			t.Errorf("accept %+v: %v", x, v)
		}
	}
	s := State{Promised: Ballot{200, 1}}
	if _, v := s.Prepare(Ballot{200, 2}, b); v != Refused {
		t.Error("a microsecond was given twice")
	}
}
