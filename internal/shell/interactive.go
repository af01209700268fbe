package shell

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/clipperhouse/displaywidth"
)

// Interact serves the user at o.Lines until he leaves or ctx ends. Errors: those of the terminal.
func (s *Shell) Interact(ctx context.Context) error {
	fmt.Fprintf(s.o.Out, "Connected to %s at %s\n", coloredCell(s.info.cluster, blue, s.o.Color).colored, s.hostPort())
	s.showVersion()
	fmt.Fprintln(s.o.Out, "Use HELP for help.")
	var sp Splitter
	for ctx.Err() == nil {
		line, err := s.o.Lines.Line(s.prompt(&sp))
		switch {
		case errors.Is(err, ErrInterrupt):
			sp.Reset()
			continue
		case errors.Is(err, io.EOF):
			if sp.Pending() != "" {
				fmt.Fprintln(s.o.Err, "Incomplete statement at end of input, not carried out")
			}
			return nil
		case err != nil:
			return err
		}
		if err := s.typed(ctx, &sp, line); errors.Is(err, errExit) {
			return nil
		} else if err != nil {
			return err
		}
	}
	return nil
}

// typed takes a line and carries out the statements that it completes.
func (s *Shell) typed(ctx context.Context, sp *Splitter, line string) error {
	if err := sp.Add(line + "\n"); err != nil {
		return s.complain("", err.Error())
	}
	for {
		st, ok := sp.Next()
		if !ok {
			return nil
		}
		if !secret(st.Text) {
			s.o.Lines.Remember(historyLine(st.Text))
		}
		if err := s.carryOut(ctx, st, ""); err != nil {
			return err
		}
	}
}

// secret tells statements that hold a password, which the history must not keep.
func secret(text string) bool {
	if firstWord(text) == "LOGIN" {
		return true
	}
	list, _ := tokens(text)
	for _, t := range list {
		if t.is("PASSWORD") || t.is("HASHED") {
			return true
		}
	}
	return false
}

// historyLine makes one line of a statement, where its lines can be joined.
func historyLine(text string) string {
	if w := firstWord(text); !endsWithLine(w) {
		text += ";"
	}
	if !strings.Contains(text, "\n") {
		return text
	}
	if strings.Contains(text, "--") || strings.Contains(text, "//") {
		return ""
	}
	return strings.Join(strings.FieldsFunc(text, func(r rune) bool { return r == '\n' || r == '\r' }), " ")
}

// prompt is helenus@keyspace> or, within a statement, three dots under its end.
func (s *Shell) prompt(sp *Splitter) string {
	name := "helenus"
	if s.keyspace != "" {
		name += "@" + s.keyspace
	}
	if s.o.Dialing.User != "" {
		name = s.o.Dialing.User + "@" + name
	}
	if sp.Pending() != "" || sp.Open() {
		return strings.Repeat(" ", max(displaywidth.String(name)-2, 0)) + "... "
	}
	if !utf8.ValidString(name) {
		name = "helenus"
	}
	return name + "> "
}
