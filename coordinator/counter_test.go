package coordinator_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/helenusdb/helenus/coordinator"
	"github.com/helenusdb/helenus/row"
	"github.com/helenusdb/helenus/rpc"
	"github.com/helenusdb/helenus/schema"
)

// add is UPDATE count SET n = n + by.
func (c *cluster) add(pk []byte, ck string, by int64) row.Mutation {
	return c.mutation(c.count, pk, func(f *row.FragmentBuilder) {
		var b row.Builder
		b.Reset(nil)
		b.Cell(row.Cell{Column: c.column(c.count, "n"), Path: row.AppendIncrementPath(nil, 0), Timestamp: time.Now().UnixMicro(), Value: row.AppendCount(nil, by)})
		f.Row([]byte(ck), b.Finish())
	})
}

func (n *node) addTo(level coordinator.Level, ms ...row.Mutation) error {
	return addWith(n.coord, level, ms...)
}

func addWith(co *coordinator.Coordinator, level coordinator.Level, ms ...row.Mutation) error {
	return co.WriteSync(context.Background(), &coordinator.Write{Mutations: ms, Level: level, Type: coordinator.CounterWrite})
}

func (c *cluster) mustAdd(n int, level coordinator.Level, ms ...row.Mutation) {
	c.t.Helper()
	if err := c.nodes[n].addTo(level, ms...); err != nil {
		c.t.Fatalf("increment at %s: %v", level, err)
	}
}

// counted returns the counters n of a partition in a page, as "ck=5 ".
func (c *cluster) counted(page *row.Page) (out string) {
	c.t.Helper()
	var pr row.PageReader
	for pr.Init(page.Data); pr.Next(); {
		var f row.FragmentReader
		if err := f.Init(pr.Fragment); err != nil {
			c.t.Fatal(err)
		}
		for f.NextRow() {
			var r row.Reader
			if err := r.Init(f.Row); err != nil {
				c.t.Fatal(err)
			}
			if r.Find(c.column(c.count, "n")) {
				if sum, _, ok := r.Counter(); ok {
					out += fmt.Sprintf("%s=%d ", f.Ckey, sum)
				}
			}
		}
	}
	if pr.Err() != nil {
		c.t.Fatal(pr.Err())
	}
	return out
}

func (c *cluster) counter(n int, level coordinator.Level, pk []byte) string {
	c.t.Helper()
	p, err := c.nodes[n].read(level, c.whole(c.count, pk))
	if err != nil {
		c.t.Fatalf("read at %s: %v", level, err)
	}
	return c.counted(p)
}

// countedAt returns what the engine of one node holds.
func (c *cluster) countedAt(n int, pk []byte) (text string, digest uint64) {
	c.t.Helper()
	cmd := c.whole(c.count, pk)
	cmd.GCBefore = row.NoTimestamp
	var p row.Page
	if _, err := c.nodes[n].engine.Read(&cmd, &p); err != nil {
		c.t.Fatal(err)
	}
	return c.counted(&p), p.Digest
}

// replicasOf returns the nodes that hold a partition.
func (c *cluster) replicasOf(pk []byte) (in, out []int) {
	replicas := c.state.Placement("ks").Replicas(tokenOf(pk))
	ids := map[int]bool{}
	for _, i := range replicas {
		ids[int(c.state.Ring.Nodes()[i].ID[15])-1] = true
	}
	for i := range c.nodes {
		if ids[i] {
			in = append(in, i)
		} else {
			out = append(out, i)
		}
	}
	return in, out
}

func five(t testing.TB) *cluster { return newCluster(t, layout{dcs: nodesIn("dc1", 5)}) }

// TestScenario_C4_AnyNodeCounts: whoever the client asks, replica or not, at any level, each increment counts once and all
// replicas hold the same.
func TestScenario_C4_AnyNodeCounts(t *testing.T) {
	simulated(t, func(t *testing.T) {
		c := five(t)
		pk := key(1)
		want := int64(0)
		for i, level := range []coordinator.Level{coordinator.One, coordinator.Two, coordinator.Three, coordinator.Quorum, coordinator.All,
			coordinator.LocalQuorum, coordinator.EachQuorum, coordinator.LocalOne} {
			for from := range c.nodes {
				by := int64(i*10 + from - 3)
				want += by
				c.mustAdd(from, level, c.add(pk, "a", by))
			}
		}
		time.Sleep(time.Second)
		in, out := c.replicasOf(pk)
		if got := c.counter(out[0], coordinator.All, pk); got != fmt.Sprintf("a=%d ", want) {
			t.Errorf("%q, want %d", got, want)
		}
		_, first := c.countedAt(in[0], pk)
		for _, n := range in {
			if text, digest := c.countedAt(n, pk); digest != first || text != fmt.Sprintf("a=%d ", want) {
				t.Errorf("node %d holds %q, digest %x", n, text, digest)
			}
		}
		led := int64(0)
		for _, n := range c.nodes {
			led += n.coord.Metrics().CountersLed.Load()
			if n.coord.InFlight() != 0 {
				t.Errorf("%d requests in flight at the end", n.coord.InFlight())
			}
		}
		if led != 40 {
			t.Errorf("%d increments led", led)
		}
	})
}

// TestScenario_C1_ALostAnswerIsATimeoutAndNoRetry: the leader's answer, or the request, is lost: the client is told that it may
// have counted, with the write type COUNTER, and nobody counts again.
func TestScenario_C1_ALostAnswerIsATimeoutAndNoRetry(t *testing.T) {
	simulated(t, func(t *testing.T) {
		c := five(t)
		for i, x := range []struct {
			what action
			want string
		}{{action{dropReply: true}, "a=1 "}, {action{drop: true}, ""}, {action{refuse: rpc.StatusFailed}, ""}} {
			pk := key(i)
			_, out := c.replicasOf(pk)
			c.setFault(func(m message) action {
				if m.verb == coordinator.VerbCount {
					return x.what
				}
				return action{}
			})
			err := c.nodes[out[0]].addTo(coordinator.Quorum, c.add(pk, "a", 1))
			var timeout *coordinator.WriteTimeout
			if !errors.As(err, &timeout) || timeout.Type != coordinator.CounterWrite || timeout.BlockFor != 2 {
				t.Errorf("%+v: %v", x.what, err)
			}
			if n := c.sent(coordinator.VerbCount); n != 1 {
				t.Errorf("%+v: %d requests to leaders", x.what, n)
			}
			c.setFault(nil)
			time.Sleep(10 * time.Second)
			if got := c.counter(out[0], coordinator.All, pk); got != x.want {
				t.Errorf("%+v: %q", x.what, got)
			}
		}
	})
}

// TestScenario_C1_ReplicasThatAreSilentTimeOut: the leader has counted; the level was not reached.
func TestScenario_C1_ReplicasThatAreSilentTimeOut(t *testing.T) {
	simulated(t, func(t *testing.T) {
		c := five(t)
		pk := key(1)
		in, out := c.replicasOf(pk)
		for i, from := range []int{in[0], out[0]} {
			c.setFault(func(m message) action { return action{drop: m.verb == coordinator.VerbMutate} })
			err := c.nodes[from].addTo(coordinator.Quorum, c.add(pk, "a", 1))
			var timeout *coordinator.WriteTimeout
			if !errors.As(err, &timeout) || timeout.Type != coordinator.CounterWrite || timeout.BlockFor != 2 {
				t.Errorf("from %d: %v", from, err)
			}
			c.setFault(func(m message) action {
				if m.verb == coordinator.VerbMutate {
					return action{refuse: rpc.StatusFailed}
				}
				return action{}
			})
			err = c.nodes[from].addTo(coordinator.Quorum, c.add(pk, "a", 1))
			var failure *coordinator.WriteFailure
			if !errors.As(err, &failure) || failure.Type != coordinator.CounterWrite || failure.Received != 1 || len(failure.Failures) != 2 {
				t.Errorf("from %d: %v", from, err)
			}
			c.setFault(nil)
			for _, n := range in {
				eventually(t, "hints delivered", func() bool {
					text, _ := c.countedAt(n, pk)
					return text == fmt.Sprintf("a=%d ", 2*i+2)
				})
			}
		}
	})
}

// TestScenario_C3_AnAnswerWithoutRoomDeniesNothing: leaders whose queues of answers are full have counted. None of them may be heard to have
// done nothing: another leader would count again.
func TestScenario_C3_AnAnswerWithoutRoomDeniesNothing(t *testing.T) {
	simulated(t, func(t *testing.T) {
		c := newCluster(t, layout{dcs: nodesIn("dc1", 5), buffer: 512, rpc: func(o *rpc.Options) { o.Data.QueueBytes = 1 }})
		pk := key(1)
		in, out := c.replicasOf(pk)
		host := func(n int) string { return addrOf(n).Addr().String() }
		for _, n := range in { // what they answer waits
			c.net.Cut(host(n), host(out[0]))
		}
		const clients = 100
		var acked, unknown atomic.Int64
		var all sync.WaitGroup
		for range clients {
			all.Go(func() {
				for { // the queue of requests is as short
					err := c.nodes[out[0]].addTo(coordinator.One, c.add(pk, "a", 1))
					var timeout *coordinator.WriteTimeout
					var failure *coordinator.WriteFailure
					switch {
					case err == nil:
						acked.Add(1)
					case errors.As(err, &timeout):
						unknown.Add(1)
					case errors.As(err, &failure):
						time.Sleep(time.Microsecond)
						continue
					default:
						t.Error(err)
					}
					return
				}
			})
		}
		time.Sleep(100 * time.Millisecond)
		for _, n := range in {
			c.net.Heal(host(n), host(out[0]))
		}
		all.Wait()
		time.Sleep(10 * time.Second)
		var sum int64
		if _, err := fmt.Sscanf(c.counter(out[1], coordinator.All, pk), "a=%d ", &sum); err != nil {
			t.Fatal(err)
		}
		if acked.Load() != clients || sum != clients {
			t.Errorf("%d increments acknowledged, %d unknown, and the counter is %d", acked.Load(), unknown.Load(), sum)
		}
	})
}

// TestScenario_C3_AnotherLeaderOnlyWhenNothingWasDone: one that is known to be down is not asked; one that cannot be reached, or
// that refuses, is followed by another, and the increment counts once.
func TestScenario_C3_AnotherLeaderOnlyWhenNothingWasDone(t *testing.T) {
	simulated(t, func(t *testing.T) {
		c := five(t)
		for i, x := range []action{{unsent: true}, {refuse: rpc.StatusOverloaded}, {refuse: rpc.StatusNotReady}, {refuse: rpc.StatusExpired}} {
			pk := key(i)
			_, out := c.replicasOf(pk)
			first := -1
			var mu sync.Mutex
			c.setFault(func(m message) action {
				mu.Lock()
				defer mu.Unlock()
				if m.verb != coordinator.VerbCount {
					return action{}
				}
				if first < 0 {
					first = m.to
				}
				if m.to == first {
					return x
				}
				return action{}
			})
			c.mustAdd(out[0], coordinator.Quorum, c.add(pk, "a", 7))
			if n := c.sent(coordinator.VerbCount); n != 2 {
				t.Errorf("%+v: %d requests to leaders", x, n)
			}
			c.setFault(nil)
			if got := c.counter(out[1], coordinator.All, pk); got != "a=7 " {
				t.Errorf("%+v: %q", x, got)
			}
		}
		pk := key(100)
		in, out := c.replicasOf(pk)
		c.setDown(in[0], true)
		c.setFault(nil)
		for range 20 {
			c.mustAdd(out[0], coordinator.Quorum, c.add(pk, "a", 1))
		}
		c.mu.Lock()
		for _, m := range c.log {
			if m.to == in[0] && m.verb == coordinator.VerbCount {
				t.Error("a leader was asked that is down")
			}
		}
		c.mu.Unlock()
		c.setFault(func(m message) action { return action{unsent: m.verb == coordinator.VerbCount} })
		var failure *coordinator.WriteFailure
		if err := c.nodes[out[0]].addTo(coordinator.One, c.add(pk, "a", 1)); !errors.As(err, &failure) || failure.Received != 0 || failure.Type != coordinator.CounterWrite {
			t.Errorf("no leader can be reached: %v", err)
		}
		c.setFault(nil)
		c.setDown(in[0], false)
		eventually(t, "the hints came", func() bool { text, _ := c.countedAt(in[0], pk); return text == "a=20 " })
	})
}

// TestScenario_C5_ReplaysAndDuplicatesCountOnce: requests that come twice, and the replay of the log after a crash.
func TestScenario_C5_ReplaysAndDuplicatesCountOnce(t *testing.T) {
	simulated(t, func(t *testing.T) {
		c := newCluster(t, layout{dcs: nodesIn("dc1", 5), fs: func(int) vfs.FS { return vfs.NewCrashableMem() }})
		c.setFault(func(m message) action { return action{twice: m.verb == coordinator.VerbMutate} })
		pk := key(1)
		for i := range 50 {
			c.mustAdd(i%5, coordinator.Quorum, c.add(pk, "a", int64(i)))
		}
		in, out := c.replicasOf(pk)
		other := key(2) // whoever asks a leader twice is told by the second answer that it does not know
		_, far := c.replicasOf(other)
		c.setFault(func(m message) action { return action{twice: m.verb == coordinator.VerbCount} })
		var timeout *coordinator.WriteTimeout
		if err := c.nodes[far[0]].addTo(coordinator.Quorum, c.add(other, "a", 5)); !errors.As(err, &timeout) {
			t.Errorf("got %v", err)
		}
		c.setFault(nil)
		time.Sleep(time.Second) // the first request may still be under way
		if got := c.counter(out[0], coordinator.All, other); got != "a=5 " {
			t.Errorf("%q", got)
		}
		for round := range 3 {
			for _, n := range in {
				c.nodes[n].crash()
				if got := c.counter(n, coordinator.All, pk); got != fmt.Sprintf("a=%d ", 1225+round) {
					t.Fatalf("after a crash of node %d: %q", n, got)
				}
			}
			c.mustAdd(in[round%3], coordinator.All, c.add(pk, "a", 1))
		}
	})
}

// TestAStoreThatForgotCountsInANewShard: the store of a replica is one of yesterday. With a new shard id nothing of what was
// acknowledged is lost; with the old one it would be, which shows that this test can tell.
func TestAStoreThatForgotCountsInANewShard(t *testing.T) {
	for _, renewed := range []bool{true, false} {
		simulated(t, func(t *testing.T) {
			c := newCluster(t, layout{dcs: nodesIn("dc1", 3), fs: func(int) vfs.FS { return vfs.NewCrashableMem() }})
			pk, n := key(1), c.nodes[0]
			c.mustAdd(0, coordinator.All, c.add(pk, "a", 1))
			yesterday := n.fs.(*vfs.MemFS).CrashClone(vfs.CrashCloneCfg{})
			c.mustAdd(0, coordinator.All, c.add(pk, "a", 10))
			n.halt()
			n.fs = yesterday
			if renewed {
				n.shard[3]++
			}
			n.start()
			n.connect()
			time.Sleep(time.Second)
			c.mustAdd(0, coordinator.All, c.add(pk, "a", 100))
			want := map[bool]string{true: "a=111 ", false: "a=101 "}[renewed]
			if got := c.counter(1, coordinator.All, pk); got != want {
				t.Errorf("renewed %t: %q", renewed, got)
			}
		})
	}
}

// TestCountersUnavailable: too few replicas live, and nothing is sent and nothing counted.
func TestCountersUnavailable(t *testing.T) {
	simulated(t, func(t *testing.T) {
		c := five(t)
		pk := key(1)
		in, out := c.replicasOf(pk)
		c.setDown(in[0], true)
		c.setDown(in[1], true)
		c.setFault(nil)
		for _, from := range []int{in[2], out[0]} {
			var u *coordinator.Unavailable
			if err := c.nodes[from].addTo(coordinator.Quorum, c.add(pk, "a", 1)); !errors.As(err, &u) || u.Required != 2 || u.Alive != 1 {
				t.Errorf("from %d: %v", from, err)
			}
		}
		if text, _ := c.countedAt(in[2], pk); text != "" || c.sent(coordinator.VerbCount)+c.sent(coordinator.VerbMutate) != 0 {
			t.Errorf("counted %q", text)
		}
		c.mustAdd(out[0], coordinator.One, c.add(pk, "a", 1))
		c.setDown(in[0], false)
		c.setDown(in[1], false)
		eventually(t, "hints", func() bool {
			a, _ := c.countedAt(in[0], pk)
			b, _ := c.countedAt(in[1], pk)
			return a == "a=1 " && b == a
		})
	})
}

// TestCounterBatch: each partition through a leader of its own, several increments of a row added up; when one part cannot
// be done and another was, the truth is a timeout.
func TestCounterBatch(t *testing.T) {
	simulated(t, func(t *testing.T) {
		c := newCluster(t, layout{dcs: nodesIn("dc1", 5), keyspace: []schema.Pair{{Key: "class", Value: "SimpleStrategy"}, {Key: "replication_factor", Value: "1"}}})
		var ms []row.Mutation
		for i := range 20 {
			ms = append(ms, c.add(key(i), "a", 1), c.add(key(i), "a", 2), c.add(key(i), "b", 3))
		}
		for i := range ms {
			ms[i] = renumbered(t, c, ms[i], uint32(i))
		}
		c.mustAdd(0, coordinator.One, ms...)
		for i := range 20 {
			if got := c.counter(3, coordinator.One, key(i)); got != "a=3 b=3 " {
				t.Fatalf("partition %d: %q", i, got)
			}
		}
		here, there := c.keyOf(0), c.keyOf(1)
		c.setFault(func(m message) action { return action{unsent: m.to == 1} })
		var timeout *coordinator.WriteTimeout
		if err := c.nodes[0].addTo(coordinator.One, c.add(there, "z", 1), c.add(here, "z", 1)); !errors.As(err, &timeout) || timeout.Type != coordinator.CounterWrite {
			t.Errorf("got %v", err)
		}
		var failure *coordinator.WriteFailure
		if err := c.nodes[0].addTo(coordinator.One, c.add(there, "z", 1)); !errors.As(err, &failure) {
			t.Errorf("got %v", err)
		}
		c.setFault(nil)
		if got := c.counter(0, coordinator.One, here) + c.counter(0, coordinator.One, there); strings.Count(got, "z=1") != 1 {
			t.Errorf("%q", got)
		}
	})
}

// TestIncrementsOfAHotCounter: those that come while others are under way become few writes, count once each, and are each answered, those of
// another row of the partition and at another level too.
func TestIncrementsOfAHotCounter(t *testing.T) {
	simulated(t, func(t *testing.T) {
		stop, goOn := new(atomic.Bool), make(chan struct{})
		c := newCluster(t, layout{dcs: nodesIn("dc1", 3), tune: func(o *coordinator.Options) { o.Storage = stoppedReads{o.Storage, stop, goOn} }})
		pk := key(1)
		c.mustAdd(0, coordinator.All, c.add(pk, "a", 1000))
		c.setFault(func(message) action { return action{} }) // count from here
		stop.Store(true)
		var ends []chan error
		begin := func(level coordinator.Level, m row.Mutation) {
			end := make(chan error, 1)
			ends = append(ends, end)
			w := &coordinator.Write{Mutations: []row.Mutation{m}, Level: level, Type: coordinator.CounterWrite, Done: writeDone(func(err error) { end <- err })}
			b := c.nodes[0].coord.NewBurst()
			b.Write(w)
			b.Close()
		}
		begin(coordinator.Quorum, c.add(pk, "a", 1)) // the lane reads for it, and stands still
		time.Sleep(time.Millisecond)
		stop.Store(false)
		for range 200 {
			begin(coordinator.Quorum, c.add(pk, "a", 1))
			begin(coordinator.Quorum, c.add(pk, "b", 2))
		}
		begin(coordinator.All, c.add(pk, "a", 7))
		close(goOn)
		for i, end := range ends {
			if err := <-end; err != nil {
				t.Errorf("increment %d: %v", i, err)
			}
		}
		if n := c.sent(coordinator.VerbMutate); n > 10 {
			t.Errorf("%d messages to replicas", n)
		}
		for n := range c.nodes {
			if got := c.counter(n, coordinator.All, pk); got != "a=1208 b=400 " {
				t.Errorf("node %d: %q", n, got)
			}
		}
		if n := c.nodes[0].coord.InFlight(); n != 0 {
			t.Errorf("%d requests in flight", n)
		}
	})
}

// stoppedReads are reads that stand still once stop is set.
type stoppedReads struct {
	coordinator.Storage
	stop *atomic.Bool
	goOn chan struct{}
}

func (s stoppedReads) Read(cmd *row.Command, page *row.Page) (uint64, error) {
	if s.stop.Load() {
		<-s.goOn
	}
	return s.Storage.Read(cmd, page)
}

type writeDone func(error)

func (f writeDone) WriteDone(_ *coordinator.Write, err error) { f(err) }

// renumbered gives the increment of a mutation another number.
func renumbered(t testing.TB, c *cluster, m row.Mutation, n uint32) row.Mutation {
	m.Fragment = bytes.Replace(m.Fragment, row.AppendIncrementPath(nil, 0), row.AppendIncrementPath(nil, n), 1)
	if err := row.ValidateFragment(m.Fragment); err != nil {
		t.Fatal(err)
	}
	return m
}

// TestLeaderWithAFullDiskIsPassedOver: it refuses, so another one counts.
func TestLeaderWithAFullDiskIsPassedOver(t *testing.T) {
	simulated(t, func(t *testing.T) {
		c := three(t)
		c.nodes[0].free.Store(0)
		time.Sleep(2 * time.Second)
		for i := range 10 {
			c.mustAdd(0, coordinator.Quorum, c.add(key(i), "a", 1))
			if got := c.counter(1, coordinator.Quorum, key(i)); got != "a=1 " {
				t.Fatalf("%q", got)
			}
		}
	})
}

// TestCountersOfAnotherDataCentre: the leader is of the client's data centre when one lives there.
func TestCountersOfAnotherDataCentre(t *testing.T) {
	simulated(t, func(t *testing.T) {
		c := newCluster(t, layout{dcs: append(nodesIn("dc1", 3), nodesIn("dc2", 3)...),
			keyspace: []schema.Pair{{Key: "class", Value: "NetworkTopologyStrategy"}, {Key: "dc1", Value: "2"}, {Key: "dc2", Value: "2"}}})
		c.setFault(nil)
		for i := range 20 {
			c.mustAdd(i%6, coordinator.EachQuorum, c.add(key(i), "a", 1))
		}
		c.mu.Lock()
		for _, m := range c.log {
			if m.verb == coordinator.VerbCount && m.from/3 != m.to/3 {
				t.Errorf("node %d asked leader %d", m.from, m.to)
			}
		}
		c.mu.Unlock()
	})
}

// counterLedger knows what clients were told of each counter.
type counterLedger struct {
	mu             sync.Mutex
	acked, unknown [propertyKeys]int64
}

func (l *counterLedger) note(t testing.TB, k int, by int64, err error) {
	var u *coordinator.Unavailable
	var wf *coordinator.WriteFailure
	var wt *coordinator.WriteTimeout
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case err == nil:
		l.acked[k] += by
	case errors.As(err, &wt), errors.As(err, &wf) && wf.Received > 0:
		l.unknown[k] += by
	case errors.As(err, &u), errors.As(err, &wf): // nothing was done
	default:
		t.Errorf("unexpected error: %v", err)
	}
}

// TestScenario_C1_AcknowledgedIncrementsAndNoMore: random increments with replicas down, slow, lossy, refusing and crashing. In
// the end acknowledged <= value <= acknowledged + unknown, and all replicas are equal.
func TestScenario_C1_AcknowledgedIncrementsAndNoMore(t *testing.T) {
	seeds := uint64(6)
	if testing.Short() {
		seeds = 2
	}
	for seed := range seeds {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			simulated(t, func(t *testing.T) { counterRun(t, seed) })
		})
	}
}

func counterRun(t *testing.T, seed uint64) {
	c := newCluster(t, layout{dcs: nodesIn("dc1", 5), fs: func(int) vfs.FS { return vfs.NewCrashableMem() }})
	l := &counterLedger{}
	tokens := make([]chan struct{}, len(c.nodes)) // held while a node's coordinator is looked up, or is being replaced
	for i := range tokens {
		tokens[i] = make(chan struct{}, 1)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var storm, clients sync.WaitGroup
	storm.Go(func() {
		for i := uint64(0); ctx.Err() == nil; i++ {
			some, stop := context.WithTimeout(ctx, 4*time.Second)
			c.storm(some, rand.New(rand.NewPCG(seed, 1000+i)))
			stop()
			n := int(seed+i) % len(c.nodes)
			tokens[n] <- struct{}{}
			c.nodes[n].crash()
			<-tokens[n]
		}
	})
	for i := range propertyClients {
		clients.Go(func() {
			r := rand.New(rand.NewPCG(seed, uint64(i)))
			levels := []coordinator.Level{coordinator.One, coordinator.Quorum, coordinator.Quorum, coordinator.All, coordinator.LocalQuorum}
			for range 300 {
				n, k, by := r.IntN(len(c.nodes)), r.IntN(propertyKeys), 1+int64(r.IntN(9))
				tokens[n] <- struct{}{}
				co := c.nodes[n].coord
				<-tokens[n]
				l.note(t, k, by, addWith(co, levels[r.IntN(len(levels))], c.add(key(k), "a", by)))
				time.Sleep(time.Duration(r.IntN(60000)) * time.Microsecond)
			}
		})
	}
	clients.Wait()
	cancel()
	storm.Wait()
	time.Sleep(10 * time.Second) // what was sent last has timed out
	eventually(t, "hints delivered", func() bool {
		sum := int64(0)
		for _, n := range c.nodes {
			sum += hintsOf(n)
		}
		return sum == 0
	})
	for k := range propertyKeys {
		text := c.counter(k%len(c.nodes), coordinator.All, key(k)) // repairs what a crash has taken the hints of
		value := int64(0)
		if text != "" {
			if _, err := fmt.Sscanf(text, "a=%d ", &value); err != nil {
				t.Fatal(err)
			}
		}
		if value < l.acked[k] || value > l.acked[k]+l.unknown[k] {
			t.Errorf("counter %d is %d: %d were acknowledged, %d are unknown", k, value, l.acked[k], l.unknown[k])
		}
		in, _ := c.replicasOf(key(k))
		first, digest := c.countedAt(in[0], key(k))
		for _, n := range in[1:] {
			if text, d := c.countedAt(n, key(k)); d != digest {
				t.Errorf("counter %d: node %d has %q, node %d has %q", k, n, text, in[0], first)
			}
		}
	}
	for i, n := range c.nodes {
		if n.coord.InFlight() != 0 {
			t.Errorf("node %d: %d requests in flight at the end", i, n.coord.InFlight())
		}
	}
}
