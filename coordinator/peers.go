package coordinator

import (
	"cmp"
	"math"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/helenusdb/helenus/ring"
)

// peer is what this node knows of a member by talking to it. It lives as long as the process; all fields are atomic.
type peer struct {
	id          ring.HostID
	self        bool
	dc          atomic.Pointer[string]
	addr        atomic.Pointer[netip.AddrPort]
	latency     atomic.Uint64 // EWMA of read answers, ns, as float bits; 0: none yet
	at          atomic.Int64  // when latency was last updated, on the clock of peerSet
	outstanding atomic.Int32  // reads without an answer
	stalled     atomic.Int64  // of this node: reads of its store that do not come back
}

const (
	// latencyWeight is how much of the EWMA one answer makes.
	latencyWeight = 1.0 / 16
	// latencyFades is how long an EWMA counts in full: a replica that was slow is not asked, and could not show that it
	// has become fast.
	latencyFades = time.Second
	// latencyRefused is what an answer that is an error counts for, lest the replica that fails fastest be liked best.
	latencyRefused = 50 * time.Millisecond
	latencyBase    = 100 * time.Microsecond // what any answer costs
)

// answered takes a read's latency into account.
func (p *peer) answered(d, now time.Duration) {
	p.at.Store(int64(now))
	old := math.Float64frombits(p.latency.Load())
	next := float64(d)
	if old != 0 {
		next = old + (next-old)*latencyWeight
	}
	p.latency.Store(math.Float64bits(next)) // a lost update between two answers does no harm
}

// cost orders replicas: the expected wait for one more read. This node is free, but the last of its data centre while its
// disk is stuck.
func (p *peer) cost(localDC string, now time.Duration) float64 {
	if p.self && p.stalled.Load() > 0 {
		return float64(time.Minute)
	}
	if p.self {
		return -1
	}
	c := math.Float64frombits(p.latency.Load())
	if idle := now - time.Duration(p.at.Load()); idle > latencyFades {
		c *= float64(latencyFades) / float64(idle)
	}
	c = (c + float64(latencyBase)) * float64(1+p.outstanding.Load())
	if *p.dc.Load() != localDC {
		c += float64(time.Hour) // other data centres come last
	}
	return c
}

// address returns the internode address, for error bodies and traces.
func (p *peer) address() netip.AddrPort {
	if a := p.addr.Load(); a != nil {
		return *a
	}
	return netip.AddrPort{}
}

// failure names the replica in an error.
func (p *peer) failure(code uint16) Failure {
	return Failure{Host: p.id, Addr: p.address().Addr(), Code: code}
}

// rank sorts replicas by cost, best first, ties in the given order.
func rank(replicas []*peer, localDC string, now time.Duration) {
	var costs [2 * replicasInline]float64
	if len(replicas) > len(costs) {
		slices.SortStableFunc(replicas, func(a, b *peer) int { return cmp.Compare(a.cost(localDC, now), b.cost(localDC, now)) })
		return
	}
	for i, p := range replicas {
		c, j := p.cost(localDC, now), i
		for ; j > 0 && costs[j-1] > c; j-- {
			costs[j], replicas[j] = costs[j-1], replicas[j-1]
		}
		costs[j], replicas[j] = c, p
	}
}

// peerSet holds every peer ever seen.
type peerSet struct {
	self ring.HostID
	base time.Time // zero of the clock that latencies are dated by
	mu   sync.Mutex
	all  map[ring.HostID]*peer
}

func (s *peerSet) now() time.Duration { return time.Since(s.base) }

func (s *peerSet) of(id ring.HostID) *peer {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.all[id]
	if p == nil {
		p = &peer{id: id, self: id == s.self}
		none := ""
		p.dc.Store(&none)
		s.all[id] = p
	}
	return p
}
