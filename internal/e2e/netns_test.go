package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// lan is a network of hosts of the test's own: a network namespace for each node, joined by a bridge that the test itself
// is on too. Links between nodes are cut by routes that lead nowhere.
type lan struct {
	t      *testing.T
	bridge string
	subnet string // 10.77.N
	hosts  int
	cuts   map[[2]int]int // by how many faults each link is cut, from and to
}

// newLAN makes the network; it skips where network namespaces cannot be made.
func newLAN(t *testing.T, hosts int) *lan {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("NOTICE: only root can make network namespaces; cut links are not tested here")
	}
	need(t, "ip")
	id := int(nextNet.Add(1))%100 + os.Getpid()%100*100
	l := &lan{t: t, bridge: fmt.Sprintf("hel%d", id), subnet: fmt.Sprintf("10.77.%d", id%250), hosts: hosts, cuts: map[[2]int]int{}}
	t.Cleanup(l.remove)
	if err := l.make(); err != nil {
		t.Skipf("NOTICE: no network namespaces here (%v); cut links are not tested", err)
	}
	return l
}

func (l *lan) make() error {
	for _, c := range []string{
		"link add %[1]s type bridge", "addr add %[2]s.254/24 dev %[1]s", "link set %[1]s up",
	} {
		if err := ip(fmt.Sprintf(c, l.bridge, l.subnet)); err != nil {
			return err
		}
	}
	for i := range l.hosts {
		for _, c := range []string{
			"netns add %[1]s", "link add %[2]s type veth peer name eth0 netns %[1]s", "link set %[2]s master %[3]s up",
			"-n %[1]s addr add %[4]s/24 dev eth0", "-n %[1]s link set eth0 up", "-n %[1]s link set lo up",
		} {
			if err := ip(fmt.Sprintf(c, l.namespace(i), l.veth(i), l.bridge, l.addr(i))); err != nil {
				return err
			}
		}
	}
	return nil
}

func (l *lan) remove() {
	for i := range l.hosts {
		_ = ip("netns del " + l.namespace(i))
		_ = ip("link del " + l.veth(i))
	}
	_ = ip("link del " + l.bridge)
}

func ip(command string) error {
	out, err := exec.Command("ip", strings.Fields(command)...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("ip %s: %w: %s", command, err, strings.TrimSpace(string(out)))
	}
	return nil
}

func (l *lan) namespace(i int) string { return fmt.Sprintf("%sn%d", l.bridge, i+1) }
func (l *lan) veth(i int) string      { return fmt.Sprintf("%sv%d", l.bridge, i+1) }
func (l *lan) addr(i int) string      { return fmt.Sprintf("%s.%d", l.subnet, i+1) }

// cut stops what host i sends to host j; mend lets it pass again once it was called as often: two faults may cut the same link.
func (l *lan) cut(i, j int) {
	link := [2]int{i, j}
	if l.cuts[link]++; l.cuts[link] == 1 {
		l.route("add", i, j)
	}
}

func (l *lan) mend(i, j int) {
	link := [2]int{i, j}
	if l.cuts[link]--; l.cuts[link] == 0 {
		l.route("del", i, j)
	}
}

func (l *lan) route(what string, i, j int) {
	l.t.Helper()
	if err := ip(fmt.Sprintf("-n %s route %s blackhole %s/32", l.namespace(i), what, l.addr(j))); err != nil {
		l.t.Errorf("link %d to %d: %v", i+1, j+1, err)
	}
}

// cluster describes nodes that run on the hosts.
func (l *lan) cluster(bin string, flags ...string) *cluster {
	l.t.Helper()
	skipUnlessE2E(l.t)
	c := &cluster{t: l.t, dir: l.t.TempDir()}
	var seeds []string
	for i := range l.hosts {
		seeds = append(seeds, l.addr(i))
	}
	for i := range l.hosts {
		p := &process{t: l.t, addr: l.addr(i), dir: filepath.Join(c.dir, fmt.Sprintf("node%d", i+1)), bin: "ip", log: &logFile{}}
		p.args = append([]string{"netns", "exec", l.namespace(i), bin, "start", "--listen-address", p.addr, "--admin-address", p.addr,
			"--data-dir", p.dir, "--seeds", strings.Join(seeds, ","), "--disk-reserve", "64MiB"}, flags...)
		c.nodes = append(c.nodes, p)
	}
	c.cleanUp()
	return c
}
