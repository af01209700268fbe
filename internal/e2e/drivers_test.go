package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// driverRows is more than ten pages of 100.
const driverRows = 1500

// driverReport is the last line that a driver's program prints.
type driverReport struct {
	Nodes   int    `json:"nodes"` // that it holds connections to
	Written int    `json:"written"`
	Paged   int    `json:"paged"` // rows of a whole-table SELECT, at 100 a page
	Pages   int    `json:"pages"`
	Read    int    `json:"read"`
	Version string `json:"version"` // of the protocol
}

// testDriver runs a driver's program against three nodes. The program knows one address, creates a keyspace of RF 1 and
// a table, writes and reads by prepared statements and pages through all rows; it must find all three nodes and send more
// than 99 % of what has a partition key to that partition's replica, counted at the servers.
func testDriver(t *testing.T, protocol string, program func(host, keyspace string) driverReport) {
	t.Helper()
	c := newCluster(t, 3).up()
	c.settled()
	got := program(c.addr(0), "drivers")
	want := driverReport{Nodes: 3, Written: driverRows, Paged: driverRows, Pages: got.Pages, Read: driverRows, Version: protocol}
	if got != want {
		t.Errorf("the driver reports %+v, want %+v", got, want)
	}
	if least := driverRows / 100; got.Pages < least {
		t.Errorf("%d rows came in %d pages of at most 100", driverRows, got.Pages)
	}
	var here, elsewhere float64
	for _, p := range c.nodes {
		own, other := p.metric(metricRoutedHere), p.metric(metricRoutedElsewhere)
		t.Logf("%s coordinated %.0f requests of its own partitions and %.0f of others", p.addr, own, other)
		if own == 0 {
			t.Errorf("%s was never asked", p.addr)
		}
		here, elsewhere = here+own, elsewhere+other
	}
	if all := here + elsewhere; all < 2*driverRows || here/all <= 0.99 {
		t.Errorf("%.2f %% of %.0f requests went to a replica, want more than 99 %% of at least %d", 100*here/all, all, 2*driverRows)
	}
}

// The metrics that tell whether clients route by token.
const (
	metricRoutedHere      = `helenus_coordinated_total{replica="here"}`
	metricRoutedElsewhere = `helenus_coordinated_total{replica="elsewhere"}`
)

// report reads the last line of a program.
func report(t *testing.T, out string) driverReport {
	t.Helper()
	lines := strings.Split(strings.TrimSpace(out), "\n")
	var r driverReport
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &r); err != nil {
		t.Fatalf("the program's last line is %q: %v", lines[len(lines)-1], err)
	}
	return r
}

// cacheDir is where installed packages of other languages live between runs.
func cacheDir(t *testing.T, name string) string {
	t.Helper()
	base := os.Getenv("HELENUS_CACHE")
	if base == "" {
		base = "../../.cache"
	}
	dir, err := filepath.Abs(filepath.Join(base, name))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// need returns the path of a program, or skips with a notice.
func need(t *testing.T, names ...string) []string {
	t.Helper()
	var out []string
	for _, name := range names {
		p, err := exec.LookPath(name)
		if err != nil {
			t.Skipf("NOTICE: this machine has no %s; this driver is not tested here", name)
		}
		out = append(out, p)
	}
	return out
}

// installed runs install unless the stamp file says that it has run for the same inputs.
func installed(t *testing.T, dir string, inputs []string, install func()) {
	t.Helper()
	var text strings.Builder
	for _, in := range inputs {
		b, err := os.ReadFile(in)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&text, "%s\n%s\n", filepath.Base(in), b)
	}
	stamp := filepath.Join(dir, ".installed")
	if b, err := os.ReadFile(stamp); err == nil && string(b) == text.String() {
		return
	}
	install()
	if err := os.WriteFile(stamp, []byte(text.String()), 0o644); err != nil {
		t.Fatal(err)
	}
}

const (
	installWait = 5 * time.Minute
	programWait = 2 * time.Minute
)

// TestDriver_Python is the stock driver from PyPI; it speaks v5 with LZ4 by default.
func TestDriver_Python(t *testing.T) {
	testDriver(t, "V5", func(host, keyspace string) driverReport {
		return report(t, background(t, python(t), "testdata/driver.py", host, keyspace, "1", strconv.Itoa(driverRows)).succeeds(programWait))
	})
}

// TestDriver_Node is cassandra-driver from npm.
func TestDriver_Node(t *testing.T) {
	skipUnlessE2E(t)
	tools := need(t, "node", "npm")
	dir := cacheDir(t, "node")
	installed(t, dir, []string{"testdata/node/package.json", "testdata/node/package-lock.json"}, func() {
		for _, name := range []string{"package.json", "package-lock.json"} {
			copyFile(t, filepath.Join("testdata/node", name), filepath.Join(dir, name))
		}
		background(t, tools[1], "ci", "--prefix", dir, "--no-audit", "--no-fund").succeeds(installWait)
	})
	t.Setenv("NODE_PATH", filepath.Join(dir, "node_modules"))
	testDriver(t, "V4", func(host, keyspace string) driverReport {
		return report(t, background(t, tools[0], "testdata/node/driver.js", host, keyspace, "1", strconv.Itoa(driverRows)).succeeds(programWait))
	})
}

// TestDriver_Java is the Java driver 4.x from Maven Central.
func TestDriver_Java(t *testing.T) {
	skipUnlessE2E(t)
	tools := need(t, "java", "javac", "mvn")
	dir := cacheDir(t, "java")
	source := "testdata/java/src/main/java/DriverTest.java"
	installed(t, dir, []string{"testdata/java/pom.xml", source}, func() {
		if err := os.RemoveAll(filepath.Join(dir, "lib")); err != nil {
			t.Fatal(err)
		}
		background(t, tools[2], "-q", "-B", "-f", "testdata/java/pom.xml", "-Dout="+dir, "compile", "dependency:copy-dependencies",
			"-DincludeScope=runtime", "-DoutputDirectory="+filepath.Join(dir, "lib")).succeeds(installWait)
	})
	testDriver(t, "V5", func(host, keyspace string) driverReport {
		path := filepath.Join(dir, "classes") + ":" + filepath.Join(dir, "lib", "*")
		return report(t, background(t, tools[0], "-cp", path, "DriverTest", host, keyspace, "1", strconv.Itoa(driverRows)).succeeds(programWait))
	})
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	b, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, b, 0o644); err != nil {
		t.Fatal(err)
	}
}
