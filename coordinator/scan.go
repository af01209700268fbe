package coordinator

import (
	"bytes"
	"context"
	"errors"
	"math"
	"slices"
	"time"

	"github.com/helenusdb/helenus/internal/planted"
	"github.com/helenusdb/helenus/internal/trace"
	"github.com/helenusdb/helenus/ring"
	"github.com/helenusdb/helenus/row"
)

// Scan is one page of a read over a token range, and what is read ahead for the next ones. The caller owns it; afterwards Page
// is the answer.
type Scan struct {
	Command row.Command // Range set; From resumes after an earlier page's Cut
	Level   Level
	Timeout time.Duration  // 0: Options.RangeTimeout; for each part of the ring that replicas are asked for
	Trace   *trace.Session // nil: none
	Page    row.Page

	walk scanWalk
}

// ReadPage is Burst.Read, blocking: for reads that are not bounded.
func (c *Coordinator) ReadPage(ctx context.Context, r *Read) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	done := make(chan error, 1)
	r.Done = readDoneFunc(func(_ *Read, err error) { done <- err })
	c.read(r, nil)
	return <-done
}

// WriteSync is Burst.Write, blocking.
func (c *Coordinator) WriteSync(ctx context.Context, w *Write) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	done := make(chan error, 1)
	w.Done = writeDoneFunc(func(_ *Write, err error) { done <- err })
	b := c.NewBurst()
	b.Write(w)
	b.Close()
	return <-done
}

type readDoneFunc func(r *Read, err error)

func (f readDoneFunc) ReadDone(r *Read, err error) { f(r, err) }

// errWraps is returned for a range that the caller should have unwrapped.
var errWraps = errors.New("coordinator: the range of a scan wraps")

const (
	scanPartsMax   = 8        // parts of one scan that are being read, or wait to be taken
	scanAheadBytes = 64 << 20 // that the parts which all scans read ahead may take
	scanFill       = 0.75     // of a page that a part is meant to fill
)

// ScanPage reads the next page of a scan, blocking. The ring is cut into parts: neighbouring ranges that the same replicas can
// serve, no longer than what fits a page as far as the parts before have shown how dense the rows are. Several parts are read at
// the same time when one will not do, and, from the second page on, ahead of the page that is asked for; they are taken in
// order. The page may hold fewer rows than the limit, even none, with More.
//
// When s.Command goes on where s.Page ended, with nothing else changed but the limit of rows, what was read ahead is used. A scan
// that is given up before its end is closed.
func (c *Coordinator) ScanPage(ctx context.Context, s *Scan) error {
	s.Page.Data, s.Page.Rows, s.Page.More = s.Page.Data[:0], 0, false
	w := &s.walk
	err := w.begin(c, s)
	if err == nil {
		err = w.run(ctx)
	}
	if err != nil {
		s.Close()
	}
	return err
}

// Close gives up what was read ahead. The scan may begin anew afterwards.
func (s *Scan) Close() {
	s.walk.drop()
	s.walk.going = false
}

// scanWalk is where a scan stands between two pages.
type scanWalk struct {
	c *Coordinator
	t *tablePlan
	s *Scan

	going  bool         // last is where the page before ended
	last   row.Position // as the caller was told
	same   []byte       // the command, encoded, without what may differ between pages
	limit  int          // of the page before
	long   bool         // another page with the same limit was asked for: nobody counts down, more will follow
	parts  []*scanPart  // all that is left of the range, in order; the last may be large and not begun
	turn   int          // parts begun
	pace   int          // parts at the same time, at most: it doubles with each that was taken
	seen   density
	span   float64 // tokens of a part that is likely to fit a page
	budget int     // bytes of a page

	left       int // rows of Limit still wanted
	partitions int // partitions still wanted
}

// scanPart is one part of a scan. It is the ReadDone of its read.
type scanPart struct {
	start, end ring.Token    // (start, end]
	from       *row.Position // where in it; nil: at its start
	read       Read
	done       chan error // capacity 1; nil: not begun
	reserved   int64      // bytes of Coordinator.ahead
}

// ReadDone implements ReadDone.
func (p *scanPart) ReadDone(_ *Read, err error) { p.done <- err }

// density is what the parts that were taken held.
type density struct{ tokens, rows, bytes float64 }

// take adds what was found in so many tokens.
func (d *density) take(tokens uint64, p *row.Page) {
	d.tokens += float64(tokens)
	d.rows += float64(p.Rows)
	d.bytes += float64(len(p.Data))
}

// holds returns how many tokens will hold so much. 0 rows: no bound.
func (d *density) holds(rows, bytes int) float64 {
	n := math.Inf(1)
	if rows > 0 && d.rows > 0 {
		n = min(n, float64(rows)/d.rows*d.tokens)
	}
	if d.bytes > 0 {
		n = min(n, float64(bytes)/d.bytes*d.tokens)
	}
	return n
}

// fit sets the length of parts by what one of so many tokens held: it grows to the eightfold at most, lest a dense place be
// taken for a dense table, and shrinks at once.
func (w *scanWalk) fit(tokens uint64, p *row.Page) {
	if tokens == 0 {
		return // within one partition
	}
	var d density
	d.take(tokens, p)
	w.span = max(min(scanFill*d.holds(w.s.Command.Limit, w.budget), 8*max(w.span, float64(tokens))), 1)
}

// begin prepares for a page.
func (w *scanWalk) begin(c *Coordinator, s *Scan) error {
	cmd := s.Command
	w.c, w.s, w.left, w.partitions, w.budget = c, s, cmd.Limit, cmd.Partitions, cmd.Bytes
	if w.budget <= 0 {
		w.budget = row.DefaultPageBytes
	}
	w.budget = min(w.budget, replyBytesMax)
	cmd.From, cmd.Limit = nil, 0
	same := cmd.Append(nil)
	from := s.Command.From
	if w.going && from != nil && from.Rows == w.last.Rows && from.Compare(&w.last, false) == 0 && bytes.Equal(same, w.same) {
		w.long, w.limit = s.Command.Limit == w.limit, s.Command.Limit
		return nil
	}
	w.drop()
	w.limit = s.Command.Limit
	w.going, w.same, w.long, w.seen, w.span, w.pace, w.turn = false, same, false, density{}, math.Inf(1), 1, 0
	rg := *cmd.Range
	if rg.Wraps() && !rg.IsFull() && rg.End != ring.MinToken {
		return errWraps
	}
	at, end := bounds(rg)
	if planted.On(planted.ScanSkipsPartition) && from != nil && from.Token != ring.MinToken {
		at, from = max(at, from.Token), nil
	}
	w.rest(at, end, from)
	return w.plan()
}

// rest puts a part that is not begun before the others, to go on from a position.
func (w *scanWalk) rest(at, end ring.Token, from *row.Position) {
	p := &scanPart{start: at, end: end}
	if from != nil {
		pos := clonePosition(from)
		p.from = &pos
		if from.Token != ring.MinToken {
			p.start = max(at, from.Token-1) // other partitions of the same token may follow
		}
	}
	if p.start < p.end {
		w.parts = slices.Insert(w.parts, 0, p)
	}
}

// plan looks the table up in the newest metadata.
func (w *scanWalk) plan() error {
	if w.t = w.c.view().table(w.s.Command.Generation); w.t == nil {
		return &UnknownTable{w.s.Command.Generation}
	}
	return nil
}

// drop forgets the parts; those that are being read come to their end unheard.
func (w *scanWalk) drop() {
	for i, p := range w.parts {
		p.free(w.c)
		w.parts[i] = nil
	}
	w.parts = w.parts[:0]
}

func (p *scanPart) free(c *Coordinator) {
	if p.reserved > 0 {
		c.ahead.Add(-p.reserved)
		p.reserved = 0
	}
}

func (w *scanWalk) run(ctx context.Context) error {
	var until time.Time // when the part that is wanted has been planned anew for long enough; zero: it was not
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := w.fill(); err != nil {
			return err
		}
		if len(w.parts) == 0 {
			w.going = false
			return nil
		}
		p := w.parts[0]
		err := p.wait(ctx)
		var stale *staleScan
		if errors.As(err, &stale) {
			if until.IsZero() {
				until = time.Now().Add(w.timeout())
			}
			if err = w.replan(p, stale, until); err == nil {
				continue
			}
		}
		if err != nil {
			return err
		}
		if w.exceeds(p) {
			p.done <- nil // for the next page
			w.cut(row.Position{Kind: row.BeforePartition, Token: p.start + 1})
			return nil
		}
		until = time.Time{}
		full, err := w.take(p)
		if err != nil || full {
			return err
		}
	}
}

// exceeds tells whether the page had better end before a part, which is kept for the next one, than in it.
func (w *scanWalk) exceeds(p *scanPart) bool {
	page, got := &w.s.Page, &p.read.Page
	return len(page.Data) > 0 && (len(page.Data)+len(got.Data) > w.budget || w.long && w.left > 0 && got.Rows > w.left)
}

// wait returns when the part has been read, or ctx has ended.
func (p *scanPart) wait(ctx context.Context) error {
	select {
	case err := <-p.done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// replan begins p again with newer metadata, if there is any.
func (w *scanWalk) replan(p *scanPart, stale *staleScan, until time.Time) error {
	if !w.c.newerThan(w.t.view.state.Epoch, stale.newer, until) {
		return stale.err
	}
	end := w.parts[len(w.parts)-1].end
	w.drop()
	w.rest(p.start, end, p.from)
	return w.plan()
}

func (w *scanWalk) timeout() time.Duration {
	if w.s.Timeout != 0 {
		return w.s.Timeout
	}
	return w.c.o.RangeTimeout
}

// fill begins as many parts as are worth reading at the same time.
func (w *scanWalk) fill() error {
	begun := 0
	for _, p := range w.parts {
		if p.done != nil {
			begun++
		}
	}
	for i := 0; i < len(w.parts); i++ {
		p := w.parts[i]
		if p.done != nil {
			continue
		}
		if i > 0 && (begun >= w.wanted() || !w.reserve(p)) {
			return nil
		}
		begun++
		to, replicas, q, err := w.reach(p.start, p.end)
		if err != nil {
			p.free(w.c)
			if i > 0 {
				return nil // it is told of when it is the first's turn
			}
			return err
		}
		if to < p.end {
			w.parts = slices.Insert(w.parts, i+1, &scanPart{start: to, end: p.end})
			p.end = to
		}
		w.start(p, replicas, &q, i == 0)
	}
	return nil
}

// reserve asks for the memory to read a part ahead.
func (w *scanWalk) reserve(p *scanPart) bool {
	n := int64(w.budget)
	if w.c.ahead.Add(n) > scanAheadBytes {
		w.c.ahead.Add(-n)
		return false
	}
	p.reserved = n
	return true
}

// wanted returns how many parts there should be: one until something is known of how dense the rows are, then as many as fill
// the page, and as many as may be when more pages will follow.
func (w *scanWalk) wanted() int {
	rest := w.parts[len(w.parts)-1]
	switch {
	case w.seen.tokens == 0:
		return 1
	case w.long, rest.done != nil:
		return w.pace
	}
	n, tokens := len(w.parts)-1, w.seen.holds(w.left, w.budget-len(w.s.Page.Data))
	for at := rest.start; n < w.pace && at < rest.end && float64(uint64(at)-uint64(rest.start)) < tokens; n++ {
		at = w.t.stretch(at, w.limitOf(at, rest.end))
	}
	return max(n, 1)
}

// stretch returns the end of the segment behind at, no further than end.
func (t *tablePlan) stretch(at, end ring.Token) ring.Token {
	if t.placement == nil {
		return end
	}
	return t.segmentEnd(at+1, end)
}

// limitOf returns how far a part that begins after at may go.
func (w *scanWalk) limitOf(at, end ring.Token) ring.Token {
	if float64(uint64(end)-uint64(at)) <= w.span {
		return end
	}
	return min(ring.Token(uint64(at)+uint64(w.span)), end) // w.span is less than 2^64
}

// start begins to read a part.
func (w *scanWalk) start(p *scanPart, replicas []*peer, q *quota, first bool) {
	cmd := w.s.Command
	cmd.Range, cmd.From, cmd.Bytes = &ring.Range{Start: p.start, End: p.end}, p.from, w.budget
	if first {
		cmd.Limit, cmd.Partitions = w.left, w.partitions
	}
	p.done = make(chan error, 1)
	p.read = Read{Command: cmd, Level: w.s.Level, Timeout: w.timeout(), Trace: w.s.Trace, Done: p, part: true, turn: w.turn}
	w.turn++
	w.c.inFlight.Add(1)
	w.c.readFrom(w.t, &p.read, q, replicas, nil)
}

// reach returns how far from at, no further than end, the same replicas can serve, which, and what is needed of them.
func (w *scanWalk) reach(at, end ring.Token) (to ring.Token, replicas []*peer, q quota, err error) {
	end = w.limitOf(at, end)
	if w.t.placement == nil {
		return end, []*peer{w.t.view.self}, w.t.quota(w.s.Level), nil
	}
	for {
		both, needs := w.live(at + 1)
		if replicas != nil {
			both = intersect(replicas, both)
		}
		if e := needs.available(w.c, both, w.t.view.localDC); e != nil {
			if replicas == nil {
				return 0, nil, q, e
			}
			return at, replicas, q, nil
		}
		if replicas != nil && (needs.need != q.need || needs.left != q.left) { // ranges move
			return at, replicas, q, nil
		}
		replicas, q, at = both, needs, w.t.segmentEnd(at+1, end)
		if at == end {
			return at, replicas, q, nil
		}
	}
}

// live returns those of the readers of a token that are live, and what is needed of them.
func (w *scanWalk) live(t ring.Token) ([]*peer, quota) {
	all, q := w.t.readers(nil, t, w.s.Level)
	return slices.DeleteFunc(all, func(p *peer) bool { return !w.c.live(p) }), q
}

func intersect(a, b []*peer) []*peer {
	var out []*peer
	for _, p := range a {
		if slices.Contains(b, p) {
			out = append(out, p)
		}
	}
	return out
}

// take adds the first part, which has been read, to the page, and tells whether that is full.
func (w *scanWalk) take(p *scanPart) (full bool, err error) {
	got := &p.read.Page
	n, err := w.countPartitions(p)
	if err != nil {
		return true, err
	}
	if w.left > 0 && got.Rows > w.left || w.partitions > 0 && n > w.partitions {
		cmd := p.read.Command
		cmd.Limit, cmd.Partitions = w.left, w.partitions
		var less row.Page
		if _, err := row.ReconcilePages(&less, &cmd, []*row.Page{got}); err != nil {
			return true, err
		}
		*got = less
	}
	page := &w.s.Page
	page.Data = append(page.Data, got.Data...)
	page.Rows += got.Rows
	p.free(w.c)
	w.parts = append(w.parts[:0], w.parts[1:]...)
	tokens := uint64(p.end) - uint64(p.start)
	if got.More {
		tokens = uint64(max(got.Cut.Token, p.start)) - uint64(p.start)
	}
	w.seen.take(tokens, got)
	w.fit(tokens, got)
	w.pace = min(2*w.pace, scanPartsMax)
	if got.More {
		w.cut(got.Cut)
		w.rest(p.start, p.end, &w.last)
		return true, nil
	}
	full = len(page.Data) >= w.budget
	if w.left > 0 {
		w.left -= got.Rows
		full = full || w.left <= 0
	}
	if w.partitions > 0 {
		w.partitions -= n
		full = full || w.partitions <= 0
	}
	switch {
	case full && len(w.parts) == 0:
		w.going = false
	case full:
		w.cut(row.Position{Kind: row.BeforePartition, Token: p.end + 1})
	}
	return full, nil
}

// countPartitions counts the live partitions of a part when a limit asks for it.
func (w *scanWalk) countPartitions(p *scanPart) (int, error) {
	if w.partitions <= 0 {
		return 0, nil
	}
	return livePartitions(p.read.Page.Data, &p.read.Command)
}

// cut ends the page at a position, from which the next one may go on.
func (w *scanWalk) cut(at row.Position) {
	w.s.Page.More, w.s.Page.Cut = true, clonePosition(&at)
	w.last, w.going = clonePosition(&at), true
}

// livePartitions counts the partitions of a page that have a live row, without the one that an earlier page counted.
func livePartitions(data []byte, cmd *row.Command) (n int, err error) {
	var p row.PageReader
	var f row.FragmentReader
	for p.Init(data); p.Next(); {
		if err := f.Init(p.Fragment); err != nil {
			return n, err
		}
		live := len(f.Static()) > 0 && row.HasLive(f.Static(), cmd.Now)
		for !live && f.NextRow() {
			live = row.HasLive(f.Row, cmd.Now)
		}
		if f.Err() != nil {
			return n, f.Err()
		}
		from := cmd.From
		counted := from != nil && from.Kind == row.InPartition && from.Rows > 0 && from.Token == p.Token && bytes.Equal(from.Key, p.Key)
		if live && !counted {
			n++
		}
	}
	return n, p.Err()
}
