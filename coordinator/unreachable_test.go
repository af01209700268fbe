package coordinator_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/helenusdb/helenus/coordinator"
	"github.com/helenusdb/helenus/rpc"
)

// wantTimeout checks that an operation timed out with so many answers, and did not wait for that.
func wantTimeout(t *testing.T, what string, err error, took time.Duration, received, blockFor int) {
	t.Helper()
	var wt *coordinator.WriteTimeout
	var rt *coordinator.ReadTimeout
	got, need := -1, -1
	if errors.As(err, &wt) {
		got, need = wt.Received, wt.BlockFor
	} else if errors.As(err, &rt) {
		got, need = rt.Received, rt.BlockFor
	}
	if got != received || need != blockFor {
		t.Errorf("%s: %v (%d of %d), want a timeout with %d of %d", what, err, got, need, received, blockFor)
	}
	if took > 200*time.Millisecond {
		t.Errorf("%s: it took %v", what, took)
	}
}

// TestAKilledReplicaIsATimeout: replicas were just killed and nobody has noticed, so that their connections are refused at once.
// Levels that can do without them do; the others time out, as in Cassandra, and not only when the time is up. They do not
// fail: nobody said no, and a hint brings the write when the replica is back.
func TestAKilledReplicaIsATimeout(t *testing.T) {
	simulated(t, func(t *testing.T) {
		c := three(t)
		c.mustWrite(0, coordinator.All, c.put(c.wide, key(1), "a", 1, "x"))
		for killed, levels := range []map[coordinator.Level]int{ // per level how many are wanted; 0: it is reached
			{},
			{coordinator.One: 0, coordinator.Quorum: 0, coordinator.LocalQuorum: 0, coordinator.Three: 3, coordinator.All: 3},
			{coordinator.One: 0, coordinator.Quorum: 2, coordinator.LocalQuorum: 2, coordinator.Two: 2, coordinator.Three: 3, coordinator.All: 3},
		} {
			if killed > 0 {
				c.nodes[3-killed].halt()
			}
			for round := range 2 { // of connections that break, and of such that are refused
				for level, need := range levels {
					began := time.Now()
					err := c.nodes[0].write(level, c.put(c.wide, key(2), "a", int64(10*killed+round+1), "y"))
					if need > 0 {
						wantTimeout(t, "write at "+level.String(), err, time.Since(began), 3-killed, need)
					} else if err != nil {
						t.Errorf("%d killed, write at %s: %v", killed, level, err)
					}
					began = time.Now()
					p, err := c.nodes[0].read(level, c.whole(c.wide, key(1)))
					if need > 0 {
						wantTimeout(t, "read at "+level.String(), err, time.Since(began), 3-killed, need)
					} else if err != nil || pageText(t, p, time.Now().Unix()) != "a=x " {
						t.Errorf("%d killed, read at %s: %v", killed, level, err)
					}
				}
			}
		}
		for i := 1; i < 3; i++ {
			c.nodes[i].start()
			c.nodes[i].connect()
		}
		for i := 1; i < 3; i++ {
			eventually(t, "the hint arrives", func() bool { return c.has(i, c.wide, key(2)) == "a=y " })
		}
	})
}

// TestRefusalsStayFailures: of replicas that are not to be reached and one that says no, the latter decides, and each has its
// reason. Those that start, stop or have too much to do say nothing.
func TestRefusalsStayFailures(t *testing.T) {
	simulated(t, func(t *testing.T) {
		c := three(t)
		for _, x := range []struct {
			name     string
			one, two action
			reasons  []uint16 // of 1 and 2; nil: a timeout
		}{
			{"unsent and refused", action{unsent: true}, action{refuse: rpc.StatusFailed}, []uint16{coordinator.ReasonTimeout, coordinator.ReasonUnknown}},
			{"both refused", action{refuse: rpc.StatusFailed}, action{refuse: rpc.StatusFailed}, []uint16{coordinator.ReasonUnknown, coordinator.ReasonUnknown}},
			{"unsent and overloaded", action{unsent: true}, action{refuse: rpc.StatusOverloaded}, nil},
			{"starting and expired", action{refuse: rpc.StatusNotReady}, action{refuse: rpc.StatusExpired}, nil},
		} {
			c.setFault(func(m message) action { return map[int]action{1: x.one, 2: x.two}[m.to] })
			for _, level := range []coordinator.Level{coordinator.Quorum, coordinator.All} {
				need := map[coordinator.Level]int{coordinator.Quorum: 2, coordinator.All: 3}[level]
				began := time.Now()
				werr := c.nodes[0].write(level, c.put(c.wide, key(1), "a", 1, "x"))
				_, rerr := c.nodes[0].read(level, c.whole(c.wide, key(1)))
				took := time.Since(began)
				if x.reasons == nil {
					wantTimeout(t, x.name, werr, took, 1, need)
					wantTimeout(t, x.name, rerr, took, 1, need)
					continue
				}
				var wf *coordinator.WriteFailure
				var rf *coordinator.ReadFailure
				if !errors.As(werr, &wf) || !errors.As(rerr, &rf) {
					t.Errorf("%s at %s: %v, %v", x.name, level, werr, rerr)
					continue
				}
				for _, fails := range [][]coordinator.Failure{wf.Failures, rf.Failures} {
					got := map[byte]uint16{}
					for _, f := range fails {
						got[f.Host[15]] = f.Code
					}
					if len(got) != 2 || got[2] != x.reasons[0] || got[3] != x.reasons[1] {
						t.Errorf("%s at %s: %v", x.name, level, fails)
					}
				}
			}
		}
	})
}

// TestKilledReplicasOfSerialOperations: a serial read times out as other reads do. A conditional write of which nothing was
// proposed is not applied for sure, which is what a failure says.
func TestKilledReplicasOfSerialOperations(t *testing.T) {
	simulated(t, func(t *testing.T) {
		c := three(t)
		c.mustCAS(0, key(1), "", "x")
		c.nodes[1].halt()
		c.nodes[2].halt()
		r := &coordinator.Read{Command: c.whole(c.wide, key(1)), Level: coordinator.Serial}
		var timeout *coordinator.ReadTimeout
		if err := c.nodes[0].coord.SerialRead(context.Background(), r); !errors.As(err, &timeout) || timeout.BlockFor != 2 {
			t.Errorf("serial read: %v", err)
		}
		applied, _, err := c.cas(0, key(1), set("x", "y"))
		var failure *coordinator.WriteFailure
		if applied || !errors.As(err, &failure) || len(failure.Failures) != 2 || failure.Failures[0].Code != coordinator.ReasonTimeout {
			t.Errorf("conditional write: %v, %v", applied, err)
		}
	})
}

// TestKilledKeepersOfALoggedBatch: the batch times out as BATCH_LOG, which drivers try again.
func TestKilledKeepersOfALoggedBatch(t *testing.T) {
	simulated(t, func(t *testing.T) {
		c := three(t)
		c.setFault(func(m message) action { return action{unsent: m.to != 0} })
		err := c.nodes[0].logged(coordinator.Quorum, c.batchOf(3, 1)...)
		var timeout *coordinator.WriteTimeout
		if !errors.As(err, &timeout) || timeout.Type != coordinator.BatchLog || timeout.Received != 0 {
			t.Errorf("logged batch: %v", err)
		}
	})
}
