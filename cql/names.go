package cql

// FullyQualified reports whether s is about rows (SELECT, INSERT, UPDATE, DELETE, TRUNCATE or a batch, also an empty one) and
// names the keyspace of each of its tables. Cassandra derives the id of such a prepared statement from its text alone;
// that of any other one, also of DDL with keyspaces, from the keyspace of the session and the text. Types and functions do
// not count.
func FullyQualified(s Statement) bool {
	switch s.(type) {
	case *Select, *Insert, *Update, *Delete, *Truncate, *Batch:
	default:
		return false
	}
	ok := true
	TableNames(s, func(n QualifiedName) { ok = ok && n.Qualified() })
	return ok
}

// TableNames calls visit for the name of each table, view, user type, function and aggregate that s is about, in the order
// of the text; for a batch those of all its statements. Statements about a keyspace as a whole have none.
func TableNames(s Statement, visit func(QualifiedName)) {
	switch s := s.(type) {
	case *Select:
		visit(s.Table)
	case *Insert:
		visit(s.Table)
	case *Update:
		visit(s.Table)
	case *Delete:
		visit(s.Table)
	case *Truncate:
		visit(s.Table)
	case *Batch:
		for _, b := range s.Statements {
			TableNames(b, visit)
		}
	default:
		ddlNames(s, visit)
	}
}

// ddlNames is TableNames of everything that is not about rows.
func ddlNames(s Statement, visit func(QualifiedName)) {
	switch s := s.(type) {
	case *CreateTable:
		visit(s.Name)
	case *AlterTable:
		visit(s.Name)
	case *DropTable:
		visit(s.Name)
	case *CreateType:
		visit(s.Name)
	case *AlterType:
		visit(s.Name)
	case *DropType:
		visit(s.Name)
	case *CreateIndex:
		visit(s.Table)
	case *DropIndex:
		visit(s.Name)
	case *CreateView:
		visit(s.Name)
		visit(s.Base)
	case *AlterView:
		visit(s.Name)
	case *DropView:
		visit(s.Name)
	case *CreateTrigger:
		visit(s.Table)
	case *DropTrigger:
		visit(s.Table)
	default:
		functionNames(s, visit)
	}
}

// functionNames is TableNames of functions, aggregates and permissions.
func functionNames(s Statement, visit func(QualifiedName)) {
	switch s := s.(type) {
	case *CreateFunction:
		visit(s.Name)
	case *DropFunction:
		visit(s.Name)
	case *CreateAggregate:
		visit(s.Name)
	case *DropAggregate:
		visit(s.Name)
	case *Grant:
		resourceNames(&s.Resource, visit)
	case *Revoke:
		resourceNames(&s.Resource, visit)
	case *ListPermissions:
		if s.Resource != nil {
			resourceNames(s.Resource, visit)
		}
	}
}

func resourceNames(r *Resource, visit func(QualifiedName)) {
	switch r.Kind {
	case TableResource:
		visit(r.Table)
	case FunctionResource:
		visit(r.Function)
	}
}

// IsModification reports whether s writes rows: INSERT, UPDATE, DELETE or a batch of them.
func IsModification(s Statement) bool {
	switch s.(type) {
	case *Insert, *Update, *Delete, *Batch:
		return true
	}
	return false
}

// IsDDL reports whether s changes the schema.
func IsDDL(s Statement) bool {
	switch s.(type) {
	case *CreateKeyspace, *AlterKeyspace, *DropKeyspace, *CreateTable, *AlterTable, *DropTable, *CreateType, *AlterType,
		*DropType, *CreateIndex, *DropIndex, *CreateView, *AlterView, *DropView, *CreateFunction, *DropFunction,
		*CreateAggregate, *DropAggregate, *CreateTrigger, *DropTrigger:
		return true
	}
	return false
}

// IsAuth reports whether s is about roles, permissions or identities.
func IsAuth(s Statement) bool {
	switch s.(type) {
	case *CreateRole, *AlterRole, *DropRole, *ListRoles, *GrantRole, *RevokeRole, *Grant, *Revoke, *ListPermissions, *AddIdentity,
		*DropIdentity:
		return true
	}
	return false
}
