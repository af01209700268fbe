package coordinator_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/helenusdb/helenus/coordinator"
	"github.com/helenusdb/helenus/coordinator/batchlog"
	"github.com/helenusdb/helenus/meta"
	"github.com/helenusdb/helenus/row"
	"github.com/helenusdb/helenus/rpc"
	"github.com/helenusdb/helenus/schema"
)

// racked is a cluster of as many nodes in each of three racks, on disks that can crash.
func racked(t testing.TB, perRack, rf int, tune func(*coordinator.Options)) *cluster {
	lay := layout{keyspace: []schema.Pair{{Key: "class", Value: "SimpleStrategy"}, {Key: "replication_factor", Value: fmt.Sprint(rf)}}, tune: tune,
		fs: func(int) vfs.FS { return vfs.NewCrashableMem() }}
	for i := range 3 * perRack {
		lay.dcs = append(lay.dcs, "dc1")
		lay.racks = append(lay.racks, fmt.Sprint("r", i%3))
	}
	return newCluster(t, lay)
}

// batchOf is a batch over n partitions of two tables, with one timestamp.
func (c *cluster) batchOf(n int, ts int64) (ms []row.Mutation) {
	for i := range n {
		ms = append(ms, c.put(c.wide, key(i), "a", ts, "x"))
		if i%3 == 0 {
			ms = append(ms, c.put(c.plain, key(i), "", ts, "y"))
		}
	}
	return ms
}

func (n *node) logged(level coordinator.Level, ms ...row.Mutation) error {
	return n.coord.WriteSync(context.Background(), &coordinator.Write{Mutations: ms, Level: level, Type: coordinator.LoggedBatch})
}

// present counts the partitions of a batch that a read at ALL finds, and how many there are.
func (c *cluster) present(n, from int) (found, all int) {
	c.t.Helper()
	for i := range n {
		all++
		if c.mustRead(from, coordinator.All, c.whole(c.wide, key(i))) != "" {
			found++
		}
		if i%3 == 0 {
			all++
			if c.mustRead(from, coordinator.All, c.whole(c.plain, key(i))) != "" {
				found++
			}
		}
	}
	return found, all
}

// entries counts what a node keeps in its batchlog.
func (n *node) entries() (count int) {
	n.c.t.Helper()
	if err := (engine{n.engine, n}).ScanBatchlog(nil, nil, func(_, _ []byte) bool { count++; return true }); err != nil {
		n.c.t.Fatal(err)
	}
	return count
}

func (c *cluster) allEntries() (count int) {
	for _, n := range c.nodes {
		count += n.entries()
	}
	return count
}

// crash is the end of a node without warning: what it has not synced is lost, nothing of it is sent or received any more.
// It returns what brings the node back. It is called under c.mu, within a fault.
func (c *cluster) crash(i int, random *rand.Rand) (again func()) {
	n := c.nodes[i]
	c.down[n.id] = time.Now()
	left := n.fs.(*vfs.MemFS).CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: random.IntN(2) * 50, RNG: random})
	return func() {
		n.halt()
		n.fs = left
		n.start()
		n.connect()
		c.setDown(i, false)
	}
}

// destinations are the nodes that were sent a verb.
func (c *cluster) destinations(verb rpc.Verb) (out []int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, m := range c.log {
		if m.verb == verb {
			out = append(out, m.to)
		}
	}
	slices.Sort(out)
	return out
}

// TestLoggedBatch: it is stored on two nodes in two other racks, made, and removed; nothing stays behind.
func TestLoggedBatch(t *testing.T) {
	simulated(t, func(t *testing.T) {
		c := racked(t, 2, 3, nil)
		for from, n := range c.nodes {
			c.setFault(nil)
			if err := n.logged(coordinator.Quorum, c.batchOf(20, int64(from+1))...); err != nil {
				t.Fatal(err)
			}
			stored, m := c.destinations(coordinator.VerbBatchStore), n.coord.Batchlog().Metrics()
			if len(stored) != 2 || stored[0]%3 == from%3 || stored[1]%3 == from%3 || stored[0]%3 == stored[1]%3 || m.Logged.Load() != 1 {
				t.Errorf("node %d: stored at %v, logged %d", from, stored, m.Logged.Load())
			}
			time.Sleep(time.Second)
			if removed := c.destinations(coordinator.VerbBatchRemove); !slices.Equal(removed, stored) || c.allEntries() != 0 {
				t.Errorf("removed at %v, %d entries stay", removed, c.allEntries())
			}
			if found, all := c.present(20, (from+1)%6); found != all {
				t.Errorf("%d of %d partitions", found, all)
			}
			if n.coord.InFlight() != 0 {
				t.Errorf("%d in flight", n.coord.InFlight())
			}
		}
		time.Sleep(10 * time.Second)
		for i, n := range c.nodes {
			if m := n.coord.Batchlog().Metrics(); m.Replayed.Load()+m.Dropped.Load()+m.Pending.Load() != 0 {
				t.Errorf("node %d replayed %d, dropped %d", i, m.Replayed.Load(), m.Dropped.Load())
			}
		}
	})
}

// TestUnloggedGoPastTheLog: batches of one partition, unlogged ones and single writes are as they were.
func TestUnloggedGoPastTheLog(t *testing.T) {
	simulated(t, func(t *testing.T) {
		c := racked(t, 1, 3, nil)
		c.setFault(nil)
		one := []row.Mutation{c.put(c.wide, key(1), "a", 1, "x"), c.put(c.plain, key(1), "", 1, "x")}
		if err := c.nodes[0].logged(coordinator.Quorum, one...); err != nil {
			t.Fatal(err)
		}
		w := &coordinator.Write{Mutations: c.batchOf(5, 1), Level: coordinator.Quorum, Type: coordinator.UnloggedBatch}
		if err := c.nodes[0].coord.WriteSync(context.Background(), w); err != nil {
			t.Fatal(err)
		}
		if n := c.sent(coordinator.VerbBatchStore) + c.sent(coordinator.VerbBatchRemove); n != 0 {
			t.Errorf("%d messages of the batchlog", n)
		}
	})
}

// TestScenario_B2_CoordinatorCrashes at every step, and the keepers with it in every second round: the batch is there
// whole or not at all, whole if it was acknowledged, and nothing stays in the batchlog.
func TestScenario_B2_CoordinatorCrashes(t *testing.T) {
	steps := []struct {
		name  string
		verb  rpc.Verb
		after int // so many messages of the verb have left
		want  string
	}{
		{"before the log", coordinator.VerbBatchStore, 0, "nothing"},
		{"one keeper has it", coordinator.VerbBatchStore, 1, "whole"},
		{"after the log", coordinator.VerbMutate, 0, "whole"},
		{"after the first mutation", coordinator.VerbMutate, 1, "whole"},
		{"half way through the mutations", coordinator.VerbMutate, 20, "whole"},
		{"before the removal", coordinator.VerbBatchRemove, 0, "whole"},
		{"half way through the removal", coordinator.VerbBatchRemove, 1, "whole"},
		{"after all", 0, 1 << 30, "whole"},
	}
	for i, s := range steps {
		for _, level := range []coordinator.Level{coordinator.One, coordinator.Quorum} {
			for _, keepers := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s/%s/keepers %t", s.name, level, keepers), func(t *testing.T) {
					simulated(t, func(t *testing.T) { crashAt(t, s.verb, s.after, s.want, level, keepers, uint64(i)) })
				})
			}
		}
	}
}

func crashAt(t *testing.T, verb rpc.Verb, after int, want string, level coordinator.Level, keepersToo bool, seed uint64) {
	random := rand.New(rand.NewPCG(seed, 9))
	c := racked(t, 2, 3, func(o *coordinator.Options) { o.Seed = seed })
	var again []func()
	var keepers []int
	sent := 0
	c.setFault(func(m message) action {
		if m.from != 0 {
			return action{}
		}
		if m.verb == coordinator.VerbBatchStore {
			keepers = append(keepers, m.to)
		}
		if m.verb != verb {
			return action{}
		}
		if sent++; sent <= after {
			return action{}
		}
		again = append(again, c.crash(0, random))
		if keepersToo {
			for _, k := range keepers {
				if _, down := c.down[hostID(k)]; !down {
					again = append(again, c.crash(k, random))
				}
			}
		}
		return action{drop: true}
	})
	err := c.nodes[0].logged(level, c.batchOf(20, 1)...)
	if verb == 0 { // right after the answer
		c.mu.Lock()
		again = append(again, c.crash(0, random))
		for _, k := range keepers {
			again = append(again, c.crash(k, random))
		}
		c.mu.Unlock()
	}
	time.Sleep(time.Second)
	c.setFault(nil)
	if len(again) == 0 {
		t.Fatal("nothing crashed")
	}
	for _, a := range again {
		a()
	}
	time.Sleep(20 * time.Second)
	found, all := c.present(20, 1)
	if want == "whole" && !(keepersToo && verb == coordinator.VerbBatchStore) && found != all || found != 0 && found != all {
		t.Errorf("%d of %d partitions", found, all)
	}
	if want == "nothing" && found != 0 {
		t.Errorf("%d partitions of a batch that was never logged", found)
	}
	if err == nil && found != all {
		t.Errorf("acknowledged, and %d of %d partitions are there", found, all)
	}
	if n := c.allEntries(); n != 0 {
		t.Errorf("%d entries stay in the batchlog", n)
	}
}

// store has a node keep a batch, as a coordinator would that is not heard of again.
func (c *cluster) store(at int, began time.Time, ms ...row.Mutation) batchlog.ID {
	c.t.Helper()
	id := batchlog.NewID(began, hostID(at+1), 1)
	body := slices.Clone(id[:])
	for i := range ms {
		body = ms[i].Append(body)
	}
	from := c.nodes[(at+1)%len(c.nodes)]
	if _, status, err := from.rpc.Call(context.Background(), hostID(at), rpc.Data, coordinator.VerbBatchStore, body); err != nil || status != rpc.StatusOK {
		c.t.Fatalf("store: %s %v", status, err)
	}
	return id
}

// everywhere gives all nodes a state.
func (c *cluster) everywhere(s *meta.State) {
	for _, n := range c.nodes {
		n.state.Store(s)
	}
}

func (c *cluster) dropPlain(s *meta.State) *meta.State {
	return c.ddl(s, func(k *schema.Catalog) (schema.Plan, error) {
		return k.DropTable(schema.DropTable{Keyspace: "ks", Name: "plain"}, schema.Env{Now: time.Now})
	})
}

// TestScenario_B1_DroppedTables: what is left of a batch is replayed without them, a batch of nothing else is dropped, and
// neither blocks.
func TestScenario_B1_DroppedTables(t *testing.T) {
	simulated(t, func(t *testing.T) {
		c := racked(t, 1, 3, nil)
		c.store(0, time.Now(), c.put(c.plain, key(1), "", 1, "y"), c.put(c.wide, key(1), "a", 1, "x"), c.put(c.plain, key(2), "", 1, "y"), c.put(c.wide, key(2), "a", 1, "x"))
		c.store(1, time.Now(), c.put(c.plain, key(3), "", 1, "y"), c.put(c.plain, key(4), "", 1, "y"))
		c.everywhere(c.dropPlain(c.state))
		for _, n := range c.nodes {
			if err := n.engine.DropGeneration(c.plain.Generation); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(8 * time.Second)
		a, b := c.nodes[0].coord.Batchlog().Metrics(), c.nodes[1].coord.Batchlog().Metrics()
		if a.Replayed.Load() != 1 || a.Dropped.Load() != 0 || b.Replayed.Load() != 0 || b.Dropped.Load() != 1 || c.allEntries() != 0 {
			t.Errorf("replayed %d and %d, dropped %d and %d, %d entries", a.Replayed.Load(), b.Replayed.Load(), a.Dropped.Load(), b.Dropped.Load(), c.allEntries())
		}
		for i := range c.nodes {
			for k := 1; k <= 2; k++ {
				if got := c.has(i, c.wide, key(k)); got != "a=x " {
					t.Errorf("node %d, partition %d: %q", i, k, got)
				}
			}
		}
	})
}

// TestScenario_B1_UnheardTables: a table that its keeper has not heard of yet is no dropped one.
func TestScenario_B1_UnheardTables(t *testing.T) {
	simulated(t, func(t *testing.T) {
		c := racked(t, 1, 3, nil)
		env := schema.Env{NewID: func() schema.ID { return schema.ID{7, 7} }, Now: time.Now}
		blob := schema.TypeSpec{Name: "blob"}
		s := c.ddl(c.state, func(k *schema.Catalog) (schema.Plan, error) {
			return k.CreateTable(schema.CreateTable{Keyspace: "ks", Name: "late", PartitionKey: []string{"pk"}, Columns: []schema.ColumnSpec{{Name: "pk", Type: blob}, {Name: "v", Type: blob}}}, env)
		})
		late, _ := s.Catalog.Table("ks", "late")
		c.nodes[1].state.Store(s)
		c.nodes[2].state.Store(s)
		c.store(0, time.Now(), c.put(late, key(1), "", 1, "y"), c.put(c.wide, key(1), "a", 1, "x"))
		time.Sleep(8 * time.Second)
		if m := c.nodes[0].coord.Batchlog().Metrics(); m.Stuck.Load() != 1 || m.Dropped.Load() != 0 || c.nodes[0].entries() != 1 {
			t.Fatalf("stuck %d, dropped %d", m.Stuck.Load(), m.Dropped.Load())
		}
		c.nodes[0].state.Store(s)
		eventually(t, "replayed", func() bool { return c.nodes[0].entries() == 0 })
		for i := range c.nodes {
			if a, b := c.has(i, c.wide, key(1)), c.has(i, late, key(1)); a != "a=x " || b != "=y " {
				t.Errorf("node %d: %q %q", i, a, b)
			}
		}
	})
}

// TestScenario_B1_NodeLeavesDuringReplay: those that own the data now get it, and the entry does not wait for the one that is gone.
func TestScenario_B1_NodeLeavesDuringReplay(t *testing.T) {
	simulated(t, func(t *testing.T) {
		c := newCluster(t, layout{dcs: nodesIn("dc1", 4), tune: func(o *coordinator.Options) { o.HintsOff = true }})
		c.setDown(3, true)
		c.store(0, time.Now(), c.batchOf(20, 1)...)
		time.Sleep(8 * time.Second)
		if m := c.nodes[0].coord.Batchlog().Metrics(); m.Stuck.Load() != 1 {
			t.Fatalf("stuck %d: a replica is down, and no hints are kept", m.Stuck.Load())
		}
		s := c.apply(c.state, meta.Command{Kind: meta.RemoveNode, Node: *c.state.Node(hostID(3))})
		c.state = s
		c.everywhere(s)
		eventually(t, "replayed", func() bool { return c.nodes[0].entries() == 0 })
		for i := range 20 {
			for n := range 3 {
				if got := c.has(n, c.wide, key(i)); got != "a=x " {
					t.Errorf("node %d, partition %d: %q", n, i, got)
				}
			}
		}
	})
}

// TestScenario_B3_RemovedOnlyIfCreated: when one of the keepers does not take the batch nothing is sent to the replicas and
// nothing removed; the other keeper's entry decides, whole.
func TestScenario_B3_RemovedOnlyIfCreated(t *testing.T) {
	for _, x := range []struct {
		name     string
		one      action
		both     bool
		failure  bool
		received int
		whole    bool
	}{
		{"one refuses", action{refuse: rpc.StatusFailed}, false, false, 1, true},
		{"one does not answer", action{drop: true}, false, false, 1, true},
		{"one's answer is lost", action{dropReply: true}, false, false, 1, true},
		{"both refuse", action{refuse: rpc.StatusOverloaded}, true, false, 0, false},
		{"both refuse it for good", action{refuse: rpc.StatusBadRequest}, true, true, 0, false},
		{"both cannot say whether it is durable", action{refuse: rpc.StatusFailed}, true, false, 0, false},
		{"both cannot be reached", action{unsent: true}, true, false, 0, false},
		{"both are silent", action{drop: true}, true, false, 0, false},
		{"both answers are lost", action{dropReply: true}, true, false, 0, true},
	} {
		t.Run(x.name, func(t *testing.T) {
			simulated(t, func(t *testing.T) {
				c := racked(t, 1, 3, nil)
				c.setFault(func(m message) action {
					if m.verb == coordinator.VerbBatchStore && (x.both || m.to == 1) {
						return x.one
					}
					return action{}
				})
				began := time.Now()
				err := c.nodes[0].logged(coordinator.Quorum, c.batchOf(10, 1)...)
				var timeout *coordinator.WriteTimeout
				var failure *coordinator.WriteFailure
				switch {
				case x.failure && (!errors.As(err, &failure) || failure.Type != coordinator.BatchLog || failure.Level != coordinator.Two || failure.BlockFor != 2 ||
					failure.Received != 0 || len(failure.Failures) != 2):
					t.Errorf("%v %+v", err, failure)
				case !x.failure && (!errors.As(err, &timeout) || timeout.Type != coordinator.BatchLog || timeout.Level != coordinator.Two || timeout.BlockFor != 2 ||
					timeout.Received != x.received):
					t.Errorf("%v %+v", err, timeout)
				}
				if took := time.Since(began); took > 2*time.Second+100*time.Millisecond {
					t.Errorf("it took %s", took)
				}
				if n := c.sent(coordinator.VerbMutate) + c.sent(coordinator.VerbBatchRemove); n != 0 {
					t.Errorf("%d messages to replicas or of removal", n)
				}
				c.setFault(nil)
				time.Sleep(10 * time.Second)
				if found, all := c.present(10, 2); found != 0 && !x.whole || found != all && x.whole || c.allEntries() != 0 {
					t.Errorf("%d of %d partitions, %d entries", found, all, c.allEntries())
				}
			})
		})
	}
}

// TestAKeeperThatCannotBeReached, and is not yet believed to be down, is replaced, by one of a rack that has none yet, or
// done without when there is no other.
func TestAKeeperThatCannotBeReached(t *testing.T) {
	for _, perRack := range []int{1, 2} {
		for _, a := range []action{{unsent: true}, {refuse: rpc.StatusNotReady}} {
			simulated(t, func(t *testing.T) {
				c := racked(t, perRack, 3, nil)
				for round := range 20 {
					c.setFault(func(m message) action {
						if m.to == 1 {
							return a
						}
						return action{}
					})
					began := time.Now()
					if err := c.nodes[0].logged(coordinator.Quorum, c.batchOf(5, int64(round))...); err != nil {
						t.Fatal(err)
					}
					if took := time.Since(began); took > time.Second {
						t.Errorf("it took %s", took)
					}
					stored := slices.DeleteFunc(c.destinations(coordinator.VerbBatchStore), func(to int) bool { return to == 1 })
					if want := perRack; len(stored) != want || want == 2 && stored[0]%3 == stored[1]%3 {
						t.Errorf("stored at %v", stored)
					}
					time.Sleep(100 * time.Millisecond)
					if removed := c.destinations(coordinator.VerbBatchRemove); !slices.Equal(removed, stored) {
						t.Errorf("stored at %v, removed at %v", stored, removed)
					}
				}
				c.setFault(nil)
				time.Sleep(20 * time.Second)
				if n := c.allEntries(); n != 0 {
					t.Errorf("%d entries", n)
				}
			})
		}
	}
}

// TestScenario_B4_Racks: who keeps a batch in clusters of few nodes and few racks; never a node elsewhere.
func TestScenario_B4_Racks(t *testing.T) {
	for _, x := range []struct {
		name       string
		dcs, racks []string
		down       []int
		want       string // keepers other than this node, of many batches
		here       bool   // this node keeps them too
		refused    int    // -1: not; else how many could keep it
	}{
		{"one node", []string{"dc1"}, []string{"r1"}, nil, "[]", true, -1},
		{"two nodes", []string{"dc1", "dc1"}, []string{"r1", "r1"}, nil, "[1]", true, -1},
		{"two nodes, the other down", []string{"dc1", "dc1"}, []string{"r1", "r1"}, []int{1}, "[]", false, 1},
		{"three in one rack", []string{"dc1", "dc1", "dc1"}, []string{"r1", "r1", "r1"}, nil, "[1 2]", false, -1},
		{"three, one down", []string{"dc1", "dc1", "dc1"}, []string{"r1", "r1", "r1"}, []int{1}, "[2]", false, -1},
		{"three, two down", []string{"dc1", "dc1", "dc1"}, []string{"r1", "r1", "r1"}, []int{1, 2}, "[]", false, 0},
		{"two racks", []string{"dc1", "dc1", "dc1", "dc1"}, []string{"r1", "r1", "r2", "r2"}, nil, "[2 3]", false, -1},
		{"two racks, one node in the other", []string{"dc1", "dc1", "dc1"}, []string{"r1", "r1", "r2"}, nil, "[1 2]", false, -1},
		{"alone in its data centre", []string{"dc1", "dc2", "dc2"}, []string{"r1", "r1", "r2"}, nil, "[]", true, -1},
		{"three data centres", []string{"dc1", "dc2", "dc1", "dc1", "dc2", "dc3"}, []string{"r1", "r1", "r2", "r3", "r4", "r5"}, nil, "[2 3]", false, -1},
	} {
		t.Run(x.name, func(t *testing.T) {
			simulated(t, func(t *testing.T) {
				c := newCluster(t, layout{dcs: x.dcs, racks: x.racks, keyspace: []schema.Pair{{Key: "class", Value: "SimpleStrategy"}, {Key: "replication_factor", Value: "1"}}})
				for _, d := range x.down {
					c.setDown(d, true)
				}
				c.setFault(nil)
				ms := []row.Mutation{c.put(c.wide, c.keyOf(0), "a", 1, "x"), c.put(c.wide, c.otherKeyOf(0), "a", 1, "x")}
				for range 30 {
					err := c.nodes[0].logged(coordinator.One, ms...)
					var u *coordinator.Unavailable
					if x.refused < 0 {
						if err != nil {
							t.Fatal(err)
						}
						continue
					}
					want := fmt.Sprintf("Cannot achieve consistency level TWO for batchlog in local DC, required:2, available:%d", x.refused)
					if !errors.As(err, &u) || u.Level != coordinator.Two || u.Required != 2 || u.Alive != x.refused || u.Error() != want {
						t.Fatalf("%v, want %s", err, want)
					}
				}
				to := slices.Compact(c.destinations(coordinator.VerbBatchStore))
				if got := fmt.Sprint(to); got != x.want {
					t.Errorf("stored at %s, want %s", got, x.want)
				}
				// The metric counts what this node has stored for itself.
				if here := c.nodes[0].coord.Batchlog().Metrics().Stored.Load() > 0; here != x.here {
					t.Errorf("kept here: %t", here)
				}
				if x.refused >= 0 { // at ANY this node is good enough
					if err := c.nodes[0].logged(coordinator.Any, ms...); err != nil {
						t.Errorf("at ANY: %v", err)
					}
					if c.has(0, c.wide, c.keyOf(0)) != "a=x " || c.nodes[0].coord.Batchlog().Metrics().Stored.Load() != 1 {
						t.Error("at ANY it is kept and made here")
					}
				}
				time.Sleep(time.Second)
				if n := c.allEntries(); n != 0 {
					t.Errorf("%d entries stay", n)
				}
			})
		})
	}
}

// otherKeyOf returns another key whose first replica is a node.
func (c *cluster) otherKeyOf(n int) []byte {
	for i := int(binary.BigEndian.Uint32(c.keyOf(n))) + 1; ; i++ {
		p := c.state.Placement("ks")
		if r := p.Replicas(tokenOf(key(i))); p.Ring().Nodes()[r[0]].ID == hostID(n) {
			return key(i)
		}
	}
}

// TestScenario_B5_ReplayedTwice: by both keepers, and again by one that crashed before it had removed the entry: with the
// original timestamps, so that later writes and deletions stay.
func TestScenario_B5_ReplayedTwice(t *testing.T) {
	simulated(t, func(t *testing.T) {
		c := racked(t, 1, 3, nil)
		ms := c.batchOf(9, 10)
		c.store(0, time.Now(), ms...)
		c.store(1, time.Now(), ms...)
		c.mustWrite(2, coordinator.All, c.put(c.wide, key(0), "a", 20, "newer"))
		c.mustWrite(2, coordinator.All, c.deleteRow(c.wide, key(1), "a", 15))
		c.mustWrite(2, coordinator.All, c.put(c.wide, key(2), "a", 5, "older"))
		random := rand.New(rand.NewPCG(1, 1))
		var again func()
		time.Sleep(3 * time.Second)
		c.setFault(func(m message) action { // node 0 dies when it has replayed, before it removes
			if m.from == 0 && m.verb == coordinator.VerbMutate && again == nil && string(m.body) != "" && len(c.log) > 14 {
				again = c.crash(0, random)
			}
			return action{}
		})
		time.Sleep(10 * time.Second)
		c.setFault(nil)
		if again == nil {
			t.Fatal("node 0 did not replay")
		}
		again()
		check := func(when string) {
			for i := range c.nodes {
				for k, want := range map[int]string{0: "a=newer ", 1: "", 2: "a=x ", 3: "a=x ", 8: "a=x "} {
					if got := c.has(i, c.wide, key(k)); got != want {
						t.Errorf("%s: node %d, partition %d: %q, want %q", when, i, k, got, want)
					}
				}
			}
		}
		eventually(t, "replayed again after the restart", func() bool { return c.allEntries() == 0 })
		time.Sleep(2 * time.Second)
		check("after both")
		if a, b := c.nodes[0].coord.Batchlog().Metrics().Replayed.Load(), c.nodes[1].coord.Batchlog().Metrics().Replayed.Load(); a != 1 || b != 1 {
			t.Errorf("replayed %d and %d times", a, b)
		}
		c.mustWrite(2, coordinator.All, c.deleteRow(c.wide, key(3), "a", 11))
		c.store(2, time.Now(), ms...) // the request to store, delivered a second time, late
		time.Sleep(8 * time.Second)
		if got := c.mustRead(1, coordinator.All, c.whole(c.wide, key(3))); got != "" || c.allEntries() != 0 {
			t.Errorf("a deleted row is back: %q", got)
		}
	})
}

// TestReplayHintsForTheAbsent: a replica that is down, or silent, gets a hint with the age of the batch, and the entry goes
// once that is durable.
func TestReplayHintsForTheAbsent(t *testing.T) {
	for _, silent := range []bool{false, true} {
		simulated(t, func(t *testing.T) {
			c := racked(t, 1, 3, nil)
			c.store(0, time.Now(), c.batchOf(9, 1)...)
			if silent {
				c.setFault(func(m message) action { return action{drop: m.to == 2} })
			} else {
				c.setDown(2, true)
			}
			eventually(t, "replayed", func() bool { return c.nodes[0].entries() == 0 })
			if n := hintsOf(c.nodes[0]); n == 0 || c.has(2, c.wide, key(1)) != "" || c.has(1, c.wide, key(1)) != "a=x " {
				t.Errorf("%d hints, node 2 has %q", n, c.has(2, c.wide, key(1)))
			}
			c.setFault(nil)
			c.setDown(2, false)
			eventually(t, "delivered", func() bool { return c.has(2, c.wide, key(1)) == "a=x " && hintsOf(c.nodes[0]) == 0 })
		})
	}
}

// TestWithoutHintsTheEntryStays until the replica is back, also over a restart of its keeper.
func TestWithoutHintsTheEntryStays(t *testing.T) {
	simulated(t, func(t *testing.T) {
		c := racked(t, 1, 3, func(o *coordinator.Options) { o.HintsOff = true })
		c.setDown(2, true)
		c.store(0, time.Now(), c.batchOf(9, 1)...)
		time.Sleep(10 * time.Second)
		if m := c.nodes[0].coord.Batchlog().Metrics(); m.Stuck.Load() != 1 || m.Pending.Load() != 1 || m.Replayed.Load() != 0 || c.nodes[0].entries() != 1 {
			t.Errorf("stuck %d, pending %d", m.Stuck.Load(), m.Pending.Load())
		}
		c.nodes[0].halt()
		c.nodes[0].start()
		c.nodes[0].connect()
		c.setDown(2, false)
		eventually(t, "replayed", func() bool { return c.nodes[0].entries() == 0 })
		if got := c.has(2, c.wide, key(1)); got != "a=x " {
			t.Errorf("node 2 has %q", got)
		}
	})
}

// TestOlderThanTheHintWindow: no hint is kept for a batch from before the window, which would end it for all other hints.
func TestOlderThanTheHintWindow(t *testing.T) {
	simulated(t, func(t *testing.T) {
		c := racked(t, 1, 3, func(o *coordinator.Options) { o.HintWindow = time.Hour })
		c.setDown(2, true)
		c.store(0, time.Now().Add(-2*time.Hour), c.batchOf(9, 1)...)
		time.Sleep(8 * time.Second)
		if n := hintsOf(c.nodes[0]); n != 0 || c.nodes[0].entries() != 1 {
			t.Errorf("%d hints, %d entries", n, c.nodes[0].entries())
		}
		c.mustWrite(0, coordinator.Quorum, c.put(c.wide, key(99), "a", 1, "x"))
		if n := hintsOf(c.nodes[0]); n != 1 {
			t.Errorf("%d hints for a write of now", n)
		}
	})
}

// TestOlderThanGCGrace: such a batch is given up, for a deletion that it would run into may be gone.
func TestOlderThanGCGrace(t *testing.T) {
	simulated(t, func(t *testing.T) {
		c := newCluster(t, layout{dcs: nodesIn("dc1", 3), options: []schema.Property{{Name: "gc_grace_seconds", Value: "60"}}})
		c.store(0, time.Now().Add(-57*time.Second), c.batchOf(9, 1)...)
		c.store(1, time.Now().Add(-5*time.Second), c.batchOf(9, 2)...)
		time.Sleep(10 * time.Second)
		a, b := c.nodes[0].coord.Batchlog().Metrics(), c.nodes[1].coord.Batchlog().Metrics()
		if a.Dropped.Load() != 1 || a.Replayed.Load() != 0 || b.Dropped.Load() != 0 || b.Replayed.Load() != 1 || c.allEntries() != 0 {
			t.Errorf("dropped %d and %d, replayed %d and %d", a.Dropped.Load(), b.Dropped.Load(), a.Replayed.Load(), b.Replayed.Load())
		}
	})
}

// TestALoggedBatchIsNeverSaidToHaveFailed: once it is in the batchlog it is going to be made, whatever replicas say.
func TestALoggedBatchIsNeverSaidToHaveFailed(t *testing.T) {
	for _, a := range []action{{refuse: rpc.StatusFailed}, {unsent: true}, {drop: true}} {
		simulated(t, func(t *testing.T) {
			c := racked(t, 1, 3, nil)
			c.setFault(func(m message) action {
				if m.verb == coordinator.VerbMutate {
					return a
				}
				return action{}
			})
			err := c.nodes[0].logged(coordinator.All, c.batchOf(9, 1)...)
			var timeout *coordinator.WriteTimeout
			if !errors.As(err, &timeout) || timeout.Type != coordinator.LoggedBatch || timeout.Level != coordinator.All || timeout.Received != 1 || timeout.BlockFor != 3 {
				t.Errorf("%v %+v", err, timeout)
			}
			if c.sent(coordinator.VerbBatchRemove) != 0 {
				t.Error("removed, and not made")
			}
			c.setFault(nil)
			time.Sleep(10 * time.Second)
			for i := range c.nodes {
				if got := c.has(i, c.wide, key(8)); got != "a=x " {
					t.Errorf("node %d has %q", i, got)
				}
			}
		})
	}
}

// TestTheCallersMemoryIsItsOwn: what a Write points to may be changed as soon as Burst.Write has returned.
func TestTheCallersMemoryIsItsOwn(t *testing.T) {
	simulated(t, func(t *testing.T) {
		c := racked(t, 1, 3, nil)
		ms := c.batchOf(9, 1)
		w := &waiter{}
		w.wg.Add(1)
		b := c.nodes[0].coord.NewBurst()
		b.Write(&coordinator.Write{Mutations: ms, Level: coordinator.All, Type: coordinator.LoggedBatch, Done: w})
		for i := range ms {
			clear(ms[i].Key)
			clear(ms[i].Fragment)
		}
		b.Close()
		w.wg.Wait()
		if found, all := c.present(9, 1); found != all || w.err != nil {
			t.Errorf("%d of %d, %v", found, all, w.err)
		}
	})
}

// TestTooManyLoggedBatches, or one too large, are refused before anything is done.
func TestTooManyLoggedBatches(t *testing.T) {
	simulated(t, func(t *testing.T) {
		c := racked(t, 1, 3, func(o *coordinator.Options) { o.LoggedMax = 2 })
		c.setFault(func(m message) action { return action{drop: m.verb == coordinator.VerbBatchStore} })
		w := &waiter{}
		b := c.nodes[0].coord.NewBurst()
		for range 2 {
			w.wg.Add(1)
			b.Write(&coordinator.Write{Mutations: c.batchOf(3, 1), Level: coordinator.One, Type: coordinator.LoggedBatch, Done: w})
		}
		var full *coordinator.Overloaded
		if err := c.nodes[0].logged(coordinator.One, c.batchOf(3, 1)...); !errors.As(err, &full) {
			t.Errorf("got %v", err)
		}
		b.Close()
		w.wg.Wait()
		c.setFault(nil)
		var large *coordinator.TooLarge
		err := c.nodes[0].logged(coordinator.One, c.put(c.wide, key(1), "a", 1, strings.Repeat("v", 9<<20)), c.put(c.wide, key(2), "a", 1, strings.Repeat("v", 9<<20)))
		if !errors.As(err, &large) || c.sent(coordinator.VerbBatchStore) != 0 {
			t.Errorf("got %v", err)
		}
		if err := c.nodes[0].logged(coordinator.One, c.batchOf(3, 1)...); err != nil || c.nodes[0].coord.InFlight() != 0 {
			t.Errorf("afterwards: %v, %d in flight", err, c.nodes[0].coord.InFlight())
		}
	})
}

// TestStopWithBatches: a node that stops while batches are under way and others are replayed ends all of its goroutines,
// and answers every batch.
func TestStopWithBatches(t *testing.T) {
	simulated(t, func(t *testing.T) {
		c := racked(t, 1, 3, func(o *coordinator.Options) { o.BatchlogThrottle = 10 })
		for range 5 {
			c.store(0, time.Now(), c.batchOf(20, 1)...)
			time.Sleep(time.Millisecond)
		}
		time.Sleep(3900 * time.Millisecond)
		c.setFault(func(m message) action { return action{delay: 300 * time.Millisecond} })
		w := &waiter{}
		b := c.nodes[0].coord.NewBurst()
		for i := range 20 {
			w.wg.Add(1)
			b.Write(&coordinator.Write{Mutations: c.batchOf(5, int64(i)), Level: coordinator.All, Type: coordinator.LoggedBatch, Done: w})
		}
		b.Close()
		time.Sleep(400 * time.Millisecond)
		c.nodes[0].halt()
		w.wg.Wait()
		c.setFault(nil)
		c.nodes[0].start()
		c.nodes[0].connect()
		time.Sleep(30 * time.Second)
		if found, all := c.present(5, 1); found != all {
			t.Errorf("%d of %d", found, all)
		}
	})
}

// TestDiskFullOfAKeeper: it refuses, the client is told so, and what is there can still be replayed and removed.
func TestDiskFullOfAKeeper(t *testing.T) {
	simulated(t, func(t *testing.T) {
		c := racked(t, 1, 3, nil)
		c.store(1, time.Now(), c.batchOf(3, 1)...)
		c.nodes[1].free.Store(0)
		time.Sleep(2 * time.Second)
		var timeout *coordinator.WriteTimeout
		if err := c.nodes[0].logged(coordinator.One, c.batchOf(9, 1)...); !errors.As(err, &timeout) || timeout.Type != coordinator.BatchLog || timeout.Received != 1 {
			t.Errorf("got %v", err)
		}
		time.Sleep(10 * time.Second)
		if m := c.nodes[1].coord.Batchlog().Metrics(); m.Stuck.Load() != 1 {
			t.Errorf("stuck %d: this node itself cannot take its part", m.Stuck.Load())
		}
		c.nodes[1].free.Store(1 << 40)
		eventually(t, "replayed", func() bool { return c.allEntries() == 0 })
	})
}

// TestBatchesUnderFaults: random loss, duplication, delay and crashes of coordinators, over many batches: each is whole or
// not at all in the end, and whole when it was acknowledged.
func TestBatchesUnderFaults(t *testing.T) {
	for seed := range uint64(3) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) { simulated(t, func(t *testing.T) { batchesUnderFaults(t, seed) }) })
	}
}

func batchesUnderFaults(t *testing.T, seed uint64) {
	random, fate := rand.New(rand.NewPCG(seed, 77)), rand.New(rand.NewPCG(seed, 78)) // fate's is of c.mu
	c := racked(t, 1, 3, func(o *coordinator.Options) { o.Seed = seed })
	faulty := func(m message) action {
		switch fate.IntN(40) {
		case 0:
			return action{drop: true}
		case 1:
			return action{dropReply: true}
		case 2:
			return action{twice: true}
		case 3:
			return action{delay: time.Duration(fate.IntN(3000)) * time.Millisecond}
		case 4:
			return action{unsent: true}
		}
		return action{}
	}
	const batches, parts = 40, 5
	acked := make([]bool, batches)
	for i := range batches {
		c.setFault(faulty)
		var ms []row.Mutation
		for p := range parts {
			ms = append(ms, c.put(c.wide, key(100*i+p), "a", 1, "x"))
		}
		from := random.IntN(3)
		w := &waiter{}
		w.wg.Add(1)
		b := c.nodes[from].coord.NewBurst()
		b.Write(&coordinator.Write{Mutations: ms, Level: coordinator.Quorum, Type: coordinator.LoggedBatch, Done: w})
		b.Close()
		if i%4 == 3 {
			time.Sleep(time.Duration(random.IntN(1500)) * time.Microsecond)
			c.mu.Lock()
			again := c.crash(from, fate)
			c.mu.Unlock()
			w.wg.Wait()
			acked[i] = w.err == nil
			c.setFault(nil)
			again()
			continue
		}
		w.wg.Wait()
		acked[i] = w.err == nil
	}
	c.setFault(nil)
	eventually(t, "the batchlog is empty", func() bool { return c.allEntries() == 0 })
	eventually(t, "no hints", func() bool { return hintsOf(c.nodes[0])+hintsOf(c.nodes[1])+hintsOf(c.nodes[2]) == 0 })
	whole, ok := 0, 0
	for i := range batches {
		found := 0
		for p := range parts {
			if c.mustRead(0, coordinator.All, c.whole(c.wide, key(100*i+p))) != "" {
				found++
			}
		}
		if found != 0 && found != parts || acked[i] && found != parts {
			t.Errorf("batch %d, acknowledged %t: %d of %d partitions", i, acked[i], found, parts)
		}
		if found == parts {
			whole++
		}
		if acked[i] {
			ok++
		}
	}
	t.Logf("%d batches, %d acknowledged, %d whole", batches, ok, whole)
	if ok == 0 || whole < ok {
		t.Errorf("%d acknowledged, %d whole", ok, whole)
	}
}
