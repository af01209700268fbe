package coordinator

import (
	"bytes"
	"errors"
	"slices"
	"time"

	"github.com/helenusdb/helenus/internal/planted"
	"github.com/helenusdb/helenus/ring"
	"github.com/helenusdb/helenus/row"
	"github.com/helenusdb/helenus/rpc"
	"github.com/helenusdb/helenus/schema"
)

// repairBytesMax is how many bytes of repairs go into one message, unless a single mutation is larger.
const repairBytesMax = 1 << 20

// reconcile reads in full from the replicas that answered, merges what they hold, brings those that lag up to date, and
// only then answers: whatever a quorum read has shown, every later one shows too. It runs on a goroutine of its own and
// holds one reference.
func (op *readOp) reconcile(r *Read) {
	defer op.release()
	op.c.metrics.DigestMismatches.Add(1)
	g := gathering{op: op, cmd: commandOf(bytes.Clone(op.body[plannedBytes:]))}
	g.peers, g.spares = op.contacted()
	op.trace.Event("Digest mismatch: reading in full")
	for {
		err := g.page(&r.Page)
		if err == nil && r.Page.More && r.Page.Rows == 0 && time.Now().Before(op.deadline) {
			// The replicas disagreed about all that they counted: go on from there.
			from := clonePosition(&r.Page.Cut)
			g.cmd.From = &from
			continue
		}
		g.end(r, err)
		return
	}
}

// end answers, or plans the read anew when it failed because replicas have newer metadata.
func (g *gathering) end(r *Read, err error) {
	op := g.op
	switch {
	case err == nil || !g.stale:
		op.c.readDone(r, err)
	case r.part:
		op.c.readDone(r, &staleScan{g.newer, err})
	case op.c.newerThan(op.view.state.Epoch, g.newer, op.deadline):
		op.c.readAnew(r, op.deadline)
	default:
		op.c.readDone(r, err)
	}
}

// commandOf returns the command that a body, which it aliases, asks for in full. A read of the local store that does not come
// back may need it longer than the caller keeps its own.
func commandOf(body []byte) row.Command {
	var cmd row.Command
	_, _ = row.DecodeCommand(&cmd, body) // what Append wrote
	return cmd.Full()
}

// contacted returns the replicas that answered, and those that may stand in for them, those that are late last.
func (op *readOp) contacted() (peers, spares []*peer) {
	op.mu.Lock()
	defer op.mu.Unlock()
	spares = append(spares, op.spares...)
	for i := range op.asked {
		switch t := &op.asked[i]; {
		case !t.done:
			spares = append(spares, t.peer)
		case t.err == nil:
			peers = append(peers, t.peer)
		}
	}
	return peers, spares
}

// gathering reads a command in full from replicas and repairs them.
type gathering struct {
	op            *readOp
	cmd           row.Command
	peers, spares []*peer
	pages         []*row.Page // of peers, as far as they have answered
	fails         []Failure
	late          bool
	stale         bool        // a replica refused to be read or repaired, with newer metadata
	newer         ring.HostID // that one; zero: this node
}

// refused takes note of an answer by newer metadata.
func (g *gathering) refused(p *peer, err error) {
	if errors.Is(err, errStale) {
		g.stale = true
		if !p.self {
			g.newer = p.id
		}
	}
}

// page reads, reconciles and repairs one page.
func (g *gathering) page(dst *row.Page) error {
	op := g.op
	if !g.read() {
		return g.failure()
	}
	repairs, err := row.ReconcilePages(dst, &g.cmd, g.pages)
	if err != nil {
		op.c.o.Logger.Error("reconciliation failed", "table", op.plan.table.Name, "err", err)
		return &ReadFailure{Level: op.level, Received: len(g.pages), BlockFor: op.need}
	}
	if op.plan.table.Options.ReadRepair == schema.ReadRepairNone || planted.On(planted.ReadRepairNotSent) {
		return nil
	}
	if n := g.repair(repairs); n < op.need {
		return &ReadTimeout{Level: op.level, Received: n, BlockFor: op.need, DataPresent: true}
	}
	return nil
}

func (g *gathering) failure() error {
	op := g.op
	if refused(g.fails) && !g.late {
		return &ReadFailure{Level: op.level, Received: len(g.pages), BlockFor: op.need, DataPresent: len(g.pages) > 0, Failures: g.fails}
	}
	return &ReadTimeout{Level: op.level, Received: len(g.pages), BlockFor: op.need, DataPresent: len(g.pages) > 0}
}

// gathered is one replica's answer.
type gathered struct {
	peer *peer
	page *row.Page
	err  error
}

// quota is what the level asks for.
func (g *gathering) quota() quota { return g.op.asks }

// spare takes the next replica that may stand in: for EACH_QUORUM one of a data centre that is missing. nil: there is none.
func (g *gathering) spare(q *quota) *peer {
	i := slices.IndexFunc(g.spares, func(p *peer) bool { return q.counts(p, g.op.view.localDC) })
	if i < 0 {
		return nil
	}
	p := g.spares[i]
	g.spares = slices.Delete(g.spares, i, i+1)
	return p
}

// read asks all peers, a spare for each that fails and one more when they are late. Afterwards pages are those of peers;
// false: there are too few.
func (g *gathering) read() bool {
	op, q := g.op, g.quota()
	g.pages, g.fails, g.late = nil, nil, false
	results := make(chan gathered, len(g.peers)+len(g.spares))
	body := g.cmd.Append(op.view.appendPlanned(nil))
	asked := slices.Clone(g.peers) // and without an answer
	for _, p := range asked {
		g.ask(p, body, results)
	}
	g.peers = nil
	late, spare := g.timers()
	defer late.Stop()
	defer spare.Stop()
	defer func() { g.spares = append(g.spares, asked...) }() // who was too late to be read may still be written to
	for len(asked) > 0 && q.got < q.need {
		var further bool
		select {
		case a := <-results:
			asked = slices.DeleteFunc(asked, func(p *peer) bool { return p == a.peer })
			if a.err == nil {
				g.peers, g.pages = append(g.peers, a.peer), append(g.pages, a.page)
				q.count(a.peer, op.view.localDC)
				continue
			}
			g.refused(a.peer, a.err)
			g.late = g.late || errors.Is(a.err, rpc.ErrTimeout)
			g.fails = append(g.fails, a.peer.failure(reasonOf(a.err)))
			further = true
		case <-spare.C:
			further = true
		case <-late.C:
			g.late = true
			return false
		}
		if !further {
			continue
		}
		if p := g.spare(&q); p != nil {
			g.ask(p, body, results)
			asked = append(asked, p)
		}
	}
	return q.got >= q.need
}

// timers returns one for the end of the read and one for asking a further replica.
func (g *gathering) timers() (late, spare *time.Timer) {
	op := g.op
	return time.NewTimer(time.Until(op.deadline)), time.NewTimer(op.plan.latencies.percentile(99))
}

func (g *gathering) ask(p *peer, body []byte, results chan gathered) {
	c := g.op.c
	if !p.self {
		c.send(g.op.trace, p, VerbRead, g.op.deadline, body, &gatherer{p, g.op.view.state.Epoch, results})
		return
	}
	s := &syncedGatherer{p, g.op.view, &row.Page{}, results}
	cmd := g.cmd
	c.apartOrHere(func() { s.read(c, &cmd) })
}

// apartOrHere runs f, which may wait for this node's disk, on a goroutine of its own if there is room.
func (c *Coordinator) apartOrHere(f func()) {
	if !c.spawn(f) {
		f()
	}
}

type gatherer struct {
	peer    *peer
	planned uint64 // epoch of the metadata
	results chan gathered
}

// Done implements rpc.Callback.
func (g *gatherer) Done(r *rpc.Response) {
	page := &row.Page{}
	err := readError(r, g.planned)
	if err == nil {
		_, err = decodePage(page, nil, r.Body)
	}
	g.results <- gathered{g.peer, page, err}
}

type syncedGatherer struct {
	peer    *peer
	view    *view
	page    *row.Page
	results chan gathered
}

func (g *syncedGatherer) read(c *Coordinator, cmd *row.Command) {
	at := c.watch.join()
	c.enter(at, nil, nil)
	seq, err := c.o.Storage.Read(cmd, g.page)
	c.leave(at)
	c.watch.part(at)
	if err = g.view.localError(c, err); err == nil && seq != 0 {
		c.o.Storage.WhenSynced(seq, g)
		return
	}
	g.Committed(err)
}

// Committed implements Committed.
func (g *syncedGatherer) Committed(err error) { g.results <- gathered{g.peer, g.page, err} }

// repair writes to each replica what it lacks and returns how many replicas are known to hold all that was merged. What
// a replica does not acknowledge soon goes to a spare too: everything that was merged was found on some replica, and so
// it stays on as many as the level asks for.
func (g *gathering) repair(repairs [][]row.Mutation) (current int) {
	op, q := g.op, g.quota()
	done := func(p *peer) {
		q.count(p, op.view.localDC)
		current = q.got
	}
	var open []lacking
	for i := range g.peers {
		if len(repairs[i]) == 0 {
			done(g.peers[i])
			continue
		}
		for j := range repairs[i] {
			repairs[i][j].Generation = op.plan.table.Generation
		}
		open = append(open, lacking{g.peers[i], repairs[i], 0})
	}
	if len(open) == 0 {
		return current
	}
	lack := len(open)
	results := make(chan repaired, len(missing(open))*(1+len(g.spares)))
	for i := range open {
		g.send(&open[i], i, results)
	}
	if planted.On(planted.ReadRepairNotAwaited) {
		return len(g.peers)
	}
	late, spare := g.timers()
	defer late.Stop()
	defer spare.Stop()
	for waiting := len(open); waiting > 0 && q.got < q.need; {
		further := false
		select {
		case a := <-results:
			l := &open[a.index]
			switch {
			case l.messages < 0: // failed before
			case a.err != nil:
				g.refused(l.peer, a.err)
				l.messages, further = -1, true
				waiting--
			default:
				if l.messages--; l.messages == 0 {
					l.mutations = nil
					done(l.peer)
					waiting--
				}
			}
		case <-spare.C:
			further = true
		case <-late.C:
			return current
		}
		if !further {
			continue
		}
		if p := g.spare(&q); p != nil {
			open = append(open, lacking{p, missing(open[:lack]), 0})
			g.send(&open[len(open)-1], len(open)-1, results)
			waiting++
		}
	}
	return current
}

// lacking is a replica that is being repaired.
type lacking struct {
	peer      *peer
	mutations []row.Mutation // nil once it has them
	messages  int            // not acknowledged; -1: it failed
}

// repaired is the answer to one message of open[index].
type repaired struct {
	index int
	err   error
}

// missing returns what some of the replicas are not known to have got.
func missing(open []lacking) []row.Mutation {
	var out []row.Mutation
	for i := range open {
		out = append(out, open[i].mutations...)
	}
	return out
}

// send writes to a replica what it lacks, in messages of bounded size.
func (g *gathering) send(l *lacking, index int, results chan repaired) {
	op := g.op
	op.c.metrics.ReadRepairs.Add(1)
	if op.trace != nil {
		op.trace.Event("Repairing %s", l.peer.address())
	}
	var chunks [][]row.Mutation
	for rest := l.mutations; len(rest) > 0; {
		n, size := 0, 0
		for n < len(rest) && (n == 0 || size+len(rest[n].Fragment) <= repairBytesMax) {
			size += len(rest[n].Fragment) + len(rest[n].Key)
			n++
		}
		chunks = append(chunks, rest[:n])
		rest = rest[n:]
	}
	l.messages = len(chunks)
	for _, ms := range chunks {
		ack := repairAck{index, op.view.state.Epoch, results}
		if l.peer.self {
			c, v := op.c, op.view
			c.apartOrHere(func() { c.repairHere(v, ms, ack) })
			continue
		}
		body := op.view.appendPlanned(nil)
		for i := range ms {
			body = ms[i].Append(body)
		}
		op.c.send(op.trace, l.peer, VerbMutate, op.deadline, body, ack)
	}
}

func (c *Coordinator) repairHere(v *view, ms []row.Mutation, ack repairAck) {
	b := c.o.Storage.NewBatch()
	b.Planned(v.state.RingEpoch)
	if err := b.ApplyAll(ms); err != nil {
		c.o.Logger.Debug("repair refused", "err", err)
		b.Discard()
		if v.stale(c, err) {
			err = errStale
		}
		ack.Committed(err)
		return
	}
	b.Commit(ack)
}

type repairAck struct {
	index   int
	planned uint64 // epoch of the metadata
	results chan repaired
}

// Done implements rpc.Callback.
func (a repairAck) Done(r *rpc.Response) {
	a.results <- repaired{a.index, readError(r, a.planned)}
}

// Committed implements Committed.
func (a repairAck) Committed(err error) { a.results <- repaired{a.index, err} }
