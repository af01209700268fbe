package gossip

import (
	"slices"
	"sync"
	"sync/atomic"

	"github.com/helenusdb/helenus/ring"
)

// Static is a Detector that believes what it is told: for tests and the simulator. It is deterministic: events are
// delivered before the setter returns, on the caller's goroutine and without a lock, so callbacks may set too. Setters
// called at the same time from several goroutines are safe, but then the order of events is not defined.
type Static struct {
	events Events
	view   atomic.Pointer[snapshot]
	mu     sync.Mutex // serializes the setters' read-modify-write of view
}

// NewStatic returns a detector that knows the given states; no event is delivered for them.
func NewStatic(events Events, states ...State) *Static {
	s := &Static{events: events}
	s.view.Store(newSnapshot(states))
	return s
}

// SetAlive changes whether a node is believed to be up, adding it if it was unknown.
func (s *Static) SetAlive(id ring.HostID, alive bool) {
	s.change(id, func(st State, _ bool) (State, bool) {
		st.ID, st.Alive = id, alive
		return st, true
	})
}

// Set replaces what is known about st.ID.
func (s *Static) Set(st State) {
	s.change(st.ID, func(State, bool) (State, bool) { return st, true })
}

// Remove forgets a node, reporting it down first if it was up.
func (s *Static) Remove(id ring.HostID) {
	s.change(id, func(st State, known bool) (State, bool) {
		st.Alive = false
		return st, false
	})
}

func (s *Static) change(id ring.HostID, f func(old State, known bool) (now State, keep bool)) {
	s.mu.Lock()
	old, known := s.State(id)
	now, keep := f(old, known)
	states := slices.DeleteFunc(s.Members(), func(o State) bool { return o.ID == id })
	if keep {
		states = append(states, now)
	}
	s.view.Store(newSnapshot(states))
	s.mu.Unlock()
	s.events.deliver(old, known, now)
}

// Alive implements Detector.
func (s *Static) Alive(id ring.HostID) bool { return s.view.Load().alive(id) }

// State implements Detector.
func (s *Static) State(id ring.HostID) (State, bool) { return s.view.Load().state(id) }

// Members implements Detector.
func (s *Static) Members() []State { return slices.Clone(s.view.Load().states) }

// snapshot is an immutable set of states, sorted by id.
type snapshot struct {
	states []State
	index  map[ring.HostID]int32
}

func newSnapshot(states []State) *snapshot {
	n := &snapshot{states: slices.Clone(states), index: make(map[ring.HostID]int32, len(states))}
	slices.SortFunc(n.states, func(a, b State) int { return a.ID.Compare(b.ID) })
	for i := range n.states {
		n.index[n.states[i].ID] = int32(i)
	}
	return n
}

func (n *snapshot) alive(id ring.HostID) bool {
	i, ok := n.index[id]
	return ok && n.states[i].Alive
}

func (n *snapshot) state(id ring.HostID) (State, bool) {
	i, ok := n.index[id]
	if !ok {
		return State{}, false
	}
	return n.states[i], true
}
