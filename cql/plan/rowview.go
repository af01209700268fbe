package plan

import (
	"github.com/helenusdb/helenus/cql/types"
	"github.com/helenusdb/helenus/row"
	"github.com/helenusdb/helenus/schema"
)

// rowView is the row at hand, decoded into slots.
type rowView struct {
	vals [][]byte // by slot; nil: null. Aliases page, key and arena
	meta []metaView
	aggs []aggState
}

// metaView is what writetime and ttl see of a column.
type metaView struct {
	cells []row.Cell // live ones: one of a simple column, else the elements in order
}

func (v *rowView) init(t *slotTable) {
	n := len(t.cols)
	if cap(v.vals) < n {
		v.vals = make([][]byte, n)
		v.meta = make([]metaView, n)
	}
	v.vals, v.meta = v.vals[:n], v.meta[:n]
	clear(v.vals)
	for i := range v.meta {
		v.meta[i].cells = v.meta[i].cells[:0]
	}
}

// clearSlots makes the columns of refs null.
func (v *rowView) clearSlots(refs []slotRef) {
	for _, r := range refs {
		v.clear(r.slot)
	}
}

// clear makes a column null.
func (v *rowView) clear(slot int) {
	v.vals[slot] = nil
	v.meta[slot].cells = v.meta[slot].cells[:0]
}

// setKeys puts the components of the partition key into their slots.
func (w *RowWriter) setKeys(key []byte) error {
	refs := w.s.slots.keys
	if len(refs) == 0 {
		return nil
	}
	if len(w.s.table.PartitionKey) == 1 {
		w.view.vals[refs[0].slot] = key
		return nil
	}
	var err error
	if w.comps, err = w.s.table.SplitPartitionKey(key, w.comps[:0]); err != nil {
		return err
	}
	for _, r := range refs {
		w.view.vals[r.slot] = w.comps[r.col.Position]
	}
	return nil
}

// setClustering decodes the clustering columns into their slots. orig, when not nil, holds them as they were written.
func (w *RowWriter) setClustering(ckey, orig []byte) error {
	refs := w.s.slots.cluster
	if len(refs) == 0 {
		return nil
	}
	cols := w.s.table.Clustering
	if orig != nil {
		return w.setOriginal(orig)
	}
	for i, next := 0, 0; next < len(refs); i++ {
		col := cols[i]
		var err error
		if refs[next].col != col {
			if ckey, err = col.Type.SkipKey(ckey, col.Desc); err != nil {
				return err
			}
			continue
		}
		at := len(w.mem.buf)
		var out []byte
		if out, ckey, err = col.Type.AppendFromKey(w.mem.buf, ckey, col.Desc); err != nil {
			return err
		}
		w.view.vals[refs[next].slot] = w.mem.take(out, at)
		next++
	}
	return nil
}

func (w *RowWriter) setOriginal(orig []byte) error {
	comps, err := splitOriginal(w.s.table, orig, w.comps[:0])
	if err != nil {
		return err
	}
	w.comps = comps
	for _, r := range w.s.slots.cluster {
		w.view.vals[r.slot] = comps[r.col.Position]
	}
	return nil
}

// splitOriginal is the inverse of appendOriginal.
func splitOriginal(t *schema.Table, orig []byte, dst [][]byte) ([][]byte, error) {
	for range t.Clustering {
		if len(orig) < 4 {
			return dst, row.ErrCorrupt
		}
		n := int(orig[0])<<24 | int(orig[1])<<16 | int(orig[2])<<8 | int(orig[3])
		if n < 0 || n > len(orig)-4 {
			return dst, row.ErrCorrupt
		}
		dst = append(dst, orig[4:4+n:4+n])
		orig = orig[4+n:]
	}
	return dst, nil
}

// setColumns decodes the columns of refs from an encoded row. r has been initialised with it.
func (w *RowWriter) setColumns(r *row.Reader, refs []slotRef) error {
	next := 0
	for next < len(refs) && r.Next() {
		for next < len(refs) && refs[next].col.ID < r.Column {
			w.view.clear(refs[next].slot)
			next++
		}
		if next == len(refs) {
			break
		}
		ref := &refs[next]
		if ref.col.ID != r.Column {
			continue
		}
		next++
		if ref.col.Type.Counter() {
			w.setCounter(r, ref)
			continue
		}
		if r.Complex != ref.col.Type.MultiCell() {
			w.view.clear(ref.slot)
			continue
		}
		if r.Complex {
			if err := w.setComplex(r, ref); err != nil {
				return err
			}
			continue
		}
		if !r.Cell.LiveAt(w.now) {
			w.view.clear(ref.slot)
			continue
		}
		w.view.vals[ref.slot] = r.Cell.Value
		if w.s.slots.meta[ref.slot] {
			m := &w.view.meta[ref.slot]
			m.cells = append(m.cells[:0], r.Cell)
		}
	}
	for ; next < len(refs); next++ {
		w.view.clear(refs[next].slot)
	}
	return r.Err()
}

// setComplex makes the value of a collection or UDT out of its live cells; without any it is null.
func (w *RowWriter) setComplex(r *row.Reader, ref *slotRef) error {
	typ := ref.col.Type
	m := &w.view.meta[ref.slot]
	m.cells = m.cells[:0]
	w.view.vals[ref.slot] = nil
	start := len(w.mem.buf)
	b := w.mem.buf
	if typ.Kind != types.KindUDT {
		b = types.AppendCount(b, 0)
	}
	n := 0
	var err error
	for r.NextElement() {
		if !r.Cell.LiveAt(w.now) {
			continue
		}
		if w.s.slots.meta[ref.slot] {
			m.cells = append(m.cells, r.Cell)
		}
		if b, err = appendElement(b, typ, &r.Cell, n); err != nil {
			return err
		}
		if n++; typ.Kind == types.KindUDT {
			n = fieldIndex(r.Cell.Path) + 1
		}
	}
	if err := r.Err(); err != nil || n == 0 {
		return err
	}
	if typ.Kind == types.KindUDT {
		for ; n < len(typ.Elems); n++ {
			b = types.AppendElem(b, nil)
		}
	} else {
		types.AppendCount(b[:start], n)
	}
	w.view.vals[ref.slot] = w.mem.take(b, start)
	return nil
}

// appendElement appends one live cell to a collection or UDT that has n elements or fields so far.
func appendElement(b []byte, typ *types.Type, c *row.Cell, n int) ([]byte, error) {
	switch typ.Kind {
	case types.KindUDT:
		for ; n < fieldIndex(c.Path); n++ {
			b = types.AppendElem(b, nil)
		}
		return types.AppendElem(b, orEmpty(c.Value)), nil
	case types.KindList:
		return types.AppendElem(b, orEmpty(c.Value)), nil
	case types.KindSet:
		if len(c.Value) > 0 {
			return types.AppendElem(b, c.Value), nil
		}
	}
	b, err := appendPath(b, typ, c.Path)
	if err == nil && typ.Kind == types.KindMap {
		b = types.AppendElem(b, orEmpty(c.Value))
	}
	return b, err
}

// appendPath appends the set element or map key that path stands for, with its length.
func appendPath(b []byte, typ *types.Type, path []byte) ([]byte, error) {
	at := len(b)
	b = append(b, 0, 0, 0, 0)
	b, _, err := typ.Elems[0].AppendFromKey(b, path, false)
	if err != nil {
		return b, err
	}
	n := len(b) - at - 4
	b[at], b[at+1], b[at+2], b[at+3] = byte(n>>24), byte(n>>16), byte(n>>8), byte(n)
	return b, nil
}

func fieldIndex(path []byte) int {
	if len(path) != 2 {
		return 0
	}
	return int(path[0])<<8 | int(path[1])
}

// orEmpty keeps an empty value from being taken for null.
func orEmpty(v []byte) []byte {
	if v == nil {
		return []byte{}
	}
	return v
}
