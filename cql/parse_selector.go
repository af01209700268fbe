package cql

// selectors reads the list of a SELECT clause; nil for *.
func (p *parser) selectors() []Selector {
	if p.accept(tStar) {
		return nil
	}
	list := []Selector{p.selector()}
	for p.accept(tComma) {
		list = append(list, p.selector())
	}
	return list
}

func (p *parser) selector() Selector {
	s := Selector{Expr: p.selection()}
	if p.accept(kAs) {
		s.Alias = p.ident()
	}
	return s
}

// selection reads an expression over columns: a sum of products of groups.
func (p *parser) selection() Term {
	p.enter()
	sum := p.binary(p.selectionProduct, func() bool { return p.at(tPlus) || p.at(tMinus) })
	p.leave()
	return sum
}

func (p *parser) selectionProduct() Term { return p.binary(p.selectionGroup, p.moreProduct) }

// selections reads selection {, selection}.
func (p *parser) selections() []Term {
	list := []Term{p.selection()}
	for p.accept(tComma) {
		list = append(list, p.selection())
	}
	return list
}

// selectionGroup reads a group with the fields, elements and slices selected of it. Modifiers that are wrong are left for
// the caller to refuse, as Cassandra's parser goes back to before the first one then.
func (p *parser) selectionGroup() Term {
	if p.tok.kind.startsSelection() {
		p.overlook(2)
	}
	if p.at(tMinus) {
		n := &Negate{Pos: p.pos0()}
		p.enter()
		p.advance()
		n.Arg = p.selectionGroup()
		p.leave()
		return n
	}
	group := p.selectionPrimary()
	if !p.at(tDot) && !p.at(tLBracket) {
		return group
	}
	whole := group
	if p.attempt(func() { whole = p.modifiers(group) }) {
		return whole
	}
	return group
}

// modifiers reads any number of .field, [element] and [from..to].
func (p *parser) modifiers(t Term) Term {
	for n := 0; ; n++ {
		if n > nestingMax {
			p.depth = nestingMax
			p.enter()
		}
		switch {
		case p.accept(tDot):
			t = &FieldRef{Receiver: t, Field: p.ident()}
		case p.accept(tLBracket):
			t = p.subSelection(t)
		default:
			if !followsSelection(p.tok.kind) {
				p.noViable(0)
			}
			return t
		}
	}
}

// subSelection reads element] or from..to] or from..] or ..to].
func (p *parser) subSelection(t Term) Term {
	if p.accept(tRange) {
		s := &SliceRef{Receiver: t, To: p.term()}
		p.expect(tRBracket)
		return s
	}
	key := p.term()
	if !p.accept(tRange) {
		p.expect(tRBracket)
		return &ElementRef{Receiver: t, Key: key}
	}
	s := &SliceRef{Receiver: t, From: key}
	if !p.at(tRBracket) {
		s.To = p.term()
	}
	p.expect(tRBracket)
	return s
}

func (p *parser) selectionPrimary() Term {
	switch p.tok.kind {
	case tLParen:
		return p.selectionParens()
	case tLBracket:
		t := &ListLit{Pos: p.pos0()}
		p.advance()
		if p.tok.kind.startsSelection() || p.at(tMinus) {
			t.Elems = p.selections()
		}
		p.expect(tRBracket)
		return t
	case tLBrace:
		return p.selectionBraces()
	}
	return p.simpleSelection()
}

// selectionParens reads a type hint, a tuple or an expression in parentheses.
func (p *parser) selectionParens() Term {
	var hint *TypeHint
	if p.la(1).typeStart() && p.attempt(func() { hint = p.selectionHint() }) {
		return hint
	}
	t := &TupleLit{Pos: p.pos0()}
	p.advance()
	t.Elems = p.selections()
	p.expect(tRParen)
	return t
}

func (p *parser) selectionHint() *TypeHint {
	t := &TypeHint{Pos: p.pos0()}
	p.advance()
	t.Type = p.typeRef()
	p.expect(tRParen)
	p.enter()
	t.Arg = p.selectionPrimary()
	p.leave()
	return t
}

// startsSelection: a selection other than a negation can begin with it.
func (k kind) startsSelection() bool {
	switch k {
	case tQmark, tColon, kNull, kToken, tLParen, tLBracket, tLBrace:
		return true
	}
	return k.constant() || k.identLike()
}

func (k kind) typeStart() bool { return k.identLike() || k == kSet || k == tString }

// selectionBraces reads a set, or a map that can be a user type.
func (p *parser) selectionBraces() Term {
	pos := p.pos0()
	if k := p.la(1); k != tRBrace && k != tMinus && !k.startsSelection() {
		p.noViable(1)
		return nil
	}
	p.advance()
	if p.accept(tRBrace) {
		return &SetLit{Pos: pos}
	}
	key := p.selection()
	if p.at(tColon) {
		t := &MapLit{Pos: pos}
		for {
			p.expect(tColon)
			t.Entries = append(t.Entries, MapEntry{key, p.selection()})
			if !p.accept(tComma) {
				break
			}
			key = p.selection()
		}
		p.expect(tRBrace)
		return t
	}
	if !p.at(tComma) && !p.at(tRBrace) {
		p.noViable(0)
	}
	t := &SetLit{Elems: []Term{key}, Pos: pos}
	for p.accept(tComma) {
		t.Elems = append(t.Elems, p.selection())
	}
	p.expect(tRBrace)
	return t
}

// simpleSelection reads a column, a constant, a marker or a function.
func (p *parser) simpleSelection() Term {
	k := p.tok.kind
	switch {
	case k.constant():
		return p.constant()
	case k == kNull, k == tColon:
		return p.markerOrNull()
	case k == kToken:
		return p.selectionCall()
	case k != tQmark && !k.identLike():
		p.noViable(0)
		return nil
	}
	next := p.la(1)
	if next == tLParen || next == tDot || followsSelection(next) {
		p.overlook(2)
	}
	switch {
	case k == tQmark && next == tDot:
		return p.selectionCall()
	case k != tQmark && next == tLParen:
		return p.selectionFunction(k)
	case k != tQmark && next == tDot:
		return p.fieldOrCall()
	case !followsSelection(next):
		p.noViable(1)
		return nil
	case k == tQmark:
		return p.marker()
	}
	return &ColumnRef{Name: p.takeIdent()}
}

// fieldOrCall decides between column.field and ks.function(...).
func (p *parser) fieldOrCall() Term {
	switch third, fourth := p.la(2), p.la(3); {
	case third == kToken, third.functionName() && fourth == tLParen:
		return p.selectionCall()
	case !third.identLike():
		p.noViable(2)
		return nil
	case fourth != tDot && !followsSelection(fourth):
		p.noViable(3)
		return nil
	}
	p.overlook(4)
	return &ColumnRef{Name: p.takeIdent()}
}

// selectionFunction reads name(...), with the syntax of its own that some functions have.
func (p *parser) selectionFunction(k kind) Term {
	switch k {
	case kCount:
		if next := p.la(2); next != tStar && next != tRParen && next != tMinus && !next.startsSelection() {
			p.noViable(2)
			return nil
		}
		if p.la(2) == tStar {
			t := &CountRows{Pos: p.pos0()}
			p.advance()
			p.advance()
			p.advance()
			p.expect(tRParen)
			return t
		}
	case kWritetime:
		return p.metaCall(Writetime)
	case kMaxwritetime:
		return p.metaCall(MaxWritetime)
	case kTtl:
		return p.metaCall(TTL)
	case kCast:
		t := &Cast{Pos: p.pos0()}
		p.advance()
		p.advance()
		t.Arg = p.selection()
		p.expect(kAs)
		t.Type = p.nativeType()
		p.expect(tRParen)
		return t
	}
	if !k.functionName() {
		p.noViable(1)
		return nil
	}
	return p.selectionCall()
}

// metaCall reads writetime(column modifiers) and its like.
func (p *parser) metaCall(kind MetaKind) Term {
	t := &MetaCall{Kind: kind, Pos: p.pos0()}
	p.advance()
	p.advance()
	t.Arg = p.modifiers(&ColumnRef{Name: p.ident()})
	p.expect(tRParen)
	return t
}

func (p *parser) selectionCall() Term {
	t := &FuncCall{Pos: p.pos0(), Name: p.functionName()}
	p.expect(tLParen)
	if p.tok.kind.startsSelection() || p.at(tMinus) {
		t.Args = p.selections()
	}
	p.expect(tRParen)
	return t
}

// followsSelection: can stand after a column in a SELECT or GROUP BY clause.
func followsSelection(k kind) bool {
	switch k {
	case tEOF, tSemicolon, tDot, tLBracket, tPlus, tMinus, tStar, tSlash, tPercent, tComma, tRParen, tRBracket, tRBrace, tColon, kFrom,
		kAs, kOrder, kPer, kLimit, kAllow:
		return true
	}
	return false
}
