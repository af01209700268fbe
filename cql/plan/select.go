package plan

import (
	"slices"

	"github.com/helenusdb/helenus/cql"
	"github.com/helenusdb/helenus/cql/protocol"
	"github.com/helenusdb/helenus/cql/types"
	"github.com/helenusdb/helenus/ring"
	"github.com/helenusdb/helenus/schema"
)

// Select is a compiled SELECT. It is immutable and safe for concurrent use.
type Select struct {
	table *schema.Table
	part  ring.Partitioner
	where *where
	binds int

	slots   slotTable
	outputs []output
	plain   bool // every output is a slot

	distinct  bool
	aggregate bool // the result is made of groups of rows
	aggs      []*aggTerm
	group     *grouping // nil without GROUP BY
	reverse   bool
	order     []ordering // of the rows of several partitions; nil: as they come
	filters   []filter
	columns   []schema.ColumnID // Command.Columns
	pointCols []schema.ColumnID // and of a point read
	static    bool              // the static row is wanted

	limit, perPartition term
}

// output is one column of the result.
type output struct {
	slot int // of a plain column; -1: term
	term term
}

// slotTable maps columns to the slots of a rowView.
type slotTable struct {
	cols    []*schema.Column // by slot
	meta    []bool           // by slot: timestamps and TTLs are looked at
	keys    []slotRef        // partition key
	cluster []slotRef        // clustering
	static  []slotRef        // by column id
	regular []slotRef        // by column id
}

// slotRef is a column that is read into a slot.
type slotRef struct {
	col  *schema.Column
	slot int
}

// of returns the slot of col, a new one at first.
func (t *slotTable) of(col *schema.Column) int {
	if i := slices.Index(t.cols, col); i >= 0 {
		return i
	}
	t.cols = append(t.cols, col)
	t.meta = append(t.meta, false)
	return len(t.cols) - 1
}

// finish sorts the slots by how rows hold them.
func (t *slotTable) finish() {
	for i, col := range t.cols {
		list := [...]*[]slotRef{schema.KindPartitionKey: &t.keys, schema.KindClustering: &t.cluster,
			schema.KindStatic: &t.static, schema.KindRegular: &t.regular}[col.Kind]
		*list = append(*list, slotRef{col, i})
	}
	byPosition := func(a, b slotRef) int { return a.col.Position - b.col.Position }
	slices.SortFunc(t.keys, byPosition)
	slices.SortFunc(t.cluster, byPosition)
	byID := func(a, b slotRef) int { return int(a.col.ID) - int(b.col.ID) }
	slices.SortFunc(t.static, byID)
	slices.SortFunc(t.regular, byID)
}

// Table returns the table that is read.
func (s *Select) Table() *schema.Table { return s.table }

// Aggregated reports whether the result is one row over all (count(*), ...), without GROUP BY: it is never paged.
func (s *Select) Aggregated() bool { return s.aggregate && s.group == nil }

// Distinct reports whether the result has one row per partition.
func (s *Select) Distinct() bool { return s.distinct }

// Scans reports whether partitions are read by token range, not by name.
func (s *Select) Scans() bool { return s.where.scans }

func (c *compiler) compileSelect(st *Statement, s *cql.Select) error {
	var err error
	if c.table, err = c.env.findTable(s.Table); err != nil {
		return err
	}
	st.Kind, st.Keyspace, st.Table = KindSelect, c.table.Keyspace, c.table
	if s.JSON {
		return notYet("SELECT JSON")
	}
	sel := &Select{table: c.table, part: c.env.Partitioner, distinct: s.Distinct, binds: len(c.binds)}
	if err := c.selectable(s, sel); err != nil {
		return err
	}
	names, err := c.checkSelectors(s)
	if err != nil {
		return err
	}
	if sel.where, err = c.where(s.Where, whereOptions{typ: typeSelect, onlyStatic: names.onlyStatic(c.table), allowFiltering: s.AllowFiltering}); err != nil {
		return err
	}
	if st.Result, err = c.selectors(s, sel); err != nil {
		return err
	}
	if err := c.clauses(s, sel); err != nil {
		return err
	}
	if err := sel.checkFiltering(); err != nil {
		return err
	}
	if err := sel.compileFilters(); err != nil {
		return err
	}
	sel.finish()
	st.Select = sel
	st.PartitionKeyBinds = c.partitionKeyBinds()
	if sel.aggregate {
		st.Warnings = sel.aggregationWarnings()
	}
	return nil
}

// aggregationWarnings returns what Cassandra warns of in aggregates over more than one partition.
func (s *Select) aggregationWarnings() []string {
	if len(s.where.keys) == 0 && s.where.token == nil {
		return []string{"Aggregation query used without partition key"}
	}
	for _, r := range s.where.keys {
		if r.kind == restrictIn {
			return []string{"Aggregation query used on multiple partition keys (IN restriction)"}
		}
	}
	return nil
}

// selectable refuses what is not built.
func (c *compiler) selectable(s *cql.Select, sel *Select) error {
	for i := range s.OrderBy {
		if s.OrderBy[i].ANN != nil {
			return notYet("vector search (ANN)")
		}
	}
	for _, col := range c.table.AllColumns() {
		if col.Type.Kind == types.KindVector {
			return notYet("vectors")
		}
	}
	return nil
}

// clauses compiles what follows WHERE.
func (c *compiler) clauses(s *cql.Select, sel *Select) error {
	var err error
	if s.Distinct {
		if s.PerPartitionLimit != nil {
			return invalid("PER PARTITION LIMIT is not allowed with SELECT DISTINCT queries")
		}
		if err := sel.checkDistinct(); err != nil {
			return err
		}
	}
	if err := c.groupBy(s, sel); err != nil {
		return err
	}
	if sel.Aggregated() && s.PerPartitionLimit != nil {
		return invalid("PER PARTITION LIMIT is not allowed with aggregate queries.")
	}
	if err := c.orderBy(s, sel); err != nil {
		return err
	}
	if s.PerPartitionLimit != nil {
		if sel.perPartition, err = c.term(s.PerPartitionLimit, receive("[per_partition_limit]", types.Int)); err != nil {
			return err
		}
	}
	if s.Limit != nil {
		sel.limit, err = c.term(s.Limit, receive("[limit]", types.Int))
	}
	return err
}

func (s *Select) checkDistinct() error {
	if len(s.where.clustering) > 0 {
		return invalid("SELECT DISTINCT with WHERE clause only supports restriction by partition key and/or static columns.")
	}
	for _, r := range s.where.others {
		if r.first().Kind != schema.KindStatic {
			return invalid("SELECT DISTINCT with WHERE clause only supports restriction by partition key and/or static columns.")
		}
	}
	for _, col := range s.slots.cols {
		if col.Kind != schema.KindPartitionKey && col.Kind != schema.KindStatic {
			return invalid("SELECT DISTINCT queries must only request partition key columns and/or static columns (not %s)", cql.QuoteIdent(col.Name))
		}
	}
	// The partition key has to be complete unless one partition is named.
	if !s.where.scans {
		return nil
	}
	for _, col := range s.table.PartitionKey {
		if !slices.Contains(s.slots.cols, col) {
			return invalid("SELECT DISTINCT queries must request all the partition key columns (missing %s)", cql.QuoteIdent(col.Name))
		}
	}
	return nil
}

// checkFiltering demands ALLOW FILTERING of scans that pick rows.
func (s *Select) checkFiltering() error {
	w := s.where
	if w.allowFiltering || !w.scans || !w.filteringNeedsConsent() {
		return nil
	}
	if len(w.clustering) > 0 || len(w.others) > 0 {
		return invalid(filteringText)
	}
	return nil
}

// finish computes what reading needs.
func (s *Select) finish() {
	s.slots.finish()
	s.plain = !s.aggregate
	for _, o := range s.outputs {
		s.plain = s.plain && o.slot >= 0
	}
	s.static = s.table.HasStatic()
	s.columns = s.wanted()
	s.pointCols = s.columns
	if !s.wide() {
		s.pointCols = nil
	}
}

// wanted returns the columns to read, nil for all.
func (s *Select) wanted() []schema.ColumnID {
	n := len(s.slots.static) + len(s.slots.regular)
	if n == len(s.table.Static)+len(s.table.Regular) {
		return nil
	}
	ids := make([]schema.ColumnID, 0, n)
	for _, r := range s.slots.static {
		ids = append(ids, r.col.ID)
	}
	for _, r := range s.slots.regular {
		ids = append(ids, r.col.ID)
	}
	slices.Sort(ids)
	return ids
}

// wide reports whether a column that is not selected may be large: then a point read projects too.
func (s *Select) wide() bool {
	for _, col := range s.table.AllColumns() {
		if col.Kind.Key() || slices.Contains(s.slots.cols, col) {
			continue
		}
		if col.Type.Kind == types.KindBlob || col.Type.Collection() || col.Type.Kind == types.KindUDT {
			return true
		}
	}
	return false
}

// slotTerm is a column of the row at hand.
type slotTerm struct{ slot int }

func (t *slotTerm) eval(sc *scope) (protocol.Value, error) {
	if v := sc.row.vals[t.slot]; v != nil {
		return setValue(v), nil
	}
	return nullValue(), nil
}
