package trace

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"
)

// Bounds of what one node adds to the trace of another's request.
const (
	logEventsMax = 64
	logTextMax   = 512 // bytes of one event's text
)

// Log collects what this node does for the traced request of another, which gets it with the answer. It is safe for
// concurrent use; all methods do nothing on nil.
type Log struct {
	id    [16]byte
	began time.Time

	mu  sync.Mutex
	n   int
	buf []byte // events, encoded
}

// NewLog begins the log of a request that has just arrived, of the session with that id.
func NewLog(id [16]byte) *Log { return &Log{id: id, began: time.Now()} }

// ID returns the session's id, zero for nil.
func (l *Log) ID() [16]byte {
	if l == nil {
		return [16]byte{}
	}
	return l.id
}

// Event records a step. What exceeds the bounds is cut, or dropped.
func (l *Log) Event(format string, args ...any) {
	if l == nil {
		return
	}
	text := fmt.Sprintf(format, args...)
	text = text[:min(len(text), logTextMax)]
	at := time.Since(l.began)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.n >= logEventsMax {
		return
	}
	l.n++
	l.buf = binary.LittleEndian.AppendUint32(l.buf, micros(at))
	l.buf = binary.LittleEndian.AppendUint16(l.buf, uint16(len(text)))
	l.buf = append(l.buf, text...)
}

func micros(d time.Duration) uint32 { return uint32(min(max(d.Microseconds(), 0), 1<<32-1)) }

// Append appends what was recorded so far; docs/format/rpc.md draws it.
func (l *Log) Append(dst []byte) []byte {
	if l == nil {
		return dst
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	dst = binary.LittleEndian.AppendUint32(dst, micros(time.Since(l.began)))
	return append(dst, l.buf...)
}

// errLog is returned for bytes that Log.Append has not written.
var errLog = errors.New("trace: malformed events")

// Answered adds what another node recorded for a request that was sent to it at a time. Its clock is not trusted: its
// events lie between sending and now, with what the way took split evenly. What does not decode adds nothing and returns an
// error.
func (s *Session) Answered(source netip.AddrPort, sent time.Time, events []byte) error {
	if s == nil || len(events) == 0 {
		return nil
	}
	if len(events) < 4 {
		return errLog
	}
	took := time.Duration(binary.LittleEndian.Uint32(events)) * time.Microsecond
	arrived := sent.Add(max(time.Since(sent)-took, 0) / 2)
	var out []Event
	for rest := events[4:]; len(rest) > 0; {
		if len(rest) < 6 || len(rest) < 6+int(binary.LittleEndian.Uint16(rest[4:])) || len(out) >= logEventsMax {
			return errLog
		}
		elapsed := time.Duration(binary.LittleEndian.Uint32(rest)) * time.Microsecond
		end := 6 + int(binary.LittleEndian.Uint16(rest[4:]))
		out = append(out, Event{At: arrived.Add(min(elapsed, took)), Activity: string(rest[6:end]), Source: source, Elapsed: elapsed, Thread: "replica"})
		rest = rest[end:]
	}
	s.add(out...)
	return nil
}
