package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

const (
	headerTimeout = 5 * time.Second
	headerBytes   = 16 << 10
	stopTimeout   = 2 * time.Second
)

// Options configure a Server.
type Options struct {
	Addr   string // ip:port
	Listen func(ctx context.Context, addr string) (net.Listener, error)
	// Ready tells whether the node serves clients; why is shown when it does not.
	Ready func() (ok bool, why string)
	// Status is encoded as JSON for /api/v1/status.
	Status  func() any
	Metrics []Metric
	// Collect, when set, adds what there is one of per table, per node and the like, at each look: see Sample.
	Collect func() []Sample
	// Endpoints are the operator's commands.
	Endpoints []Endpoint
	// Streams are the commands that answer as they go.
	Streams []Stream
	Logger  *slog.Logger
}

// Kind is the type of a metric.
type Kind uint8

// The kinds.
const (
	Counter Kind = iota
	Gauge
)

// Metric is one number that is read when somebody looks.
type Metric struct {
	Name, Help string
	Kind       Kind
	Label      string // "name=value" or ""
	Value      func() float64
	// Histogram, when set, replaces Value: cumulative counts by upper bound, and the sum, in the metric's unit.
	Histogram func() (buckets map[float64]uint64, count uint64, sum float64)
}

// Server serves the operator's interface.
type Server struct {
	o        Options
	registry *prometheus.Registry
	listener net.Listener
}

// New returns a server that does not listen yet.
func New(o Options) (*Server, error) {
	s := &Server{o: o, registry: prometheus.NewRegistry()}
	if err := s.registry.Register(collectors.NewGoCollector()); err != nil {
		return nil, fmt.Errorf("admin: %w", err)
	}
	if err := s.registry.Register(collectors.NewProcessCollector(collectors.ProcessCollectorOpts{})); err != nil {
		return nil, fmt.Errorf("admin: %w", err)
	}
	if err := s.registry.Register(newCollector(o.Metrics)); err != nil {
		return nil, fmt.Errorf("admin: %w", err)
	}
	if o.Collect != nil {
		if err := s.registry.Register(sampleCollector{o.Collect}); err != nil {
			return nil, fmt.Errorf("admin: %w", err)
		}
	}
	return s, nil
}

// Listen opens the port: who connects from here on is served once Run does.
func (s *Server) Listen(ctx context.Context) (err error) {
	if s.listener, err = s.o.Listen(ctx, s.o.Addr); err != nil {
		return fmt.Errorf("admin: %w", err)
	}
	s.o.Logger.Info("admin interface listens", "addr", s.listener.Addr().String())
	return nil
}

// Run serves until ctx ends, after Listen.
func (s *Server) Run(ctx context.Context) error {
	h := &http.Server{Handler: s.routes(), ReadHeaderTimeout: headerTimeout, MaxHeaderBytes: headerBytes}
	failed := make(chan error, 1)
	go func() { failed <- h.Serve(s.listener) }()
	select {
	case err := <-failed:
		return fmt.Errorf("admin: %w", err)
	case <-ctx.Done():
	}
	stop, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	if h.Shutdown(stop) != nil {
		_ = h.Close()
	}
	if err := <-failed; !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("admin: %w", err)
	}
	return nil
}

func (s *Server) routes() http.Handler {
	m := http.NewServeMux()
	m.Handle("GET /metrics", promhttp.HandlerFor(s.registry, promhttp.HandlerOpts{MaxRequestsInFlight: 4, Timeout: 10 * time.Second}))
	m.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	m.HandleFunc("GET /readyz", s.ready)
	m.HandleFunc("GET /api/v1/status", s.status)
	for _, e := range s.o.Endpoints {
		m.HandleFunc(e.Method+" /api/v1/"+e.Path, s.endpoint(e))
	}
	for _, v := range s.o.Streams {
		m.HandleFunc("POST "+v.Path, s.stream(v))
	}
	m.HandleFunc("GET /debug/pprof/", pprof.Index)
	m.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	m.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	m.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	return m
}

func (s *Server) ready(w http.ResponseWriter, _ *http.Request) {
	if ok, why := s.o.Ready(); !ok {
		http.Error(w, why, http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(w, "ready")
}

func (s *Server) status(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	if err := e.Encode(s.o.Status()); err != nil {
		s.o.Logger.Debug("status not written", "err", err)
	}
}
