package coordinator

import (
	"context"
	"math/bits"
	"sync"
	"sync/atomic"
	"time"
)

// wheelTick is the granularity of speculation; wheelSlots of them are one turn.
const (
	wheelTick  = 2 * time.Millisecond
	wheelSlots = 512
)

// wheel calls readOps that are late. One goroutine turns it while there is something in it: no timer per read.
type wheel struct {
	mu    sync.Mutex
	base  time.Time
	slots [wheelSlots][]wheelEntry
	turns int64 // ticks passed
	held  int
	wake  chan struct{}
}

type wheelEntry struct {
	op *readOp
	at int64 // tick
}

func (w *wheel) init() { w.base, w.wake = time.Now(), make(chan struct{}, 1) }

// add arranges for op.speculate at the given time; the wheel owns the reference that the caller took.
func (w *wheel) add(op *readOp, at time.Time) {
	w.mu.Lock()
	if w.held == 0 { // the wheel stood still while it was empty
		w.turns = max(w.turns, int64(time.Since(w.base)/wheelTick))
	}
	tick := max(int64(at.Sub(w.base)/wheelTick)+1, w.turns+1)
	if tick >= w.turns+wheelSlots {
		tick = w.turns + wheelSlots - 1 // later than a turn: asked a bit early
	}
	i := tick % wheelSlots
	w.slots[i] = append(w.slots[i], wheelEntry{op, tick})
	w.held++
	first := w.held == 1
	w.mu.Unlock()
	if first {
		select {
		case w.wake <- struct{}{}:
		default:
		}
	}
}

func (w *wheel) run(ctx context.Context) {
	t := time.NewTicker(wheelTick)
	defer t.Stop()
	var due []wheelEntry
	for ctx.Err() == nil {
		w.mu.Lock()
		idle := w.held == 0
		w.mu.Unlock()
		if idle {
			t.Stop()
			select {
			case <-ctx.Done():
			case <-w.wake:
			}
			t.Reset(wheelTick)
			continue
		}
		select {
		case <-ctx.Done():
		case <-t.C:
		}
		due = w.turn(time.Now(), due[:0])
		for i := range due {
			due[i].op.speculate()
			due[i].op = nil
		}
	}
}

// turn moves the wheel to now and returns what is due.
func (w *wheel) turn(now time.Time, due []wheelEntry) []wheelEntry {
	w.mu.Lock()
	defer w.mu.Unlock()
	to := int64(now.Sub(w.base) / wheelTick)
	if to-w.turns > wheelSlots {
		w.turns = to - wheelSlots
	}
	for w.turns < to {
		w.turns++
		s := &w.slots[w.turns%wheelSlots]
		due = append(due, *s...)
		w.held -= len(*s)
		clear(*s)
		*s = (*s)[:0]
	}
	return due
}

// latencies is a histogram, halved now and then, of how long replicas took to answer those reads that they were asked
// first, however late: percentiles for speculation come from it. What further replicas answer is left out, and so is
// what the operation as a whole took, so that speculation moves its own threshold neither up nor down.
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
