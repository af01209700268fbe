package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/helenusdb/helenus/config"
	"github.com/helenusdb/helenus/meta"
	"github.com/helenusdb/helenus/storage"
)

// host is a loopback address that no test of another process uses.
func host(last int) string {
	return fmt.Sprintf("127.%d.%d.%d", 64+os.Getpid()>>8&63, os.Getpid()&255, last)
}

// testNode is a node in memory on host(last), with real sockets.
func testNode(t testing.TB, last int, seeds string, more func(*Options)) *Node {
	t.Helper()
	c := config.Default()
	c.ListenAddress = netip.MustParseAddr(host(last))
	c.Seeds, c.DiskReserve = strings.Split(seeds, ","), 0
	c.StoragePort, c.GossipPort, c.NativePort, c.AdminPort = 17000, 17946, 19042, 19180
	c.BlockCache, c.RowCache, c.Memtable = 1<<20, 1<<20, 1<<20
	c.RepairWithin = 0 // what a test does not ask for does not happen
	o := Options{Config: c, FS: storage.Memory(), Fatal: func(err error) { t.Errorf("fatal: %v", err) }}
	if more != nil {
		more(&o)
	}
	n, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// run starts a node; stop ends it and returns what Run returned.
func run(n *Node) (ended chan error, stop func() error) {
	ctx, cancel := context.WithCancel(context.Background())
	ended = make(chan error, 1)
	go func() { ended <- n.Run(ctx) }()
	return ended, func() error { cancel(); return <-ended }
}

func awaitReady(t testing.TB, n *Node, ended chan error) {
	t.Helper()
	select {
	case <-n.Ready():
	case err := <-ended:
		t.Fatalf("the node ended: %v", err)
	}
}

// network is TCP whose listeners the test can break.
type network struct {
	tcp
	mu        sync.Mutex
	listeners map[string]net.Listener
}

func (w *network) Listen(ctx context.Context, addr string) (net.Listener, error) {
	l, err := w.tcp.Listen(ctx, addr)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.listeners == nil {
		w.listeners = map[string]net.Listener{}
	}
	w.listeners[addr] = l
	return l, err
}

func (w *network) listener(addr string) net.Listener {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.listeners[addr]
}

// TestTakenPortsEndTheStart: each port that is taken is a reason not to start, the error and the log name it, once, and no
// cluster has been founded.
func TestTakenPortsEndTheStart(t *testing.T) {
	for _, port := range []int{17000, 17946, 19042, 19180} {
		addr := fmt.Sprintf("%s:%d", host(1), port)
		l, err := net.Listen("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		var log lockedText
		n := testNode(t, 1, host(1), func(o *Options) { o.Logger = slog.New(slog.NewTextHandler(&log, nil)) })
		ended, stop := run(n)
		if err := <-ended; err == nil || strings.Count(err.Error(), addr) != 1 {
			t.Errorf("port %d is taken: Run returned %v", port, err)
		}
		if n.log.Current().Founded() {
			t.Errorf("port %d is taken: the cluster was founded", port)
		}
		if text := log.String(); strings.Count(text, "msg=stopped") != 1 || !strings.Contains(text, "level=ERROR msg=stopped reason=") || strings.Count(text, addr) != 1 {
			t.Errorf("port %d is taken: the log says\n%s", port, text)
		}
		ended <- nil
		_ = stop()
		_ = l.Close()
	}
}

// TestFailureEndsTheStart: a node that waits for its seed ends when it can no longer be reached itself.
func TestFailureEndsTheStart(t *testing.T) {
	w := &network{}
	n := testNode(t, 2, host(99), func(o *Options) { o.Net = w })
	ended, _ := run(n)
	for w.listener(host(2)+":17000") == nil {
		time.Sleep(time.Millisecond)
	}
	_ = w.listener(host(2) + ":17000").Close()
	if err := <-ended; err == nil || strings.Count(err.Error(), "internode transport") != 1 {
		t.Errorf("Run returned %v", err)
	}
}

// TestStopWhileStarting: a stop is a clean one, also while the node waits for its seed.
func TestStopWhileStarting(t *testing.T) {
	_, stop := run(testNode(t, 3, host(99), nil))
	time.Sleep(20 * time.Millisecond)
	if err := stop(); err != nil {
		t.Errorf("Run returned %v", err)
	}
}

// TestDataFolderErrors: what is wrong with the data folder is said once, with its name, and without repeating who says it.
func TestDataFolderErrors(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	first := testNode(t, 9, host(9), func(o *Options) { o.FS, o.Config.DataDir = storage.Disk(), dir })
	ended, stop := run(first)
	awaitReady(t, first, ended)
	again := func(want string) {
		t.Helper()
		ended, _ := run(testNode(t, 10, host(10), func(o *Options) { o.FS, o.Config.DataDir = storage.Disk(), dir }))
		err := <-ended
		if err == nil || !strings.Contains(err.Error(), want) || strings.Count(err.Error(), "storage: ") != 1 || strings.Count(err.Error(), dir) != 1 {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	again("in use by another process")
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, "node.json")); err != nil {
		t.Fatal(err)
	}
	again("node.json is missing, but there is store")
}

// TestStopTellsTheOthers: a node that stops says goodbye, so that nobody has to find out, and the other one goes on. What it
// knows survives.
func TestStopTellsTheOthers(t *testing.T) {
	seeds := host(4) + "," + host(5)
	fs := storage.Memory()
	first, second := testNode(t, 4, seeds, nil), testNode(t, 5, seeds, func(o *Options) { o.FS = fs })
	ended1, stop1 := run(first)
	ended2, stop2 := run(second)
	awaitReady(t, first, ended1)
	awaitReady(t, second, ended2)
	id := second.home.HostID
	for !first.alive(id) {
		time.Sleep(5 * time.Millisecond)
	}
	if err := stop2(); err != nil {
		t.Fatal(err)
	}
	for first.alive(id) {
		time.Sleep(time.Millisecond)
	}
	if s, ok := first.liveness().State(id); !ok || !s.Left {
		t.Errorf("the other node had to find out: %+v %v", s, ok)
	}
	again := testNode(t, 5, seeds, func(o *Options) { o.FS = fs })
	ended2, stop2 = run(again)
	awaitReady(t, again, ended2)
	if again.home.HostID != id || again.home.Generation <= second.home.Generation {
		t.Errorf("%v generation %d started again as %v generation %d", id, second.home.Generation, again.home.HostID, again.home.Generation)
	}
	for !first.alive(id) {
		time.Sleep(5 * time.Millisecond)
	}
	if err := errors.Join(stop2(), stop1()); err != nil {
		t.Error(err)
	}
}

// TestSuspect: a store whose log is too short says so, with a way out, until the operator has cleared it; till then the node
// does not vote.
func TestSuspect(t *testing.T) {
	fs := storage.Memory()
	start := func(clear bool) (suspect bool, log string) {
		var b lockedText
		n := testNode(t, 6, host(6), func(o *Options) {
			o.FS, o.ClearSuspect, o.Logger = fs, clear, slog.New(slog.NewTextHandler(&b, nil))
		})
		ended, stop := run(n)
		awaitReady(t, n, ended)
		suspect = n.engine.Suspect()
		if n.log.Suspect() != suspect {
			t.Errorf("rows are suspect: %v, metadata: %v", suspect, n.log.Suspect())
		}
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		return suspect, b.String()
	}
	if suspect, _ := start(false); suspect {
		t.Error("a new store is suspect")
	}
	if err := fs.Remove("helenus-data/store/WATERMARK"); err != nil {
		t.Fatal(err)
	}
	for i, step := range []struct{ clear, suspect bool }{{false, true}, {false, true}, {true, false}, {false, false}} {
		suspect, log := start(step.clear)
		if suspect != step.suspect || strings.Contains(log, "--clear-suspect") != step.suspect {
			t.Errorf("start %d: suspect %v\n%s", i, suspect, log)
		}
	}
}

// TestSuspectMetadata: the same for the metadata log.
func TestSuspectMetadata(t *testing.T) {
	fs := storage.Memory()
	start := func(clear bool) bool {
		n := testNode(t, 8, host(8), func(o *Options) { o.FS, o.ClearSuspect = fs, clear })
		ended, stop := run(n)
		awaitReady(t, n, ended)
		suspect := n.log.Suspect()
		if n.engine.Suspect() || n.self.Health != map[bool]meta.Health{true: meta.Suspect}[suspect] {
			t.Errorf("rows are suspect: %v, the node announces %s", n.engine.Suspect(), n.self.Health)
		}
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		return suspect
	}
	if start(false) {
		t.Error("a new store is suspect")
	}
	if err := fs.Remove("helenus-data/meta/WATERMARK"); err != nil {
		t.Fatal(err)
	}
	for i, step := range []struct{ clear, suspect bool }{{false, true}, {false, true}, {true, false}, {false, false}} {
		if got := start(step.clear); got != step.suspect {
			t.Errorf("start %d: suspect %v", i, got)
		}
	}
}

type lockedText struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *lockedText) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedText) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// TestTimestampsDoNotLead: a node that has just started gives no timestamps from the future, whether it had stopped or
// crashed, for with one a later write through another node would lose.
func TestTimestampsDoNotLead(t *testing.T) {
	fs := vfs.NewCrashableMem()
	n := testNode(t, 7, host(7), func(o *Options) { o.FS = fs })
	ended, stop := run(n)
	awaitReady(t, n, ended)
	last := n.clock.Timestamp()
	crashed := fs.CrashClone(vfs.CrashCloneCfg{})
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	for _, fs := range []storage.FS{crashed, fs} {
		n := testNode(t, 7, host(7), func(o *Options) { o.FS = fs })
		ended, stop := run(n)
		awaitReady(t, n, ended)
		ts, now := n.clock.Timestamp(), time.Now().UnixMicro()
		if ts <= last || ts > now {
			t.Errorf("timestamp %d at %d, after %d", ts, now, last)
		}
		if err := stop(); err != nil {
			t.Fatal(err)
		}
	}
}
