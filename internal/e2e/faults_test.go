package e2e

import (
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const (
	faultNodes  = 3
	faultsShort = 45 * time.Second // HELENUS_E2E_FAULTS sets how long the long form is: make test-faults
	// faultFeatures are the kinds of load: see testdata/faults.py.
	faultFeatures = "registers,batches,counters,cas"
	ballastLeaves = 32 << 20 // bytes that a full disk has left: less than the reserve
)

// fault is something that goes wrong with a node, or between two, and ends again.
type fault struct {
	name       string
	begin, end func()
}

// breaker injects faults into the nodes of a cluster.
type breaker struct {
	c     *cluster
	lan   *lan
	rng   *rand.Rand
	disk  string // a small file system of the last node, "" where none can be mounted
	count map[string]int
}

// pick chooses a fault of a node that none of this round acts on, nil if its choice is such a one.
func (b *breaker) pick(busy map[int]bool) *fault {
	node := b.rng.IntN(len(b.c.nodes))
	if busy[node] {
		return nil
	}
	busy[node] = true
	kinds := []func(int) *fault{b.kill, b.kill, b.freeze, b.isolate, b.oneWay, b.clock}
	if b.disk != "" && node == len(b.c.nodes)-1 {
		kinds = append(kinds, b.fullDisk, b.fullDisk)
	}
	return kinds[b.rng.IntN(len(kinds))](node)
}

func (b *breaker) kill(i int) *fault {
	p := b.c.nodes[i]
	return &fault{"kill -9", p.kill, func() { p.start(); p.ready() }}
}

func (b *breaker) freeze(i int) *fault {
	p := b.c.nodes[i]
	return &fault{"SIGSTOP", p.freeze, p.thaw}
}

// isolate cuts a node off from all others; clients still reach it.
func (b *breaker) isolate(i int) *fault {
	each := func(f func(i, j int)) func() {
		return func() {
			for j := range b.c.nodes {
				if j != i {
					f(i, j)
					f(j, i)
				}
			}
		}
	}
	return &fault{"isolated node", each(b.lan.cut), each(b.lan.mend)}
}

// oneWay cuts one direction between two nodes.
func (b *breaker) oneWay(i int) *fault {
	j := (i + 1 + b.rng.IntN(len(b.c.nodes)-1)) % len(b.c.nodes)
	return &fault{"one direction cut", func() { b.lan.cut(i, j) }, func() { b.lan.mend(i, j) }}
}

// clock sets a node's clock wrong by up to 5 s, where it stays until the next time.
func (b *breaker) clock(i int) *fault {
	offset := time.Duration(b.rng.Int64N(int64(10*time.Second))) - 5*time.Second
	return &fault{"clock set", func() {
		if err := os.WriteFile(b.c.clockFile(i), []byte(offset.String()), 0o644); err != nil {
			b.c.t.Error(err)
		}
	}, func() {}}
}

func (b *breaker) fullDisk(int) *fault {
	var ballast string
	return &fault{"full disk", func() { ballast = fill(b.c.t, b.disk, ballastLeaves) }, func() {
		if err := os.Remove(ballast); err != nil {
			b.c.t.Error(err)
		}
	}}
}

func (c *cluster) clockFile(i int) string { return filepath.Join(c.dir, fmt.Sprintf("clock%d", i+1)) }

// run injects faults, one or two at a time, until the time is up; then everything works again.
func (b *breaker) run(long time.Duration) {
	for end := time.Now().Add(long); time.Now().Before(end); {
		busy := map[int]bool{}
		var now []*fault
		for range 1 + b.rng.IntN(3)/2 {
			if f := b.pick(busy); f != nil {
				now = append(now, f)
			}
		}
		for _, f := range now {
			f.begin()
			b.count[f.name]++
			time.Sleep(b.between(0, time.Second))
		}
		time.Sleep(b.between(time.Second, 7*time.Second))
		for _, f := range now {
			f.end()
		}
		time.Sleep(b.between(0, 4*time.Second))
	}
}

func (b *breaker) between(low, high time.Duration) time.Duration {
	return low + time.Duration(b.rng.Int64N(int64(high-low)))
}

// faultBinary builds the binary whose clock a test can set.
func faultBinary(t *testing.T) string {
	t.Helper()
	bin := filepath.Join(t.TempDir(), "helenus-faultclock")
	cmd := exec.Command("go", "build", "-tags", "faultclock", "-o", bin, "./cmd/helenus")
	cmd.Dir, cmd.Env = filepath.Join("..", ".."), append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return bin
}

// TestFaults: what a stock driver was told of its writes stays true while nodes are killed, stopped, cut off, run out of disk
// space and have their clocks set: nothing acknowledged is lost, nothing deleted comes back, nothing refused is done.
func TestFaults(t *testing.T) {
	skipUnlessE2E(t)
	long := faultsShort
	if s := os.Getenv("HELENUS_E2E_FAULTS"); s != "" {
		var err error
		if long, err = time.ParseDuration(s); err != nil {
			t.Fatal(err)
		}
	}
	seed := uint64(time.Now().UnixNano())
	l := newLAN(t, faultNodes)
	c := l.cluster(faultBinary(t))
	b := &breaker{c: c, lan: l, rng: rand.New(rand.NewPCG(seed, 1)), count: map[string]int{}}
	last := c.nodes[faultNodes-1]
	b.disk = tmpfs(t)
	last.dir = filepath.Join(b.disk, "node")
	last.setFlag("--data-dir", last.dir)
	for i, p := range c.nodes {
		p.env = append(p.env, "FAULT_CLOCK="+c.clockFile(i))
	}
	c.up().settled()
	client := startFaultLedger(t, c.hosts(), long, seed)
	b.run(long)
	t.Logf("faults in %s: %v (the order is random: seed %d)", long, b.count, seed)
	client.says("paused", programWait)
	c.settled()
	client.healed()
}

// faultLedger is a stock driver that keeps a ledger of what a cluster acknowledged while somebody breaks it: testdata/faults.py.
type faultLedger struct {
	*script
	t  *testing.T
	in io.Writer
}

// startFaultLedger returns when its load runs.
func startFaultLedger(t *testing.T, hosts string, long time.Duration, seed uint64) *faultLedger {
	t.Helper()
	cmd := exec.Command(python(t), "testdata/faults.py", hosts, "--seconds", fmt.Sprint(long.Seconds()), "--seed", fmt.Sprint(seed), "--features", faultFeatures)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	l := &faultLedger{launch(t, cmd), t, in}
	l.says("running", programWait)
	return l
}

// healed has it check everything once more, after it said that it paused and all nodes are back.
func (l *faultLedger) healed() {
	l.t.Helper()
	if _, err := l.in.Write([]byte("healed\n")); err != nil {
		l.t.Error(err)
	}
	for _, line := range strings.Split(l.succeeds(10*time.Minute), "\n") {
		if strings.HasPrefix(line, "count") || strings.HasPrefix(line, "done") {
			l.t.Log(line)
		}
	}
}
