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
	inside  atomic.Int64 // batches with rows of user tables that are not visible yet
}

// errJoining refuses a write to a user table. Newer metadata follow, with which it may be tried again.
var errJoining = errors.New("node: user tables take no writes while a node is joining")

// enter counts first and looks then: a batch that drain does not count sees the state that drain waited for. It looks
// before too, so that batches that are turned away do not keep drain from seeing that nobody is inside.
func (g *gate) enter() bool {
	if g.current().Quiet() {
		return false
	}
	g.inside.Add(1)
	if g.current().Quiet() {
		g.inside.Add(-1)
		return false
	}
	return true
}

func (g *gate) leave() { g.inside.Add(-1) }

// drain returns when every batch that was let in before the current state came is visible.
func (g *gate) drain(ctx context.Context) error {
	t := time.NewTicker(time.Millisecond)
	defer t.Stop()
	for g.inside.Load() != 0 {
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
		b.inside = b.gate.enter()
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
		b.gate.leave()
	}
}
