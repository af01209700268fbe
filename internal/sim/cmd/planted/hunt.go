package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/helenusdb/helenus/internal/planted"
)

// hunt is how bugs are hunted.
type hunt struct {
	budget          time.Duration
	hunts, parallel int
	first           uint64
	binary, dir     string
	tests           map[string]string // test binaries, by package
}

// Result is what became of one bug.
type Result struct {
	Name     string         `json:"name"`
	Scenario string         `json:"scenario"` // of the list of scenarios
	Expected []string       `json:"expected"` // checkers that count
	Caught   int            `json:"caught"`   // hunts
	Hunts    int            `json:"hunts"`
	Checkers []string       `json:"checkers"` // that caught it, the first of each hunt
	Median   float64        `json:"seconds"`  // of machine time to detection, without that of the control run
	Seeds    []uint64       `json:"seeds"`    // that caught it
	Struck   []int64        `json:"struck"`   // how often the bug's place was reached in those; not of tests
	Others   map[string]int `json:"others,omitempty"`
	Control  string         `json:"control,omitempty"` // what the catching seed shows without the bug; "": nothing
	What     string         `json:"what"`              // the first violation
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
	p := plans[e.Bug].withDefaults(e)
	r := Result{Name: e.Name, Scenario: e.Scenario, Expected: p.checkers, Hunts: h.hunts, Others: map[string]int{}}
	var took []float64
	for n := range h.hunts {
		var spent time.Duration
		for seed := h.first + uint64(n)*1000; spent < h.budget && ctx.Err() == nil; seed++ {
			o := h.seed(ctx, &p, seed, e.Name)
			spent += o.machine
			v := o.judge(&p, e.Name, r.Others)
			if v == nil && p.test.pkg == "" {
				continue
			}
			if v == nil { // one run of a test is the whole hunt
				break
			}
			took = append(took, spent.Seconds())
			r.note(v, seed, o.report.Struck[e.Name])
			if r.Control = h.control(ctx, &p, seed); r.Control != "" {
				return r
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

func (r *Result) note(v *violation, seed uint64, struck int64) {
	r.Caught++
	r.Checkers, r.Seeds, r.Struck = append(r.Checkers, v.Checker), append(r.Seeds, seed), append(r.Struck, struck)
	if r.What == "" {
		r.What = v.What
	}
}

// violation is as in the report of a run.
type violation struct{ Checker, What string }

// outcome is what became of one process.
type outcome struct {
	machine time.Duration // user and system time
	failed  bool
	report  struct {
		Violations []violation
		Struck     map[string]int64
	}
	output string // its end
}

// noReport is in the place of a checker's name when a process ended without a report: it panicked, or the watchdog ended it.
const noReport = "no report"

// seed runs a seed, or in its place the tests of the plan, with a bug, "" for none.
func (h *hunt) seed(ctx context.Context, p *plan, seed uint64, bug string) outcome {
	ctx, cancel := context.WithTimeout(ctx, 10*h.budget)
	defer cancel()
	if p.test.pkg != "" {
		return h.test(ctx, p.test, bug)
	}
	file := filepath.Join(h.dir, fmt.Sprintf("%s.%s.%d.json", p.name, bug, seed))
	c := exec.CommandContext(ctx, h.binary, "-test.run=^TestSeed$", "-test.timeout=20m", fmt.Sprint("-sim.seed=", seed), "-sim.scenario="+p.scenarios[seed%uint64(len(p.scenarios))],
		"-sim.workloads="+p.workload, "-sim.for="+p.span.String(), fmt.Sprint("-sim.dense=", p.dense), "-sim.report="+file)
	o := outcomeOf(ctx, c, bug)
	if b, err := os.ReadFile(file); err == nil {
		_ = json.Unmarshal(b, &o.report)
	}
	if o.failed && len(o.report.Violations) == 0 {
		o.report.Violations = []violation{{noReport, o.output}}
	}
	return o
}

// outcomeOf runs a process with a bug planted. One that was ended because of ctx has not failed.
func outcomeOf(ctx context.Context, c *exec.Cmd, bug string) outcome {
	c.Env = append(os.Environ(), "HELENUS_PLANTED="+bug)
	output, err := c.CombinedOutput()
	o := outcome{failed: err != nil && ctx.Err() == nil, output: tail(output)}
	if s := c.ProcessState; s != nil {
		o.machine = s.UserTime() + s.SystemTime()
	}
	return o
}

// test runs named tests, which the bug must break.
func (h *hunt) test(ctx context.Context, t test, bug string) outcome {
	c := exec.CommandContext(ctx, h.tests[t.pkg], "-test.short", "-test.count=1", "-test.run=^("+t.run+")$")
	c.Dir = t.pkg
	o := outcomeOf(ctx, c, bug)
	_, failed, found := strings.Cut(o.output, "--- FAIL: ")
	switch {
	case !o.failed:
	case found:
		failed, _, _ = strings.Cut(failed, " ")
		o.report.Violations = []violation{{t.pkg + " " + failed, o.output}}
	default:
		o.report.Violations = []violation{{noReport, o.output}}
	}
	return o
}

// control runs what caught a bug once more without it, and returns what that shows: nothing, if it was the bug that was caught.
func (h *hunt) control(ctx context.Context, p *plan, seed uint64) string {
	o := h.seed(ctx, p, seed, "")
	if !o.failed {
		return ""
	}
	v := o.report.Violations[0]
	return fmt.Sprintf("seed %d: %s: %s", seed, v.Checker, v.What)
}

// judge returns the violation by which a run has caught the bug, nil if none has: one of a checker that counts, in a process that has reached the bug's
// place. What else there is goes to others, by checker.
func (o *outcome) judge(p *plan, bug string, others map[string]int) (caught *violation) {
	for i := range o.report.Violations {
		v := &o.report.Violations[i]
		counts := p.test.pkg != "" && v.Checker != noReport || slices.Contains(p.checkers, v.Checker) && o.report.Struck[bug] > 0
		if !counts {
			others[v.Checker]++
		} else if caught == nil {
			caught = v
		}
	}
	return caught
}

func tail(b []byte) string { return strings.TrimSpace(string(b[max(0, len(b)-2000):])) }

func (r *Result) line() string {
	others := ""
	if len(r.Others) > 0 {
		others = fmt.Sprintf(" (also %v)", r.Others)
	}
	switch {
	case r.Control != "":
		return fmt.Sprintf("%-28s %-4s FAILS WITHOUT IT TOO: %s", r.Name, r.Scenario, r.Control)
	case r.Caught == 0:
		return fmt.Sprintf("%-28s %-4s NOT CAUGHT%s", r.Name, r.Scenario, others)
	}
	what := r.What
	if len(what) > 140 {
		what = what[:140] + "..."
	}
	return fmt.Sprintf("%-28s %-4s %d/%d %6.1f s  %-13s seed %d, struck %d: %s%s", r.Name, r.Scenario, r.Caught, r.Hunts, r.Median, r.Checkers[0], r.Seeds[0], r.Struck[0], what, others)
}

func write(results []Result, file string) error {
	b, err := json.MarshalIndent(results, "", "\t")
	if err != nil {
		return err
	}
	return os.WriteFile(file, append(b, '\n'), 0o644)
}
