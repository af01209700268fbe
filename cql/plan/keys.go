package plan

import (
	"bytes"
	"encoding/binary"
	"slices"
	"strings"

	"github.com/helenusdb/helenus/cql"
	"github.com/helenusdb/helenus/cql/protocol"
	"github.com/helenusdb/helenus/cql/types"
	"github.com/helenusdb/helenus/row"
	"github.com/helenusdb/helenus/schema"
)

const (
	combinationsMax = 1 << 17 // bounds what the INs of one statement multiply to
	manyKeys        = 64      // rows that IN names, beyond which a statement is a long one
)

func tooMany() error {
	return invalid("The IN restrictions of the statement produce more than %d combinations", combinationsMax)
}

// among reports whether an IN names rows.
func (w *where) among() bool {
	in := func(r *restriction) bool { return r != nil && r.kind == restrictIn }
	return slices.ContainsFunc(w.keys, in) || slices.ContainsFunc(w.clustering, in)
}

// many reports whether the INs name more than manyKeys rows, without a look at their values.
func (w *where) many(a *Args) bool {
	n := 1
	for _, rs := range [2][]*restriction{w.keys, w.clustering} {
		for _, r := range rs {
			if r != nil && r.kind == restrictIn {
				n *= max(r.named(a), 1)
			}
			if n > manyKeys {
				return true
			}
		}
	}
	return false
}

// named returns how many values an IN has.
func (r *restriction) named(a *Args) int {
	if r.inMarker == nil {
		return len(r.in)
	}
	if r.inMarker.slot >= len(a.Values) || len(a.Values[r.inMarker.slot].Bytes) < 4 {
		return 0
	}
	return int(min(binary.BigEndian.Uint32(a.Values[r.inMarker.slot].Bytes), combinationsMax))
}

// columnValue evaluates a term that a key column is compared with: neither null nor unset.
func columnValue(sc *scope, t term, col *schema.Column) ([]byte, error) {
	v, err := t.eval(sc)
	switch {
	case err != nil:
		return nil, err
	case v.State == protocol.Null:
		return nil, invalid("Invalid null value in condition for column %s", cql.QuoteIdent(col.Name))
	case v.State == protocol.Unset:
		return nil, invalid("Invalid unset value for column %s", cql.QuoteIdent(col.Name))
	}
	return v.Bytes, nil
}

// values appends the values that src gives for cols to dst.
func (src *tupleSource) values(sc *scope, dst [][]byte, cols []*schema.Column) ([][]byte, error) {
	if src.whole == nil {
		for i, t := range src.terms {
			v, err := columnValue(sc, t, cols[i])
			if err != nil {
				return dst, src.componentError(sc, t, err, i, cols)
			}
			dst = append(dst, v)
		}
		return dst, nil
	}
	v, err := src.whole.eval(sc)
	switch {
	case err != nil:
		return dst, err
	case v.State == protocol.Unset:
		return dst, invalid("Invalid unset value for tuple (%s)", strings.ReplaceAll(columnNames(cols), ", ", ","))
	case v.State == protocol.Null:
		return dst, invalid("Invalid null value in condition for columns: [%s]", columnNames(cols))
	}
	it := src.typ.Iter(v.Bytes)
	for _, col := range cols {
		e, _ := it.Next()
		if e == nil {
			return dst, src.nullError(col, cols)
		}
		dst = append(dst, e)
	}
	return dst, nil
}

// nullError is the error of a tuple whose component of col is null.
func (src *tupleSource) nullError(col *schema.Column, cols []*schema.Column) error {
	if src.among {
		return invalid("Invalid null value in condition for columns: [%s]", columnNames(cols))
	}
	return invalid("Invalid null value for column %s", cql.QuoteIdent(col.Name))
}

// componentError is err, the error of component i of a tuple, in the words that Cassandra has for tuples.
func (src *tupleSource) componentError(sc *scope, t term, err error, i int, cols []*schema.Column) error {
	if len(cols) == 1 {
		return err
	}
	switch v, _ := t.eval(sc); v.State {
	case protocol.Unset:
		return invalid("Invalid unset value for tuple field number %d", i)
	case protocol.Null:
		return src.nullError(cols[i], cols)
	}
	return err
}

func splitTuple(dst [][]byte, typ *types.Type, tuple []byte, cols []*schema.Column) ([][]byte, error) {
	it := typ.Iter(tuple)
	for range cols {
		v, _ := it.Next()
		if v == nil {
			return dst, invalid("Invalid null value in condition for columns: [%s]", columnNames(cols))
		}
		dst = append(dst, v)
	}
	return dst, nil
}

// tuples appends the tuples that r allows, flat, len(r.cols) values each.
func (r *restriction) tuples(sc *scope, dst [][]byte) ([][]byte, error) {
	if r.kind == restrictEq {
		return r.eq.values(sc, dst, r.cols)
	}
	if r.inMarker == nil {
		var err error
		for i := range r.in {
			if dst, err = r.in[i].values(sc, dst, r.cols); err != nil {
				return dst, err
			}
		}
		return dst, nil
	}
	return r.markerTuples(sc, dst)
}

// markerTuples reads the list that IN ? was bound to.
func (r *restriction) markerTuples(sc *scope, dst [][]byte) ([][]byte, error) {
	v := sc.args.Values[r.inMarker.slot]
	switch {
	case v.State == protocol.Null && r.multi:
		return dst, invalid("Invalid null value for IN restriction")
	case v.State == protocol.Null:
		return dst, invalid("Invalid null value for column %s", columnNames(r.cols))
	case v.State == protocol.Unset && r.multi:
		return dst, invalid("Invalid unset value for in(%s)", strings.ReplaceAll(columnNames(r.cols), ", ", ","))
	case v.State == protocol.Unset:
		return dst, invalid("Invalid unset value for column %s", columnNames(r.cols))
	}
	elem := r.inType.Elems[0]
	it := r.inType.Iter(v.Bytes)
	for e, ok := it.Next(); ok; e, ok = it.Next() {
		if e == nil {
			return dst, invalid("Invalid null value in condition for column %s", columnNames(r.cols))
		}
		err := elem.Validate(e)
		if err == nil && r.multi {
			dst, err = splitTuple(dst, elem, e, r.cols)
		} else {
			dst = append(dst, e)
		}
		if err != nil {
			return dst, marshalError(err)
		}
	}
	return dst, marshalError(it.Err())
}

// partitionKeys evaluates the partition keys that w names, into buf.keys: each once, ordered by their components.
func (w *where) partitionKeys(sc *scope, buf *Buffer) error {
	buf.keys = buf.keys[:0]
	single := true
	for _, r := range w.keys {
		single = single && r.kind == restrictEq
	}
	buf.comps = buf.comps[:0]
	var err error
	if single {
		for _, r := range w.keys {
			if buf.comps, err = r.eq.values(sc, buf.comps, r.cols); err != nil {
				return err
			}
		}
		return w.addPartitionKey(buf, buf.comps)
	}
	sets := make([][][]byte, len(w.keys))
	for i, r := range w.keys {
		if sets[i], err = r.tuples(sc, nil); err != nil {
			return err
		}
		compare := r.first().Type.Compare
		slices.SortFunc(sets[i], compare)
		sets[i] = slices.CompactFunc(sets[i], bytes.Equal)
	}
	return w.product(buf, sets)
}

// product makes a key of each combination of components.
func (w *where) product(buf *Buffer, sets [][][]byte) error {
	n := 1
	for _, s := range sets {
		n *= len(s)
		if n > combinationsMax {
			return tooMany()
		}
	}
	for i := range n {
		buf.comps = buf.comps[:0]
		for j, rest := 0, n; j < len(sets); j++ {
			rest /= len(sets[j])
			buf.comps = append(buf.comps, sets[j][i/rest%len(sets[j])])
		}
		if err := w.addPartitionKey(buf, buf.comps); err != nil {
			return err
		}
	}
	return nil
}

func (w *where) addPartitionKey(buf *Buffer, comps [][]byte) error {
	key := comps[0]
	if len(comps) > 1 {
		for i, v := range comps {
			if len(v) > schema.KeyLenMax {
				return keyTooLong(len(comps[i]))
			}
		}
		at := len(buf.mem.buf)
		key = buf.mem.take(w.table.PartitionKeyOf(buf.mem.buf, comps), at)
	}
	if len(key) == 0 {
		return invalid("Key may not be empty")
	}
	if len(key) > schema.KeyLenMax {
		return keyTooLong(len(key))
	}
	buf.keys = append(buf.keys, key)
	return nil
}

func keyTooLong(n int) error {
	return invalid("Key length of %d is longer than maximum of %d", n, schema.KeyLenMax)
}

// clusteringSlices evaluates the clustering slices that w demands, appended to buf.slices, and returns them: ascending, disjoint;
// none: no row at all. Without restrictions it returns nil and all == true.
func (w *where) clusteringSlices(sc *scope, buf *Buffer) (list []row.Slice, all bool, err error) {
	rs := w.clustering[:w.filtersRows]
	if len(rs) == 0 {
		return nil, true, nil
	}
	at := len(buf.slices)
	buf.tuples = buf.tuples[:0]
	n, width := 1, 0 // combinations so far, values in each
	for _, r := range rs {
		if r.slice() {
			err = w.rangeSlices(sc, buf, n, width, r)
			return sortSlices(buf.slices[at:]), false, err
		}
		if n, err = buf.extend(sc, r, n, width); err != nil {
			return nil, false, err
		}
		width += len(r.cols)
	}
	for i := range n {
		prefix := w.table.AppendClusteringKey(buf.mem.buf, buf.tuples[i*width:(i+1)*width])
		start := buf.mem.take(prefix, len(buf.mem.buf))
		end := buf.mem.after(start)
		buf.slices = append(buf.slices, row.Slice{Start: start, End: end, Point: width == len(w.table.Clustering)})
	}
	return sortSlices(buf.slices[at:]), false, nil
}

// after returns the position behind everything that begins with key.
func (m *arena) after(key []byte) []byte {
	at := len(m.buf)
	return m.take(append(append(m.buf, key...), 0xFF), at)
}

// extend multiplies the n combinations in b.tuples, of width values each, by the tuples that r allows.
func (b *Buffer) extend(sc *scope, r *restriction, n, width int) (int, error) {
	if r.kind == restrictEq && n == 1 {
		var err error
		b.tuples, err = r.eq.values(sc, b.tuples, r.cols)
		return 1, err
	}
	more, err := r.tuples(sc, nil)
	if err != nil {
		return 0, err
	}
	k := len(r.cols)
	m := len(more) / k
	if n*m > combinationsMax {
		return 0, tooMany()
	}
	out := make([][]byte, 0, n*m*(width+k))
	for i := range n {
		for j := range m {
			out = append(out, b.tuples[i*width:(i+1)*width]...)
			out = append(out, more[j*k:(j+1)*k]...)
		}
	}
	b.tuples = out
	return n * m, nil
}

// rangeSlices appends the slices of a range restriction behind each of the n prefixes in buf.tuples.
func (w *where) rangeSlices(sc *scope, buf *Buffer, n, width int, r *restriction) error {
	lower, err := r.lower.bound(sc, w.writes)
	if err != nil {
		return err
	}
	upper, err := r.upper.bound(sc, w.writes)
	if err != nil || r.upper != nil && upper == nil {
		return err // nothing is less than null
	}
	for i := range n {
		at := len(buf.mem.buf)
		prefix := buf.mem.take(w.table.AppendClusteringKey(buf.mem.buf, buf.tuples[i*width:(i+1)*width]), at)
		switch {
		case lower == nil && upper == nil:
			buf.slices = append(buf.slices, row.Slice{Start: prefix, End: buf.mem.after(prefix)})
		case upper == nil:
			buf.slices = sided(buf.slices, prefix, r.cols, lower, true, r.lower.inclusive)
		case lower == nil:
			buf.slices = sided(buf.slices, prefix, r.cols, upper, false, r.upper.inclusive)
		default:
			above := sided(nil, prefix, r.cols, lower, true, r.lower.inclusive)
			below := sided(nil, prefix, r.cols, upper, false, r.upper.inclusive)
			buf.slices = intersect(buf.slices, sortSlices(above), sortSlices(below))
		}
	}
	return nil
}

// bound evaluates one side of a slice: nil when there is none. In a SELECT a single null sorts before everything, as in
// Cassandra; a deletion of all that is greater than nothing is refused.
func (b *boundSource) bound(sc *scope, strict bool) ([][]byte, error) {
	if b == nil {
		return nil, nil
	}
	if len(b.terms) == 1 && !strict {
		if v, err := b.terms[0].eval(sc); err != nil || v.State == protocol.Null {
			return nil, err
		}
	}
	if b.whole != nil {
		return b.values(sc, nil, b.cols)
	}
	out := make([][]byte, len(b.terms))
	for i, t := range b.terms {
		v, err := columnValue(sc, t, b.cols[i])
		if bt, ok := t.(*bindTerm); ok && len(b.cols) > 1 && sc.args.Values[bt.slot].State == protocol.Unset {
			return nil, invalid("Invalid unset value for tuple field number %d", i)
		}
		if err != nil {
			return nil, err
		}
		out[i] = v
	}
	return out, nil
}

// sided appends the positions behind prefix whose next components are greater (or less) than vals, compared as a tuple: for
// each column an interval where the columns before it are equal. Descending columns turn the interval around.
func sided(dst []row.Slice, prefix []byte, cols []*schema.Column, vals [][]byte, greater, inclusive bool) []row.Slice {
	equal := slices.Clone(prefix)
	for i, v := range vals {
		col := cols[i]
		at := col.Type.AppendKey(slices.Clone(equal), v, col.Desc)
		behind := append(slices.Clone(at), 0xFF)
		if greater != col.Desc {
			end := append(slices.Clone(equal), 0xFF)
			dst = append(dst, row.Slice{Start: behind, End: end})
		} else {
			dst = append(dst, row.Slice{Start: slices.Clone(equal), End: at})
		}
		if i == len(vals)-1 && inclusive {
			dst = append(dst, row.Slice{Start: at, End: behind})
		}
		equal = at
	}
	return dst
}

// intersect appends what is in both lists, which are ascending and disjoint.
func intersect(dst, a, b []row.Slice) []row.Slice {
	for len(a) > 0 && len(b) > 0 {
		start, end := a[0].Start, a[0].End
		if bytes.Compare(b[0].Start, start) > 0 {
			start = b[0].Start
		}
		if bytes.Compare(b[0].End, end) < 0 {
			end = b[0].End
		}
		if bytes.Compare(start, end) < 0 {
			dst = append(dst, row.Slice{Start: start, End: end})
		}
		if bytes.Compare(a[0].End, b[0].End) < 0 {
			a = a[1:]
		} else {
			b = b[1:]
		}
	}
	return dst
}
