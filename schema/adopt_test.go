package schema_test

import (
	"strings"
	"testing"
	"time"

	"github.com/helenusdb/helenus/schema"
)

// TestAdopt: a table comes with its keyspace, its types and its column ids; one that is there must be what it was.
func TestAdopt(t *testing.T) {
	n := byte(0)
	env := schema.Env{NewID: func() schema.ID { n++; return schema.ID{n} }, Now: func() time.Time { return time.Unix(1e9, 0) }}
	apply := func(c *schema.Catalog, p schema.Plan, err error) *schema.Catalog {
		t.Helper()
		if err == nil {
			c, err = c.Apply(p.Changes)
		}
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	keyspace := schema.CreateKeyspace{Name: "shop", Properties: []schema.Property{{Name: "replication", IsMap: true,
		Map: []schema.Pair{{Key: "class", Value: "SimpleStrategy"}, {Key: "replication_factor", Value: "3"}}}}}
	native := func(name, typ string) schema.ColumnSpec {
		return schema.ColumnSpec{Name: name, Type: schema.TypeSpec{Kind: schema.TypeNative, Name: typ}}
	}
	table := func(columns ...schema.ColumnSpec) schema.CreateTable {
		return schema.CreateTable{Keyspace: "shop", Name: "t", PartitionKey: []string{"k"}, Columns: append([]schema.ColumnSpec{native("k", "int")}, columns...)}
	}
	with := func(c *schema.Catalog, s schema.CreateTable) *schema.Catalog {
		t.Helper()
		p, err := c.CreateTable(s, env)
		return apply(c, p, err)
	}
	alter := func(c *schema.Catalog, a schema.AlterTable) *schema.Catalog {
		t.Helper()
		a.Keyspace, a.Name = "shop", "t"
		p, err := c.AlterTable(a, env)
		return apply(c, p, err)
	}
	empty := schema.Bootstrap()
	p, err := empty.CreateKeyspace(keyspace, env)
	made := apply(empty, p, err)
	from := with(made, table(native("gone", "text"), native("v", "text")))
	from = alter(from, schema.AlterTable{Kind: schema.AlterDrop, Drop: []string{"gone"}})
	source, _ := from.Table("shop", "t")
	for name, into := range map[string]*schema.Catalog{"empty": empty, "keyspace": made} {
		p, err := into.Adopt(from, "shop", "t")
		got, ok := apply(into, p, err).Table("shop", "t")
		if !ok || got.ID != source.ID || got.Column("v").ID != source.Column("v").ID || got.NextColumn != source.NextColumn || got.Generation != into.NextGeneration {
			t.Errorf("into %s: %+v", name, got)
		}
	}
	if p, err := from.Adopt(from, "shop", "t"); err != nil || len(p.Changes) != 0 {
		t.Errorf("into itself: %v, %v", p.Changes, err)
	}
	if p, err := alter(from, schema.AlterTable{Kind: schema.AlterDrop, Drop: []string{"v"}}).Adopt(from, "shop", "t"); err != nil || len(p.Changes) != 0 {
		t.Errorf("after a column was dropped: %v, %v", p.Changes, err)
	}
	for name, c := range map[string]struct {
		into *schema.Catalog
		want string
	}{
		"another type":    {with(made, table(native("gone", "text"), native("v", "int"))), "Column v of shop.t is not what it was"},
		"another id":      {with(made, table(native("v", "text"))), "Column v of shop.t is not what it was"},
		"a clustering":    {with(made, schema.CreateTable{Keyspace: "shop", Name: "t", PartitionKey: []string{"k"}, Clustering: []string{"v"}, Columns: []schema.ColumnSpec{native("k", "int"), native("v", "text")}}), "not of the kind it was"},
		"a partition key": {with(made, table2(native)), "Column k of shop.t is not what it was"},
	} {
		if _, err := c.into.Adopt(from, "shop", "t"); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := empty.Adopt(from, "shop", "nosuch"); err == nil {
		t.Error("a table that is not in the other catalog")
	}
	if _, err := empty.Adopt(from, "system", "local"); err == nil {
		t.Error("a system table")
	}
}

func table2(native func(name, typ string) schema.ColumnSpec) schema.CreateTable {
	return schema.CreateTable{Keyspace: "shop", Name: "t", PartitionKey: []string{"k"}, Columns: []schema.ColumnSpec{native("k", "bigint"), native("gone", "text"), native("v", "text")}}
}
