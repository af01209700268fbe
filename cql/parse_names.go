package cql

import "strings"

// ident reads a name of a column, field, role option, ...: IDENT, QUOTED_NAME or an unreserved keyword.
func (p *parser) ident() Ident {
	if !p.tok.kind.identLike() {
		p.noViable(0)
		return Ident{}
	}
	return p.takeIdent()
}

// cident is ident, or the empty quoted name.
func (p *parser) cident() Ident {
	if !p.tok.kind.cidentLike() {
		p.noViable(0)
		return Ident{}
	}
	return p.takeIdent()
}

// takeIdent makes an identifier of the current token.
func (p *parser) takeIdent() Ident {
	id := Ident{Name: p.content(p.tok), Pos: p.pos0()}
	switch p.tok.kind {
	case tQuoted:
		id.Quoted = true
	case tEmptyQuoted:
		id.Name, id.Quoted = "", true
	default:
		id.Name = strings.ToLower(id.Name)
	}
	p.advance()
	return id
}

// idents reads ident {, ident}.
func (p *parser) idents() []Ident {
	list := []Ident{p.ident()}
	for p.accept(tComma) {
		list = append(list, p.ident())
	}
	return list
}

// entity reads an identifier that a bind marker must not stand for.
func (p *parser) entity(what string) Ident {
	switch {
	case p.tok.kind.identLike():
		return p.takeIdent()
	case p.at(tQmark):
		p.refuse("Bind variables cannot be used for %s names", what)
		p.accept(tQmark)
	default:
		p.noViable(0)
	}
	return Ident{}
}

func (p *parser) keyspaceName() Ident { return p.entity("keyspace") }

// tableName reads [keyspace.]table, also of views and indexes in DESCRIBE.
func (p *parser) tableName() QualifiedName { return p.qualified("table", followsTable) }

// indexName reads [keyspace.]index.
func (p *parser) indexName() QualifiedName { return p.qualified("index", followsStatement) }

// qualified reads [keyspace.]name; the token after the first name decides, and has to be one that can follow the name
// anywhere in the language.
func (p *parser) qualified(what string, follows func(kind) bool) QualifiedName {
	var n QualifiedName
	if p.tok.kind.identLike() || p.at(tQmark) {
		k := p.la(1)
		if k != tDot && !follows(k) {
			p.noViable(1)
		}
		p.overlook(2)
		if k == tDot {
			n.Keyspace = p.keyspaceName()
			p.expect(tDot)
		}
	}
	n.Name = p.entity(what)
	return n
}

// functionName reads [keyspace.]function.
func (p *parser) functionName() QualifiedName {
	var n QualifiedName
	switch k := p.tok.kind; {
	case k == kToken:
	case k == tQmark, k.identLike() && !k.functionName(), k.functionName() && p.la(1) == tDot:
		n.Keyspace = p.keyspaceName()
		p.expect(tDot)
	case k.functionName():
		if next := p.la(1); next != tLParen && next != kWith && !followsStatement(next) {
			p.noViable(1)
		}
		p.overlook(2)
	}
	n.Name = p.localFunctionName()
	return n
}

// localFunctionName reads a function's name without a keyspace. Keywords keep their case, as in Cassandra, but native types
// do not.
func (p *parser) localFunctionName() Ident {
	k := p.tok.kind
	if !k.functionName() {
		p.noViable(0)
		return Ident{}
	}
	id := Ident{Name: p.content(p.tok), Quoted: k == tQuoted, Pos: p.pos0()}
	if k == tIdent || k == kToken || k == kCount || k.nativeType() {
		id.Name = strings.ToLower(id.Name)
	}
	p.advance()
	return id
}

// typeName reads [keyspace.]type.
func (p *parser) typeName() QualifiedName {
	var n QualifiedName
	if k := p.tok.kind; k.identLike() {
		if !k.typeName() || p.la(1) == tDot {
			n.Keyspace = p.ident()
			p.expect(tDot)
		}
	}
	if !p.tok.kind.typeName() {
		p.noViable(0)
		return n
	}
	if p.at(tIdent) && reservedTypeName(p.raw()) {
		p.refuse("Invalid (reserved) user type name %s", p.raw())
	}
	n.Name = p.takeIdent()
	return n
}

func reservedTypeName(s string) bool {
	switch s {
	case "byte", "complex", "enum", "date", "interval", "macaddr", "bitstring":
		return true
	}
	return false
}

// roleName reads the name of a role, which may also be a string.
func (p *parser) roleName() string {
	if p.at(tString) {
		name := p.content(p.tok)
		p.advance()
		return name
	}
	return p.entity("role").Name
}

// stringText reads a string literal.
func (p *parser) stringText() string {
	text := ""
	if p.at(tString) {
		text = p.content(p.tok)
	}
	p.expect(tString)
	return text
}

// followsStatement: can stand after a statement.
func followsStatement(k kind) bool { return k == tEOF || k == tSemicolon }

// followsTable: can stand after the name of a table.
func followsTable(k kind) bool {
	switch k {
	case tEOF, tSemicolon, tLParen, kWhere, kGroup, kOrder, kPer, kLimit, kAllow, kJson, kUsing, kSet, kAs, kPrimary, kAlter, kAdd,
		kDrop, kRename, kWith, kTo, kFrom, kOf, kNorecursive:
		return true
	}
	return false
}

// followsType: can stand after a type.
func followsType(k kind) bool {
	switch k {
	case tEOF, tSemicolon, tComma, tRParen, tGt, kStatic, kMasked, kPrimary, kLanguage, kFinalfunc, kInitcond:
		return true
	}
	return false
}
