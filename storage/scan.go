package storage

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/helenusdb/helenus/ring"
	"github.com/helenusdb/helenus/row"
	"github.com/helenusdb/helenus/schema"
)

// scanBounds returns the keys that hold exactly the partitions of rg, which must not wrap, in a space, as [lower, upper). A range
// that ends at MinToken goes up to the largest token: no partitioner gives a key the token MinToken. One that begins at the largest token holds none that a key has: lower is upper.
func scanBounds(space byte, gen schema.Generation, rg ring.Range) (lower, upper []byte) {
	first, last := rg.Start, rg.End
	if first == ring.MaxToken {
		upper = prefixSuccessor(nil, appendGeneration(nil, space, gen))
		return upper, upper
	}
	if first != ring.MinToken {
		first++
	}
	if last == ring.MinToken {
		last = ring.MaxToken
	}
	return appendToken(nil, space, gen, first), prefixSuccessor(nil, appendToken(nil, space, gen, last))
}

// scan reads the partitions of cmd.Range in order. Row and marker space are walked side by side, because a partition may have
// markers only.
func (r *reader) scan(page *row.Page) error {
	c := r.cmd
	r.build.Init(c, page)
	if c.Range.Wraps() && c.Range.End != ring.MinToken {
		return fmt.Errorf("%w: range %v wraps", ErrBadCommand, *c.Range)
	}
	lower, upper := scanBounds(spaceRows, c.Generation, *c.Range)
	if from := r.scanStart(); bytes.Compare(from, lower) > 0 {
		lower = from
	}
	r.slices = c.Slices
	err := r.openRows(lower, upper)
	if err == nil && r.e.markers.any(c.Generation) {
		low := append([]byte{spaceMarkers}, lower[1:]...)
		up := append([]byte{spaceMarkers}, upper[1:]...)
		err = r.openMarkers(low, up)
	}
	if err == nil {
		err = r.partitions()
	}
	return errors.Join(err, r.closeIterators())
}

// scanStart returns the first key after cmd.From, nil without.
func (r *reader) scanStart() []byte {
	f := r.cmd.From
	if f == nil {
		return nil
	}
	key := appendPartition(nil, spaceRows, r.cmd.Generation, f.Token, f.Key)
	if f.Kind == row.AfterPartition {
		return prefixSuccessor(nil, key)
	}
	return key
}

func (r *reader) partitions() error {
	rows := r.rows.First()
	marks := r.markers != nil && r.markers.First()
	for rows || marks {
		marked := r.nextPartition(rows, marks)
		p, err := r.scanOne(marked)
		if err != nil || p == row.Full {
			if err == nil {
				r.build.Finish()
			}
			return err
		}
		r.bound = prefixSuccessor(r.bound[:0], r.prefix)
		rows = r.toPartition(r.bound)
		if marked {
			marks = r.markers.Next()
		}
	}
	if err := r.rows.Error(); err != nil {
		return err
	}
	if r.markers != nil {
		if err := r.markers.Error(); err != nil {
			return err
		}
	}
	r.build.Finish()
	return nil
}

// toPartition moves the row iterator to the first key >= bound. Small partitions are cheaper to step over than to seek past.
func (r *reader) toPartition(bound []byte) bool {
	const steps = 2
	ok := r.rows.Valid()
	for range steps {
		if !ok {
			break
		}
		if bytes.Compare(r.rows.Key(), bound) >= 0 {
			return true
		}
		ok = r.rows.Next()
	}
	if ok && bytes.Compare(r.rows.Key(), bound) >= 0 {
		return true
	}
	return r.rows.SeekGE(bound)
}

// nextPartition sets r.prefix to the smaller of the two iterators' partitions and returns whether it has markers.
func (r *reader) nextPartition(rows, marks bool) (marked bool) {
	var rk, mk []byte
	if rows {
		rk = r.rows.Key()
		rk = rk[:split(rk)]
	}
	if marks {
		mk = r.markers.Key()
	}
	cmp := -1
	switch {
	case !rows:
		cmp = 1
	case marks:
		cmp = bytes.Compare(rk[1:], mk[1:])
	}
	if cmp > 0 {
		r.prefix = append(r.prefix[:0], mk...)
		r.prefix[0] = spaceRows
	} else {
		r.prefix = append(r.prefix[:0], rk...)
	}
	return marks && cmp >= 0
}

// scanOne gives one partition to the builder.
func (r *reader) scanOne(marked bool) (row.Progress, error) {
	p, _, err := decodePartition(r.part, r.prefix)
	if err != nil {
		return row.Full, err
	}
	r.part = p.key
	r.build.BeginPartition(p.token, p.key)
	if marked {
		v, err := r.markers.ValueAndErr()
		if err != nil {
			return row.Full, err
		}
		r.marker = append(r.marker[:0], v...)
		if err := r.giveMarkers(r.marker); err != nil {
			return row.Full, err
		}
	}
	if err := r.content(r.slices); err != nil {
		return row.Full, err
	}
	return r.build.EndPartition(), nil
}
