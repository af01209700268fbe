package exec_test

import (
	"encoding/binary"
	"net"
	"testing"

	"github.com/helenusdb/helenus/cql/exec"
	"github.com/helenusdb/helenus/cql/protocol"
)

const burst = 64 // requests per write of the client

// pipeline is a connection that sends bursts of one prepared statement, prebuilt, and swallows the answers.
type pipeline struct {
	nc    net.Conn
	burst []byte
	buf   []byte
}

func newPipeline(t testing.TB, c *cluster, text string, values ...protocol.Value) *pipeline {
	cl := dial(t, c.addr, protocol.V4)
	a := cl.prepare(text)
	if a.err != nil {
		t.Fatal(a.err)
	}
	p := &pipeline{nc: cl.nc, buf: make([]byte, 1<<20)}
	e := protocol.Execute{ID: a.result.Prepared.ID, QueryParams: protocol.QueryParams{Consistency: protocol.One, Values: values, Flags: protocol.QuerySkipMetadata}}
	for i := range burst {
		p.burst = protocol.AppendExecute(p.burst, protocol.V4, int16(i), 0, &e)
	}
	return p
}

// run sends a burst and reads all of its answers.
func (p *pipeline) run(t testing.TB) {
	if _, err := p.nc.Write(p.burst); err != nil {
		t.Fatal(err)
	}
	for have, answers := 0, 0; answers < burst; {
		n, err := p.nc.Read(p.buf[have:])
		if err != nil {
			t.Fatal(err)
		}
		have += n
		at := 0
		for have-at >= protocol.HeaderLen {
			size := protocol.HeaderLen + int(binary.BigEndian.Uint32(p.buf[at+5:]))
			if have-at < size {
				break
			}
			if p.buf[at+4] != byte(protocol.OpResult) {
				t.Fatalf("answer %q", p.buf[at:at+size])
			}
			at, answers = at+size, answers+1
		}
		have = copy(p.buf, p.buf[at:have])
	}
}

var six = []protocol.Value{
	{Bytes: []byte{0, 0, 0, 1}}, {Bytes: make([]byte, 34)}, {Bytes: make([]byte, 34)}, {Bytes: make([]byte, 34)}, {Bytes: make([]byte, 34)}, {Bytes: make([]byte, 34)},
}

func benchCluster(t testing.TB) *cluster {
	c := start(t, options{limits: exec.Limits{}})
	cl := dial(t, c.addr, protocol.V4)
	cl.must("CREATE KEYSPACE b WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}")
	cl.must("CREATE TABLE b.t (k blob PRIMARY KEY, a blob, b blob, c blob, d blob, e blob)")
	cl.must("INSERT INTO b.t (k, a, b, c, d, e) VALUES (0x00000001, 0x01, 0x02, 0x03, 0x04, 0x05)")
	return c
}

func BenchmarkInsert(b *testing.B) {
	benchmark(b, "INSERT INTO b.t (k, a, b, c, d, e) VALUES (?, ?, ?, ?, ?, ?)", six...)
}

func BenchmarkPointSelect(b *testing.B) {
	benchmark(b, "SELECT * FROM b.t WHERE k = ?", six[0])
}

func benchmark(b *testing.B, text string, values ...protocol.Value) {
	p := newPipeline(b, benchCluster(b), text, values...)
	p.run(b)
	b.ReportAllocs()
	for i := 0; i < b.N; i += burst {
		p.run(b)
	}
}

// One EXECUTE of an INSERT or of a point SELECT allocates nothing of its own, from the bytes on the socket to the answer;
// what is left is the store's background work.
func TestHotPathAllocations(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	c := benchCluster(t)
	for _, text := range []string{"INSERT INTO b.t (k, a, b, c, d, e) VALUES (?, ?, ?, ?, ?, ?)", "SELECT * FROM b.t WHERE k = ?",
		"UPDATE b.t SET a = ? WHERE k = ?", "DELETE FROM b.t WHERE k = ?"} {
		var n int
		for _, r := range text {
			if r == '?' {
				n++
			}
		}
		p := newPipeline(t, c, text, six[:n]...)
		p.run(t)
		if got := testing.AllocsPerRun(50, func() { p.run(t) }) / burst; got > 0.5 {
			t.Errorf("%s: %.2f allocations", text, got)
		}
	}
}
