package cql

import "strings"

// permission: is the name of a permission.
func (k kind) permission() bool {
	switch k {
	case kCreate, kAlter, kDrop, kSelect, kModify, kAuthorize, kDescribe, kExecute, kUnmask, kSelectMasked:
		return true
	}
	return false
}

// permissionSet is a set of permissions: bit i is permission i.
type permissionSet uint16

const allPermissions permissionSet = 1<<permissionCount - 1

func permissionsOf(list ...Permission) permissionSet {
	var s permissionSet
	for _, p := range list {
		s |= 1 << p
	}
	return s
}

// list returns the permissions in ascending order.
func (s permissionSet) list() []Permission {
	var l []Permission
	for p := range permissionCount {
		if s&(1<<p) != 0 {
			l = append(l, p)
		}
	}
	return l
}

// permissions reads ALL [PERMISSIONS] or permission [PERMISSION] {, permission [PERMISSION]}.
func (p *parser) permissions() []Permission {
	if p.accept(kAll) {
		p.accept(kPermissions)
		return allPermissions.list()
	}
	var set permissionSet
	for first := true; first || p.accept(tComma); first = false {
		set |= 1 << p.permission()
		p.accept(kPermission)
	}
	return set.list()
}

func (p *parser) permission() Permission {
	perm := PermCreate
	switch p.tok.kind {
	case kCreate:
	case kAlter:
		perm = PermAlter
	case kDrop:
		perm = PermDrop
	case kSelect:
		perm = PermSelect
	case kModify:
		perm = PermModify
	case kAuthorize:
		perm = PermAuthorize
	case kDescribe:
		perm = PermDescribe
	case kExecute:
		perm = PermExecute
	case kUnmask:
		perm = PermUnmask
	case kSelectMasked:
		perm = PermSelectMasked
	default:
		p.mismatchSet()
	}
	p.advance()
	return perm
}

// applicable keeps the permissions that the resource has, and refuses when there is none.
func (p *parser) applicable(list []Permission, r *Resource) []Permission {
	supported, class := r.permissions()
	left := (permissionsOf(list...) & supported).list()
	if len(left) == 0 {
		p.refuse("Resource type %s does not support any of the requested permissions", class)
	}
	return left
}

// permissions returns which permissions the resource has, and how Cassandra calls its type.
func (r *Resource) permissions() (permissionSet, string) {
	create := permissionsOf(PermCreate)
	table := permissionsOf(PermAlter, PermDrop, PermSelect, PermModify, PermAuthorize, PermUnmask, PermSelectMasked)
	role := permissionsOf(PermAlter, PermDrop, PermAuthorize, PermDescribe)
	function := permissionsOf(PermAlter, PermDrop, PermAuthorize, PermExecute)
	switch r.Kind {
	case AllKeyspaces, KeyspaceResource, AllTablesInKeyspace:
		return table | create, "DataResource"
	case TableResource:
		return table, "DataResource"
	case AllRoles:
		return role | create, "RoleResource"
	case RoleResource:
		return role, "RoleResource"
	case AllFunctions, AllFunctionsInKeyspace:
		return function | create, "FunctionResource"
	case FunctionResource:
		return function, "FunctionResource"
	}
	return permissionsOf(PermAuthorize, PermDescribe, PermExecute, PermModify, PermSelect), "JMXResource"
}

// resource reads what permissions are on. Many of its words can also be the name of a table, which the next token tells.
func (p *parser) resource() Resource {
	k := p.tok.kind
	if k != kKeyspace && k != kColumnfamily && k != tQmark && !k.identLike() {
		p.noViable(0)
		return Resource{}
	}
	next := p.la(1)
	switch {
	case k == kAll && (next == kKeyspaces || next == kTables || next == kRoles || next == kFunctions || next == kMbeans):
		return p.allResource()
	case k == kKeyspace:
		p.advance()
		return Resource{Kind: KeyspaceResource, Keyspace: p.keyspaceName()}
	case k == kColumnfamily:
		p.advance()
		return Resource{Kind: TableResource, Table: p.tableName()}
	case k == kRole && (next.identLike() || next == tString || next == tQmark):
		p.advance()
		return Resource{Kind: RoleResource, Role: p.roleName()}
	case k == kFunction && (next.identLike() || next == kToken || next == tQmark):
		p.advance()
		r := Resource{Kind: FunctionResource, Function: p.functionName()}
		if !p.at(tLParen) {
			p.mismatch(tLParen)
		}
		r.ArgTypes = p.argTypes()
		if !r.Function.Qualified() {
			p.invalid("In this context function name must be explictly qualified by a keyspace")
		}
		return r
	case k == kMbean && next == tString:
		p.advance()
		return Resource{Kind: MBeanResource, MBean: p.mbean(false)}
	case k == kMbeans && next == tString:
		p.advance()
		return Resource{Kind: MBeansResource, MBean: p.mbean(true)}
	case (k == kAll || k == kRole || k == kFunction || k == kMbean || k == kMbeans) && next != tDot && !followsResource(next):
		p.noViable(1)
	case next != tDot && !followsTable(next):
		p.noViable(1)
	}
	return Resource{Kind: TableResource, Table: p.tableName()}
}

// followsResource: can stand after a resource.
func followsResource(k kind) bool {
	return followsStatement(k) || k == kTo || k == kFrom || k == kOf || k == kNorecursive
}

// allResource reads ALL KEYSPACES, ALL TABLES IN KEYSPACE ks, ALL ROLES, ALL FUNCTIONS [IN KEYSPACE ks], ALL MBEANS.
func (p *parser) allResource() Resource {
	if next := p.la(2); p.la(1) == kFunctions && next != kIn && !followsResource(next) {
		p.noViable(2)
	}
	p.advance()
	k := p.tok.kind
	p.advance()
	switch k {
	case kKeyspaces:
		return Resource{Kind: AllKeyspaces}
	case kRoles:
		return Resource{Kind: AllRoles}
	case kMbeans:
		return Resource{Kind: AllMBeans}
	case kFunctions:
		if !p.at(kIn) {
			return Resource{Kind: AllFunctions}
		}
	}
	r := Resource{Kind: AllTablesInKeyspace}
	if k == kFunctions {
		r.Kind = AllFunctionsInKeyspace
	}
	p.expect2(kIn, kKeyspace)
	r.Keyspace = p.keyspaceName()
	return r
}

// mbean reads the name of an MBean, or a pattern of names.
func (p *parser) mbean(pattern bool) string {
	name := p.stringText()
	if p.err != nil {
		return name
	}
	domain, keys, ok := strings.Cut(name, ":")
	switch {
	case name == "":
		p.refuse("Empty JMX object name supplied")
	case name == "*:*":
		p.refuse("Please use ALL MBEANS instead of wildcard pattern")
	case !ok || strings.ContainsAny(domain, "\n") || !mbeanKeys(keys):
		p.refuse("%s is not a valid JMX object name", name)
	case pattern && !strings.ContainsAny(name, "*?"):
		p.refuse("Plural form used, but non-pattern JMX object name specified (%s)", name)
	}
	return name
}

// mbeanKeys reports whether s is a list of key=value, or *.
func mbeanKeys(s string) bool {
	for part := range strings.SplitSeq(s, ",") {
		key, value, ok := strings.Cut(part, "=")
		quoted := len(value) > 1 && value[0] == '"' && value[len(value)-1] == '"'
		if part != "*" && (!ok || key == "" || strings.ContainsAny(key, ":*?\n") || !quoted && strings.ContainsAny(value, "=:\"\n")) {
			return false
		}
	}
	return true
}
