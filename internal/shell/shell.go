package shell

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"

	"github.com/helenusdb/helenus/cql/protocol"
)

const (
	pageSizeDefault = 100
	sourceDepthMax  = 16 // files that SOURCE one another
)

// Options configure a Shell.
type Options struct {
	Dialing Dialing
	Format  Format // default Table
	Color   bool

	Out, Err io.Writer // default: discard

	// Lines is where a user types; nil for scripts. With it results stop after each page.
	Lines LineReader

	// KeepGoing makes scripts continue after a statement that failed.
	KeepGoing bool

	// Interruptible returns a context that also ends when the user interrupts a statement. Default: the context itself.
	Interruptible func(context.Context) (context.Context, context.CancelFunc)

	Name, Version string // for SHOW VERSION; default "helenus sh"
}

// LineReader is a terminal with line editing.
type LineReader interface {
	// Line reads a line, without its end. Errors: io.EOF when the user is done, ErrInterrupt when he gives up the line.
	Line(prompt string) (string, error)
	// Password reads a line that is not shown. Errors as for Line.
	Password(prompt string) (string, error)
	// Remember adds a statement to the history.
	Remember(statement string)
}

// ErrInterrupt is returned by a LineReader for Ctrl-C.
var ErrInterrupt = errors.New("interrupted")

// ErrFailed is returned when a statement failed, which has been printed.
var ErrFailed = errors.New("a statement failed")

// errExit is returned by EXIT.
var errExit = errors.New("exit")

// Shell is a session with a server.
type Shell struct {
	o    Options
	conn *Client // nil when it was lost
	out  io.Writer
	info serverInfo

	keyspace    string
	consistency protocol.Consistency
	serial      protocol.Consistency
	pageSize    int32
	paging      bool
	tracing     bool
	expand      bool
	format      Format
	capture     *os.File

	schema  schemaCache
	failed  bool // a statement since the start of the script
	sources int  // depth of SOURCE
}

// serverInfo is what a server says about itself.
type serverInfo struct{ release, cql, cluster string }

// New returns a shell that is not connected.
func New(o Options) *Shell {
	if o.Format == "" {
		o.Format = Table
	}
	if o.Out == nil {
		o.Out = io.Discard
	}
	if o.Err == nil {
		o.Err = io.Discard
	}
	if o.Interruptible == nil {
		o.Interruptible = context.WithCancel
	}
	if o.Name == "" {
		o.Name = "helenus sh"
	}
	o.Dialing.Name, o.Dialing.NameVersion = o.Name, o.Version
	return &Shell{o: o, out: o.Out, format: o.Format, keyspace: o.Dialing.Keyspace, consistency: protocol.One, serial: protocol.Serial,
		paging: true, pageSize: pageSizeDefault}
}

// SetLines gives a shell its terminal, whose completion may need the shell.
func (s *Shell) SetLines(l LineReader) { s.o.Lines = l }

// Connect connects to the server and asks it who it is. Errors: see Dial.
func (s *Shell) Connect(ctx context.Context) error {
	d := s.o.Dialing
	d.Keyspace = s.keyspace
	c, err := Dial(ctx, d)
	if err != nil {
		return fmt.Errorf("connect to %s: %w", d.Addr, err)
	}
	s.conn = c
	s.schema.forget()
	r, err := s.query(ctx, "SELECT release_version, cql_version, cluster_name FROM system.local WHERE key = 'local'")
	if err != nil {
		return fmt.Errorf("connect to %s: %w", d.Addr, err)
	}
	if r.Rows.Next() {
		s.info = serverInfo{string(r.Rows.Value(0)), string(r.Rows.Value(1)), string(r.Rows.Value(2))}
	}
	return nil
}

// Close closes the connection and the file of CAPTURE.
func (s *Shell) Close() {
	if s.conn != nil {
		s.conn.Close()
	}
	if s.capture != nil {
		s.capture.Close()
	}
}

// query sends a query of the shell's own, at ONE, everything at once.
func (s *Shell) query(ctx context.Context, text string) (*Response, error) {
	r, err := s.conn.Query(ctx, &Request{Text: text, Consistency: protocol.One, Serial: protocol.Serial})
	if err != nil {
		return nil, err
	}
	if r.Kind != protocol.ResultRows {
		return nil, fmt.Errorf("%w: a SELECT is not answered with rows", ErrBroken)
	}
	return r, nil
}

// Script carries out statements from r, which name stands for in messages. The last one needs its semicolon unless
// loose. Errors: ErrFailed when a statement failed, those of r, and that of a context that ended.
func (s *Shell) Script(ctx context.Context, name string, r io.Reader, loose bool) error {
	s.failed = false
	err := s.script(ctx, name, r, loose)
	if errors.Is(err, errExit) {
		err = nil
	}
	if err == nil && s.failed {
		err = ErrFailed
	}
	return err
}

func (s *Shell) script(ctx context.Context, name string, r io.Reader, loose bool) error {
	in := bufio.NewReaderSize(r, 64<<10)
	var sp Splitter
	for {
		line, err := in.ReadString('\n')
		if err != nil && err != io.EOF {
			return fmt.Errorf("read %s: %w", name, err)
		}
		if sp.line == 0 {
			line = strings.TrimPrefix(line, "\ufeff")
		}
		if tooLong := sp.Add(line); tooLong != nil {
			return fmt.Errorf("%s: %w", name, tooLong)
		}
		for {
			st, ok := sp.Next()
			if !ok {
				break
			}
			if err := s.scripted(ctx, name, st); err != nil {
				return err
			}
		}
		if err == io.EOF {
			break
		}
	}
	return s.scriptEnd(ctx, name, &sp, loose)
}

// scriptEnd treats what the last semicolon left over. Without one a file may have been cut off, so it is not carried out.
func (s *Shell) scriptEnd(ctx context.Context, name string, sp *Splitter, loose bool) error {
	st, ok, err := sp.Rest()
	if err == nil && ok && !loose && !endsWithLine(firstWord(st.Text)) {
		err = errors.New("incomplete statement at end of input: there is no semicolon")
	}
	switch {
	case err != nil:
		return s.complain(fmt.Sprintf("%s:%d:", name, st.Line), err.Error())
	case ok:
		return s.scripted(ctx, name, st)
	}
	return nil
}

func (s *Shell) scripted(ctx context.Context, name string, st Statement) error {
	return s.carryOut(ctx, st, fmt.Sprintf("%s:%d:", name, st.Line))
}

// complain prints an error. It returns ErrFailed where a script ends with it.
func (s *Shell) complain(where, text string) error {
	if s.o.Color {
		text = red + where + text + plain
		where = ""
	}
	fmt.Fprintln(s.o.Err, where+text)
	s.failed = true
	if s.o.Lines == nil && !s.o.KeepGoing {
		return ErrFailed
	}
	return nil
}

// carryOut runs a statement or command. where stands before an error. Errors end the input.
func (s *Shell) carryOut(ctx context.Context, st Statement, where string) error {
	ctx, stop := s.o.Interruptible(ctx)
	defer stop()
	err := s.reconnect(ctx)
	if err == nil {
		if c := findCommand(firstWord(st.Text)); c != nil {
			err = s.command(ctx, c, st.Text)
		} else {
			err = s.statement(ctx, st.Text)
		}
	}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, errExit), errors.Is(err, ErrFailed), errors.Is(err, io.ErrClosedPipe):
		return err
	case errors.Is(err, ErrBroken) && s.conn != nil:
		s.conn.Close()
		s.conn = nil
	}
	if s.o.Lines != nil {
		where = ""
	}
	var d *describeError
	if errors.As(err, &d) {
		return s.complain(where, d.Error())
	}
	return s.complain(where, errorText(err))
}

func (s *Shell) reconnect(ctx context.Context) error {
	if s.conn != nil {
		return nil
	}
	return s.Connect(ctx)
}

func (s *Shell) request(text string) *Request {
	r := &Request{Text: text + ";", Consistency: s.consistency, Serial: s.serial, Tracing: s.tracing}
	if s.paging {
		r.PageSize = s.pageSize
	}
	return r
}

// statement sends CQL and prints the answer.
func (s *Shell) statement(ctx context.Context, text string) error {
	req := s.request(text)
	req.Tracing = s.tracing && !readsTraces(text, s.keyspace)
	res, err := s.conn.Query(ctx, req)
	if err != nil {
		return err
	}
	run := &answer{s: s, ctx: ctx, req: req, res: res}
	switch res.Kind {
	case protocol.ResultRows:
		err = run.rows()
	case protocol.ResultSetKeyspace:
		s.keyspace = strings.Clone(res.Keyspace)
	case protocol.ResultSchemaChange:
		s.schema.forget()
		err = run.agree()
	}
	run.note(run.res)
	s.warn(run.warnings)
	if err != nil {
		return err
	}
	for _, id := range run.traces {
		if err := s.printTrace(ctx, id, true); err != nil {
			return err
		}
	}
	return nil
}

// answer is a result while it is being printed.
type answer struct {
	s        *Shell
	ctx      context.Context
	req      *Request
	res      *Response // the page at hand
	warnings []string
	traces   [][16]byte
	noted    *Response
	unasked  bool // all pages without asking
}

// note keeps a page's warnings and trace.
func (a *answer) note(r *Response) {
	if r == a.noted {
		return
	}
	a.noted = r
	a.warnings = append(a.warnings, r.Warnings...)
	if r.Traced {
		a.traces = append(a.traces, r.TraceID)
	}
}

// rows prints all pages.
func (a *answer) rows() error {
	s := a.s
	if s.format != Table {
		return a.pages(func(first bool) error {
			if s.format == CSV {
				return writeCSV(s.out, &a.res.Rows, first)
			}
			return writeJSON(s.out, &a.res.Rows)
		})
	}
	color := s.o.Color && s.capture == nil
	selects := isSelect(a.req.Text)
	t := &table{w: s.out, expanded: s.expand, terminal: s.o.Lines != nil && s.capture == nil && selects}
	t.header = s.header(a.ctx, a.res.Rows.Metadata.Columns, color)
	fmt.Fprintln(s.out)
	err := a.pages(func(first bool) error {
		page, err := cells(formatter{color: color}, &a.res.Rows)
		if err == nil && (first || len(page) > 0) {
			t.page(page)
		}
		return err
	})
	if err != nil || !selects {
		return err
	}
	if !t.terminal {
		fmt.Fprintln(s.out)
	}
	_, err = fmt.Fprintf(s.out, "(%d rows)\n", t.rows)
	return err
}

// more asks whether the next page is wanted; interrupting or ending the input says no.
func (a *answer) more() bool {
	said, err := a.s.o.Lines.Line("---MORE---")
	return err == nil && !strings.HasPrefix(strings.ToLower(said), "q")
}

// pages calls print for each page, and on a terminal asks before each further one.
func (a *answer) pages(print func(first bool) error) error {
	for first := true; ; first = false {
		a.note(a.res)
		if err := print(first); err != nil {
			return err
		}
		m := &a.res.Rows.Metadata
		if m.Flags&protocol.RowsHasMorePages == 0 || m.PagingState == nil {
			return nil
		}
		if a.ctx.Err() != nil {
			return cause(a.ctx)
		}
		if a.s.o.Lines != nil && a.s.capture == nil && a.s.sources == 0 && !a.unasked && !a.more() {
			return nil
		}
		next := *a.req
		next.PagingState = m.PagingState
		res, err := a.s.conn.Query(a.ctx, &next)
		if err != nil {
			return err
		}
		if a.res = res; res.Kind != protocol.ResultRows {
			return fmt.Errorf("%w: a further page is not made of rows", ErrBroken)
		}
	}
}

// warn prints warnings: after a table, beside data formats.
func (s *Shell) warn(warnings []string) {
	if len(warnings) == 0 {
		return
	}
	w := s.out
	if s.format != Table {
		w = s.o.Err
	}
	fmt.Fprint(w, "\nWarnings :\n")
	for _, text := range warnings {
		fmt.Fprintf(w, "%s\n\n", text)
	}
}

// header returns the names of columns, with colours for their part in the primary key.
func (s *Shell) header(ctx context.Context, columns []protocol.Column, color bool) []cell {
	names := make([]cell, len(columns))
	for i, c := range columns {
		paint := magenta
		if color {
			paint = s.schema.columnColor(ctx, s, c.Keyspace, c.Table, c.Name)
		}
		names[i] = coloredCell(escape(c.Name), paint, color)
	}
	return names
}

// firstWord returns the word a statement begins with, in upper case.
func firstWord(text string) string {
	if strings.HasPrefix(text, "?") {
		return "?"
	}
	n := 0
	for n < len(text) && wordByte(text[n]) {
		n++
	}
	return strings.ToUpper(text[:n])
}

// isSelect tells results whose rows are counted from those of conditional writes.
func isSelect(text string) bool {
	w := firstWord(text)
	return w == "SELECT" || w == "LIST"
}

// readsTraces tells a SELECT from system_traces, which is not traced itself.
func readsTraces(text, keyspace string) bool {
	if firstWord(text) != "SELECT" {
		return false
	}
	list, _ := tokens(text)
	for i, t := range list {
		if t.is("FROM") && i+2 < len(list) {
			if list[i+2].text == "." {
				return strings.EqualFold(list[i+1].text, "system_traces")
			}
			break
		}
	}
	return keyspace == "system_traces"
}

// hostPort returns the server as SHOW HOST calls it.
func (s *Shell) hostPort() string {
	host, port, err := net.SplitHostPort(s.o.Dialing.Addr)
	if err != nil {
		return s.o.Dialing.Addr
	}
	return host + ":" + port
}
