package ring

import "slices"

// Placement is the immutable table of the replicas of each primary range under one strategy. Safe for concurrent use.
type Placement struct {
	ring     *Ring
	strategy Strategy
	offsets  []int32 // replicas of segment i are flat[offsets[i]:offsets[i+1]]
	flat     []int32
}

// Placement computes the replicas of every range under s. Under LocalStrategy, and in a ring without tokens, no range
// has any: local data is placed by each node for itself. The cost is about one walk over RF tokens per token of the
// ring.
func (r *Ring) Placement(s Strategy) *Placement {
	p := &Placement{ring: r, strategy: s, offsets: make([]int32, len(r.tokens)+1)}
	w := newWalker(r, s)
	for i := range r.tokens {
		p.flat = w.appendReplicas(p.flat, i)
		p.offsets[i+1] = int32(len(p.flat))
	}
	return p
}

// Replicas returns the replicas of t in Cassandra's order, the primary first, as indexes into Ring().Nodes(). It is
// shorter than the replication factor when there are too few nodes. The slice is shared: do not change it. No
// allocation.
func (p *Placement) Replicas(t Token) []int32 {
	if len(p.offsets) == 1 {
		return nil
	}
	return p.SegmentReplicas(p.ring.index(t))
}

// SegmentReplicas returns the replicas of Ring().Segment(i), shared as in Replicas.
func (p *Placement) SegmentReplicas(i int) []int32 {
	lo, hi := p.offsets[i], p.offsets[i+1]
	return p.flat[lo:hi:hi]
}

// Ring returns the ring the placement was computed from.
func (p *Placement) Ring() *Ring { return p.ring }

// Strategy returns the strategy the placement was computed for.
func (p *Placement) Strategy() Strategy { return p.strategy }

// IsReplica tells whether the node with that index replicates t.
func (p *Placement) IsReplica(t Token, node int32) bool { return slices.Contains(p.Replicas(t), node) }

// Ranges returns the ranges that node replicates, ascending by their end. Each is one primary range of the ring, hence
// has one replica set; Normalize merges them where that does not matter.
func (p *Placement) Ranges(node int32) []Range {
	return p.rangesWhere(func(replicas []int32) bool { return slices.Contains(replicas, node) })
}

// PrimaryRanges returns the ranges that node is the first replica of, as `nodetool repair -pr` means it. Over all nodes
// they cover the ring once.
func (p *Placement) PrimaryRanges(node int32) []Range {
	return p.rangesWhere(func(replicas []int32) bool { return len(replicas) > 0 && replicas[0] == node })
}

// PrimaryRangesWithinDC returns the ranges that node is the first replica of among those in its own data centre. Over
// the nodes of one data centre that replicates at all they cover the ring once.
func (p *Placement) PrimaryRangesWithinDC(node int32) []Range {
	dc := p.ring.nodes[node].DC
	return p.rangesWhere(func(replicas []int32) bool {
		i := slices.IndexFunc(replicas, func(n int32) bool { return p.ring.nodes[n].DC == dc })
		return i >= 0 && replicas[i] == node
	})
}

func (p *Placement) rangesWhere(accept func(replicas []int32) bool) []Range {
	var out []Range
	for i := range p.ring.tokens {
		if accept(p.SegmentReplicas(i)) {
			out = append(out, p.ring.Segment(i))
		}
	}
	return out
}

// Ownership returns, per node, the share of the ring that it replicates, in [0, 1]. The sum is the number of replicas
// placed ("Owns (effective)" of nodetool status).
func (p *Placement) Ownership() []float64 {
	out := make([]float64, len(p.ring.nodes))
	for i := range p.ring.tokens {
		share := p.ring.Segment(i).Fraction()
		for _, n := range p.SegmentReplicas(i) {
			out[n] += share
		}
	}
	return out
}

// walker computes natural replicas by walking the ring clockwise. It is reused over the segments of one ring; its marks
// hold the number of the walk that set them, so nothing is cleared in between.
type walker struct {
	ring     *Ring
	strategy Strategy
	quota    []dcQuota // per Ring.dcs: what a walk starts with
	left     []dcQuota // per Ring.dcs: what is left of it in this walk
	walk     int32
	nodeSeen []int32
	rackSeen []int32
}

// dcQuota is how many replicas a data centre still takes, and how many of these may stand in a rack that has one
// already.
type dcQuota struct {
	replicas    int
	rackRepeats int
}

func newWalker(r *Ring, s Strategy) *walker {
	w := &walker{
		ring: r, strategy: s,
		quota:    make([]dcQuota, len(r.dcs)),
		left:     make([]dcQuota, len(r.dcs)),
		nodeSeen: make([]int32, len(r.nodes)),
		rackSeen: make([]int32, len(r.nodes)), // never more racks than nodes
	}
	for i, d := range r.dcs {
		rf := 0
		if s.Class == NetworkTopologyStrategy {
			rf = s.FactorIn(d.name)
		}
		w.quota[i] = dcQuota{replicas: min(rf, d.nodes), rackRepeats: rf - d.racks}
	}
	return w
}

// appendReplicas appends the replicas of segment i to dst.
func (w *walker) appendReplicas(dst []int32, i int) []int32 {
	w.walk++
	switch w.strategy.Class {
	case SimpleStrategy:
		return w.appendSimple(dst, i)
	case NetworkTopologyStrategy:
		return w.appendNetwork(dst, i)
	}
	return dst
}

// appendSimple takes the owners of the next tokens, each node once (SimpleStrategy.calculateNaturalReplicas).
func (w *walker) appendSimple(dst []int32, i int) []int32 {
	left := w.strategy.RF
	for step := 0; step < len(w.ring.tokens) && left > 0; step++ {
		n := w.ring.ownerAt(i + step)
		if w.nodeSeen[n] == w.walk {
			continue
		}
		w.nodeSeen[n] = w.walk
		dst = append(dst, n)
		left--
	}
	return dst
}

// appendNetwork walks once, filling each data centre from distinct racks first; where there are fewer racks than
// replicas, the first nodes met in a known rack fill the difference (NetworkTopologyStrategy.calculateNaturalReplicas).
func (w *walker) appendNetwork(dst []int32, i int) []int32 {
	copy(w.left, w.quota)
	open := 0
	for _, q := range w.quota {
		if q.replicas > 0 {
			open++
		}
	}
	for step := 0; step < len(w.ring.tokens) && open > 0; step++ {
		n := w.ring.ownerAt(i + step)
		at := w.ring.place[n]
		left := &w.left[at.dc]
		if left.replicas == 0 || w.nodeSeen[n] == w.walk {
			continue
		}
		if w.rackSeen[at.rack] == w.walk {
			if left.rackRepeats <= 0 {
				continue
			}
			left.rackRepeats--
		}
		w.rackSeen[at.rack] = w.walk
		w.nodeSeen[n] = w.walk
		dst = append(dst, n)
		if left.replicas--; left.replicas == 0 {
			open--
		}
	}
	return dst
}

func (r *Ring) ownerAt(i int) int32 {
	if i >= len(r.owners) {
		i -= len(r.owners)
	}
	return r.owners[i]
}
