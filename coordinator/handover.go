package coordinator

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/helenusdb/helenus/coordinator/batchlog"
	"github.com/helenusdb/helenus/meta"
	"github.com/helenusdb/helenus/row"
	"github.com/helenusdb/helenus/rpc"
)

// parting tells that this node leaves the cluster, and that reads have moved: it takes nothing to keep for others any more.
func (v *view) parting() bool {
	n := v.state.Node(v.self.id)
	return n != nil && n.State == meta.Leaving && v.state.Phase() == meta.Switched
}

// HandOver gives the hints that this node keeps to others: for a node that leaves the cluster. Each becomes an entry in the batchlog of the nodes that keep
// batches, of the time of the hint's write, which they make again at all replicas: who is down then gets a hint from there. left is how many hints are
// still here; a batch of this node's own batchlog is replayed by itself within seconds.
func (c *Coordinator) HandOver(ctx context.Context) (left int64, err error) {
	err = c.hints.HandOver(ctx, func(ctx context.Context, body []byte, at time.Time) error { return c.giveAway(ctx, body, at) })
	left, _ = c.hints.Pending()
	return left, err
}

// errNotGiven is returned when no other node could be given a hint.
var errNotGiven = errors.New("coordinator: no other node takes the hint")

// giveAway stores mutations in the batchlog of other nodes and returns when one of them has them durably.
func (c *Coordinator) giveAway(ctx context.Context, mutations []byte, at time.Time) error {
	if _, _, err := row.DecodeMutation(mutations); err != nil {
		return fmt.Errorf("coordinator: hint: %w", err)
	}
	keepers, err := c.keepers(c.view(), Two, nil)
	if err != nil {
		return err
	}
	id := batchlog.NewID(at, c.o.Self, c.batches.Add(1))
	body := append(append(make([]byte, 0, len(id)+len(mutations)), id[:]...), mutations...)
	answers := make(chan stored, len(keepers))
	asked := 0
	for _, p := range keepers {
		if !p.self {
			asked++
			c.o.Transport.Send(p.id, rpc.Data, VerbBatchStore, time.Now().Add(c.o.WriteTimeout), body, &storeAnswer{p, answers})
		}
	}
	for ; asked > 0; asked-- {
		select {
		case a := <-answers:
			if a.out == outcomeAcked {
				return nil
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return errNotGiven
}
