package server

import "sync/atomic"

// budget counts the bytes in flight of one client address, or with a nil parent of all clients. It may be used from
// any goroutine.
type budget struct {
	used   atomic.Int64
	max    int64
	parent *budget
}

// acquire takes n bytes from b and its parent if both have them.
func (b *budget) acquire(n int64) bool {
	if b.used.Add(n) > b.max {
		b.used.Add(-n)
		return false
	}
	if b.parent != nil && !b.parent.acquire(n) {
		b.used.Add(-n)
		return false
	}
	return true
}

// force takes n bytes whether they are there or not. A negative n releases.
func (b *budget) force(n int64) {
	if n == 0 {
		return
	}
	b.used.Add(n)
	if b.parent != nil {
		b.parent.used.Add(n)
	}
}

// reserve is what a reader has taken from a budget in advance, so that it need not touch shared memory for each
// request. One goroutine uses it.
type reserve struct {
	from *budget
	left int64
}

// reserveStep is how many bytes a reserve takes from its budget at least, if they are there.
const reserveStep = 16 << 10

// take takes n bytes, from what is left or from the budget.
func (r *reserve) take(n int64) bool {
	if n <= r.left {
		r.left -= n
		return true
	}
	need := n - r.left
	if need < reserveStep && r.from.acquire(reserveStep) {
		r.left += reserveStep - n
		return true
	}
	if !r.from.acquire(need) {
		return false
	}
	r.left = 0
	return true
}

// close gives back what is left.
func (r *reserve) close() {
	r.from.force(-r.left)
	r.left = 0
}
