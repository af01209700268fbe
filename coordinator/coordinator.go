package coordinator

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/helenusdb/helenus/coordinator/batchlog"
	"github.com/helenusdb/helenus/coordinator/hints"
	"github.com/helenusdb/helenus/internal/eras"
	"github.com/helenusdb/helenus/internal/hlc"
	"github.com/helenusdb/helenus/internal/planted"
	"github.com/helenusdb/helenus/meta"
	"github.com/helenusdb/helenus/ring"
	"github.com/helenusdb/helenus/row"
	"github.com/helenusdb/helenus/rpc"
	"github.com/helenusdb/helenus/schema"
)

// Cluster is the metadata as the coordinator sees it.
type Cluster interface {
	// Current returns the newest state of this node; an atomic load.
	Current() *meta.State
	// CatchUp pulls a newer state from a member.
	CatchUp(ctx context.Context, from ring.HostID) error
	// AwaitApplied waits until the epoch is applied here.
	AwaitApplied(ctx context.Context, epoch uint64) error
}

// Transport sends requests to members; *rpc.Transport does.
type Transport interface {
	Send(to ring.HostID, class rpc.Class, verb rpc.Verb, deadline time.Time, body []byte, cb rpc.Callback)
}

// Options configure a Coordinator; they do not change after New.
type Options struct {
	Self      ring.HostID
	Cluster   Cluster
	Transport Transport
	Storage   Storage
	Hints     HintStore
	Batchlog  BatchlogStore
	// Alive says whether a member is believed to be up; it takes no lock. This node itself is always asked as alive.
	Alive func(ring.HostID) bool
	// DownSince returns when a member that is down was last seen up.
	DownSince func(ring.HostID) time.Time
	// IsUnknownTable, IsBatchFull and IsInvalid classify errors of Storage: the generation is unknown or dropped; the
	// batch must be committed first; the mutation itself is at fault, whose error text the client is told.
	IsUnknownTable, IsBatchFull, IsInvalid func(error) bool

	ReadTimeout  time.Duration // default 5 s
	RangeTimeout time.Duration // default 10 s
	WriteTimeout time.Duration // default 2 s
	CASTimeout   time.Duration // how long a conditional write begins new ballots; default 1 s
	// CounterTimeout is that of increments, which take two rounds. Default 5 s.
	CounterTimeout time.Duration
	// Shard is what this node's store counts with as a leader, until SetShard; zero: this node leads no counter.
	Shard       row.ShardID
	InFlightMax int // requests under way; default 65536. Further ones are Overloaded
	ApartMax    int // goroutines for reads that are not bounded, reconciliations and retries; default 1024

	LoggedMax        int           // logged batches over several partitions under way; default 4096. Further ones are Overloaded
	BatchlogInterval time.Duration // between two looks for batches that were left behind; default 1 s
	BatchlogThrottle int64         // bytes per second that the cluster replays; each node takes its share. 0: unlimited
	Seed             uint64        // of what is left to chance, different at each start: which nodes keep a batch, and batch ids

	HintsOff      bool
	HintWindow    time.Duration // default 3 h
	HintThrottle  int64         // bytes per second and target; 0: unlimited
	HintsBytesMax int64         // of one target; default 4 GiB

	Registers  Registers     // of conditional writes; nil: there are none
	LowBound   int64         // what RegisterBatch.SetLowBound stored last, µs since the epoch
	PaxosGrace time.Duration // registers that are older are finished or forgotten; default 1 h, at least a hundred times CASTimeout
	PaxosSweep time.Duration // how often that is looked at; default 10 min
	Boot       uint64        // differs from one start of the node to the next

	Timestamp func() int64     // µs, rising from call to call, also over restarts: ballots. Default: from Now
	Now       func() time.Time // for what is data: the age of hints, whether a ballot is ahead. Default time.Now
	Logger    *slog.Logger
}

func (o Options) withDefaults() Options {
	if o.ReadTimeout == 0 {
		o.ReadTimeout = 5 * time.Second
	}
	if o.RangeTimeout == 0 {
		o.RangeTimeout = 10 * time.Second
	}
	if o.WriteTimeout == 0 {
		o.WriteTimeout = 2 * time.Second
	}
	if o.CounterTimeout == 0 {
		o.CounterTimeout = 5 * time.Second
	}
	if o.InFlightMax == 0 {
		o.InFlightMax = 1 << 16
	}
	if o.ApartMax == 0 {
		o.ApartMax = 1024
	}
	if o.LoggedMax == 0 {
		o.LoggedMax = 4096
	}
	if o.BatchlogInterval == 0 {
		o.BatchlogInterval = time.Second
	}
	if o.HintWindow == 0 {
		o.HintWindow = 3 * time.Hour
	}
	if o.HintsBytesMax == 0 {
		o.HintsBytesMax = 4 << 30
	}
	if o.CASTimeout == 0 {
		o.CASTimeout = time.Second
	}
	if o.PaxosGrace == 0 {
		o.PaxosGrace = time.Hour
	}
	o.PaxosGrace = max(o.PaxosGrace, 100*o.CASTimeout)
	if o.PaxosSweep == 0 {
		o.PaxosSweep = 10 * time.Minute
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Timestamp == nil {
		o.Timestamp = hlc.New(o.Now, 0, func(int64) error { return nil }).Timestamp
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o
}

// Metrics are counters since the start; read them with Load.
type Metrics struct {
	SpeculativeReads, DigestMismatches, ReadRepairs atomic.Int64
	StalledReads                                    atomic.Int64 // of this node's store, that took long
	DamagedHints                                    atomic.Int64 // stored hints that could not be read to their end
	// Here and Elsewhere count requests for one partition by whether this node is one of its replicas: they tell whether
	// clients route by token.
	Here, Elsewhere atomic.Int64
	// CountersLed counts the increments that this node led, CountersForwarded those that it gave to another leader.
	CountersLed, CountersForwarded atomic.Int64

	CASMetrics
}

func (m *Metrics) routed(here bool) {
	if here {
		m.Here.Add(1)
	} else {
		m.Elsewhere.Add(1)
	}
}

// Coordinator carries out requests and answers other nodes' coordinators. It is safe for concurrent use.
type Coordinator struct {
	o         Options
	peers     peerSet
	current   atomic.Pointer[view]
	eras      eras.Eras // reads, writes and ballots that this node coordinates
	hints     *hints.Hints
	batchlog  *batchlog.Log
	batches   atomic.Uint32 // number of the last logged batch
	draws     atomic.Uint64 // random numbers so far
	inFlight  atomic.Int64
	owing     atomic.Int64 // writes of which a replica may yet need a hint
	latencies tableLatencies
	wheel     wheel
	overdue   overdue
	watch     watch
	self      *peer
	traced    tracedTransport // nil: Transport carries no traces
	pulling   atomic.Bool     // newer metadata are being pulled for the sake of what is tried again later anyway
	ahead     atomic.Int64    // bytes that the parts which scans read ahead may take
	counters  counterLanes
	shard     atomic.Pointer[row.ShardID] // never nil
	metrics   Metrics

	acceptor  acceptor
	proposals proposals
	turns     turns
	nonce     uint64        // of this start
	attempts  atomic.Uint64 // number of ballots and pauses

	writes, reads, groups, replicaGroups, localWaits sync.Pool

	apart   chan struct{} // a place for each goroutine apart
	logging chan struct{} // a place for each logged batch
	mu      sync.Mutex    // guards closing and the first Add of running; held for an instant
	closing bool
	running sync.WaitGroup // goroutines apart, and conditional writes
}

// New returns a coordinator that has started nothing.
func New(o Options) (*Coordinator, error) {
	o = o.withDefaults()
	if o.Cluster == nil || o.Transport == nil || o.Storage == nil || o.Hints == nil || o.Batchlog == nil || o.Alive == nil || o.DownSince == nil ||
		o.IsUnknownTable == nil || o.IsBatchFull == nil || o.IsInvalid == nil {
		return nil, errors.New("coordinator: Cluster, Transport, Storage, Hints, Batchlog, Alive, DownSince and the error classes are needed")
	}
	c := &Coordinator{o: o, peers: peerSet{self: o.Self, base: time.Now(), all: map[ring.HostID]*peer{}}, apart: make(chan struct{}, o.ApartMax),
		logging: make(chan struct{}, o.LoggedMax)}
	c.batches.Store(uint32(o.Seed))
	c.writes.New = func() any { return &writeOp{} }
	c.reads.New = func() any { return &readOp{} }
	c.groups.New = func() any { return &commitGroup{} }
	c.replicaGroups.New = func() any { return &replicaGroup{} }
	c.localWaits.New = func() any { return &localWait{} }
	c.wheel.init()
	c.overdue.init()
	c.watch.init()
	c.self = c.peers.of(o.Self)
	c.traced, _ = o.Transport.(tracedTransport)
	c.shard.Store(&o.Shard)
	c.counters.init(c)
	c.acceptor.init(c)
	c.proposals.init()
	c.turns.init()
	c.nonce = nonceOf(o.Self, o.Boot)
	c.hints = hints.New(hints.Options{Self: o.Self, Off: o.HintsOff, Window: o.HintWindow, Throttle: o.HintThrottle, BytesMax: o.HintsBytesMax,
		Alive: o.Alive, Gone: c.gone, DownSince: o.DownSince, Scan: o.Hints.ScanHints, NewBatch: func() hints.Batch { return hintBatch{o.Storage.NewBatch()} },
		Deliver: c.deliver, Keep: c.keepHint, Now: o.Now, Logger: o.Logger})
	c.batchlog = c.newBatchlog()
	return c, nil
}

// hintBatch is a Batch as package hints wants it.
type hintBatch struct{ Batch }

func (b hintBatch) Commit(done func(error)) { b.Batch.Commit(committedFunc(done)) }

type committedFunc func(error)

func (f committedFunc) Committed(err error) { f(err) }

// Run drives speculation, deadlines, the delivery of hints and the replay of batches until ctx ends. Then it waits, no longer than a write may
// take, for what has become of the writes under way, stores a hint for every replica that missed one, and returns when all
// goroutines have. The transport and the storage have to outlast it.
func (c *Coordinator) Run(ctx context.Context) error {
	var hinting, clocks sync.WaitGroup
	ticking, still := context.WithCancel(context.WithoutCancel(ctx))
	defer still()
	settled := make(chan struct{})
	hinting.Go(func() { c.hints.Run(ctx, settled) })
	hinting.Go(func() { c.batchlog.Run(ctx) })
	clocks.Go(func() { c.wheel.run(ticking) })
	clocks.Go(func() { c.runOverdue(ticking) })
	clocks.Go(func() { c.runWatch(ticking) })
	for i := range c.counters.lanes {
		clocks.Go(func() { c.counters.lanes[i].run(ticking) })
	}
	clocks.Go(func() { c.turns.run(ticking) })
	clocks.Go(func() { c.sweepRegisters(ctx) })
	<-ctx.Done()
	c.mu.Lock()
	c.closing = true
	c.mu.Unlock()
	c.settle()
	close(settled)
	hinting.Wait()
	c.running.Wait()
	still()
	clocks.Wait()
	return nil
}

const (
	settleTick  = 5 * time.Millisecond
	settleSlack = 500 * time.Millisecond // by which an answer, or the transport's word that there is none, may be late
)

// settle waits until every replica of every write has answered or timed out.
func (c *Coordinator) settle() {
	t := time.NewTicker(settleTick)
	defer t.Stop()
	for end := time.Now().Add(max(c.o.WriteTimeout, c.o.CounterTimeout) + settleSlack); c.owing.Load() > 0; <-t.C {
		if time.Now().After(end) {
			c.o.Logger.Warn("stopping before all replicas have answered", "writes", c.owing.Load())
			return
		}
	}
}

// Settled returns when no read, write or ballot is under way any more that this node began to coordinate under an older RingEpoch than this one,
// which its metadata have reached: every answer that a replica owes is here, or will not come. A request that was planned before and has not
// begun yet is not waited for: whatever it asks for is refused. The error is that of ctx.
func (c *Coordinator) Settled(ctx context.Context, ringEpoch uint64) error {
	return c.eras.Wait(ctx, ringEpoch)
}

// Metrics returns the counters.
func (c *Coordinator) Metrics() *Metrics { return &c.metrics }

// InFlight returns the number of requests under way.
func (c *Coordinator) InFlight() int64 { return c.inFlight.Load() }

// Hints returns the store of hints, for metrics and for events of the failure detector.
func (c *Coordinator) Hints() *hints.Hints { return c.hints }

func (c *Coordinator) live(p *peer) bool { return p.self || c.o.Alive(p.id) }

// spawn runs f on a goroutine that Run waits for; false when there are too many, or the node is stopping.
func (c *Coordinator) spawn(f func()) bool { return c.spawnIn(c.apart, f) }

// spawnIn is spawn with a bound of its own.
func (c *Coordinator) spawnIn(places chan struct{}, f func()) bool {
	select {
	case places <- struct{}{}:
	default:
		return false
	}
	if !c.join() {
		<-places
		return false
	}
	go func() {
		defer c.running.Done()
		defer func() { <-places }()
		f()
	}()
	return true
}

// join makes Run wait for what follows, until running.Done; false when the node is stopping.
func (c *Coordinator) join() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closing {
		c.running.Add(1)
	}
	return !c.closing
}

// newerThan gets metadata newer than an epoch, from a member that is known to have it (zero: it is about to be applied
// here), and tells whether it is there.
func (c *Coordinator) newerThan(epoch uint64, from ring.HostID, deadline time.Time) bool {
	if c.o.Cluster.Current().Epoch > epoch {
		return true
	}
	ctx, cancel := context.WithDeadline(context.Background(), deadline)
	defer cancel()
	if from != (ring.HostID{}) {
		if err := c.o.Cluster.CatchUp(ctx, from); err != nil {
			c.o.Logger.Debug("metadata catch-up failed", "from", from.String(), "err", err)
		}
	}
	return c.o.Cluster.AwaitApplied(ctx, epoch+1) == nil
}

// deliver sends a hint; done is called exactly once. It goes to its target as long as that one, and no other in its
// place, is to have the data.
func (c *Coordinator) deliver(to ring.HostID, body []byte, timeout time.Duration, done func(hints.Outcome)) {
	if planted.On(planted.HintRestamped) {
		body = restamp(body, c.o.Now().UnixMicro())
	}
	v := c.view()
	if c.gone(to) || v.moves(c.peers.of(to), body) {
		c.deliverElsewhere(v, to, body, timeout, done)
		return
	}
	planned := append(v.appendPlanned(make([]byte, 0, plannedBytes+len(body))), body...)
	c.o.Transport.Send(to, rpc.Data, VerbMutate, time.Now().Add(timeout), planned, &hintAck{c, v, to, done})
}

// gone tells whether a member has left the cluster for good.
func (c *Coordinator) gone(id ring.HostID) bool {
	s := c.o.Cluster.Current()
	n := s.Node(id)
	return s.Founded() && (n == nil || n.State == meta.Left)
}

// moves tells whether a replica is not the natural one of all that the hint holds, or others are becoming replicas: they
// must have it too, for what they are sent by those that own it now may be without it.
func (v *view) moves(p *peer, body []byte) bool {
	var buf [2 * replicasInline]*peer
	for src := body; len(src) > 0; {
		m, rest, err := row.DecodeMutation(src)
		if err != nil {
			return false
		}
		if t := v.table(m.Generation); t != nil {
			all, natural := t.replicas(buf[:0], m.Token)
			if len(all) > natural || !slices.Contains(all, p) {
				return true
			}
		}
		src = rest
	}
	return false
}

// departed tells that a member is dead and being removed or replaced.
func (v *view) departed(id ring.HostID) bool {
	o := v.state.OperationOn(id)
	return o != nil && (o.Kind == meta.Remove || o.Kind == meta.Replace && o.Node != id)
}

// hintAck is the callback of a hint's delivery.
type hintAck struct {
	c    *Coordinator
	v    *view
	to   ring.HostID
	done func(hints.Outcome)
}

// Done implements rpc.Callback.
func (h *hintAck) Done(r *rpc.Response) {
	switch {
	case r.Err == nil && r.Status == rpc.StatusOK:
		h.done(hints.Delivered)
		return
	case r.Err == nil && r.Status == rpc.StatusBadRequest:
		h.done(hints.Useless)
		return
	case r.Err == nil && statusOutcome(r, h.v.state.Epoch) == outcomeStale:
		h.c.pull(h.v, h.to)
	}
	// Whether its table was dropped is decided by the metadata of this node, before the next attempt.
	h.done(hints.Again)
}

// pull has newer metadata than the view's brought from a member, if nobody is at it yet. It does not wait.
func (c *Coordinator) pull(v *view, from ring.HostID) {
	if c.o.Cluster.Current().Epoch > v.state.Epoch || !c.pulling.CompareAndSwap(false, true) {
		return
	}
	if !c.spawn(func() {
		defer c.pulling.Store(false)
		c.newerThan(v.state.Epoch, from, time.Now().Add(c.o.WriteTimeout))
	}) {
		c.pulling.Store(false)
	}
}

// deliverElsewhere writes a hint to all that own its data now. It is kept until each of them has acknowledged that is live: the others have
// hints of their own, or none. When the target has left nobody else sees to it that its heirs get the data: then those are waited for that are
// down, but not those that will never be back.
func (c *Coordinator) deliverElsewhere(v *view, to ring.HostID, body []byte, timeout time.Duration, done func(hints.Outcome)) {
	gone := c.gone(to)
	w := &Write{Level: All, Type: Simple, Timeout: timeout, unhinted: true, among: func(p *peer) bool { return c.live(p) || gone && !v.departed(p.id) }}
	for src := body; len(src) > 0; {
		m, rest, err := row.DecodeMutation(src)
		if err != nil {
			done(hints.Useless)
			return
		}
		w.Mutations = append(w.Mutations, m)
		src = rest
	}
	w.Done = writeDoneFunc(func(_ *Write, err error) {
		if err != nil {
			done(hints.Again)
			return
		}
		done(hints.Delivered)
	})
	b := c.NewBurst()
	b.Write(w)
	b.Close()
}

// keepHint returns the part of a hint that may still be delivered, nil for none: it can be read, its table exists, and it is
// younger than the table's gc_grace, after which a deletion that it would run into may be gone.
func (c *Coordinator) keepHint(body []byte, age time.Duration) []byte {
	v := c.view()
	if !v.state.Founded() {
		return body // nothing is known of tables yet
	}
	var kept []byte
	for src := body; len(src) > 0; {
		m, rest, err := row.DecodeMutation(src)
		if err == nil {
			err = row.ValidateFragment(m.Fragment) // a replica would refuse it for ever
		}
		if err != nil {
			c.metrics.DamagedHints.Add(1)
			c.o.Logger.Error("a stored hint is damaged: what of it can be read is delivered", "bytes", len(body), "readable", len(kept), "err", err)
			return kept
		}
		if t := v.table(m.Generation); t != nil && (planted.On(planted.HintPastWindow) || age < time.Duration(t.table.Options.GCGraceSeconds)*time.Second) {
			kept = append(kept, src[:len(src)-len(rest)]...)
		}
		src = rest
	}
	return kept
}

// speculateAfter returns after how long a further replica is asked; false: never.
func speculateAfter(t *tablePlan) (time.Duration, bool) {
	r := &t.retry
	switch r.Kind {
	case schema.RetryAlways:
		return 0, true
	case schema.RetryFixed:
		return r.Delay, true
	case schema.RetryPercentile:
		return t.latencies.percentile(r.Percentile), true
	case schema.RetryMin:
		return min(t.latencies.percentile(r.Percentile), r.Delay), true
	case schema.RetryMax:
		return max(t.latencies.percentile(r.Percentile), r.Delay), true
	}
	return 0, false
}
