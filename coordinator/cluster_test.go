package coordinator_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/helenusdb/helenus/coordinator"
	"github.com/helenusdb/helenus/row"
	"github.com/helenusdb/helenus/rpc"
	"github.com/helenusdb/helenus/schema"
)

// simulated runs a test in virtual time.
func simulated(t *testing.T, f func(t *testing.T)) { synctest.Test(t, f) }

func three(t testing.TB) *cluster { return newCluster(t, layout{dcs: nodesIn("dc1", 3)}) }

func TestWriteAndReadAtEveryLevel(t *testing.T) {
	simulated(t, func(t *testing.T) {
		c := three(t)
		for i, level := range []coordinator.Level{coordinator.Any, coordinator.One, coordinator.Two, coordinator.Three, coordinator.Quorum,
			coordinator.All, coordinator.LocalQuorum, coordinator.EachQuorum, coordinator.LocalOne} {
			for from := range c.nodes {
				pk := key(10*i + from)
				c.mustWrite(from, level, c.put(c.wide, pk, "a", 1, "x"), c.put(c.wide, pk, "b", 1, "y"))
				if got := c.mustRead((from+1)%3, coordinator.All, c.whole(c.wide, pk)); got != "a=x b=y " {
					t.Errorf("%s from %d: %q", level, from, got)
				}
				if level == coordinator.Any {
					continue
				}
				if got := c.mustRead(from, level, c.whole(c.wide, pk)); got != "a=x b=y " {
					t.Errorf("read at %s from %d: %q", level, from, got)
				}
			}
		}
		for _, n := range c.nodes {
			if got := n.coord.InFlight(); got != 0 {
				t.Errorf("%d requests in flight at the end", got)
			}
		}
	})
}

// TestUnavailableSendsNothing: too few live replicas are told of before anything leaves.
func TestUnavailableSendsNothing(t *testing.T) {
	simulated(t, func(t *testing.T) {
		c := three(t)
		c.setDown(1, true)
		c.setDown(2, true)
		c.setFault(nil)
		err := c.nodes[0].write(coordinator.Quorum, c.put(c.wide, key(1), "a", 1, "x"))
		var u *coordinator.Unavailable
		if !errors.As(err, &u) || u.Required != 2 || u.Alive != 1 {
			t.Errorf("got %v %+v", err, u)
		}
		_, err = c.nodes[0].read(coordinator.All, c.whole(c.wide, key(1)))
		if !errors.As(err, &u) || u.Required != 3 || u.Alive != 1 {
			t.Errorf("got %v", err)
		}
		if n := c.sent(coordinator.VerbMutate) + c.sent(coordinator.VerbRead); n != 0 || c.has(0, c.wide, key(1)) != "" {
			t.Errorf("%d messages, this node has %q", n, c.has(0, c.wide, key(1)))
		}
		if n, _ := c.nodes[0].coord.Hints().Pending(); n != 0 {
			t.Errorf("%d hints", n)
		}
	})
}

// TestTimeoutIsNoFailure: what was sent and not acknowledged is a timeout, and so is what could not be sent; what was refused is
// a failure, and a mixture that may be applied is a timeout.
func TestTimeoutIsNoFailure(t *testing.T) {
	simulated(t, func(t *testing.T) {
		c := three(t)
		for _, x := range []struct {
			name    string
			one     action
			two     action
			failure bool
		}{
			{"both lost", action{drop: true}, action{drop: true}, false},
			{"answers lost", action{dropReply: true}, action{dropReply: true}, false},
			{"both refused", action{refuse: rpc.StatusFailed}, action{refuse: rpc.StatusFailed}, true},
			{"not sent", action{unsent: true}, action{unsent: true}, false},
			{"lost and refused", action{drop: true}, action{refuse: rpc.StatusFailed}, false},
		} {
			c.setFault(func(m message) action {
				if m.to == 1 {
					return x.one
				}
				return x.two
			})
			err := c.nodes[0].write(coordinator.Quorum, c.put(c.wide, key(1), "a", 1, "x"))
			var timeout *coordinator.WriteTimeout
			var failure *coordinator.WriteFailure
			if x.failure && (!errors.As(err, &failure) || len(failure.Failures) != 2 || failure.Received != 1 || failure.BlockFor != 2) ||
				!x.failure && (!errors.As(err, &timeout) || timeout.Received != 1 || timeout.BlockFor != 2) {
				t.Errorf("%s: write: %v", x.name, err)
			}
			_, err = c.nodes[0].read(coordinator.Quorum, c.whole(c.wide, key(1)))
			var rt *coordinator.ReadTimeout
			var rf *coordinator.ReadFailure
			if x.failure && (!errors.As(err, &rf) || rf.Received != 1 || rf.BlockFor != 2) ||
				!x.failure && (!errors.As(err, &rt) || rt.Received != 1 || rt.BlockFor != 2) {
				t.Errorf("%s: read: %v", x.name, err)
			}
			time.Sleep(time.Second)
		}
	})
}

// TestAHintIsNoReplica: with one replica down and another silent QUORUM is not reached, hint or no hint.
func TestAHintIsNoReplica(t *testing.T) {
	simulated(t, func(t *testing.T) {
		c := three(t)
		c.setDown(1, true)
		c.setFault(func(m message) action { return action{drop: m.to == 2} })
		var timeout *coordinator.WriteTimeout
		if err := c.nodes[0].write(coordinator.Quorum, c.put(c.wide, key(1), "a", 1, "x")); !errors.As(err, &timeout) || timeout.Received != 1 {
			t.Errorf("got %v", err)
		}
	})
}

// spoiler does with a Write what its owner may do once Done was called.
type spoiler struct{ done chan error }

func (s spoiler) WriteDone(w *coordinator.Write, err error) {
	for i := range w.Mutations {
		w.Mutations[i].Key[0]++
		w.Mutations[i] = row.Mutation{}
	}
	s.done <- err
}

// TestTheWriteIsNotUsedAfterDone: not by parts of a batch that are dispatched after one has failed already.
func TestTheWriteIsNotUsedAfterDone(t *testing.T) {
	simulated(t, func(t *testing.T) {
		c := newCluster(t, layout{dcs: nodesIn("dc1", 3), keyspace: []schema.Pair{{Key: "class", Value: "SimpleStrategy"}, {Key: "replication_factor", Value: "1"}}})
		c.setFault(func(m message) action { return action{unsent: true} })
		here := bytes.Clone(c.keyOf(0))
		w := &coordinator.Write{Level: coordinator.One, Done: spoiler{make(chan error, 1)},
			Mutations: []row.Mutation{c.put(c.wide, bytes.Clone(c.keyOf(1)), "a", 1, "x"), c.put(c.wide, bytes.Clone(here), "a", 1, "x")}}
		b := c.nodes[0].coord.NewBurst()
		b.Write(w)
		b.Close()
		var late *coordinator.WriteTimeout
		if err := <-w.Done.(spoiler).done; !errors.As(err, &late) {
			t.Errorf("got %v", err)
		}
		time.Sleep(time.Second)
		if got := c.has(0, c.wide, here); got != "a=x " {
			t.Errorf("the second part: %q", got)
		}
	})
}

// TestBatchOfManyPartitions: more parts than an operation keeps room for, over tables, all or nothing per level.
func TestBatchOfManyPartitions(t *testing.T) {
	simulated(t, func(t *testing.T) {
		c := three(t)
		var ms []row.Mutation
		for i := range 100 {
			ms = append(ms, c.put(c.wide, key(i), "a", 1, "x"), c.put(c.plain, key(i), "", 1, "y"))
		}
		c.mustWrite(1, coordinator.Quorum, ms...)
		for i := range 100 {
			if a, b := c.mustRead(2, coordinator.All, c.whole(c.wide, key(i))), c.mustRead(0, coordinator.All, c.whole(c.plain, key(i))); a != "a=x " || b != "=y " {
				t.Fatalf("partition %d: %q %q", i, a, b)
			}
		}
	})
}

// TestLargeWrites: a burst commits by itself when it has much; what no message can carry is refused before dispatch.
func TestLargeWrites(t *testing.T) {
	simulated(t, func(t *testing.T) {
		c := three(t)
		large := strings.Repeat("v", 1<<20)
		b := c.nodes[0].coord.NewBurst()
		w := &waiter{}
		for i := range 6 {
			w.wg.Add(1)
			b.Write(&coordinator.Write{Mutations: []row.Mutation{c.put(c.wide, key(i), "a", 1, large)}, Level: coordinator.All, Done: w})
		}
		b.Close()
		w.wg.Wait()
		if w.err != nil {
			t.Fatal(w.err)
		}
		c.setFault(nil)
		var tooLarge *coordinator.TooLarge
		if err := c.nodes[0].write(coordinator.One, c.put(c.wide, key(99), "a", 1, strings.Repeat("v", 17<<20))); !errors.As(err, &tooLarge) || c.sent(coordinator.VerbMutate) != 0 {
			t.Errorf("got %v", err)
		}
		alone := single(t)
		if err := alone.nodes[0].write(coordinator.One, alone.put(alone.wide, key(99), "a", 1, strings.Repeat("v", 17<<20))); !errors.As(err, &tooLarge) || tooLarge.Size < 17<<20 || tooLarge.Max != 16<<20-8 {
			t.Errorf("on one node: %v", err)
		}
		for i := range 12 { // more than one page of repairs, too
			c.plant(1, c.put(c.wide, key(200), string(rune('a'+i)), 2, large[:400<<10]))
		}
		cmd := c.whole(c.wide, key(200))
		cmd.Bytes = 8 << 20
		if got := c.mustRead(0, coordinator.All, cmd); len(strings.Fields(got)) != 12 {
			t.Errorf("%d rows", len(strings.Fields(got)))
		}
		if got := c.has(2, c.wide, key(200)); len(got) == 0 {
			t.Error("not repaired")
		}
	})
}

// TestStop: what is under way when a node stops is answered, and no goroutine stays behind.
func TestStop(t *testing.T) {
	simulated(t, func(t *testing.T) {
		c := three(t)
		c.setFault(func(m message) action { return action{delay: 100 * time.Millisecond} })
		w := &waiter{}
		b := c.nodes[0].coord.NewBurst()
		for i := range 50 {
			w.wg.Add(1)
			b.Write(&coordinator.Write{Mutations: []row.Mutation{c.put(c.wide, key(i), "a", 1, "x")}, Level: coordinator.All, Done: w})
		}
		b.Close()
		c.nodes[0].halt()
		w.wg.Wait()
		var failure *coordinator.WriteFailure
		var timeout *coordinator.WriteTimeout
		if !errors.As(w.err, &failure) && !errors.As(w.err, &timeout) {
			t.Errorf("got %v", w.err)
		}
	})
}

// TestARefusedPartLeavesNothing: of the mutations of one partition the second is refused, here and elsewhere, and the
// client is told that the write failed: then nothing of it is applied, not even with what others write at the same time.
func TestARefusedPartLeavesNothing(t *testing.T) {
	simulated(t, func(t *testing.T) {
		c := three(t)
		for _, n := range c.nodes {
			if err := n.engine.DropGeneration(c.plain.Generation); err != nil {
				t.Fatal(err)
			}
		}
		for from := range c.nodes {
			bad, good := key(2*from), key(2*from+1)
			w := &waiter{}
			w.wg.Add(1)
			ok := &waiter{}
			ok.wg.Add(1)
			b := c.nodes[from].coord.NewBurst()
			b.Write(&coordinator.Write{Mutations: []row.Mutation{c.put(c.wide, bad, "a", 1, "x"), c.put(c.plain, bad, "", 1, "x")}, Level: coordinator.One, Done: w})
			b.Write(&coordinator.Write{Mutations: []row.Mutation{c.put(c.wide, good, "a", 1, "x")}, Level: coordinator.All, Done: ok})
			b.Close()
			w.wg.Wait()
			ok.wg.Wait()
			var f *coordinator.WriteFailure
			if !errors.As(w.err, &f) || len(f.Failures) != 3 || ok.err != nil {
				t.Errorf("from %d: %v, %v", from, w.err, ok.err)
			}
			for i := range c.nodes {
				if got := c.has(i, c.wide, bad); got != "" {
					t.Errorf("from %d: node %d has %q of a write that failed", from, i, got)
				}
				if got := c.has(i, c.wide, good); got != "a=x " {
					t.Errorf("from %d: node %d has %q", from, i, got)
				}
			}
		}
	})
}
