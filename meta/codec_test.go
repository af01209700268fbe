package meta_test

import (
	"bytes"
	"encoding/hex"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/helenusdb/helenus/meta"
	"github.com/helenusdb/helenus/ring"
	"github.com/helenusdb/helenus/schema"
)

var rewrite = flag.Bool("rewrite", false, "write testdata/golden.txt anew")

// commands is one of each kind.
func commands(t testing.TB) []*meta.Command {
	s := joined(t, 1)
	return []*meta.Command{
		found(),
		{Kind: meta.AddPending, ID: [16]byte{2}, BaseEpoch: 300, NumTokens: 16, Node: with(member(2), func(n *meta.Node) { n.Quiet = true })},
		{Kind: meta.CommitJoin, ID: [16]byte{3}, BaseEpoch: 3, Node: meta.Node{ID: host(2), Since: 2}},
		{Kind: meta.UpdateNode, Node: with(member(2), func(n *meta.Node) { n.Generation = 1 << 33 })},
		{Kind: meta.RemoveNode, Node: meta.Node{ID: host(2)}},
		{Kind: meta.SetVoters, Voters: []ring.HostID{host(1), host(2), host(3)}},
		{Kind: meta.Schema, BaseEpoch: 9, BaseSchema: [16]byte{7}, Changes: createKeyspace(t, s, "ks")},
		{Kind: meta.SetVersion, Version: 1},
		{Kind: meta.SetHealth, Node: meta.Node{ID: host(2), Generation: 7, Health: meta.Healing}},
		{Kind: meta.AddPending, Force: true, Node: with(member(2), func(n *meta.Node) { n.Replaces = host(1) })},
		{Kind: meta.Schema, BaseEpoch: 9, BaseSchema: [16]byte{7}, Changes: createKeyspace(t, s, "ks"), Moves: true},
		{Kind: meta.StartOperation, OperationKind: meta.Decommission, Node: meta.Node{ID: host(2)}},
		{Kind: meta.StartOperation, OperationKind: meta.Move, Node: meta.Node{ID: host(2), Next: []ring.Token{-5, 700}}},
		{Kind: meta.AbortOperation, Operation: 300},
		{Kind: meta.ReportFilled, Node: meta.Node{ID: host(2)}, Plan: 301},
		{Kind: meta.Switch, Plan: 301},
		{Kind: meta.ReportSwitched, Node: meta.Node{ID: host(2)}, Plan: 302},
		{Kind: meta.Finish, Plan: 302},
		{Kind: meta.ForceOperation, Operation: 300},
		{Kind: meta.ReportCleaned, Node: meta.Node{ID: host(2)}},
	}
}

func states(t testing.TB) map[string]*meta.State {
	three := joined(t, 3)
	return map[string]*meta.State{
		"empty":   meta.Empty(),
		"found":   joined(t, 1),
		"quiet":   must(t, three, &meta.Command{Kind: meta.AddPending, ID: [16]byte{9}, Node: with(member(4), func(n *meta.Node) { n.Quiet = true })}),
		"schema":  must(t, three, &meta.Command{Kind: meta.RemoveNode, Node: meta.Node{ID: host(2)}}, &meta.Command{Kind: meta.Schema, BaseSchema: three.Catalog.Version, Changes: createKeyspace(t, three, "ks")}),
		"filling": fillingState(t),
		"keeps":   lossesKept(t),
		"suspect": must(t, three, &meta.Command{Kind: meta.UpdateNode, Node: with(member(2), func(n *meta.Node) { n.Generation, n.Health = 1<<33, meta.Suspect })}),
	}
}

// fillingState has an operation of every kind but Remove, and a report.
func fillingState(t testing.TB) *meta.State {
	s := joined(t, 6)
	s = must(t, s, &meta.Command{Kind: meta.Schema, BaseSchema: s.Catalog.Version, Changes: createKeyspace(t, s, "ks")})
	s = must(t, s, &meta.Command{Kind: meta.AddPending, Node: member(7)},
		&meta.Command{Kind: meta.AddPending, Force: true, Node: with(member(8), func(n *meta.Node) { n.Replaces, n.Rack = host(2), member(2).Rack })},
		&meta.Command{Kind: meta.StartOperation, OperationKind: meta.Decommission, Node: meta.Node{ID: host(3)}},
		&meta.Command{Kind: meta.StartOperation, OperationKind: meta.Move, Node: meta.Node{ID: host(4), Next: []ring.Token{400, -400}}},
		alter(t, s, "ks", network("dc1", 2)))
	return must(t, s, &meta.Command{Kind: meta.ReportFilled, Node: meta.Node{ID: host(7)}, Plan: s.Plan})
}

// network is NetworkTopologyStrategy in one data centre.
func network(dc string, rf int) ring.Strategy {
	return ring.Strategy{Class: ring.NetworkTopologyStrategy, DCs: []ring.DCReplication{{DC: dc, RF: rf}}}
}

// alter makes the command of an ALTER KEYSPACE that moves.
func alter(t testing.TB, s *meta.State, keyspace string, to ring.Strategy) *meta.Command {
	t.Helper()
	var pairs []schema.Pair
	for k, v := range to.Options() {
		pairs = append(pairs, schema.Pair{Key: k, Value: v})
	}
	plan, err := s.Catalog.AlterKeyspace(schema.AlterKeyspace{Name: keyspace, Properties: []schema.Property{{Name: "replication", IsMap: true, Map: pairs}}}, schema.Env{})
	if err != nil {
		t.Fatal(err)
	}
	return &meta.Command{Kind: meta.Schema, BaseSchema: s.Catalog.Version, Changes: plan.Changes, Moves: true}
}

func TestCommandRoundTrip(t *testing.T) {
	for _, c := range commands(t) {
		raw := c.Append(nil)
		got, err := meta.DecodeCommand(raw)
		if err != nil {
			t.Fatalf("command %d: %v", c.Kind, err)
		}
		if again := got.Append(nil); !bytes.Equal(again, raw) {
			t.Errorf("command %d: %x became %x", c.Kind, raw, again)
		}
		if c.Kind != meta.Schema && !reflect.DeepEqual(c, got) {
			t.Errorf("command %d: %+v became %+v", c.Kind, c, got)
		}
		for n := range raw {
			if _, err := meta.DecodeCommand(raw[:n]); err == nil {
				t.Errorf("command %d: its first %d bytes decode", c.Kind, n)
			}
		}
		if _, err := meta.DecodeCommand(append(raw, 0)); err == nil {
			t.Errorf("command %d: a byte too many decodes", c.Kind)
		}
	}
}

func TestStateRoundTrip(t *testing.T) {
	for name, s := range states(t) {
		raw := s.Encode()
		got, err := meta.DecodeState(raw)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if again := got.Encode(); !bytes.Equal(again, raw) {
			t.Errorf("%s: %x became %x", name, raw, again)
		}
		if !reflect.DeepEqual(got.Nodes, s.Nodes) || got.Quiet() != s.Quiet() || (got.Other == nil) != (s.Other == nil) || got.Catalog.Version != s.Catalog.Version {
			t.Errorf("%s: differs after decoding", name)
		}
		for n := range raw {
			if _, err := meta.DecodeState(raw[:n]); err == nil {
				t.Errorf("%s: its first %d bytes decode", name, n)
			}
		}
	}
}

// TestNewerFormatsAreRefused: a build says that it is too old instead of guessing.
func TestNewerFormatsAreRefused(t *testing.T) {
	command := found().Append(nil)
	kind := bytes.Clone(command)
	kind[1] = 18
	command[0] = 3
	state := joined(t, 1).Encode()
	state[0] = 4
	for name, decode := range map[string]func() error{
		"command": func() error { _, err := meta.DecodeCommand(command); return err },
		"kind":    func() error { _, err := meta.DecodeCommand(kind); return err },
		"state":   func() error { _, err := meta.DecodeState(state); return err },
	} {
		if err := decode(); err == nil || !strings.Contains(err.Error(), "older than") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestGolden pins the bytes that docs/format/meta.md draws: they are on disks.
func TestGolden(t *testing.T) {
	var b strings.Builder
	for _, c := range commands(t) {
		fmt.Fprintf(&b, "command %d %s\n", c.Kind, hex.EncodeToString(c.Append(nil)))
	}
	all := states(t)
	for _, name := range []string{"empty", "found", "quiet", "schema", "suspect", "filling", "keeps"} {
		fmt.Fprintf(&b, "state %s %s\n", name, hex.EncodeToString(all[name].Encode()))
	}
	path := filepath.Join("testdata", "golden.txt")
	if *rewrite {
		if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if b.String() != string(want) {
		t.Errorf("the encoding changed; raise its version, or run with -rewrite while nothing is released\ngot:\n%s", b.String())
	}
}

// TestGoldenOfVersion1: what a cluster of version 1 has on its disks is read, and written as its other members know it.
func TestGoldenOfVersion1(t *testing.T) { checkOldGolden(t, "golden-1.txt") }

// TestGoldenOfVersion2 is TestGoldenOfVersion1 of version 2.
func TestGoldenOfVersion2(t *testing.T) { checkOldGolden(t, "golden-2.txt") }

func checkOldGolden(t *testing.T, file string) {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("testdata", file))
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range strings.Split(strings.TrimSpace(string(raw)), "\n") {
		fields := strings.Fields(line)
		b, err := hex.DecodeString(fields[2])
		if err != nil {
			t.Fatal(err)
		}
		var again []byte
		if fields[0] == "command" {
			c, err := meta.DecodeCommand(b)
			if err != nil {
				t.Fatalf("%s %s: %v", fields[0], fields[1], err)
			}
			again = c.Append(nil)
		} else {
			s, err := meta.DecodeState(b)
			if err != nil {
				t.Fatalf("%s %s: %v", fields[0], fields[1], err)
			}
			again = s.Encode()
		}
		if !bytes.Equal(again, b) {
			t.Errorf("%s %s: %x became %x", fields[0], fields[1], b, again)
		}
	}
}

func FuzzDecodeCommand(f *testing.F) {
	for _, c := range commands(f) {
		f.Add(c.Append(nil))
	}
	base := joined(f, 3)
	f.Fuzz(func(t *testing.T, raw []byte) {
		c, err := meta.DecodeCommand(raw)
		if err != nil {
			return
		}
		canonical := c.Append(nil)
		again, err := meta.DecodeCommand(canonical)
		if err != nil || !bytes.Equal(again.Append(nil), canonical) {
			t.Fatalf("%x became %x: %v", raw, canonical, err)
		}
		checkApply(t, base, c)
	})
}

func FuzzDecodeState(f *testing.F) {
	for _, s := range states(f) {
		f.Add(s.Encode())
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		s, err := meta.DecodeState(raw)
		if err != nil {
			return
		}
		canonical := s.Encode()
		again, err := meta.DecodeState(canonical)
		if err != nil || !bytes.Equal(again.Encode(), canonical) {
			t.Fatalf("%x became %x: %v", raw, canonical, err)
		}
	})
}

// checkApply: whatever the command, two nodes that have the state, one of them from a snapshot, come to the same one.
func checkApply(t testing.TB, s *meta.State, c *meta.Command) *meta.State {
	t.Helper()
	copied, err := meta.DecodeState(s.Encode())
	if err != nil {
		t.Fatal(err)
	}
	before := s.Encode()
	a, errA := s.Apply(c)
	b, errB := copied.Apply(c)
	if fmt.Sprint(errA) != fmt.Sprint(errB) {
		t.Fatalf("one node says %v, the other %v", errA, errB)
	}
	if !bytes.Equal(s.Encode(), before) {
		t.Fatal("Apply changed the state it was given")
	}
	if errA != nil {
		return s
	}
	if !bytes.Equal(a.Encode(), b.Encode()) {
		t.Fatal("the states differ")
	}
	if a.Epoch != s.Epoch+1 {
		t.Fatalf("epoch %d after %d", a.Epoch, s.Epoch)
	}
	if id, ok := a.MadeBy(a.Epoch); !ok || id != c.ID {
		t.Fatal("it is not remembered who made the epoch")
	}
	return a
}

// TestScenario_S2_AnySequenceGivesEqualStates: the log's order alone decides, never a clock or a place: nodes that apply
// any sequence of commands, some from snapshots in between, have equal states, and what must hold of a cluster does.
func TestScenario_S2_AnySequenceGivesEqualStates(t *testing.T) {
	for seed := range uint64(60) {
		r := rand.New(rand.NewPCG(seed, 1))
		s := must(t, meta.Empty(), found())
		for step := range 60 {
			c := randomCommand(t, r, s)
			c.ID = [16]byte{1: byte(step), 2: 1}
			s = checkApply(t, s, c)
			checkState(t, s)
			if t.Failed() {
				t.Fatalf("seed %d step %d command %+v", seed, step, c)
			}
		}
	}
}

func randomCommand(t testing.TB, r *rand.Rand, s *meta.State) *meta.Command {
	i := 1 + r.IntN(6)
	n := with(member(i), func(n *meta.Node) {
		n.Generation += int64(r.IntN(8))
		n.Quiet = r.IntN(2) == 0
		n.Tokens = []ring.Token{ring.Token(r.IntN(40)), ring.Token(1000 + r.IntN(40))}
		if r.IntN(4) == 0 {
			n.Internode, n.Native = addr(1+r.IntN(6), 7000), addr(1+r.IntN(6), 9042)
		}
	})
	if m := s.Node(n.ID); m != nil && r.IntN(4) > 0 {
		n.Since = m.Since
	}
	c := &meta.Command{Kind: meta.CommandKind(1 + r.IntN(17)), Node: n}
	switch c.Kind {
	case meta.Schema:
		c.Changes = createKeyspace(t, s, fmt.Sprintf("ks%d", r.IntN(1000000)))
		c.BaseSchema = s.Catalog.Version
	case meta.SetVoters:
		for range r.IntN(7) {
			c.Voters = append(c.Voters, host(1+r.IntN(6)))
		}
	case meta.SetVersion:
		c.Version = uint32(r.IntN(4))
	}
	if r.IntN(3) == 0 {
		c.BaseEpoch = s.Epoch - uint64(r.IntN(2))
	}
	return c
}

// checkState: what holds of every state that commands have led to.
func checkState(t testing.TB, s *meta.State) {
	owners, at := 0, map[string]ring.HostID{}
	for i, n := range s.Nodes {
		if i > 0 && s.Nodes[i-1].ID.Compare(n.ID) >= 0 {
			t.Error("nodes are not in order")
		}
		switch n.State {
		case meta.Normal, meta.Leaving:
			owners++
			if slices.ContainsFunc(s.Nodes, func(o meta.Node) bool { return o.Replaces == n.ID }) {
				continue // who takes its place may stand where it stood
			}
			for _, a := range []string{"i" + n.Internode.String(), "n" + n.Native.String()} {
				if other, taken := at[a]; taken {
					t.Errorf("%s and %s have one address %s", other, n.ID, a)
				}
				at[a] = n.ID
			}
		case meta.Left:
			if n.Voter || len(n.Tokens) > 0 {
				t.Errorf("%s has left with a vote or tokens", n.ID)
			}
		case meta.Pending:
			if n.Voter {
				t.Errorf("%s votes before it has joined", n.ID)
			}
		}
	}
	if owners == 0 || s.Phase() != meta.Switched && owners != len(s.Ring.Nodes()) {
		t.Errorf("%d nodes own ranges, %d are in the ring", owners, len(s.Ring.Nodes()))
	}
}
