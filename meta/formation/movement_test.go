package formation

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/helenusdb/helenus/meta"
	"github.com/helenusdb/helenus/ring"
)

// filled reports for everybody what a movement waits for, until it has ended.
func (w *world) filled() {
	w.t.Helper()
	w.report(func(s *meta.State) (*meta.Command, bool) {
		if ids := s.Unfilled(); len(ids) > 0 {
			return &meta.Command{Kind: meta.ReportFilled, Node: meta.Node{ID: ids[0]}, Plan: s.Plan}, true
		}
		if ids := s.Unheard(); len(ids) > 0 { // the dead too: the harness has no failure detector
			return &meta.Command{Kind: meta.ReportSwitched, Node: meta.Node{ID: ids[0]}, Plan: s.SwitchedAt}, true
		}
		if ids := s.Uncompared(); len(ids) > 0 {
			return &meta.Command{Kind: meta.ReportFilled, Node: meta.Node{ID: ids[0]}, Plan: s.SwitchedAt}, true
		}
		return nil, false
	}, func(s *meta.State) bool { return s.Phase() == meta.None })
}

// report proposes what next says, one after the other, until the state is as wanted.
func (w *world) report(next func(*meta.State) (*meta.Command, bool), until func(*meta.State) bool) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	log := w.all[0].log
	for range 600 {
		if until(log.Current()) {
			return
		}
		_, err := log.Propose(ctx, func(s *meta.State) (*meta.Command, bool, error) {
			c, ok := next(s)
			return c, ok, nil
		})
		if err != nil {
			w.t.Fatal(err)
		}
		time.Sleep(100 * time.Millisecond)
	}
	w.t.Fatalf("the movement does not end: %s", log.Current().Phase())
}

// announced is a cluster of three with rows, in which a fourth is joining.
func announced(t *testing.T, seed uint64) (w *world, last *proc) {
	t.Helper()
	w = newWorld(t, seed, 4)
	w.moves = true
	last = w.all[3]
	for _, p := range w.all[:3] {
		p.start()
	}
	w.eventually(60*time.Second, "three members", func() bool {
		return w.all[0].in.Load() && w.all[1].in.Load() && w.all[2].in.Load() && len(w.all[0].log.Current().Ring.Nodes()) == 3
	})
	if !w.all[w.r.IntN(3)].write(0) {
		t.Fatal("no write was let in")
	}
	last.start()
	w.eventually(60*time.Second, "it is announced", func() bool { return last.in.Load() })
	return w, last
}

// TestJoinWithRows: in a cluster with rows a node joins by an operation, which is the same one after restarts of it, and nobody stops
// taking writes meanwhile. What leads the log ends the movement when everybody has reported.
func TestJoinWithRows(t *testing.T) {
	each(t, 30, func(t *testing.T, seed uint64) {
		w, last := announced(t, seed)
		s := last.log.Current()
		o := s.OperationOn(last.id)
		if o == nil || o.Kind != meta.Join || s.Quiet() || s.Node(last.id).State != meta.Pending {
			t.Fatalf("operations %v, quiet %t", s.Operations, s.Quiet())
		}
		id, tokens := o.ID, s.Node(last.id).Tokens
		last.crash()
		last.start()
		w.eventually(60*time.Second, "it is back", func() bool { return last.in.Load() })
		s = last.log.Current()
		if n := s.Node(last.id); len(s.Operations) != 1 || s.Operations[0].ID != id || !slices.Equal(n.Tokens, tokens) || n.Generation != last.gen {
			t.Errorf("after a restart: %v, %+v", s.Operations, n)
		}
		w.filled()
		w.eventually(30*time.Second, "it is a member", func() bool { return last.log.Current().Node(last.id).State == meta.Normal })
	})
}

// TestJoinAgainWhileSwitched: a node that joins and stops once reads have moved, before it has heard of it, comes back: what is being completed is
// its own operation, and waits for it.
func TestJoinAgainWhileSwitched(t *testing.T) {
	each(t, 20, func(t *testing.T, seed uint64) {
		w, last := announced(t, seed)
		last.crash()
		w.report(func(s *meta.State) (*meta.Command, bool) {
			if ids := s.Unfilled(); len(ids) > 0 {
				return &meta.Command{Kind: meta.ReportFilled, Node: meta.Node{ID: ids[0]}, Plan: s.Plan}, true
			}
			return nil, false
		}, func(s *meta.State) bool { return s.Phase() == meta.Switched })
		last.start()
		w.eventually(60*time.Second, "it is back", func() bool { return last.in.Load() })
		w.filled()
		w.eventually(30*time.Second, "it is a member", func() bool { return last.log.Current().Node(last.id).State == meta.Normal })
	})
}

// TestReplaceByFormation: a dead node is replaced, at its own address too, and need not be named again after a restart; a live one is
// not.
func TestReplaceByFormation(t *testing.T) {
	each(t, 20, func(t *testing.T, seed uint64) {
		w := newWorld(t, seed, 5)
		w.moves = true
		for _, p := range w.all[:4] {
			p.start()
		}
		w.eventually(60*time.Second, "four members", func() bool {
			return !slices.ContainsFunc(w.all[:4], func(p *proc) bool { return !p.in.Load() || len(p.log.Current().Ring.Nodes()) != 4 })
		})
		other := w.all[4]
		other.replaces = &w.all[1].id
		other.start()
		w.ends(other, "is alive")
		other.crash()
		spare := w.all[3]
		id := spare.id
		spare.crash()
		spare.wipe()
		if seed%2 == 0 { // elsewhere
			other.rack = spare.rack
			spare = other
			spare.wipe()
		}
		spare.replaces = &id
		spare.start()
		w.eventually(60*time.Second, "it is announced", func() bool { return spare.in.Load() })
		s := spare.log.Current()
		if o := s.OperationOn(id); o == nil || o.Kind != meta.Replace || o.Node != spare.id || !slices.Equal(s.Node(spare.id).Tokens, s.Node(id).Tokens) {
			t.Fatalf("operations %v", s.Operations)
		}
		spare.crash()
		spare.replaces = nil
		spare.start()
		w.eventually(60*time.Second, "it is back", func() bool { return spare.in.Load() })
		if o := spare.log.Current().OperationOn(id); o == nil || o.Kind != meta.Replace {
			t.Errorf("after a restart: %v", spare.log.Current().Operations)
		}
		w.filled()
		w.eventually(30*time.Second, "it is a member", func() bool {
			s := spare.log.Current()
			return s.Node(spare.id).State == meta.Normal && s.Node(id).State == meta.Left
		})
	})
}

// ends waits until the node has ended by itself, with a reason.
func (w *world) ends(p *proc, why string) {
	w.t.Helper()
	for range 2000 {
		if err, ended := p.ended(); ended {
			var refused *Refused
			if !errors.As(err, &refused) || !strings.Contains(err.Error(), why) {
				w.t.Fatalf("it ended with %v", err)
			}
			return
		}
		time.Sleep(25 * time.Millisecond)
	}
	w.t.Fatal("it goes on")
}

// TestWithoutMovement: where rows cannot be brought, nobody is replaced.
func TestWithoutMovement(t *testing.T) {
	each(t, 3, func(t *testing.T, seed uint64) {
		w := newWorld(t, seed, 2)
		w.all[0].start()
		w.eventually(60*time.Second, "founded", func() bool { return w.all[0].in.Load() })
		w.all[1].replaces = &ring.HostID{9}
		w.all[1].start()
		w.ends(w.all[1], "rows cannot be brought")
	})
}
