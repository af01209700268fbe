package shell

import (
	"bytes"
	"context"
	"crypto/tls"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/helenusdb/helenus/cql/protocol"
	"github.com/helenusdb/helenus/cql/types"
)

// fakeServer is a server that answers from a table.
type fakeServer struct {
	addr     string
	max      protocol.Version          // highest version spoken
	password string                    // "": no authentication
	tls      *tls.Config               // nil: plain TCP
	answers  map[string]*fakeAnswer    // by the statement's beginning, the longest that fits
	seen     chan protocol.QueryParams // of each QUERY, as long as there is room

	mu      sync.Mutex
	queries []string
	start   func()
}

// listen starts the server, after which only put changes what it says, and returns its address.
func (f *fakeServer) listen() string {
	f.start()
	return f.addr
}

func (f *fakeServer) put(statement string, a *fakeAnswer) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.answers[statement] = a
}

type fakeAnswer struct {
	columns  []protocol.Column
	pages    [][][][]byte // pages of rows of values
	warnings []string
	err      *protocol.Error
	keyspace string
	change   *protocol.Event
	silent   bool // no answer at all
}

func column(name string, t *types.Type) protocol.Column {
	return protocol.Column{Keyspace: "ks", Table: "t", Name: name, Type: t}
}

func text(values ...string) (row [][]byte) {
	for _, v := range values {
		row = append(row, []byte(v))
	}
	return row
}

func textColumns(names ...string) (columns []protocol.Column) {
	for _, n := range names {
		columns = append(columns, column(n, types.Text))
	}
	return columns
}

func newFakeServer(t *testing.T) *fakeServer {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &fakeServer{addr: l.Addr().String(), max: protocol.V5, answers: map[string]*fakeAnswer{}, seen: make(chan protocol.QueryParams, 100)}
	f.answers["SELECT release_version"] = &fakeAnswer{columns: textColumns("release_version", "cql_version", "cluster_name"),
		pages: [][][][]byte{{text("5.0.8", "3.4.7", "Test")}}}
	f.answers["SELECT schema_version"] = &fakeAnswer{columns: textColumns("schema_version"), pages: [][][][]byte{{text("1")}}}
	var wg sync.WaitGroup
	ctx, stop := context.WithCancel(context.Background())
	f.start = sync.OnceFunc(func() {
		wg.Go(func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				wg.Go(func() { f.serve(c) })
				context.AfterFunc(ctx, func() { c.Close() })
			}
		})
	})
	t.Cleanup(func() { l.Close(); stop(); wg.Wait() })
	return f
}

func (f *fakeServer) serve(c net.Conn) {
	if f.tls != nil {
		c = tls.Server(c, f.tls)
	}
	defer c.Close()
	r := protocol.NewFrameReader(protocol.ReaderOptions{FrameMax: 1 << 20})
	segments, v := false, f.max
	for {
		q, err := r.ReadFrame(c)
		if err != nil {
			return
		}
		s := q.Header.Stream
		var out []byte
		framed := segments
		switch {
		case q.Header.Version > f.max:
			out = protocol.AppendErrorFrame(nil, f.max, 0, protocol.UnsupportedVersion(q.Header.Version))
		case q.Header.Op == protocol.OpStartup:
			v = q.Header.Version
			body, op := protocol.AppendReady(nil), protocol.OpReady
			if f.password != "" {
				body, op = protocol.AppendAuthenticate(nil, protocol.PasswordAuthenticator), protocol.OpAuthenticate
			}
			out = frame(v, op, s, nil, body)
			if v >= protocol.V5 {
				segments = true
				r.StartSegments(protocol.NoCompression)
			}
		case q.Header.Op == protocol.OpAuthResponse:
			token, _ := protocol.DecodeAuthResponse(q.Body)
			out = frame(v, protocol.OpAuthSuccess, s, nil, protocol.AppendAuthSuccess(nil, nil))
			if !bytes.HasSuffix(token, []byte("\x00"+f.password)) {
				out = protocol.AppendErrorFrame(nil, v, s, protocol.Errorf(protocol.CodeBadCredentials, "Provided username and/or password are incorrect"))
			}
		case q.Header.Op == protocol.OpQuery:
			out = f.answer(v, s, q)
		}
		if framed {
			out = protocol.AppendSegments(nil, out, protocol.NoCompression)
		}
		if _, err := c.Write(out); err != nil {
			return
		}
	}
}

func frame(v protocol.Version, op protocol.Opcode, stream int16, extras *protocol.Extras, body []byte) []byte {
	out, mark := protocol.BeginResponse(nil, v, op, stream, extras)
	return protocol.EndFrame(append(out, body...), mark)
}

func (f *fakeServer) answer(v protocol.Version, s int16, in protocol.Frame) []byte {
	var q protocol.Query
	if err := protocol.DecodeQuery(v, in.Body, &q); err != nil {
		return protocol.AppendErrorFrame(nil, v, s, protocol.Errorf(protocol.CodeProtocol, "%v", err))
	}
	statement := string(q.Query)
	f.mu.Lock()
	f.queries = append(f.queries, statement)
	f.mu.Unlock()
	select {
	case f.seen <- q.QueryParams:
	default:
	}
	a := f.find(statement)
	extras := &protocol.Extras{}
	if a != nil {
		extras.Warnings = a.warnings
	}
	if in.Header.Flags&protocol.FlagTracing != 0 {
		extras.Traced, extras.TracingID = true, [16]byte{1, 2, 3}
	}
	switch {
	case a == nil:
		return frame(v, protocol.OpResult, s, extras, protocol.AppendVoid(nil))
	case a.silent:
		return nil
	case a.err != nil:
		return protocol.AppendErrorFrame(nil, v, s, a.err)
	case a.keyspace != "":
		return frame(v, protocol.OpResult, s, extras, protocol.AppendSetKeyspace(nil, a.keyspace))
	case a.change != nil:
		return frame(v, protocol.OpResult, s, extras, protocol.AppendSchemaChangeResult(nil, v, a.change))
	}
	page := 0
	if len(q.PagingState) > 0 {
		page = int(q.PagingState[0])
	}
	body, mark := protocol.BeginRows(nil, v, protocol.NewSpecs(a.columns), protocol.FullMetadata)
	var rows [][][]byte
	if page < len(a.pages) {
		rows = a.pages[page]
	}
	for _, row := range rows {
		for _, value := range row {
			body = protocol.AppendBytes(body, value)
		}
	}
	var next []byte
	if page+1 < len(a.pages) {
		next = []byte{byte(page + 1)}
	}
	return frame(v, protocol.OpResult, s, extras, protocol.EndRows(body, mark, len(rows), next))
}

func (f *fakeServer) find(statement string) *fakeAnswer {
	f.mu.Lock()
	defer f.mu.Unlock()
	best := ""
	for k := range f.answers {
		if strings.HasPrefix(statement, k) && len(k) > len(best) {
			best = k
		}
	}
	return f.answers[best]
}

func (f *fakeServer) asked(statement string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, q := range f.queries {
		if strings.HasPrefix(q, statement) {
			return true
		}
	}
	return false
}

// session is a shell at a fake server with what it printed.
type session struct {
	*Shell
	out, err bytes.Buffer
}

func newSession(t *testing.T, f *fakeServer, o Options) *session {
	t.Helper()
	s := &session{}
	o.Out, o.Err = &s.out, &s.err
	o.Dialing.Addr = f.listen()
	if o.Dialing.RequestTimeout == 0 {
		o.Dialing.RequestTimeout = 5 * time.Second
	}
	s.Shell = New(o)
	if err := s.Connect(context.Background()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// do runs a script and returns what it printed.
func (s *session) do(script string) (out, errs string, err error) {
	s.out.Reset()
	s.err.Reset()
	err = s.Script(context.Background(), "<stdin>", strings.NewReader(script), true)
	return s.out.String(), s.err.String(), err
}
