package protocol

import "math"

// Result is a decoded RESULT body. Kind says which of the other fields count. Its slices alias
// the body.
type Result struct {
	Kind     ResultKind
	Keyspace string    // ResultSetKeyspace
	Prepared *Prepared // ResultPrepared
	Change   *Event    // ResultSchemaChange
	Rows     Rows      // ResultRows
}

// DecodeResult decodes the body of a RESULT. Error: *Error.
func DecodeResult(v Version, body []byte) (*Result, error) {
	c := cursor{rest: body}
	r := &Result{Kind: ResultKind(c.i32("a result kind"))}
	switch r.Kind {
	case ResultVoid:
	case ResultSetKeyspace:
		r.Keyspace = c.string()
	case ResultPrepared:
		r.Prepared = c.prepared(v)
	case ResultSchemaChange:
		e := c.schemaChange()
		r.Change = &e
	case ResultRows:
		r.Rows = c.rows(v)
	default:
		c.fail("Unknown result kind %d", int32(r.Kind))
	}
	if c.err != nil {
		return nil, c.err
	}
	return r, nil
}

func (c *cursor) prepared(v Version) *Prepared {
	p := &Prepared{ID: c.shortBytes()}
	if v >= V5 {
		p.ResultMetadataID = c.shortBytes()
	}
	flags := uint32(c.i32("metadata flags"))
	columns := c.columnCount(flags)
	if v >= V4 {
		p.PKIndexes = c.pkIndexes()
	}
	p.Variables = c.specs(flags, columns)
	m := c.metadata(v)
	p.Result = &m
	return p
}

func (c *cursor) pkIndexes() []uint16 {
	n := int(c.i32("a partition key count"))
	if n < 0 || n*2 > len(c.rest) {
		c.fail("Invalid number of partition key indexes %d", n)
		return nil
	}
	var indexes []uint16
	for i := 0; i < n; i++ {
		indexes = append(indexes, uint16(c.u16("a partition key index")))
	}
	return indexes
}

// columnCount reads the number of columns. With metadata each takes at least 4 bytes; without, the
// number stands alone and is bounded by what a row could hold.
func (c *cursor) columnCount(flags uint32) int {
	n := int(c.i32("a column count"))
	limit := math.MaxUint16
	if flags&RowsNoMetadata == 0 {
		limit = min(limit, len(c.rest)/4)
	}
	if n < 0 || n > limit {
		c.fail("Invalid number of columns %d", n)
		return 0
	}
	return n
}

func (c *cursor) metadata(v Version) (m Metadata) {
	m.Flags = uint32(c.i32("metadata flags"))
	m.ColumnCount = c.columnCount(m.Flags)
	if m.Flags&RowsHasMorePages != 0 {
		m.PagingState = c.bytes()
	}
	if m.Flags&RowsMetadataChanged != 0 && v >= V5 {
		m.NewMetadataID = c.shortBytes()
	}
	if m.Flags&RowsNoMetadata == 0 {
		m.Columns = c.specs(m.Flags, m.ColumnCount)
	}
	return m
}

func (c *cursor) specs(flags uint32, n int) []Column {
	if c.err != nil {
		return nil
	}
	var ks, table string
	global := flags&RowsGlobalTableSpec != 0
	if global {
		ks, table = c.string(), c.string()
	}
	columns := make([]Column, 0, n)
	for i := 0; i < n && c.err == nil; i++ {
		if !global {
			ks, table = c.string(), c.string()
		}
		columns = append(columns, Column{Keyspace: ks, Table: table, Name: c.string(), Type: c.option(0)})
	}
	return columns
}

// Rows iterates over the rows of a RESULT Rows:
//
//	for rows.Next() { v := rows.Value(0) }
//	err := rows.Err()
//
// Values alias the body; null is nil. It allocates per result, not per row.
type Rows struct {
	Metadata Metadata
	Count    int // rows in this page

	c      cursor
	next   int
	values [][]byte
}

// DecodeRows decodes the metadata of a RESULT Rows, body starting at the result kind. Error: *Error,
// also when the result is of another kind.
func DecodeRows(v Version, body []byte) (*Rows, error) {
	r, err := DecodeResult(v, body)
	if err != nil {
		return nil, err
	}
	if r.Kind != ResultRows {
		return nil, protocolErr("RESULT of kind %d where rows were expected", int32(r.Kind))
	}
	return &r.Rows, nil
}

func (c *cursor) rows(v Version) Rows {
	m := c.metadata(v)
	n := int(c.i32("a row count"))
	if c.err == nil && (n < 0 || n > len(c.rest)/max(4*m.ColumnCount, 1) || n > 0 && m.ColumnCount == 0) {
		c.fail("Invalid number of rows %d", n)
	}
	if c.err != nil {
		return Rows{}
	}
	return Rows{Metadata: m, Count: n, c: *c, values: make([][]byte, m.ColumnCount)}
}

// Next decodes the next row and reports whether there is one.
func (r *Rows) Next() bool {
	if r.next >= r.Count || r.c.err != nil {
		return false
	}
	r.next++
	for i := range r.values {
		r.values[i] = r.c.bytes()
	}
	return r.c.err == nil
}

// Value returns value i of the current row, nil when it is null. It aliases the body.
func (r *Rows) Value(i int) []byte { return r.values[i] }

// Values returns all values of the current row. The slice is valid until the next call of Next.
func (r *Rows) Values() [][]byte { return r.values }

// Err returns the *Error that ended the iteration early, if any.
func (r *Rows) Err() error { return r.c.error() }
