// Package ring holds the pure values of data placement: tokens, token ranges, partitioners, hosts, replication
// strategies, the placement of replicas, the allocation of vnode tokens and the difference between two placements.
//
// Everything here is a value or an immutable snapshot: no goroutine, no clock, no I/O, no global state. Placement is
// exactly that of Apache Cassandra 5.0 (SimpleStrategy and NetworkTopologyStrategy), so that drivers, which compute
// replicas themselves from system.peers, send each request to a node that owns the data.
//
// A Ring is built once per topology epoch, a Placement once per (epoch, strategy); lookups after that are lock free and
// do not allocate.
package ring
