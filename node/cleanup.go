package node

import (
	"context"
	"errors"
	"fmt"
	"net/url"

	"github.com/helenusdb/helenus/admin"
	"github.com/helenusdb/helenus/internal/planted"
	"github.com/helenusdb/helenus/meta"
	"github.com/helenusdb/helenus/ring"
	"github.com/helenusdb/helenus/schema"
)

// This file deletes what a node has of ranges that it has lost: by itself after a movement, and by command what it was to keep because the movement was forced.

// clean is movement.Options.Clean. What this node lost in a movement that was forced it keeps: nobody may have compared it, so it may be the only one that has it.
func (n *Node) clean(ctx context.Context, s *meta.State) error {
	if err := n.forgetStreams(ctx, 0); err != nil {
		return err
	}
	if me := s.Node(n.home.HostID); me != nil && me.Keeps {
		if n.keptSince.Swap(s.RingEpoch) != s.RingEpoch {
			n.o.Logger.Warn("this node lost ranges in a movement that was forced, and keeps what it has of them until it is told to clean up: helenus cleanup")
		}
		return nil
	}
	_, err := n.removeForeign(ctx, s, "", nil)
	return err
}

// removeForeign deletes what this node has of ranges that are not its own by the state, in which nothing moves: of all keyspaces, or of one, or of some of its tables. It returns
// in how many tables there was something.
func (n *Node) removeForeign(ctx context.Context, s *meta.State, keyspace string, tables []string) (cleaned int, err error) {
	still := func() bool { now := n.log.Current(); return now.Phase() == meta.None && now.RingEpoch == s.RingEpoch }
	for _, ks := range s.Catalog.Keyspaces() {
		p := s.Placement(ks.Name)
		if p == nil || keyspace != "" && ks.Name != keyspace {
			continue
		}
		if planted.On(planted.CleanedBeforeSwitch) {
			p, still = s.After(ks.Name), func() bool { return true }
		}
		self, member := p.Ring().Node(n.home.HostID)
		if !member {
			return 0, nil // it has not joined yet, or has left
		}
		foreign := ring.Subtract([]ring.Range{ring.FullRange()}, p.Ranges(self))
		for _, t := range wanted(ks, tables) {
			found, err := n.cleanTable(t, foreign, still)
			if found {
				cleaned++
			}
			if err := errors.Join(ctx.Err(), err); err != nil {
				return cleaned, err
			}
		}
	}
	return cleaned, nil
}

// wanted returns the tables of a keyspace with those names, all of them when there are none.
func wanted(ks *schema.Keyspace, names []string) []*schema.Table {
	if len(names) == 0 {
		return ks.Tables()
	}
	var out []*schema.Table
	for _, name := range names {
		if t, ok := ks.Table(name); ok {
			out = append(out, t)
		}
	}
	return out
}

func (n *Node) cleanTable(t *schema.Table, foreign []ring.Range, still func() bool) (found bool, err error) {
	if len(foreign) == 0 || !still() {
		return false, nil
	}
	found, err = n.engine.ClearRanges(t.Generation, foreign, still)
	if found && err == nil {
		n.o.Logger.Info("rows of ranges that this node does not own any more removed", "keyspace", t.Keyspace, "table", t.Name, "ranges", len(foreign))
	}
	return found, err
}

// CleanupStatus is what a cleanup has done.
type CleanupStatus struct {
	Tables int `json:"tables"` // that had rows of ranges which the node does not own
	// Kept tells that this node still keeps rows of ranges that it lost in a movement that was forced: only some tables were cleaned up.
	Kept bool `json:"kept,omitempty"`
}

// Cleanup deletes what this node has of ranges that it does not own: of all keyspaces, of one, or of some of its tables. When it was all of them, what this node was to keep is
// gone, and it cleans up by itself again. Errors: *meta.Refused while ranges move or of what does not exist; ctx's; the store's.
func (n *Node) Cleanup(ctx context.Context, keyspace string, tables []string) (out CleanupStatus, err error) {
	if err := n.cleanable(keyspace, tables); err != nil {
		return out, err
	}
	err = n.mover.Apart(ctx, func(ctx context.Context) error {
		s := n.log.Current()
		if s.Phase() != meta.None {
			return errMoving
		}
		if out.Tables, err = n.removeForeign(ctx, s, keyspace, tables); err != nil || keyspace != "" {
			return err
		}
		return n.reportCleaned(ctx, s.RingEpoch)
	})
	if errors.Is(err, context.DeadlineExceeded) {
		err = errMoving // it fills ranges
	}
	me := n.log.Current().Node(n.home.HostID)
	out.Kept = me != nil && me.Keeps
	return out, err
}

var errMoving = &meta.Refused{Reason: "ranges are changing hands: clean up when that has ended (helenus operations)"}

// cleanable says why what is asked for cannot be cleaned up.
func (n *Node) cleanable(keyspace string, tables []string) error {
	s := n.log.Current()
	switch ks, ok := s.Catalog.Keyspace(keyspace); {
	case n.mover == nil:
		return &meta.Refused{Reason: errNoMovement.Error()}
	case keyspace != "" && !ok:
		return &meta.Refused{Reason: fmt.Sprintf("keyspace %q does not exist", keyspace)}
	default:
		for _, name := range tables {
			if _, ok := ks.Table(name); !ok {
				return &meta.Refused{Reason: fmt.Sprintf("table %q does not exist in keyspace %q", name, keyspace)}
			}
		}
	}
	return nil
}

// reportCleaned tells the log that nothing is kept here any more, if it is said to be, and if nothing has moved since.
func (n *Node) reportCleaned(ctx context.Context, ringEpoch uint64) error {
	_, err := n.log.Propose(ctx, func(s *meta.State) (*meta.Command, bool, error) {
		if me := s.Node(n.home.HostID); me == nil || !me.Keeps {
			return nil, false, nil
		}
		if s.RingEpoch != ringEpoch || s.Phase() != meta.None {
			return nil, false, &meta.Refused{Reason: "ranges have moved meanwhile: clean up again"}
		}
		return &meta.Command{Kind: meta.ReportCleaned, Node: meta.Node{ID: n.home.HostID}, BaseEpoch: s.Epoch}, true, nil
	})
	return err
}

func (n *Node) cleanupEndpoint() admin.Endpoint {
	return ordered("POST", "cleanup", func(ctx context.Context, args url.Values) (any, error) {
		if args.Get("keyspace") == "" && len(args["table"]) > 0 {
			return nil, errors.New("tables need a keyspace")
		}
		return n.Cleanup(ctx, args.Get("keyspace"), args["table"])
	})
}
