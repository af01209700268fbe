package gossip

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"github.com/hashicorp/memberlist"
)

// Phase is what a node says about itself. It is not topology: whether a node is joining or leaving the ring is in the
// cluster metadata.
type Phase uint8

// Phases in the order of a node's life.
const (
	Starting Phase = iota // gossips, does not serve yet
	Normal                // serves internode requests
	Draining              // finishes what it has, takes nothing new
)

// String returns the name in lower case.
func (p Phase) String() string {
	switch p {
	case Starting:
		return "starting"
	case Normal:
		return "normal"
	case Draining:
		return "draining"
	}
	return fmt.Sprintf("phase(%d)", uint8(p))
}

// NodeMeta are the small facts a node spreads about itself. It is comparable. The encoding is drawn in
// docs/format/gossip-meta.md and must stay within MetaBytesMax.
type NodeMeta struct {
	Epoch         uint64 // newest applied epoch of the cluster metadata
	DC            string
	Rack          string
	Internode     netip.AddrPort // where rpc listens
	Native        netip.AddrPort // where CQL clients connect; invalid until the port is open
	Admin         netip.AddrPort // where the admin API listens
	LoadBytes     uint64         // live data on disk
	SchemaVersion [16]byte       // as system.local.schema_version shows it
	Phase         Phase
	Version       string // release of the binary
}

// Limits of the encoding.
const (
	MetaBytesMax   = memberlist.MetaMaxSize // 512: memberlist puts it into one UDP packet
	MetaNameMax    = 96                     // bytes of DC and of Rack
	MetaVersionMax = 64                     // bytes of Version
)

// ErrMeta is returned, wrapped, for facts that do not fit and for bytes that are no encoded facts.
var ErrMeta = errors.New("gossip: bad node meta")

const metaVersion = 1

// Field tags of the encoding. A tag is never used again for something else.
const (
	tagEpoch         = 1
	tagDC            = 2
	tagRack          = 3
	tagInternode     = 4
	tagNative        = 5
	tagAdmin         = 6
	tagLoad          = 7
	tagSchemaVersion = 8
	tagPhase         = 9
	tagVersion       = 10
)

// Validate returns ErrMeta, wrapped, if a name is too long to be encoded.
func (m NodeMeta) Validate() error {
	if len(m.DC) > MetaNameMax || len(m.Rack) > MetaNameMax {
		return fmt.Errorf("%w: data centre and rack names have at most %d bytes", ErrMeta, MetaNameMax)
	}
	if len(m.Version) > MetaVersionMax {
		return fmt.Errorf("%w: version has more than %d bytes", ErrMeta, MetaVersionMax)
	}
	for _, a := range []netip.AddrPort{m.Internode, m.Native, m.Admin} {
		if a.Addr().Zone() != "" {
			return fmt.Errorf("%w: address %s has a zone", ErrMeta, a)
		}
	}
	return nil
}

// AppendMeta appends the encoding of valid facts to dst. Zero fields take no room. Equal facts give equal bytes.
func AppendMeta(dst []byte, m NodeMeta) []byte {
	dst = append(dst, metaVersion)
	dst = appendUint(dst, tagEpoch, m.Epoch)
	dst = appendField(dst, tagDC, m.DC)
	dst = appendField(dst, tagRack, m.Rack)
	dst = appendAddr(dst, tagInternode, m.Internode)
	dst = appendAddr(dst, tagNative, m.Native)
	dst = appendAddr(dst, tagAdmin, m.Admin)
	dst = appendUint(dst, tagLoad, m.LoadBytes)
	if m.SchemaVersion != [16]byte{} {
		dst = appendField(dst, tagSchemaVersion, string(m.SchemaVersion[:]))
	}
	dst = appendUint(dst, tagPhase, uint64(m.Phase))
	return appendField(dst, tagVersion, m.Version)
}

func appendField(dst []byte, tag byte, value string) []byte {
	if value == "" {
		return dst
	}
	dst = append(dst, tag, byte(len(value)))
	return append(dst, value...)
}

func appendUint(dst []byte, tag byte, v uint64) []byte {
	if v == 0 {
		return dst
	}
	var b [binary.MaxVarintLen64]byte
	return appendField(dst, tag, string(b[:binary.PutUvarint(b[:], v)]))
}

func appendAddr(dst []byte, tag byte, a netip.AddrPort) []byte {
	if !a.IsValid() {
		return dst
	}
	ip := a.Addr().AsSlice()
	return appendField(dst, tag, string(binary.BigEndian.AppendUint16(ip, a.Port())))
}

// DecodeMeta is the inverse of AppendMeta. Fields with unknown tags, of a newer release, are skipped. It returns
// ErrMeta, wrapped, for anything malformed, and takes memory in proportion to src, which is at most MetaBytesMax.
func DecodeMeta(src []byte) (m NodeMeta, err error) {
	if len(src) == 0 || len(src) > MetaBytesMax || src[0] != metaVersion {
		return m, fmt.Errorf("%w: %d bytes of no known version", ErrMeta, len(src))
	}
	for src = src[1:]; len(src) > 0; {
		if len(src) < 2 || len(src) < 2+int(src[1]) {
			return NodeMeta{}, fmt.Errorf("%w: field cut short", ErrMeta)
		}
		tag, value := src[0], src[2:2+int(src[1])]
		src = src[2+len(value):]
		if !m.decodeField(tag, value) {
			return NodeMeta{}, fmt.Errorf("%w: field %d", ErrMeta, tag)
		}
	}
	if err := m.Validate(); err != nil {
		return NodeMeta{}, err
	}
	return m, nil
}

func (m *NodeMeta) decodeField(tag byte, value []byte) (ok bool) {
	ok = true
	switch tag {
	case tagEpoch:
		m.Epoch, ok = decodeUint(value)
	case tagDC:
		m.DC = string(value)
	case tagRack:
		m.Rack = string(value)
	case tagInternode:
		m.Internode, ok = decodeAddr(value)
	case tagNative:
		m.Native, ok = decodeAddr(value)
	case tagAdmin:
		m.Admin, ok = decodeAddr(value)
	case tagLoad:
		m.LoadBytes, ok = decodeUint(value)
	case tagSchemaVersion:
		ok = copy(m.SchemaVersion[:], value) == len(m.SchemaVersion) && len(value) == len(m.SchemaVersion)
	case tagPhase:
		var v uint64
		v, ok = decodeUint(value)
		ok = ok && v <= 255
		m.Phase = Phase(v)
	case tagVersion:
		m.Version = string(value)
	}
	return ok
}

func decodeUint(b []byte) (uint64, bool) {
	v, n := binary.Uvarint(b)
	return v, n == len(b) && n > 0
}

func decodeAddr(b []byte) (netip.AddrPort, bool) {
	if len(b) < 2 {
		return netip.AddrPort{}, false
	}
	ip, ok := netip.AddrFromSlice(b[:len(b)-2])
	return netip.AddrPortFrom(ip, binary.BigEndian.Uint16(b[len(b)-2:])), ok
}
