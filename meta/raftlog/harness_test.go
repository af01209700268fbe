package raftlog

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/helenusdb/helenus/internal/memnet"
	"github.com/helenusdb/helenus/meta"
	"github.com/helenusdb/helenus/ring"
	"github.com/helenusdb/helenus/rpc"
	"github.com/helenusdb/helenus/schema"
)

// cluster is some services that talk over real transports and a network in memory, inside a synctest bubble.
type cluster struct {
	t     testing.TB
	seed  uint64
	net   *memnet.Network
	nodes []*node
	tune  func(*Options)
	every uint64 // of Service

	loss     atomic.Int64 // of 100 Raft messages, this many are lost
	lostAcks atomic.Int64 // of 100 calls, this many are carried out and their answers lost
	rand     *lockedRand

	historyM sync.Mutex
	history  map[uint64][32]byte // by epoch: the state that some node has applied, which all others must come to
}

// lockedRand is for decisions of several goroutines.
type lockedRand struct {
	mu sync.Mutex
	r  *rand.Rand
}

func (l *lockedRand) IntN(n int) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.r.IntN(n)
}

func (l *lockedRand) Perm(n int) []int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.r.Perm(n)
}

// node is one service through all its starts.
type node struct {
	c     *cluster
	i     int
	id    ring.HostID
	fs    *vfs.MemFS
	rack  string
	gen   int64
	svc   *Service
	rpc   *rpc.Transport
	up    bool
	seen  []uint64 // epochs in the order in which they became current, over all starts
	seenM sync.Mutex
	stop  func() error
	pulls sync.WaitGroup

	ops     atomic.Int64 // file system calls until the power fails, 0: never
	cut     chan struct{}
	leaves  *vfs.MemFS  // what the power failure left
	percent int         // of the unsynced data that survives it
	seenCut int         // len(seen) then: what was current has to survive, what came later nobody heard of
	dark    atomic.Bool // the power has failed: what the node does now leaves no trace
}

func hostID(i int) ring.HostID { return ring.HostID{0: byte(i + 1), 15: byte(i + 1)} }

func hostName(i int) string { return fmt.Sprintf("10.0.0.%d", i+1) }

func addrOf(i, port int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(i + 1)}), uint16(port))
}

// newCluster returns n hosts of which the first has founded the cluster; the others are empty and not started.
func newCluster(t testing.TB, seed uint64, n int, tune func(*cluster)) *cluster {
	c := &cluster{t: t, seed: seed, net: memnet.New(memnet.Options{Delay: time.Millisecond}), every: compactEvery,
		rand: &lockedRand{r: rand.New(rand.NewPCG(seed, 99))}, history: map[uint64][32]byte{}}
	for i := range n {
		c.nodes = append(c.nodes, &node{c: c, i: i, id: hostID(i), fs: vfs.NewCrashableMem(), rack: fmt.Sprintf("r%d", i%3)})
	}
	if tune != nil {
		tune(c)
	}
	t.Cleanup(func() {
		for _, n := range c.nodes {
			n.halt()
		}
	})
	c.nodes[0].open()
	if err := c.nodes[0].svc.Found(&meta.Command{Kind: meta.Found, Node: c.nodes[0].member(), ClusterID: clusterID, ClusterName: "test", Partitioner: ring.Murmur3{}.Name()}); err != nil {
		t.Fatal(err)
	}
	c.nodes[0].run()
	return c
}

// formed is newCluster with all hosts joined and the voters settled.
func formed(t testing.TB, seed uint64, n int, tune func(*cluster)) *cluster {
	t.Helper()
	c := newCluster(t, seed, n, tune)
	for _, n := range c.nodes[1:] {
		n.start()
		c.join(n)
	}
	want := min(meta.VotersMax, n-(n+1)%2)
	c.eventually(30*time.Second, fmt.Sprintf("%d voters", want), func() bool {
		for _, n := range c.nodes {
			if conf := n.conf(); len(conf.GetVoters()) != want || len(conf.GetVoters())+len(conf.GetLearners()) != len(c.nodes) || len(conf.GetVotersOutgoing()) > 0 {
				return false
			}
		}
		return true
	})
	return c
}

var clusterID = [16]byte{0xc1}

func (n *node) member() meta.Node {
	return meta.Node{ID: n.id, Generation: n.gen, Internode: addrOf(n.i, 7000), Gossip: addrOf(n.i, 7946), Native: addrOf(n.i, 9042), DC: "dc1", Rack: n.rack,
		Tokens: []ring.Token{ring.Token(n.i)}, Version: meta.Version, ReleaseVersion: "5.0.8"}
}

// join makes a started host a member, as formation does.
func (c *cluster) join(n *node) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	propose := func(build func(*meta.State) (*meta.Command, bool, error)) {
		c.t.Helper()
		if _, err := c.nodes[0].svc.Propose(ctx, build); err != nil {
			c.t.Fatalf("seed %d: join of %d: %v", c.seed, n.i, err)
		}
	}
	propose(func(s *meta.State) (*meta.Command, bool, error) {
		m := n.member()
		m.Quiet = true
		return &meta.Command{Kind: meta.AddPending, Node: m}, s.Node(n.id) == nil, nil
	})
	propose(func(s *meta.State) (*meta.Command, bool, error) {
		m := s.Node(n.id)
		return &meta.Command{Kind: meta.CommitJoin, Node: meta.Node{ID: n.id, Since: m.Since}}, m.State == meta.Pending, nil
	})
}

func (n *node) start() {
	n.open()
	n.run()
}

// open opens the service on what the disk holds.
func (n *node) open() {
	n.c.t.Helper()
	if err := n.tryOpen(); err != nil {
		n.c.t.Fatalf("seed %d: node %d: %v", n.c.seed, n.i, err)
	}
}

func (n *node) tryOpen() error {
	n.gen++
	n.dark.Store(false)
	r := rand.New(rand.NewPCG(n.c.seed, uint64(n.i)<<32|uint64(n.gen)))
	o := Options{Dir: "meta", FS: errorfs.Wrap(n.fs, errorfs.InjectorFunc(n.op)), Self: n.id, Peers: peers{n}, Generation: n.gen, Rand: r.IntN, OnApply: n.applied,
		Fatal: func(err error) { n.c.t.Errorf("node %d: fatal: %v", n.i, err) }}
	if os.Getenv("RAFTLOG_DEBUG") != "" {
		o.Logger = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug})).With("node", n.i)
	}
	if n.c.tune != nil {
		n.c.tune(&o)
	}
	svc, err := New(o)
	if err != nil {
		return err
	}
	svc.every = n.c.every
	if err := svc.Open(); err != nil {
		return err
	}
	n.svc = svc
	if epoch := svc.Current().Epoch; len(n.seen) > 0 && epoch < n.seen[len(n.seen)-1] {
		if !svc.Suspect() {
			n.c.t.Errorf("seed %d: node %d went back from epoch %d to %d", n.c.seed, n.i, n.seen[len(n.seen)-1], epoch)
		}
		n.seen = nil
	}
	return nil
}

func (n *node) applied(before, after *meta.State, _ []meta.Event) {
	n.seenM.Lock()
	defer n.seenM.Unlock()
	if after.Epoch <= before.Epoch || len(n.seen) > 0 && after.Epoch <= n.seen[len(n.seen)-1] {
		n.c.t.Errorf("seed %d: node %d: epoch %d after %d", n.c.seed, n.i, after.Epoch, before.Epoch)
	}
	n.seen = append(n.seen, after.Epoch)
	if !n.dark.Load() {
		n.c.compare(n.i, after)
	}
}

// compare notices two histories: all states of one epoch are the same, whoever applied them and whenever.
func (c *cluster) compare(i int, s *meta.State) {
	sum := sha256.Sum256(s.Encode())
	c.historyM.Lock()
	defer c.historyM.Unlock()
	if known, ok := c.history[s.Epoch]; ok && known != sum {
		c.t.Errorf("seed %d: node %d has another epoch %d than a node before it", c.seed, i, s.Epoch)
	}
	c.history[s.Epoch] = sum
}

// run starts transport and loop of an open service.
func (n *node) run() {
	n.c.t.Helper()
	svc, host := n.svc, n.c.net.Host(hostName(n.i))
	t, err := rpc.New(rpc.Options{Self: n.id, ClusterID: func() [16]byte { return clusterID }, Epoch: func() uint64 { return svc.Current().Epoch },
		OnEpoch: n.hear, Listen: func(context.Context) (net.Listener, error) { return host.Listen(":7000") }, Dial: host.Dial,
		Resolve:    func(id ring.HostID) (string, bool) { return addrOf(int(id[0])-1, 7000).String(), true },
		NewSession: func(from ring.HostID, _ rpc.Class) rpc.Session { return svc.NewSession(from) }, ExpiryTick: 20 * time.Millisecond})
	if err != nil {
		n.c.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	var errRPC, errLog error
	n.rpc = t
	wg.Go(func() { errRPC = t.Run(ctx) })
	wg.Go(func() { errLog = svc.Run(ctx) })
	n.up = true
	time.Sleep(time.Millisecond) // the transport listens
	if svc.Suspect() {
		self := n.member()
		self.Health = meta.Suspect
		n.pulls.Go(func() { announce(ctx, svc, self) })
	}
	n.stop = func() error {
		cancel()
		wg.Wait()
		n.pulls.Wait()
		if errors.Is(errRPC, context.Canceled) {
			errRPC = nil
		}
		return errors.Join(errRPC, errLog)
	}
}

// announce tells the cluster of this start, as the node does.
func announce(ctx context.Context, svc *Service, self meta.Node) {
	for ctx.Err() == nil {
		attempt, cancel := context.WithTimeout(ctx, 2*time.Second)
		_, err := svc.Propose(attempt, func(s *meta.State) (*meta.Command, bool, error) {
			me := s.Node(self.ID)
			return &meta.Command{Kind: meta.UpdateNode, Node: self}, me != nil && me.Generation < self.Generation, nil
		})
		cancel()
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	}
}

func (n *node) hear(from ring.HostID, epoch uint64) {
	svc := n.svc
	if epoch > svc.Current().Epoch {
		n.pulls.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			defer cancel()
			_ = svc.CatchUp(ctx, from) // the next message brings another chance
		})
	}
}

// halt stops the node cleanly.
func (n *node) halt() {
	if !n.up {
		return
	}
	n.up = false
	if err := n.stop(); err != nil {
		n.c.t.Errorf("seed %d: node %d: %v", n.c.seed, n.i, err)
	}
}

// crash ends the node as a power loss does: of what was not synced, some is lost.
func (n *node) crash() {
	if !n.up {
		return
	}
	n.up = false
	n.dark.Store(true)
	n.c.net.Crash(hostName(n.i))
	percent := []int{0, 0, 50, 100}[n.c.rand.IntN(4)]
	n.seenM.Lock()
	seen := len(n.seen) // the loop runs on while the disk is copied: what it does then may be gone
	n.seenM.Unlock()
	left := n.fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: percent, RNG: rand.New(rand.NewPCG(n.c.seed, uint64(n.gen)))})
	_ = n.stop()
	n.ops.Store(0)
	if n.leaves != nil {
		left, seen = n.leaves, n.seenCut
	}
	n.seen = n.seen[:seen]
	n.fs, n.leaves = left, nil
	n.c.net.Isolate(hostName(n.i), false)
}

// failPowerIn makes the power fail inside the k-th call of the file system from now on. The channel is closed then; nothing
// that the node says from that instant on leaves it. crash ends it.
func (n *node) failPowerIn(k, percent int) <-chan struct{} {
	n.cut, n.percent = make(chan struct{}), percent
	n.ops.Store(int64(k))
	return n.cut
}

func (n *node) op(errorfs.Op) error {
	if n.ops.Load() > 0 && n.ops.Add(-1) == 0 {
		n.dark.Store(true)
		n.c.net.Isolate(hostName(n.i), true)
		n.seenM.Lock()
		n.seenCut = len(n.seen)
		n.seenM.Unlock()
		n.leaves = n.fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: n.percent, RNG: rand.New(rand.NewPCG(n.c.seed, uint64(n.gen)))})
		close(n.cut)
	}
	return nil
}

// conf is Raft's membership as the node has applied it.
func (n *node) conf() *pb.ConfState {
	conf := &pb.ConfState{}
	_ = n.svc.inLoop(context.Background(), func() error { conf = n.svc.store.conf; return nil })
	return conf
}

// peers is the transport with lost messages and lost answers.
type peers struct{ n *node }

func (p peers) Send(to ring.HostID, class rpc.Class, verb rpc.Verb, deadline time.Time, body []byte, cb rpc.Callback) {
	if int64(p.n.c.rand.IntN(100)) >= p.n.c.loss.Load() {
		p.n.rpc.Send(to, class, verb, deadline, body, cb)
	}
}

func (p peers) Call(ctx context.Context, to ring.HostID, class rpc.Class, verb rpc.Verb, body []byte) ([]byte, rpc.Status, error) {
	out, status, err := p.n.rpc.Call(ctx, to, class, verb, body)
	if int64(p.n.c.rand.IntN(100)) < p.n.c.lostAcks.Load() {
		return nil, 0, errors.New("the answer was lost")
	}
	return out, status, err
}

// eventually waits until cond holds.
func (c *cluster) eventually(within time.Duration, what string, cond func() bool) {
	c.t.Helper()
	end := time.Now().Add(within)
	for !cond() {
		if time.Now().After(end) {
			c.t.Fatalf("seed %d: not within %s: %s", c.seed, within, what)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// leader returns the node that most agree on; nil when no running node leads.
func (c *cluster) leader() *node {
	for _, n := range c.nodes {
		if !n.up {
			continue
		}
		if id, ok := n.svc.Leader(); ok && id == n.id {
			return n
		}
	}
	return nil
}

// settled waits until all running nodes are at one epoch with one state, and returns it. What they publish goes on changing: each
// is looked at once.
func (c *cluster) settled() *meta.State {
	c.t.Helper()
	var states []*meta.State
	c.eventually(30*time.Second, "one epoch", func() bool {
		states = states[:0]
		for _, n := range c.nodes {
			if n.up {
				states = append(states, n.svc.Current())
			}
		}
		return !slices.ContainsFunc(states, func(s *meta.State) bool { return s.Epoch != states[0].Epoch })
	})
	for _, s := range states {
		if string(s.Encode()) != string(states[0].Encode()) {
			c.t.Errorf("seed %d: nodes differ at epoch %d", c.seed, s.Epoch)
		}
	}
	return states[0]
}

// createKeyspace proposes CREATE KEYSPACE on the node and returns its error.
func (n *node) createKeyspace(ctx context.Context, name string) error {
	_, err := n.svc.Propose(ctx, func(s *meta.State) (*meta.Command, bool, error) {
		plan, err := s.Catalog.CreateKeyspace(schema.CreateKeyspace{Name: name, Properties: []schema.Property{{Name: "replication", IsMap: true,
			Map: []schema.Pair{{Key: "class", Value: "SimpleStrategy"}, {Key: "replication_factor", Value: "1"}}}}}, env(n))
		if err != nil {
			return nil, false, err
		}
		return &meta.Command{Kind: meta.Schema, Changes: plan.Changes}, len(plan.Changes) > 0, nil
	})
	return err
}

// createTable proposes CREATE TABLE IF NOT EXISTS ks.t.
func (n *node) createTable(ctx context.Context) error {
	_, err := n.svc.Propose(ctx, func(s *meta.State) (*meta.Command, bool, error) {
		plan, err := s.Catalog.CreateTable(schema.CreateTable{Keyspace: "ks", Name: "t", IfNotExists: true, PartitionKey: []string{"k"},
			Columns: []schema.ColumnSpec{{Name: "k", Type: schema.TypeSpec{Name: "int"}}}}, env(n))
		if err != nil {
			return nil, false, err
		}
		return &meta.Command{Kind: meta.Schema, Changes: plan.Changes}, len(plan.Changes) > 0, nil
	})
	return err
}

func env(n *node) schema.Env {
	return schema.Env{NewID: func() schema.ID {
		return schema.ID{byte(n.i + 1), byte(n.gen), byte(n.c.rand.IntN(256)), byte(n.c.rand.IntN(256))}
	},
		Now: func() time.Time { return time.Unix(1, 0) }}
}

func keyspaces(s *meta.State) (out []string) {
	for _, k := range s.Catalog.Keyspaces() {
		if !schema.IsSystemKeyspace(k.Name) {
			out = append(out, k.Name)
		}
	}
	slices.Sort(out)
	return out
}
