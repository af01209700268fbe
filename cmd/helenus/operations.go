package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/helenusdb/helenus/internal/nodetool"
	"github.com/helenusdb/helenus/node"
)

// operationCommands are those that change who owns what.
func operationCommands() []*cobra.Command {
	return []*cobra.Command{operationsCommand(), abortCommand(), forceCommand(), decommissionCommand(), removeNodeCommand(), moveCommand(), rebalanceCommand(), cleanupCommand()}
}

func operationsCommand() *cobra.Command {
	wait := false
	c := operator("operations", "Show the operations by which ranges are changing hands, how far each node is, and what they wait for", cobra.NoArgs, func(c *cobra.Command, t *target, _ []string) error {
		if !wait {
			return show(c, t, "operations", nil, nodetool.Operations)
		}
		s, raw, err := look(c.Context(), t, nil)
		switch {
		case err != nil:
			return fmt.Errorf("operations: %w", err)
		case len(s.Operations) > 0:
			return await(c, t, s.Operations)
		case t.json:
			_, err = c.OutOrStdout().Write(raw)
			return err
		}
		nodetool.Operations(c.OutOrStdout(), s)
		return nil
	})
	c.Flags().BoolVar(&wait, "wait", false, "show how those that are under way go on, until each has ended")
	return c
}

func abortCommand() *cobra.Command {
	return operator("abort ID", "Abort an operation before reads have moved", cobra.ExactArgs(1), func(c *cobra.Command, t *target, args []string) error {
		return order(c, t, http.MethodDelete, "operations", url.Values{"id": args}, nodetool.Operations)
	})
}

func forceCommand() *cobra.Command {
	yes := false
	c := operator("force ID", "Let an operation go on "+forceUsage, cobra.ExactArgs(1), func(c *cobra.Command, t *target, args []string) error {
		q := url.Values{"id": args}
		if !yes {
			var p node.ForcePreview
			if _, err := t.call(c.Context(), http.MethodGet, "operations/force", q, &p); err != nil {
				return fmt.Errorf("force: %w", err)
			}
			nodetool.ForcePreview(c.ErrOrStderr(), &p)
			if !confirmed(c.InOrStdin(), c.ErrOrStderr()) {
				return errors.New("force: nothing was forced: answer yes, or give --yes")
			}
		}
		return order(c, t, http.MethodPost, "operations/force", q, nodetool.Operations)
	})
	c.Long = "Says what is given up, asks, and then lets the operation go on without the replicas that are down. All operations that are under way move together, and are forced with it."
	c.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	return c
}

// confirmed asks, and tells whether the answer is yes.
func confirmed(in io.Reader, out io.Writer) bool {
	fmt.Fprint(out, "Go on? (yes/no) ")
	line, _ := bufio.NewReader(in).ReadString('\n')
	return strings.EqualFold(strings.TrimSpace(line), "yes")
}

// start begins an operation on each host, all of them or none, and waits for their end if it is to.
func start(c *cobra.Command, t *target, q url.Values, wait bool, hosts ...string) error {
	q["host"] = hosts
	var s node.Operations
	raw, err := t.call(c.Context(), http.MethodPost, "operations", q, &s)
	switch {
	case err != nil:
		return fmt.Errorf("%s: %w", q.Get("kind"), err)
	case wait && len(s.Started) > 0:
		return await(c, t, s.Started)
	case t.json:
		_, err = c.OutOrStdout().Write(raw)
		return err
	}
	nodetool.Operations(c.OutOrStdout(), &s)
	return nil
}

// waitFlag is that of the commands that begin something: nodetool's wait for the end, too.
func waitFlag(c *cobra.Command, wait *bool) {
	c.Flags().BoolVar(wait, "wait", true, "show how it goes on until it has ended, and fail if it is aborted; --wait=false returns at once, and it goes on")
}

const forceUsage = "even if fewer nodes are left than a keyspace has replicas, or too few replicas are alive to know every write"

// leaving returns a command by which nodes go; without hosts the node that is asked, where args lets there be none.
func leaving(kind, use, short string, args cobra.PositionalArgs) *cobra.Command {
	var force, wait bool
	c := operator(use, short, args, func(c *cobra.Command, t *target, hosts []string) error {
		return start(c, t, url.Values{"kind": {kind}, "force": {strconv.FormatBool(force)}}, wait, hosts...)
	})
	c.Flags().BoolVar(&force, "force", false, forceUsage)
	waitFlag(c, &wait)
	return c
}

func decommissionCommand() *cobra.Command {
	return leaving("decommission", "decommission [HOST...]", "Let nodes give their ranges to the others and leave; without HOST the node that is asked", cobra.ArbitraryArgs)
}

func removeNodeCommand() *cobra.Command {
	return leaving("remove", "removenode HOST...", "Take dead nodes out of the cluster; the others make up for them", cobra.MinimumNArgs(1))
}

func moveCommand() *cobra.Command {
	var of string
	var wait bool
	c := operator("move TOKEN...", "Give a node other tokens (negative ones after --)", cobra.MinimumNArgs(1), func(c *cobra.Command, t *target, tokens []string) error {
		return start(c, t, url.Values{"kind": {"move"}, "token": tokens}, wait, of)
	})
	waitFlag(c, &wait)
	c.Flags().StringVar(&of, "of", "", "host id or address of the node that moves; without it the node that is asked")
	return c
}

func rebalanceCommand() *cobra.Command {
	var dry, wait bool
	c := operator("rebalance", "Move tokens until nodes own nearly the same; with --dry-run only show what would move", cobra.NoArgs, func(c *cobra.Command, t *target, _ []string) error {
		method := http.MethodPost
		if dry {
			method = http.MethodGet
		}
		var s node.RebalanceStatus
		raw, err := t.call(c.Context(), method, "rebalance", nil, &s)
		switch {
		case err != nil:
			return fmt.Errorf("rebalance: %w", err)
		case !t.json:
			printRebalance(c.OutOrStdout(), &s, dry)
		case !wait || len(s.Started) == 0:
			_, err = c.OutOrStdout().Write(raw)
			return err
		}
		if !wait || len(s.Started) == 0 {
			return nil
		}
		return await(c, t, s.Started)
	})
	waitFlag(c, &wait)
	c.Flags().BoolVar(&dry, "dry-run", false, "show what would move")
	return c
}

func printRebalance(w io.Writer, s *node.RebalanceStatus, dry bool) {
	if len(s.Moves) == 0 {
		fmt.Fprintf(w, "Nothing to move: the largest share is %.2f times the smallest\n", s.Before)
		return
	}
	verb := "moves"
	if dry {
		verb = "would move"
	}
	fmt.Fprintf(w, "The largest share is %.2f times the smallest, and will be %.2f times; %.1f%% of the data %s:\n", s.Before, s.After, s.Moved*100, verb)
	for _, m := range s.Moves {
		fmt.Fprintf(w, "  %s (%s) to %d other tokens\n", m.Address, m.HostID, len(m.Tokens))
	}
}
