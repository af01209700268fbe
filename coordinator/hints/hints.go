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

	"github.com/helenusdb/helenus/internal/planted"
	"github.com/helenusdb/helenus/ring"
)

const (
	keyLen         = 16 + 8 + 4 // target, µs since the epoch when the write was made, number
	pipelined      = 64         // hints on their way to one target
	pageBytesMax   = 1 << 20    // of hints read at a time
	lookEvery      = time.Second
	sendTimeout    = 10 * time.Second
	emptyLooks     = 10       // looks in vain after which the counters of a target are set right
	sweepEvery     = 600      // looks between two searches for hints of absent targets that have grown too old
	missedMax      = 32 << 10 // missed writes that wait to be stored together, twice what may be under way to a node; more are dropped and counted
	missedBytesMax = 64 << 20 // of them
	storeBytesMax  = 1 << 20  // of missed writes in one batch
	vainMax        = 4096     // hints in a row that the target did not take, after which a turn ends
	restMax        = 16       // looks for which a target is left alone at most that took nothing in its last turns
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
	// Commit calls done once, when the batch is durable or was refused.
	Commit(done func(error))
	Discard()
}

// Putter is a batch that a hint is added to.
type Putter interface {
	PutHint(key, value []byte) error
}

// Options configure Hints.
type Options struct {
	Self     ring.HostID
	Off      bool          // none is kept; those from before are delivered
	Window   time.Duration // a target that is down, or has not taken the oldest of its hints, for longer gets no more
	Throttle int64         // bytes per second and target; 0: unlimited
	BytesMax int64         // of one target
	Alive    func(ring.HostID) bool
	// Gone says that a target has left for ever: its hints are delivered all the same, by Deliver to others.
	Gone      func(ring.HostID) bool
	DownSince func(ring.HostID) time.Time // zero: not known to be down
	Scan      func(start, end []byte, fn func(key, value []byte) bool) error
	NewBatch  func() Batch
	// Deliver calls done once, from any goroutine; it does not keep the body after that.
	Deliver func(to ring.HostID, body []byte, timeout time.Duration, done func(Outcome))
	// Keep returns the part of a hint of that age that may still be delivered; nil: none of it.
	Keep   func(body []byte, age time.Duration) []byte
	Now    func() time.Time // the age of hints is data
	Logger *slog.Logger
}

// Metrics are counters since the start. Stored = Delivered + Expired + what is pending, but for hints of earlier runs.
type Metrics struct {
	Stored    atomic.Int64
	Delivered atomic.Int64
	Expired   atomic.Int64 // given up: too old, or their table is gone
	Dropped   atomic.Int64 // never stored: window, bounds, errors of the store, the end of the process
}

// ErrNotKept is returned by Put for a hint that the window or the bound excludes.
var ErrNotKept = errors.New("hints: not kept")

// Hints is the store of hints. It is safe for concurrent use.
type Hints struct {
	o       Options
	metrics Metrics
	number  atomic.Uint32
	nudge   chan struct{}
	missed  chan missedWrite
	waiting atomic.Int64 // bytes in missed
	commits atomic.Int32 // of missed writes, whose outcome storage has not told yet

	mu      sync.Mutex // guards targets and closed; held for an instant
	targets map[ring.HostID]*target
	closed  bool // nobody takes from missed any more
}

type target struct {
	count, bytes atomic.Int64
	oldest       atomic.Int64 // µs since the epoch, of the oldest hint that was seen; 0: none
	delivering   bool         // of Hints.mu
	rest, rests  int          // of Hints.mu: looks for which it is left alone, and those of its last rest
	empty        int          // looks in a row that found nothing; of the delivering goroutine
}

// stored counts a hint made at a time.
func (t *target) stored(size int, at int64) {
	t.count.Add(1)
	t.bytes.Add(int64(size + keyLen))
	for {
		old := t.oldest.Load()
		if old != 0 && old <= at || t.oldest.CompareAndSwap(old, at) {
			return
		}
	}
}

func (t *target) removed(size int) {
	t.count.Add(-1)
	t.bytes.Add(-int64(size + keyLen))
}

type missedWrite struct {
	to   ring.HostID
	body []byte
	at   time.Time
}

// New returns a store that has read nothing yet.
func New(o Options) *Hints {
	return &Hints{o: o, missed: make(chan missedWrite, missedMax), targets: map[ring.HostID]*target{}, nudge: make(chan struct{}, 1)}
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

// Put adds a hint for a write of this moment to a batch. ErrNotKept says that none is kept for the target; other errors
// are the batch's. When the batch fails afterwards the caller says so with Revoke.
func (h *Hints) Put(b Putter, to ring.HostID, body []byte) error {
	return h.put(b, to, body, h.o.Now())
}

func (h *Hints) put(b Putter, to ring.HostID, body []byte, at time.Time) error {
	t := h.target(to)
	err := ErrNotKept
	if h.wanted(to, t, len(body)) {
		err = b.PutHint(h.key(to, at), body)
	}
	if err != nil {
		h.metrics.Dropped.Add(1)
		return err
	}
	t.stored(len(body), at.UnixMicro())
	h.metrics.Stored.Add(1)
	return nil
}

// PutAt is Put for a write that was made at an earlier time, from which its age counts. The caller keeps the write when the
// hint is not kept, and it does not count as dropped; none is kept for a write from before the window, which would end the
// window for all others.
func (h *Hints) PutAt(b Putter, to ring.HostID, body []byte, at time.Time) error {
	t := h.target(to)
	if h.o.Now().Sub(at) >= h.o.Window || !h.wanted(to, t, len(body)) {
		return ErrNotKept
	}
	if err := b.PutHint(h.key(to, at), body); err != nil {
		return err
	}
	t.stored(len(body), at.UnixMicro())
	h.metrics.Stored.Add(1)
	return nil
}

// Revoke takes back a Put of a body of that size whose batch failed: the hint does not exist.
func (h *Hints) Revoke(to ring.HostID, size int) {
	h.target(to).removed(size)
	h.metrics.Stored.Add(-1)
}

// Keeps tells whether a hint for the target would be kept now.
func (h *Hints) Keeps(to ring.HostID) bool { return h.wanted(to, h.target(to), 0) }

func (h *Hints) wanted(to ring.HostID, t *target, size int) bool {
	if h.o.Off || to == h.o.Self || t.bytes.Load()+int64(size+keyLen) > h.o.BytesMax {
		return false
	}
	// A target that flaps, or a restart of this node, must not begin a new window: the oldest hint tells.
	if oldest := t.oldest.Load(); oldest != 0 && h.o.Now().Sub(time.UnixMicro(oldest)) >= h.o.Window {
		return false
	}
	since := h.o.DownSince(to)
	return since.IsZero() || h.o.Now().Sub(since) < h.o.Window
}

func (h *Hints) key(to ring.HostID, at time.Time) []byte {
	k := append(make([]byte, 0, keyLen), to[:]...)
	k = binary.BigEndian.AppendUint64(k, uint64(at.UnixMicro()))
	return binary.BigEndian.AppendUint32(k, h.number.Add(1))
}

func keyTime(key []byte) int64 { return int64(binary.BigEndian.Uint64(key[16:])) }

// Missed keeps a hint for a write that began so long ago and did not arrive, without waiting: it is stored soon. The
// bytes are copied.
func (h *Hints) Missed(to ring.HostID, body []byte, ago time.Duration) {
	if h.o.Off {
		return
	}
	if h.o.Window > 0 && ago >= h.o.Window { // it would end the window for all others
		h.metrics.Dropped.Add(1)
		return
	}
	size := int64(len(body))
	if h.waiting.Add(size) > missedBytesMax {
		h.waiting.Add(-size)
		h.metrics.Dropped.Add(1)
		return
	}
	m := missedWrite{to, slices.Clone(body), h.o.Now().Add(-ago)}
	h.mu.Lock()
	ok := !h.closed
	if ok {
		select {
		case h.missed <- m:
		default:
			ok = false
		}
	}
	h.mu.Unlock()
	if !ok {
		h.waiting.Add(-size)
		h.metrics.Dropped.Add(1)
	}
}

// Run stores what was missed and delivers until ctx ends; then it only stores, until settled is closed, and returns when
// all of that is durable or was refused.
func (h *Hints) Run(ctx context.Context, settled <-chan struct{}) {
	var wg sync.WaitGroup
	loaded := make(chan struct{})
	wg.Go(func() {
		defer close(loaded)
		if err := h.load(ctx); err != nil {
			h.o.Logger.Error("hints cannot be read", "err", err)
		}
	})
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	for looks := 0; ; {
		nudged := false
		select {
		case <-ctx.Done():
			h.finish(settled)
			wg.Wait()
			h.awaitCommits()
			return
		case m := <-h.missed:
			h.store(m)
			continue
		case <-look.C:
			looks++
		case <-h.nudge:
			nudged = true
		}
		select {
		case <-loaded:
			for _, d := range h.ready(looks%sweepEvery == 0, nudged) {
				wg.Go(func() { h.deliverAll(ctx, d) })
			}
		default:
		}
	}
}

const (
	commitsTick = 5 * time.Millisecond
	commitsMax  = 5 * time.Second
)

// awaitCommits waits until storage has told what became of the last hints. A store that has failed tells nobody, so there is
// an end to it.
func (h *Hints) awaitCommits() {
	t := time.NewTicker(commitsTick)
	defer t.Stop()
	for end := time.Now().Add(commitsMax); h.commits.Load() > 0; <-t.C {
		if time.Now().After(end) {
			h.o.Logger.Warn("stopping before hints are known to be stored", "commits", h.commits.Load())
			return
		}
	}
}

// finish stores what is missed until settled is closed.
func (h *Hints) finish(settled <-chan struct{}) {
	for {
		select {
		case m := <-h.missed:
			h.store(m)
		case <-settled:
			h.close()
			return
		}
	}
}

// close stores what was missed so far; nothing is taken after it.
func (h *Hints) close() {
	h.mu.Lock()
	h.closed = true
	h.mu.Unlock()
	for {
		select {
		case m := <-h.missed:
			h.store(m)
		default:
			return
		}
	}
}

// load counts what an earlier run of the process left. Hints that are put meanwhile may be counted twice; deliverPage
// sets that right.
func (h *Hints) load(ctx context.Context) error {
	if planted.On(planted.HintsForgotten) {
		return h.forget()
	}
	return h.o.Scan(nil, nil, func(key, value []byte) bool {
		if len(key) == keyLen {
			h.target(ring.HostID(key[:16])).stored(len(value), keyTime(key))
		}
		return ctx.Err() == nil
	})
}

// forget is the planted bug HintsForgotten: what an earlier run left is no more. The linker drops it from builds without planted bugs.
func (h *Hints) forget() error {
	return h.o.Scan(nil, nil, func(key, _ []byte) bool {
		b := h.o.NewBatch()
		if b.DeleteHint(slices.Clone(key)) == nil {
			b.Commit(func(error) {})
		}
		return true
	})
}

// store puts one missed write, and those waiting behind it, into a batch.
func (h *Hints) store(m missedWrite) {
	var put []missedWrite
	b := h.o.NewBatch()
	for size := 0; ; {
		h.waiting.Add(-int64(len(m.body)))
		err := h.put(b, m.to, m.body, m.at)
		switch {
		case err == nil:
			put = append(put, m)
			size += len(m.body)
		case !errors.Is(err, ErrNotKept):
			h.o.Logger.Debug("hint refused", "target", m.to.String(), "err", err)
		}
		if size >= storeBytesMax || len(h.missed) == 0 {
			break
		}
		m = <-h.missed // nobody else takes from it
	}
	if len(put) == 0 {
		b.Discard()
		return
	}
	h.commits.Add(1)
	b.Commit(func(err error) {
		defer h.commits.Add(-1)
		if err == nil {
			return
		}
		h.o.Logger.Error("hints were not stored", "hints", len(put), "err", err)
		for _, m := range put {
			h.Revoke(m.to, len(m.body))
			h.metrics.Dropped.Add(1)
		}
	})
}

// delivery is one turn of delivering to a target.
type delivery struct {
	to    ring.HostID
	t     *target
	sweep bool // only give up what has grown too old: the target is down
	after []byte
	began time.Time
	sent  int64 // bytes since began, for the throttle
	done  int64 // hints delivered or given up
	vain  int   // hints in a row that the target did not take
}

// ready returns the targets that have hints and are up, or gone, and marks them as being delivered to. With sweep it
// returns those that are down too, with nudged those that are left alone.
func (h *Hints) ready(sweep, nudged bool) []*delivery {
	h.mu.Lock()
	var out []*delivery
	for id, t := range h.targets {
		switch {
		case t.count.Load() == 0 || t.delivering:
		case t.rest > 0 && !nudged:
			t.rest--
		default:
			out = append(out, &delivery{to: id, t: t})
		}
	}
	h.mu.Unlock()
	slices.SortFunc(out, func(a, b *delivery) int { return a.to.Compare(b.to) })
	out = slices.DeleteFunc(out, func(d *delivery) bool {
		d.sweep = !h.o.Alive(d.to) && !h.o.Gone(d.to)
		return d.sweep && !sweep
	})
	h.mu.Lock()
	out = slices.DeleteFunc(out, func(d *delivery) bool { // HandOver may have been faster
		taken := d.t.delivering
		d.t.delivering = true
		return taken
	})
	h.mu.Unlock()
	return out
}

// deliverAll delivers page after page until there is none left, the target goes away, or ctx ends.
func (h *Hints) deliverAll(ctx context.Context, d *delivery) {
	d.began = time.Now()
	for ctx.Err() == nil && h.deliverPage(ctx, d) {
	}
	h.date(d)
	h.mu.Lock()
	d.t.delivering = false
	d.t.restAfter(d)
	h.mu.Unlock()
	if d.done > 0 {
		h.o.Logger.Info("hints delivered", "target", d.to.String(), "hints", d.done, "took", time.Since(d.began).String(), "left", d.t.count.Load())
	}
}

// restAfter has a target left alone for a while, for longer each time, that took nothing of what a turn offered: its disk is full, say, and each
// refusal costs both nodes a request. The caller holds Hints.mu.
func (t *target) restAfter(d *delivery) {
	if d.done > 0 || d.vain == 0 {
		t.rest, t.rests = 0, 0
		return
	}
	t.rests = min(max(1, 2*t.rests), restMax)
	t.rest = t.rests
}

type hint struct{ key, body []byte }

// deliverPage reads the oldest hints that this turn has not seen, sends them in order with several on their way, and
// deletes those that arrived. It reports whether to go on.
func (h *Hints) deliverPage(ctx context.Context, d *delivery) bool {
	page, err := h.page(d)
	if err != nil {
		h.o.Logger.Error("hints cannot be read", "target", d.to.String(), "err", err)
		return false
	}
	if d.after == nil {
		h.first(d.t, page)
	}
	if len(page) == 0 {
		return false
	}
	d.after = append(page[len(page)-1].key, 0)
	outcomes := h.send(ctx, d, page)
	if outcomes == nil {
		return false
	}
	h.settle(ctx, d, page, outcomes)
	return d.vain < vainMax
}

// date finds out how old the oldest hint is that a turn has left.
func (h *Hints) date(d *delivery) {
	var oldest int64
	err := h.o.Scan(d.to[:], endOf(d.to), func(key, _ []byte) bool {
		if len(key) == keyLen {
			oldest = keyTime(key)
		}
		return oldest == 0
	})
	if err == nil {
		d.t.oldest.Store(oldest)
	}
}

// endOf is behind all keys of a target.
func endOf(to ring.HostID) []byte {
	return append(slices.Clone(to[:]), 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff)
}

// first takes note of what the first page of a turn says about the target as a whole.
func (h *Hints) first(t *target, page []hint) {
	if len(page) > 0 {
		t.empty = 0
		return
	}
	// A hint whose batch is not committed yet is counted and cannot be read; only what stays unreadable for long was
	// counted twice.
	if t.empty++; t.empty >= emptyLooks {
		t.empty = 0
		t.count.Store(0)
		t.bytes.Store(0)
	}
}

func (h *Hints) page(d *delivery) ([]hint, error) {
	var page []hint
	size := 0
	start := d.after
	if start == nil {
		start = d.to[:]
	}
	err := h.o.Scan(start, endOf(d.to), func(key, value []byte) bool {
		if len(key) == keyLen {
			page = append(page, hint{slices.Clone(key), slices.Clone(value)})
			size += len(value) + keyLen
		}
		return size < pageBytesMax
	})
	return page, err
}

// send delivers a page and returns what became of each hint, 0 for those that were not sent; nil when ctx ended before
// that was known.
func (h *Hints) send(ctx context.Context, d *delivery, page []hint) []Outcome {
	results := make(chan sent, len(page))
	outcomes := make([]Outcome, len(page))
	waiting := 0
	take := func() bool {
		select {
		case s := <-results:
			outcomes[s.index] = s.outcome
			waiting--
			if d.vain++; s.outcome != Again {
				d.vain = 0
			}
			return true
		case <-ctx.Done():
			return false
		}
	}
	for i := range page {
		x := &page[i]
		body := h.o.Keep(x.body, h.o.Now().Sub(time.UnixMicro(keyTime(x.key))))
		if len(body) == 0 {
			outcomes[i] = Useless
			continue
		}
		if d.sweep {
			continue
		}
		if d.vain >= vainMax || !h.o.Alive(d.to) && !h.o.Gone(d.to) {
			break
		}
		if !h.pace(ctx, d) || waiting >= pipelined && !take() {
			return nil
		}
		waiting++
		d.sent += int64(len(body))
		h.o.Deliver(d.to, body, sendTimeout, func(o Outcome) { results <- sent{i, o} })
	}
	for waiting > 0 {
		if !take() {
			return nil
		}
	}
	return outcomes
}

type sent struct {
	index   int
	outcome Outcome
}

// pace waits until the throttle allows more; false when ctx has ended.
func (h *Hints) pace(ctx context.Context, d *delivery) bool {
	if h.o.Throttle <= 0 {
		return ctx.Err() == nil
	}
	ahead := time.Duration(float64(d.sent)/float64(h.o.Throttle)*float64(time.Second)) - time.Since(d.began)
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

// HandOver calls give for every hint that is here and not on its way, with the mutations that may still be delivered and the time of their write, and
// removes those for which it returns nil: others keep them. The error is that of the first that could not be given; the others are tried all the same.
func (h *Hints) HandOver(ctx context.Context, give func(ctx context.Context, body []byte, at time.Time) error) (first error) {
	for _, d := range h.claim() {
		if err := h.handOver(ctx, d, give); err != nil && first == nil {
			first = err
		}
		h.date(d)
		h.mu.Lock()
		d.t.delivering = false
		h.mu.Unlock()
	}
	return first
}

// handOver is HandOver for one target.
func (h *Hints) handOver(ctx context.Context, d *delivery, give func(ctx context.Context, body []byte, at time.Time) error) (first error) {
	for {
		page, err := h.page(d)
		if err != nil || len(page) == 0 || ctx.Err() != nil {
			if err == nil && first == nil {
				err = ctx.Err()
			}
			if first == nil {
				first = err
			}
			return first
		}
		d.after = append(slices.Clone(page[len(page)-1].key), 0)
		outcomes := make([]Outcome, len(page))
		for i := range page {
			at := time.UnixMicro(keyTime(page[i].key))
			body := h.o.Keep(page[i].body, h.o.Now().Sub(at))
			if outcomes[i] = Useless; len(body) == 0 {
				continue
			}
			outcomes[i] = Delivered
			if err := give(ctx, body, at); err != nil {
				outcomes[i] = Again
				if first == nil {
					first = err
				}
			}
		}
		h.settle(ctx, d, page, outcomes)
	}
}

// claim takes all targets that have hints and to which none are being delivered, by id.
func (h *Hints) claim() []*delivery {
	h.mu.Lock()
	defer h.mu.Unlock()
	var out []*delivery
	for id, t := range h.targets {
		if t.count.Load() > 0 && !t.delivering {
			t.delivering = true
			out = append(out, &delivery{to: id, t: t})
		}
	}
	slices.SortFunc(out, func(a, b *delivery) int { return a.to.Compare(b.to) })
	return out
}

// settle deletes what is done with. A hint whose delivery is not known stays.
func (h *Hints) settle(ctx context.Context, d *delivery, page []hint, outcomes []Outcome) {
	b := h.o.NewBatch()
	n := 0
	for i, o := range outcomes {
		if o != Delivered && o != Useless && !planted.On(planted.HintDeletedUndelivered) {
			continue
		}
		if err := b.DeleteHint(page[i].key); err != nil {
			h.o.Logger.Error("delivered hints cannot be deleted", "target", d.to.String(), "err", err)
			b.Discard()
			return
		}
		n++
	}
	if n == 0 {
		b.Discard()
		return
	}
	done := make(chan error, 1)
	b.Commit(func(err error) { done <- err })
	var err error
	select {
	case err = <-done:
	case <-ctx.Done(): // a second delivery does no harm
		return
	}
	if err != nil {
		h.o.Logger.Error("delivered hints cannot be deleted", "target", d.to.String(), "err", err)
		return
	}
	for i, o := range outcomes {
		switch o {
		case Delivered:
			h.metrics.Delivered.Add(1)
		case Useless:
			h.metrics.Expired.Add(1)
		default:
			continue
		}
		d.t.removed(len(page[i].body))
	}
	d.done += int64(n)
}
