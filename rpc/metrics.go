package rpc

import "sync/atomic"

// Metrics counts since the transport was made. All fields may be read at any time.
type Metrics struct {
	Classes [classes]ClassMetrics // by Class

	Accepted   atomic.Int64 // connections whose handshake succeeded, dialed by others
	Refused    atomic.Int64 // handshakes turned down by this end
	Superseded atomic.Int64 // accepted connections closed because their peer opened another one
	Probes     atomic.Int64 // probes answered
	Dials      atomic.Int64 // attempts
	DialErrors atomic.Int64 // attempts that brought no connection, refused ones included
	OpenIn     atomic.Int64 // accepted connections open now
	OpenOut    atomic.Int64 // dialed connections open now
}

// ClassMetrics counts what one class carried, over all peers and in both roles.
type ClassMetrics struct {
	FramesOut, FramesIn atomic.Int64 // requests, answers and one-way messages; heartbeats are not counted
	BytesOut, BytesIn   atomic.Int64 // of frames, before TLS
	Writes, Reads       atomic.Int64 // calls of Write and Read on connections
	Shed                atomic.Int64 // frames that expired in a queue
	Timeouts            atomic.Int64 // calls that ended with ErrTimeout
	Late                atomic.Int64 // answers to calls that had ended
	Overloaded          atomic.Int64 // requests turned away at a bound, on either end
	Unreachable         atomic.Int64 // sends that failed at once because the peer was known to be down
	Lost                atomic.Int64 // connections that failed after the handshake
	BadFrames           atomic.Int64 // connections closed because of bytes that are no frame
	Unanswered          atomic.Int64 // answers dropped because the queue was full, and nothing shorter would have been true
	SlowReaders         atomic.Int64 // accepted connections closed because the peer reads no answers
}

func (m *Metrics) class(c Class) *ClassMetrics { return &m.Classes[c] }
