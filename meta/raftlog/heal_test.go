package raftlog

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/helenusdb/helenus/internal/watermark"
	"github.com/helenusdb/helenus/meta"
	"github.com/helenusdb/helenus/ring"
)

// loseTail ends the node as a power loss does, and its disk keeps nothing of what was synced since old was copied but the
// watermark. It tells whether anything was.
func (n *node) loseTail(old *vfs.MemFS) bool {
	n.c.t.Helper()
	n.crash()
	raw := readAll(n.c.t, n.fs, "meta/"+watermark.Name)
	grew := !bytes.Equal(raw, readAll(n.c.t, old, "meta/"+watermark.Name))
	f, err := old.OpenReadWrite("meta/"+watermark.Name, vfs.WriteCategoryUnspecified)
	if err != nil {
		n.c.t.Fatal(err)
	}
	if _, err := f.WriteAt(raw, 0); err != nil {
		n.c.t.Fatal(err)
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		n.c.t.Fatal(err)
	}
	n.fs = old
	return grew
}

func readAll(t testing.TB, fs vfs.FS, name string) []byte {
	t.Helper()
	f, err := fs.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	raw, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// copyDisk is what a power loss of the running node at this instant would leave.
func (n *node) copyDisk() *vfs.MemFS { return n.fs.CrashClone(vfs.CrashCloneCfg{}) }

func (c *cluster) healed(n *node) {
	c.t.Helper()
	c.eventually(60*time.Second, fmt.Sprintf("node %d is sound", n.i), func() bool {
		me := n.svc.Current().Node(n.id)
		return !n.svc.Suspect() && me != nil && me.Health == meta.Sound && slices.Contains(n.conf().GetVoters(), raftID(n.id)) == me.Voter
	})
}

// TestScenario_P15_ForgottenVotesAndEntries: nodes of a cluster lose the end of their metadata logs again and again, some
// while they lead, while changes are made, messages get lost and other nodes crash: no two nodes ever apply different
// changes, nothing that was answered is lost, and each comes back as a voter by itself.
func TestScenario_P15_ForgottenVotesAndEntries(t *testing.T) {
	each(t, 40, func(t *testing.T, seed uint64) {
		c := formed(t, seed, 3+2*int(seed%2), func(c *cluster) { c.every = 2 + seed%3*30 })
		c.loss.Store(int64(seed % 3 * 4))
		var made []string
		change := func(from *node, name string) {
			ctx, cancel := within(15 * time.Second)
			defer cancel()
			err := from.createKeyspace(ctx, name)
			if err == nil {
				made = append(made, name)
			} else if !errors.Is(err, ErrNoQuorum) && !errors.As(err, new(*Lagging)) {
				t.Fatalf("seed %d: %s: %v", seed, name, err)
			}
		}
		for round := range 5 {
			victim := c.nodes[c.rand.IntN(len(c.nodes))]
			if lead := c.leader(); lead != nil && round%2 == 0 {
				victim = lead
			}
			other := c.nodes[(victim.i+1+c.rand.IntN(len(c.nodes)-1))%len(c.nodes)]
			old := victim.copyDisk()
			for k := range 1 + c.rand.IntN(4) {
				change(other, fmt.Sprintf("ks_%d_%d", round, k))
			}
			if round%3 == 1 { // somebody else wins a vote meanwhile
				if lead := c.leader(); lead != nil && lead != victim {
					c.net.Isolate(hostName(lead.i), true)
					time.Sleep(3 * time.Second)
					c.net.Isolate(hostName(lead.i), false)
				}
			}
			lost := victim.loseTail(old)
			time.Sleep(time.Duration(c.rand.IntN(2000)) * time.Millisecond)
			victim.start()
			if victim.svc.Suspect() != lost {
				t.Errorf("seed %d round %d: lost %t, suspect %t", seed, round, lost, victim.svc.Suspect())
			}
			change(other, fmt.Sprintf("ks_%d_after", round))
			if round == 3 { // it stops again before it is healed
				time.Sleep(time.Duration(c.rand.IntN(1500)) * time.Millisecond)
				victim.crash()
				victim.start()
			}
			c.healed(victim)
		}
		there := keyspaces(c.settled())
		for _, name := range made {
			if !slices.Contains(there, name) {
				t.Errorf("seed %d: %s was answered and is gone", seed, name)
			}
		}
		ctx, cancel := within(time.Minute)
		defer cancel()
		for _, n := range c.nodes { // and each of them counts
			n.crash()
			n.start()
			if err := n.createKeyspace(ctx, fmt.Sprintf("last_%d", n.i)); err != nil {
				t.Errorf("seed %d: node %d: %v", seed, n.i, err)
			}
		}
	})
}

// amnesia is the worst case: a change is committed by A and C while B is cut off; C loses it; A is down. To believe C would be
// to lose the change and to have two histories. It returns A, B and C, of which B and C run.
func amnesia(t *testing.T, operator bool) (c *cluster, a, b, forgetful *node) {
	c = formed(t, 7, 3, nil)
	c.settled()
	a = c.leader()
	b, forgetful = c.nodes[(a.i+1)%3], c.nodes[(a.i+2)%3]
	ctx, cancel := within(time.Minute)
	defer cancel()
	c.net.Isolate(hostName(b.i), true)
	old := forgetful.copyDisk()
	if err := a.createKeyspace(ctx, "first"); err != nil {
		t.Fatal(err)
	}
	a.crash()
	forgetful.loseTail(old)
	c.net.Isolate(hostName(b.i), false)
	forgetful.open()
	if operator {
		if err := forgetful.svc.ClearSuspect(); err != nil {
			t.Fatal(err)
		}
	}
	forgetful.run()
	return c, a, b, forgetful
}

// TestScenario_P15_AForgetfulVoterElectsNobody: see amnesia. Nothing can be changed until A, which knows, is back; then everything
// is there.
func TestScenario_P15_AForgetfulVoterElectsNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, a, b, forgetful := amnesia(t, false)
		ctx, cancel := within(30 * time.Second)
		defer cancel()
		if err := b.createKeyspace(ctx, "second"); !errors.Is(err, ErrNoQuorum) {
			t.Errorf("without a sound majority: %v", err)
		}
		a.start()
		c.healed(forgetful)
		if got := strings.Join(keyspaces(c.settled()), " "); !strings.HasPrefix(got, "first") {
			t.Errorf("keyspaces %q", got)
		}
	})
}

// TestClearSuspectIsALeapOfFaith: what TestScenario_P15_AForgetfulVoterElectsNobody prevents does happen when the operator
// believes the wrong copy, and the harness would notice: B and C make another history than A has. A says so and ends.
func TestClearSuspectIsALeapOfFaith(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _, b, _ := amnesia(t, true)
		c.historyM.Lock()
		clear(c.history) // two histories are what is expected here
		c.historyM.Unlock()
		ctx, cancel := within(30 * time.Second)
		defer cancel()
		if err := b.createKeyspace(ctx, "second"); err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(keyspaces(b.svc.Current()), " "); got != "second" {
			t.Errorf("keyspaces %q", got)
		}
	})
}

// TestNoQuorumOfSoundVoters: when all voters are suspect, of one or of three, nothing can be changed, and the log says nothing
// wrong; the operator's word makes the cluster go on, and it heals the others.
func TestNoQuorumOfSoundVoters(t *testing.T) {
	for _, size := range []int{1, 3} {
		synctest.Test(t, func(t *testing.T) {
			var c *cluster
			if size == 1 {
				c = newCluster(t, 1, 1, nil)
			} else {
				c = formed(t, 1, size, nil)
			}
			ctx, cancel := within(time.Minute)
			defer cancel()
			var old []*vfs.MemFS
			for _, n := range c.nodes {
				old = append(old, n.copyDisk())
			}
			if err := c.nodes[0].createKeyspace(ctx, "lost"); err != nil {
				t.Fatal(err)
			}
			c.settled()
			for i, n := range c.nodes {
				n.loseTail(old[i])
			}
			clear(c.history)
			for _, n := range c.nodes {
				n.start()
			}
			short, cancelShort := within(20 * time.Second)
			defer cancelShort()
			if err := c.nodes[0].createKeyspace(short, "ks"); !errors.Is(err, ErrNoQuorum) {
				t.Errorf("%d nodes, all suspect: %v", size, err)
			}
			for _, n := range c.nodes[:1+size/2] { // the two that are believed are a majority
				n.halt()
				n.open()
				if err := n.svc.ClearSuspect(); err != nil {
					t.Fatal(err)
				}
				n.run()
			}
			long, cancelLong := within(time.Minute)
			defer cancelLong()
			if err := c.nodes[0].createKeyspace(long, "ks"); err != nil {
				t.Errorf("%d nodes, after ClearSuspect: %v", size, err)
			}
			for _, n := range c.nodes {
				if n.svc.Current().Node(n.id) != nil && size > 1 {
					c.eventually(time.Minute, "all sound", func() bool { return !n.svc.Suspect() })
				}
				n.halt()
				n.open()
				if n.svc.Suspect() {
					t.Errorf("node %d of %d is suspect again", n.i, size)
				}
				n.run()
			}
		})
	}
}

// TestScenario_S6_CrashesWhileHealing: the power of the healing node, or of the leader that heals it, fails inside any call of the
// file system: it is healed all the same.
func TestScenario_S6_CrashesWhileHealing(t *testing.T) {
	each(t, 40, func(t *testing.T, seed uint64) {
		c := formed(t, seed, 3, func(c *cluster) { c.every = 4 })
		c.settled()
		victim := c.nodes[int(seed)%3]
		helper := c.nodes[(victim.i+1)%3]
		ctx, cancel := within(5 * time.Minute)
		defer cancel()
		old := victim.copyDisk()
		for k := range 3 {
			if err := helper.createKeyspace(ctx, fmt.Sprintf("ks%d", k)); err != nil {
				t.Fatal(err)
			}
		}
		victim.loseTail(old)
		victim.start()
		whose := []*node{victim, helper}[seed/2%2]
		cut := whose.failPowerIn(1+int(seed), int(seed)%3*50)
		select {
		case <-cut:
		case <-time.After(20 * time.Second):
		}
		whose.crash()
		whose.start()
		c.healed(victim)
		if err := victim.createKeyspace(ctx, "after"); err != nil {
			t.Errorf("seed %d: %v", seed, err)
		}
		if got := len(keyspaces(c.settled())); got != 4 {
			t.Errorf("seed %d: %d keyspaces", seed, got)
		}
	})
}

// TestScenario_W2_FlippedBitsInTheMetadataLog: a flipped bit in the newest write-ahead log of the metadata is refused, or makes the
// node suspect, or changes nothing.
func TestScenario_W2_FlippedBitsInTheMetadataLog(t *testing.T) {
	flips := 400
	if testing.Short() {
		flips = 60
	}
	outcomes := map[string]int{}
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1, 1, nil)
		n := c.nodes[0]
		ctx, cancel := within(time.Minute)
		defer cancel()
		for i := range 30 {
			if err := n.createKeyspace(ctx, fmt.Sprintf("ks%02d", i)); err != nil {
				t.Fatal(err)
			}
		}
		epoch := n.svc.Current().Epoch
		disk := n.copyDisk()
		n.halt()
		name := newestLog(t, disk)
		size := len(readAll(t, disk, name))
		r := rand.New(rand.NewPCG(5, 5))
		for range flips {
			n.fs, n.seen = disk.CrashClone(vfs.CrashCloneCfg{}), nil
			at, bit := r.IntN(size), r.IntN(8)
			flip(t, n.fs, name, at, bit)
			err := n.tryOpen()
			switch {
			case err != nil:
				outcomes["refused"]++
				continue
			case n.svc.Suspect():
				outcomes["suspect"]++
			case n.svc.Current().Epoch == epoch:
				outcomes["harmless"]++
			default:
				t.Errorf("bit %d of byte %d of %d: epoch %d of %d, and nobody noticed", bit, at, size, n.svc.Current().Epoch, epoch)
			}
			if err := n.svc.Close(); err != nil {
				t.Error(err)
			}
		}
	})
	t.Logf("%v", outcomes)
	if outcomes["suspect"] == 0 {
		t.Error("no flip shortened the log: the test looks at nothing")
	}
}

func newestLog(t *testing.T, fs vfs.FS) string {
	t.Helper()
	names, err := fs.List("meta")
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(names)
	for _, name := range slices.Backward(names) {
		if strings.HasSuffix(name, ".log") {
			return "meta/" + name
		}
	}
	t.Fatalf("no log among %v", names)
	return ""
}

func flip(t *testing.T, fs vfs.FS, name string, at, bit int) {
	t.Helper()
	f, err := fs.OpenReadWrite(name, vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	var b [1]byte
	if _, err := f.ReadAt(b[:], int64(at)); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 1 << bit
	if _, err := f.WriteAt(b[:], int64(at)); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		t.Fatal(err)
	}
}

func TestNextHealth(t *testing.T) {
	for _, c := range []struct{ now, known, logged, want meta.Health }{
		{meta.Sound, meta.Suspect, meta.Suspect, meta.Sound}, // only the node itself notices
		{meta.Suspect, meta.Suspect, meta.Suspect, meta.Suspect},
		{meta.Suspect, meta.Healing, meta.Suspect, meta.Healing},
		{meta.Suspect, meta.Healing, meta.Sound, meta.Healing}, // one step at a time
		{meta.Healing, meta.Sound, meta.Suspect, meta.Healing}, // a pulled state does not say what is in the log
		{meta.Healing, meta.Healing, meta.Healing, meta.Healing},
		{meta.Healing, meta.Sound, meta.Sound, meta.Sound},
	} {
		if got := nextHealth(c.now, c.known, c.logged); got != c.want {
			t.Errorf("%s, known %s, logged %s: %s, want %s", c.now, c.known, c.logged, got, c.want)
		}
	}
}

// TestHealingSteps: a member that is suspect is taken out of the membership, declared healing once it is out, added as a learner,
// declared sound once it has caught up, and votes again if it has its seat.
func TestHealingSteps(t *testing.T) {
	s := stateOf(meta.Node{Voter: true}, meta.Node{Voter: true, Generation: 7, Health: meta.Suspect}, meta.Node{Voter: true})
	have := &pb.ConfState{Voters: []uint64{raftID(hostID(0)), raftID(hostID(1)), raftID(hostID(2))}}
	victim := raftID(hostID(1))
	never := func(ring.HostID) bool { return false }
	always := func(ring.HostID) bool { return true }

	if c := healing(s, have, always); c != nil {
		t.Errorf("while it is a member: %+v", c)
	}
	if cc := confChange(s, have); len(cc.GetChanges()) != 1 || cc.GetChanges()[0].GetType() != pb.ConfChangeRemoveNode || cc.GetChanges()[0].GetNodeId() != victim {
		t.Errorf("first it is removed, not %v", cc)
	}
	have.Voters = slices.Delete(have.Voters, 1, 2)
	if c := healing(s, have, never); c == nil || c.Kind != meta.SetHealth || c.Node.ID != hostID(1) || c.Node.Generation != 7 || c.Node.Health != meta.Healing {
		t.Errorf("once it is out: %+v", c)
	}
	if cc := confChange(s, have); cc != nil {
		t.Errorf("nothing is added before it is known to be out: %v", cc)
	}
	s.Nodes[1].Health = meta.Healing
	if cc := confChange(s, have); len(cc.GetChanges()) != 1 || cc.GetChanges()[0].GetType() != pb.ConfChangeAddLearnerNode || cc.GetChanges()[0].GetNodeId() != victim {
		t.Errorf("then it learns: %v", cc)
	}
	have.Learners = []uint64{victim}
	if c := healing(s, have, never); c != nil {
		t.Errorf("before it has caught up: %+v", c)
	}
	if cc := confChange(s, have); cc != nil {
		t.Errorf("it votes too early: %v", cc)
	}
	if c := healing(s, have, always); c == nil || c.Node.Health != meta.Sound {
		t.Errorf("when it has: %+v", c)
	}
	s.Nodes[1].Health = meta.Sound
	if cc := confChange(s, have); len(cc.GetChanges()) != 1 || cc.GetChanges()[0].GetType() != pb.ConfChangeAddNode || cc.GetChanges()[0].GetNodeId() != victim {
		t.Errorf("it gets its vote back: %v", cc)
	}
	alone := stateOf(meta.Node{Voter: true, Health: meta.Suspect}, meta.Node{})
	if cc := confChange(alone, &pb.ConfState{Voters: []uint64{raftID(hostID(0))}, Learners: []uint64{victim}}); cc != nil {
		t.Errorf("the last voter is not removed: %v", cc)
	}
}
