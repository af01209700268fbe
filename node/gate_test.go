package node

import (
	"context"
	"errors"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/helenusdb/helenus/coordinator"
	"github.com/helenusdb/helenus/meta"
	"github.com/helenusdb/helenus/ring"
	"github.com/helenusdb/helenus/schema"
)

func addrOf(i byte, port uint16) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, i}), port)
}

// quietStates returns a state of one member, and the one after it in which another node is joining without rows.
func quietStates(t *testing.T) (before, quiet *meta.State) {
	t.Helper()
	apply := func(s *meta.State, c *meta.Command) *meta.State {
		next, err := s.Apply(c)
		if err != nil {
			t.Fatal(err)
		}
		return next
	}
	member := func(i byte) meta.Node {
		return meta.Node{ID: ring.HostID{i}, Internode: addrOf(i, 7000), Native: addrOf(i, 9042), DC: "dc1", Rack: "r1", Tokens: []ring.Token{ring.Token(i)}, Version: meta.Version}
	}
	before = apply(meta.Empty(), &meta.Command{Kind: meta.Found, Node: member(1), ClusterID: [16]byte{1}, ClusterName: "test", Partitioner: ring.Murmur3{}.Name()})
	joining := member(2)
	joining.Quiet = true
	return before, apply(before, &meta.Command{Kind: meta.AddPending, Node: joining})
}

// TestGate: once drain has returned, everything that was let in is visible and nothing more is let in until the state
// allows it, whatever the timing.
func TestGate(t *testing.T) {
	before, quiet := quietStates(t)
	rounds := 200
	if testing.Short() {
		rounds = 20
	}
	for range rounds {
		var current atomic.Pointer[meta.State]
		current.Store(before)
		g := &gate{current: current.Load}
		var visible atomic.Int64
		var wg sync.WaitGroup
		stop := make(chan struct{})
		for range 4 {
			wg.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
					}
					if p, err := g.enter(current.Load().RingEpoch, true); err == nil {
						visible.Add(1)
						p.Leave()
					}
				}
			})
		}
		current.Store(quiet)
		if err := g.drainAll(context.Background()); err != nil {
			t.Fatal(err)
		}
		seen := visible.Load()
		time.Sleep(100 * time.Microsecond)
		if late := visible.Load() - seen; late != 0 {
			t.Fatalf("%d writes after the gate was drained", late)
		}
		current.Store(before)
		for visible.Load() == seen {
			time.Sleep(10 * time.Microsecond)
		}
		close(stop)
		wg.Wait()
	}
}

// TestGateDrainIsBounded: a write that never becomes visible ends the question, not the node.
func TestGateDrainIsBounded(t *testing.T) {
	before, _ := quietStates(t)
	g := &gate{current: func() *meta.State { return before }}
	if _, err := g.enter(before.RingEpoch, true); err != nil {
		t.Fatal("not let in")
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Millisecond)
	defer cancel()
	if err := g.drainAll(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("drain: %v", err)
	}
}

// TestGateRefusesOtherPlans: what was planned under another RingEpoch is let in nowhere, not for any keyspace and not into a batch that is
// inside already; and a drain waits for the batches of older ones only, however many of the present one come and go.
func TestGateRefusesOtherPlans(t *testing.T) {
	before, after := quietStates(t)
	if before.RingEpoch == after.RingEpoch {
		t.Fatal("the states have one RingEpoch")
	}
	var current atomic.Pointer[meta.State]
	current.Store(before)
	g := &gate{current: current.Load}
	b := &batch{gate: g}
	b.Planned(before.RingEpoch)
	if err := b.enter(schema.GenerationUserMin); err != nil {
		t.Fatal(err)
	}
	current.Store(after)
	for _, gen := range []schema.Generation{1, schema.GenerationUserMin} { // of the system's tables, and of users'
		if err := b.enter(gen); !errors.Is(err, coordinator.ErrOtherPlan) {
			t.Errorf("a batch that is inside took generation %d: %v", gen, err)
		}
		if _, err := g.enter(before.RingEpoch, gen >= schema.GenerationUserMin); !errors.Is(err, coordinator.ErrOtherPlan) {
			t.Errorf("generation %d of an older plan: %v", gen, err)
		}
	}
	if _, err := g.enter(after.RingEpoch+1, false); !errors.Is(err, coordinator.ErrOtherPlan) {
		t.Errorf("of a newer plan: %v", err)
	}
	p, err := g.enter(after.RingEpoch, false)
	if err != nil {
		t.Fatal(err)
	}
	if n := g.eras.Before(after.RingEpoch); n != 1 {
		t.Errorf("%d batches of older plans", n)
	}
	b.leave()
	if err := g.drain(context.Background(), after.RingEpoch); err != nil {
		t.Error(err)
	}
	p.Leave()
}
