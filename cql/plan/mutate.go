package plan

import (
	"bytes"
	"slices"

	"github.com/helenusdb/helenus/cql/protocol"
	"github.com/helenusdb/helenus/cql/types"
	"github.com/helenusdb/helenus/row"
	"github.com/helenusdb/helenus/schema"
)

// ttlMax is the largest TTL, 20 years in seconds.
const ttlMax = 20 * 365 * 24 * 3600

// writeAttrs are what the cells of one statement have in common.
type writeAttrs struct {
	ts     int64
	now    int64
	expiry int64
	ttl    int32
}

func (w *writeAttrs) liveness() row.Liveness {
	return row.Liveness{Timestamp: w.ts, TTL: w.ttl, Expiry: w.expiry}
}

func (w *writeAttrs) cell(col *schema.Column, path, value []byte) row.Cell {
	return row.Cell{Column: col.ID, Path: path, Timestamp: w.ts, TTL: w.ttl, Expiry: w.expiry, Value: value}
}

func (w *writeAttrs) tombstone(col *schema.Column, path []byte) row.Cell {
	return row.Cell{Column: col.ID, Path: path, Timestamp: w.ts, Expiry: w.now, Tombstone: true}
}

func (w *writeAttrs) deletion() row.Deletion {
	return row.Deletion{Timestamp: w.ts, LocalTime: w.now}
}

// rangeDeletion is the deletion of several rows. Under a CAS what the same batch writes into the range stays, as in Cassandra;
// all that was decided before has an earlier timestamp than overwrite.
func (w *writeAttrs) rangeDeletion(a *Args) row.Deletion {
	if a.cas != nil {
		return w.overwrite()
	}
	return w.deletion()
}

// overwrite is the deletion under the elements of a collection that is set as a whole.
func (w *writeAttrs) overwrite() row.Deletion {
	return row.Deletion{Timestamp: w.ts - 1, LocalTime: w.now}
}

// attributes evaluates USING.
func (m *Modify) attributes(sc *scope) (w writeAttrs, err error) {
	w.ts, w.now = sc.args.Timestamp, sc.args.Now
	if m.timestamp != nil && sc.args.cas == nil { // beside conditions it does not count
		v, err := m.timestamp.eval(sc)
		switch {
		case err != nil:
			return w, err
		case v.State == protocol.Null:
			return w, invalid("Invalid null value of timestamp")
		case v.State == protocol.Set:
			if w.ts, err = types.DecodeBigint(v.Bytes); err != nil {
				return w, invalid("Invalid timestamp value: %x", v.Bytes)
			}
		}
		if w.ts == row.NoTimestamp {
			return w, invalid("Out of bound timestamp, must be in [%d, %d]", int64(-1<<63+1), int64(1<<63-1))
		}
		if j := sc.args.Stamps; j != nil {
			if err := j.JudgeStamp(m.table, w.ts); err != nil {
				return w, err
			}
		}
	}
	if m.typ == typeDelete {
		return w, nil
	}
	w.ttl = m.table.Options.DefaultTTL
	if m.ttl != nil {
		if err := m.evalTTL(sc, &w); err != nil {
			return w, err
		}
	}
	if w.ttl != 0 {
		w.expiry = w.now + int64(w.ttl)
	}
	return w, nil
}

func (m *Modify) evalTTL(sc *scope, w *writeAttrs) error {
	v, err := m.ttl.eval(sc)
	switch {
	case err != nil:
		return err
	case v.State == protocol.Null:
		w.ttl = 0
		return nil
	case v.State == protocol.Unset:
		return nil
	}
	if len(v.Bytes) == 0 { // as in Cassandra, the empty value is no TTL
		w.ttl = 0
		return nil
	}
	ttl, err := types.DecodeInt(v.Bytes)
	switch {
	case err != nil:
		return invalid("Invalid timestamp value: %x", v.Bytes)
	case ttl < 0:
		return invalid("A TTL must be greater or equal to 0, but was %d", ttl)
	case ttl > ttlMax:
		return invalid("ttl is too large. requested (%d) maximum (%d)", ttl, ttlMax)
	}
	w.ttl = ttl
	return nil
}

// Mutations returns the writes, one per partition; they alias buf, and keys may alias a.Values. No mutation at all is
// possible (IN ()). Errors are *Error.
func (m *Modify) Mutations(buf *Buffer, a *Args) ([]row.Mutation, error) {
	buf.Reset()
	if err := m.AppendMutations(buf, a); err != nil {
		return nil, err
	}
	return buf.muts, nil
}

// AppendMutations is Mutations without Reset, to collect the statements of a batch in one buffer: Buffer.Mutations returns
// them.
func (m *Modify) AppendMutations(buf *Buffer, a *Args) error {
	sc := buf.begin(a)
	w, err := m.attributes(sc)
	if err != nil {
		return err
	}
	if err := m.where.partitionKeys(sc, buf); err != nil {
		return err
	}
	if m.typ == typeDelete && len(m.regular)+len(m.static) == 0 {
		return m.appendDeletions(buf, sc, &w)
	}
	if len(m.regular) > 0 && !m.rows {
		return invalid("Range deletions are not supported for specific columns")
	}
	if m.rows {
		if err := m.clusteringPoints(sc, buf); err != nil {
			return err
		}
		if len(buf.keys)*len(buf.points) > combinationsMax {
			return tooMany()
		}
	}
	for i, key := range buf.keys {
		if err := m.appendWrite(buf, sc, &w, i, key); err != nil {
			return err
		}
	}
	return nil
}

// point is one clustering key that a statement writes to.
type point struct {
	key  []byte
	orig []byte // as given, when key does not tell
}

// clusteringPoints evaluates the clustering keys that an INSERT or UPDATE names, into buf.points, ascending.
func (m *Modify) clusteringPoints(sc *scope, buf *Buffer) error {
	buf.points, buf.tuples = buf.points[:0], buf.tuples[:0]
	n, width := 1, 0
	var err error
	for _, r := range m.where.clustering {
		if r.slice() {
			return invalid("Range deletions are not supported for specific columns")
		}
		if n, err = buf.extend(sc, r, n, width); err != nil {
			return err
		}
		width += len(r.cols)
	}
	if width < len(m.table.Clustering) {
		return invalid("Range deletions are not supported for specific columns")
	}
	for i := range n {
		vals := buf.tuples[i*width : (i+1)*width]
		if err := checkClusteringLen(vals); err != nil {
			return err
		}
		at := len(buf.mem.buf)
		p := point{key: buf.mem.take(m.table.AppendClusteringKey(buf.mem.buf, vals), at)}
		for j, v := range vals {
			if !m.table.Clustering[j].Type.Canonical(v) {
				p.orig = appendOriginal(nil, vals)
				break
			}
		}
		buf.points = append(buf.points, p)
	}
	if n > 1 {
		slices.SortFunc(buf.points, func(a, b point) int { return bytes.Compare(a.key, b.key) })
		buf.points = slices.CompactFunc(buf.points, func(a, b point) bool { return bytes.Equal(a.key, b.key) })
	}
	return nil
}

// appendOriginal appends clustering values as they were written, each with its length: what row.Builder.SetClustering keeps.
func appendOriginal(dst []byte, vals [][]byte) []byte {
	for _, v := range vals {
		dst = types.AppendElem(dst, v)
	}
	return dst
}

func checkClusteringLen(vals [][]byte) error {
	n := 0
	for _, v := range vals {
		n += len(v)
	}
	if n > schema.KeyLenMax {
		return invalid("Key length of %d is longer than maximum of %d", n, schema.KeyLenMax)
	}
	return nil
}

// appendWrite builds the mutation of one partition: static row and rows.
func (m *Modify) appendWrite(buf *Buffer, sc *scope, w *writeAttrs, i int, key []byte) error {
	at := len(buf.out.buf)
	buf.frag.Reset(buf.out.buf, false)
	if len(m.static) > 0 {
		buf.row.Reset(buf.rowBuf[:0])
		if err := m.appendColumns(buf, sc, w, m.static, prior{m, i, nil, true}); err != nil {
			return err
		}
		buf.rowBuf = buf.row.Finish()
		buf.frag.Static(buf.rowBuf)
	}
	if m.rows {
		for _, p := range buf.points {
			buf.row.Reset(buf.rowBuf[:0])
			if p.orig != nil && m.typ != typeDelete {
				buf.row.SetClustering(p.orig, w.ts)
			}
			if m.typ == typeInsert {
				buf.row.SetLiveness(w.liveness())
			}
			if err := m.appendColumns(buf, sc, w, m.regular, prior{m, i, p.key, false}); err != nil {
				return err
			}
			buf.rowBuf = buf.row.Finish()
			buf.frag.Row(p.key, buf.rowBuf)
		}
	}
	m.appendMutation(buf, key, buf.out.take(buf.frag.Finish(), at))
	return nil
}

func (m *Modify) appendMutation(buf *Buffer, key, fragment []byte) {
	buf.muts = append(buf.muts, row.Mutation{
		Generation: m.table.Generation,
		Token:      m.part.Token(key),
		Key:        key,
		Fragment:   fragment,
	})
}

// appendDeletions builds the deletion of whole rows, ranges or partitions.
func (m *Modify) appendDeletions(buf *Buffer, sc *scope, w *writeAttrs) error {
	list, all, err := m.where.clusteringSlices(sc, buf)
	if err != nil {
		return err
	}
	if !all && len(list) == 0 {
		return nil
	}
	if len(buf.keys)*len(list) > combinationsMax {
		return tooMany()
	}
	for _, key := range buf.keys {
		at := len(buf.out.buf)
		buf.frag.Reset(buf.out.buf, false)
		if all {
			buf.frag.PartitionDeletion(w.rangeDeletion(sc.args))
		}
		for _, s := range list {
			if !s.Point {
				buf.frag.RangeTombstone(row.RangeTombstone{Start: s.Start, End: s.End, Deletion: w.rangeDeletion(sc.args)})
				continue
			}
			buf.row.Reset(buf.rowBuf[:0])
			buf.row.SetDeletion(w.deletion())
			buf.rowBuf = buf.row.Finish()
			buf.frag.Row(s.Start, buf.rowBuf)
		}
		m.appendMutation(buf, key, buf.out.take(buf.frag.Finish(), at))
	}
	return nil
}

// appendColumns adds the cells of ops, which ascend by column, to the row being built.
func (m *Modify) appendColumns(buf *Buffer, sc *scope, w *writeAttrs, ops []*operation, old prior) error {
	for i := 0; i < len(ops); i++ {
		o := ops[i]
		if o.col.Type.Counter() {
			if err := buf.appendCounter(sc, w, o); err != nil {
				return err
			}
			continue
		}
		if o.col.Type.MultiCell() {
			end := i + 1
			for end < len(ops) && ops[end].col == o.col {
				end++
			}
			if err := buf.appendComplex(sc, w, ops[i:end], old); err != nil {
				return err
			}
			i = end - 1
			continue
		}
		if o.kind == opDelete {
			buf.row.Cell(w.tombstone(o.col, nil))
			continue
		}
		if o.kind == opIncrement {
			end := i + 1
			for end < len(ops) && ops[end].col == o.col {
				end++
			}
			if err := buf.appendIncrements(sc, w, ops[i:end], old); err != nil {
				return err
			}
			i = end - 1
			continue
		}
		v, err := o.eval(sc)
		if err != nil {
			return err
		}
		switch v.State {
		case protocol.Set:
			buf.row.Cell(w.cell(o.col, nil, v.Bytes))
		case protocol.Null:
			buf.row.Cell(w.tombstone(o.col, nil))
		}
	}
	return nil
}

// eval returns the operation's value. A plain bind variable, the usual case, is copied without a detour.
func (o *operation) eval(sc *scope) (protocol.Value, error) {
	if o.slot < 0 {
		return o.value.eval(sc)
	}
	v := sc.args.Values[o.slot]
	if v.State == protocol.Set {
		if err := o.col.Type.Validate(v.Bytes); err != nil {
			return v, marshalError(err)
		}
		v.Bytes = o.col.Type.Ordered(v.Bytes)
	}
	return v, nil
}

// appendComplex adds what ops, all of one column, do to it: the deletion, then the elements in order of their paths.
func (b *Buffer) appendComplex(sc *scope, w *writeAttrs, ops []*operation, old prior) error {
	b.cells = b.cells[:0]
	col := ops[0].col
	del := row.Live()
	for _, o := range ops {
		d, err := b.complexOp(sc, w, o, old)
		if err != nil {
			return err
		}
		if d.Supersedes(del) {
			del = d
		}
	}
	if !del.Live() {
		b.row.ComplexDeletion(col.ID, del)
	}
	slices.SortStableFunc(b.cells, func(x, y row.Cell) int {
		if c := bytes.Compare(x.Path, y.Path); c != 0 {
			return c
		}
		return compareWrites(&y, &x) // the winner first
	})
	for i := range b.cells {
		if i == 0 || !bytes.Equal(b.cells[i].Path, b.cells[i-1].Path) {
			b.row.Cell(b.cells[i])
		}
	}
	return nil
}

// compareWrites orders two writes of one statement to one element by which of them wins: a deletion, then the larger value.
func compareWrites(x, y *row.Cell) int {
	if x.Tombstone != y.Tombstone {
		if x.Tombstone {
			return 1
		}
		return -1
	}
	return bytes.Compare(x.Value, y.Value)
}

// complexOp evaluates one operation on a column of several cells: cells into b.cells, and the deletion it makes.
func (b *Buffer) complexOp(sc *scope, w *writeAttrs, o *operation, old prior) (row.Deletion, error) {
	switch o.kind {
	case opDelete:
		return w.deletion(), nil
	case opElement, opDeleteElement:
		return row.Live(), b.elementOp(sc, w, o)
	case opField, opDeleteField:
		return row.Live(), b.fieldOp(sc, w, o)
	case opIndex, opDeleteIndex:
		return row.Live(), b.indexOp(sc, w, o, old)
	}
	v, err := o.value.eval(sc)
	if err != nil || v.State == protocol.Unset {
		return row.Live(), err
	}
	del := row.Live()
	if o.kind == opOverwrite {
		del = w.overwrite()
	}
	if v.State == protocol.Null {
		return del, nil
	}
	switch {
	case o.kind == opDiscardValues:
		return del, b.discardValues(w, o, v.Bytes, old)
	case o.kind == opDiscard:
		b.discardKeys(w, o, v.Bytes)
	case o.col.Type.Kind == types.KindUDT:
		b.addFields(w, o.col, v.Bytes)
	case o.col.Type.Kind == types.KindList:
		b.addElements(sc, w, o, v.Bytes)
	default:
		b.addEntries(w, o.col, v.Bytes)
	}
	return del, nil
}

// addFields adds the fields of a UDT value. A field of an overwritten value that is null is not there.
func (b *Buffer) addFields(w *writeAttrs, col *schema.Column, v []byte) {
	it := col.Type.Iter(v)
	for i := 0; ; i++ {
		f, ok := it.Next()
		if !ok {
			return
		}
		if f != nil {
			b.cells = append(b.cells, w.cell(col, b.mem.copy(fieldPath(i)), f))
		}
	}
}

// fieldPath is the path of a UDT field: its index in two bytes.
func fieldPath(i int) []byte { return []byte{byte(i >> 8), byte(i)} }

// addEntries adds the elements of a set or map value.
func (b *Buffer) addEntries(w *writeAttrs, col *schema.Column, v []byte) {
	it := col.Type.Iter(v)
	for {
		k, ok := it.Next()
		if !ok {
			return
		}
		var value []byte
		if col.Type.Kind == types.KindMap {
			value, _ = it.Next()
		} else if !col.Type.Elems[0].Canonical(k) {
			value = k
		}
		b.cells = append(b.cells, w.cell(col, b.elementPath(col, k), value))
	}
}

// elementPath returns the path of a set element or map key.
func (b *Buffer) elementPath(col *schema.Column, key []byte) []byte {
	at := len(b.mem.buf)
	return b.mem.take(col.Type.Elems[0].AppendKey(b.mem.buf, key, false), at)
}

// discardKeys deletes the elements or keys of a set value.
func (b *Buffer) discardKeys(w *writeAttrs, o *operation, v []byte) {
	set := types.SetOf(o.col.Type.Elems[0], false)
	it := set.Iter(v)
	for k, ok := it.Next(); ok; k, ok = it.Next() {
		b.cells = append(b.cells, w.tombstone(o.col, b.elementPath(o.col, k)))
	}
}

// elementOp is map[key] = value and DELETE set[key], map[key].
func (b *Buffer) elementOp(sc *scope, w *writeAttrs, o *operation) error {
	what := "map key"
	if o.col.Type.Kind == types.KindSet {
		what = "set element"
	}
	k, err := o.key.eval(sc)
	switch {
	case err != nil:
		return err
	case k.State == protocol.Null:
		return invalid("Invalid null %s", what)
	case k.State == protocol.Unset && o.col.Type.Kind == types.KindSet:
		return nil
	case k.State == protocol.Unset:
		return invalid("Invalid unset %s", what)
	}
	path := b.elementPath(o.col, k.Bytes)
	if o.kind == opDeleteElement {
		b.cells = append(b.cells, w.tombstone(o.col, path))
		return nil
	}
	return b.setCell(sc, w, o, path)
}

// setCell adds the cell at path: a value, or a tombstone for null.
func (b *Buffer) setCell(sc *scope, w *writeAttrs, o *operation, path []byte) error {
	v, err := o.value.eval(sc)
	if err != nil {
		return err
	}
	switch v.State {
	case protocol.Set:
		b.cells = append(b.cells, w.cell(o.col, path, v.Bytes))
	case protocol.Null:
		b.cells = append(b.cells, w.tombstone(o.col, path))
	}
	return nil
}

func (b *Buffer) fieldOp(sc *scope, w *writeAttrs, o *operation) error {
	path := b.mem.copy(fieldPath(o.field))
	if o.kind == opDeleteField {
		b.cells = append(b.cells, w.tombstone(o.col, path))
		return nil
	}
	return b.setCell(sc, w, o, path)
}
