// Package paxos is the protocol of conditional writes: one register per partition, replicated by its acceptors, of which each
// decided value follows the one before it. It is pure: no goroutine, clock, message or disk. State is one acceptor, Round one
// attempt of a proposer with one ballot; both say what to store, send or do next, and the caller does it. What they store must
// be durable before an answer leaves. docs/design/0006-paxos.md says why it is right; the bytes are drawn in
// docs/format/storage-keys.md (Head) and docs/format/messages.md (Proposal, Promise).
package paxos
