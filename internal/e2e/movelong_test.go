package e2e

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/helenusdb/helenus/cql/protocol"
)

// The long demonstration of movement: make test-movement. HELENUS_MOVEMENT_ROWS (1000000), HELENUS_MOVEMENT_RATE (2000 a second), HELENUS_MOVEMENT_KILLS (10 of each kind).
const longWait = 20 * time.Minute

// long skips unless the long form was asked for, and returns a setting of it.
func long(t *testing.T, name string, standard int) int {
	t.Helper()
	if os.Getenv("HELENUS_LONG") == "" || os.Getenv("HELENUS_MOVEMENT") != "1" {
		t.Skip("long: run make test-movement")
	}
	v := os.Getenv(name)
	if v == "" {
		return standard
	}
	n, err := strconv.Atoi(v)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// steady is a load with a ledger: testdata/moving.py.
type steady struct {
	*script
	t  *testing.T
	in io.Writer
}

func startSteady(t *testing.T, hosts string, rows, rate int) *steady {
	t.Helper()
	cmd := exec.Command(python(t), "testdata/moving.py", hosts, "--rows", strconv.Itoa(rows), "--rate", strconv.Itoa(rate), "--seed", strconv.FormatInt(time.Now().UnixNano(), 10))
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	s := &steady{launch(t, cmd), t, in}
	s.says("running", programWait)
	return s
}

func (s *steady) tell(line string) {
	s.t.Helper()
	if _, err := io.WriteString(s.in, line+"\n"); err != nil {
		s.t.Error(err)
	}
}

// phase begins a new phase; the one before is logged at the end.
func (s *steady) phase(name string) { s.t.Helper(); s.t.Log("phase ", name); s.tell("phase " + name) }

var phaseLine = regexp.MustCompile(`phase (\S+) ops=(\d+) errors=(\d+) late=(\d+) p50=([\d.]+) p99=([\d.]+) max=([\d.]+)`)

// ends ends the load, logs what it measured, demands that nothing was lost or wrong, and returns p99 (ms) by phase and the errors of all.
func (s *steady) ends() (p99 map[string]float64, errors int) {
	s.t.Helper()
	s.tell("end")
	out := s.succeeds(longWait)
	p99 = map[string]float64{}
	for _, m := range phaseLine.FindAllStringSubmatch(out, -1) {
		p99[m[1]], _ = strconv.ParseFloat(m[6], 64)
		n, _ := strconv.Atoi(m[3])
		errors += n
	}
	for _, line := range strings.Split(out, "\n") {
		if strings.HasPrefix(line, "phase") || strings.HasPrefix(line, "done") || strings.HasPrefix(line, "error") {
			s.t.Log(line)
		}
	}
	return p99, errors
}

// loadKV fills bench.kv.
func (c *cluster) loadKV(rows int) {
	c.t.Helper()
	if out, err := exec.Command(c.nodes[0].bin, "bench", "--hosts", c.hosts(), "--setup", "--rf", "3", "--cl", "QUORUM", "--rows", strconv.Itoa(rows), "--op", "load").CombinedOutput(); err != nil {
		c.t.Fatalf("%v\n%s", err, out)
	}
}

// owns returns the shares of a keyspace's rows that the members have, as a node sees them, and the most over the least.
func (p *process) owns(keyspace string) (shares map[string]float64, ratio float64) {
	p.t.Helper()
	var s struct {
		Keyspaces []struct {
			Keyspace string             `json:"keyspace"`
			Owns     map[string]float64 `json:"owns"`
		} `json:"keyspaces"`
	}
	raw, err := p.http("/api/v1/status")
	if err == nil {
		err = json.Unmarshal(raw, &s)
	}
	if err != nil {
		p.t.Fatal(err)
	}
	for _, k := range s.Keyspaces {
		if k.Keyspace != keyspace {
			continue
		}
		least, most := 2.0, 0.0
		for _, v := range k.Owns {
			least, most = min(least, v), max(most, v)
		}
		return k.Owns, most / least
	}
	p.t.Fatalf("%s says nothing of keyspace %s", p.addr, keyspace)
	return nil, 0
}

// streamedIn is how many bytes of rows have come to the node by streams since it started.
func (p *process) streamedIn() (sum float64) {
	p.t.Helper()
	raw, err := p.http("/metrics")
	if err != nil {
		p.t.Fatal(err)
	}
	for _, line := range strings.Split(string(raw), "\n") {
		if strings.HasPrefix(line, "helenus_stream_in_bytes_total{") {
			v, err := strconv.ParseFloat(line[strings.LastIndexByte(line, ' ')+1:], 64)
			if err != nil {
				p.t.Fatal(err)
			}
			sum += v
		}
	}
	return sum
}

// quietMovement waits until nothing moves.
func (p *process) quietMovement(within time.Duration) {
	p.t.Helper()
	var out string
	for end := time.Now().Add(within); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		if out = p.helenus("operations"); strings.Contains(out, "No operation is under way") {
			return
		}
	}
	p.t.Fatalf("still moving after %s:\n%s", within, out)
}

// TestMovementLong: the first of what issue 5 asks to be shown. 3 nodes become 6 at once, then 3 again, then each of the first three is replaced, without a pause, under the load of a stock driver with its own
// policies: no error, nothing lost, nothing wrong. It prints p99 quiet and moving, bytes moved, and how evenly the ring is owned.
func TestMovementLong(t *testing.T) {
	rows, rate := long(t, "HELENUS_MOVEMENT_ROWS", 1_000_000), long(t, "HELENUS_MOVEMENT_RATE", 2000)
	c := newCluster(t, 3).up().settled()
	c.loadKV(rows)
	citiesPy(t, "load", c.hosts()).succeeds(longWait)
	t.Log("loaded")
	client := startSteady(t, c.hosts(), rows, rate)
	time.Sleep(10 * time.Second) // connections, caches
	client.phase("quiet")
	time.Sleep(30 * time.Second)

	began, moved := time.Now(), 0.0
	step := func(name string) {
		t.Logf("%s after %.0f s, %.1f MB moved so far", name, time.Since(began).Seconds(), moved/1e6)
	}
	client.phase("3-to-6")
	for range 3 {
		c.joins()
	}
	for _, p := range c.nodes[:3] {
		p.sees(6, longWait)
	}
	c.nodes[0].quietMovement(longWait)
	for _, p := range c.nodes {
		moved += p.streamedIn()
	}
	shares, ratio := c.nodes[0].owns("bench")
	gained := 0.0
	for _, v := range shares {
		gained += v
	}
	gained /= 2 // the three that were there had all rows, and have half of them now
	step(fmt.Sprintf("six nodes, most over least owned %.3f, %.0f bytes streamed per row that a node gained", ratio, moved/gained/float64(rows)))
	if ratio >= 1.2 {
		t.Errorf("after three joins the most that a node owns is %.3f of the least", ratio)
	}

	client.phase("6-to-3")
	before := map[*process]float64{}
	for _, p := range c.nodes[:3] {
		before[p] = p.streamedIn()
	}
	c.nodes[0].helenus("decommission", c.addr(3), c.addr(4), c.addr(5))
	for _, p := range c.nodes[3:6] {
		if code := p.exited(longWait); code != 0 {
			t.Errorf("a node that left ended with %d", code)
		}
	}
	c.nodes[0].sees(3, longWait)
	c.nodes[0].quietMovement(longWait)
	for p, v := range before {
		moved += p.streamedIn() - v
	}
	step("three nodes again")

	client.phase("replacing")
	live := append([]*process(nil), c.nodes[:3]...)
	for i, old := range c.nodes[:3] {
		old.stop()
		var others []*process
		for _, p := range live {
			if p != old {
				others = append(others, p)
			}
		}
		for _, p := range others {
			p.sees(2, startWait)
		}
		p := c.node(len(c.nodes), []string{others[0].addr, others[1].addr}, "--replace", old.addr)
		c.nodes = append(c.nodes, p)
		p.start()
		live = append(others, p)
		for _, q := range live {
			q.sees(3, longWait)
		}
		live[0].quietMovement(longWait)
		moved += p.streamedIn()
		step(fmt.Sprintf("node %d of 3 is replaced", i+1))
	}
	client.phase("quiet-again")
	time.Sleep(10 * time.Second)
	p99, errors := client.ends()
	quiet := max(p99["quiet"], 1)
	for _, name := range []string{"3-to-6", "6-to-3", "replacing"} {
		t.Logf("p99 %s: %.1f ms, %.1f times the quiet one", name, p99[name], p99[name]/quiet)
		if p99[name] > 3*quiet {
			t.Errorf("p99 %s is %.1f ms, the quiet one %.1f", name, p99[name], p99["quiet"])
		}
	}
	if errors > 0 {
		t.Errorf("clients were told of %d errors", errors)
	}
	counted, err := mustDial(t, live[0].addr).query(protocol.All, "SELECT count(*) FROM bench.kv")
	if err != nil || binary.BigEndian.Uint64(counted[0][0]) != uint64(rows) {
		t.Errorf("rows of %d: %x, %v", rows, counted, err)
	}
	checkCities(t, live[2].addr, "--cl", "ALL")
}

// leader is the node that leads the metadata's log, as one that runs says.
func (c *cluster) leader() *process {
	for _, p := range c.nodes {
		if !p.running() {
			continue
		}
		var s struct {
			Leader string       `json:"metadata_leader"`
			Nodes  []nodeStatus `json:"nodes"`
		}
		raw, err := p.http("/api/v1/status")
		if err != nil || json.Unmarshal(raw, &s) != nil {
			continue
		}
		for _, n := range s.Nodes {
			for _, q := range c.nodes {
				if n.HostID == s.Leader && strings.HasPrefix(n.Address, q.addr+":") && q.running() {
					return q
				}
			}
		}
	}
	return nil
}

// TestMovementKills: the second of what issue 5 asks to be shown: the joining or leaving node, a node that rows come from, and the leader of the log are killed at random moments of a join and of a decommission. Each
// ends clean: the node is a member, or has left; nothing is under way; the ledger finds nothing lost.
func TestMovementKills(t *testing.T) {
	kills := long(t, "HELENUS_MOVEMENT_KILLS", 10)
	seed := uint64(time.Now().UnixNano())
	rng := rand.New(rand.NewPCG(seed, 3))
	t.Logf("seed %d", seed)
	slow := []string{"--stream-throughput", "2MiB/s"}
	c := newCluster(t, 3, slow...).up().settled()
	c.loadKV(30_000)
	client := startSteady(t, c.hosts(), 30_000, 200)
	victims := map[string]func(guest *process) *process{
		"itself":   func(guest *process) *process { return guest },
		"a source": func(*process) *process { return c.nodes[rng.IntN(3)] },
		"the leader of the log": func(guest *process) *process {
			if p := c.leader(); p != nil {
				return p
			}
			return guest
		},
	}
	for round := range kills {
		for _, who := range []string{"itself", "a source", "the leader of the log"} {
			guest := c.joins(slow...)
			killed := c.killAt(rng, victims[who](guest))
			for _, p := range c.nodes { // the one that was killed is back
				p.sees(4, moveWait)
			}
			c.nodes[0].quietMovement(moveWait)
			t.Logf("round %d: %s was killed %s after a join began: the node is a member", round+1, who, killed)

			c.nodes[1].helenus("decommission", "--wait=false", guest.addr)
			victim := victims[who](guest)
			killed = c.killAt(rng, victim)
			if code := guest.exited(moveWait); code != 0 && victim != guest {
				t.Errorf("a node that left ended with %d", code)
			}
			for _, p := range c.nodes[:3] {
				p.sees(3, moveWait)
			}
			c.nodes[0].quietMovement(moveWait)
			t.Logf("round %d: %s was killed %s after a decommission began: the node has left", round+1, who, killed)
			c.nodes = c.nodes[:3]
			if err := os.RemoveAll(guest.dir); err != nil {
				t.Fatal(err)
			}
		}
	}
	if _, errors := client.ends(); errors > 0 {
		t.Logf("clients were told of %d errors, each of a request that may have been at a node that was killed", errors)
	}
	counted, err := mustDial(t, c.addr(1)).query(protocol.All, "SELECT count(*) FROM bench.kv")
	if err != nil || binary.BigEndian.Uint64(counted[0][0]) != 30_000 {
		t.Errorf("rows of 30000: %x, %v", counted, err)
	}
}

// killAt kills a node at a random moment of the next seconds and starts it again at once. It returns the moment.
func (c *cluster) killAt(rng *rand.Rand, victim *process) time.Duration {
	c.t.Helper()
	after := time.Duration(rng.Int64N(int64(6 * time.Second)))
	time.Sleep(after)
	victim.kill()
	victim.start()
	return after.Round(time.Millisecond)
}
