package sim

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"time"

	"github.com/helenusdb/helenus/internal/sim/workload"
)

// env is the cluster as one workload sees it; it implements workload.Env.
type env struct {
	w    *World
	name string
}

func (w *World) env(l workload.Workload) workload.Env { return env{w, l.Name()} }

// Nodes implements workload.Env.
func (e env) Nodes() int { return len(e.w.hosts) }

// Members implements workload.Env.
func (e env) Members() []int { return e.w.serves() }

// Dial implements workload.Env.
func (e env) Dial(ctx context.Context, node int) (net.Conn, error) {
	if node < 0 || node >= len(e.w.hosts) {
		return nil, errNoNode
	}
	return e.w.net.Host(clientName).Dial(ctx, fmt.Sprintf("%s:%d", e.w.hosts[node].name, nativePort))
}

// Rand implements workload.Env.
func (e env) Rand(stream string) *rand.Rand {
	return e.w.plan.seed.of("workload " + e.name + " " + stream).generator()
}

// Now implements workload.Env.
func (e env) Now() time.Time { return time.Now() }

// Record implements workload.Env.
func (e env) Record(kind, format string, args ...any) {
	e.w.trace.add(e.name+" "+kind, format, args...)
}

// Features implements workload.Env.
func (e env) Features() workload.Features { return e.w.plan.features }
