package node

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/helenusdb/helenus/cql/system"
	"github.com/helenusdb/helenus/gossip"
	"github.com/helenusdb/helenus/meta"
	"github.com/helenusdb/helenus/ring"
)

// This file binds gossip: who is alive, and what this node says of itself.

func (n *Node) gossipAddr() netip.AddrPort {
	return netip.AddrPortFrom(n.o.Config.Internode().Addr(), uint16(n.o.Config.GossipPort))
}

// alive tells whether a member is believed to be up; this node is.
func (n *Node) alive(id ring.HostID) bool {
	if n.home != nil && id == n.home.HostID {
		return true
	}
	g := n.liveness()
	return g != nil && g.Alive(id)
}

// newcomerGrace is for how long a member that the log has just named is taken for alive although gossip has not brought it.
const newcomerGrace = 5 * time.Second

// newcomers tells since when members are known that the log has named lately. A newcomer writes its own entry, so it was there a moment ago; without
// this, writes that have to reach it would be refused until gossip has it too.
type newcomers struct {
	since atomic.Pointer[map[ring.HostID]time.Time]
}

// note takes down who is new.
func (c *newcomers) note(before, after *meta.State) {
	var since map[ring.HostID]time.Time
	now := time.Now()
	for i := range after.Nodes {
		m := &after.Nodes[i]
		if m.State != meta.Pending || before.Node(m.ID) != nil {
			continue
		}
		if since == nil {
			since = map[ring.HostID]time.Time{}
			if old := c.since.Load(); old != nil {
				maps.Copy(since, *old)
				maps.DeleteFunc(since, func(_ ring.HostID, at time.Time) bool { return now.Sub(at) > newcomerGrace })
			}
		}
		since[m.ID] = now
	}
	if since != nil {
		c.since.Store(&since)
	}
}

func (c *newcomers) has(id ring.HostID) bool {
	since := c.since.Load()
	if since == nil {
		return false
	}
	at, ok := (*since)[id]
	return ok && time.Since(at) <= newcomerGrace
}

// reachable tells whether requests are sent to a member: it is alive, or so new that gossip has not heard of it.
func (n *Node) reachable(id ring.HostID) bool {
	if n.alive(id) {
		return true
	}
	if !n.newcomers.has(id) {
		return false
	}
	_, heard := n.liveness().State(id)
	return !heard
}

// liveness returns the failure detector, nil before it runs.
func (n *Node) liveness() Detector {
	if g := n.detector.Load(); g != nil {
		return *g
	}
	return nil
}

// forgetWhenGone has gossip forget a member that has left, once it has ended, so that its address is not contacted for ever.
func (n *Node) forgetWhenGone(id ring.HostID) {
	g := n.liveness()
	if g == nil || id == n.home.HostID {
		return
	}
	n.goLife(func() {
		t := time.NewTicker(time.Second)
		defer t.Stop()
		for g.Alive(id) {
			select {
			case <-n.life.Done():
				return
			case <-t.C:
			}
		}
		g.Forget(id)
	})
}

func (n *Node) downSince(id ring.HostID) time.Time {
	g := n.liveness()
	if g == nil {
		return n.started
	}
	s, ok := g.State(id)
	switch {
	case !ok:
		return n.started
	case s.Alive:
		return time.Time{}
	}
	return s.Since
}

func (n *Node) gossipPeers() []string {
	var out []string
	for _, m := range n.log.Current().Members() {
		if m.ID != n.home.HostID {
			out = append(out, m.Gossip.String())
		}
	}
	return out
}

func (n *Node) nodeMeta() gossip.NodeMeta {
	s := n.log.Current()
	return gossip.NodeMeta{Epoch: s.Epoch, DC: n.self.DC, Rack: n.self.Rack, Internode: n.self.Internode, Admin: n.o.Config.Admin(),
		SchemaVersion: s.Catalog.Version, Version: system.ReleaseVersion}
}

// gossipJoinTime bounds how long a start waits for other members' liveness.
const gossipJoinTime = 2 * time.Second

func (n *Node) startGossip(ctx context.Context) error {
	c := n.o.Config
	key, err := c.GossipKeyBytes()
	if err != nil {
		return fmt.Errorf("node: gossip_encryption_key: %w", err)
	}
	var keys [][]byte
	if key != nil {
		keys = [][]byte{key}
	}
	s := n.log.Current()
	g, err := n.o.Detector(gossip.Options{HostID: n.home.HostID, Generation: n.home.Generation, ClusterID: fmt.Sprintf("%x", s.ClusterID),
		Bind: c.Gossip(), Advertise: n.gossipAddr(), Seeds: n.gossipPeers(), Keys: keys, Meta: n.nodeMeta(),
		Events: gossip.Events{Up: n.memberUp, Down: n.memberDown, Update: n.memberUpdate, Superseded: n.superseded}, Now: n.o.Now, Logger: n.o.Logger})
	if err != nil {
		return err
	}
	n.services.start("failure detector", g.Run, nil)
	select {
	case <-g.Ready():
	case <-n.services.failed:
		return n.services.failure
	case <-ctx.Done():
		return ctx.Err()
	}
	n.detector.Store(&g)
	if peers := n.gossipPeers(); len(peers) > 0 {
		join, cancel := context.WithTimeout(ctx, gossipJoinTime)
		defer cancel()
		if reached, err := g.Join(join, peers); reached == 0 {
			n.o.Logger.Warn("no other member answers yet; this node serves what it holds", "err", err)
		}
	}
	n.services.start("gossip facts", n.keepFacts, nil)
	return nil
}

// keepFacts spreads this node's epoch, schema version and load.
func (n *Node) keepFacts(ctx context.Context) error {
	t := time.NewTicker(time.Second)
	defer t.Stop()
	var last gossip.NodeMeta
	for i := 0; ; i++ {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
		m := n.nodeMeta()
		m.LoadBytes = last.LoadBytes
		if i%10 == 0 {
			m.LoadBytes = n.engine.Stats().DiskBytes
		}
		select {
		case <-n.ready:
			m.Native, m.Phase = n.self.Native, gossip.Normal
		default:
		}
		if m == last {
			continue
		}
		last = m
		if err := n.liveness().UpdateMeta(m); err != nil {
			n.o.Logger.Warn("facts about this node were not spread", "err", err)
		}
	}
}

func (n *Node) memberUp(s gossip.State) {
	if s.ID == n.home.HostID {
		return
	}
	n.o.Logger.Info("/" + n.internodeOf(s).String() + " is now UP")
	n.rpc.Nudge(s.ID)
	n.coord.Hints().Nudge()
	if n.mover != nil {
		n.mover.Nudge()
	}
	if c := n.cql.Load(); c != nil {
		c.up(s)
	}
}

func (n *Node) memberDown(s gossip.State) {
	if s.ID == n.home.HostID {
		return
	}
	n.o.Logger.Info("/"+n.internodeOf(s).String()+" is now DOWN", "left", s.Left)
	if c := n.cql.Load(); c != nil {
		c.down(s)
	}
}

func (n *Node) memberUpdate(s gossip.State) {
	if c := n.cql.Load(); c != nil && s.ID != n.home.HostID {
		c.up(s)
	}
	if s.Meta.Epoch > n.log.Current().Epoch {
		n.hearEpoch(s.ID, s.Meta.Epoch)
	}
}

func (n *Node) internodeOf(s gossip.State) netip.AddrPort {
	if m := n.log.Current().Node(s.ID); m != nil {
		return m.Internode
	}
	return s.Meta.Internode
}

// superseded: another process runs with this host id and a newer generation.
func (n *Node) superseded(s gossip.State) {
	n.services.fail("failure detector", fmt.Errorf("another process with host id %s and a newer generation runs at %s: this one stops", s.ID, s.Addr))
}

// goodbyeTime bounds how long the others are told.
const goodbyeTime = 2 * time.Second

func (n *Node) sayGoodbye(gentle context.Context) {
	ctx, cancel := context.WithTimeout(gentle, goodbyeTime)
	defer cancel()
	if err := n.liveness().Leave(ctx); err != nil {
		n.o.Logger.Debug("leaving gossip", "err", err)
	}
}
