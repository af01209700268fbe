package storage

import (
	"fmt"
	"io"
	"sync"

	"github.com/cockroachdb/pebble/v2"
	"github.com/helenusdb/helenus/row"
)

// mergerName is written into the store: a store with another one is refused by Pebble.
const mergerName = "helenus.rows.v1"

// operandBytesMax: buffered operands of one key are merged into one when they pass it, so that memory stays bounded.
const operandBytesMax = 1 << 20

// merger makes Pebble's Merger for rows and markers. Operands are collected and reconciled in one go, because reconciling one by
// one would copy the row each time. longChain is told the key whenever a complete value was made of many operands.
type merger struct {
	pool      sync.Pool
	longest   int // operands that are no long chain yet
	longChain func(key []byte, operands int)
}

func newMerger(longest int, longChain func(key []byte, operands int)) *merger {
	m := &merger{longest: longest, longChain: longChain}
	m.pool.New = func() any { return &valueMerger{m: m} }
	return m
}

func (m *merger) pebble() *pebble.Merger {
	return &pebble.Merger{Name: mergerName, Merge: func(key, value []byte) (pebble.ValueMerger, error) {
		v := m.pool.Get().(*valueMerger)
		v.key = append(v.key[:0], key...)
		v.arena, v.ends, v.operands = v.arena[:0], v.ends[:0], 0
		if err := v.add(value); err != nil {
			return nil, err
		}
		return v, nil
	}}
}

// valueMerger is one merge in progress. It goes back to the pool when the caller closes the result.
type valueMerger struct {
	m        *merger
	key      []byte
	arena    []byte // the operands, end to end
	ends     []int
	operands int
	views    [][]byte
	out      []byte
	rows     row.Merger
}

// MergeNewer implements pebble.ValueMerger. The order does not matter: reconciliation is commutative.
func (v *valueMerger) MergeNewer(value []byte) error { return v.add(value) }

// MergeOlder implements pebble.ValueMerger.
func (v *valueMerger) MergeOlder(value []byte) error { return v.add(value) }

func (v *valueMerger) add(value []byte) error {
	v.operands++
	v.arena = append(v.arena, value...)
	v.ends = append(v.ends, len(v.arena))
	if len(v.arena) < operandBytesMax || len(v.ends) < 16 {
		return nil
	}
	if err := v.reconcile(); err != nil {
		return err
	}
	v.arena = append(v.arena[:0], v.out...)
	v.ends = append(v.ends[:0], len(v.arena))
	return nil
}

// reconcile merges the operands into v.out.
func (v *valueMerger) reconcile() (err error) {
	v.views = v.views[:0]
	from := 0
	for _, end := range v.ends {
		v.views = append(v.views, v.arena[from:end:end])
		from = end
	}
	switch v.key[0] {
	case spaceRows:
		v.out, err = v.rows.MergeAll(v.out[:0], v.views)
	case spaceMarkers:
		v.out, err = row.MergeFragments(v.out[:0], v.views)
	default:
		err = fmt.Errorf("%w: space %q takes no merges", errBadKey, v.key[0])
	}
	if err != nil {
		return fmt.Errorf("storage: merge %d values of key %x: %w", v.operands, v.key, err)
	}
	return nil
}

// Finish implements pebble.ValueMerger. The result is valid until the closer is closed.
func (v *valueMerger) Finish(includesBase bool) ([]byte, io.Closer, error) {
	if includesBase && v.operands > v.m.longest {
		v.m.longChain(v.key, v.operands)
	}
	if len(v.ends) == 1 {
		return v.arena, v, nil
	}
	if err := v.reconcile(); err != nil {
		return nil, nil, err
	}
	return v.out, v, nil
}

// Close implements io.Closer: the result is no longer used.
func (v *valueMerger) Close() error {
	if cap(v.arena) <= operandBytesMax && cap(v.out) <= operandBytesMax {
		v.m.pool.Put(v)
	}
	return nil
}

// mergeRows and mergeMarkers reconcile two values of the row and of the marker space.
func mergeRows(dst, a, b []byte) ([]byte, error) { return row.Merge(dst, a, b) }

func mergeMarkers(dst, a, b []byte) ([]byte, error) { return row.MergeFragments(dst, [][]byte{a, b}) }
