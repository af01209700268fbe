package cql

// term reads a value as it stands in INSERT, UPDATE, WHERE and IF: a sum of products of simple terms.
func (p *parser) term() Term {
	p.enter()
	sum := p.binary(p.product, p.moreSum)
	p.leave()
	return sum
}

// binary reads operand {operator operand}, left-associative, while more says that it goes on.
func (p *parser) binary(operand func() Term, more func() bool) Term {
	left := operand()
	for n := 0; more(); n++ {
		if n >= nestingMax {
			p.depth = nestingMax
			p.enter()
			break
		}
		op := &BinaryOp{Op: p.lex.text[p.tok.start], Left: left, Pos: p.pos0()}
		p.advance()
		op.Right = operand()
		left = op
	}
	return left
}

// moreSum decides whether a sum goes on. A plus sign followed by a column is not part of it, because of SET a = [1] + a.
func (p *parser) moreSum() bool {
	switch k := p.tok.kind; {
	case k == tMinus:
		return true
	case k == tPlus && p.la(1).cidentLike():
		switch p.la(2) {
		case tLParen, tDot:
			return true
		case tComma, kWhere:
		default:
			p.noViable(2)
		}
	case k == tPlus:
		if next := p.la(1); !startsTerm(next) && next != kToken {
			p.noViable(1)
		}
		return p.err == nil
	case !followsTerm(k):
		p.noViable(0)
	default:
		p.overlook(1)
	}
	return false
}

func (p *parser) product() Term { return p.binary(p.signed, p.moreProduct) }

func (p *parser) moreProduct() bool { return p.at(tStar) || p.at(tSlash) || p.at(tPercent) }

func (p *parser) signed() Term {
	if !p.at(tMinus) {
		return p.simpleTerm()
	}
	n := &Negate{Pos: p.pos0()}
	p.advance()
	n.Arg = p.simpleTerm()
	return n
}

func (p *parser) simpleTerm() Term {
	switch k := p.tok.kind; k {
	case tString, tInteger, tFloat, tBoolean, tDuration, tUUID, tHex, kPositiveNan, kNegativeNan, kPositiveInfinity,
		kNegativeInfinity:
		return p.constant()
	case tQmark, tColon, kNull:
		return p.markerOrNull()
	case tLBracket:
		return p.listLit()
	case tLBrace:
		return p.braces()
	case tLParen:
		return p.parens()
	case kCast:
		if p.la(1) == tLParen {
			return p.castTerm()
		}
	}
	return p.callTerm()
}

// constant reads a constant, as a Literal.
func (p *parser) constant() *Literal {
	t := &Literal{Pos: p.pos0(), Text: p.content(p.tok)}
	switch p.tok.kind {
	case tString:
		t.Class = StringLiteral
	case tInteger:
		t.Class = IntegerLiteral
	case tFloat:
		t.Class = FloatLiteral
	case tBoolean:
		t.Class = BooleanLiteral
	case tDuration:
		t.Class = DurationLiteral
	case tUUID:
		t.Class = UUIDLiteral
	case tHex:
		t.Class = HexLiteral
	case kPositiveNan, kNegativeNan:
		t.Class, t.Text = FloatLiteral, "NaN"
	case kPositiveInfinity:
		t.Class, t.Text = FloatLiteral, "Infinity"
	case kNegativeInfinity:
		t.Class, t.Text = FloatLiteral, "-Infinity"
	default:
		p.noViable(0)
		return t
	}
	p.advance()
	return t
}

func (k kind) constant() bool {
	return k >= tString && k <= tHex || k == kPositiveNan || k == kNegativeNan || k == kPositiveInfinity || k == kNegativeInfinity
}

// markerOrNull reads ?, :name or NULL.
func (p *parser) markerOrNull() Term {
	if p.at(kNull) {
		t := &Null{Pos: p.pos0()}
		p.advance()
		return t
	}
	if p.at(tQmark) {
		switch next := p.la(1); {
		case next == tDot:
			return p.callTerm()
		case !followsFactor(next):
			p.noViable(1)
		default:
			p.overlook(2)
		}
	}
	return p.marker()
}

// marker reads ? or :name and gives it the next slot.
func (p *parser) marker() *Marker {
	m := &Marker{Index: len(p.markers), Pos: p.pos0()}
	if p.accept(tColon) {
		m.Name = p.ident().Name
	} else if !p.accept(tQmark) {
		p.noViable(0)
		return m
	}
	p.markers = append(p.markers, *m)
	return m
}

// atMarker: a bind marker starts here.
func (p *parser) atMarker() bool { return p.at(tQmark) || p.at(tColon) }

// inMarker reads a marker that stands for the whole list of an IN.
func (p *parser) inMarker() *Marker {
	m := p.marker()
	m.In = true
	if n := len(p.markers); n > 0 {
		p.markers[n-1].In = true
	}
	return m
}

// intValue reads an integer or a marker.
func (p *parser) intValue() Term {
	switch {
	case p.at(tInteger):
		return p.constant()
	case p.atMarker():
		return p.marker()
	}
	p.noViable(0)
	return nil
}

// terms reads term {, term}.
func (p *parser) terms() []Term {
	list := []Term{p.term()}
	for p.accept(tComma) {
		list = append(list, p.term())
	}
	return list
}

func (p *parser) listLit() Term {
	t := &ListLit{Pos: p.pos0()}
	p.advance()
	if startsTerm(p.tok.kind) {
		t.Elems = p.terms()
	}
	p.expect(tRBracket)
	return t
}

// braces reads a set, a map or a user type.
func (p *parser) braces() Term {
	pos := p.pos0()
	first, second := p.la(1), tEOF
	if first.identLike() {
		second = p.la(2)
	}
	switch {
	case first == tRBrace:
		p.advance()
		p.advance()
		return &SetLit{Pos: pos}
	case first.identLike() && second == tColon:
		return p.udtLit(pos)
	case first.identLike() && second != tDot && (second != tLParen || !first.functionName() && first != kCast):
		p.noViable(2)
		return nil
	case !startsTerm(first):
		p.noViable(1)
		return nil
	}
	p.advance()
	key := p.term()
	switch {
	case p.at(tColon):
		return p.mapLit(pos, key)
	case !p.at(tComma) && !p.at(tRBrace):
		p.noViable(0)
		return nil
	}
	t := &SetLit{Elems: []Term{key}, Pos: pos}
	for p.accept(tComma) {
		t.Elems = append(t.Elems, p.term())
	}
	p.expect(tRBrace)
	return t
}

// mapLit reads on after the first key.
func (p *parser) mapLit(pos Pos, key Term) Term {
	t := &MapLit{Pos: pos}
	for {
		p.expect(tColon)
		t.Entries = append(t.Entries, MapEntry{key, p.term()})
		if !p.accept(tComma) {
			break
		}
		key = p.term()
	}
	p.expect(tRBrace)
	return t
}

func (p *parser) udtLit(pos Pos) Term {
	t := &UDTLit{Pos: pos}
	for first := true; first || p.at(tComma); first = false {
		p.advance()
		name := p.ident()
		p.expect(tColon)
		t.Fields = append(t.Fields, UDTField{name, p.term()})
	}
	p.expect(tRBrace)
	return t
}

// parens reads a tuple or a type hint.
func (p *parser) parens() Term {
	hint, end := p.hintAhead()
	switch {
	case end > 0:
		p.noViable(end)
		return nil
	case hint:
		t := &TypeHint{Pos: p.pos0()}
		p.advance()
		t.Type = p.typeRef()
		p.expect(tRParen)
		p.enter()
		t.Arg = p.simpleTerm()
		p.leave()
		return t
	}
	return p.tupleLit()
}

func (p *parser) tupleLit() *TupleLit {
	t := &TupleLit{Pos: p.pos0()}
	p.expect(tLParen)
	t.Elems = p.terms()
	p.expect(tRParen)
	return t
}

// hintAhead decides at ( whether a type hint begins: (type) term. bad is the token, counted from here, that fits neither
// a hint nor a tuple, 0 if all is well.
func (p *parser) hintAhead() (hint bool, bad int) {
	first := p.la(1)
	if first == kSet {
		return true, 0
	}
	if !startsTerm(first) {
		return false, 1
	}
	second := p.la(2)
	switch {
	case first == tString && second == tRParen:
		return p.stringHintAhead()
	case first == tString && second != tComma && !second.operator():
		return false, 2
	case first == kCast && second == tLParen, first == kToken:
		return false, 0
	case second == tLt && first.parameterizable():
		return true, 0
	case !first.identLike():
		return false, 0
	case second == tRParen && (first.nativeType() || first.typeName()):
		return true, 0
	case second == tLParen && first.functionName():
		return false, 0
	case second != tDot:
		return false, 2
	}
	switch third, fourth := p.la(3), p.la(4); {
	case !third.functionName() && !third.typeName():
		return false, 3
	case fourth == tRParen && third.typeName():
		return true, 0
	case fourth == tLParen && third.functionName():
		return false, 0
	}
	return false, 4
}

// stringHintAhead is hintAhead at ('text'): a hint if a simple term follows. A colon can begin a marker or follow the key of
// a map, and names can be keywords of what follows.
func (p *parser) stringHintAhead() (hint bool, bad int) {
	third := p.la(3)
	switch {
	case third == tColon:
		next := p.la(5)
		return p.la(4).identLike() && next != tLParen && next != tDot, 0
	case third.identLike():
		if next := p.la(4); next == tLParen || next == tDot {
			return true, 0
		}
	case third != tMinus && startsTerm(third):
		return true, 0
	}
	if !followsFactor(third) {
		return false, 3
	}
	return false, 0
}

// operator: is an arithmetic operator.
func (k kind) operator() bool {
	return k == tPlus || k == tMinus || k == tStar || k == tSlash || k == tPercent
}

// castTerm reads CAST(term AS type).
func (p *parser) castTerm() Term {
	t := &Cast{Pos: p.pos0()}
	p.advance()
	p.expect(tLParen)
	p.enter()
	t.Arg = p.simpleTerm()
	p.leave()
	p.expect(kAs)
	t.Type = p.nativeType()
	p.expect(tRParen)
	return t
}

// callTerm reads a function call, the only term that starts with a name.
func (p *parser) callTerm() Term {
	t := &FuncCall{Pos: p.pos0()}
	if bad := p.callAhead(); bad >= 0 {
		p.noViable(bad)
		return nil
	}
	t.Name = p.functionName()
	p.expect(tLParen)
	if !p.at(tRParen) {
		t.Args = p.terms()
	}
	p.expect(tRParen)
	return t
}

// callAhead returns the token, counted from here, that does not fit [ks.]name( and what may follow, -1 if all is well.
func (p *parser) callAhead() int {
	n := 0
	first := p.tok.kind
	if !first.functionName() && !first.identLike() && first != tQmark {
		return 0
	}
	if first != kToken && p.la(1) == tDot {
		n = 2
		if !p.la(n).functionName() {
			return n
		}
	} else if !first.functionName() {
		return 1
	}
	if p.la(n+1) != tLParen {
		return n + 1
	}
	if k := p.la(n + 2); k != tRParen && !startsTerm(k) {
		return n + 2
	}
	return -1
}

// startsTerm: a term can begin with it.
func startsTerm(k kind) bool {
	switch k {
	case tMinus, tQmark, tColon, kNull, tLBracket, tLBrace, tLParen, kToken:
		return true
	}
	return k.constant() || k.identLike()
}

// followsFactor: can stand after a part of a product.
func followsFactor(k kind) bool {
	return followsTerm(k) || k == tStar || k == tSlash || k == tPercent || k == kAs
}

// followsTerm: can stand after a term somewhere in the language.
func followsTerm(k kind) bool {
	switch k {
	case tEOF, tSemicolon, tComma, tRParen, tRBracket, tRBrace, tColon, tRange, tPlus, tMinus, kAnd, kIf, kWhere, kGroup, kOrder, kPer,
		kLimit, kAllow, kAsc, kDesc, kPrimary, kInsert, kUpdate, kDelete, kApply:
		return true
	}
	return false
}
