package workload

import (
	"context"

	"github.com/helenusdb/helenus/internal/sim/check"
)

// deletes writes, deletes and reads rows of few partitions.
type deletes struct {
	base
	rows rowSpace
}

const deletesWidth = 16 // rows of a partition

// NewDeletes returns the workload of rows that are deleted.
func NewDeletes(o Options) Workload { return &deletes{base: newBase("deletes", o)} }

// Setup implements Workload.
func (d *deletes) Setup(ctx context.Context, env Env) error {
	d.rows = rowSpace{base: &d.base, table: d.keyspace + ".d", width: deletesWidth, ttl: env.Features().TTL}
	return d.setup(ctx, env, rowTable("d", &d.o))
}

// Run implements Workload.
func (d *deletes) Run(ctx context.Context, _ Env) error {
	d.rows.logs = make([]registerLog, d.o.Clients)
	return d.run(ctx, func(ctx context.Context, w *worker) {
		p := partition(w.rnd.IntN(d.o.Keys))
		switch n := w.rnd.IntN(10); {
		case n < 4:
			op := w.next()
			d.rows.write(ctx, w, op, d.rows.insert(w, op, p))
		case n < 6:
			d.rows.write(ctx, w, w.next(), d.rows.remove(w, p))
		default:
			d.rows.read(ctx, w, p)
		}
	})
}

// Verify implements Workload.
func (d *deletes) Verify(ctx context.Context, _ Env) []check.Violation {
	w := d.verifier()
	defer w.client.close()
	h, found := d.rows.verify(ctx, w)
	return append(append(d.found, h.Check()...), found...)
}
