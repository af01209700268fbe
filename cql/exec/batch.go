package exec

import (
	"context"
	"slices"

	"github.com/helenusdb/helenus/coordinator"
	"github.com/helenusdb/helenus/cql"
	"github.com/helenusdb/helenus/cql/plan"
	"github.com/helenusdb/helenus/cql/protocol"
	"github.com/helenusdb/helenus/row"
)

// batchItem is one statement of a BATCH.
type batchItem struct {
	c      *compiled
	values []protocol.Value
}

// runBatch decodes a BATCH and starts it.
func (o *op) runBatch(body []byte) {
	o.x.metrics.Batches.Add(1)
	if err := protocol.DecodeBatch(o.version, o.keep(body), &o.batch); err != nil {
		o.fail(err)
		return
	}
	o.params = &o.batch.QueryParams
	if err := o.takeKeyspace(o.params.Keyspace); err != nil {
		o.fail(err)
		return
	}
	if o.traced || len(body) > inlineTextMax {
		o.apart = true
		o.later(&o.x.heavy, func(_ context.Context, o *op) {
			o.beginTrace("Execute batch of CQL3 queries", "")
			o.batchItems()
		})
		return
	}
	o.batchItems()
}

// batchItems compiles the statements of a BATCH and runs it.
func (o *op) batchItems() {
	reads := false
	for i := range o.batch.Statements {
		item, err := o.batchItem(&o.batch.Statements[i])
		if err != nil {
			o.fail(err)
			return
		}
		reads = reads || item.c.Modify.ReadsFirst()
		o.items = append(o.items, item)
		o.warnings = append(o.warnings, item.c.Warnings...)
	}
	o.compiled = o.batchOf()
	if err := o.checkBatch(); err != nil {
		o.fail(err)
		return
	}
	o.setArgs()
	o.x.metrics.Writes.Add(1)
	if o.compiled.Conditional {
		o.later(&o.x.cas, runConditional)
		return
	}
	if reads || o.apart {
		o.later(&o.x.heavy, runBatchApart)
		return
	}
	o.x.metrics.Inline.Add(1)
	muts, err := o.batchMutations(context.Background())
	if err != nil {
		o.fail(err)
		return
	}
	o.startWrite(muts, o.kind)
}

// batchOf returns a statement that stands for the whole BATCH.
func (o *op) batchOf() *compiled {
	c := &compiled{Statement: &plan.Statement{Kind: plan.KindBatch}}
	for _, item := range o.items {
		c.Conditional = c.Conditional || item.c.Conditional
		if !slices.Contains(c.tables, item.c.Table) {
			c.tables = append(c.tables, item.c.Table)
		}
	}
	return c
}

// batchItem compiles one statement.
func (o *op) batchItem(b *protocol.BatchStatement) (batchItem, error) {
	c, err := o.batchCompiled(b)
	if err != nil {
		return batchItem{}, err
	}
	if c.Kind != plan.KindModify {
		return batchItem{}, invalid("Invalid statement in batch: only UPDATE, INSERT and DELETE statements are allowed.")
	}
	if len(c.Binds) != len(b.Values) {
		return batchItem{}, invalid("There were %d markers(?) in CQL but %d bound variables", len(c.Binds), len(b.Values))
	}
	return batchItem{c, b.Values}, nil
}

func (o *op) batchCompiled(b *protocol.BatchStatement) (*compiled, error) {
	if !b.Prepared {
		s, err := o.x.statement(o.keyspace, b.Query)
		if err != nil {
			return nil, err
		}
		c, _, err := s.fresh(o.x.o.Schema.Current().Catalog)
		return c, err
	}
	s := o.x.lookup(b.ID)
	if s == nil {
		o.x.metrics.PreparedMissed.Add(1)
		return nil, unpreparedError(b.ID)
	}
	c, affected, err := s.fresh(o.x.o.Schema.Current().Catalog)
	if affected || err != nil {
		o.x.prepared.drop(s.id, s)
		o.x.metrics.PreparedDropped.Add(1)
		return nil, unpreparedError(b.ID)
	}
	return c, nil
}

// checkBatch refuses what a BATCH cannot be.
func (o *op) checkBatch() error {
	if len(o.items) == 0 {
		return nil
	}
	counters, others := false, false
	for _, item := range o.items {
		counters, others = counters || item.c.Modify.Counter(), others || !item.c.Modify.Counter()
	}
	if err := plan.CheckCounters(cql.BatchType(o.batch.Type), counters, others); err != nil {
		return err
	}
	if o.compiled.Conditional {
		var list []*plan.Modify
		for i := range o.items {
			list = append(list, o.items[i].c.Modify)
		}
		if err := plan.CheckBatch(list, false); err != nil {
			return err
		}
	}
	return o.checkLevel()
}

// batchMutations makes the mutations of a BATCH or of BEGIN BATCH, checks their sizes and sets the write type.
func (o *op) batchMutations(ctx context.Context) ([]row.Mutation, error) {
	logged := o.batch.Type == protocol.BatchLogged
	var muts []row.Mutation
	if b := o.compiled.Batch; b != nil {
		logged = protocol.BatchType(b.Type) == protocol.BatchLogged
		var err error
		if muts, err = o.cqlBatchMutations(ctx, b); err != nil {
			return nil, err
		}
	} else {
		o.buf.Reset()
		for i := range o.items {
			o.args.Values = o.items[i].values
			if err := o.appendModify(ctx, o.items[i].c.Modify); err != nil {
				return nil, err
			}
		}
		muts = o.buf.Mutations()
	}
	return muts, o.checkMutations(muts, logged)
}

// appendModify appends the mutations of one statement, which may have to read first.
func (o *op) appendModify(ctx context.Context, m *plan.Modify) error {
	o.args.Read = nil
	if m.ReadsFirst() {
		if err := o.readFirst(ctx, m); err != nil {
			return err
		}
	}
	return m.AppendMutations(&o.buf, &o.args)
}

// dispatchBatch runs BEGIN BATCH.
func (o *op) dispatchBatch() {
	o.x.metrics.Writes.Add(1)
	if o.compiled.Conditional {
		o.later(&o.x.cas, runConditional)
		return
	}
	reads := slices.ContainsFunc(o.compiled.Batch.Statements, (*plan.Modify).ReadsFirst)
	if o.traced || o.apart || reads {
		o.later(&o.x.heavy, runBatchApart)
		return
	}
	o.x.metrics.Inline.Add(1)
	muts, err := o.batchMutations(context.Background())
	if err != nil {
		o.fail(err)
		return
	}
	o.startWrite(muts, o.kind)
}

// runBatchApart runs a batch on a goroutine of its own.
func runBatchApart(ctx context.Context, o *op) {
	o.beginTrace("Execute CQL3 query", o.text())
	muts, err := o.batchMutations(ctx)
	if err == nil {
		err = o.writeSync(ctx, muts, o.kind)
	}
	o.finish(err, o.x.void.b)
}

// writeSync writes and waits.
func (o *op) writeSync(ctx context.Context, muts []row.Mutation, kind coordinator.WriteType) error {
	if len(muts) == 0 {
		return nil
	}
	if err := o.x.refuseWrite(o); err != nil {
		return err
	}
	w := coordinator.Write{Mutations: muts, Type: kind, Level: o.writeLevel(), Trace: o.trace}
	return o.x.o.Coordinator.WriteSync(ctx, &w)
}
