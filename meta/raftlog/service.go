package raftlog

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.etcd.io/raft/v3"
	pb "go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/helenusdb/helenus/meta"
	"github.com/helenusdb/helenus/ring"
	"github.com/helenusdb/helenus/rpc"
)

// Limits of the service.
const (
	inboxMax      = 1024    // Raft messages waiting; further ones are dropped, Raft sends them again
	proposalsMax  = 256     // proposals waiting for the loop; further ones are refused as overloaded
	waitersMax    = 4096    // callers waiting for an epoch or for their proposal
	commandMax    = 8 << 20 // bytes of one command; a frame of rpc holds 16 MiB
	compactEvery  = 1024    // entries between snapshots of the state
	messageBytes  = 1 << 20 // of entries in one Raft message
	inflightMax   = 64      // Raft messages to one follower without an answer
	proposalIDLen = 16
)

// ErrNoQuorum is returned when the log could not accept a change in time: too few voters can be reached. The change
// may still take effect when they come back.
var ErrNoQuorum = errors.New("the cluster's metadata cannot be changed: a majority of its voters cannot be reached; reads and writes of data go on")

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
	// Alive says whether a member can be reached, as far as is known; nil: all are.
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
	ElectionTicks  int           // default 10: a follower campaigns after 10 to 20 ticks of silence
	ProposeTimeout time.Duration // longest wait of a Propose whose context has no deadline; default 10 s
	AwaitTimeout   time.Duration // longest wait of AwaitAll for one member; default 5 s
	Logger         *slog.Logger  // nil: discard
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
	leader  atomic.Uint64              // raft id of the leader as far as known, 0: none

	inbox     chan *pb.Message
	proposals chan proposal
	pulled    chan pulledState
	stopped   chan struct{} // closed when Run returns

	mu      sync.Mutex // guards waiters; never held across I/O or callbacks
	waiters []waiter

	// Owned by Open, then by Run's goroutine.
	store     *store
	rn        *raft.RawNode
	log       *meta.State // state at the applied index
	applied   uint64
	compacted uint64
	nextID    uint64
	pending   map[[proposalIDLen]byte]func(outcome)
	election  elections
}

// proposal is a command on its way into the log; done is called exactly once, or never when the service stops first.
type proposal struct {
	command []byte
	done    func(outcome)
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
	notLeader // nothing was proposed
)

// waiter is called when the local epoch reaches its own, or with false when its deadline has passed.
type waiter struct {
	epoch    uint64
	deadline time.Time
	done     func(reached bool)
}

type pulledState struct {
	encoded []byte
	state   *meta.State
}

// New returns a service that has done nothing yet.
func New(opts Options) (*Service, error) {
	opts = opts.withDefaults()
	if opts.Self.IsZero() || opts.Rand == nil || opts.Peers == nil || opts.Fatal == nil {
		return nil, errors.New("raftlog: Self, Peers, Rand and Fatal are needed")
	}
	s := &Service{opts: opts, id: raftID(opts.Self),
		inbox: make(chan *pb.Message, inboxMax), proposals: make(chan proposal, proposalsMax), pulled: make(chan pulledState, 1),
		stopped: make(chan struct{}), pending: map[[proposalIDLen]byte]func(outcome){}}
	s.current.Store(meta.Empty())
	return s, nil
}

// Open opens the store and replays the log: afterwards Current is what this node knew when it stopped, with or without
// a quorum. OnApply is not called for what is replayed.
func (s *Service) Open() error {
	st, l, err := openStore(s.opts.Dir, s.opts.FS, s.id, s.opts.Logger, s.opts.Fatal)
	if err != nil {
		return err
	}
	s.store, s.log, s.applied, s.compacted = st, l.state, l.applied, l.applied
	s.current.Store(l.state)
	if err := s.startRaft(); err != nil {
		return errors.Join(err, st.close())
	}
	if err := s.replay(); err != nil {
		return errors.Join(err, st.close())
	}
	if l.pulled != nil && l.pulled.Epoch > s.log.Epoch {
		s.current.Store(l.pulled)
	}
	return nil
}

func (s *Service) startRaft() error {
	rn, err := raft.NewRawNode(&raft.Config{ID: s.id, ElectionTick: s.opts.ElectionTicks, HeartbeatTick: 1, Storage: liveLog{s.store.mem, s},
		Applied: s.applied, MaxSizePerMsg: messageBytes, MaxInflightMsgs: inflightMax, CheckQuorum: true, PreVote: true,
		Logger: raftLogger{s.opts.Logger}, DisableProposalForwarding: true})
	if err != nil {
		return fmt.Errorf("raftlog: %w", err)
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

// Current returns the newest state this node has. It never waits and is never nil.
func (s *Service) Current() *meta.State { return s.current.Load() }

// Leader returns the host id of the leader as far as this node knows, false when there is none.
func (s *Service) Leader() (ring.HostID, bool) { return s.hostOf(s.leader.Load()) }

func (s *Service) hostOf(id uint64) (ring.HostID, bool) {
	if id == 0 {
		return ring.HostID{}, false
	}
	if id == s.id {
		return s.opts.Self, true
	}
	for _, n := range s.Current().Nodes {
		if raftID(n.ID) == id {
			return n.ID, true
		}
	}
	return ring.HostID{}, false
}

// Found begins a new cluster with this node as its only voter. It must be called between Open and Run, on a store that
// has never been part of a cluster.
func (s *Service) Found(c *meta.Command) error {
	if s.applied != 0 || s.Current().Founded() {
		return errors.New("raftlog: this node belongs to a cluster already")
	}
	state, err := meta.Empty().Apply(c)
	if err != nil {
		return err
	}
	if err := s.store.found(s.id, state); err != nil {
		return fmt.Errorf("raftlog: found: %w", err)
	}
	s.log, s.applied, s.compacted = state, 1, 1
	s.current.Store(state)
	return s.startRaft()
}

// Run drives the log until ctx ends, then closes the store.
func (s *Service) Run(ctx context.Context) error {
	defer close(s.stopped)
	tick := time.NewTicker(s.opts.Tick)
	defer tick.Stop()
	if voters := s.store.conf.GetVoters(); len(voters) == 1 && voters[0] == s.id {
		if err := s.rn.Campaign(); err != nil {
			return fmt.Errorf("raftlog: %w", err)
		}
	}
	var err error
	for err == nil {
		err = s.ready()
		if err != nil {
			break
		}
		select {
		case <-ctx.Done():
			s.expire(time.Time{})
			return s.store.close()
		case <-tick.C:
			s.tick()
		case m := <-s.inbox:
			s.step(m)
			for range len(s.inbox) { // what has arrived meanwhile shares one sync
				s.step(<-s.inbox)
			}
		case p := <-s.proposals:
			s.propose(p)
			for range len(s.proposals) {
				s.propose(<-s.proposals)
			}
		case p := <-s.pulled:
			err = s.adopt(p)
		}
	}
	s.expire(time.Time{})
	return errors.Join(fmt.Errorf("raftlog: %w", err), s.store.close())
}

func (s *Service) tick() {
	now := time.Now()
	s.expire(now)
	status := s.rn.BasicStatus()
	if status.RaftState == raft.StateLeader {
		s.rn.Tick()
		s.lead()
		return
	}
	s.rn.TickQuiesced() //nolint:staticcheck // elections are timed by s.election, see the package comment
	if s.election.due(s.opts) && s.votes() {
		if err := s.rn.Campaign(); err != nil {
			s.opts.Logger.Debug("raft campaign", "err", err)
		}
	}
}

func (s *Service) votes() bool {
	for _, v := range s.store.conf.GetVoters() {
		if v == s.id {
			return true
		}
	}
	return false
}

// lead does what only the leader does: keep Raft's membership equal to the state's, and choose voters.
func (s *Service) lead() {
	status := s.rn.BasicStatus()
	if s.applied < status.HardState.GetCommit() {
		return
	}
	if cc := confChange(s.log, s.store.conf); cc != nil {
		if err := s.rn.ProposeConfChange(cc); err != nil {
			s.opts.Logger.Debug("raft membership", "err", err)
		}
		return
	}
	want := chooseVoters(s.log, s.opts.Alive)
	if len(want) == 0 || equalIDs(want, s.log.Voters()) {
		return
	}
	c := meta.Command{Kind: meta.SetVoters, Voters: want, BaseEpoch: s.log.Epoch}
	s.propose(proposal{c.Append(nil), func(outcome) {}})
}

func equalIDs(a, b []ring.HostID) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

func (s *Service) step(m *pb.Message) {
	switch m.GetType() {
	case pb.MsgApp, pb.MsgHeartbeat, pb.MsgSnap:
		if m.GetTerm() >= s.rn.BasicStatus().HardState.GetTerm() {
			s.election.reset(s.opts)
		}
	}
	if err := s.rn.Step(m); err != nil && !errors.Is(err, raft.ErrStepPeerNotFound) {
		s.opts.Logger.Debug("raft message", "type", m.GetType().String(), "err", err)
	}
}

func (s *Service) propose(p proposal) {
	if s.rn.BasicStatus().RaftState != raft.StateLeader {
		p.done(outcome{code: notLeader})
		return
	}
	s.nextID++
	var id [proposalIDLen]byte
	binary.BigEndian.PutUint64(id[:8], uint64(s.opts.Generation))
	binary.BigEndian.PutUint64(id[8:], s.id^s.nextID<<32)
	if len(s.pending) >= waitersMax {
		p.done(outcome{code: notLeader, text: "too many proposals are waiting"})
		return
	}
	if err := s.rn.Propose(append(id[:], p.command...)); err != nil {
		p.done(outcome{code: notLeader, text: err.Error()})
		return
	}
	s.pending[id] = p.done
}

// ready handles everything the Raft state machine wants done: durable first, then messages, then the state.
func (s *Service) ready() error {
	for s.rn.HasReady() {
		rd := s.rn.Ready()
		if err := s.store.save(rd.HardState, rd.Entries, rd.Snapshot); err != nil {
			s.opts.Fatal(err)
			return err
		}
		if rd.SoftState != nil {
			s.leadership(rd.SoftState)
		}
		s.send(rd.Messages)
		if !raft.IsEmptySnap(rd.Snapshot) {
			if err := s.install(rd.Snapshot); err != nil {
				return err
			}
		}
		if err := s.applyAll(rd.CommittedEntries); err != nil {
			return err
		}
		s.rn.Advance(rd)
		s.publish(s.log)
		if err := s.compactIfLong(); err != nil {
			return err
		}
	}
	return nil
}

func (s *Service) leadership(soft *raft.SoftState) {
	if before := s.leader.Swap(soft.Lead); before != soft.Lead {
		host, _ := s.hostOf(soft.Lead)
		s.opts.Logger.Info("metadata leader changed", "leader", host.String(), "known", soft.Lead != 0)
	}
	if soft.RaftState != raft.StateLeader {
		for id, done := range s.pending { // they may still commit under another leader: the proposer asks the log
			delete(s.pending, id)
			done(outcome{code: notLeader, text: "the leader stepped down; the change may still take effect"})
		}
	}
}

func (s *Service) install(snap *pb.Snapshot) error {
	state, err := meta.DecodeState(snap.GetData())
	if err != nil {
		return fmt.Errorf("snapshot: %w", err)
	}
	s.log, s.applied = state, snap.GetMetadata().GetIndex()
	s.compacted = s.applied
	return nil
}

func (s *Service) applyAll(entries []*pb.Entry) error {
	for _, e := range entries {
		if e.GetIndex() <= s.applied {
			continue
		}
		if err := s.apply(e); err != nil {
			return fmt.Errorf("entry %d: %w", e.GetIndex(), err)
		}
		s.applied = e.GetIndex()
	}
	return nil
}

func (s *Service) apply(e *pb.Entry) error {
	switch e.GetType() {
	case pb.EntryConfChangeV2:
		cc := &pb.ConfChangeV2{}
		if err := proto.Unmarshal(e.GetData(), cc); err != nil {
			return err
		}
		s.store.conf = s.rn.ApplyConfChange(cc)
		return nil
	case pb.EntryConfChange:
		cc := &pb.ConfChange{}
		if err := proto.Unmarshal(e.GetData(), cc); err != nil {
			return err
		}
		s.store.conf = s.rn.ApplyConfChange(cc)
		return nil
	}
	if len(e.GetData()) < proposalIDLen {
		return nil // a new leader's empty entry
	}
	var id [proposalIDLen]byte
	copy(id[:], e.GetData())
	out, err := s.applyCommand(e.GetData()[proposalIDLen:])
	if err != nil {
		return err
	}
	if done, ok := s.pending[id]; ok {
		delete(s.pending, id)
		done(out)
	}
	return nil
}

// applyCommand changes s.log. An error means that this build does not understand the log, and must stop.
func (s *Service) applyCommand(raw []byte) (outcome, error) {
	c, err := meta.DecodeCommand(raw)
	if err != nil {
		return outcome{}, err
	}
	next, err := s.log.Apply(c)
	switch {
	case errors.Is(err, meta.ErrConflict):
		return outcome{code: conflicted, epoch: s.log.Epoch}, nil
	case err != nil:
		return outcome{code: refusedOutcome, epoch: s.log.Epoch, text: err.Error()}, nil
	}
	s.log = next
	return outcome{code: accepted, epoch: next.Epoch}, nil
}

// publish makes state current unless a newer one is.
func (s *Service) publish(state *meta.State) {
	before := s.current.Load()
	if state.Epoch <= before.Epoch {
		return
	}
	s.current.Store(state)
	s.opts.OnApply(before, state, meta.Diff(before, state))
	s.wake(state.Epoch)
}

func (s *Service) compactIfLong() error {
	if s.applied < s.compacted+compactEvery {
		return nil
	}
	if err := s.store.compact(s.applied, s.log); err != nil {
		return fmt.Errorf("compact: %w", err)
	}
	s.compacted = s.applied
	return nil
}

// adopt takes a state that another member had committed.
func (s *Service) adopt(p pulledState) error {
	now := s.current.Load()
	if p.state.Epoch <= now.Epoch || now.Founded() && p.state.ClusterID != now.ClusterID {
		return nil
	}
	if err := s.store.keepPulled(p.encoded); err != nil {
		s.opts.Fatal(err)
		return err
	}
	s.publish(p.state)
	return nil
}

func (s *Service) send(messages []*pb.Message) {
	for _, m := range messages {
		to, ok := s.hostOf(m.GetTo())
		if !ok {
			continue
		}
		raw, err := proto.Marshal(m)
		if err != nil || len(raw) > rpc.BodyMax {
			s.opts.Logger.Error("raft message cannot be sent", "type", m.GetType().String(), "bytes", len(raw), "err", err)
			continue
		}
		s.opts.Peers.Send(to, rpc.Urgent, VerbRaft, time.Now().Add(time.Duration(s.opts.ElectionTicks)*s.opts.Tick), raw, nil)
		if m.GetType() == pb.MsgSnap {
			s.rn.ReportSnapshot(m.GetTo(), raft.SnapshotFinish)
		}
	}
}

// elections counts ticks of silence of the leader.
type elections struct{ left int }

func (e *elections) reset(o Options) { e.left = o.ElectionTicks + o.Rand(o.ElectionTicks) }

// due counts one tick and tells whether it is time to campaign.
func (e *elections) due(o Options) bool {
	if e.left--; e.left > 0 {
		return false
	}
	e.reset(o)
	return true
}

type raftLogger struct{ log *slog.Logger }

func (l raftLogger) Debug(v ...any)              { l.log.Debug("raft", "msg", fmt.Sprint(v...)) }
func (l raftLogger) Debugf(f string, v ...any)   { l.log.Debug("raft", "msg", fmt.Sprintf(f, v...)) }
func (l raftLogger) Info(v ...any)               { l.log.Debug("raft", "msg", fmt.Sprint(v...)) }
func (l raftLogger) Infof(f string, v ...any)    { l.log.Debug("raft", "msg", fmt.Sprintf(f, v...)) }
func (l raftLogger) Warning(v ...any)            { l.log.Warn("raft", "msg", fmt.Sprint(v...)) }
func (l raftLogger) Warningf(f string, v ...any) { l.log.Warn("raft", "msg", fmt.Sprintf(f, v...)) }
func (l raftLogger) Error(v ...any)              { l.log.Error("raft", "msg", fmt.Sprint(v...)) }
func (l raftLogger) Errorf(f string, v ...any)   { l.log.Error("raft", "msg", fmt.Sprintf(f, v...)) }
func (l raftLogger) Fatal(v ...any)              { l.Panic(v...) }
func (l raftLogger) Fatalf(f string, v ...any)   { l.Panicf(f, v...) }
func (l raftLogger) Panic(v ...any)              { panic("raft: " + fmt.Sprint(v...)) }
func (l raftLogger) Panicf(f string, v ...any)   { panic("raft: " + fmt.Sprintf(f, v...)) }
