package node

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/helenusdb/helenus/meta"
	"github.com/helenusdb/helenus/repair"
	"github.com/helenusdb/helenus/ring"
	"github.com/helenusdb/helenus/row"
	"github.com/helenusdb/helenus/schema"
)

// trio is a cluster of three nodes with one table of three replicas, rows of which the test writes into the replicas behind the server's back.
type trio struct {
	t     testing.TB
	nodes []*Node
	table *schema.Table
	rng   *rand.Rand
	stops []func() error
}

func newTrio(t testing.TB, first int) *trio { return newTrioWith(t, first, nil) }

// newTrioWith is newTrio with further options of each node, by its index.
func newTrioWith(t testing.TB, first int, more func(i int, o *Options)) *trio {
	t.Helper()
	c := &trio{t: t, rng: rand.New(rand.NewPCG(uint64(first), 9))}
	seeds := host(first) + "," + host(first+1) + "," + host(first+2)
	var ended []chan error
	for i := range 3 {
		n := testNode(t, first+i, seeds, func(o *Options) {
			o.Config.HintedHandoff = false
			if more != nil {
				more(i, o)
			}
		})
		e, stop := run(n)
		c.nodes, ended, c.stops = append(c.nodes, n), append(ended, e), append(c.stops, stop)
	}
	t.Cleanup(func() {
		for _, stop := range c.stops {
			if err := stop(); err != nil {
				t.Error(err)
			}
		}
	})
	for i, n := range c.nodes {
		awaitReady(t, n, ended[i])
	}
	c.await("all nodes see each other", func() bool {
		for _, a := range c.nodes {
			for _, b := range c.nodes {
				if !a.alive(b.home.HostID) {
					return false
				}
			}
			if len(a.log.Current().Ring.Nodes()) != 3 {
				return false
			}
		}
		return true
	})
	c.create()
	return c
}

func (c *trio) await(what string, ok func() bool) {
	c.t.Helper()
	for end := time.Now().Add(time.Minute); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			c.t.Fatalf("not within a minute: %s", what)
		}
	}
}

func (c *trio) change(build func(s *meta.State, env schema.Env) (schema.Plan, error)) {
	c.t.Helper()
	n := c.nodes[0]
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	for {
		_, _, err := ddl{n}.Change(ctx, func(s *meta.State) (schema.Plan, error) {
			return build(s, schema.Env{NewID: func() schema.ID { return schema.ID(n.o.uuid()) }, Now: time.Now, KnownDCs: s.DCs(), Ring: s.Ring})
		})
		if err == nil {
			return
		}
		if ctx.Err() != nil {
			c.t.Fatal(err)
		}
	}
}

func (c *trio) create() {
	c.t.Helper()
	c.change(func(s *meta.State, env schema.Env) (schema.Plan, error) {
		return s.Catalog.CreateKeyspace(schema.CreateKeyspace{Name: "shop", IfNotExists: true, Properties: []schema.Property{{Name: "replication", IsMap: true,
			Map: []schema.Pair{{Key: "class", Value: "SimpleStrategy"}, {Key: "replication_factor", Value: "3"}}}}}, env)
	})
	text := schema.TypeSpec{Kind: schema.TypeNative, Name: "text"}
	c.change(func(s *meta.State, env schema.Env) (schema.Plan, error) {
		return s.Catalog.CreateTable(schema.CreateTable{Keyspace: "shop", Name: "orders", IfNotExists: true, PartitionKey: []string{"k"}, Clustering: []string{"c"},
			Columns: []schema.ColumnSpec{{Name: "k", Type: text}, {Name: "c", Type: text}, {Name: "s", Type: text, Static: true}, {Name: "v", Type: text}}}, env)
	})
	for _, n := range c.nodes {
		c.await("the table is everywhere", func() bool {
			t, ok := n.log.Current().Catalog.Table("shop", "orders")
			c.table = t
			return ok
		})
	}
}

func cellRow(col schema.ColumnID, ts int64, value string) []byte {
	var b row.Builder
	b.Reset(nil)
	b.SetLiveness(row.Liveness{Timestamp: ts})
	b.Cell(row.Cell{Column: col, Timestamp: ts, Value: []byte(value)})
	return b.Finish()
}

func (c *trio) mutation(key string, fill func(f *row.FragmentBuilder)) row.Mutation {
	var f row.FragmentBuilder
	f.Reset(nil, false)
	fill(&f)
	return row.Mutation{Generation: c.table.Generation, Token: ring.Murmur3{}.Token([]byte(key)), Key: []byte(key), Fragment: f.Finish()}
}

// put writes into replicas directly.
func (c *trio) put(ms []row.Mutation, replicas ...int) {
	c.t.Helper()
	for _, i := range replicas {
		for rest := ms; len(rest) > 0; {
			n := min(len(rest), 1000)
			if err := c.nodes[i].engine.Write(context.Background(), rest[:n]); err != nil {
				c.t.Fatal(err)
			}
			rest = rest[n:]
		}
	}
}

func (c *trio) everywhere(ms []row.Mutation) {
	c.t.Helper()
	c.put(ms, 0, 1, 2)
}

func ckey(i int) []byte { return fmt.Appendf(nil, "\x40c%06d\x00", i) }

// plant makes n random differences: one of them is on one or two of the replicas, each of another row, partition or range.
func (c *trio) plant(n int) (planted int) {
	c.t.Helper()
	each := make([][]row.Mutation, len(c.nodes))
	now := time.Now()
	for i := range n {
		key, ts := fmt.Sprintf("key%06d", i), now.UnixMicro()+int64(i)
		d := row.Deletion{Timestamp: ts, LocalTime: now.Unix()}
		m := c.mutation(key, func(f *row.FragmentBuilder) {
			switch c.rng.IntN(6) {
			case 0:
				f.PartitionDeletion(d)
			case 1:
				f.Static(cellRow(c.column("s"), ts, "another static"))
			case 2:
				f.RangeTombstone(row.RangeTombstone{Start: ckey(0), End: ckey(2), Deletion: d})
			case 3:
				var b row.Builder
				b.Reset(nil)
				b.SetDeletion(d)
				f.Row(ckey(1), b.Finish())
			default:
				f.Row(ckey(c.rng.IntN(4)), cellRow(c.column("v"), ts, "another value"))
			}
		})
		lucky := c.rng.IntN(3)
		each[lucky] = append(each[lucky], m)
		if other := c.rng.IntN(3); other != lucky {
			each[other] = append(each[other], m)
		}
	}
	for i, ms := range each {
		c.put(ms, i)
	}
	return n
}

func (c *trio) column(name string) schema.ColumnID {
	for _, list := range [][]*schema.Column{c.table.Static, c.table.Regular} {
		for _, col := range list {
			if col.Name == name {
				return col.ID
			}
		}
	}
	c.t.Fatalf("no column %s", name)
	return 0
}

// load writes equal rows into all replicas.
func (c *trio) load(partitions int) {
	c.t.Helper()
	var ms []row.Mutation
	for i := range partitions {
		ms = append(ms, c.mutation(fmt.Sprintf("key%06d", i), func(f *row.FragmentBuilder) {
			f.Static(cellRow(c.column("s"), 1000, "static"))
			for j := range 3 {
				f.Row(ckey(j), cellRow(c.column("v"), 1000, fmt.Sprintf("value %d of %d", j, i)))
			}
		}))
	}
	c.everywhere(ms)
}

// repair runs one led by a node.
func (c *trio) repair(leader int, spec repair.Spec) *repair.Report {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	r, err := c.nodes[leader].repair.Repair(ctx, spec, nil)
	if err != nil {
		c.t.Fatal(err)
	}
	for _, t := range r.Tables {
		for _, e := range t.Errors() {
			c.t.Error(e)
		}
	}
	return r
}

// sentTo returns the rows, deletions and bytes that a repair sent.
func sentTo(r *repair.Report) (rows, deletions, traffic int64) {
	for _, t := range r.Tables {
		_, reports := t.Peers()
		for _, p := range reports {
			rows, deletions, traffic = rows+p.Rows.Load(), deletions+p.Deletions.Load(), traffic+p.Traffic.Load()
		}
	}
	return rows, deletions, traffic
}

// sums returns the tally of each replica, read from the rows.
func (c *trio) sums() (out []row.Tally) {
	c.t.Helper()
	now := time.Now().Unix()
	for _, n := range c.nodes {
		s := repairStore{n.engine, &n.gate}
		t, _, err := s.Tally(context.Background(), repair.Tally{Generation: c.table.Generation, At: row.Purge{Now: now, GCBefore: row.NoTimestamp},
			Tokens: ring.Interval{First: ring.MinToken, Last: ring.MaxToken}, Fresh: true})
		if err != nil {
			c.t.Fatal(err)
		}
		out = append(out, t)
	}
	return out
}

func (c *trio) equal() bool {
	s := c.sums()
	return s[0] == s[1] && s[1] == s[2]
}

// TestRepairMendsPlantedDifferences: differences planted into replicas behind the server's back are all found and mended, by one repair, and nothing else is
// moved. A second repair moves nothing, and what is equal takes a message or two, whatever the state of compaction.
//
// Scenarios: TestScenario_A10, TestScenario_A3.
func TestRepairMendsPlantedDifferences(t *testing.T) {
	const partitions, differences = 1500, 300
	c := newTrio(t, 30)
	c.load(partitions)
	if r := c.repair(0, repair.Spec{}); r.Tables[0].RangesDifferent.Load() != 0 {
		t.Error("equal replicas differ")
	}
	c.plant(differences)
	if c.equal() {
		t.Fatal("nothing was planted")
	}
	preview := c.repair(1, repair.Spec{Keyspace: "shop", Tables: []string{"orders"}, Preview: true})
	if rows, deletions, _ := sentTo(preview); rows+deletions < int64(differences) {
		t.Errorf("a preview counts %d rows and %d deletions", rows, deletions)
	}
	if c.equal() {
		t.Error("a preview has changed something")
	}
	before := c.sums()
	r := c.repair(1, repair.Spec{Keyspace: "shop"})
	rows, deletions, traffic := sentTo(r)
	if !c.equal() {
		t.Errorf("replicas differ after a repair: %v, before %v", c.sums(), before)
	}
	// A difference is lacked by one or two replicas, and takes one item to each; a deletion is sent beside the rows that it shadows.
	if sent := rows + deletions; sent < int64(differences) || sent > int64(2*differences) {
		t.Errorf("%d rows and %d deletions were sent for %d differences", rows, deletions, differences)
	}
	t.Logf("%d differences in %d partitions: %d rows and %d deletions sent, %d bytes of messages", differences, partitions, rows, deletions, traffic)
	for _, n := range c.nodes[:2] {
		if err := errors.Join(n.engine.Flush(), n.engine.Compact(context.Background(), c.table.Generation)); err != nil {
			t.Fatal(err)
		}
	}
	c.repair(0, repair.Spec{}) // computes the leaves that were marked
	computed := c.nodes[2].engineMetrics.LeavesComputed.Load()
	for leader := range c.nodes {
		r := c.repair(leader, repair.Spec{})
		if rows, deletions, traffic := sentTo(r); rows+deletions != 0 || traffic > 4000 {
			t.Errorf("equal replicas: %d rows, %d deletions, %d bytes of messages", rows, deletions, traffic)
		}
	}
	if n := c.nodes[2].engineMetrics.LeavesComputed.Load(); n != computed {
		t.Errorf("%d leaves computed although nothing was written", n-computed)
	}
	full := c.repair(2, repair.Spec{Full: true})
	if rows, deletions, _ := sentTo(full); rows+deletions != 0 {
		t.Errorf("a full repair sends %d rows", rows+deletions)
	}
	if n := c.nodes[2].engineMetrics.LeavesComputed.Load(); n == computed {
		t.Error("a full repair reads nothing")
	}
}

// TestRepairDoesNotResurrect: an insert on the first replica, the insert and a purgeable deletion on the second, and nothing on the third, which has
// purged: a repair led by any of them brings nothing back.
//
// Scenarios: TestScenario_A1.
func TestRepairDoesNotResurrect(t *testing.T) {
	c := newTrio(t, 40)
	c.load(50)
	long := time.Now().Add(-time.Duration(c.table.Options.GCGraceSeconds+1000) * time.Second)
	for leader := range c.nodes {
		var inserts, deletions []row.Mutation
		for i := range 20 {
			key := fmt.Sprintf("gone%d-%d", leader, i)
			inserts = append(inserts, c.mutation(key, func(f *row.FragmentBuilder) {
				f.Row(ckey(1), cellRow(c.column("v"), long.UnixMicro(), "deleted"))
			}))
			d := row.Deletion{Timestamp: long.UnixMicro() + 1, LocalTime: long.Unix()}
			deletions = append(deletions, c.mutation(key, func(f *row.FragmentBuilder) {
				switch i % 3 {
				case 0:
					f.PartitionDeletion(d)
				case 1:
					f.RangeTombstone(row.RangeTombstone{Start: ckey(0), End: ckey(5), Deletion: d})
				case 2:
					var b row.Builder
					b.Reset(nil)
					b.SetDeletion(d)
					f.Row(ckey(1), b.Finish())
				}
			}))
		}
		c.put(inserts, 0, 1)
		c.put(deletions, 1)
		c.repair(leader, repair.Spec{})
		at := row.Purge{Now: time.Now().Unix()}
		at.GCBefore = at.Now - int64(c.table.Options.GCGraceSeconds)
		for i, n := range c.nodes {
			s := repairStore{n.engine, &n.gate}
			sum, _, err := s.Tally(context.Background(), repair.Tally{Generation: c.table.Generation, At: at, Tokens: ring.Interval{First: ring.MinToken, Last: ring.MaxToken}, Fresh: true})
			if err != nil {
				t.Fatal(err)
			}
			if sum.Items != 50*4 {
				t.Errorf("led by %d: node %d has %d items that count, not %d", leader, i, sum.Items, 50*4)
			}
		}
	}
}

// TestRepairFillsAnEmptyReplica: one that has lost everything gets it back, whole pages at a time, wide partitions too.
func TestRepairFillsAnEmptyReplica(t *testing.T) {
	c := newTrio(t, 60)
	c.load(500)
	wide := c.mutation("wide", func(f *row.FragmentBuilder) {
		for j := range 20_000 {
			f.Row(ckey(j), cellRow(c.column("v"), 1000, fmt.Sprintf("a value that makes the partition larger than a page %d", j)))
		}
	})
	c.put([]row.Mutation{wide}, 0, 2)
	c.put([]row.Mutation{c.mutation("wide", func(f *row.FragmentBuilder) {
		f.Row(ckey(77), cellRow(c.column("v"), 2000, "newer"))
	})}, 1)
	r := c.repair(2, repair.Spec{})
	if !c.equal() {
		t.Errorf("replicas differ after a repair: %v", c.sums())
	}
	if rows, _, _ := sentTo(r); rows != 20_000+1 { // 19,999 to the second, the newer one to the others
		t.Errorf("%d rows were sent", rows)
	}
}

// TestRepairRefusesWhatItCannotDo: a spec that names what is not there, and a replica that is down, are told.
func TestRepairRefusesWhatItCannotDo(t *testing.T) {
	c := newTrio(t, 70)
	c.load(10)
	for what, spec := range map[string]repair.Spec{
		"keyspace": {Keyspace: "nothing"}, "local keyspace": {Keyspace: "system"}, "table": {Keyspace: "shop", Tables: []string{"nothing"}},
		"tables alone": {Tables: []string{"orders"}}, "data centre": {DCs: []string{"mars"}}, "host": {Hosts: []ring.HostID{{9}}},
		"other host": {Hosts: []ring.HostID{c.nodes[1].home.HostID}},
	} {
		if _, err := c.nodes[0].repair.Repair(context.Background(), spec, nil); err == nil {
			t.Errorf("%s: no error", what)
		}
	}
	part := ring.Interval{First: -1000, Last: 1 << 60}
	r := c.repair(0, repair.Spec{Ranges: []ring.Interval{part}, Hosts: []ring.HostID{c.nodes[0].home.HostID, c.nodes[1].home.HostID}})
	if ids, _ := r.Tables[0].Peers(); len(ids) != 2 || r.Tasks != 1 {
		t.Errorf("%d replicas, %d tasks", len(ids), r.Tasks)
	}
	var tokens uint64
	for leader := range c.nodes {
		tasks, err := repairCluster{c.nodes[leader]}.Plan(&repair.Spec{Primary: true})
		if err != nil {
			t.Fatal(err)
		}
		for _, task := range tasks {
			tokens += uint64(task.Tokens.Last) - uint64(task.Tokens.First) + 1
		}
	}
	if tokens != 0 { // 2^64
		t.Errorf("the primary ranges of all nodes miss or repeat %d tokens", tokens)
	}
	if err := c.stops[2](); err != nil {
		t.Fatal(err)
	}
	c.stops = c.stops[:2]
	c.await("the third is down", func() bool { return !c.nodes[0].alive(c.nodes[2].home.HostID) })
	down, err := c.nodes[0].repair.Repair(context.Background(), repair.Spec{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if down.Failed() == 0 || len(down.Tables[0].Errors()) == 0 {
		t.Error("a replica is down and the repair does not say so")
	}
}

// TestRepairBesideTruncate: a table that is truncated while it is repaired ends the repair of its ranges, and nothing comes back.
//
// Scenarios: TestScenario_A9.
func TestRepairBesideTruncate(t *testing.T) {
	c := newTrio(t, 80)
	c.load(300)
	c.plant(300)
	old := c.table.Generation
	ended := make(chan error, 1)
	go func() {
		for range 5 {
			if _, err := c.nodes[0].repair.Repair(context.Background(), repair.Spec{}, nil); err != nil {
				ended <- err
				return
			}
		}
		ended <- nil
	}()
	c.change(func(s *meta.State, _ schema.Env) (schema.Plan, error) {
		return s.Catalog.Truncate(schema.Truncate{Keyspace: "shop", Name: "orders"}, schema.Env{})
	})
	if err := <-ended; err != nil {
		t.Error(err)
	}
	for _, n := range c.nodes {
		c.await("the old rows are gone", func() bool {
			any, err := n.engine.AnyRows(old)
			if err != nil {
				t.Fatal(err)
			}
			return !any
		})
		t, ok := n.log.Current().Catalog.Table("shop", "orders")
		if !ok {
			c.t.Fatal("the table is gone")
		}
		c.table = t
	}
	for i, s := range c.sums() {
		if s.Items != 0 {
			t.Errorf("node %d has %d items after TRUNCATE", i, s.Items)
		}
	}
	r := c.repair(1, repair.Spec{})
	if rows, deletions, _ := sentTo(r); rows+deletions != 0 {
		t.Errorf("%d rows and %d deletions were sent after TRUNCATE", rows, deletions)
	}
}

// TestRepairStreamsToAnEmptyReplica: one that lacks a large part of the ring whole is filled by streams, from both others; what only it has, and a deletion that only one of the
// others has, come to all, each row is sent once, and what a purgeable deletion of one of the others shadows does not come back by the other one's stream (scenario A1).
func TestRepairStreamsToAnEmptyReplica(t *testing.T) {
	c := newTrio(t, 63)
	c.change(func(s *meta.State, env schema.Env) (schema.Plan, error) {
		return s.Catalog.AlterTable(schema.AlterTable{Keyspace: "shop", Name: "orders", Kind: schema.AlterProperties,
			Properties: []schema.Property{{Name: "tombstone_gc", IsMap: true, Map: []schema.Pair{{Key: "mode", Value: "timeout"}}}}}, env)
	})
	const partitions, gone = 5000, 20 // 20 MiB
	for at := 0; at < partitions; at += 1000 {
		c.put(c.large(at, 1000, 1<<10), 0, 1)
	}
	now := time.Now()
	c.put([]row.Mutation{c.mutation("only here", func(f *row.FragmentBuilder) { f.Row(ckey(1), cellRow(c.column("v"), now.UnixMicro(), "here")) })}, 2)
	deletion := func(key int, at time.Time) row.Mutation {
		return c.mutation(fmt.Sprintf("large%06d", key), func(f *row.FragmentBuilder) {
			f.PartitionDeletion(row.Deletion{Timestamp: at.UnixMicro(), LocalTime: at.Unix()})
		})
	}
	c.put([]row.Mutation{deletion(gone, now)}, 1)
	long := now.Add(-time.Duration(c.table.Options.GCGraceSeconds+1000) * time.Second)
	for i := range gone {
		c.put([]row.Mutation{deletion(i, long)}, i%2)
	}
	r := c.repair(0, repair.Spec{})
	want := uint64(4*(partitions-gone-1) + 2) // rows of which nobody knows a deletion, the one that only one had, and the deletion that counts
	for i, n := range c.nodes {
		s := repairStore{n.engine, &n.gate}
		sum, _, err := s.Tally(t.Context(), repair.Tally{Generation: c.table.Generation, At: row.Purge{Now: now.Unix(), GCBefore: now.Unix() - int64(c.table.Options.GCGraceSeconds)},
			Tokens: ring.Interval{First: ring.MinToken, Last: ring.MaxToken}, Fresh: true})
		if err != nil {
			t.Fatal(err)
		}
		if sum.Items != want {
			t.Errorf("node %d has %d items that count instead of %d", i, sum.Items, want)
		}
	}
	rows, deletions, traffic := sentTo(r)
	in := c.nodes[2].streamStats().Peers
	if len(in) != 2 || in[0].BytesIn < 8<<20 || in[1].BytesIn < 8<<20 {
		t.Errorf("streams brought %+v", in)
	}
	if rows+deletions < 4*(partitions-gone) || rows+deletions > 4*partitions+4*gone || traffic > 25<<20 {
		t.Errorf("%d rows and %d deletions of %d were sent, %d bytes of messages", rows, deletions, 4*partitions, traffic)
	}
	if again := c.repair(1, repair.Spec{}); again.Tables[0].RangesDifferent.Load() != 0 {
		t.Error("a second repair finds differences")
	}
}
