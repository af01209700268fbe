package plan

import (
	"github.com/helenusdb/helenus/cql"
	"github.com/helenusdb/helenus/cql/types"
	"github.com/helenusdb/helenus/row"
	"github.com/helenusdb/helenus/schema"
)

// Batch is a compiled BEGIN BATCH ... APPLY BATCH. A BATCH message of the protocol is run by AppendMutations of each of its
// statements into one Buffer.
type Batch struct {
	Type       cql.BatchType
	Statements []*Modify
	timestamp  term
}

// ReadsFirst reports whether a statement of the batch does; see Modify.ReadsFirst.
func (b *Batch) ReadsFirst() bool {
	for _, m := range b.Statements {
		if m.reads {
			return true
		}
	}
	return false
}

// Mutations returns the writes of all statements, those of one partition next to one another. Errors are *Error.
func (b *Batch) Mutations(buf *Buffer, a *Args) ([]row.Mutation, error) {
	buf.Reset()
	args := *a
	if b.timestamp != nil {
		m := Modify{table: b.Statements[0].table, timestamp: b.timestamp, typ: typeDelete}
		w, err := m.attributes(buf.begin(a))
		if err != nil {
			return nil, err
		}
		args.Timestamp = w.ts
	}
	for _, m := range b.Statements {
		if err := m.AppendMutations(buf, &args); err != nil {
			return nil, err
		}
		if m.reads {
			args.Read = args.Read[min(len(buf.keys), len(args.Read)):]
		}
	}
	return buf.Mutations(), nil
}

func (c *compiler) compileBatch(st *Statement, s *cql.Batch) error {
	b := &Batch{Type: s.Type}
	st.Kind, st.Batch = KindBatch, b
	if s.Using.TTL != nil {
		return invalid("Global TTL on the BATCH statement is not supported.")
	}
	if s.Using.Timestamp != nil && s.Type == cql.CounterBatch {
		return invalid("Cannot provide custom timestamp for counter BATCH")
	}
	several, twice := false, false // tables; timestamps
	counters, others := false, false
	for _, sub := range s.Statements {
		m, err := c.batchStatement(sub)
		if err != nil {
			return err
		}
		twice = twice || s.Using.Timestamp != nil && m.timestamp != nil
		b.Statements = append(b.Statements, m)
		if st.Table == nil {
			st.Keyspace, st.Table = m.table.Keyspace, m.table
		}
		several = several || m.table != st.Table
		counters, others = counters || m.Counter(), others || !m.Counter()
	}
	st.Conditional = Conditional(b.Statements)
	if err := CheckBatch(b.Statements, s.Using.Timestamp != nil); err != nil {
		return err
	}
	switch {
	case twice:
		return invalid("Timestamp must be set either on BATCH or individual statements")
	case s.Using.Timestamp != nil && counters:
		return invalid("Cannot provide custom timestamp for a BATCH containing counters")
	}
	if err := CheckCounters(s.Type, counters, others); err != nil {
		return err
	}
	if !several {
		st.PartitionKeyBinds = c.partitionKeyBinds() // the last slot of any statement, as in Cassandra
	}
	if s.Using.Timestamp == nil {
		return nil
	}
	var err error
	c.table = &schema.Table{Keyspace: "[batch]", Name: "[batch]"}
	b.timestamp, err = c.term(s.Using.Timestamp, receive("[timestamp]", types.Bigint))
	return err
}

func (c *compiler) batchStatement(s cql.Statement) (*Modify, error) {
	var name cql.QualifiedName
	switch s := s.(type) {
	case *cql.Insert:
		name = s.Table
	case *cql.Update:
		name = s.Table
	case *cql.Delete:
		name = s.Table
	}
	var err error
	if c.table, err = c.env.findTable(name); err != nil {
		return nil, err
	}
	return c.modify(s)
}
