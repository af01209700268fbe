package types

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"slices"
)

// ErrKey is returned, perhaps wrapped, when bytes are not a key component of the type asked for.
var ErrKey = errors.New("types: not a key component")

// DecodeKey reads the component that begins src. It returns the canonical value, never nil and
// its own memory, and what follows in src. It fails with ErrKey on bytes that AppendKey does not
// write, but it does not check what Validate checks in text and timeuuids.
func (t *Type) DecodeKey(src []byte, desc bool) (v, rest []byte, err error) {
	v, rest, err = t.AppendFromKey(make([]byte, 0, 16), src, desc)
	if err != nil {
		return nil, src, err
	}
	return v, rest, nil
}

// AppendFromKey is DecodeKey with the value appended to dst.
func (t *Type) AppendFromKey(dst, src []byte, desc bool) (out, rest []byte, err error) {
	d := keyDecoder{src: src}
	if desc {
		d.mask = 0xFF
	}
	out = d.component(t, dst)
	if d.bad {
		return dst, src, ErrKey
	}
	return out, d.src, nil
}

// SkipKey returns what follows the component that begins src.
func (t *Type) SkipKey(src []byte, desc bool) (rest []byte, err error) {
	var buf [64]byte
	_, rest, err = t.AppendFromKey(buf[:0], src, desc)
	return rest, err
}

// Canonical reports whether DecodeKey gives v back byte for byte after AppendKey. It is false for
// decimals such as 1.00, varints with superfluous bytes, NaNs other than Java's, true booleans
// other than 1, short tuples, values with such elements, and bytes that are no value of t at all.
func (t *Type) Canonical(v []byte) bool {
	switch t.Kind {
	case KindAscii, KindText, KindBlob, KindInet, KindCustom, KindInt, KindBigint, KindCounter,
		KindTimestamp, KindDate, KindTime, KindSmallint, KindTinyint, KindUuid, KindTimeuuid, KindEmpty:
		return t.Validate(v) == nil
	case KindBoolean:
		return len(v) == 0 || len(v) == 1 && v[0] <= 1
	case KindFloat:
		return len(v) == 0 || len(v) == 4 && canonicalNaN32(binary.BigEndian.Uint32(v))
	case KindDouble:
		return len(v) == 0 || len(v) == 8 && canonicalNaN64(binary.BigEndian.Uint64(v))
	case KindVarint:
		return canonicalVarint(v)
	case KindDecimal:
		return canonicalDecimal(v)
	case KindDuration:
		return false
	}
	return t.canonicalElems(v)
}

func canonicalNaN32(u uint32) bool { return u&0x7FFFFFFF <= 0x7F800000 || u == javaNaN32 }
func canonicalNaN64(u uint64) bool {
	return u&math.MaxInt64 <= 0x7FF0000000000000 || u == javaNaN64
}

func canonicalVarint(v []byte) bool {
	return len(v) == 0 || len(v) == 1 && v[0] == 0 || len(trimVarint(v)) == len(v)
}

func canonicalDecimal(v []byte) bool {
	if len(v) <= 4 {
		return len(v) == 0
	}
	if !canonicalVarint(v[4:]) {
		return false
	}
	scale := int32(binary.BigEndian.Uint32(v))
	if u, ok := smallVarint(v[4:]); ok {
		return u == 0 && scale == 0 || u != 0 && (scale == math.MinInt32 || u%10 != 0)
	}
	if scale == math.MinInt32 || v[len(v)-1]&1 != 0 {
		return true
	}
	return remainder10(v[4:]) != 0
}

// remainder10 returns the last decimal digit of a varint's magnitude, or zero exactly when that is zero.
func remainder10(v []byte) int {
	r := 0
	if v[0] >= 0x80 {
		r = -1
	}
	for _, c := range v {
		r = (r*256 + int(c)) % 10
	}
	return r
}

// canonicalElems checks the elements, and by their summed size that no prefix is longer than needed.
func (t *Type) canonicalElems(v []byte) bool {
	it := t.Iter(v)
	size := len(v) - len(it.src)
	for i := 0; ; i++ {
		short := it.tuple && len(it.src) == 0
		e, ok := it.Next()
		if !ok {
			return it.Err() == nil && (size == len(v) || len(v) == 0)
		}
		switch {
		case len(v) == 0:
		case short || it.oddNull || e != nil && !t.Elems[i%len(t.Elems)].Canonical(e):
			return false
		case it.fixed < 0:
			size += uvintLen(uint64(len(e)))
		case it.fixed == 0:
			size += 4
		}
		size += len(e)
	}
}

// keyDecoder reads components; mask is 0xFF when the bytes are inverted. After the first error
// bad is set and everything returns nothing.
type keyDecoder struct {
	src  []byte
	mask byte
	bad  bool
}

func (d *keyDecoder) fail(dst []byte) []byte {
	d.bad = true
	return dst
}

func (d *keyDecoder) byte() byte {
	if len(d.src) == 0 {
		d.bad = true
		return 0
	}
	c := d.src[0] ^ d.mask
	d.src = d.src[1:]
	return c
}

func (d *keyDecoder) uint(n int) (v uint64) {
	if len(d.src) < n {
		d.bad = true
		return 0
	}
	for _, c := range d.src[:n] {
		v = v<<8 | uint64(c^d.mask)
	}
	d.src = d.src[n:]
	return v
}

// component appends the value of one component; a null is not one.
func (d *keyDecoder) component(t *Type, dst []byte) []byte {
	switch d.byte() {
	case markEmpty:
		return dst
	case markValue:
		return d.body(t, dst)
	}
	return d.fail(dst)
}

func (d *keyDecoder) body(t *Type, dst []byte) []byte {
	switch t.Kind {
	case KindAscii, KindText, KindBlob, KindInet, KindCustom:
		at := len(dst)
		if dst = d.escaped(dst); len(dst) == at {
			d.bad = true
		}
		return dst
	case KindInt:
		return binary.BigEndian.AppendUint32(dst, uint32(d.uint(4))^1<<31)
	case KindBigint, KindCounter, KindTimestamp:
		return binary.BigEndian.AppendUint64(dst, d.uint(8)^1<<63)
	case KindSmallint:
		return binary.BigEndian.AppendUint16(dst, uint16(d.uint(2))^1<<15)
	case KindTinyint:
		return append(dst, d.byte()^0x80)
	case KindDate:
		return binary.BigEndian.AppendUint32(dst, uint32(d.uint(4)))
	case KindTime:
		return binary.BigEndian.AppendUint64(dst, d.uint(8))
	case KindBoolean:
		c := d.byte()
		if c > 1 {
			d.bad = true
		}
		return append(dst, c)
	case KindFloat, KindDouble:
		return d.float(t, dst)
	case KindUuid, KindTimeuuid:
		return d.uuid(t, dst)
	case KindVarint:
		return d.varint(dst)
	case KindDecimal:
		return d.decimal(dst)
	case KindList, KindSet, KindMap:
		return d.collection(t, dst)
	case KindTuple, KindUDT:
		return d.tuple(t, dst)
	case KindVector:
		return d.vector(t, dst)
	}
	return d.fail(dst)
}

// escaped appends bytes up to the end mark.
func (d *keyDecoder) escaped(dst []byte) []byte {
	for {
		i := bytes.IndexByte(d.src, d.mask)
		if i < 0 || i+1 == len(d.src) {
			return d.fail(dst)
		}
		at := len(dst)
		dst = append(dst, d.src[:i]...)
		if d.mask != 0 {
			invert(dst[at:])
		}
		next := d.src[i+1] ^ d.mask
		d.src = d.src[i+2:]
		switch next {
		case endByte:
			return dst
		case escByte:
			dst = append(dst, 0)
		default:
			return d.fail(dst)
		}
	}
}

func (d *keyDecoder) float(t *Type, dst []byte) []byte {
	if t.Kind == KindFloat {
		u := uint32(d.uint(4))
		if u>>31 != 0 {
			u &^= 1 << 31
		} else {
			u = ^u
		}
		d.bad = d.bad || !canonicalNaN32(u)
		return binary.BigEndian.AppendUint32(dst, u)
	}
	u := d.uint(8)
	if u>>63 != 0 {
		u &^= 1 << 63
	} else {
		u = ^u
	}
	d.bad = d.bad || !canonicalNaN64(u)
	return binary.BigEndian.AppendUint64(dst, u)
}

func (d *keyDecoder) uuid(t *Type, dst []byte) []byte {
	hi, lo := d.uint(8), d.uint(8)
	switch version := hi >> 60; {
	case t.Kind == KindTimeuuid:
		hi, lo = timeDisorder(hi), lo^signBits
	case version == 1:
		hi = timeDisorder(hi)
	default:
		hi = hi<<4&^0xFFFF | version<<12 | hi&0xFFF
	}
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(dst, hi), lo)
}

// varint appends the shortest two's complement form.
func (d *keyDecoder) varint(dst []byte) []byte {
	mag, neg := d.magnitude()
	if d.bad {
		return dst
	}
	flip := d.mask
	sign := byte(0)
	if neg {
		sign = 0xFF
	}
	if len(mag) == 0 || (mag[0]^flip)&0x80 != sign&0x80 {
		dst = append(dst, sign)
	}
	at := len(dst)
	dst = append(dst, mag...)
	if flip != 0 {
		invert(dst[at:])
	}
	return dst
}

// magnitude returns the bytes after a varint's head, still masked, as two's complement without sign.
func (d *keyDecoder) magnitude() (mag []byte, neg bool) {
	head := d.byte()
	if neg = head < varintZero; neg {
		head = ^head
	}
	n := uint64(head - varintZero)
	if head == varintLong {
		if n = d.uint(4); neg {
			n ^= math.MaxUint32
		}
	}
	if n > uint64(len(d.src)) || head > varintLong || head == varintLong && n < varintHeadMax {
		d.bad = true
	}
	if d.bad {
		return nil, false
	}
	mag, d.src = d.src[:n], d.src[n:]
	first := byte(0)
	if neg {
		first = 0xFF
	}
	if n > 0 && mag[0]^d.mask == first {
		d.bad = true
	}
	return mag, neg
}

// decimalPadMax bounds the zeros that a decoded decimal may need because its scale would not fit; the
// digits of the longest key value, 64 KiB, are fewer.
const decimalPadMax = 1 << 18

func (d *keyDecoder) decimal(dst []byte) []byte {
	sign := d.byte()
	var flip byte
	switch sign {
	case decimalZero:
		return append(dst, 0, 0, 0, 0, 0)
	case decimalPos:
	case decimalNeg:
		flip = 0xFF
	default:
		return d.fail(dst)
	}
	var expBuf [16]byte
	var digitBuf [20]byte
	d.mask ^= flip
	exp, ok := smallVarint(d.varint(expBuf[:0]))
	digits := d.digits(digitBuf[:0])
	d.mask ^= flip
	if d.bad || !ok || exp < -1<<40 || exp > 1<<40 {
		return d.fail(dst)
	}
	scale := int64(len(digits)) - exp
	for ; scale < math.MinInt32 && scale > math.MinInt32-decimalPadMax; scale++ {
		digits = append(digits, '0')
	}
	if scale != int64(int32(scale)) {
		return d.fail(dst)
	}
	dst = binary.BigEndian.AppendUint32(dst, uint32(scale))
	return appendDigits(dst, digits, sign == decimalNeg)
}

// digits appends the digits of a decimal body.
func (d *keyDecoder) digits(dst []byte) []byte {
	for first := true; ; first = false {
		c := d.byte()
		switch {
		case d.bad || c > 100 || first && c < 11:
			return d.fail(dst)
		case c == 0:
			return dst
		}
		pair := c - 1
		dst = append(dst, '0'+pair/10, '0'+pair%10)
		if len(d.src) > 0 && d.src[0]^d.mask == 0 {
			if pair == 0 {
				return d.fail(dst)
			}
			if pair%10 == 0 {
				dst = dst[:len(dst)-1]
			}
		}
	}
}

// appendDigits appends the number with these digits as a varint.
func appendDigits(dst, digits []byte, neg bool) []byte {
	if len(digits) <= 18 {
		v := int64(0)
		for _, c := range digits {
			v = v*10 + int64(c-'0')
		}
		if neg {
			v = -v
		}
		return appendVarint64(dst, v)
	}
	v := parseBig(string(digits))
	if neg {
		v.Neg(v)
	}
	return appendBig(dst, v)
}

// element appends one element with its length prefix; more is false at the end mark.
func (d *keyDecoder) element(t *Type, dst []byte) (out []byte, more bool) {
	if len(d.src) > 0 && d.src[0]^d.mask == markEnd {
		d.src = d.src[1:]
		return dst, false
	}
	if len(d.src) > 0 && d.src[0]^d.mask == markNull {
		d.src = d.src[1:]
		return AppendElem(dst, nil), true
	}
	at := len(dst)
	dst = d.component(t, append(dst, 0, 0, 0, 0))
	binary.BigEndian.PutUint32(dst[at:], uint32(len(dst)-at-4))
	return dst, !d.bad
}

func (d *keyDecoder) collection(t *Type, dst []byte) []byte {
	at := len(dst)
	dst = append(dst, 0, 0, 0, 0)
	n := 0
	for {
		var more bool
		if dst, more = d.element(t.Elems[n%len(t.Elems)], dst); !more {
			break
		}
		n++
	}
	if n%len(t.Elems) != 0 {
		d.bad = true
	}
	binary.BigEndian.PutUint32(dst[at:], uint32(n/len(t.Elems)))
	return dst
}

// tuple appends as many components as the type has; the last one encoded must not be a null.
func (d *keyDecoder) tuple(t *Type, dst []byte) []byte {
	lastNull := false
	for i, e := range t.Elems {
		null := len(d.src) > 0 && d.src[0]^d.mask == markNull
		var more bool
		if dst, more = d.element(e, dst); !more {
			for range t.Elems[i:] {
				dst = AppendElem(dst, nil)
			}
			d.bad = d.bad || lastNull
			return dst
		}
		lastNull = null
	}
	d.bad = d.bad || lastNull || d.byte() != markEnd
	return dst
}

func (d *keyDecoder) vector(t *Type, dst []byte) []byte {
	e := t.Elems[0]
	if e.FixedLen() > 0 {
		for range t.Dim {
			if dst = d.body(e, dst); d.bad {
				return dst
			}
		}
		return dst
	}
	for range t.Dim {
		at := len(dst)
		if dst = d.component(e, dst); d.bad {
			return dst
		}
		var prefix [9]byte
		dst = slices.Insert(dst, at, appendUvint(prefix[:0], uint64(len(dst)-at))...)
	}
	return dst
}
