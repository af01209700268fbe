package node

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	gocql "github.com/apache/cassandra-gocql-driver/v2"

	"github.com/helenusdb/helenus/admin"
	"github.com/helenusdb/helenus/storage"
)

// diskNodes starts nodes on disk, on host(first), host(first+1), ..., each in a folder of its own, and stops them at the end.
func diskNodes(t *testing.T, dir string, first, count int) []*Node {
	t.Helper()
	var out []*Node
	for i := range count {
		n := testNode(t, first+i, host(first), func(o *Options) {
			o.FS, o.Config.DataDir, o.Config.CommitSync = storage.Disk(), filepath.Join(dir, fmt.Sprint(first+i)), "periodic"
		})
		ended, stop := run(n)
		awaitReady(t, n, ended)
		t.Cleanup(func() {
			if err := stop(); err != nil {
				t.Error(err)
			}
		})
		out = append(out, n)
	}
	return out
}

// pinned are the settings of a client that knows one node only. An event would have it look for all of them, ask those too, and close the connections that it has.
func pinned(host string, port int) *gocql.ClusterConfig {
	c := gocql.NewCluster(host)
	c.Port, c.Timeout, c.ConnectTimeout, c.DisableInitialHostLookup = port, 20*time.Second, 20*time.Second, true
	c.Events.DisableTopologyEvents, c.Events.DisableNodeStatusEvents = true, true
	return c
}

func session(t *testing.T, n *Node) *gocql.Session {
	t.Helper()
	c := pinned(n.self.Native.Addr().String(), int(n.self.Native.Port()))
	c.Consistency, c.ProtoVersion = gocql.All, 4
	s, err := c.CreateSession()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func cqlDo(t *testing.T, s *gocql.Session, statements ...string) {
	t.Helper()
	for _, q := range statements {
		if err := s.Query(q).Exec(); err != nil {
			t.Fatalf("%s: %v", q, err)
		}
	}
}

// shown is what a query answers, sorted; a ttl column is shown as whether there is one.
func shown(t *testing.T, s *gocql.Session, q string) []string {
	t.Helper()
	rows, err := s.Query(q).Iter().SliceMap()
	if err != nil {
		t.Fatalf("%s: %v", q, err)
	}
	var out []string
	for _, r := range rows {
		if ttl, ok := r["ttl(v)"]; ok {
			left := ttl.(int)
			r["ttl(v)"] = left > 0 && left <= 5000
		}
		raw, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, string(raw))
	}
	slices.Sort(out)
	return out
}

// command carries out an endpoint of a node.
func command(t *testing.T, n *Node, path string, args url.Values) ([]NodeAnswer, error) {
	t.Helper()
	for _, e := range n.endpoints() {
		if e.Path == path {
			v, err := e.Do(context.Background(), args)
			if err != nil {
				return nil, err
			}
			return v.([]NodeAnswer), nil
		}
	}
	t.Fatalf("no endpoint %s", path)
	return nil, nil
}

func mustCommand(t *testing.T, n *Node, path string, args url.Values) []NodeAnswer {
	t.Helper()
	answers, err := command(t, n, path, args)
	for _, a := range answers {
		if a.Error != "" {
			t.Errorf("%s on %s: %s", path, a.Address, a.Error)
		}
	}
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return answers
}

var shopRows = []string{
	"CREATE KEYSPACE shop WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 2}",
	"CREATE TYPE shop.address (street text, zip int)",
	"CREATE TABLE shop.orders (p int, c int, old text, v text, tags set<text>, a frozen<address>, s text static, PRIMARY KEY (p, c)) WITH CLUSTERING ORDER BY (c DESC)",
	"ALTER TABLE shop.orders DROP old",
	"ALTER TABLE shop.orders ADD late text",
	"CREATE TABLE shop.hits (p text PRIMARY KEY, n counter)",
	"CREATE TABLE shop.other (p int PRIMARY KEY)",
	"INSERT INTO shop.other (p) VALUES (1)",
}

func fill(t *testing.T, s *gocql.Session) {
	cqlDo(t, s, shopRows...)
	for i := range 200 {
		cqlDo(t, s, fmt.Sprintf("INSERT INTO shop.orders (p, c, v, tags, a, s, late) VALUES (%d, %d, 'v%d', {'x', 'y%d'}, {street: 'High', zip: %d}, 's%d', 'l') USING TIMESTAMP %d",
			i%40, i, i, i, i, i, 1000+i))
	}
	cqlDo(t, s, "UPDATE shop.orders USING TIMESTAMP 5000 AND TTL 5000 SET v = 'expires' WHERE p = 1 AND c = 1",
		"DELETE FROM shop.orders USING TIMESTAMP 6000 WHERE p = 2", "DELETE FROM shop.orders USING TIMESTAMP 6000 WHERE p = 3 AND c > 40",
		"DELETE FROM shop.orders USING TIMESTAMP 6000 WHERE p = 4 AND c = 4", "DELETE v FROM shop.orders USING TIMESTAMP 6000 WHERE p = 5 AND c = 5",
		"DELETE tags['x'] FROM shop.orders USING TIMESTAMP 6000 WHERE p = 6 AND c = 6",
		"UPDATE shop.hits SET n = n + 7 WHERE p = 'a'", "UPDATE shop.hits SET n = n + 5 WHERE p = 'a'")
}

const everything = "SELECT p, c, v, tags, a, s, late, WRITETIME(v), TTL(v) FROM shop.orders"

// buried is what must stay deleted: writes older than the deletions that were restored.
func buried(t *testing.T, s *gocql.Session) {
	t.Helper()
	before := shown(t, s, everything)
	cqlDo(t, s, "INSERT INTO shop.orders (p, c, v) VALUES (2, 2, 'ghost') USING TIMESTAMP 5999", "INSERT INTO shop.orders (p, c, v) VALUES (3, 77, 'ghost') USING TIMESTAMP 5999",
		"INSERT INTO shop.orders (p, c, v) VALUES (4, 4, 'ghost') USING TIMESTAMP 5999", "UPDATE shop.orders USING TIMESTAMP 5999 SET v = 'ghost' WHERE p = 5 AND c = 5",
		"UPDATE shop.orders USING TIMESTAMP 5999 SET tags = tags + {'x'} WHERE p = 6 AND c = 6")
	if after := shown(t, s, everything); !slices.Equal(before, after) {
		t.Errorf("a deletion was not restored: %d rows, then %d", len(before), len(after))
	}
}

// TestRestoreIntoAnotherCluster: the snapshots of three nodes, written into a cluster of two, give the same rows with the same timestamps,
// expiries, counters and deletions, with the schema that comes with them.
func TestRestoreIntoAnotherCluster(t *testing.T) {
	dir := t.TempDir()
	three := diskNodes(t, dir, 20, 3)
	s := session(t, three[0])
	fill(t, s)
	want, counters := shown(t, s, everything), shown(t, s, "SELECT * FROM shop.hits")
	if a := mustCommand(t, three[1], "snapshot", url.Values{"cluster": {"true"}, "tag": {"one"}, "table": {"shop"}}); len(a) != 3 {
		t.Fatalf("%d nodes took a snapshot", len(a))
	}
	cqlDo(t, s, "INSERT INTO shop.orders (p, c, v) VALUES (1000, 1, 'after')")
	if len(want) < 150 {
		t.Fatalf("only %d rows", len(want))
	}
	two := diskNodes(t, dir, 30, 2)
	for i, from := range three {
		into := two[i%2]
		path := filepath.Join(from.o.Config.DataDir, storage.SnapshotsDir, "one")
		if a := mustCommand(t, into, "restore", url.Values{"path": {path}, "table": {"shop.orders", "shop.hits"}}); len(a) != 1 || !strings.Contains(string(a[0].Value), `"shop"`) {
			t.Errorf("restore says %s", a[0].Value)
		}
	}
	r := session(t, two[1])
	if got := shown(t, r, everything); !slices.Equal(got, want) {
		t.Errorf("%d rows were restored, %d were there:\n%s\nwant\n%s", len(got), len(want), strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if got := shown(t, r, "SELECT * FROM shop.hits"); !slices.Equal(got, counters) {
		t.Errorf("counters %v, want %v", got, counters)
	}
	if _, ok := two[0].log.Current().Catalog.Table("shop", "other"); ok {
		t.Error("a table that was not asked for was made")
	}
	buried(t, r)
	if _, err := command(t, two[0], "restore", url.Values{"path": {filepath.Join(dir, "nothing")}}); err == nil {
		t.Error("a snapshot that does not exist is restored")
	}
}

// TestAutomaticSnapshots: DROP and TRUNCATE leave a snapshot on every node, from which what was there comes back.
func TestAutomaticSnapshots(t *testing.T) {
	nodes := diskNodes(t, t.TempDir(), 40, 2)
	s := session(t, nodes[0])
	fill(t, s)
	want, counters := shown(t, s, everything), shown(t, s, "SELECT * FROM shop.hits")
	restoreAll := func(why, table string) {
		t.Helper()
		tags := make([]string, len(nodes))
		for i, n := range nodes {
			for end := time.Now().Add(20 * time.Second); tags[i] == ""; time.Sleep(5 * time.Millisecond) {
				list, err := n.snapshots.List()
				if err != nil {
					t.Fatal(err)
				}
				for _, m := range list {
					if m.Automatic && strings.HasPrefix(m.Tag, why+"-") && strings.HasSuffix(m.Tag, "-"+table) {
						tags[i] = m.Tag
					}
				}
				if time.Now().After(end) {
					t.Fatalf("node %d has no snapshot %s-...-%s", i, why, table)
				}
			}
		}
		if tags[0] != tags[1] {
			t.Errorf("the snapshots have different names: %v", tags)
		}
		mustCommand(t, nodes[0], "restore", url.Values{"cluster": {"true"}, "tag": {tags[0]}})
	}
	cqlDo(t, s, "TRUNCATE shop.orders")
	if got := shown(t, s, everything); len(got) != 0 {
		t.Fatalf("%d rows after TRUNCATE", len(got))
	}
	restoreAll("truncated", "orders")
	if got := shown(t, s, everything); !slices.Equal(got, want) {
		t.Errorf("%d rows after TRUNCATE and restore, want %d", len(got), len(want))
	}
	cqlDo(t, s, "DROP TABLE shop.orders", "DROP KEYSPACE shop")
	restoreAll("dropped", "orders")
	restoreAll("dropped", "hits")
	if got := shown(t, s, everything); !slices.Equal(got, want) {
		t.Errorf("%d rows after DROP and restore, want %d", len(got), len(want))
	}
	if got := shown(t, s, "SELECT * FROM shop.hits"); !slices.Equal(got, counters) {
		t.Errorf("counters %v, want %v", got, counters)
	}
	buried(t, s)
}

// TestRestoreRefuses: a table that is not what it was is named, and nothing is written.
func TestRestoreRefuses(t *testing.T) {
	n := diskNodes(t, t.TempDir(), 50, 1)[0]
	s := session(t, n)
	cqlDo(t, s, "CREATE KEYSPACE shop WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}", "CREATE TABLE shop.t (p int PRIMARY KEY, v text)",
		"INSERT INTO shop.t (p, v) VALUES (1, 'x')")
	mustCommand(t, n, "snapshot", url.Values{"tag": {"one"}})
	for _, c := range []struct {
		path string
		args url.Values
		want string
	}{
		{"snapshot", url.Values{"tag": {"one"}}, "Snapshot one already exists."},
		{"snapshot", url.Values{"tag": {"x"}, "table": {"nosuch"}}, "Keyspace nosuch does not exist"},
		{"snapshot", url.Values{"tag": {"../x"}}, "the name of a snapshot"},
		{"snapshot", url.Values{"tag": {"x"}, "ttl": {"soon"}}, "ttl"},
		{"clearsnapshot", url.Values{}, "Specify snapshot name or --all"},
		{"restore", url.Values{}, "Specify either"},
		{"restore", url.Values{"tag": {"nosuch"}}, "no such snapshot"},
		{"restore", url.Values{"tag": {"one"}, "table": {"shop.nosuch"}}, "holds no such table"},
		{"restore", url.Values{"tag": {"one"}, "consistency": {"SOME"}}, "consistency"},
	} {
		if _, err := command(t, n, c.path, c.args); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s %v: %v, want %q", c.path, c.args, err, c.want)
		}
	}
	cqlDo(t, s, "DROP TABLE shop.t", "CREATE TABLE shop.t (p int PRIMARY KEY, v int)")
	if _, err := command(t, n, "restore", url.Values{"tag": {"one"}}); err == nil || !strings.Contains(err.Error(), "Column v of shop.t is not what it was") {
		t.Errorf("another table of that name: %v", err)
	}
	cqlDo(t, s, "DROP TABLE shop.t")
	mustCommand(t, n, "restore", url.Values{"tag": {"one"}})
	if got := shown(t, s, "SELECT * FROM shop.t"); len(got) != 1 {
		t.Errorf("rows: %v", got)
	}
	mustCommand(t, n, "clearsnapshot", url.Values{"all": {"true"}, "cluster": {"true"}})
}

// TestOperatorCommands: every command that looks answers for a node with a table, and figures are those of what was done.
func TestOperatorCommands(t *testing.T) {
	n := diskNodes(t, t.TempDir(), 55, 1)[0]
	s := session(t, n)
	cqlDo(t, s, "CREATE KEYSPACE shop WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}", "CREATE TABLE shop.t (p int PRIMARY KEY, v text)")
	for i := range 40 {
		cqlDo(t, s, fmt.Sprintf("INSERT INTO shop.t (p, v) VALUES (%d, 'x')", i))
	}
	shown(t, s, "SELECT * FROM shop.t WHERE p = 7")
	ask := func(path string, args url.Values, v any) {
		t.Helper()
		for _, e := range n.endpoints() {
			if e.Path != path {
				continue
			}
			got, err := e.Do(context.Background(), args)
			if err != nil {
				t.Fatalf("%s: %v", path, err)
			}
			raw, err := json.Marshal(got)
			if err == nil {
				err = json.Unmarshal(raw, v)
			}
			if err != nil {
				t.Fatalf("%s: %v", path, err)
			}
			return
		}
		t.Fatalf("no command %s", path)
	}
	table := url.Values{"keyspace": {"shop"}, "table": {"t"}}
	ask("flush", url.Values{"table": {"shop"}}, &struct{}{})
	ask("compact", url.Values{"table": {"shop.t"}}, &struct{}{})
	var stats []TableStats
	if ask("tablestats", url.Values{"table": {"shop.t"}}, &stats); len(stats) != 1 || stats[0].Writes != 40 || stats[0].Reads != 1 || stats[0].Partitions != 40 || stats[0].Files != 1 ||
		stats[0].Space == 0 || stats[0].Sampled != 40 || stats[0].MeanCells != 1 {
		t.Errorf("tablestats: %+v", stats)
	}
	var h TableHistograms
	if ask("tablehistograms", table, &h); h.Write.Count == 0 || h.Write.Max <= 0 || h.Partitions.Min <= 0 || h.Cells.Max != 1 {
		t.Errorf("tablehistograms: %+v", h)
	}
	var p ProxyHistograms
	if ask("proxyhistograms", nil, &p); p.Write.Count != 40 || p.Read.Count != 1 || p.Write.P99 <= 0 || p.Range.Count != 0 {
		t.Errorf("proxyhistograms: %+v", p)
	}
	var info Info
	if ask("info", nil, &info); info.ID != n.home.HostID.String() || !info.NativeActive || len(info.Tokens) != 16 || info.State != "normal" || info.HeapUsed == 0 {
		t.Errorf("info: %+v", info)
	}
	var r Ring
	if ask("ring", url.Values{"keyspace": {"shop"}}, &r); !r.Effective || len(r.Tokens) != 16 || r.Tokens[0].Owns != 1 || !r.Tokens[0].Up {
		t.Errorf("ring: %+v", r)
	}
	var d DescribeRing
	if ask("describering", url.Values{"keyspace": {"shop"}}, &d); len(d.Ranges) != 16 || len(d.Ranges[0].Endpoints) != 1 || d.Ranges[0].Endpoints[0].Host != host(55) {
		t.Errorf("describering: %+v", d)
	}
	var e EndpointsOf
	if ask("getendpoints", url.Values{"keyspace": {"shop"}, "table": {"t"}, "key": {"7"}}, &e); len(e.Endpoints) != 1 || e.Token != "1634052884888577606" {
		t.Errorf("getendpoints: %+v", e)
	}
	var c DescribeCluster
	if ask("describecluster", nil, &c); c.Live != 1 || c.Unreachable != 0 || len(c.Schemas) != 1 || len(c.DCs) != 1 {
		t.Errorf("describecluster: %+v", c)
	}
	var pools PoolStats
	if ask("tpstats", nil, &pools); len(pools.Pools) < 5 || len(pools.Dropped) != 3 {
		t.Errorf("tpstats: %+v", pools)
	}
	var compaction CompactionStats
	if ask("compactionstats", nil, &compaction); compaction.Completed == 0 {
		t.Errorf("compactionstats: %+v", compaction)
	}
	var net NetStats
	if ask("netstats", nil, &net); net.Mode != "NORMAL" || len(net.Pools) != 3 {
		t.Errorf("netstats: %+v", net)
	}
	var gossip []GossipNode
	if ask("gossipinfo", nil, &gossip); len(gossip) != 1 || !gossip[0].Alive || gossip[0].HostID != info.ID {
		t.Errorf("gossipinfo: %+v", gossip)
	}
	byName := map[string]admin.Sample{}
	for _, m := range n.tableMetrics() {
		byName[m.Name+" "+strings.Join(m.Values, ".")] = m
	}
	if m := byName["helenus_table_writes_total shop.t"]; m.Value != 40 {
		t.Errorf("/metrics: %+v", m)
	}
	if m := byName["helenus_table_client_write_seconds shop.t"]; m.Count != 40 || m.Sum <= 0 || m.Buckets[latencyBounds[len(latencyBounds)-1].Seconds()] == 0 {
		t.Errorf("/metrics: %+v", m)
	}
}
