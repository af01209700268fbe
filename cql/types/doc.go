// Package types is the CQL type system: what a value of each type looks like in
// bytes, when bytes are legal, how two values compare, which order-preserving key
// component stands for a value, and how a value reads as CQL text.
//
// A *Type is immutable and shared by pointer; compare types with Equal. Native
// scalars are package variables (Int, Text, Timeuuid, ...); the others come from
// ListOf, SetOf, MapOf, TupleOf, UDTOf, VectorOf, CustomOf and Parse.
//
// Values are the native protocol's serialized forms, v3 and later: a []byte that is
// not nil. A null is the absence of a value and never reaches Validate, Compare or
// AppendKey; inside tuples, UDTs and collections it is the length -1, and the
// iterators return it as a nil slice. An empty value (zero bytes) is a value of its
// own where Cassandra allows one.
//
// Behaviour follows Apache Cassandra 5.0 (org.apache.cassandra.db.marshal and
// .serializers), error texts included. docs/format/key-components.md draws the key
// component encoding.
package types
