package plan

import (
	"errors"
	"strings"

	"github.com/helenusdb/helenus/cql"
	"github.com/helenusdb/helenus/cql/protocol"
	"github.com/helenusdb/helenus/cql/types"
	"github.com/helenusdb/helenus/schema"
)

// term is a compiled expression. eval returns its value; the bytes alias the arguments, the row or the arena.
type term interface {
	eval(sc *scope) (protocol.Value, error)
}

// scope is what terms are evaluated in.
type scope struct {
	args *Args
	mem  *arena
	row  *rowView // nil outside of SELECT
}

// arena hands out scratch memory. What it handed out stays valid until reset.
type arena struct{ buf []byte }

// arenaKeepMax bounds what an arena keeps from one request for the next, in bytes.
const arenaKeepMax = 1 << 20

func (m *arena) reset() {
	if cap(m.buf) > arenaKeepMax {
		m.buf = nil
	}
	m.buf = m.buf[:0]
}

// take makes the bytes appended since at, into the buffer b that m.buf was, the arena's and returns them.
func (m *arena) take(b []byte, at int) []byte {
	m.buf = b
	if len(b) == at {
		return []byte{} // not nil, which would be null
	}
	return b[at:len(b):len(b)]
}

func (m *arena) copy(v []byte) []byte {
	at := len(m.buf)
	return m.take(append(m.buf, v...), at)
}

func setValue(b []byte) protocol.Value { return protocol.Value{Bytes: b} }

func nullValue() protocol.Value { return protocol.Value{State: protocol.Null} }

func unsetValue() protocol.Value { return protocol.Value{State: protocol.Unset} }

// constTerm is a constant, or null.
type constTerm struct{ v protocol.Value }

func (t *constTerm) eval(*scope) (protocol.Value, error) { return t.v, nil }

// bindTerm is a bind variable.
type bindTerm struct {
	slot int
	typ  *types.Type
}

func (t *bindTerm) eval(sc *scope) (protocol.Value, error) {
	v := sc.args.Values[t.slot]
	if v.State != protocol.Set {
		return v, nil
	}
	if err := t.typ.Validate(v.Bytes); err != nil {
		return v, marshalError(err)
	}
	v.Bytes = t.typ.Ordered(v.Bytes)
	return v, nil
}

// marshalError makes an error about a value one for the client.
func marshalError(err error) error {
	var m *types.MarshalError
	if errors.As(err, &m) {
		return &Error{Code: protocol.CodeInvalid, Msg: m.Msg}
	}
	return err
}

// collectionTerm is a list, set, map or vector literal with elements that are not constant.
type collectionTerm struct {
	typ   *types.Type
	elems []term // a map's keys and values alternate
}

func (t *collectionTerm) eval(sc *scope) (protocol.Value, error) {
	elems := make([][]byte, 0, len(t.elems))
	for _, e := range t.elems {
		v, err := e.eval(sc)
		if err != nil {
			return v, err
		}
		switch v.State {
		case protocol.Null:
			return v, invalid("null is not supported inside collections")
		case protocol.Unset:
			return v, invalid("unset value is not supported inside collections")
		}
		elems = append(elems, v.Bytes)
	}
	return setValue(t.typ.AppendCollection(nil, t.typ.SortElems(elems))), nil
}

// tupleTerm is a tuple or UDT literal.
type tupleTerm struct {
	typ   *types.Type
	elems []term // nil: null
}

func (t *tupleTerm) eval(sc *scope) (protocol.Value, error) {
	var room [8][]byte
	comps := room[:0]
	for i, e := range t.elems {
		if e == nil {
			comps = append(comps, nil)
			continue
		}
		v, err := e.eval(sc)
		if err != nil {
			return v, err
		}
		if v.State == protocol.Unset {
			if t.typ.Kind == types.KindUDT {
				return v, invalid("Invalid unset value for field '%s' of user defined type %s", t.typ.Fields[i], t.typ.Name)
			}
			return v, invalid("Invalid unset value for tuple field number %d", i)
		}
		comps = append(comps, v.Bytes)
	}
	return setValue(types.AppendTuple(nil, comps)), nil
}

// receiver is what a term is assigned to: a column, a part of one, an argument of a function.
type receiver struct {
	name string
	typ  *types.Type
	col  *schema.Column // when it is a whole column
}

func columnReceiver(c *schema.Column) receiver { return receiver{c.Name, c.Type, c} }

func receive(name string, typ *types.Type) receiver { return receiver{name: name, typ: typ} }

// compiler compiles one statement, or one of a batch.
type compiler struct {
	env   Env
	table *schema.Table
	binds []Bind
	keys  []int // by partition key position: the slot that was last compared with it, -1 for none
	memo  map[callKey]callResult
}

func (c *compiler) bind(m *cql.Marker, r receiver) *bindTerm {
	c.binds[m.Index] = Bind{Keyspace: c.table.Keyspace, Table: c.table.Name, Name: r.name, Type: r.typ}
	if m.Name != "" {
		c.binds[m.Index].Name = m.Name
	}
	if r.col != nil && r.col.Kind == schema.KindPartitionKey {
		for len(c.keys) < len(c.table.PartitionKey) {
			c.keys = append(c.keys, -1)
		}
		c.keys[r.col.Position] = m.Index
	}
	return &bindTerm{slot: m.Index, typ: r.typ}
}

// partitionKeyBinds returns the slots of the partition key, nil when there is not one for each component.
func (c *compiler) partitionKeyBinds() []uint16 {
	if len(c.keys) == 0 {
		return nil
	}
	out := make([]uint16, len(c.keys))
	for i, slot := range c.keys {
		if slot < 0 {
			return nil
		}
		out[i] = uint16(slot)
	}
	return out
}

// term compiles t for a receiver, with Cassandra's checks of whether it fits.
func (c *compiler) term(t cql.Term, r receiver) (term, error) {
	switch t := t.(type) {
	case *cql.Literal:
		return constant(t, r)
	case *cql.Null:
		if r.typ.Kind == types.KindCounter {
			return nil, invalid("Invalid null value for counter increment/decrement")
		}
		return &constTerm{nullValue()}, nil
	case *cql.Marker:
		return c.bind(t, r), nil
	case *cql.ListLit:
		return c.listLiteral(t, r)
	case *cql.SetLit:
		return c.setLiteral(t, r)
	case *cql.MapLit:
		return c.mapLiteral(t, r)
	case *cql.TupleLit:
		return c.tupleLiteral(t, r)
	case *cql.UDTLit:
		return c.udtLiteral(t, r)
	case *cql.TypeHint:
		return c.typeHint(t, r)
	case *cql.FuncCall, *cql.BinaryOp, *cql.Negate, *cql.Cast:
		return c.call(t, r)
	}
	return nil, invalid("%s is not a value", cql.Format(t))
}

func constClass(c cql.LiteralClass) types.ConstClass {
	return [...]types.ConstClass{
		cql.StringLiteral: types.ConstString, cql.IntegerLiteral: types.ConstInteger, cql.FloatLiteral: types.ConstFloat,
		cql.BooleanLiteral: types.ConstBoolean, cql.DurationLiteral: types.ConstDuration, cql.UUIDLiteral: types.ConstUUID,
		cql.HexLiteral: types.ConstHex,
	}[c]
}

func constant(t *cql.Literal, r receiver) (term, error) {
	if tupleLike(r.typ) {
		v, err := tupleFromText(r.typ, t.Text)
		return &constTerm{setValue(v)}, err
	}
	v, err := r.typ.FromConstant(constClass(t.Class), t.Text)
	var ce *types.ConstantError
	switch {
	case errors.As(err, &ce):
		return nil, invalid("%s", ce.Message(r.name))
	case err != nil:
		return nil, marshalError(err)
	}
	return &constTerm{setValue(v)}, nil
}

// tupleFromText reads a tuple from a constant as Cassandra does: components with colons between, @ for null.
func tupleFromText(typ *types.Type, text string) ([]byte, error) {
	var comps [][]byte
	for _, s := range splitUnescaped(text, ':') {
		if len(comps) == len(typ.Elems) {
			return nil, invalid("Invalid tuple literal: too many elements. Type %s expects %d but got %d", typ, len(typ.Elems), len(comps)+1)
		}
		if s == "@" {
			comps = append(comps, nil)
			continue
		}
		s = strings.ReplaceAll(strings.ReplaceAll(s, `\:`, ":"), `\@`, "@")
		v, err := typ.Elems[len(comps)].ParseLiteral(s)
		if err != nil {
			return nil, marshalError(err)
		}
		comps = append(comps, v)
	}
	return types.AppendTuple(nil, comps), nil
}

// splitUnescaped splits at each sep without a backslash before it.
func splitUnescaped(s string, sep byte) []string {
	var out []string
	from := 0
	for i := range len(s) {
		if s[i] == sep && (i == 0 || s[i-1] != '\\') {
			out = append(out, s[from:i])
			from = i + 1
		}
	}
	return append(out, s[from:])
}

// fold evaluates a term made of constants only, once.
func fold(t term, elems []term) (term, error) {
	for _, e := range elems {
		if _, ok := e.(*constTerm); !ok && e != nil {
			return t, nil
		}
	}
	var sc scope
	v, err := t.eval(&sc)
	if err != nil {
		return nil, err
	}
	return &constTerm{v}, nil
}

// elements compiles the elements of a collection literal; what says "list literal", "set literal".
func (c *compiler) elements(elems []cql.Term, what string, r, elem receiver) ([]term, error) {
	out := make([]term, len(elems))
	for _, e := range elems {
		if c.assignable(e, elem) == notAssignable {
			return nil, invalid("Invalid %s for %s: value %s is not of type %s", what, r.name, cql.Format(e), elem.typ)
		}
	}
	for i, e := range elems {
		t, err := c.term(e, elem)
		if err != nil {
			return nil, err
		}
		if hasMarker(e) {
			return nil, invalid("Invalid %s for %s: bind variables are not supported inside collection literals", what, r.name)
		}
		out[i] = t
	}
	return out, nil
}

func (c *compiler) listLiteral(t *cql.ListLit, r receiver) (term, error) {
	if r.typ.Kind == types.KindVector {
		return nil, notYet("vector values")
	}
	if r.typ.Kind != types.KindList {
		return nil, invalid("Unexpected receiver type '%s'; only list and vector are expected", r.typ)
	}
	elems, err := c.elements(t.Elems, "list literal", r, receive("value("+r.name+")", r.typ.Elems[0]))
	if err != nil {
		return nil, err
	}
	return fold(&collectionTerm{r.typ, elems}, elems)
}

func (c *compiler) setLiteral(t *cql.SetLit, r receiver) (term, error) {
	if r.typ.Kind == types.KindMap && len(t.Elems) == 0 {
		return fold(&collectionTerm{typ: r.typ}, nil)
	}
	if r.typ.Kind != types.KindSet {
		return nil, invalid("Invalid set literal for %s of type %s", r.name, r.typ)
	}
	elems, err := c.elements(t.Elems, "set literal", r, receive("value("+r.name+")", r.typ.Elems[0]))
	if err != nil {
		return nil, err
	}
	return fold(&collectionTerm{r.typ, elems}, elems)
}

func (c *compiler) mapLiteral(t *cql.MapLit, r receiver) (term, error) {
	if r.typ.Kind != types.KindMap {
		return nil, invalid("Invalid map literal for %s of type %s", r.name, r.typ)
	}
	key := receive("key("+r.name+")", r.typ.Elems[0])
	value := receive("value("+r.name+")", r.typ.Elems[1])
	for _, e := range t.Entries {
		if c.assignable(e.Key, key) == notAssignable {
			return nil, invalid("Invalid map literal for %s: key %s is not of type %s", r.name, cql.Format(e.Key), key.typ)
		}
		if c.assignable(e.Value, value) == notAssignable {
			return nil, invalid("Invalid map literal for %s: value %s is not of type %s", r.name, cql.Format(e.Value), value.typ)
		}
	}
	var elems []term
	for _, e := range t.Entries {
		if hasMarker(e.Key) || hasMarker(e.Value) {
			return nil, invalid("Invalid map literal for %s: bind variables are not supported inside collection literals", r.name)
		}
		k, err := c.term(e.Key, key)
		if err != nil {
			return nil, err
		}
		v, err := c.term(e.Value, value)
		if err != nil {
			return nil, err
		}
		elems = append(elems, k, v)
	}
	return fold(&collectionTerm{r.typ, elems}, elems)
}

func (c *compiler) tupleLiteral(t *cql.TupleLit, r receiver) (term, error) {
	if len(t.Elems) == 1 && !tupleLike(r.typ) {
		return c.term(t.Elems[0], r) // a parenthesised value
	}
	if !tupleLike(r.typ) {
		return nil, invalid("Invalid tuple type literal for %s of type %s", r.name, r.typ)
	}
	if len(t.Elems) > len(r.typ.Elems) {
		return nil, invalid("Invalid tuple literal for %s: too many elements. Type %s expects %d but got %d",
			r.name, r.typ, len(r.typ.Elems), len(t.Elems))
	}
	for i, e := range t.Elems {
		if c.assignable(e, tupleReceiver(r, i)) == notAssignable {
			return nil, invalid("Invalid tuple literal for %s: component %d is not of type %s", r.name, i, r.typ.Elems[i])
		}
	}
	elems := make([]term, len(t.Elems))
	for i, e := range t.Elems {
		x, err := c.term(e, tupleReceiver(r, i))
		if err != nil {
			return nil, err
		}
		elems[i] = x
	}
	return fold(&tupleTerm{r.typ, elems}, elems)
}

// tupleLike: a user type is a tuple too.
func tupleLike(t *types.Type) bool { return t.Kind == types.KindTuple || t.Kind == types.KindUDT }

func (c *compiler) udtLiteral(t *cql.UDTLit, r receiver) (term, error) {
	if r.typ.Kind != types.KindUDT {
		return nil, invalid("Invalid user type literal for %s of type %s", r.name, r.typ)
	}
	elems := make([]term, len(r.typ.Elems))
	for _, f := range t.Fields {
		if r.typ.UDTField(f.Name.Name) < 0 {
			return nil, invalid("Unknown field '%s' in value of user defined type %s", f.Name.Name, r.typ.Name)
		}
	}
	given := make([]cql.Term, len(r.typ.Elems))
	for _, f := range t.Fields {
		given[r.typ.UDTField(f.Name.Name)] = f.Value
	}
	for i, e := range given {
		if e != nil && c.assignable(e, fieldReceiver(r, i)) == notAssignable {
			return nil, invalid("Invalid user type literal for %s: field %s is not of type %s", r.name, r.typ.Fields[i], r.typ.Elems[i])
		}
	}
	for i, e := range given {
		if e == nil {
			continue
		}
		x, err := c.term(e, fieldReceiver(r, i))
		if err != nil {
			return nil, err
		}
		elems[i] = x
	}
	return fold(&tupleTerm{r.typ, elems}, elems)
}

func (c *compiler) typeHint(t *cql.TypeHint, r receiver) (term, error) {
	typ, err := c.env.resolve(c.table.Keyspace, t.Type)
	if err != nil {
		return nil, err
	}
	hinted := receive(r.name, typ)
	if c.assignable(t.Arg, hinted) == notAssignable {
		return nil, invalid("Cannot cast value %s to type %s", cql.Format(t.Arg), typ)
	}
	if c.assignable(t, r) == notAssignable {
		return nil, invalid("Cannot assign value %s to %s of type %s", cql.Format(t), r.name, r.typ)
	}
	return c.term(t.Arg, r) // not of the type of the hint, as in Cassandra
}

// notYet refuses what is not built.
func notYet(feature string) *Error { return invalid("This is not supported yet: %s", feature) }

// hasMarker reports whether a bind variable occurs in t.
func hasMarker(t cql.Term) bool {
	switch t := t.(type) {
	case *cql.Marker:
		return true
	case *cql.ListLit:
		return anyMarker(t.Elems)
	case *cql.SetLit:
		return anyMarker(t.Elems)
	case *cql.TupleLit:
		return anyMarker(t.Elems)
	case *cql.MapLit:
		for _, e := range t.Entries {
			if hasMarker(e.Key) || hasMarker(e.Value) {
				return true
			}
		}
	case *cql.UDTLit:
		for _, f := range t.Fields {
			if hasMarker(f.Value) {
				return true
			}
		}
	case *cql.FuncCall:
		return anyMarker(t.Args)
	case *cql.TypeHint:
		return hasMarker(t.Arg)
	case *cql.Cast:
		return hasMarker(t.Arg)
	case *cql.BinaryOp:
		return hasMarker(t.Left) || hasMarker(t.Right)
	case *cql.Negate:
		return hasMarker(t.Arg)
	}
	return false
}

func anyMarker(list []cql.Term) bool {
	for _, t := range list {
		if hasMarker(t) {
			return true
		}
	}
	return false
}
