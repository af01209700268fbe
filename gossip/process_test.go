package gossip

import (
	"bufio"
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// TestMain lets the test binary be a node of its own process, so that it can be killed and stopped.
func TestMain(m *testing.M) {
	if n, err := strconv.Atoi(os.Getenv("GOSSIP_TEST_NODE")); err == nil {
		if err := runNode(n, os.Getenv("GOSSIP_TEST_ADDR"), os.Getenv("GOSSIP_TEST_SEEDS")); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// runNode is a node with default intervals that prints its address and its events until it is interrupted.
func runNode(n int, addr, seeds string) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	note := func(what string) func(State) {
		return func(st State) { fmt.Println(what, st.ID[3]) }
	}
	g, err := New(Options{
		HostID: hostID(n), Generation: time.Now().UnixNano(), ClusterID: "processes", Bind: netip.MustParseAddrPort(addr),
		Seeds: strings.Fields(seeds), Events: Events{Up: note("up"), Down: note("down")},
	})
	if err != nil {
		return err
	}
	go func() {
		<-g.Ready()
		fmt.Println("addr", g.Addr())
	}()
	return g.Run(ctx)
}

// process is a node in a process of its own.
type process struct {
	cmd   *exec.Cmd
	addr  string
	mu    sync.Mutex
	lines []string
}

func spawn(t *testing.T, n int, addr string, seeds ...string) *process {
	t.Helper()
	p := &process{cmd: exec.Command(os.Args[0])}
	p.cmd.Env = append(os.Environ(), fmt.Sprint("GOSSIP_TEST_NODE=", n), "GOSSIP_TEST_ADDR="+addr, "GOSSIP_TEST_SEEDS="+strings.Join(seeds, " "))
	p.cmd.Stderr = os.Stderr
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	read := make(chan struct{})
	go func() {
		defer close(read)
		for s := bufio.NewScanner(out); s.Scan(); {
			p.mu.Lock()
			p.lines = append(p.lines, s.Text())
			p.mu.Unlock()
		}
	}()
	t.Cleanup(func() {
		p.kill()
		<-read
		_ = p.cmd.Wait() // always "signal: killed"
	})
	eventually(t, 10*time.Second, "process is ready", func() bool { return p.count("addr ") == 1 })
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, l := range p.lines {
		if a, ok := strings.CutPrefix(l, "addr "); ok {
			p.addr = a
		}
	}
	return p
}

func (p *process) kill() { p.signal(syscall.SIGKILL) }

func (p *process) signal(s syscall.Signal) { _ = p.cmd.Process.Signal(s) }

// count returns how many lines start with prefix.
func (p *process) count(prefix string) (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, l := range p.lines {
		if strings.HasPrefix(l, prefix) {
			n++
		}
	}
	return n
}

func trio(t *testing.T, base int) (a, b, c *process) {
	loop := func(i int) string { return fmt.Sprintf("127.0.0.%d:0", base+i) }
	a = spawn(t, base+1, loop(1))
	b = spawn(t, base+2, loop(2), a.addr)
	c = spawn(t, base+3, loop(3), a.addr)
	eventually(t, 5*time.Second, "three processes see one another", func() bool {
		return a.count("up") == 2 && b.count("up") == 2 && c.count("up") == 2
	})
	return a, b, c
}

// With the default intervals a killed node is noticed by both others within 6 s, and one that comes back at once (M12:
// within 10 s).
func TestKilledProcessIsNoticed(t *testing.T) {
	if testing.Short() {
		t.Skip("takes 5 s")
	}
	t.Parallel()
	a, b, c := trio(t, 100)
	c.kill()
	took := eventually(t, 6*time.Second, "both notice the kill", func() bool {
		return a.count("down 103") == 1 && b.count("down 103") == 1
	})
	t.Logf("kill -9 noticed by both after %v", took)
	spawn(t, 103, c.addr, a.addr)
	took = eventually(t, 2*time.Second, "both notice the restart", func() bool {
		return a.count("up 103") == 2 && b.count("up 103") == 2
	})
	t.Logf("restart noticed by both after %v", took)
}

// A process that stood still convicts nobody when it goes on, and is alive to the others soon after (M11).
func TestPausedProcessConvictsNobody(t *testing.T) {
	if testing.Short() {
		t.Skip("takes 12 s")
	}
	t.Parallel()
	a, b, c := trio(t, 110)
	c.signal(syscall.SIGSTOP)
	eventually(t, 8*time.Second, "the others convict the paused one", func() bool {
		return a.count("down 113") == 1 && b.count("down 113") == 1
	})
	c.signal(syscall.SIGCONT)
	took := eventually(t, 5*time.Second, "the paused one is alive again", func() bool {
		return a.count("up 113") == 2 && b.count("up 113") == 2
	})
	t.Logf("alive again after %v", took)
	time.Sleep(3 * time.Second)
	if n := c.count("down"); n != 0 {
		t.Errorf("the paused process convicted others %d times", n)
	}
	if a.count("down 113") != 1 || a.count("down 112") != 0 || b.count("down 111") != 0 {
		t.Error("the pause made others flap")
	}
}
