package cql

// RoleOptions are the options of CREATE/ALTER ROLE and USER. A nil pointer is "not given".
type RoleOptions struct {
	Password       *string
	HashedPassword *string
	Superuser      *bool
	Login          *bool
	Options        []PropertyEntry
	HasOptions     bool
	AllDatacenters bool // ACCESS TO ALL DATACENTERS
	Datacenters    []string
	AllCIDRs       bool // ACCESS FROM ALL CIDRS
	CIDRs          []string
}

// CreateRole is CREATE ROLE, or CREATE USER (User; Login and Superuser are then always set).
type CreateRole struct {
	markers
	Name        string
	IfNotExists bool
	User        bool
	Options     RoleOptions
}

// AlterRole is ALTER ROLE or ALTER USER (User).
type AlterRole struct {
	markers
	Name     string
	IfExists bool
	User     bool
	Options  RoleOptions
}

// DropRole is DROP ROLE or DROP USER (User).
type DropRole struct {
	markers
	Name     string
	IfExists bool
	User     bool
}

// ListRoles is LIST ROLES [OF role] [NORECURSIVE], or LIST USERS (Users).
type ListRoles struct {
	markers
	Users     bool
	Of        string // "" when not given
	Recursive bool
}

// GrantRole is GRANT role TO grantee.
type GrantRole struct {
	markers
	Role, Grantee string
}

// RevokeRole is REVOKE role FROM revokee.
type RevokeRole struct {
	markers
	Role, Revokee string
}

// Permission is a permission on a resource.
type Permission uint8

// The permissions in Cassandra's order.
const (
	PermCreate Permission = iota
	PermAlter
	PermDrop
	PermSelect
	PermModify
	PermAuthorize
	PermDescribe
	PermExecute
	PermUnmask
	PermSelectMasked
	permissionCount
)

// String returns the permission's name: "CREATE", ..., "SELECT_MASKED".
func (p Permission) String() string {
	return [...]string{"CREATE", "ALTER", "DROP", "SELECT", "MODIFY", "AUTHORIZE", "DESCRIBE", "EXECUTE", "UNMASK", "SELECT_MASKED"}[p]
}

// ResourceKind is what permissions are granted on.
type ResourceKind uint8

// The resources.
const (
	AllKeyspaces        ResourceKind = iota
	KeyspaceResource                 // Keyspace
	AllTablesInKeyspace              // Keyspace
	TableResource                    // Table
	AllRoles
	RoleResource // Role
	AllFunctions
	AllFunctionsInKeyspace // Keyspace
	FunctionResource       // Function, ArgTypes
	AllMBeans
	MBeanResource  // MBean
	MBeansResource // MBean: a pattern
)

// Resource is the object of GRANT, REVOKE and LIST.
type Resource struct {
	Kind     ResourceKind
	Keyspace Ident
	Table    QualifiedName
	Role     string
	Function QualifiedName
	ArgTypes []*TypeRef
	MBean    string
}

// Grant is GRANT permissions ON resource TO role. Permissions are ascending, without duplicates, and only those that the
// resource supports.
type Grant struct {
	markers
	Permissions []Permission
	Resource    Resource
	Grantee     string
}

// Revoke is REVOKE permissions ON resource FROM role. See Grant.
type Revoke struct {
	markers
	Permissions []Permission
	Resource    Resource
	Revokee     string
}

// ListPermissions is LIST permissions [ON resource] [OF role] [NORECURSIVE].
type ListPermissions struct {
	markers
	Permissions []Permission
	Resource    *Resource // nil when not given
	Of          string    // "" when not given
	Recursive   bool
}

// AddIdentity is ADD IDENTITY [IF NOT EXISTS] identity TO ROLE role.
type AddIdentity struct {
	markers
	Identity    string
	Role        string
	IfNotExists bool
}

// DropIdentity is DROP IDENTITY [IF EXISTS] identity.
type DropIdentity struct {
	markers
	Identity string
	IfExists bool
}
