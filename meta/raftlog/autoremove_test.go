package raftlog

import (
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/helenusdb/helenus/meta"
	"github.com/helenusdb/helenus/ring"
)

// TestOverdue: who is removed by itself, when, and what is in the way.
func TestOverdue(t *testing.T) {
	const ticks = 100
	s := joinedState(t, 4)
	dead, down := map[ring.HostID]bool{}, map[ring.HostID]int{}
	var fits error
	pass := func(n int) (got *meta.Command, err error) {
		for range n {
			countDown(down, s, func(id ring.HostID) bool { return dead[id] })
			c, e := overdue(down, s, ticks, func(begun *meta.State) error {
				if begun.OperationOn(hostID(3)) == nil {
					t.Error("it is asked about a state in which nothing has begun")
				}
				return fits
			})
			if got == nil && err == nil {
				got, err = c, e
			}
		}
		return got, err
	}
	nobody := func(what string, n int) {
		t.Helper()
		if c, err := pass(n); c != nil || err != nil {
			t.Errorf("%s: %+v, %v", what, c, err)
		}
	}
	removed := func(what string, n int) {
		t.Helper()
		if c, err := pass(n); err != nil || c == nil || c.Kind != meta.StartOperation || c.OperationKind != meta.Remove || c.Node.ID != hostID(3) || c.Force {
			t.Errorf("%s: %+v, %v", what, c, err)
		}
	}
	nobody("all are alive", 3*ticks)
	dead[hostID(3)] = true
	nobody("not for long enough", ticks)
	dead[hostID(3)] = false
	nobody("it is back", 1)
	dead[hostID(3)] = true
	nobody("it is away again", ticks)
	removed("its time has come", 1)
	nobody("it was asked for", overdueTicks-1)
	removed("it was asked for in vain", 1)

	dead[hostID(2)] = true
	nobody("two are dead", 3*overdueTicks)
	dead[hostID(2)] = false
	removed("one of them is back", overdueTicks)

	fits = errors.New("a range has too few replicas")
	if c, err := pass(overdueTicks); c != nil || !errors.Is(err, fits) {
		t.Errorf("it does not fit: %+v, %v", c, err)
	}
	fits = nil
	apply := func(c *meta.Command) { t.Helper(); s = applied(t, s, c) }
	apply(&meta.Command{Kind: meta.AddPending, Node: joiner(6)})
	nobody("something moves", 3*overdueTicks)
	apply(&meta.Command{Kind: meta.AbortOperation, Operation: s.Operations[0].ID})
	removed("nothing moves any more", overdueTicks)
	apply(&meta.Command{Kind: meta.RemoveNode, Node: meta.Node{ID: hostID(3)}})
	nobody("it has left", 3*overdueTicks)
	if len(down) != 0 {
		t.Errorf("%v are down", down)
	}
	if c, err := overdue(map[ring.HostID]int{hostID(2): 1 << 20}, s, 0, nil); c != nil || err != nil {
		t.Errorf("although it is off: %+v, %v", c, err)
	}
}

// TestAutoRemove: in virtual time, the leader removes the one member that stays down, after its time and not before, and no second one beside it; a cluster without the option removes nobody.
func TestAutoRemove(t *testing.T) {
	for name, after := range map[string]time.Duration{"on": 3 * time.Minute, "off": 0} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var dead [6]atomic.Bool // by the first byte of the host id
				c := formed(t, 1, 5, func(c *cluster) {
					c.tune = func(o *Options) {
						o.AutoRemove.After, o.Alive = after, func(id ring.HostID) bool { return !dead[id[0]].Load() }
					}
				})
				halt := func(i int) {
					dead[hostID(i)[0]].Store(true)
					c.nodes[i].halt()
				}
				halt(4)
				time.Sleep(2 * time.Minute)
				if s := c.nodes[0].svc.Current(); s.Phase() != meta.None {
					t.Errorf("too early: %v", s.Operations)
				}
				time.Sleep(3 * time.Minute)
				ops := c.nodes[0].svc.Current().Operations
				if after == 0 {
					if len(ops) > 0 {
						t.Errorf("although it is off: %v", ops)
					}
					return
				}
				if len(ops) != 1 || ops[0].Kind != meta.Remove || ops[0].Node != hostID(4) || ops[0].Forced {
					t.Fatalf("after its time: %v", ops)
				}
				halt(3)
				time.Sleep(10 * time.Minute)
				if now := c.nodes[0].svc.Current().Operations; len(now) != 1 {
					t.Errorf("two at a time: %v", now)
				}
			})
		})
	}
}
