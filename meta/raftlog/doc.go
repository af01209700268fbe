// Package raftlog keeps the cluster's metadata log: it drives go.etcd.io/raft with a small Pebble store of its own and
// applies what is committed to meta.State. Only this package imports raft.
//
// One goroutine (Service.Run) owns the Raft state machine; everything else talks to it through bounded channels. Current
// is an atomic load and never waits: reads and writes of data use the newest state this node has, with or without a
// quorum. Changes (Propose) need one; they fail with ErrNoQuorum otherwise, and nothing else does.
//
// A change takes effect once or never, however often it had to be sent: see Propose. Members that own ranges are voters, an
// odd number of them spread over racks, or learners; the leader keeps Raft's membership equal to what the state says.
//
// A node that is behind (CatchUp) pulls the whole state from any peer that is ahead; that needs no quorum either. The
// pulled state is durable before it is used, so metadata never goes backwards on this node.
//
// A node that finds the end of its log missing is silent until the others have taken it out of Raft's membership and let it
// learn the log anew: see heal.go.
//
// Elections are timed here, not by the Raft library, whose timeouts come from the system's random source: with the
// random function given at construction the same seed gives the same elections.
package raftlog
