package exec

import (
	"context"

	"github.com/helenusdb/helenus/coordinator"
	"github.com/helenusdb/helenus/cql/plan"
	"github.com/helenusdb/helenus/cql/protocol"
	"github.com/helenusdb/helenus/row"
)

// finish answers with a RESULT, or with the error if there is one.
func (o *op) finish(err error, body []byte) {
	if err != nil {
		o.fail(err)
		return
	}
	o.answer(body)
}

// text returns the statement's text, for traces.
func (o *op) text() string {
	if o.stmt == nil {
		return ""
	}
	return o.stmt.text
}

// runModify runs an INSERT, UPDATE or DELETE that is traced or that reads first.
func runModify(ctx context.Context, o *op) {
	o.beginTrace(o.requestName(), o.text())
	o.buf.Reset()
	err := o.appendModify(ctx, o.compiled.Modify)
	if err == nil {
		muts := o.buf.Mutations()
		err = o.writeSync(ctx, muts, o.writeType(len(muts)))
	}
	o.finish(err, o.x.void.b)
}

// requestName is how Cassandra's traces name the request.
func (o *op) requestName() string {
	if o.params == &o.execute.QueryParams {
		return "Execute CQL3 prepared query"
	}
	return "Execute CQL3 query"
}

// readFirst reads what a list operation needs, at the level of the write, as Cassandra does.
func (o *op) readFirst(ctx context.Context, m *plan.Modify) error {
	level := o.params.Consistency
	if level == protocol.Any {
		return invalid("Write operation require a read but consistency %s is not supported on reads", level)
	}
	var buf plan.Buffer
	cmds, err := m.ReadCommands(&buf, &o.args)
	if err != nil {
		return err
	}
	o.args.Read = make([]*plan.ReadPage, len(cmds))
	for i := range cmds {
		r := coordinator.Read{Command: cmds[i], Level: coordinator.Level(level), Trace: o.trace}
		if err := o.x.o.Coordinator.ReadPage(ctx, &r); err != nil {
			return err
		}
		o.args.Read[i] = &r.Page
	}
	return nil
}

// cqlBatchMutations makes the mutations of BEGIN BATCH.
func (o *op) cqlBatchMutations(ctx context.Context, b *plan.Batch) ([]row.Mutation, error) {
	o.args.Read = nil
	for _, m := range b.Statements {
		if m.ReadsFirst() {
			all := o.args.Read
			if err := o.readFirst(ctx, m); err != nil {
				return nil, err
			}
			o.args.Read = append(all, o.args.Read...)
		}
	}
	return b.Mutations(&o.buf, &o.args)
}

// reader answers commands, blocking.
type reader struct {
	o    *op
	read coordinator.Read
	scan coordinator.Scan
	page row.Page // of virtual tables
}

// next returns the answer to a command; it is valid until the next call.
func (r *reader) next(ctx context.Context, cmd *row.Command) (*row.Page, error) {
	o, level := r.o, coordinator.Level(r.o.params.Consistency)
	t := o.compiled.Table
	switch {
	case t.Virtual:
		return &r.page, o.x.o.System.Read(t, cmd, &r.page)
	case cmd.Range != nil:
		o.scanned = true
		r.scan.Command, r.scan.Level, r.scan.Trace = *cmd, o.writeLevel(), o.trace
		return &r.scan.Page, o.x.o.Coordinator.ScanPage(ctx, &r.scan)
	}
	r.read.Command, r.read.Level, r.read.Trace = *cmd, level, o.trace
	if o.params.Consistency.IsSerial() {
		return &r.read.Page, o.x.o.Consensus.SerialRead(ctx, &r.read)
	}
	return &r.read.Page, o.x.o.Coordinator.ReadPage(ctx, &r.read)
}

// runSelect runs a SELECT, or one page of it.
func runSelect(ctx context.Context, o *op) {
	o.beginTrace(o.requestName(), o.text())
	err := o.selectPage(ctx)
	o.finish(err, o.out)
}

// roomStep is how many bytes of an answer that is being built are counted at a time.
const roomStep = 1 << 20

// selectPage builds the body of the answer in o.out.
func (o *op) selectPage(ctx context.Context) error {
	page := o.page()
	if o.params.PagingState != nil {
		if err := o.openState(o.params.PagingState, &o.resume); err != nil {
			return err
		}
		page.Resume = &o.resume
	}
	acc, err := o.compiled.Select.Access(&o.buf, &o.args)
	if err != nil {
		return err
	}
	if err := o.writer.Begin(o.compiled.Select, &o.args, acc, page); err != nil {
		return err
	}
	if len(acc.Commands) > 1 && o.params.Consistency.IsSerial() && !o.compiled.Table.Virtual {
		return invalid("SERIAL/LOCAL_SERIAL consistency may only be requested for one partition at a time")
	}
	dst, mark := protocol.BeginRows(o.out[:0], o.version, o.compiled.result, o.mode)
	r := reader{o: o}
	room := roomStep // of dst; the first of it is free
	defer r.scan.Close()
	for cmd := o.writer.Next(); cmd != nil; cmd = o.writer.Next() {
		if ctx.Err() != nil {
			return errStopping
		}
		if o.s.closed.Load() {
			return errGone
		}
		answer, err := r.next(ctx, cmd)
		if err != nil {
			return err
		}
		if dst, err = o.writer.Add(dst, answer); err != nil {
			return err
		}
		if len(dst) > o.x.o.Limits.ResultBytes {
			return invalid("The result is larger than %d bytes: ask for it in pages", o.x.o.Limits.ResultBytes)
		}
		for ; len(dst) > room; room += roomStep {
			if full := o.r.Room(roomStep); full != nil {
				return full
			}
		}
	}
	if dst, err = o.writer.Finish(dst); err != nil {
		return err
	}
	var state []byte
	if st, more := o.writer.More(); more {
		state = o.sealState(&st)
	}
	o.out = protocol.EndRows(dst, mark, o.writer.Rows(), state)
	return nil
}

// rowsOf builds the body of a result that is made here: rows of values, nil being null.
func (o *op) rowsOf(columns []protocol.Column, rows [][][]byte, state []byte) []byte {
	specs, mode := protocol.NewSpecs(columns), protocol.FullMetadata
	if o.params == &o.execute.QueryParams {
		mode = protocol.ModeFor(o.version, &o.execute, specs.ID(), protocol.EmptyMetadataID(), false)
	}
	dst, mark := protocol.BeginRows(o.out[:0], o.version, specs, mode)
	for _, r := range rows {
		dst = appendRow(dst, r)
	}
	o.out = protocol.EndRows(dst, mark, len(rows), state)
	return o.out
}
