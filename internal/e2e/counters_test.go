package e2e

import (
	"encoding/binary"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/helenusdb/helenus/cql/protocol"
)

// counterReport is the last line that counters.py prints.
type counterReport struct {
	Acked   int64          `json:"acked"`
	Unknown int64          `json:"unknown"`
	Value   int64          `json:"value"`
	Kinds   map[string]int `json:"kinds"` // of answers
	Wrong   []string       `json:"wrong"`
}

// TestCounters_KilledNode: eight threads of the stock Python driver count at QUORUM while one node of three is killed with -9
// and started again. Every counter is at least what was acknowledged and at most that and what is unknown, and all replicas
// know the same.
func TestCounters_KilledNode(t *testing.T) {
	c := newCluster(t, 3).up().settled()
	s := background(t, python(t), filepath.Join("testdata", "counters.py"), c.hosts(), "8")
	s.says("counting", startWait)
	victim := c.nodes[2]
	time.Sleep(1500 * time.Millisecond)
	victim.kill()
	time.Sleep(2 * time.Second)
	victim.start()
	victim.ready()
	out := strings.TrimSpace(s.succeeds(time.Minute))
	var r counterReport
	if err := json.Unmarshal([]byte(out[strings.LastIndex(out, "\n")+1:]), &r); err != nil {
		t.Fatalf("%v: %s", err, tail(out, 5))
	}
	t.Logf("%d acknowledged, %d unknown, %d counted; answers: %v", r.Acked, r.Unknown, r.Value, r.Kinds)
	for _, w := range r.Wrong {
		t.Error(w)
	}
	if r.Kinds["acknowledged"] < 100 {
		t.Errorf("only %d increments were acknowledged", r.Kinds["acknowledged"])
	}
	for _, p := range c.nodes {
		hintsDelivered(t, p)
	}
	var sums []int64
	for _, p := range c.nodes { // at ONE each node answers of what it holds itself
		rows := mustDial(t, p.addr).must(t, "SELECT sum(n) FROM counters.t")
		sums = append(sums, int64(binary.BigEndian.Uint64(rows[0][0])))
	}
	if sums[0] != r.Value || sums[1] != sums[0] || sums[2] != sums[0] {
		t.Errorf("the nodes hold %v, together %d", sums, r.Value)
	}
}

// TestCounters_CqlshCopy: COPY brings a counter table out and, as increments, in again; DESCRIBE recreates it.
func TestCounters_CqlshCopy(t *testing.T) {
	c := newCluster(t, 1).up()
	w := mustDial(t, c.addr(0))
	w.must(t, "CREATE KEYSPACE k WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}")
	w.must(t, "CREATE TABLE k.t (a int, b text, n counter, m counter, PRIMARY KEY (a, b))")
	for i := range 20 {
		if _, err := w.query(protocol.One, "UPDATE k.t SET n = n + %d, m = m - %d WHERE a = %d AND b = 'x y'", i, 1000*i, i); err != nil {
			t.Fatal(err)
		}
	}
	dir := t.TempDir()
	out, again := filepath.Join(dir, "out.csv"), filepath.Join(dir, "again.csv")
	copyTable := func(direction, file string) {
		t.Helper()
		if said := cqlsh(t, c.addr(0), time.Minute, "-e", "COPY k.t (a, b, n, m) "+direction+" '"+file+"' WITH NUMPROCESSES = 1"); !contains(said, "20 rows") {
			t.Fatalf("COPY %s: %s", direction, tail(said, 10))
		}
	}
	copyTable("TO", out)
	described := cqlsh(t, c.addr(0), time.Minute, "-e", "DESCRIBE TABLE k.t")
	w.must(t, "DROP TABLE k.t")
	script := filepath.Join(dir, "t.cql")
	if err := os.WriteFile(script, []byte(described), 0o600); err != nil {
		t.Fatal(err)
	}
	cqlsh(t, c.addr(0), time.Minute, "-f", script)
	copyTable("FROM", out)
	copyTable("TO", again)
	if a, b := strings.Join(sortedLines(t, out), "\n"), strings.Join(sortedLines(t, again), "\n"); a != b || len(a) == 0 {
		t.Errorf("the copy differs:\n%s\n%s", a, b)
	}
}
