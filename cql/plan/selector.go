package plan

import (
	"github.com/helenusdb/helenus/cql"
	"github.com/helenusdb/helenus/cql/protocol"
	"github.com/helenusdb/helenus/cql/types"
	"github.com/helenusdb/helenus/schema"
)

// named are the columns that a SELECT clause names.
type named []*schema.Column

// onlyStatic reports whether a statement that names them is about the static row only.
func (n named) onlyStatic(t *schema.Table) bool {
	static := false
	for _, col := range n {
		static = static || col.Kind == schema.KindStatic
		if col.Kind != schema.KindPartitionKey && col.Kind != schema.KindStatic {
			return false
		}
	}
	return static
}

// checkSelectors finds the columns that the SELECT clause names; it is the first thing that is checked.
func (c *compiler) checkSelectors(s *cql.Select) (named, error) {
	var out named
	for i := range s.Selectors {
		if err := c.namesIn(s.Selectors[i].Expr, &out); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (c *compiler) namesIn(t cql.Term, out *named) error {
	switch t := t.(type) {
	case *cql.ColumnRef:
		col, err := c.column(t.Name)
		*out = append(*out, col)
		return err
	case *cql.MapLit:
		if c.udtSelector(t) {
			return c.eachName(mapValues(t), out)
		}
		return c.eachName(append(mapKeys(t), mapValues(t)...), out)
	}
	return c.eachName(operands(t), out)
}

func (c *compiler) eachName(list []cql.Term, out *named) error {
	for _, t := range list {
		if err := c.namesIn(t, out); err != nil {
			return err
		}
	}
	return nil
}

// operands returns the terms that t is made of.
func operands(t cql.Term) []cql.Term {
	switch t := t.(type) {
	case *cql.FieldRef:
		return []cql.Term{t.Receiver}
	case *cql.ElementRef:
		return []cql.Term{t.Receiver, t.Key}
	case *cql.SliceRef:
		out := []cql.Term{t.Receiver}
		if t.From != nil {
			out = append(out, t.From)
		}
		if t.To != nil {
			out = append(out, t.To)
		}
		return out
	case *cql.MetaCall:
		return []cql.Term{t.Arg}
	case *cql.FuncCall:
		return t.Args
	case *cql.Cast:
		return []cql.Term{t.Arg}
	case *cql.TypeHint:
		return []cql.Term{t.Arg}
	case *cql.BinaryOp:
		return []cql.Term{t.Left, t.Right}
	case *cql.Negate:
		return []cql.Term{t.Arg}
	case *cql.ListLit:
		return t.Elems
	case *cql.SetLit:
		return t.Elems
	case *cql.TupleLit:
		return t.Elems
	case *cql.UDTLit:
		out := make([]cql.Term, len(t.Fields))
		for i := range t.Fields {
			out[i] = t.Fields[i].Value
		}
		return out
	}
	return nil
}

func mapKeys(t *cql.MapLit) []cql.Term {
	out := make([]cql.Term, len(t.Entries))
	for i, e := range t.Entries {
		out[i] = e.Key
	}
	return out
}

func mapValues(t *cql.MapLit) []cql.Term {
	out := make([]cql.Term, len(t.Entries))
	for i, e := range t.Entries {
		out[i] = e.Value
	}
	return out
}

// udtSelector reports whether a map literal of a SELECT clause can only be a user type: a key names no column.
func (c *compiler) udtSelector(t *cql.MapLit) bool {
	for _, e := range t.Entries {
		ref, ok := e.Key.(*cql.ColumnRef)
		if !ok {
			return false
		}
		if c.table.Column(ref.Name.Name) == nil {
			return true
		}
	}
	return false
}

// selectors compiles the SELECT clause and returns the result's columns.
func (c *compiler) selectors(s *cql.Select, sel *Select) ([]protocol.Column, error) {
	sc := newSelectCompiler(c, sel)
	if len(s.Selectors) == 0 {
		cols := make([]protocol.Column, 0, len(c.table.AllColumns()))
		for _, col := range c.table.AllColumns() {
			sel.outputs = append(sel.outputs, output{slot: sel.slots.of(col)})
			cols = append(cols, c.resultColumn(col.Name, col.Type, col))
		}
		return cols, nil
	}
	cols := make([]protocol.Column, 0, len(s.Selectors))
	for i := range s.Selectors {
		item := &s.Selectors[i]
		if p, ok := item.Expr.(*cql.TupleLit); ok && len(p.Elems) == 1 {
			return nil, invalid("Cannot infer type for term %s in selection clause (try using a cast to force a type)", sc.text(p))
		}
		x, typ, err := sc.selector(item.Expr, nil)
		if err != nil {
			return nil, err
		}
		name := item.Alias.Name
		if name == "" {
			name = sc.columnName(item.Expr)
		}
		o := output{slot: -1, term: x}
		var col *schema.Column
		if t, ok := x.(*slotTerm); ok {
			o.slot = t.slot
			col = sel.slots.cols[t.slot]
		}
		sel.outputs = append(sel.outputs, o)
		cols = append(cols, c.resultColumn(name, typ, col))
	}
	return cols, nil
}

func (c *compiler) resultColumn(name string, typ *types.Type, col *schema.Column) protocol.Column {
	return protocol.Column{
		Keyspace: c.table.Keyspace, Table: c.table.Name, Name: name, Type: typ, Reversed: col != nil && col.Desc,
	}
}

// selectCompiler compiles the expressions of a SELECT clause.
type selectCompiler struct {
	*compiler
	sel         *Select
	inAggregate bool
	types       map[cql.Term]*types.Type // found by typeOf
}

func newSelectCompiler(c *compiler, sel *Select) *selectCompiler {
	if c.memo == nil {
		c.memo = map[callKey]callResult{}
	}
	return &selectCompiler{compiler: c, sel: sel, types: map[cql.Term]*types.Type{}}
}

func (c *selectCompiler) functionName(f *cql.FuncCall) string {
	if f.Name.Qualified() {
		return f.Name.String()
	}
	return "system." + f.Name.Name.Name
}

// typeName returns a type as written but for the keyspace of user types, which is always there.
func (c *selectCompiler) typeName(t *cql.TypeRef) string { return c.qualified(t).String() }

func (c *selectCompiler) qualified(t *cql.TypeRef) *cql.TypeRef {
	out := *t
	if t.Kind == cql.TypeUser && !t.UserType.Qualified() {
		out.UserType.Keyspace.Name = c.table.Keyspace
	}
	out.Elems = make([]*cql.TypeRef, len(t.Elems))
	for i, e := range t.Elems {
		out.Elems[i] = c.qualified(e)
	}
	return &out
}

// columnName returns the name of a result column without alias. A cast to the type that something has anyway is not shown,
// and count(1) is count(*).
func (c *selectCompiler) columnName(t cql.Term) string {
	return c.text(c.shown(t))
}

// shown returns t without the casts that do nothing.
func (c *selectCompiler) shown(t cql.Term) cql.Term {
	switch t := t.(type) {
	case *cql.Cast:
		arg := c.shown(t.Arg)
		if from, to := c.typeOf(t.Arg), c.typeOf(t); from != nil && to != nil && from.Equal(to) {
			return arg
		}
		return &cql.Cast{Arg: arg, Type: t.Type, Pos: t.Pos}
	case *cql.FuncCall:
		if countOne(t) {
			return &cql.CountRows{}
		}
		out := *t
		out.Args = make([]cql.Term, len(t.Args))
		for i, a := range t.Args {
			out.Args[i] = c.shown(a)
		}
		return &out
	case *cql.BinaryOp:
		out := *t
		out.Left, out.Right = c.shown(t.Left), c.shown(t.Right)
		return &out
	case *cql.Negate:
		return &cql.Negate{Arg: c.shown(t.Arg), Pos: t.Pos}
	}
	return t
}

// countOne reports whether t is count(1), or of any other constant: Cassandra takes that for count(*).
func countOne(t cql.Term) bool {
	f, ok := t.(*cql.FuncCall)
	if !ok || f.Name.Name.Name != "count" || len(f.Args) != 1 {
		return false
	}
	_, ok = f.Args[0].(*cql.Literal)
	return ok
}

// selector compiles t. want is the type that the context expects, nil for none.
func (c *selectCompiler) selector(t cql.Term, want *types.Type) (term, *types.Type, error) {
	if countOne(t) {
		return c.aggregateCall(countRowsFunction(), nil)
	}
	switch t := t.(type) {
	case *cql.ColumnRef:
		col, err := c.column(t.Name)
		if err != nil {
			return nil, nil, err
		}
		return &slotTerm{c.sel.slots.of(col)}, col.Type, nil
	case *cql.CountRows:
		return c.aggregateCall(countRowsFunction(), nil)
	case *cql.FuncCall, *cql.BinaryOp, *cql.Negate:
		return c.functionSelector(t, want)
	case *cql.Cast:
		return c.castSelector(t)
	case *cql.TypeHint:
		return c.hintSelector(t)
	case *cql.MetaCall:
		return c.metaSelector(t)
	case *cql.FieldRef:
		return c.fieldSelector(t)
	case *cql.ElementRef:
		return c.elementSelector(t)
	case *cql.SliceRef:
		return c.sliceSelector(t)
	case *cql.TupleLit:
		if len(t.Elems) == 1 && (want == nil || want.Kind != types.KindTuple) {
			return c.selector(t.Elems[0], want)
		}
	}
	if literalOnly(t) {
		return c.valueSelector(t, want)
	}
	return c.literalSelector(t, want)
}

// literalOnly reports whether t is a literal or marker without any column or call inside.
func literalOnly(t cql.Term) bool {
	switch t := t.(type) {
	case *cql.Literal, *cql.Null, *cql.Marker:
		return true
	case *cql.MapLit:
		return allLiteral(mapKeys(t)) && allLiteral(mapValues(t))
	case *cql.ListLit, *cql.SetLit, *cql.TupleLit, *cql.UDTLit:
		return allLiteral(operands(t))
	}
	return false
}

func allLiteral(list []cql.Term) bool {
	for _, t := range list {
		if !literalOnly(t) {
			return false
		}
	}
	return true
}

// valueSelector compiles a constant or marker: its type comes from the context.
func (c *selectCompiler) valueSelector(t cql.Term, want *types.Type) (term, *types.Type, error) {
	if want == nil {
		return nil, nil, invalid("Cannot infer type for term %s in selection clause (try using a cast to force a type)", cql.Format(t))
	}
	x, err := c.term(t, receive("[selection]", want))
	return x, want, err
}

// inferred returns the type that a constant has by itself, nil when it could be several.
func (c *selectCompiler) inferred(t cql.Term) *types.Type {
	if list, ok := t.(*cql.ListLit); ok {
		if e := (termArgs{c.compiler}).commonType(list.Elems); e != nil {
			return types.ListOf(e, false)
		}
		return nil
	}
	return termArgs{c.compiler}.typeOf(t)
}

// hintSelector compiles (type) arg.
func (c *selectCompiler) hintSelector(t *cql.TypeHint) (term, *types.Type, error) {
	typ, err := c.env.resolve(c.table.Keyspace, t.Type)
	if err != nil {
		return nil, nil, err
	}
	if !literalOnly(t.Arg) {
		x, from, err := c.selector(t.Arg, typ)
		if err != nil {
			return nil, nil, err
		}
		if typeFits(from, typ) == notAssignable {
			return nil, nil, invalid("Cannot assign value %s to %s of type %s", c.text(t), c.text(t), typ)
		}
		return x, typ, nil
	}
	if c.assignable(t.Arg, receive("[selection]", typ)) == notAssignable {
		return nil, nil, invalid("Cannot assign value %s to %s of type %s", c.text(t), c.text(t), typ)
	}
	return c.valueSelector(t.Arg, typ)
}

// selectorArgs tells how the arguments of a call in a SELECT clause fit.
type selectorArgs struct{ c *selectCompiler }

func (a selectorArgs) fits(t cql.Term, r receiver) fit {
	if literalOnly(t) {
		return a.c.assignable(t, r)
	}
	if typ := a.c.typeOf(t); typ != nil {
		return typeFits(typ, r.typ)
	}
	if called(t) {
		return notAssignable
	}
	return a.c.selectableFits(t, r)
}

func (a selectorArgs) typeOf(t cql.Term) *types.Type {
	if literalOnly(t) {
		return a.c.inferred(t)
	}
	return a.c.typeOf(t)
}

func (a selectorArgs) problem(t cql.Term) error {
	if literalOnly(t) {
		return nil
	}
	_, _, err := a.c.trial().selector(t, nil)
	return err
}

func (a selectorArgs) text(t cql.Term) string {
	return cql.ColumnName(t, cql.Namer{Function: a.c.functionName, Type: a.c.typeName})
}

// typeOf returns the type of an expression, nil when it has none of its own. Nothing is compiled for good.
func (c *selectCompiler) typeOf(t cql.Term) *types.Type {
	if typ, ok := c.types[t]; ok {
		return typ
	}
	_, typ, err := c.trial().selector(t, nil)
	if err != nil {
		typ = nil
	}
	c.types[t] = typ
	return typ
}

// trial returns a compiler whose results are thrown away. What it finds out about types is kept.
func (c *selectCompiler) trial() *selectCompiler {
	return &selectCompiler{
		compiler: &compiler{env: c.env, table: c.table, binds: make([]Bind, len(c.binds)), memo: c.memo},
		sel:      &Select{table: c.table}, types: c.types,
	}
}

// called reports whether t is a call: it has the same type wherever it stands.
func called(t cql.Term) bool {
	switch t.(type) {
	case *cql.FuncCall, *cql.BinaryOp, *cql.Negate, *cql.Cast:
		return true
	}
	return false
}

// selectableFits is fits of an expression that only a wanted type makes meaningful.
func (c *selectCompiler) selectableFits(t cql.Term, r receiver) fit {
	_, typ, err := c.trial().selector(t, r.typ)
	if err != nil {
		return notAssignable
	}
	return typeFits(typ, r.typ)
}

// functionSelector compiles a call.
func (c *selectCompiler) functionSelector(t cql.Term, want *types.Type) (term, *types.Type, error) {
	ce := calleeOf(t)
	at := selectorArgs{c}
	fn, err := c.resolve(ce, want, at)
	if err != nil && want != nil {
		fn, err = c.resolve(ce, nil, at)
	}
	switch {
	case err != nil:
		return nil, nil, err
	case fn == nil:
		return nil, nil, invalid("Unknown function '%s'", ce.display())
	}
	args := make([]term, len(ce.args))
	nested := c.inAggregate
	if fn.aggregate != 0 {
		if nested {
			return nil, nil, invalid("aggregate functions cannot be used as arguments of aggregate functions")
		}
		c.inAggregate = true
	}
	for i, a := range ce.args {
		x, err := c.argument(a, fn.argReceiver(i))
		if err != nil {
			c.inAggregate = nested
			return nil, nil, err
		}
		args[i] = x
	}
	c.inAggregate = nested
	if fn.aggregate != 0 {
		return c.aggregateCall(fn, args)
	}
	return &callTerm{fn, args}, fn.ret, nil
}

func (c *selectCompiler) argument(t cql.Term, r receiver) (term, error) {
	if literalOnly(t) {
		return c.term(t, receive("[selection]", r.typ))
	}
	x, _, err := c.selector(t, r.typ)
	return x, err
}

// aggregateCall makes the call of an aggregate.
func (c *selectCompiler) aggregateCall(fn *function, args []term) (term, *types.Type, error) {
	c.sel.aggregate = true
	t := &aggTerm{fn: fn, index: len(c.sel.aggs)}
	if len(args) > 0 {
		t.arg = args[0]
	}
	c.sel.aggs = append(c.sel.aggs, t)
	return t, fn.ret, nil
}
