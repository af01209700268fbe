package memnet

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// pair returns the two ends of a connection from host a to host b.
func pair(t *testing.T, n *Network) (a, b net.Conn) {
	t.Helper()
	l, err := n.Host("10.0.0.2").Listen(":0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if a, err = n.Host("10.0.0.1").Dial(t.Context(), l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if b, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	if a.RemoteAddr().String() != b.LocalAddr().String() || b.RemoteAddr().String() != a.LocalAddr().String() {
		t.Errorf("addresses %v, %v", a, b)
	}
	return a, b
}

func mustWrite(t *testing.T, c net.Conn, s string) {
	t.Helper()
	if n, err := c.Write([]byte(s)); err != nil || n != len(s) {
		t.Fatalf("write: %d, %v", n, err)
	}
}

func wantRead(t *testing.T, c net.Conn, want string) {
	t.Helper()
	b := make([]byte, len(want))
	if _, err := io.ReadFull(c, b); err != nil || string(b) != want {
		t.Fatalf("got %q, %v, want %q", b, err, want)
	}
}

// Random writes arrive as they were written, in both directions at once, through small buffers.
func TestStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := New(Options{Buffer: 1000, Delay: time.Millisecond})
		a, b := pair(t, n)
		var wg sync.WaitGroup
		for i, ends := range [][2]net.Conn{{a, b}, {b, a}} {
			rng := rand.New(rand.NewPCG(1, uint64(i)))
			data := make([]byte, 100_000)
			for j := range data {
				data[j] = byte(rng.Uint32())
			}
			wg.Go(func() {
				rest := data
				for len(rest) > 0 {
					k := min(len(rest), rng.IntN(3000))
					ends[0].Write(rest[:k])
					rest = rest[k:]
				}
			})
			wg.Go(func() {
				got := make([]byte, len(data))
				for at := 0; at < len(got); {
					k, err := ends[1].Read(got[at:min(len(got), at+777)])
					if at += k; err != nil {
						t.Error(err)
						return
					}
				}
				if !bytes.Equal(got, data) {
					t.Error("the bytes differ")
				}
			})
		}
		wg.Wait()
	})
}

// Close lets the other end read what was written, then io.EOF; its writes fail; this end's calls fail.
func TestClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := pair(t, New(Options{}))
		mustWrite(t, a, "last words")
		blocked := make(chan error, 1)
		go func() { _, err := a.Read(make([]byte, 1)); blocked <- err }()
		synctest.Wait()
		if err := a.Close(); err != nil {
			t.Error(err)
		}
		if err := <-blocked; !errors.Is(err, net.ErrClosed) {
			t.Error("read that waited:", err)
		}
		wantRead(t, b, "last words")
		if _, err := b.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Error(err)
		}
		if _, err := b.Write([]byte("x")); !errors.Is(err, syscall.EPIPE) {
			t.Error(err)
		}
		if _, err := a.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
		if err := a.Close(); !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
		if err := a.SetDeadline(time.Time{}); !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
	})
}

// Deadlines end reads and writes that wait, also when they are set while those wait, and can be lifted.
func TestDeadlines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := pair(t, New(Options{Buffer: 10}))
		begin := time.Now()
		b.SetReadDeadline(begin.Add(time.Second))
		_, err := b.Read(make([]byte, 1))
		if !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(begin) != time.Second {
			t.Error(err, time.Since(begin))
		}
		var timeout net.Error
		if !errors.As(err, &timeout) || !timeout.Timeout() {
			t.Error("not a timeout:", err)
		}
		b.SetReadDeadline(time.Time{})
		time.AfterFunc(time.Minute, func() { b.SetReadDeadline(time.Now()) })
		if _, err := b.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Error(err)
		}
		a.SetWriteDeadline(time.Now().Add(time.Second))
		if n, err := a.Write(make([]byte, 25)); n != 10 || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Error(n, err)
		}
		a.SetDeadline(time.Time{})
		b.SetDeadline(time.Time{})
		go io.CopyN(io.Discard, b, 35)
		if n, err := a.Write(make([]byte, 25)); n != 25 || err != nil {
			t.Error(n, err)
		}
	})
}

// A cut holds one direction back, unnoticed, and nothing else; after Heal what was held arrives.
func TestCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := New(Options{})
		a, b := pair(t, n)
		n.Cut("10.0.0.1", "10.0.0.2")
		mustWrite(t, a, "held back")
		mustWrite(t, b, "passes")
		wantRead(t, a, "passes")
		b.SetReadDeadline(time.Now().Add(time.Hour))
		if _, err := b.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Error(err)
		}
		b.SetReadDeadline(time.Time{})
		time.AfterFunc(time.Minute, func() { n.Heal("10.0.0.1", "10.0.0.2") })
		begin := time.Now()
		wantRead(t, b, "held back")
		if d := time.Since(begin); d != time.Minute {
			t.Error(d)
		}
		n.Isolate("10.0.0.2", true)
		a.Close()
		b.SetReadDeadline(time.Now().Add(time.Hour))
		if _, err := b.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Error("a FIN passed the cut:", err)
		}
		mustWrite(t, b, "nobody is there")
		n.Isolate("10.0.0.2", false)
		b.SetReadDeadline(time.Time{})
		if _, err := b.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Error(err)
		}
	})
}

// Bytes take the delay of their direction, in order also when it shrinks.
func TestDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := New(Options{Delay: 10 * time.Millisecond})
		begin := time.Now()
		a, b := pair(t, n)
		if d := time.Since(begin); d != 20*time.Millisecond {
			t.Error("dial took", d)
		}
		n.SetDelay("10.0.0.1", "10.0.0.2", time.Second)
		begin = time.Now()
		mustWrite(t, a, "slow")
		n.SetDelay("10.0.0.1", "10.0.0.2", time.Millisecond)
		mustWrite(t, a, "fast")
		a.Close()
		wantRead(t, b, "slowfast")
		if _, err := b.Read(make([]byte, 1)); !errors.Is(err, io.EOF) || time.Since(begin) != time.Second {
			t.Error(err, time.Since(begin))
		}
	})
}

// A crash resets the connections of a host and closes its listeners; who is cut off learns nothing.
func TestCrash(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := New(Options{})
		a, b := pair(t, n)
		l, err := n.Host("10.0.0.2").Listen(":9")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := n.Host("10.0.0.2").Listen(":9"); !errors.Is(err, syscall.EADDRINUSE) {
			t.Error(err)
		}
		waiting, err := n.Host("10.0.0.1").Dial(t.Context(), "10.0.0.2:9")
		if err != nil {
			t.Fatal(err)
		}
		mustWrite(t, b, "lost")
		n.Crash("10.0.0.2")
		for _, c := range []net.Conn{a, waiting} {
			if _, err := c.Read(make([]byte, 10)); !errors.Is(err, syscall.ECONNRESET) {
				t.Error(err)
			}
		}
		if _, err := b.Read(make([]byte, 10)); !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
		if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
		if _, err := n.Host("10.0.0.1").Dial(t.Context(), "10.0.0.2:9"); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Error(err)
		}
		if l, err = n.Host("10.0.0.2").Listen("10.0.0.2:9"); err != nil {
			t.Error(err)
		}
		l.Close()
		if a.Close(); len(n.conns) != 1 {
			t.Errorf("%d connections are left", len(n.conns))
		}
	})
}

// A dial waits while the path is cut or the backlog is full, until its context ends.
func TestDialWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := New(Options{})
		l, _ := n.Host("b").Listen(":1")
		n.Cut("b", "a")
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := n.Host("a").Dial(ctx, "b:1"); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		time.AfterFunc(time.Minute, func() { n.Heal("b", "a") })
		begin := time.Now()
		if _, err := n.Host("a").Dial(t.Context(), "b:1"); err != nil || time.Since(begin) != time.Minute {
			t.Error(err, time.Since(begin))
		}
		for range backlog - 1 {
			if _, err := n.Host("a").Dial(t.Context(), "b:1"); err != nil {
				t.Fatal(err)
			}
		}
		time.AfterFunc(time.Minute, func() { l.Accept() })
		begin = time.Now()
		if _, err := n.Host("a").Dial(t.Context(), "b:1"); err != nil || time.Since(begin) != time.Minute {
			t.Error(err, time.Since(begin))
		}
		l.Close()
		if _, err := n.Host("a").Dial(t.Context(), "b:1"); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Error(err)
		}
		for _, addr := range []string{"c:1", ":x", "none"} {
			if _, err := n.Host("b").Listen(addr); err == nil {
				t.Errorf("listens on %q", addr)
			}
		}
	})
}
