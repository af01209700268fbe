package node

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/helenusdb/helenus/admin"
	"github.com/helenusdb/helenus/meta"
	"github.com/helenusdb/helenus/repair"
	"github.com/helenusdb/helenus/repair/stream"
	"github.com/helenusdb/helenus/ring"
	"github.com/helenusdb/helenus/row"
	"github.com/helenusdb/helenus/schema"
	"github.com/helenusdb/helenus/storage"
)

// This file binds repair to storage, to the metadata and to the coordinator.

func (n *Node) makeRepair(context.Context) error {
	n.repair = repair.New(repair.Options{Self: n.home.HostID, Transport: n.rpc, Store: repairStore{n.engine, &n.gate}, Cluster: repairCluster{n},
		Registers: n.coord, Settle: n.settleRange, Stream: n.streamInterval, GCBefore: n.intervalBound, History: n.book.Load(), Waiting: n.waiting, Alive: n.alive, Now: n.o.Now, Logger: n.o.Logger})
	n.makeScheduler()
	return nil
}

// streamInterval is repair.Options.Stream. It keeps no marks: what it is asked for is small, and compared afterwards.
func (n *Node) streamInterval(ctx context.Context, gen schema.Generation, tokens ring.Interval, from ring.HostID) (records, bytes int64, err error) {
	tokens.First = max(tokens.First, ring.MinToken+1) // no key has the token MinToken, and a range that begins before it wraps
	q := stream.Request{From: from, Table: gen, Range: rangeOf(tokens)}
	err = n.streams.fetcher.Fetch(ctx, q, func(p stream.Progress) { records, bytes = p.Records, p.Bytes })
	return records, bytes, err
}

func (n *Node) startRepair(context.Context) error {
	n.services.start("repair", n.repair.Run, nil)
	n.services.start("repair scheduler", n.scheduler.Run, nil)
	return nil
}

// repairStore is storage as repair sees it.
type repairStore struct {
	e    *storage.Engine
	gate *gate
}

func (s repairStore) Read(cmd *row.Command, page *row.Page) error {
	_, err := s.e.Read(cmd, page)
	return err
}

func (s repairStore) Tally(ctx context.Context, q repair.Tally) (row.Tally, ring.Token, error) {
	return s.e.Tally(ctx, &storage.TallyRequest{Generation: q.Generation, At: q.At, Tokens: q.Tokens, Keep: q.Keep, Fresh: q.Fresh, Until: q.Until})
}

func (s repairStore) TallyParts(ctx context.Context, q repair.Tally, parts []ring.Interval) ([]row.Tally, error) {
	return s.e.TallyParts(ctx, &storage.TallyRequest{Generation: q.Generation, At: q.At}, parts)
}

// Apply commits mutations in as many batches as they need, each durable before the next begins.
func (s repairStore) Apply(ctx context.Context, ms []row.Mutation) error {
	b := &batch{Batch: s.e.NewBatch(), gate: s.gate}
	b.Planned(s.gate.current().RingEpoch)
	for i := range ms {
		err := b.Apply(&ms[i])
		if errors.Is(err, storage.ErrTooLarge) && b.Len() > 0 {
			if err := commitSynced(ctx, func(c committed) { b.CommitSynced(c) }); err != nil {
				return err
			}
			err = b.Apply(&ms[i])
		}
		if err != nil {
			b.Discard()
			return err
		}
	}
	return commitSynced(ctx, func(c committed) { b.CommitSynced(c) })
}

// commitSynced calls commit, a batch's CommitSynced, and returns when the batch is durable, under commit_sync periodic too. With ctx's error it may still
// become so.
func commitSynced(ctx context.Context, commit func(committed)) error {
	done := make(committed, 1)
	commit(done)
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// committed is a channel as a storage.Committed and a coordinator.Committed.
type committed chan error

func (c committed) Committed(err error) { c <- err }

func (s repairStore) Dropped(gen schema.Generation) func(col schema.ColumnID, ts int64) bool {
	return s.e.DroppedColumns(gen)
}

func (s repairStore) IsUnknownTable(err error) bool { return isUnknownTable(err) }

// repairCluster is the metadata as repair sees them.
type repairCluster struct{ n *Node }

func (c repairCluster) Epoch() uint64 { return c.n.log.Current().Epoch }

func (c repairCluster) Table(gen schema.Generation) (*schema.Table, bool) {
	return c.n.log.Current().Catalog.TableByGeneration(gen)
}

// Members implements repair.Cluster. Who is joining coordinates nothing, hence has no hints, before reads have moved to it.
func (c repairCluster) Members() (ids []ring.HostID) {
	s := c.n.log.Current()
	for _, m := range s.Members() {
		if m.State != meta.Pending || s.Owns(m.ID) {
			ids = append(ids, m.ID)
		}
	}
	return ids
}

// Lost implements repair.Cluster.
func (c repairCluster) Lost(ids []ring.HostID, since int64) bool { return c.n.losses.after(ids, since) }

// Sound implements repair.Cluster.
func (c repairCluster) Sound(id ring.HostID) bool { return c.n.sound(id) }

// Owns: a node that is becoming a replica takes what is repaired, and may be compared with.
func (c repairCluster) Owns(gen schema.Generation, tokens ring.Interval) bool {
	s := c.n.log.Current()
	t, ok := s.Catalog.TableByGeneration(gen)
	if !ok {
		return false
	}
	missing := []ring.Range{rangeOf(tokens)}
	for _, p := range []*ring.Placement{s.Placement(t.Keyspace), s.OtherPlacement(t.Keyspace)} {
		if p == nil || len(missing) == 0 {
			continue
		}
		if self, member := p.Ring().Node(c.n.home.HostID); member {
			missing = ring.Subtract(missing, p.Ranges(self))
		}
	}
	return len(missing) == 0
}

// rangeOf returns the tokens of an interval as a range.
func rangeOf(iv ring.Interval) ring.Range {
	if iv.First == ring.MinToken {
		if iv.Last == ring.MaxToken {
			return ring.FullRange()
		}
		return ring.Range{Start: ring.MaxToken, End: iv.Last}
	}
	return ring.Range{Start: iv.First - 1, End: iv.Last}
}

// Plan implements repair.Cluster: the ranges of each table that have the same replicas, joined.
func (c repairCluster) Plan(spec *repair.Spec) (tasks []repair.Task, err error) {
	s := c.n.log.Current()
	if err := movable(s); err != nil {
		return nil, err
	}
	tables, err := tablesOf(s, spec)
	if err != nil {
		return nil, err
	}
	groups := map[string][]group{}
	for _, t := range tables {
		g, ok := groups[t.Keyspace]
		if !ok {
			if g, err = c.groups(s, t.Keyspace, spec); err != nil {
				return nil, err
			}
			groups[t.Keyspace] = g
		}
		for _, r := range g {
			for _, iv := range r.tokens {
				tasks = append(tasks, repair.Task{Keyspace: t.Keyspace, Table: t.Name, Generation: t.Generation, Tokens: iv, Replicas: r.replicas})
			}
		}
	}
	return tasks, nil
}

func tablesOf(s *meta.State, spec *repair.Spec) (tables []*schema.Table, err error) {
	if spec.Keyspace == "" {
		if len(spec.Tables) > 0 {
			return nil, errors.New("tables need a keyspace")
		}
		for _, ks := range s.Catalog.Keyspaces() {
			if !ks.System() && !ks.Local && !ks.Virtual {
				tables = append(tables, ks.Tables()...)
			}
		}
		return tables, nil
	}
	ks, ok := s.Catalog.Keyspace(spec.Keyspace)
	if !ok {
		return nil, fmt.Errorf("keyspace %q does not exist", spec.Keyspace)
	}
	if ks.Local || ks.Virtual {
		return nil, fmt.Errorf("keyspace %q is not replicated: every node has its own", spec.Keyspace)
	}
	if len(spec.Tables) == 0 {
		return ks.Tables(), nil
	}
	for _, name := range spec.Tables {
		t, ok := ks.Table(name)
		if !ok {
			return nil, fmt.Errorf("table %q does not exist in keyspace %q", name, spec.Keyspace)
		}
		tables = append(tables, t)
	}
	return tables, nil
}

// group is intervals with the replicas that they are repaired between.
type group struct {
	replicas []ring.HostID // this node first, the others in the order of their ids
	tokens   []ring.Interval
}

// groups returns what of a keyspace is to be repaired, by replicas, in the order of their first tokens.
func (c repairCluster) groups(s *meta.State, keyspace string, spec *repair.Spec) ([]group, error) {
	p := s.Placement(keyspace)
	if p == nil {
		return nil, fmt.Errorf("keyspace %q is not replicated", keyspace)
	}
	self, member := p.Ring().Node(c.n.home.HostID)
	if !member {
		return nil, errors.New("this node has no tokens")
	}
	if err := c.selfAmong(s, spec); err != nil {
		return nil, err
	}
	var wanted []ring.Range
	for _, iv := range spec.Ranges {
		wanted = append(wanted, rangeOf(iv))
	}
	if lacking := ring.Subtract(wanted, p.Ranges(self)); len(lacking) > 0 {
		return nil, fmt.Errorf("this node is no replica of %s in keyspace %q", lacking[0], keyspace)
	}
	byReplicas, order := map[string]*group{}, []string{}
	ranges := map[string][]ring.Range{}
	for i := range p.Ring().Segments() {
		replicas := p.SegmentReplicas(i)
		if !slices.Contains(replicas, self) || spec.Primary && !c.primary(s, p, replicas, self, spec) {
			continue
		}
		ids := c.chosen(s, p, replicas, spec)
		if spec.Rebuild != "" {
			source, ok := c.source(s, ids[1:], spec.Rebuild, p.Ring().Segment(i))
			if !ok {
				return nil, fmt.Errorf("keyspace %q has no replica of %s in data centre %q beside this node: name the keyspaces that have", keyspace, p.Ring().Segment(i), spec.Rebuild)
			}
			ids = []ring.HostID{ids[0], source}
		}
		name := fmt.Sprint(ids)
		if byReplicas[name] == nil {
			byReplicas[name] = &group{replicas: ids}
			order = append(order, name)
		}
		ranges[name] = append(ranges[name], p.Ring().Segment(i))
	}
	var out []group
	for _, name := range order {
		rs := ring.Normalize(ranges[name])
		if len(wanted) > 0 {
			rs = ring.Intersect(rs, wanted)
		}
		g := byReplicas[name]
		for _, r := range rs {
			g.tokens = r.Intervals(g.tokens)
		}
		if len(g.tokens) > 0 && len(g.replicas) > 1 {
			out = append(out, *g)
		}
	}
	return out, nil
}

// selfAmong refuses data centres and hosts that are unknown or leave this node out.
func (c repairCluster) selfAmong(s *meta.State, spec *repair.Spec) error {
	known := s.DCs()
	for _, dc := range spec.DCs {
		if !slices.Contains(known, dc) {
			return fmt.Errorf("data centre %q does not exist", dc)
		}
	}
	if spec.Rebuild != "" && !slices.Contains(known, spec.Rebuild) {
		return fmt.Errorf("data centre %q does not exist", spec.Rebuild)
	}
	me := c.n.home.HostID
	if len(spec.DCs) > 0 && !slices.Contains(spec.DCs, s.Node(me).DC) {
		return errors.New("this node is in none of the data centres: a repair is led by one of the replicas")
	}
	for _, id := range spec.Hosts {
		if s.Node(id) == nil {
			return fmt.Errorf("host %s does not exist", id)
		}
	}
	if len(spec.Hosts) > 0 && !slices.Contains(spec.Hosts, me) {
		return errors.New("this node is none of the hosts: a repair is led by one of the replicas")
	}
	return nil
}

// source returns one of the replicas that is in the data centre, one that is alive if there is, another one for neighbouring ranges; ok false: there is none.
func (c repairCluster) source(s *meta.State, replicas []ring.HostID, dc string, r ring.Range) (id ring.HostID, ok bool) {
	var up, down []ring.HostID
	for _, id := range replicas {
		switch {
		case s.Node(id).DC != dc:
		case c.n.alive(id):
			up = append(up, id)
		default:
			down = append(down, id)
		}
	}
	if len(up) == 0 {
		up = down // its ranges fail, and say why
	}
	if len(up) == 0 {
		return id, false
	}
	return up[uint64(r.End)%uint64(len(up))], true
}

// primary tells whether this node is the first replica of a range: of all, or, when data centres are chosen, of those in them.
func (c repairCluster) primary(s *meta.State, p *ring.Placement, replicas []int32, self int32, spec *repair.Spec) bool {
	for _, r := range replicas {
		if len(spec.DCs) == 0 || slices.Contains(spec.DCs, p.Ring().Nodes()[r].DC) {
			return r == self
		}
	}
	return false
}

func (c repairCluster) chosen(s *meta.State, p *ring.Placement, replicas []int32, spec *repair.Spec) []ring.HostID {
	me := c.n.home.HostID
	ids := []ring.HostID{}
	for _, r := range replicas {
		n := p.Ring().Nodes()[r]
		if n.ID == me || len(spec.DCs) > 0 && !slices.Contains(spec.DCs, n.DC) || len(spec.Hosts) > 0 && !slices.Contains(spec.Hosts, n.ID) {
			continue
		}
		ids = append(ids, n.ID)
	}
	slices.SortFunc(ids, func(a, b ring.HostID) int { return strings.Compare(string(a[:]), string(b[:])) })
	return append([]ring.HostID{me}, ids...)
}

// repairMetrics are those of repairs that this node leads, and of leaves.
func (n *Node) repairMetrics() []admin.Metric {
	m, e := n.repair.Metrics(), n.engineMetrics
	counter := func(name, help string, load func() int64) admin.Metric {
		return admin.Metric{Name: name, Help: help, Kind: admin.Counter, Value: func() float64 { return float64(load()) }}
	}
	return []admin.Metric{
		{Name: "helenus_repairs_active", Help: "repairs under way that this node leads", Kind: admin.Gauge, Value: func() float64 { return float64(m.Active.Load()) }},
		counter("helenus_repair_sessions_total", "ranges of tables whose repair this node has led", m.Sessions.Load),
		counter("helenus_repair_sessions_failed_total", "those of them that failed", m.SessionsFailed.Load),
		counter("helenus_repair_rows_total", "rows and deletions sent to replicas by repairs that this node has led", m.Rows.Load),
		counter("helenus_repair_bytes_total", "bytes of them", m.Bytes.Load),
		counter("helenus_leaves_kept_total", "leaves of Merkle trees that were taken from the store", e.LeavesKept.Load),
		counter("helenus_leaves_computed_total", "leaves of Merkle trees that were computed", e.LeavesComputed.Load),
	}
}
