package node

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/helenusdb/helenus/coordinator"
	"github.com/helenusdb/helenus/meta"
	"github.com/helenusdb/helenus/ring"
	"github.com/helenusdb/helenus/row"
	"github.com/helenusdb/helenus/schema"
	"github.com/helenusdb/helenus/storage"
)

// gate is where what is written passes into the engine (docs/design/0009-movement.md, F1 and F2). It lets in only what was planned under
// the RingEpoch that this node has, and nothing for user tables while a node is joining without being sent rows (meta/formation): what
// this node said about that has to stay true. It counts batches by what they were planned under, so that it can say when all that was
// let in before a state came is visible. It costs a write batch two atomic additions, and a mutation two atomic loads.
type gate struct {
	current func() *meta.State
	newest  atomic.Pointer[planned] // of planned; nil: none yet

	mu      sync.Mutex // guards planned; held for an instant
	planned []*planned // of the present RingEpoch, and of others while they have batches inside
}

// planned counts the batches of one RingEpoch.
type planned struct {
	ringEpoch uint64
	inside    atomic.Int64 // that have rows or registers that are not visible yet
}

// errJoining refuses a write to a user table. Newer metadata follow, with which it may be tried again.
var errJoining = errors.New("node: user tables take no writes while a node is joining")

// admits says why something may not be written now: what was planned under another RingEpoch, or a user table of which there are no rows.
func (g *gate) admits(ringEpoch uint64, user bool) error {
	switch s := g.current(); {
	case s.RingEpoch != ringEpoch:
		return coordinator.ErrOtherPlan
	case user && s.Quiet():
		return errJoining
	}
	return nil
}

// enter counts first and looks then: a batch that drain does not count sees the state that drain waited for. It looks
// before too, so that batches that are turned away do not keep drain from seeing that nobody is inside.
func (g *gate) enter(ringEpoch uint64, user bool) (*planned, error) {
	if err := g.admits(ringEpoch, user); err != nil {
		return nil, err
	}
	p := g.count(ringEpoch)
	if err := g.admits(ringEpoch, user); err != nil {
		p.leave()
		return nil, err
	}
	return p, nil
}

// count counts one more batch of a RingEpoch.
func (g *gate) count(ringEpoch uint64) *planned {
	if p := g.newest.Load(); p != nil && p.ringEpoch == ringEpoch {
		p.inside.Add(1)
		return p
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	now := g.current().RingEpoch
	// Who still holds what is dropped here, and counts there, is turned away when it looks.
	g.planned = slices.DeleteFunc(g.planned, func(p *planned) bool { return p.ringEpoch < now && p.inside.Load() == 0 })
	i := slices.IndexFunc(g.planned, func(p *planned) bool { return p.ringEpoch == ringEpoch })
	if i < 0 {
		i = len(g.planned)
		g.planned = append(g.planned, &planned{ringEpoch: ringEpoch})
	}
	p := g.planned[i]
	p.inside.Add(1)
	if ringEpoch == now {
		g.newest.Store(p)
	}
	return p
}

func (p *planned) leave() { p.inside.Add(-1) }

// before counts the batches inside that were planned under an older RingEpoch.
func (g *gate) before(ringEpoch uint64) (n int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, p := range g.planned {
		if p.ringEpoch < ringEpoch {
			n += p.inside.Load()
		}
	}
	return n
}

// drain returns when every batch is visible that was planned under an older RingEpoch than this one, which the current state has reached.
func (g *gate) drain(ctx context.Context, ringEpoch uint64) error {
	t := time.NewTicker(time.Millisecond)
	defer t.Stop()
	for g.before(ringEpoch) != 0 {
		select {
		case <-ctx.Done():
			return fmt.Errorf("node: writes under way: %w", ctx.Err())
		case <-t.C:
		}
	}
	return nil
}

// drainAll is drain of whatever is inside: for the state in which a node joins without being sent rows, when no user table lets anything in.
func (g *gate) drainAll(ctx context.Context) error { return g.drain(ctx, math.MaxUint64) }

// batch is a batch of the engine as the coordinator sees it, behind the gate.
type batch struct {
	*storage.Batch
	gate      *gate
	ringEpoch uint64   // under which its content was planned
	inside    *planned // nil: nothing in it has passed the gate
}

// Planned implements coordinator.Batch.
func (b *batch) Planned(ringEpoch uint64) { b.ringEpoch = ringEpoch }

func (b *batch) Apply(m *row.Mutation) error {
	if err := b.enter(m.Generation); err != nil {
		return err
	}
	return b.Batch.Apply(m)
}

func (b *batch) ApplyAll(ms []row.Mutation) error {
	for i := range ms {
		if err := b.enter(ms[i].Generation); err != nil {
			return err
		}
	}
	return b.Batch.ApplyAll(ms)
}

// enter passes the gate with the first mutation of the batch, and looks again with each further one.
func (b *batch) enter(gen schema.Generation) (err error) {
	user := gen >= schema.GenerationUserMin
	if b.inside != nil {
		return b.gate.admits(b.ringEpoch, user)
	}
	b.inside, err = b.gate.enter(b.ringEpoch, user)
	return err
}

func (b *batch) PutHint(key, value []byte) error { return b.Set(storage.SpaceHints, key, value) }

func (b *batch) DeleteHint(key []byte) error { return b.Delete(storage.SpaceHints, key) }

func (b *batch) PutBatchlog(key, value []byte) error {
	return b.Set(storage.SpaceBatchlog, key, value)
}

func (b *batch) DeleteBatchlog(key []byte) error { return b.Delete(storage.SpaceBatchlog, key) }

// SetRegister passes the gate as rows do: what was accepted for a partition is as good as a row.
func (b *batch) SetRegister(gen schema.Generation, token ring.Token, key []byte, part byte, value []byte) error {
	if err := b.enter(gen); err != nil {
		return err
	}
	return b.Batch.SetRegister(gen, token, key, part, value)
}

func (b *batch) SetLowBound(micros int64) error {
	return b.Set(storage.SpaceNode, lowBoundKey, binary.BigEndian.AppendUint64(nil, uint64(micros)))
}

func (b *batch) CommitSynced(c coordinator.Committed) {
	b.Batch.CommitSynced(c)
	b.leave()
}

// Commit makes the batch visible before it returns.
func (b *batch) Commit(c coordinator.Committed) {
	b.Batch.Commit(c)
	b.leave()
}

func (b *batch) Discard() {
	b.Batch.Discard()
	b.leave()
}

func (b *batch) leave() {
	if b.inside != nil {
		b.inside.leave()
		b.inside = nil
	}
}
