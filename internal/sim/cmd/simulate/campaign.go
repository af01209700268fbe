package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"sort"
	"strings"
	"sync"
	"time"
)

// campaign runs seeds until there is no time, or nothing to run, left.
type campaign struct {
	seeds, parallel, failuresMax int
	first                        uint64
	length, span, timeout        time.Duration
	scenario, json, binary, tags string
	swarm, race, quiet           bool

	dir       string
	scenarios []string

	mu      sync.Mutex
	next    int
	began   time.Time
	total   Summary
	ongoing int
}

// Summary is the JSON report.
type Summary struct {
	Seeds      int              `json:"seeds"`
	Real       float64          `json:"real_seconds"`
	Simulated  float64          `json:"simulated_hours"`
	Rate       float64          `json:"simulated_seconds_per_second"`
	Operations map[string]int64 `json:"operations"`
	OpsRate    float64          `json:"operations_per_second"`
	Faults     map[string]int   `json:"faults"`
	Checks     int64            `json:"checks"`
	Searched   int              `json:"searched"`  // partitions for whose history an order was searched
	Undecided  int              `json:"undecided"` // of these: given up
	Notes      map[string]int64 `json:"notes,omitempty"`
	Goroutines int              `json:"goroutines_max"`
	Failures   []Failure        `json:"failures"`
}

// Failure is a seed that failed.
type Failure struct {
	Seed       uint64   `json:"seed"`
	Scenario   string   `json:"scenario"`
	Swarm      bool     `json:"swarm"`
	Seconds    float64  `json:"seconds"`          // of machine time until it was found, from the start of the campaign
	Faults     int      `json:"faults_scheduled"` // by the seed
	Prefix     int      `json:"faults_prefix"`    // shortest prefix of them that was found to fail
	Stable     bool     `json:"repeats"`          // the whole schedule failed again
	Violations []string `json:"violations"`
	Replay     string   `json:"replay"`
	Output     string   `json:"output,omitempty"`
}

func (c *campaign) run(ctx context.Context) error {
	clean, err := c.prepare(ctx)
	if clean != nil {
		defer clean()
	}
	if err != nil {
		return err
	}
	c.began = time.Now()
	c.total = Summary{Operations: map[string]int64{}, Faults: map[string]int{}, Notes: map[string]int64{}, Failures: []Failure{}}
	live, end := context.WithCancel(ctx)
	var show sync.WaitGroup
	if !c.quiet {
		show.Go(func() { c.show(live) })
	}
	var wg sync.WaitGroup
	for range max(1, c.parallel) {
		wg.Go(func() { c.work(ctx) })
	}
	wg.Wait()
	end()
	show.Wait()
	return c.finish()
}

// work runs one seed after the other.
func (c *campaign) work(ctx context.Context) {
	for {
		j, ok := c.take(ctx)
		if !ok {
			return
		}
		o := c.one(ctx, j, -1)
		if ctx.Err() == nil {
			c.book(ctx, j, o)
		}
		c.mu.Lock()
		c.ongoing--
		c.mu.Unlock()
	}
}

func (c *campaign) take(ctx context.Context) (j job, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if ctx.Err() != nil || c.seeds > 0 && c.next >= c.seeds || time.Since(c.began) > c.length || len(c.total.Failures) >= c.failuresMax {
		return j, false
	}
	j = job{seed: max(1, c.first+uint64(c.next)), scenario: c.scenarios[c.next%len(c.scenarios)]}
	c.next++
	c.ongoing++
	return j, true
}

// book adds a run to the totals, and looks into one that failed.
func (c *campaign) book(ctx context.Context, j job, o outcome) {
	c.mu.Lock()
	t := &c.total
	t.Seeds++
	if r := o.report; r != nil {
		t.Simulated += r.Simulated.Hours()
		t.Goroutines = max(t.Goroutines, r.Goroutines)
		t.Checks += r.Checks
		t.Searched += r.Searched
		t.Undecided += r.Undecided
		for k, n := range r.Ops {
			t.Operations[k] += n
		}
		for k, n := range r.Faults {
			t.Faults[string(k)] += n
		}
		for k, n := range r.Notes {
			t.Notes[k] += n
		}
	}
	c.mu.Unlock()
	if o.err == nil {
		return
	}
	f := c.look(ctx, j, o)
	c.mu.Lock()
	t.Failures = append(t.Failures, f)
	c.mu.Unlock()
	f.print()
}

// look finds the shortest prefix of the schedule that fails: by bisection, which is right when a longer prefix of a failing one
// fails too, and close when not.
func (c *campaign) look(ctx context.Context, j job, o outcome) Failure {
	f := Failure{Seed: j.seed, Scenario: j.scenario, Swarm: c.swarm, Seconds: time.Since(c.began).Seconds(), Prefix: -1, Replay: c.replay(j, -1)}
	f.describe(o)
	if o.report == nil {
		f.Faults = faultsGuess
	} else {
		f.Faults = o.report.Scheduled
	}
	again := c.one(ctx, j, -1)
	if f.Stable = again.err != nil; !f.Stable {
		return f
	}
	low, high := 0, f.Faults // high fails
	for low < high && ctx.Err() == nil {
		mid := (low + high) / 2
		if got := c.one(ctx, j, mid); got.err != nil {
			high = mid
			f.describe(got)
		} else {
			low = mid + 1
		}
	}
	f.Prefix, f.Replay = high, c.replay(j, high)
	return f
}

// faultsGuess is more than any schedule has.
const faultsGuess = 512

func (f *Failure) describe(o outcome) {
	f.Violations, f.Output = nil, ""
	if o.report != nil {
		for _, v := range o.report.Violations {
			f.Violations = append(f.Violations, v.Checker+": "+v.What)
		}
	}
	if len(f.Violations) == 0 {
		f.Violations = []string{o.err.Error()}
		f.Output = o.output
	}
}

func (f *Failure) print() {
	fmt.Printf("\nFAIL seed %d scenario %s swarm %v: %d faults of %d are enough, repeats: %v\n", f.Seed, f.Scenario, f.Swarm, f.Prefix, f.Faults, f.Stable)
	for i, v := range f.Violations {
		if i == shownMax {
			fmt.Printf("  and %d more\n", len(f.Violations)-i)
			break
		}
		fmt.Println("  " + v)
	}
	if f.Output != "" {
		fmt.Println(f.Output[max(0, len(f.Output)-8<<10):])
	}
	fmt.Println("  again: " + f.Replay)
}

const (
	shownMax  = 8
	showEvery = 10 * time.Second
)

// show prints a line now and then.
func (c *campaign) show(ctx context.Context) {
	t := time.NewTicker(showEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			c.mu.Lock()
			c.settle()
			line := c.total.line()
			c.mu.Unlock()
			fmt.Println(line)
		}
	}
}

// settle computes the rates; c.mu is held.
func (c *campaign) settle() {
	t := &c.total
	t.Real = time.Since(c.began).Seconds()
	t.Rate = t.Simulated * 3600 / t.Real
	var ops int64
	for _, n := range t.Operations {
		ops += n
	}
	t.OpsRate = float64(ops) / t.Real
}

func (t *Summary) line() string {
	var ops int64
	for _, n := range t.Operations {
		ops += n
	}
	var faults []string
	for k, n := range t.Faults {
		faults = append(faults, fmt.Sprintf("%s %d", k, n))
	}
	sort.Strings(faults)
	return fmt.Sprintf("%4.0fs seeds %d, simulated %.2f h (%.1f s/s), operations %d (%.0f/s), checks %d, undecided %d of %d, failures %d, faults: %s",
		t.Real, t.Seeds, t.Simulated, t.Rate, ops, t.OpsRate, t.Checks, t.Undecided, t.Searched, len(t.Failures), strings.Join(faults, ", "))
}

func (c *campaign) finish() error {
	c.settle()
	fmt.Println(c.total.line())
	for k, n := range c.total.Notes {
		fmt.Printf("  %s: %d\n", k, n)
	}
	if c.json != "" {
		b, err := json.MarshalIndent(&c.total, "", "  ")
		if err != nil {
			return err
		}
		if err := os.WriteFile(c.json, append(b, '\n'), 0o644); err != nil {
			return err
		}
	}
	if n := len(c.total.Failures); n > 0 {
		return fmt.Errorf("%d of %d seeds failed", n, c.total.Seeds)
	}
	return nil
}
