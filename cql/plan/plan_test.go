package plan

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/helenusdb/helenus/cql"
	"github.com/helenusdb/helenus/cql/protocol"
	"github.com/helenusdb/helenus/cql/types"
	"github.com/helenusdb/helenus/row"
	"github.com/helenusdb/helenus/schema"
)

// TestWriteAndRead goes once around: INSERT, UPDATE and DELETE of every kind of column, read back.
func TestWriteAndRead(t *testing.T) {
	db := goldenDB(t)
	for _, s := range []string{
		"INSERT INTO coll (k, c, v, l, st, m, u) VALUES (1, 1, 7, [1, 2], {'b', 'a'}, {'q': 5}, {street: 'S', no: 4})",
		"UPDATE coll SET l = l + [3], l = [0] + l, m['r'] = 6, st = st - {'a'}, u.no = 5 WHERE k = 1 AND c = 1",
		"UPDATE coll SET l[1] = 9 WHERE k = 1 AND c = 1",
		"INSERT INTO coll (k, c) VALUES (1, 2)",
		"UPDATE coll SET v = 8 WHERE k = 1 AND c = 3",
		"DELETE v FROM coll WHERE k = 1 AND c = 3",
	} {
		db.must(s)
	}
	want := "c | v | l | m | st | u\n" +
		"1 | 7 | [0, 9, 2, 3] | {'q': 5, 'r': 6} | {'b'} | {street: 'S', no: 5}\n" +
		"2 | null | null | null | null | null"
	if got := db.must("SELECT c, v, l, m, st, u FROM coll WHERE k = 1").text(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// TestTimeToLive: what is left of a TTL is shown, what has expired is gone, and an INSERT's row goes with its liveness.
func TestTimeToLive(t *testing.T) {
	db := goldenDB(t)
	db.must("INSERT INTO t1 (k, v) VALUES (1, 1) USING TTL 100")
	db.must("UPDATE t1 USING TTL 50 SET t = 'x' WHERE k = 1")
	db.must("INSERT INTO ttl (k, v) VALUES (1, 1)")
	db.must("INSERT INTO ttl (k, v) VALUES (2, 1) USING TTL 0")
	db.must("UPDATE t1 USING TTL 100 SET v = 1 WHERE k = 2")
	db.must("UPDATE t1 USING TTL 0 SET v = 2 WHERE k = 2")
	for _, c := range []struct {
		after       int64
		query, want string
	}{
		{0, "SELECT ttl(v), ttl(t), v, t FROM t1 WHERE k = 1", "100 | 50 | 1 | 'x'"},
		{30, "SELECT ttl(v), ttl(t), v, t FROM t1 WHERE k = 1", "70 | 20 | 1 | 'x'"},
		{49, "SELECT ttl(t), t FROM t1 WHERE k = 1", "1 | 'x'"},
		{50, "SELECT ttl(v), ttl(t), v, t FROM t1 WHERE k = 1", "50 | null | 1 | null"},
		{99, "SELECT k, ttl(v) FROM ttl WHERE k = 1", "1 | 1"},
		{100, "SELECT k FROM ttl WHERE k = 1", ""},
		{100, "SELECT k FROM t1 WHERE k = 1", ""},
		{1000, "SELECT k, ttl(v) FROM ttl", "2 | null"},
		{1000, "SELECT k, v, ttl(v) FROM t1", "2 | 2 | null"},
	} {
		start := db.now
		db.now += c.after
		_, got, _ := strings.Cut(db.must(c.query).text(), "\n")
		if got != c.want {
			t.Errorf("after %d s: %s: %q, want %q", c.after, c.query, got, c.want)
		}
		db.now = start
	}
}

// TestInsertLeavesLivenessUpdateNone: a row made by UPDATE goes with its last value, one made by INSERT stays.
func TestInsertLeavesLivenessUpdateNone(t *testing.T) {
	db := goldenDB(t)
	var buf Buffer
	for text, want := range map[string]bool{
		"INSERT INTO t1 (k, v) VALUES (1, 2)":    true,
		"UPDATE t1 SET v = 2 WHERE k = 1":        false,
		"INSERT INTO t1 (k) VALUES (1)":          true,
		"UPDATE t1 SET v = null WHERE k = 1":     false,
		"INSERT INTO t1 (k, v) VALUES (1, null)": true,
	} {
		muts, err := benchCompile(t, db, text).Modify.Mutations(&buf, db.args(nil))
		if err != nil || len(muts) != 1 {
			t.Fatal(text, err)
		}
		var f row.FragmentReader
		var r row.Reader
		if err := f.Init(muts[0].Fragment); err != nil || !f.NextRow() || r.Init(f.Row) != nil {
			t.Fatal(text, err)
		}
		if got := !r.Liveness().Empty(); got != want {
			t.Errorf("%s: liveness %v, want %v", text, got, want)
		}
	}
}

// TestOverwriteDeletesJustBefore: setting a collection deletes what it held, one microsecond before its elements.
func TestOverwriteDeletesJustBefore(t *testing.T) {
	db := goldenDB(t)
	var buf Buffer
	muts, err := benchCompile(t, db, "UPDATE coll USING TIMESTAMP 1000 SET m = {'a': 1} WHERE k = 1 AND c = 1").Modify.Mutations(&buf, db.args(nil))
	if err != nil {
		t.Fatal(err)
	}
	var f row.FragmentReader
	var r row.Reader
	if f.Init(muts[0].Fragment) != nil || !f.NextRow() || r.Init(f.Row) != nil || !r.Next() || !r.Complex || !r.NextElement() {
		t.Fatal("no complex column")
	}
	if r.ComplexDeletion.Timestamp != 999 || r.Cell.Timestamp != 1000 || r.ComplexDeletion.LocalTime != db.now {
		t.Errorf("deletion %+v, element at %d", r.ComplexDeletion, r.Cell.Timestamp)
	}
}

// TestPrependsPrecede: elements prepended later come first, appended ones last, whatever the clock does in between.
func TestPrependsPrecede(t *testing.T) {
	db := goldenDB(t)
	var want []int32
	for i := range int32(40) {
		if i%3 == 0 {
			db.must("UPDATE coll SET l = ? + l WHERE k = 1 AND c = 1", setValue(types.ListOf(types.Int, false).AppendCollection(nil, [][]byte{types.EncodeInt(i), types.EncodeInt(-i)})))
			want = append([]int32{i, -i}, want...)
		} else {
			db.must("UPDATE coll SET l = l + ? WHERE k = 1 AND c = 1", setValue(types.ListOf(types.Int, false).AppendCollection(nil, [][]byte{types.EncodeInt(i)})))
			want = append(want, i)
		}
		db.now++
	}
	var elems [][]byte
	for _, v := range want {
		elems = append(elems, types.EncodeInt(v))
	}
	got := db.must("SELECT l FROM coll WHERE k = 1 AND c = 1").rows[0][0]
	if !bytes.Equal(got, types.ListOf(types.Int, false).AppendCollection(nil, elems)) {
		t.Errorf("got %s, want %v", types.ListOf(types.Int, false).AppendText(nil, got), want)
	}
}

// TestBatchGroupsPartitions: mutations of one partition stand together, in the order of the statements, for few and for many.
func TestBatchGroupsPartitions(t *testing.T) {
	db := goldenDB(t)
	m := benchCompile(t, db, "UPDATE t1 SET v = ? WHERE k = ?").Modify
	for _, n := range []int{6, groupPairsMax + 100} {
		var buf Buffer
		for i := range n {
			a := db.args([]protocol.Value{setValue(types.EncodeInt(int32(i))), setValue(types.EncodeInt(int32(i % 4)))})
			if err := m.AppendMutations(&buf, a); err != nil {
				t.Fatal(err)
			}
		}
		muts := buf.Mutations()
		if len(muts) != n {
			t.Fatal(len(muts))
		}
		groups := 1
		for i := 1; i < n; i++ {
			if !samePartition(&muts[i-1], &muts[i]) {
				groups++
			}
		}
		if groups != 4 {
			t.Errorf("%d mutations of 4 partitions stand in %d groups", n, groups)
		}
	}
}

// TestDeepExpressions: compiling takes time in proportion to the text, also where every call has eighty signatures.
func TestDeepExpressions(t *testing.T) {
	db := goldenDB(t)
	start := time.Now()
	for _, text := range []string{
		"SELECT v" + strings.Repeat(" + 1", 60) + " FROM t1",
		"SELECT " + strings.Repeat("abs(", 40) + "v" + strings.Repeat(")", 40) + " FROM t1",
		"INSERT INTO t1 (k, v) VALUES (1, 1" + strings.Repeat(" + 1", 60) + ")",
		"INSERT INTO t1 (k, v) VALUES (1, " + strings.Repeat("abs(", 40) + "(int)?" + strings.Repeat(")", 40) + ")",
		"SELECT " + strings.Repeat("[", 20) + "v" + strings.Repeat("]", 20) + " FROM t1",
	} {
		ast, err := cql.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Compile(ast, Env{Catalog: db.catalog, Keyspace: "plan_o"}); err != nil {
			t.Errorf("%.40s...: %v", text, err)
		}
	}
	if d := time.Since(start); d > 10*time.Second {
		t.Errorf("took %v", d)
	}
}

// TestNumbersAreBounded: arithmetic on absurd numbers is refused, not tried.
func TestNumbersAreBounded(t *testing.T) {
	db := goldenDB(t)
	wide := types.EncodeDecimal(bigOf(nil).SetInt64(1), 2_000_000_000)
	db.must("INSERT INTO alltypes (k, de, vi) VALUES (1, ?, ?)", setValue(wide), setValue(bytes.Repeat([]byte{1}, 100_000)))
	for _, expr := range []string{"de + 1", "de * de", "-de", "round(de)", "cast(de AS int)", "sum(de)", "vi * vi", "avg(vi)", "1 / de", "abs(vi)"} {
		if _, err := db.run("SELECT " + expr + " FROM alltypes WHERE k = 1"); err == nil || !strings.Contains(err.Error(), "cannot be calculated with") {
			t.Errorf("%s: %v", expr, err)
		}
	}
	if got := db.must("SELECT de FROM alltypes WHERE k = 1").rows[0][0]; !bytes.Equal(got, wide) {
		t.Errorf("plain selection changed the value: %x", got)
	}
}

// TestRandomSlices compares slices of mixed order, tuples and pages with a plain sorted list.
func TestRandomSlices(t *testing.T) {
	db := goldenDB(t)
	for c := range int32(4) {
		for d := range 4 {
			for e := range int32(3) {
				db.must("INSERT INTO t4 (k, c, d, e, v) VALUES ('k', ?, ?, ?, 1)", setValue(types.EncodeInt(c)), setValue([]byte{byte('a' + d)}), setValue(types.EncodeInt(e)))
			}
		}
	}
	n := 0
	for lo := range 48 {
		for _, hi := range []int{lo, lo + 1, lo + 7, 47} {
			if hi > 47 {
				continue
			}
			for ops := range 4 {
				n++
				gt, lt := [...]string{">", ">="}[ops&1], [...]string{"<", "<="}[ops>>1]
				query := fmt.Sprintf("SELECT c, d, e FROM t4 WHERE k = 'k' AND (c, d, e) %s %s AND (c, d, e) %s %s", gt, tripleText(lo), lt, tripleText(hi))
				db.pageSize, db.chunk = n%5, n%4
				got := map[string]bool{}
				for _, r := range db.must(query).rows {
					got[fmt.Sprintf("%x", r)] = true
				}
				want := 0
				for i := lo; i <= hi; i++ {
					if i == lo && ops&1 == 0 || i == hi && ops>>1 == 0 {
						continue
					}
					want++
					if !got[fmt.Sprintf("%x", [][]byte{types.EncodeInt(int32(i / 12)), {byte('a' + i/3%4)}, types.EncodeInt(int32(i % 3))})] {
						t.Fatalf("%s lacks %s", query, tripleText(i))
					}
				}
				if len(got) != want {
					t.Fatalf("%s: %d rows, want %d", query, len(got), want)
				}
			}
		}
	}
}

// tripleText is the i-th tuple in the order of the values, which the table's clustering order turns around in d.
func tripleText(i int) string { return fmt.Sprintf("(%d, '%c', %d)", i/12, 'a'+i/3%4, i%3) }

// TestDefinitionsHaveNoBinds: a bind variable in a definition has no type, and nobody may look at it.
func TestDefinitionsHaveNoBinds(t *testing.T) {
	for _, text := range []string{
		"CREATE AGGREGATE ks.a (int) SFUNC f STYPE int INITCOND ?",
		"CREATE AGGREGATE ks.a (int) SFUNC f STYPE int INITCOND :init",
	} {
		ast, err := cql.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		st, err := Compile(ast, Env{Catalog: schema.Bootstrap()})
		if err != nil || st.Kind != KindDDL || len(st.Binds) > 0 {
			t.Errorf("%s: %+v, %v", text, st, err)
		}
	}
	ast, err := cql.Parse("CREATE MATERIALIZED VIEW ks.v AS SELECT * FROM ks.t WHERE k = ? AND c IS NOT NULL PRIMARY KEY (k, c)")
	if err != nil {
		t.Fatal(err)
	}
	_, err = Compile(ast, Env{Catalog: schema.Bootstrap()})
	if want := "Bind variables are not allowed in CREATE MATERIALIZED VIEW statements"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}
