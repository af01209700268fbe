package coordinator

import (
	"context"
	"math"
	"slices"
	"time"

	"github.com/helenusdb/helenus/internal/trace"
	"github.com/helenusdb/helenus/ring"
	"github.com/helenusdb/helenus/row"
)

// Scan is one page of a read over a token range. The caller owns it; afterwards Page is the answer.
type Scan struct {
	Command row.Command // Range set; From resumes after an earlier page's Cut
	Level   Level
	Timeout time.Duration  // 0: Options.RangeTimeout; for each part of the ring that replicas are asked for
	Trace   *trace.Session // nil: none
	Page    row.Page
}

// ReadPage is Burst.Read, blocking: for reads that are not bounded.
func (c *Coordinator) ReadPage(ctx context.Context, r *Read) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	done := make(chan error, 1)
	r.Done = readDoneFunc(func(_ *Read, err error) { done <- err })
	c.NewBurst().Read(r)
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
	b.Flush()
	return <-done
}

type readDoneFunc func(r *Read, err error)

func (f readDoneFunc) ReadDone(r *Read, err error) { f(r, err) }

// ScanPage reads the next page of a scan, blocking. It walks the ring in order and asks for neighbouring ranges together
// as long as the same replicas can serve them. The page may hold fewer rows than the limit, even none, with More.
func (c *Coordinator) ScanPage(ctx context.Context, s *Scan) error {
	v := c.view()
	t := v.table(s.Command.Generation)
	if t == nil {
		return &UnknownTable{s.Command.Generation}
	}
	w := scanWalk{c: c, v: v, t: t, s: s, quota: t.quota(s.Level), left: s.Command.Limit, budget: s.Command.Bytes}
	if w.budget <= 0 {
		w.budget = row.DefaultPageBytes
	}
	w.budget = min(w.budget, replyBytesMax)
	s.Page.Data, s.Page.Rows, s.Page.More, s.Page.Cut = s.Page.Data[:0], 0, false, row.Position{}
	return w.run(ctx)
}

// scanWalk is the state of one ScanPage.
type scanWalk struct {
	c      *Coordinator
	v      *view
	t      *tablePlan
	s      *Scan
	quota  quota
	left   int // rows of Limit still wanted; 0 with Limit 0: no limit
	budget int // bytes
}

func (w *scanWalk) run(ctx context.Context) error {
	at, end := w.s.Command.Range.Start, w.s.Command.Range.End
	if end <= at { // the full ring
		end = math.MaxInt64
	}
	from := w.s.Command.From
	if from != nil && from.Token != math.MinInt64 {
		at = max(at, from.Token-1)
	}
	for at < end {
		if err := ctx.Err(); err != nil {
			return err
		}
		to, replicas, err := w.next(at, end)
		if err != nil {
			return err
		}
		sub := w.s.Command
		sub.Range, sub.From, sub.Limit, sub.Bytes = &ring.Range{Start: at, End: to}, nil, w.left, w.budget
		if from != nil && from.Token > at && from.Token <= to || from != nil && at == math.MinInt64 && from.Token == math.MinInt64 {
			sub.From = from
		}
		done, err := w.part(sub, replicas)
		if err != nil || done {
			return err
		}
		at = to
		if w.budget <= 0 && at < end {
			w.s.Page.More, w.s.Page.Cut = true, row.Position{Kind: row.BeforePartition, Token: at + 1}
			return nil
		}
	}
	return nil
}

// next returns how far from at the same replicas can serve, and which.
func (w *scanWalk) next(at, end ring.Token) (to ring.Token, replicas []*peer, err error) {
	if w.t.placement == nil {
		return end, []*peer{w.v.self}, nil
	}
	for {
		to = w.segmentEnd(at+1, end)
		both := w.live(at + 1)
		if replicas != nil {
			both = intersect(replicas, both)
		}
		if e := w.quota.available(both, w.c.live, w.v.localDC); e != nil {
			if replicas == nil {
				return 0, nil, e
			}
			return at, replicas, nil
		}
		if replicas = both; to == end {
			return to, replicas, nil
		}
		at = to
	}
}

func (w *scanWalk) segmentEnd(t, end ring.Token) ring.Token {
	r := w.t.placement.Ring()
	i := r.SegmentOf(t)
	if i < 0 {
		return end
	}
	to := r.Segment(i).End
	if to < t || to > end { // the segment that wraps
		return end
	}
	return to
}

func (w *scanWalk) live(t ring.Token) []*peer {
	all, natural := w.t.replicas(nil, t)
	return slices.DeleteFunc(all[:natural], func(p *peer) bool { return !w.c.live(p) })
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

// part reads one range and adds it to the page; done tells that the page is complete.
func (w *scanWalk) part(sub row.Command, replicas []*peer) (done bool, err error) {
	timeout := w.s.Timeout
	if timeout == 0 {
		timeout = w.c.o.RangeTimeout
	}
	result := make(chan error, 1)
	r := &Read{Command: sub, Level: w.s.Level, Timeout: timeout, Trace: w.s.Trace, c: w.c}
	r.Command.GCBefore = w.t.gcBefore(sub.Now)
	r.Done = readDoneFunc(func(_ *Read, err error) { result <- err })
	w.c.inFlight.Add(1)
	switch {
	case w.quota.need == 1 && hasSelf(replicas):
		w.c.readHere(r)
	default:
		w.c.readAt(w.v, w.t, r, w.quota, replicas)
	}
	if err := <-result; err != nil {
		return true, err
	}
	page := &w.s.Page
	page.Data = append(page.Data, r.Page.Data...)
	page.Rows += r.Page.Rows
	w.budget -= len(r.Page.Data)
	if r.Page.More {
		page.More, page.Cut = true, clonePosition(r.Page.Cut)
		return true, nil
	}
	if w.left > 0 {
		if w.left -= r.Page.Rows; w.left <= 0 {
			if sub.Range.End == w.s.Command.Range.End || sub.Range.End == math.MaxInt64 {
				return true, nil
			}
			page.More, page.Cut = true, row.Position{Kind: row.BeforePartition, Token: sub.Range.End + 1}
			return true, nil
		}
	}
	return false, nil
}
