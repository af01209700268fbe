package ring

import "slices"

// candidate describes how ownership changes when one node gets a token inside one segment: node n changes by base[n],
// plus slope[n] for each unit of the part of the segment before the new token.
type candidate struct {
	base    []float64
	slope   []float64
	touched []int32
	isIn    []bool
	owner   int32 // of the segment
	joiner  int32
}

func newCandidate(nodes int) candidate {
	return candidate{base: make([]float64, nodes), slope: make([]float64, nodes), isIn: make([]bool, nodes)}
}

func (c *candidate) reset(owner, joiner int32) {
	for _, n := range c.touched {
		c.base[n], c.slope[n], c.isIn[n] = 0, 0, false
	}
	c.touched, c.owner, c.joiner = c.touched[:0], owner, joiner
}

func (c *candidate) touch(n int32) {
	if !c.isIn[n] {
		c.isIn[n] = true
		c.touched = append(c.touched, n)
	}
}

// add accounts for the replicas of some part of the ring changing from old to now.
func (c *candidate) add(into []float64, old, now []int32, size float64) {
	for _, n := range old {
		c.touch(n)
		into[n] -= size
	}
	for _, n := range now {
		c.touch(n)
		into[n] += size
	}
}

// evaluate fills a.cand for a token of node x in the segment that ends at tokens[at]. Segments before it change only if
// their walk gets as far as the new token; walks of earlier segments never get further, so the first that does not ends
// the search.
func (a *allocation) evaluate(at int, x int32) {
	c := &a.cand
	c.reset(a.owners[at], x)
	a.buf, _ = a.walk(a.buf[:0], at, 0, -1)
	a.alt, _ = a.walk(a.alt[:0], at, at, x)
	c.add(c.slope, a.buf, a.alt, 1)
	for back := 1; back < len(a.tokens); back++ {
		i := a.wrap(at - back)
		old, steps := a.walk(a.buf[:0], i, 0, -1)
		a.buf = old
		if steps <= back {
			return
		}
		a.alt, _ = a.walk(a.alt[:0], i, at, x)
		if !slices.Equal(a.buf, a.alt) {
			c.add(c.base, a.buf, a.alt, a.length(i))
		}
	}
}

// best returns the least change of the imbalance and the length of the part before the token that gives it, for a
// segment of that size. The change is a parabola in the length.
func (c *candidate) best(a *allocation, size float64) (change, length float64) {
	var square, linear, constant float64
	for _, n := range c.touched {
		q := 1 / (a.target[n] * a.target[n])
		e := a.own[n] - a.target[n]
		moved := e + c.base[n]
		square += q * c.slope[n] * c.slope[n]
		linear += 2 * q * c.slope[n] * moved
		constant += q * (moved*moved - e*e)
	}
	if c.owner != c.joiner {
		qo, qj := primaryWeight/(a.aim[c.owner]*a.aim[c.owner]), primaryWeight/(a.aim[c.joiner]*a.aim[c.joiner])
		square += qo + qj
		linear += 2 * (qj*(a.primary[c.joiner]-a.aim[c.joiner]) - qo*(a.primary[c.owner]-a.aim[c.owner]))
	}
	length = size / 2
	if square > 0 {
		length = min(max(-linear/(2*square), size/1000), size*999/1000)
	}
	return square*length*length + linear*length + constant, length
}

// fairShares returns the share of the ring that each node should replicate: in proportion to weight as far as racks
// allow. The sum is min(rf, nodes). With at least rf racks each rack holds at most one replica of anything; with fewer
// each holds at least one.
func fairShares(nodes []allocNode, rf int) []float64 {
	rf = min(rf, len(nodes))
	racks := 0
	for _, n := range nodes {
		racks = max(racks, int(n.rack)+1)
	}
	weight, lo, hi := make([]float64, racks), make([]float64, racks), make([]float64, racks)
	members := make([][]int, racks)
	for i, n := range nodes {
		weight[n.rack] += n.weight
		members[n.rack] = append(members[n.rack], i)
	}
	for r := range racks {
		hi[r] = 1
		if racks < rf {
			lo[r], hi[r] = 1, float64(min(len(members[r]), rf-racks+1))
		}
	}
	out := make([]float64, len(nodes))
	for r, share := range fill(weight, lo, hi, float64(rf)) {
		w, none, one := make([]float64, len(members[r])), make([]float64, len(members[r])), make([]float64, len(members[r]))
		for j, i := range members[r] {
			w[j], one[j] = nodes[i].weight, 1
		}
		for j, s := range fill(w, none, one, share) {
			out[members[r][j]] = s
		}
	}
	return out
}

// fill returns shares in proportion to weight, each within [lo, hi], that add up to total if the bounds permit.
func fill(weight, lo, hi []float64, total float64) []float64 {
	out := make([]float64, len(weight))
	level, top := 0.0, 0.0
	for i, w := range weight {
		top = max(top, hi[i]/w)
	}
	for step := top / 2; step > top*1e-15; step /= 2 {
		sum := 0.0
		for i, w := range weight {
			sum += min(max((level+step)*w, lo[i]), hi[i])
		}
		if sum <= total {
			level += step
		}
	}
	for i, w := range weight {
		out[i] = min(max(level*w, lo[i]), hi[i])
	}
	return out
}

// deal returns all nodes once in a random order in which racks alternate as evenly as they can.
func (a *allocation) deal() []int32 {
	type seat struct {
		at   float64
		node int32
	}
	perRack := make([][]int32, a.racks)
	for _, i := range a.rng.Perm(len(a.nodes)) {
		rack := a.nodes[i].rack
		perRack[rack] = append(perRack[rack], int32(i))
	}
	var seats []seat
	for r, members := range perRack {
		for j, n := range members {
			at := (float64(j) + (float64(r)+0.5)/float64(a.racks)) / float64(len(members))
			seats = append(seats, seat{at, n})
		}
	}
	slices.SortStableFunc(seats, func(x, y seat) int {
		if x.at < y.at {
			return -1
		}
		return 1
	})
	out := make([]int32, len(seats))
	for i, s := range seats {
		out[i] = s.node
	}
	return out
}

// swap exchanges the owners of random pairs of tokens while that lowers the imbalance.
func (a *allocation) swap() {
	a.measure()
	clear(a.target)
	clear(a.aim)
	a.aimBetween(a.target, a.aim, 1)
	last := a.imbalance()
	for tries := swapsPerToken * len(a.tokens); tries > 0 && last > 1e-6; tries-- {
		i, j := a.rng.IntN(len(a.tokens)), a.rng.IntN(len(a.tokens))
		if a.owners[i] == a.owners[j] {
			continue
		}
		a.owners[i], a.owners[j] = a.owners[j], a.owners[i]
		a.measure()
		if now := a.imbalance(); now < last {
			last = now
			continue
		}
		a.owners[i], a.owners[j] = a.owners[j], a.owners[i]
		a.measure()
	}
}
