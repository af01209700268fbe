package raftlog

import (
	"cmp"
	"encoding/binary"
	"slices"
	"time"

	"go.etcd.io/raft/v3"
	pb "go.etcd.io/raft/v3/raftpb"
	"go.etcd.io/raft/v3/tracker"

	"github.com/helenusdb/helenus/meta"
	"github.com/helenusdb/helenus/ring"
)

// raftID is the number by which Raft knows a host: the first eight bytes of its random id, never 0. No two members have
// the same (meta.State.Admissible).
func raftID(id ring.HostID) uint64 { return max(binary.BigEndian.Uint64(id[:8]), 1) }

// lagMax is how many entries a learner may be behind when it becomes a voter.
const lagMax = 64

// chores is what the leader knows for its housekeeping since it leads.
type chores struct {
	asked   uint64               // index of the newest entry it asked for; nothing more is asked before it is applied
	silent  map[uint64]int       // by raft id: ticks since a member was heard of
	joining map[ring.HostID]wait // by host id: for how long a node has been joining
	absent  map[uint64]int       // by operation: for how many ticks the node that it brings in has been down
	down    map[ring.HostID]int  // by host id: for how many ticks a member has been dead
}

// wait counts the ticks of one attempt to join.
type wait struct {
	since uint64
	ticks int
}

// standing is how a member does as seen by the leader.
type standing struct {
	ready bool // it answers, and is not far behind: it can become a voter
	gone  bool // it has been silent for so long that another should vote in its place
}

// lead does what only the leader does, one change at a time: keep Raft's membership equal to the state's, choose
// voters, end attempts to join that nobody works on any more and operations whose node stays down, move reads and end movements when everybody has reported, and raise the cluster version when every member is new enough.
func (s *Service) lead() {
	s.listen()
	last, err := s.store.mem.LastIndex()
	if err != nil || s.applied < s.chores.asked || len(s.store.conf.GetVotersOutgoing()) > 0 {
		return
	}
	if c := s.chore(); c != nil {
		c.ID, c.BaseEpoch = s.newID(), s.log.Epoch
		if s.propose(proposal{c.Append(nil), func(outcome) {}}) {
			s.chores.asked = last + 1
		}
		return
	}
	if cc := confChange(s.log, s.store.conf); cc != nil {
		if err := s.rn.ProposeConfChange(cc); err != nil {
			s.opts.Logger.Debug("raft membership", "err", err)
			return
		}
		s.chores.asked = last + 1
	}
}

// listen counts for how long each member has been silent, and each joining node has been joining.
func (s *Service) listen() {
	c := &s.chores
	if c.silent == nil {
		c.silent, c.joining, c.absent = map[uint64]int{}, map[ring.HostID]wait{}, map[uint64]int{}
		c.down = map[ring.HostID]int{}
	}
	s.rn.WithProgress(func(id uint64, _ raft.ProgressType, pr tracker.Progress) {
		if c.silent[id]++; pr.RecentActive || id == s.id {
			c.silent[id] = 0
		}
	})
	for i := range s.log.Nodes {
		n := &s.log.Nodes[i]
		if n.Health != meta.Sound && !isMember(s.store.conf, raftID(n.ID)) {
			c.silent[raftID(n.ID)]++ // Raft does not count it
		}
		w := c.joining[n.ID]
		switch {
		case n.State != meta.Pending || s.log.OperationOn(n.ID) != nil:
			delete(c.joining, n.ID)
		case w.since != n.Since:
			c.joining[n.ID] = wait{since: n.Since}
		default:
			c.joining[n.ID] = wait{n.Since, w.ticks + 1}
		}
	}
	miss(c.absent, s.log, s.dead)
	countDown(c.down, s.log, s.dead)
}

// dead tells whether a member is believed to be down, by the failure detector and by Raft.
func (s *Service) dead(id ring.HostID) bool {
	return !s.opts.Alive(id) && s.chores.silent[raftID(id)] > 2*s.opts.ElectionTicks
}

// miss counts for how long those have been down whom the others wait for to be sent their rows. Who leads anew counts anew.
func miss(absent map[uint64]int, s *meta.State, dead func(ring.HostID) bool) {
	for id := range absent {
		if s.Operation(id) == nil {
			delete(absent, id)
		}
	}
	for i := range s.Operations {
		if o := &s.Operations[i]; (o.Kind == meta.Join || o.Kind == meta.Replace) && s.Phase() == meta.Filling && dead(o.Node) {
			absent[o.ID]++
		} else {
			delete(absent, o.ID)
		}
	}
}

// abandoned returns the first operation whose node has been down for more than so many ticks; nil: there is none.
func abandoned(absent map[uint64]int, s *meta.State, ticks int) *meta.Operation {
	for i := range s.Operations {
		if o := &s.Operations[i]; absent[o.ID] > ticks {
			return o
		}
	}
	return nil
}

// chore is the command that the state needs next; nil: none.
func (s *Service) chore() *meta.Command {
	joinTicks := int(s.opts.JoinMax / s.opts.Tick)
	for i := range s.log.Nodes {
		n := &s.log.Nodes[i]
		if n.State == meta.Pending && s.chores.joining[n.ID].ticks > joinTicks {
			s.opts.Logger.Warn("a node has not finished joining and is forgotten; it can try again", "host", n.ID.String(), "address", n.Internode.String())
			return &meta.Command{Kind: meta.RemoveNode, Node: meta.Node{ID: n.ID}}
		}
	}
	standings := s.standings()
	if c := healing(s.log, s.store.conf, func(id ring.HostID) bool { return standings(id).ready }); c != nil {
		s.opts.Logger.Info("a member that lost the end of its metadata log heals", "host", c.Node.ID.String(), "is", c.Node.Health.String())
		return c
	}
	want := chooseVoters(s.log, standings)
	if len(want) > 0 && !slices.Equal(want, s.log.Voters()) {
		return &meta.Command{Kind: meta.SetVoters, Voters: want}
	}
	if o := abandoned(s.chores.absent, s.log, int(s.opts.AbsentMax/s.opts.Tick)); o != nil {
		s.opts.Logger.Warn("a node that was being sent its rows has been down for long, and its operation is aborted: others wait for it", "operation", o.String(), "down", s.opts.AbsentMax.String())
		return &meta.Command{Kind: meta.AbortOperation, Operation: o.ID}
	}
	if c := s.log.Advance(s.dead); c != nil && (c.Kind != meta.Finish || !s.leaversVote()) {
		s.opts.Logger.Info("the movement of ranges goes on", "phase", s.log.Phase().String(), "plan", c.Plan, "operations", len(s.log.Operations))
		return c
	}
	if c := raise(s.log); c != nil {
		return c
	}
	return s.autoRemove()
}

// autoRemove is the command that removes a member which has been down for Options.AutoRemove.After; nil: none has, or it cannot be.
func (s *Service) autoRemove() *meta.Command {
	c, err := overdue(s.chores.down, s.log, int(s.opts.AutoRemove.After/s.opts.Tick), s.opts.AutoRemove.Fits)
	switch {
	case err != nil:
		s.opts.Logger.Error("a member has been down for auto_replace_after and cannot be removed by itself", "down", s.opts.AutoRemove.After.String(), "err", err)
	case c != nil:
		s.opts.Logger.Warn("a member has been down for auto_replace_after and is removed: the others make up for it", "host", c.Node.ID.String(), "down", s.opts.AutoRemove.After.String())
	}
	return c
}

// leaversVote tells whether Raft still counts on nodes that end with the movement: first they have to be taken out of its voters.
func (s *Service) leaversVote() bool {
	return slices.ContainsFunc(s.log.Nodes, func(n meta.Node) bool {
		return n.State == meta.Leaving && !n.Voter && slices.Contains(s.store.conf.GetVoters(), raftID(n.ID))
	})
}

// raise is the command that lets the cluster use what all its members, and this build, understand; nil: it does.
func raise(s *meta.State) *meta.Command {
	version := meta.Version
	for i := range s.Nodes {
		if n := &s.Nodes[i]; n.State != meta.Left {
			version = min(version, n.Version)
		}
	}
	if version <= s.ClusterVersion {
		return nil
	}
	return &meta.Command{Kind: meta.SetVersion, Version: version}
}

func (s *Service) standings() func(ring.HostID) standing {
	commit := s.rn.BasicStatus().HardState.GetCommit()
	match := map[uint64]uint64{}
	s.rn.WithProgress(func(id uint64, _ raft.ProgressType, pr tracker.Progress) { match[id] = pr.Match })
	goneTicks := int(s.opts.ReplaceVoterAfter / max(s.opts.Tick, time.Nanosecond))
	return func(host ring.HostID) standing {
		id := raftID(host)
		m, known := match[id]
		silent := s.chores.silent[id]
		return standing{ready: known && m+lagMax >= commit && silent <= 2*s.opts.ElectionTicks && (m > 0) && s.opts.Alive(host), gone: silent > goneTicks}
	}
}

// isMember tells whether Raft knows the node.
func isMember(have *pb.ConfState, id uint64) bool {
	return slices.Contains(have.GetVoters(), id) || slices.Contains(have.GetLearners(), id)
}

// chooseVoters returns who should vote: an odd number of at most meta.VotersMax members that own ranges, spread over
// racks and data centres, ascending. Those that vote already are kept where that does not spread them worse, whether they
// can be reached or not, until they are gone for so long that another takes their place, or lost the end of their log. Others
// must be ready. Nodes that are being decommissioned vote until reads move, where those that stay are too few: when several leave at once, one or two that
// stay would be all that vote. They are fewer than those that stay, which so are a majority without them. No change leads to voters most of whom do not
// answer: it could never be made, nor anything after it; then fewer vote, and if nobody answers those that do now.
func chooseVoters(s *meta.State, standings func(ring.HostID) standing) []ring.HostID {
	var candidates []candidate
	staying := 0
	for i := range s.Nodes {
		n := &s.Nodes[i]
		leaving := n.State == meta.Leaving && decommissioned(s, n.ID)
		if n.State != meta.Normal && !leaving {
			continue
		}
		st := standings(n.ID)
		st.gone = st.gone || n.Health != meta.Sound
		if n.Voter && (!leaving || !st.gone) || st.ready && n.Health == meta.Sound {
			candidates = append(candidates, candidate{n, st})
			if !leaving {
				staying++
			}
		}
	}
	want := min(meta.VotersMax, staying+min(len(candidates)-staying, staying-1))
	if want%2 == 0 {
		want--
	}
	chosen := pick(candidates, want, false)
	if slices.Equal(chosen, s.Voters()) {
		return chosen
	}
	for n := want; n > 0 && !answers(chosen, standings); n -= 2 {
		chosen = pick(candidates, n, true)
	}
	if len(chosen) > 0 && !answers(chosen, standings) {
		return s.Voters()
	}
	return chosen
}

// candidate is a node that may vote.
type candidate struct {
	*meta.Node
	standing
}

// answers tells whether most of the voters answer.
func answers(voters []ring.HostID, standings func(ring.HostID) standing) bool {
	n := 0
	for _, id := range voters {
		if standings(id).ready {
			n++
		}
	}
	return n > len(voters)/2
}

// pick takes the best candidates, ascending; readyFirst puts those that answer before all others.
func pick(candidates []candidate, want int, readyFirst bool) []ring.HostID {
	candidates = slices.Clone(candidates)
	racks, dcs := map[[2]string]int{}, map[string]int{}
	var chosen []ring.HostID
	for len(chosen) < want {
		best := slices.MinFunc(candidates, func(a, b candidate) int {
			return cmp.Or(first(readyFirst && a.ready, readyFirst && b.ready), first(a.State == meta.Normal, b.State == meta.Normal), first(!a.gone, !b.gone), cmp.Compare(racks[[2]string{a.DC, a.Rack}], racks[[2]string{b.DC, b.Rack}]),
				cmp.Compare(dcs[a.DC], dcs[b.DC]), first(a.Voter, b.Voter), a.ID.Compare(b.ID))
		})
		racks[[2]string{best.DC, best.Rack}]++
		dcs[best.DC]++
		chosen = append(chosen, best.ID)
		candidates = slices.DeleteFunc(candidates, func(c candidate) bool { return c.ID == best.ID })
	}
	slices.SortFunc(chosen, ring.HostID.Compare)
	return chosen
}

// decommissioned tells whether a node is leaving and still is read.
func decommissioned(s *meta.State, id ring.HostID) bool {
	o := s.OperationOn(id)
	return s.Phase() == meta.Filling && o != nil && o.Kind == meta.Decommission
}

// first orders those with the property before those without.
func first(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return -1
	}
	return 1
}

// confChange returns the step that brings Raft's membership closer to the state's: voters vote, every other member
// learns, those that left are removed, and those that lost the end of their log until they begin anew as learners; nil when
// they agree. All changes of voters are one step: while it is made, majorities of the voters before and of those after are
// needed, so no even number of voters stands between.
func confChange(s *meta.State, have *pb.ConfState) *pb.ConfChangeV2 {
	var voters, learners, gone []*pb.ConfChangeSingle
	member := map[uint64]bool{}
	votes := false
	for i := range s.Nodes {
		n := &s.Nodes[i]
		if n.State == meta.Left || n.Health == meta.Suspect {
			continue
		}
		id := raftID(n.ID)
		member[id] = true
		isVoter, isLearner := slices.Contains(have.GetVoters(), id), slices.Contains(have.GetLearners(), id)
		should := n.Voter && n.Health == meta.Sound
		votes = votes || should && (isVoter || isLearner)
		switch {
		case should && isLearner:
			voters = append(voters, change(pb.ConfChangeAddNode, id))
		case !should && isVoter:
			voters = append(voters, change(pb.ConfChangeAddLearnerNode, id))
		case !isVoter && !isLearner:
			learners = append(learners, change(pb.ConfChangeAddLearnerNode, id))
		}
	}
	for _, id := range have.GetVoters() {
		if !member[id] {
			voters = append(voters, change(pb.ConfChangeRemoveNode, id))
		}
	}
	for _, id := range have.GetLearners() {
		if !member[id] {
			gone = append(gone, change(pb.ConfChangeRemoveNode, id))
		}
	}
	switch {
	case !votes:
		return nil
	case len(voters) > 0:
		return &pb.ConfChangeV2{Changes: voters}
	case len(learners) > 0:
		return &pb.ConfChangeV2{Changes: learners[:1]}
	case len(gone) > 0:
		return &pb.ConfChangeV2{Changes: gone[:1]}
	}
	return nil
}

func change(kind pb.ConfChangeType, id uint64) *pb.ConfChangeSingle {
	return &pb.ConfChangeSingle{Type: &kind, NodeId: &id}
}
