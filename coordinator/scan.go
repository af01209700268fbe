package coordinator

import (
	"bytes"
	"context"
	"errors"
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

// ScanPage reads the next page of a scan, blocking. It walks the ring in order and asks for neighbouring ranges together
// as long as the same replicas can serve them. The page may hold fewer rows than the limit, even none, with More.
func (c *Coordinator) ScanPage(ctx context.Context, s *Scan) error {
	w := scanWalk{c: c, s: s, left: s.Command.Limit, partitions: s.Command.Partitions, budget: s.Command.Bytes}
	if w.budget <= 0 {
		w.budget = row.DefaultPageBytes
	}
	w.budget = min(w.budget, replyBytesMax)
	s.Page.Data, s.Page.Rows, s.Page.More, s.Page.Cut = s.Page.Data[:0], 0, false, row.Position{}
	if err := w.plan(); err != nil {
		return err
	}
	return w.run(ctx)
}

// errWraps is returned for a range that the caller should have unwrapped.
var errWraps = errors.New("coordinator: the range of a scan wraps")

// scanWalk is the state of one ScanPage.
type scanWalk struct {
	c          *Coordinator
	t          *tablePlan
	s          *Scan
	quota      quota
	end        ring.Token
	left       int // rows of Limit still wanted
	partitions int // partitions still wanted
	budget     int // bytes
}

// plan looks the table up in the newest metadata.
func (w *scanWalk) plan() error {
	if w.t = w.c.view().table(w.s.Command.Generation); w.t == nil {
		return &UnknownTable{w.s.Command.Generation}
	}
	w.quota = w.t.quota(w.s.Level)
	return nil
}

func (w *scanWalk) run(ctx context.Context) error {
	rg, from := *w.s.Command.Range, w.s.Command.From
	if rg.Wraps() && !rg.IsFull() && rg.End != ring.MinToken {
		return errWraps
	}
	at, end := bounds(rg)
	w.end = end
	if from != nil && from.Token != ring.MinToken {
		at = max(at, from.Token-1) // other partitions of the same token may follow
	}
	for replanned := false; at < end; {
		if err := ctx.Err(); err != nil {
			return err
		}
		to, replicas, err := w.next(at)
		if err != nil {
			return err
		}
		sub := w.s.Command
		sub.Range, sub.From, sub.Limit, sub.Partitions, sub.Bytes = &ring.Range{Start: at, End: to}, nil, w.left, w.partitions, w.budget
		if from != nil && from.Token <= to {
			sub.From, from = from, nil
		}
		done, err := w.part(sub, replicas)
		var stale *staleScan
		if errors.As(err, &stale) && !replanned {
			replanned = true
			if err = w.replan(stale); err == nil {
				from = sub.From
				continue
			}
		}
		if err != nil || done {
			return err
		}
		at = to
	}
	return nil
}

// replan goes on with newer metadata, if there is any.
func (w *scanWalk) replan(stale *staleScan) error {
	if !w.c.newerThan(w.t.view.state.Epoch, stale.newer, time.Now().Add(w.timeout())) {
		return stale.err
	}
	return w.plan()
}

func (w *scanWalk) timeout() time.Duration {
	if w.s.Timeout != 0 {
		return w.s.Timeout
	}
	return w.c.o.RangeTimeout
}

// next returns how far from at the same replicas can serve, and which.
func (w *scanWalk) next(at ring.Token) (to ring.Token, replicas []*peer, err error) {
	if w.t.placement == nil {
		return w.end, []*peer{w.t.view.self}, nil
	}
	for {
		both := w.live(at + 1)
		if replicas != nil {
			both = intersect(replicas, both)
		}
		if e := w.quota.available(w.c, both, w.t.view.localDC); e != nil {
			if replicas == nil {
				return 0, nil, e
			}
			return at, replicas, nil
		}
		replicas, at = both, w.t.segmentEnd(at+1, w.end)
		if at == w.end {
			return at, replicas, nil
		}
	}
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
	result := make(chan error, 1)
	r := &Read{Command: sub, Level: w.s.Level, Timeout: w.timeout(), Trace: w.s.Trace, part: true}
	r.Done = readDoneFunc(func(_ *Read, err error) { result <- err })
	w.c.inFlight.Add(1)
	q := w.quota
	w.c.readFrom(w.t, r, &q, replicas, nil)
	if err := <-result; err != nil {
		return true, err
	}
	page := &w.s.Page
	page.Data = append(page.Data, r.Page.Data...)
	page.Rows += r.Page.Rows
	if r.Page.More {
		page.More, page.Cut = true, clonePosition(&r.Page.Cut)
		return true, nil
	}
	enough, err := w.take(&r.Page, &sub)
	if err != nil || !enough {
		return false, err
	}
	if sub.Range.End != w.end {
		page.More, page.Cut = true, row.Position{Kind: row.BeforePartition, Token: sub.Range.End + 1}
	}
	return true, nil
}

// take counts a part that came to its end against the limits, and tells whether one is reached.
func (w *scanWalk) take(p *row.Page, sub *row.Command) (enough bool, err error) {
	w.budget -= len(p.Data)
	enough = w.budget <= 0
	if w.s.Command.Limit > 0 {
		w.left -= p.Rows
		enough = enough || w.left <= 0
	}
	if w.s.Command.Partitions > 0 {
		n, err := livePartitions(p.Data, sub)
		if err != nil {
			return true, err
		}
		w.partitions -= n
		enough = enough || w.partitions <= 0
	}
	return enough, nil
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
