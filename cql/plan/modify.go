package plan

import (
	"slices"

	"github.com/helenusdb/helenus/cql"
	"github.com/helenusdb/helenus/cql/protocol"
	"github.com/helenusdb/helenus/cql/types"
	"github.com/helenusdb/helenus/ring"
	"github.com/helenusdb/helenus/schema"
)

// Modify is a compiled INSERT, UPDATE or DELETE. It is immutable and safe for concurrent use.
type Modify struct {
	table *schema.Table
	part  ring.Partitioner
	typ   statementType
	where *where

	regular, static []*operation // by ascending column id
	timestamp, ttl  term
	rows            bool // rows are written or deleted, not only the static one
	reads           bool
	ifs             ifClause
}

// Table returns the table that is written to.
func (m *Modify) Table() *schema.Table { return m.table }

// HasTimestamp reports whether the statement says USING TIMESTAMP.
func (m *Modify) HasTimestamp() bool { return m.timestamp != nil }

// ReadsFirst reports whether the statement needs what is stored (list elements by index or value): run ReadCommands, put
// the pages into Args.Read, then call Mutations.
func (m *Modify) ReadsFirst() bool { return m.reads }

// Among reports whether the statement names rows by IN.
func (m *Modify) Among() bool { return m.where.among() }

// Many reports whether IN names so many rows that to make their mutations is no small thing.
func (m *Modify) Many(a *Args) bool { return m.where.many(a) }

func (c *compiler) modify(s cql.Statement) (*Modify, error) {
	if err := c.modifiable(); err != nil {
		return nil, err
	}
	switch s := s.(type) {
	case *cql.Insert:
		return c.insert(s)
	case *cql.Update:
		return c.update(s)
	default:
		return c.delete(s.(*cql.Delete))
	}
}

// modifiable refuses tables that cannot be written to.
func (c *compiler) modifiable() error {
	switch {
	case c.table.VirtualSchema:
		return invalid("Modification is not supported by table %s.%s", c.table.Keyspace, c.table.Name)
	case c.table.Virtual:
		return &Error{Code: protocol.CodeUnauthorized, Msg: c.table.Keyspace + " keyspace is not user-modifiable."}
	}
	for _, col := range c.table.AllColumns() {
		if col.Type.Kind == types.KindVector {
			return notYet("vectors")
		}
	}
	return nil
}

func (c *compiler) newModify(typ statementType) *Modify {
	return &Modify{table: c.table, part: c.env.Partitioner, typ: typ}
}

func (c *compiler) insert(s *cql.Insert) (*Modify, error) {
	if c.table.Counter() {
		return nil, invalid("INSERT statements are not allowed on counter tables, use UPDATE instead")
	}
	m := c.newModify(typeInsert)
	if err := c.using(m, &s.Using); err != nil {
		return nil, err
	}
	if s.IfNotExists {
		m.ifs.kind = ifNotExists
	}
	if s.JSON != nil {
		return nil, notYet("INSERT JSON")
	}
	if len(s.Columns) != len(s.Values) {
		return nil, invalid("Unmatched column names/values")
	}
	var rels []cql.Relation
	var ops []*operation
	seen := map[string]bool{}
	clustered := false
	for _, id := range s.Columns {
		if seen[id.Name] {
			return nil, invalid("The column names contains duplicates")
		}
		seen[id.Name] = true
	}
	for i, id := range s.Columns {
		col, err := c.column(id)
		if err != nil {
			return nil, err
		}
		clustered = clustered || col.Kind == schema.KindClustering
		if col.Kind.Key() {
			rels = append(rels, cql.Relation{Column: id, Op: cql.Eq, Value: s.Values[i]})
			continue
		}
		o, err := c.setColumn(col, s.Values[i])
		if err != nil {
			return nil, err
		}
		ops = append(ops, o)
	}
	return m, c.finishModify(m, ops, rels, !clustered)
}

func (c *compiler) update(s *cql.Update) (*Modify, error) {
	m := c.newModify(typeUpdate)
	if err := c.using(m, &s.Using); err != nil {
		return nil, err
	}
	if err := c.ifClause(m, s.IfExists, s.Conditions, m.timestamp != nil); err != nil {
		return nil, err
	}
	var ops []*operation
	for i := range s.Set {
		col, err := c.column(s.Set[i].Column)
		if err != nil {
			return nil, err
		}
		if col.Kind.Key() {
			return nil, invalid("PRIMARY KEY part %s found in SET part", cql.QuoteIdent(col.Name))
		}
		o, err := c.assignment(&s.Set[i], col, m.Conditional())
		if err != nil {
			return nil, err
		}
		ops = append(ops, o)
	}
	return m, c.finishModify(m, ops, s.Where, true)
}

func (c *compiler) delete(s *cql.Delete) (*Modify, error) {
	m := c.newModify(typeDelete)
	if err := c.using(m, &s.Using); err != nil {
		return nil, err
	}
	if err := c.ifClause(m, s.IfExists, s.Conditions, m.timestamp != nil); err != nil {
		return nil, err
	}
	var ops []*operation
	for i := range s.Columns {
		col, err := c.column(s.Columns[i].Column)
		if err != nil {
			return nil, err
		}
		if col.Kind.Key() {
			return nil, invalid("Invalid identifier %s for deletion (should not be a PRIMARY KEY part)", cql.QuoteIdent(col.Name))
		}
		o, err := c.deletion(&s.Columns[i], col)
		if err != nil {
			return nil, err
		}
		if o.kind == opDelete && slices.ContainsFunc(ops, func(p *operation) bool { return p.kind == opDelete && p.col == col }) {
			continue // named twice
		}
		ops = append(ops, o)
	}
	return m, c.finishModify(m, ops, s.Where, true)
}

// using compiles USING TIMESTAMP and TTL.
func (c *compiler) using(m *Modify, u *cql.Using) error {
	var err error
	if u.Timestamp != nil {
		if m.timestamp, err = c.term(u.Timestamp, receive("[timestamp]", types.Bigint)); err != nil {
			return err
		}
	}
	if u.TTL != nil {
		m.ttl, err = c.term(u.TTL, receive("[ttl]", types.Int))
	}
	return err
}

// finishModify compiles the WHERE clause and sorts the operations. unclustered says that no clustering column would be needed if
// all operations were about static columns.
func (c *compiler) finishModify(m *Modify, ops []*operation, rels []cql.Relation, unclustered bool) error {
	for _, o := range ops {
		m.reads = m.reads || o.reads()
		if o.col.Kind == schema.KindStatic {
			m.static = append(m.static, o)
		} else {
			m.regular = append(m.regular, o)
		}
	}
	byID := func(a, b *operation) int { return int(a.col.ID) - int(b.col.ID) }
	slices.SortStableFunc(m.regular, byID)
	slices.SortStableFunc(m.static, byID)
	var err error
	m.where, err = c.where(rels, whereOptions{
		typ:        m.typ,
		onlyStatic: unclustered && !(m.Conditional() && m.deletesRows()) && len(m.regular)+len(m.ifs.regular) == 0 && len(m.static)+len(m.ifs.static) > 0,
	})
	if err != nil {
		return err
	}
	m.rows = len(c.table.Clustering) == 0 || len(m.where.clustering) > 0
	if err := c.checkConditional(m); err != nil {
		return err
	}
	return m.checkCounter()
}

// keyspaceOf returns the keyspace of a name, which may come from USE.
func (env *Env) keyspaceOf(n cql.QualifiedName) (string, error) {
	switch {
	case n.Qualified():
		return n.Keyspace.Name, nil
	case env.Keyspace != "":
		return env.Keyspace, nil
	}
	return "", invalid("No keyspace has been specified. USE a keyspace, or explicitly specify keyspace.tablename")
}

func (env *Env) findTable(n cql.QualifiedName) (*schema.Table, error) {
	ks, err := env.keyspaceOf(n)
	if err != nil {
		return nil, err
	}
	if _, ok := env.Catalog.Keyspace(ks); !ok {
		return nil, invalid("keyspace %s does not exist", ks)
	}
	t, ok := env.Catalog.Table(ks, n.Name.Name)
	if !ok {
		return nil, invalid("table %s does not exist", n.Name.Name)
	}
	return t, nil
}
