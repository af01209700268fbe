package coordinator

import (
	"maps"
	"math/bits"
	"sync"
	"sync/atomic"
	"time"

	"github.com/helenusdb/helenus/schema"
)

// tableLatencies are those of each table generation that is read. They outlast views.
type tableLatencies struct {
	mu sync.Mutex // held for an instant, once per table and view
	of map[schema.Generation]*latencies
	// known counts the tables that were met, so that those that are gone are looked for now and then.
	known int
}

// latenciesSpare is for how many tables that are gone latencies are kept at most.
const latenciesSpare = 64

// get returns the latencies of a table of the catalog.
func (t *tableLatencies) get(table *schema.Table, catalog *schema.Catalog) *latencies {
	t.mu.Lock()
	defer t.mu.Unlock()
	if l := t.of[table.Generation]; l != nil {
		return l
	}
	if t.of == nil {
		t.of = map[schema.Generation]*latencies{}
	}
	if t.known++; t.known%latenciesSpare == 0 {
		maps.DeleteFunc(t.of, func(g schema.Generation, _ *latencies) bool { _, ok := catalog.TableByGeneration(g); return !ok })
	}
	l := &latencies{}
	t.of[table.Generation] = l
	return l
}

// latencies is a histogram, halved now and then, of how long replicas took to answer those reads of one partition of a table that they were asked
// first, however late: percentiles for speculation come from it. What further replicas answer is left out, and so is
// what the operation as a whole took, so that speculation moves its own threshold neither up nor down. Reads of ranges are left out, which take longer.
type latencies struct {
	buckets [64 * subBuckets]atomic.Uint32
	count   atomic.Int64
	cached  atomic.Int64 // ns of the 99th percentile at the last look
	at      atomic.Int64 // count at the last look
}

const (
	subBuckets     = 4
	latencyHalve   = 1 << 16
	latencyRefresh = 256
	latencyFirst   = 10 * time.Millisecond // before there is any experience
	latencyFloor   = 2 * time.Millisecond
)

func latencyBucket(ns uint64) int {
	e := bits.Len64(ns | 1)
	sub := 0
	if e > 3 {
		sub = int(ns>>(e-3)) & (subBuckets - 1)
	}
	return (e-1)*subBuckets + sub
}

func latencyValue(i int) time.Duration {
	e, sub := i/subBuckets+1, i%subBuckets
	if e <= 3 {
		return time.Duration(1 << e)
	}
	return time.Duration((uint64(subBuckets+sub) + 1) << (e - 3))
}

func (l *latencies) add(d time.Duration) {
	l.buckets[latencyBucket(uint64(max(d, 0)))].Add(1)
	if l.count.Add(1)%latencyHalve == 0 {
		for i := range l.buckets {
			l.buckets[i].Store(l.buckets[i].Load() / 2)
		}
	}
}

// percentile returns the given percentile of recent reads, at least latencyFloor.
func (l *latencies) percentile(p float64) time.Duration {
	n := l.count.Load()
	if n == 0 {
		return latencyFirst
	}
	if at := l.at.Load(); p == 99 && at != 0 && n-at < latencyRefresh {
		return time.Duration(l.cached.Load())
	}
	var total, sum uint64
	for i := range l.buckets {
		total += uint64(l.buckets[i].Load())
	}
	out := latencyFirst
	for i := range l.buckets {
		sum += uint64(l.buckets[i].Load())
		if float64(sum) >= p/100*float64(total) {
			out = max(latencyValue(i), latencyFloor)
			break
		}
	}
	if p == 99 {
		l.cached.Store(int64(out))
		l.at.Store(n)
	}
	return out
}
