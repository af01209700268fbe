package cql

// Term is an expression: a value, or in a SELECT clause also a column or a part of one (the nodes *ColumnRef, *FieldRef,
// *ElementRef, *SliceRef, *MetaCall and *CountRows occur in SELECT and GROUP BY only). One of the pointer types below.
type Term interface {
	// Position returns where the term starts.
	Position() Pos
	term()
}

// LiteralClass is the lexical class of a constant; the planner decides whether it fits the receiver's type.
type LiteralClass uint8

// The classes of constants.
const (
	StringLiteral   LiteralClass = iota // Text is the content, unescaped
	IntegerLiteral                      // Text as written, with its sign: -?[0-9]+
	FloatLiteral                        // Text as written, or NaN, Infinity, -Infinity
	BooleanLiteral                      // Text as written: true or false in any case
	DurationLiteral                     // Text as written: 1h30m, P1Y, ...
	UUIDLiteral                         // Text as written
	HexLiteral                          // Text as written with 0x
)

// String returns Cassandra's name of the class ("STRING", "INTEGER", ...), as in "Invalid STRING constant (a) for ...".
func (c LiteralClass) String() string {
	switch c {
	case StringLiteral:
		return "STRING"
	case IntegerLiteral:
		return "INTEGER"
	case FloatLiteral:
		return "FLOAT"
	case BooleanLiteral:
		return "BOOLEAN"
	case DurationLiteral:
		return "DURATION"
	case UUIDLiteral:
		return "UUID"
	default:
		return "HEX"
	}
}

// Literal is a constant.
type Literal struct {
	Class LiteralClass
	Text  string
	Pos   Pos
}

// Null is NULL.
type Null struct{ Pos Pos }

// Marker is a bind marker: ? or :name.
type Marker struct {
	Index int    // slot, from 0
	Name  string // folded unless it was quoted; "" for ?
	In    bool   // stands for the whole list of an IN: its type is list<receiver>
	JSON  bool   // the value of INSERT JSON: its type is text
	Pos   Pos
}

// ListLit is [a, b]: a list or a vector.
type ListLit struct {
	Elems []Term
	Pos   Pos
}

// SetLit is {a, b}. Without elements it is {}: an empty set or an empty map, whichever the receiver is.
type SetLit struct {
	Elems []Term
	Pos   Pos
}

// MapEntry is one key: value.
type MapEntry struct{ Key, Value Term }

// MapLit is {k: v, ...} with at least one entry. In a SELECT clause a MapLit whose keys are all *ColumnRef can be a user
// type too; elsewhere that is a UDTLit.
type MapLit struct {
	Entries []MapEntry
	Pos     Pos
}

// TupleLit is (a, b). With a single element it can also be a parenthesised expression: the receiver's type decides.
type TupleLit struct {
	Elems []Term
	Pos   Pos
}

// UDTField is one field: value.
type UDTField struct {
	Name  Ident
	Value Term
}

// UDTLit is {field: value, ...}.
type UDTLit struct {
	Fields []UDTField
	Pos    Pos
}

// FuncCall is ks.name(args). The name is folded unless quoted; a name that is an unreserved keyword keeps its case, as in
// Cassandra.
type FuncCall struct {
	Name QualifiedName
	Args []Term
	Pos  Pos
}

// Cast is CAST(arg AS type); Type is native.
type Cast struct {
	Arg  Term
	Type *TypeRef
	Pos  Pos
}

// TypeHint is (type) arg.
type TypeHint struct {
	Type *TypeRef
	Arg  Term
	Pos  Pos
}

// BinaryOp is left op right; Op is one of + - * / %.
type BinaryOp struct {
	Op          byte
	Left, Right Term
	Pos         Pos
}

// Negate is -arg (of something that is not a numeric constant: those carry their sign).
type Negate struct {
	Arg Term
	Pos Pos
}

// ColumnRef is a column in a SELECT clause.
type ColumnRef struct{ Name Ident }

// FieldRef is receiver.field.
type FieldRef struct {
	Receiver Term
	Field    Ident
}

// ElementRef is receiver[key].
type ElementRef struct {
	Receiver Term
	Key      Term
}

// SliceRef is receiver[from..to]; either bound may be nil, not both.
type SliceRef struct {
	Receiver Term
	From, To Term
}

// MetaKind names the functions on a cell's metadata.
type MetaKind uint8

// The functions on metadata.
const (
	Writetime MetaKind = iota
	TTL
	MaxWritetime
)

// String returns "writetime", "ttl" or "maxwritetime".
func (k MetaKind) String() string {
	switch k {
	case Writetime:
		return "writetime"
	case TTL:
		return "ttl"
	default:
		return "maxwritetime"
	}
}

// MetaCall is writetime(arg), ttl(arg) or maxwritetime(arg); Arg is a *ColumnRef or elements, slices and fields of one.
type MetaCall struct {
	Kind MetaKind
	Arg  Term
	Pos  Pos
}

// CountRows is count(*).
type CountRows struct{ Pos Pos }

func (t *Literal) term()    {}
func (t *Null) term()       {}
func (t *Marker) term()     {}
func (t *ListLit) term()    {}
func (t *SetLit) term()     {}
func (t *MapLit) term()     {}
func (t *TupleLit) term()   {}
func (t *UDTLit) term()     {}
func (t *FuncCall) term()   {}
func (t *Cast) term()       {}
func (t *TypeHint) term()   {}
func (t *BinaryOp) term()   {}
func (t *Negate) term()     {}
func (t *ColumnRef) term()  {}
func (t *FieldRef) term()   {}
func (t *ElementRef) term() {}
func (t *SliceRef) term()   {}
func (t *MetaCall) term()   {}
func (t *CountRows) term()  {}

// Position implements Term.
func (t *Literal) Position() Pos { return t.Pos }

// Position implements Term.
func (t *Null) Position() Pos { return t.Pos }

// Position implements Term.
func (t *Marker) Position() Pos { return t.Pos }

// Position implements Term.
func (t *ListLit) Position() Pos { return t.Pos }

// Position implements Term.
func (t *SetLit) Position() Pos { return t.Pos }

// Position implements Term.
func (t *MapLit) Position() Pos { return t.Pos }

// Position implements Term.
func (t *TupleLit) Position() Pos { return t.Pos }

// Position implements Term.
func (t *UDTLit) Position() Pos { return t.Pos }

// Position implements Term.
func (t *FuncCall) Position() Pos { return t.Pos }

// Position implements Term.
func (t *Cast) Position() Pos { return t.Pos }

// Position implements Term.
func (t *TypeHint) Position() Pos { return t.Pos }

// Position implements Term.
func (t *BinaryOp) Position() Pos { return t.Pos }

// Position implements Term.
func (t *Negate) Position() Pos { return t.Pos }

// Position implements Term.
func (t *ColumnRef) Position() Pos { return t.Name.Pos }

// Position implements Term.
func (t *FieldRef) Position() Pos { return t.Receiver.Position() }

// Position implements Term.
func (t *ElementRef) Position() Pos { return t.Receiver.Position() }

// Position implements Term.
func (t *SliceRef) Position() Pos { return t.Receiver.Position() }

// Position implements Term.
func (t *MetaCall) Position() Pos { return t.Pos }

// Position implements Term.
func (t *CountRows) Position() Pos { return t.Pos }
