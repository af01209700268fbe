package exec

import (
	"sync"
	"sync/atomic"
)

const shards = 64

// cache holds statements by key, bounded by the sum of their sizes. Look-ups take a shared lock of one shard. What goes
// first when it is full was not looked up since the hand of the clock passed it last.
type cache[K comparable] struct {
	hash  func(K) uint8
	max   int64
	bytes *atomic.Int64
	count *atomic.Int64

	shard [shards]struct {
		sync.RWMutex
		m map[K]*stmt
	}

	mu   sync.Mutex // guards the clock; taken before a shard's
	ring []slot[K]
	hand int
}

type slot[K comparable] struct {
	key K
	s   *stmt
}

func newCache[K comparable](max int64, bytes, count *atomic.Int64, hash func(K) uint8) *cache[K] {
	c := &cache[K]{hash: hash, max: max, bytes: bytes, count: count}
	for i := range c.shard {
		c.shard[i].m = map[K]*stmt{}
	}
	return c
}

// get returns the statement with that key, nil when it is not held.
func (c *cache[K]) get(k K) *stmt {
	sh := &c.shard[c.hash(k)%shards]
	sh.RLock()
	s := sh.m[k]
	sh.RUnlock()
	if s != nil && !s.used.Load() {
		s.used.Store(true)
	}
	return s
}

// largest returns the size of the largest statement that is held, in bytes.
func (c *cache[K]) largest() int64 { return c.max / 4 }

// put holds s under k in place of what was there, and returns how many others it forgot to make room. A statement that is too large is not held.
func (c *cache[K]) put(k K, s *stmt) (evicted int) {
	if s.size > c.largest() {
		return 0
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.swap(k, s)
	c.ring = append(c.ring, slot[K]{k, s})
	for c.bytes.Load() > c.max {
		if c.evictOne() {
			evicted++
		}
	}
	c.tidy()
	return evicted
}

// swap stores s under k.
func (c *cache[K]) swap(k K, s *stmt) {
	sh := &c.shard[c.hash(k)%shards]
	sh.Lock()
	old := sh.m[k]
	sh.m[k] = s
	sh.Unlock()
	c.bytes.Add(s.size)
	if old != nil {
		c.bytes.Add(-old.size)
	} else {
		c.count.Add(1)
	}
}

// drop forgets s; a statement that took its place stays.
func (c *cache[K]) drop(k K, s *stmt) bool {
	sh := &c.shard[c.hash(k)%shards]
	sh.Lock()
	held := sh.m[k] == s
	if held {
		delete(sh.m, k)
	}
	sh.Unlock()
	if held {
		c.bytes.Add(-s.size)
		c.count.Add(-1)
		s.dropped.Store(true)
	}
	return held
}

// evictOne moves the hand of the clock by one and reports whether it forgot a statement. The ring is not empty while
// anything is held.
func (c *cache[K]) evictOne() bool {
	if c.hand >= len(c.ring) {
		c.hand = 0
	}
	at := c.ring[c.hand]
	if at.s.used.Swap(false) && !at.s.dropped.Load() && c.get0(at.key) == at.s {
		c.hand++
		return false
	}
	c.ring[c.hand] = c.ring[len(c.ring)-1]
	c.ring[len(c.ring)-1] = slot[K]{}
	c.ring = c.ring[:len(c.ring)-1]
	return c.drop(at.key, at.s)
}

// get0 is get without marking.
func (c *cache[K]) get0(k K) *stmt {
	sh := &c.shard[c.hash(k)%shards]
	sh.RLock()
	defer sh.RUnlock()
	return sh.m[k]
}

// tidy keeps slots of statements that are gone from outnumbering the others.
func (c *cache[K]) tidy() {
	if len(c.ring) < 64 || len(c.ring) < 2*int(c.count.Load()) {
		return
	}
	kept := c.ring[:0]
	for _, at := range c.ring {
		if c.get0(at.key) == at.s {
			kept = append(kept, at)
		}
	}
	clear(c.ring[len(kept):])
	c.ring, c.hand = kept, 0
}

// all calls fn for every statement held, in no particular order.
func (c *cache[K]) all(fn func(K, *stmt)) {
	for i := range c.shard {
		sh := &c.shard[i]
		sh.RLock()
		list := make([]slot[K], 0, len(sh.m))
		for k, s := range sh.m {
			list = append(list, slot[K]{k, s})
		}
		sh.RUnlock()
		for _, at := range list {
			fn(at.key, at.s)
		}
	}
}
