package node

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/helenusdb/helenus/meta"
	"github.com/helenusdb/helenus/repair"
	"github.com/helenusdb/helenus/ring"
	"github.com/helenusdb/helenus/row"
	"github.com/helenusdb/helenus/schema"
	"github.com/helenusdb/helenus/storage"
)

// gardener plants differences: what some replicas of a trio were told, and others were not. Beside them it has stores of its own. The witness is told everything: it is
// what all replicas have to be after a repair. Each replica's double is told what it was, and the deletions of partitions and ranges that all of them were: what it lacks then
// of the witness has to be sent, row by row.
type gardener struct {
	*trio
	witness *storage.Engine
	doubles [3]*storage.Engine
	rng     *rand.Rand
	now     time.Time
	base    int64 // timestamp of what all have, µs
	each    [3][]row.Mutation
	others  [3][]row.Mutation // that the doubles are told beside those
	all     []row.Mutation
}

func newGardener(c *trio, seed uint64) *gardener {
	c.t.Helper()
	g := &gardener{trio: c, rng: rand.New(rand.NewPCG(seed, 5)), now: time.Now()}
	g.base = g.now.Add(-time.Hour).UnixMicro()
	g.createThings()
	g.witness = g.store("witness")
	for i := range g.doubles {
		g.doubles[i] = g.store(fmt.Sprint("double", i))
	}
	return g
}

func (g *gardener) store(dir string) *storage.Engine {
	g.t.Helper()
	e, err := storage.Open(context.Background(), storage.Options{Dir: dir, FS: storage.Memory(), ReserveBytes: -1, PurgeInterval: -1,
		Tables: tables{g.nodes[0].log}, Fatal: func(err error) { g.t.Errorf("fatal: %v", err) }})
	if err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(func() {
		if err := e.Close(); err != nil {
			g.t.Error(err)
		}
	})
	return e
}

// createThings makes the table that differences are planted into: statics, collections and plain columns.
func (g *gardener) createThings() {
	g.t.Helper()
	text := schema.TypeSpec{Kind: schema.TypeNative, Name: "text"}
	g.change(func(s *meta.State, env schema.Env) (schema.Plan, error) {
		return s.Catalog.CreateTable(schema.CreateTable{Keyspace: "shop", Name: "things", PartitionKey: []string{"k"}, Clustering: []string{"c"},
			Columns: []schema.ColumnSpec{{Name: "k", Type: text}, {Name: "c", Type: text}, {Name: "s", Type: text, Static: true},
				{Name: "sm", Type: schema.TypeSpec{Kind: schema.TypeMap, Elems: []schema.TypeSpec{text, text}}, Static: true}, {Name: "v", Type: text}, {Name: "w", Type: text},
				{Name: "x", Type: schema.TypeSpec{Kind: schema.TypeMap, Elems: []schema.TypeSpec{text, text}}}}}, env)
	})
	for _, n := range g.nodes {
		g.await("the table is everywhere", func() bool {
			t, ok := n.log.Current().Catalog.Table("shop", "things")
			g.table = t
			return ok
		})
	}
}

// told notes that some replicas are told of a mutation.
func (g *gardener) told(m row.Mutation, replicas ...int) {
	g.all = append(g.all, m)
	for _, i := range replicas {
		g.each[i] = append(g.each[i], m)
	}
}

// toldDeletion is told of a mutation that deletes a partition or ranges and brings no row.
func (g *gardener) toldDeletion(m row.Mutation, replicas ...int) {
	g.told(m, replicas...)
	for i := range g.others {
		g.others[i] = append(g.others[i], m)
	}
}

// flush writes what was told, in an order of its own into each store.
func (g *gardener) flush() {
	g.t.Helper()
	write := func(e *storage.Engine, ms []row.Mutation) {
		g.rng.Shuffle(len(ms), func(a, b int) { ms[a], ms[b] = ms[b], ms[a] })
		for ; len(ms) > 0; ms = ms[min(len(ms), 1000):] {
			if err := e.Write(context.Background(), ms[:min(len(ms), 1000)]); err != nil {
				g.t.Fatal(err)
			}
		}
	}
	for i, n := range g.nodes {
		write(n.engine, g.each[i])
		write(g.doubles[i], append(g.each[i], g.others[i]...))
		g.each[i], g.others[i] = nil, nil
	}
	write(g.witness, g.all)
	g.all = nil
}

// some returns one or two of the replicas.
func (g *gardener) some() []int {
	all := g.rng.Perm(3)
	return all[:1+g.rng.IntN(2)]
}

func things(i int) string { return fmt.Sprintf("thing%06d", i) }

const thingRows = 4 // of a partition

// content is one row: a builder that knows the table's columns. Cells are to be set in the order of the ids of their columns.
type content struct {
	g *gardener
	b row.Builder
}

func (g *gardener) content() *content {
	c := &content{g: g}
	c.b.Reset(nil)
	return c
}

func (c *content) live(ts int64, ttl int32, expiry int64) *content {
	c.b.SetLiveness(row.Liveness{Timestamp: ts, TTL: ttl, Expiry: expiry})
	return c
}

func (c *content) cell(col string, ts int64, value string) *content {
	c.b.Cell(row.Cell{Column: c.g.column(col), Timestamp: ts, Value: []byte(value)})
	return c
}

func (c *content) dying(col string, ts int64, ttl int32, expiry int64) *content {
	c.b.Cell(row.Cell{Column: c.g.column(col), Timestamp: ts, TTL: ttl, Expiry: expiry, Value: []byte("for a while")})
	return c
}

func (c *content) dead(col string, ts int64) *content {
	c.b.Cell(row.Cell{Column: c.g.column(col), Timestamp: ts, Tombstone: true, Expiry: c.g.now.Unix()})
	return c
}

func (c *content) element(col, key string, ts int64, value string) *content {
	c.b.Cell(row.Cell{Column: c.g.column(col), Path: fmt.Appendf(nil, "\x40%s\x00", key), Timestamp: ts, Value: []byte(value), Tombstone: value == "", Expiry: c.g.expiryOf(value)})
	return c
}

func (g *gardener) expiryOf(value string) int64 {
	if value == "" {
		return g.now.Unix()
	}
	return 0
}

func (c *content) emptied(col string, ts int64) *content {
	c.b.ComplexDeletion(c.g.column(col), row.Deletion{Timestamp: ts, LocalTime: c.g.now.Unix()})
	return c
}

func (g *gardener) deletion(ts int64) row.Deletion {
	return row.Deletion{Timestamp: ts, LocalTime: g.now.Unix()}
}

// load gives all replicas and the witness the same partitions; each second one has a static row.
func (g *gardener) load(partitions int) {
	g.t.Helper()
	for i := range partitions {
		g.told(g.mutation(things(i), func(f *row.FragmentBuilder) {
			if i%2 == 0 {
				f.Static(g.content().cell("s", g.base, "static").element("sm", "a", g.base, "static element").b.Finish())
			}
			for j := range thingRows {
				c := g.content().live(g.base, 0, 0)
				f.Row(ckey(j), c.cell("v", g.base, fmt.Sprint("v", i, j)).cell("w", g.base, "w").element("x", "a", g.base, "1").element("x", "b", g.base, "2").b.Finish())
			}
		}), 0, 1, 2)
	}
	g.flush()
}

// kind plants one difference into a partition that nobody else touches. The second timestamp is later than the first, both later than what all have.
type kind struct {
	name  string
	plant func(g *gardener, key string, ts, later int64)
}

// aRow is a difference of one row.
func aRow(name string, at int, fill func(c *content, ts int64)) kind {
	return kind{name, func(g *gardener, key string, ts, _ int64) {
		g.told(g.mutation(key, func(f *row.FragmentBuilder) {
			c := g.content()
			fill(c, ts)
			f.Row(ckey(at), c.b.Finish())
		}), g.some()...)
	}}
}

// tie is what two replicas were told in different ways as of the same instant, and the third was not.
func tie(name string, one, other func(c *content, ts int64)) kind {
	return kind{name, func(g *gardener, key string, ts, _ int64) {
		all := g.rng.Perm(3)
		for i, fill := range []func(c *content, ts int64){one, other} {
			g.told(g.mutation(key, func(f *row.FragmentBuilder) {
				c := g.content()
				fill(c, ts)
				f.Row(ckey(2), c.b.Finish())
			}), all[i])
		}
	}}
}

const aYear = 365 * 24 * 3600

var kinds = []kind{
	aRow("a row is missing", thingRows, func(c *content, ts int64) {
		c.live(ts, 0, 0).cell("v", ts, "only here").element("x", "a", ts, "only here")
	}),
	aRow("a cell is older", 1, func(c *content, ts int64) { c.cell("v", ts, "newer") }),
	aRow("a marker is missing", thingRows+1, func(c *content, ts int64) { c.live(ts, 0, 0) }),
	aRow("the deletion of a row is missing", 1, func(c *content, ts int64) { c.b.SetDeletion(c.g.deletion(ts)) }),
	aRow("the deletion of a row that nobody has is missing", thingRows+2, func(c *content, ts int64) { c.b.SetDeletion(c.g.deletion(ts)) }),
	aRow("the deletion of a cell is missing", 0, func(c *content, ts int64) { c.dead("w", ts) }),
	aRow("the deletion of a collection is missing", 3, func(c *content, ts int64) { c.emptied("x", ts) }),
	aRow("a collection was overwritten", 3, func(c *content, ts int64) { c.emptied("x", ts-1).element("x", "z", ts, "new") }),
	aRow("an element is older", 3, func(c *content, ts int64) { c.element("x", "b", ts, "newer") }),
	aRow("the deletion of an element is missing", 2, func(c *content, ts int64) { c.element("x", "a", ts, "") }),
	aRow("a cell with a TTL is missing", 0, func(c *content, ts int64) { c.dying("v", ts, aYear, c.g.now.Unix()+aYear) }),
	aRow("a row with a TTL is missing", thingRows, func(c *content, ts int64) {
		c.live(ts, aYear, c.g.now.Unix()+aYear).dying("v", ts, aYear, c.g.now.Unix()+aYear)
	}),
	aRow("a cell that has expired is missing", 0, func(c *content, ts int64) { c.dying("v", ts, 60, c.g.now.Unix()-60) }),
	{"a static row is missing or older", func(g *gardener, key string, ts, _ int64) {
		g.told(g.mutation(key, func(f *row.FragmentBuilder) { f.Static(g.content().cell("s", ts, "newer").b.Finish()) }), g.some()...)
	}},
	{"the deletion of a static cell and of a static collection is missing", func(g *gardener, key string, ts, _ int64) {
		g.told(g.mutation(key, func(f *row.FragmentBuilder) { f.Static(g.content().dead("s", ts).emptied("sm", ts).b.Finish()) }), g.some()...)
	}},
	{"the deletion of a range is missing", func(g *gardener, key string, ts, _ int64) {
		g.toldDeletion(g.mutation(key, func(f *row.FragmentBuilder) {
			f.RangeTombstone(row.RangeTombstone{Start: ckey(1), End: ckey(3), Deletion: g.deletion(ts)})
		}), g.some()...)
	}},
	{"a row is newer than the deletion of a range that others have", func(g *gardener, key string, ts, later int64) {
		all := g.rng.Perm(3)
		g.toldDeletion(g.mutation(key, func(f *row.FragmentBuilder) {
			f.RangeTombstone(row.RangeTombstone{Start: ckey(0), End: ckey(4), Deletion: g.deletion(ts)})
		}), all[0])
		g.told(g.mutation(key, func(f *row.FragmentBuilder) {
			f.Row(ckey(2), g.content().live(later, 0, 0).cell("v", later, "written again").b.Finish())
		}), all[1])
	}},
	{"the deletion of a partition is missing", func(g *gardener, key string, ts, _ int64) {
		g.toldDeletion(g.mutation(key, func(f *row.FragmentBuilder) { f.PartitionDeletion(g.deletion(ts)) }), g.some()...)
	}},
	{"a partition was deleted here and written there", func(g *gardener, key string, ts, later int64) {
		all := g.rng.Perm(3)
		g.toldDeletion(g.mutation(key, func(f *row.FragmentBuilder) { f.PartitionDeletion(g.deletion(ts)) }), all[0])
		g.told(g.mutation(key, func(f *row.FragmentBuilder) {
			f.Row(ckey(1), g.content().live(later, 0, 0).cell("w", later, "afterwards").b.Finish())
			f.Row(ckey(2), g.content().live(ts-1, 0, 0).cell("w", ts-1, "before").b.Finish())
		}), all[1])
	}},
	{"a whole partition is missing", func(g *gardener, key string, ts, _ int64) {
		g.told(g.mutation("new "+key, func(f *row.FragmentBuilder) {
			f.Static(g.content().cell("s", ts, "static").b.Finish())
			for j := range thingRows {
				f.Row(ckey(j), g.content().live(ts, 0, 0).cell("v", ts, "v").cell("w", ts, "w").b.Finish())
			}
		}), g.some()...)
	}},
	{"two replicas were told of different columns of a row", func(g *gardener, key string, ts, later int64) {
		all := g.rng.Perm(3)
		for i, col := range []string{"v", "w"} {
			g.told(g.mutation(key, func(f *row.FragmentBuilder) { f.Row(ckey(2), g.content().cell(col, ts, col+" newer").b.Finish()) }), all[i])
		}
	}},
	tie("two values of one instant", func(c *content, ts int64) { c.cell("v", ts, "one") }, func(c *content, ts int64) { c.cell("v", ts, "other") }),
	tie("a value and a deletion of one instant", func(c *content, ts int64) { c.cell("v", ts, "one") }, func(c *content, ts int64) { c.dead("v", ts) }),
	tie("a value with and one without TTL of one instant", func(c *content, ts int64) { c.cell("v", ts, "one") },
		func(c *content, ts int64) { c.dying("v", ts, aYear, c.g.now.Unix()+aYear) }),
	tie("a row and its deletion of one instant", func(c *content, ts int64) { c.live(ts, 0, 0).cell("v", ts, "one") }, func(c *content, ts int64) { c.b.SetDeletion(c.g.deletion(ts)) }),
}

// plant makes n differences, all kinds in turn, each in a partition of its own, and returns how many there are of each kind.
func (g *gardener) plant(n int) {
	g.t.Helper()
	for i := range n {
		kinds[i%len(kinds)].plant(g, things(i), g.base+int64(1000+4*i), g.base+int64(1002+4*i))
	}
	g.flush()
}

// item is what a store has in one place.
type item struct {
	hash     uint64
	bytes    int
	deletion bool // one that covers more than a row
}

// itemsOf returns all that counts in a store, whatever its age, by place.
func (g *gardener) itemsOf(e *storage.Engine) map[string]item {
	g.t.Helper()
	at := row.Purge{Now: g.now.Unix(), GCBefore: row.NoTimestamp}
	cmd := row.Command{Generation: g.table.Generation, Now: at.Now, GCBefore: at.GCBefore, Range: &ring.Range{Start: ring.MinToken, End: ring.MinToken}, WithStatic: true, Bytes: 1 << 30}
	var page row.Page
	if _, err := e.Read(&cmd, &page); err != nil {
		g.t.Fatal(err)
	}
	out := map[string]item{}
	var items row.Items
	items.Init(at, nil)
	add := func(i *row.Item) error {
		place := fmt.Sprintf("%s %d %x %x %x", i.Key, i.Kind, i.Ckey, i.Range.Start, i.Range.End)
		out[place] = item{i.Hash, i.Bytes, i.Kind == row.ItemRange || i.Kind == row.ItemDeletion}
		return nil
	}
	if err := items.Page(&page, add); err != nil {
		g.t.Fatal(err)
	}
	if err := items.Finish(add); err != nil {
		g.t.Fatal(err)
	}
	return out
}

// deletionBytesMax is more than the deletion of a range takes, with its partition's key.
const deletionBytesMax = 64

// lacks is what a replica has to be sent.
type lacks struct {
	rows, deletions int64
	bytes           int64 // at most: a row that lacks a cell is not sent whole
}

func lacking(have, want map[string]item) (l lacks) {
	for place, w := range want {
		if h, ok := have[place]; ok && h.hash == w.hash {
			continue
		}
		l.bytes += int64(w.bytes)
		if w.deletion {
			l.deletions++
		} else {
			l.rows++
		}
	}
	return l
}

func sameItems(a, b map[string]item) bool {
	for place, v := range a {
		if b[place].hash != v.hash {
			return false
		}
	}
	return len(a) == len(b)
}

// sentEach returns what a repair has sent, by replica.
func (c *trio) sentEach(r *repair.Report, table string) (out [3]lacks) {
	for _, t := range r.Tables {
		ids, reports := t.Peers()
		for i, id := range ids {
			for j, n := range c.nodes {
				if t.Table == table && id == n.home.HostID {
					out[j] = lacks{reports[i].Rows.Load(), reports[i].Deletions.Load(), reports[i].Bytes.Load()}
				}
			}
		}
	}
	return out
}

// TestRepairMendsTenThousandDifferences: of all kinds, planted behind the server's back, one in each partition. One repair finds and mends all of them, by the
// judgement of a store that was told everything; it sends each replica the rows and deletions that it lacks and not one more; a second one, led by whomever, finds nothing.
//
// Scenarios: the fourth of what issue 5 asks to be shown.
func TestRepairMendsTenThousandDifferences(t *testing.T) {
	partitions, differences := 12_000, 10_000
	if testing.Short() {
		partitions, differences = 1200, 1000
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	g := newGardener(newTrio(t, 200), seed)
	g.load(partitions)
	g.plant(differences)
	want := g.itemsOf(g.witness)
	var need [3]lacks
	for i, n := range g.nodes {
		need[i] = lacking(g.itemsOf(n.engine), want)
		afterDeletions := lacking(g.itemsOf(g.doubles[i]), want)
		need[i].rows, need[i].bytes = afterDeletions.rows, afterDeletions.bytes+need[i].deletions*deletionBytesMax
	}
	spec := repair.Spec{Keyspace: "shop", Tables: []string{"things"}}
	leader := g.rng.IntN(3)
	sent := g.sentEach(g.repair(leader, spec), "things")
	for i, n := range g.nodes {
		if have := g.itemsOf(n.engine); !sameItems(have, want) {
			t.Errorf("node %d is not what it should be after a repair led by %d: %v are left of %v", i, leader, lacking(have, want), need[i])
		}
		t.Logf("node %d lacked %+v, was sent %+v", i, need[i], sent[i])
		if sent[i].rows != need[i].rows || sent[i].deletions != need[i].deletions {
			t.Errorf("node %d was sent %d rows and %d deletions for %d and %d that it lacked", i, sent[i].rows, sent[i].deletions, need[i].rows, need[i].deletions)
		}
		if sent[i].bytes > need[i].bytes {
			t.Errorf("node %d was sent %d bytes for %d", i, sent[i].bytes, need[i].bytes)
		}
	}
	for leader := range g.nodes {
		r := g.repair(leader, spec)
		if again := g.sentEach(r, "things"); again != [3]lacks{} || r.Tables[0].RangesDifferent.Load() != 0 {
			t.Errorf("a second repair, led by %d, finds %d ranges that differ and sends %+v", leader, r.Tables[0].RangesDifferent.Load(), again)
		}
	}
}
