package sim

import (
	"encoding/binary"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/cespare/xxhash/v2"
)

// draw is the randomness of a run: a function of the seed and of what it is for. Two draws for the same thing are equal.
type draw uint64

// of returns the draw for a thing named by strings and numbers.
func (d draw) of(stream string, keys ...uint64) draw {
	var buf [128]byte
	b := binary.LittleEndian.AppendUint64(buf[:0], uint64(d))
	b = append(b, stream...)
	for _, k := range keys {
		b = binary.LittleEndian.AppendUint64(b, k)
	}
	return draw(xxhash.Sum64(b))
}

// below returns a number in [0, n); 0 when n is not positive.
func (d draw) below(n int64) int64 {
	if n <= 0 {
		return 0
	}
	return int64(uint64(d) % uint64(n))
}

// percent is true for p of 100 draws.
func (d draw) percent(p int) bool { return d.below(100) < int64(p) }

// generator returns a generator of its own for somebody who draws in a fixed order.
func (d draw) generator() *rand.Rand { return rand.New(rand.NewPCG(uint64(d), 0x68656c656e7573)) }

// fill fills b.
func (d draw) fill(b []byte) {
	for i := uint64(0); len(b) > 0; i++ {
		var word [8]byte
		binary.LittleEndian.PutUint64(word[:], uint64(d.of("fill", i)))
		b = b[copy(b, word[:]):]
	}
}

// instants gives random bytes as a function of the instant and of how many were asked for in it.
type instants struct {
	d  draw
	mu sync.Mutex
	at int64
	n  uint64
}

func (r *instants) fill(b []byte) {
	now := time.Now().UnixNano()
	r.mu.Lock()
	if now != r.at {
		r.at, r.n = now, 0
	}
	r.n++
	n := r.n
	r.mu.Unlock()
	r.d.of("at", uint64(now), n).fill(b)
}
