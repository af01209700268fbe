package coordinator

import (
	"context"
	"errors"
	"time"

	"github.com/helenusdb/helenus/coordinator/batchlog"
	"github.com/helenusdb/helenus/internal/planted"
	"github.com/helenusdb/helenus/ring"
	"github.com/helenusdb/helenus/row"
	"github.com/helenusdb/helenus/rpc"
)

// Verbs of the replica protocol; docs/format/messages.md draws the bodies.
const (
	VerbMutate rpc.Verb = 32 // a RingEpoch and mutations of one partition, one after another; answer: empty
	VerbRead   rpc.Verb = 33 // a RingEpoch and a row.Command; answer: a row.Page
	VerbCount  rpc.Verb = 40 // increments of counters of one partition, for a leader; answer: how the write ended
)

// replicaSession answers the coordinator at the other end of one connection: what arrived in one go is applied as one
// storage batch.
type replicaSession struct {
	c         *Coordinator
	from      ring.HostID
	batch     Batch  // nil: nothing written since the last Flush
	spare     Batch  // reused
	bytes     int    // in batch
	plan      uint64 // RingEpoch under which the mutations in batch were planned
	acks      []rpc.Responder
	reads     []waitingRead // that wait until the batch is committed
	place     *place
	page      row.Page
	cmd       row.Command
	mutations []row.Mutation // empty; reused
	out       []byte
	stored    []batchlog.ID // in batch
	removed   []batchlog.ID // reused
}

// waitingRead is a point read whose command is valid until the end of Flush.
type waitingRead struct {
	planned uint64
	body    []byte // the command
	rsp     rpc.Responder
}

// NewSession is for rpc's accepted connections.
func (c *Coordinator) NewSession(from ring.HostID) rpc.Session {
	return &replicaSession{c: c, from: from, place: c.watch.join()}
}

// Handle implements rpc.Session.
func (s *replicaSession) Handle(req *rpc.Request, rsp rpc.Responder) {
	s.traceReceived(req)
	switch req.Verb {
	case VerbMutate:
		s.mutate(req, rsp)
	case VerbRead:
		s.read(req, rsp)
	case VerbBatchStore:
		s.storeBatch(req, rsp)
	case VerbBatchRemove:
		s.removeBatches(req, rsp)
	case VerbCount:
		s.count(req, rsp)
	case VerbPrepare, VerbPeek, VerbAccept, VerbCommit, VerbForget:
		s.ballot(req, rsp)
	case VerbTurn, VerbYield:
		s.turn(req, rsp)
	default:
		rsp.Reply(rpc.StatusUnknownVerb, nil)
	}
}

// Flush implements rpc.Session.
func (s *replicaSession) Flush() {
	s.commit()
	for i := range s.reads {
		r := s.reads[i]
		s.reads[i] = waitingRead{}
		if _, err := row.DecodeCommand(&s.cmd, r.body); err == nil { // it did before
			s.readPoint(r.planned, r.rsp)
		}
	}
	s.reads = s.reads[:0]
}

func (s *replicaSession) commit() {
	if s.batch == nil {
		return
	}
	b := s.batch
	s.batch, s.bytes = nil, 0
	g := s.c.replicaGroups.Get().(*replicaGroup)
	g.c = s.c
	g.acks, s.acks = s.acks, g.acks[:0]
	g.stored, s.stored = s.stored, g.stored[:0]
	b.Commit(g)
}

// Close implements rpc.Session.
func (s *replicaSession) Close() {
	s.Flush()
	if s.spare != nil {
		s.spare.Discard()
	}
	s.c.watch.part(s.place)
}

// replicaGroup is what one batch of a session acknowledges.
type replicaGroup struct {
	c      *Coordinator
	acks   []rpc.Responder
	stored []batchlog.ID // entries of the batchlog in it
}

// Committed implements Committed.
func (g *replicaGroup) Committed(err error) {
	status := rpc.StatusOK
	if err != nil {
		status = rpc.StatusFailed
	}
	for i := range g.stored {
		g.c.batchlog.Stored(g.stored[i])
	}
	g.stored = g.stored[:0]
	for i := range g.acks {
		g.acks[i].Trace().Event("Mutation is in the commitlog")
		g.acks[i].Reply(status, nil)
		g.acks[i] = rpc.Responder{}
	}
	g.acks = g.acks[:0]
	g.c.replicaGroups.Put(g)
}

func (s *replicaSession) mutate(req *rpc.Request, rsp rpc.Responder) {
	planned, body, ok := splitPlanned(req.Body)
	if !ok {
		rsp.Reply(rpc.StatusBadRequest, nil)
		return
	}
	status, why := s.apply(planned, body)
	switch {
	case status == rpc.StatusOK:
		req.Trace.Event("Appending to commitlog and memtable")
		s.acks = append(s.acks, rsp)
		if planted.On(planted.BatchSplit) {
			s.Flush()
		}
	case s.c.lags(status, planned, req.Epoch):
		body, from, epoch, deadline := append([]byte(nil), body...), s.from, max(req.Epoch, planned), req.Deadline
		s.later(rsp, func() { s.c.applyWhenCaughtUp(from, planned, epoch, deadline, body, rsp) })
	default:
		rsp.Reply(status, []byte(why))
	}
}

// behind tells whether newer metadata could change a refusal.
func behind(s rpc.Status) bool { return s == rpc.StatusUnknownTable || s == rpc.StatusNotOwner }

func (s *replicaSession) later(rsp rpc.Responder, f func()) {
	if !s.c.spawn(f) {
		rsp.Reply(rpc.StatusOverloaded, nil)
	}
}

// apply adds the mutations to the session's batch, which has room for all of them. It returns a text with StatusFailed.
func (s *replicaSession) apply(planned uint64, body []byte) (status rpc.Status, why string) {
	if status := s.c.writable(planned, body); status != rpc.StatusOK {
		return status, ""
	}
	status, why, s.mutations = s.c.applyAll(s.roomFor(planned, len(body)), body, s.mutations)
	return status, why
}

// roomFor is room for mutations that were planned under a RingEpoch: a batch holds those of one.
func (s *replicaSession) roomFor(planned uint64, n int) Batch {
	if s.bytes > 0 && s.plan != planned {
		s.commit()
	}
	b := s.room(n)
	if s.plan != planned {
		s.plan = planned
		b.Planned(planned)
	}
	return b
}

// room returns the session's batch with room for n more bytes.
func (s *replicaSession) room(n int) Batch {
	if s.bytes > 0 && s.bytes+n > burstBytesMax {
		s.commit()
	}
	s.bytes += n
	if s.batch == nil {
		if s.spare == nil {
			s.spare = s.c.o.Storage.NewBatch()
		}
		s.batch = s.spare
		s.batch.Planned(s.plan)
	}
	return s.batch
}

// writable checks every mutation before the first is applied, so that none is when one is refused for what it is.
func (c *Coordinator) writable(planned uint64, body []byte) rpc.Status {
	v := c.view()
	if status := v.fence(planned); status != rpc.StatusOK {
		return status
	}
	for src := body; len(src) > 0; {
		m, rest, err := row.DecodeMutation(src)
		if err != nil {
			return rpc.StatusBadRequest
		}
		t := v.table(m.Generation)
		switch {
		case t == nil:
			return rpc.StatusUnknownTable
		case !t.owns(v.self, m.Token) && !planted.On(planted.OwnerNotChecked):
			return rpc.StatusNotOwner
		}
		src = rest
	}
	if len(body) == 0 {
		return rpc.StatusBadRequest
	}
	return rpc.StatusOK
}

// mutationsKeptMax is for how many decoded mutations a session keeps room.
const mutationsKeptMax = 256

// applyAll adds mutations that are writable to the batch: all of them or, unless the status is StatusOK, none. It returns a
// text with StatusFailed. room is reused.
func (c *Coordinator) applyAll(b Batch, body []byte, room []row.Mutation) (status rpc.Status, why string, reuse []row.Mutation) {
	ms := room[:0]
	for src := body; len(src) > 0; {
		m, rest, err := row.DecodeMutation(src)
		if err != nil {
			return rpc.StatusBadRequest, "", room
		}
		ms, src = append(ms, m), rest
	}
	err := b.ApplyAll(ms)
	if clear(ms); cap(ms) <= mutationsKeptMax {
		room = ms[:0]
	}
	switch {
	case err == nil:
		return rpc.StatusOK, "", room
	case errors.Is(err, ErrOtherPlan):
		return rpc.StatusWrongEpoch, "", room
	case c.o.IsUnknownTable(err):
		return rpc.StatusUnknownTable, "", room
	}
	c.o.Logger.Debug("mutation refused", "err", err)
	return rpc.StatusFailed, err.Error(), room
}

// applyWhenCaughtUp pulls the metadata that the coordinator has and tries again. It runs on a goroutine of its own.
func (c *Coordinator) applyWhenCaughtUp(from ring.HostID, planned, epoch uint64, deadline time.Time, body []byte, rsp rpc.Responder) {
	if !c.catchUp(from, epoch, deadline) {
		rsp.Reply(rpc.StatusWrongEpoch, nil)
		return
	}
	if status := c.writable(planned, body); status != rpc.StatusOK {
		rsp.Reply(status, nil)
		return
	}
	b := c.o.Storage.NewBatch()
	b.Planned(planned)
	status, why, _ := c.applyAll(b, body, nil)
	if status != rpc.StatusOK {
		b.Discard()
		rsp.Reply(status, []byte(why))
		return
	}
	g := c.replicaGroups.Get().(*replicaGroup)
	g.c, g.acks = c, append(g.acks[:0], rsp)
	b.Commit(g)
}

// catchUp pulls the metadata from a member that has the epoch and waits until it is applied here.
func (c *Coordinator) catchUp(from ring.HostID, epoch uint64, deadline time.Time) bool {
	ctx, cancel := context.WithDeadline(context.Background(), deadline)
	defer cancel()
	if err := c.o.Cluster.CatchUp(ctx, from); err != nil {
		c.o.Logger.Warn("metadata catch-up failed", "from", from.String(), "epoch", epoch, "err", err)
	}
	return c.o.Cluster.Current().Epoch >= epoch
}

func (s *replicaSession) read(req *rpc.Request, rsp rpc.Responder) {
	planned, command, ok := splitPlanned(req.Body)
	if _, err := row.DecodeCommand(&s.cmd, command); !ok || err != nil {
		rsp.Reply(rpc.StatusBadRequest, nil)
		return
	}
	if status := s.c.readable(planned, &s.cmd); status != rpc.StatusOK {
		if !s.c.lags(status, planned, req.Epoch) {
			rsp.Reply(status, nil)
			return
		}
		body, from, epoch, deadline := append([]byte(nil), command...), s.from, max(req.Epoch, planned), req.Deadline
		s.later(rsp, func() {
			s.c.catchUp(from, epoch, deadline)
			s.c.readApart(planned, body, rsp)
		})
		return
	}
	switch {
	case s.c.self.stalled.Load() >= stalledMax:
		rsp.Reply(rpc.StatusOverloaded, nil)
	case s.c.stalling() || !s.c.isPoint(&s.cmd):
		body := append([]byte(nil), command...)
		s.later(rsp, func() { s.c.readApart(planned, body, rsp) })
	case s.batch != nil: // no partition stays locked while this node's disk is read
		s.reads = append(s.reads, waitingRead{planned, command, rsp})
	default:
		s.readPoint(planned, rsp)
	}
}

// readPoint answers s.cmd here and now.
func (s *replicaSession) readPoint(planned uint64, rsp rpc.Responder) {
	s.cmd.Bytes = min(s.cmd.Bytes, replyBytesMax)
	s.c.traceRead(rsp.Trace(), &s.cmd)
	s.c.enter(s.place, nil, nil)
	seq, err := s.c.o.Storage.Read(&s.cmd, &s.page)
	s.c.leave(s.place)
	if status := s.c.readStatus(planned, err); status != rpc.StatusOK {
		rsp.Reply(status, nil)
		return
	}
	traceFound(rsp.Trace(), &s.page)
	s.out = s.page.Append(s.out[:0])
	if seq != 0 {
		s.c.o.Storage.WhenSynced(seq, &lateReply{rsp, append([]byte(nil), s.out...)})
	} else {
		rsp.ReplyRead(s.out)
	}
	if cap(s.out) > bodyKeptMax {
		s.out, s.page = nil, row.Page{}
	}
}

// isPoint tells whether the command names single rows: bounded work, done on the connection's goroutine.
func (c *Coordinator) isPoint(cmd *row.Command) bool {
	if cmd.Range != nil {
		return false
	}
	if t := c.view().table(cmd.Generation); t != nil && len(t.table.Clustering) == 0 || cmd.StaticOnly {
		return true
	}
	if len(cmd.Slices) == 0 || len(cmd.Slices) > pointsMax {
		return false
	}
	for i := range cmd.Slices {
		if !cmd.Slices[i].Point {
			return false
		}
	}
	return true
}

// pointsMax is how many rows a read may name and still count as a point read.
const pointsMax = 16

// readable tells whether this node may answer a read that was planned under a RingEpoch.
func (c *Coordinator) readable(planned uint64, cmd *row.Command) rpc.Status {
	if planted.On(planted.TTLByLocalClock) {
		cmd.Now = c.o.Now().Unix()
	}
	v := c.view()
	t := v.table(cmd.Generation)
	switch {
	case c.readFence(planned) != rpc.StatusOK:
		return rpc.StatusWrongEpoch
	case t == nil:
		return rpc.StatusUnknownTable
	case cmd.Range == nil && !t.serves(v.self, cmd.Token), cmd.Range != nil && !t.servesRange(v.self, *cmd.Range):
		return rpc.StatusNotOwner
	}
	return rpc.StatusOK
}

// readStatus is what becomes of a read that has come back from the store.
func (c *Coordinator) readStatus(planned uint64, err error) rpc.Status {
	switch {
	case err == nil:
		return c.readFence(planned)
	case c.o.IsUnknownTable(err):
		return rpc.StatusUnknownTable
	}
	c.o.Logger.Error("replica read failed", "err", err)
	return rpc.StatusFailed
}

// readApart answers a read that is not bounded, on a goroutine of its own.
func (c *Coordinator) readApart(planned uint64, body []byte, rsp rpc.Responder) {
	var cmd row.Command
	if _, err := row.DecodeCommand(&cmd, body); err != nil {
		rsp.Reply(rpc.StatusBadRequest, nil)
		return
	}
	if status := c.readable(planned, &cmd); status != rpc.StatusOK {
		rsp.Reply(status, nil)
		return
	}
	if !time.Now().Before(rsp.Deadline()) {
		rsp.Reply(rpc.StatusExpired, nil)
		return
	}
	cmd.Bytes = min(cmd.Bytes, replyBytesMax)
	var page row.Page
	c.traceRead(rsp.Trace(), &cmd)
	at := c.watch.join()
	c.enter(at, nil, nil)
	seq, err := c.o.Storage.Read(&cmd, &page)
	c.leave(at)
	c.watch.part(at)
	if status := c.readStatus(planned, err); status != rpc.StatusOK {
		rsp.Reply(status, nil)
		return
	}
	traceFound(rsp.Trace(), &page)
	out := page.Append(nil)
	if seq != 0 {
		c.o.Storage.WhenSynced(seq, &lateReply{rsp, out})
		return
	}
	rsp.ReplyRead(out)
}

// replyBytesMax keeps a page, with a single row beyond it, within a frame of rpc.
const replyBytesMax = 8 << 20

// lateReply answers a read when what it saw is durable.
type lateReply struct {
	rsp  rpc.Responder
	body []byte
}

// Committed implements Committed.
func (l *lateReply) Committed(err error) {
	if err != nil {
		l.rsp.Reply(rpc.StatusFailed, nil)
		return
	}
	l.rsp.ReplyRead(l.body)
}
