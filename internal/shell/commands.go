package shell

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/helenusdb/helenus/cql/protocol"
	"github.com/helenusdb/helenus/cql/types"
)

// command is one of the shell's own commands.
type command struct {
	names []string // the first one is shown
	usage []string
	help  string
	run   func(s *Shell, ctx context.Context, args []token, text string) error
}

// commands returns the shell's commands in the order of HELP.
func commands() []command {
	return []command{
		{[]string{"CAPTURE"}, []string{"CAPTURE 'file'", "CAPTURE OFF", "CAPTURE"}, "Append the output of queries to a file instead of showing it.", (*Shell).doCapture},
		{[]string{"CLEAR", "CLS"}, []string{"CLEAR"}, "Clear the screen.", (*Shell).doClear},
		{[]string{"CONSISTENCY"}, []string{"CONSISTENCY", "CONSISTENCY level"}, "Show or set the consistency level: ANY, ONE, TWO, THREE, QUORUM, ALL, LOCAL_ONE, LOCAL_QUORUM, EACH_QUORUM, SERIAL, LOCAL_SERIAL.", (*Shell).doConsistency},
		{[]string{"COPY"}, []string{"COPY"}, "Not available here: cqlsh has it, and works with this server.", (*Shell).doCopy},
		{[]string{"DESCRIBE", "DESC"}, []string{"DESCRIBE [FULL] SCHEMA", "DESCRIBE CLUSTER", "DESCRIBE KEYSPACES | TABLES | TYPES | FUNCTIONS | AGGREGATES",
			"DESCRIBE KEYSPACE [name]", "DESCRIBE TABLE | INDEX | MATERIALIZED VIEW | TYPE | FUNCTION | AGGREGATE [keyspace.]name", "DESCRIBE [keyspace.]name"},
			"Show the schema, as statements that would create it again.", (*Shell).doDescribe},
		{[]string{"EXIT", "QUIT"}, []string{"EXIT"}, "Leave; so does Ctrl-D.", func(*Shell, context.Context, []token, string) error { return errExit }},
		{[]string{"EXPAND"}, []string{"EXPAND", "EXPAND ON | OFF"}, "Show each column of a row on a line of its own.", (*Shell).doExpand},
		{[]string{"HELP", "?"}, []string{"HELP", "HELP command"}, "Show the commands.", (*Shell).doHelp},
		{[]string{"LOGIN"}, []string{"LOGIN user ['password']"}, "Connect again as another user; without a password it is asked for.", (*Shell).doLogin},
		{[]string{"OUTPUT"}, []string{"OUTPUT", "OUTPUT TABLE | CSV | JSON"}, "Show or set how rows are printed.", (*Shell).doOutput},
		{[]string{"PAGING"}, []string{"PAGING", "PAGING ON | OFF", "PAGING rows"}, "Fetch results in pages, of 100 rows if not told otherwise.", (*Shell).doPaging},
		{[]string{"SERIAL"}, []string{"SERIAL CONSISTENCY", "SERIAL CONSISTENCY SERIAL | LOCAL_SERIAL"}, "Show or set the level of the Paxos part of conditional statements.", (*Shell).doSerial},
		{[]string{"SHOW"}, []string{"SHOW VERSION", "SHOW HOST", "SHOW SESSION id"}, "Show versions, the server, or a trace.", (*Shell).doShow},
		{[]string{"SOURCE"}, []string{"SOURCE 'file'"}, "Carry out the statements in a file.", (*Shell).doSource},
		{[]string{"TRACING"}, []string{"TRACING", "TRACING ON | OFF"}, "Trace each request and show the trace after its result.", (*Shell).doTracing},
	}
}

func findCommand(name string) *command {
	for _, c := range commands() {
		if slices.Contains(c.names, name) {
			return &c
		}
	}
	return nil
}

// endsWithLine tells the first words of commands that need no semicolon.
func endsWithLine(first string) bool {
	switch first {
	case "HELP", "?", "CONSISTENCY", "SERIAL", "DESCRIBE", "DESC", "SHOW", "SOURCE", "CAPTURE", "LOGIN", "TRACING", "EXPAND", "OUTPUT",
		"PAGING", "EXIT", "QUIT", "CLEAR", "CLS":
		return true
	}
	return false
}

// errUsage makes command print how a command is used.
var errUsage = errors.New("usage")

func (s *Shell) command(ctx context.Context, c *command, text string) error {
	list, _ := tokens(text)
	err := c.run(s, ctx, list[1:], text)
	if errors.Is(err, errUsage) {
		return fmt.Errorf("Improper %s command. Use: %s", c.names[0], strings.Join(c.usage, "; "))
	}
	return err
}

func onOff(on bool) string {
	if on {
		return "ON"
	}
	return "OFF"
}

// toggle carries out ON, OFF, or nothing, which shows the state.
func (s *Shell) toggle(name string, state *bool, args []token) error {
	switch {
	case len(args) == 0:
		fmt.Fprintf(s.o.Out, "%s is %s\n", name, onOff(*state))
	case len(args) == 1 && (args[0].is("ON") || args[0].is("OFF")):
		want := args[0].is("ON")
		verb := "set to"
		if want == *state {
			verb = "is already"
			fmt.Fprintf(s.o.Out, "%s %s %s\n", name, verb, onOff(want))
			return nil
		}
		*state = want
		fmt.Fprintf(s.o.Out, "%s %s %s\n", name, verb, onOff(want))
	default:
		return errUsage
	}
	return nil
}

func (s *Shell) doExpand(_ context.Context, args []token, _ string) error {
	return s.toggle("EXPAND", &s.expand, args)
}

func (s *Shell) doTracing(_ context.Context, args []token, _ string) error {
	return s.toggle("TRACING", &s.tracing, args)
}

func (s *Shell) doPaging(_ context.Context, args []token, _ string) error {
	if len(args) == 1 && args[0].text != "" && args[0].text[0] >= '0' && args[0].text[0] <= '9' {
		n, err := strconv.ParseInt(args[0].text, 10, 32)
		if err != nil || n < 1 {
			return errUsage
		}
		s.paging, s.pageSize = true, int32(n)
	} else if err := s.toggle("PAGING", &s.paging, args); err != nil {
		return err
	}
	if s.paging {
		fmt.Fprintf(s.o.Out, "Page size: %d\n", s.pageSize)
	} else {
		s.pageSize = pageSizeDefault
	}
	return nil
}

func (s *Shell) doOutput(_ context.Context, args []token, _ string) error {
	switch len(args) {
	case 0:
		fmt.Fprintf(s.o.Out, "OUTPUT is %s\n", strings.ToUpper(string(s.format)))
		return nil
	case 1:
		f, err := ParseFormat(args[0].text)
		if err != nil {
			return errUsage
		}
		s.format = f
		return nil
	}
	return errUsage
}

func (s *Shell) doConsistency(_ context.Context, args []token, _ string) error {
	switch len(args) {
	case 0:
		fmt.Fprintf(s.o.Out, "Current consistency level is %s.\n", s.consistency)
		return nil
	case 1:
		level, err := protocol.ParseConsistency(args[0].text)
		if err != nil {
			return errUsage
		}
		s.consistency = level
		fmt.Fprintf(s.o.Out, "Consistency level set to %s.\n", level)
		return nil
	}
	return errUsage
}

func (s *Shell) doSerial(_ context.Context, args []token, _ string) error {
	if len(args) == 0 || len(args) > 2 || !args[0].is("CONSISTENCY") {
		return errUsage
	}
	if len(args) == 1 {
		fmt.Fprintf(s.o.Out, "Current serial consistency level is %s.\n", s.serial)
		return nil
	}
	level, err := protocol.ParseConsistency(args[1].text)
	if err != nil || !level.IsSerial() {
		return errUsage
	}
	s.serial = level
	fmt.Fprintf(s.o.Out, "Serial consistency level set to %s.\n", level)
	return nil
}

func (s *Shell) doCopy(context.Context, []token, string) error {
	return errors.New("COPY is not available here: use cqlsh, which works with this server, or --output csv and INSERT statements")
}

func (s *Shell) doClear(context.Context, []token, string) error {
	if s.o.Lines != nil {
		fmt.Fprint(s.o.Out, "\x1b[H\x1b[2J\x1b[3J")
	}
	return nil
}

func (s *Shell) doHelp(_ context.Context, args []token, _ string) error {
	if len(args) == 0 {
		fmt.Fprintln(s.o.Out, "\nCommands of the shell (HELP command says more); everything else is CQL and ends with a semicolon:")
		for _, c := range commands() {
			fmt.Fprintf(s.o.Out, "  %-12s %s\n", c.names[0], c.help)
		}
		fmt.Fprintln(s.o.Out)
		return nil
	}
	for _, a := range args {
		c := findCommand(strings.ToUpper(a.text))
		if c == nil {
			return fmt.Errorf("No help on %s", a.text)
		}
		fmt.Fprintf(s.o.Out, "\n%s\n\n", c.help)
		for _, u := range c.usage {
			fmt.Fprintf(s.o.Out, "  %s\n", u)
		}
		fmt.Fprintln(s.o.Out)
	}
	return nil
}

func (s *Shell) doShow(ctx context.Context, args []token, text string) error {
	switch {
	case len(args) == 1 && args[0].is("VERSION"):
		s.showVersion()
	case len(args) == 1 && args[0].is("HOST"):
		fmt.Fprintf(s.o.Out, "Connected to %s at %s\n", coloredCell(s.info.cluster, blue, s.o.Color).colored, s.hostPort())
	case len(args) > 1 && args[0].is("SESSION"):
		fields := strings.Fields(text)
		id, ok := parseUUID(fields[len(fields)-1])
		if !ok || len(fields) != 3 {
			return errUsage
		}
		return s.printTrace(ctx, id, false)
	default:
		return errUsage
	}
	return nil
}

func (s *Shell) showVersion() {
	fmt.Fprintf(s.o.Out, "[%s %s | Cassandra %s | CQL spec %s | Native protocol v%d]\n", s.o.Name, s.o.Version, s.info.release, s.info.cql, s.conn.Version())
}

// expandHome replaces a leading ~/ by the user's folder.
func expandHome(path string) string {
	if rest, ok := strings.CutPrefix(path, "~/"); ok {
		if home, err := os.UserHomeDir(); err == nil {
			return filepath.Join(home, rest)
		}
	}
	return path
}

func (s *Shell) doSource(ctx context.Context, args []token, _ string) error {
	if len(args) != 1 || args[0].kind != quoted {
		return errUsage
	}
	if s.sources >= sourceDepthMax {
		return fmt.Errorf("Could not open '%s': more than %d files source one another", args[0].text, sourceDepthMax)
	}
	f, err := os.Open(expandHome(args[0].text))
	if err != nil {
		return fmt.Errorf("Could not open '%s': %w", args[0].text, err)
	}
	defer f.Close()
	s.sources++
	defer func() { s.sources-- }()
	err = s.script(ctx, args[0].text, f, false)
	if errors.Is(err, errExit) {
		return nil // of the file, not of the shell
	}
	return err
}

func (s *Shell) doCapture(_ context.Context, args []token, _ string) error {
	switch {
	case len(args) == 0 && s.capture == nil:
		fmt.Fprintln(s.o.Out, "Currently not capturing query output.")
	case len(args) == 0:
		fmt.Fprintf(s.o.Out, "Currently capturing query output to '%s'.\n", s.capture.Name())
	case len(args) != 1 || args[0].kind != quoted && !args[0].is("OFF"):
		return errUsage
	case args[0].kind == word:
		if s.capture == nil {
			return errors.New("Not currently capturing output.")
		}
		err := s.capture.Close()
		s.capture, s.out = nil, s.o.Out
		return err
	case s.capture != nil:
		return fmt.Errorf("Already capturing output to '%s'. Use CAPTURE OFF to disable.", s.capture.Name())
	default:
		f, err := os.OpenFile(expandHome(args[0].text), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
		if err != nil {
			return fmt.Errorf("Could not open '%s' for append: %w", args[0].text, err)
		}
		s.capture, s.out = f, f
		fmt.Fprintf(s.o.Out, "Now capturing query output to '%s'.\n", args[0].text)
	}
	return nil
}

func (s *Shell) doLogin(ctx context.Context, args []token, _ string) error {
	if len(args) < 1 || len(args) > 2 || len(args) == 2 && args[1].kind != quoted {
		return errUsage
	}
	d := s.o.Dialing
	d.User, d.Keyspace = args[0].text, s.keyspace
	switch {
	case len(args) == 2:
		d.Password = args[1].text
	case s.o.Lines == nil:
		return errUsage
	default:
		password, err := s.o.Lines.Password("Password: ")
		if err != nil {
			return nil //nolint:nilerr // the user changed his mind
		}
		d.Password = password
	}
	c, err := Dial(ctx, d)
	if err != nil {
		return err
	}
	s.conn.Close()
	s.conn, s.o.Dialing = c, d
	s.schema.forget()
	return nil
}

// describeError is a failure of DESCRIBE, of which cqlsh shows the message alone.
type describeError struct{ cause *protocol.Error }

// Error returns the server's message.
func (e *describeError) Error() string { return e.cause.Message }

// doDescribe sends DESCRIBE to the server and prints the answer by its shape.
func (s *Shell) doDescribe(ctx context.Context, args []token, text string) error {
	if len(args) == 0 {
		return errUsage
	}
	req := s.request(text)
	req.Consistency, req.Tracing = protocol.LocalOne, false
	res, err := s.conn.Query(ctx, req)
	var e *protocol.Error
	if errors.As(err, &e) && !errors.Is(err, ErrBroken) {
		if e.Code == protocol.CodeInvalid {
			return &describeError{e}
		}
		return err
	}
	if err != nil {
		return err
	}
	run := &answer{s: s, ctx: ctx, req: req, res: res, unasked: true}
	if res.Kind == protocol.ResultRows {
		err = run.description(args)
	}
	run.note(run.res)
	s.warn(run.warnings)
	return err
}

func (a *answer) description(args []token) error {
	s := a.s
	if s.format != Table {
		return a.rows()
	}
	index := map[string]int{}
	for i, c := range a.res.Rows.Metadata.Columns {
		index[c.Name] = i
	}
	var names [][2]string // keyspace, name
	err := a.pages(func(bool) error {
		for r := &a.res.Rows; r.Next(); {
			if i, ok := index["create_statement"]; ok {
				fmt.Fprintf(s.out, "\n%s\n", r.Value(i))
			} else if i, ok := index["cluster"]; ok {
				s.describeCluster(r, i, index)
			} else if i, ok := index["name"]; ok {
				names = append(names, [2]string{string(r.Value(index["keyspace_name"])), string(r.Value(i))})
			}
		}
		return a.res.Rows.Err()
	})
	if err != nil || len(names) == 0 {
		return err
	}
	if args[0].is("KEYSPACES") {
		fmt.Fprintln(s.out)
		var list []string
		for _, n := range names {
			list = append(list, n[1])
		}
		columnize(s.out, list)
	} else {
		s.describeNames(names)
	}
	fmt.Fprintln(s.out)
	return nil
}

// describeNames prints names keyspace by keyspace; they come sorted.
func (s *Shell) describeNames(names [][2]string) {
	for len(names) > 0 {
		keyspace, list := names[0][0], []string(nil)
		for len(names) > 0 && names[0][0] == keyspace {
			list = append(list, names[0][1])
			names = names[1:]
		}
		fmt.Fprintln(s.out)
		if s.keyspace == "" {
			title := "Keyspace " + keyspace
			fmt.Fprintf(s.out, "%s\n%s\n", title, strings.Repeat("-", len(title)))
		}
		columnize(s.out, list)
	}
}

func (s *Shell) describeCluster(r *protocol.Rows, cluster int, index map[string]int) {
	fmt.Fprintf(s.out, "\nCluster: %s\nPartitioner: %s\nSnitch: %s\n\n", r.Value(cluster), r.Value(index["partitioner"]), r.Value(index["snitch"]))
	i, ok := index["range_ownership"]
	if !ok {
		return
	}
	fmt.Fprintln(s.out, "Range ownership:")
	t := r.Metadata.Columns[i].Type
	for it := t.Iter(r.Value(i)); t.Kind == types.KindMap; {
		token, ok := it.Next()
		if !ok {
			break
		}
		owners, _ := it.Next()
		var hosts []string
		for at := t.Elems[1].Iter(owners); ; {
			h, ok := at.Next()
			if !ok {
				break
			}
			hosts = append(hosts, string(h))
		}
		fmt.Fprintf(s.out, " %39s  [%s]\n", token, strings.Join(hosts, ", "))
	}
	fmt.Fprintln(s.out)
}

// agreementWait is how long nodes may take to know a change of the schema; agreementPause lies between two looks.
const (
	agreementWait  = 3 * time.Second
	agreementPause = 100 * time.Millisecond
)

// agree waits after a change of the schema until all nodes have it, as drivers do.
func (a *answer) agree() error {
	for end := time.Now().Add(agreementWait); ; {
		versions := map[string]bool{}
		for _, q := range []string{"SELECT schema_version FROM system.local WHERE key = 'local'", "SELECT schema_version FROM system.peers"} {
			r, err := a.s.query(a.ctx, q)
			if err != nil {
				return nil //nolint:nilerr // the change itself succeeded
			}
			for r.Rows.Next() {
				if v := r.Rows.Value(0); v != nil {
					versions[string(v)] = true
				}
			}
		}
		if len(versions) <= 1 {
			return nil
		}
		if time.Now().After(end) {
			fmt.Fprintln(a.s.o.Err, "Warning: schema version mismatch detected; check the schema versions of your nodes in system.local and system.peers.")
			return nil
		}
		select {
		case <-a.ctx.Done():
			return cause(a.ctx)
		case <-time.After(agreementPause):
		}
	}
}
