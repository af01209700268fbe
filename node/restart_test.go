package node

import (
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/helenusdb/helenus/meta"
	"github.com/helenusdb/helenus/row"
	"github.com/helenusdb/helenus/schema"
)

// replicate gives the keyspace another replication factor and waits until all nodes know that the movement is over.
func (c *trio) replicate(factor string) {
	c.t.Helper()
	c.change(func(s *meta.State, env schema.Env) (schema.Plan, error) {
		return s.Catalog.AlterKeyspace(schema.AlterKeyspace{Name: "shop", Properties: []schema.Property{{Name: "replication", IsMap: true,
			Map: []schema.Pair{{Key: "class", Value: "SimpleStrategy"}, {Key: "replication_factor", Value: factor}}}}}, env)
	})
	for _, n := range c.nodes {
		c.await("the movement is over", func() bool {
			s := n.log.Current()
			ks, _ := s.Catalog.Keyspace("shop")
			return s.Phase() == meta.None && ks.Strategy.Options()["replication_factor"] == factor
		})
	}
}

// TestNothingIsDeletedByMetadataOfThePast: a node that has lost the end of its metadata log, and with it that it owns ranges, keeps their rows until the others have told it
// what it had known.
func TestNothingIsDeletedByMetadataOfThePast(t *testing.T) {
	var disks [3]*vfs.MemFS
	c := newTrioWith(t, 180, func(i int, o *Options) {
		disks[i] = vfs.NewCrashableMem()
		o.FS = disks[i]
		filled(o, nil)
	})
	c.replicate("1")
	past := disks[2].CrashClone(vfs.CrashCloneCfg{})
	c.replicate("3")
	var ms []row.Mutation
	for i := range 60 {
		ms = append(ms, c.mutation(string(rune('A'+i)), func(f *row.FragmentBuilder) { f.Row(ckey(0), cellRow(c.column("v"), 1000, "value")) }))
	}
	c.put(ms, 0, 1, 2)
	for i := range c.stops {
		if err := c.stops[i](); err != nil {
			t.Fatal(err)
		}
		c.stops[i] = func() error { return nil }
	}
	const dir = "helenus-data/meta"
	if err := disks[2].RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if _, err := vfs.Clone(past, disks[2], dir, dir, vfs.CloneSync); err != nil {
		t.Fatal(err)
	}
	if err := disks[2].Remove(dir + "/WATERMARK"); err != nil {
		t.Fatal(err)
	}
	n := testNode(t, 182, host(180)+","+host(181), func(o *Options) { o.FS = disks[2]; filled(o, nil) })
	ended, stop := run(n)
	select {
	case <-n.Ready():
		t.Error("it serves clients")
	case err := <-ended:
		t.Fatal(err)
	case <-time.After(2 * time.Second):
	}
	kept := 0
	for i := range ms {
		var page row.Page
		cmd := row.Command{Generation: c.table.Generation, Now: time.Now().Unix(), GCBefore: row.NoTimestamp, Token: ms[i].Token, Key: ms[i].Key, Bytes: 1 << 20}
		if _, err := n.engine.Read(&cmd, &page); err != nil {
			t.Fatal(err)
		}
		kept += page.Rows
	}
	if kept != len(ms) {
		t.Errorf("%d of %d rows are left", kept, len(ms))
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
}
