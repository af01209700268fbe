package system

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/helenusdb/helenus/cql/protocol"
	"github.com/helenusdb/helenus/cql/server"
	"github.com/helenusdb/helenus/cql/types"
	"github.com/helenusdb/helenus/meta"
	"github.com/helenusdb/helenus/ring"
	"github.com/helenusdb/helenus/row"
	"github.com/helenusdb/helenus/schema"
)

func newTables(t *testing.T, o Options) *Tables {
	t.Helper()
	state := meta.Empty()
	if o.Current == nil {
		o.Current = func() *meta.State { return state }
	}
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// rowsOf reads the whole answer to a command in pages of limit rows and returns key and clustering of each row.
func readAll(t *testing.T, s *Tables, table *schema.Table, cmd row.Command, limit int) (out []string) {
	t.Helper()
	cmd.Limit = limit
	for range 10_000 {
		var page row.Page
		if err := s.Read(table, &cmd, &page); err != nil {
			t.Fatal(err)
		}
		if limit > 0 && page.Rows > limit {
			t.Fatalf("%d rows with a limit of %d", page.Rows, limit)
		}
		var r row.PageReader
		r.Init(page.Data)
		for r.Next() {
			var f row.FragmentReader
			if err := f.Init(r.Fragment); err != nil {
				t.Fatal(err)
			}
			for f.NextRow() {
				out = append(out, fmt.Sprintf("%x/%x", r.Key, f.Ckey))
			}
			if f.Err() != nil {
				t.Fatal(f.Err())
			}
		}
		if r.Err() != nil {
			t.Fatal(r.Err())
		}
		if !page.More {
			return out
		}
		cut := page.Cut
		cut.Key, cut.Clustering = bytes.Clone(cut.Key), bytes.Clone(cut.Clustering)
		cmd.From = &cut
	}
	t.Fatal("pages without end")
	return nil
}

// Reads of the schema tables against the plain list of their rows: whole, in pages of any size, of one partition, of
// slices, in both directions.
func TestReadModel(t *testing.T) {
	s := newTables(t, Options{})
	catalog := s.o.Current().Catalog
	rnd := rand.New(rand.NewPCG(3, 4))
	for _, name := range []tableName{{"system_schema", "columns"}, {"system_schema", "tables"}, {"system_schema", "keyspaces"},
		{"system_virtual_schema", "columns"}, {"system_virtual_schema", "tables"}, {"system_schema", "types"}} {
		table, _ := catalog.Table(name.keyspace, name.name)
		full := row.Command{Range: &ring.Range{Start: math.MinInt64, End: math.MinInt64}, Now: 1}
		want := readAll(t, s, table, full, 0)
		var rows int
		var last partition
		for i, p := range s.partitions(table) {
			rows += len(p.rows)
			if i > 0 && compare(table, last.token, last.key, p.token, p.key) >= 0 {
				t.Errorf("%v: partitions out of order", name)
			}
			last = p
		}
		if len(want) != rows {
			t.Fatalf("%v: %d rows of %d", name, len(want), rows)
		}
		for _, limit := range []int{1, 2, 7, 1000} {
			if got := readAll(t, s, table, full, limit); fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("%v in pages of %d: %d rows, want %d", name, limit, len(got), len(want))
			}
		}
		for range 50 {
			onePartition(t, s, table, rnd)
		}
	}
}

func onePartition(t *testing.T, s *Tables, table *schema.Table, rnd *rand.Rand) {
	t.Helper()
	parts := s.partitions(table)
	if len(parts) == 0 {
		return
	}
	p := parts[rnd.IntN(len(parts))]
	cmd := row.Command{Token: p.token, Key: p.key, Now: 1, Reverse: rnd.IntN(2) == 0}
	a, b := rnd.IntN(len(p.rows)), rnd.IntN(len(p.rows))
	lo, hi := p.rows[min(a, b)].ckey, p.rows[max(a, b)].ckey
	sliced := rnd.IntN(2) == 0 && len(lo) > 0
	if sliced {
		cmd.Slices = []row.Slice{{Start: lo, End: hi}}
	}
	var want []string
	for i := range p.rows {
		r := p.rows[i]
		if cmd.Reverse {
			r = p.rows[len(p.rows)-1-i]
		}
		if !sliced || bytes.Compare(r.ckey, lo) >= 0 && bytes.Compare(r.ckey, hi) < 0 {
			want = append(want, fmt.Sprintf("%x/%x", p.key, r.ckey))
		}
	}
	if sliced && bytes.Equal(lo, hi) {
		return // no interval
	}
	if got := readAll(t, s, table, cmd, 1+rnd.IntN(5)); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%s %x reverse %v: %d rows, want %d", table.Name, p.key, cmd.Reverse, len(got), len(want))
	}
}

// A key that is not there, and tables that nothing fills, are empty.
func TestReadNothing(t *testing.T) {
	s := newTables(t, Options{})
	for _, k := range s.o.Current().Catalog.Keyspaces() {
		for _, table := range k.Tables() {
			if !table.Virtual {
				continue
			}
			full := row.Command{Range: &ring.Range{Start: math.MinInt64, End: math.MinInt64}, Now: 1}
			var page row.Page
			if err := s.Read(table, &full, &page); err != nil {
				t.Errorf("%s.%s: %v", k.Name, table.Name, err)
			}
			none := row.Command{Token: 5, Key: []byte("nosuch"), Now: 1}
			if got := readAll(t, s, table, none, 0); len(got) != 0 {
				t.Errorf("%s.%s: %v", k.Name, table.Name, got)
			}
		}
	}
}

// The schema tables are computed once for each catalog.
func TestCatalogRowsAreCached(t *testing.T) {
	s := newTables(t, Options{})
	table, _ := s.o.Current().Catalog.Table("system_schema", "columns")
	first, second := s.partitions(table), s.partitions(table)
	if &first[0] != &second[0] {
		t.Error("computed again")
	}
	next, err := s.o.Current().Catalog.Apply(nil)
	if err != nil {
		t.Fatal(err)
	}
	state := *s.o.Current()
	state.Catalog = next
	s.o.Current = func() *meta.State { return &state }
	if third := s.partitions(table); &third[0] == &first[0] {
		t.Error("an old catalog's rows")
	}
}

func TestClientsAndSettings(t *testing.T) {
	conns := []server.ConnState{
		{Info: server.ConnInfo{Remote: netip.MustParseAddrPort("10.0.0.1:555"), Version: 5, User: "anonymous", DriverName: "d", DriverVersion: "1",
			Options: []protocol.StringPair{{Key: "B", Value: "2"}, {Key: "A", Value: "1"}, {Key: "B", Value: "3"}}}, Stage: protocol.StageReady, Requests: 7},
		{Info: server.ConnInfo{Remote: netip.MustParseAddrPort("[::1]:556")}},
	}
	s := newTables(t, Options{Clients: func() []server.ConnState { return conns }, Settings: func() []Setting { return []Setting{{"a", "1"}, {"b", ""}} },
		Prepared: func(fn func([16]byte, string, string)) { fn([16]byte{1}, "", "SELECT"); fn([16]byte{2}, "ks", "USE") }})
	for name, want := range map[tableName]int{{"system_views", "clients"}: 2, {"system_views", "settings"}: 2, {"system", "prepared_statements"}: 2} {
		table, _ := s.o.Current().Catalog.Table(name.keyspace, name.name)
		if got := readAll(t, s, table, row.Command{Range: &ring.Range{Start: math.MinInt64, End: math.MinInt64}, Now: 1}, 0); len(got) != want {
			t.Errorf("%v: %v", name, got)
		}
	}
	m := types.MapOf(types.Text, types.Text, true)
	if got := string(m.AppendText(nil, options(conns[0].Info.Options))); got != "{'A': '1', 'B': '3'}" {
		t.Errorf("options: %s", got)
	}
	for _, r := range s.clients() {
		for column, v := range r {
			if c := s.column("clients", column); c == nil || v == nil || c.Type.Validate(v) != nil {
				t.Errorf("clients.%s: %x", column, v)
			}
		}
	}
	for column, v := range s.local(s.o.Current()) {
		table, _ := s.o.Current().Catalog.Table("system", "local")
		c := table.Column(column)
		if c == nil || v != nil && c.Type.Validate(v) != nil {
			t.Errorf("local.%s: %x", column, v)
		}
	}
}

func (s *Tables) column(table, name string) *schema.Column {
	t, _ := s.o.Current().Catalog.Table("system_views", table)
	return t.Column(name)
}
