package sim

import (
	"context"
	"log/slog"
	"time"
)

// inject carries the schedule out, each fault on a goroutine of its own, until ctx ends; then every fault is taken back. It
// returns when all are.
func (w *World) inject(ctx context.Context) {
	begin := time.Now()
	for i, f := range w.plan.schedule {
		if !sleep(ctx, time.Until(begin.Add(f.At))) {
			break
		}
		if f = w.aimed(f); f.Host < 0 {
			continue
		}
		act := w.actions()[f.Kind]
		w.faults.Go(func() {
			if act(ctx, f) {
				w.count(f.Kind)
				w.trace.add("fault", "%d over: %s", i, f)
				return
			}
			w.trace.add("fault", "%d had no effect: %s", i, f)
		})
	}
	<-ctx.Done()
	w.faults.Wait()
}

// actions returns what each kind of fault does. An action returns when the fault is over, and false when it could not happen: the
// machine was down, or another fault had it.
func (w *World) actions() map[Kind]func(context.Context, Fault) bool {
	return map[Kind]func(context.Context, Fault) bool{
		Crash: w.crash, Restart: w.restart, Pause: w.pause, Isolate: w.isolate, Partition: w.partition, OneWay: w.oneWay, Slow: w.slowLink,
		Reset: w.reset, ClockJump: w.clockJump, ClockSkew: w.clockSkew, DiskFull: w.diskFull, NoSpace: w.noSpace, BadSync: w.badSync,
		BitFlip: w.bitFlip, Join: w.joins, Decommission: w.decommission, Replace: w.loses, Remove: w.loses, Move: w.move, Alter: w.alter, Abort: w.abort,
	}
}

// sleep returns false when ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// claim makes the caller the one who decides about a host's lives; it is false when another fault does, the node does not
// run, or too many machines are away already.
func (w *World) claim(f Fault) (h *host, ok bool) {
	h = w.hosts[f.Host]
	if !h.busy.CompareAndSwap(false, true) {
		return nil, false
	}
	if !h.up() || !w.takeAway(f) {
		h.busy.Store(false)
		return nil, false
	}
	return h, true
}

func (w *World) release(h *host) {
	w.bringBack()
	h.busy.Store(false)
}

// takeAway counts a machine that others cannot reach. As a rule a majority stays; now and then none has to.
func (w *World) takeAway(f Fault) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.away >= (len(w.members)-1)/2 && f.Arg%8 != 0 {
		return false
	}
	w.away++
	return true
}

func (w *World) bringBack() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.away--
}

// crash takes the power away, inside the next file-system call of the class named, and gives it back after a while; some
// machines lose it again while they recover.
func (w *World) crash(ctx context.Context, f Fault) bool {
	h, ok := w.claim(f)
	if !ok {
		return false
	}
	defer w.release(h)
	if !w.powerOff(ctx, h, f) {
		return false
	}
	sleep(ctx, f.For)
	if f.Arg%4 != 1 || ctx.Err() != nil {
		h.boot(nil)
		return true
	}
	again := f
	again.Point, again.Arg = "any", f.Arg>>8
	h.boot(func(l *life) *trap {
		return &trap{class: again.Point, spring: func() error { l.crash(again); return nil }}
	})
	if w.awaitDeath(ctx, h.life, again) {
		h.life.bury()
		w.count(Crash)
		sleep(ctx, f.For/4)
		h.boot(nil)
	}
	return true
}

// pointWait is how long a crash waits for a call of its class before it comes between two calls.
const pointWait = 3 * time.Second

// powerOff ends the host's life as f says; false when ctx ended first.
func (w *World) powerOff(ctx context.Context, h *host, f Fault) bool {
	l := h.life
	if f.Point == "" {
		l.crash(f)
		l.bury()
		return true
	}
	l.disk.arm(&trap{class: f.Point, skip: w.plan.skips(f), spring: func() error { l.crash(f); return nil }})
	if !w.awaitDeath(ctx, l, f) {
		return false
	}
	l.bury()
	return true
}

// awaitDeath waits for a trap to spring; after pointWait the life ends without it. False: it lives, because ctx ended or
// because it was about to end in another way.
func (w *World) awaitDeath(ctx context.Context, l *life, f Fault) bool {
	t := time.NewTimer(pointWait + time.Duration(w.plan.seed.of("wait", uint64(f.Arg)).below(int64(time.Millisecond))))
	defer t.Stop()
	select {
	case <-l.died:
		return true
	case <-t.C:
	case <-ctx.Done():
	case <-l.done:
	}
	if !l.disk.disarm() { // it is springing
		<-l.died
		return true
	}
	if ctx.Err() != nil || l.hasEnded() {
		return false
	}
	f.Point = ""
	l.crash(f)
	<-l.died
	return true
}

// restart stops the node as an operator does and starts it again.
func (w *World) restart(ctx context.Context, f Fault) bool {
	h, ok := w.claim(f)
	if !ok {
		return false
	}
	defer w.release(h)
	h.life.stop()
	if h.life.dead.Load() && h.life.image != nil {
		h.life.bury()
	}
	sleep(ctx, f.For)
	h.boot(nil)
	return true
}

// pause stops a machine for a while, as a SIGSTOP or a frozen VM does. Goroutines cannot be frozen, so the model is that
// of an observer: nothing that the node says is heard and it hears nothing, and every second time its clock stands still and
// jumps ahead afterwards. Its timers go on.
func (w *World) pause(ctx context.Context, f Fault) bool {
	h, ok := w.claim(f)
	if !ok {
		return false
	}
	defer w.release(h)
	w.trace.add("pause", "%d", h.i)
	freeze := f.Arg%2 == 1
	if freeze {
		h.clock.freeze(true)
	}
	w.net.Isolate(h.name, true)
	sleep(ctx, f.For)
	w.net.Isolate(h.name, false)
	if freeze {
		h.clock.freeze(false)
	}
	return true
}

// isolate cuts a node off from the other nodes; clients still reach it.
func (w *World) isolate(ctx context.Context, f Fault) bool {
	h, ok := w.claim(f)
	if !ok {
		return false
	}
	defer w.release(h)
	w.trace.add("isolate", "%d", h.i)
	w.split(ctx, f, func(i int) bool { return i == f.Host })
	return true
}

// partition cuts the cluster in two.
func (w *World) partition(ctx context.Context, f Fault) bool {
	if !w.takeAway(f) {
		return false
	}
	defer w.bringBack()
	w.trace.add("partition", "%d", f.Arg)
	w.split(ctx, f, func(i int) bool { return f.Arg>>i&1 == 1 })
	return true
}

// split cuts all paths between those that are in and those that are not.
func (w *World) split(ctx context.Context, f Fault, in func(int) bool) {
	var pairs [][2]int
	all := w.inUse()
	for _, a := range all {
		for _, b := range all {
			if a != b && in(a.i) != in(b.i) {
				pairs = append(pairs, [2]int{a.i, b.i})
			}
		}
	}
	for _, p := range pairs {
		w.cut(p[0], p[1], 1)
	}
	sleep(ctx, f.For)
	for _, p := range pairs {
		w.cut(p[0], p[1], -1)
	}
}

// cut counts the faults that cut a path.
func (w *World) cut(from, to, by int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	key := [2]string{w.hosts[from].name, w.hosts[to].name}
	w.cuts[key] += by
	if w.cuts[key] > 0 {
		w.net.Cut(key[0], key[1])
	} else {
		w.net.Heal(key[0], key[1])
	}
}

// oneWay cuts one direction between two nodes.
func (w *World) oneWay(ctx context.Context, f Fault) bool {
	w.trace.add("one-way", "%d>%d", f.Host, f.Peer)
	w.cut(f.Host, f.Peer, 1)
	sleep(ctx, f.For)
	w.cut(f.Host, f.Peer, -1)
	return true
}

// slowLink makes one direction between two nodes slow and lossy.
func (w *World) slowLink(ctx context.Context, f Fault) bool {
	w.trace.add("slow", "%d>%d", f.Host, f.Peer)
	from, to := w.hosts[f.Host].name, w.hosts[f.Peer].name
	w.weather.setSlow(from, to, slowness{factor: 2 + int(f.Arg%200), loss: int(f.Arg >> 8 % 100)})
	sleep(ctx, f.For)
	w.weather.setSlow(from, to, slowness{})
	return true
}

// reset breaks all connections between two nodes.
func (w *World) reset(_ context.Context, f Fault) bool {
	w.trace.add("reset", "%d %d", f.Host, f.Peer)
	w.net.Break(w.hosts[f.Host].name, w.hosts[f.Peer].name)
	return true
}

// clockJump sets a node's clock ahead or back by up to two seconds.
func (w *World) clockJump(_ context.Context, f Fault) bool {
	by := time.Duration(f.Arg%4001-2000) * time.Millisecond
	c := &w.hosts[f.Host].clock
	if off := time.Until(c.now()) + by; off > skewBound/2 || off < -skewBound/2 {
		return false
	}
	w.trace.add("clock", "%d jumps %s", f.Host, by)
	c.jump(by)
	return true
}

// clockSkew gives a node's clock an offset and a drift of up to 1000 ppm, for good.
func (w *World) clockSkew(_ context.Context, f Fault) bool {
	offset := time.Duration(f.Arg%1001-500) * time.Millisecond
	drift := f.Arg >> 10 % 2_000_001
	w.trace.add("clock", "%d is off by %s", f.Host, offset)
	w.hosts[f.Host].clock.set(offset, (drift - 1_000_000))
	return true
}

// diskFull lets a node see a full disk before it has to fail.
func (w *World) diskFull(ctx context.Context, f Fault) bool {
	h := w.hosts[f.Host]
	if !h.busy.CompareAndSwap(false, true) {
		return false
	}
	defer h.busy.Store(false)
	if !h.up() {
		return false
	}
	w.trace.add("disk-full", "%d", h.i)
	d := h.life.disk
	d.full.Store(true)
	sleep(ctx, f.For)
	d.full.Store(false)
	return true
}

// noSpace fails the writes of a node's disk without a warning. The node must end; it starts again when there is room.
func (w *World) noSpace(ctx context.Context, f Fault) bool {
	h, ok := w.claim(f)
	if !ok {
		return false
	}
	defer w.release(h)
	l := h.life
	w.trace.add("no-space", "%d", h.i)
	l.doomed.Store(true)
	l.disk.full.Store(true)
	l.disk.noRoom.Store(true)
	return w.outlive(ctx, h, f, func() {
		l.disk.noRoom.Store(false)
		l.disk.full.Store(false)
	})
}

// badSync fails one sync. The node must end, and nothing that depends on that sync may leave it.
func (w *World) badSync(ctx context.Context, f Fault) bool {
	h, ok := w.claim(f)
	if !ok {
		return false
	}
	defer w.release(h)
	l := h.life
	l.doomed.Store(true)
	l.keep.Store(int64(f.Keep))
	l.disk.arm(&trap{class: f.Point, spring: func() error {
		w.trace.add("bad-sync", "%d %s", h.i, f.Point)
		return errIO
	}})
	return w.outlive(ctx, h, f, func() {})
}

// fatalWithin is how long a node may live on a disk that fails.
const fatalWithin = 10 * time.Second

// outlive waits for the end of a node whose disk fails, and starts it again.
func (w *World) outlive(ctx context.Context, h *host, f Fault, mend func()) bool {
	l := h.life
	t := time.NewTimer(fatalWithin)
	defer t.Stop()
	select {
	case <-l.died:
	case <-l.done:
	case <-ctx.Done():
	case <-t.C:
	}
	mend()
	if l.disk.disarm() { // no such call was made
		l.doomed.Store(false)
		return false
	}
	if !l.dead.Load() {
		if !l.hasEnded() {
			l.crash(Fault{Keep: f.Keep, Point: f.Point, Arg: 1})
		} else {
			return true // the heal starts it
		}
	}
	l.bury()
	sleep(ctx, f.For)
	h.boot(nil)
	return true
}

// bitFlip takes the power away and changes one bit of the disk before the node starts again. A node that notices at its start
// gets the bit back and starts once more: it has told the operator. In a table the bit stays changed until the faults end, and at the
// end of the metadata log for good: the others send what was lost.
func (w *World) bitFlip(ctx context.Context, f Fault) bool {
	h, ok := w.claim(f)
	if !ok {
		return false
	}
	defer w.release(h)
	f.Point = ""
	if !w.powerOff(ctx, h, f) {
		return false
	}
	sleep(ctx, f.For/2)
	return w.startFlipped(h, f)
}

const (
	startWithin = 20 * time.Second        // how long a start may take before it counts as one that has not noticed a flip
	giveBack    = 1200 * time.Millisecond // until the bit is back: no start has the generation of the one that noticed
)

// startFlipped waits until it is known what the node makes of the flip, also when the time for faults is over. Who notices must not
// have taken part in anything: the disk is set back to what it was before, and promises made meanwhile would be forgotten. So a node
// that runs on after it has found its log too short dies in that very instant, in which nobody can have answered it yet.
func (w *World) startFlipped(h *host, f Fault) bool {
	d := w.plan.seed.of("flip", uint64(f.Arg))
	flip, ok, err := pickFlip(h.mem, &h.marks, w.plan.scenario.logFlips, d)
	if err != nil || !ok {
		h.boot(nil)
		return false
	}
	var marks marks
	marks.set(&h.marks)
	whole, err := afterCrash(h.mem, 100, d)
	if err == nil {
		err = flip.apply(h.mem)
	}
	if err != nil {
		w.violate("simulator", "flip: %v", err)
	}
	w.trace.add("bit-flip", "%d", h.i)
	if w.opts.Log != nil {
		slog.New(w.opts.Log).Info("simulator: a bit flips", "node", h.i, "bit", flip.String())
	}
	h.boot(func(l *life) *trap { l.doomed.Store(true); return nil })
	l := h.life
	t := time.NewTimer(startWithin)
	defer t.Stop()
	select {
	case <-l.suspect:
		l.crash(Fault{Keep: 100, Arg: 1})
	case <-l.node.Ready():
	case <-l.done:
	case <-l.died:
	case <-t.C:
	}
	if l.up() {
		if isTable(flip.name) {
			h.flips = append(h.flips, flip)
		}
		w.note("flips that a start did not notice", 1)
		return true
	}
	w.note("flips noticed at the start", 1)
	l.cancel()
	time.Sleep(giveBack)
	h.mem = whole
	h.marks.set(&marks)
	h.boot(nil)
	return true
}
