package storage

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

const testMemtable = 1 << 20

func roomy(int64) bool { return true }

func unwarned(error) {}

// spaceOf returns a log space with a spare file.
func spaceOf(t *testing.T, fs vfs.FS) *logSpace {
	t.Helper()
	if err := fs.MkdirAll("store", 0o755); err != nil {
		t.Fatal(err)
	}
	s, err := newLogSpace(fs, "store", testMemtable, roomy, unwarned)
	if err != nil {
		t.Fatal(err)
	}
	<-s.wanted
	s.size = logOf(testMemtable)
	if err := s.make(t.Context(), s.size); err != nil {
		t.Fatal(err)
	}
	return s
}

func sizeOf(t *testing.T, fs vfs.FS, name string) int64 {
	t.Helper()
	info, err := fs.Stat(name)
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

// TestLogSpace: new logs, and those that would follow a short one, are files of full length; other files and long logs are what they were.
func TestLogSpace(t *testing.T) {
	fs := vfs.NewMem()
	s := spaceOf(t, fs)
	closed := func(f vfs.File, err error) {
		t.Helper()
		if err := errors.Join(err, f.Close()); err != nil {
			t.Fatal(err)
		}
	}
	closed(s.Create("store/000001.sst", logCreated))
	closed(s.Create("store/000002.log", vfs.WriteCategoryUnspecified)) // a copy of a log
	if n := sizeOf(t, fs, "store/000001.sst") + sizeOf(t, fs, "store/000002.log"); n != 0 {
		t.Errorf("files that are no new logs have %d bytes", n)
	}
	closed(s.Create("store/000003.log", logCreated))
	if n := sizeOf(t, fs, "store/000003.log"); n != testMemtable*11/10 {
		t.Errorf("a new log has %d bytes", n)
	}
	if _, lacks := s.lacks(); !lacks || len(s.wanted) != 1 {
		t.Error("no other spare file is asked for")
	}
	closed(s.Create("store/000004.log", logCreated)) // there is no spare file now
	if n := sizeOf(t, fs, "store/000004.log"); n != 0 {
		t.Errorf("a log without a spare file has %d bytes", n)
	}
	if err := s.make(t.Context(), s.size); err != nil {
		t.Fatal(err)
	}
	closed(s.ReuseForWrite("store/000003.log", "store/000005.log", logCreated))
	if n := sizeOf(t, fs, "store/000005.log"); n != testMemtable*11/10 || s.state != spareReady {
		t.Errorf("a long log was not used again: %d bytes", n)
	}
	closed(s.ReuseForWrite("store/000004.log", "store/000006.log", logCreated))
	if n := sizeOf(t, fs, "store/000006.log"); n != testMemtable*11/10 {
		t.Errorf("a short log was used again: %d bytes", n)
	}
	for _, gone := range []string{"store/000003.log", "store/000004.log", "store/SPARE"} {
		if _, err := fs.Stat(gone); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is still there: %v", gone, err)
		}
	}
}

// greedyFS counts what is set aside of it.
type greedyFS struct {
	vfs.FS
	asked int
}

type greedyFile struct {
	vfs.File
	fs *greedyFS
}

func (f greedyFile) Preallocate(_, _ int64) error { f.fs.asked++; return nil }

func (g *greedyFS) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := g.FS.Create(name, category)
	return greedyFile{f, g}, err
}

func (g *greedyFS) OpenReadWrite(name string, category vfs.DiskWriteCategory, o ...vfs.OpenOption) (vfs.File, error) {
	f, err := g.FS.OpenReadWrite(name, category, o...)
	return greedyFile{f, g}, err
}

// TestLogSpace_SetsNothingAside: six logs of a young store must not take what six of the largest memtables fill, whichever way they were made.
func TestLogSpace_SetsNothingAside(t *testing.T) {
	g := &greedyFS{FS: vfs.NewMem()}
	if err := g.MkdirAll("store", 0o755); err != nil {
		t.Fatal(err)
	}
	s, err := newLogSpace(g, "store", testMemtable, roomy, unwarned)
	if err != nil {
		t.Fatal(err)
	}
	closes := func(f vfs.File, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(f.Preallocate(0, 36<<20), f.Close()); err != nil {
			t.Error(err)
		}
	}
	closes(s.Create("store/000001.log", logCreated))
	if err := s.make(t.Context(), s.size); err != nil {
		t.Fatal(err)
	}
	closes(s.Create("store/000002.log", logCreated))
	closes(s.ReuseForWrite("store/000002.log", "store/000003.log", logCreated))
	if g.asked != 0 {
		t.Errorf("space was set aside %d times", g.asked)
	}
}

// TestLogSpace_Run: a file is made when one is wanted, not while the disk is full, and what a stop has left is not trusted.
func TestLogSpace_Run(t *testing.T) {
	fs := vfs.NewMem()
	s := spaceOf(t, fs)
	if s, err := newLogSpace(fs, "store", testMemtable, roomy, unwarned); err != nil || s.state != noSpare {
		t.Fatalf("a spare file of an earlier process is trusted (%v)", err)
	}
	if _, err := fs.Stat("store/SPARE"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the spare file of an earlier process is left: %v", err)
	}
	s.set(noSpare)
	looked := make(chan struct{}, 1)
	s.room = func(int64) bool { looked <- struct{}{}; return false }
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { s.run(ctx); close(done) }()
	s.want()
	<-looked
	cancel()
	<-done
	if s.state != noSpare {
		t.Error("a full disk is filled further")
	}
}

// TestLogSpace_Stopped: a spare file whose making was cut short is never used.
func TestLogSpace_Stopped(t *testing.T) {
	s := spaceOf(t, vfs.NewMem())
	s.set(noSpare)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.make(ctx, s.size); err != nil || s.take(0) {
		t.Errorf("half a spare file is used (%v)", err)
	}
}

// TestLogSpace_Replayed: after a crash the rows are read from logs that end in zeros, and from those that others used before.
func TestLogSpace_Replayed(t *testing.T) {
	fs := vfs.NewCrashableMem()
	o := testOptions(fs)
	e := openTest(t, o)
	defer func() { _ = e.Close() }()
	const rows = 12
	for i := range rows {
		for _, lacks := e.logs.lacks(); lacks; _, lacks = e.logs.lacks() {
			time.Sleep(time.Millisecond)
		}
		if err := e.Flush(); err != nil { // the next log is made of the spare file, or of what the first flushes let go
			t.Fatal(err)
		}
		write(t, e, put(genPlain, pkey(i), "", 1, strings.Repeat("x", 100*(rows-i))))
		after := fs.CrashClone(vfs.CrashCloneCfg{})
		long := false
		names, err := after.List(o.Dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			long = long || strings.HasSuffix(name, ".log") && sizeOf(t, after, after.PathJoin(o.Dir, name)) >= logOf(firstMemtable)
		}
		if !long {
			t.Errorf("%d: no log was made of a spare file: %v", i, names)
		}
		p := testOptions(after)
		again := openTest(t, p)
		for k := range i + 1 {
			if got, _ := read(t, again, point(genPlain, pkey(k), "")); !strings.Contains(got, "x") {
				t.Errorf("row %d of %d is lost", k, i+1)
			}
		}
		if again.Suspect() {
			t.Error("the log is taken for one that has lost its end")
		}
		if err := again.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestLogSpace_Grows: logs are as long as their memtables, which are small at first and double: a store with little in it takes little space. A spare file that has become too
// short is made again.
func TestLogSpace_Grows(t *testing.T) {
	fs := vfs.NewMem()
	s, err := newLogSpace(fs, "", 4*firstMemtable, roomy, unwarned)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []int64{0, 2, 4, 4} { // there is none yet for the first
		name := fmt.Sprintf("%06d.log", i+1)
		f, err := s.Create(name, logCreated)
		if err := errors.Join(err, f.Close()); err != nil {
			t.Fatal(err)
		}
		if got := sizeOf(t, fs, name); got < want*logOf(firstMemtable) || got > logOf(want*firstMemtable) {
			t.Errorf("log %d has %d bytes, want %d", i, got, logOf(want*firstMemtable))
		}
		if err := s.make(t.Context(), s.size); err != nil {
			t.Fatal(err)
		}
	}
	s.made = logOf(firstMemtable)
	if size, lacks := s.lacks(); !lacks || size != s.most || s.take(0) {
		t.Errorf("one that is too short is kept: %d %v", size, lacks)
	}
}
