package storage

import (
	"context"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"
	"github.com/helenusdb/helenus/ring"
	"github.com/helenusdb/helenus/schema"
)

// Flush writes the memtables to tables and waits for it.
func (e *Engine) Flush() error {
	if err := e.db.Flush(); err != nil {
		return fmt.Errorf("storage: flush: %w", err)
	}
	return nil
}

// Sync makes everything written so far durable and waits for it. Only Periodic needs it: under the others Committed says so.
func (e *Engine) Sync() error {
	if err := e.usable(); err != nil {
		return err
	}
	if err := e.db.LogData(nil, pebble.Sync); err != nil {
		return fmt.Errorf("storage: sync: %w", err)
	}
	return nil
}

// Compact brings all data of a generation to the bottom of the store and waits for it.
func (e *Engine) Compact(ctx context.Context, gen schema.Generation) error {
	var err error
	for _, space := range []byte{spaceRows, spaceMarkers} {
		start := appendGeneration(nil, space, gen)
		err = errors.Join(err, e.db.Compact(ctx, start, prefixSuccessor(nil, start), false))
	}
	if err != nil {
		return fmt.Errorf("storage: compact generation %d: %w", gen, err)
	}
	return nil
}

// DiskUsage estimates the bytes that a generation's tables take on disk; what is in memtables is not counted.
func (e *Engine) DiskUsage(gen schema.Generation) (uint64, error) {
	return e.usage(appendGeneration(nil, spaceRows, gen), appendGeneration(nil, spaceMarkers, gen))
}

// DiskUsageRange is DiskUsage of the rows of one token range, which must not wrap.
func (e *Engine) DiskUsageRange(gen schema.Generation, rg ring.Range) (uint64, error) {
	lower, upper := scanBounds(spaceRows, gen, rg)
	n, err := e.db.EstimateDiskUsage(lower, upper)
	if err != nil {
		return 0, fmt.Errorf("storage: disk usage of generation %d: %w", gen, err)
	}
	return n, nil
}

func (e *Engine) usage(prefixes ...[]byte) (sum uint64, err error) {
	for _, p := range prefixes {
		n, err := e.db.EstimateDiskUsage(p, prefixSuccessor(nil, p))
		if err != nil {
			return 0, fmt.Errorf("storage: disk usage: %w", err)
		}
		sum += n
	}
	return sum, nil
}

// AnyRows tells whether a generation holds anything, a deletion or a Paxos register included.
func (e *Engine) AnyRows(gen schema.Generation) (bool, error) {
	for _, space := range []byte{spaceRows, spaceMarkers, spacePaxos} {
		start := appendGeneration(nil, space, gen)
		it, err := e.db.NewIter(&pebble.IterOptions{LowerBound: start, UpperBound: prefixSuccessor(nil, start)})
		if err != nil {
			return false, err
		}
		found := it.First()
		if err := it.Close(); err != nil || found {
			return found, err
		}
	}
	return false, nil
}

// Partition is one partition of a Partitions walk. Its bytes are valid during the call only.
type Partition struct {
	Token ring.Token
	Key   []byte
}

// Partitions calls fn for each partition of a token range, which must not wrap, in order, until it returns false. Partitions that
// hold deletions only are included.
func (e *Engine) Partitions(gen schema.Generation, rg ring.Range, fn func(Partition) bool) error {
	r := &reader{e: e}
	lower, upper := scanBounds(spaceRows, gen, rg)
	err := r.openRows(lower, upper)
	if err == nil && e.markers.any(gen) {
		err = r.openMarkers(append([]byte{spaceMarkers}, lower[1:]...), append([]byte{spaceMarkers}, upper[1:]...))
	}
	if err == nil {
		err = r.walk(fn)
	}
	if err = errors.Join(err, r.closeIterators()); err != nil {
		return fmt.Errorf("storage: partitions of generation %d: %w", gen, err)
	}
	return nil
}

func (r *reader) walk(fn func(Partition) bool) error {
	rows := r.rows.First()
	marks := r.markers != nil && r.markers.First()
	for rows || marks {
		marked := r.nextPartition(rows, marks)
		p, _, err := decodePartition(r.part, r.prefix)
		if err != nil {
			return err
		}
		r.part = p.key
		if !fn(Partition{p.token, p.key}) {
			return nil
		}
		r.bound = prefixSuccessor(r.bound[:0], r.prefix)
		rows = r.toPartition(r.bound)
		if marked {
			marks = r.markers.Next()
		}
	}
	err := r.rows.Error()
	if r.markers != nil {
		err = errors.Join(err, r.markers.Error())
	}
	return err
}
