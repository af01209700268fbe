package gossip

import (
	"slices"
	"testing"
)

var (
	_ Detector = (*Static)(nil)
	_ Detector = (*Gossip)(nil)
)

func TestStatic(t *testing.T) {
	var got []string
	var s *Static
	note := func(what string) func(State) {
		return func(st State) {
			if s.Alive(st.ID) != st.Alive {
				t.Errorf("%s of %s is delivered before it is visible", what, st.ID)
			}
			got = append(got, what)
		}
	}
	s = NewStatic(Events{Up: note("up"), Down: note("down"), Update: note("update")}, State{ID: hostID(2), Alive: true})
	if !s.Alive(hostID(2)) || s.Alive(hostID(1)) {
		t.Error("initial states")
	}
	s.SetAlive(hostID(1), true)
	s.SetAlive(hostID(1), true)
	s.SetAlive(hostID(2), false)
	s.SetAlive(hostID(3), false)
	st := State{ID: hostID(1), Alive: true}
	st.Meta.Epoch = 3
	s.Set(st)
	s.Remove(hostID(1))
	s.Remove(hostID(1))
	if want := []string{"up", "down", "update", "down"}; !slices.Equal(got, want) {
		t.Errorf("events %v, want %v", got, want)
	}
	if m := s.Members(); len(m) != 2 || m[0].ID != hostID(2) || m[1].ID != hostID(3) || m[0].Alive {
		t.Errorf("members %+v", m)
	}
	if _, ok := s.State(hostID(1)); ok {
		t.Error("removed node is known")
	}
}

func TestStaticCallbacksMaySet(t *testing.T) {
	var s *Static
	s = NewStatic(Events{Down: func(st State) { s.SetAlive(hostID(9), true) }}, State{ID: hostID(1), Alive: true})
	s.SetAlive(hostID(1), false)
	if !s.Alive(hostID(9)) {
		t.Error("set from a callback is lost")
	}
}

func TestAliveDoesNotAllocate(t *testing.T) {
	s := NewStatic(Events{}, State{ID: hostID(1), Alive: true})
	if n := testing.AllocsPerRun(100, func() { _ = s.Alive(hostID(1)) }); n != 0 {
		t.Errorf("%g allocations", n)
	}
}
