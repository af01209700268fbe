package storage

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/helenusdb/helenus/ring"
	"github.com/helenusdb/helenus/row"
	"github.com/helenusdb/helenus/schema"
)

const benchRows = 200_000

func benchOptions(b *testing.B) Options {
	o := testOptions(vfs.Default)
	o.Dir = b.TempDir()
	o.MemtableBytes, o.BlockCacheBytes, o.RowCacheBytes = 0, 0, 0
	return o
}

// benchMutation is an INSERT of five cells of 34 bytes.
func benchMutation(i int, ts int64) row.Mutation {
	key := fmt.Appendf(nil, "user%012d", i)
	return mutation(genPlain, key, func(f *row.FragmentBuilder) {
		var b row.Builder
		b.Reset(nil)
		b.SetLiveness(row.Liveness{Timestamp: ts})
		for c := range 5 {
			b.Cell(row.Cell{Column: schema.ColumnID(10 + c), Timestamp: ts, Value: fmt.Appendf(nil, "field%d-%028d", c, i)})
		}
		f.Row(nil, b.Finish())
	})
}

func load(b *testing.B, e *Engine, rows int) {
	b.Helper()
	batch := e.NewBatch()
	var wg sync.WaitGroup
	for i := range rows {
		m := benchMutation(i, 1)
		if err := batch.Apply(&m); err != nil {
			b.Fatal(err)
		}
		if batch.Len() == 64 || i == rows-1 {
			wg.Add(1)
			batch.Commit(CommittedFunc(func(error) { wg.Done() }))
		}
	}
	wg.Wait()
}

// BenchmarkWritePipelined: single writes, each its own commit, up to InFlightMax in flight, fsync shared.
func BenchmarkWritePipelined(b *testing.B) {
	for _, perBatch := range []int{1, 16} {
		b.Run(fmt.Sprintf("batch=%d", perBatch), func(b *testing.B) {
			e := openTest(b, benchOptions(b))
			defer e.Close()
			ms := make([]row.Mutation, 4096)
			for i := range ms {
				ms[i] = benchMutation(i, 1)
			}
			var wg sync.WaitGroup
			done := CommittedFunc(func(error) { wg.Done() })
			b.ReportAllocs()
			b.ResetTimer()
			batch := e.NewBatch()
			for i := range b.N {
				if err := batch.Apply(&ms[i%len(ms)]); err != nil {
					b.Fatal(err)
				}
				if batch.Len() == perBatch || i == b.N-1 {
					wg.Add(1)
					batch.Commit(done)
				}
			}
			wg.Wait()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "writes/s")
		})
	}
}

// BenchmarkWriteParallel: 32 writers that each wait for their own write.
func BenchmarkWriteParallel(b *testing.B) {
	e := openTest(b, benchOptions(b))
	defer e.Close()
	var next atomic.Int64
	b.SetParallelism(16)
	b.RunParallel(func(pb *testing.PB) {
		batch, done := e.NewBatch(), make(chan error, 1)
		c := CommittedFunc(func(err error) { done <- err })
		for pb.Next() {
			m := benchMutation(int(next.Add(1)%10000), 1)
			if err := batch.Apply(&m); err != nil {
				b.Error(err)
				return
			}
			batch.Commit(c)
			<-done
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "writes/s")
}

func benchRead(b *testing.B, e *Engine, rows int) {
	b.Helper()
	keys := make([][]byte, rows)
	toks := make([]ring.Token, rows)
	for i := range keys {
		keys[i] = fmt.Appendf(nil, "user%012d", i)
		toks[i] = token(keys[i])
	}
	var page row.Page
	cmd := row.Command{Generation: genPlain, Now: 1, GCBefore: row.NoTimestamp}
	b.ReportAllocs()
	b.ResetTimer()
	at := 0
	for range b.N {
		at = (at + 7919) % rows
		cmd.Key, cmd.Token = keys[at], toks[at]
		if _, err := e.Read(&cmd, &page); err != nil {
			b.Fatal(err)
		}
		if page.Rows != 1 {
			b.Fatal("row is missing")
		}
	}
}

func BenchmarkReadCached(b *testing.B) {
	e := openTest(b, benchOptions(b))
	defer e.Close()
	load(b, e, 1000)
	benchRead(b, e, 1000)
}

func benchUncached(b *testing.B, rounds int, compact bool) {
	o := benchOptions(b)
	o.RowCacheBytes = -1
	e := openTest(b, o)
	defer e.Close()
	for range rounds {
		load(b, e, benchRows)
	}
	if compact {
		if err := e.Compact(b.Context(), genPlain); err != nil {
			b.Fatal(err)
		}
	}
	benchRead(b, e, benchRows)
}

func BenchmarkReadUncachedAfterLoad(b *testing.B)       { benchUncached(b, 1, false) }
func BenchmarkReadUncachedAfterOverwrites(b *testing.B) { benchUncached(b, 4, false) }
func BenchmarkReadUncachedCompacted(b *testing.B)       { benchUncached(b, 1, true) }

func BenchmarkScan(b *testing.B) {
	e := openTest(b, benchOptions(b))
	defer e.Close()
	load(b, e, benchRows)
	var page row.Page
	b.ReportAllocs()
	b.ResetTimer()
	rows := 0
	for rows < b.N {
		cmd := row.Command{Generation: genPlain, Now: 1, GCBefore: row.NoTimestamp, Range: &ring.Range{Start: ring.MinToken, End: ring.MinToken}}
		for more := true; more && rows < b.N; {
			if _, err := e.Read(&cmd, &page); err != nil {
				b.Fatal(err)
			}
			rows += page.Rows
			more = page.More
			cut := page.Cut
			cmd.From = &cut
		}
	}
	b.ReportMetric(float64(rows)/b.Elapsed().Seconds(), "rows/s")
}

// BenchmarkTally: one pass over all rows, in buckets of 16 KiB, without kept leaves: what the first repair of a table costs, and any full one.
func BenchmarkTally(b *testing.B) {
	e := openTest(b, benchOptions(b))
	defer e.Close()
	load(b, e, benchRows)
	if err := e.Flush(); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	b.ResetTimer()
	rows := uint64(0)
	for rows < uint64(b.N) {
		rows += tally(b, e, TallyRequest{Generation: genPlain, At: row.Purge{Now: 1, GCBefore: row.NoTimestamp}, Tokens: allTokens}).Items
	}
	b.ReportMetric(float64(rows)/b.Elapsed().Seconds(), "rows/s")
}
