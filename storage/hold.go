package storage

import (
	"slices"
	"sync"
	"sync/atomic"

	"github.com/helenusdb/helenus/ring"
	"github.com/helenusdb/helenus/schema"
)

// purgeHolds are the ranges that no purge may touch. The list is replaced under mu and read without it.
type purgeHolds struct {
	mu   sync.Mutex
	list atomic.Pointer[[]*purgeHold]
}

type purgeHold struct {
	gen schema.Generation
	rg  ring.Range
}

// HoldPurge keeps purges away from a token range, which may wrap, until release is called; holds may overlap, and release may be
// called more than once. When it returns no purge is changing anything in the range. While a range is copied from another node an
// older value may arrive after its tombstone, so the tombstone has to stay.
func (e *Engine) HoldPurge(gen schema.Generation, rg ring.Range) (release func()) {
	h := &purgeHold{gen, rg}
	e.holds.change(func(list []*purgeHold) []*purgeHold { return append(list, h) })
	e.barrier() // a purge looks under the stripe
	return func() {
		e.holds.change(func(list []*purgeHold) []*purgeHold {
			return slices.DeleteFunc(list, func(o *purgeHold) bool { return o == h })
		})
	}
}

func (x *purgeHolds) change(f func([]*purgeHold) []*purgeHold) {
	x.mu.Lock()
	defer x.mu.Unlock()
	var list []*purgeHold
	if old := x.list.Load(); old != nil {
		list = slices.Clone(*old)
	}
	list = f(list)
	x.list.Store(&list)
}

// has tells whether a row or marker key lies in a range that is held.
func (x *purgeHolds) has(key []byte) bool {
	list := x.list.Load()
	if list == nil {
		return false
	}
	for _, h := range *list {
		if h.gen == generationOf(key) && h.rg.Contains(tokenOf(key)) {
			return true
		}
	}
	return false
}
