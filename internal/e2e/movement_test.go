package e2e

import (
	"encoding/binary"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/helenusdb/helenus/cql/protocol"
)

// moveWait is how long an operation may take beside everything else on the machine.
const moveWait = 3 * time.Minute

// helenus runs a command of the program and returns what it prints.
func (p *process) helenus(args ...string) string {
	p.t.Helper()
	out, err := exec.Command(p.bin, append(args, "--host", p.addr)...).CombinedOutput()
	if err != nil {
		p.t.Fatalf("helenus %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// joins starts another node and adds it to the cluster's.
func (c *cluster) joins(flags ...string) *process {
	c.t.Helper()
	p := c.node(len(c.nodes), []string{c.addr(0), c.addr(1), c.addr(2)}, flags...)
	c.nodes = append(c.nodes, p)
	p.start()
	return p
}

// TestNodesComeAndGo: three nodes with rows become five, of which one leaves and one is replaced, under the load of a stock driver that keeps a ledger: nothing acknowledged
// is lost, nothing deleted comes back. The joining node, a node that rows come from and the dead node's successor are killed in the middle (scenarios M1, M2, M4).
func TestNodesComeAndGo(t *testing.T) {
	slow := []string{"--stream-throughput", "1MiB/s"} // or everything is over before a node can be killed
	c := newCluster(t, 3, slow...).up().settled()
	if out, err := exec.Command(c.nodes[0].bin, "bench", "--hosts", c.hosts(), "--setup", "--rf", "3", "--cl", "QUORUM", "--rows", "30000", "--op", "load").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	client := startFaultLedger(t, c.hosts(), 45*time.Second, uint64(time.Now().UnixNano()))

	fourth := c.joins(slow...)
	fourth.waitLog("is sent its rows", startWait)
	time.Sleep(2 * time.Second)
	fourth.kill()
	fourth.start()
	c.nodes[0].sees(4, moveWait)
	t.Log("a node that was killed while it joined is a member")

	fifth := c.joins(slow...)
	fifth.waitLog("is sent its rows", startWait)
	time.Sleep(time.Second)
	c.nodes[2].kill()
	c.nodes[2].start()
	c.nodes[0].sees(5, moveWait)
	t.Log("a node joined although one that it was sent rows by was killed")

	c.nodes[0].helenus("decommission", c.addr(1))
	if code := c.nodes[1].exited(moveWait); code != 0 {
		t.Errorf("a node that left ended with %d", code)
	}
	c.nodes[0].sees(4, moveWait)
	t.Log("a node left")

	dead := c.nodes[2]
	dead.kill()
	c.nodes[0].sees(3, startWait)
	sixth := c.joins(append(slow, "--replace", dead.addr)...)
	sixth.waitLog("is sent its rows", startWait)
	time.Sleep(time.Second)
	sixth.kill()
	sixth.start()
	c.nodes[0].sees(4, moveWait)
	t.Log("a dead node was replaced by one that was killed meanwhile")
	dead.start()
	if code := dead.exited(startWait); code != exitRefused || !contains(dead.log.String(), "it has left the cluster") {
		t.Errorf("the node that was replaced comes back and ends with %d", code)
	}

	client.says("paused", programWait)
	client.healed()
	rows, err := mustDial(t, sixth.addr).query(protocol.All, "SELECT count(*) FROM bench.kv")
	if err != nil || binary.BigEndian.Uint64(rows[0][0]) != 30000 {
		t.Errorf("rows of 30000: %x, %v", rows, err)
	}
	if out := c.nodes[0].helenus("operations"); !strings.Contains(out, "No operation is under way") {
		t.Error(out)
	}
}
