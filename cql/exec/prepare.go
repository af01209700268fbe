package exec

import (
	"context"
	"encoding/hex"
	"fmt"

	"github.com/helenusdb/helenus/cql"
	"github.com/helenusdb/helenus/cql/protocol"
)

// runPrepare answers a PREPARE.
func (o *op) runPrepare(body []byte) {
	var p protocol.Prepare
	if err := protocol.DecodePrepare(o.version, o.keep(body), &p); err != nil {
		o.fail(err)
		return
	}
	own := p.Keyspace != nil
	if err := o.takeKeyspace(p.Keyspace); err != nil {
		o.fail(err)
		return
	}
	text := string(p.Query)
	if o.traced || len(text) > inlineTextMax {
		o.later(&o.x.heavy, func(_ context.Context, o *op) {
			o.beginTrace("Preparing CQL3 query", text)
			o.trace.Event("Preparing statement")
			o.prepare(text, own)
		})
		return
	}
	o.prepare(text, own)
}

func (o *op) prepare(text string, own bool) {
	s, err := o.x.prepareText(o, text, own)
	if err != nil {
		o.fail(err)
		return
	}
	c := s.current.Load()
	result := c.result
	if c.Conditional {
		result = nil
	}
	o.answer(protocol.AppendPrepared(nil, o.version, s.id, c.binds, c.PartitionKeyBinds, result))
}

// prepareText returns the prepared statement of a text, made when it is not held.
func (x *Executor) prepareText(o *op, text string, own bool) (*stmt, error) {
	ast, err := cql.Parse(text)
	if err != nil {
		return nil, err
	}
	qualified := cql.FullyQualified(ast)
	of := o.keyspace
	if qualified {
		of = ""
	}
	id := protocol.ComputeStatementID(of, text)
	if s := x.prepared.get(id); s != nil {
		if _, affected, err := s.fresh(x.o.Schema.Current().Catalog); err == nil && !affected {
			return s, nil
		}
		x.prepared.drop(id, s)
		x.metrics.PreparedDropped.Add(1)
	}
	s, err := x.compileText(o.keyspace, text, ast)
	if err != nil {
		return nil, err
	}
	if s.size > x.prepared.largest() { // as it would have to be prepared again for each execution
		return nil, invalid("Prepared statement of size %d bytes is larger than allowed maximum of %d MB: %s...", s.size, x.prepared.largest()>>20, text[:min(len(text), 200)])
	}
	if !qualified && o.keyspace != "" && (own || !o.s.warned.Swap(true)) {
		o.warn(useWarning(o.keyspace, o.keyspace, id))
	}
	x.metrics.PreparedEvicted.Add(int64(x.prepared.put(id, s)))
	return s, nil
}

// warnUse warns once on a connection of a statement that was prepared in another keyspace than the one in use.
func (o *op) warnUse() {
	if o.stmt.qualified || o.stmt.keyspace == o.keyspace || o.s.warned.Swap(true) {
		return
	}
	used := o.keyspace
	if used == "" {
		used = "null"
	}
	o.warn(useWarning(used, o.stmt.keyspace, o.stmt.id))
}

func useWarning(used, keyspace string, id protocol.StatementID) string {
	return fmt.Sprintf("`USE <keyspace>` with prepared statements is considered to be an anti-pattern due to ambiguity in non-qualified table names. "+
		"Please consider removing instances of `Session#setKeyspace(<keyspace>)`, `Session#execute(\"USE <keyspace>\")` and `cluster.newSession(<keyspace>)` "+
		"from your code, and always use fully qualified table names (e.g. <keyspace>.<table>). Keyspace used: %s, statement keyspace: %s, statement id: %s",
		used, keyspace, hex.EncodeToString(id[:]))
}
