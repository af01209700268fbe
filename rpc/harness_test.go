package rpc

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/helenusdb/helenus/internal/memnet"
	"github.com/helenusdb/helenus/ring"
)

var clusterA = [16]byte{0xa}

func hostID(i int) ring.HostID {
	var id ring.HostID
	binary.BigEndian.PutUint64(id[8:], uint64(i))
	return id
}

// fabric is a network with one transport per host; host i has the address 10.0.0.i:7000.
type fabric struct {
	t     testing.TB
	net   *memnet.Network
	nodes map[int]*testNode
	addrs sync.Map // ring.HostID -> string: what Resolve says
}

type testNode struct {
	*Transport
	id     ring.HostID
	host   string
	epoch  atomic.Uint64
	log    *logBuffer
	cancel context.CancelFunc
	done   chan error
}

// logBuffer collects log lines.
type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logBuffer) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(b)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

func newFabric(t testing.TB) *fabric {
	return &fabric{t: t, net: memnet.New(memnet.Options{}), nodes: map[int]*testNode{}}
}

func hostName(i int) string { return fmt.Sprintf("10.0.0.%d", i) }

// add starts a node; change may adjust its options.
func (f *fabric) add(i int, change func(*Options)) *testNode {
	f.t.Helper()
	n := &testNode{id: hostID(i), host: hostName(i), log: new(logBuffer), done: make(chan error, 1)}
	h := f.net.Host(n.host)
	f.addrs.Store(n.id, n.host+":7000")
	opt := Options{
		Self:       n.id,
		ClusterID:  func() [16]byte { return clusterA },
		Epoch:      n.epoch.Load,
		Listen:     func(context.Context) (net.Listener, error) { return h.Listen(":7000") },
		Dial:       h.Dial,
		Resolve:    f.resolve,
		NewSession: func(ring.HostID, Class) Session { return &echo{} },
		Logger:     slog.New(slog.NewTextHandler(n.log, nil)),
	}
	if change != nil {
		change(&opt)
	}
	var err error
	if n.Transport, err = New(opt); err != nil {
		f.t.Fatal(err)
	}
	f.nodes[i] = n
	f.start(n)
	return n
}

func (f *fabric) resolve(id ring.HostID) (string, bool) {
	addr, ok := f.addrs.Load(id)
	if !ok {
		return "", false
	}
	return addr.(string), true
}

func (f *fabric) start(n *testNode) {
	ctx, cancel := context.WithCancel(context.Background())
	n.cancel = cancel
	go func() { n.done <- n.Run(ctx) }()
	n.waitRunning(f.t)
	f.t.Cleanup(n.stop)
}

// waitRunning returns when Send is let through.
func (n *testNode) waitRunning(t testing.TB) {
	eventually(t, "transport runs", func() bool {
		n.mu.Lock()
		defer n.mu.Unlock()
		return n.running
	})
}

// stop ends the transport and waits for Run.
func (n *testNode) stop() {
	if n.cancel != nil {
		n.cancel()
		<-n.done
		n.cancel = nil
	}
}

func (f *fabric) stopAll() {
	for _, n := range f.nodes {
		n.stop()
	}
}

func eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	for begin := time.Now(); !cond(); time.Sleep(time.Millisecond) {
		if time.Since(begin) > 20*time.Second {
			t.Fatalf("never: %s", what)
		}
	}
}

// Verbs of the echo session.
const (
	verbEcho   Verb = 32 // answers with the body
	verbLate   Verb = 33 // answers with the body from Flush
	verbHold   Verb = 34 // keeps the responder until verbFree
	verbFree   Verb = 35
	verbFail   Verb = 36
	verbBig    Verb = 37 // answers with as many bytes as the body says
	verbOneWay Verb = 38
)

// echo is a session for tests.
type echo struct {
	late    []pending
	held    []pending
	flushes int
	oneWays *atomic.Int64
	onReq   func(*Request)
	closed  *atomic.Int64
}

type pending struct {
	rsp  Responder
	body []byte
}

func (e *echo) Handle(req *Request, rsp Responder) {
	if e.onReq != nil {
		e.onReq(req)
	}
	switch req.Verb {
	case verbEcho:
		rsp.Reply(StatusOK, req.Body)
	case verbLate:
		e.late = append(e.late, pending{rsp, req.Body}) // valid until Flush returns
	case verbHold:
		e.held = append(e.held, pending{rsp, req.Retain()})
	case verbFree:
		for _, p := range e.held {
			p.rsp.Reply(StatusOK, p.body)
		}
		e.held = nil
		rsp.Reply(StatusOK, nil)
	case verbFail:
		rsp.ReplyText(StatusFailed, "no luck")
	case verbBig:
		rsp.Reply(StatusOK, make([]byte, binary.LittleEndian.Uint32(req.Body)))
	case verbOneWay:
		if e.oneWays != nil {
			e.oneWays.Add(1)
		}
	default:
		rsp.Reply(StatusUnknownVerb, nil)
	}
}

func (e *echo) Flush() {
	e.flushes++
	for _, p := range e.late {
		p.rsp.Reply(StatusOK, p.body)
	}
	e.late = e.late[:0]
}

func (e *echo) Close() {
	if e.closed != nil {
		e.closed.Add(1)
	}
}

// once is a callback that keeps a copy of its one response.
type once struct {
	done  chan struct{}
	count atomic.Int32
	rsp   Response
}

func newOnce() *once { return &once{done: make(chan struct{}, 100)} }

func (o *once) Done(r *Response) {
	if o.count.Add(1) == 1 {
		o.rsp = *r
		o.rsp.Body = bytes.Clone(r.Body)
	}
	o.done <- struct{}{}
}
