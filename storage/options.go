package storage

import (
	"errors"
	"fmt"
	"log/slog"
	"math/bits"
	"os"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/helenusdb/helenus/ring"
	"github.com/helenusdb/helenus/schema"
)

// SyncMode says when a write is acknowledged.
type SyncMode uint8

const (
	// Group acknowledges a write when it is on disk. One fsync serves all that were written while the one before it ran.
	Group SyncMode = iota
	// Batched is Group with Commit waiting for the disk itself, so that a writer has one batch in flight.
	Batched
	// Periodic acknowledges at once and syncs every PeriodicInterval: a power loss takes back the last interval.
	Periodic
)

// String returns the name used in the configuration.
func (m SyncMode) String() string {
	switch m {
	case Group:
		return "group"
	case Batched:
		return "batch"
	case Periodic:
		return "periodic"
	}
	return fmt.Sprintf("SyncMode(%d)", uint8(m))
}

// Compression says how tables are compressed.
type Compression uint8

const (
	// CompressFast uses MinLZ or Snappy, whichever is faster on this machine: a block is unpacked in a few microseconds.
	CompressFast Compression = iota
	// CompressSmall uses zstd for the lower two levels, which hold nearly all data: a quarter smaller, several times slower to unpack.
	CompressSmall
)

// Tables is the engine's view of the current catalog. It is called on every write and read: it must be an atomic load and a lookup.
type Tables interface {
	// Table returns the table of a generation, false if there is none (any more).
	Table(gen schema.Generation) (*schema.Table, bool)
}

// GCBefore says before which time, in seconds since the epoch, tombstones may be purged; row.NoTimestamp: none may.
type GCBefore struct {
	Latest int64 // for any token: nothing that was made at it or later is looked at
	// Of returns it for a token. conditional: the partition has a Paxos register, so that rows of a commit may be written once more. It may be called while a
	// stripe is held, and must not wait. nil: Latest for all tokens.
	Of func(token ring.Token, conditional bool) int64
}

// Options of Open. The zero value of each field means its default.
type Options struct {
	Dir string // required; created if absent
	FS  vfs.FS // nil: the disk. There tables are written at a pace (pacer)

	Sync             SyncMode
	PeriodicInterval time.Duration // Periodic only; default 10 s, 1 ms to 1 h

	BlockCacheBytes int64 // default 64 MiB, at least 1 MiB
	RowCacheBytes   int64 // default 64 MiB; negative: no row cache
	MemtableBytes   int64 // default 32 MiB, 64 KiB to 1 GiB

	// ReserveBytes: writes are refused while the file system has less free. Default 256 MiB; negative: no reserve. It must
	// hold a few memtables and the output of a running compaction.
	ReserveBytes int64
	// FreeSpace returns the free bytes of the file system that holds Dir. nil: asks FS.
	FreeSpace func() (uint64, error)
	// FreeSpaceInterval between two looks at the free space; default 250 ms.
	FreeSpaceInterval time.Duration

	Stripes      int // tokens that partitions share; a power of two, default 1024, 1 to 65536
	FoldOperands int // a row read from more operands than this is folded; default 64, at least 2

	PurgeInterval    time.Duration // between two background purges; default 10 min, negative: only Purge
	PurgeRowsPerTick int           // keys that a background purge looks at per 10 ms; default 256

	// GCBefore returns which of a table's tombstones may be purged at now, in seconds since the epoch. nil: those older than gc_grace_seconds of tables
	// with tombstone_gc timeout, none of the others, which wait for their range to be repaired.
	GCBefore func(t *schema.Table, now int64) GCBefore

	// PurgedBefore returns the time before which all replicas of a token know all deletions and may have purged them: a replica that has and one that has not yet
	// give the same digest. row.NoTimestamp: the command says. It must not wait. nil: the command says for all tables.
	PurgedBefore func(t *schema.Table, token ring.Token, now int64) int64

	Compression Compression // default CompressFast

	MutationBytesMax int // default 16 MiB
	BatchBytesMax    int // default 64 MiB
	InFlightMax      int // batches applied and not yet synced; a power of two, default 1024, at most 2048

	// StripeWait is how long a write waits for a fold or purge of its partition, which take milliseconds unless the disk is stuck.
	// Default 1 s.
	StripeWait time.Duration

	Now    func() time.Time // decides when data has died; default time.Now
	Logger *slog.Logger     // default: discards
	// Fatal ends the process after an error that must never be survived: a failed fsync, a failed write of the log. Default:
	// exit code 70. When it returns (tests), the engine acknowledges nothing any more.
	Fatal   func(err error)
	Tables  Tables // required
	Metrics *Metrics

	onDisk bool
}

const (
	mib                  = 1 << 20
	fatalExitCode        = 70 // EX_SOFTWARE
	stripesMax           = 1 << 16
	inFlightMax          = 2048 // Pebble queues 4096 syncs at most
	compactionsMax       = 2
	watermarkInterval    = time.Second
	foldQueueMax         = 1024
	freeBatchesMax       = 64
	freePagesMax         = 32
	defaultReserve       = 256 * mib
	defaultMutationBytes = 16 * mib
)

func (o Options) withDefaults() Options {
	setInt64 := func(p *int64, v int64) {
		if *p == 0 {
			*p = v
		}
	}
	setInt := func(p *int, v int) {
		if *p == 0 {
			*p = v
		}
	}
	setDuration := func(p *time.Duration, v time.Duration) {
		if *p == 0 {
			*p = v
		}
	}
	if o.FS == nil {
		o.FS = vfs.Default
	}
	o.onDisk = o.FS == vfs.Default
	setDuration(&o.PeriodicInterval, 10*time.Second)
	setInt64(&o.BlockCacheBytes, 64*mib)
	setInt64(&o.RowCacheBytes, 64*mib)
	setInt64(&o.MemtableBytes, 32*mib)
	setInt64(&o.ReserveBytes, defaultReserve)
	setDuration(&o.FreeSpaceInterval, 250*time.Millisecond)
	setInt(&o.Stripes, 1024)
	setInt(&o.FoldOperands, 64)
	setDuration(&o.PurgeInterval, 10*time.Minute)
	setDuration(&o.StripeWait, time.Second)
	setInt(&o.PurgeRowsPerTick, 256)
	setInt(&o.MutationBytesMax, defaultMutationBytes)
	setInt(&o.BatchBytesMax, 4*o.MutationBytesMax)
	setInt(&o.InFlightMax, 1024)
	if o.FreeSpace == nil {
		fs, dir := o.FS, o.Dir
		o.FreeSpace = func() (uint64, error) {
			u, err := fs.GetDiskUsage(dir)
			return u.AvailBytes, err
		}
	}
	if o.GCBefore == nil {
		o.GCBefore = defaultGCBefore
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Fatal == nil {
		o.Fatal = func(error) { os.Exit(fatalExitCode) }
	}
	if o.Metrics == nil {
		o.Metrics = new(Metrics)
	}
	return o
}

func (o *Options) validate() error {
	bad := func(what string) error { return fmt.Errorf("storage: option %s is out of range", what) }
	powerOfTwo := func(n, top int) bool { return n >= 1 && n <= top && bits.OnesCount(uint(n)) == 1 }
	switch {
	case o.Dir == "":
		return errors.New("storage: option Dir is required")
	case o.Tables == nil:
		return errors.New("storage: option Tables is required")
	case o.Sync > Periodic:
		return bad("Sync")
	case o.Compression > CompressSmall:
		return bad("Compression")
	case o.PeriodicInterval < time.Millisecond || o.PeriodicInterval > time.Hour:
		return bad("PeriodicInterval")
	case o.BlockCacheBytes < mib:
		return bad("BlockCacheBytes")
	case o.MemtableBytes < mib/16 || o.MemtableBytes > 1024*mib:
		return bad("MemtableBytes")
	case !powerOfTwo(o.Stripes, stripesMax):
		return bad("Stripes")
	case o.FoldOperands < 2:
		return bad("FoldOperands")
	case o.PurgeRowsPerTick < 1:
		return bad("PurgeRowsPerTick")
	case o.MutationBytesMax < 1024 || o.MutationBytesMax > 1024*mib:
		return bad("MutationBytesMax")
	case o.BatchBytesMax < o.MutationBytesMax || o.BatchBytesMax > 2048*mib:
		return bad("BatchBytesMax")
	case !powerOfTwo(o.InFlightMax, inFlightMax):
		return bad("InFlightMax")
	}
	return nil
}
