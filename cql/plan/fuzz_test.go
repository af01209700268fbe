package plan

import (
	"errors"
	"testing"

	"github.com/helenusdb/helenus/cql"
	"github.com/helenusdb/helenus/cql/protocol"
	"github.com/helenusdb/helenus/row"
)

// fuzzValues makes values for n bind variables out of arbitrary bytes.
func fuzzValues(n int, raw []byte) []protocol.Value {
	out := make([]protocol.Value, n)
	for i := range out {
		if len(raw) == 0 {
			out[i] = nullValue()
			continue
		}
		size := min(int(raw[0])%40, len(raw)-1)
		switch raw[0] {
		case 0xFF:
			out[i], size = nullValue(), 0
		case 0xFE:
			out[i], size = unsetValue(), 0
		default:
			out[i] = setValue(raw[1 : 1+size : 1+size])
		}
		raw = raw[1+size:]
	}
	return out
}

// FuzzStatement runs any statement with any values: it is refused with an *Error or an error of the parser, or it works.
func FuzzStatement(f *testing.F) {
	for _, name := range []string{"prepare.golden", "script.golden", "lwtprepare.golden", "lwt.golden"} {
		for i, c := range readGolden(f, name) {
			if name == "lwt.golden" && i%16 != 0 {
				continue // they are many and alike
			}
			f.Add(c.text, []byte{4, 0, 0, 0, byte(i), 8, 0, 0, 0, 0, 0, 0, 0, 1, 0xFF, 1, 'a', 0xFE, 0})
		}
	}
	db := goldenDB(f)
	db.must("INSERT INTO t1 (k, v, t) VALUES (1, 2, 'x')")
	db.must("INSERT INTO coll (k, c, l, st, m, u) VALUES (1, 1, [1, 2], {'a'}, {'b': 3}, {street: 's'})")
	f.Fuzz(func(t *testing.T, text string, raw []byte) {
		ast, err := cql.Parse(text)
		if err != nil || cql.IsDDL(ast) {
			return
		}
		switch ast.(type) {
		case *cql.Truncate, *cql.Describe, *cql.Use:
			return
		}
		if cql.IsAuth(ast) {
			return
		}
		db.t = t
		before := db.parts
		db.parts = clonePartitions(before)
		_, err = db.run(text, fuzzValues(len(ast.Markers()), raw)...)
		db.parts = before
		if told := (*Error)(nil); err != nil && !errors.As(err, &told) {
			t.Errorf("%s: %T: %v", text, err, err)
		}
	})
}

// FuzzPage gives pages of any bytes to the writers of several statements: they end with an error or with rows.
func FuzzPage(f *testing.F) {
	db := goldenDB(f)
	db.must("INSERT INTO coll (k, c, l, st, m, u, sl) VALUES (1, 1, [1, 2], {'a'}, {'b': 3}, {street: 's'}, ['z'])")
	db.must("INSERT INTO coll (k, c, v) VALUES (1, 2, 7) USING TTL 60")
	var statements []*Statement
	for _, text := range []string{
		"SELECT * FROM coll",
		"SELECT writetime(l), ttl(m), writetime(u), m['b'], u.street, collection_sum(l) FROM coll",
		"SELECT k, max(v), count(*) FROM coll GROUP BY k, c",
		"SELECT k FROM coll WHERE l CONTAINS 1 AND v = 7 ALLOW FILTERING",
		"SELECT c FROM coll WHERE k IN (1, 2) ORDER BY c DESC",
		"SELECT DISTINCT k, sl FROM coll",
	} {
		statements = append(statements, benchCompile(f, db, text))
	}
	var page row.Page
	db.read(&row.Command{Generation: statements[0].Table.Generation, Now: db.now, WithStatic: true, Range: fullRange()}, &page)
	f.Add(page.Data)
	f.Fuzz(func(t *testing.T, data []byte) {
		a := db.args(nil)
		for _, st := range statements {
			var buf Buffer
			var w RowWriter
			acc, err := st.Select.Access(&buf, a)
			if err != nil {
				t.Fatal(err)
			}
			if err := w.Begin(st.Select, a, acc, Page{}); err != nil {
				t.Fatal(err)
			}
			var dst []byte
			for cmd := w.Next(); cmd != nil && err == nil; cmd = w.Next() {
				dst, err = w.Add(dst, &row.Page{Data: data})
			}
			if err == nil {
				dst, _ = w.Finish(dst)
				splitRows(t, dst, len(st.Result))
			}
		}
	})
}
