package node

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/helenusdb/helenus/coordinator"
	"github.com/helenusdb/helenus/meta"
	"github.com/helenusdb/helenus/meta/raftlog"
	"github.com/helenusdb/helenus/ring"
	"github.com/helenusdb/helenus/schema"
	"github.com/helenusdb/helenus/storage"
)

// This file binds the interfaces that components declare to the components that implement them.

// tables is storage's view of the catalog.
type tables struct{ log *raftlog.Service }

func (t tables) Table(gen schema.Generation) (*schema.Table, bool) {
	return t.log.Current().Catalog.TableByGeneration(gen)
}

// engine is storage as the coordinator sees it.
type engine struct {
	*storage.Engine
	gate  *gate
	votes *votes
}

// Suspect implements coordinator.Registers.
func (e engine) Suspect() bool { return e.Engine.Suspect() || e.votes.unsettled.Load() }

func (e engine) NewBatch() coordinator.Batch { return &batch{Batch: e.Engine.NewBatch(), gate: e.gate} }

func (e engine) WhenSynced(seq uint64, c coordinator.Committed) { e.Engine.WhenSynced(seq, c) }

func (e engine) ScanHints(start, end []byte, fn func(key, value []byte) bool) error {
	return e.Space(storage.SpaceHints).Scan(start, end, fn)
}

func (e engine) ScanBatchlog(start, end []byte, fn func(key, value []byte) bool) error {
	return e.Space(storage.SpaceBatchlog).Scan(start, end, fn)
}

func (e engine) NewRegisterBatch() coordinator.RegisterBatch {
	return &batch{Batch: e.Engine.NewBatch(), gate: e.gate}
}

func (e engine) RegistersFrom(gen schema.Generation, token ring.Token) []byte {
	return storage.RegistersFrom(gen, token)
}

func (e engine) ScanRegisters(at []byte, part byte, fn func(at coordinator.Register, value []byte) bool) ([]byte, error) {
	return e.Engine.ScanRegisters(at, part, func(h storage.RegisterHead) bool {
		return fn(coordinator.Register{Generation: h.Generation, Token: h.Token, Key: h.Key}, h.Value)
	})
}

var lowBoundKey = []byte("paxos low bound")

// lowBound returns what SetLowBound stored last; 0: nothing.
func (e engine) lowBound() (int64, error) {
	raw, found, err := e.Space(storage.SpaceNode).Get(lowBoundKey)
	if err != nil {
		return 0, fmt.Errorf("node: low bound of ballots: %w", err)
	}
	if !found || len(raw) != 8 {
		return 0, nil
	}
	return int64(binary.BigEndian.Uint64(raw)), nil
}

// isUnknownTable tells of refusals that newer metadata may end.
func isUnknownTable(err error) bool {
	return errors.Is(err, storage.ErrUnknownTable) || errors.Is(err, errJoining)
}

func isBatchFull(err error) bool { return errors.Is(err, storage.ErrTooLarge) }

func isInvalid(err error) bool {
	return errors.Is(err, storage.ErrBadMutation) || errors.Is(err, storage.ErrTooLarge)
}

// ddl is the metadata log as DDL statements see it.
type ddl struct{ n *Node }

func (d ddl) Current() *meta.State { return d.n.log.Current() }

// Change plans against the newest catalog, logs the changes and waits until every live node has applied them.
func (d ddl) Change(ctx context.Context, build func(*meta.State) (schema.Plan, error)) (schema.Plan, []string, error) {
	ctx, cancel := context.WithTimeout(ctx, d.n.o.Config.DDLTimeout)
	defer cancel()
	var plan schema.Plan
	moves := false
	s, err := d.n.log.Propose(ctx, func(s *meta.State) (*meta.Command, bool, error) {
		p, err := build(s)
		if err != nil || len(p.Changes) == 0 {
			plan = p
			return nil, false, err
		}
		plan, moves = p, d.n.moves()
		return &meta.Command{Kind: meta.Schema, Changes: p.Changes, Moves: moves}, true, nil
	})
	if err != nil || len(plan.Changes) == 0 {
		return plan, nil, err
	}
	if moves {
		plan.Warnings = slices.DeleteFunc(plan.Warnings, func(w string) bool { return w == schema.RepairWarning })
	}
	return plan, d.n.awaitAll(s), nil
}

// awaitAll waits until the live members have applied the state, and warns of those that have not.
func (n *Node) awaitAll(s *meta.State) (warnings []string) {
	ctx, cancel := context.WithTimeout(context.Background(), lagMax)
	defer cancel()
	var live []ring.HostID
	for _, m := range s.Members() {
		if n.alive(m.ID) {
			live = append(live, m.ID)
		}
	}
	for _, id := range n.log.AwaitAll(ctx, s.Epoch, live) {
		if n.alive(id) || id != n.home.HostID {
			warnings = append(warnings, fmt.Sprintf("Node %s has not applied the change within %s; it will when it is back", s.Node(id).Internode, lagMax))
		}
	}
	return warnings
}

// lagMax is how long a schema change waits for a node that does not answer.
const lagMax = 5 * time.Second
