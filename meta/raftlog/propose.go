package raftlog

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	pb "go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/helenusdb/helenus/meta"
	"github.com/helenusdb/helenus/ring"
	"github.com/helenusdb/helenus/rpc"
)

// Verbs of the log; bodies are drawn in docs/format/meta.md.
const (
	VerbRaft    rpc.Verb = 1 // one way: a raftpb.Message
	VerbPropose rpc.Verb = 2 // to the leader: a command; answer: outcome code, epoch, text
	VerbAwait   rpc.Verb = 3 // an epoch; answered when it is applied
	VerbPull    rpc.Verb = 4 // an epoch; answer: the state when it is newer, else nothing
	VerbLast    rpc.Verb = 4
)

const retryPause = 50 * time.Millisecond

// Propose changes the metadata: build makes a command from the newest state (ok false: nothing is to be changed), and
// is called again when the state moved on before the command got into the log. It returns the local state with the
// change applied. Errors: build's own, *meta.Refused, ErrNoQuorum (wrapped), ctx's.
func (s *Service) Propose(ctx context.Context, build func(*meta.State) (c *meta.Command, ok bool, err error)) (*meta.State, error) {
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	var last string
	for {
		c, ok, err := build(s.Current())
		if err != nil || !ok {
			return s.Current(), err
		}
		raw := c.Append(nil)
		if len(raw) > commandMax {
			return nil, fmt.Errorf("raftlog: a change of %d bytes is larger than %d", len(raw), commandMax)
		}
		out, err := s.submit(ctx, raw)
		if err != nil {
			return nil, err
		}
		switch out.code {
		case accepted, conflicted:
			if err := s.AwaitApplied(ctx, out.epoch); err != nil {
				return nil, err
			}
			if out.code == accepted {
				return s.Current(), nil
			}
		case refusedOutcome:
			return nil, &meta.Refused{Reason: out.text}
		default:
			last = out.text
			if err := pause(ctx, retryPause); err != nil {
				return nil, noQuorum(last)
			}
		}
	}
}

func noQuorum(detail string) error {
	if detail == "" {
		return ErrNoQuorum
	}
	return fmt.Errorf("%w (%s)", ErrNoQuorum, detail)
}

func (s *Service) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, s.opts.ProposeTimeout)
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// submit hands the command to the leader, which may be this node, and waits for its outcome.
func (s *Service) submit(ctx context.Context, raw []byte) (outcome, error) {
	leader, known := s.Leader()
	switch {
	case !known:
		return outcome{code: notLeader, text: "no leader is known"}, nil
	case leader == s.opts.Self:
		return s.submitHere(ctx, raw)
	}
	body, status, err := s.opts.Peers.Call(ctx, leader, rpc.Urgent, VerbPropose, raw)
	switch {
	case ctx.Err() != nil:
		return outcome{}, noQuorum("the leader did not answer in time")
	case err != nil:
		return outcome{code: notLeader, text: err.Error()}, nil
	case status != rpc.StatusOK:
		return outcome{code: notLeader, text: status.String()}, nil
	}
	return decodeOutcome(body)
}

func (s *Service) submitHere(ctx context.Context, raw []byte) (outcome, error) {
	result := make(chan outcome, 1)
	select {
	case s.proposals <- proposal{raw, func(o outcome) { result <- o }}:
	case <-ctx.Done():
		return outcome{}, noQuorum("the log is busy")
	case <-s.stopped:
		return outcome{}, errors.New("raftlog: the node is stopping")
	}
	select {
	case o := <-result:
		return o, nil
	case <-ctx.Done():
		return outcome{}, noQuorum("not committed in time")
	case <-s.stopped:
		return outcome{}, errors.New("raftlog: the node is stopping")
	}
}

func (o outcome) append(dst []byte) []byte {
	dst = append(dst, byte(o.code))
	dst = binary.BigEndian.AppendUint64(dst, o.epoch)
	return append(dst, o.text...)
}

func decodeOutcome(b []byte) (outcome, error) {
	if len(b) < 9 || b[0] < byte(accepted) || b[0] > byte(notLeader) {
		return outcome{}, fmt.Errorf("raftlog: an answer of %d bytes does not decode", len(b))
	}
	return outcome{code: outcomeCode(b[0]), epoch: binary.BigEndian.Uint64(b[1:]), text: string(b[9:])}, nil
}

// AwaitApplied waits until this node's state has reached the epoch.
func (s *Service) AwaitApplied(ctx context.Context, epoch uint64) error {
	reached := make(chan bool, 1)
	deadline, ok := ctx.Deadline()
	if !ok {
		deadline = time.Now().Add(s.opts.ProposeTimeout)
	}
	s.wait(epoch, deadline, func(ok bool) { reached <- ok })
	select {
	case ok := <-reached:
		if !ok {
			return fmt.Errorf("raftlog: epoch %d has not been applied here in time, this node is at %d", epoch, s.Current().Epoch)
		}
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// AwaitAll waits until every given member has applied the epoch, for each at most AwaitTimeout, and returns those that
// have not said so, in the order given.
func (s *Service) AwaitAll(ctx context.Context, epoch uint64, members []ring.HostID) (lagging []ring.HostID) {
	ctx, cancel := context.WithTimeout(ctx, s.opts.AwaitTimeout)
	defer cancel()
	body := binary.BigEndian.AppendUint64(nil, epoch)
	answers := make([]chan bool, len(members))
	for i, id := range members {
		answers[i] = make(chan bool, 1)
		if id == s.opts.Self {
			answers[i] <- s.AwaitApplied(ctx, epoch) == nil
			continue
		}
		go func() { // ends with ctx at the latest; AwaitAll waits for its answer
			_, status, err := s.opts.Peers.Call(ctx, id, rpc.Urgent, VerbAwait, body)
			answers[i] <- err == nil && status == rpc.StatusOK
		}()
	}
	for i, id := range members {
		if !<-answers[i] {
			lagging = append(lagging, id)
		}
	}
	return lagging
}

// CatchUp pulls the state from a member that is ahead and adopts it. It needs no quorum.
func (s *Service) CatchUp(ctx context.Context, from ring.HostID) error {
	body := binary.BigEndian.AppendUint64(nil, s.Current().Epoch)
	raw, status, err := s.opts.Peers.Call(ctx, from, rpc.Urgent, VerbPull, body)
	if err != nil || status != rpc.StatusOK {
		return fmt.Errorf("raftlog: pull from %s: %s: %w", from, status, err)
	}
	if len(raw) == 0 {
		return nil
	}
	return s.Adopt(ctx, raw)
}

// Adopt takes an encoded state that another member had committed, and waits until it is current here. An older one is
// ignored.
func (s *Service) Adopt(ctx context.Context, encoded []byte) error {
	state, err := meta.DecodeState(encoded)
	if err != nil {
		return err
	}
	select {
	case s.pulled <- pulledState{encoded, state}:
	case <-ctx.Done():
		return ctx.Err()
	case <-s.stopped:
		return errors.New("raftlog: the node is stopping")
	}
	return s.AwaitApplied(ctx, state.Epoch)
}

// wait registers a waiter, or answers at once.
func (s *Service) wait(epoch uint64, deadline time.Time, done func(bool)) {
	s.mu.Lock()
	full := len(s.waiters) >= waitersMax
	reached := s.Current().Epoch >= epoch
	if !full && !reached {
		s.waiters = append(s.waiters, waiter{epoch, deadline, done})
	}
	s.mu.Unlock()
	if full || reached {
		done(reached)
	}
}

func (s *Service) wake(epoch uint64) {
	s.remove(func(w waiter) bool { return w.epoch <= epoch }, true)
}

// expire ends the waiters whose deadline has passed, all of them when now is zero.
func (s *Service) expire(now time.Time) {
	s.remove(func(w waiter) bool { return now.IsZero() || !now.Before(w.deadline) }, false)
}

func (s *Service) remove(which func(waiter) bool, reached bool) {
	var out []waiter
	s.mu.Lock()
	s.waiters = slices.DeleteFunc(s.waiters, func(w waiter) bool {
		if which(w) {
			out = append(out, w)
			return true
		}
		return false
	})
	s.mu.Unlock()
	for _, w := range out {
		w.done(reached)
	}
}

// Session answers the verbs of the log on one connection.
type Session struct {
	s    *Service
	from ring.HostID
}

// NewSession is for rpc's accepted connections.
func (s *Service) NewSession(from ring.HostID) *Session { return &Session{s, from} }

// Handle answers one request; see rpc.Session.
func (h *Session) Handle(req *rpc.Request, rsp rpc.Responder) {
	switch req.Verb {
	case VerbRaft:
		h.raft(req)
	case VerbPropose:
		h.propose(req, rsp)
	case VerbAwait, VerbPull:
		h.epoch(req, rsp)
	default:
		rsp.Reply(rpc.StatusUnknownVerb, nil)
	}
}

// Flush does nothing: messages are handed over one by one.
func (h *Session) Flush() {}

// Close does nothing: a session holds nothing.
func (h *Session) Close() {}

func (h *Session) raft(req *rpc.Request) {
	m := &pb.Message{}
	if err := proto.Unmarshal(req.Body, m); err != nil || m.GetTo() != h.s.id || m.GetFrom() != raftID(h.from) {
		h.s.opts.Logger.Warn("raft message refused", "from", h.from.String(), "err", err)
		return
	}
	select {
	case h.s.inbox <- m:
	default: // Raft sends again
	}
}

func (h *Session) propose(req *rpc.Request, rsp rpc.Responder) {
	raw := append([]byte(nil), req.Body...)
	select {
	case h.s.proposals <- proposal{raw, func(o outcome) { rsp.Reply(rpc.StatusOK, o.append(nil)) }}:
	default:
		rsp.Reply(rpc.StatusOverloaded, nil)
	}
}

func (h *Session) epoch(req *rpc.Request, rsp rpc.Responder) {
	if len(req.Body) != 8 {
		rsp.Reply(rpc.StatusBadRequest, nil)
		return
	}
	epoch := binary.BigEndian.Uint64(req.Body)
	if req.Verb == VerbAwait {
		h.s.wait(epoch, req.Deadline, func(reached bool) {
			if reached {
				rsp.Reply(rpc.StatusOK, nil)
			} else {
				rsp.Reply(rpc.StatusExpired, nil)
			}
		})
		return
	}
	var out []byte
	if now := h.s.Current(); now.Epoch > epoch {
		out = now.Encode()
	}
	rsp.Reply(rpc.StatusOK, out)
}
