package storage

import (
	"github.com/helenusdb/helenus/ring"
	"github.com/helenusdb/helenus/schema"
)

// estimateSample is how many partitions of a range are looked at to guess how many there are.
const estimateSample = 128

// Estimate returns about how many partitions a token range, which must not wrap, holds, and the bytes that their rows take on
// disk; what is in memtables has no bytes yet. Up to estimateSample partitions are counted exactly; beyond that tokens are
// taken to be spread evenly.
func (e *Engine) Estimate(gen schema.Generation, rg ring.Range) (partitions int64, bytes uint64, err error) {
	last := rg.Start
	err = e.Partitions(gen, rg, func(p Partition) bool {
		partitions++
		last = p.Token
		return partitions < estimateSample
	})
	if err != nil {
		return 0, 0, err
	}
	if seen := uint64(last) - uint64(rg.Start); partitions == estimateSample && seen > 0 {
		partitions = int64(float64(partitions) * widthOf(rg) / float64(seen))
	}
	bytes, err = e.DiskUsageRange(gen, rg)
	return partitions, bytes, err
}

// widthOf is the number of tokens of a range; a full one has 2^64.
func widthOf(rg ring.Range) float64 {
	if rg.IsFull() {
		return 1 << 64
	}
	return float64(rg.Size())
}
