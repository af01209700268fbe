package exec

import (
	"sync/atomic"

	"github.com/helenusdb/helenus/cql"
	"github.com/helenusdb/helenus/cql/plan"
	"github.com/helenusdb/helenus/cql/protocol"
	"github.com/helenusdb/helenus/schema"
)

// stmt is a statement that is kept to be executed again: prepared, or the text of a QUERY. All fields but the last three
// are immutable.
type stmt struct {
	id        protocol.StatementID // names the statement in paging states too
	text      string
	keyspace  string // in which names without a keyspace are looked up; "" when there is none
	qualified bool   // every name has its keyspace
	ast       cql.Statement
	size      int64
	first     protocol.MetadataID // of the result's columns when it was prepared

	current atomic.Pointer[compiled]
	used    atomic.Bool // looked up since the hand of the clock passed
	dropped atomic.Bool
}

// compiled is a statement compiled against one catalog. It is immutable.
type compiled struct {
	*plan.Statement
	catalog *schema.Catalog
	tables  []*schema.Table // of the statement, or of each statement of a batch
	binds   *protocol.Specs
	result  *protocol.Specs // nil: no rows
}

// counter reports whether the statement, or each of a batch, writes to a counter table.
func (c *compiled) counter() bool { return len(c.tables) > 0 && c.tables[0].Counter() }

// sizeOf estimates what a statement takes in memory, with so many bind markers: measured with statements of 3 to 60 columns, and of 10 to 10,000
// markers in an IN.
func sizeOf(text string, markers int) int64 {
	return 3<<10 + 24*int64(len(text)) + markerSize*int64(markers)
}

const markerSize = 256

// compile compiles a statement against a catalog. Errors: *plan.Error and those of package cql.
func compile(ast cql.Statement, catalog *schema.Catalog, keyspace string) (*compiled, error) {
	st, err := plan.Compile(ast, plan.Env{Catalog: catalog, Keyspace: keyspace})
	if err != nil {
		return nil, err
	}
	c := &compiled{Statement: st, catalog: catalog, binds: protocol.NewSpecs(st.Binds)}
	if st.Result != nil {
		c.result = protocol.NewSpecs(st.Result)
	}
	if st.Table != nil {
		c.tables = append(c.tables, st.Table)
	}
	cql.TableNames(ast, func(n cql.QualifiedName) {
		ks := n.Keyspace.Name
		if ks == "" {
			ks = keyspace
		}
		if t, ok := catalog.Table(ks, n.Name.Name); ok && t != st.Table {
			c.tables = append(c.tables, t)
		}
	})
	return c, nil
}

// fresh returns s compiled against the catalog: what it has, or compiled again. affected says that the columns of a
// table changed or that it is gone, so that clients must not go on with what they know about the statement.
func (s *stmt) fresh(catalog *schema.Catalog) (c *compiled, affected bool, err error) {
	c = s.current.Load()
	if c.catalog == catalog {
		return c, false, nil
	}
	same := true
	for _, t := range c.tables {
		now, ok := catalog.Table(t.Keyspace, t.Name)
		if !ok || affects(t, now) {
			affected = true
		}
		same = same && now == t
	}
	if same && c.Kind != plan.KindDDL && c.Kind != plan.KindDescribe {
		next := *c
		next.catalog = catalog
		s.current.Store(&next)
		return &next, false, nil
	}
	next, err := compile(s.ast, catalog, s.keyspace)
	if err != nil {
		return nil, true, err
	}
	s.current.Store(next)
	return next, affected, nil
}

// affects reports whether statements prepared on a table have to be prepared again, as Cassandra decides it
// (TableMetadata.changeAffectsPreparedStatements).
func affects(before, after *schema.Table) bool {
	if before == after {
		return false
	}
	if before.ID != after.ID || before.Options.DefaultTTL != after.Options.DefaultTTL || before.Options.GCGraceSeconds != after.Options.GCGraceSeconds {
		return true
	}
	a, b := before.AllColumns(), after.AllColumns()
	if len(a) != len(b) {
		return true
	}
	for i := range a {
		if a[i].ID != b[i].ID || a[i].Name != b[i].Name || a[i].Kind != b[i].Kind || a[i].Desc != b[i].Desc || !a[i].Type.Equal(b[i].Type) {
			return true
		}
	}
	return false
}
