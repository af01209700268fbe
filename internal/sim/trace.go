package sim

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/helenusdb/helenus/internal/memnet"
)

// tracer hashes the logical events of a run: faults, what workloads record, and the bytes that hosts send. Events of one
// instant are sorted, because nobody can tell their order; bytes count per flow and instant, however they were cut into writes.
type tracer struct {
	mu     sync.Mutex
	start  time.Time
	at     time.Time
	lines  []string
	flows  []*flowState // written to in this instant
	digest *xxhash.Digest
	events int64
	out    *bufio.Writer // nil: only the hash is kept
	bytes  bool          // write what was sent, too; it does not change the hash
}

// flowState is what the tracer knows of a flow; it hangs on memnet.Flow.User.
type flowState struct {
	flow    *memnet.Flow
	frames  *frames // nil: a client's, whose bytes count as they are
	sum     xxhash.Digest
	bytes   int64
	raw     []byte // of this instant
	touched bool
}

func newTracer(out io.Writer, bytes bool) *tracer {
	t := &tracer{start: time.Now(), at: time.Now(), digest: xxhash.New(), bytes: bytes}
	if out != nil {
		t.out = bufio.NewWriter(out)
	}
	return t
}

// add notes one event at this instant.
func (t *tracer) add(kind, format string, args ...any) {
	line := kind + " " + fmt.Sprintf(format, args...)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.turnLocked()
	t.lines = append(t.lines, line)
}

// wrote notes bytes that enter a flow.
func (t *tracer) wrote(f *memnet.Flow, b []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.turnLocked()
	s, _ := f.User.(*flowState)
	if s == nil {
		s = &flowState{flow: f}
		s.sum.Reset()
		if f.Port == storagePort {
			s.frames = newFrames(f.Forward)
		}
		f.User = s
	}
	s.raw = append(s.raw, b...)
	s.bytes += int64(len(b))
	if !s.touched {
		s.touched = true
		t.flows = append(t.flows, s)
	}
}

// turnLocked ends the instant before this one.
func (t *tracer) turnLocked() {
	if now := time.Now(); !now.Equal(t.at) {
		t.flushLocked()
		t.at = now
	}
}

// flushLocked hashes the events of the instant t.at.
func (t *tracer) flushLocked() {
	for i, s := range t.flows {
		if s.frames != nil {
			s.frames.hash(&s.sum, s.raw)
		} else {
			_, _ = s.sum.Write(s.raw)
		}
		t.lines = append(t.lines, fmt.Sprintf("send %s>%s %016x at %d: %016x", s.flow.From, s.flow.To, s.flow.Label(), s.bytes, s.sum.Sum64()))
		if t.bytes && t.out != nil {
			fmt.Fprintf(t.out, "%d bytes %s>%s %016x at %d: %x\n", int64(t.at.Sub(t.start)), s.flow.From, s.flow.To, s.flow.Label(), s.bytes, s.raw)
		}
		s.raw, s.touched = s.raw[:0], false
		t.flows[i] = nil
	}
	t.flows = t.flows[:0]
	slices.Sort(t.lines)
	for _, l := range t.lines {
		t.hashLocked(l)
	}
	t.lines = t.lines[:0]
}

func (t *tracer) hashLocked(line string) {
	at := t.at.Sub(t.start)
	var head [8]byte
	binary.LittleEndian.PutUint64(head[:], uint64(at))
	_, _ = t.digest.Write(head[:])
	_, _ = t.digest.WriteString(line)
	_, _ = t.digest.Write([]byte{'\n'})
	t.events++
	if t.out != nil {
		fmt.Fprintf(t.out, "%d %s\n", int64(at), line)
	}
}

// sum ends the trace and returns its hash and the number of events.
func (t *tracer) sum() (hash uint64, events int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.flushLocked()
	if t.out != nil {
		_ = t.out.Flush()
	}
	return t.digest.Sum64(), t.events
}

func traceName(hash uint64) string { return fmt.Sprintf("%016x", hash) }
