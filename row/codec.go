package row

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"

	"github.com/helenusdb/helenus/ring"
	"github.com/helenusdb/helenus/schema"
)

// Versions of what crosses the wire.
const (
	mutationVersion = 1
	positionVersion = 1
	commandVersion  = 1
	pageVersion     = 1
)

// decoder reads fields one after another; after the first malformed one it returns zeros.
type decoder struct {
	b   []byte
	p   int // -1: malformed
	ver error
}

func (d *decoder) version(want byte) {
	if len(d.b) == 0 {
		d.p = -1
		return
	}
	if d.b[0] != want {
		d.p, d.ver = -1, ErrVersion
		return
	}
	d.p = 1
}

func (d *decoder) fixed(n int) []byte {
	if d.p < 0 || len(d.b)-d.p < n {
		d.p = -1
		return nil
	}
	d.p += n
	return d.b[d.p-n : d.p]
}

func (d *decoder) u8() byte {
	if b := d.fixed(1); b != nil {
		return b[0]
	}
	return 0
}

func (d *decoder) u32() uint32 {
	if b := d.fixed(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

func (d *decoder) u64() uint64 {
	if b := d.fixed(8); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

// count reads a number that is not negative as an int32.
func (d *decoder) count() int {
	if d.p < 0 {
		return 0
	}
	var v uint64
	if v, d.p = uvarint(d.b, d.p); v > math.MaxInt32 {
		d.p = -1
	}
	if d.p < 0 {
		return 0
	}
	return int(v)
}

func (d *decoder) varint() int64 {
	if d.p < 0 {
		return 0
	}
	var v int64
	v, d.p = varint(d.b, d.p)
	return v
}

func (d *decoder) bytes() (v []byte) {
	if d.p >= 0 {
		v, d.p = byteString(d.b, d.p)
	}
	return v
}

func (d *decoder) bound() (v []byte) {
	if d.p >= 0 {
		v, d.p = bound(d.b, d.p)
	}
	return v
}

// rest returns what follows, or the error.
func (d *decoder) rest(what string) ([]byte, error) {
	if d.p >= 0 {
		return d.b[d.p:], nil
	}
	if d.ver != nil {
		return nil, fmt.Errorf("row: decode %s: %w", what, d.ver)
	}
	return nil, fmt.Errorf("row: decode %s: %w", what, ErrCorrupt)
}

// Append appends the encoded mutation to dst.
func (m *Mutation) Append(dst []byte) []byte {
	dst = append(dst, mutationVersion)
	dst = binary.BigEndian.AppendUint32(dst, uint32(m.Generation))
	dst = binary.BigEndian.AppendUint64(dst, uint64(m.Token))
	dst = appendByteString(dst, m.Key)
	return appendByteString(dst, m.Fragment)
}

// DecodeMutation returns the mutation at the start of src, whose bytes it aliases, and what follows. The fragment is not
// looked at: see ValidateFragment. It returns ErrCorrupt or ErrVersion.
func DecodeMutation(src []byte) (m Mutation, rest []byte, err error) {
	d := decoder{b: src}
	d.version(mutationVersion)
	m.Generation = schema.Generation(d.u32())
	m.Token = ring.Token(d.u64())
	m.Key = d.bytes()
	m.Fragment = d.bytes()
	rest, err = d.rest("mutation")
	return m, rest, err
}

// Append appends the encoded position to dst.
func (p *Position) Append(dst []byte) []byte {
	dst = append(dst, positionVersion, byte(p.Kind))
	dst = binary.BigEndian.AppendUint64(dst, uint64(p.Token))
	dst = appendByteString(dst, p.Key)
	if p.Kind == InPartition {
		dst = appendByteString(dst, p.Clustering)
		dst = appendUvarint(dst, uint64(p.Rows))
	}
	return dst
}

// DecodePosition returns the position at the start of src, whose bytes it aliases, and what follows. It returns ErrCorrupt
// or ErrVersion.
func DecodePosition(src []byte) (p Position, rest []byte, err error) {
	rest, err = decodePosition(&p, src)
	return p, rest, err
}

func decodePosition(p *Position, src []byte) (rest []byte, err error) {
	d := decoder{b: src}
	d.version(positionVersion)
	p.Kind = PositionKind(d.u8())
	p.Token = ring.Token(d.u64())
	p.Key = d.bytes()
	p.Clustering, p.Rows = nil, 0
	switch p.Kind {
	case BeforePartition, AfterPartition:
	case InPartition:
		p.Clustering = d.bytes()
		p.Rows = d.count()
	default:
		d.p = -1
	}
	return d.rest("position")
}

// The flags of a command, two bytes.
const (
	cmdRange = 1 << iota
	cmdFrom
	cmdSlices
	cmdReverse
	cmdStaticOnly
	cmdWithStatic
	cmdColumns
	cmdDigest
	cmdLimit
	cmdPerPartition
	cmdPartitions
	cmdBytes
	cmdGCBefore
	cmdUnknown // this bit and those above it must be clear
)

func (c *Command) flags() uint16 {
	var f uint16
	for i, set := range [...]bool{c.Range != nil, c.From != nil, c.Slices != nil, c.Reverse, c.StaticOnly, c.WithStatic,
		c.Columns != nil, c.Digest, c.Limit > 0, c.PerPartition > 0, c.Partitions > 0, c.Bytes > 0, c.GCBefore != NoTimestamp} {
		if set {
			f |= 1 << i
		}
	}
	return f
}

// Append appends the encoded command to dst.
func (c *Command) Append(dst []byte) []byte {
	flags := c.flags()
	dst = append(dst, commandVersion)
	dst = binary.BigEndian.AppendUint16(dst, flags)
	dst = binary.BigEndian.AppendUint32(dst, uint32(c.Generation))
	dst = binary.BigEndian.AppendUint64(dst, uint64(c.Now))
	if c.Range != nil {
		dst = binary.BigEndian.AppendUint64(dst, uint64(c.Range.Start))
		dst = binary.BigEndian.AppendUint64(dst, uint64(c.Range.End))
	} else {
		dst = binary.BigEndian.AppendUint64(dst, uint64(c.Token))
		dst = appendByteString(dst, c.Key)
	}
	if c.From != nil {
		dst = c.From.Append(dst)
	}
	if c.Slices != nil {
		dst = appendSlices(dst, c.Slices)
	}
	if c.Columns != nil {
		dst = appendColumns(dst, c.Columns)
	}
	for _, n := range [...]int{c.Limit, c.PerPartition, c.Partitions, c.Bytes} {
		if n > 0 {
			dst = appendUvarint(dst, uint64(min(n, math.MaxInt32)))
		}
	}
	if flags&cmdGCBefore != 0 {
		dst = appendVarint(dst, c.GCBefore)
	}
	return dst
}

func appendSlices(dst []byte, slices []Slice) []byte {
	dst = appendUvarint(dst, uint64(len(slices)))
	for i := range slices {
		s := &slices[i]
		if s.Point {
			dst = appendByteString(append(dst, 1), s.End)
			continue
		}
		dst = appendByteString(append(dst, 0), s.Start)
		dst = appendBound(dst, s.End)
	}
	return dst
}

func appendColumns(dst []byte, cols []schema.ColumnID) []byte {
	dst = appendUvarint(dst, uint64(len(cols)))
	next := uint64(0)
	for _, c := range cols {
		dst = appendUvarint(dst, uint64(c)-next)
		next = uint64(c) + 1
	}
	return dst
}

// DecodeCommand reads into c the command at the start of src, whose bytes it aliases, and returns what follows. The
// slices, columns, range and position that c holds are reused. It returns ErrCorrupt or ErrVersion; memory is bounded by
// the size of src.
func DecodeCommand(c *Command, src []byte) (rest []byte, err error) {
	d := decoder{b: src}
	d.version(commandVersion)
	flags := uint16(d.u8())<<8 | uint16(d.u8())
	if flags >= cmdUnknown {
		d.p = -1
	}
	c.Reverse, c.StaticOnly, c.WithStatic, c.Digest = flags&cmdReverse != 0, flags&cmdStaticOnly != 0, flags&cmdWithStatic != 0, flags&cmdDigest != 0
	c.Generation = schema.Generation(d.u32())
	c.Now = int64(d.u64())
	c.decodeWhere(&d, flags)
	c.Slices = decodeSlices(&d, c.Slices, flags&cmdSlices != 0)
	c.Columns = decodeColumns(&d, c.Columns, flags&cmdColumns != 0)
	limits := [...]*int{&c.Limit, &c.PerPartition, &c.Partitions, &c.Bytes}
	for i, n := range limits {
		*n = 0
		if flags&(cmdLimit<<i) != 0 {
			if *n = d.count(); *n == 0 {
				d.p = -1
			}
		}
	}
	c.GCBefore = NoTimestamp
	if flags&cmdGCBefore != 0 {
		if c.GCBefore = d.varint(); c.GCBefore == NoTimestamp {
			d.p = -1
		}
	}
	return d.rest("command")
}

func (c *Command) decodeWhere(d *decoder, flags uint16) {
	if flags&cmdRange != 0 {
		if c.Range == nil {
			c.Range = new(ring.Range)
		}
		c.Range.Start, c.Range.End = ring.Token(d.u64()), ring.Token(d.u64())
		c.Token, c.Key = 0, nil
	} else {
		c.Range = nil
		c.Token = ring.Token(d.u64())
		c.Key = d.bytes()
	}
	if flags&cmdFrom == 0 {
		c.From = nil
		return
	}
	if c.From == nil {
		c.From = new(Position)
	}
	if d.p < 0 {
		return
	}
	rest, err := decodePosition(c.From, d.b[d.p:])
	if err != nil {
		d.p = -1
		return
	}
	d.p = len(d.b) - len(rest)
}

func decodeSlices(d *decoder, slices []Slice, present bool) []Slice {
	if !present {
		return nil
	}
	n := d.count()
	if d.p < 0 || n > len(d.b)-d.p {
		d.p = -1
		return nil
	}
	if slices == nil {
		slices = make([]Slice, 0, min(n, 16))
	}
	slices = slices[:0]
	var last []byte
	for i := 0; i < n && d.p >= 0; i++ {
		s := Slice{}
		switch d.u8() {
		case 0:
			s.Start = d.bytes()
			s.End = d.bound()
		case 1:
			s = decodePoint(d)
		default:
			d.p = -1
		}
		if !before(s.Start, s.End) || i > 0 && (last == nil || bytes.Compare(s.Start, last) < 0) {
			d.p = -1
		}
		last = s.End
		slices = append(slices, s)
	}
	return slices
}

// decodePoint reads the end of a point, which holds its start.
func decodePoint(d *decoder) Slice {
	end := d.bytes()
	n := len(end) - 1
	if n < 0 || end[n] != 0xFF {
		d.p = -1
		return Slice{}
	}
	return Slice{Start: end[:n:n], End: end, Point: true}
}

func decodeColumns(d *decoder, cols []schema.ColumnID, present bool) []schema.ColumnID {
	if !present {
		return nil
	}
	n := d.count()
	if d.p < 0 || n > len(d.b)-d.p {
		d.p = -1
		return nil
	}
	if cols == nil {
		cols = make([]schema.ColumnID, 0, n)
	}
	cols = cols[:0]
	next := uint64(0)
	for i := 0; i < n && d.p >= 0; i++ {
		var delta uint64
		if delta, d.p = uvarint(d.b, d.p); delta > math.MaxUint32 || next+delta > math.MaxUint32 {
			d.p = -1
			break
		}
		cols = append(cols, schema.ColumnID(next+delta))
		next += delta + 1
	}
	return cols
}

// Full returns the command to send to every replica when digests differ: all columns, data. Its pages can be given to
// ReconcilePages; those of selected columns cannot, because a cell that was left out may decide what a merged row shows.
func (c *Command) Full() Command {
	full := *c
	full.Columns, full.Digest = nil, false
	return full
}

// Append appends the encoded page to dst.
func (p *Page) Append(dst []byte) []byte {
	more := byte(0)
	if p.More {
		more = 1
	}
	dst = append(dst, pageVersion, more)
	dst = binary.BigEndian.AppendUint64(dst, p.Digest)
	dst = appendUvarint(dst, uint64(p.Rows))
	if p.More {
		dst = p.Cut.Append(dst)
	}
	return appendByteString(dst, p.Data)
}

// DecodePage reads into p the page at the start of src, whose bytes it aliases, and returns what follows. What Data holds
// is not looked at: see PageReader. It returns ErrCorrupt or ErrVersion.
func DecodePage(p *Page, src []byte) (rest []byte, err error) {
	d := decoder{b: src}
	d.version(pageVersion)
	more := d.u8()
	if more > 1 {
		d.p = -1
	}
	p.More = more == 1
	p.Digest = d.u64()
	p.Rows = d.count()
	p.Cut = Position{}
	if p.More && d.p >= 0 {
		rest, err := decodePosition(&p.Cut, d.b[d.p:])
		if err != nil {
			return nil, err
		}
		d.p = len(d.b) - len(rest)
	}
	p.Data = d.bytes()
	return d.rest("page")
}
