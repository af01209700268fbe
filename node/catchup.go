package node

import (
	"context"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/helenusdb/helenus/meta"
	"github.com/helenusdb/helenus/meta/formation"
	"github.com/helenusdb/helenus/ring"
)

// Times of the step in which a node that starts learns what it has missed.
const (
	catchUpPatience = 2 * time.Second        // how long clients wait for that, when the node's own metadata are whole
	pullTime        = time.Second            // for one answer of one member
	pullAgain       = 100 * time.Millisecond // after a member that did not answer
)

// catchUp learns the newest metadata before clients are served, or they would hear that a table does not exist which they have
// made. Data do not wait for a quorum: without one the node serves after catchUpPatience what it knows. But one that has lost the
// end of its metadata log has known more than it knows now: it waits until nothing can be missing, or until the operator starts
// it with ClearSuspect.
func (n *Node) catchUp(ctx context.Context) error {
	var pulls sync.WaitGroup
	defer pulls.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	answers, dismissed := make(chan ring.HostID), make(chan *formation.Refused)
	asked, answered := map[ring.HostID]bool{n.home.HostID: true}, map[ring.HostID]bool{}
	patience := time.NewTimer(catchUpPatience)
	defer patience.Stop()
	again := time.NewTicker(pullAgain) // the log may have become whole by itself
	defer again.Stop()
	for n.forgotAll() || !knowsAll(n.log.Current(), n.home.HostID, n.log.Short(), answered) {
		if n.forgotAll() {
			n.askSeeds(ctx)
		}
		for _, m := range n.log.Current().Members() {
			if !asked[m.ID] {
				asked[m.ID] = true
				pulls.Go(func() { n.pull(ctx, m.ID, answers, dismissed) })
			}
		}
		select {
		case id := <-answers:
			answered[id] = true
		case left := <-dismissed:
			return left
		case <-again.C:
		case <-patience.C:
			if !n.log.Short() {
				n.o.Logger.Warn("too few members say whether the metadata here are the newest: clients are served with them", "epoch", n.log.Current().Epoch)
				return nil
			}
			n.o.Logger.Error("the end of the metadata log is missing and too few members answer to make up for it: clients have to wait until they do. When they are gone for good, start this node once with --clear-suspect", "epoch", n.log.Current().Epoch)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// forgotAll tells whether this node may have forgotten that there are others.
func (n *Node) forgotAll() bool {
	return n.log.Short() && len(n.log.Current().Members()) < 2 && slices.ContainsFunc(n.seeds(), func(a netip.AddrPort) bool { return a != n.self.Internode })
}

// askSeeds learns from the first seed that is a member who the others are.
func (n *Node) askSeeds(ctx context.Context) {
	for _, h := range formation.Members(ctx, n.formation(), n.log.Current()) {
		n.introduced.Store(&introduction{h.ClusterID, h.Host, h.Internode})
		one, cancel := context.WithTimeout(ctx, pullTime)
		err := n.log.CatchUp(one, h.Host)
		cancel()
		if err == nil {
			return
		}
	}
}

// pull says on answers that this node has all that the member has, as soon as that is so, or on dismissed that the member knows this node to have left.
func (n *Node) pull(ctx context.Context, member ring.HostID, answers chan<- ring.HostID, dismissed chan<- *formation.Refused) {
	for {
		one, cancel := context.WithTimeout(ctx, pullTime)
		err := n.log.CatchUp(one, member)
		cancel()
		if err == nil {
			select {
			case answers <- member:
			case <-ctx.Done():
			}
			return
		}
		if left := formation.Dismissed(err); left != nil {
			select {
			case dismissed <- left:
			case <-ctx.Done():
			}
			return
		}
		if sleep(ctx, pullAgain); ctx.Err() != nil {
			return
		}
	}
}

// knowsAll tells whether a node whose state is s, which is as new as those of the members in answered, knows every change that was
// committed. A change is with a majority of the voters: half of them, rounded up, are enough to have one of it. This node is one of those,
// unless its own log is short. Where nobody else votes then, all members have to have answered, the best that there is.
func knowsAll(s *meta.State, self ring.HostID, short bool, answered map[ring.HostID]bool) bool {
	voters := s.Voters()
	if short && slices.Equal(voters, []ring.HostID{self}) {
		return !slices.ContainsFunc(s.Members(), func(m meta.Node) bool { return m.ID != self && !answered[m.ID] })
	}
	have := 0
	for _, v := range voters {
		if answered[v] || v == self && !short {
			have++
		}
	}
	return have >= len(voters)-len(voters)/2
}
