package trace

import (
	"fmt"
	"net/netip"
	"sync"
	"time"
)

// eventsMax bounds one session; further events are counted only.
const eventsMax = 1000

// Event is one step.
type Event struct {
	At       time.Time
	Activity string
	Source   netip.AddrPort
	Elapsed  time.Duration // since the session began; at another node since the request arrived there
	Thread   string
}

// Session is the trace of one request. It is safe for concurrent use; all methods do nothing on nil.
type Session struct {
	ID          [16]byte // a time-based UUID
	Client      netip.Addr
	Coordinator netip.AddrPort
	Request     string // "Execute CQL3 query", ...
	Parameters  map[string]string
	Started     time.Time

	mu     sync.Mutex
	events []Event
	lost   int
	open   int           // replicas that may yet have something to tell
	over   func([]Event) // after Finish: told once what came later
}

// Event records a step of this node.
func (s *Session) Event(format string, args ...any) {
	if s == nil {
		return
	}
	now := time.Now()
	s.add(Event{At: now, Activity: fmt.Sprintf(format, args...), Source: s.Coordinator, Elapsed: now.Sub(s.Started), Thread: "coordinator"})
}

func (s *Session) add(events ...Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	kept := min(len(events), eventsMax-len(s.events))
	s.events = append(s.events, events[:kept]...)
	s.lost += len(events) - kept
}

// Events returns what was recorded so far, in order of arrival, and how many events were lost to the bound.
func (s *Session) Events() (events []Event, lost int) {
	if s == nil {
		return nil, 0
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Event(nil), s.events...), s.lost
}

// Hold says that an operation may have events to add after the request was answered, until Release.
func (s *Session) Hold() {
	if s == nil {
		return
	}
	s.mu.Lock()
	s.open++
	s.mu.Unlock()
}

// Release ends a Hold.
func (s *Session) Release() {
	if s == nil {
		return
	}
	s.mu.Lock()
	s.open--
	late := s.lateLocked()
	s.mu.Unlock()
	if late != nil {
		late()
	}
}

// Finish returns the events as Events does: the request is about to be answered. Those that are added later are given to
// late, once, when nothing holds the session any more; it must not block. late is not called when there are none.
func (s *Session) Finish(late func([]Event)) (events []Event, lost int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	events = s.events
	s.events = make([]Event, 0, 1)
	if s.open > 0 {
		s.over = late
	}
	return events, s.lost
}

// lateLocked returns what is to be called now that the last holder is gone; nil: nothing.
func (s *Session) lateLocked() func() {
	if s.open > 0 || s.over == nil || len(s.events) == 0 {
		return nil
	}
	over, events := s.over, s.events
	s.over, s.events = nil, nil
	return func() { over(events) }
}
