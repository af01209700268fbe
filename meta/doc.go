// Package meta is the cluster's metadata as a pure replicated state machine: one immutable State with an epoch, changed
// only by the Commands of a log. It holds the schema catalog, the members with their tokens, the cluster's identity and
// version. Every node that has applied the log up to an epoch has an equal State.
//
// Reads and writes of data use the newest State this node has and never wait for the log; what goes wrong when a node
// is behind is caught by the replicas, which refuse tokens they do not own and table generations they do not know.
//
// It also holds the operations by which ranges change hands (join, replace, decommission, remove, move, replication). All that are under way
// share one movement, from the replicas before it (State.Before) to those after it (State.After): the state says in which Phase it is,
// which of both are read (Placement) and which are only written (OtherPlacement), and who still has to report before it goes on. Why
// nothing is lost is in docs/design/0009-movement.md.
//
// No goroutine, clock, disk or network may come in: meta/raftlog drives the log with Raft, meta/formation decides how
// nodes become one cluster. Log entries carry results (ids, tokens, validated definitions), never statements, so that
// two versions of the program cannot come to different States. The bytes are drawn in docs/format/meta.md.
package meta
