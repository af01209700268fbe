package sim

import (
	"time"

	"github.com/helenusdb/helenus/internal/planted"
	"github.com/helenusdb/helenus/internal/sim/check"
)

// Report is what became of a run. It is JSON between the test binary and cmd/simulate.
type Report struct {
	Seed       uint64            `json:"seed"`
	Scenario   string            `json:"scenario"`
	Swarm      bool              `json:"swarm"`
	Nodes      int               `json:"nodes"`
	Plan       string            `json:"plan"`
	Simulated  time.Duration     `json:"simulated_ns"`
	Real       time.Duration     `json:"real_ns"` // set outside of the bubble
	Ops        map[string]int64  `json:"operations"`
	Checks     int64             `json:"checks"`    // of bounds and of the cluster's state, beside those of operations
	Searched   int               `json:"searched"`  // partitions for whose history an order was searched
	Undecided  int               `json:"undecided"` // of these: given up
	Faults     map[Kind]int      `json:"faults"`
	Scheduled  int               `json:"faults_scheduled"`
	Notes      map[string]int64  `json:"notes,omitempty"`
	Goroutines int               `json:"goroutines_max"`
	Hints      int64             `json:"hints_max"`
	Files      int64             `json:"files_max"` // open at once, on one node
	Trace      string            `json:"trace"`     // hash
	Events     int64             `json:"trace_events"`
	Violations []check.Violation `json:"violations,omitempty"`
	Struck     map[string]int64  `json:"struck,omitempty"` // how often the places of the bugs planted in this process were reached, by name
}

func (w *World) report() *Report {
	hash, events := w.trace.sum()
	w.mu.Lock()
	defer w.mu.Unlock()
	r := &Report{Seed: w.opts.Seed, Scenario: w.opts.Scenario, Swarm: w.opts.Swarm, Nodes: w.plan.nodes, Plan: w.plan.String(), Simulated: time.Since(w.begun),
		Ops: map[string]int64{}, Faults: w.injected, Scheduled: len(w.plan.schedule), Notes: w.notes, Goroutines: w.goroutines, Hints: w.hints, Files: w.files, Checks: w.checks,
		Trace: traceName(hash), Events: events, Violations: w.violations,
		Struck: planted.Strikes()}
	for _, l := range w.loads {
		r.Ops[l.Name()] += l.Ops()
		searched, undecided := l.Searched()
		r.Searched, r.Undecided = r.Searched+searched, r.Undecided+undecided
	}
	return r
}
