package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/helenusdb/helenus/internal/sim"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "simulate:", err)
		os.Exit(1)
	}
}

func run() error {
	var c campaign
	flag.IntVar(&c.seeds, "seeds", 0, "run so many seeds; 0: until the time is over")
	flag.Uint64Var(&c.first, "first", uint64(time.Now().UnixNano()), "first seed; each following one is one more")
	flag.DurationVar(&c.length, "for", 10*time.Minute, "start no seed after so long")
	flag.StringVar(&c.scenario, "scenario", "", "one scenario, or several with commas; empty: all but calm, in turns")
	flag.BoolVar(&c.swarm, "swarm", false, "each seed switches a random subset of faults and features off")
	flag.DurationVar(&c.span, "virtual", time.Minute, "virtual time with faults of each seed")
	flag.IntVar(&c.parallel, "parallel", runtime.GOMAXPROCS(0), "seeds at a time")
	flag.DurationVar(&c.timeout, "timeout", 5*time.Minute, "real time that one seed may take")
	flag.StringVar(&c.json, "json", "", "write the report to this file")
	flag.StringVar(&c.binary, "binary", "", "test binary of internal/sim (go test -c); empty: it is built")
	flag.StringVar(&c.tags, "tags", "", "build tags of the test binary")
	flag.BoolVar(&c.race, "race", false, "build it with the race detector")
	flag.IntVar(&c.failuresMax, "failures", 3, "end the campaign after so many failing seeds")
	flag.BoolVar(&c.quiet, "quiet", false, "no live summary")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	return c.run(ctx)
}

// prepare builds the test binary when none is given, and returns how to remove what it made.
func (c *campaign) prepare(ctx context.Context) (clean func(), err error) {
	dir, err := os.MkdirTemp("", "simulate")
	if err != nil {
		return nil, err
	}
	clean = func() { _ = os.RemoveAll(dir) }
	c.dir = dir
	if c.scenarios, err = scenarios(c.scenario); err != nil {
		return clean, err
	}
	if c.binary != "" {
		c.binary, err = filepath.Abs(c.binary)
		return clean, err
	}
	c.binary = filepath.Join(dir, "sim.test")
	args := []string{"test", "-c", "-o", c.binary}
	if c.race {
		args = append(args, "-race")
	}
	if c.tags != "" {
		args = append(args, "-tags", c.tags)
	}
	build := exec.CommandContext(ctx, "go", append(args, "github.com/helenusdb/helenus/internal/sim")...)
	build.Stdout, build.Stderr = os.Stderr, os.Stderr
	if err := build.Run(); err != nil {
		return clean, fmt.Errorf("go test -c: %w", err)
	}
	return clean, nil
}

func scenarios(names string) (out []string, err error) {
	if names == "" {
		for _, s := range sim.Scenarios() {
			if s.Name != "calm" {
				out = append(out, s.Name)
			}
		}
		return out, nil
	}
	for _, n := range strings.Split(names, ",") {
		if _, err := sim.ScenarioNamed(n); err != nil {
			return nil, err
		}
		out = append(out, n)
	}
	return out, nil
}

// job is one seed.
type job struct {
	seed     uint64
	scenario string
}

// outcome is what became of one process.
type outcome struct {
	report *sim.Report // nil: it did not get that far
	output string      // of a process that failed
	err    error       // nil: it passed
}

// args are the flags with which the test binary runs a seed; faults is the length of the prefix of the schedule, negative: all.
func (c *campaign) args(j job, faults int) []string {
	a := []string{"-test.run=^TestSeed$", "-test.timeout=0", fmt.Sprintf("-sim.seed=%d", j.seed), "-sim.scenario=" + j.scenario,
		fmt.Sprintf("-sim.for=%s", c.span)}
	if c.swarm {
		a = append(a, "-sim.swarm")
	}
	if faults >= 0 {
		a = append(a, fmt.Sprintf("-sim.faults=%d", faults))
	}
	return a
}

// replay is the command that runs a seed again.
func (c *campaign) replay(j job, faults int) string {
	tags := ""
	if c.tags != "" {
		tags = " -tags " + c.tags
	}
	return fmt.Sprintf("go test%s ./internal/sim -count=1 -v -args %s", tags, strings.Join(c.args(j, faults), " "))
}

// outputMax is how much of a failing process's output is kept.
const outputMax = 64 << 10

// one runs one seed. A process that takes too long is asked for its goroutines and then killed.
func (c *campaign) one(ctx context.Context, j job, faults int) outcome {
	file, err := os.CreateTemp(c.dir, "report")
	if err != nil {
		return outcome{err: err}
	}
	defer os.Remove(file.Name())
	_ = file.Close()
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, c.binary, append(c.args(j, faults), "-sim.report="+file.Name())...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGQUIT) }
	cmd.WaitDelay = 20 * time.Second
	out, err := cmd.CombinedOutput()
	o := outcome{err: err}
	if err != nil {
		o.output = string(out[max(0, len(out)-outputMax):])
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			o.err = fmt.Errorf("not over within %s: %w", c.timeout, err)
		}
	}
	b, readErr := os.ReadFile(file.Name())
	r := new(sim.Report)
	if readErr == nil && len(b) > 0 && json.Unmarshal(b, r) == nil {
		o.report = r
	} else if err == nil {
		o.err = errors.New("no report")
	}
	return o
}
