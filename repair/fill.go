package repair

import (
	"context"
	"errors"
	"sync"

	"github.com/helenusdb/helenus/repair/merkle"
	"github.com/helenusdb/helenus/ring"
)

// This file gives a replica that lacks most of an interval the whole of it by streams (repair/stream), which cost a fraction of what moving rows does. What comes
// is rows as some replica has them, to be merged; what differs still is found by comparing the interval again.

const (
	fillBytesMin  = 4 << 20  // of an interval's content: less is moved row by row
	fillPartBytes = 16 << 20 // of content that is fetched by one request
	fillPartsMax  = 4096
	fillLanesMax  = 2 // sources that are streamed from at a time
	fillTimeouts  = 5 // one request may take that many times Options.CallTimeout
)

// streamed tells whether an interval in which a replica lacks most is filled by streams.
func (s *session) streamed(l *merkle.Leaf) bool {
	if s.o.Stream == nil || s.spec.readOnly() || s.spec.pull && s.spec.Rebuild == "" {
		return false
	}
	return l.Tallies[sources(l)[0]].Bytes >= fillBytesMin
}

// sources returns the replicas that have most of an interval, the fullest first, at least one.
func sources(l *merkle.Leaf) []int {
	fullest := 0
	for i := range l.Tallies {
		if l.Tallies[i].Items > l.Tallies[fullest].Items {
			fullest = i
		}
	}
	out, most := []int{fullest}, l.Tallies[fullest].Items
	for i := range l.Tallies {
		if i != fullest && l.Tallies[i].Items >= most-most/16 && len(out) < fillLanesMax {
			out = append(out, i)
		}
	}
	return out
}

// fill streams an interval to all replicas that lack most of it, parts of it from one replica and parts from another where two have it. The error is ctx's: what else goes wrong is left to
// the comparison that has to follow, which moves what is missing by pages.
func (s *session) fill(ctx context.Context, l *merkle.Leaf) error {
	from := sources(l)
	most := &l.Tallies[from[0]]
	lanes := uint64(len(from)) // each gets as many parts
	parts := cut(l.Tokens, int(min(most.Bytes/(fillPartBytes*lanes)+1, fillPartsMax)*lanes))
	errs := make([]error, len(from))
	var wg sync.WaitGroup
	for lane, source := range from {
		wg.Go(func() {
			for i := lane; i < len(parts) && errs[lane] == nil; i += len(from) {
				errs[lane] = s.fillPart(ctx, l, parts[i], source)
			}
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil && ctx.Err() == nil {
		s.o.Logger.Warn("an interval is repaired row by row: it could not be streamed", "keyspace", s.table.Keyspace, "table", s.table.Table, "err", err)
	}
	return ctx.Err()
}

// fillPart has every replica that lacks most of the leaf fetch a part of it, one after the other.
func (s *session) fillPart(ctx context.Context, l *merkle.Leaf, tokens ring.Interval, source int) error {
	for i, r := range s.replicas {
		if l.Tallies[i].Items >= l.Tallies[source].Items/2 || s.spec.pull && i > 0 {
			continue
		}
		if s.spec.pause != nil {
			s.spec.pause(ctx)
		}
		a, err := r.fill(ctx, &fillRequest{s.gen, tokens, s.replicas[source].host()})
		if err != nil {
			return err
		}
		s.reports[i].Rows.Add(a.records)
		s.reports[i].Bytes.Add(a.bytes)
	}
	return nil
}

// cut returns n parts of an interval, ascending, of about the same number of tokens; fewer where it has fewer tokens.
func cut(iv ring.Interval, n int) (parts []ring.Interval) {
	step := (uint64(iv.Last)-uint64(iv.First))/uint64(n) + 1 // 0: all tokens in one part
	if n == 1 || step == 0 {
		return []ring.Interval{iv}
	}
	for first := iv.First; ; {
		last := ring.Token(uint64(first) + step - 1)
		if last < first || last >= iv.Last {
			return append(parts, ring.Interval{First: first, Last: iv.Last})
		}
		parts = append(parts, ring.Interval{First: first, Last: last})
		first = last + 1
	}
}

// fill fetches tokens from another replica into this node. One that loses the range meanwhile keeps what has come until it cleans up, at its next
// start or movement, and shows it to nobody.
func (l local) fill(ctx context.Context, q *fillRequest) (a fillAnswer, err error) {
	if _, err := l.table(q.generation, q.tokens); err != nil {
		return a, err
	}
	if l.o.Stream == nil {
		return a, errUnknownVerb
	}
	a.records, a.bytes, err = l.o.Stream(ctx, q.generation, q.tokens, q.from)
	return a, err
}

// fill waits longer than for other answers: the source may be throttled.
func (p *peer) fill(ctx context.Context, q *fillRequest) (a fillAnswer, err error) {
	patient := *p.o
	patient.CallTimeout *= fillTimeouts
	long := peer{&patient, p.id, p.r}
	err = long.call(ctx, verbFill, q.append(nil), func(out []byte) (err error) { a, err = decodeFillAnswer(out); return err })
	p.r.Traffic.Add(a.bytes)
	return a, err
}
