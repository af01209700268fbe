package main

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/helenusdb/helenus/config"
	"github.com/helenusdb/helenus/node"
)

func startCommand() *cobra.Command {
	var printConfig, clearSuspect, voteUnsettled bool
	var replace string
	c := &cobra.Command{Use: "start", Short: "Run a node", Args: cobra.NoArgs,
		Long: "Run a node until SIGTERM or SIGINT, then drain and stop.\n\nEvery key can stand in helenus.yaml, in the environment as HELENUS_KEY, or be given as a flag; flags win over the\nenvironment, the environment over the file.",
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, err := config.Load(c.Flags(), os.Environ())
			if err != nil {
				return err
			}
			if printConfig {
				return cfg.Print(c.OutOrStdout())
			}
			return run(c, cfg, node.Options{ClearSuspect: clearSuspect, VoteUnsettled: voteUnsettled, Replace: replace})
		}}
	c.Flags().BoolVar(&printConfig, "print-config", false, "print the configuration as it would be used, and exit")
	c.Flags().BoolVar(&clearSuspect, "clear-suspect", false, "the end of a log was found missing and what was lost is back from the other nodes (docs/OPERATIONS.md): purge again, and vote on conditional writes again once what was forgotten of them is settled with the other replicas")
	c.Flags().BoolVar(&voteUnsettled, "vote-unsettled", false, "vote on conditional writes although what this node has forgotten of them is not settled, since the replicas that it waits for are gone for good: one that was acknowledged may be lost")
	c.Flags().StringVar(&replace, "replace", "", "host id or address of a dead node whose place and tokens this empty node takes")
	config.AddFlags(c.Flags())
	return c
}

func run(c *cobra.Command, cfg *config.Config, o node.Options) error {
	log, err := logger(os.Stderr, cfg)
	if err != nil {
		return err
	}
	limitMemory(cfg)
	o.Config, o.Logger, o.Version, o.Filler, o.Now = cfg, log, version(), node.Filling, wallClock()
	n, err := node.New(o)
	if err != nil {
		return err
	}
	log.Info("helenus starts", "version", version(), "cluster", cfg.ClusterName, "listen", cfg.Internode().String(), "native", cfg.Native().String())
	return n.Run(c.Context())
}

// limitMemory makes the garbage collector keep the process near its target: most of the heap is caches that stay, and
// without a limit garbage may double them.
func limitMemory(cfg *config.Config) {
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(int64(cfg.MemoryTarget()))
	}
}

func logger(w io.Writer, cfg *config.Config) (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(cfg.LogLevel)); err != nil {
		return nil, fmt.Errorf("log_level: %w", err)
	}
	o := &slog.HandlerOptions{Level: level}
	if cfg.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(w, o)), nil
	}
	return slog.New(slog.NewTextHandler(w, o)), nil
}
