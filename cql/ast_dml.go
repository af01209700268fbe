package cql

// Operator is the operator of a relation or of a condition.
type Operator uint8

// The operators.
const (
	Eq Operator = iota
	Lt
	Lte
	Gt
	Gte
	Neq
	In
	Contains
	ContainsKey
	Like
	IsNotNull
)

// String returns the operator as written in CQL.
func (o Operator) String() string {
	return [...]string{"=", "<", "<=", ">", ">=", "!=", "IN", "CONTAINS", "CONTAINS KEY", "LIKE", "IS NOT"}[o]
}

// RelationKind says which shape a Relation has.
type RelationKind uint8

// The shapes of relations.
const (
	ColumnRelation  RelationKind = iota // Column op Value/Values
	ElementRelation                     // Column[Key] op Value
	TokenRelation                       // token(Columns) op Value
	TupleRelation                       // (Columns) op Value/Values
	CustomIndexExpr                     // expr(Index, Value)
)

// Relation is one conjunct of a WHERE clause.
//
// For In exactly one of these holds: Values lists the members (may be empty: IN ()), or Value is a *Marker with In set.
// For a TupleRelation Value is a *TupleLit or a *Marker, and Values holds either only *TupleLit or only *Marker.
// For IsNotNull Value is *Null.
type Relation struct {
	Kind    RelationKind
	Op      Operator
	Column  Ident
	Columns []Ident
	Key     Term
	Index   Ident
	Value   Term
	Values  []Term
	Pos     Pos
}

// Selector is one item of a SELECT clause; Alias.Name is "" without AS.
type Selector struct {
	Expr  Term
	Alias Ident
}

// Ordering is one item of ORDER BY. ANN is the vector of ORDER BY c ANN OF v, else nil.
type Ordering struct {
	Column Ident
	ANN    Term
	Desc   bool
}

// Select is a SELECT statement.
type Select struct {
	markers
	Table             QualifiedName
	JSON, Distinct    bool
	Selectors         []Selector // empty: *
	Where             []Relation
	GroupBy           []Term
	OrderBy           []Ordering
	PerPartitionLimit Term // *Literal (integer) or *Marker; nil without
	Limit             Term // *Literal (integer) or *Marker; nil without
	AllowFiltering    bool
}

// Using holds USING TIMESTAMP and TTL: *Literal (integer) or *Marker, nil when not given.
type Using struct{ Timestamp, TTL Term }

// Insert is an INSERT statement: Columns and Values, or JSON.
type Insert struct {
	markers
	Table        QualifiedName
	Columns      []Ident
	Values       []Term
	JSON         Term // *Literal (string) or *Marker of INSERT JSON; else nil
	DefaultUnset bool // JSON ... DEFAULT UNSET
	IfNotExists  bool
	Using        Using
}

// AssignKind is the form of one assignment of an UPDATE.
type AssignKind uint8

// The forms of assignments.
const (
	AssignValue    AssignKind = iota // c = Value
	AssignAdd                        // c = c + Value, c += Value
	AssignSubtract                   // c = c - Value, c -= Value
	AssignPrepend                    // c = Value + c
	AssignElement                    // c[Key] = Value
	AssignField                      // c.Field = Value
)

// Assignment is one item of UPDATE ... SET.
type Assignment struct {
	Column Ident
	Kind   AssignKind
	Key    Term
	Field  Ident
	Value  Term
}

// Condition is one conjunct of an IF clause: Column, Column[Key] or Column.Field (Field.Name != "") compared with Value,
// or with Op In with Values (or Value a *Marker with In set).
type Condition struct {
	Column Ident
	Key    Term
	Field  Ident
	Op     Operator
	Value  Term
	Values []Term
}

// Update is an UPDATE statement.
type Update struct {
	markers
	Table      QualifiedName
	Using      Using
	Set        []Assignment
	Where      []Relation
	IfExists   bool
	Conditions []Condition
}

// Deletion is one item of DELETE: Column, Column[Key] or Column.Field (Field.Name != "").
type Deletion struct {
	Column Ident
	Key    Term
	Field  Ident
}

// Delete is a DELETE statement. Without Columns it deletes rows.
type Delete struct {
	markers
	Table      QualifiedName
	Columns    []Deletion
	Using      Using // TTL is always nil
	Where      []Relation
	IfExists   bool
	Conditions []Condition
}

// BatchType is the type of a batch; the values are those of the native protocol.
type BatchType uint8

// The types of batches.
const (
	LoggedBatch BatchType = iota
	UnloggedBatch
	CounterBatch
)

// Batch is BEGIN [UNLOGGED | COUNTER] BATCH ... APPLY BATCH; Statements are *Insert, *Update and *Delete, may be none.
type Batch struct {
	markers
	Type       BatchType
	Using      Using
	Statements []Statement
}

// Use is USE keyspace.
type Use struct {
	markers
	Keyspace Ident
}

// Truncate is TRUNCATE [TABLE] name.
type Truncate struct {
	markers
	Table QualifiedName
}

// DescribeKind is what DESCRIBE describes.
type DescribeKind uint8

// The forms of DESCRIBE.
const (
	DescribeCluster DescribeKind = iota
	DescribeSchema
	DescribeFullSchema
	DescribeKeyspaces
	DescribeKeyspace     // Name.Keyspace, "" for the session's
	DescribeOnlyKeyspace // Name.Keyspace, "" for the session's: without its elements
	DescribeTables
	DescribeTable
	DescribeIndex
	DescribeView
	DescribeTypes
	DescribeType
	DescribeFunctions
	DescribeFunction
	DescribeAggregates
	DescribeAggregate
	DescribeAny // DESCRIBE [ks.]name: a keyspace, table, view or index
)

// Describe is DESCRIBE or DESC.
type Describe struct {
	markers
	What      DescribeKind
	Name      QualifiedName
	Internals bool // WITH INTERNALS
}
