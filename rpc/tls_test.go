package rpc

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"net"
	"testing"
	"testing/synctest"
	"time"
)

// selfSigned returns a TLS option in which both ends trust one certificate that names 10.0.0.2 and 127.0.0.1.
func selfSigned(t testing.TB, mode TLSMode) TLS {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now() // of the bubble, when inside one
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, IsCA: true,
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(1000 * time.Hour), BasicConstraintsValid: true,
		IPAddresses: []net.IP{net.ParseIP("10.0.0.2"), net.ParseIP("10.0.0.1"), net.ParseIP("127.0.0.1")}}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	pair := []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}
	server := &tls.Config{Certificates: pair, ClientCAs: pool, ClientAuth: tls.VerifyClientCertIfGiven}
	client := &tls.Config{Certificates: pair, RootCAs: pool}
	return TLS{Mode: mode, Server: func() *tls.Config { return server }, Client: func() *tls.Config { return client }}
}

// Every mode meets every other as documented: in particular a node that requires TLS neither accepts plaintext nor
// dials it (U12), and neighbouring steps of a migration understand each other.
func TestTLSModes(t *testing.T) {
	ok := map[[2]TLSMode]bool{
		{TLSOff, TLSOff}: true, {TLSOff, TLSAccept}: true, {TLSOff, TLSPrefer}: true,
		{TLSAccept, TLSOff}: true, {TLSAccept, TLSAccept}: true, {TLSAccept, TLSPrefer}: true,
		{TLSPrefer, TLSAccept}: true, {TLSPrefer, TLSPrefer}: true, {TLSPrefer, TLSRequired}: true,
		{TLSRequired, TLSAccept}: true, {TLSRequired, TLSPrefer}: true, {TLSRequired, TLSRequired}: true,
	}
	for dialer := range TLSMode(4) {
		for peer := range TLSMode(4) {
			bubble(t, func(t *testing.T, f *fabric) {
				base := selfSigned(t, TLSOff)
				with := func(mode TLSMode) func(*Options) {
					return func(o *Options) { o.TLS = base; o.TLS.Mode = mode }
				}
				a, b := f.add(1, with(dialer)), f.add(2, with(peer))
				_, status, err := a.Call(t.Context(), hostID(2), Data, verbLate, make([]byte, 100_000))
				if want := ok[[2]TLSMode{dialer, peer}]; (err == nil && status == StatusOK) != want {
					t.Errorf("dialer in mode %d, peer in mode %d: %v", dialer, peer, err)
				}
				synctest.Wait()
				if err != nil && b.Metrics().Refused.Load() != 1 {
					t.Errorf("dialer in mode %d, peer in mode %d: refusal not counted", dialer, peer)
				}
				var r *Refusal
				if peer == TLSRequired && dialer < TLSPrefer && (!errors.As(err, &r) || r.Code != RefusedPlain) {
					t.Errorf("dialer in mode %d, peer in mode %d: the reason is lost: %v", dialer, peer, err)
				}
			})
		}
	}
}

// A dialer that trusts another authority does not talk.
func TestTLSStranger(t *testing.T) {
	bubble(t, func(t *testing.T, f *fabric) {
		a := f.add(1, func(o *Options) { o.TLS = selfSigned(t, TLSRequired) })
		f.add(2, func(o *Options) { o.TLS = selfSigned(t, TLSRequired) })
		wantError(t, a, 2, ErrUnreachable, false)
	})
}

// A connection with TLS that breaks, or whose peer hangs, ends as fast as one without.
func TestTLSConnectionLost(t *testing.T) {
	bubble(t, func(t *testing.T, f *fabric) {
		both := selfSigned(t, TLSRequired)
		a := f.add(1, func(o *Options) { o.TLS = both })
		b := f.add(2, func(o *Options) { o.TLS = both })
		mustCall(t, a, 2, Data, verbEcho, nil)
		f.net.Isolate(hostName(2), true)
		o := newOnce()
		begin := time.Now()
		a.Send(hostID(2), Data, verbEcho, begin.Add(time.Minute), make([]byte, 1<<20), o)
		<-o.done
		if d := time.Since(begin); d > 10*time.Second || !errors.Is(o.rsp.Err, ErrConnLost) {
			t.Error(d, o.rsp.Err)
		}
		begin = time.Now()
		a.stop()
		b.stop()
		if d := time.Since(begin); d > 0 {
			t.Errorf("stopping took %v", d)
		}
	})
}
