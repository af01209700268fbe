package storage

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/cockroachdb/pebble/v2"
	"github.com/helenusdb/helenus/schema"
)

// A truncation record says for ever that a generation is gone: later writes, hints and replays for it are refused.
// Key: 'Y' 't' generation u32. Value: version, state.
const (
	truncationKey     byte = 't'
	truncationVersion byte = 1
	truncationPending byte = 1 // decided; the data may still be there
	truncationDone    byte = 2 // the range deletion is in the store
)

func appendTruncationKey(dst []byte, gen schema.Generation) []byte {
	return binary.BigEndian.AppendUint32(append(dst, spaceEngine, truncationKey), uint32(gen))
}

// DropGeneration removes a table's data (DROP TABLE, TRUNCATE). The decision is durable before anything is removed, so a crash in
// between finishes the work at the next start, and no replay of the log brings rows back. Dropping again is harmless.
func (e *Engine) DropGeneration(gen schema.Generation) error {
	return e.withToken(e.drops, func() error {
		if err := e.writableForDrop(); err != nil {
			return err
		}
		record := appendTruncationKey(nil, gen)
		if !e.isDropped(gen) {
			if err := e.db.Set(record, []byte{truncationVersion, truncationPending}, pebble.Sync); err != nil {
				return fmt.Errorf("storage: drop generation %d: %w", gen, err)
			}
			e.markDropped(gen)
		}
		e.barrier()
		return e.withToken(e.leaves.token, func() error { return e.removeGeneration(gen) }) // no leaf is stored after it
	})
}

// writableForDrop allows what a full disk forbids: dropping frees space.
func (e *Engine) writableForDrop() error {
	if e.hasFailed() {
		return ErrFailed
	}
	return nil
}

// barrier returns when every batch that holds a stripe now is applied.
func (e *Engine) barrier() {
	for i := range e.stripes {
		e.stripes[i].acquire()
		e.stripes[i].release()
	}
}

func (e *Engine) removeGeneration(gen schema.Generation) error {
	pb := e.db.NewBatch()
	var err error
	for _, space := range []byte{spaceRows, spaceMarkers, spaceDeaths, spacePaxos, spaceLeaves} {
		start := appendGeneration(nil, space, gen)
		err = errors.Join(err, pb.DeleteRange(start, prefixSuccessor(nil, start), nil))
	}
	err = errors.Join(err, pb.Set(appendTruncationKey(nil, gen), []byte{truncationVersion, truncationDone}, nil))
	if err == nil {
		err = e.db.Apply(pb, pebble.Sync)
	}
	if err = errors.Join(err, pb.Close()); err != nil {
		return fmt.Errorf("storage: remove generation %d: %w", gen, err)
	}
	e.markers.forget(gen)
	e.stats.forget(gen)
	e.leaves.put(gen, nil)
	return nil
}

func (e *Engine) isDropped(gen schema.Generation) bool {
	list := e.dropped.Load()
	if list == nil {
		return false
	}
	_, ok := slices.BinarySearch(*list, gen)
	return ok
}

func (e *Engine) markDropped(gen schema.Generation) {
	var list []schema.Generation
	if old := e.dropped.Load(); old != nil {
		list = slices.Clone(*old)
	}
	if at, ok := slices.BinarySearch(list, gen); !ok {
		list = slices.Insert(list, at, gen)
	}
	e.dropped.Store(&list)
}

// loadDropped reads the truncation records and finishes what a crash interrupted.
func (e *Engine) loadDropped() error {
	prefix := []byte{spaceEngine, truncationKey}
	it, err := e.db.NewIter(&pebble.IterOptions{LowerBound: prefix, UpperBound: prefixSuccessor(nil, prefix)})
	if err != nil {
		return err
	}
	var pending []schema.Generation
	for ok := it.First(); ok; ok = it.Next() {
		if k := it.Key(); len(k) == len(prefix)+4 {
			gen := schema.Generation(binary.BigEndian.Uint32(k[len(prefix):]))
			e.markDropped(gen)
			if v := it.Value(); len(v) < 2 || v[1] != truncationDone {
				pending = append(pending, gen)
			}
		}
	}
	if err := it.Close(); err != nil {
		return fmt.Errorf("truncation records: %w", err)
	}
	for _, gen := range pending {
		if err := e.removeGeneration(gen); err != nil {
			return err
		}
	}
	return nil
}
