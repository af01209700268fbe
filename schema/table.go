package schema

import (
	"cmp"
	"encoding/hex"
	"slices"

	"github.com/helenusdb/helenus/cql/types"
)

// ID is a table's id: a UUID that lasts as long as the table, also across TRUNCATE.
type ID [16]byte

// String returns the UUID's usual text.
func (id ID) String() string {
	var b [36]byte
	hex.Encode(b[:], id[:4])
	b[8] = '-'
	hex.Encode(b[9:], id[4:6])
	b[13] = '-'
	hex.Encode(b[14:], id[6:8])
	b[18] = '-'
	hex.Encode(b[19:], id[8:10])
	b[23] = '-'
	hex.Encode(b[24:], id[10:])
	return string(b[:])
}

// Generation is a table's storage generation, the first part of every storage key. TRUNCATE and a re-created table
// get a new one, and none is ever used twice, so no hint, log entry or client timestamp can bring old rows back.
// 0 means that nothing is stored (virtual tables); numbers below GenerationUserMin are kept for system tables.
type Generation uint32

// GenerationUserMin is the first generation a user's table can have.
const GenerationUserMin Generation = 1024

// ColumnID numbers a column within its table for ever: the id of a dropped column is never used again, so a rename
// is free and a column that is added again never sees the cells of its predecessor. Ids start at 1.
type ColumnID uint32

// ColumnKind says which part of a row a column belongs to.
type ColumnKind uint8

// The column kinds.
const (
	KindPartitionKey ColumnKind = iota
	KindClustering
	KindStatic
	KindRegular
)

// String returns the text of system_schema.columns.kind.
func (k ColumnKind) String() string {
	switch k {
	case KindPartitionKey:
		return "partition_key"
	case KindClustering:
		return "clustering"
	case KindStatic:
		return "static"
	}
	return "regular"
}

// Key reports whether columns of this kind make up the primary key.
func (k ColumnKind) Key() bool { return k <= KindClustering }

// compareNames orders static and regular columns as Cassandra does: by bytes, but names that begin with a byte above
// 0x7F come first, because Cassandra compares the first eight bytes as a signed number.
func compareNames(a, b string) int {
	if len(a) > 0 && len(b) > 0 && (a[0]^b[0])&0x80 != 0 {
		return cmp.Compare(b[0], a[0])
	}
	return cmp.Compare(a, b)
}

// Column is one column of a table.
type Column struct {
	ID       ColumnID
	Name     string
	Type     *types.Type
	Kind     ColumnKind
	Position int  // within the partition key or the clustering; -1 for other columns
	Desc     bool // clustering only: the order is descending
}

// DroppedColumn remembers a column that was dropped.
type DroppedColumn struct {
	ID   ColumnID
	Name string
	Type *types.Type // user types are expanded to tuples, as in Cassandra
	Kind ColumnKind  // KindStatic or KindRegular
	Time int64       // when it was dropped, µs since the epoch
}

// Table is the definition of a table. It is immutable.
type Table struct {
	Keyspace, Name string
	ID             ID
	Generation     Generation

	PartitionKey []*Column       // by Position
	Clustering   []*Column       // by Position
	Static       []*Column       // by name, see compareNames
	Regular      []*Column       // by name, see compareNames
	Dropped      []DroppedColumn // by name, byte order; a name occurs once, with its last drop
	NextColumn   ColumnID        // the id the next added column gets

	Options TableOptions
	Flags   TableFlags

	Virtual       bool // rows are computed by the node, nothing is stored: Generation is 0
	VirtualSchema bool // lives in a virtual keyspace: described by system_virtual_schema, not by system_schema

	all    []*Column          // partition key, clustering, static, regular
	byName map[string]*Column // every column
	byID   []*Column          // every column by ID; the column with ID n is at n-1 until one is dropped
}

// TableFlags are the flags of system_schema.tables.
type TableFlags uint8

// The flags. A table has FlagCompound unless it was created WITH COMPACT STORAGE.
const (
	FlagDense TableFlags = 1 << iota
	FlagCounter
	FlagSuper
	FlagCompound
)

// Counter reports whether the table's regular columns are counters.
func (t *Table) Counter() bool { return t.Flags&FlagCounter != 0 }

// CompactStorage reports whether the table was created WITH COMPACT STORAGE.
func (t *Table) CompactStorage() bool {
	return t.Flags&FlagCompound == 0 || t.Flags&(FlagDense|FlagSuper) != 0
}

// Column returns the column of that name, nil when there is none.
func (t *Table) Column(name string) *Column { return t.byName[name] }

// ColumnByID returns the column with that id, nil when there is none or it was dropped.
func (t *Table) ColumnByID(id ColumnID) *Column {
	if i := int(id) - 1; i >= 0 && i < len(t.byID) && t.byID[i].ID == id {
		return t.byID[i]
	}
	i, ok := slices.BinarySearchFunc(t.byID, id, func(c *Column, id ColumnID) int { return cmp.Compare(c.ID, id) })
	if !ok {
		return nil
	}
	return t.byID[i]
}

// AllColumns returns the columns in the order of SELECT *: partition key, clustering, static and regular, the last
// two by name. The slice belongs to the table.
func (t *Table) AllColumns() []*Column { return t.all }

// HasStatic reports whether the table has static columns.
func (t *Table) HasStatic() bool { return len(t.Static) > 0 }

// finish builds the derived fields. The four column slices must be complete and in order.
func (t *Table) finish() {
	n := len(t.PartitionKey) + len(t.Clustering) + len(t.Static) + len(t.Regular)
	t.all = make([]*Column, 0, n)
	t.all = append(append(append(append(t.all, t.PartitionKey...), t.Clustering...), t.Static...), t.Regular...)
	t.byName = make(map[string]*Column, n)
	for _, c := range t.all {
		t.byName[c.Name] = c
	}
	t.byID = slices.Clone(t.all)
	slices.SortFunc(t.byID, func(a, b *Column) int { return cmp.Compare(a.ID, b.ID) })
}
