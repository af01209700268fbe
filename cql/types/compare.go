package types

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"math"
)

// Compare orders two values of t as Cassandra's comparator does and returns -1, 0 or +1. Both
// have passed Validate; bytes that would not pass still compare without a panic. An empty value
// precedes all others. Durations, which have no order, compare as bytes.
func (t *Type) Compare(a, b []byte) int {
	if len(a) == 0 || len(b) == 0 {
		return cmp.Compare(min(len(a), 1), min(len(b), 1))
	}
	switch t.Kind {
	case KindInt, KindBigint, KindTimestamp, KindCounter, KindSmallint, KindTinyint:
		return compareSigned(a, b)
	case KindUuid:
		return compareUUID(a, b)
	case KindTimeuuid:
		return compareTimeuuid(a, b)
	case KindFloat:
		if len(a) == 4 && len(b) == 4 {
			return cmp.Compare(floatOrder(binary.BigEndian.Uint32(a)), floatOrder(binary.BigEndian.Uint32(b)))
		}
	case KindDouble:
		if len(a) == 8 && len(b) == 8 {
			return cmp.Compare(doubleOrder(binary.BigEndian.Uint64(a)), doubleOrder(binary.BigEndian.Uint64(b)))
		}
	case KindBoolean:
		return cmp.Compare(min(a[0], 1), min(b[0], 1))
	case KindVarint:
		return compareVarint(a, b)
	case KindDecimal:
		if len(a) >= 4 && len(b) >= 4 {
			return compareDecimal(a, b)
		}
	case KindList, KindSet, KindMap, KindTuple, KindUDT, KindVector:
		return t.compareElems(a, b)
	}
	return bytes.Compare(a, b)
}

// compareSigned compares big-endian two's complement numbers of one length.
func compareSigned(a, b []byte) int {
	if a[0] != b[0] {
		return cmp.Compare(int8(a[0]), int8(b[0]))
	}
	return bytes.Compare(a, b)
}

// compareElems compares element by element, null first; when all are equal the shorter value
// comes first. Components missing at the end of a tuple or UDT count as null.
func (t *Type) compareElems(a, b []byte) int {
	ia, ib := t.Iter(a), t.Iter(b)
	for i := 0; ; i++ {
		x, okX := ia.Next()
		y, okY := ib.Next()
		if !okX || !okY {
			return compareBool(okX, okY)
		}
		if x == nil || y == nil {
			if c := compareBool(x != nil, y != nil); c != 0 {
				return c
			}
			continue
		}
		e := t.Elems[0]
		if len(t.Elems) > 1 {
			e = t.Elems[i%len(t.Elems)]
		}
		if c := e.Compare(x, y); c != 0 {
			return c
		}
	}
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	}
	return -1
}

// floatOrder maps a float's bits to unsigned numbers in the order of Java's Float.compare: -0.0
// before 0.0 and NaN, of which there is one, last.
func floatOrder(u uint32) uint32 {
	if u&0x7FFFFFFF > 0x7F800000 {
		u = javaNaN32
	}
	if u>>31 != 0 {
		return ^u
	}
	return u | 1<<31
}

func doubleOrder(u uint64) uint64 {
	if u&math.MaxInt64 > 0x7FF0000000000000 {
		u = javaNaN64
	}
	if u>>63 != 0 {
		return ^u
	}
	return u | 1<<63
}

// The bits of Java's canonical NaN.
const (
	javaNaN32 = 0x7FC00000
	javaNaN64 = 0x7FF8000000000000
)

// uuidOrder maps a UUID to two numbers in Cassandra's order: by version; within version 1 by time;
// then by bytes. The mapping is one to one.
func uuidOrder(b []byte) (hi, lo uint64) {
	hi, lo = binary.BigEndian.Uint64(b), binary.BigEndian.Uint64(b[8:])
	if version := hi >> 12 & 15; version != 1 {
		return version<<60 | hi>>4&0x0FFFFFFFFFFFF000 | hi&0xFFF, lo
	}
	return timeOrder(hi), lo
}

// timeOrder reorders the first half of a version 1 UUID: version, then the time from its highest bits.
func timeOrder(hi uint64) uint64 { return hi<<48 | hi<<16&0xFFFF00000000 | hi>>32 }

// timeDisorder undoes timeOrder.
func timeDisorder(hi uint64) uint64 { return hi<<32 | hi>>16&0xFFFF0000 | hi>>48 }

// signBits flips the sign of each byte: timeuuids of one instant compare by signed bytes.
const signBits = 0x8080808080808080

func timeuuidOrder(b []byte) (hi, lo uint64) {
	return timeOrder(binary.BigEndian.Uint64(b)), binary.BigEndian.Uint64(b[8:]) ^ signBits
}

func compareUUID(a, b []byte) int {
	if len(a) != 16 || len(b) != 16 {
		return bytes.Compare(a, b)
	}
	ha, la := uuidOrder(a)
	hb, lb := uuidOrder(b)
	return compareHalves(ha, la, hb, lb)
}

func compareTimeuuid(a, b []byte) int {
	if len(a) != 16 || len(b) != 16 {
		return bytes.Compare(a, b)
	}
	ha, la := timeuuidOrder(a)
	hb, lb := timeuuidOrder(b)
	return compareHalves(ha, la, hb, lb)
}

func compareHalves(ha, la, hb, lb uint64) int {
	if c := cmp.Compare(ha, hb); c != 0 {
		return c
	}
	return cmp.Compare(la, lb)
}
