package types

import (
	"bytes"
	"encoding/binary"
	"math"
	"math/big"
	"math/bits"
	"strconv"
)

// Numbers of any size: varint values are two's complement, decimal values a four-byte scale and
// an unscaled varint. Exponents reach 2^31, so nothing here ever writes out zeros for them: cost
// follows the bytes of the values.

// trimVarint drops the leading bytes that only repeat the sign. An empty b is zero.
func trimVarint(b []byte) []byte {
	for len(b) > 1 && (b[0] == 0 && b[1] < 0x80 || b[0] == 0xFF && b[1] >= 0x80) {
		b = b[1:]
	}
	if len(b) == 1 && b[0] == 0 {
		return b[:0]
	}
	return b
}

func compareVarint(a, b []byte) int {
	a, b = trimVarint(a), trimVarint(b)
	negA, negB := len(a) > 0 && a[0] >= 0x80, len(b) > 0 && b[0] >= 0x80
	switch {
	case negA != negB:
		if negA {
			return -1
		}
		return 1
	case len(a) == len(b):
		return bytes.Compare(a, b)
	case (len(a) < len(b)) != negA:
		return -1
	}
	return 1
}

// smallVarint returns a varint that fits in an int64.
func smallVarint(b []byte) (v int64, ok bool) {
	if len(b) > 8 {
		if b = trimVarint(b); len(b) > 8 {
			return 0, false
		}
	}
	if len(b) > 0 && b[0] >= 0x80 {
		v = -1
	}
	for _, c := range b {
		v = v<<8 | int64(c)
	}
	return v, true
}

// bigOf returns the two's complement number in b; zero bytes are 0.
func bigOf(b []byte) *big.Int {
	v := new(big.Int)
	if len(b) == 0 || b[0] < 0x80 {
		return v.SetBytes(b)
	}
	inv := make([]byte, len(b))
	for i, c := range b {
		inv[i] = ^c
	}
	return v.Not(v.SetBytes(inv))
}

// appendBig appends v in two's complement, as short as possible but at least one byte.
func appendBig(dst []byte, v *big.Int) []byte {
	if v.IsInt64() {
		return appendVarint64(dst, v.Int64())
	}
	if v.Sign() < 0 {
		at := len(dst)
		dst = appendBigMagnitude(dst, new(big.Int).Not(v))
		invert(dst[at:])
		return dst
	}
	return appendBigMagnitude(dst, v)
}

// appendBigMagnitude appends v >= 0 with a clear top bit.
func appendBigMagnitude(dst []byte, v *big.Int) []byte {
	n := v.BitLen()/8 + 1
	at := len(dst)
	dst = append(dst, make([]byte, n)...)
	v.FillBytes(dst[at:])
	return dst
}

func appendVarint64(dst []byte, v int64) []byte {
	n := bits.Len64(uint64(v^v>>63))/8 + 1
	for i := n - 1; i >= 0; i-- {
		dst = append(dst, byte(v>>(8*i)))
	}
	return dst
}

func invert(b []byte) {
	for i := range b {
		b[i] = ^b[i]
	}
}

// decimal is the value digits * 10^(exp-len(digits)), that is 0.digits * 10^exp, negated when neg.
// digits has neither leading nor trailing zeros; it is empty for zero.
type decimal struct {
	neg    bool
	digits []byte // '0'..'9'
	exp    int64
}

// decimalOf splits a decimal value; small ones put their digits into buf and allocate nothing.
func decimalOf(v []byte, buf *[20]byte) decimal {
	scale := int64(int32(binary.BigEndian.Uint32(v)))
	neg, digits := varintDigits(v[4:], buf[:0])
	if len(digits) == 1 && digits[0] == '0' {
		return decimal{}
	}
	exp := int64(len(digits)) - scale
	return decimal{neg: neg, digits: bytes.TrimRight(digits, "0"), exp: exp}
}

// varintDigits appends the decimal digits of a varint's magnitude.
func varintDigits(b, dst []byte) (neg bool, digits []byte) {
	if v, ok := smallVarint(b); ok {
		m := uint64(v)
		if v < 0 {
			m = -m
		}
		return v < 0, strconv.AppendUint(dst, m, 10)
	}
	v := bigOf(b)
	neg = v.Sign() < 0
	return neg, v.Abs(v).Append(dst, 10)
}

// compareDecimal compares two decimals of at least four bytes numerically. It aligns the scales
// only when the numbers are of like magnitude, so that the powers of ten stay as short as they are.
func compareDecimal(a, b []byte) int {
	scaleA, scaleB := int64(int32(binary.BigEndian.Uint32(a))), int64(int32(binary.BigEndian.Uint32(b)))
	a, b = trimVarint(a[4:]), trimVarint(b[4:])
	if scaleA == scaleB || varintSign(a) != varintSign(b) || len(a) == 0 {
		return compareVarint(a, b)
	}
	loA, hiA := magnitude(a, scaleA)
	loB, hiB := magnitude(b, scaleB)
	switch {
	case hiA < loB:
		return -varintSign(a)
	case hiB < loA:
		return varintSign(a)
	}
	x, y := bigOf(a), bigOf(b)
	if scaleA < scaleB {
		x.Mul(x, pow10(scaleB-scaleA))
	} else {
		y.Mul(y, pow10(scaleA-scaleB))
	}
	return x.Cmp(y)
}

// varintSign returns the sign of a trimmed varint.
func varintSign(b []byte) int {
	switch {
	case len(b) == 0:
		return 0
	case b[0] >= 0x80:
		return -1
	}
	return 1
}

// magnitude returns bounds lo <= log10 |unscaled * 10^-scale| <= hi of a trimmed, non-zero varint.
func magnitude(b []byte, scale int64) (lo, hi float64) {
	n := 8 * float64(len(b))
	lo, hi = (n-9.1)*math.Ln2/math.Ln10, (n+0.1)*math.Ln2/math.Ln10
	return lo - float64(scale), hi - float64(scale)
}

func pow10(n int64) *big.Int { return new(big.Int).Exp(big.NewInt(10), big.NewInt(n), nil) }

// bigDigitsChunk is the length up to which digits are parsed in one go, quadratically.
const bigDigitsChunk = 1 << 12

// parseBig returns the number that s, only digits, stands for; it is quick for long ones too.
func parseBig(s string) *big.Int {
	if len(s) <= bigDigitsChunk {
		v, _ := new(big.Int).SetString("0"+s, 10)
		return v
	}
	cut := len(s) / 2
	v := parseBig(s[:cut])
	v.Mul(v, pow10(int64(len(s)-cut)))
	return v.Add(v, parseBig(s[cut:]))
}
