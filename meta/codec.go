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

// The first byte of every encoded Command and State; docs/format/meta.md draws what follows. Movement is written only by clusters
// all of whose members know it: VersionMovement; Keeps likewise, VersionKeeps, and only in states.
const (
	formatPlain    = 1
	formatMovement = 2
	formatKeeps    = 3
)

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
	format := c.format()
	dst = append(append(dst, format, byte(c.Kind)), c.ID[:]...)
	dst = appendNode(dst, &c.Node, format)
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
	dst = binary.AppendUvarint(dst, uint64(c.NumTokens))
	if format == formatPlain {
		return dst
	}
	dst = append(dst, byte(c.OperationKind), flags(c.Force, c.Moves))
	return binary.AppendUvarint(binary.AppendUvarint(dst, c.Operation), c.Plan)
}

// format is the older one for commands that say nothing of movement.
func (c *Command) format() byte {
	if c.NeedsVersion() >= VersionMovement {
		return formatMovement
	}
	return formatPlain
}

// NeedsVersion returns the cluster version from which on the command may be in the log.
func (c *Command) NeedsVersion() uint32 {
	n := &c.Node
	if c.Kind > kindPlainMax || c.OperationKind != 0 || c.Force || c.Moves || c.Operation != 0 || c.Plan != 0 ||
		!n.Replaces.IsZero() || len(n.Next) > 0 || n.Filled != 0 || n.Switched != 0 {
		if c.Kind > kindMovementMax {
			return VersionKeeps
		}
		return VersionMovement
	}
	return 1
}

// flags has the bits of those that are set, the first one lowest.
func flags(set ...bool) (out byte) {
	for i, is := range set {
		if is {
			out |= 1 << i
		}
	}
	return out
}

// DecodeCommand is the inverse of Append. Errors: bytes of another format or damaged ones.
func DecodeCommand(src []byte) (*Command, error) {
	d := decoder{b: src}
	format := d.byte()
	if (format == 0 || format > formatMovement) && d.err == nil {
		return nil, fmt.Errorf("meta: decode: command format %d is unknown: this build is older than the log", format)
	}
	c := &Command{Kind: CommandKind(d.byte())}
	if (c.Kind == 0 || c.Kind > kindMax) && d.err == nil {
		return nil, fmt.Errorf("meta: decode: command %d is unknown: this build is older than the log", c.Kind)
	}
	d.copy(c.ID[:])
	c.Node = d.node(format)
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
	if format >= formatMovement {
		c.OperationKind = d.operationKind()
		set := d.flags(2)
		c.Force, c.Moves = set&1 != 0, set&2 != 0
		c.Operation, c.Plan = d.uvarint(), d.uvarint()
	}
	if err := d.end(); err != nil {
		return nil, err
	}
	if c.Kind > kindPlainMax && format < formatMovement {
		return nil, fmt.Errorf("meta: decode: command %d in format %d", c.Kind, format)
	}
	return c, nil
}

// Encode returns the state as Raft snapshots and nodes that catch up carry it.
func (s *State) Encode() []byte {
	format := s.format()
	dst := []byte{format}
	dst = binary.AppendUvarint(dst, s.Epoch)
	dst = append(dst, s.ClusterID[:]...)
	dst = appendString(dst, s.ClusterName)
	dst = appendString(dst, s.Partitioner)
	dst = binary.AppendUvarint(dst, uint64(s.ClusterVersion))
	dst = append(dst, s.Secret[:]...)
	dst = binary.AppendUvarint(dst, uint64(len(s.Nodes)))
	for i := range s.Nodes {
		dst = appendNode(dst, &s.Nodes[i], format)
	}
	dst = binary.AppendUvarint(dst, uint64(len(s.Made)))
	for _, id := range s.Made {
		dst = append(dst, id[:]...)
	}
	catalog := s.Catalog.Encode()
	dst = binary.AppendUvarint(dst, uint64(len(catalog)))
	dst = append(dst, catalog...)
	if format == formatPlain {
		return dst
	}
	dst = binary.AppendUvarint(dst, uint64(len(s.Operations)))
	for i := range s.Operations {
		dst = appendOperation(dst, &s.Operations[i])
	}
	dst = binary.AppendUvarint(dst, s.Plan)
	dst = binary.AppendUvarint(dst, s.PriorPlan)
	dst = binary.AppendUvarint(dst, s.SwitchedAt)
	return binary.AppendUvarint(binary.AppendUvarint(dst, s.RingEpoch), s.ReadEpoch)
}

// format is the older one while a member may not know the other.
func (s *State) format() byte {
	switch {
	case s.ClusterVersion >= VersionKeeps:
		return formatKeeps
	case s.ClusterVersion >= VersionMovement:
		return formatMovement
	}
	return formatPlain
}

// DecodeState is the inverse of Encode. The bytes are not kept.
func DecodeState(src []byte) (*State, error) {
	d := decoder{b: src}
	format := d.byte()
	if (format == 0 || format > formatKeeps) && d.err == nil {
		return nil, fmt.Errorf("meta: decode: state format %d is unknown: this build is older than the cluster", format)
	}
	s := &State{Epoch: d.uvarint()}
	d.copy(s.ClusterID[:])
	s.ClusterName, s.Partitioner = d.string(), d.string()
	s.ClusterVersion = d.uint32()
	if d.err == nil && s.format() != format {
		return nil, fmt.Errorf("meta: decode: state format %d of cluster version %d", format, s.ClusterVersion)
	}
	d.copy(s.Secret[:])
	for range d.count(NodesMax) {
		s.Nodes = append(s.Nodes, d.node(format))
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
	if format >= formatMovement {
		d.movement(s)
	}
	if err := d.end(); err != nil {
		return nil, err
	}
	var err error
	if s.Catalog, err = schema.DecodeCatalog(catalog); err != nil {
		return nil, err
	}
	return s, s.finish(nil)
}

func appendNode(dst []byte, n *Node, format byte) []byte {
	dst = append(dst, n.ID[:]...)
	dst = binary.AppendVarint(dst, n.Generation)
	dst = appendAddr(appendAddr(appendAddr(dst, n.Internode), n.Gossip), n.Native)
	dst = appendString(appendString(dst, n.DC), n.Rack)
	dst = appendTokens(dst, n.Tokens)
	dst = append(dst, byte(n.State), flags(n.Voter, n.Quiet)|byte(n.Health)<<healthBit)
	dst = binary.AppendUvarint(dst, n.Since)
	dst = binary.AppendUvarint(dst, uint64(n.Version))
	dst = appendString(dst, n.ReleaseVersion)
	if format == formatPlain {
		return dst
	}
	dst = appendTokens(append(dst, n.Replaces[:]...), n.Next)
	dst = binary.AppendUvarint(binary.AppendUvarint(dst, n.Filled), n.Switched)
	if format == formatMovement {
		return dst
	}
	return append(dst, flags(n.Keeps))
}

func appendTokens(dst []byte, tokens []ring.Token) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(tokens)))
	for _, t := range tokens {
		dst = binary.BigEndian.AppendUint64(dst, uint64(t))
	}
	return dst
}

func appendOperation(dst []byte, o *Operation) []byte {
	dst = append(binary.AppendUvarint(dst, o.ID), byte(o.Kind), flags(o.Forced))
	if o.Kind != Replication {
		return append(dst, o.Node[:]...)
	}
	dst = appendString(appendString(dst, o.Keyspace), o.Held.Class)
	dst = binary.AppendUvarint(dst, uint64(o.Held.RF))
	dst = binary.AppendUvarint(dst, uint64(len(o.Held.DCs)))
	for _, d := range o.Held.DCs {
		dst = binary.AppendUvarint(appendString(dst, d.DC), uint64(d.RF))
	}
	return dst
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

func (d *decoder) node(format byte) (n Node) {
	d.copy(n.ID[:])
	n.Generation = d.varint()
	n.Internode, n.Gossip, n.Native = d.addr(), d.addr(), d.addr()
	n.DC, n.Rack = d.string(), d.string()
	n.Tokens = d.tokens()
	if n.State = NodeState(d.byte()); n.State > Left && d.err == nil {
		d.err = fmt.Errorf("meta: decode: node state %d is unknown: this build is older than the cluster", n.State)
	}
	set := d.flags(healthBit + 2)
	if n.Health = Health(set >> healthBit); n.Health > Healing && d.err == nil {
		d.err = fmt.Errorf("meta: decode: node flags %#x are unknown: this build is older than the cluster", set)
	}
	n.Voter, n.Quiet = set&flagVoter != 0, set&flagQuiet != 0
	n.Since = d.uvarint()
	n.Version = d.uint32()
	n.ReleaseVersion = d.string()
	if format >= formatMovement {
		d.copy(n.Replaces[:])
		n.Next = d.tokens()
		n.Filled, n.Switched = d.uvarint(), d.uvarint()
	}
	if format >= formatKeeps {
		n.Keeps = d.flags(1) != 0
	}
	return n
}

func (d *decoder) tokens() (out []ring.Token) {
	for range d.count(TokensMax) {
		if raw := d.bytes(8); raw != nil {
			out = append(out, ring.Token(binary.BigEndian.Uint64(raw)))
		}
	}
	return out
}

// movement reads what formatMovement adds to a state.
func (d *decoder) movement(s *State) {
	for range d.count(OperationsMax) {
		s.Operations = append(s.Operations, d.operation())
	}
	s.Plan, s.PriorPlan, s.SwitchedAt, s.RingEpoch, s.ReadEpoch = d.uvarint(), d.uvarint(), d.uvarint(), d.uvarint(), d.uvarint()
}

func (d *decoder) operation() (o Operation) {
	o.ID, o.Kind, o.Forced = d.uvarint(), d.operationKind(), d.flags(1) != 0
	if o.Kind == 0 && d.err == nil {
		d.err = errors.New("meta: decode: an operation without a kind")
	}
	if o.Kind != Replication {
		d.copy(o.Node[:])
		return o
	}
	o.Keyspace = d.string()
	o.Held = ring.Strategy{Class: d.string(), RF: d.factor()}
	for range d.count(NodesMax) {
		o.Held.DCs = append(o.Held.DCs, ring.DCReplication{DC: d.string(), RF: d.factor()})
	}
	return o
}

func (d *decoder) factor() int {
	v := d.uvarint()
	if d.err == nil && v > math.MaxInt32 {
		d.err = fmt.Errorf("meta: decode: a replication factor of %d", v)
	}
	return int(min(v, math.MaxInt32))
}

func (d *decoder) operationKind() OperationKind {
	k := OperationKind(d.byte())
	if d.err == nil && k > operationKindMax {
		d.err = fmt.Errorf("meta: decode: operation %d is unknown: this build is older than the log", k)
	}
	return k
}

// flags reads a byte of which only the n lowest bits may be set.
func (d *decoder) flags(n int) byte {
	b := d.byte()
	if d.err == nil && b>>n != 0 {
		d.err = fmt.Errorf("meta: decode: flags %#x are unknown: this build is older than the log", b)
	}
	return b
}

func (d *decoder) end() error {
	if d.err == nil && len(d.b) != 0 {
		return fmt.Errorf("meta: decode: %d bytes too many", len(d.b))
	}
	return d.err
}
