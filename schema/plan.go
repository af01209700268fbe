package schema

import (
	"slices"

	"github.com/helenusdb/helenus/cql/types"
)

// Introduces reports whether p, made of c, brings in a value of kind: whether a column of a table, or a field of a user type,
// that c has not is of that kind or has it inside, however deep and whether frozen or not, in user types that c has too. What
// c already holds does not count, so such a table can still be altered.
func (p *Plan) Introduces(c *Catalog, kind types.Kind) bool {
	return slices.ContainsFunc(p.Changes, func(ch Change) bool {
		switch ch.Kind {
		case PutTableChange:
			old, known := c.Table(ch.Keyspace, ch.Name)
			return slices.ContainsFunc(slices.Concat(ch.table.PartitionKey, ch.table.Clustering, ch.table.Static, ch.table.Regular), func(col *Column) bool {
				return (!known || old.ColumnByID(col.ID) == nil) && contains(col.Type, kind)
			})
		case PutTypeChange:
			from := 0 // fields are only ever added at the end
			if old, ok := c.Type(ch.Keyspace, ch.Name); ok {
				from = len(old.Elems)
			}
			return slices.ContainsFunc(ch.typ.Elems[from:], func(t *types.Type) bool { return contains(t, kind) })
		}
		return false
	})
}

func contains(t *types.Type, kind types.Kind) bool {
	return t.Kind == kind || slices.ContainsFunc(t.Elems, func(e *types.Type) bool { return contains(e, kind) })
}
