package row

import (
	"bytes"
	"math"
	"slices"
)

// Purge says what no longer counts in a comparison: what has expired at Now, and tombstones older than GCBefore.
type Purge struct {
	Now      int64 // seconds since the epoch
	GCBefore int64 // seconds since the epoch; NoTimestamp: every tombstone counts
}

// Diff appends to dst the fragment that a replica which has the fragment have needs to get to merged, which must be a
// reconciliation that includes have, both with the same order of rows. The result has its rows ascending. It returns
// false, and dst as it was, when the replica needs nothing.
//
// After the replica has merged the result, the part of its content that counts equals that of merged, so that a second
// Diff is empty. A purgeable tombstone is sent only when it deletes something that counts on the replica: leaving it out
// would let the data come back, and sending it always would undo every purge.
func Diff(dst, merged, have []byte, p Purge) ([]byte, bool, error) {
	var d differ
	return d.diff(dst, merged, have, p)
}

// differ computes differences with buffers that it keeps.
type differ struct {
	purge        Purge
	m, h         FragmentReader
	mRts, hRts   []RangeTombstone
	out          []RangeTombstone
	pending      []RangeTombstone // purgeable, to be sent if they delete something
	rows         []diffRow
	buf          []byte // the rows' bytes
	static       []byte
	sendDeletion bool

	counting rewrite // what counts of a row of have
	shadow   rewrite
	a, b     []byte
	row      rowDiff
}

type diffRow struct{ ckey, row []byte }

func (d *differ) diff(dst, merged, have []byte, p Purge) ([]byte, bool, error) {
	d.purge = p
	if err := d.m.Init(merged); err != nil {
		return dst, false, err
	}
	if err := d.h.Init(have); err != nil {
		return dst, false, err
	}
	d.rows, d.buf, d.out, d.pending, d.static = d.rows[:0], d.buf[:0], d.out[:0], d.pending[:0], nil
	d.mRts = d.m.appendAllRanges(d.mRts[:0])
	d.hRts = d.h.appendAllRanges(d.hRts[:0])
	d.counting = rewrite{cover: Live(), compact: true, now: p.Now, gcBefore: p.GCBefore, watch: NoTimestamp}
	d.row.purge = p
	d.deletion()
	d.rangeDiff()
	if err := d.content(); err != nil {
		return dst, false, err
	}
	if !d.sendDeletion && len(d.out) == 0 && len(d.rows) == 0 && d.static == nil {
		return dst, false, nil
	}
	return d.write(dst), true, nil
}

func (d *differ) write(dst []byte) []byte {
	var f FragmentBuilder
	f.Reset(dst, false)
	if d.sendDeletion {
		f.PartitionDeletion(d.m.deletion)
	}
	f.Static(d.static)
	if d.m.Reversed() || d.h.Reversed() {
		slices.Reverse(d.rows)
	}
	for _, r := range d.rows {
		f.Row(r.ckey, r.row)
	}
	for _, rt := range d.out {
		f.RangeTombstone(rt)
	}
	return f.Finish()
}

// counts reports whether a deletion is part of the content that counts.
func (d *differ) counts(del Deletion) bool { return !del.Live() && !del.Purgeable(d.purge.GCBefore) }

// deletion decides about the partition deletion, as far as have's own deletions tell.
func (d *differ) deletion() {
	m, h := d.m.deletion, d.h.deletion
	d.sendDeletion = m != h && !m.Live() && (d.counts(m) || d.counts(h))
	if m == h || d.sendDeletion || m.Live() {
		return
	}
	for _, rt := range d.hRts {
		if d.counts(rt.Deletion) && m.Supersedes(rt.Deletion) {
			d.sendDeletion = true
			return
		}
	}
}

// rangeDiff cuts merged's ranges where have's begin and end, and sends the pieces that have lacks: at once those that
// count or that supersede one that counts, the others if a row will need them.
func (d *differ) rangeDiff() {
	next := 0
	for _, rt := range d.mRts {
		for next < len(d.hRts) && !before(rt.Start, d.hRts[next].End) {
			next++
		}
		at := rt.Start
		for i := next; i < len(d.hRts) && before(d.hRts[i].Start, rt.End); i++ {
			h := &d.hRts[i]
			if bytes.Compare(at, h.Start) < 0 {
				d.piece(RangeTombstone{at, h.Start, rt.Deletion}, Live())
				at = h.Start
			}
			end := h.End
			if compareEnd(rt.End, end) < 0 {
				end = rt.End
			}
			d.piece(RangeTombstone{at, end, rt.Deletion}, h.Deletion)
			if at = end; at == nil {
				break
			}
		}
		if at != nil && before(at, rt.End) {
			d.piece(RangeTombstone{at, rt.End, rt.Deletion}, Live())
		}
	}
}

// piece decides about a piece of a range of merged, over which have has the deletion h.
func (d *differ) piece(rt RangeTombstone, h Deletion) {
	switch {
	case rt.Deletion == h:
	case d.counts(rt.Deletion) || d.counts(h):
		d.out = append(d.out, rt)
	default:
		d.pending = append(d.pending, rt)
	}
}

// content compares the static rows and the rows.
func (d *differ) content() error {
	out, err := d.compare(d.m.static, d.h.static)
	if err != nil {
		return err
	}
	d.static = out
	reversed := d.m.Reversed() || d.h.Reversed()
	pending := newCover(d.pending, reversed)
	var send []bool
	okM, okH := d.m.NextRow(), d.h.NextRow()
	for okM || okH {
		var c int
		switch {
		case !okM:
			c = 1
		case !okH:
			c = -1
		default:
			if c = bytes.Compare(d.m.Ckey, d.h.Ckey); reversed {
				c = -c
			}
		}
		var m, h, ckey []byte
		if c <= 0 {
			ckey, m = d.m.Ckey, d.m.Row
		}
		if c >= 0 {
			ckey, h = d.h.Ckey, d.h.Row
		}
		waiting := pending.over(ckey)
		need, err := d.needs(m, h, waiting)
		if err != nil {
			return err
		}
		if need {
			if send == nil {
				send = make([]bool, len(d.pending))
			}
			send[pending.at] = true
		}
		row, err := d.compare(m, h)
		if err != nil {
			return err
		}
		if row != nil {
			d.rows = append(d.rows, diffRow{ckey, row})
		}
		if c <= 0 {
			okM = d.m.NextRow()
		}
		if c >= 0 {
			okH = d.h.NextRow()
		}
	}
	for i, ok := range send {
		if ok {
			d.out = append(d.out, d.pending[i])
		}
	}
	if d.m.err != nil {
		return d.m.err
	}
	return d.h.err
}

// needs reports whether the deletion del, which have lacks, deletes something that counts in have's row h.
// m is merged's row.
func (d *differ) needs(m, h []byte, del Deletion) (bool, error) {
	if len(h) == 0 || del.Live() {
		return false, nil
	}
	var err error
	if d.a, err = d.counting.run(d.a[:0], h); err != nil {
		return false, err
	}
	if o := d.counting.r.clustering; o.key != nil && del.Shadows(o.ts) && d.row.anyCounts(m) {
		return true, nil // it would show with what counts in m
	}
	d.shadow.cover, d.shadow.gcBefore, d.shadow.watch = del, NoTimestamp, NoTimestamp
	d.b, err = d.shadow.run(d.b[:0], d.a)
	return !bytes.Equal(d.a, d.b), err
}

// compare returns what of merged's row m a replica with h lacks, nil when nothing. It also finds out whether the
// purgeable partition deletion has to go along.
func (d *differ) compare(m, h []byte) ([]byte, error) {
	if !d.sendDeletion && d.m.deletion != d.h.deletion {
		need, err := d.needs(m, h, d.m.deletion)
		if err != nil {
			return nil, err
		}
		d.sendDeletion = need
	}
	if len(m) == 0 || bytes.Equal(m, h) {
		return nil, nil
	}
	at := len(d.buf)
	out, err := d.row.diff(d.buf, m, h)
	if err != nil || len(out) == at {
		return nil, err
	}
	d.buf = out
	return out[at:len(out):len(out)], nil
}

// rowDiff computes what of a merged row another one lacks.
type rowDiff struct {
	purge Purge
	e     encoder
	m, h  Reader
	probe Reader
	sent  bool
}

func (d *rowDiff) counts(del Deletion) bool { return !del.Live() && !del.Purgeable(d.purge.GCBefore) }

func (d *rowDiff) livenessCounts(l Liveness) bool {
	return !l.Empty() && (l.LiveAt(d.purge.Now) || l.Expiry >= d.purge.GCBefore)
}

func (d *rowDiff) cellCounts(c *Cell) bool {
	return c.LiveAt(d.purge.Now) || c.LocalTime() >= d.purge.GCBefore
}

// diff appends a row with the items of merged row m that h lacks and that count, or that put an end to something in h
// that counts.
func (d *rowDiff) diff(dst, m, h []byte) ([]byte, error) {
	if err := d.m.Init(m); err != nil {
		return dst, err
	}
	if err := d.h.Init(h); err != nil {
		return dst, err
	}
	live, del := d.m.liveness, d.m.deletion
	if live == d.h.liveness || !d.livenessCounts(live) && !d.livenessCounts(d.h.liveness) {
		live = NoLiveness()
	}
	ends := d.h.clustering.key != nil && del.Shadows(d.h.clustering.ts) && d.anyCounts(m)
	if del == d.h.deletion || !ends && !d.counts(del) && !d.deletes(h, del) {
		del = Live()
	}
	d.sent = !live.Empty() || !del.Live()
	e := &d.e
	e.begin(dst)
	e.head(d.m.clustering, live, del)
	okH := d.h.Next()
	for d.m.Next() {
		for okH && d.h.next < d.m.next {
			okH = d.h.Next()
		}
		same := okH && d.h.next == d.m.next
		switch {
		case d.m.Complex:
			d.complex(same)
		case d.lacks(same):
			e.cell(&d.m.Cell)
			d.sent = true
		}
	}
	out := e.finish()
	if d.m.err != nil {
		return dst, d.m.err
	}
	if d.h.err != nil {
		return dst, d.h.err
	}
	if d.sent {
		return out, nil
	}
	if d.m.clustering.equal(d.h.clustering) || !d.anyCounts(m) {
		return dst, nil
	}
	return append(dst, m...), nil // the original key needs something to travel with
}

// anyCounts reports whether something in row counts.
func (d *rowDiff) anyCounts(row []byte) bool {
	// The deletion that shadows everything ends whatever counts.
	return d.deletes(row, Deletion{Timestamp: math.MaxInt64, LocalTime: math.MaxInt64})
}

// lacks reports whether merged's cell has to be sent. h's cell is of the same column and path if same.
func (d *rowDiff) lacks(same bool) bool {
	if same && d.alike(&d.m.Cell, &d.h.Cell) {
		return false
	}
	return d.cellCounts(&d.m.Cell) || same && d.cellCounts(&d.h.Cell)
}

// alike reports whether two cells of one column and path are the same to a reader of this Now: equal, or the same expired one, of
// which one may have lost its value to a purge.
func (d *rowDiff) alike(a, b *Cell) bool {
	return a.equal(b) || a.TTL != 0 && a.TTL == b.TTL && a.Timestamp == b.Timestamp && a.Expiry == b.Expiry &&
		!a.LiveAt(d.purge.Now) && !b.LiveAt(d.purge.Now)
}

// deletes reports whether the row deletion del ends something in row h that counts.
func (d *rowDiff) deletes(h []byte, del Deletion) bool {
	r := &d.probe
	if del.Live() || r.Init(h) != nil {
		return false
	}
	if d.counts(r.deletion) || d.livenessCounts(r.liveness) && del.Shadows(r.liveness.Timestamp) {
		return true
	}
	for r.Next() {
		if !r.Complex {
			if d.cellCounts(&r.Cell) && del.Shadows(r.Cell.Timestamp) {
				return true
			}
			continue
		}
		if d.counts(r.ComplexDeletion) && !r.ComplexDeletion.Supersedes(del) || d.deletesElement(r, del) {
			return true
		}
	}
	return false
}

// deletesElement reports whether del ends an element of the complex column that r stands at and that counts.
func (d *rowDiff) deletesElement(r *Reader, del Deletion) bool {
	for r.NextElement() {
		if d.cellCounts(&r.Cell) && del.Shadows(r.Cell.Timestamp) {
			return true
		}
	}
	return false
}

// complex compares a complex column, which h has too if same.
func (d *rowDiff) complex(same bool) {
	m, h, e := &d.m, &d.h, &d.e
	del, old := m.ComplexDeletion, Live()
	if same {
		old = h.ComplexDeletion
	}
	if del == old || !d.counts(del) && !d.counts(old) && !(same && d.columnNeeds(del)) {
		del = Live()
	}
	d.sent = d.sent || !del.Live()
	e.complex(m.Column, del)
	okH := same && h.NextElement()
	for m.NextElement() {
		for okH && bytes.Compare(h.Cell.Path, m.Cell.Path) < 0 {
			okH = h.NextElement()
		}
		if d.lacks(okH && bytes.Equal(h.Cell.Path, m.Cell.Path)) {
			e.element(&m.Cell)
			d.sent = true
		}
	}
}

// columnNeeds reports whether the complex deletion del ends an element that counts in h's column.
func (d *rowDiff) columnNeeds(del Deletion) bool {
	d.probe = d.h // a copy: h's elements are still to be compared
	return d.deletesElement(&d.probe, del)
}
