package rpc

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/helenusdb/helenus/ring"
)

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
