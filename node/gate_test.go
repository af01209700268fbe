package node

import (
	"context"
	"errors"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/helenusdb/helenus/meta"
	"github.com/helenusdb/helenus/ring"
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
					if slot, ok := g.enter(); ok {
						visible.Add(1)
						g.leave(slot)
					}
				}
			})
		}
		current.Store(quiet)
		if err := g.drain(context.Background()); err != nil {
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
	if _, ok := g.enter(); !ok {
		t.Fatal("not let in")
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Millisecond)
	defer cancel()
	if err := g.drain(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("drain: %v", err)
	}
}

// TestGateSettles: once settle has returned, whoever was inside when it was called has left, although others enter all the time, and several
// settle at once.
func TestGateSettles(t *testing.T) {
	before, _ := quietStates(t)
	g := &gate{current: func() *meta.State { return before }}
	var wg sync.WaitGroup
	stop := make(chan struct{})
	var now atomic.Int64 // rises; who is inside says since when
	var since [4]atomic.Int64
	for i := range since {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				slot, ok := g.enter()
				if !ok {
					t.Error("not let in")
					return
				}
				since[i].Store(now.Add(1))
				runtime.Gosched()
				since[i].Store(0)
				g.leave(slot)
			}
		})
	}
	var settlers sync.WaitGroup
	for range 2 {
		settlers.Go(func() {
			for range 100 {
				called := now.Load()
				if err := g.settle(context.Background()); err != nil {
					t.Error(err)
					return
				}
				for i := range since {
					if at := since[i].Load(); at != 0 && at <= called {
						t.Errorf("one that was inside at %d is, after settle was called at %d", at, called)
					}
				}
			}
		})
	}
	settlers.Wait()
	close(stop)
	wg.Wait()

	slot, _ := g.enter()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Millisecond)
	defer cancel()
	if err := g.settle(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("settle beside one that stays: %v", err)
	}
	g.leave(slot)
	if err := g.settle(context.Background()); err != nil {
		t.Error(err)
	}
}
