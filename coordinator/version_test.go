package coordinator_test

import (
	"errors"
	"testing"

	"github.com/helenusdb/helenus/coordinator"
	"github.com/helenusdb/helenus/meta"
)

// TestMixedVersions: while one member does not know the messages of logged batches, counters and conditional writes none of them
// is sent, to nobody, and each is refused by name with nothing done; everything else goes on. When the last member was
// upgraded they work.
func TestMixedVersions(t *testing.T) {
	simulated(t, func(t *testing.T) {
		c := three(t)
		upgraded := c.state
		old, err := meta.DecodeState(upgraded.Encode())
		if err != nil {
			t.Fatal(err)
		}
		old.ClusterVersion = meta.VersionAgreement - 1
		for _, n := range c.nodes {
			n.state.Store(old)
		}
		c.setFault(nil)
		refused := func(what string, err error) {
			t.Helper()
			var notYet *coordinator.NotYet
			if !errors.As(err, &notYet) || notYet.Have != old.ClusterVersion || notYet.Need != meta.VersionAgreement {
				t.Errorf("%s: %v", what, err)
			}
		}
		for i, n := range c.nodes {
			refused("counter", n.addTo(coordinator.Quorum, c.add(key(50+i), "a", 1)))
			refused("logged batch", n.logged(coordinator.Quorum, c.batchOf(4, 1)...))
			_, _, err := c.cas(i, key(60), set("", "x"))
			refused("conditional write", err)
			_, err = c.serial(i, key(60), coordinator.Serial)
			refused("serial read", err)
			c.mustWrite(i, coordinator.All, c.put(c.wide, key(70), "a", int64(i+1), "x"))
			if got := c.mustRead(i, coordinator.Quorum, c.whole(c.wide, key(70))); got != "a=x " {
				t.Errorf("plain: %q", got)
			}
			if n := n.coord.InFlight(); n != 0 {
				t.Errorf("node %d: %d in flight", i, n)
			}
		}
		c.mu.Lock()
		for _, m := range c.log {
			switch m.verb {
			case coordinator.VerbMutate, coordinator.VerbRead:
			default:
				t.Errorf("verb %d was sent", m.verb)
			}
		}
		c.mu.Unlock()

		for _, n := range c.nodes {
			n.state.Store(upgraded)
		}
		c.mustAdd(0, coordinator.Quorum, c.add(key(50), "a", 1))
		if err := c.nodes[0].logged(coordinator.Quorum, c.batchOf(4, 1)...); err != nil {
			t.Error(err)
		}
		c.mustCAS(0, key(60), "", "x")
		c.mustSerial(1, key(60), "x")
	})
}
