package formation

import (
	"context"
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

	"github.com/helenusdb/helenus/internal/memnet"
	"github.com/helenusdb/helenus/meta"
	"github.com/helenusdb/helenus/meta/raftlog"
	"github.com/helenusdb/helenus/ring"
	"github.com/helenusdb/helenus/rpc"
)

// world is some hosts in a synctest bubble.
type world struct {
	moves bool // rows can be brought to nodes that join
	t     *testing.T
	seed  uint64
	net   *memnet.Network
	all   []*proc
	r     *rand.Rand // the test's goroutine only
}

// proc is one host: its disk, and the node that runs on it, which does at its start what package node does.
type proc struct {
	w     *world
	i     int
	id    ring.HostID // durable
	gen   int64       // durable
	fs    *vfs.MemFS
	seeds []netip.AddrPort
	name  string
	rack  string

	replaces *ring.HostID // nil: nobody

	rows   atomic.Int64 // of user tables, visible; durable at once
	inside atomic.Int64 // writes that were let in and are not visible yet

	log  *raftlog.Service
	rpc  *rpc.Transport
	stop func()
	up   atomic.Bool
	in   atomic.Bool // it serves clients
	err  error       // why it ended by itself; valid once done is closed
	done chan struct{}
}

func newWorld(t *testing.T, seed uint64, n int) *world {
	w := &world{t: t, seed: seed, net: memnet.New(memnet.Options{Delay: time.Millisecond}), r: rand.New(rand.NewPCG(seed, 5))}
	var seeds []netip.AddrPort
	for i := range min(n, 3) {
		seeds = append(seeds, addr(i, 7000))
	}
	for i := range n {
		p := &proc{w: w, i: i, seeds: seeds, name: "test", rack: fmt.Sprintf("r%d", i%2)}
		p.wipe()
		w.all = append(w.all, p)
	}
	t.Cleanup(func() {
		for _, p := range w.all {
			p.crash()
		}
	})
	return w
}

// alive tells whether a host with that id is up.
func (w *world) alive(id ring.HostID) bool {
	return slices.ContainsFunc(w.all, func(p *proc) bool { return p.up.Load() && p.id == id })
}

// cloneAll keeps what was not synced too.
var cloneAll = vfs.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: rand.New(rand.NewPCG(1, 1))}

func hostName(i int) string { return fmt.Sprintf("10.0.0.%d", i+1) }

// wipe gives the host an empty disk: it will have another host id.
func (p *proc) wipe() {
	p.fs = vfs.NewCrashableMem()
	p.id = ring.HostID{0: byte(p.i + 1), 1: p.id[1] + 1, 15: byte(p.i + 1)}
	p.gen = 0
	p.rows.Store(0)
}

func (p *proc) node() meta.Node {
	return meta.Node{ID: p.id, Generation: p.gen, Internode: addr(p.i, 7000), Gossip: addr(p.i, 7946), Native: addr(p.i, 9042), DC: "dc1", Rack: p.rack,
		Version: meta.Version, ReleaseVersion: "5.0.8"}
}

// start runs the node; in says when it has become part of a cluster.
func (p *proc) start() {
	p.gen = max(p.gen+1, time.Now().Unix())
	p.in.Store(false)
	ctx, cancel := context.WithCancel(context.Background())
	var life sync.WaitGroup
	p.done = make(chan struct{})
	p.stop = func() {
		cancel()
		<-p.done
	}
	p.up.Store(true)
	go func() {
		defer close(p.done)
		defer life.Wait()
		p.err = p.run(ctx, cancel, &life)
	}()
}

func (p *proc) run(ctx context.Context, cancel context.CancelFunc, life *sync.WaitGroup) error {
	r := rand.New(rand.NewPCG(p.w.seed, uint64(p.i)<<40|uint64(p.gen)))
	logger := slog.New(slog.DiscardHandler)
	if os.Getenv("FORMATION_DEBUG") != "" {
		logger = slog.New(slog.NewTextHandler(os.Stderr, nil)).With("node", p.i)
	}
	log, err := raftlog.New(raftlog.Options{Dir: "meta", FS: p.fs, Self: p.id, Peers: late{p}, Generation: p.gen, Rand: r.IntN, Logger: logger,
		Fatal: func(err error) { p.w.t.Errorf("fatal: %v", err) }})
	if err != nil {
		return err
	}
	if err := log.Open(); err != nil {
		return err
	}
	p.log = log
	defer log.Close()
	var introduced atomic.Pointer[Hello]
	host := NewHost(HostOptions{Self: p.node(), FirstSeed: p.seeds[0], Name: p.name, Log: log, Call: late{p}.Call, AnyRows: p.anyRows, Moves: func() bool { return p.w.moves },
		Alive: func(id ring.HostID) bool { return p.w.alive(id) }, Seed: func() uint64 { return p.w.seed + uint64(p.i) }, Logger: logger})
	h := p.w.net.Host(hostName(p.i))
	t, err := rpc.New(rpc.Options{Self: p.id, Epoch: func() uint64 { return log.Current().Epoch },
		ClusterID: func() [16]byte {
			if s := log.Current(); s.Founded() {
				return s.ClusterID
			}
			if i := introduced.Load(); i != nil {
				return i.ClusterID
			}
			return [16]byte{}
		},
		Resolve: func(id ring.HostID) (string, bool) {
			if m := log.Current().Node(id); m != nil {
				return m.Internode.String(), true
			}
			if i := introduced.Load(); i != nil && i.Host == id {
				return i.Internode.String(), true
			}
			return "", false
		},
		OnEpoch: func(from ring.HostID, epoch uint64) {
			if epoch > log.Current().Epoch {
				life.Go(func() {
					ctx, cancel := context.WithTimeout(ctx, time.Second)
					defer cancel()
					_ = log.CatchUp(ctx, from)
				})
			}
		},
		Listen: func(context.Context) (net.Listener, error) { return h.Listen(":7000") }, Dial: h.Dial, OnProbe: host.OnProbe, ExpiryTick: 20 * time.Millisecond,
		NewSession: func(from ring.HostID, _ rpc.Class) rpc.Session {
			m := &rpc.Mux{}
			m.Add(1, raftlog.VerbLast, log.NewSession(from))
			m.Add(raftlog.VerbLast+1, rpc.VerbMetaLast, host.NewSession(ctx, func(f func()) { life.Go(f) }))
			return m
		}})
	if err != nil {
		return err
	}
	p.rpc = t
	errs := make(chan error, 2)
	life.Go(func() { errs <- t.Run(ctx) })
	var once sync.Once
	runLog := func() { once.Do(func() { life.Go(func() { errs <- log.Run(ctx) }) }) }
	err = p.form(ctx, log, r, &introduced, runLog)
	if err == nil {
		runLog()
		err = p.announce(ctx, log)
	}
	if err == nil {
		p.in.Store(true)
		select {
		case err = <-errs:
		case <-ctx.Done():
		}
	}
	cancel()
	life.Wait()
	if errors.Is(err, context.Canceled) {
		err = nil
	}
	return err
}

func (p *proc) form(ctx context.Context, log *raftlog.Service, r *rand.Rand, introduced *atomic.Pointer[Hello], runLog func()) error {
	o := Options{Self: p.node(), ClusterName: p.name, NumTokens: 4, Seeds: p.seeds, Pledged: log.Pledged(), Partitioner: ring.Murmur3{}.Name(),
		Probe: func(ctx context.Context, addr string, body []byte) ([]byte, error) {
			return p.rpc.Probe(ctx, addr, body)
		}, Call: late{p}.Call,
		Introduce: func(ctx context.Context, cluster [16]byte, member ring.HostID, addr netip.AddrPort) error {
			introduced.Store(&Hello{ClusterID: cluster, Host: member, Internode: addr})
			runLog()
			return log.Pledge(ctx, cluster)
		}}
	if p.replaces != nil {
		o.Replaces = func(context.Context, ring.HostID) (ring.HostID, error) { return *p.replaces, nil }
	}
	if s := log.Current(); owns(s.Node(p.id)) {
		return Check(ctx, o, s)
	}
	out, err := Form(ctx, o)
	if err != nil {
		return err
	}
	if out.Founds {
		n := p.node()
		n.Tokens = ring.AllocateInitial([]ring.Node{{ID: n.ID, DC: n.DC, Rack: n.Rack}}, 4, 3, p.w.seed)[0]
		return log.Found(&meta.Command{Kind: meta.Found, Node: n, ClusterID: [16]byte{1, byte(r.Uint32()), byte(r.Uint32()), byte(p.i)}, ClusterName: p.name, Partitioner: ring.Murmur3{}.Name()})
	}
	if err := log.Adopt(ctx, out.State); err != nil {
		return err
	}
	return Check(ctx, o, log.Current())
}

// announce tells the cluster of this start; it waits for no quorum.
func (p *proc) announce(ctx context.Context, log *raftlog.Service) error {
	short, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	_, err := log.Propose(short, func(s *meta.State) (*meta.Command, bool, error) {
		me := s.Node(p.id)
		return &meta.Command{Kind: meta.UpdateNode, Node: p.node()}, me != nil && me.Generation < p.gen, nil
	})
	var refused *meta.Refused
	if errors.As(err, &refused) {
		return err
	}
	return nil
}

// late is the transport, which does not exist yet when the log is made.
type late struct{ p *proc }

func (l late) Send(to ring.HostID, class rpc.Class, verb rpc.Verb, deadline time.Time, body []byte, cb rpc.Callback) {
	l.p.rpc.Send(to, class, verb, deadline, body, cb)
}

func (l late) Call(ctx context.Context, to ring.HostID, class rpc.Class, verb rpc.Verb, body []byte) ([]byte, rpc.Status, error) {
	return l.p.rpc.Call(ctx, to, class, verb, body)
}

// write is a write to a user table that arrives here and takes its time to become visible; false when it is not let in.
func (p *proc) write(takes time.Duration) bool {
	p.inside.Add(1)
	defer p.inside.Add(-1)
	if p.log.Current().Quiet() {
		return false
	}
	time.Sleep(takes)
	p.rows.Add(1)
	return true
}

func (p *proc) anyRows(ctx context.Context) (bool, error) {
	for p.log.Current().Quiet() && p.inside.Load() > 0 {
		select {
		case <-ctx.Done():
			return false, ctx.Err()
		case <-time.After(time.Millisecond):
		}
	}
	return p.rows.Load() > 0, nil
}

// crash ends the node as a power loss does.
func (p *proc) crash() {
	if !p.up.Swap(false) {
		return
	}
	p.w.net.Crash(hostName(p.i))
	left := p.fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 50, RNG: rand.New(rand.NewPCG(p.w.seed, uint64(p.gen)))})
	p.stop()
	p.fs = left
	p.in.Store(false)
}

// ended tells whether the node has ended by itself, and why.
func (p *proc) ended() (error, bool) {
	select {
	case <-p.done:
		return p.err, true
	default:
		return nil, false
	}
}

// eventually waits until cond holds; it fails at once when a node ends by itself.
func (w *world) eventually(within time.Duration, what string, cond func() bool) {
	w.t.Helper()
	for end := time.Now().Add(within); !cond(); time.Sleep(25 * time.Millisecond) {
		for _, p := range w.all {
			if p.up.Load() {
				if err, ended := p.ended(); ended {
					w.t.Fatalf("seed %d: node %d has ended: %v", w.seed, p.i, err)
				}
			}
		}
		if time.Now().After(end) {
			w.t.Fatalf("seed %d: not within %s: %s", w.seed, within, what)
		}
	}
}

// oneCluster waits until all hosts are members of one cluster and know it.
func (w *world) oneCluster(within time.Duration) *meta.State {
	w.t.Helper()
	var s *meta.State
	w.eventually(within, "one cluster", func() bool {
		s = nil
		for _, p := range w.all {
			if !p.up.Load() || !p.in.Load() {
				return false
			}
			now := p.log.Current()
			if s != nil && (now.ClusterID != s.ClusterID || now.Epoch != s.Epoch) || len(now.Ring.Nodes()) != len(w.all) || now.Other != nil {
				return false
			}
			s = now
		}
		return true
	})
	return s
}
