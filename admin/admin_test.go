package admin

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
)

func TestServes(t *testing.T) {
	var ready atomic.Bool
	addr := make(chan string, 1)
	s, err := New(Options{Addr: "127.0.0.1:0", Logger: slog.New(slog.DiscardHandler),
		Listen: func(ctx context.Context, a string) (net.Listener, error) {
			l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", a)
			if err == nil {
				addr <- l.Addr().String()
			}
			return l, err
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
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	base := "http://" + <-addr
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
