package storage

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/helenusdb/helenus/ring"
	"github.com/helenusdb/helenus/row"
	"github.com/helenusdb/helenus/schema"
)

// copyRange copies a range from one engine to another, the records of each budget in one ingest, and stops after so many ingests
// (negative: at the end). It returns where to go on from.
func copyRange(t testing.TB, from, to *Engine, gen schema.Generation, rg ring.Range, budget int, after []byte, ingests int) (end []byte, done bool) {
	t.Helper()
	s, err := from.Snapshot(gen, rg, false)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	after = append([]byte{}, after...) // empty, not nil: as it comes off the wire
	for ; ingests != 0 && !done; ingests-- {
		in, err := to.NewIngest(gen, rg, nil)
		if err != nil {
			t.Fatal(err)
		}
		if end, done, err = s.Scan(context.Background(), after, budget, in.Add); err != nil {
			t.Fatal(err)
		}
		if err := in.Commit(context.Background()); err != nil {
			t.Fatal(err)
		}
		if after = end; after == nil && !done {
			t.Fatal("a scan that looked at nothing is not at the end")
		}
	}
	return after, done
}

func fillWide(t testing.TB, e *Engine, parts, rows int, ts int64) {
	t.Helper()
	for i := range parts {
		write(t, e, mutation(genWide, pkey(i), func(f *row.FragmentBuilder) {
			f.Static(rowOf(ts, "s"))
			for j := range rows {
				f.Row([]byte(fmt.Sprintf("%04d", j)), rowOf(ts, fmt.Sprintf("%d", ts)))
			}
		}))
	}
}

func all(gen schema.Generation) row.Command {
	rg := ring.FullRange()
	return row.Command{Generation: gen, Now: 1, Range: &rg, WithStatic: true, GCBefore: row.NoTimestamp}
}

// TestIngest: what was copied is what was there, in every size of the pieces; the file system has nothing left over.
func TestIngest(t *testing.T) {
	from := openMem(t)
	fillWide(t, from, 7, 20, 5)
	write(t, from, mutation(genWide, pkey(3), func(f *row.FragmentBuilder) {
		f.PartitionDeletion(row.Deletion{Timestamp: 5, LocalTime: 1})
	}))
	write(t, from, mutation(genWide, pkey(4), func(f *row.FragmentBuilder) {
		f.RangeTombstone(row.RangeTombstone{Start: []byte("0005"), End: []byte("0010"), Deletion: row.Deletion{Timestamp: 6, LocalTime: 1}})
	}))
	want, _ := read(t, from, all(genWide))
	for _, budget := range []int{1, 200, 5000, 1 << 20} {
		fs := vfs.NewMem()
		to := openTest(t, testOptions(fs))
		write(t, to, put(genWide, pkey(4), "0007", 3, "old"), put(genWide, pkey(5), "0001", 2, "old"), put(genWide, pkey(3), "0001", 5, "dead"))
		copyRange(t, from, to, genWide, ring.FullRange(), budget, nil, -1)
		if got, _ := read(t, to, all(genWide)); got != want {
			t.Errorf("budget %d:\n got  %s\n want %s", budget, got, want)
		}
		if left, err := fs.List("data/" + incomingDir); err != nil || len(left) > 0 {
			t.Errorf("left over: %v %v", left, err)
		}
		if err := to.Close(); err != nil {
			t.Fatal(err)
		}
		to = openTest(t, testOptions(fs))
		if got, _ := read(t, to, all(genWide)); got != want {
			t.Errorf("budget %d, opened again:\n got  %s\n want %s", budget, got, want)
		}
		if err := to.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestIngest_Range: only the partitions of the range come, and a record outside of it is refused.
func TestIngest_Range(t *testing.T) {
	from, to := openMem(t), openMem(t)
	fillWide(t, from, 50, 1, 5)
	rg := ring.Range{Start: -1 << 62, End: 1 << 62}
	copyRange(t, from, to, genWide, rg, 100, nil, -1)
	for i := range 50 {
		got, _ := read(t, to, single(genWide, pkey(i)))
		if inside := rg.Contains(token(pkey(i))); inside != (got != "") {
			t.Errorf("partition %d with token %v: %q", i, token(pkey(i)), got)
		}
	}
	s, err := from.Snapshot(genWide, ring.FullRange(), false)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	in, err := to.NewIngest(genWide, rg, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Discard()
	if _, _, err := s.Scan(context.Background(), nil, 1<<20, in.Add); !errors.Is(err, ErrBadRecord) {
		t.Errorf("records outside of the range: %v", err)
	}
}

// TestIngest_RefusesBadRecords: what another node sends is believed in nothing.
func TestIngest_RefusesBadRecords(t *testing.T) {
	e := openMem(t)
	key := func(kind byte, rest string) []byte {
		k := appendPartition(nil, spaceRows, genWide, token(pkey(1)), pkey(1))[tokenOffset:]
		return append(append(k, kind), rest...)
	}
	good := rowOf(1, "x")
	deletion := mutation(genWide, pkey(1), func(f *row.FragmentBuilder) { f.PartitionDeletion(row.Deletion{Timestamp: 1, LocalTime: 1}) }).Fragment
	for name, r := range map[string][2][]byte{
		"empty key":          {nil, good},
		"short key":          {key(kindRow, "a")[:9], good},
		"no kind":            {key(kindRow, "")[:len(key(kindRow, ""))-1], good},
		"unknown kind":       {key(0x11, ""), good},
		"static with a rest": {key(kindStatic, "a"), good},
		"no row":             {key(kindRow, "a"), nil},
		"damaged row":        {key(kindRow, "a"), good[:len(good)-1]},
		"row as deletions":   {key(kindMarkers, ""), good},
		"rows in deletions":  {key(kindMarkers, ""), put(genWide, pkey(1), "a", 1, "x").Fragment},
		"deletions as row":   {key(kindRow, "a"), deletion[:1]},
		"register":           {key(kindRegister, ""), []byte{0, 0, 0}},
	} {
		in, err := e.NewIngest(genWide, ring.FullRange(), nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := in.Add(r[0], r[1]); !errors.Is(err, ErrBadRecord) {
			t.Errorf("%s: %v", name, err)
		}
		in.Discard()
	}
	in, err := e.NewIngest(genWide, ring.FullRange(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Discard()
	if err := in.Add(key(kindRow, "b"), good); err != nil {
		t.Fatal(err)
	}
	for _, k := range []string{"b", "a"} {
		if err := in.Add(key(kindRow, k), good); !errors.Is(err, ErrBadRecord) {
			t.Errorf("%q after b: %v", k, err)
		}
	}
	if _, err := e.NewIngest(99, ring.FullRange(), nil); !errors.Is(err, ErrUnknownTable) {
		t.Errorf("unknown table: %v", err)
	}
}

// TestIngest_DroppedTable: an ingest that meets a DROP brings nothing back.
func TestIngest_DroppedTable(t *testing.T) {
	from, to := openMem(t), openMem(t)
	fillWide(t, from, 3, 3, 5)
	s, err := from.Snapshot(genWide, ring.FullRange(), false)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	in, err := to.NewIngest(genWide, ring.FullRange(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, done, err := s.Scan(context.Background(), nil, 1<<20, in.Add); err != nil || !done {
		t.Fatal(done, err)
	}
	if err := to.DropGeneration(genWide); err != nil {
		t.Fatal(err)
	}
	if err := in.Commit(context.Background()); !errors.Is(err, ErrUnknownTable) {
		t.Errorf("commit after a drop: %v", err)
	}
	if found, err := to.AnyRows(genWide); found || err != nil {
		t.Errorf("rows after a drop: %v %v", found, err)
	}
}

// TestScenario_A8_CrashDuringReceive: what was being received when the power went is removed at the next start, what was ingested
// is there, and the node starts.
func TestScenario_A8_CrashDuringReceive(t *testing.T) {
	from := openMem(t)
	fillWide(t, from, 6, 10, 5)
	mem := vfs.NewCrashableMem()
	to := openTest(t, testOptions(mem))
	after, _ := copyRange(t, from, to, genWide, ring.FullRange(), 400, nil, 3)
	ingested, _ := read(t, to, all(genWide))
	s, err := from.Snapshot(genWide, ring.FullRange(), false)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	in, err := to.NewIngest(genWide, ring.FullRange(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err = s.Scan(context.Background(), after, 300, in.Add); err != nil {
		t.Fatal(err)
	}
	if _, err := in.finish(); err != nil { // its files are whole, but not ingested
		t.Fatal(err)
	}
	if err := errors.Join(syncTestFolder(mem, "data/"+incomingDir)); err != nil {
		t.Fatal(err)
	}
	clone := mem.CrashClone(vfs.CrashCloneCfg{})
	in.Discard()
	if err := to.Close(); err != nil {
		t.Fatal(err)
	}
	if left, err := clone.List("data/" + incomingDir); err != nil || len(left) == 0 {
		t.Fatalf("the test means to leave files: %v %v", left, err)
	}
	to = openTest(t, testOptions(clone))
	defer to.Close()
	if left, err := clone.List("data/" + incomingDir); err != nil || len(left) > 0 {
		t.Errorf("after the start there is %v %v", left, err)
	}
	if got, _ := read(t, to, all(genWide)); got != ingested {
		t.Errorf("\n got  %s\n want %s", got, ingested)
	}
	copyRange(t, from, to, genWide, ring.FullRange(), 400, after, -1)
	want, _ := read(t, from, all(genWide))
	if got, _ := read(t, to, all(genWide)); got != want {
		t.Errorf("after going on:\n got  %s\n want %s", got, want)
	}
}

func syncTestFolder(fs vfs.FS, dir string) error {
	d, err := fs.OpenDir(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// TestScenario_T3_NoPurgeWhileReceiving: a tombstone that arrives before the data that it shadows stays until they are there.
func TestScenario_T3_NoPurgeWhileReceiving(t *testing.T) {
	now := int64(1_000_000)
	from, to := openMem(t), openAt(t, &now)
	deletion := row.Deletion{Timestamp: 10, LocalTime: 1}
	write(t, to, mutation(genWide, pkey(1), func(f *row.FragmentBuilder) {
		f.PartitionDeletion(deletion)
		f.RangeTombstone(row.RangeTombstone{Start: []byte("a"), End: []byte("b"), Deletion: row.Deletion{Timestamp: 12, LocalTime: 1}})
		f.Row([]byte("z"), deletedRow(11))
	}))
	write(t, from, put(genWide, pkey(1), "aa", 11, "x"), put(genWide, pkey(1), "c", 9, "y"), put(genWide, pkey(1), "z", 11, "z"))
	rg := ring.Range{Start: token(pkey(1)) - 1, End: token(pkey(1))}
	release := to.HoldPurge(genWide, rg)
	s, err := to.Purge(context.Background(), genWide)
	if err != nil || s.Changed != 0 || s.Held == 0 {
		t.Fatalf("purge of a range that is being received: %+v %v", s, err)
	}
	copyRange(t, from, to, genWide, rg, 1, nil, -1)
	release()
	release()
	if s, err = to.Purge(context.Background(), genWide); err != nil || s.Changed == 0 || s.Held != 0 {
		t.Fatalf("purge afterwards: %+v %v", s, err)
	}
	if got, _ := read(t, to, single(genWide, pkey(1))); got != "" {
		t.Errorf("back from the dead: %s", got)
	}
	if found, err := to.AnyRows(genWide); found || err != nil {
		t.Errorf("the purge has left something: %v %v", found, err)
	}
}

func deletedRow(ts int64) []byte {
	var b row.Builder
	b.Reset(nil)
	b.SetDeletion(row.Deletion{Timestamp: ts, LocalTime: 1})
	return b.Finish()
}

func openAt(t *testing.T, now *int64) *Engine {
	o := testOptions(vfs.NewMem())
	o.Now = unixTime(now)
	e := openTest(t, o)
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return e
}

// TestSnapshot_LeavesOutTheDead: rows that a deletion of their own partition shadows are not sent after it, so that it may be purged
// at the receiver in between.
func TestSnapshot_LeavesOutTheDead(t *testing.T) {
	e := openMem(t)
	fillWide(t, e, 1, 4, 5)
	write(t, e, mutation(genWide, pkey(0), func(f *row.FragmentBuilder) {
		f.RangeTombstone(row.RangeTombstone{Start: []byte("0001"), End: []byte("0003"), Deletion: row.Deletion{Timestamp: 5, LocalTime: 1}})
	}))
	s, err := e.Snapshot(genWide, ring.FullRange(), false)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for _, budget := range []int{1, 1 << 20} {
		var kinds []string
		for after, done := []byte(nil), false; !done; {
			after, done, err = s.Scan(context.Background(), after, budget, func(key, _ []byte) error {
				n, err := splitStreamKey(key)
				kinds = append(kinds, fmt.Sprintf("%x:%s", key[n], key[n+1:]))
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		if got := strings.Join(kinds, " "); got != "8: 10: 20:0000 20:0003" {
			t.Errorf("budget %d: %s", budget, got)
		}
	}
}

// TestSnapshot_Registers: registers come with their partitions when asked for, whole, also those of partitions without rows.
func TestSnapshot_Registers(t *testing.T) {
	from, to := openMem(t), openMem(t)
	write(t, from, put(genPlain, pkey(1), "", 1, "x"))
	b := from.NewBatch()
	for i := range 4 {
		for part := byte(1); part <= RegisterParts; part++ {
			if i != 2 || part != 2 {
				if err := b.SetRegister(genPlain, token(pkey(i)), pkey(i), part, fmt.Appendf(nil, "%d.%d", i, part)); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	if err := from.CommitWait(context.Background(), b); err != nil {
		t.Fatal(err)
	}
	for _, budget := range []int{1, 1 << 20} {
		s, err := from.Snapshot(genPlain, ring.FullRange(), true)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		in, err := to.NewIngest(genPlain, ring.FullRange(), func(_ ring.Token, key []byte, parts [RegisterParts][]byte) error {
			got = append(got, fmt.Sprintf("%d:%s,%s,%s", key[3], parts[0], parts[1], parts[2]))
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		for after, done := []byte(nil), false; !done; {
			if after, done, err = s.Scan(context.Background(), after, budget, in.Add); err != nil {
				t.Fatal(err)
			}
		}
		if err := errors.Join(in.Commit(context.Background()), s.Close()); err != nil {
			t.Fatal(err)
		}
		slices.Sort(got)
		if text := strings.Join(got, " "); text != "0:0.1,0.2,0.3 1:1.1,1.2,1.3 2:2.1,,2.3 3:3.1,3.2,3.3" {
			t.Errorf("budget %d: %s", budget, text)
		}
	}
	if got, _ := read(t, to, single(genPlain, pkey(1))); got == "" {
		t.Error("the row did not come")
	}
}

// TestIngest_BesideWritesAndFolds: no read-then-Set and no cached row hides what was ingested, whatever is written, folded, purged
// and read meanwhile.
func TestIngest_BesideWritesAndFolds(t *testing.T) {
	from := openMem(t)
	o := testOptions(vfs.NewMem())
	o.FoldOperands, o.Stripes = 2, 4
	to := openTest(t, o)
	defer to.Close()
	stop := make(chan struct{})
	var wg sync.WaitGroup
	work := func(f func(i int) error) {
		wg.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				if err := f(i); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	const keys = 3
	work(func(i int) error {
		return to.Write(context.Background(), []row.Mutation{mutation(genPlain, pkey(i%keys), func(f *row.FragmentBuilder) { f.Row(nil, cellOf(11, int64(i), "w")) })})
	})
	work(func(i int) error {
		_, err := readOr(t, to, single(genPlain, pkey(i%keys)))
		return err
	})
	work(func(int) error {
		_, err := to.Purge(context.Background(), genPlain)
		return err
	})
	rounds := 60
	if testing.Short() {
		rounds = 20
	}
	for i := range rounds {
		for k := range keys {
			write(t, from, mutation(genPlain, pkey(k), func(f *row.FragmentBuilder) { f.Row(nil, cellOf(12, int64(i+1), fmt.Sprintf("i%04d", i))) }))
		}
		copyRange(t, from, to, genPlain, ring.FullRange(), 1<<20, nil, -1)
		for range 3 {
			for k := range keys {
				if got, _ := read(t, to, single(genPlain, pkey(k))); !strings.Contains(got, fmt.Sprintf("i%04d", i)) {
					t.Fatalf("round %d, key %d: %q", i, k, got)
				}
			}
		}
	}
	close(stop)
	wg.Wait()
}

func cellOf(col schema.ColumnID, ts int64, value string) []byte {
	var b row.Builder
	b.Reset(nil)
	b.SetLiveness(row.Liveness{Timestamp: ts})
	b.Cell(row.Cell{Column: col, Timestamp: ts, Value: []byte(value)})
	return b.Finish()
}

// TestIngest_Leaves: leaves that were kept before an ingest do not hide what came with it.
func TestIngest_Leaves(t *testing.T) {
	from, to := openMem(t), openMem(t)
	fillWide(t, from, 5, 1, 5)
	q := TallyRequest{Generation: genWide, Tokens: allTokens, At: row.Purge{Now: 10, GCBefore: row.NoTimestamp}, Keep: true}
	if got := tally(t, to, q); got != (row.Tally{}) {
		t.Fatalf("an empty table has %v", got)
	}
	s, err := from.Snapshot(genWide, ring.FullRange(), false)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	in, err := to.NewIngest(genWide, ring.FullRange(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.Scan(context.Background(), nil, 1<<20, in.Add); err != nil {
		t.Fatal(err)
	}
	if err := in.Commit(context.Background()); err != nil {
		t.Fatal(err)
	}
	want := tally(t, from, q)
	for range 2 {
		if got := tally(t, to, q); got != want || got.Items == 0 {
			t.Errorf("%v instead of %v", got, want)
		}
	}
}

// fullFS is a file system on which tables that are being received find no room.
type fullFS struct {
	vfs.FS
	full atomic.Bool
}

func (f *fullFS) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	if f.full.Load() && strings.Contains(name, incomingDir) {
		return nil, syscall.ENOSPC
	}
	return f.FS.Create(name, c)
}

// TestIngest_FullDisk: the reserve is respected, and a disk that is full all the same refuses writes instead of ending the process.
func TestIngest_FullDisk(t *testing.T) {
	from := openMem(t)
	fillWide(t, from, 5, 1, 5)
	free := uint64(10 * mib)
	fs := &fullFS{FS: vfs.NewMem()}
	o := testOptions(fs)
	o.ReserveBytes, o.FreeSpace = mib, func() (uint64, error) { return free, nil }
	o.Fatal = func(err error) { t.Errorf("fatal: %v", err) }
	to := openTest(t, o)
	defer to.Close()
	s, err := from.Snapshot(genWide, ring.FullRange(), false)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	try := func() error {
		in, err := to.NewIngest(genWide, ring.FullRange(), nil)
		if err != nil {
			return err
		}
		defer in.Discard()
		if _, _, err := s.Scan(context.Background(), nil, 1<<20, in.Add); err != nil {
			return err
		}
		return in.Commit(context.Background())
	}
	to.reserve.empty()
	if err := try(); !errors.Is(err, ErrDiskFull) {
		t.Errorf("below the reserve: %v", err)
	}
	if err := to.reserve.look(); err != nil {
		t.Fatal(err)
	}
	fs.full.Store(true)
	if err := try(); !errors.Is(err, ErrDiskFull) || !to.reserve.exhausted() {
		t.Errorf("on a full disk: %v", err)
	}
	fs.full.Store(false)
	if err := errors.Join(to.reserve.look(), try()); err != nil {
		t.Errorf("when there is room again: %v", err)
	}
}

// FuzzRecord: bytes of another node never panic, and what is taken can be read.
func FuzzRecord(f *testing.F) {
	prefix := appendPartition(nil, spaceRows, genWide, token(pkey(1)), pkey(1))[tokenOffset:]
	f.Add(append(slices.Clone(prefix), kindRow, 'a'), rowOf(1, "x"))
	f.Add(append(slices.Clone(prefix), kindStatic), rowOf(1, "x"))
	f.Add(append(slices.Clone(prefix), kindRegister), appendRegisterParts(nil, [RegisterParts][]byte{[]byte("a"), nil, {}}))
	f.Add(append(slices.Clone(prefix), kindMarkers), mutation(genWide, pkey(1), func(f *row.FragmentBuilder) {
		f.PartitionDeletion(row.Deletion{Timestamp: 1, LocalTime: 1})
	}).Fragment)
	e := openMem(f)
	f.Fuzz(func(t *testing.T, key, value []byte) {
		in, err := e.NewIngest(genWide, ring.FullRange(), func(ring.Token, []byte, [RegisterParts][]byte) error { return nil })
		if err != nil {
			t.Fatal(err)
		}
		defer in.Discard()
		if err := in.Add(key, value); err != nil && !errors.Is(err, ErrBadRecord) {
			t.Errorf("%x %x: %v", key, value, err)
		}
	})
}
