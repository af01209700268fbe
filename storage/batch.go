package storage

import (
	"context"
	"fmt"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/batchrepr"
	"github.com/helenusdb/helenus/internal/planted"
	"github.com/helenusdb/helenus/ring"
	"github.com/helenusdb/helenus/row"
	"github.com/helenusdb/helenus/schema"
)

// Batch collects writes that become visible and durable together. It belongs to one goroutine, which may use it again after each
// Commit or Discard. From the first Apply on it holds the stripe tokens of its partitions, so it must be committed or discarded soon
// and its owner must not wait for another batch.
type Batch struct {
	e      *Engine
	pb     *pebble.Batch // nil while empty
	held   []uint32      // stripes, in the order taken
	isHeld []uint64      // bitmap of held
	tables bool          // rows or markers are in it
	marks  bool          // markers are in it
	timed  *TableStats   // whose mutation in it is timed; nil: none

	touched []touched // buckets whose leaves it invalidates

	prefix, marker []byte
	key, death     []byte
	frag           row.FragmentReader
	build          row.FragmentBuilder
	mortal         mortality
}

// NewBatch returns an empty batch.
func (e *Engine) NewBatch() *Batch {
	return &Batch{e: e, isHeld: make([]uint64, (len(e.stripes)+63)/64)}
}

// Len returns the number of keys written so far.
func (b *Batch) Len() int {
	if b.pb == nil {
		return 0
	}
	return int(b.pb.Count())
}

// Apply adds a mutation; its bytes are copied. It waits only while a fold or purge has the partition's stripe, for
// Options.StripeWait at most. Errors: ErrDiskFull, ErrStuck, ErrUnknownTable, ErrTooLarge (commit what is there and try again, unless the batch is empty), ErrBadMutation, ErrFailed,
// ErrClosed; the batch is then as it was before.
func (b *Batch) Apply(m *row.Mutation) error {
	if err := b.admit(m, 0); err != nil {
		return err
	}
	return b.add(m)
}

// ApplyAll is Apply of several mutations: with an error none of them is in the batch.
func (b *Batch) ApplyAll(ms []row.Mutation) error {
	ahead := 0
	for i := range ms {
		if err := b.admit(&ms[i], ahead); err != nil {
			return err
		}
		ahead += 2 * (len(ms[i].Key) + len(ms[i].Fragment))
	}
	for i := range ms {
		if err := b.add(&ms[i]); err != nil { // admit has looked at all that add can find
			return err
		}
	}
	return nil
}

// admit takes the mutation's stripe and decides whether it may be added; the batch stays as it is. ahead is the room that
// admitted ones will take.
func (b *Batch) admit(m *row.Mutation, ahead int) error {
	e := b.e
	if err := e.writable(); err != nil {
		return err
	}
	if err := b.check(m, ahead); err != nil {
		e.opts.Metrics.WritesRefused.Add(1)
		return err
	}
	if err := b.hold(e.stripeOf(m.Generation, m.Token)); err != nil {
		return err
	}
	// Looked at under the stripe token: DropGeneration passes through every stripe after it has set this.
	if e.isDropped(m.Generation) {
		return fmt.Errorf("storage: apply to generation %d: %w", m.Generation, ErrUnknownTable)
	}
	return nil
}

func (b *Batch) check(m *row.Mutation, ahead int) error {
	o := &b.e.opts
	if b.pb != nil {
		ahead += b.pb.Len()
	}
	if size := len(m.Key) + len(m.Fragment); size > o.MutationBytesMax {
		return fmt.Errorf("storage: mutation of %d bytes, at most %d: %w", size, o.MutationBytesMax, ErrTooLarge)
	} else if ahead > 0 && ahead+2*size > o.BatchBytesMax {
		return fmt.Errorf("storage: batch of %d bytes, at most %d: %w", ahead+size, o.BatchBytesMax, ErrTooLarge)
	}
	if len(m.Key) == 0 || len(m.Key) > ring.ComponentBytesMax {
		return fmt.Errorf("storage: partition key of %d bytes: %w", len(m.Key), ErrBadMutation)
	}
	if _, ok := o.Tables.Table(m.Generation); !ok {
		return fmt.Errorf("storage: apply to generation %d: %w", m.Generation, ErrUnknownTable)
	}
	if err := row.ValidateFragment(m.Fragment); err != nil {
		return fmt.Errorf("%w: %w", ErrBadMutation, err)
	}
	return nil
}

// hold takes a stripe shared unless the batch has it. Error: ErrStuck.
func (b *Batch) hold(i uint32) error {
	if b.isHeld[i/64]&(1<<(i%64)) != 0 {
		return nil
	}
	if !b.e.stripes[i].acquireShared(len(b.held) > 0, b.e.opts.StripeWait) {
		b.e.opts.Metrics.WritesRefused.Add(1)
		return ErrStuck
	}
	b.isHeld[i/64] |= 1 << (i % 64)
	b.held = append(b.held, i)
	return nil
}

func (b *Batch) open() {
	if b.pb == nil {
		b.pb = b.e.takePebbleBatch()
	}
}

// add writes the operands of an admitted mutation.
func (b *Batch) add(m *row.Mutation) error {
	b.open()
	b.tables = true
	if stats := b.e.stats.of(m.Generation); counted(stats.Writes.Add(1)) {
		b.timed = stats
	}
	b.markLeaf(m.Generation, m.Token)
	f := &b.frag
	if err := f.Init(m.Fragment); err != nil {
		return fmt.Errorf("%w: %w", ErrBadMutation, err)
	}
	if d := f.PartitionDeletion(); !d.Live() || f.HasRanges() {
		b.addMarkers(m, d)
	}
	b.prefix = appendPartition(b.prefix[:0], spaceRows, m.Generation, m.Token, m.Key)
	if static := f.Static(); len(static) > 0 {
		b.mergeRow(kindStatic, nil, static)
	}
	for f.NextRow() {
		b.mergeRow(kindRow, f.Ckey, f.Row)
	}
	return f.Err()
}

func (b *Batch) mergeRow(kind byte, ckey, value []byte) {
	op := b.pb.MergeDeferred(len(b.prefix)+1+len(ckey), len(value))
	n := copy(op.Key, b.prefix)
	op.Key[n] = kind
	copy(op.Key[n+1:], ckey)
	copy(op.Value, value)
	_ = op.Finish()
	if row.Mortal(value) {
		b.key = append(append(b.key[:0], b.prefix...), kind)
		b.key = append(b.key, ckey...)
		b.addDeaths(b.key, value)
	}
}

// addDeaths enters a mortal value in the death index.
func (b *Batch) addDeaths(key, value []byte) {
	b.mortal.each(key, value, func(kind byte, seconds int64) {
		b.death = appendDeath(b.death[:0], kind, seconds, key)
		_ = b.pb.Set(b.death, nil, nil)
	})
}

func (b *Batch) addMarkers(m *row.Mutation, d row.Deletion) {
	b.marks = true
	b.build.Reset(b.marker[:0], false)
	if !d.Live() {
		b.build.PartitionDeletion(d)
	}
	var rt row.RangeTombstone
	for b.frag.NextRange(&rt) {
		b.build.RangeTombstone(rt)
	}
	b.marker = b.build.Finish()
	b.prefix = appendPartition(b.prefix[:0], spaceMarkers, m.Generation, m.Token, m.Key)
	if !planted.On(planted.MarkerNotIndexed) {
		b.e.markers.add(m.Generation, hashKey(b.prefix[1:]))
	}
	op := b.pb.MergeDeferred(len(b.prefix), len(b.marker))
	copy(op.Key, b.prefix)
	copy(op.Value, b.marker)
	_ = op.Finish()
	b.addDeaths(b.prefix, b.marker)
}

// Commit applies the batch, which makes it visible before Commit returns, and calls c exactly once when it is durable: from the
// sync goroutine under Group and Batched, at once under Periodic and for an empty batch. The batch is empty after it.
//
// After a fatal error of the store c is never called: whether the batch is durable cannot be known, and the process is ending.
func (b *Batch) Commit(c Committed) {
	if b.pb != nil && b.e.opts.Sync == Periodic {
		b.e.reserve.spend(int64(b.pb.Len()))
		b.commitPeriodic(c)
		return
	}
	b.commit(c)
}

// commit applies the batch and hands it to the sync goroutine.
func (b *Batch) commit(c Committed) {
	if b.pb == nil {
		b.Discard()
		c.Committed(nil)
		return
	}
	e, pb := b.e, b.pb
	e.reserve.spend(int64(pb.Len()))
	if planted.On(planted.ReadBeforeSync) {
		b.commitLate(c)
		return
	}
	seq, ok := e.pipe.begin()
	if !ok {
		b.Discard()
		return
	}
	if !b.apply(seq, e.db.ApplyNoSyncWait, pebble.Sync) {
		return
	}
	b.pb = nil
	if planted.On(planted.AckBeforeSync) {
		c.Committed(nil)
		c = CommittedFunc(func(error) {})
	}
	e.pipe.submit(seq, pb, c)
	if e.opts.Sync == Batched {
		e.awaitSynced(seq)
	}
}

// commitLate is the planted bug ReadBeforeSync: the batch is synced, and acknowledged, a while after it has become visible, and reads do not
// wait for that. The linker drops it from builds without planted bugs.
func (b *Batch) commitLate(c Committed) {
	e, pb := b.e, b.pb
	if !b.apply(0, e.db.Apply, pebble.NoSync) {
		return
	}
	b.pb = nil
	e.recyclePebbleBatch(pb)
	time.AfterFunc(20*time.Millisecond, func() {
		if !e.closed.Load() && !e.hasFailed() && e.db.LogData(nil, pebble.Sync) == nil {
			c.Committed(nil)
		}
	})
}

func (b *Batch) commitPeriodic(c Committed) {
	pb := b.pb
	if !b.apply(0, b.e.db.Apply, pebble.NoSync) {
		return
	}
	b.pb = nil
	b.e.recyclePebbleBatch(pb)
	c.Committed(nil)
}

// apply makes the batch visible, tells the row cache and gives the stripes back. False after a failure of the store.
func (b *Batch) apply(seq Seq, apply func(*pebble.Batch, *pebble.WriteOptions) error, o *pebble.WriteOptions) bool {
	e := b.e
	for _, i := range b.held {
		s := &e.stripes[i]
		s.applying.Add(1)
		raise(&s.last, seq)
	}
	repr := b.pb.Repr() // Pebble takes the bytes out of a batch that is too large for a memtable
	var began time.Time
	if b.timed != nil {
		began = time.Now()
	}
	err := apply(b.pb, o)
	if b.timed != nil {
		b.timed.WriteLatency.Observe(time.Since(began))
	}
	if err == nil && !e.hasFailed() {
		for _, i := range b.held {
			e.stripes[i].epoch.Add(1)
			if b.marks {
				e.stripes[i].markerEpoch.Add(1)
			}
		}
		b.clearTags()
		if b.tables && e.cache != nil && !planted.On(planted.CacheNotTold) {
			b.tellCache(repr)
		}
	}
	for _, i := range b.held {
		e.stripes[i].applying.Add(-1)
	}
	b.letGo()
	e.opts.Metrics.Writes.Add(int64(b.pb.Count()))
	e.opts.Metrics.Batches.Add(1)
	if err != nil {
		e.fail(fmt.Errorf("storage: apply batch: %w", err))
	}
	return err == nil && !e.hasFailed()
}

// tellCache reconciles the batch's operands into cached rows.
func (b *Batch) tellCache(repr []byte) {
	r := batchrepr.Read(repr)
	for {
		kind, key, value, ok, err := r.Next()
		if !ok || err != nil {
			return
		}
		if kind != pebble.InternalKeyKindMerge {
			continue
		}
		merge := mergeRows
		if key[0] == spaceMarkers {
			merge = mergeMarkers
		}
		b.e.cache.merge(hashKey(key), key, value, merge)
	}
}

// Discard forgets what was added and gives the stripes back.
func (b *Batch) Discard() {
	b.letGo()
	if b.pb != nil {
		b.e.recyclePebbleBatch(b.pb)
		b.pb = nil
	}
}

func (b *Batch) letGo() {
	for _, i := range b.held {
		b.isHeld[i/64] &^= 1 << (i % 64)
		b.e.stripes[i].releaseShared()
	}
	b.held, b.tables, b.marks, b.timed = b.held[:0], false, false, nil
	b.touched = b.touched[:0]
}

// Write applies ms in one batch and waits until it is durable. After ctx has ended the batch may still become durable.
func (e *Engine) Write(ctx context.Context, ms []row.Mutation) error {
	b := e.NewBatch()
	for i := range ms {
		if err := b.Apply(&ms[i]); err != nil {
			b.Discard()
			return err
		}
	}
	return e.CommitWait(ctx, b)
}

// CommitWait commits b and waits until it is durable. After ctx has ended b may still become durable.
func (e *Engine) CommitWait(ctx context.Context, b *Batch) error {
	done := make(chan error, 1)
	b.Commit(CommittedFunc(func(err error) { done <- err }))
	select {
	case err := <-done:
		return err
	case <-e.failed:
		return ErrFailed
	case <-ctx.Done():
		return ctx.Err()
	}
}

// stripeOf returns the index of a partition's stripe.
func (e *Engine) stripeOf(gen schema.Generation, token ring.Token) uint32 {
	return uint32(partitionHash(gen, token) >> 32 & uint64(len(e.stripes)-1))
}

// forEachKey calls f with the keys of an encoded batch.
func forEachKey(repr []byte, f func(key []byte)) {
	r := batchrepr.Read(repr)
	for {
		_, key, _, ok, err := r.Next()
		if !ok || err != nil {
			return
		}
		f(key)
	}
}
