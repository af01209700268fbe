package plan

import (
	"strings"

	"github.com/helenusdb/helenus/cql"
	"github.com/helenusdb/helenus/cql/types"
	"github.com/helenusdb/helenus/schema"
)

// tupleSource gives the values that a relation compares its columns with: one term per column, or one term that is the
// whole tuple.
type tupleSource struct {
	terms []term
	whole term
	typ   *types.Type // of whole
	among bool        // one of several tuples of an IN, which Cassandra has other words for
}

// boundSource is one side of a slice.
type boundSource struct {
	tupleSource
	cols      []*schema.Column // that it compares: the first ones of the restriction's
	inclusive bool
}

// restrictionKind is what a restriction demands.
type restrictionKind uint8

const (
	restrictEq restrictionKind = iota
	restrictIn
	restrictSlice
	restrictContains // contains, keys, entries
)

// restriction is what a WHERE clause demands of one column or of several at once, all its relations merged.
type restriction struct {
	kind  restrictionKind
	cols  []*schema.Column // in the order of the table, in a row
	multi bool             // written as a tuple

	eq           tupleSource
	in           []tupleSource
	inMarker     *bindTerm // a list; instead of in
	inType       *types.Type
	lower, upper *boundSource

	contains, keys []term
	entries        [][2]term // map[key] = value
}

func (r *restriction) first() *schema.Column { return r.cols[0] }
func (r *restriction) last() *schema.Column  { return r.cols[len(r.cols)-1] }

// slice reports whether r is a range. CONTAINS is none.
func (r *restriction) slice() bool { return r.kind == restrictSlice }

// statementType is the word of Cassandra's messages.
type statementType string

const (
	typeSelect statementType = "SELECT"
	typeInsert statementType = "INSERT"
	typeUpdate statementType = "UPDATE"
	typeDelete statementType = "DELETE"
)

func (c *compiler) column(id cql.Ident) (*schema.Column, error) {
	col := c.table.Column(id.Name)
	if col == nil {
		return nil, invalid("Undefined column name %s in table %s.%s", cql.QuoteIdent(id.Name), cql.QuoteIdent(c.table.Keyspace), cql.QuoteIdent(c.table.Name))
	}
	return col, nil
}

// relation compiles one conjunct of a WHERE clause about columns; token relations are apart.
func (c *compiler) relation(rel *cql.Relation) (*restriction, error) {
	if rel.Kind == cql.TupleRelation {
		return c.multiRelation(rel)
	}
	col, err := c.column(rel.Column)
	if err != nil {
		return nil, err
	}
	if err := checkRelation(rel, col); err != nil {
		return nil, err
	}
	r := &restriction{cols: []*schema.Column{col}}
	recv := columnReceiver(col)
	switch {
	case rel.Kind == cql.ElementRelation:
		return r, c.entryRelation(r, rel, recv)
	case rel.Op == cql.Contains || rel.Op == cql.ContainsKey:
		return r, c.containsRelation(r, rel, recv)
	case rel.Op == cql.In:
		return r, c.inRelation(r, rel, recv)
	}
	t, err := c.term(rel.Value, recv)
	if err != nil {
		return nil, err
	}
	r.compare(rel.Op, tupleSource{terms: []term{t}})
	return r, nil
}

// compare makes r an equality or one side of a slice.
func (r *restriction) compare(op cql.Operator, src tupleSource) {
	switch op {
	case cql.Eq:
		r.kind, r.eq = restrictEq, src
	case cql.Gt, cql.Gte:
		r.kind, r.lower = restrictSlice, &boundSource{src, r.cols, op == cql.Gte}
	default:
		r.kind, r.upper = restrictSlice, &boundSource{src, r.cols, op == cql.Lte}
	}
}

// checkRelation refuses operators that the column's type does not allow.
func checkRelation(rel *cql.Relation, col *schema.Column) error {
	typ := col.Type
	name := cql.QuoteIdent(col.Name)
	if rel.Op == cql.ContainsKey && typ.Kind != types.KindMap {
		return invalid("Cannot use CONTAINS KEY on non-map column %s", name)
	}
	if rel.Op == cql.Contains && !typ.Collection() {
		return invalid("Cannot use CONTAINS on non-collection column %s", name)
	}
	if rel.Kind == cql.ElementRelation {
		switch {
		case typ.Kind == types.KindList:
			return invalid("Indexes on list entries (%s[index] = value) are not currently supported.", name)
		case typ.Kind != types.KindMap:
			return invalid("Column %s cannot be used as a map", name)
		case !typ.MultiCell():
			return invalid("Map-entry equality predicates on frozen map column %s are not supported", name)
		case rel.Op != cql.Eq:
			return invalid("Only EQ relations are supported on map entries")
		}
		return nil
	}
	switch rel.Op {
	case cql.Lt, cql.Lte, cql.Gt, cql.Gte:
		if err := checkSlice(typ); err != nil {
			return err
		}
	}
	if typ.Kind == types.KindUDT && typ.MultiCell() {
		return invalid("Non-frozen UDT column '%s' (%s) cannot be restricted by any relation", name, typ)
	}
	if typ.MultiCell() && rel.Op != cql.Contains && rel.Op != cql.ContainsKey {
		return invalid("Collection column '%s' (%s) cannot be restricted by a '%s' relation", name, typ, rel.Op)
	}
	return nil
}

// checkSlice refuses ranges over what has no order.
func checkSlice(typ *types.Type) error {
	if !hasDuration(typ) {
		return nil
	}
	switch typ.Kind {
	case types.KindTuple:
		return invalid("Slice restrictions are not supported on tuples containing durations")
	case types.KindUDT:
		return invalid("Slice restrictions are not supported on UDTs containing durations")
	case types.KindDuration:
		return invalid("Slice restrictions are not supported on duration columns")
	}
	return invalid("Slice restrictions are not supported on collections containing durations")
}

func hasDuration(t *types.Type) bool {
	if t.Kind == types.KindDuration {
		return true
	}
	for _, e := range t.Elems {
		if hasDuration(e) {
			return true
		}
	}
	return false
}

func (c *compiler) entryRelation(r *restriction, rel *cql.Relation, recv receiver) error {
	k, err := c.term(rel.Key, receive("key("+recv.name+")", recv.typ.Elems[0]))
	if err != nil {
		return err
	}
	v, err := c.term(rel.Value, receive("value("+recv.name+")", recv.typ.Elems[1]))
	if err != nil {
		return err
	}
	r.kind, r.entries = restrictContains, [][2]term{{k, v}}
	return nil
}

func (c *compiler) containsRelation(r *restriction, rel *cql.Relation, recv receiver) error {
	elem := receive("value("+recv.name+")", recv.typ.Elems[len(recv.typ.Elems)-1])
	if rel.Op == cql.ContainsKey {
		elem = receive("key("+recv.name+")", recv.typ.Elems[0])
	}
	t, err := c.term(rel.Value, elem)
	if err != nil {
		return err
	}
	r.kind = restrictContains
	if rel.Op == cql.ContainsKey {
		r.keys = []term{t}
	} else {
		r.contains = []term{t}
	}
	return nil
}

func (c *compiler) inRelation(r *restriction, rel *cql.Relation, recv receiver) error {
	r.kind = restrictIn
	if m, ok := rel.Value.(*cql.Marker); ok {
		r.inType = types.ListOf(recv.typ, false)
		r.inMarker = c.bind(m, receive("in("+recv.name+")", r.inType))
		return nil
	}
	for _, v := range rel.Values {
		t, err := c.term(v, recv)
		if err != nil {
			return err
		}
		r.in = append(r.in, tupleSource{terms: []term{t}})
	}
	if len(r.in) == 1 { // as in Cassandra
		r.kind, r.eq, r.in = restrictEq, r.in[0], nil
	}
	return nil
}

// multiRelation compiles (a, b) op ....
func (c *compiler) multiRelation(rel *cql.Relation) (*restriction, error) {
	cols, err := c.tupleColumns(rel)
	if err != nil {
		return nil, err
	}
	r := &restriction{cols: cols, multi: true}
	names := make([]string, len(cols))
	elems := make([]*types.Type, len(cols))
	for i, col := range cols {
		names[i], elems[i] = col.Name, col.Type
	}
	recv := receive("("+strings.Join(names, ",")+")", types.TupleOf(elems...))
	switch {
	case rel.Op != cql.In:
		src, err := c.tupleSource(rel.Value, cols, recv)
		if err != nil {
			return nil, err
		}
		r.compare(rel.Op, src)
	case rel.Value != nil:
		r.kind, r.inType = restrictIn, types.ListOf(recv.typ, false)
		r.inMarker = c.bind(rel.Value.(*cql.Marker), receive("in"+recv.name, r.inType))
	default:
		r.kind = restrictIn
		for _, v := range rel.Values {
			src, err := c.tupleSource(v, cols, recv)
			if err != nil {
				return nil, err
			}
			src.among = true
			r.in = append(r.in, src)
		}
		if len(r.in) == 1 {
			r.kind, r.eq, r.in = restrictEq, r.in[0], nil
			r.eq.among = false
		}
	}
	return r, nil
}

func (c *compiler) tupleColumns(rel *cql.Relation) ([]*schema.Column, error) {
	var cols []*schema.Column
	for _, id := range rel.Columns {
		col, err := c.column(id)
		if err != nil {
			return nil, err
		}
		if col.Kind != schema.KindClustering {
			return nil, invalid("Multi-column relations can only be applied to clustering columns but was applied to: %s", cql.QuoteIdent(col.Name))
		}
		for _, o := range cols {
			if o == col {
				return nil, invalid("Column \"%s\" appeared twice in a relation: %s", cql.QuoteIdent(col.Name), cql.FormatRelation(rel))
			}
		}
		if len(cols) > 0 && col.Position != cols[len(cols)-1].Position+1 {
			return nil, invalid("Clustering columns must appear in the PRIMARY KEY order in multi-column relations: %s", cql.FormatRelation(rel))
		}
		cols = append(cols, col)
	}
	return cols, nil
}

func (c *compiler) tupleSource(t cql.Term, cols []*schema.Column, recv receiver) (tupleSource, error) {
	if m, ok := t.(*cql.Marker); ok {
		return tupleSource{whole: c.bind(m, recv), typ: recv.typ}, nil
	}
	lit, ok := t.(*cql.TupleLit)
	if !ok {
		return tupleSource{}, invalid("Invalid tuple type literal for %s of type %s", recv.name, recv.typ)
	}
	if len(lit.Elems) != len(cols) {
		return tupleSource{}, invalid("Expected %d elements in value tuple, but got %d: %s", len(cols), len(lit.Elems), cql.Format(lit))
	}
	src := tupleSource{terms: make([]term, len(cols))}
	for i, e := range lit.Elems {
		x, err := c.term(e, columnReceiver(cols[i]))
		if err != nil {
			return src, err
		}
		src.terms[i] = x
	}
	return src, nil
}

// merge adds another restriction of the same columns to r.
func (r *restriction) merge(o *restriction) error {
	name := r.names(o)
	switch r.kind {
	case restrictEq:
		return invalid("%s cannot be restricted by more than one relation if it includes an Equal", name)
	case restrictIn:
		return invalid("%s cannot be restricted by more than one relation if it includes a IN", name)
	case restrictContains:
		if o.kind != restrictContains {
			return invalid("Collection column %s can only be restricted by CONTAINS, CONTAINS KEY, or map-entry equality", name)
		}
		r.contains = append(r.contains, o.contains...)
		r.keys = append(r.keys, o.keys...)
		r.entries = append(r.entries, o.entries...)
		return nil
	}
	if o.kind != restrictSlice {
		what := "Column"
		if r.first().Kind == schema.KindPartitionKey && r.multi { // token()
			what = "Columns"
		}
		return invalid("%s \"%s\" cannot be restricted by both an equality and an inequality relation", what, name)
	}
	if r.first() != o.first() {
		return invalid("Column \"%s\" cannot be restricted by two inequalities not starting with the same column", name)
	}
	if r.lower != nil && o.lower != nil {
		return invalid("More than one restriction was found for the start bound on %s", name)
	}
	if r.upper != nil && o.upper != nil {
		return invalid("More than one restriction was found for the end bound on %s", name)
	}
	if len(o.cols) > len(r.cols) {
		r.cols, r.multi = o.cols, true
	}
	if o.lower != nil {
		r.lower = o.lower
	}
	if o.upper != nil {
		r.upper = o.upper
	}
	return nil
}

// names returns the columns that r and o share, as Cassandra names them in messages.
func (r *restriction) names(o *restriction) string {
	var common []string
	for _, a := range r.cols {
		for _, b := range o.cols {
			if a == b {
				common = append(common, cql.QuoteIdent(a.Name))
			}
		}
	}
	return strings.Join(common, " ,")
}
