package gossip

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/helenusdb/helenus/ring"
)

// State is what is known about a node: a value, safe to keep.
type State struct {
	ID         ring.HostID
	Generation int64          // number of the node's current life; higher is newer
	Addr       netip.AddrPort // where it gossips
	Meta       NodeMeta       // what it said last; kept while it is down
	Alive      bool
	Left       bool      // down because it said so ("shutdown"), not because it was convicted
	Since      time.Time // when Alive last changed, by the local clock
}

// Detector is the failure detector that the rest of the system sees. Gossip and Static implement it. Implementations
// are safe for concurrent use; Alive takes no lock and does not allocate.
type Detector interface {
	// Alive tells whether the node is believed to be up. A node never heard of is not.
	Alive(id ring.HostID) bool
	// State returns what is known about one node.
	State(id ring.HostID) (State, bool)
	// Members returns all known nodes, dead ones included, sorted by id. The slice is the caller's.
	Members() []State
}

// Events are called when a node's state changes; nil functions are skipped. Calls come one at a time and in order for
// each node, from one goroutine that holds no lock; a slow callback delays later events but never gossip itself. States
// that changed several times meanwhile are reported once. A restart that was never seen as a death is reported as Down
// of the old generation, then Up of the new one.
type Events struct {
	Up     func(State)
	Down   func(State)
	Update func(State) // Meta or address changed while alive
	// Superseded is called when the local host id is in use with a higher generation: a copy of this node's data runs
	// elsewhere, or the local generation went backwards. The node should stop.
	Superseded func(State)
}

func (e Events) deliver(old State, known bool, now State) {
	restarted := known && old.Generation != now.Generation
	if known && old.Alive && (!now.Alive || restarted) && e.Down != nil {
		down := old
		if !restarted {
			down = now
		}
		down.Alive = false
		e.Down(down)
	}
	switch {
	case !now.Alive:
	case !known || !old.Alive || restarted:
		call(e.Up, now)
	case old.Meta != now.Meta || old.Addr != now.Addr:
		call(e.Update, now)
	}
}

func call(f func(State), s State) {
	if f != nil {
		f(s)
	}
}

// memberName is the identity given to memberlist: one name per life of a node.
func memberName(id ring.HostID, generation int64) string {
	return id.String() + "/" + strconv.FormatInt(generation, 10)
}

func parseMemberName(name string) (id ring.HostID, generation int64, err error) {
	host, gen, ok := strings.Cut(name, "/")
	if !ok {
		return id, 0, fmt.Errorf("gossip: %q is not host id/generation", name)
	}
	if id, err = ring.ParseHostID(host); err != nil {
		return id, 0, err
	}
	generation, err = strconv.ParseInt(gen, 10, 64)
	if err != nil || generation < 0 || memberName(id, generation) != name {
		return id, 0, fmt.Errorf("gossip: %q is not host id/generation", name)
	}
	return id, generation, nil
}
