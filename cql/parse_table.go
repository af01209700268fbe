package cql

import "strconv"

func (p *parser) createTable() Statement {
	s := &CreateTable{}
	p.expect2(kCreate, kColumnfamily)
	s.IfNotExists = p.ifNotExists()
	s.Name = p.tableName()
	p.expect(tLParen)
	var names nameSet
	p.tableColumns(s, &names)
	for p.accept(tComma) {
		if p.tok.kind.identLike() || p.at(kPrimary) {
			p.tableColumns(s, &names)
		}
	}
	p.expect(tRParen)
	if p.accept(kWith) {
		p.tableProperties(s)
	}
	return s
}

// tableColumns reads a column or PRIMARY KEY (...).
func (p *parser) tableColumns(s *CreateTable, names *nameSet) {
	if p.accept(kPrimary) {
		p.expect(kKey)
		partition, clustering := p.primaryKey()
		p.setPartitionKey(s, partition)
		s.Clustering = append(s.Clustering, clustering...)
		return
	}
	c := p.columnDef()
	if !names.add(c.Name.Name) {
		p.invalid("Duplicate column '%s' declaration for table '%s'", c.Name.Name, s.Name)
	}
	s.Columns = append(s.Columns, c)
	if p.accept(kPrimary) && p.expect(kKey) {
		p.setPartitionKey(s, []Ident{c.Name})
	}
}

func (p *parser) setPartitionKey(s *CreateTable, key []Ident) {
	if s.PartitionKey != nil {
		p.invalid("Multiple PRIMARY KEY specified for table '%s' (exactly one required)", s.Name)
	}
	s.PartitionKey = key
}

// columnDef reads name type [STATIC] [MASKED WITH ...].
func (p *parser) columnDef() ColumnDef {
	return ColumnDef{Name: p.ident(), Type: p.typeRef(), Static: p.accept(kStatic), Mask: p.mask()}
}

// mask reads an optional MASKED WITH function(args) or MASKED WITH DEFAULT; nil without.
func (p *parser) mask() *Mask {
	if !p.at(kMasked) {
		return nil
	}
	if p.la(1) != kWith {
		p.noViable(1)
		return nil
	}
	if k := p.la(2); k != tQmark && k != kToken && !k.identLike() {
		p.noViable(2)
		return nil
	}
	if p.la(2) == kDefault && p.la(3) != tLParen && p.la(3) != tDot {
		if !followsType(p.la(3)) {
			p.noViable(3)
			return nil
		}
		m := &Mask{Func: QualifiedName{Ident{Name: "system"}, Ident{Name: "mask_default", Pos: p.pos0()}}}
		p.advance()
		p.advance()
		p.advance()
		return m
	}
	p.advance()
	p.expect(kWith)
	m := &Mask{Func: p.functionName()}
	if !p.at(tLParen) {
		p.noViable(0)
	} else if k := p.la(1); k != tRParen && !startsTerm(k) {
		p.noViable(1)
	}
	p.advance()
	if !p.at(tRParen) {
		m.Args = p.terms()
	}
	p.expect(tRParen)
	return m
}

// primaryKey reads (partition, clustering, ...), where partition is a column or (column, ...).
func (p *parser) primaryKey() (partition, clustering []Ident) {
	p.expect(tLParen)
	if p.accept(tLParen) {
		partition = p.idents()
		p.expect(tRParen)
	} else {
		partition = []Ident{p.ident()}
	}
	for p.accept(tComma) {
		clustering = append(clustering, p.ident())
	}
	p.expect(tRParen)
	return partition, clustering
}

// tablePropertyKind is what tableProperty found.
type tablePropertyKind uint8

const (
	plainProperty   tablePropertyKind = iota // read into the list
	compactStorage                           // read
	clusteringOrder                          // still to be read
)

// tableProperty reads a property of a table or view, or finds one of the two that are not plain ones.
func (p *parser) tableProperty(ps *propertyList) tablePropertyKind {
	switch {
	case p.at(kCompact) && p.la(1) == kStorage:
		p.advance()
		p.advance()
		return compactStorage
	case p.at(kClustering) && p.la(1) == kOrder:
		return clusteringOrder
	}
	p.property(ps)
	return plainProperty
}

func (p *parser) tableProperties(s *CreateTable) {
	var ps propertyList
	for first := true; first || p.accept(kAnd); first = false {
		switch p.tableProperty(&ps) {
		case compactStorage:
			s.CompactStorage = true
		case clusteringOrder:
			s.Order = p.clusteringOrder(s.Order, s.Name)
		}
	}
	s.Properties = ps.list
}

// clusteringOrder reads CLUSTERING ORDER BY (column ASC|DESC, ...) and appends to list.
func (p *parser) clusteringOrder(list []ClusteringOrder, table QualifiedName) []ClusteringOrder {
	p.expect2(kClustering, kOrder)
	p.expect2(kBy, tLParen)
	var names nameSet
	for i := range list {
		names.add(list[i].Column.Name)
	}
	for first := true; first || p.accept(tComma); first = false {
		o := ClusteringOrder{Column: p.ident()}
		if p.accept(kDesc) {
			o.Desc = true
		} else if !p.accept(kAsc) {
			p.noViable(0)
		}
		if p.err == nil && !names.add(o.Column.Name) {
			p.invalid("Duplicate column '%s' in CLUSTERING ORDER BY clause for table '%s'", o.Column.Name, table)
		}
		list = append(list, o)
	}
	p.expect(tRParen)
	return list
}

func (p *parser) alterTable() Statement {
	s := &AlterTable{}
	p.expect2(kAlter, kColumnfamily)
	s.IfExists = p.ifExists()
	s.Name = p.tableName()
	switch p.tok.kind {
	case kAlter:
		p.alterColumn(s)
	case kAdd:
		p.addColumns(s)
	case kDrop:
		p.dropColumns(s)
	case kRename:
		p.advance()
		s.Kind = AlterRename
		s.IfColumnExists = p.ifExists()
		s.Renames = p.renames()
	case kWith:
		p.advance()
		s.Kind = AlterProperties
		s.Properties = p.properties()
	default:
		p.noViable(0)
	}
	return s
}

// alterColumn reads ALTER column TYPE type, ALTER [IF EXISTS] column MASKED WITH ... and ... DROP MASKED.
func (p *parser) alterColumn(s *AlterTable) {
	switch next := p.la(1); {
	case next == kIf:
	case !next.cidentLike():
		p.noViable(1)
	default:
		if then := p.la(2); then != kType && then != kMasked && then != kDrop {
			p.noViable(2)
		}
	}
	p.advance()
	s.IfColumnExists = p.ifExists()
	s.Column = p.cident()
	switch {
	case !s.IfColumnExists && p.accept(kType):
		s.Kind = AlterColumnType
		s.Type = p.typeRef()
	case p.at(kMasked):
		s.Kind = AlterMask
		s.Mask = p.mask()
	case p.accept(kDrop):
		s.Kind = AlterDropMask
		p.expect(kMasked)
	default:
		p.noViable(0)
	}
}

func (p *parser) addColumns(s *AlterTable) {
	p.advance()
	s.Kind = AlterAdd
	s.IfColumnAbsent = p.ifNotExists()
	switch {
	case p.accept(tLParen):
		s.Add = append(s.Add, p.columnDef())
		for p.accept(tComma) {
			s.Add = append(s.Add, p.columnDef())
		}
		p.expect(tRParen)
	case p.tok.kind.identLike():
		s.Add = append(s.Add, p.columnDef())
	default:
		p.noViable(0)
	}
}

// dropColumns reads DROP [IF EXISTS] columns [USING TIMESTAMP n] and DROP COMPACT STORAGE.
func (p *parser) dropColumns(s *AlterTable) {
	switch next := p.la(1); {
	case next == kCompact && p.la(2) == kStorage:
		p.advance()
		p.advance()
		p.advance()
		s.Kind = AlterDropCompact
		return
	case next == kCompact && p.la(2) != kUsing && !followsStatement(p.la(2)):
		p.noViable(2)
	case next != kIf && next != tLParen && !next.identLike():
		p.noViable(1)
	}
	p.advance()
	s.Kind = AlterDrop
	s.IfColumnExists = p.ifExists()
	switch {
	case p.accept(tLParen):
		s.Drop = p.idents()
		p.expect(tRParen)
	case p.tok.kind.identLike():
		s.Drop = []Ident{p.ident()}
	default:
		p.noViable(0)
	}
	if !p.accept(kUsing) {
		return
	}
	p.expect(kTimestamp)
	if p.at(tInteger) {
		ts, err := strconv.ParseInt(p.raw(), 10, 64)
		if err != nil {
			p.refuse("Failed parsing statement: [%s] reason: NumberFormatException For input string: %q", p.lex.text, p.raw())
		}
		s.Timestamp = &ts
	}
	p.expect(tInteger)
}
