package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/helenusdb/helenus/cql/protocol"
)

func TestRequestsAreAnsweredInEveryVersionAndCompression(t *testing.T) {
	s := start(t, Options{})
	for _, v := range versions {
		for _, comp := range []string{"", "lz4", "snappy"} {
			if v == protocol.V5 && comp == "snappy" {
				continue
			}
			t.Run(fmt.Sprintf("%d %s", v, comp), func(t *testing.T) {
				c := dial(t, s, v)
				c.alive()
				if comp == "" {
					c.startup()
				} else {
					c.startup(protocol.StringPair{Key: "COMPRESSION", Value: comp})
				}
				var all []byte
				for i := range int16(100) {
					all = append(all, c.query(i, fmt.Sprintf("q%d", i))...)
				}
				c.send(all)
				for i := range int16(100) {
					if want := c.query(i, fmt.Sprintf("q%d", i))[protocol.HeaderLen:]; !bytes.Equal(c.wantResult(i), want) {
						t.Fatalf("answer %d is another one's", i)
					}
				}
				c.send(c.query(5, "big"))
				if b := c.wantResult(5); len(b) != 1<<20 || !bytes.HasPrefix(b, []byte("0123456789abcdef0")) {
					t.Fatalf("big answer has %d bytes", len(b))
				}
				large := protocol.AppendQuery(nil, v, 6, 0, string(bytes.Repeat([]byte("x"), 300<<10)), &protocol.QueryParams{Consistency: protocol.One})
				c.send(large)
				if !bytes.Equal(c.wantResult(6), large[protocol.HeaderLen:]) {
					t.Fatal("a large request came back changed")
				}
				c.alive()
			})
		}
	}
	if m := s.Metrics(); m.AnswersTwice.Load()+m.Panics.Load()+m.BadFrames.Load()+m.Errors.Load() != 0 {
		t.Fatal("errors were counted")
	}
	eventually(t, "nothing in flight", func() bool { return s.InFlightBytes() == 0 })
}

func TestCompressedRequests(t *testing.T) {
	s := start(t, Options{})
	for _, comp := range []protocol.Compression{protocol.LZ4, protocol.Snappy} {
		c := connect(t, s, protocol.V4, protocol.StringPair{Key: "compression", Value: comp.String()}, protocol.StringPair{Key: "COMPRESSION", Value: comp.String()})
		q := c.query(3, string(bytes.Repeat([]byte("abc"), 1000)))
		body := protocol.AppendCompressed(nil, q[protocol.HeaderLen:], comp)
		c.send(frame(4, protocol.FlagCompressed, 3, byte(protocol.OpQuery), len(body), body))
		if !bytes.Equal(c.wantResult(3), q[protocol.HeaderLen:]) {
			t.Fatal("answer differs")
		}
	}
}

func TestAnswersFromElsewhere(t *testing.T) {
	h := newFakeHandler()
	s := start(t, Options{Handler: h})
	for _, v := range versions {
		c := connect(t, s, v)
		const n = 1000
		var all []byte
		for i := range int16(n) {
			all = append(all, c.query(i, "later")...)
		}
		c.send(all)
		rs := make([]Responder, n)
		for i := range rs {
			rs[i] = <-h.later
		}
		for g := range 4 {
			go func() {
				for i := g; i < n; i += 4 {
					rs[i].RespondBytes(protocol.OpResult, nil, []byte{byte(i), byte(i >> 8)})
				}
			}()
		}
		seen := map[int16]bool{}
		for range n {
			f := c.read()
			if seen[f.Header.Stream] || int(f.Body[0])|int(f.Body[1])<<8 != int(f.Header.Stream) {
				t.Fatalf("stream %d answered wrongly", f.Header.Stream)
			}
			seen[f.Header.Stream] = true
		}
		c.alive()
	}
	eventually(t, "nothing in flight", func() bool { return s.InFlightBytes() == 0 })
}

func TestABurstIsFlushedOnceAndWrittenOnce(t *testing.T) {
	h := newFakeHandler()
	s := start(t, Options{Handler: h})
	c := connect(t, s, protocol.V4)
	writes := s.Metrics().Writes.Load()
	var all []byte
	for i := range int16(20) {
		all = append(all, c.query(i, "gather")...)
	}
	c.send(all)
	for i := range int16(20) {
		c.wantResult(i)
	}
	c.alive()
	if n := s.Metrics().Writes.Load() - writes; n != 2 {
		t.Errorf("%d writes for a burst and an OPTIONS, want 2", n)
	}
	if n := h.sessions[0].flushes; n != 1 {
		t.Errorf("%d flushes, want 1", n)
	}
}

func TestWarningsAndErrorsReachTheClient(t *testing.T) {
	s := start(t, Options{})
	c := connect(t, s, protocol.V4)
	c.send(append(c.query(1, "warn"), c.query(2, "invalid")...))
	f := c.read()
	extras, _, err := protocol.SplitResponse(f.Header, f.Body)
	if err != nil || len(extras.Warnings) != 1 {
		t.Fatalf("extras %v, %v", extras, err)
	}
	c.wantError(2, protocol.CodeInvalid, "no")
	if s.Metrics().Errors.Load() != 1 {
		t.Error("the error was not counted")
	}
}

func TestPayloadIsEchoedWhenAsked(t *testing.T) {
	for _, echo := range []bool{true, false} {
		s := start(t, Options{EchoPayload: echo})
		c := connect(t, s, protocol.V4)
		q := c.query(1, "x")
		payload := []byte{0, 1, 0, 1, 'k', 0, 0, 0, 1, 'v'}
		body := append(payload, q[protocol.HeaderLen:]...)
		c.send(frame(4, protocol.FlagCustomPayload, 1, byte(protocol.OpQuery), len(body), body))
		f := c.read()
		extras, message, err := protocol.SplitResponse(f.Header, f.Body)
		if err != nil || !bytes.Equal(message, q[protocol.HeaderLen:]) {
			t.Fatalf("message %q, %v", message, err)
		}
		if echo != (len(extras.Payload) == 1) || echo && string(extras.Payload[0].Value) != "v" {
			t.Fatalf("echo %v: payload %v", echo, extras.Payload)
		}
		c3 := connect(t, s, protocol.V3)
		c3.send(frame(3, protocol.FlagCustomPayload, 1, byte(protocol.OpQuery), len(body), body))
		c3.wantError(1, protocol.CodeProtocol, "Received frame with CUSTOM_PAYLOAD flag for native protocol version < 4")
		c3.alive()
	}
}

func TestEventsReachOnlyThoseWhoRegistered(t *testing.T) {
	s := start(t, Options{})
	var with, without []*client
	for _, v := range versions {
		a, b, other := connect(t, s, v), connect(t, s, v), connect(t, s, v)
		a.send(protocol.AppendRegister(nil, v, 7, protocol.EventSet(0).With(protocol.SchemaChange)))
		other.send(protocol.AppendRegister(nil, v, 7, protocol.EventSet(0).With(protocol.StatusChange)))
		for _, c := range []*client{a, other} {
			if f := c.read(); f.Header.Op != protocol.OpReady || f.Header.Stream != 7 {
				t.Fatalf("REGISTER answered with %s", f.Header.Op)
			}
		}
		with, without = append(with, a), append(without, b, other)
	}
	if n := s.Metrics().Registered.Load(); n != 6 {
		t.Errorf("%d registered", n)
	}
	want := protocol.Event{Type: protocol.SchemaChange, Change: protocol.Created, Target: protocol.TargetTable, Keyspace: "ks", Name: "t"}
	s.Broadcast(&want)
	for _, c := range with {
		f := c.read()
		e, err := protocol.DecodeEvent(f.Body)
		if err != nil || f.Header.Stream != protocol.EventStream || e.Name != "t" || f.Header.Version != c.v {
			t.Fatalf("event %v %v, %v", f.Header, e, err)
		}
		c.alive()
	}
	for _, c := range without {
		c.alive() // the next thing that comes is SUPPORTED
	}
	bad := connect(t, s, protocol.V4)
	bad.send(frame(4, 0, 1, byte(protocol.OpRegister), 7, []byte{0, 1, 0, 3, 'F', 'O', 'O'}))
	bad.wantError(1, protocol.CodeProtocol, "Invalid value 'FOO' for Type")
}

func TestEventsAreDroppedForClientsThatDoNotRead(t *testing.T) {
	s := start(t, Options{Limits: Limits{UnsentMax: 64 << 10}})
	c := connect(t, s, protocol.V4)
	c.send(protocol.AppendRegister(nil, c.v, 7, protocol.EventSet(0).With(protocol.SchemaChange)))
	c.read()
	name := string(bytes.Repeat([]byte("n"), 60000))
	e := &protocol.Event{Type: protocol.SchemaChange, Change: protocol.Created, Target: protocol.TargetTable, Keyspace: "ks", Name: name}
	for end := time.Now().Add(5 * time.Second); s.Metrics().EventsDropped.Load() == 0; {
		if time.Now().After(end) {
			t.Fatal("no event was dropped")
		}
		s.Broadcast(e)
	}
	sent := int(s.Metrics().Events.Load())
	for range sent {
		if f := c.read(); f.Header.Op != protocol.OpEvent {
			t.Fatalf("got %s", f.Header.Op)
		}
	}
	c.alive()
}

func TestListeningIsAnnouncedWordByWord(t *testing.T) {
	var l logs
	s := start(t, Options{Logger: l.logger(), Listeners: []Listener{{Addr: loopback}, {Addr: loopback}}})
	for _, a := range s.Addrs() {
		if !l.contains(fmt.Sprintf("Starting listening for CQL clients on /%s (unencrypted)...", a)) {
			t.Errorf("no line about %s in %q", a, l.lines)
		}
	}
}

func TestListenFailsAsAWhole(t *testing.T) {
	s := start(t, Options{})
	o := Options{Listeners: []Listener{{Addr: loopback}, {Addr: s.Addrs()[0]}}, Handler: newFakeHandler()}
	second, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	if err := second.Run(context.Background()); err == nil || errors.Is(err, ErrClosed) {
		t.Fatalf("Run: %v", err)
	}
	if err := second.Run(context.Background()); !errors.Is(err, ErrClosed) {
		t.Fatalf("second Run: %v", err)
	}
}

func TestOptionsAreChecked(t *testing.T) {
	good := Options{Listeners: []Listener{{Addr: loopback}}, Handler: newFakeHandler()}
	for name, spoil := range map[string]func(*Options){
		"no listener":        func(o *Options) { o.Listeners = nil },
		"no address":         func(o *Options) { o.Listeners = []Listener{{}} },
		"no handler":         func(o *Options) { o.Handler = nil },
		"negative limit":     func(o *Options) { o.Limits.ConnsMax = -1 },
		"too many in flight": func(o *Options) { o.Limits.InFlightMax = 1 << 16 },
		"tiny frames":        func(o *Options) { o.Limits.FrameMax = 1000 },
		"huge frames":        func(o *Options) { o.Limits.FrameMax = 1 << 30 },
	} {
		o := good
		spoil(&o)
		if _, err := New(o); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, err := New(good); err != nil {
		t.Error(err)
	}
}

func TestConnectionsTellsWhoIsThere(t *testing.T) {
	h := newFakeHandler()
	s := start(t, Options{Handler: h})
	c := connect(t, s, protocol.V4, protocol.StringPair{Key: "driver_name", Value: "d"}, protocol.StringPair{Key: "DRIVER_VERSION", Value: "1"})
	dial(t, s, protocol.V4).alive()
	c.send(append(c.query(1, "later"), c.query(2, "x")...))
	c.wantResult(2)
	states := s.Connections()
	if len(states) != 2 {
		t.Fatalf("%d connections", len(states))
	}
	a, b := states[0], states[1]
	if a.Stage != protocol.StageReady || a.Info.DriverName != "d" || a.Info.DriverVersion != "1" || a.Info.User != Anonymous ||
		a.Requests != 2 || a.InFlight != 1 || a.Info.Version != protocol.V4 || a.Info.Remote.String() != c.nc.LocalAddr().String() {
		t.Errorf("first: %+v", a)
	}
	if b.Stage != protocol.StageEstablished || b.Info.Version != 0 {
		t.Errorf("second: %+v", b)
	}
	if i := h.lastInfo(); i.DriverName != "d" || i.ID != a.Info.ID {
		t.Errorf("session was told %+v", i)
	}
	if n := s.CloseConnections(func(i ConnInfo) bool { return i.DriverName == "d" }); n != 1 {
		t.Errorf("%d closed", n)
	}
	c.wantEnd()
	eventually(t, "one left", func() bool { return s.Metrics().Open.Load() == 1 && h.closes() == 1 })
	(<-h.later).RespondBytes(protocol.OpResult, nil, nil) // late
	if s.Metrics().AnswersLate.Load() != 1 || s.InFlightBytes() != 0 {
		t.Error("a late answer was not accounted for")
	}
}

func TestRecorder(t *testing.T) {
	r := NewRecorder(protocol.V4)
	a, b := r.Responder(1), r.Responder(2)
	go b.RespondBytes(protocol.OpResult, nil, []byte("two"))
	<-r.Moved()
	a.Error(protocol.Errorf(protocol.CodeInvalid, "no"), nil)
	fr := protocol.NewFrameReader(protocol.ReaderOptions{Client: true})
	fr.Feed(r.Take())
	if f, ok, err := fr.Next(); !ok || err != nil || f.Header.Stream != 2 || string(f.Body) != "two" {
		t.Fatal(f, ok, err)
	}
	if f, ok, err := fr.Next(); !ok || err != nil || f.Header.Stream != 1 || f.Header.Op != protocol.OpError {
		t.Fatal(f, ok, err)
	}
	if r.Take() != nil {
		t.Fatal("answers were kept")
	}
}
