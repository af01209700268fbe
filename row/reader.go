package row

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"

	"github.com/helenusdb/helenus/schema"
)

// The first byte of a row: what follows, and what kinds of content there are. The last three are functions of the
// content, so that a reader knows from one byte that nothing in the row can die.
const (
	flagLiveness   = 1 << 0
	flagExpiring   = 1 << 1 // the liveness has a TTL
	flagDeletion   = 1 << 2
	flagClustering = 1 << 3
	flagMortal     = 1 << 4 // something is deleted, expired or will expire
	flagMixed      = 1 << 5 // not everything has the same timestamp
	flagComplex    = 1 << 6 // some column is complex
	flagFormat     = 1 << 7 // must be clear: another format
)

// The low three bits of a cell's first byte.
const (
	kindLive         = 0
	kindExpiring     = 1 // TTL and expiry follow
	kindExpiringSame = 2 // TTL and expiry of the last expiring item before it in the row
	kindTombstone    = 3
	kindExpired      = 4
	kindExpiredSame  = 5
	// 6 and 7 are kept for counters.

	cellKindMask  = 7
	cellTimestamp = 1 << 3 // a timestamp other than the base follows
	cellDelta     = 4      // shift of the column delta, or path length
	cellDeltaMax  = 15     // the rest follows as a number
)

// Reader reads one encoded row without allocating. Everything it returns aliases the row. Its zero value is ready for
// Init; it is not safe for concurrent use.
//
//	for r.Next() {
//		if !r.Complex {
//			… r.Cell …
//			continue
//		}
//		… r.ComplexDeletion …
//		for r.NextElement() {
//			… r.Cell …
//		}
//	}
//	err := r.Err()
type Reader struct {
	Column          schema.ColumnID
	Complex         bool     // the column is a collection or UDT that is not frozen
	ComplexDeletion Deletion // of the column, when Complex
	Cell            Cell     // of the column after Next, when not Complex; of the element after NextElement

	buf        []byte
	pos        int    // of the next column
	next       uint64 // the least column key that may follow: see columnKey
	elem, last int    // next element and end of the elements of the column
	base, ref  int64  // timestamp (µs) and the second it falls in
	exp        int64  // expiry and TTL that "same" means
	ttl        int32
	elemTTL    int32
	elemExp    int64
	flags      byte
	liveness   Liveness
	deletion   Deletion
	clustering original
	err        error
}

// columnKey orders the columns of a row. A column is either simple or complex for ever, but bytes that say both are read
// and merged like any others: reconciliation is total.
func columnKey(col schema.ColumnID, complex bool) uint64 {
	k := uint64(col) << 1
	if complex {
		k |= 1
	}
	return k
}

// Init starts reading row, whose zero-length form is the row without content. It returns ErrCorrupt or ErrVersion.
func (r *Reader) Init(row []byte) error {
	r.buf, r.pos, r.next, r.elem, r.last = row, len(row), 0, 0, 0
	r.ttl, r.exp, r.flags, r.err = 0, 0, 0, nil
	r.Complex, r.clustering = false, noOriginal()
	r.liveness, r.deletion = NoLiveness(), Live()
	if len(row) == 0 {
		return nil
	}
	if r.flags = row[0]; r.flags&flagFormat != 0 {
		r.err = fmt.Errorf("row: decode row: %w", ErrVersion)
		return r.err
	}
	if p := r.header(); p < 0 {
		r.fail()
	} else {
		r.pos = p
	}
	return r.err
}

func (r *Reader) header() int {
	b, p := r.buf, 1
	if len(b)-p < 8 {
		return -1
	}
	r.base = int64(binary.BigEndian.Uint64(b[p:]))
	r.ref = r.base / 1e6
	p += 8
	if r.base == NoTimestamp {
		return -1
	}
	if r.flags&flagLiveness != 0 {
		r.liveness = Liveness{Timestamp: r.base}
		if r.flags&flagExpiring != 0 {
			if p = r.readTTL(p, &r.ttl, &r.exp); p < 0 {
				return p
			}
			r.liveness.TTL, r.liveness.Expiry = r.ttl, r.exp
		}
	} else if r.flags&flagExpiring != 0 {
		return -1
	}
	if r.flags&flagDeletion != 0 {
		if p = r.readDeletion(p, &r.deletion, r.flags&flagLiveness != 0); p < 0 {
			return p
		}
	}
	if r.flags&flagClustering != 0 {
		var d int64
		if d, p = varint(b, p); p < 0 {
			return p
		}
		r.clustering.ts = r.base + d
		if r.clustering.key, p = byteString(b, p); p >= 0 && len(r.clustering.key) == 0 {
			return -1
		}
	}
	return p
}

// readTTL reads TTL and expiry, which is kept relative to the time of writing as the base timestamp tells it.
func (r *Reader) readTTL(p int, ttl *int32, exp *int64) int {
	t, p := uvarint(r.buf, p)
	if p < 0 || t == 0 || t > 1<<31-1 {
		return -1
	}
	d, p := varint(r.buf, p)
	*ttl, *exp = int32(t), r.ref+int64(t)+d
	return p
}

func (r *Reader) readDeletion(p int, d *Deletion, delta bool) int {
	var v int64
	if delta {
		if v, p = varint(r.buf, p); p < 0 {
			return p
		}
	}
	d.Timestamp = r.base + v
	v, p = varint(r.buf, p)
	d.LocalTime = r.ref + v
	return p
}

// Err returns ErrCorrupt when the bytes read so far were no row.
func (r *Reader) Err() error { return r.err }

func (r *Reader) fail() bool {
	if r.err == nil {
		r.err = fmt.Errorf("row: decode row: %w", ErrCorrupt)
	}
	r.pos, r.elem, r.last = len(r.buf), 0, 0
	return false
}

// Liveness returns the row's liveness, which is Empty when there is none.
func (r *Reader) Liveness() Liveness { return r.liveness }

// Deletion returns the row deletion, which is Live when there is none.
func (r *Reader) Deletion() Deletion { return r.deletion }

// Clustering returns the clustering key as it was written when its bytes are not canonical, otherwise nil.
func (r *Reader) Clustering() []byte { return r.clustering.key }

// original is a clustering key as it was written. It is reconciled like a cell: the larger timestamp, then the larger
// bytes; deletions shadow it. It never stands alone in a row.
type original struct {
	key []byte
	ts  int64 // NoTimestamp: none
}

func noOriginal() original { return original{ts: NoTimestamp} }

func (o original) supersedes(p original) bool {
	if o.ts != p.ts {
		return o.ts > p.ts
	}
	return bytes.Compare(o.key, p.key) > 0
}

func (o original) equal(p original) bool { return o.ts == p.ts && bytes.Equal(o.key, p.key) }

// Next moves to the next column. It returns false at the end and for malformed bytes: see Err.
func (r *Reader) Next() bool {
	b, p := r.buf, r.pos
	if p >= len(b) {
		return false
	}
	head := b[p]
	p++
	delta := uint64(head >> cellDelta)
	if delta == cellDeltaMax {
		var more uint64
		if more, p = uvarint(b, p); p < 0 || more > 1<<33 {
			return r.fail()
		}
		delta += more
	}
	key := r.next + delta
	if key>>33 != 0 {
		return r.fail()
	}
	r.next = key + 1
	r.Column = schema.ColumnID(key >> 1)
	r.Complex = key&1 != 0
	if r.Complex {
		return r.nextComplex(head, p)
	}
	r.Cell.Column, r.Cell.Path = r.Column, nil
	if p = r.readCell(head, p, 0, &r.ttl, &r.exp); p < 0 {
		return r.fail()
	}
	r.elem, r.last = 0, 0
	r.pos = p
	return true
}

func (r *Reader) nextComplex(head byte, p int) bool {
	if head&cellKindMask != 0 {
		return r.fail()
	}
	r.ComplexDeletion = Live()
	if head&cellTimestamp != 0 {
		if p = r.readDeletion(p, &r.ComplexDeletion, true); p < 0 {
			return r.fail()
		}
	}
	n, p := uvarint(r.buf, p)
	if p < 0 || n > uint64(len(r.buf)-p) {
		return r.fail()
	}
	r.elem, r.last = p, p+int(n)
	r.elemTTL, r.elemExp = r.ttl, r.exp
	r.pos = r.last
	return true
}

// NextElement moves to the next element of the complex column that Next found.
func (r *Reader) NextElement() bool {
	p := r.elem
	if p >= r.last {
		return false
	}
	head := r.buf[p]
	p++
	n := uint64(head >> cellDelta)
	if n == cellDeltaMax {
		var more uint64
		if more, p = uvarint(r.buf, p); p < 0 || more > uint64(len(r.buf)) {
			return r.fail()
		}
		n += more
	}
	r.Cell.Column = r.Column
	if n == 0 {
		return r.fail()
	}
	if p = r.readCell(head, p, int(n), &r.elemTTL, &r.elemExp); p < 0 || p > r.last {
		return r.fail()
	}
	r.elem = p
	return true
}

// readCell reads what follows the head of a cell: timestamp, times, path, value. Redundant forms are malformed.
func (r *Reader) readCell(head byte, p, pathLen int, ttl *int32, exp *int64) int {
	b, c := r.buf, &r.Cell
	c.Timestamp, c.TTL, c.Expiry, c.Tombstone = r.base, 0, 0, false
	if head&cellTimestamp != 0 {
		d, q := varint(b, p)
		if q < 0 || d == 0 {
			return -1
		}
		c.Timestamp += d
		p = q
	}
	if kind := head & cellKindMask; kind != kindLive {
		if p = r.readTimes(kind, p, ttl, exp); p < 0 {
			return -1
		}
	}
	c.Path = nil
	if pathLen != 0 {
		if pathLen > len(b)-p {
			return -1
		}
		c.Path = b[p : p+pathLen : p+pathLen]
		p += pathLen
	}
	if c.Tombstone {
		c.Value = nil
		return p
	}
	c.Value, p = byteString(b, p)
	return p
}

// readTimes reads TTL and expiry, or the local deletion time, of a cell that is not plainly live.
func (r *Reader) readTimes(kind byte, p int, ttl *int32, exp *int64) int {
	c := &r.Cell
	c.Tombstone = kind >= kindTombstone
	switch kind {
	case kindTombstone:
		d, p := varint(r.buf, p)
		c.Expiry = r.ref + d
		return p
	case kindExpiring, kindExpired:
		oldTTL, oldExp := *ttl, *exp
		if p = r.readTTL(p, ttl, exp); p < 0 || *ttl == oldTTL && *exp == oldExp {
			return -1
		}
	case kindExpiringSame, kindExpiredSame:
		if *ttl == 0 {
			return -1
		}
	default:
		return -1
	}
	c.TTL, c.Expiry = *ttl, *exp
	return p
}

// Find moves forward to the column col and reports whether the row has it. When it does not, the reader stays before
// the next larger column, so that finding columns in ascending order is one pass over the row.
func (r *Reader) Find(col schema.ColumnID) bool {
	for {
		pos, next, ttl, exp := r.pos, r.next, r.ttl, r.exp
		if !r.Next() {
			return false
		}
		if r.Column == col {
			return true
		}
		if r.Column > col {
			r.pos, r.next, r.ttl, r.exp = pos, next, ttl, exp
			return false
		}
	}
}

// Mortal reports whether something in the row is deleted, expired or will expire. When it is false, Compact returns the
// row as it is at any time, and the row is visible. It looks at one byte.
func Mortal(row []byte) bool { return len(row) == 0 || row[0]&flagMortal != 0 }

// HasLive reports whether the row is visible at now (seconds since the epoch): its liveness is live or one of its cells
// is. For a static row no liveness is ever written, so its cells decide. Malformed bytes are not visible.
func HasLive(row []byte, now int64) bool {
	if !Mortal(row) {
		return true
	}
	var r Reader
	if r.Init(row) != nil {
		return false
	}
	return r.hasLive(now)
}

// hasLive reads the rest of the row.
func (r *Reader) hasLive(now int64) bool {
	if r.liveness.LiveAt(now) {
		return true
	}
	for r.Next() {
		if !r.Complex && r.Cell.LiveAt(now) {
			return true
		}
		for r.NextElement() {
			if r.Cell.LiveAt(now) {
				return true
			}
		}
	}
	return false
}

// Horizon returns the earliest second at which something in the row can expire or could be purged: the least expiry of
// what is alive and local time of what is deleted. It returns math.MaxInt64 when there is no such thing.
func Horizon(row []byte) int64 {
	least := int64(math.MaxInt64)
	var r Reader
	if !Mortal(row) || r.Init(row) != nil {
		return least
	}
	if !r.deletion.Live() {
		least = min(least, r.deletion.LocalTime)
	}
	if r.liveness.TTL != 0 {
		least = min(least, r.liveness.Expiry)
	}
	for r.Next() {
		if !r.Complex {
			least = min(least, r.Cell.horizon())
			continue
		}
		if !r.ComplexDeletion.Live() {
			least = min(least, r.ComplexDeletion.LocalTime)
		}
		for r.NextElement() {
			least = min(least, r.Cell.horizon())
		}
	}
	return least
}

func (c *Cell) horizon() int64 {
	switch {
	case c.Tombstone:
		return c.LocalTime()
	case c.TTL != 0:
		return c.Expiry
	}
	return math.MaxInt64
}

// Validate returns nil when row is exactly what Builder writes for its content: every field legal, everything in order,
// nothing shadowed by the row's own deletions, the one encoding of its content. Otherwise it returns ErrCorrupt or
// ErrVersion. The zero-length row, which has no content, is not valid.
func Validate(row []byte) error {
	var r Reader
	if err := r.Init(row); err != nil {
		return err
	}
	if len(row) == 0 || !r.valid() {
		r.fail()
	}
	return r.err
}

func (r *Reader) valid() bool {
	c := check{r: r, del: r.deletion, first: r.flags&(flagLiveness|flagDeletion|flagClustering) == 0,
		content: r.flags&(flagLiveness|flagDeletion) != 0}
	if r.flags&flagClustering != 0 {
		if r.deletion.Shadows(r.clustering.ts) || !c.content && r.clustering.ts != r.base {
			return false
		}
		c.mixed(r.clustering.ts)
	}
	if !r.deletion.Live() {
		c.flags |= flagMortal
		c.mixed(r.deletion.Timestamp)
	}
	if r.liveness.TTL != 0 {
		c.flags |= flagMortal
	}
	if r.flags&flagDeletion != 0 && r.deletion.Live() || r.liveness.Timestamp <= r.deletion.Timestamp && !r.liveness.Empty() {
		return false
	}
	for r.Next() {
		if ok := r.Complex && c.complex() || !r.Complex && c.cell(r.deletion); !ok {
			return false
		}
	}
	return r.err == nil && c.content && c.flags == r.flags&(flagMortal|flagMixed|flagComplex)
}

// check collects what Validate needs to know of the items before.
type check struct {
	r     *Reader
	del   Deletion
	first bool // no item yet: the next one sets the base timestamp
	flags byte

	content bool // there is more than an original key
}

func (c *check) mixed(ts int64) {
	if ts != c.r.base {
		c.flags |= flagMixed
	}
}

func (c *check) cell(shadow Deletion) bool {
	cell := &c.r.Cell
	if shadow.Shadows(cell.Timestamp) || c.first && cell.Timestamp != c.r.base {
		return false
	}
	c.first, c.content = false, true
	c.mixed(cell.Timestamp)
	if cell.Tombstone || cell.TTL != 0 {
		c.flags |= flagMortal
	}
	return true
}

func (c *check) complex() bool {
	r, shadow := c.r, c.del
	c.flags |= flagComplex
	empty := true
	if d := r.ComplexDeletion; !d.Live() {
		if !d.Supersedes(shadow) || c.first && d.Timestamp != r.base {
			return false
		}
		shadow, empty, c.first, c.content = d, false, false, true
		c.flags |= flagMortal
		c.mixed(d.Timestamp)
	} else if d != Live() {
		return false
	}
	var path []byte
	for r.NextElement() {
		if !c.cell(shadow) || bytes.Compare(path, r.Cell.Path) >= 0 {
			return false
		}
		path, empty = r.Cell.Path, false
	}
	return !empty && r.err == nil
}
