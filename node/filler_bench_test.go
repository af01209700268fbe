package node

import (
	"context"
	"errors"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/helenusdb/helenus/cql/protocol"
	"github.com/helenusdb/helenus/internal/bench"
	"github.com/helenusdb/helenus/repair/stream"
	"github.com/helenusdb/helenus/ring"
	"github.com/helenusdb/helenus/storage"
)

// BenchmarkStream measures a range from one node to another over loopback, without a throttle, from the source's store to the receiver's, durable: rows
// of about 1 KiB, four in a partition. Both nodes, and a third that idles, share the machine and its disk.
func BenchmarkStream(b *testing.B) {
	dir := b.TempDir()
	c := newTrioWith(b, 90, func(i int, o *Options) {
		o.FS, o.Config.DataDir = storage.Disk(), filepath.Join(dir, strconv.Itoa(i))
		o.Config.StreamThroughput = 0
		o.Config.Memtable, o.Config.BlockCache = 32<<20, 64<<20
	})
	const partitions = 16_000 // 64 MiB
	for at := 0; at < partitions; at += 2000 {
		c.put(c.large(at, 2000, 1<<10), 0)
	}
	if err := c.nodes[0].engine.Flush(); err != nil {
		b.Fatal(err)
	}
	b.ResetTimer()
	bytes, used := int64(0), cpu()
	for b.Loop() {
		q := stream.Request{From: c.nodes[0].home.HostID, Table: c.table.Generation, Range: ring.FullRange()}
		before := c.nodes[2].streams.ledger.Total().BytesIn
		if err := c.nodes[2].streams.fetcher.Fetch(context.Background(), q, nil); err != nil {
			b.Fatal(err)
		}
		bytes += c.nodes[2].streams.ledger.Total().BytesIn - before
	}
	b.SetBytes(bytes / int64(b.N))
	b.ReportMetric(float64(cpu()-used)/float64(time.Millisecond)/(float64(bytes)/1e6), "cpu-ms/MB") // of all nodes: what a busy machine says little about otherwise
}

// BenchmarkLoadBesideStream measures what a foreground load keeps while a range is streamed at 15 MB/s, a quarter of what BenchmarkStream is to reach: three nodes that share the
// machine, half reads and half writes at QUORUM through CQL, as fast as answers come, in turns of two seconds without and with a stream from one node to another.
func BenchmarkLoadBesideStream(b *testing.B) {
	dir := b.TempDir()
	const throttle = 15_000_000
	c := newTrioWith(b, 87, func(i int, o *Options) {
		o.FS, o.Config.DataDir = storage.Disk(), filepath.Join(dir, strconv.Itoa(i))
		o.Config.StreamThroughput = throttle
		o.Config.Memtable, o.Config.BlockCache, o.Config.RowCache = 32<<20, 64<<20, 64<<20
	})
	const partitions = 40_000 // 160 MiB: more than a turn streams
	for at := 0; at < partitions; at += 2000 {
		c.put(c.large(at, 2000, 1<<10), 0)
	}
	if err := c.nodes[0].engine.Flush(); err != nil {
		b.Fatal(err)
	}
	load := bench.Options{Op: bench.Mixed, Level: protocol.Quorum, Rows: 20_000, Conns: 6, Depth: 16, Duration: 2 * time.Second}
	for i := range 3 {
		load.Hosts = append(load.Hosts, host(87+i)+":19042")
	}
	if err := bench.Setup(b.Context(), load.Hosts[0], 3); err != nil {
		b.Fatal(err)
	}
	measure := func(op bench.Op, warm time.Duration) *bench.Report {
		o := load
		o.Op, o.Warm = op, warm
		r, err := bench.Run(b.Context(), o, nil)
		if err != nil || r.Bad > 0 {
			b.Fatalf("%d wrong answers, %v", r.Bad, err)
		}
		return r
	}
	measure(bench.Load, 0)
	measure(bench.Mixed, 2*time.Second)
	var quiet, beside, quietP99, besideP99, streamed float64
	b.ResetTimer()
	for b.Loop() {
		r := measure(bench.Mixed, 0)
		quiet, quietP99 = quiet+r.OpsPerSec, quietP99+float64(r.Micros.P99)
		ctx, cancel := context.WithCancel(b.Context())
		ended := make(chan error, 1)
		before := c.nodes[2].streams.ledger.Total().BytesIn
		go func() {
			q := stream.Request{From: c.nodes[0].home.HostID, Table: c.table.Generation, Range: ring.FullRange()}
			ended <- c.nodes[2].streams.fetcher.Fetch(ctx, q, nil)
		}()
		r = measure(bench.Mixed, 0)
		beside, besideP99 = beside+r.OpsPerSec, besideP99+float64(r.Micros.P99)
		streamed += float64(c.nodes[2].streams.ledger.Total().BytesIn - before)
		cancel()
		if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
			b.Fatal(err)
		}
	}
	n := float64(b.N)
	b.ReportMetric(quiet/n, "quiet-ops/s")
	b.ReportMetric(beside/n, "beside-ops/s")
	b.ReportMetric(100*beside/quiet, "%kept")
	b.ReportMetric(quietP99/n/1000, "quiet-p99-ms")
	b.ReportMetric(besideP99/n/1000, "beside-p99-ms")
	b.ReportMetric(streamed/n/1e6/load.Duration.Seconds(), "stream-MB/s")
}

// cpu is the time that the process has computed.
func cpu() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
