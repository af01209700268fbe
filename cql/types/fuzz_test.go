package types

import (
	"bytes"
	"encoding/hex"
	"testing"
)

// fuzzTypes has a type for every byte.
func fuzzType(n byte) *Type {
	all := append(orderedTypes(), Duration, addr, ListOf(addr, false))
	return all[int(n)%len(all)]
}

// FuzzValue: no bytes make Validate, Compare, Canonical or AppendText panic; what Validate
// accepts survives the key encoding.
func FuzzValue(f *testing.F) {
	for i := range 40 {
		f.Add(byte(i), []byte{0, 0, 0, 1, 0, 0, 0, 4, 0, 0, 0, 1}, []byte{1})
		f.Add(byte(i), []byte{0xFF, 0xFF, 0xFF, 0xFF}, []byte{})
	}
	f.Fuzz(func(t *testing.T, n byte, a, b []byte) {
		typ := fuzzType(n)
		if c := typ.Compare(a, b); c != -typ.Compare(b, a) {
			t.Fatalf("compare is not symmetric: %d", c)
		}
		if text := typ.AppendText(nil, a); len(text) == 0 && typ.Kind != KindDuration {
			t.Fatal("no text")
		}
		canonical := typ.Canonical(a)
		if typ.Validate(a) != nil || typ.Kind == KindDuration || typ == addr || typ.MultiCell() {
			return
		}
		for _, desc := range []bool{false, true} {
			key := typ.AppendKey(nil, a, desc)
			v, rest, err := typ.DecodeKey(key, desc)
			if err != nil || len(rest) > 0 || typ.Compare(v, a) != 0 || bytes.Equal(v, a) != canonical {
				t.Fatalf("%s %x key %x: decoded %x %x %v, canonical %v", typ, a, key, v, rest, err, canonical)
			}
			if typ.Validate(b) == nil {
				c := bytes.Compare(key, typ.AppendKey(nil, b, desc))
				if desc {
					c = -c
				}
				if c != typ.Compare(a, b) {
					t.Fatalf("%s %x %x: keys compare as %d", typ, a, b, c)
				}
			}
		}
	})
}

// FuzzDecodeKey: any bytes decode or fail, and what decodes is exactly what AppendKey writes.
func FuzzDecodeKey(f *testing.F) {
	for i := range 40 {
		f.Add(byte(i), false, []byte{0x40, 0x80, 0x01})
		f.Add(byte(i), true, []byte{0xBF, 0xF7})
	}
	f.Fuzz(func(t *testing.T, n byte, desc bool, src []byte) {
		typ := fuzzType(n)
		v, rest, err := typ.DecodeKey(src, desc)
		if err != nil {
			return
		}
		if key := typ.AppendKey(nil, v, desc); !bytes.Equal(key, src[:len(src)-len(rest)]) {
			t.Fatalf("%s: %x decodes to %x, whose key is %x", typ, src, v, key)
		}
	})
}

// FuzzParse: type names parse or fail, and print as something that parses to the same.
func FuzzParse(f *testing.F) {
	for _, typ := range orderedTypes() {
		f.Add(typ.String())
	}
	f.Add(`map<int, "ks".addr>`)
	f.Fuzz(func(t *testing.T, s string) {
		typ, err := Parse(s, lookupAddr, "ks")
		if err != nil {
			return
		}
		again, err := Parse(typ.String(), lookupAddr, "ks")
		if err != nil || !again.Equal(typ) {
			t.Fatalf("%q parses as %s, that as %v, %v", s, typ, again, err)
		}
	})
}

// FuzzParseLiteral: constants parse or fail, to legal values whose text parses to an equal value.
func FuzzParseLiteral(f *testing.F) {
	for _, s := range []string{"1", "-1.5e10", "2020-01-01T10:00:00.123+0000", "10:00:00", "1h30m", "P1Y2M3DT4H5M6S", "::1", "1.2", "abc",
		"d2177dd0-eaa2-11de-a572-001b779c76e3", "2020-01-01 10:00 Europe/Paris", "P0001-02-03T04:05:06", "1E2147483647", "true"} {
		for i := range 40 {
			f.Add(byte(i), s)
		}
	}
	f.Fuzz(func(t *testing.T, n byte, s string) {
		typ := fuzzType(n)
		v, err := typ.ParseLiteral(s)
		if err != nil {
			return
		}
		if err := typ.Validate(v); err != nil && typ.Kind != KindText {
			t.Fatalf("%s %q gives %s: %v", typ, s, hex.EncodeToString(v), err)
		}
		typ.AppendText(nil, v)
	})
}
