package node

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/cespare/xxhash/v2"
	"github.com/helenusdb/helenus/coordinator"
	"github.com/helenusdb/helenus/meta"
	"github.com/helenusdb/helenus/repair/movement"
	"github.com/helenusdb/helenus/repair/stream"
	"github.com/helenusdb/helenus/ring"
	"github.com/helenusdb/helenus/schema"
)

// This file brings rows to a node that gains ranges, on top of repair/stream and repair, and takes them away from one that has lost them
// (docs/design/0009-movement.md).

// Filling makes a filler of streams and comparisons, for Options.Filler.
func Filling(n *Node) movement.Filler { return newFiller(n, nil) }

func newFiller(n *Node, at func(ctx context.Context, step string) error) *filler {
	return &filler{n: n, at: at, told: map[counted]int64{}}
}

// filler is movement.Filler. The order of what it does to a range is: delete what is here; settle those that it is compared with, which also makes
// their purges stand still; stream from the source; compare. What survives a stop: that it was deleted (movement.Records), and a mark of
// each table's range, how far its stream has come.
type filler struct {
	n *Node
	// at is told of each step before it is taken; tests stop the node there. nil: nobody listens
	at func(ctx context.Context, step string) error

	mu   sync.Mutex // held for a few instructions
	plan uint64
	told map[counted]int64 // bytes of this plan's streams that were told as moved
}

// counted names a range of a table that is streamed.
type counted struct {
	stream stream.ID
	table  schema.Generation
}

func (f *filler) step(ctx context.Context, step string) error {
	if f.at == nil {
		return nil
	}
	return f.at(ctx, step)
}

// Clear implements movement.Filler.
func (f *filler) Clear(ctx context.Context, c movement.Fill) error {
	if err := f.step(ctx, "clear"); err != nil {
		return err
	}
	if err := f.n.countAnew(ctx, f.n.log.Current(), c.Keyspace, c.Ranges); err != nil {
		return err
	}
	if err := f.n.forgetStreams(ctx, c.Plan); err != nil {
		return err
	}
	for _, rg := range c.Ranges { // marks first: none may outlive what it speaks of
		id := fillStream(c.Plan, c.Keyspace, rg)
		if err := f.n.streams.fetcher.Forget(ctx, id); err != nil {
			return err
		}
	}
	for _, t := range f.tables(c) {
		if _, err := f.n.engine.ClearRanges(t.Generation, c.Ranges, func() bool { return true }); err != nil {
			return err
		}
	}
	return f.step(ctx, "cleared")
}

// tables are those of a fill that are still there. A table that was truncated has another generation since, whose rows came to this node as they
// were written.
func (f *filler) tables(c movement.Fill) []*schema.Table {
	return slices.DeleteFunc(slices.Clone(c.Tables), func(t *schema.Table) bool { return !f.there(t) })
}

// Fill implements movement.Filler.
func (f *filler) Fill(ctx context.Context, c movement.Fill, moved func(bytes int64)) error {
	f.mu.Lock()
	if f.plan != c.Plan {
		f.plan = c.Plan
		clear(f.told)
	}
	f.mu.Unlock()
	others := slices.Clone(c.Compare)
	if !c.Source.IsZero() {
		others = append(others, c.Source)
	}
	if err := f.settle(ctx, c, others); err != nil {
		return err
	}
	compare := c.Compare
	if !c.Source.IsZero() {
		resumed, err := f.begun(c)
		if err != nil {
			return err
		}
		if resumed { // what came before may be from another source, one of those to compare with even: this one has not been heard about it
			compare = others
		}
		if err := f.stream(ctx, c, moved); err != nil {
			return err
		}
	}
	if err := f.compare(ctx, c, compare, moved); err != nil {
		return err
	}
	return f.step(ctx, "compared")
}

// settle makes the others ready, and takes no ballot from now on that is not later than what they have promised: of promises this node needs to
// know no more, and of commits nothing but their rows.
func (f *filler) settle(ctx context.Context, c movement.Fill, others []ring.HostID) error {
	if err := f.step(ctx, "settle"); err != nil {
		return err
	}
	var latest int64
	err := f.each(c, func(t *schema.Table, _ ring.Range, iv ring.Interval) error {
		promised, err := f.n.repair.Settle(ctx, t.Generation, iv, others)
		latest = max(latest, promised)
		return err
	})
	if err != nil {
		return err
	}
	return f.n.coord.RaiseLowBound(ctx, latest)
}

// each calls do for each table and interval of a fill. What fails because the table is gone has succeeded.
func (f *filler) each(c movement.Fill, do func(t *schema.Table, rg ring.Range, iv ring.Interval) error) error {
	for _, t := range f.tables(c) {
		for _, rg := range c.Ranges {
			for _, iv := range rg.Intervals(nil) {
				if err := do(t, rg, iv); err != nil && f.there(t) {
					return fmt.Errorf("table %s: %w", t.Name, err)
				}
			}
		}
	}
	return nil
}

func (f *filler) there(t *schema.Table) bool {
	_, ok := f.n.log.Current().Catalog.TableByGeneration(t.Generation)
	return ok
}

// begun tells whether something was streamed for the fill before.
func (f *filler) begun(c movement.Fill) (bool, error) {
	for _, rg := range c.Ranges {
		id := fillStream(c.Plan, c.Keyspace, rg)
		if found, err := f.n.streams.store.marked(id[:]); found || err != nil {
			return found, err
		}
	}
	return false, nil
}

// stream copies what the source has.
func (f *filler) stream(ctx context.Context, c movement.Fill, moved func(bytes int64)) error {
	for _, t := range f.tables(c) {
		for _, rg := range c.Ranges {
			if err := f.step(ctx, "stream"); err != nil {
				return err
			}
			q := stream.Request{Stream: fillStream(c.Plan, c.Keyspace, rg), From: c.Source, Table: t.Generation, Range: rg, Keep: true}
			err := f.n.streams.fetcher.Fetch(ctx, q, func(p stream.Progress) { moved(f.news(&p)) })
			if err != nil && f.there(t) {
				return fmt.Errorf("table %s: %w", t.Name, err)
			}
		}
	}
	return nil
}

// news returns how many bytes of a range have come since it was asked last: Progress counts those of earlier tries too.
func (f *filler) news(p *stream.Progress) int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	k := counted{p.Stream, p.Table}
	n := p.Bytes - f.told[k]
	f.told[k] = p.Bytes
	return max(n, 0)
}

// compare makes this node have what each of the others has.
func (f *filler) compare(ctx context.Context, c movement.Fill, others []ring.HostID, moved func(bytes int64)) error {
	return f.each(c, func(t *schema.Table, _ ring.Range, iv ring.Interval) error {
		if err := f.step(ctx, "compare"); err != nil {
			return err
		}
		return f.n.repair.Pull(ctx, t.Generation, iv, others, moved)
	})
}

// fillStreams is the first byte of the ids of streams that fill ranges; the plan follows, 7 bytes, and a hash of what is filled.
const fillStreams = 1

// fillStream names the stream of a range of a keyspace under a plan. Plans are epochs, which are never used twice, so no mark of an earlier movement
// is taken for one of this.
func fillStream(plan uint64, keyspace string, rg ring.Range) (id stream.ID) {
	binary.BigEndian.PutUint64(id[:], plan)
	id[0] = fillStreams
	raw := binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64([]byte(keyspace), uint64(rg.Start)), uint64(rg.End))
	binary.BigEndian.PutUint64(id[8:], xxhash.Sum64(raw))
	return id
}

// forgetStreams removes the marks of fills under other plans.
func (n *Node) forgetStreams(ctx context.Context, plan uint64) error {
	now := fillStream(plan, "", ring.Range{})
	return n.streams.store.dropMarksBeside(ctx, []byte{fillStreams}, now[:8])
}

// givesUp tells whether a movement goes on although conditional writes are in doubt: too few of those who vote on them are alive, and an operator has forced it.
func givesUp(err error, s *meta.State) bool {
	var few *coordinator.Unavailable
	return errors.As(err, &few) && s.Forced()
}

// settleRange is what this node does before another one compares with it: repair.Options.Settle.
func (n *Node) settleRange(ctx context.Context, gen schema.Generation, tokens ring.Interval) (promised int64, err error) {
	defer n.engine.HoldPurge(gen, rangeOf(tokens))() // when it returns no purge is at work that has not heard of the movement: see keepWhatMoves
	if err := n.gate.drain(ctx, n.log.Current().RingEpoch); err != nil {
		return 0, err
	}
	err = n.coord.FinishAll(ctx, gen, tokens)
	if givesUp(err, n.log.Current()) {
		n.o.Logger.Warn("conditional writes are in doubt that too few replicas are alive to end: the movement was forced and goes on without", "generation", gen, "err", err)
		err = nil
	}
	if err != nil {
		return 0, err
	}
	return n.coord.LatestPromise(gen, tokens)
}
