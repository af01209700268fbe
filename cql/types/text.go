package types

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"math"
	"net/netip"
	"strconv"

	"github.com/helenusdb/helenus/internal/cqlident"
)

// numberTextBytesMax bounds the varints and decimals that are converted to decimal digits, which
// costs more than linear time (0.6 s at the limit); longer ones appear as blobs.
const numberTextBytesMax = 1 << 20

// AppendText appends v, a legal value of t, as a CQL literal the way Cassandra's toCQLLiteral
// prints it: strings, dates, times, timestamps and addresses in single quotes, blobs and custom
// values in hexadecimal, collections in brackets. A nil v is null, and so is an empty one unless
// it is a text, a blob or a tuple. Bytes that are no legal value are appended as a blob.
func (t *Type) AppendText(dst, v []byte) []byte {
	if v == nil {
		return append(dst, "null"...)
	}
	switch t.Kind {
	case KindAscii, KindText:
		return appendQuoted(dst, v)
	case KindBlob, KindCustom:
		return appendHex(dst, v)
	case KindList, KindSet, KindMap, KindTuple, KindUDT, KindVector:
		return t.appendElemsText(dst, v)
	}
	if len(v) == 0 {
		return append(dst, "null"...)
	}
	switch t.Kind {
	case KindDate, KindTime, KindTimestamp, KindInet:
		if t.Validate(v) != nil {
			return appendHex(dst, v)
		}
		return append(t.AppendString(append(dst, '\''), v), '\'')
	}
	return t.AppendString(dst, v)
}

// AppendString appends v as plain text, what Cassandra's getString gives: like AppendText, but
// without quotes and 0x, and the empty value as nothing.
func (t *Type) AppendString(dst, v []byte) []byte {
	if len(v) == 0 {
		return dst
	}
	switch t.Kind {
	case KindAscii, KindText:
		return append(dst, v...)
	case KindBlob, KindCustom:
		return hex.AppendEncode(dst, v)
	}
	if t.Validate(v) != nil || len(v) > numberTextBytesMax && (t.Kind == KindVarint || t.Kind == KindDecimal) {
		return appendHex(dst, v)
	}
	switch t.Kind {
	case KindInt:
		return strconv.AppendInt(dst, int64(int32(binary.BigEndian.Uint32(v))), 10)
	case KindBigint, KindCounter:
		return strconv.AppendInt(dst, int64(binary.BigEndian.Uint64(v)), 10)
	case KindSmallint:
		return strconv.AppendInt(dst, int64(int16(binary.BigEndian.Uint16(v))), 10)
	case KindTinyint:
		return strconv.AppendInt(dst, int64(int8(v[0])), 10)
	case KindBoolean:
		return strconv.AppendBool(dst, v[0] != 0)
	case KindFloat:
		return appendJavaFloat(dst, float64(math.Float32frombits(binary.BigEndian.Uint32(v))), 32)
	case KindDouble:
		return appendJavaFloat(dst, math.Float64frombits(binary.BigEndian.Uint64(v)), 64)
	case KindVarint:
		return appendVarintText(dst, v)
	case KindDecimal:
		return appendDecimalText(dst, v)
	case KindUuid, KindTimeuuid:
		return appendUUID(dst, v)
	case KindInet:
		return appendInet(dst, v)
	case KindDate:
		return appendDate(dst, int64(binary.BigEndian.Uint32(v))-1<<31)
	case KindTime:
		return appendTime(dst, int64(binary.BigEndian.Uint64(v)))
	case KindTimestamp:
		return appendTimestamp(dst, int64(binary.BigEndian.Uint64(v)))
	case KindDuration:
		months, days, ns, _ := DecodeDuration(v)
		return appendDuration(dst, months, days, ns)
	}
	return t.appendElemsText(dst, v)
}

func appendQuoted(dst, v []byte) []byte {
	dst = append(dst, '\'')
	for _, c := range v {
		if c == '\'' {
			dst = append(dst, c)
		}
		dst = append(dst, c)
	}
	return append(dst, '\'')
}

func appendHex(dst, v []byte) []byte { return hex.AppendEncode(append(dst, "0x"...), v) }

// appendElemsText appends [a, b], {a, b}, {k: v}, (a, b) or {field: a}. Tuples and UDTs show the
// components that are there.
func (t *Type) appendElemsText(dst, v []byte) []byte {
	switch {
	case t.Kind == KindVector && len(v) == 0:
		return append(dst, "null"...)
	case len(v) > 0 && t.Validate(v) != nil:
		return appendHex(dst, v)
	}
	left, right := byte('{'), byte('}')
	switch t.Kind {
	case KindList, KindVector:
		left, right = '[', ']'
	case KindTuple:
		left, right = '(', ')'
	}
	dst = append(dst, left)
	it := t.Iter(v)
	for i := 0; !it.tuple || len(it.src) > 0; i++ {
		e, ok := it.Next()
		if !ok {
			break
		}
		switch {
		case i == 0:
		case t.Kind == KindMap && i%2 == 1:
			dst = append(dst, ": "...)
		default:
			dst = append(dst, ", "...)
		}
		if t.Kind == KindUDT {
			dst = append(append(dst, cqlident.QuoteIdent(t.Fields[i])...), ": "...)
		}
		dst = t.Elems[i%len(t.Elems)].AppendText(dst, e)
	}
	return append(dst, right)
}

// appendJavaFloat appends what Java's Float.toString and Double.toString give, with the shortest
// digits that read back the same.
func appendJavaFloat(dst []byte, f float64, bitSize int) []byte {
	abs := math.Abs(f)
	switch {
	case f != f:
		return append(dst, "NaN"...)
	case math.IsInf(f, 1):
		return append(dst, "Infinity"...)
	case math.IsInf(f, -1):
		return append(dst, "-Infinity"...)
	case f == 0 || abs >= 1e-3 && abs < 1e7:
		at := len(dst)
		dst = strconv.AppendFloat(dst, f, 'f', -1, bitSize)
		return pointed(dst, at)
	}
	at := len(dst)
	dst = strconv.AppendFloat(dst, f, 'e', -1, bitSize)
	if shortest := bytes.TrimPrefix(dst[at:], []byte("-")); shortest[1] == 'e' {
		// Of a single digit Java makes two, which differ from d.0 for the smallest numbers.
		dst = strconv.AppendFloat(dst[:at], f, 'e', 1, bitSize)
	}
	e := len(dst) - 1
	for dst[e] != 'e' {
		e--
	}
	exp, _ := strconv.Atoi(string(dst[e+1:]))
	dst = append(pointed(dst[:e], at), 'E')
	return strconv.AppendInt(dst, int64(exp), 10)
}

// pointed appends ".0" unless the number from dst[at] on has a point.
func pointed(dst []byte, at int) []byte {
	for _, c := range dst[at:] {
		if c == '.' {
			return dst
		}
	}
	return append(dst, ".0"...)
}

// appendDecimalText appends what Java's BigDecimal.toString gives: scientific notation when the
// scale is negative or many zeros would follow the point.
func appendDecimalText(dst, v []byte) []byte {
	scale := int64(int32(binary.BigEndian.Uint32(v)))
	var buf [20]byte
	neg, digits := varintDigits(v[4:], buf[:0])
	if neg {
		dst = append(dst, '-')
	}
	n := int64(len(digits))
	exp := n - 1 - scale
	switch {
	case scale == 0:
		return append(dst, digits...)
	case scale > 0 && scale < n:
		return append(append(append(dst, digits[:n-scale]...), '.'), digits[n-scale:]...)
	case scale > 0 && exp >= -6:
		dst = append(append(dst, "0."...), "00000"[:scale-n]...)
		return append(dst, digits...)
	}
	dst = append(dst, digits[0])
	if n > 1 {
		dst = append(append(dst, '.'), digits[1:]...)
	}
	if exp == 0 {
		return dst
	}
	dst = append(dst, 'E')
	if exp > 0 {
		dst = append(dst, '+')
	}
	return strconv.AppendInt(dst, exp, 10)
}

func appendVarintText(dst, v []byte) []byte {
	var buf [20]byte
	neg, digits := varintDigits(v, buf[:0])
	if neg {
		dst = append(dst, '-')
	}
	return append(dst, digits...)
}

func appendUUID(dst, v []byte) []byte {
	dst = append(hex.AppendEncode(dst, v[:4]), '-')
	dst = append(hex.AppendEncode(dst, v[4:6]), '-')
	dst = append(hex.AppendEncode(dst, v[6:8]), '-')
	dst = append(hex.AppendEncode(dst, v[8:10]), '-')
	return hex.AppendEncode(dst, v[10:])
}

// appendInet appends an address as Java's getHostAddress does: IPv6 without abbreviation.
func appendInet(dst, v []byte) []byte {
	addr, _ := netip.AddrFromSlice(v)
	if addr = addr.Unmap(); addr.Is4() {
		return addr.AppendTo(dst)
	}
	for i := 0; i < 16; i += 2 {
		if i > 0 {
			dst = append(dst, ':')
		}
		dst = strconv.AppendUint(dst, uint64(binary.BigEndian.Uint16(v[i:])), 16)
	}
	return dst
}
