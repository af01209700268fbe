package plan

import (
	"strconv"
	"strings"

	"github.com/helenusdb/helenus/cql"
	"github.com/helenusdb/helenus/cql/protocol"
	"github.com/helenusdb/helenus/cql/types"
)

// function is one signature of a native function.
type function struct {
	keyspace  string // "system"
	name      string
	args      []*types.Type
	ret       *types.Type
	aggregate aggregateKind // 0: scalar
	nulls     bool          // exec sees nulls; otherwise one null argument makes the result null
	// exec computes the result; nil is null. args alias what they came from.
	exec func(sc *scope, args [][]byte) ([]byte, error)
}

// String returns the signature as Cassandra lists it: "system.max : (int) -> int".
func (f *function) String() string {
	names := make([]string, len(f.args))
	for i, t := range f.args {
		names[i] = t.String()
	}
	return f.keyspace + "." + cql.QuoteIdent(f.name) + " : (" + strings.Join(names, ", ") + ") -> " + f.ret.String()
}

func (f *function) qualified() string { return f.keyspace + "." + f.name }

// callTerm is a call of a scalar function.
type callTerm struct {
	fn   *function
	args []term
}

func (t *callTerm) eval(sc *scope) (protocol.Value, error) {
	var room [4][]byte
	args := room[:0]
	for i, a := range t.args {
		v, err := a.eval(sc)
		if err != nil {
			return v, err
		}
		switch {
		case v.State == protocol.Unset:
			return v, invalid("Invalid unset value for argument in call to function %s", t.fn.name)
		case v.State == protocol.Set:
			args = append(args, v.Bytes)
		case t.fn.nulls:
			args = append(args, nil)
		default:
			for _, rest := range t.args[i+1:] { // their errors come first
				if v, err := rest.eval(sc); err != nil {
					return v, err
				}
			}
			return nullValue(), nil
		}
	}
	b, err := t.fn.exec(sc, args)
	if err != nil || b == nil {
		return nullValue(), err
	}
	return setValue(b), nil
}

// callee names a function and the arguments of a call: operators are calls of functions too.
type callee struct {
	keyspace string
	name     string
	args     []cql.Term
	text     cql.Term
	operator byte // 0: none; 'n': negation; 'c': cast
}

func calleeOf(t cql.Term) callee {
	switch t := t.(type) {
	case *cql.FuncCall:
		return callee{keyspace: t.Name.Keyspace.Name, name: t.Name.Name.Name, args: t.Args, text: t}
	case *cql.BinaryOp:
		return callee{name: operatorFunction(t.Op), args: []cql.Term{t.Left, t.Right}, text: t, operator: t.Op}
	case *cql.Negate:
		return callee{name: "_negate", args: []cql.Term{t.Arg}, text: t, operator: 'n'}
	}
	if t, ok := t.(*cql.Cast); ok {
		return callee{name: "cast_as_" + t.Type.Name, args: []cql.Term{t.Arg}, text: t, operator: 'c'}
	}
	return callee{}
}

// arithmetic reports whether the call was written as a binary operator.
func (ce *callee) arithmetic() bool { return len(ce.args) == 2 && ce.operator != 0 }

func operatorFunction(op byte) string {
	switch op {
	case '+':
		return "_add"
	case '-':
		return "_substract"
	case '*':
		return "_multiply"
	case '/':
		return "_divide"
	}
	return "_modulo"
}

// argReceiver is the receiver of argument i of fn.
func (f *function) argReceiver(i int) receiver {
	return receive("arg"+strconv.Itoa(i)+"("+strings.ToLower(f.qualified())+")", f.args[i])
}

// call compiles a call whose result goes to r.
func (c *compiler) call(t cql.Term, r receiver) (term, error) {
	ce := calleeOf(t)
	fn, err := c.resolve(ce, r.typ, termArgs{c})
	switch {
	case err != nil:
		return nil, err
	case fn == nil:
		return nil, invalid("Unknown function %s called", ce.display())
	case fn.aggregate != 0:
		return nil, invalid("Aggregation function are not supported in the where clause")
	}
	if typeFits(fn.ret, r.typ) == notAssignable {
		if ce.arithmetic() {
			return nil, invalid("Type error: cannot assign result of operation %s (type %s) to %s (type %s)",
				string(ce.operator), fn.ret, r.name, r.typ)
		}
		return nil, invalid("Type error: cannot assign result of function %s (type %s) to %s (type %s)",
			fn.qualified(), fn.ret, r.name, r.typ)
	}
	args := make([]term, len(ce.args))
	for i, a := range ce.args {
		if args[i], err = c.term(a, fn.argReceiver(i)); err != nil {
			return nil, err
		}
	}
	return &callTerm{fn, args}, nil
}

// display names the function as it was called; operators and casts have names of their own.
func (ce *callee) display() string {
	switch {
	case ce.keyspace != "":
		return ce.keyspace + "." + ce.name
	case ce.operator != 0:
		return systemKeyspace + "." + ce.name
	}
	return ce.name
}

func (c *compiler) callFits(t cql.Term, r receiver) fit {
	fn, err := c.resolve(calleeOf(t), r.typ, termArgs{c})
	if err != nil || fn == nil {
		return weaklyAssignable // the call itself will say what is wrong
	}
	return typeFits(fn.ret, r.typ)
}

// argTester says how arguments fit: terms and selectors differ.
type argTester interface {
	fits(t cql.Term, r receiver) fit
	text(t cql.Term) string
	typeOf(t cql.Term) *types.Type // nil: it has none of its own
	problem(t cql.Term) error      // why it has none
}

type termArgs struct{ c *compiler }

func (a termArgs) fits(t cql.Term, r receiver) fit { return a.c.assignable(t, r) }
func (a termArgs) text(t cql.Term) string          { return cql.Format(t) }

func (a termArgs) problem(cql.Term) error { return nil }

func (a termArgs) typeOf(t cql.Term) *types.Type {
	switch t := t.(type) {
	case *cql.Literal:
		return literalType(t)
	case *cql.TypeHint:
		typ, _ := a.c.env.resolve(a.c.table.Keyspace, t.Type)
		return typ
	case *cql.FuncCall, *cql.BinaryOp, *cql.Negate, *cql.Cast:
		if fn, err := a.c.resolve(calleeOf(t), nil, a); err == nil && fn != nil {
			return fn.ret
		}
	}
	return a.collectionType(t)
}

// collectionType returns the type of a literal whose elements are of one type, nil when they are not.
func (a termArgs) collectionType(t cql.Term) *types.Type {
	switch t := t.(type) {
	case *cql.SetLit: // [a, b] can be a list or a vector
		if e := a.commonType(t.Elems); e != nil {
			return types.SetOf(e, false)
		}
	case *cql.MapLit:
		k, v := a.commonType(mapKeys(t)), a.commonType(mapValues(t))
		if k != nil && v != nil {
			return types.MapOf(k, v, false)
		}
	}
	return nil
}

// commonType returns the type that all terms of list have, nil when there is none.
func (a termArgs) commonType(list []cql.Term) *types.Type {
	var out *types.Type
	for _, e := range list {
		typ := a.typeOf(e)
		if typ == nil || out != nil && !out.Equal(typ) {
			return nil
		}
		out = typ
	}
	return out
}

// resolve finds the function that a call means, nil when there is none of that name. ret is the type wanted, nil when any
// will do.
func (c *compiler) resolve(ce callee, ret *types.Type, at argTester) (*function, error) {
	key := callKey{term: ce.text}
	if ret != nil {
		key.ret = ret.String()
	}
	if r, ok := c.memo[key]; ok {
		return r.fn, r.err
	}
	fn, err := c.resolveCall(ce, ret, at)
	if c.memo == nil {
		c.memo = map[callKey]callResult{}
	}
	c.memo[key] = callResult{fn, err}
	return fn, err
}

// callKey and callResult remember what a call was found to mean for a type wanted: without that, a nest of n calls of
// overloaded functions would take time exponential in n.
type callKey struct {
	term cql.Term
	ret  string
}

type callResult struct {
	fn  *function
	err error
}

func (c *compiler) resolveCall(ce callee, ret *types.Type, at argTester) (*function, error) {
	candidates, err := c.candidates(ce, ret, at)
	if err != nil || len(candidates) == 0 {
		return nil, err
	}
	if len(candidates) == 1 {
		return candidates[0], checkArgs(candidates[0], ce, at)
	}
	var compatible []*function
	for _, f := range candidates {
		if ret != nil && typeFits(f.ret, ret) == notAssignable {
			continue
		}
		switch matchArgs(f, ce, at) {
		case exactMatch:
			return f, nil
		case weaklyAssignable:
			compatible = append(compatible, f)
		}
	}
	switch len(compatible) {
	case 0:
		return nil, noMatch(ce, candidates, at)
	case 1:
		return compatible[0], nil
	}
	return ambiguous(ce, compatible, ret, at)
}

func checkArgs(f *function, ce callee, at argTester) error {
	if len(ce.args) != len(f.args) {
		return invalid("Invalid number of arguments in call to function %s: %d required but %d provided", f.qualified(), len(f.args), len(ce.args))
	}
	for i, a := range ce.args {
		if at.fits(a, f.argReceiver(i)) == notAssignable {
			return invalid("Type error: %s cannot be passed as argument %d of function %s of type %s", at.text(a), i, f.qualified(), f.args[i])
		}
	}
	return nil
}

func matchArgs(f *function, ce callee, at argTester) fit {
	if len(ce.args) != len(f.args) {
		return notAssignable
	}
	all := exactMatch
	for i, a := range ce.args {
		all = min(all, at.fits(a, f.argReceiver(i)))
	}
	return all
}

func noMatch(ce callee, candidates []*function, at argTester) error {
	if ce.arithmetic() {
		return invalid("the '%c' operation is not supported between %s and %s", ce.operator, at.text(ce.args[0]), at.text(ce.args[1]))
	}
	return invalid("Invalid call to function %s, none of its type signatures match (known type signatures: %s)",
		ce.display(), signatures(candidates))
}

func signatures(list []*function) string {
	texts := make([]string, len(list))
	for i, f := range list {
		texts[i] = f.String()
	}
	return strings.Join(texts, ", ")
}

func ambiguous(ce callee, list []*function, ret *types.Type, at argTester) (*function, error) {
	switch ce.operator {
	case 0, 'c':
		return nil, invalid("Ambiguous call to function %s (can be matched by following signatures: %s): use type casts to disambiguate",
			ce.display(), signatures(list))
	case 'n':
		return nil, invalid("Ambiguous negation: use type casts to disambiguate")
	}
	if ret != nil && !anyMarkerTop(ce.args) {
		for _, f := range list {
			if f.args[0].Equal(ret) && f.args[1].Equal(ret) {
				return f, nil
			}
		}
	}
	return nil, invalid("Ambiguous '%c' operation with args %s and %s: use type hint to disambiguate, example '(int) ?'",
		ce.operator, at.text(ce.args[0]), at.text(ce.args[1]))
}

func anyMarkerTop(list []cql.Term) bool {
	for _, t := range list {
		if _, ok := t.(*cql.Marker); ok {
			return true
		}
	}
	return false
}
