package e2e

import (
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/helenusdb/helenus/cql/protocol"
)

// TestDevNodesComeAndGo: helenus dev takes further nodes and lets nodes go, by its own commands and by the operator's, with clients' rows; what was killed then starts again
// with the nodes that it had.
func TestDevNodesComeAndGo(t *testing.T) {
	c := newCluster(t, 0)
	subnet := "127.0." + strconv.Itoa(c.net)
	p := c.node(0, nil)
	p.args = []string{"dev", "--nodes", "3", "--subnet", subnet, "--dir", p.dir}
	c.nodes = append(c.nodes, p)
	p.start()
	p.waitLog("3 nodes are up", startWait)
	dev := func(args ...string) string {
		t.Helper()
		out, err := exec.Command(p.bin, append(append([]string{"dev"}, args...), "--subnet", subnet)...).CombinedOutput()
		if err != nil {
			t.Fatalf("helenus dev %v: %v\n%s", args, err, out)
		}
		return string(out)
	}
	const rows = 5000
	if out, err := exec.Command(p.bin, "bench", "--hosts", c.addr(0), "--setup", "--rf", "2", "--cl", "QUORUM", "--rows", strconv.Itoa(rows), "--op", "load").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if out := dev("add"); !strings.Contains(out, c.addr(3)+" has joined") || !strings.Contains(out, "join of "+c.addr(3)) || strings.Count(out, "UN  ") != 4 {
		t.Errorf("dev add shows\n%s", out)
	}
	if out := dev("remove", "1"); !strings.Contains(out, "The decommission of "+c.addr(0)) || !strings.Contains(out, "is done") || !strings.Contains(out, c.addr(0)+" has left") || strings.Count(out, "UN  ") != 3 {
		t.Errorf("dev remove shows\n%s", out)
	}
	if out, err := exec.Command(p.bin, "decommission", "--host", c.addr(1)).CombinedOutput(); err != nil || !strings.Contains(string(out), "is done") {
		t.Errorf("a decommission of a node that is asked for it itself: %v\n%s", err, out)
	}
	p.waitLog(c.addr(1)+" has left the cluster", startWait)
	if out, err := exec.Command(p.bin, "dev", "remove", "--subnet", subnet).CombinedOutput(); err == nil || !strings.Contains(string(out), "1 nodes would be left") {
		t.Errorf("removal of a node that replicas need: %v\n%s", err, out)
	}
	counted := func(host string) {
		t.Helper()
		got, err := mustDial(t, host).query(protocol.All, "SELECT count(*) FROM bench.kv")
		if err != nil || binary.BigEndian.Uint64(got[0][0]) != rows {
			t.Errorf("rows at %s: %x, %v", host, got, err)
		}
	}
	counted(c.addr(2))

	p.kill()
	list, err := os.ReadFile(filepath.Join(p.dir, "nodes"))
	if err != nil || string(list) != "3\n4\n" {
		t.Errorf("the nodes that are kept: %q, %v", list, err)
	}
	for i, want := range []bool{false, false, true, true} {
		if _, err := os.Stat(filepath.Join(p.dir, "node"+strconv.Itoa(i+1))); (err == nil) != want {
			t.Errorf("folder of node %d: %v", i+1, err)
		}
	}
	p.args = []string{"dev", "--subnet", subnet, "--dir", p.dir}
	p.start()
	p.waitLog("2 nodes are up", startWait)
	counted(c.addr(3))
	if out := dev("add"); !strings.Contains(out, c.addr(0)+" has joined") {
		t.Errorf("a node at an address that another one has left:\n%s", out)
	}
	counted(c.addr(0))
}
