package node

import (
	"testing"

	"github.com/helenusdb/helenus/meta"
	"github.com/helenusdb/helenus/ring"
	"github.com/helenusdb/helenus/storage"
)

// upgrading is the metadata of a cluster that an earlier version founded, with members of these versions.
func upgrading(t *testing.T, versions ...uint32) *meta.State {
	t.Helper()
	s := meta.Empty()
	for i, v := range versions {
		m := meta.Node{ID: ring.HostID{byte(i + 1)}, Internode: addrOf(byte(i+1), 7000), Native: addrOf(byte(i+1), 9042), DC: "dc1", Rack: "r1",
			Tokens: []ring.Token{ring.Token(i)}, Version: meta.Version}
		kinds := []meta.CommandKind{meta.AddPending, meta.CommitJoin}
		if i == 0 {
			kinds = []meta.CommandKind{meta.Found}
		}
		for _, kind := range kinds {
			c := meta.Command{Kind: kind, Node: m, ClusterID: [16]byte{7}, ClusterName: "c", Partitioner: ring.Murmur3Name, BaseEpoch: s.Epoch}
			if kind == meta.CommitJoin {
				c.Node = *s.Node(m.ID)
			}
			next, err := s.Apply(&c)
			if err != nil {
				t.Fatal(err)
			}
			s = next
		}
		s.Nodes[i].Version = v
	}
	s.ClusterVersion = 1
	return s
}

// TestClusterVersionIsRaised: when, and only when, the last member was upgraded, by one node, and no further than everybody goes.
func TestClusterVersionIsRaised(t *testing.T) {
	for i, x := range []struct {
		versions []uint32
		want     uint32 // 0: nothing is proposed
	}{
		{[]uint32{1, 1, 1}, 0}, {[]uint32{2, 1, 2}, 0}, {[]uint32{2, 2, 1}, 0}, {[]uint32{2, 2, 2}, 2}, {[]uint32{9, 2, 9}, 2}, {[]uint32{2}, 2},
	} {
		n := testNode(t, 20, host(20), nil)
		n.home = &storage.Home{HostID: ring.HostID{1}} // it does not run
		s := upgrading(t, x.versions...)
		c, ok, err := n.raise(s)
		if err != nil || ok != (x.want > 0) || ok && (c.Kind != meta.SetVersion || c.Version != x.want) {
			t.Errorf("%d: %v %+v %v", i, ok, c, err)
		}
		if ok {
			next, err := s.Apply(c)
			if err != nil || next.ClusterVersion != x.want {
				t.Errorf("%d: %v", i, err)
			} else if _, again, _ := n.raise(next); again {
				t.Errorf("%d: proposed again", i)
			}
		}
	}
}
