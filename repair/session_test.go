package repair

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

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
func (f *fakeStore) Apply(_ context.Context, ms []row.Mutation) error {
	f.applied += len(ms)
	return nil
}
func (f *fakeStore) Dropped(schema.Generation) func(schema.ColumnID, int64) bool { return nil }
func (f *fakeStore) IsUnknownTable(error) bool                                   { return false }

type fakeCluster struct {
	epoch uint64
	tasks []Task
}

func (c *fakeCluster) Epoch() uint64                                 { return c.epoch }
func (c *fakeCluster) Table(schema.Generation) (*schema.Table, bool) { return &schema.Table{}, true }
func (c *fakeCluster) Owns(schema.Generation, ring.Interval) bool    { return true }
func (c *fakeCluster) Plan(*Spec) ([]Task, error)                    { return c.tasks, nil }

// peerFunc is a peer that answers as it likes.
type peerFunc func(ctx context.Context, verb rpc.Verb, body []byte) ([]byte, rpc.Status, error)

func (f peerFunc) Call(ctx context.Context, _ ring.HostID, _ rpc.Class, verb rpc.Verb, body []byte) ([]byte, rpc.Status, error) {
	return f(ctx, verb, body)
}

func service(store Store, t Transport) (*Service, *fakeCluster) {
	c := &fakeCluster{epoch: 1, tasks: []Task{{Keyspace: "ks", Table: "t", Generation: gen, Tokens: whole, Replicas: []ring.HostID{me, other}}}}
	return New(Options{Self: me, Transport: t, Store: store, Cluster: c, GCBefore: func(_ *schema.Table, now int64) int64 { return now - 100 },
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
