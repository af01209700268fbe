package cql

import (
	"strconv"
	"strings"
)

// Namer tells ColumnName what only a catalog knows. Nil functions stand for the defaults.
type Namer struct {
	// Function returns the full name of the function that is called. Default: the name as written, "system." before it
	// when it has no keyspace.
	Function func(*FuncCall) string
	// Type returns the text of a type hint. Default: its String.
	Type func(*TypeRef) string
}

// Format returns a term the way Cassandra shows it in error messages: markers as ?, operators as calls of the functions
// that implement them (system."_add"(1, 2)).
func Format(t Term) string {
	var r renderer
	r.term(t)
	return string(r.buf)
}

// ColumnName returns the name that the expression t of a SELECT clause gives to its result column when it has no alias:
// "v", "count", "system.now()", "cast(v as text)", "writetime(v)", "v + 1", "m['a']".
func ColumnName(t Term, n Namer) string {
	if n.Function == nil {
		n.Function = defaultFunctionName
	}
	if n.Type == nil {
		n.Type = (*TypeRef).String
	}
	r := renderer{column: true, namer: n}
	r.term(t)
	return string(r.buf)
}

func defaultFunctionName(f *FuncCall) string {
	if f.Name.Qualified() {
		return f.Name.String()
	}
	return "system." + f.Name.Name.Name
}

// FormatRelation returns a relation the way Cassandra shows it in error messages: "k > 1", "(a, b) IN ((1, 2))", "token(k) = 3".
func FormatRelation(rel *Relation) string {
	var r renderer
	switch rel.Kind {
	case ColumnRelation:
		r.str(QuoteIdent(rel.Column.Name))
	case ElementRelation:
		r.str(QuoteIdent(rel.Column.Name))
		r.enclose('[', rel.Key, ']')
	case TokenRelation:
		r.str("token")
		r.idents(rel.Columns)
	case TupleRelation:
		r.idents(rel.Columns)
	case CustomIndexExpr:
		r.str("expr(" + QuoteIdent(rel.Index.Name) + ",")
		r.enclose(' ', rel.Value, ')')
		return string(r.buf)
	}
	r.str(" " + rel.Op.String() + " ")
	if rel.Value != nil {
		r.term(rel.Value)
	} else {
		r.list('(', rel.Values, ')')
	}
	return string(r.buf)
}

// String returns the type as CQL text, quoted where needed, which types.Parse reads.
func (t *TypeRef) String() string { return string(t.appendTo(nil)) }

func (t *TypeRef) appendTo(dst []byte) []byte {
	if t.Frozen {
		dst = append(dst, "frozen<"...)
	}
	switch t.Kind {
	case TypeNative:
		dst = append(dst, t.Name...)
	case TypeCustom:
		dst = append(dst, '\'')
		dst = append(dst, strings.ReplaceAll(t.Class, "'", "''")...)
		dst = append(dst, '\'')
	case TypeUser:
		if t.UserType.Qualified() {
			dst = append(append(dst, QuoteIdent(t.UserType.Keyspace.Name)...), '.')
		}
		dst = append(dst, QuoteIdent(t.UserType.Name.Name)...)
	default:
		dst = append(dst, [...]string{TypeList: "list<", TypeSet: "set<", TypeMap: "map<", TypeTuple: "tuple<", TypeVector: "vector<"}[t.Kind]...)
		for i, e := range t.Elems {
			if i > 0 {
				dst = append(dst, ", "...)
			}
			dst = e.appendTo(dst)
		}
		if t.Kind == TypeVector {
			dst = strconv.AppendInt(append(dst, ", "...), int64(t.Dim), 10)
		}
		dst = append(dst, '>')
	}
	if t.Frozen {
		dst = append(dst, '>')
	}
	return dst
}

// renderer writes terms, as column names or for messages.
type renderer struct {
	buf    []byte
	column bool
	namer  Namer
}

func (r *renderer) str(s string) { r.buf = append(r.buf, s...) }

func (r *renderer) term(t Term) {
	switch t := t.(type) {
	case *Literal:
		if t.Class == StringLiteral {
			r.str("'" + t.Text + "'")
		} else {
			r.str(t.Text)
		}
	case *Null:
		r.str("NULL")
	case *Marker:
		r.str("?")
	case *ListLit:
		r.list('[', t.Elems, ']')
	case *SetLit:
		r.list('{', t.Elems, '}')
	case *TupleLit:
		r.list('(', t.Elems, ')')
	case *MapLit:
		r.mapLit(t)
	case *UDTLit:
		r.udtLit(t)
	case *CountRows:
		r.str("count")
	case *ColumnRef:
		r.str(t.Name.Name)
	default:
		r.composed(t)
	}
}

// composed writes calls, operators and selections of parts.
func (r *renderer) composed(t Term) {
	switch t := t.(type) {
	case *FuncCall:
		r.call(t)
	case *TypeHint:
		text := t.Type.String()
		if r.column {
			text = r.namer.Type(t.Type)
		}
		r.str("(" + text + ")")
		r.term(t.Arg)
	case *Cast:
		r.cast(t)
	case *BinaryOp:
		r.binary(t)
	case *Negate:
		r.negate(t)
	case *MetaCall:
		r.str(t.Kind.String())
		r.enclose('(', t.Arg, ')')
	case *FieldRef:
		r.term(t.Receiver)
		r.str("." + t.Field.Name)
	case *ElementRef:
		r.term(t.Receiver)
		r.enclose('[', t.Key, ']')
	case *SliceRef:
		r.term(t.Receiver)
		r.str("[")
		if t.From != nil {
			r.term(t.From)
		}
		r.str("..")
		if t.To != nil {
			r.term(t.To)
		}
		r.str("]")
	}
}

func (r *renderer) enclose(open byte, t Term, end byte) {
	r.buf = append(r.buf, open)
	r.term(t)
	r.buf = append(r.buf, end)
}

func (r *renderer) list(open byte, list []Term, end byte) {
	r.buf = append(r.buf, open)
	for i, t := range list {
		if i > 0 {
			r.str(", ")
		}
		r.term(t)
	}
	r.buf = append(r.buf, end)
}

func (r *renderer) idents(list []Ident) {
	r.str("(")
	for i, id := range list {
		if i > 0 {
			r.str(", ")
		}
		r.str(QuoteIdent(id.Name))
	}
	r.str(")")
}

func (r *renderer) mapLit(t *MapLit) {
	r.str("{")
	for i, e := range t.Entries {
		if i > 0 {
			r.str(", ")
		}
		r.term(e.Key)
		r.str(": ")
		r.term(e.Value)
	}
	r.str("}")
}

func (r *renderer) udtLit(t *UDTLit) {
	r.str("{")
	for i, f := range t.Fields {
		if i > 0 {
			r.str(", ")
		}
		r.str(f.Name.Name + ": ")
		r.term(f.Value)
	}
	r.str("}")
}

func (r *renderer) call(t *FuncCall) {
	switch {
	case r.column:
		r.str(r.namer.Function(t))
	case t.Name.Qualified():
		r.str(QuoteIdent(t.Name.Keyspace.Name) + "." + QuoteIdent(t.Name.Name.Name))
	default:
		r.str(QuoteIdent(t.Name.Name.Name))
	}
	r.list('(', t.Args, ')')
}

func (r *renderer) cast(t *Cast) {
	if !r.column {
		r.str("system.cast_as_" + t.Type.Name)
		r.enclose('(', t.Arg, ')')
		return
	}
	r.str("cast(")
	r.term(t.Arg)
	r.str(" as " + t.Type.Name + ")")
}

func (r *renderer) binary(t *BinaryOp) {
	if r.column {
		r.term(t.Left)
		r.buf = append(r.buf, ' ', t.Op, ' ')
		r.term(t.Right)
		return
	}
	r.str(`system."` + operatorFunction(t.Op) + `"`)
	r.list('(', []Term{t.Left, t.Right}, ')')
}

func (r *renderer) negate(t *Negate) {
	if r.column {
		r.str("-")
		r.term(t.Arg)
		return
	}
	r.str(`system."_negate"`)
	r.enclose('(', t.Arg, ')')
}

// operatorFunction returns the name of the function that implements op.
func operatorFunction(op byte) string {
	switch op {
	case '+':
		return "_add"
	case '-':
		return "_substract"
	case '*':
		return "_multiply"
	case '/':
		return "_divide"
	default:
		return "_modulo"
	}
}
