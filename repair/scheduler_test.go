package repair

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/helenusdb/helenus/repair/history"
	"github.com/helenusdb/helenus/ring"
	"github.com/helenusdb/helenus/rpc"
	"github.com/helenusdb/helenus/schema"
)

func jobsOf(n int) []Job {
	jobs := make([]Job, n)
	for i := range jobs {
		jobs[i] = Job{Task: Task{Generation: gen, Tokens: ring.Interval{First: ring.Token(10 * i), Last: ring.Token(10*i + 9)}, Replicas: []ring.HostID{me, other}}, At: history.None, Before: history.None}
	}
	return jobs
}

// TestSchedule_EveryRangeHasItsTurn: in a simulated week of looks every job is repaired at least once per `within`, no two sessions begin close together, and jobs
// that fail or are blocked hold up nobody else.
func TestSchedule_EveryRangeHasItsTurn(t *testing.T) {
	const within = 24 * time.Hour
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 4))
		jobs := jobsOf(1 + rng.IntN(300))
		fails, blocked := rng.IntN(len(jobs)+3), rng.IntN(len(jobs)+3)
		if blocked < len(jobs) {
			jobs[blocked].Blocked = "down"
		}
		s := newSchedule(within, rng.Float64)
		start := time.Unix(1_000_000, 0)
		last := make([]time.Time, len(jobs))
		for i := range last {
			last[i] = start
		}
		longest, shortest, before := time.Duration(0), within, time.Time{}
		for now := start; now.Sub(start) < 7*within; now = now.Add(untilNext(s, now)) {
			i, ok := s.choose(now, jobs)
			if !ok {
				continue
			}
			if i == blocked {
				t.Fatalf("seed %d: a blocked job has its turn", seed)
			}
			if !before.IsZero() {
				shortest = min(shortest, now.Sub(before))
			}
			before = now
			s.begun(now, &jobs[i], len(jobs))
			if i == fails {
				s.ended(now, &jobs[i], errors.New("no"), "")
				continue
			}
			s.ended(now, &jobs[i], nil, "")
			longest = max(longest, now.Sub(last[i]))
			last[i], jobs[i].At = now, now.Unix()
		}
		end := start.Add(7 * within)
		for i, at := range last {
			if i == fails || i == blocked {
				continue
			}
			longest = max(longest, end.Sub(at))
		}
		pace := within / time.Duration(len(jobs))
		// The one that fails takes turns, with pauses of an hour at most.
		if limit := within + within/8 + 2*pace + lookMax; longest > limit {
			t.Errorf("seed %d: %d jobs: one waited for %s, at most %s", seed, len(jobs), longest, limit)
		}
		if shortest < pace*3/8 {
			t.Errorf("seed %d: %d jobs: two sessions within %s, the pace is %s", seed, len(jobs), shortest, pace)
		}
	}
}

// untilNext is Scheduler.until for a schedule alone.
func untilNext(s *schedule, now time.Time) time.Duration {
	sched := Scheduler{o: SchedulerOptions{Within: s.within, Now: func() time.Time { return now }}, plan: s}
	return sched.until(lookMax)
}

// TestScheduler_ManyRanges: more than one session per lookMax, where there are that many ranges.
func TestScheduler_ManyRanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const ranges = 400
		b := newBench(t, 20*time.Minute, ranges, nil)
		b.run(t, 21*time.Minute)
		if len(b.book) != ranges {
			t.Errorf("%d of %d ranges in their time", len(b.book), ranges)
		}
	})
}

// TestSchedule_Order: never repaired comes first, then the oldest; after a failure others come, and the pause grows up to its bound.
func TestSchedule_Order(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	s := newSchedule(24*time.Hour, func() float64 { return 0 })
	jobs := jobsOf(3)
	jobs[0].At, jobs[2].At = 999_000, 998_000
	var order []int
	for range 3 {
		i, ok := s.choose(now, jobs)
		if !ok {
			t.Fatal("nobody's turn")
		}
		order = append(order, i)
		s.begun(now, &jobs[i], len(jobs))
		if _, again := s.choose(now.Add(8*time.Hour-time.Second), jobs); again {
			t.Error("a session begins before its time")
		}
		now = now.Add(8 * time.Hour)
		jobs[i].At = now.Unix()
	}
	if !slices.Equal(order, []int{1, 2, 0}) {
		t.Errorf("the order is %v", order)
	}
	only := jobs[:1]
	var pauses []time.Duration
	for range 12 {
		s.next = now
		if _, ok := s.choose(now, only); !ok {
			t.Fatal("nobody's turn")
		}
		s.ended(now, &only[0], errors.New("no"), "")
		pauses = append(pauses, s.trials[only[0].key()].until.Sub(now))
		now = s.trials[only[0].key()].until
	}
	if pauses[0] != retryMin || pauses[1] != 2*retryMin || pauses[11] != retryMax {
		t.Errorf("pauses of %v", pauses)
	}
	s.keep(jobs[1:])
	if len(s.trials) != 0 {
		t.Errorf("trials of jobs that are gone: %v", s.trials)
	}
}

// bench is a scheduler over a service whose peer is honest, or as a test wants.
type bench struct {
	s       *Scheduler
	book    map[ring.Token]int64
	jobs    []Job
	busy    bool
	blocked string
}

func newBench(t *testing.T, within time.Duration, n int, peer func(good peerFunc) peerFunc) *bench {
	t.Helper()
	b := &bench{book: map[ring.Token]int64{}, jobs: jobsOf(n)}
	good := honest(&fakeStore{}, nil)
	if peer != nil {
		good = peer(good)
	}
	v, c := service(&fakeStore{}, good)
	c.tasks = []Task{b.jobs[0].Task}
	v.o.History = b
	rng := rand.New(rand.NewPCG(1, 1))
	b.s = NewScheduler(SchedulerOptions{Service: v, Within: within, Random: rng.Float64, Busy: func() bool { return b.busy }, Jobs: func() []Job {
		jobs := slices.Clone(b.jobs)
		for i := range jobs {
			jobs[i].Blocked = b.blocked
			if at, ok := b.book[jobs[i].Tokens.First]; ok {
				jobs[i].At, jobs[i].Before = at, at
			}
		}
		return jobs
	}})
	return b
}

func (b *bench) Put(_ context.Context, _ schema.Generation, e history.Entry) error {
	b.book[e.Tokens.First] = e.At
	return nil
}

// run lets the service and the scheduler run for a while, and waits for their end.
func (b *bench) run(t *testing.T, d time.Duration) {
	t.Helper()
	running(t, b.s.o.Service, func(ctx context.Context) {
		ctx, cancel := context.WithTimeout(ctx, d)
		defer cancel()
		if err := b.s.Run(ctx); err != nil {
			t.Error(err)
		}
	})
}

// TestScheduler: all ranges are repaired in their time, and the status says so; a second scheduler that knows what is recorded goes on where the first one ended.
func TestScheduler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, time.Hour, 6, nil)
		b.run(t, 30*time.Minute)
		half := len(b.book)
		if half < 2 || half > 5 {
			t.Errorf("%d of 6 ranges in half of the time", half)
		}
		b.s = NewScheduler(b.s.o)
		v, _ := service(&fakeStore{}, honest(&fakeStore{}, nil))
		v.o.History = b
		b.s.o.Service = v
		b.run(t, 45*time.Minute)
		if len(b.book) != 6 {
			t.Errorf("%d of 6 ranges", len(b.book))
		}
		if n := b.s.Metrics().Sessions.Load(); n > 7 {
			t.Errorf("%d sessions after the restart: what was done is done again", n)
		}
		for _, j := range b.s.Status() {
			if j.Why != "" || j.At == history.None {
				t.Errorf("%+v", j)
			}
		}
	})
}

// TestScheduler_StepsBack: while the node is busy sessions are put off and paused, but not for ever.
func TestScheduler_StepsBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, 24*time.Hour, 1, nil)
		b.s.plan.next = time.Now()
		b.busy = true
		b.run(t, patienceMax-time.Minute)
		if len(b.book) != 0 || b.s.Metrics().SteppedBack.Load() == 0 {
			t.Errorf("%d ranges repaired while busy", len(b.book))
		}
	})
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, 24*time.Hour, 1, nil)
		b.s.plan.next = time.Now()
		b.busy = true
		b.run(t, patienceMax+time.Minute)
		if len(b.book) != 1 {
			t.Error("a node that is always busy is never repaired")
		}
	})
}

// TestScheduler_WhatPeersDo: whatever a peer does, at whatever message, sessions end in bounded time and the status says why; a range whose replica is down
// is not tried.
func TestScheduler_WhatPeersDo(t *testing.T) {
	for _, at := range []rpc.Verb{verbHello, verbFinish, verbTally, verbWaiting, verbRepaired} {
		for name, does := range map[string]func(ctx context.Context) ([]byte, rpc.Status, error){
			"hangs":        func(ctx context.Context) ([]byte, rpc.Status, error) { <-ctx.Done(); return nil, 0, ctx.Err() },
			"knows it not": func(context.Context) ([]byte, rpc.Status, error) { return nil, rpc.StatusUnknownVerb, nil },
		} {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t, time.Hour, 2, func(good peerFunc) peerFunc {
					return func(ctx context.Context, verb rpc.Verb, body []byte) ([]byte, rpc.Status, error) {
						if verb == at {
							return does(ctx)
						}
						return good(ctx, verb, body)
					}
				})
				b.run(t, 3*time.Hour)
				m := b.s.Metrics()
				if m.Sessions.Load() < 4 {
					t.Errorf("a peer that %s at %d: %d sessions", name, at, m.Sessions.Load())
				}
				fails := at != verbWaiting && at != verbRepaired
				if (m.Failed.Load() > 0) != fails || (len(b.book) > 0) == fails {
					t.Errorf("a peer that %s at %d: %d of %d failed, %d recorded", name, at, m.Failed.Load(), m.Sessions.Load(), len(b.book))
				}
				for _, j := range b.s.Status() {
					if (j.Why != "") != (fails || at == verbWaiting) {
						t.Errorf("a peer that %s at %d: why is %q", name, at, j.Why)
					}
				}
			})
		}
	}
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, time.Hour, 2, nil)
		b.blocked = "replica x is down"
		b.run(t, 2*time.Hour)
		if n := b.s.Metrics().Sessions.Load(); n != 0 || b.s.Status()[0].Why != b.blocked {
			t.Errorf("%d sessions, %+v", n, b.s.Status())
		}
	})
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, 0, 2, nil)
		b.run(t, time.Hour)
		if n := b.s.Metrics().Sessions.Load(); n != 0 || len(b.s.Status()) != 2 || b.s.Status()[0].Why == "" {
			t.Errorf("off: %d sessions, %+v", n, b.s.Status())
		}
	})
}

// TestScheduler_OperatorFirst: while an operator's repair goes on no scheduled session begins.
func TestScheduler_OperatorFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := func(good peerFunc) peerFunc {
			return func(ctx context.Context, verb rpc.Verb, body []byte) ([]byte, rpc.Status, error) {
				if verb == verbTally {
					time.Sleep(25 * time.Second)
				}
				return good(ctx, verb, body)
			}
		}
		b := newBench(t, time.Minute, 1, slow)
		running(t, b.s.o.Service, func(ctx context.Context) {
			began := time.Now()
			done := make(chan error, 1)
			go func() { _, err := b.s.o.Service.Repair(ctx, Spec{}, nil); done <- err }()
			synctest.Wait()
			if _, err := b.s.o.Service.scheduled(ctx, b.jobs[0].Task, nil); !errors.Is(err, ErrBusy) {
				t.Errorf("beside an operator's: %v", err)
			}
			if err := <-done; err != nil || time.Since(began) < 25*time.Second {
				t.Error(err)
			}
			if _, err := b.s.o.Service.scheduled(ctx, b.jobs[0].Task, nil); err != nil {
				t.Error(err)
			}
		})
		if _, err := b.s.o.Service.scheduled(t.Context(), b.jobs[0].Task, nil); !errors.Is(err, ErrStopped) {
			t.Errorf("after the end: %v", err)
		}
	})
}

// TestScheduler_Why: what a range lacks is said in the right order, and nobody says of a table whose deletions go by their age that a repair has not vouched for them.
func TestScheduler_Why(t *testing.T) {
	repaired := Job{At: 100, Before: history.None}
	byAge := repaired
	byAge.ByAge = true
	blocked := byAge
	blocked.Blocked = "replica is down"
	sure := Job{At: 100, Before: 90}
	for _, c := range []struct {
		what  string
		j     Job
		trial trial
		want  string
	}{
		{"a repair that did not vouch", repaired, trial{}, "could not vouch for deletions"},
		{"nor said why", repaired, trial{why: "hints wait"}, "hints wait"},
		{"deletions that go by their age", byAge, trial{}, ""},
		{"a doubt of before ALTER TABLE", byAge, trial{why: "hints wait"}, ""},
		{"a failure", byAge, trial{why: "it broke", failures: 1}, "it broke"},
		{"one that cannot begin", blocked, trial{}, "replica is down"},
		{"one that never was repaired", Job{At: history.None, Before: history.None, ByAge: true}, trial{}, "its turn has not come yet"},
		{"all is well", sure, trial{}, ""},
	} {
		s := NewScheduler(SchedulerOptions{Within: time.Hour, Random: func() float64 { return 0 }})
		s.plan.trials[c.j.key()] = c.trial
		if got := s.why(&c.j); c.want == "" && got != "" || !strings.Contains(got, c.want) {
			t.Errorf("%s: %q, want %q", c.what, got, c.want)
		}
	}
}
