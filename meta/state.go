package meta

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"

	"github.com/helenusdb/helenus/ring"
	"github.com/helenusdb/helenus/schema"
)

// Limits of what the log accepts.
const (
	NodesMax  = 4096
	TokensMax = 256
	VotersMax = 5

	// StateBytesMax bounds the encoded state: nodes send it in one message, which holds a third more.
	StateBytesMax = 12 << 20
	// MadeMax is how many of the newest epochs remember which command made them.
	MadeMax = 256
)

// Version numbers what a build understands: message fields, formats and log entries newer than the cluster's version
// are not used, so that nodes can be upgraded, and rolled back, one by one.
const Version uint32 = 3

// VersionAgreement is the cluster version from which on nodes send one another the messages of logged batches, counters and
// conditional writes (verbs 36, 37, 40 and 48 to 54).
const VersionAgreement uint32 = 2

// NodeState is where a member stands.
type NodeState uint8

// The states. Their numbers are part of the encoding.
const (
	Pending NodeState = 1 // announced in the log with its tokens: takes writes, owns no range yet
	Normal  NodeState = 2
	Leaving NodeState = 3 // still owns its ranges, is giving them away
	Left    NodeState = 4 // remembered so that its host id and its data never come back
)

// String returns the word that `helenus status` and logs show.
func (s NodeState) String() string {
	switch s {
	case Pending:
		return "joining"
	case Normal:
		return "normal"
	case Leaving:
		return "leaving"
	case Left:
		return "left"
	}
	return fmt.Sprintf("state(%d)", uint8(s))
}

// Health says how far a member's copy of the metadata log can be trusted.
type Health uint8

// The healths. A member that finds the end of a log of its own missing may have forgotten what it promised to others: a vote,
// an entry. It takes no part in the log until the others have removed it from their number (so that no promise of its former
// self counts any more), added it as a learner, and sent it what it lacks.
const (
	Sound   Health = 0
	Suspect Health = 1 // has told that it lost the end of a log: the leader removes it from Raft's membership
	Healing Health = 2 // is out of it, or in it again as a learner that is being sent what it lacks
)

// String returns the word that logs and `helenus status` show.
func (h Health) String() string {
	switch h {
	case Sound:
		return "sound"
	case Suspect:
		return "suspect"
	case Healing:
		return "healing"
	}
	return fmt.Sprintf("health(%d)", uint8(h))
}

// Node is one member.
type Node struct {
	ID             ring.HostID
	Generation     int64 // seconds since the epoch of its newest start that the log knows; never goes back
	Internode      netip.AddrPort
	Gossip         netip.AddrPort
	Native         netip.AddrPort // what drivers are told
	DC, Rack       string         // fixed for ever
	Tokens         []ring.Token   // ascending; those it will own while Pending
	State          NodeState
	Since          uint64       // epoch of its announcement, by which attempts to join are told apart
	Quiet          bool         // while it is Pending, user tables take no writes: see State.Quiet
	Replaces       ring.HostID  // while it is Pending: the dead node whose tokens and place it takes; zero: none
	Next           []ring.Token // ascending; the tokens it is moving to; nil when it does not
	Filled         uint64       // the plan it has reported last, see State.Plan; or the switch, when it has compared once more
	Switched       uint64       // the switch it has reported last, see State.SwitchedAt
	Keeps          bool         // it lost ranges in a movement that was forced, and keeps what it has of them until an operator has it clean up
	Voter          bool         // has a seat among the voters; who is not Sound does not vote meanwhile
	Health         Health       // of its copy of the metadata log
	Version        uint32       // highest Version its build understands
	ReleaseVersion string
}

// State is the cluster's metadata at one epoch. It is immutable and safe for concurrent use; slices and maps belong
// to it.
type State struct {
	Epoch          uint64 // number of commands that had an effect
	ClusterID      [16]byte
	ClusterName    string
	Partitioner    string // full class name
	ClusterVersion uint32
	Secret         [32]byte // key of the HMAC over paging states
	Catalog        *schema.Catalog
	Nodes          []Node     // by ID, those that left included
	Made           [][16]byte // ids of the commands that made the newest epochs, up to Epoch; see MadeBy

	// Operations are under way and share one movement; in the order in which they began.
	Operations []Operation
	// Plan is the epoch at which A changed last while it is being filled; 0 when nothing moves. What is reported of another
	// plan does not count.
	Plan uint64
	// PriorPlan is the plan before this one of the same movement, 0 when there was none: who knows of it knows all there were.
	PriorPlan uint64
	// SwitchedAt is the epoch from which on A is read; 0 unless the phase is Switched.
	SwitchedAt uint64
	// RingEpoch is the epoch of the last command that changed B, A or the phase; 0 before VersionMovement. Who acts on an older
	// state may not know all replicas.
	RingEpoch uint64
	// ReadEpoch is the RingEpoch from which on a read has to be planned: one of an older plan may ask nodes that do not take all writes
	// any more. It follows the switch only when the movement ends, since the replicas of both sides take writes until then.
	ReadEpoch uint64

	// Ring has the nodes that own ranges, with the tokens by which they are read.
	Ring *ring.Ring
	// Other is the ring of the replicas that are only written: after the movement while it is being filled, or once the joining
	// nodes own their ranges; before it once switched. nil when nothing moves.
	Other *ring.Ring

	quiet         bool
	before, after *ring.Ring // of B and of A; the same when no node changes

	mu      sync.Mutex // guards the maps below; held for a map access or one computation
	befores map[string]*ring.Placement
	afters  map[string]*ring.Placement
	moves   map[string][]ring.Movement // by both strategies
}

// Empty is the State before the first command: the system keyspaces, no node, epoch 0.
func Empty() *State {
	s := &State{Catalog: schema.Bootstrap(), ClusterVersion: Version, Partitioner: ring.Murmur3{}.Name()}
	if err := s.finish(nil); err != nil {
		panic("meta: empty state: " + err.Error())
	}
	return s
}

// finish derives the rings. Placements of prev are kept where neither ring nor strategy changed.
func (s *State) finish(prev *State) error {
	if err := s.derive(prev); err != nil {
		return err
	}
	if prev != nil && s.ClusterVersion >= VersionMovement && s.moved(prev) {
		s.RingEpoch = s.Epoch
		switch {
		case s.Phase() != None: // what was read takes all writes
		case prev.Phase() == Switched:
			s.ReadEpoch = prev.SwitchedAt
		case prev.Phase() == None: // without movement
			s.ReadEpoch = s.Epoch
		}
	}
	return nil
}

// owns tells whether the node is in the ring before the movement.
func (n *Node) owns() bool { return n.State == Normal || n.State == Leaving }

// Node returns the member with that id, also one that left; nil when there is none.
func (s *State) Node(id ring.HostID) *Node {
	i, ok := s.find(id)
	if !ok {
		return nil
	}
	return &s.Nodes[i]
}

func (s *State) find(id ring.HostID) (int, bool) {
	return slices.BinarySearchFunc(s.Nodes, id, func(n Node, id ring.HostID) int { return n.ID.Compare(id) })
}

// Members returns the nodes that have not left, by id, in a new slice.
func (s *State) Members() []Node {
	return slices.DeleteFunc(slices.Clone(s.Nodes), func(n Node) bool { return n.State == Left })
}

// MadeBy returns the id of the command that made the epoch; ok false when that is not remembered (any more) or has not
// come yet.
func (s *State) MadeBy(epoch uint64) (id [16]byte, ok bool) {
	back := s.Epoch - epoch
	if epoch > s.Epoch || back >= uint64(len(s.Made)) {
		return id, false
	}
	return s.Made[uint64(len(s.Made))-1-back], true
}

// Quiet tells that user tables take no writes, at whatever epoch they were made: a node is joining without being sent
// rows, which is right only while there are none. It is not quiet for long, see meta/formation.
func (s *State) Quiet() bool { return s.quiet }

// Voters returns the ids of the voters that the cluster has chosen, ascending.
func (s *State) Voters() []ring.HostID {
	var out []ring.HostID
	for i := range s.Nodes {
		if s.Nodes[i].Voter {
			out = append(out, s.Nodes[i].ID)
		}
	}
	return out
}

// DCs returns the sorted names of the data centres with a member that owns ranges.
func (s *State) DCs() []string { return s.Ring.DCs() }

// Founded tells whether the state belongs to a cluster.
func (s *State) Founded() bool { return s.ClusterID != [16]byte{} }

// Event tells what a command changed. Exactly one field is set.
type Event struct {
	Schema  *schema.Event
	Node    *NodeEvent
	Dropped schema.Generation // the rows of this generation are gone: the engine drops them
}

// NodeEvent is a change of membership.
type NodeEvent struct {
	Kind NodeEventKind
	Node Node // as it is afterwards
}

// NodeEventKind says what happened to a node.
type NodeEventKind uint8

// The kinds of node events.
const (
	NodeAdded   NodeEventKind = iota + 1 // owns ranges now
	NodeUpdated                          // address, generation or version changed
	NodeRemoved
	NodeMoved // it is read by other tokens
)

// ErrConflict is returned by Apply when the state has moved on since the command was made, so that it has to be made
// again from the newer state. The command had no effect.
var ErrConflict = errors.New("meta: the metadata changed meanwhile")

// Refused is a command that cannot be right in the state it met. It had no effect.
type Refused struct{ Reason string }

// Error returns the reason.
func (e *Refused) Error() string { return "meta: refused: " + e.Reason }

func refused(format string, args ...any) error { return &Refused{fmt.Sprintf(format, args...)} }
