package coordinator

import (
	"encoding/binary"
	"errors"

	"github.com/helenusdb/helenus/internal/planted"
	"github.com/helenusdb/helenus/rpc"
)

// What a request wants of a replica was planned in one view of the metadata, and the request says which: the RingEpoch of that view
// stands in its body. (The epoch in the frame is that of the moment of sending, and rpc may send late.) A replica takes writes and
// ballots of its own RingEpoch only, so that what it has applied after it learned of a plan went to all replicas of that plan, and answers no reads of a plan
// by which nodes may be asked that take no writes any more: docs/design/0009-movement.md, F1 and F5.

// ErrOtherPlan is what a Batch refuses a mutation with that was planned under another RingEpoch than this node's. Nothing of it is
// applied.
var ErrOtherPlan = errors.New("coordinator: ranges have moved since this was planned")

// plannedBytes is the length of a RingEpoch in front of a body.
const plannedBytes = 8

// appendPlanned begins a body that is planned in the view.
func (v *view) appendPlanned(dst []byte) []byte {
	return binary.BigEndian.AppendUint64(dst, v.state.RingEpoch)
}

// splitPlanned takes the RingEpoch off a body, which rest aliases; ok is false when there is none.
func splitPlanned(body []byte) (planned uint64, rest []byte, ok bool) {
	if len(body) < plannedBytes {
		return 0, nil, false
	}
	return binary.BigEndian.Uint64(body), body[plannedBytes:], true
}

// fence tells whether this node may act on a write or a ballot that was planned under a RingEpoch.
func (v *view) fence(planned uint64) rpc.Status {
	if planned != v.state.RingEpoch && !planted.On(planted.WritesNotFenced) {
		return rpc.StatusWrongEpoch
	}
	return rpc.StatusOK
}

// readFence tells whether this node may answer a read that was planned under a RingEpoch. It is looked at before the store is read, and
// again afterwards: between the two this node may have slept.
func (c *Coordinator) readFence(planned uint64) rpc.Status {
	if planned < c.o.Cluster.Current().ReadEpoch && !planted.On(planted.ReadsNotFenced) {
		return rpc.StatusWrongEpoch
	}
	return rpc.StatusOK
}

// lags tells whether a refusal may come from this node's being behind the sender, whose epoch came with the frame.
func (c *Coordinator) lags(status rpc.Status, planned, epoch uint64) bool {
	now := c.o.Cluster.Current()
	if status == rpc.StatusWrongEpoch {
		return planned >= now.RingEpoch
	}
	return behind(status) && epoch > now.Epoch
}

// stale tells whether an error of a Batch is about metadata that have moved on since the view.
func (v *view) stale(c *Coordinator, err error) bool {
	return (errors.Is(err, ErrOtherPlan) || c.o.IsUnknownTable(err)) && c.o.Cluster.Current().Epoch > v.state.Epoch
}
