package node

import (
	"context"
	"errors"
	"fmt"
	"sync"
)

// services are the parts of a node that run, in the order in which they were started. The first that ends by itself ends
// all of them.
type services struct {
	mu      sync.Mutex // guards list; not held while anything is waited for
	list    []*service
	failed  chan struct{}
	failure error
	once    sync.Once
}

type service struct {
	name   string
	cancel context.CancelFunc
	done   chan struct{}
	err    error
	// before is called before cancel, with a context that bounds how long it may take: the gentle part of stopping.
	before func(context.Context)
}

func newServices() *services { return &services{failed: make(chan struct{})} }

// start runs a service. Its context is ended by stop only, not by ctx of the start.
func (s *services) start(name string, run func(context.Context) error, before func(context.Context)) {
	ctx, cancel := context.WithCancel(context.Background())
	v := &service{name: name, cancel: cancel, done: make(chan struct{}), before: before}
	s.mu.Lock()
	s.list = append(s.list, v)
	s.mu.Unlock()
	go func() {
		v.err = run(ctx)
		close(v.done)
		if ctx.Err() == nil {
			s.fail(name, v.err)
		}
	}()
}

func (s *services) fail(name string, err error) {
	s.once.Do(func() {
		if err == nil {
			err = errors.New("it ended by itself")
		}
		s.failure = fmt.Errorf("node: %s: %w", name, err)
		close(s.failed)
	})
}

// cause returns the failure of a service, if there is one, in place of what followed from it.
func (s *services) cause(err error) error {
	select {
	case <-s.failed:
		return s.failure
	default:
		return err
	}
}

// reported tells whether err is that of the service whose failure ends the node.
func (s *services) reported(err error) bool {
	select {
	case <-s.failed:
		return errors.Is(s.failure, err)
	default:
		return false
	}
}

// stop ends the services in reverse order, each waited for, and returns their errors, without the failure that ends the node.
func (s *services) stop(gentle context.Context) error {
	s.mu.Lock()
	list := s.list
	s.list = nil
	s.mu.Unlock()
	var errs []error
	for i := len(list) - 1; i >= 0; i-- {
		v := list[i]
		if v.before != nil {
			v.before(gentle)
		}
		v.cancel()
		<-v.done
		if v.err != nil && !errors.Is(v.err, context.Canceled) && !s.reported(v.err) {
			errs = append(errs, fmt.Errorf("node: %s: %w", v.name, v.err))
		}
	}
	return errors.Join(errs...)
}
