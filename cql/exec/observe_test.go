package exec_test

import (
	"bytes"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/helenusdb/helenus/cql/exec"
	"github.com/helenusdb/helenus/cql/protocol"
	"github.com/helenusdb/helenus/schema"
)

// lockedLog is a log that may be read while it is written to.
type lockedLog struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *lockedLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *lockedLog) lines() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Split(strings.TrimSpace(l.buf.String()), "\n")
}

func tableID(t *testing.T, c *cluster, name string) schema.ID {
	t.Helper()
	table, ok := c.Current().Catalog.Table("k", name)
	if !ok {
		t.Fatalf("no table %s", name)
	}
	return table.ID
}

// Every request is timed in the way that it took, and for its table, failed ones too; virtual tables are not.
func TestLatencies(t *testing.T) {
	c, cl := startWith(t, options{}, protocol.V5)
	cl.must("INSERT INTO k.t (p, c, v) VALUES (1, 1, 'x')")
	cl.must("UPDATE k.t SET v = 'y' WHERE p = 1 AND c = 1")
	cl.must("SELECT * FROM k.t WHERE p = 1 AND c = 1")
	cl.must("SELECT * FROM k.t WHERE p = 1")
	cl.must("SELECT * FROM k.t")
	cl.must("SELECT * FROM system.local")
	if a := cl.query("INSERT INTO k.t (p, c, v) VALUES (1, 2, 'z')", &protocol.QueryParams{Consistency: protocol.Three}); a.err == nil {
		t.Fatal("THREE is reached on one node")
	}
	for way, want := range map[exec.Way]uint64{exec.WayWrite: 3, exec.WayRead: 2, exec.WayRange: 1, exec.WayCASRead: 0, exec.WayCASWrite: 0} {
		if s := c.exec.Latencies(way); s.Count != want || want > 0 && s.Sum <= 0 {
			t.Errorf("way %d: %d requests in %s, want %d", way, s.Count, s.Sum, want)
		}
	}
	l := c.exec.TableLatency(tableID(t, c, "t"))
	if r, w := l.Read.Snapshot(), l.Write.Snapshot(); r.Count != 3 || w.Count != 3 {
		t.Errorf("k.t: %d reads and %d writes, want 3 and 3", r.Count, w.Count)
	}
}

// What was dropped is forgotten when another table is met, so that the figures kept are bounded by the tables there are.
func TestLatenciesOfDroppedTables(t *testing.T) {
	c, cl := startWith(t, options{}, protocol.V5)
	cl.must("INSERT INTO k.t (p, c, v) VALUES (1, 1, 'x')")
	id := tableID(t, c, "t")
	if c.exec.TableLatency(id) == nil {
		t.Fatal("k.t is not timed")
	}
	cl.must("DROP TABLE k.t")
	cl.must("CREATE TABLE k.u (p int PRIMARY KEY)")
	cl.must("INSERT INTO k.u (p) VALUES (1)")
	if c.exec.TableLatency(id) != nil {
		t.Error("the dropped table is still there")
	}
	if c.exec.TableLatency(tableID(t, c, "u")) == nil {
		t.Error("k.u is not timed")
	}
}

// The log of slow queries has the statement without constants and without bound values, and no more than ten lines at once.
func TestSlowQueries(t *testing.T) {
	log := &lockedLog{}
	c, cl := startWith(t, options{slow: time.Nanosecond, logger: slog.New(slog.NewTextHandler(log, nil))}, protocol.V5)
	cl.must("INSERT INTO k.t (p, c, v) VALUES (77123, 1, 'the secret')")
	a := cl.prepare("INSERT INTO k.t (p, c, v) VALUES (?, 5, ?)")
	if a.err != nil {
		t.Fatal(a.err)
	}
	cl.execute(a.result.Prepared, protocol.Value{Bytes: []byte{0, 0, 0, 1}}, protocol.Value{Bytes: []byte{0, 0, 0, 1}}, protocol.Value{Bytes: []byte("the secret")})
	cl.execute(a.result.Prepared, protocol.Value{Bytes: []byte{0, 0, 0, 1}}, protocol.Value{Bytes: []byte("the secret")})
	for range 40 {
		cl.must("SELECT v FROM k.t WHERE p = 77123")
	}
	slow := 0
	for _, line := range log.lines() {
		if strings.Contains(line, "secret") || strings.Contains(line, "77123") {
			t.Errorf("a value is in the log: %s", line)
		}
		if strings.Contains(line, "slow query") {
			slow++
		}
	}
	if got := log.lines()[0]; !strings.Contains(got, `statement="INSERT INTO k.t (p, c, v) VALUES (?, ?, ?)"`) || !strings.Contains(got, "keyspace=k table=t") ||
		!strings.Contains(got, "consistency=ONE") {
		t.Errorf("the first line: %s", got)
	}
	if n := c.exec.SlowQueries(); n < 42 {
		t.Errorf("%d slow queries were counted, want all of 42", n)
	}
	if slow < 1 {
		t.Error("nothing was logged")
	}
}

func TestSlowQueriesWithValues(t *testing.T) {
	log := &lockedLog{}
	_, cl := startWith(t, options{slow: time.Nanosecond, values: true, logger: slog.New(slog.NewTextHandler(log, nil))}, protocol.V5)
	a := cl.prepare("INSERT INTO k.t (p, c, v) VALUES (?, 5, ?)")
	cl.execute(a.result.Prepared, protocol.Value{Bytes: []byte{0, 0, 0, 1}}, protocol.Value{Bytes: []byte(strings.Repeat("long ", 1000))})
	got := log.lines()[0]
	if !strings.Contains(got, `p=1`) || !strings.Contains(got, "long long") || !strings.Contains(got, "VALUES (?, 5, ?)") || len(got) > 2000 {
		t.Errorf("the line, %d bytes: %s", len(got), got)
	}
}
