package coordinator_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/helenusdb/helenus/coordinator"
	"github.com/helenusdb/helenus/row"
	"github.com/helenusdb/helenus/schema"
)

// badDisk is storage whose reads fail, or do not come back, when it is told so.
type badDisk struct {
	coordinator.Storage
	fails atomic.Bool
	reads atomic.Int64 // that are stuck

	mu    sync.Mutex
	stuck chan struct{} // closed to go on; nil: not stuck
}

var errDisk = errors.New("the disk is damaged")

func (d *badDisk) Read(cmd *row.Command, page *row.Page) (uint64, error) {
	d.mu.Lock()
	stuck := d.stuck
	d.mu.Unlock()
	if stuck != nil {
		d.reads.Add(1)
		<-stuck
		d.reads.Add(-1)
	}
	if d.fails.Load() {
		return 0, errDisk
	}
	return d.Storage.Read(cmd, page)
}

// get makes the disk get stuck or go on.
func (d *badDisk) get(stuck bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.stuck != nil {
		close(d.stuck)
		d.stuck = nil
	}
	if stuck {
		d.stuck = make(chan struct{})
	}
}

// withBadDisks returns a cluster each of whose disks can fail.
func withBadDisks(t testing.TB, lay layout) (*cluster, []*badDisk) {
	disks := make([]*badDisk, len(lay.dcs))
	for i := range disks {
		disks[i] = &badDisk{}
	}
	further := lay.tune
	lay.tune = func(o *coordinator.Options) {
		d := disks[o.Self[15]-1]
		if d.Storage, o.Storage = o.Storage, d; further != nil {
			further(o)
		}
	}
	c := newCluster(t, lay)
	t.Cleanup(func() {
		for _, d := range disks {
			d.get(false)
		}
	})
	return c, disks
}

// held is a Read with its Holder.
type held struct {
	coordinator.Read
	done  chan error
	holds atomic.Int64
}

func (h *held) ReadDone(_ *coordinator.Read, err error) { h.done <- err }
func (h *held) Hold()                                   { h.holds.Add(1) }
func (h *held) Release()                                { h.holds.Add(-1) }

func (c *cluster) held(level coordinator.Level, cmd row.Command) *held {
	h := &held{Read: coordinator.Read{Command: cmd, Level: level}, done: make(chan error, 2)}
	h.Done, h.Holder = h, h
	return h
}

// TestScenario_W12_AnotherReplicaAnswers: a replica, this node or another, that cannot read what it holds is made good for by
// one that can, at every level that leaves one, for points, partitions and scans.
func TestScenario_W12_AnotherReplicaAnswers(t *testing.T) {
	simulated(t, func(t *testing.T) {
		c, disks := withBadDisks(t, layout{dcs: append(nodesIn("dc1", 3), nodesIn("dc2", 3)...), keyspace: ntsPairs("dc1", "3", "dc2", "3")})
		c.mustWrite(0, coordinator.All, c.put(c.wide, key(1), "a", 1, "x"))
		for bad := range 6 {
			disks[bad].fails.Store(true)
			for _, level := range []coordinator.Level{coordinator.One, coordinator.LocalOne, coordinator.Two, coordinator.Three, coordinator.LocalQuorum,
				coordinator.Quorum, coordinator.EachQuorum} {
				began := time.Now()
				for from := range 6 {
					h := c.held(level, c.pointRead(c.wide, key(1)))
					b := c.nodes[from].coord.NewBurst()
					b.Read(&h.Read)
					b.Close()
					if err := <-h.done; err != nil || pageText(t, &h.Page, time.Now().Unix()) != "a=x " {
						t.Errorf("disk %d, point at %s from %d: %q, %v", bad, level, from, pageText(t, &h.Page, time.Now().Unix()), err)
					}
					if got := c.mustRead(from, level, c.whole(c.wide, key(1))); got != "a=x " {
						t.Errorf("disk %d, partition at %s from %d: %q", bad, level, from, got)
					}
					if got, _ := c.scan(from, level, c.wide, 0, 0, 0); got != "a=x " {
						t.Errorf("disk %d, scan at %s from %d: %q", bad, level, from, got)
					}
				}
				if took := time.Since(began); took > time.Second {
					t.Errorf("disk %d at %s: %v", bad, level, took)
				}
			}
			disks[bad].fails.Store(false)
		}
		for _, d := range disks {
			d.fails.Store(true)
		}
		_, err := c.nodes[0].read(coordinator.One, c.pointRead(c.wide, key(1)))
		var f *coordinator.ReadFailure
		if !errors.As(err, &f) || len(f.Failures) != 6 || f.Received != 0 || f.BlockFor != 1 {
			t.Errorf("with no replica left: %v %+v", err, f)
		}
	})
}

// TestScenario_W12_DuringReadRepair: a replica fails after the digests have differed.
func TestScenario_W12_DuringReadRepair(t *testing.T) {
	simulated(t, func(t *testing.T) {
		c, disks := withBadDisks(t, layout{dcs: nodesIn("dc1", 3)})
		c.plant(0, c.put(c.wide, key(1), "a", 1, "x"))
		c.plant(1, c.put(c.wide, key(1), "b", 1, "y"))
		c.plant(2, c.put(c.wide, key(1), "b", 1, "y"))
		c.setFault(func(m message) action {
			if m.verb == coordinator.VerbRead { // of the digest; the local disk fails when it is read in full
				disks[0].fails.Store(true)
			}
			return action{delay: time.Millisecond}
		})
		if got := c.mustRead(0, coordinator.Quorum, c.whole(c.wide, key(1))); got != "b=y " {
			t.Errorf("got %q", got)
		}
	})
}

// TestScenario_W5_RepairAroundAFullDisk: this node lacks a row and its disk is full. The third replica was asked for the row too, and was slower than
// the second; it stands in for this node all the same, for what was merged must be on as many replicas as the level asks for.
func TestScenario_W5_RepairAroundAFullDisk(t *testing.T) {
	simulated(t, func(t *testing.T) {
		c := newCluster(t, layout{dcs: nodesIn("dc1", 3)})
		c.plant(1, c.put(c.wide, key(1), "a", 1, "x"))
		c.plant(2, c.put(c.wide, key(1), "a", 1, "x"))
		c.nodes[0].free.Store(0)
		time.Sleep(time.Second) // until that is noticed
		reads := 0
		c.setFault(func(m message) action {
			if m.verb != coordinator.VerbRead {
				return action{}
			}
			reads++ // the digest, then the rows of the second, and of the third as the second is late
			return action{delay: []time.Duration{0, 100 * time.Millisecond, 200 * time.Millisecond}[min(reads-1, 2)]}
		})
		if got := c.mustRead(0, coordinator.Quorum, c.whole(c.wide, key(1))); got != "a=x " {
			t.Errorf("got %q", got)
		}
		if n := c.sent(coordinator.VerbRead); n != 3 {
			t.Errorf("%d reads were sent: the third replica was not asked", n)
		}
	})
}

// TestSlowReadsAreNoStuckDisk: the operator is told of reads that do not come back, once for all of them, and not of those that
// are only slow.
func TestSlowReadsAreNoStuckDisk(t *testing.T) {
	simulated(t, func(t *testing.T) {
		var log lockedLog
		c, disks := withBadDisks(t, layout{dcs: nodesIn("dc1", 1), tune: func(o *coordinator.Options) { o.Logger = slog.New(slog.NewTextHandler(&log, nil)) }})
		c.mustWrite(0, coordinator.One, c.put(c.wide, key(1), "a", 1, "x"))
		reads := func(n int, stuckFor time.Duration) {
			disks[0].get(true)
			var wg sync.WaitGroup
			for range n {
				wg.Go(func() { _, _ = c.nodes[0].read(coordinator.One, c.whole(c.wide, key(1))) })
			}
			time.Sleep(stuckFor)
			disks[0].get(false)
			wg.Wait()
		}
		for range 5 {
			reads(3, 700*time.Millisecond)
		}
		if text := log.String(); strings.Contains(text, "do not come back") {
			t.Errorf("of slow reads:\n%s", text)
		}
		reads(3, 4*time.Second)
		if n := strings.Count(log.String(), "do not come back"); n != 1 {
			t.Errorf("of stuck reads: %d lines\n%s", n, log.String())
		}
		time.Sleep(10 * time.Second)
		reads(3, 2*time.Second)
		if n := strings.Count(log.String(), "do not come back"); n != 2 {
			t.Errorf("of reads that are stuck later: %d lines", n)
		}
	})
}

// lockedLog is what a logger has written.
type lockedLog struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *lockedLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// TestStalledRead: a read of the local store that does not come back keeps one goroutine, and no client waits for it: others
// answer in its place, also for those that come later on other connections and for scans.
func TestStalledRead(t *testing.T) {
	simulated(t, func(t *testing.T) {
		c, disks := withBadDisks(t, layout{dcs: nodesIn("dc1", 3)})
		n := c.nodes[0]
		c.mustWrite(0, coordinator.All, c.put(c.wide, key(1), "a", 1, "x"))
		disks[0].get(true)
		h := c.held(coordinator.One, c.pointRead(c.wide, key(1)))
		back := make(chan struct{})
		go func() {
			defer close(back)
			b := n.coord.NewBurst()
			b.Read(&h.Read)
			b.Close()
		}()
		began := time.Now()
		if err := <-h.done; err != nil || pageText(t, &h.Page, time.Now().Unix()) != "a=x " {
			t.Errorf("%q, %v", pageText(t, &h.Page, time.Now().Unix()), err)
		}
		if took := time.Since(began); took > 200*time.Millisecond || h.holds.Load() != 1 || n.coord.Stalled() != 1 {
			t.Errorf("after %v, %d holds, %d stalled", took, h.holds.Load(), n.coord.Stalled())
		}
		h.Page = row.Page{} // the caller's own again, unlike the command
		for _, level := range []coordinator.Level{coordinator.One, coordinator.Quorum} {
			within(t, "a later point", 0, func() {
				h := c.held(level, c.pointRead(c.wide, key(1)))
				b := n.coord.NewBurst()
				b.Read(&h.Read)
				b.Close()
				if err := <-h.done; err != nil || pageText(t, &h.Page, time.Now().Unix()) != "a=x " {
					t.Errorf("at %s: %v", level, err)
				}
			})
			within(t, "a later partition", 0, func() {
				if got := c.mustRead(0, level, c.whole(c.wide, key(1))); got != "a=x " {
					t.Errorf("at %s: %q", level, got)
				}
			})
			within(t, "a later scan", 0, func() {
				if got, _ := c.scan(0, level, c.wide, 0, 0, 0); got != "a=x " {
					t.Errorf("at %s: %q", level, got)
				}
			})
		}
		// ALL needs this node: its time is up in time.
		within(t, "ALL", 5*time.Second, func() {
			_, err := n.read(coordinator.All, c.whole(c.wide, key(1)))
			var rt *coordinator.ReadTimeout
			if !errors.As(err, &rt) || rt.Received != 2 || rt.BlockFor != 3 {
				t.Errorf("ALL: %v", err)
			}
		})
		disks[0].get(false)
		<-back
		time.Sleep(time.Second)
		if n.coord.Stalled() != 0 || h.holds.Load() != 0 || n.coord.InFlight() != 0 || len(h.done) != 0 {
			t.Errorf("%d stalled, %d holds, %d in flight, %d more answers", n.coord.Stalled(), h.holds.Load(), n.coord.InFlight(), len(h.done))
		}
		within(t, "afterwards", 0, func() {
			if got := c.mustRead(0, coordinator.All, c.whole(c.wide, key(1))); got != "a=x " {
				t.Errorf("afterwards: %q", got)
			}
		})
	})
}

// TestStalledReadOfTheOnlyReplica: it times out when its time is up, or is answered when the disk goes on before.
func TestStalledReadOfTheOnlyReplica(t *testing.T) {
	simulated(t, func(t *testing.T) {
		c, disks := withBadDisks(t, layout{dcs: nodesIn("dc1", 1)})
		n := c.nodes[0]
		c.mustWrite(0, coordinator.One, c.put(c.wide, key(1), "a", 1, "x"))
		begin := func(h *held) {
			go func() {
				b := n.coord.NewBurst()
				b.Read(&h.Read)
				b.Close()
			}()
		}
		disks[0].get(true)
		var rt *coordinator.ReadTimeout
		first := c.held(coordinator.One, c.pointRead(c.wide, key(1)))
		within(t, "point", 5*time.Second, func() {
			begin(first)
			if err := <-first.done; !errors.As(err, &rt) || rt.BlockFor != 1 || rt.Received != 0 {
				t.Errorf("point: %v", err)
			}
		})
		within(t, "partition", 5*time.Second, func() {
			if _, err := n.read(coordinator.Quorum, c.whole(c.wide, key(1))); !errors.As(err, &rt) {
				t.Errorf("partition: %v", err)
			}
		})
		second := c.held(coordinator.One, c.pointRead(c.wide, key(1)))
		begin(second)
		time.Sleep(time.Second)
		disks[0].get(false)
		if err := <-second.done; err != nil || pageText(t, &second.Page, time.Now().Unix()) != "a=x " {
			t.Errorf("answered before its time was up: %v", err)
		}
		time.Sleep(10 * time.Second)
		if n.coord.Stalled() != 0 || first.holds.Load() != 0 || second.holds.Load() != 0 || n.coord.InFlight() != 0 || len(first.done)+len(second.done) != 0 {
			t.Errorf("%d stalled, %d and %d holds, %d in flight", n.coord.Stalled(), first.holds.Load(), second.holds.Load(), n.coord.InFlight())
		}
	})
}

// TestStalledReadsAreBounded: however many reads a node gets while its disk is stuck, no more than a bound of goroutines wait,
// its own and those for other nodes.
func TestStalledReadsAreBounded(t *testing.T) {
	simulated(t, func(t *testing.T) {
		c, disks := withBadDisks(t, layout{dcs: nodesIn("dc1", 3)})
		c.mustWrite(0, coordinator.All, c.put(c.wide, key(1), "a", 1, "x"))
		disks[0].get(true)
		var wg sync.WaitGroup
		for range 20 {
			for i := range 50 {
				wg.Go(func() {
					cmd := c.whole(c.wide, key(1))
					if i%2 == 0 {
						cmd = c.pointRead(c.wide, key(1))
					}
					r := &coordinator.Read{Command: cmd, Level: coordinator.All, Timeout: time.Second}
					_ = c.nodes[i%3].coord.ReadPage(context.Background(), r)
				})
			}
			time.Sleep(100 * time.Millisecond)
		}
		wg.Wait()
		if n := disks[0].reads.Load(); n < 2 || n > 64+50 {
			t.Errorf("%d reads wait for the disk", n)
		}
		disks[0].get(false)
		time.Sleep(time.Second)
		if n := disks[0].reads.Load(); n != 0 || c.nodes[0].coord.Stalled() != 0 {
			t.Errorf("%d reads wait afterwards, %d stalled", n, c.nodes[0].coord.Stalled())
		}
	})
}

// ntsPairs is replication by data centre: name, factor, name, factor.
func ntsPairs(dcs ...string) []schema.Pair {
	out := []schema.Pair{{Key: "class", Value: "NetworkTopologyStrategy"}}
	for i := 0; i < len(dcs); i += 2 {
		out = append(out, schema.Pair{Key: dcs[i], Value: dcs[i+1]})
	}
	return out
}
