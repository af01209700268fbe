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
	outstanding atomic.Int32  // reads without an answer
}

// latencyWeight is how much of the EWMA one answer makes.
const latencyWeight = 1.0 / 16

// answered takes a read's latency into account.
func (p *peer) answered(d time.Duration) {
	old := math.Float64frombits(p.latency.Load())
	next := float64(d)
	if old != 0 {
		next = old + (next-old)*latencyWeight
	}
	p.latency.Store(math.Float64bits(next)) // a lost update between two answers does no harm
}

// cost orders replicas: the expected wait for one more read. This node is free.
func (p *peer) cost(localDC string) float64 {
	if p.self {
		return -1
	}
	c := (math.Float64frombits(p.latency.Load()) + float64(100*time.Microsecond)) * float64(1+p.outstanding.Load())
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

// rank sorts replicas by cost, best first, ties in the given order.
func rank(replicas []*peer, localDC string) {
	if len(replicas) < 2 {
		return
	}
	slices.SortStableFunc(replicas, func(a, b *peer) int { return cmp.Compare(a.cost(localDC), b.cost(localDC)) })
}

// peerSet holds every peer ever seen.
type peerSet struct {
	self ring.HostID
	mu   sync.Mutex
	all  map[ring.HostID]*peer
}

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
