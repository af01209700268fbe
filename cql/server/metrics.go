package server

import (
	"math/bits"
	"sync/atomic"
	"time"

	"github.com/helenusdb/helenus/cql/protocol"
)

// Metrics counts since the server was made. All fields may be read at any time.
type Metrics struct {
	Open       atomic.Int64 // connections open now
	Ready      atomic.Int64 // of them, those past STARTUP and authentication
	Registered atomic.Int64 // of them, those that asked for events

	Accepted        atomic.Int64 // connections accepted, those turned away included
	OverConns       atomic.Int64 // turned away by ConnsMax
	OverConnsAddr   atomic.Int64 // turned away by ConnsPerAddrMax
	TLSErrors       atomic.Int64 // TLS handshakes that failed
	HandshakeLate   atomic.Int64 // closed by Timeouts.Handshake
	FrameLate       atomic.Int64 // closed by Timeouts.Frame
	WriteLate       atomic.Int64 // closed by Timeouts.Write
	IdleClosed      atomic.Int64 // closed by Timeouts.Idle
	AuthSuccesses   atomic.Int64
	AuthFailures    atomic.Int64
	ProtocolErrors  atomic.Int64     // requests refused because they could not be understood or came out of turn
	BadFrames       atomic.Int64     // broken envelopes and segments
	Overloaded      atomic.Int64     // requests refused with OVERLOADED
	Pauses          atomic.Int64     // times a connection was not read because of UnsentMax or InFlightMax
	Panics          atomic.Int64     // panics of sessions that were caught
	Errors          atomic.Int64     // ERROR answers
	AnswersTwice    atomic.Int64     // answers dropped because their request had been answered: a fault of the session
	AnswersLate     atomic.Int64     // answers dropped because their connection had ended
	Events          atomic.Int64     // events put into out buffers
	EventsDropped   atomic.Int64     // events dropped because a connection had more than UnsentMax to send
	BytesIn         atomic.Int64     // as read, before TLS
	BytesOut        atomic.Int64     // as written, before TLS
	Reads, Writes   atomic.Int64     // calls of Read and Write on connections
	Requests        [17]atomic.Int64 // by opcode; only request opcodes count
	RequestsPerRead Histogram        // requests of one read
	BytesPerWrite   Histogram        // bytes of one write
	Latency         Histogram        // ns from the read of a request to its answer, of one request in LatencySample
}

// LatencySample is the number of requests of which one has its latency measured.
const LatencySample = 16

// Histogram counts values in buckets that double: bucket i holds the values in [2^(i-1), 2^i), bucket 0 those below 1,
// the last one everything above.
type Histogram struct {
	Buckets [HistogramBuckets]atomic.Int64
	Sum     atomic.Int64
}

// HistogramBuckets is the number of buckets of a Histogram: the last bound is above 17 s in nanoseconds.
const HistogramBuckets = 36

// Add counts a value.
func (h *Histogram) Add(v int64) {
	h.Buckets[min(bits.Len64(uint64(max(v, 0))), HistogramBuckets-1)].Add(1)
	h.Sum.Add(v)
}

// Bound returns the upper bound of bucket i, exclusive; the last bucket has none, whatever this returns.
func (h *Histogram) Bound(i int) int64 { return 1 << i }

// ConnState is a snapshot of one connection, for system_views.clients and operators.
type ConnState struct {
	Info ConnInfo // complete once Stage is ready; before, what is known

	Stage      protocol.Stage
	Requests   int64             // QUERY, PREPARE, EXECUTE and BATCH, answered or not
	InFlight   int64             // of them, those not answered
	Events     protocol.EventSet // registered for
	UnsentSize int               // bytes of answers waiting to be written
	Idle       time.Duration     // since bytes came last; coarse
}
