package node

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/helenusdb/helenus/meta"
	"github.com/helenusdb/helenus/ring"
	"github.com/helenusdb/helenus/schema"
	"github.com/helenusdb/helenus/storage"
)

// TestKnowsAll: whoever may have taken part in a change that the members asked do not know has to be asked, and nobody else.
func TestKnowsAll(t *testing.T) {
	state := func(voters, learners int) *meta.State {
		s := &meta.State{}
		for i := range voters + learners {
			s.Nodes = append(s.Nodes, meta.Node{ID: ring.HostID{byte(i + 1)}, Voter: i < voters})
		}
		return s
	}
	for voters := range 8 {
		s := state(voters, 1)
		majorities := subsets(voters, voters/2+1)
		for _, short := range []bool{false, true} {
			for answered := range 1 << voters {
				heard := map[ring.HostID]bool{}
				for i := range voters {
					heard[ring.HostID{byte(i + 1)}] = answered>>i&1 == 1
				}
				delete(heard, ring.HostID{1}) // this node
				knows := func(i int) bool { return heard[ring.HostID{byte(i + 1)}] || i == 0 && !short }
				want := !slices.ContainsFunc(majorities, func(m int) bool {
					for i := range voters {
						if m>>i&1 == 1 && knows(i) {
							return false
						}
					}
					return true
				})
				if voters == 1 && short {
					want = false // the learner may know more
				}
				if got := knowsAll(s, ring.HostID{1}, short, heard); got != want {
					t.Errorf("%d voters, short %v, %b have answered: %v", voters, short, answered, got)
				}
			}
		}
	}
	if one := state(1, 0); !knowsAll(one, one.Nodes[0].ID, true, nil) {
		t.Error("a node on its own waits for ever")
	}
	if two := state(1, 1); !knowsAll(two, two.Nodes[0].ID, true, map[ring.HostID]bool{two.Nodes[1].ID: true}) {
		t.Error("everybody has answered")
	}
}

// subsets returns the sets of n of the first of numbers, as bits.
func subsets(of, n int) (out []int) {
	for set := range 1 << of {
		bits := 0
		for i := range of {
			bits += set >> i & 1
		}
		if bits >= n {
			out = append(out, set)
		}
	}
	return out
}

// createKeyspace proposes CREATE KEYSPACE on a node.
func createKeyspace(t *testing.T, n *Node, name string) {
	t.Helper()
	_, _, err := ddl{n}.Change(t.Context(), func(s *meta.State) (schema.Plan, error) {
		return s.Catalog.CreateKeyspace(schema.CreateKeyspace{Name: name, Properties: []schema.Property{{Name: "replication", IsMap: true,
			Map: []schema.Pair{{Key: "class", Value: "SimpleStrategy"}, {Key: "replication_factor", Value: "3"}}}}},
			schema.Env{NewID: func() schema.ID { return schema.ID(n.o.uuid()) }, Now: time.Now})
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestScenario_S3_NoClientBeforeTheMetadata: a node that was down while the schema changed knows the change when it serves clients. One that
// has lost the end of its metadata log serves nobody before the others have told it what it had known.
func TestScenario_S3_NoClientBeforeTheMetadata(t *testing.T) {
	seeds := strings.Join([]string{host(20), host(21), host(22)}, ",")
	var disks [3]storage.FS
	for i := range disks {
		disks[i] = storage.Memory()
	}
	start := func(i int) (n *Node, ended chan error, stop func() error) {
		n = testNode(t, 20+i, seeds, func(o *Options) { o.FS = disks[i] })
		ended, stop = run(n)
		return n, ended, stop
	}
	var nodes [3]*Node
	var ends [3]chan error
	var stops [3]func() error
	for i := range nodes {
		nodes[i], ends[i], stops[i] = start(i)
	}
	for i := range nodes {
		awaitReady(t, nodes[i], ends[i])
	}
	for _, name := range []string{"one", "two", "three"} {
		if err := stops[2](); err != nil {
			t.Fatal(err)
		}
		createKeyspace(t, nodes[0], name)
		nodes[2], ends[2], stops[2] = start(2)
		awaitReady(t, nodes[2], ends[2])
		if _, ok := nodes[2].log.Current().Catalog.Keyspace(name); !ok {
			t.Errorf("clients are served and do not find keyspace %s", name)
		}
	}
	if err := errors.Join(stops[0](), stops[1](), stops[2]()); err != nil {
		t.Fatal(err)
	}
	if err := disks[2].Remove("helenus-data/meta/WATERMARK"); err != nil {
		t.Fatal(err)
	}
	nodes[2], ends[2], stops[2] = start(2)
	select {
	case <-nodes[2].Ready():
		t.Error("a node that may have known more serves clients, though nobody has answered")
	case err := <-ends[2]:
		t.Fatal(err)
	case <-time.After(catchUpPatience + 500*time.Millisecond):
	}
	for i := range 2 {
		nodes[i], ends[i], stops[i] = start(i)
	}
	for i := range nodes {
		awaitReady(t, nodes[i], ends[i])
	}
	if err := errors.Join(stops[0](), stops[1](), stops[2]()); err != nil {
		t.Error(err)
	}
}

// TestScenario_S3_AloneAfterAll: without the others a node serves, with what it has, when it has waited for them; and it can be stopped
// while it waits.
func TestScenario_S3_AloneAfterAll(t *testing.T) {
	seeds := host(23) + "," + host(24)
	disks := [2]storage.FS{storage.Memory(), storage.Memory()}
	node := func(i int) *Node { return testNode(t, 23+i, seeds, func(o *Options) { o.FS = disks[i] }) }
	first, second := node(0), node(1)
	ended1, stop1 := run(first)
	ended2, stop2 := run(second)
	awaitReady(t, first, ended1)
	awaitReady(t, second, ended2)
	if err := errors.Join(stop2(), stop1()); err != nil {
		t.Fatal(err)
	}
	for _, wait := range []bool{false, true} {
		n := node(1)
		ended, stop := run(n)
		if wait {
			awaitReady(t, n, ended)
		}
		if err := stop(); err != nil {
			t.Errorf("stopped after ready %v: %v", wait, err)
		}
	}
}

// TestScenario_S3_WhoForgotThatThereAreOthers: a node whose metadata log is cut back to the time when it was alone asks its seeds.
func TestScenario_S3_WhoForgotThatThereAreOthers(t *testing.T) {
	seeds := host(25) + "," + host(26)
	fs, other := vfs.NewCrashableMem(), storage.Memory()
	first := testNode(t, 25, seeds, func(o *Options) { o.FS = fs })
	ended1, stop1 := run(first)
	awaitReady(t, first, ended1)
	old := fs.CrashClone(vfs.CrashCloneCfg{})
	second := testNode(t, 26, seeds, func(o *Options) { o.FS = other })
	ended2, stop2 := run(second)
	awaitReady(t, second, ended2)
	createKeyspace(t, first, "later")
	if err := stop1(); err != nil {
		t.Fatal(err)
	}
	if err := old.Remove("helenus-data/meta/WATERMARK"); err != nil {
		t.Fatal(err)
	}
	again := testNode(t, 25, seeds, func(o *Options) { o.FS = old })
	ended1, stop1 = run(again)
	awaitReady(t, again, ended1)
	if _, ok := again.log.Current().Catalog.Keyspace("later"); !ok || len(again.log.Current().Members()) != 2 {
		t.Errorf("it serves clients with the metadata of epoch %d, %d members", again.log.Current().Epoch, len(again.log.Current().Members()))
	}
	if err := errors.Join(stop1(), stop2()); err != nil {
		t.Error(err)
	}
}
