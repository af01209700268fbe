package row

import (
	"bytes"
	"encoding/binary"
	"fmt"
)

// The first byte of a fragment.
const (
	fragDeletion    = 1 << 0
	fragStatic      = 1 << 1
	fragRanges      = 1 << 2
	fragReversed    = 1 << 3
	fragVersion     = 1 << 4 // version 1 in the high four bits
	fragVersionMask = 0xF0
)

// FragmentBuilder encodes a fragment: content of one partition. It is reusable and does not allocate when dst is large
// enough. Order of calls: Reset; PartitionDeletion; Static; rows in ascending clustering order, or descending when
// reversed; RangeTombstone any time; Finish. Not safe for concurrent use.
type FragmentBuilder struct {
	dst    []byte
	start  int
	ranges []RangeTombstone
}

// Reset begins a fragment that will be appended to dst. reversed says that the rows will come in descending order.
func (f *FragmentBuilder) Reset(dst []byte, reversed bool) {
	f.start = len(dst)
	head := byte(fragVersion)
	if reversed {
		head |= fragReversed
	}
	f.dst = append(dst, head)
	f.ranges = f.ranges[:0]
}

// PartitionDeletion sets the deletion of the whole partition. A live one is nothing.
func (f *FragmentBuilder) PartitionDeletion(d Deletion) {
	if d.Live() {
		return
	}
	f.dst[f.start] |= fragDeletion
	f.dst = appendDeletion(f.dst, d)
}

// Static adds the static row. One without content is nothing.
func (f *FragmentBuilder) Static(row []byte) {
	if len(row) == 0 {
		return
	}
	f.dst[f.start] |= fragStatic
	f.dst = appendByteString(f.dst, row)
}

// Row adds a row. One without content is nothing.
func (f *FragmentBuilder) Row(ckey, row []byte) {
	if len(row) == 0 {
		return
	}
	f.dst = appendRow(f.dst, ckey, row)
}

func appendRow(dst, ckey, row []byte) []byte {
	return appendByteString(appendByteString(dst, ckey), row)
}

// RangeTombstone adds a range tombstone. Its bytes are aliased until Finish. Overlaps are resolved there.
func (f *FragmentBuilder) RangeTombstone(rt RangeTombstone) { f.ranges = append(f.ranges, rt) }

// Finish returns dst with the fragment appended.
func (f *FragmentBuilder) Finish() []byte {
	dst := f.dst
	f.dst = nil
	if len(f.ranges) > 0 {
		ranges := NormalizeRanges(f.ranges)
		dst = appendRanges(dst, f.start, ranges)
		clear(f.ranges)
	}
	return dst
}

// appendRanges ends the fragment at dst[start:] with its normalized ranges: they come last because only the end of a page
// tells where to clip them.
func appendRanges(dst []byte, start int, ranges []RangeTombstone) []byte {
	if len(ranges) == 0 {
		return dst
	}
	dst[start] |= fragRanges
	at := len(dst)
	for _, rt := range ranges {
		dst = appendByteString(dst, rt.Start)
		dst = appendBound(dst, rt.End)
		dst = appendDeletion(dst, rt.Deletion)
	}
	return binary.BigEndian.AppendUint32(dst, uint32(len(dst)-at))
}

// appendDeletion appends a deletion outside of a row: timestamp, and local time relative to the second it falls in.
func appendDeletion(dst []byte, d Deletion) []byte {
	dst = binary.BigEndian.AppendUint64(dst, uint64(d.Timestamp))
	return appendVarint(dst, d.LocalTime-d.Timestamp/1e6)
}

func decodeDeletion(b []byte, p int) (Deletion, int) {
	if len(b)-p < 8 {
		return Deletion{}, -1
	}
	d := Deletion{Timestamp: int64(binary.BigEndian.Uint64(b[p:]))}
	local, p := varint(b, p+8)
	d.LocalTime = local + d.Timestamp/1e6
	if d.Live() {
		return d, -1
	}
	return d, p
}

// FragmentReader reads a fragment without allocating. Everything it returns aliases the fragment. Rows and ranges can be
// read in any interleaving. Its zero value is ready for Init.
type FragmentReader struct {
	Ckey []byte // of the row that NextRow found
	Row  []byte

	rows, ranges []byte // what is left of each
	static       []byte
	deletion     Deletion
	head         byte
	err          error
}

// Init starts reading frag. It returns ErrCorrupt or ErrVersion. The zero-length fragment is the empty one.
func (f *FragmentReader) Init(frag []byte) error {
	*f = FragmentReader{deletion: Live()}
	if len(frag) == 0 {
		return nil
	}
	f.head = frag[0]
	if f.head&fragVersionMask != fragVersion {
		f.err = fmt.Errorf("row: decode fragment: %w", ErrVersion)
		return f.err
	}
	if !f.split(frag) {
		f.fail()
	}
	return f.err
}

func (f *FragmentReader) split(b []byte) bool {
	if f.head&fragRanges != 0 {
		if len(b) < 5 {
			return false
		}
		size := uint64(binary.BigEndian.Uint32(b[len(b)-4:]))
		b = b[:len(b)-4]
		if size == 0 || size > uint64(len(b)-1) {
			return false
		}
		f.ranges = b[len(b)-int(size):]
		b = b[:len(b)-int(size)]
	}
	p := 1
	if f.head&fragDeletion != 0 {
		if f.deletion, p = decodeDeletion(b, p); p < 0 {
			return false
		}
	}
	if f.head&fragStatic != 0 {
		if f.static, p = byteString(b, p); p < 0 || len(f.static) == 0 {
			return false
		}
	}
	f.rows = b[p:]
	return true
}

func (f *FragmentReader) fail() bool {
	f.err = fmt.Errorf("row: decode fragment: %w", ErrCorrupt)
	f.rows, f.ranges = nil, nil
	return false
}

// Err returns ErrCorrupt when the bytes read so far were no fragment.
func (f *FragmentReader) Err() error { return f.err }

// Reversed reports whether the rows come in descending order. Ranges ascend always.
func (f *FragmentReader) Reversed() bool { return f.head&fragReversed != 0 }

// PartitionDeletion returns the deletion of the whole partition, or Live.
func (f *FragmentReader) PartitionDeletion() Deletion { return f.deletion }

// Static returns the static row, nil when there is none.
func (f *FragmentReader) Static() []byte { return f.static }

// HasRanges reports whether there are range tombstones.
func (f *FragmentReader) HasRanges() bool { return f.head&fragRanges != 0 }

// HasRows reports whether NextRow has more to read.
func (f *FragmentReader) HasRows() bool { return len(f.rows) > 0 }

// NextRow moves to the next row: Ckey and Row. It returns false at the end and for malformed bytes: see Err.
func (f *FragmentReader) NextRow() bool {
	if len(f.rows) == 0 {
		return false
	}
	var p int
	if f.Ckey, p = byteString(f.rows, 0); p < 0 {
		return f.fail()
	}
	if f.Row, p = byteString(f.rows, p); p < 0 || len(f.Row) == 0 {
		return f.fail()
	}
	f.rows = f.rows[p:]
	return true
}

// NextRange reads the next range tombstone into rt; they ascend and are disjoint. It returns false at the end and for
// malformed bytes: see Err.
func (f *FragmentReader) NextRange(rt *RangeTombstone) bool {
	if len(f.ranges) == 0 {
		return false
	}
	b := f.ranges
	var p int
	if rt.Start, p = byteString(b, 0); p < 0 {
		return f.fail()
	}
	if rt.End, p = bound(b, p); p < 0 || !before(rt.Start, rt.End) {
		return f.fail()
	}
	if rt.Deletion, p = decodeDeletion(b, p); p < 0 {
		return f.fail()
	}
	f.ranges = b[p:]
	return true
}

// appendAllRanges reads the ranges that are left.
func (f *FragmentReader) appendAllRanges(dst []RangeTombstone) []RangeTombstone {
	var rt RangeTombstone
	for f.NextRange(&rt) {
		dst = append(dst, rt)
	}
	return dst
}

// ValidateFragment returns nil when frag is well formed to the last field: valid rows in order, normalized ranges. Rows
// need not be free of what the fragment's own ranges shadow. Otherwise it returns ErrCorrupt or ErrVersion. Bytes from
// outside have to pass before they are stored.
func ValidateFragment(frag []byte) error {
	var f FragmentReader
	if err := f.Init(frag); err != nil {
		return err
	}
	if len(frag) == 0 || !f.valid() {
		f.fail()
	}
	return f.err
}

func (f *FragmentReader) valid() bool {
	if f.static != nil && Validate(f.static) != nil {
		return false
	}
	var last []byte
	for first := true; f.NextRow(); first = false {
		c := bytes.Compare(last, f.Ckey)
		if !first && (c == 0 || c > 0 != f.Reversed()) || Validate(f.Row) != nil {
			return false
		}
		last = f.Ckey
	}
	var prev, rt RangeTombstone
	for first := true; f.NextRange(&rt); first = false {
		if !first && (prev.End == nil || bytes.Compare(rt.Start, prev.End) < 0 ||
			bytes.Equal(rt.Start, prev.End) && rt.Deletion == prev.Deletion) {
			return false
		}
		prev = rt
	}
	return f.err == nil
}
