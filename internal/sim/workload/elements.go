package workload

import (
	"context"
	"encoding/binary"
	"fmt"

	"github.com/helenusdb/helenus/cql/protocol"
	"github.com/helenusdb/helenus/internal/sim/check"
)

// Elements of maps are registers too: each is written apart, so that a row is made of very many small writes, of which none hides the
// loss of another.

const (
	elementMaps = 2
	elementsOf  = 96 // of one map
)

func elementKey(n int) string { return fmt.Sprintf("m%d", n) }

func elementName(key, element string) string { return key + "[" + element + "]" }

// writeElement writes or deletes one element.
func (r *registers) writeElement(ctx context.Context, w *worker, log *registerLog) {
	op, node, level := w.next(), w.node(), w.level(true)
	key, element := elementKey(w.rnd.IntN(elementMaps)), fmt.Sprintf("e%02d", w.rnd.IntN(elementsOf))
	c := check.Write{Op: op, Register: elementName(key, element), Value: fmt.Sprintf("v%d", op), TS: r.timestamp(w), Node: node, Level: level.String(),
		Acks: r.acks(level, node)}
	q := request{level: level, ts: c.TS}
	if w.rnd.IntN(8) == 0 {
		c.Delete, c.Value = true, ""
		q.text, q.values = "DELETE m[?] FROM "+r.keyspace+".s WHERE k = ?", []protocol.Value{text(element), text(key)}
	} else {
		q.text, q.values = "UPDATE "+r.keyspace+".s SET m[?] = ? WHERE k = ?", []protocol.Value{text(element), text(c.Value), text(key)}
	}
	c.Call = now(r.env)
	_, err := w.ask(ctx, op, node, &q, c.Register+" = "+c.Value)
	c.Return, c.Outcome = now(r.env), outcomeOf(err)
	log.writes = append(log.writes, c)
}

func (r *registers) elementsQuery(key string, level protocol.Consistency) *request {
	return &request{text: "SELECT m FROM " + r.keyspace + ".s WHERE k = ?", values: []protocol.Value{text(key)}, level: level}
}

// readElements reads a map: each of its elements, and each that it does not have.
func (r *registers) readElements(ctx context.Context, w *worker, log *registerLog) {
	op, node, level, key := w.next(), w.node(), w.level(false), elementKey(w.rnd.IntN(elementMaps))
	c := check.Read{Op: op, Node: node, Level: level.String(), Acks: r.acks(level, node), Call: now(r.env)}
	a, err := w.ask(ctx, op, node, r.elementsQuery(key, level), "read "+key)
	if err != nil {
		return
	}
	c.Return = now(r.env)
	log.reads = append(log.reads, elementsSeen(c, a, key)...)
}

// settledElements reads all maps at ALL.
func (r *registers) settledElements(ctx context.Context, w *worker) (out []check.Read) {
	for n := range elementMaps {
		c := check.Read{Op: w.next(), Node: -1, Level: "ALL (settled)", Acks: check.Acks{All: r.topology.RF, In: r.topology.In}, Settled: true, Call: now(r.env)}
		if a := w.must(ctx, "a read at ALL", r.elementsQuery(elementKey(n), protocol.All)); a != nil {
			c.Return = now(r.env)
			out = append(out, elementsSeen(c, a, elementKey(n))...)
		}
	}
	return out
}

// convergedElements compares what each node says about the maps.
func (r *registers) convergedElements(ctx context.Context, w *worker, members []int) []check.Violation {
	replicas := make([]check.Replica, len(members))
	for i, node := range members {
		for n := range elementMaps {
			r.atOne(ctx, w, node, elementKey(n), r.elementsQuery(elementKey(n), protocol.One), &replicas[i])
		}
	}
	return check.Converged(r.keyspace+".s", replicas)
}

func elementsSeen(c check.Read, a *answer, key string) (out []check.Read) {
	var m map[string]string
	if len(a.rows) > 0 {
		m = entries(a.rows[0][0])
	}
	for e := range elementsOf {
		element := fmt.Sprintf("e%02d", e)
		value, ok := m[element]
		c.Register, c.Value, c.Null = elementName(key, element), value, !ok
		out = append(out, c)
	}
	return out
}

// entries decodes a map of texts.
func entries(b []byte) map[string]string {
	m := map[string]string{}
	var pair [2]string
	for i, p := 0, 4; len(b) >= p+4; i++ {
		n := int(int32(binary.BigEndian.Uint32(b[p:])))
		if n < 0 || p+4+n > len(b) {
			break
		}
		pair[i%2] = string(b[p+4 : p+4+n])
		if p += 4 + n; i%2 == 1 {
			m[pair[0]] = pair[1]
		}
	}
	return m
}
