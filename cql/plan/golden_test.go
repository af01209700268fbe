package plan

import (
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/helenusdb/helenus/cql"
	"github.com/helenusdb/helenus/cql/protocol"
	"github.com/helenusdb/helenus/cql/types"
)

// The golden files hold what a real Cassandra 5.0.8 answered: testdata/oracle.py made them.

// goldenCase is one statement of a golden file with what followed it.
type goldenCase struct {
	line   int
	text   string
	values string // as written; "" without
	answer []string
}

func readGolden(t testing.TB, name string) []goldenCase {
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	var out []goldenCase
	for i, l := range strings.Split(strings.TrimSuffix(string(b), "\n"), "\n") {
		switch {
		case strings.HasPrefix(l, "\t"):
			c := &out[len(out)-1]
			c.answer = append(c.answer, l[1:])
		case strings.HasPrefix(l, ">"):
			out[len(out)-1].values = l
		default:
			out = append(out, goldenCase{line: i + 1, text: l})
		}
	}
	return out
}

// goldenDB returns a database with the schema of the golden files.
func goldenDB(t testing.TB) *memDB {
	db := newMemDB(t)
	b, err := os.ReadFile(filepath.Join("testdata", "schema.cql"))
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range strings.Split(string(b), "\n") {
		if l != "" && !strings.HasPrefix(l, "#") {
			db.must(l)
		}
	}
	return db
}

// errorLine shows an error as the golden files do.
func errorLine(err error) string {
	code := protocol.CodeServerError
	var pe *Error
	var se *cql.SyntaxError
	var ie *cql.InvalidError
	switch {
	case errors.As(err, &pe):
		code = pe.Code
	case errors.As(err, &se):
		code = protocol.CodeSyntax
	case errors.As(err, &ie):
		code = protocol.CodeInvalid
	}
	return fmt.Sprintf("error %04x %s", int(code), strings.ReplaceAll(err.Error(), "\n", "\\n"))
}

func columnLines(kind string, cols []protocol.Column) []string {
	var out []string
	for _, c := range cols {
		out = append(out, fmt.Sprintf("%s %s.%s %s %s", kind, c.Keyspace, c.Table, hex.EncodeToString(protocol.AppendType(nil, protocol.V4, c.Type)), c.Name))
	}
	return out
}

// prepareLines compiles a statement and shows what PREPARE would answer.
func prepareLines(db *memDB, text string) []string {
	ast, err := cql.Parse(text)
	if err != nil {
		return []string{errorLine(err)}
	}
	st, err := Compile(ast, Env{Catalog: db.catalog, Keyspace: db.keyspace})
	if err != nil {
		return []string{errorLine(err)}
	}
	var pk []string
	for _, i := range st.PartitionKeyBinds {
		pk = append(pk, fmt.Sprint(i))
	}
	for _, b := range st.Binds {
		if b.Table != st.Binds[0].Table {
			pk = nil // the protocol sends none then
		}
	}
	out := []string{"ok pk " + strings.Join(pk, ",")}
	out = append(out, columnLines("bind", st.Binds)...)
	return append(out, columnLines("column", st.Result)...)
}

// sortedSignatures sorts the signatures that a message lists: Cassandra's order is that of a hash table.
func sortedSignatures(msg string) string {
	i := strings.Index(msg, "signatures: ")
	j := strings.LastIndex(msg, ")")
	if i < 0 {
		return msg
	}
	i += len("signatures: ")
	list := strings.Split(msg[i:j], ", system.")
	list[0] = strings.TrimPrefix(list[0], "system.")
	slices.Sort(list)
	return msg[:i] + strings.Join(list, ", ") + msg[j:]
}

// refused reports whether a statement was refused by name because what it needs is not built.
func refused(lines []string) bool {
	return len(lines) == 1 && strings.Contains(lines[0], "not supported yet")
}

// TestPrepareAsCassandra compares what compiling says (error, bind variables, routing, result columns) with Cassandra.
func TestPrepareAsCassandra(t *testing.T) { comparePrepare(t, "prepare.golden") }

// TestConditionalPrepareAsCassandra is the same for conditional writes.
func TestConditionalPrepareAsCassandra(t *testing.T) { comparePrepare(t, "lwtprepare.golden") }

func comparePrepare(t *testing.T, name string) {
	db := goldenDB(t)
	later := 0
	for _, c := range readGolden(t, name) {
		got := prepareLines(db, c.text)
		if refused(got) {
			later++
			continue
		}
		if strings.HasPrefix(c.answer[0], "error 0000") && strings.HasPrefix(got[0], "error 2200") {
			continue // an exception of Java's, not an answer
		}
		if g, w := sortedSignatures(strings.Join(got, "\n\t")), sortedSignatures(strings.Join(c.answer, "\n\t")); g != w {
			t.Errorf("%s:%d: %s\n got %s\nwant %s", name, c.line, c.text, g, w)
		}
	}
	t.Logf("%d statements need what is not built", later)
}

// goldenValues parses the bound values of a script: see script.txt.
func goldenValues(t *testing.T, line string) []protocol.Value {
	var out []protocol.Value
	for _, w := range strings.Fields(strings.TrimPrefix(line, ">")) {
		switch {
		case w == "null":
			out = append(out, nullValue())
		case w == "unset":
			out = append(out, unsetValue())
		case strings.HasPrefix(w, "0x"):
			b, err := hex.DecodeString(w[2:])
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, setValue(b))
		case strings.HasPrefix(w, "'"):
			out = append(out, setValue([]byte(strings.Trim(w, "'"))))
		default:
			out = append(out, setValue(goldenNumber(t, w)))
		}
	}
	return out
}

func goldenNumber(t *testing.T, w string) []byte {
	typ := types.Int
	if s, ok := strings.CutSuffix(w, "L"); ok {
		w, typ = s, types.Bigint
	}
	b, err := typ.ParseLiteral(w)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// scriptLines runs a statement and shows the answer as the golden files do.
func scriptLines(db *memDB, text string, values []protocol.Value) []string {
	r, err := db.run(text, values...)
	if err != nil {
		return []string{errorLine(err)}
	}
	if r.columns == nil {
		return []string{"ok"}
	}
	out := append([]string{"rows"}, columnLines("column", r.columns)...)
	for _, cells := range r.rows {
		line := "row"
		for _, v := range cells {
			if v == nil {
				line += " null"
			} else {
				line += " 0x" + hex.EncodeToString(v)
			}
		}
		out = append(out, line)
	}
	return out
}

// TestScriptAsCassandra runs a script of writes and reads and compares every answer with Cassandra's, reading whole results,
// in client pages and in replica pages of various sizes.
func TestScriptAsCassandra(t *testing.T) { runScript(t, "script.golden", scriptSizes()) }

// TestSuitesAsCassandra is the same with what the test suites of drivers and of other servers found.
func TestSuitesAsCassandra(t *testing.T) { runScript(t, "suites.golden", scriptSizes()) }

// TestConditionalAsCassandra is the same with conditional writes, which have no pages.
func TestConditionalAsCassandra(t *testing.T) { runScript(t, "lwt.golden", []scriptSize{{}}) }

// TestCountersAsCassandra is the same with counters.
func TestCountersAsCassandra(t *testing.T) { runScript(t, "counters.golden", scriptSizes()) }

// scriptSize is how a script is read: rows of a client's page and of a replica's, 0: all, and bytes of a client's page.
type scriptSize struct{ page, chunk, bytes int }

func scriptSizes() []scriptSize {
	return []scriptSize{{0, 0, 0}, {1, 0, 0}, {2, 0, 0}, {3, 2, 0}, {0, 1, 0}, {5000, 3, 0}, {5000, 0, 1}, {5000, 2, 30}}
}

func runScript(t *testing.T, name string, sizes []scriptSize) {
	for _, size := range sizes {
		t.Run(fmt.Sprintf("page=%d,chunk=%d,bytes=%d", size.page, size.chunk, size.bytes), func(t *testing.T) {
			db := goldenDB(t)
			db.pageSize, db.chunk, db.pageBytes = size.page, size.chunk, size.bytes
			for _, c := range readGolden(t, name) {
				got := scriptLines(db, c.text, goldenValues(t, c.values))
				if strings.HasPrefix(c.answer[0], "error 0000") && got[0] != "rows" {
					continue // an exception of Java's, not an answer
				}
				if refused(got) || size.page > 0 && strings.Contains(got[0], "Cannot page queries with both") {
					continue
				}
				want := slices.DeleteFunc(slices.Clone(c.answer), func(l string) bool { return strings.HasPrefix(l, "warning ") })
				if g, w := strings.Join(got, "\n\t"), strings.Join(want, "\n\t"); g != w {
					t.Errorf("%s:%d: %s %s\n got %s\nwant %s", name, c.line, c.text, c.values, g, w)
				}
			}
		})
	}
}
