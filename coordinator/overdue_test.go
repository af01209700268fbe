package coordinator_test

import (
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/helenusdb/helenus/coordinator"
	"github.com/helenusdb/helenus/row"
	"github.com/helenusdb/helenus/schema"
)

// stuckDisk is storage that, while it is stuck, makes writes visible and never says that anything is durable.
type stuckDisk struct {
	coordinator.Storage
	mu    sync.Mutex
	stuck bool
	held  []coordinator.Committed
}

func (d *stuckDisk) hold(c coordinator.Committed) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.stuck {
		d.held = append(d.held, c)
	}
	return d.stuck
}

// set makes the disk get stuck, or go on: then all that waits is durable, or failed.
func (d *stuckDisk) set(stuck bool, err error) {
	d.mu.Lock()
	held := d.held
	d.stuck, d.held = stuck, nil
	d.mu.Unlock()
	for _, c := range held {
		c.Committed(err)
	}
}

func (d *stuckDisk) NewBatch() coordinator.Batch { return stuckBatch{d.Storage.NewBatch(), d} }

func (d *stuckDisk) Read(cmd *row.Command, page *row.Page) (uint64, error) {
	seq, err := d.Storage.Read(cmd, page)
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.stuck {
		seq = max(seq, 1)
	}
	return seq, err
}

func (d *stuckDisk) WhenSynced(seq uint64, c coordinator.Committed) {
	if !d.hold(c) {
		d.Storage.WhenSynced(seq, c)
	}
}

type stuckBatch struct {
	coordinator.Batch
	d *stuckDisk
}

func (b stuckBatch) Commit(c coordinator.Committed) { b.Batch.Commit(afterStuck{b.d, c}) }

type afterStuck struct {
	d *stuckDisk
	c coordinator.Committed
}

func (a afterStuck) Committed(err error) {
	if !a.d.hold(a.c) {
		a.c.Committed(err)
	}
}

// withStuckDisk returns a cluster whose node 0 has a disk that can get stuck.
func withStuckDisk(t testing.TB, lay layout) (*cluster, *stuckDisk) {
	d := &stuckDisk{}
	lay.tune = func(o *coordinator.Options) {
		if o.Self == hostID(0) {
			d.Storage = o.Storage
			o.Storage = d
		}
	}
	c := newCluster(t, lay)
	t.Cleanup(func() { d.set(false, nil) })
	return c, d
}

func within(t *testing.T, what string, timeout time.Duration, f func()) {
	t.Helper()
	began := time.Now()
	f()
	if took := time.Since(began); took < timeout || took > timeout+200*time.Millisecond {
		t.Errorf("%s: answered after %v", what, took)
	}
}

// TestStuckDisk: a request whose only missing answer is that of this node's own disk times out, once, and its memory is
// its owner's from then on.
//
// Scenarios: TestScenario_W6.
func TestStuckDisk(t *testing.T) {
	simulated(t, func(t *testing.T) {
		c, disk := withStuckDisk(t, layout{dcs: nodesIn("dc1", 1)})
		n := c.nodes[0]
		c.mustWrite(0, coordinator.One, c.put(c.wide, key(1), "a", 1, "x"), c.put(c.wide, key(2), "a", 1, "y"))
		disk.set(true, nil)
		var wt *coordinator.WriteTimeout
		within(t, "write", 2*time.Second, func() {
			err := n.write(coordinator.Quorum, c.put(c.wide, key(1), "a", 2, "z"))
			if !errors.As(err, &wt) || *wt != (coordinator.WriteTimeout{Level: coordinator.Quorum, BlockFor: 1, Type: coordinator.Simple}) {
				t.Errorf("write: %v %+v", err, wt)
			}
		})
		within(t, "batch", 2*time.Second, func() {
			err := n.write(coordinator.One, c.put(c.wide, key(1), "a", 2, "z"), c.put(c.wide, key(3), "a", 2, "z"))
			if !errors.As(err, &wt) || wt.Received != 0 || wt.BlockFor != 1 {
				t.Errorf("batch: %v %+v", err, wt)
			}
		})
		read := &coordinator.Read{Command: c.whole(c.wide, key(1)), Level: coordinator.One}
		var rt *coordinator.ReadTimeout
		within(t, "read", 5*time.Second, func() {
			err := n.coord.ReadPage(t.Context(), read)
			if !errors.As(err, &rt) || *rt != (coordinator.ReadTimeout{Level: coordinator.One, BlockFor: 1}) {
				t.Errorf("read: %v %+v", err, rt)
			}
		})
		w := &waiter{}
		b := n.coord.NewBurst()
		w.wg.Add(2)
		b.Write(&coordinator.Write{Mutations: []row.Mutation{c.put(c.wide, key(5), "a", 2, "z")}, Level: coordinator.One, Timeout: time.Second, Done: w})
		b.Write(&coordinator.Write{Mutations: []row.Mutation{c.put(c.wide, key(6), "a", 2, "z")}, Level: coordinator.One, Timeout: 3 * time.Second, Done: w})
		b.Close()
		within(t, "own timeouts", 3*time.Second, w.wg.Wait)

		// The Read is used again while the disk still owes the first answer.
		read.Command = c.whole(c.wide, key(2))
		again := make(chan error, 2)
		read.Done = readDone(func(err error) { again <- err })
		b = n.coord.NewBurst()
		b.Read(read)
		disk.set(false, nil)
		b.Close()
		if err := <-again; err != nil || pageText(t, &read.Page, time.Now().Unix()) != "a=y " {
			t.Errorf("again: %v %q", err, pageText(t, &read.Page, time.Now().Unix()))
		}
		time.Sleep(10 * time.Second)
		if len(again) != 0 || n.coord.InFlight() != 0 {
			t.Errorf("%d more answers, %d in flight", len(again), n.coord.InFlight())
		}
		c.mustWrite(0, coordinator.One, c.put(c.wide, key(9), "a", 2, "z"))
	})
}

type readDone func(error)

func (f readDone) ReadDone(_ *coordinator.Read, err error) { f(err) }

// TestStuckDiskAmongReplicas: with the disk of one replica stuck and another replica silent a quorum is not reached, which
// is found out in time; with both others well nobody waits for the disk.
func TestStuckDiskAmongReplicas(t *testing.T) {
	simulated(t, func(t *testing.T) {
		c, disk := withStuckDisk(t, layout{dcs: nodesIn("dc1", 3), options: []schema.Property{{Name: "speculative_retry", Value: "NONE"}}})
		c.mustWrite(0, coordinator.All, c.put(c.wide, key(1), "a", 1, "x"))
		disk.set(true, nil)
		within(t, "others are well", 0, func() { c.mustWrite(0, coordinator.Quorum, c.put(c.wide, key(1), "a", 2, "y")) })
		c.setFault(func(m message) action { return action{unsent: m.to == 2} })
		var wt *coordinator.WriteTimeout
		within(t, "write", 2*time.Second, func() {
			err := c.nodes[0].write(coordinator.Quorum, c.put(c.wide, key(1), "a", 3, "z"))
			if !errors.As(err, &wt) || *wt != (coordinator.WriteTimeout{Level: coordinator.Quorum, Received: 1, BlockFor: 2, Type: coordinator.Simple}) {
				t.Errorf("write: %v %+v", err, wt)
			}
		})
		var rt *coordinator.ReadTimeout
		within(t, "read", 5*time.Second, func() {
			_, err := c.nodes[0].read(coordinator.Quorum, c.whole(c.wide, key(1)))
			if !errors.As(err, &rt) || rt.Received != 1 || rt.BlockFor != 2 {
				t.Errorf("read: %v %+v", err, rt)
			}
		})
		c.setFault(nil)
		disk.set(false, nil)
		time.Sleep(10 * time.Second)
		if got := c.mustRead(1, coordinator.All, c.whole(c.wide, key(1))); got != "a=z " || c.nodes[0].coord.InFlight() != 0 {
			t.Errorf("%q, %d in flight", got, c.nodes[0].coord.InFlight())
		}
	})
}

// TestStuckDiskUnderAHint: ANY waits for the hint to be durable no longer than for a replica, and a hint that fails in
// the end is not counted.
func TestStuckDiskUnderAHint(t *testing.T) {
	simulated(t, func(t *testing.T) {
		c, disk := withStuckDisk(t, layout{dcs: nodesIn("dc1", 2), keyspace: []schema.Pair{{Key: "class", Value: "SimpleStrategy"}, {Key: "replication_factor", Value: "1"}}})
		c.setDown(1, true)
		disk.set(true, nil)
		var wt *coordinator.WriteTimeout
		within(t, "write", 2*time.Second, func() {
			if err := c.nodes[0].write(coordinator.Any, c.put(c.wide, c.keyOf(1), "a", 1, "x")); !errors.As(err, &wt) || wt.Received != 0 {
				t.Errorf("got %v", err)
			}
		})
		if got := hintsOf(c.nodes[0]); got != 1 {
			t.Errorf("%d hints while it is not known", got)
		}
		disk.set(false, errors.New("the disk is gone"))
		if got := hintsOf(c.nodes[0]); got != 0 {
			t.Errorf("%d hints after it has failed", got)
		}
	})
}
