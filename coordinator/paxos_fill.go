package coordinator

import (
	"bytes"
	"context"
	"fmt"
	"math"

	"github.com/helenusdb/helenus/coordinator/paxos"
	"github.com/helenusdb/helenus/internal/planted"
	"github.com/helenusdb/helenus/ring"
	"github.com/helenusdb/helenus/schema"
)

// This file is what a node that takes over a range needs of those that have it, and of itself: docs/design/0009-movement.md, "Conditional
// writes". No register is copied: that a commit was made is a lie at a node that does not have its rows.

// FinishAll finishes every conditional write that is accepted on this node and not known to be decided, of partitions whose tokens lie in the interval,
// also one that a proposer may still be at work on: it then finds that out. The error is that of the first that could not be finished.
func (c *Coordinator) FinishAll(ctx context.Context, gen schema.Generation, tokens ring.Interval) error {
	if planted.On(planted.SettleSkipped) {
		return nil
	}
	return c.finishRange(ctx, gen, tokens, math.MaxInt64)
}

// Disown has this node, which may have lost the end of its log and does not vote, forget what it has accepted of partitions whose tokens lie in the interval and does
// not know to be decided: all may have come to its end since, and been forgotten by the others, of which the log's end told. Only when the others have
// been settled (docs/design/0006-paxos.md, "A node that forgot"). local: what was proposed at LOCAL_SERIAL too, for which there are others in this data centre.
// It is durable when it returns nil.
func (c *Coordinator) Disown(ctx context.Context, gen schema.Generation, tokens ring.Interval, local bool) error {
	if c.o.Registers == nil || c.view().table(gen) == nil {
		return nil
	}
	for at := c.o.Registers.RegistersFrom(gen, tokens.First); at != nil; {
		var found []Register
		var err error
		at, err = c.scanRange(at, gen, tokens, sweepPage, func(r Register, s *paxos.State) {
			if s != nil && !s.Accepted.Ballot.IsZero() && (local || !s.Local) {
				r.Key = bytes.Clone(r.Key)
				found = append(found, r)
			}
		})
		for i := 0; i < len(found) && err == nil; i++ {
			err = c.acceptor.disown(ctx, &found[i])
		}
		if err != nil {
			return fmt.Errorf("coordinator: disown: %w", err)
		}
	}
	return nil
}

// disown forgets what is accepted of one partition.
func (a *acceptor) disown(ctx context.Context, r *Register) error {
	q := &ballotRequest{planned: a.c.view().state.RingEpoch, generation: r.Generation, token: r.Token, key: r.Key}
	v := ballotVote{a: a, q: q}
	stripe := a.stripe(q)
	stripe <- struct{}{}
	err := v.load()
	if err != nil || !v.state.Disown() {
		<-stripe
		return err
	}
	if err = v.write(); err != nil {
		v.batch.Discard()
		a.giveBack(v.batch)
		<-stripe
		return err
	}
	done := make(raised, 1)
	v.batch.CommitSynced(done)
	a.giveBack(v.batch)
	<-stripe
	select {
	case err = <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// LatestPromise returns the time of the latest ballot, µs since the epoch, that this node has promised to a partition of the table whose token lies in the interval.
// Of registers that it has forgotten it knows a bound for all of them together.
func (c *Coordinator) LatestPromise(gen schema.Generation, tokens ring.Interval) (micros int64, err error) {
	if c.o.Registers == nil {
		return 0, nil
	}
	micros = c.acceptor.low.Load()
	_, err = c.scanRange(c.o.Registers.RegistersFrom(gen, tokens.First), gen, tokens, math.MaxInt, func(_ Register, s *paxos.State) {
		if s != nil {
			micros = max(micros, s.Promised.Micros)
		}
	})
	return micros, err
}

// RaiseLowBound makes this node refuse ballots at or before a time, µs since the epoch, of every partition. It is durable when it returns nil. It
// never falls.
func (c *Coordinator) RaiseLowBound(ctx context.Context, micros int64) error {
	a := &c.acceptor
	if c.o.Registers == nil || micros <= a.low.Load() {
		return nil
	}
	select {
	case a.raising <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	done := make(chan error, 1)
	err := a.raiseLow(micros, done)
	<-a.raising
	if err == nil {
		select {
		case err = <-done:
		case <-ctx.Done():
			err = ctx.Err()
		}
	}
	if err != nil {
		return fmt.Errorf("coordinator: low bound of ballots: %w", err)
	}
	return nil
}

// raiseLow begins to store the bound, which holds at once. The caller holds the token of raising.
func (a *acceptor) raiseLow(micros int64, done chan error) error {
	low := max(a.low.Load(), micros)
	b := a.batch(a.c.view().state.RingEpoch)
	if err := b.SetLowBound(low); err != nil {
		b.Discard()
		a.giveBack(b)
		return err
	}
	a.low.Store(low)
	b.CommitSynced(raised(done))
	a.giveBack(b)
	return nil
}

// raised is a channel as a Committed.
type raised chan error

// Committed implements Committed.
func (r raised) Committed(err error) { r <- err }
