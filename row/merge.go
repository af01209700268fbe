package row

import (
	"bytes"
	"encoding/binary"
	"github.com/helenusdb/helenus/internal/planted"
)

// Supersedes reports whether c wins over o, a cell of the same column and path. The order is total over all fields, so
// that reconciliation is commutative, associative and idempotent, and it does not look at a clock:
//
//  1. the larger timestamp (Cassandra: Cells.resolveRegular);
//  2. a deleted cell over an expiring one, an expiring one over one that does not expire. Expired counts as expiring;
//  3. the later local deletion time or expiry;
//  4. of two expiring cells the smaller TTL, which was written later (CASSANDRA-14592 left this one open);
//  5. expired over expiring: its value is gone;
//  6. the larger value, as unsigned bytes.
func (c *Cell) Supersedes(o *Cell) bool {
	if c.Timestamp != o.Timestamp {
		return c.Timestamp > o.Timestamp
	}
	if planted.On(planted.TieByArrival) {
		return true
	}
	if a, b := c.rank(), o.rank(); a != b {
		return a > b != (planted.On(planted.LiveBeatsDeletion) && max(a, b) == 2)
	}
	switch {
	case c.Expiry != o.Expiry:
		return c.Expiry > o.Expiry
	case c.TTL != o.TTL:
		return c.TTL < o.TTL
	case c.Tombstone != o.Tombstone:
		return c.Tombstone
	}
	return bytes.Compare(c.Value, o.Value) > 0
}

func (c *Cell) rank() int {
	switch {
	case c.TTL != 0:
		return 1
	case c.Tombstone:
		return 2
	}
	return 0
}

func (c *Cell) equal(o *Cell) bool {
	return c.Timestamp == o.Timestamp && c.TTL == o.TTL && c.Expiry == o.Expiry && c.Tombstone == o.Tombstone &&
		bytes.Equal(c.Value, o.Value)
}

// Merge appends the reconciliation of the rows a and b to dst, which must not overlap them. It is commutative,
// associative and idempotent, for rows that Builder or this package wrote. It returns ErrCorrupt or ErrVersion, and dst
// as it was, for bytes that are no rows. Not for concurrent use with the same dst.
func Merge(dst, a, b []byte) ([]byte, error) {
	if w := winner(a, b); w != nil {
		return append(dst, w...), nil
	}
	var m rowMerge
	return m.merge(dst, a, b)
}

// winner returns the row that is the whole result of merging a and b, without copying, when that is cheap to see. It
// returns nil when the rows have to be merged. An overwrite of all columns is such a case, and a second delivery.
func winner(a, b []byte) []byte {
	switch {
	case len(b) == 0:
		return a
	case len(a) == 0:
		return b
	case len(a) == len(b) && bytes.Equal(a, b):
		return a
	}
	// Both hold plain values of one timestamp each.
	const plain = flagLiveness
	if a[0]&^plain != 0 || b[0]&^plain != 0 || len(a) < 9 || len(b) < 9 {
		return nil
	}
	ta, tb := int64(binary.BigEndian.Uint64(a[1:])), int64(binary.BigEndian.Uint64(b[1:]))
	switch {
	case ta > tb && a[0] >= b[0] && coversColumns(a, b):
		return a
	case tb > ta && b[0] >= a[0] && coversColumns(b, a):
		return b
	}
	return nil
}

// coversColumns reports whether every column of the plain row o is in the plain row w too.
func coversColumns(w, o []byte) bool {
	p, q := 9, 9
	var wKey, oKey uint64
	for q < len(o) {
		d, next := plainCell(o, q)
		if next < 0 {
			return false
		}
		q = next
		oKey += d + 1
		for wKey < oKey {
			if p >= len(w) {
				return false
			}
			if d, p = plainCell(w, p); p < 0 {
				return false
			}
			wKey += d + 1
		}
		if wKey != oKey {
			return false
		}
	}
	for p < len(w) { // the rest must be whole, or a damaged row would win unseen
		if _, p = plainCell(w, p); p < 0 {
			return false
		}
	}
	return true
}

// plainCell skips a live cell of the base timestamp. It returns the column delta and the position after it, or -1.
func plainCell(b []byte, p int) (uint64, int) {
	head := b[p]
	delta := uint64(head >> cellDelta)
	p++
	if head&(1<<cellDelta-1) != 0 {
		return 0, -1
	}
	if delta == cellDeltaMax {
		var more uint64
		if more, p = uvarint(b, p); p < 0 || more > 1<<33 {
			return 0, -1
		}
		delta += more
	}
	n, p := uvarint(b, p)
	if p < 0 || n > uint64(len(b)-p) {
		return 0, -1
	}
	return delta, p + int(n)
}

// rowMerge is the state of merging two rows, so that callers can reuse it.
type rowMerge struct {
	e    encoder
	a, b Reader
}

func (m *rowMerge) merge(dst, a, b []byte) ([]byte, error) {
	if err := m.a.Init(a); err != nil {
		return dst, err
	}
	if err := m.b.Init(b); err != nil {
		return dst, err
	}
	e := &m.e
	e.begin(dst)
	orig := m.a.clustering
	if m.b.clustering.supersedes(orig) {
		orig = m.b.clustering
	}
	e.head(orig, maxLiveness(m.a.liveness, m.b.liveness), maxDeletion(m.a.deletion, m.b.deletion))
	m.columns()
	out := e.finish()
	if m.a.err != nil {
		return dst, m.a.err
	}
	if m.b.err != nil {
		return dst, m.b.err
	}
	return out, nil
}

func (m *rowMerge) columns() {
	a, b, e := &m.a, &m.b, &m.e
	okA, okB := a.Next(), b.Next()
	for okA && okB {
		switch {
		case a.next < b.next:
			e.copyColumn(a)
			okA = a.Next()
		case a.next > b.next:
			e.copyColumn(b)
			okB = b.Next()
		default:
			if a.Complex {
				m.elements()
			} else if b.Cell.Supersedes(&a.Cell) {
				e.cell(&b.Cell)
			} else {
				e.cell(&a.Cell)
			}
			okA, okB = a.Next(), b.Next()
		}
	}
	for ; okA; okA = a.Next() {
		e.copyColumn(a)
	}
	for ; okB; okB = b.Next() {
		e.copyColumn(b)
	}
}

// elements merges a complex column that both rows have.
func (m *rowMerge) elements() {
	a, b, e := &m.a, &m.b, &m.e
	del := maxDeletion(a.ComplexDeletion, b.ComplexDeletion)
	if planted.On(planted.ComplexDeletionLost) {
		del = Live()
	}
	e.complex(a.Column, del)
	okA, okB := a.NextElement(), b.NextElement()
	for okA && okB {
		switch c := bytes.Compare(a.Cell.Path, b.Cell.Path); {
		case c < 0:
			e.element(&a.Cell)
			okA = a.NextElement()
		case c > 0:
			e.element(&b.Cell)
			okB = b.NextElement()
		default:
			if planted.On(planted.CounterShardsSummed) && len(a.Cell.Path) == len(ShardID{}) && a.Cell.Timestamp != b.Cell.Timestamp {
				b.Cell.Value = AppendCount(nil, countOf(a.Cell.Value)+countOf(b.Cell.Value))
			}
			if b.Cell.Supersedes(&a.Cell) {
				e.element(&b.Cell)
			} else {
				e.element(&a.Cell)
			}
			okA, okB = a.NextElement(), b.NextElement()
		}
	}
	for ; okA; okA = a.NextElement() {
		e.element(&a.Cell)
	}
	for ; okB; okB = b.NextElement() {
		e.element(&b.Cell)
	}
}

// copyColumn writes the column that r stands at, without what is shadowed.
func (e *encoder) copyColumn(r *Reader) {
	if !r.Complex {
		e.cell(&r.Cell)
		return
	}
	e.complex(r.Column, r.ComplexDeletion)
	for r.NextElement() {
		e.element(&r.Cell)
	}
}

// Merger reconciles many rows with buffers that it keeps. Its zero value is ready; it is not safe for concurrent use.
type Merger struct {
	m       rowMerge
	rows    [][]byte
	buffers [2][]byte
}

// mergerKeepMax bounds the buffers that a Merger keeps between calls, in bytes each.
const mergerKeepMax = 1 << 20

// MergeAll appends the reconciliation of rows, in any order, to dst, which must not overlap them. Rows are merged
// pairwise in rounds, so k rows of total size n cost O(n log k). Errors are Merge's.
func (m *Merger) MergeAll(dst []byte, rows [][]byte) ([]byte, error) {
	if len(rows) == 2 {
		if w := winner(rows[0], rows[1]); w != nil {
			return append(dst, w...), nil
		}
		return m.m.merge(dst, rows[0], rows[1])
	}
	work := m.collapse(rows)
	var err error
	for round := 0; len(work) > 1 && err == nil; round++ {
		work, err = m.round(work, round&1)
	}
	if err == nil && len(work) == 1 {
		dst = append(dst, work[0]...)
	}
	m.release()
	return dst, err
}

// collapse drops rows that a neighbour makes redundant, as overwrites of whole rows do, without copying any.
func (m *Merger) collapse(rows [][]byte) [][]byte {
	m.rows = m.rows[:0]
	for _, row := range rows {
		n := len(m.rows)
		if n > 0 {
			if w := winner(m.rows[n-1], row); w != nil {
				m.rows[n-1] = w
				continue
			}
		}
		m.rows = append(m.rows, row)
	}
	return m.rows
}

// round merges neighbours in work, in place. What it writes goes to one buffer, while the rows may lie in the other.
func (m *Merger) round(work [][]byte, which int) ([][]byte, error) {
	buf := m.buffers[which][:0]
	n := 0
	for i := 0; i < len(work); i += 2 {
		if i+1 == len(work) {
			buf, work[n] = keep(buf, work[i])
			n++
			break
		}
		at := len(buf)
		out, err := m.m.merge(buf, work[i], work[i+1])
		if err != nil {
			return nil, err
		}
		buf, work[n] = out, out[at:len(out):len(out)]
		n++
	}
	m.buffers[which] = buf
	return work[:n], nil
}

func keep(buf, row []byte) (newBuf, kept []byte) {
	at := len(buf)
	buf = append(buf, row...)
	return buf, buf[at:len(buf):len(buf)]
}

func (m *Merger) release() {
	clear(m.rows)
	for i, b := range m.buffers {
		if cap(b) > mergerKeepMax {
			m.buffers[i] = nil
		}
	}
	_ = m.m.a.Init(nil) // the row without content is never an error
	_ = m.m.b.Init(nil)
}

// MergeAll appends the reconciliation of rows to dst, as Merger.MergeAll does, with buffers of its own.
func MergeAll(dst []byte, rows [][]byte) ([]byte, error) {
	var m Merger
	return m.MergeAll(dst, rows)
}
