package meta

import (
	"slices"

	"github.com/helenusdb/helenus/ring"
)

// Diff tells what changed between two states of one cluster, before the older one: membership by host id, then the
// generations of rows that are gone, then the schema events in the order of schema.Catalog.Diff.
func Diff(before, after *State) []Event {
	events := nodeEvents(nil, before, after)
	for _, g := range before.Catalog.Retired(after.Catalog) {
		events = append(events, Event{Dropped: g})
	}
	for _, e := range before.Catalog.Diff(after.Catalog) {
		events = append(events, Event{Schema: &e})
	}
	return events
}

func nodeEvents(events []Event, before, after *State) []Event {
	tell := func(kind NodeEventKind, n *Node) { events = append(events, Event{Node: &NodeEvent{kind, *n}}) }
	for i := range after.Nodes {
		n := &after.Nodes[i]
		old := before.Node(n.ID)
		owned, owns := old != nil && before.Owns(n.ID), after.Owns(n.ID)
		switch {
		case owns && !owned:
			tell(NodeAdded, n)
		case owned && !owns:
			tell(NodeRemoved, n)
		case owns && !old.same(n):
			tell(NodeUpdated, n)
		}
		if owned && owns && !slices.Equal(before.readTokens(n.ID), after.readTokens(n.ID)) {
			tell(NodeMoved, n)
		}
	}
	return events
}

// readTokens are those by which the node is read: system.peers shows them. Shared.
func (s *State) readTokens(id ring.HostID) []ring.Token {
	i, ok := s.Ring.Node(id)
	if !ok {
		return nil
	}
	return s.Ring.Nodes()[i].Tokens
}

// same compares what clients and peers act on.
func (n *Node) same(o *Node) bool {
	return n.Generation == o.Generation && n.Internode == o.Internode && n.Native == o.Native && n.State == o.State &&
		n.ReleaseVersion == o.ReleaseVersion
}
