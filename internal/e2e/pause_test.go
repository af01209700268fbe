package e2e

import (
	"context"
	"net"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/helenusdb/helenus/cql/protocol"
	"github.com/helenusdb/helenus/internal/bench"
)

const (
	pauseFor    = 20 * time.Second
	pauseBefore = 6 * time.Second
	pauseAfter  = 4 * time.Second
	pauseRate   = 1000 // requests per second, half reads, half writes
	// Other work may share the machine, so these bounds are wide; the figures are printed, and docs/benchmarks.md has those
	// of a quiet one.
	pauseBound = time.Second // of the worst second
	pauseSlack = 50 * time.Millisecond
)

// TestPausedNode: one node of three gets SIGSTOP for 20 s under QUORUM load at a fixed rate through the two others. No
// request fails, and from the second second on clients hardly notice. Latency counts from when a request was due.
func TestPausedNode(t *testing.T) {
	c := newCluster(t, 3).up().settled()
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	var hosts []string
	for i := range 2 {
		hosts = append(hosts, net.JoinHostPort(c.addr(i), strconv.Itoa(cqlPort)))
	}
	if err := bench.Setup(ctx, hosts[0], 3); err != nil {
		t.Fatal(err)
	}
	o := bench.Options{Hosts: hosts, Op: bench.Load, Level: protocol.Quorum, Rows: 20_000, Conns: 4, Depth: 32}
	if r, err := bench.Run(ctx, o, nil); err != nil || r.Bad > 0 {
		t.Fatalf("load: %+v, %v", r, err)
	}

	third := c.nodes[2]
	frozen, thawed := false, false
	o.Op, o.Rate, o.Depth, o.Warm, o.Duration = bench.Mixed, pauseRate, 1024, 2*time.Second, pauseBefore+pauseFor+pauseAfter
	o.Tick = func(s bench.Sample) {
		switch {
		case !frozen && s.At >= pauseBefore-100*time.Millisecond:
			frozen = true
			third.freeze()
		case !thawed && s.At >= pauseBefore+pauseFor-100*time.Millisecond:
			thawed = true
			third.thaw()
		}
	}
	r, err := bench.Run(ctx, o, nil)
	if err != nil {
		t.Fatal(err)
	}
	if r.Bad > 0 || !thawed || float64(r.Operations) < pauseRate*o.Duration.Seconds()*0.95 {
		t.Errorf("%d of %d requests went wrong: %s", r.Bad, r.Operations, r.FirstBad)
	}
	var normal, paused []time.Duration
	for _, s := range r.Samples {
		t.Logf("second %3.0f: %5.0f op/s, p50 %8s, p99 %8s", s.At.Seconds(), s.Ops, s.P50.Round(time.Microsecond), s.P99.Round(time.Microsecond))
		switch {
		case s.At <= pauseBefore+100*time.Millisecond:
			normal = append(normal, s.P99)
		case s.At > pauseBefore+1100*time.Millisecond && s.At <= pauseBefore+pauseFor:
			paused = append(paused, s.P99)
		}
	}
	slices.Sort(normal)
	slices.Sort(paused)
	t.Logf("p99 of a second: %s normally, %s (worst %s) while a node is stopped, its first second left out", normal[len(normal)/2], paused[len(paused)/2], paused[len(paused)-1])
	if typical, allowed := paused[len(paused)/2], 2*normal[len(normal)/2]+pauseSlack; typical > allowed {
		t.Errorf("p99 is typically %s while a node is stopped, more than %s", typical, allowed)
	}
	if worst := paused[len(paused)-1]; worst > pauseBound {
		t.Errorf("p99 reaches %s while a node is stopped, more than %s", worst, pauseBound)
	}
	c.oneCluster()
	for _, p := range c.nodes {
		hintsDelivered(t, p)
	}
}
