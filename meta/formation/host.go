package formation

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/helenusdb/helenus/meta"
	"github.com/helenusdb/helenus/ring"
	"github.com/helenusdb/helenus/rpc"
)

// Verbs of joining; bodies are drawn in docs/format/meta.md.
const (
	VerbJoin    rpc.Verb = 8 // an AddPending command; answer: the state with the node in it, or StatusRefused and a reason
	VerbAnyRows rpc.Verb = 9 // an epoch that must be applied first; answer: one byte, 1 when a user table holds a row
)

// StatusRefused answers VerbJoin: asking again does not help. The body is the reason.
const StatusRefused = rpc.StatusUser

const (
	joinTimeout   = 20 * time.Second // of the work on one join; the leader forgets a joining node some time after that
	forgetTimeout = 5 * time.Second
	rowsTimeout   = 5 * time.Second
	joinsMax      = 4  // joins that one member handles at a time
	rowsMax       = 64 // questions about rows that one member handles at a time
)

// Log is what joining needs of the metadata log; *raftlog.Service is one.
type Log interface {
	Current() *meta.State
	// Pledged returns the cluster that this node belongs to or has asked to join.
	Pledged() [16]byte
	Propose(ctx context.Context, build func(*meta.State) (*meta.Command, bool, error)) (*meta.State, error)
	AwaitApplied(ctx context.Context, epoch uint64) error
	AwaitAll(ctx context.Context, epoch uint64, members []ring.HostID) []ring.HostID
}

// HostOptions configure a Host.
type HostOptions struct {
	Self      meta.Node
	FirstSeed netip.AddrPort
	Name      string // configured cluster name, for answers while the node is empty
	Log       Log
	Call      func(ctx context.Context, to ring.HostID, class rpc.Class, verb rpc.Verb, body []byte) ([]byte, rpc.Status, error)
	// AnyRows tells whether a user table holds a row here. While the current state is quiet
	// (meta.State.Quiet), user tables take no writes, and AnyRows answers after every write that was let in before is
	// visible to it.
	AnyRows func(context.Context) (bool, error)
	// Moves tells that rows can be brought to a node that joins: then it may join a cluster with rows, by an operation
	// (meta.State.Operations). nil: they cannot.
	Moves func() bool
	// Alive says whether a member can be reached, as far as is known: such a one is not replaced. nil: none is.
	Alive  func(ring.HostID) bool
	Seed   func() uint64 // for token allocation
	Logger *slog.Logger  // nil: discard
}

// Host answers probes and lets nodes join. Its methods are safe for concurrent use.
type Host struct {
	o     HostOptions
	joins chan struct{} // a place for each request under way
	rows  chan struct{} // apart from joins, which wait for the answers of others' rows
}

// NewHost returns a Host; it starts nothing.
func NewHost(o HostOptions) *Host {
	if o.Moves == nil {
		o.Moves = func() bool { return false }
	}
	if o.Alive == nil {
		o.Alive = func(ring.HostID) bool { return false }
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return &Host{o: o, joins: make(chan struct{}, joinsMax), rows: make(chan struct{}, rowsMax)}
}

// OnProbe answers a probe with this node's Hello.
func (h *Host) OnProbe(net.Addr, []byte) []byte {
	hello := Hello{Host: h.o.Self.ID, Internode: h.o.Self.Internode, FirstSeed: h.o.FirstSeed, ClusterName: h.o.Name, Generation: h.o.Self.Generation}
	s := h.o.Log.Current()
	if hello.ClusterID = h.o.Log.Pledged(); hello.ClusterID != [16]byte{} {
		hello.Stage = Joining
	}
	if s.Founded() {
		hello.Stage, hello.ClusterID, hello.ClusterName = Joining, s.ClusterID, s.ClusterName
		if owns(s.Node(h.o.Self.ID)) {
			hello.Stage = Member
		}
	}
	return hello.Append(nil)
}

func owns(n *meta.Node) bool {
	return n != nil && (n.State == meta.Normal || n.State == meta.Leaving)
}

// Session answers the verbs of joining on one connection. Joins take long, so each has a goroutine, at most joinsMax;
// Close waits for none of them: they end with ctx.
type Session struct {
	h   *Host
	ctx context.Context //nolint:containedctx // lifetime of the node: bounds the goroutines that a request starts
	run func(func())
}

// NewSession is for rpc's accepted connections. run starts a goroutine that its owner waits for; ctx ends with the
// node.
func (h *Host) NewSession(ctx context.Context, run func(func())) *Session {
	return &Session{h, ctx, run}
}

// Handle answers one request; see rpc.Session.
func (s *Session) Handle(req *rpc.Request, rsp rpc.Responder) {
	body := append([]byte(nil), req.Body...)
	switch req.Verb {
	case VerbJoin:
		from := req.From
		s.start(s.h.joins, rsp, func() (rpc.Status, []byte) { return s.h.join(s.ctx, from, body) })
	case VerbAnyRows:
		s.start(s.h.rows, rsp, func() (rpc.Status, []byte) { return s.h.anyRows(s.ctx, body) })
	default:
		rsp.Reply(rpc.StatusUnknownVerb, nil)
	}
}

func (s *Session) start(slots chan struct{}, rsp rpc.Responder, handle func() (rpc.Status, []byte)) {
	select {
	case slots <- struct{}{}:
	default:
		rsp.Reply(rpc.StatusOverloaded, nil)
		return
	}
	s.run(func() {
		defer func() { <-slots }()
		status, out := handle()
		rsp.Reply(status, out)
	})
}

// Flush does nothing.
func (s *Session) Flush() {}

// Close does nothing: requests under way end with the node's context.
func (s *Session) Close() {}

func (h *Host) anyRows(ctx context.Context, body []byte) (rpc.Status, []byte) {
	if len(body) != 8 {
		return rpc.StatusBadRequest, nil
	}
	ctx, cancel := context.WithTimeout(ctx, rowsTimeout)
	defer cancel()
	held, err := h.rowsHere(ctx, binary.BigEndian.Uint64(body))
	switch {
	case err != nil:
		return rpc.StatusFailed, []byte(err.Error())
	case held:
		return rpc.StatusOK, []byte{1}
	}
	return rpc.StatusOK, []byte{0}
}

func (h *Host) rowsHere(ctx context.Context, epoch uint64) (bool, error) {
	if err := h.o.Log.AwaitApplied(ctx, epoch); err != nil {
		return false, err
	}
	return h.o.AnyRows(ctx)
}

func (h *Host) join(ctx context.Context, from ring.HostID, body []byte) (rpc.Status, []byte) {
	c, err := meta.DecodeCommand(body)
	if err != nil || c.Kind != meta.AddPending || c.Node.ID != from {
		return rpc.StatusBadRequest, nil
	}
	work, cancel := context.WithTimeout(ctx, joinTimeout)
	defer cancel()
	state, since, err := h.admit(work, c)
	if err != nil && since != 0 {
		h.forget(ctx, from, since)
	}
	var refused *meta.Refused
	var no *Refused
	switch {
	case errors.As(err, &no):
		return StatusRefused, []byte(no.Reason)
	case errors.As(err, &refused):
		return StatusRefused, []byte(refused.Reason)
	case err != nil:
		return rpc.StatusFailed, []byte(err.Error())
	}
	return rpc.StatusOK, state.Encode()
}

// admit makes the asking node a member, or says why not; since is not 0 when it has been announced for it. Every step can
// be repeated: a node that asks again after a crash, its own or this member's, continues or begins again.
//
// The ring changes only while no user table holds a row. To know that, the node is announced first: from that epoch on
// members take no writes to user tables until it has joined or is forgotten, whatever the coordinator knows and wherever
// a write was delayed. So what a member says after it has applied that epoch stays true until then. It survives a restart
// of any of them, because it is a function of the state alone. Members are asked once before, so that an attempt to join
// a cluster with rows costs nobody a write.
func (h *Host) admit(ctx context.Context, c *meta.Command) (_ *meta.State, since uint64, err error) {
	n := &c.Node
	s := h.o.Log.Current()
	if m := s.Node(n.ID); m != nil && m.State == meta.Pending && n.Replaces.IsZero() {
		n.Replaces = m.Replaces // it has started again, and need not be told again
	}
	if joined, err := h.check(s, c); err != nil || joined {
		return s, 0, err
	}
	if !n.Replaces.IsZero() || len(s.Operations) > 0 && h.o.Moves() {
		return h.begin(ctx, c)
	}
	if err := h.nobodyHasRows(ctx, s, n.ID); err != nil {
		var no *Refused
		if errors.As(err, &no) && h.o.Moves() && s.ClusterVersion >= meta.VersionMovement {
			return h.begin(ctx, c)
		}
		return nil, 0, err
	}
	s, err = h.o.Log.Propose(ctx, func(s *meta.State) (*meta.Command, bool, error) { return h.announce(s, c, true) })
	if err != nil {
		return nil, 0, err
	}
	if since = sinceOf(s, n.ID); since == 0 {
		return nil, 0, errGivenUp
	}
	h.o.Logger.Info("node is joining", "host", n.ID.String(), "address", n.Internode.String(), "epoch", s.Epoch)
	if err := h.nobodyHasRows(ctx, s, n.ID); err != nil {
		if h.o.Moves() { // somebody has begun to write: asked again, it is sent the rows, so this is no *Refused
			err = errors.New("formation: " + err.Error())
		}
		return nil, since, err
	}
	s, err = h.o.Log.Propose(ctx, func(s *meta.State) (*meta.Command, bool, error) {
		if owns(s.Node(n.ID)) {
			return nil, false, nil
		}
		if sinceOf(s, n.ID) != since {
			return nil, false, errGivenUp
		}
		return &meta.Command{Kind: meta.CommitJoin, Node: meta.Node{ID: n.ID, Since: since}}, true, nil
	})
	if err != nil {
		return nil, since, err
	}
	h.o.Logger.Info("node has joined", "host", n.ID.String(), "address", n.Internode.String(), "epoch", s.Epoch)
	h.o.Log.AwaitAll(ctx, s.Epoch, others(s, n.ID))
	return s, 0, nil
}

// begin announces the node by an operation that brings it its rows, and does not wait for its end.
func (h *Host) begin(ctx context.Context, c *meta.Command) (_ *meta.State, since uint64, err error) {
	n := &c.Node
	switch {
	case !h.o.Moves():
		return nil, 0, &Refused{Reason: "rows cannot be brought to a node that joins or replaces another by this build"}
	case !n.Replaces.IsZero() && h.o.Alive(n.Replaces):
		return nil, 0, &Refused{Reason: fmt.Sprintf("the node to replace, %s, is alive: decommission it, or stop it first", n.Replaces)}
	}
	s, err := h.o.Log.Propose(ctx, func(s *meta.State) (*meta.Command, bool, error) { return h.announce(s, c, false) })
	if err != nil {
		return nil, 0, err
	}
	if o := s.OperationOn(n.ID); o != nil {
		h.o.Logger.Info("node is joining and is sent its rows", "host", n.ID.String(), "address", n.Internode.String(), "operation", o.String())
	}
	return s, 0, nil
}

var errGivenUp = errors.New("formation: the attempt to join was given up meanwhile")

// sinceOf is not 0 while the node is joining.
func sinceOf(s *meta.State, id ring.HostID) uint64 {
	if m := s.Node(id); m != nil && m.State == meta.Pending {
		return m.Since
	}
	return 0
}

// check says what is against the node before anything is done; joined tells that it is a member already: one whose answer
// was lost.
func (h *Host) check(s *meta.State, c *meta.Command) (joined bool, err error) {
	n := &c.Node
	switch {
	case !owns(s.Node(h.o.Self.ID)):
		return false, errors.New("formation: this node is no member itself yet")
	case s.ClusterName != c.ClusterName:
		return false, &Refused{Reason: fmt.Sprintf("the cluster is %q, the node is configured for %q", s.ClusterName, c.ClusterName)}
	case c.Partitioner != "" && c.Partitioner != s.Partitioner:
		return false, &Refused{Reason: fmt.Sprintf("the cluster's partitioner is %s, the node's configuration says %s", s.Partitioner, c.Partitioner)}
	}
	m := s.Node(n.ID)
	switch {
	case !owns(m):
		return false, s.Admissible(n)
	case m.DC != n.DC || m.Rack != n.Rack:
		return false, &Refused{Reason: fmt.Sprintf("host id %s joined as %s/%s, and data centre and rack cannot change to %s/%s", n.ID, m.DC, m.Rack, n.DC, n.Rack)}
	case m.Generation > n.Generation:
		return false, &Refused{Reason: fmt.Sprintf("host id %s has started again since: two processes have one identity, or the clock was set back", n.ID)}
	}
	return true, nil
}

// announce makes the command that puts the node with its tokens into the log; ok false when it is there already.
func (h *Host) announce(s *meta.State, c *meta.Command, quiet bool) (*meta.Command, bool, error) {
	n := &c.Node
	if m := s.Node(n.ID); m != nil && m.State == meta.Pending && m.Internode == n.Internode && m.Generation == n.Generation {
		return nil, false, nil
	}
	if owns(s.Node(n.ID)) { // an attempt before its restart has come through since: asking again finds it a member
		return nil, false, errGivenUp
	}
	if !quiet && (s.Phase() == meta.Switched || s.Quiet()) && s.OperationOn(n.ID) == nil { // its own goes on, and waits for it
		return nil, false, errors.New("formation: another movement is being completed; the node can join when it is")
	}
	if err := s.Admissible(n); err != nil {
		return nil, false, err
	}
	var existing []ring.Node
	for _, m := range s.Members() {
		if m.ID != n.ID && m.Internode != n.Internode {
			existing = append(existing, ring.Node{ID: m.ID, DC: m.DC, Rack: m.Rack, Tokens: m.Tokens})
		}
	}
	node := *n
	node.Quiet = quiet
	node.Tokens = ring.Allocate(existing, ring.Node{ID: n.ID, DC: n.DC, Rack: n.Rack}, max(1, min(int(c.NumTokens), meta.TokensMax)), allocationRF, h.o.Seed())
	return &meta.Command{Kind: meta.AddPending, Node: node, Force: c.Force}, true, nil
}

// allocationRF is the replication factor that tokens are balanced for.
const allocationRF = 3

// nobodyHasRows asks every member, at the same time, whether a user table holds a row, after it has applied the state.
func (h *Host) nobodyHasRows(ctx context.Context, s *meta.State, joiner ring.HostID) error {
	ctx, cancel := context.WithTimeout(ctx, rowsTimeout)
	defer cancel()
	members := others(s, joiner)
	answers := make([]error, len(members))
	places := make(chan struct{}, rowsMax)
	var wg sync.WaitGroup
	for i, id := range members {
		places <- struct{}{}
		wg.Go(func() {
			defer func() { <-places }()
			answers[i] = h.hasNoRows(ctx, s, id)
		})
	}
	wg.Wait()
	var no *Refused
	if i := slices.IndexFunc(answers, func(err error) bool { return errors.As(err, &no) }); i >= 0 {
		return answers[i] // final, the others may pass
	}
	return errors.Join(answers...)
}

func (h *Host) hasNoRows(ctx context.Context, s *meta.State, id ring.HostID) error {
	held, err := h.askRows(ctx, s.Epoch, id)
	switch {
	case err != nil:
		return fmt.Errorf("member %s did not say whether it holds rows; a node joins only while all members answer: %w", s.Node(id).Internode, err)
	case held:
		return &Refused{Reason: fmt.Sprintf("member %s holds rows of a user table, and they cannot be brought to a node that joins yet: every member has to run a build that can", s.Node(id).Internode)}
	}
	return nil
}

func (h *Host) askRows(ctx context.Context, epoch uint64, id ring.HostID) (bool, error) {
	if id == h.o.Self.ID {
		return h.rowsHere(ctx, epoch)
	}
	answer, status, err := h.o.Call(ctx, id, rpc.Urgent, VerbAnyRows, binary.BigEndian.AppendUint64(nil, epoch))
	switch {
	case err != nil:
		return false, err
	case status != rpc.StatusOK || len(answer) != 1 || answer[0] > 1:
		return false, fmt.Errorf("it answers %s %q", status, answer)
	}
	return answer[0] == 1, nil
}

// others returns the members that own ranges, but for one.
func others(s *meta.State, not ring.HostID) []ring.HostID {
	var out []ring.HostID
	for i := range s.Nodes {
		if n := &s.Nodes[i]; n.ID != not && owns(n) {
			out = append(out, n.ID)
		}
	}
	return out
}

// forget takes back the announcement of an attempt to join that has failed, so that user tables take writes again. When
// it cannot, the leader of the log does after a while.
func (h *Host) forget(ctx context.Context, id ring.HostID, since uint64) {
	ctx, cancel := context.WithTimeout(ctx, forgetTimeout)
	defer cancel()
	_, err := h.o.Log.Propose(ctx, func(s *meta.State) (*meta.Command, bool, error) {
		if sinceOf(s, id) != since {
			return nil, false, nil
		}
		return &meta.Command{Kind: meta.RemoveNode, Node: meta.Node{ID: id}}, true, nil
	})
	if err != nil {
		h.o.Logger.Warn("a node that could not join is still announced", "host", id.String(), "err", err)
	}
}
