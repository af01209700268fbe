package tlsconf

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/helenusdb/helenus/internal/memnet"
)

// authority signs certificates for a test.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  []byte
}

func newAuthority(t *testing.T, name string) *authority {
	a := &authority{t: t, key: newKey(t)}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, IsCA: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &a.key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	a.cert, _ = x509.ParseCertificate(der)
	a.pem = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	return a
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// issue writes a certificate for a name and its key to dir and returns their paths.
func (a *authority) issue(dir, name string, life time.Duration) (cert, key string) {
	a.t.Helper()
	k := newKey(a.t)
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		DNSNames: []string{name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(life),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, a.cert, &k.PublicKey, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		a.t.Fatal(err)
	}
	cert = write(a.t, dir, "cert.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	key = write(a.t, dir, "key.pem", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}))
	return cert, key
}

func write(t *testing.T, dir, name string, b []byte) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// shake makes a handshake in memory and returns the name in the server's certificate.
func shake(server, client *tls.Config, name string) (peer string, serverErr, clientErr error) {
	network := memnet.New(memnet.Options{})
	l, err := network.Host("s").Listen(":1")
	if err != nil {
		return "", err, nil
	}
	here, err := network.Host("c").Dial(context.Background(), "s:1")
	if err != nil {
		return "", nil, err
	}
	defer here.Close()
	done := make(chan error, 1)
	go func() {
		there, err := l.Accept()
		if err != nil {
			done <- err
			return
		}
		defer there.Close()
		s := tls.Server(there, server)
		err = s.Handshake()
		if err == nil {
			_, err = s.Write([]byte{1}) // with TLS 1.3 the client learns only now that it was refused
		}
		done <- err
	}()
	client = client.Clone()
	if client.ServerName == "" {
		client.ServerName = name
	}
	c := tls.Client(here, client)
	clientErr = c.Handshake()
	if clientErr == nil {
		_, clientErr = c.Read(make([]byte, 1))
		peer = c.ConnectionState().PeerCertificates[0].Subject.CommonName
	}
	here.Close()
	return peer, <-done, clientErr
}

func mustLoad(t *testing.T, opt Options) *Source {
	t.Helper()
	s, err := Load(opt)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// Certificates are verified as the options say, on both ends.
func TestHandshakes(t *testing.T) {
	good, evil := newAuthority(t, "good"), newAuthority(t, "evil")
	dir := t.TempDir()
	ca, evilCA := write(t, dir, "ca.pem", good.pem), write(t, dir, "evil.pem", evil.pem)
	serverCert, serverKey := good.issue(t.TempDir(), "node.example", time.Hour)
	clientCert, clientKey := good.issue(t.TempDir(), "client.example", time.Hour)
	evilCert, evilKey := evil.issue(t.TempDir(), "node.example", time.Hour)
	base := Options{CertFile: serverCert, KeyFile: serverKey, CAFile: ca}
	mutual, optional := base, base
	mutual.ClientAuth, optional.ClientAuth = RequireClientCert, OptionalClientCert
	member := Options{CertFile: clientCert, KeyFile: clientKey, CAFile: ca}
	noName := Options{CAFile: ca, SkipHostname: true}
	for _, c := range []struct {
		name           string
		server, client Options
		dial           string
		ok             bool
	}{
		{"plain client", base, Options{CAFile: ca}, "node.example", true},
		{"wrong name", base, Options{CAFile: ca}, "other.example", false},
		{"wrong name skipped", base, noName, "other.example", true},
		{"wrong authority", base, Options{CAFile: evilCA}, "node.example", false},
		{"wrong authority, name skipped", base, Options{CAFile: evilCA, SkipHostname: true}, "node.example", false},
		{"system authorities", base, Options{}, "node.example", false},
		{"impostor", Options{CertFile: evilCert, KeyFile: evilKey}, noName, "node.example", false},
		{"no server certificate", Options{}, noName, "node.example", false},
		{"mutual", mutual, member, "node.example", true},
		{"mutual without certificate", mutual, Options{CAFile: ca}, "node.example", false},
		{"mutual with a stranger's", mutual, Options{CertFile: evilCert, KeyFile: evilKey, CAFile: ca}, "node.example", false},
		{"optional without certificate", optional, Options{CAFile: ca}, "node.example", true},
		{"optional with", optional, member, "node.example", true},
		{"optional, a stranger's is not sent", optional, Options{CertFile: evilCert, KeyFile: evilKey, CAFile: ca}, "node.example", true},
		{"client certificate at server", base, member, "node.example", true},
		{"server certificate for clients only", member, Options{CAFile: ca}, "client.example", true},
	} {
		_, serverErr, clientErr := shake(mustLoad(t, c.server).Server(), mustLoad(t, c.client).Client(), c.dial)
		if ok := serverErr == nil && clientErr == nil; ok != c.ok {
			t.Errorf("%s: server %v, client %v", c.name, serverErr, clientErr)
		}
	}
}

// New files are taken over by configurations that are already in use; broken ones are not (U11).
func TestReload(t *testing.T) {
	a := newAuthority(t, "ca")
	dir := t.TempDir()
	ca := write(t, dir, "ca.pem", a.pem)
	cert, key := a.issue(dir, "one", time.Hour)
	s := mustLoad(t, Options{CertFile: cert, KeyFile: key, CAFile: ca, SkipHostname: true})
	server := s.Server()
	expect := func(want string) {
		t.Helper()
		if got, _, err := shake(server, s.Client(), "x"); err != nil || got != want {
			t.Errorf("got %q, %v, want %q", got, err, want)
		}
	}
	expect("one")
	if changed, err := s.Reload(); changed || err != nil {
		t.Error("nothing changed:", changed, err)
	}
	a.issue(dir, "two", time.Hour)
	if changed, err := s.Reload(); !changed || err != nil {
		t.Error("new files:", changed, err)
	}
	expect("two")
	notAfter := s.NotAfter()
	for name, spoil := range map[string]func(){
		"garbage":     func() { write(t, dir, "cert.pem", []byte("garbage")) },
		"foreign key": func() { other := t.TempDir(); a.issue(other, "x", time.Hour); move(t, other, dir, "key.pem") },
		"expired":     func() { a.issue(dir, "old", -time.Minute) },
		"missing":     func() { os.Remove(cert) },
		"empty ca":    func() { a.issue(dir, "three", time.Hour); write(t, dir, "ca.pem", nil) },
		"huge":        func() { write(t, dir, "ca.pem", make([]byte, fileMax+1)) },
	} {
		spoil()
		if changed, err := s.Reload(); changed || err == nil {
			t.Errorf("%s: %v, %v", name, changed, err)
		}
		expect("two")
		a.issue(dir, "two", time.Hour)
		write(t, dir, "ca.pem", a.pem)
		if changed, err := s.Reload(); !changed || err != nil {
			t.Errorf("after %s: %v, %v", name, changed, err)
		}
	}
	if reloads, failures := s.Counts(); reloads != 7 || failures != 6 {
		t.Errorf("%d reloads, %d failures", reloads, failures)
	}
	if !s.NotAfter().After(notAfter.Add(-time.Second)) || time.Until(s.NotAfter()) > time.Hour {
		t.Error("expiry", s.NotAfter())
	}
}

func move(t *testing.T, from, to, name string) {
	t.Helper()
	if err := os.Rename(filepath.Join(from, name), filepath.Join(to, name)); err != nil {
		t.Fatal(err)
	}
}

// Run notices changes by itself and logs broken files once.
func TestRun(t *testing.T) {
	a := newAuthority(t, "ca")
	dir := t.TempDir()
	cert, key := a.issue(dir, "one", time.Hour)
	var log bytes.Buffer
	s := mustLoad(t, Options{CertFile: cert, KeyFile: key, Interval: time.Millisecond,
		Logger: slog.New(slog.NewTextHandler(&log, nil))})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	wait := func(what string, cond func() bool) {
		t.Helper()
		for begin := time.Now(); !cond(); time.Sleep(time.Millisecond) {
			if time.Since(begin) > 10*time.Second {
				t.Fatal("never:", what)
			}
		}
	}
	write(t, dir, "cert.pem", []byte("garbage"))
	wait("three failures", func() bool { _, n := s.Counts(); return n >= 3 })
	next := t.TempDir()
	a.issue(next, "two", 2*time.Hour)
	move(t, next, dir, "key.pem")
	move(t, next, dir, "cert.pem")
	wait("reload", func() bool { n, _ := s.Counts(); return n == 1 })
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if n := strings.Count(log.String(), "broken"); n < 1 || n > 3 {
		t.Errorf("broken files logged %d times:\n%s", n, &log)
	}
	if time.Until(s.NotAfter()) < time.Hour {
		t.Error("the new certificate is not in use")
	}
}

// Options that cannot work are refused.
func TestLoadRefused(t *testing.T) {
	a := newAuthority(t, "ca")
	cert, key := a.issue(t.TempDir(), "x", time.Hour)
	for name, opt := range map[string]Options{
		"no key":         {CertFile: cert},
		"no certificate": {KeyFile: key},
		"mutual":         {CertFile: cert, KeyFile: key, ClientAuth: RequireClientCert},
		"skip":           {SkipHostname: true},
		"missing file":   {CAFile: "/nonexistent"},
		"swapped":        {CertFile: key, KeyFile: cert},
		"unknown auth":   {CAFile: cert, ClientAuth: 9},
		"not yet born":   {CertFile: cert, KeyFile: key, Now: func() time.Time { return time.Now().Add(24 * time.Hour) }},
	} {
		if _, err := Load(opt); err == nil || !strings.HasPrefix(err.Error(), "tlsconf: ") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
