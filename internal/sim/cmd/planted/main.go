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
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/helenusdb/helenus/internal/planted"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "planted:", err)
		os.Exit(1)
	}
}

func run() error {
	var h hunt
	only := flag.String("only", "", "these bugs, with commas; empty: all that are planted")
	rotate := flag.Int("rotate", 0, "only so many, others each day; 0: all")
	day := flag.Int("day", int(time.Now().Unix()/(24*60*60)), "the day of -rotate")
	out := flag.String("json", "", "write the report to this file")
	flag.DurationVar(&h.budget, "budget", time.Minute, "machine time for each hunt")
	flag.IntVar(&h.hunts, "hunts", 1, "hunts for each bug, with other seeds; the report has their median")
	flag.Uint64Var(&h.first, "first", 1, "first seed")
	flag.IntVar(&h.parallel, "parallel", runtime.GOMAXPROCS(0), "hunts at a time")
	flag.StringVar(&h.binary, "binary", "", "test binary of internal/sim with the tag planted; empty: it is built")
	flag.Parse()
	bugs, err := choose(*only, *rotate, *day)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	dir, err := os.MkdirTemp("", "planted")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	h.dir = dir
	if h.binary == "" {
		h.binary = filepath.Join(dir, "sim.test")
		build := exec.CommandContext(ctx, "go", "test", "-c", "-tags", "planted", "-o", h.binary, "./internal/sim")
		build.Stderr = os.Stderr
		if err := build.Run(); err != nil {
			return fmt.Errorf("build: %w", err)
		}
	}
	return report(h.all(ctx, bugs), *out)
}

// choose returns the bugs to hunt.
func choose(only string, rotate, day int) ([]planted.Entry, error) {
	all := slices.DeleteFunc(planted.Catalogue(), func(e planted.Entry) bool { return e.Where == "" || plans[e.Bug].waits != "" })
	if only != "" {
		all = nil
		for _, name := range strings.Split(only, ",") {
			b, ok := planted.Named(name)
			if !ok {
				return nil, fmt.Errorf("there is no planted bug %q", name)
			}
			all = append(all, planted.Catalogue()[b])
		}
	}
	if rotate <= 0 || rotate >= len(all) {
		return all, nil
	}
	var out []planted.Entry
	for i := range rotate {
		out = append(out, all[(day*rotate+i)%len(all)])
	}
	return out, nil
}

// hunt is how bugs are hunted.
type hunt struct {
	budget          time.Duration
	hunts, parallel int
	first           uint64
	binary, dir     string
}

// Result is what became of one bug.
type Result struct {
	Name     string   `json:"name"`
	Scenario string   `json:"scenario"` // of the list of scenarios
	Expected string   `json:"expected"` // checker
	Caught   int      `json:"caught"`   // hunts
	Hunts    int      `json:"hunts"`
	Checkers []string `json:"checkers"` // that caught it, the first of each hunt
	Median   float64  `json:"seconds"`  // of machine time to detection
	Seeds    []uint64 `json:"seeds"`    // that caught it
	What     string   `json:"what"`     // the first violation
}

// all hunts for the bugs, several at a time.
func (h *hunt) all(ctx context.Context, bugs []planted.Entry) []Result {
	results := make([]Result, len(bugs))
	places := make(chan struct{}, max(1, h.parallel))
	var wg sync.WaitGroup
	for i := range bugs {
		places <- struct{}{}
		wg.Go(func() {
			defer func() { <-places }()
			results[i] = h.one(ctx, &bugs[i])
			fmt.Println(results[i].line())
		})
	}
	wg.Wait()
	return results
}

// one hunts for a bug as often as asked, each time with other seeds.
func (h *hunt) one(ctx context.Context, e *planted.Entry) Result {
	r := Result{Name: e.Name, Scenario: e.Scenario, Expected: e.Checker, Hunts: h.hunts}
	var took []float64
	for n := range h.hunts {
		var spent time.Duration
		for seed := h.first + uint64(n)*1000; spent < h.budget && ctx.Err() == nil; seed++ {
			c, cpu := h.seed(ctx, e, seed)
			spent += cpu
			if c == nil {
				continue
			}
			r.Caught++
			took = append(took, spent.Seconds())
			r.Checkers, r.Seeds = append(r.Checkers, c.Checker), append(r.Seeds, seed)
			if r.What == "" {
				r.What = c.What
			}
			break
		}
	}
	if len(took) > 0 {
		slices.Sort(took)
		r.Median = took[len(took)/2]
	}
	return r
}

// violation is as in the report of a run.
type violation struct{ Checker, What string }

// seed runs one seed and returns what was caught, nil for nothing, and the machine time: of one processor, as the process used it.
func (h *hunt) seed(ctx context.Context, e *planted.Entry, seed uint64) (*violation, time.Duration) {
	p := plans[e.Bug].withDefaults(e)
	if p.test.pkg != "" {
		return h.test(ctx, e, p.test)
	}
	file := filepath.Join(h.dir, fmt.Sprintf("%s.%d.json", e.Name, seed))
	ctx, cancel := context.WithTimeout(ctx, 10*h.budget)
	defer cancel()
	c := exec.CommandContext(ctx, h.binary, "-test.run=^TestSeed$", "-test.timeout=20m", fmt.Sprint("-sim.seed=", seed), "-sim.scenario="+p.scenarios[seed%uint64(len(p.scenarios))],
		"-sim.workloads="+p.workload, "-sim.for="+p.span.String(), fmt.Sprint("-sim.dense=", p.dense), "-sim.report="+file)
	c.Env = append(os.Environ(), "HELENUS_PLANTED="+e.Name)
	output, err := c.CombinedOutput()
	cpu := c.ProcessState.UserTime() + c.ProcessState.SystemTime()
	if err == nil || ctx.Err() != nil {
		return nil, cpu
	}
	var rep struct{ Violations []violation }
	if b, readErr := os.ReadFile(file); readErr == nil && json.Unmarshal(b, &rep) == nil && len(rep.Violations) > 0 {
		return expected(rep.Violations, e.Checker, p.strict), cpu
	}
	return &violation{"bounded", "the run ended with " + err.Error() + ": " + tail(output)}, cpu
}

// test runs named tests, which the bug must break, in place of a seed. One run is the whole hunt.
func (h *hunt) test(ctx context.Context, e *planted.Entry, t test) (*violation, time.Duration) {
	c := exec.CommandContext(ctx, "go", "test", "-short", "-count=1", "-tags", "planted", "-run", "^("+t.run+")$", "./"+t.pkg)
	c.Env = append(os.Environ(), "HELENUS_PLANTED="+e.Name)
	output, err := c.CombinedOutput()
	cpu := c.ProcessState.UserTime() + c.ProcessState.SystemTime()
	if err == nil || ctx.Err() != nil || !strings.Contains(string(output), "--- FAIL: ") {
		return nil, max(cpu, h.budget)
	}
	_, failed, _ := strings.Cut(string(output), "--- FAIL: ")
	failed, _, _ = strings.Cut(failed, " ")
	return &violation{t.pkg + " " + failed, tail(output)}, cpu
}

// expected returns the first violation of the checker that must catch the bug, or else, unless that is all that counts, the first one.
func expected(all []violation, checker string, strict bool) *violation {
	for i := range all {
		if all[i].Checker == checker {
			return &all[i]
		}
	}
	if strict {
		return nil
	}
	return &all[0]
}

func tail(b []byte) string { return strings.TrimSpace(string(b[max(0, len(b)-500):])) }

func (r *Result) line() string {
	if r.Caught == 0 {
		return fmt.Sprintf("%-28s %-4s NOT CAUGHT", r.Name, r.Scenario)
	}
	what := r.What
	if len(what) > 140 {
		what = what[:140] + "..."
	}
	return fmt.Sprintf("%-28s %-4s %d/%d %6.1f s  %-13s %s", r.Name, r.Scenario, r.Caught, r.Hunts, r.Median, r.Checkers[0], what)
}

// report writes the results and fails when a bug got away.
func report(results []Result, file string) error {
	var missed []string
	for i := range results {
		if results[i].Caught < results[i].Hunts {
			missed = append(missed, results[i].Name)
		}
	}
	fmt.Printf("%d planted bugs, %d caught in each hunt\n", len(results), len(results)-len(missed))
	if file != "" {
		b, err := json.MarshalIndent(results, "", "\t")
		if err == nil {
			err = os.WriteFile(file, append(b, '\n'), 0o644)
		}
		if err != nil {
			return err
		}
	}
	if len(missed) > 0 {
		return errors.New("not caught: " + strings.Join(missed, ", "))
	}
	return nil
}
