package raftlog

import (
	"fmt"
	"slices"

	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/helenusdb/helenus/meta"
	"github.com/helenusdb/helenus/ring"
)

// This file is how a node whose store lost the end of its log comes back.
//
// It may have forgotten a vote, by which somebody leads, or an entry, which counted as committed because of it. As long as it
// says nothing it is like a node that is down, which Raft bears. So it is silent (meta.Suspect) and has the cluster told, by
// meta.UpdateNode, that it is. Then the leader removes it from Raft's membership: that is committed by a majority of the
// members without it, so whoever still counts on one of its forgotten promises has too old a log to win another vote. Only
// then (meta.Healing) it is added again, as a learner whose progress begins anew: it takes entries and says truthfully which
// it has, but gives no vote. When it has caught up the leader says so in the log (meta.Sound), and it votes again once it has
// read that there: its own log then holds its removal, and refuses all that are older.
//
// Messages carry the generation of the start that sent them, so that none of its former self is taken for one of the new.
//
// When too few sound voters are left there is no leader that could do this. Then the operator says which copy is to be
// believed (ClearSuspect), which may bring back a change that was answered, or lose one.

// Suspect tells that the end of this node's log was found missing, or Distrust was called, and that it does not take part in
// the log again yet. Its announcement (meta.UpdateNode) says meta.Suspect then.
func (s *Service) Suspect() bool { return s.suspect.Load() }

// Short tells that the end of this node's own log was found missing, at this start or an earlier one, and the log is not whole again
// yet: Current may be older than what this node has known.
func (s *Service) Short() bool { return s.short.Load() }

// Distrust makes the node suspect for this start: something else on the same disk has lost its end. It must be called
// between Open and Run.
func (s *Service) Distrust() { s.distrust() }

func (s *Service) distrust() {
	s.health = meta.Suspect
	s.suspect.Store(true)
}

// ClearSuspect makes the log count as whole, as the operator says. It must be called between Open and Run.
func (s *Service) ClearSuspect() error {
	if !s.Suspect() {
		return nil
	}
	return s.trust()
}

func (s *Service) trust() error {
	if err := s.store.trust(); err != nil {
		s.opts.Fatal(err)
		return fmt.Errorf("raftlog: %w", err)
	}
	s.health = meta.Sound
	s.suspect.Store(false)
	s.short.Store(false)
	return nil
}

// heal is a tick of a node that is not sound: it takes the next step when the cluster has.
func (s *Service) heal() error {
	before := s.health
	s.health = nextHealth(before, s.healthIn(s.Current()), s.healthIn(s.log))
	switch s.health {
	case before:
	case meta.Sound:
		if err := s.trust(); err != nil {
			return err
		}
		s.election.reset(s.opts)
		s.opts.Logger.Info("the metadata log is whole again: this node takes part in it")
	default:
		s.opts.Logger.Info("the cluster has removed this node from the metadata log and lets it learn it anew")
	}
	if s.health == meta.Healing {
		s.rn.TickQuiesced() //nolint:staticcheck // as in tick
	}
	return nil
}

// healthIn is how the state sees this start of the node; Suspect when it knows nothing of it.
func (s *Service) healthIn(state *meta.State) meta.Health {
	if n := state.Node(s.opts.Self); n != nil && n.Generation == s.opts.Generation {
		return n.Health
	}
	return meta.Suspect
}

// nextHealth is the health of this node after that of now, by the newest state that is known to be committed and by the one
// that this node's own log leads to.
func nextHealth(now, known, logged meta.Health) meta.Health {
	switch {
	case now == meta.Suspect && known != meta.Suspect:
		return meta.Healing
	case now == meta.Healing && logged == meta.Sound:
		return meta.Sound
	}
	return now
}

// fitToHear tells whether a node that is not sound may act on a message, and remembers who leads.
func (s *Service) fitToHear(m *pb.Message) bool {
	switch m.GetType() {
	case pb.MsgApp, pb.MsgHeartbeat, pb.MsgSnap:
		if s.health == meta.Suspect && m.GetTerm() >= s.rn.BasicStatus().HardState.GetTerm() {
			s.leader.Store(m.GetFrom())
		}
		last, err := s.store.mem.LastIndex()
		// A leader that has not heard yet of the removal believes that there is more of the log here.
		return s.health == meta.Healing && err == nil && (m.GetType() != pb.MsgHeartbeat || m.GetCommit() <= last)
	}
	return false
}

// healing is the command that brings a member that lost the end of its log a step further; nil: there is nothing to do.
// ready tells of learners that have caught up.
func healing(s *meta.State, have *pb.ConfState, ready func(ring.HostID) bool) *meta.Command {
	step := func(n *meta.Node, to meta.Health) *meta.Command {
		return &meta.Command{Kind: meta.SetHealth, Node: meta.Node{ID: n.ID, Generation: n.Generation, Health: to}}
	}
	for i := range s.Nodes {
		n := &s.Nodes[i]
		learns := slices.Contains(have.GetLearners(), raftID(n.ID))
		switch {
		case n.State == meta.Left:
		case n.Health == meta.Suspect && !learns && !slices.Contains(have.GetVoters(), raftID(n.ID)):
			return step(n, meta.Healing)
		case n.Health == meta.Healing && learns && ready(n.ID):
			return step(n, meta.Sound)
		}
	}
	return nil
}
