package admin

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
)

func TestServes(t *testing.T) {
	var ready atomic.Bool
	s, err := New(Options{Addr: "127.0.0.1:0", Logger: slog.New(slog.DiscardHandler),
		Listen: func(ctx context.Context, a string) (net.Listener, error) {
			return (&net.ListenConfig{}).Listen(ctx, "tcp", a)
		},
		Ready:  func() (bool, string) { return ready.Load(), "joining" },
		Status: func() any { return map[string]int{"nodes": 3} },
		Metrics: []Metric{
			{Name: "helenus_writes_total", Help: "writes", Value: func() float64 { return 42 }},
			{Name: "helenus_requests_total", Help: "r", Label: "opcode=QUERY", Value: func() float64 { return 1 }},
			{Name: "helenus_requests_total", Help: "r", Label: "opcode=EXECUTE", Value: func() float64 { return 2 }},
			{Name: "helenus_sync_seconds", Help: "h", Histogram: func() (map[float64]uint64, uint64, float64) {
				return map[float64]uint64{0.001: 3}, 4, 0.5
			}},
		}})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Listen(t.Context()); err != nil {
		t.Fatal(err)
	}
	base := "http://" + s.listener.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	get := func(path string) (int, string) {
		res, err := http.Get(base + path)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		b, _ := io.ReadAll(res.Body)
		return res.StatusCode, string(b)
	}
	if code, body := get("/readyz"); code != http.StatusServiceUnavailable || !strings.Contains(body, "joining") {
		t.Errorf("readyz before: %d %s", code, body)
	}
	ready.Store(true)
	if code, _ := get("/readyz"); code != http.StatusOK {
		t.Errorf("readyz after: %d", code)
	}
	_, metrics := get("/metrics")
	for _, want := range []string{"helenus_writes_total 42", `helenus_requests_total{opcode="EXECUTE"} 2`, `helenus_sync_seconds_bucket{le="0.001"} 3`, "go_goroutines"} {
		if !strings.Contains(metrics, want) {
			t.Errorf("/metrics lacks %q", want)
		}
	}
	_, status := get("/api/v1/status")
	var got map[string]int
	if err := json.Unmarshal([]byte(status), &got); err != nil || got["nodes"] != 3 {
		t.Errorf("status %q: %v", status, err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("Run: %v", err)
	}
}

// TestEndpoints: answers are JSON, what is wrong with a request is 400, other errors are 500, and pages of a browser do nothing.
func TestEndpoints(t *testing.T) {
	did := 0
	s, err := New(Options{Logger: slog.New(slog.DiscardHandler), Endpoints: []Endpoint{
		{Method: "GET", Path: "look", Do: func(_ context.Context, a url.Values) (any, error) { return a["x"], nil }},
		{Method: "GET", Path: "bad", Do: func(context.Context, url.Values) (any, error) { return nil, &BadRequest{"no such thing"} }},
		{Method: "GET", Path: "broken", Do: func(context.Context, url.Values) (any, error) { return nil, errors.New("it broke") }},
		{Method: "POST", Path: "do", Do: func(context.Context, url.Values) (any, error) { did++; return struct{}{}, nil }}},
		Collect: func() []Sample {
			table, shop, peer := []string{"keyspace", "table"}, []string{"shop", "a"}, []string{"peer"}
			return []Sample{{Name: "helenus_table_reads_total", Help: "r", Labels: table, Values: shop, Value: 7},
				{Name: "helenus_table_seconds", Help: "h", Labels: table, Values: shop, Buckets: map[float64]uint64{0.001: 3}, Count: 4, Sum: 0.5},
				{Name: "helenus_stream_in_bytes_total", Help: "b", Labels: peer, Values: []string{"one"}, Value: 9},
				{Name: "helenus_stream_in_bytes_total", Help: "b", Labels: peer, Values: []string{"two"}, Value: 8}}
		}})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		method, path, origin string
		code                 int
		body                 string
	}{
		{"GET", "/api/v1/look?x=1&x=2", "", 200, `"2"`},
		{"GET", "/api/v1/bad", "", 400, `"error": "no such thing"`},
		{"GET", "/api/v1/broken", "", 500, `"error": "it broke"`},
		{"POST", "/api/v1/do", "", 200, "{}"},
		{"GET", "/api/v1/do", "", 405, ""},
		{"POST", "/api/v1/do", "https://example.com", 403, ""},
		{"GET", "/metrics", "", 200, `helenus_table_reads_total{keyspace="shop",table="a"} 7`},
		{"GET", "/metrics", "", 200, "helenus_stream_in_bytes_total{peer=\"one\"} 9\nhelenus_stream_in_bytes_total{peer=\"two\"} 8\n"},
		{"GET", "/metrics", "", 200, `helenus_table_seconds_bucket{keyspace="shop",table="a",le="0.001"} 3`},
	} {
		r := httptest.NewRequest(c.method, c.path, nil)
		if c.origin != "" {
			r.Header.Set("Origin", c.origin)
		}
		w := httptest.NewRecorder()
		s.routes().ServeHTTP(w, r)
		if w.Code != c.code || !strings.Contains(w.Body.String(), c.body) {
			t.Errorf("%s %s from %q: %d %s", c.method, c.path, c.origin, w.Code, w.Body.String())
		}
	}
	if did != 1 {
		t.Errorf("it was done %d times", did)
	}
}
