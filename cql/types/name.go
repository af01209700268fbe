package types

import (
	"encoding/hex"
	"strconv"
	"strings"

	"github.com/helenusdb/helenus/internal/cqlident"
)

// native pairs a scalar with its CQL name and the class that stands for it in Cassandra.
type native struct {
	typ   *Type
	name  string
	class string
}

const marshalPackage = "org.apache.cassandra.db.marshal."

// nativeOf returns the entry of a scalar kind; ok is false for every other kind.
func nativeOf(k Kind) (native, bool) {
	switch k {
	case KindAscii:
		return native{Ascii, "ascii", "AsciiType"}, true
	case KindBigint:
		return native{Bigint, "bigint", "LongType"}, true
	case KindBlob:
		return native{Blob, "blob", "BytesType"}, true
	case KindBoolean:
		return native{Boolean, "boolean", "BooleanType"}, true
	case KindCounter:
		return native{Counter, "counter", "CounterColumnType"}, true
	case KindDate:
		return native{Date, "date", "SimpleDateType"}, true
	case KindDecimal:
		return native{Decimal, "decimal", "DecimalType"}, true
	case KindDouble:
		return native{Double, "double", "DoubleType"}, true
	case KindDuration:
		return native{Duration, "duration", "DurationType"}, true
	case KindEmpty:
		return native{Empty, "empty", "EmptyType"}, true
	case KindFloat:
		return native{Float, "float", "FloatType"}, true
	case KindInet:
		return native{Inet, "inet", "InetAddressType"}, true
	case KindInt:
		return native{Int, "int", "Int32Type"}, true
	case KindSmallint:
		return native{Smallint, "smallint", "ShortType"}, true
	case KindText:
		return native{Text, "text", "UTF8Type"}, true
	case KindTime:
		return native{Time, "time", "TimeType"}, true
	case KindTimestamp:
		return native{Timestamp, "timestamp", "TimestampType"}, true
	case KindTimeuuid:
		return native{Timeuuid, "timeuuid", "TimeUUIDType"}, true
	case KindTinyint:
		return native{Tinyint, "tinyint", "ByteType"}, true
	case KindUuid:
		return native{Uuid, "uuid", "UUIDType"}, true
	case KindVarint:
		return native{Varint, "varint", "IntegerType"}, true
	}
	return native{}, false
}

// Native returns the scalar type of a CQL name ("int", "varchar", ...), in lower case; false
// when there is none.
func Native(name string) (*Type, bool) {
	if name == "varchar" {
		return Text, true
	}
	for k := range KindVector + 2 {
		if n, ok := nativeOf(k); ok && n.name == name {
			return n.typ, true
		}
	}
	return nil, false
}

// OfClass returns the type that CQL writes as a quoted Java class: the scalar when the class is
// the one of a scalar (with or without its package), the custom type of that class otherwise.
func OfClass(class string) *Type {
	short := strings.TrimPrefix(class, marshalPackage)
	for k := range KindVector + 2 {
		if n, ok := nativeOf(k); ok && n.class == short && n.typ.Kind != KindEmpty {
			return n.typ
		}
	}
	return CustomOf(class)
}

// String returns the type as CQL, the way Cassandra prints it in system_schema: frozen
// collections and UDTs inside frozen<>, tuples always, a UDT by its name without its keyspace.
func (t *Type) String() string { return string(t.AppendName(nil)) }

// AppendName appends what String returns.
func (t *Type) AppendName(dst []byte) []byte {
	frozen := t.Kind == KindTuple || t.Frozen && (t.Collection() || t.Kind == KindUDT)
	if frozen {
		dst = append(dst, "frozen<"...)
	}
	switch t.Kind {
	case KindList:
		dst = t.appendParams(append(dst, "list<"...))
	case KindSet:
		dst = t.appendParams(append(dst, "set<"...))
	case KindMap:
		dst = t.appendParams(append(dst, "map<"...))
	case KindTuple:
		dst = t.appendParams(append(dst, "tuple<"...))
	case KindVector:
		dst = t.Elems[0].AppendName(append(dst, "vector<"...))
		dst = append(strconv.AppendInt(append(dst, ", "...), int64(t.Dim), 10), '>')
	case KindUDT:
		dst = append(dst, cqlident.QuoteIdent(t.Name)...)
	case KindCustom:
		dst = append(append(append(dst, '\''), strings.ReplaceAll(t.Class, "'", "''")...), '\'')
	default:
		n, _ := nativeOf(t.Kind)
		dst = append(dst, n.name...)
	}
	if frozen {
		dst = append(dst, '>')
	}
	return dst
}

func (t *Type) appendParams(dst []byte) []byte {
	for i, e := range t.Elems {
		if i > 0 {
			dst = append(dst, ", "...)
		}
		dst = e.AppendName(dst)
	}
	return append(dst, '>')
}

// JavaName returns the type as Cassandra's class expression, as the protocol spells custom types.
func (t *Type) JavaName() string { return string(t.appendJava(nil, false)) }

// appendJava leaves FrozenType out inside what is already frozen, as Cassandra does.
func (t *Type) appendJava(dst []byte, ignoreFreezing bool) []byte {
	if t.Kind == KindCustom {
		return append(dst, t.Class...)
	}
	if n, ok := nativeOf(t.Kind); ok {
		return append(append(dst, marshalPackage...), n.class...)
	}
	frozen := t.Frozen && (t.Collection() || t.Kind == KindUDT)
	wrap := frozen && !ignoreFreezing
	inner := ignoreFreezing || frozen || t.Kind == KindTuple
	if wrap {
		dst = append(append(dst, marshalPackage...), "FrozenType("...)
	}
	dst = append(dst, marshalPackage...)
	switch t.Kind {
	case KindList:
		dst = t.appendJavaParams(append(dst, "ListType("...), inner)
	case KindSet:
		dst = t.appendJavaParams(append(dst, "SetType("...), inner)
	case KindMap:
		dst = t.appendJavaParams(append(dst, "MapType("...), inner)
	case KindTuple:
		dst = t.appendJavaParams(append(dst, "TupleType("...), inner)
	case KindVector:
		dst = t.Elems[0].appendJava(append(dst, "VectorType("...), ignoreFreezing)
		dst = strconv.AppendInt(append(dst, " , "...), int64(t.Dim), 10)
	case KindUDT:
		dst = append(append(dst, "UserType("...), t.Keyspace...)
		dst = hex.AppendEncode(append(dst, ','), []byte(t.Name))
		for i, e := range t.Elems {
			dst = hex.AppendEncode(append(dst, ','), []byte(t.Fields[i]))
			dst = e.appendJava(append(dst, ':'), inner)
		}
	}
	dst = append(dst, ')')
	if wrap {
		dst = append(dst, ')')
	}
	return dst
}

func (t *Type) appendJavaParams(dst []byte, ignoreFreezing bool) []byte {
	for i, e := range t.Elems {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = e.appendJava(dst, ignoreFreezing)
	}
	return dst
}
