package e2e

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/helenusdb/helenus/cql/protocol"
)

const (
	badMemory  = 200 // MiB more than before that bad input may cost
	badPatient = 2 * time.Second
)

// abuse starts a node with a bystander, lets f misbehave, and checks that the bystander was not disturbed, that the
// node's memory stayed bounded and that nothing panicked.
func abuse(t *testing.T, f func(t *testing.T, p *process)) {
	t.Helper()
	c := newCluster(t, 1).up().settled()
	p := c.nodes[0]
	w := mustDial(t, p.addr)
	w.must(t, "CREATE KEYSPACE ks WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}")
	w.must(t, "CREATE TABLE ks.t (k int, c int, v text, PRIMARY KEY (k, c))")
	for i := range 300 {
		w.must(t, "INSERT INTO ks.t (k, c, v) VALUES (%d, %d, 'x')", i%3, i)
	}
	b := watch(t, p.addr, "ks.bystander")
	before := p.rss()
	f(t, p)
	if after := p.procMiB("VmHWM:"); after > before+badMemory {
		t.Errorf("the node's memory went from %.0f MiB to %.0f MiB", before, after)
	} else {
		t.Logf("resident memory %.0f MiB before, %.0f MiB at most", before, after)
	}
	b.undisturbed(badPatient)
	if n := p.metric("helenus_client_panics_total"); n > 0 {
		t.Errorf("%.0f requests panicked", n)
	}
}

// header builds a frame header whose length is a lie.
func header(version, flags byte, stream int16, op byte, length uint32) []byte {
	h := []byte{version, flags, byte(uint16(stream) >> 8), byte(stream), op}
	return binary.BigEndian.AppendUint32(h, length)
}

// TestBadInput_RandomBytes: whatever bytes come, before or after STARTUP, the connection alone suffers.
func TestBadInput_RandomBytes(t *testing.T) {
	random := seeded(t)
	abuse(t, func(t *testing.T, p *process) {
		for range times(t, "HELENUS_E2E_RANDOM", 400) {
			w, err := dialWhere(p.addr, random.IntN(2) == 0)
			if err != nil {
				t.Fatal(err)
			}
			_, _ = w.Write(nonsense(random))
			if random.IntN(2) == 0 { // let it answer
				w.SetReadDeadline(time.Now().Add(5 * time.Millisecond))
				_, _ = io.Copy(io.Discard, w.r)
			}
			w.Close()
		}
	})
}

func dialWhere(addr string, started bool) (*wire, error) {
	if started {
		return dialWire(addr)
	}
	return dialRaw(addr)
}

// nonsense is random bytes, or a frame with a right header and random content, or such a frame cut short.
func nonsense(random *rand.Rand) []byte {
	b := make([]byte, 1+random.IntN(2000))
	for i := range b {
		b[i] = byte(random.Uint32())
	}
	if random.IntN(3) == 0 {
		return b
	}
	ops := []protocol.Opcode{protocol.OpStartup, protocol.OpOptions, protocol.OpQuery, protocol.OpPrepare, protocol.OpExecute, protocol.OpBatch, protocol.OpRegister}
	f := append(header(byte(3+random.IntN(3)), byte(random.IntN(32)), int16(random.IntN(100)), byte(ops[random.IntN(len(ops))]), uint32(len(b))), b...)
	if random.IntN(2) == 0 {
		f = f[:random.IntN(len(f))]
	}
	return f
}

// TestBadInput_HugeFrames: a frame that claims 2 GiB costs nothing. Before STARTUP 64 KiB are allowed, after it 16 MiB;
// what is longer is refused, before STARTUP without reading it.
func TestBadInput_HugeFrames(t *testing.T) {
	for _, tc := range []struct {
		name    string
		started bool
		length  uint32
		sent    int
		answer  bool // it must come although not all has been sent
	}{
		{"2 GiB before STARTUP", false, 1<<31 - 1, 4 << 20, true},
		{"65 KiB before STARTUP", false, 65 << 10, 65 << 10, true},
		{"17 MiB after STARTUP", true, 17 << 20, 17 << 20, true},
		{"2 GiB after STARTUP", true, 1<<31 - 1, 4 << 20, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			abuse(t, func(t *testing.T, p *process) {
				var all sync.WaitGroup
				for range 20 { // 20 times 2 GiB are 40 GiB
					all.Go(func() {
						if err := hugeFrame(p.addr, tc.started, tc.length, tc.sent, tc.answer); err != nil {
							t.Errorf("%s: %v", tc.name, err)
						}
					})
				}
				all.Wait()
			})
		})
	}
}

// hugeFrame announces a long frame and sends so much of it, as far as the node takes it. With answer the node must reply
// with an error or close the connection.
func hugeFrame(addr string, started bool, length uint32, sent int, answer bool) error {
	w, err := dialWhere(addr, started)
	if err != nil {
		return err
	}
	defer w.Close()
	op := byte(protocol.OpQuery)
	if !started {
		op = byte(protocol.OpStartup)
	}
	if _, err := w.Write(header(4, 0, 1, op, length)); err != nil {
		return err
	}
	chunk := make([]byte, 65<<10)
	w.SetWriteDeadline(time.Now().Add(5 * time.Second))
	for ; sent > 0; sent -= len(chunk) {
		if _, err := w.Write(chunk[:min(sent, len(chunk))]); err != nil {
			break
		}
	}
	if !answer {
		return nil
	}
	_, _, err = w.answer()
	var said *protocol.Error
	switch {
	case errors.As(err, &said) && strings.Contains(said.Message, "exceeds maximum allowed length"):
		return nil
	case err == nil:
		return errors.New("the frame was answered as if it were right")
	case said != nil:
		return err
	case strings.Contains(err.Error(), "timeout"):
		return fmt.Errorf("the node waits for more: %w", err)
	}
	return nil // closed
}

// TestBadInput_Headers: versions and opcodes that do not exist get Cassandra's words, and the connection goes on.
func TestBadInput_Headers(t *testing.T) {
	abuse(t, func(t *testing.T, p *process) {
		w, err := dialRaw(p.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer w.Close()
		for _, tc := range []struct {
			frame []byte
			want  string
		}{
			{header(66, 0, 7, byte(protocol.OpOptions), 0), "Invalid or unsupported protocol version (66); supported versions are (3/v3, 4/v4, 5/v5)"},
			{header(7, 0, 7, byte(protocol.OpOptions), 0), "Invalid or unsupported protocol version (7)"},
			{protocol.AppendQuery(nil, protocol.V4, 7, 0, "SELECT 1", params(protocol.One)), "Unexpected message QUERY, expecting STARTUP or OPTIONS"},
			{header(4, 0, 7, 32, 0), "Unknown opcode 32"},
		} {
			if _, _, err := w.call(tc.frame); err == nil || !contains(err.Error(), tc.want) {
				t.Errorf("% x is answered %v, want %q", tc.frame[:9], err, tc.want)
			}
		}
		if op, _, err := w.call(protocol.AppendOptions(nil, protocol.V4, 1)); err != nil || op != protocol.OpSupported {
			t.Errorf("afterwards OPTIONS is answered with opcode %d, %v", op, err)
		}
		s := mustDial(t, p.addr)
		if _, _, err := s.call(header(4, 0, 7, 32, 0)); err == nil || !contains(err.Error(), "Unknown opcode 32") {
			t.Errorf("unknown opcode after STARTUP: %v", err)
		}
		s.must(t, "SELECT key FROM system.local")
	})
}

// TestBadInput_Values: values whose bytes are no value of their column's type.
func TestBadInput_Values(t *testing.T) {
	abuse(t, func(t *testing.T, p *process) {
		w := mustDial(t, p.addr)
		w.must(t, "CREATE TABLE ks.types (k int PRIMARY KEY, b bigint, bo boolean, d decimal, i inet, l list<int>, m map<text, int>, u uuid, tu tuple<int, text>, ti time, tx text, a ascii)")
		long := bytes.Repeat([]byte{1}, 100)
		for column, bad := range map[string][][]byte{
			"k": {{1, 2, 3}, long}, "b": {{1}, long}, "bo": {{1, 2}}, "d": {{1, 2, 3}}, "i": {{1, 2, 3}}, "u": {{1}, long}, "ti": {{1}},
			"l":  {{0, 0, 0, 9}, {0xff, 0xff, 0xff, 0xff}, {0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 4}, {0, 0, 0, 1, 0, 0, 0, 3, 1, 2, 3}},
			"m":  {{0, 0, 0, 1}, {0, 0, 0, 1, 0, 0, 0, 1, 'x'}},
			"tu": {{0, 0, 0, 3, 1, 2, 3}}, "tx": {{0xff, 0xfe}}, "a": {{0x80}},
		} {
			for _, v := range bad {
				q := params(protocol.One)
				text := fmt.Sprintf("INSERT INTO ks.types (k, %s) VALUES (1, ?)", column)
				if column == "k" {
					text = "INSERT INTO ks.types (k, b) VALUES (?, 1)"
				}
				q.Values = []protocol.Value{{Bytes: v}}
				_, _, err := w.call(protocol.AppendQuery(nil, protocol.V4, 1, 0, text, q))
				var said *protocol.Error
				if !errors.As(err, &said) || said.Code != protocol.CodeInvalid || said.Message == "" {
					t.Errorf("%s = % x: %v, want an invalid request", column, v[:min(len(v), 12)], err)
				}
			}
		}
		if rows := w.must(t, "SELECT k FROM ks.types"); len(rows) > 0 {
			t.Errorf("%d rows were written", len(rows))
		}
	})
}

// TestBadInput_Statements: deep, long and endless statements end soon, each with an error of its own.
func TestBadInput_Statements(t *testing.T) {
	deep := 10_000
	statements := map[string]string{
		"nested lists":        "INSERT INTO ks.t (k, c, v) VALUES (1, 1, " + strings.Repeat("[", deep) + strings.Repeat("]", deep) + ")",
		"nested parentheses":  "SELECT * FROM ks.t WHERE k = " + strings.Repeat("(", deep) + "1" + strings.Repeat(")", deep),
		"open brackets":       "SELECT * FROM ks.t WHERE k = " + strings.Repeat("[", deep),
		"nested maps":         "INSERT INTO ks.t (k, c, v) VALUES (1, 1, " + strings.Repeat("{1:", deep) + "1" + strings.Repeat("}", deep) + ")",
		"nested types":        "CREATE TABLE ks.deep (k int PRIMARY KEY, v " + strings.Repeat("frozen<list<", deep) + "int" + strings.Repeat(">>", deep) + ")",
		"nested functions":    "SELECT " + strings.Repeat("token(", deep) + "k" + strings.Repeat(")", deep) + " FROM ks.t",
		"nested casts":        "SELECT * FROM ks.t WHERE k = " + strings.Repeat("(int)", deep) + "1",
		"signs":               "SELECT * FROM ks.t WHERE k = " + strings.Repeat("-", deep) + "1",
		"a megabyte of terms": "SELECT * FROM ks.t WHERE k IN (" + strings.Repeat("1,", 500_000) + "x)",
		"a megabyte of words": strings.Repeat("SELECT ", 150_000),
		"an endless string":   "SELECT * FROM ks.t WHERE v = '" + strings.Repeat("x", 1<<20),
		"an endless comment":  "SELECT * FROM ks.t /* " + strings.Repeat("x", 1<<20),
		"a huge number":       "INSERT INTO ks.t (k, c, v) VALUES (" + strings.Repeat("9", 1<<20) + ", 1, 'x')",
		"a huge exponent":     "INSERT INTO ks.num (k, d) VALUES (1, 1E1000000000)",
		"no statement":        "",
		"zero bytes":          strings.Repeat("\x00", 100_000),
		"not UTF-8":           "SELECT * FROM ks.t WHERE v = '\xff\xfe'",
		"a huge batch":        "BEGIN BATCH " + strings.Repeat("INSERT INTO ks.t (k) VALUES (1); ", 30_000) + "APPLY",
	}
	abuse(t, func(t *testing.T, p *process) {
		w := mustDial(t, p.addr)
		w.must(t, "CREATE TABLE ks.num (k int PRIMARY KEY, d decimal)")
		for name, text := range statements {
			began := time.Now()
			_, err := w.query(protocol.One, "%s", text)
			took := time.Since(began)
			var said *protocol.Error
			if name == "a huge exponent" && err == nil {
				_, err = w.query(protocol.One, "SELECT d + d, CAST(d AS text) FROM ks.num WHERE k = 1")
				said = &protocol.Error{Code: protocol.CodeInvalid, Message: fmt.Sprint(err)} // stored as it is, and read back in no time
			} else if !errors.As(err, &said) {
				t.Fatalf("%s: %v, want an error of the server", name, err)
			}
			if said.Code != protocol.CodeSyntax && said.Code != protocol.CodeInvalid && said.Code != protocol.CodeProtocol {
				t.Errorf("%s: code %#x: %.200s", name, int32(said.Code), said.Message)
			}
			if len(said.Message) > 64<<10 {
				t.Errorf("%s: the error has %d bytes", name, len(said.Message))
			}
			if took > badPatient {
				t.Errorf("%s took %s", name, took)
			}
		}
		text := strings.Repeat("y", 1<<20) // nothing is wrong with a long value
		w.must(t, "INSERT INTO ks.t (k, c, v) VALUES (77, 1, '%s')", text)
		if rows := w.must(t, "SELECT v FROM ks.t WHERE k = 77"); len(rows) != 1 || string(rows[0][0]) != text {
			t.Error("a value of 1 MiB does not come back")
		}
	})
}

// TestBadInput_PagingStates: a paging state that was changed, or is another query's, never shows another table's rows.
func TestBadInput_PagingStates(t *testing.T) {
	random := seeded(t)
	abuse(t, func(t *testing.T, p *process) {
		w := mustDial(t, p.addr)
		w.must(t, "CREATE TABLE ks.secret (k int, c int, v text, PRIMARY KEY (k, c))")
		for i := range 50 {
			w.must(t, "INSERT INTO ks.secret (k, c, v) VALUES (1, %d, 'secret')", i)
		}
		page := func(text string, state []byte) (*protocol.Rows, error) {
			q := params(protocol.One)
			q.PageSize, q.PagingState, q.Flags = 10, state, protocol.QueryPageSize
			if state != nil {
				q.Flags |= protocol.QueryPagingState
			}
			_, body, err := w.call(protocol.AppendQuery(nil, protocol.V4, 1, 0, text, q))
			if err != nil {
				return nil, err
			}
			return protocol.DecodeRows(protocol.V4, body)
		}
		const own, foreign = "SELECT v FROM ks.t WHERE k = 1", "SELECT v FROM ks.secret WHERE k = 1"
		first, err := page(own, nil)
		if err != nil {
			t.Fatal(err)
		}
		state := append([]byte(nil), first.Metadata.PagingState...)
		if len(state) == 0 {
			t.Fatal("the first page has no paging state")
		}
		if _, err := page(own, state); err != nil {
			t.Fatalf("the second page: %v", err)
		}
		refused := func(what, text string, state []byte) {
			t.Helper()
			_, err := page(text, state)
			var said *protocol.Error
			if !errors.As(err, &said) || said.Code != protocol.CodeProtocol || said.Message != "Invalid value for the paging state" {
				t.Errorf("%s: %v, want Cassandra's protocol error", what, err)
			}
		}
		refused("another table's state", foreign, state)
		refused("another partition's state", "SELECT v FROM ks.t WHERE k = 2", state)
		for i := range state {
			forged := append([]byte(nil), state...)
			forged[i] ^= 1 << random.IntN(8)
			refused(fmt.Sprintf("byte %d changed", i), own, forged)
		}
		for n := range state {
			if n > 0 {
				refused(fmt.Sprintf("cut to %d bytes", n), own, state[:n])
			}
		}
		refused("a long state", own, bytes.Repeat([]byte{7}, 1<<16))
	})
}

// TestBadInput_ManyIdleConnections: thousands of connections that say nothing, or one byte, cost little.
func TestBadInput_ManyIdleConnections(t *testing.T) {
	abuse(t, func(t *testing.T, p *process) {
		var all []*wire
		for i := range 2000 {
			w, err := dialRaw(p.addr)
			if err != nil {
				t.Fatalf("connection %d: %v", i, err)
			}
			if i%2 == 0 {
				_, _ = w.Write([]byte{4})
			}
			all = append(all, w)
		}
		time.Sleep(500 * time.Millisecond)
		for _, w := range all {
			w.Close()
		}
		for deadline := time.Now().Add(10 * time.Second); p.metric("helenus_client_connections") > 10; time.Sleep(50 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%.0f connections are still counted", p.metric("helenus_client_connections"))
			}
		}
	})
}
