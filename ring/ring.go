package ring

import (
	"cmp"
	"errors"
	"fmt"
	"math/bits"
	"slices"
)

// ErrDuplicateToken is returned when two nodes claim one token, or one node claims it twice.
var ErrDuplicateToken = errors.New("ring: token is owned twice")

// ErrDuplicateNode is returned when two nodes have one host id.
var ErrDuplicateNode = errors.New("ring: host id appears twice")

// Ring is an immutable snapshot of who owns which token. Safe for concurrent use.
type Ring struct {
	partitioner Partitioner
	nodes       []Node    // sorted by ID; their Tokens are sorted too
	tokens      []Token   // sorted, distinct
	owners      []int32   // owners[i] is the index in nodes of the owner of tokens[i]
	dcs         []dcNodes // sorted by name: only nodes with tokens count
	place       []location
	buckets     []int32 // see index
	shift       uint
}

type dcNodes struct {
	name  string
	nodes int
	racks int
}

// location is the data centre (index into Ring.dcs, -1 without tokens) and rack (numbered over all data centres) of a
// node.
type location struct {
	dc   int32
	rack int32
}

// New returns the ring of nodes in any order; the arguments are copied. The partitioner is only carried along. It
// returns ErrDuplicateNode or ErrDuplicateToken, wrapped, when the nodes contradict one another. No nodes, and nodes
// without tokens, are fine.
func New(nodes []Node, p Partitioner) (*Ring, error) {
	r := &Ring{partitioner: p, nodes: make([]Node, len(nodes))}
	for i, n := range nodes {
		n.Tokens = slices.Sorted(slices.Values(n.Tokens))
		r.nodes[i] = n
	}
	slices.SortFunc(r.nodes, func(a, b Node) int { return a.ID.Compare(b.ID) })
	for i := 1; i < len(r.nodes); i++ {
		if r.nodes[i].ID == r.nodes[i-1].ID {
			return nil, fmt.Errorf("%w: %s", ErrDuplicateNode, r.nodes[i].ID)
		}
	}
	if err := r.collectTokens(); err != nil {
		return nil, err
	}
	r.collectLocations()
	r.buildIndex()
	return r, nil
}

func (r *Ring) collectTokens() error {
	type owned struct {
		token Token
		node  int32
	}
	var all []owned
	for i, n := range r.nodes {
		for _, t := range n.Tokens {
			all = append(all, owned{t, int32(i)})
		}
	}
	slices.SortStableFunc(all, func(a, b owned) int { return cmp.Compare(a.token, b.token) })
	r.tokens = make([]Token, len(all))
	r.owners = make([]int32, len(all))
	for i, o := range all {
		if i > 0 && o.token == all[i-1].token {
			return fmt.Errorf("%w: %d by %s and %s", ErrDuplicateToken, o.token, r.nodes[all[i-1].node].ID, r.nodes[o.node].ID)
		}
		r.tokens[i], r.owners[i] = o.token, o.node
	}
	return nil
}

// collectLocations numbers data centres and racks. Cassandra's topology and the drivers' count owners of tokens only.
func (r *Ring) collectLocations() {
	type rackKey struct {
		dc   int32
		rack string
	}
	var names []string
	for _, n := range r.nodes {
		if len(n.Tokens) > 0 {
			names = append(names, n.DC)
		}
	}
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		r.dcs = append(r.dcs, dcNodes{name: name})
	}
	racks := make(map[rackKey]int32)
	r.place = make([]location, len(r.nodes))
	for i, n := range r.nodes {
		r.place[i] = location{-1, -1}
		if len(n.Tokens) == 0 {
			continue
		}
		key := rackKey{r.dcIndex(n.DC), n.Rack}
		rack, known := racks[key]
		if !known {
			rack = int32(len(racks))
			racks[key] = rack
			r.dcs[key.dc].racks++
		}
		r.dcs[key.dc].nodes++
		r.place[i] = location{key.dc, rack}
	}
}

func (r *Ring) dcIndex(name string) int32 {
	i, ok := slices.BinarySearchFunc(r.dcs, name, func(d dcNodes, name string) int { return cmp.Compare(d.name, name) })
	if !ok {
		return -1
	}
	return int32(i)
}

func (r *Ring) nodesIn(dc string) int {
	if i := r.dcIndex(dc); i >= 0 {
		return r.dcs[i].nodes
	}
	return 0
}

// buildIndex cuts the token space into at least two buckets per token, so that a lookup inspects about one token:
// buckets[b] is the number of tokens before bucket b, which is the top bits of the token's distance from MinToken.
func (r *Ring) buildIndex() {
	log := bits.Len(uint(2 * len(r.tokens)))
	r.shift = 64 - uint(log)
	r.buckets = make([]int32, 1<<log+1)
	i := 0
	for b := range r.buckets {
		for i < len(r.tokens) && bucketOf(r.tokens[i], r.shift) < uint64(b) {
			i++
		}
		r.buckets[b] = int32(i)
	}
}

func bucketOf(t Token, shift uint) uint64 { return (uint64(t) ^ 1<<63) >> shift }

// index returns the index of the first token >= t, wrapping to 0: the end of the primary range that t lies in. The ring
// must have tokens.
func (r *Ring) index(t Token) int {
	b := bucketOf(t, r.shift)
	lo, hi := int(r.buckets[b]), int(r.buckets[b+1])
	for hi-lo > 8 {
		if mid := int(uint(lo+hi) >> 1); r.tokens[mid] < t {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	for lo < hi && r.tokens[lo] < t {
		lo++
	}
	if lo == len(r.tokens) {
		return 0
	}
	return lo
}

// Nodes returns the nodes sorted by host id; placements name nodes by their index here. Shared: do not change it.
func (r *Ring) Nodes() []Node { return r.nodes }

// Node returns the node with that id and its index; false if it is not in the ring.
func (r *Ring) Node(id HostID) (int32, bool) {
	i, ok := slices.BinarySearchFunc(r.nodes, id, func(n Node, id HostID) int { return n.ID.Compare(id) })
	return int32(i), ok
}

// Tokens returns all tokens, ascending. Shared: do not change it.
func (r *Ring) Tokens() []Token { return r.tokens }

// Partitioner returns the partitioner given to New.
func (r *Ring) Partitioner() Partitioner { return r.partitioner }

// DCs returns the sorted names of the data centres that have a node with tokens.
func (r *Ring) DCs() []string {
	out := make([]string, len(r.dcs))
	for i, d := range r.dcs {
		out[i] = d.name
	}
	return out
}

// Primary returns the node whose token ends the range that t lies in, whatever the strategy; -1 if the ring has no
// tokens.
func (r *Ring) Primary(t Token) int32 {
	if len(r.tokens) == 0 {
		return -1
	}
	return r.owners[r.index(t)]
}

// Segments returns the number of primary ranges, which is the number of tokens.
func (r *Ring) Segments() int { return len(r.tokens) }

// Segment returns the i-th primary range, ending at the i-th token. Segment 0 wraps past the largest token.
func (r *Ring) Segment(i int) Range {
	if i == 0 {
		return Range{r.tokens[len(r.tokens)-1], r.tokens[0]}
	}
	return Range{r.tokens[i-1], r.tokens[i]}
}

// SegmentOf returns the number of the primary range that t lies in; -1 if the ring has no tokens.
func (r *Ring) SegmentOf(t Token) int {
	if len(r.tokens) == 0 {
		return -1
	}
	return r.index(t)
}
