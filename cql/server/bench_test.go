package server

import (
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"github.com/helenusdb/helenus/cql/protocol"
)

// scripted is a connection whose client sends the same burst of bytes for every token and takes all answers.
type scripted struct {
	net.Conn // nil
	burst    []byte
	at       int
	tokens   chan struct{}
	done     chan struct{}
	answers  int // bytes of answers still to come for this burst
	size     int
}

func (s *scripted) Read(b []byte) (int, error) {
	if s.at == 0 {
		if _, ok := <-s.tokens; !ok {
			return 0, io.EOF
		}
	}
	n := copy(b, s.burst[s.at:])
	s.at = (s.at + n) % len(s.burst)
	return n, nil
}

func (s *scripted) Write(b []byte) (int, error) {
	s.answers -= len(b)
	if s.answers <= 0 {
		s.answers += s.size
		s.done <- struct{}{}
	}
	return len(b), nil
}

func (s *scripted) Close() error                    { return nil }
func (s *scripted) SetReadDeadline(time.Time) error { return nil }
func (s *scripted) LocalAddr() net.Addr             { return &net.TCPAddr{} }
func (s *scripted) RemoteAddr() net.Addr            { return &net.TCPAddr{} }

// execute is an EXECUTE of a statement with a few small values.
func execute(v protocol.Version, stream int16) []byte {
	e := protocol.Execute{ID: make([]byte, 16), ResultMetadataID: make([]byte, 16)}
	e.Consistency, e.Flags = protocol.One, protocol.QuerySkipMetadata
	for range 3 {
		e.Values = append(e.Values, protocol.Value{Bytes: make([]byte, 16)})
	}
	return protocol.AppendExecute(nil, v, stream, 0, &e)
}

// scriptedConn runs a connection over scripted bursts of n requests; step does one burst.
func scriptedConn(tb testing.TB, v protocol.Version, n int) (step func()) {
	h := newFakeHandler()
	s, err := New(Options{Listeners: []Listener{{Addr: loopback}}, Handler: h})
	if err != nil {
		tb.Fatal(err)
	}
	s.state = running
	var burst []byte
	for i := range n {
		burst = append(burst, execute(v, int16(i))...)
	}
	size := len(burst)
	startup := protocol.AppendStartup(nil, v, 0, []protocol.StringPair{{Key: "CQL_VERSION", Value: "3.0.0"}})
	if v >= protocol.V5 {
		burst = protocol.AppendSegments(nil, burst, protocol.NoCompression)
		size = len(burst)
	}
	sc := &scripted{burst: startup, tokens: make(chan struct{}), done: make(chan struct{}), size: protocol.HeaderLen, answers: protocol.HeaderLen}
	s.add(sc, &s.opt.Listeners[0])
	sc.tokens <- struct{}{}
	<-sc.done
	sc.burst, sc.size, sc.answers = burst, size, size
	tb.Cleanup(func() { close(sc.tokens); s.wg.Wait() })
	return func() {
		sc.tokens <- struct{}{}
		<-sc.done
	}
}

func TestInlineAnswersAllocateNothing(t *testing.T) {
	for _, v := range versions {
		const n = 100
		step := scriptedConn(t, v, n)
		for range 10 {
			step()
		}
		if got := testing.AllocsPerRun(100, step) / n; got > 0.1 { // the race detector empties pools
			t.Errorf("v%d: %.2f allocations per request", v, got)
		}
	}
}

// What the server itself costs per request, without system calls.
func BenchmarkRequest(b *testing.B) {
	for _, v := range versions[1:] {
		for _, n := range []int{1, 16, 128} {
			b.Run(fmt.Sprintf("v%d/burst=%d", v, n), func(b *testing.B) {
				step := scriptedConn(b, v, n)
				b.ReportAllocs()
				for b.Loop() {
					step()
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/request")
			})
		}
	}
}

// Pipelined requests over loopback, client included.
func BenchmarkLoopback(b *testing.B) {
	for _, late := range []bool{false, true} {
		b.Run(fmt.Sprintf("late=%v", late), func(b *testing.B) {
			h := newFakeHandler()
			if late {
				requests := make(chan Responder, 1024)
				defer close(requests)
				go func() {
					body := rawBody{0, 0, 0, 1}
					for r := range requests {
						r.Respond(protocol.OpResult, nil, &body)
					}
				}()
				h.do = func(s *fakeSession, h protocol.Header, body []byte, r Responder) bool {
					requests <- r
					return true
				}
			}
			s := start(b, Options{Handler: h})
			const conns, depth = 4, 32
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				c := connect(b, s, protocol.V4)
				var burst []byte
				for i := range depth {
					burst = append(burst, execute(c.v, int16(i))...)
				}
				got := depth
				for pb.Next() {
					if got == depth {
						c.nc.Write(burst)
						got = 0
					}
					if _, err := c.fr.ReadFrame(c.nc); err != nil {
						b.Error(err)
						return
					}
					got++
				}
			})
			b.ReportMetric(float64(s.Metrics().Writes.Load())/float64(b.N), "writes/op")
		})
	}
}
