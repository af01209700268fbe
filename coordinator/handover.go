package coordinator

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/helenusdb/helenus/coordinator/batchlog"
	"github.com/helenusdb/helenus/internal/planted"
	"github.com/helenusdb/helenus/meta"
	"github.com/helenusdb/helenus/row"
	"github.com/helenusdb/helenus/rpc"
)

// parting tells that this node leaves the cluster, and that reads have moved: it takes nothing to keep for others any more.
func (v *view) parting() bool {
	n := v.state.Node(v.self.id)
	return n != nil && n.State == meta.Leaving && v.state.Phase() == meta.Switched
}

// HandOver gives the hints that this node keeps, and the batches that it could not make again, to others: for a node that leaves the cluster. Each hint becomes an entry in the
// batchlog of nodes that stay, of the time of its write, which they make again at all replicas: who is down then gets a hint from there. A batch goes there as it is, under
// its own name. left is how many hints are still here; batches stay that are younger than two write timeouts, and are handed over later if they are not done by then.
func (c *Coordinator) HandOver(ctx context.Context) (left int64, err error) {
	err = c.hints.HandOver(ctx, func(ctx context.Context, body []byte, at time.Time) error {
		if _, _, err := row.DecodeMutation(body); err != nil {
			return fmt.Errorf("coordinator: hint: %w", err)
		}
		return c.giveAway(ctx, batchlog.NewID(at, c.o.Self, c.batches.Add(1)), body)
	})
	err = errors.Join(err, c.batchlog.HandOver(ctx, func(ctx context.Context, e batchlog.Entry) error { return c.giveAway(ctx, e.ID, e.Mutations) }))
	left, _ = c.hints.Pending()
	return left, err
}

// errNotGiven is returned when no other node could be given a hint or a batch.
var errNotGiven = errors.New("coordinator: no other node takes what this one keeps for others")

// heirs returns those that are given what this node keeps: two live nodes that stay, of this data centre if there are any, in racks that differ where they can; one where there is
// no other.
func (c *Coordinator) heirs(v *view) (out []*peer) {
	for _, here := range []bool{true, false} {
		var nodes []batchlog.Node
		for i, n := range v.state.Ring.Nodes() {
			if p := v.members[i]; !p.self && c.live(p) && v.state.Node(n.ID).State != meta.Leaving && (n.DC == v.localDC) == here {
				nodes = append(nodes, batchlog.Node{ID: n.ID, Rack: n.Rack, Alive: true})
			}
		}
		ids, _ := batchlog.Choose(c.o.Self, v.rack(v.self), nodes, c.random)
		for _, id := range ids {
			out = append(out, c.peers.of(id))
		}
		if len(out) > 0 {
			break
		}
	}
	return out
}

// giveAway stores mutations in the batchlog of other nodes and returns when one of them has them durably.
func (c *Coordinator) giveAway(ctx context.Context, id batchlog.ID, mutations []byte) error {
	if planted.On(planted.LeaverDropsHints) {
		return nil
	}
	heirs := c.heirs(c.view())
	body := append(append(make([]byte, 0, len(id)+len(mutations)), id[:]...), mutations...)
	answers := make(chan stored, len(heirs))
	for _, p := range heirs {
		c.o.Transport.Send(p.id, rpc.Data, VerbBatchStore, time.Now().Add(c.o.WriteTimeout), body, &storeAnswer{p, answers})
	}
	for range heirs {
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
