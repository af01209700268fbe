package cql

// Statement is one parsed CQL statement: *Select, *Insert, *Update, *Delete, *Batch, *Use, *Truncate, *Describe, the DDL
// statements (*CreateKeyspace ... *DropTrigger) and the statements about roles (*CreateRole ... *RevokeRole).
// Switch on the type. Immutable after Parse.
type Statement interface {
	// Markers returns the bind markers in the order of their slots: Markers()[i].Index == i. Each occurrence of a named
	// marker has its own slot, as in Cassandra. The markers of a batch are those of all its statements; the statements
	// inside of it have none of their own. Owned by the statement.
	Markers() []Marker
	setMarkers([]Marker)
}

// markers is embedded by every statement.
type markers struct{ list []Marker }

// Markers implements Statement.
func (m *markers) Markers() []Marker     { return m.list }
func (m *markers) setMarkers(l []Marker) { m.list = l }

// Pos is a place in the statement text as Cassandra counts: lines from 1, columns from 0 in UTF-16 units. The zero Pos is
// no place.
type Pos struct{ Line, Col int32 }

// Ident is an identifier. Name is folded to lower case unless Quoted. The zero Ident is "not given".
type Ident struct {
	Name   string
	Quoted bool
	Pos    Pos
}

// QualifiedName is the name of a table, view, index, type, function or aggregate with an optional keyspace.
type QualifiedName struct {
	Keyspace Ident // Name == "" when not given
	Name     Ident
}

// Qualified reports whether the name has a keyspace.
func (n QualifiedName) Qualified() bool { return n.Keyspace.Name != "" }

// String returns "ks.name" or "name", unquoted, as Cassandra's messages show names.
func (n QualifiedName) String() string {
	if n.Qualified() {
		return n.Keyspace.Name + "." + n.Name.Name
	}
	return n.Name.Name
}

// TypeKind says what a TypeRef is.
type TypeKind uint8

// The kinds of type references.
const (
	TypeNative TypeKind = iota // Name: "int", "text", "varchar", ... in lower case
	TypeList                   // Elems[0]
	TypeSet                    // Elems[0]
	TypeMap                    // Elems[0] key, Elems[1] value
	TypeTuple                  // Elems
	TypeVector                 // Elems[0], Dim
	TypeUser                   // UserType
	TypeCustom                 // Class: the text of the string literal
)

// TypeRef is a type as written, to be resolved against a catalog. String gives CQL text that types.Parse reads.
type TypeRef struct {
	Kind     TypeKind
	Frozen   bool
	Name     string
	UserType QualifiedName
	Class    string
	Elems    []*TypeRef
	Dim      int
	Pos      Pos
}

// UDTNames calls visit for each user type in t, outermost first.
func (t *TypeRef) UDTNames(visit func(QualifiedName)) {
	if t.Kind == TypeUser {
		visit(t.UserType)
	}
	for _, e := range t.Elems {
		e.UDTNames(visit)
	}
}
