package cql

// Property is one item of WITH a = b AND c = {...}, in the order written; names are unique within a statement.
type Property struct {
	Name  string // lower case unless quoted
	Value string // a constant's raw text or a keyword; "" when IsMap
	IsMap bool
	Map   []PropertyEntry
	Pos   Pos
}

// PropertyEntry is one 'key': 'value' of a map property, raw texts; keys are unique within a property.
type PropertyEntry struct{ Key, Value string }

// CreateKeyspace is CREATE KEYSPACE.
type CreateKeyspace struct {
	markers
	Name        Ident
	IfNotExists bool
	Properties  []Property
}

// AlterKeyspace is ALTER KEYSPACE.
type AlterKeyspace struct {
	markers
	Name       Ident
	IfExists   bool
	Properties []Property
}

// DropKeyspace is DROP KEYSPACE.
type DropKeyspace struct {
	markers
	Name     Ident
	IfExists bool
}

// Mask is MASKED WITH func(args) or MASKED WITH DEFAULT (Func is then system.mask_default without arguments).
type Mask struct {
	Func QualifiedName
	Args []Term
}

// ColumnDef is a column in CREATE TABLE and ALTER TABLE ADD.
type ColumnDef struct {
	Name   Ident
	Type   *TypeRef
	Static bool
	Mask   *Mask
}

// ClusteringOrder is one item of CLUSTERING ORDER BY.
type ClusteringOrder struct {
	Column Ident
	Desc   bool
}

// CreateTable is CREATE TABLE. Column names are unique; PartitionKey is empty when no PRIMARY KEY was given.
type CreateTable struct {
	markers
	Name           QualifiedName
	IfNotExists    bool
	Columns        []ColumnDef
	PartitionKey   []Ident
	Clustering     []Ident
	Order          []ClusteringOrder
	CompactStorage bool
	Properties     []Property
}

// AlterTableKind is what ALTER TABLE does.
type AlterTableKind uint8

// The forms of ALTER TABLE.
const (
	AlterColumnType AlterTableKind = iota // Column, Type
	AlterMask                             // Column, Mask
	AlterDropMask                         // Column
	AlterAdd                              // Add
	AlterDrop                             // Drop, Timestamp
	AlterRename                           // Renames
	AlterDropCompact
	AlterProperties // Properties
)

// Rename is from TO to.
type Rename struct{ From, To Ident }

// AlterTable is ALTER TABLE.
type AlterTable struct {
	markers
	Name           QualifiedName
	IfExists       bool
	Kind           AlterTableKind
	IfColumnExists bool // ALTER/DROP/RENAME IF EXISTS
	IfColumnAbsent bool // ADD IF NOT EXISTS
	Column         Ident
	Type           *TypeRef
	Mask           *Mask
	Add            []ColumnDef
	Drop           []Ident
	Timestamp      *int64 // DROP ... USING TIMESTAMP, microseconds
	Renames        []Rename
	Properties     []Property
}

// DropTable is DROP TABLE.
type DropTable struct {
	markers
	Name     QualifiedName
	IfExists bool
}

// FieldDef is a field of a user type.
type FieldDef struct {
	Name Ident
	Type *TypeRef
}

// CreateType is CREATE TYPE.
type CreateType struct {
	markers
	Name        QualifiedName
	IfNotExists bool
	Fields      []FieldDef
}

// AlterTypeKind is what ALTER TYPE does.
type AlterTypeKind uint8

// The forms of ALTER TYPE.
const (
	AlterFieldType    AlterTypeKind = iota // Field
	AlterAddField                          // Field
	AlterRenameFields                      // Renames
)

// AlterType is ALTER TYPE.
type AlterType struct {
	markers
	Name          QualifiedName
	IfExists      bool
	Kind          AlterTypeKind
	IfFieldExists bool // RENAME IF EXISTS
	IfFieldAbsent bool // ADD IF NOT EXISTS
	Field         FieldDef
	Renames       []Rename
}

// DropType is DROP TYPE.
type DropType struct {
	markers
	Name     QualifiedName
	IfExists bool
}

// IndexTargetKind says which part of a column an index covers.
type IndexTargetKind uint8

// The index targets.
const (
	IndexSimple IndexTargetKind = iota
	IndexValues
	IndexKeys
	IndexEntries // keys and values
	IndexFull
)

// IndexTarget is one item of CREATE INDEX ... ON t (...).
type IndexTarget struct {
	Kind   IndexTargetKind
	Column Ident
}

// CreateIndex is CREATE [CUSTOM] INDEX.
type CreateIndex struct {
	markers
	Name        Ident // Name == "" when not given
	Table       QualifiedName
	Custom      bool
	IfNotExists bool
	Targets     []IndexTarget // may be empty
	Using       string        // the class or short name of USING '...'
	HasUsing    bool
	Properties  []Property
}

// DropIndex is DROP INDEX.
type DropIndex struct {
	markers
	Name     QualifiedName
	IfExists bool
}

// CreateView is CREATE MATERIALIZED VIEW.
type CreateView struct {
	markers
	Name         QualifiedName
	IfNotExists  bool
	Base         QualifiedName
	Selectors    []Selector // empty: *
	Where        []Relation
	PartitionKey []Ident
	Clustering   []Ident
	Order        []ClusteringOrder
	Properties   []Property
}

// AlterView is ALTER MATERIALIZED VIEW.
type AlterView struct {
	markers
	Name       QualifiedName
	IfExists   bool
	Properties []Property
}

// DropView is DROP MATERIALIZED VIEW.
type DropView struct {
	markers
	Name     QualifiedName
	IfExists bool
}

// FunctionArg is one argument of CREATE FUNCTION.
type FunctionArg struct {
	Name Ident
	Type *TypeRef
}

// CreateFunction is CREATE FUNCTION.
type CreateFunction struct {
	markers
	Name              QualifiedName
	OrReplace         bool
	IfNotExists       bool
	Args              []FunctionArg
	CalledOnNullInput bool
	Returns           *TypeRef
	Language          string // lower case
	Body              string
}

// DropFunction is DROP FUNCTION; without HasArgs any single overload is meant.
type DropFunction struct {
	markers
	Name     QualifiedName
	IfExists bool
	HasArgs  bool
	Args     []*TypeRef
}

// CreateAggregate is CREATE AGGREGATE.
type CreateAggregate struct {
	markers
	Name        QualifiedName
	OrReplace   bool
	IfNotExists bool
	Args        []*TypeRef
	StateFunc   Ident
	StateType   *TypeRef
	FinalFunc   Ident // Name == "" when not given
	InitCond    Term  // nil when not given
}

// DropAggregate is DROP AGGREGATE; without HasArgs any single overload is meant.
type DropAggregate struct {
	markers
	Name     QualifiedName
	IfExists bool
	HasArgs  bool
	Args     []*TypeRef
}

// CreateTrigger is CREATE TRIGGER.
type CreateTrigger struct {
	markers
	Name        Ident
	IfNotExists bool
	Table       QualifiedName
	Class       string
}

// DropTrigger is DROP TRIGGER.
type DropTrigger struct {
	markers
	Name     Ident
	IfExists bool
	Table    QualifiedName
}
