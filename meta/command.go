package meta

import (
	"slices"

	"github.com/helenusdb/helenus/ring"
	"github.com/helenusdb/helenus/schema"
)

// CommandKind says what a Command does.
type CommandKind uint8

// The kinds. Their numbers are part of the encoding.
const (
	Found      CommandKind = 1 // the first command of a log: identity of the cluster and its first node, Normal with tokens
	AddPending CommandKind = 2 // Node: announced, with the tokens it will own; unless it is Quiet, operation Join or Replace begins
	CommitJoin CommandKind = 3 // Node.ID, Quiet, becomes Normal
	UpdateNode CommandKind = 4 // Node: new generation, addresses, versions, health of a member
	RemoveNode CommandKind = 5 // Node.ID: Pending without an operation is forgotten; others have Left, without movement
	SetVoters  CommandKind = 6 // Voters: who votes in Raft
	Schema     CommandKind = 7 // Changes of the catalog whose version is BaseSchema
	SetVersion CommandKind = 8 // ClusterVersion: all members understand it; never goes back
	SetHealth  CommandKind = 9 // Node: ID, Generation, Health: the next step in the healing of that start of a member

	kindPlainMax = SetHealth // those from here on need VersionMovement

	StartOperation CommandKind = 10 // OperationKind (Decommission, Remove, Move) on Node.ID, to Node.Next; Force
	AbortOperation CommandKind = 11 // Operation, before the switch
	ReportFilled   CommandKind = 12 // Node.ID has what it gains under Plan; or has compared it once more since the switch of epoch Plan
	Switch         CommandKind = 13 // everybody has reported Plan: reads move
	ReportSwitched CommandKind = 14 // Node.ID has applied the switch of epoch Plan
	Finish         CommandKind = 15 // everybody who is alive has reported the switch of epoch Plan: the movement ends

	ForceOperation CommandKind = 16 // Operation goes on where too few replicas are alive to know all, also once switched

	kindMovementMax = ForceOperation // those from here on need VersionKeeps

	ReportCleaned CommandKind = 17 // Node.ID has removed what it kept: it does so by itself again from now on

	kindMax = ReportCleaned
)

// Command is one entry of the log. Which fields matter depends on Kind; the others are zero.
type Command struct {
	Kind CommandKind
	// ID is the proposal's own: State.MadeBy tells later which one made an epoch, so that a proposer whose answer was lost
	// learns what became of it. Unique; zero in commands that nobody asks about.
	ID          [16]byte
	Node        Node
	ClusterID   [16]byte
	ClusterName string
	Partitioner string
	Secret      [32]byte
	Voters      []ring.HostID
	BaseEpoch   uint64   // the epoch the command was made from, so that it takes effect there or never; 0: any
	BaseSchema  [16]byte // Schema without BaseEpoch: the Version of the catalog the changes were made from
	Changes     []schema.Change
	Version     uint32
	NumTokens   uint32 // of a node that asks to join; nothing in the log

	OperationKind OperationKind
	Operation     uint64 // id
	Plan          uint64 // State.Plan or State.SwitchedAt that the command was made for: it has no effect in another
	Force         bool   // the operation goes on where too few replicas are alive to know all
	Moves         bool   // Schema: keyspaces that are replicated anew are moved, by operations
}

// Apply returns the state after the command. It is a pure function: every node comes to the same state. Errors
// (ErrConflict, *Refused, and those of the catalog) mean that the command had no effect; the state and its epoch stay.
// Diff tells what changed.
func (s *State) Apply(c *Command) (*State, error) {
	if (c.Kind == Found) == s.Founded() {
		if s.Founded() {
			return nil, refused("the cluster %q exists already", s.ClusterName)
		}
		return nil, refused("command %d before the cluster was founded", c.Kind)
	}
	if c.BaseEpoch != 0 && c.BaseEpoch != s.Epoch {
		return nil, ErrConflict
	}
	if need := c.NeedsVersion(); need > s.ClusterVersion {
		return nil, refused("the cluster uses metadata version %d, the change needs %d: upgrade every member first", s.ClusterVersion, need)
	}
	next := s.copy()
	next.Epoch++
	if err := next.apply(s, c); err != nil {
		return nil, err
	}
	next.remember(c.ID)
	if err := next.finish(s); err != nil {
		return nil, refused("%v", err)
	}
	if c.Kind == AddPending || c.Kind == Schema { // the only ones that make a state much larger
		if n := len(next.Encode()); n > StateBytesMax {
			return nil, refused("the cluster's metadata would have %d bytes, at most %d are allowed", n, StateBytesMax)
		}
	}
	return next, nil
}

// remember notes whose command made the newest epoch.
func (s *State) remember(id [16]byte) {
	made := append(slices.Clone(s.Made), id)
	s.Made = made[max(0, len(made)-MadeMax):]
}

// copy is shallow: Nodes is a new slice, the rest is shared.
func (s *State) copy() *State {
	return &State{Epoch: s.Epoch, ClusterID: s.ClusterID, ClusterName: s.ClusterName, Partitioner: s.Partitioner,
		ClusterVersion: s.ClusterVersion, Secret: s.Secret, Catalog: s.Catalog, Nodes: slices.Clone(s.Nodes), Made: s.Made,
		Operations: s.Operations, Plan: s.Plan, PriorPlan: s.PriorPlan, SwitchedAt: s.SwitchedAt, RingEpoch: s.RingEpoch, ReadEpoch: s.ReadEpoch, quiet: s.quiet, before: s.before, after: s.after}
}

// apply changes s, a copy of prev at the next epoch that has no rings yet.
func (s *State) apply(prev *State, c *Command) error {
	switch c.Kind {
	case Found:
		return s.found(c)
	case AddPending:
		return s.addPending(c)
	case CommitJoin:
		return s.commitJoin(c)
	case UpdateNode:
		return s.updateNode(c)
	case RemoveNode:
		return s.removeNode(c)
	case SetVoters:
		return s.setVoters(c)
	case Schema:
		return s.changeSchema(c)
	case SetVersion:
		return s.setVersion(c)
	case SetHealth:
		return s.setHealth(c)
	case StartOperation:
		return s.startOperation(c)
	case AbortOperation:
		return s.abortOperation(c)
	case ReportFilled:
		return s.reportFilled(c)
	case Switch:
		return s.switchReads(prev, c)
	case ReportSwitched:
		return s.reportSwitched(c)
	case Finish:
		return s.finishMovement(prev, c)
	case ForceOperation:
		return s.forceOperation(c)
	case ReportCleaned:
		return s.reportCleaned(c)
	}
	return refused("command %d is none", c.Kind) // DecodeCommand lets none through: nodes must not differ in what they refuse
}

func (s *State) found(c *Command) error {
	if c.ClusterID == [16]byte{} {
		return refused("a cluster needs an id")
	}
	s.ClusterID, s.ClusterName, s.Partitioner, s.Secret = c.ClusterID, c.ClusterName, c.Partitioner, c.Secret
	n := c.Node
	n.announced(s.Epoch)
	n.State, n.Voter, n.Quiet, n.Health = Normal, true, false, Sound
	if err := n.check(); err != nil {
		return err
	}
	s.Nodes = []Node{n}
	return nil
}

// check says what a new member lacks.
func (n *Node) check() error {
	switch k := len(n.Tokens); {
	case n.ID.IsZero():
		return refused("a node needs a host id")
	case !n.Internode.IsValid() || !n.Native.IsValid():
		return refused("node %s needs addresses", n.ID)
	case n.DC == "" || n.Rack == "":
		return refused("node %s needs a data centre and a rack", n.ID)
	case k == 0 || k > TokensMax:
		return refused("a node needs 1 to %d tokens, not %d", TokensMax, k)
	}
	return nil
}

// announced makes n what a node is that is announced with it.
func (n *Node) announced(epoch uint64) {
	n.State, n.Tokens, n.Next, n.Voter, n.Health, n.Since = Pending, slices.Sorted(slices.Values(n.Tokens)), nil, false, announced(n.Health), epoch
	n.Filled, n.Switched, n.Keeps = 0, 0, false
}

func (s *State) addPending(c *Command) error {
	n := c.Node
	n.announced(s.Epoch)
	if err := s.Admissible(&n); err != nil {
		return err
	}
	if o := s.OperationOn(n.ID); o != nil {
		return s.joinAgain(&n, o, c.Force)
	}
	if err := s.forgetAttempts(&n); err != nil {
		return err
	}
	switch {
	case n.Quiet && !n.Replaces.IsZero():
		return refused("node %s cannot replace another without moving its rows", n.ID)
	case n.Quiet && len(s.Operations) > 0:
		return refused("%s is under way: a node joins without rows only while nothing moves", &s.Operations[0])
	case !n.Quiet && s.ClusterVersion >= VersionMovement:
		if err := s.beginJoin(&n, c.Force); err != nil {
			return err
		}
	}
	if err := n.check(); err != nil {
		return err
	}
	i, known := s.find(n.ID)
	if known {
		s.Nodes[i] = n
	} else {
		s.Nodes = slices.Insert(s.Nodes, i, n)
	}
	return nil
}

// joinAgain is AddPending of a node that has started again while its operation is under way, which goes on.
func (s *State) joinAgain(n *Node, o *Operation, force bool) error {
	i, _ := s.find(n.ID)
	old := s.Nodes[i]
	if n.Quiet || n.Replaces != old.Replaces || n.DC != old.DC || n.Rack != old.Rack {
		return refused("%s is under way: start the node as it was started before, or abort it first", o)
	}
	if n.Generation < old.Generation {
		return refused("host id %s has started again since: two processes have one identity, or the clock was set back", n.ID)
	}
	n.Tokens, n.Since, n.Filled, n.Switched = old.Tokens, old.Since, old.Filled, old.Switched
	s.Nodes[i] = *n
	if force && !o.Forced {
		s.force(o.ID)
	}
	return n.check()
}

// forgetAttempts takes out attempts to join from the node's address by a node that was wiped since.
func (s *State) forgetAttempts(n *Node) error {
	for _, o := range slices.Clone(s.Nodes) {
		if o.State != Pending || o.Internode != n.Internode || o.ID == n.ID {
			continue
		}
		if op := s.OperationOn(o.ID); op == nil {
			s.Nodes = slices.DeleteFunc(s.Nodes, func(m Node) bool { return m.ID == o.ID })
		} else if s.Phase() == Switched {
			return refused("%s is being completed, and its node was wiped: wait until it is, then replace %s", op, o.ID)
		} else if err := s.undo(*op); err != nil {
			return err
		}
	}
	return nil
}

// Admissible says why the node may not join, nil when it may. AddPending makes the same checks.
func (s *State) Admissible(n *Node) error {
	old := s.Node(n.ID)
	if old == nil && len(s.Nodes) >= NodesMax {
		return refused("the cluster has %d nodes, those that left included, which is the limit", len(s.Nodes))
	}
	if n.Version < s.ClusterVersion {
		return refused("the node's build understands metadata version %d, the cluster uses %d: start a newer build", n.Version, s.ClusterVersion)
	}
	if old != nil {
		switch {
		case old.State == Left:
			return refused("host id %s has left the cluster: wipe the node's data folder to join as a new node", n.ID)
		case old.State != Pending:
			return refused("host id %s is a member already, at %s", n.ID, old.Internode)
		case old.Internode != n.Internode && old.Generation >= n.Generation:
			return refused("host id %s is joining from %s: two nodes have one identity", n.ID, old.Internode)
		}
	}
	for i := range s.Nodes {
		o := &s.Nodes[i]
		switch {
		case o.ID == n.ID:
		case [8]byte(o.ID[:]) == [8]byte(n.ID[:]): // the number by which the log's Raft knows a node
			return refused("host id %s is too much like that of %s: wipe the node's data folder, it gets another", n.ID, o.ID)
		case o.ID == n.Replaces:
		case o.owns() && (o.Internode == n.Internode || o.Native == n.Native):
			return refused("address %s belongs to member %s: a node that lost its data cannot take the place of its former self by starting empty: restore its data folder, or start it under another address", n.Internode, o.ID)
		case o.State == Pending && o.Internode != n.Internode && o.Native == n.Native:
			return refused("address %s for clients belongs to %s, which is joining", n.Native, o.ID)
		}
	}
	return nil
}

func (s *State) commitJoin(c *Command) error {
	i, ok := s.find(c.Node.ID)
	if !ok || s.Nodes[i].State != Pending {
		return refused("host id %s is not joining", c.Node.ID)
	}
	if o := s.OperationOn(c.Node.ID); o != nil {
		return refused("%s is under way: it ends by itself", o)
	}
	if c.Node.Since != s.Nodes[i].Since { // what was found out about another attempt says nothing of this one
		return ErrConflict
	}
	s.Nodes[i].State, s.Nodes[i].Quiet = Normal, false
	return nil
}

func (s *State) updateNode(c *Command) error {
	i, ok := s.find(c.Node.ID)
	if !ok || s.Nodes[i].State == Left {
		return refused("host id %s is no member", c.Node.ID)
	}
	n := s.Nodes[i]
	switch {
	case c.Node.DC != n.DC || c.Node.Rack != n.Rack:
		return refused("data centre and rack of %s are %s/%s and cannot change to %s/%s", n.ID, n.DC, n.Rack, c.Node.DC, c.Node.Rack)
	case c.Node.Generation <= n.Generation:
		return refused("host id %s has started again since (generation %d, not %d): two processes have one identity, or the clock was set back", n.ID, n.Generation, c.Node.Generation)
	case c.Node.Version < s.ClusterVersion:
		return refused("the node's build understands metadata version %d, the cluster uses %d: start a newer build", c.Node.Version, s.ClusterVersion)
	}
	for j := range s.Nodes {
		if o := &s.Nodes[j]; j != i && o.State != Left && o.ID != n.Replaces && (o.Internode == c.Node.Internode || o.Native == c.Node.Native) {
			return refused("address %s belongs to member %s", c.Node.Internode, o.ID)
		}
	}
	n.Generation, n.Internode, n.Gossip, n.Native = c.Node.Generation, c.Node.Internode, c.Node.Gossip, c.Node.Native
	n.Version, n.ReleaseVersion, n.Health = c.Node.Version, c.Node.ReleaseVersion, announced(c.Node.Health)
	s.Nodes[i] = n
	return nil
}

// announced is the health of a member that says h of itself: either it has lost something since it was last healed, or it has
// not, whatever is known of its former starts.
func announced(h Health) Health {
	if h == Sound {
		return Sound
	}
	return Suspect
}

// setHealth moves a member one step further: Suspect, Healing, Sound.
func (s *State) setHealth(c *Command) error {
	i, ok := s.find(c.Node.ID)
	if !ok || s.Nodes[i].State == Left {
		return refused("host id %s is no member", c.Node.ID)
	}
	n := &s.Nodes[i]
	if c.Node.Generation != n.Generation { // it has started again since, and may have lost something since
		return ErrConflict
	}
	if from, to := n.Health, c.Node.Health; !(from == Suspect && to == Healing || from == Healing && to == Sound) {
		return refused("member %s is %s and cannot become %s", n.ID, from, to)
	}
	n.Health = c.Node.Health
	return nil
}

func (s *State) removeNode(c *Command) error {
	i, ok := s.find(c.Node.ID)
	if !ok || s.Nodes[i].State == Left {
		return refused("host id %s is no member", c.Node.ID)
	}
	n := s.Nodes[i]
	if o := s.OperationOn(n.ID); o != nil {
		return refused("%s is under way: abort it", o)
	}
	if n.State == Pending {
		s.Nodes = slices.Delete(s.Nodes, i, i+1)
		return nil
	}
	if len(s.Operations) > 0 {
		return refused("%s is under way", &s.Operations[0])
	}
	if n.owns() && !slices.ContainsFunc(s.Nodes, func(o Node) bool { return o.owns() && o.ID != n.ID }) {
		return refused("host id %s is the last member", n.ID)
	}
	n.leave()
	s.Nodes[i] = n
	return nil
}

func (s *State) setVoters(c *Command) error {
	if len(c.Voters) == 0 || len(c.Voters) > VotersMax {
		return refused("a cluster has 1 to %d voters, not %d", VotersMax, len(c.Voters))
	}
	for _, id := range c.Voters {
		if n := s.Node(id); n == nil || !n.owns() {
			return refused("voter %s is no member", id)
		}
	}
	for i := range s.Nodes {
		s.Nodes[i].Voter = slices.Contains(c.Voters, s.Nodes[i].ID)
	}
	return nil
}

func (s *State) changeSchema(c *Command) error {
	if c.BaseEpoch == 0 && c.BaseSchema != s.Catalog.Version {
		return ErrConflict
	}
	catalog, err := s.Catalog.Apply(c.Changes)
	if err != nil {
		return err
	}
	was := s.Catalog
	s.Catalog = catalog
	return s.moveKeyspaces(was, c.Moves)
}

func (s *State) setVersion(c *Command) error {
	if c.Version < s.ClusterVersion {
		return refused("the cluster's version %d cannot go back to %d", s.ClusterVersion, c.Version)
	}
	for i := range s.Nodes {
		if n := &s.Nodes[i]; n.State != Left && n.Version < c.Version {
			return refused("node %s understands version %d, not %d", n.ID, n.Version, c.Version)
		}
	}
	s.ClusterVersion = c.Version
	return nil
}
