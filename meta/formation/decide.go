package formation

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/helenusdb/helenus/ring"
)

// Hello is what a node says of itself, as probe and as answer.
type Hello struct {
	Host        ring.HostID
	Internode   netip.AddrPort
	FirstSeed   netip.AddrPort // of its seed list
	ClusterID   [16]byte       // zero: the node is empty
	ClusterName string         // configured, or that of the cluster
	Generation  int64
}

// Member tells whether the node belongs to a cluster.
func (h *Hello) Member() bool { return h.ClusterID != [16]byte{} }

const (
	helloVersion = 1
	nameMax      = 1 << 10
)

// Append appends the encoding; docs/format/meta.md draws it.
func (h *Hello) Append(dst []byte) []byte {
	dst = append(append(dst, helloVersion), h.Host[:]...)
	dst = appendAddr(appendAddr(dst, h.Internode), h.FirstSeed)
	dst = append(dst, h.ClusterID[:]...)
	dst = binary.BigEndian.AppendUint64(dst, uint64(h.Generation))
	return append(dst, h.ClusterName...)
}

func appendAddr(dst []byte, a netip.AddrPort) []byte {
	raw := a.Addr().AsSlice()
	dst = append(append(dst, byte(len(raw))), raw...)
	return binary.BigEndian.AppendUint16(dst, a.Port())
}

var errHello = errors.New("formation: a greeting does not decode")

// DecodeHello is the inverse of Append.
func DecodeHello(src []byte) (*Hello, error) {
	h := &Hello{}
	if len(src) < 17 || src[0] != helloVersion {
		return nil, errHello
	}
	copy(h.Host[:], src[1:])
	src = src[17:]
	var ok1, ok2 bool
	h.Internode, src, ok1 = cutAddr(src)
	h.FirstSeed, src, ok2 = cutAddr(src)
	if !ok1 || !ok2 || len(src) < 24 || len(src) > 24+nameMax {
		return nil, errHello
	}
	copy(h.ClusterID[:], src)
	h.Generation = int64(binary.BigEndian.Uint64(src[16:]))
	h.ClusterName = string(src[24:])
	return h, nil
}

func cutAddr(src []byte) (netip.AddrPort, []byte, bool) {
	if len(src) == 0 {
		return netip.AddrPort{}, nil, false
	}
	n := int(src[0])
	if len(src) < 3+n {
		return netip.AddrPort{}, nil, false
	}
	a, ok := netip.AddrFromSlice(src[1 : 1+n])
	if !ok && n != 0 {
		return netip.AddrPort{}, nil, false
	}
	return netip.AddrPortFrom(a, binary.BigEndian.Uint16(src[1+n:])), src[3+n:], true
}

// Action is what a node does next.
type Action uint8

// The actions.
const (
	Wait  Action = iota + 1 // ask again
	Found                   // found the cluster
	Join                    // join through Decision.Through
	Refuse
)

// Decision is the outcome of Decide.
type Decision struct {
	Action  Action
	Through *Hello // Join: the member to ask
	Reason  string // Wait, Refuse: what an operator is told
}

// Decide returns what the empty node self does, given its seed list, the answers of the other seeds by their place in
// the list (nil: no answer), and for how long it has been asking.
func Decide(self *Hello, seeds []netip.AddrPort, answers []*Hello, asking, silentFor time.Duration) Decision {
	for i, h := range answers {
		if h == nil {
			continue
		}
		if h.Host == self.Host && h.Internode != self.Internode {
			return Decision{Action: Refuse, Reason: fmt.Sprintf("seed %s has this node's host id %s: two processes have one identity; give each its own data folder", seeds[i], self.Host)}
		}
		if h.ClusterName != self.ClusterName {
			return Decision{Action: Refuse, Reason: fmt.Sprintf("seed %s belongs to cluster %q, this node is configured for %q", seeds[i], h.ClusterName, self.ClusterName)}
		}
	}
	if d, ok := decideMember(seeds, answers); ok {
		return d
	}
	for i, h := range answers {
		if h != nil && h.FirstSeed != self.FirstSeed {
			return Decision{Action: Refuse, Reason: fmt.Sprintf("seed %s has %s as its first seed, this node has %s: all nodes need the same seed list", seeds[i], h.FirstSeed, self.FirstSeed)}
		}
	}
	if self.Internode != self.FirstSeed {
		return Decision{Action: Wait, Reason: fmt.Sprintf("waiting for %s, the first seed, to found the cluster, or for any member", self.FirstSeed)}
	}
	for i, h := range answers {
		if h == nil && seeds[i] != self.Internode && asking < silentFor {
			return Decision{Action: Wait, Reason: fmt.Sprintf("waiting for seed %s to answer before founding the cluster", seeds[i])}
		}
	}
	return Decision{Action: Found}
}

// decideMember looks for members among the answers: one cluster may be joined, two are a mistake.
func decideMember(seeds []netip.AddrPort, answers []*Hello) (Decision, bool) {
	var member *Hello
	for i, h := range answers {
		if h == nil || !h.Member() {
			continue
		}
		if member != nil && member.ClusterID != h.ClusterID {
			return Decision{Action: Refuse, Reason: fmt.Sprintf("seeds %s and %s belong to two different clusters", member.Internode, seeds[i])}, true
		}
		if member == nil {
			member = h
		}
	}
	if member == nil {
		return Decision{}, false
	}
	return Decision{Action: Join, Through: member}, true
}
