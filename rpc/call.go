package rpc

import (
	"context"
	"errors"
	"sync/atomic"

	"github.com/helenusdb/helenus/ring"
)

// call is one blocking Call. It is pooled per transport.
type call struct {
	t      *Transport
	done   chan struct{} // capacity 1
	parts  atomic.Int32  // the caller and the callback: who leaves last returns it to the pool
	status Status
	body   []byte
	err    error
}

// Call sends a request and waits for its answer, at most until ctx ends (Options.Timeout when it has no deadline).
// It returns a copy of the answer's body and its status, whatever that is; err is an *Error when no answer came, it
// wraps ctx's error when that was the reason.
func (t *Transport) Call(ctx context.Context, to ring.HostID, class Class, verb Verb, body []byte) ([]byte, Status, error) {
	if err := ctx.Err(); err != nil {
		return nil, 0, &Error{To: to, Class: class, Cause: ctxCause(err), Err: err}
	}
	deadline, _ := ctx.Deadline()
	c := t.pool.Get().(*call)
	c.parts.Store(2)
	t.Send(to, class, verb, deadline, body, c)
	select {
	case <-c.done:
		reply, status, err := c.body, c.status, c.err
		c.leave()
		if err != nil {
			return nil, 0, err
		}
		return reply, status, nil
	case <-ctx.Done():
		c.leave()
		return nil, 0, &Error{To: to, Class: class, Cause: ctxCause(ctx.Err()), Err: ctx.Err(), Sent: true}
	}
}

func ctxCause(err error) error {
	if errors.Is(err, context.DeadlineExceeded) {
		return ErrTimeout
	}
	return ErrCanceled
}

// Done implements Callback.
func (c *call) Done(r *Response) {
	c.status, c.err = r.Status, r.Err
	if r.Err == nil && len(r.Body) > 0 {
		c.body = append([]byte(nil), r.Body...)
	}
	c.done <- struct{}{}
	c.leave()
}

// leave returns the call to the pool when both its caller and its callback are through with it.
func (c *call) leave() {
	if c.parts.Add(-1) > 0 {
		return
	}
	select {
	case <-c.done: // the caller did not wait for it
	default:
	}
	c.body, c.err = nil, nil
	c.t.pool.Put(c)
}

// Probe sends a message to an address without knowing who is there, in or out of any cluster, and returns what
// OnProbe of that node answers. It needs a connection of its own, so it is for formation and discovery only. It
// works while Run does not. The error is an *Error; a *Refusal is among its causes when the other end turned it
// down.
func (t *Transport) Probe(ctx context.Context, addr string, body []byte) ([]byte, error) {
	if len(body) > ProbeMax {
		return nil, &Error{Cause: ErrTooLarge}
	}
	h := &hello{version: versionMax, mode: modeProbe, cluster: t.opt.ClusterID(), from: t.opt.Self,
		epoch: t.opt.Epoch(), body: body}
	conn, r, err := t.greet(ctx, addr, h)
	if err != nil {
		t.metrics.DialErrors.Add(1)
		if ctx.Err() != nil {
			return nil, &Error{Cause: ctxCause(ctx.Err()), Err: err, Sent: true}
		}
		return nil, &Error{Cause: causeOf(err), Err: err, Sent: true}
	}
	hangUp(conn)
	return r.body, nil
}
