package gossip

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/helenusdb/helenus/ring"
)

var (
	errStale       = errors.New("gossip: message about a former life of the node")
	errTooMany     = errors.New("gossip: too many members")
	errSelf        = errors.New("gossip: the local host id is in use elsewhere")
	errUnspecified = errors.New("gossip: member without an address")
)

// view is what the local node believes, as pure code: no clock, no lock, no I/O. It folds memberlist's members, which
// are lives of nodes, into nodes. Invariants: a record's generation never falls; a record that is held is published
// alive but heard of as dead.
type view struct {
	self       State
	membersMax int
	records    map[ring.HostID]*record
	holdUntil  time.Time     // convictions before this instant are held
	dirty      []ring.HostID // nodes whose published state has not been delivered yet, oldest first, each once
	rival      *State        // a newer life of the local node, not yet delivered
	rivalSeen  int64         // its generation
}

type record struct {
	heard     State // what memberlist says of the newest life
	published State // what the rest of the system sees
	delivered State // what the callbacks were told
	known     bool  // delivered is valid
	held      bool  // convicted during a hold
	queued    bool  // in dirty
	forgotten bool  // to be removed once delivered
}

func newView(self State, membersMax int) *view {
	return &view{self: self, membersMax: membersMax, records: make(map[ring.HostID]*record)}
}

// admit tells whether a message that a member is alive may be believed at all.
func (v *view) admit(id ring.HostID, generation int64) error {
	if id == v.self.ID {
		if generation < v.self.Generation {
			return errStale
		}
		return nil
	}
	r := v.records[id]
	if r == nil {
		if len(v.records) >= v.membersMax {
			return fmt.Errorf("%w: the limit is %d", errTooMany, v.membersMax)
		}
		return nil
	}
	if generation < r.heard.Generation {
		return errStale
	}
	return nil
}

// up records that the life st.Generation of a node is alive, with its newest facts.
func (v *view) up(st State, now time.Time) {
	if st.ID == v.self.ID {
		v.challenge(st)
		return
	}
	if v.admit(st.ID, st.Generation) != nil {
		return
	}
	r := v.records[st.ID]
	if r == nil {
		r = &record{}
		v.records[st.ID] = r
	}
	st.Alive, st.Left, st.Since = true, false, now
	if r.published.Alive && r.published.Generation == st.Generation {
		st.Since = r.published.Since
	}
	r.heard, r.held, r.forgotten = st, false, false
	v.publish(r)
}

// challenge notes a life of the local host id that is newer than this process.
func (v *view) challenge(st State) {
	if st.Generation > v.self.Generation && st.Generation > v.rivalSeen {
		v.rival, v.rivalSeen = &st, st.Generation
	}
}

// down records that a life has ended. Messages about former lives change nothing. It was a farewell if the node had
// said that it drains; memberlist does not tell. A conviction during a hold is kept back until tick finds the hold
// over; a farewell is not.
func (v *view) down(id ring.HostID, generation int64, now time.Time) {
	r := v.records[id]
	if r == nil || generation != r.heard.Generation || !r.heard.Alive {
		return
	}
	left := r.heard.Meta.Phase == Draining
	r.heard.Alive, r.heard.Left, r.heard.Since = false, left, now
	if !left && now.Before(v.holdUntil) {
		r.held = true
		return
	}
	v.publish(r)
}

// hold keeps convictions back until the given instant.
func (v *view) hold(until time.Time) {
	if until.After(v.holdUntil) {
		v.holdUntil = until
	}
}

// tick publishes the convictions whose hold is over.
func (v *view) tick(now time.Time) {
	if now.Before(v.holdUntil) {
		return
	}
	for _, id := range v.ids() {
		if r := v.records[id]; r.held {
			r.held = false
			v.publish(r)
		}
	}
}

// forget drops a node; if it was alive it is reported down first.
func (v *view) forget(id ring.HostID) {
	r := v.records[id]
	if r == nil {
		return
	}
	r.heard.Alive, r.held, r.forgotten = false, false, true
	v.publish(r)
}

func (v *view) publish(r *record) {
	r.published = r.heard
	if !r.queued {
		r.queued = true
		v.dirty = append(v.dirty, r.heard.ID)
	}
}

// next takes the oldest change that was not delivered. False if there is none.
func (v *view) next() (old State, known bool, now State, ok bool) {
	if len(v.dirty) == 0 {
		return State{}, false, State{}, false
	}
	id := v.dirty[0]
	v.dirty = slices.Delete(v.dirty, 0, 1)
	r := v.records[id]
	old, known, now = r.delivered, r.known, r.published
	r.delivered, r.known, r.queued = r.published, true, false
	if r.forgotten {
		delete(v.records, id)
	}
	return old, known, now, true
}

// takeRival returns the newer life of the local node once.
func (v *view) takeRival() (State, bool) {
	if v.rival == nil {
		return State{}, false
	}
	st := *v.rival
	v.rival = nil
	return st, true
}

// snapshot returns the published states, the local node included.
func (v *view) snapshot() *snapshot {
	states := make([]State, 0, len(v.records)+1)
	for _, id := range v.ids() {
		if r := v.records[id]; !r.forgotten {
			states = append(states, r.published)
		}
	}
	return newSnapshot(append(states, v.self))
}

func (v *view) ids() []ring.HostID {
	out := make([]ring.HostID, 0, len(v.records))
	for id := range v.records {
		out = append(out, id)
	}
	slices.SortFunc(out, ring.HostID.Compare)
	return out
}
