package bench

import (
	"math/bits"
	"sync/atomic"
	"time"
)

// histogram counts latencies in 32 buckets per power of two nanoseconds: 3 % resolution. One goroutine adds, any may
// read.
type histogram struct{ n [59 * perPower]atomic.Uint64 }

const perPower = 32

func bucketOf(ns uint64) int {
	if ns < perPower {
		return int(ns)
	}
	shift := bits.Len64(ns) - 6
	return (shift+1)*perPower + int(ns>>shift) - perPower
}

// valueOf is the upper end of a bucket.
func valueOf(b int) time.Duration {
	if b < perPower {
		return time.Duration(b)
	}
	shift := b/perPower - 1
	return time.Duration(uint64(b%perPower+perPower+1)<<shift - 1)
}

func (h *histogram) add(ns int64) {
	b := bucketOf(uint64(max(ns, 0)))
	h.n[b].Store(h.n[b].Load() + 1)
}

// counts is a copy of histograms, added up.
type counts [59 * perPower]uint64

func (c *counts) add(h *histogram) {
	for i := range c {
		c[i] += h.n[i].Load()
	}
}

func (c *counts) minus(o *counts) *counts {
	var out counts
	for i := range c {
		out[i] = c[i] - o[i]
	}
	return &out
}

func (c *counts) total() (n uint64) {
	for _, v := range c {
		n += v
	}
	return n
}

// quantile returns the q-quantile, 0 without values.
func (c *counts) quantile(q float64) time.Duration {
	total, sum := c.total(), uint64(0)
	if total == 0 {
		return 0
	}
	for b, n := range c {
		if sum += n; float64(sum) >= q*float64(total) {
			return valueOf(b)
		}
	}
	return 0
}
