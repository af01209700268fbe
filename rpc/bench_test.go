package rpc

import (
	"context"
	"crypto/rand"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/helenusdb/helenus/ring"
)

// tcpPair returns two running transports that are connected over loopback.
func tcpPair(tb testing.TB, change func(*Options)) (client, server *Transport) {
	var addrs sync.Map
	var out [2]*Transport
	for i := range out {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			tb.Fatal(err)
		}
		addrs.Store(hostID(i+1), l.Addr().String())
		var dialer net.Dialer
		opt := Options{
			Self:      hostID(i + 1),
			ClusterID: func() [16]byte { return clusterA },
			Epoch:     func() uint64 { return 1 },
			Listen:    func(context.Context) (net.Listener, error) { return l, nil },
			Dial:      func(ctx context.Context, addr string) (net.Conn, error) { return dialer.DialContext(ctx, "tcp", addr) },
			Resolve: func(id ring.HostID) (string, bool) {
				addr, ok := addrs.Load(id)
				if !ok {
					return "", false
				}
				return addr.(string), true
			},
			NewSession: func(ring.HostID, Class) Session { return &echo{} },
		}
		if change != nil {
			change(&opt)
		}
		t, err := New(opt)
		if err != nil {
			tb.Fatal(err)
		}
		out[i] = t
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- t.Run(ctx) }()
		tb.Cleanup(func() {
			cancel()
			if err := <-done; err != nil {
				tb.Error(err)
			}
		})
		(&testNode{Transport: t}).waitRunning(tb)
	}
	return out[0], out[1]
}

// caller makes one call after the other, each from the callback of the one before it or from its own goroutine.
type caller struct {
	t    *Transport
	body []byte
	done chan struct{}
	verb Verb
	errs *atomic.Int64
}

func (c *caller) Done(r *Response) {
	if r.Err != nil || r.Status != StatusOK || len(r.Body) != len(c.body) {
		c.errs.Add(1)
	}
	c.done <- struct{}{}
}

func benchmarkCalls(b *testing.B, callers, size int, verb Verb, change func(*Options)) {
	client, _ := tcpPair(b, change)
	if _, _, err := client.Call(context.Background(), hostID(2), Data, verbEcho, nil); err != nil {
		b.Fatal(err)
	}
	var errs, left atomic.Int64
	left.Store(int64(b.N))
	body := make([]byte, size)
	rand.Read(body)
	b.ReportAllocs()
	b.ResetTimer()
	begin := time.Now()
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			c := &caller{t: client, body: body, done: make(chan struct{}, 1), verb: verb, errs: &errs}
			for left.Add(-1) >= 0 {
				client.Send(hostID(2), Data, verb, time.Now().Add(5*time.Second), body, c)
				<-c.done
			}
		})
	}
	wg.Wait()
	b.ReportMetric(float64(b.N)/time.Since(begin).Seconds(), "calls/s")
	m := client.Metrics().class(Data)
	b.ReportMetric(float64(m.FramesOut.Load())/float64(m.Writes.Load()), "frames/write")
	if errs.Load() > 0 {
		b.Fatalf("%d calls failed", errs.Load())
	}
}

// BenchmarkCalls is the measurement of docs/design: 128 callers, bodies of 150 bytes both ways, both ends in this
// process.
func BenchmarkCalls(b *testing.B) {
	b.Run("128x150/handle", func(b *testing.B) { benchmarkCalls(b, 128, 150, verbEcho, nil) })
	b.Run("128x150/flush", func(b *testing.B) { benchmarkCalls(b, 128, 150, verbLate, nil) })
	b.Run("1x150", func(b *testing.B) { benchmarkCalls(b, 1, 150, verbEcho, nil) })
	b.Run("1024x150", func(b *testing.B) { benchmarkCalls(b, 1024, 150, verbEcho, nil) })
	b.Run("128x150/tls", func(b *testing.B) {
		both := selfSigned(b, TLSRequired)
		benchmarkCalls(b, 128, 150, verbEcho, func(o *Options) { o.TLS = both })
	})
	b.Run("128x16K", func(b *testing.B) { benchmarkCalls(b, 128, 16<<10, verbEcho, nil) })
}

// BenchmarkCall makes calls through the convenience method.
func BenchmarkCall(b *testing.B) {
	client, _ := tcpPair(b, nil)
	body := make([]byte, 150)
	b.ReportAllocs()
	b.SetParallelism(64)
	b.RunParallel(func(p *testing.PB) {
		for p.Next() {
			if _, _, err := client.Call(b.Context(), hostID(2), Data, verbEcho, body); err != nil {
				b.Error(err)
			}
		}
	})
}

// A call and its answer, both ends together, allocate nothing.
func TestAllocations(t *testing.T) {
	client, _ := tcpPair(t, nil)
	var errs atomic.Int64
	c := &caller{t: client, body: make([]byte, 150), done: make(chan struct{}, 1), errs: &errs}
	deadline := time.Now().Add(time.Minute)
	call := func() {
		client.Send(hostID(2), Data, verbEcho, deadline, c.body, c)
		<-c.done
	}
	for range 100 {
		call()
	}
	if n := testing.AllocsPerRun(2000, call); n > 0.1 || errs.Load() > 0 {
		t.Errorf("%v allocations per call, %d errors", n, errs.Load())
	}
	if n := testing.AllocsPerRun(2000, func() {
		client.Call(t.Context(), hostID(2), Data, verbEcho, c.body)
	}); n > 1.1 { // the copy of the answer
		t.Errorf("%v allocations per blocking call", n)
	}
}
