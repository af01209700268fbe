package hints

import (
	"context"
	"encoding/binary"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/helenusdb/helenus/ring"
)

const (
	keyLen       = 16 + 8 + 4 // target, µs since the epoch when it was made, number
	pipelined    = 64         // hints on their way to one target
	pageBytesMax = 1 << 20    // of hints read at a time
	lookEvery    = time.Second
	sendTimeout  = 10 * time.Second
	emptyLooks   = 10
	mergeMissed  = 1024 // missed writes that wait to be stored together; more are dropped and counted
)

// Outcome is what became of a delivery.
type Outcome uint8

// The outcomes.
const (
	Delivered Outcome = iota + 1
	Again             // later
	Useless           // the target will never want it
)

// Batch is the part of the store's batch that hints need.
type Batch interface {
	PutHint(key, value []byte) error
	DeleteHint(key []byte) error
	Commit(done func(error))
	Discard()
}

// Putter is a batch that a hint is added to.
type Putter interface {
	PutHint(key, value []byte) error
}

// Options configure Hints.
type Options struct {
	Self      ring.HostID
	Off       bool          // none is kept; those from before are delivered
	Window    time.Duration // a target that is down for longer gets no more
	Throttle  int64         // bytes per second and target; 0: unlimited
	BytesMax  int64         // of one target
	Alive     func(ring.HostID) bool
	DownSince func(ring.HostID) time.Time // zero: not known to be down
	Scan      func(start, end []byte, fn func(key, value []byte) bool) error
	NewBatch  func() Batch
	Deliver   func(to ring.HostID, body []byte, timeout time.Duration, done func(Outcome))
	// Keep says whether a hint of that age may still be delivered.
	Keep   func(body []byte, age time.Duration) bool
	Now    func() time.Time // the age of hints is data
	Logger *slog.Logger
}

// Metrics are counters since the start.
type Metrics struct {
	Stored, Delivered, Expired, Dropped atomic.Int64
}

// ErrNotKept is returned by Put for a hint that the window or the bound excludes.
var ErrNotKept = errors.New("hints: not kept")

// Hints is the store of hints. It is safe for concurrent use.
type Hints struct {
	o       Options
	metrics Metrics
	number  atomic.Uint32
	missed  chan missedWrite

	mu      sync.Mutex // guards targets; held for map accesses only
	targets map[ring.HostID]*target
	nudge   chan struct{}
}

type target struct {
	count, bytes atomic.Int64
	delivering   bool // of Hints.mu
	empty        int  // looks in a row that found nothing; of the delivering goroutine
}

type missedWrite struct {
	to   ring.HostID
	body []byte
}

// New returns a store that has read nothing yet.
func New(o Options) *Hints {
	return &Hints{o: o, missed: make(chan missedWrite, mergeMissed), targets: map[ring.HostID]*target{}, nudge: make(chan struct{}, 1)}
}

// Metrics returns the counters.
func (h *Hints) Metrics() *Metrics { return &h.metrics }

// Pending returns how many hints wait for delivery, and their bytes.
func (h *Hints) Pending() (count, bytes int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, t := range h.targets {
		count += t.count.Load()
		bytes += t.bytes.Load()
	}
	return count, bytes
}

// PendingFor returns how many hints wait for one target.
func (h *Hints) PendingFor(id ring.HostID) int64 { return h.target(id).count.Load() }

// Nudge starts deliveries now instead of at the next look: a target has come up.
func (h *Hints) Nudge() {
	select {
	case h.nudge <- struct{}{}:
	default:
	}
}

func (h *Hints) target(id ring.HostID) *target {
	h.mu.Lock()
	defer h.mu.Unlock()
	t := h.targets[id]
	if t == nil {
		t = &target{}
		h.targets[id] = t
	}
	return t
}

// Put adds a hint to a batch. ErrNotKept says that none is kept for the target; other errors are the batch's.
func (h *Hints) Put(b Putter, to ring.HostID, body []byte) error {
	t := h.target(to)
	if !h.wanted(to, t, len(body)) {
		h.metrics.Dropped.Add(1)
		return ErrNotKept
	}
	if err := b.PutHint(h.key(to), body); err != nil {
		h.metrics.Dropped.Add(1)
		return err
	}
	t.count.Add(1)
	t.bytes.Add(int64(len(body) + keyLen))
	h.metrics.Stored.Add(1)
	return nil
}

func (h *Hints) wanted(to ring.HostID, t *target, size int) bool {
	if h.o.Off || to == h.o.Self || t.bytes.Load()+int64(size+keyLen) > h.o.BytesMax {
		return false
	}
	since := h.o.DownSince(to)
	return since.IsZero() || time.Since(since) < h.o.Window
}

func (h *Hints) key(to ring.HostID) []byte {
	k := append(make([]byte, 0, keyLen), to[:]...)
	k = binary.BigEndian.AppendUint64(k, uint64(h.o.Now().UnixMicro()))
	return binary.BigEndian.AppendUint32(k, h.number.Add(1))
}

// Missed keeps a hint for a write that did not arrive, without waiting: it is stored soon. The bytes are copied.
func (h *Hints) Missed(to ring.HostID, body []byte) {
	if h.o.Off {
		return
	}
	select {
	case h.missed <- missedWrite{to, slices.Clone(body)}:
	default:
		h.metrics.Dropped.Add(1)
	}
}

// Run stores what was missed and delivers until ctx ends; then it stores what is left and returns when its goroutines
// have.
func (h *Hints) Run(ctx context.Context) {
	if err := h.load(); err != nil {
		h.o.Logger.Error("hints cannot be read", "err", err)
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	for {
		select {
		case <-ctx.Done():
			h.storeMissed()
			return
		case m := <-h.missed:
			h.store(m)
			continue
		case <-look.C:
		case <-h.nudge:
		}
		for _, id := range h.ready() {
			wg.Go(func() { h.deliverAll(ctx, id) })
		}
	}
}

// load counts what an earlier run of the process left.
func (h *Hints) load() error {
	var high uint32
	err := h.o.Scan(nil, nil, func(key, value []byte) bool {
		if len(key) == keyLen {
			t := h.target(ring.HostID(key[:16]))
			t.count.Add(1)
			t.bytes.Add(int64(len(value) + keyLen))
			high = max(high, binary.BigEndian.Uint32(key[24:]))
		}
		return true
	})
	h.number.Add(high + 1)
	return err
}

func (h *Hints) storeMissed() {
	for {
		select {
		case m := <-h.missed:
			h.store(m)
		default:
			return
		}
	}
}

// store puts one missed write, and those waiting behind it, into a batch.
func (h *Hints) store(m missedWrite) {
	b := h.o.NewBatch()
	h.put(b, m)
	for range len(h.missed) {
		h.put(b, <-h.missed)
	}
	b.Commit(func(err error) {
		if err != nil {
			h.o.Logger.Error("hints were not stored", "err", err)
		}
	})
}

func (h *Hints) put(b Batch, m missedWrite) {
	if err := h.Put(b, m.to, m.body); err != nil && !errors.Is(err, ErrNotKept) {
		h.o.Logger.Debug("hint refused", "target", m.to.String(), "err", err)
	}
}

// ready returns the targets that are up and have hints, and marks them as being delivered to.
func (h *Hints) ready() []ring.HostID {
	h.mu.Lock()
	defer h.mu.Unlock()
	var out []ring.HostID
	for id, t := range h.targets {
		if t.count.Load() > 0 && !t.delivering {
			out = append(out, id)
		}
	}
	slices.SortFunc(out, ring.HostID.Compare)
	out = slices.DeleteFunc(out, func(id ring.HostID) bool { return !h.o.Alive(id) })
	for _, id := range out {
		h.targets[id].delivering = true
	}
	return out
}

// deliverAll delivers page after page until there is none left, the target goes away, or ctx ends.
func (h *Hints) deliverAll(ctx context.Context, to ring.HostID) {
	t := h.target(to)
	began, delivered := time.Now(), int64(0)
	for ctx.Err() == nil {
		n, again := h.deliverPage(ctx, to, t)
		delivered += n
		if again || n == 0 {
			break
		}
	}
	h.mu.Lock()
	t.delivering = false
	h.mu.Unlock()
	if delivered > 0 {
		h.o.Logger.Info("hints delivered", "target", to.String(), "hints", delivered, "took", time.Since(began).String(), "left", t.count.Load())
	}
}

type hint struct{ key, body []byte }

// deliverPage reads the oldest hints, sends them in order with several on their way, and deletes those that arrived.
// again says that the target did not take all of them.
func (h *Hints) deliverPage(ctx context.Context, to ring.HostID, t *target) (n int64, again bool) {
	page, err := h.page(to)
	if err != nil {
		h.o.Logger.Error("hints cannot be read", "target", to.String(), "err", err)
		return 0, true
	}
	if len(page) == 0 {
		// A hint whose batch is not committed yet is counted and cannot be read; only what stays unreadable for
		// long was never stored.
		if t.empty++; t.empty >= emptyLooks {
			t.count.Store(0)
			t.bytes.Store(0)
		}
		return 0, false
	}
	t.empty = 0
	outcomes := make([]Outcome, len(page))
	var wg sync.WaitGroup
	places := make(chan struct{}, pipelined)
	began, sent := time.Now(), int64(0)
	for i, x := range page {
		if age := h.o.Now().Sub(time.UnixMicro(int64(binary.BigEndian.Uint64(x.key[16:])))); !h.o.Keep(x.body, age) {
			outcomes[i] = Useless
			continue
		}
		if !h.pace(ctx, began, sent) {
			break
		}
		places <- struct{}{}
		wg.Add(1)
		sent += int64(len(x.body))
		h.o.Deliver(to, x.body, sendTimeout, func(o Outcome) {
			outcomes[i] = o
			<-places
			wg.Done()
		})
	}
	wg.Wait()
	return h.settle(t, page, outcomes)
}

func (h *Hints) page(to ring.HostID) ([]hint, error) {
	var page []hint
	size := 0
	end := append(slices.Clone(to[:]), 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff)
	err := h.o.Scan(to[:], end, func(key, value []byte) bool {
		page = append(page, hint{slices.Clone(key), slices.Clone(value)})
		size += len(value)
		return size < pageBytesMax
	})
	return page, err
}

// pace waits until the throttle allows more; false when ctx has ended.
func (h *Hints) pace(ctx context.Context, began time.Time, sent int64) bool {
	if h.o.Throttle <= 0 {
		return ctx.Err() == nil
	}
	ahead := time.Duration(float64(sent)/float64(h.o.Throttle)*float64(time.Second)) - time.Since(began)
	if ahead <= 0 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(ahead)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// settle deletes what is done with. A hint whose delivery is not known stays.
func (h *Hints) settle(t *target, page []hint, outcomes []Outcome) (n int64, again bool) {
	b := h.o.NewBatch()
	for i, o := range outcomes {
		if o != Delivered && o != Useless {
			again = true
			continue
		}
		if err := b.DeleteHint(page[i].key); err != nil {
			b.Discard()
			return 0, true
		}
		if o == Delivered {
			h.metrics.Delivered.Add(1)
		} else {
			h.metrics.Expired.Add(1)
		}
		n++
		t.count.Add(-1)
		t.bytes.Add(-int64(len(page[i].body) + keyLen))
	}
	done := make(chan error, 1)
	b.Commit(func(err error) { done <- err })
	if err := <-done; err != nil {
		return n, true
	}
	return n, again
}
