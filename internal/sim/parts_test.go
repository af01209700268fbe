package sim

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"path"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cespare/xxhash/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/helenusdb/helenus/gossip"
	"github.com/helenusdb/helenus/internal/memnet"
	"github.com/helenusdb/helenus/ring"
	"github.com/helenusdb/helenus/storage"
)

// TestPlanIsAFunctionOfTheSeed: two plans of a seed are equal, those of different seeds are not, a prefix is a prefix, and every
// fault happens in an instant of its own.
func TestPlanIsAFunctionOfTheSeed(t *testing.T) {
	for _, s := range Scenarios() {
		a, b := makePlan(7, s, true, time.Minute, -1), makePlan(7, s, true, time.Minute, -1)
		if a.String() != b.String() || fmt.Sprint(a.schedule) != fmt.Sprint(b.schedule) {
			t.Errorf("%s: two plans of a seed differ", s.Name)
		}
		if s.Name == "calm" {
			continue
		}
		if c := makePlan(8, s, true, time.Minute, -1); fmt.Sprint(a.schedule) == fmt.Sprint(c.schedule) {
			t.Errorf("%s: two seeds have one schedule", s.Name)
		}
		whole := makePlan(7, s, false, time.Minute, -1).schedule
		if part := makePlan(7, s, false, time.Minute, 3).schedule; fmt.Sprint(part) != fmt.Sprint(whole[:3]) {
			t.Errorf("%s: three faults are %v, the first of all %v", s.Name, part, whole[:3])
		}
		for i := 1; i < len(whole); i++ {
			if whole[i].At <= whole[i-1].At {
				t.Errorf("%s: fault %d at %s, after %s", s.Name, i, whole[i].At, whole[i-1].At)
			}
		}
	}
}

// TestSwarmDiffers: over many seeds every kind of fault and every feature is on in some and off in others.
func TestSwarmDiffers(t *testing.T) {
	s, err := ScenarioNamed("registers")
	if err != nil {
		t.Fatal(err)
	}
	kinds, lwt := map[Kind]int{}, 0
	const seeds = 200
	for seed := range uint64(seeds) {
		p := makePlan(seed+1, s, true, time.Second, -1)
		for _, w := range p.kinds {
			kinds[w.kind]++
		}
		if p.features.LWT {
			lwt++
		}
	}
	for _, w := range s.faults {
		if n := kinds[w.kind]; n < seeds/4 || n > seeds*3/4 {
			t.Errorf("%s is on in %d of %d seeds", w.kind, n, seeds)
		}
	}
	if lwt < seeds/4 || lwt == seeds {
		t.Errorf("LWT is on in %d of %d seeds", lwt, seeds)
	}
}

// TestLatency: it is positive, a function of flow and instant, and two flows never end in one nanosecond.
func TestLatency(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWeather(draw(1), 5)
		flows := map[string]*memnet.Flow{}
		n := memnet.New(memnet.Options{Latency: func(f *memnet.Flow) time.Duration {
			flows[f.From+">"+f.To] = f
			return w.latency(f)
		}})
		l, err := n.Host("10.0.0.2").Listen(":7000")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		c, err := n.Host("10.0.0.1").Dial(t.Context(), "10.0.0.2:7000")
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		there, back := flows["10.0.0.1>10.0.0.2"], flows["10.0.0.2>10.0.0.1"]
		for range 10_000 {
			a, b := w.latency(there), w.latency(back)
			if a <= 0 || a != w.latency(there) {
				t.Fatalf("latency %s, then %s", a, w.latency(there))
			}
			if a%(1<<slotBits) == b%(1<<slotBits) {
				t.Fatalf("two flows end in one nanosecond: %s, %s", a, b)
			}
			time.Sleep(12345)
		}
	})
}

// TestAfterCrash: what was synced is there, what was not is there with the chance given, and the same draw gives the same disk.
func TestAfterCrash(t *testing.T) {
	write := func(fs *vfs.MemFS) {
		t.Helper()
		if err := errors.Join(fs.MkdirAll("data/store", 0o755), syncDir(fs, "/"), syncDir(fs, "data")); err != nil {
			t.Fatal(err)
		}
		f, err := fs.Create("data/store/1.log", vfs.WriteCategoryUnspecified)
		if err != nil {
			t.Fatal(err)
		}
		if err := syncDir(fs, "data/store"); err != nil {
			t.Fatal(err)
		}
		_, err = f.Write(bytes.Repeat([]byte{1}, 10_000))
		if err := errors.Join(err, f.Sync()); err != nil {
			t.Fatal(err)
		}
		if _, err := f.Write(bytes.Repeat([]byte{2}, 90_000)); err != nil {
			t.Fatal(err)
		}
	}
	for _, keep := range []int{0, 30, 70, 100} {
		var first []byte
		for range 2 {
			mem := vfs.NewCrashableMem()
			write(mem)
			left, err := afterCrash(mem, keep, draw(9))
			if err != nil {
				t.Fatal(err)
			}
			got, err := contents(left, "data/store/1.log")
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got[:10_000], bytes.Repeat([]byte{1}, 10_000)) {
				t.Errorf("keep %d: what was synced is gone", keep)
			}
			if share := bytes.Count(got, []byte{2}) * 100 / 90_000; share < keep-20 || share > keep+20 {
				t.Errorf("keep %d: %d%% survived", keep, share)
			}
			if first != nil && !bytes.Equal(first, got) {
				t.Errorf("keep %d: the same draw left two disks", keep)
			}
			first = got
		}
	}
}

// TestTrap: it springs in the first call of its class, or behind those that it skips, once.
func TestTrap(t *testing.T) {
	d := newLifeDisk(vfs.NewCrashableMem(), &marks{})
	sprung := 0
	d.arm(&trap{class: "store log sync", spring: func() error { sprung++; return errIO }})
	if err := d.MkdirAll("data/store", 0o755); err != nil {
		t.Fatal(err)
	}
	f, err := d.Create("data/store/2.log", vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write([]byte("x")); err != nil || sprung != 0 {
		t.Fatalf("write: %v, %d", err, sprung)
	}
	if err := f.Sync(); !errors.Is(err, syscall.EIO) {
		t.Errorf("sync: %v", err)
	}
	if err := f.Sync(); err != nil || sprung != 1 || d.disarm() {
		t.Errorf("second sync: %v, sprung %d times", err, sprung)
	}
	d.arm(&trap{class: "store log sync", skip: 2, spring: func() error { sprung++; return errIO }})
	for i := range 4 {
		if err := f.Sync(); errors.Is(err, syscall.EIO) != (i == 2) {
			t.Errorf("sync %d: %v", i, err)
		}
	}
	if sprung != 2 {
		t.Errorf("sprung %d times", sprung)
	}
	d.noRoom.Store(true)
	if _, err := f.Write([]byte("x")); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("write without room: %v", err)
	}
	d.full.Store(true)
	if u, err := d.GetDiskUsage("data"); err != nil || u.AvailBytes != 0 {
		t.Errorf("a full disk has %d bytes, %v", u.AvailBytes, err)
	}
	if got := classOf(errorfs.Op{Kind: errorfs.OpFileSync, Path: "data/meta/000002.log"}); got != "meta log sync" {
		t.Errorf("class %q", got)
	}
}

// TestFlip: a flip changes one bit, and the same flip changes it back.
func TestFlip(t *testing.T) {
	fs := vfs.NewMem()
	if err := put(fs, "a", []byte("some bytes")); err != nil {
		t.Fatal(err)
	}
	f, ok, err := pickFlip(fs, &marks{}, false, draw(3))
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	for i, same := range []bool{false, true} {
		if err := f.apply(fs); err != nil {
			t.Fatal(err)
		}
		if b, err := contents(fs, "a"); err != nil || (string(b) == "some bytes") != same {
			t.Errorf("after flip %d: %q %v", i, b, err)
		}
	}
}

// TestFlipsWhereTheWatermarkIs: no bit flips in what the log of the rows holds beyond the watermark before the last, in every other file
// any does.
func TestFlipsWhereTheWatermarkIs(t *testing.T) {
	fs, m := vfs.NewMem(), &marks{}
	write := func(name string, bytes int) {
		t.Helper()
		long := bytes // the file of a log is longer than what was written to it
		if isLog(name) && path.Dir(name) == rowsDir {
			long += 1000
			m.wrote(name, bytes-int(m.written[path.Base(name)]))
		}
		if err := errors.Join(fs.MkdirAll(path.Dir(name), 0o755), put(fs, name, make([]byte, long))); err != nil {
			t.Fatal(err)
		}
	}
	look := func(want map[string]int64) {
		t.Helper()
		files, err := flippable(fs, "/", m)
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]int64{}
		for _, f := range files {
			got[f.name] = f.bytes
		}
		if !maps.Equal(got, want) {
			t.Errorf("bits may flip in %v, not in %v", got, want)
		}
	}
	const old, log, other = "/data/store/000002.log", "/data/store/000004.log", "/data/meta/000002.log"
	write(old, 100)
	write(other, 7)
	look(map[string]int64{other: 7}) // nothing of an open log is covered before the second watermark
	m.marked(fs)
	look(map[string]int64{other: 7})
	m.marked(fs)
	write(old, 300)
	look(map[string]int64{old: 100, other: 7})
	write(log, 10)
	m.marked(fs)
	look(map[string]int64{old: 100, other: 7})
	write(log, 20)
	m.marked(fs)
	look(map[string]int64{old: 300, log: 10, other: 7})
	for seed := range draw(20) {
		if f, ok, err := pickFlip(fs, m, true, seed); err != nil || !ok || f.name != log || f.at >= 10 {
			t.Errorf("flip %v %v %v", f, ok, err)
		}
	}
}

// TestFlipsInWhatANodeHasWritten: nodes name their files as they like; what they write to the log of the rows is where bits may flip.
func TestFlipsInWhatANodeHasWritten(t *testing.T) {
	m := &marks{}
	mem := vfs.NewCrashableMem()
	d := newLifeDisk(mem, m)
	name := path.Join(dataDir, storage.StoreDir, "000002.log")
	if err := d.MkdirAll(path.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	f, err := d.Create(name, vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write(make([]byte, 100)); err != nil {
		t.Fatal(err)
	}
	m.marked(mem)
	m.marked(mem)
	if flip, ok, err := pickFlip(mem, m, true, 1); err != nil || !ok || flip.name != "/"+name || flip.at >= 100 {
		t.Errorf("flip %v %v %v", flip, ok, err)
	}
}

// TestClock: offset, drift, jumps and a clock that stands still.
func TestClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c clock
		c.set(time.Second, 1_000_000) // gains 1 ms per second
		off := func() time.Duration { return time.Until(c.now()).Round(time.Microsecond) }
		if off() != time.Second {
			t.Errorf("offset %s", off())
		}
		time.Sleep(10 * time.Second)
		if off() != time.Second+10*time.Millisecond {
			t.Errorf("after 10 s %s", off())
		}
		c.jump(-3 * time.Second)
		if off() != -2*time.Second+10*time.Millisecond {
			t.Errorf("after the jump %s", off())
		}
		c.freeze(true)
		before := c.now()
		time.Sleep(time.Minute)
		if !c.now().Equal(before) {
			t.Error("a frozen clock runs")
		}
		c.freeze(false)
		if c.now().Sub(before) < time.Minute {
			t.Error("it has lost the time that it stood still")
		}
	})
}

// TestQuiesce: it waits for whoever runs, and not for who waits for a lock that the caller holds.
func TestQuiesce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ran := make(chan int, 1)
		go func() {
			n := 0
			for range 50_000_000 {
				n++
			}
			ran <- n
		}()
		quiesce()
		if len(ran) != 1 {
			t.Error("somebody still runs")
		}
		<-ran
	})
	for line, want := range map[string]bool{
		"goroutine 7 [chan receive (durable), synctest bubble 1]:": false,
		"goroutine 7 [sync.Mutex.Lock, synctest bubble 1]:":        false,
		"goroutine 7 [running, synctest bubble 1]:":                true,
		"goroutine 7 [runnable, synctest bubble 1]:":               true,
		"goroutine 7 [runnable]:":                                  false,
	} {
		if got := isBusy([]byte(line)); got != want {
			t.Errorf("%s: busy %v", line, got)
		}
	}
}

// frame returns a frame as docs/format/rpc.md draws it.
func frame(verb byte, id byte, body string) []byte {
	b := make([]byte, frameHeader+len(body))
	b[4], b[8], b[9], b[idAt] = byte(len(body)), 1, verb, id
	copy(b[frameHeader:], body)
	return b
}

// TestFramesHashAsASet: neither the order of frames of one instant, nor their ids, nor how they were cut into writes count.
func TestFramesHashAsASet(t *testing.T) {
	hello := make([]byte, helloBytes)
	sum := func(instants ...[]byte) uint64 {
		f, d := newFrames(true), xxhash.New()
		for _, b := range instants {
			f.hash(d, b)
		}
		return d.Sum64()
	}
	one, two := frame(1, 5, "one"), frame(2, 6, "two")
	want := sum(append(append(bytes.Clone(hello), one...), two...))
	if got := sum(append(append(bytes.Clone(hello), frame(2, 5, "two")...), frame(1, 6, "one")...)); got != want {
		t.Error("order or ids count")
	}
	if got := sum(append(append(bytes.Clone(hello), one...), frame(2, 6, "twO")...)); got == want {
		t.Error("bodies do not count")
	}
	if got := sum(hello, append(bytes.Clone(one), two[:7]...), two[7:]); got != want {
		t.Error("a frame in two pieces is another one")
	}
}

// TestDetectorsDisagree: when a path is cut in one direction, the one who hears nothing convicts and the other does not; when it is
// open again, it forgives.
func TestDetectorsDisagree(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var cut atomic.Bool
		v := newGrapevine(draw(1), 9, func(from, _ int) bool { return !cut.Load() || from != 0 })
		id := func(i int) ring.HostID { return ring.HostID{byte(i + 1)} }
		var ds []*detector
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		defer func() { cancel(); running.Wait() }()
		for i := range 2 {
			d := v.detector(i, gossip.Options{HostID: id(i), Generation: 1, Now: time.Now})
			ds = append(ds, d)
			running.Go(func() { _ = d.Run(ctx) })
			time.Sleep(7 * time.Nanosecond)
		}
		time.Sleep(time.Second)
		believe := func(zero, one bool) {
			t.Helper()
			if ds[1].Alive(id(0)) != zero || ds[0].Alive(id(1)) != one {
				t.Errorf("1 believes 0 alive: %v, 0 believes 1 alive: %v", ds[1].Alive(id(0)), ds[0].Alive(id(1)))
			}
		}
		believe(true, true)
		cut.Store(true)
		time.Sleep(convictMin - watchEvery)
		believe(true, true)
		time.Sleep(convictMax)
		believe(false, true)
		cut.Store(false)
		time.Sleep(forgiveMax + 2*watchEvery)
		believe(true, true)
		if err := ds[0].Leave(t.Context()); err != nil {
			t.Error(err)
		}
		if st, _ := ds[1].State(id(0)); st.Alive || !st.Left {
			t.Errorf("after a farewell: %+v", st)
		}
	})
}
