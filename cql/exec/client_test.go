package exec_test

import (
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/helenusdb/helenus/cql/protocol"
)

// client speaks the native protocol, one request at a time.
type client struct {
	t  testing.TB
	nc net.Conn
	v  protocol.Version
	fr *protocol.FrameReader
}

func dial(t testing.TB, addr string, v protocol.Version) *client {
	t.Helper()
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	c := &client{t: t, nc: nc, v: v, fr: protocol.NewFrameReader(protocol.ReaderOptions{Client: true})}
	c.write(protocol.AppendStartup(nil, v, 1, []protocol.StringPair{{Key: "CQL_VERSION", Value: "3.0.0"}}))
	if f := c.read(); f.Header.Op != protocol.OpReady {
		t.Fatalf("STARTUP: %s", f.Header.Op)
	}
	c.fr.SetVersion(v)
	if v == protocol.V5 {
		c.fr.StartSegments(protocol.NoCompression)
	}
	return c
}

func (c *client) write(b []byte) {
	if _, err := c.nc.Write(b); err != nil {
		c.t.Fatal(err)
	}
}

func (c *client) read() protocol.Frame {
	c.t.Helper()
	_ = c.nc.SetReadDeadline(time.Now().Add(20 * time.Second))
	for {
		f, err := c.fr.ReadFrame(c.nc)
		if err != nil {
			c.t.Fatal(err)
		}
		if f.Header.Stream != protocol.EventStream {
			return f
		}
	}
}

// answer is a decoded response.
type answer struct {
	extras protocol.Extras
	err    *protocol.Error
	result *protocol.Result
}

// call sends an envelope and returns the answer.
func (c *client) call(frame []byte) answer {
	c.t.Helper()
	if c.v == protocol.V5 {
		frame = protocol.AppendSegments(nil, frame, protocol.NoCompression)
	}
	c.write(frame)
	return c.receive()
}

// receive returns the next answer.
func (c *client) receive() answer {
	c.t.Helper()
	f := c.read()
	extras, body, err := protocol.SplitResponse(f.Header, f.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	a := answer{extras: extras}
	body = append([]byte(nil), body...)
	if f.Header.Op == protocol.OpError {
		if a.err, err = protocol.DecodeError(c.v, body); err != nil {
			c.t.Fatal(err)
		}
		return a
	}
	if a.result, err = protocol.DecodeResult(c.v, body); err != nil {
		c.t.Fatalf("%s: %v", f.Header.Op, err)
	}
	return a
}

func (c *client) query(text string, p *protocol.QueryParams) answer {
	c.t.Helper()
	if p == nil {
		p = &protocol.QueryParams{Consistency: protocol.One}
	}
	return c.call(protocol.AppendQuery(nil, c.v, 1, 0, text, p))
}

// must runs a statement that succeeds.
func (c *client) must(format string, args ...any) answer {
	c.t.Helper()
	text := fmt.Sprintf(format, args...)
	a := c.query(text, nil)
	if a.err != nil {
		c.t.Fatalf("%s: 0x%04x %s", text, int(a.err.Code), a.err)
	}
	return a
}

func (c *client) prepare(text string) answer {
	c.t.Helper()
	return c.call(protocol.AppendPrepare(nil, c.v, 1, 0, text, ""))
}

// rows returns the values of all rows.
func (a answer) rows() (out [][][]byte) {
	if a.result == nil {
		return nil
	}
	r := a.result.Rows
	for r.Next() {
		out = append(out, append([][]byte(nil), r.Values()...))
	}
	return out
}
