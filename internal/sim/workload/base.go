package workload

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/helenusdb/helenus/cql/protocol"
	"github.com/helenusdb/helenus/internal/sim/check"
)

const (
	clientsMax  = 64 // numbers and timestamps of clients are distinct modulo it
	setupTries  = 120
	verifyTries = 60
	retryEvery  = time.Second // simulated
	linesMax    = 1 << 20     // operations of one client that are kept; beyond, it stops
)

// base is what all workloads have in common.
type base struct {
	name     string
	o        Options
	env      Env
	keyspace string
	dcs      []string // in order of appearance
	dcOf     []int    // by node
	topology check.Topology
	start    check.Instant
	ops      atomic.Int64
	workers  []*worker
	final    *worker // of Verify
	found    []check.Violation

	searched, undecided int
}

func newBase(name string, o Options) base {
	return base{name: name, o: o.withDefaults(), keyspace: "sim_" + name}
}

// Name implements Workload.
func (b *base) Name() string { return b.name }

// Keyspace implements Workload.
func (b *base) Keyspace() string { return b.keyspace }

// Searched implements Workload.
func (b *base) Searched() (all, undecided int) { return b.searched, b.undecided }

// Ops implements Workload.
func (b *base) Ops() int64 { return b.ops.Load() }

// worker is one client: its goroutine owns everything in it.
type worker struct {
	b      *base
	id     int
	rnd    *rand.Rand
	stray  *rand.Rand // decides about details of reads, so that the operations of a seed are the same without them
	client *client
	seq    int
	lastTS int64
	wrong  []check.Violation
}

func (b *base) newWorker(id int) *worker {
	return &worker{b: b, id: id, rnd: b.env.Rand(fmt.Sprintf("%s/client/%d", b.name, id)), stray: b.env.Rand(fmt.Sprintf("%s/stray/%d", b.name, id)),
		client: newClient(b.env, b.o.Timeout)}
}

// setup finds out about data centres and makes keyspace and tables; %s in a table's definition is the keyspace.
func (b *base) setup(ctx context.Context, env Env, tables ...string) error {
	b.env, b.start = env, now(env)
	w := b.newWorker(clientsMax - 1)
	defer w.client.close()
	if err := b.discover(ctx, w); err != nil {
		return fmt.Errorf("%s: %w", b.name, err)
	}
	statements := []string{fmt.Sprintf("CREATE KEYSPACE IF NOT EXISTS %s WITH replication = %s", b.keyspace, b.replication())}
	for _, t := range tables {
		statements = append(statements, fmt.Sprintf(t, b.keyspace))
	}
	for _, s := range statements {
		if _, err := w.insist(ctx, setupTries, &request{text: s, level: protocol.Quorum}); err != nil {
			return fmt.Errorf("%s: %s: %w", b.name, s, err)
		}
	}
	return nil
}

// discover asks each node for its data centre.
func (b *base) discover(ctx context.Context, w *worker) error {
	b.dcOf = make([]int, b.env.Nodes())
	members := b.env.Members()
	for _, node := range members {
		a, err := w.insistAt(ctx, setupTries, node, &request{text: "SELECT data_center FROM system.local WHERE key = 'local'", level: protocol.One})
		if err != nil {
			return err
		}
		if len(a.rows) != 1 {
			return errors.New("system.local is empty")
		}
		b.dcOf[node] = b.dc(string(a.rows[0][0]))
	}
	for i := range b.dcs {
		n := 0
		for _, node := range members {
			if b.dcOf[node] == i {
				n++
			}
		}
		b.topology.In[i] = min(n, b.o.RF)
		b.topology.RF += b.topology.In[i]
	}
	return nil
}

func (b *base) dc(name string) int {
	for i, dc := range b.dcs {
		if dc == name {
			return i
		}
	}
	b.dcs = append(b.dcs, name)
	return len(b.dcs) - 1
}

func (b *base) replication() string {
	parts := []string{"'class': 'NetworkTopologyStrategy'"}
	for i, dc := range b.dcs {
		parts = append(parts, fmt.Sprintf("'%s': %d", dc, b.topology.In[i]))
	}
	return "{" + strings.Join(parts, ", ") + "}"
}

// run lets all clients work until ctx ends: act does one operation.
func (b *base) run(ctx context.Context, act func(ctx context.Context, w *worker)) error {
	var wg sync.WaitGroup
	for i := range b.o.Clients {
		w := b.newWorker(i)
		b.workers = append(b.workers, w)
		wg.Go(func() {
			defer w.client.close()
			for w.rest(ctx, b.o.Pace) && w.seq < linesMax {
				act(ctx, w)
			}
		})
	}
	wg.Wait()
	return nil
}

// rest waits between two operations; false: ctx has ended.
func (w *worker) rest(ctx context.Context, pace time.Duration) bool {
	return sleep(ctx, 1+time.Duration(w.rnd.Int64N(int64(2*pace))))
}

// sleep waits; false: ctx has ended.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}

func now(env Env) check.Instant { return check.Instant(env.Now().UnixNano()) }

// number of the next operation; no other client gives it.
func (w *worker) next() int {
	w.seq++
	return w.seq*clientsMax + w.id
}

// timestamp returns one in µs, near true time, that no other operation has.
func (w *worker) timestamp() int64 {
	t := w.b.env.Now().UnixMicro()
	t += int64(w.id) - t%clientsMax
	w.lastTS = max(t, w.lastTS+clientsMax)
	return w.lastTS
}

// node returns a random coordinator.
func (w *worker) node() int {
	members := w.b.env.Members()
	return members[w.rnd.IntN(len(members))]
}

// ask sends one operation, as it is, to a node and writes it down in the trace. what says what it does.
func (w *worker) ask(ctx context.Context, op, node int, r *request, what string) (*answer, error) {
	a, err := w.client.do(ctx, node, r)
	w.b.ops.Add(1)
	w.b.env.Record(w.b.name, "%d node %d %s %s: %s", op, node, r.level, what, errorText(err))
	if refused(err) {
		w.wrong = append(w.wrong, check.Violation{Checker: check.CheckerHonesty, What: fmt.Sprintf("operation %d (%s): node %d says %s: %s", op, what, node, errorText(err), err)})
	}
	return a, err
}

// insist asks one node after the other until there is an answer.
func (w *worker) insist(ctx context.Context, tries int, r *request) (*answer, error) {
	return w.try(ctx, tries, func(i int) int { members := w.b.env.Members(); return members[i%len(members)] }, r)
}

// insistAt asks one node until it answers.
func (w *worker) insistAt(ctx context.Context, tries, node int, r *request) (*answer, error) {
	return w.try(ctx, tries, func(int) int { return node }, r)
}

func (w *worker) try(ctx context.Context, tries int, node func(try int) int, r *request) (a *answer, err error) {
	for i := range tries {
		if a, err = w.client.do(ctx, node(i), r); err == nil {
			return a, nil
		}
		if refused(err) || !sleep(ctx, retryEvery) {
			break
		}
	}
	return nil, err
}

// acks returns what a level vouches for when a node coordinates.
func (b *base) acks(level protocol.Consistency, node int) (a check.Acks) {
	t, dc := &b.topology, b.dcOf[node]
	quorum := func(n int) int { return n/2 + 1 }
	if b.o.Moving {
		switch level {
		case protocol.Quorum, protocol.LocalQuorum, protocol.EachQuorum, protocol.All:
			a.All = quorum(t.RF)
		}
		return a
	}
	switch level {
	case protocol.One:
		a.All = 1
	case protocol.LocalOne:
		a.All, a.In[dc] = 1, 1
	case protocol.Two:
		a.All = 2
	case protocol.Three:
		a.All = 3
	case protocol.Quorum:
		a.All = quorum(t.RF)
	case protocol.All:
		a.All, a.In = t.RF, t.In
	case protocol.LocalQuorum:
		a.All, a.In[dc] = quorum(t.In[dc]), quorum(t.In[dc])
	case protocol.EachQuorum:
		for i := range b.dcs {
			a.In[i] = quorum(t.In[i])
			a.All += a.In[i]
		}
	}
	return a
}

// levels draws the levels of an operation: mostly those of which any two overlap.
func (w *worker) level(write bool) protocol.Consistency {
	n := w.rnd.IntN(100)
	if w.b.o.Strong && write {
		n = min(n, 69)
	}
	rf := w.b.topology.RF
	switch {
	case n < 60:
		return protocol.Quorum
	case n < 70:
		return protocol.LocalQuorum
	case n < 76:
		return protocol.All
	case n < 84:
		return protocol.One
	case n < 88 && rf >= 2:
		return protocol.Two
	case n < 91 && rf >= 3:
		return protocol.Three
	case n < 94:
		return protocol.LocalOne
	case n < 97 && write:
		return protocol.Any
	case n < 97 || len(w.b.dcs) > 1 && write:
		return protocol.EachQuorum
	}
	return protocol.Quorum
}

// report collects what clients found wrong by themselves and makes Verify's worker.
func (b *base) verifier() *worker {
	for _, w := range b.workers {
		b.found = append(b.found, w.wrong...)
	}
	b.final = b.newWorker(clientsMax - 1)
	return b.final
}

// must reports a read of Verify that nobody answers.
func (w *worker) must(ctx context.Context, what string, r *request) *answer {
	a, err := w.insist(ctx, verifyTries, r)
	if err != nil {
		w.b.stuck(ctx, what, err)
	}
	return a
}

// mustAt is must for one node.
func (w *worker) mustAt(ctx context.Context, what string, node int, r *request) *answer {
	a, err := w.insistAt(ctx, verifyTries, node, r)
	if err != nil {
		w.b.stuck(ctx, fmt.Sprintf("%s by node %d", what, node), err)
	}
	return a
}

func (b *base) stuck(ctx context.Context, what string, err error) {
	if ctx.Err() == nil {
		b.found = append(b.found, check.Violation{Checker: check.CheckerBounded, What: fmt.Sprintf("%s: %s fails with all nodes up and no faults: %s", b.name, what, err)})
	}
}
