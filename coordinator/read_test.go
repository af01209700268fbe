package coordinator_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/helenusdb/helenus/coordinator"
	"github.com/helenusdb/helenus/ring"
	"github.com/helenusdb/helenus/row"
	"github.com/helenusdb/helenus/rpc"
	"github.com/helenusdb/helenus/schema"
)

// TestScenario_R1_QuorumReadsAreMonotonic: only one of three replicas has the newer value; a quorum read that shows it
// leaves it on a quorum, also when the acknowledgement of one repair, or a replica itself, is lost.
func TestScenario_R1_QuorumReadsAreMonotonic(t *testing.T) {
	simulated(t, func(t *testing.T) {
		for _, lost := range []action{{}, {dropReply: true}, {drop: true}, {unsent: true}, {refuse: rpc.StatusFailed}} {
			c := three(t)
			pk := key(1)
			c.mustWrite(0, coordinator.All, c.put(c.wide, pk, "a", 1, "old"))
			c.plant(0, c.put(c.wide, pk, "a", 2, "new"))
			repairs := 0
			c.setFault(func(m message) action {
				if m.verb != coordinator.VerbMutate {
					return action{}
				}
				if repairs++; repairs == 1 {
					return lost
				}
				return action{}
			})
			if got := c.mustRead(0, coordinator.Quorum, c.whole(c.wide, pk)); got != "a=new " {
				t.Fatalf("%+v: %q", lost, got)
			}
			have := 0
			for i := range 3 {
				if c.has(i, c.wide, pk) == "a=new " {
					have++
				}
			}
			if have < 2 {
				t.Errorf("%+v: %d replicas have what was shown", lost, have)
			}
			for down := range 3 { // whichever quorum answers
				c.setDown(down, true)
				if got := c.mustRead((down+1)%3, coordinator.Quorum, c.whole(c.wide, pk)); got != "a=new " {
					t.Errorf("%+v without %d: %q", lost, down, got)
				}
				c.setDown(down, false)
			}
		}
	})
}

// TestScenario_R1_NoAnswerWithoutRepair: when no quorum can be repaired the newer value is not shown.
func TestScenario_R1_NoAnswerWithoutRepair(t *testing.T) {
	simulated(t, func(t *testing.T) {
		c := three(t)
		c.plant(0, c.put(c.wide, key(1), "a", 2, "new"))
		c.setFault(func(m message) action { return action{drop: m.verb == coordinator.VerbMutate} })
		_, err := c.nodes[0].read(coordinator.Quorum, c.whole(c.wide, key(1)))
		var timeout *coordinator.ReadTimeout
		if !errors.As(err, &timeout) || !timeout.DataPresent || timeout.Received >= timeout.BlockFor {
			t.Errorf("got %v", err)
		}
	})
}

// TestReadRepairNone: the option is honoured, the answer is merged all the same.
func TestReadRepairNone(t *testing.T) {
	simulated(t, func(t *testing.T) {
		c := newCluster(t, layout{dcs: nodesIn("dc1", 3), options: []schema.Property{{Name: "read_repair", Value: "NONE"}}})
		c.plant(1, c.put(c.wide, key(1), "a", 2, "x"))
		c.plant(0, c.put(c.wide, key(1), "b", 2, "y"))
		if got := c.mustRead(0, coordinator.All, c.whole(c.wide, key(1))); got != "a=x b=y " {
			t.Errorf("got %q", got)
		}
		if got := c.has(2, c.wide, key(1)); got != "" || c.sent(coordinator.VerbMutate) != 0 {
			t.Errorf("repaired: %q", got)
		}
	})
}

// pages reads a partition page by page and returns the live rows of all.
func (c *cluster) pages(n int, level coordinator.Level, cmd row.Command) string {
	c.t.Helper()
	out := ""
	for range 10000 {
		p, err := c.nodes[n].read(level, cmd)
		if err != nil {
			c.t.Fatal(err)
		}
		out += pageText(c.t, p, cmd.Now)
		if !p.More {
			return out
		}
		from := p.Cut
		cmd.From = &from
	}
	c.t.Fatal("the pages do not end")
	return ""
}

func names(from, to int) (out string) {
	for i := from; i < to; i++ {
		out += fmt.Sprintf("%04d=x ", i)
	}
	return out
}

// TestScenario_R3_ShortReads: the replicas disagree about which rows are deleted, so that each one's first rows are
// deleted on another. Every page size gives exactly the rows that live, forward and in reverse.
func TestScenario_R3_ShortReads(t *testing.T) {
	simulated(t, func(t *testing.T) {
		for _, limit := range []int{1, 2, 3, 7, 100} {
			c := three(t)
			pk := key(1)
			for i := range 60 {
				c.mustWrite(0, coordinator.All, c.put(c.wide, pk, fmt.Sprintf("%04d", i), 1, "x"))
			}
			for i := range 40 { // each deletion is on one replica only
				c.plant(i%2, c.deleteRow(c.wide, pk, fmt.Sprintf("%04d", i), 2))
			}
			cmd := c.whole(c.wide, pk)
			cmd.Limit = limit
			c.setDown(2, true)
			p, err := c.nodes[0].read(coordinator.Quorum, cmd)
			if err != nil || p.Rows == 0 {
				t.Errorf("limit %d: the first page has %d rows: %v", limit, p.Rows, err)
			}
			if got := c.pages(0, coordinator.Quorum, cmd); got != names(40, 60) {
				t.Errorf("limit %d: %q", limit, got)
			}
		}
	})
}

// TestScenario_R4_PagesCutByBytes: replicas with different content cut at different rows; none is skipped.
func TestScenario_R4_PagesCutByBytes(t *testing.T) {
	simulated(t, func(t *testing.T) {
		c := three(t)
		pk := key(1)
		want := ""
		for i := range 200 {
			value := strings.Repeat("v", 50)
			if i%3 == 0 {
				value = strings.Repeat("w", 900)
			}
			m := c.put(c.wide, pk, fmt.Sprintf("%04d", i), 1, value)
			c.plant(i%3, m) // every replica has a third of the rows
			want += fmt.Sprintf("%04d=%s ", i, value)
		}
		for _, reverse := range []bool{false, true} {
			cmd := c.whole(c.wide, pk)
			cmd.Bytes, cmd.Reverse = 2000, reverse
			got := strings.Fields(c.pages(0, coordinator.All, cmd))
			if reverse {
				for i, j := 0, len(got)-1; i < j; i, j = i+1, j-1 {
					got[i], got[j] = got[j], got[i]
				}
			}
			if s := strings.Join(got, " ") + " "; s != want {
				t.Errorf("reverse %v: %d rows", reverse, len(got))
			}
		}
	})
}

// rangeDeletion deletes the rows in [from, to).
func (c *cluster) rangeDeletion(pk []byte, from, to string, ts int64) row.Mutation {
	return c.mutation(c.wide, pk, func(f *row.FragmentBuilder) {
		f.RangeTombstone(row.RangeTombstone{Start: []byte(from), End: []byte(to), Deletion: row.Deletion{Timestamp: ts, LocalTime: time.Now().Unix()}})
	})
}

// TestScenario_R5_R6_R7_RangeTombstonesAndPages: one replica alone has a range tombstone. Deleted rows stay deleted and
// live rows stay, whatever the page size and the order, and pages end inside of it.
func TestScenario_R5_R6_R7_RangeTombstonesAndPages(t *testing.T) {
	simulated(t, func(t *testing.T) {
		for _, limit := range []int{1, 4, 1000} {
			for _, reverse := range []bool{false, true} {
				c := three(t)
				pk := key(1)
				for i := range 50 {
					c.mustWrite(0, coordinator.All, c.put(c.wide, pk, fmt.Sprintf("%04d", i), 10, "x"))
				}
				c.plant(1, c.rangeDeletion(pk, "0010", "0040", 20))
				c.plant(0, c.put(c.wide, pk, "0020", 30, "x"))
				cmd := c.whole(c.wide, pk)
				cmd.Limit, cmd.Reverse = limit, reverse
				got := len(strings.Fields(c.pages(0, coordinator.All, cmd)))
				if got != 21 {
					t.Errorf("limit %d, reverse %v: %d rows", limit, reverse, got)
				}
				for n := range 3 { // repaired everywhere
					if got := c.has(n, c.wide, pk); got != names(0, 10)+names(20, 21)+names(40, 50) {
						t.Errorf("limit %d, reverse %v: node %d has %q", limit, reverse, n, got)
					}
				}
			}
		}
	})
}

// TestScenario_R10_NoEndlessReadRepair: after the first read there is nothing to repair, nor ever for a tombstone past
// its grace that some replicas have purged.
func TestScenario_R10_NoEndlessReadRepair(t *testing.T) {
	simulated(t, func(t *testing.T) {
		c := newCluster(t, layout{dcs: nodesIn("dc1", 3), options: []schema.Property{{Name: "gc_grace_seconds", Value: "100"}}})
		pk := key(1)
		c.plant(0, c.put(c.wide, pk, "a", 1, "x"), c.rangeDeletion(pk, "b", "d", 5))
		c.plant(1, c.put(c.wide, pk, "c", 9, "y"), c.deleteRow(c.wide, pk, "e", 4))
		read := func() int {
			c.setFault(nil)
			if got := c.mustRead(0, coordinator.All, c.whole(c.wide, pk)); got != "a=x c=y " {
				t.Fatalf("got %q", got)
			}
			return c.sent(coordinator.VerbMutate)
		}
		if read() == 0 {
			t.Error("the first read repaired nothing")
		}
		for range 3 {
			if n := read(); n != 0 {
				t.Errorf("%d repairs after the first read", n)
			}
		}
		c.plant(2, c.deleteRow(c.wide, pk, "f", 4)) // on one replica alone
		time.Sleep(200 * time.Second)
		for range 3 {
			if n := read(); n != 0 {
				t.Errorf("%d repairs for a purgeable tombstone", n)
			}
		}
	})
}

// TestScenario_T10_ReadersOfSeveralClocks: what a read repairs is what was written, whatever has expired at its own now. A reader whose now is
// earlier, as of another coordinator's clock or of a request that took longer, sees the whole row, and never one without values.
func TestScenario_T10_ReadersOfSeveralClocks(t *testing.T) {
	simulated(t, func(t *testing.T) {
		c := newCluster(t, layout{dcs: nodesIn("dc1", 3)})
		now := time.Now().Unix()
		insert := func(pk []byte, ttl int32) row.Mutation {
			return c.mutation(c.wide, pk, func(f *row.FragmentBuilder) {
				var b row.Builder
				b.Reset(nil)
				ts, expiry := now*1e6, now+int64(ttl)
				b.SetLiveness(row.Liveness{Timestamp: ts, TTL: ttl, Expiry: expiry})
				b.Cell(row.Cell{Column: c.column(c.wide, "v"), Timestamp: ts, TTL: ttl, Expiry: expiry, Value: []byte("x")})
				f.Row([]byte("a"), b.Finish())
			})
		}
		for i, ahead := range []int64{10, 11, 3600, 1 << 40} {
			pk := key(i)
			c.plant(0, insert(pk, 10))
			later, earlier := c.whole(c.wide, pk), c.whole(c.wide, pk)
			later.Now, earlier.Now = now+ahead, now+9
			if got := c.mustRead(1, coordinator.All, later); got != "" {
				t.Errorf("after %d s: got %q", ahead, got)
			}
			for n := range 3 {
				if got := c.mustRead(n, coordinator.Quorum, earlier); got != "a=x " {
					t.Errorf("a read through node %d, as of before a read as of %d s later: got %q", n, ahead-9, got)
				}
			}
		}
	})
}

// TestScenario_R14_SpeculationDoesNotFeedItself: with one replica that hangs, reads take about the threshold, which does
// not move, and few further replicas are asked when all is well.
func TestScenario_R14_SpeculationDoesNotFeedItself(t *testing.T) {
	simulated(t, func(t *testing.T) {
		c := three(t)
		for i := range 3 {
			for j := range 3 {
				c.net.SetDelay(addrOf(i).Addr().String(), addrOf(j).Addr().String(), 2*time.Millisecond)
			}
		}
		slowest := func(n int) (out time.Duration) {
			for range n {
				began := time.Now()
				c.mustRead(0, coordinator.Quorum, c.whole(c.wide, key(1)))
				out = max(out, time.Since(began))
			}
			return out
		}
		slowest(2000)
		m := c.nodes[0].coord.Metrics()
		before := m.SpeculativeReads.Load()
		normal := slowest(1000)
		if n := m.SpeculativeReads.Load() - before; n > 50 {
			t.Errorf("%d of 1000 healthy reads asked a further replica", n)
		}
		c.setFault(func(msg message) action { return action{drop: msg.to == 1} })
		first, last := slowest(200), time.Duration(0)
		for range 10 {
			last = slowest(200)
		}
		if first > 4*normal+20*time.Millisecond || last > 4*normal+20*time.Millisecond {
			t.Errorf("normally %v, then %v, at last %v", normal, first, last)
		}
	})
}

// TestFastFailover: a replica that refuses or cannot be reached costs no waiting.
func TestFastFailover(t *testing.T) {
	simulated(t, func(t *testing.T) {
		c := newCluster(t, layout{dcs: nodesIn("dc1", 4), options: []schema.Property{{Name: "speculative_retry", Value: "NONE"}}})
		c.mustWrite(0, coordinator.All, c.put(c.wide, c.keyOf(1), "a", 1, "x"))
		for _, a := range []action{{unsent: true}, {refuse: rpc.StatusFailed}, {refuse: rpc.StatusOverloaded}} {
			for bad := 1; bad < 4; bad++ {
				c.setFault(func(m message) action {
					if m.to == bad {
						return a
					}
					return action{}
				})
				began := time.Now()
				for range 20 {
					for _, level := range []coordinator.Level{coordinator.One, coordinator.Quorum} {
						if got := c.mustRead(0, level, c.whole(c.wide, c.keyOf(1))); got != "a=x " {
							t.Fatalf("got %q", got)
						}
					}
				}
				if took := time.Since(began); took > time.Second {
					t.Errorf("%+v: %v", a, took)
				}
			}
		}
	})
}

// TestScenario_R15_TheTopologyMovesOnDuringARequest: a coordinator with old metadata is refused, catches up and succeeds;
// it neither claims success nor unavailability.
func TestScenario_R15_TheTopologyMovesOnDuringARequest(t *testing.T) {
	simulated(t, func(t *testing.T) {
		rf1 := []schema.Pair{{Key: "class", Value: "SimpleStrategy"}, {Key: "replication_factor", Value: "1"}}
		c := newCluster(t, layout{dcs: nodesIn("dc1", 4), keyspace: rf1, joining: 1})
		joined := c.moved(c.state)
		var pk []byte
		p := joined.Placement("ks")
		for i := 0; pk == nil; i++ {
			k := key(i)
			old := c.state.Placement("ks")
			now := p.Ring().Nodes()[p.Replicas(tokenOf(k))[0]].ID
			if now == hostID(3) && old.Ring().Nodes()[old.Replicas(tokenOf(k))[0]].ID == hostID(0) {
				pk = k
			}
		}
		for _, i := range []int{0, 1, 3} { // all but the coordinator know that node 3 owns it
			c.nodes[i].state.Store(joined)
		}
		c.mustWrite(3, coordinator.One, c.put(c.wide, pk, "a", 1, "x"))
		if got := c.mustRead(2, coordinator.One, c.whole(c.wide, pk)); got != "a=x " {
			t.Errorf("read %q", got)
		}
		c.nodes[2].state.Store(c.state)
		c.mustWrite(2, coordinator.One, c.put(c.wide, pk, "b", 1, "y"))
		if got := c.has(3, c.wide, pk); got != "a=x b=y " {
			t.Errorf("the owner has %q", got)
		}
		c.nodes[2].state.Store(c.state)
		if got, _ := c.scan(2, coordinator.One, c.wide, 0, 0, 0); got != "a=x b=y " {
			t.Errorf("scan %q", got)
		}
		// A replica that is behind catches up with the coordinator.
		c.nodes[3].state.Store(c.state)
		c.mustWrite(2, coordinator.One, c.put(c.wide, pk, "c", 1, "z"))
		if got := c.mustRead(1, coordinator.One, c.whole(c.wide, pk)); got != "a=x b=y c=z " {
			t.Errorf("read %q", got)
		}
	})
}

// scan reads the whole table page by page.
func (c *cluster) scan(n int, level coordinator.Level, t *schema.Table, limit, partitions, bytes int) (text string, pages int) {
	c.t.Helper()
	full := ring.FullRange()
	s := coordinator.Scan{Level: level, Command: row.Command{Generation: t.Generation, Now: time.Now().Unix(), Range: &full,
		Limit: limit, Partitions: partitions, Bytes: bytes, WithStatic: true}}
	for {
		if err := c.nodes[n].coord.ScanPage(context.Background(), &s); err != nil {
			c.t.Fatal(err)
		}
		pages++
		if limit > 0 && s.Page.Rows > limit {
			c.t.Fatalf("%d rows with limit %d", s.Page.Rows, limit)
		}
		text += pageText(c.t, &s.Page, s.Command.Now)
		if !s.Page.More {
			return text, pages
		}
		if pages > 100000 {
			c.t.Fatal("the pages do not end")
		}
		from := row.Position{Kind: s.Page.Cut.Kind, Token: s.Page.Cut.Token, Rows: s.Page.Cut.Rows,
			Key: append([]byte(nil), s.Page.Cut.Key...), Clustering: append([]byte(nil), s.Page.Cut.Clustering...)}
		s.Command.From = &from
	}
}

// TestScanFindsEveryRowOnce: over range borders, page sizes, limits and levels, with tokens at both ends of the ring.
func TestScanFindsEveryRowOnce(t *testing.T) {
	simulated(t, func(t *testing.T) {
		rf2 := []schema.Pair{{Key: "class", Value: "SimpleStrategy"}, {Key: "replication_factor", Value: "2"}}
		c := newCluster(t, layout{dcs: nodesIn("dc1", 5), keyspace: rf2, vnodes: 3})
		want := map[string]bool{}
		put := func(m row.Mutation, ck string) {
			want[ck+"=x"] = true
			c.mustWrite(0, coordinator.All, m)
		}
		for i := range 200 {
			for j := range 1 + i%3 {
				ck := fmt.Sprintf("%d-%d", i, j)
				put(c.put(c.wide, key(i), ck, 1, "x"), ck)
			}
		}
		for i, token := range append([]ring.Token{ring.MinToken + 1, ring.MaxToken}, c.borders()...) {
			m := c.put(c.wide, key(1000+i), fmt.Sprint("t", i), 1, "x")
			m.Token = token
			put(m, fmt.Sprint("t", i))
		}
		for _, level := range []coordinator.Level{coordinator.One, coordinator.Quorum} {
			for _, limit := range []int{0, 1, 7, 100} {
				for _, bytes := range []int{0, 1, 300} {
					text, _ := c.scan(2, level, c.wide, limit, 0, bytes)
					seen := map[string]bool{}
					for _, x := range strings.Fields(text) {
						if seen[x] || !want[x] {
							t.Fatalf("%s, limit %d, %d bytes: %s twice, or not written", level, limit, bytes, x)
						}
						seen[x] = true
					}
					if len(seen) != len(want) {
						t.Fatalf("%s, limit %d, %d bytes: %d of %d rows", level, limit, bytes, len(seen), len(want))
					}
				}
			}
		}
	})
}

// borders returns tokens at and beside those of the ring.
func (c *cluster) borders() (out []ring.Token) {
	for _, n := range c.state.Ring.Nodes() {
		for _, t := range n.Tokens {
			out = append(out, t-1, t, t+1)
		}
	}
	return out
}

// TestScanLimitsPartitions: the limit counts over all ranges of the ring.
func TestScanLimitsPartitions(t *testing.T) {
	simulated(t, func(t *testing.T) {
		rf1 := []schema.Pair{{Key: "class", Value: "SimpleStrategy"}, {Key: "replication_factor", Value: "1"}}
		c := newCluster(t, layout{dcs: nodesIn("dc1", 4), keyspace: rf1, vnodes: 4})
		for i := range 40 {
			c.mustWrite(0, coordinator.All, c.put(c.wide, key(i), "a", 1, "x"), c.put(c.wide, key(i), "b", 1, "x"))
		}
		full := ring.FullRange()
		s := coordinator.Scan{Level: coordinator.One, Command: row.Command{Generation: c.wide.Generation, Now: time.Now().Unix(), Range: &full, Partitions: 25}}
		if err := c.nodes[0].coord.ScanPage(context.Background(), &s); err != nil {
			t.Fatal(err)
		}
		if s.Page.Rows != 50 || !s.Page.More {
			t.Errorf("%d rows of 25 partitions, more %v", s.Page.Rows, s.Page.More)
		}
		text, pages := c.scan(0, coordinator.One, c.wide, 0, 3, 0)
		if got := len(strings.Fields(text)); got != 80 || pages < 14 {
			t.Errorf("%d rows on %d pages", got, pages)
		}
	})
}

// TestScanRange: only the range asked for is read, also at the ends of the ring, and a range that wraps is refused.
func TestScanRange(t *testing.T) {
	simulated(t, func(t *testing.T) {
		rf1 := []schema.Pair{{Key: "class", Value: "SimpleStrategy"}, {Key: "replication_factor", Value: "1"}}
		c := newCluster(t, layout{dcs: nodesIn("dc1", 3), keyspace: rf1, vnodes: 2})
		tokens := []ring.Token{ring.MinToken + 1, -5, 0, 5, ring.MaxToken}
		for i, token := range tokens {
			m := c.put(c.wide, key(i), fmt.Sprint(i), 1, "x")
			m.Token = token
			c.mustWrite(0, coordinator.All, m)
		}
		for _, x := range []struct {
			rg   ring.Range
			want string
		}{
			{ring.Range{Start: -5, End: 5}, "2=x 3=x "},
			{ring.Range{Start: 5, End: 5}, "0=x 1=x 2=x 3=x 4=x "},
			{ring.Range{Start: 5, End: ring.MinToken}, "4=x "},
			{ring.Range{Start: ring.MinToken, End: -5}, "0=x 1=x "},
			{ring.Range{Start: ring.MaxToken - 1, End: ring.MaxToken}, "4=x "},
		} {
			s := coordinator.Scan{Level: coordinator.One, Command: row.Command{Generation: c.wide.Generation, Now: time.Now().Unix(), Range: &x.rg}}
			if err := c.nodes[1].coord.ScanPage(context.Background(), &s); err != nil {
				t.Fatal(err)
			}
			if got := pageText(t, &s.Page, s.Command.Now); got != x.want || s.Page.More {
				t.Errorf("%v: %q, more %v", x.rg, got, s.Page.More)
			}
		}
		wraps := ring.Range{Start: 5, End: -5}
		s := coordinator.Scan{Level: coordinator.One, Command: row.Command{Generation: c.wide.Generation, Range: &wraps}}
		if err := c.nodes[1].coord.ScanPage(context.Background(), &s); err == nil {
			t.Error("a range that wraps was read")
		}
	})
}

// TestScanRepairs: a scan at a level above ONE finds what only one replica has, and repairs the others.
func TestScanRepairs(t *testing.T) {
	simulated(t, func(t *testing.T) {
		c := three(t)
		want := map[string]bool{}
		for i := range 60 {
			c.plant(i%3, c.put(c.wide, key(i), fmt.Sprint(i), 1, "x"))
			want[fmt.Sprintf("%d=x", i)] = true
		}
		for range 2 {
			text, _ := c.scan(0, coordinator.All, c.wide, 7, 0, 0)
			if got := strings.Fields(text); len(got) != len(want) {
				t.Errorf("%d of %d rows", len(got), len(want))
			}
		}
		for i := range 60 {
			for n := range 3 {
				if got := c.has(n, c.wide, key(i)); got == "" {
					t.Errorf("node %d lacks %d", n, i)
				}
			}
		}
	})
}

// TestScenario_K5_EqualTimestamps: two coordinators write one cell at one microsecond: all replicas agree on the winner.
func TestScenario_K5_EqualTimestamps(t *testing.T) {
	simulated(t, func(t *testing.T) {
		c := three(t)
		for i := range 20 {
			order := []int{i % 3, (i + 1) % 3}
			for _, n := range order {
				c.mustWrite(n, coordinator.All, c.put(c.wide, key(i), "a", 77, fmt.Sprint("v", n)))
			}
			want := fmt.Sprintf("a=v%d ", max(order[0], order[1]))
			for n := range 3 {
				if got := c.has(n, c.wide, key(i)); got != want {
					t.Errorf("node %d has %q, not %q", n, got, want)
				}
			}
		}
	})
}

// TestManyPurgeableTombstones: pages of what does not count beside pages of what does fit a message; a read of a replica
// elsewhere comes through them.
func TestManyPurgeableTombstones(t *testing.T) {
	simulated(t, func(t *testing.T) {
		c := newCluster(t, layout{dcs: nodesIn("dc1", 2), keyspace: []schema.Pair{{Key: "class", Value: "SimpleStrategy"}, {Key: "replication_factor", Value: "1"}},
			options: []schema.Property{{Name: "gc_grace_seconds", Value: "10"}}})
		pk, long := c.keyOf(1), strings.Repeat("k", 32<<10)
		want := ""
		for i := range 600 {
			ck := fmt.Sprintf("%03d%s", i, long)
			m := c.deleteRow(c.wide, pk, ck, 5)
			if i%4 == 0 {
				m = c.put(c.wide, pk, ck, 5, "x")
				want += ck + "=x "
			}
			c.plant(1, m)
		}
		time.Sleep(time.Hour)
		cmd, got := c.whole(c.wide, pk), ""
		cmd.Bytes = 8 << 20
		for more := true; more; {
			p, err := c.nodes[0].read(coordinator.One, cmd)
			if err != nil {
				t.Fatal(err)
			}
			got += pageText(t, p, cmd.Now)
			from := p.Cut
			more, cmd.From = p.More, &from
		}
		if got != want {
			t.Errorf("%d bytes of %d", len(got), len(want))
		}
	})
}
