package shell

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/helenusdb/helenus/cql/protocol"
)

func TestDialStepsDown(t *testing.T) {
	for _, v := range []protocol.Version{protocol.V5, protocol.V4, protocol.V3} {
		f := newFakeServer(t)
		f.max = v
		s := newSession(t, f, Options{})
		if s.conn.Version() != v {
			t.Errorf("speaks %s with a server of %s", s.conn.Version(), v)
		}
		f.put("SELECT big", &fakeAnswer{columns: textColumns("x"), pages: [][][][]byte{{text(strings.Repeat("y", 300_000))}}})
		if out, errs, err := s.do("SELECT big"); err != nil || !strings.Contains(out, strings.Repeat("y", 300_000)) {
			t.Errorf("%s: %v %s", v, err, errs)
		}
	}
}

func TestAuthentication(t *testing.T) {
	f := newFakeServer(t)
	f.password = "secret"
	ctx := context.Background()
	if _, err := Dial(ctx, Dialing{Addr: f.listen()}); !errors.Is(err, ErrNeedsUser) {
		t.Errorf("without a user: %v", err)
	}
	var e *protocol.Error
	if _, err := Dial(ctx, Dialing{Addr: f.listen(), User: "bob", Password: "x"}); !errors.As(err, &e) || e.Code != protocol.CodeBadCredentials {
		t.Errorf("wrong password: %v", err)
	}
	s := newSession(t, f, Options{Dialing: Dialing{User: "bob", Password: "secret", Keyspace: "Ks"}})
	if !f.asked(`USE "Ks"`) {
		t.Error("the keyspace is not used")
	}
	if _, errs, _ := s.do("LOGIN ann 'wrong'; SELECT 1"); !strings.Contains(errs, "AuthenticationFailed") {
		t.Errorf("%s", errs)
	}
	if _, errs, err := s.do("LOGIN ann 'secret'; SELECT 1"); err != nil || s.o.Dialing.User != "ann" {
		t.Errorf("%v %s", err, errs)
	}
}

// TestTimeoutsLeaveTheConnection: the late answer is not taken for that of the next request.
func TestTimeoutsLeaveTheConnection(t *testing.T) {
	f := newFakeServer(t)
	f.answers["SELECT silent"] = &fakeAnswer{silent: true}
	f.answers["SELECT * FROM p"] = people()
	s := newSession(t, f, Options{KeepGoing: true})
	conn := s.conn
	s.goesOn(t)
	conn.timeout = 20 * time.Millisecond
	if _, err := conn.Query(context.Background(), &Request{Text: "SELECT silent"}); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := conn.Query(ctx, &Request{Text: "SELECT 1"}); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	conn.timeout = 2 * time.Millisecond
	for i := range orphansMax {
		if _, err := conn.Query(context.Background(), &Request{Text: "SELECT silent"}); errors.Is(err, ErrBroken) {
			if i < orphansMax-3 {
				t.Errorf("given up after %d requests without an answer", i)
			}
			return
		}
	}
	t.Error("requests without an answer are not bounded")
}

// goesOn checks that a request without an answer leaves the connection as it is. Only that request has little time.
func (s *session) goesOn(t *testing.T) {
	t.Helper()
	conn, patient := s.conn, s.conn.timeout
	conn.timeout = 20 * time.Millisecond
	if _, errs, _ := s.do("SELECT silent"); !strings.Contains(errs, "OperationTimedOut") {
		t.Errorf("no answer: %s", errs)
	}
	conn.timeout = patient
	if out, errs, _ := s.do("SELECT * FROM p"); !strings.Contains(out, "(3 rows)") || s.conn != conn {
		t.Errorf("afterwards: %s%s", out, errs)
	}
}

func TestReconnects(t *testing.T) {
	f := newFakeServer(t)
	f.answers["USE"] = &fakeAnswer{keyspace: "ks"}
	f.answers["SELECT * FROM p"] = people()
	s := newSession(t, f, Options{KeepGoing: true})
	if _, errs, err := s.do("USE ks"); err != nil {
		t.Fatal(err, errs)
	}
	s.conn.conn.Close()
	f.mu.Lock()
	f.queries = nil
	f.mu.Unlock()
	out, errs, _ := s.do("SELECT 1; SELECT * FROM p")
	if !strings.Contains(errs, "ConnectionException") || !strings.Contains(out, "(3 rows)") || !f.asked("USE ks") {
		t.Errorf("%s%s", out, errs)
	}
}

func TestDialErrors(t *testing.T) {
	if _, err := Dial(context.Background(), Dialing{Addr: "127.0.0.1:1"}); err == nil {
		t.Error("connected to nothing")
	}
	f := newFakeServer(t)
	f.answers["USE"] = &fakeAnswer{err: protocol.Errorf(protocol.CodeInvalid, "Keyspace 'x' does not exist")}
	if _, err := Dial(context.Background(), Dialing{Addr: f.listen(), Keyspace: "x"}); err == nil || !strings.Contains(fmt.Sprint(err), "does not exist") {
		t.Error(err)
	}
}

// TestTLS: a certificate that nobody vouches for is refused, and a request that was given up leaves the connection good.
func TestTLS(t *testing.T) {
	h := httptest.NewTLSServer(nil)
	defer h.Close()
	f := newFakeServer(t)
	f.tls = h.TLS
	f.answers["SELECT silent"] = &fakeAnswer{silent: true}
	f.answers["SELECT * FROM p"] = people()
	if _, err := Dial(context.Background(), Dialing{Addr: f.listen(), TLS: &tls.Config{RootCAs: x509.NewCertPool()}}); err == nil {
		t.Error("connected to anybody")
	}
	roots := x509.NewCertPool()
	roots.AddCert(h.Certificate())
	s := newSession(t, f, Options{Dialing: Dialing{TLS: &tls.Config{RootCAs: roots}}, KeepGoing: true})
	s.goesOn(t)
}
