package coordinator

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/helenusdb/helenus/internal/trace"
	"github.com/helenusdb/helenus/row"
)

// CASType is the type of conditional writes in timeouts.
const CASType WriteType = "CAS"

// CAS is a conditional write of one partition. The caller owns it; blocking form, run on a goroutine apart.
type CAS struct {
	Command row.Command    // what the conditions need of the partition: one partition, Digest unset
	Serial  Level          // Serial or LocalSerial
	Commit  Level          // level of the commit, any write level
	Timeout time.Duration  // 0: Options.CASTimeout
	Trace   *trace.Session // nil: none
	// Decide is told the partition's latest decided content and returns what to write: mutations of this partition whose
	// every timestamp is ts (µs, the ballot's), or applied == false. It may be called more than once, each time with newer
	// content; it must be pure. now is in seconds.
	Decide func(page *row.Page, ts, now int64) (ms []row.Mutation, applied bool, err error)
	Page   row.Page // afterwards: the content that Decide saw last
}

// CASWriteUnknown says that a conditional write may yet be applied or not: some replicas accepted it, too few to know.
type CASWriteUnknown struct {
	Level              Level
	Received, BlockFor int
}

// Error returns Cassandra's text.
func (e *CASWriteUnknown) Error() string {
	return fmt.Sprintf("CAS operation result is unknown - proposal accepted by %d but not a quorum.", e.Received)
}

var errNoCAS = errors.New("coordinator: conditional writes are not built yet")

// CAS carries out a conditional write and reports whether it was applied.
func (c *Coordinator) CAS(context.Context, *CAS) (applied bool, err error) { return false, errNoCAS }

// SerialRead reads one partition linearizably; r.Level is Serial or LocalSerial; blocking.
func (c *Coordinator) SerialRead(context.Context, *Read) error { return errNoCAS }
