package schema_test

import (
	"testing"

	"github.com/helenusdb/helenus/cql/types"
)

// TestIntroduces: what a plan brings in is what the catalog has not yet, inside of other types and through user types too.
func TestIntroduces(t *testing.T) {
	m := newMachine(t).ddl(ksDDL + "CREATE TYPE ks.u (a int, v vector<float, 2>)\nCREATE TYPE ks.p (a int)\n" +
		"CREATE TABLE ks.t (k int, c int, s vector<float, 2> STATIC, v int, PRIMARY KEY (k, c))")
	for statement, want := range map[string]bool{
		"CREATE TABLE ks.n (k int PRIMARY KEY, v int)":                                    false,
		"CREATE TABLE ks.n (k int PRIMARY KEY, v vector<float, 2>)":                       true,
		"CREATE TABLE ks.n (k vector<float, 2> PRIMARY KEY)":                              true,
		"CREATE TABLE ks.n (k int, c vector<float, 2>, PRIMARY KEY (k, c))":               true,
		"CREATE TABLE ks.n (k int, c int, s vector<float, 2> STATIC, PRIMARY KEY (k, c))": true,
		"CREATE TABLE ks.n (k int PRIMARY KEY, v map<int, frozen<list<vector<int, 2>>>>)": true,
		"CREATE TABLE ks.n (k int PRIMARY KEY, v u)":                                      true,
		"CREATE TABLE ks.n (k int PRIMARY KEY, v set<frozen<tuple<int, frozen<u>>>>)":     true,
		"CREATE TABLE ks.n (k int PRIMARY KEY, v p)":                                      false,
		"CREATE TABLE IF NOT EXISTS ks.t (k int PRIMARY KEY, v vector<float, 2>)":         false,
		"ALTER TABLE ks.t ADD w vector<float, 2>":                                         true,
		"ALTER TABLE ks.t ADD (w int, x list<frozen<u>>)":                                 true,
		"ALTER TABLE ks.t ADD IF NOT EXISTS s vector<float, 2>":                           false,
		"ALTER TABLE ks.t ADD w int":                                                      false,
		"ALTER TABLE ks.t DROP s":                                                         false,
		"ALTER TABLE ks.t RENAME c TO cc":                                                 false,
		"ALTER TABLE ks.t WITH comment = 'x'":                                             false,
		"DROP TABLE ks.t":                                                                 false,
		"CREATE TYPE ks.n (a int, b frozen<u>)":                                           true,
		"CREATE TYPE ks.n (a int)":                                                        false,
		"ALTER TYPE ks.u ADD b int":                                                       false,
		"ALTER TYPE ks.u RENAME v TO w":                                                   false,
		"ALTER TYPE ks.p ADD b vector<float, 2>":                                          true,
		"ALTER KEYSPACE ks WITH durable_writes = false":                                   false,
	} {
		p, err := m.plan(mustParse(t, statement))
		if err != nil {
			t.Fatal(statement, err)
		}
		if got := p.Introduces(m.catalog, types.KindVector); got != want {
			t.Errorf("%s: %v", statement, got)
		}
	}
}
