package bench

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/helenusdb/helenus/cql/protocol"
)

// Report is what a run measured. Durations are in microseconds in JSON.
type Report struct {
	Op          Op       `json:"op"`
	Level       string   `json:"consistency"`
	Connections int      `json:"connections"`
	Depth       int      `json:"depth"`
	Rate        float64  `json:"offered_rate,omitempty"`
	Seconds     float64  `json:"seconds"`
	Operations  uint64   `json:"operations"`
	OpsPerSec   float64  `json:"ops_per_second"`
	Micros      Latency  `json:"latency_us"`
	ServerCPU   float64  `json:"server_cpu_us_per_op"`
	ClientCPU   float64  `json:"client_cpu_us_per_op"`
	ServerRSS   float64  `json:"server_rss_mib"`
	FsyncMicros float64  `json:"fsync_p50_us,omitempty"`
	Bad         uint64   `json:"bad"`
	FirstBad    string   `json:"first_bad,omitempty"`
	Counted     *Counted `json:"counted,omitempty"` // of counter
	Samples     []Sample `json:"-"`
}

// Latency are quantiles in microseconds.
type Latency struct {
	P50  float64 `json:"p50"`
	P95  float64 `json:"p95"`
	P99  float64 `json:"p99"`
	P999 float64 `json:"p99_9"`
	Max  float64 `json:"max"`
}

// Run carries out one run. pids are the server's processes, for CPU and memory; none are fine. The error says that the
// run could not be made; wrong answers are counted in the report.
func Run(ctx context.Context, o Options, pids []int) (*Report, error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	r := &run{o: o, began: time.Now()}
	var lanes []*lane
	defer func() {
		for _, l := range lanes {
			l.c.Close()
		}
	}()
	for i := range o.Conns {
		l, err := newLane(ctx, r, o.Hosts[i%len(o.Hosts)])
		if err != nil {
			return nil, err
		}
		lanes = append(lanes, l)
	}
	if o.Op != Count {
		return r.measure(ctx, lanes, pids), nil
	}
	before, err := counterSum(ctx, o.Hosts[0])
	if err != nil {
		return nil, err
	}
	report := r.measure(ctx, lanes, pids)
	return report, r.checkSum(ctx, report, lanes, before)
}

func (r *run) measure(ctx context.Context, lanes []*lane, pids []int) *Report {
	o := &r.o
	r.began = time.Now()
	r.measuring.Store(o.Op == Load) // every row of a load counts
	cpu, self := cpuMicros(pids), cpuMicros([]int{os.Getpid()})
	start := r.began
	var wg sync.WaitGroup
	for _, l := range lanes {
		wg.Go(l.send)
		wg.Go(l.receive)
	}
	finished := make(chan struct{})
	go func() { wg.Wait(); close(finished) }()
	if o.Op != Load {
		r.watch(ctx, lanes, -o.Warm, 0, finished)
		cpu, self = cpuMicros(pids), cpuMicros([]int{os.Getpid()})
		start = time.Now()
		r.measuring.Store(true)
	}
	end := o.Duration
	if o.Op == Load {
		end = 1 << 62
	}
	samples := r.watch(ctx, lanes, 0, end, finished)
	r.measuring.Store(false)
	took := time.Since(start)
	cpuDone, selfDone := cpuMicros(pids), cpuMicros([]int{os.Getpid()})
	rss := rssMiB(pids)
	r.stopping.Store(true)
	<-finished
	return r.report(lanes, samples, took, cpuDone-cpu, selfDone-self, rss)
}

// watch waits from -> to on the run's own clock, calling Tick every second.
func (r *run) watch(ctx context.Context, lanes []*lane, from, to time.Duration, finished chan struct{}) (samples []Sample) {
	began := time.Now()
	var before counts
	lastGot, lastAt := answers(lanes), from
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	end := time.NewTimer(max(to-from, 0))
	defer end.Stop()
	for {
		select {
		case <-ctx.Done():
			r.stopping.Store(true)
			r.canceled.Store(true)
			for _, l := range lanes {
				l.c.Close()
			}
			return samples
		case <-finished:
			return samples
		case <-end.C:
			return samples
		case <-tick.C:
		}
		var now counts
		for _, l := range lanes {
			now.add(l.hist)
		}
		step := now.minus(&before)
		at, got := min(from+time.Since(began), to), answers(lanes)
		s := Sample{At: at, Ops: float64(got-lastGot) / max(at-lastAt, time.Millisecond).Seconds(), P50: step.quantile(.5), P99: step.quantile(.99),
			Bad: r.bad.Load(), Done: r.done.Load(), All: r.o.Rows}
		before, lastGot, lastAt = now, got, at
		samples = append(samples, s)
		if r.o.Tick != nil {
			r.o.Tick(s)
		}
	}
}

// answers returns how many have come, those before the measurement included.
func answers(lanes []*lane) (n uint64) {
	for _, l := range lanes {
		n += l.got.Load()
	}
	return n
}

func (r *run) report(lanes []*lane, samples []Sample, took time.Duration, server, client, rss float64) *Report {
	var all counts
	for _, l := range lanes {
		all.add(l.hist)
	}
	us := func(q float64) float64 { return float64(all.quantile(q)) / 1000 }
	n := r.done.Load()
	per := float64(max(n, 1))
	return &Report{Op: r.o.Op, Level: r.o.Level.String(), Connections: r.o.Conns, Depth: r.o.Depth, Rate: r.o.Rate, Seconds: took.Seconds(),
		Operations: n, OpsPerSec: float64(n) / took.Seconds(), Micros: Latency{us(.5), us(.95), us(.99), us(.999), us(1)},
		ServerCPU: server / per, ClientCPU: client / per, ServerRSS: rss, Bad: r.bad.Load(), FirstBad: r.firstBad, Samples: samples}
}

// clockTick is USER_HZ, which is 100 on every Linux that Go runs on.
const clockTick = 100

// cpuMicros returns user and system time of the processes, in µs.
func cpuMicros(pids []int) (total float64) {
	for _, p := range pids {
		b, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(p), "stat"))
		if err != nil {
			continue
		}
		text := string(b)
		f := strings.Fields(text[strings.LastIndexByte(text, ')')+1:])
		if len(f) < 13 {
			continue
		}
		u, _ := strconv.ParseFloat(f[11], 64)
		s, _ := strconv.ParseFloat(f[12], 64)
		total += (u + s) * 1e6 / clockTick
	}
	return total
}

func rssMiB(pids []int) (total float64) {
	for _, p := range pids {
		b, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(p), "status"))
		if err != nil {
			continue
		}
		for _, line := range strings.Split(string(b), "\n") {
			if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
				kb, _ := strconv.ParseFloat(strings.Fields(rest)[0], 64)
				total += kb / 1024
			}
		}
	}
	return total
}

// Fsync returns the median time of an fsync after a small append to a file in dir, in µs.
func Fsync(dir string) (float64, error) {
	f, err := os.CreateTemp(dir, ".fsync-*")
	if err != nil {
		return 0, fmt.Errorf("bench: fsync: %w", err)
	}
	defer os.Remove(f.Name())
	defer f.Close()
	var took []float64
	for range 100 {
		if _, err := f.Write(make([]byte, 256)); err != nil {
			return 0, fmt.Errorf("bench: fsync: %w", err)
		}
		began := time.Now()
		if err := f.Sync(); err != nil {
			return 0, fmt.Errorf("bench: fsync: %w", err)
		}
		took = append(took, float64(time.Since(began))/1000)
	}
	sort.Float64s(took)
	return took[len(took)/2], nil
}

// ParseLevel reads a consistency level.
func ParseLevel(s string) (protocol.Consistency, error) { return protocol.ParseConsistency(s) }
