package storage

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"
	"github.com/helenusdb/helenus/internal/planted"
	"github.com/helenusdb/helenus/ring"
	"github.com/helenusdb/helenus/row"
	"github.com/helenusdb/helenus/schema"
)

// reader is the reusable state of one Read.
type reader struct {
	e       *Engine
	cmd     *row.Command
	build   row.PageBuilder
	frag    row.FragmentReader
	prefix  []byte // of the partition being read, in the row space
	key     []byte // scratch: a full key
	bound   []byte // scratch: a bound
	part    []byte // scratch: an unescaped partition key
	value   []byte // scratch: a cached value
	marker  []byte // the partition's markers; aliased by the builder until EndPartition
	slices  []row.Slice
	one     [1]row.Slice
	top     [1]byte // 0xFF: the position after the empty clustering key
	rows    *pebble.Iterator
	markers *pebble.Iterator // nil: the generation has none
}

// Read answers cmd into page; page.Data[:0] is reused. Point reads come from the row cache or single lookups, everything else is
// streamed from an iterator, so that memory is bounded by the page. unsynced is not 0 if what was read may not be durable: then
// the answer must wait for WhenSynced(unsynced). Under Periodic it is always 0.
//
// Partitions are read as of one moment; a scan as a whole too. Errors: ErrUnknownTable, ErrBadCommand, and those of Pebble.
func (e *Engine) Read(cmd *row.Command, page *row.Page) (unsynced Seq, err error) {
	t, err := e.checkRead(cmd)
	if err != nil {
		return 0, err
	}
	e.opts.Metrics.Reads.Add(1)
	stats := e.stats.of(cmd.Generation)
	began := stats.begin()
	unsynced, err = e.read(t, cmd, page)
	stats.end(began)
	return unsynced, err
}

func (e *Engine) read(t *schema.Table, cmd *row.Command, page *row.Page) (unsynced Seq, err error) {
	r := e.takeReader(cmd)
	switch {
	case cmd.Range != nil:
		e.opts.Metrics.Scans.Add(1)
		err = r.scan(page)
		unsynced = e.pipe.assigned.Load()
	case r.isPoint(t):
		e.opts.Metrics.PointReads.Add(1)
		err = r.points(page)
		unsynced = e.stripes[e.stripeOf(cmd.Generation, cmd.Token)].last.Load()
	default:
		err = r.partition(page)
		unsynced = e.stripes[e.stripeOf(cmd.Generation, cmd.Token)].last.Load()
	}
	e.giveReader(r)
	if err != nil {
		return 0, fmt.Errorf("storage: read generation %d: %w", cmd.Generation, err)
	}
	if unsynced == 0 || e.pipe.isSynced(unsynced) || e.opts.Sync == Periodic {
		return 0, nil
	}
	return unsynced, nil
}

func (e *Engine) checkRead(cmd *row.Command) (*schema.Table, error) {
	if e.closed.Load() {
		return nil, ErrClosed
	}
	t, ok := e.opts.Tables.Table(cmd.Generation)
	if !ok || e.isDropped(cmd.Generation) {
		return nil, fmt.Errorf("storage: read generation %d: %w", cmd.Generation, ErrUnknownTable)
	}
	if cmd.Range == nil && (len(cmd.Key) == 0 || len(cmd.Key) > ring.ComponentBytesMax) {
		return nil, fmt.Errorf("%w: partition key of %d bytes", ErrBadCommand, len(cmd.Key))
	}
	if cmd.Range != nil && cmd.Reverse {
		return nil, fmt.Errorf("%w: a scan cannot be reversed", ErrBadCommand)
	}
	return t, nil
}

func (e *Engine) takeReader(cmd *row.Command) *reader {
	var r *reader
	select {
	case r = <-e.readers:
	default:
		r = &reader{e: e, top: [1]byte{0xFF}}
		if e.opts.PurgedBefore != nil {
			r.build.Purged = r.purged
		}
	}
	r.cmd = cmd
	return r
}

// purged returns the time before which tombstones of a token may be gone from any replica.
func (r *reader) purged(token ring.Token) int64 {
	t, ok := r.e.opts.Tables.Table(r.cmd.Generation)
	if !ok {
		return row.NoTimestamp
	}
	return r.e.opts.PurgedBefore(t, token, r.cmd.Now)
}

func (e *Engine) giveReader(r *reader) {
	r.cmd = nil
	if cap(r.value)+cap(r.marker) > mib {
		r.value, r.marker = nil, nil
	}
	select {
	case e.readers <- r:
	default:
	}
}

// isPoint tells whether cmd names single rows: by point slices, or because the table has no clustering columns.
func (r *reader) isPoint(t *schema.Table) bool {
	c := r.cmd
	r.slices = nil
	if c.StaticOnly {
		return true
	}
	if c.Slices == nil {
		if len(t.Clustering) > 0 {
			return false
		}
		r.one[0] = row.Slice{End: r.top[:], Point: true}
		r.slices = r.one[:]
		return true
	}
	for i := range c.Slices {
		if !c.Slices[i].Point {
			return false
		}
	}
	r.slices = c.Slices
	return true
}

// points reads static row and rows key by key. A single key of a partition without markers is one lookup. More than one belong
// together only if nothing was applied to the stripe meanwhile; else the partition is read again from an iterator.
func (r *reader) points(page *row.Page) error {
	c := r.cmd
	s := &r.e.stripes[r.e.stripeOf(c.Generation, c.Token)]
	epoch, calm := s.calm()
	keys, err := r.tryPoints(page, s, epoch, calm)
	if err != nil {
		return err
	}
	if keys == 1 || calm && s.undisturbed(epoch) {
		r.build.Finish()
		return nil
	}
	r.e.opts.Metrics.Restarts.Add(1)
	return r.partitionSlices(page, r.slices)
}

// tryPoints hands the keys to the page builder and returns how many lookups that took.
func (r *reader) tryPoints(page *row.Page, s *stripe, epoch uint64, calm bool) (keys int, err error) {
	c, e := r.cmd, r.e
	r.build.Init(c, page)
	r.prefix = appendPartition(r.prefix[:0], spaceRows, c.Generation, c.Token, c.Key)
	r.build.BeginPartition(c.Token, c.Key)
	hash := hashKey(r.prefix[1:])
	marked := e.markers.mayHave(c.Generation, hash)
	if marked {
		keys++
		if err := r.lookupMarkers(s, epoch, calm); err != nil {
			return keys, err
		}
	}
	if c.WithStatic || c.StaticOnly {
		keys++
		r.key = append(append(r.key[:0], r.prefix...), kindStatic)
		if err := r.lookupStatic(s, epoch, calm); err != nil {
			return keys, err
		}
	}
	if !c.StaticOnly {
		n, err := r.lookupSlices(s, epoch, calm)
		keys += n
		if err != nil {
			return keys, err
		}
	}
	r.build.EndPartition()
	// The partition got its first marker while it was read: what was read may be newer than it.
	if !marked && e.markers.mayHave(c.Generation, hash) {
		keys += 2
	}
	return keys, nil
}

// lookupMarkers gives the partition's markers to the builder.
func (r *reader) lookupMarkers(s *stripe, epoch uint64, calm bool) (err error) {
	r.key = append(append(r.key[:0], spaceMarkers), r.prefix[1:]...)
	markerEpoch := s.markerEpoch.Load()
	if calm && !r.cmd.StaticOnly {
		if d := r.e.many.get(r.key, markerEpoch); d != nil {
			d.give(&r.build, r.slices)
			return nil
		}
	}
	if r.marker, err = r.lookup(r.marker[:0], s, epoch, calm); err != nil {
		return err
	}
	if calm && len(r.marker) > 16*manyRanges {
		d, err := decodeMarkers(r.key, r.marker, markerEpoch)
		if err != nil {
			return err
		}
		if d != nil {
			r.e.many.put(d)
		}
	}
	return r.giveMarkers(r.marker)
}

func (r *reader) lookupSlices(s *stripe, epoch uint64, calm bool) (keys int, err error) {
	for i := range r.slices {
		sl := &r.slices[i]
		if r.cmd.Reverse {
			sl = &r.slices[len(r.slices)-1-i]
		}
		if !r.uncovered(sl.Start) {
			continue
		}
		keys++
		r.key = append(append(r.key[:0], r.prefix...), kindRow)
		r.key = append(r.key, sl.Start...)
		more, err := r.lookupRow(sl.Start, s, epoch, calm)
		if err != nil || !more {
			return keys, err
		}
	}
	return keys, nil
}

// uncovered tells whether ckey still is to be read, according to cmd.From.
func (r *reader) uncovered(ckey []byte) bool {
	f := r.cmd.From
	if f == nil || f.Kind == row.BeforePartition {
		return true
	}
	if f.Kind == row.AfterPartition {
		return false
	}
	return r.cmd.Reverse == (bytes.Compare(ckey, f.Clustering) < 0)
}

// lookupStatic gives the static row under r.key to the builder.
func (r *reader) lookupStatic(s *stripe, epoch uint64, calm bool) (err error) {
	r.value, err = r.lookup(r.value[:0], s, epoch, calm)
	if err == nil && len(r.value) > 0 {
		err = r.build.Static(r.value)
	}
	return err
}

func (r *reader) lookupRow(ckey []byte, s *stripe, epoch uint64, calm bool) (more bool, err error) {
	if r.value, err = r.lookup(r.value[:0], s, epoch, calm); err != nil || len(r.value) == 0 {
		return err == nil, err
	}
	p, err := r.build.Row(ckey, r.value)
	return p == row.Continue, err
}

// lookup appends the merged value of r.key to dst, nothing if there is none, from the row cache or from Pebble, which fills the cache.
func (r *reader) lookup(dst []byte, s *stripe, epoch uint64, calm bool) ([]byte, error) {
	e := r.e
	var hash uint64
	if e.cache != nil && calm {
		hash = hashKey(r.key)
		if v, ok := e.cache.get(dst, hash, r.key); ok {
			e.opts.Metrics.CacheHits.Add(1)
			return v, nil
		}
	}
	v, closer, err := e.db.Get(r.key)
	if err != nil && !errors.Is(err, pebble.ErrNotFound) {
		return dst, err
	}
	dst = append(dst, v...)
	if e.cache != nil && calm {
		e.opts.Metrics.CacheMisses.Add(1)
		e.cache.put(hash, r.key, v, s, epoch)
	}
	if closer == nil {
		return dst, nil
	}
	return dst, closer.Close()
}

// giveMarkers decodes a partition's markers for the builder, which aliases them until EndPartition.
func (r *reader) giveMarkers(value []byte) error {
	if len(value) == 0 {
		return nil
	}
	if err := r.frag.Init(value); err != nil {
		return err
	}
	if d := r.frag.PartitionDeletion(); !d.Live() {
		r.build.PartitionDeletion(d)
	}
	var rt row.RangeTombstone
	for r.frag.NextRange(&rt) {
		if r.wants(&rt) {
			r.build.RangeTombstone(rt)
		}
	}
	return r.frag.Err()
}

// wants tells whether a range tombstone touches what is read.
func (r *reader) wants(rt *row.RangeTombstone) bool {
	if r.slices == nil {
		return true
	}
	for i := range r.slices {
		sl := &r.slices[i]
		if (sl.End == nil || bytes.Compare(rt.Start, sl.End) < 0) && (rt.End == nil || bytes.Compare(sl.Start, rt.End) < 0) {
			return true
		}
	}
	return false
}

// partition reads one partition from an iterator.
func (r *reader) partition(page *row.Page) error { return r.partitionSlices(page, r.cmd.Slices) }

func (r *reader) partitionSlices(page *row.Page, slices []row.Slice) error {
	c := r.cmd
	r.slices = slices
	r.build.Init(c, page)
	r.prefix = appendPartition(r.prefix[:0], spaceRows, c.Generation, c.Token, c.Key)
	r.bound = prefixSuccessor(r.bound[:0], r.prefix)
	if err := r.openRows(r.prefix, r.bound); err != nil {
		return err
	}
	err := r.onePartition()
	return errors.Join(err, r.closeIterators())
}

func (r *reader) onePartition() error {
	c, e := r.cmd, r.e
	r.build.BeginPartition(c.Token, c.Key)
	// Looked at after the iterator was made: a marker it can see is in the filter.
	if e.markers.mayHave(c.Generation, hashKey(r.prefix[1:])) {
		r.key = append(append(r.key[:0], spaceMarkers), r.prefix[1:]...)
		if err := r.openMarkers(r.key, prefixSuccessor(nil, r.key)); err != nil {
			return err
		}
		r.marker = r.marker[:0]
		if r.markers.SeekGE(r.key) {
			r.marker = append(r.marker, r.markers.Value()...)
		}
		if err := errors.Join(r.markers.Error(), r.giveMarkers(r.marker)); err != nil {
			return err
		}
	}
	if err := r.content(r.slices); err != nil {
		return err
	}
	r.build.EndPartition()
	r.build.Finish()
	return nil
}

func (r *reader) openRows(lower, upper []byte) (err error) {
	r.rows, err = r.e.db.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
	return err
}

// openMarkers makes an iterator that sees what r.rows sees.
func (r *reader) openMarkers(lower, upper []byte) (err error) {
	r.markers, err = r.rows.Clone(pebble.CloneOptions{IterOptions: &pebble.IterOptions{LowerBound: lower, UpperBound: upper}})
	return err
}

func (r *reader) closeIterators() error {
	var err error
	if r.markers != nil {
		err = r.markers.Close()
		r.markers = nil
	}
	if r.rows != nil {
		err = errors.Join(err, r.rows.Close())
		r.rows = nil
	}
	return err
}

// content hands the static row and the rows of the partition r.prefix to the builder.
func (r *reader) content(slices []row.Slice) error {
	c := r.cmd
	if c.WithStatic || c.StaticOnly {
		r.key = append(append(r.key[:0], r.prefix...), kindStatic)
		if r.seekGE(r.key) && bytes.Equal(r.rows.Key(), r.key) {
			v, err := r.rows.ValueAndErr()
			if err != nil {
				return err
			}
			if err := r.build.Static(v); err != nil {
				return err
			}
		}
	}
	if c.StaticOnly {
		return r.rows.Error()
	}
	if slices == nil {
		r.one[0] = row.Slice{}
		slices = r.one[:]
	}
	for i := range slices {
		sl := slices[i]
		if c.Reverse {
			sl = slices[len(slices)-1-i]
		}
		read := r.forward
		if c.Reverse {
			read = r.backward
		}
		if more, err := read(r.clip(sl)); err != nil || !more {
			return err
		}
	}
	return nil
}

// seekGE moves the row iterator to the first key >= key. When it stands at or after key it is there already, because within a
// partition it only moves forward before the first backward read, and a scan comes with it at the partition's first key.
func (r *reader) seekGE(key []byte) bool {
	if r.rows.Valid() && bytes.Compare(r.rows.Key(), key) >= 0 {
		return true
	}
	return r.rows.SeekGE(key)
}

// clip leaves of sl what cmd.From has not covered.
func (r *reader) clip(sl row.Slice) row.Slice {
	f := r.cmd.From
	if f == nil || f.Kind != row.InPartition || !r.resumes(f) {
		return sl
	}
	if r.cmd.Reverse {
		if sl.End == nil || bytes.Compare(f.Clustering, sl.End) < 0 {
			sl.End = f.Clustering
		}
	} else if bytes.Compare(f.Clustering, sl.Start) > 0 {
		sl.Start = f.Clustering
	}
	if planted.On(planted.PageSkipsRow) && len(sl.Start) > 1 {
		sl.Start = append(bytes.Clone(sl.Start[:len(sl.Start)-2]), sl.Start[len(sl.Start)-2]+1, 0xFF)
	}
	return sl
}

// resumes tells whether f stands in the partition being read.
func (r *reader) resumes(f *row.Position) bool {
	if r.cmd.Range == nil {
		return true
	}
	r.bound = appendPartition(r.bound[:0], spaceRows, r.cmd.Generation, f.Token, f.Key)
	return bytes.Equal(r.bound, r.prefix)
}

// forward reads the rows of sl; more is false when the builder wants no more of this partition.
func (r *reader) forward(sl row.Slice) (more bool, err error) {
	r.key = append(append(r.key[:0], r.prefix...), kindRow)
	at := len(r.key)
	r.key = append(r.key, sl.Start...)
	for ok := r.seekGE(r.key); ok; ok = r.rows.Next() {
		key := r.rows.Key()
		if !bytes.HasPrefix(key, r.key[:at]) || sl.End != nil && bytes.Compare(key[at:], sl.End) >= 0 {
			return true, nil
		}
		if more, err := r.give(key[at:]); err != nil || !more {
			return false, err
		}
	}
	return true, r.rows.Error()
}

// backward is forward in descending order.
func (r *reader) backward(sl row.Slice) (more bool, err error) {
	r.key = append(append(r.key[:0], r.prefix...), kindRow)
	at := len(r.key)
	if sl.End != nil {
		r.key = append(r.key, sl.End...)
	} else {
		r.key[at-1]++
	}
	ok := r.rows.SeekLT(r.key)
	r.key[at-1] = kindRow
	for ; ok; ok = r.rows.Prev() {
		key := r.rows.Key()
		if !bytes.HasPrefix(key, r.key[:at]) || bytes.Compare(key[at:], sl.Start) < 0 {
			return true, nil
		}
		if more, err := r.give(key[at:]); err != nil || !more {
			return false, err
		}
	}
	return true, r.rows.Error()
}

func (r *reader) give(ckey []byte) (more bool, err error) {
	v, err := r.rows.ValueAndErr()
	if err != nil {
		return false, err
	}
	p, err := r.build.Row(ckey, v)
	return p == row.Continue, err
}
