package node

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/helenusdb/helenus/coordinator"
	"github.com/helenusdb/helenus/meta"
	"github.com/helenusdb/helenus/ring"
	"github.com/helenusdb/helenus/row"
	"github.com/helenusdb/helenus/schema"
	"github.com/helenusdb/helenus/storage"
)

// gate lets no writes to user tables into the engine while a node is joining: the ring changes only while no user table
// holds a row (meta/formation), and what this node said about that has to stay true. It costs a write batch two atomic
// additions.
type gate struct {
	current func() *meta.State
	// inside counts batches with rows of user tables that are not visible yet, in the slot that was the turn's when they entered: so
	// that settle can wait for those of before while others come and go.
	inside   [2]atomic.Int64
	turn     atomic.Uint32
	settling atomic.Bool
}

// errJoining refuses a write to a user table. Newer metadata follow, with which it may be tried again.
var errJoining = errors.New("node: user tables take no writes while a node is joining")

// enter counts first and looks then: a batch that drain does not count sees the state that drain waited for. It looks
// before too, so that batches that are turned away do not keep drain from seeing that nobody is inside.
func (g *gate) enter() (slot uint32, ok bool) {
	if g.current().Quiet() {
		return 0, false
	}
	slot = g.turn.Load()
	g.inside[slot].Add(1)
	if g.current().Quiet() {
		g.leave(slot)
		return 0, false
	}
	return slot, true
}

func (g *gate) leave(slot uint32) { g.inside[slot].Add(-1) }

// drain returns when every batch that was let in before the current state came is visible.
func (g *gate) drain(ctx context.Context) error {
	return g.await(ctx, func() bool { return g.inside[0].Load()+g.inside[1].Load() == 0 })
}

// settle returns when every batch that was inside when it was called is visible, also while others enter and leave all the time. A batch
// that it does not wait for has looked at the state after settle was called.
func (g *gate) settle(ctx context.Context) error {
	if err := g.await(ctx, func() bool { return g.settling.CompareAndSwap(false, true) }); err != nil {
		return err
	}
	defer g.settling.Store(false)
	for range 2 { // twice: one that read the turn before it changed may have entered the slot that was empty
		slot := g.turn.Load()
		g.turn.Store(1 - slot)
		if err := g.await(ctx, func() bool { return g.inside[slot].Load() == 0 }); err != nil {
			return err
		}
	}
	return nil
}

func (g *gate) await(ctx context.Context, holds func() bool) error {
	if holds() {
		return nil
	}
	t := time.NewTicker(time.Millisecond)
	defer t.Stop()
	for !holds() {
		select {
		case <-ctx.Done():
			return fmt.Errorf("node: writes under way: %w", ctx.Err())
		case <-t.C:
		}
	}
	return nil
}

// batch is a batch of the engine as the coordinator sees it, behind the gate.
type batch struct {
	*storage.Batch
	gate   *gate
	inside bool
	slot   uint32 // of the gate, when inside
}

func (b *batch) Apply(m *row.Mutation) error {
	if !b.enter(m) {
		return errJoining
	}
	return b.Batch.Apply(m)
}

func (b *batch) ApplyAll(ms []row.Mutation) error {
	for i := range ms {
		if !b.enter(&ms[i]) {
			return errJoining
		}
	}
	return b.Batch.ApplyAll(ms)
}

// enter passes the gate once per batch, with the first row of a user table.
func (b *batch) enter(m *row.Mutation) bool {
	if !b.inside && m.Generation >= schema.GenerationUserMin {
		b.slot, b.inside = b.gate.enter()
		return b.inside
	}
	return true
}

func (b *batch) PutHint(key, value []byte) error { return b.Set(storage.SpaceHints, key, value) }

func (b *batch) DeleteHint(key []byte) error { return b.Delete(storage.SpaceHints, key) }

func (b *batch) PutBatchlog(key, value []byte) error {
	return b.Set(storage.SpaceBatchlog, key, value)
}

func (b *batch) DeleteBatchlog(key []byte) error { return b.Delete(storage.SpaceBatchlog, key) }

// SetRegister passes the gate as rows do: what was accepted for a partition is as good as a row.
func (b *batch) SetRegister(gen schema.Generation, token ring.Token, key []byte, part byte, value []byte) error {
	if !b.enter(&row.Mutation{Generation: gen}) {
		return errJoining
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
	if b.inside {
		b.inside = false
		b.gate.leave(b.slot)
	}
}
