package raftlog

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2"
	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/helenusdb/helenus/meta"
	"github.com/helenusdb/helenus/ring"
	"github.com/helenusdb/helenus/rpc"
)

// stateOf is a state of the given nodes, as far as the choice of voters looks at it.
func stateOf(nodes ...meta.Node) *meta.State {
	for i := range nodes {
		nodes[i].ID = hostID(i)
		if nodes[i].State == 0 {
			nodes[i].State = meta.Normal
		}
	}
	return &meta.State{Nodes: nodes}
}

// leavingOf is stateOf with nodes, all but so many, that are being decommissioned; switched is 0 while they are read.
func leavingOf(staying int, switched uint64, nodes ...meta.Node) *meta.State {
	s := stateOf(nodes...)
	s.SwitchedAt = switched
	for i := range s.Nodes[staying:] {
		n := &s.Nodes[staying+i]
		n.State = meta.Leaving
		s.Operations = append(s.Operations, meta.Operation{ID: uint64(i + 1), Kind: meta.Decommission, Node: n.ID})
	}
	return s
}

func allReady(ring.HostID) standing { return standing{ready: true} }

func TestChooseVoters(t *testing.T) {
	n := func(rack string, voter bool) meta.Node { return meta.Node{DC: "dc", Rack: rack, Voter: voter} }
	ready := func(which ...int) func(ring.HostID) standing {
		return func(id ring.HostID) standing { return standing{ready: slices.Contains(which, int(id[0])-1)} }
	}
	gone := func(which int) func(ring.HostID) standing {
		return func(id ring.HostID) standing {
			return standing{ready: int(id[0])-1 != which, gone: int(id[0])-1 == which}
		}
	}
	cases := []struct {
		name string
		in   *meta.State
		how  func(ring.HostID) standing
		want []int
	}{
		{"one", stateOf(n("a", true)), allReady, []int{0}},
		{"two are as one", stateOf(n("a", true), n("b", false)), allReady, []int{0}},
		{"three", stateOf(n("a", true), n("a", false), n("a", false)), allReady, []int{0, 1, 2}},
		{"not before both are ready", stateOf(n("a", true), n("a", false), n("a", false)), ready(0, 2), []int{0}},
		{"four", stateOf(n("a", true), n("a", true), n("a", true), n("a", false)), allReady, []int{0, 1, 2}},
		{"six", stateOf(n("a", true), n("a", true), n("a", true), n("a", false), n("a", false), n("a", false)), allReady, []int{0, 1, 2, 3, 4}},
		{"spread over racks", stateOf(n("a", true), n("a", true), n("a", true), n("b", false), n("c", false), n("a", false)), allReady, []int{0, 1, 2, 3, 4}},
		{"three of four in three racks", stateOf(n("a", true), n("a", true), n("b", true), n("c", false)), allReady, []int{0, 2, 3}},
		{"a voter that is down stays", stateOf(n("a", true), n("a", true), n("a", true), n("a", false)), ready(0, 1, 3), []int{0, 1, 2}},
		{"one that is gone does not", stateOf(n("a", true), n("a", true), n("a", true), n("a", false)), gone(1), []int{0, 2, 3}},
		{"unless nobody can take its place", stateOf(n("a", true), n("a", true), n("a", true)), gone(1), []int{0, 1, 2}},
		{"leaving and joining nodes do not vote", stateOf(n("a", true), meta.Node{DC: "dc", Rack: "b", State: meta.Pending}, meta.Node{DC: "dc", Rack: "b", State: meta.Leaving, Voter: true}), allReady, []int{0}},
		{"of four, two that leave: one of them votes until reads move", leavingOf(2, 0, n("a", true), n("a", true), n("a", true), n("a", false)), allReady, []int{0, 1, 2}},
		{"but not if it is gone", leavingOf(2, 0, n("a", true), n("a", true), n("a", true), n("a", false)), gone(2), []int{0, 1, 3}},
		{"and not once reads have moved", leavingOf(2, 9, n("a", true), n("a", true), n("a", true), n("a", false)), allReady, []int{0}},
		{"those that stay come first", leavingOf(2, 0, n("a", false), n("a", false), n("b", true), n("a", false)), allReady, []int{0, 1, 2}},
		{"and of those that stay one that answers, when the other would be alone", leavingOf(2, 9, n("a", true), n("a", true), n("a", true), n("a", false)), ready(1, 2, 3), []int{1}},
		{"nobody answers: nothing changes", leavingOf(2, 9, n("a", true), n("a", true), n("a", true), n("a", false)), ready(3), []int{0, 1, 2}},
		{"one that leaves two is not half", leavingOf(2, 0, n("a", true), n("a", true), n("a", true)), allReady, []int{0, 1, 2}},
		{"two that leave one have no vote", leavingOf(1, 0, n("a", true), n("a", true), n("a", true)), allReady, []int{0}},
		{"one that lost the end of its log keeps its seat", stateOf(n("a", true), meta.Node{DC: "dc", Rack: "a", Voter: true, Health: meta.Suspect}, n("a", true)), ready(0, 2), []int{0, 1, 2}},
		{"unless another is ready", stateOf(n("a", true), meta.Node{DC: "dc", Rack: "a", Voter: true, Health: meta.Healing}, n("a", true), n("a", false)), allReady, []int{0, 2, 3}},
		{"and gets none before it is sound", stateOf(n("a", true), meta.Node{DC: "dc", Rack: "a", Health: meta.Healing}, n("a", false)), allReady, []int{0}},
		{"data centres", stateOf(meta.Node{DC: "x", Rack: "1"}, meta.Node{DC: "x", Rack: "2"}, meta.Node{DC: "x", Rack: "3"}, meta.Node{DC: "y", Rack: "1"}), allReady, []int{0, 1, 3}},
	}
	for _, c := range cases {
		var got []int
		for _, id := range chooseVoters(c.in, c.how) {
			got = append(got, int(id[0])-1)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: got %v, want %v", c.name, got, c.want)
		}
	}
}

// TestChooseVotersProperties: whatever the members, the number is odd and at most five, no rack has two voters more than
// another that has a candidate left, and to choose again changes nothing.
func TestChooseVotersProperties(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 3000 {
		var nodes []meta.Node
		for range 1 + r.IntN(12) {
			nodes = append(nodes, meta.Node{DC: fmt.Sprint("dc", r.IntN(2)), Rack: fmt.Sprint("r", r.IntN(3)), Voter: r.IntN(3) == 0})
		}
		s := stateOf(nodes...)
		chosen := chooseVoters(s, allReady)
		if len(chosen)%2 != 1 || len(chosen) > meta.VotersMax || len(chosen) < min(meta.VotersMax, len(nodes))-1 {
			t.Fatalf("%d voters of %d", len(chosen), len(nodes))
		}
		racks, left := map[string]int{}, map[string]bool{}
		for i := range s.Nodes {
			n := &s.Nodes[i]
			if n.Voter = slices.Contains(chosen, n.ID); n.Voter {
				racks[n.DC+n.Rack]++
			} else {
				left[n.DC+n.Rack] = true
			}
		}
		for rack, k := range racks {
			for other := range left {
				if k > racks[other]+1 {
					t.Fatalf("%d voters in %s, %d in %s", k, rack, racks[other], other)
				}
			}
		}
		if again := chooseVoters(s, allReady); !slices.Equal(again, chosen) {
			t.Fatalf("%v, and then %v", chosen, again)
		}
	}
}

// TestGarbageFromPeers: what a member sends cannot end the log: messages that only a node's own Raft makes, messages in
// another's name and proposals that do not decode are refused.
func TestGarbageFromPeers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := formed(t, 1, 3, nil)
		lead := c.leader()
		from := c.nodes[(lead.i+1)%3]
		send := func(body []byte) {
			from.rpc.Send(lead.id, rpc.Urgent, VerbRaft, time.Now().Add(time.Second), body, nil)
		}
		for _, kind := range []pb.MessageType{pb.MsgHup, pb.MsgBeat, pb.MsgProp, pb.MsgSnapStatus, pb.MsgTransferLeader, pb.MsgReadIndex, pb.MsgForgetLeader, pb.MsgStorageAppend} {
			self, to := raftID(from.id), raftID(lead.id)
			raw, err := from.svc.envelope(&pb.Message{Type: &kind, From: &self, To: &to, Entries: []*pb.Entry{{Data: []byte("garbage")}}})
			if err != nil {
				t.Fatal(err)
			}
			send(raw)
		}
		kind, self, to, term := pb.MsgApp, raftID(lead.id), raftID(lead.id), uint64(99)
		raw, err := from.svc.envelope(&pb.Message{Type: &kind, From: &self, To: &to, Term: &term})
		if err != nil {
			t.Fatal(err)
		}
		send(raw)
		send([]byte{0xff, 0xff})
		ctx, cancel := within(10 * time.Second)
		defer cancel()
		for verb, bodies := range map[rpc.Verb][][]byte{VerbPropose: {nil, {1, 200}, bytes.Repeat([]byte{1}, 1000)}, VerbAwait: {nil, {1}}, VerbPull: {nil, {1}}} {
			for _, body := range bodies {
				out, status, err := from.rpc.Call(ctx, lead.id, rpc.Urgent, verb, body)
				if err != nil {
					t.Fatal(err)
				}
				if verb != VerbPropose && status != rpc.StatusBadRequest {
					t.Errorf("verb %d: %s", verb, status)
				}
				if verb == VerbPropose {
					if o, err := decodeOutcome(out); err != nil || o.code != refusedOutcome {
						t.Errorf("a proposal of %x: %+v %v", body, o, err)
					}
				}
			}
		}
		if err := from.createKeyspace(ctx, "ks"); err != nil {
			t.Error(err)
		}
		c.settled()
	})
}

// TestStop: who waits when the node stops is told, and nothing is done afterwards.
func TestStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := formed(t, 1, 3, nil)
		n := c.nodes[1]
		c.nodes[0].halt()
		c.nodes[2].halt()
		errs := make(chan error, 3)
		go func() { errs <- n.svc.AwaitApplied(context.Background(), 1000) }()
		go func() { errs <- n.createKeyspace(context.Background(), "ks") }()
		go func() { _, err := n.svc.Propose(context.Background(), never); errs <- err }()
		time.Sleep(time.Second)
		began := time.Now()
		n.halt()
		for range 3 {
			if err := <-errs; err == nil || time.Since(began) > time.Second {
				t.Errorf("%v after %s", err, time.Since(began))
			}
		}
		if err := n.svc.AwaitApplied(context.Background(), 1000); err == nil {
			t.Error("an epoch came after the end")
		}
		if err := n.svc.CatchUp(context.Background(), c.nodes[0].id); err == nil {
			t.Error("it caught up after the end")
		}
		if err := n.svc.Run(context.Background()); err == nil {
			t.Error("it runs twice")
		}
	})
}

func never(s *meta.State) (*meta.Command, bool, error) {
	return &meta.Command{Kind: meta.SetVersion, Version: s.ClusterVersion}, true, nil
}

// TestCloseWithoutRun: a node that fails to start gives its store back.
func TestCloseWithoutRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1, 2, nil)
		n := c.nodes[1]
		n.open()
		if err := n.svc.Close(); err != nil {
			t.Fatal(err)
		}
		if err := n.svc.Close(); err != nil {
			t.Fatal(err)
		}
		n.start()
		if err := n.svc.Close(); err != nil {
			t.Fatal(err)
		}
		c.join(n)
	})
}

// TestPinnedFormat notices a Pebble with a newer format.
func TestPinnedFormat(t *testing.T) {
	if formatMajor != pebble.FormatNewest {
		t.Fatalf("formatMajor = %d, this Pebble's newest is %d: raise it together with the cluster version", formatMajor, pebble.FormatNewest)
	}
}

// TestStoreKeys pins the keys that docs/format/meta.md names.
func TestStoreKeys(t *testing.T) {
	if got := keyHardState + keySnapshot + keyPulled + keyIdentity + keyPledge + keyBeat + string(entryKey(0x0102)); got != "HSPIJBL\x00\x00\x00\x00\x00\x00\x01\x02" {
		t.Errorf("keys %q", got)
	}
	if raftID(ring.HostID{7: 5, 15: 9}) != 5 || raftID(ring.HostID{15: 9}) != 1 {
		t.Error("raft ids")
	}
}

func TestOutcomeRoundTrip(t *testing.T) {
	for _, o := range []outcome{{code: accepted, epoch: 7}, {code: unsure, text: "no"}, {code: refusedOutcome, epoch: 1 << 60, text: "because"}} {
		if got, err := decodeOutcome(o.append(nil)); err != nil || got != o {
			t.Errorf("%+v became %+v: %v", o, got, err)
		}
	}
	for _, bad := range [][]byte{nil, make([]byte, 8), make([]byte, 9), {9, 0, 0, 0, 0, 0, 0, 0, 0}} {
		if _, err := decodeOutcome(bad); err == nil {
			t.Errorf("%x decodes", bad)
		}
	}
}

// TestRaise: the cluster version follows the oldest build among its members, and never goes beyond this one's.
func TestRaise(t *testing.T) {
	for name, c := range map[string]struct {
		in   *meta.State
		want uint32 // 0: nothing is proposed
	}{
		"all new":        {stateOf(meta.Node{Version: 2}, meta.Node{Version: 2}), 2},
		"one old":        {stateOf(meta.Node{Version: 2}, meta.Node{Version: 1}), 0},
		"old has left":   {stateOf(meta.Node{Version: 2}, meta.Node{Version: 1, State: meta.Left}), 2},
		"newer than we":  {stateOf(meta.Node{Version: 9}, meta.Node{Version: 8}), meta.Version},
		"old is joining": {stateOf(meta.Node{Version: 2}, meta.Node{Version: 1, State: meta.Pending}), 0},
	} {
		c.in.ClusterVersion = 1
		got := raise(c.in)
		if c.want == 0 && got != nil || c.want != 0 && (got == nil || got.Kind != meta.SetVersion || got.Version != c.want) {
			t.Errorf("%s: %+v, want version %d", name, got, c.want)
		}
	}
	s := stateOf(meta.Node{Version: meta.Version})
	if s.ClusterVersion = meta.Version; raise(s) != nil {
		t.Error("raised to what it is")
	}
}

// TestScenario_M19_AReplacedVoterIsOutOfRaft: a voter that is gone loses its seat while it is still being replaced, whoever is slow beside it; once it has left, Raft's membership is without it, and a
// member that is merely silent stays in it.
func TestScenario_M19_AReplacedVoterIsOutOfRaft(t *testing.T) {
	n := func(state meta.NodeState, voter bool) meta.Node {
		return meta.Node{DC: "dc", Rack: "r", State: state, Voter: voter, Version: meta.Version}
	}
	s := stateOf(n(meta.Normal, true), n(meta.Normal, true), n(meta.Normal, true), n(meta.Normal, false), n(meta.Pending, false))
	s.Nodes[4].Replaces = hostID(1)
	how := func(id ring.HostID) standing {
		return standing{ready: id == hostID(0) || id == hostID(3), gone: id == hostID(1)}
	}
	if got, want := chooseVoters(s, how), []ring.HostID{hostID(0), hostID(2), hostID(3)}; !slices.Equal(got, want) {
		t.Errorf("while it is being replaced %v vote, want %v", got, want)
	}
	s = stateOf(n(meta.Normal, true), n(meta.Left, false), n(meta.Normal, true), n(meta.Normal, true), n(meta.Normal, false))
	id := func(i int) uint64 { return raftID(hostID(i)) }
	have := &pb.ConfState{Voters: []uint64{id(0), id(1), id(2)}, Learners: []uint64{id(3), id(4)}}
	cc := confChange(s, have)
	if cc == nil {
		t.Fatal("Raft's membership stays")
	}
	for _, c := range cc.GetChanges() {
		if remove := c.GetType() == pb.ConfChangeRemoveNode; remove != (c.GetNodeId() == id(1)) {
			t.Errorf("node %d: %s", c.GetNodeId(), c.GetType())
		}
	}
	if !slices.ContainsFunc(cc.GetChanges(), func(c *pb.ConfChangeSingle) bool { return c.GetNodeId() == id(1) }) {
		t.Error("the replaced voter stays in Raft")
	}
}
