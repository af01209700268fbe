package schema

import (
	"encoding/binary"
	"fmt"
	"math"
)

// The encodings of this package are sequences of unsigned varints and of byte strings with a varint length before
// them; see docs/format/catalog.md.

// lenMax bounds every count and length in an encoding, so that corrupt bytes cost bounded memory.
const lenMax = 1 << 24

func appendUint(dst []byte, v uint64) []byte { return binary.AppendUvarint(dst, v) }

func appendInt(dst []byte, v int64) []byte { return binary.AppendVarint(dst, v) }

func appendString(dst []byte, s string) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(s))), s...)
}

func appendBytes(dst, b []byte) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(b))), b...)
}

func appendFloat(dst []byte, f float64) []byte {
	return binary.BigEndian.AppendUint64(dst, math.Float64bits(f))
}

func appendBool(dst []byte, b bool) []byte {
	if b {
		return append(dst, 1)
	}
	return append(dst, 0)
}

// decoder reads an encoding from its start. After the first error it returns zero values, so a caller checks err once.
type decoder struct {
	src []byte
	err error
}

func (d *decoder) fail(what string) {
	if d.err == nil {
		d.err = fmt.Errorf("%w: %s", ErrCorrupt, what)
	}
	d.src = nil
}

func (d *decoder) byte() byte {
	if len(d.src) == 0 {
		d.fail("unexpected end")
		return 0
	}
	b := d.src[0]
	d.src = d.src[1:]
	return b
}

func (d *decoder) bool() bool {
	b := d.byte()
	if b > 1 {
		d.fail("boolean")
	}
	return b == 1
}

func (d *decoder) uint() uint64 {
	v, n := binary.Uvarint(d.src)
	if n <= 0 {
		d.fail("varint")
		return 0
	}
	d.src = d.src[n:]
	return v
}

func (d *decoder) int() int64 {
	v, n := binary.Varint(d.src)
	if n <= 0 {
		d.fail("varint")
		return 0
	}
	d.src = d.src[n:]
	return v
}

func (d *decoder) uint32() uint32 {
	v := d.uint()
	if v > math.MaxUint32 {
		d.fail("number out of range")
		return 0
	}
	return uint32(v)
}

func (d *decoder) int32() int32 {
	v := d.int()
	if v < math.MinInt32 || v > math.MaxInt32 {
		d.fail("number out of range")
		return 0
	}
	return int32(v)
}

// count reads the number of elements that follow, each of at least one byte.
func (d *decoder) count() int {
	n := d.uint()
	if n > uint64(len(d.src)) || n > lenMax {
		d.fail("count")
		return 0
	}
	return int(n)
}

func (d *decoder) bytes() []byte {
	n := d.count()
	b := d.src[:n]
	d.src = d.src[n:]
	return b
}

func (d *decoder) string() string { return string(d.bytes()) }

func (d *decoder) fixed(dst []byte) {
	if len(d.src) < len(dst) {
		d.fail("unexpected end")
		return
	}
	d.src = d.src[copy(dst, d.src):]
}

func (d *decoder) float() float64 {
	var b [8]byte
	d.fixed(b[:])
	return math.Float64frombits(binary.BigEndian.Uint64(b[:]))
}
