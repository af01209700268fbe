package rpc

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
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
