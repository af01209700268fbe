package rpc

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

// The Append functions add one msgpack value in its shortest form to dst and return it. Extension types and
// timestamps are not used. Source: https://github.com/msgpack/msgpack/blob/master/spec.md.

// AppendNil appends nil.
func AppendNil(dst []byte) []byte { return append(dst, 0xc0) }

// AppendBool appends false or true.
func AppendBool(dst []byte, v bool) []byte {
	if v {
		return append(dst, 0xc3)
	}
	return append(dst, 0xc2)
}

// AppendUint appends an unsigned integer.
func AppendUint(dst []byte, v uint64) []byte {
	switch {
	case v < 0x80:
		return append(dst, byte(v))
	case v <= math.MaxUint8:
		return append(dst, 0xcc, byte(v))
	case v <= math.MaxUint16:
		return binary.BigEndian.AppendUint16(append(dst, 0xcd), uint16(v))
	case v <= math.MaxUint32:
		return binary.BigEndian.AppendUint32(append(dst, 0xce), uint32(v))
	}
	return binary.BigEndian.AppendUint64(append(dst, 0xcf), v)
}

// AppendInt appends a signed integer.
func AppendInt(dst []byte, v int64) []byte {
	switch {
	case v >= 0:
		return AppendUint(dst, uint64(v))
	case v >= -32:
		return append(dst, byte(v))
	case v >= math.MinInt8:
		return append(dst, 0xd0, byte(v))
	case v >= math.MinInt16:
		return binary.BigEndian.AppendUint16(append(dst, 0xd1), uint16(v))
	case v >= math.MinInt32:
		return binary.BigEndian.AppendUint32(append(dst, 0xd2), uint32(v))
	}
	return binary.BigEndian.AppendUint64(append(dst, 0xd3), uint64(v))
}

// AppendFloat appends a float of 64 bits.
func AppendFloat(dst []byte, v float64) []byte {
	return binary.BigEndian.AppendUint64(append(dst, 0xcb), math.Float64bits(v))
}

// AppendString appends a string of at most 2^32-1 bytes.
func AppendString(dst []byte, s string) []byte {
	n := len(s)
	switch {
	case n < 32:
		dst = append(dst, 0xa0|byte(n))
	case n <= math.MaxUint8:
		dst = append(dst, 0xd9, byte(n))
	case n <= math.MaxUint16:
		dst = binary.BigEndian.AppendUint16(append(dst, 0xda), uint16(n))
	default:
		dst = binary.BigEndian.AppendUint32(append(dst, 0xdb), uint32(n))
	}
	return append(dst, s...)
}

// AppendBytes appends a byte string of at most 2^32-1 bytes, nil as an empty one.
func AppendBytes(dst, b []byte) []byte {
	return append(AppendBytesHeader(dst, len(b)), b...)
}

// AppendBytesHeader begins a byte string whose n bytes the caller appends.
func AppendBytesHeader(dst []byte, n int) []byte {
	switch {
	case n <= math.MaxUint8:
		return append(dst, 0xc4, byte(n))
	case n <= math.MaxUint16:
		return binary.BigEndian.AppendUint16(append(dst, 0xc5), uint16(n))
	}
	return binary.BigEndian.AppendUint32(append(dst, 0xc6), uint32(n))
}

// AppendArrayHeader begins an array whose n elements the caller appends.
func AppendArrayHeader(dst []byte, n int) []byte {
	switch {
	case n < 16:
		return append(dst, 0x90|byte(n))
	case n <= math.MaxUint16:
		return binary.BigEndian.AppendUint16(append(dst, 0xdc), uint16(n))
	}
	return binary.BigEndian.AppendUint32(append(dst, 0xdd), uint32(n))
}

// AppendMapHeader begins a map whose n keys and values the caller appends.
func AppendMapHeader(dst []byte, n int) []byte {
	switch {
	case n < 16:
		return append(dst, 0x80|byte(n))
	case n <= math.MaxUint16:
		return binary.BigEndian.AppendUint16(append(dst, 0xde), uint16(n))
	}
	return binary.BigEndian.AppendUint32(append(dst, 0xdf), uint32(n))
}

// ErrEncoding is wrapped by the errors of a Reader.
var ErrEncoding = errors.New("rpc: malformed message")

// skipDepthMax bounds the nesting that Skip follows.
const skipDepthMax = 64

// Reader reads msgpack values one after the other. Its error is sticky: after the first one all methods return zero
// values, so a decoder reads all fields and asks Err once. Lengths of arrays and maps are bounded by the bytes that
// are left, so that a caller may allocate what they say. The zero value is at the end of an empty message.
type Reader struct {
	src []byte
	err error
}

// NewReader returns a reader of src, which it aliases.
func NewReader(src []byte) Reader { return Reader{src: src} }

// Err returns the first error; it wraps ErrEncoding.
func (r *Reader) Err() error { return r.err }

// Len returns the number of bytes left.
func (r *Reader) Len() int { return len(r.src) }

// Rest returns the bytes left and moves to the end.
func (r *Reader) Rest() []byte {
	b := r.src
	r.src = nil
	return b
}

// Done returns Err, or an error when bytes are left.
func (r *Reader) Done() error {
	if r.err == nil && len(r.src) > 0 {
		r.fail("%d bytes too many", len(r.src))
	}
	return r.err
}

func (r *Reader) fail(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf("%w: "+format, append([]any{ErrEncoding}, args...)...)
	}
	r.src = nil
}

// take returns the next n bytes, nil after an error.
func (r *Reader) take(n int) []byte {
	if n < 0 || n > len(r.src) {
		r.fail("cut short")
		return nil
	}
	b := r.src[:n:n]
	r.src = r.src[n:]
	return b
}

// tag returns the first byte of the next value; 0xc1, which no value has, after an error.
func (r *Reader) tag() byte {
	if len(r.src) == 0 {
		r.fail("cut short")
		return 0xc1
	}
	t := r.src[0]
	r.src = r.src[1:]
	return t
}

// big returns the next n bytes as an unsigned big-endian integer; n is 1, 2, 4 or 8.
func (r *Reader) big(n int) uint64 {
	var v uint64
	for _, c := range r.take(n) {
		v = v<<8 | uint64(c)
	}
	return v
}

func (r *Reader) unexpected(tag byte, want string) {
	if r.err == nil {
		r.fail("%#x where %s was expected", tag, want)
	}
}

// IsNil consumes a nil and returns true, or returns false and consumes nothing.
func (r *Reader) IsNil() bool {
	if len(r.src) > 0 && r.src[0] == 0xc0 {
		r.src = r.src[1:]
		return true
	}
	return false
}

// Bool reads a boolean.
func (r *Reader) Bool() bool {
	switch t := r.tag(); t {
	case 0xc2:
	case 0xc3:
		return true
	default:
		r.unexpected(t, "a boolean")
	}
	return false
}

// Uint reads an integer that must not be negative.
func (r *Reader) Uint() uint64 {
	switch t := r.tag(); {
	case t < 0x80:
		return uint64(t)
	case t >= 0xcc && t <= 0xcf:
		return r.big(1 << (t - 0xcc))
	case t >= 0xd0 && t <= 0xd3:
		if v := r.signed(t); v >= 0 {
			return uint64(v)
		}
		r.fail("negative integer")
	default:
		r.unexpected(t, "an unsigned integer")
	}
	return 0
}

// Int reads an integer that must fit into 64 bits with a sign.
func (r *Reader) Int() int64 {
	switch t := r.tag(); {
	case t < 0x80:
		return int64(t)
	case t >= 0xe0:
		return int64(int8(t))
	case t >= 0xcc && t <= 0xcf:
		v := r.big(1 << (t - 0xcc))
		if v > math.MaxInt64 {
			r.fail("integer %d is out of range", v)
			return 0
		}
		return int64(v)
	case t >= 0xd0 && t <= 0xd3:
		return r.signed(t)
	default:
		r.unexpected(t, "an integer")
	}
	return 0
}

// signed reads the body of an integer with the tags 0xd0 to 0xd3.
func (r *Reader) signed(tag byte) int64 {
	n := 1 << (tag - 0xd0)
	shift := 64 - 8*n
	return int64(r.big(n)<<shift) >> shift
}

// Float reads a float of 32 or 64 bits.
func (r *Reader) Float() float64 {
	switch t := r.tag(); t {
	case 0xca:
		return float64(math.Float32frombits(uint32(r.big(4))))
	case 0xcb:
		return math.Float64frombits(r.big(8))
	default:
		r.unexpected(t, "a float")
	}
	return 0
}

// String reads a string, which is copied.
func (r *Reader) String() string { return string(r.text()) }

// text reads a string without copying it.
func (r *Reader) text() []byte {
	switch t := r.tag(); {
	case t >= 0xa0 && t <= 0xbf:
		return r.take(int(t & 0x1f))
	case t >= 0xd9 && t <= 0xdb:
		return r.take(r.length(1 << (t - 0xd9)))
	default:
		r.unexpected(t, "a string")
	}
	return nil
}

// length reads a length of n bytes; one that exceeds what is left fails in take.
func (r *Reader) length(n int) int { return int(r.big(n)) }

// Bytes reads a byte string. The result aliases the message, its capacity ends with it; it is nil only after an
// error.
func (r *Reader) Bytes() []byte {
	switch t := r.tag(); {
	case t >= 0xc4 && t <= 0xc6:
		return r.take(r.length(1 << (t - 0xc4)))
	default:
		r.unexpected(t, "a byte string")
	}
	return nil
}

// ArrayLen reads the header of an array and returns the number of elements that follow.
func (r *Reader) ArrayLen() int {
	switch t := r.tag(); {
	case t >= 0x90 && t <= 0x9f:
		return r.elements(int(t&0xf), 1)
	case t == 0xdc || t == 0xdd:
		return r.elements(r.length(2<<(t-0xdc)), 1)
	default:
		r.unexpected(t, "an array")
	}
	return 0
}

// MapLen reads the header of a map and returns the number of pairs that follow.
func (r *Reader) MapLen() int {
	switch t := r.tag(); {
	case t >= 0x80 && t <= 0x8f:
		return r.elements(int(t&0xf), 2)
	case t == 0xde || t == 0xdf:
		return r.elements(r.length(2<<(t-0xde)), 2)
	default:
		r.unexpected(t, "a map")
	}
	return 0
}

// elements checks a count against the bytes left: each element takes at least size of them.
func (r *Reader) elements(n, size int) int {
	if n > len(r.src)/size {
		r.fail("%d elements in %d bytes", n, len(r.src))
		return 0
	}
	return n
}

// Skip passes over the next value, whatever it is, nested at most 64 deep.
func (r *Reader) Skip() { r.skip(skipDepthMax) }

func (r *Reader) skip(depth int) {
	if depth == 0 {
		r.fail("nested too deep")
	}
	if len(r.src) == 0 {
		r.fail("cut short")
		return
	}
	switch t := r.src[0]; {
	case t < 0x80 || t >= 0xe0 || t == 0xc0 || t == 0xc2 || t == 0xc3:
		r.take(1)
	case t <= 0x8f || t == 0xde || t == 0xdf:
		r.skipMany(2*r.MapLen(), depth)
	case t <= 0x9f || t == 0xdc || t == 0xdd:
		r.skipMany(r.ArrayLen(), depth)
	case t <= 0xbf || t >= 0xd9:
		r.text()
	case t >= 0xc4 && t <= 0xc6:
		r.Bytes()
	case t == 0xca || t == 0xcb:
		r.Float()
	case t >= 0xcc && t <= 0xcf:
		r.Uint()
	case t >= 0xd0 && t <= 0xd3:
		r.Int()
	case t >= 0xd4 && t <= 0xd8:
		r.take(2 + 1<<(t-0xd4))
	case t >= 0xc7 && t <= 0xc9:
		r.tag()
		r.take(1 + r.length(1<<(t-0xc7)))
	default:
		r.unexpected(t, "a value")
	}
}

func (r *Reader) skipMany(n, depth int) {
	for ; n > 0 && r.err == nil; n-- {
		r.skip(depth - 1)
	}
}
