package sim

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/helenusdb/helenus/config"
	"github.com/helenusdb/helenus/gossip"
	"github.com/helenusdb/helenus/node"
)

// dataDir is where nodes keep their data, each on its own disk.
const dataDir = "data"

const (
	storagePort = 7000
	nativePort  = 9042
)

func hostName(i int) string { return fmt.Sprintf("10.0.0.%d", i+1) }

// clientName is the host that all clients run on.
const clientName = "10.0.9.1"

// host is a machine through all lives of its node.
type host struct {
	w     *World
	i     int
	name  string
	clock clock
	busy  atomic.Bool // a fault decides about its lives
	marks marks
	rack  int
	dc    int

	leaves atomic.Bool // its node was told to leave, or others were told to let it go: it may end by itself
	lost   atomic.Bool // the machine does not come back

	// Owned by whoever holds busy, and by the run before and after the faults.
	mem   *vfs.MemFS
	life  *life // the last one; nil before the first
	lives int
	flips []flip // in files of mem, to be undone
	// of a machine that joins: written before its first boot.
	seeds    []string
	replaces string
	// of a machine that is lost: who replaces its node, and the fault.
	heir *host
	fate Fault

	id string // host id of its node, guarded by World.mu; empty: not known yet
}

// life is one process: from its start to its stop, crash or fatal error. After its death its goroutines are stopped gently, but
// nothing that they say is heard and nothing that they write lasts.
type life struct {
	h      *host
	number int
	node   *node.Node
	net    *lifeNet
	disk   *lifeDisk
	cancel context.CancelFunc

	done chan struct{} // Run has returned
	err  error         // what it returned

	dead    atomic.Bool
	died    chan struct{} // closed with image set, when dead
	image   *vfs.MemFS    // the disk after death
	keep    atomic.Int64  // percent of unsynced data that survives a fatal error
	doomed  atomic.Bool   // a fatal error is expected
	suspect chan struct{} // closed when the node finds the log of its rows too short
	stopped atomic.Bool   // it was asked to stop
}

// boot starts the next life. trap, when not nil, is set before the node does anything.
func (h *host) boot(trap func(*life) *trap) {
	h.lives++
	l := &life{h: h, number: h.lives, done: make(chan struct{}), died: make(chan struct{}), suspect: make(chan struct{}), disk: newLifeDisk(h.mem, &h.marks)}
	l.net = &lifeNet{host: h.w.net.Host(h.name)}
	l.keep.Store(100)
	if trap != nil {
		l.disk.arm(trap(l))
	}
	h.w.net.Silence(h.name, false)
	h.w.trace.add("boot", "%d life %d", h.i, h.lives)
	n, err := node.New(l.options())
	if err != nil {
		panic("sim: " + err.Error()) // the configuration is ours
	}
	l.node = n
	var ctx context.Context
	ctx, l.cancel = context.WithCancel(context.Background())
	h.life = l
	h.w.mu.Lock()
	h.w.current[h.i] = l
	h.w.mu.Unlock()
	h.w.lives.Go(func() {
		defer close(l.done)
		l.err = n.Run(ctx)
		h.w.ended(l)
	})
}

func (l *life) options() node.Options {
	h := l.h
	random := &instants{d: h.w.plan.seed.of("random", uint64(h.i), uint64(l.number))}
	var o node.Options
	o.Config = h.config()
	o.PurgeInterval = h.w.plan.scenario.purge
	o.FS, o.Net, o.Now = l.disk, l.net, h.clock.now
	o.Random = random.fill
	o.Detector = func(g gossip.Options) (node.Detector, error) { return h.w.vine.detector(h.i, g), nil }
	o.Fatal = l.fatal
	if h.w.plan.scenario.moves {
		o.Filler, o.Replace = node.Filling, h.replaces
	}
	o.Logger = slog.New(&logHandler{life: l, next: h.w.opts.Log})
	return o
}

func (h *host) config() *config.Config {
	c := config.Default()
	p := &h.w.plan
	c.ClusterName, c.DataDir = "sim", dataDir
	c.ListenAddress = netip.MustParseAddr(h.name)
	c.StoragePort, c.NativePort = storagePort, nativePort
	c.AdminPort = 0
	c.Rack, c.HintedHandoff = fmt.Sprintf("r%d", h.rack), !p.scenario.hintsOff
	if n := p.scenario.dcs; n > 1 {
		c.DataCenter = fmt.Sprintf("dc%d", 1+h.dc)
	}
	c.NumTokens, c.Partitioner, c.CommitSync = p.tokens, p.partition, p.sync
	c.BlockCache, c.RowCache, c.Memtable = 1<<20, 1<<20, 1<<20
	c.DiskReserve = 64 << 20
	if c.Seeds = h.w.seeds; h.seeds != nil {
		c.Seeds = h.seeds
	}
	return c
}

// die ends a life at this instant: what has left arrives, nothing else does. It is false when it had ended before. The caller
// has quiesced and closes l.died when the image of the disk is there.
func (l *life) die(silent bool) bool {
	if l.dead.Swap(true) {
		return false
	}
	l.net.dead.Store(true)
	l.disk.gone.Store(true)
	l.h.w.vine.drop(l.h.i)
	l.h.w.net.Kill(l.h.name, silent)
	return true
}

// crash is a loss of power in this instant, inside whatever call the caller is in.
func (l *life) crash(f Fault) {
	quiesce()
	if l.dead.Load() {
		return
	}
	image, err := afterCrash(l.disk.mem, f.Keep, l.h.w.plan.seed.of("image", uint64(l.h.i), uint64(l.number)))
	if err != nil {
		l.h.w.violate("simulator", "image of disk %d: %v", l.h.i, err)
		image = l.disk.mem
	}
	if !l.die(f.Arg%2 == 0) {
		return
	}
	l.h.w.trace.add("crash", "%d life %d in %q keep %d", l.h.i, l.number, f.Point, f.Keep)
	l.image = image
	close(l.died)
}

// fatal is node.Options.Fatal: the process ends here. The operating system lives on, and with it what was written but not
// synced, except for what a failed sync has thrown away.
func (l *life) fatal(err error) {
	if l.dead.Load() {
		return
	}
	quiesce()
	keep := int(l.keep.Load())
	image, imageErr := afterCrash(l.disk.mem, keep, l.h.w.plan.seed.of("image", uint64(l.h.i), uint64(l.number)))
	if imageErr != nil {
		l.h.w.violate("simulator", "image of disk %d: %v", l.h.i, imageErr)
		image = l.disk.mem
	}
	if !l.die(false) {
		return
	}
	if !l.doomed.Load() {
		l.h.w.violate("fatal", "node %d ended though nothing was done to its disk: %v", l.h.i, err)
	}
	l.h.w.trace.add("fatal", "%d life %d", l.h.i, l.number)
	l.image = image
	close(l.died)
}

// bury stops what is left of a dead life and puts the disk that it left in place.
func (l *life) bury() {
	<-l.died
	l.h.mem = l.image
	l.cancel()
}

// stop ends a life as an operator does and waits for it.
func (l *life) stop() {
	l.stopped.Store(true)
	l.cancel()
	select {
	case <-l.done:
		if !l.dead.Load() {
			l.net.dead.Store(true)
			l.h.w.vine.drop(l.h.i)
			l.h.w.net.Kill(l.h.name, false)
		}
	case <-l.died:
	}
}

// hasEnded tells whether the process is gone or a ghost.
func (l *life) hasEnded() bool {
	if l.dead.Load() {
		return true
	}
	select {
	case <-l.done:
		return true
	default:
		return false
	}
}

func (l *life) up() bool { return !l.hasEnded() }

// up tells whether the node of a host runs.
func (h *host) up() bool { return h.life != nil && h.life.up() }

// ready tells whether it serves clients.
func (h *host) ready() bool { return h.life != nil && h.life.ready() }

func (l *life) ready() bool {
	if l.hasEnded() || l.stopped.Load() {
		return false
	}
	select {
	case <-l.node.Ready():
		return true
	default:
		return false
	}
}

// logHandler passes a node's log on, with the node's number, and notices what the simulator must know.
type logHandler struct {
	life *life
	next slog.Handler // nil: nowhere
}

// Enabled implements slog.Handler.
func (h *logHandler) Enabled(ctx context.Context, level slog.Level) bool {
	return level >= slog.LevelError || h.next != nil && h.next.Enabled(ctx, level)
}

const shortLog = "storage: the log is shorter than what was acknowledged"

// Handle implements slog.Handler.
func (h *logHandler) Handle(ctx context.Context, r slog.Record) error {
	if r.Message == shortLog {
		close(h.life.suspect) // a start looks once
	}
	if h.next == nil || !h.next.Enabled(ctx, r.Level) {
		return nil
	}
	r = r.Clone()
	r.AddAttrs(slog.Int("node", h.life.h.i), slog.Int("life", h.life.number), slog.Bool("dead", h.life.dead.Load()))
	return h.next.Handle(ctx, r)
}

// WithAttrs implements slog.Handler.
func (h *logHandler) WithAttrs(a []slog.Attr) slog.Handler {
	if h.next == nil {
		return h
	}
	return &logHandler{h.life, h.next.WithAttrs(a)}
}

// WithGroup implements slog.Handler.
func (h *logHandler) WithGroup(name string) slog.Handler {
	if h.next == nil {
		return h
	}
	return &logHandler{h.life, h.next.WithGroup(name)}
}
