package row

import (
	"bytes"
	"testing"
)

func mustMerge(t testing.TB, rows ...[]byte) []byte {
	t.Helper()
	out, err := MergeAll(nil, rows)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestRowRoundTrip(t *testing.T) {
	for seed := range seeds(20000) {
		m := newGen(seed).row()
		enc := m.encode()
		if err := Validate(enc); err != nil {
			t.Fatalf("seed %d: %v: %x of %v", seed, err, enc, m)
		}
		back := decodeModel(t, enc)
		if back.String() != m.String() {
			t.Fatalf("seed %d:\n got %v\nwant %v", seed, back, m)
		}
		if again := back.encode(); !bytes.Equal(again, enc) {
			t.Fatalf("seed %d: not canonical", seed)
		}
	}
}

func TestMergeIsTheModels(t *testing.T) {
	for seed := range seeds(30000) {
		g := newGen(seed)
		a, b := g.row(), g.row()
		got := mustMerge(t, a.encode(), b.encode())
		if want := a.merge(b).encode(); !bytes.Equal(got, want) {
			t.Fatalf("seed %d:\n a %v\n b %v\n got %v\nwant %v", seed, a, b, decodeModel(t, got), a.merge(b))
		}
	}
}

// TestMergeLaws: see docs/testing.md.
//
// Scenarios: TestScenario_T9.
func TestMergeLaws(t *testing.T) {
	for seed := range seeds(20000) {
		g := newGen(seed)
		a, b, c := g.row().encode(), g.row().encode(), g.row().encode()
		ab := mustMerge(t, a, b)
		if !bytes.Equal(ab, mustMerge(t, b, a)) {
			t.Fatalf("seed %d: not commutative", seed)
		}
		if !bytes.Equal(mustMerge(t, ab, c), mustMerge(t, a, mustMerge(t, b, c))) {
			t.Fatalf("seed %d: not associative", seed)
		}
		if !bytes.Equal(mustMerge(t, a, a), a) || !bytes.Equal(mustMerge(t, ab, a), ab) {
			t.Fatalf("seed %d: not idempotent", seed)
		}
		if err := Validate(ab); err != nil {
			t.Fatalf("seed %d: result is not canonical", seed)
		}
	}
}

// MergeAll in any order and grouping is the fold of Merge, with a Merger reused all along.
func TestMergeAll(t *testing.T) {
	var m Merger
	for seed := range seeds(2000) {
		g := newGen(seed)
		rows := make([][]byte, g.IntN(20))
		var want []byte
		for i := range rows {
			rows[i] = g.row().encode()
			if i > 0 && g.IntN(3) == 0 {
				rows[i] = rows[g.IntN(i)]
			}
			var err error
			if want, err = Merge(nil, want, rows[i]); err != nil {
				t.Fatal(err)
			}
		}
		g.Shuffle(len(rows), func(i, j int) { rows[i], rows[j] = rows[j], rows[i] })
		got, err := m.MergeAll([]byte("before"), rows)
		if err != nil || !bytes.Equal(got, append([]byte("before"), want...)) {
			t.Fatalf("seed %d: %d rows: %x, %v, want %x", seed, len(rows), got, err, want)
		}
	}
}

// TestShadowIsTheModels: see docs/testing.md.
//
// Scenarios: TestScenario_T12.
func TestShadowIsTheModels(t *testing.T) {
	for seed := range seeds(10000) {
		g := newGen(seed)
		m, d := g.row(), g.maybeDeletion(1)
		got, err := Shadow(nil, m.encode(), d)
		if err != nil || !bytes.Equal(got, m.shadowed(d).encode()) {
			t.Fatalf("seed %d: %v", seed, err)
		}
	}
}

func TestCompactIsTheModels(t *testing.T) {
	for seed := range seeds(20000) {
		g := newGen(seed)
		m, now, gc := g.row(), g.local(), g.local()
		if g.IntN(3) == 0 {
			gc = NoTimestamp
		}
		got, err := Compact(nil, m.encode(), now, gc, nil)
		if want := m.compacted(now, gc); err != nil || !bytes.Equal(got, want.encode()) {
			t.Fatalf("seed %d: %v\n got %v\nwant %v", seed, err, decodeModel(t, got), want)
		}
		if HasLive(m.encode(), now) != m.visible(now) {
			t.Fatalf("seed %d: HasLive of %v at %d", seed, m, now)
		}
		if h := Horizon(m.encode()); h > now && h >= gc && !bytes.Equal(got, m.encode()) {
			t.Fatalf("seed %d: horizon %d, but something went at now %d, gc %d", seed, h, now, gc)
		}
		if !Mortal(m.encode()) && !m.visible(now) {
			t.Fatalf("seed %d: immortal and not visible", seed)
		}
	}
}

// When expiry is noticed does not change what the row becomes: T9, T10, T11.
func TestCompactCommutesWithMerge(t *testing.T) {
	for seed := range seeds(20000) {
		g := newGen(seed)
		a, b, now := g.row().encode(), g.row().encode(), g.local()
		early, err := Compact(nil, a, now-int64(g.IntN(3)), NoTimestamp, nil)
		if err != nil {
			t.Fatal(err)
		}
		x, _ := Compact(nil, mustMerge(t, a, b), now, NoTimestamp, nil)
		y, _ := Compact(nil, mustMerge(t, early, b), now, NoTimestamp, nil)
		if !bytes.Equal(x, y) {
			t.Fatalf("seed %d:\n a %v\n b %v\n merged first %v\n compacted first %v", seed, decodeModel(t, a), decodeModel(t, b), decodeModel(t, x), decodeModel(t, y))
		}
	}
}

func TestFind(t *testing.T) {
	for seed := range seeds(3000) {
		g := newGen(seed)
		m := g.row()
		var r Reader
		if err := r.Init(m.encode()); err != nil {
			t.Fatal(err)
		}
		for _, col := range simpleColumns {
			c, want := m.cells[cellKey{col, ""}]
			if got := r.Find(col); got != want || got && !r.Cell.equal(&c) {
				t.Fatalf("seed %d: column %d: %v, want %v", seed, col, got, want)
			}
		}
	}
}
