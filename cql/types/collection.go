package types

import (
	"encoding/binary"
	"slices"
	"sort"
)

// Iter walks the elements of a serialized list, set, map, tuple, UDT or vector without
// allocating. The elements alias the value.
type Iter struct {
	src     []byte
	left    int // elements still to come
	fixed   int // > 0: all elements have that length, no prefix; 0: int prefix; < 0: vint prefix
	tuple   bool
	bad     bool
	oddNull bool // a null was not spelled as -1
	typ     *Type
}

// Iter returns an iterator over v, a value of t: a map yields key, value, key, ... A tuple or UDT
// yields as many components as the type has; those missing at the end of v come as null.
func (t *Type) Iter(v []byte) Iter {
	it := Iter{src: v, typ: t}
	switch t.Kind {
	case KindTuple, KindUDT:
		it.left, it.tuple = len(t.Elems), true
	case KindVector:
		if len(v) > 0 {
			it.left, it.fixed = t.Dim, -1
			if n := t.Elems[0].FixedLen(); n > 0 {
				it.fixed = n
			}
		}
	default:
		it.start(v)
	}
	return it
}

func (it *Iter) start(v []byte) {
	if len(v) < 4 {
		it.bad = true
		return
	}
	n := int32(binary.BigEndian.Uint32(v))
	it.src = v[4:]
	if it.left = int(n); n < 0 {
		it.bad = true
	} else if it.typ.Kind == KindMap {
		it.left *= 2
	}
}

// Next returns the next element; elem is nil for a null and not nil otherwise. ok is false at the
// end and at the first byte that makes no sense, which Err tells apart.
func (it *Iter) Next() (elem []byte, ok bool) {
	if it.left == 0 || it.bad {
		return nil, false
	}
	it.left--
	if it.tuple && len(it.src) == 0 {
		return nil, true
	}
	if it.fixed > 0 {
		return it.take(it.fixed)
	}
	if it.fixed < 0 {
		n, rest, ok := readUvint(it.src)
		if !ok || n > uint64(len(rest)) {
			it.bad = true
			return nil, false
		}
		it.src = rest
		return it.take(int(n))
	}
	if len(it.src) < 4 {
		it.bad = true
		return nil, false
	}
	n := int32(binary.BigEndian.Uint32(it.src))
	it.src = it.src[4:]
	if n < 0 {
		it.oddNull = it.oddNull || n != -1
		return nil, true
	}
	return it.take(int(n))
}

func (it *Iter) take(n int) ([]byte, bool) {
	if n > len(it.src) {
		it.bad = true
		return nil, false
	}
	elem := it.src[:n:n]
	it.src = it.src[n:]
	return elem, true
}

// Len returns the number of elements still to come, a map's keys and values both counting. It is
// never more than the bytes that are left can hold, so it is safe as a capacity.
func (it *Iter) Len() int {
	switch {
	case it.bad:
		return 0
	case it.tuple:
		return it.left
	case it.fixed < 0:
		return min(it.left, len(it.src))
	case it.fixed > 0:
		return min(it.left, len(it.src)/it.fixed)
	}
	return min(it.left, len(it.src)/4)
}

// Err returns a *MarshalError when the value ended early, its count is negative or, after the
// last element, bytes are left over.
func (it *Iter) Err() error {
	switch {
	case it.left < 0 && len(it.src) == 0:
		return marshalErrorf("The data cannot be deserialized as a %s", it.typ.collectionName())
	case it.left <= 0 && len(it.src) > 0 && (it.left < 0 || !it.bad):
		return it.typ.extraErr(len(it.src))
	case it.bad:
		return it.typ.shortErr()
	}
	return nil
}

func (t *Type) collectionName() string {
	switch t.Kind {
	case KindList:
		return "list"
	case KindSet:
		return "set"
	}
	return "map"
}

func (t *Type) shortErr() error {
	switch t.Kind {
	case KindList, KindSet, KindMap:
		return &MarshalError{"Not enough bytes to read a " + t.collectionName()}
	case KindVector:
		return marshalErrorf("Not enough bytes to read a %s", t)
	}
	return marshalErrorf("Not enough bytes to read a value of type %s", t)
}

func (t *Type) extraErr(n int) error {
	switch t.Kind {
	case KindList, KindSet, KindMap:
		return &MarshalError{"Unexpected extraneous bytes after " + t.collectionName() + " value"}
	case KindVector:
		return marshalErrorf("Unexpected %d extraneous bytes after %s value", n, t)
	case KindUDT:
		return &MarshalError{"Invalid remaining data after end of UDT value"}
	}
	return &MarshalError{"Invalid remaining data after end of tuple value"}
}

// AppendCollection appends the value of a list, set or map with these elements, a map's keys and
// values alternating; t must be a collection. Order and duplicates are the caller's: see SortElems.
func (t *Type) AppendCollection(dst []byte, elems [][]byte) []byte {
	n := len(elems)
	if t.Kind == KindMap {
		n /= 2
	}
	dst = AppendCount(dst, n)
	for _, e := range elems {
		dst = AppendElem(dst, e)
	}
	return dst
}

// AppendCount appends the element count that begins a list, set or map (a map's pairs count once).
func AppendCount(dst []byte, n int) []byte { return binary.BigEndian.AppendUint32(dst, uint32(n)) }

// AppendElem appends one element of a list, set, map, tuple or UDT with its length; nil is null.
func AppendElem(dst, elem []byte) []byte {
	if elem == nil {
		return append(dst, 0xFF, 0xFF, 0xFF, 0xFF)
	}
	return append(binary.BigEndian.AppendUint32(dst, uint32(len(elem))), elem...)
}

// AppendTuple appends the value of a tuple or UDT from its components; nil is null.
func AppendTuple(dst []byte, comps [][]byte) []byte {
	for _, c := range comps {
		dst = AppendElem(dst, c)
	}
	return dst
}

// AppendVector appends the value of the vector type t; elems are its Dim elements, none nil.
func (t *Type) AppendVector(dst []byte, elems [][]byte) []byte {
	fixed := t.Elems[0].FixedLen() > 0
	for _, e := range elems {
		if !fixed {
			dst = appendUvint(dst, uint64(len(e)))
		}
		dst = append(dst, e...)
	}
	return dst
}

// SortElems orders the elements of a set literal, or the alternating keys and values of a map
// literal, by t's comparator and drops duplicates: of equal elements and keys the first stays, of
// equal keys' values the last. It works in place and returns the shortened slice. A list stays as it is.
func (t *Type) SortElems(elems [][]byte) [][]byte {
	switch t.Kind {
	case KindSet:
		cmp := t.Elems[0].Compare
		slices.SortStableFunc(elems, cmp)
		return slices.CompactFunc(elems, func(a, b []byte) bool { return cmp(a, b) == 0 })
	case KindMap:
		return sortPairs(t.Elems[0], elems)
	}
	return elems
}

type pairSorter struct {
	key   *Type
	elems [][]byte
}

func (s pairSorter) Len() int           { return len(s.elems) / 2 }
func (s pairSorter) Less(i, j int) bool { return s.key.Compare(s.elems[2*i], s.elems[2*j]) < 0 }
func (s pairSorter) Swap(i, j int) {
	e := s.elems
	e[2*i], e[2*j] = e[2*j], e[2*i]
	e[2*i+1], e[2*j+1] = e[2*j+1], e[2*i+1]
}

func sortPairs(key *Type, elems [][]byte) [][]byte {
	sort.Stable(pairSorter{key, elems})
	n := 0
	for i := 0; i+1 < len(elems); i += 2 {
		if n > 0 && key.Compare(elems[n-2], elems[i]) == 0 {
			elems[n-1] = elems[i+1]
			continue
		}
		elems[n], elems[n+1] = elems[i], elems[i+1]
		n += 2
	}
	return elems[:n]
}

// Ordered returns a value, which has been validated, as Cassandra stores what it is given: the elements of sets and maps in
// order and each of them once, of equal map keys the last value, and so within lists, sets and maps, but not within
// tuples, UDTs and vectors. Values in order are returned as they are, without allocation.
func (t *Type) Ordered(v []byte) []byte {
	if len(v) == 0 || !t.unordered() || t.inOrder(v) {
		return v
	}
	var elems [][]byte
	it := t.Iter(v)
	for e, ok := it.Next(); ok; e, ok = it.Next() {
		elems = append(elems, t.Elems[len(elems)%len(t.Elems)].Ordered(e))
	}
	return t.AppendCollection(make([]byte, 0, len(v)), t.SortElems(elems))
}

// unordered reports whether a value of t can hold a set or map that is out of order.
func (t *Type) unordered() bool {
	switch t.Kind {
	case KindSet, KindMap:
		return true
	case KindList:
		return t.Elems[0].unordered()
	}
	return false
}

// inOrder reports whether the elements, of a map its keys, ascend, and are in order themselves.
func (t *Type) inOrder(v []byte) bool {
	if !t.unordered() {
		return true
	}
	var last []byte
	it := t.Iter(v)
	for i := 0; ; i++ {
		e, ok := it.Next()
		if !ok {
			return true
		}
		key := i%len(t.Elems) == 0
		if key && t.Kind != KindList && i > 0 && t.Elems[0].Compare(last, e) >= 0 {
			return false
		}
		if !t.Elems[i%len(t.Elems)].inOrder(e) {
			return false
		}
		if key {
			last = e
		}
	}
}
