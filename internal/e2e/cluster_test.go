package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

const (
	startWait = 30 * time.Second // generous: a test asserts behaviour, not speed
	cqlPort   = 9042
)

// nextNet gives every cluster of a test run addresses of its own: 127.0.N.1, 127.0.N.2, ...
var nextNet atomic.Int32

// skipUnlessE2E skips unless the run asked for real processes.
func skipUnlessE2E(t *testing.T) {
	t.Helper()
	if os.Getenv("HELENUS_E2E") != "1" || os.Getenv("HELENUS_BIN") == "" {
		t.Skip("real processes: run scripts/test.sh e2e")
	}
}

// python is the interpreter with the pinned driver.
func python(t *testing.T) string {
	t.Helper()
	p := os.Getenv("HELENUS_PYTHON")
	if p == "" {
		t.Skip("HELENUS_PYTHON is not set")
	}
	return p
}

// cluster is a set of helenus processes with one seed list.
type cluster struct {
	t     *testing.T
	net   int
	dir   string
	nodes []*process
}

// process is one node. Methods are for one goroutine at a time.
type process struct {
	t    *testing.T
	addr string
	dir  string
	args []string
	env  []string
	bin  string

	cmd  *exec.Cmd
	done chan struct{} // closed when the process has been waited for
	log  *logFile
}

// logFile keeps what a process printed over all its starts.
type logFile struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logFile) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logFile) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// newCluster describes n nodes with the given extra flags; nothing is started. The folder is t's, unless dir is given.
func newCluster(t *testing.T, n int, flags ...string) *cluster {
	t.Helper()
	skipUnlessE2E(t)
	c := &cluster{t: t, dir: t.TempDir()}
	for free := false; !free; free = c.unused() {
		c.net = (int(nextNet.Add(1))+os.Getpid()%100*2)%250 + 1
	}
	var seeds []string
	for i := range n {
		seeds = append(seeds, c.addr(i))
	}
	for i := range n {
		c.nodes = append(c.nodes, c.node(i, seeds, flags...))
	}
	c.cleanUp()
	return c
}

// cleanUp ends the nodes with the test, and looks into their logs.
func (c *cluster) cleanUp() {
	c.t.Cleanup(func() {
		for _, p := range c.nodes {
			p.kill()
			if log := p.log.String(); contains(log, "panic") || contains(log, "goroutine 1 [") {
				c.t.Errorf("the log of %s shows a panic", p.addr)
			}
			if c.t.Failed() {
				c.t.Logf("--- log of %s\n%s", p.addr, tail(p.log.String(), 60))
			}
		}
	})
}

// unused tells whether nobody listens at the cluster's addresses: another run may be under way.
func (c *cluster) unused() bool {
	for _, port := range []int{cqlPort, 7000, 9180} {
		l, err := net.Listen("tcp", net.JoinHostPort(c.addr(0), strconv.Itoa(port)))
		if err != nil {
			return false
		}
		l.Close()
	}
	return true
}

func (c *cluster) addr(i int) string { return fmt.Sprintf("127.0.%d.%d", c.net, i+1) }

func (c *cluster) node(i int, seeds []string, flags ...string) *process {
	p := &process{t: c.t, addr: c.addr(i), dir: filepath.Join(c.dir, "node"+strconv.Itoa(i+1)), bin: os.Getenv("HELENUS_BIN"), log: &logFile{}}
	p.args = append([]string{"start", "--listen-address", p.addr, "--data-dir", p.dir, "--seeds", strings.Join(seeds, ","), "--disk-reserve", "64MiB"}, flags...)
	return p
}

// up starts every node and waits until each answers CQL.
func (c *cluster) up() *cluster {
	c.t.Helper()
	for _, p := range c.nodes {
		p.start()
	}
	for _, p := range c.nodes {
		p.ready()
	}
	return c
}

// hosts is the comma-separated list of the given nodes' addresses; of all without arguments.
func (c *cluster) hosts(which ...int) string {
	var out []string
	for i, p := range c.nodes {
		if len(which) == 0 {
			out = append(out, p.addr)
		}
		for _, w := range which {
			if w == i {
				out = append(out, p.addr)
			}
		}
	}
	return strings.Join(out, ",")
}

func (p *process) start() {
	p.t.Helper()
	cmd := exec.Command(p.bin, p.args...)
	cmd.Stdout, cmd.Stderr = p.log, p.log
	cmd.Env = append(slices.DeleteFunc(os.Environ(), func(e string) bool { return strings.HasPrefix(e, "HELENUS_") }), p.env...)
	cmd.Dir = filepath.Dir(p.dir)
	if err := cmd.Start(); err != nil {
		p.t.Fatalf("start %s: %v", p.addr, err)
	}
	done := make(chan struct{})
	p.cmd, p.done = cmd, done
	go func() { _ = cmd.Wait(); close(done) }()
}

// ready waits until the node's native port accepts connections.
func (p *process) ready() {
	p.t.Helper()
	deadline := time.Now().Add(startWait)
	for time.Now().Before(deadline) {
		select {
		case <-p.done:
			p.t.Fatalf("%s ended while starting:\n%s", p.addr, tail(p.log.String(), 40))
		default:
		}
		c, err := net.DialTimeout("tcp", net.JoinHostPort(p.addr, strconv.Itoa(cqlPort)), time.Second)
		if err == nil {
			c.Close()
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	p.t.Fatalf("%s does not listen after %s:\n%s", p.addr, startWait, tail(p.log.String(), 40))
}

// exited waits until the process has ended by itself and returns its exit code.
func (p *process) exited(within time.Duration) int {
	p.t.Helper()
	select {
	case <-p.done:
		return p.cmd.ProcessState.ExitCode()
	case <-time.After(within):
		p.t.Fatalf("%s still runs after %s:\n%s", p.addr, within, tail(p.log.String(), 40))
		return -1
	}
}

func (p *process) running() bool {
	if p.cmd == nil {
		return false
	}
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

func (p *process) signal(s os.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		p.t.Fatalf("signal %s: %v", p.addr, err)
	}
}

// settled waits until every running node sees every node of the cluster up and serving clients.
func (c *cluster) settled() *cluster {
	c.t.Helper()
	for _, p := range c.nodes {
		p.sees(len(c.nodes), startWait)
	}
	return c
}

// nodeStatus is what a node says of a member of its cluster.
type nodeStatus struct {
	HostID  string `json:"host_id"`
	Address string `json:"address"`
	State   string `json:"state"`
	Up      bool   `json:"up"`
}

// status is what a node says of its cluster.
type status struct {
	ClusterID string       `json:"cluster_id"`
	Self      string       `json:"self"`
	Nodes     []nodeStatus `json:"nodes"`
}

func (p *process) status() (s status, err error) {
	raw, err := p.http("/api/v1/status")
	if err == nil {
		err = json.Unmarshal(raw, &s)
	}
	return s, err
}

// sees waits until the node says that it serves clients and that exactly n members are up and normal.
func (p *process) sees(n int, within time.Duration) status {
	p.t.Helper()
	var last string
	for deadline := time.Now().Add(within); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		s, err := p.status()
		if _, notReady := p.http("/readyz"); err == nil {
			err = notReady
		}
		if err != nil {
			last = err.Error()
			continue
		}
		up := 0
		for _, m := range s.Nodes {
			if m.Up && m.State == "normal" {
				up++
			}
		}
		if up == n && len(s.Nodes) >= n {
			return s
		}
		last = fmt.Sprintf("%+v", s.Nodes)
	}
	p.t.Fatalf("%s does not see %d nodes after %s: %s", p.addr, n, within, last)
	return status{}
}

// http asks the node's admin interface; an answer other than 200 is an error.
func (p *process) http(path string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.addr+":9180"+path, nil)
	if err != nil {
		return nil, err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s answers %s: %s", path, res.Status, raw)
	}
	return raw, err
}

// rss is the resident memory of the process, in MiB.
func (p *process) rss() float64 {
	p.t.Helper()
	return p.procMiB("VmRSS:")
}

func (p *process) procMiB(key string) float64 {
	p.t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		p.t.Fatal(err)
	}
	for _, line := range strings.Split(string(b), "\n") {
		if rest, ok := strings.CutPrefix(line, key); ok {
			kb, err := strconv.ParseFloat(strings.Fields(rest)[0], 64)
			if err != nil {
				p.t.Fatal(err)
			}
			return kb / 1024
		}
	}
	p.t.Fatalf("/proc says nothing of %s", key)
	return 0
}

// freeze is SIGSTOP, and waits until the kernel has stopped the process; thaw lets it go on.
func (p *process) freeze() {
	p.t.Helper()
	p.signal(syscall.SIGSTOP)
	for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
		if err != nil {
			p.t.Fatal(err)
		}
		if text := string(b); strings.HasPrefix(text[strings.LastIndexByte(text, ')')+1:], " T") {
			return
		}
	}
	p.t.Fatalf("%s does not stop", p.addr)
}

func (p *process) thaw() { p.t.Helper(); p.signal(syscall.SIGCONT) }

// kill is kill -9, and waits for the end. A frozen process does nothing more before it dies.
func (p *process) kill() {
	if !p.running() {
		return
	}
	_ = p.cmd.Process.Kill()
	<-p.done
}

// stop is SIGTERM, and waits for a clean end.
func (p *process) stop() {
	p.t.Helper()
	if !p.running() {
		return
	}
	p.signal(syscall.SIGTERM)
	if code := p.exited(startWait); code != 0 {
		p.t.Fatalf("%s ended with %d after SIGTERM:\n%s", p.addr, code, tail(p.log.String(), 40))
	}
}

// metric reads one sample of /metrics by its full name with labels; 0 when it is not there.
func (p *process) metric(name string) float64 {
	p.t.Helper()
	raw, err := p.http("/metrics")
	if err != nil {
		p.t.Fatalf("metrics of %s: %v", p.addr, err)
	}
	for _, line := range strings.Split(string(raw), "\n") {
		if rest, ok := strings.CutPrefix(line, name+" "); ok {
			v, err := strconv.ParseFloat(rest, 64)
			if err != nil {
				p.t.Fatalf("metric %s: %v", line, err)
			}
			return v
		}
	}
	return 0
}

// script is a running program that prints lines.
type script struct {
	t    *testing.T
	cmd  *exec.Cmd
	out  *logFile
	done chan struct{}
}

// background starts a program; its output is collected, and printed when the test fails.
func background(t *testing.T, name string, args ...string) *script {
	t.Helper()
	return launch(t, exec.Command(name, args...))
}

// launch is background of a command that the caller has prepared.
func launch(t *testing.T, cmd *exec.Cmd) *script {
	t.Helper()
	name, args := cmd.Path, cmd.Args[1:]
	s := &script{t: t, cmd: cmd, out: &logFile{}, done: make(chan struct{})}
	s.cmd.Stdout, s.cmd.Stderr = s.out, s.out
	if err := s.cmd.Start(); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	go func() { _ = s.cmd.Wait(); close(s.done) }()
	t.Cleanup(func() {
		select {
		case <-s.done:
		default:
			_ = s.cmd.Process.Kill()
			<-s.done
		}
		if t.Failed() {
			t.Logf("--- output of %s %s\n%s", name, strings.Join(args, " "), tail(s.out.String(), 80))
		}
	})
	return s
}

// says waits until the program has printed text.
func (s *script) says(text string, within time.Duration) {
	s.t.Helper()
	for deadline := time.Now().Add(within); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if strings.Contains(s.out.String(), text) {
			return
		}
		select {
		case <-s.done:
			if !strings.Contains(s.out.String(), text) {
				s.t.Fatalf("the program ended without saying %q", text)
			}
			return
		default:
		}
	}
	s.t.Fatalf("the program has not said %q within %s", text, within)
}

// succeeds waits for the end and demands exit code 0; it returns the output.
func (s *script) succeeds(within time.Duration) string {
	s.t.Helper()
	select {
	case <-s.done:
	case <-time.After(within):
		s.t.Fatalf("the program still runs after %s", within)
	}
	if code := s.cmd.ProcessState.ExitCode(); code != 0 {
		s.t.Fatalf("the program ended with %d", code)
	}
	return s.out.String()
}

func tail(s string, lines int) string {
	all := strings.Split(s, "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

func contains(s, part string) bool { return strings.Contains(s, part) }
