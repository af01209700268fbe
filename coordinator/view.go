package coordinator

import (
	"math"
	"slices"
	"sync/atomic"

	"github.com/helenusdb/helenus/internal/eras"
	"github.com/helenusdb/helenus/internal/planted"
	"github.com/helenusdb/helenus/meta"
	"github.com/helenusdb/helenus/ring"
	"github.com/helenusdb/helenus/schema"
)

// view is everything about one epoch of the metadata that requests look up, computed once. It is immutable but for the
// table plans, which are added when a table is first used.
type view struct {
	state   *meta.State
	members []*peer // by index in state.Ring
	future  []*peer // by index in state.Other
	self    *peer
	era     *eras.Era // of its RingEpoch
	localDC string

	latencies *tableLatencies
	tables    atomic.Pointer[map[schema.Generation]*tablePlan]
}

// tablePlan is what requests need of one table in one view.
type tablePlan struct {
	view      *view
	table     *schema.Table
	placement *ring.Placement // of those that are read; nil: every node has its own
	future    *ring.Placement // of those that are written too, and once reads have moved read too; nil: nothing moves
	switched  bool            // reads have moved: they ask both, until every replica has heard of it
	factors                   // of placement
	other     factors         // of future
	each      []dcRF          // the data centres of both: whom EACH_QUORUM asks while ranges move
	user      bool
	retry     schema.RetryPolicy
	latencies *latencies // of the coordinator
}

// factors are the replication factors of a placement, as a data centre sees them.
type factors struct {
	dcs     []dcRF
	rf      int // of all data centres
	localRF int
}

type dcRF struct {
	name string
	rf   int
}

// in returns the factor in a data centre.
func (f *factors) in(dc string) int {
	for _, d := range f.dcs {
		if d.name == dc {
			return d.rf
		}
	}
	return 0
}

func factorsOf(s ring.Strategy, localDC string) factors {
	if s.Class != ring.NetworkTopologyStrategy {
		return factors{[]dcRF{{localDC, s.RF}}, s.RF, s.RF}
	}
	var f factors
	for _, d := range s.DCs {
		f.dcs = append(f.dcs, dcRF{d.DC, d.RF})
		f.rf += d.RF
		if d.DC == localDC {
			f.localRF = d.RF
		}
	}
	return f
}

// view returns the view of the newest metadata.
func (c *Coordinator) view() *view {
	s := c.o.Cluster.Current()
	if v := c.current.Load(); v != nil && v.state == s {
		return v
	}
	return c.newView(s)
}

func (c *Coordinator) newView(s *meta.State) *view {
	v := &view{state: s, latencies: &c.latencies, self: c.peers.of(c.o.Self), era: c.eras.Of(s.RingEpoch)}
	if n := s.Node(c.o.Self); n != nil {
		v.localDC = n.DC
	}
	for _, n := range s.Ring.Nodes() {
		v.members = append(v.members, c.member(s, n))
	}
	if s.Other != nil {
		for _, n := range s.Other.Nodes() {
			v.future = append(v.future, c.member(s, n))
		}
	}
	v.tables.Store(&map[schema.Generation]*tablePlan{})
	for {
		old := c.current.Load()
		if old != nil && old.state.Epoch > s.Epoch || c.current.CompareAndSwap(old, v) {
			return v // of equal epochs the last one stays, or every request would make its own
		}
	}
}

func (c *Coordinator) member(s *meta.State, n ring.Node) *peer {
	p := c.peers.of(n.ID)
	p.dc.Store(&n.DC)
	if m := s.Node(n.ID); m != nil {
		addr := m.Internode
		p.addr.Store(&addr)
	}
	return p
}

// table returns the plan of a table; nil when the generation is unknown.
func (v *view) table(gen schema.Generation) *tablePlan {
	if t, ok := (*v.tables.Load())[gen]; ok {
		return t
	}
	table, ok := v.state.Catalog.TableByGeneration(gen)
	if !ok {
		return nil
	}
	t := newTablePlan(v, table)
	for {
		old := v.tables.Load()
		next := make(map[schema.Generation]*tablePlan, len(*old)+1)
		for g, p := range *old {
			next[g] = p
		}
		next[gen] = t
		if v.tables.CompareAndSwap(old, &next) {
			return t
		}
	}
}

func newTablePlan(v *view, table *schema.Table) *tablePlan {
	t := &tablePlan{view: v, table: table, user: !schema.IsSystemKeyspace(table.Keyspace),
		placement: v.state.Placement(table.Keyspace), future: v.state.OtherPlacement(table.Keyspace),
		retry: table.Options.SpeculativeRetry, latencies: v.latencies.get(table, v.state.Catalog)}
	if t.placement == nil {
		t.factors = factors{[]dcRF{{v.localDC, 1}}, 1, 1}
		return t
	}
	t.factors = factorsOf(t.placement.Strategy(), v.localDC)
	if t.future == nil {
		return t
	}
	t.switched = v.state.Phase() == meta.Switched
	t.other, t.each = factorsOf(t.future.Strategy(), v.localDC), slices.Clone(t.dcs)
	for _, d := range t.other.dcs {
		if t.in(d.name) == 0 {
			t.each = append(t.each, d)
		}
	}
	return t
}

// replicas appends the natural replicas of a token, which are read, then those that are only written while ranges move, and says how many are
// natural.
func (t *tablePlan) replicas(dst []*peer, token ring.Token) (all []*peer, natural int) {
	if t.placement == nil {
		return append(dst, t.view.self), 1
	}
	for _, i := range t.placement.Replicas(token) {
		dst = append(dst, t.view.members[i])
	}
	natural = len(dst)
	if t.future == nil {
		return dst, natural
	}
	for _, i := range t.future.Replicas(token) {
		if p := t.view.future[i]; !slices.Contains(dst[:natural], p) {
			dst = append(dst, p)
		}
	}
	return dst, natural
}

// owns tells whether a node takes writes of the token: it is a replica, or is becoming one.
func (t *tablePlan) owns(p *peer, token ring.Token) bool {
	var buf [2 * replicasInline]*peer
	all, _ := t.replicas(buf[:0], token)
	return slices.Contains(all, p)
}

// readers appends the replicas that a read of the token asks, and returns what it needs of them: the natural ones, but once reads have
// moved those of both sides, by the quota of writes. Or what one read has shown could be missing from the next: a write that too few have
// acknowledged may be known to some who are not read any more.
func (t *tablePlan) readers(dst []*peer, token ring.Token, level Level) ([]*peer, quota) {
	all, natural := t.replicas(dst, token)
	if !t.switched {
		return all[:natural], t.quota(level)
	}
	return all, t.quotaOf(level, token, all, natural)
}

// serves tells whether a node answers reads of the token: a replica that is still becoming one does not.
func (t *tablePlan) serves(p *peer, token ring.Token) bool {
	var buf [2 * replicasInline]*peer
	all, natural := t.replicas(buf[:0], token)
	if t.switched {
		natural = len(all)
	}
	return slices.Contains(all[:natural], p)
}

// leads tells whether a node leads counters of the token: it has its whole shard, and keeps it.
func (t *tablePlan) leads(p *peer, token ring.Token) bool {
	var buf [2 * replicasInline]*peer
	all, natural := t.replicas(buf[:0], token)
	return slices.Contains(all[:natural], p)
}

// servesRange is serves for all tokens of a range that does not wrap.
func (t *tablePlan) servesRange(p *peer, rg ring.Range) bool {
	if t.placement == nil {
		return true
	}
	at, end := bounds(rg)
	for at < end {
		if !t.serves(p, at+1) {
			return false
		}
		at = t.segmentEnd(at+1, end)
	}
	return true
}

// segmentEnd returns the last token, at most end, that has the readers of token.
func (t *tablePlan) segmentEnd(token, end ring.Token) ring.Token {
	end = segmentEnd(t.placement.Ring(), token, end)
	if t.switched {
		end = segmentEnd(t.future.Ring(), token, end)
	}
	return end
}

func segmentEnd(r *ring.Ring, token, end ring.Token) ring.Token {
	i := r.SegmentOf(token)
	if i < 0 {
		return end
	}
	to := r.Segment(i).End
	if to < token || to > end { // the segment that wraps
		return end
	}
	return to
}

// bounds returns the tokens (at, end] of a range that does not wrap. No key has the token MinToken, so nothing is left
// out when a range is the whole ring or ends there.
func bounds(rg ring.Range) (at, end ring.Token) {
	switch {
	case rg.IsFull():
		return ring.MinToken, ring.MaxToken
	case rg.End == ring.MinToken:
		return rg.Start, ring.MaxToken
	}
	return rg.Start, rg.End
}

// onlyHere tells whether this node alone, without a word to any other, carries out a write to the token at the level.
func (t *tablePlan) onlyHere(token ring.Token, level Level) bool {
	switch {
	case t.future != nil:
		return false
	case level == Any || level == One || level == LocalOne:
	case t.rf != 1 || level == Two || level == Three || level == EachQuorum:
		return false
	}
	if t.placement == nil {
		return true
	}
	r := t.placement.Replicas(token)
	return len(r) == 1 && t.view.members[r[0]].self
}

// gcBefore is the time before which tombstones of the table are purgeable, in seconds since the epoch: gc_grace_seconds
// before now, which every replica decides by too.
func (t *tablePlan) gcBefore(now int64) int64 { return now - int64(t.table.Options.GCGraceSeconds) }

// quota is what a level asks for, and how much of it has come.
type quota struct {
	level Level
	need  int // answers that count
	got   int
	local bool // only the local data centre counts
	dcs   []dcRF
	left  [dcsMax]uint16 // EachQuorum: answers missing per data centre
}

// dcsMax bounds the data centres of a keyspace for EACH_QUORUM, which cannot be reached with more.
const dcsMax = 32

// quota returns what the level needs of the table's natural replicas.
func (t *tablePlan) quota(level Level) quota {
	q := quota{level: level, local: level.Local()}
	if level == EachQuorum && (t.placement == nil || t.placement.Strategy().Class != ring.NetworkTopologyStrategy) {
		level = Quorum
	}
	switch {
	case level == EachQuorum:
		if len(t.dcs) > dcsMax {
			q.need = math.MaxInt32
			return q
		}
		q.dcs = t.dcs
		for i, d := range q.dcs {
			q.left[i] = uint16(d.rf/2 + 1)
			q.need += d.rf/2 + 1
		}
	case q.local:
		q.need = needOf(level, t.localRF)
	default:
		q.need = needOf(level, t.rf)
		if (level == Quorum || level == Serial) && planted.On(planted.QuorumOneLess) {
			q.need--
		}
	}
	q.need = max(q.need, 1)
	return q
}

// needOf is how many of rf replicas a level asks for, EACH_QUORUM as if it were QUORUM.
func needOf(level Level, rf int) int {
	switch level {
	case Any, One, LocalOne:
		return 1
	case Two:
		return 2
	case Three:
		return 3
	case All:
		return rf
	}
	return rf/2 + 1
}

// quotaOf returns what a write, or a read once reads have moved, needs of the replicas of a token, the first of which are natural.
func (t *tablePlan) quotaOf(level Level, token ring.Token, replicas []*peer, natural int) quota {
	q := t.quota(level)
	if t.future == nil || level == Any || planted.On(planted.QuorumCountsPending) {
		return q
	}
	var buf [2 * replicasInline]*peer
	other := buf[:0]
	for _, i := range t.future.Replicas(token) {
		other = append(other, t.view.future[i])
	}
	q.widen(t, replicas[:natural], other, replicas)
	return q
}

// writeQuota is quotaOf for one who has no replicas at hand.
func (t *tablePlan) writeQuota(level Level, token ring.Token) quota {
	var buf [2 * replicasInline]*peer
	replicas, natural := t.replicas(buf[:0], token)
	return t.quotaOf(level, token, replicas, natural)
}

// widen makes a quota of the natural replicas one of all: those that move in or out of it must not stand in for others. Whoever is
// missing, as many of the natural ones have answered as the level asks of them, and as many of the others as it asks of those.
func (q *quota) widen(t *tablePlan, natural, other, all []*peer) {
	localDC := t.view.localDC
	if q.dcs == nil {
		in := func(p *peer) bool { return q.counts(p, localDC) }
		q.need = acknowledgements(count(all, in), count(natural, in)-q.need, count(other, in)-q.ofOthers(t))
		return
	}
	if q.need = 0; len(t.each) > dcsMax {
		q.need = math.MaxInt32
		return
	}
	q.dcs = t.each
	byDC := t.future.Strategy().Class == ring.NetworkTopologyStrategy
	for i, d := range q.dcs {
		in := func(p *peer) bool { return *p.dc.Load() == d.name }
		spare := [2]int{math.MaxInt32, math.MaxInt32}
		for j, side := range [2]struct {
			peers []*peer
			rf    int
		}{{natural, t.in(d.name)}, {other, t.other.in(d.name)}} {
			if side.rf > 0 && (j == 0 || byDC) {
				spare[j] = count(side.peers, in) - (side.rf/2 + 1)
			}
		}
		need := max(0, acknowledgements(count(all, in), spare[0], spare[1])) // none where nobody is a replica
		q.left[i] = uint16(need)
		q.need += need
	}
}

// ofOthers is what the level, not EACH_QUORUM, asks of the replicas that are not natural: all it could if they were, and nothing where there are none.
func (q *quota) ofOthers(t *tablePlan) int {
	rf := t.other.rf
	if q.local {
		rf = t.other.localRF
	}
	if rf == 0 {
		return math.MinInt32
	}
	return min(needOf(q.level, rf), rf)
}

// acknowledgements is how many of u replicas have to answer so that of two sets of them, whose union they are, no more are missing than each
// can spare; more than u when one has too few.
func acknowledgements(u, spareA, spareB int) int { return u - min(spareA, spareB) }

func count(peers []*peer, in func(*peer) bool) (n int) {
	for _, p := range peers {
		if in(p) {
			n++
		}
	}
	return n
}

// dc returns the index of the replica's data centre for EachQuorum; -1: none that counts.
func (q *quota) dc(p *peer) int {
	name := *p.dc.Load()
	for i := range q.dcs {
		if q.dcs[i].name == name {
			return i
		}
	}
	return -1
}

// count takes one answer of a replica into account and tells whether the level is reached.
func (q *quota) count(p *peer, localDC string) bool {
	if q.dcs != nil {
		if i := q.dc(p); i >= 0 && q.left[i] > 0 {
			q.left[i]--
			q.got++
		}
	} else if q.counts(p, localDC) {
		q.got++
	}
	return q.got >= q.need
}

// counts tells whether an answer of the replica would be taken into account.
func (q *quota) counts(p *peer, localDC string) bool {
	if q.dcs != nil {
		i := q.dc(p)
		return i >= 0 && q.left[i] > 0
	}
	return !q.local || *p.dc.Load() == localDC || planted.On(planted.LocalQuorumCountsRemote)
}

// available returns an error when those of the replicas that are live cannot reach the level.
func (q *quota) available(c *Coordinator, replicas []*peer, localDC string) *Unavailable {
	if q.dcs != nil {
		return q.eachAvailable(c, replicas)
	}
	alive := 0
	for _, p := range replicas {
		if q.counts(p, localDC) && c.live(p) {
			alive++
		}
	}
	if alive >= q.need {
		return nil
	}
	return &Unavailable{Level: q.level, Required: q.need, Alive: alive}
}

// eachAvailable names the first data centre that lacks replicas, as Cassandra does.
func (q *quota) eachAvailable(c *Coordinator, replicas []*peer) *Unavailable {
	var alive [dcsMax]int
	for _, p := range replicas {
		if i := q.dc(p); i >= 0 && c.live(p) {
			alive[i]++
		}
	}
	for i := range q.dcs {
		if need := int(q.left[i]); alive[i] < need {
			return &Unavailable{Level: q.level, Required: need, Alive: alive[i]}
		}
	}
	return nil
}
