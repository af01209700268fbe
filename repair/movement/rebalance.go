package movement

import (
	"cmp"
	"slices"

	"github.com/helenusdb/helenus/meta"
	"github.com/helenusdb/helenus/ring"
	"github.com/helenusdb/helenus/schema"
)

// EvenEnough is the greatest share of the ring by the smallest, within a data centre, below which nothing is to be done.
const EvenEnough = 1.2

// balanceRF is the replication factor to balance for where no user keyspace says one.
const balanceRF = 3

// Rebalanced is what makes ownership even.
type Rebalanced struct {
	Before, After float64 // greatest share by the smallest, of the data centre where that is worst
	Moved         float64 // share of all that is replicated that changes hands, [0, 1]
	Moves         []NodeMove
}

// NodeMove gives a node other tokens.
type NodeMove struct {
	Node   ring.HostID
	Tokens []ring.Token // ascending
}

// Rebalance returns few nodes' new tokens by which no node of a data centre owns EvenEnough as much as another; no moves when that is so already, or
// when new tokens do not help (racks of unequal size). It is for states in which nothing moves. The same state gives the same moves.
func Rebalance(s *meta.State) Rebalanced {
	nodes := slices.Clone(s.Ring.Nodes())
	begun := s.Ring
	out := Rebalanced{}
	for i, dc := range s.Ring.DCs() {
		strategy := ring.Strategy{Class: ring.NetworkTopologyStrategy, DCs: []ring.DCReplication{{DC: dc, RF: factorIn(s, dc)}}}
		before := imbalance(begun, strategy)
		moved := even(nodes, dc, strategy, begun.Partitioner(), uint64(i))
		now, err := ring.New(nodes, begun.Partitioner())
		if err != nil || imbalance(now, strategy) >= before { // it does not help
			for _, at := range moved {
				nodes[at].Tokens = begun.Nodes()[at].Tokens
			}
			out.Before, out.After = max(out.Before, before), max(out.After, before)
			continue
		}
		out.Before, out.After = max(out.Before, before), max(out.After, imbalance(now, strategy))
		for _, at := range moved {
			out.Moves = append(out.Moves, NodeMove{nodes[at].ID, nodes[at].Tokens})
		}
		out.Moved += share(begun, now, strategy) / float64(len(s.Ring.DCs()))
	}
	slices.SortFunc(out.Moves, func(a, b NodeMove) int { return a.Node.Compare(b.Node) })
	return out
}

// factorIn is the greatest replication factor that a user keyspace has in the data centre.
func factorIn(s *meta.State, dc string) int {
	rf := 0
	for _, ks := range s.Catalog.Keyspaces() {
		if !ks.Local && !ks.Virtual && !schema.IsSystemKeyspace(ks.Name) {
			rf = max(rf, ks.Strategy.FactorIn(dc))
		}
	}
	if rf == 0 {
		return balanceRF
	}
	return rf
}

// even gives one node of the data centre after the other new tokens, the one that is farthest from its share first, until they are even
// or each has had its turn. It returns which it changed.
func even(nodes []ring.Node, dc string, strategy ring.Strategy, p ring.Partitioner, seed uint64) (moved []int) {
	for {
		r, err := ring.New(nodes, p)
		if err != nil || imbalance(r, strategy) < EvenEnough {
			return moved
		}
		own := r.Placement(strategy).Ownership()
		mean, members := 0.0, 0
		for i, n := range r.Nodes() {
			if n.DC == dc && len(n.Tokens) > 0 {
				mean += own[i]
				members++
			}
		}
		mean /= float64(members)
		worst := -1
		for i, n := range nodes {
			if n.DC == dc && len(n.Tokens) > 0 && !slices.Contains(moved, i) && (worst < 0 || farther(own[i], own[worst], mean)) {
				worst = i
			}
		}
		if worst < 0 {
			return moved
		}
		others := slices.Delete(slices.Clone(nodes), worst, worst+1)
		nodes[worst].Tokens = ring.Allocate(others, nodes[worst], len(nodes[worst].Tokens), strategy.FactorIn(dc), seed+uint64(worst))
		moved = append(moved, worst)
	}
}

func farther(a, b, mean float64) bool { return cmp.Compare((a-mean)*(a-mean), (b-mean)*(b-mean)) > 0 }

// imbalance is the greatest share of a node that has tokens by the smallest; 1 where there is none.
func imbalance(r *ring.Ring, strategy ring.Strategy) float64 {
	least, most := 2.0, 0.0
	for i, share := range r.Placement(strategy).Ownership() {
		if n := r.Nodes()[i]; len(n.Tokens) == 0 || n.DC != strategy.DCs[0].DC {
			continue
		}
		least, most = min(least, share), max(most, share)
	}
	if most == 0 {
		return 1
	}
	return most / max(least, 1e-9)
}

// share is how much of what is replicated gets another replica.
func share(before, after *ring.Ring, strategy ring.Strategy) (moved float64) {
	for _, m := range ring.Diff(before.Placement(strategy), after.Placement(strategy)) {
		moved += m.Range.Fraction() * float64(len(m.Gains)) / float64(strategy.Factor())
	}
	return moved
}
