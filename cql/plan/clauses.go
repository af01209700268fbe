package plan

import (
	"slices"

	"github.com/helenusdb/helenus/cql"
	"github.com/helenusdb/helenus/schema"
)

// grouping is GROUP BY: the partition, a number of clustering columns, and perhaps a function of the last of them.
type grouping struct {
	clustering int
	function   term // nil: the last column's value
}

// restrictedByEq reports whether WHERE leaves one value of col.
func (w *where) restrictedByEq(col *schema.Column) bool {
	for _, list := range [2][]*restriction{w.keys, w.clustering} {
		for _, r := range list {
			if r.kind == restrictEq && slices.Contains(r.cols, col) {
				return true
			}
		}
	}
	return false
}

func (c *compiler) groupBy(s *cql.Select, sel *Select) error {
	if len(s.GroupBy) == 0 {
		return nil
	}
	g := &grouping{}
	key := append(slices.Clone(c.table.PartitionKey), c.table.Clustering...)
	next := 0
	for _, t := range s.GroupBy {
		col, err := c.groupColumn(t, g, sel)
		if err != nil {
			return err
		}
		for ; ; next++ {
			if next == len(key) || key[next] != col && !sel.where.restrictedByEq(key[next]) {
				return invalid("Group by currently only support groups of columns following their declared order in the PRIMARY KEY")
			}
			if key[next].Kind == schema.KindClustering {
				g.clustering++
			}
			if key[next] == col {
				next++
				break
			}
		}
	}
	if next < len(c.table.PartitionKey) {
		return invalid("Group by is not supported on only a part of the partition key")
	}
	if g.clustering > 0 && s.Distinct {
		return invalid("Grouping on clustering columns is not allowed for SELECT DISTINCT queries")
	}
	sel.group, sel.aggregate = g, true
	return nil
}

// groupColumn returns the column of one item of GROUP BY.
func (c *compiler) groupColumn(t cql.Term, g *grouping, sel *Select) (*schema.Column, error) {
	if ref, ok := t.(*cql.ColumnRef); ok {
		col, err := c.column(ref.Name)
		switch {
		case err != nil:
			return nil, err
		case !col.Kind.Key():
			return nil, invalid("Group by is currently only supported on the columns of the PRIMARY KEY, got %s", cql.QuoteIdent(col.Name))
		case g.function != nil:
			return nil, invalid("Functions are only supported on the last element of the GROUP BY clause")
		}
		return col, nil
	}
	var cols named
	if err := c.namesIn(t, &cols); err != nil {
		return nil, err
	}
	switch {
	case len(cols) == 0:
		return nil, invalid("GROUP BY functions must have one clustering column name as parameter")
	case len(cols) > 1:
		return nil, invalid("GROUP BY functions accept only one clustering column as parameter, got: %s", columnNames(cols))
	case cols[0].Kind != schema.KindClustering:
		return nil, invalid("Group by functions are only supported on clustering columns, got %s", cql.QuoteIdent(cols[0].Name))
	}
	sc := newSelectCompiler(c, sel)
	var err error
	g.function, _, err = sc.selector(t, nil)
	return cols[0], err
}

// ordering is one column that the rows of several partitions are sorted by.
type ordering struct {
	slot int
	desc bool
}

func (c *compiler) orderBy(s *cql.Select, sel *Select) error {
	if len(s.OrderBy) == 0 {
		return nil
	}
	for i := range s.OrderBy {
		if _, err := c.column(s.OrderBy[i].Column); err != nil {
			return err
		}
	}
	if sel.where.scans {
		return invalid("ORDER BY is only supported when the partition key is restricted by an EQ or an IN.")
	}
	var reversed []bool
	next := 0
	for i := range s.OrderBy {
		o := &s.OrderBy[i]
		col, _ := c.column(o.Column)
		if slices.ContainsFunc(s.OrderBy[:i], func(p cql.Ordering) bool { return p.Column.Name == o.Column.Name }) {
			continue
		}
		if col.Kind != schema.KindClustering {
			return invalid("Order by is currently only supported on the clustered columns of the PRIMARY KEY, got %s", cql.QuoteIdent(col.Name))
		}
		for next != col.Position {
			if next > col.Position || !sel.where.restrictedByEq(c.table.Clustering[next]) {
				return invalid("Order by currently only supports the ordering of columns following their declared order in the PRIMARY KEY")
			}
			next++
		}
		next++
		reversed = append(reversed, o.Desc != col.Desc)
	}
	for _, r := range reversed {
		if r != reversed[0] {
			return invalid("Unsupported order by relation")
		}
	}
	sel.reverse = reversed[0]
	if slices.ContainsFunc(sel.where.keys, func(r *restriction) bool { return r.kind == restrictIn }) {
		for i := range s.OrderBy {
			col, _ := c.column(s.OrderBy[i].Column)
			sel.order = append(sel.order, ordering{sel.slots.of(col), s.OrderBy[i].Desc})
		}
	}
	return nil
}
