package stream

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"github.com/helenusdb/helenus/ring"
	"github.com/helenusdb/helenus/rpc"
)

// try is one session at the source: it ends with the range, or with the first thing that goes wrong.
type try struct {
	t       *transfer
	rg      ring.Range
	session uint64
	answers chan answer   // as many as may be asked for: a callback never waits
	free    chan []byte   // buffers of answers that are through
	number  uint64        // of the next piece
	begun   []byte        // chunk of which more is to come
	within  time.Duration // deadline of each request
}

// answer is what came for one next.
type answer struct {
	body   []byte
	status rpc.Status
	err    error
}

// Done implements rpc.Callback. It is called once for each next.
func (y *try) Done(r *rpc.Response) {
	a := answer{status: r.Status, err: r.Err}
	if r.Err == nil {
		select {
		case a.body = <-y.free:
		default:
		}
		a.body = append(a.body[:0], r.Body...)
	}
	y.answers <- a
}

// try fetches the rest of a part in one session.
func (t *transfer) try(ctx context.Context, rg ring.Range) error {
	o := &t.f.o
	y := &try{t: t, rg: rg, answers: make(chan answer, o.Window), free: make(chan []byte, o.Window), within: o.AnswerWithin}
	if err := y.open(ctx); err != nil {
		return err
	}
	for range o.Window {
		y.next()
	}
	last, err := false, error(nil)
	for !last && err == nil {
		select {
		case a := <-y.answers:
			last, err = y.take(ctx, a)
		case <-ctx.Done():
			err = ctx.Err()
		}
	}
	if err != nil {
		o.Transport.Send(t.r.From, rpc.Stream, VerbClose, time.Now().Add(y.within), appendSession(nil, y.session), nil)
	}
	return err
}

func (y *try) open(ctx context.Context) error {
	t := y.t
	ctx, cancel := context.WithTimeout(ctx, y.within)
	defer cancel()
	q := openRequest{stream: t.r.Stream, table: t.r.Table, rg: y.rg, registers: t.r.Registers, after: t.done.after, pieceSize: t.f.o.PieceBytes}
	body, status, err := t.f.o.Transport.Call(ctx, t.r.From, rpc.Stream, VerbOpen, q.append(nil))
	if err != nil {
		return err
	}
	if status != rpc.StatusOK {
		return &Refusal{From: t.r.From, Status: status, Text: string(body)}
	}
	o, err := decodeOpened(body)
	if err != nil {
		return err
	}
	y.session = o.session
	t.entry.update(func(p *Progress, _ *Peer) { p.Expected = max(p.Expected, int64(o.bytes)) })
	return nil
}

// next asks for one more piece.
func (y *try) next() {
	y.t.f.o.Transport.Send(y.t.r.From, rpc.Stream, VerbNext, time.Now().Add(y.within), appendSession(nil, y.session), y)
}

// take adds what came, and tells whether it was the last.
func (y *try) take(ctx context.Context, a answer) (last bool, err error) {
	if a.err != nil {
		return false, a.err
	}
	if a.status != rpc.StatusOK {
		return false, &Refusal{From: y.t.r.From, Status: a.status, Text: string(a.body)}
	}
	p, err := decodePiece(a.body)
	if err != nil {
		return false, err
	}
	if p.flags&pieceLater != 0 {
		y.t.moved = time.Now()
	} else {
		if p.number != y.number {
			return false, fmt.Errorf("%w: %d came, expected %d", errGap, p.number, y.number)
		}
		y.number++
		if last, err = y.add(ctx, &p); err != nil || last {
			return last, err
		}
	}
	y.free <- a.body
	y.next()
	return false, nil
}

// add adds a piece's records to the ingest.
func (y *try) add(ctx context.Context, p *piece) (last bool, err error) {
	records := p.records
	if y.begun != nil || p.flags&pieceMore != 0 {
		if y.begun = append(y.begun, p.records...); len(y.begun) > y.t.f.o.ValueBytesMax {
			return false, &sinkError{fmt.Errorf("stream: a record of more than %d bytes", y.t.f.o.ValueBytesMax)}
		}
		if p.flags&pieceMore != 0 {
			y.t.received(len(p.records), 0, nil)
			return false, nil
		}
		records, y.begun = y.begun, nil
	}
	n, err := y.t.chunk(y.rg, records)
	if err != nil {
		return false, err
	}
	y.t.received(len(p.records), n, p.end)
	if last = p.flags&pieceLast != 0; last {
		y.t.at.after, y.t.complete = nil, true
	}
	if last || y.t.builder != nil && y.t.builder.Size() >= y.t.f.o.GroupBytes {
		if err := y.t.ingest(ctx); err != nil {
			return false, err
		}
	}
	return last, nil
}

// chunk adds whole records to the ingest, and returns how many.
func (t *transfer) chunk(rg ring.Range, records []byte) (n int64, err error) {
	if len(records) == 0 {
		return 0, nil
	}
	if t.builder == nil {
		if t.builder, err = t.f.o.Sink.Build(t.r.Table, rg); err != nil {
			return 0, &sinkError{err}
		}
	}
	err = eachRecord(records, func(key, value []byte) error {
		n++
		if err := t.builder.Add(key, value); err != nil {
			return &sinkError{err}
		}
		return nil
	})
	return n, err
}

// received counts what was added; end is where the next session would begin, nil within a record.
func (t *transfer) received(size int, records int64, end []byte) {
	t.at.bytes, t.at.records = t.at.bytes+int64(size), t.at.records+records
	if end == nil || !bytes.Equal(end, t.at.after) { // it counts as getting on
		t.moved = time.Now()
	}
	if len(end) > 0 {
		t.at.after = bytes.Clone(end)
	}
	p := t.entry.update(func(p *Progress, total *Peer) {
		p.Bytes, p.Records = t.before.bytes+t.at.bytes, t.before.records+t.at.records
		total.BytesIn += int64(size)
	})
	if t.progress != nil {
		t.progress(p)
	}
}
