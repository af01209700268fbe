package raftlog

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/helenusdb/helenus/meta"
	"github.com/helenusdb/helenus/ring"
	"github.com/helenusdb/helenus/schema"
)

// each runs the test in a bubble of its own for seeds from 1; short runs take fewer.
func each(t *testing.T, seeds int, test func(*testing.T, uint64)) {
	if testing.Short() {
		seeds = max(1, seeds/5)
	}
	for seed := uint64(1); seed <= uint64(seeds) && !t.Failed(); seed++ {
		synctest.Test(t, func(t *testing.T) { test(t, seed) })
	}
}

func within(d time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), d)
}

// TestScenario_S1_ConcurrentCreateTable: all nodes create one table at the same instant, messages and answers are lost,
// and the leader may die: there is one table with one id, and nobody is told anything else.
func TestScenario_S1_ConcurrentCreateTable(t *testing.T) {
	each(t, 20, func(t *testing.T, seed uint64) {
		c := formed(t, seed, 3+2*int(seed%2), nil)
		ctx, cancel := within(time.Minute)
		defer cancel()
		if err := c.nodes[0].createKeyspace(ctx, "ks"); err != nil {
			t.Fatal(err)
		}
		c.loss.Store(int64(seed % 4 * 5))
		c.lostAcks.Store(int64(seed % 3 * 30))
		before := c.settled().Epoch
		var wg sync.WaitGroup
		errs := make([]error, len(c.nodes))
		for i, n := range c.nodes {
			wg.Go(func() { errs[i] = n.createTable(ctx) })
		}
		var dead *node
		if seed%2 == 0 {
			time.Sleep(time.Duration(c.rand.IntN(4000)) * time.Microsecond)
			if dead = c.leader(); dead != nil {
				dead.crash()
			}
		}
		wg.Wait()
		for i, err := range errs {
			if err != nil && (dead == nil || i != dead.i) {
				t.Errorf("seed %d: node %d: %v", seed, i, err)
			}
		}
		if dead != nil {
			dead.start()
		}
		s := c.settled()
		if _, ok := s.Catalog.Table("ks", "t"); !ok || s.Catalog.NextGeneration != schema.GenerationUserMin+1 {
			t.Errorf("seed %d: table %v, next generation %d", seed, ok, s.Catalog.NextGeneration)
		}
		if made := s.Epoch - before; made < 1 || dead == nil && made != 1 {
			t.Errorf("seed %d: %d changes", seed, made)
		}
	})
}

// TestProposalsTakeEffectOnce: through lost messages, lost answers, crashes of any node and partitions, a change that was
// reported as made is made, one that failed was made once or never, and no retry meets its own first attempt.
func TestProposalsTakeEffectOnce(t *testing.T) {
	each(t, 25, func(t *testing.T, seed uint64) {
		c := formed(t, seed, 3+2*int(seed%2), func(c *cluster) { c.every = 8 })
		c.loss.Store(int64(c.rand.IntN(20)))
		c.lostAcks.Store(int64(c.rand.IntN(50)))
		made := make([][]string, len(c.nodes))
		var wg sync.WaitGroup
		for i, n := range c.nodes {
			wg.Go(func() {
				for k := range 6 {
					name := fmt.Sprintf("ks_%d_%d", i, k)
					ctx, cancel := within(8 * time.Second)
					err := n.createKeyspace(ctx, name)
					cancel()
					switch {
					case err == nil:
						made[i] = append(made[i], name)
					case !errors.Is(err, ErrNoQuorum) && !errors.Is(err, ErrStopped) && !errors.As(err, new(*Lagging)):
						t.Errorf("seed %d: node %d: %v", seed, i, err)
					}
				}
			})
		}
		for range 4 {
			time.Sleep(time.Duration(c.rand.IntN(1500)) * time.Millisecond)
			n := c.nodes[c.rand.IntN(len(c.nodes))]
			switch c.rand.IntN(3) {
			case 0:
				n.crash()
				time.Sleep(time.Duration(c.rand.IntN(3000)) * time.Millisecond)
				n.start()
			case 1:
				c.net.Isolate(hostName(n.i), true)
				time.Sleep(time.Duration(c.rand.IntN(5000)) * time.Millisecond)
				c.net.Isolate(hostName(n.i), false)
			case 2:
				to := c.nodes[c.rand.IntN(len(c.nodes))]
				c.net.Cut(hostName(n.i), hostName(to.i))
				time.Sleep(time.Duration(c.rand.IntN(3000)) * time.Millisecond)
				c.net.Heal(hostName(n.i), hostName(to.i))
			}
		}
		wg.Wait()
		c.loss.Store(0)
		c.lostAcks.Store(0)
		ctx, cancel := within(time.Minute)
		defer cancel()
		if err := c.nodes[0].createKeyspace(ctx, "last"); err != nil {
			t.Fatalf("seed %d: the cluster did not recover: %v", seed, err)
		}
		there := keyspaces(c.settled())
		for _, name := range slices.Concat(made...) {
			if !slices.Contains(there, name) {
				t.Errorf("seed %d: %s was acknowledged and is gone", seed, name)
			}
		}
	})
}

// TestScenario_S9_NoQuorum: without a majority of voters nothing can be changed, which is said in bounded time; what is
// known stays known, also to a node that starts alone. With the majority back, changes go on.
func TestScenario_S9_NoQuorum(t *testing.T) {
	each(t, 5, func(t *testing.T, seed uint64) {
		c := formed(t, seed, 3, nil)
		epoch := c.settled().Epoch
		lead := c.leader()
		for _, n := range c.nodes {
			if n != lead {
				n.crash()
			}
		}
		for range 2 {
			began := time.Now()
			err := lead.createKeyspace(context.Background(), "ks")
			if took := time.Since(began); !errors.Is(err, ErrNoQuorum) || took > 11*time.Second {
				t.Errorf("seed %d: %v after %s", seed, err, took)
			}
			if lead.svc.Current().Epoch != epoch {
				t.Errorf("seed %d: epoch %d", seed, lead.svc.Current().Epoch)
			}
			lead.crash()
			lead.open()
			if lead.svc.Current().Epoch != epoch {
				t.Errorf("seed %d: epoch %d after a restart alone", seed, lead.svc.Current().Epoch)
			}
			lead.run()
		}
		for _, n := range c.nodes {
			if n != lead {
				n.start()
			}
		}
		ctx, cancel := within(20 * time.Second)
		defer cancel()
		if err := c.nodes[1].createKeyspace(ctx, "ks2"); err != nil {
			t.Errorf("seed %d: with the majority back: %v", seed, err)
		}
		s := c.settled()
		if n := len(keyspaces(s)); n < 1 || n > 2 { // the first may have taken effect late, once
			t.Errorf("seed %d: keyspaces %v", seed, keyspaces(s))
		}
	})
}

// TestProposeInAMinority: a leader that is cut off with its clients refuses in bounded time, gives way, and follows again.
func TestProposeInAMinority(t *testing.T) {
	each(t, 10, func(t *testing.T, seed uint64) {
		c := formed(t, seed, 5, nil)
		old := c.leader()
		c.net.Isolate(hostName(old.i), true)
		var wg sync.WaitGroup
		wg.Go(func() {
			ctx, cancel := within(5 * time.Second)
			defer cancel()
			if err := old.createKeyspace(ctx, "minority"); !errors.Is(err, ErrNoQuorum) {
				t.Errorf("seed %d: %v", seed, err)
			}
		})
		other := c.nodes[(old.i+1)%5]
		ctx, cancel := within(10 * time.Second)
		defer cancel()
		if err := other.createKeyspace(ctx, "majority"); err != nil {
			t.Errorf("seed %d: the majority: %v", seed, err)
		}
		wg.Wait()
		c.net.Isolate(hostName(old.i), false)
		c.eventually(10*time.Second, "the old leader follows", func() bool { return old.svc.Current().Epoch == other.svc.Current().Epoch })
		if got := keyspaces(c.settled()); !slices.Equal(got, []string{"majority"}) {
			t.Errorf("seed %d: keyspaces %v", seed, got)
		}
	})
}

// TestCatchUpWithoutQuorum: a node that is behind takes what was committed from any peer, durably, when no majority is
// left to tell it.
func TestCatchUpWithoutQuorum(t *testing.T) {
	each(t, 5, func(t *testing.T, seed uint64) {
		c := formed(t, seed, 5, nil)
		behind, ahead := c.nodes[4], c.nodes[3]
		if c.leader() == behind {
			behind, ahead = ahead, behind
		}
		behind.crash()
		ctx, cancel := within(time.Minute)
		defer cancel()
		if err := ahead.createKeyspace(ctx, "ks"); err != nil {
			t.Fatal(err)
		}
		epoch := c.settled().Epoch
		for _, n := range c.nodes[:3] {
			n.crash()
		}
		behind.start()
		if err := behind.svc.CatchUp(ctx, ahead.id); err != nil {
			t.Fatal(err)
		}
		if behind.svc.Current().Epoch != epoch {
			t.Errorf("epoch %d, want %d", behind.svc.Current().Epoch, epoch)
		}
		behind.crash()
		behind.open()
		if behind.svc.Current().Epoch != epoch {
			t.Errorf("epoch %d after a restart, want %d", behind.svc.Current().Epoch, epoch)
		}
		behind.run()
		for _, n := range c.nodes[:3] {
			n.start()
		}
		if err := behind.createKeyspace(ctx, "ks2"); err != nil {
			t.Fatal(err)
		}
		if got := keyspaces(c.settled()); !slices.Equal(got, []string{"ks", "ks2"}) {
			t.Errorf("keyspaces %v", got)
		}
	})
}

// TestAwaitAll: it waits for every member, and for one that does not answer at most five seconds.
func TestAwaitAll(t *testing.T) {
	each(t, 3, func(t *testing.T, seed uint64) {
		c := formed(t, seed, 5, nil)
		ctx, cancel := within(time.Minute)
		defer cancel()
		if err := c.nodes[1].createKeyspace(ctx, "ks"); err != nil {
			t.Fatal(err)
		}
		epoch := c.nodes[1].svc.Current().Epoch
		var all []ring.HostID
		for _, n := range c.nodes {
			all = append(all, n.id)
		}
		began := time.Now()
		if lagging := c.nodes[1].svc.AwaitAll(ctx, epoch, all); len(lagging) != 0 || time.Since(began) > time.Second {
			t.Errorf("lagging %v after %s", lagging, time.Since(began))
		}
		for _, n := range c.nodes {
			if n.svc.Current().Epoch < epoch {
				t.Errorf("node %d has not applied it", n.i)
			}
		}
		dead := c.nodes[(c.leader().i+1)%5]
		asks := c.leader()
		c.net.Isolate(hostName(dead.i), true)
		began = time.Now()
		if lagging := asks.svc.AwaitAll(ctx, epoch, all); !slices.Equal(lagging, []ring.HostID{dead.id}) || time.Since(began) > 5*time.Second+100*time.Millisecond {
			t.Errorf("lagging %v after %s", lagging, time.Since(began))
		}
		c.net.Isolate(hostName(dead.i), false)
	})
}

// TestElections: whatever the timing, when a leader dies another leads soon: votes asked for while others still trust the
// dead leader do no lasting harm.
func TestElections(t *testing.T) {
	each(t, 20, func(t *testing.T, seed uint64) {
		c := formed(t, seed, 3+2*int(seed%3/2), nil)
		for range 5 {
			c.loss.Store(int64(c.rand.IntN(15)))
			for _, a := range c.nodes {
				for _, b := range c.nodes {
					c.net.SetDelay(hostName(a.i), hostName(b.i), time.Duration(c.rand.IntN(40))*time.Millisecond)
				}
			}
			c.eventually(15*time.Second, "a leader", func() bool { return c.leader() != nil })
			old := c.leader()
			old.crash()
			began := time.Now()
			c.eventually(15*time.Second, "another leader", func() bool { return c.leader() != nil })
			if took := time.Since(began); c.loss.Load() == 0 && took > 8*time.Second {
				t.Errorf("seed %d: an election took %s", seed, took)
			}
			old.start()
		}
	})
}

// TestSingleNode: the only voter leads as soon as it runs, and has all that it acknowledged.
func TestSingleNode(t *testing.T) {
	each(t, 5, func(t *testing.T, seed uint64) {
		c := newCluster(t, seed, 1, func(c *cluster) { c.every = 3 })
		n := c.nodes[0]
		for i := range 20 {
			began := time.Now()
			ctx, cancel := within(time.Second)
			if err := n.createKeyspace(ctx, fmt.Sprintf("ks%02d", i)); err != nil {
				t.Fatal(err)
			}
			cancel()
			if took := time.Since(began); took > 100*time.Millisecond {
				t.Errorf("the change took %s", took)
			}
			n.crash()
			n.start()
			if got := len(keyspaces(n.svc.Current())); got != i+1 {
				t.Fatalf("seed %d: %d keyspaces after a crash, want %d", seed, got, i+1)
			}
		}
	})
}

// TestRestartOfAll: after a mass restart the membership of the log is what it was, from snapshots or from entries.
func TestRestartOfAll(t *testing.T) {
	each(t, 6, func(t *testing.T, seed uint64) {
		c := formed(t, seed, 7, func(c *cluster) { c.every = []uint64{2, 5, 1024}[seed%3] })
		ctx, cancel := within(time.Minute)
		defer cancel()
		for round := range 3 {
			before := c.nodes[0].conf().String()
			for _, n := range c.nodes {
				n.crash()
			}
			for _, n := range c.nodes {
				n.start()
			}
			if err := c.nodes[round].createKeyspace(ctx, fmt.Sprintf("ks%d", round)); err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
			c.settled()
			for _, n := range c.nodes {
				if after := n.conf().String(); after != before {
					t.Errorf("seed %d: node %d: membership %s became %s", seed, n.i, before, after)
				}
			}
		}
	})
}

// TestVotersFollowMembership: a voter that was removed votes no more, one that is gone for long gives its place to a
// member that answers, and the number of voters is always odd.
func TestVotersFollowMembership(t *testing.T) {
	each(t, 4, func(t *testing.T, seed uint64) {
		c := formed(t, seed, 4, func(c *cluster) { c.tune = func(o *Options) { o.ReplaceVoterAfter = 30 * time.Second } })
		s := c.settled()
		var gone, spare *node
		for _, n := range c.nodes {
			switch {
			case !s.Node(n.id).Voter:
				spare = n
			case n != c.leader():
				gone = n
			}
		}
		gone.crash()
		c.eventually(60*time.Second, "the spare votes", func() bool {
			now := c.leader()
			return now != nil && now.svc.Current().Node(spare.id).Voter && !now.svc.Current().Node(gone.id).Voter
		})
		ctx, cancel := within(time.Minute)
		defer cancel()
		if _, err := spare.svc.Propose(ctx, func(*meta.State) (*meta.Command, bool, error) {
			return &meta.Command{Kind: meta.RemoveNode, Node: meta.Node{ID: gone.id}}, true, nil
		}); err != nil {
			t.Fatal(err)
		}
		c.eventually(10*time.Second, "it is no member of the log", func() bool {
			conf := spare.conf()
			return len(conf.GetVoters()) == 3 && len(conf.GetLearners()) == 0 && !slices.Contains(conf.GetVoters(), raftID(gone.id))
		})
		lead := c.leader() // the leader itself is removed
		if _, err := lead.svc.Propose(ctx, func(*meta.State) (*meta.Command, bool, error) {
			return &meta.Command{Kind: meta.RemoveNode, Node: meta.Node{ID: lead.id}}, true, nil
		}); err != nil {
			t.Fatal(err)
		}
		var left *node
		for _, n := range c.nodes {
			if n != lead && n != gone {
				left = n
			}
		}
		c.eventually(20*time.Second, "one voter is left of two members", func() bool {
			conf := left.conf()
			return len(conf.GetVoters()) == 1 && len(conf.GetLearners()) == 1 && len(conf.GetVotersOutgoing()) == 0
		})
		if err := left.createKeyspace(ctx, "ks"); err != nil {
			t.Fatal(err)
		}
	})
}

// TestAbandonedJoinIsForgotten: a node that was announced and never joined is taken back by the leader, one that came
// back meanwhile is not.
func TestAbandonedJoinIsForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := formed(t, 1, 3, nil)
		ctx, cancel := within(5 * time.Minute)
		defer cancel()
		n := meta.Node{ID: hostID(7), Generation: 1, Internode: addrOf(7, 7000), Native: addrOf(7, 9042), DC: "dc1", Rack: "r", Tokens: []ring.Token{77}, Version: meta.Version, Quiet: true}
		add := func() *meta.State {
			s, err := c.nodes[1].svc.Propose(ctx, func(*meta.State) (*meta.Command, bool, error) {
				return &meta.Command{Kind: meta.AddPending, Node: n}, true, nil
			})
			if err != nil {
				t.Fatal(err)
			}
			return s
		}
		add()
		time.Sleep(30 * time.Second)
		n.Generation++
		if s := add(); !s.Quiet() {
			t.Error("not quiet")
		}
		time.Sleep(30 * time.Second)
		if !c.settled().Quiet() {
			t.Error("the second attempt was not given its time")
		}
		time.Sleep(15 * time.Second)
		if s := c.settled(); s.Quiet() || s.Node(n.ID) != nil {
			t.Error("it is still announced")
		}
	})
}
