package plan

import (
	"math"

	"github.com/helenusdb/helenus/cql"
	"github.com/helenusdb/helenus/cql/protocol"
	"github.com/helenusdb/helenus/cql/types"
	"github.com/helenusdb/helenus/row"
	"github.com/helenusdb/helenus/schema"
)

// Counter reports whether the statement writes to a counter table: increments, which a leader replica has to turn into what
// is stored, and deletions.
func (m *Modify) Counter() bool { return m.table.Counter() }

// checkCounter refuses what writes to counter tables cannot say.
func (m *Modify) checkCounter() error {
	switch {
	case !m.table.Counter():
	case m.timestamp != nil:
		return invalid("Cannot provide custom timestamp for counter updates")
	case m.ttl != nil:
		return invalid("Cannot provide custom TTL for counter updates")
	}
	return nil
}

// countOperation compiles col = col + value and col = col - value of a counter.
func (c *compiler) countOperation(a *cql.Assignment, col *schema.Column) (*operation, error) {
	v, err := c.term(a.Value, columnReceiver(col))
	if err != nil {
		return nil, err
	}
	if a.Kind == cql.AssignSubtract {
		return newOperation(opCountDown, col, v), nil
	}
	return newOperation(opCount, col, v), nil
}

// appendCounter adds what o does to its counter: the deletion of all there is, or an increment.
func (b *Buffer) appendCounter(sc *scope, w *writeAttrs, o *operation) error {
	if o.kind == opDelete {
		b.row.ComplexDeletion(o.col.ID, row.CounterDeletion(w.now))
		return nil
	}
	v, err := o.eval(sc)
	switch {
	case err != nil:
		return err
	case v.State == protocol.Unset:
		return nil
	case v.State == protocol.Null:
		return invalid("Invalid null value for counter increment")
	}
	n, err := types.DecodeBigint(v.Bytes)
	if err != nil {
		return marshalError(err)
	}
	if o.kind == opCountDown {
		if n == math.MinInt64 {
			return invalid("The negation of %d overflows supported counter precision (signed 8 bytes integer)", n)
		}
		n = -n
	}
	var path, count [8]byte
	b.row.Cell(row.Cell{Column: o.col.ID, Path: row.AppendIncrementPath(path[:0], b.increments), Timestamp: w.ts,
		Value: row.AppendCount(count[:0], n)})
	b.increments++
	return nil
}

// setCounter puts the sum of a counter's shards into its slot.
func (w *RowWriter) setCounter(r *row.Reader, ref *slotRef) {
	sum, clock, ok := r.Counter()
	if !ok {
		w.view.clear(ref.slot)
		return
	}
	at := len(w.mem.buf)
	w.view.vals[ref.slot] = w.mem.take(row.AppendCount(w.mem.buf, sum), at)
	if w.s.slots.meta[ref.slot] {
		m := &w.view.meta[ref.slot]
		m.cells = append(m.cells[:0], row.Cell{Column: r.Column, Timestamp: clock, Value: w.view.vals[ref.slot]})
	}
}

// CheckCounters refuses what a batch may not mix, in Cassandra's words and order: counters says that a statement is about a counter
// table, others that one is not.
func CheckCounters(kind cql.BatchType, counters, others bool) error {
	switch {
	case kind == cql.CounterBatch && others:
		return invalid("Cannot include non-counter statement in a counter batch")
	case counters && others:
		return invalid("Counter and non-counter mutations cannot exist in the same batch")
	case kind == cql.LoggedBatch && counters:
		return invalid("Cannot include a counter statement in a logged batch")
	}
	return nil
}
