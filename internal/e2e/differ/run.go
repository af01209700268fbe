package differ

import (
	"fmt"
	"strings"
	"time"

	"github.com/helenusdb/helenus/cql/protocol"
)

const (
	pagesMax   = 400             // pages of one statement
	eventWait  = 5 * time.Second // for the first event of a schema change
	eventQuiet = 60 * time.Millisecond
)

// Server runs steps against one CQL server. Not for concurrent use.
type Server struct {
	Addr string
	// Quiet is how long no event must come after a schema change until the next step starts; 60 ms by default.
	Quiet time.Duration

	// Shared keeps away all that is not Harmless: others use the server too.
	Shared bool

	keyspace string
	conns    map[protocol.Version]*Conn
	events   *Conn
}

// NewServer returns a runner for the server at addr. It does not connect yet.
func NewServer(addr string) *Server {
	return &Server{Addr: addr, Quiet: eventQuiet, conns: map[protocol.Version]*Conn{}}
}

// Close closes all connections.
func (s *Server) Close() {
	for v, c := range s.conns {
		_ = c.Close()
		delete(s.conns, v)
	}
	if s.events != nil {
		_ = s.events.Close()
		s.events = nil
	}
}

// Begin makes the empty keyspace and uses it on every connection from now on.
func (s *Server) Begin(keyspace string) error {
	s.Close()
	s.keyspace = ""
	if err := s.exec("DROP KEYSPACE IF EXISTS " + keyspace); err != nil {
		return err
	}
	if err := s.exec("CREATE KEYSPACE " + keyspace + " WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}"); err != nil {
		return err
	}
	s.Close()
	events, err := Dial(s.Addr, protocol.V5)
	if err != nil {
		return err
	}
	s.keyspace, s.events = keyspace, events
	if err := events.Register(); err != nil {
		return err
	}
	_, err = events.Events(keyspace, s.Quiet, s.Quiet) // of the keyspace itself
	return err
}

// End drops the keyspace.
func (s *Server) End() error {
	err := s.exec("DROP KEYSPACE IF EXISTS " + s.keyspace)
	s.Close()
	return err
}

// exec runs a statement that succeeds.
func (s *Server) exec(text string) error {
	if s.Shared && !Harmless(text) {
		return fmt.Errorf("differ: %s: %s", text, strings.TrimSpace(notAsked))
	}
	c, err := s.conn(protocol.V5)
	if err != nil {
		return err
	}
	a, err := c.Call(protocol.AppendQuery(nil, c.v, 1, 0, text, &protocol.QueryParams{Consistency: protocol.One}))
	if err == nil && a.Err != nil {
		err = fmt.Errorf("differ: %s: %w", text, a.Err)
	}
	return err
}

func (s *Server) conn(v protocol.Version) (*Conn, error) {
	if c := s.conns[v]; c != nil {
		return c, nil
	}
	c, err := Dial(s.Addr, v)
	if err != nil {
		return nil, err
	}
	s.conns[v] = c
	if s.keyspace == "" {
		return c, nil
	}
	a, err := c.Call(protocol.AppendQuery(nil, c.v, 1, 0, "USE "+s.keyspace, &protocol.QueryParams{Consistency: protocol.One}))
	if err == nil && a.Err != nil {
		err = a.Err
	}
	return c, err
}

// Run runs one step and returns the text of its answer. An error means that the server could not be asked, or answered
// bytes that cannot be decoded.
func (s *Server) Run(st *Step) (string, error) {
	if s.Shared && !Harmless(st.Text) {
		return notAsked, nil
	}
	c, err := s.conn(st.version)
	if err != nil {
		return "", err
	}
	r := &run{s: s, c: c, st: st}
	switch {
	case st.batch != "":
		err = r.runBatch()
	case st.prep:
		err = r.runPrepared()
	default:
		err = r.paged(func(p *protocol.QueryParams) ([]byte, error) {
			return protocol.AppendQuery(nil, c.v, 1, r.flags(), st.Text, p), nil
		})
	}
	if err != nil {
		_ = c.Close()
		delete(s.conns, st.version)
		return "", fmt.Errorf("%s: %w", st.Source, err)
	}
	if st.quiet {
		return "", nil
	}
	return r.out.String(), nil
}

// run is the answer to one step in the making.
type run struct {
	s   *Server
	c   *Conn
	st  *Step
	out strings.Builder

	columns string // of the page before
	empty   bool   // the page has no rows
}

func (r *run) flags() byte {
	if r.st.trace {
		return protocol.FlagTracing
	}
	return 0
}

func (r *run) runPrepared() error {
	a, err := r.c.Call(protocol.AppendPrepare(nil, r.c.v, 1, 0, r.st.Text, string(r.st.params.Keyspace)))
	if err != nil {
		return err
	}
	if _, err := r.show(a); err != nil || a.Err != nil {
		return err
	}
	p := a.Result.Prepared
	return r.paged(func(params *protocol.QueryParams) ([]byte, error) {
		return protocol.AppendExecute(nil, r.c.v, 1, r.flags(), &protocol.Execute{ID: p.ID, ResultMetadataID: p.ResultMetadataID, QueryParams: *params}), nil
	})
}

// paged sends the request once per page size, and follows the pages.
func (r *run) paged(request func(*protocol.QueryParams) ([]byte, error)) error {
	if len(r.st.pages) == 0 {
		p := r.st.params
		_, err := r.send(request, &p)
		return err
	}
	for _, size := range r.st.pages {
		fmt.Fprintf(&r.out, "in pages of %d\n", size)
		p := r.st.params
		p.Flags |= protocol.QueryPageSize
		p.PageSize = size
		if err := r.follow(request, &p); err != nil {
			return err
		}
	}
	return nil
}

// follow asks for page after page. An empty page at the end is left out, as if the page before had said that it is the
// last: Cassandra does not look whether anything follows a full page, Helenus often knows.
func (r *run) follow(request func(*protocol.QueryParams) ([]byte, error), p *protocol.QueryParams) error {
	out := r.out.String()
	before := ""
	for n := 0; n < pagesMax; n++ {
		r.out.Reset()
		r.empty = false
		more, err := r.send(request, p)
		if err != nil {
			return err
		}
		page := r.out.String()
		if more == nil && r.empty && n > 0 {
			before = strings.Replace(before, " flags 3 ", " flags 1 ", 1)
			page = ""
		}
		out, before = out+before, page
		if more == nil {
			break
		}
		p.Flags |= protocol.QueryPagingState
		p.PagingState = more
	}
	r.out.Reset()
	r.out.WriteString(out + before)
	return nil
}

func (r *run) send(request func(*protocol.QueryParams) ([]byte, error), p *protocol.QueryParams) ([]byte, error) {
	frame, err := request(p)
	if err != nil {
		return nil, err
	}
	a, err := r.c.Call(frame)
	if err != nil {
		return nil, err
	}
	return r.show(a)
}

func (r *run) runBatch() error {
	kinds := map[string]protocol.BatchType{"logged": protocol.BatchLogged, "unlogged": protocol.BatchUnlogged, "counter": protocol.BatchCounter}
	b := protocol.Batch{QueryParams: r.st.params, Type: kinds[r.st.batch]}
	for _, text := range strings.Split(r.st.Text, ";;") {
		if text = strings.TrimSpace(text); text == "" {
			continue
		}
		st, err := ParseStep(text)
		if err != nil {
			return err
		}
		item := protocol.BatchStatement{Query: []byte(st.Text), Values: st.params.Values}
		if st.prep {
			a, err := r.c.Call(protocol.AppendPrepare(nil, r.c.v, 1, 0, st.Text, ""))
			if err != nil {
				return err
			}
			if a.Err != nil {
				_, err = r.show(a)
				return err
			}
			item.Prepared, item.ID, item.Query = true, a.Result.Prepared.ID, nil
		}
		b.Statements = append(b.Statements, item)
	}
	a, err := r.c.Call(protocol.AppendBatch(nil, r.c.v, 1, r.flags(), &b))
	if err != nil {
		return err
	}
	_, err = r.show(a)
	return err
}
