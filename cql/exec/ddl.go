package exec

import (
	"context"

	"github.com/helenusdb/helenus/cql"
	"github.com/helenusdb/helenus/cql/protocol"
	"github.com/helenusdb/helenus/cql/types"
	"github.com/helenusdb/helenus/meta"
	"github.com/helenusdb/helenus/schema"
)

// runDDL runs a schema change or TRUNCATE and answers when all live nodes have it.
func runDDL(ctx context.Context, o *op) {
	o.beginTrace(o.requestName(), o.text())
	if done, err := o.dropNothing(o.compiled.AST); err != nil {
		o.fail(err)
		return
	} else if done {
		o.answer(o.x.void.b)
		return
	}
	if err := refuseDDL(o.compiled.AST); err != nil {
		o.fail(err)
		return
	}
	ctx, cancel := context.WithTimeout(ctx, o.x.o.DDLTimeout)
	defer cancel()
	p, warnings, err := o.x.o.Schema.Change(ctx, func(s *meta.State) (schema.Plan, error) { return o.planDDL(s) })
	if err != nil {
		o.fail(err)
		return
	}
	o.warnings = append(append(o.warnings, p.Warnings...), warnings...)
	if p.Event.None() {
		o.answer(o.x.void.b)
		return
	}
	e := protocol.Event{Type: protocol.SchemaChange, Change: string(p.Event.Change), Target: string(p.Event.Target), Keyspace: p.Event.Keyspace, Name: p.Event.Name}
	o.answer(protocol.AppendSchemaChangeResult(nil, o.version, &e))
}

// planDDL plans the statement against the newest metadata. It refuses columns and fields whose values cannot be written yet,
// after all that Cassandra would refuse; tables that have some, made before this was refused, can still be altered and dropped.
func (o *op) planDDL(s *meta.State) (schema.Plan, error) {
	p, err := o.planStatement(s)
	if err == nil && p.Introduces(s.Catalog, types.KindVector) {
		return schema.Plan{}, unsupported("vectors")
	}
	return p, err
}

func (o *op) planStatement(s *meta.State) (schema.Plan, error) {
	env := schema.Env{NewID: func() schema.ID { return schema.ID(o.x.o.NewTimeUUID()) }, Now: o.x.o.Now, KnownDCs: s.DCs(), Ring: s.Ring, DefaultRF: o.x.o.DefaultRF}
	c, d := s.Catalog, ddlNames{keyspace: o.keyspaceOf()}
	switch a := o.compiled.AST.(type) {
	case *cql.CreateKeyspace:
		return c.CreateKeyspace(schema.CreateKeyspace{Name: a.Name.Name, IfNotExists: a.IfNotExists, Properties: properties(a.Properties)}, env)
	case *cql.AlterKeyspace:
		return c.AlterKeyspace(schema.AlterKeyspace{Name: a.Name.Name, IfExists: a.IfExists, Properties: properties(a.Properties)}, env)
	case *cql.DropKeyspace:
		return c.DropKeyspace(schema.DropKeyspace{Name: a.Name.Name, IfExists: a.IfExists}, env)
	case *cql.CreateTable:
		spec := d.createTable(a)
		if d.err != nil {
			return schema.Plan{}, d.err
		}
		return planTable(c, spec, env)
	case *cql.AlterTable:
		spec := d.alterTable(a)
		if d.err != nil {
			return schema.Plan{}, d.err
		}
		return c.AlterTable(spec, env)
	}
	return o.planOther(c, d, env)
}

func (o *op) planOther(c *schema.Catalog, d ddlNames, env schema.Env) (schema.Plan, error) {
	var (
		p   schema.Plan
		err error
	)
	switch a := o.compiled.AST.(type) {
	case *cql.DropTable:
		spec := schema.DropTable{Keyspace: d.of(a.Name), Name: a.Name.Name.Name, IfExists: a.IfExists}
		if d.err == nil {
			p, err = c.DropTable(spec, env)
		}
	case *cql.Truncate:
		spec := schema.Truncate{Keyspace: d.of(a.Table), Name: a.Table.Name.Name}
		if d.err == nil {
			p, err = c.Truncate(spec, env)
		}
	case *cql.CreateType:
		spec := d.createType(a)
		if d.err == nil {
			p, err = c.CreateType(spec, env)
		}
	case *cql.AlterType:
		spec := d.alterType(a)
		if d.err == nil {
			p, err = c.AlterType(spec, env)
		}
	case *cql.DropType:
		spec := schema.DropType{Keyspace: d.of(a.Name), Name: a.Name.Name.Name, IfExists: a.IfExists}
		if d.err == nil {
			p, err = c.DropType(spec, env)
		}
	default:
		err = invalid("%T is not supported yet", a)
	}
	if d.err != nil {
		err = d.err
	}
	return p, err
}

// keyspaceOf returns the keyspace in which names without one are looked up.
func (o *op) keyspaceOf() string {
	if o.stmt != nil {
		return o.stmt.keyspace
	}
	return o.keyspace
}

// planTable plans CREATE TABLE and refuses tables that cannot be stored yet.
func planTable(c *schema.Catalog, spec schema.CreateTable, env schema.Env) (schema.Plan, error) {
	if spec.CompactStorage {
		return schema.Plan{}, unsupported("COMPACT STORAGE")
	}
	return c.CreateTable(spec, env)
}

func unsupported(feature string) error {
	return invalid("This statement is not supported yet: %s", feature)
}

// dropNothing answers DROP of what no schema has yet: migrations drop indexes and views IF EXISTS. done says that there
// is nothing to do.
func (o *op) dropNothing(ast cql.Statement) (done bool, err error) {
	d := ddlNames{keyspace: o.keyspaceOf()}
	var what string
	var absent bool
	switch a := ast.(type) {
	case *cql.DropIndex: // the text has that quote
		what, absent = "Index '"+d.of(a.Name)+"."+a.Name.Name.Name+"' doesn't exist'", a.IfExists
	case *cql.DropView:
		what, absent = "Materialized view '"+d.of(a.Name)+"."+a.Name.Name.Name+"' doesn't exist", a.IfExists
	case *cql.AlterView:
		what, absent = "Materialized view '"+d.of(a.Name)+"."+a.Name.Name.Name+"' doesn't exist", a.IfExists
	case *cql.DropFunction:
		what, absent = "Function '"+d.of(a.Name)+"."+a.Name.Name.Name+"' doesn't exist", a.IfExists
	case *cql.DropAggregate:
		what, absent = "Aggregate '"+d.of(a.Name)+"."+a.Name.Name.Name+"' doesn't exist", a.IfExists
	case *cql.DropTrigger:
		what, absent = "Trigger '"+a.Name.Name+"' on '"+d.of(a.Table)+"."+a.Table.Name.Name+"' doesn't exist", a.IfExists
	default:
		return false, nil
	}
	switch {
	case d.err != nil:
		return false, d.err
	case absent:
		return true, nil
	}
	return false, invalid("%s", what)
}

// refuseDDL names the features that are not built.
func refuseDDL(ast cql.Statement) error {
	switch a := ast.(type) {
	case *cql.CreateIndex:
		return unsupported("secondary indexes")
	case *cql.CreateView:
		return unsupported("materialized views")
	case *cql.CreateFunction:
		return unsupported("user-defined functions")
	case *cql.CreateAggregate:
		return unsupported("user-defined aggregates")
	case *cql.CreateTrigger:
		return unsupported("triggers")
	case *cql.CreateTable:
		if len(a.PartitionKey) == 0 {
			return invalid("No PRIMARY KEY specifed for table '%s' (exactly one required)", a.Name)
		}
		return refuseMasks(a.Columns)
	case *cql.AlterTable:
		if a.Kind == cql.AlterMask || a.Kind == cql.AlterDropMask {
			return unsupported("dynamic data masking")
		}
		return refuseMasks(a.Add)
	}
	return nil
}

func refuseMasks(columns []cql.ColumnDef) error {
	for _, c := range columns {
		if c.Mask != nil {
			return unsupported("dynamic data masking")
		}
	}
	return nil
}

// authError answers the statements about roles and permissions as Cassandra does when nobody has to log in.
func authError(ast cql.Statement) error {
	switch a := ast.(type) {
	case *cql.CreateRole:
		return roleError(&a.Options, false, "Only superusers can create a role with superuser status")
	case *cql.AlterRole:
		return roleError(&a.Options, true, "Only superusers are allowed to alter superuser status")
	}
	return errAnonymous
}

var errAnonymous = protocol.Errorf(protocol.CodeUnauthorized, "You have to be logged in and not anonymous to perform this request")

func roleError(o *cql.RoleOptions, alter bool, superuser string) error {
	const manager = "org.apache.cassandra.auth.CassandraRoleManager doesn't support "
	switch {
	case o.Superuser != nil && (*o.Superuser || alter):
		return protocol.Errorf(protocol.CodeUnauthorized, "%s", superuser)
	case o.Password != nil:
		return invalid(manager + "PASSWORD")
	case o.HashedPassword != nil:
		return invalid(manager + "HASHED_PASSWORD")
	case o.HasOptions:
		return invalid(manager + "OPTIONS")
	}
	return errAnonymous
}

// checkKeyspace returns the error of USE for a keyspace that is not there.
func checkKeyspace(c *schema.Catalog, name string) error {
	if _, ok := c.Keyspace(name); !ok {
		return invalid("Keyspace '%s' does not exist", name)
	}
	return nil
}
