package schema

import (
	"cmp"
	"encoding/binary"
	"math"
	"slices"

	"github.com/helenusdb/helenus/cql/types"
)

// SchemaRow is one row of a table of system_schema or system_virtual_schema: a value for every column, in the order of
// the table's AllColumns.
type SchemaRow []SchemaValue

// SchemaValue is a column's serialized value, nil when it is null.
type SchemaValue struct {
	Column string
	Value  []byte
}

// Value returns a column's value, nil when it is null or there is no such column.
func (r SchemaRow) Value(column string) []byte {
	for _, v := range r {
		if v.Column == column {
			return v.Value
		}
	}
	return nil
}

// SchemaRows returns the rows of a table of system_schema that describe the catalog: keyspaces by name, in each the
// rows in clustering order. Tables of features that are not built have no rows; a table that system_schema does not
// have has none either. The rows are the caller's.
func (c *Catalog) SchemaRows(table string) []SchemaRow {
	return c.rows("system_schema", table, func(k *Keyspace) bool { return !k.Virtual })
}

// VirtualSchemaRows is SchemaRows for system_virtual_schema, which describes the virtual keyspaces.
func (c *Catalog) VirtualSchemaRows(table string) []SchemaRow {
	return c.rows("system_virtual_schema", table, func(k *Keyspace) bool { return k.Virtual })
}

func (c *Catalog) rows(in, table string, of func(*Keyspace) bool) []SchemaRow {
	def, ok := c.Table(in, table)
	if !ok {
		return nil
	}
	w := rowWriter{def: def}
	for _, k := range c.Keyspaces() {
		if of(k) {
			w.keyspace(table, k)
		}
	}
	return w.rows
}

// rowWriter collects rows of the table def.
type rowWriter struct {
	def  *Table
	rows []SchemaRow
}

// cells are a row's values by column; what is missing is null.
type cells map[string][]byte

func (w *rowWriter) add(values cells) {
	row := make(SchemaRow, len(w.def.all))
	for i, c := range w.def.all {
		row[i] = SchemaValue{c.Name, values[c.Name]}
	}
	w.rows = append(w.rows, row)
}

func (w *rowWriter) keyspace(table string, k *Keyspace) {
	switch table {
	case "keyspaces":
		w.add(cells{"keyspace_name": text(k.Name), "durable_writes": boolean(k.DurableWrites), "replication": textMap(k.Replication)})
	case "tables":
		for _, t := range k.Tables() {
			w.table(t)
		}
	case "columns":
		for _, t := range k.Tables() {
			w.columns(t)
		}
	case "types":
		for _, t := range k.Types() {
			w.add(cells{"keyspace_name": text(k.Name), "type_name": text(t.Name), "field_names": textList(t.Fields), "field_types": typeList(t.Elems)})
		}
	case "dropped_columns":
		for _, t := range k.Tables() {
			w.dropped(t)
		}
	}
}

func (w *rowWriter) table(t *Table) {
	o := &t.Options
	w.add(cells{
		"keyspace_name":               text(t.Keyspace),
		"table_name":                  text(t.Name),
		"additional_write_policy":     text(o.AdditionalWritePolicy.String()),
		"allow_auto_snapshot":         unless(o.AllowAutoSnapshot, boolean(false)),
		"bloom_filter_fp_chance":      double(o.BloomFilterFPChance),
		"caching":                     textMap(o.Caching),
		"cdc":                         nil, // as of a Cassandra whose nodes do not capture changes
		"comment":                     text(o.Comment),
		"compaction":                  textMap(o.Compaction),
		"compression":                 textMap(o.Compression),
		"crc_check_chance":            double(o.CRCCheckChance),
		"dclocal_read_repair_chance":  double(0),
		"default_time_to_live":        integer(o.DefaultTTL),
		"extensions":                  extensionMap(o.Extensions),
		"flags":                       textList(t.Flags.names()),
		"gc_grace_seconds":            integer(o.GCGraceSeconds),
		"id":                          slices.Clone(t.ID[:]),
		"incremental_backups":         unless(o.IncrementalBackups, boolean(false)),
		"max_index_interval":          integer(o.MaxIndexInterval),
		"memtable":                    unless(o.Memtable == "default", text(o.Memtable)),
		"memtable_flush_period_in_ms": integer(o.MemtableFlushPeriodInMs),
		"min_index_interval":          integer(o.MinIndexInterval),
		"read_repair":                 text(o.ReadRepair.String()),
		"read_repair_chance":          double(0),
		"speculative_retry":           text(o.SpeculativeRetry.String()),
	})
}

// unless returns v, or null where Cassandra leaves a default out.
func unless(isDefault bool, v []byte) []byte {
	if isDefault {
		return nil
	}
	return v
}

func (w *rowWriter) columns(t *Table) {
	sorted := slices.Clone(t.all)
	slices.SortFunc(sorted, func(a, b *Column) int { return cmp.Compare(a.Name, b.Name) })
	for _, c := range sorted {
		order := "none"
		switch {
		case c.Kind == KindClustering && c.Desc:
			order = "desc"
		case c.Kind == KindClustering:
			order = "asc"
		}
		w.add(cells{
			"keyspace_name":     text(t.Keyspace),
			"table_name":        text(t.Name),
			"column_name":       text(c.Name),
			"clustering_order":  text(order),
			"column_name_bytes": text(c.Name),
			"kind":              text(c.Kind.String()),
			"position":          integer(int32(c.Position)),
			"type":              text(c.Type.String()),
		})
	}
}

func (w *rowWriter) dropped(t *Table) {
	for _, d := range t.Dropped {
		w.add(cells{
			"keyspace_name": text(t.Keyspace),
			"table_name":    text(t.Name),
			"column_name":   text(d.Name),
			"dropped_time":  bigint(d.Time / 1000),
			"kind":          text(d.Kind.String()),
			"type":          text(d.Type.String()),
		})
	}
}

// names returns the flags' names in system_schema.tables, sorted.
func (f TableFlags) names() []string {
	var out []string
	for _, n := range []struct {
		flag TableFlags
		name string
	}{{FlagCompound, "compound"}, {FlagCounter, "counter"}, {FlagDense, "dense"}, {FlagSuper, "super"}} {
		if f&n.flag != 0 {
			out = append(out, n.name)
		}
	}
	return out
}

func text(s string) []byte { return append(make([]byte, 0, len(s)), s...) }

func boolean(b bool) []byte { return []byte{byte(boolInt(b))} }

func integer(n int32) []byte { return binary.BigEndian.AppendUint32(nil, uint32(n)) }

func bigint(n int64) []byte { return binary.BigEndian.AppendUint64(nil, uint64(n)) }

func double(f float64) []byte { return binary.BigEndian.AppendUint64(nil, math.Float64bits(f)) }

func textList(list []string) []byte {
	out := types.AppendCount(nil, len(list))
	for _, s := range list {
		out = types.AppendElem(out, text(s))
	}
	return out
}

func typeList(list []*types.Type) []byte {
	out := types.AppendCount(nil, len(list))
	for _, t := range list {
		out = types.AppendElem(out, text(t.String()))
	}
	return out
}

func textMap(m Map) []byte {
	out := types.AppendCount(nil, len(m))
	for _, p := range m {
		out = types.AppendElem(types.AppendElem(out, text(p.Key)), text(p.Value))
	}
	return out
}

func extensionMap(es []Extension) []byte {
	out := types.AppendCount(nil, len(es))
	for _, e := range es {
		out = types.AppendElem(types.AppendElem(out, text(e.Name)), e.Value)
	}
	return out
}
