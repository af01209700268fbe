package rpc

import (
	"encoding/binary"
	"fmt"
	"time"

	"github.com/helenusdb/helenus/internal/trace"
	"github.com/helenusdb/helenus/ring"
)

// traceIDLen is what a traced request carries before its body: the id of the session.
const traceIDLen = 16

// SendTraced is Send for a request that a client has traced. The session's id travels with it; the answer brings what the
// other node did, in Response.Trace. A body that leaves no room for the id is sent without it.
func (t *Transport) SendTraced(session [16]byte, to ring.HostID, class Class, verb Verb, deadline time.Time, body []byte, cb Callback) {
	if cb == nil || len(body) > BodyMax-traceIDLen {
		t.Send(to, class, verb, deadline, body, cb)
		return
	}
	body = append(append(make([]byte, 0, traceIDLen+len(body)), session[:]...), body...)
	if err := t.send(to, class, verb, flagTrace, deadline, body, cb); err != nil {
		cb.Done(&Response{From: to, Verb: verb, Err: err})
	}
}

// splitTrace cuts what tracing put before the body of a frame: of a request the session's id, of an answer
// [length u32][events]. Without the flag it is nothing. The error wraps errFrame.
func (h *header) splitTrace(body []byte) (traced, rest []byte, err error) {
	if h.flags&flagTrace == 0 {
		return nil, body, nil
	}
	n := traceIDLen
	if h.kind == kindResponse {
		if len(body) < 4 {
			return nil, nil, fmt.Errorf("%w: traced answer of %d bytes", errFrame, len(body))
		}
		n, body = int(binary.LittleEndian.Uint32(body)), body[4:]
	}
	if n > len(body) {
		return nil, nil, fmt.Errorf("%w: %d bytes of trace in %d", errFrame, n, len(body))
	}
	return body[:n:n], body[n:], nil
}

// tracedAnswer returns the body of a traced answer; ok false when it would be too large.
func tracedAnswer(l *trace.Log, body []byte) (_ []byte, ok bool) {
	out := l.Append(make([]byte, 4, 256+len(body)))
	binary.LittleEndian.PutUint32(out, uint32(len(out)-4))
	return append(out, body...), len(out)+len(body) <= BodyMax
}
