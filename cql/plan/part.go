package plan

import (
	"encoding/binary"

	"github.com/helenusdb/helenus/cql"
	"github.com/helenusdb/helenus/cql/protocol"
	"github.com/helenusdb/helenus/cql/types"
	"github.com/helenusdb/helenus/row"
)

// Selections of parts of a value: fields of a UDT, elements and slices of a collection, and cells' timestamps and TTLs.

// fieldTerm is value.field.
type fieldTerm struct {
	arg   term
	typ   *types.Type
	field int
}

func (t *fieldTerm) eval(sc *scope) (protocol.Value, error) {
	v, err := t.arg.eval(sc)
	if err != nil || v.State != protocol.Set {
		return nullValue(), err
	}
	it := t.typ.Iter(v.Bytes)
	for i := 0; ; i++ {
		f, ok := it.Next()
		if !ok || i == t.field && f == nil {
			return nullValue(), nil
		}
		if i == t.field {
			return setValue(f), nil
		}
	}
}

func (c *selectCompiler) fieldSelector(t *cql.FieldRef) (term, *types.Type, error) {
	arg, typ, err := c.selector(t.Receiver, nil)
	if err != nil {
		return nil, nil, err
	}
	if typ.Kind != types.KindUDT {
		return nil, nil, invalid("Invalid field selection: %s of type %s is not a user type", c.text(t.Receiver), typ)
	}
	i := typ.UDTField(t.Field.Name)
	if i < 0 {
		return nil, nil, invalid("%s of type %s has no field %s", c.text(t.Receiver), typ, cql.QuoteIdent(t.Field.Name))
	}
	return &fieldTerm{arg, typ, i}, typ.Elems[i], nil
}

// text returns t as Cassandra shows a selectable.
func (c *selectCompiler) text(t cql.Term) string {
	return cql.ColumnName(t, cql.Namer{Function: c.functionName, Type: c.typeName})
}

// elementTerm is value[key] of a map, or a set: the key itself when it is there.
type elementTerm struct {
	arg, key term
	typ      *types.Type
	name     string // of what it selects from
}

func (t *elementTerm) eval(sc *scope) (protocol.Value, error) {
	k, err := t.key.eval(sc)
	if err != nil {
		return k, err
	}
	switch k.State {
	case protocol.Unset:
		return k, invalid("Invalid unset value for element selection on %s", t.name)
	case protocol.Null:
		return k, invalid("Invalid null value for element selection on %s", t.name)
	}
	v, err := t.arg.eval(sc)
	if err != nil || v.State != protocol.Set {
		return nullValue(), err
	}
	var found []byte
	if t.typ.Kind == types.KindMap {
		found = mapValue(t.typ, v.Bytes, k.Bytes)
	} else if contains(t.typ, v.Bytes, k.Bytes, t.typ.Elems[0], false, false) {
		found = k.Bytes
	}
	if found == nil {
		return nullValue(), nil
	}
	return setValue(found), nil
}

// keyReceiver is what the key of an element selection is compared with.
func (c *selectCompiler) keyReceiver(typ *types.Type, arg cql.Term) receiver {
	if typ.Kind == types.KindSet {
		return receive("value("+c.text(arg)+")", typ.Elems[0])
	}
	return receive("key("+c.text(arg)+")", typ.Elems[0])
}

// collectionArg compiles the receiver of an element or slice selection.
func (c *selectCompiler) collectionArg(t cql.Term, what string) (term, *types.Type, error) {
	arg, typ, err := c.selector(t, nil)
	if err != nil {
		return nil, nil, err
	}
	if !typ.Collection() {
		if what == "element" {
			return nil, nil, invalid("Invalid element selection: %s is of type %s is not a collection", c.text(t), typ)
		}
		return nil, nil, invalid("Invalid %s selection: %s of type %s is not a collection", what, c.text(t), typ)
	}
	if typ.Kind == types.KindList {
		return nil, nil, invalid("%s selection is only allowed on sets and maps, but %s is a list", title(what), c.text(t))
	}
	return arg, typ, nil
}

func title(s string) string { return string(s[0]-'a'+'A') + s[1:] }

func (c *selectCompiler) elementSelector(t *cql.ElementRef) (term, *types.Type, error) {
	arg, typ, err := c.collectionArg(t.Receiver, "element")
	if err != nil {
		return nil, nil, err
	}
	key, err := c.term(t.Key, c.keyReceiver(typ, t.Receiver))
	if err != nil {
		return nil, nil, err
	}
	return &elementTerm{arg, key, typ, c.text(t.Receiver)}, typ.Elems[len(typ.Elems)-1], nil
}

// sliceTerm is value[from..to] of a set or map, both bounds included.
type sliceTerm struct {
	arg      term
	from, to term // nil: open
	typ      *types.Type
	name     string // of what it selects from
}

func (c *selectCompiler) sliceSelector(t *cql.SliceRef) (term, *types.Type, error) {
	arg, typ, err := c.collectionArg(t.Receiver, "slice")
	if err != nil {
		return nil, nil, err
	}
	x := &sliceTerm{arg: arg, typ: typ, name: c.text(t.Receiver)}
	if t.From != nil {
		if x.from, err = c.term(t.From, c.keyReceiver(typ, t.Receiver)); err != nil {
			return nil, nil, err
		}
	}
	if t.To != nil {
		if x.to, err = c.term(t.To, c.keyReceiver(typ, t.Receiver)); err != nil {
			return nil, nil, err
		}
	}
	return x, typ, nil
}

// bounds evaluates both bounds; nil is open.
func (t *sliceTerm) bounds(sc *scope) (from, to []byte, err error) {
	for i, b := range [2]term{t.from, t.to} {
		if b == nil {
			continue
		}
		v, err := b.eval(sc)
		if err != nil {
			return nil, nil, err
		}
		if v.State == protocol.Null {
			return nil, nil, invalid("Invalid null value for slice selection on %s", t.name)
		}
		if v.State == protocol.Set {
			if i == 0 {
				from = orEmpty(v.Bytes)
			} else {
				to = orEmpty(v.Bytes)
			}
		}
	}
	return from, to, nil
}

// within reports whether key lies between the bounds.
func within(typ *types.Type, key, from, to []byte) bool {
	return (from == nil || typ.Compare(key, from) >= 0) && (to == nil || typ.Compare(key, to) <= 0)
}

func (t *sliceTerm) eval(sc *scope) (protocol.Value, error) {
	from, to, err := t.bounds(sc)
	if err != nil {
		return protocol.Value{}, err
	}
	v, err := t.arg.eval(sc)
	if err != nil || v.State != protocol.Set {
		return nullValue(), err
	}
	at := len(sc.mem.buf)
	b := types.AppendCount(sc.mem.buf, 0)
	n := 0
	it := t.typ.Iter(v.Bytes)
	for k, ok := it.Next(); ok; k, ok = it.Next() {
		in := within(t.typ.Elems[0], k, from, to)
		if in {
			b = types.AppendElem(b, k)
			n++
		}
		if t.typ.Kind == types.KindMap {
			e, _ := it.Next()
			if in {
				b = types.AppendElem(b, e)
			}
		}
	}
	if n == 0 && t.multi() {
		return nullValue(), nil // as when the cells were not there
	}
	types.AppendCount(b[:at], n)
	return setValue(sc.mem.take(b, at)), nil
}

// multi reports whether the slice is of a column that is stored as several cells.
func (t *sliceTerm) multi() bool { return t.typ.MultiCell() }

// metaTerm is writetime(c), ttl(c), maxwritetime(c): of a simple column one number, of several cells a list, or the largest.
type metaTerm struct {
	kind cql.MetaKind
	slot int
	typ  *types.Type // of the column
	list bool        // several cells
	key  term        // of one element; or a slice
	part *sliceTerm
	// field picks one field of a UDT; -1: none.
	field int
}

func (c *selectCompiler) metaSelector(t *cql.MetaCall) (term, *types.Type, error) {
	name := t.Kind.String()
	x := &metaTerm{kind: t.Kind, field: -1}
	arg := t.Arg
	switch a := arg.(type) {
	case *cql.ElementRef:
		arg = a.Receiver
	case *cql.SliceRef:
		arg = a.Receiver
	case *cql.FieldRef:
		arg = a.Receiver
	}
	ref, ok := arg.(*cql.ColumnRef)
	if !ok {
		return nil, nil, invalid("Cannot use selection function %s on %s", name, c.text(t.Arg))
	}
	col, err := c.column(ref.Name)
	switch {
	case err != nil:
		return nil, nil, err
	case col.Kind.Key():
		return nil, nil, invalid("Cannot use selection function %s on PRIMARY KEY part %s", name, cql.QuoteIdent(col.Name))
	}
	x.typ, x.slot = col.Type, c.sel.slots.of(col)
	c.sel.slots.meta[x.slot] = true
	x.list = col.Type.MultiCell()
	if err := c.metaPart(x, t); err != nil {
		return nil, nil, err
	}
	ret := types.Bigint
	if t.Kind == cql.TTL {
		ret = types.Int
	}
	if x.list && t.Kind != cql.MaxWritetime {
		ret = types.ListOf(ret, true)
	}
	return x, ret, nil
}

// metaPart compiles the element, slice or field that the function is about.
func (c *selectCompiler) metaPart(x *metaTerm, t *cql.MetaCall) error {
	switch a := t.Arg.(type) {
	case *cql.ElementRef:
		y, _, err := c.elementSelector(a)
		if err != nil {
			return err
		}
		if x.list {
			x.key, x.list = y.(*elementTerm).key, false
		}
	case *cql.SliceRef:
		y, _, err := c.sliceSelector(a)
		if err != nil {
			return err
		}
		if x.list {
			x.part = y.(*sliceTerm)
		}
	case *cql.FieldRef:
		y, _, err := c.fieldSelector(a)
		if err != nil {
			return err
		}
		if x.list {
			x.field, x.list = y.(*fieldTerm).field, false
		}
	}
	return nil
}

func (t *metaTerm) eval(sc *scope) (protocol.Value, error) {
	cells := sc.row.meta[t.slot].cells
	switch {
	case t.key != nil:
		k, err := t.key.eval(sc)
		if err != nil || k.State != protocol.Set {
			return nullValue(), err
		}
		path := t.typ.Elems[0].AppendKey(nil, k.Bytes, false)
		return t.one(sc, findCell(cells, path)), nil
	case t.field >= 0:
		return t.one(sc, findCell(cells, fieldPath(t.field))), nil
	}
	if t.part != nil {
		var err error
		if cells, err = t.sliced(sc, cells); err != nil {
			return protocol.Value{}, err
		}
	}
	if len(cells) == 0 {
		return nullValue(), nil
	}
	if t.kind == cql.MaxWritetime {
		best := cells[0].Timestamp
		for _, c := range cells {
			best = max(best, c.Timestamp)
		}
		return setValue(types.EncodeBigint(best)), nil
	}
	if !t.list {
		return t.one(sc, &cells[0]), nil
	}
	return t.all(sc, cells), nil
}

// sliced returns the cells of the elements within the slice.
func (t *metaTerm) sliced(sc *scope, cells []row.Cell) ([]row.Cell, error) {
	from, to, err := t.part.bounds(sc)
	if err != nil {
		return nil, err
	}
	var out []row.Cell
	for _, c := range cells {
		k, _, err := t.typ.Elems[0].DecodeKey(c.Path, false)
		if err != nil {
			return nil, err
		}
		if within(t.typ.Elems[0], k, from, to) {
			out = append(out, c)
		}
	}
	return out, nil
}

func findCell(cells []row.Cell, path []byte) *row.Cell {
	for i := range cells {
		if string(cells[i].Path) == string(path) {
			return &cells[i]
		}
	}
	return nil
}

// one returns the number of one cell.
func (t *metaTerm) one(sc *scope, c *row.Cell) protocol.Value {
	if c == nil {
		return nullValue()
	}
	if t.kind != cql.TTL {
		return setValue(types.EncodeBigint(c.Timestamp))
	}
	if c.TTL == 0 {
		return nullValue()
	}
	return setValue(types.EncodeInt(int32(c.Expiry - sc.args.Now)))
}

// all returns the numbers of all cells; of a UDT one per field, null for those that are not there.
func (t *metaTerm) all(sc *scope, cells []row.Cell) protocol.Value {
	var elems [][]byte
	for i := range cells {
		if t.typ.Kind == types.KindUDT {
			for len(elems) < fieldIndex(cells[i].Path) {
				elems = append(elems, nil)
			}
		}
		elems = append(elems, t.one(sc, &cells[i]).Bytes)
	}
	if t.typ.Kind == types.KindUDT {
		for len(elems) < len(t.typ.Elems) {
			elems = append(elems, nil)
		}
	}
	b := binary.BigEndian.AppendUint32(nil, uint32(len(elems)))
	for _, e := range elems {
		b = types.AppendElem(b, e)
	}
	return setValue(b)
}

// literalSelector compiles a collection, tuple or UDT made of columns and calls.
func (c *selectCompiler) literalSelector(t cql.Term, want *types.Type) (term, *types.Type, error) {
	if want == nil {
		if want = c.inferComposite(t); want == nil {
			return nil, nil, invalid("Cannot infer type for term %s in selection clause (try using a cast to force a type)", c.text(t))
		}
	}
	list, elemType := c.compositeElems(t, want)
	if list == nil {
		return nil, nil, invalid("Cannot assign value %s to type %s", c.text(t), want)
	}
	elems := make([]term, len(list))
	for i, e := range list {
		if e == nil {
			continue
		}
		x, err := c.argument(e, receive("[selection]", elemType(i)))
		if err != nil {
			return nil, nil, err
		}
		elems[i] = x
	}
	if want.Collection() {
		return &collectionTerm{want, elems}, want, nil
	}
	return &tupleTerm{want, elems}, want, nil
}

// compositeElems returns the elements of a literal as want holds them, nil when it is none of want.
func (c *selectCompiler) compositeElems(t cql.Term, want *types.Type) ([]cql.Term, func(i int) *types.Type) {
	first := func(int) *types.Type { return want.Elems[0] }
	switch t := t.(type) {
	case *cql.ListLit:
		if want.Kind == types.KindList {
			return t.Elems, first
		}
	case *cql.SetLit:
		if want.Kind == types.KindSet {
			return t.Elems, first
		}
	case *cql.TupleLit:
		if want.Kind == types.KindTuple && len(t.Elems) <= len(want.Elems) {
			return t.Elems, func(i int) *types.Type { return want.Elems[i] }
		}
	case *cql.MapLit:
		return c.mapElems(t, want)
	}
	return nil, nil
}

func (c *selectCompiler) mapElems(t *cql.MapLit, want *types.Type) ([]cql.Term, func(i int) *types.Type) {
	switch want.Kind {
	case types.KindMap:
		var list []cql.Term
		for _, e := range t.Entries {
			list = append(list, e.Key, e.Value)
		}
		return list, func(i int) *types.Type { return want.Elems[i%2] }
	case types.KindUDT:
		list := make([]cql.Term, len(want.Elems))
		for _, e := range t.Entries {
			ref, ok := e.Key.(*cql.ColumnRef)
			if !ok || want.UDTField(ref.Name.Name) < 0 {
				return nil, nil
			}
			list[want.UDTField(ref.Name.Name)] = e.Value
		}
		return list, func(i int) *types.Type { return want.Elems[i] }
	}
	return nil, nil
}

// inferComposite returns the type of a literal from those of its elements.
func (c *selectCompiler) inferComposite(t cql.Term) *types.Type {
	switch t := t.(type) {
	case *cql.ListLit:
		if e := c.commonType(t.Elems); e != nil {
			return types.ListOf(e.Freeze(), true)
		}
	case *cql.SetLit:
		if e := c.commonType(t.Elems); e != nil {
			return types.SetOf(e.Freeze(), false)
		}
	case *cql.TupleLit:
		if len(t.Elems) == 1 {
			return nil
		}
		var elems []*types.Type
		for _, e := range t.Elems {
			typ := c.typeOf(e)
			if typ == nil {
				return nil
			}
			elems = append(elems, typ.Freeze())
		}
		return types.TupleOf(elems...)
	}
	return nil
}

// commonType returns the type of the first element that has one.
func (c *selectCompiler) commonType(list []cql.Term) *types.Type {
	for _, t := range list {
		if typ := c.typeOf(t); typ != nil {
			return typ
		}
	}
	return nil
}
