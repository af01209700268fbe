package node

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/helenusdb/helenus/admin"
	"github.com/helenusdb/helenus/meta"
	"github.com/helenusdb/helenus/repair/movement"
	"github.com/helenusdb/helenus/ring"
)

// Operations is what /api/v1/operations says: the movement of ranges as this node sees it.
type Operations struct {
	Phase      string            `json:"phase"` // none, filling, switched
	Plan       uint64            `json:"plan,omitempty"`
	Operations []OperationStatus `json:"operations"`
	// WaitsFor are the nodes that have not reported yet: that they have their rows while filling; once switched that they have heard, and then
	// that they have compared once more.
	WaitsFor []WaitStatus `json:"waits_for,omitempty"`
	// Stale is why the movement cannot end although reads have moved, unless those that it waits for come back or an operation is forced.
	Stale string `json:"stale,omitempty"`
	// Keeps are the nodes that keep rows of ranges which they lost in a movement that was forced, until they are told to clean up.
	Keeps []string `json:"keeps,omitempty"`
	// Force is the operation to force (helenus force ID) to go on without the replicas that are down and waited for; 0: none has to be.
	Force uint64 `json:"force,omitempty"`
	// Here is how far this node has come with its own ranges; nil when it fills none.
	Here *FillStatus `json:"here,omitempty"`
	// Nodes are those that have to report, by address, with how far each has come; only where the others were asked (progress.go).
	Nodes []NodeProgress `json:"nodes,omitempty"`
	// Started are the operations that the request has begun.
	Started []OperationStatus `json:"started,omitempty"`
	// Outcomes says of each operation that was asked about how it stands: OutcomeUnderWay, OutcomeDone or OutcomeAborted.
	Outcomes []string `json:"outcomes,omitempty"`
}

// OperationStatus is one operation under way.
type OperationStatus struct {
	ID       uint64 `json:"id"`
	Kind     string `json:"kind"`
	HostID   string `json:"host_id,omitempty"`
	Address  string `json:"address,omitempty"`
	Replaces string `json:"replaces,omitempty"`
	Keyspace string `json:"keyspace,omitempty"`
	Forced   bool   `json:"forced,omitempty"`
	// Tokens are those that a node moves to; Held is the replication that a keyspace had before.
	Tokens []ring.Token `json:"tokens,omitempty"`
	Held   string       `json:"held,omitempty"`
}

// WaitStatus is a node that others wait for.
type WaitStatus struct {
	HostID  string `json:"host_id"`
	Address string `json:"address"`
	Up      bool   `json:"up"`
	// For is what it waits for in its turn, as far as the state and who is alive tell; empty: it is at work.
	For string `json:"for,omitempty"`
}

// FillStatus is how far a node has come.
type FillStatus struct {
	RangesDone  int    `json:"ranges_done"`
	RangesTotal int    `json:"ranges_total"`
	Bytes       int64  `json:"bytes"`
	Waits       string `json:"waits,omitempty"`
	Failed      string `json:"failed,omitempty"`
}

// Operations describes the movement of ranges as this node sees it now.
func (n *Node) Operations() Operations {
	s := n.log.Current()
	out := Operations{Phase: s.Phase().String(), Plan: s.Plan, Operations: []OperationStatus{}}
	for _, o := range s.Operations {
		out.Operations = append(out.Operations, operationStatus(s, &o))
	}
	for i := range s.Nodes {
		if s.Nodes[i].Keeps {
			out.Keeps = append(out.Keeps, s.Nodes[i].Internode.Addr().String())
		}
	}
	open := append(s.Unfilled(), s.Unheard()...)
	if len(open) == 0 {
		open = s.Uncompared()
	}
	for _, id := range open {
		out.WaitsFor = append(out.WaitsFor, waits(s, id, n.alive))
	}
	if ks, r, stale := s.Stale(); stale && !s.Forced() && s.Phase() == meta.Switched && !slices.ContainsFunc(s.Unheard(), n.alive) {
		out.Stale = fmt.Sprintf("range %s of keyspace %s: too few of the replicas that give it up have heard", r, ks)
	}
	if out.Stale != "" || slices.ContainsFunc(out.WaitsFor, func(w WaitStatus) bool { return w.For != "" }) {
		out.Force = s.Operations[0].ID
	}
	out.Here = n.fillStatus()
	return out
}

func operationStatus(s *meta.State, o *meta.Operation) OperationStatus {
	st := OperationStatus{ID: o.ID, Kind: o.Kind.String(), Keyspace: o.Keyspace, Forced: o.Forced}
	if o.Kind == meta.Replication {
		st.Held = o.Held.String()
	}
	if m := s.Node(o.Node); m != nil {
		st.HostID, st.Address, st.Tokens = m.ID.String(), m.Internode.Addr().String(), m.Next
		if !m.Replaces.IsZero() {
			st.Replaces = m.Replaces.String()
		}
	}
	return st
}

// waits says who a node that has not reported is, and whom it waits for in its turn.
func waits(s *meta.State, id ring.HostID, alive func(ring.HostID) bool) WaitStatus {
	w := WaitStatus{HostID: id.String(), Address: s.Node(id).Internode.Addr().String(), Up: alive(id)}
	if !w.Up || s.Phase() != meta.Filling {
		return w
	}
	if _, few := movement.Pending(movement.Records{}, s, id, alive); len(few) > 0 {
		w.For = few[0].Error()
	}
	return w
}

// OperationRequest asks for a decommission, a removal or a move.
type OperationRequest struct {
	Kind   string // decommission, remove, move
	Host   string // host id or address; empty: this node
	Tokens []ring.Token
	Force  bool
}

// errNoMovement is said where nothing brings rows.
var errNoMovement = errors.New("ranges cannot move: this build has nothing that brings rows to a node, or a member runs an older build")

// StartOperations begins what is asked for, all of it or nothing: everything is checked before the first begins, and if one is refused later after all, those
// before it are aborted. It returns what has begun. Errors: *meta.Refused with the reason, or the log's.
func (n *Node) StartOperations(ctx context.Context, qs []OperationRequest) (begun []OperationStatus, err error) {
	if !n.moves() {
		return nil, errNoMovement
	}
	for i := range qs {
		var c *meta.Command
		s, err := n.log.Propose(ctx, func(s *meta.State) (_ *meta.Command, _ bool, err error) {
			c, err = n.operationCommands(s, qs[i:])
			return c, err == nil, err
		})
		if err != nil {
			return nil, errors.Join(err, n.undo(ctx, begun))
		}
		n.o.Logger.Info("operation begins", "kind", qs[i].Kind, "node", c.Node.ID.String(), "force", qs[i].Force, "plan", s.Plan)
		if o := s.OperationOn(c.Node.ID); o != nil { // else it is over already
			begun = append(begun, operationStatus(s, o))
		}
	}
	return begun, nil
}

// undo aborts what has begun beside what was refused.
func (n *Node) undo(ctx context.Context, begun []OperationStatus) error {
	var errs []error
	for _, o := range slices.Backward(begun) {
		if err := n.AbortOperation(ctx, o.ID); err != nil {
			errs = append(errs, fmt.Errorf("the %s of %s has begun and goes on: %w", o.Kind, o.Address, err))
		}
	}
	return errors.Join(errs...)
}

// operationCommands returns the command of the first request, provided that all of them can be made, one after another, in the state.
func (n *Node) operationCommands(s *meta.State, qs []OperationRequest) (first *meta.Command, err error) {
	for i, q := range qs {
		c, err := n.operationCommand(s, q)
		if err == nil && first == nil {
			if first = c; s.Frozen(c) { // whether it can be made shows when what is being completed has ended
				return c, nil
			}
		}
		if err == nil {
			var next *meta.State
			if next, err = s.Apply(c); err == nil {
				s = next
				continue
			}
		}
		if len(qs) > 1 || i > 0 {
			err = &meta.Refused{Reason: fmt.Sprintf("nothing has begun: %s: %s", q.Host, reason(err))}
		}
		return nil, err
	}
	return first, nil
}

// reason is the text of an error, without that it is a refusal.
func reason(err error) string {
	var r *meta.Refused
	if errors.As(err, &r) {
		return r.Reason
	}
	return err.Error()
}

func (n *Node) operationCommand(s *meta.State, q OperationRequest) (*meta.Command, error) {
	kinds := map[string]meta.OperationKind{meta.Decommission.String(): meta.Decommission, meta.Remove.String(): meta.Remove, meta.Move.String(): meta.Move}
	kind, ok := kinds[q.Kind]
	if !ok {
		return nil, fmt.Errorf("operation %q is none that begins like this: decommission, remove or move", q.Kind)
	}
	id := n.home.HostID
	if q.Host != "" {
		var err error
		if id, err = find(s, q.Host, ring.HostID{}); err != nil {
			return nil, err
		}
	}
	if err := fits(kind, id, n.alive(id)); err != nil {
		return nil, err
	}
	if m := s.Node(id); kind == meta.Move && !q.Force && len(q.Tokens) != len(m.Tokens) {
		return nil, &meta.Refused{Reason: fmt.Sprintf("host id %s has %d tokens, and those that are named take the place of all of them: name as many, not %d", id, len(m.Tokens), len(q.Tokens))}
	}
	return &meta.Command{Kind: meta.StartOperation, OperationKind: kind, Node: meta.Node{ID: id, Next: q.Tokens}, Force: q.Force}, nil
}

// fits tells whether liveness is in the operation's way.
func fits(kind meta.OperationKind, id ring.HostID, alive bool) error {
	switch {
	case kind == meta.Remove && alive:
		return &meta.Refused{Reason: fmt.Sprintf("host id %s is alive: decommission it, or stop it first", id)}
	case kind != meta.Remove && !alive:
		return &meta.Refused{Reason: fmt.Sprintf("host id %s is down: start it, or remove it (helenus removenode)", id)}
	}
	return nil
}

// madeUpFor says why what has begun in the state would wait for replicas that are down: raftlog.AutoRemove.Fits.
func (n *Node) madeUpFor(begun *meta.State) error {
	if !n.moves() {
		return errNoMovement
	}
	for _, l := range movement.Losses(begun, n.alive) {
		return fmt.Errorf("keyspace %s has %d ranges with too few replicas up to know every write: remove it by hand, and say what is given up (helenus removenode, helenus force)", l.Keyspace, l.Ranges)
	}
	return nil
}

// AbortOperation ends an operation before its switch.
func (n *Node) AbortOperation(ctx context.Context, id uint64) error {
	_, err := n.log.Propose(ctx, func(*meta.State) (*meta.Command, bool, error) {
		return &meta.Command{Kind: meta.AbortOperation, Operation: id}, true, nil
	})
	if err == nil {
		n.o.Logger.Warn("operation aborted", "id", id)
	}
	return err
}

// ForceOperation lets an operation go on with the replicas that are alive, also once reads have moved.
func (n *Node) ForceOperation(ctx context.Context, id uint64) error {
	_, err := n.log.Propose(ctx, func(*meta.State) (*meta.Command, bool, error) {
		return &meta.Command{Kind: meta.ForceOperation, Operation: id}, true, nil
	})
	if err == nil {
		n.o.Logger.Warn("operation forced: it goes on although too few replicas are alive to know every write", "id", id)
	}
	return err
}

// RebalanceStatus is what a rebalance would do, or has begun to do.
type RebalanceStatus struct {
	Before float64            `json:"before"` // greatest share of the ring by the smallest
	After  float64            `json:"after"`
	Moved  float64            `json:"moved"` // share of all replicas' data that moves, [0, 1]
	Moves  []RebalancedTokens `json:"moves"`
	// Started are the operations that the request has begun.
	Started []OperationStatus `json:"started,omitempty"`
}

// RebalancedTokens are the tokens that a node moves to.
type RebalancedTokens struct {
	HostID  string       `json:"host_id"`
	Address string       `json:"address"`
	Tokens  []ring.Token `json:"tokens"`
}

// Rebalance says what makes ownership even, and begins it unless dry.
func (n *Node) Rebalance(ctx context.Context, dry bool) (RebalanceStatus, error) {
	s := n.log.Current()
	if s.Phase() != meta.None {
		return RebalanceStatus{}, &meta.Refused{Reason: "a movement is under way: it can be rebalanced when that has ended"}
	}
	r := movement.Rebalance(s)
	out := RebalanceStatus{Before: r.Before, After: r.After, Moved: r.Moved, Moves: []RebalancedTokens{}}
	for _, m := range r.Moves {
		out.Moves = append(out.Moves, RebalancedTokens{m.Node.String(), s.Node(m.Node).Internode.Addr().String(), m.Tokens})
	}
	if dry {
		return out, nil
	}
	var qs []OperationRequest
	for _, m := range r.Moves {
		qs = append(qs, OperationRequest{Kind: meta.Move.String(), Host: m.Node.String(), Tokens: m.Tokens})
	}
	var err error
	out.Started, err = n.StartOperations(ctx, qs)
	return out, err
}

// operationTime bounds a request of an operator; what it begins goes on without it.
const operationTime = 20 * time.Second

func (n *Node) operationEndpoints() []admin.Endpoint {
	return []admin.Endpoint{
		ordered("GET", "operations", n.watchOperations),
		ordered("POST", "operations", func(ctx context.Context, args url.Values) (any, error) {
			qs, err := operationRequests(args)
			if err != nil {
				return nil, err
			}
			begun, err := n.StartOperations(ctx, qs)
			out := n.Operations()
			out.Started = begun
			return out, err
		}),
		ordered("DELETE", "operations", n.operationByID(n.AbortOperation)),
		ordered("GET", "operations/force", n.forcePreview),
		ordered("POST", "operations/force", n.operationByID(n.ForceOperation)),
		n.cleanupEndpoint(),
		ordered("GET", "rebalance", func(ctx context.Context, _ url.Values) (any, error) { return n.Rebalance(ctx, true) }),
		ordered("POST", "rebalance", func(ctx context.Context, _ url.Values) (any, error) { return n.Rebalance(ctx, false) }),
	}
}

// operationByID does something to the operation that a query names.
func (n *Node) operationByID(do func(ctx context.Context, id uint64) error) func(context.Context, url.Values) (any, error) {
	return func(ctx context.Context, args url.Values) (any, error) {
		id, err := operationID(args)
		if err != nil {
			return nil, err
		}
		err = do(ctx, id)
		return n.Operations(), err
	}
}

func operationID(args url.Values) (uint64, error) {
	id, err := strconv.ParseUint(args.Get("id"), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%q is no operation: helenus operations lists them", args.Get("id"))
	}
	return id, nil
}

// ordered is an endpoint that ends in time, and whose errors say what is wrong with what was asked for.
func ordered(method, path string, do func(context.Context, url.Values) (any, error)) admin.Endpoint {
	return admin.Endpoint{Method: method, Path: path, Do: func(ctx context.Context, args url.Values) (any, error) {
		ctx, cancel := context.WithTimeout(ctx, operationTime)
		defer cancel()
		v, err := do(ctx, args)
		if err != nil {
			return nil, bad("%s", strings.TrimPrefix(err.Error(), "meta: refused: "))
		}
		return v, nil
	}}
}

// operationRequests takes requests from a query: kind, host (once for each node; none: this one), token (once for each), force=true.
func operationRequests(args url.Values) (qs []OperationRequest, err error) {
	q := OperationRequest{Kind: args.Get("kind"), Force: args.Get("force") == "true"}
	for _, a := range args["token"] {
		t, err := strconv.ParseInt(a, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("%q is no token", a)
		}
		q.Tokens = append(q.Tokens, ring.Token(t))
	}
	hosts := args["host"]
	if len(hosts) == 0 {
		hosts = []string{""}
	}
	if len(hosts) > hostsMax {
		return nil, fmt.Errorf("%d nodes are named, at most %d can be in one command", len(hosts), hostsMax)
	}
	for _, q.Host = range hosts {
		qs = append(qs, q)
	}
	return qs, nil
}

// hostsMax is how many nodes one request may name: what may be under way at a time.
const hostsMax = meta.OperationsMax
