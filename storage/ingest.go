package storage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"syscall"

	"github.com/cockroachdb/pebble/v2/objstorage/objstorageprovider"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/helenusdb/helenus/ring"
	"github.com/helenusdb/helenus/row"
	"github.com/helenusdb/helenus/schema"
)

// incomingDir is the folder, in the store's own, where the tables of an ingest are built. Open empties it: what is there was never
// ingested.
const incomingDir = "incoming"

// Ingest brings records of another node's snapshot into the store: tables of MERGE records that are built outside of it and become
// visible together. Merges commute, so they never replace anything newer. It belongs to one goroutine; end it with Commit or Discard.
type Ingest struct {
	e   *Engine
	gen schema.Generation
	rg  ring.Range
	// register takes the Paxos registers; nil: none are taken.
	register func(token ring.Token, key []byte, parts [RegisterParts][]byte) error

	tables      []*table // all of them
	rows, marks *table
	deaths      [][]byte // entries of the death index, in no order
	stripes     []uint64 // bitmap of those of its partitions
	cached      []uint64 // hashes of its keys, for the row cache
	marked      []uint64 // hashes of partitions with markers
	first, end  ring.Token
	last        []byte // stream key of the last record
	records     int
	size        int64 // bytes taken so far, and those of the death index

	key, death []byte
	part       []byte
	mortal     mortality
	frag       row.FragmentReader
}

// table is one table under construction.
type table struct {
	w    *sstable.Writer
	path string
}

// NewIngest begins an ingest into a range, which may wrap. register takes the Paxos registers among the records, nil refuses them;
// what it was given is durable when it returns. ErrUnknownTable, ErrDiskFull, ErrClosed, ErrFailed.
func (e *Engine) NewIngest(gen schema.Generation, rg ring.Range, register func(token ring.Token, key []byte, parts [RegisterParts][]byte) error) (*Ingest, error) {
	if err := e.writable(); err != nil {
		return nil, err
	}
	if _, ok := e.opts.Tables.Table(gen); !ok || e.isDropped(gen) {
		return nil, fmt.Errorf("storage: ingest into generation %d: %w", gen, ErrUnknownTable)
	}
	return &Ingest{e: e, gen: gen, rg: rg, register: register, stripes: make([]uint64, (len(e.stripes)+63)/64)}, nil
}

// Size is about how many bytes were added so far; Records is how many records.
func (in *Ingest) Size() int64 { return in.size }

// Records returns the number of records added so far.
func (in *Ingest) Records() int { return in.records }

// Add adds a record; its bytes are copied. Records come in ascending order of their stream keys. Errors: ErrBadRecord for one that
// is malformed, out of order or outside of the range; ErrDiskFull, ErrFailed, those of the file system. After an error only
// Discard is left.
func (in *Ingest) Add(key, value []byte) error {
	if in.e.reserve.exhausted() {
		return ErrDiskFull
	}
	err := in.add(key, value)
	if err != nil && errors.Is(err, syscall.ENOSPC) {
		in.e.reserve.empty()
		return fmt.Errorf("%w: %w", ErrDiskFull, err)
	}
	return err
}

func (in *Ingest) add(key, value []byte) error {
	n, err := splitStreamKey(key)
	if err != nil {
		return err
	}
	in.key = append(appendGeneration(in.key[:0], spaceRows, in.gen), key...)
	p, _, err := decodePartition(in.part, in.key)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrBadRecord, err)
	}
	in.part = p.key
	switch {
	case !in.rg.Contains(p.token):
		return fmt.Errorf("storage: token %v is not in %v: %w", p.token, in.rg, ErrBadRecord)
	case p.token == ring.MinToken || len(p.key) == 0 || len(p.key) > ring.ComponentBytesMax || len(in.key) > keysBytesMax:
		return fmt.Errorf("storage: token %v, partition key of %d bytes: %w", p.token, len(p.key), ErrBadRecord)
	case in.last != nil && bytes.Compare(key, in.last) <= 0:
		return fmt.Errorf("storage: stream key %x does not ascend: %w", key, ErrBadRecord)
	}
	kind, rest := key[n], key[n+1:]
	if kind != kindRow && len(rest) > 0 {
		return fmt.Errorf("storage: stream key %x: %w", key, ErrBadRecord)
	}
	switch kind {
	case kindMarkers:
		err = in.addMarkers(in.key[:tokenOffset+n], value)
	case kindStatic, kindRow:
		err = in.addRow(in.key, value)
	case kindRegister:
		err = in.addRegister(p, value)
	default:
		err = fmt.Errorf("storage: kind %#x: %w", kind, ErrBadRecord)
	}
	if err != nil {
		return err
	}
	stripe := in.e.stripeOf(in.gen, p.token)
	in.stripes[stripe/64] |= 1 << (stripe % 64)
	if in.last == nil {
		in.first = p.token
	}
	in.last, in.end = append(in.last[:0], key...), p.token
	in.records++
	in.grow(len(key) + len(value))
	return nil
}

func (in *Ingest) grow(n int) {
	in.size += int64(n)
	in.e.reserve.spend(int64(n))
}

func (in *Ingest) addRow(key, value []byte) error {
	if err := row.Validate(value); err != nil {
		return fmt.Errorf("%w: %w", ErrBadRecord, err)
	}
	return in.merge(&in.rows, key, value)
}

func (in *Ingest) addMarkers(key, value []byte) error {
	key[0] = spaceMarkers
	if err := row.ValidateFragment(value); err != nil {
		return fmt.Errorf("%w: %w", ErrBadRecord, err)
	}
	if err := in.frag.Init(value); err != nil || in.frag.HasRows() || len(in.frag.Static()) > 0 || in.frag.Reversed() {
		return fmt.Errorf("storage: deletions with rows: %w", ErrBadRecord)
	}
	in.marked = append(in.marked, hashKey(key[1:]))
	return in.merge(&in.marks, key, value)
}

func (in *Ingest) addRegister(p partitionKey, value []byte) error {
	parts, ok := decodeRegisterParts(value)
	if !ok || in.register == nil {
		return fmt.Errorf("storage: Paxos register: %w", ErrBadRecord)
	}
	return in.register(p.token, p.key, parts)
}

// merge adds a MERGE record to a table and its deaths to the index.
func (in *Ingest) merge(t **table, key, value []byte) (err error) {
	if *t == nil {
		if *t, err = in.newTable(); err != nil {
			return err
		}
	}
	if in.e.cache != nil {
		in.cached = append(in.cached, hashKey(key))
	}
	in.mortal.each(key, value, func(kind byte, seconds int64) {
		in.death = appendDeath(in.death[:0], kind, seconds, key)
		in.deaths = append(in.deaths, bytes.Clone(in.death))
		in.grow(len(in.death))
	})
	return (*t).w.Merge(key, value)
}

// newTable creates a table in the folder of incoming ones.
func (in *Ingest) newTable() (*table, error) {
	e, fs := in.e, in.e.opts.FS
	path := fs.PathJoin(e.opts.Dir, incomingDir, fmt.Sprintf("%08d.sst", e.incoming.Add(1)))
	f, err := fs.Create(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		return nil, err
	}
	t := &table{sstable.NewWriter(objstorageprovider.NewFileWritable(f), e.tableOptions()), path}
	in.tables = append(in.tables, t)
	return t, nil
}

// tableOptions are those of the store's own lowest level.
func (e *Engine) tableOptions() sstable.WriterOptions {
	po := e.pebbleOptions()
	po.EnsureDefaults()
	o := po.MakeWriterOptions(len(po.Levels)-1, e.db.TableFormat())
	o.WritingToLowestLevel = false
	return o
}

// Commit makes the records visible, all at once, and durable; nothing of them is when it fails, unless the error is of the store's
// own disk. It ends the ingest. It holds the stripes of its partitions shared, as a batch of writes does: fold and purge, which read
// and then Set, stay out, and writes, with which it commutes, go on. Errors: ErrUnknownTable, ErrDiskFull, ErrClosed, ErrFailed, the
// hook's, those of the file system.
func (in *Ingest) Commit(ctx context.Context) error {
	defer in.Discard()
	err := in.commit(ctx)
	if errors.Is(err, syscall.ENOSPC) {
		in.e.reserve.empty()
		err = fmt.Errorf("%w: %w", ErrDiskFull, err)
	}
	if err != nil {
		return fmt.Errorf("storage: ingest into generation %d: %w", in.gen, err)
	}
	return nil
}

func (in *Ingest) commit(ctx context.Context) error {
	e := in.e
	if err := e.writable(); err != nil {
		return err
	}
	paths, err := in.finish()
	if err != nil || len(paths) == 0 {
		return err
	}
	done, err := e.Ingesting(in.gen, ring.Interval{First: in.first, Last: in.end})
	if err != nil {
		return err
	}
	defer done()
	held, ok := in.hold()
	defer func() {
		for _, i := range held {
			e.stripes[i].releaseShared()
		}
	}()
	if !ok {
		return ErrStuck
	}
	if e.isDropped(in.gen) { // under the stripes, as in Batch.Apply
		return ErrUnknownTable
	}
	return in.apply(ctx, held, paths)
}

// hold takes the stripes shared, as a batch does; false: not all of them.
func (in *Ingest) hold() (held []uint32, ok bool) {
	for i := range uint32(len(in.e.stripes)) {
		if in.stripes[i/64]&(1<<(i%64)) != 0 {
			if !in.e.stripes[i].acquireShared(len(held) > 0, in.e.opts.StripeWait) {
				return held, false
			}
			held = append(held, i)
		}
	}
	return held, true
}

// finish writes the tables to their end, that of the death index among them, and returns their paths.
func (in *Ingest) finish() (paths []string, err error) {
	err = in.writeDeaths()
	for _, t := range in.tables {
		paths = append(paths, t.path)
		err = errors.Join(err, t.w.Close())
		t.w = nil
	}
	return paths, err
}

func (in *Ingest) writeDeaths() error {
	if len(in.deaths) == 0 {
		return nil
	}
	slices.SortFunc(in.deaths, bytes.Compare)
	t, err := in.newTable()
	if err != nil {
		return err
	}
	for i, key := range in.deaths {
		if i == 0 || !bytes.Equal(key, in.deaths[i-1]) {
			err = errors.Join(err, t.w.Set(key, nil))
		}
	}
	return err
}

// apply ingests the tables and tells the row cache; see stripe for the order.
func (in *Ingest) apply(ctx context.Context, held []uint32, paths []string) error {
	e := in.e
	for _, hash := range in.marked {
		e.markers.add(in.gen, hash)
	}
	for _, i := range held {
		e.stripes[i].applying.Add(1)
	}
	err := e.db.Ingest(ctx, paths)
	for _, i := range held { // after an error too: nobody knows how far it came
		e.stripes[i].epoch.Add(1)
		e.stripes[i].markerEpoch.Add(1)
	}
	for _, hash := range in.cached {
		e.cache.dropHash(hash)
	}
	for _, i := range held {
		e.stripes[i].applying.Add(-1)
	}
	if err != nil {
		return err
	}
	e.opts.Metrics.Ingests.Add(1)
	e.opts.Metrics.IngestedRows.Add(int64(in.records))
	e.opts.Metrics.IngestedBytes.Add(in.size)
	e.opts.Metrics.Batches.Add(1)
	return nil
}

// Discard ends the ingest without a trace. After Commit it does nothing.
func (in *Ingest) Discard() {
	for _, t := range in.tables {
		if t.w != nil {
			_ = t.w.Close() // the file goes away
		}
		_ = in.e.opts.FS.Remove(t.path) // it is gone when it was ingested; what stays the next Open removes
	}
	in.tables, in.rows, in.marks, in.deaths = nil, nil, nil, nil
}

// emptyIncoming removes the tables of ingests that a stop has cut off.
func (e *Engine) emptyIncoming() error {
	fs, dir := e.opts.FS, e.opts.FS.PathJoin(e.opts.Dir, incomingDir)
	if err := fs.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	names, err := fs.List(dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := fs.RemoveAll(fs.PathJoin(dir, name)); err != nil {
			return err
		}
		e.opts.Logger.Info("storage: removed a table that was never ingested", "file", name)
	}
	return nil
}
