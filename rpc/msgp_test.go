package rpc

import (
	"bytes"
	"errors"
	"math"
	"reflect"
	"testing"

	"github.com/vmihailenco/msgpack/v5"
)

// What the Append functions write is read back by Reader and by another implementation of msgpack.
func TestMsgpackValues(t *testing.T) {
	ints := []int64{0, 1, 127, 128, 255, 256, 65535, 65536, math.MaxUint32, math.MaxUint32 + 1, math.MaxInt64,
		-1, -32, -33, -128, -129, -32768, -32769, math.MinInt32, math.MinInt32 - 1, math.MinInt64}
	for _, v := range ints {
		b := AppendInt(nil, v)
		r := NewReader(b)
		if got := r.Int(); got != v || r.Done() != nil {
			t.Errorf("int %d: got %d, %v", v, got, r.Err())
		}
		var other int64
		if err := msgpack.Unmarshal(b, &other); err != nil || other != v {
			t.Errorf("int %d: other implementation: %d, %v", v, other, err)
		}
		theirs, err := msgpack.Marshal(v) // always the long form for int64
		r = NewReader(theirs)
		if got := r.Int(); err != nil || got != v || r.Done() != nil {
			t.Errorf("int %d from other implementation: got %d, %v", v, got, r.Err())
		}
		r = NewReader(theirs)
		if got := r.Uint(); v >= 0 && got != uint64(v) || (v < 0) != (r.Err() != nil) {
			t.Errorf("uint %d from other implementation: got %d, %v", v, got, r.Err())
		}
	}
	for _, v := range []uint64{0, 127, 128, 1 << 8, 1 << 16, 1 << 32, math.MaxUint64} {
		r := NewReader(AppendUint(nil, v))
		if got := r.Uint(); got != v || r.Done() != nil {
			t.Errorf("uint %d: got %d, %v", v, got, r.Err())
		}
	}
	for _, n := range []int{0, 1, 15, 16, 31, 32, 255, 256, 65535, 65536} {
		checkLengths(t, n)
	}
	b := AppendFloat(AppendBool(AppendBool(AppendNil(nil), true), false), math.Pi)
	r := NewReader(b)
	if !r.IsNil() || r.IsNil() || !r.Bool() || r.Bool() || r.Float() != math.Pi || r.Done() != nil {
		t.Error("nil, booleans and float do not survive", r.Err())
	}
}

// checkLengths encodes strings, byte strings, arrays and maps of length n.
func checkLengths(t *testing.T, n int) {
	t.Helper()
	text := string(bytes.Repeat([]byte{'x'}, n))
	b := AppendBytes(AppendString(nil, text), []byte(text))
	b = AppendArrayHeader(b, n)
	for i := range n {
		b = AppendUint(b, uint64(i))
	}
	b = AppendMapHeader(b, n)
	for i := range n {
		b = AppendBool(AppendUint(b, uint64(i)), true)
	}
	r := NewReader(b)
	if got := r.String(); got != text {
		t.Errorf("string of %d bytes: %d", n, len(got))
	}
	if got := r.Bytes(); string(got) != text || got == nil {
		t.Errorf("byte string of %d bytes: %d", n, len(got))
	}
	skipped := r
	if got := r.ArrayLen(); got != n {
		t.Errorf("array of %d: %d", n, got)
	}
	for i := range n {
		if got := r.Uint(); got != uint64(i) {
			t.Fatalf("element %d: %d", i, got)
		}
	}
	if got := r.MapLen(); got != n {
		t.Errorf("map of %d: %d", n, got)
	}
	if skipped.Skip(); skipped.Err() == nil {
		skipped.Skip()
	}
	if err := skipped.Done(); err != nil {
		t.Errorf("skip over %d elements: %v", n, err)
	}
	d := msgpack.NewDecoder(bytes.NewReader(b))
	var list []uint64
	if s, err := d.DecodeString(); err != nil || s != text {
		t.Errorf("other implementation: string of %d bytes: %v", n, err)
	}
	if s, err := d.DecodeBytes(); err != nil || string(s) != text {
		t.Errorf("other implementation: byte string of %d bytes: %v", n, err)
	}
	if err := d.Decode(&list); err != nil || len(list) != n {
		t.Errorf("other implementation: array of %d: %v", n, err)
	}
	var m map[uint64]bool
	if err := d.Decode(&m); err != nil || len(m) != n {
		t.Errorf("other implementation: map of %d: %v", n, err)
	}
}

// Malformed messages end in an error that stays, and never in a count larger than the message.
func TestMsgpackMalformed(t *testing.T) {
	for name, src := range map[string][]byte{
		"empty": {}, "reserved tag": {0xc1}, "string cut": {0xa5, 'x'}, "4-GiB string": {0xdb, 255, 255, 255, 255},
		"4-GiB bytes": {0xc6, 255, 255, 255, 255}, "4-Gi array": {0xdd, 255, 255, 255, 255, 1},
		"4-Gi map": {0xdf, 255, 255, 255, 255, 1}, "length cut": {0xda, 1}, "deep": bytes.Repeat([]byte{0x91}, 1000),
	} {
		for what, read := range map[string]func(*Reader){
			"Skip": (*Reader).Skip, "Int": func(r *Reader) { r.Int() }, "Uint": func(r *Reader) { r.Uint() },
			"String": func(r *Reader) { _ = r.String() }, "Bytes": func(r *Reader) { r.Bytes() },
			"Bool": func(r *Reader) { r.Bool() }, "Float": func(r *Reader) { r.Float() },
			"MapLen": func(r *Reader) { r.MapLen() },
		} {
			r := NewReader(src)
			read(&r)
			if !errors.Is(r.Err(), ErrEncoding) {
				t.Errorf("%s of %q: error %v", what, name, r.Err())
			}
			first := r.Err()
			if r.Uint() != 0 || r.Bytes() != nil || r.ArrayLen() != 0 || !errors.Is(r.Err(), first) {
				t.Errorf("%s of %q: the error does not stay", what, name)
			}
		}
	}
	r := NewReader([]byte{1, 2})
	if r.Uint(); r.Done() == nil {
		t.Error("a byte too many is accepted")
	}
}

// FuzzMsgpack compares Skip with another implementation and checks that nothing panics.
func FuzzMsgpack(f *testing.F) {
	f.Add(AppendBytes(AppendMapHeader(AppendArrayHeader(nil, 3), 1), []byte("abc")))
	f.Add([]byte{0xdd, 255, 255, 255, 255})
	f.Add([]byte{0xc7, 3, 1, 2, 3, 4})
	f.Add([]byte{0xd8, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, src []byte) {
		r := NewReader(src)
		r.Skip()
		used := len(src) - r.Len()
		if r.Err() == nil && src[0]&0xf8 != 0xc8 { // the other implementation refuses unknown extensions
			d := msgpack.NewDecoder(bytes.NewReader(src[:used]))
			if err := d.Skip(); err != nil {
				t.Fatalf("Skip accepts %x: %v", src[:used], err)
			}
		}
		for _, read := range []func(*Reader) any{
			func(r *Reader) any { return r.Int() }, func(r *Reader) any { return r.Uint() },
			func(r *Reader) any { return r.String() }, func(r *Reader) any { return len(r.Bytes()) },
			func(r *Reader) any { return r.ArrayLen() }, func(r *Reader) any { return r.MapLen() },
			func(r *Reader) any { return r.Float() }, func(r *Reader) any { return r.Bool() },
		} {
			r := NewReader(src)
			if v := read(&r); r.Err() != nil && !reflect.ValueOf(v).IsZero() {
				t.Fatalf("%v with error %v", v, r.Err())
			}
		}
	})
}
