package exec

import (
	"context"

	"github.com/helenusdb/helenus/coordinator"
	"github.com/helenusdb/helenus/cql/plan"
	"github.com/helenusdb/helenus/cql/protocol"
	"github.com/helenusdb/helenus/ring"
	"github.com/helenusdb/helenus/schema"
)

// Consensus decides conditional writes and reads what they decided; *coordinator.Coordinator does.
type Consensus interface {
	// CAS carries out a conditional write and reports whether it was applied. With an error it may be applied all the same.
	CAS(ctx context.Context, op *coordinator.CAS) (applied bool, err error)
	// SerialRead reads one partition linearizably.
	SerialRead(ctx context.Context, r *coordinator.Read) error
}

// runConditional runs an INSERT, UPDATE, DELETE or batch that has conditions.
func runConditional(ctx context.Context, o *op) {
	name := o.requestName()
	if o.params == &o.batch.QueryParams {
		name = "Execute batch of CQL3 queries"
	}
	o.beginTrace(name, o.text())
	body, err := o.conditional(ctx)
	o.finish(err, body)
}

// conditional runs the write and returns the body of the answer.
func (o *op) conditional(ctx context.Context) ([]byte, error) {
	c, err := o.casPlan()
	if err != nil {
		return nil, err
	}
	if err := o.checkSerial(c.Table()); err != nil {
		return nil, err
	}
	if err := o.x.refuseWrite(o); err != nil {
		return nil, err
	}
	op := &coordinator.CAS{Command: c.Command(), Serial: coordinator.Level(o.params.SerialConsistency),
		Commit: coordinator.Level(o.params.Consistency), Trace: o.trace, Decide: c.Decide}
	applied, err := o.x.o.Consensus.CAS(ctx, op)
	if err != nil {
		o.refs.Add(1) // never pooled again: a replica may yet be told of what aliases this op
		return nil, err
	}
	if applied {
		return o.fullRows([]protocol.Column{plan.Applied(c.Table())}, [][][]byte{{{1}}}), nil
	}
	columns, rows, err := c.Result(&op.Page)
	if err != nil {
		return nil, err
	}
	return o.fullRows(columns, rows), nil
}

// casPlan binds the statements.
func (o *op) casPlan() (*plan.CAS, error) {
	switch {
	case o.params == &o.batch.QueryParams:
		c := plan.NewCAS(true)
		for i := range o.items {
			o.args.Values = o.items[i].values
			if err := c.Add(o.items[i].c.Modify, &o.args); err != nil {
				return nil, err
			}
		}
		return c, nil
	case o.compiled.Batch != nil:
		c := plan.NewCAS(true)
		for _, m := range o.compiled.Batch.Statements {
			if err := c.Add(m, &o.args); err != nil {
				return nil, err
			}
		}
		return c, nil
	}
	c := plan.NewCAS(false)
	return c, c.Add(o.compiled.Modify, &o.args)
}

// checkSerial refuses levels that a conditional write cannot have.
func (o *op) checkSerial(t *schema.Table) error {
	level := o.params.Consistency
	switch {
	case !o.params.SerialConsistency.IsSerial():
		return invalid("Invalid consistency for conditional update. Must be one of SERIAL or LOCAL_SERIAL")
	case level.IsSerial():
		return invalid("%s is not supported as conditional update commit consistency. Use ANY if you mean \"make sure it is accepted but I don't care "+
			"how many replicas commit it for non-SERIAL reads\"", level)
	case level == protocol.EachQuorum:
		ks, ok := o.x.o.Schema.Current().Catalog.Keyspace(t.Keyspace)
		if ok && ks.Strategy.Class != ring.NetworkTopologyStrategy {
			return invalid("consistency level EACH_QUORUM not compatible with replication strategy (%s)", ks.Strategy.ClassName())
		}
	}
	return nil
}

// fullRows builds the body of a result whose columns no client can know beforehand. Only a QUERY can do without them.
func (o *op) fullRows(columns []protocol.Column, rows [][][]byte) []byte {
	mode := protocol.FullMetadata
	if o.params == &o.query.QueryParams && o.params.SkipMetadata() {
		mode = protocol.SkipMetadata
	}
	dst, mark := protocol.BeginRows(o.out[:0], o.version, protocol.NewSpecs(columns), mode)
	for _, r := range rows {
		dst = appendRow(dst, r)
	}
	o.out = protocol.EndRows(dst, mark, len(rows), nil)
	return o.out
}

// appendRow appends values, nil being null.
func appendRow(dst []byte, values [][]byte) []byte {
	for _, v := range values {
		if v == nil {
			dst = protocol.AppendNull(dst)
		} else {
			dst = protocol.AppendValue(dst, v)
		}
	}
	return dst
}
