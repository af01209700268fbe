package gossip

import (
	"net/netip"
	"time"

	"github.com/hashicorp/memberlist"
)

// delegate receives memberlist's callbacks, most of them under memberlist's lock.
type delegate struct{ g *Gossip }

// NotifyAlive implements memberlist.AliveDelegate: it refuses members that are no nodes of ours and former lives.
func (d delegate) NotifyAlive(n *memberlist.Node) error {
	st, err := decodeNode(n)
	if err != nil {
		return err
	}
	d.g.mu.Lock()
	defer d.g.mu.Unlock()
	if err := d.g.view.admit(st.ID, st.Generation); err != nil {
		return err
	}
	if st.ID == d.g.opts.HostID && st.Generation > d.g.opts.Generation {
		d.g.view.challenge(st)
		nudge(d.g.changed)
		return errSelf
	}
	return nil
}

// NotifyJoin implements memberlist.EventDelegate.
func (d delegate) NotifyJoin(n *memberlist.Node) { d.up(n) }

// NotifyUpdate implements memberlist.EventDelegate.
func (d delegate) NotifyUpdate(n *memberlist.Node) { d.up(n) }

// NotifyLeave implements memberlist.EventDelegate; it is called for the dead too.
func (d delegate) NotifyLeave(n *memberlist.Node) {
	id, generation, err := parseMemberName(n.Name)
	if err != nil {
		return
	}
	d.g.change(func(v *view, now time.Time) { v.down(id, generation, now) })
}

func (d delegate) up(n *memberlist.Node) {
	st, err := decodeNode(n)
	if err != nil || st.ID == d.g.opts.HostID {
		return
	}
	d.g.change(func(v *view, now time.Time) { v.up(st, now) })
}

// NodeMeta implements memberlist.Delegate.
func (d delegate) NodeMeta(int) []byte { return *d.g.meta.Load() }

// NotifyMsg implements memberlist.Delegate; no user messages are sent.
func (d delegate) NotifyMsg([]byte) {}

// GetBroadcasts implements memberlist.Delegate.
func (d delegate) GetBroadcasts(int, int) [][]byte { return nil }

// LocalState implements memberlist.Delegate.
func (d delegate) LocalState(bool) []byte { return nil }

// MergeRemoteState implements memberlist.Delegate.
func (d delegate) MergeRemoteState([]byte, bool) {}

// decodeNode reads a member from outside; anything malformed is an error.
func decodeNode(n *memberlist.Node) (State, error) {
	id, generation, err := parseMemberName(n.Name)
	if err != nil {
		return State{}, err
	}
	addr, ok := nodeAddr(n)
	if !ok {
		return State{}, errUnspecified
	}
	meta, err := DecodeMeta(n.Meta)
	if err != nil {
		return State{}, err
	}
	return State{ID: id, Generation: generation, Addr: addr, Meta: meta}, nil
}

func nodeAddr(n *memberlist.Node) (netip.AddrPort, bool) {
	ip, ok := netip.AddrFromSlice(n.Addr)
	return netip.AddrPortFrom(ip.Unmap(), n.Port), ok && n.Port != 0
}
