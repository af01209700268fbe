package plan

import (
	"bytes"
	"slices"

	"github.com/helenusdb/helenus/cql/protocol"
	"github.com/helenusdb/helenus/cql/types"
	"github.com/helenusdb/helenus/row"
	"github.com/helenusdb/helenus/schema"
)

// Applied returns the column that the answer to a conditional write begins with.
func Applied(t *schema.Table) protocol.Column {
	return protocol.Column{Keyspace: t.Keyspace, Table: t.Name, Name: "[applied]", Type: types.Boolean}
}

func resultColumn(t *schema.Table, col *schema.Column) protocol.Column {
	return protocol.Column{Keyspace: t.Keyspace, Table: t.Name, Name: col.Name, Type: col.Type, Reversed: col.Desc}
}

// Table returns the table that is written to.
func (c *CAS) Table() *schema.Table { return c.table }

// Result returns the answer to a write whose conditions page, the content that Decide saw last, did not satisfy: columns,
// and rows of values, nil being null. After [applied] come the columns in conditions, of a batch behind those of the
// primary key, or with IF [NOT] EXISTS all columns; without any row there is only [applied]. The values alias page.
func (c *CAS) Result(page *row.Page) ([]protocol.Column, [][][]byte, error) {
	shown := c.shown()
	rows, err := c.resultRows(page, shown)
	if err != nil {
		return nil, nil, err
	}
	columns := []protocol.Column{Applied(c.table)}
	if len(rows) == 0 {
		return columns, [][][]byte{{{0}}}, nil
	}
	for _, col := range shown {
		columns = append(columns, resultColumn(c.table, col))
	}
	return columns, rows, nil
}

// shown returns the columns of the answer.
func (c *CAS) shown() []*schema.Column {
	switch {
	case c.exists:
		return c.table.AllColumns()
	case !c.batch:
		return c.columns
	}
	return append(append(slices.Clone(c.table.PartitionKey), c.table.Clustering...), c.columns...)
}

// resultRows returns the rows that have conditions, or with conditions on static columns only the first one. A partition
// without such rows is shown by its static row.
func (c *CAS) resultRows(page *row.Page, shown []*schema.Column) ([][][]byte, error) {
	d := newRowDecoder(c.table, shown)
	if err := d.begin(page, c.parts[0].args.Now); err != nil {
		return nil, err
	}
	if err := d.setKeys(c.key); err != nil {
		return nil, err
	}
	var out [][][]byte
	for i := range c.rows {
		there, err := d.seek(c.rows[i].ckey)
		if err != nil {
			return nil, err
		}
		if there {
			out = append(out, c.resultRow(d, shown))
		}
	}
	if len(c.rows) == 0 {
		there, err := d.first(c.writesRows)
		if err != nil {
			return nil, err
		}
		if there {
			return [][][]byte{c.resultRow(d, shown)}, nil
		}
	}
	if len(out) == 0 && c.staticShown(d) {
		out = append(out, c.resultRow(d, shown))
	}
	return out, nil
}

// resultRow returns the values of the row that d stands at.
func (c *CAS) resultRow(d *rowDecoder, shown []*schema.Column) [][]byte {
	out := [][]byte{{0}}
	for _, col := range shown {
		var v []byte
		if c.wasRead(col) {
			v = d.value(col)
		}
		out = append(out, bytes.Clone(v))
	}
	return out
}

// wasRead reports whether the answer has the value of a column, as in Cassandra: static columns when they are written under
// conditions or are in one, regular ones when rows are written.
func (c *CAS) wasRead(col *schema.Column) bool {
	switch col.Kind {
	case schema.KindStatic:
		return c.allStatic || slices.Contains(c.columns, col)
	case schema.KindRegular:
		return c.writesRows
	}
	return true
}

// staticShown reports whether a static column that was read has a value.
func (c *CAS) staticShown(d *rowDecoder) bool {
	return slices.ContainsFunc(c.table.Static, func(col *schema.Column) bool { return c.wasRead(col) && d.value(col) != nil })
}

// rowDecoder looks at the rows of a page of one partition, in ascending order.
type rowDecoder struct {
	w       RowWriter
	static  bool // the static row is visible
	pending bool // w.frag stands at a row that was not looked at yet
}

// newRowDecoder returns a decoder of some columns. Static columns are always among them.
func newRowDecoder(t *schema.Table, cols []*schema.Column) *rowDecoder {
	s := &Select{table: t}
	for _, list := range [2][]*schema.Column{cols, t.Static} {
		for _, col := range list {
			s.slots.of(col)
		}
	}
	s.slots.finish()
	return &rowDecoder{w: RowWriter{s: s}}
}

// begin starts a page.
func (d *rowDecoder) begin(page *row.Page, now int64) error {
	w := &d.w
	w.mem.reset()
	w.now = now
	w.view.init(&w.s.slots)
	w.pages.Init(page.Data)
	var fragment []byte
	if w.pages.Next() {
		fragment = w.pages.Fragment
	}
	if err := w.pages.Err(); err != nil {
		return err
	}
	if err := w.frag.Init(fragment); err != nil {
		return err
	}
	var err error
	d.static, err = w.loadStatic(w.frag.Static())
	d.pending = w.frag.NextRow()
	return err
}

func (d *rowDecoder) setKeys(key []byte) error { return d.w.setKeys(key) }

// value returns the value of a column of the row at hand, nil for null.
func (d *rowDecoder) value(col *schema.Column) []byte { return d.w.view.vals[d.w.s.slots.of(col)] }

// seek moves to the row at ckey, which is not before the row at hand, and reports whether it exists. If not its columns are
// null.
func (d *rowDecoder) seek(ckey []byte) (bool, error) {
	for d.pending && bytes.Compare(d.w.frag.Ckey, ckey) < 0 {
		d.pending = d.w.frag.NextRow()
	}
	if d.pending && bytes.Equal(d.w.frag.Ckey, ckey) && d.w.visible(d.w.frag.Row) {
		return true, d.w.load()
	}
	d.clear()
	return false, d.w.frag.Err()
}

// first moves to the first row and reports whether there is one. Without columns a row that lives by its columns only is
// none, as in Cassandra, which does not read them then.
func (d *rowDecoder) first(columns bool) (bool, error) {
	for ; d.pending; d.pending = d.w.frag.NextRow() {
		if err := d.w.load(); err != nil {
			return false, err
		}
		if d.w.reader.Liveness().LiveAt(d.w.now) || columns && d.w.visible(d.w.frag.Row) {
			return true, nil
		}
	}
	d.clear()
	return false, d.w.frag.Err()
}

func (d *rowDecoder) clear() {
	d.w.view.clearSlots(d.w.s.slots.cluster)
	d.w.view.clearSlots(d.w.s.slots.regular)
}
