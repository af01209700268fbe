package coordinator_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/helenusdb/helenus/coordinator"
	"github.com/helenusdb/helenus/row"
	"github.com/helenusdb/helenus/rpc"
)

// cas makes a conditional write of row "a" of a partition: change is told its value, "" for none, and returns the next one;
// "" writes nothing.
func (c *cluster) cas(n int, pk []byte, change func(was string) string, with ...func(*coordinator.CAS)) (applied bool, was string, err error) {
	op := &coordinator.CAS{Command: c.pointRead(c.wide, pk), Serial: coordinator.Serial, Commit: coordinator.Quorum}
	op.Decide = func(page *row.Page, ts, now int64) ([]row.Mutation, bool, error) {
		was = strings.TrimPrefix(strings.TrimSpace(pageText(c.t, page, now)), "a=")
		next := change(was)
		if next == "" {
			return nil, false, nil
		}
		return []row.Mutation{c.put(c.wide, pk, "a", ts, next)}, true, nil
	}
	for _, f := range with {
		f(op)
	}
	applied, err = c.nodes[n].up().CAS(context.Background(), op)
	return applied, was, err
}

// set is a change from one value to another.
func set(from, to string) func(string) string {
	return func(was string) string {
		if was == from {
			return to
		}
		return ""
	}
}

func add(was string) string {
	n := 0
	if was != "" {
		_, _ = fmt.Sscan(was, &n)
	}
	return fmt.Sprint(n + 1)
}

func (c *cluster) serial(n int, pk []byte, level coordinator.Level) (string, error) {
	r := &coordinator.Read{Command: c.pointRead(c.wide, pk), Level: level}
	if err := c.nodes[n].up().SerialRead(context.Background(), r); err != nil {
		return "", err
	}
	return strings.TrimPrefix(strings.TrimSpace(pageText(c.t, &r.Page, r.Command.Now)), "a="), nil
}

func (c *cluster) mustCAS(n int, pk []byte, from, to string) {
	c.t.Helper()
	if applied, was, err := c.cas(n, pk, set(from, to)); err != nil || !applied {
		c.t.Fatalf("%q to %q: %v, %v, it was %q", from, to, applied, err, was)
	}
}

func (c *cluster) mustSerial(n int, pk []byte, want string) {
	c.t.Helper()
	if got, err := c.serial(n, pk, coordinator.Serial); err != nil || got != want {
		c.t.Fatalf("serial read: %q, %v; want %q", got, err, want)
	}
}

// TestCAS: conditions hold or do not, every coordinator sees what was written, and plain reads at the commit level too.
func TestCAS(t *testing.T) {
	simulated(t, func(t *testing.T) {
		c := three(t)
		pk := key(1)
		c.mustSerial(0, pk, "")
		c.mustCAS(0, pk, "", "x")
		if applied, was, err := c.cas(1, pk, set("", "y")); applied || was != "x" || err != nil {
			t.Errorf("a second insert: %v, %v, it was %q", applied, err, was)
		}
		c.mustCAS(2, pk, "x", "z")
		for n := range c.nodes {
			c.mustSerial(n, pk, "z")
			if got := c.mustRead(n, coordinator.Quorum, c.pointRead(c.wide, pk)); got != "a=z " {
				t.Errorf("node %d at QUORUM: %q", n, got)
			}
		}
		time.Sleep(time.Second)
		for n := range c.nodes {
			if got := c.has(n, c.wide, pk); got != "a=z " {
				t.Errorf("node %d has %q", n, got)
			}
			if got := c.nodes[n].coord.InFlight(); got != 0 {
				t.Errorf("%d requests in flight", got)
			}
		}
	})
}

// TestRoundTrips: two until it is decided, a commit, and one of a serial read without a write. Messages take time, so that the
// leader's own promise, which has the content, is among the first: without it the content is read again and the answer proposed.
func TestRoundTrips(t *testing.T) {
	simulated(t, func(t *testing.T) {
		c := three(t)
		far := func(message) action { return action{delay: 200 * time.Microsecond} }
		c.setFault(far)
		pk := key(1)
		c.mustCAS(0, pk, "", "1")
		time.Sleep(time.Second)
		c.setFault(far)
		c.mustCAS(0, pk, "1", "2")
		time.Sleep(time.Second)
		if p, a, k := c.sent(coordinator.VerbPrepare), c.sent(coordinator.VerbAccept), c.sent(coordinator.VerbCommit); p != 2 || a != 2 || k != 2 {
			t.Errorf("applied: %d prepares, %d accepts, %d commits", p, a, k)
		}
		c.setFault(far)
		if applied, _, err := c.cas(1, pk, set("1", "3")); applied || err != nil {
			t.Error(applied, err)
		}
		time.Sleep(time.Second)
		if p, a := c.sent(coordinator.VerbPrepare), c.sent(coordinator.VerbAccept); p != 2 || a != 0 {
			t.Errorf("not applied: %d prepares, %d accepts", p, a)
		}
		c.setFault(far)
		c.mustSerial(2, pk, "2")
		if l, p := c.sent(coordinator.VerbPeek), c.sent(coordinator.VerbPrepare); l != 1 || p != 0 {
			t.Errorf("serial read: %d peeks, %d prepares", l, p)
		}
	})
}

// TestOneNode: a register of one replica.
func TestCASOnOneNode(t *testing.T) {
	simulated(t, func(t *testing.T) {
		c := single(t)
		c.mustCAS(0, key(1), "", "x")
		c.mustCAS(0, key(1), "x", "y")
		c.mustSerial(0, key(1), "y")
	})
}

// TestContention: many clients on one key through all coordinators: every increment counts once, all make progress, nobody waits
// ten times as long as the others.
func TestScenario_P7_Contention(t *testing.T) {
	simulated(t, func(t *testing.T) {
		c := three(t)
		pk := key(1)
		c.setFault(func(message) action { return action{delay: 200 * time.Microsecond} })
		const clients, ops = 16, 50
		var wg sync.WaitGroup
		var mu sync.Mutex
		applied, unknown := 0, 0
		took := make([][]time.Duration, clients)
		for i := range clients {
			wg.Go(func() {
				for range ops {
					began := time.Now()
					ok, _, err := c.cas(i%3, pk, add)
					mu.Lock()
					took[i] = append(took[i], time.Since(began))
					if ok {
						applied++
					}
					if err != nil {
						unknown++
						t.Logf("client %d: %v", i, err)
					}
					mu.Unlock()
				}
			})
		}
		began := time.Now()
		wg.Wait()
		rate := float64(clients*ops) / time.Since(began).Seconds()
		worst, median := spread(took)
		t.Logf("%d applied, %d unknown, %.0f/s, median %v, worst %v", applied, unknown, rate, median, worst)
		got, err := c.serial(0, pk, coordinator.Serial)
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		_, _ = fmt.Sscan(got, &n)
		if n < applied || n > applied+unknown || applied+unknown != clients*ops {
			t.Errorf("the counter is %d after %d increments and %d unknown ones", n, applied, unknown)
		}
		if unknown > 0 || worst > 10*median {
			t.Errorf("%d unknown; worst %v, median %v", unknown, worst, median)
		}
	})
}

func spread(took [][]time.Duration) (worst, median time.Duration) {
	var all []time.Duration
	for _, x := range took {
		all = append(all, x...)
	}
	for i := 1; i < len(all); i++ {
		for j := i; j > 0 && all[j] < all[j-1]; j-- {
			all[j], all[j-1] = all[j-1], all[j]
		}
	}
	return all[len(all)-1], all[len(all)/2]
}

// TestScenario_P5: Unavailable is told before anything is sent; what happens after accept is never "unavailable".
func TestScenario_P5_HonestOutcomes(t *testing.T) {
	simulated(t, func(t *testing.T) {
		c := three(t)
		pk := key(1)
		c.setDown(1, true)
		c.setDown(2, true)
		c.setFault(nil)
		var u *coordinator.Unavailable
		if _, _, err := c.cas(0, pk, set("", "x")); !errors.As(err, &u) || u.Level != coordinator.Serial || u.Required != 2 || u.Alive != 1 {
			t.Errorf("got %v", err)
		}
		c.setDown(1, false)
		if _, _, err := c.cas(0, pk, set("", "x"), func(op *coordinator.CAS) { op.Commit = coordinator.All }); !errors.As(err, &u) || u.Level != coordinator.All {
			t.Errorf("commit level: %v", err)
		}
		c.mu.Lock()
		sent := len(c.log)
		c.mu.Unlock()
		if sent != 0 {
			t.Errorf("%d messages", sent)
		}
		c.setDown(2, false)
		for _, verb := range []rpc.Verb{coordinator.VerbPrepare, coordinator.VerbAccept, coordinator.VerbCommit} {
			for _, a := range []action{{drop: true}, {dropReply: true}} {
				pk := key(int(verb)*10 + map[bool]int{true: 1}[a.drop])
				c.setFault(func(m message) action {
					if m.verb == verb {
						return a
					}
					return action{}
				})
				var wt *coordinator.WriteTimeout
				ok, _, err := c.cas(0, pk, set("", "x"))
				if ok || !errors.As(err, &wt) || wt.Type != coordinator.CASType || wt.BlockFor != 2 {
					t.Errorf("verb %d %+v: %v, %v", verb, a, ok, err)
				}
				c.setFault(nil)
				got, err := c.serial(1, pk, coordinator.Serial)
				want := map[rpc.Verb]string{coordinator.VerbCommit: "x"}[verb]
				if verb == coordinator.VerbAccept { // node 0 has it, and maybe the others
					if err != nil || got != "x" && got != "" {
						t.Errorf("verb %d: then %q, %v", verb, got, err)
					}
					again, err := c.serial(2, pk, coordinator.Serial)
					if err != nil || again != got {
						t.Errorf("verb %d: %q, then %q, %v", verb, got, again, err)
					}
				} else if err != nil || got != want {
					t.Errorf("verb %d: then %q, %v", verb, got, err)
				}
			}
		}
	})
}
