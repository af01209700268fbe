package raftlog

import (
	"cmp"
	"encoding/binary"
	"slices"

	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/helenusdb/helenus/meta"
	"github.com/helenusdb/helenus/ring"
)

// raftID is the number by which Raft knows a host: the first eight bytes of its random id, never 0.
func raftID(id ring.HostID) uint64 { return max(binary.BigEndian.Uint64(id[:8]), 1) }

// chooseVoters returns who should vote: an odd number of at most meta.VotersMax members that own ranges, spread over
// racks, keeping those that vote already. alive prefers members that can be reached when a new voter is needed.
func chooseVoters(s *meta.State, alive func(ring.HostID) bool) []ring.HostID {
	var candidates []meta.Node
	for _, n := range s.Members() {
		if n.State == meta.Normal {
			candidates = append(candidates, n)
		}
	}
	want := min(meta.VotersMax, len(candidates))
	if want%2 == 0 {
		want--
	}
	var chosen []meta.Node
	for len(chosen) < want {
		best := slices.MinFunc(candidates, func(a, b meta.Node) int {
			return cmp.Or(cmp.Compare(rank(a, chosen, alive), rank(b, chosen, alive)), a.ID.Compare(b.ID))
		})
		chosen = append(chosen, best)
		candidates = slices.DeleteFunc(candidates, func(n meta.Node) bool { return n.ID == best.ID })
	}
	ids := make([]ring.HostID, len(chosen))
	for i, n := range chosen {
		ids[i] = n.ID
	}
	slices.SortFunc(ids, ring.HostID.Compare)
	return ids
}

// rank is lower for a better candidate: voters stay, then racks not chosen yet, then members that are alive.
func rank(n meta.Node, chosen []meta.Node, alive func(ring.HostID) bool) int {
	r := 0
	if !n.Voter {
		r += 4
	}
	if slices.ContainsFunc(chosen, func(c meta.Node) bool { return c.DC == n.DC && c.Rack == n.Rack }) {
		r += 2
	}
	if !alive(n.ID) {
		r++
	}
	return r
}

// confChange returns the step that brings Raft's membership closer to the state's: voters vote, every other member
// learns, those that left are removed; nil when they agree. One member a time, so that every intermediate membership
// shares a majority with the one before.
func confChange(s *meta.State, have *pb.ConfState) *pb.ConfChangeV2 {
	wantVoter, wantLearner := map[uint64]bool{}, map[uint64]bool{}
	for _, n := range s.Members() {
		if n.Voter {
			wantVoter[raftID(n.ID)] = true
		} else {
			wantLearner[raftID(n.ID)] = true
		}
	}
	if len(wantVoter) == 0 {
		return nil
	}
	for _, id := range sortedIDs(wantVoter) {
		if !slices.Contains(have.GetVoters(), id) {
			return single(pb.ConfChangeAddNode, id)
		}
	}
	for _, id := range sortedIDs(wantLearner) {
		if !slices.Contains(have.GetLearners(), id) {
			return single(pb.ConfChangeAddLearnerNode, id)
		}
	}
	for _, id := range slices.Concat(have.GetVoters(), have.GetLearners()) {
		if !wantVoter[id] && !wantLearner[id] {
			return single(pb.ConfChangeRemoveNode, id)
		}
	}
	return nil
}

func sortedIDs(set map[uint64]bool) []uint64 {
	out := make([]uint64, 0, len(set))
	for id := range set {
		out = append(out, id)
	}
	slices.Sort(out)
	return out
}

func single(kind pb.ConfChangeType, id uint64) *pb.ConfChangeV2 {
	return &pb.ConfChangeV2{Changes: []*pb.ConfChangeSingle{{Type: &kind, NodeId: &id}}}
}
