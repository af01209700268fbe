package raftlog

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/helenusdb/helenus/ring"
	"github.com/helenusdb/helenus/rpc"
)

// waiter is called once: with nil when the local epoch reaches its own, or with the reason why it waits no more.
type waiter struct {
	epoch    uint64
	deadline time.Time
	done     func(error)
}

// errLate, errCrowded say why a waiter waits no more.
var (
	errLate    = errors.New("not in time")
	errCrowded = errors.New("too many wait for an epoch")
)

// AwaitApplied waits until this node's state has reached the epoch, without a deadline in ctx for at most
// ProposeTimeout.
func (s *Service) AwaitApplied(ctx context.Context, epoch uint64) error {
	if s.Current().Epoch >= epoch {
		return nil
	}
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	deadline, _ := ctx.Deadline()
	reached := make(chan error, 1)
	s.wait(epoch, deadline, func(err error) { reached <- err })
	select {
	case err := <-reached:
		if err != nil && s.Current().Epoch < epoch {
			return fmt.Errorf("raftlog: epoch %d has not been applied here, this node is at %d: %w", epoch, s.Current().Epoch, err)
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
		go func() { // ends with ctx at the latest; AwaitAll waits for its answer
			if id == s.opts.Self {
				answers[i] <- s.AwaitApplied(ctx, epoch) == nil
				return
			}
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

// wait registers a waiter, or answers at once.
func (s *Service) wait(epoch uint64, deadline time.Time, done func(error)) {
	var answer error
	s.mu.Lock()
	switch {
	case s.Current().Epoch >= epoch:
	case s.ended:
		answer = ErrStopped
	case len(s.waiters) >= waitersMax:
		answer = errCrowded
	default:
		s.waiters = append(s.waiters, waiter{epoch, deadline, done})
		done = nil
	}
	s.mu.Unlock()
	if done != nil {
		done(answer)
	}
}

func (s *Service) wake(epoch uint64) {
	s.remove(func(w waiter) bool { return w.epoch <= epoch }, nil)
}

// expire ends the waiters whose deadline has passed, all of them when now is zero.
func (s *Service) expire(now time.Time) {
	if now.IsZero() {
		s.remove(func(waiter) bool { return true }, ErrStopped)
		return
	}
	s.remove(func(w waiter) bool { return !now.Before(w.deadline) }, errLate)
}

func (s *Service) remove(which func(waiter) bool, answer error) {
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
		w.done(answer)
	}
}
