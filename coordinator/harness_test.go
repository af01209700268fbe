package coordinator_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/helenusdb/helenus/coordinator"
	"github.com/helenusdb/helenus/internal/memnet"
	"github.com/helenusdb/helenus/meta"
	"github.com/helenusdb/helenus/ring"
	"github.com/helenusdb/helenus/row"
	"github.com/helenusdb/helenus/rpc"
	"github.com/helenusdb/helenus/schema"
	"github.com/helenusdb/helenus/storage"
)

// layout says what a test cluster looks like.
type layout struct {
	dcs      []string          // data centre of each node
	keyspace []schema.Pair     // replication; default SimpleStrategy with RF 3, or as many as there are nodes
	options  []schema.Property // of the tables
	racks    []string          // rack of each node; default r1
	vnodes   int               // tokens of a node; default 1
	tune     func(*coordinator.Options)
	fs       func(node int) vfs.FS
	joining  int // the last nodes are announced, not members yet
	buffer   int // bytes that the network holds of a direction of a connection; default memnet's
	rpc      func(*rpc.Options)
}

func nodesIn(dc string, n int) (out []string) {
	for range n {
		out = append(out, dc)
	}
	return out
}

// cluster is some coordinators with real engines that talk over a network in memory.
type cluster struct {
	t     testing.TB
	lay   layout
	net   *memnet.Network
	nodes []*node
	state *meta.State
	alone *meta.State   // before the layout's joining nodes were announced
	count *schema.Table // ((pk), ck, n, m, s static) of counters
	wide  *schema.Table // ((pk), ck, v) with clustering
	plain *schema.Table // ((pk), v)

	mu    sync.Mutex
	down  map[ring.HostID]time.Time
	fault func(m message) action
	log   []message
}

// message is a request on its way.
type message struct {
	from, to int
	verb     rpc.Verb
	body     []byte
}

// action is what happens to it. The zero value lets it pass.
type action struct {
	drop      bool // it never arrives
	dropReply bool // it arrives, the answer never does
	unsent    bool // it cannot be sent
	twice     bool
	delay     time.Duration
	refuse    rpc.Status
}

type node struct {
	c       *cluster
	i       int
	id      ring.HostID
	fs      vfs.FS
	engine  *storage.Engine
	rpc     *rpc.Transport
	coord   *coordinator.Coordinator
	state   atomic.Pointer[meta.State]
	free    atomic.Uint64 // bytes of disk
	shard   row.ShardID   // what its store counts with
	boots   uint64
	skew    atomic.Int64 // of its clock
	stop    func()
	silence func() // ends its transport: nothing that it says is heard any more
}

func hostID(i int) ring.HostID { return ring.HostID{0: byte(i + 1), 7: byte(i + 1), 15: byte(i + 1)} }

func addrOf(i int) netip.AddrPort { return netip.MustParseAddrPort(fmt.Sprintf("10.0.0.%d:7000", i+1)) }

func newCluster(t testing.TB, lay layout) *cluster {
	t.Helper()
	if lay.vnodes == 0 {
		lay.vnodes = 1
	}
	if lay.keyspace == nil {
		lay.keyspace = []schema.Pair{{Key: "class", Value: "SimpleStrategy"}, {Key: "replication_factor", Value: fmt.Sprint(min(3, len(lay.dcs)))}}
	}
	c := &cluster{t: t, lay: lay, net: memnet.New(memnet.Options{Buffer: lay.buffer}), down: map[ring.HostID]time.Time{}}
	c.state = c.newState()
	for i := range lay.dcs {
		n := &node{c: c, i: i, id: hostID(i), shard: row.ShardID(hostID(i)), fs: vfs.NewMem()}
		if lay.fs != nil {
			n.fs = lay.fs(i)
		}
		n.free.Store(1 << 40)
		n.state.Store(c.state)
		c.nodes = append(c.nodes, n)
		n.start()
	}
	for _, n := range c.nodes {
		n.connect()
	}
	t.Cleanup(func() {
		for _, n := range c.nodes {
			n.halt()
		}
	})
	return c
}

func (c *cluster) newState() *meta.State {
	s := meta.Empty()
	n := len(c.lay.dcs)
	var joining []meta.Node
	for i, dc := range c.lay.dcs {
		m := meta.Node{ID: hostID(i), Internode: addrOf(i), Native: netip.AddrPortFrom(addrOf(i).Addr(), 9042), DC: dc, Rack: "r1", Version: meta.Version}
		if c.lay.racks != nil {
			m.Rack = c.lay.racks[i]
		}
		for v := range c.lay.vnodes {
			step := ^uint64(0)/uint64(n*c.lay.vnodes) + 1
			m.Tokens = append(m.Tokens, ring.Token(uint64(1<<63)+step*uint64(v*n+i)+12345))
		}
		if i == 0 {
			s = c.apply(s, meta.Command{Kind: meta.Found, ClusterID: [16]byte{7}, ClusterName: "test", Partitioner: ring.Murmur3Name, Node: m})
			continue
		}
		if i >= n-c.lay.joining {
			joining = append(joining, m)
			continue
		}
		m.Quiet = true
		s = c.apply(s, meta.Command{Kind: meta.AddPending, Node: m})
		s = c.apply(s, meta.Command{Kind: meta.CommitJoin, Node: *s.Node(m.ID), BaseEpoch: s.Epoch})
	}
	var ids byte
	env := schema.Env{NewID: func() schema.ID { ids++; return schema.ID{1, ids} }, Now: time.Now}
	s = c.ddl(s, func(k *schema.Catalog) (schema.Plan, error) {
		return k.CreateKeyspace(schema.CreateKeyspace{Name: "ks", Properties: []schema.Property{{Name: "replication", IsMap: true, Map: c.lay.keyspace}}}, env)
	})
	blob := schema.TypeSpec{Name: "blob"}
	table := schema.CreateTable{Keyspace: "ks", Name: "wide", PartitionKey: []string{"pk"}, Clustering: []string{"ck"}, Properties: c.lay.options,
		Columns: []schema.ColumnSpec{{Name: "pk", Type: blob}, {Name: "ck", Type: blob}, {Name: "v", Type: blob}, {Name: "s", Type: blob, Static: true}}}
	s = c.ddl(s, func(k *schema.Catalog) (schema.Plan, error) { return k.CreateTable(table, env) })
	table.Name, table.Clustering, table.Columns = "plain", nil, []schema.ColumnSpec{{Name: "pk", Type: blob}, {Name: "v", Type: blob}}
	s = c.ddl(s, func(k *schema.Catalog) (schema.Plan, error) { return k.CreateTable(table, env) })
	counter := schema.TypeSpec{Name: "counter"}
	table = schema.CreateTable{Keyspace: "ks", Name: "count", PartitionKey: []string{"pk"}, Clustering: []string{"ck"},
		Columns: []schema.ColumnSpec{{Name: "pk", Type: blob}, {Name: "ck", Type: blob}, {Name: "n", Type: counter}, {Name: "m", Type: counter}, {Name: "s", Type: counter, Static: true}}}
	s = c.ddl(s, func(k *schema.Catalog) (schema.Plan, error) { return k.CreateTable(table, env) })
	c.count, _ = s.Catalog.Table("ks", "count")
	c.wide, _ = s.Catalog.Table("ks", "wide")
	c.plain, _ = s.Catalog.Table("ks", "plain")
	c.alone = s
	for _, m := range joining {
		s = c.apply(s, meta.Command{Kind: meta.AddPending, Node: m})
	}
	return s
}

// switched is the state in which reads have moved, and moved the one after the movement.
func (c *cluster) switched(s *meta.State) *meta.State {
	c.t.Helper()
	for _, id := range s.Reporters() {
		s = c.apply(s, meta.Command{Kind: meta.ReportFilled, Node: meta.Node{ID: id}, Plan: s.Plan})
	}
	return c.apply(s, meta.Command{Kind: meta.Switch, Plan: s.Plan})
}

func (c *cluster) moved(s *meta.State) *meta.State {
	c.t.Helper()
	s = c.switched(s)
	for _, id := range s.Unheard() {
		s = c.apply(s, meta.Command{Kind: meta.ReportSwitched, Node: meta.Node{ID: id}, Plan: s.SwitchedAt})
	}
	return c.apply(s, meta.Command{Kind: meta.Finish, Plan: s.SwitchedAt})
}

func (c *cluster) apply(s *meta.State, cmd meta.Command) *meta.State {
	c.t.Helper()
	next, err := s.Apply(&cmd)
	if err != nil {
		c.t.Fatal(err)
	}
	return next
}

func (c *cluster) ddl(s *meta.State, build func(*schema.Catalog) (schema.Plan, error)) *meta.State {
	c.t.Helper()
	p, err := build(s.Catalog)
	if err != nil {
		c.t.Fatal(err)
	}
	return c.apply(s, meta.Command{Kind: meta.Schema, BaseEpoch: s.Epoch, BaseSchema: s.Catalog.Version, Changes: p.Changes})
}

// Current, CatchUp and AwaitApplied implement coordinator.Cluster.
func (n *node) Current() *meta.State { return n.state.Load() }

func (n *node) CatchUp(_ context.Context, from ring.HostID) error {
	for _, o := range n.c.nodes {
		if o.id == from && o.state.Load().Epoch > n.state.Load().Epoch {
			n.state.Store(o.state.Load())
		}
	}
	return nil
}

func (n *node) AwaitApplied(ctx context.Context, epoch uint64) error {
	for n.state.Load().Epoch < epoch {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Millisecond):
		}
	}
	return nil
}

// Table implements storage.Tables.
func (n *node) Table(gen schema.Generation) (*schema.Table, bool) {
	return n.state.Load().Catalog.TableByGeneration(gen)
}

// engine and batch bind storage to the coordinator.
type engine struct {
	*storage.Engine
	n *node // nil: what is written is not fenced
}

func (e engine) NewBatch() coordinator.Batch { return &batch{Batch: e.Engine.NewBatch(), n: e.n} }

func (e engine) WhenSynced(seq uint64, c coordinator.Committed) { e.Engine.WhenSynced(seq, c) }

func (e engine) ScanHints(start, end []byte, fn func(key, value []byte) bool) error {
	return e.Space(storage.SpaceHints).Scan(start, end, fn)
}

func (e engine) ScanBatchlog(start, end []byte, fn func(key, value []byte) bool) error {
	return e.Space(storage.SpaceBatchlog).Scan(start, end, fn)
}

func (e engine) Register(gen schema.Generation, token ring.Token, key []byte, part byte) ([]byte, bool, uint64, error) {
	return e.Engine.Register(gen, token, key, part)
}

func (e engine) RegistersFrom(gen schema.Generation, token ring.Token) []byte {
	return storage.RegistersFrom(gen, token)
}

func (e engine) ScanRegisters(at []byte, part byte, fn func(at coordinator.Register, value []byte) bool) ([]byte, error) {
	return e.Engine.ScanRegisters(at, part, func(h storage.RegisterHead) bool {
		return fn(coordinator.Register{Generation: h.Generation, Token: h.Token, Key: h.Key}, h.Value)
	})
}

func (e engine) NewRegisterBatch() coordinator.RegisterBatch {
	return &batch{Batch: e.Engine.NewBatch(), n: e.n}
}

var lowKey = []byte("paxos low bound")

func (e engine) lowBound() int64 {
	if v, ok, err := e.Space(storage.SpaceNode).Get(lowKey); err == nil && ok {
		return int64(binary.BigEndian.Uint64(v))
	}
	return 0
}

func (b *batch) SetLowBound(micros int64) error {
	return b.Set(storage.SpaceNode, lowKey, binary.BigEndian.AppendUint64(nil, uint64(micros)))
}

func (b *batch) CommitSynced(c coordinator.Committed) { b.Batch.CommitSynced(c) }

// batch refuses what was planned under another RingEpoch than that of the node, as package node's does.
type batch struct {
	*storage.Batch
	n       *node
	planned uint64
}

func (b *batch) Planned(ringEpoch uint64) { b.planned = ringEpoch }

func (b *batch) check() error {
	if b.n.state.Load().RingEpoch != b.planned {
		return coordinator.ErrOtherPlan
	}
	return nil
}

func (b *batch) Apply(m *row.Mutation) error {
	if err := b.check(); err != nil {
		return err
	}
	return b.Batch.Apply(m)
}

func (b *batch) ApplyAll(ms []row.Mutation) error {
	if err := b.check(); err != nil {
		return err
	}
	return b.Batch.ApplyAll(ms)
}

func (b *batch) SetRegister(gen schema.Generation, token ring.Token, key []byte, part byte, value []byte) error {
	if err := b.check(); err != nil {
		return err
	}
	return b.Batch.SetRegister(gen, token, key, part, value)
}

func (b *batch) PutHint(key, value []byte) error { return b.Set(storage.SpaceHints, key, value) }

func (b *batch) DeleteHint(key []byte) error { return b.Delete(storage.SpaceHints, key) }

func (b *batch) PutBatchlog(key, value []byte) error { return b.Set(storage.SpaceBatchlog, key, value) }

func (b *batch) DeleteBatchlog(key []byte) error { return b.Delete(storage.SpaceBatchlog, key) }

func (b *batch) Commit(c coordinator.Committed) { b.Batch.Commit(c) }

// start begins or, with what is on its disk, resumes a node.
func (n *node) start() {
	c := n.c
	var err error
	n.engine, err = storage.Open(context.Background(), storage.Options{Dir: "data", FS: n.fs, Tables: n, ReserveBytes: 1 << 20, PurgeInterval: -1,
		MemtableBytes: 4 << 20, BlockCacheBytes: 8 << 20, RowCacheBytes: 4 << 20, FreeSpaceInterval: 500 * time.Millisecond,
		FreeSpace: func() (uint64, error) { return n.free.Load(), nil }})
	if err != nil {
		c.t.Fatal(err)
	}
	host := c.net.Host(addrOf(n.i).Addr().String())
	ro := rpc.Options{Self: n.id, ClusterID: func() [16]byte { return [16]byte{7} }, Epoch: func() uint64 { return n.state.Load().Epoch },
		Listen:     func(context.Context) (net.Listener, error) { return host.Listen(":7000") },
		Dial:       host.Dial,
		Resolve:    func(id ring.HostID) (string, bool) { return addrOf(int(id[15]) - 1).String(), true },
		NewSession: func(from ring.HostID, _ rpc.Class) rpc.Session { return n.coord.NewSession(from) }}
	if c.lay.rpc != nil {
		c.lay.rpc(&ro)
	}
	if n.rpc, err = rpc.New(ro); err != nil {
		c.t.Fatal(err)
	}
	o := coordinator.Options{Self: n.id, Shard: n.shard, Cluster: n, Transport: n, Storage: engine{n.engine, n}, Hints: engine{n.engine, n}, Batchlog: engine{n.engine, n}, Alive: c.alive, DownSince: c.downSince,
		IsUnknownTable: func(err error) bool { return errors.Is(err, storage.ErrUnknownTable) },
		IsBatchFull:    func(err error) bool { return errors.Is(err, storage.ErrTooLarge) },
		IsInvalid: func(err error) bool {
			return errors.Is(err, storage.ErrBadMutation) || errors.Is(err, storage.ErrTooLarge)
		}}
	n.boots++
	o.Registers, o.LowBound, o.Boot = engine{n.engine, n}, engine{n.engine, n}.lowBound(), n.boots
	o.Now = func() time.Time { return time.Now().Add(time.Duration(n.skew.Load())) }
	if c.lay.tune != nil {
		c.lay.tune(&o)
	}
	coord, err := coordinator.New(o)
	if err != nil {
		c.t.Fatal(err)
	}
	c.mu.Lock()
	n.coord = coord
	c.mu.Unlock()
	ctx, cancel := context.WithCancel(context.Background())
	talking, silence := context.WithCancel(ctx)
	var wg, talk sync.WaitGroup
	transport := n.rpc
	talk.Go(func() { _ = transport.Run(talking) })
	wg.Go(func() { _ = coord.Run(ctx) })
	n.silence = func() { silence(); talk.Wait() }
	n.stop = func() {
		cancel()
		wg.Wait()
		n.silence()
		if err := n.engine.Close(); err != nil {
			c.t.Error(err)
		}
	}
}

// connect returns when the node and all others can talk to each other.
func (n *node) connect() {
	talk := func(from, to *node) {
		for {
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			_, _, err := from.rpc.Call(ctx, to.id, rpc.Data, 0, nil)
			cancel()
			if err == nil {
				return
			}
			time.Sleep(time.Millisecond)
		}
	}
	for _, o := range n.c.nodes {
		if o != n && o.stop != nil {
			talk(n, o)
			talk(o, n)
		}
	}
}

func (n *node) halt() {
	if n.stop != nil {
		n.stop()
		n.stop = nil
	}
}

// up is the node's coordinator, for those that use it while nodes crash and come back.
func (n *node) up() *coordinator.Coordinator {
	n.c.mu.Lock()
	defer n.c.mu.Unlock()
	return n.coord
}

// crash is a power loss: what is not synced is gone. The file system is crashable.
func (n *node) crash() {
	n.silence()
	fs := n.fs.(*vfs.MemFS).CrashClone(vfs.CrashCloneCfg{})
	n.halt()
	n.fs = fs
	n.start()
	n.connect()
}

func (c *cluster) alive(id ring.HostID) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, down := c.down[id]
	return !down
}

func (c *cluster) downSince(id ring.HostID) time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.down[id]
}

// setDown makes all believe that a node is down; its messages are lost as well.
func (c *cluster) setDown(i int, down bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !down {
		delete(c.down, hostID(i))
		for _, n := range c.nodes {
			n.coord.Hints().Nudge()
		}
		return
	}
	c.down[hostID(i)] = time.Now()
}

func (c *cluster) setFault(f func(m message) action) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.fault, c.log = f, nil
}

// sent returns how many messages of a verb have been sent since setFault.
func (c *cluster) sent(verb rpc.Verb) (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, m := range c.log {
		if m.verb == verb {
			n++
		}
	}
	return n
}

func (c *cluster) actionFor(m message) action {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.log = append(c.log, m)
	if _, down := c.down[hostID(m.to)]; down {
		return action{drop: true}
	}
	if _, down := c.down[hostID(m.from)]; down {
		return action{drop: true}
	}
	if c.fault == nil {
		return action{}
	}
	return c.fault(m)
}

type nobody struct{}

func (nobody) Done(*rpc.Response) {}

// Send implements coordinator.Transport with faults.
func (n *node) Send(to ring.HostID, class rpc.Class, verb rpc.Verb, deadline time.Time, body []byte, cb rpc.Callback) {
	n.sendWith(n.rpc.Send, to, class, verb, deadline, body, cb)
}

// SendTraced implements the coordinator's tracing transport likewise.
func (n *node) SendTraced(session [16]byte, to ring.HostID, class rpc.Class, verb rpc.Verb, deadline time.Time, body []byte, cb rpc.Callback) {
	n.sendWith(func(to ring.HostID, class rpc.Class, verb rpc.Verb, deadline time.Time, body []byte, cb rpc.Callback) {
		n.rpc.SendTraced(session, to, class, verb, deadline, body, cb)
	}, to, class, verb, deadline, body, cb)
}

type sendFunc func(to ring.HostID, class rpc.Class, verb rpc.Verb, deadline time.Time, body []byte, cb rpc.Callback)

func (n *node) sendWith(send sendFunc, to ring.HostID, class rpc.Class, verb rpc.Verb, deadline time.Time, body []byte, cb rpc.Callback) {
	a := n.c.actionFor(message{n.i, int(to[15]) - 1, verb, body})
	late := func() {
		time.AfterFunc(time.Until(deadline), func() {
			cb.Done(&rpc.Response{From: to, Verb: verb, Err: &rpc.Error{To: to, Cause: rpc.ErrTimeout, Sent: true}})
		})
	}
	switch {
	case a.unsent:
		cb.Done(&rpc.Response{From: to, Verb: verb, Err: &rpc.Error{To: to, Cause: rpc.ErrUnreachable}})
	case a.refuse != 0:
		cb.Done(&rpc.Response{From: to, Verb: verb, Status: a.refuse})
	case a.drop:
		late()
	case a.dropReply:
		send(to, class, verb, deadline, body, nobody{})
		late()
	case a.delay > 0:
		kept := bytes.Clone(body)
		time.AfterFunc(a.delay, func() { send(to, class, verb, deadline, kept, cb) })
	default:
		if a.twice {
			send(to, class, verb, deadline, body, nobody{})
		}
		send(to, class, verb, deadline, body, cb)
	}
}

// Content.

func key(i int) []byte { return binary.BigEndian.AppendUint32(nil, uint32(i)) }

func tokenOf(pk []byte) ring.Token { return ring.Murmur3{}.Token(pk) }

func (c *cluster) column(t *schema.Table, name string) schema.ColumnID { return t.Column(name).ID }

func (c *cluster) mutation(t *schema.Table, pk []byte, fill func(f *row.FragmentBuilder)) row.Mutation {
	var f row.FragmentBuilder
	f.Reset(nil, false)
	fill(&f)
	return row.Mutation{Generation: t.Generation, Token: tokenOf(pk), Key: pk, Fragment: f.Finish()}
}

func (c *cluster) rowOf(t *schema.Table, ts int64, value string) []byte {
	var b row.Builder
	b.Reset(nil)
	b.SetLiveness(row.Liveness{Timestamp: ts})
	b.Cell(row.Cell{Column: c.column(t, "v"), Timestamp: ts, Value: []byte(value)})
	return b.Finish()
}

// put is an INSERT of one row; ck is "" for the plain table.
func (c *cluster) put(t *schema.Table, pk []byte, ck string, ts int64, value string) row.Mutation {
	return c.mutation(t, pk, func(f *row.FragmentBuilder) { f.Row([]byte(ck), c.rowOf(t, ts, value)) })
}

func (c *cluster) deleteRow(t *schema.Table, pk []byte, ck string, ts int64) row.Mutation {
	return c.mutation(t, pk, func(f *row.FragmentBuilder) {
		var b row.Builder
		b.Reset(nil)
		b.SetDeletion(row.Deletion{Timestamp: ts, LocalTime: time.Now().Unix()})
		f.Row([]byte(ck), b.Finish())
	})
}

func (n *node) write(level coordinator.Level, ms ...row.Mutation) error {
	return n.coord.WriteSync(context.Background(), &coordinator.Write{Mutations: ms, Level: level, Type: coordinator.Simple})
}

func (c *cluster) mustWrite(n int, level coordinator.Level, ms ...row.Mutation) {
	c.t.Helper()
	if err := c.nodes[n].write(level, ms...); err != nil {
		c.t.Fatalf("write at %s: %v", level, err)
	}
}

// plant writes to the engine of one node only.
func (c *cluster) plant(n int, ms ...row.Mutation) {
	c.t.Helper()
	if err := c.nodes[n].engine.Write(context.Background(), ms); err != nil {
		c.t.Fatal(err)
	}
}

func (c *cluster) whole(t *schema.Table, pk []byte) row.Command {
	return row.Command{Generation: t.Generation, Now: time.Now().Unix(), Token: tokenOf(pk), Key: pk, WithStatic: true}
}

func (n *node) read(level coordinator.Level, cmd row.Command) (*row.Page, error) {
	r := &coordinator.Read{Command: cmd, Level: level}
	err := n.coord.ReadPage(context.Background(), r)
	return &r.Page, err
}

func (c *cluster) mustRead(n int, level coordinator.Level, cmd row.Command) string {
	c.t.Helper()
	p, err := c.nodes[n].read(level, cmd)
	if err != nil {
		c.t.Fatalf("read at %s: %v", level, err)
	}
	return pageText(c.t, p, cmd.Now)
}

// has returns the live rows of a partition in the engine of one node.
func (c *cluster) has(n int, t *schema.Table, pk []byte) string {
	c.t.Helper()
	cmd := c.whole(t, pk)
	cmd.GCBefore = row.NoTimestamp
	var p row.Page
	if _, err := c.nodes[n].engine.Read(&cmd, &p); err != nil {
		c.t.Fatal(err)
	}
	return pageText(c.t, &p, cmd.Now)
}

// pageText shows live rows as "ck=value ", with the partition in front when there are several.
func pageText(t testing.TB, page *row.Page, now int64) (out string) {
	t.Helper()
	var pr row.PageReader
	for pr.Init(page.Data); pr.Next(); {
		var f row.FragmentReader
		if err := f.Init(pr.Fragment); err != nil {
			t.Fatal(err)
		}
		if len(f.Static()) > 0 && row.HasLive(f.Static(), now) {
			out += "static=" + valueOf(t, f.Static(), now) + " "
		}
		for f.NextRow() {
			if row.HasLive(f.Row, now) {
				out += string(f.Ckey) + "=" + valueOf(t, f.Row, now) + " "
			}
		}
		if f.Err() != nil {
			t.Fatal(f.Err())
		}
	}
	if pr.Err() != nil {
		t.Fatal(pr.Err())
	}
	return out
}

func valueOf(t testing.TB, r []byte, now int64) (out string) {
	t.Helper()
	var rd row.Reader
	if err := rd.Init(r); err != nil {
		t.Fatal(err)
	}
	for rd.Next() {
		if !rd.Complex && rd.Cell.LiveAt(now) {
			out += string(rd.Cell.Value)
		}
	}
	return out
}

// eventually waits in steps of a second, virtual or not.
func eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	for range 120 {
		if cond() {
			return
		}
		time.Sleep(time.Second)
	}
	t.Fatalf("never: %s", what)
}

func mutations(ms ...row.Mutation) []row.Mutation { return ms }
