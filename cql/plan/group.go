package plan

import (
	"bytes"
	"slices"

	"github.com/helenusdb/helenus/cql/protocol"
	"github.com/helenusdb/helenus/ring"
)

// groupState is the group of rows at hand. Without GROUP BY all rows are one.
type groupState struct {
	open     bool
	token    ring.Token
	key      []byte
	prefix   []byte // of the clustering key
	function []byte
	null     bool       // the function's value is null
	first    [][]byte   // the first row: what columns outside of aggregates show
	meta     []metaView // and their times
	mem      arena
	aggs     []aggState
}

func (w *RowWriter) resetGroups() {
	w.group.open = false
}

// accumulate adds the row in view to its group. A row of a new group ends the one before.
func (w *RowWriter) accumulate(dst, ckey []byte) ([]byte, error) {
	g := &w.group
	prefix, fn, err := w.groupKey(ckey)
	if err != nil {
		return dst, err
	}
	if g.open && !w.sameGroup(prefix, fn) {
		if dst, err = w.closeGroup(dst); err != nil || w.done {
			return dst, err
		}
		if w.want <= 0 {
			w.stopBefore(ckey)
			return dst, nil
		}
	}
	if !g.open && w.given >= w.perPart {
		return dst, nil
	}
	if !g.open {
		w.openGroup(prefix, fn)
	}
	for i, t := range w.s.aggs {
		if err := w.group.aggs[i].add(&w.sc, t); err != nil {
			return dst, err
		}
	}
	return dst, nil
}

// groupKey returns what tells the row's group from others of its partition.
func (w *RowWriter) groupKey(ckey []byte) (prefix []byte, fn protocol.Value, err error) {
	g := w.s.group
	if g == nil || g.clustering == 0 {
		return nil, fn, nil
	}
	n := g.clustering
	if g.function != nil {
		n--
		if fn, err = g.function.eval(&w.sc); err != nil {
			return nil, fn, err
		}
	}
	rest := ckey
	for _, col := range w.s.table.Clustering[:n] {
		if len(rest) == 0 {
			break
		}
		if rest, err = col.Type.SkipKey(rest, col.Desc); err != nil {
			return nil, fn, err
		}
	}
	return ckey[:len(ckey)-len(rest)], fn, nil
}

func (w *RowWriter) sameGroup(prefix []byte, fn protocol.Value) bool {
	g := &w.group
	if w.s.group == nil {
		return true
	}
	return g.token == w.token && bytes.Equal(g.key, w.key) && bytes.Equal(g.prefix, prefix) &&
		bytes.Equal(g.function, fn.Bytes) && g.null == (fn.State != protocol.Set)
}

func (w *RowWriter) openGroup(prefix []byte, fn protocol.Value) {
	g := &w.group
	g.open = true
	g.mem.reset()
	g.token, g.key, g.prefix = w.token, g.mem.copy(w.key), g.mem.copy(prefix)
	g.function, g.null = g.mem.copy(fn.Bytes), fn.State != protocol.Set
	g.first = g.first[:0]
	for _, v := range w.view.vals {
		if v != nil {
			v = g.mem.copy(v)
		}
		g.first = append(g.first, v)
	}
	g.keepMeta(w.view.meta, w.s.slots.meta)
	g.aggs = slices.Grow(g.aggs[:0], len(w.s.aggs))[:len(w.s.aggs)]
	clear(g.aggs)
}

// keepMeta copies what writetime and ttl see of the slots that they look at.
func (g *groupState) keepMeta(meta []metaView, looked []bool) {
	g.meta = slices.Grow(g.meta[:0], len(meta))[:len(meta)]
	for i := range meta {
		cells := g.meta[i].cells[:0]
		if looked[i] {
			cells = append(cells, meta[i].cells...)
			for j := range cells {
				cells[j].Path = g.mem.copy(cells[j].Path)
			}
		}
		g.meta[i].cells = cells
	}
}

// closeGroup appends the row of the group, or adds it to the rows to sort.
func (w *RowWriter) closeGroup(dst []byte) ([]byte, error) {
	g := &w.group
	g.open = false
	row, meta := w.view.vals, w.view.meta
	w.view.vals, w.view.meta, w.view.aggs = g.first, g.meta, g.aggs
	var err error
	if w.s.order != nil {
		w.given++
		err = w.sorted.add(w)
	} else if dst, err = w.appendOutputs(dst); err == nil {
		w.count(len(dst))
	}
	w.view.vals, w.view.meta, w.view.aggs = row, meta, nil
	if g.token != w.token || !bytes.Equal(g.key, w.key) {
		w.given = 0
	}
	return dst, err
}

// lastGroup ends the last group. Aggregates without GROUP BY have a row even when nothing was read.
func (w *RowWriter) lastGroup(dst []byte) ([]byte, error) {
	if w.group.open {
		return w.closeGroup(dst)
	}
	if w.s.group != nil || w.rows > 0 {
		return dst, nil
	}
	w.view.init(&w.s.slots)
	w.openGroup(nil, protocol.Value{})
	return w.closeGroup(dst)
}

// sorter collects the rows of several partitions to order them.
type sorter struct {
	mem   arena
	rows  []sortedRow
	bytes int
}

// sortedBytesMax bounds the rows of several partitions that are ordered in memory, each counting sortedRowOverhead more.
const (
	sortedBytesMax    = 256 << 20
	sortedRowOverhead = 64
)

type sortedRow struct {
	values []byte
	keys   [][]byte
}

func (s *sorter) reset() {
	s.mem.reset()
	clear(s.rows)
	s.rows, s.bytes = s.rows[:0], 0
}

func (s *sorter) add(w *RowWriter) error {
	at := len(s.mem.buf)
	b, err := w.appendOutputs(s.mem.buf)
	if err != nil {
		return err
	}
	r := sortedRow{values: s.mem.take(b, at)}
	if s.bytes += len(b) - at + sortedRowOverhead; s.bytes > sortedBytesMax {
		return invalid("The rows to order are larger than %d bytes: name fewer partitions, or a LIMIT for each", sortedBytesMax)
	}
	for _, o := range w.s.order {
		v := w.view.vals[o.slot]
		if v != nil {
			v = s.mem.copy(v)
		}
		r.keys = append(r.keys, v)
	}
	s.rows = append(s.rows, r)
	return nil
}

// finish appends the rows in order, as many as LIMIT leaves.
func (s *sorter) finish(dst []byte, w *RowWriter) []byte {
	order := w.s.order
	slices.SortStableFunc(s.rows, func(a, b sortedRow) int {
		for i, o := range order {
			c := compareNullable(w.s.slots.cols[o.slot].Type.Compare, a.keys[i], b.keys[i])
			if o.desc {
				c = -c
			}
			if c != 0 {
				return c
			}
		}
		return 0
	})
	for _, r := range s.rows {
		if w.remaining <= 0 {
			break
		}
		dst = append(dst, r.values...)
		w.rows++
		w.remaining--
	}
	return dst
}

// compareNullable puts null first.
func compareNullable(compare func(a, b []byte) int, a, b []byte) int {
	switch {
	case a == nil && b == nil:
		return 0
	case a == nil:
		return -1
	case b == nil:
		return 1
	}
	return compare(a, b)
}
