package bench

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/helenusdb/helenus/cql/protocol"
)

// Counted is what a counter run has shown: Acknowledged <= Sum <= Acknowledged + Unknown, or an increment was lost or counted
// twice.
type Counted struct {
	Acknowledged uint64 `json:"acknowledged"` // increments
	Unknown      uint64 `json:"unknown"`      // answered with an error, or not at all
	Sum          int64  `json:"sum"`          // by which the counters have grown
}

func (c *Counted) wrong() bool {
	return c.Sum < int64(c.Acknowledged) || c.Sum > int64(c.Acknowledged+c.Unknown)
}

// sumTries bounds how often the sum is asked for: an increment whose answer was lost may still be under way.
const sumTries = 5

// checkSum compares the counters with what was acknowledged. A sum that is wrong counts as a bad answer.
func (r *run) checkSum(ctx context.Context, report *Report, lanes []*lane, before int64) error {
	c := &Counted{Acknowledged: r.counted.Load()}
	for _, l := range lanes {
		c.Unknown += l.sent.Load()
	}
	c.Unknown -= c.Acknowledged
	for try := range sumTries {
		after, err := counterSum(ctx, r.o.Hosts[0])
		if err != nil {
			return err
		}
		if c.Sum = after - before; !c.wrong() {
			break
		}
		time.Sleep(time.Duration(try) * 100 * time.Millisecond)
	}
	report.Counted = c
	if c.wrong() {
		r.note(fmt.Sprintf("the counters have grown by %d: %d increments were acknowledged, %d are unknown", c.Sum, c.Acknowledged, c.Unknown))
		report.Bad, report.FirstBad = r.bad.Load(), r.firstBad
	}
	return nil
}

// counterSum returns the sum of all counters at QUORUM.
func counterSum(ctx context.Context, host string) (int64, error) {
	c, err := dial(ctx, host)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	_, body, err := c.call(protocol.AppendQuery(nil, protocol.V4, 0, 0, "SELECT sum(c) FROM bench.counters", &protocol.QueryParams{Consistency: protocol.Quorum,
		PageSize: protocol.NoPageSize, SerialConsistency: protocol.Serial, Timestamp: protocol.NoTimestamp, NowInSeconds: protocol.NoNowInSeconds}))
	if err != nil {
		return 0, fmt.Errorf("bench: sum of the counters: %w", err)
	}
	if len(body) < 8 { // the result ends with its one value
		return 0, errors.New("bench: sum of the counters: no value")
	}
	return int64(binary.BigEndian.Uint64(body[len(body)-8:])), nil
}
