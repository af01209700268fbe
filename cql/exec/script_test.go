package exec_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/helenusdb/helenus/cql/protocol"
	"github.com/helenusdb/helenus/cql/types"
)

// The scripts in testdata/*.cql run through the bytes of the native protocol; testdata/*.golden holds what Apache
// Cassandra 5.0.8 answered. Stanzas are separated by empty lines: directives, then one statement.
//
//	@v4          protocol version 4 (v5 otherwise)
//	@cl QUORUM   consistency level (ONE otherwise)
//	@page 2      in pages of 2 rows, all of them
//	@prepare     PREPARE and EXECUTE
//	@bind int 5  a value; also: null, unset
//	@name k      names for the values
//	@ts 5        timestamp
//	@now 5       now in seconds
//	@ks k        keyspace of the request
//	@skip        skip the metadata
//	@batch logged|unlogged|counter   every line is a statement of a BATCH, values after --
//	@quiet       the answer does not matter
//	@only        what Cassandra does is another thing: the golden file holds what we do, for the reason that follows
var (
	oracle  = flag.String("oracle", "", "address of the Cassandra that answers the scripts; needs -rewrite")
	rewrite = flag.Bool("rewrite", false, "rewrite the golden files from the answers of -oracle")
	ours    = flag.Bool("ours", false, "with -rewrite, rewrite the stanzas marked @only from our own answers")
)

type stanza struct {
	version    protocol.Version
	params     protocol.QueryParams
	page       int32
	prepare    bool
	keyspace   string
	batch      string
	only       bool
	quiet      bool
	text       string
	directives []string
}

func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.cql")
	if err != nil || len(files) == 0 {
		t.Fatal("no scripts", err)
	}
	for _, f := range files {
		t.Run(strings.TrimSuffix(filepath.Base(f), ".cql"), func(t *testing.T) { runScript(t, f) })
	}
}

// touchesSystem finds changes of rows in keyspaces of the system, which a Cassandra without authentication carries out: one
// such statement and no driver can connect to it any more, nor can it be believed about its system tables.
var touchesSystem = regexp.MustCompile(`(?i)\b(into|update|from|truncate(\s+table|\s+columnfamily)?)\s+"?system|^\s*use\s+"?system`)

// harmless tells whether the stanza may be sent to the oracle.
func (s *stanza) harmless() bool {
	for line := range strings.Lines(s.text) {
		reads, _ := regexp.MatchString(`(?i)^\s*(prepared\s+)?(select|describe|desc|list)\b`, line)
		if !reads && touchesSystem.MatchString(line) {
			return false
		}
	}
	return !strings.HasPrefix(s.keyspace, "system")
}

// TestOracleIsNotHarmed: no script sends a Cassandra what would damage its system tables.
func TestOracleIsNotHarmed(t *testing.T) {
	for text, want := range map[string]bool{
		"TRUNCATE system.local": false, "truncate table system_schema.tables": false, "DELETE FROM \"system\".local WHERE key = 'a'": false,
		"UPDATE system.local SET a = 1": false, "INSERT INTO  system_auth.roles (role) VALUES ('a')": false, "USE system": false,
		"INSERT INTO a.b (k) VALUES (1)\nDELETE k FROM system.local": false, "SELECT * FROM system.local": true, "UPDATE a.b SET v = 1": true,
		"DESCRIBE KEYSPACE system": true, "prepared SELECT key FROM system.local": true, "prepared DELETE FROM system.local WHERE key = 'a'": false,
	} {
		if got := (&stanza{text: text}).harmless(); got != want {
			t.Errorf("%s: %t", text, got)
		}
	}
	files, _ := filepath.Glob("testdata/*.cql")
	for _, f := range files {
		for _, s := range parseScript(t, f) {
			if !s.only && !s.harmless() {
				t.Errorf("%s: mark it @only: %s", f, s.text)
			}
		}
	}
}

func runScript(t *testing.T, file string) {
	golden := strings.TrimSuffix(file, ".cql") + ".golden"
	stanzas := parseScript(t, file)
	addr := *oracle
	if !*rewrite || *ours {
		addr = start(t, options{}).addr
	}
	got := make([]string, len(stanzas))
	s := &script{t: t, addr: addr, clients: map[protocol.Version]*client{}}
	for i := range stanzas {
		if addr == *oracle && (stanzas[i].only || !stanzas[i].harmless()) {
			continue // it would harm it
		}
		got[i] = s.run(&stanzas[i])
	}
	want := readGolden(golden)
	if *rewrite {
		for i := range stanzas {
			if stanzas[i].only != *ours && i < len(want) {
				got[i] = want[i]
			}
		}
		writeGolden(t, golden, stanzas, got)
		return
	}
	if len(want) != len(got) {
		t.Fatalf("%s has %d answers, the script %d statements", golden, len(want), len(got))
	}
	for i := range stanzas {
		if got[i] != want[i] {
			t.Errorf("%s\n%s\n got: %s\nwant: %s", strings.Join(stanzas[i].directives, " "), stanzas[i].text, got[i], want[i])
		}
	}
}

const goldenMark = "-----\n"

func readGolden(name string) []string {
	b, _ := os.ReadFile(name)
	var out []string
	for _, part := range strings.Split(string(b), goldenMark)[1:] {
		_, answer, _ := strings.Cut(part, "=====\n")
		out = append(out, answer)
	}
	return out
}

func writeGolden(t *testing.T, name string, stanzas []stanza, got []string) {
	var b strings.Builder
	for i := range stanzas {
		b.WriteString(goldenMark + stanzas[i].text + "\n=====\n" + got[i])
	}
	if err := os.WriteFile(name, []byte(b.String()), 0o644); err != nil {
		t.Fatal(err)
	}
}

func parseScript(t *testing.T, file string) []stanza {
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var out []stanza
	for _, part := range strings.Split(string(b), "\n\n") {
		if part = strings.Trim(part, "\n"); part != "" {
			out = append(out, parseStanza(t, part))
		}
	}
	return out
}

func parseStanza(t *testing.T, part string) stanza {
	s := stanza{version: protocol.V5, params: protocol.QueryParams{Consistency: protocol.One}}
	lines := strings.Split(part, "\n")
	for len(lines) > 0 && strings.HasPrefix(lines[0], "@") {
		s.directives = append(s.directives, lines[0])
		name, rest, _ := strings.Cut(lines[0][1:], " ")
		s.directive(t, name, rest)
		lines = lines[1:]
	}
	s.text = strings.Join(lines, "\n")
	return s
}

func (s *stanza) directive(t *testing.T, name, rest string) {
	p := &s.params
	number := func() int64 {
		n, err := strconv.ParseInt(rest, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	switch name {
	case "v3":
		s.version = protocol.V3
	case "v4":
		s.version = protocol.V4
	case "cl":
		level, err := protocol.ParseConsistency(rest)
		if err != nil {
			t.Fatal(err)
		}
		p.Consistency = level
	case "page":
		p.Flags |= protocol.QueryPageSize
		p.PageSize = int32(number())
		s.page = p.PageSize
	case "prepare":
		s.prepare = true
	case "bind":
		p.Flags |= protocol.QueryValues
		p.Values = append(p.Values, parseValue(t, rest))
	case "name":
		p.Flags |= protocol.QueryNames
		p.Names = append(p.Names, []byte(rest))
	case "ts":
		p.Flags |= protocol.QueryTimestamp
		p.Timestamp = number()
	case "now":
		p.Flags |= protocol.QueryNowInSeconds
		p.NowInSeconds = number()
	case "ks":
		p.Flags |= protocol.QueryKeyspace
		p.Keyspace, s.keyspace = []byte(rest), rest
	case "skip":
		p.Flags |= protocol.QuerySkipMetadata
	case "state":
		p.Flags |= protocol.QueryPagingState
		p.PagingState = []byte(rest)
	case "batch":
		s.batch = rest
	case "quiet":
		s.quiet = true
	case "only":
		s.only = true
	default:
		t.Fatalf("unknown directive %s", name)
	}
}

func parseValue(t testing.TB, text string) protocol.Value {
	switch text {
	case "null":
		return protocol.Value{State: protocol.Null}
	case "unset":
		return protocol.Value{State: protocol.Unset}
	}
	name, literal, _ := strings.Cut(text, " ")
	if strings.HasPrefix(literal, "[") { // a list: the elements of an IN
		elem, err := types.Parse(name, nil, "")
		if err != nil {
			t.Fatal(err)
		}
		var elems [][]byte
		for _, e := range strings.Split(strings.Trim(literal, "[]"), ",") {
			if e = strings.TrimSpace(e); e != "" {
				elems = append(elems, parseValue(t, name+" "+e).Bytes)
			}
		}
		return protocol.Value{Bytes: types.ListOf(elem, false).AppendCollection(nil, elems)}
	}
	typ, err := types.Parse(name, nil, "")
	if err != nil {
		t.Fatal(err)
	}
	b, err := typ.ParseLiteral(strings.Trim(literal, "'"))
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return protocol.Value{Bytes: b}
}

// script runs stanzas on one connection per version.
type script struct {
	t       *testing.T
	addr    string
	clients map[protocol.Version]*client
}

func (s *script) run(st *stanza) string {
	c := s.clients[st.version]
	if c == nil {
		c = dial(s.t, s.addr, st.version)
		s.clients[st.version] = c
	}
	var b strings.Builder
	switch {
	case st.batch != "":
		show(&b, c.runBatch(st))
	case st.prepare:
		c.runPrepared(&b, st)
	default:
		c.pages(&b, st, func(p *protocol.QueryParams) answer { return c.query(st.text, p) })
	}
	if st.quiet {
		return "\n"
	}
	return b.String()
}

func (c *client) runBatch(st *stanza) answer {
	batch := protocol.Batch{QueryParams: st.params, Type: map[string]protocol.BatchType{"logged": protocol.BatchLogged,
		"unlogged": protocol.BatchUnlogged, "counter": protocol.BatchCounter}[st.batch]}
	for _, line := range strings.Split(st.text, "\n") {
		text, values, _ := strings.Cut(line, " -- ")
		item := protocol.BatchStatement{Query: []byte(text)}
		if values != "" {
			for _, v := range strings.Split(values, "; ") {
				item.Values = append(item.Values, parseValue(c.t, v))
			}
		}
		if text, ok := strings.CutPrefix(text, "prepared "); ok {
			a := c.prepare(text)
			if a.err != nil {
				return a
			}
			item.Prepared, item.ID, item.Query = true, a.result.Prepared.ID, nil
		}
		if text != "" {
			batch.Statements = append(batch.Statements, item)
		}
	}
	return c.call(protocol.AppendBatch(nil, c.v, 1, 0, &batch))
}

func (c *client) runPrepared(b *strings.Builder, st *stanza) {
	a := c.call(protocol.AppendPrepare(nil, c.v, 1, 0, st.text, st.keyspace))
	show(b, a)
	if a.err != nil {
		return
	}
	p := a.result.Prepared
	c.pages(b, st, func(params *protocol.QueryParams) answer {
		return c.call(protocol.AppendExecute(nil, c.v, 1, 0, &protocol.Execute{ID: p.ID, ResultMetadataID: p.ResultMetadataID, QueryParams: *params}))
	})
}

// pages asks until there are no more pages.
func (c *client) pages(b *strings.Builder, st *stanza, ask func(*protocol.QueryParams) answer) {
	p := st.params
	for range 100 {
		a := ask(&p)
		more := show(b, a)
		if st.page <= 0 || more == nil {
			return
		}
		b.WriteString("(more)\n")
		p.Flags |= protocol.QueryPagingState
		p.PagingState = more
	}
	b.WriteString("(pages without end)\n")
}

// show writes an answer and returns the state of the next page.
func show(b *strings.Builder, a answer) []byte {
	for _, w := range a.extras.Warnings {
		fmt.Fprintf(b, "warning: %s\n", w)
	}
	if e := a.err; e != nil {
		fmt.Fprintf(b, "error 0x%04x %s\n", int(e.Code), e.Message)
		switch e.Code {
		case protocol.CodeUnavailable:
			fmt.Fprintf(b, "  %s required %d alive %d\n", e.Consistency, e.Required, e.Alive)
		case protocol.CodeAlreadyExists:
			fmt.Fprintf(b, "  keyspace %q table %q\n", e.Keyspace, e.Table)
		case protocol.CodeFunctionFailure:
			fmt.Fprintf(b, "  %s.%s(%s)\n", e.Keyspace, e.Function, strings.Join(e.ArgTypes, ", "))
		}
		return nil
	}
	return showResult(b, a.result)
}

func showResult(b *strings.Builder, r *protocol.Result) []byte {
	switch r.Kind {
	case protocol.ResultVoid:
		b.WriteString("void\n")
	case protocol.ResultSetKeyspace:
		fmt.Fprintf(b, "keyspace %s\n", r.Keyspace)
	case protocol.ResultSchemaChange:
		fmt.Fprintf(b, "schema %s %s %s %s\n", r.Change.Change, r.Change.Target, r.Change.Keyspace, r.Change.Name)
	case protocol.ResultPrepared:
		p := r.Prepared
		fmt.Fprintf(b, "prepared %x %x pk %v\n binds%s\n", p.ID, p.ResultMetadataID, p.PKIndexes, columnsText(p.Variables))
		fmt.Fprintf(b, " result flags %d columns %d%s\n", p.Result.Flags, p.Result.ColumnCount, columnsText(p.Result.Columns))
	case protocol.ResultRows:
		return showRows(b, &r.Rows)
	}
	return nil
}

func columnsText(columns []protocol.Column) string {
	var b strings.Builder
	for _, c := range columns {
		fmt.Fprintf(&b, " %s.%s.%s:%s", c.Keyspace, c.Table, c.Name, c.Type)
	}
	return b.String()
}

func showRows(b *strings.Builder, r *protocol.Rows) []byte {
	fmt.Fprintf(b, "rows %d flags %d columns %d%s\n", r.Count, r.Metadata.Flags, r.Metadata.ColumnCount, columnsText(r.Metadata.Columns))
	for r.Next() {
		for i, v := range r.Values() {
			b.WriteString(" | ")
			switch {
			case v == nil:
				b.WriteString("null")
			case i < len(r.Metadata.Columns):
				b.Write(r.Metadata.Columns[i].Type.AppendText(nil, v))
			default:
				fmt.Fprintf(b, "%x", v)
			}
		}
		b.WriteByte('\n')
	}
	if r.Metadata.Flags&protocol.RowsHasMorePages != 0 {
		return append([]byte{}, r.Metadata.PagingState...)
	}
	return nil
}
