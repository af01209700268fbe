package rpc

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"github.com/helenusdb/helenus/ring"
)

// errDead is wrapped when a connection is given up because one of its directions carries nothing.
var errDead = errors.New("connection is dead")

// receiver is the reading half that both ends share: it cuts frames, consumes heartbeats, notices dead directions
// and newer epochs. It belongs to the goroutine that reads the connection.
type receiver struct {
	t      *Transport
	box    *outbox
	conn   net.Conn
	peer   ring.HostID
	class  Class
	frames *frameReader

	now      int64 // when the last fill returned
	deadline int64 // when the read deadline was set
	epoch    uint64
	hookAt   int64 // when OnEpoch was called last

	acked   uint64 // bytes that the peer says it has received
	sent    int64  // bytes that had been sent when it said so
	stalled int64  // acked has not moved since, though something was outstanding
}

func newReceiver(t *Transport, box *outbox, conn net.Conn, peer ring.HostID, class Class) *receiver {
	now := t.now()
	return &receiver{t: t, box: box, conn: conn, peer: peer, class: class, stalled: now, now: now,
		frames: newFrameReader(conn, keepBytes(class)), deadline: now - int64(t.opt.DeadAfter),
		hookAt: now - int64(t.opt.EpochEvery)}
}

// fill waits for bytes, at most DeadAfter.
func (r *receiver) fill() error {
	if now := r.t.now(); now-r.deadline >= int64(r.t.opt.DeadAfter)/8 {
		r.deadline = now
		if err := r.conn.SetReadDeadline(time.Now().Add(r.t.opt.DeadAfter)); err != nil {
			return err
		}
	}
	n, err := r.frames.fill()
	r.now = r.t.now()
	r.box.rx.Add(int64(n))
	m := r.t.metrics.class(r.class)
	m.Reads.Add(1)
	m.BytesIn.Add(int64(n))
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return fmt.Errorf("%w: nothing received for %v", errDead, r.t.opt.DeadAfter)
	}
	return err
}

// next returns the next frame that is complete in the buffer and is not a heartbeat.
func (r *receiver) next() (h header, body []byte, ok bool, err error) {
	for {
		h, body, ok, err = r.frames.next()
		if err != nil {
			r.t.metrics.class(r.class).BadFrames.Add(1)
			return h, nil, false, err
		}
		if !ok {
			return h, nil, false, nil
		}
		r.epoch = max(r.epoch, h.epoch)
		if h.kind != kindHeartbeat {
			return h, body, true, nil
		}
		if err := r.beat(body); err != nil {
			return h, nil, false, err
		}
	}
}

// beat checks that what this end sent arrives: the error wraps errDead when none of it did for DeadAfter while the
// peer's reader was not busy with a session.
func (r *receiver) beat(body []byte) error {
	if len(body) != heartbeatLen-headerLen {
		return fmt.Errorf("%w: heartbeat of %d bytes", errFrame, len(body))
	}
	acked, sent := binary.LittleEndian.Uint64(body), r.box.tx.Load()
	if acked < r.acked || acked > uint64(sent) {
		return fmt.Errorf("%w: heartbeat acknowledges %d bytes of %d", errFrame, acked, sent)
	}
	moved := acked > r.acked || uint64(r.sent) <= r.acked || body[8] != 0
	r.acked, r.sent = acked, sent
	if moved {
		r.stalled = r.now
	} else if r.now-r.stalled >= int64(r.t.opt.DeadAfter) {
		return fmt.Errorf("%w: the peer received nothing for %v", errDead, r.t.opt.DeadAfter)
	}
	return nil
}

// drained is called when all frames of a read have been handled.
func (r *receiver) drained() {
	if r.epoch == 0 || r.t.opt.OnEpoch == nil {
		return
	}
	if r.epoch > r.t.opt.Epoch() && r.now-r.hookAt >= int64(r.t.opt.EpochEvery) {
		r.hookAt = r.now
		r.t.opt.OnEpoch(r.peer, r.epoch)
	}
	r.epoch = 0
}

func unexpectedKind(k frameKind) error {
	return fmt.Errorf("%w: kind %d in this direction", errFrame, k)
}
