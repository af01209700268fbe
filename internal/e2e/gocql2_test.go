package e2e

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/apache/cassandra-gocql-driver/v2"
	"github.com/apache/cassandra-gocql-driver/v2/lz4"
)

// TestDriver_Gocql2 is the Apache driver, gocql v2, on protocol v5 with LZ4.
func TestDriver_Gocql2(t *testing.T) {
	testDriver(t, "V5", func(host, keyspace string) driverReport {
		cfg := gocql.NewCluster(host)
		cfg.Timeout, cfg.ConnectTimeout = 20*time.Second, 20*time.Second
		cfg.Consistency = gocql.One
		cfg.Compressor = lz4.LZ4Compressor{}
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
		seen := &gocql2Hosts{hosts: map[string]bool{}}
		cfg.Keyspace, cfg.QueryObserver = keyspace, seen
		cfg.PoolConfig.HostSelectionPolicy = gocql.TokenAwareHostPolicy(gocql.RoundRobinHostPolicy())
		s, err := cfg.CreateSession()
		if err != nil {
			t.Fatalf("connect to the keyspace: %v", err)
		}
		defer s.Close()
		time.Sleep(1500 * time.Millisecond) // pools to every node are open by then
		r := gocql2Workload(t, s)
		r.Nodes, r.Version = seen.count(), "V5"
		return r
	})
}

func gocql2Workload(t *testing.T, s *gocql.Session) (r driverReport) {
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

// gocql2Hosts collects the nodes that answered.
type gocql2Hosts struct {
	mu    sync.Mutex
	hosts map[string]bool
}

func (o *gocql2Hosts) ObserveQuery(_ context.Context, q gocql.ObservedQuery) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if q.Err == nil && q.Host != nil {
		o.hosts[q.Host.HostID()] = true
	}
}

func (o *gocql2Hosts) count() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.hosts)
}
