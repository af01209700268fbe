package meta_test

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/helenusdb/helenus/meta"
	"github.com/helenusdb/helenus/ring"
	"github.com/helenusdb/helenus/schema"
)

func host(i int) ring.HostID { return ring.HostID{0: byte(i), 15: byte(i)} }

// addr is where host i lives; port tells the three kinds of addresses apart.
func addr(i, port int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}), uint16(port))
}

// member is host i, with two tokens of its own.
func member(i int) meta.Node {
	return meta.Node{ID: host(i), Generation: 100, Internode: addr(i, 7000), Gossip: addr(i, 7946), Native: addr(i, 9042), DC: "dc1",
		Rack: fmt.Sprintf("r%d", i%3), Tokens: []ring.Token{ring.Token(i), ring.Token(i) << 40}, Version: meta.Version, ReleaseVersion: "5.0.8"}
}

func found() *meta.Command {
	return &meta.Command{Kind: meta.Found, ID: [16]byte{1}, Node: member(1), ClusterID: [16]byte{0xc1}, ClusterName: "test",
		Partitioner: ring.Murmur3{}.Name(), Secret: [32]byte{5}}
}

// must applies commands that have to take effect.
func must(t testing.TB, s *meta.State, commands ...*meta.Command) *meta.State {
	t.Helper()
	for _, c := range commands {
		next, err := s.Apply(c)
		if err != nil {
			t.Fatalf("command %d: %v", c.Kind, err)
		}
		s = next
	}
	return s
}

// joined returns a cluster of hosts 1 to n.
func joined(t testing.TB, n int) *meta.State {
	s := must(t, meta.Empty(), found())
	for i := 2; i <= n; i++ {
		s = join(t, s, i)
	}
	return s
}

func join(t testing.TB, s *meta.State, i int) *meta.State {
	s = must(t, s, &meta.Command{Kind: meta.AddPending, Node: with(member(i), func(n *meta.Node) { n.Quiet = true })})
	return must(t, s, &meta.Command{Kind: meta.CommitJoin, Node: meta.Node{ID: host(i), Since: s.Node(host(i)).Since}})
}

func with(n meta.Node, change func(*meta.Node)) meta.Node {
	change(&n)
	return n
}

func createKeyspace(t testing.TB, s *meta.State, name string) []schema.Change {
	t.Helper()
	plan, err := s.Catalog.CreateKeyspace(schema.CreateKeyspace{Name: name, Properties: []schema.Property{{Name: "replication",
		IsMap: true, Map: []schema.Pair{{Key: "class", Value: "SimpleStrategy"}, {Key: "replication_factor", Value: "3"}}}}},
		schema.Env{NewID: func() schema.ID { return schema.ID{1} }, Now: func() time.Time { return time.Unix(1, 0) }})
	if err != nil {
		t.Fatal(err)
	}
	return plan.Changes
}

// TestRefusals: each command that cannot be right in the state it meets is refused with a reason, and changes nothing.
func TestRefusals(t *testing.T) {
	three := joined(t, 3)
	pending := must(t, three, &meta.Command{Kind: meta.AddPending, Node: member(4)})
	left := must(t, three, &meta.Command{Kind: meta.RemoveNode, Node: meta.Node{ID: host(3)}})
	cases := []struct {
		name string
		in   *meta.State
		c    meta.Command
		want string
	}{
		{"second founding", three, *found(), "exists already"},
		{"command before founding", meta.Empty(), meta.Command{Kind: meta.RemoveNode}, "before the cluster was founded"},
		{"founding without an id", meta.Empty(), func() meta.Command { c := *found(); c.ClusterID = [16]byte{}; return c }(), "needs an id"},
		{"founding without tokens", meta.Empty(), func() meta.Command { c := *found(); c.Node.Tokens = nil; return c }(), "1 to 256 tokens"},
		{"member again", three, meta.Command{Kind: meta.AddPending, Node: member(2)}, "is a member already"},
		{"left", left, meta.Command{Kind: meta.AddPending, Node: member(3)}, "has left the cluster"},
		{"M6: wiped node at a member's address", three, meta.Command{Kind: meta.AddPending, Node: with(member(9), func(n *meta.Node) { n.Internode = addr(2, 7000) })}, "lost its data"},
		{"native address of a member", three, meta.Command{Kind: meta.AddPending, Node: with(member(9), func(n *meta.Node) { n.Native = addr(2, 9042) })}, "lost its data"},
		{"native address of a joining node", pending, meta.Command{Kind: meta.AddPending, Node: with(member(9), func(n *meta.Node) { n.Native = addr(4, 9042) })}, "which is joining"},
		{"two processes join with one id", pending, meta.Command{Kind: meta.AddPending, Node: with(member(4), func(n *meta.Node) { n.Internode = addr(8, 7000) })}, "two nodes have one identity"},
		{"host id too similar", three, meta.Command{Kind: meta.AddPending, Node: with(member(9), func(n *meta.Node) { n.ID = ring.HostID{0: 2, 15: 9} })}, "too much like"},
		{"token of another", three, meta.Command{Kind: meta.AddPending, Node: with(member(9), func(n *meta.Node) { n.Tokens = []ring.Token{2} })}, "token"},
		{"no tokens", three, meta.Command{Kind: meta.AddPending, Node: with(member(9), func(n *meta.Node) { n.Tokens = nil })}, "1 to 256 tokens"},
		{"too many tokens", three, meta.Command{Kind: meta.AddPending, Node: with(member(9), func(n *meta.Node) { n.Tokens = make([]ring.Token, 257) })}, "1 to 256 tokens"},
		{"no rack", three, meta.Command{Kind: meta.AddPending, Node: with(member(9), func(n *meta.Node) { n.Rack = "" })}, "a data centre and a rack"},
		{"no address", three, meta.Command{Kind: meta.AddPending, Node: with(member(9), func(n *meta.Node) { n.Native = netip.AddrPort{} })}, "addresses"},
		{"old build", three, meta.Command{Kind: meta.AddPending, Node: with(member(9), func(n *meta.Node) { n.Version = 0 })}, "newer build"},
		{"commit of nobody", three, meta.Command{Kind: meta.CommitJoin, Node: member(9)}, "is not joining"},
		{"commit of a member", three, meta.Command{Kind: meta.CommitJoin, Node: member(2)}, "is not joining"},
		{"M7: other rack", three, meta.Command{Kind: meta.UpdateNode, Node: with(member(2), func(n *meta.Node) { n.Rack, n.Generation = "r9", 101 })}, "cannot change"},
		{"M7: other data centre", three, meta.Command{Kind: meta.UpdateNode, Node: with(member(2), func(n *meta.Node) { n.DC, n.Generation = "dc9", 101 })}, "cannot change"},
		{"older generation", three, meta.Command{Kind: meta.UpdateNode, Node: member(2)}, "two processes have one identity"},
		{"address of another member", three, meta.Command{Kind: meta.UpdateNode, Node: with(member(2), func(n *meta.Node) { n.Internode, n.Generation = addr(3, 7000), 101 })}, "belongs to member"},
		{"update of who left", left, meta.Command{Kind: meta.UpdateNode, Node: with(member(3), func(n *meta.Node) { n.Generation = 101 })}, "is no member"},
		{"removal of nobody", three, meta.Command{Kind: meta.RemoveNode, Node: member(9)}, "is no member"},
		{"removal of the last", joined(t, 1), meta.Command{Kind: meta.RemoveNode, Node: member(1)}, "last member"},
		{"no voters", three, meta.Command{Kind: meta.SetVoters}, "1 to 5 voters"},
		{"joining voter", pending, meta.Command{Kind: meta.SetVoters, Voters: []ring.HostID{host(4)}}, "is no member"},
		{"version back", three, meta.Command{Kind: meta.SetVersion, Version: meta.Version - 1}, "cannot go back"},
		{"version too new for a member", three, meta.Command{Kind: meta.SetVersion, Version: meta.Version + 1}, "understands version"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			before := string(c.in.Encode())
			next, err := c.in.Apply(&c.c)
			var refused *meta.Refused
			if next != nil || !errors.As(err, &refused) || !strings.Contains(refused.Reason, c.want) {
				t.Errorf("got %v, want a refusal with %q", err, c.want)
			}
			if string(c.in.Encode()) != before {
				t.Error("the state changed")
			}
		})
	}
}

// TestConflicts: a command made for another epoch, another attempt to join or another catalog has no effect.
func TestConflicts(t *testing.T) {
	s := joined(t, 2)
	quiet := with(member(3), func(n *meta.Node) { n.Quiet = true })
	pending := must(t, s, &meta.Command{Kind: meta.AddPending, Node: quiet})
	since := pending.Node(host(3)).Since
	again := must(t, pending, &meta.Command{Kind: meta.RemoveNode, Node: meta.Node{ID: host(3)}}, &meta.Command{Kind: meta.AddPending, Node: quiet})
	for name, c := range map[string]struct {
		in *meta.State
		c  meta.Command
	}{
		"epoch":            {s, meta.Command{Kind: meta.AddPending, Node: member(3), BaseEpoch: s.Epoch - 1}},
		"later epoch":      {s, meta.Command{Kind: meta.AddPending, Node: member(3), BaseEpoch: s.Epoch + 1}},
		"attempt to join":  {again, meta.Command{Kind: meta.CommitJoin, Node: meta.Node{ID: host(3), Since: since}}},
		"catalog":          {s, meta.Command{Kind: meta.Schema, BaseSchema: [16]byte{1}}},
		"epoch of a table": {s, meta.Command{Kind: meta.Schema, BaseSchema: s.Catalog.Version, BaseEpoch: s.Epoch + 7}},
	} {
		if _, err := c.in.Apply(&c.c); !errors.Is(err, meta.ErrConflict) {
			t.Errorf("%s: got %v, want ErrConflict", name, err)
		}
	}
}

// TestJoin: a joining node owns nothing, is in the future ring, keeps user tables quiet when it says so, and owns its
// tokens afterwards.
func TestJoin(t *testing.T) {
	s := joined(t, 2)
	quiet := must(t, s, &meta.Command{Kind: meta.AddPending, Node: with(member(3), func(n *meta.Node) { n.Quiet = true })})
	loud := must(t, s, &meta.Command{Kind: meta.AddPending, Node: member(3)})
	if !quiet.Quiet() || loud.Quiet() || s.Quiet() || quiet.Other == nil || s.Other != nil {
		t.Error("quiet or future is wrong")
	}
	if n := len(quiet.Ring.Nodes()); n != 2 || len(quiet.Other.Nodes()) != 3 {
		t.Errorf("%d nodes own ranges", n)
	}
	done := must(t, quiet, &meta.Command{Kind: meta.CommitJoin, Node: meta.Node{ID: host(3), Since: quiet.Node(host(3)).Since}})
	if done.Quiet() || done.Other != nil || len(done.Ring.Nodes()) != 3 || done.Node(host(3)).Quiet {
		t.Error("it has not joined")
	}
	events := meta.Diff(s, done)
	if len(events) != 1 || events[0].Node == nil || events[0].Node.Kind != meta.NodeAdded || events[0].Node.Node.ID != host(3) {
		t.Errorf("events %+v", events)
	}
}

// TestWipedWhileJoining: a node that lost its folder while it joined takes the place of its former self.
func TestWipedWhileJoining(t *testing.T) {
	for _, quiet := range []bool{true, false} {
		three := with(member(3), func(n *meta.Node) { n.Quiet = quiet })
		four := with(member(4), func(n *meta.Node) { n.Internode, n.Native, n.Quiet = addr(3, 7000), addr(3, 9042), quiet })
		s := must(t, joined(t, 2), &meta.Command{Kind: meta.AddPending, Node: three}, &meta.Command{Kind: meta.AddPending, Node: four})
		if old := s.Node(host(3)); old != nil && (quiet || old.State != meta.Left) || s.Node(host(4)).State != meta.Pending {
			t.Errorf("members %v", s.Members())
		}
		if want := 1; !quiet && (len(s.Operations) != want || s.Operations[0].Node != host(4)) {
			t.Errorf("operations %v", s.Operations)
		}
	}
}

// TestMadeBy: the newest epochs remember which command made them.
func TestMadeBy(t *testing.T) {
	s := joined(t, 1)
	for i := range 2 * meta.MadeMax {
		s = must(t, s, &meta.Command{Kind: meta.UpdateNode, ID: [16]byte{1: byte(i), 2: byte(i >> 8)}, Node: with(member(1), func(n *meta.Node) { n.Generation = int64(101 + i) })})
	}
	for back := range uint64(meta.MadeMax) {
		i := 2*meta.MadeMax - 1 - int(back)
		if id, ok := s.MadeBy(s.Epoch - back); !ok || id != [16]byte{1: byte(i), 2: byte(i >> 8)} {
			t.Fatalf("epoch %d of %d: %x %v", s.Epoch-back, s.Epoch, id, ok)
		}
	}
	for _, epoch := range []uint64{0, 1, s.Epoch - meta.MadeMax, s.Epoch + 1, ^uint64(0)} {
		if id, ok := s.MadeBy(epoch); ok {
			t.Errorf("epoch %d is remembered as %x", epoch, id)
		}
	}
}

// TestStateBytesMax: what no message could carry is refused.
func TestStateBytesMax(t *testing.T) {
	s := joined(t, 1)
	for i := 0; i < 4096; i++ {
		c := &meta.Command{Kind: meta.AddPending, Node: with(member(1), func(n *meta.Node) {
			n.ID = ring.HostID{0: 2, 6: byte(i >> 8), 7: byte(i)}
			n.Internode = netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}), 7000)
			n.Native = n.Internode
			n.Rack = strings.Repeat("x", 60<<10)
			n.Tokens, n.Quiet = []ring.Token{ring.Token(1000 + i)}, true
		})}
		next, err := s.Apply(c)
		if err == nil {
			s = next
			continue
		}
		if n := len(s.Encode()); n > meta.StateBytesMax || n < meta.StateBytesMax-(128<<10) || !strings.Contains(err.Error(), "bytes") {
			t.Fatalf("refused at %d bytes: %v", n, err)
		}
		return
	}
	t.Fatal("nothing was refused")
}

// TestPlacementsAreKept: a change of anything but ring and strategy keeps the computed placements.
func TestPlacementsAreKept(t *testing.T) {
	s := joined(t, 3)
	s = must(t, s, &meta.Command{Kind: meta.Schema, Changes: createKeyspace(t, s, "ks"), BaseEpoch: s.Epoch})
	p := s.Placement("ks")
	if p == nil || s.Placement("ks") != p || s.Placement("nosuch") != nil || s.Placement("system") != nil {
		t.Fatal("placements")
	}
	updated := must(t, s, &meta.Command{Kind: meta.UpdateNode, Node: with(member(2), func(n *meta.Node) { n.Generation = 101 })})
	if updated.Placement("ks") != p {
		t.Error("computed again")
	}
	if join(t, s, 4).Placement("ks") == p {
		t.Error("kept across a join")
	}
}

// TestDiffAcrossEpochs: a node that skips epochs gets the events of all of them.
func TestDiffAcrossEpochs(t *testing.T) {
	s := joined(t, 3)
	after := join(t, s, 4)
	after = must(t, after, &meta.Command{Kind: meta.RemoveNode, Node: meta.Node{ID: host(2)}},
		&meta.Command{Kind: meta.UpdateNode, Node: with(member(3), func(n *meta.Node) { n.Generation = 101 })},
		&meta.Command{Kind: meta.Schema, BaseSchema: after.Catalog.Version, Changes: createKeyspace(t, after, "ks")})
	var got []string
	for _, e := range meta.Diff(s, after) {
		switch {
		case e.Node != nil:
			got = append(got, fmt.Sprintf("%d %d", e.Node.Kind, e.Node.Node.ID[0]))
		case e.Schema != nil:
			got = append(got, fmt.Sprint(e.Schema.Change, " ", e.Schema.Keyspace))
		}
	}
	if want := []string{"3 2", "2 3", "1 4", "CREATED ks"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestDiffOfTokens: that a node has moved is told once, when it is read by its new tokens, also to who skips what is in between; of a move that is aborted nothing is.
func TestDiffOfTokens(t *testing.T) {
	s := withKeyspace(t, 3)
	moved := func(what string, before, after *meta.State, want ...byte) {
		t.Helper()
		var got []byte
		for _, e := range meta.Diff(before, after) {
			if e.Node != nil && e.Node.Kind == meta.NodeMoved {
				got = append(got, e.Node.Node.ID[0])
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: %v have moved, want %v", what, got, want)
		}
	}
	begun := must(t, s, moveTo(2, 12345))
	moved("it begins", s, begun)
	moved("it is aborted", begun, must(t, begun, &meta.Command{Kind: meta.AbortOperation, Operation: begun.Operations[0].ID}))
	there := switched(t, begun)
	moved("reads move", fill(t, begun), there, 2)
	over := finished(t, there)
	moved("it ends", there, over)
	moved("all of it", s, over, 2)
	moved("another one joins", over, finished(t, switched(t, must(t, over, &meta.Command{Kind: meta.AddPending, Node: member(4)}))))
}
