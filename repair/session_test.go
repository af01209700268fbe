package repair

import (
	"context"
	"errors"
	"reflect"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/helenusdb/helenus/repair/history"
	"github.com/helenusdb/helenus/ring"
	"github.com/helenusdb/helenus/row"
	"github.com/helenusdb/helenus/rpc"
	"github.com/helenusdb/helenus/schema"
)

var (
	me    = ring.HostID{1}
	other = ring.HostID{2}
	whole = ring.Interval{First: ring.MinToken, Last: ring.MaxToken}
)

const gen schema.Generation = 5

// fakeStore holds one row of which it says the given tally.
type fakeStore struct {
	tally   row.Tally
	applied int
}

func (f *fakeStore) Read(_ *row.Command, page *row.Page) error { *page = row.Page{}; return nil }
func (f *fakeStore) Tally(_ context.Context, q Tally) (row.Tally, ring.Token, error) {
	return f.tally, q.Tokens.Last, nil
}
func (f *fakeStore) TallyParts(context.Context, Tally, []ring.Interval) ([]row.Tally, error) {
	return nil, nil
}
func (f *fakeStore) Apply(_ context.Context, ms []row.Mutation) error {
	f.applied += len(ms)
	return nil
}
func (f *fakeStore) Dropped(schema.Generation) func(schema.ColumnID, int64) bool { return nil }
func (f *fakeStore) IsUnknownTable(error) bool                                   { return false }

// fakeHistory keeps what it was told last.
type fakeHistory struct {
	mu  sync.Mutex
	got []history.Entry
}

func (h *fakeHistory) Put(_ context.Context, _ schema.Generation, e history.Entry) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.got = append(h.got, e)
	return nil
}

type fakeCluster struct {
	epoch   uint64
	tasks   []Task
	table   schema.Table
	members []ring.HostID // nil: the replicas
	unsound ring.HostID
	lost    bool
}

func (c *fakeCluster) Epoch() uint64                                 { return c.epoch }
func (c *fakeCluster) Table(schema.Generation) (*schema.Table, bool) { return &c.table, true }
func (c *fakeCluster) Owns(schema.Generation, ring.Interval) bool    { return true }
func (c *fakeCluster) Members() []ring.HostID {
	if c.members != nil {
		return c.members
	}
	return c.tasks[0].Replicas
}
func (c *fakeCluster) Sound(id ring.HostID) bool      { return id != c.unsound || id == (ring.HostID{}) }
func (c *fakeCluster) Lost([]ring.HostID, int64) bool { return c.lost }
func (c *fakeCluster) Plan(*Spec) ([]Task, error)     { return c.tasks, nil }

// peerFunc is a peer that answers as it likes.
type peerFunc func(ctx context.Context, verb rpc.Verb, body []byte) ([]byte, rpc.Status, error)

func (f peerFunc) Call(ctx context.Context, _ ring.HostID, _ rpc.Class, verb rpc.Verb, body []byte) ([]byte, rpc.Status, error) {
	return f(ctx, verb, body)
}

func service(store Store, t Transport) (*Service, *fakeCluster) {
	c := &fakeCluster{epoch: 1, tasks: []Task{{Keyspace: "ks", Table: "t", Generation: gen, Tokens: whole, Replicas: []ring.HostID{me, other}}}}
	return New(Options{Self: me, Transport: t, Store: store, Cluster: c, GCBefore: func(_ *schema.Table, _ ring.Interval, now int64) int64 { return now - 100 },
		History: &fakeHistory{}, Waiting: func() (int64, bool, error) { return 0, false, nil },
		Alive: func(ring.HostID) bool { return true }}), c
}

// running runs f while the service does.
func running(t *testing.T, s *Service, f func(ctx context.Context)) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	synctest.Wait()
	f(ctx)
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// honest answers as another service would.
func honest(store Store, now func() int64) peerFunc {
	s, _ := service(store, nil)
	if now != nil {
		s.o.Now = func() time.Time { return time.Unix(now(), 0) }
	}
	return func(ctx context.Context, verb rpc.Verb, body []byte) ([]byte, rpc.Status, error) {
		out, err := s.local.handle(ctx, verb, body)
		return out, s.local.statusOf(err), nil
	}
}

// TestSessionsEnd: whatever a peer does, at whatever message, the repair ends in bounded time and says so.
//
// Scenarios: TestScenario_A6.
func TestSessionsEnd(t *testing.T) {
	mine, theirs := row.Tally{Sum: 1, Items: 1, Bytes: 1}, row.Tally{Sum: 2, Items: 1, Bytes: 1}
	hang := func(ctx context.Context) ([]byte, rpc.Status, error) {
		<-ctx.Done()
		return nil, 0, ctx.Err()
	}
	bad := map[string]func(ctx context.Context) ([]byte, rpc.Status, error){
		"hangs":            hang,
		"dies":             func(context.Context) ([]byte, rpc.Status, error) { return nil, 0, errors.New("connection refused") },
		"talks nonsense":   func(context.Context) ([]byte, rpc.Status, error) { return []byte{0xc1}, rpc.StatusOK, nil },
		"says nothing":     func(context.Context) ([]byte, rpc.Status, error) { return []byte{0x91, 1}, rpc.StatusOK, nil },
		"is overloaded":    func(context.Context) ([]byte, rpc.Status, error) { return nil, rpc.StatusOverloaded, nil },
		"is another epoch": func(context.Context) ([]byte, rpc.Status, error) { return nil, rpc.StatusWrongEpoch, nil },
		"has no table":     func(context.Context) ([]byte, rpc.Status, error) { return nil, rpc.StatusUnknownTable, nil },
		"does not own it":  func(context.Context) ([]byte, rpc.Status, error) { return nil, rpc.StatusNotOwner, nil },
	}
	for what, does := range bad {
		for _, at := range []rpc.Verb{verbHello, verbFinish, verbTally, verbList} {
			synctest.Test(t, func(t *testing.T) {
				good := honest(&fakeStore{tally: theirs}, nil)
				s, _ := service(&fakeStore{tally: mine}, peerFunc(func(ctx context.Context, verb rpc.Verb, body []byte) ([]byte, rpc.Status, error) {
					if verb == at {
						return does(ctx)
					}
					return good(ctx, verb, body)
				}))
				running(t, s, func(ctx context.Context) {
					began := time.Now()
					r, err := s.Repair(ctx, Spec{}, nil)
					if err != nil {
						t.Fatalf("a peer that %s at %d: %v", what, at, err)
					}
					if r.Failed() != 1 || len(r.Tables[0].Errors()) != 1 {
						t.Errorf("a peer that %s at %d: %d ranges failed", what, at, r.Failed())
					}
					if d := time.Since(began); d > 3*time.Minute {
						t.Errorf("a peer that %s at %d: it took %s", what, at, d)
					}
				})
			})
		}
	}
}

// TestStandstillEnds: tallies that get no further, and ones that get further by a token at a time, end too.
func TestStandstillEnds(t *testing.T) {
	for _, step := range []ring.Token{-1, 0} {
		synctest.Test(t, func(t *testing.T) {
			good := honest(&fakeStore{}, nil)
			s, c := service(&fakeStore{}, peerFunc(func(ctx context.Context, verb rpc.Verb, body []byte) ([]byte, rpc.Status, error) {
				if verb != verbTally {
					return good(ctx, verb, body)
				}
				q, err := decodeTally(body)
				if err != nil {
					t.Error(err)
				}
				time.Sleep(time.Second)
				a := tallyAnswer{tallies: []row.Tally{{}}, covered: q.spans[0].First + step}
				return a.append(nil), rpc.StatusOK, nil
			}))
			c.tasks[0].Tokens.First = -1000
			running(t, s, func(ctx context.Context) {
				began := time.Now()
				r, err := s.Repair(ctx, Spec{}, nil)
				if err != nil || r.Failed() != 1 {
					t.Errorf("%d failed, %v", r.Failed(), err)
				}
				if d := time.Since(began); d > time.Hour+time.Minute {
					t.Errorf("it took %s", d)
				}
			})
		})
	}
}

// TestClocksApart: a horizon is never further ahead of a replica's clock than is borne, from either side.
func TestClocksApart(t *testing.T) {
	for _, skew := range []int64{-1000, -30, 30, 1000} {
		synctest.Test(t, func(t *testing.T) {
			s, _ := service(&fakeStore{}, honest(&fakeStore{}, func() int64 { return time.Now().Unix() + skew }))
			running(t, s, func(ctx context.Context) {
				r, err := s.Repair(ctx, Spec{}, nil)
				if err != nil {
					t.Fatal(err)
				}
				if failed := r.Failed() > 0; failed != (skew > skewMax || skew < -skewMax) {
					t.Errorf("clocks %d s apart: failed %v, %v", skew, failed, r.Tables[0].Errors())
				}
			})
		})
	}
}

// TestOneAtATime: a node leads one repair, none before Run and none after; a caller that goes away ends its repair, and the end of the service too.
func TestOneAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := service(&fakeStore{}, peerFunc(func(ctx context.Context, _ rpc.Verb, _ []byte) ([]byte, rpc.Status, error) {
			<-ctx.Done()
			return nil, 0, ctx.Err()
		}))
		if _, err := s.Repair(context.Background(), Spec{}, nil); !errors.Is(err, ErrStopped) {
			t.Errorf("before Run: %v", err)
		}
		ended := make(chan error, 1)
		running(t, s, func(context.Context) {
			ctx, cancel := context.WithCancel(context.Background())
			go func() { _, err := s.Repair(ctx, Spec{}, nil); ended <- err }()
			synctest.Wait()
			if _, err := s.Repair(ctx, Spec{}, nil); !errors.Is(err, ErrBusy) {
				t.Errorf("a second one: %v", err)
			}
			cancel()
			if err := <-ended; !errors.Is(err, context.Canceled) {
				t.Errorf("the caller went away: %v", err)
			}
			go func() { _, err := s.Repair(context.Background(), Spec{}, nil); ended <- err }()
			synctest.Wait()
		})
		if err := <-ended; !errors.Is(err, ErrStopped) {
			t.Errorf("the service ended: %v", err)
		}
		if _, err := s.Repair(context.Background(), Spec{}, nil); !errors.Is(err, ErrStopped) {
			t.Errorf("after the end: %v", err)
		}
	})
}

// TestChangedReplicasAreNoSuccess: a range whose replicas change while it is repaired was not repaired.
func TestChangedReplicasAreNoSuccess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		good := honest(&fakeStore{}, nil)
		var cluster *fakeCluster
		s, cluster := service(&fakeStore{}, peerFunc(func(ctx context.Context, verb rpc.Verb, body []byte) ([]byte, rpc.Status, error) {
			if verb == verbTally {
				cluster.epoch = 2
				cluster.tasks = []Task{{Generation: gen, Tokens: whole, Replicas: []ring.HostID{me, {3}}}}
			}
			return good(ctx, verb, body)
		}))
		running(t, s, func(ctx context.Context) {
			r, err := s.Repair(ctx, Spec{}, nil)
			if err != nil || r.Failed() != 1 || !strings.Contains(r.Tables[0].Errors()[0], "have changed") {
				t.Errorf("%d failed, %v", r.Failed(), err)
			}
		})
	})
}

// recorded repairs once and returns what this node and its peer were told of it.
func recorded(t *testing.T, spec Spec, prepare func(mine, theirs *Service, c *fakeCluster)) (mine, theirs []history.Entry, report *Report) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		they, _ := service(&fakeStore{}, nil)
		they.o.Self = other
		s, c := service(&fakeStore{}, peerFunc(func(ctx context.Context, verb rpc.Verb, body []byte) ([]byte, rpc.Status, error) {
			out, err := they.local.handle(ctx, verb, body)
			return out, they.local.statusOf(err), nil
		}))
		if prepare != nil {
			prepare(s, they, c)
		}
		running(t, s, func(ctx context.Context) {
			var err error
			if report, err = s.Repair(ctx, spec, nil); err != nil {
				t.Fatal(err)
			}
		})
		mine, theirs = s.o.History.(*fakeHistory).got, they.o.History.(*fakeHistory).got
	})
	return mine, theirs, report
}

// bubbleStart is the time at which a bubble of synctest begins, in seconds since the epoch.
const bubbleStart = 946684800

// fakeRegisters has one conditional write, and tells whether those that are in flight had been finished before it was asked.
type fakeRegisters struct {
	since    int64
	err      error
	finished bool
}

func (f *fakeRegisters) FinishRange(context.Context, schema.Generation, ring.Interval) error {
	f.finished = true
	return nil
}

func (f *fakeRegisters) OldestIn(schema.Generation, ring.Interval) (int64, bool, error) {
	if !f.finished {
		return 0, false, errors.New("asked before the writes in flight were finished")
	}
	return f.since, true, f.err
}

// TestRecord: what was repaired between all replicas is recorded on all of them, as of when the session began by the slowest clock, and with what waits
// somewhere, and the oldest conditional write that may be written again; nothing else is recorded, and who cannot tell what waits leaves it open.
func TestRecord(t *testing.T) {
	behind := func(_, theirs *Service, _ *fakeCluster) {
		theirs.o.Now = func() time.Time { return time.Now().Add(-20 * time.Second) }
	}
	waits := func(since int64, err error) func(_, theirs *Service, _ *fakeCluster) {
		return func(_, theirs *Service, _ *fakeCluster) {
			theirs.o.Waiting = func() (int64, bool, error) { return since, true, err }
		}
	}
	commits := func(since int64, err error) func(_, theirs *Service, _ *fakeCluster) {
		return func(_, theirs *Service, _ *fakeCluster) { theirs.o.Registers = &fakeRegisters{since: since, err: err} }
	}
	older := func(mine, _ *Service, _ *fakeCluster) {
		t, _ := mine.o.Transport.(peerFunc)
		mine.o.Transport = peerFunc(func(ctx context.Context, verb rpc.Verb, body []byte) ([]byte, rpc.Status, error) {
			if verb == verbOldest {
				return nil, rpc.StatusUnknownVerb, nil
			}
			return t(ctx, verb, body)
		})
	}
	timeout := func(s, _ *Service, c *fakeCluster) {
		c.table.Options.Extensions = []schema.Extension{{Name: schema.ExtensionTombstoneGC, Value: []byte("timeout")}}
	}
	for name, c := range map[string]struct {
		spec       Spec
		prepare    func(mine, theirs *Service, c *fakeCluster)
		none       bool // nothing is recorded
		at, before int64
	}{
		"plain":                   {at: bubbleStart, before: bubbleStart},
		"primary":                 {spec: Spec{Primary: true}, at: bubbleStart, before: bubbleStart},
		"preview":                 {spec: Spec{Preview: true}, none: true},
		"validate":                {spec: Spec{Validate: true}, none: true},
		"some hosts":              {spec: Spec{Hosts: []ring.HostID{me, other}}, none: true},
		"some data centres":       {spec: Spec{DCs: []string{"dc1"}}, none: true},
		"a clock behind":          {prepare: behind, at: bubbleStart - 20, before: bubbleStart - 20},
		"a hint waits":            {prepare: waits(bubbleStart-5000, nil), at: bubbleStart, before: bubbleStart - 5000},
		"a hint of the future":    {prepare: waits(bubbleStart+5000, nil), at: bubbleStart, before: bubbleStart},
		"a commit is older":       {prepare: commits(bubbleStart-7000, nil), at: bubbleStart, before: bubbleStart - 7000},
		"a commit is newer":       {prepare: commits(bubbleStart+7, nil), at: bubbleStart, before: bubbleStart},
		"registers do not tell":   {prepare: commits(0, errors.New("disk")), at: bubbleStart, before: history.None},
		"of an older build":       {prepare: older, at: bubbleStart, before: history.None},
		"nobody knows what waits": {prepare: waits(0, errors.New("disk")), at: bubbleStart, before: history.None},
		"a third member is down": {prepare: func(s, _ *Service, c *fakeCluster) {
			c.members = []ring.HostID{me, other, {3}}
			s.o.Alive = func(id ring.HostID) bool { return id != ring.HostID{3} }
		}, at: bubbleStart, before: history.None},
		"a replica lost it meanwhile": {prepare: func(_, _ *Service, c *fakeCluster) { c.lost = true }, at: bubbleStart, before: history.None},
		"a replica lost its log":      {prepare: func(_, _ *Service, c *fakeCluster) { c.unsound = other }, at: bubbleStart, before: history.None},
		"deletions go by their age":   {prepare: timeout, at: bubbleStart, before: history.None},
	} {
		mine, theirs, report := recorded(t, c.spec, c.prepare)
		if report.Failed() != 0 {
			t.Errorf("%s: %v", name, report.Tables[0].Errors())
			continue
		}
		for who, got := range map[string][]history.Entry{"leader": mine, "peer": theirs} {
			if c.none {
				if len(got) != 0 {
					t.Errorf("%s: the %s has %+v", name, who, got)
				}
				continue
			}
			want := history.Entry{Tokens: whole, At: c.at, Before: c.before, Replicas: []ring.HostID{me, other}}
			if len(got) != 1 || !reflect.DeepEqual(got[0], want) {
				t.Errorf("%s: the %s has %+v instead of %+v", name, who, got, want)
			}
		}
		if doubt := report.Tables[0].Doubt(); (doubt != "") != (!c.none && c.before == history.None && name != "deletions go by their age") {
			t.Errorf("%s: doubt %q", name, doubt)
		}
	}
}

// TestHorizonByRepair: by mode repair the horizon is the earliest of what replicas would purge, and stands still; by mode timeout it is the latest and
// goes with the clock.
func TestHorizonByRepair(t *testing.T) {
	horizon := func(text string, bounds ...int64) (first, later row.Purge) {
		synctest.Test(t, func(t *testing.T) {
			s, c := service(&fakeStore{}, nil)
			if text != "" {
				c.table.Options.Extensions = []schema.Extension{{Name: schema.ExtensionTombstoneGC, Value: []byte(text)}}
			}
			var answers []helloAnswer
			for _, b := range bounds {
				answers = append(answers, helloAnswer{bubbleStart, b})
			}
			v := &session{o: &s.o, began: bubbleStart}
			v.bound(&c.table, answers, bubbleStart)
			first = v.horizon()
			time.Sleep(10 * time.Second)
			later = v.horizon()
		})
		return first, later
	}
	for name, c := range map[string]struct {
		text         string
		bounds       []int64
		first, later int64
	}{
		"repair":                   {"", []int64{500, 400, 600}, 400, 400},
		"repair, one has nothing":  {"", []int64{500, row.NoTimestamp, 600}, row.NoTimestamp, row.NoTimestamp},
		"timeout":                  {"timeout", []int64{500, 400, 600}, 600, 610},
		"timeout, one has nothing": {"timeout", []int64{500, row.NoTimestamp, 400}, 500, 510},
		"disabled":                 {"disabled", []int64{row.NoTimestamp, row.NoTimestamp}, row.NoTimestamp, row.NoTimestamp},
	} {
		if first, later := horizon(c.text, c.bounds...); first.GCBefore != c.first || later.GCBefore != c.later || later.Now != first.Now+10 {
			t.Errorf("%s: %+v, then %+v", name, first, later)
		}
	}
}
