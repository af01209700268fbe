package node

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/helenusdb/helenus/meta"
	"github.com/helenusdb/helenus/meta/formation"
	"github.com/helenusdb/helenus/meta/raftlog"
	"github.com/helenusdb/helenus/repair/movement"
	"github.com/helenusdb/helenus/ring"
	"github.com/helenusdb/helenus/rpc"
	"github.com/helenusdb/helenus/storage"
)

// errLeft ends a node that is no member any more: cleanly, there is nothing to be done about it.
var errLeft = errors.New("node: it has left the cluster")

// errNeverJoined ends a node that was to join, or to replace another, and has left instead.
var errNeverJoined = &formation.Refused{Reason: "its operation was aborted, or it was removed; wipe its data folder to join as a new node", Left: true}

// moves tells whether this node can be sent rows, so that ranges can move.
func (n *Node) moves() bool {
	return n.mover != nil && n.log.Current().ClusterVersion >= meta.VersionMovement
}

// makeMover makes this node's part in movements, when there is something that brings rows.
func (n *Node) makeMover(context.Context) (err error) {
	if n.o.Filler == nil {
		return nil
	}
	n.mover, err = movement.New(movement.Options{Self: n.home.HostID, Log: n.log, Alive: n.alive, Filler: n.o.Filler(n), Store: fillRecords{n},
		Handover: n.handOver, Settled: n.settled, Owned: n.noteShardUse, Clean: n.clean, Logger: n.o.Logger})
	return err
}

func (n *Node) startMembership(context.Context) error {
	n.services.start("membership", n.watchMembership, nil)
	return nil
}

// startMover comes after catchUp: by metadata whose end is missing this node would take ranges that it owns, or has filled, for those of others or for
// empty ones, and delete them.
func (n *Node) startMover(context.Context) error {
	if n.mover != nil {
		n.services.start("movement", n.mover.Run, nil)
	}
	return nil
}

// fillRecords keeps what is filled in the node's own space.
type fillRecords struct{ n *Node }

var movementKey = []byte("movement")

func (f fillRecords) Load() ([]byte, error) {
	raw, _, err := f.n.engine.Space(storage.SpaceNode).Get(movementKey)
	return raw, err
}

// Save is durable under every commit_sync: a record that outlives the rows it speaks of would lose them.
func (f fillRecords) Save(ctx context.Context, records []byte) error {
	b := f.n.engine.NewBatch()
	if err := b.Set(storage.SpaceNode, movementKey, records); err != nil {
		b.Discard()
		return err
	}
	return commitSynced(ctx, func(c committed) { b.CommitSynced(c) })
}

// handoverEvery is how often a node that leaves looks whether its hints and batches have gone.
const handoverEvery = 200 * time.Millisecond

// handOver waits until no hint and no logged batch is left here that only this node would make good: hints go to nodes that stay, and batches that it
// has not replayed by itself.
func (n *Node) handOver(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, n.o.Config.HintWindow)
	defer cancel()
	for {
		waiting := false
		for _, id := range []storage.SpaceID{storage.SpaceHints, storage.SpaceBatchlog} {
			if err := n.engine.Space(id).Scan(nil, nil, func(_, _ []byte) bool { waiting = true; return false }); err != nil {
				return err
			}
		}
		if !waiting {
			return nil
		}
		if _, err := n.coord.HandOver(ctx); err != nil && ctx.Err() == nil {
			n.o.Logger.Debug("hints or batches could not be handed over yet", "err", err)
		}
		if sleep(ctx, handoverEvery); ctx.Err() != nil {
			return errors.New("node: hints or logged batches wait here for nodes that do not answer")
		}
	}
}

// settled returns when no request is under way that this node began to coordinate under an older RingEpoch than that of the switch, and no
// write of one is being applied here: every request ends with its deadline.
func (n *Node) settled(ctx context.Context, epoch uint64) error {
	if err := n.coord.Settled(ctx, epoch); err != nil {
		return err
	}
	return n.gate.drain(ctx, epoch)
}

// ownsEvery is how often a node that is sent its rows looks whether it owns its ranges.
const ownsEvery = 50 * time.Millisecond

// awaitRanges returns when this node owns its ranges, so that clients can be served: at once but for one that is being sent its rows.
func (n *Node) awaitRanges(ctx context.Context) error {
	said, asked := false, time.Now()
	for {
		s := n.log.Current()
		me := s.Node(n.home.HostID)
		switch {
		case me == nil || s.Owns(n.home.HostID):
			return nil
		case me.State == meta.Left || time.Since(asked) > leftEvery && n.refusedAsLeft(ctx, s):
			return errNeverJoined
		case n.mover == nil && me.State == meta.Pending:
			return &formation.Refused{Reason: "it was joining a cluster with rows, which this build cannot bring to it"}
		case me.State == meta.Leaving: // restarted while it leaves, after the switch: others are read already
			return nil
		}
		if !said {
			said = true
			n.o.Logger.Info("this node is sent its rows before it serves clients", "operation", fmt.Sprint(s.OperationOn(me.ID)))
		}
		if time.Since(asked) > leftEvery {
			asked = time.Now()
		}
		if sleep(ctx, ownsEvery); ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

// leftEvery is how often a node that is leaving asks whether it has left.
const leftEvery = time.Second

// watchMembership ends the node when it is no member any more. Once it has left nobody tells it: the others refuse its connections, and
// that is how it learns.
func (n *Node) watchMembership(ctx context.Context) error {
	t := time.NewTicker(leftEvery)
	defer t.Stop()
	gone := error(errNeverJoined)
	for {
		s := n.log.Current()
		me := s.Node(n.home.HostID)
		if me != nil && (me.State == meta.Normal || me.State == meta.Leaving) {
			gone = errLeft
		}
		if me != nil && me.State == meta.Leaving && s.Phase() == meta.Switched {
			n.refuseClients()
		}
		switch {
		case me == nil:
		case me.State == meta.Left,
			me.State == meta.Leaving && s.Phase() == meta.Switched && me.Switched == s.SwitchedAt && n.refusedAsLeft(ctx, s):
			n.left.Store(true)
			n.tellWatcher(ctx)
			n.services.fail("membership", gone)
			<-ctx.Done()
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
	}
}

// lastWord is how long a node that has left goes on answering who waits for that, and asked within watchedFor.
const (
	lastWord   = 2 * time.Second
	watchedFor = 5 * time.Second
)

// tellWatcher keeps the admin interface for a moment, when somebody waits there for this node's leaving.
func (n *Node) tellWatcher(ctx context.Context) {
	if at := n.watched.Load(); at != 0 && time.Since(time.Unix(0, at)) < watchedFor {
		sleep(ctx, lastWord)
	}
}

// refuseClients takes no new connections any more; those that are there are served until the movement has ended.
func (n *Node) refuseClients() {
	if s := n.cql.Load(); s != nil && s.server.Refuse() {
		n.o.Logger.Info("this node leaves the cluster and takes no new clients")
	}
}

func (n *Node) refusedAsLeft(ctx context.Context, s *meta.State) bool {
	for _, m := range s.Ring.Nodes() {
		if m.ID == n.home.HostID || !n.alive(m.ID) {
			continue
		}
		short, cancel := context.WithTimeout(ctx, leftEvery)
		err := n.log.CatchUp(short, m.ID)
		cancel()
		var no *rpc.Refusal
		if errors.As(err, &no) && no.Remote && no.Code == rpc.RefusedNotMember {
			return true
		}
	}
	return false
}

// replaces finds the host id of the node that this one was told to replace, in the state of a member.
func (n *Node) replaces(ctx context.Context, member ring.HostID) (ring.HostID, error) {
	if id, err := ring.ParseHostID(n.o.Replace); err == nil {
		return id, nil
	}
	raw, status, err := n.rpc.Call(ctx, member, rpc.Urgent, raftlog.VerbPull, binary.BigEndian.AppendUint64(nil, 0))
	if err != nil || status != rpc.StatusOK {
		return ring.HostID{}, fmt.Errorf("node: asking for the cluster's members: %s %w", status, err)
	}
	s, err := meta.DecodeState(raw)
	if err != nil {
		return ring.HostID{}, err
	}
	id, err := find(s, n.o.Replace, n.home.HostID)
	if err != nil {
		return ring.HostID{}, &formation.Refused{Reason: "replace: " + err.Error()}
	}
	return id, nil
}

// find returns the member that a host id or an address names. One who asks whom to replace, not, means neither itself nor an attempt at the same place
// that was given up: who is joining cannot be replaced.
func find(s *meta.State, name string, not ring.HostID) (ring.HostID, error) {
	id, notID := ring.ParseHostID(name)
	addr, notAddr := netip.ParseAddr(name)
	port, notPort := netip.ParseAddrPort(name)
	var found []ring.HostID
	for _, m := range s.Members() {
		switch {
		case m.ID == not, !not.IsZero() && m.State == meta.Pending:
		case notID == nil && m.ID == id, notAddr == nil && (m.Internode.Addr() == addr || m.Native.Addr() == addr), notPort == nil && (m.Internode == port || m.Native == port):
			found = append(found, m.ID)
		}
	}
	switch len(found) {
	case 0:
		return ring.HostID{}, fmt.Errorf("%q is no member of the cluster: give a host id or an address as helenus status shows it", name)
	case 1:
		return found[0], nil
	}
	return ring.HostID{}, fmt.Errorf("%q names %d members: give a host id", name, len(found))
}
