package row

import (
	"bytes"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/helenusdb/helenus/schema"
)

var counterColumns = []schema.ColumnID{6, 7, 301}

func testShard(n int) ShardID { return ShardID{byte(n), 15: byte(n)} }

// counters adds shards of few ids with clocks that collide, and deletions of rows' and of counters' own kinds.
func (g *gen) counters(m *modelRow) {
	for _, col := range counterColumns {
		if g.IntN(4) != 0 {
			continue
		}
		switch g.IntN(6) {
		case 0:
			m.cdel[col] = CounterDeletion(g.local())
		case 1:
			m.cdel[col] = g.deletion()
		}
		for n := range 4 {
			if shard := testShard(n); g.IntN(2) == 0 {
				m.cells[cellKey{col, string(shard[:])}] = Cell{Column: col, Path: shard[:], Timestamp: g.ts(), Value: AppendCount(nil, int64(g.IntN(4))-1)}
			}
		}
	}
}

func counterRow(cells ...Cell) []byte {
	var b Builder
	b.Reset(nil)
	for _, c := range cells {
		b.Cell(c)
	}
	return b.Finish()
}

func shardCell(col schema.ColumnID, shard ShardID, clock, count int64) Cell {
	return Cell{Column: col, Path: shard[:], Timestamp: clock, Value: AppendCount(nil, count)}
}

// readCounter returns the value of a counter, and whether it has one.
func readCounter(t testing.TB, row []byte, col schema.ColumnID) (sum, clock int64, ok bool) {
	t.Helper()
	var r Reader
	if err := r.Init(row); err != nil {
		t.Fatal(err)
	}
	if r.Find(col) {
		sum, clock, ok = r.Counter()
	}
	if r.Err() != nil {
		t.Fatal(r.Err())
	}
	return sum, clock, ok
}

func fragmentOf(ckey string, row []byte) []byte {
	var f FragmentBuilder
	f.Reset(nil, false)
	f.Row([]byte(ckey), row)
	return f.Finish()
}

func rowOf(t testing.TB, frag []byte) []byte {
	t.Helper()
	var f FragmentReader
	if err := f.Init(frag); err != nil {
		t.Fatal(err)
	}
	f.NextRow()
	return f.Row
}

// incremented returns what a leader has stored after an increment by n.
func incremented(t testing.TB, store []byte, shard ShardID, ts, n int64) (out, shards []byte) {
	t.Helper()
	inc := fragmentOf("@a", counterRow(Cell{Column: 1, Path: AppendIncrementPath(nil, 0), Timestamp: ts, Value: AppendCount(nil, n)}))
	var x Increments
	shards, err := x.Apply(nil, inc, store, shard)
	if err != nil {
		t.Fatal(err)
	}
	if err := ValidateFragment(shards); err != nil {
		t.Fatalf("%x: %v", shards, err)
	}
	if out, err = MergeFragments(nil, [][]byte{store, shards}); err != nil {
		t.Fatal(err)
	}
	return out, shards
}

// TestScenario_R9_CounterDigestsIgnoreShardOrder: replicas that got the shards of a counter in different orders, some twice,
// have equal bytes and equal digests.
func TestScenario_R9_CounterDigestsIgnoreShardOrder(t *testing.T) {
	for seed := range seeds(2000) {
		r := rand.New(rand.NewPCG(seed, 9))
		var rows [][]byte
		for range 2 + r.IntN(12) {
			rows = append(rows, counterRow(shardCell(1, testShard(r.IntN(5)), benchTime+int64(r.IntN(6)), int64(r.IntN(100)))))
		}
		want := mustMerge(t, rows...)
		rows = append(rows, rows[r.IntN(len(rows))])
		r.Shuffle(len(rows), func(i, j int) { rows[i], rows[j] = rows[j], rows[i] })
		got := mustMerge(t, rows...)
		if !bytes.Equal(got, want) {
			t.Fatalf("seed %d: %x and %x", seed, got, want)
		}
		var a, b Page
		var pb PageBuilder
		pointRead(&pb, pointCommand(), &a, want)
		pointRead(&pb, pointCommand(), &b, got)
		if a.Digest != b.Digest || a.Digest == 0 {
			t.Fatalf("seed %d: digests %x and %x", seed, a.Digest, b.Digest)
		}
	}
}

// TestCounterIsTheSumOfItsNewestShards, against a model: leaders count, states reach replicas in any order and number.
func TestCounterIsTheSumOfItsNewestShards(t *testing.T) {
	for seed := range seeds(3000) {
		r := rand.New(rand.NewPCG(seed, 10))
		var stores [3][]byte
		var sent [][]byte
		total := int64(0)
		for i := range 30 {
			leader := r.IntN(len(stores))
			n := int64(r.IntN(20) - 5)
			if r.IntN(10) == 0 {
				n = math.MaxInt64 - 3
			}
			total += n // wraps as the counter does
			ts := benchTime + int64(i) - int64(r.IntN(50))
			var shards []byte
			stores[leader], shards = incremented(t, stores[leader], testShard(leader), ts, n)
			sent = append(sent, shards)
			for range r.IntN(4) { // some arrive, again, late
				to := r.IntN(len(stores))
				var err error
				if stores[to], err = MergeFragments(nil, [][]byte{stores[to], sent[r.IntN(len(sent))]}); err != nil {
					t.Fatal(err)
				}
			}
		}
		for i := range stores {
			all, err := MergeFragments(nil, append(sent[:len(sent):len(sent)], stores[i]))
			if err != nil {
				t.Fatal(err)
			}
			if got, _, ok := readCounter(t, rowOf(t, all), 1); !ok || got != total {
				t.Fatalf("seed %d: %d, want %d", seed, got, total)
			}
		}
	}
}

// TestCounterClocks: the clock is the statement's time, larger than the last one, and past a deletion that the leader knows.
func TestCounterClocks(t *testing.T) {
	shard := testShard(1)
	store, _ := incremented(t, nil, shard, 100, 5)
	store, _ = incremented(t, store, shard, 50, 5)
	if sum, clock, ok := readCounter(t, rowOf(t, store), 1); sum != 10 || clock != 101 || !ok {
		t.Errorf("%d at %d", sum, clock)
	}
	var b Builder
	b.Reset(nil)
	b.SetDeletion(Deletion{200, 1})
	deleted, err := MergeFragments(nil, [][]byte{store, fragmentOf("@a", b.Finish())})
	if err != nil {
		t.Fatal(err)
	}
	again, _ := incremented(t, deleted, shard, 150, 3) // a client whose clock is behind
	if sum, clock, ok := readCounter(t, rowOf(t, again), 1); sum != 3 || clock != 201 || !ok {
		t.Errorf("after a deletion: %d at %d", sum, clock)
	}
	var f FragmentBuilder
	f.Reset(nil, false)
	f.RangeTombstone(RangeTombstone{[]byte("@"), []byte("@b"), Deletion{300, 1}})
	ranged, err := MergeFragments(nil, [][]byte{again, f.Finish()})
	if err != nil {
		t.Fatal(err)
	}
	again, _ = incremented(t, ranged, shard, 250, 4)
	if sum, clock, ok := readCounter(t, rowOf(t, again), 1); sum != 4 || clock != 301 || !ok {
		t.Errorf("after a range deletion: %d at %d", sum, clock)
	}
	far, _ := incremented(t, nil, shard, math.MaxInt64, 1)
	far, _ = incremented(t, far, shard, math.MaxInt64, 1)
	if sum, clock, _ := readCounter(t, rowOf(t, far), 1); sum != 2 || clock != CounterClockMax+1 {
		t.Errorf("a client from the far future: %d at %d", sum, clock)
	}
}

// TestDeletedCounterStaysDeleted, whatever is counted before and after, until the deletion is purged.
func TestDeletedCounterStaysDeleted(t *testing.T) {
	shard, other := testShard(1), testShard(2)
	store, _ := incremented(t, nil, shard, 100, 5)
	var b Builder
	b.Reset(nil)
	b.ComplexDeletion(1, CounterDeletion(1000))
	del := fragmentOf("@a", b.Finish())
	deleted, err := MergeFragments(nil, [][]byte{store, del})
	if err != nil {
		t.Fatal(err)
	}
	after, _ := incremented(t, deleted, shard, 1<<50, 5)
	missed, _ := incremented(t, store, other, 1<<51, 7) // a leader that has not heard of it
	all, err := MergeFragments(nil, [][]byte{after, missed})
	if err != nil {
		t.Fatal(err)
	}
	if sum, _, ok := readCounter(t, rowOf(t, all), 1); ok {
		t.Errorf("a deleted counter is %d", sum)
	}
	purged, err := Compact(nil, rowOf(t, all), 5000, 2000, nil)
	if err != nil || len(purged) != 0 {
		t.Errorf("%x %v", purged, err)
	}
}

// TestIncrementsOfOneBatch: they are added up, and a deletion in the batch takes them.
func TestIncrementsOfOneBatch(t *testing.T) {
	inc := func(n uint32, by int64) []byte {
		return fragmentOf("@a", counterRow(Cell{Column: 1, Path: AppendIncrementPath(nil, n), Timestamp: 100, Value: AppendCount(nil, by)}))
	}
	apply := func(frags ...[]byte) []byte {
		merged, err := MergeFragments(nil, frags)
		if err != nil {
			t.Fatal(err)
		}
		var x Increments
		out, err := x.Apply([]byte("x"), merged, nil, testShard(1))
		if err != nil || out[0] != 'x' {
			t.Fatal(err)
		}
		return out[1:]
	}
	if sum, _, _ := readCounter(t, rowOf(t, apply(inc(0, 5), inc(1, 6), inc(2, -1))), 1); sum != 10 {
		t.Errorf("%d", sum)
	}
	var b Builder
	b.Reset(nil)
	b.SetDeletion(Deletion{100, 1})
	if _, _, ok := readCounter(t, rowOf(t, apply(inc(0, 5), fragmentOf("@a", b.Finish()), inc(1, 6))), 1); ok {
		t.Error("counted in spite of a deletion in the same batch")
	}
}

// TestIncrementsRefuseWhatIsNone: outside bytes are errors, never panics.
func TestIncrementsRefuseWhatIsNone(t *testing.T) {
	plain := fragmentOf("@a", counterRow(Cell{Column: 1, Timestamp: 1, Value: []byte("x")}))
	var x Increments
	for _, bad := range [][]byte{plain, {0x10, 5}, {0xFF}} {
		if _, err := x.Apply(nil, bad, nil, testShard(1)); err == nil {
			t.Errorf("%x is taken for increments", bad)
		}
	}
	if _, err := x.Apply(nil, fragmentOf("@a", counterRow(Cell{Column: 1, Path: []byte{0, 0, 0, 0}, Timestamp: 1})), []byte{0xFF}, testShard(1)); err == nil {
		t.Error("no error for a store of garbage")
	}
}
