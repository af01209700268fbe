package node

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"github.com/helenusdb/helenus/coordinator"
	"github.com/helenusdb/helenus/internal/eras"
	"github.com/helenusdb/helenus/internal/planted"
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
	eras    eras.Eras // batches that have rows or registers that are not visible yet
}

// errJoining refuses a write to a user table. Newer metadata follow, with which it may be tried again.
var errJoining = errors.New("node: user tables take no writes while a node is joining")

// admits says why something may not be written now: what was planned under another RingEpoch, or a user table of which there are no rows.
func (g *gate) admits(ringEpoch uint64, user bool) error {
	switch s := g.current(); {
	case s.RingEpoch != ringEpoch && !planted.On(planted.WritesNotFenced):
		return coordinator.ErrOtherPlan
	case user && s.Quiet():
		return errJoining
	}
	return nil
}

// enter counts first and looks then: a batch that drain does not count sees the state that drain waited for. It looks
// before too, so that batches that are turned away do not keep drain from seeing that nobody is inside.
func (g *gate) enter(ringEpoch uint64, user bool) (*eras.Era, error) {
	if err := g.admits(ringEpoch, user); err != nil {
		return nil, err
	}
	e := g.eras.Of(ringEpoch)
	e.Enter()
	if err := g.admits(ringEpoch, user); err != nil {
		e.Leave()
		return nil, err
	}
	return e, nil
}

// drain returns when every batch is visible that was planned under an older RingEpoch than this one, which the current state has reached.
func (g *gate) drain(ctx context.Context, ringEpoch uint64) error {
	if err := g.eras.Wait(ctx, ringEpoch); err != nil {
		return fmt.Errorf("node: writes under way: %w", err)
	}
	return nil
}

// drainAll is drain of whatever is inside: for the state in which a node joins without being sent rows, when no user table lets anything in.
func (g *gate) drainAll(ctx context.Context) error { return g.drain(ctx, math.MaxUint64) }

// batch is a batch of the engine as the coordinator sees it, behind the gate.
type batch struct {
	*storage.Batch
	gate      *gate
	ringEpoch uint64    // under which its content was planned
	inside    *eras.Era // nil: nothing in it has passed the gate
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
		b.inside.Leave()
		b.inside = nil
	}
}
