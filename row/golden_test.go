package row

import (
	"bytes"
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/helenusdb/helenus/ring"
	"github.com/helenusdb/helenus/schema"
)

var rewriteGolden = flag.Bool("rewrite", false, "write testdata/golden.txt anew")

// goldenRows are contents whose bytes must never change: they are on disks.
func goldenRows() map[string][]byte {
	const ts, sec = 1_700_000_000_000_000, 1_700_000_000
	build := func(fill func(b *Builder)) []byte {
		var b Builder
		b.Reset(nil)
		fill(&b)
		return b.Finish()
	}
	return map[string][]byte{
		"row insert": insert(ts, 2, 3),
		"row update": update(ts, 200, 2),
		"row insert ttl": build(func(b *Builder) {
			b.SetLiveness(Liveness{ts, 60, sec + 60})
			b.Cell(Cell{Column: 1, Timestamp: ts, TTL: 60, Expiry: sec + 60, Value: []byte("a")})
			b.Cell(Cell{Column: 2, Timestamp: ts, TTL: 30, Expiry: sec + 31, Value: []byte("b")})
			b.Cell(Cell{Column: 3, Timestamp: ts, TTL: 30, Expiry: sec + 31, Tombstone: true})
		}),
		"row counter": build(func(b *Builder) {
			for _, id := range []byte{1, 2} {
				shard := ShardID{id, 15: id}
				b.Cell(Cell{Column: 1, Path: shard[:], Timestamp: ts + int64(id) - 1, Value: AppendCount(nil, 300*int64(id)-500)})
			}
		}),
		"row counter deleted": build(func(b *Builder) { b.ComplexDeletion(1, CounterDeletion(sec)) }),
		"row increments": build(func(b *Builder) {
			b.Cell(Cell{Column: 1, Path: AppendIncrementPath(nil, 0), Timestamp: ts, Value: AppendCount(nil, 1)})
			b.Cell(Cell{Column: 2, Path: AppendIncrementPath(nil, 1), Timestamp: ts, Value: AppendCount(nil, -1)})
		}),
		"row deleted": build(func(b *Builder) { b.SetDeletion(Deletion{ts, sec}) }),
		"row all": build(func(b *Builder) {
			b.SetLiveness(Liveness{Timestamp: ts})
			b.SetDeletion(Deletion{ts - 5, sec})
			b.SetClustering([]byte("1.00"), ts)
			b.Cell(Cell{Column: 1, Timestamp: ts + 3, Tombstone: true, Expiry: sec + 1})
			b.ComplexDeletion(4, Deletion{ts - 1, sec})
			b.Cell(Cell{Column: 4, Path: []byte("@a"), Timestamp: ts, Value: []byte("x")})
			b.Cell(Cell{Column: 4, Path: []byte("@longer than fifteen"), Timestamp: ts, TTL: 10, Expiry: sec + 10, Value: []byte("y")})
			b.Cell(Cell{Column: 5, Path: []byte("@a"), Timestamp: ts, Value: nil})
		}),
	}
}

func golden(t *testing.T) map[string][]byte {
	all := goldenRows()
	row := all["row insert"]
	fragment := func(reversed bool) []byte {
		var f FragmentBuilder
		f.Reset(nil, reversed)
		f.PartitionDeletion(Deletion{1_600_000_000_000_000, 1_600_000_000})
		f.Static(all["row update"])
		f.Row([]byte("@k"), row)
		f.RangeTombstone(RangeTombstone{[]byte("@a"), []byte("@a\xff"), Deletion{1_700_000_000_000_001, 1_700_000_002}})
		f.RangeTombstone(RangeTombstone{[]byte("@x"), nil, Deletion{1_700_000_000_000_001, 1_700_000_000}})
		return f.Finish()
	}
	all["fragment"] = fragment(false)
	all["fragment reversed"] = fragment(true)
	m := Mutation{3, -7, []byte("key"), all["fragment"]}
	all["mutation"] = m.Append(nil)
	for name, p := range goldenPositions {
		all["position "+name] = p.Append(nil)
	}
	for name, c := range goldenCommands() {
		all["command "+name] = c.Append(nil)
	}
	r := replica{parts: map[partKey][]byte{}}
	r.apply(t, m)
	scan := goldenCommands()["scan"]
	scan.From = nil
	scan.Slices = nil
	all["page"] = r.read(t, scan).Append(nil)
	return all
}

var goldenPositions = map[string]Position{
	"before": {Kind: BeforePartition, Token: 9, Key: []byte("k")},
	"in":     {Kind: InPartition, Token: -9, Key: []byte("k"), Clustering: []byte("@c\xff"), Rows: 300},
	"after":  {Kind: AfterPartition, Token: 9, Key: []byte("k")},
}

func goldenCommands() map[string]Command {
	from := goldenPositions["in"]
	return map[string]Command{
		"point": *pointCommand(),
		"scan": {Generation: 3, Now: 1_700_000_000, Range: &ring.Range{Start: -10, End: 10}, From: &from, Reverse: true, WithStatic: true,
			Slices: []Slice{{Start: []byte{}, End: []byte("@a")}, {Start: []byte("@b"), End: []byte("@b\xff"), Point: true}, {Start: []byte("@c")}},
			Limit:  1, PerPartition: 2, Partitions: 3, Bytes: 4, GCBefore: NoTimestamp},
		"digest": {Generation: 3, Now: 1_700_000_000, Key: []byte("k"), StaticOnly: true, Columns: []schema.ColumnID{0, 1, 7, 1 << 31}, Digest: true, GCBefore: NoTimestamp},
	}
}

func TestGolden(t *testing.T) {
	const path = "testdata/golden.txt"
	got := golden(t)
	if *rewriteGolden {
		var b strings.Builder
		for _, name := range sortedNames(got) {
			fmt.Fprintf(&b, "%s: %x\n", name, got[name])
		}
		if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	file, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(file)), "\n")
	if len(lines) != len(got) {
		t.Errorf("%d vectors in %s, %d here", len(lines), path, len(got))
	}
	for _, line := range lines {
		name, text, _ := strings.Cut(line, ": ")
		want, err := hex.DecodeString(text)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got[name], want) {
			t.Errorf("%s:\n got %x\nwant %x", name, got[name], want)
		}
	}
}

func sortedNames(m map[string][]byte) []string {
	names := make([]string, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

const goldenDigest = 0x2b742a1eee285398

// The digest is compared between nodes of different versions: it may not change either.
func TestGoldenDigest(t *testing.T) {
	var page Page
	var b PageBuilder
	pointRead(&b, pointCommand(), &page, insert(benchTime, 2, 3))
	if got, want := page.Digest, uint64(goldenDigest); got != want {
		t.Errorf("digest %#x, want %#x", got, want)
	}
}

func TestCommandRoundTrip(t *testing.T) {
	var reused Command
	check := func(c Command) {
		t.Helper()
		enc := c.Append([]byte("x"))[1:]
		rest, err := DecodeCommand(&reused, append(enc, 1, 2))
		if err != nil || len(rest) != 2 {
			t.Fatalf("%+v: %v", c, err)
		}
		if again := reused.Append(nil); !bytes.Equal(again, enc) {
			t.Fatalf("%+v became %+v", c, reused)
		}
		for n := range enc {
			var short Command
			if _, err := DecodeCommand(&short, enc[:n]); err == nil {
				t.Fatalf("%d of %d bytes of %+v decode", n, len(enc), c)
			}
		}
	}
	for _, c := range goldenCommands() {
		check(c)
	}
	for seed := range seeds(2000) {
		check(newGen(seed).command())
	}
	var c Command
	want := goldenCommands()["scan"]
	if _, err := DecodeCommand(&c, want.Append(nil)); err != nil {
		t.Fatal(err)
	}
	c.Slices[2].Start, want.Slices[2].Start = nil, nil
	if !reflect.DeepEqual(c, want) {
		t.Fatalf("got %+v, want %+v", c, want)
	}
}
