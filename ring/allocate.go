package ring

import (
	"maps"
	"math"
	"math/rand/v2"
	"slices"
)

// Bounds on the work of one allocation; see BenchmarkAllocate.
const (
	candidatesMax   = 1024 // segments tried for one token; beyond that a random sample
	refineRoundsMax = 8
	refineGainMin   = 0.01      // stop when a round improves the imbalance by less than this share
	attempts        = uint64(4) // whole allocations tried with different random orders
	evenEnough      = 0.0008    // no further attempt below this imbalance per node: about 2 % deviation
	swapsPerToken   = 40        // founders: swaps tried per token
	primaryWeight   = 0.25      // how much primary ownership (RF 1) counts beside replicated ownership
)

// Allocate returns numTokens distinct new tokens for joiner, sorted, none of which exists already, so that ownership
// replicated rf times is as even as can be: in one rack, and with as many racks as replicas, max/min stays below 1.2
// through any number of joins. Only nodes of the joiner's data centre matter for balance, since NetworkTopologyStrategy
// places each data centre by itself; a node's fair share is in proportion to its number of tokens, within what racks
// allow (see fairShares). Nodes of the data centre without tokens are ignored. The same arguments always give the same
// tokens. rf and numTokens below 1 count as 1.
//
// The method is greedy with exact evaluation and then local search: each token goes where it lowers the sum of squared
// relative deviations most. Within a segment that sum is a parabola in the token's position, so the best position is
// computed, not guessed.
func Allocate(existing []Node, joiner Node, numTokens, rf int, seed uint64) []Token {
	numTokens, rf = max(numTokens, 1), max(rf, 1)
	var peers []Node
	taken := make(map[Token]bool)
	for _, n := range existing {
		for _, t := range n.Tokens {
			taken[t] = true
		}
		if n.DC == joiner.DC && len(n.Tokens) > 0 {
			peers = append(peers, n)
		}
	}
	if len(peers) == 0 {
		return allocateDC([]Node{joiner}, taken, numTokens, rf, seed)[0]
	}
	slices.SortFunc(peers, func(a, b Node) int { return a.ID.Compare(b.ID) })
	joiner.Tokens = nil
	members := append(peers, joiner)
	var best []Token
	least := math.Inf(1)
	for try := range attempts {
		a := newAllocation(members, evenRF(rf, len(members)), maps.Clone(taken), rand.New(rand.NewPCG(seed, try)))
		tokens := a.join(int32(len(peers)), numTokens)
		if sum := a.imbalance(); sum < least {
			best, least = tokens, sum
		}
		if least < evenEnough*float64(len(members)) {
			break
		}
	}
	return best
}

// evenRF returns the replication factor to balance for. Where every node replicates everything there is nothing to
// balance, so the ring is prepared for the next join by balancing one replica less than nodes.
func evenRF(rf, nodes int) int { return max(1, min(rf, nodes-1)) }

// AllocateInitial returns the tokens of nodes that found a cluster together: result[i] belongs to nodes[i] and is
// sorted. Each data centre gets an even grid that is dealt out so that primary and replicated ownership are even and
// neighbours vary, hence a node that leaves or is lost spreads its load over many. The same arguments always give the
// same tokens.
func AllocateInitial(nodes []Node, numTokens, rf int, seed uint64) [][]Token {
	numTokens, rf = max(numTokens, 1), max(rf, 1)
	byDC := make(map[string][]int)
	var dcs []string
	for i, n := range nodes {
		if byDC[n.DC] == nil {
			dcs = append(dcs, n.DC)
		}
		byDC[n.DC] = append(byDC[n.DC], i)
	}
	slices.Sort(dcs)
	taken := make(map[Token]bool)
	out := make([][]Token, len(nodes))
	for k, dc := range dcs {
		members := make([]Node, 0, len(byDC[dc]))
		for _, i := range byDC[dc] {
			members = append(members, nodes[i])
		}
		for j, tokens := range allocateDC(members, taken, numTokens, rf, seed+uint64(k)) {
			out[byDC[dc][j]] = tokens
		}
	}
	return out
}

// allocateDC deals out an even grid to the founders of one data centre and adds the tokens to taken.
func allocateDC(members []Node, taken map[Token]bool, numTokens, rf int, seed uint64) [][]Token {
	rng := rand.New(rand.NewPCG(seed, 0x666f756e64))
	members = slices.Clone(members)
	for i := range members {
		members[i].Tokens = nil
	}
	a := newAllocation(members, evenRF(rf, len(members)), taken, rng)
	total := uint64(len(members) * numTokens)
	offset := rng.Uint64()
	for i := range total {
		a.tokens = append(a.tokens, a.claim(Token(offset+portion(0, i, total))))
	}
	slices.Sort(a.tokens)
	for range numTokens {
		a.owners = append(a.owners, a.deal()...)
	}
	for i := range a.nodes {
		a.nodes[i].weight = float64(numTokens)
	}
	a.fair = fairShares(a.nodes, a.rf)
	a.swap()
	out := make([][]Token, len(members))
	for i, t := range a.tokens {
		out[a.owners[i]] = append(out[a.owners[i]], t)
	}
	return out
}

// allocation is the state of one data centre while tokens are chosen.
type allocation struct {
	rf     int
	racks  int
	nodes  []allocNode
	fair   []float64 // per node: share of the ring it should replicate
	tokens []Token   // sorted
	owners []int32
	taken  map[Token]bool // of all data centres
	rng    *rand.Rand

	own     []float64 // per node: share of the ring it replicates now
	primary []float64 // per node: share whose first replica it is
	target  []float64 // what own is compared with now
	aim     []float64 // what primary is compared with now

	mark     []int32 // scratch of walk: node -> number of the walk that took it
	rackMark []int32
	walks    int32
	buf, alt []int32
	cand     candidate
}

type allocNode struct {
	rack   int32
	weight float64 // number of tokens
}

func newAllocation(nodes []Node, rf int, taken map[Token]bool, rng *rand.Rand) *allocation {
	n := len(nodes)
	a := &allocation{
		rf: rf, taken: taken, rng: rng, nodes: make([]allocNode, n),
		own: make([]float64, n), primary: make([]float64, n), target: make([]float64, n), aim: make([]float64, n),
		mark: make([]int32, n), rackMark: make([]int32, n), cand: newCandidate(n),
	}
	racks := make(map[string]int32)
	for i, node := range nodes {
		rack, ok := racks[node.Rack]
		if !ok {
			rack = int32(len(racks))
			racks[node.Rack] = rack
		}
		a.nodes[i] = allocNode{rack, float64(len(node.Tokens))}
		for _, t := range node.Tokens {
			a.insert(t, int32(i))
		}
	}
	a.racks = len(racks)
	return a
}

// claim returns t or the next free position after it, never MinToken, and marks it taken.
func (a *allocation) claim(t Token) Token {
	for a.taken[t] || t == MinToken {
		t++
	}
	a.taken[t] = true
	return t
}

func (a *allocation) insert(t Token, node int32) {
	i, _ := slices.BinarySearch(a.tokens, t)
	a.tokens = slices.Insert(a.tokens, i, t)
	a.owners = slices.Insert(a.owners, i, node)
}

func (a *allocation) remove(t Token) {
	i, _ := slices.BinarySearch(a.tokens, t)
	a.tokens = slices.Delete(a.tokens, i, i+1)
	a.owners = slices.Delete(a.owners, i, i+1)
}

// length returns the share of the ring of the segment that ends at tokens[i].
func (a *allocation) length(i int) float64 {
	return Range{a.tokens[a.wrap(i-1)], a.tokens[i]}.Fraction()
}

func (a *allocation) wrap(i int) int {
	n := len(a.tokens)
	if i < 0 {
		return i + n
	}
	if i >= n {
		return i - n
	}
	return i
}

// walk appends to dst the replicas of the segment ending at tokens[i], with an extra token of node extra (-1: none)
// just before tokens[at]. It returns also how many tokens it passed, the extra one included. The rule is that of
// walker.appendNetwork for one data centre.
func (a *allocation) walk(dst []int32, i, at int, extra int32) (replicas []int32, steps int) {
	a.walks++
	left, repeats := min(a.rf, len(a.nodes)), a.rf-a.racks
	inserted := extra < 0
	for passed := 0; left > 0 && passed < len(a.tokens); steps++ {
		n := a.owners[i]
		if !inserted && i == at && (passed > 0 || steps == 0) {
			n, inserted = extra, true
		} else {
			i = a.wrap(i + 1)
			passed++
		}
		if a.mark[n] == a.walks {
			continue
		}
		if rack := a.nodes[n].rack; a.rackMark[rack] != a.walks {
			a.rackMark[rack] = a.walks
		} else if repeats > 0 {
			repeats--
		} else {
			continue
		}
		a.mark[n] = a.walks
		dst = append(dst, n)
		left--
	}
	return dst, steps
}

// measure recomputes own and primary.
func (a *allocation) measure() {
	clear(a.own)
	clear(a.primary)
	for i := range a.tokens {
		share := a.length(i)
		a.buf, _ = a.walk(a.buf[:0], i, 0, -1)
		for _, n := range a.buf {
			a.own[n] += share
		}
		a.primary[a.owners[i]] += share
	}
}

// imbalance returns the sum of the squared relative deviations from target and aim.
func (a *allocation) imbalance() (sum float64) {
	for i := range a.nodes {
		d, p := (a.own[i]-a.target[i])/a.target[i], (a.primary[i]-a.aim[i])/a.aim[i]
		sum += d*d + primaryWeight*p*p
	}
	return sum
}

// join chooses k tokens for node x, whose ownership grows step by step in even parts while that of the others shrinks.
func (a *allocation) join(x int32, k int) []Token {
	a.nodes[x].weight = float64(k)
	a.fair = fairShares(a.nodes, a.rf)
	a.measure()
	before, beforePrimary := slices.Clone(a.own), slices.Clone(a.primary)
	var mine []Token
	for step := 1; step <= k; step++ {
		a.aimBetween(before, beforePrimary, float64(step)/float64(k))
		mine = append(mine, a.place(x))
	}
	a.aimBetween(before, beforePrimary, 1)
	a.refine(x, mine)
	slices.Sort(mine)
	return mine
}

// aimBetween sets the targets to the way from what was before to the fair shares.
func (a *allocation) aimBetween(own, primary []float64, way float64) {
	total := 0.0
	for _, n := range a.nodes {
		total += n.weight
	}
	for i, n := range a.nodes {
		a.target[i] = own[i] + way*(a.fair[i]-own[i])
		a.aim[i] = primary[i] + way*(n.weight/total-primary[i])
	}
}

// refine takes back one token after the other and places it anew while that helps.
func (a *allocation) refine(x int32, mine []Token) {
	last := a.imbalance()
	for range refineRoundsMax {
		for _, i := range a.rng.Perm(len(mine)) {
			a.withdraw(mine[i])
			mine[i] = a.place(x)
		}
		now := a.imbalance()
		if now > last*(1-refineGainMin) {
			return
		}
		last = now
	}
}

func (a *allocation) withdraw(t Token) {
	a.remove(t)
	delete(a.taken, t)
	a.measure()
}

// place inserts the best token for node x among the candidates and returns it.
func (a *allocation) place(x int32) Token {
	bestGain, bestAt, bestLength := math.Inf(1), 0, 0.0
	stride := 1 + (len(a.tokens)-1)/candidatesMax
	for i := a.rng.IntN(stride); i < len(a.tokens); i += stride {
		size := a.length(i)
		a.evaluate(i, x)
		change, length := a.cand.best(a, size)
		change -= 1e-9 * size // among equals split the longest
		if change < bestGain {
			bestGain, bestAt, bestLength = change, i, length
		}
	}
	start := a.tokens[a.wrap(bestAt-1)]
	t := a.claim(Token(uint64(start) + uint64(bestLength*(1<<63))*2))
	a.insert(t, x)
	a.measure()
	return t
}
