package server

import (
	"bytes"
	"encoding/binary"
	"io"
	"math/rand/v2"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/helenusdb/helenus/cql/protocol"
)

func TestUnknownVersionsAreToldWhatIsSpoken(t *testing.T) {
	s := start(t, Options{})
	for _, v := range []byte{0, 6, 7, 65, 66} {
		c := dial(t, s, protocol.V4)
		c.sendRaw(frame(v, 0, 5, byte(protocol.OpOptions), 0, nil))
		b := make([]byte, protocol.HeaderLen)
		io.ReadFull(c.nc, b)
		h, _, _ := protocol.DecodeHeader(b)
		body := make([]byte, h.Length)
		io.ReadFull(c.nc, body)
		if b[0] != 0x85 || h.Stream != 0 || h.Op != protocol.OpError {
			t.Fatalf("version %d: header % x", v, b)
		}
		if e, err := protocol.DecodeError(h.Version, body); err != nil || e.Message != protocol.UnsupportedVersion(protocol.Version(v)).Message {
			t.Fatalf("version %d: %v, %v", v, e, err)
		}
		c.alive()
		c.startup()
		c.alive()
	}
	c := dial(t, s, protocol.V4)
	c.sendRaw([]byte{2, 0, 3, byte(protocol.OpOptions), 0, 0, 0, 0})
	b := make([]byte, 8)
	io.ReadFull(c.nc, b)
	if b[0] != 0x82 || b[3] != byte(protocol.OpError) {
		t.Fatalf("version 2: header % x", b)
	}
}

func TestRequestsOutOfTurn(t *testing.T) {
	s := start(t, Options{})
	for _, v := range versions {
		c := dial(t, s, v)
		c.send(c.query(7, "x"))
		c.wantError(0, protocol.CodeProtocol, "Unexpected message QUERY, expecting STARTUP or OPTIONS")
		c.send(protocol.AppendRegister(nil, v, 7, 1))
		c.wantError(0, protocol.CodeProtocol, "Unexpected message REGISTER, expecting STARTUP or OPTIONS")
		c.send(frame(byte(v), 0, 3, byte(protocol.OpStartup), 2, []byte{0, 0}))
		c.wantError(3, protocol.CodeProtocol, "Missing value CQL_VERSION in STARTUP message")
		c.send(frame(byte(v), 0, 3, byte(protocol.OpStartup), 4, []byte{0, 9, 0, 50}))
		c.wantError(3, protocol.CodeProtocol, "")
		c.startup()
		c.send(protocol.AppendStartup(nil, v, 9, []protocol.StringPair{{Key: "CQL_VERSION", Value: "3.0.0"}}))
		c.wantError(9, protocol.CodeProtocol, "Unexpected message STARTUP, the connection is already initialized")
		c.send(protocol.AppendAuthResponse(nil, v, 9, nil))
		c.wantError(9, protocol.CodeProtocol, "Unexpected message AUTH_RESPONSE, the connection is already initialized")
		c.send(frame(byte(v), 0, 9, byte(protocol.OpCredentials), 0, nil))
		c.wantError(9, protocol.CodeProtocol, "Unsupported message")
		c.alive()
	}
	if n := s.Metrics().ProtocolErrors.Load(); n != 21 {
		t.Errorf("%d protocol errors counted, want 21", n)
	}
}

func TestStartupAndRequestsInOneWrite(t *testing.T) {
	s := start(t, Options{})
	for _, v := range versions {
		c := dial(t, s, v)
		b := protocol.AppendOptions(nil, v, 1)
		b = protocol.AppendStartup(b, v, 2, []protocol.StringPair{{Key: "CQL_VERSION", Value: "3.0.0"}})
		q := append(c.query(3, "a"), c.query(4, "b")...)
		if v >= protocol.V5 {
			q = protocol.AppendSegments(nil, q, protocol.NoCompression)
		}
		c.sendRaw(append(b, q...))
		if f := c.read(); f.Header.Op != protocol.OpSupported {
			t.Fatal(f.Header)
		}
		if f := c.read(); f.Header.Op != protocol.OpReady {
			t.Fatal(f.Header)
		}
		c.agree()
		c.wantResult(3)
		c.wantResult(4)
	}
}

func TestRefusedStartups(t *testing.T) {
	s := start(t, Options{})
	for _, x := range []struct {
		v         protocol.Version
		key, text string
		want      string
	}{
		{protocol.V5, "COMPRESSION", "snappy", "Snappy compression is not supported in protocol V5"},
		{protocol.V4, "COMPRESSION", "foo", "Unknown compression algorithm: foo"},
		{protocol.V4, "CQL_VERSION", "2.0.0", "CQL version 2.0.0 is not supported by the binary protocol (supported version are >= 3.0.0)"},
	} {
		c := dial(t, s, x.v)
		c.send(protocol.AppendStartup(nil, x.v, 4, []protocol.StringPair{{Key: "CQL_VERSION", Value: "3.0.0"}, {Key: x.key, Value: x.text}}))
		c.wantError(4, protocol.CodeProtocol, x.want)
		c.startup()
		c.alive()
	}
}

func TestBrokenFrames(t *testing.T) {
	s := start(t, Options{})
	c := connect(t, s, protocol.V4)
	c.send(frame(4, 0, 5, 32, 0, nil))
	c.wantError(5, protocol.CodeProtocol, "Unknown opcode 32")
	c.send(frame(0x84, 0, 6, byte(protocol.OpQuery), 0, nil))
	c.wantError(6, protocol.CodeProtocol, "")
	c.send(frame(4, 0, 6, byte(protocol.OpReady), 0, nil))
	c.wantError(6, protocol.CodeProtocol, "")
	c.send(frame(5, 0, 8, byte(protocol.OpOptions), 0, nil))
	c.wantError(8, protocol.CodeProtocol, "Invalid message version. Got 5/v5 but previous messages on this connection had version 4/v4")
	c.send(frame(4, 0xf8, 9, byte(protocol.OpOptions), 0, nil)) // unknown flags are nobody's business
	if f := c.read(); f.Header.Op != protocol.OpSupported {
		t.Fatal(f.Header)
	}
	c.send(frame(4, 0, 10, byte(protocol.OpQuery), 3, []byte{0, 0, 0}))
	c.wantError(10, protocol.CodeProtocol, "")
	c.send(frame(4, 0, 11, byte(protocol.OpOptions), 7, make([]byte, 7))) // longer than needed
	c.read()
	c.alive()
}

// TestHugeLengthsHoldNoMemory: before STARTUP an envelope that claims 2 GiB is answered at once, on its own stream, and the
// connection closed; later one is dropped as it comes.
func TestHugeLengthsHoldNoMemory(t *testing.T) {
	s := start(t, Options{Timeouts: Timeouts{Handshake: time.Hour}})
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	var cs []*client
	for range 20 {
		c := dial(t, s, protocol.V4)
		c.sendRaw(frame(4, 0, 1, byte(protocol.OpStartup), 1<<31-1, make([]byte, 70<<10)))
		cs = append(cs, c)
	}
	for _, c := range cs {
		c.wantError(1, protocol.CodeProtocol, "Request is too big: length 2147483656 exceeds maximum allowed length 65536 before STARTUP.")
		c.wantEnd()
	}
	runtime.ReadMemStats(&after)
	if grown := after.TotalAlloc - before.TotalAlloc; grown > 50<<20 {
		t.Errorf("%d bytes allocated", grown)
	}
	if n := s.Metrics().BadFrames.Load(); n != 20 {
		t.Errorf("%d bad frames", n)
	}
	c := connect(t, s, protocol.V4)
	big := 17 << 20
	c.send(frame(4, 0, 3, byte(protocol.OpQuery), big, make([]byte, big)))
	c.wantError(3, protocol.CodeInvalid, "")
	c.alive()
}

func TestCompressionBombs(t *testing.T) {
	s := start(t, Options{})
	bomb := binary.BigEndian.AppendUint32(nil, 1<<30)
	bomb = append(bomb, bytes.Repeat([]byte{0xff}, 500)...)
	c := connect(t, s, protocol.V4, protocol.StringPair{Key: "COMPRESSION", Value: "lz4"})
	c.send(frame(4, protocol.FlagCompressed, 3, byte(protocol.OpQuery), len(bomb), bomb))
	c.wantError(3, protocol.CodeProtocol, "Compressed lengths mismatch")
	c.alive()
	sn := connect(t, s, protocol.V4, protocol.StringPair{Key: "COMPRESSION", Value: "snappy"})
	body := append(binary.AppendUvarint(nil, 1<<31), 1, 2, 3)
	sn.send(frame(4, protocol.FlagCompressed, 3, byte(protocol.OpQuery), len(body), body))
	sn.wantError(3, protocol.CodeProtocol, "")
	sn.alive()
	// Many honest ones that expand 250-fold, in one write.
	zeros := protocol.AppendQuery(nil, protocol.V4, 1, 0, strings.Repeat("x", 1<<20), &protocol.QueryParams{Consistency: protocol.One})
	small := protocol.AppendCompressed(nil, zeros[protocol.HeaderLen:], protocol.LZ4)
	var all []byte
	for i := range int16(20) {
		all = append(all, frame(4, protocol.FlagCompressed, i, byte(protocol.OpQuery), len(small), small)...)
	}
	go c.nc.Write(all)
	for i := range int16(20) {
		if !bytes.Equal(c.wantResult(i), zeros[protocol.HeaderLen:]) {
			t.Fatal("answer differs")
		}
	}
}

func TestAnyFlippedBitOfASegmentIsNoticed(t *testing.T) {
	s := start(t, Options{})
	for _, comp := range []string{"", "lz4"} {
		var options []protocol.StringPair
		if comp != "" {
			options = append(options, protocol.StringPair{Key: "COMPRESSION", Value: comp})
		}
		c := connect(t, s, protocol.V5, options...)
		seg := protocol.AppendSegments(nil, c.query(1, strings.Repeat("q", 80)), c.comp)
		for bit := range 8 * len(seg) {
			c := connect(t, s, protocol.V5, options...)
			bad := bytes.Clone(seg)
			bad[bit/8] ^= 1 << (bit % 8)
			c.sendRaw(bad)
			c.wantError(0, protocol.CodeProtocol, "")
			c.wantEnd()
		}
	}
	if n := s.Metrics().Requests[protocol.OpQuery].Load(); n != 0 {
		t.Fatalf("%d broken requests were executed", n)
	}
}

func TestRandomBytes(t *testing.T) {
	s := start(t, Options{})
	rng := rand.New(rand.NewPCG(1, 2))
	for i := range 300 {
		v := versions[rng.IntN(3)]
		c := dial(t, s, v)
		if rng.IntN(3) > 0 {
			c.startup()
		}
		b := make([]byte, rng.IntN(2000))
		for j := range b {
			b[j] = byte(rng.Uint32())
		}
		if rng.IntN(2) == 0 { // a plausible beginning
			good := append(c.query(int16(i), "x"), b...)
			if c.framed && rng.IntN(2) == 0 {
				good = append(protocol.AppendSegments(nil, c.query(int16(i), "x"), c.comp), b...)
			}
			b = good[:rng.IntN(len(good)+1)]
		}
		c.nc.Write(b)
		if rng.IntN(2) == 0 {
			c.nc.(*net.TCPConn).SetLinger(0) // RST
		}
		c.nc.Close()
	}
	connect(t, s, protocol.V4).alive()
	eventually(t, "all but one gone", func() bool { return s.Metrics().Open.Load() == 1 && s.InFlightBytes() == 0 })
	if s.Metrics().Panics.Load() != 0 {
		t.Error("the server panicked")
	}
}

func TestTimeouts(t *testing.T) {
	short := 200 * time.Millisecond
	t.Run("handshake", func(t *testing.T) {
		s := start(t, Options{Timeouts: Timeouts{Handshake: short}})
		c := dial(t, s, protocol.V4)
		c.alive() // OPTIONS alone does not help
		stay := connect(t, s, protocol.V4)
		for range 3 {
			time.Sleep(short / 4)
			c.nc.Write([]byte{4})
		}
		c.wantEnd()
		if s.Metrics().HandshakeLate.Load() != 1 {
			t.Error("not counted")
		}
		stay.alive()
	})
	t.Run("frame", func(t *testing.T) {
		s := start(t, Options{Timeouts: Timeouts{Frame: short}})
		c, stay := connect(t, s, protocol.V4), connect(t, s, protocol.V4)
		q := c.query(1, "slow")
		for _, b := range q[:8] {
			c.nc.Write([]byte{b})
			time.Sleep(short / 7)
			stay.alive()
		}
		c.wantEnd()
		if s.Metrics().FrameLate.Load() != 1 {
			t.Error("not counted")
		}
		stay.alive()
	})
	t.Run("idle", func(t *testing.T) {
		h := newFakeHandler()
		s := start(t, Options{Handler: h, Timeouts: Timeouts{Idle: short}})
		c, busy := connect(t, s, protocol.V4), connect(t, s, protocol.V4)
		busy.send(busy.query(1, "later"))
		c.wantEnd()
		time.Sleep(short)
		if s.Metrics().IdleClosed.Load() != 1 {
			t.Error("not counted, or too often")
		}
		(<-h.later).RespondBytes(protocol.OpResult, nil, nil)
		busy.wantResult(1)
	})
	t.Run("write", func(t *testing.T) {
		s := start(t, Options{Timeouts: Timeouts{Write: short}})
		c := connect(t, s, protocol.V4)
		c.nc.(*net.TCPConn).SetReadBuffer(4096)
		for i := range int16(50) {
			c.nc.Write(c.query(i, "big"))
		}
		eventually(t, "write given up", func() bool { return s.Metrics().WriteLate.Load() == 1 && s.Metrics().Open.Load() == 0 })
		if s.InFlightBytes() != 0 {
			t.Errorf("%d bytes in flight without a connection", s.InFlightBytes())
		}
	})
}

func TestConnectionCaps(t *testing.T) {
	s := start(t, Options{Limits: Limits{ConnsMax: 3, ConnsPerAddrMax: 2}})
	dialFrom := func(ip string) *client {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(ip)}}
		nc, err := d.Dial("tcp", s.Addrs()[0].String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { nc.Close() })
		return newClient(t, nc, protocol.V4)
	}
	a, b := dialFrom("127.0.0.2"), dialFrom("127.0.0.2")
	a.alive()
	b.alive()
	third := dialFrom("127.0.0.2")
	third.wantEnd()
	c := dialFrom("127.0.0.3")
	c.alive()
	d := dialFrom("127.0.0.3")
	d.wantEnd()
	if m := s.Metrics(); m.OverConnsAddr.Load() != 1 || m.OverConns.Load() != 1 || m.Open.Load() != 3 || m.Accepted.Load() != 5 {
		t.Errorf("%d over per address, %d over in all, %d open", m.OverConnsAddr.Load(), m.OverConns.Load(), m.Open.Load())
	}
	a.nc.Close()
	eventually(t, "room again", func() bool { return s.Metrics().Open.Load() == 2 })
	dialFrom("127.0.0.2").alive()
}

func TestResetsKeepTheCountsRight(t *testing.T) {
	h := newFakeHandler()
	s := start(t, Options{Handler: h})
	var rs []Responder
	for range 50 {
		c := connect(t, s, protocol.V4)
		c.send(protocol.AppendRegister(nil, c.v, 1, 7))
		c.read()
		c.send(append(c.query(1, "later"), c.query(2, "big")...))
		rs = append(rs, <-h.later)
		c.nc.(*net.TCPConn).SetLinger(0)
		c.nc.Close()
	}
	eventually(t, "all gone", func() bool { return s.Metrics().Open.Load() == 0 && h.closes() == 50 })
	if n := s.InFlightBytes(); n == 0 {
		t.Error("requests under way are not counted any more")
	}
	for _, r := range rs {
		r.RespondBytes(protocol.OpResult, nil, nil)
	}
	m := s.Metrics()
	if s.InFlightBytes() != 0 || m.Ready.Load() != 0 || m.Registered.Load() != 0 || m.AnswersLate.Load() < 50 {
		t.Errorf("%d bytes, %d ready, %d registered, %d late", s.InFlightBytes(), m.Ready.Load(), m.Registered.Load(), m.AnswersLate.Load())
	}
}

func TestPanicsAreCaught(t *testing.T) {
	var l logs
	h := newFakeHandler()
	s := start(t, Options{Handler: h, Logger: l.logger()})
	text := errPanic().Message
	for _, v := range versions {
		c := connect(t, s, v)
		c.send(slicesConcat(c.query(1, "panic"), c.query(2, "x"), c.query(3, "answer and panic"), c.query(4, "panic, answer later"),
			c.query(5, "panic body"), c.query(6, "x")))
		c.wantError(1, protocol.CodeServerError, text)
		c.wantResult(2)
		c.wantResult(3)
		c.wantError(4, protocol.CodeServerError, text)
		c.wantError(5, protocol.CodeServerError, text)
		c.wantResult(6)
		(<-h.later).RespondBytes(protocol.OpResult, nil, nil)
		c.alive() // and nothing else on stream 4
		c.send(c.query(8, "twice"))
		c.wantResult(8)
		c.alive()
		other := connect(t, s, v)
		other.send(other.query(1, "panic in flush"))
		other.wantEnd()
		c.alive()
	}
	if !l.contains("as asked, early") || !l.contains("robust_test.go") && !l.contains("harness_test.go") {
		t.Error("the log has no stack")
	}
	if n := s.Metrics().Panics.Load(); n != 15 {
		t.Errorf("%d panics counted, want 15", n)
	}
	eventually(t, "nothing in flight", func() bool { return s.InFlightBytes() == 0 })
	if n := s.Metrics().AnswersTwice.Load(); n != 6 {
		t.Errorf("%d second answers dropped, want 6", n)
	}
}

func slicesConcat(bs ...[]byte) []byte { return bytes.Join(bs, nil) }

func TestSlowReadersAreNotRead(t *testing.T) {
	s := start(t, Options{Limits: Limits{UnsentMax: 256 << 10}})
	for _, v := range versions {
		c := connect(t, s, v)
		const n = 40
		go func() {
			for i := range int16(n) {
				c.nc.Write(wrap(c, c.query(i, "big")))
			}
		}()
		before := s.Metrics().Requests[protocol.OpQuery].Load()
		time.Sleep(50 * time.Millisecond)
		for _, st := range s.Connections() {
			if st.UnsentSize > 256<<10+1<<20+100 {
				t.Errorf("%d bytes unsent", st.UnsentSize)
			}
		}
		for i := range int16(n) {
			if len(c.wantResult(i)) != 1<<20 {
				t.Fatal("short")
			}
		}
		c.alive()
		if s.Metrics().Requests[protocol.OpQuery].Load()-before > n {
			t.Fatal("requests counted twice")
		}
		c.nc.Close()
	}
	eventually(t, "nothing in flight", func() bool { return s.InFlightBytes() == 0 })
}

func wrap(c *client, b []byte) []byte {
	if c.framed {
		return protocol.AppendSegments(nil, b, c.comp)
	}
	return b
}

func TestLateAnswersToSlowReadersPauseThem(t *testing.T) {
	h := newFakeHandler()
	s := start(t, Options{Handler: h, Limits: Limits{UnsentMax: 128 << 10}})
	c := connect(t, s, protocol.V4)
	var all []byte
	for i := range int16(50) {
		all = append(all, c.query(i, "later")...)
	}
	c.send(all)
	var later []Responder
	for range 50 {
		later = append(later, <-h.later)
	}
	// The reader has ended its burst: it does not write these answers itself, which would hold it up without a pause.
	eventually(t, "the end of the read", func() bool { return s.Metrics().Requests[protocol.OpQuery].Load() == 50 })
	for _, r := range later {
		go r.RespondBytes(protocol.OpResult, nil, make([]byte, 1<<20))
	}
	eventually(t, "unsent answers", func() bool { return s.Connections()[0].UnsentSize > 1<<20 })
	go c.nc.Write(all)
	eventually(t, "a pause", func() bool { return s.Metrics().Pauses.Load() > 0 })
	for range 50 {
		if f := c.read(); len(f.Body) != 1<<20 {
			t.Fatal(f.Header)
		}
	}
	for range 50 {
		(<-h.later).RespondBytes(protocol.OpResult, nil, nil)
		c.read()
	}
	c.alive()
}

func TestRequestsInFlightAreBounded(t *testing.T) {
	h := newFakeHandler()
	s := start(t, Options{Handler: h, Limits: Limits{InFlightMax: 10}})
	c := connect(t, s, protocol.V4)
	var all []byte
	all = append(all, c.query(1000, "gather")...) // must not wait for the rest of the burst for ever
	for i := range int16(100) {
		all = append(all, c.query(i, "later")...)
	}
	c.send(all)
	c.wantResult(1000)
	for i := range 100 {
		r := <-h.later
		if n := s.Connections()[0].InFlight; n > 10 {
			t.Fatalf("%d in flight", n)
		}
		r.RespondBytes(protocol.OpResult, nil, nil)
		c.wantResult(int16(i))
	}
	if s.Metrics().Pauses.Load() == 0 {
		t.Error("no pause was counted")
	}
	c.alive()
}

func TestBytesInFlightAreBudgeted(t *testing.T) {
	h := newFakeHandler()
	s := start(t, Options{Handler: h, Limits: Limits{InFlightBytes: 100_000, InFlightBytesPerAddr: 60_000}})
	c := connect(t, s, protocol.V4)
	big := func(stream int16) []byte {
		q := c.query(stream, "later")
		pad := make([]byte, 20_000)
		binary.BigEndian.PutUint32(q[5:], uint32(len(q)-protocol.HeaderLen+len(pad)))
		return append(q, pad...)
	}
	c.send(slicesConcat(big(1), big(2), big(3)))
	c.wantError(3, protocol.CodeOverloaded, "")
	if got := s.InFlightBytes(); got < 40_000 || got > 40_200 {
		t.Errorf("%d bytes in flight", got)
	}
	c.send(big(4))
	f := c.read()
	e, _ := protocol.DecodeError(f.Header.Version, f.Body)
	if !strings.HasPrefix(e.Message, "Request breached limit on bytes in flight. (Endpoint: 40") || !strings.HasSuffix(e.Message,
		"/100000 bytes.) Server is currently in an overloaded state and cannot accept more requests.") {
		t.Error(e.Message)
	}
	c.alive() // heartbeats go on
	(<-h.later).RespondBytes(protocol.OpResult, nil, nil)
	c.wantResult(1)
	eventually(t, "released", func() bool { return s.InFlightBytes() < 21_000 })
	c.send(big(5))
	for range 2 {
		(<-h.later).RespondBytes(protocol.OpResult, nil, nil)
		c.read()
	}
	eventually(t, "released", func() bool { return s.InFlightBytes() == 0 })
	if n := s.Metrics().Overloaded.Load(); n != 2 {
		t.Errorf("%d refused", n)
	}
}

func TestBytesAreReleasedOnlyWhenWritten(t *testing.T) {
	s := start(t, Options{})
	c := connect(t, s, protocol.V4)
	go func() {
		for i := range int16(20) {
			c.nc.Write(c.query(i, "big"))
		}
	}()
	// Until the connection takes no more the number goes up and down. Were they released before they are written, it would end at nothing.
	eventually(t, "unsent answers stay counted", func() bool {
		n := s.InFlightBytes()
		time.Sleep(20 * time.Millisecond)
		return n > 1<<20 && s.InFlightBytes() == n
	})
	for i := range int16(20) {
		c.wantResult(i)
	}
	eventually(t, "released", func() bool { return s.InFlightBytes() == 0 })
}

// TestAnswersOfReadsNeedRoom: a client that sends reads and does not read their answers cannot make the server hold more than the budget of its address,
// and what has no room is refused, not lost. Large answers need it while they are built.
func TestAnswersOfReadsNeedRoom(t *testing.T) {
	const answer, reads, perAddr = 256 << 10, 64, 4 << 20
	for _, v := range versions {
		for _, built := range []bool{false, true} {
			h := newFakeHandler()
			s := start(t, Options{Handler: h, Limits: Limits{InFlightBytes: 64 << 20, InFlightBytesPerAddr: perAddr, UnsentMax: 512 << 10}})
			c := connect(t, s, v)
			c.nc.(*net.TCPConn).SetReadBuffer(64 << 10)
			for i := range int16(reads) {
				c.send(c.query(i, "later"))
			}
			var under []Responder // all of them: a connection whose client does not read is not read either
			for range reads {
				under = append(under, <-h.later)
			}
			for i, r := range under {
				r.ReadsOnly()
				if built {
					if full := r.Room(answer); full != nil {
						r.Error(full, nil)
						continue
					}
				}
				r.RespondBytes(protocol.OpResult, nil, make([]byte, answer))
				if n := s.InFlightBytes(); n > perAddr+(1<<20) {
					t.Fatalf("%s: %d bytes after %d answers", v, n, i+1)
				}
			}
			refused := 0
			for range reads {
				switch f := c.read(); {
				case f.Header.Op == protocol.OpResult && len(f.Body) == answer:
				case f.Header.Op == protocol.OpError:
					if e, err := protocol.DecodeError(f.Header.Version, f.Body); err != nil || e.Code != protocol.CodeOverloaded {
						t.Fatalf("%s: %v %v", v, e, err)
					}
					refused++
				default:
					t.Fatalf("%s: %s of %d bytes", v, f.Header.Op, len(f.Body))
				}
			}
			if refused == 0 || refused > reads-8 || s.Metrics().Overloaded.Load() != int64(refused) {
				t.Errorf("%s: %d refused, %d counted", v, refused, s.Metrics().Overloaded.Load())
			}
			eventually(t, "released", func() bool { return s.InFlightBytes() == 0 })
			c.alive()
		}
	}
}

// TestRoomIsGivenBack: when the answer is an error, when it comes twice, and when nobody is there any more.
func TestRoomIsGivenBack(t *testing.T) {
	h := newFakeHandler()
	s := start(t, Options{Handler: h, Limits: Limits{InFlightBytes: 64 << 20, InFlightBytesPerAddr: 1 << 20}})
	c := connect(t, s, protocol.V5)
	ask := func() *Responder {
		c.send(c.query(1, "later"))
		r := <-h.later
		if full := r.Room(600_000); full != nil {
			t.Fatal(full)
		}
		if full := r.Room(600_000); full == nil || full.Code != protocol.CodeOverloaded {
			t.Fatal("more than there is")
		}
		return &r
	}
	ask().Error(protocol.Errorf(protocol.CodeInvalid, "no"), nil)
	c.wantError(1, protocol.CodeInvalid, "no")
	eventually(t, "released", func() bool { return s.InFlightBytes() == 0 })
	r := ask()
	r.RespondBytes(protocol.OpResult, nil, nil)
	r.RespondBytes(protocol.OpResult, nil, nil)
	c.wantResult(1)
	eventually(t, "released", func() bool { return s.InFlightBytes() == 0 })
	r = ask()
	c.nc.Close()
	eventually(t, "gone", func() bool { return len(s.Connections()) == 0 })
	r.RespondBytes(protocol.OpResult, nil, make([]byte, 600_000))
	eventually(t, "released", func() bool { return s.InFlightBytes() == 0 })
}

func TestUnfinishedEnvelopesAreBudgeted(t *testing.T) {
	s := start(t, Options{Limits: Limits{InFlightBytes: 1 << 20, InFlightBytesPerAddr: 1 << 20}})
	for _, v := range versions {
		a, b := connect(t, s, v), connect(t, s, v)
		q := protocol.AppendQuery(nil, v, 3, 0, strings.Repeat("x", 900_000), &protocol.QueryParams{Consistency: protocol.One})
		q = wrap(a, q)
		a.sendRaw(q[:800_000])
		// All of it but what is free and the heads of segments: were some of it under way, it could be refused for b's.
		eventually(t, "counted", func() bool { return s.InFlightBytes() > 800_000-partialFree-100 })
		b.sendRaw(q)
		b.wantError(3, protocol.CodeOverloaded, "")
		b.alive()
		a.sendRaw(q[800_000:])
		if f := a.read(); f.Header.Stream != 3 || f.Header.Op != protocol.OpResult {
			t.Fatal(f.Header)
		}
		eventually(t, "released", func() bool { return s.InFlightBytes() == 0 })
		if s.Metrics().Overloaded.Swap(0) != 1 {
			t.Error("not counted")
		}
		a.nc.Close()
		b.nc.Close()
	}
}

func TestDuplicateStreamsAreTheClientsProblem(t *testing.T) {
	s := start(t, Options{})
	c := connect(t, s, protocol.V4)
	c.send(slicesConcat(c.query(1, "a"), c.query(1, "b"), c.query(-1, "c")))
	c.wantResult(1)
	c.wantResult(1)
	c.wantResult(-1)
	c.alive()
}
