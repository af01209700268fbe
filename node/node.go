package node

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/helenusdb/helenus/coordinator"
	"github.com/helenusdb/helenus/internal/hlc"
	"github.com/helenusdb/helenus/internal/tlsconf"
	"github.com/helenusdb/helenus/meta"
	"github.com/helenusdb/helenus/meta/formation"
	"github.com/helenusdb/helenus/meta/raftlog"
	"github.com/helenusdb/helenus/repair"
	"github.com/helenusdb/helenus/repair/history"
	"github.com/helenusdb/helenus/repair/movement"
	"github.com/helenusdb/helenus/repair/stream"
	"github.com/helenusdb/helenus/ring"
	"github.com/helenusdb/helenus/rpc"
	"github.com/helenusdb/helenus/storage"
)

// Node is one node. Use New, then Run.
type Node struct {
	o         Options
	log       *raftlog.Service
	home      *storage.Home
	engine    *storage.Engine
	snapshots *snapshots
	rpc       *rpc.Transport
	listener  net.Listener // of rpc, which closes it
	coord     *coordinator.Coordinator
	repair    *repair.Service
	streams   streams
	scheduler *repair.Scheduler
	book      atomic.Pointer[history.Book] // nil before the store is open
	clock     *hlc.Clock
	use       shardUse // what this store counts with, and where: of the goroutine that opens the store, then of the one that fills
	host      *formation.Host
	mover     *movement.Mover // nil: nothing brings rows
	keptSince atomic.Uint64   // the RingEpoch under which it was logged that this node keeps what it has lost
	self      meta.Node
	cql       atomic.Pointer[cqlService]
	started   time.Time

	engineMetrics *storage.Metrics

	services *services
	life     context.Context //nolint:containedctx // ends with the node; bounds goroutines that requests start
	endLife  context.CancelFunc
	apart    sync.WaitGroup // goroutines of life

	detector   atomic.Pointer[Detector]
	newcomers  newcomers
	losses     losses
	introduced atomic.Pointer[introduction]
	catchingUp atomic.Bool
	retired    chan struct{} // a table generation is gone; capacity 1
	gate       gate
	votes      votes
	ready      chan struct{} // closed when clients are served
	logRuns    atomic.Bool

	left    atomic.Bool  // it has left the cluster, and is about to end
	watched atomic.Int64 // when somebody asked last how an operation stands; ns since the epoch, 0: never
}

// New returns a node that has done nothing yet.
func New(o Options) (*Node, error) {
	o = o.withDefaults()
	if err := o.Config.Validate(); err != nil {
		return nil, err
	}
	n := &Node{o: o, services: newServices(), retired: make(chan struct{}, 1), ready: make(chan struct{}), started: time.Now()}
	n.life, n.endLife = context.WithCancel(context.Background())
	return n, nil
}

// Ready is closed when the node serves clients.
func (n *Node) Ready() <-chan struct{} { return n.ready }

// Left tells, once Run has returned, that the node has left the cluster: its data folder is of no use any more.
func (n *Node) Left() bool { return n.left.Load() }

// drainTime bounds the gentle part of stopping.
const drainTime = 20 * time.Second

// Run starts the node and serves until ctx ends, then drains and stops. It returns nil after a clean stop, and else
// what went wrong; *formation.Refused says that the node must not take part in the cluster.
func (n *Node) Run(ctx context.Context) error {
	err := n.start(ctx)
	if err == nil {
		select {
		case <-ctx.Done():
		case <-n.services.failed:
			err = n.services.failure
		}
	}
	if errors.Is(err, context.Canceled) && ctx.Err() != nil {
		err = nil // stopped while starting
	}
	if errors.Is(err, errLeft) {
		n.o.Logger.Info("this node has left the cluster and stops; its data folder is of no use any more")
		err = nil
	}
	gentle, cancel := context.WithTimeout(context.Background(), drainTime)
	defer cancel()
	if err = errors.Join(err, n.stop(gentle)); err != nil {
		n.o.Logger.Error("stopped", "reason", err)
	} else {
		n.o.Logger.Info("stopped")
	}
	return err
}

// start ends early when a service that it has started fails: no step waits for what cannot come any more.
func (n *Node) start(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		select {
		case <-n.services.failed:
			cancel()
		case <-ctx.Done():
		}
	}()
	defer func() { cancel(); <-watched }()
	if err := n.steps(ctx); err != nil {
		return n.services.cause(err)
	}
	close(n.ready)
	return nil
}

func (n *Node) steps(ctx context.Context) error {
	for _, step := range []func(context.Context) error{
		n.openHome, n.openLog, n.openStorage, n.makeTransport, n.makeCoordinator, n.makeRepair, n.makeStreams, n.makeMover, n.startTransport, n.tryPorts, n.form, n.startLog,
		n.startMaintenance, n.startGossip, n.startCoordinator, n.startRepair, n.startStreams, n.startMembership, n.announce, n.makeCQL, n.startAdmin,
		n.catchUp, n.startVotes, n.startMover, n.awaitRanges, n.startCQL,
	} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (n *Node) stop(gentle context.Context) error {
	err := n.services.stop(gentle)
	n.endLife()
	n.apart.Wait()
	if n.repair != nil {
		n.repair.Close()
	}
	if n.log != nil {
		err = errors.Join(err, n.log.Close())
	}
	if n.engine != nil {
		err = errors.Join(err, n.engine.Close())
	}
	if n.home != nil {
		err = errors.Join(err, n.home.Close())
	}
	return err
}

// goLife runs f on a goroutine that stop waits for.
func (n *Node) goLife(f func()) { n.apart.Go(f) }

func (n *Node) openLog(context.Context) error {
	log, err := raftlog.New(raftlog.Options{Dir: filepath.Join(n.o.Config.DataDir, storage.MetaDir), FS: n.o.FS, Self: n.home.HostID,
		Peers: peers{n}, Alive: n.alive, Generation: n.home.Generation, Rand: n.o.intn, OnApply: n.applied, Fatal: n.o.Fatal,
		ProposeTimeout: n.o.Config.DDLTimeout, AutoRemove: raftlog.AutoRemove{After: n.o.Config.AutoReplaceAfter, Fits: n.madeUpFor}, Logger: n.o.Logger})
	if err != nil {
		return err
	}
	n.log, n.gate.current = log, log.Current
	return log.Open()
}

// peers is the transport as the metadata log sees it; it exists before the transport does.
type peers struct{ n *Node }

func (p peers) Send(to ring.HostID, class rpc.Class, verb rpc.Verb, deadline time.Time, body []byte, cb rpc.Callback) {
	p.n.rpc.Send(to, class, verb, deadline, body, cb)
}

func (p peers) Call(ctx context.Context, to ring.HostID, class rpc.Class, verb rpc.Verb, body []byte) ([]byte, rpc.Status, error) {
	return p.n.rpc.Call(ctx, to, class, verb, body)
}

func (n *Node) makeTransport(context.Context) error {
	c := n.o.Config
	t, err := n.internodeTLS()
	if err != nil {
		return err
	}
	n.host = formation.NewHost(formation.HostOptions{Self: n.self, FirstSeed: n.seeds()[0], Name: c.ClusterName, Log: n.log,
		Call: peers{n}.Call, AnyRows: n.anyRows, Moves: n.moves, Alive: n.alive, Seed: n.o.uint64, Logger: n.o.Logger})
	n.rpc, err = rpc.New(rpc.Options{Self: n.home.HostID, ClusterID: n.clusterID, Epoch: func() uint64 { return n.log.Current().Epoch },
		OnEpoch: n.hearEpoch, Listen: func(context.Context) (net.Listener, error) { return n.listener, nil },
		Dial: n.o.Net.Dial, Resolve: n.resolve, NewSession: n.newSession, Admit: n.admit, OnProbe: n.host.OnProbe, TLS: t, Logger: n.o.Logger})
	return err
}

func (n *Node) internodeTLS() (rpc.TLS, error) {
	c := n.o.Config
	if c.InternodeTLSCert == "" {
		return rpc.TLS{}, nil
	}
	src, err := tlsconf.Load(tlsconf.Options{CertFile: c.InternodeTLSCert, KeyFile: c.InternodeTLSKey, CAFile: c.InternodeTLSCA,
		ClientAuth: clientAuth(c.InternodeTLSCA)})
	if err != nil {
		return rpc.TLS{}, err
	}
	n.services.start("internode certificates", src.Run, nil)
	return rpc.TLS{Mode: rpc.TLSRequired, Server: src.Server, Client: src.Client}, nil
}

func clientAuth(ca string) tlsconf.ClientAuth {
	if ca == "" {
		return tlsconf.NoClientCert
	}
	return tlsconf.RequireClientCert
}

func (n *Node) seeds() []netip.AddrPort {
	s, err := n.o.Config.SeedAddresses()
	if err != nil {
		panic("node: seeds were validated: " + err.Error())
	}
	return s
}

func (n *Node) resolve(id ring.HostID) (string, bool) {
	if m := n.log.Current().Node(id); m != nil {
		return m.Internode.String(), true
	}
	if i := n.introduced.Load(); i != nil && i.member == id {
		return i.addr.String(), true
	}
	return "", false
}

func (n *Node) admit(from ring.HostID, _ net.Addr) error {
	if m := n.log.Current().Node(from); m != nil && m.State == meta.Left {
		return fmt.Errorf("host id %s has left the cluster", from)
	}
	return nil
}

func (n *Node) newSession(from ring.HostID, _ rpc.Class) rpc.Session {
	m := &rpc.Mux{}
	m.Add(rpc.VerbMetaFirst, raftlog.VerbLast, n.log.NewSession(from))
	m.Add(verbOperator, verbOperator, operatorSession{n})
	m.Add(raftlog.VerbLast+1, verbOperator-1, n.host.NewSession(n.life, n.goLife))
	m.Add(rpc.VerbCoordinatorFirst, rpc.VerbCoordinatorLast, n.coord.NewSession(from))
	m.Add(stream.VerbFirst, stream.VerbLast, gated{n.streams.server.NewSession(from), n.log.Current})
	m.Add(repair.VerbFirst, repair.VerbLast, gated{n.repair.NewSession(), n.log.Current})
	return m
}

func (n *Node) makeCoordinator(context.Context) error {
	c := n.o.Config
	store := engine{n.engine, &n.gate, &n.votes}
	low, err := store.lowBound()
	if err != nil {
		return err
	}
	n.coord, err = coordinator.New(coordinator.Options{Self: n.home.HostID, Cluster: n.log, Transport: n.rpc, Storage: store, Hints: store,
		Registers: store, LowBound: low, Boot: uint64(n.home.Generation), Timestamp: n.clock.Timestamp,
		Alive: n.reachable, DownSince: n.downSince, IsUnknownTable: isUnknownTable, IsBatchFull: isBatchFull,
		IsInvalid: isInvalid, ReadTimeout: c.ReadTimeout, RangeTimeout: c.RangeTimeout, WriteTimeout: c.WriteTimeout, CASTimeout: c.CASTimeout,
		Batchlog: store, BatchlogThrottle: int64(c.BatchlogThrottle), Seed: n.o.uint64(),
		CounterTimeout: c.CounterTimeout, Shard: n.use.shard,
		HintsOff: !c.HintedHandoff, HintWindow: c.HintWindow, HintThrottle: int64(c.HintThrottle), HintsBytesMax: int64(c.HintsPerHostMax),
		Now: n.o.Now, Logger: n.o.Logger})
	return err
}

// startTransport listens for other nodes before the node has asked to join: they may have to reach it. The port must
// be free, or the node cannot start.
func (n *Node) startTransport(ctx context.Context) (err error) {
	c := n.o.Config
	if n.listener, err = n.o.Net.Listen(ctx, netip.AddrPortFrom(c.ListenAddress, uint16(c.StoragePort)).String()); err != nil {
		return fmt.Errorf("node: storage_port: %w", err)
	}
	n.services.start("internode transport", n.rpc.Run, nil)
	return nil
}

// tryPorts looks whether the ports that are listened at later are free: a node that cannot serve must not have founded or
// joined a cluster before it notices.
func (n *Node) tryPorts(ctx context.Context) error {
	c := n.o.Config
	for _, p := range []struct {
		key  string
		addr netip.AddrPort
	}{{"native_transport_port", c.NativeListen()}, {"gossip_port", c.Gossip()}, {"admin_port", c.Admin()}} {
		if p.addr.Port() == 0 {
			continue
		}
		l, err := n.o.Net.Listen(ctx, p.addr.String())
		if err != nil {
			return fmt.Errorf("node: %s: %w", p.key, err)
		}
		if err := l.Close(); err != nil {
			return fmt.Errorf("node: %s: %w", p.key, err)
		}
	}
	return nil
}

// startCoordinator: before it stops, the others are told, so that they ask other replicas while this one still answers.
func (n *Node) startCoordinator(context.Context) error {
	n.services.start("coordinator", n.coord.Run, n.sayGoodbye)
	return nil
}

func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// TLS of the native port.
func (n *Node) nativeTLS() (func() *tls.Config, error) {
	c := n.o.Config
	if c.NativeTLSCert == "" {
		return nil, nil
	}
	src, err := tlsconf.Load(tlsconf.Options{CertFile: c.NativeTLSCert, KeyFile: c.NativeTLSKey, CAFile: c.NativeTLSCA, ClientAuth: clientAuth(c.NativeTLSCA)})
	if err != nil {
		return nil, err
	}
	n.services.start("native certificates", src.Run, nil)
	return src.Server, nil
}
