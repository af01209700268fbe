package server

import (
	"context"
	"io"
	"net"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/helenusdb/helenus/cql/protocol"
	"github.com/helenusdb/helenus/internal/memnet"
)

// oneShot is a connection that brings some bytes in pieces and takes everything.
type oneShot struct {
	scripted
	in    []byte
	piece int
}

func (o *oneShot) Read(b []byte) (int, error) {
	if len(o.in) == 0 {
		return 0, io.EOF
	}
	n := copy(b, o.in[:min(o.piece, len(o.in))])
	o.in = o.in[n:]
	return n, nil
}

func (o *oneShot) Write(b []byte) (int, error) { return len(b), nil }

// FuzzConnection: whatever comes, nothing panics, and nothing is left when the connection has ended.
func FuzzConnection(f *testing.F) {
	for _, v := range versions {
		hello := protocol.AppendStartup(nil, v, 1, []protocol.StringPair{{Key: "CQL_VERSION", Value: "3.0.0"}})
		q := protocol.AppendQuery(nil, v, 2, 0, "invalid", &protocol.QueryParams{Consistency: protocol.One})
		q = protocol.AppendRegister(append(q, execute(v, 3)...), v, 4, 7)
		if v == protocol.V5 {
			q = protocol.AppendSegments(nil, q, protocol.NoCompression)
		}
		f.Add(append(hello, q...), uint16(1000), true)
		f.Add(append(hello, q...), uint16(3), false)
		f.Add(q, uint16(50), false)
		f.Add(append(protocol.AppendOptions(nil, v, 1), append(hello, hello...)...), uint16(50), true)
	}
	f.Fuzz(func(t *testing.T, in []byte, piece uint16, auth bool) {
		o := Options{Listeners: []Listener{{Addr: loopback}}, Handler: newFakeHandler(), EchoPayload: true,
			Limits: Limits{InFlightMax: 4, UnsentMax: 1000, InFlightBytes: 1 << 20}}
		if auth {
			o.Auth = password{}
		}
		s, err := New(o)
		if err != nil {
			t.Fatal(err)
		}
		s.state = running
		s.add(&oneShot{in: in, piece: int(piece) + 1}, &s.opt.Listeners[0])
		s.wg.Wait()
		m := s.Metrics()
		if m.Open.Load() != 0 || m.Ready.Load() != 0 || m.Registered.Load() != 0 || s.InFlightBytes() != 0 {
			t.Errorf("left: %d open, %d ready, %d registered, %d bytes", m.Open.Load(), m.Ready.Load(), m.Registered.Load(), s.InFlightBytes())
		}
	})
}

// 10,000 clients that say one byte in ten seconds, from two addresses.
func TestManySlowClients(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := memnet.New(memnet.Options{Buffer: 4 << 10})
		host := network.Host("10.0.0.1")
		s, err := New(Options{Handler: newFakeHandler(), Listeners: []Listener{{Addr: netip.MustParseAddrPort("10.0.0.1:9042")}},
			Limits: Limits{ConnsMax: 8000, ConnsPerAddrMax: 4500},
			Listen: func(_ context.Context, addr string) (net.Listener, error) { return host.Listen(addr) }})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Listen(t.Context()); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		ran := make(chan error, 1)
		go func() { ran <- s.Run(ctx) }()
		dial := func(from string) net.Conn {
			nc, err := network.Host(from).Dial(ctx, "10.0.0.1:9042")
			if err != nil {
				t.Fatal(err)
			}
			return nc
		}
		var slow []net.Conn
		for i := range 10_000 {
			nc := dial([]string{"10.0.0.2", "10.0.0.3"}[i%2])
			nc.Write([]byte{4})
			slow = append(slow, nc)
			if i%100 == 0 {
				synctest.Wait()
			}
		}
		synctest.Wait()
		m := s.Metrics()
		if m.Open.Load() != 8000 || m.OverConns.Load() != 2000 {
			t.Errorf("%d open, %d turned away, %d per address", m.Open.Load(), m.OverConns.Load(), m.OverConnsAddr.Load())
		}
		time.Sleep(11 * time.Second)
		if m.Open.Load() != 0 || m.HandshakeLate.Load() != 8000 {
			t.Errorf("%d open, %d late", m.Open.Load(), m.HandshakeLate.Load())
		}
		good := newClient(t, dial("10.0.0.2"), protocol.V5)
		good.startup()
		good.alive()
		cancel()
		if err := <-ran; err != nil {
			t.Error(err)
		}
		for _, nc := range append(slow, good.nc) {
			nc.Close()
		}
	})
}
