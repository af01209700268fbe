package exec_test

import (
	"testing"

	"github.com/helenusdb/helenus/cql/protocol"
	"github.com/helenusdb/helenus/meta"
	"github.com/helenusdb/helenus/schema"
)

const noVectors = "This statement is not supported yet: vectors"

// Vectors are refused where they are declared, since a value of theirs cannot be written: however deep they are in other
// types, frozen or not. What Cassandra finds wrong first is answered first, and nothing is half done.
func TestVectorsAreRefusedWhenDeclared(t *testing.T) {
	c, cl := startWith(t, options{}, protocol.V5)
	cl.must("CREATE TYPE k.u (a int)")
	before := c.Current()
	for _, text := range []string{
		"CREATE TABLE k.v (k int PRIMARY KEY, v vector<float, 2>)",
		"CREATE TABLE k.v (k vector<float, 2> PRIMARY KEY)",
		"CREATE TABLE k.v (k int, c vector<float, 2>, PRIMARY KEY (k, c))",
		"CREATE TABLE k.v (k int, c int, v vector<float, 2> STATIC, PRIMARY KEY (k, c))",
		"CREATE TABLE IF NOT EXISTS k.v (k int PRIMARY KEY, v vector<float, 2>)",
		"CREATE TABLE k.v (k int PRIMARY KEY, v tuple<int, vector<float, 2>>)",
		"CREATE TABLE k.v (k int PRIMARY KEY, v list<vector<float, 2>>)",
		"CREATE TABLE k.v (k int PRIMARY KEY, v frozen<map<int, vector<float, 2>>>)",
		"CREATE TABLE k.v (k int PRIMARY KEY, v set<frozen<tuple<frozen<list<vector<float, 2>>>>>>)",
		"CREATE TABLE k.v (k int PRIMARY KEY, v vector<vector<int, 2>, 2>)",
		"ALTER TABLE k.t ADD a vector<float, 2>",
		"ALTER TABLE k.t ADD (a int, b map<text, vector<float, 2>>)",
		"ALTER TABLE k.t ADD IF NOT EXISTS a vector<text, 2>",
		"CREATE TYPE k.w (a int, b vector<float, 2>)",
		"CREATE TYPE k.w (a frozen<list<tuple<vector<float, 2>>>>)",
		"ALTER TYPE k.u ADD b vector<float, 2>",
	} {
		wantError(t, cl.query(text, &protocol.QueryParams{Consistency: protocol.One}), protocol.CodeInvalid, noVectors)
	}
	for text, want := range map[string]string{
		"CREATE TABLE k.v (k int PRIMARY KEY, v vector<nosuch, 2>)": "Unknown type k.nosuch",
		"CREATE TABLE k.v (k int PRIMARY KEY, v vector<float, 0>)":  "vectors may only have positive dimensions; given 0",
		"ALTER TABLE k.t ADD v vector<float, 2>":                    "Column with name 'v' already exists",
		"ALTER TABLE k.nosuch ADD v vector<float, 2>":               "Table 'k.nosuch' doesn't exist",
	} {
		wantError(t, cl.query(text, &protocol.QueryParams{Consistency: protocol.One}), protocol.CodeInvalid, want)
	}
	cl.must("CREATE TABLE IF NOT EXISTS k.t (k int PRIMARY KEY, v vector<float, 2>)")
	cl.must("ALTER TABLE k.t ADD IF NOT EXISTS v vector<float, 2>")
	if c.Current() != before {
		t.Error("the metadata changed")
	}
}

// Tables and types with vectors that an earlier version made are still there after a restart: they are described, altered,
// and rid of them; what needs more of them is refused, by name.
func TestVectorsOfEarlierVersions(t *testing.T) {
	c, cl := startWith(t, options{}, protocol.V5)
	vector := schema.TypeSpec{Kind: schema.TypeVector, Dim: 2, Elems: []schema.TypeSpec{{Kind: schema.TypeNative, Name: "float"}}}
	c.change(t, func(s *meta.State) (schema.Plan, error) {
		return s.Catalog.CreateType(schema.CreateType{Keyspace: "k", Name: "u", Fields: []schema.FieldSpec{{Name: "a", Type: vector}}}, schema.Env{})
	})
	cl.must("CREATE TABLE k.old (k int PRIMARY KEY, a int)")
	cl.must("INSERT INTO k.old (k, a) VALUES (1, 2)")
	c.change(t, func(s *meta.State) (schema.Plan, error) {
		return s.Catalog.AlterTable(schema.AlterTable{Keyspace: "k", Name: "old", Kind: schema.AlterAdd, Add: []schema.ColumnSpec{
			{Name: "v", Type: vector}, {Name: "w", Type: schema.TypeSpec{Kind: schema.TypeUser, Name: "u", Frozen: true}}}}, schema.Env{})
	})
	again, err := meta.DecodeState(c.Current().Encode())
	if err != nil {
		t.Fatal(err)
	}
	c.state.Store(again)

	for _, text := range []string{
		"CREATE TABLE k.n (k int PRIMARY KEY, v frozen<u>)",
		"CREATE TABLE k.n (k int PRIMARY KEY, v list<frozen<u>>)",
		"CREATE TYPE k.n (a frozen<u>)",
		"ALTER TABLE k.old ADD x tuple<frozen<u>>",
		"ALTER TYPE k.u ADD b vector<float, 2>",
	} {
		wantError(t, cl.query(text, &protocol.QueryParams{Consistency: protocol.One}), protocol.CodeInvalid, noVectors)
	}
	wantError(t, cl.query("SELECT * FROM k.old", &protocol.QueryParams{Consistency: protocol.One}), protocol.CodeInvalid, "This is not supported yet: vectors")
	cl.must("DESCRIBE TABLE k.old")
	cl.must("ALTER TABLE k.old WITH comment = 'c'")
	cl.must("ALTER TABLE k.old ADD b int")
	cl.must("ALTER TABLE k.old RENAME k TO kk")
	cl.must("ALTER TYPE k.u RENAME a TO aa")
	cl.must("ALTER TYPE k.u ADD b int")
	cl.must("TRUNCATE k.t")
	cl.must("ALTER TABLE k.old DROP (v, w)")
	if rows := cl.must("SELECT a FROM k.old WHERE kk = 1").rows(); len(rows) != 1 || rows[0][0][3] != 2 {
		t.Errorf("the row of the table that is rid of its vectors: %v", rows)
	}
	cl.must("DROP TYPE k.u")
	cl.must("DROP TABLE k.old")
}

// change is a schema change that no statement asks for.
func (c *cluster) change(t *testing.T, build func(*meta.State) (schema.Plan, error)) {
	t.Helper()
	if _, _, err := c.Change(t.Context(), build); err != nil {
		t.Fatal(err)
	}
}
