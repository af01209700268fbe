package coordinator

import (
	"context"
	"sync"
	"time"
)

// wheelTick is the granularity of speculation; wheelSlots of them are one turn.
const (
	wheelTick  = 2 * time.Millisecond
	wheelSlots = 512
)

// wheel calls readOps that are late. One goroutine turns it while there is something in it: no timer per read.
type wheel struct {
	mu    sync.Mutex
	base  time.Time
	slots [wheelSlots][]wheelEntry
	turns int64 // ticks passed
	held  int
	wake  chan struct{}
}

type wheelEntry struct {
	op *readOp
	at int64 // tick
}

func (w *wheel) init() { w.base, w.wake = time.Now(), make(chan struct{}, 1) }

// add arranges for op.speculate at the given time; the wheel owns the reference that the caller took.
func (w *wheel) add(op *readOp, at time.Time) {
	w.mu.Lock()
	if w.held == 0 { // the wheel stood still while it was empty
		w.turns = max(w.turns, w.tick(time.Now()))
	}
	tick := max(w.tick(at)+1, w.turns+1)
	i := tick % wheelSlots // later than a turn: it is passed by until then
	w.slots[i] = append(w.slots[i], wheelEntry{op, tick})
	w.held++
	first := w.held == 1
	w.mu.Unlock()
	if first {
		select {
		case w.wake <- struct{}{}:
		default:
		}
	}
}

func (w *wheel) run(ctx context.Context) {
	t := time.NewTicker(wheelTick)
	defer t.Stop()
	var due []wheelEntry
	for ctx.Err() == nil {
		w.mu.Lock()
		idle := w.held == 0
		w.mu.Unlock()
		if idle {
			t.Stop()
			select {
			case <-ctx.Done():
			case <-w.wake:
			}
			t.Reset(wheelTick)
			continue
		}
		select {
		case <-ctx.Done():
		case <-t.C:
		}
		now := time.Now()
		due = w.turn(now, due[:0])
		for i := range due {
			if e := due[i]; e.at > w.tick(now) {
				w.again(e)
			} else {
				e.op.speculate()
			}
			due[i].op = nil
		}
	}
}

func (w *wheel) tick(at time.Time) int64 { return int64(at.Sub(w.base) / wheelTick) }

// turn moves the wheel to now and returns what it passes: what is due, and what is after one more turn.
func (w *wheel) turn(now time.Time, due []wheelEntry) []wheelEntry {
	w.mu.Lock()
	defer w.mu.Unlock()
	to := w.tick(now)
	if to-w.turns > wheelSlots {
		w.turns = to - wheelSlots
	}
	for w.turns < to {
		w.turns++
		s := &w.slots[w.turns%wheelSlots]
		due = append(due, *s...)
		w.held -= len(*s)
		clear(*s)
		*s = (*s)[:0]
	}
	return due
}

// again puts an entry back whose time is a turn away or more, unless its read has been answered.
func (w *wheel) again(e wheelEntry) {
	if e.op.answered() {
		e.op.release()
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	i := e.at % wheelSlots
	w.slots[i] = append(w.slots[i], e)
	w.held++
}
