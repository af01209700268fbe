package ring

import "slices"

// Movement is a range whose replicas differ between two placements. All slices are owned by the caller.
type Movement struct {
	Range  Range
	Before []HostID // replicas before, in placement order
	After  []HostID // replicas after, in placement order
	Gains  []HostID // in After but not in Before
	Losses []HostID // in Before but not in After
}

// Diff returns the ranges whose set of replicas changes from before to after, ascending by their end, neighbours with
// equal replicas merged. A changed order alone is no movement. The rings may have different nodes and tokens.
func Diff(before, after *Placement) []Movement {
	bounds := slices.Concat(before.ring.tokens, after.ring.tokens)
	slices.Sort(bounds)
	bounds = slices.Compact(bounds)
	var out []Movement
	for i, end := range bounds {
		start := bounds[(i+len(bounds)-1)%len(bounds)]
		m := Movement{Range: Range{start, end}, Before: before.hostIDs(end), After: after.hostIDs(end)}
		m.Gains, m.Losses = without(m.After, m.Before), without(m.Before, m.After)
		if len(m.Gains)+len(m.Losses) == 0 {
			continue
		}
		if last := len(out) - 1; last >= 0 && out[last].Range.End == start && sameReplicas(out[last], m) {
			out[last].Range.End = end
			continue
		}
		out = append(out, m)
	}
	return out
}

// MovementsOf returns those movements in which the node gains or loses its range.
func MovementsOf(ms []Movement, id HostID) (gains, losses []Movement) {
	for _, m := range ms {
		if slices.Contains(m.Gains, id) {
			gains = append(gains, m)
		}
		if slices.Contains(m.Losses, id) {
			losses = append(losses, m)
		}
	}
	return gains, losses
}

func sameReplicas(a, b Movement) bool {
	return slices.Equal(a.Before, b.Before) && slices.Equal(a.After, b.After)
}

func (p *Placement) hostIDs(t Token) []HostID {
	replicas := p.Replicas(t)
	out := make([]HostID, len(replicas))
	for i, n := range replicas {
		out[i] = p.ring.nodes[n].ID
	}
	return out
}

func without(a, b []HostID) []HostID {
	var out []HostID
	for _, id := range a {
		if !slices.Contains(b, id) {
			out = append(out, id)
		}
	}
	return out
}
