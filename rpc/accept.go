package rpc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

// acceptPause is how long accepting rests after a temporary error, such as too many open files.
const acceptPause = 20 * time.Millisecond

// accept serves the connections of a listener until ctx ends or the listener fails; it closes the listener and
// waits for all connections.
func (t *Transport) accept(ctx context.Context, l net.Listener) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	wg.Go(func() {
		<-ctx.Done()
		l.Close()
	})
	handshakes := make(chan struct{}, t.opt.HandshakesMax)
	for {
		conn, err := l.Accept()
		switch {
		case ctx.Err() != nil:
			if conn != nil {
				conn.Close()
			}
			return nil
		case errors.Is(err, net.ErrClosed): // by somebody else
			return fmt.Errorf("rpc: accept: %w", err)
		case err != nil:
			t.opt.Logger.Warn("rpc: accept", "err", err)
			sleep(ctx, acceptPause)
			continue
		}
		select {
		case handshakes <- struct{}{}:
			wg.Go(func() { t.admit(ctx, conn, handshakes) })
		default:
			t.metrics.Refused.Add(1)
			conn.Close()
		}
	}
}

func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// admit makes the handshake of one accepted connection, then serves it to its end.
func (t *Transport) admit(ctx context.Context, raw net.Conn, handshakes chan struct{}) {
	defer raw.Close()
	stop := hangUpOn(ctx, raw)
	a, err := t.handshake(ctx, raw)
	<-handshakes
	if err != nil && ctx.Err() == nil {
		t.metrics.Refused.Add(1)
		t.opt.Logger.Warn("rpc: connection refused", "remote", raw.RemoteAddr().String(), "err", err)
	}
	if a != nil {
		t.run(a)
	}
	stop()
}

// handshake returns the connection, ready to run; nil without an error after a probe or when the dialer went away
// without a word.
func (t *Transport) handshake(ctx context.Context, raw net.Conn) (*accepted, error) {
	ctx, cancel := context.WithTimeout(ctx, t.opt.DialTimeout)
	defer cancel()
	if err := raw.SetDeadline(time.Now().Add(t.opt.DialTimeout)); err != nil {
		return nil, err
	}
	conn, h, err := t.welcome(ctx, raw)
	if errors.Is(err, io.EOF) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	r := t.judge(h, raw.RemoteAddr())
	if r.code != 0 {
		_, _ = conn.Write(appendReply(nil, &r)) // the refusal stands, heard or not
		return nil, fmt.Errorf("from host %v: %w", h.from, &Refusal{Code: r.code, Reason: string(r.body)})
	}
	if h.mode == modeProbe {
		return nil, t.answerProbe(conn, h, &r)
	}
	a := &accepted{outbox: newOutbox(keepBytes(h.class)), t: t, conn: conn, from: h.from, class: h.class,
		lim: t.opt.limits(h.class)}
	if !t.register(a) {
		r.code, r.body = RefusedBusy, []byte("too many connections")
		_, _ = conn.Write(appendReply(nil, &r)) // the refusal stands, heard or not
		return nil, &Refusal{Code: r.code, Reason: string(r.body)}
	}
	if _, err := conn.Write(appendReply(nil, &r)); err != nil {
		t.unregister(a)
		return nil, err
	}
	if h.epoch > r.epoch && t.opt.OnEpoch != nil {
		t.opt.OnEpoch(h.from, h.epoch)
	}
	return a, raw.SetDeadline(time.Time{})
}

func (t *Transport) answerProbe(conn net.Conn, h *hello, r *reply) error {
	r.body = t.opt.OnProbe(conn.RemoteAddr(), h.body)
	if len(r.body) > ProbeMax {
		return fmt.Errorf("rpc: answer to a probe of %d bytes", len(r.body))
	}
	t.metrics.Probes.Add(1)
	_, err := conn.Write(appendReply(nil, r))
	return err
}

// register makes a the connection of its peer and class; an older one is closed, since a peer dials only when it
// has given that up. False when there are too many.
func (t *Transport) register(a *accepted) bool {
	key := inboundKey{a.from, a.class}
	t.mu.Lock()
	old := t.inbound[key]
	if old == nil && len(t.inbound) >= t.opt.ConnsMax {
		t.mu.Unlock()
		return false
	}
	t.inbound[key] = a
	t.mu.Unlock()
	if old != nil {
		t.metrics.Superseded.Add(1)
		t.opt.Logger.Info("rpc: connection superseded", "from", a.from, "class", a.class.String(),
			"old", old.conn.RemoteAddr().String(), "new", a.conn.RemoteAddr().String())
		old.shut()
	}
	return true
}

func (t *Transport) unregister(a *accepted) {
	key := inboundKey{a.from, a.class}
	t.mu.Lock()
	if t.inbound[key] == a {
		delete(t.inbound, key)
	}
	t.mu.Unlock()
}

// run serves a registered connection.
func (t *Transport) run(a *accepted) {
	defer t.unregister(a)
	t.metrics.Accepted.Add(1)
	t.metrics.OpenIn.Add(1)
	defer t.metrics.OpenIn.Add(-1)
	var session Session = noSession{}
	if t.opt.NewSession != nil {
		session = t.opt.NewSession(a.from, a.class)
	}
	if err := a.run(session); errors.Is(err, errFrame) || errors.Is(err, errDead) {
		t.opt.Logger.Warn("rpc: accepted connection closed", "from", a.from, "class", a.class.String(),
			"remote", a.conn.RemoteAddr().String(), "err", err)
	}
}
