package coordinator_test

import (
	"errors"
	"testing"

	"github.com/helenusdb/helenus/coordinator"
	"github.com/helenusdb/helenus/rpc"
)

// heldRegisters are registers on a disk that can get stuck.
type heldRegisters struct {
	coordinator.Registers
	d *stuckDisk
}

func (h heldRegisters) NewRegisterBatch() coordinator.RegisterBatch {
	return heldRegisterBatch{h.Registers.NewRegisterBatch(), h.d}
}

type heldRegisterBatch struct {
	coordinator.RegisterBatch
	d *stuckDisk
}

func (b heldRegisterBatch) CommitSynced(c coordinator.Committed) {
	b.RegisterBatch.CommitSynced(afterStuck{b.d, c})
}

// withHeldRegisters returns a cluster of three of which node 2 is down, and the disk of node 1's registers, which is stuck from the first message of a kind on.
func withHeldRegisters(t *testing.T, from rpc.Verb) (*cluster, *stuckDisk) {
	d := &stuckDisk{}
	c := newCluster(t, layout{dcs: nodesIn("dc1", 3), tune: func(o *coordinator.Options) {
		if o.Self == hostID(1) {
			o.Registers = heldRegisters{o.Registers, d}
		}
	}})
	t.Cleanup(func() { d.set(false, nil) })
	c.setDown(2, true)
	c.setFault(func(m message) action {
		if m.verb == from && m.to == 1 {
			d.set(true, nil)
		}
		return action{}
	})
	return c, d
}

// TestScenario_P14_NothingIsSaidBeforeItIsDurable: an acceptor whose disk is stuck neither promises nor accepts as far as others hear, so that nothing that a
// power loss could take back is built upon. Once the disk goes on, so does the partition.
func TestScenario_P14_NothingIsSaidBeforeItIsDurable(t *testing.T) {
	for _, x := range []struct {
		name       string
		held, next rpc.Verb // a message that is not answered, and one that is not sent without that answer
	}{{"promises", coordinator.VerbPrepare, coordinator.VerbAccept}, {"acceptances", coordinator.VerbAccept, coordinator.VerbCommit}} {
		t.Run(x.name, func(t *testing.T) {
			simulated(t, func(t *testing.T) {
				c, disk := withHeldRegisters(t, x.held)
				applied, _, err := c.cas(0, key(1), set("", "x"), func(op *coordinator.CAS) { op.Commit = coordinator.Any })
				var timeout *coordinator.WriteTimeout
				var unknown *coordinator.CASWriteUnknown // an acceptance that nobody heard of may be tried anew until the time is up
				if applied || !errors.As(err, &timeout) && !errors.As(err, &unknown) {
					t.Errorf("applied %v, %v", applied, err)
				}
				c.mu.Lock()
				for _, m := range c.log {
					if m.verb == x.next && m.to == 1 {
						t.Errorf("a message of verb %d followed one of verb %d whose answer is not durable", m.verb, x.held)
					}
				}
				c.mu.Unlock()
				c.setFault(nil)
				disk.set(false, nil)
				was, err := c.serial(0, key(1), coordinator.Serial)
				if err != nil {
					t.Fatal(err)
				}
				c.mustCAS(0, key(1), was, "y")
				c.mustSerial(1, key(1), "y")
			})
		})
	}
}
