package coordinator

import (
	"bytes"
	"context"
	"slices"
	"time"

	"github.com/helenusdb/helenus/row"
)

// holds tells whether a write has to wait: user tables take no writes while a node is joining that is sent no rows, which
// takes the time of a few messages (meta/formation says why).
func (v *view) holds(w *Write) bool {
	if !v.state.Quiet() {
		return false
	}
	return slices.ContainsFunc(w.Mutations, func(m row.Mutation) bool {
		t := v.table(m.Generation)
		return t != nil && t.user
	})
}

// hold begins the write when no node is joining any more, on a goroutine of its own; the write counts as in flight.
func (c *Coordinator) hold(v *view, w *Write, again bool) {
	timeout := w.Timeout
	if timeout == 0 {
		timeout = c.o.WriteTimeout
	}
	deadline := time.Now().Add(timeout)
	held := *w
	held.Mutations = slices.Clone(w.Mutations) // the caller's memory is its own again after Write
	for i := range held.Mutations {
		m := &held.Mutations[i]
		m.Key, m.Fragment = bytes.Clone(m.Key), bytes.Clone(m.Fragment)
	}
	held.Done = writeDoneFunc(func(_ *Write, err error) { w.Done.WriteDone(w, err) })
	begin := func() {
		if !c.awaitJoined(v, deadline) {
			c.writeDone(&held, &Overloaded{"a node is joining; user tables take no writes until it has joined"})
			return
		}
		held.Timeout = max(time.Until(deadline), time.Millisecond)
		b := c.NewBurst()
		b.begin(c.view(), &held, again)
		b.Close()
	}
	if !c.spawn(begin) {
		c.writeDone(w, &Overloaded{"too many writes wait for a node that is joining"})
	}
}

// awaitJoined waits for metadata with which user tables take writes.
func (c *Coordinator) awaitJoined(v *view, deadline time.Time) bool {
	ctx, cancel := context.WithDeadline(context.Background(), deadline)
	defer cancel()
	for s := v.state; s.Quiet(); s = c.o.Cluster.Current() {
		if c.o.Cluster.AwaitApplied(ctx, s.Epoch+1) != nil {
			return false
		}
	}
	return true
}
