package node

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/helenusdb/helenus/coordinator"
	"github.com/helenusdb/helenus/cql/system"
	"github.com/helenusdb/helenus/gossip"
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
	"github.com/helenusdb/helenus/row"
	"github.com/helenusdb/helenus/rpc"
	"github.com/helenusdb/helenus/schema"
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
	shard     row.ShardID // what this store counts with
	host      *formation.Host
	mover     *movement.Mover // nil: nothing brings rows
	self      meta.Node
	cql       atomic.Pointer[cqlService]
	started   time.Time

	engineMetrics *storage.Metrics

	services *services
	life     context.Context //nolint:containedctx // ends with the node; bounds goroutines that requests start
	endLife  context.CancelFunc
	apart    sync.WaitGroup // goroutines of life

	detector   atomic.Pointer[Detector]
	introduced atomic.Pointer[introduction]
	catchingUp atomic.Bool
	retired    chan struct{} // a table generation is gone; capacity 1
	gate       gate
	ready      chan struct{} // closed when clients are served
	logRuns    atomic.Bool
}

// introduction is what a joining node knows of the cluster before it has its state.
type introduction struct {
	cluster [16]byte
	member  ring.HostID
	addr    netip.AddrPort
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
		n.catchUp, n.startMover, n.awaitRanges, n.startCQL,
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

func (n *Node) openHome(context.Context) error {
	c := n.o.Config
	home, err := storage.OpenHome(n.o.FS, c.DataDir, n.o.uuid2host, n.o.Now().Unix())
	if err != nil {
		return err
	}
	n.home = home
	n.self = meta.Node{ID: home.HostID, Generation: home.Generation, Internode: c.Internode(), Gossip: n.gossipAddr(),
		Native: c.Native(), DC: c.DataCenter, Rack: c.Rack, Version: meta.Version, ReleaseVersion: system.ReleaseVersion}
	n.o.Logger.Info("data folder opened", "dir", c.DataDir, "host_id", home.HostID.String(), "generation", home.Generation, "new", home.Created)
	return nil
}

func (o *Options) uuid2host() ring.HostID { return ring.HostID(o.uuid()) }

func (n *Node) gossipAddr() netip.AddrPort {
	return netip.AddrPortFrom(n.o.Config.Internode().Addr(), uint16(n.o.Config.GossipPort))
}

func (n *Node) openLog(context.Context) error {
	log, err := raftlog.New(raftlog.Options{Dir: filepath.Join(n.o.Config.DataDir, storage.MetaDir), FS: n.o.FS, Self: n.home.HostID,
		Peers: peers{n}, Alive: n.alive, Generation: n.home.Generation, Rand: n.o.intn, OnApply: n.applied, Fatal: n.o.Fatal,
		ProposeTimeout: n.o.Config.DDLTimeout, Logger: n.o.Logger})
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

func (n *Node) openStorage(ctx context.Context) error {
	c := n.o.Config
	n.engineMetrics = &storage.Metrics{}
	modes := map[string]storage.SyncMode{"group": storage.Group, "batch": storage.Batched, "periodic": storage.Periodic}
	e, err := storage.Open(ctx, storage.Options{Dir: filepath.Join(c.DataDir, storage.StoreDir), FS: n.o.FS, Sync: modes[c.CommitSync],
		PeriodicInterval: c.CommitSyncPeriod, BlockCacheBytes: int64(c.BlockCache), RowCacheBytes: orNone(int64(c.RowCache)),
		MemtableBytes: int64(c.Memtable), ReserveBytes: orNone(int64(c.DiskReserve)), Now: n.o.Now, Logger: n.o.Logger,
		Fatal: n.o.Fatal, Tables: tables{n.log}, GCBefore: n.gcBefore, PurgedBefore: n.purgedBefore, PurgeInterval: n.o.PurgeInterval,
		StripeWait: c.WriteTimeout / 2, Metrics: n.engineMetrics})
	if err != nil {
		return err
	}
	n.engine = e
	if err := n.openBook(); err != nil {
		return err
	}
	if err := n.openSnapshots(); err != nil {
		return err
	}
	if err := n.openShard(); err != nil {
		return err
	}
	if err := n.lookAtTail(); err != nil {
		return err
	}
	gens, err := e.Generations()
	if err != nil {
		return err
	}
	if len(gens) > 0 && !n.log.Current().Founded() {
		return fmt.Errorf("node: the data folder %s holds rows but no cluster metadata: restore its meta folder, or start with an empty data folder", c.DataDir)
	}
	return n.openClock()
}

// lookAtTail says what it means that the end of a log was found missing, at this start or an earlier one. A disk that lost the
// end of one log is not believed about the other: the node votes only after it has learned the metadata anew.
func (n *Node) lookAtTail() error {
	rows, metadata := n.engine.Suspect(), n.log.Suspect()
	switch {
	case !rows && !metadata:
		return nil
	case n.o.ClearSuspect:
		n.o.Logger.Warn("a store whose log was too short counts as whole again, as the operator says", "rows", rows, "metadata", metadata)
		return errors.Join(n.engine.ClearSuspect(), n.log.ClearSuspect())
	}
	if rows {
		n.o.Logger.Error("the end of the write-ahead log is missing: writes acknowledged before a stop may be gone from this node, and it purges no tombstones. Read the affected tables at ALL, which brings them back from the others, then start it once with --clear-suspect")
		n.log.Distrust()
	}
	if metadata {
		n.o.Logger.Error("the end of the metadata log is missing: this node does not vote until the others have sent it what it lacks, which needs a majority of voters without it. Where there is none, start it once with --clear-suspect: then its copy counts as whole")
	}
	n.self.Health = meta.Suspect
	return nil
}

// orNone makes 0 mean none, where storage takes a negative number for that.
func orNone(v int64) int64 {
	if v == 0 {
		return -1
	}
	return v
}

var clockKey = []byte("clock")

func (n *Node) openClock() error {
	raw, found, err := n.engine.Space(storage.SpaceNode).Get(clockKey)
	if err != nil {
		return fmt.Errorf("node: clock: %w", err)
	}
	floor := int64(0)
	if found && len(raw) == 8 {
		floor = int64(binary.BigEndian.Uint64(raw))
	}
	n.clock = hlc.New(n.o.Now, floor, func(ceiling int64) error {
		b := n.engine.NewBatch()
		if err := b.Set(storage.SpaceNode, clockKey, binary.BigEndian.AppendUint64(nil, uint64(ceiling))); err != nil {
			b.Discard()
			return err
		}
		if err := n.engine.CommitWait(n.life, b); err != nil || n.o.Config.CommitSync != "periodic" {
			return err
		}
		return n.engine.Sync() // timestamps below the ceiling may become durable on other nodes at once
	})
	return nil
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

func (n *Node) clusterID() [16]byte {
	if s := n.log.Current(); s.Founded() {
		return s.ClusterID
	}
	if i := n.introduced.Load(); i != nil {
		return i.cluster
	}
	return [16]byte{}
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

// catchUpAfter is how long newer metadata that a peer has may come through the log by themselves, as they do with every change,
// before the whole state is pulled. Requests that cannot wait for them pull at once (coordinator).
const catchUpAfter = 20 * time.Millisecond

// hearEpoch pulls newer metadata that a peer has, one pull at a time.
func (n *Node) hearEpoch(from ring.HostID, epoch uint64) {
	if epoch <= n.log.Current().Epoch || !n.catchingUp.CompareAndSwap(false, true) {
		return
	}
	n.goLife(func() {
		defer n.catchingUp.Store(false)
		if sleep(n.life, catchUpAfter); epoch <= n.log.Current().Epoch {
			return
		}
		ctx, cancel := context.WithTimeout(n.life, 5*time.Second)
		defer cancel()
		if err := n.log.CatchUp(ctx, from); err != nil && n.life.Err() == nil {
			n.o.Logger.Debug("metadata catch-up failed", "from", from.String(), "err", err)
		}
	})
}

func (n *Node) makeCoordinator(context.Context) error {
	c := n.o.Config
	store := engine{n.engine, &n.gate}
	low, err := store.lowBound()
	if err != nil {
		return err
	}
	n.coord, err = coordinator.New(coordinator.Options{Self: n.home.HostID, Cluster: n.log, Transport: n.rpc, Storage: store, Hints: store,
		Registers: store, LowBound: low, Boot: uint64(n.home.Generation), Timestamp: n.clock.Timestamp,
		Alive: n.alive, DownSince: n.downSince, IsUnknownTable: isUnknownTable, IsBatchFull: isBatchFull,
		IsInvalid: isInvalid, ReadTimeout: c.ReadTimeout, RangeTimeout: c.RangeTimeout, WriteTimeout: c.WriteTimeout, CASTimeout: c.CASTimeout,
		Batchlog: store, BatchlogThrottle: int64(c.BatchlogThrottle), Seed: n.o.uint64(),
		CounterTimeout: c.CounterTimeout, Shard: n.shard,
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

// form makes an empty node part of a cluster, and checks one that is.
func (n *Node) form(ctx context.Context) error {
	fo := n.formation()
	if s := n.log.Current(); s.Founded() {
		if me := s.Node(n.home.HostID); me != nil && me.State != meta.Pending {
			return formation.Check(ctx, fo, s)
		}
	}
	if n.o.Replace != "" {
		fo.Replaces = n.replaces
	}
	out, err := formation.Form(ctx, fo)
	if err != nil {
		return err
	}
	if out.Founds {
		return n.found(fo.Partitioner)
	}
	if err := n.log.Adopt(ctx, out.State); err != nil {
		return err
	}
	return formation.Check(ctx, fo, n.log.Current())
}

func (n *Node) formation() formation.Options {
	c := n.o.Config
	return formation.Options{Self: n.self, ClusterName: c.ClusterName, NumTokens: c.NumTokens, Seeds: n.seeds(), Probe: n.rpc.Probe,
		Introduce: n.introduce, Call: peers{n}.Call, Pledged: n.log.Pledged(), Partitioner: partitionerName(c.Partitioner), Logger: n.o.Logger}
}

func partitionerName(short string) string {
	if strings.HasPrefix(short, "XXHash") {
		return ring.XXHash{}.Name()
	}
	return ring.Murmur3{}.Name()
}

func (n *Node) found(partitioner string) error {
	c := n.o.Config
	node := n.self
	node.Tokens = ring.AllocateInitial([]ring.Node{{ID: node.ID, DC: node.DC, Rack: node.Rack}}, c.NumTokens, 3, n.o.uint64())[0]
	cmd := &meta.Command{Kind: meta.Found, Node: node, ClusterID: n.o.uuid(), ClusterName: c.ClusterName, Partitioner: partitioner}
	n.o.Random(cmd.Secret[:])
	if err := n.log.Found(cmd); err != nil {
		return err
	}
	n.o.Logger.Info("cluster founded", "name", c.ClusterName, "tokens", len(node.Tokens))
	return nil
}

// introduce is called before a member is asked to let this node join: from now on it cannot found a cluster, and takes
// part in the metadata log.
func (n *Node) introduce(ctx context.Context, cluster [16]byte, member ring.HostID, addr netip.AddrPort) error {
	n.introduced.Store(&introduction{cluster, member, addr})
	n.runLog()
	return n.log.Pledge(ctx, cluster)
}

func (n *Node) startLog(context.Context) error {
	n.runLog()
	return nil
}

func (n *Node) runLog() {
	if n.logRuns.CompareAndSwap(false, true) {
		n.services.start("metadata log", n.log.Run, nil)
	}
}

// applied is told of every new state, by the log's goroutine.
func (n *Node) applied(before, after *meta.State, events []meta.Event) {
	for _, e := range events {
		switch {
		case e.Dropped != 0:
			n.snapshots.remember(e.Dropped, before.Catalog)
			n.nudgeRetired()
		case e.Node != nil:
			n.o.Logger.Info("membership changed", "host", e.Node.Node.ID.String(), "address", e.Node.Node.Internode.String(), "state", e.Node.Node.State.String())
			if g := n.liveness(); g != nil {
				n.goLife(func() { g.SetPeers(n.gossipPeers()) })
			}
			if e.Node.Kind == meta.NodeUpdated {
				n.rpc.Nudge(e.Node.Node.ID)
			}
		}
	}
	if before.Catalog.Version != after.Catalog.Version {
		n.nudgeRetired()
	}
	if c := n.cql.Load(); c != nil {
		c.tell(events)
	}
	if n.mover != nil {
		n.mover.Observe(before, after)
	}
}

// nudgeRetired wakes the goroutine that removes the rows of tables that are gone, and keeps the definitions of those that are there.
func (n *Node) nudgeRetired() {
	select {
	case n.retired <- struct{}{}:
	default:
	}
}

// anyRows tells whether a user table holds a row here, and fails while a hint or a batch waits to become one elsewhere. While a node is
// joining no further write is let in, and it answers when those that were are visible.
func (n *Node) anyRows(ctx context.Context) (bool, error) {
	if n.log.Current().Quiet() {
		if err := n.gate.drainAll(ctx); err != nil {
			return false, err
		}
	}
	for _, id := range []storage.SpaceID{storage.SpaceHints, storage.SpaceBatchlog} {
		waiting := false
		err := n.engine.Space(id).Scan(nil, nil, func(_, _ []byte) bool { waiting = true; return false })
		if waiting && err == nil {
			err = errors.New("node: hints or logged batches wait here for other nodes")
		}
		if err != nil {
			return false, err
		}
	}
	gens, err := n.engine.Generations()
	for _, g := range gens {
		if t, ok := n.log.Current().Catalog.TableByGeneration(g); ok && !schema.IsSystemKeyspace(t.Keyspace) {
			return true, err
		}
	}
	return false, err
}

// startMaintenance runs what a node does for itself: the clock's ceiling, and the rows of tables that are gone.
func (n *Node) startMaintenance(context.Context) error {
	if err := n.clock.Extend(); err != nil {
		return fmt.Errorf("node: clock: %w", err)
	}
	n.services.start("clock", n.keepClock, nil)
	n.services.start("dropped tables", n.dropRetired, nil)
	return nil
}

func (n *Node) keepClock(ctx context.Context) error {
	t := time.NewTicker(200 * time.Millisecond)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done(): // nobody asks for timestamps any more
			if err := n.clock.Rest(); err != nil {
				n.o.Logger.Warn("the clock's ceiling could not be stored", "err", err)
			}
			return nil
		case <-t.C:
			if err := n.clock.Extend(); err != nil && !errors.Is(err, storage.ErrDiskFull) && ctx.Err() == nil {
				n.o.Logger.Error("the clock's ceiling could not be stored", "err", err)
			}
		}
	}
}

func (n *Node) dropRetired(ctx context.Context) error {
	t := time.NewTicker(snapshotsInterval)
	defer t.Stop()
	for {
		err := n.dropUnknown()
		if err == nil {
			err = errors.Join(n.forgetTables(ctx), n.voidUnsound(ctx))
		}
		if err == nil {
			err = n.keepCatalog()
		}
		if err != nil && ctx.Err() == nil {
			n.o.Logger.Error("rows of a dropped table could not be removed", "err", err)
		}
		n.expireSnapshots()
		select {
		case <-ctx.Done():
			return nil
		case <-n.retired:
		case <-t.C:
		}
	}
}

// snapshotsInterval is between two looks for snapshots whose time is over, and tries to remove what could not be removed.
const snapshotsInterval = time.Minute

// dropUnknown removes the rows of generations that the catalog has given out and does not have any more.
func (n *Node) dropUnknown() error {
	gens, err := n.engine.Generations()
	if err != nil {
		return err
	}
	c := n.log.Current().Catalog
	for _, g := range gens {
		if _, ok := c.TableByGeneration(g); ok || g >= c.NextGeneration {
			continue
		}
		if err := n.snapshotBefore(g); err != nil {
			return fmt.Errorf("node: snapshot before rows are removed: %w", err)
		}
		if err := n.engine.DropGeneration(g); err != nil {
			return err
		}
		n.snapshots.forget(g)
		n.o.Logger.Info("rows of a dropped or truncated table removed", "generation", uint32(g))
	}
	return nil
}

// alive tells whether a member is believed to be up; this node is.
func (n *Node) alive(id ring.HostID) bool {
	if n.home != nil && id == n.home.HostID {
		return true
	}
	g := n.liveness()
	return g != nil && g.Alive(id)
}

// liveness returns the failure detector, nil before it runs.
func (n *Node) liveness() Detector {
	if g := n.detector.Load(); g != nil {
		return *g
	}
	return nil
}

func (n *Node) downSince(id ring.HostID) time.Time {
	g := n.liveness()
	if g == nil {
		return n.started
	}
	s, ok := g.State(id)
	switch {
	case !ok:
		return n.started
	case s.Alive:
		return time.Time{}
	}
	return s.Since
}

func (n *Node) gossipPeers() []string {
	var out []string
	for _, m := range n.log.Current().Members() {
		if m.ID != n.home.HostID {
			out = append(out, m.Gossip.String())
		}
	}
	return out
}

func (n *Node) nodeMeta() gossip.NodeMeta {
	s := n.log.Current()
	return gossip.NodeMeta{Epoch: s.Epoch, DC: n.self.DC, Rack: n.self.Rack, Internode: n.self.Internode, Admin: n.o.Config.Admin(),
		SchemaVersion: s.Catalog.Version, Version: system.ReleaseVersion}
}

// gossipJoinTime bounds how long a start waits for other members' liveness.
const gossipJoinTime = 2 * time.Second

func (n *Node) startGossip(ctx context.Context) error {
	c := n.o.Config
	key, err := c.GossipKeyBytes()
	if err != nil {
		return fmt.Errorf("node: gossip_encryption_key: %w", err)
	}
	var keys [][]byte
	if key != nil {
		keys = [][]byte{key}
	}
	s := n.log.Current()
	g, err := n.o.Detector(gossip.Options{HostID: n.home.HostID, Generation: n.home.Generation, ClusterID: fmt.Sprintf("%x", s.ClusterID),
		Bind: c.Gossip(), Advertise: n.gossipAddr(), Seeds: n.gossipPeers(), Keys: keys, Meta: n.nodeMeta(),
		Events: gossip.Events{Up: n.memberUp, Down: n.memberDown, Update: n.memberUpdate, Superseded: n.superseded}, Now: n.o.Now, Logger: n.o.Logger})
	if err != nil {
		return err
	}
	n.services.start("failure detector", g.Run, nil)
	select {
	case <-g.Ready():
	case <-n.services.failed:
		return n.services.failure
	case <-ctx.Done():
		return ctx.Err()
	}
	n.detector.Store(&g)
	if peers := n.gossipPeers(); len(peers) > 0 {
		join, cancel := context.WithTimeout(ctx, gossipJoinTime)
		defer cancel()
		if reached, err := g.Join(join, peers); reached == 0 {
			n.o.Logger.Warn("no other member answers yet; this node serves what it holds", "err", err)
		}
	}
	n.services.start("gossip facts", n.keepFacts, nil)
	return nil
}

// keepFacts spreads this node's epoch, schema version and load.
func (n *Node) keepFacts(ctx context.Context) error {
	t := time.NewTicker(time.Second)
	defer t.Stop()
	var last gossip.NodeMeta
	for i := 0; ; i++ {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
		m := n.nodeMeta()
		m.LoadBytes = last.LoadBytes
		if i%10 == 0 {
			m.LoadBytes = n.engine.Stats().DiskBytes
		}
		select {
		case <-n.ready:
			m.Native, m.Phase = n.self.Native, gossip.Normal
		default:
		}
		if m == last {
			continue
		}
		last = m
		if err := n.liveness().UpdateMeta(m); err != nil {
			n.o.Logger.Warn("facts about this node were not spread", "err", err)
		}
	}
}

func (n *Node) memberUp(s gossip.State) {
	if s.ID == n.home.HostID {
		return
	}
	n.o.Logger.Info("/" + n.internodeOf(s).String() + " is now UP")
	n.rpc.Nudge(s.ID)
	n.coord.Hints().Nudge()
	if n.mover != nil {
		n.mover.Nudge()
	}
	if c := n.cql.Load(); c != nil {
		c.up(s)
	}
}

func (n *Node) memberDown(s gossip.State) {
	if s.ID == n.home.HostID {
		return
	}
	n.o.Logger.Info("/"+n.internodeOf(s).String()+" is now DOWN", "left", s.Left)
	if c := n.cql.Load(); c != nil {
		c.down(s)
	}
}

func (n *Node) memberUpdate(s gossip.State) {
	if c := n.cql.Load(); c != nil && s.ID != n.home.HostID {
		c.up(s)
	}
	if s.Meta.Epoch > n.log.Current().Epoch {
		n.hearEpoch(s.ID, s.Meta.Epoch)
	}
}

func (n *Node) internodeOf(s gossip.State) netip.AddrPort {
	if m := n.log.Current().Node(s.ID); m != nil {
		return m.Internode
	}
	return s.Meta.Internode
}

// superseded: another process runs with this host id and a newer generation.
func (n *Node) superseded(s gossip.State) {
	n.services.fail("failure detector", fmt.Errorf("another process with host id %s and a newer generation runs at %s: this one stops", s.ID, s.Addr))
}

// startCoordinator: before it stops, the others are told, so that they ask other replicas while this one still answers.
func (n *Node) startCoordinator(context.Context) error {
	n.services.start("coordinator", n.coord.Run, n.sayGoodbye)
	return nil
}

// goodbyeTime bounds how long the others are told.
const goodbyeTime = 2 * time.Second

func (n *Node) sayGoodbye(gentle context.Context) {
	ctx, cancel := context.WithTimeout(gentle, goodbyeTime)
	defer cancel()
	if err := n.liveness().Leave(ctx); err != nil {
		n.o.Logger.Debug("leaving gossip", "err", err)
	}
}

// announce tells the cluster of this start: generation, addresses, version. It needs a quorum of the metadata log, for
// which a node that has its data does not wait.
func (n *Node) announce(context.Context) error {
	n.services.start("announcement", func(ctx context.Context) error {
		for ctx.Err() == nil {
			_, err := n.log.Propose(ctx, n.update)
			var refused *meta.Refused
			switch {
			case err == nil:
				<-ctx.Done()
			case errors.As(err, &refused):
				return &formation.Refused{Reason: refused.Reason}
			default:
				n.o.Logger.Debug("announcement", "err", err)
				sleep(ctx, time.Second)
			}
		}
		return nil
	}, nil)
	return nil
}

func (n *Node) update(s *meta.State) (*meta.Command, bool, error) {
	me := s.Node(n.home.HostID)
	if me == nil {
		return nil, false, nil
	}
	if me.Generation >= n.self.Generation && me.Internode == n.self.Internode {
		return nil, false, nil
	}
	return &meta.Command{Kind: meta.UpdateNode, Node: n.self}, true, nil
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
