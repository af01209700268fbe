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
	Elapsed  time.Duration // since the session began
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
}

// Event records a step of this node.
func (s *Session) Event(format string, args ...any) {
	if s == nil {
		return
	}
	s.add(s.Coordinator, fmt.Sprintf(format, args...))
}

// Remote records a step that another node told of.
func (s *Session) Remote(source netip.AddrPort, activity string) {
	if s != nil {
		s.add(source, activity)
	}
}

func (s *Session) add(source netip.AddrPort, activity string) {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.events) >= eventsMax {
		s.lost++
		return
	}
	s.events = append(s.events, Event{At: now, Activity: activity, Source: source, Elapsed: now.Sub(s.Started), Thread: "coordinator"})
}

// Events returns what was recorded so far, in order, and how many events were lost to the bound.
func (s *Session) Events() (events []Event, lost int) {
	if s == nil {
		return nil, 0
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Event(nil), s.events...), s.lost
}
