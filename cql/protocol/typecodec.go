package protocol

import (
	"strconv"
	"strings"

	"github.com/helenusdb/helenus/cql/types"
)

const marshalPrefix = "org.apache.cassandra.db.marshal."

// AppendType appends an [option] that describes t. What version v has no option id for (date,
// time, smallint, tinyint in v3; duration before v5; vectors in all) goes as a custom type under
// its Java class name.
func AppendType(dst []byte, v Version, t *types.Type) []byte {
	if !native(v, t.Kind) {
		return AppendString(appendU16(dst, int(types.KindCustom)), t.JavaName())
	}
	dst = appendU16(dst, int(t.Kind))
	switch t.Kind {
	case types.KindUDT:
		return appendUDT(dst, v, t)
	case types.KindTuple:
		dst = appendU16(dst, len(t.Elems))
	}
	for _, e := range t.Elems {
		dst = AppendType(dst, v, e)
	}
	return dst
}

func native(v Version, k types.Kind) bool {
	switch k {
	case types.KindDate, types.KindTime, types.KindSmallint, types.KindTinyint:
		return v >= V4
	case types.KindDuration:
		return v >= V5
	case types.KindCustom, types.KindVector, types.KindEmpty:
		return false
	}
	return true
}

func appendUDT(dst []byte, v Version, t *types.Type) []byte {
	dst = AppendString(AppendString(dst, t.Keyspace), t.Name)
	dst = appendU16(dst, len(t.Fields))
	for i, f := range t.Fields {
		dst = AppendType(AppendString(dst, f), v, t.Elems[i])
	}
	return dst
}

// textAlias is the option id of text in protocol v1 and v2.
const textAlias types.Kind = 0x0A

// scalarOf returns the type without parameters that has this option id, nil if there is none.
func scalarOf(kind types.Kind) *types.Type {
	switch kind {
	case textAlias:
		return types.Text
	case types.KindEmpty: // travels as a custom type
		return nil
	}
	return types.Scalar(kind)
}

// option reads an [option]. Collections and UDTs come back unfrozen, because the wire does not
// tell.
func (c *cursor) option(depth int) *types.Type {
	if depth > typeDepthMax {
		c.fail("Type nested deeper than %d", typeDepthMax)
		return nil
	}
	id := c.u16("a type")
	if id > 0xff {
		c.fail("Unknown type id 0x%04x", id)
		return nil
	}
	switch types.Kind(id) {
	case types.KindCustom:
		return customType(c.string())
	case types.KindList:
		return types.ListOf(c.option(depth+1), false)
	case types.KindSet:
		return types.SetOf(c.option(depth+1), false)
	case types.KindMap:
		return types.MapOf(c.option(depth+1), c.option(depth+1), false)
	case types.KindUDT:
		return c.udt(depth)
	case types.KindTuple:
		return c.tuple(depth)
	}
	if t := scalarOf(types.Kind(id)); t != nil {
		return t
	}
	c.fail("Unknown type id 0x%04x", id)
	return nil
}

func (c *cursor) udt(depth int) *types.Type {
	ks, name := c.string(), c.string()
	n := c.count(4, "fields")
	var fields []string
	var elems []*types.Type
	for i := 0; i < n && c.err == nil; i++ {
		fields = append(fields, c.string())
		elems = append(elems, c.option(depth+1))
	}
	if c.err != nil {
		return nil
	}
	return types.UDTOf(ks, name, fields, elems, false)
}

func (c *cursor) tuple(depth int) *types.Type {
	n := c.count(2, "components")
	var elems []*types.Type
	for i := 0; i < n && c.err == nil; i++ {
		elems = append(elems, c.option(depth+1))
	}
	if c.err != nil {
		return nil
	}
	return types.TupleOf(elems...)
}

// customType returns the CQL type behind a Java class name: the scalars that older versions have
// no id for, and vectors of scalars or vectors. Everything else stays custom.
func customType(class string) *types.Type {
	if t, rest := parseClass(class, 0); t != nil && rest == "" {
		return t
	}
	return types.CustomOf(class)
}

func parseClass(s string, depth int) (t *types.Type, rest string) {
	if depth > typeDepthMax {
		return nil, s
	}
	s = strings.TrimPrefix(s, marshalPrefix)
	if inner, ok := strings.CutPrefix(s, "VectorType("); ok {
		elem, rest := parseClass(inner, depth+1)
		rest, ok := strings.CutPrefix(strings.TrimLeft(rest, " "), ",")
		dim, rest, closed := strings.Cut(rest, ")")
		n, err := strconv.ParseUint(strings.TrimSpace(dim), 10, 16)
		if elem == nil || !ok || !closed || err != nil || n < 1 {
			return nil, s
		}
		return types.VectorOf(elem, int(n)), rest
	}
	end := strings.IndexAny(s, " ,()")
	if end < 0 {
		end = len(s)
	}
	return scalarClass(s[:end]), s[end:]
}

func scalarClass(name string) *types.Type {
	switch name {
	case "SimpleDateType":
		return types.Date
	case "TimeType":
		return types.Time
	case "ShortType":
		return types.Smallint
	case "ByteType":
		return types.Tinyint
	case "DurationType":
		return types.Duration
	case "EmptyType":
		return types.Empty
	case "AsciiType":
		return types.Ascii
	case "LongType":
		return types.Bigint
	case "BytesType":
		return types.Blob
	case "BooleanType":
		return types.Boolean
	case "CounterColumnType":
		return types.Counter
	case "DecimalType":
		return types.Decimal
	case "DoubleType":
		return types.Double
	case "FloatType":
		return types.Float
	case "Int32Type":
		return types.Int
	case "TimestampType":
		return types.Timestamp
	case "UUIDType":
		return types.Uuid
	case "UTF8Type":
		return types.Text
	case "IntegerType":
		return types.Varint
	case "TimeUUIDType":
		return types.Timeuuid
	case "InetAddressType":
		return types.Inet
	}
	return nil
}

// DecodeType decodes an [option] and returns what follows it. Frozenness is not on the wire:
// collections and UDTs come back unfrozen. Error: *Error.
func DecodeType(src []byte) (t *types.Type, rest []byte, err error) {
	c := cursor{rest: src}
	t = c.option(0)
	if c.err != nil {
		return nil, nil, c.err
	}
	return t, c.rest, nil
}
