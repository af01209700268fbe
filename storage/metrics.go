package storage

import (
	"math/bits"
	"sync/atomic"
	"time"
)

// Metrics are the engine's counters. node exports them. All may be read at any time.
type Metrics struct {
	Writes, Batches, WritesRefused     atomic.Int64 // keys written, batches committed, mutations refused
	Reads, PointReads, Scans           atomic.Int64 // commands
	CacheHits, CacheMisses             atomic.Int64 // keys
	Restarts                           atomic.Int64 // point reads that a concurrent write of the stripe sent to an iterator
	Folds, FoldsDropped, FoldedOperand atomic.Int64 // values folded; offers that found the queue full; operands folded away
	PurgeRuns, PurgeSeen, PurgeChanged atomic.Int64 // purges; keys looked at; keys rewritten or removed
	PurgePostponed                     atomic.Int64 // partitions whose markers stayed because writes came in between
	PurgeHeld                          atomic.Int64 // keys that a purge left alone because their range is held
	Ingests, IngestedRows              atomic.Int64 // ingests; rows and markers in them
	IngestedBytes                      atomic.Int64 // of their tables
	LeavesKept, LeavesComputed         atomic.Int64 // leaves that tallies took from the store, and that had to be computed
	Corruptions, BackgroundErrors      atomic.Int64
	SlowDisk, WriteStalls              atomic.Int64
	FreeBytes                          atomic.Int64 // of the file system, at the last look
	Failed                             atomic.Int64 // 1 after a fatal error
	SyncLatency                        Histogram    // from applied to durable
}

// Histogram counts durations in buckets whose bounds are powers of two microseconds: bucket i holds those below 2^i µs.
type Histogram struct {
	Buckets [32]atomic.Int64
	Sum     atomic.Int64 // nanoseconds
	Count   atomic.Int64
}

// Observe adds d.
func (h *Histogram) Observe(d time.Duration) {
	us := uint64(max(d, 0) / time.Microsecond)
	h.Buckets[min(bits.Len64(us), len(h.Buckets)-1)].Add(1)
	h.Sum.Add(int64(d))
	h.Count.Add(1)
}

// Quantile returns an upper bound of the q-quantile, 0 without observations.
func (h *Histogram) Quantile(q float64) time.Duration {
	total := h.Count.Load()
	if total == 0 {
		return 0
	}
	want, seen := int64(q*float64(total)), int64(0)
	for i := range h.Buckets {
		if seen += h.Buckets[i].Load(); seen > want {
			return time.Microsecond << i
		}
	}
	return time.Microsecond << (len(h.Buckets) - 1)
}

// Stats is a picture of the engine's sizes.
type Stats struct {
	DiskBytes                                           uint64 // tables and log
	LogBytes                                            uint64
	MemtableBytes                                       uint64
	BlockCacheBytes                                     int64
	BlockCacheEntries, BlockCacheHits, BlockCacheMisses int64
	RowCacheEntries                                     int
	RowCacheBytes                                       int64
	Tables                                              int64 // sstables
	Compactions                                         int64
	Flushes                                             int64
	Compacting, Flushing                                int64  // under way
	CompactionDebt                                      uint64 // bytes still to be compacted
	ReadAmp                                             int    // sorted runs that a read may have to look at
	InFlight                                            uint64 // batches applied and not yet durable
	CompactedBytes                                      uint64 // read by compactions since the store was opened
	CompactionsCancelled                                int64
}

// Stats returns the engine's sizes now. It takes Pebble's lock for a moment.
func (e *Engine) Stats() Stats {
	m := e.db.Metrics()
	s := Stats{
		DiskBytes:       m.DiskSpaceUsage(),
		LogBytes:        m.WAL.Size,
		MemtableBytes:   m.MemTable.Size,
		BlockCacheBytes: m.BlockCache.Size,
		Compactions:     m.Compact.Count,
		Flushes:         m.Flush.Count,
		Compacting:      m.Compact.NumInProgress, Flushing: m.Flush.NumInProgress,
		BlockCacheEntries: m.BlockCache.Count, BlockCacheHits: m.BlockCache.Hits, BlockCacheMisses: m.BlockCache.Misses,
		CompactionsCancelled: m.Compact.CancelledCount,
		CompactionDebt:       m.Compact.EstimatedDebt,
		ReadAmp:              m.ReadAmp(),
		InFlight:             e.pipe.assigned.Load() - e.pipe.synced.Load(),
	}
	for _, l := range m.Levels {
		s.Tables += l.TablesCount
		s.CompactedBytes += l.TableBytesRead
	}
	if e.cache != nil {
		s.RowCacheEntries, s.RowCacheBytes = e.cache.size()
	}
	return s
}
