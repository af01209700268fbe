package storage

import (
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/helenusdb/helenus/ring"
)

// TestEstimate: few partitions are counted, many guessed within a third, and their bytes show once they are flushed.
func TestEstimate(t *testing.T) {
	e := openTest(t, testOptions(vfs.NewMem()))
	defer e.Close()
	halves := []ring.Range{{Start: ring.MinToken, End: 0}, {Start: 0, End: ring.MinToken}}
	estimate := func(rg ring.Range) (int64, uint64) {
		t.Helper()
		n, bytes, err := e.Estimate(genPlain, rg)
		if err != nil {
			t.Fatal(err)
		}
		return n, bytes
	}
	written := 0
	for _, total := range []int{0, 1, 100, 6000} {
		for ; written < total; written++ {
			write(t, e, put(genPlain, pkey(written), "", 1, "some value of a row"))
		}
		var sum int64
		for _, rg := range halves {
			n, _ := estimate(rg)
			sum += n
		}
		if off := sum - int64(total); total <= 100 && off != 0 || 3*max(off, -off) > int64(total) {
			t.Errorf("%d partitions are taken for %d", total, sum)
		}
	}
	if n, _ := estimate(ring.FullRange()); n < 4000 || n > 8000 {
		t.Errorf("all of 6000: %d", n)
	}
	if err := e.Flush(); err != nil {
		t.Fatal(err)
	}
	_, left := estimate(halves[0])
	_, right := estimate(halves[1])
	if _, all := estimate(ring.FullRange()); left == 0 || right == 0 || left+right > 2*all {
		t.Errorf("%d and %d bytes of %d", left, right, all)
	}
}
