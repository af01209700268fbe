package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/helenusdb/helenus/internal/shell"
	"github.com/helenusdb/helenus/internal/tlsconf"
)

type shOptions struct {
	execute, file, keyspace string
	output, color           string
	user, password          string
	passwordFile            string
	keepGoing, noHistory    bool
	connect, request        time.Duration
	tls                     bool
	ca, cert, key           string
}

func shCommand() *cobra.Command {
	var o shOptions
	c := &cobra.Command{Use: "sh [HOST] [PORT]", Short: "Run CQL, interactively or from a script", Args: cobra.MaximumNArgs(2),
		Long: "Run CQL against any server that speaks the native protocol, by default 127.0.0.1:9042.\n\n" +
			"Without -e and -f statements come from the terminal, or from a pipe. Scripts end at the first error, with exit\n" +
			"code 1, unless --keep-going. HELP shows the shell's own commands.",
		RunE: func(c *cobra.Command, args []string) error { return sh(c, o, args) }}
	f := c.Flags()
	f.StringVarP(&o.execute, "execute", "e", "", "carry out these statements and leave")
	f.StringVarP(&o.file, "file", "f", "", "carry out the statements in this file and leave")
	f.StringVarP(&o.keyspace, "keyspace", "k", "", "keyspace to use")
	f.StringVar(&o.output, "output", "table", "how rows are printed: table, csv or json")
	f.StringVar(&o.color, "color", "auto", "colours: auto (on a terminal, unless NO_COLOR is set), always or never")
	f.StringVarP(&o.user, "user", "u", "", "user to authenticate as")
	f.StringVarP(&o.password, "password", "p", "", "password; better asked for, or in --password-file")
	f.StringVar(&o.passwordFile, "password-file", "", "file that holds the password")
	f.BoolVar(&o.keepGoing, "keep-going", false, "do not end a script at the first error")
	f.BoolVar(&o.noHistory, "no-history", false, "do not read or write ~/.helenus_history")
	f.DurationVar(&o.connect, "connect-timeout", 5*time.Second, "longest time to connect")
	f.DurationVar(&o.request, "request-timeout", 60*time.Second, "longest time to wait for an answer, 0: no limit")
	f.BoolVar(&o.tls, "tls", false, "use TLS")
	f.StringVar(&o.ca, "tls-ca", "", "PEM file of the authorities that sign the server's certificate (default: the system's); implies --tls")
	f.StringVar(&o.cert, "tls-cert", "", "PEM file of the client's certificate, where the server asks for one; implies --tls")
	f.StringVar(&o.key, "tls-key", "", "PEM file of the client's key")
	c.MarkFlagsMutuallyExclusive("execute", "file")
	c.MarkFlagsMutuallyExclusive("password", "password-file")
	return c
}

func sh(c *cobra.Command, o shOptions, args []string) error {
	format, err := shell.ParseFormat(o.output)
	if err != nil {
		return err
	}
	d, err := o.dialing(args)
	if err != nil {
		return err
	}
	interactive := !c.Flags().Changed("execute") && o.file == "" && term.IsTerminal(int(os.Stdin.Fd())) && term.IsTerminal(int(os.Stdout.Fd()))
	color, err := colored(o.color)
	if err != nil {
		return err
	}
	// SIGINT ends the command's context, but here it ends a statement only.
	ctx, stop := signal.NotifyContext(context.WithoutCancel(c.Context()), syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	so := shell.Options{Dialing: d, Format: format, Color: color, Out: c.OutOrStdout(), Err: c.ErrOrStderr(), KeepGoing: o.keepGoing,
		Name: "helenus sh", Version: version()}
	if interactive {
		so.Interruptible = func(ctx context.Context) (context.Context, context.CancelFunc) {
			return signal.NotifyContext(ctx, os.Interrupt)
		}
	} else {
		var done context.CancelFunc
		ctx, done = signal.NotifyContext(ctx, os.Interrupt)
		defer done()
	}
	s := shell.New(so)
	defer s.Close()
	if err := s.Connect(ctx); err != nil {
		return fmt.Errorf("sh: %w", err)
	}
	switch {
	case interactive:
		return o.interact(ctx, s)
	case c.Flags().Changed("execute"):
		return s.Script(ctx, "<stdin>", strings.NewReader(o.execute), true)
	case o.file != "":
		f, err := os.Open(o.file)
		if err != nil {
			return fmt.Errorf("sh: %w", err)
		}
		defer f.Close()
		return s.Script(ctx, o.file, f, false)
	}
	return s.Script(ctx, "<stdin>", c.InOrStdin(), false)
}

func (o *shOptions) interact(ctx context.Context, s *shell.Shell) error {
	history := ""
	if !o.noHistory {
		history = shell.HistoryFile()
	}
	t, err := shell.OpenTerminal(shell.TerminalOptions{History: history, Complete: s.CompleteWith(ctx)})
	if err != nil {
		return fmt.Errorf("sh: %w", err)
	}
	defer t.Close()
	s.SetLines(t)
	stop := context.AfterFunc(ctx, func() { t.Close() })
	defer stop()
	return s.Interact(ctx)
}

func (o *shOptions) dialing(args []string) (shell.Dialing, error) {
	host, port := "127.0.0.1", "9042"
	if len(args) > 0 {
		host = args[0]
	}
	if len(args) > 1 {
		port = args[1]
	}
	d := shell.Dialing{Addr: net.JoinHostPort(strings.Trim(host, "[]"), port), User: o.user, Password: o.password, Keyspace: o.keyspace,
		ConnectTimeout: o.connect, RequestTimeout: o.request}
	var err error
	switch {
	case o.passwordFile != "":
		d.Password, err = readPassword(o.passwordFile)
	case o.user != "" && o.password == "" && term.IsTerminal(int(os.Stdin.Fd())):
		fmt.Fprint(os.Stderr, "Password: ")
		var b []byte
		b, err = term.ReadPassword(int(os.Stdin.Fd()))
		fmt.Fprintln(os.Stderr)
		d.Password = string(b)
	}
	if err != nil {
		return d, fmt.Errorf("sh: password: %w", err)
	}
	d.TLS, err = o.tlsConfig()
	return d, err
}

const passwordBytesMax = 4096

func readPassword(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, passwordBytesMax))
	return strings.TrimRight(string(b), "\r\n"), err
}

func (o *shOptions) tlsConfig() (*tls.Config, error) {
	if !o.tls && o.ca == "" && o.cert == "" {
		return nil, nil
	}
	src, err := tlsconf.Load(tlsconf.Options{CAFile: o.ca, CertFile: o.cert, KeyFile: o.key})
	if err != nil {
		return nil, fmt.Errorf("sh: %w", err)
	}
	return src.Client(), nil
}

func colored(when string) (bool, error) {
	switch when {
	case "always":
		return true, nil
	case "never":
		return false, nil
	case "auto":
		return os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb" && term.IsTerminal(int(os.Stdout.Fd())), nil
	}
	return false, errors.New("--color is auto, always or never")
}
