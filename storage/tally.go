package storage

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/helenusdb/helenus/ring"
	"github.com/helenusdb/helenus/row"
	"github.com/helenusdb/helenus/schema"
)

const (
	tallyChunk     = 256     // buckets that one watch computes leaves of
	tallyPageBytes = 1 << 20 // of rows read in one go
)

// TallyRequest asks for the tally of a table's items in an interval of tokens.
type TallyRequest struct {
	Generation schema.Generation
	At         row.Purge
	Tokens     ring.Interval
	Keep       bool      // keep the leaves that had to be computed
	Fresh      bool      // compute all of them, whatever is kept
	Until      time.Time // stop at a bucket's end after it; zero: at the end of Tokens
}

// Tally returns the tally of the items at tokens [q.Tokens.First, covered]: at least of one bucket, and of all of q.Tokens unless Until
// came first. It reads only where no leaf is kept. What it counts may not be durable yet. Errors: ErrUnknownTable, those of the context
// and of Pebble; then covered means nothing.
func (e *Engine) Tally(ctx context.Context, q *TallyRequest) (t row.Tally, covered ring.Token, err error) {
	table, err := e.checkRead(&row.Command{Generation: q.Generation, Range: &ring.Range{}})
	if err != nil {
		return t, 0, err
	}
	c := taller{e: e, q: q, table: table}
	if err = c.open(ctx); err == nil {
		covered, err = c.run(ctx)
	}
	if err != nil {
		return t, 0, fmt.Errorf("storage: tally of generation %d: %w", q.Generation, err)
	}
	return c.sum, covered, nil
}

// TallyParts returns the tallies of the first of parts, ascending intervals: of as many as are neighbours of one another within one bucket of the table's leaves, read in one pass, where Tally of
// each would place iterators for each. None where that are fewer than two: there may be a leaf of the first. Of q only Generation and At matter. Errors as of Tally.
func (e *Engine) TallyParts(ctx context.Context, q *TallyRequest, parts []ring.Interval) ([]row.Tally, error) {
	table, err := e.checkRead(&row.Command{Generation: q.Generation, Range: &ring.Range{}})
	if err != nil {
		return nil, err
	}
	c := taller{e: e, q: &TallyRequest{Generation: q.Generation, At: q.At}, table: table}
	if err := c.open(ctx); err != nil {
		return nil, fmt.Errorf("storage: tally of generation %d: %w", q.Generation, err)
	}
	n, bucket := 1, c.grid.bucket(parts[0].First)
	for n < len(parts) && parts[n].First == parts[n-1].Last+1 && c.grid.bucket(parts[n].Last) == bucket {
		n++
	}
	if n == 1 || c.grid.bucket(parts[0].Last) != bucket {
		return nil, nil
	}
	out, at := make([]row.Tally, n), 0
	err = c.pass(ctx, ring.Interval{First: parts[0].First, Last: parts[n-1].Last}, &leafRecord{}, func(i *row.Item) error {
		for i.Token > parts[at].Last {
			at++
		}
		out[at].Item(i)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("storage: tally of generation %d: %w", q.Generation, err)
	}
	return out, nil
}

// taller adds up tallies, bucket by bucket.
type taller struct {
	e     *Engine
	q     *TallyRequest
	table *schema.Table
	grid  *leafGridOf // without tags: leaves are neither looked for nor kept
	keep  bool
	sum   row.Tally
	items row.Items
	page  row.Page
}

// part is what of a bucket lies in the interval that is asked for.
type part struct {
	bucket uint64
	tokens ring.Interval
	found  bool // tally is right
	stale  bool // leaves of the bucket are stored that do not count
	tally  row.Tally
}

func (c *taller) open(ctx context.Context) error {
	e := c.e
	c.keep = c.q.Keep && e.writable() == nil && !e.Suspect()
	if c.keep {
		return e.withLeaves(ctx, func() (err error) { c.grid, err = e.gridFor(c.q.Generation); return err })
	}
	if c.grid = e.leaves.grid(c.q.Generation); c.grid != nil {
		return nil
	}
	bytes, err := e.DiskUsageRange(c.q.Generation, ring.FullRange())
	c.grid = &leafGridOf{gen: c.q.Generation, depth: leafDepth(bytes)}
	return err
}

// withLeaves runs f while nobody else computes or drops leaves.
func (e *Engine) withLeaves(ctx context.Context, f func() error) error {
	select {
	case e.leaves.token <- struct{}{}:
	case <-e.ctx.Done():
		return ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-e.leaves.token }()
	return f()
}

func (c *taller) run(ctx context.Context) (covered ring.Token, err error) {
	for at := c.q.Tokens.First; ; at = covered + 1 {
		parts, err := c.stored(at)
		if err != nil {
			return 0, err
		}
		compute := func() error { covered, err = c.compute(ctx, parts, 0); return err }
		if c.keep && slices.ContainsFunc(parts, func(p part) bool { return !p.found }) {
			compute = func() error { covered, err = c.watch(ctx, parts); return err }
			err = c.e.withLeaves(ctx, compute)
		} else {
			err = compute()
		}
		if err != nil || covered >= c.q.Tokens.Last || c.late() {
			return covered, err
		}
	}
}

func (c *taller) late() bool { return !c.q.Until.IsZero() && !time.Now().Before(c.q.Until) }

// stored returns the parts of up to tallyChunk buckets from at on, with the leaves that count.
func (c *taller) stored(at ring.Token) (parts []part, err error) {
	g := c.grid
	first, last := g.bucket(at), g.bucket(c.q.Tokens.Last)
	last = min(last, first+tallyChunk-1)
	it, err := c.e.db.NewIter(&pebble.IterOptions{LowerBound: appendBucketKey(nil, g, first),
		UpperBound: prefixSuccessor(nil, appendBucketKey(nil, g, last))})
	if err != nil {
		return nil, err
	}
	ok := it.First()
	parts = make([]part, 0, last-first+1)
	for b := first; b <= last; b++ {
		p := part{bucket: b, tokens: g.interval(b)}
		p.tokens.First, p.tokens.Last = max(p.tokens.First, at), min(p.tokens.Last, c.q.Tokens.Last)
		ok = c.leaf(it, ok, &p)
		parts = append(parts, p)
	}
	return parts, errors.Join(it.Error(), it.Close())
}

// leaf moves the iterator behind the bucket of p and takes the leaf of p if there is one that counts.
func (c *taller) leaf(it *pebble.Iterator, ok bool, p *part) bool {
	var mark uint64
	stored := 0
	for ; ok; ok = it.Next() {
		k, v := it.Key(), it.Value()
		if binary.BigEndian.Uint64(k[6:])>>(64-c.grid.depth) != p.bucket {
			break
		}
		if len(k) == leafKeyLen {
			if len(v) == 8 {
				mark = binary.BigEndian.Uint64(v)
			}
			continue
		}
		l, right := decodeLeaf(v)
		if stored++; !right || l.number <= mark || stored > leavesPerBucket {
			p.stale = true
			continue
		}
		if len(k) == leafKeyLen+16 && binary.BigEndian.Uint64(k[leafKeyLen:]) == orderedToken(p.tokens.First) &&
			binary.BigEndian.Uint64(k[leafKeyLen+8:]) == orderedToken(p.tokens.Last) && !c.q.Fresh && l.holds(c.q.At, droppedPrint(c.table)) {
			p.found, p.tally = true, l.tally
		}
	}
	return ok
}

// watch computes the leaves that parts lack and stores them (docs/design/0011-repair.md). The caller holds the leaves' token.
func (c *taller) watch(ctx context.Context, parts []part) (covered ring.Token, err error) {
	e := c.e
	if e.isDropped(c.q.Generation) {
		return 0, ErrUnknownTable
	}
	if e.leaves.grid(c.q.Generation) != c.grid {
		return c.compute(ctx, parts, 0)
	}
	number := e.leaves.number.Add(1)
	for i := range parts {
		if !parts[i].found {
			c.grid.setTag(parts[i].bucket, leafTag(number))
		}
	}
	e.barrier()
	return c.compute(ctx, parts, number)
}

// compute adds parts in order, scanning what they lack, until it is late. With a number it stores the leaves.
func (c *taller) compute(ctx context.Context, parts []part, number uint64) (covered ring.Token, err error) {
	pb := c.e.db.NewBatch()
	for i := range parts {
		p := &parts[i]
		if !p.found {
			l := leafRecord{number: number, at: c.q.At, dropped: droppedPrint(c.table)}
			busy := number != 0 && c.e.leaves.beingIngested(c.q.Generation, p.tokens) // it may end while the scan is behind it
			if err = c.scan(ctx, p.tokens, &l); err != nil {
				break
			}
			p.tally = l.tally
			if number != 0 && !busy && !c.e.leaves.beingIngested(c.q.Generation, p.tokens) {
				err = c.put(pb, p, &l)
			}
			c.e.opts.Metrics.LeavesComputed.Add(1)
		} else {
			c.e.opts.Metrics.LeavesKept.Add(1)
		}
		c.sum.Add(p.tally)
		if covered = p.tokens.Last; err != nil || c.late() {
			break
		}
	}
	if err == nil && !pb.Empty() {
		err = c.e.db.Apply(pb, pebble.NoSync)
	}
	return covered, errors.Join(err, pb.Close())
}

// put stores a leaf, in place of those of its bucket that do not count any more.
func (c *taller) put(pb *pebble.Batch, p *part, l *leafRecord) error {
	if p.stale {
		start := append(appendBucketKey(nil, c.grid, p.bucket), 0) // behind the mark
		if err := pb.DeleteRange(start, prefixSuccessor(nil, start[:leafKeyLen]), nil); err != nil {
			return err
		}
	}
	return pb.Set(appendLeafKey(nil, c.grid, p.bucket, p.tokens), l.append(nil), nil)
}

// scan computes the tally of an interval into l. No key has the token MinToken, which a scan could not name.
func (c *taller) scan(ctx context.Context, iv ring.Interval, l *leafRecord) error {
	return c.pass(ctx, iv, l, func(i *row.Item) error { l.tally.Item(i); return nil })
}

// pass gives the items of an interval to add, in the order of their tokens, and sets of l how long they count as they do.
func (c *taller) pass(ctx context.Context, iv ring.Interval, l *leafRecord, add func(*row.Item) error) error {
	iv.First = max(iv.First, ring.MinToken+1)
	l.nextExpiry, l.oldestDeletion = row.Never, row.Never
	if iv.Last < iv.First {
		return nil
	}
	rg := ring.Range{Start: iv.First - 1, End: iv.Last}
	cmd := row.Command{Generation: c.q.Generation, Now: c.q.At.Now, GCBefore: c.q.At.GCBefore, Range: &rg, WithStatic: true, Bytes: tallyPageBytes}
	c.items.Init(c.q.At, droppedColumns(c.table))
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		if _, err := c.e.Read(&cmd, &c.page); err != nil {
			return err
		}
		if err := c.items.Page(&c.page, add); err != nil {
			return err
		}
		if !c.page.More {
			break
		}
		from := c.page.Cut
		from.Key, from.Clustering = bytes.Clone(from.Key), bytes.Clone(from.Clustering)
		cmd.From = &from
	}
	err := c.items.Finish(add)
	l.nextExpiry, l.oldestDeletion = c.items.NextExpiry, c.items.OldestDeletion
	return err
}

// DroppedColumns is droppedColumns of a generation, nil when it is unknown.
func (e *Engine) DroppedColumns(gen schema.Generation) func(col schema.ColumnID, ts int64) bool {
	t, ok := e.opts.Tables.Table(gen)
	if !ok {
		return nil
	}
	return droppedColumns(t)
}

// droppedColumns returns what tells of a cell that its column was dropped, nil when none was. Ids are never used again; an id that the
// table does not know is of a column that this node has yet to hear of.
func droppedColumns(t *schema.Table) func(col schema.ColumnID, ts int64) bool {
	if len(t.Dropped) == 0 {
		return nil
	}
	return func(col schema.ColumnID, _ int64) bool {
		return slices.ContainsFunc(t.Dropped, func(d schema.DroppedColumn) bool { return d.ID == col })
	}
}

// droppedPrint changes when a column is dropped.
func droppedPrint(t *schema.Table) (print uint32) {
	for i := range t.Dropped {
		print = print*31 + uint32(t.Dropped[i].ID) + 1
	}
	return print
}
