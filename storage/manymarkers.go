package storage

import (
	"bytes"
	"slices"
	"sort"
	"sync"

	"github.com/helenusdb/helenus/row"
)

// A partition with very many range tombstones is kept decoded, so that a point read searches them instead of scanning all.
const (
	manyRanges        = 64       // from this number on
	manyPartitionsMax = 16       // decoded partitions
	manyBytesMax      = 16 * mib // of their encoded markers together
)

// decodedMarkers is immutable.
type decodedMarkers struct {
	key    []byte
	epoch  uint64 // the stripe's markerEpoch before they were read: while it is the same and the stripe calm, they are right
	size   int
	del    row.Deletion
	ranges []row.RangeTombstone // ascending, disjoint
}

// manyMarkers holds the partitions used last, the most recent one first.
type manyMarkers struct {
	mu    sync.Mutex
	parts []*decodedMarkers
	bytes int
}

// get returns what is decoded of key, nil if nothing is or if a marker was written since.
func (x *manyMarkers) get(key []byte, epoch uint64) *decodedMarkers {
	x.mu.Lock()
	defer x.mu.Unlock()
	for i, d := range x.parts {
		if !bytes.Equal(d.key, key) {
			continue
		}
		if d.epoch != epoch {
			x.remove(i)
			return nil
		}
		copy(x.parts[1:i+1], x.parts[:i])
		x.parts[0] = d
		return d
	}
	return nil
}

func (x *manyMarkers) remove(i int) {
	x.bytes -= x.parts[i].size
	x.parts = slices.Delete(x.parts, i, i+1)
}

func (x *manyMarkers) put(d *decodedMarkers) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if i := slices.IndexFunc(x.parts, func(o *decodedMarkers) bool { return bytes.Equal(o.key, d.key) }); i >= 0 {
		x.remove(i)
	}
	if d.size > manyBytesMax {
		return
	}
	x.parts = slices.Insert(x.parts, 0, d)
	for x.bytes += d.size; x.bytes > manyBytesMax || len(x.parts) > manyPartitionsMax; {
		x.remove(len(x.parts) - 1)
	}
}

// decodeMarkers copies value and decodes it; nil when it has few ranges.
func decodeMarkers(key, value []byte, epoch uint64) (*decodedMarkers, error) {
	var f row.FragmentReader
	d := &decodedMarkers{epoch: epoch, size: len(value)}
	if err := f.Init(slices.Clone(value)); err != nil {
		return nil, err
	}
	d.del = f.PartitionDeletion()
	var rt row.RangeTombstone
	for f.NextRange(&rt) {
		d.ranges = append(d.ranges, rt)
	}
	if len(d.ranges) < manyRanges {
		return nil, f.Err()
	}
	d.key = slices.Clone(key)
	return d, f.Err()
}

// give hands the deletion and the ranges that touch one of the slices to the builder.
func (d *decodedMarkers) give(b *row.PageBuilder, points []row.Slice) {
	if !d.del.Live() {
		b.PartitionDeletion(d.del)
	}
	next := 0 // given so far: a range may touch several slices
	for i := range points {
		sl := &points[i]
		first := sort.Search(len(d.ranges), func(i int) bool {
			return d.ranges[i].End == nil || bytes.Compare(d.ranges[i].End, sl.Start) > 0
		})
		for next = max(next, first); next < len(d.ranges); next++ {
			if sl.End != nil && bytes.Compare(d.ranges[next].Start, sl.End) >= 0 {
				break
			}
			b.RangeTombstone(d.ranges[next])
		}
	}
}
