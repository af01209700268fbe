package types

import (
	"bytes"
	"encoding/binary"
	"fmt"
)

// The key component encoding, drawn in docs/format/key-components.md. Every component begins with
// a mark; ascending marks are below 0x80 and descending ones, inverted, above.
const (
	markEnd   = 0x08 // ends the elements of a list, set, map, tuple or UDT
	markNull  = 0x10 // a null element
	markEmpty = 0x20 // the empty value
	markValue = 0x40 // any other value; its body follows
)

// Bytes of text and the like: a zero byte is followed by escByte, the end is a zero byte and endByte.
const (
	escByte = 0xFF
	endByte = 0x01
)

// AppendKey appends v, a legal value of t, as a component of a key: bytes whose order is Compare's
// (reversed when desc), of which none is a prefix of another, and which are the same for all
// values that compare equal. The first byte is never 0x00, 0x01, 0xFE or 0xFF.
//
// It panics on durations, which have no order, and on bytes that Validate refuses because of
// their length: both are programmer errors.
func (t *Type) AppendKey(dst, v []byte, desc bool) []byte {
	at := len(dst)
	dst = t.appendComponent(dst, v)
	if desc {
		invert(dst[at:])
	}
	return dst
}

func (t *Type) appendComponent(dst, v []byte) []byte {
	if len(v) == 0 {
		return append(dst, markEmpty)
	}
	return t.appendBody(append(dst, markValue), v)
}

// appendBody appends a value without its mark.
func (t *Type) appendBody(dst, v []byte) []byte {
	switch t.Kind {
	case KindAscii, KindText, KindBlob, KindInet, KindCustom:
		return appendEscaped(dst, v)
	case KindInt:
		t.mustLen(v, 4)
		return append(dst, v[0]^0x80, v[1], v[2], v[3])
	case KindBigint, KindCounter, KindTimestamp:
		t.mustLen(v, 8)
		return binary.BigEndian.AppendUint64(dst, binary.BigEndian.Uint64(v)^1<<63)
	case KindSmallint:
		t.mustLen(v, 2)
		return append(dst, v[0]^0x80, v[1])
	case KindTinyint:
		t.mustLen(v, 1)
		return append(dst, v[0]^0x80)
	case KindDate:
		t.mustLen(v, 4)
		return append(dst, v...)
	case KindTime:
		t.mustLen(v, 8)
		return append(dst, v...)
	case KindBoolean:
		t.mustLen(v, 1)
		return append(dst, min(v[0], 1))
	case KindFloat:
		t.mustLen(v, 4)
		return binary.BigEndian.AppendUint32(dst, floatOrder(binary.BigEndian.Uint32(v)))
	case KindDouble:
		t.mustLen(v, 8)
		return binary.BigEndian.AppendUint64(dst, doubleOrder(binary.BigEndian.Uint64(v)))
	case KindUuid:
		t.mustLen(v, 16)
		hi, lo := uuidOrder(v)
		return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(dst, hi), lo)
	case KindTimeuuid:
		t.mustLen(v, 16)
		hi, lo := timeuuidOrder(v)
		return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(dst, hi), lo)
	case KindVarint:
		return appendVarintKey(dst, v)
	case KindDecimal:
		return appendDecimalKey(dst, v)
	case KindList, KindSet, KindMap, KindTuple, KindUDT, KindVector:
		return t.appendElems(dst, v)
	}
	panic("types: AppendKey: " + t.String() + " has no order")
}

func (t *Type) mustLen(v []byte, n int) {
	if len(v) != n {
		panic(fmt.Sprintf("types: AppendKey: %s value of %d bytes", t, len(v)))
	}
}

func appendEscaped(dst, v []byte) []byte {
	for {
		i := bytes.IndexByte(v, 0)
		if i < 0 {
			return append(append(dst, v...), 0, endByte)
		}
		dst = append(append(dst, v[:i]...), 0, escByte)
		v = v[i+1:]
	}
}

// appendElems appends the elements as components. A vector needs no end, and no marks when its
// elements are of fixed length; trailing nulls of tuples and UDTs are left out.
func (t *Type) appendElems(dst, v []byte) []byte {
	it := t.Iter(v)
	keep := len(dst) // the length after the last component that is not null
	for i := 0; ; i++ {
		e, ok := it.Next()
		if !ok {
			break
		}
		typ := t.Elems[i%len(t.Elems)]
		switch {
		case e == nil:
			dst = append(dst, markNull)
			if it.tuple {
				continue
			}
		case it.fixed > 0:
			dst = typ.appendBody(dst, e)
		default:
			dst = typ.appendComponent(dst, e)
		}
		keep = len(dst)
	}
	if t.Kind == KindVector {
		if it.bad {
			panic("types: AppendKey: " + t.String() + " value is too short")
		}
		return dst
	}
	return append(dst[:keep], markEnd)
}

// Varint bodies: a head with sign and length, then the magnitude; all of it inverted when
// negative, where the magnitude is that of -v-1.
const (
	varintZero    = 0x80                       // head of numbers >= 0 with n bytes: varintZero + n
	varintHeadMax = 0x70                       // up to that n
	varintLong    = varintZero + varintHeadMax // head when n follows in four bytes
)

func appendVarintKey(dst, v []byte) []byte {
	v = trimVarint(v)
	neg := len(v) > 0 && v[0] >= 0x80
	if len(v) > 0 && (v[0] == 0 || v[0] == 0xFF) {
		v = v[1:]
	}
	at := len(dst)
	if n := len(v); n < varintHeadMax {
		dst = append(dst, varintZero+byte(n))
	} else {
		dst = binary.BigEndian.AppendUint32(append(dst, varintLong), uint32(n))
	}
	if neg {
		invert(dst[at:])
	}
	return append(dst, v...)
}

// Decimal bodies: a byte for the sign; unless zero the exponent as a varint body, the digits in
// pairs as 1..100 and a zero byte; exponent and digits inverted when negative.
const (
	decimalNeg  = 0x10
	decimalZero = 0x20
	decimalPos  = 0x30
)

func appendDecimalKey(dst, v []byte) []byte {
	if len(v) < 4 {
		panic(fmt.Sprintf("types: AppendKey: decimal value of %d bytes", len(v)))
	}
	var buf [20]byte
	d := decimalOf(v, &buf)
	if len(d.digits) == 0 {
		return append(dst, decimalZero)
	}
	if !d.neg {
		return appendDecimalBody(append(dst, decimalPos), d)
	}
	dst = append(dst, decimalNeg)
	at := len(dst)
	dst = appendDecimalBody(dst, d)
	invert(dst[at:])
	return dst
}

func appendDecimalBody(dst []byte, d decimal) []byte {
	var exp [9]byte
	dst = appendVarintKey(dst, appendVarint64(exp[:0], d.exp))
	for i := 0; i < len(d.digits); i += 2 {
		pair := (d.digits[i] - '0') * 10
		if i+1 < len(d.digits) {
			pair += d.digits[i+1] - '0'
		}
		dst = append(dst, pair+1)
	}
	return append(dst, 0)
}
