package plan

import (
	"github.com/helenusdb/helenus/cql"
	"github.com/helenusdb/helenus/cql/types"
	"github.com/helenusdb/helenus/row"
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
		m := Modify{timestamp: b.timestamp, typ: typeDelete}
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
	if s.Type == cql.CounterBatch {
		return notYet("counters")
	}
	if s.Using.TTL != nil {
		return invalid("Global TTL on the BATCH statement is not supported.")
	}
	for _, sub := range s.Statements {
		m, err := c.batchStatement(sub)
		if err != nil {
			return err
		}
		if s.Using.Timestamp != nil && m.timestamp != nil {
			return invalid("Timestamp must be set either on BATCH or individual statements")
		}
		b.Statements = append(b.Statements, m)
		if st.Table == nil {
			st.Keyspace, st.Table = m.table.Keyspace, m.table
			st.PartitionKeyBinds = m.where.partitionKeyBinds()
		}
	}
	if s.Using.Timestamp != nil {
		var err error
		c.table = st.Table
		b.timestamp, err = c.batchTimestamp(s.Using.Timestamp)
		return err
	}
	return nil
}

func (c *compiler) batchTimestamp(t cql.Term) (term, error) {
	if m, ok := t.(*cql.Marker); ok && c.table == nil {
		c.binds[m.Index] = Bind{Name: "[timestamp]", Type: types.Bigint}
		return &bindTerm{slot: m.Index, typ: types.Bigint}, nil
	}
	return c.term(t, receiver{"[timestamp]", types.Bigint})
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
