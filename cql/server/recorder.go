package server

import (
	"sync"

	"github.com/helenusdb/helenus/cql/protocol"
)

// Recorder is a connection without a client: it gives out Responders and keeps what they answer. It is for tests of
// sessions, and for those who execute requests that come from elsewhere.
type Recorder struct {
	c *conn
}

// NewRecorder returns a Recorder whose answers are encoded for version v, without compression.
func NewRecorder(v protocol.Version) *Recorder {
	s := &Server{opt: Options{}.withDefaults(), buffers: sync.Pool{New: func() any { return new(outBuf) }}}
	c := &conn{s: s, addr: &clientAddr{}, version: v, moved: make(chan struct{}, 1), waiting: true}
	c.inBurst.Store(true) // nobody writes
	return &Recorder{c}
}

// Responder returns a Responder for a new request on stream. One goroutine at a time may call it.
func (r *Recorder) Responder(stream int16) Responder {
	return Responder{c: r.c, stream: stream, seq: r.c.started.Add(1)}
}

// Take returns the answers given since the last call, as whole envelopes back to back, and forgets them.
func (r *Recorder) Take() []byte {
	r.c.mu.Lock()
	defer r.c.mu.Unlock()
	if r.c.out == nil {
		return nil
	}
	b := r.c.out.b
	r.c.out = nil
	return b
}

// Moved receives after an answer has been given, or several.
func (r *Recorder) Moved() <-chan struct{} { return r.c.moved }
