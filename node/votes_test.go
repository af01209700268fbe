package node

import (
	"bytes"
	"context"
	"log/slog"
	"math/bits"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/helenusdb/helenus/coordinator"
	"github.com/helenusdb/helenus/coordinator/paxos"
	"github.com/helenusdb/helenus/ring"
	"github.com/helenusdb/helenus/row"
	"github.com/helenusdb/helenus/storage"
)

// TestWitnesses: whatever an acceptor that has forgotten had decided or promised with others, a later majority that it belongs to has one of them in it,
// or one of them was heard before it votes again; with one witness less that is not so. Every majority, every choice of witnesses.
func TestWitnesses(t *testing.T) {
	for n := 1; n <= 7; n++ {
		safe := func(witnesses int) bool {
			const self = uint(1)
			all := uint(1)<<n - 1
			for before := self; before <= all; before += 2 { // those with self
				if bits.OnesCount(before) < ring.Quorum(n) {
					continue
				}
				for later := self; later <= all; later += 2 {
					if bits.OnesCount(later) < ring.Quorum(n) || before&later&^self != 0 {
						continue
					}
					for heard := uint(0); heard <= all; heard += 2 {
						if bits.OnesCount(heard) == witnesses && heard&before == 0 {
							return false
						}
					}
				}
			}
			return true
		}
		w := witnesses(n)
		if n > 1 && !safe(w) {
			t.Errorf("of %d, %d are heard, and what was decided may be lost", n, w)
		}
		if w > 0 && safe(w-1) {
			t.Errorf("of %d, %d are heard, and one less is enough", n, w)
		}
	}
}

// TestInquiries: every range that a node replicates and that may need it is there once, with its other replicas.
func TestInquiries(t *testing.T) {
	var nodes []ring.Node
	for i := range 8 {
		n := ring.Node{ID: ring.HostID{byte(i + 1)}, DC: "dc1", Rack: "r1"}
		if i >= 5 {
			n.DC = "dc2"
		}
		for j := range 8 {
			n.Tokens = append(n.Tokens, ring.Token(uint64(j*8+i)<<57+uint64(i*i)))
		}
		nodes = append(nodes, n)
	}
	r, err := ring.New(nodes, ring.Murmur3{})
	if err != nil {
		t.Fatal(err)
	}
	network := func(dcs ...ring.DCReplication) ring.Strategy {
		return ring.Strategy{Class: ring.NetworkTopologyStrategy, DCs: dcs}
	}
	self := nodes[1].ID
	for name, c := range map[string]struct {
		strategy               ring.Strategy
		here, there, need, own int
		nothing                bool
	}{
		"three in one": {strategy: network(ring.DCReplication{DC: "dc1", RF: 3}), here: 2, need: 2, own: 2},
		"three each":   {strategy: network(ring.DCReplication{DC: "dc1", RF: 3}, ring.DCReplication{DC: "dc2", RF: 3}), here: 2, there: 3, own: 2},
		"five":         {strategy: network(ring.DCReplication{DC: "dc1", RF: 5}), here: 4, need: 3, own: 3},
		"two and one":  {strategy: network(ring.DCReplication{DC: "dc1", RF: 2}, ring.DCReplication{DC: "dc2", RF: 1}), here: 1, there: 1, need: 2},
		"two":          {strategy: network(ring.DCReplication{DC: "dc1", RF: 2}), here: 1},
		"one":          {strategy: network(ring.DCReplication{DC: "dc1", RF: 1}), nothing: true},
		"elsewhere":    {strategy: network(ring.DCReplication{DC: "dc2", RF: 3}), nothing: true},
	} {
		p := r.Placement(c.strategy)
		qs := inquiries(p, self)
		if c.nothing {
			if len(qs) > 0 {
				t.Errorf("%s: %+v", name, qs)
			}
			continue
		}
		me, _ := r.Node(self)
		var covered []ring.Range
		for _, q := range qs {
			covered = append(covered, q.ranges...)
			others := slices.Concat(q.here, q.there)
			if len(q.here) != c.here || len(q.there) != c.there || q.need != c.need || q.needOfHere != c.own || slices.Contains(others, self) {
				t.Errorf("%s: %+v", name, q)
			}
			for _, rg := range q.ranges {
				for _, i := range p.Replicas(rg.End) {
					if id := r.Nodes()[i].ID; id != self && !slices.Contains(others, id) {
						t.Errorf("%s: %s of %s is not asked", name, id, rg)
					}
				}
			}
		}
		if !slices.Equal(ring.Normalize(covered), ring.Normalize(p.Ranges(me))) {
			t.Errorf("%s: %v are settled of %v", name, covered, p.Ranges(me))
		}
		for _, q := range qs {
			testChoice(t, name, &q)
		}
	}
	if qs := inquiries(nil, self); qs != nil {
		t.Error(qs)
	}
	if qs := inquiries(r.Placement(network(ring.DCReplication{DC: "dc1", RF: 3})), ring.HostID{99}); qs != nil {
		t.Error(qs)
	}
}

// testChoice tries all that may be down.
func testChoice(t *testing.T, name string, q *inquiry) {
	t.Helper()
	others := slices.Concat(q.here, q.there)
	for dead := range 1 << len(others) {
		alive := func(id ring.HostID) bool { return dead&(1<<slices.Index(others, id)) == 0 }
		count := func(ids []ring.HostID) (n int) {
			for _, id := range ids {
				if alive(id) {
					n++
				}
			}
			return n
		}
		who, down, enough := q.choose(alive)
		local := slices.DeleteFunc(slices.Clone(who), func(id ring.HostID) bool { return !slices.Contains(q.here, id) })
		switch {
		case enough != (count(q.here) >= q.needOfHere && count(others) >= q.need), len(down) != len(others)-count(others):
			t.Errorf("%s, dead %b: %v are asked, %v are down, enough: %v", name, dead, who, down, enough)
		case enough && (count(who) != len(who) || len(who) != max(q.need, q.needOfHere) || len(local) < q.needOfHere):
			t.Errorf("%s, dead %b: %v are asked", name, dead, who)
		}
	}
}

// plantAccepted makes a replica have accepted a conditional write that it does not know to be decided.
func (c *trio) plantAccepted(i int, key, value string) {
	c.t.Helper()
	b := paxos.Ballot{Micros: time.Now().UnixMicro(), ID: 7}
	m := c.mutation(key, func(f *row.FragmentBuilder) { f.Row(ckey(1), cellRow(c.column("v"), b.Micros, value)) })
	s := paxos.State{Promised: b, Accepted: paxos.Proposal{Ballot: b, Origin: b}, Took: [2]paxos.Ballot{b}}
	e := c.nodes[i].engine
	batch := e.NewBatch()
	for part, v := range [][]byte{s.AppendHead(nil), m.Append(nil)} {
		if err := batch.SetRegister(m.Generation, m.Token, m.Key, byte(1+part), v); err != nil {
			c.t.Fatal(err)
		}
	}
	if err := e.CommitWait(context.Background(), batch); err != nil {
		c.t.Fatal(err)
	}
}

// serial reads a partition at SERIAL, and tells whether a value is in it.
func (c *trio) serial(n *Node, key, value string) (found bool, err error) {
	cmd := row.Command{Generation: c.table.Generation, Now: time.Now().Unix(), GCBefore: row.NoTimestamp, Token: ring.Murmur3{}.Token([]byte(key)), Key: []byte(key), Bytes: 1 << 20}
	r := coordinator.Read{Command: cmd, Level: coordinator.Serial}
	err = n.coord.SerialRead(context.Background(), &r)
	return bytes.Contains(r.Page.Data, []byte(value)), err
}

// TestScenario_P15_AClearedNodeVotesOnceItHasSettled: a conditional write is accepted by two of three and committed by none of them; one loses it with the end of its
// log, and the operator says that its rows are back. It does not vote, also after another start, before it has settled what the others have accepted: then the
// one that has not seen the write, and the one that has forgotten it, find it without the third.
func TestScenario_P15_AClearedNodeVotesOnceItHasSettled(t *testing.T) {
	const first = 214
	disks := [3]storage.FS{storage.Memory(), storage.Memory(), storage.Memory()}
	tune := func(i int, o *Options) {
		filled(o, nil)
		o.Config.HintedHandoff, o.FS = false, disks[i]
	}
	c := newTrioWith(t, first, tune)
	c.plantAccepted(0, "key", "mine")
	c.plantAccepted(1, "stale", "ghost") // and of another one it has lost that it came to nothing
	stop := func(i int) {
		t.Helper()
		end := c.stops[i]
		c.stops[i] = func() error { return nil }
		if err := end(); err != nil {
			t.Fatal(err)
		}
	}
	var log lockedText
	start := func(i int, more func(*Options)) *Node {
		t.Helper()
		n := testNode(t, first+i, host(first)+","+host(first+1)+","+host(first+2), func(o *Options) { tune(i, o); more(o) })
		ended, end := run(n)
		c.nodes[i], c.stops[i] = n, end
		awaitReady(t, n, ended)
		return n
	}
	stop(1)
	stop(2)
	if err := disks[1].Remove("helenus-data/store/WATERMARK"); err != nil {
		t.Fatal(err)
	}
	settling := func(o *Options) {
		o.SettleWait, o.Logger = time.Millisecond, slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelInfo}))
	}
	b := start(1, func(o *Options) { settling(o); o.ClearSuspect = true })
	c.await("it waits for the one that is down", func() bool { return strings.Contains(b.info().Abstains, host(first+2)) })
	if b.engine.Suspect() {
		t.Error("its rows are still suspect")
	}
	if _, err := c.serial(c.nodes[0], "key", "mine"); err == nil {
		t.Error("it votes")
	}
	stop(1)
	start(2, func(*Options) {})
	b = start(1, settling)
	c.await("it votes", func() bool { return b.info().Abstains == "" })
	if text := log.String(); strings.Count(text, "it votes on them again") != 1 || !strings.Contains(text, host(first+2)) {
		t.Errorf("the log does not tell: %s", text)
	}
	if _, found, err := b.engine.Space(storage.SpaceNode).Get(unsettledKey); found || err != nil {
		t.Error("it would begin anew with the next start", err)
	}
	if low, err := b.coord.LatestPromise(c.table.Generation+1, ring.Interval{}); err != nil || low == 0 {
		t.Errorf("it takes all ballots: %d, %v", low, err)
	}
	stop(0)
	for _, n := range c.nodes[1:] {
		c.await("a majority", func() bool {
			found, err := c.serial(n, "key", "mine")
			if err == nil && !found {
				t.Fatal("what was decided is lost")
			}
			return err == nil
		})
		if found, err := c.serial(n, "stale", "ghost"); found || err != nil {
			t.Errorf("what came to nothing is there: %v, %v", found, err)
		}
	}
}

// TestVotesOfOneNode: where nobody else can have counted on it a node votes as soon as it has started; and at once when it is told to.
func TestVotesOfOneNode(t *testing.T) {
	fs := storage.Memory()
	start := func(more func(*Options)) (n *Node, stop func()) {
		t.Helper()
		n = testNode(t, 217, host(217), func(o *Options) { o.FS = fs; more(o) })
		ended, end := run(n)
		awaitReady(t, n, ended)
		return n, func() {
			if err := end(); err != nil {
				t.Fatal(err)
			}
		}
	}
	noted := func(n *Node) bool {
		_, found, err := n.engine.Space(storage.SpaceNode).Get(unsettledKey)
		if err != nil {
			t.Error(err)
		}
		return found
	}
	n, stop := start(func(*Options) {})
	if n.abstains() != "" {
		t.Errorf("a new store: %q", n.abstains())
	}
	stop()
	if err := fs.Remove("helenus-data/store/WATERMARK"); err != nil {
		t.Fatal(err)
	}
	n, stop = start(func(*Options) {})
	if !strings.Contains(n.abstains(), "log") || noted(n) {
		t.Errorf("a suspect one: %q", n.abstains())
	}
	stop()
	n, stop = start(func(o *Options) { o.ClearSuspect = true })
	eventually(t, "it votes", func() bool { return n.abstains() == "" })
	if noted(n) {
		t.Error("it would begin anew")
	}
	if err := n.noteUnsettled(true); err != nil {
		t.Error(err)
	}
	stop()
	n, stop = start(func(o *Options) { o.VoteUnsettled = true })
	if n.votes.unsettled.Load() || noted(n) {
		t.Errorf("it was told to vote: %q", n.abstains())
	}
	stop()
}
