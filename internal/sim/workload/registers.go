package workload

import (
	"context"
	"fmt"
	"time"

	"github.com/helenusdb/helenus/cql/protocol"
	"github.com/helenusdb/helenus/internal/sim/check"
)

// registers writes and reads single cells: columns, and elements of maps.
type registers struct {
	base
	server bool // the coordinators give the timestamps
	logs   []registerLog
}

// registerLog is what one client did.
type registerLog struct {
	writes []check.Write
	reads  []check.Read
}

const tieEvery = 2 * time.Second // timestamps on this grid, the next ones to come, are given more than once

// NewRegisters returns the workload of single cells.
func NewRegisters(o Options) Workload { return &registers{base: newBase("registers", o)} }

// Setup implements Workload.
func (r *registers) Setup(ctx context.Context, env Env) error {
	r.server = env.Features().ServerTimestamps
	return r.setup(ctx, env, "CREATE TABLE IF NOT EXISTS %s.r (k text PRIMARY KEY, v text)",
		"CREATE TABLE IF NOT EXISTS %s.s (k text PRIMARY KEY, m map<text, text>)")
}

// Run implements Workload.
func (r *registers) Run(ctx context.Context, _ Env) error {
	r.logs = make([]registerLog, r.o.Clients)
	return r.run(ctx, func(ctx context.Context, w *worker) {
		log := &r.logs[w.id]
		switch n := w.rnd.IntN(20); {
		case n < 7:
			r.write(ctx, w, log)
		case n < 14:
			r.read(ctx, w, log)
		case n < 19:
			r.writeElement(ctx, w, log)
		default:
			r.readElements(ctx, w, log)
		}
	})
}

func (r *registers) key(n int) string { return fmt.Sprintf("k%d", n) }

func (r *registers) write(ctx context.Context, w *worker, log *registerLog) {
	op, node, key, level := w.next(), w.node(), r.key(w.rnd.IntN(r.o.Keys)), w.level(true)
	c := check.Write{Op: op, Register: key, Value: fmt.Sprintf("v%d", op), TS: r.timestamp(w), Node: node, Level: level.String(),
		Acks: r.acks(level, node)}
	q := request{level: level, ts: c.TS}
	switch w.rnd.IntN(10) {
	case 0:
		c.Delete, c.Value = true, ""
		q.text, q.values = "DELETE v FROM "+r.keyspace+".r WHERE k = ?", []protocol.Value{text(key)}
	default:
		q.text, q.values = "UPDATE "+r.keyspace+".r SET v = ? WHERE k = ?", []protocol.Value{text(c.Value), text(key)}
	}
	c.Call = now(r.env)
	_, err := w.ask(ctx, op, node, &q, key+" = "+c.Value)
	c.Return, c.Outcome = now(r.env), outcomeOf(err)
	log.writes = append(log.writes, c)
}

// timestamp draws one: mostly new, sometimes one of the past or one that others may give as well.
func (r *registers) timestamp(w *worker) int64 {
	if r.server {
		return 0
	}
	switch w.rnd.IntN(12) {
	case 0, 1:
		return r.env.Now().Truncate(tieEvery).Add(tieEvery).UnixMicro()
	case 2:
		return w.timestamp() - w.rnd.Int64N(1000)*clientsMax*16
	}
	return w.timestamp()
}

func (r *registers) query(key string, level protocol.Consistency) *request {
	return &request{text: "SELECT v, writetime(v) FROM " + r.keyspace + ".r WHERE k = ?", values: []protocol.Value{text(key)}, level: level}
}

func (r *registers) read(ctx context.Context, w *worker, log *registerLog) {
	op, node, key, level := w.next(), w.node(), r.key(w.rnd.IntN(r.o.Keys)), w.level(false)
	c := check.Read{Op: op, Register: key, Node: node, Level: level.String(), Acks: r.acks(level, node), Call: now(r.env)}
	a, err := w.ask(ctx, op, node, r.query(key, level), "read "+key)
	if err != nil {
		return
	}
	c.Return = now(r.env)
	log.reads = append(log.reads, fill(c, a))
}

// fill adds what the answer says.
func fill(c check.Read, a *answer) check.Read {
	if c.Null = len(a.rows) == 0 || a.rows[0][0] == nil; !c.Null {
		c.Value, c.TS = string(a.rows[0][0]), number(a.rows[0][1])
	}
	return c
}

// Verify implements Workload.
func (r *registers) Verify(ctx context.Context, env Env) []check.Violation {
	w := r.verifier()
	defer w.client.close()
	h := check.Registers{Topology: r.topology, Start: r.start, Skew: r.o.Skew}
	for i := range r.logs {
		h.Writes, h.Reads = append(h.Writes, r.logs[i].writes...), append(h.Reads, r.logs[i].reads...)
	}
	for n := range r.o.Keys {
		h.Reads = append(h.Reads, r.settled(ctx, w, r.key(n))...)
	}
	h.Reads = append(h.Reads, r.settledElements(ctx, w)...)
	members := env.Members()
	replicas := make([]check.Replica, len(members))
	for i, node := range members {
		for n := range r.o.Keys {
			r.atOne(ctx, w, node, r.key(n), r.query(r.key(n), protocol.One), &replicas[i])
		}
	}
	sortRows(replicas)
	found := append(r.found, h.Check()...)
	found = append(found, check.Converged(r.keyspace+".r", replicas)...)
	found = append(found, r.convergedElements(ctx, w, members)...)
	found = append(found, w.quiet(ctx, r.keyspace+".s", elementKey(0), r.elementsQuery(elementKey(0), protocol.All))...)
	return append(found, w.quiet(ctx, r.keyspace+".r", r.key(0), r.query(r.key(0), protocol.All))...)
}

// atOne adds what one node says about a key.
func (r *registers) atOne(ctx context.Context, w *worker, node int, key string, q *request, to *check.Replica) {
	to.Name = fmt.Sprintf("node %d", node)
	if a := w.mustAt(ctx, "a read at ONE", node, q); a != nil && len(a.rows) > 0 {
		to.Rows = append(to.Rows, check.ReplicaRow{Key: key, Content: content(a.rows[0])})
	}
}

// settled reads a key at ALL.
func (r *registers) settled(ctx context.Context, w *worker, key string) []check.Read {
	c := check.Read{Op: w.next(), Register: key, Node: -1, Level: "ALL (settled)", Acks: check.Acks{All: r.topology.RF, In: r.topology.In}, Settled: true, Call: now(r.env)}
	a := w.must(ctx, "a read at ALL", r.query(key, protocol.All))
	if a == nil {
		return nil
	}
	c.Return = now(r.env)
	return []check.Read{fill(c, a)}
}
