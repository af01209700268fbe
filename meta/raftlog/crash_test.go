package raftlog

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"google.golang.org/protobuf/proto"

	pb "go.etcd.io/raft/v3/raftpb"
)

// TestScenario_S6_CrashAtEachPoint: the power fails inside every single call of the file system of a cluster of one, through
// appends, applies, snapshots and log truncations (S8: many snapshots in a short time): nothing acknowledged is lost, and
// neither epoch nor log goes back.
func TestScenario_S6_CrashAtEachPoint(t *testing.T) {
	step := 1
	if testing.Short() {
		step = 7
	}
	for k := 1; !t.Failed(); k += step {
		reached := false
		synctest.Test(t, func(t *testing.T) { reached = crashAt(t, k, k%3*50) })
		if !reached {
			t.Logf("%d points", k)
			return
		}
	}
}

// crashAt fails the power at the k-th call of 25 changes; false when there are fewer calls.
func crashAt(t *testing.T, k, percent int) bool {
	c := newCluster(t, uint64(k), 1, func(c *cluster) { c.every = 4 })
	n := c.nodes[0]
	var acked atomic.Int64
	cut := n.failPowerIn(k, percent)
	ackedAtCut := int64(-1)
	ctx, cancel := within(time.Minute)
	defer cancel()
	for i := range 25 {
		if err := n.createKeyspace(ctx, fmt.Sprintf("ks%02d", i)); err != nil {
			t.Fatal(err)
		}
		select {
		case <-cut: // this one was answered after the power failed: it may be gone
		default:
			acked.Add(1)
			continue
		}
		ackedAtCut = acked.Load()
		break
	}
	if ackedAtCut < 0 {
		return false
	}
	n.crash()
	n.start()
	got := keyspaces(n.svc.Current())
	if int64(len(got)) < ackedAtCut || n.svc.Current().Epoch != uint64(1+len(got)) {
		t.Errorf("crash at call %d with %d%%: %d keyspaces at epoch %d, %d were acknowledged", k, percent, len(got), n.svc.Current().Epoch, ackedAtCut)
	}
	if err := n.createKeyspace(ctx, "after"); err != nil {
		t.Errorf("crash at call %d: %v", k, err)
	}
	return true
}

// TestScenario_S6_CrashesInsideCalls: the same in clusters, where a node's vote, log and snapshot are promises to others: the
// power of one node, or of two at about the same time, fails inside random calls while changes are made.
func TestScenario_S6_CrashesInsideCalls(t *testing.T) {
	each(t, 40, func(t *testing.T, seed uint64) {
		c := formed(t, seed, 3, func(c *cluster) { c.every = 4 })
		var made []string
		for round := range 8 {
			order := c.rand.Perm(3)
			victims, from := order[:1+round%2], c.nodes[order[2]]
			var cuts []<-chan struct{}
			for _, i := range victims {
				cuts = append(cuts, c.nodes[i].failPowerIn(1+c.rand.IntN(30), c.rand.IntN(2)*50))
			}
			for k := 0; k < 40; k++ {
				name := fmt.Sprintf("ks_%d_%d", round, k)
				ctx, cancel := within(4 * time.Second)
				err := from.createKeyspace(ctx, name)
				cancel()
				if err != nil && (len(victims) == 1 || !errors.Is(err, ErrNoQuorum)) {
					t.Fatalf("seed %d round %d: %v", seed, round, err)
				}
				if err == nil {
					made = append(made, name)
				}
				if err != nil || allClosed(cuts) {
					break
				}
			}
			for _, i := range victims {
				c.nodes[i].crash()
			}
			for _, i := range victims {
				c.nodes[i].start()
			}
			c.eventually(30*time.Second, "a leader", func() bool { return c.leader() != nil })
		}
		there := keyspaces(c.settled())
		for _, name := range made {
			if !slices.Contains(there, name) {
				t.Errorf("seed %d: %s was acknowledged and is gone", seed, name)
			}
		}
	})
}

func allClosed(chans []<-chan struct{}) bool {
	for _, c := range chans {
		select {
		case <-c:
		default:
			return false
		}
	}
	return true
}

// TestJoinerCrashes: a node that crashes while it gets its first snapshot gets it again, and is a whole member.
func TestJoinerCrashes(t *testing.T) {
	each(t, 30, func(t *testing.T, seed uint64) {
		c := newCluster(t, seed, 3, func(c *cluster) { c.every = 2 })
		for _, n := range c.nodes[1:] {
			n.start()
			cut := n.failPowerIn(1+int(seed)*2, int(seed)%3*50)
			c.join(n)
			select {
			case <-cut:
			case <-time.After(time.Second):
			}
			n.crash()
			n.start()
		}
		c.eventually(20*time.Second, "the joiner knows of the cluster", func() bool { return c.nodes[2].svc.Current().Founded() })
		ctx, cancel := within(time.Minute)
		defer cancel()
		if err := c.nodes[2].createKeyspace(ctx, "ks"); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		c.settled()
		c.eventually(20*time.Second, "all vote", func() bool { return len(c.nodes[2].conf().GetVoters()) == 3 })
	})
}

// TestPledge: a node that has asked to join a cluster founds none, also after a crash, and takes no other cluster's state.
func TestPledge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1, 2, nil)
		n := c.nodes[1]
		n.start()
		if n.svc.Pledged() != [16]byte{} {
			t.Error("pledged already")
		}
		if err := n.svc.Pledge(context.Background(), [16]byte{9}); err != nil {
			t.Fatal(err)
		}
		n.crash()
		n.open()
		if n.svc.Pledged() != [16]byte{9} {
			t.Error("the pledge was forgotten")
		}
		if err := n.svc.Found(nil); err == nil {
			t.Error("it founds a cluster")
		}
		n.run()
		if err := n.svc.Adopt(context.Background(), c.nodes[0].svc.Current().Encode()); !errors.Is(err, ErrOtherCluster) {
			t.Errorf("adopting another cluster's state: %v", err)
		}
	})
}

// TestDamage: a store that is not what this node wrote is refused with what to do, not with a panic.
func TestDamage(t *testing.T) {
	cases := []struct {
		name, want string
		harm       func(t *testing.T, db *pebble.DB)
	}{
		{"entry missing", "is missing: the store is damaged", func(t *testing.T, db *pebble.DB) { del(t, db, string(entryKey(lastEntry(t, db)-1))) }},
		{"tail missing", "the store is damaged", func(t *testing.T, db *pebble.DB) { del(t, db, string(entryKey(lastEntry(t, db)))) }},
		{"another host's", "belongs to another host id", func(t *testing.T, db *pebble.DB) { set(t, db, keyIdentity, []byte("12345678")) }},
		{"snapshot that does not decode", "snapshot", func(t *testing.T, db *pebble.DB) {
			index, term := uint64(1), uint64(1)
			raw, err := proto.Marshal(&pb.Snapshot{Data: []byte{1, 2, 3}, Metadata: &pb.SnapshotMetadata{Index: &index, Term: &term, ConfState: &pb.ConfState{Voters: []uint64{1}}}})
			if err != nil {
				t.Fatal(err)
			}
			set(t, db, keySnapshot, raw)
		}},
		{"hard state that does not decode", "decode H", func(t *testing.T, db *pebble.DB) { set(t, db, keyHardState, []byte{0xff}) }},
		{"entry of a newer build", "older than the log", func(t *testing.T, db *pebble.DB) {
			last := lastEntry(t, db)
			term := uint64(2)
			raw, err := proto.Marshal(&pb.Entry{Index: &last, Term: &term, Data: []byte{99, 1}})
			if err != nil {
				t.Fatal(err)
			}
			set(t, db, string(entryKey(last)), raw)
		}},
	}
	for _, test := range cases {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCluster(t, 1, 1, nil)
				n := c.nodes[0]
				ctx, cancel := within(time.Minute)
				defer cancel()
				for i := range 5 {
					if err := n.createKeyspace(ctx, fmt.Sprintf("ks%d", i)); err != nil {
						t.Fatal(err)
					}
				}
				n.halt()
				db, err := pebble.Open("meta", &pebble.Options{FS: n.fs, FormatMajorVersion: formatMajor, Logger: fatalLogger{pebbleLogger{slog.New(slog.DiscardHandler)}, func(err error) { t.Error(err) }}})
				if err != nil {
					t.Fatal(err)
				}
				test.harm(t, db)
				if err := db.Close(); err != nil {
					t.Fatal(err)
				}
				if err := n.tryOpen(); err == nil || !strings.Contains(err.Error(), test.want) {
					t.Errorf("got %v, want %q", err, test.want)
				}
			})
		})
	}
}

func lastEntry(t *testing.T, db *pebble.DB) uint64 {
	it, err := db.NewIter(&pebble.IterOptions{LowerBound: entryKey(0), UpperBound: []byte{keyEntry + 1}})
	if err != nil {
		t.Fatal(err)
	}
	defer it.Close()
	if !it.Last() {
		t.Fatal("no entries")
	}
	e := &pb.Entry{}
	if err := proto.Unmarshal(it.Value(), e); err != nil {
		t.Fatal(err)
	}
	return e.GetIndex()
}

func set(t *testing.T, db *pebble.DB, key string, value []byte) {
	if err := db.Set([]byte(key), value, pebble.Sync); err != nil {
		t.Fatal(err)
	}
}

func del(t *testing.T, db *pebble.DB, key string) {
	if err := db.Delete([]byte(key), pebble.Sync); err != nil {
		t.Fatal(err)
	}
}

// TestOlderCopyPutBack: a follower whose folder is an older copy has forgotten what it promised. It ends with what to do,
// and the others go on.
func TestOlderCopyPutBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := formed(t, 3, 3, nil)
		ctx, cancel := within(time.Minute)
		defer cancel()
		c.settled()
		victim := c.nodes[(c.leader().i+1)%3]
		old := victim.fs.CrashClone(vfs.CrashCloneCfg{})
		for i := range 5 {
			if err := c.leader().createKeyspace(ctx, fmt.Sprintf("ks%d", i)); err != nil {
				t.Fatal(err)
			}
		}
		c.settled()
		victim.crash()
		victim.fs, victim.seen = old, nil
		victim.open()
		victim.run()
		time.Sleep(5 * time.Second)
		victim.up = false
		if err := victim.stop(); err == nil || !strings.Contains(err.Error(), "an older copy of it was put back") {
			t.Errorf("it ends with %v", err)
		}
		if err := c.leader().createKeyspace(ctx, "after"); err != nil {
			t.Error(err)
		}
	})
}
