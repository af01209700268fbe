package coordinator_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/helenusdb/helenus/coordinator"
	"github.com/helenusdb/helenus/coordinator/paxos"
	"github.com/helenusdb/helenus/meta"
	"github.com/helenusdb/helenus/ring"
	"github.com/helenusdb/helenus/row"
	"github.com/helenusdb/helenus/rpc"
	"github.com/helenusdb/helenus/schema"
)

// lose makes messages of some verbs to some nodes disappear.
func lose(verbs []rpc.Verb, to ...int) func(message) action {
	return func(m message) action {
		return action{drop: slices.Contains(verbs, m.verb) && slices.Contains(to, m.to)}
	}
}

var (
	commits    = []rpc.Verb{coordinator.VerbCommit}
	afterwards = []rpc.Verb{coordinator.VerbAccept, coordinator.VerbCommit}
)

// TestScenario_P1_WhatAReadDidNotSeeStaysAway: a proposal is accepted by the coordinator alone. A serial read, or a conditional
// write that does not apply, through the others says that it is not there; then it never is.
func TestScenario_P1_WhatAReadDidNotSeeStaysAway(t *testing.T) {
	for _, name := range []string{"serial read", "cas"} {
		t.Run(name, func(t *testing.T) {
			simulated(t, func(t *testing.T) {
				c := three(t)
				pk := key(1)
				c.setFault(lose(afterwards, 1, 2))
				var wt *coordinator.WriteTimeout
				if _, _, err := c.cas(0, pk, set("", "ghost")); !errors.As(err, &wt) || wt.Received != 1 {
					t.Fatalf("got %v", err)
				}
				c.setFault(nil)
				c.setDown(0, true)
				if name == "cas" {
					if applied, was, err := c.cas(1, pk, set("other", "x")); applied || was != "" || err != nil {
						t.Fatal(applied, was, err)
					}
				} else {
					c.mustSerial(1, pk, "")
				}
				c.setDown(0, false)
				for n := range c.nodes {
					c.mustSerial(n, pk, "")
				}
				c.setDown(2, true)
				c.mustSerial(0, pk, "")
				c.mustCAS(1, pk, "", "real")
			})
		})
	}
}

// TestScenario_P2_ACommitThatFewHave: of five replicas one has the commit, and one more the accepted value of the rest is gone
// from view: nobody reads stale.
func TestScenario_P2_ACommitThatFewHave(t *testing.T) {
	simulated(t, func(t *testing.T) {
		five := []schema.Pair{{Key: "class", Value: "SimpleStrategy"}, {Key: "replication_factor", Value: "5"}}
		c := newCluster(t, layout{dcs: nodesIn("dc1", 5), keyspace: five})
		pk := key(1)
		c.mustCAS(0, pk, "", "1")
		time.Sleep(time.Second)
		// The next one is decided by 0, 1 and 2 and committed by 0 alone.
		c.setFault(func(m message) action {
			return action{drop: m.verb == coordinator.VerbAccept && m.to > 2 || m.verb == coordinator.VerbCommit}
		})
		if applied, _, err := c.cas(0, pk, set("1", "2"), func(op *coordinator.CAS) { op.Commit = coordinator.One }); !applied || err != nil {
			t.Fatal(applied, err)
		}
		c.setFault(nil)
		c.setDown(0, true)
		c.setDown(1, true) // 2 has accepted it, 3 and 4 know nothing
		c.mustSerial(3, pk, "2")
		c.setDown(2, true)
		c.setDown(0, false)
		c.setDown(1, false)
		c.mustSerial(4, pk, "2")
		c.mustCAS(3, pk, "2", "3")
	})
}

// TestScenario_P3_JoiningReplicasVote: replicas that are joining count into the majority, however many: a majority of the old replicas and one of the
// new ones are in it whoever is missing.
func TestScenario_P3_JoiningReplicasVote(t *testing.T) {
	simulated(t, func(t *testing.T) {
		c := newCluster(t, layout{dcs: nodesIn("dc1", 4), joining: 1})
		pk := c.keyJoining(1)
		c.mustCAS(0, pk, "", "x")
		c.mustSerial(1, pk, "x")
		c.setDown(3, true)
		c.mustCAS(1, pk, "x", "y") // three of four
		c.setDown(2, true)
		var u *coordinator.Unavailable
		if _, _, err := c.cas(0, pk, set("y", "z")); !errors.As(err, &u) || u.Required != 3 || u.Alive != 2 {
			t.Errorf("got %v", err)
		}
		if _, err := c.serial(0, pk, coordinator.Serial); !errors.As(err, &u) || u.Required != 3 || u.Alive != 2 {
			t.Errorf("a serial read: %v", err)
		}
		more := newCluster(t, layout{dcs: nodesIn("dc1", 5), joining: 2})
		pk = more.keyJoining(2)
		more.mustCAS(0, pk, "", "x")
		more.setDown(3, true)
		more.mustCAS(1, pk, "x", "y") // four of five
		more.setDown(4, true)
		if _, _, err := more.cas(0, pk, set("y", "z")); !errors.As(err, &u) || u.Required != 4 || u.Alive != 3 {
			t.Errorf("two joining replicas are down: %v", err)
		}
	})
}

// keyJoining returns the key of a partition that so many of the joining nodes are becoming replicas of.
func (c *cluster) keyJoining(n int) []byte {
	now, then := c.state.Placement("ks"), c.state.OtherPlacement("ks")
	for i := range 10000 {
		joining := 0
		for _, r := range then.Replicas(tokenOf(key(i))) {
			id := then.Ring().Nodes()[r].ID
			if !slices.ContainsFunc(now.Replicas(tokenOf(key(i))), func(r int32) bool { return now.Ring().Nodes()[r].ID == id }) {
				joining++
			}
		}
		if joining == n {
			return key(i)
		}
	}
	c.t.Fatalf("no partition with %d joining replicas", n)
	return nil
}

// TestScenario_P4_OldElectorates: a coordinator with old metadata is refused before it has done anything, pulls the new ones and
// succeeds with those who vote now.
func TestScenario_P4_OldElectorates(t *testing.T) {
	simulated(t, func(t *testing.T) {
		c := newCluster(t, layout{dcs: nodesIn("dc1", 3)})
		pk := key(1)
		c.mustCAS(0, pk, "", "1")
		newer := c.withJoining(3)
		c.nodes[1].state.Store(newer)
		c.nodes[2].state.Store(newer)
		c.setFault(func(m message) action { return action{drop: m.to == 3} })
		c.mustCAS(0, pk, "1", "2")
		if got := c.nodes[0].state.Load().Epoch; got != newer.Epoch {
			t.Errorf("epoch %d, want %d", got, newer.Epoch)
		}
	})
}

// withJoining is the state with one more node, which nobody runs, that is becoming a replica.
func (c *cluster) withJoining(i int) *meta.State {
	m := meta.Node{ID: hostID(i), Internode: addrOf(i), Native: addrOf(i), DC: "dc1", Rack: "r1", Version: meta.Version}
	for j := range 64 {
		m.Tokens = append(m.Tokens, ring.Token(uint64(j)<<58+77))
	}
	slices.Sort(m.Tokens)
	return c.apply(c.state, meta.Command{Kind: meta.AddPending, Node: m})
}

// TestScenario_P4_FenceAfterTheWrite: metadata that change while an acceptor writes take its vote away.
func TestScenario_P4_FenceAfterTheWrite(t *testing.T) {
	simulated(t, func(t *testing.T) {
		var c *cluster
		turned := false
		c = newCluster(t, layout{dcs: nodesIn("dc1", 3), tune: func(o *coordinator.Options) {
			if o.Self == hostID(0) {
				return
			}
			o.Registers = fenced{o.Registers, func() {
				if c != nil && turned {
					c.nodes[int(o.Self[15])-1].state.Store(c.withJoining(3))
				}
			}}
		}})
		pk := key(1)
		turned = true
		c.setFault(func(m message) action { return action{drop: m.to == 3} })
		applied, _, err := c.cas(0, pk, set("", "x"))
		if err != nil || !applied { // with the electorate of the newer metadata
			t.Fatal(applied, err)
		}
		if got := c.nodes[0].state.Load().Epoch; got == c.state.Epoch {
			t.Error("promises that were overtaken by metadata counted")
		}
	})
}

// fenced does something whenever a batch was written, before it is told of.
type fenced struct {
	coordinator.Registers
	wrote func()
}

func (f fenced) NewRegisterBatch() coordinator.RegisterBatch {
	return fencedBatch{f.Registers.NewRegisterBatch(), f.wrote}
}

type fencedBatch struct {
	coordinator.RegisterBatch
	wrote func()
}

func (f fencedBatch) CommitSynced(c coordinator.Committed) {
	f.wrote()
	f.RegisterBatch.CommitSynced(c)
}

// TestScenario_P10_Timestamps: what conditional writes write has strictly rising timestamps, whoever makes them. Now and then a
// coordinator cannot know whether its proposal was finished by another one; the value is then somebody's or nobody's.
func TestScenario_P10_Timestamps(t *testing.T) {
	simulated(t, func(t *testing.T) {
		c := three(t)
		c.nodes[1].skew.Store(int64(5 * time.Second))
		c.nodes[2].skew.Store(-int64(5 * time.Second))
		pk := key(1)
		var mu sync.Mutex
		order := map[string]int64{}
		var clients sync.WaitGroup
		for i := range 9 {
			clients.Go(func() {
				for range 20 {
					var value string
					var ts int64
					applied, _, err := c.cas(i%3, pk, func(was string) string { value = add(was); return value }, func(op *coordinator.CAS) {
						inner := op.Decide
						op.Decide = func(p *row.Page, at, now int64) ([]row.Mutation, bool, error) { ts = at; return inner(p, at, now) }
					})
					var unknown *coordinator.CASWriteUnknown
					if errors.As(err, &unknown) {
						continue
					}
					if err != nil || !applied {
						t.Errorf("%v %v", applied, err)
						continue
					}
					mu.Lock()
					if order[value] != 0 {
						t.Errorf("%s was written twice", value)
					}
					order[value] = ts
					mu.Unlock()
				}
			})
		}
		clients.Wait()
		last := int64(0)
		for i := 1; i <= 9*20; i++ {
			if at := order[fmt.Sprint(i)]; at != 0 {
				if at <= last {
					t.Fatalf("%d has %d, one before it %d", i, at, last)
				}
				last = at
			}
		}
		if len(order) < 9*20*9/10 {
			t.Errorf("%d values are acknowledged", len(order))
		}
	})
}

// TestScenario_P11_Mixing: a conditional write is later than the plain write that it saw, also one of a clock that is ahead, and a
// plain write after it wins with clocks in step. What comes from the far future stays on top, as in Cassandra.
func TestScenario_P11_Mixing(t *testing.T) {
	simulated(t, func(t *testing.T) {
		c := three(t)
		pk := key(1)
		now := func(d time.Duration) int64 { return time.Now().Add(d).UnixMicro() }
		c.mustWrite(0, coordinator.Quorum, c.put(c.wide, pk, "a", now(5*time.Second), "plain"))
		c.mustCAS(1, pk, "plain", "cas")
		c.mustSerial(2, pk, "cas")
		time.Sleep(6 * time.Second)
		c.mustCAS(1, pk, "cas", "again")
		c.mustWrite(0, coordinator.Quorum, c.put(c.wide, pk, "a", now(0), "plain"))
		c.mustSerial(2, pk, "plain")
		c.mustWrite(0, coordinator.Quorum, c.put(c.wide, pk, "a", now(70*365*24*time.Hour), "future"))
		c.mustCAS(1, pk, "future", "lost")
		c.mustSerial(2, pk, "future")
		if n := c.nodes[1].coord.Metrics().CASShadowed.Load(); n != 1 {
			t.Errorf("%d shadowed", n)
		}
	})
}

// TestScenario_P12_ExactlyAQuorum: a majority is enough, and LOCAL_SERIAL asks and awaits nobody elsewhere.
func TestScenario_P12_ExactlyAQuorum(t *testing.T) {
	simulated(t, func(t *testing.T) {
		c := three(t)
		c.setDown(2, true)
		c.mustCAS(0, key(1), "", "x")
		c.mustSerial(1, key(1), "x")
		two := newCluster(t, layout{dcs: append(nodesIn("dc1", 3), nodesIn("dc2", 3)...), keyspace: []schema.Pair{
			{Key: "class", Value: "NetworkTopologyStrategy"}, {Key: "dc1", Value: "3"}, {Key: "dc2", Value: "3"}}})
		two.setFault(func(m message) action { return action{drop: m.to > 2} })
		local := func(op *coordinator.CAS) { op.Serial, op.Commit = coordinator.LocalSerial, coordinator.LocalQuorum }
		began := time.Now()
		if applied, _, err := two.cas(0, key(1), set("", "x"), local); !applied || err != nil {
			t.Fatal(applied, err)
		}
		if got, err := two.serial(1, key(1), coordinator.LocalSerial); got != "x" || err != nil {
			t.Fatal(got, err)
		}
		if d := time.Since(began); d > 100*time.Millisecond {
			t.Errorf("took %v", d)
		}
		two.mu.Lock()
		for _, m := range two.log {
			if m.to > 2 && m.verb != coordinator.VerbCommit {
				t.Errorf("verb %d went to the other data centre", m.verb)
			}
		}
		two.mu.Unlock()
		for i := 3; i < 6; i++ {
			two.setDown(i, true)
		}
		if applied, _, err := two.cas(0, key(1), set("x", "y"), local); !applied || err != nil {
			t.Error(applied, err)
		}
	})
}

// TestScenario_P13_ReadYourOwn: what a conditional write shows when it does not apply is the newest that was decided.
func TestScenario_P13_ReadYourOwn(t *testing.T) {
	simulated(t, func(t *testing.T) {
		c := three(t)
		pk := key(1)
		c.setFault(func(m message) action { // decided, and not yet applied elsewhere
			if m.verb == coordinator.VerbCommit {
				return action{delay: 100 * time.Millisecond}
			}
			return action{}
		})
		was := ""
		for i := range 10 {
			next := fmt.Sprint(i)
			if applied, _, err := c.cas(i%3, pk, set(was, next), func(op *coordinator.CAS) { op.Commit = coordinator.Any }); !applied || err != nil {
				t.Fatalf("%d: %v, %v", i, applied, err)
			}
			if applied, saw, err := c.cas((i+1)%3, pk, set("no", "x")); applied || saw != next || err != nil {
				t.Fatalf("%d: %v, saw %q, %v", i, applied, saw, err)
			}
			was = next
		}
	})
}

// TestScenario_P14_AcceptedSurvives: an acceptor loses power right after it has accepted; together with one that knows nothing it
// still finds the value. With a planted bug, a register that is not kept, the value is gone: the test would tell.
func TestScenario_P14_AcceptedSurvives(t *testing.T) {
	for _, planted := range []bool{false, true} {
		simulated(t, func(t *testing.T) {
			c := newCluster(t, layout{dcs: nodesIn("dc1", 3), fs: func(int) vfs.FS { return vfs.NewCrashableMem() }})
			pk := key(1)
			c.setFault(func(m message) action {
				return action{drop: m.verb == coordinator.VerbCommit || m.verb == coordinator.VerbAccept && m.to == 2}
			})
			if applied, _, err := c.cas(0, pk, set("", "x"), func(op *coordinator.CAS) { op.Commit = coordinator.Any }); !applied || err != nil {
				t.Fatal(applied, err)
			}
			c.nodes[1].crash()
			c.setFault(nil)
			c.setDown(0, true)
			if planted {
				b := c.nodes[1].engine.NewBatch()
				if err := b.DeleteRegister(c.wide.Generation, tokenOf(pk), pk); err != nil {
					t.Fatal(err)
				}
				if err := c.nodes[1].engine.CommitWait(context.Background(), b); err != nil {
					t.Fatal(err)
				}
			}
			got, err := c.serial(2, pk, coordinator.Serial)
			if err != nil || got == "x" == planted {
				t.Errorf("planted %v: %q, %v", planted, got, err)
			}
		})
	}
}

// TestScenario_P15_SuspectNodesAbstain: a node whose log lost its tail promises and accepts nothing and answers no serial read, and
// takes commits.
func TestScenario_P15_SuspectNodesAbstain(t *testing.T) {
	simulated(t, func(t *testing.T) {
		c := newCluster(t, layout{dcs: nodesIn("dc1", 3), tune: func(o *coordinator.Options) {
			if o.Self == hostID(1) {
				o.Registers = suspect{o.Registers}
			}
		}})
		pk := key(1)
		c.mustCAS(0, pk, "", "x")
		c.mustSerial(1, pk, "x") // as a coordinator it is fine
		time.Sleep(time.Second)
		if got := c.has(1, c.wide, pk); got != "a=x " {
			t.Errorf("it has %q", got)
		}
		c.setDown(2, true)
		applied, _, err := c.cas(0, pk, set("x", "y"))
		var wf *coordinator.WriteFailure
		if applied || !errors.As(err, &wf) {
			t.Errorf("with one that votes: %v, %v", applied, err)
		}
		c.setDown(2, false)
		c.mustSerial(2, pk, "x")
	})
}

// TestScenario_P15_StaleAcceptances: a proposal that one replica alone has accepted is dead, and forgotten by all. The end of that replica's log, which told of it, gets lost:
// it has accepted again what the others know nothing of. Before it votes it gives that up, or what a serial read has denied comes to life.
func TestScenario_P15_StaleAcceptances(t *testing.T) {
	for _, disowned := range []bool{true, false} {
		simulated(t, func(t *testing.T) {
			c := newCluster(t, layout{dcs: nodesIn("dc1", 3), tune: func(o *coordinator.Options) {
				o.PaxosGrace, o.PaxosSweep, o.CASTimeout = time.Minute, 10*time.Second, 100*time.Millisecond
			}})
			pk := key(1)
			c.setFault(lose(afterwards, 0, 2))
			if _, _, err := c.cas(1, pk, set("", "ghost")); err == nil {
				t.Fatal("decided")
			}
			e := c.nodes[1].engine
			var stale [2][]byte // head, and what is accepted
			for i := range stale {
				v, ok, _, err := e.Register(c.wide.Generation, tokenOf(pk), pk, byte(1+i))
				if err != nil || !ok {
					t.Fatal(ok, err)
				}
				stale[i] = bytes.Clone(v)
			}
			c.setFault(nil)
			c.setDown(1, true)
			c.mustSerial(0, pk, "")
			c.setDown(1, false)
			time.Sleep(5 * time.Minute)
			if n := c.registers(0) + c.registers(1) + c.registers(2); n != 0 {
				t.Fatalf("%d have not forgotten it", n)
			}
			b := e.NewBatch()
			for i, v := range stale {
				if err := b.SetRegister(c.wide.Generation, tokenOf(pk), pk, byte(1+i), v); err != nil {
					t.Fatal(err)
				}
			}
			if err := e.CommitWait(context.Background(), b); err != nil {
				t.Fatal(err)
			}
			co := c.nodes[1].coord
			full := ring.Interval{First: ring.MinToken, Last: ring.MaxToken}
			if err := co.Disown(context.Background(), c.wide.Generation, full, disowned); err != nil { // it is of SERIAL: local makes no difference
				t.Fatal(err)
			}
			_, head := c.register(1, pk)
			if !head.Accepted.Ballot.IsZero() || head.Promised.IsZero() {
				t.Errorf("%+v", head)
			}
			if !disowned {
				b := e.NewBatch()
				if err := b.SetRegister(c.wide.Generation, tokenOf(pk), pk, 1, stale[0]); err != nil {
					t.Fatal(err)
				}
				if err := e.CommitWait(context.Background(), b); err != nil {
					t.Fatal(err)
				}
			}
			c.setDown(2, true)
			got, err := c.serial(0, pk, coordinator.Serial)
			if err != nil || got == "" != disowned {
				t.Errorf("disowned %v: %q, %v", disowned, got, err)
			}
		})
	}
}

// TestDisownKeepsWhatNobodyElseVotedOn: what was proposed at LOCAL_SERIAL stays where this data centre has no other replica.
func TestDisownKeepsWhatNobodyElseVotedOn(t *testing.T) {
	simulated(t, func(t *testing.T) {
		c := three(t)
		pk := key(1)
		c.setFault(lose(afterwards, 0, 2))
		if _, _, err := c.cas(1, pk, set("", "x"), func(op *coordinator.CAS) { op.Serial = coordinator.LocalSerial }); err == nil {
			t.Fatal("decided")
		}
		for _, local := range []bool{false, true} {
			if err := c.nodes[1].coord.Disown(t.Context(), c.wide.Generation, ring.Interval{First: ring.MinToken, Last: ring.MaxToken}, local); err != nil {
				t.Fatal(err)
			}
			if _, head := c.register(1, pk); head.Accepted.Ballot.IsZero() != local {
				t.Errorf("local %v: %+v", local, head)
			}
		}
	})
}

type suspect struct{ coordinator.Registers }

func (suspect) Suspect() bool { return true }

// TestScenario_P17_Purge: registers that nobody uses are finished and forgotten by all replicas, and a ballot of the time before is
// refused for ever, also after a restart. DROP removes them at once.
func TestScenario_P17_Purge(t *testing.T) {
	simulated(t, func(t *testing.T) {
		c := newCluster(t, layout{dcs: nodesIn("dc1", 3), tune: func(o *coordinator.Options) {
			o.PaxosGrace, o.PaxosSweep, o.CASTimeout = time.Minute, 10*time.Second, 100*time.Millisecond
		}})
		for i := range 20 {
			c.mustCAS(i%3, key(i), "", "x")
		}
		old := paxos.Ballot{Micros: time.Now().UnixMicro(), ID: 1}
		c.setFault(lose(afterwards, 1, 2)) // one stays unfinished
		if _, _, err := c.cas(0, key(0), set("x", "y")); err == nil {
			t.Error("decided")
		}
		c.setFault(nil)
		c.setDown(2, true) // nothing is forgotten while somebody may lack a commit
		c.mustCAS(0, key(1), "x", "z")
		time.Sleep(80 * time.Second)
		if n := c.registers(0); n < 20 {
			t.Errorf("%d registers, with a replica down", n)
		}
		c.setDown(2, false)
		time.Sleep(5 * time.Minute)
		for n := range c.nodes {
			if k := c.registers(n); k != 0 {
				t.Errorf("node %d has %d registers", n, k)
			}
			if low := (engine{c.nodes[n].engine, c.nodes[n]}).lowBound(); low < old.Micros || low > time.Now().UnixMicro() {
				t.Errorf("node %d: low bound %d", n, low)
			}
		}
		got, err := c.serial(1, key(0), coordinator.Serial)
		if err != nil || got != "x" && got != "y" {
			t.Errorf("%q, %v", got, err)
		}
		c.mustSerial(2, key(1), "z")
		for n := range c.nodes {
			c.nodes[n].halt()
			c.nodes[n].start()
		}
		for n := range c.nodes {
			c.nodes[n].connect()
		}
		late := c.wide.Generation
		stale := &coordinator.CAS{Command: c.pointRead(c.wide, key(5)), Serial: coordinator.Serial, Commit: coordinator.Quorum,
			Decide: func(*row.Page, int64, int64) ([]row.Mutation, bool, error) { return nil, false, nil }}
		c.nodes[0].skew.Store(-int64(time.Hour)) // its ballots are those of the purged era until it is told
		if _, err := c.nodes[0].coord.CAS(context.Background(), stale); err != nil {
			t.Error(err)
		}
		if n := c.nodes[0].coord.Metrics().CASContention.Load(); n == 0 {
			t.Error("a ballot of the purged era was taken")
		}
		for n := range c.nodes {
			if err := c.nodes[n].engine.DropGeneration(late); err != nil {
				t.Fatal(err)
			}
			if k := c.registers(n); k != 0 {
				t.Errorf("node %d has %d registers of a dropped table", n, k)
			}
		}
	})
}

// TestScenario_P17_TheLowBoundNeverFalls: registers that are forgotten at the same time leave the larger bound, whichever is written last.
func TestScenario_P17_TheLowBoundNeverFalls(t *testing.T) {
	simulated(t, func(t *testing.T) {
		slow := new(atomic.Bool) // the first bound comes late
		c := newCluster(t, layout{dcs: nodesIn("dc1", 3), tune: func(o *coordinator.Options) {
			if o.Self == hostID(0) {
				o.Registers = slowBounds{o.Registers, slow}
			}
		}})
		var promised [2]int64
		var bodies [2][]byte
		for i := range promised {
			c.mustCAS(0, key(i), "", "x")
			time.Sleep(time.Second)
			at, head := c.register(0, key(i))
			promised[i], bodies[i] = head.Promised.Micros, coordinator.ForgetBody(c.state.RingEpoch, at, head.Committed.Ballot)
		}
		slow.Store(true)
		var wg sync.WaitGroup
		for i := range bodies {
			wg.Go(func() {
				if _, _, err := c.nodes[1+i].rpc.Call(t.Context(), c.nodes[0].id, rpc.Data, coordinator.VerbForget, bodies[i]); err != nil {
					t.Error(err)
				}
			})
			time.Sleep(time.Millisecond)
		}
		wg.Wait()
		if n := c.registers(0); n != 0 {
			t.Errorf("%d registers are left", n)
		}
		if low := (engine{c.nodes[0].engine, c.nodes[0]}).lowBound(); promised[0] >= promised[1] || low != promised[1] {
			t.Errorf("low bound %d, forgotten %d", low, promised)
		}
	})
}

// slowBounds holds the first low bound up.
type slowBounds struct {
	coordinator.Registers
	once *atomic.Bool
}

func (s slowBounds) NewRegisterBatch() coordinator.RegisterBatch {
	return slowBound{s.Registers.NewRegisterBatch(), s.once}
}

type slowBound struct {
	coordinator.RegisterBatch
	once *atomic.Bool
}

func (s slowBound) SetLowBound(micros int64) error {
	if s.once.CompareAndSwap(true, false) {
		time.Sleep(100 * time.Millisecond)
	}
	return s.RegisterBatch.SetLowBound(micros)
}

// register returns a partition's register.
func (c *cluster) register(n int, pk []byte) (at coordinator.Register, head paxos.State) {
	found := false
	_, err := engine{c.nodes[n].engine, c.nodes[n]}.ScanRegisters(nil, 1, func(r coordinator.Register, value []byte) bool {
		if !bytes.Equal(r.Key, pk) {
			return true
		}
		r.Key, found = bytes.Clone(r.Key), true
		at = r
		var err error
		if head, err = paxos.DecodeHead(value); err != nil {
			c.t.Error(err)
		}
		return false
	})
	if err != nil || !found {
		c.t.Fatal(err, found)
	}
	return at, head
}

func (c *cluster) registers(n int) (count int) {
	_, err := engine{c.nodes[n].engine, c.nodes[n]}.ScanRegisters(nil, 1, func(coordinator.Register, []byte) bool { count++; return true })
	if err != nil {
		c.t.Fatal(err)
	}
	return count
}

// TestScenario_P18_AClockThatIsAhead: a proposer whose clock is 5 s ahead starves nobody; one that is minutes ahead is refused.
func TestScenario_P18_AClockThatIsAhead(t *testing.T) {
	simulated(t, func(t *testing.T) {
		c := three(t)
		c.nodes[0].skew.Store(int64(5 * time.Second))
		pk := key(1)
		var clients sync.WaitGroup
		var unknown atomic.Int64
		for i := range 3 {
			clients.Go(func() {
				for range 50 {
					began := time.Now()
					var open *coordinator.CASWriteUnknown
					if applied, _, err := c.cas(i, pk, add); errors.As(err, &open) {
						unknown.Add(1) // another coordinator may have finished it
					} else if !applied || err != nil {
						t.Errorf("node %d: %v, %v", i, applied, err)
					}
					if d := time.Since(began); d > 500*time.Millisecond {
						t.Errorf("node %d waited for %v", i, d)
					}
				}
			})
		}
		clients.Wait()
		sum, err := c.serial(1, pk, coordinator.Serial)
		if n, _ := strconv.ParseInt(sum, 10, 64); err != nil || n > 150 || n < 150-unknown.Load() || unknown.Load() > 15 {
			t.Fatalf("%q, %v with %d unknown", sum, err, unknown.Load())
		}
		c.nodes[0].skew.Store(int64(5 * time.Minute))
		var wf *coordinator.WriteFailure
		if applied, _, err := c.cas(0, pk, add); applied || !errors.As(err, &wf) {
			t.Errorf("five minutes ahead: %v, %v", applied, err)
		}
		c.mustCAS(1, pk, sum, "ok")
	})
}

// TestScenario_W_SuspectOwnsUp and K: a register whose promise is ahead of all clocks, because clocks were, is not locked.
func TestScenario_K1_PromisesFromWrongClocks(t *testing.T) {
	simulated(t, func(t *testing.T) {
		c := three(t)
		pk := key(1)
		for _, n := range c.nodes {
			n.skew.Store(int64(24 * time.Hour))
		}
		c.mustCAS(0, pk, "", "1")
		for _, n := range c.nodes {
			n.skew.Store(0)
		}
		c.mustCAS(1, pk, "1", "2")
		c.mustCAS(0, pk, "2", "3")
		c.mustSerial(2, pk, "3")
	})
}

// TestInterruptedCommitIsFinished: decided, and the coordinator died before anybody else had the commit: the next reader or writer
// finishes it, and plain reads see it then.
func TestInterruptedCommitIsFinished(t *testing.T) {
	simulated(t, func(t *testing.T) {
		c := three(t)
		pk := key(1)
		c.setFault(lose(commits, 1, 2))
		if applied, _, err := c.cas(0, pk, set("", "x"), func(op *coordinator.CAS) { op.Commit = coordinator.Any }); !applied || err != nil {
			t.Fatal(applied, err)
		}
		c.setFault(nil)
		c.setDown(0, true)
		c.mustSerial(1, pk, "x")
		if got := c.mustRead(2, coordinator.Quorum, c.pointRead(c.wide, pk)); got != "a=x " {
			t.Errorf("plain: %q", got)
		}
		if n := c.nodes[1].coord.Metrics().CASUnfinished.Load(); n == 0 {
			t.Error("nothing was finished")
		}
	})
}
