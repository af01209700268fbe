package e2e

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/gocql/gocql"
)

// TestDriver_Gocql1 is gocql v1 on protocol v4 with Snappy.
func TestDriver_Gocql1(t *testing.T) {
	testDriver(t, "V4", func(host, keyspace string) driverReport {
		cfg := gocql.NewCluster(host)
		cfg.Timeout, cfg.ConnectTimeout = 20*time.Second, 20*time.Second
		cfg.Consistency = gocql.One
		cfg.Compressor = gocql.SnappyCompressor{}
		cfg.Logger = quiet{}
		setup, err := cfg.CreateSession()
		if err != nil {
			t.Fatalf("connect: %v", err)
		}
		defer setup.Close()
		for _, q := range []string{
			"CREATE KEYSPACE " + keyspace + " WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}",
			"CREATE TABLE " + keyspace + ".t (id int PRIMARY KEY, v text)",
		} {
			if err := setup.Query(q).Exec(); err != nil {
				t.Fatalf("%s: %v", q, err)
			}
		}
		seen := &gocql1Hosts{hosts: map[string]bool{}}
		cfg.Keyspace, cfg.QueryObserver = keyspace, seen
		cfg.PoolConfig.HostSelectionPolicy = gocql.TokenAwareHostPolicy(gocql.RoundRobinHostPolicy())
		s, err := cfg.CreateSession()
		if err != nil {
			t.Fatalf("connect to the keyspace: %v", err)
		}
		defer s.Close()
		time.Sleep(1500 * time.Millisecond) // pools to every node are open by then
		r := gocql1Workload(t, s)
		r.Nodes, r.Version = seen.count(), "V4"
		return r
	})
}

func gocql1Workload(t *testing.T, s *gocql.Session) (r driverReport) {
	inParallel(t, driverRows, func(i int) error {
		return s.Query("INSERT INTO t (id, v) VALUES (?, ?)", i, fmt.Sprintf("value %d", i)).Exec()
	})
	r.Written = driverRows
	var state []byte
	for {
		iter := s.Query("SELECT id, v FROM t").PageSize(100).PageState(state).Iter()
		state = append([]byte(nil), iter.PageState()...)
		var id int
		var v string
		for n := 0; n < iter.NumRows() && iter.Scan(&id, &v); n++ {
			if v != fmt.Sprintf("value %d", id) {
				t.Errorf("row %d is %q", id, v)
			}
			r.Paged++
		}
		r.Pages++
		if err := iter.Close(); err != nil {
			t.Fatalf("page %d: %v", r.Pages, err)
		}
		if len(state) == 0 {
			break
		}
	}
	inParallel(t, driverRows, func(i int) error {
		var v string
		if err := s.Query("SELECT v FROM t WHERE id = ?", i).Scan(&v); err != nil {
			return err
		}
		if v != fmt.Sprintf("value %d", i) {
			return fmt.Errorf("row %d is %q", i, v)
		}
		return nil
	})
	r.Read = driverRows
	return r
}

// inParallel calls f for 0 to n-1 on some goroutines and reports the first error.
func inParallel(t *testing.T, n int, f func(i int) error) {
	t.Helper()
	const workers = 16
	errs := make([]error, workers)
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := w; i < n && errs[w] == nil; i += workers {
				errs[w] = f(i)
			}
		})
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
}

// gocql1Hosts collects the nodes that answered.
type gocql1Hosts struct {
	mu    sync.Mutex
	hosts map[string]bool
}

func (o *gocql1Hosts) ObserveQuery(_ context.Context, q gocql.ObservedQuery) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if q.Err == nil && q.Host != nil {
		o.hosts[q.Host.HostID()] = true
	}
}

func (o *gocql1Hosts) count() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.hosts)
}

// quiet drops the driver's log.
type quiet struct{}

func (quiet) Print(...any)          {}
func (quiet) Printf(string, ...any) {}
func (quiet) Println(...any)        {}
