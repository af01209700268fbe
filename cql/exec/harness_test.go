package exec_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/helenusdb/helenus/coordinator"
	"github.com/helenusdb/helenus/cql/exec"
	"github.com/helenusdb/helenus/cql/protocol"
	"github.com/helenusdb/helenus/cql/server"
	"github.com/helenusdb/helenus/cql/system"
	"github.com/helenusdb/helenus/meta"
	"github.com/helenusdb/helenus/ring"
	"github.com/helenusdb/helenus/row"
	"github.com/helenusdb/helenus/rpc"
	"github.com/helenusdb/helenus/schema"
	"github.com/helenusdb/helenus/storage"
)

// cluster is one node in memory: real storage, coordinator, executor and server, around metadata without a log.
type cluster struct {
	state   atomic.Pointer[meta.State]
	mu      sync.Mutex // one schema change at a time
	engine  *storage.Engine
	exec    *exec.Executor
	coord   *coordinator.Coordinator
	server  *server.Server
	addr    string
	clock   atomic.Int64
	uuids   atomic.Int64
	failDDL atomic.Pointer[error]

	consensus consensus
	stopExec  context.CancelFunc
}

var selfID = ring.HostID{0x54, 0x52, 0xd2, 0x26, 0xdc, 0x52, 0x4e, 0xc9, 0xb8, 0x55, 0xde, 0x6b, 0xea, 0x59, 0x84, 0x02}

// options of a test cluster.
type options struct {
	limits exec.Limits
	fail   string
	other  bool // a second member, which never answers
	slow   time.Duration
	values bool
	logger *slog.Logger
}

func start(t testing.TB, o options) *cluster {
	t.Helper()
	c := &cluster{}
	c.consensus.c = c
	c.clock.Store(time.Now().UnixMicro())
	c.found(t, o)
	engine, err := storage.Open(t.Context(), storage.Options{Dir: "db", FS: storage.Memory(), ReserveBytes: -1, Tables: c, PurgeInterval: -1, BlockCacheBytes: 8 << 20,
		MemtableBytes: 4 << 20, RowCacheBytes: 8 << 20, FreeSpace: func() (uint64, error) { return 1 << 40, nil }, Fatal: func(err error) { panic(err) }})
	if err != nil {
		t.Fatal(err)
	}
	c.engine = engine
	adapter := engineOf{engine}
	c.coord, err = coordinator.New(coordinator.Options{Self: selfID, Shard: row.ShardID{1}, Cluster: c, Transport: noTransport{}, Storage: adapter, Hints: adapter, Batchlog: adapter,
		Alive: func(id ring.HostID) bool { return id == selfID }, DownSince: func(ring.HostID) time.Time { return time.Now() },
		IsUnknownTable: func(err error) bool { return errors.Is(err, storage.ErrUnknownTable) },
		IsBatchFull:    func(err error) bool { return errors.Is(err, storage.ErrTooLarge) },
		IsInvalid: func(err error) bool {
			return errors.Is(err, storage.ErrBadMutation) || errors.Is(err, storage.ErrTooLarge)
		}})
	if err != nil {
		t.Fatal(err)
	}
	tables, err := system.New(system.Options{Current: c.Current, Self: selfID, Clients: func() []server.ConnState { return c.server.Connections() },
		Prepared: func(fn func([16]byte, string, string)) { c.exec.Prepared(fn) }})
	if err != nil {
		t.Fatal(err)
	}
	c.exec, err = exec.New(exec.Options{Coordinator: c.coord, Consensus: &c.consensus, Schema: c, System: tables, Native: netip.MustParseAddrPort("127.0.0.11:9042"),
		Clock: func() int64 { return c.clock.Add(1) }, NewTimeUUID: c.timeUUID, NewUUID: c.uuid, Limits: o.limits, FailWritesTo: o.fail,
		SlowThreshold: o.slow, SlowValues: o.values, Logger: o.logger,
		IsInvalid: func(err error) bool { return errors.Is(err, storage.ErrTooLarge) }})
	if err != nil {
		t.Fatal(err)
	}
	c.serve(t)
	return c
}

func (c *cluster) found(t testing.TB, o options) {
	tokens := []ring.Token{-6917529027641081856, -2305843009213693952, 2305843009213693952, 6917529027641081856}
	s, err := meta.Empty().Apply(&meta.Command{Kind: meta.Found, ClusterID: [16]byte{1}, ClusterName: "Peer Cluster",
		Partitioner: "org.apache.cassandra.dht.Murmur3Partitioner", Secret: [32]byte{7}, Node: meta.Node{ID: selfID, Generation: 1795419889,
			Internode: netip.MustParseAddrPort("127.0.0.11:7000"), Native: netip.MustParseAddrPort("127.0.0.11:9042"), DC: "datacenter1", Rack: "rack1",
			Tokens: tokens, ReleaseVersion: "5.0.8"}})
	if err != nil {
		t.Fatal(err)
	}
	if o.other {
		n := meta.Node{ID: ring.HostID{9}, Generation: 1, Internode: netip.MustParseAddrPort("127.0.0.12:7000"), Gossip: netip.MustParseAddrPort("127.0.0.12:7001"),
			Native: netip.MustParseAddrPort("127.0.0.12:9042"), DC: "datacenter1", Rack: "rack1", Tokens: []ring.Token{0, 100}, Version: meta.Version, Quiet: true}
		for _, kind := range []meta.CommandKind{meta.AddPending, meta.CommitJoin} {
			if s, err = s.Apply(&meta.Command{Kind: kind, Node: n, BaseEpoch: s.Epoch}); err != nil {
				t.Fatal(err)
			}
			n = *s.Node(n.ID)
		}
	}
	c.state.Store(s)
}

func (c *cluster) serve(t testing.TB) {
	var err error
	var l net.Listener
	c.server, err = server.New(server.Options{Listeners: []server.Listener{{Addr: netip.MustParseAddrPort("127.0.0.1:0")}}, Handler: c.exec,
		Listen: func(ctx context.Context, addr string) (net.Listener, error) {
			l, err = (&net.ListenConfig{}).Listen(ctx, "tcp", addr)
			return l, err
		}})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.server.Listen(t.Context()); err != nil {
		t.Fatal(err)
	}
	c.addr = l.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	execCtx, stop := context.WithCancel(ctx)
	c.stopExec = stop
	wg.Go(func() { _ = c.exec.Run(execCtx) })
	for _, run := range []func(context.Context) error{c.coord.Run, c.server.Run} {
		wg.Go(func() { _ = run(ctx) })
	}
	t.Cleanup(func() {
		cancel()
		wg.Wait()
		if err := c.engine.Close(); err != nil {
			t.Error(err)
		}
	})
}

func (c *cluster) Current() *meta.State { return c.state.Load() }

func (c *cluster) CatchUp(context.Context, ring.HostID) error { return nil }

func (c *cluster) AwaitApplied(ctx context.Context, epoch uint64) error {
	for c.Current().Epoch < epoch {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Millisecond):
		}
	}
	return nil
}

func (c *cluster) Table(g schema.Generation) (*schema.Table, bool) {
	return c.Current().Catalog.TableByGeneration(g)
}

// Change implements exec.Schema.
func (c *cluster) Change(_ context.Context, build func(*meta.State) (schema.Plan, error)) (schema.Plan, []string, error) {
	if err := c.failDDL.Load(); err != nil {
		return schema.Plan{}, nil, *err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	before := c.Current()
	p, err := build(before)
	if err != nil || len(p.Changes) == 0 {
		return p, nil, err
	}
	after, err := before.Apply(&meta.Command{Kind: meta.Schema, BaseSchema: before.Catalog.Version, Changes: p.Changes})
	if err != nil {
		return p, nil, err
	}
	c.state.Store(after)
	for _, e := range meta.Diff(before, after) {
		if e.Dropped != 0 {
			if err := c.engine.DropGeneration(e.Dropped); err != nil {
				return p, nil, err
			}
		}
		if sc := e.Schema; sc != nil {
			c.server.Broadcast(&protocol.Event{Type: protocol.SchemaChange, Change: string(sc.Change), Target: string(sc.Target), Keyspace: sc.Keyspace, Name: sc.Name})
		}
	}
	return p, nil, nil
}

func (c *cluster) timeUUID() (id [16]byte) {
	n := uint64(time.Now().UnixNano()/100) + 0x01B21DD213814000
	last := uint64(c.uuids.Add(1))
	if n <= last {
		n = last
	}
	c.uuids.Store(int64(n))
	id = [16]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n), byte(n >> 40), byte(n >> 32), byte(n>>56)&0x0f | 0x10, byte(n >> 48), 0x80, 0, 1}
	return id
}

func (c *cluster) uuid() (id [16]byte) {
	n := c.uuids.Add(1)
	id = [16]byte{byte(n), byte(n >> 8), byte(n >> 16), byte(n >> 24), 0, 0, 0x40, 0, 0x80}
	return id
}

type noTransport struct{}

// Send fails at once: there is nobody.
func (noTransport) Send(_ ring.HostID, _ rpc.Class, _ rpc.Verb, _ time.Time, _ []byte, cb rpc.Callback) {
	cb.Done(&rpc.Response{Err: errors.New("unreachable")})
}

type engineOf struct{ *storage.Engine }

func (e engineOf) NewBatch() coordinator.Batch { return batchOf{e.Engine.NewBatch()} }

func (e engineOf) WhenSynced(seq uint64, c coordinator.Committed) { e.Engine.WhenSynced(seq, c) }

func (e engineOf) ScanHints(start, end []byte, fn func(key, value []byte) bool) error {
	return e.Space(storage.SpaceHints).Scan(start, end, fn)
}

func (e engineOf) ScanBatchlog(start, end []byte, fn func(key, value []byte) bool) error {
	return e.Space(storage.SpaceBatchlog).Scan(start, end, fn)
}

type batchOf struct{ *storage.Batch }

func (b batchOf) Planned(uint64) {}

func (b batchOf) PutHint(key, value []byte) error { return b.Set(storage.SpaceHints, key, value) }
func (b batchOf) DeleteHint(key []byte) error     { return b.Delete(storage.SpaceHints, key) }
func (b batchOf) PutBatchlog(key, value []byte) error {
	return b.Set(storage.SpaceBatchlog, key, value)
}
func (b batchOf) DeleteBatchlog(key []byte) error { return b.Delete(storage.SpaceBatchlog, key) }
func (b batchOf) Commit(c coordinator.Committed)  { b.Batch.Commit(c) }

func addrPort(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }

func tokensOf(list ...ring.Token) []ring.Token { return list }
