package storage

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/helenusdb/helenus/ring"
	"github.com/helenusdb/helenus/row"
	"github.com/helenusdb/helenus/schema"
)

var (
	seedFlag = flag.Uint64("storage.seed", 0, "replay one run of the metamorphic test")
	timeFlag = flag.Duration("storage.time", 15*time.Second, "how long the metamorphic test runs; HELENUS_STORAGE_TIME too")
)

// TestMetamorphic runs random operations against the engine and a plain model, over varied options, with crashes, and compares
// every answer. It prints the seed of a failing run; -storage.seed replays it.
//
// Scenarios: TestScenario_R11, TestScenario_T11.
func TestMetamorphic(t *testing.T) {
	if *seedFlag != 0 {
		metamorphicRun(t, *seedFlag)
		return
	}
	limit := *timeFlag
	if s := os.Getenv("HELENUS_STORAGE_TIME"); s != "" {
		d, err := time.ParseDuration(s)
		if err != nil {
			t.Fatal(err)
		}
		limit = d
	} else if os.Getenv("HELENUS_LONG") == "1" {
		limit = 5 * time.Minute
	} else if testing.Short() {
		limit = time.Second
	}
	first, runs := uint64(time.Now().UnixNano()), uint64(0)
	for end := time.Now().Add(limit); time.Now().Before(end) && !t.Failed(); runs++ {
		metamorphicRun(t, first+runs)
	}
	t.Logf("%d runs", runs)
}

func metamorphicRun(t *testing.T, seed uint64) {
	r := &metaRun{t: t, seed: seed, rng: rand.New(rand.NewPCG(seed, 1)), model: newModel(), now: 100_000, gens: []schema.Generation{genPlain, genWide, genRepair, genOther}}
	r.mem = vfs.NewCrashableMem()
	r.options = r.randomOptions()
	r.engine = openTest(t, r.options)
	defer func() {
		if t.Failed() {
			t.Logf("replay with: go test ./storage -run TestMetamorphic -storage.seed=%d", seed)
			for _, l := range r.log[max(0, len(r.log)-600):] {
				t.Logf("%.400s", l)
			}
		}
	}()
	steps := 200 + r.rng.IntN(400)
	for range steps {
		r.step()
		if t.Failed() {
			break
		}
	}
	if err := r.engine.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
}

type metaRun struct {
	t       *testing.T
	seed    uint64
	rng     *rand.Rand
	mem     *vfs.MemFS
	options Options
	engine  *Engine
	model   *model
	now     int64
	gens    []schema.Generation // not dropped
	purged  map[schema.Generation]bool
	log     []string
	crashes int
}

func (r *metaRun) note(format string, args ...any) {
	r.log = append(r.log, fmt.Sprintf(format, args...))
}

func pick[T any](rng *rand.Rand, xs ...T) T { return xs[rng.IntN(len(xs))] }

func (r *metaRun) randomOptions() Options {
	o := testOptions(r.mem)
	o.MemtableBytes = pick(r.rng, int64(64<<10), 256<<10, 4*mib)
	o.BlockCacheBytes = mib
	o.RowCacheBytes = pick(r.rng, int64(-1), 4<<10, 16<<10, 8*mib)
	o.Stripes = pick(r.rng, 1, 2, 64)
	o.FoldOperands = pick(r.rng, 2, 3, 64)
	o.Sync = pick(r.rng, Group, Group, Batched)
	o.Compression = pick(r.rng, CompressFast, CompressSmall)
	o.InFlightMax = pick(r.rng, 1, 4, 1024)
	o.Now = func() time.Time { return time.Unix(r.now, 0) }
	return o
}

func (r *metaRun) step() {
	switch n := r.rng.IntN(1021); {
	case n < 500:
		r.write()
	case n < 950:
		r.read()
	case n < 960:
		r.must("flush", r.engine.Flush())
	case n < 964:
		gen := pick(r.rng, r.gens...)
		r.must("compact", r.engine.Compact(context.Background(), gen))
	case n < 970:
		r.now += int64(r.rng.IntN(700))
		r.note("now %d", r.now)
	case n < 982:
		r.purge()
	case n < 986:
		r.ingest()
	case n < 990:
		r.reopen()
	case n < 998:
		r.crash()
	case n < 999:
		r.drop()
	case n < 1020:
		r.tally()
	default:
		r.partitions()
	}
}

func (r *metaRun) must(what string, err error) {
	r.note("%s", what)
	if err != nil {
		r.t.Errorf("%s: %v", what, err)
	}
}

func (r *metaRun) key() []byte { return pkey(r.rng.IntN(6)) }

func (r *metaRun) ts() int64 { return int64(1 + r.rng.IntN(60)) }

func (r *metaRun) deletion() row.Deletion {
	return row.Deletion{Timestamp: r.ts(), LocalTime: r.now - int64(r.rng.IntN(100))}
}

func (r *metaRun) write() {
	var ms []row.Mutation
	var cs []change
	for range 1 + r.rng.IntN(3) {
		c := r.change()
		cs = append(cs, c)
		ms = append(ms, c.mutation())
		r.note("%s", c.text())
	}
	if err := r.engine.Write(context.Background(), ms); err != nil {
		r.t.Errorf("write: %v", err)
	}
	for _, c := range cs {
		r.model.apply(c)
	}
}

func (r *metaRun) change() change {
	c := change{gen: pick(r.rng, r.gens...), key: r.key(), del: row.Live(), rows: map[string]*modelRow{}}
	if c.gen == genPlain {
		if r.rng.IntN(8) == 0 {
			c.del = r.deletion()
		} else {
			c.rows[""] = r.row(false)
		}
		return c
	}
	switch n := r.rng.IntN(20); {
	case n == 0:
		c.del = r.deletion()
	case n < 4:
		c.ranges = r.ranges()
	case n < 6:
		c.static = r.row(true)
	case n == 6:
		c.del = r.deletion()
		c.ranges = r.ranges()
		fallthrough
	default:
		for range 1 + r.rng.IntN(3) {
			c.rows[pick(r.rng, clusterings...)] = r.row(false)
		}
	}
	return c
}

func (r *metaRun) ranges() (rts []row.RangeTombstone) {
	for range 1 + r.rng.IntN(2) {
		i := r.rng.IntN(len(clusterings))
		j := i + 1 + r.rng.IntN(len(clusterings)-i)
		rt := row.RangeTombstone{Deletion: r.deletion()}
		if i > 0 || r.rng.IntN(2) == 0 {
			rt.Start = []byte(clusterings[i])
		}
		if j < len(clusterings) {
			rt.End = []byte(clusterings[j])
		}
		rts = append(rts, rt)
	}
	return rts
}

func (r *metaRun) row(static bool) *modelRow {
	m := newModelRow()
	if !static && r.rng.IntN(2) == 0 {
		m.live.Timestamp = r.ts()
		if r.rng.IntN(4) == 0 {
			m.live.TTL = int32(1 + r.rng.IntN(500))
			m.live.Expiry = r.now + int64(m.live.TTL)
		}
	}
	if r.rng.IntN(6) == 0 {
		m.del = r.deletion()
	}
	for col := schema.ColumnID(10); col < 13; col++ {
		if r.rng.IntN(2) == 0 {
			r.cell(m, cellID{col, ""})
		}
	}
	if r.rng.IntN(3) == 0 {
		if r.rng.IntN(2) == 0 {
			m.cdel[20] = r.deletion()
		}
		for _, path := range []string{"x", "y", "z"} {
			if r.rng.IntN(2) == 0 {
				r.cell(m, cellID{20, path})
			}
		}
	}
	m.shadow(row.Live())
	return m
}

func (r *metaRun) cell(m *modelRow, id cellID) {
	c := row.Cell{Column: id.col, Timestamp: r.ts()}
	if id.path != "" {
		c.Path = []byte(id.path)
	}
	switch r.rng.IntN(6) {
	case 0:
		c.Tombstone, c.Expiry = true, r.now-int64(r.rng.IntN(100))
	case 1:
		c.TTL = int32(1 + r.rng.IntN(500))
		c.Expiry = r.now + int64(c.TTL)
		fallthrough
	default:
		c.Value = fmt.Appendf(nil, "v%d%s", r.rng.IntN(100), strings.Repeat("-", r.rng.IntN(60)))
	}
	m.cells[id] = c
}

// mutation encodes c.
func (c *change) mutation() row.Mutation {
	return mutation(c.gen, c.key, func(f *row.FragmentBuilder) {
		f.PartitionDeletion(c.del)
		if c.static != nil {
			f.Static(c.static.encode())
		}
		cks := make([]string, 0, len(c.rows))
		for ck := range c.rows {
			cks = append(cks, ck)
		}
		slices.Sort(cks)
		for _, ck := range cks {
			f.Row([]byte(ck), c.rows[ck].encode())
		}
		for _, rt := range c.ranges {
			f.RangeTombstone(rt)
		}
	})
}

func (c *change) text() string {
	s := fmt.Sprintf("write gen %d key %x", c.gen, c.key)
	if !c.del.Live() {
		s += fmt.Sprintf(" deletion %v", c.del)
	}
	for _, rt := range c.ranges {
		s += fmt.Sprintf(" range %q..%q %v", rt.Start, rt.End, rt.Deletion)
	}
	if c.static != nil {
		s += fmt.Sprintf(" static %+v", *c.static)
	}
	for ck, r := range c.rows {
		s += fmt.Sprintf(" row %q %+v", ck, *r)
	}
	return s
}

func (r *modelRow) encode() []byte {
	var b row.Builder
	b.Reset(nil)
	b.SetLiveness(r.live)
	b.SetDeletion(r.del)
	ids := make([]cellID, 0, len(r.cells))
	for id := range r.cells {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, func(a, b cellID) int {
		if a.col != b.col {
			return int(a.col) - int(b.col)
		}
		return strings.Compare(a.path, b.path)
	})
	deleted := false
	for _, id := range ids {
		if d, ok := r.cdel[id.col]; ok && !deleted {
			b.ComplexDeletion(id.col, d)
			deleted = true
		}
		b.Cell(r.cells[id])
	}
	if d, ok := r.cdel[20]; ok && !deleted {
		b.ComplexDeletion(20, d)
	}
	return b.Finish()
}

func (r *metaRun) command() row.Command {
	cmd := row.Command{Generation: pick(r.rng, r.gens...), Now: r.now, GCBefore: pick(r.rng, int64(row.NoTimestamp), r.now-graceSeconds)}
	if r.rng.IntN(4) == 0 {
		cmd.Range = &ring.Range{Start: ring.MinToken, End: ring.MinToken}
		if r.rng.IntN(2) == 0 {
			a, b := token(r.key()), token(r.key())
			if a != b {
				cmd.Range = &ring.Range{Start: min(a, b), End: max(a, b)}
			}
		}
		cmd.PerPartition = pick(r.rng, 0, 0, 1, 2)
	} else {
		cmd.Key = r.key()
		cmd.Token = token(cmd.Key)
		cmd.Reverse = cmd.Generation != genPlain && r.rng.IntN(3) == 0
	}
	if cmd.Generation == genPlain {
		return cmd
	}
	cmd.WithStatic = r.rng.IntN(2) == 0
	switch r.rng.IntN(4) {
	case 0:
		cmd.Slices = r.pointSlices()
	case 1:
		cmd.Slices = r.rangeSlices()
	case 2:
		cmd.StaticOnly = r.rng.IntN(6) == 0
	}
	return cmd
}

func (r *metaRun) pointSlices() (out []row.Slice) {
	for _, ck := range clusterings {
		if r.rng.IntN(4) == 0 {
			out = append(out, row.Slice{Start: []byte(ck), End: []byte(ck + "\xff"), Point: true})
		}
	}
	if len(out) == 0 {
		out = append(out, row.Slice{Start: []byte("c"), End: []byte("c\xff"), Point: true})
	}
	return out
}

func (r *metaRun) rangeSlices() (out []row.Slice) {
	at := 0
	for at < len(clusterings) && len(out) < 3 {
		i := at + r.rng.IntN(len(clusterings)-at)
		j := i + 1 + r.rng.IntN(len(clusterings)-i)
		s := row.Slice{Start: []byte(clusterings[i])}
		if j < len(clusterings) {
			s.End = []byte(clusterings[j])
		}
		out = append(out, s)
		at = j + 1
	}
	return out
}

// read compares one command's answer, read in pages of random size, with the model's.
func (r *metaRun) read() {
	cmd := r.command()
	want := r.model.query(&cmd)
	var got []string
	paged := cmd
	var page row.Page
	for pages := 0; ; pages++ {
		if pages > 1000 {
			r.t.Errorf("paging does not end: %+v", cmd)
			return
		}
		paged.Limit = pick(r.rng, 0, 1, 2, 100)
		paged.Bytes = pick(r.rng, 0, 1, 200)
		unsynced, err := r.engine.Read(&paged, &page)
		if err != nil {
			r.t.Errorf("read %+v: %v", paged, err)
			return
		}
		if unsynced != 0 && !r.engine.Synced(unsynced) && r.options.Sync != Periodic {
			r.t.Errorf("read of acknowledged writes has unsynced %d", unsynced)
		}
		for _, l := range r.lines(&page, &paged) {
			if !strings.Contains(l, " static ") || !slices.Contains(got, l) { // it comes again with each page of its partition
				got = append(got, l)
			}
		}
		if !page.More {
			break
		}
		cut := page.Cut
		cut.Key, cut.Clustering = slices.Clone(cut.Key), slices.Clone(cut.Clustering)
		paged.From = &cut
	}
	if !slices.Equal(got, want) {
		r.t.Errorf("read %+v at %d\n got  %q\n want %q", cmd, r.now, got, want)
	}
}

func (r *metaRun) lines(page *row.Page, cmd *row.Command) (out []string) {
	var pr row.PageReader
	for pr.Init(page.Data); pr.Next(); {
		var f row.FragmentReader
		if err := f.Init(pr.Fragment); err != nil {
			r.t.Fatal(err)
		}
		if len(f.Static()) > 0 {
			if s := r.rowText(f.Static(), cmd.Now); s != "" && s != "{}" {
				out = append(out, fmt.Sprintf("%x static %s", pr.Key, s))
			}
		}
		for f.NextRow() {
			if s := r.rowText(f.Row, cmd.Now); s != "" {
				out = append(out, fmt.Sprintf("%x %q %s", pr.Key, f.Ckey, s))
			}
		}
		if f.Err() != nil {
			r.t.Fatal(f.Err())
		}
	}
	if pr.Err() != nil {
		r.t.Fatal(pr.Err())
	}
	return out
}

func (r *metaRun) rowText(value []byte, now int64) string {
	var rd row.Reader
	if err := rd.Init(value); err != nil {
		r.t.Fatal(err)
	}
	var cells []string
	add := func() {
		if c := &rd.Cell; c.LiveAt(now) {
			cells = append(cells, fmt.Sprintf("%d.%s=%s", c.Column, c.Path, c.Value))
		}
	}
	for rd.Next() {
		if !rd.Complex {
			add()
			continue
		}
		for rd.NextElement() {
			add()
		}
	}
	if len(cells) == 0 && !rd.Liveness().LiveAt(now) {
		return ""
	}
	slices.Sort(cells)
	return "{" + strings.Join(cells, ",") + "}"
}

// ingest brings changes from another engine, in pieces; a crash may come between them, with a piece half received, and what was not
// ingested, and some of what was, comes again.
func (r *metaRun) ingest() {
	from := openTest(r.t, testOptions(vfs.NewMem()))
	gen := pick(r.rng, r.gens...)
	r.note("ingest into gen %d", gen)
	for range 1 + r.rng.IntN(12) {
		if c := r.change(); c.gen == gen {
			r.note("  %s", c.text())
			r.must("source", from.Write(context.Background(), []row.Mutation{c.mutation()}))
			r.model.apply(c)
		}
	}
	var after []byte
	for done := false; !done && !r.t.Failed(); {
		at, pieces := after, 1+r.rng.IntN(4)
		budget := pick(r.rng, 1, 100, 1000, 1<<20)
		after, done = copyRange(r.t, from, r.engine, gen, ring.FullRange(), budget, at, pieces)
		if r.rng.IntN(6) == 0 {
			r.abandonIngest(from, gen, after)
			r.crash()
			after, done = at, false
		}
	}
	r.must("close source", from.Close())
}

// abandonIngest leaves the tables of an ingest behind.
func (r *metaRun) abandonIngest(from *Engine, gen schema.Generation, after []byte) {
	s, err := from.Snapshot(gen, ring.FullRange(), false)
	if err != nil {
		r.t.Fatal(err)
	}
	in, err := r.engine.NewIngest(gen, ring.FullRange(), nil)
	if err != nil {
		r.t.Fatal(err)
	}
	_, _, err = s.Scan(context.Background(), after, 500, in.Add)
	r.must("scan", err)
	_, err = in.finish()
	r.must("finish", err)
	r.must("close snapshot", s.Close())
}

func (r *metaRun) purge() {
	gen := pick(r.rng, r.gens...)
	r.note("purge gen %d at %d", gen, r.now)
	if r.purged == nil {
		r.purged = map[schema.Generation]bool{}
	}
	r.purged[gen] = true
	s, err := r.engine.Purge(context.Background(), gen)
	if err != nil || s.Postponed != 0 {
		r.t.Errorf("purge: %+v %v", s, err)
	}
	now := r.now - clockSkewMax
	gcBefore := now - graceSeconds
	if gen == genRepair {
		gcBefore = row.NoTimestamp
	}
	r.model.purge(gen, now, gcBefore)
}

func (r *metaRun) reopen() {
	r.must("close", r.engine.Close())
	r.options = r.randomOptions()
	r.note("reopen")
	r.engine = openTest(r.t, r.options)
	if r.engine.Suspect() {
		r.t.Error("suspect after a clean close")
	}
}

// crash loses everything that was not synced, which is nothing that was acknowledged.
func (r *metaRun) crash() {
	r.note("crash")
	clone := r.mem.CrashClone(vfs.CrashCloneCfg{})
	r.must("close after crash", r.engine.Close())
	r.mem = clone
	r.options = r.randomOptions()
	r.engine = openTest(r.t, r.options)
	if r.engine.Suspect() {
		r.t.Error("suspect after a crash that lost nothing")
	}
	r.crashes++
}

func (r *metaRun) drop() {
	if len(r.gens) < 2 {
		return
	}
	i := 1 + r.rng.IntN(len(r.gens)-1)
	gen := r.gens[i]
	r.must(fmt.Sprintf("drop generation %d", gen), r.engine.DropGeneration(gen))
	r.gens = slices.Delete(r.gens, i, i+1)
	delete(r.model.parts, gen)
	if found, err := r.engine.AnyRows(gen); found || err != nil {
		r.t.Errorf("rows after drop: %v %v", found, err)
	}
	m := put(gen, r.key(), "a", 1, "x")
	if err := r.engine.Write(context.Background(), []row.Mutation{m}); err == nil {
		r.t.Error("write to a dropped generation was taken")
	}
}

// partitions checks that the walk meets every partition with live content, once and in order.
func (r *metaRun) partitions() {
	gen := pick(r.rng, r.gens...)
	seen := map[string]bool{}
	last := ring.MinToken
	err := r.engine.Partitions(gen, ring.FullRange(), func(p Partition) bool {
		if seen[string(p.Key)] || p.Token < last || p.Token != token(p.Key) {
			r.t.Errorf("partition %x comes twice or out of order", p.Key)
		}
		seen[string(p.Key)], last = true, p.Token
		return true
	})
	r.must("partitions", err)
	cmd := row.Command{Generation: gen, Now: r.now, Range: &ring.Range{Start: ring.MinToken, End: ring.MinToken}, WithStatic: true}
	for _, l := range r.model.query(&cmd) {
		var key []byte
		fmt.Sscanf(l, "%x", &key)
		if !seen[string(key)] {
			r.t.Errorf("partition %x was not met", key)
		}
	}
}
