package coordinator

import (
	"time"

	"github.com/helenusdb/helenus/row"
	"github.com/helenusdb/helenus/rpc"
	"github.com/helenusdb/helenus/schema"
)

// reconcile reads in full from the replicas that answered, merges what they hold, brings those that lag up to date, and
// only then answers: whatever a quorum read has shown, every later one shows too. It runs on a goroutine of its own and
// holds one reference.
func (op *readOp) reconcile(r *Read) {
	defer op.release()
	c := op.c
	c.metrics.DigestMismatches.Add(1)
	op.mu.Lock()
	var peers []*peer
	for i := range op.asked {
		if t := &op.asked[i]; t.done && t.err == nil {
			peers = append(peers, t.peer)
		}
	}
	op.mu.Unlock()
	op.trace.Event("Digest mismatch: reading in full from %d replicas", len(peers))
	full := r.Command.Full()
	pages, err := c.gather(&full, peers, op.deadline)
	if err != nil {
		c.readDone(r, &ReadTimeout{Level: r.Level, Received: len(pages), BlockFor: op.need, DataPresent: len(pages) > 0})
		return
	}
	repairs, err := row.ReconcilePages(&r.Page, &full, pages)
	if err != nil {
		c.o.Logger.Error("reconciliation failed", "table", op.plan.table.Name, "err", err)
		c.readDone(r, &ReadFailure{Level: r.Level, BlockFor: op.need})
		return
	}
	if op.plan.table.Options.ReadRepair == schema.ReadRepairNone {
		c.readDone(r, nil)
		return
	}
	if acked, all := op.repair(peers, repairs); acked < all {
		c.readDone(r, &ReadTimeout{Level: r.Level, Received: op.need - 1, BlockFor: op.need, DataPresent: true})
		return
	}
	c.readDone(r, nil)
}

// gathered is one replica's answer to a blocking read.
type gathered struct {
	i    int
	page *row.Page
	err  error
}

// gather reads the command from every given replica, blocking; the error is that of the first which failed, beside the
// pages of the others.
func (c *Coordinator) gather(cmd *row.Command, peers []*peer, deadline time.Time) ([]*row.Page, error) {
	body := cmd.Append(nil)
	results := make(chan gathered, len(peers))
	for i, p := range peers {
		if !p.self {
			c.o.Transport.Send(p.id, rpc.Data, VerbRead, deadline, body, &gatherer{i, results})
		}
	}
	for i, p := range peers {
		if p.self {
			page := &row.Page{}
			g := &syncedGatherer{i, page, results}
			seq, err := c.o.Storage.Read(cmd, page)
			if err == nil && seq != 0 {
				c.o.Storage.WhenSynced(seq, g)
			} else {
				g.Committed(err)
			}
		}
	}
	pages := make([]*row.Page, len(peers))
	var first error
	timer := time.NewTimer(time.Until(deadline))
	defer timer.Stop()
	for range peers {
		select {
		case g := <-results:
			if pages[g.i] = g.page; g.err != nil && first == nil {
				first = g.err
			}
		case <-timer.C:
			return compactPages(pages), rpc.ErrTimeout
		}
	}
	if first != nil {
		return compactPages(pages), first
	}
	return pages, nil
}

func compactPages(pages []*row.Page) []*row.Page {
	var out []*row.Page
	for _, p := range pages {
		if p != nil {
			out = append(out, p)
		}
	}
	return out
}

type gatherer struct {
	i       int
	results chan gathered
}

// Done implements rpc.Callback.
func (g *gatherer) Done(r *rpc.Response) {
	out := gathered{i: g.i, err: r.Err}
	switch {
	case r.Err != nil:
	case r.Status != rpc.StatusOK:
		out.err = errRefused
	default:
		page := &row.Page{}
		if out.err = decodePage(page, r.Body); out.err == nil {
			out.page = page
		}
	}
	g.results <- out
}

type syncedGatherer struct {
	i       int
	page    *row.Page
	results chan gathered
}

// Committed implements Committed.
func (g *syncedGatherer) Committed(err error) {
	if err != nil {
		g.page = nil
	}
	g.results <- gathered{g.i, g.page, err}
}

// repair writes to each replica what it lacks and waits for the acknowledgements, at most until the read's deadline.
func (op *readOp) repair(peers []*peer, repairs [][]row.Mutation) (acked, all int) {
	results := make(chan bool, len(peers))
	c := op.c
	for i, p := range peers {
		if len(repairs[i]) == 0 {
			continue
		}
		all++
		c.metrics.ReadRepairs.Add(1)
		for j := range repairs[i] {
			repairs[i][j].Generation = op.plan.table.Generation
		}
		op.trace.Event("Repairing %s", p.address())
		if p.self {
			c.repairHere(repairs[i], results)
			continue
		}
		var body []byte
		for j := range repairs[i] {
			body = repairs[i][j].Append(body)
		}
		c.o.Transport.Send(p.id, rpc.Data, VerbMutate, op.deadline, body, repairAck{results})
	}
	timer := time.NewTimer(time.Until(op.deadline))
	defer timer.Stop()
	for range all {
		select {
		case ok := <-results:
			if ok {
				acked++
			}
		case <-timer.C:
			return acked, all
		}
	}
	return acked, all
}

func (c *Coordinator) repairHere(ms []row.Mutation, results chan bool) {
	b := c.o.Storage.NewBatch()
	for i := range ms {
		if err := b.Apply(&ms[i]); err != nil {
			b.Discard()
			results <- false
			return
		}
	}
	b.Commit(repairAck{results})
}

type repairAck struct{ results chan bool }

// Done implements rpc.Callback.
func (a repairAck) Done(r *rpc.Response) { a.results <- r.Err == nil && r.Status == rpc.StatusOK }

// Committed implements Committed.
func (a repairAck) Committed(err error) { a.results <- err == nil }
