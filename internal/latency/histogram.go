package latency

import (
	"math/bits"
	"sync/atomic"
	"time"
)

// Buckets is how many buckets a histogram has. They cover 1 µs to 70 minutes; what is longer counts in the last one.
const Buckets = 4 + 4*30

// Histogram counts durations. The zero value is empty. Observe may be called concurrently with everything.
type Histogram struct {
	buckets [Buckets]atomic.Uint64
	sum     atomic.Uint64 // nanoseconds
}

// Observe adds a duration; a negative one counts as 0.
func (h *Histogram) Observe(d time.Duration) {
	ns := uint64(max(d, 0))
	h.buckets[indexOf(ns/1000)].Add(1)
	h.sum.Add(ns)
}

// indexOf returns the bucket of a number of µs: 0 to 3 have one each, then every octave has four.
func indexOf(us uint64) int {
	if us < 4 {
		return int(us)
	}
	octave := bits.Len64(us) - 3 // 4 to 7: 0
	return min(4+4*octave+int(us>>octave)&3, Buckets-1)
}

// UpperBound returns the least duration that is too long for bucket i.
func UpperBound(i int) time.Duration {
	i++
	if i < 4 {
		return time.Duration(i) * time.Microsecond
	}
	octave, quarter := (i-4)/4, (i-4)%4
	return time.Duration(4+quarter) << octave * time.Microsecond
}

// Snapshot is what a histogram held at some moment: a value.
type Snapshot struct {
	Counts [Buckets]uint64
	Count  uint64
	Sum    time.Duration
}

// Add adds what h holds now. Counts that are being written may or may not be in it.
func (s *Snapshot) Add(h *Histogram) {
	for i := range h.buckets {
		n := h.buckets[i].Load()
		s.Counts[i] += n
		s.Count += n
	}
	s.Sum += time.Duration(h.sum.Load())
}

// Snapshot returns what h holds now.
func (h *Histogram) Snapshot() (s Snapshot) {
	s.Add(h)
	return s
}

// Merge adds o.
func (s *Snapshot) Merge(o *Snapshot) {
	for i, n := range o.Counts {
		s.Counts[i] += n
	}
	s.Count += o.Count
	s.Sum += o.Sum
}

// Mean returns the average; 0 without observations.
func (s *Snapshot) Mean() time.Duration {
	if s.Count == 0 {
		return 0
	}
	return s.Sum / time.Duration(s.Count)
}

// Quantile returns an upper bound of the q-quantile, q in [0, 1], at most a quarter too high beyond 4 µs; 0 without
// observations. Quantile(0) is that of the least.
func (s *Snapshot) Quantile(q float64) time.Duration {
	if s.Count == 0 {
		return 0
	}
	want, seen := uint64(q*float64(s.Count-1)), uint64(0)
	for i, n := range s.Counts {
		if seen += n; seen > want {
			return UpperBound(i)
		}
	}
	return UpperBound(Buckets - 1)
}

// Within returns how many observations were shorter than each bound; bounds are ascending. A bound inside a bucket counts
// the buckets below it.
func (s *Snapshot) Within(bounds []time.Duration) []uint64 {
	out, at, seen := make([]uint64, len(bounds)), 0, uint64(0)
	for i, b := range bounds {
		for at < Buckets && UpperBound(at) <= b {
			seen += s.Counts[at]
			at++
		}
		out[i] = seen
	}
	return out
}
