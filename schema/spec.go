package schema

import "github.com/helenusdb/helenus/cql/types"

// The specs are DDL statements as a caller hands them over: names already folded to their true case, option values
// as raw text. They are checked here, so a caller need not.

// Property is one option of WITH. Names are unique within a statement.
type Property struct {
	Name  string
	Value string // text of a constant; unused when IsMap
	IsMap bool
	Map   []Pair // raw texts, as written
}

// TypeSpec is a type as it is written in CQL, not yet resolved. Exactly one of Kind's forms is meant.
type TypeSpec struct {
	Kind     TypeSpecKind
	Frozen   bool   // frozen<...> was written around it
	Name     string // TypeNative: "int", "varchar", ...; TypeUser: the type's name; TypeCustom: the class
	Keyspace string // TypeUser: "" means the keyspace of the table or type being defined
	Elems    []TypeSpec
	Dim      int // TypeVector
}

// TypeSpecKind says what a TypeSpec is.
type TypeSpecKind uint8

// The kinds.
const (
	TypeNative TypeSpecKind = iota
	TypeList
	TypeSet
	TypeMap
	TypeTuple
	TypeVector
	TypeUser
	TypeCustom
)

// CreateKeyspace is CREATE KEYSPACE.
type CreateKeyspace struct {
	Name        string
	IfNotExists bool
	Properties  []Property
}

// AlterKeyspace is ALTER KEYSPACE.
type AlterKeyspace struct {
	Name       string
	IfExists   bool
	Properties []Property
}

// DropKeyspace is DROP KEYSPACE.
type DropKeyspace struct {
	Name     string
	IfExists bool
}

// ColumnSpec is a column in CREATE TABLE and ALTER TABLE ADD.
type ColumnSpec struct {
	Name   string
	Type   TypeSpec
	Static bool
}

// ClusteringOrder is one item of CLUSTERING ORDER BY.
type ClusteringOrder struct {
	Column string
	Desc   bool
}

// CreateTable is CREATE TABLE.
type CreateTable struct {
	Keyspace, Name string
	IfNotExists    bool
	Columns        []ColumnSpec
	PartitionKey   []string // empty when the statement had no PRIMARY KEY
	Clustering     []string
	Order          []ClusteringOrder
	CompactStorage bool
	Properties     []Property
}

// AlterTableKind is what ALTER TABLE does.
type AlterTableKind uint8

// The forms of ALTER TABLE.
const (
	AlterAdd        AlterTableKind = iota // Add
	AlterDrop                             // Drop, Timestamp
	AlterRename                           // Renames
	AlterProperties                       // Properties
	AlterColumnType                       // Column; always refused
	AlterDropCompact
)

// Rename is RENAME from TO to.
type Rename struct{ From, To string }

// AlterTable is ALTER TABLE.
type AlterTable struct {
	Keyspace, Name string
	IfExists       bool
	Kind           AlterTableKind
	IfColumnExists bool // DROP, RENAME IF EXISTS
	IfColumnAbsent bool // ADD IF NOT EXISTS
	Add            []ColumnSpec
	Drop           []string
	Timestamp      *int64 // DROP ... USING TIMESTAMP, µs
	Renames        []Rename
	Column         string
	Properties     []Property
}

// DropTable is DROP TABLE.
type DropTable struct {
	Keyspace, Name string
	IfExists       bool
}

// Truncate is TRUNCATE.
type Truncate struct{ Keyspace, Name string }

// FieldSpec is a field of a user type.
type FieldSpec struct {
	Name string
	Type TypeSpec
}

// CreateType is CREATE TYPE.
type CreateType struct {
	Keyspace, Name string
	IfNotExists    bool
	Fields         []FieldSpec
}

// AlterTypeKind is what ALTER TYPE does.
type AlterTypeKind uint8

// The forms of ALTER TYPE.
const (
	AlterAddField     AlterTypeKind = iota // Field
	AlterRenameFields                      // Renames
	AlterFieldType                         // Field; always refused
)

// AlterType is ALTER TYPE.
type AlterType struct {
	Keyspace, Name string
	IfExists       bool
	Kind           AlterTypeKind
	IfFieldExists  bool // RENAME IF EXISTS
	IfFieldAbsent  bool // ADD IF NOT EXISTS
	Field          FieldSpec
	Renames        []Rename
}

// DropType is DROP TYPE.
type DropType struct {
	Keyspace, Name string
	IfExists       bool
}

// ResolveType returns the type that spec means in keyspace ks, for instance of CAST or a type hint. Errors are
// *Error with Cassandra's text.
func (c *Catalog) ResolveType(ks string, spec TypeSpec) (*types.Type, error) {
	r := typeResolver{keyspace: ks, find: c.Type}
	return r.resolve(spec)
}
