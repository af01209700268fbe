package rpc

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/helenusdb/helenus/ring"
)

// ledger counts how often the peer handled each request.
type ledger struct {
	mu      sync.Mutex
	handled map[uint64]int
}

func (l *ledger) note(req *Request) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.handled[binary.LittleEndian.Uint64(req.Body)]++
}

// recorded is a call of the chaos test.
type recorded struct {
	once
	id   uint64
	body []byte
}

// Under crashes, cuts, delays and restarts every call ends exactly once and in time; no request is handled twice; an
// error without Sent means it was not handled; an answer belongs to its request.
func TestChaos(t *testing.T) {
	for seed := range uint64(8) {
		t.Run(fmt.Sprint("seed", seed), func(t *testing.T) {
			bubble(t, func(t *testing.T, f *fabric) { chaos(t, f, seed) })
		})
	}
}

func chaos(t *testing.T, f *fabric, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 1))
	book := &ledger{handled: map[uint64]int{}}
	opt := func(o *Options) {
		o.NewSession = func(ring.HostID, Class) Session { return &echo{onReq: book.note} }
		o.Data = Limits{QueueBytes: 200 << 10, InFlight: 100, Compress: seed%2 == 1}
	}
	a := f.add(1, opt)
	f.add(2, opt)
	var calls []*recorded
	for step := range 400 {
		for range rng.IntN(20) {
			c := &recorded{once: *newOnce(), id: uint64(len(calls))}
			c.body = binary.LittleEndian.AppendUint64(nil, c.id)
			c.body = append(c.body, make([]byte, rng.IntN(4000))...)
			calls = append(calls, c)
			timeout := time.Duration(rng.IntN(2000)) * time.Millisecond
			a.Send(hostID(2), Class(rng.IntN(classes)), []Verb{verbEcho, verbLate}[rng.IntN(2)],
				time.Now().Add(timeout), c.body, c)
		}
		time.Sleep(time.Duration(rng.IntN(100)) * time.Millisecond)
		disturb(f, rng, step, opt)
	}
	time.Sleep(3 * time.Second)
	synctest.Wait()
	judgeChaos(t, calls, book)
}

// disturb makes a fault now and then.
func disturb(f *fabric, rng *rand.Rand, step int, opt func(*Options)) {
	x, y := hostName(1), hostName(2)
	switch rng.IntN(25) {
	case 0:
		f.net.Cut(x, y)
	case 1:
		f.net.Cut(y, x)
	case 2, 3, 4:
		f.net.Heal(x, y)
		f.net.Heal(y, x)
	case 5:
		f.net.SetDelay(x, y, time.Duration(rng.IntN(300))*time.Millisecond)
	case 6:
		f.net.SetDelay(y, x, time.Duration(rng.IntN(300))*time.Millisecond)
	case 7:
		f.net.Crash(y)
		f.nodes[2].stop()
		f.add(2, opt)
	}
}

func judgeChaos(t *testing.T, calls []*recorded, book *ledger) {
	t.Helper()
	var answered, unsent, unknown int
	for _, c := range calls {
		n := book.handled[c.id]
		var e *Error
		switch {
		case c.count.Load() != 1:
			t.Fatalf("call %d ended %d times", c.id, c.count.Load())
		case n > 1:
			t.Fatalf("request %d was handled %d times", c.id, n)
		case c.rsp.Err == nil && c.rsp.Status == StatusOverloaded:
			if n != 0 {
				t.Fatalf("call %d was handled although its answer says that it had no effect", c.id)
			}
		case c.rsp.Err == nil:
			answered++
			if n != 1 || c.rsp.Status == StatusOK && !bytes.Equal(c.rsp.Body, c.body) {
				t.Fatalf("call %d got an answer that is not its own", c.id)
			}
		case !errors.As(c.rsp.Err, &e):
			t.Fatalf("call %d: %v", c.id, c.rsp.Err)
		case e.Sent:
			unknown++
		default:
			unsent++
			if n != 0 {
				t.Fatalf("call %d was handled although %v", c.id, e)
			}
		}
	}
	t.Logf("%d calls: %d answered, %d not sent, %d unknown", len(calls), answered, unsent, unknown)
	if answered < len(calls)/20 || unsent == 0 || unknown == 0 {
		t.Error("the faults do not reach all outcomes")
	}
}

// The same over real sockets, with real parallelism: connections are torn down while calls run.
func TestTornConnections(t *testing.T) {
	client, server := tcpPair(t, nil)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(5 * time.Millisecond):
			}
			server.mu.Lock()
			var victims []*accepted
			for _, a := range server.inbound {
				victims = append(victims, a)
			}
			server.mu.Unlock()
			for _, a := range victims {
				a.shut()
			}
		}
	})
	var ok, lost atomic.Int64
	var callers sync.WaitGroup
	for i := range 16 {
		callers.Go(func() {
			for j := range 300 {
				body := fmt.Append(nil, i, " ", j)
				ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
				got, status, err := client.Call(ctx, hostID(2), Class(j%classes), verbLate, body)
				cancel()
				switch {
				case err != nil:
					if lost.Add(1); errors.Is(err, ErrTimeout) {
						t.Error(err)
					}
					time.Sleep(time.Millisecond)
				case status != StatusOK || !bytes.Equal(got, body):
					t.Errorf("%v, %q for %q", status, got, body)
				default:
					ok.Add(1)
				}
			}
		})
	}
	callers.Wait()
	close(stop)
	wg.Wait()
	if ok.Load() == 0 || lost.Load() == 0 {
		t.Errorf("%d answered, %d lost", ok.Load(), lost.Load())
	}
}
