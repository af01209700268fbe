package node

import (
	"slices"
	"testing"

	"github.com/helenusdb/helenus/meta"
	"github.com/helenusdb/helenus/ring"
)

// TestLosses: a member that may have lost something is remembered after its state does not say so any more, until what was recorded of it is gone; and what
// sessions recorded that began before is not believed.
func TestLosses(t *testing.T) {
	a, b, c := ring.HostID{1}, ring.HostID{2}, ring.HostID{3}
	state := func(health ...meta.Health) *meta.State {
		s := &meta.State{}
		for i, id := range []ring.HostID{a, b, c} {
			s.Nodes = append(s.Nodes, meta.Node{ID: id, Generation: 7, Health: health[i]})
		}
		return s
	}
	sound := state(meta.Sound, meta.Sound, meta.Sound)
	suspect, healing := state(meta.Sound, meta.Suspect, meta.Sound), state(meta.Sound, meta.Healing, meta.Sound)
	var l losses
	if l.note(sound, sound, 1000) || l.after([]ring.HostID{a, b, c}, 0) {
		t.Error("nobody has lost anything")
	}
	if !l.note(sound, suspect, 1000) || l.note(suspect, healing, 1001) || l.note(healing, sound, 1002) {
		t.Error("one loss is one")
	}
	if got := l.open(); !slices.Equal(got, []ring.HostID{b}) {
		t.Errorf("to void: %v", got)
	}
	if !l.after([]ring.HostID{a, b}, 990) || !l.after([]ring.HostID{b}, 1000+lossMargin) || l.after([]ring.HostID{b}, 1001+lossMargin) || l.after([]ring.HostID{a, c}, 990) {
		t.Error("what began before a loss, or within the margin, is not believed")
	}
	l.voided(b)
	if len(l.open()) != 0 || !l.after([]ring.HostID{b}, 990) {
		t.Error("what was voided may be recorded anew by a session from before")
	}
	again := state(meta.Sound, meta.Suspect, meta.Sound)
	again.Nodes[1].Generation = 8
	if !l.note(suspect, again, 2000) || len(l.open()) != 1 || !l.after([]ring.HostID{b}, 1990) {
		t.Error("the next life has lost something too")
	}
}
