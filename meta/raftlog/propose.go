package raftlog

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/helenusdb/helenus/meta"
	"github.com/helenusdb/helenus/ring"
	"github.com/helenusdb/helenus/rpc"
)

const retryPause = 50 * time.Millisecond

// Propose changes the metadata: build makes a command from the newest state (ok false: nothing is to be changed), and
// is called again when the state moved on before the command got into the log; while a movement is being completed (State.Frozen) it waits
// for the end of that first. It returns the local state with the
// change applied.
//
// The command takes effect once or never. It is made for one epoch (Propose fills in BaseEpoch and ID), so a copy that
// was sent again after a lost answer cannot take effect a second time, and nothing that was given up can take effect
// after its successor. Whether it was this command that made the next epoch shows in the state, so a lost answer loses
// nothing, unless MadeMax other changes came first.
//
// Errors: build's own; *meta.Refused; ErrNoQuorum (wrapped) when it was not settled in time, so that it may still take
// effect; *Lagging when it took effect and this node does not have it yet; ErrStopped; context.Canceled.
func (s *Service) Propose(ctx context.Context, build func(*meta.State) (c *meta.Command, ok bool, err error)) (*meta.State, error) {
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	for {
		base := s.Current()
		c, ok, err := build(base)
		if err != nil || !ok {
			return base, err
		}
		if !base.Founded() {
			return nil, noQuorum("this node is not part of a cluster yet")
		}
		if base.Frozen(c) {
			if err := s.AwaitApplied(ctx, base.Epoch+1); err != nil {
				return nil, s.frozen(base, c, err)
			}
			continue
		}
		done, err := s.commit(ctx, base.Epoch, *c)
		if err != nil {
			return nil, err
		}
		if done {
			return s.Current(), nil
		}
	}
}

// frozen is what a proposer is told who has waited in vain for the end of a movement: nothing of its command is in the log.
func (s *Service) frozen(base *meta.State, c *meta.Command, err error) error {
	if errors.Is(err, ErrStopped) || errors.Is(err, context.Canceled) {
		return err
	}
	if _, why := base.Apply(c); why != nil {
		return why
	}
	return err
}

// commit settles one command: done tells that it took effect, and is applied here; otherwise it never will.
func (s *Service) commit(ctx context.Context, base uint64, c meta.Command) (done bool, err error) {
	c.ID, c.BaseEpoch = s.newID(), base
	raw := c.Append(nil)
	if len(raw) > commandMax {
		return false, &meta.Refused{Reason: fmt.Sprintf("a change of %d bytes is larger than %d", len(raw), commandMax)}
	}
	for {
		out, err := s.submit(ctx, raw)
		if err != nil {
			return false, err
		}
		switch out.code {
		case refusedOutcome:
			return false, &meta.Refused{Reason: out.text}
		case accepted, conflicted:
			if err := s.AwaitApplied(ctx, out.epoch); err != nil {
				return false, s.unsettled(ctx, out, err)
			}
		default: // news may come by itself
			if err := s.pause(ctx, base+1); err != nil {
				return false, err
			}
		}
		if now := s.Current(); now.Epoch > base {
			id, known := now.MadeBy(base + 1)
			return known && id == c.ID || !known && out.code == accepted, nil
		}
		if ctx.Err() != nil {
			return false, s.unsettled(ctx, out, ctx.Err())
		}
	}
}

// pause waits for the epoch or for retryPause; an error is final.
func (s *Service) pause(ctx context.Context, epoch uint64) error {
	short, cancel := context.WithTimeout(ctx, retryPause)
	defer cancel()
	err := s.AwaitApplied(short, epoch)
	if errors.Is(err, ErrStopped) {
		return ErrStopped
	}
	if err != nil {
		<-short.Done()
	}
	return nil
}

// Lagging is returned by Propose when the change took effect and this node did not get it in time.
type Lagging struct{ Epoch uint64 }

// Error names the epoch.
func (e *Lagging) Error() string {
	return fmt.Sprintf("raftlog: the change took effect at epoch %d, which this node has not reached in time", e.Epoch)
}

// unsettled is what a proposer is told whose time is up.
func (s *Service) unsettled(ctx context.Context, out outcome, err error) error {
	switch {
	case errors.Is(err, ErrStopped) || errors.Is(ctx.Err(), context.Canceled):
		return err
	case out.code == accepted:
		return &Lagging{out.epoch}
	}
	return noQuorum(out.text)
}

// newID is unique: no two members have the same first bytes of their host ids, no two starts the same generation.
func (s *Service) newID() (id [16]byte) {
	copy(id[:8], s.opts.Self[:8])
	binary.BigEndian.PutUint32(id[8:], uint32(s.opts.Generation))
	binary.BigEndian.PutUint32(id[12:], s.nextID.Add(1))
	return id
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

// submit hands the command to the leader, which may be this node, and waits for its outcome as long as an election
// takes: then there may be another leader to ask. An error is final.
func (s *Service) submit(ctx context.Context, raw []byte) (outcome, error) {
	attempt, cancel := context.WithTimeout(ctx, 2*time.Duration(s.opts.ElectionTicks)*s.opts.Tick)
	defer cancel()
	leader, known := s.Leader()
	switch {
	case !known:
		return outcome{code: unsure, text: "no leader is known"}, nil
	case leader == s.opts.Self:
		return s.submitHere(attempt, raw)
	}
	body, status, err := s.opts.Peers.Call(attempt, leader, rpc.Urgent, VerbPropose, raw)
	switch {
	case err != nil:
		return outcome{code: unsure, text: fmt.Sprintf("asking the leader %s: %v", leader, err)}, nil
	case status != rpc.StatusOK:
		return outcome{code: unsure, text: fmt.Sprintf("the leader %s answers: %s", leader, status)}, nil
	}
	return decodeOutcome(body)
}

func (s *Service) submitHere(ctx context.Context, raw []byte) (outcome, error) {
	result := make(chan outcome, 1)
	if !s.enqueue(proposal{raw, func(o outcome) { result <- o }}) {
		return outcome{code: unsure, text: "too many changes are waiting"}, nil
	}
	select {
	case o := <-result:
		return o, nil
	case <-ctx.Done():
		return outcome{code: unsure, text: "not committed in time"}, nil
	case <-s.stopped:
		return outcome{}, ErrStopped
	}
}

// enqueue hands a proposal to the loop; false when too many wait.
func (s *Service) enqueue(p proposal) bool {
	n := int64(len(p.command))
	if s.proposalBytes.Add(n) > proposalBytesMax {
		s.proposalBytes.Add(-n)
		return false
	}
	select {
	case s.proposals <- p:
		return true
	default:
		s.proposalBytes.Add(-n)
		return false
	}
}

func (o outcome) append(dst []byte) []byte {
	dst = append(dst, byte(o.code))
	dst = binary.BigEndian.AppendUint64(dst, o.epoch)
	return append(dst, o.text...)
}

func decodeOutcome(b []byte) (outcome, error) {
	if len(b) < 9 || b[0] < byte(accepted) || b[0] > byte(unsure) {
		return outcome{}, fmt.Errorf("raftlog: an answer of %d bytes does not decode", len(b))
	}
	return outcome{code: outcomeCode(b[0]), epoch: binary.BigEndian.Uint64(b[1:]), text: string(b[9:])}, nil
}

// CatchUp pulls the state from a member that is ahead and adopts it. It needs no quorum.
func (s *Service) CatchUp(ctx context.Context, from ring.HostID) error {
	body := binary.BigEndian.AppendUint64(nil, s.Current().Epoch)
	raw, status, err := s.opts.Peers.Call(ctx, from, rpc.Urgent, VerbPull, body)
	switch {
	case err != nil:
		return fmt.Errorf("raftlog: pull from %s: %w", from, err)
	case status != rpc.StatusOK:
		return fmt.Errorf("raftlog: pull from %s: it answers %s", from, status)
	case len(raw) == 0:
		return nil
	}
	return s.Adopt(ctx, raw)
}

// ErrOtherCluster is returned for the state of a cluster that this node does not belong to.
var ErrOtherCluster = errors.New("raftlog: that is the state of another cluster")

// Adopt takes an encoded state that another member had committed, and returns when it is durable and current here. An
// older one is ignored.
func (s *Service) Adopt(ctx context.Context, encoded []byte) error {
	state, err := meta.DecodeState(encoded)
	if err == nil {
		err = understood(state)
	}
	if err != nil {
		return fmt.Errorf("raftlog: adopt: %w", err)
	}
	return s.inLoop(ctx, func() error {
		if mine := s.Pledged(); mine != [16]byte{} && state.ClusterID != mine {
			return ErrOtherCluster
		}
		if state.Epoch <= s.Current().Epoch {
			return nil
		}
		if err := s.store.keep(keyPulled, encoded); err != nil {
			s.opts.Fatal(err)
			return fmt.Errorf("raftlog: adopt: %w", err)
		}
		s.publish(state)
		return nil
	})
}
