package node

import (
	"context"
	"testing"
	"time"

	"github.com/helenusdb/helenus/coordinator"
	"github.com/helenusdb/helenus/ring"
	"github.com/helenusdb/helenus/row"
)

// writeIf makes a conditional write that always applies: what fill adds to the partition, with the timestamp of the ballot. What it sends to replicas has come to
// its end when it returns.
func (g *graveyard) writeIf(on int, key string, fill func(f *row.FragmentBuilder, ts int64)) {
	g.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	op := &coordinator.CAS{Command: row.Command{Generation: g.table.Generation, Now: g.now(on)().Unix(), GCBefore: row.NoTimestamp,
		Token: ring.Murmur3{}.Token([]byte(key)), Key: []byte(key), Bytes: 1 << 20}, Serial: coordinator.Serial, Commit: coordinator.All,
		Decide: func(_ *row.Page, ts, _ int64) ([]row.Mutation, bool, error) {
			return []row.Mutation{g.mutation(key, func(f *row.FragmentBuilder) { fill(f, ts) })}, true, nil
		}}
	if applied, err := g.nodes[on].coord.CAS(ctx, op); err != nil || !applied {
		g.t.Fatalf("conditional write: applied %t, %v", applied, err)
	}
}

// forget removes the registers of partitions on a node behind its back, as one is without them that has filled the range.
func (g *graveyard) forget(node int, keys ...string) {
	g.t.Helper()
	b := g.nodes[node].engine.NewBatch()
	for _, key := range keys {
		if err := b.DeleteRegister(g.table.Generation, ring.Murmur3{}.Token([]byte(key)), []byte(key)); err != nil {
			g.t.Fatal(err)
		}
	}
	if err := g.nodes[node].engine.CommitWait(context.Background(), b); err != nil {
		g.t.Fatal(err)
	}
}

// TestTombstones_ReplicaWithoutRegister: a row of a conditional write is deleted by a plain DELETE and the range is repaired. A replica that has no register of the partition
// must not let the deletion go as long as another one has it, for the next ballot writes the old commit there again.
func TestTombstones_ReplicaWithoutRegister(t *testing.T) {
	g := newGraveyard(t, 186)
	keys := []string{"dead00000", "dead00001", "dead00002", "dead00003"}
	for _, key := range keys {
		g.writeIf(0, key, func(f *row.FragmentBuilder, ts int64) {
			for c := range 3 {
				f.Row(ckey(c), cellRow(g.column("v"), ts, "must not return"))
			}
		})
	}
	g.forget(2, keys...)
	g.pass(time.Minute)
	g.everywhere(g.deletions(len(keys)))
	g.pass(5 * time.Hour) // a register may be swept by then, a commit's rows be written again
	if failed := g.mend(0); failed != 0 {
		t.Fatalf("%d ranges were not repaired", failed)
	}
	g.purge(0, 1, 2)
	for _, key := range keys {
		g.writeIf(1, key, func(f *row.FragmentBuilder, ts int64) { f.Row(ckey(100), cellRow(g.column("v"), ts, "new")) })
	}
	for i := range 3 {
		if _, alive := g.items(i); alive != len(keys) {
			t.Errorf("node %d has %d rows, want the %d that were written last", i, alive, len(keys))
		}
	}
	g.pass(5 * time.Hour)
	if failed := g.mend(1); failed != 0 {
		t.Fatalf("%d ranges were not repaired", failed)
	}
	g.purge(0, 1, 2)
	for i := range 3 {
		if all, alive := g.items(i); alive != len(keys) || all != uint64(alive) {
			t.Errorf("node %d keeps %d rows and deletions, %d of them alive, after a repair when no older commit was left", i, all, alive)
		}
	}
}
