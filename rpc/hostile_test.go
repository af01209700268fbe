package rpc

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/helenusdb/helenus/ring"
)

// A handshake that does not fit is refused, and the reason reaches the dialer's error and the logs of both ends
// (M14: an address taken over by a node of another cluster, or by another node of this one).
func TestHandshakeRefused(t *testing.T) {
	for _, c := range []struct {
		name         string
		dialer, peer func(*Options)
		code         RefusalCode
		reason       string
	}{
		{name: "other cluster", peer: func(o *Options) { o.ClusterID = func() [16]byte { return [16]byte{0xb} } },
			code: RefusedCluster, reason: "belongs to cluster 0b00"},
		{name: "other host", peer: func(o *Options) { o.Self = hostID(77) }, code: RefusedHost,
			reason: "this is host 00000000-0000-0000-0000-00000000004d"},
		{name: "no cluster yet", peer: func(o *Options) { o.ClusterID = func() [16]byte { return [16]byte{} } },
			code: RefusedNoCluster, reason: "no cluster yet"},
		{name: "not a member", peer: func(o *Options) {
			o.Admit = func(from ring.HostID, _ net.Addr) error { return fmt.Errorf("%v was removed", from) }
		}, code: RefusedNotMember, reason: "00000001 was removed"},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, f *fabric) {
				a, b := f.add(1, c.dialer), f.add(2, c.peer)
				e := wantError(t, a, 2, ErrRefused, false)
				var r *Refusal
				if !errors.As(e, &r) || r.Code != c.code || !r.Remote || !strings.Contains(r.Reason, c.reason) {
					t.Errorf("refusal %+v", r)
				}
				synctest.Wait()
				for who, log := range map[string]string{"dialer": a.log.String(), "acceptor": b.log.String()} {
					if !strings.Contains(log, c.reason) {
						t.Errorf("%s's log does not name the reason: %s", who, log)
					}
				}
				if b.Metrics().Refused.Load() != 1 || a.Metrics().DialErrors.Load() != 1 {
					t.Error("the refusal is not counted")
				}
			})
		})
	}
}

// A node without a cluster does not dial, and does as soon as it has one.
func TestNoClusterYet(t *testing.T) {
	bubble(t, func(t *testing.T, f *fabric) {
		var id atomic.Pointer[[16]byte]
		id.Store(new([16]byte))
		a := f.add(1, func(o *Options) { o.ClusterID = func() [16]byte { return *id.Load() } })
		f.add(2, nil)
		wantError(t, a, 2, ErrNoCluster, false)
		id.Store(&clusterA)
		time.Sleep(time.Second)
		mustCall(t, a, 2, Data, verbEcho, nil)
	})
}

// A peer that asks for large answers and reads none gets its connection closed or empty answers; memory stays
// bounded.
func TestSlowReader(t *testing.T) {
	bubble(t, func(t *testing.T, f *fabric) {
		b := f.add(2, func(o *Options) { o.Data = Limits{QueueBytes: 1 << 20, InFlight: 64} })
		conn := rawConn(t, f, 1, 2, Data)
		defer conn.Close()
		big := binary.LittleEndian.AppendUint32(nil, 300<<10)
		for i := range 2000 {
			frame := appendFrame(nil, header{kind: kindRequest, code: uint8(verbBig), micros: 60e6, id: uint64(i)}, big)
			seal(frame)
			if _, err := conn.Write(frame); err != nil {
				break
			}
			synctest.Wait()
		}
		if n := b.Metrics().class(Data).SlowReaders.Load(); n != 1 {
			t.Errorf("closed %d times", n)
		}
		eventually(t, "connection is closed", func() bool { return b.Metrics().OpenIn.Load() == 0 })
	})
}

// rawConn returns a connection from one host to a node after a good handshake.
func rawConn(t *testing.T, f *fabric, from, to int, class Class) net.Conn {
	t.Helper()
	conn, err := f.net.Host(hostName(from)).Dial(t.Context(), hostName(to)+":7000")
	if err != nil {
		t.Fatal(err)
	}
	h := hello{version: 1, mode: modeConnect, class: class, cluster: clusterA, from: hostID(from), to: hostID(to)}
	conn.Write(appendHello(nil, &h))
	if r, err := readReply(conn); err != nil || r.code != 0 {
		t.Fatal("handshake:", err)
	}
	return conn
}

// Connections and unfinished handshakes are bounded, and a dialer that says nothing is dropped (X13 on this port).
func TestAcceptBounds(t *testing.T) {
	bubble(t, func(t *testing.T, f *fabric) {
		b := f.add(2, func(o *Options) { o.ConnsMax, o.HandshakesMax = 2, 3 })
		var silent []net.Conn
		for range 5 {
			c, err := f.net.Host(hostName(1)).Dial(t.Context(), hostName(2)+":7000")
			if err != nil {
				t.Fatal(err)
			}
			silent = append(silent, c)
			synctest.Wait()
		}
		if n := b.Metrics().Refused.Load(); n != 2 {
			t.Errorf("%d of 5 handshakes refused, 3 allowed", n)
		}
		time.Sleep(4 * time.Second)
		for i, c := range silent {
			if n, err := c.Read(make([]byte, 1)); err == nil {
				t.Errorf("silent connection %d is open: %d", i, n)
			}
			c.Close()
		}
		f.add(1, nil)
		for class, want := range []error{nil, nil, ErrRefused} {
			_, _, err := f.nodes[1].Call(t.Context(), hostID(2), Class(class), verbEcho, nil)
			if !errors.Is(err, want) {
				t.Errorf("connection %d: %v", class, err)
			}
		}
	})
}

// Bytes that are no frame close their connection with a log line, and nobody else's (X18).
func TestBadFrames(t *testing.T) {
	good := appendFrame(nil, header{kind: kindRequest, code: uint8(verbEcho), micros: 1e6, id: 1}, []byte("body"))
	seal(good)
	flip := func(at int, mask byte, reseal bool) []byte {
		b := bytes.Clone(good)
		b[at] ^= mask
		if reseal {
			seal(b)
		}
		return b
	}
	for name, bad := range map[string][]byte{
		"checksum":            flip(headerLen, 1, false),
		"4-GiB length":        append([]byte{0, 0, 0, 0, 255, 255, 255, 255}, make([]byte, 100)...),
		"kind":                flip(8, 0x80, true),
		"flags":               flip(10, 0x40, true),
		"answer to no one":    flip(8, byte(kindRequest^kindResponse), true),
		"compressed nonsense": flip(10, flagLZ4, true),
		"heartbeat length":    flip(8, byte(kindRequest^kindHeartbeat), true),
		"text":                []byte(strings.Repeat("GET / HTTP/1.1\r\n", 10)),
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, f *fabric) {
				a, b := f.add(3, nil), f.add(2, nil)
				mustCall(t, a, 2, Data, verbEcho, nil)
				conn := rawConn(t, f, 1, 2, Data)
				conn.Write(good)
				conn.Write(bad)
				begin := time.Now()
				_, _ = io.Copy(io.Discard, conn) // the end, or a reset
				if time.Since(begin) > time.Second {
					t.Error("not closed at once")
				}
				conn.Close()
				synctest.Wait()
				if !strings.Contains(b.log.String(), "invalid frame") {
					t.Error("no log line:", b.log)
				}
				mustCall(t, a, 2, Data, verbEcho, nil)
				if a.Metrics().Dials.Load() != 1 {
					t.Error("another peer's connection was disturbed")
				}
			})
		})
	}
}

// Handshakes that are none are refused without harm.
func TestBadHandshakes(t *testing.T) {
	bubble(t, func(t *testing.T, f *fabric) {
		a, b := f.add(1, nil), f.add(2, nil)
		h := appendHello(nil, &hello{version: 1, mode: modeConnect, cluster: clusterA, from: hostID(3), to: hostID(2)})
		wrong := func(at int, v byte) []byte {
			c := bytes.Clone(h)
			c[at] = v
			return append(c[:helloLen-4], appendTail(bytes.Clone(c[:64]), 0, nil)[68:]...)
		}
		for name, bad := range map[string][]byte{
			"http": []byte("GET / HTTP/1.1\r\n\r\n"), "flipped": append(bytes.Clone(h[:70]), 0, 0),
			"class": wrong(6, 3), "mode": wrong(5, 9), "version 0": wrong(4, 0), "TLS": {0x16, 3, 1, 0, 0},
			"body":       appendHello(nil, &hello{version: 1, mode: modeConnect, cluster: clusterA, to: hostID(2), body: []byte{1}}),
			"4-GiB body": append(bytes.Clone(h[:64]), 255, 255, 255, 255, 1, 2, 3, 4),
		} {
			before := b.Metrics().Refused.Load()
			conn, err := f.net.Host(hostName(3)).Dial(t.Context(), hostName(2)+":7000")
			if err != nil {
				t.Fatal(err)
			}
			conn.Write(bad)
			conn.SetReadDeadline(time.Now().Add(time.Second))
			buf := make([]byte, 1000)
			n := 0
			for err == nil {
				var k int
				k, err = conn.Read(buf[n:])
				n += k
			}
			if errors.Is(err, context.DeadlineExceeded) || b.Metrics().Refused.Load() != before+1 {
				t.Errorf("%s: not refused: %v", name, err)
			}
			if name == "version 0" {
				r, err := readReply(bytes.NewReader(buf[:n]))
				if err != nil || r.code != RefusedVersion {
					t.Errorf("version 0: %v", err)
				}
			}
			conn.Close()
		}
		mustCall(t, a, 2, Data, verbEcho, nil)
	})
}
