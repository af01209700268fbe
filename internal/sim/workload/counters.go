package workload

import (
	"context"
	"fmt"

	"github.com/helenusdb/helenus/cql/protocol"
	"github.com/helenusdb/helenus/internal/sim/check"
)

// counters increments and reads counters; those with an odd number are decremented too.
type counters struct {
	base
	adds  [][]check.Add // by client
	reads [][]check.CounterRead
}

// NewCounters returns the workload of counters.
func NewCounters(o Options) Workload { return &counters{base: newBase("counters", o)} }

// Setup implements Workload.
func (c *counters) Setup(ctx context.Context, env Env) error {
	return c.setup(ctx, env, "CREATE TABLE IF NOT EXISTS %s.c (k text PRIMARY KEY, n counter)")
}

// Run implements Workload.
func (c *counters) Run(ctx context.Context, _ Env) error {
	c.adds, c.reads = make([][]check.Add, c.o.Clients), make([][]check.CounterRead, c.o.Clients)
	return c.run(ctx, func(ctx context.Context, w *worker) {
		if w.rnd.IntN(3) < 2 {
			c.add(ctx, w)
		} else {
			c.read(ctx, w)
		}
	})
}

func counterName(n int) string { return fmt.Sprintf("c%d", n) }

// add changes one counter, or two in a batch.
func (c *counters) add(ctx context.Context, w *worker) {
	op, node, level := w.next(), w.node(), w.level(true)
	if level == protocol.Any { // not for counters
		level = protocol.One
	}
	r := request{level: level, batch: protocol.BatchCounter}
	n := w.rnd.IntN(c.o.Keys)
	adds := []check.Add{c.draw(w, n)}
	if w.rnd.IntN(6) == 0 && c.o.Keys > 1 {
		adds = append(adds, c.draw(w, (n+1)%c.o.Keys))
	}
	for i := range adds {
		r.statements = append(r.statements, protocol.BatchStatement{Query: []byte("UPDATE " + c.keyspace + ".c SET n = n + ? WHERE k = ?"),
			Values: []protocol.Value{bigint(adds[i].Delta), text(adds[i].Counter)}})
	}
	if len(adds) == 1 {
		r.text, r.values, r.statements = string(r.statements[0].Query), r.statements[0].Values, nil
	}
	call := now(c.env)
	_, err := w.ask(ctx, op, node, &r, fmt.Sprintf("%s += %d", adds[0].Counter, adds[0].Delta))
	for _, a := range adds {
		a.Op, a.Acks, a.Call, a.Return, a.Outcome = op, c.acks(level, node), call, now(c.env), outcomeOf(err)
		c.adds[w.id] = append(c.adds[w.id], a)
	}
}

func (c *counters) draw(w *worker, n int) check.Add {
	a := check.Add{Counter: counterName(n), Delta: 1 + w.rnd.Int64N(100)}
	if n%2 == 1 && w.rnd.IntN(2) == 0 {
		a.Delta = -a.Delta
	}
	return a
}

func (c *counters) query(n int, level protocol.Consistency) *request {
	return &request{text: "SELECT n FROM " + c.keyspace + ".c WHERE k = ?", values: []protocol.Value{text(counterName(n))}, level: level}
}

func (c *counters) read(ctx context.Context, w *worker) {
	op, node, level, n := w.next(), w.node(), w.level(false), w.rnd.IntN(c.o.Keys)
	r := check.CounterRead{Op: op, Counter: counterName(n), Node: node, Level: level.String(), Acks: c.acks(level, node), Call: now(c.env)}
	a, err := w.ask(ctx, op, node, c.query(n, level), "read "+r.Counter)
	if err != nil {
		return
	}
	r.Return, r.Value = now(c.env), counted(a)
	c.reads[w.id] = append(c.reads[w.id], r)
}

func counted(a *answer) int64 {
	if len(a.rows) == 0 {
		return 0
	}
	return number(a.rows[0][0])
}

// Verify implements Workload.
func (c *counters) Verify(ctx context.Context, env Env) []check.Violation {
	w := c.verifier()
	defer w.client.close()
	h := check.Counters{Topology: c.topology, Start: c.start}
	for i := range c.adds {
		h.Adds, h.Reads = append(h.Adds, c.adds[i]...), append(h.Reads, c.reads[i]...)
	}
	members := env.Members()
	replicas := make([]check.Replica, len(members))
	for n := range c.o.Keys {
		r := check.CounterRead{Op: w.next(), Counter: counterName(n), Node: -1, Level: "ALL (settled)", Settled: true, Call: now(env),
			Acks: check.Acks{All: c.topology.RF, In: c.topology.In}}
		if a := w.must(ctx, "a read at ALL", c.query(n, protocol.All)); a != nil {
			r.Return, r.Value = now(env), counted(a)
			h.Reads = append(h.Reads, r)
		}
		for i, node := range members {
			replicas[i].Name = fmt.Sprintf("node %d", node)
			if a := w.mustAt(ctx, "a read at ONE", node, c.query(n, protocol.One)); a != nil {
				replicas[i].Rows = append(replicas[i].Rows, check.ReplicaRow{Key: r.Counter, Content: fmt.Sprint(counted(a))})
			}
		}
	}
	found := append(c.found, h.Check()...)
	return append(found, check.Converged(c.keyspace+".c", replicas)...)
}
