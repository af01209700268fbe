package stream

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/helenusdb/helenus/internal/memnet"
	"github.com/helenusdb/helenus/ring"
	"github.com/helenusdb/helenus/rpc"
)

// TestFetch: all of a range comes and nothing else, for ranges of every kind; nothing of the stream is left anywhere.
func TestFetch(t *testing.T) {
	for _, rg := range []ring.Range{ring.FullRange(), {Start: 5, End: 5}, {Start: -1 << 62, End: 1 << 62}, {Start: 1 << 62, End: -1 << 62},
		{Start: 0, End: ring.MinToken}, {Start: ring.MinToken, End: 0}, {Start: 3, End: 4}} {
		t.Run(rg.String(), func(t *testing.T) {
			pair(t, nil, func(t *testing.T, _ *memnet.Network, to, from *host) {
				from.store.fill(2000, 50)
				var last Progress
				if err := to.fetcher(nil).Fetch(t.Context(), to.request(from, rg), func(p Progress) { last = p }); err != nil {
					t.Fatal(err)
				}
				to.same(t, from, rg)
				if want := int64(len(from.store.in(rg))); last.Records != want {
					t.Errorf("progress says %d records, there are %d", last.Records, want)
				}
				in := to.ledger.Total()
				if in.BytesIn != last.Bytes || in.RangesIn != 1 || in.Resumes != 0 || in.FailedIn != 0 {
					t.Errorf("the receiver counts %+v, progress %+v", in, last)
				}
				synctest.Wait()
				if out := from.ledger.Total(); out.BytesOut != last.Bytes || out.RangesOut != int64(len(rg.Unwrap())) {
					t.Errorf("the source counts %+v, progress %+v", out, last)
				}
				if n := from.server.Load().Sessions(); n != 0 {
					t.Errorf("%d sessions are left", n)
				}
			})
		})
	}
}

// TestFetch_LargeRecords: a record larger than a piece, and than a message may be, comes in several.
func TestFetch_LargeRecords(t *testing.T) {
	pair(t, nil, func(t *testing.T, _ *memnet.Network, to, from *host) {
		from.store.fill(10, 10)
		for i, size := range []int{pieceBytesMax - 40, pieceBytesMax, 3*pieceBytesMax + 17, 20 << 20} {
			from.store.rows[key(i)] = strings.Repeat("y", size)
		}
		f := to.fetcher(nil)
		if err := f.Fetch(t.Context(), to.request(from, ring.FullRange()), nil); err != nil {
			t.Fatal(err)
		}
		to.same(t, from, ring.FullRange())
		small := to.fetcher(func(o *FetcherOptions) { o.ValueBytesMax = 5 << 20 })
		if err := small.Fetch(t.Context(), to.request(from, ring.FullRange()), nil); err == nil || !strings.Contains(err.Error(), "more than 5242880 bytes") {
			t.Errorf("a record that is too large: %v", err)
		}
	})
}

// TestFetch_BrokenConnection: after each break it goes on behind what was ingested, and shows it.
func TestFetch_BrokenConnection(t *testing.T) {
	pair(t, nil, func(t *testing.T, w *memnet.Network, to, from *host) {
		from.store.fill(3000, 50)
		n, breaks := 0, 0
		err := to.fetcher(nil).Fetch(t.Context(), to.request(from, ring.FullRange()), func(Progress) {
			if n++; n%10 == 0 && breaks < 5 {
				breaks++
				w.Break(to.name, from.name)
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		to.same(t, from, ring.FullRange())
		if p := to.ledger.Total(); p.Resumes < 5 { // and tries while the transport is dialing
			t.Errorf("resumed %d times", p.Resumes)
		}
		// What was in flight or not yet in a table comes again, and no more.
		if again := to.store.added - 3000; again > 5*5*80 {
			t.Errorf("%d records came again", again)
		}
		if from.store.opened < 5 || from.store.opened > 6 {
			t.Errorf("%d snapshots were opened", from.store.opened)
		}
	})
}

// TestFetch_SourceRestarts: a source that stops in the middle closes its snapshots, and is used again when it is back.
func TestFetch_SourceRestarts(t *testing.T) {
	pair(t, nil, func(t *testing.T, w *memnet.Network, to, from *host) {
		from.store.fill(3000, 50)
		n := 0
		err := to.fetcher(nil).Fetch(t.Context(), to.request(from, ring.FullRange()), func(Progress) {
			if n++; n == 20 {
				from.endServer()
				from.store.calm(t, "source")
				w.Break(to.name, from.name)
				go func() {
					time.Sleep(10 * time.Second)
					from.startServer()
				}()
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		to.same(t, from, ring.FullRange())
	})
}

// TestFetch_ReceiverRestarts: a fetch that ended in the middle leaves its mark, also when the process ends; another one goes on, even
// from another source. What was written meanwhile, older or newer than what came, is not lost.
func TestFetch_ReceiverRestarts(t *testing.T) {
	pair(t, nil, func(t *testing.T, w *memnet.Network, to, from *host) {
		other := newHost(t, w, 3, nil)
		defer other.stop()
		from.store.fill(3000, 50)
		other.store.fill(3000, 50)
		ctx, cancel := context.WithCancel(t.Context())
		rg := ring.Range{Start: 1 << 61, End: -1 << 61} // in two parts
		var at Progress
		err := to.fetcher(nil).Fetch(ctx, to.request(from, rg), func(p Progress) {
			if at = p; p.Records > 1800 {
				cancel()
			}
		})
		if !errors.Is(err, context.Canceled) || len(to.store.marks) != 2 {
			t.Fatalf("%v, %d marks", err, len(to.store.marks))
		}
		to.store.calm(t, "receiver")
		to.store.rows[key(1)], to.store.rows[key(2)] = "~newer", "0"
		added := to.store.added
		r := to.request(other, rg)
		if err := to.fetcher(nil).Fetch(t.Context(), r, nil); err != nil {
			t.Fatal(err)
		}
		for i := range 3000 {
			want := from.store.get(i)
			if !rg.Contains(tokenOf(key(i))) {
				want = ""
			}
			if i == 1 && want != "" {
				want = "~newer"
			}
			if got := to.store.get(i); got != want && i != 2 && i != 1 {
				t.Fatalf("record %d: %q, expected %q", i, got, want)
			}
		}
		total := int64(len(from.store.in(rg)))
		if again := int64(to.store.added-added) + at.Records - total; again > 600 {
			t.Errorf("%d records of %d came again", again, total)
		}
		if len(to.store.marks) > 0 {
			t.Error("the mark is left")
		}
	})
}

// TestFetch_Forget: the marks of a stream can be dropped, and then it begins anew.
func TestFetch_Forget(t *testing.T) {
	pair(t, nil, func(t *testing.T, _ *memnet.Network, to, from *host) {
		from.store.fill(1000, 50)
		ctx, cancel := context.WithCancel(t.Context())
		f := to.fetcher(nil)
		err := f.Fetch(ctx, to.request(from, ring.FullRange()), func(p Progress) {
			if p.Records > 500 {
				cancel()
			}
		})
		if !errors.Is(err, context.Canceled) || len(to.store.marks) != 1 {
			t.Fatalf("%v, %d marks", err, len(to.store.marks))
		}
		if err := errors.Join(f.Forget(t.Context(), ID{7, 1}), f.Forget(t.Context(), ID{8})); err != nil || len(to.store.marks) != 1 {
			t.Fatalf("forgetting others: %v, %d marks", err, len(to.store.marks))
		}
		if err := f.Forget(t.Context(), ID{7}); err != nil || len(to.store.marks) != 0 {
			t.Fatalf("%v, %d marks", err, len(to.store.marks))
		}
	})
}

// TestFetch_Keep: the marks of what has come stay when that is asked for, also of a range in which nothing was, and nothing is fetched again.
func TestFetch_Keep(t *testing.T) {
	pair(t, nil, func(t *testing.T, _ *memnet.Network, to, from *host) {
		from.store.fill(100, 50)
		for i, rg := range []ring.Range{{Start: 1 << 61, End: -1 << 61}, {Start: 5, End: 6}} {
			q := to.request(from, rg)
			q.Keep = true
			for range 2 {
				if err := to.fetcher(nil).Fetch(t.Context(), q, nil); err != nil {
					t.Fatal(err)
				}
			}
			if want := 2 + i; len(to.store.marks) != want || from.store.opened != want {
				t.Errorf("%d marks and %d snapshots, want %d of each", len(to.store.marks), from.store.opened, want)
			}
		}
		if want := len(from.store.in(ring.Range{Start: 1 << 61, End: -1 << 61})); to.store.added != want || want == 0 {
			t.Errorf("%d records came, want %d", to.store.added, want)
		}
		if err := to.fetcher(nil).Forget(t.Context(), ID{7}); err != nil || len(to.store.marks) != 0 {
			t.Errorf("%v, %d marks", err, len(to.store.marks))
		}
	})
}

// TestFetch_Refusals: what a source refuses is said, at once when trying again would not help.
func TestFetch_Refusals(t *testing.T) {
	pair(t, func(h *host) { h.owns = ring.Range{Start: 0, End: 1000} }, func(t *testing.T, _ *memnet.Network, to, from *host) {
		f := to.fetcher(nil)
		try := func(change func(*Request)) (time.Duration, error) {
			r := to.request(from, ring.Range{Start: 10, End: 20})
			change(&r)
			began := time.Now()
			err := f.Fetch(t.Context(), r, nil)
			return time.Since(began), err
		}
		if d, err := try(func(r *Request) { r.Table = 9 }); !errors.Is(err, ErrUnknownTable) || d > time.Second {
			t.Errorf("unknown table: %v after %v", err, d)
		}
		if d, err := try(func(r *Request) { r.Range.End = 2000 }); !errors.Is(err, ErrNotOwner) || d > time.Second {
			t.Errorf("range of others: %v after %v", err, d)
		}
		if d, err := try(func(r *Request) { r.From = hostID(9) }); !errors.Is(err, ErrPatience) || !errors.Is(err, rpc.ErrUnreachable) || d < time.Minute || d > 90*time.Second {
			t.Errorf("nobody there: %v after %v", err, d)
		}
		from.admit = errTest
		if d, err := try(func(*Request) {}); !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "test") || d < time.Minute {
			t.Errorf("a source that fails: %v after %v", err, d)
		}
		from.admit = nil
		from.store.fill(1, 1)
		from.store.failScan = errTest
		if d, err := try(func(*Request) {}); !errors.Is(err, ErrPatience) || !errors.Is(err, ErrRefused) || d < time.Minute || d > 90*time.Second {
			t.Errorf("a range that cannot be read: %v after %v", err, d)
		}
		from.store.failScan = nil
		from.endServer()
		if d, err := try(func(*Request) {}); !errors.Is(err, ErrPatience) || !errors.Is(err, ErrStopping) || d < time.Minute {
			t.Errorf("a source that is stopping: %v after %v", err, d)
		}
		from.startServer()
		if got := to.ledger.Total(); got.FailedIn != 6 || got.SessionsIn != 6 {
			t.Errorf("counted %+v", got)
		}
	})
}

// TestFetch_OwnStoreFails: an error of the receiver's own store ends the fetch with that error.
func TestFetch_OwnStoreFails(t *testing.T) {
	pair(t, nil, func(t *testing.T, _ *memnet.Network, to, from *host) {
		from.store.fill(1000, 50)
		began := time.Now()
		n := 0
		err := to.fetcher(nil).Fetch(t.Context(), to.request(from, ring.FullRange()), func(Progress) {
			if n++; n == 5 {
				to.store.fail = errTest
			}
		})
		if !errors.Is(err, errTest) || time.Since(began) > time.Second {
			t.Errorf("%v after %v", err, time.Since(began))
		}
		time.Sleep(time.Second)
		from.store.calm(t, "source")
	})
}

// TestServer_Epoch: a source that is behind the receiver's metadata learns them first, or refuses.
func TestServer_Epoch(t *testing.T) {
	pair(t, nil, func(t *testing.T, _ *memnet.Network, to, from *host) {
		from.store.fill(10, 10)
		to.epoch.Store(5)
		f := to.fetcher(func(o *FetcherOptions) { o.Patience = time.Second })
		from.newest = 4
		if err := f.Fetch(t.Context(), to.request(from, ring.FullRange()), nil); !errors.Is(err, ErrBehind) {
			t.Errorf("a source that cannot catch up: %v", err)
		}
		from.newest = 6
		if err := f.Fetch(t.Context(), to.request(from, ring.FullRange()), nil); err != nil {
			t.Error(err)
		}
		to.same(t, from, ring.FullRange())
	})
}

// TestServer_Bounds: sessions are bounded, and one that nobody asks for more is closed.
func TestServer_Bounds(t *testing.T) {
	pair(t, func(h *host) { h.options.SessionsMax = 2 }, func(t *testing.T, w *memnet.Network, to, from *host) {
		from.store.fill(1000, 50)
		open := func() rpc.Status {
			q := openRequest{table: table, rg: ring.FullRange(), pieceSize: 1}
			_, status, err := to.Call(t.Context(), from.id, rpc.Stream, VerbOpen, q.append(nil))
			if err != nil {
				t.Fatal(err)
			}
			return status
		}
		if a, b, c := open(), open(), open(); a != rpc.StatusOK || b != rpc.StatusOK || c != rpc.StatusOverloaded {
			t.Errorf("three sessions: %v %v %v", a, b, c)
		}
		if p := from.ledger.Active(); len(p) != 2 || !p[0].Outgoing || p[0].Peer != to.id || p[0].Expected != 1000 {
			t.Errorf("the source shows %+v", p)
		}
		time.Sleep(31 * time.Second)
		from.store.calm(t, "idle sessions")
		if s := open(); s != rpc.StatusOK {
			t.Errorf("afterwards: %v", s)
		}
		w.Break(to.name, from.name)
		time.Sleep(time.Second)
		from.store.calm(t, "sessions of a broken connection")
		for body, want := range map[string]rpc.Status{"": rpc.StatusBadRequest, string(appendSession(nil, 77)): StatusNoSession} {
			if _, status, err := to.Call(t.Context(), from.id, rpc.Stream, VerbNext, []byte(body)); err != nil || status != want {
				t.Errorf("next %x: %v %v", body, status, err)
			}
		}
		if _, status, err := to.Call(t.Context(), from.id, rpc.Stream, VerbLast, nil); err != nil || status != rpc.StatusUnknownVerb {
			t.Errorf("unknown verb: %v %v", status, err)
		}
	})
}

// TestFetch_Window: neither end runs ahead of the receiver's disk by more than the window.
func TestFetch_Window(t *testing.T) {
	pair(t, nil, func(t *testing.T, _ *memnet.Network, to, from *host) {
		from.store.fill(5000, 50)
		to.store.slow = time.Second
		ahead := 0
		err := to.fetcher(nil).Fetch(t.Context(), to.request(from, ring.FullRange()), func(Progress) {
			from.store.mu.Lock()
			scanned := from.store.scanned
			from.store.mu.Unlock()
			to.store.mu.Lock()
			ahead = max(ahead, scanned-to.store.added)
			to.store.mu.Unlock()
		})
		if err != nil {
			t.Fatal(err)
		}
		if per := 4<<10/70 + 1; ahead > 5*per || ahead < per {
			t.Errorf("the source was %d records ahead, %d to a piece", ahead, per)
		}
	})
}

// TestThrottle: all sessions together keep to the rate, which can be changed on the way; a rate at which a piece takes longer than
// any deadline is kept too.
func TestThrottle(t *testing.T) {
	pair(t, func(h *host) { h.throttle = NewThrottle(100 << 10) }, func(t *testing.T, _ *memnet.Network, to, from *host) {
		from.store.fill(10000, 200) // about 2.1 MB
		var size int64
		for k, v := range from.store.rows {
			size += int64(len(k) + len(v))
		}
		began := time.Now()
		done := make(chan error, 2)
		for i := range 2 {
			r := to.request(from, ring.Range{Start: ring.Token(i-1) << 63, End: ring.Token(i) << 63})
			r.Stream[1] = byte(i)
			go func() { done <- to.fetcher(nil).Fetch(t.Context(), r, nil) }()
		}
		time.Sleep(10 * time.Second)
		slow := from.ledger.Total().BytesOut
		if slow < 950<<10 || slow > 1050<<10 {
			t.Errorf("%d bytes in ten seconds at 100 KiB/s", slow)
		}
		from.throttle.Set(1 << 10)
		time.Sleep(100 * time.Second)
		if n := from.ledger.Total().BytesOut - slow; n < 80<<10 || n > 120<<10 {
			t.Errorf("%d bytes in a hundred seconds at 1 KiB/s", n)
		}
		from.throttle.Set(0)
		if err := errors.Join(<-done, <-done); err != nil {
			t.Fatal(err)
		}
		if d := time.Since(began); d > 115*time.Second {
			t.Errorf("without a limit it went on for %v", d)
		}
		to.same(t, from, ring.FullRange())
		if p := to.ledger.Total(); p.Resumes != 0 {
			t.Errorf("%d deadlines passed", p.Resumes)
		}
	})
}

// TestFetch_Slots: fetches beyond the bound wait, and give up when they are told.
func TestFetch_Slots(t *testing.T) {
	pair(t, func(h *host) { h.throttle = NewThrottle(10 << 10) }, func(t *testing.T, _ *memnet.Network, to, from *host) {
		from.store.fill(3000, 50)
		f := to.fetcher(func(o *FetcherOptions) { o.FetchesMax = 1 })
		done := make(chan error, 1)
		go func() { done <- f.Fetch(t.Context(), to.request(from, ring.FullRange()), nil) }()
		time.Sleep(time.Second)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := f.Fetch(ctx, to.request(from, ring.FullRange()), nil); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("beyond the bound: %v", err)
		}
		if p := to.ledger.Active(); len(p) != 1 || p[0].Records == 0 {
			t.Errorf("under way: %+v", p)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// TestScenario_A6_PeerHangsAtEachMessage: whatever a source does with whatever message, the fetch ends in bounded time with an
// error, and holds nothing.
func TestScenario_A6_PeerHangsAtEachMessage(t *testing.T) {
	good := piece{number: 3, records: []byte("no records")}
	behaviours := map[string]func(rpc.Responder){
		"silence":       func(rpc.Responder) {},
		"empty":         func(rsp rpc.Responder) { rsp.Reply(rpc.StatusOK, nil) },
		"garbage":       func(rsp rpc.Responder) { rsp.Reply(rpc.StatusOK, []byte{0x97, 1, 2, 3}) },
		"failure":       func(rsp rpc.Responder) { rsp.ReplyText(rpc.StatusFailed, "cannot") },
		"overloaded":    func(rsp rpc.Responder) { rsp.Reply(rpc.StatusOverloaded, nil) },
		"no session":    func(rsp rpc.Responder) { rsp.Reply(StatusNoSession, nil) },
		"other session": func(rsp rpc.Responder) { rsp.Reply(rpc.StatusOK, opened{99, 1}.append(nil)) },
		"wrong piece":   func(rsp rpc.Responder) { rsp.Reply(rpc.StatusOK, good.append(nil)) },
	}
	for name, behave := range behaviours {
		for _, verb := range []rpc.Verb{VerbOpen, VerbNext} {
			for _, at := range []int{1, 3} {
				t.Run(name, func(t *testing.T) {
					seen := 0
					hostile := func(req *rpc.Request, rsp rpc.Responder) bool {
						if req.Verb != verb {
							return false
						}
						if seen++; seen < at {
							return false
						}
						behave(rsp)
						return true
					}
					pair(t, func(h *host) { h.hostile = hostile }, func(t *testing.T, w *memnet.Network, to, from *host) {
						from.store.fill(3000, 50)
						began := time.Now()
						n := 0
						err := to.fetcher(nil).Fetch(t.Context(), to.request(from, ring.FullRange()), func(Progress) {
							if n++; n%20 == 0 {
								w.Break(to.name, from.name) // so that it opens more than one
							}
						})
						if d := time.Since(began); err == nil || d > 3*time.Minute {
							t.Errorf("verb %d from the %d. on: %v after %v", verb, at, err, d)
						}
						to.store.calm(t, "receiver")
						time.Sleep(time.Minute)
						from.store.calm(t, "source")
					})
				})
			}
		}
	}
}
