package coordinator

import (
	"github.com/helenusdb/helenus/row"
)

// Burst dispatches what one goroutine read in one go: its writes to this node share one storage batch, which Flush
// commits. It is not safe for concurrent use.
type Burst struct {
	c     *Coordinator
	batch Batch // nil: nothing written since the last Flush
	spare Batch // reused
	acks  []localAck
	alone []*Write
}

// localAck is a write target that is answered when the batch is durable.
type localAck struct {
	target *writeTarget
	hint   bool
}

// NewBurst returns an empty burst.
func (c *Coordinator) NewBurst() *Burst { return &Burst{c: c} }

func (b *Burst) open() Batch {
	if b.batch == nil {
		if b.spare == nil {
			b.spare = b.c.o.Storage.NewBatch()
		}
		b.batch = b.spare
	}
	return b.batch
}

// apply adds a mutation to the batch; a batch that is full is committed first.
func (b *Burst) apply(m *row.Mutation) error {
	err := b.open().Apply(m)
	if err != nil && b.batch.Len() > 0 && b.c.o.IsBatchFull(err) {
		b.Flush()
		err = b.open().Apply(m)
	}
	return err
}

// Flush commits the writes of the burst; their answers follow when they are durable. It does not wait.
func (b *Burst) Flush() {
	if b.batch == nil {
		return
	}
	batch := b.batch
	b.batch = nil
	g := b.c.groups.Get().(*commitGroup)
	g.c = b.c
	g.acks, b.acks = b.acks, g.acks[:0]
	g.alone, b.alone = b.alone, g.alone[:0]
	batch.Commit(g)
}

// commitGroup is what one batch acknowledges.
type commitGroup struct {
	c     *Coordinator
	acks  []localAck
	alone []*Write
}

// Committed implements Committed.
func (g *commitGroup) Committed(err error) {
	for i, w := range g.alone {
		g.alone[i] = nil
		g.c.inFlight.Add(-1)
		if err != nil {
			w.Done.WriteDone(w, g.c.localWriteError(err, w.Level, 1, w.Type))
			continue
		}
		w.Done.WriteDone(w, nil)
	}
	for _, a := range g.acks {
		if err != nil {
			a.target.outcome(outcomeTimeout)
		} else {
			a.target.outcome(outcomeAcked)
		}
	}
	clear(g.acks)
	g.acks, g.alone = g.acks[:0], g.alone[:0]
	g.c.groups.Put(g)
}
