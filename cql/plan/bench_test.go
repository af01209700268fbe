package plan

import (
	"testing"

	"github.com/helenusdb/helenus/cql"
	"github.com/helenusdb/helenus/cql/protocol"
	"github.com/helenusdb/helenus/cql/types"
	"github.com/helenusdb/helenus/row"
)

// benchDB returns a database with the table of the usual load: a key and five texts of 34 bytes.
func benchDB(tb testing.TB) *memDB {
	db := newMemDB(tb)
	db.must("CREATE KEYSPACE k WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}")
	db.must("USE k")
	db.must("CREATE TABLE standard (key blob PRIMARY KEY, c0 text, c1 text, c2 text, c3 text, c4 text)")
	db.must("CREATE TABLE series (k int, c int, a int, b text, d bigint, e text, PRIMARY KEY (k, c))")
	return db
}

func benchCompile(tb testing.TB, db *memDB, text string) *Statement {
	ast, err := cql.Parse(text)
	if err != nil {
		tb.Fatal(err)
	}
	st, err := Compile(ast, Env{Catalog: db.catalog, Keyspace: db.keyspace})
	if err != nil {
		tb.Fatal(err)
	}
	return st
}

func standardValues() []protocol.Value {
	v := make([]protocol.Value, 6)
	v[0] = setValue([]byte("0123456789"))
	for i := 1; i < 6; i++ {
		v[i] = setValue([]byte("abcdefghijklmnopqrstuvwxyz01234567"))
	}
	return v
}

func seriesValues() []protocol.Value {
	return []protocol.Value{setValue(types.EncodeInt(7)), setValue(types.EncodeInt(9)), setValue(types.EncodeInt(1)),
		setValue([]byte("some text")), setValue(types.EncodeBigint(5)), setValue([]byte("another text"))}
}

// hotWrite is an EXECUTE of an INSERT.
type hotWrite struct {
	m   *Modify
	a   *Args
	buf Buffer
}

func (h *hotWrite) run(tb testing.TB) []row.Mutation {
	muts, err := h.m.Mutations(&h.buf, h.a)
	if err != nil || len(muts) != 1 {
		tb.Fatal(err)
	}
	return muts
}

// hotRead is an EXECUTE of a SELECT of one row.
type hotRead struct {
	s    *Select
	a    *Args
	buf  Buffer
	w    RowWriter
	page row.Page
	dst  []byte
}

func newHotRead(tb testing.TB, db *memDB, text string, values []protocol.Value) *hotRead {
	h := &hotRead{s: benchCompile(tb, db, text).Select, a: db.args(values)}
	acc, err := h.s.Access(&h.buf, h.a)
	if err != nil {
		tb.Fatal(err)
	}
	if !acc.Point {
		tb.Fatalf("%s is no point read", text)
	}
	db.read(&acc.Commands[0], &h.page)
	if h.page.Rows != 1 {
		tb.Fatalf("%d rows", h.page.Rows)
	}
	return h
}

func (h *hotRead) access(tb testing.TB) Access {
	acc, err := h.s.Access(&h.buf, h.a)
	if err != nil {
		tb.Fatal(err)
	}
	return acc
}

// run is all that plan does for one request.
func (h *hotRead) run(tb testing.TB) {
	h.write(tb, h.access(tb))
}

func (h *hotRead) write(tb testing.TB, acc Access) {
	err := h.w.Begin(h.s, h.a, acc, Page{Rows: 5000})
	if err != nil || h.w.Next() == nil {
		tb.Fatal(err)
	}
	if h.dst, err = h.w.Add(h.dst[:0], &h.page); err != nil {
		tb.Fatal(err)
	}
	if h.w.Next() != nil {
		tb.Fatal("another read")
	}
	if h.dst, err = h.w.Finish(h.dst); err != nil || h.w.Rows() != 1 {
		tb.Fatal(err, h.w.Rows())
	}
}

const (
	insertStandard = "INSERT INTO standard (key, c0, c1, c2, c3, c4) VALUES (?, ?, ?, ?, ?, ?)"
	insertSeries   = "INSERT INTO series (k, c, a, b, d, e) VALUES (?, ?, ?, ?, ?, ?)"
	selectStandard = "SELECT key, c0, c1, c2, c3, c4 FROM standard WHERE key = ?"
	selectSeries   = "SELECT k, c, a, b, d, e FROM series WHERE k = ? AND c = ?"
)

// TestHotPathsDoNotAllocate guards what happens for every EXECUTE of a usual INSERT, UPDATE and point SELECT.
func TestHotPathsDoNotAllocate(t *testing.T) {
	db := benchDB(t)
	writes := map[string][]protocol.Value{
		insertStandard: standardValues(),
		insertSeries:   seriesValues(),
		"UPDATE standard USING TIMESTAMP ? AND TTL ? SET c0 = ? WHERE key = ?": {setValue(types.EncodeBigint(5)), setValue(types.EncodeInt(5)),
			setValue([]byte("x")), setValue([]byte("key"))},
		"DELETE FROM series WHERE k = ? AND c = ?":            seriesValues()[:2],
		"INSERT INTO standard (key, c0, c1) VALUES (?, ?, ?)": {setValue([]byte("k")), nullValue(), unsetValue()},
	}
	for text, values := range writes {
		h := &hotWrite{m: benchCompile(t, db, text).Modify, a: db.args(values)}
		h.run(t)
		if n := testing.AllocsPerRun(100, func() { h.run(t) }); n != 0 {
			t.Errorf("%s: %v allocations", text, n)
		}
	}
	db.must(insertStandard, standardValues()...)
	db.must(insertSeries, seriesValues()...)
	reads := map[string][]protocol.Value{
		selectStandard:                         standardValues()[:1],
		selectSeries:                           seriesValues()[:2],
		"SELECT * FROM standard WHERE key = ?": standardValues()[:1],
		"SELECT e, a FROM series WHERE k = ? AND c = ?": seriesValues()[:2],
	}
	for text, values := range reads {
		h := newHotRead(t, db, text, values)
		h.run(t)
		if n := testing.AllocsPerRun(100, func() { h.run(t) }); n != 0 {
			t.Errorf("%s: %v allocations", text, n)
		}
	}
}

// TestRowsDoNotAllocate guards a page of many rows: what is allocated does not depend on their number.
func TestRowsDoNotAllocate(t *testing.T) {
	db := benchDB(t)
	for i := range 1000 {
		v := seriesValues()
		v[1] = setValue(types.EncodeInt(int32(i)))
		db.must(insertSeries, v...)
	}
	for _, text := range []string{
		"SELECT * FROM series WHERE k = 7",
		"SELECT c, e FROM series WHERE k = 7 AND a = 1 ALLOW FILTERING",
		"SELECT count(*) FROM series WHERE k = 7",
	} {
		s := benchCompile(t, db, text).Select
		a := db.args(nil)
		var buf Buffer
		var w RowWriter
		var page row.Page
		var dst []byte
		run := func() {
			acc, err := s.Access(&buf, a)
			if err != nil {
				t.Fatal(err)
			}
			if err := w.Begin(s, a, acc, Page{}); err != nil {
				t.Fatal(err)
			}
			cmd := w.Next()
			if page.Rows == 0 {
				db.read(cmd, &page)
			}
			if dst, err = w.Add(dst[:0], &page); err != nil {
				t.Fatal(err)
			}
			if dst, err = w.Finish(dst); err != nil {
				t.Fatal(err)
			}
		}
		run()
		if n := testing.AllocsPerRun(10, run); n > 20 {
			t.Errorf("%s: %v allocations for 1000 rows", text, n)
		}
	}
}

func BenchmarkInsert(b *testing.B) {
	db := benchDB(b)
	for _, c := range []struct {
		name, text string
		values     []protocol.Value
	}{{"standard", insertStandard, standardValues()}, {"series", insertSeries, seriesValues()}} {
		b.Run(c.name, func(b *testing.B) {
			h := &hotWrite{m: benchCompile(b, db, c.text).Modify, a: db.args(c.values)}
			b.ReportAllocs()
			for b.Loop() {
				h.run(b)
			}
		})
	}
}

func BenchmarkSelectPoint(b *testing.B) {
	db := benchDB(b)
	db.must(insertStandard, standardValues()...)
	db.must(insertSeries, seriesValues()...)
	for _, c := range []struct {
		name, text string
		values     []protocol.Value
	}{{"standard", selectStandard, standardValues()[:1]}, {"series", selectSeries, seriesValues()[:2]}} {
		h := newHotRead(b, db, c.text, c.values)
		b.Run(c.name+"/access", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				h.access(b)
			}
		})
		b.Run(c.name+"/rows", func(b *testing.B) {
			acc := h.access(b)
			b.ReportAllocs()
			for b.Loop() {
				h.write(b, acc)
			}
		})
	}
}

func BenchmarkCompile(b *testing.B) {
	db := benchDB(b)
	for _, text := range []string{insertStandard, selectStandard, "SELECT max(a + 1) * 2 FROM series"} {
		ast, err := cql.Parse(text)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(text[:12], func(b *testing.B) {
			for b.Loop() {
				if _, err := Compile(ast, Env{Catalog: db.catalog, Keyspace: "k"}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
