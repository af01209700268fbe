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
		}
	}
	if s.Type == cql.CounterBatch && len(b.Statements) > 0 { // there are no counter tables yet
		return invalid("Cannot include non-counter statement in a counter batch")
	}
	st.PartitionKeyBinds = b.partitionKeyBinds(c.binds)
	if s.Using.Timestamp != nil {
		var err error
		c.table = st.Table
		b.timestamp, err = c.batchTimestamp(s.Using.Timestamp)
		return err
	}
	return nil
}

// partitionKeyBinds returns for each component of the partition key the last slot that stands for it in any statement, as
// Cassandra does; nil when the statements are about several tables or a component has none.
func (b *Batch) partitionKeyBinds(binds []Bind) []uint16 {
	if len(b.Statements) == 0 {
		return nil
	}
	t := b.Statements[0].table
	for _, m := range b.Statements {
		if m.table != t {
			return nil
		}
	}
	out := make([]uint16, len(t.PartitionKey))
	for i, col := range t.PartitionKey {
		slot := -1
		for j := range binds {
			if binds[j].Name == col.Name {
				slot = j
			}
		}
		if slot < 0 {
			return nil
		}
		out[i] = uint16(slot)
	}
	return out
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
