package batchlog

import (
	"bytes"
	"context"
	"encoding/binary"
	"log/slog"
	"math"
	"sync/atomic"
	"time"
)

const (
	pageBytesMax   = 256 << 10 // of entries in memory at a time, unless one alone is larger
	pageEntriesMax = 128
	nothing        = int64(math.MaxInt64) // no entry is as new
)

// Outcome is what became of replaying an entry.
type Outcome uint8

// The outcomes.
const (
	Again    Outcome = iota // not all replicas have it, and not all that miss it a hint: it stays
	Replayed                // every replica has it, or a durable hint is kept for it
	Useless                 // nobody wants it any more
)

// Batch is the part of the store's batch that the log needs.
type Batch interface {
	PutBatchlog(key, value []byte) error
	DeleteBatchlog(key []byte) error
	// Commit calls done once, when the batch is durable or was refused.
	Commit(done func(error))
	Discard()
}

// Options configure a Log.
type Options struct {
	Age      time.Duration // entries that have been here for longer are replayed
	Interval time.Duration // between two looks
	Rate     func() int64  // bytes of entries replayed per second; 0: unlimited
	Scan     func(start, end []byte, fn func(key, value []byte) bool) error
	NewBatch func() Batch
	// Replay makes the mutations of entries again and returns what became of each, nil when ctx has ended.
	Replay func(ctx context.Context, page []Entry) []Outcome
	Now    func() time.Time // the age of entries is data
	Logger *slog.Logger
}

// Metrics count since the start, but for the gauges.
type Metrics struct {
	Logged   atomic.Int64 // batches that this node, as their coordinator, had stored
	Stored   atomic.Int64 // entries stored here
	Replayed atomic.Int64
	Dropped  atomic.Int64 // given up: too old, their tables gone, or damaged
	Given    atomic.Int64 // handed over to other nodes, since this one leaves the cluster
	Pending  atomic.Int64 // gauge: entries that the last look left here
	Stuck    atomic.Int64 // gauge: those of them that it could not replay
}

// Log is the part of the batchlog that this node keeps. It is safe for concurrent use.
type Log struct {
	o       Options
	metrics Metrics
	since   atomic.Int64 // µs: no entry that is here and that no look has accounted for is named by an earlier time
}

// New returns a log that has read nothing yet.
func New(o Options) *Log { return &Log{o: o} } // since is 0: whatever an earlier run of the process has left

// Metrics returns the counters.
func (l *Log) Metrics() *Metrics { return &l.metrics }

// Stored says that an entry is in the store now, visible to a scan.
func (l *Log) Stored(id ID) {
	l.metrics.Stored.Add(1)
	l.lower(id.micros())
}

func (l *Log) lower(at int64) {
	for {
		old := l.since.Load()
		if old <= at || l.since.CompareAndSwap(old, at) {
			return
		}
	}
}

// Run looks for entries that were left behind, and replays them, until ctx ends.
func (l *Log) Run(ctx context.Context) {
	t := time.NewTicker(l.o.Interval)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			l.look(ctx)
		}
	}
}

// look is one turn over all entries. It begins at the oldest that may be there: those before it were removed, and their
// traces in the store are not walked over again and again.
func (l *Log) look(ctx context.Context) {
	at := l.since.Swap(nothing)
	if at == nothing {
		return
	}
	turn := turn{l: l, start: binary.BigEndian.AppendUint64(nil, uint64(at)), began: time.Now()}
	for turn.more(ctx) {
	}
	if turn.failed {
		l.lower(at)
		return
	}
	l.metrics.Pending.Store(turn.left)
	if stuck := l.metrics.Stuck.Swap(turn.stuck); turn.stuck > 0 && stuck == 0 {
		l.o.Logger.Warn("batches of the batchlog cannot be replayed yet", "batches", turn.stuck)
	}
	if turn.replayed > 0 {
		l.o.Logger.Info("batches replayed", "batches", turn.replayed, "took", time.Since(turn.began).String(), "left", turn.left)
	}
}

// turn is the state of one look.
type turn struct {
	l        *Log
	start    []byte // where the next page begins
	began    time.Time
	bytes    int64 // replayed since began, for the pace
	left     int64
	stuck    int64
	replayed int64
	failed   bool // it was not completed
}

// keep accounts for an entry that stays.
func (t *turn) keep(id ID) {
	t.left++
	t.l.lower(id.micros())
}

// more replays the next page and reports whether there may be another one.
func (t *turn) more(ctx context.Context) bool {
	page, damaged, last, err := t.page()
	if err != nil {
		t.l.o.Logger.Error("the batchlog cannot be read", "err", err)
		t.failed = true
		return false
	}
	var outcomes []Outcome
	if len(page) > 0 {
		outcomes = t.l.o.Replay(ctx, page)
	}
	if ctx.Err() != nil || len(outcomes) != len(page) {
		t.failed = true
		return false
	}
	t.settle(ctx, page, outcomes, damaged)
	if t.failed || !t.pace(ctx) {
		t.failed = true
		return false
	}
	return !last
}

// page reads the next entries that are due, and those that can never be; the others are accounted for.
func (t *turn) page() (page []Entry, damaged []ID, last bool, err error) {
	now, size := t.l.o.Now(), 0
	last = true
	err = t.l.o.Scan(t.start, nil, func(key, value []byte) bool {
		if size >= pageBytesMax || len(page)+len(damaged) >= pageEntriesMax {
			t.start, last = bytes.Clone(key), false
			return false
		}
		if len(key) != idLen { // not ours
			return true
		}
		id := ID(key)
		received, mutations, err := decodeValue(value)
		switch {
		case err == nil && t.l.due(received, now):
			page = append(page, Entry{id, bytes.Clone(mutations)})
			size += len(value)
		case err == nil:
			t.keep(id)
		case err == errNewer: //nolint:errorlint // its own, unwrapped
			t.stuck++
			t.keep(id)
		default:
			damaged = append(damaged, id)
		}
		return true
	})
	return page, damaged, last, err
}

// due tells whether an entry has been here long enough for its coordinator to be through with it. One from the future is:
// the clock was set back, and to replay early does no harm.
func (l *Log) due(received, now time.Time) bool {
	age := now.Sub(received)
	return age >= l.o.Age || age < 0
}

// settle removes what is done with, and accounts for the rest.
func (t *turn) settle(ctx context.Context, page []Entry, outcomes []Outcome, damaged []ID) {
	var remove []ID
	dropped, replayed := int64(len(damaged)), int64(0)
	for i, o := range outcomes {
		t.bytes += int64(len(page[i].Mutations))
		switch o {
		case Replayed:
			replayed++
		case Useless:
			dropped++
		default:
			t.stuck++
			t.keep(page[i].ID)
			continue
		}
		remove = append(remove, page[i].ID)
	}
	if len(damaged) > 0 {
		t.l.o.Logger.Error("damaged entries of the batchlog are given up", "entries", len(damaged))
		remove = append(remove, damaged...)
	}
	if len(remove) == 0 {
		return
	}
	if err := t.l.remove(ctx, remove); err != nil {
		if ctx.Err() == nil {
			t.l.o.Logger.Error("replayed batches cannot be removed; they are replayed again", "batches", len(remove), "err", err)
		}
		t.failed = true
		return
	}
	t.replayed += replayed
	t.l.metrics.Replayed.Add(replayed)
	t.l.metrics.Dropped.Add(dropped)
}

// HandOver calls give for every entry that its coordinator is through with, and removes those for which it returns nil: others keep them. Those that are younger stay, for
// they are removed by their coordinator or become older. The error is that of the first that could not be given; the others are tried all the same.
func (l *Log) HandOver(ctx context.Context, give func(context.Context, Entry) error) (first error) {
	t := turn{l: &Log{o: l.o}} // what stays is accounted for by the looks
	for last := false; !last; {
		var page []Entry
		var err error
		if page, _, last, err = t.page(); err != nil {
			return err
		}
		var given []ID
		for i := range page {
			if err := give(ctx, page[i]); err == nil {
				given = append(given, page[i].ID)
			} else if first == nil {
				first = err
			}
		}
		if len(given) > 0 {
			if err := l.remove(ctx, given); err != nil {
				return err
			}
			l.metrics.Given.Add(int64(len(given)))
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return first
}

// remove deletes entries and waits until that is durable.
func (l *Log) remove(ctx context.Context, ids []ID) error {
	b := l.o.NewBatch()
	for i := range ids {
		if err := b.DeleteBatchlog(ids[i][:]); err != nil {
			b.Discard()
			return err
		}
	}
	done := make(chan error, 1)
	b.Commit(func(err error) { done <- err })
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// pace waits until the rate allows more; false when ctx has ended.
func (t *turn) pace(ctx context.Context) bool {
	rate := t.l.o.Rate()
	if rate <= 0 {
		return ctx.Err() == nil
	}
	ahead := time.Duration(float64(t.bytes)/float64(rate)*float64(time.Second)) - time.Since(t.began)
	if ahead <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(ahead)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
