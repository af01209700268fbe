package node

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	gocql "github.com/apache/cassandra-gocql-driver/v2"

	"github.com/helenusdb/helenus/meta"
	"github.com/helenusdb/helenus/ring"
)

// rebuild asks a node for one and returns the last line of the answer, or what is wrong with the request.
func (c *trio) rebuild(first, i int, q RepairRequest) (p RepairProgress, refused string) {
	c.t.Helper()
	body, err := json.Marshal(q)
	if err != nil {
		c.t.Fatal(err)
	}
	res, err := http.Post(fmt.Sprintf("http://%s:19180%s", host(first+i), RepairPath), "application/json", bytes.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(res.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	if res.StatusCode != http.StatusOK {
		return p, string(raw)
	}
	lines := strings.Split(strings.TrimSpace(string(raw)), "\n")
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &p); err != nil || !p.Finished || p.Error != "" {
		c.t.Fatalf("%s: %v", raw, err)
	}
	return p, ""
}

// TestAnotherDataCentre: a node of a second data centre joins with no replicas; ALTER KEYSPACE fills it, with nothing to be rebuilt; when its rows are lost, a rebuild from the
// first data centre brings them back, each once, and changes nothing there.
func TestAnotherDataCentre(t *testing.T) {
	const first, rows = 220, 200
	c := newTrioWith(t, first, func(i int, o *Options) {
		filled(o, nil)
		if i == 2 {
			o.Config.DataCenter = "far"
		}
	})
	dial := func(i int) *gocql.Session {
		t.Helper()
		g := pinned(host(first+i), 19042)
		g.Consistency = gocql.LocalOne
		s, err := g.CreateSession()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(s.Close)
		return s
	}
	near, far := dial(0), dial(2)
	must := func(s *gocql.Session, query string, args ...any) {
		t.Helper()
		if err := s.Query(query, args...).Exec(); err != nil {
			t.Fatalf("%s: %v", query, err)
		}
	}
	must(near, "CREATE KEYSPACE geo WITH replication = {'class': 'NetworkTopologyStrategy', 'datacenter1': 2}")
	must(near, "CREATE TABLE geo.t (k int PRIMARY KEY, v text)")
	for k := range rows {
		must(near, "INSERT INTO geo.t (k, v) VALUES (?, ?)", k, strings.Repeat("v", 100))
	}
	must(near, "DELETE FROM geo.t WHERE k = 0")
	table, _ := c.nodes[2].log.Current().Catalog.Table("geo", "t")
	if _, refused := c.rebuild(first, 2, RepairRequest{Rebuild: "datacenter1", Keyspace: "geo"}); refused != "" {
		t.Errorf("a rebuild of nothing: %s", refused)
	}
	must(near, "ALTER KEYSPACE geo WITH replication = {'class': 'NetworkTopologyStrategy', 'datacenter1': 2, 'far': 1}")
	c.await("it is filled", func() bool { return c.nodes[0].log.Current().Phase() == meta.None })
	count := func() (n int) {
		t.Helper()
		if err := far.Query("SELECT count(*) FROM geo.t").Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	c.await("the node in the new data centre knows", func() bool { return c.nodes[2].log.Current().Phase() == meta.None })
	if n := count(); n != rows-1 {
		t.Errorf("%d rows in the new data centre after ALTER KEYSPACE", n)
	}
	if p, refused := c.rebuild(first, 2, RepairRequest{Rebuild: "datacenter1", Keyspace: "geo"}); refused != "" || p.Tables[0].RangesDifferent != 0 {
		t.Errorf("what ALTER KEYSPACE left to a rebuild: %+v %s", p, refused)
	}

	if _, err := c.nodes[2].engine.ClearRanges(table.Generation, []ring.Range{ring.FullRange()}, func() bool { return true }); err != nil {
		t.Fatal(err)
	}
	if n := count(); n != 0 {
		t.Fatalf("%d rows are not lost", n)
	}
	must(far, "INSERT INTO geo.t (k, v) VALUES (?, ?)", rows, "written since")
	if p, refused := c.rebuild(first, 2, RepairRequest{Rebuild: "datacenter1", Keyspace: "geo", Preview: true}); refused != "" || count() != 1 || p.Tables[0].RangesDifferent == 0 {
		t.Errorf("a preview: %+v %s", p, refused)
	}
	p, refused := c.rebuild(first, 2, RepairRequest{Rebuild: "datacenter1", Keyspace: "geo", Tables: []string{"t"}})
	if refused != "" || len(p.Tables) != 1 || p.Tables[0].RangesFailed != 0 {
		t.Fatalf("rebuild: %+v %s", p, refused)
	}
	for _, peer := range p.Tables[0].Peers {
		if self := peer.HostID == c.nodes[2].home.HostID.String(); self && peer.Rows+peer.Deletions != rows || !self && peer.Rows+peer.Deletions != 0 {
			t.Errorf("%s was given %d rows and %d deletions", peer.Address, peer.Rows, peer.Deletions)
		}
	}
	if n := count(); n != rows {
		t.Errorf("%d rows after the rebuild", n)
	}

	for want, q := range map[string]RepairRequest{
		`data centre \"nowhere\" does not exist`: {Rebuild: "nowhere", Keyspace: "geo"},
		"has no replica of":                      {Rebuild: "far", Keyspace: "geo"},
		"excludes primary, hosts and dcs":        {Rebuild: "far", Primary: true},
	} {
		if _, refused := c.rebuild(first, 2, q); !strings.Contains(refused, strings.ReplaceAll(want, `\`, "")) {
			t.Errorf("%+v: %q, want %q", q, refused, want)
		}
	}
}
