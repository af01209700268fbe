package plan

import (
	"bytes"
	"slices"

	"github.com/helenusdb/helenus/cql"
	"github.com/helenusdb/helenus/cql/protocol"
	"github.com/helenusdb/helenus/cql/types"
	"github.com/helenusdb/helenus/schema"
)

// filter is a restriction that is checked on the rows that were read, after all replicas' data was merged.
type filter struct {
	r     *restriction // of columns in slots
	slots []int
	key   bool // of partition key columns or the static row: the same for all rows of a partition
}

// boundFilter is a filter with the values of one request.
type boundFilter struct {
	*filter
	eq             [][]byte
	in             [][]byte // flat
	lower, upper   [][]byte
	contains, keys [][]byte
	entries        [][2][]byte
}

// restrictsRows reports whether the statement picks rows by clustering or regular columns: static rows alone are none then.
func (s *Select) restrictsRows() bool {
	if len(s.where.clustering) > 0 {
		return true
	}
	return slices.ContainsFunc(s.where.others, func(r *restriction) bool { return r.first().Kind == schema.KindRegular })
}

// compileFilters finds the restrictions that reading by key does not see to.
func (s *Select) compileFilters() error {
	w := s.where
	if w.filtersKeys {
		s.addFilters(w.keys)
	}
	s.addFilters(w.clustering[w.filtersRows:])
	s.addFilters(w.others)
	return nil
}

func (s *Select) addFilters(list []*restriction) {
	for _, r := range list {
		f := filter{r: r, key: r.first().Kind == schema.KindPartitionKey || r.first().Kind == schema.KindStatic}
		for _, col := range r.cols {
			f.slots = append(f.slots, s.slots.of(col))
		}
		s.filters = append(s.filters, f)
	}
}

// bindFilters evaluates what the filters compare with.
func (w *RowWriter) bindFilters() error {
	w.filters = w.filters[:0]
	for i := range w.s.filters {
		b := boundFilter{filter: &w.s.filters[i]}
		if err := b.bind(&w.sc); err != nil {
			return err
		}
		w.filters = append(w.filters, b)
	}
	return nil
}

func (b *boundFilter) bind(sc *scope) error {
	r := b.r
	var err error
	switch r.kind {
	case restrictEq:
		b.eq, err = b.values(sc, &r.eq, r.cols)
	case restrictIn:
		b.in, err = r.tuples(sc, nil)
	case restrictSlice:
		if len(r.cols) > 1 {
			return invalid("Multi-column slice restrictions cannot be used for filtering.")
		}
		if r.lower != nil {
			if b.lower, err = b.values(sc, &r.lower.tupleSource, r.lower.cols); err != nil {
				return err
			}
		}
		if r.upper != nil {
			b.upper, err = b.values(sc, &r.upper.tupleSource, r.upper.cols)
		}
	case restrictContains:
		return b.bindContains(sc)
	}
	return err
}

// values evaluates what the columns are compared with; a filter has its own words for null.
func (b *boundFilter) values(sc *scope, src *tupleSource, cols []*schema.Column) ([][]byte, error) {
	if len(src.terms) != 1 {
		return src.values(sc, nil, cols)
	}
	v, err := filterValue(sc, src.terms[0], cols[0])
	return [][]byte{v}, err
}

func filterValue(sc *scope, t term, col *schema.Column) ([]byte, error) {
	v, err := t.eval(sc)
	switch {
	case err != nil:
		return nil, err
	case v.State == protocol.Null:
		return nil, invalid("Unsupported null value for column %s", cql.QuoteIdent(col.Name))
	case v.State == protocol.Unset:
		return nil, invalid("Unsupported unset value for column %s", cql.QuoteIdent(col.Name))
	}
	return v.Bytes, nil
}

func (b *boundFilter) bindContains(sc *scope) error {
	col := b.r.first()
	for _, t := range b.r.contains {
		v, err := filterValue(sc, t, col)
		if err != nil {
			return err
		}
		b.contains = append(b.contains, v)
	}
	for _, t := range b.r.keys {
		v, err := filterValue(sc, t, col)
		if err != nil {
			return err
		}
		b.keys = append(b.keys, v)
	}
	for _, e := range b.r.entries {
		k, err := entryValue(sc, e[0], "key", col)
		if err != nil {
			return err
		}
		v, err := entryValue(sc, e[1], "value", col)
		if err != nil {
			return err
		}
		b.entries = append(b.entries, [2][]byte{k, v})
	}
	return nil
}

func entryValue(sc *scope, t term, what string, col *schema.Column) ([]byte, error) {
	v, err := t.eval(sc)
	switch {
	case err != nil:
		return nil, err
	case v.State == protocol.Null:
		return nil, invalid("Unsupported null map %s for column %s", what, col.Name)
	case v.State == protocol.Unset:
		return nil, invalid("Unsupported unset map %s for column %s", what, col.Name)
	}
	return v.Bytes, nil
}

// passes reports whether the row in view satisfies the filters; those that only regular and clustering columns decide do not
// hold for a static row alone.
func (w *RowWriter) passes(static bool) (bool, error) {
	for i := range w.filters {
		f := &w.filters[i]
		if static && !f.key {
			return false, nil
		}
		if !f.passes(&w.view) {
			return false, nil
		}
	}
	return true, nil
}

func (f *boundFilter) passes(view *rowView) bool {
	switch f.r.kind {
	case restrictEq:
		return f.compare(view, f.eq) == 0
	case restrictIn:
		n := len(f.slots)
		for in := f.in; len(in) >= n && n > 0; in = in[n:] {
			if f.compare(view, in[:n]) == 0 {
				return true
			}
		}
		return false
	case restrictSlice:
		return f.inRange(view)
	}
	v := view.vals[f.slots[0]]
	return v != nil && f.holds(f.r.first().Type, v)
}

// incomparable is compare's result when a value is null.
const incomparable = 2

// compare compares the row's values with vals, as a tuple; the type's own order, whatever the clustering order.
func (f *boundFilter) compare(view *rowView, vals [][]byte) int {
	for i, want := range vals {
		have := view.vals[f.slots[i]]
		if have == nil {
			return incomparable
		}
		if c := f.r.cols[i].Type.Compare(have, want); c != 0 {
			return c
		}
	}
	return 0
}

func (f *boundFilter) inRange(view *rowView) bool {
	if f.lower != nil {
		c := f.compare(view, f.lower)
		if c == incomparable || c < 0 || c == 0 && !f.r.lower.inclusive {
			return false
		}
	}
	if f.upper != nil {
		c := f.compare(view, f.upper)
		if c == incomparable || c > 0 || c == 0 && !f.r.upper.inclusive {
			return false
		}
	}
	return true
}

// holds reports whether a collection contains all that is asked for.
func (f *boundFilter) holds(typ *types.Type, v []byte) bool {
	last := len(typ.Elems) - 1
	for _, want := range f.contains {
		if !contains(typ, v, want, typ.Elems[last], last == 1, last == 1) {
			return false
		}
	}
	for _, want := range f.keys {
		if !contains(typ, v, want, typ.Elems[0], true, false) {
			return false
		}
	}
	for _, e := range f.entries {
		if have := mapValue(typ, v, e[0]); have == nil || typ.Elems[1].Compare(have, e[1]) != 0 {
			return false
		}
	}
	return true
}

// contains reports whether want is among the elements; of a map (pairs) among its keys or its values.
func contains(typ *types.Type, v, want []byte, elem *types.Type, pairs, values bool) bool {
	it := typ.Iter(v)
	for i := 0; ; i++ {
		e, ok := it.Next()
		if !ok {
			return false
		}
		if pairs && (i%2 == 1) != values {
			continue
		}
		if e != nil && (bytes.Equal(e, want) || elem.Compare(e, want) == 0) {
			return true
		}
	}
}

// mapValue returns the value of key in a map, nil when it is not there.
func mapValue(typ *types.Type, v, key []byte) []byte {
	it := typ.Iter(v)
	for {
		k, ok := it.Next()
		if !ok {
			return nil
		}
		e, _ := it.Next()
		if typ.Elems[0].Compare(k, key) == 0 {
			return e
		}
	}
}
