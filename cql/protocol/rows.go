package protocol

import (
	"crypto/md5"
	"encoding/binary"

	"github.com/helenusdb/helenus/cql/types"
)

// Column is one column of a result, or one bind variable of a prepared statement.
type Column struct {
	Keyspace string
	Table    string
	Name     string
	Type     *types.Type

	// Reversed says that the column is a clustering column in descending order. It is not on the
	// wire, but Cassandra's result metadata id tells such columns from ascending ones.
	Reversed bool
}

// MetadataID is the result metadata id of v5: it changes when the columns of a result do.
type MetadataID [16]byte

// EmptyMetadataID is the id of a result without columns, the MD5 of nothing. Conditional updates
// have it too, because their columns depend on the outcome.
func EmptyMetadataID() MetadataID { return md5.Sum(nil) }

// ComputeMetadataID returns the id that Cassandra 5.0 gives these columns: the MD5 over each one's
// name, a zero, its Java class name and two zeros (ResultSet.computeResultMetadataId).
func ComputeMetadataID(columns []Column) MetadataID {
	var b []byte
	for _, c := range columns {
		b = append(append(b, c.Name...), 0)
		if c.Reversed {
			b = append(b, marshalPrefix+"ReversedType("...)
		}
		b = append(b, c.Type.JavaName()...)
		if c.Reversed {
			b = append(b, ')')
		}
		b = append(b, 0, 0)
	}
	return md5.Sum(b)
}

// StatementID is the id of a prepared statement.
type StatementID [16]byte

// ComputeStatementID returns the id that Cassandra 5.0 gives a statement: the MD5 over the
// keyspace and the text. keyspace is "" when every name in the statement is qualified (also after
// a USE), otherwise the one it is prepared in.
func ComputeStatementID(keyspace, query string) StatementID {
	h := make([]byte, 0, len(keyspace)+len(query))
	return md5.Sum(append(append(h, keyspace...), query...))
}

// Specs is the immutable description of a result's columns (or of bind variables), encoded once
// for every version so that an answer only copies it. It is safe for concurrent use.
type Specs struct {
	columns []Column
	id      MetadataID
	global  bool
	encoded [MaxVersion + 1][]byte // by version: [<global spec>]<column specs>
}

// NewSpecs returns the specs of columns, which it keeps.
func NewSpecs(columns []Column) *Specs {
	s := &Specs{columns: columns, id: ComputeMetadataID(columns), global: sameTable(columns)}
	for v := V3; v <= MaxVersion; v++ {
		s.encoded[v] = appendSpecs(nil, v, columns, s.global)
	}
	return s
}

// Columns returns the columns. The slice belongs to s.
func (s *Specs) Columns() []Column { return s.columns }

// ID returns the result metadata id.
func (s *Specs) ID() MetadataID { return s.id }

// sameTable reports whether the columns can share one table spec: there are some, all of one table.
func sameTable(columns []Column) bool {
	for i := range columns {
		if columns[i].Keyspace != columns[0].Keyspace || columns[i].Table != columns[0].Table {
			return false
		}
	}
	return len(columns) > 0
}

func appendSpecs(dst []byte, v Version, columns []Column, global bool) []byte {
	if global {
		dst = AppendString(AppendString(dst, columns[0].Keyspace), columns[0].Table)
	}
	for i := range columns {
		c := &columns[i]
		if !global {
			dst = AppendString(AppendString(dst, c.Keyspace), c.Table)
		}
		dst = AppendType(AppendString(dst, c.Name), v, c.Type)
	}
	return dst
}

// MetadataMode says how much metadata an answer carries.
type MetadataMode uint8

// The modes.
const (
	FullMetadata    MetadataMode = iota
	SkipMetadata                 // flag 4: only the number of columns
	ChangedMetadata              // flag 8: the new id and full metadata (v5; full before)
)

// ModeFor returns the mode of the answer to an EXECUTE, by Cassandra's rule. On v5 the client's
// metadata id decides: another one than the current means ChangedMetadata, whatever was asked. On
// v3 and v4 a client that asked to skip gets nothing only while the result has the columns it had
// when prepared (prepared). Conditional statements, whose columns depend on the outcome, are
// always sent in full.
func ModeFor(v Version, e *Execute, current, prepared MetadataID, conditional bool) MetadataMode {
	switch {
	case conditional:
		return FullMetadata
	case v >= V5 && string(e.ResultMetadataID) != string(current[:]):
		return ChangedMetadata
	case e.SkipMetadata() && (v >= V5 || current == prepared):
		return SkipMetadata
	}
	return FullMetadata
}

func (s *Specs) flags(v Version, mode MetadataMode) uint32 {
	var flags uint32
	if s.global {
		flags |= RowsGlobalTableSpec
	}
	switch {
	case mode == SkipMetadata || len(s.columns) == 0:
		flags |= RowsNoMetadata
	case mode == ChangedMetadata && v >= V5:
		flags |= RowsMetadataChanged
	}
	return flags
}

// appendResultMetadata appends <metadata> without paging state.
func (s *Specs) appendResultMetadata(dst []byte, v Version, mode MetadataMode) []byte {
	flags := s.flags(v, mode)
	dst = appendI32(appendI32(dst, int(flags)), len(s.columns))
	if flags&RowsMetadataChanged != 0 {
		dst = AppendShortBytes(dst, s.id[:])
	}
	if flags&RowsNoMetadata != 0 {
		return dst
	}
	return append(dst, s.encoded[v]...)
}

// RowsMark is where a RESULT Rows that is being built has its metadata and its row count.
type RowsMark struct{ metadata, count int }

// BeginRows appends the body of a RESULT Rows up to its row count. The caller then appends every
// row's values with AppendValue and AppendNull, and calls EndRows. It allocates nothing but room
// in dst.
func BeginRows(dst []byte, v Version, s *Specs, mode MetadataMode) ([]byte, RowsMark) {
	dst = appendI32(dst, int(ResultRows))
	mark := RowsMark{metadata: len(dst)}
	dst = s.appendResultMetadata(dst, v, mode)
	mark.count = len(dst)
	return appendI32(dst, 0), mark
}

// EndRows writes the row count, and when there are more pages puts the paging state into the
// metadata; nil means that this was the last page.
func EndRows(dst []byte, mark RowsMark, rows int, pagingState []byte) []byte {
	binary.BigEndian.PutUint32(dst[mark.count:], uint32(rows))
	if pagingState == nil {
		return dst
	}
	flags := binary.BigEndian.Uint32(dst[mark.metadata:])
	binary.BigEndian.PutUint32(dst[mark.metadata:], flags|RowsHasMorePages)
	at, n := mark.metadata+8, 4+len(pagingState)
	dst = append(dst, make([]byte, n)...)
	copy(dst[at+n:], dst[at:len(dst)-n])
	AppendValue(dst[at:at], pagingState)
	return dst
}

// Prepared is the content of a RESULT Prepared.
type Prepared struct {
	ID               []byte
	ResultMetadataID []byte // v5; nil when decoded from an older version

	Variables []Column // the bind variables
	PKIndexes []uint16 // which of them make the partition key, in its order; v4 and up

	Result *Metadata // of the rows; Flags has RowsNoMetadata when there are none
}

// AppendPrepared appends the body of a RESULT Prepared. pkIndexes is nil when the variables do not
// cover the partition key; it is left out when they belong to several tables. result is nil for
// statements without result columns and conditional ones, and stands for the empty metadata.
func AppendPrepared(dst []byte, v Version, id StatementID, variables *Specs, pkIndexes []uint16, result *Specs) []byte {
	if result == nil {
		result = &Specs{id: EmptyMetadataID()}
	}
	dst = AppendShortBytes(appendI32(dst, int(ResultPrepared)), id[:])
	if v >= V5 {
		dst = AppendShortBytes(dst, result.id[:])
	}
	dst = appendVariables(dst, v, variables, pkIndexes)
	return result.appendResultMetadata(dst, v, FullMetadata)
}

func appendVariables(dst []byte, v Version, s *Specs, pkIndexes []uint16) []byte {
	var flags uint32
	if s.global {
		flags = RowsGlobalTableSpec
	} else {
		pkIndexes = nil
	}
	dst = appendI32(appendI32(dst, int(flags)), len(s.columns))
	if v >= V4 {
		dst = appendI32(dst, len(pkIndexes))
		for _, i := range pkIndexes {
			dst = appendU16(dst, int(i))
		}
	}
	return append(dst, s.encoded[v]...)
}

// Metadata is the metadata of a RESULT Rows or Prepared, as decoded, or as given to
// AppendMetadata by those who build a result only once.
type Metadata struct {
	Flags         uint32   // RowsX
	ColumnCount   int      // also when Columns is nil
	Columns       []Column // nil with RowsNoMetadata
	PagingState   []byte   // with RowsHasMorePages
	NewMetadataID []byte   // with RowsMetadataChanged (v5)
}

// AppendMetadata appends m. RowsGlobalTableSpec is set when all columns are of one table; the
// other flags follow from the fields, except RowsNoMetadata, which is taken from m.Flags.
func AppendMetadata(dst []byte, v Version, m *Metadata) []byte {
	flags := m.Flags & RowsNoMetadata
	global := sameTable(m.Columns)
	if global {
		flags |= RowsGlobalTableSpec
	}
	if m.PagingState != nil {
		flags |= RowsHasMorePages
	}
	changed := m.NewMetadataID != nil && v >= V5 && flags&RowsNoMetadata == 0
	if changed {
		flags |= RowsMetadataChanged
	}
	dst = appendI32(appendI32(dst, int(flags)), max(len(m.Columns), m.ColumnCount))
	if m.PagingState != nil {
		dst = AppendValue(dst, m.PagingState)
	}
	if changed {
		dst = AppendShortBytes(dst, m.NewMetadataID)
	}
	if flags&RowsNoMetadata != 0 {
		return dst
	}
	return appendSpecs(dst, v, m.Columns, global)
}
