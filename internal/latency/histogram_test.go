package latency

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

func TestBucketsCoverEverythingInOrder(t *testing.T) {
	last := time.Duration(0)
	for i := range Buckets {
		b := UpperBound(i)
		if b <= last {
			t.Fatalf("bucket %d ends at %s, the one before at %s", i, b, last)
		}
		if i < Buckets-1 {
			if got := indexOf(uint64((b - 1) / time.Microsecond)); got != i {
				t.Fatalf("%s falls into bucket %d, want %d", b-1, got, i)
			}
			if got := indexOf(uint64(b / time.Microsecond)); got != i+1 {
				t.Fatalf("%s falls into bucket %d, want %d", b, got, i+1)
			}
		}
		if last > 4*time.Microsecond && float64(b) > 1.2501*float64(last) {
			t.Fatalf("bucket %d is more than a quarter wide: %s to %s", i, last, b)
		}
		last = b
	}
	if last < time.Hour {
		t.Fatalf("the last bucket ends at %s", last)
	}
}

// A quantile is never below the exact one and at most a quarter (and 1 µs) above it.
func TestQuantileAgainstSortedList(t *testing.T) {
	for seed := range uint64(50) {
		r := rand.New(rand.NewPCG(seed, 1))
		var h Histogram
		var all []time.Duration
		for range 1 + r.IntN(500) {
			d := time.Duration(r.Uint64N(1 << (10 + r.UintN(25))))
			h.Observe(d)
			all = append(all, d)
		}
		slices.Sort(all)
		s := h.Snapshot()
		for _, q := range []float64{0, 0.5, 0.75, 0.95, 0.98, 0.99, 1} {
			exact := all[int(q*float64(len(all)-1))]
			got := s.Quantile(q)
			if got < exact || float64(got) > 1.25*float64(exact)+float64(time.Microsecond) {
				t.Fatalf("seed %d: q %v of %d is %s, exactly %s", seed, q, len(all), got, exact)
			}
		}
		if s.Count != uint64(len(all)) || s.Within([]time.Duration{time.Microsecond, 2 * time.Hour})[1] != s.Count {
			t.Fatalf("seed %d: %d counted, %v within two hours, want %d", seed, s.Count, s.Within([]time.Duration{2 * time.Hour}), len(all))
		}
	}
}

func TestObserveDoesNotAllocate(t *testing.T) {
	var h Histogram
	if n := testing.AllocsPerRun(100, func() { h.Observe(time.Millisecond) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkObserve(b *testing.B) {
	var h Histogram
	b.RunParallel(func(p *testing.PB) {
		for p.Next() {
			h.Observe(123 * time.Microsecond)
		}
	})
}

func BenchmarkClock(b *testing.B) {
	t := time.Now()
	b.Run("now", func(b *testing.B) {
		for range b.N {
			t = time.Now()
		}
	})
	b.Run("since", func(b *testing.B) {
		for range b.N {
			_ = time.Since(t)
		}
	})
}
