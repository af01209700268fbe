package cql

func (p *parser) selectStatement() Statement {
	s := &Select{}
	p.expect(kSelect)
	if !p.at(kJson) || !p.attempt(func() { p.advance(); s.JSON = true; p.selectClause(s) }) {
		s.JSON = false
		p.selectClause(s)
	}
	p.expect(kFrom)
	s.Table = p.tableName()
	if p.accept(kWhere) {
		s.Where = p.where()
	}
	if p.accept(kGroup) {
		p.expect(kBy)
		s.GroupBy = p.selections()
	}
	if p.accept(kOrder) {
		p.expect(kBy)
		s.OrderBy = p.orderings()
	}
	if p.accept(kPer) {
		p.expect2(kPartition, kLimit)
		s.PerPartitionLimit = p.intValue()
	}
	if p.accept(kLimit) {
		s.Limit = p.intValue()
	}
	if p.accept(kAllow) {
		s.AllowFiltering = p.expect(kFiltering)
	}
	return s
}

// selectClause reads [DISTINCT] selectors. DISTINCT and JSON can be columns, which only trying shows.
func (p *parser) selectClause(s *Select) {
	if p.at(kDistinct) && p.attempt(func() { p.advance(); s.Selectors = p.selectors() }) {
		s.Distinct = true
		return
	}
	s.Selectors = p.selectors()
}

func (p *parser) orderings() []Ordering {
	var list []Ordering
	for first := true; first || p.accept(tComma); first = false {
		o := Ordering{Column: p.cident()}
		if p.accept(kAnn) {
			p.expect(kOf)
			o.ANN = p.term()
		}
		if p.accept(kDesc) {
			o.Desc = true
		} else {
			p.accept(kAsc)
		}
		list = append(list, o)
	}
	return list
}

// where reads relation {AND relation}.
func (p *parser) where() []Relation {
	list := []Relation{p.relationOrExpression()}
	for p.accept(kAnd) {
		list = append(list, p.relationOrExpression())
	}
	return list
}

func (p *parser) relationOrExpression() Relation {
	if !p.at(tExpr) {
		return p.relation()
	}
	r := Relation{Kind: CustomIndexExpr, Pos: p.pos0()}
	p.advance()
	r.Index = p.entity("index")
	p.expect(tComma)
	r.Value = p.term()
	p.expect(tRParen)
	return r
}

func (p *parser) relation() Relation {
	switch k := p.tok.kind; {
	case k == kToken:
		r := Relation{Kind: TokenRelation, Pos: p.pos0()}
		p.advance()
		r.Columns = p.columnTuple()
		r.Op = p.comparison()
		r.Value = p.term()
		return r
	case k == tLParen:
		return p.parenRelation()
	case k.cidentLike():
		return p.columnRelation()
	}
	p.noViable(0)
	return Relation{}
}

// columnRelation reads a relation that starts with a column; the next token or two tell which.
func (p *parser) columnRelation() Relation {
	switch k := p.la(1); {
	case k.comparison(), k == kLike, k == kIs, k == kContains, k == tLBracket:
	case k == kIn:
		if next := p.la(2); next != tLParen && next != tQmark && next != tColon {
			p.noViable(2)
		}
	default:
		p.noViable(1)
	}
	r := Relation{Pos: p.pos0(), Column: p.cident()}
	switch {
	case p.accept(kLike):
		r.Op = Like
		r.Value = p.term()
	case p.accept(kIs):
		p.expect(kNot)
		r.Op, r.Value = IsNotNull, &Null{Pos: p.pos0()}
		p.expect(kNull)
	case p.accept(kIn):
		r.Op = In
		r.Value, r.Values = p.inValues()
	case p.accept(kContains):
		r.Op = p.containsKey()
		r.Value = p.term()
	case p.accept(tLBracket):
		r.Kind = ElementRelation
		r.Key = p.term()
		p.expect(tRBracket)
		r.Op = p.comparison()
		r.Value = p.term()
	default:
		r.Op = p.comparison()
		r.Value = p.term()
	}
	return r
}

// containsKey reads on after CONTAINS. KEY is also a name that a term can start with, but only before ( or a dot.
func (p *parser) containsKey() Operator {
	if !p.at(kKey) {
		return Contains
	}
	next := p.la(1)
	if next == tDot {
		return Contains
	}
	if !startsTerm(next) {
		p.noViable(1)
	}
	p.advance()
	return ContainsKey
}

// inValues reads a marker, or a list of terms that may be empty.
func (p *parser) inValues() (Term, []Term) {
	if p.atMarker() {
		return p.inMarker(), nil
	}
	if !p.at(tLParen) {
		p.noViable(0)
		return nil, nil
	}
	p.advance()
	values := []Term{}
	if startsTerm(p.tok.kind) {
		values = p.terms()
	}
	p.expect(tRParen)
	return nil, values
}

// parenRelation decides at ( between a tuple of columns and a relation in parentheses.
func (p *parser) parenRelation() Relation {
	switch first := p.la(1); {
	case first.cidentLike():
		second := p.la(2)
		if second == tComma || second == tRParen {
			return p.tupleRelation()
		}
		if !second.comparison() && second != kLike && second != kIs && second != kContains && second != tLBracket && second != kIn {
			p.noViable(2)
		}
	case first != tLParen && first != kToken:
		p.noViable(1)
	}
	p.enter()
	p.advance()
	r := p.relation()
	p.leave()
	p.expect(tRParen)
	return r
}

func (p *parser) tupleRelation() Relation {
	r := Relation{Kind: TupleRelation, Pos: p.pos0(), Columns: p.columnTuple()}
	if p.accept(kIn) {
		r.Op = In
		p.tupleInValues(&r)
		return r
	}
	if !p.tok.kind.comparison() {
		p.noViable(0)
		return r
	}
	if k := p.la(1); k != tLParen && k != tQmark && k != tColon {
		p.noViable(1)
	}
	r.Op = p.comparison()
	if p.atMarker() {
		r.Value = p.marker()
	} else {
		r.Value = p.tupleLit()
	}
	return r
}

// tupleInValues reads (), a marker, (tuple, ...) or (marker, ...).
func (p *parser) tupleInValues(r *Relation) {
	if p.atMarker() {
		r.Value = p.inMarker()
		return
	}
	if !p.at(tLParen) {
		p.noViable(0)
		return
	}
	next := p.la(1)
	if next != tRParen && next != tLParen && next != tQmark && next != tColon {
		p.noViable(1)
	}
	p.advance()
	r.Values = []Term{}
	for first := true; next != tRParen && (first || p.accept(tComma)); first = false {
		if next == tLParen {
			r.Values = append(r.Values, p.tupleLit())
		} else {
			r.Values = append(r.Values, p.marker())
		}
	}
	p.expect(tRParen)
}

// columnTuple reads (column, ...).
func (p *parser) columnTuple() []Ident {
	p.expect(tLParen)
	list := []Ident{p.cident()}
	for p.accept(tComma) {
		list = append(list, p.cident())
	}
	p.expect(tRParen)
	return list
}

// comparison reads one of = < <= > >= !=.
func (p *parser) comparison() Operator {
	op := Eq
	switch p.tok.kind {
	case tEq:
	case tLt:
		op = Lt
	case tLte:
		op = Lte
	case tGt:
		op = Gt
	case tGte:
		op = Gte
	case tNeq:
		op = Neq
	default:
		p.noViable(0)
		return op
	}
	p.advance()
	return op
}

func (k kind) comparison() bool { return k >= tEq && k <= tNeq }
