package stream

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/helenusdb/helenus/internal/memnet"
	"github.com/helenusdb/helenus/ring"
	"github.com/helenusdb/helenus/rpc"
	"github.com/helenusdb/helenus/schema"
)

const table schema.Generation = 1025

// fakeStore is a store of one table with records that merge: the larger value wins. It is both ends of a stream.
type fakeStore struct {
	mu        sync.Mutex
	rows      map[string]string
	marks     map[string]string
	held      int // ranges in which nothing may be purged
	building  int // ingests that have not ended
	snapshots int // open
	opened    int
	ingests   int
	scanned   int // records handed out
	added     int // records taken
	fail      error
	failScan  error
	slow      time.Duration // of each ingest
}

func newFakeStore() *fakeStore {
	return &fakeStore{rows: map[string]string{}, marks: map[string]string{}}
}

// key of record i: the token is spread over the ring.
func key(i int) string {
	b := binary.BigEndian.AppendUint64(nil, uint64(i)*0x9E3779B97F4A7C15)
	return string(append(b, fmt.Sprintf("key%06d", i)...))
}

func tokenOf(key string) ring.Token {
	return ring.Token(binary.BigEndian.Uint64([]byte(key)) ^ 1<<63)
}

func (s *fakeStore) fill(n, size int) {
	for i := range n {
		s.rows[key(i)] = fmt.Sprintf("%06d%s", i, strings.Repeat("x", size))
	}
}

func (s *fakeStore) get(i int) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rows[key(i)]
}

// in returns the content of a range.
func (s *fakeStore) in(rg ring.Range) map[string]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := maps.Clone(s.rows)
	maps.DeleteFunc(out, func(k, _ string) bool { return !rg.Contains(tokenOf(k)) })
	return out
}

func (s *fakeStore) Snapshot(gen schema.Generation, rg ring.Range, _ bool) (Snapshot, error) {
	if gen != table {
		return nil, ErrUnknownTable
	}
	content := s.in(rg)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.snapshots++
	s.opened++
	return &fakeSnapshot{s, content, slices.Sorted(maps.Keys(content))}, nil
}

type fakeSnapshot struct {
	s    *fakeStore
	rows map[string]string
	keys []string
}

func (v *fakeSnapshot) Bytes() uint64 { return uint64(len(v.rows)) }

func (v *fakeSnapshot) Close() error {
	v.s.mu.Lock()
	defer v.s.mu.Unlock()
	v.s.snapshots--
	return nil
}

func (v *fakeSnapshot) Scan(_ context.Context, after []byte, budget int, fn func(key, value []byte) error) (end []byte, done bool, err error) {
	v.s.mu.Lock()
	err = v.s.failScan
	v.s.mu.Unlock()
	if err != nil {
		return nil, false, err
	}
	i, found := slices.BinarySearch(v.keys, string(after))
	if found {
		i++
	}
	for ; i < len(v.keys) && budget > 0; i++ {
		k := v.keys[i]
		budget -= len(k) + len(v.rows[k])
		v.s.mu.Lock()
		v.s.scanned++
		v.s.mu.Unlock()
		if err := fn([]byte(k), []byte(v.rows[k])); err != nil {
			return nil, false, err
		}
		end = []byte(k)
	}
	return end, i == len(v.keys), nil
}

func (s *fakeStore) Build(gen schema.Generation, rg ring.Range) (Builder, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail != nil {
		return nil, s.fail
	}
	s.building++
	return &fakeBuilder{s: s, rg: rg, rows: map[string]string{}}, nil
}

type fakeBuilder struct {
	s    *fakeStore
	rg   ring.Range
	rows map[string]string
	last string
	size int64
}

func (b *fakeBuilder) Add(k, v []byte) error {
	if string(k) <= b.last || !b.rg.Contains(tokenOf(string(k))) {
		return fmt.Errorf("record %x is out of order or range", k)
	}
	b.rows[string(k)], b.last = string(v), string(k)
	b.size += int64(len(k) + len(v))
	b.s.mu.Lock()
	b.s.added++
	b.s.mu.Unlock()
	return nil
}

func (b *fakeBuilder) Size() int64 { return b.size }

func (b *fakeBuilder) Commit(context.Context) error {
	time.Sleep(b.s.slow)
	b.s.mu.Lock()
	defer b.s.mu.Unlock()
	b.s.building--
	b.s.ingests++
	for k, v := range b.rows {
		b.s.rows[k] = max(b.s.rows[k], v)
	}
	return b.s.fail
}

func (b *fakeBuilder) Discard() {
	b.s.mu.Lock()
	defer b.s.mu.Unlock()
	b.s.building--
}

func (s *fakeStore) HoldPurge(schema.Generation, ring.Range) func() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held++
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.held--
	}
}

func (s *fakeStore) Mark(k []byte) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return []byte(s.marks[string(k)]), nil
}

func (s *fakeStore) SetMark(_ context.Context, k, v []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.marks[string(k)] = string(v); v == nil {
		delete(s.marks, string(k))
	}
	return nil
}

func (s *fakeStore) DropMarks(_ context.Context, prefix []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	maps.DeleteFunc(s.marks, func(k, _ string) bool { return strings.HasPrefix(k, string(prefix)) })
	return nil
}

// calm fails the test if something of a stream was left behind.
func (s *fakeStore) calm(t *testing.T, who string) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.snapshots != 0 || s.building != 0 || s.held != 0 {
		t.Errorf("%s: %d snapshots, %d ingests, %d held ranges are left", who, s.snapshots, s.building, s.held)
	}
}

// host is one node: a transport, a store, both halves of streaming.
type host struct {
	*rpc.Transport
	t        *testing.T
	id       ring.HostID
	name     string
	net      *memnet.Network
	store    *fakeStore
	ledger   *Ledger
	throttle *Throttle
	server   atomic.Pointer[Server]
	options  ServerOptions
	epoch    atomic.Uint64
	newest   uint64 // what CatchUp brings
	owns     ring.Range
	admit    error
	hostile  func(*rpc.Request, rpc.Responder) bool // true: handled

	stopServer, stopTransport context.CancelFunc
	serverEnded, ended        chan error
}

func hostID(i int) (id ring.HostID) {
	id[15] = byte(i)
	return id
}

func newHost(t *testing.T, w *memnet.Network, i int, more func(*host)) *host {
	h := &host{t: t, id: hostID(i), name: fmt.Sprintf("10.0.0.%d", i), net: w, store: newFakeStore(), ledger: NewLedger(), throttle: NewThrottle(0),
		owns: ring.FullRange(), ended: make(chan error, 1), serverEnded: make(chan error, 1)}
	if more != nil {
		more(h)
	}
	m := w.Host(h.name)
	var err error
	h.Transport, err = rpc.New(rpc.Options{Self: h.id, ClusterID: func() [16]byte { return [16]byte{1} }, Epoch: h.epoch.Load,
		Listen: func(context.Context) (net.Listener, error) { return m.Listen(":7000") }, Dial: m.Dial,
		Resolve:    func(id ring.HostID) (string, bool) { return fmt.Sprintf("10.0.0.%d:7000", id[15]), true },
		NewSession: func(from ring.HostID, _ rpc.Class) rpc.Session { return &dispatch{h: h, from: from} }})
	if err != nil {
		t.Fatal(err)
	}
	h.startServer()
	ctx, cancel := context.WithCancel(context.Background())
	h.stopTransport = cancel
	go func() { h.ended <- h.Run(ctx) }()
	synctest.Wait()
	return h
}

func (h *host) startServer() {
	o := h.options
	o.Source, o.Members, o.Ledger, o.Throttle = h.store, h, h.ledger, h.throttle
	s := NewServer(o)
	h.server.Store(s)
	ctx, cancel := context.WithCancel(context.Background())
	h.stopServer = cancel
	go func() { h.serverEnded <- s.Run(ctx) }()
}

func (h *host) endServer() {
	h.stopServer()
	<-h.serverEnded
}

func (h *host) stop() {
	h.endServer()
	h.stopTransport()
	<-h.ended
	h.store.calm(h.t, h.name)
	if left := h.ledger.Active(); len(left) > 0 {
		h.t.Errorf("%s: still active: %+v", h.name, left)
	}
}

// dispatch passes requests on to the server that runs now.
type dispatch struct {
	h      *host
	from   ring.HostID
	server *Server
	conn   rpc.Session
}

func (d *dispatch) Handle(req *rpc.Request, rsp rpc.Responder) {
	if d.h.hostile != nil && d.h.hostile(req, rsp) {
		return
	}
	if s := d.h.server.Load(); s != d.server {
		d.Close()
		d.server, d.conn = s, s.NewSession(d.from)
	}
	d.conn.Handle(req, rsp)
}

func (d *dispatch) Flush() {}

func (d *dispatch) Close() {
	if d.conn != nil {
		d.conn.Close()
	}
}

func (h *host) Epoch() uint64 { return h.epoch.Load() }

func (h *host) CatchUp(context.Context, ring.HostID) error {
	h.epoch.Store(max(h.newest, h.epoch.Load()))
	return nil
}

func (h *host) Admit(_ context.Context, gen schema.Generation, rg ring.Range) error {
	switch {
	case h.admit != nil:
		return h.admit
	case gen != table:
		return ErrUnknownTable
	case !h.owns.ContainsRange(rg):
		return ErrNotOwner
	}
	return nil
}

// fetcher returns one with small bounds.
func (h *host) fetcher(more func(*FetcherOptions)) *Fetcher {
	o := FetcherOptions{Transport: h.Transport, Sink: h.store, Ledger: h.ledger, PieceBytes: 4 << 10, GroupBytes: 16 << 10}
	if more != nil {
		more(&o)
	}
	return NewFetcher(o)
}

func (h *host) request(from *host, rg ring.Range) Request {
	return Request{Stream: ID{7}, From: from.id, Table: table, Range: rg}
}

// pair runs a test with a receiver and a source.
func pair(t *testing.T, more func(*host), test func(t *testing.T, w *memnet.Network, to, from *host)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := memnet.New(memnet.Options{})
		to, from := newHost(t, w, 1, nil), newHost(t, w, 2, more)
		defer to.stop()
		defer from.stop()
		test(t, w, to, from)
	})
}

func (h *host) same(t *testing.T, from *host, rg ring.Range) {
	t.Helper()
	got, want := h.store.in(ring.FullRange()), from.store.in(rg)
	if !maps.Equal(got, want) {
		t.Errorf("%d records came, expected %d", len(got), len(want))
	}
	h.store.mu.Lock()
	defer h.store.mu.Unlock()
	if len(h.store.marks) > 0 {
		t.Errorf("%d marks are left", len(h.store.marks))
	}
}

var errTest = errors.New("test")

func equalBytes(t *testing.T, what string, got, want []byte) {
	t.Helper()
	if !bytes.Equal(got, want) {
		t.Errorf("%s: %x, expected %x", what, got, want)
	}
}
