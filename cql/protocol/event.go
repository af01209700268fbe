package protocol

import (
	"net/netip"
	"strings"
)

// EventType is what a client can register for.
type EventType uint8

// The types of event.
const (
	TopologyChange EventType = iota
	StatusChange
	SchemaChange
)

var eventTypeNames = [...]string{"TOPOLOGY_CHANGE", "STATUS_CHANGE", "SCHEMA_CHANGE"}

// String returns the name on the wire.
func (t EventType) String() string {
	if int(t) < len(eventTypeNames) {
		return eventTypeNames[t]
	}
	return "UNKNOWN"
}

func parseEventType(name []byte) (EventType, bool) {
	for i, s := range eventTypeNames {
		if len(name) == len(s) && strings.EqualFold(string(name), s) {
			return EventType(i), true
		}
	}
	return 0, false
}

// EventSet is a set of event types; its zero value is empty.
type EventSet uint8

// With returns s with t in it.
func (s EventSet) With(t EventType) EventSet { return s | 1<<t }

// Has reports whether t is in s.
func (s EventSet) Has(t EventType) bool { return s&(1<<t) != 0 }

// Changes, targets and states as they stand on the wire.
const (
	NewNode     = "NEW_NODE"
	RemovedNode = "REMOVED_NODE"
	MovedNode   = "MOVED_NODE" // it has other tokens; no specification has it, and Cassandra sends it

	StatusUp   = "UP"
	StatusDown = "DOWN"

	Created = "CREATED"
	Updated = "UPDATED"
	Dropped = "DROPPED"

	TargetKeyspace  = "KEYSPACE"
	TargetTable     = "TABLE"
	TargetType      = "TYPE"
	TargetFunction  = "FUNCTION"
	TargetAggregate = "AGGREGATE"
)

// Event is the content of an EVENT, and with Type SchemaChange that of a RESULT Schema_change.
type Event struct {
	Type   EventType
	Change string // NewNode, RemovedNode, MovedNode | StatusUp, StatusDown | Created, Updated, Dropped

	Addr netip.AddrPort // topology and status change: the node's native address

	// Schema change.
	Target   string   // TargetKeyspace, ...; "" never
	Keyspace string   //
	Name     string   // of the table, type, function or aggregate; "" for a keyspace
	Args     []string // function and aggregate: CQL names of the argument types
}

// EventStream is the stream id that events carry.
const EventStream int16 = -1

// AppendEvent appends a whole EVENT envelope.
func AppendEvent(dst []byte, v Version, e *Event) []byte {
	dst, mark := BeginFrame(dst, v, OpEvent, EventStream, 0)
	dst = AppendString(dst, e.Type.String())
	if e.Type == SchemaChange {
		return EndFrame(appendSchemaChange(dst, v, e), mark)
	}
	dst = AppendInet(AppendString(dst, e.Change), e.Addr)
	return EndFrame(dst, mark)
}

// AppendSchemaChangeResult appends the body of a RESULT Schema_change.
func AppendSchemaChangeResult(dst []byte, v Version, e *Event) []byte {
	return appendSchemaChange(appendI32(dst, int(ResultSchemaChange)), v, e)
}

// appendSchemaChange appends <change_type><target><options>. v3 knows no functions and
// aggregates: there, Cassandra calls such a change an update of the keyspace.
func appendSchemaChange(dst []byte, v Version, e *Event) []byte {
	change, target := e.Change, e.Target
	callable := target == TargetFunction || target == TargetAggregate
	if callable && v < V4 {
		change, target, callable = Updated, TargetKeyspace, false
	}
	dst = AppendString(dst, change)
	dst = AppendString(dst, target)
	dst = AppendString(dst, e.Keyspace)
	if target != TargetKeyspace {
		dst = AppendString(dst, e.Name)
	}
	if callable {
		dst = AppendStringList(dst, e.Args)
	}
	return dst
}

// DecodeEvent decodes the body of an EVENT. Error: *Error.
func DecodeEvent(body []byte) (Event, error) {
	c := cursor{rest: body}
	name := c.stringBytes()
	t, ok := parseEventType(name)
	if !ok && c.err == nil {
		c.fail("Invalid value '%s' for Type", name[:min(len(name), 256)])
	}
	if t == SchemaChange {
		return c.schemaChange(), c.error()
	}
	return Event{Type: t, Change: c.string(), Addr: c.inet()}, c.error()
}

func (c *cursor) schemaChange() Event {
	e := Event{Type: SchemaChange, Change: c.string(), Target: c.string(), Keyspace: c.string()}
	if e.Target != TargetKeyspace {
		e.Name = c.string()
	}
	if e.Target == TargetFunction || e.Target == TargetAggregate {
		e.Args = c.stringList()
	}
	return e
}
