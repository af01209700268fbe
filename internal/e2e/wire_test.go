package e2e

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/helenusdb/helenus/cql/protocol"
)

const (
	wireTimeout = 20 * time.Second
	roundsMin   = 20 // of a bystander
)

// wire is a raw connection of protocol v4 for what no driver would send. It is not safe for concurrent use.
type wire struct {
	net.Conn
	r *bufio.Reader
}

// dialRaw connects and says nothing.
func dialRaw(addr string) (*wire, error) {
	c, err := net.DialTimeout("tcp", net.JoinHostPort(addr, strconv.Itoa(cqlPort)), 5*time.Second)
	if err != nil {
		return nil, err
	}
	return &wire{c, bufio.NewReader(c)}, nil
}

// dialWire connects and finishes STARTUP.
func dialWire(addr string) (*wire, error) {
	w, err := dialRaw(addr)
	if err != nil {
		return nil, err
	}
	op, _, err := w.call(protocol.AppendStartup(nil, protocol.V4, 0, []protocol.StringPair{{Key: "CQL_VERSION", Value: "3.0.0"}}))
	if err == nil && op != protocol.OpReady {
		err = fmt.Errorf("STARTUP is answered with opcode %d", op)
	}
	if err != nil {
		w.Close()
		return nil, err
	}
	return w, nil
}

// mustDial is dialWire for tests that cannot go on without.
func mustDial(t *testing.T, addr string) *wire {
	t.Helper()
	w, err := dialWire(addr)
	if err != nil {
		t.Fatalf("connect to %s: %v", addr, err)
	}
	t.Cleanup(func() { w.Close() })
	return w
}

// answer reads the next frame, without warnings; an ERROR is returned as *protocol.Error.
func (w *wire) answer() (protocol.Header, []byte, error) {
	w.SetReadDeadline(time.Now().Add(wireTimeout))
	var hdr [protocol.HeaderLen]byte
	if _, err := io.ReadFull(w.r, hdr[:]); err != nil {
		return protocol.Header{}, nil, err
	}
	h, _, err := protocol.DecodeHeader(hdr[:])
	if err != nil {
		return h, nil, err
	}
	body := make([]byte, h.Length)
	if _, err := io.ReadFull(w.r, body); err != nil {
		return h, nil, err
	}
	_, body, err = protocol.SplitResponse(h, body) // warnings are nobody's business here
	if err != nil {
		return h, nil, err
	}
	if h.Op == protocol.OpError {
		e, err := protocol.DecodeError(h.Version, body)
		if err != nil {
			return h, nil, err
		}
		return h, body, e
	}
	return h, body, nil
}

func (w *wire) call(frame []byte) (protocol.Opcode, []byte, error) {
	w.SetWriteDeadline(time.Now().Add(wireTimeout))
	if _, err := w.Write(frame); err != nil {
		return 0, nil, err
	}
	h, body, err := w.answer()
	return h.Op, body, err
}

func params(level protocol.Consistency) *protocol.QueryParams {
	return &protocol.QueryParams{Consistency: level, PageSize: protocol.NoPageSize, SerialConsistency: protocol.Serial,
		Timestamp: protocol.NoTimestamp, NowInSeconds: protocol.NoNowInSeconds}
}

// query runs a statement and returns the rows' values.
func (w *wire) query(level protocol.Consistency, text string, args ...any) ([][][]byte, error) {
	_, body, err := w.call(protocol.AppendQuery(nil, protocol.V4, 1, 0, fmt.Sprintf(text, args...), params(level)))
	if err != nil {
		return nil, err
	}
	r, err := protocol.DecodeResult(protocol.V4, body)
	if err != nil || r.Kind != protocol.ResultRows {
		return nil, err
	}
	var out [][][]byte
	for r.Rows.Next() {
		row := make([][]byte, len(r.Rows.Values()))
		for i, v := range r.Rows.Values() {
			row[i] = append([]byte(nil), v...)
		}
		out = append(out, row)
	}
	return out, r.Rows.Err()
}

// must is query for statements that have to succeed.
func (w *wire) must(t *testing.T, text string, args ...any) [][][]byte {
	t.Helper()
	rows, err := w.query(protocol.One, text, args...)
	if err != nil {
		t.Fatalf("%.200s: %v", fmt.Sprintf(text, args...), err)
	}
	return rows
}

// bystander is a well-behaved client beside a disturbance: it writes a row, reads it back and sends an OPTIONS, over and
// over, on a connection of its own.
type bystander struct {
	t     *testing.T
	addr  string
	table string
	quit  chan struct{}
	done  sync.WaitGroup

	mu    sync.Mutex
	acked int // rows 0 to acked-1 were acknowledged
	slow  time.Duration
	err   error
}

// watch starts a bystander with a table of its own in an existing keyspace.
func watch(t *testing.T, addr, table string) *bystander {
	t.Helper()
	w := mustDial(t, addr)
	w.must(t, "CREATE TABLE IF NOT EXISTS %s (k int PRIMARY KEY, v int)", table)
	b := &bystander{t: t, addr: addr, table: table, quit: make(chan struct{})}
	b.done.Go(func() { b.run(w) })
	t.Cleanup(b.end)
	return b
}

func (b *bystander) end() {
	select {
	case <-b.quit:
	default:
		close(b.quit)
	}
	b.done.Wait()
}

func (b *bystander) run(w *wire) {
	for i := 0; ; i++ {
		select {
		case <-b.quit:
			return
		case <-time.After(5 * time.Millisecond):
		}
		began := time.Now()
		err := b.round(w, i)
		took := time.Since(began)
		b.mu.Lock()
		b.slow = max(b.slow, took)
		if err == nil {
			b.acked = i + 1
		}
		b.err = err
		b.mu.Unlock()
		if err != nil {
			return
		}
	}
}

func (b *bystander) round(w *wire, i int) error {
	if _, err := w.query(protocol.One, "INSERT INTO %s (k, v) VALUES (%d, %d)", b.table, i, -i); err != nil {
		return fmt.Errorf("write %d: %w", i, err)
	}
	rows, err := w.query(protocol.One, "SELECT v FROM %s WHERE k = %d", b.table, i)
	if err != nil {
		return fmt.Errorf("read %d: %w", i, err)
	}
	if len(rows) != 1 || int32(binary.BigEndian.Uint32(rows[0][0])) != int32(-i) {
		return fmt.Errorf("read %d: %v", i, rows)
	}
	if op, _, err := w.call(protocol.AppendOptions(nil, protocol.V4, 2)); err != nil || op != protocol.OpSupported {
		return fmt.Errorf("OPTIONS %d: opcode %d, %w", i, op, err)
	}
	return nil
}

// undisturbed ends the bystander: it must have worked all the time, no round slower than the bound, and everything it
// wrote must be there.
func (b *bystander) undisturbed(slowest time.Duration) {
	b.t.Helper()
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		b.mu.Lock()
		enough := b.acked >= roundsMin || b.err != nil
		b.mu.Unlock()
		if enough {
			break
		}
	}
	b.end()
	b.mu.Lock()
	defer b.mu.Unlock()
	b.t.Logf("the bystander made %d rounds, the slowest took %s", b.acked, b.slow)
	switch {
	case b.err != nil:
		b.t.Errorf("the bystander was disturbed: %v", b.err)
	case b.acked < roundsMin:
		b.t.Errorf("the bystander made only %d rounds", b.acked)
	case b.slow > slowest:
		b.t.Errorf("the bystander had to wait %s, more than %s", b.slow, slowest)
	}
	b.allThere()
}

func (b *bystander) allThere() {
	b.t.Helper()
	w := mustDial(b.t, b.addr)
	for i := range b.acked {
		rows, err := w.query(protocol.One, "SELECT v FROM %s WHERE k = %d", b.table, i)
		if err != nil || len(rows) != 1 || int32(binary.BigEndian.Uint32(rows[0][0])) != int32(-i) {
			b.t.Fatalf("row %d, which was acknowledged, reads %v, %v", i, rows, err)
		}
	}
}
