package gossip

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"
)

// node is a real Gossip on a loopback address that the test can end in several ways.
type node struct {
	*Gossip
	stop    context.CancelFunc
	stopped chan struct{}
	cut     atomic.Bool // no packet and no connection leaves
}

// fast are options for a node of a test, numbered n, with intervals of a few hundred milliseconds altogether.
func fast(n int, generation int64) Options {
	return Options{
		HostID: hostID(n), Generation: generation, ClusterID: "test", Bind: netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, byte(n)}), 0),
		Meta:          NodeMeta{DC: "dc1", Rack: "r1", Phase: Normal},
		ProbeInterval: 100 * time.Millisecond, ProbeTimeout: 50 * time.Millisecond, SuspicionMult: 4, GossipInterval: 20 * time.Millisecond,
		RejoinInterval: 200 * time.Millisecond, PushPullInterval: time.Second, StreamTimeout: time.Second,
	}
}

func start(t *testing.T, o Options, seeds ...*node) *node {
	t.Helper()
	if os.Getenv("GOSSIP_LOG") != "" {
		o.Logger = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug})).With("me", o.HostID.String()[:8])
	}
	n := &node{stopped: make(chan struct{})}
	for _, s := range seeds {
		o.Seeds = append(o.Seeds, s.Addr().String())
	}
	o.filter = func(string) bool { return !n.cut.Load() }
	g, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	n.Gossip = g
	ctx, cancel := context.WithCancel(context.Background())
	n.stop = cancel
	go func() {
		defer close(n.stopped)
		if err := g.Run(ctx); err != nil {
			t.Errorf("run %s: %v", o.HostID, err)
		}
	}()
	select {
	case <-g.Ready():
	case <-n.stopped:
		t.FailNow()
	}
	t.Cleanup(n.crash)
	return n
}

// crash ends a node without a farewell.
func (n *node) crash() {
	n.stop()
	<-n.stopped
}

func eventually(t *testing.T, within time.Duration, what string, ok func() bool) time.Duration {
	t.Helper()
	begin := time.Now()
	for !ok() {
		if time.Since(begin) > within {
			t.Fatalf("not within %v: %s", within, what)
		}
		time.Sleep(5 * time.Millisecond)
	}
	return time.Since(begin)
}

func sees(g *node, n int, generation int64, alive bool) func() bool {
	return func() bool {
		st, ok := g.State(hostID(n))
		return ok && st.Alive == alive && st.Generation == generation
	}
}

// journal collects events as text.
type journal struct {
	mu    sync.Mutex
	lines []string
}

func (j *journal) events() Events {
	note := func(what string) func(State) {
		return func(st State) {
			j.mu.Lock()
			defer j.mu.Unlock()
			j.lines = append(j.lines, fmt.Sprintf("%s %d/%d", what, st.ID[3], st.Generation))
		}
	}
	return Events{Up: note("up"), Down: note("down"), Update: note("update"), Superseded: note("superseded")}
}

func (j *journal) has(line string) func() bool {
	return func() bool {
		j.mu.Lock()
		defer j.mu.Unlock()
		for _, l := range j.lines {
			if l == line {
				return true
			}
		}
		return false
	}
}

func TestClusterSeesUpDownUpdateAndRestart(t *testing.T) {
	t.Parallel()
	var j journal
	o := fast(1, 1)
	o.Events = j.events()
	a := start(t, o)
	b := start(t, fast(2, 1), a)
	c := start(t, fast(3, 1), a)
	for _, n := range []*node{a, b, c} {
		for i := 1; i <= 3; i++ {
			eventually(t, 3*time.Second, "everyone sees everyone", sees(n, i, 1, true))
		}
		if m := n.Members(); len(m) != 3 || m[0].ID != hostID(1) || m[2].ID != hostID(3) {
			t.Fatalf("members %+v", m)
		}
	}

	meta := NodeMeta{DC: "dc1", Rack: "r1", Phase: Normal, Epoch: 77, Native: netip.MustParseAddrPort("127.0.0.3:9042")}
	if err := c.UpdateMeta(meta); err != nil {
		t.Fatal(err)
	}
	eventually(t, 3*time.Second, "new facts", func() bool { st, _ := a.State(hostID(3)); return st.Meta == meta })
	eventually(t, time.Second, "update event", j.has("update 3/1"))

	c.crash()
	eventually(t, 5*time.Second, "the crash is noticed", sees(a, 3, 1, false))
	if st, _ := a.State(hostID(3)); st.Left {
		t.Error("a crash is taken for a farewell")
	}
	restarted := start(t, fast(3, 2), a)
	eventually(t, 2*time.Second, "the restart is noticed", sees(b, 3, 2, true))
	eventually(t, time.Second, "events", j.has("up 3/2"))

	// A restart faster than detection, on another port (M13): alive at once, never down in between (M12).
	restarted.crash()
	again := start(t, fast(3, 3), a)
	eventually(t, time.Second, "a quick restart is noticed", sees(b, 3, 3, true))
	end := time.Now().Add(2 * time.Second) // until the former life has been convicted
	for time.Now().Before(end) {
		if !a.Alive(hostID(3)) || !b.Alive(hostID(3)) {
			t.Fatal("the conviction of a former life marks the restarted node down")
		}
		time.Sleep(10 * time.Millisecond)
	}

	if err := again.Leave(context.Background()); err != nil {
		t.Fatal(err)
	}
	eventually(t, time.Second, "the farewell is noticed", sees(b, 3, 3, false))
	if st, _ := b.State(hostID(3)); !st.Left {
		t.Error("a farewell is taken for a crash")
	}
	again.crash()
	start(t, fast(3, 4), a)
	eventually(t, 2*time.Second, "who said farewell may come back", sees(b, 3, 4, true))
}

// A process that still claims the former life, and then says farewell in its name, cannot hurt the current one (M8).
func TestImpostorOfAFormerLife(t *testing.T) {
	t.Parallel()
	a := start(t, fast(11, 1))
	b := start(t, fast(12, 7), a)
	eventually(t, 3*time.Second, "b is alive", sees(a, 12, 7, true))
	o := fast(12, 3)
	conf := o.withDefaults().memberlistConfig()
	conf.Logger = newLogger(slog.New(slog.DiscardHandler))
	impostor, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	conf.Delegate = delegate{impostor}
	ml, err := memberlist.Create(conf)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ml.Shutdown() }()
	if _, err := ml.Join([]string{a.Addr().String(), b.Addr().String()}); err != nil {
		t.Fatal(err)
	}
	if err := ml.Leave(time.Second); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if !sees(a, 12, 7, true)() {
			t.Fatal("a former life changed the state of the current one")
		}
	}
}

func TestSupersededIsReported(t *testing.T) {
	t.Parallel()
	var j journal
	a := start(t, fast(21, 1))
	o := fast(22, 1)
	o.Events = j.events()
	old := start(t, o, a)
	eventually(t, 3*time.Second, "old is alive", sees(a, 22, 1, true))
	start(t, fast(22, 2), a)
	eventually(t, 3*time.Second, "the older process learns of the newer", j.has("superseded 22/2"))
	if !old.Alive(hostID(22)) || !sees(a, 22, 2, true)() {
		t.Error("states")
	}
}

func TestOtherClustersAreNotHeardOf(t *testing.T) { // M14
	t.Parallel()
	a := start(t, fast(31, 1))
	o := fast(32, 1)
	o.ClusterID = "other"
	b := start(t, o, a)
	if n, err := b.Join(context.Background(), []string{a.Addr().String()}); n != 0 || err == nil {
		t.Errorf("joined %d, %v", n, err)
	}
	if n, err := a.Join(context.Background(), []string{b.Addr().String()}); n != 0 || err == nil {
		t.Errorf("joined %d, %v", n, err)
	}
	time.Sleep(500 * time.Millisecond) // b keeps contacting its seed meanwhile
	if len(a.Members()) != 1 || len(b.Members()) != 1 {
		t.Errorf("members %v %v", a.Members(), b.Members())
	}
}

func TestEncryptionAndRotation(t *testing.T) {
	t.Parallel()
	key := func(c byte) []byte { return []byte(fmt.Sprintf("%032d", c)) }
	keyed := func(n int, keys ...[]byte) Options {
		o := fast(n, 1)
		o.Keys = keys
		return o
	}
	a := start(t, keyed(41, key(1)))
	b := start(t, keyed(42, key(1)), a)
	eventually(t, 3*time.Second, "same key", sees(a, 42, 1, true))
	for i, o := range []Options{keyed(43, key(2)), keyed(44)} {
		c := start(t, o, a)
		if n, err := c.Join(context.Background(), []string{a.Addr().String()}); n != 0 || err == nil {
			t.Errorf("%d: joined %d, %v", i, n, err)
		}
		c.crash()
	}
	for _, keys := range [][][]byte{{key(1), key(2)}, {key(2), key(1)}, {key(2)}} {
		for _, n := range []*node{a, b} {
			if err := n.SetKeys(keys); err != nil {
				t.Fatal(err)
			}
		}
	}
	c := start(t, keyed(43, key(2)), a)
	eventually(t, 3*time.Second, "new key", sees(b, 43, 1, true))
	if !b.Alive(hostID(41)) || len(a.Members()) != 3 {
		t.Errorf("members %v", a.Members())
	}
	if err := c.SetKeys([][]byte{{1, 2}}); !errors.Is(err, ErrOptions) {
		t.Error(err)
	}
}

// Both sides of a partition convict and reap each other; memberlist alone would never meet again.
func TestReapedNodesAreContactedForEver(t *testing.T) {
	t.Parallel()
	reap := func(n int) Options {
		o := fast(n, 1)
		o.gossipToTheDead = 50 * time.Millisecond
		return o
	}
	a := start(t, reap(51))
	b := start(t, reap(52), a)
	eventually(t, 3*time.Second, "both alive", func() bool { return sees(a, 52, 1, true)() && sees(b, 51, 1, true)() })
	a.cut.Store(true)
	b.cut.Store(true)
	eventually(t, 5*time.Second, "both dead", func() bool { return sees(a, 52, 1, false)() && sees(b, 51, 1, false)() })
	eventually(t, 3*time.Second, "both reaped", func() bool { return a.ml.NumMembers() == 1 && len(a.missing()) == 1 })
	time.Sleep(300 * time.Millisecond)
	a.cut.Store(false)
	b.cut.Store(false)
	eventually(t, 3*time.Second, "both alive again", func() bool { return sees(a, 52, 1, true)() && sees(b, 51, 1, true)() })
	b.crash()
	eventually(t, 5*time.Second, "b is dead", sees(a, 52, 1, false))
	a.Forget(hostID(52))
	if got := a.missing(); len(got) != 0 {
		t.Errorf("forgotten, but contacts %v", got)
	}
}

func TestSeedsAndPeersThatComeLater(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.61:0")
	if err != nil {
		t.Fatal(err)
	}
	later := ln.Addr().String()
	ln.Close()
	o := fast(62, 1)
	o.Seeds = []string{later}
	early := start(t, o)
	o = fast(63, 1)
	peer := start(t, o)
	peer.SetPeers([]string{early.Addr().String()})
	eventually(t, 2*time.Second, "peer is contacted", sees(early, 63, 1, true))
	o = fast(61, 1)
	o.Bind = netip.MustParseAddrPort(later)
	start(t, o)
	eventually(t, 2*time.Second, "the seed is found once it runs", sees(early, 61, 1, true))
	peer.SetPeers(nil)
	if got := peer.missing(); len(got) != 0 {
		t.Errorf("contacts %v", got)
	}
}

// TestMissing_AReplacedAddress: a dead node is not looked for where another one lives.
func TestMissing_AReplacedAddress(t *testing.T) {
	g, err := New(fast(1, 1))
	if err != nil {
		t.Fatal(err)
	}
	addr := netip.MustParseAddrPort("127.0.0.77:7946")
	at := func(id int) State { return State{ID: hostID(id), Generation: 1, Addr: addr} }
	g.view.up(at(2), time.Unix(1, 0))
	g.view.down(hostID(2), 1, time.Unix(2, 0))
	if got := g.missing(); len(got) != 1 {
		t.Errorf("a dead node alone: contacts %v", got)
	}
	g.view.up(at(3), time.Unix(3, 0))
	if got := g.missing(); len(got) != 0 {
		t.Errorf("another one lives there: contacts %v", got)
	}
}

func TestMissingIsBatchedAndFair(t *testing.T) {
	g, err := New(fast(1, 1))
	if err != nil {
		t.Fatal(err)
	}
	var addrs []string
	for i := range 150 {
		addrs = append(addrs, fmt.Sprintf("127.1.0.%d:7000", i))
	}
	g.SetPeers(addrs)
	seen := map[string]bool{}
	for range 3 {
		batch := g.missing()
		if len(batch) != rejoinBatchMax {
			t.Fatalf("batch of %d", len(batch))
		}
		for _, a := range batch {
			seen[a] = true
		}
	}
	if len(seen) != 150 {
		t.Errorf("three rounds reach %d of 150", len(seen))
	}
	g.remember(make([]string, 1), false)
	for i := range 2 * contactsMax {
		g.remember([]string{fmt.Sprint(i)}, false)
	}
	if len(g.contacts) != contactsMax {
		t.Errorf("%d contacts", len(g.contacts))
	}
}

func TestOptionsAreChecked(t *testing.T) {
	for name, spoil := range map[string]func(*Options){
		"host id":    func(o *Options) { o.HostID = hostID(0); o.HostID[15] = 0 },
		"generation": func(o *Options) { o.Generation = 0 },
		"cluster":    func(o *Options) { o.ClusterID = "" },
		"bind":       func(o *Options) { o.Bind = netip.AddrPort{} },
		"key":        func(o *Options) { o.Keys = [][]byte{{1}} },
		"probe":      func(o *Options) { o.ProbeTimeout = time.Second },
		"negative":   func(o *Options) { o.RejoinInterval = -1 },
		"advertise":  func(o *Options) { o.Advertise = netip.MustParseAddrPort("10.0.0.1:0") },
	} {
		o := fast(1, 1)
		spoil(&o)
		if _, err := New(o); !errors.Is(err, ErrOptions) {
			t.Errorf("%s: %v", name, err)
		}
	}
	g, err := New(fast(1, 1))
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Leave(context.Background()); !errors.Is(err, ErrNotRunning) {
		t.Error(err)
	}
	if _, err := g.Join(context.Background(), nil); !errors.Is(err, ErrNotRunning) {
		t.Error(err)
	}
	if !g.Alive(hostID(1)) || g.Health() != 0 || !errors.Is(g.SetKeys(nil), ErrNotEncrypted) {
		t.Error("before Run")
	}
}

func TestBindErrorEndsRun(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.71:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	o := fast(71, 1)
	o.Bind = netip.MustParseAddrPort(ln.Addr().String())
	g, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Run(context.Background()); err == nil {
		t.Error("no error")
	}
	select {
	case <-g.Ready():
		t.Error("ready")
	default:
	}
}

// The local clock jumps as after a pause: a conviction that follows is held for the grace (M11), then stands.
func TestPauseHoldsConvictions(t *testing.T) {
	t.Parallel()
	var jump atomic.Int64
	o := fast(81, 1)
	o.Now = func() time.Time { return time.Now().Add(time.Duration(jump.Load())) }
	o.PauseGrace = 3 * time.Second
	a := start(t, o)
	b := start(t, fast(82, 1), a)
	c := start(t, fast(83, 1), a)
	eventually(t, 3*time.Second, "all alive", func() bool { return sees(a, 82, 1, true)() && sees(a, 83, 1, true)() && sees(c, 82, 1, true)() })
	jump.Store(int64(time.Minute))
	begin := time.Now()
	b.crash()
	eventually(t, 5*time.Second, "the one that was not paused convicts", sees(c, 82, 1, false))
	if !a.Alive(hostID(82)) || time.Since(begin) > 2*time.Second {
		t.Error("the paused one does not hold its conviction")
	}
	eventually(t, 5*time.Second, "the conviction stands after the grace", sees(a, 82, 1, false))
	if d := time.Since(begin); d < 2500*time.Millisecond {
		t.Errorf("held for %v only", d)
	}
}

func TestMassRestart(t *testing.T) { // M12
	t.Parallel()
	const n = 6
	nodes := make([]*node, n)
	for i := range nodes {
		nodes[i] = start(t, fast(91+i, 1), nodes[:min(i, 1)]...)
	}
	everyone := func(generation int64) func() bool {
		return func() bool {
			for _, g := range nodes {
				for i := range nodes {
					if !sees(g, 91+i, generation, true)() {
						return false
					}
				}
			}
			return true
		}
	}
	eventually(t, 3*time.Second, "everyone sees everyone", everyone(1))
	options := make([]Options, n)
	for i, g := range nodes {
		options[i] = fast(91+i, 2)
		options[i].Bind = g.Addr()
		options[i].Seeds = []string{nodes[0].Addr().String()}
	}
	for _, g := range nodes {
		g.crash()
	}
	for i := n - 1; i >= 0; i-- { // the seed comes last
		nodes[i] = start(t, options[i])
	}
	took := eventually(t, 3*time.Second, "everyone sees everyone again", everyone(2))
	t.Logf("after a restart of all at once everyone sees everyone within %v", took)
}
