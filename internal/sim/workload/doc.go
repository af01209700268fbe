// Package workload is what clients do to a simulated cluster: each Workload makes its own keyspace, runs clients against all nodes
// while faults are injected, writes down what was asked and answered when, and at the end has package check judge it.
//
// A workload sees the cluster through Env only, so it runs against any cluster: in the simulator inside a testing/synctest bubble, or
// against nodes with real sockets. For the same Env with the same randomness it asks for the same things: each client goroutine has
// a random stream, numbers and timestamps of its own and shares nothing with the others; it never waits under a mutex.
//
//	registers   cells and elements of maps, at random levels, timestamps of clients (with ties) or not     durability, monotonic, honesty
//	deletes     rows in partitions; row, range and partition deletions, TTL, also read backwards          resurrection as well
//	pages       paged scans of tables and partitions, another coordinator for each page, among writes    pages
//	batches     batches on one partition, logged ones over several                                       batches
//	counters    increments and decrements                                                                counters
//	lwt         conditional writes, list appends and serial reads of contended rows                      linearizable
//
// All but lwt end with a read of everything at ALL, then at ONE through each node: convergence.
package workload
