package plan

import (
	"github.com/helenusdb/helenus/cql"
	"github.com/helenusdb/helenus/ring"
)

// Compile compiles stmt. Errors are *Error.
func Compile(stmt cql.Statement, env Env) (*Statement, error) {
	st, err := compile(stmt, env)
	if err != nil {
		return nil, err
	}
	return st, nil
}

func compile(stmt cql.Statement, env Env) (*Statement, error) {
	if env.Partitioner == nil {
		env.Partitioner = ring.Murmur3{}
	}
	c := &compiler{env: env, binds: make([]Bind, len(stmt.Markers()))}
	st := &Statement{AST: stmt, Binds: c.binds}
	switch s := stmt.(type) {
	case *cql.Select:
		return st, c.compileSelect(st, s)
	case *cql.Insert:
		return st, c.compileModify(st, s, s.Table)
	case *cql.Update:
		return st, c.compileModify(st, s, s.Table)
	case *cql.Delete:
		return st, c.compileModify(st, s, s.Table)
	case *cql.Batch:
		return st, c.compileBatch(st, s)
	case *cql.Use:
		st.Kind, st.Use = KindUse, s.Keyspace.Name
		return st, nil
	case *cql.Truncate:
		return st, c.compileTruncate(st, s)
	case *cql.Describe:
		st.Kind = KindDescribe
		return st, nil
	case *cql.CreateView:
		if len(st.Binds) > 0 {
			return nil, invalid("Bind variables are not allowed in CREATE MATERIALIZED VIEW statements")
		}
	}
	st.Kind, st.Binds = KindDDL, nil // no value is used where the grammar lets a bind variable stand
	if cql.IsAuth(stmt) {
		st.Kind = KindAuth
	}
	return st, nil
}

func (c *compiler) compileModify(st *Statement, s cql.Statement, name cql.QualifiedName) error {
	var err error
	if c.table, err = c.env.findTable(name); err != nil {
		return err
	}
	st.Kind, st.Keyspace, st.Table = KindModify, c.table.Keyspace, c.table
	if st.Modify, err = c.modify(s); err != nil {
		return err
	}
	st.Conditional = st.Modify.Conditional()
	st.PartitionKeyBinds = c.partitionKeyBinds()
	return nil
}

func (c *compiler) compileTruncate(st *Statement, s *cql.Truncate) error {
	t, err := c.env.findTable(s.Table)
	if err != nil {
		return err
	}
	st.Kind, st.Keyspace, st.Table = KindTruncate, t.Keyspace, t
	return nil
}
