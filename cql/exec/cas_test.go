package exec_test

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/helenusdb/helenus/coordinator"
	"github.com/helenusdb/helenus/cql/exec"
	"github.com/helenusdb/helenus/cql/protocol"
	"github.com/helenusdb/helenus/internal/e2e/differ"
	"github.com/helenusdb/helenus/row"
)

// consensus decides conditional writes of the one node of a test cluster, one after the other.
type consensus struct {
	c    *cluster
	turn chan struct{} // nil: one at a time anyway
	mu   sync.Mutex    // guards what follows; not held across a wait
	fail error
	seen []coordinator.CAS
}

func (s *consensus) take() func() {
	s.mu.Lock()
	if s.turn == nil {
		s.turn = make(chan struct{}, 1)
	}
	turn := s.turn
	s.mu.Unlock()
	turn <- struct{}{}
	return func() { <-turn }
}

// CAS implements exec.Consensus. It decides on older content first, as a coordinator does that another one overtakes.
func (s *consensus) CAS(ctx context.Context, op *coordinator.CAS) (bool, error) {
	defer s.take()()
	s.mu.Lock()
	fail := s.fail
	s.seen = append(s.seen, *op)
	s.mu.Unlock()
	if fail != nil {
		return false, fail
	}
	if need := map[coordinator.Level]int{coordinator.Two: 2, coordinator.Three: 3}[op.Commit]; need > 0 {
		return false, &coordinator.Unavailable{Level: op.Commit, Required: need, Alive: 1}
	}
	if _, _, err := op.Decide(&row.Page{}, 1, op.Command.Now); err != nil && strings.Contains(err.Error(), "corrupt") {
		return false, err
	}
	read := coordinator.Read{Command: op.Command, Level: coordinator.One, Trace: op.Trace}
	if err := s.c.coord.ReadPage(ctx, &read); err != nil {
		return false, err
	}
	op.Page = read.Page
	ts := s.c.clock.Add(10)
	ms, applied, err := op.Decide(&op.Page, ts, op.Command.Now)
	if err != nil || !applied || len(ms) == 0 {
		return applied, err
	}
	w := coordinator.Write{Mutations: ms, Type: coordinator.CASType, Level: op.Commit, Trace: op.Trace}
	return true, s.c.coord.WriteSync(ctx, &w)
}

// SerialRead implements exec.Consensus.
func (s *consensus) SerialRead(ctx context.Context, r *coordinator.Read) error {
	defer s.take()()
	level := r.Level
	r.Level = coordinator.One
	defer func() { r.Level = level }()
	return s.c.coord.ReadPage(ctx, r)
}

func (s *consensus) failWith(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fail = err
}

func (s *consensus) last() coordinator.CAS {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.seen[len(s.seen)-1]
}

// TestConditionalCorpus runs the part of the corpus about conditional writes against this package alone.
func TestConditionalCorpus(t *testing.T) {
	const dir = "../../internal/e2e/differ/testdata"
	files, err := differ.ReadCorpus(dir)
	if err != nil {
		t.Fatal(err)
	}
	for i := range files {
		f := &files[i]
		if f.Name != "lwt" {
			continue
		}
		theirs, err := differ.ReadGolden(filepath.Join(dir, f.Name+".golden"))
		if err != nil || len(theirs) == 0 {
			t.Fatal("no golden answers", err)
		}
		purpose, err := differ.ReadGolden(filepath.Join(dir, f.Name+".ours"))
		if err != nil {
			t.Fatal(err)
		}
		host, port, _ := net.SplitHostPort(start(t, options{}).addr)
		s := differ.NewServer(net.JoinHostPort(host, port))
		s.Quiet = 10 * time.Millisecond
		got, err := differ.Record(s, f)
		if err != nil {
			t.Fatal(err)
		}
		if *rewrite && *ours {
			if err := got.OnPurpose(f, theirs).Write(filepath.Join(dir, f.Name+".ours")); err != nil {
				t.Fatal(err)
			}
		}
		for _, d := range differ.Compare(f, theirs, purpose, got) {
			t.Error(d)
		}
		return
	}
	t.Fatal("no lwt.cql")
}

// TestConditionalErrors: what a coordinator says about a conditional write becomes the error that drivers know.
func TestConditionalErrors(t *testing.T) {
	c := start(t, options{})
	clients := map[protocol.Version]*client{}
	for _, v := range []protocol.Version{protocol.V3, protocol.V4, protocol.V5} {
		clients[v] = dial(t, c.addr, v)
	}
	clients[protocol.V5].must("CREATE KEYSPACE ks WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}")
	clients[protocol.V5].must("CREATE TABLE ks.t (k int PRIMARY KEY, v int)")
	timeout := &coordinator.WriteTimeout{Level: coordinator.Serial, Received: 1, BlockFor: 2, Type: coordinator.CASType, Contentions: 7}
	for _, x := range []struct {
		err  error
		v    protocol.Version
		want string
	}{
		{timeout, protocol.V5, "0x1100 CAS operation timed out: received 1 of 2 required responses after 7 contention retries | SERIAL 1 2 CAS 7"},
		{timeout, protocol.V4, "0x1100 Operation timed out - received only 1 responses. | SERIAL 1 2 CAS 0"},
		{timeout, protocol.V3, "0x1100 Operation timed out - received only 1 responses. | SERIAL 1 2 CAS 0"},
		{fmt.Errorf("paxos: %w", &coordinator.CASWriteUnknown{Level: coordinator.LocalSerial, Received: 1, BlockFor: 2}), protocol.V5,
			"0x1700 CAS operation result is unknown - proposal accepted by 1 but not a quorum. | LOCAL_SERIAL 1 2  0"},
		{&coordinator.CASWriteUnknown{Level: coordinator.Serial, Received: 1, BlockFor: 2}, protocol.V4,
			"0x1100 Operation timed out - received only 1 responses. | SERIAL 1 2 CAS 0"},
		{&coordinator.Unavailable{Level: coordinator.Serial, Required: 2, Alive: 1}, protocol.V5, "0x1000 Cannot achieve consistency level SERIAL | SERIAL 0 0  0"},
	} {
		c.consensus.failWith(x.err)
		for _, text := range []string{"INSERT INTO ks.t (k) VALUES (1) IF NOT EXISTS", "BEGIN BATCH UPDATE ks.t SET v = 1 WHERE k = 1 IF v = 1; APPLY BATCH"} {
			e := clients[x.v].query(text, nil).err
			if e == nil {
				t.Fatalf("%v on %d: %s succeeds", x.err, x.v, text)
			}
			if got := fmt.Sprintf("0x%04x %s | %s %d %d %s %d", int(e.Code), e.Message, e.Consistency, e.Received, e.BlockFor, e.WriteType, e.Contentions); got != x.want {
				t.Errorf("%v on %d:\n got %s\nwant %s", x.err, x.v, got, x.want)
			}
		}
	}
}

// TestConditionalLevels: the request's two levels reach the coordinator, whichever message carries them.
func TestConditionalLevels(t *testing.T) {
	c := start(t, options{})
	cl := dial(t, c.addr, protocol.V5)
	cl.must("CREATE KEYSPACE ks WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}")
	cl.must("CREATE TABLE ks.t (k int PRIMARY KEY, v int)")
	text := "UPDATE ks.t SET v = 1 WHERE k = 1 IF v = 2"
	prepared := cl.prepare(text).result.Prepared
	params := protocol.QueryParams{Consistency: protocol.LocalQuorum, Flags: protocol.QuerySerialConsistency, SerialConsistency: protocol.LocalSerial}
	for name, send := range map[string]func() answer{
		"query": func() answer { return cl.query(text, &params) },
		"execute": func() answer {
			return cl.call(protocol.AppendExecute(nil, cl.v, 1, 0, &protocol.Execute{ID: prepared.ID, ResultMetadataID: prepared.ResultMetadataID, QueryParams: params}))
		},
		"batch": func() answer {
			return cl.call(protocol.AppendBatch(nil, cl.v, 1, 0, &protocol.Batch{Type: protocol.BatchUnlogged, QueryParams: params,
				Statements: []protocol.BatchStatement{{Query: []byte(text)}}}))
		},
		"cql batch": func() answer { return cl.query("BEGIN BATCH "+text+" APPLY BATCH", &params) },
	} {
		if a := send(); a.err != nil || len(a.rows()) != 1 || a.rows()[0][0][0] != 0 {
			t.Fatalf("%s: %v %v", name, a.err, a.rows())
		}
		if op := c.consensus.last(); op.Commit != coordinator.LocalQuorum || op.Serial != coordinator.LocalSerial {
			t.Errorf("%s: commit at %s, serial %s", name, op.Commit, op.Serial)
		}
	}
}

// TestConditionalWritesDoNotHoldUpOthers: while as many of them wait as there are goroutines for them, a scan is answered.
func TestConditionalWritesDoNotHoldUpOthers(t *testing.T) {
	c := start(t, options{limits: exec.Limits{CAS: 2, Heavy: 1}})
	cl := dial(t, c.addr, protocol.V4)
	cl.must("CREATE KEYSPACE ks WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}")
	cl.must("CREATE TABLE ks.t (k int PRIMARY KEY, v int)")
	free := c.consensus.take()
	waiting := make([]*client, 5)
	for i := range waiting {
		waiting[i] = dial(t, c.addr, protocol.V4)
		waiting[i].write(protocol.AppendQuery(nil, protocol.V4, 1, 0, "INSERT INTO ks.t (k, v) VALUES (1, 1) IF NOT EXISTS", &protocol.QueryParams{Consistency: protocol.One}))
	}
	if rows := cl.must("SELECT * FROM ks.t").rows(); len(rows) != 0 {
		t.Errorf("%d rows", len(rows))
	}
	cl.must("INSERT INTO ks.t (k, v) VALUES (2, 2)")
	free()
	applied := 0
	for _, w := range waiting {
		a := w.receive()
		if a.err != nil {
			t.Fatal(a.err)
		}
		if a.rows()[0][0][0] == 1 {
			applied++
		}
	}
	if applied != 1 {
		t.Errorf("%d of them were applied", applied)
	}
}
