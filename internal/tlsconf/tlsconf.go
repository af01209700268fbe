package tlsconf

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync/atomic"
	"time"
)

// fileMax bounds each file, in bytes.
const fileMax = 1 << 20

// ClientAuth says what a server asks of its clients.
type ClientAuth uint8

const (
	NoClientCert       ClientAuth = iota // none is asked for
	OptionalClientCert                   // verified when the client sends one
	RequireClientCert                    // mutual TLS
)

// Options configure a Source.
type Options struct {
	// CertFile and KeyFile hold this end's certificate chain, leaf first, and its private key, as PEM. Both or
	// neither; a server needs them, a client only when its server asks.
	CertFile, KeyFile string
	// CAFile holds the certificates that sign the other end's, as PEM. Empty: the system's, for clients only.
	CAFile string
	// ClientAuth is for servers; everything but NoClientCert needs CAFile.
	ClientAuth ClientAuth
	// SkipHostname makes clients verify the chain of the server's certificate but not its name; for internode
	// connections, whose certificates often name no address. It needs CAFile: a system authority signs for anyone.
	SkipHostname bool
	// MinVersion is a tls.Version constant; 0 means TLS 1.2.
	MinVersion uint16
	// Interval is the time between two looks at the files in Run; 0 means 10 s.
	Interval time.Duration
	// Now is the clock that certificates are checked against; nil means time.Now.
	Now    func() time.Time
	Logger *slog.Logger // default: discard
}

// Source holds the configurations made of the newest files that were good. Its methods may be used from any
// goroutine.
type Source struct {
	opt     Options
	cur     atomic.Pointer[snapshot]
	reloads chan struct{} // token: one reload at a time
	counts  struct{ reloads, failures atomic.Int64 }
}

// snapshot is what one state of the files says. Immutable.
type snapshot struct {
	sum            [sha256.Size]byte
	server, client *tls.Config
	notAfter       time.Time
}

// Load reads the files and returns a source, or what is wrong with them or with the options.
func Load(opt Options) (*Source, error) {
	if opt.Now == nil {
		opt.Now = time.Now
	}
	if opt.Interval == 0 {
		opt.Interval = 10 * time.Second
	}
	if opt.MinVersion == 0 {
		opt.MinVersion = tls.VersionTLS12
	}
	if opt.Logger == nil {
		opt.Logger = slog.New(slog.DiscardHandler)
	}
	switch {
	case (opt.CertFile == "") != (opt.KeyFile == ""):
		return nil, errors.New("tlsconf: certificate and key go together")
	case opt.ClientAuth != NoClientCert && opt.CAFile == "":
		return nil, errors.New("tlsconf: client certificates need a CA file to be verified with")
	case opt.SkipHostname && opt.CAFile == "":
		return nil, errors.New("tlsconf: host names may be skipped only with a CA file")
	case opt.ClientAuth > RequireClientCert:
		return nil, fmt.Errorf("tlsconf: client authentication %d is unknown", opt.ClientAuth)
	}
	s := &Source{opt: opt, reloads: make(chan struct{}, 1)}
	f, err := s.read()
	if err != nil {
		return nil, err
	}
	snap, err := s.build(f)
	if err != nil {
		return nil, err
	}
	s.cur.Store(snap)
	return s, nil
}

// Server returns a configuration whose every handshake uses the newest certificate. It has none when the options
// name no certificate; then handshakes fail.
func (s *Source) Server() *tls.Config {
	c := s.cur.Load().server.Clone()
	c.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) { return s.cur.Load().server, nil }
	return c
}

// Client returns the configuration of the moment, to be asked for before each connection; it belongs to the caller,
// who may set ServerName.
func (s *Source) Client() *tls.Config { return s.cur.Load().client.Clone() }

// NotAfter returns when the first certificate of this end's chain expires; zero when there is none.
func (s *Source) NotAfter() time.Time { return s.cur.Load().notAfter }

// Counts returns how often changed files were taken over, and how often they were refused.
func (s *Source) Counts() (reloads, failures int64) {
	return s.counts.reloads.Load(), s.counts.failures.Load()
}

// Reload reads the files now. changed tells whether their content is new and in use; after an error the old
// configuration stays in use.
func (s *Source) Reload() (changed bool, err error) {
	s.reloads <- struct{}{}
	defer func() { <-s.reloads }()
	f, err := s.read()
	if err != nil {
		s.counts.failures.Add(1)
		return false, err
	}
	if f.sum == s.cur.Load().sum {
		return false, nil
	}
	snap, err := s.build(f)
	if err != nil {
		s.counts.failures.Add(1)
		return false, err
	}
	s.cur.Store(snap)
	s.counts.reloads.Add(1)
	return true, nil
}

// Run looks at the files every Interval until ctx ends. A change is logged; files that are broken are logged once,
// until they change again.
func (s *Source) Run(ctx context.Context) error {
	ticker := time.NewTicker(s.opt.Interval)
	defer ticker.Stop()
	last := ""
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		changed, err := s.Reload()
		switch {
		case err != nil && err.Error() != last:
			last = err.Error()
			s.opt.Logger.Error("tlsconf: files are broken, the old certificate stays in use", "err", err)
		case err == nil:
			last = ""
		}
		if changed {
			s.opt.Logger.Info("tlsconf: certificate loaded", "file", s.opt.CertFile, "not_after", s.NotAfter())
		}
	}
}

// files is the content of the three files, nil where the options name none.
type files struct {
	cert, key, ca []byte
	sum           [sha256.Size]byte
}

func (s *Source) read() (f files, err error) {
	hash := sha256.New()
	for _, part := range []struct {
		path string
		dst  *[]byte
	}{{s.opt.CertFile, &f.cert}, {s.opt.KeyFile, &f.key}, {s.opt.CAFile, &f.ca}} {
		if part.path == "" {
			continue
		}
		if *part.dst, err = readFile(part.path); err != nil {
			return f, fmt.Errorf("tlsconf: %w", err)
		}
		fmt.Fprintln(hash, len(*part.dst))
		hash.Write(*part.dst)
	}
	hash.Sum(f.sum[:0])
	return f, nil
}

func readFile(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	b, err := io.ReadAll(io.LimitReader(file, fileMax+1))
	if err == nil && len(b) > fileMax {
		err = fmt.Errorf("%s is larger than %d bytes", path, fileMax)
	}
	return b, err
}

// build parses and checks the files: the key fits the certificate, the certificate is valid now.
func (s *Source) build(f files) (*snapshot, error) {
	snap := &snapshot{sum: f.sum}
	base := &tls.Config{MinVersion: s.opt.MinVersion, Time: s.opt.Now}
	if f.cert != nil {
		pair, err := tls.X509KeyPair(f.cert, f.key)
		if err != nil {
			return nil, fmt.Errorf("tlsconf: %s and %s: %w", s.opt.CertFile, s.opt.KeyFile, err)
		}
		if now := s.opt.Now(); now.After(pair.Leaf.NotAfter) {
			return nil, fmt.Errorf("tlsconf: %s has expired on %v", s.opt.CertFile, pair.Leaf.NotAfter)
		}
		if snap.notAfter, err = firstExpiry(pair); err != nil {
			return nil, fmt.Errorf("tlsconf: %s: %w", s.opt.CertFile, err)
		}
		base.Certificates = []tls.Certificate{pair}
	}
	var pool *x509.CertPool
	if f.ca != nil {
		pool = x509.NewCertPool()
		if !pool.AppendCertsFromPEM(f.ca) {
			return nil, fmt.Errorf("tlsconf: %s holds no certificate", s.opt.CAFile)
		}
	}
	snap.server, snap.client = base, base.Clone()
	snap.server.ClientCAs = pool
	snap.server.ClientAuth = [...]tls.ClientAuthType{tls.NoClientCert, tls.VerifyClientCertIfGiven,
		tls.RequireAndVerifyClientCert}[s.opt.ClientAuth]
	snap.client.RootCAs = pool
	if s.opt.SkipHostname {
		snap.client.InsecureSkipVerify = true
		snap.client.VerifyConnection = s.verifyChain(pool)
	}
	return snap, nil
}

func firstExpiry(pair tls.Certificate) (time.Time, error) {
	first := pair.Leaf.NotAfter
	for _, der := range pair.Certificate[1:] {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return first, err
		}
		if c.NotAfter.Before(first) {
			first = c.NotAfter
		}
	}
	return first, nil
}

// verifyChain is the usual verification of a server certificate, without its name.
func (s *Source) verifyChain(pool *x509.CertPool) func(tls.ConnectionState) error {
	return func(state tls.ConnectionState) error {
		if len(state.PeerCertificates) == 0 {
			return errors.New("tlsconf: the server has no certificate")
		}
		opt := x509.VerifyOptions{Roots: pool, Intermediates: x509.NewCertPool(), CurrentTime: s.opt.Now()}
		for _, c := range state.PeerCertificates[1:] {
			opt.Intermediates.AddCert(c)
		}
		_, err := state.PeerCertificates[0].Verify(opt)
		return err
	}
}
