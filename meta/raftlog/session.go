package raftlog

import (
	"encoding/binary"
	"errors"

	pb "go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

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
	case VerbAwait:
		h.await(req, rsp)
	case VerbPull:
		h.pull(req, rsp)
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
	generation, body, ok := cutGeneration(req.Body)
	if n := h.s.Current().Node(h.from); ok && n != nil && generation < n.Generation {
		return // from a former start of the member
	}
	if err := proto.Unmarshal(body, m); err != nil || !ok || m.GetTo() != h.s.id || m.GetFrom() != raftID(h.from) || !betweenNodes(m.GetType()) {
		h.s.opts.Logger.Warn("raft message refused", "from", h.from.String(), "type", m.GetType().String(), "err", err)
		return
	}
	size := len(req.Body)
	if h.s.inboxBytes.Add(int64(size)) > inboxBytesMax {
		h.s.inboxBytes.Add(-int64(size))
		return // Raft sends again
	}
	select {
	case h.s.inbox <- message{m, size}:
	default:
		h.s.inboxBytes.Add(-int64(size))
	}
}

func cutGeneration(body []byte) (generation int64, rest []byte, ok bool) {
	if len(body) < 8 {
		return 0, nil, false
	}
	return int64(binary.BigEndian.Uint64(body)), body[8:], true
}

// betweenNodes tells whether one node may send such a message to another. Proposals come by VerbPropose, which looks at
// what is proposed.
func betweenNodes(t pb.MessageType) bool {
	switch t {
	case pb.MsgApp, pb.MsgAppResp, pb.MsgVote, pb.MsgVoteResp, pb.MsgPreVote, pb.MsgPreVoteResp, pb.MsgSnap, pb.MsgHeartbeat, pb.MsgHeartbeatResp:
		return true
	}
	return false
}

func (h *Session) propose(req *rpc.Request, rsp rpc.Responder) {
	raw := append([]byte(nil), req.Body...)
	if !h.s.enqueue(proposal{raw, func(o outcome) { rsp.Reply(rpc.StatusOK, o.append(nil)) }}) {
		rsp.Reply(rpc.StatusOverloaded, nil)
	}
}

func (h *Session) await(req *rpc.Request, rsp rpc.Responder) {
	if len(req.Body) != 8 {
		rsp.Reply(rpc.StatusBadRequest, nil)
		return
	}
	h.s.wait(binary.BigEndian.Uint64(req.Body), req.Deadline, func(err error) {
		switch {
		case err == nil:
			rsp.Reply(rpc.StatusOK, nil)
		case errors.Is(err, errCrowded):
			rsp.Reply(rpc.StatusOverloaded, nil)
		default:
			rsp.Reply(rpc.StatusExpired, nil)
		}
	})
}

func (h *Session) pull(req *rpc.Request, rsp rpc.Responder) {
	if len(req.Body) != 8 {
		rsp.Reply(rpc.StatusBadRequest, nil)
		return
	}
	rsp.ReplyRead(h.s.newerThan(binary.BigEndian.Uint64(req.Body)))
}

// newerThan returns the encoded current state when it is newer than the epoch. It is encoded once.
func (s *Service) newerThan(epoch uint64) []byte {
	now := s.Current()
	if now.Epoch <= epoch {
		return nil
	}
	if e := s.encoded.Load(); e != nil && e.state == now {
		return e.bytes
	}
	e := &encodedState{now, now.Encode()}
	s.encoded.Store(e)
	return e.bytes
}
