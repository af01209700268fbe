package storage

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/helenusdb/helenus/row"
)

func testRand(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 7)) }

// TestReadersSeeWritesInOrder runs writers, readers of all paths, folds, purges and flushes over few partitions and checks that a
// read never shows less than what was acknowledged before it began or what another read showed, and never half of a mutation.
func TestReadersSeeWritesInOrder(t *testing.T) {
	for _, cache := range []int64{-1, 4 << 10, 8 * mib} {
		t.Run(fmt.Sprintf("cache=%d", cache), func(t *testing.T) { orderedReads(t, cache) })
	}
}

func orderedReads(t *testing.T, cache int64) {
	const keys, writers, readers = 4, 2, 2
	o := testOptions(vfs.NewMem())
	o.RowCacheBytes, o.FoldOperands, o.Stripes, o.MemtableBytes = cache, 4, 4, 256<<10
	e := openTest(t, o)
	var clock atomic.Int64
	var shown [keys]atomic.Int64 // the newest timestamp that a finished read or write has shown
	stop := make(chan struct{})
	var wg sync.WaitGroup
	work := func(f func(r *rand.Rand)) {
		wg.Add(1)
		n := uint64(clock.Load()) + uint64(time.Now().UnixNano())
		go func() {
			defer wg.Done()
			r := testRand(n)
			for {
				select {
				case <-stop:
					return
				default:
					f(r)
				}
			}
		}()
	}
	for range writers {
		work(func(r *rand.Rand) {
			k := r.IntN(keys)
			ts := clock.Add(1)
			v := fmt.Sprint(ts)
			m := mutation(genWide, pkey(k), func(f *row.FragmentBuilder) {
				if r.IntN(4) == 0 { // replace the partition
					f.PartitionDeletion(row.Deletion{Timestamp: ts - 1, LocalTime: 1})
				}
				f.Static(rowOf(ts, v))
				f.Row([]byte("a"), rowOf(ts, v))
				f.Row([]byte("b"), rowOf(ts, v))
			})
			if err := e.Write(context.Background(), []row.Mutation{m}); err != nil {
				t.Error(err)
			}
			raiseTo(&shown[k], ts)
		})
	}
	for range readers {
		work(func(r *rand.Rand) {
			k := r.IntN(keys)
			least := shown[k].Load()
			cmd := single(genWide, pkey(k))
			switch r.IntN(4) {
			case 0:
				cmd = point(genWide, pkey(k), "a")
			case 1:
				cmd = point(genWide, pkey(k), "a")
				cmd.Slices = append(cmd.Slices, row.Slice{Start: []byte("b"), End: []byte("b\xff"), Point: true})
			case 2:
				cmd.Reverse = true
			}
			cmd.WithStatic = r.IntN(2) == 0
			var page row.Page
			if _, err := e.Read(&cmd, &page); err != nil {
				t.Error(err)
				return
			}
			checkOrdered(t, pageText(t, &page, 1), least, &shown[k])
		})
	}
	work(func(r *rand.Rand) {
		if _, err := e.Purge(context.Background(), genWide); err != nil {
			t.Error(err)
		}
		if r.IntN(10) == 0 {
			if err := e.Flush(); err != nil {
				t.Error(err)
			}
		}
	})
	m := e.opts.Metrics
	time.Sleep(1200 * time.Millisecond)
	for end := time.Now().Add(time.Minute); m.Folds.Load() == 0 && time.Now().Before(end); { // the machine has other work
		time.Sleep(50 * time.Millisecond)
	}
	close(stop)
	wg.Wait()
	t.Logf("%d writes, %d folds, %d restarts, %d hits", clock.Load(), m.Folds.Load(), m.Restarts.Load(), m.CacheHits.Load())
	if m.Folds.Load() == 0 {
		t.Error("nothing was folded")
	}
	if err := e.Close(); err != nil {
		t.Error(err)
	}
}

// raiseTo makes v at least x.
func raiseTo(v *atomic.Int64, x int64) {
	for old := v.Load(); old < x && !v.CompareAndSwap(old, x); old = v.Load() {
	}
}

func checkOrdered(t *testing.T, text string, least int64, shown *atomic.Int64) {
	newest := int64(0)
	for i, f := range strings.Fields(text) {
		_, v, _ := strings.Cut(f, "=")
		ts, err := strconv.ParseInt(v, 10, 64)
		if err != nil || i > 0 && ts != newest {
			t.Errorf("half of a mutation: %q", text)
			return
		}
		newest = ts
	}
	if newest < least {
		t.Errorf("read %d after %d was shown", newest, least)
	}
	raiseTo(shown, newest)
}

// TestStripesExclude: shared holders and exclusive ones never overlap, and nobody starves or deadlocks with batches that hold several.
func TestStripesExclude(t *testing.T) {
	stripes := make([]stripe, 3)
	var inside [3]atomic.Int64
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			r := testRand(uint64(w))
			for range 3000 {
				first, second := r.IntN(3), r.IntN(3)
				stripes[first].acquireShared(false, time.Minute)
				inside[first].Add(1)
				if second != first {
					stripes[second].acquireShared(true, time.Minute)
					inside[second].Add(1)
				}
				if inside[first].Load() < 1 {
					t.Error("an exclusive holder is inside")
				}
				if second != first {
					inside[second].Add(-1)
					stripes[second].releaseShared()
				}
				inside[first].Add(-1)
				stripes[first].releaseShared()
			}
		}()
	}
	for w := range 2 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			r := testRand(uint64(100 + w))
			for range 2000 {
				i := r.IntN(3)
				stripes[i].acquire()
				if n := inside[i].Add(-1000); n != -1000 {
					t.Errorf("%d others inside", n+1000)
				}
				inside[i].Add(1000)
				stripes[i].release()
			}
		}()
	}
	wg.Wait()
	for i := range stripes {
		if w := stripes[i].word.Load(); w != 0 {
			t.Errorf("stripe %d ends as %x", i, w)
		}
	}
}

// TestSyncsOfACrowd: one who writes alone never waits for the next sync, and where many wait at once they share it. A batch that is durable does not count.
func TestSyncsOfACrowd(t *testing.T) {
	p := newPipeline(16, make(chan struct{}), &Metrics{})
	for n := range 2 * crowd {
		want := time.Duration(0)
		if n >= crowd {
			want = crowdSync
		}
		if got := p.syncInterval(); got != want {
			t.Errorf("%d batches wait: %s between syncs, want %s", n, got, want)
		}
		if _, ok := p.begin(); !ok {
			t.Fatal("the pipeline has failed")
		}
	}
	p.synced.Store(2*crowd - 1)
	if got := p.syncInterval(); got != 0 {
		t.Errorf("one batch waits: %s", got)
	}
}
