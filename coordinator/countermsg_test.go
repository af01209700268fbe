package coordinator

import (
	"encoding/hex"
	"errors"
	"net/netip"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/helenusdb/helenus/ring"
	"github.com/helenusdb/helenus/row"
)

// testMessages returns a coordinator that decodes messages.
func testMessages() *Coordinator {
	c := &Coordinator{peers: peerSet{base: time.Now(), all: map[ring.HostID]*peer{}}}
	addr := netip.MustParseAddrPort("10.0.0.3:7000")
	c.peers.of(ring.HostID{3}).addr.Store(&addr)
	return c
}

func goldenCount() []byte {
	var b row.Builder
	b.Reset(nil)
	b.Cell(row.Cell{Column: 2, Path: row.AppendIncrementPath(nil, 0), Timestamp: 1_000_000, Value: row.AppendCount(nil, 5)})
	var f row.FragmentBuilder
	f.Reset(nil, false)
	f.Row([]byte("a"), b.Finish())
	m := row.Mutation{Generation: 1026, Token: -7, Key: []byte{0, 0, 0, 1}, Fragment: f.Finish()}
	body := m.Append(appendCountHeader(nil, Quorum))
	numberCount(body, 7)
	planCount(body, 9)
	return body
}

var goldenFailure = &WriteFailure{Level: Quorum, Received: 1, BlockFor: 2, Type: CounterWrite,
	Failures: []Failure{{Host: ring.HostID{3}, Addr: netip.MustParseAddr("10.0.0.3"), Code: ReasonUnknown, Why: "full"}}}

// TestGoldenCountMessages: what goes over the wire is what docs/format/messages.md shows.
func TestGoldenCountMessages(t *testing.T) {
	doc, err := os.ReadFile("../docs/format/messages.md")
	if err != nil {
		t.Fatal(err)
	}
	for name, got := range map[string][]byte{"count": goldenCount(), "counted": appendCountAnswer(nil, goldenFailure)} {
		if want := name + " "; !strings.Contains(string(doc), want) || !strings.Contains(string(doc), hex.EncodeToString(got)) {
			t.Errorf("%s: %x is not in the document", name, got)
		}
	}
}

func TestCountMessagesRoundTrip(t *testing.T) {
	body := goldenCount()
	number, level, planned, rest, ok := decodeCount(body)
	ms, whole := decodeTarget(rest)
	if number != 7 || planned != 9 || level != Quorum || !ok || !whole || len(ms) != 1 || ms[0].Token != -7 {
		t.Errorf("%d %s %v", number, level, ms)
	}
	other := row.Mutation{Generation: 1026, Token: -8, Key: []byte{0, 0, 0, 2}, Fragment: ms[0].Fragment}
	if _, ok := decodeTarget(other.Append(append([]byte(nil), rest...))); ok {
		t.Error("two partitions in one request")
	}
	for n := range body {
		if _, _, _, rest, ok := decodeCount(body[:n]); ok {
			if _, ok := decodeTarget(rest); ok {
				t.Fatalf("%d of %d bytes decode", n, len(body))
			}
		}
	}
	c := testMessages()
	for _, want := range []error{nil, &Unavailable{Level: Quorum, Required: 2, Alive: 1}, goldenFailure,
		&WriteTimeout{Level: Quorum, Received: 1, BlockFor: 2, Type: CounterWrite}, &WriteFailure{Level: Quorum, BlockFor: 300, Type: CounterWrite}} {
		b := appendCountAnswer(nil, want)
		if got := c.decodeCountAnswer(b, Quorum); !reflect.DeepEqual(got, want) {
			t.Errorf("%+v became %+v", want, got)
		}
		for n := range b {
			if got := c.decodeCountAnswer(b[:n], Quorum); !errors.Is(got, errMalformed) {
				t.Errorf("%x: %v", b[:n], got)
			}
		}
	}
}

// FuzzCountMessages: outside bytes never panic.
func FuzzCountMessages(f *testing.F) {
	f.Add(goldenCount())
	f.Add(appendCountAnswer(nil, goldenFailure))
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, _, _, rest, ok := decodeCount(b); ok {
			ms, _ := decodeTarget(rest)
			var x row.Increments
			for _, m := range ms {
				out, err := x.Apply(nil, m.Fragment, m.Fragment, row.ShardID{1})
				if err == nil && row.ValidateFragment(out) != nil {
					t.Errorf("%x became the invalid %x", m.Fragment, out)
				}
			}
		}
		_ = testMessages().decodeCountAnswer(b, One)
	})
}
