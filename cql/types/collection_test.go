package types

import (
	"bytes"
	"testing"
)

// TestOrdered: a set or map that a client sent in any order, or with an element twice, is stored as one that a literal makes.
func TestOrdered(t *testing.T) {
	i := func(v int32) []byte { return EncodeInt(v) }
	set := SetOf(Int, true)
	for _, c := range [][2][][]byte{
		{{i(2), i(1)}, {i(1), i(2)}},
		{{i(1), i(1)}, {i(1)}},
		{{i(-1), i(1)}, {i(-1), i(1)}},
		{nil, nil},
	} {
		if got, want := set.Ordered(set.AppendCollection(nil, c[0])), set.AppendCollection(nil, c[1]); !bytes.Equal(got, want) {
			t.Errorf("%x: got %x, want %x", c[0], got, want)
		}
	}
	m := MapOf(Int, Text, true)
	given := m.AppendCollection(nil, [][]byte{i(2), []byte("b"), i(1), []byte("a"), i(2), []byte("c")})
	if got, want := m.Ordered(given), m.AppendCollection(nil, [][]byte{i(1), []byte("a"), i(2), []byte("c")}); !bytes.Equal(got, want) {
		t.Errorf("got %x, want %x", got, want)
	}
	list := ListOf(Int, true)
	if v := list.AppendCollection(nil, [][]byte{i(2), i(1)}); !bytes.Equal(list.Ordered(v), v) {
		t.Error("a list keeps its order")
	}
	nested := MapOf(set, ListOf(set, true), true)
	wrong, right := set.AppendCollection(nil, [][]byte{i(2), i(1)}), set.AppendCollection(nil, [][]byte{i(1), i(2)})
	one := func(e []byte) []byte { return ListOf(set, true).AppendCollection(nil, [][]byte{e}) }
	given = nested.AppendCollection(nil, [][]byte{wrong, one(right), right, one(wrong)})
	if got, want := nested.Ordered(given), nested.AppendCollection(nil, [][]byte{right, one(right)}); !bytes.Equal(got, want) {
		t.Errorf("nested: got %x, want %x", got, want)
	}
	if tuple := TupleOf(set); !bytes.Equal(tuple.Ordered(AppendElem(nil, wrong)), AppendElem(nil, wrong)) {
		t.Error("a tuple keeps what is in it")
	}
	ordered := set.AppendCollection(nil, [][]byte{i(1), i(2)})
	if n := testing.AllocsPerRun(100, func() { set.Ordered(ordered) }); n != 0 {
		t.Errorf("%v allocations for a set in order", n)
	}
}
