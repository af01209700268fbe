package storage

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/helenusdb/helenus/internal/latency"
	"github.com/helenusdb/helenus/ring"
	"github.com/helenusdb/helenus/row"
	"github.com/helenusdb/helenus/schema"
)

// latencySample: one in so many reads, and writes, of a table is timed. Counting is exact. A power of two.
const latencySample = 16

// TableStats is what the store did for one table generation since it was opened. All may be read at any time.
type TableStats struct {
	Reads, Writes             atomic.Int64      // read commands; mutations
	ReadLatency, WriteLatency latency.Histogram // of one in latencySample of them
}

// tableStats finds them: the map is replaced, never written to, so that finding takes no lock.
type tableStats struct {
	all atomic.Pointer[map[schema.Generation]*TableStats]
	mu  sync.Mutex // orders replacements; held for the copying of the map
}

// of returns the statistics of a generation, which is known to be one of a table: so there are no more than tables.
func (s *tableStats) of(gen schema.Generation) *TableStats {
	if m := s.all.Load(); m != nil {
		if t := (*m)[gen]; t != nil {
			return t
		}
	}
	return s.add(gen)
}

func (s *tableStats) add(gen schema.Generation) *TableStats {
	t := new(TableStats)
	s.change(func(m map[schema.Generation]*TableStats) {
		if old := m[gen]; old != nil {
			t = old
		}
		m[gen] = t
	})
	return t
}

func (s *tableStats) forget(gen schema.Generation) {
	s.change(func(m map[schema.Generation]*TableStats) { delete(m, gen) })
}

func (s *tableStats) change(f func(map[schema.Generation]*TableStats)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	next := map[schema.Generation]*TableStats{}
	if old := s.all.Load(); old != nil {
		for g, t := range *old {
			next[g] = t
		}
	}
	f(next)
	s.all.Store(&next)
}

// counted tells whether the n-th operation is one of those that are timed.
func counted(n int64) bool { return n&(latencySample-1) == 1 }

// begin counts a read; began is zero unless it is timed.
func (t *TableStats) begin() (began time.Time) {
	if counted(t.Reads.Add(1)) {
		return time.Now()
	}
	return time.Time{}
}

func (t *TableStats) end(began time.Time) {
	if !began.IsZero() {
		t.ReadLatency.Observe(time.Since(began))
	}
}

// TableStats returns what was done for a generation; nil when nothing was.
func (e *Engine) TableStats(gen schema.Generation) *TableStats {
	if m := e.stats.all.Load(); m != nil {
		return (*m)[gen]
	}
	return nil
}

// Files describes the files that hold rows of one generation. Neighbouring tables may share them.
type Files struct {
	Count, Largest int64   // files; bytes of the largest
	Ratio          float64 // compressed size of their blocks over the raw size; 0 without files
}

// TableFiles looks at the files of a generation. It reads the properties of each.
func (e *Engine) TableFiles(gen schema.Generation) (Files, error) {
	start := appendGeneration(nil, spaceRows, gen)
	levels, err := e.db.SSTables(pebble.WithKeyRangeFilter(start, prefixSuccessor(nil, start)), pebble.WithProperties())
	if err != nil {
		return Files{}, fmt.Errorf("storage: files of generation %d: %w", gen, err)
	}
	var f Files
	var stored, raw uint64
	for _, l := range levels {
		for i := range l {
			f.Count++
			f.Largest = max(f.Largest, int64(l[i].Size))
			if p := l[i].Properties; p != nil {
				stored, raw = stored+p.DataSize, raw+p.RawKeySize+p.RawValueSize
			}
		}
	}
	if raw > 0 {
		f.Ratio = float64(stored) / float64(raw)
	}
	return f, nil
}

// PartitionSize is the size of one partition's content, without what deletions shadow.
type PartitionSize struct {
	Bytes, Rows, Cells int64
	Tombstones         int64 // cells that are deleted or have expired, row and range tombstones, a partition deletion
}

const (
	sampleBytesMax    = 64 << 20 // that one SampleSizes reads
	partitionBytesMax = 16 << 20 // of one partition: larger ones are measured up to here
)

// SampleSizes returns the sizes of up to n partitions of a token range, which must not wrap: n tokens are taken evenly from it and the
// first partition after each is measured, none twice. It reads what it measures, at most 64 MiB.
func (e *Engine) SampleSizes(gen schema.Generation, rg ring.Range, n int) ([]PartitionSize, error) {
	var out []PartitionSize
	budget := int64(sampleBytesMax)
	next := rg.Start // partitions up to here were measured
	for _, part := range rg.Split(n) {
		if part.End != ring.MinToken && part.End <= next && next != rg.Start {
			continue
		}
		from := part
		if next > from.Start {
			from.Start = next
		}
		from.End = rg.End
		var first Partition
		found := false
		err := e.Partitions(gen, from, func(p Partition) bool {
			first, found = Partition{p.Token, append([]byte(nil), p.Key...)}, true
			return false
		})
		if err != nil || !found || budget <= 0 {
			return out, err
		}
		size, err := e.measure(gen, first)
		if err != nil {
			return out, err
		}
		out, next, budget = append(out, size), first.Token, budget-size.Bytes
	}
	return out, nil
}

// measure reads one partition.
func (e *Engine) measure(gen schema.Generation, p Partition) (s PartitionSize, err error) {
	cmd := row.Command{Generation: gen, Token: p.Token, Key: p.Key, Now: e.opts.Now().Unix(), WithStatic: true, GCBefore: row.NoTimestamp, Bytes: row.DefaultPageBytes,
		Limit: 1 << 30}
	t, err := e.checkRead(&cmd)
	if err != nil {
		return s, err
	}
	var page row.Page
	for {
		if _, err := e.read(t, &cmd, &page); err != nil {
			return s, err
		}
		if err := s.add(&page, cmd.Now); err != nil || !page.More || s.Bytes > partitionBytesMax {
			return s, err
		}
		at := page.Cut
		at.Key, at.Clustering = p.Key, append([]byte(nil), page.Cut.Clustering...)
		cmd.From = &at
	}
}

func (s *PartitionSize) add(page *row.Page, now int64) error {
	var pr row.PageReader
	var f row.FragmentReader
	for pr.Init(page.Data); pr.Next(); {
		s.Bytes += int64(len(pr.Key) + len(pr.Fragment))
		if err := f.Init(pr.Fragment); err != nil {
			return err
		}
		if !f.PartitionDeletion().Live() {
			s.Tombstones++
		}
		if static := f.Static(); len(static) > 0 {
			if err := s.addRow(static, now); err != nil {
				return err
			}
		}
		for f.NextRow() {
			s.Rows++
			if err := s.addRow(f.Row, now); err != nil {
				return err
			}
		}
		var rt row.RangeTombstone
		for f.NextRange(&rt) {
			s.Tombstones++
		}
		if err := f.Err(); err != nil {
			return err
		}
	}
	return pr.Err()
}

func (s *PartitionSize) addRow(encoded []byte, now int64) error {
	var r row.Reader
	if err := r.Init(encoded); err != nil {
		return err
	}
	if !r.Deletion().Live() {
		s.Tombstones++
	}
	for r.Next() {
		if !r.Complex {
			s.addCell(&r.Cell, now)
			continue
		}
		for r.NextElement() {
			s.addCell(&r.Cell, now)
		}
	}
	return r.Err()
}

func (s *PartitionSize) addCell(c *row.Cell, now int64) {
	s.Cells++
	if !c.LiveAt(now) {
		s.Tombstones++
	}
}
