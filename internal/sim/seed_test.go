package sim

import (
	"encoding/json"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// The flags of the test binary with which cmd/simulate runs one seed per process.
var (
	seedFlag     = flag.Uint64("sim.seed", 0, "run this seed; 0: none")
	scenarioFlag = flag.String("sim.scenario", "registers", "scenario")
	swarmFlag    = flag.Bool("sim.swarm", false, "switch a random subset of faults and features off")
	forFlag      = flag.Duration("sim.for", time.Minute, "virtual time with faults")
	loadsFlag    = flag.String("sim.workloads", "", "these workloads only, with commas")
	denseFlag    = flag.Bool("sim.dense", false, "few registers, and clients that hardly rest")
	faultsFlag   = flag.Int("sim.faults", -1, "inject so many faults of the schedule only")
	traceFlag    = flag.String("sim.trace", "", "write the trace to this file")
	bytesFlag    = flag.Bool("sim.bytes", false, "the trace shows the bytes that were sent")
	reportFlag   = flag.String("sim.report", "", "write the report to this file")
	logFlag      = flag.Bool("sim.log", false, "write the logs of the nodes to standard error")
)

// TestSeed runs one seed: the one of -sim.seed.
func TestSeed(t *testing.T) {
	if *seedFlag == 0 {
		t.Skip("no -sim.seed")
	}
	o := Options{Seed: *seedFlag, Scenario: *scenarioFlag, Swarm: *swarmFlag, For: *forFlag, Faults: *faultsFlag, Stuck: stuck, Bytes: *bytesFlag, Dense: *denseFlag}
	if *loadsFlag != "" {
		o.Workloads = strings.Split(*loadsFlag, ",")
	}
	if *traceFlag != "" {
		f, err := os.Create(*traceFlag)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		o.Trace = f
	}
	if *logFlag {
		o.Log = slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelInfo})
	}
	r := run(t, o)
	b, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	if *reportFlag != "" {
		if err := os.WriteFile(*reportFlag, b, 0o644); err != nil {
			t.Fatal(err)
		}
	} else {
		fmt.Fprintln(os.Stdout, string(b))
	}
	for _, v := range r.Violations {
		t.Errorf("%s: %s", v.Checker, v.What)
	}
}

// run is Run in a bubble, with the real time it took.
func run(t *testing.T, o Options) *Report {
	var r *Report
	began := time.Now()
	synctest.Test(t, func(*testing.T) { r = Run(o) })
	r.Real = time.Since(began)
	return r
}

// stuck ends the process with what everybody waits for.
func stuck(what string) {
	buf := make([]byte, 64<<20)
	fmt.Fprintf(os.Stderr, "WATCHDOG: %s\n", what)
	_, _ = os.Stderr.Write(buf[:runtime.Stack(buf, true)])
	os.Exit(3)
}
