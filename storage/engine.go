package storage

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/helenusdb/helenus/internal/watermark"
	"github.com/helenusdb/helenus/schema"
)

// FormatMajorVersion is the Pebble format that every store of this version has: FormatNewest of the pinned Pebble. It can only be
// raised, so a new Pebble does not raise it by itself; the cluster version does. A store below it is refused, because only this
// format's log detects damage.
const FormatMajorVersion pebble.FormatMajorVersion = 24

// Engine is one node's store. Its methods may be called concurrently; a Batch belongs to one goroutine.
type Engine struct {
	opts    Options
	db      *pebble.DB
	logs    *logSpace
	pacer   *pacer // nil: not on a disk
	lock    *pebble.Lock
	stripes []stripe
	pipe    *pipeline
	cache   *rowCache // nil: none
	markers markerIndex
	many    manyMarkers
	stats   tableStats
	holds   purgeHolds
	leaves  leafIndex
	// incoming numbers the tables of ingests.
	incoming atomic.Uint64
	dropped  atomic.Pointer[[]schema.Generation] // ascending; DropGeneration is the only writer
	reserve  reserve
	water    *watermarks
	folds    foldQueue
	readers  chan *reader       // free list
	batches  chan *pebble.Batch // free list

	suspect  atomic.Bool
	closed   atomic.Bool
	hasFail  atomic.Bool
	failOnce sync.Once
	failed   chan struct{} // closed after a fatal error

	drops   chan struct{} // token: one DropGeneration at a time
	purges  chan struct{} // token: one purge at a time
	beats   chan struct{} // token: one beat at a time
	ctx     context.Context
	stop    context.CancelFunc
	workers sync.WaitGroup
}

// Open opens the store in o.Dir, creating it when there is none, and starts its goroutines; Close ends them. ctx bounds the opening
// only. Errors: ErrLocked, ErrFormat, and those of the file system and of Pebble (pebble.IsCorruptionError tells damage).
func Open(ctx context.Context, o Options) (*Engine, error) {
	o = o.withDefaults()
	if err := o.validate(); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	e := newEngine(o)
	if err := e.open(); err != nil {
		return nil, fmt.Errorf("storage: open %s: %w", o.Dir, errors.Join(err, e.abandon()))
	}
	e.start()
	return e, nil
}

func newEngine(o Options) *Engine {
	e := &Engine{
		opts:    o,
		stripes: make([]stripe, o.Stripes),
		cache:   newRowCache(o.RowCacheBytes),
		failed:  make(chan struct{}),
		drops:   make(chan struct{}, 1),
		purges:  make(chan struct{}, 1),
		beats:   make(chan struct{}, 1),
		readers: make(chan *reader, freePagesMax),
		batches: make(chan *pebble.Batch, freeBatchesMax),
	}
	e.pipe = newPipeline(o.InFlightMax, e.failed, o.Metrics)
	e.folds.init(foldQueueMax, o.Metrics)
	e.reserve.init(&e.opts)
	e.leaves.token = make(chan struct{}, 1)
	//lint:ignore SA1019 the engine's own lifetime, not a request's
	e.ctx, e.stop = context.WithCancel(context.Background())
	return e
}

func (e *Engine) open() error {
	o := &e.opts
	if err := o.FS.MkdirAll(o.Dir, 0o755); err != nil {
		return err
	}
	lock, err := pebble.LockDirectory(o.Dir, o.FS)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrLocked, err)
	}
	e.lock = lock
	if err := e.emptyIncoming(); err != nil {
		return err
	}
	existed, err := checkFormat(o.Dir, o.FS)
	if err != nil {
		return err
	}
	fs := o.FS
	if o.onDisk {
		e.pacer = &pacer{FS: fs}
		fs = e.pacer
	}
	if e.logs, err = newLogSpace(fs, o.Dir, o.MemtableBytes, e.roomForLogs, e.slowLogs); err != nil {
		return err
	}
	po := e.pebbleOptions()
	po.FS = e.logs
	if e.db, err = pebble.Open(o.Dir, po); err != nil {
		return err
	}
	if e.water, err = openWatermark(o.FS, o.Dir); err != nil {
		return err
	}
	if err := e.checkTail(existed); err != nil {
		return err
	}
	if err := e.loadDropped(); err != nil {
		return err
	}
	if err := e.markers.load(e.db); err != nil {
		return err
	}
	if err := e.leaves.load(e); err != nil {
		return err
	}
	return e.reserve.look()
}

// checkFormat tells whether dir holds a store, and returns ErrFormat for one below FormatMajorVersion. A store without a
// watermark was never opened to the end: its creation was cut short, before Pebble had raised the format, and it holds nothing.
func checkFormat(dir string, fs vfs.FS) (existed bool, err error) {
	desc, err := pebble.Peek(dir, fs)
	if err != nil {
		return false, err
	}
	if desc.Exists && desc.FormatMajorVersion < FormatMajorVersion {
		files, err := fs.List(dir)
		if err != nil || !slices.Contains(files, watermark.Name) {
			return false, err
		}
	}
	if desc.Exists && desc.FormatMajorVersion != FormatMajorVersion {
		return true, fmt.Errorf("%w: found %d, this version needs %d", ErrFormat, desc.FormatMajorVersion, FormatMajorVersion)
	}
	return desc.Exists, nil
}

func (e *Engine) pebbleOptions() *pebble.Options {
	o := &e.opts
	logger := pebbleLogger{e}
	merger := newMerger(o.FoldOperands, e.folds.offer)
	po := &pebble.Options{
		FS:                          o.FS,
		Lock:                        e.lock,
		Comparer:                    newComparer(),
		Merger:                      merger.pebble(),
		FormatMajorVersion:          FormatMajorVersion,
		CacheSize:                   o.BlockCacheBytes + 2*o.MemtableBytes, // Pebble takes memtables out of it
		MemTableSize:                uint64(o.MemtableBytes),
		MemTableStopWritesThreshold: 4,
		L0CompactionThreshold:       8, // of half sublevels: four
		L0StopWritesThreshold:       64,
		LBaseMaxBytes:               64 * mib,
		MaxOpenFiles:                4096,
		BytesPerSync:                512 << 10,
		WALBytesPerSync:             0,
		WALMinSyncInterval:          e.pipe.syncInterval,
		CompactionConcurrencyRange:  func() (int, int) { return 1, compactionsMax },
		Logger:                      logger,
		EventListener:               e.events(),
	}
	if o.Sync == Periodic {
		po.WALBytesPerSync = 1 * mib
	}
	po.Experimental.EnableValueBlocks = func() bool { return false } // rows of one partition are no versions of one another
	po.ApplyCompressionSettings(func() pebble.DBCompressionSettings {
		if o.Compression == CompressSmall {
			return pebble.DBCompressionBalanced
		}
		return pebble.DBCompressionFastest
	})
	for i := range po.Levels {
		po.Levels[i].BlockSize = 16 << 10
		po.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
		po.Levels[i].FilterType = pebble.TableFilter
	}
	po.TargetFileSizes[0] = 4 * mib
	return po
}

// logsAhead is for how many logs beyond the reserve there has to be room before one is made ahead of its use.
const logsAhead = 8

func (e *Engine) roomForLogs(bytes int64) bool {
	return !e.reserve.exhausted() && e.reserve.left.Load() > logsAhead*bytes
}

func (e *Engine) slowLogs(err error) {
	e.opts.Logger.Warn("storage: logs are made as they are written, which is slower", "error", err)
}

func (e *Engine) start() {
	e.workers.Add(4)
	go func() {
		e.pipe.run(e.recyclePebbleBatch, e.fail)
	}()
	go func() { defer e.workers.Done(); e.runFolds() }()
	go func() { defer e.workers.Done(); e.runHousekeeping() }()
	go func() { defer e.workers.Done(); e.logs.run(e.ctx) }()
	go func() { defer e.workers.Done(); e.runPurges() }()
}

// Close syncs, flushes and closes the store. Reads and writes must have ended. After a fatal error it only lets go.
func (e *Engine) Close() error {
	if e.closed.Swap(true) {
		return ErrClosed
	}
	e.stop()
	e.workers.Wait()
	if e.hasFailed() {
		<-e.pipe.done
		return errors.Join(ErrFailed, e.abandon())
	}
	e.pipe.stop()
	err := e.db.Flush()
	if err == nil {
		err = e.beat(true)
	}
	return errors.Join(err, e.abandon())
}

// abandon closes what open has opened, without writing.
func (e *Engine) abandon() error {
	e.stop()
	var err error
	for {
		select {
		case pb := <-e.batches:
			err = errors.Join(err, pb.Close())
			continue
		default:
		}
		break
	}
	if e.db != nil {
		err = errors.Join(err, e.db.Close())
	}
	if e.water != nil {
		err = errors.Join(err, e.water.Close())
	}
	if e.lock != nil {
		err = errors.Join(err, e.lock.Close())
	}
	return err
}

// fail records the first fatal error and ends the process. When Options.Fatal returns, as in tests, the engine refuses everything
// and acknowledges nothing.
func (e *Engine) fail(err error) {
	e.failOnce.Do(func() {
		e.hasFail.Store(true)
		close(e.failed)
		e.opts.Metrics.Failed.Store(1)
		e.opts.Logger.Error("storage failed, the process ends", "dir", e.opts.Dir, "error", err)
		e.opts.Fatal(err)
	})
}

func (e *Engine) hasFailed() bool { return e.hasFail.Load() }

// usable returns why nothing may be written now, whatever room there is.
func (e *Engine) usable() error {
	switch {
	case e.hasFailed():
		return ErrFailed
	case e.closed.Load():
		return ErrClosed
	}
	return nil
}

// writable returns why no write may be added now.
func (e *Engine) writable() error {
	if err := e.usable(); err != nil {
		return err
	}
	if e.reserve.exhausted() {
		e.opts.Metrics.WritesRefused.Add(1)
		return ErrDiskFull
	}
	return nil
}

func (e *Engine) takePebbleBatch() *pebble.Batch {
	select {
	case pb := <-e.batches:
		return pb
	default:
		return e.db.NewBatch()
	}
}

func (e *Engine) recyclePebbleBatch(pb *pebble.Batch) {
	pb.Reset()
	select {
	case e.batches <- pb:
	default:
		if err := pb.Close(); err != nil {
			e.opts.Logger.Error("storage: close batch", "error", err)
		}
	}
}

// Synced tells whether everything up to seq is durable. Seq 0 is.
func (e *Engine) Synced(seq Seq) bool { return e.pipe.isSynced(seq) }

// WhenSynced calls c once everything up to seq is durable: on the caller's goroutine if it is, else on the sync goroutine. After a
// fatal error c is never called. What waits is bounded by the caller's requests.
func (e *Engine) WhenSynced(seq Seq, c Committed) { e.pipe.whenSynced(seq, c) }

func (e *Engine) awaitSynced(seq Seq) {
	done := make(chan struct{})
	e.pipe.whenSynced(seq, CommittedFunc(func(error) { close(done) }))
	select {
	case <-done:
	case <-e.failed:
	}
}

// Suspect tells that the tail of the log was found short at this or an earlier start: acknowledged writes may be missing here. Such
// a node must not vote in Paxos or Raft and purges nothing until ClearSuspect.
func (e *Engine) Suspect() bool { return e.suspect.Load() }

// ClearSuspect records that the node has synced again from its peers.
func (e *Engine) ClearSuspect() error {
	e.suspect.Store(false)
	return e.beat(false)
}

// withToken runs f while no other holder of the token runs.
func (e *Engine) withToken(token chan struct{}, f func() error) error {
	select {
	case token <- struct{}{}:
	case <-e.ctx.Done():
		return ErrClosed
	}
	defer func() { <-token }()
	return f()
}

// With so many a store is behind, and its tables are not written at a pace any more. Writes stop at 32 sublevels and four memtables.
const (
	sublevelsBehind = 8
	memtablesBehind = 3
)

// lookBehind finds out whether flushes and compactions keep up.
func (e *Engine) lookBehind() {
	if e.pacer == nil {
		return
	}
	m := e.db.Metrics()
	e.pacer.pace.behind.Store(int(m.Levels[0].Sublevels) >= sublevelsBehind || m.MemTable.Count >= memtablesBehind)
}

// runHousekeeping looks at the free space and keeps the watermark, until Close.
func (e *Engine) runHousekeeping() {
	space := time.NewTicker(e.opts.FreeSpaceInterval)
	defer space.Stop()
	beat := time.NewTicker(watermarkInterval)
	defer beat.Stop()
	sync := time.NewTicker(e.opts.PeriodicInterval)
	defer sync.Stop()
	for {
		var err error
		select {
		case <-e.ctx.Done():
			return
		case <-e.failed:
			return
		case <-space.C:
			if err = e.reserve.look(); err != nil {
				e.opts.Logger.Error("storage: free space", "error", err)
			}
		case <-beat.C:
			e.lookBehind()
			if err = e.beatIfWritten(); err != nil {
				e.opts.Logger.Error("storage: watermark", "error", err)
			}
		case <-sync.C:
			if e.opts.Sync == Periodic {
				err = e.db.LogData(nil, pebble.Sync)
				if err != nil {
					e.fail(fmt.Errorf("storage: periodic sync: %w", err))
				}
			}
		}
	}
}
