package coordinator_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/helenusdb/helenus/coordinator"
	"github.com/helenusdb/helenus/rpc"
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

// TestTimeoutIsNoFailure: what was sent and not acknowledged is a timeout, what was refused a failure, and a mixture
// that may be applied is a timeout.
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
			{"not sent", action{unsent: true}, action{unsent: true}, true},
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
