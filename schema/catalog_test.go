package schema_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/helenusdb/helenus/cql"
	"github.com/helenusdb/helenus/cql/types"
	"github.com/helenusdb/helenus/schema"
)

func mustParse(t testing.TB, statement string) cql.Statement {
	t.Helper()
	stmt, err := cql.Parse(statement)
	if err != nil {
		t.Fatal(statement, err)
	}
	return stmt
}

// ddl runs statements, one a line, and fails on errors.
func (m *machine) ddl(lines string) *machine {
	m.t.Helper()
	for line := range strings.SplitSeq(lines, "\n") {
		if out := m.run(strings.TrimSpace(line)); strings.HasPrefix(out[len(out)-1], "error") {
			m.t.Fatal(line, out)
		}
	}
	return m
}

func (m *machine) table(ks, name string) *schema.Table {
	m.t.Helper()
	t, ok := m.catalog.Table(ks, name)
	if !ok {
		m.t.Fatalf("no table %s.%s", ks, name)
	}
	return t
}

const ksDDL = "CREATE KEYSPACE ks WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}\n"

// TestColumnIDsAreNeverReused: see docs/testing.md.
//
// Scenarios: TestScenario_S4.
func TestColumnIDsAreNeverReused(t *testing.T) {
	m := newMachine(t).ddl(ksDDL + "CREATE TABLE ks.t (k int, c int, s int STATIC, v int, PRIMARY KEY (k, c))")
	v := m.table("ks", "t").Column("v").ID
	if old := m.table("ks", "t"); old.NextColumn != 5 || old.ColumnByID(v).Name != "v" {
		t.Fatal("ids do not start at 1 in the order of the columns")
	}
	m.ddl("ALTER TABLE ks.t DROP v\nALTER TABLE ks.t ADD v int")
	again := m.table("ks", "t")
	if again.Column("v").ID == v || again.ColumnByID(v) != nil {
		t.Fatal("the new column sees the cells of the old one")
	}
	if len(again.Dropped) != 1 || again.Dropped[0].ID != v {
		t.Fatal("the dropped column is forgotten")
	}
	m.ddl("ALTER TABLE ks.t RENAME c TO d")
	if renamed := m.table("ks", "t"); renamed.Column("d").ID != again.Column("c").ID || renamed.Column("c") != nil {
		t.Fatal("a rename is not free")
	}
}

func TestGenerationsAreNeverReused(t *testing.T) {
	m := newMachine(t).ddl(ksDDL + "CREATE TABLE ks.t (k int PRIMARY KEY)")
	seen := map[schema.Generation]bool{}
	check := func() {
		g := m.table("ks", "t").Generation
		if seen[g] || g < schema.GenerationUserMin {
			t.Fatalf("generation %d again", g)
		}
		seen[g] = true
		if got, ok := m.catalog.TableByGeneration(g); !ok || got != m.table("ks", "t") {
			t.Fatal("the table is not found by its generation")
		}
	}
	check()
	id := m.table("ks", "t").ID
	before := m.catalog
	m.ddl("TRUNCATE ks.t")
	check()
	if m.table("ks", "t").ID != id {
		t.Fatal("TRUNCATE changed the id")
	}
	if got := before.Retired(m.catalog); len(got) != 1 || !seen[got[0]] {
		t.Fatalf("retired %v", got)
	}
	if events := before.Diff(m.catalog); len(events) != 0 {
		t.Fatalf("TRUNCATE is told to clients: %v", events)
	}
	m.ddl("DROP TABLE ks.t\nCREATE TABLE ks.t (k int PRIMARY KEY)")
	check()
	m.ddl("DROP KEYSPACE ks\n" + ksDDL + "CREATE TABLE ks.t (k int PRIMARY KEY)")
	check()
}

// TestTwoPlansOfOneCatalogConflict: of two statements planned at the same time only one may take effect.
func TestTwoPlansOfOneCatalogConflict(t *testing.T) {
	m := newMachine(t).ddl(ksDDL + "CREATE TABLE ks.t (k int PRIMARY KEY)")
	for _, pair := range [][2]string{
		{"CREATE TABLE ks.a (k int PRIMARY KEY)", "CREATE TABLE ks.a (k int PRIMARY KEY, v int)"},
		{"CREATE TABLE ks.a (k int PRIMARY KEY)", "CREATE TABLE ks.b (k int PRIMARY KEY)"},
		{"TRUNCATE ks.t", "TRUNCATE ks.t"},
		{"DROP TABLE ks.t", "TRUNCATE ks.t"},
		{"DROP KEYSPACE ks", "CREATE TABLE ks.a (k int PRIMARY KEY)"},
		{"DROP TABLE ks.t", "DROP TABLE ks.t"},
		{"DROP KEYSPACE ks", "DROP KEYSPACE ks"},
	} {
		first := m.changes(pair[0])
		m.ids++
		second := m.changes(pair[1])
		next, err := m.catalog.Apply(first)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := next.Apply(second); !errors.Is(err, schema.ErrConflict) {
			t.Errorf("%s after %s: %v", pair[1], pair[0], err)
		}
	}
}

func TestTypeChangesReachTheirUsers(t *testing.T) {
	m := newMachine(t).ddl(ksDDL + `CREATE TYPE ks.a (x int)
		CREATE TYPE ks.b (a frozen<a>)
		CREATE TABLE ks.t (k int PRIMARY KEY, a a, b frozen<b>, l list<frozen<a>>)
		CREATE TABLE ks.other (k int PRIMARY KEY, v int)`)
	before, held := m.catalog, m.table("ks", "t")
	m.ddl("ALTER TYPE ks.a ADD y text")
	now := m.table("ks", "t")
	for _, typ := range []*types.Type{now.Column("a").Type, now.Column("b").Type.Elems[0], now.Column("l").Type.Elems[0]} {
		if len(typ.Fields) != 2 || len(typ.Elems) != 2 {
			t.Errorf("%s did not follow: %v", typ, typ.Fields)
		}
	}
	if len(held.Column("a").Type.Fields) != 1 {
		t.Error("the catalog before was written to")
	}
	want := []schema.Event{
		{Change: schema.Updated, Target: schema.TargetType, Keyspace: "ks", Name: "a"},
		{Change: schema.Updated, Target: schema.TargetType, Keyspace: "ks", Name: "b"},
		{Change: schema.Updated, Target: schema.TargetTable, Keyspace: "ks", Name: "t"},
	}
	if got := before.Diff(m.catalog); !slices.Equal(got, want) {
		t.Errorf("events %v", got)
	}
	if other, _ := before.Table("ks", "other"); m.table("ks", "other") != other {
		t.Error("an untouched table was copied")
	}
}

func TestDiffOfKeyspaces(t *testing.T) {
	m := newMachine(t)
	empty := m.catalog
	m.ddl(ksDDL + "CREATE TYPE ks.u (x int)\nCREATE TABLE ks.t (k int PRIMARY KEY)")
	created := empty.Diff(m.catalog)
	dropped := m.catalog.Diff(empty)
	if got := fmt.Sprint(created); got != "[{CREATED KEYSPACE ks } {CREATED TYPE ks u} {CREATED TABLE ks t}]" {
		t.Error(got)
	}
	if got := fmt.Sprint(dropped); got != "[{DROPPED TABLE ks t} {DROPPED TYPE ks u} {DROPPED KEYSPACE ks }]" {
		t.Error(got)
	}
	if got := m.catalog.Diff(m.catalog); got != nil {
		t.Error(got)
	}
}

// TestAlterToNoReplicas: ranges that a node does not have any more are removed, so that nothing would be left.
func TestAlterToNoReplicas(t *testing.T) {
	m := newMachine(t).ddl(strings.TrimSpace(ksDDL))
	before := m.catalog
	out := m.run("ALTER KEYSPACE ks WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 0}")
	if !strings.HasPrefix(out[len(out)-1], "error 0x2300 Replication factor must be positive") || m.catalog != before {
		t.Error(out)
	}
	m.ddl("CREATE KEYSPACE none WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 0}\n" +
		"ALTER KEYSPACE none WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 0} AND durable_writes = false\n" +
		"ALTER KEYSPACE none WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}")
}

// TestVersionIsContent: catalogs that were reached on different ways but hold the same have the same version.
func TestVersionIsContent(t *testing.T) {
	names := []string{"b", "a", "d", "c"}
	build := func(order []int) *schema.Catalog {
		m := newMachine(t)
		for _, i := range order {
			m.ddl(fmt.Sprintf("CREATE KEYSPACE %s WITH replication = {'class': 'SimpleStrategy', 'replication_factor': %d}", names[i], i+1))
			m.ddl(fmt.Sprintf("CREATE TYPE %s.u (x int)\nCREATE TYPE %s.v (u frozen<u>)", names[i], names[i]))
		}
		return m.catalog
	}
	want := build([]int{0, 1, 2, 3}).Version
	r := rand.New(rand.NewPCG(1, 2))
	for range 10 {
		if got := build(r.Perm(4)).Version; got != want {
			t.Fatal("the version depends on the way")
		}
	}
	if a, b := schema.Bootstrap(), schema.Bootstrap(); a.Version != b.Version {
		t.Fatal("Bootstrap is not deterministic")
	}
	if want == schema.Bootstrap().Version {
		t.Fatal("the version does not see keyspaces")
	}
}

// TestRandomDDL: whatever statements do, every change decodes to itself, snapshots load, versions follow content, and
// DESCRIBE's text makes the same tables again (machine.apply checks the first three).
func TestRandomDDL(t *testing.T) {
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 1))
		m := newMachine(t)
		for range 60 {
			m.run(randomDDL(r))
		}
		text := m.catalog.Describe(false, schema.DescribeOptions{})
		copied := newMachine(t)
		for _, e := range text {
			if out := copied.run(strings.TrimSuffix(e.CreateStatement, ";")); strings.HasPrefix(out[len(out)-1], "error") {
				t.Fatalf("seed %d: %s\n%s", seed, e.CreateStatement, out)
			}
		}
		again := copied.catalog.Describe(false, schema.DescribeOptions{})
		if !slices.Equal(text, again) {
			t.Fatalf("seed %d: DESCRIBE does not survive its own text", seed)
		}
	}
}

func randomDDL(r *rand.Rand) string {
	pick := func(s ...string) string { return s[r.IntN(len(s))] }
	ks := pick("k1", "k2")
	table := ks + "." + pick("t1", "t2", `"T3"`)
	user := ks + "." + pick("u1", "u2", "u3")
	scalar := pick("int", "text", "blob", "timeuuid", "decimal", "inet", "date")
	typ := pick(scalar, scalar, "list<"+scalar+">", "frozen<map<text, "+scalar+">>", "set<"+scalar+">", "tuple<int, "+scalar+">",
		"frozen<"+strings.Split(user, ".")[1]+">", "list<frozen<"+strings.Split(user, ".")[1]+">>")
	column := pick("a", "b", "c", `"D"`, `"select"`)
	switch r.IntN(12) {
	case 0, 1:
		return "CREATE KEYSPACE IF NOT EXISTS " + ks + " WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}"
	case 2, 3:
		return "CREATE TABLE " + table + " (k " + scalar + ", ck " + scalar + ", s " + scalar + " static, v " + typ + ", PRIMARY KEY (k, ck)) WITH " +
			"CLUSTERING ORDER BY (ck " + pick("ASC", "DESC") + ")"
	case 4:
		return "CREATE TYPE " + user + " (" + column + " " + typ + ")"
	case 5:
		return "ALTER TYPE " + user + " ADD " + column + " " + typ
	case 6, 7:
		return "ALTER TABLE " + table + " ADD " + column + " " + typ + pick("", " static")
	case 8:
		return "ALTER TABLE " + table + " DROP " + column
	case 9:
		return "ALTER TABLE " + table + " WITH comment = '" + pick("", "x", "it''s") + "' AND gc_grace_seconds = " + pick("0", "10") + " AND tombstone_gc = '" + pick("repair", "timeout") + "'"
	case 10:
		return pick("TRUNCATE ", "DROP TABLE ") + table
	}
	return pick("DROP TYPE "+user, "ALTER TABLE "+table+" RENAME k TO kk", "DROP KEYSPACE "+ks)
}

func TestColumnsMax(t *testing.T) {
	spec := schema.CreateTable{Keyspace: "ks", Name: "t", PartitionKey: []string{"k0"}}
	for i := range schema.ColumnsMax {
		spec.Columns = append(spec.Columns, schema.ColumnSpec{Name: fmt.Sprintf("k%d", i), Type: schema.TypeSpec{Name: "int"}})
	}
	m := newMachine(t).ddl(strings.TrimSpace(ksDDL))
	var refused *schema.Error
	if _, err := m.catalog.CreateTable(spec, m.env); !errors.As(err, &refused) || refused.Code != schema.Config {
		t.Fatal(err)
	}
	spec.Columns = spec.Columns[:schema.ColumnsMax-1]
	plan, err := m.catalog.CreateTable(spec, m.env)
	if err != nil {
		t.Fatal(err)
	}
	m.apply(plan)
	if out := m.run("ALTER TABLE ks.t ADD more int"); !strings.Contains(out[0], "at most 65535 columns") {
		t.Fatal(out)
	}
}

func TestTypesNestSoDeep(t *testing.T) {
	m := newMachine(t).ddl(strings.TrimSpace(ksDDL))
	deep := schema.TypeSpec{Name: "int"}
	for range 100 {
		deep = schema.TypeSpec{Kind: schema.TypeList, Frozen: true, Elems: []schema.TypeSpec{deep}}
	}
	var refused *schema.Error
	if _, err := m.catalog.ResolveType("ks", deep); !errors.As(err, &refused) {
		t.Fatal(err)
	}
	refuse := func(what string, statement func(i int) string) {
		t.Helper()
		for i := 1; i <= 64; i++ {
			if out := m.run(statement(i)); strings.HasPrefix(out[0], "error 0x2200 Types may nest") {
				return
			} else if strings.HasPrefix(out[0], "error") {
				t.Fatal(what, out)
			}
		}
		t.Fatal(what, "is not refused")
	}
	// Chains of user types count like one large type, from whichever end they grow.
	m.ddl("CREATE TYPE ks.u0 (a int)\nCREATE TYPE ks.d0 (a int)\nCREATE TYPE ks.top (a int)\nCREATE TABLE ks.t (k int PRIMARY KEY, l list<frozen<top>>)")
	refuse("a deep chain", func(i int) string { return fmt.Sprintf("CREATE TYPE ks.u%d (a frozen<u%d>)", i, i-1) })
	refuse("a doubling chain", func(i int) string {
		return fmt.Sprintf("CREATE TYPE ks.d%d (a frozen<d%d>, b frozen<d%d>)", i, i-1, i-1)
	})
	m.ddl("ALTER TYPE ks.top ADD b frozen<u20>")
	refuse("growth from below", func(i int) string { return fmt.Sprintf("ALTER TYPE ks.u0 ADD f%d frozen<d%d>", i, i+5) })
}

func TestResolveType(t *testing.T) {
	m := newMachine(t).ddl(ksDDL + "CREATE TYPE ks.u (x int)")
	user := schema.TypeSpec{Kind: schema.TypeUser, Name: "u"}
	got, err := m.catalog.ResolveType("ks", schema.TypeSpec{Kind: schema.TypeMap, Elems: []schema.TypeSpec{{Name: "varchar"}, {Kind: schema.TypeUser, Name: "u", Frozen: true}}})
	if err != nil || got.String() != "map<text, frozen<u>>" {
		t.Fatal(got, err)
	}
	if got, err = m.catalog.ResolveType("ks", user); err != nil || !got.MultiCell() {
		t.Fatal(got, err)
	}
	if _, err = m.catalog.ResolveType("nosuch", user); err == nil || err.Error() != "Unknown type nosuch.u" {
		t.Fatal(err)
	}
}
