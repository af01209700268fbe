package plan

import (
	"bytes"
	"encoding/binary"
	"slices"

	"github.com/helenusdb/helenus/cql"
	"github.com/helenusdb/helenus/cql/protocol"
	"github.com/helenusdb/helenus/cql/types"
	"github.com/helenusdb/helenus/internal/planted"
	"github.com/helenusdb/helenus/row"
	"github.com/helenusdb/helenus/schema"
)

// The elements of a list that is not frozen are ordered by time UUIDs: an appended element gets the next one, a prepended
// one the next one mirrored at a point in time before all of them, so that later comes first.

// mirrorTime is the instant at which the times of prepended elements are mirrored, as in Cassandra: 2010-01-01T00:00:00Z in
// 100 ns since 1582-10-15.
const mirrorTime = (1262304000000 + 12219292800000) * 10000

// addElements appends or prepends the elements of a list value.
func (b *Buffer) addElements(sc *scope, w *writeAttrs, o *operation, v []byte) {
	it := o.col.Type.Iter(v)
	at := len(b.cells)
	for e, ok := it.Next(); ok; e, ok = it.Next() {
		b.cells = append(b.cells, w.cell(o.col, nil, e))
	}
	added := b.cells[at:]
	if o.kind != opPrepend {
		for i := range added {
			added[i].Path = b.listPath(sc.args.after())
		}
		return
	}
	for i := len(added) - 1; i >= 0; i-- {
		added[i].Path = b.listPath(sc.args.before())
	}
}

// after returns the key of an element that is appended to a list.
func (a *Args) after() [16]byte {
	if a.cas != nil && !planted.On(planted.CASListKeyByClock) {
		return a.cas.after()
	}
	return a.NewTimeUUID()
}

// before returns the key of an element that is prepended.
func (a *Args) before() [16]byte {
	if a.cas != nil {
		return a.cas.before()
	}
	return mirrored(a.NewTimeUUID())
}

func (b *Buffer) listPath(u [16]byte) []byte {
	at := len(b.mem.buf)
	return b.mem.take(types.Timeuuid.AppendKey(b.mem.buf, u[:], false), at)
}

// mirrored returns u with its time mirrored at mirrorTime.
func mirrored(u [16]byte) [16]byte {
	low := uint64(binary.BigEndian.Uint32(u[0:]))
	mid := uint64(binary.BigEndian.Uint16(u[4:]))
	high := uint64(binary.BigEndian.Uint16(u[6:]) & 0x0FFF)
	t := uint64(2*mirrorTime) - (high<<48 | mid<<32 | low)
	binary.BigEndian.PutUint32(u[0:], uint32(t))
	binary.BigEndian.PutUint16(u[4:], uint16(t>>32))
	binary.BigEndian.PutUint16(u[6:], uint16(t>>48)&0x0FFF|0x1000)
	return u
}

// prior finds what was stored in the row that is written to.
type prior struct {
	m         *Modify
	partition int // index into Args.Read
	ckey      []byte
	static    bool
}

// elements returns the live elements of col, in order, after what the statement has written so far: the operations on one
// list see those before them. They alias the page that was read, and written.
func (p prior) elements(a *Args, col *schema.Column, written []row.Cell) ([]row.Cell, error) {
	cells, del, err := p.stored(a, col)
	if err != nil {
		return nil, err
	}
	if len(written) > 0 {
		for _, c := range written {
			if !del.Shadows(c.Timestamp) {
				cells = append(cells, c)
			}
		}
		cells = reconcile(cells)
	}
	return slices.DeleteFunc(cells, func(c row.Cell) bool { return !c.LiveAt(a.Now) }), nil
}

// stored returns the elements of col that were read, in order, and the deletion of those before them.
func (p prior) stored(a *Args, col *schema.Column) ([]row.Cell, row.Deletion, error) {
	none := row.Live()
	if p.partition >= len(a.Read) || a.Read[p.partition] == nil {
		return nil, none, nil
	}
	stored, err := p.row(a.Read[p.partition])
	if err != nil || stored == nil {
		return nil, none, err
	}
	var r row.Reader
	if err := r.Init(stored); err != nil {
		return nil, none, err
	}
	if !r.Find(col.ID) || !r.Complex {
		return nil, none, r.Err()
	}
	del := r.ComplexDeletion
	var cells []row.Cell
	for r.NextElement() {
		cells = append(cells, r.Cell)
	}
	return cells, del, r.Err()
}

// simple returns the live value of a simple column that was read, nil when it is null.
func (p prior) simple(a *Args, col *schema.Column) ([]byte, error) {
	if p.partition >= len(a.Read) || a.Read[p.partition] == nil {
		return nil, nil
	}
	stored, err := p.row(a.Read[p.partition])
	if err != nil || stored == nil {
		return nil, err
	}
	var r row.Reader
	if err := r.Init(stored); err != nil {
		return nil, err
	}
	if !r.Find(col.ID) || r.Complex || !r.Cell.LiveAt(a.Now) {
		return nil, r.Err()
	}
	return orEmpty(r.Cell.Value), nil
}

// appendIncrements adds the cell that col = col + value makes, of several the one that wins. Nothing is added to null.
func (b *Buffer) appendIncrements(sc *scope, w *writeAttrs, ops []*operation, old prior) error {
	col := ops[0].col
	current, err := old.simple(sc.args, col)
	if err != nil || current == nil {
		return err
	}
	var best []byte
	for _, o := range ops {
		v, err := o.eval(sc)
		switch {
		case err != nil:
			return err
		case v.State == protocol.Null:
			return invalid("Invalid null value for increment of column %s", cql.QuoteIdent(col.Name))
		case v.State == protocol.Unset:
			continue // as for every other assignment
		}
		sum, err := incremented(sc, col.Type, current, v.Bytes)
		if err != nil {
			return err
		}
		if best == nil || bytes.Compare(sum, best) > 0 {
			best = sum
		}
	}
	if best != nil {
		b.row.Cell(w.cell(col, nil, best))
	}
	return nil
}

// incremented returns a + b: of texts one behind the other.
func incremented(sc *scope, t *types.Type, a, b []byte) ([]byte, error) {
	if t.Kind == types.KindText || t.Kind == types.KindAscii {
		return append(bytes.Clone(a), b...), nil
	}
	sum, err := arithmetic('+', t, t, t)(sc, [][]byte{a, b})
	if err == nil && sum == nil {
		err = invalid("Invalid empty value for an increment")
	}
	return sum, err
}

// reconcile orders cells by path, in place, and keeps the one of each path that wins.
func reconcile(cells []row.Cell) []row.Cell {
	slices.SortFunc(cells, func(x, y row.Cell) int {
		switch c := bytes.Compare(x.Path, y.Path); {
		case c != 0:
			return c
		case x.Supersedes(&y):
			return -1
		case y.Supersedes(&x):
			return 1
		}
		return 0
	})
	return slices.CompactFunc(cells, func(x, y row.Cell) bool { return bytes.Equal(x.Path, y.Path) })
}

func (p prior) row(page *row.Page) ([]byte, error) {
	var pr row.PageReader
	pr.Init(page.Data)
	for pr.Next() {
		var f row.FragmentReader
		if err := f.Init(pr.Fragment); err != nil {
			return nil, err
		}
		if p.static {
			return f.Static(), nil
		}
		for f.NextRow() {
			if bytes.Equal(f.Ckey, p.ckey) {
				return f.Row, nil
			}
		}
		if err := f.Err(); err != nil {
			return nil, err
		}
	}
	return nil, pr.Err()
}

// indexOp is list[i] = value and DELETE list[i].
func (b *Buffer) indexOp(sc *scope, w *writeAttrs, o *operation, old prior) error {
	k, err := o.key.eval(sc)
	switch {
	case err != nil:
		return err
	case k.State == protocol.Null:
		return invalid("Invalid null value for list index")
	case k.State == protocol.Unset && o.kind == opDeleteIndex:
		return nil
	case k.State == protocol.Unset:
		return invalid("Invalid unset value for list index")
	}
	i, err := types.DecodeInt(k.Bytes)
	if err != nil {
		return invalid("Invalid null value for list index")
	}
	cells, err := old.elements(sc.args, o.col, b.cells)
	switch {
	case err != nil:
		return err
	case len(cells) == 0 && o.kind == opIndex:
		return invalid("Attempted to set an element on a list which is null")
	case len(cells) == 0:
		return invalid("Attempted to delete an element from a list which is null")
	case i < 0 || int(i) >= len(cells):
		return invalid("List index %d out of bound, list has size %d", i, len(cells))
	}
	path := b.mem.copy(cells[i].Path)
	if o.kind == opDeleteIndex {
		b.cells = append(b.cells, w.tombstone(o.col, path))
		return nil
	}
	return b.setCell(sc, w, o, path)
}

// discardValues deletes the elements of a list that are equal to one of those in v.
func (b *Buffer) discardValues(w *writeAttrs, o *operation, v []byte, old prior) error {
	cells, err := old.elements(b.sc.args, o.col, b.cells)
	if err != nil {
		return err
	}
	for i := range cells {
		it := o.col.Type.Iter(v)
		for e, ok := it.Next(); ok; e, ok = it.Next() {
			if bytes.Equal(e, cells[i].Value) {
				b.cells = append(b.cells, w.tombstone(o.col, b.mem.copy(cells[i].Path)))
				break
			}
		}
	}
	return nil
}

// ReadCommands returns the reads that Mutations needs the answers of, one per partition. They alias buf.
func (m *Modify) ReadCommands(buf *Buffer, a *Args) ([]row.Command, error) {
	buf.Reset()
	sc := buf.begin(a)
	if err := m.where.partitionKeys(sc, buf); err != nil {
		return nil, err
	}
	points := []row.Slice{}
	if m.rows {
		if err := m.clusteringPoints(sc, buf); err != nil {
			return nil, err
		}
		for _, p := range buf.points {
			points = append(points, row.Slice{Start: p.key, End: buf.mem.after(p.key), Point: true})
		}
	}
	for _, key := range buf.keys {
		buf.cmds = append(buf.cmds, row.Command{
			Generation: m.table.Generation,
			Now:        a.Now,
			Token:      m.part.Token(key),
			Key:        key,
			Slices:     points,
			StaticOnly: !m.rows,
			WithStatic: len(m.static) > 0,
		})
	}
	return buf.cmds, nil
}
