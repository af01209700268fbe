package bench

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/helenusdb/helenus/cql/protocol"
)

// fake answers as a server would; wrong makes every tenth read's answer wrong.
func fake(t *testing.T, wrong bool) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	var counted atomic.Uint64
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go answer(c, wrong, &counted)
		}
	}()
	return l.Addr().String()
}

func answer(c net.Conn, wrong bool, counted *atomic.Uint64) {
	defer c.Close()
	r := bufio.NewReader(c)
	var hdr [9]byte
	for n := 0; ; n++ {
		if _, err := io.ReadFull(r, hdr[:]); err != nil {
			return
		}
		body := make([]byte, binary.BigEndian.Uint32(hdr[5:]))
		if _, err := io.ReadFull(r, body); err != nil {
			return
		}
		out := []byte{0x84, 0, hdr[2], hdr[3], byte(protocol.OpResult), 0, 0, 0, 0}
		switch protocol.Opcode(hdr[4]) {
		case protocol.OpStartup:
			out[4] = byte(protocol.OpReady)
		case protocol.OpPrepare:
			out = append(out, 0, 0, 0, 4, 0, 1, body[4])
		case protocol.OpQuery:
			out = append(out, 0, 0, 0, 1)
			if bytes.Contains(body, []byte("SELECT sum(c)")) { // the end of a result's only row
				out = binary.BigEndian.AppendUint64(append(out, 0, 0, 0, 8), counted.Load())
			}
		case protocol.OpExecute:
			if body[2] == 'U' && binary.BigEndian.Uint16(body[6:]) == 3 { // an UPDATE with three values is the conditional one
				applied := byte(1)
				if wrong && n%10 == 0 {
					applied = 0
				}
				out = append(out, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, applied)
				break
			}
			if body[2] != 'S' {
				out = append(out, 0, 0, 0, 1)
				if counted.Add(1); wrong && n%10 == 0 {
					counted.Add(1)
				}
				break
			}
			key := binary.BigEndian.Uint64(body[len(body)-8:])
			if wrong && n%10 == 0 {
				key++
			}
			out = append(out, 0, 0, 0, 2, 0, 0, 0, 4, 0, 0, 0, 6, 0, 0, 0, 1)
			out = appendKey(out, key)
			for col := range uint64(columns) {
				out = appendCell(out, key, col)
			}
		}
		binary.BigEndian.PutUint32(out[5:], uint32(len(out)-9))
		if _, err := c.Write(out); err != nil {
			return
		}
	}
}

func options(host string, op Op) Options {
	return Options{Hosts: []string{host}, Op: op, Level: protocol.One, Rows: 1000, Conns: 2, Depth: 8, Duration: 200 * time.Millisecond}
}

// TestCountersAreSummed: a server that counts twice, or not at all, is found out.
func TestCountersAreSummed(t *testing.T) {
	r, err := Run(context.Background(), options(fake(t, false), Count), nil)
	if err != nil || r.Bad != 0 || r.Counted.Acknowledged < r.Operations || r.Counted.Sum != int64(r.Counted.Acknowledged) || r.Counted.Unknown != 0 {
		t.Errorf("%+v %+v %v", r, r.Counted, err)
	}
	r, err = Run(context.Background(), options(fake(t, true), Count), nil)
	if err != nil || r.Bad != 1 || r.Counted.Sum <= int64(r.Counted.Acknowledged) {
		t.Errorf("%+v %+v %v", r, r.Counted, err)
	}
}

func TestLoadWritesEveryRowOnce(t *testing.T) {
	host := fake(t, false)
	if err := Setup(context.Background(), host, 1); err != nil {
		t.Fatal(err)
	}
	r, err := Run(context.Background(), options(host, Load), []int{os.Getpid()})
	if err != nil {
		t.Fatal(err)
	}
	if r.Operations != 1000 || r.Bad != 0 || r.Micros.P50 <= 0 || r.Micros.P50 > r.Micros.Max || r.ServerRSS <= 0 {
		t.Errorf("%+v", r)
	}
}

func TestWrongAnswersAreCounted(t *testing.T) {
	r, err := Run(context.Background(), options(fake(t, true), Read), nil)
	if err != nil {
		t.Fatal(err)
	}
	if r.Bad == 0 || r.FirstBad == "" || r.Operations == 0 {
		t.Errorf("%+v", r)
	}
	r, err = Run(context.Background(), options(fake(t, false), Mixed), nil)
	if err != nil || r.Bad != 0 {
		t.Errorf("%+v %v", r, err)
	}
}

func TestConditionalWritesAreChecked(t *testing.T) {
	r, err := Run(context.Background(), options(fake(t, false), CAS), nil)
	if err != nil || r.Bad != 0 || r.Operations == 0 {
		t.Errorf("%+v %v", r, err)
	}
	r, err = Run(context.Background(), options(fake(t, true), CAS), nil)
	if err != nil || r.Bad == 0 {
		t.Errorf("%+v %v", r, err)
	}
}

// TestFixedRateCountsFromTheIntendedStart: with far more offered than one request in flight can carry, latency grows.
func TestFixedRateCountsFromTheIntendedStart(t *testing.T) {
	o := options(fake(t, false), Write)
	o.Rate, o.Conns, o.Depth = 5_000_000, 1, 1
	r, err := Run(context.Background(), o, nil)
	if err != nil {
		t.Fatal(err)
	}
	if r.Micros.P99 < 1000 {
		t.Errorf("p99 %v µs hides that the server is behind", r.Micros.P99)
	}
}

func TestQuantiles(t *testing.T) {
	var h histogram
	for i := range int64(1000) {
		h.add(i * 1000)
	}
	var c counts
	c.add(&h)
	for q, want := range map[float64]float64{0.5: 500_000, 0.99: 990_000, 1: 999_000} {
		got := float64(c.quantile(q))
		if got < want*0.96 || got > want*1.04 {
			t.Errorf("q%v = %v, want about %v", q, got, want)
		}
	}
}

func TestPlot(t *testing.T) {
	r := &Report{Op: Read, Level: "ONE", Samples: []Sample{{At: time.Second, Ops: 10}, {At: 2 * time.Second, Ops: 20}}}
	path := filepath.Join(t.TempDir(), "p.svg")
	if err := Plot(r, path); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(path); err != nil || len(b) < 1000 {
		t.Errorf("%d bytes, %v", len(b), err)
	}
}

func TestOptionsAreChecked(t *testing.T) {
	for _, o := range []Options{{}, {Hosts: []string{"x"}, Rows: 1, Conns: 1, Depth: 1, Op: "dance"}, {Hosts: []string{"x"}, Rows: 1, Conns: 1, Depth: 1 << 20, Op: Read}} {
		if _, err := Run(context.Background(), o, nil); err == nil {
			t.Errorf("%+v was accepted", o)
		}
	}
}

// TestStopsWhenTold: a server that stops answering does not hold up a run that is cancelled.
func TestStopsWhenTold(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		here, there := net.Pipe()
		go answer(there, false, new(atomic.Uint64))
		for range 4 { // STARTUP and three PREPAREs, then silence
			var hdr [9]byte
			if _, err := io.ReadFull(c, hdr[:]); err != nil {
				return
			}
			body := make([]byte, binary.BigEndian.Uint32(hdr[5:]))
			io.ReadFull(c, body)
			go here.Write(append(hdr[:], body...))
			io.ReadFull(here, hdr[:])
			body = make([]byte, binary.BigEndian.Uint32(hdr[5:]))
			io.ReadFull(here, body)
			c.Write(append(hdr[:], body...))
		}
		io.Copy(io.Discard, c)
		here.Close()
		c.Close()
	}()
	o := options(l.Addr().String(), Read)
	o.Conns, o.Duration = 1, time.Minute
	ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	began := time.Now()
	r, err := Run(ctx, o, nil)
	if err != nil || r.Operations != 0 || r.Bad != 0 || time.Since(began) > 5*time.Second {
		t.Errorf("%+v %v after %v", r, err, time.Since(began))
	}
}
