package e2e

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

func citiesFile(t *testing.T) string {
	t.Helper()
	p, err := filepath.Abs("../../testdata/cities.csv.gz")
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func citiesPy(t *testing.T, what, hosts string, more ...string) *script {
	t.Helper()
	return background(t, python(t), append([]string{"testdata/cities.py", what, hosts, "--file", citiesFile(t)}, more...)...)
}

// loadWithOneNodeKilled loads every city through the first two nodes while the third gets kill -9 half way, and starts
// again before the load ends.
func loadWithOneNodeKilled(t *testing.T, c *cluster) {
	t.Helper()
	load := citiesPy(t, "load", c.hosts(0, 1), "--only")
	load.says("half", 3*time.Minute)
	c.nodes[2].kill()
	time.Sleep(3 * time.Second)
	c.nodes[2].start()
	c.nodes[2].ready()
	if out := load.succeeds(3 * time.Minute); !contains(out, "done ok=135233 failed=0") {
		t.Fatalf("load: %s", tail(out, 5))
	}
}

// TestCities_KilledNodeCatchesUpByHints: 0 failed writes while a replica is killed, and afterwards each replica alone
// holds every row, by hints only.
func TestCities_KilledNodeCatchesUpByHints(t *testing.T) {
	c := newCluster(t, 3, "--repair-within", "0").up()
	loadWithOneNodeKilled(t, c)
	for _, p := range c.nodes {
		hintsDelivered(t, p)
	}
	for i := range c.nodes {
		for j, other := range c.nodes {
			if j != i {
				other.stop()
			}
		}
		checkCities(t, c.hosts(i), "--cl", "ONE", "--only")
		for j, other := range c.nodes {
			if j != i {
				other.start()
				other.ready()
			}
		}
	}
}

// TestCities_WithoutHintsReadsRepair: hints off. Quorum reads are right at once, and reading every partition at ALL
// leaves three equal replicas.
func TestCities_WithoutHintsReadsRepair(t *testing.T) {
	c := newCluster(t, 3, "--hinted-handoff", "off", "--repair-within", "0").up()
	loadWithOneNodeKilled(t, c)
	checkCities(t, c.hosts(), "--cl", "QUORUM")
	checkCities(t, c.hosts(), "--cl", "ALL")
	for i := range c.nodes {
		for j, other := range c.nodes {
			if j != i {
				other.kill()
			}
		}
		checkCities(t, c.hosts(i), "--cl", "ONE", "--only")
		for j, other := range c.nodes {
			if j != i {
				other.start()
				other.ready()
			}
		}
	}
}

// TestCities_KilledCoordinator: a coordinator that the program uses is killed; what the driver reports as failed is the
// only uncertainty, everything else is there.
func TestCities_KilledCoordinator(t *testing.T) {
	c := newCluster(t, 3).up()
	load := citiesPy(t, "load", c.hosts(), "--allow-failures")
	load.says("half", 3*time.Minute)
	c.nodes[1].kill()
	out := load.succeeds(3 * time.Minute)
	unknown := filepath.Join(t.TempDir(), "unknown")
	if err := os.WriteFile(unknown, []byte(out), 0o600); err != nil {
		t.Fatal(err)
	}
	c.nodes[1].start()
	c.nodes[1].ready()
	checkCities(t, c.hosts(), "--cl", "QUORUM", "--unknown", unknown)
}

func checkCities(t *testing.T, hosts string, more ...string) {
	t.Helper()
	out := citiesPy(t, "check", hosts, more...).succeeds(3 * time.Minute)
	if !contains(out, "wrong=0 missing=0") {
		t.Fatalf("check %s %v: %s", hosts, more, tail(out, 10))
	}
}

// hintsDelivered waits until the node holds no hints.
func hintsDelivered(t *testing.T, p *process) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		if p.metric("helenus_hints_pending") == 0 {
			return
		}
	}
	t.Fatalf("%s still holds %v hints", p.addr, p.metric("helenus_hints_pending"))
}
