package plan

import (
	"github.com/helenusdb/helenus/cql"
	"github.com/helenusdb/helenus/cql/protocol"
	"github.com/helenusdb/helenus/cql/types"
	"github.com/helenusdb/helenus/schema"
)

// ifKind says which IF clause a statement has.
type ifKind uint8

const (
	ifNone ifKind = iota
	ifNotExists
	ifExists
	ifColumns
)

// ifClause is a compiled IF clause.
type ifClause struct {
	kind            ifKind
	regular, static []*condition // of ifColumns, as written
}

// condition is one conjunct of an IF clause: a column, an element of a collection or a field of a user type, compared.
type condition struct {
	col    *schema.Column
	op     cql.Operator // of IN it is Eq
	key    term         // of the element; nil: none
	field  int          // of the user type; -1: none
	typ    *types.Type  // of what is compared
	values []term       // one, or the members of an IN: one of them has to match
	in     bool
	marker *bindTerm // IN ?, instead of values
}

// ifClause compiles IF EXISTS or conditions. stamped says that the statement has USING TIMESTAMP.
func (c *compiler) ifClause(m *Modify, exists bool, list []cql.Condition, stamped bool) error {
	switch {
	case exists:
		m.ifs.kind = ifExists
		return nil
	case len(list) == 0:
		return nil
	case stamped:
		return errStamped()
	}
	m.ifs.kind = ifColumns
	for i := range list {
		col, err := c.column(list[i].Column)
		if err != nil {
			return err
		}
		x, err := c.condition(&list[i], col)
		if err != nil {
			return err
		}
		switch col.Kind {
		case schema.KindStatic:
			m.ifs.static = append(m.ifs.static, x)
		case schema.KindRegular:
			m.ifs.regular = append(m.ifs.regular, x)
		default:
			return invalid("PRIMARY KEY column '%s' cannot have IF conditions", col.Name)
		}
	}
	return nil
}

func errStamped() error { return invalid("Cannot provide custom timestamp for conditional updates") }

func (c *compiler) condition(s *cql.Condition, col *schema.Column) (*condition, error) {
	if col.Type.Kind == types.KindCounter {
		return nil, invalid("Conditions on counters are not supported")
	}
	x := &condition{col: col, op: s.Op, field: -1, typ: col.Type}
	recv, err := c.conditionReceiver(x, s)
	if err != nil {
		return nil, err
	}
	if err := checkConditionOrder(s.Op, recv.typ); err != nil {
		return nil, err
	}
	if s.Key != nil {
		if x.key, err = c.term(s.Key, conditionKey(col)); err != nil {
			return nil, err
		}
	}
	return x, c.conditionValues(x, s, recv)
}

// conditionReceiver returns what the values of a condition are compared with.
func (c *compiler) conditionReceiver(x *condition, s *cql.Condition) (receiver, error) {
	col, name := x.col, x.col.Name
	switch {
	case s.Key != nil && !col.Type.Collection():
		return receiver{}, invalid("Invalid element access syntax for non-collection column %s", name)
	case s.Key != nil && col.Type.Kind == types.KindSet:
		return receiver{}, invalid("Invalid element access syntax for set column %s", name)
	case s.Key != nil:
		x.typ = col.Type.Elems[len(col.Type.Elems)-1]
		return receive("value("+col.Name+")", x.typ), nil
	case s.Field.Name == "":
		return columnReceiver(col), nil
	case col.Type.Kind != types.KindUDT:
		return receiver{}, invalid("Invalid field access syntax for non-UDT column %s", name)
	}
	if x.field = col.Type.UDTField(s.Field.Name); x.field < 0 {
		return receiver{}, invalid("Unknown field %s for column %s", s.Field.Name, name)
	}
	x.typ = col.Type.Elems[x.field]
	return fieldReceiver(columnReceiver(col), x.field), nil
}

// conditionKey is what the key of an element is compared with.
func conditionKey(col *schema.Column) receiver {
	if col.Type.Kind == types.KindList {
		return receive("idx("+col.Name+")", types.Int)
	}
	return receive("key("+col.Name+")", col.Type.Elems[0])
}

// checkConditionOrder refuses order where there is none.
func checkConditionOrder(op cql.Operator, typ *types.Type) error {
	if !asksOrder(op) || !hasDuration(typ) {
		return nil
	}
	switch {
	case typ.Collection():
		return invalid("Slice conditions are not supported on collections containing durations")
	case typ.Kind == types.KindTuple:
		return invalid("Slice conditions are not supported on tuples containing durations")
	case typ.Kind == types.KindUDT:
		return invalid("Slice conditions are not supported on UDTs containing durations")
	}
	return invalid("Slice conditions ( %s ) are not supported on durations", op)
}

// asksOrder reports whether op asks for an order.
func asksOrder(op cql.Operator) bool {
	return op == cql.Lt || op == cql.Lte || op == cql.Gt || op == cql.Gte
}

func (c *compiler) conditionValues(x *condition, s *cql.Condition, recv receiver) error {
	switch {
	case s.Op == cql.ContainsKey && recv.typ.Kind != types.KindMap:
		return invalid("Cannot use CONTAINS KEY on non-map column %s", recv.name)
	case s.Op == cql.Contains && !recv.typ.Collection():
		return invalid("Cannot use CONTAINS on non-collection column %s", recv.name)
	case s.Op == cql.ContainsKey:
		recv = receive("key("+recv.name+")", recv.typ.Elems[0])
	case s.Op == cql.Contains:
		recv = receive("value("+recv.name+")", recv.typ.Elems[len(recv.typ.Elems)-1])
	case s.Op == cql.In:
		return c.conditionIn(x, s, recv)
	}
	t, err := c.term(s.Value, recv)
	x.values = []term{t}
	return err
}

func (c *compiler) conditionIn(x *condition, s *cql.Condition, recv receiver) error {
	x.op, x.in = cql.Eq, true
	if m, ok := s.Value.(*cql.Marker); ok {
		x.marker = c.bind(m, receive("in("+recv.name+")", types.ListOf(recv.typ, false)))
		return nil
	}
	for _, v := range s.Values {
		t, err := c.term(v, recv)
		if err != nil {
			return err
		}
		x.values = append(x.values, t)
	}
	return nil
}

// checkConditional refuses what a statement with conditions cannot be; its WHERE clause is compiled.
func (c *compiler) checkConditional(m *Modify) error {
	switch {
	case m.ifs.kind == ifNone:
		return nil
	case c.table.Counter():
		return invalid("Conditional updates are not supported on counter tables")
	case m.timestamp != nil:
		return errStamped()
	case m.typ != typeDelete || m.where.namesRows():
		return nil
	case m.deletesRows() || len(m.regular) > 0:
		return invalid("DELETE statements must restrict all PRIMARY KEY columns with equality relations in order to delete non static columns")
	case len(m.ifs.regular) > 0:
		return invalid("DELETE statements must restrict all PRIMARY KEY columns with equality relations in order to use IF condition on non static columns")
	}
	return nil
}

// deletesRows reports whether the statement deletes rows, not columns of them.
func (m *Modify) deletesRows() bool {
	return m.typ == typeDelete && len(m.regular)+len(m.static) == 0
}

// namesRows reports whether every column of the primary key is compared by = or IN.
func (w *where) namesRows() bool {
	n := 0
	for _, list := range [2][]*restriction{w.keys, w.clustering} {
		for _, r := range list {
			if r.kind != restrictEq && r.kind != restrictIn {
				return false
			}
			n += len(r.cols)
		}
	}
	return n == len(w.table.PartitionKey)+len(w.table.Clustering)
}

// boundCondition is a condition with the values of one request.
type boundCondition struct {
	*condition
	element []byte // key of the element
	index   int    // and of a list
	values  [][]byte
}

var errUnsetCondition = invalid("Invalid 'unset' value in condition")

func (x *condition) bind(sc *scope) (boundCondition, error) {
	b := boundCondition{condition: x}
	if x.key != nil {
		if err := b.bindElement(sc); err != nil {
			return b, err
		}
	}
	if x.marker != nil {
		return b, b.bindList(sc)
	}
	for _, t := range x.values {
		v, err := t.eval(sc)
		switch {
		case err != nil:
			return b, err
		case v.State == protocol.Unset && x.in:
			continue
		case v.State == protocol.Unset:
			return b, errUnsetCondition
		case v.State == protocol.Null:
			b.values = append(b.values, nil)
			continue
		}
		b.values = append(b.values, orEmpty(v.Bytes))
	}
	return b, b.checkComparable()
}

func (b *boundCondition) bindElement(sc *scope) error {
	k, err := b.key.eval(sc)
	what := "map"
	if b.col.Type.Kind == types.KindList {
		what = "list"
	}
	switch {
	case err != nil:
		return err
	case k.State == protocol.Unset:
		return errUnsetCondition
	case k.State == protocol.Null:
		return invalid("Invalid null value for %s element access", what)
	}
	b.element = k.Bytes
	if what == "list" {
		i, err := types.DecodeInt(k.Bytes)
		if err != nil {
			return invalid("Invalid null value for list element access")
		}
		if b.index = int(i); i < 0 {
			return invalid("Invalid negative list index %d", i)
		}
	}
	return nil
}

// bindList reads the list that IN ? was bound to.
func (b *boundCondition) bindList(sc *scope) error {
	v := sc.args.Values[b.marker.slot]
	switch v.State {
	case protocol.Null:
		return invalid("Invalid null list in IN condition")
	case protocol.Unset:
		return errUnsetCondition
	}
	it := b.marker.typ.Iter(v.Bytes)
	for e, ok := it.Next(); ok; e, ok = it.Next() {
		if e != nil {
			if err := b.typ.Validate(e); err != nil {
				return marshalError(err)
			}
			e = b.typ.Ordered(e)
		}
		b.values = append(b.values, e)
	}
	if err := it.Err(); err != nil {
		return marshalError(err)
	}
	return b.checkComparable()
}

// checkComparable refuses null where there is nothing to compare, and makes null of the empty values of collections that are
// not frozen.
func (b *boundCondition) checkComparable() error {
	loose := b.key == nil && b.typ.Collection() && b.typ.MultiCell() && b.op != cql.Contains && b.op != cql.ContainsKey
	for i, v := range b.values {
		empty := v != nil && loose && !nonEmpty(b.typ, v)
		switch equality := b.op == cql.Eq || b.op == cql.Neq; {
		case empty && equality:
			b.values[i] = nil
		case empty:
			return invalid("Invalid comparison with an empty %s for operator \"%s\"", collectionWord(b.typ), b.op)
		case v == nil && !equality:
			return invalid("Invalid comparison with null for operator \"%s\"", b.op)
		}
	}
	return nil
}

func collectionWord(t *types.Type) string {
	switch t.Kind {
	case types.KindList:
		return "list"
	case types.KindSet:
		return "set"
	}
	return "map"
}

// nonEmpty reports whether a collection has an element.
func nonEmpty(t *types.Type, v []byte) bool {
	it := t.Iter(v)
	_, ok := it.Next()
	return ok
}

// holds reports whether the condition is satisfied by a column's value, nil for null.
func (b *boundCondition) holds(column []byte) bool {
	v := b.part(column)
	for _, want := range b.values {
		if b.compare(v, want) {
			return true
		}
	}
	return false
}

// part returns the element or the field that the condition is about, nil when it is null.
func (b *boundCondition) part(column []byte) []byte {
	switch {
	case column == nil || b.key == nil && b.field < 0:
		return column
	case b.col.Type.Kind == types.KindMap:
		return mapValue(b.col.Type, column, b.element)
	}
	at := b.field
	if at < 0 {
		at = b.index
	}
	it := b.col.Type.Iter(column)
	for i := 0; ; i++ {
		e, ok := it.Next()
		if !ok || i == at {
			return e
		}
	}
}

// compare reports whether v op want.
func (b *boundCondition) compare(v, want []byte) bool {
	switch {
	case v == nil || want == nil:
		if b.op == cql.Eq {
			return v == nil && want == nil
		}
		return b.op == cql.Neq && (v != nil || want != nil)
	case b.op == cql.Contains:
		t := b.typ
		return contains(t, v, want, t.Elems[len(t.Elems)-1], t.Kind == types.KindMap, true)
	case b.op == cql.ContainsKey:
		return contains(b.typ, v, want, b.typ.Elems[0], true, false)
	}
	return satisfies(b.op, b.typ.Compare(v, want))
}

// satisfies reports whether values that compare as c (negative, 0, positive) satisfy op.
func satisfies(op cql.Operator, c int) bool {
	switch op {
	case cql.Eq:
		return c == 0
	case cql.Neq:
		return c != 0
	case cql.Lt:
		return c < 0
	case cql.Lte:
		return c <= 0
	case cql.Gt:
		return c > 0
	default:
		return c >= 0
	}
}
