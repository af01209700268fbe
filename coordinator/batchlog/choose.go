package batchlog

import (
	"slices"

	"github.com/helenusdb/helenus/ring"
)

// Keepers is how many nodes keep a batch where there are enough.
const Keepers = 2

// Node is a member of the local data centre.
type Node struct {
	ID    ring.HostID
	Rack  string
	Alive bool
}

// Choose returns the nodes that keep a batch, as Cassandra chooses them: two live ones other than this node, in two
// different racks other than its own when there are. With fewer than two in other racks its own rack counts as any; one is
// enough when no other is alive. A data centre of one or two nodes keeps its batches on all of them, this one among them.
//
// nodes are all members of the local data centre that own tokens, this one among them. The answer depends on their order
// and on random, which returns uniform numbers, and on nothing else. Not enough says that the batch must not be begun: then
// the nodes are those that could keep it.
func Choose(self ring.HostID, rack string, nodes []Node, random func() uint64) (chosen []ring.HostID, enough bool) {
	able := slices.DeleteFunc(slices.Clone(nodes), func(n Node) bool { return !n.Alive })
	if len(nodes) <= Keepers {
		return ids(able), len(able) == len(nodes) && len(nodes) > 0
	}
	able = slices.DeleteFunc(able, func(n Node) bool { return n.ID == self })
	if len(able) <= Keepers {
		return ids(able), len(able) > 0
	}
	return ids(pick(rack, able, random)), true
}

// pick chooses from more nodes than are needed.
func pick(rack string, able []Node, random func() uint64) []Node {
	if elsewhere := slices.DeleteFunc(slices.Clone(able), func(n Node) bool { return n.Rack == rack }); len(elsewhere) >= Keepers {
		able = elsewhere
	}
	racks := byRack(able)
	if len(racks) == 1 {
		return draw(able, Keepers, random)
	}
	var out []Node
	for _, r := range draw(racks, Keepers, random) {
		out = append(out, draw(r, 1, random)...)
	}
	return out
}

// byRack returns the nodes of each rack, both in the order of nodes.
func byRack(nodes []Node) (racks [][]Node) {
	for _, n := range nodes {
		i := slices.IndexFunc(racks, func(r []Node) bool { return r[0].Rack == n.Rack })
		if i < 0 {
			racks = append(racks, []Node{n})
			continue
		}
		racks[i] = append(racks[i], n)
	}
	return racks
}

// draw returns n of the list at random, in random order; it reorders the list.
func draw[T any](list []T, n int, random func() uint64) []T {
	for i := range n {
		j := i + int(random()%uint64(len(list)-i))
		list[i], list[j] = list[j], list[i]
	}
	return list[:n]
}

func ids(nodes []Node) []ring.HostID {
	out := make([]ring.HostID, len(nodes))
	for i := range nodes {
		out[i] = nodes[i].ID
	}
	return out
}
