package shell

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"unicode/utf8"

	"github.com/chzyer/readline"
)

// historyMax bounds the history file, in lines.
const historyMax = 2000

// TerminalOptions configure a Terminal.
type TerminalOptions struct {
	History  string                            // file; "": none
	Complete func(text string) ([]string, int) // see Shell.Complete
	Stdin    io.ReadCloser                     // default: the process's
	Stdout   io.Writer                         // default: the process's
	Width    func() int                        // of the screen; default: asks the terminal
	Raw      bool                              // Stdin is no terminal but behaves as one in raw mode (tests)
}

// Terminal is a LineReader on a real terminal, with editing, history and completion. It owns the goroutines that read
// the terminal; Close ends them.
type Terminal struct {
	rl      *readline.Instance
	pending string // lines of the statement that is being typed
}

// OpenTerminal takes over a terminal. A history that cannot be used is not an error.
func OpenTerminal(o TerminalOptions) (*Terminal, error) {
	t := &Terminal{}
	c := &readline.Config{HistoryFile: o.History, HistoryLimit: historyMax, DisableAutoSaveHistory: true, HistorySearchFold: true,
		Stdin: o.Stdin, Stdout: o.Stdout, Stderr: o.Stdout, FuncGetWidth: o.Width, EOFPrompt: "\n"}
	if o.Complete != nil {
		c.AutoComplete = completer{t, o.Complete}
	}
	if o.Raw {
		nothing := func() error { return nil }
		c.ForceUseInteractive, c.FuncMakeRaw, c.FuncExitRaw = true, nothing, nothing
		c.FuncOnWidthChanged = func(func()) {}
	}
	if o.History != "" {
		private(o.History)
	}
	rl, err := readline.NewEx(c)
	if err != nil {
		return nil, err
	}
	t.rl = rl
	return t, nil
}

// private makes sure that nobody else reads the history.
func private(path string) {
	if f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o600); err == nil {
		f.Close()
	}
}

// HistoryFile returns where the history of the user is kept, "" when he has no folder.
func HistoryFile() string {
	home, err := os.UserHomeDir()
	if err != nil {
		return ""
	}
	return filepath.Join(home, ".helenus_history")
}

// Line implements LineReader.
func (t *Terminal) Line(prompt string) (string, error) {
	if !strings.HasSuffix(prompt, "... ") {
		t.pending = ""
	}
	t.rl.SetPrompt(prompt)
	line, err := t.rl.Readline()
	switch {
	case errors.Is(err, readline.ErrInterrupt):
		t.pending = ""
		return "", ErrInterrupt
	case err != nil:
		return "", err
	}
	t.pending += line + "\n"
	return line, nil
}

// Password implements LineReader.
func (t *Terminal) Password(prompt string) (string, error) {
	b, err := t.rl.ReadPassword(prompt)
	if errors.Is(err, readline.ErrInterrupt) {
		err = ErrInterrupt
	}
	return string(b), err
}

// Remember implements LineReader.
func (t *Terminal) Remember(statement string) {
	if statement != "" {
		_ = t.rl.SaveHistory(statement) // a history that cannot be written is not worth a word
	}
}

// Close gives the terminal back.
func (t *Terminal) Close() error { return t.rl.Close() }

// completer adapts a completion to the library.
type completer struct {
	t        *Terminal
	complete func(string) ([]string, int)
}

// Do implements readline.AutoCompleter. A Tab at the beginning of a line indents.
func (c completer) Do(line []rune, pos int) ([][]rune, int) {
	text := string(line[:pos])
	if strings.TrimSpace(text) == "" && (text != "" || c.t.pending != "") {
		return [][]rune{[]rune("    ")}, 0
	}
	add, typed := c.complete(c.t.pending + text)
	out := make([][]rune, len(add))
	for i, a := range add {
		out[i] = []rune(a)
	}
	return out, utf8.RuneCountInString(text[len(text)-min(typed, len(text)):])
}

// CompleteWith returns a completion for TerminalOptions.
func (s *Shell) CompleteWith(ctx context.Context) func(string) ([]string, int) {
	return func(text string) ([]string, int) { return s.Complete(ctx, text) }
}
