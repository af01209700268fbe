package cql

import "strconv"

// typeRef reads a type.
func (p *parser) typeRef() *TypeRef {
	p.enter()
	defer p.leave()
	t := &TypeRef{Pos: p.pos0()}
	switch k := p.tok.kind; {
	case k.nativeType() && p.la(1) != tDot:
		if !followsType(p.la(1)) {
			p.noViable(1)
		}
		p.overlook(2)
		t.Name = nativeTypeName(k)
		p.advance()
	case k == kSet:
		p.elementTypes(t, TypeSet, 1)
	case k == tString:
		t.Kind = TypeCustom
		t.Class = p.stringText()
	case !k.identLike():
		p.noViable(0)
	case p.la(1) != tLt || !k.parameterizable():
		if next := p.la(1); k.parameterizable() && next != tDot && !followsType(next) {
			p.noViable(1)
		}
		t.Kind = TypeUser
		t.UserType = p.typeName()
	default:
		p.parameterized(t, k)
	}
	return t
}

// parameterized reads a type that starts with an unreserved word and <.
func (p *parser) parameterized(t *TypeRef, k kind) {
	switch k {
	case kMap:
		p.elementTypes(t, TypeMap, 2)
	case kList:
		p.elementTypes(t, TypeList, 1)
	case kTuple:
		p.elementTypes(t, TypeTuple, 0)
	case kVector:
		p.vectorType(t)
	default:
		p.frozenType(t)
	}
}

// parameterizable: can stand before < in a type, and is otherwise a name.
func (k kind) parameterizable() bool {
	return k == kMap || k == kList || k == kTuple || k == kVector || k == kFrozen
}

// elementTypes reads name<type, ...> with n types, any number if n is 0.
func (p *parser) elementTypes(t *TypeRef, kind TypeKind, n int) {
	t.Kind = kind
	p.advance()
	p.expect(tLt)
	t.Elems = append(t.Elems, p.typeRef())
	for i := 1; n == 0 && p.at(tComma) || i < n; i++ {
		p.expect(tComma)
		t.Elems = append(t.Elems, p.typeRef())
		if p.err != nil {
			return
		}
	}
	p.expect(tGt)
}

func (p *parser) vectorType(t *TypeRef) {
	t.Kind = TypeVector
	p.advance()
	p.expect(tLt)
	t.Elems = []*TypeRef{p.typeRef()}
	p.expect(tComma)
	if p.at(tInteger) {
		dim, err := strconv.ParseInt(p.raw(), 10, 32)
		if err != nil {
			p.refuse("Failed parsing statement: [%s] reason: NumberFormatException For input string: %q", p.lex.text, p.raw())
		}
		t.Dim = int(dim)
	}
	p.expect(tInteger)
	p.expect(tGt)
}

// frozenType reads frozen<type> into t.
func (p *parser) frozenType(t *TypeRef) {
	p.advance()
	p.expect(tLt)
	inner := p.typeRef()
	if inner.Kind == TypeNative && p.err == nil {
		p.refuse("frozen<> is only allowed on collections, tuples, and user-defined types (got %s)", inner.Name)
	}
	pos := t.Pos
	*t = *inner
	t.Frozen, t.Pos = true, pos
	p.expect(tGt)
}

// nativeType reads the native type of a CAST.
func (p *parser) nativeType() *TypeRef {
	t := &TypeRef{Pos: p.pos0()}
	if !p.tok.kind.nativeType() {
		p.noViable(0)
		return t
	}
	t.Name = nativeTypeName(p.tok.kind)
	p.advance()
	return t
}

// nativeTypeName returns the name in lower case.
func nativeTypeName(k kind) string {
	switch k {
	case kAscii:
		return "ascii"
	case kBigint:
		return "bigint"
	case kBlob:
		return "blob"
	case kBoolean:
		return "boolean"
	case kCounter:
		return "counter"
	case kDecimal:
		return "decimal"
	case kDouble:
		return "double"
	case kDuration:
		return "duration"
	case kFloat:
		return "float"
	case kInet:
		return "inet"
	case kInt:
		return "int"
	case kSmallint:
		return "smallint"
	case kText:
		return "text"
	case kTimestamp:
		return "timestamp"
	case kTinyint:
		return "tinyint"
	case kUuid:
		return "uuid"
	case kVarchar:
		return "varchar"
	case kVarint:
		return "varint"
	case kTimeuuid:
		return "timeuuid"
	case kDate:
		return "date"
	default:
		return "time"
	}
}
