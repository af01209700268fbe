package sim

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/helenusdb/helenus/internal/memnet"
	"github.com/helenusdb/helenus/internal/sim/check"
	"github.com/helenusdb/helenus/internal/sim/workload"
)

// Options of one run.
type Options struct {
	Seed     uint64
	Scenario string        // default "registers"
	Swarm    bool          // switch a random subset of faults and features off
	For      time.Duration // virtual time in which faults are injected; default 1 min
	// Dense: few registers and clients that hardly rest, whatever the seed drew. For hunts of what needs several things at once.
	Dense bool
	// Workloads, by name, instead of those of the scenario; none: those.
	Workloads []string
	Faults    int          // inject only so many faults of the schedule; negative: all
	Trace     io.Writer    // nil: only the hash is kept
	Bytes     bool         // the trace also shows what was sent, in the order of writing
	Log       slog.Handler // of the nodes; nil: nowhere
	// Stuck is called with what does not go on when no progress has been made for StuckAfter of virtual time. It must end the
	// process: the bubble could not.
	Stuck func(what string)
}

// StuckAfter is how much virtual time may pass without an answer to a client, or for one step of the run.
const StuckAfter = 10 * time.Minute

// World is one run.
type World struct {
	opts    Options
	plan    plan
	net     *memnet.Network
	weather *weather
	vine    *grapevine
	trace   *tracer
	hosts   []*host
	seeds   []string // of those that found the cluster
	loads   []workload.Workload
	lives   sync.WaitGroup // runs of nodes
	faults  sync.WaitGroup // faults under way
	begun   time.Time      // real time is not to be had in a bubble: virtual

	mu         sync.Mutex
	cuts       map[[2]string]int
	away       int
	members    []*host // machines in use that are not gone for good, in order of number
	recruits   int     // machines that have joined
	losing     *host   // a machine that is lost for good and still a member; nil: there is none
	current    []*life // of hosts
	injected   map[Kind]int
	notes      map[string]int64
	violations []check.Violation
	step       string
	stepSince  time.Time
	goroutines int   // most at once
	hints      int64 // most at once, on all nodes
	files      int64 // most open at once, on one node
	checks     int64
}

// Run carries one run out. It must be called in a synctest bubble of its own.
func Run(o Options) *Report {
	w, err := newWorld(o)
	if err != nil {
		return &Report{Seed: o.Seed, Scenario: o.Scenario, Violations: []check.Violation{{Checker: "simulator", What: err.Error()}}}
	}
	watching, unwatch := context.WithCancel(context.Background())
	var watch sync.WaitGroup
	watch.Go(func() { w.watch(watching) })
	w.run()
	unwatch()
	watch.Wait()
	return w.report()
}

func newWorld(o Options) (*World, error) {
	if o.Scenario == "" {
		o.Scenario = "registers"
	}
	if o.For == 0 {
		o.For = time.Minute
	}
	s, err := ScenarioNamed(o.Scenario)
	if err != nil {
		return nil, err
	}
	w := &World{opts: o, plan: makePlan(o.Seed, s, o.Swarm, o.For, o.Faults), trace: newTracer(o.Trace, o.Bytes), cuts: map[[2]string]int{},
		injected: map[Kind]int{}, notes: map[string]int64{}, begun: time.Now(), stepSince: time.Now()}
	w.weather = newWeather(w.plan.seed, w.plan.loss)
	w.net = memnet.New(memnet.Options{Latency: w.weather.latency, Spacing: 1 << slotBits, Observe: w.trace.wrote})
	w.vine = newGrapevine(w.plan.seed, w.plan.hosts, func(from, to int) bool { return w.net.Open(w.hosts[from].name, w.hosts[to].name) })
	w.current = make([]*life, w.plan.hosts)
	for i := range w.plan.hosts {
		h := &host{w: w, i: i, name: hostName(i), rack: i % w.plan.racks, mem: vfs.NewCrashableMem()}
		if n := s.dcs; n > 1 {
			h.dc = i % n
		}
		if i < w.plan.nodes {
			w.seeds = append(w.seeds, h.name)
			w.members = append(w.members, h)
		}
		skew := w.plan.seed.of("skew", uint64(i))
		h.clock.set(time.Duration(skew.below(int64(2*s.skewMax+1))-int64(s.skewMax)), skew.of("drift").below(400_001)-200_000)
		w.hosts = append(w.hosts, h)
	}
	if len(o.Workloads) > 0 {
		s.Workloads = o.Workloads
	}
	for _, c := range workload.All() {
		if c.Wants(w.plan.features) && (len(s.Workloads) == 0 || slices.Contains(s.Workloads, c.Name)) {
			w.loads = append(w.loads, c.New(s.options(w.clients(), o.For)))
		}
	}
	return w, nil
}

// clients is how busy the workloads are.
func (w *World) clients() workload.Options {
	c := w.plan.clients
	if w.opts.Dense {
		c.Clients, c.Keys, c.Pace = 4, 4, 5*time.Millisecond
	}
	return c
}

// run is the whole life of the cluster.
func (w *World) run() {
	defer w.lives.Wait()
	defer w.stopAll()
	w.enter("formation")
	for i, h := range w.inUse() {
		time.Sleep(time.Duration(1 + w.plan.seed.of("start", uint64(i)).below(int64(50*time.Millisecond))))
		h.boot(nil)
		if !w.await(fmt.Sprintf("node %d serves clients", i), 2*time.Minute, h.ready) { // one after the other: package formation tests the rest
			return
		}
	}
	if !w.await("all nodes serve clients", 2*time.Minute, w.allReady) || !w.await("all nodes see all", time.Minute, w.allSeen) {
		return
	}
	w.learnIDs()
	if !w.setup() {
		return
	}
	w.load()
	w.enter("heal")
	if w.heal() {
		w.verify()
	}
}

// enter says what the run does now, for the watchdog.
func (w *World) enter(step string) {
	w.trace.add("step", "%s", step)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.step, w.stepSince = step, time.Now()
}

// setup lets every workload prepare, one after the other, and tells whether all went well. One that needs what this version does
// not have yet is left out.
func (w *World) setup() bool {
	var able []workload.Workload
	for _, l := range w.loads {
		w.enter("setup " + l.Name())
		ctx, cancel := context.WithTimeout(context.Background(), StuckAfter/2)
		err := l.Setup(ctx, w.env(l))
		cancel()
		switch {
		case err == nil:
			able = append(able, l)
		case notYet(err.Error()):
			w.note("left out: "+l.Name(), 1)
		default:
			w.violate("simulator", "setup of %s: %v", l.Name(), err)
			return false
		}
	}
	w.mu.Lock()
	w.loads = able
	w.mu.Unlock()
	return true
}

// notYet tells words about what this version does not have from those about what it does wrong.
func notYet(what string) bool {
	return strings.Contains(what, "not supported yet") || strings.Contains(what, "not built yet")
}

// load runs the workloads while faults are injected.
func (w *World) load() {
	w.enter("load")
	ctx, cancel := context.WithTimeout(context.Background(), w.opts.For)
	defer cancel()
	var wg sync.WaitGroup
	for i, l := range w.loads {
		wg.Go(func() {
			sleep(ctx, time.Duration(1+w.plan.seed.of("load", uint64(i)).below(int64(time.Millisecond))))
			if err := l.Run(ctx, w.env(l)); err != nil && ctx.Err() == nil {
				w.violate("simulator", "run of %s: %v", l.Name(), err)
			}
		})
	}
	w.inject(ctx)
	wg.Wait()
}

// heal ends all faults and waits until the cluster is well again: nodes up, everybody sees everybody, hints delivered.
func (w *World) heal() bool {
	for _, h := range w.hosts {
		h.clock.set(0, 0)
	}
	for _, h := range w.inUse() {
		w.revive(h)
	}
	if w.plan.scenario.moves && !w.finishMoves() {
		return false
	}
	if !w.await("all nodes serve clients again", 3*time.Minute, w.allReady) {
		return false
	}
	for _, h := range w.inUse() {
		w.unflip(h)
	}
	return w.await("all nodes serve clients again", 3*time.Minute, w.allReady) &&
		w.await("all nodes see all", 2*time.Minute, w.allSeen) && w.await("hints are delivered", StuckAfter/2, w.noHints) &&
		w.await("no request is under way", time.Minute, w.idle)
}

// revive starts the node of a host that is down.
func (w *World) revive(h *host) {
	if h.up() || h.lost.Load() {
		return
	}
	if h.life.dead.Load() && h.life.image != nil {
		h.life.bury()
	}
	time.Sleep(time.Duration(1 + w.plan.seed.of("revive", uint64(h.i)).below(int64(time.Millisecond))))
	h.boot(nil)
}

// unflip gives a disk its changed bits back while its node is down.
func (w *World) unflip(h *host) {
	if len(h.flips) == 0 {
		return
	}
	if h.up() {
		h.life.stop()
	}
	if h.life.dead.Load() && h.life.image != nil {
		h.life.bury()
	}
	for _, f := range h.flips {
		if err := f.apply(h.mem); err != nil {
			w.violate("simulator", "flip back %s: %v", f, err)
		}
	}
	h.flips = nil
	h.boot(nil)
}

func (w *World) verify() {
	for _, l := range w.loads {
		w.enter("verify " + l.Name())
		ctx, cancel := context.WithTimeout(context.Background(), StuckAfter/2)
		found := l.Verify(ctx, w.env(l))
		cancel()
		for _, v := range found {
			if notYet(v.What) {
				w.note("left out: "+l.Name(), 1)
				continue
			}
			w.violate(v.Checker, "%s", v.What)
		}
	}
	w.bounds()
}

// Bounds that no run may exceed: goroutines per node, its clients included, hints of the cluster, open files of a node.
const (
	goroutinesMax = 600
	hintsMax      = 200_000
	filesMax      = 128
)

// bounds checks that nothing has grown without end.
func (w *World) bounds() {
	w.mu.Lock()
	goroutines, hints, files := w.goroutines, w.hints, w.files
	w.mu.Unlock()
	w.checks += 3
	if files > filesMax {
		w.violate("bounded", "%d files open at once on one node, at most %d are expected", files, filesMax)
	}
	if most := max(w.plan.nodes, w.plan.scenario.most) * goroutinesMax; goroutines > most {
		w.violate("bounded", "%d goroutines at once, at most %d are expected", goroutines, most)
	}
	if hints > hintsMax {
		w.violate("bounded", "%d hints at once, at most %d are expected", hints, hintsMax)
	}
}

// stopAll stops every node as an operator does.
func (w *World) stopAll() {
	w.enter("stop")
	for _, h := range w.hosts {
		if h.life == nil {
			continue
		}
		if h.up() {
			h.life.stop()
		}
		h.life.cancel()
	}
}

// ended is told of the end of every life.
func (w *World) ended(l *life) {
	w.trace.add("ended", "%d life %d", l.h.i, l.number)
	if n := l.disk.open.Load(); n != 0 && l.stopped.Load() && !l.dead.Load() {
		w.violate("bounded", "node %d, life %d, has stopped and left %d files open", l.h.i, l.number, n)
	}
	if l.dead.Load() || l.stopped.Load() && l.err == nil || l.doomed.Load() || w.excused(l) {
		return
	}
	w.violate("fatal", "node %d, life %d, ended by itself: %v", l.h.i, l.number, l.err)
}

// await waits until cond holds, and reports when it does not within the time.
func (w *World) await(what string, within time.Duration, cond func() bool) bool {
	w.enter(what)
	w.checks++
	for end := time.Now().Add(within); !cond(); {
		if time.Now().After(end) {
			w.violate("progress", "not within %s: %s: %s", within, what, w.state())
			return false
		}
		time.Sleep(10*time.Millisecond + 7)
	}
	return true
}

func (w *World) allReady() bool {
	return !slices.ContainsFunc(w.inUse(), func(h *host) bool { return !h.ready() })
}

func (w *World) allSeen() bool {
	all := w.inUse()
	for _, h := range all {
		s := h.life.node.Status()
		if len(s.Nodes) != len(all) {
			return false
		}
		for _, n := range s.Nodes {
			if !n.Up || n.Tokens == 0 {
				return false
			}
		}
	}
	return true
}

func (w *World) noHints() bool { return w.allHints() == 0 }

// allHints counts the hints that wait on the nodes that serve clients.
func (w *World) allHints() (n int64) {
	for _, l := range w.serving() {
		for _, m := range l.node.Status().Nodes {
			n += m.Hints
		}
	}
	return n
}

func (w *World) idle() bool {
	for _, l := range w.serving() {
		if l.node.Status().InFlight != 0 {
			return false
		}
	}
	return true
}

// serving returns the lives whose nodes serve clients.
func (w *World) serving() (out []*life) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, l := range w.current {
		if l != nil && l.ready() {
			out = append(out, l)
		}
	}
	return out
}

// state describes the cluster for a message.
func (w *World) state() string {
	out := ""
	for _, h := range w.inUse() {
		out += fmt.Sprintf("[%d up=%v ready=%v", h.i, h.up(), h.ready())
		if h.ready() {
			for _, n := range h.life.node.Status().Nodes {
				out += fmt.Sprintf(" %s:%v/%d", n.Address, n.Up, n.Hints)
			}
		} else if h.life != nil && h.life.err != nil {
			out += " " + h.life.err.Error()
		}
		out += "]"
	}
	return out + w.movement()
}

const watchEach = 5*time.Second + 13

// watch looks for a run that does not go on: virtual time passes and no client gets an answer, or one step never ends.
func (w *World) watch(ctx context.Context) {
	last, since := int64(-1), time.Now()
	for sleep(ctx, watchEach) {
		hints, files := w.allHints(), int64(0)
		for _, l := range w.serving() {
			files = max(files, l.disk.open.Load())
		}
		w.mu.Lock()
		w.files = max(w.files, files)
		w.hints, w.goroutines = max(w.hints, hints), max(w.goroutines, runtime.NumGoroutine())
		step, stepSince := w.step, w.stepSince
		w.mu.Unlock()
		if ops := w.ops(); ops != last {
			last, since = ops, time.Now()
		}
		if time.Since(stepSince) > w.opts.For+StuckAfter || step == "load" && time.Since(since) > StuckAfter {
			if w.opts.Stuck != nil {
				w.opts.Stuck(fmt.Sprintf("no progress in step %q for %s", step, time.Since(stepSince)))
			}
			return
		}
	}
}

func (w *World) ops() (n int64) {
	w.mu.Lock()
	loads := w.loads
	w.mu.Unlock()
	for _, l := range loads {
		n += l.Ops()
	}
	return n
}

const violationsMax = 100

func (w *World) violate(checker, format string, args ...any) {
	v := check.Violation{Checker: checker, What: fmt.Sprintf(format, args...)}
	w.trace.add("violation", "%s: %s", checker, v.What)
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.violations) < violationsMax {
		w.violations = append(w.violations, v)
	}
}

func (w *World) count(k Kind) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.injected[k]++
}

func (w *World) note(what string, n int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.notes[what] += n
}

var errNoNode = errors.New("sim: no such node")
