package planted

// Bug is one planted bug.
type Bug uint8

// The bugs. Catalogue says what each one is.
const (
	AckBeforeSync Bug = iota
	ReadBeforeSync
	SyncErrorIgnored
	CacheNotTold
	PurgeKeepsShadowed
	PurgeBeforeGrace
	FoldWithoutStripe
	MarkerNotIndexed
	WatermarkIgnored
	TieByArrival
	LiveBeatsDeletion
	ComplexDeletionLost
	ExpiredDropped
	ExpiredRepaired
	TTLByLocalClock
	DigestOverEncoding
	DigestNotCompared
	RangeTombstoneDropped
	RangeOpenAtPageEnd
	RangeOpenAtPageStart
	ReverseRangeIgnored
	ShortReadOff
	PageSkipsRow
	ScanSkipsPartition
	AckBeforeApply
	ReadRepairNotAwaited
	ReadRepairNotSent
	SpeculativeCountedTwice
	QuorumOneLess
	QuorumCountsPending
	LocalQuorumCountsRemote
	UnavailableAfterDispatch
	TimeoutAsRefused
	RefusalCountsAsAck
	HintCountsAsAck
	HintRestamped
	HintPastWindow
	HintsForgotten
	HintDeletedUndelivered
	BatchSplit
	OwnerNotChecked
	ClockFloorLost
	ClockGoesBack
	PromiseNotPersisted
	AcceptNotPersisted
	BallotReused
	SerialReadSkipsInFlight
	CASReadAtOne
	CASTimeoutAsNotApplied
	CASUnknownAsFailure
	CASRetriedBlindly
	CASListKeyByClock
	CounterTwiceOnRetry
	CounterShardsSummed
	CounterClockLost
	CounterReadUnlocked
	BatchlogRemovedEarly
	BatchlogNotSynced
	BatchlogReplaysHalf
	BatchlogRestamped
	PurgeWithHintPending
	PurgeWithReplicaDown
	ServedBeforeFilled
	CleanedBeforeSwitch
	WritesNotFenced
	ReadsNotFenced
	KeptNotCompared
	LoserNotCompared
	OneSourceIsEnough
	SettleSkipped
	ElectorateWithoutPending
	FinishedUnheard
	LeaverDropsHints

	bugs // their number
)

// Entry describes a bug.
type Entry struct {
	Bug      Bug
	Name     string // in HELENUS_PLANTED and in reports
	What     string
	Scenario string // the line of the list of scenarios that it re-creates, or a section of the design
	Checker  string // of internal/sim/check, that must catch it; another one may be first
	Workload string // of internal/sim/workload, that brings it out
	Where    string // the function that it is planted in; "": not yet
}

// Catalogue returns all of them, in the order of their numbers.
func Catalogue() []Entry {
	return []Entry{
		{AckBeforeSync, "ack-before-sync", "a replica acknowledges a write before the log is synced", "W1", "durability", "registers", "storage.Batch.Commit"},
		{ReadBeforeSync, "read-before-sync", "a replica answers a read before what it saw is synced", "W1", "monotonic", "registers", "storage.Batch.Commit"},
		{SyncErrorIgnored, "sync-error-ignored", "a failed fsync is taken for a success", "W4", "durability", "registers", "storage.pipeline.run"},
		{CacheNotTold, "cache-not-told", "a write does not reach the row cache", "2.1", "durability", "registers", "storage.Batch.apply"},
		{PurgeKeepsShadowed, "purge-keeps-shadowed", "a range tombstone is purged while what it shadows is still there", "T1", "resurrection", "deletes", "storage.purger.tryMarkers"},
		{PurgeBeforeGrace, "purge-before-grace", "tombstones are purged before gc_grace is over", "T2", "resurrection", "deletes", "storage.purger.gcBefore"},
		{FoldWithoutStripe, "fold-without-stripe", "a row is folded while writes to it go on: what lands in between is lost", "2.1", "durability", "registers", "storage.Engine.fold"},
		{MarkerNotIndexed, "marker-not-indexed", "a new range tombstone is not entered in the filter that point reads ask", "T12", "resurrection", "deletes", "storage.Batch.addMarkers"},
		{WatermarkIgnored, "watermark-ignored", "a log that is too short is not noticed", "P15", "linearizable", "lwt", "storage.Engine.checkTail"},
		{TieByArrival, "tie-by-arrival", "of two values with one timestamp the one that arrived last wins", "K5", "durability", "registers", "row.Cell.Supersedes"},
		{LiveBeatsDeletion, "live-beats-deletion", "a value wins over a deletion of the same timestamp", "T17", "resurrection", "registers", "row.Cell.rank"},
		{ComplexDeletionLost, "complex-deletion-lost", "reconciling a collection forgets that it was overwritten", "T13", "durability", "deletes", "row.rowMerge.elements"},
		{ExpiredDropped, "expired-dropped", "an expired cell is dropped at once, so that what it had overwritten elsewhere shows", "T11", "resurrection", "deletes", "row.rewrite.cell"},
		{ExpiredRepaired, "expired-repaired", "a read repairs what has expired at its own now without the value", "T10", "durability", "deletes", "row.PageBuilder.Init"},
		{TTLByLocalClock, "ttl-local-clock", "each replica decides by its own clock what has expired", "T10", "resurrection", "deletes", "coordinator.Coordinator.readable"},
		{DigestOverEncoding, "digest-over-encoding", "digests are made over what is stored, not over what counts", "R8", "convergence", "deletes", "row.PageBuilder.Row"},
		{DigestNotCompared, "digest-not-compared", "digests that differ are taken for equal", "R16", "durability", "registers", "coordinator.readOp.digestsAgree"},
		{RangeTombstoneDropped, "range-tombstone-dropped", "a page leaves range tombstones out", "R5", "resurrection", "deletes", "row.PageBuilder.closePartition"},
		{RangeOpenAtPageEnd, "range-open-at-page-end", "a range tombstone that is open where a page ends is lost from it", "R7", "pages", "pages", "row.PageBuilder.closePartition"},
		{RangeOpenAtPageStart, "range-open-at-page-start", "a range tombstone that is open where a page begins is not opened again", "R7", "pages", "pages", "row.PageBuilder.prepareRanges"},
		{ReverseRangeIgnored, "reverse-range-ignored", "reading backwards does not see what range tombstones cover", "R6", "resurrection", "deletes", "row.cover.over"},
		{ShortReadOff, "short-read-off", "a replica's page that was cut counts for what lies behind its end", "R3", "pages", "pages", "row.ReconcilePages"},
		{PageSkipsRow, "page-skips-row", "a page begins one row too far", "R4", "pages", "pages", "storage.reader.clip"},
		{ScanSkipsPartition, "scan-skips-partition", "a scan that resumes within a partition goes on behind it", "R12", "pages", "pages", "coordinator.scanWalk.run"},
		{AckBeforeApply, "ack-before-apply", "the coordinator counts its own replica before the batch is committed", "W1", "durability", "registers", "coordinator.Burst.sendHere, writeAlone"},
		{ReadRepairNotAwaited, "read-repair-not-awaited", "a read answers before the replicas are repaired", "R1", "monotonic", "registers", "coordinator.gathering.repair"},
		{ReadRepairNotSent, "read-repair-not-sent", "a read does not repair", "R1", "monotonic", "registers", "coordinator.gathering.page"},
		{SpeculativeCountedTwice, "speculative-counted-twice", "the answer of a replica that was asked late counts twice", "R14", "durability", "registers", "coordinator.readOp.step"},
		{QuorumOneLess, "quorum-one-less", "a quorum is half of the replicas", "2.7", "durability", "registers", "coordinator.tablePlan.quota"},
		{QuorumCountsPending, "quorum-counts-pending", "a joining replica's answer stands in for a natural one's", "M2", "durability", "registers", "coordinator.quota.expect"},
		{LocalQuorumCountsRemote, "local-quorum-counts-remote", "LOCAL_QUORUM counts replicas of other data centres", "P12", "durability", "registers", "coordinator.quota.counts"},
		{UnavailableAfterDispatch, "unavailable-after-dispatch", "a write is sent, and then answered with Unavailable", "P5", "honesty", "registers", "coordinator.writeOp.place"},
		{TimeoutAsRefused, "timeout-as-refused", "a write that may be applied is answered with \"nothing was done\"", "P5", "honesty", "registers", "coordinator.writeOp.errorOf"},
		{RefusalCountsAsAck, "refusal-counts-as-ack", "a replica's refusal counts as an acknowledgement", "L3", "durability", "registers", "coordinator.statusOutcome"},
		{HintCountsAsAck, "hint-counts-as-ack", "a hint counts towards every level, not only ANY", "2.7", "durability", "registers", "coordinator.writeTarget.outcome"},
		{HintRestamped, "hint-restamped", "a hint is replayed with a new timestamp", "B5", "durability", "registers", "coordinator.Coordinator.deliver"},
		{HintPastWindow, "hint-past-window", "a hint is replayed after gc_grace, over purged tombstones", "H4", "resurrection", "deletes", "coordinator.Coordinator.keepHint"},
		{HintsForgotten, "hints-forgotten", "hints of an earlier run are gone", "H7", "durability", "registers", "hints.Hints.load"},
		{HintDeletedUndelivered, "hint-deleted-undelivered", "a hint is deleted although its delivery failed", "H5", "durability", "registers", "hints.Hints.settle"},
		{BatchSplit, "batch-split", "the mutations of one partition travel, and are applied, one by one", "B2", "batches", "batches", "coordinator.writeOp.plan"},
		{OwnerNotChecked, "owner-not-checked", "a replica takes writes of tokens that it does not own", "M17", "durability", "registers", "coordinator.Coordinator.writable"},
		{ClockFloorLost, "clock-floor-lost", "the ceiling of timestamps is not persisted", "K3", "durability", "registers", "hlc.Clock.Extend"},
		{ClockGoesBack, "clock-goes-back", "timestamps follow a wall clock that steps back", "K3", "durability", "registers", "hlc.Clock.Timestamp"},
		{PromiseNotPersisted, "promise-not-persisted", "a promise is answered before it is durable", "P14", "linearizable", "lwt", "coordinator.acceptor.vote"},
		{AcceptNotPersisted, "accept-not-persisted", "an acceptance is answered before it is durable", "P14", "linearizable", "lwt", "coordinator.acceptor.vote"},
		{BallotReused, "ballot-reused", "ballots are not unique: two proposers may use the same one", "P14", "linearizable", "lwt", "coordinator.Coordinator.ballot"},
		{SerialReadSkipsInFlight, "serial-read-skips-in-flight", "what was accepted and not decided is passed over", "P1", "linearizable", "lwt", "paxos.Round.afterPromise"},
		{CASReadAtOne, "cas-read-at-one", "a condition is decided by one replica's data", "P2", "linearizable", "lwt", "coordinator.casAttempt.promisedContent"},
		{CASTimeoutAsNotApplied, "cas-timeout-as-not-applied", "a proposal that may win is answered with not applied", "P5", "linearizable", "lwt", "coordinator.casRun.end"},
		{CASUnknownAsFailure, "cas-unknown-as-failure", "a proposal that may win is answered with a failure, which says that it is not applied", "P5", "linearizable", "lwt", "coordinator.casRun.end"},
		{CASRetriedBlindly, "cas-retried-blindly", "a proposal that may have won is made again under a new ballot", "P6", "linearizable", "lwt", "coordinator.casRun.attempt"},
		{CASListKeyByClock, "cas-list-key-by-clock", "the elements that a conditional append adds are ordered by the coordinator's clock", "P10", "linearizable", "lwt", "plan.Args.after"},
		{CounterTwiceOnRetry, "counter-twice-on-retry", "an increment is given to another leader after a timeout", "C1", "counters", "counters", "coordinator.counterPart.led"},
		{CounterShardsSummed, "counter-shards-summed", "replicas add shards up instead of taking the newest", "C5", "counters", "counters", "row.rowMerge.elements"},
		{CounterClockLost, "counter-clock-lost", "a counter's new state is replicated before its leader has it on disk, so that a crash gives one clock to two counts", "C5", "counters", "counters", "coordinator.counterLane.commit"},
		{CounterReadUnlocked, "counter-read-unlocked", "two increments of one counter read the same value", "C1", "counters", "counters", "coordinator.counterLane.holder"},
		{BatchlogRemovedEarly, "batchlog-removed-early", "the batch log's entry is removed before the batch was made", "B3", "batches", "batches", "coordinator.loggedOp.run"},
		{BatchlogNotSynced, "batchlog-not-synced", "a keeper acknowledges an entry of the batch log before it is durable", "B2", "batches", "batches", "coordinator.replicaSession.storeBatch"},
		{BatchlogReplaysHalf, "batchlog-replays-half", "a replay counts as done when one partition was written", "B1", "batches", "batches", "coordinator.replays.parts"},
		{BatchlogRestamped, "batchlog-restamped", "a replay writes with new timestamps", "B5", "batches", "batches", "coordinator.replays.parts"},
		{PurgeWithHintPending, "purge-with-hint-pending", "a repair vouches for deletions while a hint with older rows waits", "2.8", "resurrection", "deletes", "repair.session.waiting"},
		{PurgeWithReplicaDown, "purge-with-replica-down", "a repair leaves a replica out that is down, and counts", "2.8", "resurrection", "deletes", "repair.Service.session, session.waitingOn"},
		{ServedBeforeFilled, "served-before-filled", "a node that gains ranges reports that it has its rows, and they were never brought", "M1", "durability", "registers", "movement.Mover.fillOne"},
		{CleanedBeforeSwitch, "cleaned-before-switch", "a node deletes what it is going to lose as soon as it hears of the plan", "M16", "durability", "registers", "movement.Mover.fill, node.Node.clean"},
		{WritesNotFenced, "writes-not-fenced", "replicas take writes and ballots that were planned before the movement", "M1", "durability", "registers", "coordinator.view.fence, node.gate.admits"},
		{ReadsNotFenced, "reads-not-fenced", "replicas answer reads that were planned before reads have moved", "M20", "durability", "registers", "coordinator.Coordinator.readFence"},
		{KeptNotCompared, "kept-not-compared", "replicas that stay are not compared where fewer are left", "M3", "durability", "registers", "meta.State.wanting"},
		{LoserNotCompared, "loser-not-compared", "a node that gains a range is not compared with those that lose it", "M3", "durability", "registers", "movement.choose"},
		{OneSourceIsEnough, "one-source-is-enough", "a node that gains a range is filled from one replica and not compared with others", "A5", "durability", "registers", "movement.Mover.fillOne"},
		{SettleSkipped, "settle-skipped", "conditional writes that are decided and not applied are left alone before a range is filled", "P3", "linearizable", "lwt", "coordinator.Coordinator.FinishAll"},
		{ElectorateWithoutPending, "electorate-without-pending", "those that gain a range have no vote on its conditional writes", "P3", "linearizable", "lwt", "coordinator.tablePlan.electorate, ballotNeed"},
		{FinishedUnheard, "finished-unheard", "a movement ends before all have heard that reads have moved", "M20", "durability", "registers", "meta.State.Advance"},
		{LeaverDropsHints, "leaver-drops-hints", "a node that leaves takes its hints and batches with it", "H8", "durability", "registers", "coordinator.Coordinator.giveAway"},
	}
}

// Named returns the bug of that name.
func Named(name string) (Bug, bool) {
	for _, e := range Catalogue() {
		if e.Name == name {
			return e.Bug, true
		}
	}
	return 0, false
}
