package exec

import (
	"github.com/helenusdb/helenus/coordinator"
	"github.com/helenusdb/helenus/cql/plan"
	"github.com/helenusdb/helenus/cql/protocol"
)

// bindPrepared gives the statement its values.
func (o *op) bindPrepared() error {
	if err := o.order(); err != nil {
		return err
	}
	if want, got := len(o.compiled.Binds), len(o.args.Values); want != got {
		return invalid("there were %d markers(?) in CQL but %d bound variables", want, got)
	}
	return nil
}

// bindQuery is bindPrepared with the words of a QUERY.
func (o *op) bindQuery() error {
	if err := o.order(); err != nil {
		return err
	}
	if len(o.compiled.Binds) != len(o.args.Values) {
		return invalid("Invalid amount of bind variables")
	}
	return nil
}

// order puts the values into the order of the statement's slots.
func (o *op) order() error {
	p := o.params
	o.args.Values = p.Values
	if err := o.checkPage(); err != nil {
		return err
	}
	if len(p.Names) == 0 {
		return nil
	}
	o.named = o.named[:0]
	for i := range o.compiled.Binds {
		for j, name := range p.Names {
			if string(name) == o.compiled.Binds[i].Name {
				o.named = append(o.named, p.Values[j])
				break
			}
		}
	}
	o.args.Values = o.named
	return nil
}

// checkLevel refuses consistency levels that the statement cannot have.
func (o *op) checkLevel() error {
	level := o.params.Consistency
	if level == protocol.NodeLocal {
		return invalid("NODE_LOCAL consistency level is highly dangerous and should be used only for debugging purposes")
	}
	return o.checkLevelOf(level)
}

func (o *op) checkLevelOf(level protocol.Consistency) error {
	switch o.compiled.Kind {
	case plan.KindSelect:
		if level == protocol.Any {
			return invalid("ANY ConsistencyLevel is only supported for writes")
		}
	case plan.KindModify:
		if o.compiled.Modify.Counter() {
			return checkCounterLevel(level, o.compiled.Table.Name)
		}
		if level.IsSerial() && !o.compiled.Conditional {
			return invalid("You must use conditional updates for serializable writes")
		}
	}
	return nil
}

// checkCounterLevel refuses what single writes to counter tables cannot have. As in Cassandra, batches of them can.
func checkCounterLevel(level protocol.Consistency, table string) error {
	switch {
	case level == protocol.Any:
		return invalid("Consistency level ANY is not yet supported for counter table %s", table)
	case level.IsSerial():
		return invalid("Counter operations are inherently non-serializable")
	}
	return nil
}

// refuseWrite returns why a write may not go on, nil when it may.
func (x *Executor) refuseWrite(o *op) error {
	if x.o.FailWritesTo == "" {
		return nil
	}
	for _, t := range o.compiled.tables {
		if t.Keyspace == x.o.FailWritesTo {
			return &coordinator.WriteFailure{Level: coordinator.Level(o.params.Consistency), BlockFor: 1, Type: coordinator.Simple,
				Failures: []coordinator.Failure{{Addr: x.o.Native.Addr(), Code: coordinator.ReasonUnknown}}}
		}
	}
	return nil
}

// writeLevel is the level that a write, or a scan, asks replicas for. A batch or a scan may come at a serial level, which
// then means what it means for the reads of lightweight transactions.
func (o *op) writeLevel() coordinator.Level {
	switch level := o.params.Consistency; level {
	case protocol.Serial:
		return coordinator.Quorum
	case protocol.LocalSerial:
		return coordinator.LocalQuorum
	default:
		return coordinator.Level(level)
	}
}

// takeKeyspace makes the keyspace of the request (v5) the one in which names are looked up.
func (o *op) takeKeyspace(keyspace []byte) error {
	if keyspace == nil {
		return nil
	}
	o.keyspace = string(keyspace)
	return checkKeyspace(o.x.o.Schema.Current().Catalog, o.keyspace)
}

// checkPage refuses pages of no rows.
func (o *op) checkPage() error {
	if o.params.Flags&protocol.QueryPageSize != 0 && o.params.PageSize == 0 {
		return errPageSize
	}
	return nil
}

var errPageSize = protocol.Errorf(protocol.CodeProtocol, "The page size cannot be 0")
