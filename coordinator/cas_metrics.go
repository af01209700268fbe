package coordinator

import (
	"encoding/binary"
	"errors"
	"sync/atomic"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/helenusdb/helenus/ring"
)

// CASMetrics are counters of conditional writes and serial reads since the start.
type CASMetrics struct {
	CASApplied, CASNotApplied, CASUnknown, CASUnavailable atomic.Int64 // by outcome; unknown: timeouts too
	CASLatency                                            DurationSum
	SerialReads, SerialLooks                              atomic.Int64 // looks: those that promised nothing
	CASContention                                         atomic.Int64 // attempts that others got in the way of
	CASContentionTimeouts                                 atomic.Int64
	CASUnfinished                                         atomic.Int64 // proposals of others that were finished
	CASRefreshes                                          atomic.Int64 // commits sent to replicas that lacked them
	CASTurns                                              atomic.Int64 // waited for and got
	CASShadowed                                           atomic.Int64 // writes under content from the future
	BallotsAhead                                          atomic.Int64 // refused here
	CASSwept, CASForgotten                                atomic.Int64 // registers finished, and forgotten, by the sweep
}

// DurationSum sums up durations.
type DurationSum struct{ Nanos, Count atomic.Int64 }

func (s *DurationSum) observe(d time.Duration) {
	s.Nanos.Add(int64(d))
	s.Count.Add(1)
}

func (m *CASMetrics) countCAS(w *casOp, err error) {
	var unavailable *Unavailable
	switch {
	case err == nil && w.applied:
		m.CASApplied.Add(1)
	case err == nil:
		m.CASNotApplied.Add(1)
	case errors.As(err, &unavailable):
		m.CASUnavailable.Add(1)
	default:
		m.CASUnknown.Add(1)
	}
}

// nonceOf is what ids of ballots are made of: it differs from node to node and from start to start.
func nonceOf(self ring.HostID, boot uint64) uint64 {
	return xxhash.Sum64(binary.BigEndian.AppendUint64(self[:], boot))
}
