package node

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/helenusdb/helenus/meta"
	"github.com/helenusdb/helenus/repair/movement"
	"github.com/helenusdb/helenus/ring"
)

// This file shows operations to who waits for them: how far every node has come, how each has ended, and what it costs to force one.

// NodeProgress is how far a node has come that has to report.
type NodeProgress struct {
	HostID   string `json:"host_id"`
	Address  string `json:"address"`
	Up       bool   `json:"up"`
	Reported bool   `json:"reported"` // it has what it gains under the present plan
	FillStatus
	// Unknown is why it did not say how far it is; empty: it said.
	Unknown string `json:"unknown,omitempty"`
}

// The outcomes of an operation.
const (
	OutcomeUnderWay = "under way"
	OutcomeDone     = "done"
	OutcomeAborted  = "aborted"
)

// progressTime bounds how long other nodes are waited for that are asked how far they are.
const progressTime = time.Second

// watchOperations answers GET operations: what Operations says, how far each node is, and the outcome of each operation that the query names (of: the
// JSON of an OperationStatus as it was told when it began).
func (n *Node) watchOperations(ctx context.Context, args url.Values) (any, error) {
	out := n.Operations()
	s := n.log.Current()
	for _, raw := range args["of"] {
		var o OperationStatus
		if err := json.Unmarshal([]byte(raw), &o); err != nil {
			return nil, fmt.Errorf("%q is no operation: %w", raw, err)
		}
		n.watched.Store(time.Now().UnixNano())
		was := outcome(s, &o)
		if n.left.Load() && was == OutcomeUnderWay { // it has left at the end of the movement, and hears no more
			was = OutcomeDone
		}
		out.Outcomes = append(out.Outcomes, was)
	}
	out.Nodes = n.progressOf(ctx, s)
	return out, nil
}

// fillStatus is how far this node is; nil when it fills nothing.
func (n *Node) fillStatus() *FillStatus {
	if n.mover == nil {
		return nil
	}
	p := n.mover.Progress()
	if p.Plan == 0 || p.Total == 0 {
		return nil
	}
	return &FillStatus{p.Done, p.Total, p.Bytes, p.Waits, p.Failed}
}

// progressOf asks the nodes that have to report how far they are, all at once; by address.
func (n *Node) progressOf(ctx context.Context, s *meta.State) []NodeProgress {
	ids := s.Reporters()
	if s.Phase() == meta.Switched {
		ids = s.Uncompared()
	}
	ctx, cancel := context.WithTimeout(ctx, progressTime)
	defer cancel()
	out := make([]NodeProgress, len(ids))
	var wg sync.WaitGroup
	for i, id := range ids {
		m := s.Node(id)
		p := &out[i]
		*p = NodeProgress{HostID: id.String(), Address: m.Internode.Addr().String(), Up: n.alive(id), Reported: s.Phase() == meta.Filling && m.Filled == s.Plan}
		if !p.Up {
			p.Unknown = "it is down"
			continue
		}
		wg.Go(func() {
			raw, fault := n.onMember(ctx, id, doProgress, nil)
			var f *FillStatus
			if err := json.Unmarshal(raw, &f); fault == "" && err != nil {
				fault = err.Error()
			}
			if p.Unknown = fault; f != nil {
				p.FillStatus = *f
			}
		})
	}
	wg.Wait()
	slices.SortFunc(out, func(a, b NodeProgress) int { return strings.Compare(a.Address+a.HostID, b.Address+b.HostID) })
	return out
}

// outcome tells from the state how an operation stands that was told when it began: what it was to change is so, or as before.
func outcome(s *meta.State, o *OperationStatus) string {
	if s.Epoch < o.ID || s.Operation(o.ID) != nil {
		return OutcomeUnderWay
	}
	done := false
	if o.Kind == meta.Replication.String() {
		ks, there := s.Catalog.Keyspace(o.Keyspace)
		done = !there || ks.Strategy.String() != o.Held
	} else {
		id, err := ring.ParseHostID(o.HostID)
		m := s.Node(id)
		switch {
		case err != nil || m == nil:
		case o.Kind == meta.Decommission.String(), o.Kind == meta.Remove.String():
			done = m.State == meta.Left
		case o.Kind == meta.Move.String():
			done = slices.Equal(m.Tokens, o.Tokens)
		default: // it joins, or replaces another
			done = m.State != meta.Left && m.State != meta.Pending
		}
	}
	if done {
		return OutcomeDone
	}
	return OutcomeAborted
}

// ForcePreview is what forcing an operation gives up, as far as this node knows who is alive. It is about all operations that are under way: they share
// one movement.
type ForcePreview struct {
	Operation OperationStatus `json:"operation"`
	Losses    []ForcedLoss    `json:"losses"`
	Stale     string          `json:"stale,omitempty"` // once reads have moved: why it cannot end
}

// ForcedLoss is what is given up in a keyspace.
type ForcedLoss struct {
	Keyspace string   `json:"keyspace"`
	Ranges   int      `json:"ranges"` // too few of their replicas are alive to know every write
	Gone     int      `json:"gone"`   // of them, those of which no replica is alive
	Down     []string `json:"down"`   // addresses of their replicas that are down
}

// forcePreview answers GET operations/force: what the operation with that id would give up.
func (n *Node) forcePreview(_ context.Context, args url.Values) (any, error) {
	id, err := operationID(args)
	if err != nil {
		return nil, err
	}
	s := n.log.Current()
	o := s.Operation(id)
	if o == nil {
		return nil, fmt.Errorf("operation %d is not under way", id)
	}
	out := ForcePreview{Operation: operationStatus(s, o), Losses: []ForcedLoss{}, Stale: n.Operations().Stale}
	for _, l := range movement.Losses(s, n.alive) {
		f := ForcedLoss{Keyspace: l.Keyspace, Ranges: l.Ranges, Gone: l.Gone}
		for _, id := range l.Down {
			f.Down = append(f.Down, s.Node(id).Internode.Addr().String())
		}
		out.Losses = append(out.Losses, f)
	}
	return out, nil
}
