package shell

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"github.com/helenusdb/helenus/cql/protocol"
	"github.com/helenusdb/helenus/internal/cqlident"
)

const (
	answerMax  = 256 << 20 // one answer, in bytes
	orphansMax = 64        // answers still to come that nobody waits for; beyond, the connection is given up
)

// Dialing says how to reach and enter a server.
type Dialing struct {
	Addr           string // host:port
	User, Password string
	TLS            *tls.Config      // nil: plain TCP
	Version        protocol.Version // 0: the highest that the server speaks
	Keyspace       string           // "": none
	ConnectTimeout time.Duration    // for connecting and authenticating; 0: 5 s
	RequestTimeout time.Duration    // for one answer; 0: none
	Name           string           // DRIVER_NAME and DRIVER_VERSION of the STARTUP
	NameVersion    string
}

// ErrBroken is wrapped in the error of a request after which its connection is of no use.
var ErrBroken = errors.New("connection lost")

// ErrNeedsUser is returned when a server asks for a user and there is none.
var ErrNeedsUser = errors.New("the server asks for a user and a password")

// Client is a connection with one request at a time. It is not safe for concurrent use.
type Client struct {
	conn    net.Conn
	reader  *protocol.FrameReader
	version protocol.Version
	segment bool
	timeout time.Duration
	stream  int16
	orphans map[int16]bool
	broken  bool
	out     []byte
}

// Request is a QUERY.
type Request struct {
	Text        string
	Consistency protocol.Consistency
	Serial      protocol.Consistency
	PageSize    int32  // 0: everything at once
	PagingState []byte // of the page before
	Tracing     bool
}

// Response is the answer to a Request.
type Response struct {
	protocol.Result
	Warnings []string
	Traced   bool
	TraceID  [16]byte
}

// Dial connects, steps down to a protocol version that the server speaks, authenticates and uses the keyspace.
// Errors: those of the network, ErrNeedsUser and *protocol.Error.
func Dial(ctx context.Context, d Dialing) (*Client, error) {
	if d.ConnectTimeout == 0 {
		d.ConnectTimeout = 5 * time.Second
	}
	ctx, cancel := context.WithTimeout(ctx, d.ConnectTimeout)
	defer cancel()
	v := d.Version
	if v == 0 {
		v = protocol.MaxVersion
	}
	for {
		c, next, err := dialVersion(ctx, &d, v)
		if err == nil || next == 0 || d.Version != 0 {
			return c, err
		}
		v = next
	}
}

// dialVersion tries one version; next is the one to try after an error, 0: none.
func dialVersion(ctx context.Context, d *Dialing, v protocol.Version) (c *Client, next protocol.Version, err error) {
	nc, err := (&net.Dialer{}).DialContext(ctx, "tcp", d.Addr)
	if err != nil {
		return nil, 0, err
	}
	if d.TLS != nil {
		t := d.TLS.Clone()
		if t.ServerName == "" {
			t.ServerName, _, _ = net.SplitHostPort(d.Addr)
		}
		nc = tls.Client(nc, t)
	}
	c = &Client{conn: nc, version: v, timeout: d.RequestTimeout, orphans: map[int16]bool{},
		reader: protocol.NewFrameReader(protocol.ReaderOptions{Client: true, FrameMax: answerMax})}
	if next, err = c.enter(ctx, d); err == nil && d.Keyspace != "" {
		err = c.Use(ctx, d.Keyspace)
	}
	if err != nil {
		nc.Close()
		return nil, next, err
	}
	return c, 0, nil
}

// enter sends STARTUP and authenticates.
func (c *Client) enter(ctx context.Context, d *Dialing) (next protocol.Version, err error) {
	frame := protocol.AppendStartup(nil, c.version, 0, []protocol.StringPair{{Key: "CQL_VERSION", Value: "3.0.0"},
		{Key: "DRIVER_NAME", Value: d.Name}, {Key: "DRIVER_VERSION", Value: d.NameVersion}})
	f, err := c.exchange(ctx, frame, 0)
	if err != nil {
		return 0, err
	}
	if f.Header.Op == protocol.OpError {
		err := c.serverError(f)
		var e *protocol.Error
		if errors.As(err, &e) && strings.Contains(e.Message, "unsupported protocol version") {
			next, _ = protocol.HighestCommon(c.version, f.Header)
		}
		return next, err
	}
	c.reader.SetVersion(c.version)
	if c.version >= protocol.V5 {
		c.segment = true
		c.reader.StartSegments(protocol.NoCompression)
	}
	switch f.Header.Op {
	case protocol.OpReady:
		return 0, nil
	case protocol.OpAuthenticate:
		return 0, c.authenticate(ctx, d)
	}
	return 0, fmt.Errorf("STARTUP is answered with %s", f.Header.Op)
}

func (c *Client) authenticate(ctx context.Context, d *Dialing) error {
	if d.User == "" {
		return ErrNeedsUser
	}
	f, err := c.exchange(ctx, protocol.AppendAuthResponse(nil, c.version, 0, protocol.AppendPlainToken(nil, d.User, d.Password)), 0)
	switch {
	case err != nil:
		return err
	case f.Header.Op == protocol.OpError:
		return c.serverError(f)
	case f.Header.Op != protocol.OpAuthSuccess:
		return fmt.Errorf("AUTH_RESPONSE is answered with %s: only user and password are supported", f.Header.Op)
	}
	return nil
}

// Use makes a keyspace the one that unqualified names are looked up in.
func (c *Client) Use(ctx context.Context, keyspace string) error {
	_, err := c.Query(ctx, &Request{Text: "USE " + cqlident.QuoteIdent(keyspace), Consistency: protocol.One, Serial: protocol.Serial})
	return err
}

// Version returns the protocol version in use.
func (c *Client) Version() protocol.Version { return c.version }

// Close closes the connection.
func (c *Client) Close() error { return c.conn.Close() }

// Query sends a request and returns its answer, which does not alias the connection's memory. Errors: *protocol.Error
// from the server; context.Canceled when ctx ends first and os.ErrDeadlineExceeded after the timeout, after both of
// which the connection is still good; everything else wraps ErrBroken.
func (c *Client) Query(ctx context.Context, r *Request) (*Response, error) {
	if c.broken {
		return nil, ErrBroken
	}
	p := &protocol.QueryParams{Consistency: r.Consistency, Flags: protocol.QuerySerialConsistency, SerialConsistency: r.Serial}
	if r.PageSize > 0 {
		p.Flags |= protocol.QueryPageSize
		p.PageSize = r.PageSize
	}
	if r.PagingState != nil {
		p.Flags |= protocol.QueryPagingState
		p.PagingState = r.PagingState
	}
	var flags byte
	if r.Tracing {
		flags = protocol.FlagTracing
	}
	stream, err := c.nextStream()
	if err != nil {
		return nil, err
	}
	if c.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, c.timeout, os.ErrDeadlineExceeded)
		defer cancel()
	}
	f, err := c.exchange(ctx, protocol.AppendQuery(c.out[:0], c.version, stream, flags, r.Text, p), stream)
	if err != nil {
		return nil, err
	}
	return c.response(f)
}

func (c *Client) response(f protocol.Frame) (*Response, error) {
	if f.Header.Op == protocol.OpError {
		return nil, c.serverError(f)
	}
	extras, body, err := protocol.SplitResponse(f.Header, append([]byte(nil), f.Body...))
	if err == nil && f.Header.Op != protocol.OpResult {
		err = fmt.Errorf("QUERY is answered with %s", f.Header.Op)
	}
	if err != nil {
		return nil, c.fail(err)
	}
	res, err := protocol.DecodeResult(c.version, body)
	if err != nil {
		return nil, c.fail(err)
	}
	return &Response{Result: *res, Warnings: extras.Warnings, Traced: extras.Traced, TraceID: extras.TracingID}, nil
}

func (c *Client) fail(err error) error {
	c.broken = true
	c.conn.Close()
	return fmt.Errorf("%w: %w", ErrBroken, err)
}

func (c *Client) serverError(f protocol.Frame) error {
	_, body, err := protocol.SplitResponse(f.Header, f.Body)
	if err != nil {
		return c.fail(err)
	}
	e, err := protocol.DecodeError(min(f.Header.Version, protocol.MaxVersion), body)
	if err != nil {
		return c.fail(err)
	}
	return e
}

func (c *Client) nextStream() (int16, error) {
	if len(c.orphans) >= orphansMax {
		return 0, c.fail(errors.New("too many requests are without an answer"))
	}
	for {
		if c.stream = (c.stream + 1) & 0x7fff; !c.orphans[c.stream] {
			return c.stream, nil
		}
	}
}

// exchange writes a frame and reads the one that answers it, whose body is valid until the next call.
func (c *Client) exchange(ctx context.Context, frame []byte, stream int16) (protocol.Frame, error) {
	if err := ctx.Err(); err != nil {
		return protocol.Frame{}, cause(ctx)
	}
	c.conn.SetDeadline(time.Time{})
	done := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		c.conn.SetDeadline(time.Unix(1, 0))
		close(done)
	})
	defer func() {
		if !stop() {
			<-done
		}
	}()
	out := frame
	if c.segment {
		out = protocol.AppendSegments(nil, frame, protocol.NoCompression)
	}
	if cap(frame) <= 1<<20 {
		c.out = frame[:0]
	}
	if _, err := c.conn.Write(out); err != nil {
		return protocol.Frame{}, c.fail(err)
	}
	for {
		f, err := c.reader.ReadFrame(c.conn)
		switch {
		case err != nil && errors.Is(err, os.ErrDeadlineExceeded) && ctx.Err() != nil:
			c.orphans[stream] = true
			return f, cause(ctx)
		case err != nil:
			return f, c.fail(err)
		case f.Header.Stream == stream || f.Header.Op == protocol.OpError && f.Header.Stream == 0:
			return f, nil
		}
		delete(c.orphans, f.Header.Stream)
	}
}

func cause(ctx context.Context) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	return ctx.Err()
}
