package raftlog

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.etcd.io/raft/v3"
	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/helenusdb/helenus/meta"
	"github.com/helenusdb/helenus/ring"
	"github.com/helenusdb/helenus/rpc"
)

// Limits of the service.
const (
	inboxMax         = 1024     // Raft messages waiting; further ones are dropped, Raft sends them again
	inboxBytesMax    = 64 << 20 // of them
	proposalsMax     = 256      // proposals waiting for the loop; further ones are refused as overloaded
	proposalBytesMax = 64 << 20 // of those waiting, and of those that are not committed yet
	pendingMax       = 4096     // proposals in the log whose proposers wait
	waitersMax       = 4096     // callers waiting for an epoch
	commandMax       = 8 << 20  // bytes of one command; a frame of rpc holds 16 MiB
	compactEvery     = 1024     // entries between snapshots of the state
	compactBytes     = 32 << 20 // bytes of entries between snapshots, when that comes first
	trailingEntries  = 256      // kept in memory before the snapshot for followers that lag a little
	messageBytes     = 1 << 20  // of entries in one Raft message
	inflightMax      = 64       // Raft messages to one follower without an answer
	inflightBytesMax = 16 << 20
)

// ErrNoQuorum is returned when the log could not accept a change in time: too few voters can be reached. The change
// may still take effect when they come back.
var ErrNoQuorum = errors.New("the cluster's metadata cannot be changed: a majority of its voters cannot be reached; reads and writes of data go on")

// ErrStopped is returned when the service has ended.
var ErrStopped = errors.New("raftlog: the node is stopping")

// Peers sends messages to members; *rpc.Transport does.
type Peers interface {
	Send(to ring.HostID, class rpc.Class, verb rpc.Verb, deadline time.Time, body []byte, cb rpc.Callback)
	Call(ctx context.Context, to ring.HostID, class rpc.Class, verb rpc.Verb, body []byte) ([]byte, rpc.Status, error)
}

// Options configure a Service; they do not change after New.
type Options struct {
	Dir   string // folder of the log's own store
	FS    vfs.FS // nil: the disk
	Self  ring.HostID
	Peers Peers
	// Alive says whether a member can be reached, as far as is known; nil: all are. Members that are not become no voters.
	Alive func(ring.HostID) bool
	// Generation is this start of the node in seconds since the epoch, higher than that of every earlier start.
	Generation int64
	// Rand returns a number in [0, n); the loop alone calls it. Needed: elections are timed by it.
	Rand func(n int) int
	// OnApply is called in order for every new state, by the loop: it must not block. nil: not called.
	OnApply func(before, after *meta.State, events []meta.Event)
	// Fatal ends the process after a failed sync; needed.
	Fatal func(error)

	Tick           time.Duration // default 100 ms; the leader's heartbeat
	ElectionTicks  int           // default 10: a follower campaigns after 11 to 20 ticks of silence
	ProposeTimeout time.Duration // longest wait of a Propose whose context has no deadline; default 10 s
	AwaitTimeout   time.Duration // longest wait of AwaitAll for one member; default 5 s
	// ReplaceVoterAfter is how long a voter is silent before the leader lets another member vote in its place, when there is
	// one; default 10 min.
	ReplaceVoterAfter time.Duration
	// AbsentMax is how long a node that is being sent its rows, or takes the place of another, may be down before the leader aborts its
	// operation, which holds up all others; default 1 h. Its data folder is of no use then.
	AbsentMax time.Duration
	// AutoRemove removes members that stay down. Zero: nobody is removed by itself.
	AutoRemove AutoRemove
	// JoinMax is how long a node may be joining before the leader takes its announcement back; default 40 s. User tables
	// take no writes meanwhile, so it is longer than a member works on a join and not much longer.
	JoinMax time.Duration
	Logger  *slog.Logger // nil: discard
}

func (o Options) withDefaults() Options {
	if o.FS == nil {
		o.FS = vfs.Default
	}
	if o.Alive == nil {
		o.Alive = func(ring.HostID) bool { return true }
	}
	if o.OnApply == nil {
		o.OnApply = func(_, _ *meta.State, _ []meta.Event) {}
	}
	if o.Tick == 0 {
		o.Tick = 100 * time.Millisecond
	}
	if o.ElectionTicks == 0 {
		o.ElectionTicks = 10
	}
	if o.ProposeTimeout == 0 {
		o.ProposeTimeout = 10 * time.Second
	}
	if o.AwaitTimeout == 0 {
		o.AwaitTimeout = 5 * time.Second
	}
	if o.ReplaceVoterAfter == 0 {
		o.ReplaceVoterAfter = 10 * time.Minute
	}
	if o.AbsentMax == 0 {
		o.AbsentMax = time.Hour
	}
	if o.JoinMax == 0 {
		o.JoinMax = 40 * time.Second
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o
}

// Service is this node's copy of the log. Methods are safe for concurrent use after Open.
type Service struct {
	opts    Options
	id      uint64
	current atomic.Pointer[meta.State] // newest of the log's and the pulled state
	encoded atomic.Pointer[encodedState]
	leader  atomic.Uint64 // raft id of the leader as far as known, 0: none
	pledged atomic.Pointer[[16]byte]
	suspect atomic.Bool // health is not Sound
	short   atomic.Bool // the store has lost its end and is not whole again
	nextID  atomic.Uint32

	inbox         chan message
	inboxBytes    atomic.Int64
	proposals     chan proposal
	proposalBytes atomic.Int64
	tasks         chan task
	stopped       chan struct{} // closed when the loop has ended

	mu      sync.Mutex // guards waiters, running and ended; never held across I/O or callbacks
	waiters []waiter
	running bool
	ended   bool

	// Owned by Open, then by Run's goroutine.
	store     *store
	rn        *raft.RawNode
	log       *meta.State // state at the applied index
	applied   uint64
	compacted uint64
	every     uint64 // compactEvery; tests make it smaller
	grown     int    // bytes of entries applied since the last snapshot
	pending   []pendingProposal
	role      raft.StateType
	health    meta.Health // of this node's copy of the log as it sees it itself, see heal.go
	election  elections
	chores    chores
	changing  bool // ApplyConfChange runs: membership and applied index do not belong together
}

// message is one of Raft's and its size in bytes.
type message struct {
	*pb.Message
	size int
}

// proposal is an encoded command on its way into the log; done is called at most once, and always unless the service
// has ended before it was taken.
type proposal struct {
	command []byte
	done    func(outcome)
}

// pendingProposal is a command in the log that is not applied yet.
type pendingProposal struct {
	id   [16]byte
	done []func(outcome)
}

// outcome is what became of a proposal.
type outcome struct {
	code  outcomeCode
	epoch uint64 // of the state after it, or that refused it
	text  string
}

type outcomeCode uint8

const (
	accepted outcomeCode = iota + 1
	conflicted
	refusedOutcome
	unsure // not proposed, or it cannot be told yet whether it takes effect
)

// task is something that the loop does for a caller, who is told the error once.
type task struct {
	do   func() error
	done chan<- error // capacity 1
}

// encodedState keeps the bytes of the newest state for members that pull it.
type encodedState struct {
	state *meta.State
	bytes []byte
}

// New returns a service that has done nothing yet.
func New(opts Options) (*Service, error) {
	opts = opts.withDefaults()
	if opts.Self.IsZero() || opts.Rand == nil || opts.Peers == nil || opts.Fatal == nil {
		return nil, errors.New("raftlog: Self, Peers, Rand and Fatal are needed")
	}
	s := &Service{opts: opts, id: raftID(opts.Self), every: compactEvery, inbox: make(chan message, inboxMax), proposals: make(chan proposal, proposalsMax),
		tasks: make(chan task), stopped: make(chan struct{})}
	s.current.Store(meta.Empty())
	s.pledged.Store(&[16]byte{})
	return s, nil
}

// Open opens the store and replays the log: afterwards Current is what this node knew when it stopped, with or without
// a quorum. OnApply is not called for what is replayed. Close or the end of Run closes the store.
func (s *Service) Open() error {
	st, l, err := openStore(s.opts.Dir, s.opts.FS, s.id, s.opts.Logger, s.opts.Fatal)
	if err != nil {
		return err
	}
	s.store, s.log, s.applied, s.compacted = st, l.state, l.applied, l.applied
	s.pledged.Store(&l.pledged)
	if s.short.Store(st.suspect); st.suspect {
		s.distrust()
	}
	err = s.guard(func() error {
		if err := understood(l.state); err != nil {
			return err
		}
		if err := s.startRaft(); err != nil {
			return err
		}
		return s.replay()
	})
	if err == nil && l.pulled != nil && l.pulled.Epoch > s.log.Epoch {
		s.current.Store(l.pulled)
		err = understood(l.pulled)
	}
	if err != nil {
		s.store = nil
		return errors.Join(fmt.Errorf("raftlog: open %s: %w", s.opts.Dir, err), st.close())
	}
	return nil
}

func (s *Service) startRaft() error {
	rn, err := raft.NewRawNode(&raft.Config{ID: s.id, ElectionTick: s.opts.ElectionTicks, HeartbeatTick: 1, Storage: liveLog{s.store.mem, s},
		Applied: s.applied, MaxSizePerMsg: messageBytes, MaxInflightMsgs: inflightMax, MaxInflightBytes: inflightBytesMax,
		MaxUncommittedEntriesSize: proposalBytesMax, CheckQuorum: true, PreVote: true, StepDownOnRemoval: true,
		Logger: raftLogger{s.opts.Logger}, DisableProposalForwarding: true})
	if err != nil {
		return err
	}
	s.rn = rn
	s.election.reset(s.opts)
	return nil
}

// replay applies the entries that were committed before the last stop.
func (s *Service) replay() error {
	for s.rn.HasReady() {
		rd := s.rn.Ready()
		if err := s.applyAll(rd.CommittedEntries); err != nil {
			return err
		}
		s.rn.Advance(rd)
	}
	s.current.Store(s.log)
	return nil
}

// Close closes the store of a service that was opened and whose Run was never called; otherwise it does nothing.
func (s *Service) Close() error {
	if s.store == nil || !s.begin() {
		return nil
	}
	return s.end()
}

// begin claims the store for the caller, who ends with end; false when somebody has it or had it.
func (s *Service) begin() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running || s.ended {
		return false
	}
	s.running = true
	return true
}

// end answers everybody who waits and closes the store.
func (s *Service) end() error {
	s.mu.Lock()
	s.ended = true
	s.mu.Unlock()
	close(s.stopped)
	s.giveUp("the node is stopping")
	for range len(s.proposals) {
		(<-s.proposals).done(outcome{code: unsure, text: "the node is stopping"})
	}
	s.expire(time.Time{})
	return s.store.close()
}

// Current returns the newest state this node has. It never waits and is never nil.
func (s *Service) Current() *meta.State { return s.current.Load() }

// Leader returns the host id of the leader as far as this node knows, false when there is none.
func (s *Service) Leader() (ring.HostID, bool) { return s.hostOf(s.leader.Load()) }

func (s *Service) hostOf(id uint64) (ring.HostID, bool) {
	switch id {
	case 0:
		return ring.HostID{}, false
	case s.id:
		return s.opts.Self, true
	}
	nodes := s.Current().Nodes
	for i := range nodes {
		if raftID(nodes[i].ID) == id {
			return nodes[i].ID, true
		}
	}
	return ring.HostID{}, false
}

// Found begins a new cluster with this node as its only voter. It must be called between Open and Run, on a store that
// has never been part of a cluster.
func (s *Service) Found(c *meta.Command) error {
	if s.suspect.Load() {
		return errors.New("raftlog: the end of the metadata log is missing: this node may belong to a cluster already")
	}
	if s.applied != 0 || s.Current().Founded() || s.Pledged() != [16]byte{} {
		return errors.New("raftlog: this node belongs to a cluster already")
	}
	state, err := meta.Empty().Apply(c)
	if err != nil {
		return err
	}
	if err := s.store.found(s.id, state); err != nil {
		s.opts.Fatal(err)
		return fmt.Errorf("raftlog: found: %w", err)
	}
	s.log, s.applied, s.compacted = state, 1, 1
	s.current.Store(state)
	return s.startRaft()
}

// Run drives the log until ctx ends, then closes the store. It returns an error when the log cannot go on: an entry
// that this build does not understand, or damage.
func (s *Service) Run(ctx context.Context) error {
	if s.store == nil || !s.begin() {
		return errors.New("raftlog: run of a service that is not open")
	}
	err := s.guard(func() error { return s.loop(ctx) })
	if err != nil {
		err = fmt.Errorf("raftlog: %w", err)
	}
	return errors.Join(err, s.end())
}

func (s *Service) loop(ctx context.Context) error {
	tick := time.NewTicker(s.opts.Tick)
	defer tick.Stop()
	if voters := s.store.conf.GetVoters(); len(voters) == 1 && voters[0] == s.id && s.health == meta.Sound { // nobody else is to be asked
		if err := s.rn.Campaign(); err != nil {
			return err
		}
	}
	for {
		if err := s.ready(); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			if err := s.tick(); err != nil {
				return err
			}
		case m := <-s.inbox:
			s.step(m)
			for range len(s.inbox) { // what has arrived meanwhile shares one sync
				s.step(<-s.inbox)
			}
		case p := <-s.proposals:
			s.take(p)
			for range len(s.proposals) {
				s.take(<-s.proposals)
			}
		case t := <-s.tasks:
			t.done <- t.do()
		}
	}
}

// inLoop has the loop do something and returns its error.
func (s *Service) inLoop(ctx context.Context, do func() error) error {
	done := make(chan error, 1)
	select {
	case s.tasks <- task{do, done}:
	case <-ctx.Done():
		return ctx.Err()
	case <-s.stopped:
		return ErrStopped
	}
	select {
	case err := <-done:
		return err
	case <-s.stopped:
		return ErrStopped
	}
}

// Pledge makes it durable that this node has asked to join a cluster, before it does: from then on it founds none.
func (s *Service) Pledge(ctx context.Context, cluster [16]byte) error {
	return s.inLoop(ctx, func() error {
		if s.Pledged() == cluster {
			return nil
		}
		if err := s.store.keep(keyPledge, cluster[:]); err != nil {
			s.opts.Fatal(err)
			return fmt.Errorf("raftlog: pledge: %w", err)
		}
		s.pledged.Store(&cluster)
		return nil
	})
}

// Pledged returns the cluster that this node belongs to or has ever asked to join; zero: none.
func (s *Service) Pledged() [16]byte {
	if now := s.Current(); now.Founded() {
		return now.ClusterID
	}
	return *s.pledged.Load()
}
