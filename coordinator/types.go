package coordinator

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/helenusdb/helenus/internal/trace"
	"github.com/helenusdb/helenus/ring"
	"github.com/helenusdb/helenus/row"
	"github.com/helenusdb/helenus/schema"
)

// Level is a consistency level, numbered as in the native protocol.
type Level uint16

// The levels.
const (
	Any         Level = 0
	One         Level = 1
	Two         Level = 2
	Three       Level = 3
	Quorum      Level = 4
	All         Level = 5
	LocalQuorum Level = 6
	EachQuorum  Level = 7
	Serial      Level = 8
	LocalSerial Level = 9
	LocalOne    Level = 10
)

var levelNames = [...]string{"ANY", "ONE", "TWO", "THREE", "QUORUM", "ALL", "LOCAL_QUORUM", "EACH_QUORUM", "SERIAL", "LOCAL_SERIAL", "LOCAL_ONE"}

// String returns the name as in CQL shells and error texts.
func (l Level) String() string {
	if int(l) < len(levelNames) {
		return levelNames[l]
	}
	return fmt.Sprintf("LEVEL(%d)", uint16(l))
}

// Local tells whether only replicas of the local data centre count.
func (l Level) Local() bool { return l == LocalOne || l == LocalQuorum || l == LocalSerial }

// WriteType names the kind of a write in timeouts and failures, as drivers' retry policies know it.
type WriteType string

// The write types.
const (
	Simple        WriteType = "SIMPLE"
	LoggedBatch   WriteType = "BATCH"
	UnloggedBatch WriteType = "UNLOGGED_BATCH"
	BatchLog      WriteType = "BATCH_LOG" // of the error of a logged batch that was not made, for the batchlog does not have it
	CounterWrite  WriteType = "COUNTER"   // increments and deletions of counters: see counter.go
)

// Failure is a replica that answered with an error.
type Failure struct {
	Host ring.HostID
	Addr netip.Addr // internode address
	Code uint16     // failure reason of the native protocol
	Why  string     // what the replica says, for the error text; may be empty
}

// Failure reasons, as Cassandra 5.0 numbers them in the error bodies of the native protocol.
const (
	ReasonUnknown            uint16 = 0
	ReasonTooManyTombstone   uint16 = 1
	ReasonTimeout            uint16 = 2
	ReasonIncompatibleSchema uint16 = 3
	ReasonReadSize           uint16 = 4
	ReasonNodeDown           uint16 = 5
	ReasonIndexUnavailable   uint16 = 6
)

// Unavailable is decided before dispatch: nothing was sent.
type Unavailable struct {
	Level           Level
	Required, Alive int
	Batchlog        bool // of nodes to keep a logged batch
}

// Error returns Cassandra's text.
func (e *Unavailable) Error() string {
	if e.Batchlog {
		return fmt.Sprintf("Cannot achieve consistency level %s for batchlog in local DC, required:%d, available:%d", e.Level, e.Required, e.Alive)
	}
	return "Cannot achieve consistency level " + e.Level.String()
}

// WriteTimeout says that too few replicas acknowledged in time, or were reached; the write may be applied on any of them, or be
// brought by a hint later.
type WriteTimeout struct {
	Level              Level
	Received, BlockFor int
	Type               WriteType
	Contentions        int // with CASType: how often it began anew because another proposer was ahead
}

// Error returns Cassandra's text.
func (e *WriteTimeout) Error() string {
	if e.Type == CASType {
		return fmt.Sprintf("CAS operation timed out: received %d of %d required responses after %d contention retries", e.Received, e.BlockFor, e.Contentions)
	}
	return fmt.Sprintf("Operation timed out - received only %d responses.", e.Received)
}

// WriteFailure says that too many replicas refused; those that acknowledged have applied the write.
type WriteFailure struct {
	Level              Level
	Received, BlockFor int
	Type               WriteType
	Failures           []Failure
}

// Error returns Cassandra's text.
func (e *WriteFailure) Error() string {
	return fmt.Sprintf("Operation failed - received %d responses and %d failures", e.Received, len(e.Failures))
}

// ReadTimeout says that too few replicas answered in time, or were reached.
type ReadTimeout struct {
	Level              Level
	Received, BlockFor int
	DataPresent        bool
}

// Error returns Cassandra's text.
func (e *ReadTimeout) Error() string {
	return fmt.Sprintf("Operation timed out - received only %d responses.", e.Received)
}

// ReadFailure says that too many replicas answered with an error.
type ReadFailure struct {
	Level              Level
	Received, BlockFor int
	DataPresent        bool
	Failures           []Failure
}

// Error returns Cassandra's text.
func (e *ReadFailure) Error() string {
	return fmt.Sprintf("Operation failed - received %d responses and %d failures", e.Received, len(e.Failures))
}

// Overloaded says that a bound of this node was reached; nothing was done.
type Overloaded struct{ Msg string }

// Error returns the message.
func (e *Overloaded) Error() string { return e.Msg }

// TooLarge says that the mutations of one partition exceed what a message between nodes carries; nothing was done.
type TooLarge struct{ Size, Max int }

// Error names both sizes, in bytes.
func (e *TooLarge) Error() string {
	return fmt.Sprintf("Mutation of %d bytes is too large for the maximum size of %d", e.Size, e.Max)
}

// UnknownTable says that a mutation or command names a table generation that this node does not know: the table was
// dropped or truncated since the statement was prepared.
type UnknownTable struct{ Generation schema.Generation }

// Error names the generation.
func (e *UnknownTable) Error() string {
	return fmt.Sprintf("the table (storage generation %d) does not exist any more", e.Generation)
}

// Write is one write request. The caller owns it and must not touch it from the call of Burst.Write until Done was
// called; the bytes of the mutations are not used after Burst.Write returned.
type Write struct {
	Mutations []row.Mutation // at least one; those next to one another with the same token and key are applied as one
	Level     Level
	Type      WriteType
	Timeout   time.Duration  // 0: Options.WriteTimeout
	Trace     *trace.Session // nil: none
	Done      WriteDone

	unhinted bool             // no hints for replicas that miss it: it will be made again
	applied  bool             // this node's store has it durably already, so that it is never Unavailable
	among    func(*peer) bool // which of the replicas are written to, each of which has to acknowledge; nil: all, at the level
}

// WriteDone is told how a write ended, exactly once, from any goroutine; it must not block and not call a Burst. A write
// that is refused at once is told of before Burst.Write returns, and so may a Flush that a full batch brings about.
type WriteDone interface{ WriteDone(w *Write, err error) }

// Read is one read of a single partition. The caller owns it and must not touch it from the call of Burst.Read until
// Done was called. Afterwards Page is the answer; its buffer is reused by the next read with the same Read. After a
// digest mismatch the page holds all columns, not only those that Command selects. With More it may have fewer rows than
// the limit; a page of several replicas' content without any live row goes out only when the time is up.
type Read struct {
	Command row.Command // of one partition; Digest unset
	Level   Level
	Timeout time.Duration  // 0: Options.ReadTimeout
	Trace   *trace.Session // nil: none
	Page    row.Page
	Done    ReadDone
	Holder  Holder // of the memory; nil: Burst.Read of what this node alone has is not given up when its disk is stuck

	until time.Time // when it ends, once it is planned anew with newer metadata; zero: it has not begun, or was not
	part  bool      // of a scan: metadata that differs is the scan's business
	turn  int       // of a scan: which replica of several equals to begin with
}

// Holder keeps the Read and the bytes of its Command as they are between Hold and Release, although Done was called: the
// local store may still be looking at them. Both are called from any goroutine and must not block.
type Holder interface {
	Hold()
	Release()
}

// ReadDone is told how a read ended, exactly once, from any goroutine; it must not block.
type ReadDone interface{ ReadDone(r *Read, err error) }

// Storage is this node's engine.
type Storage interface {
	NewBatch() Batch
	// Read answers the command into the page; unsynced is not 0 when what was read is not durable yet.
	Read(cmd *row.Command, page *row.Page) (unsynced uint64, err error)
	WhenSynced(seq uint64, c Committed)
}

// Batch collects writes that become visible and durable together; it belongs to one goroutine.
type Batch interface {
	// Planned names the RingEpoch under which what is applied from here on was planned, until the batch is committed or discarded. One
	// batch has one.
	Planned(ringEpoch uint64)
	// Apply fails with ErrOtherPlan when the RingEpoch is not this node's (any more).
	Apply(m *row.Mutation) error
	// ApplyAll adds all of the mutations or, with an error, none.
	ApplyAll(ms []row.Mutation) error
	PutHint(key, value []byte) error
	DeleteHint(key []byte) error
	PutBatchlog(key, value []byte) error
	DeleteBatchlog(key []byte) error
	Len() int
	Commit(c Committed)
	Discard()
}

// Committed is told once when a batch is durable.
type Committed interface{ Committed(err error) }

// HintStore reads the hints that batches put.
type HintStore interface {
	// ScanHints calls fn for the hints with start <= key < end in order until it returns false.
	ScanHints(start, end []byte, fn func(key, value []byte) bool) error
}
