package batchlog

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/helenusdb/helenus/ring"
)

// shelf is a store in memory, and the replicas behind it. The test holds mu but while it sleeps.
type shelf struct {
	mu      sync.Mutex
	entries map[string][]byte
	scanned int // keys that scans have walked over
	failing bool
	log     *Log
	skew    time.Duration // of the clock of data

	outcome  func(e Entry) Outcome
	replayed []string // mutations, in order
	largest  int      // bytes of a page
	pages    int
}

type shelfBatch struct {
	s   *shelf
	put map[string][]byte
}

func (b *shelfBatch) PutBatchlog(key, value []byte) error {
	b.put[string(key)] = bytes.Clone(value)
	return nil
}
func (b *shelfBatch) DeleteBatchlog(key []byte) error { b.put[string(key)] = nil; return nil }
func (b *shelfBatch) Discard()                        {}
func (b *shelfBatch) Commit(done func(error)) {
	b.s.mu.Lock()
	defer b.s.mu.Unlock()
	if b.s.failing {
		done(errors.New("disk"))
		return
	}
	for k, v := range b.put {
		if v == nil {
			delete(b.s.entries, k)
		} else {
			b.s.entries[k] = v
		}
	}
	done(nil)
}

func (s *shelf) scan(start, _ []byte, fn func(key, value []byte) bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, k := range slices.Sorted(maps.Keys(s.entries)) {
		if k < string(start) {
			continue
		}
		s.scanned++
		if !fn([]byte(k), s.entries[k]) {
			break
		}
	}
	return nil
}

func (s *shelf) sleep(d time.Duration) {
	s.mu.Unlock()
	time.Sleep(d)
	s.mu.Lock()
}

// clock is now for the log.
func (s *shelf) clock() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now()
}

func (s *shelf) now() time.Time { return time.Now().Add(s.skew) }

func (s *shelf) replay(_ context.Context, page []Entry) (out []Outcome) {
	s.mu.Lock()
	defer s.mu.Unlock()
	size := 0
	s.pages++
	for _, e := range page {
		size += len(e.Mutations)
		o := Replayed
		if s.outcome != nil {
			o = s.outcome(e)
		}
		s.replayed = append(s.replayed, string(e.Mutations[:min(len(e.Mutations), 20)]))
		out = append(out, o)
	}
	s.largest = max(s.largest, size)
	return out
}

// keep stores an entry that comes now.
func (s *shelf) keep(number uint32, mutations string) ID {
	id := NewID(s.now(), ring.HostID{1}, number)
	s.entries[string(id[:])] = AppendValue(nil, s.now(), []byte(mutations))
	s.log.Stored(id)
	return id
}

// onShelf runs a test in virtual time with a log that looks every second for what is older than four.
func onShelf(t *testing.T, rate int64, before map[string][]byte, f func(t *testing.T, s *shelf)) {
	synctest.Test(t, func(t *testing.T) {
		s := &shelf{entries: map[string][]byte{}}
		maps.Copy(s.entries, before)
		s.log = New(Options{Age: 4 * time.Second, Interval: time.Second, Rate: func() int64 { return rate }, Scan: s.scan,
			NewBatch: func() Batch { return &shelfBatch{s, map[string][]byte{}} }, Replay: s.replay, Now: s.clock, Logger: slog.New(slog.DiscardHandler)})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { defer close(ended); s.log.Run(ctx) }()
		s.mu.Lock()
		s.sleep(time.Millisecond) // beside the ticks
		f(t, s)
		s.mu.Unlock()
		cancel()
		<-ended
	})
}

func (s *shelf) want(t *testing.T, what string, replayed int, left int) {
	t.Helper()
	if len(s.replayed) != replayed || len(s.entries) != left {
		t.Errorf("%s: replayed %q, %d entries left", what, s.replayed, len(s.entries))
	}
}

func TestReplayedWhenOldOnly(t *testing.T) {
	onShelf(t, 0, nil, func(t *testing.T, s *shelf) {
		s.keep(1, "a")
		s.sleep(3 * time.Second)
		s.keep(2, "b")
		s.want(t, "after 3 s", 0, 2)
		s.sleep(2 * time.Second)
		s.want(t, "after 5 s", 1, 1)
		s.sleep(3 * time.Second)
		s.want(t, "after 8 s", 2, 0)
		m := s.log.Metrics()
		if m.Replayed.Load() != 2 || m.Stored.Load() != 2 || m.Pending.Load() != 0 || m.Stuck.Load() != 0 || m.Dropped.Load() != 0 {
			t.Errorf("replayed %d, stored %d, pending %d", m.Replayed.Load(), m.Stored.Load(), m.Pending.Load())
		}
	})
}

// TestLeftByAnEarlierRun: entries of before the start are found, also such that an even earlier clock has named.
func TestLeftByAnEarlierRun(t *testing.T) {
	old := NewID(time.UnixMicro(5), ring.HostID{1}, 1)
	onShelf(t, 0, map[string][]byte{string(old[:]): AppendValue(nil, time.UnixMicro(6), []byte("old"))}, func(t *testing.T, s *shelf) {
		s.sleep(2 * time.Second)
		s.want(t, "after a start", 1, 0)
		late := NewID(time.UnixMicro(7), ring.HostID{2}, 1) // its coordinator's clock is far behind
		s.entries[string(late[:])] = AppendValue(nil, s.now(), []byte("late"))
		s.log.Stored(late)
		s.sleep(3 * time.Second)
		s.want(t, "by our clock it is young", 1, 1)
		s.sleep(3 * time.Second)
		s.want(t, "it is old", 2, 0)
	})
}

// TestWhatCannotBeReplayedStays and is tried again; other entries are not held up by it.
func TestWhatCannotBeReplayedStays(t *testing.T) {
	onShelf(t, 0, nil, func(t *testing.T, s *shelf) {
		stuck := true
		s.outcome = func(e Entry) Outcome {
			switch {
			case string(e.Mutations) == "stuck" && stuck:
				return Again
			case string(e.Mutations) == "useless":
				return Useless
			}
			return Replayed
		}
		s.keep(1, "stuck")
		s.keep(2, "useless")
		s.keep(3, "good")
		s.sleep(6 * time.Second)
		m := s.log.Metrics()
		if len(s.entries) != 1 || m.Stuck.Load() != 1 || m.Pending.Load() != 1 || m.Dropped.Load() != 1 || m.Replayed.Load() != 1 {
			t.Errorf("%d entries, %d stuck, %d pending, %d dropped, %d replayed", len(s.entries), m.Stuck.Load(), m.Pending.Load(), m.Dropped.Load(), m.Replayed.Load())
		}
		stuck = false
		s.sleep(2 * time.Second)
		if len(s.entries) != 0 || m.Stuck.Load() != 0 || m.Pending.Load() != 0 || m.Replayed.Load() != 2 {
			t.Errorf("%d entries, %d stuck, %d replayed", len(s.entries), m.Stuck.Load(), m.Replayed.Load())
		}
	})
}

// TestDamagedAndNewerEntries: what can never be read is given up, what a newer version has written is left to it.
func TestDamagedAndNewerEntries(t *testing.T) {
	onShelf(t, 0, nil, func(t *testing.T, s *shelf) {
		id := s.keep(1, "x")
		s.entries[string(id[:])] = []byte{valueMark, 1, 2}
		newer := s.keep(2, "x")
		s.entries[string(newer[:])][0]++
		s.entries["not ours"] = []byte("x")
		s.sleep(6 * time.Second)
		m := s.log.Metrics()
		if len(s.entries) != 2 || s.entries[string(newer[:])] == nil || m.Dropped.Load() != 1 || m.Stuck.Load() != 1 || len(s.replayed) != 0 {
			t.Errorf("%d entries, %d dropped, %d stuck, replayed %q", len(s.entries), m.Dropped.Load(), m.Stuck.Load(), s.replayed)
		}
	})
}

// TestPagesAreBounded: memory holds a page at a time, however much was left behind, and every entry is replayed once.
func TestPagesAreBounded(t *testing.T) {
	onShelf(t, 0, nil, func(t *testing.T, s *shelf) {
		large := string(make([]byte, 60_000))
		for i := range uint32(100) {
			s.keep(i, large)
		}
		for i := range uint32(1000) {
			s.keep(1000+i, fmt.Sprint("small", i))
		}
		s.sleep(6 * time.Second)
		s.want(t, "all", 1100, 0)
		if s.largest > pageBytesMax+60_000 || s.pages < 20 {
			t.Errorf("a page of %d bytes, %d pages", s.largest, s.pages)
		}
	})
}

// TestPace: no more than the rate, over pages and over looks.
func TestPace(t *testing.T) {
	const rate = 100_000
	onShelf(t, rate, nil, func(t *testing.T, s *shelf) {
		for i := range uint32(40) {
			s.keep(i, string(make([]byte, 50_000))) // 2 MB: 20 s
		}
		began := time.Now()
		for len(s.entries) > 0 {
			s.sleep(100 * time.Millisecond)
			done := int64(len(s.replayed)) * 50_000
			if allowed := int64((time.Since(began)-4*time.Second).Seconds()*rate) + pageBytesMax + 50_000 + rate; done > max(0, allowed) {
				t.Fatalf("%d bytes after %s", done, time.Since(began))
			}
		}
		if took := time.Since(began); took > 30*time.Second {
			t.Errorf("it took %s", took)
		}
	})
}

// TestStopsInAPause: the end of ctx is not waited for.
func TestStopsInAPause(t *testing.T) {
	onShelf(t, 1, nil, func(t *testing.T, s *shelf) {
		for i := range uint32(40) {
			s.keep(i, string(make([]byte, 50_000)))
		}
		s.sleep(10 * time.Second) // a page, then a pause of days
		if n := len(s.replayed); n == 0 || n > 10 {
			t.Errorf("%d replayed", n)
		}
	}) // fails when Run does not end: the bubble would be deadlocked
}

// TestDiskErrors: an entry that could not be removed is replayed again.
func TestDiskErrors(t *testing.T) {
	onShelf(t, 0, nil, func(t *testing.T, s *shelf) {
		s.keep(1, "a")
		s.failing = true
		s.sleep(6 * time.Second)
		if len(s.replayed) < 2 || len(s.entries) != 1 || s.log.Metrics().Replayed.Load() != 0 {
			t.Errorf("replayed %d times, %d entries", len(s.replayed), len(s.entries))
		}
		s.failing = false
		s.sleep(2 * time.Second)
		if len(s.entries) != 0 || s.log.Metrics().Replayed.Load() != 1 {
			t.Errorf("%d entries", len(s.entries))
		}
	})
}

// TestClockSetBack: an entry from the future is replayed and not kept for ever.
func TestClockSetBack(t *testing.T) {
	onShelf(t, 0, nil, func(t *testing.T, s *shelf) {
		s.skew = time.Hour
		s.keep(1, "a")
		s.skew = 0
		s.sleep(2 * time.Second)
		s.want(t, "soon", 1, 0)
	})
}

// TestIdleLooksReadNothing, and a look begins at the oldest entry that is left.
func TestIdleLooksReadNothing(t *testing.T) {
	onShelf(t, 0, nil, func(t *testing.T, s *shelf) {
		s.sleep(2 * time.Second)
		var keys [][]byte
		for i := range 100 { // entries that nobody told of stand for deleted ones in the store
			keys = append(keys, binary.BigEndian.AppendUint64(nil, uint64(i)))
			s.entries[string(keys[i])] = nil
		}
		s.sleep(10 * time.Second)
		if s.scanned != 0 {
			t.Errorf("%d keys walked over", s.scanned)
		}
		s.keep(1, "a")
		s.sleep(3 * time.Second)
		if s.scanned > 4 {
			t.Errorf("%d keys walked over", s.scanned)
		}
	})
}
