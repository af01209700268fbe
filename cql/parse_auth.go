package cql

import "strings"

// createUser reads CREATE USER [IF NOT EXISTS] name [WITH [HASHED] PASSWORD '...'] [SUPERUSER | NOSUPERUSER].
func (p *parser) createUser() Statement {
	s := &CreateRole{User: true}
	p.expect2(kCreate, kUser)
	s.IfNotExists = p.ifNotExists()
	s.Name = p.userName()
	p.userOptions(&s.Options)
	login := true
	s.Options.Login = &login
	if s.Options.Superuser == nil {
		s.Options.Superuser = new(bool)
	}
	return s
}

func (p *parser) alterUser() Statement {
	s := &AlterRole{User: true}
	p.expect2(kAlter, kUser)
	s.IfExists = p.ifExists()
	s.Name = p.userName()
	p.userOptions(&s.Options)
	return s
}

// userOptions reads [WITH [HASHED] PASSWORD '...'] [SUPERUSER | NOSUPERUSER].
func (p *parser) userOptions(o *RoleOptions) {
	if p.accept(kWith) {
		hashed := p.accept(kHashed)
		if !hashed && !p.at(kPassword) {
			p.noViable(0)
		}
		p.expect(kPassword)
		password := p.stringText()
		if hashed {
			o.HashedPassword = &password
		} else {
			o.Password = &password
		}
	}
	super := p.at(kSuperuser)
	if p.accept(kSuperuser) || p.accept(kNosuperuser) {
		o.Superuser = &super
	}
}

// userName reads the name of a user, whose case is kept.
func (p *parser) userName() string {
	return p.plainName("Quoted strings are are not supported for user names and USER is deprecated, please use ROLE")
}

func (p *parser) identity() string {
	return p.plainName("Quoted strings are are not supported for identity")
}

// plainName reads an IDENT or a string literal; quoted names are refused with a message of their own.
func (p *parser) plainName(whenQuoted string) string {
	name := p.content(p.tok)
	switch p.tok.kind {
	case tIdent, tString:
		p.advance()
	case tQuoted:
		p.refuse("%s", whenQuoted)
	default:
		p.noViable(0)
	}
	return name
}

func (p *parser) createRole() Statement {
	s := &CreateRole{}
	p.expect2(kCreate, kRole)
	s.IfNotExists = p.ifNotExists()
	s.Name = p.roleName()
	if p.accept(kWith) {
		p.roleOptions(&s.Options)
	}
	return s
}

func (p *parser) alterRole() Statement {
	s := &AlterRole{}
	p.expect2(kAlter, kRole)
	s.IfExists = p.ifExists()
	s.Name = p.roleName()
	if p.accept(kWith) {
		p.roleOptions(&s.Options)
	}
	return s
}

func (p *parser) roleOptions(o *RoleOptions) {
	p.roleOption(o)
	for p.accept(kAnd) {
		p.roleOption(o)
	}
	if p.err == nil && o.Password != nil && o.HashedPassword != nil {
		p.refuse("Options 'password' and 'hashed password' are mutually exclusive")
	}
}

func (p *parser) roleOption(o *RoleOptions) {
	switch {
	case p.accept(kPassword):
		p.expect(tEq)
		p.roleString("PASSWORD", &o.Password)
	case p.accept(kHashed):
		p.expect2(kPassword, tEq)
		p.roleString("HASHED_PASSWORD", &o.HashedPassword)
	case p.accept(kOptions):
		p.expect(tEq)
		entries := p.propertyMap()
		if o.HasOptions {
			p.duplicateOption("OPTIONS")
		}
		o.Options, o.HasOptions = entries, true
	case p.accept(kSuperuser):
		p.expect(tEq)
		p.roleBool("SUPERUSER", &o.Superuser)
	case p.accept(kLogin):
		p.expect(tEq)
		p.roleBool("LOGIN", &o.Login)
	case p.at(kAccess):
		p.access(o)
	default:
		p.noViable(0)
	}
}

func (p *parser) duplicateOption(name string) {
	p.refuse("Multiple definition for property '%s'", name)
}

func (p *parser) roleString(name string, to **string) {
	text := p.stringText()
	if *to != nil {
		p.duplicateOption(name)
	}
	*to = &text
}

func (p *parser) roleBool(name string, to **bool) {
	value := strings.EqualFold(p.raw(), "true")
	p.expect(tBoolean)
	if *to != nil {
		p.duplicateOption(name)
	}
	*to = &value
}

// access reads ACCESS TO [ALL] DATACENTERS and ACCESS FROM [ALL] CIDRS.
func (p *parser) access(o *RoleOptions) {
	what := kDatacenters
	switch p.la(1) {
	case kTo:
	case kFrom:
		what = kCidrs
	default:
		p.noViable(1)
	}
	if k := p.la(2); k != kAll && k != what {
		p.noViable(2)
	}
	p.advance()
	p.advance()
	all := p.accept(kAll)
	p.expect(what)
	var names []string
	if !all {
		p.expect(tLBrace)
		names = append(names, p.stringText())
		for p.accept(tComma) {
			names = append(names, p.stringText())
		}
		p.expect(tRBrace)
	}
	if what == kDatacenters {
		o.AllDatacenters = o.AllDatacenters || all
		o.Datacenters = append(o.Datacenters, names...)
	} else {
		o.AllCIDRs = o.AllCIDRs || all
		o.CIDRs = append(o.CIDRs, names...)
	}
}

// addIdentity reads ADD IDENTITY [IF NOT EXISTS] identity TO ROLE role.
func (p *parser) addIdentity() Statement {
	s := &AddIdentity{}
	p.expect2(kAdd, kIdentity)
	s.IfNotExists = p.ifNotExists()
	s.Identity = p.identity()
	p.expect2(kTo, kRole)
	s.Role = p.identity()
	return s
}

// list reads LIST USERS, LIST ROLES and LIST permissions.
func (p *parser) list() Statement {
	switch k := p.la(1); {
	case k == kUsers:
		p.advance()
		p.advance()
		return &ListRoles{Users: true, Recursive: true}
	case k == kRoles:
		p.advance()
		p.advance()
		s := &ListRoles{}
		s.Of, s.Recursive = p.listOf()
		return s
	case k != kAll && !k.permission():
		p.noViable(1)
		return nil
	}
	p.advance()
	s := &ListPermissions{Permissions: p.permissions()}
	if p.accept(kOn) {
		r := p.resource()
		s.Resource = &r
	}
	s.Of, s.Recursive = p.listOf()
	return s
}

// listOf reads [OF role] [NORECURSIVE].
func (p *parser) listOf() (role string, recursive bool) {
	if p.accept(kOf) {
		role = p.roleName()
	}
	return role, !p.accept(kNorecursive)
}

// grantsRole decides after GRANT and REVOKE: a role, or permissions. to is TO or FROM.
func (p *parser) grantsRole(to kind) bool {
	switch k := p.la(1); {
	case k == kAll || k == kUnmask || k == kSelectMasked:
		switch next := p.la(2); {
		case next == to:
			return true
		case next == kOn, next == kPermissions && k == kAll, next == kPermission && k != kAll, next == tComma && k != kAll:
		default:
			p.noViable(2)
		}
	case k.permission():
	case k.identLike(), k == tString, k == tQmark:
		return true
	default:
		p.noViable(1)
	}
	return false
}

func (p *parser) grant() Statement {
	if p.grantsRole(kTo) {
		s := &GrantRole{}
		p.advance()
		s.Role = p.roleName()
		p.expect(kTo)
		s.Grantee = p.roleName()
		return s
	}
	p.advance()
	s := &Grant{Permissions: p.permissions()}
	p.expect(kOn)
	s.Resource = p.resource()
	p.expect(kTo)
	s.Grantee = p.roleName()
	s.Permissions = p.applicable(s.Permissions, &s.Resource)
	return s
}

func (p *parser) revoke() Statement {
	if p.grantsRole(kFrom) {
		s := &RevokeRole{}
		p.advance()
		s.Role = p.roleName()
		p.expect(kFrom)
		s.Revokee = p.roleName()
		return s
	}
	p.advance()
	s := &Revoke{Permissions: p.permissions()}
	p.expect(kOn)
	s.Resource = p.resource()
	p.expect(kFrom)
	s.Revokee = p.roleName()
	s.Permissions = p.applicable(s.Permissions, &s.Resource)
	return s
}
