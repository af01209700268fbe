// Package rpc carries the messages between nodes: requests with an answer, one-way messages, and the probe that
// nodes use before they belong to a cluster.
//
// # Connections
//
// There is one TCP connection per peer, class and direction: the node that sends requests dials, the other answers
// on the same connection. [Urgent] carries Raft, Paxos and other small messages that must never wait behind data,
// [Data] reads and writes, [Stream] bulk transfer with bodies up to [BodyMax]; since each class has its own
// connection, queue and goroutines, a 16 MiB body never delays an urgent message. Messages of one class sent by one
// goroutine arrive in order.
//
// A connection begins with a handshake that carries the cluster id and the host ids of both ends. A node of another
// cluster, or one that now lives at an address where somebody else is expected, is refused with a reason that
// reaches the dialer's error and log. Both ends send heartbeats that say how many bytes they have received, so a
// connection that is dead in only one direction is noticed within [Options.DeadAfter] plus one heartbeat.
//
// # Sending
//
// [Transport.Send] copies the body into the queue of the connection and returns; it never blocks. One writer
// goroutine per connection takes whatever is queued at that moment and hands it to the kernel in one write: that is
// all the coalescing there is, callers have nothing to hold or release. A queue is bounded in bytes and in requests
// ([Limits]); at the bound expired requests are shed first, then Send fails at once with [ErrOverloaded]. While a
// peer cannot be reached Send fails at once with [ErrUnreachable]; redialing goes on in the background with
// jittered backoff, and [Transport.Nudge] ends a backoff early.
//
// Every call ends exactly once: with the answer, when its deadline passes, or when its connection fails. The error
// says whether the peer can have seen the request ([Error.Sent]). Expiry is checked at most every
// [Options.ExpiryTick], not by a timer per call.
//
// # Receiving
//
// A [Session] is created for each accepted connection. Its Handle is called serially for every request found in one
// socket read, then its Flush once, so that what was read in one go can be applied as one storage batch. A
// [Responder] is a small value that may be kept and used later from any goroutine.
//
// # Verbs
//
// The package knows no verb. They are assigned by the users in these ranges: 1 to 31 meta, 32 to 95 coordinator,
// 96 to 127 repair and stream; the others are free. [Mux] routes by range.
//
// # Bodies
//
// Bodies are opaque here; users encode them as msgpack with the Append functions and [Reader] of this package.
// The bytes of frames and handshakes are drawn in docs/format/rpc.md.
package rpc
