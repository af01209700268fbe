package cql

func (p *parser) insert() Statement {
	s := &Insert{}
	p.expect2(kInsert, kInto)
	s.Table = p.tableName()
	switch {
	case p.at(tLParen):
		s.Columns = p.columnTuple()
		p.expect(kValues)
		p.expect(tLParen)
		s.Values = p.terms()
		p.expect(tRParen)
	case p.accept(kJson):
		p.insertJSON(s)
	default:
		p.noViable(0)
	}
	s.IfNotExists = p.ifNotExists()
	p.using(&s.Using)
	return s
}

// insertJSON reads on after JSON.
func (p *parser) insertJSON(s *Insert) {
	switch {
	case p.at(tString):
		s.JSON = p.constant()
	case p.atMarker():
		m := p.marker()
		m.JSON = true
		if n := len(p.markers); n > 0 {
			p.markers[n-1].JSON = true
		}
		s.JSON = m
	default:
		p.noViable(0)
	}
	if p.accept(kDefault) {
		switch {
		case p.accept(kNull):
		case p.accept(kUnset):
			s.DefaultUnset = true
		default:
			p.noViable(0)
		}
	}
}

// ifNotExists reads an optional IF NOT EXISTS.
func (p *parser) ifNotExists() bool {
	return p.accept(kIf) && p.expect2(kNot, kExists)
}

// ifExists reads an optional IF EXISTS.
func (p *parser) ifExists() bool {
	return p.accept(kIf) && p.expect(kExists)
}

// using reads an optional USING TIMESTAMP n AND TTL n; what comes last wins.
func (p *parser) using(u *Using) {
	if !p.accept(kUsing) {
		return
	}
	for first := true; first || p.accept(kAnd); first = false {
		switch {
		case p.accept(kTimestamp):
			u.Timestamp = p.intValue()
		case p.accept(kTtl):
			u.TTL = p.intValue()
		default:
			p.noViable(0)
		}
	}
}

func (p *parser) update() Statement {
	s := &Update{}
	p.expect(kUpdate)
	s.Table = p.tableName()
	p.using(&s.Using)
	p.expect(kSet)
	var seen assigned
	for first := true; first || p.accept(tComma); first = false {
		a := p.assignment()
		seen.check(p, &a)
		s.Set = append(s.Set, a)
	}
	p.expect(kWhere)
	s.Where = p.where()
	s.IfExists, s.Conditions = p.conditions()
	return s
}

// assignment reads one item of SET.
func (p *parser) assignment() Assignment {
	a := Assignment{Column: p.cident()}
	switch {
	case p.accept(tEq):
		p.assignedValue(&a)
	case p.accept(tPlusEq):
		a.Kind = AssignAdd
		a.Value = p.term()
	case p.accept(tMinusEq):
		a.Kind = AssignSubtract
		a.Value = p.term()
	case p.accept(tLBracket):
		a.Kind = AssignElement
		a.Key = p.term()
		p.expect2(tRBracket, tEq)
		a.Value = p.term()
	case p.accept(tDot):
		a.Kind = AssignField
		a.Field = p.ident()
		p.expect(tEq)
		a.Value = p.term()
	default:
		p.noViable(0)
	}
	return a
}

// assigned is what the assignments of an UPDATE have set so far.
type assigned struct{ columns, values, fields nameSet }

// check refuses a second assignment of a column beside one of its whole value, and a second one of the same field.
func (s *assigned) check(p *parser, a *Assignment) {
	name := a.Column.Name
	conflict := s.values.has(name)
	fresh := s.columns.add(name)
	switch a.Kind {
	case AssignValue:
		conflict = !fresh
		s.values.add(name)
	case AssignField:
		conflict = conflict || !s.fields.add(name+"."+a.Field.Name)
	}
	if conflict {
		p.refuse("Multiple incompatible setting of column %s", name)
	}
}

// assignedValue reads what follows "column =": a term, term + column, column + term, column - term, or column -1 (which is a
// column and a negative integer).
func (p *parser) assignedValue(a *Assignment) {
	if p.tok.kind.cidentLike() {
		switch k := p.la(1); {
		case k == tLParen && p.tok.kind != tEmptyQuoted, k == tDot && p.tok.kind != tEmptyQuoted:
		case k == tPlus || k == tMinus:
			p.assignedSum(a, k)
			return
		case k == tInteger:
			p.assignedInteger(a)
			return
		default:
			p.noViable(1)
			return
		}
	}
	a.Value = p.term()
	if p.accept(tPlus) {
		a.Kind = AssignPrepend
		if c := p.cident(); c.Name != a.Column.Name {
			p.refuse("Only expressions of the form X = <value> + X are supported.")
		}
	}
}

func (p *parser) assignedSum(a *Assignment, sign kind) {
	c := p.cident()
	a.Kind = AssignAdd
	text := "+"
	if sign == tMinus {
		a.Kind = AssignSubtract
		text = "-"
	}
	p.advance()
	a.Value = p.term()
	if c.Name != a.Column.Name {
		p.refuse("Only expressions of the form X = X %s<value> are supported.", text)
	}
}

func (p *parser) assignedInteger(a *Assignment) {
	c := p.cident()
	sign := byte('+')
	if p.raw()[0] == '-' {
		sign = '-'
	}
	a.Kind = AssignAdd
	a.Value = p.constant()
	if c.Name != a.Column.Name {
		p.refuse("Only expressions of the form X = X %c <value> are supported.", sign)
	}
}

// conditions reads an optional IF EXISTS or IF condition {AND condition}.
func (p *parser) conditions() (ifExists bool, list []Condition) {
	if !p.accept(kIf) {
		return false, nil
	}
	if p.at(kExists) {
		switch k := p.la(1); {
		case conditionEnd(k):
			p.advance()
			return true, nil
		case !k.comparison() && k != tLBracket && k != tDot && k != kIn && k != kContains:
			p.noViable(1)
		}
	}
	list = append(list, p.condition())
	for p.accept(kAnd) {
		list = append(list, p.condition())
	}
	return false, list
}

// conditionEnd: can stand after IF EXISTS of a modification. EXISTS could also be a column.
func conditionEnd(k kind) bool {
	switch k {
	case tEOF, tSemicolon, kInsert, kUpdate, kDelete, kApply:
		return true
	}
	return false
}

func (p *parser) condition() Condition {
	c := Condition{Column: p.cident()}
	switch {
	case p.accept(tLBracket):
		c.Key = p.term()
		p.expect(tRBracket)
	case p.accept(tDot):
		c.Field = p.ident()
	case p.accept(kContains):
		c.Op = p.containsKey()
		c.Value = p.term()
		return c
	}
	if p.accept(kIn) {
		c.Op = In
		c.Value, c.Values = p.inValues()
		return c
	}
	c.Op = p.comparison()
	c.Value = p.term()
	return c
}

func (p *parser) delete() Statement {
	s := &Delete{}
	p.expect(kDelete)
	if p.tok.kind.cidentLike() {
		s.Columns = append(s.Columns, p.deletion())
		for p.accept(tComma) {
			s.Columns = append(s.Columns, p.deletion())
		}
	}
	p.expect(kFrom)
	s.Table = p.tableName()
	if p.accept(kUsing) {
		p.expect(kTimestamp)
		s.Using.Timestamp = p.intValue()
	}
	p.expect(kWhere)
	s.Where = p.where()
	s.IfExists, s.Conditions = p.conditions()
	return s
}

func (p *parser) deletion() Deletion {
	if p.tok.kind.cidentLike() {
		if k := p.la(1); k != tLBracket && k != tDot && k != tComma && k != kFrom {
			p.noViable(1)
		}
	}
	d := Deletion{Column: p.cident()}
	switch {
	case p.accept(tLBracket):
		d.Key = p.term()
		p.expect(tRBracket)
	case p.accept(tDot):
		d.Field = p.ident()
	}
	return d
}

func (p *parser) batch() Statement {
	s := &Batch{}
	p.expect(kBegin)
	switch {
	case p.accept(kUnlogged):
		s.Type = UnloggedBatch
	case p.accept(kCounter):
		s.Type = CounterBatch
	}
	p.expect(kBatch)
	p.using(&s.Using)
	for {
		switch p.tok.kind {
		case kInsert:
			s.Statements = append(s.Statements, p.insert())
		case kUpdate:
			s.Statements = append(s.Statements, p.update())
		case kDelete:
			s.Statements = append(s.Statements, p.delete())
		default:
			p.expect2(kApply, kBatch)
			return s
		}
		p.accept(tSemicolon)
	}
}
