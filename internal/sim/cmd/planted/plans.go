package main

import (
	"time"

	"github.com/helenusdb/helenus/internal/planted"
	"github.com/helenusdb/helenus/internal/sim/check"
)

// plan is where a bug is hunted.
type plan struct {
	scenarios []string // of the simulator, in turns; default: registers, quorum, crashes
	workload  string   // default: the bug's own
	span      time.Duration
	dense     bool     // few registers, busy clients
	also      []string // checkers that may find it in the place of the bug's own, because it shows to them as well
	test      test     // fails with the bug, where no simulated cluster shows it, or hardly ever; zero: the simulator hunts it

	name     string   // of the bug
	checkers []string // that count: the bug's own and also
}

// test names the tests of a package that a bug must break.
type test struct{ pkg, run string }

func (p plan) withDefaults(e *planted.Entry) plan {
	p.name, p.checkers = e.Name, append([]string{e.Checker}, p.also...)
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
	planted.ReadBeforeSync:           {scenarios: []string{"syncs"}, dense: true},
	planted.SyncErrorIgnored:         {scenarios: []string{"failing"}},
	planted.AckBeforeApply:           {scenarios: []string{"syncs"}, dense: true},
	planted.FoldWithoutStripe:        {scenarios: []string{"single"}, dense: true},
	planted.PurgeKeepsShadowed:       {scenarios: []string{"grace"}},
	planted.PurgeBeforeGrace:         {scenarios: []string{"purge"}},
	planted.HintDeletedUndelivered:   {scenarios: []string{"hinted"}, dense: true},
	planted.BatchSplit:               {scenarios: []string{"syncs"}, dense: true},
	planted.SpeculativeCountedTwice:  {scenarios: []string{"quorum"}, dense: true},
	planted.CounterClockLost:         {scenarios: []string{"syncs"}, dense: true},
	planted.HintCountsAsAck:          {dense: true},
	planted.RangeOpenAtPageEnd:       {scenarios: []string{"purge"}, dense: true},
	planted.ExpiredDropped:           {also: []string{check.CheckerDurability}},
	planted.ShortReadOff:             {scenarios: []string{"purge"}, dense: true},
	planted.HintsForgotten:           {scenarios: []string{"hinted"}, dense: true},
	planted.CASUnknownAsFailure:      {scenarios: []string{"quorum"}, dense: true},
	planted.PromiseNotPersisted:      {test: test{"coordinator", "TestScenario_P14_NothingIsSaidBeforeItIsDurable"}},
	planted.AcceptNotPersisted:       {scenarios: []string{"syncs"}, dense: true},
	planted.BatchlogNotSynced:        {scenarios: []string{"syncs"}, dense: true},
	planted.BatchlogRemovedEarly:     {scenarios: []string{"halves"}, dense: true},
	planted.CASListKeyByClock:        {scenarios: []string{"clocks", "timeline"}, dense: true},
	planted.HintPastWindow:           {test: test{"coordinator", "TestScenario_H4_NoHintOlderThanGCGrace"}},
	planted.TTLByLocalClock:          {scenarios: []string{"clocks"}, also: []string{check.CheckerDurability}},
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
	planted.PurgeWithHintPending:     {test: test{"node", "TestTombstones_HintPending"}},
	planted.PurgeWithReplicaDown:     {test: test{"node", "TestTombstones_ReplicaDown"}},
	planted.WatermarkIgnored:         {scenarios: []string{"flips"}, dense: true},
}
