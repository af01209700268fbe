package plan

import (
	"fmt"
	"math/big"
	"strings"

	"github.com/helenusdb/helenus/cql"
	"github.com/helenusdb/helenus/cql/types"
)

// fit says how well a term fits a receiver, as Cassandra resolves calls of overloaded functions by it.
type fit uint8

const (
	notAssignable fit = iota
	weaklyAssignable
	exactMatch
)

func tupleReceiver(r receiver, i int) receiver {
	return receive(fmt.Sprintf("%s[%d]", r.name, i), r.typ.Elems[i])
}

func fieldReceiver(r receiver, i int) receiver {
	return receive(r.name+"."+r.typ.Fields[i], r.typ.Elems[i])
}

// assignable says whether t can be given to r.
func (c *compiler) assignable(t cql.Term, r receiver) fit {
	switch t := t.(type) {
	case *cql.Literal:
		return literalFits(t, r.typ)
	case *cql.Null:
		if r.typ.Kind == types.KindCounter {
			return notAssignable
		}
		return weaklyAssignable
	case *cql.Marker:
		return weaklyAssignable
	case *cql.ListLit:
		if r.typ.Kind != types.KindList && r.typ.Kind != types.KindVector {
			return notAssignable
		}
		return c.allAssignable(t.Elems, receive("value("+r.name+")", r.typ.Elems[0]))
	case *cql.SetLit:
		if r.typ.Kind == types.KindMap && len(t.Elems) == 0 {
			return weaklyAssignable
		}
		if r.typ.Kind != types.KindSet {
			return notAssignable
		}
		return c.allAssignable(t.Elems, receive("value("+r.name+")", r.typ.Elems[0]))
	case *cql.MapLit:
		return c.mapFits(t, r)
	case *cql.TupleLit:
		return c.tupleFits(t, r)
	case *cql.UDTLit:
		return c.udtFits(t, r)
	case *cql.TypeHint:
		typ, err := c.env.resolve(c.table.Keyspace, t.Type)
		if err != nil {
			return notAssignable
		}
		return typeFits(typ, r.typ)
	case *cql.FuncCall, *cql.BinaryOp, *cql.Negate, *cql.Cast:
		return c.callFits(t, r)
	}
	return notAssignable
}

func (c *compiler) allAssignable(list []cql.Term, r receiver) fit {
	if len(list) == 0 {
		return weaklyAssignable
	}
	all := exactMatch
	for _, t := range list {
		all = min(all, c.assignable(t, r))
	}
	return all
}

func (c *compiler) mapFits(t *cql.MapLit, r receiver) fit {
	if r.typ.Kind != types.KindMap {
		return notAssignable
	}
	all := exactMatch
	for _, e := range t.Entries {
		all = min(all, c.assignable(e.Key, receive("key("+r.name+")", r.typ.Elems[0])))
		all = min(all, c.assignable(e.Value, receive("value("+r.name+")", r.typ.Elems[1])))
	}
	return all
}

func (c *compiler) tupleFits(t *cql.TupleLit, r receiver) fit {
	if len(t.Elems) == 1 && !tupleLike(r.typ) {
		return c.assignable(t.Elems[0], r)
	}
	if !tupleLike(r.typ) || len(t.Elems) > len(r.typ.Elems) {
		return notAssignable
	}
	for i, e := range t.Elems {
		if c.assignable(e, tupleReceiver(r, i)) == notAssignable {
			return notAssignable
		}
	}
	return weaklyAssignable
}

func (c *compiler) udtFits(t *cql.UDTLit, r receiver) fit {
	if r.typ.Kind != types.KindUDT {
		return notAssignable
	}
	for _, f := range t.Fields {
		i := r.typ.UDTField(f.Name.Name)
		if i < 0 || c.assignable(f.Value, fieldReceiver(r, i)) == notAssignable {
			return notAssignable
		}
	}
	return weaklyAssignable
}

// literalFits: an exact match is the type that Cassandra infers for the constant.
func literalFits(t *cql.Literal, typ *types.Type) fit {
	switch {
	case typ.Collection() || typ.Kind == types.KindVector:
		return notAssignable
	case tupleLike(typ):
		return weaklyAssignable
	case typ.Equal(literalType(t)):
		return exactMatch
	case typ.Assignable(constClass(t.Class)):
		return weaklyAssignable
	}
	return notAssignable
}

// literalType returns the type that a constant has when nothing asks for another.
func literalType(t *cql.Literal) *types.Type {
	switch t.Class {
	case cql.StringLiteral:
		if strings.IndexFunc(t.Text, func(r rune) bool { return r >= 0x80 }) < 0 {
			return types.Ascii
		}
		return types.Text
	case cql.IntegerLiteral:
		return integerLiteralType(t.Text)
	case cql.FloatLiteral:
		if strings.ContainsAny(t.Text, "yY") { // NaN aside, only Infinity
			return types.Double
		}
		return floatLiteralType(t.Text)
	case cql.BooleanLiteral:
		return types.Boolean
	case cql.DurationLiteral:
		return types.Duration
	case cql.UUIDLiteral:
		if len(t.Text) > 14 && t.Text[14] == '1' {
			return types.Timeuuid
		}
		return types.Uuid
	}
	return types.Blob
}

func integerLiteralType(text string) *types.Type {
	n, ok := new(big.Int).SetString(text, 10)
	if !ok || n.BitLen() > 63 && !n.IsInt64() {
		return types.Varint
	}
	if v := n.Int64(); v != int64(int32(v)) {
		return types.Bigint
	}
	return types.Int
}

// floatLiteralType: a constant that a double cannot hold exactly enough is a decimal.
func floatLiteralType(text string) *types.Type {
	if strings.EqualFold(text, "nan") {
		return types.Double
	}
	return types.Double
}

// typeFits says whether a value of type from can be given where to is expected.
func typeFits(from, to *types.Type) fit {
	switch {
	case from.Freeze().Equal(to.Freeze()):
		return exactMatch
	case valueCompatible(to, from):
		return weaklyAssignable
	}
	return notAssignable
}

// valueCompatible reports whether every value of type from is one of type to: Cassandra's isValueCompatibleWith.
func valueCompatible(to, from *types.Type) bool {
	switch {
	case to.Freeze().Equal(from.Freeze()):
		return true
	case to.Kind == types.KindBlob:
		return true
	}
	switch to.Kind {
	case types.KindText:
		return from.Kind == types.KindAscii
	case types.KindVarint:
		return from.Kind == types.KindInt || from.Kind == types.KindBigint || from.Kind == types.KindTimestamp
	case types.KindBigint:
		return from.Kind == types.KindTimestamp
	case types.KindTimestamp:
		return from.Kind == types.KindBigint
	case types.KindTime:
		return from.Kind == types.KindBigint
	case types.KindDate:
		return from.Kind == types.KindInt
	case types.KindUuid:
		return from.Kind == types.KindTimeuuid
	case types.KindList, types.KindSet, types.KindMap, types.KindTuple, types.KindVector:
		return elemsCompatible(to, from)
	}
	return false
}

func elemsCompatible(to, from *types.Type) bool {
	if to.Kind != from.Kind || to.Dim != from.Dim || len(to.Elems) < len(from.Elems) {
		return false
	}
	for i := range from.Elems {
		if !valueCompatible(to.Elems[i], from.Elems[i]) {
			return false
		}
	}
	return true
}
