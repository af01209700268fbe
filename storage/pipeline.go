package storage

import (
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/helenusdb/helenus/internal/planted"
)

// Seq is an ordinal: batches are numbered in the order they are handed to the log, and synced in that order. 0 means none.
type Seq = uint64

// Committed is told once when a batch is durable (err nil) or was refused (err not nil). It is called on the engine's sync
// goroutine, or on the caller's own when there is nothing to wait for: it must not block and must not call Commit.
type Committed interface {
	Committed(err error)
}

// CommittedFunc is a function as Committed.
type CommittedFunc func(err error)

// Committed calls f.
func (f CommittedFunc) Committed(err error) { f(err) }

// inflight is a batch that is applied and not known to be durable.
type inflight struct {
	pb   *pebble.Batch
	c    Committed
	done time.Time // applied
}

// pipeline numbers batches before they are applied and calls their callbacks in that order after each one's sync. Ordinals are
// consecutive, so synced says everything.
type pipeline struct {
	slots    []atomic.Pointer[inflight]
	tickets  chan struct{} // one per slot in use: bounds what is in flight
	assigned atomic.Uint64
	synced   atomic.Uint64
	wake     chan struct{} // capacity 1: a slot was filled
	failed   chan struct{} // closed by the engine's fail
	quit     chan struct{} // closed by stop
	done     chan struct{} // closed when run has returned

	free    chan *inflight
	metrics *Metrics

	firstWait atomic.Uint64 // seq of waits[0], or MaxUint64
	mu        sync.Mutex
	waits     []syncWait // ascending
}

type syncWait struct {
	seq Seq
	c   Committed
}

func newPipeline(size int, failed chan struct{}, m *Metrics) *pipeline {
	p := &pipeline{
		slots:   make([]atomic.Pointer[inflight], size),
		tickets: make(chan struct{}, size),
		wake:    make(chan struct{}, 1),
		failed:  failed,
		quit:    make(chan struct{}),
		done:    make(chan struct{}),
		free:    make(chan *inflight, size),
		metrics: m,
	}
	p.firstWait.Store(math.MaxUint64)
	return p
}

// begin returns the next ordinal; false after a failure. It waits while too many batches are in flight.
func (p *pipeline) begin() (Seq, bool) {
	select {
	case p.tickets <- struct{}{}:
	default:
		select {
		case p.tickets <- struct{}{}:
		case <-p.failed:
			return 0, false
		}
	}
	return p.assigned.Add(1), true
}

// Where that many batches wait at once, a sync waits until so long after the last one, so that it makes more of them durable: who waits
// beside others gains more by fewer syncs than it loses, and one who writes alone waits for none.
const (
	crowd     = 4
	crowdSync = 500 * time.Microsecond
)

// syncInterval is Pebble's WALMinSyncInterval, asked after each sync.
func (p *pipeline) syncInterval() time.Duration {
	if p.assigned.Load()-p.synced.Load() < crowd {
		return 0
	}
	return crowdSync
}

// submit hands over the applied batch of an ordinal that begin returned. The sync goroutine owns pb from here on.
func (p *pipeline) submit(seq Seq, pb *pebble.Batch, c Committed) {
	var f *inflight
	select {
	case f = <-p.free:
	default:
		f = new(inflight)
	}
	f.pb, f.c, f.done = pb, c, time.Now()
	p.slots[seq&uint64(len(p.slots)-1)].Store(f)
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// run syncs in order until stop. recycle takes back each batch; fail is called with the first error, after which no callback runs.
func (p *pipeline) run(recycle func(*pebble.Batch), fail func(error)) {
	defer close(p.done)
	for next := uint64(1); ; next++ {
		f := p.take(next)
		if f == nil {
			return
		}
		if err := f.pb.SyncWait(); err != nil && !planted.On(planted.SyncErrorIgnored) {
			fail(err)
			return
		}
		select {
		case <-p.failed: // by another path: nothing may be acknowledged any more
			return
		default:
		}
		p.synced.Store(next)
		p.metrics.SyncLatency.Observe(time.Since(f.done))
		f.c.Committed(nil)
		recycle(f.pb)
		f.pb, f.c = nil, nil
		select {
		case p.free <- f:
		default:
		}
		<-p.tickets
		p.wakeReaders(next)
	}
}

// take waits for the batch with ordinal seq; nil after stop, when there is none, and after a failure.
func (p *pipeline) take(seq Seq) *inflight {
	slot := &p.slots[seq&uint64(len(p.slots)-1)]
	quit := p.quit
	for {
		if f := slot.Swap(nil); f != nil {
			return f
		}
		select {
		case <-p.wake:
		case <-p.failed:
			return nil
		case <-quit:
			if p.assigned.Load() < seq {
				return nil
			}
			quit = nil // it is being applied: its submit wakes us
		}
	}
}

// stop ends run after everything in flight is synced. No begin may come after it.
func (p *pipeline) stop() {
	close(p.quit)
	<-p.done
}

func (p *pipeline) isSynced(seq Seq) bool { return seq <= p.synced.Load() }

// whenSynced calls c once seq is durable, at once if it is.
func (p *pipeline) whenSynced(seq Seq, c Committed) {
	if p.isSynced(seq) {
		c.Committed(nil)
		return
	}
	p.mu.Lock()
	at := len(p.waits)
	for at > 0 && p.waits[at-1].seq > seq {
		at--
	}
	p.waits = append(p.waits, syncWait{})
	copy(p.waits[at+1:], p.waits[at:])
	p.waits[at] = syncWait{seq, c}
	p.firstWait.Store(p.waits[0].seq)
	p.mu.Unlock()
	if s := p.synced.Load(); s >= seq { // the sync goroutine may have looked before we were in the list
		p.wakeReaders(s)
	}
}

func (p *pipeline) wakeReaders(synced Seq) {
	if p.firstWait.Load() > synced {
		return
	}
	var ready []syncWait
	p.mu.Lock()
	n := 0
	for n < len(p.waits) && p.waits[n].seq <= synced {
		n++
	}
	ready = append(ready, p.waits[:n]...)
	p.waits = append(p.waits[:0], p.waits[n:]...)
	if len(p.waits) > 0 {
		p.firstWait.Store(p.waits[0].seq)
	} else {
		p.firstWait.Store(math.MaxUint64)
	}
	p.mu.Unlock()
	for _, w := range ready {
		w.c.Committed(nil)
	}
}
