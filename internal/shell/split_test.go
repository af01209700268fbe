package shell

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

// split feeds text line by line, as a terminal does.
func split(t testing.TB, text string) (list []Statement, rest string) {
	t.Helper()
	var s Splitter
	for line := range strings.Lines(text) {
		if err := s.Add(line); err != nil {
			t.Fatal(err)
		}
		for {
			st, ok := s.Next()
			if !ok {
				break
			}
			list = append(list, st)
		}
	}
	return list, s.Pending()
}

func TestSplit(t *testing.T) {
	for _, c := range []struct {
		in   string
		want []string
		rest string
	}{
		{"select 1;\n", []string{"select 1"}, ""},
		{"a;b ; c", []string{"a", "b"}, "c"},
		{" ;; \n;", nil, ""},
		{"select\n*\nfrom t;\n", []string{"select\n*\nfrom t"}, ""},
		{"select 'a;b' ; x", []string{"select 'a;b'"}, "x"},
		{"select 'it''s;' ;", []string{"select 'it''s;'"}, ""},
		{"select 'a\nb;' ;", []string{"select 'a\nb;'"}, ""},
		{`select "a;""b" ;`, []string{`select "a;""b"`}, ""},
		{"create function f as $$ a; 'b $ c $$; d", []string{"create function f as $$ a; 'b $ c $$"}, "d"},
		{"-- a;\nselect 1; // b;\n", []string{"select 1"}, ""},
		{"select /* ; */ 1 -- ;\n, 2;", []string{"select /* ; */ 1 -- ;\n, 2"}, ""},
		{"select 1 /* a\nb; */ ; x", []string{"select 1"}, "x"},
		{"select 1 -- it's\n;", []string{"select 1"}, ""},
		{"select '--', '/*', \"//\" from t;", []string{"select '--', '/*', \"//\" from t"}, ""},
		{"select 1 - 2, 4 / 2;", []string{"select 1 - 2, 4 / 2"}, ""},
		{"begin batch a; b; apply batch; c;", []string{"begin batch a; b; apply batch", "c"}, ""},
		{"BEGIN UNLOGGED BATCH a;\nAPPLY\nBATCH;", []string{"BEGIN UNLOGGED BATCH a;\nAPPLY\nBATCH"}, ""},
		{"begin batch apply batch;", []string{"begin batch apply batch"}, ""},
		{"begin batch insert 'apply batch'; x", nil, "begin batch insert 'apply batch'; x"},
		{"update t set batch = 1; begin", []string{"update t set batch = 1"}, "begin"},
		{"desc tables\nselect 1;", []string{"desc tables", "select 1"}, ""},
		{"desc tables; select 1;", []string{"desc tables", "select 1"}, ""},
		{"exit", nil, "exit"},
		{"?\n? paging\nselect ?;", []string{"?", "? paging", "select ?"}, ""},
		{"tracing on -- now\nexit -- bye\n", []string{"tracing on", "exit"}, ""},
		{"source 'a\n;b'\n", []string{"source 'a\n;b'"}, ""},
		{"select descr\nfrom t;", []string{"select descr\nfrom t"}, ""},
		{"insert é漢 ; ü", []string{"insert é漢"}, "ü"},
		{"a\r\nb;\r\nc", []string{"a\r\nb"}, "c"},
	} {
		var got []string
		list, rest := split(t, c.in)
		for _, s := range list {
			got = append(got, s.Text)
		}
		if !slices.Equal(got, c.want) || rest != c.rest {
			t.Errorf("%q: %q rest %q, want %q rest %q", c.in, got, rest, c.want, c.rest)
		}
	}
}

func TestSplitCountsLines(t *testing.T) {
	list, _ := split(t, "\n-- a\nselect\n1; b\n;\n/* \n */ c; desc x\nd;")
	var lines []int
	for _, s := range list {
		lines = append(lines, s.Line)
	}
	if want := []int{3, 4, 7, 7, 8}; !slices.Equal(lines, want) {
		t.Errorf("lines %v, want %v", lines, want)
	}
}

func TestSplitRest(t *testing.T) {
	for _, c := range []struct {
		in, text, err string
		line          int
	}{
		{"", "", "", 0},
		{"-- a", "", "", 0},
		{"\nselect 1 -- a", "select 1", "", 2},
		{"select 'a", "", "a string is not closed", 1},
		{`select "a`, "", "a quoted name is not closed", 1},
		{"x;\n\nas $$ b", "", "a $$ block is not closed", 3},
		{"/* a", "", "a comment is not closed", 1},
		{"begin batch a; b;", "", "a batch is not closed", 1},
		{"begin batch a; apply batch", "begin batch a; apply batch", "", 1},
	} {
		var s Splitter
		if err := s.Add(c.in); err != nil {
			t.Fatal(err)
		}
		for {
			if _, ok := s.Next(); !ok {
				break
			}
		}
		st, ok, err := s.Rest()
		if ok != (c.text != "") || st.Text != c.text || (err != nil) != (c.err != "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%q: %+v %v %v", c.in, st, ok, err)
		}
		if c.line > 0 && st.Line != c.line {
			t.Errorf("%q: line %d, want %d", c.in, st.Line, c.line)
		}
	}
}

func TestSplitIsBounded(t *testing.T) {
	var s Splitter
	chunk := strings.Repeat("x", 1<<20)
	for range 20 {
		if err := s.Add(chunk); err != nil {
			if !errors.Is(err, ErrTooLong) || s.Pending() != "" {
				t.Errorf("%v, %d bytes kept", err, len(s.Pending()))
			}
			return
		}
		s.Next()
	}
	t.Error("20 MiB without an end were accepted")
}

// TestSplitForgetsWhatIsDone: a long file of short statements takes little memory.
func TestSplitForgetsWhatIsDone(t *testing.T) {
	var s Splitter
	line := "insert into t (k) values (1); -- " + strings.Repeat("c", 1000) + "\n"
	for range 40_000 {
		if err := s.Add(line); err != nil {
			t.Fatal(err)
		}
		if st, ok := s.Next(); !ok || st.Text != "insert into t (k) values (1)" {
			t.Fatalf("%+v %v", st, ok)
		}
		s.Next()
	}
	if cap(s.buf) > 1<<20 {
		t.Errorf("%d bytes are held", cap(s.buf))
	}
}

// FuzzSplit: however input is cut into lines, the statements are the same, and each of them stands in the input in order.
func FuzzSplit(f *testing.F) {
	for _, s := range []string{"a;b", "select 'x;''y' ;", "begin batch a; apply batch; c", "$$;$$;", "/*;*/ a; -- b;\nc;", "desc x\ny;", "?\n", "'", "\"", "$$", "a\n;\r\n;", "begin counter batch ; ; apply\nbatch\n;"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, in string) {
		byLine, rest := split(t, in)
		var whole Splitter
		if err := whole.Add(in); err != nil {
			t.Skip()
		}
		at := 0
		for i := 0; ; i++ {
			st, ok := whole.Next()
			if !ok {
				if i != len(byLine) {
					t.Fatalf("%d statements at once, %d line by line", i, len(byLine))
				}
				break
			}
			if i >= len(byLine) || st != byLine[i] {
				t.Fatalf("statement %d is %+v at once, not so line by line: %+v", i, st, byLine)
			}
			n := strings.Index(in[at:], st.Text)
			if n < 0 || st.Text == "" {
				t.Fatalf("%q is not in %q", st.Text, in[at:])
			}
			at += n + len(st.Text)
		}
		if whole.Pending() != rest {
			t.Fatalf("rest %q at once, %q line by line", whole.Pending(), rest)
		}
		tokens(in)
		_, _, _ = whole.Rest()
		if whole.Pending() != "" {
			t.Fatal("something is left after the end")
		}
	})
}
