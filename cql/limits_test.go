package cql

import (
	"errors"
	"strconv"
	"strings"
	"testing"
)

// TestNestingIsBounded: what is nested ten thousand times is refused, whatever it is, without running out of stack.
func TestNestingIsBounded(t *testing.T) {
	const n = 10_000
	for _, text := range []string{
		"SELECT * FROM t WHERE a = " + strings.Repeat("[", n) + strings.Repeat("]", n),
		"SELECT * FROM t WHERE a = " + strings.Repeat("(", n) + "1" + strings.Repeat(")", n),
		"SELECT * FROM t WHERE a = " + strings.Repeat("{1:", n) + "1" + strings.Repeat("}", n),
		"SELECT * FROM t WHERE a = " + strings.Repeat("{x:", n) + "1" + strings.Repeat("}", n),
		"SELECT * FROM t WHERE a = " + strings.Repeat("f(", n) + strings.Repeat(")", n),
		"SELECT * FROM t WHERE a = " + strings.Repeat("(int)", n) + "1",
		"SELECT * FROM t WHERE a = " + strings.Repeat("cast(", n) + "1" + strings.Repeat(" as int)", n),
		"SELECT * FROM t WHERE a = 1" + strings.Repeat("+ 1", n),
		"SELECT * FROM t WHERE a = 1" + strings.Repeat("* 1", n),
		"SELECT * FROM t WHERE " + strings.Repeat("(", n) + "a = 1" + strings.Repeat(")", n),
		"SELECT " + strings.Repeat("(", n) + "a" + strings.Repeat(")", n) + " FROM t",
		"SELECT " + strings.Repeat("[", n) + "a" + strings.Repeat("]", n) + " FROM t",
		"SELECT " + strings.Repeat("{", n) + "a" + strings.Repeat("}", n) + " FROM t",
		"SELECT " + strings.Repeat("f(", n) + "a" + strings.Repeat(")", n) + " FROM t",
		"SELECT " + strings.Repeat("- ", n) + "a FROM t",
		"SELECT " + strings.Repeat("(int)", n) + "a FROM t",
		"SELECT " + strings.Repeat("a + ", n) + "a FROM t",
		"SELECT " + strings.Repeat("a / ", n) + "a FROM t",
		"SELECT a" + strings.Repeat(".b", n) + " FROM t",
		"SELECT a" + strings.Repeat("[1]", n) + " FROM t",
		"CREATE TABLE t (a " + strings.Repeat("list<", n) + "int" + strings.Repeat(">", n) + ")",
		"CREATE TABLE t (a " + strings.Repeat("tuple<int, ", n) + "int" + strings.Repeat(">", n) + ")",
		"SELECT (" + strings.Repeat("frozen<", n) + "list<int>" + strings.Repeat(">", n) + ") a FROM t",
	} {
		_, err := Parse(text)
		var invalid *InvalidError
		if !errors.As(err, &invalid) || !strings.Contains(invalid.Msg, "nested more than 500 levels") {
			t.Errorf("%.60s...: %v", text, err)
		}
	}
}

// TestNestingBelowTheBound: what stays below it is fine.
func TestNestingBelowTheBound(t *testing.T) {
	const n = 400
	for _, text := range []string{
		"SELECT * FROM t WHERE a = " + strings.Repeat("[", n) + strings.Repeat("]", n),
		"SELECT " + strings.Repeat("(", n) + "a" + strings.Repeat(")", n) + " FROM t",
		"CREATE TABLE t (a " + strings.Repeat("list<", n) + "int" + strings.Repeat(">", n) + ")",
		"SELECT a" + strings.Repeat("[1]", n) + strings.Repeat(" + a", n) + " FROM t",
	} {
		if _, err := Parse(text); err != nil {
			t.Errorf("%.60s...: %v", text, err)
		}
	}
}

// TestMarkersAreBounded: the protocol counts bound values in 16 bits.
func TestMarkersAreBounded(t *testing.T) {
	in := func(n int) string { return "SELECT * FROM t WHERE a IN (?" + strings.Repeat(",?", n-1) + ")" }
	s, err := Parse(in(markersMax))
	if err != nil || len(s.Markers()) != markersMax {
		t.Fatalf("%d markers: %v", markersMax, err)
	}
	_, err = Parse(in(markersMax + 1))
	if class(err) != "2200" || err.Error() != "Too many markers(?). 65536 markers exceed the allowed maximum of 65535" {
		t.Errorf("one more: %v", err)
	}
}

// work returns how many tokens the parser stepped over, per byte of text.
func work(text string) float64 {
	p := parser{lex: newLexer(text)}
	p.parse()
	return float64(p.steps) / float64(len(text)+8)
}

// stepsPerByteMax bounds the work of parsing.
const stepsPerByteMax = 4

// TestWorkIsLinear: statements of a megabyte cost a bounded number of steps per byte, good or bad, also where the parser tries
// and goes back.
func TestWorkIsLinear(t *testing.T) {
	fill := func(before, piece, after string) string {
		return before + strings.Repeat(piece, (1<<20)/len(piece)) + after
	}
	var many, sets strings.Builder
	many.WriteString("CREATE TABLE t (k int PRIMARY KEY")
	sets.WriteString("UPDATE t SET k = 1")
	for i := range 60_000 {
		many.WriteString(", c" + strconv.Itoa(i) + " int")
		sets.WriteString(", c" + strconv.Itoa(i) + " = 1")
	}
	for _, text := range []string{
		many.String() + ")",
		sets.String() + " WHERE k = 1",
		fill("SELECT ", "a.b[1], ", "a FROM t"),
		fill("SELECT ", "(int)(", ""),
		fill("SELECT ", "(a)", ""),
		fill("SELECT ", "(a)((a)(", ""),
		fill("SELECT ", "a[", ""),
		fill("SELECT JSON ", "a.b[(int)f(1)], ", ""),
		fill("SELECT JSON DISTINCT ", "(a)[1].c, ", ""),
		fill("INSERT INTO t (a) VALUES ('", "x''", "')"),
		fill("INSERT INTO t (a) VALUES ('", "x", "')"),
		fill("INSERT INTO t (a) VALUES ('", "x", ""),
		fill("INSERT INTO t (a) VALUES ($$", "$ ", "$$)"),
		fill("SELECT * FROM t WHERE a IN (", "{x: [1, (2, 'y')]}, ", "1)"),
		fill("SELECT * FROM t WHERE ", "(a) = (1) AND ", "b = 2"),
		fill("BEGIN BATCH ", "INSERT INTO t (a) VALUES (1); ", "APPLY BATCH"),
		fill("", " ", ""),
		fill("", "/* */", ""),
		fill("SELECT * FROM t WHERE a = ", "\n", "b"),
		fill("CREATE KEYSPACE k WITH replication = {'a': 'b'", ", 'a': 'b'", "}"),
		fill("SELECT a FROM t", ";", ""),
	} {
		if w := work(text); w > stepsPerByteMax {
			t.Errorf("%.60s...: %.1f steps per byte", text, w)
		}
	}
}

// TestMessagesAreBounded: a string of a megabyte next to an error does not come back whole.
func TestMessagesAreBounded(t *testing.T) {
	_, err := Parse("SELECT * FROM t WHERE a '" + strings.Repeat("é", 1<<19) + "'")
	if class(err) != "2000" || len(err.Error()) > messageMax+64 {
		t.Errorf("%T of %d bytes", err, len(err.Error()))
	}
}

// FuzzParse: no text makes the parser panic, work more than linearly, or answer with anything but its two errors; markers
// have consecutive slots; rendering what was accepted does not panic.
func FuzzParse(f *testing.F) {
	for _, v := range verdicts(f) {
		f.Add(v.statement)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if w := work(text); w > stepsPerByteMax {
			t.Errorf("%.1f steps per byte", w)
		}
		s, err := Parse(text)
		if err != nil {
			if c := class(err); c != "2000" && c != "2200" {
				t.Errorf("%s: %v", c, err)
			}
			return
		}
		for i, m := range s.Markers() {
			if m.Index != i {
				t.Errorf("marker %d has slot %d", i, m.Index)
			}
		}
		FullyQualified(s)
		if sel, ok := s.(*Select); ok {
			for _, item := range sel.Selectors {
				ColumnName(item.Expr, Namer{})
			}
			for i := range sel.Where {
				FormatRelation(&sel.Where[i])
			}
		}
	})
}
