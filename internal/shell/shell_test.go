package shell

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/helenusdb/helenus/cql/protocol"
	"github.com/helenusdb/helenus/cql/types"
)

// people is a table of two pages.
func people() *fakeAnswer {
	return &fakeAnswer{columns: []protocol.Column{column("k", types.Int), column("name", types.Text)},
		pages: [][][][]byte{{{types.EncodeInt(1), []byte("Ann")}, {types.EncodeInt(20), nil}}, {{types.EncodeInt(300), []byte("漢")}}}}
}

func TestOutput(t *testing.T) {
	f := newFakeServer(t)
	f.answers["SELECT * FROM p"] = people()
	f.answers["SELECT none"] = &fakeAnswer{columns: textColumns("a", "bcd")}
	f.answers["SELECT count"] = &fakeAnswer{columns: []protocol.Column{column("count", types.Bigint)}, pages: [][][][]byte{{{types.EncodeBigint(8)}}},
		warnings: []string{"Aggregation query used without partition key"}}
	f.answers["INSERT"] = &fakeAnswer{columns: []protocol.Column{column("[applied]", types.Boolean)}, pages: [][][][]byte{{{types.EncodeBoolean(false)}}}}
	for _, c := range []struct {
		format    Format
		in        string
		out, errs string
	}{
		{Table, "SELECT * FROM p", "\n   k | name\n----+------\n  1 |  Ann\n 20 | null\n 300 |   漢\n\n(3 rows)\n", ""},
		{Table, "EXPAND ON; SELECT * FROM p", "EXPAND set to ON\n\n@ Row 1\n------+------\n k    | 1\n name | Ann\n\n@ Row 2\n------+------\n k    | 20\n name | null\n\n@ Row 3\n------+-----\n k    | 300\n name | 漢\n\n\n(3 rows)\n", ""},
		{Table, "SELECT none;", "\n a | bcd\n---+-----\n\n\n(0 rows)\n", ""},
		{Table, "SELECT count", "\n count\n-------\n     8\n\n(1 rows)\n\nWarnings :\nAggregation query used without partition key\n\n", ""},
		{Table, "INSERT x", "\n [applied]\n-----------\n     False\n", ""},
		{Table, "DELETE x", "", ""},
		{CSV, "SELECT * FROM p", "k,name\n1,Ann\n20,\n300,漢\n", ""},
		{CSV, "SELECT none", "a,bcd\n", ""},
		{JSON, "SELECT * FROM p", "{\"k\":1,\"name\":\"Ann\"}\n{\"k\":20,\"name\":null}\n{\"k\":300,\"name\":\"漢\"}\n", ""},
		{JSON, "SELECT count; INSERT x", "{\"count\":8}\n{\"[applied]\":false}\n", "\nWarnings :\nAggregation query used without partition key\n\n"},
		{Table, "OUTPUT json; SELECT * FROM p; OUTPUT", "{\"k\":1,\"name\":\"Ann\"}\n{\"k\":20,\"name\":null}\n{\"k\":300,\"name\":\"漢\"}\nOUTPUT is JSON\n", ""},
	} {
		s := newSession(t, f, Options{Format: c.format})
		out, errs, err := s.do(c.in)
		if c.format == Table && strings.HasPrefix(c.in, "SELECT *") {
			c.out = strings.Replace(c.out, "   k |", " k  |", 1) // names are on the left, as in cqlsh
		}
		if err != nil || out != c.out || errs != c.errs {
			t.Errorf("%s %s: %v\n%s%s\nwant\n%s%s", c.format, c.in, err, out, errs, c.out, c.errs)
		}
	}
}

func TestErrorsAsCqlshPrintsThem(t *testing.T) {
	f := newFakeServer(t)
	e := protocol.Errorf
	f.answers["SELECT invalid"] = &fakeAnswer{err: e(protocol.CodeInvalid, "Undefined column name x in table k.t")}
	f.answers["SELEC"] = &fakeAnswer{err: e(protocol.CodeSyntax, "line 1:0 no viable alternative at input 'selec'")}
	f.answers["CREATE TABLE"] = &fakeAnswer{err: &protocol.Error{Code: protocol.CodeAlreadyExists, Keyspace: "k", Table: "t"}}
	f.answers["CREATE KEYSPACE"] = &fakeAnswer{err: &protocol.Error{Code: protocol.CodeAlreadyExists, Keyspace: "k"}}
	f.answers["SELECT unavailable"] = &fakeAnswer{err: &protocol.Error{Code: protocol.CodeUnavailable, Message: "Cannot achieve consistency level THREE", Consistency: protocol.Three, Required: 3, Alive: 1}}
	f.answers["INSERT"] = &fakeAnswer{err: &protocol.Error{Code: protocol.CodeWriteTimeout, Message: "m", Consistency: protocol.Quorum, BlockFor: 2, Received: 1, WriteType: protocol.WriteSimple}}
	f.answers["DESC nosuch"] = &fakeAnswer{err: e(protocol.CodeInvalid, "'nosuch' not found in keyspace 'k'")}
	for in, want := range map[string]string{
		"SELECT invalid":        `InvalidRequest: Error from server: code=2200 [Invalid query] message="Undefined column name x in table k.t"`,
		"SELEC":                 "SyntaxException: line 1:0 no viable alternative at input 'selec'",
		"CREATE TABLE k.t ()":   "AlreadyExists: Table 'k.t' already exists",
		"CREATE KEYSPACE k":     "AlreadyExists: Keyspace 'k' already exists",
		"SELECT unavailable":    `Unavailable: Error from server: code=1000 [Unavailable exception] message="Cannot achieve consistency level THREE" info={'consistency': 'THREE', 'required_replicas': 3, 'alive_replicas': 1}`,
		"INSERT":                `WriteTimeout: Error from server: code=1100 [Coordinator node timed out waiting for replica nodes' responses] message="m" info={'consistency': 'QUORUM', 'required_responses': 2, 'received_responses': 1, 'write_type': 'SIMPLE'}`,
		"DESC nosuch":           "'nosuch' not found in keyspace 'k'",
		"COPY t TO 'x'":         "COPY is not available here: use cqlsh, which works with this server, or --output csv and INSERT statements",
		"TRACING maybe":         "Improper TRACING command. Use: TRACING; TRACING ON | OFF",
		"SOURCE '/no/such'":     "Could not open '/no/such': open /no/such: no such file or directory",
		"SELECT 'x":             "incomplete statement at end of input: a string is not closed",
		"SHOW SESSION 1":        "Improper SHOW command. Use: SHOW VERSION; SHOW HOST; SHOW SESSION id",
		"CONSISTENCY most":      "Improper CONSISTENCY command.",
		"LOGIN bob":             "Improper LOGIN command.",
		"SERIAL CONSISTENCY ON": "Improper SERIAL command.",
		"PAGING 0":              "Improper PAGING command.",
		"HELP nothing":          "No help on nothing",
		"CAPTURE OFF":           "Not currently capturing output.",
	} {
		s := newSession(t, f, Options{})
		out, errs, err := s.do("\n" + in)
		if !errors.Is(err, ErrFailed) || out != "" || !strings.HasPrefix(errs, "<stdin>:2:"+want) {
			t.Errorf("%s: %v %s%s, want %s", in, err, out, errs, want)
		}
	}
}

// TestScriptsEndAtTheFirstError, unless told otherwise.
func TestScriptsEndAtTheFirstError(t *testing.T) {
	for _, keepGoing := range []bool{false, true} {
		f := newFakeServer(t)
		f.answers["SELECT bad"] = &fakeAnswer{err: protocol.Errorf(protocol.CodeInvalid, "no")}
		s := newSession(t, f, Options{KeepGoing: keepGoing})
		_, errs, err := s.do("SELECT 1; SELECT bad;\nSELECT 2; SELECT bad;")
		if !errors.Is(err, ErrFailed) || f.asked("SELECT 2") != keepGoing || strings.Count(errs, "InvalidRequest") != map[bool]int{false: 1, true: 2}[keepGoing] {
			t.Errorf("keep going %v: %v, %s", keepGoing, err, errs)
		}
	}
}

// TestFilesNeedTheirLastSemicolon: a file that was cut off must not do more than it said.
func TestFilesNeedTheirLastSemicolon(t *testing.T) {
	f := newFakeServer(t)
	s := newSession(t, f, Options{})
	err := s.Script(context.Background(), "x.cql", strings.NewReader("\ufeffSELECT 1;\nDELETE FROM t WHERE k = 1"), false)
	if !errors.Is(err, ErrFailed) || f.asked("DELETE") || !f.asked("SELECT 1;") || !strings.HasPrefix(s.err.String(), "x.cql:2:incomplete") {
		t.Errorf("%v %s", err, &s.err)
	}
	if err := s.Script(context.Background(), "x.cql", strings.NewReader("CONSISTENCY"), false); err != nil {
		t.Error(err)
	}
}

func TestCommands(t *testing.T) {
	f := newFakeServer(t)
	f.answers["USE"] = &fakeAnswer{keyspace: "Ks"}
	s := newSession(t, f, Options{Version: "1.0"})
	for _, c := range []struct{ in, want string }{
		{"CONSISTENCY; consistency local_quorum; CONSISTENCY", "Current consistency level is ONE.\nConsistency level set to LOCAL_QUORUM.\nCurrent consistency level is LOCAL_QUORUM.\n"},
		{"SERIAL CONSISTENCY; SERIAL CONSISTENCY local_serial", "Current serial consistency level is SERIAL.\nSerial consistency level set to LOCAL_SERIAL.\n"},
		{"PAGING; PAGING 7; PAGING OFF; PAGING ON", "PAGING is ON\nPage size: 100\nPage size: 7\nPAGING set to OFF\nPAGING set to ON\nPage size: 100\n"},
		{"EXPAND; EXPAND OFF", "EXPAND is OFF\nEXPAND is already OFF\n"},
		{"SHOW VERSION", "[helenus sh 1.0 | Cassandra 5.0.8 | CQL spec 3.4.7 | Native protocol v5]\n"},
		{"SHOW HOST", "Connected to Test at " + f.addr + "\n"},
		{"CAPTURE", "Currently not capturing query output.\n"},
		{"CLEAR", ""},
		{"EXIT; SELECT 1", ""},
	} {
		if out, errs, err := s.do(c.in); err != nil || out != c.want || errs != "" {
			t.Errorf("%s: %v\n%s%s\nwant\n%s", c.in, err, out, errs, c.want)
		}
	}
	if out, _, err := s.do("HELP; ? paging\nHELP exit"); err != nil || !strings.Contains(out, "PAGING rows") || !strings.Contains(out, "SOURCE") {
		t.Errorf("%v %s", err, out)
	}
	for len(f.seen) > 0 {
		<-f.seen
	}
	if _, _, err := s.do("USE \"Ks\"; PAGING 7; SELECT * FROM t"); err != nil || s.keyspace != "Ks" {
		t.Error(err, s.keyspace)
	}
	<-f.seen
	if p := <-f.seen; p.Consistency != protocol.LocalQuorum || p.SerialConsistency != protocol.LocalSerial || p.PageSize != 7 {
		t.Errorf("sent with %+v", p)
	}
}

func TestSourceAndCapture(t *testing.T) {
	f := newFakeServer(t)
	f.answers["SELECT * FROM p"] = people()
	dir := t.TempDir()
	script, captured := filepath.Join(dir, "a.cql"), filepath.Join(dir, "out")
	again := filepath.Join(dir, "again.cql")
	for path, text := range map[string]string{script: "SELECT * FROM p;\nEXIT\nSELECT never;", again: "SOURCE '" + again + "'"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s := newSession(t, f, Options{})
	out, errs, err := s.do("CAPTURE '" + captured + "'; SOURCE '" + script + "'; CAPTURE OFF; SELECT 1")
	b, readErr := os.ReadFile(captured)
	if err != nil || readErr != nil || strings.Contains(out, "Ann") || !strings.Contains(string(b), "Ann") || f.asked("SELECT never") || !f.asked("SELECT 1") {
		t.Errorf("%v %v\n%s%s\n%s", err, readErr, out, errs, b)
	}
	if _, errs, err := s.do("SOURCE '" + again + "'"); !errors.Is(err, ErrFailed) || !strings.Contains(errs, "more than 16 files") {
		t.Errorf("%v %s", err, errs)
	}
}

func TestDescribe(t *testing.T) {
	f := newFakeServer(t)
	names := func(rows ...[][]byte) *fakeAnswer {
		return &fakeAnswer{columns: textColumns("keyspace_name", "type", "name"), pages: [][][][]byte{rows}}
	}
	f.answers["DESC KEYSPACES"] = names(text("a", "keyspace", "a"), text("b", "keyspace", "b"))
	f.answers["DESC TABLES"] = names(text("a", "table", "t"), text("a", "table", `"U"`), text("b", "table", "v"))
	f.answers["DESCRIBE t"] = &fakeAnswer{columns: textColumns("keyspace_name", "type", "name", "create_statement"),
		pages: [][][][]byte{{text("a", "table", "t", "CREATE TABLE a.t (...);")}, {text("a", "index", "i", "CREATE INDEX i;")}}}
	ranges := types.MapOf(types.Text, types.ListOf(types.Text, true), true)
	f.answers["DESC CLUSTER"] = &fakeAnswer{columns: append(textColumns("cluster", "partitioner", "snitch"), column("range_ownership", ranges)),
		pages: [][][][]byte{{append(text("Test", "Murmur3Partitioner", "Simple"), pairs([]byte("-5"), list([]byte("h1"), []byte("h2"))))}}}
	s := newSession(t, f, Options{})
	for in, want := range map[string]string{
		"DESC KEYSPACES": "\na  b\n\n",
		"DESC TABLES":    "\nKeyspace a\n----------\nt  \"U\"\n\nKeyspace b\n----------\nv\n\n",
		"DESCRIBE t":     "\nCREATE TABLE a.t (...);\n\nCREATE INDEX i;\n",
		"DESC CLUSTER":   "\nCluster: Test\nPartitioner: Murmur3Partitioner\nSnitch: Simple\n\nRange ownership:\n" + strings.Repeat(" ", 38) + "-5  [h1, h2]\n\n",
	} {
		if out, errs, err := s.do(in); err != nil || out != want {
			t.Errorf("%s: %v %s\n%q\n%q", in, err, errs, out, want)
		}
	}
}

func TestColumnize(t *testing.T) {
	var names []string
	for _, c := range "abcdefg" {
		names = append(names, strings.Repeat(string(c), 20))
	}
	var b strings.Builder
	columnize(&b, names)
	a := func(c string) string { return strings.Repeat(c, 20) }
	if want := a("a") + "  " + a("d") + "  " + a("g") + "\n" + a("b") + "  " + a("e") + "\n" + a("c") + "  " + a("f") + "\n"; b.String() != want {
		t.Errorf("%s\nwant\n%s", b.String(), want)
	}
	b.Reset()
	columnize(&b, []string{strings.Repeat("x", 100)})
	if b.String() != strings.Repeat("x", 100)+"\n" {
		t.Error(b.String())
	}
}

func TestTracing(t *testing.T) {
	f := newFakeServer(t)
	f.answers["SELECT * FROM p"] = people()
	local := []byte{127, 0, 0, 1}
	f.answers["SELECT coordinator"] = &fakeAnswer{columns: []protocol.Column{column("coordinator", types.Inet), column("client", types.Inet), column("request", types.Text),
		column("started_at", types.Timestamp), column("duration", types.Int)},
		pages: [][][][]byte{{{local, local, []byte("Execute CQL3 query"), types.EncodeTimestamp(1577934245678), types.EncodeInt(1500)}}}}
	id := make([]byte, 16) // 2020-01-02 03:04:05.679 in ticks of 100 ns since 1582
	ticks := uint64(15779342456790000 + 0x01b21dd213814000)
	id[0], id[1], id[2], id[3] = byte(ticks>>24), byte(ticks>>16), byte(ticks>>8), byte(ticks)
	id[4], id[5], id[6], id[7] = byte(ticks>>40), byte(ticks>>32), byte(ticks>>56)|0x10, byte(ticks>>48)
	f.answers["SELECT event_id"] = &fakeAnswer{columns: []protocol.Column{column("event_id", types.Timeuuid), column("activity", types.Text), column("source", types.Inet),
		column("source_elapsed", types.Int), column("thread", types.Text)},
		pages: [][][][]byte{{{id, []byte("Parsing"), local, types.EncodeInt(42), []byte("T-1")}}}}
	s := newSession(t, f, Options{})
	out, errs, err := s.do("TRACING ON; SELECT * FROM p")
	if err != nil || errs != "" {
		t.Fatal(err, errs)
	}
	at := time.UnixMilli(1577934245678)
	for _, want := range []string{"Tracing session: 01020300-0000-0000-0000-000000000000",
		" activity           | timestamp                  | source    | source_elapsed | client\n",
		" Execute CQL3 query | " + at.Format("2006-01-02 15:04:05.000000") + " | 127.0.0.1 |              0 | 127.0.0.1\n",
		"      Parsing [T-1] | " + at.Add(time.Millisecond).Format("2006-01-02 15:04:05.000000") + " | 127.0.0.1 |             42 | 127.0.0.1\n",
		"   Request complete | " + at.Add(1500*time.Microsecond).Format("2006-01-02 15:04:05.000000") + " | 127.0.0.1 |           1500 | 127.0.0.1\n"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is missing in\n%s", want, out)
		}
	}
	if strings.Count(out, "Tracing session") != 2 { // one for each page
		t.Errorf("%s", out)
	}
	if out, _, err = s.do("SELECT * FROM system_traces.events"); err != nil || strings.Contains(out, "Tracing") {
		t.Errorf("a look at the traces is traced: %v %s", err, out)
	}
}
