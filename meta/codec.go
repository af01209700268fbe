package meta

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"net/netip"

	"github.com/helenusdb/helenus/ring"
	"github.com/helenusdb/helenus/schema"
)

// formatVersion is the first byte of every encoded Command and State; docs/format/meta.md draws what follows.
const formatVersion = 1

const (
	flagVoter = 1 << 0
	flagQuiet = 1 << 1
	healthBit = 2 // of two bits

	stringMax  = 1 << 16
	changesMax = 1 << 16
)

var errShort = errors.New("meta: decode: the bytes end too early")

// Append appends the command's encoding.
func (c *Command) Append(dst []byte) []byte {
	dst = append(append(dst, formatVersion, byte(c.Kind)), c.ID[:]...)
	dst = appendNode(dst, &c.Node)
	dst = append(dst, c.ClusterID[:]...)
	dst = appendString(dst, c.ClusterName)
	dst = appendString(dst, c.Partitioner)
	dst = append(dst, c.Secret[:]...)
	dst = binary.AppendUvarint(dst, uint64(len(c.Voters)))
	for _, v := range c.Voters {
		dst = append(dst, v[:]...)
	}
	dst = binary.AppendUvarint(dst, c.BaseEpoch)
	dst = append(dst, c.BaseSchema[:]...)
	dst = binary.AppendUvarint(dst, uint64(len(c.Changes)))
	for _, ch := range c.Changes {
		dst = ch.Append(dst)
	}
	dst = binary.AppendUvarint(dst, uint64(c.Version))
	return binary.AppendUvarint(dst, uint64(c.NumTokens))
}

// DecodeCommand is the inverse of Append. Errors: bytes of another format or damaged ones.
func DecodeCommand(src []byte) (*Command, error) {
	d := decoder{b: src}
	if v := d.byte(); v != formatVersion && d.err == nil {
		return nil, fmt.Errorf("meta: decode: command format %d is unknown: this build is older than the log", v)
	}
	c := &Command{Kind: CommandKind(d.byte())}
	if (c.Kind == 0 || c.Kind > kindMax) && d.err == nil {
		return nil, fmt.Errorf("meta: decode: command %d is unknown: this build is older than the log", c.Kind)
	}
	d.copy(c.ID[:])
	c.Node = d.node()
	d.copy(c.ClusterID[:])
	c.ClusterName, c.Partitioner = d.string(), d.string()
	d.copy(c.Secret[:])
	for range d.count(NodesMax) {
		var id ring.HostID
		d.copy(id[:])
		c.Voters = append(c.Voters, id)
	}
	c.BaseEpoch = d.uvarint()
	d.copy(c.BaseSchema[:])
	for range d.count(changesMax) {
		if d.err != nil {
			break
		}
		var ch schema.Change
		ch, d.b, d.err = schema.DecodeChange(d.b)
		c.Changes = append(c.Changes, ch)
	}
	c.Version, c.NumTokens = d.uint32(), d.uint32()
	return c, d.end()
}

// Encode returns the state as Raft snapshots and nodes that catch up carry it.
func (s *State) Encode() []byte {
	dst := []byte{formatVersion}
	dst = binary.AppendUvarint(dst, s.Epoch)
	dst = append(dst, s.ClusterID[:]...)
	dst = appendString(dst, s.ClusterName)
	dst = appendString(dst, s.Partitioner)
	dst = binary.AppendUvarint(dst, uint64(s.ClusterVersion))
	dst = append(dst, s.Secret[:]...)
	dst = binary.AppendUvarint(dst, uint64(len(s.Nodes)))
	for i := range s.Nodes {
		dst = appendNode(dst, &s.Nodes[i])
	}
	dst = binary.AppendUvarint(dst, uint64(len(s.Made)))
	for _, id := range s.Made {
		dst = append(dst, id[:]...)
	}
	catalog := s.Catalog.Encode()
	dst = binary.AppendUvarint(dst, uint64(len(catalog)))
	return append(dst, catalog...)
}

// DecodeState is the inverse of Encode. The bytes are not kept.
func DecodeState(src []byte) (*State, error) {
	d := decoder{b: src}
	if v := d.byte(); v != formatVersion && d.err == nil {
		return nil, fmt.Errorf("meta: decode: state format %d is unknown: this build is older than the cluster", v)
	}
	s := &State{Epoch: d.uvarint()}
	d.copy(s.ClusterID[:])
	s.ClusterName, s.Partitioner = d.string(), d.string()
	s.ClusterVersion = d.uint32()
	d.copy(s.Secret[:])
	for range d.count(NodesMax) {
		s.Nodes = append(s.Nodes, d.node())
		n := len(s.Nodes)
		switch {
		case d.err != nil:
			return nil, d.err
		case n > 1 && s.Nodes[n-2].ID.Compare(s.Nodes[n-1].ID) >= 0:
			return nil, errors.New("meta: decode: nodes are not in order")
		case s.Nodes[n-1].State == 0:
			return nil, errors.New("meta: decode: a node without a state")
		}
	}
	for range d.count(MadeMax) {
		var id [16]byte
		d.copy(id[:])
		s.Made = append(s.Made, id)
	}
	if d.err == nil && uint64(len(s.Made)) > s.Epoch {
		return nil, errors.New("meta: decode: more commands than epochs")
	}
	catalog := d.bytes(int(min(d.uvarint(), uint64(len(d.b)+1))))
	if err := d.end(); err != nil {
		return nil, err
	}
	var err error
	if s.Catalog, err = schema.DecodeCatalog(catalog); err != nil {
		return nil, err
	}
	return s, s.finish(nil)
}

func appendNode(dst []byte, n *Node) []byte {
	dst = append(dst, n.ID[:]...)
	dst = binary.AppendVarint(dst, n.Generation)
	dst = appendAddr(appendAddr(appendAddr(dst, n.Internode), n.Gossip), n.Native)
	dst = appendString(appendString(dst, n.DC), n.Rack)
	dst = binary.AppendUvarint(dst, uint64(len(n.Tokens)))
	for _, t := range n.Tokens {
		dst = binary.BigEndian.AppendUint64(dst, uint64(t))
	}
	var flags byte
	if n.Voter {
		flags |= flagVoter
	}
	if n.Quiet {
		flags |= flagQuiet
	}
	flags |= byte(n.Health) << healthBit
	dst = append(dst, byte(n.State), flags)
	dst = binary.AppendUvarint(dst, n.Since)
	dst = binary.AppendUvarint(dst, uint64(n.Version))
	return appendString(dst, n.ReleaseVersion)
}

func appendAddr(dst []byte, a netip.AddrPort) []byte {
	raw := a.Addr().AsSlice()
	dst = append(append(dst, byte(len(raw))), raw...)
	return binary.BigEndian.AppendUint16(dst, a.Port())
}

func appendString(dst []byte, s string) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(s))), s...)
}

// decoder reads fields until the first error, which stays.
type decoder struct {
	b   []byte
	err error
}

func (d *decoder) bytes(n int) []byte {
	if d.err == nil && (n < 0 || n > len(d.b)) {
		d.err = errShort
	}
	if d.err != nil {
		return nil
	}
	out := d.b[:n]
	d.b = d.b[n:]
	return out
}

func (d *decoder) byte() byte {
	if b := d.bytes(1); b != nil {
		return b[0]
	}
	return 0
}

func (d *decoder) copy(dst []byte) { copy(dst, d.bytes(len(dst))) }

func (d *decoder) uvarint() uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 && d.err == nil {
		d.err = errShort
	}
	d.bytes(max(n, 0))
	return v
}

func (d *decoder) varint() int64 {
	v, n := binary.Varint(d.b)
	if n <= 0 && d.err == nil {
		d.err = errShort
	}
	d.bytes(max(n, 0))
	return v
}

func (d *decoder) uint32() uint32 {
	v := d.uvarint()
	if d.err == nil && v > math.MaxUint32 {
		d.err = fmt.Errorf("meta: decode: %d is too large", v)
	}
	return uint32(v)
}

// count reads a number of things that follow; each takes a byte or more, so what it allows is bounded by the input.
func (d *decoder) count(limit int) int {
	n := d.uvarint()
	if d.err == nil && n > uint64(min(limit, len(d.b))) {
		d.err = fmt.Errorf("meta: decode: %d is too many", n)
	}
	if d.err != nil {
		return 0
	}
	return int(n)
}

func (d *decoder) string() string {
	n := d.uvarint()
	if d.err == nil && n > stringMax {
		d.err = fmt.Errorf("meta: decode: a string of %d bytes", n)
	}
	return string(d.bytes(int(min(n, stringMax))))
}

func (d *decoder) addr() netip.AddrPort {
	raw := d.bytes(int(d.byte()))
	port := d.bytes(2)
	if d.err != nil {
		return netip.AddrPort{}
	}
	a, ok := netip.AddrFromSlice(raw)
	if !ok && len(raw) != 0 {
		d.err = fmt.Errorf("meta: decode: an address of %d bytes", len(raw))
	}
	return netip.AddrPortFrom(a, binary.BigEndian.Uint16(port))
}

func (d *decoder) node() (n Node) {
	d.copy(n.ID[:])
	n.Generation = d.varint()
	n.Internode, n.Gossip, n.Native = d.addr(), d.addr(), d.addr()
	n.DC, n.Rack = d.string(), d.string()
	for range d.count(TokensMax) {
		if raw := d.bytes(8); raw != nil {
			n.Tokens = append(n.Tokens, ring.Token(binary.BigEndian.Uint64(raw)))
		}
	}
	if n.State = NodeState(d.byte()); n.State > Left && d.err == nil {
		d.err = fmt.Errorf("meta: decode: node state %d is unknown: this build is older than the cluster", n.State)
	}
	flags := d.byte()
	n.Health = Health(flags >> healthBit & 3)
	if (flags>>(healthBit+2) != 0 || n.Health > Healing) && d.err == nil {
		d.err = fmt.Errorf("meta: decode: node flags %#x are unknown: this build is older than the cluster", flags)
	}
	n.Voter, n.Quiet = flags&flagVoter != 0, flags&flagQuiet != 0
	n.Since = d.uvarint()
	n.Version = d.uint32()
	n.ReleaseVersion = d.string()
	return n
}

func (d *decoder) end() error {
	if d.err == nil && len(d.b) != 0 {
		return fmt.Errorf("meta: decode: %d bytes too many", len(d.b))
	}
	return d.err
}
