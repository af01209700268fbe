package storage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/helenusdb/helenus/internal/watermark"
	"github.com/helenusdb/helenus/row"
	"github.com/helenusdb/helenus/schema"
)

// clockAt makes o's clock settable.
func clockAt(o *Options, now *atomic.Int64) {
	o.Now = func() time.Time { return time.Unix(now.Load(), 0) }
}

// T1: a tombstone is purged while the data it shadows sits in the other places it can sit in. The data must not come back.
func TestScenario_T1_PurgeWithShadowedDataAnywhere(t *testing.T) {
	deletions := map[string]func() row.Mutation{
		"partition": func() row.Mutation {
			return mutation(genWide, pkey(1), func(f *row.FragmentBuilder) {
				f.PartitionDeletion(row.Deletion{Timestamp: 20, LocalTime: 1000})
			})
		},
		"range": func() row.Mutation {
			return mutation(genWide, pkey(1), func(f *row.FragmentBuilder) {
				f.RangeTombstone(row.RangeTombstone{Start: []byte("a"), End: []byte("z"), Deletion: row.Deletion{Timestamp: 20, LocalTime: 1000}})
			})
		},
		"row": func() row.Mutation {
			return mutation(genWide, pkey(1), func(f *row.FragmentBuilder) {
				var b row.Builder
				b.Reset(nil)
				b.SetDeletion(row.Deletion{Timestamp: 20, LocalTime: 1000})
				f.Row([]byte("k"), b.Finish())
			})
		},
	}
	for name, deletion := range deletions {
		for _, order := range []string{"data first", "tombstone first"} {
			for _, flush := range []int{0, 1, 2, 3} { // after the first write, after the second
				t.Run(fmt.Sprintf("%s/%s/flush=%d", name, order, flush), func(t *testing.T) {
					var now atomic.Int64
					now.Store(1000)
					o := testOptions(vfs.NewMem())
					clockAt(&o, &now)
					e := openTest(t, o)
					defer e.Close()
					ms := []row.Mutation{put(genWide, pkey(1), "k", 10, "old"), deletion()}
					if order == "tombstone first" {
						ms[0], ms[1] = ms[1], ms[0]
					}
					for i := range ms {
						write(t, e, ms[i])
						if flush&(1<<i) != 0 {
							if err := e.Flush(); err != nil {
								t.Fatal(err)
							}
						}
						read(t, e, point(genWide, pkey(1), "k")) // fills the row cache
					}
					now.Store(1000 + graceSeconds + clockSkewMax + 1)
					if s, err := e.Purge(context.Background(), genWide); err != nil || s.Changed == 0 {
						t.Fatalf("purge: %+v %v", s, err)
					}
					for _, cmd := range []row.Command{point(genWide, pkey(1), "k"), single(genWide, pkey(1))} {
						if got, page := read(t, e, cmd); got != "" || len(page.Data) != 0 {
							t.Errorf("after purge: %q, %d bytes", got, len(page.Data))
						}
					}
					if found, _ := e.AnyRows(genWide); found {
						t.Error("purge left something")
					}
				})
			}
		}
	}
}

// T5: after a drop no replay of the log brings rows back, also when the crash falls between the decision and the removal.
func TestScenario_T5_NoResurrectionAfterDrop(t *testing.T) {
	mem := vfs.NewCrashableMem()
	e := openTest(t, testOptions(mem))
	for i := range 50 {
		write(t, e, put(genWide, pkey(i), "a", 1, "x"), put(genOther, pkey(i), "a", 1, "y"))
	}
	if err := e.db.Set(appendTruncationKey(nil, genWide), []byte{truncationVersion, truncationPending}, pebble.Sync); err != nil {
		t.Fatal(err)
	}
	if err := e.DropGeneration(genOther); err != nil {
		t.Fatal(err)
	}
	clone := mem.CrashClone(vfs.CrashCloneCfg{})
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	e = openTest(t, testOptions(clone))
	defer e.Close()
	for _, gen := range []schema.Generation{genWide, genOther} {
		if found, err := e.AnyRows(gen); found || err != nil {
			t.Errorf("generation %d has rows after its drop: %v", gen, err)
		}
	}
	m := put(genWide, pkey(1), "a", 99, "hint")
	if err := e.Write(context.Background(), []row.Mutation{m}); !errors.Is(err, ErrUnknownTable) {
		t.Errorf("late write: %v", err)
	}
}

// pairs is a writer that pipelines batches of two partitions and counts acknowledgements in order.
type pairs struct {
	acked atomic.Int64 // all up to here
}

func (p *pairs) run(t *testing.T, e *Engine, n int) {
	var wg sync.WaitGroup
	b := e.NewBatch()
	for i := 1; i <= n; i++ {
		for _, half := range []string{"l", "r"} {
			m := put(genWide, []byte(fmt.Sprintf("%s%06d", half, i)), "a", 1, "x")
			if err := b.Apply(&m); err != nil {
				t.Error(err)
				return
			}
		}
		wg.Add(1)
		b.Commit(CommittedFunc(func(err error) {
			if err == nil && !p.acked.CompareAndSwap(int64(i-1), int64(i)) {
				t.Errorf("acknowledgement %d out of order", i)
			}
			wg.Done()
		}))
		if i%16 == 0 { // so that there are many syncs
			wg.Wait()
		}
	}
	wg.Wait()
}

// W1: a crash inside a file-system call, with nothing and with everything unsynced surviving: what was acknowledged is there, what
// was not is there as a whole batch or not at all, and in the order of the log.
func TestScenario_W1_CrashAtFileSystemCalls(t *testing.T) {
	for crash := range 60 {
		percent := 100 * (crash % 2)
		at := int64(1 + crash*3)
		mem := vfs.NewCrashableMem()
		var armed atomic.Bool
		var calls atomic.Int64
		var p pairs
		var clone *vfs.MemFS
		var acked int64
		fs := errorfs.Wrap(mem, errorfs.InjectorFunc(func(errorfs.Op) error {
			if armed.Load() && calls.Add(1) == at {
				acked = p.acked.Load() // before the clone: the clone must have it
				clone = mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: percent, RNG: testRand(uint64(crash))})
			}
			return nil
		}))
		o := testOptions(fs)
		o.MemtableBytes = 64 << 10
		e := openTest(t, o)
		armed.Store(true)
		p.run(t, e, 2000)
		armed.Store(false)
		if err := e.Close(); err != nil {
			t.Fatal(err)
		}
		if clone == nil {
			t.Fatalf("crash %d: only %d calls", crash, calls.Load())
		}
		checkPairs(t, crash, clone, acked)
		if t.Failed() {
			return
		}
	}
}

func checkPairs(t *testing.T, crash int, fs vfs.FS, acked int64) {
	t.Helper()
	e := openTest(t, testOptions(fs))
	defer e.Close()
	if e.Suspect() {
		t.Errorf("crash %d: suspect though nothing was lost", crash)
	}
	have := func(half string, i int64) bool {
		got, _ := read(t, e, point(genWide, []byte(fmt.Sprintf("%s%06d", half, i)), "a"))
		return got != ""
	}
	last := int64(0)
	for i := int64(1); i <= 2000; i++ {
		l, r := have("l", i), have("r", i)
		if l != r {
			t.Errorf("crash %d: half of batch %d", crash, i)
		}
		if l && last != i-1 {
			t.Errorf("crash %d: batch %d without %d", crash, i, i-1)
		}
		if l {
			last = i
		}
	}
	if last < acked {
		t.Errorf("crash %d: %d batches, %d were acknowledged", crash, last, acked)
	}
}

// A log that lost its tail after the watermark was written is noticed, and stays so over restarts until the node has synced again.
func TestShortLogTailIsNoticed(t *testing.T) {
	mem := vfs.NewCrashableMem()
	e := openTest(t, testOptions(mem))
	write(t, e, put(genPlain, pkey(1), "", 1, "x"))
	before := mem.CrashClone(vfs.CrashCloneCfg{})
	write(t, e, put(genPlain, pkey(2), "", 1, "x"))
	if err := e.beat(false); err != nil {
		t.Fatal(err)
	}
	// The newer watermark beside the older log.
	after := mem.CrashClone(vfs.CrashCloneCfg{})
	copyFile(t, after, before, "data/"+watermark.Name)
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		e = openTest(t, testOptions(before))
		if !e.Suspect() {
			t.Error("a short log was not noticed")
		}
		if s, err := e.Purge(context.Background(), genPlain); err != nil || s.Seen != 0 {
			t.Errorf("a suspect node purges: %+v %v", s, err)
		}
		if err := e.Close(); err != nil {
			t.Fatal(err)
		}
	}
	e = openTest(t, testOptions(before))
	if err := e.ClearSuspect(); err != nil {
		t.Fatal(err)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	e = openTest(t, testOptions(before))
	defer e.Close()
	if e.Suspect() {
		t.Error("suspect after ClearSuspect")
	}
}

// A power loss at any call of the file system while a store is created, before anything was acknowledged, is no short tail.
func TestCreationCutShortIsNotSuspect(t *testing.T) {
	for at, more := int64(1), true; more; at += 1 {
		mem := vfs.NewCrashableMem()
		var calls atomic.Int64
		var clone *vfs.MemFS
		fs := errorfs.Wrap(mem, errorfs.InjectorFunc(func(errorfs.Op) error {
			if calls.Add(1) == at {
				clone = mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: int(at%3) * 50, RNG: testRand(uint64(at))})
			}
			return nil
		}))
		e := openTest(t, testOptions(fs))
		if err := e.Close(); err != nil {
			t.Fatal(err)
		}
		if more = clone != nil; !more {
			return
		}
		e = openTest(t, testOptions(clone))
		if e.Suspect() {
			t.Errorf("power loss at call %d: suspect", at)
		}
		if err := e.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func copyFile(t *testing.T, from, to vfs.FS, name string) {
	t.Helper()
	f, err := from.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	data := make([]byte, 2*4096)
	n, _ := f.ReadAt(data, 0)
	w, err := to.OpenReadWrite(name, vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.WriteAt(data[:n], 0); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(w.Sync(), w.Close()); err != nil {
		t.Fatal(err)
	}
}

// W4: one fsync of the log fails and the next ones would work. The process ends and nothing is acknowledged after it.
func TestScenario_W4_FailedFsyncEndsTheProcess(t *testing.T) {
	for _, mode := range []SyncMode{Group, Batched} {
		t.Run(mode.String(), func(t *testing.T) {
			var armed, failed atomic.Bool
			fs := errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
				sync := op.Kind == errorfs.OpFileSync || op.Kind == errorfs.OpFileSyncData || op.Kind == errorfs.OpFileSyncTo
				if sync && strings.HasSuffix(op.Path, ".log") && armed.CompareAndSwap(true, false) {
					return syscall.EIO
				}
				return nil
			}))
			fatal := make(chan error, 1)
			o := testOptions(fs)
			o.Sync = mode
			o.Fatal = func(err error) { failed.Store(true); fatal <- err }
			e := openTest(t, o)
			write(t, e, put(genPlain, pkey(1), "", 1, "x"))
			armed.Store(true)
			var acks atomic.Int64
			b := e.NewBatch()
			for i := range 100 {
				m := put(genPlain, pkey(i), "", 2, "y")
				if b.Apply(&m) != nil {
					break
				}
				b.Commit(CommittedFunc(func(err error) {
					if err == nil && failed.Load() {
						acks.Add(1)
					}
				}))
			}
			select {
			case err := <-fatal:
				if !errors.Is(err, syscall.EIO) {
					t.Errorf("fatal: %v", err)
				}
			case <-time.After(10 * time.Second):
				t.Fatal("the process was not ended")
			}
			if err := e.Write(context.Background(), []row.Mutation{put(genPlain, pkey(1), "", 3, "z")}); !errors.Is(err, ErrFailed) {
				t.Errorf("write after the failure: %v", err)
			}
			time.Sleep(20 * time.Millisecond)
			if n := acks.Load(); n != 0 {
				t.Errorf("%d acknowledgements after the failure", n)
			}
			e.stop()
		})
	}
}

// W4, second half: a table that cannot be written ends the process; one that does not fit on the disk only refuses writes until
// space is there.
func TestScenario_W4_FailedFlush(t *testing.T) {
	for _, errno := range []syscall.Errno{syscall.EIO, syscall.ENOSPC} {
		t.Run(errno.Error(), func(t *testing.T) {
			var armed atomic.Bool
			fs := errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
				if op.Kind == errorfs.OpFileWrite && strings.HasSuffix(op.Path, ".sst") && armed.CompareAndSwap(true, false) {
					return errno
				}
				return nil
			}))
			fatal := make(chan error, 1)
			o := testOptions(fs)
			o.ReserveBytes = mib
			o.FreeSpace = func() (uint64, error) { return 100 * mib, nil }
			o.FreeSpaceInterval = time.Hour
			o.Fatal = func(err error) { fatal <- err }
			e := openTest(t, o)
			write(t, e, put(genPlain, pkey(1), "", 1, "x"))
			armed.Store(true)
			flushed := make(chan error, 1)
			go func() { flushed <- e.Flush() }()
			m := []row.Mutation{put(genPlain, pkey(1), "", 2, "y")}
			if errno == syscall.EIO {
				if err := <-fatal; !errors.Is(err, errno) {
					t.Errorf("fatal: %v", err)
				}
				if err := e.Write(context.Background(), m); !errors.Is(err, ErrFailed) {
					t.Errorf("write after it: %v", err)
				}
				<-flushed
				e.stop()
				return
			}
			await(t, "refusal", func() bool { return errors.Is(e.Write(context.Background(), m), ErrDiskFull) })
			<-flushed // Pebble tries again
			if err := e.reserve.look(); err != nil {
				t.Fatal(err)
			}
			write(t, e, m...)
			if err := e.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

// W5: below the reserve writes are refused with a clear error, reads go on, deleting is possible, and writes are taken again when
// space is there, without a restart.
func TestScenario_W5_DiskFull(t *testing.T) {
	var free atomic.Uint64
	free.Store(100 * mib)
	o := testOptions(vfs.NewMem())
	o.ReserveBytes = 10 * mib
	o.FreeSpace = func() (uint64, error) { return free.Load(), nil }
	o.FreeSpaceInterval = time.Millisecond
	e := openTest(t, o)
	defer e.Close()
	write(t, e, put(genPlain, pkey(1), "", 1, "x"))
	free.Store(9 * mib)
	try := func() error {
		return e.Write(context.Background(), []row.Mutation{put(genPlain, pkey(2), "", 1, "y")})
	}
	await(t, "refusal", func() bool { return errors.Is(try(), ErrDiskFull) })
	if got, _ := read(t, e, single(genPlain, pkey(1))); got == "" {
		t.Error("no reads on a full disk")
	}
	b := e.NewBatch()
	if err := b.Set(SpaceHints, []byte("h"), nil); !errors.Is(err, ErrDiskFull) {
		t.Errorf("hint on a full disk: %v", err)
	}
	if err := b.Delete(SpaceHints, []byte("h")); err != nil {
		t.Errorf("delete on a full disk: %v", err)
	}
	if err := e.CommitWait(context.Background(), b); err != nil {
		t.Error(err)
	}
	if err := e.DropGeneration(genOther); err != nil {
		t.Errorf("drop on a full disk: %v", err)
	}
	free.Store(100 * mib)
	await(t, "recovery", func() bool { return try() == nil })
}

// Without a reserve a full disk refuses writes too, and they go on when there is room, without a restart.
func TestNoReserve(t *testing.T) {
	var free atomic.Uint64
	free.Store(5)
	o := Options{ReserveBytes: -1, Metrics: new(Metrics), Logger: slog.New(slog.DiscardHandler), FreeSpace: func() (uint64, error) { return free.Load(), nil }}
	var r reserve
	r.init(&o)
	for _, step := range []struct {
		free  uint64
		empty bool // a flush has met a full disk
		full  bool
	}{{5, false, false}, {0, true, true}, {0, false, true}, {1 << 20, false, false}} {
		if step.empty {
			r.empty()
		}
		free.Store(step.free)
		if err := r.look(); err != nil || r.exhausted() != step.full {
			t.Errorf("%+v: exhausted %v, %v", step, r.exhausted(), err)
		}
		if got := o.Metrics.FreeBytes.Load(); got != int64(step.free) {
			t.Errorf("the metric says %d free bytes, want %d", got, step.free)
		}
	}
	o.FreeSpace = func() (uint64, error) { return 0, errors.New("no idea") }
	r.empty()
	if err := r.look(); err != nil || r.exhausted() {
		t.Errorf("a file system that cannot tell: %v, exhausted %v", err, r.exhausted())
	}
}

// W5, second half: between two looks at the free space, what was written counts.
func TestScenario_W5_FastWriters(t *testing.T) {
	o := testOptions(vfs.NewMem())
	o.ReserveBytes, o.FreeSpaceInterval = mib, time.Hour
	o.FreeSpace = func() (uint64, error) { return mib + 5000, nil }
	e := openTest(t, o)
	defer e.Close()
	taken := 0
	for i := range 100 {
		err := e.Write(context.Background(), []row.Mutation{put(genPlain, pkey(i), "", 1, string(make([]byte, 100)))})
		if errors.Is(err, ErrDiskFull) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		taken++
	}
	if taken == 0 || taken > 5000/200 {
		t.Errorf("%d writes of 100 bytes were taken into 5000 bytes", taken)
	}
}

// A drop while folds, purges and writes of the same generation run leaves nothing of it behind.
func TestDropAgainstFoldAndPurge(t *testing.T) {
	for round := range 30 {
		var now atomic.Int64
		now.Store(1000)
		o := testOptions(vfs.NewMem())
		o.FoldOperands, o.Stripes = 2, 2
		clockAt(&o, &now)
		e := openTest(t, o)
		for i := range 40 {
			for ts := range 3 {
				write(t, e, put(genWide, pkey(i), "k", int64(ts), "v"))
			}
			write(t, e, mutation(genWide, pkey(i), func(f *row.FragmentBuilder) {
				f.RangeTombstone(row.RangeTombstone{Start: []byte("k"), Deletion: row.Deletion{Timestamp: 1, LocalTime: 1000}})
			}))
		}
		now.Store(100_000)
		var wg sync.WaitGroup
		wg.Add(2)
		go func() {
			defer wg.Done()
			for i := range 40 {
				var page row.Page
				cmd := single(genWide, pkey(i))
				if _, err := e.Read(&cmd, &page); err != nil && !errors.Is(err, ErrUnknownTable) {
					t.Error(err)
				}
			}
		}()
		go func() {
			defer wg.Done()
			if _, err := e.Purge(context.Background(), genWide); err != nil && !errors.Is(err, ErrUnknownTable) {
				t.Error(err)
			}
		}()
		time.Sleep(time.Duration(round*20) * time.Microsecond)
		if err := e.DropGeneration(genWide); err != nil {
			t.Fatal(err)
		}
		wg.Wait()
		if err := e.Close(); err != nil {
			t.Fatal(err)
		}
		e = openTest(t, func() Options { o.Metrics = nil; return o }())
		if found, err := e.AnyRows(genWide); found || err != nil {
			t.Fatalf("round %d: rows after the drop: %v", round, err)
		}
		if err := e.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func await(t *testing.T, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if f() {
			return
		}
	}
	t.Fatalf("no %s", what)
}

// W13: two processes on one directory.
func TestScenario_W13_SecondProcessIsRefused(t *testing.T) {
	o := testOptions(vfs.Default)
	o.Dir = t.TempDir()
	e := openTest(t, o)
	if _, err := Open(context.Background(), o); !errors.Is(err, ErrLocked) {
		t.Errorf("second open: %v", err)
	}
	write(t, e, put(genPlain, pkey(1), "", 1, "x")) // the first one is not harmed
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	e = openTest(t, o)
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestOlderFormatIsRefused(t *testing.T) {
	fs := vfs.NewMem()
	db, err := pebble.Open("data", &pebble.Options{FS: fs, FormatMajorVersion: FormatMajorVersion - 1})
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	w, err := openWatermark(fs, "data")
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(context.Background(), testOptions(fs)); !errors.Is(err, ErrFormat) {
		t.Errorf("open: %v", err)
	}
}

// A kill while the store was created leaves Pebble's lowest format and no watermark; nothing was kept in it, so the next
// start goes on.
func TestCreationCutShortIsContinued(t *testing.T) {
	fs := vfs.NewMem()
	half := newEngine(testOptions(fs).withDefaults()).pebbleOptions()
	half.FormatMajorVersion = pebble.FormatMinSupported
	db, err := pebble.Open("data", half)
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	e := openTest(t, testOptions(fs))
	if got := e.db.FormatMajorVersion(); got != FormatMajorVersion || e.Suspect() {
		t.Errorf("format %d, suspect %t", got, e.Suspect())
	}
	write(t, e, put(genPlain, pkey(1), "", 1, "x"))
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
}

// A read names what it saw and is not durable, and WhenSynced tells when it is.
func TestReadOfUnsyncedWriteWaits(t *testing.T) {
	gate := make(chan struct{})
	var armed atomic.Bool
	fs := errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
		sync := op.Kind == errorfs.OpFileSync || op.Kind == errorfs.OpFileSyncData || op.Kind == errorfs.OpFileSyncTo
		if sync && strings.HasSuffix(op.Path, ".log") && armed.Load() {
			<-gate
		}
		return nil
	}))
	e := openTest(t, testOptions(fs))
	write(t, e, put(genPlain, pkey(1), "", 1, "x"))
	armed.Store(true)
	b := e.NewBatch()
	m := put(genPlain, pkey(1), "", 2, "y")
	if err := b.Apply(&m); err != nil {
		t.Fatal(err)
	}
	acked := make(chan error, 1)
	b.Commit(CommittedFunc(func(err error) { acked <- err }))
	var page row.Page
	cmd := single(genPlain, pkey(1))
	seq, err := e.Read(&cmd, &page)
	if err != nil || seq == 0 || e.Synced(seq) {
		t.Fatalf("read of an unsynced write: seq %d %v", seq, err)
	}
	if got := pageText(t, &page, 1); !strings.Contains(got, "=y") {
		t.Fatalf("the write is not visible: %q", got)
	}
	synced := make(chan error, 1)
	e.WhenSynced(seq, CommittedFunc(func(err error) { synced <- err }))
	select {
	case <-synced:
		t.Fatal("the read was answered before the write was durable")
	case <-acked:
		t.Fatal("the write was acknowledged before it was durable")
	case <-time.After(20 * time.Millisecond):
	}
	armed.Store(false)
	close(gate)
	<-acked
	<-synced
	if seq, err := e.Read(&cmd, &page); seq != 0 || err != nil {
		t.Errorf("read after the sync: %d %v", seq, err)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestSyncMakesPeriodicDurable: what must not wait for the period is synced by Sync.
func TestSyncMakesPeriodicDurable(t *testing.T) {
	fs := vfs.NewCrashableMem()
	o := testOptions(fs)
	o.Sync, o.PeriodicInterval = Periodic, time.Hour
	e := openTest(t, o)
	set := func(v string) {
		b := e.NewBatch()
		if err := b.Set(SpaceNode, []byte("clock"), []byte(v)); err != nil {
			t.Fatal(err)
		}
		if err := e.CommitWait(context.Background(), b); err != nil {
			t.Fatal(err)
		}
	}
	set("1")
	if err := e.Sync(); err != nil {
		t.Fatal(err)
	}
	set("2")
	o.FS = fs.CrashClone(vfs.CrashCloneCfg{})
	again := openTest(t, o)
	got, found, err := again.Space(SpaceNode).Get([]byte("clock"))
	if string(got) != "1" || !found || err != nil {
		t.Errorf("after the crash: %q %v %v, want what was synced and nothing else", got, found, err)
	}
	if err := errors.Join(again.Close(), e.Close()); err != nil {
		t.Fatal(err)
	}
	if err := e.Sync(); !errors.Is(err, ErrClosed) {
		t.Errorf("Sync after Close: %v", err)
	}
}

func TestPeriodicAcknowledgesAtOnce(t *testing.T) {
	o := testOptions(vfs.NewMem())
	o.Sync, o.PeriodicInterval = Periodic, time.Millisecond
	e := openTest(t, o)
	acked := false
	b := e.NewBatch()
	m := put(genPlain, pkey(1), "", 2, "y")
	if err := b.Apply(&m); err != nil {
		t.Fatal(err)
	}
	b.Commit(CommittedFunc(func(error) { acked = true }))
	if !acked {
		t.Error("not acknowledged at once")
	}
	var page row.Page
	cmd := single(genPlain, pkey(1))
	if seq, err := e.Read(&cmd, &page); seq != 0 || err != nil || page.Rows != 1 {
		t.Errorf("read: seq %d, %v", seq, err)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestSpaces(t *testing.T) {
	e := openMem(t)
	s := e.Space(SpaceHints)
	b := e.NewBatch()
	for _, k := range []string{"a1", "a2", "b1"} {
		if err := b.Set(SpaceHints, []byte(k), []byte("v"+k)); err != nil {
			t.Fatal(err)
		}
	}
	m := put(genPlain, pkey(1), "", 1, "with the hints")
	if err := b.Apply(&m); err != nil {
		t.Fatal(err)
	}
	if err := e.CommitWait(context.Background(), b); err != nil {
		t.Fatal(err)
	}
	scan := func(start, end []byte) (out []string) {
		if err := s.Scan(start, end, func(k, v []byte) bool { out = append(out, string(k)+"="+string(v)); return true }); err != nil {
			t.Fatal(err)
		}
		return out
	}
	if got := fmt.Sprint(scan([]byte("a2"), nil)); got != "[a2=va2 b1=vb1]" {
		t.Error(got)
	}
	if err := errors.Join(b.DeleteRange(SpaceHints, []byte("a"), []byte("b")), e.CommitWait(context.Background(), b)); err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(scan(nil, nil)); got != "[b1=vb1]" {
		t.Error(got)
	}
	if v, ok, err := s.Get([]byte("b1")); !ok || err != nil || !bytes.Equal(v, []byte("vb1")) {
		t.Errorf("%q %v %v", v, ok, err)
	}
	if _, ok, err := s.Get([]byte("a1")); ok || err != nil {
		t.Errorf("deleted key: %v %v", ok, err)
	}
}

func TestFoldAfterReadOfManyOperands(t *testing.T) {
	e := openMem(t)
	b := e.NewBatch()
	var wg sync.WaitGroup
	for i := range 500 {
		m := put(genWide, pkey(1), "k", int64(i), fmt.Sprint(i))
		if err := b.Apply(&m); err != nil {
			t.Fatal(err)
		}
		wg.Add(1)
		b.Commit(CommittedFunc(func(error) { wg.Done() }))
	}
	wg.Wait()
	if got, _ := read(t, e, single(genWide, pkey(1))); got != "00000001/k=499 " {
		t.Fatal(got)
	}
	await(t, "fold", func() bool { return e.opts.Metrics.Folds.Load() == 1 })
	if n := e.opts.Metrics.FoldedOperand.Load(); n != 500 {
		t.Errorf("%d operands folded", n)
	}
	write(t, e, put(genWide, pkey(1), "k", 1000, "new"))
	if got, _ := read(t, e, single(genWide, pkey(1))); got != "00000001/k=new " {
		t.Fatal(got)
	}
}
