package shell

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/helenusdb/helenus/cql/protocol"
	"github.com/helenusdb/helenus/cql/types"
)

// screen collects what a terminal shows.
type screen struct {
	mu  sync.Mutex
	buf strings.Builder
	at  int // what has been expected already
}

func (s *screen) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.buf.Write(b)
}

// expect waits until want has come after what was expected before.
func (s *screen) expect(t *testing.T, want string) {
	t.Helper()
	for end := time.Now().Add(5 * time.Second); ; time.Sleep(time.Millisecond) {
		s.mu.Lock()
		rest := s.buf.String()[s.at:]
		n := strings.Index(rest, want)
		if n >= 0 {
			s.at += n + len(want)
		}
		s.mu.Unlock()
		if n >= 0 {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%q does not come; there is %q", want, rest)
		}
	}
}

// user is somebody at a terminal.
type user struct {
	t    *testing.T
	keys io.Writer
	*screen
	done chan error
}

// typing opens a shell on a terminal made of pipes.
func typing(t *testing.T, f *fakeServer, history string) *user {
	t.Helper()
	in, keys := io.Pipe()
	u := &user{t: t, keys: keys, screen: &screen{}, done: make(chan error, 1)}
	s := New(Options{Out: u.screen, Err: u.screen, Dialing: Dialing{Addr: f.listen(), RequestTimeout: 5 * time.Second}})
	if err := s.Connect(context.Background()); err != nil {
		t.Fatal(err)
	}
	term, err := OpenTerminal(TerminalOptions{History: history, Complete: s.CompleteWith(context.Background()), Stdin: in, Stdout: u.screen,
		Width: func() int { return 100 }, Raw: true})
	if err != nil {
		t.Fatal(err)
	}
	s.SetLines(term)
	finished := make(chan struct{})
	go func() {
		u.done <- s.Interact(context.Background())
		close(finished)
	}()
	t.Cleanup(func() {
		keys.Close()
		<-finished
		term.Close()
		s.Close()
	})
	return u
}

// press types text, of which \r is Enter, and waits for what should come.
func (u *user) press(text, want string) {
	u.t.Helper()
	if _, err := io.WriteString(u.keys, text); err != nil {
		u.t.Fatal(err)
	}
	u.expect(u.t, want)
}

func schemaAnswers(f *fakeServer) {
	f.answers["SELECT keyspace_name FROM system_schema.keyspaces"] = &fakeAnswer{columns: textColumns("k"), pages: [][][][]byte{{text("shop"), text("system"), text("Mixed")}}}
	f.answers["SELECT keyspace_name, table_name FROM system_schema.tables"] = &fakeAnswer{columns: textColumns("k", "t"),
		pages: [][][][]byte{{text("shop", "orders"), text("shop", "order_lines"), text("shop", "People"), text("system", "local")}}}
	f.answers["SELECT keyspace_name, type_name"] = &fakeAnswer{columns: textColumns("k", "t"), pages: [][][][]byte{{text("shop", "address")}}}
	f.answers["SELECT keyspace_name, table_name, column_name, kind FROM system_schema.columns"] = &fakeAnswer{columns: textColumns("k", "t", "c", "kind"),
		pages: [][][][]byte{{text("shop", "orders", "customer", "partition_key"), text("shop", "orders", "number", "clustering")}, {text("shop", "orders", "created", "static")}}}
}

func TestInteractive(t *testing.T) {
	f := newFakeServer(t)
	schemaAnswers(f)
	f.answers["use shop"] = &fakeAnswer{keyspace: "shop"}
	f.answers["SELECT * FROM p"] = people()
	f.answers["select * from orders"] = &fakeAnswer{columns: []protocol.Column{column("number", types.Int)}, pages: [][][][]byte{{{types.EncodeInt(4711)}}}}
	f.answers["SELECT bad"] = &fakeAnswer{err: protocol.Errorf(protocol.CodeInvalid, "no such thing")}
	history := filepath.Join(t.TempDir(), "history")
	u := typing(t, f, history)
	u.expect(t, "Connected to Test at ")
	u.expect(t, "Use HELP for help.")
	u.expect(t, "helenus> ")
	u.press("use sh\t;\r", "helenus@shop> ")
	u.press("sel\t* fro\tord\ts\r", "         ... ") // completed, and continued on the next line
	u.press("where customer = 1;\r", "4711")
	u.expect(t, "(1 rows)")
	u.expect(t, "helenus@shop> ")
	u.press("SELECT * FROM p;\r", "---MORE---")
	u.press("\r", "300")
	u.expect(t, "(3 rows)")
	u.expect(t, "helenus@shop> ")
	u.press("SELECT * FROM p;\r", "---MORE---")
	u.press("q\r", "(2 rows)")
	u.expect(t, "helenus@shop> ")
	u.press("SELECT bad;\r", "InvalidRequest: Error from server: code=2200")
	u.expect(t, "helenus@shop> ")
	u.press("SELECT 'half\r", "... ")
	u.press("\x03", "helenus@shop> ") // Ctrl-C forgets it
	u.press("login bob 'secret'\r", "@helenus@shop> ")
	u.press("\x04", "\n") // Ctrl-D leaves
	if err := <-u.done; err != nil {
		t.Error(err)
	}
	b, err := os.ReadFile(history)
	if err != nil {
		t.Fatal(err)
	}
	if want := "use shop;\nselect * from orders where customer = 1;\nSELECT * FROM p;\nSELECT bad;\n"; string(b) != want {
		t.Errorf("history:\n%s\nwant\n%s", b, want)
	}
	if info, err := os.Stat(history); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info.Mode(), err)
	}
}

func TestInteractiveEnd(t *testing.T) {
	for _, c := range []struct{ keys, want string }{
		{"exit\r", "exit"},
		{"quit;\r", "quit"},
		{"SELECT 1\r\x04", "Incomplete statement"},
	} {
		u := typing(t, newFakeServer(t), "")
		u.expect(t, "helenus> ")
		u.press(c.keys, c.want)
		if err := <-u.done; err != nil {
			t.Errorf("%q: %v", c.keys, err)
		}
	}
}

func TestHistoryLines(t *testing.T) {
	for in, want := range map[string]string{
		"select 1":          "select 1;",
		"select\n1":         "select 1;",
		"select -- x\n1":    "",
		"desc tables":       "desc tables",
		"select 'a -- b'":   "select 'a -- b';",
		"select\r\n*\nfrom": "select * from;",
	} {
		if got := historyLine(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
	for in, want := range map[string]bool{"LOGIN bob 'x'": true, "create role r with password = 'x'": true, "select 'password'": false, "select pass_word": false} {
		if secret(in) != want {
			t.Errorf("%q: secret %v", in, !want)
		}
	}
}

func TestComplete(t *testing.T) {
	f := newFakeServer(t)
	schemaAnswers(f)
	s := newSession(t, f, Options{Dialing: Dialing{Keyspace: "shop"}})
	s.keyspace = "shop"
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "script.cql"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		in       string
		has, not []string // what is to be added
	}{
		{"", []string{"SELECT ", "USE ", "CONSISTENCY "}, nil},
		{"sel", []string{"ect "}, nil},
		{"SEL", []string{"ECT "}, nil},
		{"use ", []string{"shop ", "system ", `"Mixed" `}, nil},
		{"use s", []string{"hop ", "ystem "}, nil},
		{`use "M`, []string{`ixed" `}, nil},
		{"select * f", []string{"rom "}, nil},
		{"select * from o", []string{"rders ", "rder_lines "}, nil},
		{"select * from ", []string{"orders ", `"People" `, "shop.", "system."}, []string{"local "}},
		{"select * from system.", []string{"local "}, []string{"orders "}},
		{"select * from system.lo", []string{"cal "}, nil},
		{"select * from sh", []string{"op."}, nil},
		{"select * from orders where cu", []string{"stomer "}, []string{"created "}},
		{"select * from shop.orders where n", []string{"umber "}, nil},
		{"insert into orders (", []string{"customer ", "number ", "created "}, nil},
		{"update orders set cr", []string{"eated "}, nil},
		{"update ", []string{"orders "}, nil},
		{"insert ", []string{"INTO "}, []string{"orders "}},
		{"create ", []string{"TABLE ", "KEYSPACE ", "MATERIALIZED "}, nil},
		{"create table ", []string{"IF "}, []string{"orders "}},
		{"create table if ", []string{"NOT "}, nil},
		{"create table x (k in", []string{"t ", "et "}, nil},
		{"create index on o", []string{"rders "}, nil},
		{"drop table ", []string{"orders ", "IF "}, nil},
		{"drop type a", []string{"ddress "}, nil},
		{"drop type shop.a", []string{"ddress "}, []string{"orders "}},
		{"alter table orders dr", []string{"op "}, nil},
		{"describe t", []string{"able ", "ables "}, nil},
		{"describe table o", []string{"rders "}, nil},
		{"consistency lo", []string{"cal_quorum ", "cal_one ", "cal_serial "}, nil},
		{"tracing o", []string{"n ", "ff "}, nil},
		{"begin ", []string{"BATCH "}, nil},
		{"select 'a", nil, []string{"ND "}},
		{"select 1 -- x", nil, []string{"FROM "}},
		{"select * from orders;\nsel", nil, nil},
		{"select * from orders order ", []string{"BY "}, []string{"customer "}},
		{"source '" + dir + "/scr", []string{"ipt.cql'"}, nil},
	} {
		add, _ := s.Complete(context.Background(), c.in)
		for _, want := range c.has {
			if !slices.Contains(add, want) {
				t.Errorf("%q: %q is missing in %q", c.in, want, add)
			}
		}
		for _, no := range c.not {
			if slices.Contains(add, no) {
				t.Errorf("%q: %q is offered in %q", c.in, no, add)
			}
		}
	}
}

// TestSchemaIsCached, and read again after this shell changed it.
func TestSchemaIsCached(t *testing.T) {
	f := newFakeServer(t)
	schemaAnswers(f)
	f.answers["CREATE"] = &fakeAnswer{change: &protocol.Event{Type: protocol.SchemaChange, Change: protocol.Created, Target: protocol.TargetTable, Keyspace: "shop", Name: "new"}}
	s := newSession(t, f, Options{})
	reads := func() (n int) {
		for range 3 {
			s.Complete(context.Background(), "use ")
		}
		f.mu.Lock()
		defer f.mu.Unlock()
		for _, q := range f.queries {
			if strings.HasPrefix(q, "SELECT keyspace_name FROM system_schema.keyspaces") {
				n++
			}
		}
		return n
	}
	if n := reads(); n != 1 {
		t.Errorf("read %d times", n)
	}
	if _, errs, err := s.do("CREATE TABLE shop.new (k int PRIMARY KEY)"); err != nil {
		t.Fatal(err, errs)
	}
	if n := reads(); n != 2 {
		t.Errorf("read %d times after a change", n)
	}
	s.o.Color = true
	for name, want := range map[string]string{"customer": red, "number": cyan, "created": white, "other": magenta} {
		if got := s.schema.columnColor(context.Background(), s.Shell, "shop", "orders", name); got != want {
			t.Errorf("%s has colour %q", name, got)
		}
	}
}
