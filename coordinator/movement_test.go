package coordinator_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/helenusdb/helenus/coordinator"
	"github.com/helenusdb/helenus/meta"
	"github.com/helenusdb/helenus/ring"
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

// TestMovement_NoOwner: a write that was planned under the right RingEpoch and comes to a node that is no replica is refused.
func TestMovement_NoOwner(t *testing.T) {
	simulated(t, func(t *testing.T) {
		c := moving(t, nil)
		pk := c.keyJoining(1)
		var sent []message
		c.setFault(func(m message) action {
			if m.verb == coordinator.VerbMutate {
				m.body, m.to = bytes.Clone(m.body), 3
				sent = append(sent, m)
			}
			return action{}
		})
		c.mustWrite(0, coordinator.All, c.put(c.wide, pk, "a", 1, "x"))
		c.setFault(nil)
		for _, m := range sent {
			if status, _, err := c.call(m); err != nil || status != rpc.StatusNotOwner {
				t.Errorf("a node that is no replica says %s %v", status, err)
			}
		}
		if got := c.has(3, c.wide, pk); len(sent) == 0 || got != "" {
			t.Errorf("%d writes were sent, and it has %q", len(sent), got)
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
		var early atomic.Bool // later messages are not delayed
		c.setFault(func(m message) action {
			if m.verb == coordinator.VerbMutate && !early.Load() {
				return action{delay: 50 * time.Millisecond}
			}
			return action{}
		})
		time.AfterFunc(10*time.Millisecond, func() {
			c.everywhere(c.state)
			early.Store(true)
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
	refused *atomic.Int64 // batches of mutations that were planned under another RingEpoch
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
	err := b.Batch.ApplyAll(ms)
	if err != nil {
		b.s.refused.Add(1)
	}
	return err
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
		var commits, refused atomic.Int64
		var moves atomic.Bool
		c = moving(t, func(o *coordinator.Options) {
			if o.Self == hostID(0) {
				o.Storage = movesBefore{o.Storage, func() {
					if moves.Load() {
						c.everywhere(c.state)
					}
				}, &commits, &refused}
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
			moves.Store(true)
			x.f()
			moves.Store(false)
			if c.nodes[0].state.Load() != c.state {
				t.Fatalf("%s: nothing moved", x.name)
			}
			eventually(t, x.name, func() bool { return x.has(3) && x.has(0) })
		}
		commits.Store(0)
		refused.Store(0)
		c.everywhere(c.alone)
		b := c.nodes[0].coord.NewBurst()
		w := &waiter{}
		w.wg.Add(2)
		b.Write(&coordinator.Write{Mutations: []row.Mutation{c.put(c.wide, pk, "b", 1, "y")}, Level: coordinator.One, Done: w})
		c.everywhere(c.state)
		b.Write(&coordinator.Write{Mutations: []row.Mutation{c.put(c.wide, pk, "c", 1, "z")}, Level: coordinator.One, Done: w})
		b.Close()
		w.wg.Wait()
		if w.err != nil || commits.Load() < 2 || refused.Load() != 0 {
			t.Errorf("%d batches for writes of two RingEpochs, %d refused, %v", commits.Load(), refused.Load(), w.err)
		}
	})
}

// TestMovement_SessionsDivideBatches: what a replica reads in one go is applied as one batch, but not what was planned under different RingEpochs.
func TestMovement_SessionsDivideBatches(t *testing.T) {
	simulated(t, func(t *testing.T) {
		var commits atomic.Int64
		c := moving(t, func(o *coordinator.Options) {
			if o.Self == hostID(1) {
				o.Storage = movesBefore{o.Storage, func() {}, &commits, new(atomic.Int64)}
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

// TestMovement_ReadsOfEndedPlans: a replica that has applied the end of a movement refuses a read that was planned before its switch, here and
// elsewhere, in one partition or in a range, also one that it was in the middle of when it fell asleep; it answers those that were planned before the switch until then.
func TestMovement_ReadsOfEndedPlans(t *testing.T) {
	simulated(t, func(t *testing.T) {
		var c *cluster
		var sleep atomic.Pointer[func()] // once
		c = moving(t, func(o *coordinator.Options) {
			if o.Self == hostID(0) {
				o.Storage = sleepsInRead{o.Storage, func() {
					if f := sleep.Swap(nil); f != nil {
						(*f)()
					}
				}}
			}
		})
		pk := c.keyLost()
		cmd := c.whole(c.wide, pk)
		body := cmd.Append(binary.BigEndian.AppendUint64(nil, c.state.RingEpoch))
		read := message{from: 3, verb: coordinator.VerbRead, body: body}
		for read.to = range 3 {
			if c.isReplica(read.to, pk) {
				break
			}
		}
		switched := c.switched(c.state)
		ended := c.moved(c.state)
		if ended.ReadEpoch != switched.RingEpoch || switched.ReadEpoch >= c.state.RingEpoch {
			t.Fatalf("reads from %d on, the switch was %d", ended.ReadEpoch, switched.RingEpoch)
		}
		for _, x := range []struct {
			name string
			s    uint64
			want rpc.Status
		}{{"filling", c.state.Epoch, rpc.StatusOK}, {"switched", switched.Epoch, rpc.StatusOK}, {"ended", ended.Epoch, rpc.StatusWrongEpoch}} {
			switch x.s {
			case c.state.Epoch:
				c.everywhere(c.state)
			case switched.Epoch:
				c.everywhere(switched)
			default:
				c.everywhere(ended)
			}
			if status, _, err := c.call(read); err != nil || status != x.want {
				t.Errorf("%s: %s %v", x.name, status, err)
			}
		}
		// A loser, asleep between its look at the metadata and its disk, must not answer from there.
		for _, level := range []coordinator.Level{coordinator.One, coordinator.Quorum} {
			pk := c.keyLostBy(0)
			c.everywhere(c.state)
			c.plant(0, c.put(c.wide, pk, "a", 1, "old"))
			asleep := func() {
				c.everywhere(ended)
				for n := range c.nodes {
					if c.isReplicaIn(ended.Placement("ks"), n, pk) {
						c.plant(n, c.put(c.wide, pk, "a", 2, "new"))
					}
				}
			}
			sleep.Store(&asleep)
			if got := c.mustRead(0, level, c.whole(c.wide, pk)); got != "a=new " {
				t.Errorf("%s: %q", level, got)
			}
		}
	})
}

// sleepsInRead is a store in whose reads a node falls asleep.
type sleepsInRead struct {
	coordinator.Storage
	sleep func()
}

func (s sleepsInRead) Read(cmd *row.Command, page *row.Page) (uint64, error) {
	seq, err := s.Storage.Read(cmd, page)
	s.sleep()
	return seq, err
}

func (c *cluster) isReplicaIn(p *ring.Placement, n int, pk []byte) bool {
	return slices.ContainsFunc(p.Replicas(tokenOf(pk)), func(i int32) bool { return p.Ring().Nodes()[i].ID == hostID(n) })
}

// keyLostBy returns the key of a partition that the node gives to the joining one, and keyLost that of one which any does.
func (c *cluster) keyLostBy(n int) []byte {
	for i := range 10000 {
		if pk := key(i); c.isReplicaIn(c.state.Before("ks"), n, pk) && !c.isReplicaIn(c.state.After("ks"), n, pk) {
			return pk
		}
	}
	c.t.Fatalf("node %d gives nothing away", n)
	return nil
}

func (c *cluster) keyLost() []byte { return c.keyJoining(1) }

// TestMovement_RetriesUntilTheDeadline: metadata that change again and again while a request is under way fail nothing: writes, reads,
// increments and conditional writes are planned anew as often as it takes.
func TestMovement_RetriesUntilTheDeadline(t *testing.T) {
	simulated(t, func(t *testing.T) {
		c := moving(t, nil)
		states := []*meta.State{c.alone, c.state}
		s := c.state
		for range 3 { // the node is given up and announced again
			s = c.apply(s, meta.Command{Kind: meta.AbortOperation, Operation: s.Operations[0].ID})
			m := *c.state.Node(hostID(3))
			m.ID[1], m.Since, m.Generation = m.ID[1]+byte(len(states)), 0, 0
			s = c.apply(s, meta.Command{Kind: meta.AddPending, Node: m})
			states = append(states, s)
		}
		pk := c.keyLostBy(1)
		for _, x := range []struct {
			name string
			verb rpc.Verb
			f    func() error
		}{
			{"write", coordinator.VerbMutate, func() error { return c.nodes[0].write(coordinator.Quorum, c.put(c.wide, pk, "a", 1, "x")) }},
			{"increment", coordinator.VerbMutate, func() error { return c.nodes[0].addTo(coordinator.Quorum, c.add(pk, "a", 1)) }},
			{"conditional write", coordinator.VerbPrepare, func() error { _, _, err := c.cas(0, pk, set("x", "x")); return err }},
		} {
			c.everywhere(c.alone)
			at := 0
			c.setFault(func(m message) action {
				if m.verb != x.verb || m.to != 1 && m.to != 2 {
					return action{}
				}
				if at < len(states)-1 && binary.BigEndian.Uint64(m.body[plannedAt(m.verb):]) == states[at].RingEpoch {
					at++
					for _, n := range c.nodes[1:] { // the sender learns of it by being refused
						n.state.Store(states[at])
					}
				}
				return action{delay: time.Millisecond}
			})
			err := x.f()
			c.mu.Lock()
			reached := at
			c.mu.Unlock()
			if err != nil || reached != len(states)-1 {
				t.Errorf("%s: after %d changes: %v", x.name, reached, err)
			}
			c.setFault(nil)
			time.Sleep(time.Second)
		}
	})
}

// TestMovement_StaleIsSentAgain: what a replica refused since it has newer metadata is sent again by those although the level was reached, to all
// replicas that there are by then; a commit too.
func TestMovement_StaleIsSentAgain(t *testing.T) {
	simulated(t, func(t *testing.T) {
		for _, x := range []struct {
			name string
			verb rpc.Verb
			f    func(c *cluster, pk []byte)
		}{
			{"write", coordinator.VerbMutate, func(c *cluster, pk []byte) { c.mustWrite(0, coordinator.One, c.put(c.plain, pk, "", 1, "x")) }},
			{"commit", coordinator.VerbCommit, func(c *cluster, pk []byte) { c.mustCAS(0, pk, "", "x") }},
		} {
			c := moving(t, func(o *coordinator.Options) { o.HintsOff = true })
			pk := c.keyJoining(1)
			c.setFault(func(m message) action {
				if m.verb == x.verb && m.to != 0 && m.from == 0 && c.nodes[m.to].state.Load() == c.alone {
					c.nodes[m.to].state.Store(c.state)
				}
				return action{}
			})
			x.f(c, pk)
			c.nodes[3].state.Store(c.state)
			eventually(t, x.name+": all have it", func() bool {
				for n := range c.nodes {
					if (c.isReplicaIn(c.state.Before("ks"), n, pk) || c.isReplicaIn(c.state.After("ks"), n, pk)) && c.has(n, c.plain, pk)+c.has(n, c.wide, pk) == "" {
						return false
					}
				}
				return true
			})
		}
	})
}

// TestMovement_ReadsWhileSwitched: once reads have moved, and until all have heard of it, reads ask both sides by the quota of writes. A value that a quorum of the
// old replicas has shown, although its write was never acknowledged, is not unread by a quorum of the new ones; in a partition, in a scan and in a serial read.
func TestMovement_ReadsWhileSwitched(t *testing.T) {
	simulated(t, func(t *testing.T) {
		c := moving(t, nil)
		pk := c.keyLostBy(0)
		var kept, other int // of the two that stay
		for n := 1; n < 3; n++ {
			kept, other = other, n
		}
		if !c.isReplicaIn(c.state.After("ks"), kept, pk) || !c.isReplicaIn(c.state.After("ks"), other, pk) {
			t.Fatal("node 0 is not the only one that gives it away")
		}
		switched := c.switched(c.state)
		for _, n := range []int{0, kept} {
			c.plant(n, c.put(c.wide, pk, "a", 1, "shown"))
		}
		slow := func(m message) action {
			if m.to == kept && m.verb == coordinator.VerbRead {
				return action{drop: true}
			}
			return action{}
		}
		c.everywhere(c.state)
		c.setFault(nil)
		if got := c.mustRead(0, coordinator.Quorum, c.whole(c.wide, pk)); got != "a=shown " || c.sent(coordinator.VerbRead) != 1 {
			t.Errorf("filling: %q, %d asked", got, c.sent(coordinator.VerbRead))
		}
		c.everywhere(switched)
		c.setFault(slow)
		if got, _ := c.scan(3, coordinator.Quorum, c.wide, 0, 0, 0); !strings.Contains(got, "a=shown") {
			t.Errorf("switched, a scan: %q", got)
		}
		if got := c.mustRead(3, coordinator.Quorum, c.whole(c.wide, pk)); got != "a=shown " {
			t.Errorf("switched: %q", got)
		}
		if got, err := c.serial(3, pk, coordinator.Serial); err != nil || got != "shown" {
			t.Errorf("switched, serial: %q %v", got, err)
		}
		have := 0
		for n := 1; n < 4; n++ {
			if c.has(n, c.wide, pk) != "" {
				have++
			}
		}
		if have < 2 {
			t.Errorf("%d of the new replicas have it", have)
		}
		c.everywhere(c.moved(c.state))
		c.setFault(nil)
		if got := c.mustRead(3, coordinator.Quorum, c.whole(c.wide, pk)); got != "a=shown " || c.sent(coordinator.VerbRead) > 2 {
			t.Errorf("ended: %q, %d asked", got, c.sent(coordinator.VerbRead))
		}
	})
}

// TestMovement_ScansWhileSwitched: a scan over ranges of both rings sees every partition once, whatever side it is on.
func TestMovement_ScansWhileSwitched(t *testing.T) {
	simulated(t, func(t *testing.T) {
		c := newCluster(t, layout{dcs: nodesIn("dc1", 5), joining: 2, vnodes: 4})
		c.everywhere(c.switched(c.state))
		for i := range 200 {
			c.mustWrite(i%5, coordinator.Quorum, c.put(c.wide, key(i), "a", 1, "x"))
		}
		for from := range c.nodes {
			for _, limit := range []int{0, 7} {
				got, _ := c.scan(from, coordinator.Quorum, c.wide, limit, 0, 0)
				if n := strings.Count(got, "a=x"); n != 200 {
					t.Errorf("from %d, pages of %d: %d partitions", from, limit, n)
				}
			}
		}
	})
}

// TestMovement_HintsBesideADeadNode: a hint of a range that moves goes to the live ones of both sides: a dead replica that is being replaced
// holds up none of them.
func TestMovement_HintsBesideADeadNode(t *testing.T) {
	simulated(t, func(t *testing.T) {
		c := newCluster(t, layout{dcs: nodesIn("dc1", 5), joining: 1})
		m := *c.state.Node(hostID(4))
		m.Replaces = hostID(3)
		c.everywhere(c.alone)
		c.setDown(3, true)
		replaced := c.apply(c.alone, meta.Command{Kind: meta.AddPending, Node: m})
		var pk []byte
		for i := 0; pk == nil; i++ {
			if k := key(i); c.isReplicaIn(c.alone.Before("ks"), 3, k) && c.isReplicaIn(c.alone.Before("ks"), 1, k) {
				pk = k
			}
		}
		c.setDown(1, true)
		c.mustWrite(0, coordinator.One, c.put(c.wide, pk, "a", 1, "x"))
		c.everywhere(replaced)
		c.setDown(1, false)
		eventually(t, "the live ones have it", func() bool { return c.has(1, c.wide, pk) == "a=x " && c.has(4, c.wide, pk) == "a=x " })
		eventually(t, "the hint goes", func() bool {
			n := int64(0)
			for _, o := range c.nodes {
				n += o.coord.Hints().PendingFor(hostID(1))
			}
			return n == 0
		})
	})
}

// TestMovement_Settled: what this node began under older metadata is waited for as long as it is under way, and no longer: a write and a read whose
// replicas are silent, and nothing that was begun since.
func TestMovement_Settled(t *testing.T) {
	simulated(t, func(t *testing.T) {
		c := moving(t, nil)
		n := c.nodes[0].coord
		pk := c.keyJoining(1)
		settled := func(epoch uint64) time.Duration {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			began := time.Now()
			if err := n.Settled(ctx, epoch); err != nil {
				t.Fatal(err)
			}
			return time.Since(began)
		}
		for _, x := range []struct {
			name string
			f    func() error
		}{
			{"write", func() error { return c.nodes[0].write(coordinator.One, c.put(c.wide, pk, "a", 1, "x")) }},
			{"read", func() error { _, err := c.nodes[0].read(coordinator.All, c.whole(c.wide, pk)); return err }},
			{"conditional write", func() error { _, _, err := c.cas(0, pk, set("x", "x")); return err }},
		} {
			c.everywhere(c.alone)
			if took := settled(c.state.RingEpoch); took > 10*time.Second {
				t.Errorf("%s: what was before took %s", x.name, took)
			}
			c.setFault(func(m message) action { return action{drop: m.from == 0} })
			done := make(chan error, 1)
			go func() { done <- x.f() }()
			time.Sleep(10 * time.Millisecond)
			c.everywhere(c.state)
			if took := settled(c.alone.RingEpoch); took > 0 {
				t.Errorf("%s: nothing is older, and it took %s", x.name, took)
			}
			if took := settled(c.state.RingEpoch); took < 500*time.Millisecond || took > 6*time.Second {
				t.Errorf("%s: it took %s until it had ended", x.name, took)
			}
			<-done
			c.setFault(nil)
			time.Sleep(10 * time.Second)
		}
	})
}

// TestMovement_ANodeThatLeavesKeepsNothing: it is asked to keep no batches while there are others, takes none once reads have moved, and gives its hints
// to others with the time of their writes, which bring them to their target when that is back.
func TestMovement_ANodeThatLeavesKeepsNothing(t *testing.T) {
	simulated(t, func(t *testing.T) {
		c := newCluster(t, layout{dcs: nodesIn("dc1", 5)})
		leaving := c.apply(c.state, meta.Command{Kind: meta.StartOperation, OperationKind: meta.Decommission, Node: meta.Node{ID: hostID(1)}})
		c.everywhere(leaving)
		for i := range 50 {
			if err := c.nodes[0].logged(coordinator.One, c.put(c.plain, key(2*i), "", 1, "y"), c.put(c.plain, key(2*i+1), "", 1, "z")); err != nil {
				t.Fatal(err)
			}
		}
		if slices.Contains(c.destinations(coordinator.VerbBatchStore), 1) {
			t.Error("a node that leaves keeps batches of others")
		}
		var pk []byte
		for i := 100; pk == nil; i++ {
			if k := key(i); c.isReplica(2, k) && !c.isReplicaIn(leaving.After("ks"), 1, k) && c.isReplicaIn(leaving.After("ks"), 2, k) {
				pk = k
			}
		}
		c.setDown(2, true)
		began := time.Now()
		c.mustWrite(1, coordinator.One, c.put(c.wide, pk, "a", 1, "x"))
		switched := c.switched(leaving)
		c.everywhere(switched)
		body := append(bytes.Repeat([]byte{1}, 28), 1)
		if status, _, err := c.call(message{from: 0, to: 1, verb: coordinator.VerbBatchStore, body: body}); err != nil || status != rpc.StatusNotReady {
			t.Errorf("a batch to keep after the switch: %s %v", status, err)
		}
		time.Sleep(time.Minute)
		if n := hintsOf(c.nodes[1]); n == 0 {
			t.Fatal("there is no hint to hand over")
		}
		if left, err := c.nodes[1].coord.HandOver(t.Context()); err != nil || left != 0 {
			t.Fatalf("%d hints are left: %v", left, err)
		}
		if n := c.nodes[1].entries(); n != 0 {
			t.Errorf("%d entries of the batchlog", n)
		}
		c.nodes[1].halt()
		c.everywhere(c.moved(leaving))
		time.Sleep(time.Minute) // it is replayed
		for i, n := range c.nodes {
			if i == 1 {
				continue
			}
			_ = engine{n.engine, n}.ScanHints(nil, nil, func(k, _ []byte) bool {
				if at := time.UnixMicro(int64(binary.BigEndian.Uint64(k[16:]))); at.Sub(began) > time.Second {
					t.Errorf("node %d keeps a hint of %s after the write", i, at.Sub(began))
				}
				return true
			})
		}
		c.setDownBut(1, 2, false)
		eventually(t, "its target has it", func() bool { return c.has(2, c.wide, pk) == "a=x " })
	})
}

// setDownBut is setDown while a node is halted.
func (c *cluster) setDownBut(halted, i int, down bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if down {
		c.down[hostID(i)] = time.Now()
		return
	}
	delete(c.down, hostID(i))
	for n, o := range c.nodes {
		if n != halted {
			o.coord.Hints().Nudge()
		}
	}
}
