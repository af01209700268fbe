package types

import (
	"slices"
	"strconv"
)

// Kind says which family a type belongs to. Its number is the option id of the native
// protocol (v5 spec section 4.2.5.2), except for Vector and Empty, which are internal and
// travel as custom types.
type Kind uint8

// The kinds.
const (
	KindCustom    Kind = 0x00
	KindAscii     Kind = 0x01
	KindBigint    Kind = 0x02
	KindBlob      Kind = 0x03
	KindBoolean   Kind = 0x04
	KindCounter   Kind = 0x05
	KindDecimal   Kind = 0x06
	KindDouble    Kind = 0x07
	KindFloat     Kind = 0x08
	KindInt       Kind = 0x09
	KindTimestamp Kind = 0x0B
	KindUuid      Kind = 0x0C
	KindText      Kind = 0x0D
	KindVarint    Kind = 0x0E
	KindTimeuuid  Kind = 0x0F
	KindInet      Kind = 0x10
	KindDate      Kind = 0x11
	KindTime      Kind = 0x12
	KindSmallint  Kind = 0x13
	KindTinyint   Kind = 0x14
	KindDuration  Kind = 0x15
	KindList      Kind = 0x20
	KindMap       Kind = 0x21
	KindSet       Kind = 0x22
	KindUDT       Kind = 0x30
	KindTuple     Kind = 0x31
	KindVector    Kind = 0xF0
	KindEmpty     Kind = 0xF1
)

// Type describes one CQL type. It is immutable once built and safe for concurrent use;
// build it with the constructors, compare it with Equal, never with ==.
type Type struct {
	Kind   Kind
	Frozen bool     // meaningful for list, set, map and UDT; true for tuple and vector
	Elems  []*Type  // list, set, vector: 1; map: key, value; tuple: its components; UDT: its field types
	Name   string   // UDT: its name without quotes
	Fields []string // UDT: its field names, in the order of Elems

	Keyspace string // UDT: its keyspace
	Dim      int    // vector: number of elements, >= 1
	Class    string // custom: the Java class name
}

// The native scalars.
var (
	Ascii     = &Type{Kind: KindAscii}
	Bigint    = &Type{Kind: KindBigint}
	Blob      = &Type{Kind: KindBlob}
	Boolean   = &Type{Kind: KindBoolean}
	Counter   = &Type{Kind: KindCounter}
	Date      = &Type{Kind: KindDate}
	Decimal   = &Type{Kind: KindDecimal}
	Double    = &Type{Kind: KindDouble}
	Duration  = &Type{Kind: KindDuration}
	Empty     = &Type{Kind: KindEmpty}
	Float     = &Type{Kind: KindFloat}
	Inet      = &Type{Kind: KindInet}
	Int       = &Type{Kind: KindInt}
	Smallint  = &Type{Kind: KindSmallint}
	Text      = &Type{Kind: KindText}
	Time      = &Type{Kind: KindTime}
	Timestamp = &Type{Kind: KindTimestamp}
	Timeuuid  = &Type{Kind: KindTimeuuid}
	Tinyint   = &Type{Kind: KindTinyint}
	Uuid      = &Type{Kind: KindUuid}
	Varint    = &Type{Kind: KindVarint}
)

// Scalar returns the type of a kind that has no parameters, nil for kinds that have some.
func Scalar(k Kind) *Type {
	switch k {
	case KindAscii:
		return Ascii
	case KindBigint:
		return Bigint
	case KindBlob:
		return Blob
	case KindBoolean:
		return Boolean
	case KindCounter:
		return Counter
	case KindDecimal:
		return Decimal
	case KindDouble:
		return Double
	case KindFloat:
		return Float
	case KindInt:
		return Int
	case KindTimestamp:
		return Timestamp
	case KindUuid:
		return Uuid
	case KindText:
		return Text
	case KindVarint:
		return Varint
	case KindTimeuuid:
		return Timeuuid
	case KindInet:
		return Inet
	case KindDate:
		return Date
	case KindTime:
		return Time
	case KindSmallint:
		return Smallint
	case KindTinyint:
		return Tinyint
	case KindDuration:
		return Duration
	case KindEmpty:
		return Empty
	}
	return nil
}

// ListOf returns list<e>. A frozen list freezes its element type too.
func ListOf(e *Type, frozen bool) *Type {
	return &Type{Kind: KindList, Frozen: frozen, Elems: frozenElems(frozen, e)}
}

// SetOf returns set<e>. A frozen set freezes its element type too.
func SetOf(e *Type, frozen bool) *Type {
	return &Type{Kind: KindSet, Frozen: frozen, Elems: frozenElems(frozen, e)}
}

// MapOf returns map<k, v>. A frozen map freezes both types too.
func MapOf(k, v *Type, frozen bool) *Type {
	return &Type{Kind: KindMap, Frozen: frozen, Elems: frozenElems(frozen, k, v)}
}

// TupleOf returns tuple<elems...>, which is always frozen.
func TupleOf(elems ...*Type) *Type {
	return &Type{Kind: KindTuple, Frozen: true, Elems: frozenElems(true, elems...)}
}

// UDTOf returns the user-defined type ks.name; fields and fieldTypes have equal length.
// It keeps both slices. A frozen UDT freezes its field types too.
func UDTOf(ks, name string, fields []string, fieldTypes []*Type, frozen bool) *Type {
	if len(fields) != len(fieldTypes) {
		panic("types: UDTOf: as many field names as field types are needed")
	}
	return &Type{Kind: KindUDT, Frozen: frozen, Keyspace: ks, Name: name, Fields: fields,
		Elems: frozenElems(frozen, fieldTypes...)}
}

// VectorOf returns vector<e, dim>, which is always frozen. dim is at least 1.
func VectorOf(e *Type, dim int) *Type {
	if dim < 1 {
		panic("types: VectorOf: dimension " + strconv.Itoa(dim))
	}
	return &Type{Kind: KindVector, Frozen: true, Dim: dim, Elems: frozenElems(true, e)}
}

// CustomOf returns the custom type of a Java class. Its values are opaque bytes in byte order.
func CustomOf(class string) *Type { return &Type{Kind: KindCustom, Class: class} }

func frozenElems(frozen bool, elems ...*Type) []*Type {
	if !frozen || !slices.ContainsFunc(elems, func(e *Type) bool { return e.Freeze() != e }) {
		return elems
	}
	out := make([]*Type, len(elems))
	for i, e := range elems {
		out[i] = e.Freeze()
	}
	return out
}

// Freeze returns the frozen form of t, with everything inside it frozen; t itself when it is
// already so or is a scalar.
func (t *Type) Freeze() *Type {
	switch t.Kind {
	case KindList, KindSet, KindMap, KindUDT:
	default:
		return t
	}
	if t.Frozen {
		return t
	}
	f := *t
	f.Frozen = true
	f.Elems = frozenElems(true, t.Elems...)
	return &f
}

// MultiCell reports whether a column of this type is stored as several cells: an unfrozen
// list, set, map or UDT.
func (t *Type) MultiCell() bool {
	switch t.Kind {
	case KindList, KindSet, KindMap, KindUDT:
		return !t.Frozen
	}
	return false
}

// Collection reports whether t is a list, set or map.
func (t *Type) Collection() bool {
	return t.Kind == KindList || t.Kind == KindSet || t.Kind == KindMap
}

// Counter reports whether t is the counter type.
func (t *Type) Counter() bool { return t.Kind == KindCounter }

// Equal reports whether both types are the same, frozenness and UDT fields included.
func (t *Type) Equal(o *Type) bool {
	if t == o {
		return true
	}
	if t == nil || o == nil || t.Kind != o.Kind || t.Frozen != o.Frozen || t.Dim != o.Dim ||
		t.Keyspace != o.Keyspace || t.Name != o.Name || t.Class != o.Class {
		return false
	}
	return slices.Equal(t.Fields, o.Fields) &&
		slices.EqualFunc(t.Elems, o.Elems, func(a, b *Type) bool { return a.Equal(b) })
}

// UDTField returns the index of a UDT's field, -1 when there is none of that name.
func (t *Type) UDTField(name string) int { return slices.Index(t.Fields, name) }

// References reports whether t is or contains the user-defined type ks.name.
func (t *Type) References(ks, name string) bool {
	if t.Kind == KindUDT && t.Keyspace == ks && t.Name == name {
		return true
	}
	return slices.ContainsFunc(t.Elems, func(e *Type) bool { return e.References(ks, name) })
}
