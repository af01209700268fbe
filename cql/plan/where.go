package plan

import (
	"slices"
	"strings"

	"github.com/helenusdb/helenus/cql"
	"github.com/helenusdb/helenus/cql/types"
	"github.com/helenusdb/helenus/schema"
)

const filteringText = "Cannot execute this query as it might involve data filtering and thus may have unpredictable performance. " +
	"If you want to execute this query despite the performance unpredictability, use ALLOW FILTERING"

// where is a compiled WHERE clause.
type where struct {
	table      *schema.Table
	keys       []*restriction // of partition key columns, by position
	clustering []*restriction // by position of the first column
	others     []*restriction // of static and regular columns, by name
	token      *restriction   // cols is the partition key, one value

	allowFiltering bool
	writes         bool // of a statement that changes what it picks
	scans          bool // the partitions are not named: a token range is read
	filtersKeys    bool // keys are a residual filter
	filtersRows    int  // the first of clustering that is a residual filter
}

// whereOptions say what a kind of statement allows.
type whereOptions struct {
	typ            statementType
	onlyStatic     bool // the statement is about static columns only
	allowFiltering bool
}

// where compiles a WHERE clause.
func (c *compiler) where(rels []cql.Relation, o whereOptions) (*where, error) {
	w := &where{table: c.table, allowFiltering: o.allowFiltering, writes: o.typ != typeSelect}
	for i := range rels {
		if err := c.addRelation(w, &rels[i], o); err != nil {
			return nil, err
		}
	}
	if err := w.checkKeys(o); err != nil {
		return nil, err
	}
	if o.onlyStatic && len(w.clustering) > 0 {
		switch o.typ {
		case typeUpdate, typeDelete:
			return nil, invalid("Invalid restrictions on clustering columns since the %s statement modifies only static columns", o.typ)
		case typeSelect:
			return nil, invalid("Cannot restrict clustering columns when selecting only static columns")
		}
	}
	if err := w.checkClustering(o); err != nil {
		return nil, err
	}
	if len(w.others) == 0 {
		return w, nil
	}
	if o.typ != typeSelect {
		return nil, invalid("Non PRIMARY KEY columns found in where clause: %s ", columnNames(restrictedColumns(w.others)))
	}
	if !o.allowFiltering && w.filteringNeedsConsent() {
		return nil, invalid(filteringText)
	}
	return w, nil
}

// filteringNeedsConsent reports whether ALLOW FILTERING has to be written out: Cassandra's own virtual
// tables are small; those that it stores ask for it like any other.
func (w *where) filteringNeedsConsent() bool { return !w.table.VirtualSchema }

func (c *compiler) addRelation(w *where, rel *cql.Relation, o whereOptions) error {
	switch {
	case rel.Kind == cql.CustomIndexExpr:
		return notYet("custom index expressions")
	case (rel.Op == cql.Contains || rel.Op == cql.ContainsKey) && (o.typ == typeUpdate || o.typ == typeDelete):
		return invalid("Cannot use %s with %s", o.typ, rel.Op)
	case rel.Op == cql.IsNotNull:
		return invalid("Unsupported restriction: %s", cql.FormatRelation(rel))
	case rel.Op == cql.Like:
		col, err := c.column(rel.Column)
		if err == nil {
			_, err = c.term(rel.Value, columnReceiver(col))
		}
		if err != nil {
			return err
		}
		return invalid("LIKE restriction is only supported on properly indexed columns. %s is not valid.", cql.FormatRelation(rel))
	case rel.Op == cql.Neq:
		return invalid("Unsupported \"!=\" relation: %s", cql.FormatRelation(rel))
	case rel.Kind == cql.TokenRelation:
		return c.tokenRelation(w, rel)
	}
	r, err := c.relation(rel)
	if err != nil {
		return err
	}
	switch r.first().Kind {
	case schema.KindPartitionKey:
		return w.addKey(r)
	case schema.KindClustering:
		return w.addClustering(r)
	}
	return addByName(&w.others, r)
}

func (w *where) addKey(r *restriction) error {
	for _, o := range w.keys {
		if o.first() == r.first() {
			return o.merge(r)
		}
	}
	w.keys = append(w.keys, r)
	slices.SortStableFunc(w.keys, func(a, b *restriction) int { return a.first().Position - b.first().Position })
	return nil
}

func addByName(list *[]*restriction, r *restriction) error {
	for _, o := range *list {
		if o.first() == r.first() {
			return o.merge(r)
		}
	}
	*list = append(*list, r)
	slices.SortStableFunc(*list, func(a, b *restriction) int {
		if k := int(a.first().Kind) - int(b.first().Kind); k != 0 {
			return k
		}
		return strings.Compare(a.first().Name, b.first().Name)
	})
	return nil
}

func (w *where) addClustering(r *restriction) error {
	var last *restriction
	if n := len(w.clustering); n > 0 {
		last = w.clustering[n-1]
	}
	if err := w.insertClustering(r); err != nil {
		return err
	}
	if last == nil || w.allowFiltering {
		return nil
	}
	a, b := last.first(), r.first()
	if last.slice() && b.Position > a.Position {
		return invalid("Clustering column \"%s\" cannot be restricted (preceding column \"%s\" is restricted by a non-EQ relation)",
			cql.QuoteIdent(b.Name), cql.QuoteIdent(a.Name))
	}
	if b.Position < a.Position && r.slice() {
		return invalid("PRIMARY KEY column \"%s\" cannot be restricted (preceding column \"%s\" is restricted by a non-EQ relation)",
			cql.QuoteIdent(w.nextRestricted(b).Name), cql.QuoteIdent(b.Name))
	}
	return nil
}

func (w *where) insertClustering(r *restriction) error {
	for _, o := range w.clustering {
		if !overlap(o, r) {
			continue
		}
		return o.merge(r)
	}
	w.clustering = append(w.clustering, r)
	slices.SortStableFunc(w.clustering, func(a, b *restriction) int { return a.first().Position - b.first().Position })
	return nil
}

func overlap(a, b *restriction) bool {
	return a.first().Position <= b.last().Position && b.first().Position <= a.last().Position
}

// nextRestricted returns the first restricted clustering column after col.
func (w *where) nextRestricted(col *schema.Column) *schema.Column {
	for _, r := range w.clustering {
		if r.first().Position > col.Position {
			return r.first()
		}
	}
	return col
}

func restrictedColumns(list []*restriction) []*schema.Column {
	var out []*schema.Column
	for _, r := range list {
		out = append(out, r.cols...)
	}
	return out
}

func columnNames(cols []*schema.Column) string {
	names := make([]string, len(cols))
	for i, c := range cols {
		names[i] = cql.QuoteIdent(c.Name)
	}
	return strings.Join(names, ", ")
}

// missing returns the columns of all that none of list restricts.
func missing(all []*schema.Column, list []*restriction) []*schema.Column {
	var out []*schema.Column
	for _, c := range all {
		if !slices.Contains(restrictedColumns(list), c) {
			out = append(out, c)
		}
	}
	return out
}

func (w *where) checkKeys(o whereOptions) error {
	absent := missing(w.table.PartitionKey, w.keys)
	sliced := slices.ContainsFunc(w.keys, func(r *restriction) bool { return r.kind >= restrictSlice })
	if o.typ != typeSelect {
		switch {
		case w.token != nil:
			return invalid("The token function cannot be used in WHERE clauses for %s statements", o.typ)
		case len(absent) > 0:
			return invalid("Some partition key parts are missing: %s", columnNames(absent))
		case sliced:
			return invalid("Only EQ and IN relation are supported on the partition key (unless you use the token() function) for %s statements", o.typ)
		}
		return nil
	}
	if len(w.keys) == 0 {
		w.scans = true
		return nil
	}
	if len(absent) > 0 || sliced {
		if !o.allowFiltering && w.filteringNeedsConsent() {
			return invalid(filteringText)
		}
		w.scans, w.filtersKeys = true, true
	}
	return nil
}

func (w *where) checkClustering(o whereOptions) error {
	w.filtersRows = len(w.clustering)
	if o.typ == typeInsert || o.typ == typeUpdate {
		if slices.ContainsFunc(w.clustering, (*restriction).slice) {
			return invalid("Slice restrictions are not supported on the clustering columns in %s statements", o.typ)
		}
		if absent := missing(w.table.Clustering, w.clustering); !o.onlyStatic && len(absent) > 0 {
			return invalid("Some clustering keys are missing: %s", columnNames(absent))
		}
		return nil
	}
	next, ranged := 0, false
	for i, r := range w.clustering {
		if r.kind == restrictContains && !o.allowFiltering {
			return invalid("Clustering columns can only be restricted with CONTAINS with a secondary index or filtering")
		}
		if r.kind == restrictContains || r.first().Position != next || ranged {
			w.filtersRows = i
			break
		}
		next, ranged = r.last().Position+1, r.slice()
	}
	if w.filtersRows == len(w.clustering) || o.allowFiltering {
		return nil
	}
	for i, col := range restrictedColumns(w.clustering) {
		if want := w.table.Clustering[i]; want != col {
			return invalid("PRIMARY KEY column \"%s\" cannot be restricted as preceding column \"%s\" is not restricted",
				cql.QuoteIdent(col.Name), cql.QuoteIdent(want.Name))
		}
	}
	return nil
}

// tokenRelation compiles token(k) op value.
func (c *compiler) tokenRelation(w *where, rel *cql.Relation) error {
	pk := c.table.PartitionKey
	cols := make([]*schema.Column, 0, len(rel.Columns))
	for _, id := range rel.Columns {
		col, err := c.column(id)
		if err != nil {
			return err
		}
		cols = append(cols, col)
	}
	if !slices.Equal(cols, pk) {
		return tokenColumnsError(cols, pk)
	}
	if rel.Op == cql.In || rel.Op == cql.Contains || rel.Op == cql.ContainsKey {
		return invalid("%s cannot be used with the token function", rel.Op)
	}
	t, err := c.term(rel.Value, receive("partition key token", types.Bigint))
	if err != nil {
		return err
	}
	r := &restriction{cols: pk, multi: true}
	r.compare(rel.Op, tupleSource{terms: []term{t}})
	if w.token == nil {
		w.token = r
		return nil
	}
	return w.token.merge(r)
}

func tokenColumnsError(cols, pk []*schema.Column) error {
	for _, c := range pk {
		if !slices.Contains(cols, c) {
			return invalid("The token() function must be applied to all partition key components or none of them")
		}
	}
	for i, c := range cols {
		if slices.Contains(cols[:i], c) {
			return invalid("The token() function contains duplicate partition key components")
		}
	}
	for _, c := range cols {
		if !slices.Contains(pk, c) {
			return invalid("The token() function must contains only partition key components")
		}
	}
	return invalid("The token function arguments must be in the partition key order: %s", columnNames(pk))
}
