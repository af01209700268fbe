package meta

import (
	"fmt"
	"slices"

	"github.com/helenusdb/helenus/internal/planted"
	"github.com/helenusdb/helenus/ring"
	"github.com/helenusdb/helenus/schema"
)

// VersionMovement is the cluster version from which on operations exist, and entries of the log that speak of them.
const VersionMovement uint32 = 2

// VersionKeeps is the cluster version from which on nodes that lose ranges in a movement that is forced keep what they have of them: Node.Keeps.
const VersionKeeps uint32 = 3

// OperationsMax bounds the operations under way.
const OperationsMax = 256

// Phase is how far the movement of ranges has come: docs/design/0009-movement.md.
type Phase uint8

// The phases. B are the replicas before the movement, A those after it.
const (
	None     Phase = 0 // nothing moves: A is B
	Filling  Phase = 1 // B is read; B and A are written; nodes that gain ranges are being sent the rows
	Switched Phase = 2 // A is read; A and B are written; not every member knows that yet
)

// String returns the word that `helenus operations` shows.
func (p Phase) String() string {
	switch p {
	case None:
		return "none"
	case Filling:
		return "filling"
	case Switched:
		return "switched"
	}
	return fmt.Sprintf("phase(%d)", uint8(p))
}

// OperationKind says what an operation does.
type OperationKind uint8

// The kinds. Their numbers are part of the encoding.
const (
	Join         OperationKind = 1 // Node, Pending, gets the ranges of its tokens
	Replace      OperationKind = 2 // Node, Pending, takes the place and the tokens of the dead node that it Replaces
	Decommission OperationKind = 3 // Node, Leaving, gives its ranges away
	Remove       OperationKind = 4 // Node, Leaving, is dead: the others make up for it
	Move         OperationKind = 5 // Node gets its Next tokens
	Replication  OperationKind = 6 // Keyspace is replicated anew; Held is how it was

	operationKindMax = Replication
)

// String returns the word that `helenus operations` shows.
func (k OperationKind) String() string {
	switch k {
	case Join:
		return "join"
	case Replace:
		return "replace"
	case Decommission:
		return "decommission"
	case Remove:
		return "remove"
	case Move:
		return "move"
	case Replication:
		return "replication"
	}
	return fmt.Sprintf("operation(%d)", uint8(k))
}

// Operation is a change of who replicates what that is under way. All of them share one movement.
type Operation struct {
	ID       uint64 // the epoch that it began with
	Kind     OperationKind
	Node     ring.HostID   // zero for Replication
	Keyspace string        // Replication only
	Held     ring.Strategy // Replication only: by which the keyspace is placed before the movement
	Forced   bool          // goes on with the replicas there are, even if too few of them are alive to know all
}

// String names the operation as refusals do.
func (o *Operation) String() string {
	if o.Kind == Replication {
		return fmt.Sprintf("operation %d (%s of keyspace %s)", o.ID, o.Kind, o.Keyspace)
	}
	return fmt.Sprintf("operation %d (%s of %s)", o.ID, o.Kind, o.Node)
}

// Phase returns how far the movement has come.
func (s *State) Phase() Phase {
	switch {
	case len(s.Operations) == 0:
		return None
	case s.SwitchedAt == 0:
		return Filling
	}
	return Switched
}

// Operation returns the operation with that id; nil when it is not under way.
func (s *State) Operation(id uint64) *Operation {
	i := slices.IndexFunc(s.Operations, func(o Operation) bool { return o.ID == id })
	if i < 0 {
		return nil
	}
	return &s.Operations[i]
}

// OperationOn returns the operation that says something of the node: one of its own, or the one by which another node takes its
// place; nil when there is none.
func (s *State) OperationOn(id ring.HostID) *Operation {
	for i := range s.Operations {
		o := &s.Operations[i]
		if o.Kind == Replication {
			continue
		}
		if n := s.Node(o.Node); o.Node == id || o.Kind == Replace && n != nil && n.Replaces == id {
			return o
		}
	}
	return nil
}

// replication returns the operation that moves the keyspace; nil when there is none.
func (s *State) replication(keyspace string) *Operation {
	i := slices.IndexFunc(s.Operations, func(o Operation) bool { return o.Kind == Replication && o.Keyspace == keyspace })
	if i < 0 {
		return nil
	}
	return &s.Operations[i]
}

// Forced tells that the movement goes on where too few replicas are alive, because an operation says so.
func (s *State) Forced() bool {
	return slices.ContainsFunc(s.Operations, func(o Operation) bool { return o.Forced })
}

// Owns tells whether the node is in the ring that is read.
func (s *State) Owns(id ring.HostID) bool {
	_, ok := s.Ring.Node(id)
	return ok
}

// Placement returns which nodes are read for which token of the keyspace: B, and A once switched; nil for keyspaces that
// every node has for itself and for unknown ones. Its ring is State.Ring. The result is computed once per State.
func (s *State) Placement(keyspace string) *ring.Placement {
	if s.Phase() == Switched {
		return s.After(keyspace)
	}
	return s.Before(keyspace)
}

// OtherPlacement returns the replicas that are written too: A, and B once switched; nil when nothing moves in the keyspace. Its
// ring is State.Other. Writes go to the replicas of both.
func (s *State) OtherPlacement(keyspace string) *ring.Placement {
	if s.Other == nil || s.before == s.after && s.replication(keyspace) == nil {
		return nil
	}
	if s.Phase() == Switched {
		return s.Before(keyspace)
	}
	return s.After(keyspace)
}

// Before is B: the placement before the movement, by which nodes that gain ranges find their sources. After is A. They are
// equal when nothing moves; nil as Placement.
func (s *State) Before(keyspace string) *ring.Placement {
	return s.placement(s.befores, s.before, keyspace, s.strategyBefore)
}

// After is A: see Before.
func (s *State) After(keyspace string) *ring.Placement {
	return s.placement(s.afters, s.after, keyspace, s.strategyAfter)
}

// strategyBefore returns how the keyspace is placed before the movement; ok false when no ring places it.
func (s *State) strategyBefore(keyspace string) (strategy ring.Strategy, ok bool) {
	if o := s.replication(keyspace); o != nil {
		return o.Held, true
	}
	return s.strategyAfter(keyspace)
}

func (s *State) strategyAfter(keyspace string) (strategy ring.Strategy, ok bool) {
	ks, ok := s.Catalog.Keyspace(keyspace)
	if !ok || ks.Local || ks.Virtual {
		return ring.Strategy{}, false
	}
	return ks.Strategy, true
}

func (s *State) placement(cache map[string]*ring.Placement, r *ring.Ring, keyspace string, strategy func(string) (ring.Strategy, bool)) *ring.Placement {
	st, ok := strategy(keyspace)
	if !ok {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	p, ok := cache[keyspace]
	if !ok {
		p = r.Placement(st)
		cache[keyspace] = p
	}
	return p
}

// Moves returns the ranges of the keyspace whose replicas differ between B and A; nil when nothing moves. Shared: do not
// change it. The result is computed once per State.
func (s *State) Moves(keyspace string) []ring.Movement {
	other := s.OtherPlacement(keyspace)
	if other == nil || s.Phase() == None {
		return nil
	}
	before, after := s.Before(keyspace), s.After(keyspace)
	key := before.Strategy().String() + " " + after.Strategy().String()
	s.mu.Lock()
	defer s.mu.Unlock()
	moves, ok := s.moves[key]
	if !ok {
		moves = ring.Diff(before, after)
		s.moves[key] = moves
	}
	return moves
}

// MovesAt tells whether the replicas of a token of the keyspace are others before the movement than after it.
func (s *State) MovesAt(keyspace string, token ring.Token) bool {
	if s.OtherPlacement(keyspace) == nil {
		return false
	}
	before, after := s.Before(keyspace), s.After(keyspace)
	b, a := before.Replicas(token), after.Replicas(token)
	return len(b) != len(a) || slices.ContainsFunc(b, func(i int32) bool {
		id := before.Ring().Nodes()[i].ID
		return !slices.ContainsFunc(a, func(j int32) bool { return after.Ring().Nodes()[j].ID == id })
	})
}

// Fills returns the ranges of the keyspace that the node has to fill before reads may move, in ring order: those it gains, and
// those it keeps where so few replicas are left that a quorum of them may lack what a quorum of B has. nil when it has none.
func (s *State) Fills(keyspace string, id ring.HostID) []ring.Movement {
	var out []ring.Movement
	for _, m := range s.Moves(keyspace) {
		if slices.Contains(m.Gains, id) || slices.Contains(m.After, id) && s.wanting(&m) {
			out = append(out, m)
		}
	}
	return out
}

// wanting tells whether those that keep the range fill too (ring.Fill), for all replicas or for those of a data centre, where
// LOCAL_QUORUM is to hold.
func (s *State) wanting(m *ring.Movement) bool {
	if planted.On(planted.KeptNotCompared) {
		return false
	}
	if s.fewer(m.Before, m.After, "") {
		return true
	}
	var dcs []string
	for _, id := range m.After {
		if dc := s.Node(id).DC; !slices.Contains(dcs, dc) {
			dcs = append(dcs, dc)
		}
	}
	return slices.ContainsFunc(dcs, func(dc string) bool { return s.fewer(m.Before, m.After, dc) })
}

// fewer is wanting for the replicas of one data centre; of all when dc is empty. Where it had no replicas there is none to ask.
func (s *State) fewer(before, after []ring.HostID, dc string) bool {
	a, b, kept := 0, 0, 0
	for _, id := range before {
		if dc == "" || s.Node(id).DC == dc {
			b++
		}
	}
	for _, id := range after {
		if dc == "" || s.Node(id).DC == dc {
			a++
			if slices.Contains(before, id) {
				kept++
			}
		}
	}
	_, keepersToo := ring.Fill(b, a, kept)
	return b > 0 && keepersToo
}

func quorum(n int) int { return ring.Quorum(n) }

// Reporters returns the nodes, ascending, that have to report the plan before reads may move: those that fill ranges, and those that
// join, move or are decommissioned in any case. nil when nothing is filled.
func (s *State) Reporters() []ring.HostID {
	if s.Phase() != Filling {
		return nil
	}
	reporters := s.fillers()
	for _, o := range s.Operations {
		if o.Kind != Replication && o.Kind != Remove {
			reporters[o.Node] = true
		}
	}
	return s.ascending(reporters)
}

// fillers returns the nodes that have ranges to fill.
func (s *State) fillers() map[ring.HostID]bool {
	fillers := map[ring.HostID]bool{}
	for _, ks := range s.Catalog.Keyspaces() {
		for _, m := range s.Moves(ks.Name) {
			fill := m.Gains
			if s.wanting(&m) {
				fill = m.After
			}
			for _, id := range fill {
				fillers[id] = true
			}
		}
	}
	return fillers
}

func (s *State) ascending(set map[ring.HostID]bool) (out []ring.HostID) {
	for i := range s.Nodes {
		if id := s.Nodes[i].ID; set[id] {
			out = append(out, id)
		}
	}
	return out
}

// Uncompared returns the nodes that filled ranges, ascending, and have not reported that they have compared them once more since the switch was
// heard of; nil unless switched. Who began before could have read, and shown, a write of a quorum of B that was never acknowledged.
func (s *State) Uncompared() []ring.HostID {
	if s.Phase() != Switched {
		return nil
	}
	return slices.DeleteFunc(s.ascending(s.fillers()), func(id ring.HostID) bool {
		n := s.Node(id)
		return n.State == Left || n.Filled == s.SwitchedAt
	})
}

// Unfilled returns those of the Reporters that have not reported the present plan, ascending.
func (s *State) Unfilled() []ring.HostID {
	return slices.DeleteFunc(s.Reporters(), func(id ring.HostID) bool { return s.Node(id).Filled == s.Plan })
}

// Acknowledgements returns how many of the union of B and A have to take a write or a ballot at QUORUM, in either phase: so many that a
// quorum of B and one of A have it whichever are missing. u is the size of the union.
func Acknowledgements(b, a, u int) int { return u - max(0, min(b-quorum(b), a-quorum(a))) }

// Sources returns how many of b replicas together know every write that was acknowledged at QUORUM: b - Q(b) + 1.
func Sources(b int) int { return b - quorum(b) + 1 }

// Unheard returns the members, ascending, that have not reported that they have applied the switch; nil unless switched.
func (s *State) Unheard() []ring.HostID {
	if s.Phase() != Switched {
		return nil
	}
	var out []ring.HostID
	for i := range s.Nodes {
		if n := &s.Nodes[i]; n.State != Left && n.Switched != s.SwitchedAt {
			out = append(out, n.ID)
		}
	}
	return out
}

// Stale returns a keyspace, none of the system's, and a range that B loses, of which so few replicas in B have reported the switch that the others could make up
// a quorum of B for somebody who has not heard of it; ok false when there is none.
func (s *State) Stale() (keyspace string, r ring.Range, ok bool) {
	for _, ks := range s.Catalog.Keyspaces() {
		for _, m := range s.Moves(ks.Name) {
			if !schema.IsSystemKeyspace(ks.Name) && len(m.Losses) > 0 && s.heard(m.Before) < Sources(len(m.Before)) {
				return ks.Name, m.Range, true
			}
		}
	}
	return "", ring.Range{}, false
}

func (s *State) heard(ids []ring.HostID) (n int) {
	for _, id := range ids {
		if m := s.Node(id); m != nil && m.Switched == s.SwitchedAt {
			n++
		}
	}
	return n
}

// Advance returns the command by which the movement goes on without anybody's doing: the switch when every reporter has reported, the
// end when every member has that is not dead, and everyone who filled ranges has compared them once more; nil while there is something to wait for. The leader of the log proposes it.
func (s *State) Advance(dead func(ring.HostID) bool) *Command {
	switch s.Phase() {
	case Filling:
		if len(s.Unfilled()) == 0 {
			return &Command{Kind: Switch, Plan: s.Plan}
		}
	case Switched:
		if planted.On(planted.FinishedUnheard) {
			return &Command{Kind: Finish, Plan: s.SwitchedAt}
		}
		for _, id := range append(s.Unheard(), s.Uncompared()...) {
			if !dead(id) {
				return nil
			}
		}
		if _, _, stale := s.Stale(); !stale || s.Forced() {
			return &Command{Kind: Finish, Plan: s.SwitchedAt}
		}
	}
	return nil
}

// derive computes the rings and keeps of prev what stays right: nil, or the state before.
func (s *State) derive(prev *State) error {
	p, ok := ring.PartitionerByName(s.Partitioner)
	if !ok {
		return fmt.Errorf("meta: partitioner %q is unknown", s.Partitioner)
	}
	before, after, differ := s.members()
	var err error
	if s.before, err = ringOf(prev, before, p); err != nil {
		return err
	}
	if s.after = s.before; differ {
		if s.after, err = ringOf(prev, after, p); err != nil {
			return err
		}
	}
	s.Ring, s.Other = s.before, nil
	if s.Phase() == Switched {
		s.Ring, s.Other = s.after, s.before
	} else if differ || s.Phase() == Filling {
		s.Other = s.after
	}
	s.befores, s.afters, s.moves = map[string]*ring.Placement{}, map[string]*ring.Placement{}, map[string][]ring.Movement{}
	if prev != nil {
		s.inherit(prev)
	}
	return nil
}

// members returns the nodes of the rings of B and of A.
func (s *State) members() (before, after []ring.Node, differ bool) {
	s.quiet = false
	replaced := map[ring.HostID]bool{}
	for i := range s.Nodes {
		n := &s.Nodes[i]
		if n.State == Pending && !n.Replaces.IsZero() {
			replaced[n.Replaces] = true
		}
		s.quiet = s.quiet || n.State == Pending && n.Quiet
	}
	for i := range s.Nodes {
		n := &s.Nodes[i]
		then, now := ring.Node{ID: n.ID, DC: n.DC, Rack: n.Rack, Tokens: n.Tokens}, ring.Node{ID: n.ID, DC: n.DC, Rack: n.Rack, Tokens: n.Tokens}
		if len(n.Next) > 0 {
			now.Tokens, differ = n.Next, true
		}
		inB, inA := n.owns(), n.State == Pending || n.State == Normal && !replaced[n.ID]
		if inB {
			before = append(before, then)
		}
		if inA {
			after = append(after, now)
		}
		differ = differ || inA != inB
	}
	return before, after, differ
}

// ringOf returns the ring of the nodes, that of prev when it is the same.
func ringOf(prev *State, nodes []ring.Node, p ring.Partitioner) (*ring.Ring, error) {
	if prev != nil {
		for _, r := range []*ring.Ring{prev.before, prev.after} {
			if r.Partitioner().Name() == p.Name() && sameRing(r, nodes) {
				return r, nil
			}
		}
	}
	r, err := ring.New(nodes, p)
	if err != nil {
		return nil, fmt.Errorf("meta: %w", err)
	}
	return r, nil
}

func sameRing(r *ring.Ring, nodes []ring.Node) bool {
	return slices.EqualFunc(r.Nodes(), nodes, func(a, b ring.Node) bool {
		return a.ID == b.ID && a.DC == b.DC && a.Rack == b.Rack && slices.Equal(a.Tokens, b.Tokens)
	})
}

// inherit takes over the placements of prev that are right here too.
func (s *State) inherit(prev *State) {
	prev.mu.Lock()
	defer prev.mu.Unlock()
	keep := func(name string, p *ring.Placement) {
		if st, ok := s.strategyBefore(name); ok && p.Ring() == s.before && p.Strategy().Equal(st) {
			s.befores[name] = p
		}
		if st, ok := s.strategyAfter(name); ok && p.Ring() == s.after && p.Strategy().Equal(st) {
			s.afters[name] = p
		}
	}
	for name, p := range prev.befores {
		keep(name, p)
	}
	for name, p := range prev.afters {
		keep(name, p)
	}
	if s.before == prev.before && s.after == prev.after {
		for key, m := range prev.moves {
			s.moves[key] = m
		}
	}
}

// moved tells whether B, A or the phase differ from those of prev.
func (s *State) moved(prev *State) bool {
	if s.before != prev.before || s.after != prev.after || s.Phase() != prev.Phase() || prev.ClusterVersion < VersionMovement {
		return true
	}
	for _, ks := range s.Catalog.Keyspaces() {
		if old, ok := prev.Catalog.Keyspace(ks.Name); !ok || old.Local != ks.Local || old.Virtual != ks.Virtual {
			continue
		}
		then, _ := prev.strategyBefore(ks.Name)
		now, _ := s.strategyBefore(ks.Name)
		was, _ := prev.strategyAfter(ks.Name)
		will, _ := s.strategyAfter(ks.Name)
		if !then.Equal(now) || !was.Equal(will) {
			return true
		}
	}
	return false
}
