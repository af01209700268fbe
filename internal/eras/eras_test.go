package eras

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestEras(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s Eras
		five := s.Of(5)
		five.Enter()
		six := s.Of(6)
		six.Enter()
		if s.Of(5) != five || s.Of(6) != six {
			t.Error("an era with something in it has become another one")
		}
		if n := s.Before(5); n != 0 {
			t.Errorf("%d before the oldest", n)
		}
		if n := s.Before(7); n != 2 {
			t.Errorf("%d of both", n)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := s.Wait(ctx, 6); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("what is under way was not waited for: %v", err)
		}
		ended := make(chan error)
		go func() { ended <- s.Wait(t.Context(), 6) }()
		synctest.Wait()
		five.Leave()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		for e := uint64(7); e < 100; e++ {
			s.Of(e)
		}
		if len(s.all) != 2 { // six, which has one in it, and the newest
			t.Errorf("%d eras are kept", len(s.all))
		}
		if n := testing.AllocsPerRun(100, func() { e := s.Of(99); e.Enter(); e.Leave() }); n != 0 {
			t.Errorf("%g allocations", n)
		}
	})
}
