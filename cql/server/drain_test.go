package server

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	crand "crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/helenusdb/helenus/cql/protocol"
	"github.com/helenusdb/helenus/internal/memnet"
)

func TestShutdownLetsRequestsFinish(t *testing.T) {
	h := newFakeHandler()
	s := start(t, Options{Handler: h})
	var cs []*client
	for _, v := range versions {
		c := connect(t, s, v)
		c.send(append(c.query(1, "later"), c.query(2, "x")...))
		c.wantResult(2)
		cs = append(cs, c)
	}
	idle, half := dial(t, s, protocol.V4), connect(t, s, protocol.V4)
	half.nc.Write([]byte{4, 0})
	idle.alive()
	done := make(chan error, 1)
	go func() { done <- s.Shutdown(context.Background()) }()
	idle.wantEnd()
	half.wantEnd()
	if nc, err := net.Dial("tcp", s.Addrs()[0].String()); err == nil {
		nc.Close()
		t.Error("a connection was accepted during the drain")
	}
	for _, c := range cs {
		c.nc.Write(wrap(c, c.query(3, "x"))) // not read any more, unless its reader was on its way into the read
	}
	select {
	case err := <-done:
		t.Fatalf("Shutdown did not wait: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	for range cs {
		(<-h.later).RespondBytes(protocol.OpResult, nil, make([]byte, 300<<10))
	}
	for _, c := range cs {
		f := c.read()
		if f.Header.Stream == 3 {
			f = c.read()
		}
		if f.Header.Op != protocol.OpResult || f.Header.Stream != 1 || len(f.Body) != 300<<10 {
			t.Fatalf("got %s on stream %d with %d bytes, want the RESULT on 1", f.Header.Op, f.Header.Stream, len(f.Body))
		}
		c.wantEnd()
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if err := s.Shutdown(context.Background()); err != nil {
		t.Fatal("again:", err)
	}
}

func TestShutdownEndsWithItsContext(t *testing.T) {
	h := newFakeHandler()
	s := start(t, Options{Handler: h})
	c := connect(t, s, protocol.V4)
	c.send(c.query(1, "later"))
	r := <-h.later
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if err := s.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("Shutdown: %v", err)
	}
	c.wantEnd()
	r.RespondBytes(protocol.OpResult, nil, nil)
	eventually(t, "nothing in flight", func() bool { return s.InFlightBytes() == 0 })
}

func TestShutdownBeforeRun(t *testing.T) {
	s, err := New(Options{Listeners: []Listener{{Addr: loopback}}, Handler: newFakeHandler()})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Shutdown(context.Background()); err != nil {
		t.Fatal(err)
	}
	if err := s.Run(context.Background()); err != nil { // a node that is stopped while it starts has stopped cleanly
		t.Fatalf("Run: %v", err)
	}
	if err := s.Run(context.Background()); !errors.Is(err, ErrClosed) {
		t.Fatalf("second Run: %v", err)
	}
}

// password is an Authenticator that challenges users whose token is "more?" once.
type password struct{}

func (password) Class() string                      { return protocol.PasswordAuthenticator }
func (password) NewExchange(info ConnInfo) Exchange { return &passwordExchange{info: info} }

type passwordExchange struct {
	info ConnInfo
	more bool
}

func (e *passwordExchange) Step(ctx context.Context, token []byte) ([]byte, string, bool, error) {
	switch string(token) {
	case "more?":
		e.more = true
		return []byte("yes"), "", false, nil
	case "\x00bob\x00secret":
		return nil, "bob", true, nil
	case "broken":
		return nil, "", false, errors.New("disk on fire")
	case "slow":
		<-ctx.Done()
		return nil, "", false, ctx.Err()
	case "panic":
		panic("in auth")
	}
	if e.more && len(token) == 0 && e.info.DriverName == "d" {
		return []byte("ok"), "alice", true, nil
	}
	return nil, "", false, protocol.Errorf(protocol.CodeBadCredentials, "Provided username bob and/or password are incorrect")
}

func TestAuthentication(t *testing.T) {
	h := newFakeHandler()
	s := start(t, Options{Handler: h, Auth: password{}})
	for _, v := range versions {
		c := dial(t, s, v)
		c.send(protocol.AppendAuthResponse(nil, v, 1, nil))
		c.wantError(0, protocol.CodeProtocol, "Unexpected message AUTH_RESPONSE, expecting STARTUP or OPTIONS")
		c.startup(protocol.StringPair{Key: "COMPRESSION", Value: "lz4"})
		c.send(c.query(5, "x"))
		c.wantError(5, protocol.CodeProtocol, "Unexpected message QUERY, expecting SASL_RESPONSE")
		c.alive()
		for range 2 {
			c.send(protocol.AppendAuthResponse(nil, v, 6, protocol.AppendPlainToken(nil, "bob", "wrong")))
			c.wantError(6, protocol.CodeBadCredentials, "Provided username bob and/or password are incorrect")
		}
		for _, token := range []string{"broken", "panic"} {
			c.send(protocol.AppendAuthResponse(nil, v, 6, []byte(token)))
			c.wantError(6, protocol.CodeServerError, "")
		}
		c.send(append(protocol.AppendAuthResponse(nil, v, 7, protocol.AppendPlainToken(nil, "bob", "secret")), c.query(8, "x")...))
		f := c.read()
		if f.Header.Op != protocol.OpAuthSuccess || f.Header.Stream != 7 || string(f.Body) != "\xff\xff\xff\xff" {
			t.Fatalf("%v %x", f.Header, f.Body)
		}
		c.wantResult(8)
		if u := h.lastInfo().User; u != "bob" {
			t.Errorf("user %q", u)
		}
	}
	c := connect(t, s, protocol.V4, protocol.StringPair{Key: "DRIVER_NAME", Value: "d"})
	c.send(protocol.AppendAuthResponse(nil, c.v, 7, []byte("more?")))
	if f := c.read(); f.Header.Op != protocol.OpAuthChallenge {
		t.Fatal(f.Header)
	}
	c.send(protocol.AppendAuthResponse(nil, c.v, 7, nil))
	if f := c.read(); f.Header.Op != protocol.OpAuthSuccess || h.lastInfo().User != "alice" {
		t.Fatal(f.Header)
	}
	if m := s.Metrics(); m.AuthSuccesses.Load() != 4 || m.AuthFailures.Load() != 12 || m.Panics.Load() != 3 {
		t.Errorf("%d successes, %d failures", m.AuthSuccesses.Load(), m.AuthFailures.Load())
	}
}

func TestAnAuthenticationEndsWithItsConnection(t *testing.T) {
	s := start(t, Options{Auth: password{}, Timeouts: Timeouts{Handshake: 200 * time.Millisecond}})
	c := connect(t, s, protocol.V5)
	c.send(protocol.AppendAuthResponse(nil, c.v, 7, []byte("slow")))
	for { // the error may come before the end
		if _, err := c.next(); err != nil {
			break
		}
	}
	eventually(t, "gone", func() bool { return s.Metrics().Open.Load() == 0 })
	big := make([]byte, 140<<10)
	c = connect(t, s, protocol.V5)
	c.send(protocol.AppendAuthResponse(nil, c.v, 7, big))
	c.wantError(0, protocol.CodeProtocol, "")
	c.wantEnd()
}

// certificate returns a server configuration and a pool that trusts it.
func certificate(t *testing.T) (*tls.Config, *x509.CertPool) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), crand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(crand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, _ := x509.ParseCertificate(der)
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}, pool
}

func TestTLS(t *testing.T) {
	config, pool := certificate(t)
	source := func() *tls.Config { return config }
	h := newFakeHandler()
	var l logs
	s := start(t, Options{Handler: h, Logger: l.logger(), Listeners: []Listener{{Addr: loopback, TLS: source}, {Addr: loopback, TLS: source, TLSOptional: true}}})
	addrs := s.Addrs()
	for i, addr := range addrs {
		nc, err := tls.Dial("tcp", addr.String(), &tls.Config{RootCAs: pool})
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		c := newClient(t, nc, protocol.V5)
		c.startup()
		c.send(c.query(1, "big"))
		if len(c.wantResult(1)) != 1<<20 || h.lastInfo().TLS == nil {
			t.Fatalf("listener %d", i)
		}
	}
	plain, err := net.Dial("tcp", addrs[1].String())
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	c := newClient(t, plain, protocol.V4)
	c.startup()
	c.alive()
	if h.lastInfo().TLS != nil {
		t.Error("a plain connection says it is encrypted")
	}
	refused, err := net.Dial("tcp", addrs[0].String())
	if err != nil {
		t.Fatal(err)
	}
	defer refused.Close()
	refused.Write(protocol.AppendOptions(nil, protocol.V4, 1))
	c = newClient(t, refused, protocol.V4)
	if f, err := c.next(); err == nil && f.Header.Op == protocol.OpSupported {
		t.Error("a plain client was served")
	}
	eventually(t, "counted", func() bool { return s.Metrics().TLSErrors.Load() == 1 })
	if !l.contains(fmt.Sprintf("/%s (encrypted)...", addrs[0])) || !l.contains(fmt.Sprintf("/%s (optionally encrypted)...", addrs[1])) {
		t.Error(l.lines)
	}
	if err := s.Shutdown(context.Background()); err != nil {
		t.Fatal(err)
	}
}

// In virtual time, over a network in memory: late answers, a cut, timeouts, a drain; synctest checks that no goroutine
// is left.
func TestInVirtualTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := memnet.New(memnet.Options{Buffer: 64 << 10, Delay: time.Millisecond})
		host := network.Host("10.0.0.1")
		h := newFakeHandler()
		s, err := New(Options{Handler: h, Listeners: []Listener{{Addr: netip.MustParseAddrPort("10.0.0.1:9042")}},
			Listen: func(_ context.Context, addr string) (net.Listener, error) { return host.Listen(addr) }})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Listen(t.Context()); err != nil {
			t.Fatal(err)
		}
		ran := make(chan error, 1)
		go func() { ran <- s.Run(context.Background()) }()
		dial := func(v protocol.Version) *client {
			nc, err := network.Host("10.0.0.2").Dial(context.Background(), "10.0.0.1:9042")
			if err != nil {
				t.Fatal(err)
			}
			c := newClient(t, nc, v)
			c.timeout = time.Minute
			return c
		}
		loris := dial(protocol.V4)
		began := time.Now()
		loris.sendRaw([]byte{4, 0})
		loris.wantEnd()
		if took := time.Since(began); took < 10*time.Second || took > 11*time.Second {
			t.Errorf("the handshake deadline took %v", took)
		}
		a, b := dial(protocol.V5), dial(protocol.V4)
		for _, c := range []*client{a, b} {
			c.startup()
			c.send(c.query(1, "later"))
			go func(r Responder) {
				time.Sleep(time.Second)
				r.RespondBytes(protocol.OpResult, nil, make([]byte, 100<<10))
			}(<-h.later)
			c.wantResult(1)
		}
		a.send(a.query(2, "later"))
		b.send(b.query(2, "later"))
		first, second := <-h.later, <-h.later
		stuck := dial(protocol.V4)
		stuck.startup()
		for i := range int16(20) {
			go stuck.nc.Write(stuck.query(i, "big"))
		}
		time.Sleep(40 * time.Second)
		if s.Metrics().WriteLate.Load() != 1 {
			t.Error("the slow reader is still there")
		}
		shut := make(chan error, 1)
		go func() { shut <- s.Shutdown(context.Background()) }()
		time.Sleep(time.Second)
		first.RespondBytes(protocol.OpResult, nil, nil)
		second.RespondBytes(protocol.OpResult, nil, nil)
		a.wantResult(2)
		b.wantResult(2)
		if err := <-shut; err != nil {
			t.Error(err)
		}
		if err := <-ran; err != nil {
			t.Error(err)
		}
		if n := s.InFlightBytes(); n != 0 {
			t.Errorf("%d bytes in flight", n)
		}
		for _, c := range []*client{loris, a, b, stuck} {
			c.nc.Close()
		}
	})
}
