package node

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/helenusdb/helenus/gossip"
	"github.com/helenusdb/helenus/meta"
	"github.com/helenusdb/helenus/ring"
)

// told is a failure detector that says what it was told.
type told struct {
	Detector
	what *gossip.Static
}

func (d told) Alive(id ring.HostID) bool                 { return d.what.Alive(id) }
func (d told) State(id ring.HostID) (gossip.State, bool) { return d.what.State(id) }

// TestReachable_NewcomersAreSentToAtOnce: between the entry of a node that joins or replaces and its gossip, writes that have to reach it are not refused.
func TestReachable_NewcomersAreSentToAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		heard, unheard, old, stranger := ring.HostID{1}, ring.HostID{2}, ring.HostID{3}, ring.HostID{4}
		d := told{what: gossip.NewStatic(gossip.Events{})}
		var detector Detector = d
		n := &Node{}
		n.detector.Store(&detector)
		before := &meta.State{Nodes: []meta.Node{{ID: old, State: meta.Pending}}}
		after := &meta.State{Nodes: []meta.Node{{ID: heard, State: meta.Pending}, {ID: unheard, State: meta.Pending}, {ID: old, State: meta.Pending}}}
		n.newcomers.note(before, after)
		n.newcomers.note(after, after)
		for _, c := range []struct {
			id   ring.HostID
			want bool
		}{{heard, true}, {unheard, true}, {old, false}, {stranger, false}} {
			if got := n.reachable(c.id); got != c.want {
				t.Errorf("%s: %v", c.id, got)
			}
		}
		d.what.SetAlive(heard, true)
		d.what.SetAlive(heard, false)
		if n.reachable(heard) || !n.reachable(unheard) {
			t.Error("one whose death was heard of is not new")
		}
		time.Sleep(newcomerGrace + 1)
		if n.reachable(unheard) {
			t.Error("new for ever")
		}
		n.newcomers.note(before, &meta.State{Nodes: []meta.Node{{ID: stranger, State: meta.Pending}}})
		if !n.reachable(stranger) || len(*n.newcomers.since.Load()) != 1 {
			t.Error("the former ones are forgotten when another comes")
		}
	})
}
