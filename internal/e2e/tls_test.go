package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// authority signs certificates for a test.
type authority struct {
	t    *testing.T
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	a := &authority{t: t, dir: t.TempDir(), cert: cert, key: key}
	a.write("ca.pem", "CERTIFICATE", der)
	return a
}

func (a *authority) write(name, kind string, der []byte) string {
	a.t.Helper()
	path := filepath.Join(a.dir, name)
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		a.t.Fatal(err)
	}
	return path
}

func (a *authority) ca() string { return filepath.Join(a.dir, "ca.pem") }

// issue returns the files of a certificate for the addresses.
func (a *authority) issue(name string, addrs ...string) (cert, key string) {
	a.t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	for _, s := range addrs {
		tmpl.IPAddresses = append(tmpl.IPAddresses, net.ParseIP(s))
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, a.cert, &k.PublicKey, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	raw, err := x509.MarshalECPrivateKey(k)
	if err != nil {
		a.t.Fatal(err)
	}
	return a.write(name+".pem", "CERTIFICATE", der), a.write(name+".key", "EC PRIVATE KEY", raw)
}

// TestTLS_EverythingEncrypted: clients, internode connections and gossip encrypted, with certificates asked of clients:
// a stock driver works over it, a plain one and one without a certificate do not, and no node answers plaintext on the
// internode port.
func TestTLS_EverythingEncrypted(t *testing.T) {
	skipUnlessE2E(t)
	a := newAuthority(t)
	var key [32]byte
	if _, err := rand.Read(key[:]); err != nil {
		t.Fatal(err)
	}
	c := newCluster(t, 3, "--gossip-encryption-key", base64.StdEncoding.EncodeToString(key[:]))
	for i, p := range c.nodes {
		cert, k := a.issue(fmt.Sprintf("node%d", i+1), p.addr)
		p.args = append(p.args, "--native-tls-cert", cert, "--native-tls-key", k, "--native-tls-client-ca", a.ca(),
			"--internode-tls-cert", cert, "--internode-tls-key", k, "--internode-tls-ca", a.ca())
	}
	c.up()
	cert, k := a.issue("client")
	out := background(t, python(t), "testdata/tls.py", c.hosts(), a.ca(), cert, k).succeeds(time.Minute)
	if !contains(out, "tls ok") {
		t.Fatalf("driver over TLS: %s", tail(out, 10))
	}
	plaintextIsRefused(t, net.JoinHostPort(c.nodes[0].addr, "9042"))
	plaintextIsRefused(t, net.JoinHostPort(c.nodes[0].addr, "7000"))
	bare := &tls.Config{RootCAs: x509.NewCertPool()}
	bare.RootCAs.AddCert(a.cert)
	conn, err := tls.Dial("tcp", net.JoinHostPort(c.nodes[0].addr, "9042"), bare)
	if err == nil { // in TLS 1.3 the client learns of the refusal when it reads
		_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
		_, _ = conn.Write([]byte{4, 0, 0, 0, 5, 0, 0, 0, 0})
		_, err = conn.Read(make([]byte, 9))
		_ = conn.Close()
	}
	if err == nil {
		t.Error("a client without a certificate was served")
	}
}

// plaintextIsRefused sends an OPTIONS frame in the clear; whatever comes back must not be a SUPPORTED frame.
func plaintextIsRefused(t *testing.T, addr string) {
	t.Helper()
	c, err := net.DialTimeout("tcp", addr, 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(15 * time.Second))
	if _, err := c.Write([]byte{4, 0, 0, 0, 5, 0, 0, 0, 0}); err != nil {
		return
	}
	b := make([]byte, 9)
	if n, _ := c.Read(b); n == 9 && b[0] == 0x84 && b[4] == 6 {
		t.Errorf("%s answers plaintext", addr)
	}
}
