package workload

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/helenusdb/helenus/cql/protocol"
	"github.com/helenusdb/helenus/internal/sim/check"
)

// lwt makes conditional writes and serial reads of rows for which all clients contend. After a while every client goes on to a fresh
// partition, so that no history grows beyond what can be searched.
type lwt struct {
	base
	logs [][]check.CAS // by client
	used []map[string]*lwtBelief
}

// lwtBelief is what one client knows about a partition.
type lwtBelief struct {
	row     check.CASRow
	ops     int
	unknown int // of its operations
}

const (
	lwtEpoch      = 4 * time.Second // after which the partitions are others
	lwtOpsMax     = 24              // of one client on one partition
	lwtUnknownMax = 3               // after which a client leaves a partition alone
	lwtSteps      = 2_000_000
	lwtListMax    = 10 // elements after which nobody appends
)

// NewLWT returns the workload of conditional writes.
func NewLWT(o Options) Workload { return &lwt{base: newBase("lwt", o)} }

// Setup implements Workload.
func (l *lwt) Setup(ctx context.Context, env Env) error {
	return l.setup(ctx, env, "CREATE TABLE IF NOT EXISTS %s.l (p text PRIMARY KEY, v text, l list<text>)")
}

// Run implements Workload.
func (l *lwt) Run(ctx context.Context, _ Env) error {
	l.logs, l.used = make([][]check.CAS, l.o.Clients), make([]map[string]*lwtBelief, l.o.Clients)
	for i := range l.used {
		l.used[i] = map[string]*lwtBelief{}
	}
	return l.run(ctx, l.act)
}

func (l *lwt) act(ctx context.Context, w *worker) {
	epoch := int64(now(l.env)-l.start) / int64(lwtEpoch)
	name := fmt.Sprintf("p%d-%d", w.rnd.IntN(l.o.Keys), epoch)
	b := l.used[w.id][name]
	if b == nil {
		b = &lwtBelief{}
		l.used[w.id][name] = b
	}
	if b.ops >= lwtOpsMax || b.unknown >= lwtUnknownMax {
		return
	}
	b.ops++
	c, r := l.draw(w, name, b)
	c.Call = now(l.env)
	a, err := w.ask(ctx, c.Op, c.Node, r, c.Partition+" "+r.text)
	c.Return, c.Outcome = now(l.env), outcomeOf(err)
	switch {
	case err == nil:
		l.answered(w, &c, a)
		b.learn(&c)
	case c.Outcome == check.Unknown:
		b.unknown++
	}
	l.logs[w.id] = append(l.logs[w.id], c)
}

// draw chooses an operation that has a chance by what the client knows.
func (l *lwt) draw(w *worker, name string, b *lwtBelief) (c check.CAS, r *request) {
	c = check.CAS{Op: w.next(), Partition: name, Node: w.node()}
	r = &request{level: w.commitLevel(), serial: w.serialLevel()}
	c.Value, c.Expect = fmt.Sprintf("x%d", c.Op), b.row.V
	table := l.keyspace + ".l"
	switch n := w.rnd.IntN(10); {
	case n < 3:
		c.Kind, c.Value, c.Expect = check.CASRead, "", ""
		r.text, r.values, r.level, r.serial = "SELECT v, l FROM "+table+" WHERE p = ?", []protocol.Value{text(name)}, r.serial, 0
	case !b.row.Exists || n == 3:
		c.Kind, c.Expect = check.CASInsert, ""
		r.text, r.values = "INSERT INTO "+table+" (p, v) VALUES (?, ?) IF NOT EXISTS", []protocol.Value{text(name), text(c.Value)}
	case n < 7:
		c.Kind = check.CASUpdate
		r.text, r.values = "UPDATE "+table+" SET v = ? WHERE p = ? IF v = ?", []protocol.Value{text(c.Value), text(name), text(c.Expect)}
	case n < 9 && strings.Count(b.row.L, ",") < lwtListMax:
		c.Kind = check.CASAppend
		r.text, r.values = "UPDATE "+table+" SET l = l + ? WHERE p = ? IF v = ?", []protocol.Value{listOf(c.Value), text(name), text(c.Expect)}
	case w.rnd.IntN(2) == 0:
		c.Kind, c.Value, c.Expect = check.CASDelete, "", ""
		r.text, r.values = "DELETE FROM "+table+" WHERE p = ? IF EXISTS", []protocol.Value{text(name)}
	default:
		c.Kind, c.Value = check.CASDelete, ""
		r.text, r.values = "DELETE FROM "+table+" WHERE p = ? IF v = ?", []protocol.Value{text(name), text(c.Expect)}
	}
	return c, r
}

// commitLevel draws the level at which the decided value is committed; what is serial does not depend on it.
func (w *worker) commitLevel() protocol.Consistency {
	return []protocol.Consistency{protocol.Quorum, protocol.Quorum, protocol.One, protocol.LocalQuorum, protocol.All, protocol.Any}[w.rnd.IntN(6)]
}

// serialLevel draws SERIAL, or LOCAL_SERIAL where that is the same.
func (w *worker) serialLevel() protocol.Consistency {
	if len(w.b.dcs) == 1 && w.rnd.IntN(4) == 0 {
		return protocol.LocalSerial
	}
	return protocol.Serial
}

// answered decodes an answer: [applied] alone, or with the columns of the condition and of INSERT all columns when it did not hold.
func (l *lwt) answered(w *worker, c *check.CAS, a *answer) {
	if c.Kind == check.CASRead {
		c.Shown, c.ListToo, c.Applied = true, true, true
		if len(a.rows) > 0 {
			c.State = shown(a)
		}
		return
	}
	if len(a.rows) != 1 || len(a.value(0, "[applied]")) != 1 {
		w.wrong = append(w.wrong, check.Violation{Checker: check.CheckerLinearizable, What: fmt.Sprintf("operation %d (%s) is answered with %d rows of %v", c.Op,
			c.Partition, len(a.rows), a.columns)})
		c.Outcome = check.Unknown
		return
	}
	c.Applied = a.value(0, "[applied]")[0] == 1
	if c.Applied || c.Kind == check.CASDelete && c.Expect == "" {
		return
	}
	c.Shown, c.ListToo = true, a.column("l") >= 0
	if a.column("v") >= 0 {
		c.State = shown(a)
	}
}

func shown(a *answer) check.CASRow {
	v := a.value(0, "v")
	return check.CASRow{Exists: v != nil, V: string(v), L: strings.Join(texts(a.value(0, "l")), ",")}
}

// learn takes note of what an answer says about the row.
func (b *lwtBelief) learn(c *check.CAS) {
	switch {
	case c.Shown:
		b.row = c.State
	case c.Kind == check.CASDelete:
		b.row = check.CASRow{}
	case c.Kind == check.CASInsert || c.Kind == check.CASUpdate:
		b.row.Exists, b.row.V = true, c.Value
	}
}

// Verify implements Workload.
func (l *lwt) Verify(ctx context.Context, env Env) []check.Violation {
	w := l.verifier()
	defer w.client.close()
	var history []check.CAS
	for _, log := range l.logs {
		history = append(history, log...)
	}
	for _, name := range partitions(history) {
		history = append(history, l.final(ctx, w, env, name)...)
	}
	found, searched, undecided := check.Linearize(l.start, history, lwtSteps)
	l.searched, l.undecided = searched, undecided
	env.Record(l.name, "%d of %d partitions were not decided in %d steps", undecided, searched, lwtSteps)
	return slices.Concat(l.found, w.wrong, found, check.Decided(searched, undecided))
}

// finalPartitionsMax is how many partitions, the last ones, are read again at the end.
const finalPartitionsMax = 64

// partitions returns the last ones of a history in the order of their first operations.
func partitions(history []check.CAS) []string {
	seen := map[string]bool{}
	var out []string
	for i := range history {
		if p := history[i].Partition; !seen[p] {
			seen[p] = true
			out = append(out, p)
		}
	}
	return out[max(0, len(out)-finalPartitionsMax):]
}

// final reads a partition serially, which ends what is in flight, and then plainly at ALL: both have to see the same.
func (l *lwt) final(ctx context.Context, w *worker, env Env, name string) []check.CAS {
	var out []check.CAS
	for _, level := range []protocol.Consistency{protocol.Serial, protocol.All} {
		c := check.CAS{Op: w.next(), Partition: name, Kind: check.CASRead, Node: -1, Call: now(env)}
		a := w.must(ctx, "a read at "+level.String(), &request{text: "SELECT v, l FROM " + l.keyspace + ".l WHERE p = ?", values: []protocol.Value{text(name)}, level: level})
		if a == nil {
			continue
		}
		c.Return = now(env)
		l.answered(w, &c, a)
		out = append(out, c)
	}
	return out
}
