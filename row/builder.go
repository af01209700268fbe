package row

import (
	"bytes"
	"encoding/binary"

	"github.com/helenusdb/helenus/schema"
)

// Builder encodes one row. It is reusable, does not allocate when dst is large enough, and is not safe for concurrent use.
//
// Order of calls: Reset; SetClustering, SetLiveness, SetDeletion in any order; the columns in ascending order, of a
// complex column the deletion first and then the elements in ascending Path order; Finish. What the row deletion or a
// column's deletion shadows is left out. Columns, elements or setters out of order panic: that is a bug in the caller.
type Builder struct {
	e    encoder
	orig original
	live Liveness
	del  Deletion
	path []byte // of the last element
	open bool   // the head is written
}

// Reset begins a row that will be appended to dst.
func (b *Builder) Reset(dst []byte) {
	b.e.begin(dst)
	b.orig, b.live, b.del, b.open = noOriginal(), NoLiveness(), Live(), false
}

// SetClustering keeps the clustering key as it was written at ts, for a key that types.Type.Canonical denies: the row's
// position does not tell decimal 1.0 from 1.00. ts is the timestamp of the row's other content in this write. orig is
// aliased until the first column or Finish; an empty one is nothing.
func (b *Builder) SetClustering(orig []byte, ts int64) {
	b.closed()
	b.orig = noOriginal()
	if len(orig) > 0 {
		b.orig = original{orig, ts}
	}
}

// SetLiveness sets the liveness that an INSERT gives its row.
func (b *Builder) SetLiveness(l Liveness) { b.closed(); b.live = l }

// SetDeletion sets the row deletion.
func (b *Builder) SetDeletion(d Deletion) { b.closed(); b.del = d }

func (b *Builder) closed() {
	if b.open {
		panic("row: Builder: row properties set after the first column")
	}
}

func (b *Builder) head() {
	if !b.open {
		b.open = true
		b.e.head(b.orig, b.live, b.del)
	}
}

// Cell adds the cell of a simple column, or with a Path an element of a complex one. TTL and Tombstone tell the kind, as
// said at Cell. Value and Path are copied.
func (b *Builder) Cell(c Cell) {
	b.head()
	if c.TTL < 0 {
		panic("row: Builder: negative TTL")
	}
	if len(c.Path) == 0 {
		b.ascending(columnKey(c.Column, false))
		b.e.cell(&c)
		return
	}
	if !b.e.inComplex || b.e.column != c.Column {
		b.ascending(columnKey(c.Column, true))
		b.e.complex(c.Column, Live())
		b.path = b.path[:0]
	}
	if bytes.Compare(b.path, c.Path) >= 0 {
		panic("row: Builder: elements out of order")
	}
	b.path = append(b.path[:0], c.Path...)
	b.e.element(&c)
}

// ComplexDeletion deletes what the complex column col held: writing a whole collection is a deletion one microsecond
// older than its elements.
func (b *Builder) ComplexDeletion(col schema.ColumnID, d Deletion) {
	b.head()
	b.ascending(columnKey(col, true))
	b.path = b.path[:0]
	b.e.complex(col, d)
}

func (b *Builder) ascending(key uint64) {
	if b.e.inComplex && key <= columnKey(b.e.column, true) || key < b.e.next {
		panic("row: Builder: columns out of order")
	}
}

// Finish returns dst with the row appended. A row without content has no bytes: dst is returned as it was.
func (b *Builder) Finish() []byte {
	b.head()
	return b.e.finish()
}

// encoder writes a row item by item, in order, and leaves out what is shadowed. Everything that makes rows passes here,
// so that one content has one encoding.
type encoder struct {
	dst   []byte
	start int // of the row in dst
	flags byte
	based bool // the base timestamp is written
	full  bool // there is content, more than an original key
	base  int64
	ref   int64
	exp   int64 // what kind "same" means
	ttl   int32
	next  uint64 // least column key that may follow
	del   Deletion

	inComplex bool // a complex column was begun
	opened    bool // and its head is written
	column    schema.ColumnID
	cdel      Deletion // what shadows its elements
	body      int      // where its elements start
	savedTTL  int32
	savedExp  int64
}

func (e *encoder) begin(dst []byte) {
	e.start = len(dst)
	e.dst = append(dst, 0)
	e.flags, e.based, e.full, e.ttl, e.exp, e.next = 0, false, false, 0, 0, 0
	e.inComplex, e.opened = false, false
}

// head writes what precedes the columns. live and orig are left out when del shadows them.
func (e *encoder) head(orig original, live Liveness, del Deletion) {
	e.del = del
	if !del.Shadows(live.Timestamp) {
		e.setBase(live.Timestamp)
		e.flags |= flagLiveness
		e.full = true
		if live.TTL != 0 {
			e.flags |= flagExpiring | flagMortal
			e.appendTTL(live.TTL, live.Expiry)
		}
	}
	if !del.Live() {
		first := !e.based
		e.setBase(del.Timestamp)
		e.flags |= flagDeletion | flagMortal
		e.full = true
		if !first {
			e.dst = appendVarint(e.dst, e.delta(del.Timestamp))
		}
		e.dst = appendVarint(e.dst, del.LocalTime-e.ref)
	}
	if !del.Shadows(orig.ts) {
		e.setBase(orig.ts)
		e.flags |= flagClustering
		e.dst = appendVarint(e.dst, e.delta(orig.ts))
		e.dst = appendByteString(e.dst, orig.key)
	}
}

// setBase makes the timestamp of the first item the base of the row.
func (e *encoder) setBase(ts int64) {
	if e.based {
		return
	}
	e.based, e.base, e.ref = true, ts, ts/1e6
	e.dst = binary.BigEndian.AppendUint64(e.dst, uint64(ts))
}

// delta returns ts relative to the base.
func (e *encoder) delta(ts int64) int64 {
	if ts != e.base {
		e.flags |= flagMixed
	}
	return ts - e.base
}

func (e *encoder) appendTTL(ttl int32, exp int64) {
	e.ttl, e.exp = ttl, exp
	e.dst = appendUvarint(e.dst, uint64(ttl))
	e.dst = appendVarint(e.dst, exp-int64(ttl)-e.ref)
}

// cell writes the cell of a simple column.
func (e *encoder) cell(c *Cell) {
	if e.inComplex {
		e.closeComplex()
	}
	if e.del.Shadows(c.Timestamp) {
		return
	}
	e.setBase(c.Timestamp)
	e.full = true
	at := len(e.dst)
	e.appendColumn(columnKey(c.Column, false))
	e.appendCell(at, c)
}

// appendColumn writes the head byte of a column, with its delta only.
func (e *encoder) appendColumn(key uint64) {
	delta := key - e.next
	e.next = key + 1
	if delta < cellDeltaMax {
		e.dst = append(e.dst, byte(delta<<cellDelta))
		return
	}
	e.dst = appendUvarint(append(e.dst, cellDeltaMax<<cellDelta), delta-cellDeltaMax)
}

// appendCell writes what follows the head byte at dst[at], and completes that byte.
func (e *encoder) appendCell(at int, c *Cell) {
	var bits byte
	if d := c.Timestamp - e.base; d != 0 {
		bits = cellTimestamp
		e.flags |= flagMixed
		e.dst = appendVarint(e.dst, d)
	}
	if c.TTL != 0 || c.Tombstone {
		bits |= e.appendTimes(c)
	}
	e.dst[at] |= bits
	e.dst = append(e.dst, c.Path...)
	if !c.Tombstone {
		e.dst = appendByteString(e.dst, c.Value)
	}
}

// appendTimes writes TTL and expiry, or the local deletion time, and returns the kind.
func (e *encoder) appendTimes(c *Cell) byte {
	e.flags |= flagMortal
	if c.TTL == 0 {
		e.dst = appendVarint(e.dst, c.Expiry-e.ref)
		return kindTombstone
	}
	kind := byte(kindExpiring)
	if c.Tombstone {
		kind = kindExpired
	}
	if c.TTL == e.ttl && c.Expiry == e.exp {
		return kind + 1
	}
	e.appendTTL(c.TTL, c.Expiry)
	return kind
}

// complex begins a complex column. Nothing is written before there is a deletion or an element that counts.
func (e *encoder) complex(col schema.ColumnID, d Deletion) {
	if e.inComplex {
		e.closeComplex()
	}
	e.inComplex, e.opened, e.column, e.cdel = true, false, col, e.del
	if !d.Live() && d.Supersedes(e.del) {
		e.cdel = d
		e.openComplex(d.Timestamp, d)
	}
}

func (e *encoder) openComplex(ts int64, d Deletion) {
	e.opened, e.full = true, true
	e.flags |= flagComplex
	e.setBase(ts)
	at := len(e.dst)
	e.appendColumn(columnKey(e.column, true))
	if !d.Live() {
		e.flags |= flagMortal
		e.dst[at] |= cellTimestamp
		e.dst = appendVarint(e.dst, e.delta(d.Timestamp))
		e.dst = appendVarint(e.dst, d.LocalTime-e.ref)
	}
	e.dst = append(e.dst, 0)
	e.body = len(e.dst)
	e.savedTTL, e.savedExp = e.ttl, e.exp
}

// element writes an element of the complex column begun last.
func (e *encoder) element(c *Cell) {
	if e.cdel.Shadows(c.Timestamp) {
		return
	}
	if !e.opened {
		e.openComplex(c.Timestamp, Live())
	}
	at := len(e.dst)
	if n := len(c.Path); n < cellDeltaMax {
		e.dst = append(e.dst, byte(n<<cellDelta))
	} else {
		e.dst = appendUvarint(append(e.dst, cellDeltaMax<<cellDelta), uint64(n-cellDeltaMax))
	}
	e.appendCell(at, c)
}

// closeComplex fills in how long the elements are, making room when that takes more than the byte left for it. TTLs
// inside do not reach beyond, so that a reader can skip the column.
func (e *encoder) closeComplex() {
	e.inComplex = false
	if !e.opened {
		return
	}
	e.opened = false
	e.ttl, e.exp = e.savedTTL, e.savedExp
	n := len(e.dst) - e.body
	if n < 0x80 {
		e.dst[e.body-1] = byte(n)
		return
	}
	var size [binary.MaxVarintLen64]byte
	w := binary.PutUvarint(size[:], uint64(n))
	e.dst = append(e.dst, size[1:w]...)
	copy(e.dst[e.body-1+w:], e.dst[e.body:e.body+n])
	copy(e.dst[e.body-1:], size[:w])
}

// finish completes the row, or takes it back when it has no content.
func (e *encoder) finish() []byte {
	if e.inComplex {
		e.closeComplex()
	}
	dst := e.dst
	e.dst = nil
	if !e.full {
		return dst[:e.start]
	}
	dst[e.start] = e.flags
	return dst
}
