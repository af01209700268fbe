package repair

import (
	"context"
	"errors"
	"fmt"

	"github.com/helenusdb/helenus/ring"
	"github.com/helenusdb/helenus/schema"
)

// This file is what a node needs that fills a range (docs/design/0009-movement.md): it is compared with others, and only it is changed.

// begin counts something that is led besides a repair; done ends it. exclusive: not while an operator's repair goes on. Errors: ErrStopped, ErrBusy.
func (s *Service) begin(parent context.Context, exclusive bool) (ctx context.Context, done func(), err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.ended || !s.started:
		return nil, nil, ErrStopped
	case exclusive && s.leading:
		return nil, nil, ErrBusy
	}
	s.running.Add(1)
	ctx, cancel := context.WithTimeout(parent, s.o.RangeTimeout)
	stop := context.AfterFunc(s.life, cancel)
	return ctx, func() { stop(); cancel(); s.running.Done() }, nil
}

// Settle asks replicas to be ready to be compared with for tokens of a table: their metadata are as new as this node's, what they had let in under older
// ones is visible, and the conditional writes that they have accepted are finished. It returns the latest ballot, µs since the epoch, that one of
// them has promised. It is one of the others' errors that comes back, in their order.
func (s *Service) Settle(ctx context.Context, gen schema.Generation, tokens ring.Interval, others []ring.HostID) (promised int64, err error) {
	ctx, done, err := s.begin(ctx, false)
	if err != nil {
		return 0, err
	}
	defer done()
	for _, id := range others { // one after another: they may have to finish the same conditional writes
		a, err := (&peer{&s.o, id, &PeerReport{}}).settle(ctx, &finishRequest{gen, tokens})
		if err != nil {
			return 0, err
		}
		promised = max(promised, a.promised)
	}
	return promised, nil
}

// Pull makes this node have what the others have of tokens of a table, deletions included, and changes nothing there. Several may be under way,
// beside a repair. moved, which may be nil, is told how many bytes of rows and deletions this node was given. A range that did not come to its end can be pulled again.
func (s *Service) Pull(ctx context.Context, gen schema.Generation, tokens ring.Interval, others []ring.HostID, moved func(bytes int64)) error {
	if len(others) == 0 {
		return nil
	}
	ctx, done, err := s.begin(ctx, false)
	if err != nil {
		return err
	}
	defer done()
	s.metrics.Sessions.Add(1)
	report := &TableReport{}
	v := &session{o: &s.o, spec: &Spec{pull: true}, gen: gen, tokens: tokens, table: report, metrics: &s.metrics}
	mine := report.peer(s.o.Self)
	v.replicas, v.reports = append(v.replicas, s.local), append(v.reports, mine)
	for _, id := range others {
		p := report.peer(id)
		v.replicas, v.reports = append(v.replicas, &peer{&s.o, id, p}), append(v.reports, p)
	}
	_, err = v.run(ctx)
	s.metrics.Rows.Add(mine.Rows.Load() + mine.Deletions.Load())
	s.metrics.Bytes.Add(mine.Bytes.Load())
	if moved != nil {
		moved(mine.Bytes.Load())
	}
	if err != nil {
		s.metrics.SessionsFailed.Add(1)
		if s.life.Err() != nil {
			err = errors.Join(ErrStopped, err)
		}
		return fmt.Errorf("repair: pull of tokens %d to %d: %w", tokens.First, tokens.Last, err)
	}
	return nil
}
