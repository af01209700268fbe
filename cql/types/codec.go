package types

import (
	"encoding/binary"
	"math"
	"math/big"
	"math/bits"
	"net/netip"
)

// The Encode functions return fresh value bytes; the Decode functions read values back and
// return a *MarshalError when the bytes are not a non-empty value of that type.

// EncodeBoolean returns a boolean value.
func EncodeBoolean(v bool) []byte {
	if v {
		return []byte{1}
	}
	return []byte{0}
}

// EncodeTinyint returns a tinyint value.
func EncodeTinyint(v int8) []byte { return []byte{byte(v)} }

// EncodeSmallint returns a smallint value.
func EncodeSmallint(v int16) []byte { return binary.BigEndian.AppendUint16(nil, uint16(v)) }

// EncodeInt returns an int value.
func EncodeInt(v int32) []byte { return binary.BigEndian.AppendUint32(nil, uint32(v)) }

// EncodeBigint returns a bigint or counter value.
func EncodeBigint(v int64) []byte { return binary.BigEndian.AppendUint64(nil, uint64(v)) }

// EncodeFloat returns a float value.
func EncodeFloat(v float32) []byte { return binary.BigEndian.AppendUint32(nil, math.Float32bits(v)) }

// EncodeDouble returns a double value.
func EncodeDouble(v float64) []byte { return binary.BigEndian.AppendUint64(nil, math.Float64bits(v)) }

// EncodeText returns a text or ascii value; it is never nil.
func EncodeText(v string) []byte { return append([]byte{}, v...) }

// EncodeUUID returns a uuid or timeuuid value.
func EncodeUUID(v [16]byte) []byte { return append([]byte(nil), v[:]...) }

// EncodeInet returns an inet value of 4 or 16 bytes, IPv4-mapped addresses as 4; zones are dropped.
func EncodeInet(v netip.Addr) []byte { return v.Unmap().AsSlice() }

// EncodeDate returns a date value from days, the epoch being 1<<31.
func EncodeDate(days uint32) []byte { return binary.BigEndian.AppendUint32(nil, days) }

// EncodeTimestamp returns a timestamp value from milliseconds since the epoch.
func EncodeTimestamp(ms int64) []byte { return EncodeBigint(ms) }

// EncodeTime returns a time value from nanoseconds since midnight.
func EncodeTime(ns int64) []byte { return EncodeBigint(ns) }

// EncodeDuration returns a duration value; its parts must not have mixed signs.
func EncodeDuration(months, days int32, ns int64) []byte {
	dst := appendVint(nil, int64(months))
	dst = appendVint(dst, int64(days))
	return appendVint(dst, ns)
}

// EncodeVarint returns a varint value: two's complement, as short as possible.
func EncodeVarint(v *big.Int) []byte { return appendBig(nil, v) }

// EncodeDecimal returns the decimal value unscaled * 10^-scale.
func EncodeDecimal(unscaled *big.Int, scale int32) []byte {
	return appendBig(binary.BigEndian.AppendUint32(nil, uint32(scale)), unscaled)
}

// DecodeBoolean returns a boolean; any byte but 0 is true.
func DecodeBoolean(b []byte) (bool, error) {
	if len(b) != 1 {
		return false, marshalErrorf("Expected 1 or 0 byte value (%d)", len(b))
	}
	return b[0] != 0, nil
}

// DecodeTinyint returns a tinyint.
func DecodeTinyint(b []byte) (int8, error) {
	if len(b) != 1 {
		return 0, marshalErrorf("Expected 1 byte for a tinyint (%d)", len(b))
	}
	return int8(b[0]), nil
}

// DecodeSmallint returns a smallint.
func DecodeSmallint(b []byte) (int16, error) {
	if len(b) != 2 {
		return 0, marshalErrorf("Expected 2 bytes for a smallint (%d)", len(b))
	}
	return int16(binary.BigEndian.Uint16(b)), nil
}

// DecodeInt returns an int.
func DecodeInt(b []byte) (int32, error) {
	if len(b) != 4 {
		return 0, marshalErrorf("Expected 4 or 0 byte int (%d)", len(b))
	}
	return int32(binary.BigEndian.Uint32(b)), nil
}

// DecodeBigint returns a bigint or counter.
func DecodeBigint(b []byte) (int64, error) {
	if len(b) != 8 {
		return 0, marshalErrorf("Expected 8 or 0 byte long (%d)", len(b))
	}
	return int64(binary.BigEndian.Uint64(b)), nil
}

// DecodeFloat returns a float.
func DecodeFloat(b []byte) (float32, error) {
	if len(b) != 4 {
		return 0, marshalErrorf("Expected 4 or 0 byte value for a float (%d)", len(b))
	}
	return math.Float32frombits(binary.BigEndian.Uint32(b)), nil
}

// DecodeDouble returns a double.
func DecodeDouble(b []byte) (float64, error) {
	if len(b) != 8 {
		return 0, marshalErrorf("Expected 8 or 0 byte value for a double (%d)", len(b))
	}
	return math.Float64frombits(binary.BigEndian.Uint64(b)), nil
}

// DecodeText returns a text or ascii value as a string.
func DecodeText(b []byte) string { return string(b) }

// DecodeUUID returns a uuid or timeuuid.
func DecodeUUID(b []byte) (u [16]byte, err error) {
	if len(b) != 16 {
		return u, marshalErrorf("UUID should be 16 or 0 bytes (%d)", len(b))
	}
	return [16]byte(b), nil
}

// DecodeInet returns an inet; IPv4-mapped addresses come back as IPv4.
func DecodeInet(b []byte) (netip.Addr, error) {
	a, ok := netip.AddrFromSlice(b)
	if !ok {
		return a, marshalErrorf("Expected 4 or 16 byte inetaddress; got %x", b)
	}
	return a.Unmap(), nil
}

// DecodeDate returns days, the epoch being 1<<31.
func DecodeDate(b []byte) (uint32, error) {
	if len(b) != 4 {
		return 0, marshalErrorf("Expected 4 byte long for date (%d)", len(b))
	}
	return binary.BigEndian.Uint32(b), nil
}

// DecodeTimestamp returns milliseconds since the epoch.
func DecodeTimestamp(b []byte) (int64, error) {
	if len(b) != 8 {
		return 0, marshalErrorf("Expected 8 or 0 byte long for date (%d)", len(b))
	}
	return int64(binary.BigEndian.Uint64(b)), nil
}

// DecodeTime returns nanoseconds since midnight.
func DecodeTime(b []byte) (int64, error) {
	if len(b) != 8 {
		return 0, marshalErrorf("Expected 8 byte long for time (%d)", len(b))
	}
	return int64(binary.BigEndian.Uint64(b)), nil
}

// DecodeDuration returns a duration's parts.
func DecodeDuration(b []byte) (months, days int32, ns int64, err error) {
	if err := validateDuration(b); err != nil {
		return 0, 0, 0, err
	}
	m, b, _ := readVint(b)
	d, b, _ := readVint(b)
	ns, _, _ = readVint(b)
	return int32(m), int32(d), ns, nil
}

// DecodeVarint returns a varint.
func DecodeVarint(b []byte) (*big.Int, error) {
	if len(b) == 0 {
		return nil, &MarshalError{"Expected at least 1 byte for a varint (0)"}
	}
	return bigOf(b), nil
}

// DecodeDecimal returns a decimal's parts; its value is unscaled * 10^-scale.
func DecodeDecimal(b []byte) (unscaled *big.Int, scale int32, err error) {
	if len(b) < 4 {
		return nil, 0, marshalErrorf("Expected 0 or at least 4 bytes (%d)", len(b))
	}
	return bigOf(b[4:]), int32(binary.BigEndian.Uint32(b)), nil
}

// appendUvint appends Cassandra's unsigned vint (VIntCoding): the leading ones of the first byte
// count the bytes that follow.
func appendUvint(dst []byte, v uint64) []byte {
	extra := uvintLen(v) - 1
	if extra >= 8 {
		return binary.BigEndian.AppendUint64(append(dst, 0xFF), v)
	}
	first := ^byte(0xFF >> extra)
	dst = append(dst, first|byte(v>>(8*extra)))
	for i := extra - 1; i >= 0; i-- {
		dst = append(dst, byte(v>>(8*i)))
	}
	return dst
}

func uvintLen(v uint64) int { return min((bits.Len64(v|1)+6)/7, 9) }

func readUvint(src []byte) (v uint64, rest []byte, ok bool) {
	if len(src) == 0 {
		return 0, nil, false
	}
	extra := bits.LeadingZeros8(^src[0])
	if len(src) < 1+extra {
		return 0, nil, false
	}
	if extra < 8 {
		v = uint64(src[0] & (0xFF >> extra))
	}
	for _, c := range src[1 : 1+extra] {
		v = v<<8 | uint64(c)
	}
	return v, src[1+extra:], true
}

func appendVint(dst []byte, v int64) []byte { return appendUvint(dst, uint64(v<<1)^uint64(v>>63)) }

func readVint(src []byte) (int64, []byte, bool) {
	u, rest, ok := readUvint(src)
	return int64(u>>1) ^ -int64(u&1), rest, ok
}
