package storage

import (
	"slices"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"
	"github.com/helenusdb/helenus/schema"
)

// markerIndex knows which partitions may have markers, without I/O: a Bloom filter per generation that grows by layers. A batch
// adds its partitions before it is applied; so whoever finds no entry after it has read saw no marker in what it read.
type markerIndex struct {
	mu     sync.Mutex // serializes changes of the list
	tables atomic.Pointer[[]*markerFilter]
}

// markerFilter is one generation's.
type markerFilter struct {
	gen    schema.Generation
	layers atomic.Pointer[[]*filterLayer]
	mu     sync.Mutex // serializes new layers
}

type filterLayer struct {
	bits  []atomic.Uint64
	added atomic.Int64
}

const (
	filterProbes       = 5
	filterBitsPerEntry = 10
	filterFirstBits    = 1 << 13
	filterBitsMax      = 1 << 25 // 4 MiB for a generation; beyond it the filter only gets less sharp
)

func (x *markerIndex) filter(gen schema.Generation) *markerFilter {
	list := x.tables.Load()
	if list == nil {
		return nil
	}
	i, ok := slices.BinarySearchFunc(*list, gen, func(f *markerFilter, g schema.Generation) int { return int(int64(f.gen) - int64(g)) })
	if !ok {
		return nil
	}
	return (*list)[i]
}

// mayHave is false only when the partition has no markers.
func (x *markerIndex) mayHave(gen schema.Generation, partition uint64) bool {
	f := x.filter(gen)
	return f != nil && f.mayHave(partition)
}

// any tells whether the generation may have markers at all.
func (x *markerIndex) any(gen schema.Generation) bool { return x.filter(gen) != nil }

func (x *markerIndex) add(gen schema.Generation, partition uint64) {
	f := x.filter(gen)
	if f == nil {
		f = x.create(gen)
	}
	f.add(partition)
}

func (x *markerIndex) create(gen schema.Generation) *markerFilter {
	x.mu.Lock()
	defer x.mu.Unlock()
	if f := x.filter(gen); f != nil {
		return f
	}
	f := &markerFilter{gen: gen}
	f.layers.Store(&[]*filterLayer{newFilterLayer(filterFirstBits)})
	var list []*markerFilter
	if old := x.tables.Load(); old != nil {
		list = slices.Clone(*old)
	}
	list = append(list, f)
	slices.SortFunc(list, func(a, b *markerFilter) int { return int(int64(a.gen) - int64(b.gen)) })
	x.tables.Store(&list)
	return f
}

// forget drops a generation that exists no more.
func (x *markerIndex) forget(gen schema.Generation) {
	x.mu.Lock()
	defer x.mu.Unlock()
	old := x.tables.Load()
	if old == nil {
		return
	}
	list := slices.DeleteFunc(slices.Clone(*old), func(f *markerFilter) bool { return f.gen == gen })
	x.tables.Store(&list)
}

func newFilterLayer(bits int) *filterLayer { return &filterLayer{bits: make([]atomic.Uint64, bits/64)} }

func (f *markerFilter) mayHave(hash uint64) bool {
	for _, l := range *f.layers.Load() {
		if l.has(hash) {
			return true
		}
	}
	return false
}

func (f *markerFilter) add(hash uint64) {
	for {
		layers := *f.layers.Load()
		for _, l := range layers {
			if l.has(hash) {
				return
			}
		}
		l := layers[len(layers)-1]
		size := len(l.bits) * 64
		if int(l.added.Load())*filterBitsPerEntry < size || !f.grow(l, 2*size) {
			l.set(hash)
			return
		}
	}
}

// grow adds a layer of bits after the full one; false at the size limit.
func (f *markerFilter) grow(full *filterLayer, bits int) bool {
	if bits > filterBitsMax/2 {
		return false
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	layers := *f.layers.Load()
	if layers[len(layers)-1] == full {
		next := append(slices.Clone(layers), newFilterLayer(bits))
		f.layers.Store(&next)
	}
	return true
}

func (l *filterLayer) probe(hash uint64, i int) (*atomic.Uint64, uint64) {
	h := (hash + uint64(i)*(hash>>32|1)*0x9E3779B9) & uint64(len(l.bits)*64-1)
	return &l.bits[h/64], 1 << (h % 64)
}

func (l *filterLayer) has(hash uint64) bool {
	for i := range filterProbes {
		word, bit := l.probe(hash, i)
		if word.Load()&bit == 0 {
			return false
		}
	}
	return true
}

func (l *filterLayer) set(hash uint64) {
	for i := range filterProbes {
		word, bit := l.probe(hash, i)
		word.Or(bit)
	}
	l.added.Add(1)
}

// load fills the index from the store. Called by Open.
func (x *markerIndex) load(db *pebble.DB) error {
	it, err := db.NewIter(&pebble.IterOptions{LowerBound: []byte{spaceMarkers}, UpperBound: []byte{spaceMarkers + 1}})
	if err != nil {
		return err
	}
	for ok := it.First(); ok; ok = it.Next() {
		key := it.Key()
		if len(key) < partitionOffset {
			continue
		}
		x.add(generationOf(key), hashKey(key[1:]))
	}
	return it.Close()
}
