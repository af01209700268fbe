package formation

import (
	"errors"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/helenusdb/helenus/ring"
)

func each(t *testing.T, seeds int, test func(*testing.T, uint64)) {
	if testing.Short() {
		seeds = max(1, seeds/10)
	}
	for seed := uint64(1); seed <= uint64(seeds) && !t.Failed(); seed++ {
		synctest.Test(t, func(t *testing.T) { test(t, seed) })
	}
}

// TestScenario_M9_OneClusterAlways: nodes started in any order, with any pauses between them and any delays on the links,
// form exactly one cluster of all of them; every third time the first seed starts last.
func TestScenario_M9_OneClusterAlways(t *testing.T) {
	var slowest time.Duration
	each(t, 120, func(t *testing.T, seed uint64) {
		w := newWorld(t, seed, 3+int(seed%3))
		for i := range w.all {
			for j := range w.all {
				w.net.SetDelay(hostName(i), hostName(j), time.Duration(w.r.IntN(30))*time.Millisecond)
			}
		}
		order := w.r.Perm(len(w.all))
		spread := []int{1, 300, 8000}[w.r.IntN(3)]
		for _, i := range order {
			if i == 0 && seed%3 == 0 {
				continue
			}
			time.Sleep(time.Duration(w.r.IntN(spread)) * time.Millisecond)
			w.all[i].start()
		}
		if seed%3 == 0 {
			time.Sleep(time.Duration(w.r.IntN(8000)) * time.Millisecond)
			w.all[0].start()
		}
		began := time.Now()
		w.oneCluster(60 * time.Second)
		slowest = max(slowest, time.Since(began))
	})
	t.Logf("slowest: %s", slowest)
}

// TestScenario_M9_CrashesWhileForming: the same with power losses of any node, founder, joiner or host of a join, at any
// moment.
func TestScenario_M9_CrashesWhileForming(t *testing.T) {
	each(t, 100, func(t *testing.T, seed uint64) {
		w := newWorld(t, seed, 3+int(seed%2))
		for _, i := range w.r.Perm(len(w.all)) {
			time.Sleep(time.Duration(w.r.IntN(20)) * time.Millisecond)
			w.all[i].start()
		}
		for range 6 {
			time.Sleep(time.Duration(w.r.IntN(400)) * time.Millisecond)
			p := w.all[w.r.IntN(len(w.all))]
			p.crash()
			time.Sleep(time.Duration(w.r.IntN(1500)) * time.Millisecond)
			p.start()
		}
		s := w.oneCluster(2 * time.Minute)
		tokens := map[ring.Token]bool{}
		for _, n := range s.Nodes {
			for _, tok := range n.Tokens {
				if tokens[tok] {
					t.Errorf("seed %d: token %d twice", seed, tok)
				}
				tokens[tok] = true
			}
		}
	})
}

// TestScenario_M3_NoRowIsLeftBehind: clients write to user tables while nodes join: a node joins only when no member holds
// a row, also when writes are slow, members restart and joins are given up half way; so no row is ever where its token's
// new owner does not look for it.
func TestScenario_M3_NoRowIsLeftBehind(t *testing.T) {
	joins, refusals := 0, 0
	each(t, 60, func(t *testing.T, seed uint64) {
		w := newWorld(t, seed, 4)
		for _, p := range w.all[:3] {
			p.start()
		}
		w.eventually(time.Minute, "three nodes", func() bool {
			for _, p := range w.all[:3] {
				if !p.in.Load() || len(p.log.Current().Ring.Nodes()) != 3 {
					return false
				}
			}
			return true
		})
		last := w.all[3]
		last.start()
		var wg sync.WaitGroup
		first := time.Duration(w.r.IntN(120)) * time.Millisecond
		takes := time.Duration(w.r.IntN(60)) * time.Millisecond
		target := w.all[w.r.IntN(3)]
		var before, written int64 // members when the write became visible
		wg.Go(func() {
			time.Sleep(first)
			if target.write(takes) {
				written = 1
				before = int64(len(target.log.Current().Ring.Nodes()))
			}
		})
		if seed%4 == 0 {
			time.Sleep(time.Duration(w.r.IntN(150)) * time.Millisecond)
			other := w.all[(target.i+1)%3]
			other.crash()
			other.start()
		}
		wg.Wait()
		deadline := time.Now().Add(90 * time.Second)
		for !last.in.Load() && time.Now().Before(deadline) {
			if _, ended := last.ended(); ended {
				break
			}
			time.Sleep(50 * time.Millisecond)
		}
		var refused *Refused
		switch err, ended := last.ended(); {
		case ended && errors.As(err, &refused):
			refusals++
			last.crash()
			if written == 0 || !strings.Contains(err.Error(), "holds rows of a user table") {
				t.Errorf("seed %d: refused without rows: %v", seed, err)
			}
			w.eventually(time.Minute, "user tables take writes again", func() bool { return !target.log.Current().Quiet() })
		case ended:
			t.Errorf("seed %d: the joining node ended: %v", seed, err)
		case !last.in.Load():
			t.Errorf("seed %d: it neither joined nor was refused", seed)
		default:
			joins++
			if written == 1 && before == 3 {
				t.Errorf("seed %d: a row was there before the ring changed", seed)
			}
		}
	})
	if !testing.Short() && (joins == 0 || refusals == 0) {
		t.Errorf("%d joins, %d refusals: the test does not reach both", joins, refusals)
	}
	t.Logf("%d joins, %d refusals", joins, refusals)
}

// TestRefusals: a node that must not take part ends with the reason, and the cluster is as it was.
func TestRefusals(t *testing.T) {
	cases := []struct {
		name, want string
		prepare    func(w *world, p *proc)
	}{
		{"M6: wiped node", "lost its data", func(_ *world, p *proc) { p.wipe() }},
		{"M14: other cluster's name", `belongs to cluster "test", this node is configured for "other"`, func(_ *world, p *proc) { p.wipe(); p.name = "other" }},
		{"M7: other rack", "data centre and rack cannot change", func(_ *world, p *proc) { p.rack = "elsewhere" }},
		{"renamed", `its data belongs to cluster "test"`, func(_ *world, p *proc) { p.name = "other" }},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, 1, 3)
				for _, p := range w.all {
					p.start()
				}
				w.oneCluster(time.Minute)
				w.eventually(time.Minute, "three voters", func() bool { return len(w.all[0].log.Current().Voters()) == 3 })
				s := w.all[0].log.Current()
				p := w.all[2]
				p.crash()
				c.prepare(w, p)
				p.start()
				time.Sleep(10 * time.Second)
				err, ended := p.ended()
				if !ended || err == nil || !strings.Contains(err.Error(), c.want) {
					t.Errorf("got %v, want %q", err, c.want)
				}
				if now := w.all[0].log.Current(); now.Epoch != s.Epoch {
					t.Errorf("epoch %d became %d", s.Epoch, now.Epoch)
				}
			})
		})
	}
}

// TestDuplicateHostID: a copied data folder is no new node, whether it was copied from a member or from a node that forms.
func TestDuplicateHostID(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, 4)
		for _, p := range w.all[:3] {
			p.start()
		}
		w.eventually(time.Minute, "three nodes", func() bool {
			return w.all[2].in.Load() && len(w.all[2].log.Current().Ring.Nodes()) == 3
		})
		original, copied := w.all[2], w.all[3]
		copied.id, copied.rack = original.id, original.rack
		original.crash()
		copied.fs, copied.gen = original.fs.CrashClone(cloneAll), original.gen
		original.start()
		time.Sleep(3 * time.Second)
		copied.start()
		time.Sleep(5 * time.Second)
		if err, ended := copied.ended(); !ended || err == nil || !strings.Contains(err.Error(), "another process runs with its host id") {
			t.Errorf("the copy: %v %v", err, ended)
		}
		if err, ended := original.ended(); ended {
			t.Errorf("the original ended: %v", err)
		}
	})
}

// TestDifferentSeedLists: of nodes that do not agree on the first seed one refuses to begin, so there are no two clusters.
func TestDifferentSeedLists(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, 2)
		w.all[1].seeds = []netip.AddrPort{addr(1, 7000), addr(0, 7000)}
		for _, p := range w.all {
			p.start()
		}
		time.Sleep(5 * time.Second)
		refused := 0
		for _, p := range w.all {
			err, ended := p.ended()
			switch {
			case ended && err != nil && strings.Contains(err.Error(), "same seed list"):
				refused++
			case ended:
				t.Errorf("node %d: %v", p.i, err)
			}
		}
		if refused == 0 {
			t.Error("nobody refused")
		}
	})
}

// TestPledgedFirstSeedFoundsNothing: the first seed, which has asked to join a cluster that others are members of, starts
// alone: it waits for them for ever rather than found a second cluster.
func TestPledgedFirstSeedFoundsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, 3)
		for _, p := range w.all {
			p.start()
		}
		w.oneCluster(time.Minute)
		first := w.all[0]
		first.crash()
		first.wipe()
		first.start() // it is refused, and has pledged itself
		time.Sleep(5 * time.Second)
		if _, ended := first.ended(); !ended {
			t.Fatal("a wiped node was let in")
		}
		first.crash()
		for _, p := range w.all[1:] {
			p.crash()
		}
		first.start()
		time.Sleep(time.Minute)
		if err, ended := first.ended(); ended || first.in.Load() {
			t.Errorf("it has founded a second cluster: %v", err)
		}
	})
}

// TestJoinNeedsAllMembers: while a member does not answer nobody joins, user tables take writes again soon, and the join
// goes on when the member is back.
func TestJoinNeedsAllMembers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, 4)
		for _, p := range w.all[:3] {
			p.start()
		}
		w.eventually(time.Minute, "three nodes", func() bool {
			return w.all[2].in.Load() && len(w.all[2].log.Current().Voters()) == 3
		})
		w.all[1].crash()
		w.all[3].start()
		quiet := 0
		for range 600 {
			time.Sleep(50 * time.Millisecond)
			if w.all[0].log.Current().Quiet() {
				quiet++
			}
		}
		if w.all[3].in.Load() || quiet > 0 {
			t.Errorf("joined %v, quiet %d times of 600", w.all[3].in.Load(), quiet)
		}
		w.all[1].start()
		w.oneCluster(time.Minute)
	})
}
