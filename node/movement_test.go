package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	gocql "github.com/apache/cassandra-gocql-driver/v2"

	"github.com/helenusdb/helenus/meta"
	"github.com/helenusdb/helenus/meta/formation"
	"github.com/helenusdb/helenus/repair/movement"
	"github.com/helenusdb/helenus/ring"
	"github.com/helenusdb/helenus/schema"
)

// recorder is a Filler that brings nothing, notes what it was asked for, and can be told to wait.
type recorder struct {
	mu    sync.Mutex
	fills []movement.Fill
	hold  chan struct{} // nil: nobody waits
}

func (r *recorder) Clear(context.Context, movement.Fill) error { return nil }

func (r *recorder) Fill(ctx context.Context, f movement.Fill, moved func(int64)) error {
	if r.hold != nil {
		select {
		case <-r.hold:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	r.mu.Lock()
	r.fills = append(r.fills, f)
	r.mu.Unlock()
	moved(1)
	return nil
}

func (r *recorder) count(keyspace string) (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, f := range r.fills {
		if f.Keyspace == keyspace {
			n += len(f.Ranges)
		}
	}
	return n
}

// moving is a node that can be sent rows, with short timeouts.
func moving(t *testing.T, last int, seeds string, r *recorder, more func(*Options)) *Node {
	return testNode(t, last, seeds, func(o *Options) {
		c := o.Config
		c.ReadTimeout, c.RangeTimeout, c.WriteTimeout, c.CASTimeout, c.CounterTimeout = time.Second, time.Second, time.Second, time.Second, time.Second
		o.Filler = func(*Node) movement.Filler { return r }
		if more != nil {
			more(o)
		}
	})
}

func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(90 * time.Second); !holds(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}

// withRow makes a table with a row, so that the cluster is no empty one.
func withRow(t *testing.T, last int) *gocql.Session {
	t.Helper()
	c := gocql.NewCluster(host(last))
	c.Port, c.Timeout, c.ConnectTimeout = 19042, 20*time.Second, 20*time.Second
	s, err := c.CreateSession()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	for _, q := range []string{
		"CREATE KEYSPACE ks WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}",
		"CREATE TABLE ks.t (k int PRIMARY KEY, v int)", "INSERT INTO ks.t (k, v) VALUES (1, 1)",
	} {
		if err := s.Query(q).Exec(); err != nil {
			t.Fatalf("%s: %v", q, err)
		}
	}
	return s
}

// request asks a node's admin interface.
func request(t *testing.T, method string, last int, path string, out any) (status int, text string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, fmt.Sprintf("http://%s:19180%s", host(last), path), nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	if out != nil && res.StatusCode == http.StatusOK {
		if err := json.Unmarshal(raw, out); err != nil {
			t.Fatalf("%s: %v", raw, err)
		}
	}
	return res.StatusCode, string(raw)
}

func (n *Node) peersOf(t *testing.T, s *gocql.Session) (out int) {
	t.Helper()
	it := s.Query("SELECT peer FROM system.peers").Iter()
	out = it.NumRows()
	if err := it.Close(); err != nil {
		t.Fatal(err)
	}
	return out
}

// TestMovementOfNodes: in a cluster with rows a node joins by an operation and serves clients only when it has been filled; another
// takes the place of a dead one; one leaves by decommission and ends.
func TestMovementOfNodes(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for failure detection and for requests to end")
	}
	seeds := host(30)
	r := &recorder{}
	one := moving(t, 30, seeds, r, nil)
	ended1, stop1 := run(one)
	awaitReady(t, one, ended1)
	defer func() { _ = stop1() }()
	session := withRow(t, 30)

	hold := make(chan struct{})
	rec := &recorder{hold: hold}
	two := moving(t, 31, seeds, rec, nil)
	ended2, stop2 := run(two)
	eventually(t, "the operation begins", func() bool { return one.log.Current().Phase() == meta.Filling })
	if n := one.peersOf(t, session); n != 0 {
		t.Errorf("%d peers while one is joining", n)
	}
	select {
	case <-two.Ready():
		t.Error("it serves clients before it has its rows")
	case <-time.After(500 * time.Millisecond):
	}
	var ops Operations
	if status, text := request(t, http.MethodGet, 30, "/api/v1/operations", &ops); status != 200 || len(ops.Operations) != 1 || ops.Operations[0].Kind != "join" || len(ops.WaitsFor) != 1 || ops.WaitsFor[0].HostID != two.home.HostID.String() {
		t.Errorf("%d %s", status, text)
	}
	close(hold)
	awaitReady(t, two, ended2)
	eventually(t, "the movement ends", func() bool { return one.log.Current().Phase() == meta.None })
	s := one.log.Current()
	if s.Node(two.home.HostID).State != meta.Normal || rec.count("ks") == 0 || one.peersOf(t, session) != 1 {
		t.Errorf("%s after %d ranges", s.Node(two.home.HostID).State, rec.count("ks"))
	}

	if status, text := request(t, http.MethodPost, 30, "/api/v1/operations?kind=move&token=5", nil); status != 400 || !strings.Contains(text, "name as many") {
		t.Errorf("one token for a node of several: %d %s", status, text)
	}

	// All or nothing.
	for _, second := range []string{"nonsense", host(31), host(30)} {
		status, text := request(t, http.MethodPost, 30, "/api/v1/operations?kind=decommission&host="+host(30)+"&host="+second, nil)
		if status != 400 || !strings.Contains(text, "nothing has begun: "+second) || one.log.Current().Phase() != meta.None {
			t.Errorf("a decommission of %s beside the other one: %d %s, %s", second, status, text, one.log.Current().Phase())
		}
	}

	// The second dies, and a third one takes its place.
	if status, text := request(t, http.MethodPost, 30, "/api/v1/operations?kind=remove&host="+host(31), nil); status != 400 || !strings.Contains(text, "is alive") {
		t.Errorf("removal of a live node: %d %s", status, text)
	}
	dead := two.home.HostID
	_ = stop2()
	eventually(t, "it is down", func() bool { return !one.alive(dead) })
	rec3 := &recorder{}
	three := moving(t, 32, seeds, rec3, func(o *Options) { o.Replace = host(31) })
	ended3, stop3 := run(three)
	// The log has two voters at most, one of which is dead: whether it can go on depends on who votes, here the founder alone.
	eventually(t, "the replacement is announced", func() bool { return one.log.Current().OperationOn(dead) != nil })
	// Keyspace ks has one replica, which is dead for some ranges: the operation waits, until it is forced.
	eventually(t, "it waits for a replica", func() bool { return strings.Contains(three.mover.Progress().Waits, "are alive") })
	replacing := one.log.Current().Operations[0].ID
	of := fmt.Sprintf("/api/v1/operations?of=%s", url.QueryEscape(fmt.Sprintf(`{"id":%d,"kind":"replace","host_id":"%s"}`, replacing, three.home.HostID)))
	ops = Operations{}
	if status, text := request(t, http.MethodGet, 30, of, &ops); status != 200 || ops.Force != replacing || !slices.Equal(ops.Outcomes, []string{OutcomeUnderWay}) ||
		len(ops.Nodes) != 1 || ops.Nodes[0].HostID != three.home.HostID.String() || !strings.Contains(ops.Nodes[0].Waits, "are alive") {
		t.Errorf("who waits, and what for: %d %s", status, text)
	}
	var preview ForcePreview
	if status, text := request(t, http.MethodGet, 30, fmt.Sprintf("/api/v1/operations/force?id=%d", replacing), &preview); status != 200 || len(preview.Losses) != 1 ||
		preview.Losses[0].Keyspace != "ks" || preview.Losses[0].Gone != preview.Losses[0].Ranges || !slices.Equal(preview.Losses[0].Down, []string{host(31)}) {
		t.Errorf("what forcing it would give up: %d %s", status, text)
	}
	if status, _ := request(t, http.MethodGet, 30, "/api/v1/operations/force?id=1", nil); status != 400 {
		t.Errorf("an operation that is none: %d", status)
	}
	if status, text := request(t, http.MethodDelete, 30, fmt.Sprintf("/api/v1/operations?id=%d", replacing), &ops); status != 200 || len(ops.Operations) != 0 {
		t.Errorf("abort: %d %s", status, text)
	}
	var refused *formation.Refused
	if err := <-ended3; !errors.As(err, &refused) || !strings.Contains(err.Error(), "aborted") {
		t.Errorf("the node whose operation was aborted ended with %v", err)
	}
	ops = Operations{}
	if status, text := request(t, http.MethodGet, 30, of, &ops); status != 200 || !slices.Equal(ops.Outcomes, []string{OutcomeAborted}) {
		t.Errorf("the outcome of what was aborted: %d %s", status, text)
	}
	ended3 <- nil
	_ = stop3()
	if status, text := request(t, http.MethodPost, 30, "/api/v1/operations?kind=remove&force=true&host="+dead.String(), nil); status != 200 {
		t.Errorf("removal: %d %s", status, text)
	}
	eventually(t, "the dead node has left", func() bool { return one.log.Current().Node(dead).State == meta.Left })
	if own := one.log.Current().Ring.Nodes(); len(own) != 1 {
		t.Errorf("%d nodes own ranges", len(own))
	}

	// A fourth joins and leaves again by its own command.
	four := moving(t, 33, seeds, &recorder{}, nil)
	ended4, _ := run(four)
	awaitReady(t, four, ended4)
	eventually(t, "it has joined", func() bool { return one.log.Current().Phase() == meta.None })
	ops = Operations{}
	if status, text := request(t, http.MethodPost, 33, "/api/v1/operations?kind=decommission", &ops); status != 200 || len(ops.Started) != 1 {
		t.Errorf("decommission: %d %s", status, text)
	}
	told, err := json.Marshal(ops.Started[0])
	if err != nil {
		t.Fatal(err)
	}
	// It says itself that it has left, before it ends, to who asks all the time.
	eventually(t, "it has left", func() bool {
		var s Operations
		status, text := request(t, http.MethodGet, 33, "/api/v1/operations?of="+url.QueryEscape(string(told)), &s)
		if status != 200 || len(s.Outcomes) != 1 || s.Outcomes[0] == OutcomeAborted {
			t.Fatalf("%d %s", status, text)
		}
		return s.Outcomes[0] == OutcomeDone
	})
	if err := <-ended4; err != nil || !four.Left() {
		t.Errorf("it ended with %v", err)
	}
	if n := one.log.Current().Node(four.home.HostID); n.State != meta.Left || one.peersOf(t, session) != 0 {
		t.Errorf("it is %s", n.State)
	}
	if raiseWarns(t, session) {
		t.Error("a new replica is sent its rows, and yet the client is told to repair")
	}
}

// raiseWarns raises a replication factor and tells whether the client is told to repair.
func raiseWarns(t *testing.T, s *gocql.Session) bool {
	t.Helper()
	i := s.Query("ALTER KEYSPACE ks WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 2}").Iter()
	warnings := i.Warnings()
	if err := i.Close(); err != nil {
		t.Fatal(err)
	}
	return slices.Contains(warnings, schema.RepairWarning)
}

// TestOperationsWithoutFiller: where nothing brings rows, operations are refused and ALTER KEYSPACE is in force at once.
func TestOperationsWithoutFiller(t *testing.T) {
	n := testNode(t, 35, host(35), nil)
	ended, stop := run(n)
	awaitReady(t, n, ended)
	defer func() { _ = stop() }()
	for _, query := range []string{"kind=decommission", "kind=nosuch", ""} {
		if status, text := request(t, http.MethodPost, 35, "/api/v1/operations?"+query, nil); status != 400 {
			t.Errorf("%s: %d %s", query, status, text)
		}
	}
	var none Operations
	if status, _ := request(t, http.MethodGet, 35, "/api/v1/operations", &none); status != 200 || none.Phase != "none" || len(none.Operations) != 0 {
		t.Errorf("%d %+v", status, none)
	}
	var r RebalanceStatus
	if status, _ := request(t, http.MethodGet, 35, "/api/v1/rebalance", &r); status != 200 || len(r.Moves) != 0 {
		t.Errorf("%d %+v", status, r)
	}
	if !raiseWarns(t, withRow(t, 35)) {
		t.Error("nobody is told that repair is needed")
	}
}

// TestFind: members are named by host id or address.
func TestFind(t *testing.T) {
	_, s := quietStates(t)
	for name, want := range map[string]byte{ring.HostID{1}.String(): 1, addrOf(2, 7000).Addr().String(): 2, addrOf(2, 9042).String(): 2, addrOf(1, 1).String(): 0, "nonsense": 0, ring.HostID{9}.String(): 0} {
		id, err := find(s, name, ring.HostID{})
		if (err == nil) != (want != 0) || id != (ring.HostID{want}) {
			t.Errorf("%s: %s, %v", name, id, err)
		}
	}
	if _, err := find(s, ring.HostID{1}.String(), ring.HostID{1}); err == nil {
		t.Error("it found itself")
	}
	// Of the dead node and an earlier attempt to replace it, at one address, the dead one is meant.
	both := &meta.State{Nodes: slices.Clone(s.Nodes)}
	both.Nodes[1].Internode = both.Nodes[0].Internode
	if both.Nodes[1].State != meta.Pending {
		t.Fatal("the second is not joining")
	}
	name := both.Nodes[0].Internode.Addr().String()
	if id, err := find(both, name, ring.HostID{9}); err != nil || id != both.Nodes[0].ID {
		t.Errorf("whom to replace: %s, %v", id, err)
	}
	if _, err := find(both, name, ring.HostID{}); err == nil {
		t.Error("two members have the address")
	}
}
