package formation

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
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
	joinTimeout = 30 * time.Second
	rowsTimeout = 5 * time.Second
	joinsMax    = 4 // joins that one member handles at a time
)

// Log is what joining needs of the metadata log; *raftlog.Service is one.
type Log interface {
	Current() *meta.State
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
	// AnyRows tells whether a user table holds a row here.
	AnyRows func(context.Context) (bool, error)
	Seed    func() uint64 // for token allocation
	Logger  *slog.Logger
}

// Host answers probes and lets nodes join. Its methods are safe for concurrent use.
type Host struct {
	o     HostOptions
	slots chan struct{}
}

// NewHost returns a Host; it starts nothing.
func NewHost(o HostOptions) *Host { return &Host{o: o, slots: make(chan struct{}, joinsMax)} }

// OnProbe answers a probe with this node's Hello.
func (h *Host) OnProbe(net.Addr, []byte) []byte {
	s := h.o.Log.Current()
	hello := Hello{Host: h.o.Self.ID, Internode: h.o.Self.Internode, FirstSeed: h.o.FirstSeed, ClusterName: h.o.Name, Generation: h.o.Self.Generation}
	if s.Founded() {
		hello.ClusterID, hello.ClusterName = s.ClusterID, s.ClusterName
	}
	return hello.Append(nil)
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
	var handle func([]byte) (rpc.Status, []byte)
	switch req.Verb {
	case VerbJoin:
		from := req.From
		handle = func(b []byte) (rpc.Status, []byte) { return s.h.join(s.ctx, from, b) }
	case VerbAnyRows:
		handle = func(b []byte) (rpc.Status, []byte) { return s.h.anyRows(s.ctx, b) }
	default:
		rsp.Reply(rpc.StatusUnknownVerb, nil)
		return
	}
	select {
	case s.h.slots <- struct{}{}:
	default:
		rsp.Reply(rpc.StatusOverloaded, nil)
		return
	}
	s.run(func() {
		defer func() { <-s.h.slots }()
		status, out := handle(body)
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
	if err := h.o.Log.AwaitApplied(ctx, binary.BigEndian.Uint64(body)); err != nil {
		return rpc.StatusWrongEpoch, nil
	}
	any, err := h.o.AnyRows(ctx)
	switch {
	case err != nil:
		return rpc.StatusFailed, []byte(err.Error())
	case any:
		return rpc.StatusOK, []byte{1}
	}
	return rpc.StatusOK, []byte{0}
}

// join makes the asking node a member, or says why not. Every step can be repeated: a node that asks again after a
// crash, its own or this member's, continues.
func (h *Host) join(ctx context.Context, from ring.HostID, body []byte) (rpc.Status, []byte) {
	c, err := meta.DecodeCommand(body)
	if err != nil || c.Kind != meta.AddPending || c.Node.ID != from {
		return rpc.StatusBadRequest, nil
	}
	ctx, cancel := context.WithTimeout(ctx, joinTimeout)
	defer cancel()
	state, err := h.admit(ctx, c)
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

func (h *Host) admit(ctx context.Context, c *meta.Command) (*meta.State, error) {
	n, name := &c.Node, c.ClusterName
	if s := h.o.Log.Current(); s.ClusterName != name {
		return nil, &Refused{fmt.Sprintf("the cluster is %q, the node is configured for %q", s.ClusterName, name)}
	}
	if s := h.o.Log.Current(); isMember(s, n) {
		return s, nil
	}
	s, err := h.o.Log.Propose(ctx, func(s *meta.State) (*meta.Command, bool, error) { return h.pending(s, n, int(c.NumTokens)) })
	if err != nil {
		return nil, err
	}
	h.o.Logger.Info("node is joining", "host", n.ID.String(), "address", n.Internode.String(), "epoch", s.Epoch)
	if err := h.nobodyHasRows(ctx, s, n.ID); err != nil {
		var no *Refused
		if errors.As(err, &no) {
			h.forget(ctx, n.ID)
		}
		return nil, err
	}
	s, err = h.o.Log.Propose(ctx, func(s *meta.State) (*meta.Command, bool, error) {
		if isMember(s, n) {
			return nil, false, nil
		}
		return &meta.Command{Kind: meta.CommitJoin, Node: meta.Node{ID: n.ID}, BaseEpoch: s.Epoch}, true, nil
	})
	if err != nil {
		return nil, err
	}
	h.o.Logger.Info("node has joined", "host", n.ID.String(), "address", n.Internode.String(), "epoch", s.Epoch)
	h.o.Log.AwaitAll(ctx, s.Epoch, others(s, n.ID))
	return s, nil
}

func isMember(s *meta.State, n *meta.Node) bool {
	m := s.Node(n.ID)
	return m != nil && m.State == meta.Normal && m.Internode == n.Internode && m.DC == n.DC && m.Rack == n.Rack
}

// pending makes the command that announces the node with tokens; ok false when it is announced already.
func (h *Host) pending(s *meta.State, n *meta.Node, numTokens int) (*meta.Command, bool, error) {
	if m := s.Node(n.ID); m != nil && m.State == meta.Pending && m.Internode == n.Internode && m.Generation == n.Generation {
		return nil, false, nil
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
	node.Tokens = ring.Allocate(existing, ring.Node{ID: n.ID, DC: n.DC, Rack: n.Rack}, min(numTokens, meta.TokensMax), allocationRF, h.o.Seed())
	return &meta.Command{Kind: meta.AddPending, Node: node, BaseEpoch: s.Epoch}, true, nil
}

// allocationRF is the replication factor that tokens are balanced for.
const allocationRF = 3

// nobodyHasRows asks every other member whether a user table holds a row, after it knows that the node is pending.
func (h *Host) nobodyHasRows(ctx context.Context, s *meta.State, joiner ring.HostID) error {
	body := binary.BigEndian.AppendUint64(nil, s.Epoch)
	for _, id := range others(s, joiner) {
		var any bool
		if id == h.o.Self.ID {
			here, err := h.o.AnyRows(ctx)
			if err != nil {
				return err
			}
			any = here
		} else {
			answer, status, err := h.o.Call(ctx, id, rpc.Urgent, VerbAnyRows, body)
			if err != nil || status != rpc.StatusOK || len(answer) != 1 {
				return fmt.Errorf("member %s did not say whether it holds rows (%s %s): a node joins only while all members answer: %w", s.Node(id).Internode, status, answer, errOr(err))
			}
			any = answer[0] == 1
		}
		if any {
			return &Refused{fmt.Sprintf("member %s holds rows of a user table, and node movement is not built yet: a node can join only while no user table holds a row", s.Node(id).Internode)}
		}
	}
	return nil
}

func errOr(err error) error {
	if err == nil {
		return errors.New("no answer")
	}
	return err
}

func others(s *meta.State, not ring.HostID) []ring.HostID {
	var out []ring.HostID
	for _, m := range s.Members() {
		if m.ID != not && m.State != meta.Pending {
			out = append(out, m.ID)
		}
	}
	return out
}

// forget takes back AddPending of a node that was refused.
func (h *Host) forget(ctx context.Context, id ring.HostID) {
	_, err := h.o.Log.Propose(ctx, func(s *meta.State) (*meta.Command, bool, error) {
		if m := s.Node(id); m == nil || m.State != meta.Pending {
			return nil, false, nil
		}
		return &meta.Command{Kind: meta.RemoveNode, Node: meta.Node{ID: id}}, true, nil
	})
	if err != nil {
		h.o.Logger.Warn("a refused node stays pending", "host", id.String(), "err", err)
	}
}
