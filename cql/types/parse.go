package types

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/helenusdb/helenus/internal/cqlident"
)

// TypeDepthMax bounds how deep types nest in what Parse accepts.
const TypeDepthMax = 64

// VectorDimMax is the largest vector dimension (Cassandra's limit for vector<e, n>).
const VectorDimMax = 1 << 13

// Parse returns the type that cqlText names; it is the inverse of String. A UDT's name is looked
// up with udt, in keyspace ks unless the name is qualified; the definition found is used frozen
// or not as the text says. Parse fails on unknown names, on text after the type and on types
// nested deeper than TypeDepthMax. It costs time and memory linear in the text.
func Parse(cqlText string, udt func(ks, name string) (*Type, bool), ks string) (*Type, error) {
	p := typeParser{src: cqlText, udt: udt, ks: ks}
	t, err := p.parse(0)
	if err == nil && p.skipSpace() != "" {
		err = fmt.Errorf("unexpected %q", p.src[p.pos:])
	}
	if err != nil {
		return nil, fmt.Errorf("types: parse type %q: %w", cqlText, err)
	}
	return t, nil
}

type typeParser struct {
	src string
	pos int
	udt func(ks, name string) (*Type, bool)
	ks  string
}

func (p *typeParser) skipSpace() string {
	for p.pos < len(p.src) && (p.src[p.pos] == ' ' || p.src[p.pos] == '\t' || p.src[p.pos] == '\n') {
		p.pos++
	}
	return p.src[p.pos:]
}

func (p *typeParser) accept(c byte) bool {
	if rest := p.skipSpace(); rest != "" && rest[0] == c {
		p.pos++
		return true
	}
	return false
}

func (p *typeParser) expect(c byte) error {
	if !p.accept(c) {
		return fmt.Errorf("%q expected at offset %d", string(c), p.pos)
	}
	return nil
}

func (p *typeParser) parse(depth int) (*Type, error) {
	if depth > TypeDepthMax {
		return nil, fmt.Errorf("nested deeper than %d", TypeDepthMax)
	}
	if rest := p.skipSpace(); rest != "" && rest[0] == '\'' {
		class, err := p.quoted('\'')
		if err != nil {
			return nil, err
		}
		return OfClass(class), nil
	}
	name, quoted, err := p.ident()
	if err != nil {
		return nil, err
	}
	if !quoted && p.accept('<') {
		return p.generic(strings.ToLower(name), depth)
	}
	return p.named(name, quoted)
}

// named resolves a name without parameters: a scalar or a UDT.
func (p *typeParser) named(name string, quoted bool) (*Type, error) {
	ks := p.ks
	if p.accept('.') {
		var err error
		if ks = name; !quoted {
			ks = strings.ToLower(name)
		}
		if name, quoted, err = p.ident(); err != nil {
			return nil, err
		}
	} else if t, ok := Native(strings.ToLower(name)); ok && !quoted {
		return t, nil
	}
	if !quoted {
		name = strings.ToLower(name)
	}
	if p.udt != nil {
		if t, ok := p.udt(ks, name); ok {
			return t.unfreeze(), nil
		}
	}
	return nil, fmt.Errorf("unknown type %s.%s", cqlident.QuoteIdent(ks), cqlident.QuoteIdent(name))
}

func (t *Type) unfreeze() *Type {
	if t.Kind != KindUDT || !t.Frozen {
		return t
	}
	u := *t
	u.Frozen = false
	return &u
}

// generic parses the parameters of name<...> after the bracket.
func (p *typeParser) generic(name string, depth int) (*Type, error) {
	var elems []*Type
	for {
		e, err := p.parse(depth + 1)
		if err != nil {
			return nil, err
		}
		elems = append(elems, e)
		if name == "vector" || !p.accept(',') {
			break
		}
	}
	if name == "vector" {
		return p.vector(elems[0])
	}
	if err := p.expect('>'); err != nil {
		return nil, err
	}
	switch {
	case name == "frozen" && len(elems) == 1:
		return elems[0].Freeze(), nil
	case name == "list" && len(elems) == 1:
		return ListOf(elems[0], false), nil
	case name == "set" && len(elems) == 1:
		return SetOf(elems[0], false), nil
	case name == "map" && len(elems) == 2:
		return MapOf(elems[0], elems[1], false), nil
	case name == "tuple":
		return TupleOf(elems...), nil
	}
	return nil, fmt.Errorf("no type %s takes %d parameters", name, len(elems))
}

func (p *typeParser) vector(elem *Type) (*Type, error) {
	if err := p.expect(','); err != nil {
		return nil, err
	}
	rest := p.skipSpace()
	n := 0
	for n < len(rest) && rest[n] >= '0' && rest[n] <= '9' {
		n++
	}
	dim, err := strconv.Atoi(rest[:n])
	if err != nil || dim < 1 || dim > VectorDimMax {
		return nil, fmt.Errorf("vector dimension %q is not in 1..%d", rest[:n], VectorDimMax)
	}
	p.pos += n
	if err := p.expect('>'); err != nil {
		return nil, err
	}
	return VectorOf(elem, dim), nil
}

func (p *typeParser) ident() (name string, quoted bool, err error) {
	rest := p.skipSpace()
	if rest != "" && rest[0] == '"' {
		name, err = p.quoted('"')
		return name, true, err
	}
	n := 0
	for n < len(rest) && (rest[n] == '_' || isAlnum(rest[n])) {
		n++
	}
	if n == 0 {
		return "", false, fmt.Errorf("type name expected at offset %d", p.pos)
	}
	p.pos += n
	return rest[:n], false, nil
}

func isAlnum(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
}

// quoted reads text between quote characters, doubled ones standing for themselves.
func (p *typeParser) quoted(quote byte) (string, error) {
	q := string(quote)
	for i := p.pos + 1; i < len(p.src); i++ {
		if p.src[i] != quote {
			continue
		}
		if i+1 < len(p.src) && p.src[i+1] == quote {
			i++
			continue
		}
		s := strings.ReplaceAll(p.src[p.pos+1:i], q+q, q)
		p.pos = i + 1
		return s, nil
	}
	return "", fmt.Errorf("closing %s is missing", q)
}
