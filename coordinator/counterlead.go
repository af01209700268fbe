package coordinator

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/helenusdb/helenus/internal/planted"
	"github.com/helenusdb/helenus/internal/trace"
	"github.com/helenusdb/helenus/ring"
	"github.com/helenusdb/helenus/row"
	"github.com/helenusdb/helenus/rpc"
)

// A leader reads what its own shard has counted, adds, and stores the sum with the next clock. Two such steps on one partition
// must not overlap: every partition belongs to one lane, and one goroutine works on a lane. The new state is durable here
// before another replica gets it: a leader that forgot it after a crash would give out the same clock for another count.
// From then on it is an ordinary mutation: sent, hinted and repaired like any other, and applied once however often it comes.

const (
	counterLanesLen = 16
	laneQueueMax    = 8192 // requests that wait in one lane; further ones are Overloaded
	laneGroupMax    = 64   // partitions that go into one batch
	laneJoinMax     = 256  // requests about one partition that become one write
	seenSlack       = time.Second
)

// counterLanes are the lanes of a node.
type counterLanes struct {
	lanes  [counterLanesLen]counterLane
	number atomic.Uint64 // of the last request that this node has made
}

func (s *counterLanes) init(c *Coordinator) {
	s.number.Store(uint64(c.o.Now().UnixNano())) // larger than those of an earlier start
	for i := range s.lanes {
		l := &s.lanes[i]
		l.c, l.wake, l.seen = c, make(chan struct{}, 1), map[countID]time.Time{}
	}
}

// Shard returns what this node counts with as a leader.
func (c *Coordinator) Shard() row.ShardID { return *c.shard.Load() }

// SetShard has this node count with another shard from now on: of a range that it gets back it may not know the last state of the one that it had. The caller has made it durable
// that the id is this node's.
func (c *Coordinator) SetShard(id row.ShardID) { c.shard.Store(&id) }

// lead gives an op to its lane.
func (s *counterLanes) lead(op *leadOp) {
	h := uint64(op.ms[0].Token) * 0x9E3779B97F4A7C15
	s.lanes[h>>60].add(op)
}

// countID names a request of another node, so that one that comes twice is counted once.
type countID struct {
	from   ring.HostID
	number uint64
}

// leadOp is a request that this node leads. The lane owns it until the batch is durable, then the write to the replicas.
type leadOp struct {
	c        *Coordinator
	level    Level
	planned  uint64 // RingEpoch of the metadata by which this node leads
	need     int    // answers that the level wants
	deadline time.Time
	trace    *trace.Session
	id       countID        // zero: of this node's own clients
	ms       []row.Mutation // increments of one partition
	shards   [1]row.Mutation
	joined   []*leadOp // later requests about the partition: shards has what they count too
	write    Write
	entry    overdueEntry // watched when it is of this node's own clients

	answered atomic.Bool
	end      leadEnd
}

// leadEnd is told once how a request ended: nil, *refusal when nothing is applied, *Unavailable, which is as true,
// *WriteTimeout or *WriteFailure. epoch is that of the leader's metadata.
type leadEnd interface{ led(err error, epoch uint64) }

// finish tells how the request ended, if nobody has.
func (op *leadOp) finish(err error) {
	if op.answered.Swap(true) {
		return
	}
	op.c.overdue.remove(&op.entry)
	op.end.led(err, op.c.o.Cluster.Current().Epoch)
}

func (op *leadOp) timeout() error {
	return &WriteTimeout{Level: op.level, BlockFor: op.need, Type: CounterWrite}
}

// expire implements localWork.
func (op *leadOp) expire(_ time.Duration, due *dueWork) time.Duration {
	due.leads = append(due.leads, op)
	return never
}

// WriteDone implements WriteDone: what is stored here has reached the replicas, or not. It counts whatever happened there.
func (op *leadOp) WriteDone(_ *Write, err error) {
	if err != nil && !mayHaveCounted(err) {
		err = op.timeout()
	}
	op.finishAll(err)
}

// finishAll is finish of the request and of those that joined it.
func (op *leadOp) finishAll(err error) {
	op.finish(err)
	for _, o := range op.joined {
		o.finish(err)
	}
}

// settle says that nothing is owed any more for the request and those that joined it.
func (op *leadOp) settle() { op.c.owing.Add(-1 - int64(len(op.joined))) }

// leadReply answers the coordinator that has forwarded a request.
type leadReply struct{ rsp rpc.Responder }

func (l leadReply) led(err error, _ uint64) {
	var r *refusal
	if errors.As(err, &r) {
		l.rsp.Reply(r.status, []byte(r.why))
		return
	}
	l.rsp.Reply(rpc.StatusOK, appendCountAnswer(nil, err))
}

// decodeTarget decodes mutations that must all be of one partition of one table. They alias src.
func decodeTarget(src []byte) (ms []row.Mutation, ok bool) {
	for len(src) > 0 {
		m, rest, err := row.DecodeMutation(src)
		if err != nil || row.ValidateFragment(m.Fragment) != nil || len(ms) > 0 && !sameTarget(&ms[0], &m) {
			return nil, false
		}
		ms, src = append(ms, m), rest
	}
	return ms, len(ms) > 0
}

// count begins to lead a request of another node.
func (s *replicaSession) count(req *rpc.Request, rsp rpc.Responder) {
	c := s.c
	number, level, planned, body, ok := decodeCount(bytes.Clone(req.Body))
	op := &leadOp{c: c, level: level, planned: planned, deadline: req.Deadline, id: countID{s.from, number}, end: leadReply{rsp}}
	if ok {
		op.ms, ok = decodeTarget(body)
	}
	switch {
	case !ok:
		rsp.Reply(rpc.StatusBadRequest, nil)
	case c.stopping():
		rsp.Reply(rpc.StatusNotReady, nil)
	case c.lags(c.leads(c.view(), op), planned, req.Epoch):
		from, epoch := s.from, max(req.Epoch, planned)
		s.later(rsp, func() {
			c.catchUp(from, epoch, op.deadline)
			c.counters.lead(op)
		})
	default:
		c.counters.lead(op)
	}
}

func (c *Coordinator) stopping() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.closing
}

// leads tells whether this node may lead a request: by the metadata under which that was planned it answers reads of the partition, for
// it has its whole shard.
func (c *Coordinator) leads(v *view, op *leadOp) rpc.Status {
	m := &op.ms[0]
	t := v.table(m.Generation)
	switch {
	case t == nil:
		return rpc.StatusUnknownTable
	case v.fence(op.planned) != rpc.StatusOK:
		return rpc.StatusWrongEpoch
	case !t.leads(v.self, m.Token):
		return rpc.StatusNotOwner
	case !t.table.Counter():
		return rpc.StatusBadRequest
	case c.Shard() == row.ShardID{}:
		return rpc.StatusNotReady
	}
	return rpc.StatusOK
}

// counterLane leads the requests of its partitions, one after another.
type counterLane struct {
	c    *Coordinator
	wake chan struct{} // capacity 1

	mu      sync.Mutex // guards what follows; held for an instant
	queue   []*leadOp
	durable []*leadGroup
	closed  bool

	// Of run alone.
	seen  map[countID]time.Time // requests that came, until when they may come again
	swept time.Time
	burst *Burst
	batch Batch
	group *leadGroup // what is in batch
	size  int        // bytes of it
	merge row.Increments
	page  row.Page
	pages row.PageReader
	frag  row.FragmentReader
	cmd   row.Command
}

// leadGroup is what one batch of a lane holds; it is told when that is durable.
type leadGroup struct {
	lane    *counterLane
	planned uint64 // RingEpoch of all of them
	ops     []*leadOp
}

// add queues an op, or refuses it.
func (l *counterLane) add(op *leadOp) {
	l.mu.Lock()
	status := rpc.StatusOK
	switch {
	case l.closed:
		status = rpc.StatusNotReady
	case len(l.queue) >= laneQueueMax:
		status = rpc.StatusOverloaded
	default:
		l.queue = append(l.queue, op)
		l.c.owing.Add(1)
	}
	l.mu.Unlock()
	if status != rpc.StatusOK {
		op.finish(&refusal{status, ""})
		return
	}
	l.rouse()
}

func (l *counterLane) rouse() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// Committed implements Committed. It must not block: the lane goes on with what is durable.
func (g *leadGroup) Committed(err error) {
	l := g.lane
	if err != nil {
		for _, op := range g.ops {
			op.finishAll(op.timeout())
			op.settle()
		}
		return
	}
	l.mu.Lock()
	l.durable = append(l.durable, g)
	l.mu.Unlock()
	l.rouse()
}

func (l *counterLane) run(ctx context.Context) {
	l.burst = l.c.NewBurst()
	l.batch = l.c.o.Storage.NewBatch()
	for {
		select {
		case <-ctx.Done():
			l.close()
			return
		case <-l.wake:
		}
		for l.turn() {
		}
		l.sweep()
	}
}

// take returns what there is to do.
func (l *counterLane) take() (ops []*leadOp, groups []*leadGroup) {
	l.mu.Lock()
	defer l.mu.Unlock()
	ops, groups, l.queue, l.durable = l.queue, l.durable, nil, nil
	return ops, groups
}

// turn does what there is to do and tells whether there was anything.
func (l *counterLane) turn() bool {
	ops, groups := l.take()
	for _, g := range groups {
		for _, op := range g.ops {
			l.replicate(op)
		}
	}
	l.burst.Flush()
	for _, op := range ops {
		if err := l.count(op); err != nil {
			op.finish(err)
			l.c.owing.Add(-1)
		}
	}
	l.commit()
	return len(ops)+len(groups) > 0
}

// close refuses what waits; what is durable and not replicated has run out of time, for Run has waited for it.
func (l *counterLane) close() {
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	ops, groups := l.take()
	for _, op := range ops {
		op.finish(&refusal{rpc.StatusNotReady, ""})
	}
	for _, g := range groups {
		for _, op := range g.ops {
			op.finishAll(op.timeout())
		}
	}
	l.burst.Close()
	l.batch.Discard()
}

// sweep forgets requests that cannot come again: their time is up.
func (l *counterLane) sweep() {
	now := time.Now()
	if now.Sub(l.swept) < seenSlack {
		return
	}
	l.swept = now
	for id, until := range l.seen {
		if now.After(until) {
			delete(l.seen, id)
		}
	}
}

// count adds the op's new shards to the group, as a write of its own or as part of one that is there. With an error, of which op is to be
// told, nothing of it is there.
func (l *counterLane) count(op *leadOp) error {
	if op.answered.Load() { // its time was up while it waited
		return op.timeout()
	}
	if err := l.admit(op); err != nil {
		return err
	}
	holder := l.holder(op) // what it counts is not in the store yet
	if holder != nil && !holder.takes(op) {
		l.commit()
		holder = nil
	}
	if err := l.shards(op, holder); err != nil {
		return err
	}
	if holder != nil {
		return l.join(holder, op)
	}
	size := op.size()
	if l.group != nil && (len(l.group.ops) >= laneGroupMax || l.group.planned != op.planned || l.size+size > burstBytesMax) {
		l.commit()
	}
	if l.group == nil {
		l.group = &leadGroup{lane: l, planned: op.planned}
	}
	l.group.ops = append(l.group.ops, op)
	l.size += size
	return nil
}

func (op *leadOp) size() int { return len(op.shards[0].Key) + len(op.shards[0].Fragment) }

// takes tells whether another request about the partition can join this one: one write to the replicas serves both.
func (op *leadOp) takes(o *leadOp) bool {
	size := op.size()
	for i := range o.ms {
		size += len(o.ms[i].Fragment)
	}
	return op.level == o.level && op.planned == o.planned && op.trace == nil && o.trace == nil && len(op.joined) < laneJoinMax && size < joinBytesMax
}

// joinBytesMax is the size that a write is kept below when others join it.
const joinBytesMax = 64 << 10

// join makes one write of the holder's shards and those of op, which were counted on from them.
func (l *counterLane) join(holder, op *leadOp) error {
	both, err := row.MergeFragments(nil, [][]byte{holder.shards[0].Fragment, op.shards[0].Fragment})
	if err != nil {
		return l.storeError(err)
	}
	l.size += len(both) - len(holder.shards[0].Fragment)
	holder.shards[0].Fragment = both
	holder.joined = append(holder.joined, op)
	if holder.deadline.Before(op.deadline) {
		holder.deadline = op.deadline
	}
	return nil
}

// admit tells why an op cannot be led now, nil when it can.
func (l *counterLane) admit(op *leadOp) error {
	c := l.c
	if op.id != (countID{}) {
		if _, twice := l.seen[op.id]; twice {
			return op.timeout() // whoever asks knows the answer to the first, or does not
		}
		l.seen[op.id] = op.deadline.Add(seenSlack)
	}
	if !time.Now().Before(op.deadline) {
		return &refusal{rpc.StatusExpired, ""}
	}
	v := c.view()
	if status := c.leads(v, op); status != rpc.StatusOK {
		return &refusal{status, ""}
	}
	var err error
	op.need, err = c.countAvailable(v.table(op.ms[0].Generation), op.ms[0].Token, op.level)
	return err
}

// holder returns the op of the group that is about the same partition, nil if there is none.
func (l *counterLane) holder(op *leadOp) *leadOp {
	if l.group == nil || planted.On(planted.CounterReadUnlocked) {
		return nil
	}
	for _, o := range l.group.ops {
		if sameTarget(&o.ms[0], &op.ms[0]) {
			return o
		}
	}
	return nil
}

func (l *counterLane) storeError(err error) error {
	if errors.Is(err, ErrOtherPlan) {
		return &refusal{rpc.StatusWrongEpoch, ""}
	}
	if l.c.o.IsUnknownTable(err) {
		return &refusal{rpc.StatusUnknownTable, ""}
	}
	l.c.o.Logger.Debug("counter write refused", "err", err)
	return &refusal{rpc.StatusFailed, err.Error()}
}

// shards computes what the op's increments make of this node's shards, as holder leaves them if there is one.
func (l *counterLane) shards(op, holder *leadOp) error {
	m := op.ms[0]
	if len(op.ms) > 1 {
		frags := make([][]byte, len(op.ms))
		for i := range op.ms {
			frags[i] = op.ms[i].Fragment
		}
		var err error
		if m.Fragment, err = row.MergeFragments(nil, frags); err != nil {
			return &refusal{rpc.StatusBadRequest, ""}
		}
	}
	current, err := l.read(&m)
	if err != nil {
		return err
	}
	if holder != nil {
		if current, err = row.MergeFragments(nil, [][]byte{current, holder.shards[0].Fragment}); err != nil {
			return l.storeError(err)
		}
	}
	if m.Fragment, err = l.merge.Apply(nil, m.Fragment, current, l.c.Shard()); err != nil {
		return l.storeError(err)
	}
	op.shards[0] = m
	return nil
}

// read returns what the store has of the rows that increments are about; valid until the next read.
func (l *counterLane) read(m *row.Mutation) ([]byte, error) {
	c, f := l.c, &l.frag
	if err := f.Init(m.Fragment); err != nil {
		return nil, &refusal{rpc.StatusBadRequest, ""}
	}
	if f.Static() == nil && !f.HasRows() {
		return nil, nil // deletions only
	}
	l.cmd = row.Command{Generation: m.Generation, Now: c.o.Now().Unix(), Token: m.Token, Key: m.Key, WithStatic: f.Static() != nil,
		StaticOnly: !f.HasRows(), Slices: l.cmd.Slices[:0], Bytes: row.MaxPageBytes, GCBefore: row.NoTimestamp}
	for f.NextRow() {
		if len(f.Ckey) > 0 {
			end := append(bytes.Clone(f.Ckey), 0xFF)
			l.cmd.Slices = append(l.cmd.Slices, row.Slice{Start: end[: len(end)-1 : len(end)-1], End: end, Point: true})
		}
	}
	if len(l.cmd.Slices) == 0 {
		l.cmd.Slices = nil
	}
	if _, err := c.o.Storage.Read(&l.cmd, &l.page); err != nil {
		return nil, l.storeError(err)
	}
	if l.page.More {
		return nil, &refusal{rpc.StatusFailed, "the rows of a counter write are too large to be read at once"}
	}
	l.pages.Init(l.page.Data)
	if !l.pages.Next() {
		return nil, nil
	}
	return l.pages.Fragment, nil
}

// commit makes the batch visible; its ops follow when it is durable.
func (l *counterLane) commit() {
	g := l.group
	if g == nil {
		l.batch.Discard() // stripes of what was refused
		return
	}
	l.group, l.size = nil, 0
	l.batch.Planned(g.planned)
	g.ops = slices.DeleteFunc(g.ops, l.refusedByStore)
	if planted.On(planted.CounterClockLost) {
		g.Committed(nil)
		g = &leadGroup{lane: l}
	}
	l.batch.Commit(g)
}

// refusedByStore adds the op's shards to the batch, or tells those who asked why that cannot be.
func (l *counterLane) refusedByStore(op *leadOp) bool {
	err := l.batch.ApplyAll(op.shards[:])
	if err != nil {
		op.finishAll(l.storeError(err))
		op.settle()
	}
	return err != nil
}

// replicate writes the op's shards, which are durable here, to the other replicas.
func (l *counterLane) replicate(op *leadOp) {
	c := l.c
	op.write = Write{Mutations: op.shards[:], Level: op.level, Type: CounterWrite, Timeout: max(time.Until(op.deadline), time.Millisecond),
		Trace: op.trace, Done: op, applied: true}
	c.metrics.CountersLed.Add(1 + int64(len(op.joined)))
	c.inFlight.Add(1)
	l.burst.begin(c.view(), &op.write, false)
	op.settle()
}
