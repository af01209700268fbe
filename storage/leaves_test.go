package storage

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/helenusdb/helenus/ring"
	"github.com/helenusdb/helenus/row"
	"github.com/helenusdb/helenus/schema"
)

// allTokens is every token.
var allTokens = ring.Interval{First: ring.MinToken, Last: ring.MaxToken}

func tally(t testing.TB, e *Engine, q TallyRequest) row.Tally {
	t.Helper()
	got, covered, err := e.Tally(context.Background(), &q)
	if err != nil {
		t.Fatal(err)
	}
	if covered != q.Tokens.Last {
		t.Fatalf("covered up to %d of %d", covered, q.Tokens.Last)
	}
	return got
}

// tally compares what kept leaves say with what a scan finds, in random parts of the ring and at a random horizon.
func (r *metaRun) tally() {
	q := TallyRequest{Generation: pick(r.rng, r.gens...), Tokens: allTokens, At: row.Purge{Now: r.now, GCBefore: r.now - graceSeconds}}
	if r.rng.IntN(3) == 0 && !r.purged[q.Generation] { // no horizon lies before what this replica has purged: docs/design/0011-repair.md
		q.At.GCBefore = row.NoTimestamp
	}
	if r.rng.IntN(2) == 0 {
		q.Tokens.First = token(r.key()) + ring.Token(r.rng.IntN(3)-1)
	}
	if end := token(r.key()); r.rng.IntN(2) == 0 && end >= q.Tokens.First {
		q.Tokens.Last = end
	}
	kept := q
	kept.Keep = r.rng.IntN(4) > 0
	q.Fresh = true
	got, want := tally(r.t, r.engine, kept), tally(r.t, r.engine, q)
	r.note("tally %+v: %v", kept, got)
	if got != want {
		r.t.Errorf("tally %+v: kept leaves say %v, a scan %v", kept, got, want)
	}
	r.tallyParts(&q, want)
}

// tallyParts cuts the tokens of a tally at random, with a gap now and then, and looks whether parts read together say what each says alone, and add up to the whole.
func (r *metaRun) tallyParts(q *TallyRequest, whole row.Tally) {
	var parts []ring.Interval
	gaps, width := false, uint64(1)<<(30+r.rng.IntN(34))
	for first := q.Tokens.First; ; {
		last := q.Tokens.Last
		if step := r.rng.Uint64N(width) + 1; uint64(last)-uint64(first) >= step && len(parts) < 200 {
			last = ring.Token(uint64(first) + step - 1)
		}
		parts = append(parts, ring.Interval{First: first, Last: last})
		if last == q.Tokens.Last {
			break
		}
		if first = last + 1; r.rng.IntN(8) == 0 && first < q.Tokens.Last {
			first, gaps = first+1, true
		}
	}
	var sum row.Tally
	for rest := parts; len(rest) > 0; {
		got, err := r.engine.TallyParts(context.Background(), q, rest)
		if err != nil || len(got) > len(rest) {
			r.t.Fatalf("%d tallies of %d parts: %v", len(got), len(rest), err)
		}
		if len(got) == 0 {
			one := *q
			one.Tokens = rest[0]
			got = []row.Tally{tally(r.t, r.engine, one)}
		}
		for i := range got {
			one := *q
			one.Tokens = rest[i]
			if alone := tally(r.t, r.engine, one); alone != got[i] {
				r.t.Errorf("part %v: %v among others, %v alone", rest[i], got[i], alone)
			}
			sum.Add(got[i])
		}
		rest = rest[len(got):]
	}
	if !gaps && sum != whole {
		r.t.Errorf("parts add up to %v, the whole is %v", sum, whole)
	}
}

// twinRun returns a run whose engine has the given options, for its random changes.
func twinRun(t *testing.T, seed uint64, o Options) *metaRun {
	r := &metaRun{t: t, seed: seed, rng: rand.New(rand.NewPCG(seed, 3)), model: newModel(), now: 100_000, gens: []schema.Generation{genPlain, genWide}}
	o.Now = func() time.Time { return time.Unix(r.now, 0) }
	r.engine = openTest(t, o)
	return r
}

// TestEqualDataGivesEqualTallies: the same mutations in another order, with other flushes, compactions, folds and purges at other times, have
// the same tallies, over the whole ring and over parts of it, with leaves of other sizes.
//
// Scenarios: TestScenario_A3, TestScenario_A4.
func TestEqualDataGivesEqualTallies(t *testing.T) {
	rounds := 30
	if testing.Short() {
		rounds = 8
	}
	for seed := range uint64(rounds) {
		o := testOptions(vfs.NewMem())
		o.FoldOperands = 2 + int(seed%7)
		a, b := twinRun(t, seed, o), twinRun(t, seed+1000, testOptions(vfs.NewMem()))
		var ms []row.Mutation
		for range 300 {
			c := a.change()
			ms = append(ms, c.mutation())
		}
		write(t, a.engine, ms...)
		b.rng.Shuffle(len(ms), func(i, j int) { ms[i], ms[j] = ms[j], ms[i] })
		for i, m := range ms {
			write(t, b.engine, m)
			if i%40 == 0 {
				b.must("flush", b.engine.Flush())
			}
		}
		for _, r := range []*metaRun{a, b} {
			for range r.rng.IntN(4) {
				r.now = 100_000 + int64(r.rng.IntN(1500))
				for _, gen := range r.gens {
					_, err := r.engine.Purge(context.Background(), gen)
					r.must("purge", err)
					if r.rng.IntN(2) == 0 {
						r.must("compact", r.engine.Compact(context.Background(), gen))
					}
				}
			}
		}
		for _, gen := range a.gens {
			for _, at := range []int64{101_500, 101_800, 104_000} {
				q := TallyRequest{Generation: gen, Tokens: allTokens, At: row.Purge{Now: at, GCBefore: at - graceSeconds}, Keep: true}
				x := tally(t, a.engine, q)
				q.Keep = at == 101_800
				if y := tally(t, b.engine, q); x != y {
					t.Errorf("seed %d, generation %d at %d: %v and %v", seed, gen, at, x, y)
				}
			}
		}
		if err := a.engine.Close(); err != nil {
			t.Error(err)
		}
		if err := b.engine.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestRangeTombstonesAreJoinedAcrossPages: where a scan cuts its pages is no part of a tally.
func TestRangeTombstonesAreJoinedAcrossPages(t *testing.T) {
	e := openMem(t)
	key := pkey(1)
	write(t, e, mutation(genWide, key, func(f *row.FragmentBuilder) {
		f.RangeTombstone(row.RangeTombstone{Start: []byte("ck0100"), Deletion: row.Deletion{Timestamp: 5, LocalTime: 5}})
		f.RangeTombstone(row.RangeTombstone{Start: []byte("a"), End: []byte("b"), Deletion: row.Deletion{Timestamp: 5, LocalTime: 5}})
	}))
	for i := range 300 {
		write(t, e, put(genWide, key, fmt.Sprintf("ck%04d", i), 10, "some value"))
	}
	read := func(bytes int) (sum row.Tally) {
		var items row.Items
		items.Init(row.Purge{Now: 10, GCBefore: row.NoTimestamp}, nil)
		add := func(i *row.Item) error { sum.Item(i); return nil }
		cmd := row.Command{Generation: genWide, Now: 10, GCBefore: row.NoTimestamp, Range: &ring.Range{Start: ring.MinToken, End: ring.MinToken}, WithStatic: true, Bytes: bytes}
		for {
			var page row.Page
			if _, err := e.Read(&cmd, &page); err != nil {
				t.Fatal(err)
			}
			if err := items.Page(&page, add); err != nil {
				t.Fatal(err)
			}
			if !page.More {
				break
			}
			cmd.From = &page.Cut
		}
		if err := items.Finish(add); err != nil {
			t.Fatal(err)
		}
		return sum
	}
	want := read(1 << 20)
	if want.Items != 302 {
		t.Errorf("%d items", want.Items)
	}
	for _, bytes := range []int{1, 40, 1000} {
		if got := read(bytes); got != want {
			t.Errorf("pages of %d bytes: %v instead of %v", bytes, got, want)
		}
	}
}

// TestLeavesAreKept: a second tally reads leaves only, a write makes one of them be computed again, and both survive a restart.
func TestLeavesAreKept(t *testing.T) {
	mem := vfs.NewCrashableMem()
	m := &Metrics{}
	o := testOptions(mem)
	o.Metrics = m
	e := openTest(t, o)
	for i := range 1000 {
		write(t, e, put(genPlain, pkey(i), "", 1, "v"))
	}
	q := TallyRequest{Generation: genPlain, Tokens: allTokens, At: row.Purge{Now: 10, GCBefore: row.NoTimestamp}, Keep: true}
	first := tally(t, e, q)
	if first.Items != 1000 || m.LeavesComputed.Load() != 1<<leafDepthMin {
		t.Errorf("%v, %d leaves", first, m.LeavesComputed.Load())
	}
	computed := func(e *Engine, want row.Tally, leaves int64) {
		t.Helper()
		m.LeavesComputed.Store(0)
		if got := tally(t, e, q); got != want {
			t.Errorf("%v instead of %v", got, want)
		}
		if n := m.LeavesComputed.Load(); n != leaves {
			t.Errorf("%d leaves computed instead of %d", n, leaves)
		}
	}
	computed(e, first, 0)
	write(t, e, put(genPlain, pkey(7), "", 2, "w"))
	fresh := q
	fresh.Fresh, fresh.Keep = true, false
	changed := tally(t, e, fresh)
	if changed == first {
		t.Error("a write changes nothing")
	}
	crashed := openTest(t, crashOptions(o, mem))
	computed(crashed, changed, 1)
	computed(crashed, changed, 0)
	write(t, crashed, put(genPlain, pkey(7), "", 3, "x"), put(genPlain, pkey(8), "", 3, "x"))
	computed(crashed, tally(t, crashed, fresh), 2)
	if err := crashed.Close(); err != nil {
		t.Fatal(err)
	}
	computed(e, changed, 1)
	if err := e.DropGeneration(genPlain); err != nil {
		t.Fatal(err)
	}
	if g := e.leaves.grid(genPlain); g != nil {
		t.Error("a dropped generation keeps its leaves")
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
}

func crashOptions(o Options, mem *vfs.MemFS) Options {
	o.FS = mem.CrashClone(vfs.CrashCloneCfg{})
	return o
}

// TestLeavesEndWithWhatDies: a leaf counts until something in it expires or could be purged.
func TestLeavesEndWithWhatDies(t *testing.T) {
	e := openMem(t)
	write(t, e, mutation(genPlain, pkey(1), func(f *row.FragmentBuilder) {
		var b row.Builder
		b.Reset(nil)
		b.SetLiveness(row.Liveness{Timestamp: 1, TTL: 100, Expiry: 1100})
		b.Cell(row.Cell{Column: 10, Timestamp: 1, TTL: 200, Expiry: 1200, Value: []byte("v")})
		f.Row(nil, b.Finish())
	}), mutation(genPlain, pkey(2), func(f *row.FragmentBuilder) {
		f.PartitionDeletion(row.Deletion{Timestamp: 5, LocalTime: 1300})
	}))
	last := row.Tally{}
	changes := 0
	for now := int64(1000); now < 3000; now += 10 {
		q := TallyRequest{Generation: genPlain, Tokens: allTokens, At: row.Purge{Now: now, GCBefore: now - 1000}}
		want := tally(t, e, q)
		q.Keep = true
		if got := tally(t, e, q); got != want {
			t.Fatalf("at %d: leaves say %v, a scan %v", now, got, want)
		}
		if want != last {
			changes++
		}
		last = want
	}
	if changes < 5 || last != (row.Tally{}) {
		t.Errorf("%d changes, in the end %v", changes, last)
	}
}

// TestLeavesRaceWithWrites: whatever is written while leaves are computed and stored, a tally of a quiet store is that of a scan; also
// after a crash at any moment.
func TestLeavesRaceWithWrites(t *testing.T) {
	mem := vfs.NewCrashableMem()
	o := testOptions(mem)
	o.Stripes = 16
	e := openTest(t, o)
	q := TallyRequest{Generation: genPlain, Tokens: allTokens, At: row.Purge{Now: 10, GCBefore: row.NoTimestamp}, Keep: true}
	check := func(e *Engine) {
		t.Helper()
		got := tally(t, e, q)
		fresh := q
		fresh.Fresh, fresh.Keep = true, false
		if want := tally(t, e, fresh); got != want {
			t.Fatalf("leaves say %v, a scan %v", got, want)
		}
	}
	rounds := 40
	if testing.Short() {
		rounds = 10
	}
	var ts atomic.Int64
	for round := range rounds {
		var wg sync.WaitGroup
		var stop atomic.Bool
		for w := range 3 {
			wg.Go(func() {
				rng := testRand(uint64(round*10 + w))
				for range 60 {
					ms := []row.Mutation{put(genPlain, pkey(rng.IntN(500)), "", ts.Add(1), "v"), put(genPlain, pkey(rng.IntN(500)), "", ts.Add(1), "v")}
					if err := e.Write(context.Background(), ms); err != nil {
						t.Error(err)
					}
				}
			})
		}
		tallied := make(chan struct{})
		go func() {
			defer close(tallied)
			for !stop.Load() {
				if _, _, err := e.Tally(context.Background(), &q); err != nil {
					t.Error(err)
				}
			}
		}()
		var crashed *vfs.MemFS
		if round%5 == 0 {
			crashed = mem.CrashClone(vfs.CrashCloneCfg{})
		}
		wg.Wait()
		stop.Store(true)
		<-tallied
		check(e)
		if crashed != nil {
			again := o
			again.FS = crashed
			c := openTest(t, again)
			check(c)
			if err := c.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestIngestingHidesLeaves: rows that come in beside the batches are seen by the next tally, whenever leaves were computed.
func TestIngestingHidesLeaves(t *testing.T) {
	e := openMem(t)
	for i := range 200 {
		write(t, e, put(genPlain, pkey(i), "", 1, "v"))
	}
	q := TallyRequest{Generation: genPlain, Tokens: allTokens, At: row.Purge{Now: 10, GCBefore: row.NoTimestamp}, Keep: true}
	before := tally(t, e, q)
	done, err := e.Ingesting(genPlain, allTokens)
	if err != nil {
		t.Fatal(err)
	}
	if got := tally(t, e, q); got != before {
		t.Errorf("%v instead of %v", got, before)
	}
	key := appendPartition(nil, spaceRows, genPlain, token(pkey(1000)), pkey(1000))
	if err := e.db.Merge(append(key, kindRow), rowOf(5, "ingested"), nil); err != nil {
		t.Fatal(err)
	}
	done()
	if got := tally(t, e, q); got.Items != before.Items+1 {
		t.Errorf("an ingested row is not counted: %v", got)
	}
	if got := tally(t, e, q); got.Items != before.Items+1 {
		t.Errorf("nor the second time: %v", got)
	}
}

// TestTallyStopsInTime: with Until in the past a tally still gets further, bucket by bucket.
func TestTallyStopsInTime(t *testing.T) {
	e := openMem(t)
	for i := range 500 {
		write(t, e, put(genPlain, pkey(i), "", 1, "v"))
	}
	q := TallyRequest{Generation: genPlain, Tokens: allTokens, At: row.Purge{Now: 10, GCBefore: row.NoTimestamp}}
	want := tally(t, e, q)
	for _, keep := range []bool{false, true} {
		q.Keep, q.Until = keep, time.Unix(0, 1)
		var sum row.Tally
		steps := 0
		for q.Tokens = allTokens; ; steps++ {
			got, covered, err := e.Tally(context.Background(), &q)
			if err != nil {
				t.Fatal(err)
			}
			if sum.Add(got); covered == ring.MaxToken {
				break
			}
			q.Tokens.First = covered + 1
		}
		if sum != want || steps != 1<<leafDepthMin-1 {
			t.Errorf("keep %v: %v in %d steps instead of %v", keep, sum, steps, want)
		}
	}
}

// TestGoldenLeaves pins what docs/format/storage-keys.md draws.
func TestGoldenLeaves(t *testing.T) {
	g := newLeafGrid(7, 8)
	l := leafRecord{number: 3, at: row.Purge{Now: 0x10, GCBefore: 0x20}, nextExpiry: 0x30, oldestDeletion: 0x40, dropped: 5,
		tally: row.Tally{Sum: 0x0102030405060708, Items: 9, Bytes: 10}}
	for _, c := range []struct {
		got  []byte
		want string
	}{
		{appendGridKey(nil, 7), "4c0000000700"},
		{appendBucketKey(nil, g, g.bucket(-1)), "4c00000007017f00000000000000"},
		{appendLeafKey(nil, g, 0x7f, ring.Interval{First: -5, Last: -1}), "4c00000007017f000000000000007ffffffffffffffb7fffffffffffffff"},
		{l.append(nil), "010000000000000003000000000000001000000000000000200000000000000030000000000000004000000005010203040506070800000000000000090000" + "00000000000a"},
	} {
		if got := fmt.Sprintf("%x", c.got); got != c.want {
			t.Errorf("%s instead of %s", got, c.want)
		}
	}
	if again, ok := decodeLeaf(l.append(nil)); !ok || again != l {
		t.Errorf("%+v became %+v", l, again)
	}
}

// TestMarkingDoesNotAllocate: neither a write to a bucket without leaves nor one that marks allocates for that.
func TestMarkingDoesNotAllocate(t *testing.T) {
	e := openMem(t)
	q := TallyRequest{Generation: genPlain, Tokens: allTokens, At: row.Purge{Now: 10, GCBefore: row.NoTimestamp}, Keep: true}
	b := e.NewBatch()
	m := put(genPlain, pkey(1), "", 1, "v")
	apply := func() {
		if err := b.Apply(&m); err != nil {
			t.Fatal(err)
		}
		b.Discard()
	}
	apply()
	without := testing.AllocsPerRun(200, apply)
	tally(t, e, q)
	if with := testing.AllocsPerRun(200, apply); with > without {
		t.Errorf("%v allocations with leaves, %v without", with, without)
	}
	write(t, e, m)
	if clean := testing.AllocsPerRun(200, apply); clean > without {
		t.Errorf("%v allocations when the bucket is marked already, %v without", clean, without)
	}
}

// BenchmarkWriteBesideLeaves compares writes to a table without leaves, to one whose buckets are marked already, and to one whose buckets
// have leaves, interleaved in rounds so that all three see the same machine.
func BenchmarkWriteBesideLeaves(b *testing.B) {
	names := []string{"none", "marked", "kept"}
	var engines []*Engine
	for range names {
		o := benchOptions(b)
		o.FS, o.Dir = vfs.NewMem(), "data"
		engines = append(engines, openTest(b, o))
	}
	q := TallyRequest{Generation: genPlain, Tokens: allTokens, At: row.Purge{Now: 10, GCBefore: row.NoTimestamp}, Keep: true}
	ms := make([]row.Mutation, 4096)
	for i := range ms {
		ms[i] = benchMutation(i, 1)
	}
	var spent [3]time.Duration
	writes := 0
	round := func(i int) {
		e := engines[i]
		var wg sync.WaitGroup
		done := CommittedFunc(func(error) { wg.Done() })
		batch := e.NewBatch()
		for j := range ms {
			if err := batch.Apply(&ms[j]); err != nil {
				b.Fatal(err)
			}
			if j%16 == 15 { // marks are keys too: Batch.Len may pass any number
				wg.Add(1)
				batch.Commit(done)
			}
		}
		wg.Wait()
	}
	for i := range engines {
		round(i)
	}
	tally(b, engines[1], q)
	round(1)
	for b.Loop() {
		for i := range engines {
			if i == 2 {
				tally(b, engines[2], q)
			}
			began := time.Now()
			round(i)
			spent[i] += time.Since(began)
		}
		writes += len(ms)
	}
	for i, name := range names {
		b.ReportMetric(float64(spent[i].Nanoseconds())/float64(writes), "ns/"+name)
	}
	for _, e := range engines {
		if err := e.Close(); err != nil {
			b.Error(err)
		}
	}
}
