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
	dense     bool   // few registers, busy clients
	strict    bool   // no other checker counts: something else may fail there
	waits     string // what it cannot show itself without; "": nothing
	test      test   // fails with the bug, where no simulated cluster shows it, or hardly ever; zero: the simulator hunts it
}

// test names the tests of a package that a bug must break.
type test struct{ pkg, run string }

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
	planted.AckBeforeSync:            {scenarios: []string{"single"}},
	planted.ReadBeforeSync:           {scenarios: []string{"single"}},
	planted.SyncErrorIgnored:         {scenarios: []string{"disks"}},
	planted.AckBeforeApply:           {scenarios: []string{"single"}, dense: true},
	planted.FoldWithoutStripe:        {scenarios: []string{"single"}, dense: true},
	planted.PurgeKeepsShadowed:       {scenarios: []string{"grace"}},
	planted.PurgeBeforeGrace:         {scenarios: []string{"purge"}},
	planted.HintDeletedUndelivered:   {scenarios: []string{"single"}, dense: true},
	planted.BatchSplit:               {scenarios: []string{"single"}, dense: true},
	planted.SpeculativeCountedTwice:  {scenarios: []string{"quorum"}, dense: true},
	planted.CounterClockLost:         {scenarios: []string{"crashes"}, dense: true},
	planted.HintCountsAsAck:          {dense: true},
	planted.RangeOpenAtPageEnd:       {scenarios: []string{"purge"}, dense: true},
	planted.ShortReadOff:             {scenarios: []string{"purge"}, dense: true},
	planted.BatchlogNotSynced:        {scenarios: []string{"halves"}, dense: true},
	planted.BatchlogRemovedEarly:     {scenarios: []string{"halves"}, dense: true},
	planted.CASListKeyByClock:        {scenarios: []string{"clocks", "timeline"}, dense: true},
	planted.HintPastWindow:           {waits: "a fault that outlasts gc_grace, which resurrects by design where repair does not prevent it"},
	planted.TTLByLocalClock:          {scenarios: []string{"clocks"}},
	planted.ClockFloorLost:           {scenarios: []string{"timeline"}, dense: true},
	planted.ClockGoesBack:            {scenarios: []string{"clocks"}},
	planted.LocalQuorumCountsRemote:  {scenarios: []string{"centres"}, dense: true},
	planted.QuorumCountsPending:      {scenarios: []string{"shards"}, dense: true},
	planted.ServedBeforeFilled:       {scenarios: []string{"shards"}},
	planted.CleanedBeforeSwitch:      {scenarios: []string{"shards"}},
	planted.OneSourceIsEnough:        {scenarios: []string{"unhinted"}},
	planted.KeptNotCompared:          {scenarios: []string{"unhinted"}},
	planted.OwnerNotChecked:          {test: test{"coordinator", "TestMovement_NoOwner"}},
	planted.WritesNotFenced:          {test: test{"coordinator", "TestMovement_PlannedInTheBody"}},
	planted.ReadsNotFenced:           {test: test{"coordinator", "TestMovement_ReadsOfEndedPlans"}},
	planted.LoserNotCompared:         {test: test{"repair/movement", "TestPending"}},
	planted.SettleSkipped:            {test: test{"coordinator", "TestFinishAll"}},
	planted.ElectorateWithoutPending: {test: test{"coordinator", "TestScenario_P3_JoiningReplicasVote"}},
	planted.FinishedUnheard:          {test: test{"repair/movement", "TestMoversCompareOnceMore|TestMoversUnderAnything"}},
	planted.LeaverDropsHints:         {test: test{"coordinator", "TestMovement_ANodeThatLeavesKeepsNothing"}},
	planted.PurgeWithHintPending:     {waits: "days of virtual time: node's TestTombstones_HintPending finds it"},
	planted.PurgeWithReplicaDown:     {waits: "days of virtual time: node's TestTombstones_ReplicaDown finds it"},
	planted.WatermarkIgnored:         {scenarios: []string{"flips"}, dense: true, strict: true},
}
