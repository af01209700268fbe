package workload

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/helenusdb/helenus/config"
	"github.com/helenusdb/helenus/node"
	"github.com/helenusdb/helenus/storage"
)

// real is a cluster of nodes in memory with real sockets on 127.0.22.1 and up, without faults.
type real struct {
	nodes    int
	features Features
	records  atomic.Int64
}

const realPort = 19042

func startReal(t *testing.T, nodes int, f Features) *real {
	t.Helper()
	var seeds []string
	for i := range nodes {
		seeds = append(seeds, fmt.Sprintf("127.0.22.%d", i+1))
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, nodes)
	t.Cleanup(func() {
		cancel()
		for range nodes {
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}
	})
	var all []*node.Node
	for i := range nodes {
		c := config.Default()
		c.ListenAddress, c.Seeds, c.DiskReserve = netip.MustParseAddr(seeds[i]), seeds, 0
		c.StoragePort, c.GossipPort, c.NativePort, c.AdminPort = 17000, 17946, realPort, 19180
		c.BlockCache, c.RowCache, c.Memtable = 1<<20, 1<<20, 1<<20
		n, err := node.New(node.Options{Config: c, FS: storage.Memory(), Fatal: func(err error) { t.Errorf("fatal: %v", err) }})
		if err != nil {
			t.Fatal(err)
		}
		go func() { ended <- n.Run(ctx) }()
		all = append(all, n)
	}
	for _, n := range all {
		select {
		case <-n.Ready():
		case <-time.After(30 * time.Second):
			t.Fatal("a node is not ready")
		}
	}
	return &real{nodes: nodes, features: f}
}

func (r *real) Nodes() int { return r.nodes }

func (r *real) Members() []int {
	var out []int
	for i := range r.nodes {
		out = append(out, i)
	}
	return out
}

func (r *real) Dial(ctx context.Context, node int) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, "tcp", fmt.Sprintf("127.0.22.%d:%d", node+1, realPort))
}

func (r *real) Rand(stream string) *rand.Rand {
	var seed [32]byte
	copy(seed[:], stream)
	return rand.New(rand.NewChaCha8(seed))
}

func (r *real) Now() time.Time { return time.Now() }

func (r *real) Record(string, string, ...any) { r.records.Add(1) }

func (r *real) Features() Features { return r.features }

// TestAgainstRealNodes: on a healthy cluster each workload gets work done and finds nothing wrong.
func TestAgainstRealNodes(t *testing.T) {
	length := 3 * time.Second
	if testing.Short() {
		length = time.Second
	}
	for _, server := range []bool{false, true} {
		t.Run(fmt.Sprintf("server timestamps %v", server), func(t *testing.T) {
			env := startReal(t, 3, Features{TTL: true, Deletes: true, Pages: true, ServerTimestamps: server})
			for _, k := range All() {
				if k.Wants(env.features) {
					t.Run(k.Name, func(t *testing.T) { drive(t, env, k.New(Options{Keys: 4, Pace: time.Millisecond}), length) })
				}
			}
		})
		if testing.Short() {
			break
		}
	}
}

// drive runs w for length, and on a slow machine until it has done something worth looking at.
func drive(t *testing.T, env Env, w Workload, length time.Duration) {
	const least = 100
	ctx, cancel := context.WithTimeout(t.Context(), length+time.Minute)
	defer cancel()
	if err := w.Setup(ctx, env); err != nil {
		t.Fatal(err)
	}
	run, done := context.WithCancel(ctx)
	defer done()
	go func() {
		time.Sleep(length)
		for w.Ops() < least && run.Err() == nil {
			time.Sleep(time.Millisecond)
		}
		done()
	}()
	if err := w.Run(run, env); err != nil {
		t.Fatal(err)
	}
	for _, v := range w.Verify(ctx, env) {
		t.Error(v)
	}
	if w.Ops() < least {
		t.Errorf("%d operations", w.Ops())
	}
	t.Logf("%d operations", w.Ops())
}

// TestNames: constructors are named as their workloads are, and no name comes twice.
func TestNames(t *testing.T) {
	seen := map[string]bool{}
	for _, k := range All() {
		if name := k.New(Options{}).Name(); name != k.Name || seen[name] || strings.ToLower(name) != name {
			t.Errorf("constructor %s makes %s", k.Name, name)
		}
		seen[k.Name] = true
	}
}
