package meta

import (
	"slices"

	"github.com/helenusdb/helenus/ring"
	"github.com/helenusdb/helenus/schema"
)

// startable says why an operation on the nodes may not begin now.
func (s *State) startable(on ...ring.HostID) error {
	switch {
	case s.ClusterVersion < VersionMovement:
		return refused("the cluster uses metadata version %d, and nodes move from version %d on: upgrade every member first", s.ClusterVersion, VersionMovement)
	case s.quiet:
		return refused("a node is joining while there are no rows: try again when it has")
	case s.Phase() == Switched:
		return refused("a movement is being completed (%s): try again when it is", &s.Operations[0])
	case len(s.Operations) >= OperationsMax:
		return refused("%d operations are under way, which is the limit", len(s.Operations))
	}
	for _, id := range on {
		if o := s.OperationOn(id); o != nil {
			return refused("%s is under way: abort it first, or wait", o)
		}
	}
	return nil
}

// Frozen tells whether the command would change A, or replication, while a movement is being completed: it can be made when that has ended.
func (s *State) Frozen(c *Command) bool {
	if s.Phase() != Switched {
		return false
	}
	switch c.Kind {
	case StartOperation:
		o := s.OperationOn(c.Node.ID)
		return o == nil || !c.Force || o.Kind != c.OperationKind || o.Node != c.Node.ID
	case AddPending:
		return s.OperationOn(c.Node.ID) == nil
	case Schema:
		catalog, err := s.Catalog.Apply(c.Changes)
		return err == nil && s.replicatesAnew(catalog)
	}
	return false
}

// replicatesAnew tells whether a keyspace of the state has another strategy in a catalog.
func (s *State) replicatesAnew(catalog *schema.Catalog) bool {
	return slices.ContainsFunc(catalog.Keyspaces(), func(ks *schema.Keyspace) bool {
		old, ok := s.Catalog.Keyspace(ks.Name)
		return ok && !ks.Local && !ks.Virtual && !old.Strategy.Equal(ks.Strategy)
	})
}

// begin adds the operation: A has changed.
func (s *State) begin(o Operation) {
	o.ID = s.Epoch
	s.Operations = append(slices.Clone(s.Operations), o)
	s.plan()
}

// plan begins a new plan: A has changed. A command can change it more than once.
func (s *State) plan() {
	if s.Plan != s.Epoch {
		s.PriorPlan, s.Plan = s.Plan, s.Epoch
	}
}

// drop takes the operation out: A has changed. After the last one nothing moves any more.
func (s *State) drop(id uint64) {
	forced := s.Operation(id).Forced
	s.Operations = slices.DeleteFunc(slices.Clone(s.Operations), func(o Operation) bool { return o.ID == id })
	if forced && len(s.Operations) > 0 && s.ClusterVersion >= VersionKeeps {
		s.Operations[0].Forced = true // what was filled with too few replicas stays filled
	}
	if s.Phase() == Filling {
		s.plan()
	}
	if len(s.Operations) == 0 {
		s.rest()
	}
}

// rest forgets what was known of a movement that has ended.
func (s *State) rest() {
	s.Operations, s.Plan, s.PriorPlan, s.SwitchedAt = nil, 0, 0, 0
	for i := range s.Nodes {
		s.Nodes[i].Filled, s.Nodes[i].Switched = 0, 0
	}
}

// startOperation begins a Decommission, Remove or Move. One that is under way already can be forced by a second command.
func (s *State) startOperation(c *Command) error {
	i, ok := s.find(c.Node.ID)
	if !ok || s.Nodes[i].State == Left {
		return refused("host id %s is no member", c.Node.ID)
	}
	if o := s.OperationOn(c.Node.ID); o != nil && c.Force && !o.Forced && o.Kind == c.OperationKind && o.Node == c.Node.ID {
		s.force(o.ID)
		return nil
	}
	if err := s.startable(c.Node.ID); err != nil {
		return err
	}
	n := &s.Nodes[i]
	if n.State != Normal {
		return refused("node %s is %s", n.ID, n.State)
	}
	switch c.OperationKind {
	case Decommission, Remove:
		if err := s.dispensable(n, c.Force); err != nil {
			return err
		}
		n.State = Leaving
	case Move:
		next := slices.Sorted(slices.Values(c.Node.Next))
		if k := len(next); k == 0 || k > TokensMax {
			return refused("a node needs 1 to %d tokens, not %d", TokensMax, k)
		}
		if slices.Equal(next, n.Tokens) {
			return refused("node %s has those tokens", n.ID)
		}
		n.Next = next
	default:
		return refused("%s does not begin like this", c.OperationKind)
	}
	s.begin(Operation{Kind: c.OperationKind, Node: n.ID, Forced: c.Force})
	return nil
}

// forceOperation lets an operation go on with the replicas there are, of whatever kind it is and also once switched.
func (s *State) forceOperation(c *Command) error {
	o := s.Operation(c.Operation)
	switch {
	case o == nil:
		return refused("operation %d is not under way", c.Operation)
	case o.Forced:
		return refused("%s is forced already", o)
	}
	s.force(o.ID)
	return nil
}

func (s *State) force(id uint64) {
	s.Operations = slices.Clone(s.Operations)
	s.Operation(id).Forced = true
}

// dispensable says why the node cannot leave: the last one, or its data centre would keep fewer nodes than a keyspace replicates to.
func (s *State) dispensable(n *Node, force bool) error {
	all, here := 0, 0 // of A, without it
	for i := range s.Nodes {
		if o := &s.Nodes[i]; o.ID != n.ID && (o.State == Normal || o.State == Pending && o.Replaces.IsZero()) {
			all++
			if o.DC == n.DC {
				here++
			}
		}
	}
	if all == 0 {
		return refused("host id %s is the last member", n.ID)
	}
	if force {
		return nil
	}
	for _, ks := range s.Catalog.Keyspaces() {
		if ks.Local || ks.Virtual || schema.IsSystemKeyspace(ks.Name) {
			continue
		}
		if rf := ks.Strategy.RF; ks.Strategy.Class == ring.SimpleStrategy && all < rf {
			return refused("keyspace %s has %d replicas, and %d nodes would be left: lower its replication factor first, or force it", ks.Name, rf, all)
		}
		if rf := ks.Strategy.FactorIn(n.DC); ks.Strategy.Class == ring.NetworkTopologyStrategy && here < rf {
			return refused("keyspace %s has %d replicas in %s, where %d nodes would be left: lower its replication factor first, or force it", ks.Name, rf, n.DC, here)
		}
	}
	return nil
}

// beginJoin adds the operation of a node that was just announced, which takes no place in the future ring without.
func (s *State) beginJoin(n *Node, force bool) error {
	if err := s.startable(n.ID); err != nil {
		return err
	}
	if n.Replaces.IsZero() {
		s.begin(Operation{Kind: Join, Node: n.ID, Forced: force})
		return nil
	}
	if o := s.OperationOn(n.Replaces); o != nil {
		return refused("%s is under way: abort it first, or wait", o)
	}
	d := s.Node(n.Replaces)
	switch {
	case d == nil || d.State != Normal:
		return refused("the node to replace, %s, is no member that owns ranges", n.Replaces)
	case d.DC != n.DC || d.Rack != n.Rack:
		return refused("the node to replace is in %s/%s, the new one in %s/%s: it has to stand in the same data centre and rack", d.DC, d.Rack, n.DC, n.Rack)
	}
	n.Tokens = slices.Clone(d.Tokens)
	s.begin(Operation{Kind: Replace, Node: n.ID, Forced: force})
	return nil
}

// abortOperation ends an operation before the switch; nothing of it remains but that a joining node's identity is spent.
func (s *State) abortOperation(c *Command) error {
	o := s.Operation(c.Operation)
	switch {
	case o == nil:
		return refused("operation %d is not under way", c.Operation)
	case s.Phase() == Switched:
		return refused("it is too late to abort %s: reads have moved already, it is being completed", o)
	}
	return s.undo(*o)
}

func (s *State) undo(o Operation) error {
	if o.Kind == Replication {
		catalog, err := s.Catalog.WithStrategy(o.Keyspace, o.Held)
		if err != nil {
			return err
		}
		s.Catalog = catalog
		s.drop(o.ID)
		return nil
	}
	i, ok := s.find(o.Node)
	if !ok {
		return refused("host id %s is no member", o.Node)
	}
	n := &s.Nodes[i]
	switch o.Kind {
	case Join, Replace:
		n.leave()
	case Decommission, Remove:
		n.State = Normal
	case Move:
		n.Next = nil
	}
	s.drop(o.ID)
	return nil
}

// leave makes the node one that was a member; its host id never comes back.
func (n *Node) leave() {
	n.State, n.Quiet, n.Voter, n.Health, n.Tokens, n.Next, n.Replaces, n.Filled, n.Switched = Left, false, false, Sound, nil, nil, ring.HostID{}, 0, 0
	n.Keeps = false
}

// reportFilled notes that the node has the rows of every range it gains under the plan; once switched, of the epoch of the switch, that it has
// compared them once more.
func (s *State) reportFilled(c *Command) error {
	i, ok := s.find(c.Node.ID)
	switch {
	case !ok || s.Nodes[i].State == Left:
		return refused("host id %s is no member", c.Node.ID)
	case s.Phase() == Filling && c.Plan == s.Plan, s.Phase() == Switched && c.Plan == s.SwitchedAt:
		s.Nodes[i].Filled = c.Plan
		return nil
	}
	return ErrConflict
}

// switchReads moves reads to A.
func (s *State) switchReads(prev *State, c *Command) error {
	if s.Phase() != Filling || c.Plan != s.Plan {
		return ErrConflict
	}
	if missing := prev.Unfilled(); len(missing) > 0 {
		return refused("reads cannot move yet: node %s has not reported that it has its rows", missing[0])
	}
	s.SwitchedAt = s.Epoch
	return nil
}

// reportSwitched notes that the node has applied the switch and ended what it had begun before.
func (s *State) reportSwitched(c *Command) error {
	i, ok := s.find(c.Node.ID)
	switch {
	case !ok || s.Nodes[i].State == Left:
		return refused("host id %s is no member", c.Node.ID)
	case s.Phase() != Switched || c.Plan != s.SwitchedAt:
		return ErrConflict
	}
	s.Nodes[i].Switched = s.SwitchedAt
	return nil
}

// finishMovement makes A all there is. Who proposes it knows that those who have not reported are dead.
func (s *State) finishMovement(prev *State, c *Command) error {
	if s.Phase() != Switched || c.Plan != s.SwitchedAt {
		return ErrConflict
	}
	if ks, r, stale := prev.Stale(); stale && !s.Forced() {
		return refused("too few of the replicas that give up range %s of keyspace %s have applied the switch: start one, or force an operation", r, ks)
	}
	if s.ClusterVersion >= VersionKeeps && s.Forced() {
		s.keepLosses(prev)
	}
	for _, o := range s.Operations {
		i, ok := s.find(o.Node)
		if !ok {
			continue
		}
		switch n := &s.Nodes[i]; o.Kind {
		case Replace:
			if d, ok := s.find(n.Replaces); ok {
				s.Nodes[d].leave()
			}
			n.State, n.Replaces = Normal, ring.HostID{}
		case Join:
			n.State = Normal
		case Decommission, Remove:
			n.leave()
		case Move:
			n.Tokens, n.Next = n.Next, nil
		}
	}
	s.rest()
	return nil
}

// keepLosses has the nodes that lose ranges keep what they have of them: it was not compared with as many replicas as know all, so it may be nowhere else.
func (s *State) keepLosses(prev *State) {
	for _, ks := range s.Catalog.Keyspaces() {
		for _, m := range prev.Moves(ks.Name) {
			for _, id := range m.Losses {
				if i, ok := s.find(id); ok {
					s.Nodes[i].Keeps = true
				}
			}
		}
	}
}

// reportCleaned notes that the node keeps nothing any more.
func (s *State) reportCleaned(c *Command) error {
	i, ok := s.find(c.Node.ID)
	switch {
	case !ok || s.Nodes[i].State == Left:
		return refused("host id %s is no member", c.Node.ID)
	case s.Phase() != None:
		return ErrConflict
	}
	s.Nodes[i].Keeps = false
	return nil
}

// moveKeyspaces begins, changes or ends the operations of keyspaces whose replication differs from that in the catalog before. Without
// moves a new replication is in force at once, as the log's first version has it.
func (s *State) moveKeyspaces(was *schema.Catalog, moves bool) error {
	for _, o := range slices.Clone(s.Operations) {
		if _, ok := s.Catalog.Keyspace(o.Keyspace); o.Kind == Replication && !ok {
			s.drop(o.ID)
		}
	}
	for _, ks := range s.Catalog.Keyspaces() {
		old, ok := was.Keyspace(ks.Name)
		if !ok || old.Strategy.Equal(ks.Strategy) || ks.Local || ks.Virtual {
			continue
		}
		if err := s.moveKeyspace(old.Strategy, ks, moves); err != nil {
			return err
		}
	}
	return nil
}

func (s *State) moveKeyspace(old ring.Strategy, ks *schema.Keyspace, moves bool) error {
	o := s.replication(ks.Name)
	switch {
	case s.Phase() == Switched:
		return refused("a movement is being completed (%s), and the replication of keyspace %s can change when it is", &s.Operations[0], ks.Name)
	case o != nil && o.Held.Equal(ks.Strategy):
		s.drop(o.ID)
		return nil
	case o != nil:
		s.plan()
		return nil
	case !moves || !s.places(old, ks.Strategy):
		if s.Phase() == Filling {
			s.plan()
		}
		return nil
	}
	if err := s.startable(); err != nil {
		return err
	}
	s.begin(Operation{Kind: Replication, Keyspace: ks.Name, Held: old})
	return nil
}

// places tells whether the two strategies place a range differently, now or after the movement.
func (s *State) places(a, b ring.Strategy) bool {
	for _, r := range []*ring.Ring{s.before, s.after} {
		if len(ring.Diff(r.Placement(a), r.Placement(b))) > 0 {
			return true
		}
	}
	return false
}
