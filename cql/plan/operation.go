package plan

import (
	"fmt"

	"github.com/helenusdb/helenus/cql"
	"github.com/helenusdb/helenus/cql/types"
	"github.com/helenusdb/helenus/schema"
)

// opKind is what an operation does to its column.
type opKind uint8

const (
	opSet           opKind = iota // simple column = value
	opOverwrite                   // list, set, map, UDT = value
	opAdd                         // set, map + value; list + value
	opPrepend                     // value + list
	opDiscard                     // set, map - set of keys
	opDiscardValues               // list - values: reads first
	opElement                     // map[key] = value
	opIndex                       // list[key] = value: reads first
	opField                       // udt.field = value
	opDelete                      // DELETE column
	opDeleteElement               // DELETE set[key], map[key]
	opDeleteIndex                 // DELETE list[key]: reads first
	opDeleteField                 // DELETE udt.field
	opIncrement                   // number + value, text + value, under conditions only: reads first
	opCount                       // counter + value
	opCountDown                   // counter - value
)

// operation is one assignment or deletion of a column.
type operation struct {
	kind  opKind
	col   *schema.Column
	slot  int // of a plain bind variable, else -1: value
	value term
	key   term
	field int
}

func (o *operation) reads() bool {
	return o.kind == opDiscardValues || o.kind == opIndex || o.kind == opDeleteIndex || o.kind == opIncrement
}

// newOperation makes col kind value.
func newOperation(kind opKind, col *schema.Column, value term) *operation {
	o := &operation{kind: kind, col: col, slot: -1, value: value}
	if b, ok := value.(*bindTerm); ok {
		o.slot = b.slot
	}
	return o
}

// setColumn compiles col = value of INSERT and UPDATE.
func (c *compiler) setColumn(col *schema.Column, value cql.Term) (*operation, error) {
	t, err := c.term(value, columnReceiver(col))
	if err != nil {
		return nil, err
	}
	if col.Type.Kind == types.KindCounter {
		return nil, invalid("Cannot set the value of counter column %s (counters can only be incremented/decremented, not set)",
			cql.QuoteIdent(col.Name))
	}
	if col.Type.MultiCell() {
		return newOperation(opOverwrite, col, t), nil
	}
	return newOperation(opSet, col, t), nil
}

// assignment compiles one item of UPDATE ... SET. conditional says that the statement has an IF clause.
func (c *compiler) assignment(a *cql.Assignment, col *schema.Column, conditional bool) (*operation, error) {
	switch a.Kind {
	case cql.AssignValue:
		return c.setColumn(col, a.Value)
	case cql.AssignElement:
		return c.setElement(a, col)
	case cql.AssignField:
		return c.setField(a, col)
	case cql.AssignPrepend:
		return c.prepend(a, col)
	}
	return c.addition(a, col, conditional)
}

func (c *compiler) setElement(a *cql.Assignment, col *schema.Column) (*operation, error) {
	name := cql.QuoteIdent(col.Name)
	text := func() string { return fmt.Sprintf("%s[%s] = %s", name, cql.Format(a.Key), cql.Format(a.Value)) }
	switch {
	case !col.Type.Collection():
		return nil, invalid("Invalid operation (%s) for non collection column %s", text(), name)
	case !col.Type.MultiCell():
		return nil, invalid("Invalid operation (%s) for frozen collection column %s", text(), name)
	case col.Type.Kind == types.KindSet:
		return nil, invalid("Invalid operation (%s) for set column %s", text(), name)
	}
	kind, key := opElement, receive("key("+col.Name+")", col.Type.Elems[0])
	if col.Type.Kind == types.KindList {
		kind, key = opIndex, receive("idx("+col.Name+")", types.Int)
	}
	k, err := c.term(a.Key, key)
	if err != nil {
		return nil, err
	}
	v, err := c.term(a.Value, receive("value("+col.Name+")", col.Type.Elems[len(col.Type.Elems)-1]))
	if err != nil {
		return nil, err
	}
	o := newOperation(kind, col, v)
	o.key = k
	return o, nil
}

func (c *compiler) setField(a *cql.Assignment, col *schema.Column) (*operation, error) {
	name := cql.QuoteIdent(col.Name)
	text := func() string { return fmt.Sprintf("%s.%s = %s", name, a.Field.Name, cql.Format(a.Value)) }
	switch {
	case col.Type.Kind != types.KindUDT:
		return nil, invalid("Invalid operation (%s) for non-UDT column %s", text(), name)
	case !col.Type.MultiCell():
		return nil, invalid("Invalid operation (%s) for frozen UDT column %s", text(), name)
	}
	i := col.Type.UDTField(a.Field.Name)
	if i < 0 {
		return nil, invalid("UDT column %s does not have a field named %s", name, a.Field.Name)
	}
	v, err := c.term(a.Value, fieldReceiver(columnReceiver(col), i))
	if err != nil {
		return nil, err
	}
	o := newOperation(opField, col, v)
	o.field = i
	return o, nil
}

func (c *compiler) prepend(a *cql.Assignment, col *schema.Column) (*operation, error) {
	name := cql.QuoteIdent(col.Name)
	v, err := c.term(a.Value, columnReceiver(col))
	if err != nil {
		return nil, err
	}
	text := func() string { return fmt.Sprintf("%s = %s - %s", name, cql.Format(a.Value), name) }
	if col.Type.Kind != types.KindList {
		return nil, invalid("Invalid operation (%s) for non list column %s", text(), name)
	}
	if !col.Type.MultiCell() {
		return nil, invalid("Invalid operation (%s) for frozen list column %s", text(), name)
	}
	return newOperation(opPrepend, col, v), nil
}

// addition compiles col = col + value and col = col - value.
func (c *compiler) addition(a *cql.Assignment, col *schema.Column, conditional bool) (*operation, error) {
	name, sign := cql.QuoteIdent(col.Name), "+"
	if a.Kind == cql.AssignSubtract {
		sign = "-"
	}
	text := func() string { return fmt.Sprintf("%s = %s %s %s", name, name, sign, cql.Format(a.Value)) }
	switch {
	case col.Type.Kind == types.KindCounter:
		return c.countOperation(a, col)
	case tupleLike(col.Type):
		return nil, invalid("Invalid operation (%s) for tuple column %s", text(), name)
	case !col.Type.Collection() && conditional && a.Kind == cql.AssignAdd:
		return c.increment(a, col, text)
	case !col.Type.Collection():
		return nil, invalid("Invalid operation (%s) for non counter column %s", text(), name)
	case !col.Type.MultiCell():
		return nil, invalid("Invalid operation (%s) for frozen collection column %s", text(), name)
	}
	recv, kind := columnReceiver(col), opAdd
	if a.Kind == cql.AssignSubtract {
		kind = opDiscard
		switch col.Type.Kind {
		case types.KindMap:
			recv.typ = types.SetOf(col.Type.Elems[0], false)
		case types.KindList:
			kind = opDiscardValues
		}
	}
	v, err := c.term(a.Value, recv)
	if err != nil {
		if col.Type.Kind == types.KindMap {
			return nil, mapAdditionError(a)
		}
		return nil, err
	}
	return newOperation(kind, col, v), nil
}

// increment compiles col = col + value of a number or text.
func (c *compiler) increment(a *cql.Assignment, col *schema.Column, text func() string) (*operation, error) {
	switch col.Type.Kind {
	case types.KindTinyint, types.KindSmallint, types.KindInt, types.KindBigint, types.KindFloat, types.KindDouble, types.KindVarint,
		types.KindDecimal, types.KindText, types.KindAscii:
	default:
		return nil, invalid("Invalid operation (%s) for non-numeric and non-text type %s", text(), cql.QuoteIdent(col.Name))
	}
	v, err := c.term(a.Value, columnReceiver(col))
	if err != nil {
		return nil, err
	}
	return newOperation(opIncrement, col, v), nil
}

func mapAdditionError(a *cql.Assignment) error {
	if a.Kind == cql.AssignSubtract {
		return invalid("Value for a map substraction has to be a set, but was: '%s'", cql.Format(a.Value))
	}
	return invalid("Value for a map addition has to be a map, but was: '%s'", cql.Format(a.Value))
}

// deletion compiles one item of DELETE ... FROM.
func (c *compiler) deletion(d *cql.Deletion, col *schema.Column) (*operation, error) {
	name := cql.QuoteIdent(col.Name)
	switch {
	case d.Key != nil:
		return c.deleteElement(d, col)
	case d.Field.Name == "":
		return newOperation(opDelete, col, nil), nil
	case col.Type.Kind != types.KindUDT:
		return nil, invalid("Invalid field deletion operation for non-UDT column %s", name)
	case !col.Type.MultiCell():
		return nil, invalid("Frozen UDT column %s does not support field deletions", name)
	}
	i := col.Type.UDTField(d.Field.Name)
	if i < 0 {
		return nil, invalid("UDT column %s does not have a field named %s", name, d.Field.Name)
	}
	o := newOperation(opDeleteField, col, nil)
	o.field = i
	return o, nil
}

func (c *compiler) deleteElement(d *cql.Deletion, col *schema.Column) (*operation, error) {
	name := cql.QuoteIdent(col.Name)
	if !col.Type.Collection() {
		return nil, invalid("Invalid deletion operation for non collection column %s", name)
	}
	if !col.Type.MultiCell() {
		return nil, invalid("Invalid deletion operation for frozen collection column %s", name)
	}
	kind, key := opDeleteElement, receive("key("+col.Name+")", col.Type.Elems[0])
	switch col.Type.Kind {
	case types.KindList:
		kind, key = opDeleteIndex, receive("idx("+col.Name+")", types.Int)
	case types.KindSet:
		key.name = "value(" + col.Name + ")"
	}
	k, err := c.term(d.Key, key)
	if err != nil {
		return nil, err
	}
	o := newOperation(kind, col, nil)
	o.key = k
	return o, nil
}
