package node

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/helenusdb/helenus/meta"
	"github.com/helenusdb/helenus/row"
	"github.com/helenusdb/helenus/schema"
)

// TestScenario_T4_NothingOfAFormerLifeIsServed: a node that gave ranges away has rows of them left, on its disk and in its row cache. The others delete them and purge the tombstones. When it gets the ranges
// back it has nothing of them, and so has nobody after a repair.
func TestScenario_T4_NothingOfAFormerLifeIsServed(t *testing.T) {
	c := growing(t, 204)
	c.change(func(s *meta.State, env schema.Env) (schema.Plan, error) {
		return s.Catalog.AlterTable(schema.AlterTable{Keyspace: "shop", Name: "orders", Kind: schema.AlterProperties,
			Properties: []schema.Property{{Name: "tombstone_gc", IsMap: true, Map: []schema.Pair{{Key: "mode", Value: "immediate"}}}}}, env)
	})
	var keys []string
	var rows, deletions []row.Mutation
	for i := range 60 {
		key := fmt.Sprintf("life%05d", i)
		keys = append(keys, key)
		rows = append(rows, c.mutation(key, func(f *row.FragmentBuilder) { f.Row(ckey(0), cellRow(c.column("v"), 1000, "of a former life")) }))
		deletions = append(deletions, c.mutation(key, func(f *row.FragmentBuilder) {
			f.PartitionDeletion(row.Deletion{Timestamp: 2000, LocalTime: time.Now().Unix() - 3600})
		}))
	}
	c.put(rows, 0, 1, 2)
	c.replicate("1")
	for i, n := range c.nodes {
		c.await("it has cleaned up by itself", func() bool {
			return !slices.ContainsFunc(keys, func(key string) bool { return ownerOf(n, key) != n.home.HostID && c.has(n, key) })
		})
		c.put(rows, i) // left over: what it had cleaned up is there again, and has been read
		for _, key := range keys {
			if !c.has(c.nodes[i], key) {
				t.Fatal("nothing is left over: this test shows nothing")
			}
		}
	}
	for i, n := range c.nodes {
		for k := range keys {
			if ownerOf(n, keys[k]) == n.home.HostID {
				c.put(deletions[k:k+1], i)
			}
		}
		if _, err := n.engine.Purge(context.Background(), c.table.Generation); err != nil {
			t.Fatal(err)
		}
	}
	c.replicate("3")
	for i, n := range c.nodes {
		for _, key := range keys {
			if c.has(n, key) {
				t.Errorf("%s is back on node %d", key, i)
			}
		}
	}
	if !c.equal() {
		t.Error("the replicas differ")
	}
}
