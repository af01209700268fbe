package differ

import (
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/helenusdb/helenus/cql/protocol"
)

// answerWait bounds one request: a schema change on a busy machine takes seconds.
const answerWait = 60 * time.Second

// Conn is one connection of one protocol version, one request at a time. Not for concurrent use.
type Conn struct {
	nc net.Conn
	v  protocol.Version
	fr *protocol.FrameReader
}

// Answer is a decoded response: Err or Result.
type Answer struct {
	Extras protocol.Extras
	Err    *protocol.Error
	Result *protocol.Result
}

// Dial connects to addr and sends STARTUP. The caller closes the connection.
func Dial(addr string, v protocol.Version) (*Conn, error) {
	nc, err := net.DialTimeout("tcp", addr, answerWait)
	if err != nil {
		return nil, fmt.Errorf("differ: dial: %w", err)
	}
	c := &Conn{nc: nc, v: v, fr: protocol.NewFrameReader(protocol.ReaderOptions{Client: true})}
	if err := c.startup(); err != nil {
		_ = nc.Close()
		return nil, err
	}
	return c, nil
}

func (c *Conn) startup() error {
	f, err := c.exchange(protocol.AppendStartup(nil, c.v, 1, []protocol.StringPair{{Key: "CQL_VERSION", Value: "3.0.0"}}), true)
	if err != nil {
		return err
	}
	if f.Header.Op != protocol.OpReady {
		return fmt.Errorf("differ: STARTUP answered by %s", f.Header.Op)
	}
	c.fr.SetVersion(c.v)
	if c.v == protocol.V5 {
		c.fr.StartSegments(protocol.NoCompression)
	}
	return nil
}

// Close closes the connection.
func (c *Conn) Close() error { return c.nc.Close() }

// Register asks for schema events.
func (c *Conn) Register() error {
	f, err := c.exchange(protocol.AppendRegister(nil, c.v, 1, protocol.EventSet(0).With(protocol.SchemaChange)), false)
	if err != nil {
		return err
	}
	if f.Header.Op != protocol.OpReady {
		return fmt.Errorf("differ: REGISTER answered by %s", f.Header.Op)
	}
	return nil
}

func (c *Conn) exchange(frame []byte, bare bool) (protocol.Frame, error) {
	if c.v == protocol.V5 && !bare {
		frame = protocol.AppendSegments(nil, frame, protocol.NoCompression)
	}
	if _, err := c.nc.Write(frame); err != nil {
		return protocol.Frame{}, fmt.Errorf("differ: write: %w", err)
	}
	_ = c.nc.SetReadDeadline(time.Now().Add(answerWait))
	for {
		f, err := c.fr.ReadFrame(c.nc)
		if err != nil {
			return f, fmt.Errorf("differ: read: %w", err)
		}
		if f.Header.Stream != protocol.EventStream {
			return f, nil
		}
	}
}

// Call sends one envelope and returns its answer. The answer owns its bytes.
func (c *Conn) Call(frame []byte) (Answer, error) {
	f, err := c.exchange(frame, false)
	if err != nil {
		return Answer{}, err
	}
	f.Body = append([]byte(nil), f.Body...)
	extras, body, err := protocol.SplitResponse(f.Header, f.Body)
	if err != nil {
		return Answer{}, fmt.Errorf("differ: response: %w", err)
	}
	a := Answer{Extras: extras}
	if f.Header.Op == protocol.OpError {
		a.Err, err = protocol.DecodeError(c.v, body)
	} else {
		a.Result, err = protocol.DecodeResult(c.v, body)
	}
	if err != nil {
		return a, fmt.Errorf("differ: %s: %w", f.Header.Op, err)
	}
	return a, nil
}

// Events returns the schema events about keyspace that arrive until none has come for quiet; before the first it waits
// up to first.
func (c *Conn) Events(keyspace string, first, quiet time.Duration) ([]protocol.Event, error) {
	var out []protocol.Event
	wait := first
	for {
		_ = c.nc.SetReadDeadline(time.Now().Add(wait))
		f, err := c.fr.ReadFrame(c.nc)
		if ne := net.Error(nil); errors.As(err, &ne) && ne.Timeout() {
			return out, nil
		}
		if err != nil {
			return out, fmt.Errorf("differ: events: %w", err)
		}
		e, err := protocol.DecodeEvent(f.Body)
		if err != nil {
			return out, fmt.Errorf("differ: event: %w", err)
		}
		if e.Keyspace == keyspace {
			out = append(out, e)
			wait = quiet
		}
	}
}
