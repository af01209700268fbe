package exec_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/helenusdb/helenus/coordinator"
	"github.com/helenusdb/helenus/cql/exec"
	"github.com/helenusdb/helenus/cql/protocol"
	"github.com/helenusdb/helenus/meta"
)

func startWith(t testing.TB, o options, v protocol.Version) (*cluster, *client) {
	c := start(t, o)
	cl := dial(t, c.addr, v)
	cl.must("CREATE KEYSPACE k WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}")
	cl.must("CREATE TABLE k.t (p int, c int, v text, PRIMARY KEY (p, c))")
	return c, cl
}

func (c *client) execute(p *protocol.Prepared, values ...protocol.Value) answer {
	c.t.Helper()
	params := protocol.QueryParams{Consistency: protocol.One, Values: values}
	if len(values) > 0 {
		params.Flags = protocol.QueryValues
	}
	return c.call(protocol.AppendExecute(nil, c.v, 1, 0, &protocol.Execute{ID: p.ID, ResultMetadataID: p.ResultMetadataID, QueryParams: params}))
}

func wantError(t *testing.T, a answer, code protocol.ErrorCode, text string) {
	t.Helper()
	switch {
	case a.err == nil:
		t.Fatalf("no error, want %s %q", code, text)
	case a.err.Code != code || !strings.Contains(a.err.Message, text):
		t.Fatalf("%s %q, want %s %q", a.err.Code, a.err.Message, code, text)
	}
}

// A paging state works for its statement and values only, on every node with the cluster's secret, and only as it was given.
func TestPagingState(t *testing.T) {
	_, cl := startWith(t, options{}, protocol.V5)
	other, ocl := startWith(t, options{}, protocol.V5)
	for i := range 5 {
		cl.must("INSERT INTO k.t (p, c, v) VALUES (1, %d, 'x')", i)
		ocl.must("INSERT INTO k.t (p, c, v) VALUES (1, %d, 'x')", i)
	}
	params := func(state []byte) *protocol.QueryParams {
		p := &protocol.QueryParams{Consistency: protocol.One, Flags: protocol.QueryPageSize, PageSize: 2}
		if state != nil {
			p.Flags |= protocol.QueryPagingState
			p.PagingState = state
		}
		return p
	}
	const text = "SELECT c FROM k.t WHERE p = 1"
	state := cl.query(text, params(nil)).result.Rows.Metadata.PagingState
	if len(state) == 0 {
		t.Fatal("no paging state")
	}
	for i := range state {
		for _, bit := range []byte{1, 0x80} {
			bad := append([]byte(nil), state...)
			bad[i] ^= bit
			wantError(t, cl.query(text, params(bad)), protocol.CodeProtocol, "Invalid value for the paging state")
		}
	}
	for _, bad := range [][]byte{state[:len(state)-1], append(append([]byte(nil), state...), 0), {0}, make([]byte, 300<<10)} {
		wantError(t, cl.query(text, params(bad)), protocol.CodeProtocol, "Invalid value for the paging state")
	}
	wantError(t, cl.query(text+" AND c > 0", params(state)), protocol.CodeProtocol, "Invalid value for the paging state")
	if got := len(cl.query(text, params(state)).rows()); got != 2 {
		t.Fatalf("%d rows on the second page", got)
	}
	// Another coordinator, or this one after a restart.
	a := ocl.query(text, params(state))
	if a.err != nil || len(a.rows()) != 2 {
		t.Fatalf("other node: %v, %d rows", a.err, len(a.rows()))
	}
	// Values are part of it.
	p := cl.prepare("SELECT c FROM k.t WHERE p = ?").result.Prepared
	exec := func(cl *client, state []byte, v byte) answer {
		q := params(state)
		q.Flags |= protocol.QueryValues
		q.Values = []protocol.Value{{Bytes: []byte{0, 0, 0, v}}}
		return cl.call(protocol.AppendExecute(nil, cl.v, 1, 0, &protocol.Execute{ID: p.ID, ResultMetadataID: p.ResultMetadataID, QueryParams: *q}))
	}
	state = exec(cl, nil, 1).result.Rows.Metadata.PagingState
	wantError(t, exec(cl, state, 2), protocol.CodeProtocol, "Invalid value for the paging state")
	if a := exec(cl, state, 1); a.err != nil || len(a.rows()) != 2 {
		t.Fatalf("%v", a.err)
	}
	// Another cluster has another secret.
	s := *other.Current()
	s.Secret[0]++
	other.state.Store(&s)
	wantError(t, ocl.query(text, params(exec(cl, nil, 1).result.Rows.Metadata.PagingState)), protocol.CodeProtocol, "Invalid value")
}

func TestPreparedFollowsSchema(t *testing.T) {
	for _, v := range []protocol.Version{protocol.V4, protocol.V5} {
		_, cl := startWith(t, options{}, v)
		one := protocol.Value{Bytes: []byte{0, 0, 0, 1}}
		insert := cl.prepare("INSERT INTO k.t (p, c, v) VALUES (?, 1, 'x')").result.Prepared
		sel := cl.prepare("SELECT * FROM k.t WHERE p = ?").result.Prepared
		wantError(t, cl.execute(&protocol.Prepared{ID: make([]byte, 16), ResultMetadataID: make([]byte, 16)}), protocol.CodeUnprepared,
			"Prepared query with ID 00000000000000000000000000000000 not found (either the query was not prepared on this host (maybe the host has been restarted?) or you have")
		if a := cl.execute(insert, one); a.err != nil {
			t.Fatal(a.err)
		}
		// What a client cannot see compiles again in silence: TRUNCATE gives the table another generation.
		cl.must("TRUNCATE k.t")
		if a := cl.execute(sel, one); a.err != nil || len(a.rows()) != 0 {
			t.Fatalf("after TRUNCATE: %v, %d rows", a.err, len(a.rows()))
		}
		if a := cl.execute(insert, one); a.err != nil {
			t.Fatal(a.err)
		}
		if a := cl.execute(sel, one); a.err != nil || len(a.rows()) != 1 {
			t.Fatalf("after TRUNCATE and INSERT: %v, %d rows", a.err, len(a.rows()))
		}
		cl.must("ALTER TABLE k.t WITH comment = 'x'")
		cl.must("CREATE TABLE k.other (k int PRIMARY KEY)")
		if a := cl.execute(sel, one); a.err != nil {
			t.Fatal(a.err)
		}
		// New columns are seen: the client has to prepare again, and gets the same id.
		cl.must("ALTER TABLE k.t ADD w int")
		a := cl.execute(sel, one)
		wantError(t, a, protocol.CodeUnprepared, "not found")
		if string(a.err.StatementID) != string(sel.ID) {
			t.Fatalf("UNPREPARED names %x", a.err.StatementID)
		}
		again := cl.prepare("SELECT * FROM k.t WHERE p = ?").result.Prepared
		if string(again.ID) != string(sel.ID) || (v == protocol.V5 && string(again.ResultMetadataID) == string(sel.ResultMetadataID)) {
			t.Fatalf("prepared again: %x %x", again.ID, again.ResultMetadataID)
		}
		// PREPARE alone replaces what is stale, too.
		if a := cl.prepare("INSERT INTO k.t (p, c, v) VALUES (?, 1, 'x')"); a.err != nil {
			t.Fatal(a.err)
		}
		if a := cl.execute(insert, one); a.err != nil {
			t.Fatal(a.err)
		}
		cl.must("DROP TABLE k.t")
		wantError(t, cl.execute(insert, one), protocol.CodeUnprepared, "not found")
		wantError(t, cl.prepare("INSERT INTO k.t (p, c, v) VALUES (?, 1, 'x')"), protocol.CodeInvalid, "table t does not exist")
	}
}

// A client with another metadata id than the current one gets the new one, flag 8, and full metadata, skip or not.
func TestChangedMetadata(t *testing.T) {
	_, cl := startWith(t, options{}, protocol.V5)
	cl.must("INSERT INTO k.t (p, c, v) VALUES (1, 1, 'x')")
	p := cl.prepare("SELECT * FROM k.t WHERE p = 1").result.Prepared
	for _, flags := range []uint32{0, protocol.QuerySkipMetadata} {
		e := protocol.Execute{ID: p.ID, ResultMetadataID: make([]byte, 16), QueryParams: protocol.QueryParams{Consistency: protocol.One, Flags: flags}}
		m := cl.call(protocol.AppendExecute(nil, cl.v, 1, 0, &e)).result.Rows.Metadata
		if m.Flags != protocol.RowsGlobalTableSpec|protocol.RowsMetadataChanged || string(m.NewMetadataID) != string(p.ResultMetadataID) || len(m.Columns) != 3 {
			t.Errorf("flags %d: %+v", flags, m)
		}
	}
}

func TestPreparedCacheIsBounded(t *testing.T) {
	c, cl := startWith(t, options{limits: exec.Limits{PreparedBytes: 64 << 10}}, protocol.V4)
	first := cl.prepare("SELECT * FROM k.t WHERE p = 0").result.Prepared
	hot := cl.prepare("SELECT * FROM k.t WHERE p = -1").result.Prepared
	for i := range 200 {
		if a := cl.prepare(fmt.Sprintf("SELECT * FROM k.t WHERE p = %d", i+1)); a.err != nil {
			t.Fatal(a.err)
		}
		if a := cl.execute(hot); a.err != nil {
			t.Fatalf("statement in use was forgotten after %d others: %s", i, a.err)
		}
	}
	m := c.exec.Metrics()
	if b := m.PreparedBytes.Load(); b > 64<<10 || b <= 0 {
		t.Errorf("%d bytes held", b)
	}
	if m.PreparedEvicted.Load() == 0 || m.Prepared.Load() > 20 {
		t.Errorf("evicted %d, held %d", m.PreparedEvicted.Load(), m.Prepared.Load())
	}
	wantError(t, cl.execute(first), protocol.CodeUnprepared, "too many queries")
}

// TestPreparedTooLarge: what would be forgotten at once, and so prepared again for each execution, is refused.
func TestPreparedTooLarge(t *testing.T) {
	_, cl := startWith(t, options{limits: exec.Limits{PreparedBytes: 64 << 10}}, protocol.V5)
	in := func(n int) string { return "SELECT * FROM k.t WHERE p IN (?" + strings.Repeat(",?", n-1) + ")" }
	if a := cl.prepare(in(20)); a.err != nil {
		t.Fatal(a.err)
	}
	wantError(t, cl.prepare(in(200)), protocol.CodeInvalid, "Prepared statement of size 6")
	wantError(t, cl.prepare("SELECT * FROM k.t WHERE p = 1 "+strings.Repeat(" ", 2000)), protocol.CodeInvalid, "is larger than allowed maximum of 0 MB: SELECT * FROM k.t")
}

// TestPagesEndByBytes: a page of large rows is short, and goes on.
func TestPagesEndByBytes(t *testing.T) {
	_, cl := startWith(t, options{limits: exec.Limits{PageBytes: 100_000, ResultBytes: 300_000}}, protocol.V5)
	const rows = 20
	value := strings.Repeat("x", 40_000)
	for i := range rows {
		cl.must("INSERT INTO k.t (p, c, v) VALUES (1, %d, '%s')", i, value)
	}
	seen := 0
	for state, pages := []byte(nil), 0; pages == 0 || state != nil; pages++ {
		p := &protocol.QueryParams{Consistency: protocol.One, Flags: protocol.QueryPageSize, PageSize: 5000}
		if state != nil {
			p.Flags, p.PagingState = p.Flags|protocol.QueryPagingState, state
		}
		a := cl.query("SELECT * FROM k.t WHERE p = 1", p)
		if a.err != nil {
			t.Fatal(a.err)
		}
		if n := len(a.rows()); n != 3 && seen+n != rows {
			t.Errorf("%d rows in a page", n)
		}
		for _, r := range a.rows() {
			if want := byte(seen); r[1][3] != want {
				t.Fatalf("row %d where %d should be", r[1][3], want)
			}
			seen++
		}
		state = a.result.Rows.Metadata.PagingState
	}
	if seen != rows {
		t.Errorf("%d rows of %d", seen, rows)
	}
	wantError(t, cl.query("SELECT * FROM k.t WHERE p = 1", &protocol.QueryParams{Consistency: protocol.One}), protocol.CodeInvalid, "ask for it in pages")
}

// TestLongINsRunApart: what names many rows does not hold up the requests behind it on the connection.
func TestLongINsRunApart(t *testing.T) {
	c, cl := startWith(t, options{}, protocol.V5)
	list := func(n int) protocol.Value {
		b := binary.BigEndian.AppendUint32(nil, uint32(n))
		for i := range n {
			b = binary.BigEndian.AppendUint32(b, 4)
			b = binary.BigEndian.AppendUint32(b, uint32(i))
		}
		return protocol.Value{Bytes: b}
	}
	for i := range 200 {
		cl.must("INSERT INTO k.t (p, c, v) VALUES (%d, 1, 'x')", i)
	}
	sel, del := cl.prepare("SELECT p FROM k.t WHERE p IN ? AND c = 1").result.Prepared, cl.prepare("DELETE FROM k.t WHERE p IN ?").result.Prepared
	m := c.exec.Metrics()
	for _, x := range []struct {
		keys  int
		apart int64
		left  int
	}{{64, 0, 200 - 64}, {65, 1, 200 - 65}, {150, 1, 50}} {
		heavy := m.Heavy.Load()
		if a := cl.execute(del, list(x.keys)); a.err != nil {
			t.Fatal(a.err)
		}
		if got := m.Heavy.Load() - heavy; got != x.apart {
			t.Errorf("DELETE of %d keys: %d apart", x.keys, got)
		}
		if a := cl.execute(sel, list(200)); a.err != nil || len(a.rows()) != x.left {
			t.Errorf("after a DELETE of %d keys: %v, %d rows", x.keys, a.err, len(a.rows()))
		}
	}
}

func TestTracing(t *testing.T) {
	_, cl := startWith(t, options{}, protocol.V5)
	p := &protocol.QueryParams{Consistency: protocol.One}
	prepared := cl.prepare("INSERT INTO k.t (p, c, v) VALUES (?, 1, 'x')").result.Prepared
	e := protocol.Execute{ID: prepared.ID, ResultMetadataID: prepared.ResultMetadataID, QueryParams: protocol.QueryParams{Consistency: protocol.One,
		Values: []protocol.Value{{Bytes: []byte{0, 0, 0, 1}}}}}
	b := protocol.Batch{QueryParams: *p, Statements: []protocol.BatchStatement{{Query: []byte("INSERT INTO k.t (p, c) VALUES (1, 2)")}}}
	requests := map[string][]byte{
		"Execute CQL3 query":            protocol.AppendQuery(nil, cl.v, 1, protocol.FlagTracing, "SELECT * FROM k.t WHERE p = 1", p),
		"Execute CQL3 prepared query":   protocol.AppendExecute(nil, cl.v, 1, protocol.FlagTracing, &e),
		"Execute batch of CQL3 queries": protocol.AppendBatch(nil, cl.v, 1, protocol.FlagTracing, &b),
		"Preparing CQL3 query":          protocol.AppendPrepare(nil, cl.v, 1, protocol.FlagTracing, "SELECT v FROM k.t WHERE p = ?", ""),
	}
	for want, frame := range requests {
		a := cl.call(frame)
		if a.err != nil || !a.extras.Traced {
			t.Fatalf("%s: %v, traced %v", want, a.err, a.extras.Traced)
		}
		id := a.extras.TracingID
		sessions := cl.must("SELECT request, duration, started_at, coordinator, client, ttl(request) FROM system_traces.sessions WHERE session_id = %s", uuidText(id)).rows()
		if len(sessions) != 1 || string(sessions[0][0]) != want || sessions[0][1] == nil || sessions[0][2] == nil || sessions[0][3] == nil || sessions[0][4] == nil || sessions[0][5] == nil {
			t.Fatalf("%s: sessions %q", want, sessions)
		}
		events := cl.must("SELECT activity, source, source_elapsed, thread FROM system_traces.events WHERE session_id = %s", uuidText(id)).rows()
		if len(events) == 0 {
			t.Errorf("%s: no events", want)
		}
		for _, e := range events { // cqlsh and helenus sh add that line themselves, from the session
			if string(e[0]) == "Request complete" {
				t.Errorf("%s: the end is an event too", want)
			}
		}
	}
	a := cl.call(protocol.AppendQuery(nil, cl.v, 1, protocol.FlagTracing, "SELECT v, nosuch FROM k.t", p))
	wantError(t, a, protocol.CodeInvalid, "Undefined column name nosuch in table k.t")
}

func uuidText(id [16]byte) string {
	return fmt.Sprintf("%x-%x-%x-%x-%x", id[:4], id[4:6], id[6:8], id[8:10], id[10:])
}

func TestFailWrites(t *testing.T) {
	c := start(t, options{fail: "test"})
	for _, v := range []protocol.Version{protocol.V3, protocol.V4, protocol.V5} {
		cl := dial(t, c.addr, v)
		cl.must("CREATE KEYSPACE IF NOT EXISTS test WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}")
		cl.must("CREATE TABLE IF NOT EXISTS test.t (k int PRIMARY KEY)")
		a := cl.query("INSERT INTO test.t (k) VALUES (1)", nil)
		code := protocol.CodeWriteFailure
		if v == protocol.V3 {
			code = protocol.CodeWriteTimeout
		}
		if a.err == nil || a.err.Code != code || a.err.WriteType != protocol.WriteSimple || a.err.BlockFor != 1 || a.err.Received != 0 {
			t.Fatalf("v%d: %+v", v, a.err)
		}
		if v != protocol.V3 && len(a.err.Failures) != 1 {
			t.Fatalf("v%d: %+v", v, a.err)
		}
		if a := cl.query("SELECT * FROM test.t", nil); a.err != nil {
			t.Fatal(a.err)
		}
	}
}

func TestBatchLimits(t *testing.T) {
	_, cl := startWith(t, options{}, protocol.V5)
	batch := func(kind protocol.BatchType, partitions, size int) answer {
		b := protocol.Batch{Type: kind, QueryParams: protocol.QueryParams{Consistency: protocol.One}}
		for i := range partitions {
			b.Statements = append(b.Statements, protocol.BatchStatement{Query: fmt.Appendf(nil, "INSERT INTO k.t (p, c, v) VALUES (%d, 1, '%s')", i, strings.Repeat("x", size))})
		}
		return cl.call(protocol.AppendBatch(nil, cl.v, 1, 0, &b))
	}
	if a := batch(protocol.BatchUnlogged, 10, 10); a.err != nil || a.extras.Warnings != nil {
		t.Errorf("ten small partitions: %v %q", a.err, a.extras.Warnings)
	}
	a := batch(protocol.BatchUnlogged, 11, 10)
	if want := "Unlogged batch covering 11 partitions detected against table [k.t]. You should use a logged batch for atomicity, or asynchronous writes for performance."; a.err != nil || len(a.extras.Warnings) != 1 || a.extras.Warnings[0] != want {
		t.Errorf("%v %q", a.err, a.extras.Warnings)
	}
	a = batch(protocol.BatchUnlogged, 2, 3000)
	if a.err != nil || len(a.extras.Warnings) != 1 || a.extras.Warnings[0] != "Batch for [k.t] is of size 6148, exceeding specified threshold of 5120 by 1028." {
		t.Errorf("%v %q", a.err, a.extras.Warnings)
	}
	wantError(t, batch(protocol.BatchUnlogged, 2, 30000), protocol.CodeInvalid, "Batch too large")
	if a := batch(protocol.BatchLogged, 1, 60000); a.err != nil || a.extras.Warnings != nil {
		t.Errorf("one partition: %v %q", a.err, a.extras.Warnings)
	}
	if a := batch(protocol.BatchLogged, 20, 10); a.err != nil || a.extras.Warnings != nil {
		t.Errorf("twenty partitions, logged: %v %q", a.err, a.extras.Warnings)
	}
	// Two tables in one keyspace share a partition: one mutation.
	cl.must("CREATE TABLE k.u (p int, c int, v text, PRIMARY KEY (p, c))")
	cl.must("BEGIN BATCH INSERT INTO k.t (p, c) VALUES (77, 1); INSERT INTO k.u (p, c) VALUES (77, 1) APPLY BATCH")
	for _, table := range []string{"t", "u"} {
		if n := len(cl.must("SELECT * FROM k.%s WHERE p = 77", table).rows()); n != 1 {
			t.Errorf("%s: %d rows", table, n)
		}
	}
}

// A schema change that hangs keeps one goroutine and its queue busy, then others are refused; everything else goes on.
func TestOverloaded(t *testing.T) {
	c, cl := startWith(t, options{limits: exec.Limits{DDL: 1, DDLQueue: 1}}, protocol.V4)
	c.mu.Lock()
	const n = 4
	for i := range n {
		cl.write(protocol.AppendQuery(nil, cl.v, int16(i+10), 0, fmt.Sprintf("CREATE TABLE k.t%d (k int PRIMARY KEY)", i), &protocol.QueryParams{Consistency: protocol.One}))
	}
	other := dial(t, c.addr, protocol.V4)
	other.must("INSERT INTO k.t (p, c) VALUES (1, 1)")
	other.must("SELECT * FROM k.t")
	refused := 0
	for range 2 {
		f := cl.read()
		e, err := protocol.DecodeError(cl.v, f.Body)
		if err != nil || e.Code != protocol.CodeOverloaded {
			t.Fatalf("%s: %v %v", f.Header.Op, e, err)
		}
		refused++
	}
	c.mu.Unlock()
	for range n - refused { // a third one, when the first was still queued as it came
		f := cl.read()
		if f.Header.Op == protocol.OpResult {
			continue
		}
		if e, err := protocol.DecodeError(cl.v, f.Body); err != nil || e.Code != protocol.CodeOverloaded {
			t.Fatalf("%s: %v %v", f.Header.Op, e, err)
		}
		refused++
	}
	if got := c.exec.Metrics().Overloaded.Load(); got != int64(refused) || refused == n {
		t.Errorf("%d refused, %d counted", refused, got)
	}
}

// What a client has queued and not waited for is not begun.
func TestClientGone(t *testing.T) {
	c, cl := startWith(t, options{limits: exec.Limits{DDL: 1}}, protocol.V4)
	c.mu.Lock()
	gone := dial(t, c.addr, protocol.V4)
	for i := range 3 {
		gone.write(protocol.AppendQuery(nil, gone.v, int16(i), 0, fmt.Sprintf("CREATE TABLE k.g%d (k int PRIMARY KEY)", i), &protocol.QueryParams{Consistency: protocol.One}))
	}
	for c.exec.Metrics().DDL.Load() < 5 { // two before
		time.Sleep(time.Millisecond)
	}
	gone.nc.Close()
	for len(c.server.Connections()) > 1 {
		time.Sleep(time.Millisecond)
	}
	c.mu.Unlock()
	cl.must("CREATE TABLE k.last (k int PRIMARY KEY)")
	rows := cl.must("SELECT table_name FROM system_schema.tables WHERE keyspace_name = 'k'").rows()
	var names []string
	for _, r := range rows {
		names = append(names, string(r[0]))
	}
	if got := strings.Join(names, " "); got != "g0 last t" && got != "last t" {
		t.Errorf("tables %s", got)
	}
}

// Run answers what waits when it ends.
func TestStopping(t *testing.T) {
	c, cl := startWith(t, options{limits: exec.Limits{DDL: 1}}, protocol.V4)
	c.mu.Lock()
	for i := range 3 {
		cl.write(protocol.AppendQuery(nil, cl.v, int16(i), 0, fmt.Sprintf("CREATE TABLE k.g%d (k int PRIMARY KEY)", i), &protocol.QueryParams{Consistency: protocol.One}))
	}
	for c.exec.Metrics().DDL.Load() < 5 {
		time.Sleep(time.Millisecond)
	}
	c.stopExec()
	time.Sleep(10 * time.Millisecond)
	c.mu.Unlock()
	refused := 0
	for range 3 {
		f := cl.read()
		if f.Header.Op == protocol.OpError {
			if e, _ := protocol.DecodeError(cl.v, f.Body); e.Code != protocol.CodeOverloaded || e.Message != "the node is shutting down" {
				t.Errorf("%v", e)
			}
			refused++
		}
	}
	if refused != 2 {
		t.Errorf("%d refused", refused)
	}
	wantError(t, cl.query("SELECT * FROM k.t", nil), protocol.CodeOverloaded, "")
}

// Errors of the metadata log reach the client as they are.
func TestSchemaChangeFails(t *testing.T) {
	c, cl := startWith(t, options{}, protocol.V5)
	err := errors.New("no quorum of the metadata voters")
	c.failDDL.Store(&err)
	wantError(t, cl.query("CREATE TABLE k.u (k int PRIMARY KEY)", nil), protocol.CodeServerError, "no quorum of the metadata voters")
	err2 := error(&coordinator.Overloaded{Msg: "busy"})
	c.failDDL.Store(&err2)
	wantError(t, cl.query("CREATE TABLE k.u (k int PRIMARY KEY)", nil), protocol.CodeOverloaded, "busy")
	err3 := error(&coordinator.TooLarge{Size: 20, Max: 10})
	c.failDDL.Store(&err3)
	wantError(t, cl.query("CREATE TABLE k.u (k int PRIMARY KEY)", nil), protocol.CodeInvalid, "Mutation of 20 bytes is too large for the maximum size of 10")
}

// Replicas that are down make requests unavailable before anything is sent.
func TestUnavailable(t *testing.T) {
	c := start(t, options{other: true})
	cl := dial(t, c.addr, protocol.V5)
	cl.must("CREATE KEYSPACE r WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 2}")
	cl.must("CREATE TABLE r.t (k int PRIMARY KEY)")
	all := &protocol.QueryParams{Consistency: protocol.All}
	for _, text := range []string{"INSERT INTO r.t (k) VALUES (1)", "SELECT * FROM r.t WHERE k = 1", "SELECT * FROM r.t", "BEGIN BATCH INSERT INTO r.t (k) VALUES (1) APPLY BATCH"} {
		a := cl.query(text, all)
		wantError(t, a, protocol.CodeUnavailable, "Cannot achieve consistency level ALL")
		if a.err.Required != 2 || a.err.Alive != 1 || a.err.Consistency != protocol.All {
			t.Errorf("%s: %+v", text, a.err)
		}
	}
	cl.must("INSERT INTO r.t (k) VALUES (1)")
	if n := len(cl.must("SELECT * FROM r.t").rows()); n != 1 {
		t.Errorf("%d rows at ONE", n)
	}
	// The peer is in the system tables, and only the peer.
	rows := cl.must("SELECT peer, data_center, rack, host_id, rpc_address, release_version, schema_version, tokens, preferred_ip FROM system.peers").rows()
	if len(rows) != 1 || string(rows[0][0]) != "\x7f\x00\x00\x0c" || rows[0][8] != nil {
		t.Fatalf("peers: %q", rows)
	}
	for i, v := range rows[0][:8] {
		if len(v) == 0 {
			t.Errorf("peers: column %d is null", i)
		}
	}
	v2 := cl.must("SELECT peer, peer_port, native_address, native_port, host_id, schema_version FROM system.peers_v2 WHERE peer = '127.0.0.12' AND peer_port = 7000").rows()
	if len(v2) != 1 || string(v2[0][3]) != "\x00\x00\x23\x52" {
		t.Fatalf("peers_v2: %q", v2)
	}
	local := cl.must("SELECT schema_version FROM system.local").rows()
	if string(local[0][0]) != string(rows[0][6]) || string(local[0][0]) != string(v2[0][5]) {
		t.Errorf("nodes disagree on the schema")
	}
	// A member that is joining is none yet.
	s, err := c.Current().Apply(&meta.Command{Kind: meta.AddPending, BaseEpoch: c.Current().Epoch, Node: meta.Node{ID: [16]byte{8}, Generation: 1, DC: "datacenter1", Rack: "r",
		Internode: addrPort("127.0.0.13:7000"), Gossip: addrPort("127.0.0.13:7001"), Native: addrPort("127.0.0.13:9042"), Tokens: tokensOf(5), Version: meta.Version}})
	if err != nil {
		t.Fatal(err)
	}
	c.state.Store(s)
	if n := len(cl.must("SELECT peer FROM system.peers").rows()); n != 1 {
		t.Errorf("%d peers with a joining node", n)
	}
}

// Connections that change the schema and connections that use it at the same time see no error but UNPREPARED.
//
// Scenarios: TestScenario_S5.
func TestSchemaChangesUnderLoad(t *testing.T) {
	c, cl := startWith(t, options{}, protocol.V5)
	deadline := time.Now().Add(700 * time.Millisecond)
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			cl := dial(t, c.addr, protocol.V5)
			const text = "INSERT INTO k.t (p, c, v) VALUES (?, 1, 'x')"
			p := cl.prepare(text).result.Prepared
			for i := 0; time.Now().Before(deadline); i++ {
				a := cl.execute(p, protocol.Value{Bytes: []byte{0, 0, byte(w), byte(i)}})
				if a.err != nil && a.err.Code == protocol.CodeUnprepared {
					again := cl.prepare(text)
					if again.err != nil || string(again.result.Prepared.ID) != string(p.ID) {
						t.Errorf("prepared again: %v", again.err)
						return
					}
					p = again.result.Prepared
				} else if a.err != nil {
					t.Error(a.err)
					return
				}
				if a := cl.query("SELECT count(*) FROM k.t", nil); a.err != nil {
					t.Error(a.err)
					return
				}
				if a := cl.query("INSERT INTO k.t (p, c) VALUES (1, 2)", nil); a.err != nil {
					t.Error(a.err)
					return
				}
			}
		})
	}
	for i := 0; time.Now().Before(deadline); i++ {
		cl.must("ALTER TABLE k.t ADD x%d int", i)
		cl.must("TRUNCATE k.t")
		cl.must("ALTER TABLE k.t DROP x%d", i)
	}
	wg.Wait()
}
