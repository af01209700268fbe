package storage

import (
	"bytes"
	"encoding/binary"
	"sync"

	"github.com/cespare/xxhash/v2"
)

// rowCache holds merged values by their full Pebble key, bounded in bytes. An empty value means: the key does not exist. Its
// memory is a few byte slabs without pointers, so the collector never walks the entries.
//
// Entries are appended to the head chunk; when all chunks are used, the oldest one is compacted in place: entries that were hit
// since move to its front, once for each hit up to hitsMax, the others go (S3-FIFO's idea with one queue).
//
// It must never be newer or older than Pebble for a calm stripe: see stripe.epoch for the rules; merge, put and drop are the only
// ways in.
type rowCache struct {
	shards []cacheShard
}

type cacheShard struct {
	mu        sync.Mutex // never held across a wait
	chunks    [][]byte
	fill      []int // bytes used, per chunk
	head      int   // chunk that takes new entries
	chunkSize int
	chunksMax int
	index     []uint64 // open addressing: 0 empty, else the hash's upper 32 bits and the entry's position + 1
	entries   int
	scratch   []byte
	_         [32]byte
}

// Entry: hash u64 | key length u16 | value length u16 | value capacity u16 | hits u8 | dead u8 | key | value and slack.
const (
	entryHeader   = 16
	cacheShards   = 64
	chunkBytesMax = 1 << 16
	chunkBytesMin = 1 << 10
	hitsMax       = 3
)

// newRowCache returns a cache of about limit bytes, nil when limit is not positive.
func newRowCache(limit int64) *rowCache {
	if limit <= 0 {
		return nil
	}
	n := cacheShards
	for n > 1 && limit/int64(n) < 4*chunkBytesMin {
		n /= 2
	}
	per := limit / int64(n)
	size := min(max(per/8, chunkBytesMin), chunkBytesMax)
	c := &rowCache{shards: make([]cacheShard, n)}
	for i := range c.shards {
		s := &c.shards[i]
		s.chunkSize = int(size)
		s.chunksMax = int(max(per/size, 2))
		s.head = -1
	}
	return c
}

func hashKey(key []byte) uint64 { return xxhash.Sum64(key) }

func (c *rowCache) shard(hash uint64) *cacheShard { return &c.shards[hash&uint64(len(c.shards)-1)] }

// get appends the cached value of key to dst. False: not cached.
func (c *rowCache) get(dst []byte, hash uint64, key []byte) ([]byte, bool) {
	s := c.shard(hash)
	s.mu.Lock()
	at := s.find(hash, key)
	if at < 0 {
		s.mu.Unlock()
		return dst, false
	}
	e := s.entry(at)
	if e[14] < hitsMax {
		e[14]++
	}
	dst = append(dst, entryValue(e)...)
	s.mu.Unlock()
	return dst, true
}

// put caches what was read from Pebble at a time when st's epoch was epoch, unless a batch was applied since.
func (c *rowCache) put(hash uint64, key, value []byte, st *stripe, epoch uint64) {
	s := c.shard(hash)
	s.mu.Lock()
	if st.epoch.Load() == epoch && s.find(hash, key) < 0 {
		s.add(hash, key, value, 0)
	}
	s.mu.Unlock()
}

// merge reconciles an applied operand into the cached value of key, if there is one; merge returns nil for what cannot be merged.
func (c *rowCache) merge(hash uint64, key, operand []byte, merge func(dst, a, b []byte) ([]byte, error)) {
	s := c.shard(hash)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.entries == 0 {
		return
	}
	at := s.find(hash, key)
	if at < 0 {
		return
	}
	e := s.entry(at)
	value := operand
	if old := entryValue(e); len(old) > 0 {
		merged, err := merge(s.scratch[:0], old, operand)
		if err != nil {
			s.remove(at)
			return
		}
		s.scratch, value = merged, merged
	}
	if len(value) <= entryCapacity(e) {
		binary.LittleEndian.PutUint16(e[10:], uint16(len(value)))
		copy(e[entryHeader+entryKeyLen(e):], value)
		return
	}
	hits := e[14]
	s.remove(at)
	s.add(hash, key, value, hits)
}

// drop forgets key.
func (c *rowCache) drop(hash uint64, key []byte) {
	s := c.shard(hash)
	s.mu.Lock()
	if at := s.find(hash, key); at >= 0 {
		s.remove(at)
	}
	s.mu.Unlock()
}

// dropHash forgets all keys with a hash.
func (c *rowCache) dropHash(hash uint64) {
	s := c.shard(hash)
	s.mu.Lock()
	defer s.mu.Unlock()
	for at := s.findHash(hash); at >= 0; at = s.findHash(hash) {
		s.remove(at)
	}
}

// dropIf forgets all keys for which f returns true. f is called under the lock of a shard.
func (c *rowCache) dropIf(f func(key []byte) bool) {
	for i := range c.shards {
		s := &c.shards[i]
		s.mu.Lock()
		for chunk := range s.chunks {
			for off := 0; off < s.fill[chunk]; {
				e := s.chunks[chunk][off:]
				if e[15] == 0 && f(e[entryHeader:entryHeader+entryKeyLen(e)]) {
					s.remove(chunk*s.chunkSize + off)
				}
				off += entryBytes(e)
			}
		}
		s.mu.Unlock()
	}
}

// size returns the number of entries and the bytes allocated.
func (c *rowCache) size() (entries int, allocated int64) {
	for i := range c.shards {
		s := &c.shards[i]
		s.mu.Lock()
		entries += s.entries
		allocated += int64(len(s.chunks)*s.chunkSize + 8*len(s.index))
		s.mu.Unlock()
	}
	return entries, allocated
}

func entryKeyLen(e []byte) int   { return int(binary.LittleEndian.Uint16(e[8:])) }
func entryCapacity(e []byte) int { return int(binary.LittleEndian.Uint16(e[12:])) }
func entryBytes(e []byte) int    { return entryHeader + entryKeyLen(e) + entryCapacity(e) }
func entryValue(e []byte) []byte {
	from := entryHeader + entryKeyLen(e)
	return e[from : from+int(binary.LittleEndian.Uint16(e[10:]))]
}

// entry returns the bytes from position at to the end of its chunk.
func (s *cacheShard) entry(at int) []byte { return s.chunks[at/s.chunkSize][at%s.chunkSize:] }

// find returns the position of key, -1 if it is not cached.
func (s *cacheShard) find(hash uint64, key []byte) int {
	if s.entries == 0 {
		return -1
	}
	for i := s.home(hash); ; i = s.next(i) {
		slot := s.index[i]
		if slot == 0 {
			return -1
		}
		if slot>>32 != hash>>32 {
			continue
		}
		at := int(slot&0xFFFFFFFF) - 1
		e := s.entry(at)
		if n := entryKeyLen(e); n == len(key) && bytes.Equal(e[entryHeader:entryHeader+n], key) {
			return at
		}
	}
}

// findHash returns the position of an entry with a hash, -1 if there is none.
func (s *cacheShard) findHash(hash uint64) int {
	if s.entries == 0 {
		return -1
	}
	for i := s.home(hash); s.index[i] != 0; i = s.next(i) {
		if slot := s.index[i]; slot>>32 == hash>>32 {
			if at := int(slot&0xFFFFFFFF) - 1; binary.LittleEndian.Uint64(s.entry(at)) == hash {
				return at
			}
		}
	}
	return -1
}

// home is where an entry's search starts. The low bits chose the shard.
func (s *cacheShard) home(hash uint64) int { return int(hash>>8) & (len(s.index) - 1) }
func (s *cacheShard) next(i int) int       { return (i + 1) & (len(s.index) - 1) }

func (s *cacheShard) add(hash uint64, key, value []byte, hits byte) {
	capacity := (len(value) + 31) &^ 15
	n := entryHeader + len(key) + capacity
	if n > s.chunkSize/4 {
		return
	}
	for s.head < 0 || s.fill[s.head]+n > s.chunkSize {
		s.advance()
	}
	at := s.head*s.chunkSize + s.fill[s.head]
	s.fill[s.head] += n
	e := s.entry(at)
	binary.LittleEndian.PutUint64(e, hash)
	binary.LittleEndian.PutUint16(e[8:], uint16(len(key)))
	binary.LittleEndian.PutUint16(e[10:], uint16(len(value)))
	binary.LittleEndian.PutUint16(e[12:], uint16(capacity))
	e[14], e[15] = hits, 0
	copy(e[entryHeader:], key)
	copy(e[entryHeader+len(key):], value)
	if s.entries*4 >= len(s.index)*3 {
		s.grow()
	}
	s.insert(hash, at)
	s.entries++
}

func (s *cacheShard) insert(hash uint64, at int) {
	i := s.home(hash)
	for s.index[i] != 0 {
		i = s.next(i)
	}
	s.index[i] = hash>>32<<32 | uint64(at+1)
}

func (s *cacheShard) grow() {
	old := s.index
	s.index = make([]uint64, max(64, 2*len(old)))
	for _, slot := range old {
		if slot != 0 {
			at := int(slot&0xFFFFFFFF) - 1
			s.insert(binary.LittleEndian.Uint64(s.entry(at)), at)
		}
	}
}

// slotOf returns the index slot that names position at.
func (s *cacheShard) slotOf(at int) int {
	i := s.home(binary.LittleEndian.Uint64(s.entry(at)))
	for int(s.index[i]&0xFFFFFFFF) != at+1 {
		i = s.next(i)
	}
	return i
}

func (s *cacheShard) remove(at int) {
	s.unlink(s.slotOf(at))
	s.entry(at)[15] = 1
	s.entries--
}

// unlink empties slot i and moves later entries of the same run back, so that searches need no marks.
func (s *cacheShard) unlink(i int) {
	for j := s.next(i); s.index[j] != 0; j = s.next(j) {
		home := s.home(binary.LittleEndian.Uint64(s.entry(int(s.index[j]&0xFFFFFFFF) - 1)))
		if (j-home)&(len(s.index)-1) >= (j-i)&(len(s.index)-1) {
			s.index[i] = s.index[j]
			i = j
		}
	}
	s.index[i] = 0
}

// advance makes the next chunk the head: a new one while there is room, else the oldest, compacted.
func (s *cacheShard) advance() {
	if len(s.chunks) < s.chunksMax {
		s.chunks = append(s.chunks, make([]byte, s.chunkSize))
		s.fill = append(s.fill, 0)
		s.head = len(s.chunks) - 1
		return
	}
	s.head = (s.head + 1) % len(s.chunks)
	s.compact(s.head)
}

// compact keeps the entries of a chunk that were hit, at most half of the chunk, and forgets the others.
func (s *cacheShard) compact(chunk int) {
	data, kept := s.chunks[chunk], 0
	for off := 0; off < s.fill[chunk]; {
		e := data[off:]
		n := entryBytes(e)
		at := chunk*s.chunkSize + off
		switch {
		case e[15] != 0:
		case e[14] > 0 && kept+n <= s.chunkSize/2:
			e[14]--
			slot := s.slotOf(at)
			copy(data[kept:], e[:n])
			s.index[slot] = s.index[slot]>>32<<32 | uint64(chunk*s.chunkSize+kept+1)
			kept += n
		default:
			s.remove(at)
		}
		off += n
	}
	s.fill[chunk] = kept
}
