package workload

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/helenusdb/helenus/cql/protocol"
	"github.com/helenusdb/helenus/internal/sim/check"
)

// batches writes the same value to all rows of a group: rows of one partition, in one table or in two, or, logged, of several
// partitions.
type batches struct {
	base
	logged, server bool
	groups         []batchGroup
	writes         [][]check.Batch // by client
	views          [][]check.BatchView
}

// batchGroup is the set of rows that its batches write.
type batchGroup struct {
	kind  groupKind
	name  string
	parts []string
}

type groupKind uint8

const (
	onePartition groupKind = iota // rows of a partition
	twoTables                     // one partition key in two tables: one mutation, two reads
	manyKeys                      // several partitions: a logged batch
)

const (
	batchRows   = 3
	batchKeys   = 4
	manyPerKind = 6 // groups of several partitions for each other group: each is written rarely, so that nothing hides a half
)

// NewBatches returns the workload of batches.
func NewBatches(o Options) Workload { return &batches{base: newBase("batches", o)} }

// Setup implements Workload.
func (b *batches) Setup(ctx context.Context, env Env) error {
	b.logged, b.server = env.Features().LoggedBatches, env.Features().ServerTimestamps
	for n := range b.o.Keys {
		b.addGroup(onePartition, fmt.Sprintf("one%d", n), batchRows)
		b.addGroup(twoTables, fmt.Sprintf("two%d", n), 2)
		for m := 0; b.logged && m < manyPerKind; m++ {
			b.addGroup(manyKeys, fmt.Sprintf("many%d", n*manyPerKind+m), batchKeys)
		}
	}
	return b.setup(ctx, env, "CREATE TABLE IF NOT EXISTS %s.b (p text, c bigint, v text, w text, PRIMARY KEY (p, c))",
		"CREATE TABLE IF NOT EXISTS %s.other (p text PRIMARY KEY, v text)")
}

func (b *batches) addGroup(kind groupKind, name string, parts int) {
	g := batchGroup{kind: kind, name: name}
	for i := range parts {
		g.parts = append(g.parts, fmt.Sprintf("%s/%d", name, i))
	}
	b.groups = append(b.groups, g)
}

// Run implements Workload.
func (b *batches) Run(ctx context.Context, _ Env) error {
	b.writes, b.views = make([][]check.Batch, b.o.Clients), make([][]check.BatchView, b.o.Clients)
	return b.run(ctx, func(ctx context.Context, w *worker) {
		g := &b.groups[w.rnd.IntN(len(b.groups))]
		if w.rnd.IntN(5) < 3 {
			b.write(ctx, w, g)
			return
		}
		node, level := w.node(), w.level(false)
		if v, ok := b.view(ctx, w, g, func(op int, r *request) *answer {
			r.level = level
			a, err := w.ask(ctx, op, node, r, "read "+g.name)
			if err != nil {
				return nil
			}
			return a
		}); ok {
			b.views[w.id] = append(b.views[w.id], v)
		}
	})
}

func (b *batches) write(ctx context.Context, w *worker, g *batchGroup) {
	op, node := w.next(), w.node()
	c := check.Batch{Op: op, Value: fmt.Sprintf("v%d", op), Parts: g.parts, Node: node}
	if !b.server {
		c.TS = w.timestamp()
	}
	r := request{level: w.level(true), ts: c.TS, batch: protocol.BatchLogged}
	if g.kind != manyKeys && w.rnd.IntN(2) == 0 {
		r.batch = protocol.BatchUnlogged
	}
	for i := range g.parts {
		r.statements = append(r.statements, b.statement(g, i, c.Value))
	}
	c.Call = now(b.env)
	_, err := w.ask(ctx, op, node, &r, "batch "+g.name+" = "+c.Value)
	c.Return, c.Outcome = now(b.env), outcomeOf(err)
	b.writes[w.id] = append(b.writes[w.id], c)
}

// statement writes part i.
func (b *batches) statement(g *batchGroup, i int, value string) protocol.BatchStatement {
	key, c := g.place(i)
	if g.kind == twoTables && i == 1 {
		return protocol.BatchStatement{Query: []byte("INSERT INTO " + b.keyspace + ".other (p, v) VALUES (?, ?)"), Values: []protocol.Value{text(key), text(value)}}
	}
	return protocol.BatchStatement{Query: []byte("UPDATE " + b.keyspace + ".b SET v = ?, w = ? WHERE p = ? AND c = ?"),
		Values: []protocol.Value{text(value), text(value), text(key), bigint(c)}}
}

// place returns the partition and the row of part i.
func (g *batchGroup) place(i int) (key string, c int64) {
	switch g.kind {
	case onePartition:
		return g.name, int64(i)
	case twoTables:
		return g.name, 0
	}
	return g.parts[i], 0
}

// view reads all parts of a group; do asks. False: it could not be read.
func (b *batches) view(_ context.Context, w *worker, g *batchGroup, do func(op int, r *request) *answer) (check.BatchView, bool) {
	v := check.BatchView{Op: w.next(), Parts: g.parts, Values: make([]string, len(g.parts)), Stamps: make([]int64, len(g.parts)), Atomic: g.kind == onePartition, Call: now(b.env)}
	for i := range g.parts {
		key, c := g.place(i)
		r := request{text: "SELECT c, v, w, writetime(v) AS at FROM " + b.keyspace + ".b WHERE p = ?", values: []protocol.Value{text(key)}}
		switch {
		case g.kind == onePartition && i > 0:
			continue
		case g.kind == twoTables && i == 1:
			r.text = "SELECT v, v AS w, writetime(v) AS at FROM " + b.keyspace + ".other WHERE p = ?"
		case g.kind != onePartition:
			r.text, r.values = r.text+" AND c = ?", append(r.values, bigint(c))
		}
		a := do(v.Op, &r)
		if a == nil {
			return v, false
		}
		for n := range a.rows {
			at := i
			if g.kind == onePartition {
				at = int(number(a.value(n, "c"))) % len(g.parts)
			}
			v.Values[at], v.Stamps[at] = both(a.value(n, "v"), a.value(n, "w")), number(a.value(n, "at"))
		}
	}
	v.Return = now(b.env)
	return v, true
}

// both returns the value of two cells that are always written together.
func both(v, w []byte) string {
	if string(v) != string(w) {
		return string(v) + " and " + string(w)
	}
	return string(v)
}

// Verify implements Workload.
func (b *batches) Verify(ctx context.Context, _ Env) []check.Violation {
	w := b.verifier()
	defer w.client.close()
	h := check.Batches{Start: b.start, Skew: b.o.Skew}
	for i := range b.writes {
		h.Writes, h.Views = append(h.Writes, b.writes[i]...), append(h.Views, b.views[i]...)
	}
	if b.logged {
		sleep(ctx, replayAfter)
	}
	members := b.env.Members()
	replicas := make([]check.Replica, len(members))
	for i := range b.groups {
		g := &b.groups[i]
		if v, ok := b.settled(ctx, w, g); ok {
			h.Views = append(h.Views, v)
		}
		for i, node := range members {
			b.atOne(ctx, w, g, node, &replicas[i])
		}
	}
	sortRows(replicas)
	found := append(b.found, h.Check()...)
	return append(found, check.Converged(b.keyspace, replicas)...)
}

const (
	replayAfter = 40 * time.Second // in which the batch log makes what it has
	replayTries = 24               // looks at a batch that is half, for the batch log to make the rest
	replayWait  = 5 * time.Second
)

// settled reads a group at ALL, when the batch log has had its time.
func (b *batches) settled(ctx context.Context, w *worker, g *batchGroup) (v check.BatchView, ok bool) {
	for range replayTries {
		v, ok = b.view(ctx, w, g, func(_ int, r *request) *answer {
			r.level = protocol.All
			return w.must(ctx, "a read at ALL", r)
		})
		if !ok || whole(v.Values) || !sleep(ctx, replayWait) {
			break
		}
	}
	v.Settled = true
	return v, ok
}

func whole(values []string) bool {
	return !slices.ContainsFunc(values, func(v string) bool { return v != values[0] })
}

// atOne adds what one node says about a group.
func (b *batches) atOne(ctx context.Context, w *worker, g *batchGroup, node int, r *check.Replica) {
	r.Name = fmt.Sprintf("node %d", node)
	v, ok := b.view(ctx, w, g, func(_ int, q *request) *answer {
		q.level = protocol.One
		return w.mustAt(ctx, "a read at ONE", node, q)
	})
	for i := range v.Parts {
		if ok && v.Values[i] != "" {
			r.Rows = append(r.Rows, check.ReplicaRow{Key: v.Parts[i], Content: v.Values[i]})
		}
	}
}
