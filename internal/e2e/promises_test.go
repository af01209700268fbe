package e2e

import (
	"bytes"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/helenusdb/helenus/cql/protocol"
)

// waitLog waits until the node has logged the text.
func (p *process) waitLog(text string, within time.Duration) {
	p.t.Helper()
	for deadline := time.Now().Add(within); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if contains(p.log.String(), text) {
			return
		}
	}
	p.t.Errorf("%s has not logged %q within %s", p.addr, text, within)
}

// TestPromises_LogLines: cluster tools of Cassandra's ecosystem wait for these lines, word by word.
func TestPromises_LogLines(t *testing.T) {
	c := newCluster(t, 2).up().settled()
	for _, p := range c.nodes {
		p.waitLog("Starting listening for CQL clients on /"+p.addr+":9042", 10*time.Second)
	}
	c.nodes[0].waitLog("/"+c.nodes[1].addr+":7000 is now UP", 20*time.Second)
	c.nodes[1].kill()
	c.nodes[0].waitLog("/"+c.nodes[1].addr+":7000 is now DOWN", 30*time.Second)
}

// TestPromises_Configuration: the binary refuses unknown keys with the nearest name, and prints what it would use.
func TestPromises_Configuration(t *testing.T) {
	skipUnlessE2E(t)
	run := func(env []string, args ...string) (string, error) {
		cmd := exec.Command(os.Getenv("HELENUS_BIN"), append([]string{"start"}, args...)...)
		cmd.Dir = t.TempDir()
		cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir()}, env...)
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	if out, err := run([]string{"HELENUS_CLUSTER_NAM=x"}, "--print-config"); err == nil || !contains(out, `did you mean "cluster_name"?`) {
		t.Errorf("unknown key: %v %s", err, out)
	}
	out, err := run([]string{"HELENUS_CLUSTER_NAME=from-env"}, "--print-config", "--row-cache-size", "7MiB")
	if err != nil || !contains(out, `cluster_name: "from-env"`) || !contains(out, "row_cache_size: 7MiB") {
		t.Errorf("print-config: %v %s", err, out)
	}
}

// TestPromises_PreparedIDs: a statement has one id on every node and after a restart, and one that a node does not know is
// answered UNPREPARED.
func TestPromises_PreparedIDs(t *testing.T) {
	c := newCluster(t, 3).up().settled()
	w := mustDial(t, c.nodes[0].addr)
	w.must(t, "CREATE KEYSPACE k WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 3}")
	w.must(t, "CREATE TABLE k.t (a int PRIMARY KEY, b text)")
	prepare := func(addr string) []byte {
		t.Helper()
		op, body, err := mustDial(t, addr).call(protocol.AppendPrepare(nil, protocol.V4, 1, 0, "SELECT b FROM k.t WHERE a = ?", ""))
		if err != nil || op != protocol.OpResult {
			t.Fatalf("PREPARE on %s: opcode %d, %v", addr, op, err)
		}
		r, err := protocol.DecodeResult(protocol.V4, body)
		if err != nil {
			t.Fatal(err)
		}
		return bytes.Clone(r.Prepared.ID[:])
	}
	first := prepare(c.nodes[0].addr)
	for _, p := range c.nodes[1:] {
		if id := prepare(p.addr); !bytes.Equal(id, first) {
			t.Errorf("%s gives id %x, the first node %x", p.addr, id, first)
		}
	}
	c.nodes[0].kill()
	c.nodes[0].start()
	c.nodes[0].ready()
	if id := prepare(c.nodes[0].addr); !bytes.Equal(id, first) {
		t.Errorf("after a restart the id is %x, before it was %x", id, first)
	}
}
