package plan

import (
	"encoding/binary"

	"github.com/helenusdb/helenus/cql/protocol"
	"github.com/helenusdb/helenus/ring"
	"github.com/helenusdb/helenus/row"
)

// chunkRows is how many rows a read asks for that nothing else limits: filters and aggregates look at many.
const chunkRows = 10000

// Page says which part of the result is wanted.
type Page struct {
	Rows   int    // page size in rows; 0: all
	Bytes  int    // a page of rows ends with the row that fills so many bytes; 0: no bound
	Resume *State // nil: from the beginning
}

// State is where a result goes on after a page: content of the paging state.
type State struct {
	Command   int32        // index into Access.Commands; 0 for a scan
	At        row.Position // where in that command; before ring.MinToken without a key: at its beginning
	Remaining int64        // rows left of LIMIT; -1: no limit
	Partition int64        // rows given of the partition that At stands in, for PER PARTITION LIMIT
}

// RowWriter makes result rows out of pages: residual filters, selection, functions, aggregates, grouping, limits. The zero
// value is ready for Begin; reuse it; not safe for concurrent use.
type RowWriter struct {
	s    *Select
	a    *Args
	acc  Access
	now  int64
	mem  arena
	sc   scope
	view rowView

	cmd       row.Command
	at        int          // index of the command being read
	from      row.Position // where it goes on
	inside    bool
	done      bool // nothing more is to be read
	full      bool // the page is
	more      bool // the result goes on after it, at next
	next      State
	remaining int64 // rows left of LIMIT
	perPart   int64
	want      int64 // rows left of the page
	bytes     int   // of a page; 0: no bound
	rows      int

	// The partition at hand.
	token  ring.Token
	key    []byte
	seen   int64 // live rows read of it, also on earlier pages
	given  int64 // rows given of it, also on earlier pages
	comps  [][]byte
	reader row.Reader
	pages  row.PageReader
	frag   row.FragmentReader

	filters []boundFilter
	group   groupState
	sorted  sorter
	keyBuf  []byte
	posBuf  []byte
	partBuf []byte
	rowBase int // and in a partition
	base    int // how much of mem outlives a row: filters, static columns
}

// Begin starts the result, or one page of it. a, acc and the buffer behind it must stay as they are until Finish. Errors
// are *Error.
func (w *RowWriter) Begin(s *Select, a *Args, acc Access, p Page) error {
	w.mem.reset()
	w.s, w.a, w.acc, w.now = s, a, acc, a.Now
	w.sc = scope{args: a, mem: &w.mem, row: &w.view}
	w.view.init(&s.slots)
	w.at, w.inside, w.done, w.full, w.more, w.rows = 0, false, false, false, false, 0
	w.seen, w.given, w.key = 0, 0, nil
	w.next = State{}
	var err error
	if w.remaining, err = evalLimit(&w.sc, s.limit); err != nil {
		return err
	}
	if w.perPart, err = evalLimit(&w.sc, s.perPartition); err != nil {
		return err
	}
	w.want, w.bytes = noLimit, 0
	if p.Rows > 0 && !s.Aggregated() {
		w.want, w.bytes = int64(p.Rows), p.Bytes
	}
	if s.order != nil {
		if w.want < w.remaining {
			return invalid("Cannot page queries with both ORDER BY and a IN restriction on the partition key; " +
				"you must either remove the ORDER BY or the IN and sort client side, or disable paging for this query")
		}
		w.want, w.bytes = noLimit, 0
		w.sorted.reset()
	}
	if err := w.bindFilters(); err != nil {
		return err
	}
	w.base = len(w.mem.buf)
	w.resetGroups()
	if p.Resume != nil {
		w.resume(p.Resume)
	}
	return nil
}

// beginning is the position of a command of which nothing has been read. No key has its token. A scan may end a page at any
// other token without a key: between two parts of the ring.
var beginning = row.Position{Kind: row.BeforePartition, Token: ring.MinToken}

func atBeginning(p *row.Position) bool {
	return p.Kind == row.BeforePartition && p.Token == ring.MinToken && len(p.Key) == 0
}

func (w *RowWriter) resume(st *State) {
	w.at, w.from = int(st.Command), st.At
	w.inside = !atBeginning(&st.At)
	if st.Remaining >= 0 {
		w.remaining = st.Remaining
	}
	w.given, w.seen = st.Partition, int64(st.At.Rows)
	w.partBuf = append(w.partBuf[:0], st.At.Key...)
	w.key = w.partBuf
	w.token = st.At.Token
}

// wholeRows reports whether every live row read makes one row of the result, so that limits can be handed to the read.
func (w *RowWriter) wholeRows() bool {
	return len(w.filters) == 0 && !w.s.aggregate && !w.s.distinct && w.s.order == nil
}

// Next returns the next read wanted, nil when there is none: the page is full or the result complete. The command is the
// writer's and is valid until the next call.
func (w *RowWriter) Next() *row.Command {
	if w.done || w.full {
		return nil
	}
	var base *row.Command
	switch {
	case w.acc.Scan != nil:
		base = w.acc.Scan
	case w.at < len(w.acc.Commands):
		base = &w.acc.Commands[w.at]
	default:
		w.done = true
		return nil
	}
	w.cmd = *base
	if w.inside {
		w.cmd.From = &w.from
	}
	w.limit(&w.cmd)
	return &w.cmd
}

// limit sets the command's limits.
func (w *RowWriter) limit(cmd *row.Command) {
	if w.acc.Point {
		return
	}
	cmd.Limit = chunkRows
	switch {
	case w.wholeRows():
		cmd.Limit = int(min(w.remaining, w.want, chunkRows))
		if w.perPart != noLimit && len(w.s.table.Dropped) == 0 {
			cmd.PerPartition = int(w.perPart)
		}
	case w.s.distinct && len(w.filters) == 0 && !w.s.aggregate:
		cmd.Limit = int(min(w.remaining, w.want, chunkRows))
		cmd.PerPartition = 1
	case w.s.distinct:
		cmd.PerPartition = 1
	}
}

// Add appends the result rows that follow from page, the answer to the command that Next returned, each value as protocol
// [bytes]. Errors are *Error, or those of malformed pages.
func (w *RowWriter) Add(dst []byte, page *row.Page) ([]byte, error) {
	pages := &w.pages
	pages.Init(page.Data)
	var err error
	for !w.full && !w.done && pages.Next() {
		cut := page.More && page.Cut.Kind == row.InPartition && pages.Last()
		if dst, err = w.partition(dst, pages, cut); err != nil {
			return dst, err
		}
	}
	if err := pages.Err(); err != nil {
		return dst, err
	}
	w.partBuf = append(w.partBuf[:0], w.key...)
	w.key = w.partBuf
	if !w.full && !w.done {
		w.advance(page)
	}
	return dst, nil
}

// advance moves on to what follows a page that was used up.
func (w *RowWriter) advance(page *row.Page) {
	switch {
	case page.More:
		w.inside = true
		w.from = page.Cut
		w.keyBuf = append(w.keyBuf[:0], page.Cut.Key...)
		w.posBuf = append(w.posBuf[:0], page.Cut.Clustering...)
		w.from.Key, w.from.Clustering = w.keyBuf, w.posBuf
		if w.acc.Scan == nil && page.Cut.Kind == row.AfterPartition {
			w.nextCommand()
		}
	default:
		w.nextCommand()
	}
	if w.want <= 0 && !w.done {
		w.stop()
	}
}

func (w *RowWriter) nextCommand() {
	w.inside, w.given, w.seen = false, 0, 0
	w.key, w.token = nil, 0
	w.at++
	if w.acc.Scan != nil || w.at >= len(w.acc.Commands) {
		w.done = true
	}
}

// stop ends the page; the result goes on at what would be read next.
func (w *RowWriter) stop() {
	w.full, w.more = true, true
	w.next = State{Command: int32(w.at), Remaining: -1, Partition: w.given, At: beginning}
	if w.inside {
		w.next.At = w.from
	}
	if w.s.limit != nil {
		w.next.Remaining = w.remaining
	}
}

// stopBefore ends the page before the row at ckey of the partition at hand, or before the partition's first row.
func (w *RowWriter) stopBefore(ckey []byte) {
	if w.acc.Scan == nil && ckey == nil {
		w.inside, w.given = false, 0
		w.stop()
		return
	}
	w.keyBuf = append(w.keyBuf[:0], w.key...)
	w.from = row.Position{Kind: row.BeforePartition, Token: w.token, Key: w.keyBuf}
	if ckey != nil {
		w.posBuf = append(w.posBuf[:0], ckey...)
		if w.s.reverse {
			w.posBuf = append(w.posBuf, 0xFF)
		}
		w.from.Kind, w.from.Clustering, w.from.Rows = row.InPartition, w.posBuf, int(w.seen)
	} else {
		w.given = 0
	}
	w.inside = true
	w.stop()
}

// partition adds the rows of one partition of a page. cut says that the page ends within it.
func (w *RowWriter) partition(dst []byte, pages *row.PageReader, cut bool) ([]byte, error) {
	if w.token != pages.Token || string(w.key) != string(pages.Key) {
		w.given, w.seen = 0, 0
	}
	w.token, w.key = pages.Token, pages.Key
	if err := w.frag.Init(pages.Fragment); err != nil {
		return dst, err
	}
	if err := w.setKeys(w.key); err != nil {
		return dst, err
	}
	static, err := w.loadStatic(w.frag.Static())
	if err != nil {
		return dst, err
	}
	w.rowBase = len(w.mem.buf)
	for w.given < w.perPart && w.frag.NextRow() {
		if w.s.plain && len(w.filters) == 0 && !w.s.distinct && w.s.order == nil {
			dst, err = w.fastRow(dst)
		} else {
			dst, err = w.slowRow(dst)
		}
		if err != nil || w.full || w.done {
			return dst, err
		}
		w.mem.buf = w.mem.buf[:w.rowBase]
		if w.s.distinct && w.seen > 0 {
			break
		}
	}
	if err := w.frag.Err(); err != nil {
		return dst, err
	}
	if static && w.seen == 0 && !cut && !w.s.restrictsRows() {
		dst, err = w.staticOnly(dst)
	}
	w.mem.buf = w.mem.buf[:w.base]
	return dst, err
}

// loadStatic decodes the static row, and reports whether it is visible.
func (w *RowWriter) loadStatic(enc []byte) (bool, error) {
	refs := w.s.slots.static
	if len(enc) == 0 {
		w.view.clearSlots(refs)
		return false, nil
	}
	if len(refs) > 0 {
		if err := w.reader.Init(enc); err != nil {
			return false, err
		}
		if err := w.setColumns(&w.reader, refs); err != nil {
			return false, err
		}
	}
	return w.visible(enc), nil
}

// visible reports whether a row is there. Cells of dropped columns do not count, which replicas know nothing of.
func (w *RowWriter) visible(enc []byte) bool {
	if len(w.s.table.Dropped) == 0 {
		return row.HasLive(enc, w.now)
	}
	var r row.Reader
	if r.Init(enc) != nil {
		return false
	}
	if r.Liveness().LiveAt(w.now) {
		return true
	}
	for r.Next() {
		if w.s.table.ColumnByID(r.Column) == nil {
			continue
		}
		if !r.Complex && r.Cell.LiveAt(w.now) {
			return true
		}
		for r.NextElement() {
			if r.Cell.LiveAt(w.now) {
				return true
			}
		}
	}
	return false
}

// fastRow adds a row of plain columns: its cells are copied as they are.
func (w *RowWriter) fastRow(dst []byte) ([]byte, error) {
	enc := w.frag.Row
	if !w.visible(enc) {
		return dst, nil
	}
	if w.want <= 0 {
		w.stopBefore(w.frag.Ckey)
		return dst, nil
	}
	w.seen++
	if err := w.load(); err != nil {
		return dst, err
	}
	dst = w.appendPlain(dst)
	w.count(len(dst))
	return dst, nil
}

// load decodes the row that frag stands at.
func (w *RowWriter) load() error {
	if err := w.reader.Init(w.frag.Row); err != nil {
		return err
	}
	if err := w.setClustering(w.frag.Ckey, w.reader.Clustering()); err != nil {
		return err
	}
	return w.setColumns(&w.reader, w.s.slots.regular)
}

func (w *RowWriter) appendPlain(dst []byte) []byte {
	for i := range w.s.outputs {
		dst = appendValue(dst, w.view.vals[w.s.outputs[i].slot])
	}
	return dst
}

func appendValue(dst, v []byte) []byte {
	if v == nil {
		return append(dst, 0xFF, 0xFF, 0xFF, 0xFF)
	}
	return append(binary.BigEndian.AppendUint32(dst, uint32(len(v))), v...)
}

// count counts a row that was added; size is that of the page so far.
func (w *RowWriter) count(size int) {
	w.rows++
	w.given++
	w.want--
	if w.bytes > 0 && size >= w.bytes {
		w.want = 0
	}
	if w.remaining--; w.remaining <= 0 {
		w.done = true
	}
}

// slowRow adds a row that has to be looked at.
func (w *RowWriter) slowRow(dst []byte) ([]byte, error) {
	if !w.visible(w.frag.Row) {
		return dst, nil
	}
	if err := w.load(); err != nil {
		return dst, err
	}
	ok, err := w.passes(false)
	if err != nil || !ok {
		w.seen++
		return dst, err
	}
	dst, err = w.emit(dst, w.frag.Ckey)
	if !w.full {
		w.seen++
	}
	return dst, err
}

// staticOnly adds the row that stands for a partition of static columns only.
func (w *RowWriter) staticOnly(dst []byte) ([]byte, error) {
	w.view.clearSlots(w.s.slots.cluster)
	w.view.clearSlots(w.s.slots.regular)
	ok, err := w.passes(true)
	if err != nil || !ok {
		return dst, err
	}
	return w.emit(dst, nil)
}

// emit adds the row in view: to the group it belongs to, to the rows to sort, or to dst. ckey nil: the static row.
func (w *RowWriter) emit(dst []byte, ckey []byte) ([]byte, error) {
	switch {
	case w.s.aggregate:
		return w.accumulate(dst, ckey)
	case w.want <= 0:
		if w.s.distinct {
			ckey = nil
		}
		w.stopBefore(ckey)
		return dst, nil
	case w.s.order != nil:
		w.given++
		return dst, w.sorted.add(w)
	}
	dst, err := w.appendOutputs(dst)
	if err == nil {
		w.count(len(dst))
	}
	return dst, err
}

func (w *RowWriter) appendOutputs(dst []byte) ([]byte, error) {
	for i := range w.s.outputs {
		o := &w.s.outputs[i]
		if o.slot >= 0 {
			dst = appendValue(dst, w.view.vals[o.slot])
			continue
		}
		v, err := o.term.eval(&w.sc)
		if err != nil {
			return dst, err
		}
		if v.State != protocol.Set {
			dst = appendValue(dst, nil)
			continue
		}
		dst = appendValue(dst, orEmpty(v.Bytes))
	}
	return dst, nil
}

// Finish appends what can only be said at the end: the last group, sorted rows. Call it once, when Next has returned nil.
func (w *RowWriter) Finish(dst []byte) ([]byte, error) {
	var err error
	if w.s.aggregate && !w.full {
		dst, err = w.lastGroup(dst)
	}
	if w.s.order != nil {
		dst = w.sorted.finish(dst, w)
	}
	return dst, err
}

// Rows returns how many rows were appended since Begin.
func (w *RowWriter) Rows() int { return w.rows }

// More reports whether the result goes on after the page, and where. st's slices alias the writer's memory.
func (w *RowWriter) More() (st State, more bool) { return w.next, w.more && w.remaining > 0 }
