package sim

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/helenusdb/helenus/internal/memnet"
)

// slotBits is how many low bits of an arrival time, in nanoseconds, name its flow, so that no two flows share an instant.
const slotBits = 16

// weather decides how long what hosts say to one another is under way.
type weather struct {
	seed draw
	mu   sync.Mutex
	slow map[[2]string]slowness // by direction
	base map[[2]string]time.Duration
	loss int // per mille of the instants of a flow in which TCP has to send again
}

// slowness multiplies the latency of a direction and adds losses to it.
type slowness struct {
	factor int
	loss   int // per mille
}

func newWeather(seed draw, loss int) *weather {
	return &weather{seed: seed.of("weather"), slow: map[[2]string]slowness{}, base: map[[2]string]time.Duration{}, loss: loss}
}

func (w *weather) setSlow(from, to string, s slowness) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if s.factor == 0 {
		delete(w.slow, [2]string{from, to})
		return
	}
	w.slow[[2]string{from, to}] = s
}

// latency is memnet.Options.Latency: a base per direction, an exponential-looking tail per instant, and now and then the
// time that TCP takes to notice a loss and send again. The arrival is rounded up to the flow's own slot of nanoseconds.
func (w *weather) latency(f *memnet.Flow) time.Duration {
	now := time.Now()
	dir := uint64(w.seed.of(f.From + ">" + f.To))
	label := f.Label()
	d := w.seed.of("delay", dir, label, uint64(now.UnixNano()))
	base, loss, factor := w.look(f)
	took := base + time.Duration(d.of("tail").below(int64(base)))
	if d.of("far").percent(2) {
		took += time.Duration(d.of("farther").below(int64(8 * base)))
	}
	if d.of("loss").below(1000) < int64(loss) {
		took += 200*time.Millisecond + time.Duration(d.of("again").below(int64(300*time.Millisecond)))
	}
	took *= time.Duration(factor)
	slot := w.seed.of("slot", dir, label).below(1 << slotBits)
	at := now.Add(took).UnixNano()
	at = (at>>slotBits+1)<<slotBits + slot
	return time.Duration(at - now.UnixNano())
}

func (w *weather) look(f *memnet.Flow) (base time.Duration, loss, factor int) {
	key := [2]string{f.From, f.To}
	w.mu.Lock()
	defer w.mu.Unlock()
	base, ok := w.base[key]
	if !ok {
		base = 100*time.Microsecond + time.Duration(w.seed.of("base "+f.From+">"+f.To).below(int64(900*time.Microsecond)))
		w.base[key] = base
	}
	s := w.slow[key]
	return base, w.loss + s.loss, max(1, s.factor)
}

// lifeNet is the network of one life of a node: nothing that the node says after its death reaches anybody.
type lifeNet struct {
	host *memnet.Host
	dead atomic.Bool
}

func (n *lifeNet) Listen(ctx context.Context, addr string) (net.Listener, error) {
	if n.dead.Load() {
		return nil, net.ErrClosed
	}
	return n.host.Listen(addr)
}

// Dial fails for the dead, also when they die while they dial.
func (n *lifeNet) Dial(ctx context.Context, addr string) (net.Conn, error) {
	if n.dead.Load() {
		return nil, net.ErrClosed
	}
	c, err := n.host.Dial(ctx, addr)
	if err == nil && n.dead.Load() {
		_ = c.Close()
		return nil, net.ErrClosed
	}
	return c, err
}
