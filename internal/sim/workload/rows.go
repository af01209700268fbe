package workload

import (
	"context"
	"fmt"

	"github.com/helenusdb/helenus/cql/protocol"
	"github.com/helenusdb/helenus/internal/sim/check"
)

// rowSpace is a table of partitions of at most width rows, each of which is a register: a row is written by INSERT and deleted as a
// whole. It has a text and a map with that text alone, which must always agree.
type rowSpace struct {
	*base
	table string // qualified
	width int64
	ttl   bool
	logs  []registerLog
}

// rowTable is the definition of a row space's table, with its name and gc_grace.
func rowTable(name string, o *Options) string {
	return "CREATE TABLE IF NOT EXISTS %s." + name + " (p text, c bigint, v text, m map<text, text>, PRIMARY KEY (p, c)) WITH gc_grace_seconds = " +
		fmt.Sprint(int64(o.GCGrace.Seconds())) + " AND tombstone_gc = {'mode': 'timeout'}"
}

func partition(n int) string { return fmt.Sprintf("p%d", n) }

func rowName(p string, c int64) string { return fmt.Sprintf("%s/%04d", p, c) }

// names returns the registers of a partition in [from, to).
func names(p string, from, to int64) []string {
	var out []string
	for c := from; c < to; c++ {
		out = append(out, rowName(p, c))
	}
	return out
}

// seconds is the now of requests: true time, so that what expires when does not depend on the coordinator's clock.
func (s *rowSpace) seconds() int64 { return s.env.Now().Unix() }

// mutation is a write of rows: what it says, and what it does to which registers.
type mutation struct {
	text      string
	values    []protocol.Value
	registers []string
	value     string // "": a deletion
	expires   int64
}

// insert writes one row, sometimes one that expires.
func (s *rowSpace) insert(w *worker, op int, p string) mutation {
	c := w.rnd.Int64N(s.width)
	m := mutation{text: "INSERT INTO " + s.table + " (p, c, v, m) VALUES (?, ?, ?, ?)", value: fmt.Sprintf("v%d", op), registers: []string{rowName(p, c)}}
	m.values = []protocol.Value{text(p), bigint(c), text(m.value), mapOf(m.value)}
	if s.ttl && w.rnd.IntN(4) == 0 {
		ttl := 1 + w.rnd.Int32N(8)
		m.text += " USING TTL ?"
		m.values = append(m.values, integer(ttl))
		m.expires = s.seconds() + int64(ttl)
	}
	return m
}

// remove deletes a row, a range of rows or a partition.
func (s *rowSpace) remove(w *worker, p string) mutation {
	m := mutation{text: "DELETE FROM " + s.table + " WHERE p = ?", values: []protocol.Value{text(p)}}
	from, to := s.slice(w)
	switch w.rnd.IntN(8) {
	case 0:
		m.registers = names(p, 0, s.width)
	case 1, 2, 3:
		m.text += " AND c = ?"
		m.values, m.registers = append(m.values, bigint(from)), names(p, from, from+1)
	default:
		bound := s.bound(w, from, to)
		m.text += bound.text
		m.values, m.registers = append(m.values, bound.values...), names(p, from, to)
	}
	return m
}

// slice draws [from, to) within a partition.
func (s *rowSpace) slice(w *worker) (from, to int64) {
	from = w.rnd.Int64N(s.width)
	return from, from + 1 + w.rnd.Int64N(s.width-from)
}

// bound says [from, to) in one of the ways that CQL has; an end that is the partition's own may be left open.
func (s *rowSpace) bound(w *worker, from, to int64) (m mutation) {
	if from > 0 || w.rnd.IntN(2) == 0 {
		if w.rnd.IntN(2) == 0 {
			m.text, m.values = m.text+" AND c >= ?", append(m.values, bigint(from))
		} else {
			m.text, m.values = m.text+" AND c > ?", append(m.values, bigint(from-1))
		}
	}
	if to < s.width || len(m.values) == 0 || w.rnd.IntN(2) == 0 {
		if w.rnd.IntN(2) == 0 {
			m.text, m.values = m.text+" AND c < ?", append(m.values, bigint(to))
		} else {
			m.text, m.values = m.text+" AND c <= ?", append(m.values, bigint(to-1))
		}
	}
	return m
}

// write sends a mutation and writes it down for each of its registers.
func (s *rowSpace) write(ctx context.Context, w *worker, op int, m mutation) {
	node, level := w.node(), w.level(true)
	c := check.Write{Op: op, Value: m.value, Delete: m.value == "", TS: w.timestampFor(m.value == ""), Node: node, Level: level.String(), Acks: s.acks(level, node),
		Expires: m.expires, Call: now(s.env)}
	_, err := w.ask(ctx, op, node, &request{text: m.text, values: m.values, level: level, ts: c.TS, now: s.seconds()}, m.text+" "+list(m.registers))
	c.Return, c.Outcome = now(s.env), outcomeOf(err)
	log := &s.logs[w.id]
	for _, name := range m.registers {
		c.Register = name
		log.writes = append(log.writes, c)
	}
}

// timestampFor draws one; a deletion sometimes has that of the client's last write. Two writes of one row never have the same: their maps
// would be united.
func (w *worker) timestampFor(deletion bool) int64 {
	if deletion && w.lastTS != 0 && w.rnd.IntN(6) == 0 {
		return w.lastTS
	}
	return w.timestamp()
}

func list(names []string) string {
	if len(names) > 2 {
		return names[0] + ".." + names[len(names)-1]
	}
	return fmt.Sprint(names)
}

// read reads a row, a slice or a partition, sometimes backwards, and writes down what it says about each register of it.
func (s *rowSpace) read(ctx context.Context, w *worker, p string) {
	op, node, level := w.next(), w.node(), w.level(false)
	from, to := int64(0), s.width
	m := mutation{text: " WHERE p = ?", values: []protocol.Value{text(p)}}
	switch w.rnd.IntN(3) {
	case 0:
		from = w.rnd.Int64N(s.width)
		to = from + 1
		m.text, m.values = m.text+" AND c = ?", append(m.values, bigint(from))
	case 1:
		from, to = s.slice(w)
		bound := s.bound(w, from, to)
		m.text, m.values = m.text+bound.text, append(m.values, bound.values...)
	}
	if w.rnd.IntN(3) == 0 {
		m.text += " ORDER BY c DESC"
	}
	c := check.Read{Op: op, Node: node, Level: level.String(), Acks: s.acks(level, node), Call: now(s.env), Now: s.seconds()}
	stray := w.stray
	if s.ttl && stray.IntN(4) == 0 {
		c.Now += stray.Int64N(2*nowStray+1) - nowStray
	}
	q := s.query(m.text, level, c.Now, m.values...)
	if stray.IntN(4) == 0 {
		q = s.selection("p, c, v, writetime(v)", m.text, level, c.Now, m.values...)
	}
	a, err := w.ask(ctx, op, node, q, fmt.Sprintf("read %s%s as of %d", p, m.text, c.Now))
	if err != nil {
		return
	}
	c.Return = now(s.env)
	s.logs[w.id].reads = append(s.logs[w.id].reads, rowsSeen(c, a, p, names(p, from, to))...)
}

// nowStray is by how many seconds the now of some reads lies before or behind true time: nobody else may notice.
const nowStray = 4

// query reads all columns.
func (s *rowSpace) query(where string, level protocol.Consistency, now int64, values ...protocol.Value) *request {
	return s.selection("p, c, v, writetime(v), m", where, level, now, values...)
}

func (s *rowSpace) selection(columns, where string, level protocol.Consistency, now int64, values ...protocol.Value) *request {
	return &request{text: "SELECT " + columns + " FROM " + s.table + where, values: values, level: level, now: now}
}

// rowsSeen makes one read of each register of an answer that covers them.
func rowsSeen(c check.Read, a *answer, p string, registers []string) []check.Read {
	seen := map[string]int{}
	for i := range a.rows {
		seen[rowName(p, number(a.rows[i][1]))] = i
	}
	var out []check.Read
	for _, name := range registers {
		c.Register, c.Value, c.TS, c.Null = name, "", 0, true
		if i, ok := seen[name]; ok {
			c.Value, c.TS, c.Null = rowValue(a.rows[i]), number(a.rows[i][3]), false
		}
		out = append(out, c)
	}
	return out
}

// rowValue is the value of the register that a row is: its text, unless its map, if it was read, says something else.
func rowValue(r [][]byte) string {
	v := string(r[2])
	if m := mapOf(v); len(r) > 4 && string(m.Bytes) != string(r[4]) {
		return fmt.Sprintf("%s with the map %q", v, r[4])
	}
	return v
}

// history is all that the clients did.
func (s *rowSpace) history() *check.Registers {
	h := &check.Registers{Topology: s.topology, Start: s.start, Skew: s.o.Skew}
	for i := range s.logs {
		h.Writes, h.Reads = append(h.Writes, s.logs[i].writes...), append(h.Reads, s.logs[i].reads...)
	}
	return h
}

// settle reads all partitions at ALL into the history.
func (s *rowSpace) settle(ctx context.Context, w *worker, h *check.Registers) {
	for n := range s.o.Keys {
		p := partition(n)
		c := check.Read{Op: w.next(), Node: -1, Level: "ALL (settled)", Acks: check.Acks{All: s.topology.RF, In: s.topology.In}, Settled: true,
			Call: now(s.env), Now: s.seconds()}
		if a := w.must(ctx, "a read at ALL", s.query(" WHERE p = ?", protocol.All, c.Now, text(p))); a != nil {
			c.Return = now(s.env)
			h.Reads = append(h.Reads, rowsSeen(c, a, p, names(p, 0, s.width))...)
		}
	}
}

// replicas reads everything at ONE by each node, as of one second.
func (s *rowSpace) replicas(ctx context.Context, w *worker) []check.Replica {
	members := s.env.Members()
	out := make([]check.Replica, len(members))
	at := s.seconds()
	for i, node := range members {
		out[i].Name = fmt.Sprintf("node %d", node)
		for n := range s.o.Keys {
			a := w.mustAt(ctx, "a read at ONE", node, s.query(" WHERE p = ?", protocol.One, at, text(partition(n))))
			if a == nil {
				continue
			}
			for _, r := range a.rows {
				out[i].Rows = append(out[i].Rows, check.ReplicaRow{Key: rowName(string(r[0]), number(r[1])), Content: content(r)})
			}
		}
	}
	sortRows(out)
	return out
}

// verify reads everything again, after the settling time, and judges.
func (s *rowSpace) verify(ctx context.Context, w *worker) (h *check.Registers, found []check.Violation) {
	h = s.history()
	if s.o.Settle > 0 {
		sleep(ctx, s.o.Settle)
	}
	s.settle(ctx, w, h)
	found = append(found, check.Converged(s.table, s.replicas(ctx, w))...)
	for n := range min(s.o.Keys, quietKeys) {
		found = append(found, w.quiet(ctx, s.table, partition(n), s.query(" WHERE p = ?", protocol.All, s.seconds(), text(partition(n))))...)
	}
	return h, found
}

// quietKeys is how many partitions are read with traces at the end.
const quietKeys = 4
