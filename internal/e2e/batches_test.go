package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestLoggedBatches_CoordinatorsKilled: a stock driver writes logged batches over many partitions and two keyspaces at QUORUM
// while one node after another is killed with -9 and started again. Afterwards each batch is there whole or not at all,
// whole when it was acknowledged, and nothing stays in the batchlog.
func TestLoggedBatches_CoordinatorsKilled(t *testing.T) {
	c := newCluster(t, 3).up().settled()
	w := mustDial(t, c.nodes[0].addr)
	w.must(t, "CREATE KEYSPACE b WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 3}")
	w.must(t, "CREATE KEYSPACE b2 WITH replication = {'class': 'NetworkTopologyStrategy', 'datacenter1': 3}")
	w.must(t, "CREATE TABLE b.t (id int, part int, v text, PRIMARY KEY ((id, part)))")
	w.must(t, "CREATE TABLE b2.u (id int, part int, PRIMARY KEY ((part, id)))")
	ledger := filepath.Join(t.TempDir(), "ledger")
	writer := background(t, python(t), "testdata/batches.py", "write", ledger, c.hosts())
	writer.says("writing", programWait)
	for round := range 6 {
		p := c.nodes[round%3]
		time.Sleep(600 * time.Millisecond)
		p.kill()
		time.Sleep(300 * time.Millisecond)
		p.start()
		p.ready()
	}
	if err := os.WriteFile(ledger+".stop", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	outcomes := writer.succeeds(programWait)
	c.settled()
	for _, p := range c.nodes {
		p.forgetsBatches(20 * time.Second)
	}
	out := background(t, python(t), "testdata/batches.py", "check", ledger, c.hosts()).succeeds(programWait)
	lines := strings.Split(strings.TrimSpace(out), "\n")
	var r struct{ Half, Lost, Acknowledged, Open, Whole int }
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &r); err != nil {
		t.Fatalf("%s: %v", out, err)
	}
	replayed := 0.0
	for _, p := range c.nodes {
		replayed += p.metric("helenus_batchlog_replayed_total")
	}
	t.Logf("%+v, %.0f replayed since the last start; %s", r, replayed, strings.TrimSpace(outcomes))
	if r.Half != 0 || r.Lost != 0 || r.Acknowledged < 50 || r.Whole < r.Acknowledged {
		t.Errorf("%s", out)
	}
}

// forgetsBatches waits until the node keeps no batch any more: none that was left behind is younger than a look.
func (p *process) forgetsBatches(within time.Duration) {
	p.t.Helper()
	for deadline := time.Now().Add(within); time.Now().Before(deadline); time.Sleep(200 * time.Millisecond) {
		if p.metric("helenus_batchlog_pending") == 0 && p.quiet() {
			return
		}
	}
	p.t.Fatalf("%s still keeps batches after %s", p.addr, within)
}

// quiet tells whether no batch is kept after another look, which comes once a second.
func (p *process) quiet() bool {
	time.Sleep(1200 * time.Millisecond)
	return p.metric("helenus_batchlog_pending") == 0
}
