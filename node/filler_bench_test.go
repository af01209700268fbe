package node

import (
	"context"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

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

// cpu is the time that the process has computed.
func cpu() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
