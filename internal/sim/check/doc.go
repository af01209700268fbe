// Package check decides whether what clients saw of a cluster is something that a correct cluster may show. It is pure: no
// goroutine of its own, no clock, no I/O, no randomness; a checker consumes a history of operations and returns the violations, in
// an order that depends on nothing but the history.
//
// # Histories
//
// An operation has the instants of its call and of its answer on one true clock, and an outcome: OK, NotApplied (an error that says
// that nothing was done: Unavailable, refused before it was sent) or Unknown (a timeout, a failure on some replicas, a connection
// that was lost). An unknown operation stays open for ever: it may take effect at any moment after its call, or never.
//
// # Checkers
//
//	Registers   durability, monotonic, resurrection, honesty: single cells and rows under last write wins
//	Linearize   linearizable: conditional writes and serial reads, by Porcupine
//	Counters    counters
//	Batches     batches
//	Pages       pages
//	Converge    convergence
//
// What a legal anomaly is: a write that was not acknowledged and shows up late; a weak read (W + R <= RF) that is stale; a write that
// loses to a later timestamp, also when it was acknowledged last, because a coordinator's clock is behind; two rows of different
// partitions that are seen out of order. None of these is reported.
package check
