package cql

// statement reads a statement, without the semicolons after it.
func (p *parser) statement() Statement {
	switch p.tok.kind {
	case kSelect:
		return p.selectStatement()
	case kInsert:
		return p.insert()
	case kUpdate:
		return p.update()
	case kDelete:
		return p.delete()
	case kBegin:
		return p.batch()
	case kUse:
		p.advance()
		return &Use{Keyspace: p.keyspaceName()}
	case kTruncate:
		p.advance()
		p.accept(kColumnfamily)
		return &Truncate{Table: p.tableName()}
	case kCreate:
		return p.create()
	case kAlter:
		return p.alter()
	case kDrop:
		return p.drop()
	case kGrant:
		return p.grant()
	case kRevoke:
		return p.revoke()
	case kList:
		return p.list()
	case kAdd:
		return p.addIdentity()
	case kDescribe, kDesc:
		return p.describe()
	}
	p.noViable(0)
	return nil
}

// create reads what starts with CREATE.
func (p *parser) create() Statement {
	switch p.la(1) {
	case kKeyspace:
		return p.createKeyspace()
	case kColumnfamily:
		return p.createTable()
	case kCustom, kIndex:
		return p.createIndex()
	case kUser:
		return p.createUser()
	case kRole:
		return p.createRole()
	case kTrigger:
		return p.createTrigger()
	case kType:
		return p.createType()
	case kFunction:
		return p.createFunction()
	case kAggregate:
		return p.createAggregate()
	case kMaterialized:
		return p.createView()
	case kOr:
		if p.la(2) != kReplace {
			p.noViable(2)
			return nil
		}
		switch p.la(3) {
		case kFunction:
			return p.createFunction()
		case kAggregate:
			return p.createAggregate()
		}
		p.noViable(3)
		return nil
	}
	p.noViable(1)
	return nil
}

// alter reads what starts with ALTER.
func (p *parser) alter() Statement {
	switch p.la(1) {
	case kKeyspace:
		return p.alterKeyspace()
	case kColumnfamily:
		return p.alterTable()
	case kUser:
		return p.alterUser()
	case kRole:
		return p.alterRole()
	case kType:
		return p.alterType()
	case kMaterialized:
		return p.alterView()
	}
	p.noViable(1)
	return nil
}

// drop reads what starts with DROP.
func (p *parser) drop() Statement {
	what := p.la(1)
	switch what {
	case kKeyspace, kColumnfamily, kIndex, kUser, kRole, kTrigger, kType, kFunction, kAggregate, kMaterialized, kIdentity:
	default:
		p.noViable(1)
		return nil
	}
	p.advance()
	p.advance()
	if what == kMaterialized {
		p.expect(kView)
	}
	ifExists := p.ifExists()
	switch what {
	case kKeyspace:
		return &DropKeyspace{Name: p.keyspaceName(), IfExists: ifExists}
	case kColumnfamily:
		return &DropTable{Name: p.tableName(), IfExists: ifExists}
	case kIndex:
		return &DropIndex{Name: p.indexName(), IfExists: ifExists}
	case kUser:
		return &DropRole{Name: p.userName(), IfExists: ifExists, User: true}
	case kRole:
		return &DropRole{Name: p.roleName(), IfExists: ifExists}
	case kTrigger:
		s := &DropTrigger{Name: p.ident(), IfExists: ifExists}
		p.expect(kOn)
		s.Table = p.tableName()
		return s
	case kType:
		return &DropType{Name: p.typeName(), IfExists: ifExists}
	case kFunction:
		s := &DropFunction{Name: p.functionName(), IfExists: ifExists, HasArgs: p.at(tLParen)}
		s.Args = p.argTypes()
		return s
	case kAggregate:
		s := &DropAggregate{Name: p.functionName(), IfExists: ifExists, HasArgs: p.at(tLParen)}
		s.Args = p.argTypes()
		return s
	case kMaterialized:
		return &DropView{Name: p.tableName(), IfExists: ifExists}
	default:
		return &DropIdentity{Identity: p.identity(), IfExists: ifExists}
	}
}

// describe reads what starts with DESCRIBE or DESC.
func (p *parser) describe() Statement {
	s := &Describe{}
	p.advance()
	p.describeWhat(s)
	if p.accept(kWith) {
		s.Internals = p.expect(kInternals)
	}
	return s
}

func (p *parser) describeWhat(s *Describe) {
	k := p.tok.kind
	switch k {
	case kCluster:
		s.What = DescribeCluster
	case kKeyspaces:
		s.What = DescribeKeyspaces
	case kTables:
		s.What = DescribeTables
	case kTypes:
		s.What = DescribeTypes
	case kFunctions:
		s.What = DescribeFunctions
	case kAggregates:
		s.What = DescribeAggregates
	case kSchema:
		s.What = DescribeSchema
	case kFull:
		p.advance()
		s.What = DescribeFullSchema
		p.expect(kSchema)
		return
	default:
		p.describeNamed(s, k)
		return
	}
	if k != kSchema {
		p.overlook(2)
	}
	p.advance()
}

// describeNamed reads the forms that name something.
func (p *parser) describeNamed(s *Describe, k kind) {
	next := tEOF
	if k == kOnly || k == kType || k == kFunction || k == kAggregate {
		next = p.la(1)
	}
	switch {
	case k == kKeyspace:
		s.What = DescribeKeyspace
		p.describeKeyspace(s)
	case k == kOnly && next == kKeyspace:
		p.advance()
		s.What = DescribeOnlyKeyspace
		p.describeKeyspace(s)
	case k == kColumnfamily:
		s.What = DescribeTable
		p.advance()
		s.Name = p.tableName()
	case k == kIndex:
		s.What = DescribeIndex
		p.advance()
		s.Name = p.tableName()
	case k == kMaterialized:
		s.What = DescribeView
		p.advance()
		p.expect(kView)
		s.Name = p.tableName()
	case k == kType && next.identLike():
		s.What = DescribeType
		p.advance()
		s.Name = p.typeName()
	case k == kFunction && (next.identLike() || next == kToken || next == tQmark):
		s.What = DescribeFunction
		p.advance()
		s.Name = p.functionName()
	case k == kAggregate && (next.identLike() || next == kToken || next == tQmark):
		s.What = DescribeAggregate
		p.advance()
		s.Name = p.functionName()
	default:
		p.describeAny(s)
	}
}

// describeKeyspace reads on at KEYSPACE.
func (p *parser) describeKeyspace(s *Describe) {
	p.advance()
	if p.tok.kind.identLike() || p.at(tQmark) {
		s.Name.Keyspace = p.keyspaceName()
	}
}

// describeAny reads [ks.]name of anything.
func (p *parser) describeAny(s *Describe) {
	s.What = DescribeAny
	if !p.tok.kind.identLike() {
		p.noViable(0)
		return
	}
	if next := p.la(1); next != tDot && next != kWith && !followsStatement(next) {
		p.noViable(1)
		return
	}
	s.Name.Name = p.ident()
	if p.accept(tDot) {
		s.Name.Keyspace = s.Name.Name
		s.Name.Name = p.ident()
	}
}
