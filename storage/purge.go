package storage

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/helenusdb/helenus/internal/planted"
	"github.com/helenusdb/helenus/row"
	"github.com/helenusdb/helenus/schema"
)

// PurgeStats says what one purge did.
type PurgeStats struct {
	Seen      int // rows and markers looked at because the death index names them
	Changed   int // keys rewritten or removed
	Postponed int // partitions whose markers stayed because writes came in between
	Held      int // keys left alone because their range is held (HoldPurge)
}

const (
	purgeTick      = 10 * time.Millisecond
	purgeChunkRows = 1024 // rows of one partition that are rewritten under one hold of the stripe
	purgeTries     = 3
	// clockSkewMax: what a purge stores must look the same to every coordinator's clock, so it takes for dead only what died
	// this long ago.
	clockSkewMax = 60 // seconds
)

// purger is one run over one generation.
type purger struct {
	e      *Engine
	t      *schema.Table
	now    int64
	before GCBefore
	tick   *time.Timer // nil: not throttled
	seen   int         // since the last tick
	stats  PurgeStats
	frag   row.FragmentReader
	build  row.FragmentBuilder
	out    []byte
	entry  []byte
	mortal mortality
}

// Purge removes what has died: cells past their TTL, and tombstones whose grace is over together with what they shadow. It looks
// only where the death index says that something may have died, and at each key under its stripe held exclusively, so the merged
// value is all there is of the row on this node. What it did is durable when it returns. A suspect node purges nothing. ctx ends it early, with its error.
func (e *Engine) Purge(ctx context.Context, gen schema.Generation) (PurgeStats, error) {
	return e.purge(ctx, gen, false)
}

func (e *Engine) purge(ctx context.Context, gen schema.Generation, throttled bool) (s PurgeStats, err error) {
	t, ok := e.opts.Tables.Table(gen)
	if !ok {
		return s, fmt.Errorf("storage: purge generation %d: %w", gen, ErrUnknownTable)
	}
	err = e.withToken(e.purges, func() error {
		if err := e.writable(); err != nil || e.Suspect() || e.isDropped(gen) {
			return err
		}
		e.opts.Metrics.PurgeRuns.Add(1)
		p := &purger{e: e, t: t, now: e.opts.Now().Unix() - clockSkewMax}
		p.before = e.opts.GCBefore(t, p.now)
		if throttled {
			p.tick = time.NewTimer(purgeTick)
			defer p.tick.Stop()
		}
		err := p.run(ctx)
		if s = p.stats; s.Changed > 0 {
			err = errors.Join(err, e.db.LogData(nil, pebble.Sync))
		}
		return err
	})
	if err != nil {
		return s, fmt.Errorf("storage: purge generation %d: %w", gen, err)
	}
	return s, nil
}

// run purges markers first: with them goes what they shadow.
func (p *purger) run(ctx context.Context) error {
	latest := p.before.Latest
	if planted.On(planted.PurgeBeforeGrace) {
		latest = p.now
	}
	if err := p.candidates(ctx, deathMarker, latest, p.purgeMarkers); err != nil {
		return err
	}
	if err := p.candidates(ctx, deathDeleted, latest, p.purgeRow); err != nil {
		return err
	}
	return p.candidates(ctx, deathExpiry, p.now+1, p.purgeRow)
}

// candidates calls f for each entry of the death index, and the key it is about, in a bucket that begins before the given time.
func (p *purger) candidates(ctx context.Context, kind byte, before int64, f func(death, key []byte) error) error {
	if before <= 0 {
		return nil
	}
	lower := append(appendGeneration(nil, spaceDeaths, p.t.Generation), kind)
	upper := binary.BigEndian.AppendUint32(slices.Clone(lower), deathBucket(before-1))
	it, err := p.e.db.NewIterWithContext(ctx, &pebble.IterOptions{LowerBound: lower, UpperBound: prefixSuccessor(nil, upper)})
	if err != nil {
		return err
	}
	var key []byte
	for ok := it.First(); ok && err == nil; ok = it.Next() {
		if key, ok = appendDeathKey(key[:0], it.Key()); !ok {
			err = fmt.Errorf("death %x: %w", it.Key(), errBadKey)
			break
		}
		p.stats.Seen++
		p.e.opts.Metrics.PurgeSeen.Add(1)
		if err = p.pause(ctx); err == nil {
			err = f(it.Key(), key)
		}
	}
	return errors.Join(err, it.Error(), it.Close())
}

// pause holds a throttled purge to its rate.
func (p *purger) pause(ctx context.Context) error {
	if p.e.isDropped(p.t.Generation) {
		return ErrUnknownTable
	}
	if p.seen++; p.tick == nil || p.seen < p.e.opts.PurgeRowsPerTick {
		return ctx.Err()
	}
	p.seen = 0
	p.tick.Reset(purgeTick)
	select {
	case <-p.tick.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (p *purger) stripe(key []byte) *stripe {
	return &p.e.stripes[p.e.stripeOf(generationOf(key), tokenOf(key))]
}

// gcBefore returns the time before which tombstones of the partition may go that a row or marker key belongs to. The stripe is held: a conditional write
// that is not seen here will find what the purge leaves.
func (p *purger) gcBefore(key []byte) (int64, error) {
	if planted.On(planted.PurgeBeforeGrace) {
		return p.now, nil
	}
	if p.before.Of == nil {
		return p.before.Latest, nil
	}
	token := tokenOf(key)
	plain := p.before.Of(token, false)
	careful := p.before.Of(token, true)
	if careful == plain {
		return plain, nil
	}
	some, err := p.conditional(key)
	if some {
		return careful, err
	}
	return plain, err
}

// conditional tells whether the partition has a Paxos register.
func (p *purger) conditional(key []byte) (bool, error) {
	p.entry = append(append(p.entry[:0], key[:split(key)]...), registerHead)
	p.entry[0] = spacePaxos
	_, closer, err := p.e.db.Get(p.entry)
	if errors.Is(err, pebble.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return true, closer.Close()
}

// dropped tells whether a cell belongs to a column that was dropped. Ids are never used again; an id that the table does not know
// is of a column that this node has yet to hear of, and stays.
func (p *purger) dropped(col schema.ColumnID, _ int64) bool {
	for i := range p.t.Dropped {
		if p.t.Dropped[i].ID == col {
			return true
		}
	}
	return false
}

// purgeRow rewrites one row without what has died.
func (p *purger) purgeRow(death, key []byte) error {
	s := p.stripe(key)
	s.acquire()
	defer s.release()
	if p.e.isDropped(p.t.Generation) { // under the stripe, as in Batch.Apply
		return ErrUnknownTable
	}
	if p.held(key) {
		return nil
	}
	v, closer, err := p.e.db.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		v, closer, err = nil, io.NopCloser(nil), nil
	} else if err != nil {
		return err
	}
	if p.out = p.out[:0]; len(v) > 0 {
		var before int64
		if before, err = p.gcBefore(key); err == nil {
			p.out, err = row.Compact(p.out, v, p.now, before, p.dropped)
		}
	}
	same := bytes.Equal(p.out, v)
	if err = errors.Join(err, closer.Close()); err != nil {
		return err
	}
	pb := p.e.db.NewBatch()
	if !same {
		p.changed(1)
		err = replace(pb, key, p.out)
	}
	if err = errors.Join(err, p.reindex(pb, death, key, p.out)); err != nil || pb.Empty() {
		return errors.Join(err, pb.Close())
	}
	return p.apply(s, pb)
}

// reindex replaces an entry of the death index by those of what is left of its key.
func (p *purger) reindex(pb *pebble.Batch, death, key, left []byte) (err error) {
	keep, found := false, false
	p.mortal.each(key, left, func(kind byte, seconds int64) {
		p.entry = appendDeath(p.entry[:0], kind, seconds, key)
		found = true
		if bytes.Equal(p.entry, death) {
			keep = true
		}
	})
	if keep {
		return nil
	}
	err = pb.Delete(death, nil)
	if found {
		p.mortal.each(key, left, func(kind byte, seconds int64) {
			p.entry = appendDeath(p.entry[:0], kind, seconds, key)
			err = errors.Join(err, pb.Set(p.entry, nil, nil))
		})
	}
	return err
}

// held tells whether key lies in a range that no purge may touch, and counts it. The stripe is held.
func (p *purger) held(key []byte) bool {
	if !p.e.holds.has(key) {
		return false
	}
	p.stats.Held++
	p.e.opts.Metrics.PurgeHeld.Add(1)
	return true
}

func (p *purger) changed(n int) {
	p.stats.Changed += n
	p.e.opts.Metrics.PurgeChanged.Add(int64(n))
}

// replace sets key to value, or deletes it when there is nothing left.
func replace(pb *pebble.Batch, key, value []byte) error {
	if len(value) == 0 {
		return pb.Delete(key, nil)
	}
	return pb.Set(key, value, nil)
}

// apply commits a batch of rewritten keys of one stripe, which is held exclusively, and makes the row cache forget them. It does
// not sync: the run does at its end.
func (p *purger) apply(s *stripe, pb *pebble.Batch) error {
	e := p.e
	s.applying.Add(1)
	defer s.applying.Add(-1)
	repr := pb.Repr()
	if err := e.db.Apply(pb, pebble.NoSync); err != nil {
		return err
	}
	s.epoch.Add(1)
	s.markerEpoch.Add(1)
	if e.cache != nil {
		forEachKey(repr, func(key []byte) { e.cache.drop(hashKey(key), key) })
	}
	e.opts.Metrics.Batches.Add(1)
	return pb.Close()
}

// purgeMarkers removes a partition's purgeable markers after what they shadow: rows first, in chunks, the markers last, and only if
// nothing was written to the stripe since the first chunk. Otherwise a row that was written, older than the marker, in between
// would come to life.
func (p *purger) purgeMarkers(death, key []byte) error {
	for range purgeTries {
		done, err := p.tryMarkers(death, key)
		if done || err != nil {
			return err
		}
	}
	p.stats.Postponed++
	p.e.opts.Metrics.PurgePostponed.Add(1)
	return nil
}

func (p *purger) tryMarkers(death, key []byte) (done bool, err error) {
	s := p.stripe(key)
	s.acquire()
	defer s.release()
	if p.e.isDropped(p.t.Generation) {
		return true, ErrUnknownTable
	}
	if p.held(key) {
		return true, nil
	}
	before, err := p.gcBefore(key) // once: it may rise, and what goes then must have lost what it shadows
	if err != nil {
		return true, err
	}
	dead, err := p.deadMarkers(key, before)
	if err != nil {
		return true, err
	}
	if dead == nil || planted.On(planted.PurgeKeepsShadowed) {
		return true, p.dropMarkers(s, death, key, before)
	}
	prefix := append([]byte{spaceRows}, key[1:]...)
	next := append(append([]byte{}, prefix...), kindStatic)
	for {
		epoch := s.epoch.Load()
		if next, err = p.shadowChunk(s, prefix, next, dead, &epoch); err != nil {
			return false, err
		}
		if next == nil {
			return true, p.dropMarkers(s, death, key, before)
		}
		s.release()
		s.acquire()
		if p.e.isDropped(p.t.Generation) {
			return true, ErrUnknownTable
		}
		if p.held(key) {
			return true, nil
		}
		if s.epoch.Load() != epoch {
			return false, nil
		}
	}
}

// deadMarkers returns a partition's purgeable deletions, the partition's own as a range over everything and the static row; nil
// if there are none.
func (p *purger) deadMarkers(key []byte, before int64) (*deadMarkers, error) {
	v, closer, err := p.e.db.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	d, err := decodeDeletions(v, func(d row.Deletion) bool { return d.Purgeable(before) })
	return d, errors.Join(err, closer.Close())
}

// decodeDeletions returns a copy of those of a partition's deletions that are wanted, nil if there are none.
func decodeDeletions(value []byte, wanted func(row.Deletion) bool) (*deadMarkers, error) {
	d := &deadMarkers{partition: row.Live(), value: bytes.Clone(value)}
	var frag row.FragmentReader
	if err := frag.Init(d.value); err != nil {
		return nil, err
	}
	if del := frag.PartitionDeletion(); !del.Live() && wanted(del) {
		d.partition = del
	}
	var rt row.RangeTombstone
	for frag.NextRange(&rt) {
		if wanted(rt.Deletion) {
			d.ranges = append(d.ranges, rt)
		}
	}
	if d.partition.Live() && len(d.ranges) == 0 {
		return nil, frag.Err()
	}
	return d, frag.Err()
}

type deadMarkers struct {
	value     []byte
	partition row.Deletion
	ranges    []row.RangeTombstone // ascending, disjoint
	at        int                  // ranges before it end before the row at hand
}

// over returns the strongest of the deletions that cover a row key; keys must be asked in ascending order.
func (d *deadMarkers) over(kind byte, ckey []byte) row.Deletion {
	best := d.partition
	if kind != kindRow {
		return best
	}
	for d.at < len(d.ranges) && d.ranges[d.at].End != nil && bytes.Compare(d.ranges[d.at].End, ckey) <= 0 {
		d.at++
	}
	if d.at < len(d.ranges) && bytes.Compare(d.ranges[d.at].Start, ckey) <= 0 && d.ranges[d.at].Supersedes(best) {
		best = d.ranges[d.at].Deletion
	}
	return best
}

// shadowChunk removes what dead shadows from up to purgeChunkRows rows, from the key next on. It returns where to go on, nil at the
// end of the partition.
func (p *purger) shadowChunk(s *stripe, prefix, next []byte, dead *deadMarkers, epoch *uint64) ([]byte, error) {
	it, err := p.e.db.NewIter(&pebble.IterOptions{LowerBound: next, UpperBound: prefixSuccessor(nil, prefix)})
	if err != nil {
		return nil, err
	}
	pb := p.e.db.NewBatch()
	seen := 0
	next = nil
	for ok := it.First(); ok && err == nil; ok = it.Next() {
		key := it.Key()
		if seen++; seen > purgeChunkRows {
			next = append([]byte{}, key...)
			break
		}
		d := dead.over(key[len(prefix)], key[len(prefix)+1:])
		if d.Live() {
			continue
		}
		var v []byte
		if v, err = it.ValueAndErr(); err == nil {
			if p.out, err = row.Shadow(p.out[:0], v, d); err == nil && !bytes.Equal(p.out, v) {
				p.changed(1)
				err = replace(pb, key, p.out)
			}
		}
	}
	err = errors.Join(err, it.Error(), it.Close())
	if err != nil || pb.Empty() {
		return next, errors.Join(err, pb.Close())
	}
	*epoch++
	return next, p.apply(s, pb)
}

// dropMarkers rewrites a partition's markers without the purgeable ones, if there are such, and brings the death index up to date.
// The stripe is held exclusively.
func (p *purger) dropMarkers(s *stripe, death, key []byte, before int64) error {
	v, closer, err := p.e.db.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		v, closer = nil, io.NopCloser(nil)
	} else if err != nil {
		return err
	}
	dead, err := p.livingMarkers(v, before)
	if err = errors.Join(err, closer.Close()); err != nil {
		return err
	}
	pb := p.e.db.NewBatch()
	if dead {
		p.changed(1)
		err = replace(pb, key, p.out)
	}
	if err = errors.Join(err, p.reindex(pb, death, key, p.out)); err != nil || pb.Empty() {
		return errors.Join(err, pb.Close())
	}
	return p.apply(s, pb)
}

// livingMarkers sets p.out to the markers that are not purgeable, nothing if there are none, and tells whether any are.
func (p *purger) livingMarkers(v []byte, before int64) (dead bool, err error) {
	empty := true
	if err := p.frag.Init(v); err != nil {
		return false, err
	}
	p.build.Reset(p.out[:0], false)
	if d := p.frag.PartitionDeletion(); d.Purgeable(before) {
		dead = true
	} else if !d.Live() {
		p.build.PartitionDeletion(d)
		empty = false
	}
	var rt row.RangeTombstone
	for p.frag.NextRange(&rt) {
		if rt.Purgeable(before) {
			dead = true
			continue
		}
		p.build.RangeTombstone(rt)
		empty = false
	}
	p.out = p.build.Finish()
	if empty {
		p.out = p.out[:0]
	}
	return dead, p.frag.Err()
}

// runPurges purges the tables one after the other, throttled, every PurgeInterval until Close.
func (e *Engine) runPurges() {
	if e.opts.PurgeInterval < 0 {
		return
	}
	ticker := time.NewTicker(e.opts.PurgeInterval)
	defer ticker.Stop()
	for {
		select {
		case <-e.ctx.Done():
			return
		case <-e.failed:
			return
		case <-ticker.C:
		}
		gens, err := e.Generations()
		for _, gen := range gens {
			if err == nil {
				_, err = e.purge(e.ctx, gen, true)
			}
			if errors.Is(err, ErrUnknownTable) || errors.Is(err, ErrDiskFull) {
				err = nil
			}
		}
		if err != nil && e.ctx.Err() == nil {
			e.opts.Logger.Error("storage: background purge", "error", err)
		}
	}
}

// defaultGCBefore honours gc_grace_seconds for tables with tombstone_gc timeout, and keeps everything for those that wait for repair.
func defaultGCBefore(t *schema.Table, now int64) GCBefore {
	if mode, _ := t.Options.TombstoneGC(); mode != schema.TombstoneGCTimeout {
		return GCBefore{Latest: row.NoTimestamp}
	}
	return GCBefore{Latest: now - int64(t.Options.GCGraceSeconds)}
}
