package coordinator_test

import (
	"bytes"
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/helenusdb/helenus/coordinator"
	"github.com/helenusdb/helenus/row"
	"github.com/helenusdb/helenus/schema"
	"github.com/helenusdb/helenus/storage"
)

// TestScenario_H6_DamagedHints: among good hints there are an empty one, cut ones, one of zeros, one of an unknown table, one whose
// rows are garbage and a key of another length. The node starts with them, delivers the rest, counts them and does not try for ever.
func TestScenario_H6_DamagedHints(t *testing.T) {
	simulated(t, func(t *testing.T) {
		c := three(t)
		n := c.nodes[0]
		c.setDown(2, true)
		good := func(i int) []byte { return mutationBytes(c.put(c.wide, key(i), "a", 1, "x")) }
		unknown := c.put(c.wide, key(100), "a", 1, "x")
		unknown.Generation = 999
		garbage := c.put(c.wide, key(101), "a", 1, "x")
		garbage.Fragment = bytes.Clone(garbage.Fragment)
		for i := 1; i < len(garbage.Fragment); i++ {
			garbage.Fragment[i] = 0xff
		}
		bad := [][]byte{{}, good(1)[:7], make([]byte, 50), mutationBytes(unknown), mutationBytes(garbage), append(good(50), good(51)[:9]...)}
		b := n.engine.NewBatch()
		put := func(at int, body []byte) {
			k := append(make([]byte, 0, 28), hostIDBytes(2)...)
			k = append(k, 0, 6, 0x0a, 0x24, 0, 0, 0, byte(at), 0, 0, 0, byte(at))
			us := time.Now().UnixMicro()
			for i := range 8 {
				k[16+i] = byte(us >> (56 - 8*i))
			}
			if err := b.Set(storage.SpaceHints, k, body); err != nil {
				t.Fatal(err)
			}
		}
		at := 0
		for i := range 10 {
			at++
			put(at, good(i))
			if i < len(bad) {
				at++
				put(at, bad[i])
			}
		}
		if err := b.Set(storage.SpaceHints, []byte("odd"), []byte("key")); err != nil {
			t.Fatal(err)
		}
		if err := n.engine.CommitWait(context.Background(), b); err != nil {
			t.Fatal(err)
		}
		n.halt()
		n.start()
		n.connect()
		c.setDown(2, false)
		eventually(t, "done with", func() bool { return hintsOf(n) == 0 })
		for _, i := range []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 50} {
			if got := c.has(2, c.wide, key(i)); got != "a=x " {
				t.Errorf("the good hint %d: %q", i, got)
			}
		}
		m := n.coord.Hints().Metrics()
		if got := n.coord.Metrics().DamagedHints.Load(); got < 4 || got > 5 || m.Expired.Load() != 5 || m.Delivered.Load() != 11 {
			t.Errorf("%d damaged, %d given up, %d delivered", got, m.Expired.Load(), m.Delivered.Load())
		}
	})
}

func hostIDBytes(i int) []byte { id := hostID(i); return id[:] }

func mutationBytes(m row.Mutation) []byte { return m.Append(nil) }

// TestScenario_R2_StaleReplicasDoNotMatch: a replica that still has an older value takes no part in what a filter sees: replicas return
// rows as they are, and only the merged one is looked at.
func TestScenario_R2_StaleReplicasDoNotMatch(t *testing.T) {
	simulated(t, func(t *testing.T) {
		for stale := range 3 {
			c := three(t)
			for i := range 30 {
				c.mustWrite(0, coordinator.All, c.put(c.wide, key(i), fmt.Sprint(i), 1, "old"))
				for n := range 3 {
					if n != stale {
						c.plant(n, c.put(c.wide, key(i), fmt.Sprint(i), 2, "new"))
					}
				}
			}
			for from := range 3 {
				text, _ := c.scan(from, coordinator.Quorum, c.wide, 7, 0, 0)
				for _, x := range bytes.Fields([]byte(text)) {
					if !bytes.HasSuffix(x, []byte("=new")) {
						t.Errorf("stale %d, from %d: %s", stale, from, x)
					}
				}
				if n := len(bytes.Fields([]byte(text))); n != 30 {
					t.Errorf("stale %d, from %d: %d rows", stale, from, n)
				}
			}
		}
	})
}

// TestScenario_R8_DigestOfContent: the same content, come by in other orders, twice, flushed or compacted, has the same digest.
func TestScenario_R8_DigestOfContent(t *testing.T) {
	simulated(t, func(t *testing.T) {
		c := three(t)
		pk := key(1)
		ms := []row.Mutation{c.put(c.wide, pk, "a", 1, "x"), c.put(c.wide, pk, "a", 2, "y"), c.put(c.wide, pk, "b", 1, "z"), c.deleteRow(c.wide, pk, "c", 5),
			c.put(c.wide, pk, "c", 4, "dead"), c.rangeDeletion(pk, "d", "f", 9), c.put(c.wide, pk, "e", 3, "dead"), c.put(c.wide, pk, "e", 10, "alive")}
		c.plant(0, ms...)
		for i := len(ms) - 1; i >= 0; i-- {
			c.plant(1, ms[i])
			if err := c.nodes[1].engine.Flush(); err != nil {
				t.Fatal(err)
			}
		}
		c.plant(2, ms...)
		c.plant(2, ms[3:6]...)
		if err := c.nodes[2].engine.Compact(context.Background(), c.wide.Generation); err != nil {
			t.Fatal(err)
		}
		for from := range 3 {
			whole, columns := c.whole(c.wide, pk), c.whole(c.wide, pk)
			columns.Columns = []schema.ColumnID{c.column(c.wide, "v")}
			for _, cmd := range []row.Command{whole, columns} {
				if got := c.mustRead(from, coordinator.All, cmd); got != "a=y b=z e=alive " {
					t.Errorf("from %d: %q", from, got)
				}
			}
			if n := c.nodes[from].coord.Metrics().DigestMismatches.Load(); n != 0 {
				t.Errorf("from %d: %d digest mismatches", from, n)
			}
		}
	})
}

// TestScenario_R13_AColumnThatIsNotKnown: a replica has cells of a column that neither the coordinator nor the others know yet. Nothing
// fails, and the cells are repaired to the others like any.
func TestScenario_R13_AColumnThatIsNotKnown(t *testing.T) {
	simulated(t, func(t *testing.T) {
		c := three(t)
		pk := key(1)
		c.mustWrite(0, coordinator.All, c.put(c.wide, pk, "a", 1, "x"))
		c.plant(1, c.mutation(c.wide, pk, func(f *row.FragmentBuilder) {
			var b row.Builder
			b.Reset(nil)
			b.Cell(row.Cell{Column: 4000, Timestamp: 2, Value: []byte("new")})
			f.Row([]byte("a"), b.Finish())
		}))
		for from := range 3 {
			if got := c.mustRead(from, coordinator.All, c.whole(c.wide, pk)); got != "a=xnew " {
				t.Errorf("from %d: %q", from, got)
			}
			if got := c.has(from, c.wide, pk); got != "a=xnew " {
				t.Errorf("node %d has %q", from, got)
			}
		}
	})
}

// TestScenario_R16_DigestsWithoutData: the digests that make up the level are there, the data is not: it is asked of another replica, and
// nothing is answered before it has come.
func TestScenario_R16_DigestsWithoutData(t *testing.T) {
	simulated(t, func(t *testing.T) {
		c := newCluster(t, layout{dcs: nodesIn("dc1", 4)})
		pk := c.keyOf(1) // not one of this node's
		for i := 0; c.isReplica(0, pk); i++ {
			pk = key(i)
		}
		c.mustWrite(1, coordinator.All, c.put(c.wide, pk, "a", 1, "x"))
		for _, a := range []action{{drop: true}, {refuse: 1}, {delay: time.Second}} {
			asked := 0
			c.setFault(func(m message) action {
				var cmd row.Command
				if m.verb != coordinator.VerbRead {
					return action{}
				}
				if _, err := row.DecodeCommand(&cmd, m.body[8:]); err != nil || cmd.Digest {
					return action{}
				}
				if asked++; asked == 1 {
					return a
				}
				return action{}
			})
			if got := c.mustRead(0, coordinator.Two, c.whole(c.wide, pk)); got != "a=x " || asked != 2 {
				t.Errorf("%+v: %q, data asked for %d times", a, got, asked)
			}
			time.Sleep(10 * time.Second)
		}
	})
}

// isReplica tells whether a node is a replica of the partition.
func (c *cluster) isReplica(n int, pk []byte) bool {
	p := c.state.Placement("ks")
	for _, i := range p.Replicas(tokenOf(pk)) {
		if p.Ring().Nodes()[i].ID == hostID(n) {
			return true
		}
	}
	return false
}

// TestScenario_T17_EqualTimestamps: of a deletion and a write of one timestamp the deletion wins, of two writes the larger value, in
// whatever order and on whichever replica they arrive.
func TestScenario_T17_EqualTimestamps(t *testing.T) {
	simulated(t, func(t *testing.T) {
		c := three(t)
		for i := range 12 {
			pk, from := key(i), i%3
			ms := []row.Mutation{c.put(c.wide, pk, "a", 7, "x"), c.deleteRow(c.wide, pk, "a", 7), c.put(c.wide, pk, "b", 7, "v1"), c.put(c.wide, pk, "b", 7, "v2"),
				c.put(c.wide, pk, "c", 7, "x"), c.rangeDeletion(pk, "c", "d", 7)}
			for j := range ms {
				k := (j*5 + i) % len(ms)
				if i%2 == 0 {
					c.plant((i+j)%3, ms[k])
				} else {
					c.mustWrite((i+j)%3, coordinator.One, ms[k])
				}
			}
			if got := c.mustRead(from, coordinator.All, c.whole(c.wide, pk)); got != "b=v2 " {
				t.Errorf("%d: %q", i, got)
			}
			for n := range 3 {
				if got := c.has(n, c.wide, pk); got != "b=v2 " {
					t.Errorf("%d: node %d has %q", i, n, got)
				}
			}
		}
	})
}
