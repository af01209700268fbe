package node

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"time"

	"github.com/helenusdb/helenus/meta"
	"github.com/helenusdb/helenus/meta/formation"
	"github.com/helenusdb/helenus/ring"
	"github.com/helenusdb/helenus/schema"
	"github.com/helenusdb/helenus/storage"
)

// This file makes the node a part of a cluster, and follows its metadata.

// introduction is what a joining node knows of the cluster before it has its state.
type introduction struct {
	cluster [16]byte
	member  ring.HostID
	addr    netip.AddrPort
}

func (n *Node) clusterID() [16]byte {
	if s := n.log.Current(); s.Founded() {
		return s.ClusterID
	}
	if i := n.introduced.Load(); i != nil {
		return i.cluster
	}
	return [16]byte{}
}

// catchUpAfter is how long newer metadata that a peer has may come through the log by themselves, as they do with every change,
// before the whole state is pulled. Requests that cannot wait for them pull at once (coordinator).
const catchUpAfter = 20 * time.Millisecond

// hearEpoch pulls newer metadata that a peer has, one pull at a time.
func (n *Node) hearEpoch(from ring.HostID, epoch uint64) {
	if epoch <= n.log.Current().Epoch || !n.catchingUp.CompareAndSwap(false, true) {
		return
	}
	n.goLife(func() {
		defer n.catchingUp.Store(false)
		if sleep(n.life, catchUpAfter); epoch <= n.log.Current().Epoch {
			return
		}
		ctx, cancel := context.WithTimeout(n.life, 5*time.Second)
		defer cancel()
		if err := n.log.CatchUp(ctx, from); err != nil && n.life.Err() == nil {
			n.o.Logger.Debug("metadata catch-up failed", "from", from.String(), "err", err)
		}
	})
}

// form makes an empty node part of a cluster, and checks one that is.
func (n *Node) form(ctx context.Context) error {
	fo := n.formation()
	if s := n.log.Current(); s.Founded() {
		if me := s.Node(n.home.HostID); me != nil && me.State != meta.Pending {
			return formation.Check(ctx, fo, s)
		}
	}
	if n.o.Replace != "" {
		fo.Replaces = n.replaces
	}
	out, err := formation.Form(ctx, fo)
	if err != nil {
		return err
	}
	if out.Founds {
		return n.found(fo.Partitioner)
	}
	if err := n.log.Adopt(ctx, out.State); err != nil {
		return err
	}
	return formation.Check(ctx, fo, n.log.Current())
}

func (n *Node) formation() formation.Options {
	c := n.o.Config
	return formation.Options{Self: n.self, ClusterName: c.ClusterName, NumTokens: c.NumTokens, Seeds: n.seeds(), Probe: n.rpc.Probe,
		Introduce: n.introduce, Call: peers{n}.Call, Pledged: n.log.Pledged(), Partitioner: partitionerName(c.Partitioner), Logger: n.o.Logger}
}

func partitionerName(short string) string {
	if strings.HasPrefix(short, "XXHash") {
		return ring.XXHash{}.Name()
	}
	return ring.Murmur3{}.Name()
}

func (n *Node) found(partitioner string) error {
	c := n.o.Config
	node := n.self
	node.Tokens = ring.AllocateInitial([]ring.Node{{ID: node.ID, DC: node.DC, Rack: node.Rack}}, c.NumTokens, 3, n.o.uint64())[0]
	cmd := &meta.Command{Kind: meta.Found, Node: node, ClusterID: n.o.uuid(), ClusterName: c.ClusterName, Partitioner: partitioner}
	n.o.Random(cmd.Secret[:])
	if err := n.log.Found(cmd); err != nil {
		return err
	}
	n.o.Logger.Info("cluster founded", "name", c.ClusterName, "tokens", len(node.Tokens))
	return nil
}

// introduce is called before a member is asked to let this node join: from now on it cannot found a cluster, and takes
// part in the metadata log.
func (n *Node) introduce(ctx context.Context, cluster [16]byte, member ring.HostID, addr netip.AddrPort) error {
	n.introduced.Store(&introduction{cluster, member, addr})
	n.runLog()
	return n.log.Pledge(ctx, cluster)
}

func (n *Node) startLog(context.Context) error {
	n.runLog()
	return nil
}

func (n *Node) runLog() {
	if n.logRuns.CompareAndSwap(false, true) {
		n.services.start("metadata log", n.log.Run, nil)
	}
}

// applied is told of every new state, by the log's goroutine.
func (n *Node) applied(before, after *meta.State, events []meta.Event) {
	for _, e := range events {
		switch {
		case e.Dropped != 0:
			n.snapshots.remember(e.Dropped, before.Catalog)
			n.nudgeRetired()
		case e.Node != nil:
			n.o.Logger.Info("membership changed", "host", e.Node.Node.ID.String(), "address", e.Node.Node.Internode.String(), "state", e.Node.Node.State.String())
			if g := n.liveness(); g != nil {
				n.goLife(func() { g.SetPeers(n.gossipPeers()) })
			}
			switch e.Node.Kind {
			case meta.NodeUpdated:
				n.rpc.Nudge(e.Node.Node.ID)
			case meta.NodeRemoved:
				n.forgetWhenGone(e.Node.Node.ID)
			}
		}
	}
	if n.liveness() != nil { // else it is the log that this node had
		n.newcomers.note(before, after)
	}
	if n.losses.note(before, after, n.o.Now().Unix()) {
		n.nudgeRetired()
	}
	if before.Catalog.Version != after.Catalog.Version {
		n.nudgeRetired()
	}
	if c := n.cql.Load(); c != nil {
		c.tell(events)
	}
	if n.mover != nil {
		n.mover.Observe(before, after)
	}
}

// nudgeRetired wakes the goroutine that removes the rows of tables that are gone, and keeps the definitions of those that are there.
func (n *Node) nudgeRetired() {
	select {
	case n.retired <- struct{}{}:
	default:
	}
}

// anyRows tells whether a user table holds a row here, and fails while a hint or a batch waits to become one elsewhere. While a node is
// joining no further write is let in, and it answers when those that were are visible.
func (n *Node) anyRows(ctx context.Context) (bool, error) {
	if n.log.Current().Quiet() {
		if err := n.gate.drainAll(ctx); err != nil {
			return false, err
		}
	}
	for _, id := range []storage.SpaceID{storage.SpaceHints, storage.SpaceBatchlog} {
		waiting := false
		err := n.engine.Space(id).Scan(nil, nil, func(_, _ []byte) bool { waiting = true; return false })
		if waiting && err == nil {
			err = errors.New("node: hints or logged batches wait here for other nodes")
		}
		if err != nil {
			return false, err
		}
	}
	gens, err := n.engine.Generations()
	for _, g := range gens {
		if t, ok := n.log.Current().Catalog.TableByGeneration(g); ok && !schema.IsSystemKeyspace(t.Keyspace) {
			return true, err
		}
	}
	return false, err
}

// announce tells the cluster of this start: generation, addresses, version. It needs a quorum of the metadata log, for
// which a node that has its data does not wait.
func (n *Node) announce(context.Context) error {
	n.services.start("announcement", func(ctx context.Context) error {
		for ctx.Err() == nil {
			_, err := n.log.Propose(ctx, n.update)
			var refused *meta.Refused
			switch {
			case err == nil:
				<-ctx.Done()
			case errors.As(err, &refused):
				return &formation.Refused{Reason: refused.Reason}
			default:
				n.o.Logger.Debug("announcement", "err", err)
				sleep(ctx, time.Second)
			}
		}
		return nil
	}, nil)
	return nil
}

func (n *Node) update(s *meta.State) (*meta.Command, bool, error) {
	me := s.Node(n.home.HostID)
	if me == nil {
		return nil, false, nil
	}
	if me.Generation >= n.self.Generation && me.Internode == n.self.Internode {
		return nil, false, nil
	}
	return &meta.Command{Kind: meta.UpdateNode, Node: n.self}, true, nil
}
