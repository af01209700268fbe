package storage

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/helenusdb/helenus/row"
	"github.com/helenusdb/helenus/schema"
)

// shop is a catalog with the tables shop.a, shop.b and net.c, and an engine that has it.
type shop struct {
	*Engine
	*Snapshots
	fs      vfs.FS
	catalog *schema.Catalog
	now     time.Time
}

func shopCatalog(t testing.TB) *schema.Catalog {
	t.Helper()
	c := schema.Bootstrap()
	n := byte(0)
	env := schema.Env{NewID: func() schema.ID { n++; return schema.ID{n} }, Now: func() time.Time { return time.Unix(1e9, 0) }}
	apply := func(p schema.Plan, err error) {
		t.Helper()
		if err == nil {
			c, err = c.Apply(p.Changes)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	native := func(name, typ string) schema.ColumnSpec {
		return schema.ColumnSpec{Name: name, Type: schema.TypeSpec{Kind: schema.TypeNative, Name: typ}}
	}
	for _, ks := range []string{"shop", "net"} {
		apply(c.CreateKeyspace(schema.CreateKeyspace{Name: ks, Properties: []schema.Property{{Name: "replication", IsMap: true,
			Map: []schema.Pair{{Key: "class", Value: "SimpleStrategy"}, {Key: "replication_factor", Value: "1"}}}}}, env))
	}
	for _, name := range [][2]string{{"shop", "a"}, {"shop", "b"}, {"net", "c"}} {
		apply(c.CreateTable(schema.CreateTable{Keyspace: name[0], Name: name[1], PartitionKey: []string{"k"}, Clustering: []string{"c"},
			Columns: []schema.ColumnSpec{native("k", "blob"), native("c", "text"), native("v", "text")}}, env))
	}
	return c
}

func openShop(t testing.TB, fs vfs.FS) *shop {
	t.Helper()
	s := &shop{fs: fs, catalog: shopCatalog(t), now: time.Unix(1e9, 0)}
	o := testOptions(fs)
	o.Tables, o.Now = catalogTables{s.catalog}, func() time.Time { return s.now }
	s.Engine = openTest(t, o)
	s.Snapshots = NewSnapshots(s.Engine, "snapshots")
	if err := s.Clean(); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *shop) gen(keyspace, name string) schema.Generation {
	t, _ := s.catalog.Table(keyspace, name)
	return t.Generation
}

func (s *shop) request(tag string, names ...string) SnapshotRequest {
	r := SnapshotRequest{Tag: tag, Catalog: s.catalog, Schema: "CREATE ...", Cluster: "test", HostID: "me"}
	for _, n := range names {
		ks, name, _ := strings.Cut(n, ".")
		r.Tables = append(r.Tables, SnapshotTable{Keyspace: ks, Name: name, Generation: uint32(s.gen(ks, name))})
	}
	return r
}

// content reads a table of a snapshot as text: key, then the fragments' rows and deletions.
func content(t testing.TB, fs vfs.FS, dir string, gen schema.Generation) (out []string) {
	t.Helper()
	r, err := OpenSnapshot(fs, dir)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if err := r.Mutations(t.Context(), gen, func(m row.Mutation) error {
		if m.Generation != gen {
			t.Errorf("a mutation of generation %d", m.Generation)
		}
		out = append(out, string(m.Key)+"="+string(m.Fragment))
		return row.ValidateFragment(m.Fragment)
	}); err != nil {
		t.Fatal(err)
	}
	return out
}

// TestSnapshotRoundTrip: what the mutations of a snapshot make in another store is what was there when it was taken, whatever was
// written, deleted and dropped since: rows, tombstones of every kind, cells that expire.
func TestSnapshotRoundTrip(t *testing.T) {
	s := openShop(t, vfs.NewMem())
	a := s.gen("shop", "a")
	for i := range 3000 { // several pages
		write(t, s.Engine, put(a, pkey(i), "c", 10, strings.Repeat("value", 100)))
	}
	for i := range 20 {
		write(t, s.Engine, mutation(a, pkey(i), func(f *row.FragmentBuilder) {
			switch i % 3 {
			case 0:
				f.PartitionDeletion(row.Deletion{Timestamp: 5, LocalTime: 999_999_999})
			case 1:
				f.RangeTombstone(row.RangeTombstone{Start: []byte("x"), End: []byte("y"), Deletion: row.Deletion{Timestamp: 50, LocalTime: 3}})
			}
		}))
	}
	write(t, s.Engine, put(s.gen("net", "c"), pkey(1), "c", 10, "of another table"))
	if _, err := s.Take(s.request("one", "shop.a", "shop.b")); err != nil {
		t.Fatal(err)
	}
	want := content(t, s.fs, "snapshots/one", a)
	for i := range 3000 {
		write(t, s.Engine, put(a, pkey(i), "c", 20, "newer"))
	}
	if err := s.DropGeneration(a); err != nil {
		t.Fatal(err)
	}
	if err := s.Compact(t.Context(), a); err != nil {
		t.Fatal(err)
	}
	if got := content(t, s.fs, "snapshots/one", a); len(got) != 3000 || !slices.Equal(got, want) {
		t.Fatalf("%d partitions after the drop, %d before", len(got), len(want))
	}
	if err := s.Engine.Close(); err != nil {
		t.Fatal(err)
	}
	other := openShop(t, vfs.NewMem())
	defer other.Engine.Close()
	r, err := OpenSnapshot(s.fs, "snapshots/one")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if err := r.Mutations(t.Context(), a, func(m row.Mutation) error { write(t, other.Engine, m); return nil }); err != nil {
		t.Fatal(err)
	}
	if _, err := other.Take(other.request("again", "shop.a")); err != nil {
		t.Fatal(err)
	}
	if got := content(t, other.fs, "snapshots/again", a); !slices.Equal(got, want) {
		t.Fatal("the restored store holds something else")
	}
}

func TestSnapshotNames(t *testing.T) {
	s := openShop(t, vfs.NewMem())
	defer s.Engine.Close()
	for _, tag := range []string{"", ".", "..", "a/b", "../x", ".hidden", "-t", "x.partial", "x.clearing", strings.Repeat("x", 129), "ä", "a b"} {
		if _, err := s.Take(s.request(tag, "shop.a")); !errors.Is(err, ErrSnapshotName) {
			t.Errorf("%q: %v", tag, err)
		}
		if _, err := s.Clear(tag, nil); tag != "" && !errors.Is(err, ErrSnapshotName) {
			t.Errorf("clear %q: %v", tag, err)
		}
	}
	if _, err := s.Take(s.request("one", "shop.a")); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Take(s.request("one", "shop.a")); !errors.Is(err, ErrSnapshotExists) {
		t.Errorf("the same name again: %v", err)
	}
	if _, err := OpenSnapshot(s.fs, "snapshots/two"); !errors.Is(err, ErrNoSnapshot) {
		t.Errorf("one that does not exist: %v", err)
	}
}

// TestSnapshotListAndClear: sizes tell what only the snapshot holds, and clearing a keyspace leaves the other.
func TestSnapshotListAndClear(t *testing.T) {
	s := openShop(t, vfs.NewMem())
	defer s.Engine.Close()
	a := s.gen("shop", "a")
	for i := range 2000 {
		write(t, s.Engine, put(a, pkey(i), "c", 10, strings.Repeat("v", i%97)))
	}
	write(t, s.Engine, put(s.gen("net", "c"), pkey(1), "c", 10, "v"))
	if _, err := s.Take(s.request("two", "shop.a", "net.c")); err != nil {
		t.Fatal(err)
	}
	list, err := s.List()
	if err != nil || len(list) != 1 || list[0].Tag != "two" || len(list[0].Tables) != 2 || list[0].TableBytes[0] != 0 || list[0].Tables[0].Bytes == 0 {
		t.Fatalf("%+v, %v", list, err)
	}
	before := list[0].TrueBytes
	if err := s.DropGeneration(a); err != nil {
		t.Fatal(err)
	}
	if err := s.Compact(t.Context(), a); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) { // Pebble removes files in the background
		if list, err = s.List(); err != nil {
			t.Fatal(err)
		}
		if list[0].TrueBytes > before && list[0].TableBytes[0] > 0 {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("after the drop only the snapshot holds the files: %+v", list[0])
		}
	}
	if n, err := s.Clear("nosuch", nil); n != 0 || err != nil {
		t.Errorf("clear what is not there: %d, %v", n, err)
	}
	if n, err := s.Clear("two", []string{"shop"}); n != 1 || err != nil {
		t.Fatalf("clear one keyspace: %d, %v", n, err)
	}
	if list, err = s.List(); err != nil || len(list) != 1 || len(list[0].Tables) != 1 || list[0].Tables[0].Keyspace != "net" {
		t.Fatalf("%+v, %v", list, err)
	}
	if got := content(t, s.fs, "snapshots/two", s.gen("net", "c")); len(got) != 1 {
		t.Errorf("what is left of it: %d partitions", len(got))
	}
	if n, err := s.Clear("", []string{"net"}); n != 1 || err != nil {
		t.Fatalf("clear the other: %d, %v", n, err)
	}
	if names, err := s.fs.List("snapshots"); err != nil || len(names) != 0 {
		t.Errorf("left in the folder: %v, %v", names, err)
	}
}

func TestSnapshotsExpire(t *testing.T) {
	s := openShop(t, vfs.NewMem())
	defer s.Engine.Close()
	write(t, s.Engine, put(s.gen("shop", "a"), pkey(1), "c", 10, "v"))
	for i, tag := range []string{"kept", "short", "auto1", "auto2", "auto3"} {
		r := s.request(tag, "shop.a")
		if tag == "short" {
			r.TTL = time.Hour
		}
		r.Automatic = strings.HasPrefix(tag, "auto")
		s.now = time.Unix(1e9+int64(i), 0)
		if _, err := s.Take(r); err != nil {
			t.Fatal(err)
		}
	}
	expire := func(most int, want ...string) {
		t.Helper()
		got, err := s.Expire(most)
		if slices.Sort(got); err != nil || !slices.Equal(got, want) {
			t.Errorf("removed %v, want %v: %v", got, want, err)
		}
	}
	expire(0)
	expire(2, "auto1")
	s.now = s.now.Add(time.Hour - 4*time.Second)
	expire(2)
	s.now = s.now.Add(2 * time.Second)
	expire(1, "auto2", "short")
}

// TestSnapshotDamage: every file that is changed, cut or missing is noticed before a row is read.
func TestSnapshotDamage(t *testing.T) {
	s := openShop(t, vfs.NewMem())
	defer s.Engine.Close()
	for i := range 100 {
		write(t, s.Engine, put(s.gen("shop", "a"), pkey(i), "c", 10, "v"))
	}
	m, err := s.Take(s.request("one", "shop.a"))
	if err != nil {
		t.Fatal(err)
	}
	if len(m.Files) < 5 {
		t.Fatalf("the manifest has %d files", len(m.Files))
	}
	kinds := ""
	for _, f := range m.Files {
		kinds += f.Name + " "
		path := "snapshots/one/" + f.Name
		was, err := readAll(s.fs, path)
		if err != nil {
			t.Fatal(err)
		}
		if len(was) == 0 {
			continue
		}
		// Clones: under -race Pebble's file system spoils what it was given to write.
		for _, now := range [][]byte{was[:len(was)-1], append(slices.Clone(was[:len(was)-1]), was[len(was)-1]^1), nil} {
			if err := s.fs.Remove(path); err != nil { // not written over: it is linked
				t.Fatal(err)
			}
			if now != nil {
				if err := writeDurable(s.fs, path, slices.Clone(now)); err != nil {
					t.Fatal(err)
				}
			}
			if r, err := OpenSnapshot(s.fs, "snapshots/one"); !errors.Is(err, ErrSnapshotBroken) {
				t.Errorf("%s with %d of %d bytes: %v", f.Name, len(now), len(was), err)
				if err == nil {
					r.Close()
				}
			}
			if now == nil {
				_ = s.fs.Remove(path)
			}
			if err := writeDurable(s.fs, path, slices.Clone(was)); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, want := range []string{"catalog", "schema.cql", ".sst", "store/MANIFEST", "store/OPTIONS"} {
		if !strings.Contains(kinds, want) {
			t.Errorf("the manifest lacks %s: %s", want, kinds)
		}
	}
	if got := content(t, s.fs, "snapshots/one", s.gen("shop", "a")); len(got) != 100 {
		t.Errorf("mended, it has %d partitions", len(got))
	}
}

// TestSnapshotCrashes: whichever change to the folder is the last before a power loss, while a snapshot is taken and while it is
// removed, afterwards it is there and whole or it is not there, and nothing else is in the folder.
func TestSnapshotCrashes(t *testing.T) {
	const rows = 50
	mem := vfs.NewCrashableMem()
	var crashes []*vfs.MemFS
	watching := false
	s := openShop(t, errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if watching && op.Kind.ReadOrWrite() == errorfs.OpIsWrite && strings.HasPrefix(op.Path, "snapshots") {
			crashes = append(crashes, mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 0}))
		}
		return nil
	})))
	a := s.gen("shop", "a")
	for i := range rows {
		write(t, s.Engine, put(a, pkey(i), "c", 10, "v"))
	}
	watching = true
	if _, err := s.Take(s.request("one", "shop.a")); err != nil {
		t.Fatal(err)
	}
	taken := len(crashes)
	if n, err := s.Clear("one", nil); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	watching = false
	crashes = append(crashes, mem.CrashClone(vfs.CrashCloneCfg{}))
	present := map[bool]int{}
	for i, fs := range crashes {
		again := openShop(t, fs)
		names, err := again.names()
		if err != nil {
			t.Fatal(err)
		}
		if len(names) > 1 || len(names) == 1 && names[0] != "one" {
			t.Fatalf("crash %d of %d (%d while it is taken): left in the folder: %v", i, len(crashes), taken, names)
		}
		if present[len(names) == 1]++; len(names) == 1 {
			if got := content(t, fs, "snapshots/one", a); len(got) != rows {
				t.Fatalf("crash %d: a snapshot of %d rows", i, len(got))
			}
		}
		if err := again.Engine.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if present[true] == 0 || present[false] < 10 {
		t.Errorf("the snapshot was there %d times, and not %d times", present[true], present[false])
	}
}
