package plan

import (
	"slices"
	"strings"

	"github.com/helenusdb/helenus/cql"
	"github.com/helenusdb/helenus/cql/protocol"
	"github.com/helenusdb/helenus/cql/types"
	"github.com/helenusdb/helenus/ring"
)

const systemKeyspace = "system"

// native makes a scalar function; a null argument makes the result null.
func native(name string, ret *types.Type, exec func(sc *scope, args [][]byte) ([]byte, error), args ...*types.Type) *function {
	return &function{keyspace: systemKeyspace, name: name, args: args, ret: ret, exec: exec}
}

// candidates returns the functions that ce's name means, in Cassandra's order; for the generic ones the signature that fits
// the arguments.
func (c *compiler) candidates(ce callee, ret *types.Type, at argTester) ([]*function, error) {
	if ce.keyspace != "" && ce.keyspace != systemKeyspace {
		return nil, nil
	}
	switch ce.name {
	case "token":
		return []*function{c.tokenFunction()}, nil
	case "tojson", "to_json", "fromjson", "from_json":
		return nil, notYet("JSON functions")
	}
	if strings.HasPrefix(ce.name, "mask_") || strings.HasPrefix(ce.name, "similarity_") {
		return nil, notYet("function " + ce.name)
	}
	for _, family := range [...]func(name string) []*function{timeFunctions, uuidFunctions, blobFunctions, mathFunctions, operatorFunctions, castFunctions, numberAggregates} {
		if list := family(ce.name); list != nil {
			return list, nil
		}
	}
	return c.genericFunctions(ce, at)
}

func (c *compiler) tokenFunction() *function {
	args := make([]*types.Type, len(c.table.PartitionKey))
	for i, col := range c.table.PartitionKey {
		args[i] = col.Type
	}
	part := c.env.Partitioner
	return native("token", types.Bigint, func(sc *scope, args [][]byte) ([]byte, error) {
		return types.EncodeBigint(int64(part.Token(ring.AppendCompositeKey(nil, args)))), nil
	}, args...)
}

// genericFunctions are those whose argument can be of many types.
func (c *compiler) genericFunctions(ce callee, at argTester) ([]*function, error) {
	var make func(t *types.Type) *function
	var accepts func(t *types.Type) bool
	var what string
	switch ce.name {
	case "count":
		return c.countFunctions(ce, at), nil
	case "min", "max":
		make, accepts, what = aggregateOf(ce.name), func(*types.Type) bool { return true }, "any"
	case "map_keys", "map_values":
		make, accepts, what = mapFunction(ce.name), func(t *types.Type) bool { return t.Kind == types.KindMap }, "map"
	case "collection_count":
		make, accepts, what = countFunction, (*types.Type).Collection, "collection"
	case "collection_min", "collection_max":
		make, accepts, what = collectionAggregate(ce.name), listOrSet, "set or list"
	case "collection_sum", "collection_avg":
		make, accepts, what = collectionAggregate(ce.name), numericListOrSet, "numeric set/list"
	default:
		return nil, nil
	}
	if len(ce.args) != 1 {
		return nil, invalid("Invalid number of arguments for function system.%s(%s)", ce.name, what)
	}
	t := at.typeOf(ce.args[0])
	switch {
	case t == nil && at.problem(ce.args[0]) != nil:
		return nil, at.problem(ce.args[0])
	case t == nil:
		return nil, invalid("Cannot infer type of argument %s in call to function system.%s(%s): use type casts to disambiguate",
			at.text(ce.args[0]), ce.name, what)
	case !accepts(t):
		return nil, invalid("Function %s requires a %s argument, but found argument %s of type %s", "system."+ce.name, what, at.text(ce.args[0]), t)
	}
	return []*function{make(t)}, nil
}

// countFunctions is count of any type; of what has no type, of a blob.
func (c *compiler) countFunctions(ce callee, at argTester) []*function {
	t := types.Blob
	if len(ce.args) == 1 {
		if u := at.typeOf(ce.args[0]); u != nil {
			t = u
		}
	}
	return []*function{aggregateOf("count")(t)}
}

func listOrSet(t *types.Type) bool { return t.Kind == types.KindList || t.Kind == types.KindSet }

func numericListOrSet(t *types.Type) bool { return listOrSet(t) && numeric(t.Elems[0]) }

func numeric(t *types.Type) bool { return slices.Contains(numericTypes(), t) }

// numericTypes returns the numeric types in Cassandra's order.
func numericTypes() []*types.Type {
	return []*types.Type{types.Tinyint, types.Smallint, types.Int, types.Bigint, types.Float, types.Double, types.Decimal, types.Varint, types.Counter}
}

func aggregateOf(name string) func(t *types.Type) *function {
	return func(t *types.Type) *function {
		f := &function{keyspace: systemKeyspace, name: name, args: []*types.Type{t}, ret: t}
		switch name {
		case "count":
			f.aggregate, f.ret = aggCount, types.Bigint
		case "min":
			f.aggregate = aggMin
		default:
			f.aggregate = aggMax
		}
		return f
	}
}

// numberAggregates are sum and avg.
func numberAggregates(name string) []*function {
	kind := aggSum
	switch name {
	case "avg":
		kind = aggAvg
	case "sum":
	default:
		return nil
	}
	var out []*function
	for _, t := range numericTypes() {
		out = append(out, &function{keyspace: systemKeyspace, name: name, args: []*types.Type{t}, ret: t, aggregate: kind})
	}
	return out
}

func uuidFunctions(name string) []*function {
	if name != "uuid" {
		return nil
	}
	return []*function{native(name, types.Uuid, func(sc *scope, _ [][]byte) ([]byte, error) {
		u := sc.args.NewUUID()
		return sc.mem.copy(u[:]), nil
	})}
}

// blobFunctions are text_as_blob, blob_as_text and so on, and their older names.
func blobFunctions(name string) []*function {
	pass := func(_ *scope, args [][]byte) ([]byte, error) { return args[0], nil }
	base, ok := strings.CutSuffix(name, "_as_blob")
	if !ok {
		base, ok = strings.CutSuffix(name, "asblob")
	}
	if t := blobType(base); ok && t != nil {
		return []*function{native(name, types.Blob, pass, t)}
	}
	base, ok = strings.CutPrefix(name, "blob_as_")
	if !ok {
		base, ok = strings.CutPrefix(name, "blobas")
	}
	t := blobType(base)
	if !ok || t == nil {
		return nil
	}
	return []*function{native(name, t, func(_ *scope, args [][]byte) ([]byte, error) {
		if err := t.Validate(args[0]); err != nil {
			return nil, &Error{Code: protocol.CodeInvalid, Msg: "In call to function system." + name + ", value 0x" + hexText(args[0]) + " is not a valid binary representation for type " + base}
		}
		return args[0], nil
	}, types.Blob)}
}

func blobType(name string) *types.Type {
	if name == "blob" || name == "" {
		return nil
	}
	if name == "varchar" {
		return types.Text
	}
	t, ok := types.Native(name)
	if !ok {
		return nil
	}
	return t
}

const hexDigits = "0123456789abcdef"

func hexText(v []byte) string {
	b := make([]byte, 0, 2*len(v))
	for _, x := range v {
		b = append(b, hexDigits[x>>4], hexDigits[x&15])
	}
	return string(b)
}

func mapFunction(name string) func(t *types.Type) *function {
	return func(t *types.Type) *function {
		keys := name == "map_keys"
		ret := types.ListOf(t.Elems[1], true)
		if keys {
			ret = types.SetOf(t.Elems[0], true)
		}
		return native(name, ret, func(_ *scope, args [][]byte) ([]byte, error) {
			var elems [][]byte
			it := t.Iter(args[0])
			for i := 0; ; i++ {
				e, ok := it.Next()
				if !ok {
					return ret.AppendCollection(nil, elems), nil
				}
				if (i%2 == 0) == keys {
					elems = append(elems, e)
				}
			}
		}, t)
	}
}

func countFunction(t *types.Type) *function {
	return native("collection_count", types.Int, func(_ *scope, args [][]byte) ([]byte, error) {
		it := t.Iter(args[0])
		n := 0
		for _, ok := it.Next(); ok; _, ok = it.Next() {
			n++
		}
		if t.Kind == types.KindMap {
			n /= 2
		}
		return types.EncodeInt(int32(n)), nil
	}, t)
}

// collectionAggregate is an aggregate over the elements of one collection.
func collectionAggregate(name string) func(t *types.Type) *function {
	return func(t *types.Type) *function {
		elem := t.Elems[0]
		agg := &function{keyspace: systemKeyspace, args: []*types.Type{elem}, ret: elem}
		switch name {
		case "collection_min":
			agg.aggregate = aggMin
		case "collection_max":
			agg.aggregate = aggMax
		case "collection_sum":
			agg.aggregate = aggSum
		default:
			agg.aggregate = aggAvg
		}
		return native(name, elem, func(_ *scope, args [][]byte) ([]byte, error) {
			var st aggState
			it := t.Iter(args[0])
			for e, ok := it.Next(); ok; e, ok = it.Next() {
				if e == nil {
					continue
				}
				if err := st.addValue(agg, e); err != nil {
					return nil, err
				}
			}
			return st.result(agg)
		}, t)
	}
}

// castFunctions are the functions behind CAST(x AS type), named after the type.
func castFunctions(name string) []*function {
	to, ok := strings.CutPrefix(name, "cast_as_")
	if !ok {
		return nil
	}
	ret, ok := types.Native(to)
	if !ok {
		return nil
	}
	var out []*function
	for _, from := range castSources(ret) {
		out = append(out, native(name, ret, castExec(from, ret), from))
	}
	return out
}

// castSources returns the types that can be cast to ret.
func castSources(ret *types.Type) []*types.Type {
	switch ret.Kind {
	case types.KindTinyint, types.KindSmallint, types.KindInt, types.KindBigint, types.KindFloat, types.KindDouble, types.KindDecimal, types.KindVarint:
		return slices.DeleteFunc(numericTypes(), func(t *types.Type) bool { return t == ret })
	case types.KindText, types.KindAscii:
		out := append(numericTypes(), types.Boolean, types.Timeuuid, types.Uuid, types.Inet, types.Date, types.Time, types.Timestamp)
		if ret.Kind == types.KindText {
			out = append(out, types.Ascii)
		}
		return out
	case types.KindDate:
		return []*types.Type{types.Timeuuid, types.Timestamp}
	case types.KindTimestamp:
		return []*types.Type{types.Timeuuid, types.Date}
	}
	return nil
}

func castExec(from, to *types.Type) func(sc *scope, args [][]byte) ([]byte, error) {
	switch to.Kind {
	case types.KindText, types.KindAscii:
		return func(_ *scope, args [][]byte) ([]byte, error) { return from.AppendString(nil, args[0]), nil }
	case types.KindDate, types.KindTimestamp:
		return func(_ *scope, args [][]byte) ([]byte, error) {
			if len(args[0]) != timeLen(from) {
				return nil, nil
			}
			return timeConversion(from, to, args[0]), nil
		}
	}
	return func(_ *scope, args [][]byte) ([]byte, error) {
		n, ok, err := operand(from, args[0])
		if !ok || err != nil {
			return nil, err
		}
		if why := n.noDecimal(to); why != "" {
			return nil, invalid("%s", why)
		}
		if from.Kind == types.KindFloat && to.Kind == types.KindDecimal {
			return decimalOfText(from, args[0]).encode(), nil // its own digits, not those of the double it equals
		}
		return encodeNumber(to, n.convert(to)), nil
	}
}

// castSelector compiles CAST(arg AS type).
func (c *selectCompiler) castSelector(t *cql.Cast) (term, *types.Type, error) {
	to, err := c.env.resolve(c.table.Keyspace, t.Type)
	if err != nil {
		return nil, nil, err
	}
	arg, from, err := c.selector(t.Arg, nil)
	if err != nil {
		return nil, nil, err
	}
	if from.Equal(to) {
		return arg, to, nil
	}
	fn, err := c.resolve(calleeOf(t), nil, selectorArgs{c})
	switch {
	case err != nil:
		return nil, nil, err
	case fn == nil:
		return nil, nil, invalid("%s cannot be cast to %s", c.text(t.Arg), to)
	}
	return &callTerm{fn, []term{arg}}, to, nil
}
