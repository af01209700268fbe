package coordinator

import (
	"time"

	"github.com/helenusdb/helenus/row"
)

// burstBytesMax is how much a burst, or a replica's session, collects before it commits by itself. It is well below what
// a storage batch takes, so that the mutations of one partition always go into one batch.
const burstBytesMax = 4 << 20

// Burst dispatches what one goroutine read in one go: its writes to this node share one storage batch, which Flush
// commits. It is not safe for concurrent use. From the first Write on it may hold locks of partitions in storage, so its
// owner calls Flush before it waits for anything, and Close when it is through with it.
type Burst struct {
	c     *Coordinator
	batch Batch  // nil: nothing written since the last Flush
	spare Batch  // reused
	bytes int    // in batch
	plan  uint64 // RingEpoch under which all of batch was planned
	acks  []localAck
	alone []*Write
	reads []*Read // that wait until the batch is committed
	place *place  // where reads run; nil: none yet
}

// localAck is a target of which this node learns when the batch is durable: itself, or one that gets a hint.
type localAck struct {
	target *writeTarget // nil: its time was up, and it is not known any more
	hint   bool
	peer   *peer // whose hint it is
	size   int   // of the hint
}

// NewBurst returns an empty burst.
func (c *Coordinator) NewBurst() *Burst { return &Burst{c: c} }

// open returns the batch with room for n more bytes of what was planned in the view.
func (b *Burst) open(v *view, n int) Batch {
	if b.bytes > 0 && (b.bytes+n > burstBytesMax || b.plan != v.state.RingEpoch) {
		b.Flush()
	}
	b.bytes += n
	if b.batch == nil {
		if b.spare == nil {
			b.spare = b.c.o.Storage.NewBatch()
		}
		b.batch, b.plan = b.spare, v.state.RingEpoch
		b.batch.Planned(b.plan)
	}
	return b.batch
}

// Flush commits the writes of the burst, whose answers follow when they are durable, and begins the reads that came after
// them. It does not wait for either.
func (b *Burst) Flush() {
	if b.batch == nil {
		return
	}
	batch := b.batch
	b.batch, b.bytes = nil, 0
	g := b.c.groups.Get().(*commitGroup)
	g.c = b.c
	g.acks, b.acks = b.acks, g.acks[:0]
	g.alone, b.alone = b.alone, g.alone[:0]
	g.watch()
	batch.Commit(g)
	b.flushReads()
}

func (b *Burst) flushReads() {
	for i, r := range b.reads {
		b.reads[i] = nil
		b.read(r)
	}
	b.reads = b.reads[:0]
}

// Close flushes the burst and gives its batch back; it is not used afterwards.
func (b *Burst) Close() {
	b.Flush()
	if b.spare != nil {
		b.spare.Discard()
		b.spare = nil
	}
	if b.place != nil {
		b.c.watch.part(b.place)
		b.place = nil
	}
}

// applyAlone adds a mutation to the batch; a batch that is full is committed first.
func (b *Burst) applyAlone(v *view, m *row.Mutation) error {
	batch := b.open(v, len(m.Key)+len(m.Fragment))
	err := batch.Apply(m)
	if err != nil && b.batch.Len() > 0 && b.c.o.IsBatchFull(err) {
		b.Flush()
		err = b.open(v, len(m.Key)+len(m.Fragment)).Apply(m)
	}
	return err
}

// commitGroup is what one batch acknowledges.
type commitGroup struct {
	c     *Coordinator
	began time.Duration // on the clock of overdue
	entry overdueEntry
	acks  []localAck
	alone []*Write // nil: answered, for its time was up
}

// Committed implements Committed.
func (g *commitGroup) Committed(err error) {
	g.c.overdue.remove(&g.entry)
	for i, w := range g.alone {
		g.alone[i] = nil
		if w == nil {
			continue
		}
		g.c.inFlight.Add(-1)
		if err != nil {
			w.Done.WriteDone(w, g.c.localWriteError(err, w))
			continue
		}
		w.Done.WriteDone(w, nil)
	}
	for i, a := range g.acks {
		g.acks[i] = localAck{}
		a.committed(g.c, err)
	}
	g.acks, g.alone = g.acks[:0], g.alone[:0]
	g.c.groups.Put(g)
}

func (a localAck) committed(c *Coordinator, err error) {
	if err != nil && a.hint {
		c.hints.Revoke(a.peer.id, a.size)
	}
	t := a.target
	switch {
	case t == nil:
	case err == nil && a.hint:
		t.outcome(outcomeHinted)
	case err == nil:
		t.outcome(outcomeAcked)
	case a.hint:
		t.outcome(outcomeUnsent)
	default:
		t.outcome(outcomeTimeout)
	}
}
