package movement

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/helenusdb/helenus/internal/planted"
	"github.com/helenusdb/helenus/meta"
	"github.com/helenusdb/helenus/ring"
)

const (
	parallel    = 2           // fills at a time
	retryAfter  = time.Second // after something failed, or waits for replicas
	observedMax = 256         // plans that wait to be looked at; of more the oldest are forgotten, and what they left filled is filled again
)

// Log is the metadata log; *raftlog.Service is one.
type Log interface {
	Current() *meta.State
	Propose(ctx context.Context, build func(*meta.State) (*meta.Command, bool, error)) (*meta.State, error)
	// AwaitAll waits for a while until members have applied an epoch, and returns those that have not said so.
	AwaitAll(ctx context.Context, epoch uint64, members []ring.HostID) (lagging []ring.HostID)
}

// Filler brings rows. What it returns nil for is durable here.
type Filler interface {
	// Clear deletes what this node holds of the ranges, all tables. Writes that were let in since the plan began may go with it: every
	// one that was acknowledged is on so many of the replicas before the movement that Fill finds it.
	Clear(ctx context.Context, f Fill) error
	// Fill reads the ranges from f.Source, when it is set, and then makes this node have what each of f.Compare has. moved is called with bytes
	// that have arrived. It can be called again for ranges that it did not finish, and goes on where it was.
	Fill(ctx context.Context, f Fill, moved func(bytes int64)) error
}

// Store keeps the records. Save returns when they are durable.
type Store interface {
	Load() ([]byte, error) // nil: there are none
	Save(ctx context.Context, records []byte) error
}

// Options configure a Mover; all but Owned, Clean and Logger are needed.
type Options struct {
	Self   ring.HostID
	Log    Log
	Alive  func(ring.HostID) bool
	Filler Filler
	Store  Store
	// Handover gives the hints and batches that this node holds to others: before a node that leaves reports the switch.
	Handover func(context.Context) error
	// Settled returns when nothing is under way here any more that began under a state older than the epoch.
	Settled func(ctx context.Context, epoch uint64) error
	// Owned is told of every state in which a plan or a phase begins, in order, before anything is done for it: what this node owned until then, and where it counted, is to be
	// noted. nil: nobody wants to know.
	Owned func(ctx context.Context, s *meta.State) error
	// Clean deletes what this node holds of ranges that it does not own under the state, in which nothing moves. It is called at the start and after each
	// movement, never beside a fill. nil: what it loses stays.
	Clean  func(ctx context.Context, s *meta.State) error
	Logger *slog.Logger // nil: discard
}

// Mover is this node's part in movements. Run it; the other methods are safe for concurrent use.
type Mover struct {
	o     Options
	nudge chan struct{} // capacity 1
	apart chan apart    // what Apart is given

	mu       sync.Mutex // guards the fields below; held for moments
	observed []*meta.State
	progress Progress
	abandon  context.CancelFunc // of the filling under way; nil: there is none

	records Records // of Run's goroutine
	cleaned uint64  // likewise: 1 + the RingEpoch after which it has cleaned; 0: not yet
	moved   atomic.Int64
}

// Progress is how far this node has come with the present plan.
type Progress struct {
	Plan   uint64 // 0: it fills nothing
	Done   int    // ranges
	Total  int
	Bytes  int64  // that have arrived
	Waits  string // what it waits for; empty: nothing
	Failed string // the last failure; empty: none
}

// New returns a Mover that has done nothing yet.
func New(o Options) (*Mover, error) {
	if o.Self.IsZero() || o.Log == nil || o.Alive == nil || o.Filler == nil || o.Store == nil || o.Handover == nil || o.Settled == nil {
		return nil, errors.New("movement: every option is needed")
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return &Mover{o: o, nudge: make(chan struct{}, 1), apart: make(chan apart)}, nil
}

// apart is something that is done between two steps.
type apart struct {
	f    func(ctx context.Context) error
	done chan error // capacity 1
}

// Apart has Run call f between two steps, never beside a fill, and returns its error. It ends with ctx's error when Run does not come to it, for it is filling; f's context
// ends with Run.
func (m *Mover) Apart(ctx context.Context, f func(ctx context.Context) error) error {
	a := apart{f, make(chan error, 1)}
	select {
	case m.apart <- a:
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case err := <-a.done:
		return err
	case <-ctx.Done(): // f goes on
		return ctx.Err()
	}
}

// Observe is told of every new state in order, so that no plan is missed. It does not block.
func (m *Mover) Observe(before, after *meta.State) {
	if before.Phase() == after.Phase() && before.Plan == after.Plan {
		return
	}
	m.mu.Lock()
	m.observed = append(m.observed, after)
	if n := len(m.observed); n > observedMax {
		m.observed = m.observed[n-observedMax:]
	}
	if m.abandon != nil {
		m.abandon()
	}
	m.mu.Unlock()
	m.Nudge()
}

// Nudge makes it look again now: a node is up again.
func (m *Mover) Nudge() {
	select {
	case m.nudge <- struct{}{}:
	default:
	}
}

// Progress tells how far this node has come.
func (m *Mover) Progress() Progress {
	m.mu.Lock()
	defer m.mu.Unlock()
	p := m.progress
	p.Bytes = m.moved.Load()
	return p
}

// Run does this node's part until ctx ends. An error is one of the store's: what is filled cannot be remembered.
func (m *Mover) Run(ctx context.Context) error {
	raw, err := m.o.Store.Load()
	if err != nil {
		return fmt.Errorf("movement: %w", err)
	}
	if raw != nil {
		if m.records, err = DecodeRecords(raw); err != nil {
			return fmt.Errorf("movement: %w", err)
		}
	}
	for ctx.Err() == nil {
		again, err := m.step(ctx)
		if err != nil && ctx.Err() == nil {
			return err
		}
		m.pause(ctx, again)
	}
	return nil
}

// pause waits for news, and not for long when there is more to do.
func (m *Mover) pause(ctx context.Context, again bool) {
	var late <-chan time.Time // nil: never
	if again {
		t := time.NewTimer(retryAfter)
		defer t.Stop()
		late = t.C
	}
	select {
	case <-ctx.Done():
	case <-m.nudge:
	case <-late:
	case a := <-m.apart:
		a.done <- a.f(ctx)
		m.Nudge()
	}
}

// step does what the present state asks for; again says that there is more to do although nothing will happen by itself.
func (m *Mover) step(ctx context.Context) (again bool, err error) {
	s, err := m.follow(ctx)
	if err != nil {
		return false, err
	}
	me := s.Node(m.o.Self)
	switch {
	case me == nil || me.State == meta.Left:
		return false, nil
	case s.Phase() == meta.Filling && me.Filled != s.Plan:
		return m.fill(ctx, s)
	case s.Phase() == meta.Switched && me.Switched != s.SwitchedAt:
		again = m.settle(ctx, s)
		return again || slices.Contains(s.Uncompared(), m.o.Self), nil
	case slices.Contains(s.Uncompared(), m.o.Self):
		return m.compareAgain(ctx, s), nil
	case s.Phase() == meta.None && m.o.Clean != nil && m.cleaned != 1+s.RingEpoch:
		return m.clean(ctx, s), nil
	}
	return false, nil
}

// clean deletes what the node has lost; again when that failed.
func (m *Mover) clean(ctx context.Context, s *meta.State) (again bool) {
	if err := m.o.Clean(ctx, s); err != nil {
		if ctx.Err() == nil {
			m.o.Logger.Warn("rows of ranges that this node does not own any more could not be removed yet", "err", err)
		}
		return true
	}
	m.cleaned = 1 + s.RingEpoch
	return false
}

// follow brings the records to the plan of the newest state, by way of those in between.
func (m *Mover) follow(ctx context.Context) (*meta.State, error) {
	m.mu.Lock()
	observed := m.observed
	m.observed = nil
	m.mu.Unlock()
	s := m.o.Log.Current()
	was := m.records.Plan
	for _, o := range append(observed, s) {
		if o.Epoch > s.Epoch {
			continue
		}
		if m.o.Owned != nil {
			if err := m.o.Owned(ctx, o); err != nil {
				return s, err
			}
		}
		m.records = Follow(m.records, o, m.o.Self)
	}
	if m.records.Plan == was {
		return s, nil
	}
	m.moved.Store(0)
	m.tell(Progress{Plan: m.records.Plan})
	return s, m.save(ctx)
}

func (m *Mover) save(ctx context.Context) error {
	if err := m.o.Store.Save(ctx, m.records.Append(nil)); err != nil {
		return fmt.Errorf("movement: %w", err)
	}
	return nil
}

func (m *Mover) tell(p Progress) {
	m.mu.Lock()
	m.progress = p
	m.mu.Unlock()
}

// fill works on the plan of s until it is done, changes, or cannot go on for now.
func (m *Mover) fill(ctx context.Context, s *meta.State) (again bool, err error) {
	if planted.On(planted.CleanedBeforeSwitch) {
		_ = m.o.Clean(ctx, s)
	}
	if !slices.Contains(s.Reporters(), m.o.Self) {
		return false, nil
	}
	todo, waits := Pending(m.records, s, m.o.Self, m.o.Alive)
	total, left := ranges(s, m.o.Self), len(waits)
	for _, f := range todo {
		left += len(f.Ranges)
	}
	p := Progress{Plan: s.Plan, Total: max(total, left), Done: max(total, left) - left}
	if len(waits) > 0 {
		p.Waits = waits[0].Error()
		m.o.Logger.Warn("ranges cannot be filled yet: start their replicas, or give up what only those have that are down (helenus force)",
			"plan", s.Plan, "ranges", len(waits), "first", waits[0], "operation", s.Operations[0].ID)
	}
	if lagging := m.o.Log.AwaitAll(ctx, s.Plan, readFrom(todo)); len(lagging) > 0 {
		p.Waits = fmt.Sprintf("node %s has not heard of the plan, and may let go of tombstones", lagging[0])
		m.tell(p)
		return true, nil
	}
	m.tell(p)
	failed, err := m.fillAll(ctx, s, todo, p)
	switch {
	case err != nil:
		return false, err
	case failed != nil:
		if m.o.Log.Current().Plan == s.Plan && ctx.Err() == nil {
			m.o.Logger.Warn("ranges could not be filled and are tried again", "plan", s.Plan, "err", failed)
		}
		return true, nil
	case len(waits) > 0:
		return true, nil
	}
	return m.reportFilled(ctx, s), nil
}

// readFrom returns whom the fills read from, ascending.
func readFrom(todo []Fill) (out []ring.HostID) {
	for _, f := range todo {
		if out = append(out, f.Compare...); !f.Source.IsZero() {
			out = append(out, f.Source)
		}
	}
	slices.SortFunc(out, ring.HostID.Compare)
	return slices.Compact(out)
}

// ranges counts what the plan of s has the node fill.
func ranges(s *meta.State, self ring.HostID) (n int) {
	for _, ks := range s.Catalog.Keyspaces() {
		if len(ks.Tables()) > 0 {
			n += len(s.Fills(ks.Name, self))
		}
	}
	return n
}

// fillAll runs the fills, a few at a time, and records each that is done. failed is why some are not; err that the store failed.
func (m *Mover) fillAll(ctx context.Context, s *meta.State, todo []Fill, p Progress) (failed, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	m.mu.Lock()
	m.abandon = cancel
	m.mu.Unlock()
	defer func() {
		m.mu.Lock()
		m.abandon = nil
		m.mu.Unlock()
	}()
	if m.o.Log.Current().Plan != s.Plan { // before it could be told to abandon this
		return context.Canceled, nil
	}
	type result struct {
		f   Fill
		err error
	}
	results := make(chan result)
	for next, running := 0, 0; ; {
		for ; next < len(todo) && running < parallel && ctx.Err() == nil && err == nil; next++ {
			f := todo[next]
			if f.Fresh {
				if e := m.o.Filler.Clear(ctx, f); e != nil {
					failed = fmt.Errorf("keyspace %s, range %s: what is here could not be deleted: %w", f.Keyspace, f.Ranges[0], e)
					continue
				}
				m.records.Begun = with(m.records.Begun, f.Keyspace, f.Ranges)
				if e := m.save(ctx); e != nil {
					if ctx.Err() == nil { // else the plan is not the newest any more: the records are saved with the next
						err = e
					}
					break
				}
			}
			running++
			go func() { results <- result{f, m.fillOne(ctx, f)} }()
		}
		if running == 0 {
			if failed == nil && next < len(todo) {
				failed = context.Canceled
			}
			return failed, err
		}
		r := <-results
		running--
		switch {
		case r.err != nil:
			failed = fmt.Errorf("keyspace %s, range %s from %s: %w", r.f.Keyspace, r.f.Ranges[0], r.f.Source, r.err)
			p.Failed = failed.Error()
		case err == nil:
			m.records.Filled = with(m.records.Filled, r.f.Keyspace, r.f.Ranges)
			p.Done += len(r.f.Ranges)
			if e := m.save(ctx); e != nil && ctx.Err() == nil {
				err = e
			}
		}
		m.tell(p)
	}
}

func (m *Mover) fillOne(ctx context.Context, f Fill) error {
	if planted.On(planted.OneSourceIsEnough) {
		f.Compare = nil
	}
	if f.Source.IsZero() && len(f.Compare) == 0 || planted.On(planted.ServedBeforeFilled) {
		return nil
	}
	return m.o.Filler.Fill(ctx, f, func(bytes int64) { m.moved.Add(bytes) })
}

// reportFilled tells the log that the plan is filled; again when that did not come through.
func (m *Mover) reportFilled(ctx context.Context, s *meta.State) (again bool) {
	return m.propose(ctx, func(now *meta.State) *meta.Command {
		if me := now.Node(m.o.Self); now.Phase() != meta.Filling || now.Plan != s.Plan || me == nil || me.Filled == s.Plan {
			return nil
		}
		return &meta.Command{Kind: meta.ReportFilled, Node: meta.Node{ID: m.o.Self}, Plan: s.Plan}
	})
}

// compareAgain compares what this node has filled once more when every member that is alive has heard of the switch, and reports that: what a
// coordinator that had not heard read from a quorum of the old replicas, and showed, may have been acknowledged by nobody, and has to be here.
func (m *Mover) compareAgain(ctx context.Context, s *meta.State) (again bool) {
	if slices.ContainsFunc(s.Unheard(), m.o.Alive) {
		return true
	}
	todo, waits := Pending(Records{}, s, m.o.Self, m.o.Alive)
	if len(waits) > 0 {
		m.tell(Progress{Plan: s.Plan, Waits: waits[0].Error()})
		return true
	}
	for i, f := range todo {
		m.tell(Progress{Plan: s.Plan, Done: i, Total: len(todo)})
		if !f.Source.IsZero() {
			f.Compare = append([]ring.HostID{f.Source}, f.Compare...)
		}
		f.Source, f.Fresh = ring.HostID{}, false
		if err := m.fillOne(ctx, f); err != nil {
			if ctx.Err() == nil {
				m.o.Logger.Warn("ranges could not be compared once more and are tried again", "keyspace", f.Keyspace, "err", err)
			}
			return true
		}
	}
	m.tell(Progress{})
	return m.propose(ctx, func(now *meta.State) *meta.Command {
		if now.SwitchedAt != s.SwitchedAt || !slices.Contains(now.Uncompared(), m.o.Self) {
			return nil
		}
		return &meta.Command{Kind: meta.ReportFilled, Node: meta.Node{ID: m.o.Self}, Plan: s.SwitchedAt}
	})
}

// settle reports the switch when nothing of before is under way.
func (m *Mover) settle(ctx context.Context, s *meta.State) (again bool) {
	if err := m.o.Settled(ctx, s.SwitchedAt); err != nil {
		if ctx.Err() == nil {
			m.o.Logger.Warn("requests from before the switch are still under way", "err", err)
		}
		return true
	}
	if s.Node(m.o.Self).State == meta.Leaving { // now that it gets no more of them
		if err := m.o.Handover(ctx); err != nil {
			m.o.Logger.Warn("hints and batches of this node, which leaves, could not be handed over yet", "err", err)
			return true
		}
	}
	return m.propose(ctx, func(now *meta.State) *meta.Command {
		if me := now.Node(m.o.Self); now.SwitchedAt != s.SwitchedAt || me == nil || me.Switched == s.SwitchedAt {
			return nil
		}
		return &meta.Command{Kind: meta.ReportSwitched, Node: meta.Node{ID: m.o.Self}, Plan: s.SwitchedAt}
	})
}

func (m *Mover) propose(ctx context.Context, build func(*meta.State) *meta.Command) (again bool) {
	_, err := m.o.Log.Propose(ctx, func(now *meta.State) (*meta.Command, bool, error) {
		c := build(now)
		return c, c != nil, nil
	})
	if err != nil && ctx.Err() == nil {
		m.o.Logger.Debug("a report of the movement did not come through yet", "err", err)
	}
	return err != nil
}
