package row

import (
	"github.com/helenusdb/helenus/internal/planted"
	"github.com/helenusdb/helenus/schema"
)

// Shadow appends to dst what the deletion d, of a range or of the partition, leaves of row: nothing when nothing is left.
// A row deletion that d supersedes goes too. It returns ErrCorrupt or ErrVersion, and dst as it was, for bytes that are
// no row.
func Shadow(dst, row []byte, d Deletion) ([]byte, error) {
	w := rewrite{cover: d, gcBefore: NoTimestamp, watch: NoTimestamp}
	return w.run(dst, row)
}

// Compact appends to dst what has to be kept of row at now (seconds since the epoch): nothing when nothing is left.
// Cells that have expired lose their value but keep their place in the order of reconciliation: at the same now,
// compacting before a merge changes nothing in what Compact leaves after it. What is purgeable, with a local time before gcBefore
// (seconds; NoTimestamp: nothing), is dropped: only sound when row is all there is of it on this node. An expired cell
// counts from when it was written, an expired liveness from when it expired, as in Cassandra. dropped, which may be nil,
// says what to drop besides, by column and timestamp.
//
// Pass a now that lies behind every clock of the cluster by the allowed skew when the result is stored: a reader whose
// now is earlier would miss the value.
func Compact(dst, row []byte, now, gcBefore int64, dropped func(col schema.ColumnID, ts int64) bool) ([]byte, error) {
	w := rewrite{cover: Live(), compact: true, now: now, gcBefore: gcBefore, watch: NoTimestamp, dropped: dropped}
	return w.run(dst, row)
}

// rewrite copies rows and leaves things out. Its cost is one pass; run may be called again and again.
type rewrite struct {
	cover    Deletion // shadows what it supersedes
	compact  bool     // turn into tombstones what has expired at now
	now      int64
	gcBefore int64 // and drop what is purgeable
	watch    int64 // like gcBefore, but only report it
	dropped  func(col schema.ColumnID, ts int64) bool
	values   bool // leave what has expired its value
	project  bool // leave out other columns than these, as Projection in doc.go says
	columns  []schema.ColumnID

	live      bool // result, when compact: the row is visible at now
	purgeable bool // result: watch saw something
	valued    bool // result: something that has expired was left its value

	e        encoder
	r        Reader
	selected int  // columns[:selected] were passed
	bare     bool // the liveness alone makes the row visible
}

func (w *rewrite) run(dst, row []byte) ([]byte, error) {
	r, e := &w.r, &w.e
	w.live, w.purgeable, w.valued, w.selected = false, false, false, 0
	if err := r.Init(row); err != nil {
		return dst, err
	}
	del, live, orig := r.deletion, r.liveness, r.clustering
	if !del.Supersedes(w.cover) {
		del = Live()
	}
	shadow := maxDeletion(del, w.cover)
	if shadow.Shadows(live.Timestamp) || w.dropLiveness(live) {
		live = NoLiveness()
	}
	if shadow.Shadows(orig.ts) {
		orig = noOriginal()
	}
	if w.purge(del) {
		del = Live()
	}
	w.live = live.LiveAt(w.now)
	w.bare = w.live
	e.begin(dst)
	e.head(orig, live, del)
	e.del = shadow
	for r.Next() {
		w.column()
	}
	out := e.finish()
	if r.err != nil {
		return dst, r.err
	}
	return out, nil
}

// purge reports whether d is to be dropped.
func (w *rewrite) purge(d Deletion) bool {
	if d.Purgeable(w.watch) {
		w.purgeable = true
	}
	return d.Purgeable(w.gcBefore)
}

func (w *rewrite) dropLiveness(l Liveness) bool {
	if !w.compact || l.Empty() || l.LiveAt(w.now) {
		return false
	}
	if l.Expiry < w.watch {
		w.purgeable = true
	}
	return l.Expiry < w.gcBefore
}

func (w *rewrite) column() {
	r, e := &w.r, &w.e
	elide := w.project && !w.isSelected(r.Column)
	if elide && w.bare {
		return
	}
	if !r.Complex {
		if w.cell(e.del, elide) {
			e.cell(&r.Cell)
		}
		return
	}
	d := r.ComplexDeletion
	shadow := maxDeletion(d, e.del)
	if w.purge(d) || elide || w.dropped != nil && w.dropped(r.Column, d.Timestamp) {
		d = Live()
	}
	e.complex(r.Column, d)
	for r.NextElement() {
		if w.cell(shadow, elide) {
			e.element(&r.Cell)
		}
	}
}

// isSelected reports whether columns has col. Columns of a row come in ascending order.
func (w *rewrite) isSelected(col schema.ColumnID) bool {
	for w.selected < len(w.columns) && w.columns[w.selected] < col {
		w.selected++
	}
	return w.selected < len(w.columns) && w.columns[w.selected] == col
}

// cell decides what becomes of the reader's cell, which it may change, and reports whether it stays.
func (w *rewrite) cell(shadow Deletion, elide bool) bool {
	c := &w.r.Cell
	if shadow.Shadows(c.Timestamp) || w.dropped != nil && w.dropped(c.Column, c.Timestamp) {
		return false
	}
	if !w.compact {
		return true
	}
	if c.LiveAt(w.now) {
		w.live = true
		if elide {
			c.Value = nil
		}
		return true
	}
	if elide {
		return false
	}
	if w.values && !c.Tombstone {
		w.valued = true
	} else {
		c.Tombstone, c.Value = true, nil
	}
	t := c.LocalTime()
	if t < w.watch {
		w.purgeable = true
	}
	return t >= w.gcBefore && (c.TTL == 0 || !planted.On(planted.ExpiredDropped))
}
