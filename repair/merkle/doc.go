// Package merkle narrows down where replicas differ, given tallies of token intervals: a Merkle tree that is never built. Its nodes are
// the intervals that somebody asked for, its hashes sums of the hashes of what lies in them (row.Tally), so that a node is the sum of its
// children however they were cut. Everything is pure: no clock, no I/O, no goroutine.
//
//	w := merkle.NewWalk(interval, replicas, limits)
//	for spans := w.Next(); spans != nil; spans = w.Next() {
//		… ask every replica for the tallies of spans …
//		leaves := w.Compare(tallies)
//	}
//
// A walk is depth first and asks for at most Limits.Batch intervals at a time, so it holds at most Batch × 17 intervals for each of at
// most 16 levels, whatever the size of the table.
//
// docs/design/0011-repair.md has the whole of repair.
package merkle
