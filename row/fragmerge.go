package row

import (
	"bytes"
	"errors"
	"fmt"
)

// errMixedOrder is returned for fragments of which some are reversed and some not.
var errMixedOrder = errors.New("row: merge fragments: rows in different orders")

// MergeFragments appends to dst the reconciliation of fragments of one partition, which must all have the same order of
// rows: rows merged, what deletions shadow left out, ranges normalized. The same content always gives the same bytes.
// It returns ErrCorrupt or ErrVersion, and dst as it was, for bytes that are no fragments.
func MergeFragments(dst []byte, frags [][]byte) ([]byte, error) {
	var m fragmentMerge
	return m.merge(dst, frags)
}

// fragmentMerge merges fragments with buffers that it keeps.
type fragmentMerge struct {
	readers []FragmentReader
	ahead   []bool // the reader stands at a row that is not merged yet
	ranges  []RangeTombstone
	rows    [][]byte
	merger  Merger
	shadow  rewrite
	a, b    []byte
}

func (m *fragmentMerge) merge(dst []byte, frags [][]byte) ([]byte, error) {
	m.readers, m.ahead, m.ranges, m.rows = m.readers[:0], m.ahead[:0], m.ranges[:0], m.rows[:0]
	deletion, reversed := Live(), false
	for i, frag := range frags {
		var f FragmentReader
		if err := f.Init(frag); err != nil {
			return dst, err
		}
		if i > 0 && len(frag) > 0 && f.Reversed() != reversed && len(m.readers) > 0 {
			return dst, errMixedOrder
		}
		if len(frag) == 0 {
			continue
		}
		reversed = f.Reversed()
		deletion = maxDeletion(deletion, f.deletion)
		m.ranges = f.appendAllRanges(m.ranges)
		if f.static != nil {
			m.rows = append(m.rows, f.static)
		}
		m.readers = append(m.readers, f)
	}
	out, err := m.write(dst, deletion, reversed)
	if err != nil {
		return dst, fmt.Errorf("row: merge fragments: %w", err)
	}
	return out, nil
}

func (m *fragmentMerge) write(dst []byte, deletion Deletion, reversed bool) ([]byte, error) {
	var f FragmentBuilder
	f.Reset(dst, reversed)
	f.PartitionDeletion(deletion)
	static, err := m.row(deletion)
	if err != nil {
		return nil, err
	}
	f.Static(static)
	ranges := aboveDeletion(NormalizeRanges(m.ranges), deletion)
	over := newCover(ranges, reversed)
	for i := range m.readers {
		m.ahead = append(m.ahead, m.readers[i].NextRow())
	}
	for {
		ckey, ok := m.next(reversed)
		if !ok {
			break
		}
		row, err := m.row(maxDeletion(deletion, over.over(ckey)))
		if err != nil {
			return nil, err
		}
		f.Row(ckey, row)
	}
	for i := range m.readers {
		if err := m.readers[i].err; err != nil {
			return nil, err
		}
	}
	start := f.start
	return appendRanges(f.Finish(), start, ranges), nil
}

// next gathers in m.rows the rows of the next clustering key and moves on the readers that had it.
func (m *fragmentMerge) next(reversed bool) (ckey []byte, ok bool) {
	m.rows = m.rows[:0]
	for i := range m.readers {
		if !m.ahead[i] {
			continue
		}
		c := bytes.Compare(m.readers[i].Ckey, ckey)
		if !ok || c < 0 != reversed && c != 0 {
			ckey, ok = m.readers[i].Ckey, true
		}
	}
	if !ok {
		return nil, false
	}
	for i := range m.readers {
		if m.ahead[i] && bytes.Equal(m.readers[i].Ckey, ckey) {
			m.rows = append(m.rows, m.readers[i].Row)
			m.ahead[i] = m.readers[i].NextRow()
		}
	}
	return ckey, true
}

// row returns what is left of m.rows merged under the deletion d. It lies in m's buffers.
func (m *fragmentMerge) row(d Deletion) (row []byte, err error) {
	switch len(m.rows) {
	case 0:
		return nil, nil
	case 1:
		row = m.rows[0]
	default:
		if m.a, err = m.merger.MergeAll(m.a[:0], m.rows); err != nil {
			return nil, err
		}
		row = m.a
	}
	if d.Live() {
		return row, nil
	}
	m.shadow.cover, m.shadow.gcBefore, m.shadow.watch = d, NoTimestamp, NoTimestamp
	m.b, err = m.shadow.run(m.b[:0], row)
	return m.b, err
}
