package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/helenusdb/helenus/meta"
	"github.com/helenusdb/helenus/repair/stream"
	"github.com/helenusdb/helenus/ring"
	"github.com/helenusdb/helenus/row"
	"github.com/helenusdb/helenus/rpc"
	"github.com/helenusdb/helenus/schema"
)

// scissors is TCP whose connections to one address break once each has brought so many bytes, as often as cuts says.
type scissors struct {
	tcp
	addr  string // host:port that is dialed
	after int64  // bytes
	cuts  atomic.Int64
}

func (s *scissors) Dial(ctx context.Context, addr string) (net.Conn, error) {
	c, err := s.tcp.Dial(ctx, addr)
	if err != nil || addr != s.addr {
		return c, err
	}
	return &cut{Conn: c, s: s}, nil
}

type cut struct {
	net.Conn
	s    *scissors
	read int64 // of the reading goroutine
}

func (c *cut) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if c.read += int64(n); c.read > c.s.after && c.s.cuts.Add(-1) >= 0 {
		_ = c.Conn.Close()
		return 0, errors.New("cut")
	}
	return n, err
}

// large returns rows of about size bytes each, four in a partition.
func (c *trio) large(from, partitions, size int) (ms []row.Mutation) {
	value := strings.Repeat("x", size)
	for i := from; i < from+partitions; i++ {
		ms = append(ms, c.mutation(fmt.Sprintf("large%06d", i), func(f *row.FragmentBuilder) {
			for j := range 4 {
				f.Row(ckey(j), cellRow(c.column("v"), int64(1000+i), fmt.Sprint(i, j, value)))
			}
		}))
	}
	return ms
}

// records returns all that a node holds of the table in a range that does not wrap, as streams would carry it.
func records(t testing.TB, n *Node, table *schema.Table, rg ring.Range) map[string]string {
	t.Helper()
	s, err := n.engine.Snapshot(table.Generation, rg, false)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for at, done := []byte(nil), false; !done; {
		if at, done, err = s.Scan(t.Context(), at, 1<<20, func(k, v []byte) error { out[string(k)] = string(v); return nil }); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return out
}

func sameRecords(a, b map[string]string) bool {
	if len(a) != len(b) {
		return false
	}
	for k, v := range a {
		if b[k] != v {
			return false
		}
	}
	return true
}

// TestStreamsBetweenNodes: a node copies a range from another one whose link breaks twice; it goes on where it was, holds what the source
// holds, and the figures tell of it.
func TestStreamsBetweenNodes(t *testing.T) {
	link := &scissors{addr: host(50) + ":17000", after: 2 << 20}
	c := newTrioWith(t, 50, func(i int, o *Options) {
		o.Config.StreamThroughput = 0
		if i == 2 {
			o.Net = link
		}
		if i == 0 {
			o.Config.StreamThroughput = 1 << 30
		}
	})
	c.put(c.large(0, 300, 4<<10), 0, 1) // 4.8 MiB
	source, target := c.nodes[0], c.nodes[2]
	if r := source.streams.throttle.Rate(); r != 1<<30 {
		t.Errorf("the source sends %d bytes a second", r)
	}
	link.cuts.Store(2)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	q := stream.Request{Stream: stream.ID{1, 2}, From: source.home.HostID, Table: c.table.Generation, Range: ring.FullRange()}
	if err := target.streams.fetcher.Fetch(ctx, q, nil); err != nil {
		t.Fatal(err)
	}
	if want, got := records(t, source, c.table, ring.FullRange()), records(t, target, c.table, ring.FullRange()); len(want) != 1200 || !sameRecords(want, got) {
		t.Errorf("%d records came of %d", len(got), len(want))
	}
	if left := link.cuts.Load(); left > 0 {
		t.Errorf("the link was to break %d times more", left)
	}
	if marked, err := target.streams.store.marked(nil); marked || err != nil {
		t.Errorf("marks are left: %v %v", marked, err)
	}
	st := target.streamStats()
	if len(st.Active) != 0 || len(st.Peers) != 1 || st.Peers[0].HostID != source.home.HostID.String() || st.Peers[0].RangesIn != 1 || st.Peers[0].Resumed < 2 || st.Peers[0].BytesIn < 4<<20 {
		t.Errorf("%+v", st)
	}
	_, text := request(t, http.MethodGet, 52, "/metrics", nil)
	if want := fmt.Sprintf("helenus_stream_in_ranges_total{peer=%q} 1", source.home.HostID.String()); !strings.Contains(text, want) {
		t.Errorf("no %s in /metrics", want)
	}
	c.await("the source counts what it sent, to its end as far as it knows", func() bool { // more than once when the end was lost on the way
		st := source.streamStats()
		return len(st.Peers) == 1 && st.Peers[0].RangesOut >= 1 && st.Peers[0].BytesOut >= 4<<20
	})
	if _, text := request(t, http.MethodGet, 50, "/metrics", nil); !strings.Contains(text, fmt.Sprintf("helenus_stream_out_ranges_total{peer=%q} ", target.home.HostID.String())) {
		t.Error("/metrics of the source say nothing of it")
	}
}

// TestStreamsAreRefused: a source says no for a table that it does not know and for ranges that it is not read for.
func TestStreamsAreRefused(t *testing.T) {
	c := newTrio(t, 54)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	q := stream.Request{From: c.nodes[0].home.HostID, Table: c.table.Generation + 1, Range: ring.FullRange()}
	if err := c.nodes[1].streams.fetcher.Fetch(ctx, q, nil); !errors.Is(err, stream.ErrUnknownTable) {
		t.Errorf("a table that is not there: %v", err)
	}
	m := streamMembers{c.nodes[0]}
	if err := m.Admit(ctx, c.table.Generation, ring.Range{Start: 5, End: -5}); err != nil {
		t.Errorf("a range of its own: %v", err)
	}
	c.change(func(s *meta.State, env schema.Env) (schema.Plan, error) {
		return s.Catalog.AlterKeyspace(schema.AlterKeyspace{Name: "shop", Properties: []schema.Property{{Name: "replication", IsMap: true,
			Map: []schema.Pair{{Key: "class", Value: "SimpleStrategy"}, {Key: "replication_factor", Value: "1"}}}}}, env)
	})
	if err := m.Admit(ctx, c.table.Generation, ring.FullRange()); !errors.Is(err, stream.ErrNotOwner) {
		t.Errorf("all ranges where it has a third of them: %v", err)
	}
}

// answers notes which session was asked.
type answers struct {
	mu    sync.Mutex
	asked []rpc.Verb
}

func (a *answers) Handle(req *rpc.Request, _ rpc.Responder) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.asked = append(a.asked, req.Verb)
}
func (*answers) Flush() {}
func (*answers) Close() {}

// TestVerbsWaitForTheClusterVersion: verbs of streams and repair do not exist before every node's build knows them; a request of a node that
// knows of a newer version is answered by the session, which learns of it first. Nothing is sent in them either.
func TestVerbsWaitForTheClusterVersion(t *testing.T) {
	old := meta.Empty()
	old.ClusterVersion, old.Epoch = meta.VersionMovement-1, 7
	now := meta.Empty()
	now.Epoch = 8
	for _, c := range []struct {
		state *meta.State
		epoch uint64
		want  bool
	}{{old, 7, false}, {old, 6, false}, {old, 8, true}, {now, 8, true}, {now, 3, true}} {
		var a answers
		m := &rpc.Mux{}
		m.Add(stream.VerbFirst, rpc.VerbStreamLast, gated{&a, func() *meta.State { return c.state }})
		for _, v := range []rpc.Verb{stream.VerbOpen, stream.VerbClose, 112, 117} {
			a.asked = nil
			m.Handle(&rpc.Request{Verb: v, Epoch: c.epoch}, rpc.Responder{})
			if got := len(a.asked) == 1; got != c.want {
				t.Errorf("verb %d at version %d, asked from epoch %d: handled %v", v, c.state.ClusterVersion, c.epoch, got)
			}
		}
	}
	if err := movable(old); err == nil || !strings.Contains(err.Error(), "upgraded first") {
		t.Errorf("repair under an old version: %v", err)
	}
	if err := movable(now); err != nil {
		t.Error(err)
	}
}

// TestSuccessor: the end of all keys with a prefix.
func TestSuccessor(t *testing.T) {
	for in, want := range map[string][]byte{"": nil, "a": []byte("b"), "a\xff": []byte("b"), "\xff\xff": nil, "\x01\x02": []byte("\x01\x03")} {
		if got := successor([]byte(in)); !bytes.Equal(got, want) || (got == nil) != (want == nil) {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}
