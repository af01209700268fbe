package coordinator

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/helenusdb/helenus/coordinator/batchlog"
	"github.com/helenusdb/helenus/internal/planted"
	"github.com/helenusdb/helenus/meta"
	"github.com/helenusdb/helenus/ring"
	"github.com/helenusdb/helenus/row"
	"github.com/helenusdb/helenus/rpc"
)

// This file is the coordinator's half of logged batches over several partitions; batchlog.go is the other half.

// loggedBytesMax bounds the mutations of one logged batch: they travel, and are stored, as one.
const loggedBytesMax = rpc.BodyMax - batchlog.EntryBytes

// loggedOp is a logged batch under way: planned at once, then on a goroutine of its own written to the batchlog, made, and
// removed from the batchlog.
type loggedOp struct {
	c       *Coordinator
	op      *writeOp // planned and not dispatched; a reference
	outer   *Write   // the caller's, answered by WriteDone
	inner   Write    // its mutations, in memory of op's
	keepers []*peer  // chosen, and after store those that have it
	id      batchlog.ID
	body    []byte     // of the request to store
	made    chan error // how the mutations ended; capacity 1
}

// isLogged tells whether the write goes through the batchlog: a batch that touches several partitions. What every node has
// of its own is not replicated, and does not count.
func (op *writeOp) isLogged() bool {
	if op.kind != LoggedBatch || op.again {
		return false
	}
	n := 0
	for i := range op.parts {
		if op.parts[i].plan.placement != nil {
			n++
		}
	}
	return n > 1
}

// log begins a planned batch: nothing is sent to its replicas before the batchlog has it.
func (b *Burst) log(op *writeOp, w *Write) {
	c := b.c
	keepers, err := c.keepers(op.view, op.level, nil)
	if err != nil {
		op.refuse(w, err)
		return
	}
	l := &loggedOp{c: c, op: op, outer: w, keepers: keepers, made: make(chan error, 1)}
	if err := l.encode(); err != nil {
		op.refuse(w, err)
		return
	}
	op.w = &l.inner
	op.refs.Add(1)
	if !c.spawnIn(c.logging, l.run) {
		op.refs.Add(-1) // the caller has one
		op.refuse(w, &Overloaded{"too many logged batches are under way on this coordinator"})
	}
}

// refuse ends a write of which nothing was sent.
func (op *writeOp) refuse(w *Write, err error) {
	op.w = nil
	op.c.writeDone(w, err)
}

// unkept is the error of a logged batch that was refused for err, unless there is nobody to keep it, which Cassandra
// looks at first.
func (b *Burst) unkept(op *writeOp, w *Write, err error) error {
	if never := (*Unavailable)(nil); w.Type != LoggedBatch || op.again || !errors.As(err, &never) {
		return err
	}
	var none *Unavailable
	if _, unkept := b.c.keepers(op.view, op.level, nil); errors.As(unkept, &none) && none.Alive == 0 {
		return none
	}
	return err
}

// keepers chooses the nodes that keep a batch among those of the local data centre that are not known to be gone, and not those that leave the
// cluster unless there are too few others. At ANY, and for want of others, it is this one.
func (c *Coordinator) keepers(v *view, level Level, gone []*peer) ([]*peer, error) {
	ids, enough := c.chooseKeepers(v, gone, func(id ring.HostID) bool { return v.state.Node(id).State != meta.Leaving })
	if !enough {
		ids, enough = c.chooseKeepers(v, gone, func(ring.HostID) bool { return true })
	}
	switch {
	case !enough && level == Any:
		return []*peer{v.self}, nil
	case !enough:
		return nil, &Unavailable{Level: Two, Required: batchlog.Keepers, Alive: len(ids), Batchlog: true}
	}
	chosen := make([]*peer, len(ids))
	for i, id := range ids {
		chosen[i] = c.peers.of(id)
	}
	return chosen, nil
}

// chooseKeepers chooses among the nodes that may.
func (c *Coordinator) chooseKeepers(v *view, gone []*peer, may func(ring.HostID) bool) ([]ring.HostID, bool) {
	var nodes []batchlog.Node
	for i, n := range v.state.Ring.Nodes() {
		if n.DC != v.localDC || !may(n.ID) {
			continue
		}
		p := v.members[i]
		nodes = append(nodes, batchlog.Node{ID: n.ID, Rack: n.Rack, Alive: c.live(p) && !slices.Contains(gone, p)})
	}
	return batchlog.Choose(c.o.Self, v.rack(v.self), nodes, c.random)
}

// encode makes the request to store from the encoded parts, and mutations that outlive the caller's.
func (l *loggedOp) encode() error {
	size := 0
	for i := range l.op.parts {
		size += len(l.op.parts[i].mutations())
	}
	if size > loggedBytesMax {
		return &TooLarge{size, loggedBytesMax}
	}
	w := l.outer
	l.inner = Write{Mutations: make([]row.Mutation, 0, len(w.Mutations)), Level: w.Level, Type: w.Type, Timeout: w.Timeout, Trace: w.Trace, Done: l, unhinted: w.unhinted}
	l.id = batchlog.NewID(l.c.o.Now(), l.c.o.Self, l.c.batches.Add(1))
	l.body = append(make([]byte, 0, size+batchlog.EntryBytes), l.id[:]...)
	for i := range l.op.parts {
		p := &l.op.parts[i]
		if p.plan.placement != nil {
			l.body = append(l.body, p.mutations()...)
		}
		for src := p.mutations(); len(src) > 0; {
			m, rest, err := row.DecodeMutation(src)
			if err != nil {
				return fmt.Errorf("coordinator: logged batch: %w", err)
			}
			l.inner.Mutations, src = append(l.inner.Mutations, m), rest
		}
	}
	return nil
}

// run takes the batch through its steps. It holds a reference of op.
func (l *loggedOp) run() {
	defer l.op.release()
	if err := l.store(); err != nil {
		l.op.refuse(l.outer, err)
		return
	}
	l.c.batchlog.Metrics().Logged.Add(1)
	if planted.On(planted.BatchlogRemovedEarly) {
		l.remove()
	}
	b := l.c.NewBurst()
	b.dispatch(l.op, &l.inner)
	b.Close()
	if <-l.made == nil {
		l.remove()
	}
}

// WriteDone implements WriteDone: the mutations have reached their level, or have not.
func (l *loggedOp) WriteDone(_ *Write, err error) {
	err = l.truth(err)
	l.outer.Done.WriteDone(l.outer, err)
	l.made <- err
}

// truth is what may be said of a batch that is in the batchlog: it has been made, or is going to be. That it failed, or
// that nothing was sent, it cannot be any more.
func (l *loggedOp) truth(err error) error {
	if err == nil {
		return nil
	}
	if late := (*WriteTimeout)(nil); errors.As(err, &late) {
		return err
	}
	out := &WriteTimeout{Level: l.inner.Level, BlockFor: 1, Type: LoggedBatch}
	if failed := (*WriteFailure)(nil); errors.As(err, &failed) {
		out.Received, out.BlockFor = failed.Received, failed.BlockFor
	}
	l.c.o.Logger.Debug("a logged batch is left to the batchlog", "err", err)
	return out
}

// stored is the answer of one keeper.
type stored struct {
	peer *peer
	out  outcome
	why  string
}

// store has the batch stored and waits until all keepers have said that it is durable. One that cannot be reached, or takes
// nothing, though nobody has noticed yet that it is down, is replaced, or done without as if it were known to be down.
func (l *loggedOp) store() error {
	ask, need := l.keepers, len(l.keepers)
	l.keepers = nil
	timer := time.NewTimer(time.Until(l.op.deadline))
	defer timer.Stop()
	var gone []*peer
	var failures []Failure
	for {
		before, certain, refused := len(gone), true, false
		for _, a := range l.ask(ask, timer) {
			switch a.out {
			case outcomeAcked:
				l.keepers = append(l.keepers, a.peer)
				continue
			case outcomeTimeout:
				certain = false
				continue
			case outcomeUnsent:
				gone = append(gone, a.peer)
			default:
				refused = true
			}
			f := a.peer.failure(ReasonUnknown)
			if f.Why = a.why; a.out == outcomeUnsent {
				f.Code = ReasonTimeout
			}
			failures = append(failures, f)
		}
		if certain && !refused && len(gone) == before {
			return nil
		}
		var err error
		if ask, err = l.others(gone); !certain || refused || err != nil {
			return l.storeError(need, certain, failures)
		}
	}
}

// others returns who is to be asked in place of those that are gone, first those of racks that have no keeper yet, and fails
// when the batch cannot be kept without them.
func (l *loggedOp) others(gone []*peer) ([]*peer, error) {
	chosen, err := l.c.keepers(l.op.view, l.op.level, gone)
	if err != nil {
		return nil, err
	}
	missing := len(chosen) - len(l.keepers)
	ask := slices.DeleteFunc(chosen, func(p *peer) bool { return slices.Contains(l.keepers, p) })
	second := func(p *peer) int {
		if slices.ContainsFunc(l.keepers, func(k *peer) bool { return l.op.view.rack(k) == l.op.view.rack(p) }) {
			return 1
		}
		return 0
	}
	slices.SortStableFunc(ask, func(a, b *peer) int { return second(a) - second(b) })
	return ask[:max(0, min(len(ask), missing))], nil
}

// rack returns the rack of a member of the ring.
func (v *view) rack(p *peer) string {
	if i := slices.Index(v.members, p); i >= 0 {
		return v.state.Ring.Nodes()[i].Rack
	}
	return ""
}

// ask sends the batch to nodes and returns what each has said, or that it has said nothing in time.
func (l *loggedOp) ask(nodes []*peer, timer *time.Timer) []stored {
	answers := make(chan stored, len(nodes))
	for _, p := range nodes {
		l.storeAt(p, answers)
	}
	said := make([]stored, 0, len(nodes))
	for range nodes {
		select {
		case a := <-answers:
			said = append(said, a)
		case <-timer.C:
			return append(said, stored{l.op.view.self, outcomeTimeout, ""}) // that of this node's own disk: all others have deadlines
		}
	}
	return said
}

// storeError is the truth about a batch that not all keepers have, and of which nothing was sent to its replicas. A keeper
// that has it, or may have it, is going to replay it: only when all of them are known not to have it has it failed, and only
// when one of them refused it. If they were not to be reached it timed out: drivers try such a batch again.
func (l *loggedOp) storeError(need int, certain bool, failures []Failure) error {
	level := Two
	if need == 1 {
		level = One
	}
	if len(l.keepers) == 0 && certain && refused(failures) {
		return &WriteFailure{Level: level, BlockFor: need, Type: BatchLog, Failures: failures}
	}
	return &WriteTimeout{Level: level, Received: min(len(l.keepers), need-1), BlockFor: need, Type: BatchLog}
}

func (l *loggedOp) storeAt(p *peer, answers chan<- stored) {
	if t := l.op.trace; t != nil {
		t.Event("Sending BATCH_STORE_REQ message to %s", p.address())
	}
	if !p.self {
		l.c.o.Transport.Send(p.id, rpc.Data, VerbBatchStore, l.op.deadline, l.body, &storeAnswer{p, answers})
		return
	}
	id, mutations, _ := batchlog.DecodeStore(l.body)
	b := l.c.o.Storage.NewBatch()
	if err := b.PutBatchlog(id[:], batchlog.AppendValue(nil, l.c.o.Now(), mutations)); err != nil {
		b.Discard()
		answers <- stored{p, outcomeFailed, err.Error()}
		return
	}
	b.Commit(committedFunc(func(err error) {
		l.c.batchlog.Stored(id)
		if err != nil {
			answers <- stored{p, outcomeTimeout, err.Error()} // it may be durable
			return
		}
		answers <- stored{p, outcomeAcked, ""}
	}))
}

// storeAnswer is the callback of a keeper's answer.
type storeAnswer struct {
	peer    *peer
	answers chan<- stored
}

// Done implements rpc.Callback.
func (a *storeAnswer) Done(r *rpc.Response) {
	var e *rpc.Error
	switch {
	case r.Err == nil && r.Status == rpc.StatusOK:
		a.answers <- stored{a.peer, outcomeAcked, ""}
	case r.Err == nil && r.Status == rpc.StatusFailed && len(r.Body) == 0: // it is there, and not durable
		a.answers <- stored{a.peer, outcomeTimeout, ""}
	case r.Err == nil: // the epoch is no matter here
		a.answers <- stored{a.peer, statusOutcome(r, math.MaxUint64), string(r.Body[:min(len(r.Body), whyBytesMax)])}
	case errors.As(r.Err, &e) && !e.Sent:
		a.answers <- stored{a.peer, outcomeUnsent, ""}
	default:
		a.answers <- stored{a.peer, outcomeTimeout, ""}
	}
}

// remove asks the keepers to forget the batch, and does not wait: where that is not heard it is replayed, which changes
// nothing.
func (l *loggedOp) remove() {
	deadline := time.Now().Add(l.c.o.WriteTimeout)
	for _, p := range l.keepers {
		if !p.self {
			l.c.o.Transport.Send(p.id, rpc.Data, VerbBatchRemove, deadline, l.id[:], unheard{})
			continue
		}
		b := l.c.o.Storage.NewBatch()
		if b.DeleteBatchlog(l.id[:]) != nil {
			b.Discard()
			continue
		}
		b.Commit(committedFunc(func(error) {}))
	}
}

// unheard is the callback of a request whose answer does not matter.
type unheard struct{}

// Done implements rpc.Callback.
func (unheard) Done(*rpc.Response) {}
