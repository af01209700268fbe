package storage

import (
	"errors"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/helenusdb/helenus/row"
)

// TestWritesDoNotWaitForAHeldStripe: a job (fold, purge) that waits for a disk that does not answer holds a partition's stripe. A
// write of the partition is refused when it has waited for long enough, those after it at once, other partitions are written
// as ever, and when the job is through so is this one.
func TestWritesDoNotWaitForAHeldStripe(t *testing.T) {
	o := testOptions(vfs.NewMem())
	o.Stripes, o.StripeWait = 64, 300*time.Millisecond
	e := openTest(t, o)
	defer func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	}()
	m := put(genPlain, pkey(1), "", 9, "y")
	at, other := e.stripeOf(m.Generation, m.Token), 2
	for e.stripeOf(genPlain, put(genPlain, pkey(other), "", 9, "y").Token) == at {
		other++
	}
	e.stripes[at].acquire()
	refused := func(least, most time.Duration) {
		t.Helper()
		b := e.NewBatch()
		defer b.Discard()
		began := time.Now()
		err := b.Apply(&m)
		if took := time.Since(began); !errors.Is(err, ErrStuck) || took < least || took > most {
			t.Errorf("after %v: %v", took, err)
		}
	}
	refused(o.StripeWait, 30*time.Second)
	for range 100 {
		refused(0, o.StripeWait)
	}
	b := e.NewBatch()
	elsewhere := put(genPlain, pkey(other), "", 9, "y")
	if err := errors.Join(b.Apply(&elsewhere), b.ApplyAll([]row.Mutation{elsewhere})); err != nil {
		t.Errorf("another partition: %v", err)
	}
	if err := b.Apply(&m); !errors.Is(err, ErrStuck) {
		t.Errorf("in a batch with others: %v", err)
	}
	b.Discard()
	if err := b.SetRegister(genPlain, m.Token, pkey(1), 1, []byte("x")); !errors.Is(err, ErrStuck) {
		t.Errorf("a register: %v", err)
	}
	b.Discard()
	e.stripes[at].release()
	if err := b.Apply(&m); err != nil {
		t.Errorf("afterwards: %v", err)
	}
	b.Discard()
	write(t, e, m)
}

// TestStuckStripe: who gives up marks the stripe for those that come later, until its holder is through, and no mark is left.
func TestStuckStripe(t *testing.T) {
	var s stripe
	s.acquire()
	if s.acquireShared(false, 20*time.Millisecond) {
		t.Fatal("taken while held")
	}
	began := time.Now()
	if s.acquireShared(true, time.Hour) || s.acquireShared(false, time.Hour) {
		t.Error("taken while held")
	}
	if took := time.Since(began); took > time.Minute {
		t.Errorf("the second one waited for %v", took)
	}
	s.release()
	if !s.acquireShared(false, 0) {
		t.Fatal("not taken though it is free")
	}
	wanted := make(chan struct{})
	go func() { s.acquire(); close(wanted) }()
	for s.word.Load()&stripeWanted == 0 {
		time.Sleep(time.Millisecond)
	}
	if s.acquireShared(false, time.Millisecond) {
		t.Error("passed a waiting exclusive taker")
	}
	if !s.acquireShared(true, 0) {
		t.Error("a batch that holds others has to pass it")
	}
	s.releaseShared()
	s.releaseShared()
	<-wanted
	if w := s.word.Load(); w != stripeHeld {
		t.Errorf("held as %x", w)
	}
	s.release()
	if w := s.word.Load(); w != 0 {
		t.Errorf("it ends as %x", w)
	}
}
