package coordinator

import (
	"bytes"
	"context"
	"errors"
	"math"
	"slices"
	"time"

	"github.com/helenusdb/helenus/coordinator/paxos"
	"github.com/helenusdb/helenus/ring"
	"github.com/helenusdb/helenus/row"
	"github.com/helenusdb/helenus/rpc"
	"github.com/helenusdb/helenus/schema"
)

const (
	sweepPage  = 256                  // registers that are looked at in one go
	sweepPause = 5 * time.Millisecond // after each that is finished or forgotten: 200 a second
)

// sweepRegisters looks at all registers of this node now and then until ctx ends.
func (c *Coordinator) sweepRegisters(ctx context.Context) {
	if c.o.Registers == nil {
		return
	}
	for sleepFor(ctx, c.jitter(c.o.PaxosSweep)) {
		for at, first := []byte(nil), true; ctx.Err() == nil && (first || at != nil); first = false {
			var old []agedRegister
			var err error
			if old, at, err = c.agedRegisters(at); err != nil {
				c.o.Logger.Error("sweep of Paxos registers failed", "err", err)
				break
			}
			for i := range old {
				if c.sweep(ctx, &old[i]) && !sleepFor(ctx, sweepPause) {
					return
				}
			}
		}
	}
}

// agedRegister is a register that nothing has happened to for a while.
type agedRegister struct {
	Register
	state paxos.State // without values
}

// agedRegisters returns those of the next page that are old enough, and where to go on.
func (c *Coordinator) agedRegisters(at []byte) (old []agedRegister, next []byte, err error) {
	before := c.o.Now().Add(-c.o.PaxosGrace).UnixMicro()
	seen := 0
	next, err = c.o.Registers.ScanRegisters(at, partHead, func(r Register, head []byte) bool {
		s, err := paxos.DecodeHead(head)
		if err != nil {
			c.o.Logger.Error("a Paxos register does not decode", "generation", uint32(r.Generation), "err", err)
		} else if s.Promised.Micros < before {
			r.Key = bytes.Clone(r.Key)
			old = append(old, agedRegister{r, s})
		}
		seen++
		return seen < sweepPage
	})
	return old, next, err
}

// sweep finishes or forgets one register, and tells whether it did anything. The first live replica does so for all; another one
// if that has not done it for twice the time.
func (c *Coordinator) sweep(ctx context.Context, r *agedRegister) bool {
	t := c.view().table(r.Generation)
	if t == nil || !t.owns(t.view.self, r.Token) {
		return false
	}
	w := c.sweepOp(r)
	g := c.gather(t, w)
	patient := c.o.Now().UnixMicro()-r.state.Promised.Micros < 2*c.o.PaxosGrace.Microseconds()
	if k := c.keeper(g); patient && (k == nil || !k.self) {
		return false
	}
	if !r.state.Finished() || !r.state.Accepted.Ballot.IsZero() {
		c.metrics.CASSwept.Add(1)
		if err := c.serialize(ctx, w, 0, false); err != nil {
			c.o.Logger.Debug("an unfinished conditional write stays", "err", err)
		}
		return true
	}
	c.forgetRegister(t, r)
	return true
}

// forgetRegister offers the last commit to all replicas and, when each has it, has all forget the register.
func (c *Coordinator) forgetRegister(t *tablePlan, r *agedRegister) {
	value, _, _, err := c.o.Registers.Register(r.Generation, r.Token, r.Key, partCommitted)
	if err != nil {
		c.o.Logger.Error("a Paxos register cannot be read", "err", err)
		return
	}
	all := &assembly{t: t}
	all.peers, all.natural = t.replicas(nil, r.Token)
	for _, p := range all.peers {
		if !c.live(p) {
			return
		}
	}
	p := r.state.Committed
	p.Value = value
	q := ballotRequest{verb: VerbCommit, planned: t.view.state.RingEpoch, generation: r.Generation, token: r.Token, key: r.Key, proposal: p}
	if !c.askAll(all, q) {
		return
	}
	q = ballotRequest{verb: VerbForget, planned: t.view.state.RingEpoch, generation: r.Generation, token: r.Token, key: r.Key, ballot: p.Ballot}
	if c.forgetLast(all, q) {
		c.metrics.CASForgotten.Add(1)
	}
}

// forgetLast has all others forget a register before this node does: as long as one may have it, this node has it, so that whoever asks all of them, one after another, for
// the oldest that they know (OldestIn) hears of it.
func (c *Coordinator) forgetLast(all *assembly, q ballotRequest) bool {
	var others, own assembly
	others, own = *all, *all
	others.peers = slices.DeleteFunc(slices.Clone(all.peers), func(p *peer) bool { return p.self })
	own.peers = slices.DeleteFunc(slices.Clone(all.peers), func(p *peer) bool { return !p.self })
	return c.askAll(&others, q) && c.askAll(&own, q)
}

// askAll sends a message to all and tells whether all took it.
func (c *Coordinator) askAll(g *assembly, q ballotRequest) bool {
	poll := c.newPoll(g, time.Now().Add(c.o.WriteTimeout))
	defer poll.timer.Stop()
	for _, p := range g.peers {
		each := q
		poll.ask(p, &each)
	}
	for range g.peers {
		if m, ok := poll.next(); !ok || m.err != nil || m.status != rpc.StatusOK {
			return false
		}
	}
	return true
}

// FinishRange finishes the conditional writes that are accepted on this node, not known to be decided and older than any proposer that may still
// be at work, of partitions whose tokens lie in the interval. The error is that of the first that could not be finished.
func (c *Coordinator) FinishRange(ctx context.Context, gen schema.Generation, tokens ring.Interval) error {
	return c.finishRange(ctx, gen, tokens, c.o.Now().Add(-c.o.CASTimeout).UnixMicro())
}

// finishRange finishes those that were promised before a time, µs since the epoch.
func (c *Coordinator) finishRange(ctx context.Context, gen schema.Generation, tokens ring.Interval, before int64) error {
	if c.o.Registers == nil || c.view().table(gen) == nil {
		return nil
	}
	for at := c.o.Registers.RegistersFrom(gen, tokens.First); at != nil; {
		var found []agedRegister
		var err error
		at, err = c.scanRange(at, gen, tokens, sweepPage, func(r Register, s *paxos.State) {
			if s != nil && !s.Accepted.Ballot.IsZero() && s.Promised.Micros < before {
				r.Key = bytes.Clone(r.Key)
				found = append(found, agedRegister{r, *s})
			}
		})
		if err != nil {
			return err
		}
		for i := range found {
			r := &found[i]
			c.metrics.CASSwept.Add(1)
			if err := c.serialize(ctx, c.sweepOp(r), 0, false); err != nil {
				return err
			}
		}
	}
	return nil
}

// scanRange calls fn for the registers of a table in an interval behind a cursor, atMost of them, and returns where to go on; nil: at the end of the interval. The state
// is nil of one that does not decode.
func (c *Coordinator) scanRange(at []byte, gen schema.Generation, tokens ring.Interval, atMost int, fn func(Register, *paxos.State)) (next []byte, err error) {
	beyond := false
	next, err = c.o.Registers.ScanRegisters(at, partHead, func(r Register, head []byte) bool {
		if beyond = r.Generation != gen || r.Token > tokens.Last; beyond {
			return false
		}
		if s, err := paxos.DecodeHead(head); err == nil {
			fn(r, &s)
		} else {
			fn(r, nil)
		}
		atMost--
		return atMost > 0
	})
	if beyond {
		next = nil
	}
	return next, err
}

// OldestIn returns when the oldest conditional write was made, in seconds since the epoch, that is the last commit of a register of this node, or accepted there and not
// known to be decided, of partitions in tokens: its rows may yet be written again, to a replica that lacks it. false: there is none.
func (c *Coordinator) OldestIn(gen schema.Generation, tokens ring.Interval) (since int64, some bool, err error) {
	if c.o.Registers == nil {
		return 0, false, nil
	}
	oldest, damaged := int64(math.MaxInt64), false
	_, err = c.scanRange(c.o.Registers.RegistersFrom(gen, tokens.First), gen, tokens, math.MaxInt, func(_ Register, s *paxos.State) {
		if damaged = damaged || s == nil; damaged {
			return
		}
		for _, p := range []*paxos.Proposal{&s.Committed, &s.Accepted} {
			if !p.Ballot.IsZero() {
				oldest = min(oldest, p.Origin.Micros)
			}
		}
	})
	if err == nil && damaged {
		err = errDamagedRegister
	}
	return oldest / 1e6, oldest != math.MaxInt64, err
}

var errDamagedRegister = errors.New("coordinator: a Paxos register does not decode")

// sweepOp reads nothing at the level that the register's last proposer used.
func (c *Coordinator) sweepOp(r *agedRegister) *casOp {
	w := &casOp{cmd: row.Command{Generation: r.Generation, Token: r.Token, Key: r.Key, StaticOnly: true, Limit: 1},
		serial: Serial, level: Any, readOnly: true}
	if r.state.Local {
		w.serial = LocalSerial
	}
	return w
}
