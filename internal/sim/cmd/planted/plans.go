package main

import (
	"time"

	"github.com/helenusdb/helenus/internal/planted"
)

// plan is where a bug is hunted.
type plan struct {
	scenarios []string // of the simulator, in turns; default: registers, quorum, crashes
	workload  string   // default: the bug's own
	span      time.Duration
	waits     string // what it cannot show itself without; "": nothing
}

func (p plan) withDefaults(e *planted.Entry) plan {
	if p.scenarios == nil {
		p.scenarios = []string{"registers", "quorum", "crashes"}
	}
	if p.workload == "" {
		p.workload = e.Workload
	}
	if p.span == 0 {
		p.span = 30 * time.Second
	}
	return p
}

// plans are those that differ from the default.
var plans = map[planted.Bug]plan{
	planted.AckBeforeSync:           {scenarios: []string{"crashes"}},
	planted.ReadBeforeSync:          {scenarios: []string{"crashes"}},
	planted.SyncErrorIgnored:        {scenarios: []string{"disks"}},
	planted.AckBeforeApply:          {scenarios: []string{"crashes"}},
	planted.PurgeKeepsShadowed:      {scenarios: []string{"grace"}},
	planted.PurgeBeforeGrace:        {scenarios: []string{"purge"}},
	planted.HintPastWindow:          {waits: "a fault that outlasts gc_grace, which resurrects by design where repair does not prevent it"},
	planted.TTLByLocalClock:         {scenarios: []string{"clocks"}},
	planted.ClockFloorLost:          {scenarios: []string{"clocks"}},
	planted.ClockGoesBack:           {scenarios: []string{"clocks"}},
	planted.LocalQuorumCountsRemote: {scenarios: []string{"centres"}},
	planted.QuorumCountsPending:     {waits: "node movement"},
	planted.OwnerNotChecked:         {waits: "node movement"},
	planted.WatermarkIgnored:        {scenarios: []string{"disks"}},
}
