// Package sim runs a cluster of real nodes in virtual time.
//
// A run is a function of its seed. The seed gives the topology, the schema, the workloads and the schedule of faults; the nodes
// are package node's own, with real Pebble on a crashable file system in memory (disk.go), a network in memory (network.go), a
// failure detector that convicts and forgives on a schedule (detector.go), and clocks that are wrong (clock.go). Everything
// happens inside one testing/synctest bubble, so that a minute passes in seconds, and one process runs one seed: package
// testing's T is needed, so Run is called by the test TestSeed, which cmd/simulate runs once per seed.
//
// # Determinism
//
// Goroutines of one instant run in any order and side by side. A run is repeatable all the same because almost no instant holds
// more than one event: what travels takes a time that depends on (seed, flow, instant) and arrives in a nanosecond of its own,
// nodes start and faults happen at instants that nobody shares, and randomness is a function of (seed, stream, counter). The
// trace (trace.go) hashes the logical events of each instant in sorted order.
//
// A crash inside a file-system call happens when every other goroutine has come to rest (quiesce.go): what the node could send
// without that call has left, and what depends on it never leaves.
package sim
