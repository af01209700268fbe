// Package coordinator is both halves of the replica protocol: it carries out a read or a write at the consistency level
// that the request chose, on the replicas of its partition, and answers the coordinators of other nodes for the data
// that this node holds.
//
// # Writes
//
// A write goes to every live replica at once, this node without a hop, and is answered when its level is reached. A
// replica that is down when it begins gets a hint in the same local batch as the mutation; one that fails or does not
// answer in time gets it then. Unavailable is decided before anything is sent. What was sent and not acknowledged is a
// timeout (it may be applied), and so is what did not reach a replica that counts as alive; a failure is only what a replica
// refused (docs/design/0013-unreachable-replicas.md). Nothing is ever retried as if it had failed, except on replicas that say that they
// refused it.
//
// A logged batch over several partitions is first stored by other nodes, then made, then removed there (package batchlog);
// what is said of it afterwards is never that it failed, for it is going to be made.
//
// # Reads
//
// Data comes from the best replica (this node first, then by latency and outstanding requests), digests from as many
// others as the level asks for. When they differ all of them are read in full, reconciled, and those that lag are
// repaired before the answer goes out (blocking read repair), so that quorum reads are monotonic. One more replica is
// asked when the answers are late, as the table's speculative_retry says.
//
// # How it runs
//
// A Burst belongs to the goroutine that reads one client connection: all writes that it read in one go go into one
// storage batch. There is no goroutine per request and no allocation in the common cases: an operation is a pooled
// object, answers come as callbacks of the transport and of storage. Callbacks never block and never call back into a
// Burst. What takes long (scans, reconciliation after a digest mismatch) runs on a goroutine of its own.
//
// Storage stands behind the interface that this package declares; node binds it. The bytes of messages are drawn in
// docs/format/messages.md.
package coordinator
