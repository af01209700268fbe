package row

import (
	"fmt"
	"testing"

	"github.com/helenusdb/helenus/schema"
)

// insert is a row of n columns of size bytes each, as an INSERT at ts writes it.
func insert(ts int64, n, size int) []byte {
	var b Builder
	b.Reset(nil)
	b.SetLiveness(Liveness{Timestamp: ts})
	for i := range n {
		v := make([]byte, size)
		v[0] = byte(ts)
		b.Cell(Cell{Column: schema.ColumnID(i + 1), Timestamp: ts, Value: v})
	}
	return b.Finish()
}

// update sets one column.
func update(ts int64, col schema.ColumnID, size int) []byte {
	var b Builder
	b.Reset(nil)
	b.Cell(Cell{Column: col, Timestamp: ts, Value: make([]byte, size)})
	return b.Finish()
}

const benchTime = 1_700_000_000_000_000

func BenchmarkBuildInsert5x34(b *testing.B) {
	var bld Builder
	dst, v := make([]byte, 0, 512), make([]byte, 34)
	b.ReportAllocs()
	for b.Loop() {
		bld.Reset(dst[:0])
		bld.SetLiveness(Liveness{Timestamp: benchTime})
		for i := range schema.ColumnID(5) {
			bld.Cell(Cell{Column: i, Timestamp: benchTime, Value: v})
		}
		dst = bld.Finish()
	}
}

func BenchmarkReader5x34(b *testing.B) {
	row := insert(benchTime, 5, 34)
	var r Reader
	n := 0
	b.ReportAllocs()
	for b.Loop() {
		if err := r.Init(row); err != nil {
			b.Fatal(err)
		}
		for r.Next() {
			n += len(r.Cell.Value)
		}
	}
}

func BenchmarkFindLastOf5(b *testing.B) {
	row := insert(benchTime, 5, 34)
	var r Reader
	b.ReportAllocs()
	for b.Loop() {
		r.Init(row)
		if !r.Find(5) {
			b.Fatal("not found")
		}
	}
}

func BenchmarkMerge5x34(b *testing.B) {
	base := insert(benchTime, 5, 34)
	for _, c := range []struct {
		name string
		row  []byte
	}{
		{"overwrite", insert(benchTime+1, 5, 34)},
		{"update1", update(benchTime+1, 3, 34)},
		{"sameTime", insert(benchTime, 5, 33)},
	} {
		b.Run(c.name, func(b *testing.B) {
			var m Merger
			dst := make([]byte, 0, 1024)
			rows := [][]byte{base, c.row}
			b.ReportAllocs()
			for b.Loop() {
				var err error
				if dst, err = m.MergeAll(dst[:0], rows); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkMergeAll(b *testing.B) {
	for _, k := range []int{10, 100, 10000} {
		for _, kind := range []string{"overwrites", "updates"} {
			b.Run(fmt.Sprintf("%s/%d", kind, k), func(b *testing.B) {
				rows := [][]byte{insert(benchTime, 5, 34)}
				for i := 1; i < k; i++ {
					if kind == "updates" {
						rows = append(rows, update(benchTime+int64(i), schema.ColumnID(1+i%5), 34))
					} else {
						rows = append(rows, insert(benchTime+int64(i), 5, 34))
					}
				}
				var m Merger
				dst := make([]byte, 0, 1024)
				b.ReportAllocs()
				for b.Loop() {
					dst, _ = m.MergeAll(dst[:0], rows)
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(k), "ns/operand")
			})
		}
	}
}

func BenchmarkFragmentOneRow(b *testing.B) {
	row, ckey := insert(benchTime, 5, 34), []byte("@clustering")
	var f FragmentBuilder
	var r FragmentReader
	dst := make([]byte, 0, 1024)
	b.ReportAllocs()
	for b.Loop() {
		f.Reset(dst[:0], false)
		f.Row(ckey, row)
		dst = f.Finish()
		if r.Init(dst) != nil || !r.NextRow() {
			b.Fatal("no row")
		}
	}
}

func BenchmarkValidateFragment(b *testing.B) {
	var f FragmentBuilder
	f.Reset(nil, false)
	f.Row([]byte("@clustering"), insert(benchTime, 5, 34))
	frag := f.Finish()
	b.ReportAllocs()
	for b.Loop() {
		if err := ValidateFragment(frag); err != nil {
			b.Fatal(err)
		}
	}
}

// pointRead answers a read of one row through the builder.
func pointRead(b *PageBuilder, cmd *Command, page *Page, row []byte) {
	b.Init(cmd, page)
	b.BeginPartition(cmd.Token, cmd.Key)
	if _, err := b.Row(cmd.Slices[0].Start, row); err != nil {
		panic(err)
	}
	b.EndPartition()
	b.Finish()
}

func pointCommand() *Command {
	return &Command{Generation: 1, Now: 1_700_000_000, Token: 5, Key: []byte("0123456789"), GCBefore: 1_699_000_000,
		Slices: []Slice{{Start: []byte("@ck"), End: []byte("@ck\xff"), Point: true}}, WithStatic: true, Limit: 5000}
}

func BenchmarkPointRead5x34(b *testing.B) {
	plain := insert(benchTime, 5, 34)
	mortal, _ := Merge(nil, plain, func() []byte {
		var b Builder
		b.Reset(nil)
		b.Cell(Cell{Column: 3, Timestamp: benchTime + 1, Tombstone: true, Expiry: 1_700_000_000})
		return b.Finish()
	}())
	for _, c := range []struct {
		name    string
		row     []byte
		columns []schema.ColumnID
		digest  bool
	}{{"plain", plain, nil, false}, {"digest", plain, nil, true}, {"tombstone", mortal, nil, false},
		{"project2", plain, []schema.ColumnID{2, 4}, false}} {
		b.Run(c.name, func(b *testing.B) {
			cmd, page, pb := pointCommand(), &Page{}, &PageBuilder{}
			cmd.Columns, cmd.Digest = c.columns, c.digest
			pointRead(pb, cmd, page, c.row)
			b.ReportAllocs()
			for b.Loop() {
				pointRead(pb, cmd, page, c.row)
			}
		})
	}
}

func BenchmarkCommand(b *testing.B) {
	cmd, got := pointCommand(), &Command{}
	var dst []byte
	b.ReportAllocs()
	for b.Loop() {
		dst = cmd.Append(dst[:0])
		if _, err := DecodeCommand(got, dst); err != nil {
			b.Fatal(err)
		}
	}
}

// The hot paths allocate nothing when warm.
func TestAllocations(t *testing.T) {
	row, other := insert(benchTime, 5, 34), update(benchTime+1, 2, 34)
	var (
		r     Reader
		bld   Builder
		m     Merger
		f     FragmentBuilder
		fr    FragmentReader
		page  Page
		pb    PageBuilder
		pages PageReader
		got   Command
	)
	cmd := pointCommand()
	dst, value := make([]byte, 0, 4096), make([]byte, 34)
	rows := [][]byte{row, other, row}
	for _, c := range []struct {
		name string
		run  func()
	}{
		{"Builder", func() {
			bld.Reset(dst[:0])
			bld.SetLiveness(Liveness{Timestamp: benchTime})
			for i := range schema.ColumnID(5) {
				bld.Cell(Cell{Column: i, Timestamp: benchTime, Value: value})
			}
			bld.Finish()
		}},
		{"Reader", func() {
			r.Init(row)
			for r.Next() {
			}
		}},
		{"Merge", func() { Merge(dst[:0], row, other) }},
		{"Merger", func() { m.MergeAll(dst[:0], rows) }},
		{"HasLive", func() { HasLive(row, 5); HasLive(other, 5) }},
		{"Validate", func() { Validate(row) }},
		{"Fragment", func() {
			f.Reset(dst[:0], false)
			f.Row(value, row)
			fr.Init(f.Finish())
			fr.NextRow()
		}},
		{"ValidateFragment", func() {
			f.Reset(dst[:0], false)
			f.Row(value, row)
			ValidateFragment(f.Finish())
		}},
		{"PageBuilder", func() {
			pointRead(&pb, cmd, &page, row)
			pages.Init(page.Data)
			pages.Next()
		}},
		{"Command", func() { DecodeCommand(&got, cmd.Append(dst[:0])) }},
		{"Position", func() { _, _, _ = DecodePosition(page.Cut.Append(dst[:0])) }},
		{"Mutation", func() { m := Mutation{1, 2, value, row}; m, _, _ = DecodeMutation(m.Append(dst[:0])) }},
	} {
		c.run()
		if n := testing.AllocsPerRun(100, c.run); n != 0 {
			t.Errorf("%s: %v allocations", c.name, n)
		}
	}
}
