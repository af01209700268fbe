package exec

import (
	"context"
	"encoding/binary"
	"fmt"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/helenusdb/helenus/coordinator"
	"github.com/helenusdb/helenus/cql"
	"github.com/helenusdb/helenus/cql/plan"
	"github.com/helenusdb/helenus/cql/protocol"
	"github.com/helenusdb/helenus/cql/types"
	"github.com/helenusdb/helenus/internal/trace"
	"github.com/helenusdb/helenus/schema"
)

const (
	traceTTL     = 24 * 60 * 60 // seconds that a trace is kept, as in Cassandra
	traceTimeout = 2 * time.Second
	traceValue   = 4 << 10 // bytes of a parameter that are shown
)

// tracer writes traces into system_traces, which every node of the cluster can be asked for.
type tracer struct {
	x       *Executor
	session *traceInsert
	event   *traceInsert
	late    chan lateEvents
}

// lateEvents are those of replicas that answered after the client had been answered.
type lateEvents struct {
	session *trace.Session
	events  []trace.Event
}

// traceLateMax is how many traces wait for their late events to be written; further events are lost.
const traceLateMax = 64

// traceInsert is an INSERT into one of the tables.
type traceInsert struct {
	text    string
	current atomic.Pointer[compiled]
}

func newTracer(x *Executor) *tracer {
	return &tracer{x: x, late: make(chan lateEvents, traceLateMax),
		session: &traceInsert{text: fmt.Sprintf("INSERT INTO system_traces.sessions (session_id, client, command, coordinator, coordinator_port, duration, "+
			"parameters, request, started_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) USING TTL %d", traceTTL)},
		event: &traceInsert{text: fmt.Sprintf("INSERT INTO system_traces.events (session_id, event_id, activity, source, source_elapsed, source_port, "+
			"thread) VALUES (?, ?, ?, ?, ?, ?, ?) USING TTL %d", traceTTL)}}
}

// beginTrace begins the trace of a request that asked for one; text is the statement, "" when there is none.
func (o *op) beginTrace(request, text string) {
	if !o.traced || o.trace != nil {
		return
	}
	o.trace = &trace.Session{ID: o.x.o.NewTimeUUID(), Client: o.s.info.Remote.Addr().Unmap(), Coordinator: o.x.o.Native, Request: request,
		Parameters: o.traceParameters(text), Started: o.x.o.Now()}
	if o.compiled != nil {
		o.trace.Event("Parsing %s", cut(text))
		o.trace.Event("Preparing statement")
	}
}

func cut(s string) string {
	if len(s) > traceValue {
		return s[:traceValue] + "..."
	}
	return s
}

func (o *op) traceParameters(text string) map[string]string {
	m := map[string]string{}
	if text != "" {
		m["query"] = cut(text)
	}
	if o.params == nil {
		return m
	}
	m["consistency_level"] = o.params.Consistency.String()
	m["serial_consistency_level"] = o.params.SerialConsistency.String()
	if n := o.pageSize(); n > 0 {
		m["page_size"] = fmt.Sprint(n)
	}
	if o.compiled == nil || o.compiled.Statement == nil {
		return m
	}
	for i := range min(len(o.compiled.Binds), len(o.args.Values)) {
		m[fmt.Sprintf("bound_var_%d_%s", i, o.compiled.Binds[i].Name)] = o.boundText(i, traceValue)
	}
	return m
}

// boundText shows a bound value in at most most bytes and "...".
func (o *op) boundText(i, most int) string {
	b, v := &o.compiled.Binds[i], &o.args.Values[i]
	if v.State != protocol.Set || b.Type.Validate(v.Bytes) != nil {
		return "null"
	}
	text := string(b.Type.AppendText(nil, v.Bytes))
	if len(text) > most {
		text = text[:most] + "..."
	}
	return text
}

// end writes the trace of a request that is about to be answered, if there is one, so that whoever reads it at once finds
// it complete. A trace that cannot be written is lost; the request is not.
func (t *tracer) end(o *op) {
	if o.trace == nil {
		return
	}
	s := o.trace
	events, _ := s.Finish(func(late []trace.Event) {
		select {
		case t.late <- lateEvents{s, late}:
		default:
		}
	})
	ctx, cancel := context.WithTimeout(context.Background(), traceTimeout)
	defer cancel()
	if err := t.write(ctx, s, events, true); err != nil {
		t.x.o.Logger.Warn("trace lost", "err", err)
	}
}

// run writes late events until ctx ends.
func (t *tracer) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case l := <-t.late:
			if err := t.write(ctx, l.session, l.events, false); err != nil {
				t.x.o.Logger.Warn("late events of a trace lost", "err", err)
			}
		}
	}
}

// write writes events, and the session itself when it is over.
func (t *tracer) write(ctx context.Context, s *trace.Session, events []trace.Event, over bool) error {
	var buf plan.Buffer
	buf.Reset()
	a := plan.Args{Now: t.x.o.Now().Unix(), Timestamp: t.x.o.Clock()}
	for i := range events {
		if err := t.insert(&buf, &a, t.event, t.eventValues(s, &events[i])); err != nil {
			return err
		}
	}
	if over {
		if err := t.insert(&buf, &a, t.session, sessionValues(s, t.x.o.Now().Sub(s.Started))); err != nil {
			return err
		}
	}
	w := coordinator.Write{Mutations: buf.Mutations(), Level: coordinator.Any, Type: coordinator.UnloggedBatch, Timeout: traceTimeout}
	return t.x.o.Coordinator.WriteSync(ctx, &w)
}

func (t *tracer) insert(buf *plan.Buffer, a *plan.Args, in *traceInsert, values [][]byte) error {
	c, err := in.compiled(t.x.o.Schema.Current().Catalog)
	if err != nil {
		return err
	}
	a.Values = make([]protocol.Value, len(values))
	for i, v := range values {
		a.Values[i] = protocol.Value{Bytes: v}
		if v == nil {
			a.Values[i].State = protocol.Null
		}
	}
	return c.Modify.AppendMutations(buf, a)
}

func (in *traceInsert) compiled(catalog *schema.Catalog) (*compiled, error) {
	if c := in.current.Load(); c != nil && c.catalog == catalog {
		return c, nil
	}
	ast, err := cql.Parse(in.text)
	if err != nil {
		return nil, err
	}
	c, err := compile(ast, catalog, "")
	if err == nil {
		in.current.Store(c)
	}
	return c, err
}

func sessionValues(s *trace.Session, took time.Duration) [][]byte {
	t := types.MapOf(types.Text, types.Text, false)
	var elems [][]byte
	for k, v := range s.Parameters {
		elems = append(elems, []byte(k), []byte(v))
	}
	t.SortElems(elems)
	return [][]byte{s.ID[:], address(s.Client), []byte("QUERY"), address(s.Coordinator.Addr()), int4(int(s.Coordinator.Port())),
		int4(int(max(took.Microseconds(), 1))), t.AppendCollection(nil, elems), []byte(s.Request), int8b(s.Started.UnixMilli())}
}

func (t *tracer) eventValues(s *trace.Session, e *trace.Event) [][]byte {
	return [][]byte{s.ID[:], eventID(t.x.o.NewTimeUUID(), e.At), []byte(e.Activity), address(e.Source.Addr()), int4(int(e.Elapsed.Microseconds())), int4(int(e.Source.Port())), []byte(e.Thread)}
}

// gregorian is the offset between the UUID epoch (1582-10-15) and the Unix epoch, in units of 100 ns.
const gregorian = 0x01B21DD213814000

// eventID returns a version 1 UUID of the time at, otherwise like id, whose time makes it unique: its clock sequence is
// taken from there.
func eventID(id [16]byte, at time.Time) []byte {
	seq := binary.BigEndian.Uint32(id[:]) // of the time: differs between the events of a trace
	n := uint64(at.UnixNano()/100) + gregorian
	binary.BigEndian.PutUint32(id[0:], uint32(n))
	binary.BigEndian.PutUint16(id[4:], uint16(n>>32))
	binary.BigEndian.PutUint16(id[6:], uint16(n>>48)&0x0fff|0x1000)
	binary.BigEndian.PutUint16(id[8:], uint16(seq)&0x3fff|0x8000)
	return id[:]
}

// address returns the value of an inet, nil for an address that is not known.
func address(a netip.Addr) []byte {
	if !a.IsValid() {
		return nil
	}
	return a.Unmap().AsSlice()
}

func int4(n int) []byte    { return binary.BigEndian.AppendUint32(nil, uint32(n)) }
func int8b(n int64) []byte { return binary.BigEndian.AppendUint64(nil, uint64(n)) }
