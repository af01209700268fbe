package coordinator_test

import (
	"bytes"
	"encoding/binary"
	"sync/atomic"
	"testing"
	"time"

	"github.com/helenusdb/helenus/coordinator"
	"github.com/helenusdb/helenus/row"
	"github.com/helenusdb/helenus/rpc"
)

// The tests of this file are about requests while ranges move; each names the point of docs/design/0009-movement.md that it shows.

// plannedAt is where the bodies of a verb say under which RingEpoch they were planned; -1: they do not.
func plannedAt(verb rpc.Verb) int {
	switch verb {
	case coordinator.VerbMutate, coordinator.VerbRead:
		return 0
	case coordinator.VerbCount:
		return 11
	case coordinator.VerbPrepare, coordinator.VerbPeek, coordinator.VerbAccept, coordinator.VerbCommit, coordinator.VerbForget:
		return 2
	}
	return -1
}

// moving is a cluster of three nodes that a fourth is about to join, whom nobody has heard of yet: c.everywhere(c.state) announces it.
func moving(t *testing.T, tune func(*coordinator.Options)) *cluster {
	c := newCluster(t, layout{dcs: nodesIn("dc1", 4), joining: 1, tune: tune})
	c.everywhere(c.alone)
	return c
}

// TestMovement_PlannedInTheBody: whatever is sent to replicas says under which RingEpoch it was planned, hints, read repair, replayed batches
// and commits too; once a replica has another one it refuses all of it but reads, although it comes in frames of the new epoch.
func TestMovement_PlannedInTheBody(t *testing.T) {
	simulated(t, func(t *testing.T) {
		c := moving(t, func(o *coordinator.Options) { o.PaxosGrace, o.PaxosSweep = 100*time.Second, 10*time.Second })
		pk := c.keyJoining(1)
		bodies := map[rpc.Verb][]message{}
		c.setFault(func(m message) action {
			if at := plannedAt(m.verb); at >= 0 {
				if got := binary.BigEndian.Uint64(m.body[at:]); got != c.alone.RingEpoch {
					t.Errorf("verb %d was planned under %d, want %d", m.verb, got, c.alone.RingEpoch)
				}
				m.body = bytes.Clone(m.body)
				bodies[m.verb] = append(bodies[m.verb], m)
			}
			return action{}
		})
		c.setDown(2, true)
		c.mustWrite(0, coordinator.Quorum, c.put(c.wide, pk, "a", 1, "x")) // and a hint
		c.setDown(2, false)
		eventually(t, "the hint is delivered", func() bool { return c.has(2, c.wide, pk) != "" })
		c.plant(1, c.put(c.wide, pk, "b", 1, "y"))
		c.mustRead(0, coordinator.All, c.whole(c.wide, pk)) // repairs
		c.store(1, time.Now(), c.put(c.wide, pk, "c", 1, "z"))
		eventually(t, "the batch is replayed", func() bool { return c.has(2, c.wide, pk) == "a=x b=y c=z " })
		c.mustAdd(0, coordinator.Quorum, c.add(pk, "a", 1))
		c.mustCAS(0, pk, "x", "w")
		c.mustSerial(1, pk, "w")
		eventually(t, "the register is forgotten", func() bool { return c.registers(0) == 0 })
		c.setFault(nil)

		c.everywhere(c.state)
		for verb, sent := range bodies {
			if verb == coordinator.VerbRead {
				continue
			}
			for _, m := range sent {
				status, _, err := c.call(m)
				if err != nil || status != rpc.StatusWrongEpoch {
					t.Errorf("verb %d, planned before the node was announced: %s %v", verb, status, err)
				}
			}
		}
		for _, verb := range []rpc.Verb{coordinator.VerbMutate, coordinator.VerbRead, coordinator.VerbPrepare, coordinator.VerbPeek, coordinator.VerbAccept, coordinator.VerbCommit, coordinator.VerbForget} {
			if len(bodies[verb]) == 0 {
				t.Errorf("nothing was sent with verb %d", verb)
			}
		}
		if c.registers(0) != 0 {
			t.Error("a ballot of the old plan was taken")
		}
	})
}

// call sends a message again, in a frame of the sender's newest epoch.
func (c *cluster) call(m message) (rpc.Status, []byte, error) {
	body, status, err := c.nodes[m.from].rpc.Call(c.t.Context(), c.nodes[m.to].id, rpc.Data, m.verb, m.body)
	return status, body, err
}

// TestMovement_SentLate: a write that was planned before a node was announced, and is sent after, is refused whatever epoch its frames carry,
// planned anew and sent to that node too. Its coordinator has the row in its store from before; that no replica took the rest.
func TestMovement_SentLate(t *testing.T) {
	simulated(t, func(t *testing.T) {
		c := moving(t, nil)
		pk := c.keyJoining(1)
		late := true
		c.setFault(func(m message) action {
			if m.verb == coordinator.VerbMutate && late {
				return action{delay: 50 * time.Millisecond}
			}
			return action{}
		})
		time.AfterFunc(10*time.Millisecond, func() {
			c.everywhere(c.state)
			late = false
		})
		c.mustWrite(0, coordinator.Quorum, c.put(c.wide, pk, "a", 1, "x"))
		eventually(t, "the joining node has it", func() bool { return c.has(3, c.wide, pk) == "a=x " })
		if got := c.sent(coordinator.VerbMutate); got < 4 {
			t.Errorf("%d messages", got)
		}
	})
}

// movesBefore is a store in which ranges move at the moment when something is applied.
type movesBefore struct {
	coordinator.Storage
	move    func()
	commits *atomic.Int64
}

func (s movesBefore) NewBatch() coordinator.Batch { return movesBeforeBatch{s.Storage.NewBatch(), s} }

type movesBeforeBatch struct {
	coordinator.Batch
	s movesBefore
}

func (b movesBeforeBatch) Apply(m *row.Mutation) error {
	b.s.move()
	return b.Batch.Apply(m)
}

func (b movesBeforeBatch) ApplyAll(ms []row.Mutation) error {
	b.s.move()
	return b.Batch.ApplyAll(ms)
}

func (b movesBeforeBatch) Commit(done coordinator.Committed) {
	b.s.commits.Add(1)
	b.Batch.Commit(done)
}

// TestMovement_LocalPaths: what this node applies itself passes the same fence at that moment: writes, increments that it leads, read
// repair. They are planned anew, and the joining node has them.
func TestMovement_LocalPaths(t *testing.T) {
	simulated(t, func(t *testing.T) {
		var c *cluster
		var commits atomic.Int64
		moves := false
		c = moving(t, func(o *coordinator.Options) {
			if o.Self == hostID(0) {
				o.Storage = movesBefore{o.Storage, func() {
					if moves {
						c.everywhere(c.state)
					}
				}, &commits}
			}
		})
		pk := c.keyJoining(1)
		if !c.isReplica(0, pk) {
			t.Fatal("node 0 is no replica")
		}
		for _, x := range []struct {
			name string
			f    func()
			has  func(n int) bool
		}{
			{"write", func() { c.mustWrite(0, coordinator.One, c.put(c.wide, pk, "a", 1, "x")) }, func(n int) bool { return c.has(n, c.wide, pk) == "a=x " }},
			{"increment", func() { c.mustAdd(0, coordinator.One, c.add(pk, "a", 1)) }, func(n int) bool { text, _ := c.countedAt(n, pk); return text != "" }},
		} {
			c.everywhere(c.alone)
			moves = true
			x.f()
			moves = false
			if c.nodes[0].state.Load() != c.state {
				t.Fatalf("%s: nothing moved", x.name)
			}
			eventually(t, x.name, func() bool { return x.has(3) && x.has(0) })
		}
		commits.Store(0)
		c.everywhere(c.alone)
		b := c.nodes[0].coord.NewBurst()
		w := &waiter{}
		w.wg.Add(2)
		b.Write(&coordinator.Write{Mutations: []row.Mutation{c.put(c.wide, pk, "b", 1, "y")}, Level: coordinator.One, Done: w})
		c.everywhere(c.state)
		b.Write(&coordinator.Write{Mutations: []row.Mutation{c.put(c.wide, pk, "c", 1, "z")}, Level: coordinator.One, Done: w})
		b.Close()
		w.wg.Wait()
		if w.err != nil || commits.Load() < 2 {
			t.Errorf("%d batches for writes of two RingEpochs, %v", commits.Load(), w.err)
		}
	})
}

// TestMovement_SessionsDivideBatches: what a replica reads in one go is applied as one batch, but not what was planned under different RingEpochs.
func TestMovement_SessionsDivideBatches(t *testing.T) {
	simulated(t, func(t *testing.T) {
		var commits atomic.Int64
		c := moving(t, func(o *coordinator.Options) {
			if o.Self == hostID(1) {
				o.Storage = movesBefore{o.Storage, func() {}, &commits}
			}
		})
		pk := c.keyJoining(1)
		var bodies [2][]byte
		for i, s := range []uint64{c.alone.RingEpoch, c.state.RingEpoch} {
			m := c.put(c.wide, pk, "a", int64(i+1), "x")
			bodies[i] = m.Append(binary.BigEndian.AppendUint64(nil, s))
		}
		session := c.nodes[1].coord.NewSession(hostID(0))
		for i, s := range []*rpc.Request{{}, {}} {
			s.Verb, s.Body, s.Deadline = coordinator.VerbMutate, bodies[i], time.Now().Add(time.Second)
			session.Handle(s, rpc.Responder{})
			c.everywhere(c.state)
		}
		before := commits.Load()
		session.Close()
		if before != 1 || commits.Load() != 2 {
			t.Errorf("%d batches, then %d", before, commits.Load())
		}
	})
}
