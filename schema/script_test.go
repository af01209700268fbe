package schema_test

import (
	"cmp"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"sort"
	"strings"
	"testing"
	"time"

	"github.com/helenusdb/helenus/cql"
	"github.com/helenusdb/helenus/cql/types"
	"github.com/helenusdb/helenus/ring"
	"github.com/helenusdb/helenus/schema"
)

var rewrite = flag.Bool("rewrite", false, "write the outcomes of testdata/ddl/*.txt")

// block is a statement of a script and what it is to come to.
type block struct {
	comments  []string
	statement string
	outcome   []string
}

func readScript(t testing.TB, path string) []block {
	t.Helper()
	src, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var out []block
	var b block
	var statement []string
	inOutcome := false
	for line := range strings.SplitSeq(strings.TrimRight(string(src), "\n")+"\n", "\n") {
		switch {
		case line == "":
			if b.statement = strings.Join(statement, "\n"); b.statement != "" {
				out = append(out, b)
				b = block{}
			}
			statement, inOutcome = nil, false
		case inOutcome:
			b.outcome = append(b.outcome, line)
		case line == "----":
			inOutcome = true
		case strings.HasPrefix(line, "#") && statement == nil:
			b.comments = append(b.comments, line)
		default:
			statement = append(statement, line)
		}
	}
	return out
}

func writeScript(t *testing.T, path string, blocks []block) {
	t.Helper()
	var b strings.Builder
	for i, bl := range blocks {
		if i > 0 {
			b.WriteByte('\n')
		}
		for _, c := range bl.comments {
			b.WriteString(c + "\n")
		}
		b.WriteString(bl.statement + "\n----\n" + strings.Join(bl.outcome, "\n") + "\n")
	}
	if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
		t.Fatal(err)
	}
}

// machine runs scripts against a catalog, the way a node does: plan, encode, decode, apply.
type machine struct {
	t       testing.TB
	catalog *schema.Catalog
	env     schema.Env
	ids     byte
	before  []string // of CHANGED
}

func newMachine(t testing.TB) *machine {
	m := &machine{t: t, catalog: schema.Bootstrap()}
	r, err := ring.New([]ring.Node{{ID: ring.HostID{1}, DC: "datacenter1", Rack: "rack1", Tokens: []ring.Token{0}}}, ring.Murmur3{})
	if err != nil {
		t.Fatal(err)
	}
	m.env = schema.Env{
		NewID:    func() schema.ID { m.ids++; return schema.ID{0xAA, m.ids} },
		Now:      func() time.Time { return time.UnixMicro(1_700_000_000_123_456).UTC() },
		KnownDCs: []string{"datacenter1"},
		Ring:     r,
	}
	return m
}

// run returns what a statement comes to, in the form of the scripts.
func (m *machine) run(statement string) []string {
	words := strings.Fields(statement)
	switch words[0] {
	case "ROWS":
		return m.rows(words[1], words[2])
	case "CHANGED":
		return m.changed(words[1], words[2])
	case "SELECT":
		return m.selectAll(statement)
	}
	stmt, err := cql.Parse(statement)
	if err != nil {
		return errorLines(err)
	}
	if d, ok := stmt.(*cql.Describe); ok {
		return m.describe(d)
	}
	plan, err := m.plan(stmt)
	if err != nil {
		return errorLines(err)
	}
	return m.apply(plan)
}

func (m *machine) apply(plan schema.Plan) []string {
	var out []string
	for _, w := range plan.Warnings {
		out = append(out, "warning: "+oneLine(w))
	}
	decoded := make([]schema.Change, len(plan.Changes))
	for i, ch := range plan.Changes {
		got, rest, err := schema.DecodeChange(ch.Append(nil))
		if err != nil || len(rest) > 0 {
			m.t.Fatalf("decode of %s: %d bytes left, %v", ch.Kind, len(rest), err)
		}
		decoded[i] = got
	}
	next, err := m.catalog.Apply(decoded)
	if err != nil {
		m.t.Fatal(err)
	}
	if same, err := m.catalog.Apply(plan.Changes); err != nil || same.Version != next.Version {
		m.t.Fatalf("a decoded change does something else: %v", err)
	}
	if loaded, err := schema.DecodeCatalog(next.Encode()); err != nil || loaded.Version != next.Version {
		m.t.Fatalf("a decoded catalog is another one: %v", err)
	}
	if len(plan.Changes) > 0 && next.Version == m.catalog.Version {
		m.t.Fatal("changes without a new version")
	}
	if events := m.catalog.Diff(next); !plan.Event.None() && !slices.Contains(events, plan.Event) {
		m.t.Fatalf("event %v is not among %v", plan.Event, events)
	}
	m.catalog = next
	if plan.Event.None() {
		return append(out, "void")
	}
	e := plan.Event
	return append(out, strings.TrimRight(fmt.Sprintf("%s %s %s %s", e.Change, e.Target, e.Keyspace, e.Name), " "))
}

func errorLines(err error) []string {
	var refused *schema.Error
	var invalid *cql.InvalidError
	var syntax *cql.SyntaxError
	switch {
	case errors.As(err, &refused):
		code := map[schema.Code]int{schema.Invalid: 0x2200, schema.Syntax: 0x2000, schema.Config: 0x2300, schema.AlreadyExists: 0x2400, schema.Unauthorized: 0x2100}[refused.Code]
		out := []string{fmt.Sprintf("error 0x%04X %s", code, oneLine(refused.Msg))}
		if refused.Code == schema.AlreadyExists {
			out = append(out, "exists: "+refused.Keyspace+"."+refused.Table)
		}
		return out
	case errors.As(err, &invalid):
		return []string{"error 0x2200 " + oneLine(err.Error())}
	case errors.As(err, &syntax):
		return []string{"error 0x2000 " + oneLine(err.Error())}
	}
	return []string{"error " + err.Error()}
}

func oneLine(s string) string {
	return strings.ReplaceAll(strings.ReplaceAll(s, `\`, `\\`), "\n", `\n`)
}

func (m *machine) describe(d *cql.Describe) []string {
	o := schema.DescribeOptions{Internals: d.Internals}
	k, ok := m.catalog.Keyspace(d.Name.Keyspace.Name)
	if !ok && d.Name.Keyspace.Name != "" {
		return []string{"error 0x2200 '" + d.Name.Keyspace.Name + "' not found in keyspaces"}
	}
	var list []schema.Element
	for _, k := range schema.ByName(m.catalog.Keyspaces(), func(k *schema.Keyspace) string { return k.Name }) {
		switch d.What {
		case cql.DescribeKeyspaces:
			list = append(list, k.Element())
		case cql.DescribeTables:
			for _, t := range schema.ByName(k.Tables(), func(t *schema.Table) string { return t.Name }) {
				list = append(list, t.Element(o))
			}
		case cql.DescribeTypes:
			for _, t := range schema.ByName(k.Types(), func(t *types.Type) string { return t.Name }) {
				list = append(list, schema.TypeElement(t))
			}
		}
	}
	switch d.What {
	case cql.DescribeKeyspaces, cql.DescribeTables, cql.DescribeTypes:
		return elementNames(list)
	case cql.DescribeKeyspace:
		list = k.Elements(o)
	case cql.DescribeOnlyKeyspace:
		list = []schema.Element{k.Element()}
	case cql.DescribeFullSchema, cql.DescribeSchema:
		list = m.catalog.Describe(d.What == cql.DescribeFullSchema, o)
	case cql.DescribeTable:
		t, ok := k.Table(d.Name.Name.Name)
		if !ok {
			return []string{fmt.Sprintf("error 0x2200 Table '%s' not found in keyspace '%s'", d.Name.Name.Name, k.Name)}
		}
		list = []schema.Element{t.Element(o)}
	case cql.DescribeType:
		t, ok := k.Type(d.Name.Name.Name)
		if !ok {
			return []string{fmt.Sprintf("error 0x2200 User defined type '%s' not found in '%s'", d.Name.Name.Name, k.Name)}
		}
		list = []schema.Element{schema.TypeElement(t)}
	default:
		m.t.Fatalf("DESCRIBE form %d", d.What)
	}
	var out []string
	for _, e := range list {
		out = append(out, fmt.Sprintf("[%s %s %s]", e.Keyspace, e.Type, e.Name))
		for line := range strings.SplitSeq(e.CreateStatement, "\n") {
			out = append(out, cmp.Or(line, "~"))
		}
	}
	return out
}

func elementNames(list []schema.Element) []string {
	var out []string
	for _, e := range list {
		out = append(out, fmt.Sprintf("%s %s %s", e.Keyspace, e.Type, e.Name))
	}
	return out
}

func (m *machine) rows(table, keyspace string) []string {
	in, rows := "system_schema", m.catalog.SchemaRows
	if ks, name, ok := strings.Cut(table, "."); ok {
		in, table, rows = ks, name, m.catalog.VirtualSchemaRows
	}
	def, _ := m.catalog.Table(in, table)
	var out []string
	for _, r := range rows(table) {
		if string(r.Value("keyspace_name")) != keyspace {
			continue
		}
		if len(r) != len(def.AllColumns()) {
			m.t.Fatalf("row of %d columns", len(r))
		}
		var cells []string
		for i, v := range r {
			if v.Column != def.AllColumns()[i].Name {
				m.t.Fatalf("column %s out of order", v.Column)
			}
			if v.Value != nil {
				if err := def.AllColumns()[i].Type.Validate(v.Value); err != nil {
					m.t.Fatalf("%s: %v", v.Column, err)
				}
			}
			cells = append(cells, v.Column+"="+showCell(def.AllColumns()[i], v.Value, keyspace))
		}
		out = append(out, strings.Join(cells, " "))
	}
	return out
}

func showCell(c *schema.Column, value []byte, keyspace string) string {
	switch {
	case value == nil:
		return "null"
	case c.Name == "id" && !schema.IsSystemKeyspace(keyspace):
		return "*"
	case c.Type == types.Text:
		var b strings.Builder
		e := json.NewEncoder(&b)
		e.SetEscapeHTML(false)
		_ = e.Encode(string(value))
		return strings.TrimSpace(b.String())
	}
	return "0x" + hex.EncodeToString(value)
}

var cellPattern = regexp.MustCompile(`\w+=(?:"(?:[^"\\]|\\.)*"|\S+)`)

func (m *machine) changed(table, keyspace string) []string {
	rows := m.rows(table, keyspace)
	if len(rows) != 1 {
		return rows
	}
	cells := cellPattern.FindAllString(rows[0], -1)
	var out []string
	for _, c := range cells {
		if !slices.Contains(m.before, c) {
			out = append(out, c)
		}
	}
	m.before = cells
	if out == nil {
		return []string{"nothing"}
	}
	return out
}

func (m *machine) selectAll(statement string) []string {
	ks, name, _ := strings.Cut(strings.TrimPrefix(statement, "SELECT * FROM "), ".")
	t, ok := m.catalog.Table(ks, name)
	if !ok {
		m.t.Fatalf("no table %s", statement)
	}
	line := "columns"
	for _, c := range t.AllColumns() {
		line += " " + c.Name
	}
	return []string{line}
}

// TestLikeCassandra runs what was captured from a real Cassandra 5.0.8 (testdata/capture.py).
func TestLikeCassandra(t *testing.T) {
	paths, err := filepath.Glob("testdata/cassandra/*.txt")
	if err != nil || len(paths) == 0 {
		t.Fatal("no captures", err)
	}
	for _, path := range paths {
		t.Run(filepath.Base(path), func(t *testing.T) {
			m := newMachine(t)
			for _, b := range readScript(t, path) {
				got := m.run(b.statement)
				if !sameOutcome(b, got) {
					t.Errorf("%s\n%s", b.statement, difference(comparable(b, b.outcome), comparable(b, got)))
				}
			}
		})
	}
}

// difference returns the lines that only one of the two has.
func difference(want, got []string) string {
	var out []string
	for _, line := range want {
		if !slices.Contains(got, line) {
			out = append(out, "Cassandra: "+line)
		}
	}
	for _, line := range got {
		if !slices.Contains(want, line) {
			out = append(out, "here:      "+line)
		}
	}
	return strings.Join(append(out, "(or another order)"), "\n")
}

// sameOutcome compares with what Cassandra answered, apart from what cannot or should not be the same.
func sameOutcome(b block, got []string) bool {
	if len(b.outcome) > 0 && strings.HasPrefix(b.outcome[0], "error 0x0000 ") {
		return strings.HasPrefix(got[0], "error 0x2") // Cassandra's bugs: exceptions it did not foresee
	}
	if len(b.outcome) > 0 && strings.HasPrefix(b.outcome[0], "error 0x2000 line ") {
		return strings.HasPrefix(got[0], "error 0x2000 line ") // the parser's, tested there
	}
	return slices.Equal(comparable(b, b.outcome), comparable(b, got))
}

var (
	tableID = regexp.MustCompile(`ID = [0-9a-f-]{36}`)
	cdcCell = regexp.MustCompile(`cdc=0x01|cdc=null`)
	notOurs = regexp.MustCompile(`thrift_version|PaxosUncommittedIndex`)
)

// comparable leaves out of an outcome: random ids; the order of dropped columns, which in Cassandra is a hash map's;
// the cdc column, which a Cassandra without CDC never fills; a column that system.local had long ago and an
// index that system.paxos has inside Cassandra.
func comparable(b block, lines []string) []string {
	var out []string
	for _, line := range lines {
		if strings.HasPrefix(b.statement, "ROWS dropped_columns system") || notOurs.MatchString(line) {
			continue
		}
		if !strings.Contains(b.statement, "KEYSPACE system") {
			line = tableID.ReplaceAllString(line, "ID = *")
		}
		line = cdcCell.ReplaceAllString(line, "cdc=?")
		if strings.HasSuffix(b.statement, " INTERNALS") {
			line = strings.TrimSuffix(line, ",")
		}
		if line != "cdc=?" && line != "nothing" {
			out = append(out, line)
		}
	}
	if strings.HasSuffix(b.statement, " INTERNALS") {
		sort.Strings(out)
	}
	return out
}

// TestScripts runs the scripts of what only Helenus does. With -rewrite it writes their outcomes.
func TestScripts(t *testing.T) {
	paths, err := filepath.Glob("testdata/ddl/*.txt")
	if err != nil || len(paths) == 0 {
		t.Fatal("no scripts", err)
	}
	for _, path := range paths {
		t.Run(filepath.Base(path), func(t *testing.T) {
			m := newMachine(t)
			blocks := readScript(t, path)
			for i, b := range blocks {
				got := m.run(b.statement)
				if !slices.Equal(got, b.outcome) && !*rewrite {
					t.Errorf("%s\n--- want:\n%s\n--- got:\n%s", b.statement, strings.Join(b.outcome, "\n"), strings.Join(got, "\n"))
				}
				blocks[i].outcome = got
			}
			if *rewrite {
				writeScript(t, path, blocks)
			}
		})
	}
}
