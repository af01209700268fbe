package rpc

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/helenusdb/helenus/ring"
)

// bubble runs a test in virtual time; all transports end before the bubble does.
func bubble(t *testing.T, test func(t *testing.T, f *fabric)) {
	synctest.Test(t, func(t *testing.T) {
		f := newFabric(t)
		defer f.stopAll()
		test(t, f)
	})
}

func mustCall(t *testing.T, n *testNode, to int, class Class, verb Verb, body []byte) []byte {
	t.Helper()
	reply, status, err := n.Call(t.Context(), hostID(to), class, verb, body)
	if err != nil || status != StatusOK {
		t.Fatalf("call: status %v, error %v", status, err)
	}
	return reply
}

// wantError calls and checks cause and Sent of the error.
func wantError(t *testing.T, n *testNode, to int, cause error, sent bool) *Error {
	t.Helper()
	_, _, err := n.Call(t.Context(), hostID(to), Data, verbEcho, nil)
	var e *Error
	if !errors.As(err, &e) || !errors.Is(err, cause) || e.Sent != sent {
		t.Fatalf("got %v, want %v with sent %v", err, cause, sent)
	}
	return e
}

// Every class carries requests and answers, of every size, and reports statuses.
func TestCall(t *testing.T) {
	bubble(t, func(t *testing.T, f *fabric) {
		a := f.add(1, nil)
		f.add(2, nil)
		for class := range Class(classes) {
			for _, size := range []int{0, 1, 150, readBufMin - headerLen, readBufMin, 200_000, 3 << 20, BodyMax} {
				body := bytes.Repeat([]byte{byte(size)}, size)
				for _, verb := range []Verb{verbEcho, verbLate} {
					if got := mustCall(t, a, 2, class, verb, body); !bytes.Equal(got, body) {
						t.Fatalf("%v, %d bytes: got %d", class, size, len(got))
					}
				}
			}
		}
		if body, status, err := a.Call(t.Context(), a.id, Data, verbEcho, []byte("me")); err != nil || status != 0 ||
			string(body) != "me" {
			t.Error("call to oneself:", err)
		}
		body, status, err := a.Call(t.Context(), hostID(2), Data, verbFail, nil)
		if err != nil || status != StatusFailed || string(body) != "no luck" {
			t.Error("failed request:", status, err)
		}
		if _, status, err := a.Call(t.Context(), hostID(2), Data, 255, nil); err != nil || status != StatusUnknownVerb {
			t.Error("unknown verb:", status, err)
		}
		_, _, err = a.Call(t.Context(), hostID(2), Data, verbEcho, make([]byte, BodyMax+1))
		if !errors.Is(err, ErrTooLarge) {
			t.Error("too large:", err)
		}
		big := binary.LittleEndian.AppendUint32(nil, BodyMax+1)
		if _, status, err := a.Call(t.Context(), hostID(2), Data, verbBig, big); err != nil || status != StatusFailed {
			t.Error("answer too large:", status, err)
		}
		if _, _, err := a.Call(t.Context(), hostID(9), Data, verbEcho, nil); !errors.Is(err, ErrNoAddress) {
			t.Error("unknown host:", err)
		}
	})
}

// Requests that one read brings are handled together, then flushed once; bodies stay valid until then.
func TestOneFlushPerRead(t *testing.T) {
	var session *echo
	var handled int
	bubble(t, func(t *testing.T, f *fabric) {
		a := f.add(1, nil)
		f.add(2, func(o *Options) {
			o.NewSession = func(ring.HostID, Class) Session {
				session = &echo{onReq: func(*Request) { handled++ }}
				return session
			}
		})
		mustCall(t, a, 2, Data, verbEcho, nil)
		f.net.Cut(hostName(1), hostName(2)) // what is sent now arrives in one piece
		var calls []*once
		for i := range 100 {
			o := newOnce()
			calls = append(calls, o)
			a.Send(hostID(2), Data, verbLate, time.Now().Add(time.Minute), fmt.Append(nil, "body ", i), o)
		}
		synctest.Wait()
		before := session.flushes
		f.net.Heal(hostName(1), hostName(2))
		for i, o := range calls {
			<-o.done
			if want := fmt.Sprint("body ", i); string(o.rsp.Body) != want {
				t.Fatalf("call %d: got %q", i, o.rsp.Body)
			}
		}
		if n := session.flushes - before; n != 1 || handled != 101 {
			t.Errorf("%d flushes for 100 requests, %d handled", n, handled)
		}
	})
}

// One-way messages arrive in order and need no answer.
func TestOneWay(t *testing.T) {
	var seen []byte
	bubble(t, func(t *testing.T, f *fabric) {
		a := f.add(1, nil)
		f.add(2, func(o *Options) {
			o.NewSession = func(ring.HostID, Class) Session {
				return &echo{onReq: func(r *Request) {
					if !r.OneWay || r.From != a.id || r.Class != Urgent || r.Epoch != 7 || r.Deadline.Before(time.Now()) {
						t.Errorf("request %+v", r)
					}
					seen = append(seen, r.Body...)
				}}
			}
		})
		a.epoch.Store(7)
		for i := range byte(100) {
			a.Send(hostID(2), Urgent, verbOneWay, time.Time{}, []byte{i}, nil)
		}
		synctest.Wait()
		for i := range byte(100) {
			if len(seen) != 100 || seen[i] != i {
				t.Fatalf("got %v", seen)
			}
		}
		a.Send(hostID(9), Urgent, verbOneWay, time.Time{}, nil, nil) // unknown host: dropped
	})
}

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

// A probe is answered whatever the cluster ids are; a node without a handler refuses it.
func TestProbe(t *testing.T) {
	bubble(t, func(t *testing.T, f *fabric) {
		a := f.add(1, func(o *Options) { o.ClusterID = func() [16]byte { return [16]byte{} } })
		f.add(2, func(o *Options) {
			o.ClusterID = func() [16]byte { return [16]byte{0xb} }
			o.OnProbe = func(from net.Addr, body []byte) []byte {
				return append([]byte(from.(*net.TCPAddr).IP.String()+" said "), body...)
			}
		})
		f.add(3, nil)
		got, err := a.Probe(t.Context(), hostName(2)+":7000", []byte("hello"))
		if err != nil || string(got) != "10.0.0.1 said hello" {
			t.Errorf("got %q, %v", got, err)
		}
		var e *Error
		_, err = a.Probe(t.Context(), hostName(3)+":7000", nil)
		if !errors.Is(err, ErrRefused) || !errors.As(err, &e) {
			t.Error("node without OnProbe:", err)
		}
		if _, err = a.Probe(t.Context(), hostName(4)+":7000", nil); !errors.Is(err, ErrUnreachable) {
			t.Error("nobody there:", err)
		}
		if _, err = a.Probe(t.Context(), hostName(2)+":7000", make([]byte, ProbeMax+1)); !errors.Is(err, ErrTooLarge) {
			t.Error("too large:", err)
		}
		if got, err = a.Probe(t.Context(), hostName(2)+":7000", make([]byte, ProbeMax-20)); err != nil {
			t.Error("large:", len(got), err)
		}
		f.net.Isolate(hostName(2), true)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err = a.Probe(ctx, hostName(2)+":7000", nil); !errors.Is(err, ErrTimeout) {
			t.Error("unreachable:", err)
		}
	})
}

// When a connection breaks, every call ends at once and exactly once: those whose request the peer may have seen
// with Sent, those still queued without.
func TestConnectionLost(t *testing.T) {
	bubble(t, func(t *testing.T, f *fabric) {
		a, b := f.add(1, nil), f.add(2, nil)
		mustCall(t, a, 2, Data, verbEcho, nil)
		var held, queued []*once
		for range 10 {
			o := newOnce()
			held = append(held, o)
			a.Send(hostID(2), Data, verbHold, time.Now().Add(time.Minute), nil, o)
		}
		synctest.Wait()
		f.net.Cut(hostName(1), hostName(2))
		for range 20 { // more than the buffer of the connection and the chunk in the writer's hands
			o := newOnce()
			queued = append(queued, o)
			a.Send(hostID(2), Data, verbHold, time.Now().Add(time.Minute), make([]byte, 100<<10), o)
			synctest.Wait()
		}
		f.net.Heal(hostName(1), hostName(2))
		f.net.Cut(hostName(1), hostName(2))
		begin := time.Now()
		f.net.Crash(hostName(2))
		synctest.Wait()
		for i, o := range held {
			var e *Error
			if o.count.Load() != 1 || !errors.As(o.rsp.Err, &e) || !errors.Is(e, ErrConnLost) || !e.Sent {
				t.Errorf("held call %d: %d times, %v", i, o.count.Load(), o.rsp.Err)
			}
		}
		last := queued[len(queued)-1]
		var e *Error
		if last.count.Load() != 1 || !errors.As(last.rsp.Err, &e) || e.Sent {
			t.Errorf("queued call: %d times, %v", last.count.Load(), last.rsp.Err)
		}
		if d := time.Since(begin); d > 0 {
			t.Errorf("the calls failed only after %v", d)
		}
		b.stop()
	})
}

// Calls end at their deadline, whether the request waits for an answer, in the queue or for the dial; an answer that
// comes later is counted and dropped.
func TestDeadline(t *testing.T) {
	bubble(t, func(t *testing.T, f *fabric) {
		a, b := f.add(1, nil), f.add(2, nil)
		timeout := func(verb Verb, to int, sent bool) {
			t.Helper()
			o := newOnce()
			begin := time.Now()
			a.Send(hostID(to), Data, verb, begin.Add(300*time.Millisecond), nil, o)
			<-o.done
			var e *Error
			d := time.Since(begin)
			if !errors.As(o.rsp.Err, &e) || !errors.Is(e, ErrTimeout) || e.Sent != sent {
				t.Errorf("got %v", o.rsp.Err)
			}
			if d < 300*time.Millisecond || d > 310*time.Millisecond {
				t.Errorf("ended after %v", d)
			}
		}
		timeout(verbHold, 2, true)
		mustCall(t, a, 2, Data, verbFree, nil) // answers the one above, too late: shed by the answerer
		if b.Metrics().class(Data).Shed.Load() != 1 {
			t.Error("the late answer was not shed")
		}
		f.net.Isolate(hostName(3), true)
		f.addrs.Store(hostID(3), hostName(3)+":7000")
		timeout(verbEcho, 3, false)
		o := newOnce()
		a.Send(hostID(2), Data, verbEcho, time.Now().Add(-time.Second), nil, o)
		<-o.done
		var e *Error
		if !errors.As(o.rsp.Err, &e) || !errors.Is(e, ErrTimeout) || e.Sent {
			t.Errorf("expired before it was sent: %v", o.rsp.Err)
		}
		if m := a.Metrics().class(Data); m.Timeouts.Load() != 3 {
			t.Errorf("%d timeouts counted", m.Timeouts.Load())
		}
	})
}

// An answer that arrives after its call has expired is dropped, also when its slot serves another call.
func TestLateAnswer(t *testing.T) {
	bubble(t, func(t *testing.T, f *fabric) {
		a := f.add(1, nil)
		f.add(2, nil)
		mustCall(t, a, 2, Data, verbEcho, nil)
		f.net.SetDelay(hostName(2), hostName(1), time.Second)
		first, second := newOnce(), newOnce()
		a.Send(hostID(2), Data, verbEcho, time.Now().Add(500*time.Millisecond), []byte("first"), first)
		<-first.done
		a.Send(hostID(2), Data, verbEcho, time.Now().Add(5*time.Second), []byte("second"), second)
		<-second.done
		if string(second.rsp.Body) != "second" || second.rsp.Err != nil || !errors.Is(first.rsp.Err, ErrTimeout) {
			t.Errorf("got %q, %v; %v", second.rsp.Body, second.rsp.Err, first.rsp.Err)
		}
		if n := a.Metrics().class(Data).Late.Load(); n != 1 {
			t.Errorf("%d late answers", n)
		}
	})
}

// A peer that does not read fills the queue: the next requests fail at once, what expires makes room, other classes
// are not disturbed.
func TestSlowPeer(t *testing.T) {
	bubble(t, func(t *testing.T, f *fabric) {
		release := make(chan struct{})
		a := f.add(1, func(o *Options) { o.Data = Limits{QueueBytes: 1 << 20, InFlight: 500} })
		f.add(2, func(o *Options) {
			o.NewSession = func(_ ring.HostID, c Class) Session {
				return &echo{onReq: func(*Request) {
					if c == Data {
						<-release
					}
				}}
			}
		})
		var outcomes []*once
		overloaded := 0
		for range 200 {
			o := newOnce()
			outcomes = append(outcomes, o)
			a.Send(hostID(2), Data, verbEcho, time.Now().Add(2*time.Second), make([]byte, 32<<10), o)
			synctest.Wait()
			if o.count.Load() == 1 {
				var e *Error
				if !errors.As(o.rsp.Err, &e) || !errors.Is(e, ErrOverloaded) || e.Sent {
					t.Fatal(o.rsp.Err)
				}
				overloaded++
			}
		}
		if overloaded < 100 || overloaded > 170 {
			t.Errorf("%d of 200 requests of 32 KiB were turned away by a queue of 1 MiB", overloaded)
		}
		mustCall(t, a, 2, Urgent, verbEcho, nil)
		time.Sleep(3 * time.Second)
		o := newOnce()
		a.Send(hostID(2), Data, verbEcho, time.Now().Add(time.Minute), make([]byte, 32<<10), o)
		synctest.Wait()
		if o.count.Load() != 0 {
			t.Error("what has expired makes no room:", o.rsp.Err)
		}
		close(release)
		<-o.done
		if o.rsp.Err != nil {
			t.Error(o.rsp.Err)
		}
		for i, o := range outcomes {
			if o.count.Load() != 1 {
				t.Errorf("call %d ended %d times", i, o.count.Load())
			}
		}
		if a.Metrics().class(Data).Shed.Load() == 0 {
			t.Error("nothing was shed")
		}
	})
}

// The number of calls in flight is bounded on both ends.
func TestInFlightBound(t *testing.T) {
	bubble(t, func(t *testing.T, f *fabric) {
		a := f.add(1, func(o *Options) { o.Data.InFlight = 20 })
		b := f.add(2, func(o *Options) { o.Data.InFlight = 10 })
		mustCall(t, a, 2, Data, verbEcho, nil)
		f.net.Cut(hostName(2), hostName(1)) // or answers make room while requests are still being made
		var outcomes []*once
		for range 25 {
			o := newOnce()
			outcomes = append(outcomes, o)
			a.Send(hostID(2), Data, verbHold, time.Now().Add(time.Minute), nil, o)
		}
		synctest.Wait()
		f.net.Heal(hostName(2), hostName(1))
		synctest.Wait()
		var open, local, remote int
		for _, o := range outcomes {
			switch {
			case o.count.Load() == 0:
				open++
			case errors.Is(o.rsp.Err, ErrOverloaded):
				local++
			case o.rsp.Status == StatusOverloaded:
				remote++
			}
		}
		if open != 10 || local != 5 || remote != 10 {
			t.Errorf("%d open, %d turned away by the sender, %d by the receiver", open, local, remote)
		}
		if b.Metrics().class(Data).Overloaded.Load() != 10 || a.Metrics().class(Data).Overloaded.Load() != 5 {
			t.Error("not counted")
		}
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

// A connection that is dead in one direction is given up by both ends within 10 s (M15), and calls on it fail.
func TestOneDirectionDead(t *testing.T) {
	for name, dir := range map[string][2]int{"requests": {1, 2}, "answers": {2, 1}} {
		for _, after := range []time.Duration{time.Second, 1900 * time.Millisecond, 2100 * time.Millisecond, time.Minute} {
			t.Run(fmt.Sprint(name, after), func(t *testing.T) {
				bubble(t, func(t *testing.T, f *fabric) {
					a, b := f.add(1, nil), f.add(2, nil)
					mustCall(t, a, 2, Data, verbEcho, nil)
					time.Sleep(after)
					if a.Metrics().OpenOut.Load() != 1 {
						t.Fatal("a healthy connection was closed")
					}
					f.net.Cut(hostName(dir[0]), hostName(dir[1]))
					o := newOnce()
					begin := time.Now()
					a.Send(hostID(2), Data, verbEcho, begin.Add(time.Minute), nil, o)
					<-o.done
					d := time.Since(begin)
					if d >= 10*time.Second || d < 4*time.Second || !errors.Is(o.rsp.Err, ErrConnLost) {
						t.Errorf("noticed after %v: %v", d, o.rsp.Err)
					}
					eventually(t, "the other end notices", func() bool { return b.Metrics().OpenIn.Load() == 0 })
					if d := time.Since(begin); d >= 10*time.Second {
						t.Errorf("the other end noticed after %v", d)
					}
					f.net.Heal(hostName(dir[0]), hostName(dir[1]))
					time.Sleep(5 * time.Second)
					mustCall(t, a, 2, Data, verbEcho, nil)
				})
			})
		}
	}
}

// A slow link with a lot under way is not taken for a dead one, nor is a peer whose session is busy.
func TestSlowIsNotDead(t *testing.T) {
	bubble(t, func(t *testing.T, f *fabric) {
		a := f.add(1, nil)
		f.add(2, func(o *Options) {
			o.NewSession = func(ring.HostID, Class) Session {
				return &echo{onReq: func(r *Request) {
					if r.Verb == verbLate {
						time.Sleep(30 * time.Second)
					}
				}}
			}
		})
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
		defer cancel()
		if _, _, err := a.Call(ctx, hostID(2), Data, verbLate, nil); err != nil {
			t.Error("busy session:", err)
		}
		f.net.SetDelay(hostName(1), hostName(2), 3*time.Second)
		f.net.SetDelay(hostName(2), hostName(1), 3*time.Second)
		if _, _, err := a.Call(ctx, hostID(2), Data, verbEcho, make([]byte, 1<<20)); err != nil {
			t.Error("slow link:", err)
		}
		if n := a.Metrics().class(Data).Lost.Load(); n != 0 {
			t.Errorf("%d connections lost", n)
		}
	})
}

// While a peer is down sends fail at once; redialing goes on by itself, finds the peer when it is back, and stops
// when nobody wants it any more.
func TestReconnect(t *testing.T) {
	bubble(t, func(t *testing.T, f *fabric) {
		a, b := f.add(1, nil), f.add(2, nil)
		mustCall(t, a, 2, Data, verbEcho, nil)
		time.Sleep(10 * time.Second)
		b.stop()
		synctest.Wait()
		wantError(t, a, 2, ErrUnreachable, false) // this one dialed
		begin := time.Now()
		wantError(t, a, 2, ErrUnreachable, false)
		if d := time.Since(begin); d != 0 {
			t.Errorf("a send to a peer that is down failed only after %v", d)
		}
		dials := a.Metrics().Dials.Load()
		time.Sleep(20 * time.Second)
		if n := a.Metrics().Dials.Load() - dials; n < 8 || n > 30 {
			t.Errorf("%d dials in 20 s with at most 2 s between them", n)
		}
		f.add(2, nil)
		time.Sleep(2 * time.Second)
		mustCall(t, a, 2, Data, verbEcho, nil)
		f.nodes[2].stop()
		time.Sleep(10 * time.Second) // nobody asked: the loss alone dials nothing
		dials = a.Metrics().Dials.Load()
		wantError(t, a, 2, ErrUnreachable, false)
		time.Sleep(2 * time.Minute)
		redials := a.Metrics().Dials.Load() - dials
		time.Sleep(10 * time.Minute)
		if n := a.Metrics().Dials.Load() - dials; n != redials || redials < 30 {
			t.Errorf("redialing goes on: %d, then %d", redials, n)
		}
		if n := strings.Count(a.log.String(), "rpc: no connection"); n > 6 {
			t.Errorf("%d log lines about a peer that is down", n)
		}
	})
}

// Nudge ends a pause between dials.
func TestNudge(t *testing.T) {
	bubble(t, func(t *testing.T, f *fabric) {
		a := f.add(1, func(o *Options) { o.BackoffMin, o.BackoffMax = time.Hour, time.Hour; o.RedialFor = 5 * time.Hour })
		f.addrs.Store(hostID(2), hostName(2)+":7000")
		wantError(t, a, 2, ErrUnreachable, false)
		f.add(2, nil)
		time.Sleep(time.Second)
		wantError(t, a, 2, ErrUnreachable, false)
		a.Nudge(hostID(2))
		synctest.Wait()
		mustCall(t, a, 2, Data, verbEcho, nil)
		a.Nudge(hostID(2)) // no effect on a connection
		a.Nudge(hostID(9))
		synctest.Wait()
		mustCall(t, a, 2, Data, verbEcho, nil)
		if n := a.Metrics().Dials.Load(); n != 2 {
			t.Errorf("%d dials", n)
		}
	})
}

// An idle connection is closed after IdleAfter and comes back with the next request; a host that was forgotten has
// no connection.
func TestIdleAndForget(t *testing.T) {
	bubble(t, func(t *testing.T, f *fabric) {
		a := f.add(1, func(o *Options) { o.IdleAfter = time.Minute })
		b := f.add(2, nil)
		mustCall(t, a, 2, Data, verbEcho, nil)
		time.Sleep(50 * time.Second)
		mustCall(t, a, 2, Data, verbEcho, nil)
		time.Sleep(50 * time.Second)
		if a.Metrics().OpenOut.Load() != 1 || a.Metrics().Dials.Load() != 1 {
			t.Error("closed too early")
		}
		time.Sleep(30 * time.Second)
		if a.Metrics().OpenOut.Load() != 0 || b.Metrics().OpenIn.Load() != 0 {
			t.Error("an idle connection stays open")
		}
		mustCall(t, a, 2, Data, verbEcho, nil)
		o := newOnce()
		a.Send(hostID(2), Data, verbHold, time.Now().Add(time.Minute), nil, o)
		synctest.Wait()
		if p := a.Peers(); len(p) != 3 || p[1].State != "connected" || p[1].InFlight != 1 || p[0].State != "idle" ||
			p[1].Addr != "10.0.0.2:7000" {
			t.Errorf("peers %+v", p)
		}
		a.Forget(hostID(2))
		<-o.done
		if !errors.Is(o.rsp.Err, ErrClosed) {
			t.Error(o.rsp.Err)
		}
		synctest.Wait()
		if a.Metrics().OpenOut.Load() != 0 || len(a.Peers()) != 0 {
			t.Error("a forgotten host is still connected")
		}
		mustCall(t, a, 2, Data, verbEcho, nil) // the address is still known: a new connection
	})
}

// A connection of the same peer and class replaces the older one.
func TestSuperseded(t *testing.T) {
	bubble(t, func(t *testing.T, f *fabric) {
		var closed atomic.Int64
		b := f.add(2, func(o *Options) {
			o.NewSession = func(ring.HostID, Class) Session { return &echo{closed: &closed} }
		})
		first := rawConn(t, f, 1, 2, Data)
		second := rawConn(t, f, 1, 2, Data)
		other := rawConn(t, f, 1, 2, Urgent)
		synctest.Wait()
		if b.Metrics().Superseded.Load() != 1 || b.Metrics().OpenIn.Load() != 2 || closed.Load() != 1 {
			t.Errorf("%d superseded, %d open", b.Metrics().Superseded.Load(), b.Metrics().OpenIn.Load())
		}
		for _, c := range []net.Conn{first, second, other} {
			c.Close()
		}
		synctest.Wait()
		if b.Metrics().OpenIn.Load() != 0 || len(b.inbound) != 0 || closed.Load() != 3 {
			t.Error("connections are left over")
		}
	})
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

// A newer epoch of a peer is reported, from requests, answers, handshakes and heartbeats, and not too often.
func TestEpoch(t *testing.T) {
	bubble(t, func(t *testing.T, f *fabric) {
		var mu sync.Mutex
		seen := map[int][]uint64{}
		hook := func(i int) func(*Options) {
			return func(o *Options) {
				o.OnEpoch = func(from ring.HostID, epoch uint64) {
					mu.Lock()
					defer mu.Unlock()
					if from != hostID(3-i) {
						t.Errorf("node %d: epoch from %v", i, from)
					}
					seen[i] = append(seen[i], epoch)
				}
			}
		}
		a, b := f.add(1, hook(1)), f.add(2, hook(2))
		check := func(what string, want1, want2 string) {
			t.Helper()
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			if fmt.Sprint(seen[1]) != want1 || fmt.Sprint(seen[2]) != want2 {
				t.Errorf("%s: node 1 saw %v, node 2 %v", what, seen[1], seen[2])
			}
			clear(seen)
		}
		a.epoch.Store(5)
		b.epoch.Store(5)
		mustCall(t, a, 2, Data, verbEcho, nil)
		check("equal", "[]", "[]")
		a.epoch.Store(6)
		for range 50 {
			mustCall(t, a, 2, Data, verbEcho, nil)
		}
		check("requests", "[]", "[6]")
		b.epoch.Store(7)
		body, _, err := a.Call(t.Context(), hostID(2), Data, verbEcho, []byte("x"))
		if err != nil || string(body) != "x" {
			t.Error(err)
		}
		check("answers", "[7]", "[]")
		a.epoch.Store(7)
		time.Sleep(10 * time.Second)
		check("equal again", "[]", "[]")
		b.epoch.Store(1 << 60)
		time.Sleep(3 * time.Second)
		mu.Lock()
		if n := len(seen[1]); n < 1 || n > 2 || seen[1][0] != 1<<60 {
			t.Errorf("heartbeats: node 1 saw %v", seen[1])
		}
		clear(seen)
		mu.Unlock()
		b.epoch.Store(7)
		a.epoch.Store(9)
		mustCall(t, a, 2, Urgent, verbEcho, nil)
		synctest.Wait()
		mu.Lock()
		defer mu.Unlock()
		if len(seen[2]) == 0 || seen[2][0] != 9 {
			t.Errorf("handshake: node 2 saw %v", seen[2])
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
				var got []byte
				buf := make([]byte, 1000)
				begin := time.Now()
				for {
					n, err := conn.Read(buf)
					got = append(got, buf[:n]...)
					if err != nil {
						break
					}
				}
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

// Compressed bodies arrive, incompressible ones too, and are smaller on the way.
func TestCompression(t *testing.T) {
	bubble(t, func(t *testing.T, f *fabric) {
		lz4 := func(o *Options) { o.Data.Compress = true }
		a := f.add(1, lz4)
		f.add(2, lz4)
		f.add(3, nil)
		noise := make([]byte, 100<<10)
		for i := range noise {
			noise[i] = byte(i * i >> 3 * i >> 5)
		}
		for _, to := range []int{2, 3} {
			for _, body := range [][]byte{nil, make([]byte, 100), make([]byte, 1<<20), noise, make([]byte, BodyMax)} {
				if got := mustCall(t, a, to, Data, verbLate, body); !bytes.Equal(got, body) {
					t.Errorf("%d bytes do not survive", len(body))
				}
			}
		}
		var calls []*once
		for range 40 { // many compressed bodies at once: more than one read may keep unpacked
			o := newOnce()
			calls = append(calls, o)
			a.Send(hostID(2), Data, verbLate, time.Time{}, make([]byte, 512<<10), o)
		}
		for _, o := range calls {
			if <-o.done; o.rsp.Err != nil || !bytes.Equal(o.rsp.Body, make([]byte, 512<<10)) {
				t.Fatal(o.rsp.Err, len(o.rsp.Body))
			}
		}
		if m := a.Metrics().class(Data); m.BytesOut.Load() > 3<<20 {
			t.Errorf("%d bytes sent for 50 MiB of zeros", m.BytesOut.Load())
		}
	})
}

// When Run ends every call ends with ErrClosed, later ones fail at once, and every goroutine is gone (the bubble
// would not end otherwise).
func TestStop(t *testing.T) {
	bubble(t, func(t *testing.T, f *fabric) {
		a, b := f.add(1, nil), f.add(2, nil)
		f.net.Isolate(hostName(3), true)
		f.addrs.Store(hostID(3), hostName(3)+":7000")
		var calls []*once
		for i := range 30 {
			o := newOnce()
			calls = append(calls, o)
			a.Send(hostID(2+i%2), Class(i%3), verbHold, time.Time{}, nil, o)
		}
		mustCall(t, b, 1, Data, verbEcho, nil)
		synctest.Wait()
		begin := time.Now()
		a.stop()
		if d := time.Since(begin); d > 0 {
			t.Errorf("stopping took %v", d)
		}
		for i, o := range calls {
			if o.count.Load() != 1 || !errors.Is(o.rsp.Err, ErrClosed) {
				t.Errorf("call %d: %d times, %v", i, o.count.Load(), o.rsp.Err)
			}
		}
		wantError(t, a, 2, ErrClosed, false)
		if err := a.Run(t.Context()); err == nil {
			t.Error("Run again")
		}
		wantError(t, b, 1, ErrUnreachable, false)
	})
}

// A transport that does not run turns requests away, and says when it cannot listen.
func TestNotRunning(t *testing.T) {
	bubble(t, func(t *testing.T, f *fabric) {
		a := f.add(1, nil)
		opt := a.opt
		opt.Listen = func(context.Context) (net.Listener, error) { return f.net.Host(hostName(1)).Listen(":7000") }
		c, err := New(opt)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := c.Call(t.Context(), a.id, Data, verbEcho, nil); !errors.Is(err, ErrClosed) {
			t.Error(err)
		}
		if err := c.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "address already in use") {
			t.Error(err)
		}
	})
}

// Canceling the context of a Call ends it at once; its answer does not reach the next user of the pooled object.
func TestCallCanceled(t *testing.T) {
	bubble(t, func(t *testing.T, f *fabric) {
		a := f.add(1, nil)
		f.add(2, nil)
		mustCall(t, a, 2, Data, verbEcho, nil)
		f.net.SetDelay(hostName(2), hostName(1), 100*time.Millisecond)
		for i := range 50 {
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(time.Duration(i)*3*time.Millisecond, cancel)
			body := fmt.Append(nil, i)
			got, _, err := a.Call(ctx, hostID(2), Data, verbEcho, body)
			if err == nil && !bytes.Equal(got, body) || err != nil && !errors.Is(err, ErrCanceled) {
				t.Fatalf("call %d: %q, %v", i, got, err)
			}
			if (err == nil) != (i*3 > 100) {
				t.Errorf("call %d: %v", i, err)
			}
			cancel()
		}
	})
}

// Options that cannot work are refused by New.
func TestOptionsRefused(t *testing.T) {
	good := Options{Self: hostID(1), ClusterID: func() [16]byte { return clusterA }, Epoch: func() uint64 { return 0 },
		Dial:    func(context.Context, string) (net.Conn, error) { return nil, nil },
		Resolve: func(ring.HostID) (string, bool) { return "", false }}
	if _, err := New(good); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*Options){
		"self":      func(o *Options) { o.Self = ring.HostID{} },
		"dial":      func(o *Options) { o.Dial = nil },
		"tls":       func(o *Options) { o.TLS.Mode = TLSRequired },
		"tls mode":  func(o *Options) { o.TLS.Mode = 9 },
		"dead":      func(o *Options) { o.DeadAfter = o.Heartbeat + 1 },
		"in flight": func(o *Options) { o.Data.InFlight = slotsMax + 1 },
		"queue":     func(o *Options) { o.Stream.QueueBytes = -1 },
		"backoff":   func(o *Options) { o.BackoffMin = time.Hour },
		"negative":  func(o *Options) { o.Timeout = -1 },
	} {
		o := good
		if change(&o); true {
			if _, err := New(o); err == nil {
				t.Errorf("%s: accepted", name)
			}
		}
	}
}

// Sessions behind a Mux get their own verbs, and a flush only when they handled something.
func TestMux(t *testing.T) {
	bubble(t, func(t *testing.T, f *fabric) {
		var closed atomic.Int64
		low, high := &echo{closed: &closed}, &echo{closed: &closed}
		a := f.add(1, nil)
		b := f.add(2, func(o *Options) {
			o.NewSession = func(ring.HostID, Class) Session {
				m := new(Mux)
				m.Add(VerbMetaFirst, VerbMetaLast, low)
				m.Add(VerbCoordinatorFirst, VerbCoordinatorLast, high)
				return m
			}
		})
		mustCall(t, a, 2, Data, verbLate, nil)
		if low.flushes != 0 || high.flushes != 1 {
			t.Errorf("%d and %d flushes", low.flushes, high.flushes)
		}
		if _, status, err := a.Call(t.Context(), hostID(2), Data, 200, nil); err != nil || status != StatusUnknownVerb {
			t.Error(status, err)
		}
		b.stop()
		if closed.Load() != 2 {
			t.Errorf("%d of 2 sessions closed", closed.Load())
		}
	})
}

// A peer that sends heartbeats but says that it receives nothing is given up within 10 s, even though its own
// direction works.
func TestPeerReceivesNothing(t *testing.T) {
	for _, busy := range []byte{0, 1} {
		bubble(t, func(t *testing.T, f *fabric) {
			a := f.add(1, nil)
			f.addrs.Store(hostID(2), hostName(2)+":7000")
			l, err := f.net.Host(hostName(2)).Listen(":7000")
			if err != nil {
				t.Fatal(err)
			}
			stop := make(chan struct{})
			done := make(chan struct{})
			go func() {
				defer close(done)
				conn, err := l.Accept()
				if err != nil {
					return
				}
				defer conn.Close()
				readHello(conn)
				conn.Write(appendReply(nil, &reply{version: 1, cluster: clusterA, host: hostID(2)}))
				for {
					conn.Write(sealed(header{kind: kindHeartbeat}, []byte{0, 0, 0, 0, 0, 0, 0, 0, busy}))
					select {
					case <-stop:
						return
					case <-time.After(2 * time.Second):
					}
				}
			}()
			o := newOnce()
			begin := time.Now()
			a.Send(hostID(2), Data, verbEcho, begin.Add(30*time.Second), nil, o)
			<-o.done
			d := time.Since(begin)
			if busy == 0 && (d < 6*time.Second || d >= 10*time.Second || !errors.Is(o.rsp.Err, ErrConnLost)) {
				t.Errorf("given up after %v: %v", d, o.rsp.Err)
			}
			if busy == 1 && !errors.Is(o.rsp.Err, ErrTimeout) {
				t.Errorf("a busy peer was given up after %v: %v", d, o.rsp.Err)
			}
			close(stop)
			l.Close()
			<-done
		})
	}
}

// again sends the request once more when it fails.
type again struct {
	once
	t *testNode
	n int
}

func (r *again) Done(rsp *Response) {
	if rsp.Err != nil && r.n > 0 {
		r.n--
		r.t.Send(rsp.From, Data, verbEcho, time.Time{}, nil, r)
		return
	}
	r.once.Done(rsp)
}

// A callback may send again at once; while the connection that has just failed is being cleared away that ends
// like every other call, and without waiting for its deadline.
func TestSendFromCallback(t *testing.T) {
	bubble(t, func(t *testing.T, f *fabric) {
		a := f.add(1, nil)
		b := f.add(2, nil)
		r := &again{once: *newOnce(), t: a, n: 5}
		a.Send(hostID(2), Data, verbHold, time.Time{}, nil, r)
		synctest.Wait()
		begin := time.Now()
		b.stop()
		<-r.done
		if d := time.Since(begin); d > 0 || r.n != 0 || !errors.Is(r.rsp.Err, ErrUnreachable) {
			t.Errorf("after %v, %d sends left: %v", d, r.n, r.rsp.Err)
		}
	})
}
