package cql

import "strings"

func (p *parser) createKeyspace() Statement {
	s := &CreateKeyspace{}
	p.expect2(kCreate, kKeyspace)
	s.IfNotExists = p.ifNotExists()
	s.Name = p.keyspaceName()
	p.expect(kWith)
	s.Properties = p.properties()
	return s
}

func (p *parser) alterKeyspace() Statement {
	s := &AlterKeyspace{}
	p.expect2(kAlter, kKeyspace)
	s.IfExists = p.ifExists()
	s.Name = p.keyspaceName()
	p.expect(kWith)
	s.Properties = p.properties()
	return s
}

func (p *parser) createType() Statement {
	s := &CreateType{}
	p.expect2(kCreate, kType)
	s.IfNotExists = p.ifNotExists()
	s.Name = p.typeName()
	p.expect(tLParen)
	s.Fields = append(s.Fields, p.field())
	for p.accept(tComma) {
		if p.tok.kind.identLike() {
			s.Fields = append(s.Fields, p.field())
		}
	}
	p.expect(tRParen)
	return s
}

// field reads name type.
func (p *parser) field() FieldDef { return FieldDef{Name: p.ident(), Type: p.typeRef()} }

func (p *parser) alterType() Statement {
	s := &AlterType{}
	p.expect2(kAlter, kType)
	s.IfExists = p.ifExists()
	s.Name = p.typeName()
	switch {
	case p.accept(kAlter):
		s.Kind = AlterFieldType
		s.Field.Name = p.ident()
		p.expect(kType)
		s.Field.Type = p.typeRef()
	case p.accept(kAdd):
		s.Kind = AlterAddField
		s.IfFieldAbsent = p.ifNotExists()
		s.Field = p.field()
	case p.accept(kRename):
		s.Kind = AlterRenameFields
		s.IfFieldExists = p.ifExists()
		s.Renames = p.renames()
	default:
		p.noViable(0)
	}
	return s
}

// renames reads a TO b {AND c TO d}.
func (p *parser) renames() []Rename {
	var list []Rename
	for first := true; first || p.accept(kAnd); first = false {
		r := Rename{From: p.ident()}
		p.expect(kTo)
		r.To = p.ident()
		list = append(list, r)
	}
	return list
}

func (p *parser) createIndex() Statement {
	s := &CreateIndex{}
	p.expect(kCreate)
	s.Custom = p.accept(kCustom)
	p.expect(kIndex)
	s.IfNotExists = p.ifNotExists()
	if p.tok.kind.identLike() || p.at(tQmark) {
		s.Name = p.entity("index")
	}
	p.expect(kOn)
	s.Table = p.tableName()
	p.expect(tLParen)
	if p.tok.kind.cidentLike() || p.at(kEntries) || p.at(kFull) {
		s.Targets = append(s.Targets, p.indexTarget())
		for p.accept(tComma) {
			s.Targets = append(s.Targets, p.indexTarget())
		}
	}
	p.expect(tRParen)
	if p.accept(kUsing) {
		s.HasUsing = true
		s.Using = p.stringText()
	}
	if p.accept(kWith) {
		s.Properties = p.properties()
	}
	return s
}

// indexTarget reads column or values(column), keys(column), entries(column), full(column).
func (p *parser) indexTarget() IndexTarget {
	t := IndexTarget{}
	k := p.tok.kind
	switch {
	case k == kValues && p.la(1) == tLParen:
		t.Kind = IndexValues
	case k == kKeys && p.la(1) == tLParen:
		t.Kind = IndexKeys
	case k == kEntries:
		t.Kind = IndexEntries
	case k == kFull:
		t.Kind = IndexFull
	case (k == kValues || k == kKeys) && p.la(1) != tComma && p.la(1) != tRParen:
		p.noViable(1)
		return t
	default:
		t.Column = p.cident()
		return t
	}
	p.advance()
	p.expect(tLParen)
	t.Column = p.cident()
	p.expect(tRParen)
	return t
}

func (p *parser) createView() Statement {
	s := &CreateView{}
	p.expect2(kCreate, kMaterialized)
	p.expect(kView)
	s.IfNotExists = p.ifNotExists()
	s.Name = p.tableName()
	p.expect2(kAs, kSelect)
	s.Selectors = p.selectors()
	p.expect(kFrom)
	s.Base = p.tableName()
	if p.accept(kWhere) {
		s.Where = p.where()
	}
	p.expect2(kPrimary, kKey)
	s.PartitionKey, s.Clustering = p.primaryKey()
	if !p.accept(kWith) {
		return s
	}
	var ps propertyList
	for first := true; first || p.accept(kAnd); first = false {
		switch p.tableProperty(&ps) {
		case compactStorage:
			p.refuse("COMPACT STORAGE tables are not allowed starting with version 4.0")
		case clusteringOrder:
			s.Order = p.clusteringOrder(s.Order, s.Name)
		}
	}
	s.Properties = ps.list
	return s
}

func (p *parser) alterView() Statement {
	s := &AlterView{}
	p.expect2(kAlter, kMaterialized)
	p.expect(kView)
	s.IfExists = p.ifExists()
	s.Name = p.tableName()
	p.expect(kWith)
	s.Properties = p.properties()
	return s
}

func (p *parser) createTrigger() Statement {
	s := &CreateTrigger{}
	p.expect2(kCreate, kTrigger)
	s.IfNotExists = p.ifNotExists()
	s.Name = p.ident()
	p.expect(kOn)
	s.Table = p.tableName()
	p.expect(kUsing)
	s.Class = p.stringText()
	return s
}

// orReplace reads CREATE [OR REPLACE].
func (p *parser) orReplace() bool {
	p.expect(kCreate)
	return p.accept(kOr) && p.expect(kReplace)
}

func (p *parser) createFunction() Statement {
	s := &CreateFunction{OrReplace: p.orReplace()}
	p.expect(kFunction)
	s.IfNotExists = p.ifNotExists()
	s.Name = p.functionName()
	p.expect(tLParen)
	for more := p.tok.kind.identLike(); more; more = p.accept(tComma) {
		s.Args = append(s.Args, FunctionArg{Name: p.ident(), Type: p.typeRef()})
	}
	p.expect(tRParen)
	switch {
	case p.accept(kReturns):
		p.expect(kNull)
	case p.accept(kCalled):
		s.CalledOnNullInput = true
	default:
		p.noViable(0)
	}
	p.expect(kOn)
	p.expect2(kNull, kInput)
	p.expect(kReturns)
	s.Returns = p.typeRef()
	p.expect(kLanguage)
	s.Language = strings.ToLower(p.raw())
	p.expect2(tIdent, kAs)
	s.Body = p.stringText()
	return s
}

func (p *parser) createAggregate() Statement {
	s := &CreateAggregate{OrReplace: p.orReplace()}
	p.expect(kAggregate)
	s.IfNotExists = p.ifNotExists()
	s.Name = p.functionName()
	if !p.at(tLParen) {
		p.mismatch(tLParen)
	}
	s.Args = p.argTypes()
	p.expect(kSfunc)
	s.StateFunc = p.localFunctionName()
	p.expect(kStype)
	s.StateType = p.typeRef()
	if p.accept(kFinalfunc) {
		s.FinalFunc = p.localFunctionName()
	}
	if p.accept(kInitcond) {
		s.InitCond = p.term()
	}
	return s
}

// argTypes reads an optional (type, ...).
func (p *parser) argTypes() []*TypeRef {
	if !p.accept(tLParen) {
		return nil
	}
	list := []*TypeRef{}
	for more := p.tok.kind.typeStart(); more; more = p.accept(tComma) {
		list = append(list, p.typeRef())
	}
	p.expect(tRParen)
	return list
}
