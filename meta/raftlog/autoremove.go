package raftlog

import (
	"time"

	"github.com/helenusdb/helenus/meta"
	"github.com/helenusdb/helenus/ring"
)

// This file takes a member out of the cluster that has been down for so long that nobody expects it back (Options.AutoRemove), so that the others
// make up for it.

// AutoRemove says when.
type AutoRemove struct {
	// After is how long a member has to have been down without a break, as the present leader has seen it since it leads, by the failure detector and by Raft. 0: it is off.
	After time.Duration
	// Fits says why the removal, which has begun in the state, could not be completed by who is alive; nil: it could. It is called by the loop. nil: not asked.
	Fits func(begun *meta.State) error
}

// overdueTicks is how many ticks pass until what was refused is tried again.
const overdueTicks = 600

// countDown counts for how many ticks each member has been dead. Who leads anew counts anew.
func countDown(down map[ring.HostID]int, s *meta.State, dead func(ring.HostID) bool) {
	for i := range s.Nodes {
		if n := &s.Nodes[i]; n.State != meta.Left && dead(n.ID) {
			down[n.ID]++
		} else {
			delete(down, n.ID)
		}
	}
	for id := range down {
		if s.Node(id) == nil {
			delete(down, id)
		}
	}
}

// overdue returns the command by which a member is removed that has been dead for more than so many ticks, or why it is not. There is neither while anything moves, for one
// member at a time: so long as another one is dead, too, an operator has to see to both, since what looks like two dead nodes may be a cut network.
func overdue(down map[ring.HostID]int, s *meta.State, ticks int, fits func(*meta.State) error) (*meta.Command, error) {
	if ticks <= 0 || len(down) != 1 || s.Phase() != meta.None || s.Quiet() {
		return nil, nil
	}
	for id, n := range down { // the only one
		if n <= ticks || (n-ticks)%overdueTicks != 1 || s.Node(id).State != meta.Normal {
			return nil, nil
		}
		c := &meta.Command{Kind: meta.StartOperation, OperationKind: meta.Remove, Node: meta.Node{ID: id}}
		begun, err := s.Apply(c)
		if err == nil && fits != nil {
			err = fits(begun)
		}
		if err != nil {
			return nil, err
		}
		return c, nil
	}
	return nil, nil
}
