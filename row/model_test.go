package row

import (
	"bytes"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"testing"

	"github.com/helenusdb/helenus/schema"
)

// The model: rows as maps of cells, deletions as lists, everything looked up by brute force.

type cellKey struct {
	col  schema.ColumnID
	path string
}

type modelRow struct {
	orig  original
	live  Liveness
	del   Deletion
	cdel  map[schema.ColumnID]Deletion
	cells map[cellKey]Cell
}

func newModelRow() *modelRow {
	return &modelRow{orig: noOriginal(), live: NoLiveness(), del: Live(), cdel: map[schema.ColumnID]Deletion{}, cells: map[cellKey]Cell{}}
}

// rankOf is the order of reconciliation as a tuple, largest wins.
func rankOf(c Cell) []any {
	kind := 0
	if c.TTL > 0 {
		kind = 1
	} else if c.Tombstone {
		kind = 2
	}
	dead := 0
	if c.Tombstone {
		dead = 1
	}
	return []any{c.Timestamp, int64(kind), c.Expiry, int64(-c.TTL), int64(dead), string(c.Value)}
}

func wins(a, b Cell) bool {
	x, y := rankOf(a), rankOf(b)
	for i := range x {
		switch v := x[i].(type) {
		case int64:
			if v != y[i].(int64) {
				return v > y[i].(int64)
			}
		case string:
			return v > y[i].(string)
		}
	}
	return false
}

func (m *modelRow) clone() *modelRow {
	n := *m
	n.cdel, n.cells = maps.Clone(m.cdel), maps.Clone(m.cells)
	return &n
}

func (m *modelRow) merge(o *modelRow) *modelRow {
	n := m.clone()
	if o.live.Supersedes(n.live) {
		n.live = o.live
	}
	if o.del.Supersedes(n.del) {
		n.del = o.del
	}
	if o.orig.ts > n.orig.ts || o.orig.ts == n.orig.ts && string(o.orig.key) > string(n.orig.key) {
		n.orig = o.orig
	}
	for c, d := range o.cdel {
		if old, ok := n.cdel[c]; !ok || d.Supersedes(old) {
			n.cdel[c] = d
		}
	}
	for k, c := range o.cells {
		if old, ok := n.cells[k]; !ok || wins(c, old) {
			n.cells[k] = c
		}
	}
	return n.shadowed(Live())
}

// shadowed applies the row's own deletions and d.
func (m *modelRow) shadowed(d Deletion) *modelRow {
	n := m.clone()
	if !n.del.Supersedes(d) {
		n.del = Live()
	}
	over := d
	if n.del.Supersedes(d) {
		over = n.del
	}
	if over.Shadows(n.live.Timestamp) {
		n.live = NoLiveness()
	}
	if over.Shadows(n.orig.ts) {
		n.orig = noOriginal()
	}
	for c, cd := range n.cdel {
		if !cd.Supersedes(over) {
			delete(n.cdel, c)
		}
	}
	for k, c := range n.cells {
		cd, ok := n.cdel[k.col]
		if over.Shadows(c.Timestamp) || ok && k.path != "" && cd.Shadows(c.Timestamp) {
			delete(n.cells, k)
		}
	}
	return n
}

func (m *modelRow) compacted(now, gcBefore int64) *modelRow {
	n := m.shadowed(Live())
	if !n.live.Empty() && n.live.TTL > 0 && now >= n.live.Expiry && n.live.Expiry < gcBefore {
		n.live = NoLiveness()
	}
	if !n.del.Live() && n.del.LocalTime < gcBefore {
		n.del = Live()
	}
	for c, cd := range n.cdel {
		if cd.LocalTime < gcBefore {
			delete(n.cdel, c)
		}
	}
	for k, c := range n.cells {
		if !c.Tombstone && c.TTL > 0 && now >= c.Expiry {
			c.Tombstone, c.Value = true, nil
			n.cells[k] = c
		}
		if c.Tombstone && c.Expiry-int64(c.TTL) < gcBefore {
			delete(n.cells, k)
		}
	}
	return n
}

func (m *modelRow) empty() bool {
	return m.live.Empty() && m.del.Live() && len(m.cdel) == 0 && len(m.cells) == 0
}

func (m *modelRow) visible(now int64) bool {
	if !m.live.Empty() && (m.live.TTL == 0 || now < m.live.Expiry) {
		return true
	}
	for _, c := range m.cells {
		if !c.Tombstone && (c.TTL == 0 || now < c.Expiry) {
			return true
		}
	}
	return false
}

func (m *modelRow) sortedCells() []Cell {
	cells := slices.Collect(maps.Values(m.cells))
	slices.SortFunc(cells, func(a, b Cell) int {
		if a.Column != b.Column {
			return int(int64(a.Column) - int64(b.Column))
		}
		return bytes.Compare(a.Path, b.Path)
	})
	return cells
}

func (m *modelRow) encode() []byte {
	var b Builder
	b.Reset(nil)
	b.SetLiveness(m.live)
	b.SetDeletion(m.del)
	b.SetClustering(m.orig.key, m.orig.ts)
	cdel := maps.Clone(m.cdel)
	cells := m.sortedCells()
	cols := slices.Collect(maps.Keys(cdel))
	for _, c := range cells {
		cols = append(cols, c.Column)
	}
	slices.Sort(cols)
	for _, col := range slices.Compact(cols) {
		for _, c := range cells {
			if c.Column == col && len(c.Path) == 0 {
				b.Cell(c)
			}
		}
		if d, ok := cdel[col]; ok {
			b.ComplexDeletion(col, d)
		}
		for _, c := range cells {
			if c.Column == col && len(c.Path) != 0 {
				b.Cell(c)
			}
		}
	}
	return b.Finish()
}

func decodeModel(t testing.TB, row []byte) *modelRow {
	t.Helper()
	m := newModelRow()
	var r Reader
	if err := r.Init(row); err != nil {
		t.Fatal(err)
	}
	m.live, m.del, m.orig = r.Liveness(), r.Deletion(), r.clustering
	for r.Next() {
		if !r.Complex {
			m.cells[cellKey{r.Column, ""}] = r.Cell
			continue
		}
		if !r.ComplexDeletion.Live() {
			m.cdel[r.Column] = r.ComplexDeletion
		}
		for r.NextElement() {
			m.cells[cellKey{r.Column, string(r.Cell.Path)}] = r.Cell
		}
	}
	if r.Err() != nil {
		t.Fatalf("%x: %v", row, r.Err())
	}
	return m
}

func (m *modelRow) String() string {
	return fmt.Sprintf("live=%v del=%v cdel=%v cells=%v orig=%q", m.live, m.del, m.cdel, m.sortedCells(), fmt.Sprint(string(m.orig.key), m.orig.ts))
}

// gen makes content from small sets of values, so that everything collides.
type gen struct {
	*rand.Rand
	base int64
}

// seeds is how many random cases a test tries where n are usual: a quarter of them with -short, 20 times as many with
// HELENUS_LONG=1.
func seeds(n uint64) uint64 {
	switch {
	case os.Getenv("HELENUS_LONG") == "1":
		return 20 * n
	case testing.Short():
		return n / 4
	}
	return n
}

func newGen(seed uint64) *gen {
	r := rand.New(rand.NewPCG(seed, 0x5eed))
	bases := []int64{0, 1_700_000_000_000_000, math.MaxInt64 - 8, math.MinInt64 + 1, -3}
	g := &gen{r, bases[1]}
	if r.IntN(4) == 0 {
		g.base = bases[r.IntN(len(bases))]
	}
	return g
}

const genSecond = 1_700_000_000

func (g *gen) ts() int64    { return g.base + int64(g.IntN(6)) }
func (g *gen) local() int64 { return genSecond + int64(g.IntN(6)) }
func (g *gen) value() []byte {
	v := []string{"", "a", "b", "bb", string(make([]byte, 130))}[g.IntN(5)]
	return []byte(v)
}
func (g *gen) deletion() Deletion { return Deletion{g.ts(), g.local()} }

func (g *gen) maybeDeletion(n int) Deletion {
	if g.IntN(n) != 0 {
		return Live()
	}
	return g.deletion()
}

func (g *gen) cell(col schema.ColumnID, path string) Cell {
	c := Cell{Column: col, Timestamp: g.ts()}
	if path != "" {
		c.Path = []byte(path)
	}
	switch g.IntN(6) {
	case 0:
		c.Tombstone, c.Expiry = true, g.local()
	case 1, 2:
		c.TTL, c.Expiry = int32(1+g.IntN(3)), g.local()
		if g.IntN(4) == 0 {
			c.Tombstone = true
		}
	}
	if !c.Tombstone {
		c.Value = g.value()
	}
	return c
}

var (
	simpleColumns  = []schema.ColumnID{0, 1, 2, 3, 9, 200, 1 << 20, math.MaxUint32}
	complexColumns = []schema.ColumnID{4, 5, 300}
	elementPaths   = []string{"@a", "@b", "@c", "@longer than fifteen bytes", "@" + string(make([]byte, 200))}
)

func (g *gen) row() *modelRow {
	m := newModelRow()
	if g.IntN(2) == 0 {
		m.live = Liveness{Timestamp: g.ts()}
		if g.IntN(3) == 0 {
			m.live.TTL, m.live.Expiry = int32(1+g.IntN(3)), g.local()
		}
	}
	m.del = g.maybeDeletion(6)
	for _, col := range simpleColumns {
		if g.IntN(3) == 0 {
			m.cells[cellKey{col, ""}] = g.cell(col, "")
		}
	}
	for _, col := range complexColumns {
		if g.IntN(3) != 0 {
			continue
		}
		if g.IntN(3) == 0 {
			m.cdel[col] = g.deletion()
		}
		for _, p := range elementPaths {
			if g.IntN(3) == 0 {
				m.cells[cellKey{col, p}] = g.cell(col, p)
			}
		}
	}
	g.counters(m)
	if g.IntN(8) == 0 { // a plain INSERT
		ts := g.ts()
		m = newModelRow()
		m.live = Liveness{Timestamp: ts}
		for _, col := range simpleColumns[:1+g.IntN(4)] {
			m.cells[cellKey{col, ""}] = Cell{Column: col, Timestamp: ts, Value: g.value()}
		}
		if g.IntN(2) == 0 {
			m.live = NoLiveness()
		}
	}
	n := m.shadowed(Live())
	if n.empty() {
		return g.row()
	}
	if g.IntN(6) == 0 { // as old as something in the row
		n.orig = original{[]byte([]string{"x", "y", "yy"}[g.IntN(3)]), n.anyTimestamp()}
		n = n.shadowed(Live())
	}
	return n
}

func (m *modelRow) anyTimestamp() int64 {
	ts := max(m.live.Timestamp, m.del.Timestamp)
	for _, c := range m.cells {
		ts = max(ts, c.Timestamp)
	}
	for _, d := range m.cdel {
		ts = max(ts, d.Timestamp)
	}
	return ts
}
