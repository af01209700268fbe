package exec

import (
	"context"

	"github.com/cespare/xxhash/v2"

	"github.com/helenusdb/helenus/cql"
	"github.com/helenusdb/helenus/cql/plan"
	"github.com/helenusdb/helenus/cql/protocol"
)

const (
	inlineTextMax = 64 << 10 // bytes of CQL that are parsed on the connection's goroutine
	cachedTextMax = 4 << 10  // bytes of a QUERY text that is kept
)

// runQuery decodes a QUERY and starts it.
func (o *op) runQuery(body []byte) {
	o.x.metrics.RegularStatements.Add(1)
	if err := protocol.DecodeQuery(o.version, o.keep(body), &o.query); err != nil {
		o.fail(err)
		return
	}
	o.params = &o.query.QueryParams
	if err := o.takeKeyspace(o.params.Keyspace); err != nil {
		o.fail(err)
		return
	}
	if len(o.query.Query) > inlineTextMax {
		o.apart = true
		o.later(&o.x.heavy, func(_ context.Context, o *op) { o.compileQuery() })
		return
	}
	o.compileQuery()
}

// compileQuery compiles, binds and dispatches.
func (o *op) compileQuery() {
	s, err := o.x.statement(o.keyspace, o.query.Query)
	if err != nil {
		o.fail(err)
		return
	}
	if !o.compile(s, false) {
		return
	}
	if err := o.bindQuery(); err != nil {
		o.fail(err)
		return
	}
	o.mode = protocol.FullMetadata
	if o.params.SkipMetadata() && !o.compiled.Conditional {
		o.mode = protocol.SkipMetadata
	}
	o.dispatch()
}

// statement returns the statement of a QUERY text, from the cache if it is there.
func (x *Executor) statement(keyspace string, text []byte) (*stmt, error) {
	key := xxhash.Sum64(text) ^ xxhash.Sum64String(keyspace)*31
	if s := x.statements.get(key); s != nil && s.text == string(text) && s.keyspace == keyspace {
		x.metrics.StatementHits.Add(1)
		return s, nil
	}
	x.metrics.StatementMisses.Add(1)
	s, err := x.newStatement(keyspace, string(text))
	if err != nil {
		return nil, err
	}
	if worthKeeping(s) {
		x.statements.put(key, s)
	}
	return s, nil
}

// worthKeeping reports whether a QUERY text is likely to come again: it has bind variables, or is a SELECT, as drivers
// and health checks repeat them. Writes with constants are not.
func worthKeeping(s *stmt) bool {
	if len(s.text) > cachedTextMax {
		return false
	}
	return len(s.ast.Markers()) > 0 || s.current.Load().Kind == plan.KindSelect
}

// newStatement parses and compiles a text.
func (x *Executor) newStatement(keyspace, text string) (*stmt, error) {
	ast, err := cql.Parse(text)
	if err != nil {
		return nil, err
	}
	return x.compileText(keyspace, text, ast)
}

func (x *Executor) compileText(keyspace, text string, ast cql.Statement) (*stmt, error) {
	c, err := compile(ast, x.o.Schema.Current().Catalog, keyspace)
	if err != nil {
		return nil, err
	}
	of, qualified := keyspace, cql.FullyQualified(ast)
	if qualified {
		of = ""
	}
	s := &stmt{id: protocol.ComputeStatementID(of, text), text: text, keyspace: keyspace, qualified: qualified, ast: ast, size: sizeOf(text, len(c.binds.Columns()))}
	if c.result != nil {
		s.first = c.result.ID()
	}
	s.current.Store(c)
	return s, nil
}
