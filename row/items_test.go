package row

import (
	"fmt"
	"testing"
)

// TestGoldenItems pins the hashes that replicas compare (docs/format/repair.md).
func TestGoldenItems(t *testing.T) {
	var b Builder
	b.Reset(nil)
	b.SetLiveness(Liveness{Timestamp: 1000})
	b.Cell(Cell{Column: 3, Timestamp: 1000, Value: []byte("v")})
	value := b.Finish()
	var page Page
	var p PageBuilder
	cmd := Command{Generation: 1, Now: 10, GCBefore: NoTimestamp, WithStatic: true, Token: 7, Key: []byte("k")}
	p.Init(&cmd, &page)
	p.BeginPartition(7, cmd.Key)
	p.PartitionDeletion(Deletion{Timestamp: 5, LocalTime: 6})
	p.RangeTombstone(RangeTombstone{Start: []byte("a"), End: []byte("b"), Deletion: Deletion{Timestamp: 7, LocalTime: 8}})
	if err := p.Static(value); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Row([]byte("c"), value); err != nil {
		t.Fatal(err)
	}
	p.Finish()
	var got []string
	var sum Tally
	var items Items
	items.Init(Purge{Now: 10, GCBefore: NoTimestamp}, nil)
	add := func(i *Item) error {
		got = append(got, fmt.Sprintf("%d %016x %d", i.Kind, i.Hash, i.Bytes))
		sum.Item(i)
		return nil
	}
	if err := items.Page(&page, add); err != nil {
		t.Fatal(err)
	}
	if err := items.Finish(add); err != nil {
		t.Fatal(err)
	}
	want := []string{"1 f64cf1107eb4d9e3 17", "2 847e58545819905a 13", "3 3d6750aae05e2892 14", "4 263398f51782a647 19"}
	if fmt.Sprint(got) != fmt.Sprint(want) || sum.Items != 4 {
		t.Errorf("%q\ninstead of %q", got, want)
	}
	if items.NextExpiry != Never || items.OldestDeletion != 6 {
		t.Errorf("next expiry %d, oldest deletion %d", items.NextExpiry, items.OldestDeletion)
	}
	items.Init(Purge{Now: 10, GCBefore: 7}, nil)
	n := 0
	if err := items.Page(&page, func(i *Item) error {
		if n++; i.Kind == ItemDeletion {
			t.Error("a purgeable deletion counts")
		}
		return nil
	}); err != nil || n != 3 {
		t.Errorf("%d items, %v", n, err)
	}
}
