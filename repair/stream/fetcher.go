package stream

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/helenusdb/helenus/ring"
	"github.com/helenusdb/helenus/rpc"
	"github.com/helenusdb/helenus/schema"
)

// Transport is rpc.Transport as a fetch sees it.
type Transport interface {
	Send(to ring.HostID, class rpc.Class, verb rpc.Verb, deadline time.Time, body []byte, cb rpc.Callback)
	Call(ctx context.Context, to ring.HostID, class rpc.Class, verb rpc.Verb, body []byte) ([]byte, rpc.Status, error)
}

// Sink is the store that ranges are written to.
type Sink interface {
	// Build begins an ingest into a range, which does not wrap.
	Build(table schema.Generation, rg ring.Range) (Builder, error)
	// HoldPurge keeps tombstones of a range, which may wrap, until release.
	HoldPurge(table schema.Generation, rg ring.Range) (release func())
	// Mark returns what SetMark stored under a key, nil if nothing.
	Mark(key []byte) ([]byte, error)
	// SetMark stores a value durably, nil removes it.
	SetMark(ctx context.Context, key, value []byte) error
	// DropMarks removes the marks whose keys begin with prefix.
	DropMarks(ctx context.Context, prefix []byte) error
}

// Builder is one ingest.
type Builder interface {
	// Add adds a record, in ascending order of keys; the bytes are copied.
	Add(key, value []byte) error
	// Size is how many bytes were added.
	Size() int64
	// Commit makes all of it visible at once, and durable. Commit and Discard end the ingest.
	Commit(ctx context.Context) error
	Discard()
}

// FetcherOptions of NewFetcher.
type FetcherOptions struct {
	Transport Transport // needed
	Sink      Sink      // needed
	Ledger    *Ledger   // needed
	// FetchesMax bounds the fetches that run at a time; further ones wait. Default 4.
	FetchesMax int
	// PieceBytes is the size of pieces to ask for, 4 KiB to 4 MiB; default 1 MiB. Window is how many are asked for ahead, 1 to 16;
	// default 4. A fetch holds PieceBytes * Window of memory, and one record.
	PieceBytes, Window int
	GroupBytes         int64         // of records that are ingested together; default 16 MiB
	AnswerWithin       time.Duration // deadline of each request; default 20 s
	Patience           time.Duration // a fetch to which nothing comes for so long ends; default 1 min
	RetryMin, RetryMax time.Duration // pause before the first try after one that failed, doubled up to RetryMax; 100 ms, 5 s
	// ValueBytesMax bounds one record, which has to fit into memory on either side; default 256 MiB.
	ValueBytesMax int
	Logger        *slog.Logger // nil: discard
}

func (o FetcherOptions) withDefaults() FetcherOptions {
	number := func(p *int, def int) {
		if *p == 0 {
			*p = def
		}
	}
	duration := func(p *time.Duration, def time.Duration) {
		if *p == 0 {
			*p = def
		}
	}
	number(&o.FetchesMax, 4)
	number(&o.PieceBytes, 1<<20)
	number(&o.Window, 4)
	number(&o.ValueBytesMax, 256<<20)
	if o.GroupBytes == 0 {
		o.GroupBytes = 16 << 20
	}
	duration(&o.AnswerWithin, 20*time.Second)
	duration(&o.Patience, time.Minute)
	duration(&o.RetryMin, 100*time.Millisecond)
	duration(&o.RetryMax, 5*time.Second)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	o.PieceBytes = min(max(o.PieceBytes, pieceBytesMin), pieceBytesMax)
	o.Window = min(max(o.Window, 1), asksMax)
	return o
}

// Request says what to fetch.
type Request struct {
	// Stream names the marks of the fetch: with the same ID, table and range a later Fetch, also of a process that started since, and
	// from another source, goes on where this one was cut off. The zero ID keeps no marks.
	Stream    ID
	From      ring.HostID
	Table     schema.Generation
	Range     ring.Range // may wrap
	Registers bool       // the partitions' Paxos registers too
	// Keep leaves the marks when all has come, so that a later Fetch finds that nothing is left to do. They go with Forget, or otherwise.
	Keep bool
}

// Fetcher is the receiving half. It has no goroutines: a fetch runs on its caller's.
type Fetcher struct {
	o     FetcherOptions
	slots chan struct{}
}

// NewFetcher returns one.
func NewFetcher(o FetcherOptions) *Fetcher {
	o = o.withDefaults()
	return &Fetcher{o: o, slots: make(chan struct{}, o.FetchesMax)}
}

// Fetch copies a range from a source into this node's store; what it brought is durable when it returns nil. While it runs no purge
// touches the range. It goes on by itself after connections that break and sources that restart, as long as something comes within
// Patience; ErrPatience else. Other errors: ctx's, ErrUnknownTable and ErrNotOwner of the source, those of this node's own store. All of them
// keep the mark. progress, which may be nil, is called on the caller's goroutine whenever something was added.
func (f *Fetcher) Fetch(ctx context.Context, r Request, progress func(Progress)) error {
	select {
	case f.slots <- struct{}{}:
	case <-ctx.Done():
		return fmt.Errorf("stream: fetch: %w", ctx.Err())
	}
	defer func() { <-f.slots }()
	defer f.o.Sink.HoldPurge(r.Table, r.Range)()
	e := f.o.Ledger.begin(Progress{Stream: r.Stream, Peer: r.From, Table: r.Table, Range: r.Range})
	defer e.end()
	t := &transfer{f: f, r: r, entry: e, progress: progress}
	parts := r.Range.Unwrap()
	var err error
	for i := 0; i < len(parts) && err == nil; i++ {
		err = t.part(ctx, parts[i])
	}
	if err == nil && !r.Keep {
		err = t.finish(ctx, parts)
	}
	if err != nil {
		e.update(func(_ *Progress, total *Peer) { total.FailedIn++ })
		return fmt.Errorf("stream: fetch %v of generation %d from %v: %w", r.Range, r.Table, r.From, err)
	}
	e.update(func(_ *Progress, total *Peer) { total.RangesIn++ })
	return nil
}

// Forget removes the marks of a stream that will not go on.
func (f *Fetcher) Forget(ctx context.Context, id ID) error {
	if err := f.o.Sink.DropMarks(ctx, id[:]); err != nil {
		return fmt.Errorf("stream: forget: %w", err)
	}
	return nil
}

// transfer is one Fetch.
type transfer struct {
	f        *Fetcher
	r        Request
	entry    *entry
	progress func(Progress)

	key    []byte // of the part's mark
	done   mark   // ingested
	at     mark   // added to the builder
	before mark   // sums of the parts before
	// complete: the last piece of the part was added.
	complete bool
	moved    time.Time // when a piece came last
	builder  Builder   // nil: nothing added since the last ingest
}

// part fetches one range that does not wrap, in as many tries as it takes.
func (t *transfer) part(ctx context.Context, rg ring.Range) error {
	t.before.bytes, t.before.records = t.before.bytes+t.done.bytes, t.before.records+t.done.records
	t.done, t.complete, t.key = mark{}, false, markKey(t.r.Stream, t.r.Table, rg)
	if complete, err := t.load(); complete || err != nil {
		return err
	}
	o := &t.f.o
	t.moved = time.Now()
	for pause := o.RetryMin; ; pause = min(2*pause, o.RetryMax) {
		t.at = t.done
		began := t.moved
		err := t.try(ctx, rg)
		if err == nil {
			return nil
		}
		if err = t.giveUp(ctx, err); err != nil {
			return err
		}
		if t.moved.After(began) {
			pause = o.RetryMin
		}
		if err := sleep(ctx, pause); err != nil {
			return err
		}
	}
}

// giveUp returns what ends the fetch after a try that ended with err, nil if it goes on. What the try has brought is ingested.
func (t *transfer) giveUp(ctx context.Context, err error) error {
	var (
		own     *sinkError
		refusal *Refusal
	)
	kept := error(nil)
	if errors.As(err, &own) || ctx.Err() != nil {
		t.discard()
	} else {
		kept = t.ingest(ctx)
	}
	t.f.o.Logger.Info("stream: cut off", "from", t.r.From.String(), "table", uint32(t.r.Table), "range", t.r.Range.String(), "err", err)
	switch {
	case ctx.Err() != nil:
		return errors.Join(ctx.Err(), err)
	case own != nil || errors.As(err, &refusal) && refusal.final():
		return errors.Join(err, kept)
	case kept != nil:
		return kept
	case time.Since(t.moved) >= t.f.o.Patience:
		return fmt.Errorf("%w for %v: %w", ErrPatience, t.f.o.Patience, err)
	}
	t.entry.update(func(p *Progress, total *Peer) {
		p.Resumed, p.Error = p.Resumed+1, err.Error()
		total.Resumes++
	})
	return nil
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// load reads the mark of the part, and tells whether that is complete. A mark that does not decode is as none: all is fetched again.
func (t *transfer) load() (complete bool, err error) {
	if t.r.Stream == (ID{}) {
		return false, nil
	}
	raw, err := t.f.o.Sink.Mark(t.key)
	if err != nil {
		return false, &sinkError{err}
	}
	m, ok := decodeMark(raw)
	if ok {
		t.done = m
	}
	return ok && len(m.after) == 0, nil
}

// finish removes the marks of the parts, all of which are complete.
func (t *transfer) finish(ctx context.Context, parts []ring.Range) error {
	if t.r.Stream == (ID{}) {
		return nil
	}
	for _, rg := range parts {
		if err := t.f.o.Sink.SetMark(ctx, markKey(t.r.Stream, t.r.Table, rg), nil); err != nil {
			return &sinkError{err}
		}
	}
	return nil
}

// ingest makes what was added durable, then the mark. After the last piece of a part its mark says so.
func (t *transfer) ingest(ctx context.Context) error {
	if t.builder != nil {
		b := t.builder
		t.builder = nil
		if err := b.Commit(ctx); err != nil {
			return &sinkError{err}
		}
	}
	complete := t.complete && t.r.Keep // also where nothing came before it
	if t.r.Stream != (ID{}) && (complete || !bytes.Equal(t.at.after, t.done.after)) {
		if err := t.f.o.Sink.SetMark(ctx, t.key, t.at.append(nil)); err != nil {
			return &sinkError{err}
		}
	}
	t.done = t.at
	return nil
}

func (t *transfer) discard() {
	if t.builder != nil {
		t.builder.Discard()
		t.builder = nil
	}
	t.at = t.done
}
