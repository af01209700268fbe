package types

import (
	"encoding/binary"
	"strconv"
	"unicode/utf8"
)

// FixedLen returns the length of t's values where Cassandra counts them as fixed, -1 otherwise.
// It decides how vector elements are laid out: smallint, tinyint, date and time count as
// variable, as in Cassandra. Values of fixed types may still be empty.
func (t *Type) FixedLen() int {
	switch t.Kind {
	case KindBoolean:
		return 1
	case KindInt, KindFloat:
		return 4
	case KindBigint, KindDouble, KindTimestamp:
		return 8
	case KindUuid, KindTimeuuid:
		return 16
	case KindEmpty:
		return 0
	case KindVector:
		if n := t.Elems[0].FixedLen(); n > 0 {
			return n * t.Dim
		}
	}
	return -1
}

// Validate returns nil when b is a legal value of t, otherwise a *MarshalError with Cassandra's
// text. b is not nil; zero bytes are the empty value.
func (t *Type) Validate(b []byte) error {
	n := len(b)
	switch t.Kind {
	case KindText:
		if !utf8.Valid(b) && !javaUTF8(b) {
			return &MarshalError{"String didn't validate."}
		}
	case KindInt:
		if n != 4 && n != 0 {
			return marshalErrorf("Expected 4 or 0 byte int (%d)", n)
		}
	case KindBigint, KindCounter:
		if n != 8 && n != 0 {
			return marshalErrorf("Expected 8 or 0 byte long (%d)", n)
		}
	case KindUuid:
		if n != 16 && n != 0 {
			return marshalErrorf("UUID should be 16 or 0 bytes (%d)", n)
		}
	case KindTimeuuid:
		return validateTimeuuid(b)
	case KindTimestamp:
		if n != 8 && n != 0 {
			return marshalErrorf("Expected 8 or 0 byte long for date (%d)", n)
		}
	case KindBoolean:
		if n != 1 && n != 0 {
			return marshalErrorf("Expected 1 or 0 byte value (%d)", n)
		}
	case KindBlob, KindVarint, KindCustom:
	default:
		return t.validateRest(b)
	}
	return nil
}

func (t *Type) validateRest(b []byte) error {
	n := len(b)
	bad := ""
	switch t.Kind {
	case KindAscii:
		return validateASCII(b)
	case KindDouble:
		if n != 8 && n != 0 {
			bad = "Expected 8 or 0 byte value for a double (%d)"
		}
	case KindFloat:
		if n != 4 && n != 0 {
			bad = "Expected 4 or 0 byte value for a float (%d)"
		}
	case KindDecimal:
		if n != 0 && n < 4 {
			bad = "Expected 0 or at least 4 bytes (%d)"
		}
	case KindInet:
		if n != 0 && n != 4 && n != 16 {
			return marshalErrorf("Expected 4 or 16 byte inetaddress; got %x", b)
		}
	case KindDate:
		if n != 4 {
			bad = "Expected 4 byte long for date (%d)"
		}
	case KindTime:
		if n != 8 {
			bad = "Expected 8 byte long for time (%d)"
		}
	case KindSmallint:
		if n != 2 {
			bad = "Expected 2 bytes for a smallint (%d)"
		}
	case KindTinyint:
		if n != 1 {
			bad = "Expected 1 byte for a tinyint (%d)"
		}
	case KindDuration:
		return validateDuration(b)
	case KindEmpty:
		if n != 0 {
			return &MarshalError{"EmptyType only accept empty values"}
		}
	case KindTuple, KindUDT:
		return t.validateTuple(b)
	default:
		return t.validateElems(b)
	}
	if bad != "" {
		return marshalErrorf(bad, n)
	}
	return nil
}

func validateTimeuuid(b []byte) error {
	switch {
	case len(b) == 0:
		return nil
	case len(b) != 16:
		return marshalErrorf("UUID should be 16 or 0 bytes (%d)", len(b))
	case b[6]&0xF0 != 0x10:
		// The digit is taken from byte 0, as Cassandra's message does.
		return &MarshalError{"Invalid version for TimeUUID type: 0x" + strconv.FormatUint(uint64(b[0]>>4), 16)}
	}
	return nil
}

func validateASCII(b []byte) error {
	for _, c := range b {
		if c >= 0x80 {
			return marshalErrorf("Invalid byte for ascii: %d", int8(c))
		}
	}
	return nil
}

func validateDuration(b []byte) error {
	if len(b) < 3 {
		return marshalErrorf("Expected at least 3 bytes for a duration (%d)", len(b))
	}
	m, rest, ok1 := readVint(b)
	d, rest, ok2 := readVint(rest)
	ns, _, ok3 := readVint(rest)
	switch {
	case !ok1 || !ok2 || !ok3:
		return &MarshalError{"Not enough bytes to read a duration"}
	case m != int64(int32(m)):
		return marshalErrorf("The duration months must be a 32 bits integer but was: %d", m)
	case d != int64(int32(d)):
		return marshalErrorf("The duration days must be a 32 bits integer but was: %d", d)
	case !(m >= 0 && d >= 0 && ns >= 0 || m <= 0 && d <= 0 && ns <= 0):
		return marshalErrorf("The duration months, days and nanoseconds must be all of the same sign (%d, %d, %d)", m, d, ns)
	}
	return nil
}

// validateElems checks a list, set, map or vector.
func (t *Type) validateElems(b []byte) error {
	if t.Kind == KindVector && len(b) == 0 {
		return &MarshalError{"Invalid empty vector value"}
	}
	it := t.Iter(b)
	if t.Kind == KindVector && it.fixed > 0 && len(b) < it.fixed*t.Dim {
		return t.shortErr()
	}
	for i := 0; ; i++ {
		e, ok := it.Next()
		if !ok {
			return it.Err()
		}
		if e == nil {
			return &MarshalError{"Null value read when not allowed"}
		}
		if err := t.Elems[i%len(t.Elems)].Validate(e); err != nil {
			return err
		}
	}
}

// validateTuple checks a tuple or UDT: fewer components than declared are fine, more are not.
func (t *Type) validateTuple(b []byte) error {
	for i, typ := range t.Elems {
		if len(b) == 0 {
			return nil
		}
		if len(b) < 4 {
			return t.componentErr("Not enough bytes to read size of ", i)
		}
		n := int32(binary.BigEndian.Uint32(b))
		b = b[4:]
		if n < 0 {
			continue
		}
		if int(n) > len(b) {
			return t.componentErr("Not enough bytes to read ", i)
		}
		if err := typ.Validate(b[:n:n]); err != nil {
			if t.Kind == KindUDT {
				return marshalErrorf("Failure validating the %dth field %s; %s", i, t.Fields[i], err)
			}
			return err
		}
		b = b[n:]
	}
	if len(b) > 0 {
		return t.extraErr(len(b))
	}
	return nil
}

func (t *Type) componentErr(what string, i int) error {
	if t.Kind == KindUDT {
		return marshalErrorf("%s%dth field %s", what, i, t.Fields[i])
	}
	return marshalErrorf("%s%dth component", what, i)
}

// javaUTF8 accepts what Cassandra's validator accepts beyond UTF-8: the two-byte NUL, surrogates,
// code points beyond U+10FFFF, and second bytes of E0 and F0 sequences outside 80..BF.
func javaUTF8(b []byte) bool {
	for i := 0; i < len(b); {
		c := b[i]
		n := 0
		switch {
		case c < 0x80:
			i++
			continue
		case c>>5 == 0b110:
			n = 2
		case c>>4 == 0b1110:
			n = 3
		case c>>3 == 0b11110:
			n = 4
		}
		if n == 0 || len(b)-i < n || !javaSecond(c, b[i+1]) {
			return false
		}
		for _, d := range b[i+2 : i+n] {
			if d&0xC0 != 0x80 {
				return false
			}
		}
		i += n
	}
	return true
}

func javaSecond(first, second byte) bool {
	switch first {
	case 0xC0:
		return second == 0x80
	case 0xC1:
		return false
	case 0xE0:
		return second&0xE0 != 0x80
	case 0xF0:
		return second&0x30 != 0
	}
	return second&0xC0 == 0x80
}
