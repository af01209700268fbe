package formation

import (
	"encoding/binary"
	"errors"
	"net/netip"

	"github.com/helenusdb/helenus/ring"
)

// Stage is how far a node has come.
type Stage uint8

// The stages. Their numbers are part of the encoding.
const (
	Empty   Stage = 0 // it knows of no cluster
	Joining Stage = 1 // it has begun to join ClusterID, or has been taken out of it: nobody can join through it
	Member  Stage = 2 // it owns ranges of ClusterID
)

// Hello is what a node says of itself, as probe and as answer.
type Hello struct {
	Host        ring.HostID
	Internode   netip.AddrPort
	FirstSeed   netip.AddrPort // of its seed list
	Stage       Stage
	ClusterID   [16]byte // zero while Empty
	ClusterName string   // configured, or that of the cluster
	Generation  int64
}

const (
	helloVersion = 1
	nameMax      = 1 << 10
)

// Append appends the encoding; docs/format/meta.md draws it.
func (h *Hello) Append(dst []byte) []byte {
	dst = append(append(dst, helloVersion, byte(h.Stage)), h.Host[:]...)
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

// DecodeHello is the inverse of Append. The bytes are not kept.
func DecodeHello(src []byte) (*Hello, error) {
	if len(src) < 18 || src[0] != helloVersion || src[1] > byte(Member) {
		return nil, errHello
	}
	h := &Hello{Stage: Stage(src[1])}
	src = src[2+copy(h.Host[:], src[2:]):]
	var ok1, ok2 bool
	h.Internode, src, ok1 = cutAddr(src)
	h.FirstSeed, src, ok2 = cutAddr(src)
	if !ok1 || !ok2 || len(src) < 24 || len(src) > 24+nameMax {
		return nil, errHello
	}
	copy(h.ClusterID[:], src)
	h.Generation = int64(binary.BigEndian.Uint64(src[16:]))
	h.ClusterName = string(src[24:])
	if (h.Stage == Empty) != (h.ClusterID == [16]byte{}) {
		return nil, errHello
	}
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
