package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/helenusdb/helenus/config"
	"github.com/helenusdb/helenus/cql/system"
	"github.com/helenusdb/helenus/internal/shell"
	"github.com/helenusdb/helenus/meta/formation"
)

// Exit codes; docs/OPERATIONS.md lists them.
const (
	exitError   = 1
	exitRefused = 78 // EX_CONFIG: this node must not take part in the cluster
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	err := root().ExecuteContext(ctx)
	stop()
	if err == nil {
		return
	}
	if !errors.Is(err, shell.ErrFailed) { // that has been printed, as cqlsh does
		fmt.Fprintln(os.Stderr, "helenus:", err)
	}
	var refused *formation.Refused
	if errors.As(err, &refused) {
		os.Exit(exitRefused)
	}
	os.Exit(exitError)
}

func root() *cobra.Command {
	c := &cobra.Command{Use: "helenus", Short: "A Cassandra-compatible wide-column store in one binary",
		SilenceUsage: true, SilenceErrors: true, CompletionOptions: cobra.CompletionOptions{HiddenDefaultCmd: true}}
	c.SetFlagErrorFunc(flagError)
	c.AddCommand(startCommand(), devCommand(), statusCommand(), repairCommand(), rebuildCommand(), shCommand(), benchCommand(), versionCommand())
	c.AddCommand(operatorCommands()...)
	c.AddCommand(snapshotCommands()...)
	c.AddCommand(operationCommands()...)
	return c
}

// flagError adds the flag that may have been meant to the error about one that a command does not have. Cobra does that for
// commands only.
func flagError(c *cobra.Command, err error) error {
	var unknown *pflag.NotExistError
	if !errors.As(err, &unknown) || len(unknown.GetSpecifiedName()) < 2 {
		return err
	}
	var known []string
	c.Flags().VisitAll(func(f *pflag.Flag) {
		if !f.Hidden {
			known = append(known, f.Name)
		}
	})
	if meant := config.Nearest(unknown.GetSpecifiedName(), known); meant != "" {
		return fmt.Errorf("%w, did you mean --%s? (%s --help lists them)", err, meant, c.CommandPath())
	}
	return err
}

func versionCommand() *cobra.Command {
	return &cobra.Command{Use: "version", Short: "Show the version", Args: cobra.NoArgs, RunE: func(c *cobra.Command, _ []string) error {
		_, err := fmt.Fprintf(c.OutOrStdout(), "helenus %s (speaks CQL 3.4.7 and native protocol v3 to v5 as Cassandra %s)\n", version(), system.ReleaseVersion)
		return err
	}}
}

// version is the module's version, or the commit it was built from.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	v := info.Main.Version
	if v == "" {
		v = "devel"
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && len(s.Value) >= 12 && v == "(devel)" {
			v = "devel-" + s.Value[:12]
		}
	}
	return v
}
