package e2e

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"
)

// exitRefused is the exit code of a node that must not take part in the cluster, docs/OPERATIONS.md.
const exitRefused = 78

// times is how often a test repeats: by default short, else what the environment variable says.
func times(t *testing.T, variable string, short int) int {
	t.Helper()
	n, err := strconv.Atoi(os.Getenv(variable))
	if err != nil {
		return short
	}
	return n
}

// seeded returns a generator whose seed is printed, and can be given as HELENUS_E2E_SEED.
func seeded(t *testing.T) *rand.Rand {
	t.Helper()
	seed, err := strconv.ParseUint(os.Getenv("HELENUS_E2E_SEED"), 10, 64)
	if err != nil {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("HELENUS_E2E_SEED=%d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

// oneCluster waits until every node sees all of them and checks that they agree on the cluster.
func (c *cluster) oneCluster() {
	c.t.Helper()
	id := ""
	for _, p := range c.nodes {
		s := p.sees(len(c.nodes), startWait)
		if id == "" {
			id = s.ClusterID
		}
		if s.ClusterID != id || len(s.Nodes) != len(c.nodes) {
			c.t.Fatalf("%s is in cluster %s with %d members, the first node in %s", p.addr, s.ClusterID, len(s.Nodes), id)
		}
	}
}

// refuses starts the node and demands that it ends by itself as one that must not take part, and says why.
func (p *process) refuses(why string) {
	p.t.Helper()
	p.start()
	if code := p.exited(startWait); code != exitRefused {
		p.t.Errorf("%s ended with %d, want %d", p.addr, code, exitRefused)
	}
	if !contains(p.log.String(), why) {
		p.t.Errorf("%s does not say %q:\n%s", p.addr, why, tail(p.log.String(), 5))
	}
}

// wipe removes everything the node has kept.
func (p *process) wipe() {
	p.t.Helper()
	if err := os.RemoveAll(p.dir); err != nil {
		p.t.Fatal(err)
	}
}

// TestFormation_AllAtOnce: three processes started at the same instant with one seed list form one cluster, always.
// HELENUS_E2E_FORMATIONS sets how often.
func TestFormation_AllAtOnce(t *testing.T) {
	c := newCluster(t, 3)
	random := seeded(t)
	var worst time.Duration
	n := times(t, "HELENUS_E2E_FORMATIONS", 5)
	for range n {
		began := time.Now()
		var starts sync.WaitGroup
		for _, i := range random.Perm(3) {
			starts.Go(c.nodes[i].start)
		}
		starts.Wait()
		c.oneCluster()
		worst = max(worst, time.Since(began))
		for _, p := range c.nodes {
			p.kill()
			p.wipe()
		}
	}
	t.Logf("%d formations, the slowest took %s", n, worst.Round(time.Millisecond))
}

// TestFormation_FirstSeedLast: only the first seed founds, so the others wait for it, whatever it takes.
func TestFormation_FirstSeedLast(t *testing.T) {
	c := newCluster(t, 3)
	c.nodes[1].start()
	c.nodes[2].start()
	time.Sleep(5 * time.Second)
	for _, p := range c.nodes[1:] {
		if w, err := dialRaw(p.addr); err == nil {
			w.Close()
			t.Errorf("%s serves clients without a cluster", p.addr)
		}
		if !p.running() {
			t.Fatalf("%s has ended", p.addr)
		}
	}
	c.nodes[0].start()
	c.oneCluster()
}

// TestFormation_KilledWhileForming: kill -9 of any node at any moment of the formation; started again, it is one cluster.
// HELENUS_E2E_KILLS sets how often.
func TestFormation_KilledWhileForming(t *testing.T) {
	c := newCluster(t, 3)
	random := seeded(t)
	for round := range times(t, "HELENUS_E2E_KILLS", 4) {
		for _, p := range c.nodes {
			p.start()
		}
		for range 2 {
			time.Sleep(time.Duration(random.IntN(800)) * time.Millisecond)
			p := c.nodes[random.IntN(3)]
			t.Logf("round %d: kill %s", round, p.addr)
			p.kill()
			p.start()
		}
		c.oneCluster()
		w := mustDial(t, c.addr(random.IntN(3)))
		w.must(t, "CREATE KEYSPACE k%d WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 3}", round)
		for _, p := range c.nodes { // all at once, and they come back as the same cluster
			p.kill()
		}
		for _, p := range c.nodes {
			p.start()
		}
		c.oneCluster()
		for _, p := range c.nodes {
			mustDial(t, p.addr).must(t, "CREATE TABLE IF NOT EXISTS k%d.t (k int PRIMARY KEY)", round)
		}
		for _, p := range c.nodes {
			p.kill()
			p.wipe()
		}
	}
}

// TestFormation_WipedNodeIsRefused: a node that lost its disk is not the one that had its address (scenario M6).
func TestFormation_WipedNodeIsRefused(t *testing.T) {
	c := newCluster(t, 3).up().settled()
	lost := c.nodes[2]
	lost.kill()
	lost.wipe()
	lost.refuses(lost.addr)
	w := mustDial(t, c.addr(0))
	w.must(t, "CREATE KEYSPACE still WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}")
}

// TestFormation_OtherClusterIsRefused: the data folder of one cluster does not start with the seeds of another (M14).
func TestFormation_OtherClusterIsRefused(t *testing.T) {
	a, b := newCluster(t, 1).up().settled(), newCluster(t, 1).up().settled()
	b.nodes[0].stop()
	stranger := b.node(0, []string{a.addr(0)})
	b.nodes[0] = stranger
	stranger.refuses("another cluster")
	a.nodes[0].sees(1, startWait)

	fresh := newCluster(t, 1)
	fresh.nodes[0] = fresh.node(0, []string{a.addr(0)}, "--cluster-name", "other")
	fresh.nodes[0].refuses(`"other"`)
}

// TestFormation_DuplicateHostIDIsRefused: a copied data folder is no new node.
func TestFormation_DuplicateHostIDIsRefused(t *testing.T) {
	c := newCluster(t, 3).up().settled()
	second := c.nodes[1]
	second.stop()
	twin := c.node(3, []string{c.addr(0), c.addr(1), c.addr(2)})
	if err := os.CopyFS(twin.dir, os.DirFS(second.dir)); err != nil {
		t.Fatal(err)
	}
	second.start()
	second.sees(3, startWait)
	t.Cleanup(twin.kill)
	twin.refuses("host id")
	second.sees(3, startWait)
}

// TestSecondProcessOnADataFolder ends with an error that names the folder; the first goes on.
func TestSecondProcessOnADataFolder(t *testing.T) {
	c := newCluster(t, 1).up().settled()
	first := c.nodes[0]
	second := c.node(1, []string{c.addr(0)})
	second.setFlag("--data-dir", first.dir)
	second.start()
	t.Cleanup(second.kill)
	if code := second.exited(startWait); code != 1 {
		t.Errorf("the second process ended with %d", code)
	}
	if log := second.log.String(); !contains(log, "in use by another process") || !contains(log, filepath.Base(first.dir)) {
		t.Errorf("the second process says %s", tail(log, 3))
	}
	mustDial(t, first.addr).must(t, "SELECT key FROM system.local")
}
