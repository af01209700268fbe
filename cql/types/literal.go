package types

import (
	"encoding/binary"
	"encoding/hex"
	"math"
	"math/big"
	"net/netip"
	"strconv"
	"strings"
)

// ConstClass is the class of a constant in CQL text, told apart by the lexer.
type ConstClass uint8

// The classes, as Cassandra names them.
const (
	ConstString ConstClass = iota
	ConstInteger
	ConstUUID
	ConstFloat
	ConstBoolean
	ConstHex
	ConstDuration
)

// String returns Cassandra's name of the class: STRING, INTEGER, ...
func (c ConstClass) String() string {
	return [...]string{"STRING", "INTEGER", "UUID", "FLOAT", "BOOLEAN", "HEX", "DURATION"}[c]
}

// Assignable reports whether a constant of class c may stand for a value of t. Custom types
// and, as in Cassandra, nothing else that is not native take any constant.
func (t *Type) Assignable(c ConstClass) bool {
	if t.Kind == KindCustom {
		return true
	}
	switch c {
	case ConstString:
		switch t.Kind {
		case KindAscii, KindText, KindInet, KindDate, KindTime, KindTimestamp:
			return true
		}
	case ConstInteger:
		switch t.Kind {
		case KindBigint, KindCounter, KindDate, KindDecimal, KindDouble, KindDuration, KindFloat,
			KindInt, KindSmallint, KindTime, KindTimestamp, KindTinyint, KindVarint:
			return true
		}
	case ConstUUID:
		return t.Kind == KindUuid || t.Kind == KindTimeuuid
	case ConstFloat:
		return t.Kind == KindDecimal || t.Kind == KindDouble || t.Kind == KindFloat
	case ConstBoolean:
		return t.Kind == KindBoolean
	case ConstHex:
		return t.Kind == KindBlob
	case ConstDuration:
		return t.Kind == KindDuration
	}
	return false
}

// FromConstant returns the value of t that a constant of class c stands for. text is the
// constant's text, a string's without its quotes, a blob's with 0x. It fails with a
// *ConstantError when the class does not fit and with a *MarshalError when the text does not.
func (t *Type) FromConstant(c ConstClass, text string) ([]byte, error) {
	if !t.Assignable(c) {
		return nil, &ConstantError{Class: c, Text: text, Type: t}
	}
	if c == ConstHex {
		return parseHex(strings.TrimPrefix(strings.TrimPrefix(text, "0x"), "0X"))
	}
	return t.ParseLiteral(text)
}

// ParseLiteral returns the value of t that a constant's text, without quotes, stands for; it is
// Cassandra's fromString. It fails with a *MarshalError that has Cassandra's text. Collections,
// tuples, UDTs and vectors have no constants and are refused.
func (t *Type) ParseLiteral(s string) ([]byte, error) {
	if s == "" && t.emptyText() {
		return []byte{}, nil
	}
	switch t.Kind {
	case KindText:
		return []byte(s), nil
	case KindAscii:
		return parseASCII(s)
	case KindBlob, KindCustom:
		return parseHex(strings.TrimPrefix(s, "0x"))
	case KindBoolean:
		return parseBoolean(s)
	case KindInt, KindBigint, KindCounter, KindSmallint, KindTinyint:
		return t.parseInteger(s)
	case KindVarint:
		return parseVarint(s)
	case KindDecimal:
		return parseDecimal(s)
	case KindFloat, KindDouble:
		return t.parseFloat(s)
	case KindUuid, KindTimeuuid:
		return t.parseUUID(s)
	case KindInet:
		return parseInet(s)
	case KindDuration:
		return parseDuration(s)
	case KindDate:
		days, err := parseDate(s)
		if err != nil {
			return nil, err
		}
		return EncodeDate(days), nil
	case KindTime:
		ns, err := parseTime(s)
		if err != nil {
			return nil, err
		}
		return EncodeTime(ns), nil
	case KindTimestamp:
		ms, err := parseTimestamp(s)
		if err != nil {
			return nil, err
		}
		return EncodeTimestamp(ms), nil
	}
	return nil, marshalErrorf("no constant stands for a value of type %s", t)
}

// emptyText reports whether the empty text stands for the empty value.
func (t *Type) emptyText() bool {
	switch t.Kind {
	case KindDate, KindTime, KindBoolean, KindDuration, KindSmallint, KindTinyint, KindList, KindSet, KindMap, KindTuple, KindUDT, KindVector:
		return false
	}
	return true
}

func parseASCII(s string) ([]byte, error) {
	b := []byte(s)
	if validateASCII(b) != nil {
		return nil, &MarshalError{"Invalid ASCII character in string literal: " +
			"java.nio.charset.UnmappableCharacterException: Input length = 1"}
	}
	return b, nil
}

func parseHex(s string) ([]byte, error) {
	b, err := hex.DecodeString(s)
	if err != nil {
		return nil, marshalErrorf("cannot parse '%s' as hex bytes", s)
	}
	return b, nil
}

func parseBoolean(s string) ([]byte, error) {
	switch {
	case s == "" || strings.EqualFold(s, "false"):
		return EncodeBoolean(false), nil
	case strings.EqualFold(s, "true"):
		return EncodeBoolean(true), nil
	}
	return nil, marshalErrorf("Unable to make boolean from '%s'", s)
}

func (t *Type) parseInteger(s string) ([]byte, error) {
	bits, name := 64, "long"
	switch t.Kind {
	case KindInt:
		bits, name = 32, "int"
	case KindSmallint:
		bits, name = 16, "short"
	case KindTinyint:
		bits, name = 8, "byte"
	}
	v, err := strconv.ParseInt(s, 10, bits)
	if err != nil {
		return nil, marshalErrorf("Unable to make %s from '%s'", name, s)
	}
	return EncodeBigint(v)[8-bits/8:], nil
}

func parseVarint(s string) ([]byte, error) {
	neg, digits := cutSign(s)
	if digits == "" || strings.Trim(digits, "0123456789") != "" {
		return nil, marshalErrorf("unable to make int from '%s'", s)
	}
	v := parseBig(digits)
	if neg {
		v.Neg(v)
	}
	return EncodeVarint(v), nil
}

func cutSign(s string) (neg bool, rest string) {
	if s != "" && (s[0] == '-' || s[0] == '+') {
		return s[0] == '-', s[1:]
	}
	return false, s
}

// parseDecimal reads what Java's BigDecimal reads; an exponent only moves the scale.
func parseDecimal(s string) ([]byte, error) {
	unscaled, scale, ok := splitDecimal(s)
	if !ok {
		return nil, marshalErrorf("unable to make BigDecimal from '%s'", s)
	}
	return EncodeDecimal(unscaled, scale), nil
}

func splitDecimal(s string) (unscaled *big.Int, scale int32, ok bool) {
	neg, body := cutSign(s)
	exp := int64(0)
	if i := strings.IndexAny(body, "eE"); i >= 0 {
		var err error
		expNeg, digits := cutSign(body[i+1:])
		if exp, err = strconv.ParseInt(digits, 10, 32); err != nil || digits[0] == '-' || digits[0] == '+' {
			return nil, 0, false
		}
		if expNeg {
			exp = -exp
		}
		body = body[:i]
	}
	whole, frac, _ := strings.Cut(body, ".")
	digits := whole + frac
	wide := int64(len(frac)) - exp
	if digits == "" || strings.Trim(digits, "0123456789") != "" || wide != int64(int32(wide)) {
		return nil, 0, false
	}
	unscaled = parseBig(digits)
	if neg {
		unscaled.Neg(unscaled)
	}
	return unscaled, int32(wide), true
}

// parseFloat reads what Java's parseFloat and parseDouble read, hexadecimal floats excepted.
func (t *Type) parseFloat(s string) ([]byte, error) {
	bits, name := 64, "double"
	if t.Kind == KindFloat {
		bits, name = 32, "float"
	}
	f, ok := javaFloat(strings.Trim(s, javaSpace), bits)
	if !ok {
		return nil, marshalErrorf("Unable to make %s from '%s'", name, s)
	}
	if bits == 32 {
		if f != f {
			return binary.BigEndian.AppendUint32(nil, javaNaN32), nil
		}
		return EncodeFloat(float32(f)), nil
	}
	if f != f {
		return binary.BigEndian.AppendUint64(nil, javaNaN64), nil
	}
	return EncodeDouble(f), nil
}

func javaFloat(s string, bits int) (float64, bool) {
	neg, body := cutSign(s)
	sign := 1
	if neg {
		sign = -1
	}
	switch body {
	case "NaN":
		return math.NaN(), true
	case "Infinity":
		return math.Inf(sign), true
	}
	if n := len(body); n > 1 && strings.IndexByte("fFdD", body[n-1]) >= 0 {
		body = body[:n-1]
	}
	if body == "" || strings.Trim(body, "0123456789.eE+-") != "" || body[0] == '+' || body[0] == '-' {
		return 0, false
	}
	f, err := strconv.ParseFloat(body, bits)
	if err != nil && !math.IsInf(f, 0) {
		return 0, false
	}
	return math.Copysign(f, float64(sign)), true
}

func (t *Type) parseUUID(s string) ([]byte, error) {
	u, ok := uuidOf(s)
	switch {
	case !ok && t.Kind == KindUuid:
		return nil, marshalErrorf("Unable to make UUID from '%s'", s)
	case !ok:
		return nil, marshalErrorf("Unknown timeuuid representation: %s", s)
	case t.Kind == KindTimeuuid && u[6]>>4 != 1:
		return nil, &MarshalError{"TimeUUID supports only version 1 UUIDs"}
	}
	return u, nil
}

func uuidOf(s string) ([]byte, bool) {
	if len(s) != 36 || s[8] != '-' || s[13] != '-' || s[18] != '-' || s[23] != '-' {
		return nil, false
	}
	b, err := hex.DecodeString(s[:8] + s[9:13] + s[14:18] + s[19:23] + s[24:])
	return b, err == nil
}

// parseInet reads an IPv4 address of one to four numbers or an IPv6 address, in brackets or not.
// Cassandra also resolves host names; a database should not ask DNS because of a constant.
func parseInet(s string) ([]byte, error) {
	if b, ok := shortIPv4(s); ok {
		return b, nil
	}
	inner := s
	if strings.HasPrefix(s, "[") && strings.HasSuffix(s, "]") {
		inner = s[1 : len(s)-1]
	}
	addr, err := netip.ParseAddr(inner)
	if err != nil || strings.Trim(addr.Zone(), "0123456789") != "" || addr.Is4() && inner != s {
		return nil, marshalErrorf("Unable to make inet address from '%s'", s)
	}
	return EncodeInet(addr.WithZone("")), nil
}

// shortIPv4 reads a.b.c.d, a.b.c, a.b and a, the last number filling the bytes that are left.
func shortIPv4(s string) ([]byte, bool) {
	parts := strings.SplitN(s, ".", 5)
	var b [4]byte
	for i, part := range parts {
		if i > 3 || part == "" || strings.Trim(part, "0123456789") != "" {
			return nil, false
		}
		width := 8
		if i == len(parts)-1 {
			width = 8 * (4 - i)
		}
		v, err := strconv.ParseUint(part, 10, width)
		if err != nil {
			return nil, false
		}
		if i < len(parts)-1 {
			b[i] = byte(v)
			continue
		}
		for j := 3; j >= i; j-- {
			b[j] = byte(v)
			v >>= 8
		}
	}
	return b[:], true
}
