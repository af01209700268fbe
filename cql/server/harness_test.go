package server

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/helenusdb/helenus/cql/protocol"
)

// fakeHandler makes fakeSessions. A QUERY whose text is one of the words below misbehaves; everything else is answered
// inline with the body of the request.
type fakeHandler struct {
	mu       sync.Mutex
	infos    []ConnInfo
	sessions []*fakeSession
	closed   int
	later    chan Responder // those of "later"
	do       func(s *fakeSession, h protocol.Header, body []byte, r Responder) bool
}

type fakeSession struct {
	h        *fakeHandler
	flushes  int
	gathered []Responder
	body     rawBody
}

func newFakeHandler() *fakeHandler { return &fakeHandler{later: make(chan Responder, 1<<16)} }

func (h *fakeHandler) NewSession(info ConnInfo) Session {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := &fakeSession{h: h}
	h.infos = append(h.infos, info)
	h.sessions = append(h.sessions, s)
	return s
}

func (h *fakeHandler) lastInfo() ConnInfo {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.infos[len(h.infos)-1]
}

func (h *fakeHandler) closes() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.closed
}

type panicBody struct{}

func (panicBody) AppendBody(dst []byte) []byte { panic("body") }

func (s *fakeSession) Request(h protocol.Header, payload []protocol.PayloadEntry, body []byte, r Responder) {
	if s.h.do != nil && s.h.do(s, h, body, r) {
		return
	}
	if h.Op == protocol.OpQuery {
		var q protocol.Query
		if err := protocol.DecodeQuery(h.Version, body, &q); err != nil {
			r.Error(asError(err), nil)
			return
		}
		switch string(q.Query) {
		case "panic":
			panic("as asked")
		case "answer and panic":
			r.RespondBytes(protocol.OpResult, nil, protocol.AppendVoid(nil))
			panic("as asked, late")
		case "panic, answer later":
			s.h.later <- r
			panic("as asked, early")
		case "panic body":
			r.Respond(protocol.OpResult, nil, panicBody{})
			return
		case "twice":
			r.RespondBytes(protocol.OpResult, nil, protocol.AppendVoid(nil))
			r.RespondBytes(protocol.OpResult, nil, protocol.AppendVoid(nil))
			return
		case "later":
			s.h.later <- r
			return
		case "gather":
			s.gathered = append(s.gathered, r)
			return
		case "warn":
			r.RespondBytes(protocol.OpResult, &protocol.Extras{Warnings: []string{"w"}}, protocol.AppendVoid(nil))
			return
		case "panic in flush":
			s.gathered = append(s.gathered, Responder{})
			return
		case "invalid":
			r.Error(protocol.Errorf(protocol.CodeInvalid, "no"), nil)
			return
		case "big":
			r.RespondBytes(protocol.OpResult, nil, bytes.Repeat([]byte("0123456789abcdef"), 64<<10))
			return
		}
	}
	s.body = body
	r.Respond(protocol.OpResult, nil, &s.body)
}

func (s *fakeSession) Flush() {
	s.flushes++
	for _, r := range s.gathered {
		if r.c == nil {
			panic("in flush")
		}
		r.RespondBytes(protocol.OpResult, nil, protocol.AppendVoid(nil))
	}
	s.gathered = s.gathered[:0]
}

func (s *fakeSession) Close() {
	s.h.mu.Lock()
	s.h.closed++
	s.h.mu.Unlock()
}

var loopback = netip.MustParseAddrPort("127.0.0.1:0")

// start runs a server until the test ends and checks that nothing is left of it.
func start(t testing.TB, o Options) *Server {
	t.Helper()
	if o.Listeners == nil {
		o.Listeners = []Listener{{Addr: loopback}}
	}
	if o.Handler == nil {
		o.Handler = newFakeHandler()
	}
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Listen(context.Background()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
		if m := s.Metrics(); m.Open.Load() != 0 || m.Ready.Load() != 0 || m.Registered.Load() != 0 {
			t.Errorf("left: %d open, %d ready, %d registered", m.Open.Load(), m.Ready.Load(), m.Registered.Load())
		}
	})
	return s
}

// client is a driver of sorts.
type client struct {
	t       testing.TB
	nc      net.Conn
	fr      *protocol.FrameReader
	v       protocol.Version
	framed  bool
	comp    protocol.Compression
	timeout time.Duration
}

func dial(t testing.TB, s *Server, v protocol.Version) *client {
	t.Helper()
	nc, err := net.Dial("tcp", s.Addrs()[0].String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	return newClient(t, nc, v)
}

func newClient(t testing.TB, nc net.Conn, v protocol.Version) *client {
	return &client{t: t, nc: nc, v: v, fr: protocol.NewFrameReader(protocol.ReaderOptions{Client: true}), timeout: 5 * time.Second}
}

// connect is dial and STARTUP.
func connect(t testing.TB, s *Server, v protocol.Version, options ...protocol.StringPair) *client {
	t.Helper()
	c := dial(t, s, v)
	c.startup(options...)
	return c
}

func (c *client) startup(options ...protocol.StringPair) {
	c.t.Helper()
	c.sendRaw(protocol.AppendStartup(nil, c.v, 0, append([]protocol.StringPair{{Key: "CQL_VERSION", Value: "3.0.0"}}, options...)))
	if f := c.read(); f.Header.Op != protocol.OpReady && f.Header.Op != protocol.OpAuthenticate {
		c.t.Fatalf("STARTUP answered with %s", f.Header.Op)
	}
	c.agree(options...)
}

func (c *client) agree(options ...protocol.StringPair) {
	for _, o := range options {
		if o.Key == "COMPRESSION" {
			c.comp = map[string]protocol.Compression{"lz4": protocol.LZ4, "snappy": protocol.Snappy}[o.Value]
		}
	}
	if c.v >= protocol.V5 {
		c.framed = true
		c.fr.StartSegments(c.comp)
	} else {
		c.fr.SetCompression(c.comp)
	}
}

func (c *client) sendRaw(b []byte) {
	c.t.Helper()
	c.nc.SetWriteDeadline(time.Now().Add(c.timeout))
	if _, err := c.nc.Write(b); err != nil {
		c.t.Fatalf("write: %v", err)
	}
}

// send sends envelopes in the way that was agreed on.
func (c *client) send(b []byte) {
	c.t.Helper()
	if c.framed {
		b = protocol.AppendSegments(nil, b, c.comp)
	}
	c.sendRaw(b)
}

func (c *client) next() (protocol.Frame, error) {
	c.nc.SetReadDeadline(time.Now().Add(c.timeout))
	return c.fr.ReadFrame(c.nc)
}

func (c *client) read() protocol.Frame {
	c.t.Helper()
	f, err := c.next()
	if err != nil {
		c.t.Fatalf("read: %v", err)
	}
	return f
}

func (c *client) query(stream int16, text string) []byte {
	return protocol.AppendQuery(nil, c.v, stream, 0, text, &protocol.QueryParams{Consistency: protocol.One})
}

// wantError reads an ERROR and checks it.
func (c *client) wantError(stream int16, code protocol.ErrorCode, text string) {
	c.t.Helper()
	f := c.read()
	if f.Header.Op != protocol.OpError || f.Header.Stream != stream {
		c.t.Fatalf("got %s on stream %d, want ERROR on %d", f.Header.Op, f.Header.Stream, stream)
	}
	e, err := protocol.DecodeError(f.Header.Version, f.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	if e.Code != code || text != "" && e.Message != text {
		c.t.Fatalf("got %s %q, want %s %q", e.Code, e.Message, code, text)
	}
}

func (c *client) wantResult(stream int16) []byte {
	c.t.Helper()
	f := c.read()
	if f.Header.Op != protocol.OpResult || f.Header.Stream != stream {
		c.t.Fatalf("got %s on stream %d, want RESULT on %d: %q", f.Header.Op, f.Header.Stream, stream, f.Body)
	}
	return f.Body
}

// alive checks that the connection works.
func (c *client) alive() {
	c.t.Helper()
	c.send(protocol.AppendOptions(nil, c.v, 99))
	if f := c.read(); f.Header.Op != protocol.OpSupported || f.Header.Stream != 99 {
		c.t.Fatalf("OPTIONS answered with %s on %d", f.Header.Op, f.Header.Stream)
	}
}

// wantEnd checks that the server closes the connection without saying anything more.
func (c *client) wantEnd() {
	c.t.Helper()
	f, err := c.next()
	if err == nil {
		c.t.Fatalf("got %s, want the connection to end", f.Header.Op)
	}
	if ne := net.Error(nil); errors.As(err, &ne) && ne.Timeout() {
		c.t.Fatal("the connection is still open")
	}
}

// frame returns a frame with any header.
func frame(v byte, flags byte, stream int16, op byte, length int, body []byte) []byte {
	b := []byte{v, flags, byte(stream >> 8), byte(stream), op}
	b = binary.BigEndian.AppendUint32(b, uint32(length))
	return append(b, body...)
}

// eventually waits until cond holds.
func eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(5 * time.Second); !cond(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}

// logs keeps log records.
type logs struct {
	mu    sync.Mutex
	lines []string
}

func (l *logs) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

func (l *logs) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, string(b))
	return len(b), nil
}

func (l *logs) contains(text string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.ContainsFunc(l.lines, func(s string) bool { return bytes.Contains([]byte(s), []byte(text)) })
}

var _ io.Writer = (*logs)(nil)
var versions = []protocol.Version{protocol.V3, protocol.V4, protocol.V5}
