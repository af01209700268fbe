package raftlog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"go.etcd.io/raft/v3"
	pb "go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/helenusdb/helenus/meta"
	"github.com/helenusdb/helenus/rpc"
)

// This file is what the loop does with the Raft state machine; all of it runs on the loop's goroutine.

func (s *Service) tick() error {
	s.expire(time.Now())
	if s.health != meta.Sound {
		return s.heal()
	}
	if s.role == raft.StateLeader {
		s.rn.Tick()
		s.lead()
		return nil
	}
	// Only the lease on the leader is counted by Raft: elections are timed by s.election, see the package comment.
	s.rn.TickQuiesced() //nolint:staticcheck // see above
	if s.election.due(s.opts) && slices.Contains(s.store.conf.GetVoters(), s.id) {
		if err := s.rn.Campaign(); err != nil {
			s.opts.Logger.Debug("raft campaign", "err", err)
		}
	}
	return nil
}

func (s *Service) step(m message) {
	s.inboxBytes.Add(-int64(m.size))
	if s.health != meta.Sound && !s.fitToHear(m.Message) {
		return
	}
	before := s.rn.BasicStatus().HardState
	vote, term := before.GetVote(), before.GetTerm()
	if err := s.rn.Step(m.Message); err != nil && !errors.Is(err, raft.ErrStepPeerNotFound) {
		s.opts.Logger.Debug("raft message", "type", m.GetType().String(), "err", err)
	}
	switch m.GetType() {
	case pb.MsgApp, pb.MsgHeartbeat, pb.MsgSnap:
		if m.GetTerm() >= term {
			s.election.reset(s.opts)
		}
	case pb.MsgVote: // who was promised the vote gets the time to use it
		if after := s.rn.BasicStatus().HardState; after.GetVote() == m.GetFrom() && (after.GetTerm() != term || vote != m.GetFrom()) {
			s.election.reset(s.opts)
		}
	}
}

// propose puts a command into the log and tells whether it did. Whatever becomes of it, done is called: now, when it is
// applied, or when this node stops leading.
func (s *Service) propose(p proposal) bool {
	if s.role != raft.StateLeader {
		p.done(outcome{code: unsure, text: "this node does not lead the log"})
		return false
	}
	c, err := meta.DecodeCommand(p.command) // nothing gets into the log that the nodes could not apply
	if err != nil {
		p.done(outcome{code: refusedOutcome, text: err.Error()})
		return false
	}
	if c.BaseEpoch != 0 && c.BaseEpoch < s.log.Epoch { // it cannot take effect any more
		p.done(s.verdict(c))
		return false
	}
	if need := c.NeedsVersion(); need > s.log.ClusterVersion { // a member may not be able to read it
		p.done(outcome{code: refusedOutcome, epoch: s.log.Epoch, text: fmt.Sprintf("the cluster uses metadata version %d, the change needs %d: upgrade every member first", s.log.ClusterVersion, need)})
		return false
	}
	if i := s.pendingAt(c.ID); i >= 0 {
		s.pending[i].done = append(s.pending[i].done, p.done)
		return false
	}
	if len(s.pending) >= pendingMax {
		p.done(outcome{code: unsure, text: "too many changes are waiting"})
		return false
	}
	if err := s.rn.Propose(p.command); err != nil {
		p.done(outcome{code: unsure, text: err.Error()})
		return false
	}
	s.pending = append(s.pending, pendingProposal{c.ID, []func(outcome){p.done}})
	return true
}

// take is propose for what comes through the queue.
func (s *Service) take(p proposal) {
	s.proposalBytes.Add(-int64(len(p.command)))
	s.propose(p)
}

// verdict tells what became of a command whose base the log has passed.
func (s *Service) verdict(c *meta.Command) outcome {
	if id, ok := s.log.MadeBy(c.BaseEpoch + 1); ok && id == c.ID {
		return outcome{code: accepted, epoch: s.log.Epoch}
	}
	return outcome{code: conflicted, epoch: s.log.Epoch}
}

func (s *Service) pendingAt(id [16]byte) int {
	return slices.IndexFunc(s.pending, func(p pendingProposal) bool { return p.id == id })
}

func (s *Service) giveUp(why string) {
	waiting := s.pending
	s.pending = nil
	for _, p := range waiting {
		for _, done := range p.done {
			done(outcome{code: unsure, text: why})
		}
	}
}

// ready handles everything the Raft state machine wants done: durable first, then messages, then the state.
func (s *Service) ready() error {
	for s.rn.HasReady() {
		rd := s.rn.Ready()
		var installed *meta.State
		if !raft.IsEmptySnap(rd.Snapshot) { // before it is durable: what cannot be used must not be kept
			var err error
			if installed, err = decodeSnapshot(rd.Snapshot); err != nil {
				return err
			}
		}
		if err := s.store.save(rd.HardState, rd.Entries, rd.Snapshot); err != nil {
			s.opts.Fatal(err)
			return err
		}
		if installed != nil { // the answer to it goes to a leader that only this state may know
			s.log, s.applied = installed, rd.Snapshot.GetMetadata().GetIndex()
			s.compacted, s.grown = s.applied, 0
			s.publish(s.log)
		}
		if rd.SoftState != nil {
			s.leadership(rd.SoftState)
		}
		s.send(rd.Messages)
		if err := s.applyAll(rd.CommittedEntries); err != nil {
			return err
		}
		s.rn.Advance(rd)
		s.publish(s.log)
		if err := s.compactIfLong(); err != nil {
			s.opts.Fatal(err)
			return err
		}
	}
	return nil
}

func decodeSnapshot(snap *pb.Snapshot) (*meta.State, error) {
	state, err := meta.DecodeState(snap.GetData())
	if err == nil {
		err = understood(state)
	}
	if err != nil {
		return nil, fmt.Errorf("snapshot: %w", err)
	}
	return state, nil
}

// understood returns an error for a state of a cluster that uses what this build does not know.
func understood(s *meta.State) error {
	if s.ClusterVersion > meta.Version {
		return fmt.Errorf("the cluster uses metadata version %d, this build understands %d: start a newer build", s.ClusterVersion, meta.Version)
	}
	return nil
}

func (s *Service) leadership(soft *raft.SoftState) {
	if before := s.leader.Swap(soft.Lead); before != soft.Lead {
		host, _ := s.hostOf(soft.Lead)
		s.opts.Logger.Info("metadata leader changed", "leader", host.String(), "known", soft.Lead != 0)
	}
	if s.role == soft.RaftState {
		return
	}
	was := s.role
	s.role = soft.RaftState
	if s.role == raft.StateLeader {
		last, _ := s.store.mem.LastIndex() // MemoryStorage returns no error; nothing is asked before what is in the log is applied
		s.chores = chores{asked: last}
		return
	}
	if was == raft.StateLeader {
		s.election.reset(s.opts)
	}
	s.giveUp("the leader stepped down")
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
		s.grown += len(e.GetData())
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
		s.changing = true
		s.store.conf = s.rn.ApplyConfChange(cc)
		s.changing = false
		return nil
	case pb.EntryConfChange:
		return errors.New("a change of membership of the old kind, which no version of this program writes")
	}
	if len(e.GetData()) == 0 {
		return nil // a new leader's empty entry
	}
	return s.applyCommand(e.GetData())
}

// applyCommand changes s.log. An error means that this build does not understand the log, and must stop: to go on would
// be to differ from the other nodes.
func (s *Service) applyCommand(raw []byte) error {
	c, err := meta.DecodeCommand(raw)
	if err != nil {
		return err
	}
	var out outcome
	var refused *meta.Refused
	next, err := s.log.Apply(c)
	switch {
	case errors.Is(err, meta.ErrConflict):
		out = s.verdict(c)
	case errors.As(err, &refused):
		out = outcome{code: refusedOutcome, epoch: s.log.Epoch, text: refused.Reason}
	case err != nil:
		out = outcome{code: refusedOutcome, epoch: s.log.Epoch, text: err.Error()}
	default:
		if err := understood(next); err != nil {
			return err
		}
		s.log = next
		out = outcome{code: accepted, epoch: next.Epoch}
	}
	if i := s.pendingAt(c.ID); i >= 0 {
		answered := s.pending[i].done
		s.pending = slices.Delete(s.pending, i, i+1)
		for _, done := range answered {
			done(out)
		}
	}
	return nil
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
	if s.applied < s.compacted+s.every && s.grown < compactBytes || s.applied == s.compacted {
		return nil
	}
	if err := s.store.compact(s.applied, s.log); err != nil {
		return fmt.Errorf("compact: %w", err)
	}
	s.compacted, s.grown = s.applied, 0
	return nil
}

func (s *Service) send(messages []*pb.Message) {
	for _, m := range messages {
		to, ok := s.hostOf(m.GetTo())
		if !ok {
			continue
		}
		raw, err := s.envelope(m)
		if err != nil || len(raw) > rpc.BodyMax {
			s.opts.Logger.Error("raft message cannot be sent", "type", m.GetType().String(), "bytes", len(raw), "err", err)
			continue
		}
		s.opts.Peers.Send(to, rpc.Urgent, VerbRaft, time.Now().Add(time.Duration(s.opts.ElectionTicks)*s.opts.Tick), raw, nil)
		if m.GetType() == pb.MsgSnap { // whether it arrived shows in the answer to the next heartbeat
			s.rn.ReportSnapshot(m.GetTo(), raft.SnapshotFinish)
		}
	}
}

// envelope is a message with the generation of this start before it: what a former start has promised counts no more once
// the log knows of a newer one.
func (s *Service) envelope(m *pb.Message) ([]byte, error) {
	return proto.MarshalOptions{}.MarshalAppend(binary.BigEndian.AppendUint64(nil, uint64(s.opts.Generation)), m)
}

// elections counts ticks of silence of the leader.
type elections struct{ left int }

// reset gives the leader one tick more than Raft's lease on it lasts, and a random number of ticks on top.
func (e *elections) reset(o Options) { e.left = o.ElectionTicks + 1 + o.Rand(o.ElectionTicks) }

// due counts one tick and tells whether it is time to campaign.
func (e *elections) due(o Options) bool {
	if e.left--; e.left > 0 {
		return false
	}
	e.reset(o)
	return true
}

// raftPanic is what the Raft library found that must not be.
type raftPanic string

// guard runs f and turns a panic of the Raft library into an error: it panics when the log is shorter than what this
// node had acknowledged, as after an older copy of the folder was put back.
func (s *Service) guard(f func() error) (err error) {
	defer func() {
		p := recover()
		if p == nil {
			return
		}
		text, ok := p.(raftPanic)
		if !ok {
			panic(p)
		}
		err = fmt.Errorf("the log in %s is damaged, or an older copy of it was put back: this node cannot go on with it (%s)", s.opts.Dir, string(text))
	}()
	return f()
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
func (l raftLogger) Panic(v ...any)              { panic(raftPanic(fmt.Sprint(v...))) }
func (l raftLogger) Panicf(f string, v ...any)   { panic(raftPanic(fmt.Sprintf(f, v...))) }
