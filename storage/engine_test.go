package storage

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/helenusdb/helenus/ring"
	"github.com/helenusdb/helenus/row"
)

func TestFormatIsPinnedToTheNewestOfThisPebble(t *testing.T) {
	if FormatMajorVersion != pebble.FormatNewest {
		t.Fatalf("FormatMajorVersion = %d, this Pebble's newest is %d: raise it together with the cluster version", FormatMajorVersion, pebble.FormatNewest)
	}
}

func TestWriteReadReopen(t *testing.T) {
	fs := vfs.NewMem()
	e := openTest(t, testOptions(fs))
	key := pkey(7)
	write(t, e, put(genPlain, key, "", 1, "a"))
	write(t, e, put(genPlain, key, "", 2, "b"))
	write(t, e, put(genPlain, key, "", 1, "c")) // older
	for range 2 {
		for range 2 { // from Pebble, from the row cache
			if got, _ := read(t, e, single(genPlain, key)); got != "00000007/=b " {
				t.Fatalf("read %q", got)
			}
		}
		if err := e.Close(); err != nil {
			t.Fatal(err)
		}
		e = openTest(t, testOptions(fs))
	}
	if e.Suspect() {
		t.Error("a clean restart is suspect")
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	if err := e.Close(); !errors.Is(err, ErrClosed) {
		t.Errorf("second Close: %v", err)
	}
}

func TestWidePartition(t *testing.T) {
	e := openMem(t)
	key := pkey(1)
	for _, ck := range []string{"a", "b", "c", "d", "e"} {
		write(t, e, put(genWide, key, ck, 10, "v"+ck))
	}
	write(t, e, mutation(genWide, key, func(f *row.FragmentBuilder) { f.Static(rowOf(10, "s")) }))
	write(t, e, mutation(genWide, key, func(f *row.FragmentBuilder) {
		f.RangeTombstone(row.RangeTombstone{Start: []byte("b"), End: []byte("d"), Deletion: row.Deletion{Timestamp: 20, LocalTime: 1}})
	}))
	slice := single(genWide, key)
	slice.Slices = []row.Slice{{Start: []byte("b"), End: []byte("e")}}
	reverse := single(genWide, key)
	reverse.Reverse = true
	static := single(genWide, key)
	static.WithStatic = true
	staticOnly := single(genWide, key)
	staticOnly.StaticOnly = true
	limited := reverse
	limited.Limit = 1
	scan := row.Command{Generation: genWide, Now: 1, Range: &ring.Range{Start: ring.MinToken, End: ring.MinToken}, GCBefore: row.NoTimestamp}
	for _, c := range []struct {
		name string
		cmd  row.Command
		want string
	}{
		{"all", single(genWide, key), "00000001/a=va 00000001/d=vd 00000001/e=ve "},
		{"reverse", reverse, "00000001/e=ve 00000001/d=vd 00000001/a=va "},
		{"slice", slice, "00000001/d=vd "},
		{"point", point(genWide, key, "a"), "00000001/a=va "},
		{"deleted point", point(genWide, key, "b"), ""},
		{"static", static, "00000001/static=s 00000001/a=va 00000001/d=vd 00000001/e=ve "},
		{"static only", staticOnly, "00000001/static=s "},
		{"limit", limited, "00000001/e=ve "},
		{"scan", scan, "00000001/a=va 00000001/d=vd 00000001/e=ve "},
	} {
		for range 2 {
			if got, _ := read(t, e, c.cmd); got != c.want {
				t.Errorf("%s: %q, want %q", c.name, got, c.want)
			}
		}
	}
}

func TestRefusals(t *testing.T) {
	e := openMem(t)
	b := e.NewBatch()
	defer b.Discard()
	unknown := put(99, pkey(1), "", 1, "x")
	if err := b.Apply(&unknown); !errors.Is(err, ErrUnknownTable) {
		t.Errorf("unknown table: %v", err)
	}
	bad := put(genPlain, pkey(1), "", 1, "x")
	bad.Fragment = bad.Fragment[:len(bad.Fragment)-1]
	if err := b.Apply(&bad); !errors.Is(err, ErrBadMutation) {
		t.Errorf("cut fragment: %v", err)
	}
	noKey := put(genPlain, nil, "", 1, "x")
	if err := b.Apply(&noKey); !errors.Is(err, ErrBadMutation) {
		t.Errorf("no key: %v", err)
	}
	large := put(genPlain, pkey(1), "", 1, string(make([]byte, defaultMutationBytes)))
	if err := b.Apply(&large); !errors.Is(err, ErrTooLarge) {
		t.Errorf("large: %v", err)
	}
	if b.Len() != 0 {
		t.Errorf("%d keys after refusals", b.Len())
	}
	if err := e.Write(context.Background(), nil); err != nil {
		t.Errorf("empty write: %v", err)
	}
}

// TestApplyAllOrNothing: when one of several mutations is refused, for whatever reason, none is in the batch, and what
// was there before stays.
func TestApplyAllOrNothing(t *testing.T) {
	o := testOptions(vfs.NewMem())
	o.MutationBytesMax, o.BatchBytesMax = 1024, 4096
	e := openTest(t, o)
	defer func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	}()
	if err := e.DropGeneration(genOther); err != nil {
		t.Fatal(err)
	}
	k := pkey(1)
	large := put(genWide, k, "b", 1, strings.Repeat("v", 900))
	broken := put(genWide, k, "b", 1, "x")
	broken.Fragment = broken.Fragment[:len(broken.Fragment)-1]
	for _, x := range []struct {
		name string
		rest []row.Mutation
		want error
	}{
		{"dropped", []row.Mutation{put(genOther, k, "b", 1, "x")}, ErrUnknownTable},
		{"unknown", []row.Mutation{put(77, k, "b", 1, "x")}, ErrUnknownTable},
		{"too large", []row.Mutation{put(genWide, k, "b", 1, strings.Repeat("v", 2000))}, ErrTooLarge},
		{"too many", []row.Mutation{large, large, large}, ErrTooLarge},
		{"broken", []row.Mutation{broken}, ErrBadMutation},
	} {
		b := e.NewBatch()
		if err := b.Apply(&row.Mutation{Generation: genPlain, Token: token(k), Key: k, Fragment: put(genPlain, k, "", 1, "before").Fragment}); err != nil {
			t.Fatal(err)
		}
		before := b.Len()
		err := b.ApplyAll(append([]row.Mutation{put(genWide, k, "a", 1, "x")}, x.rest...))
		if !errors.Is(err, x.want) || b.Len() != before {
			t.Errorf("%s: %v, %d keys after %d", x.name, err, b.Len(), before)
		}
		if err := e.CommitWait(t.Context(), b); err != nil {
			t.Fatal(err)
		}
		if got, _ := read(t, e, row.Command{Generation: genWide, Token: token(k), Key: k, Now: 1}); got != "" {
			t.Errorf("%s: %q", x.name, got)
		}
	}
	b := e.NewBatch()
	if err := b.ApplyAll([]row.Mutation{put(genWide, k, "a", 1, "x"), put(genWide, k, "b", 1, "y")}); err != nil {
		t.Fatal(err)
	}
	if err := e.CommitWait(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	if got, _ := read(t, e, row.Command{Generation: genWide, Token: token(k), Key: k, Now: 1}); strings.Count(got, "=") != 2 {
		t.Errorf("both: %q", got)
	}
}
