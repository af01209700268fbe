// Package repair makes replicas equal: it finds what differs by tallies of token intervals (repair/merkle), moves the rows that differ, both
// ways, deletions included, with their own timestamps, and nothing else. docs/design/0011-repair.md says why that is right,
// docs/format/repair.md draws the messages.
//
//	Service.Repair ─► task (table, range, replicas) ─► session
//	  hello ─► waiting ─► finish ─► oldest ─► tally … (merkle.Walk) ─► for each leaf: list ─► fetch ─► row.ReconcilePages ─► apply ─► repaired
//
// The node that repairs leads; the others only answer, by NewSession, and keep nothing between two requests. The leader is one of the
// replicas and asks itself by a call.
//
// Everything is bounded: requests by a deadline and a number of tries, a range of a table by Options.RangeTimeout, answers in bytes, requests that a node
// answers at a time by servedMax. A range that cannot be finished ends with an error and the next one goes on.
//
// What a session has achieved is recorded on all replicas (repair/history): when it began, and the time before which tombstones may be purged now.
//
// The package imports neither storage nor coordinator: what it needs of them it declares (Store, Cluster, Registers), and node binds them.
package repair
