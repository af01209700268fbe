package main

import (
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

func printOperations(w io.Writer, s *node.Operations) {
	for _, n := range s.Keeps {
		fmt.Fprintf(w, "Node %s keeps rows of ranges that it lost in a movement that was forced, which may be nowhere else. To remove them, there: helenus cleanup\n", n)
	}
	if len(s.Operations) == 0 {
		fmt.Fprintln(w, "No operation is under way")
		return
	}
	fmt.Fprintf(w, "Phase: %s\n", s.Phase)
	fmt.Fprintf(w, "%-10s  %-12s  %-36s  %-15s  %s\n", "ID", "Operation", "Host ID / Keyspace", "Address", "")
	for _, o := range s.Operations {
		var more []string
		if o.Replaces != "" {
			more = append(more, "replaces "+o.Replaces)
		}
		if o.Forced {
			more = append(more, "forced")
		}
		fmt.Fprintf(w, "%-10d  %-12s  %-36s  %-15s  %s\n", o.ID, o.Kind, o.HostID+o.Keyspace, o.Address, strings.Join(more, ", "))
	}
	for _, n := range s.WaitsFor {
		up := ""
		if !n.Up {
			up = ", which is down"
		}
		fmt.Fprintf(w, "Waits for %s (%s)%s\n", n.Address, n.HostID, up)
		if n.For != "" {
			fmt.Fprintf(w, "  which waits: %s\n", n.For)
		}
	}
	if s.Stale != "" {
		fmt.Fprintf(w, "Cannot end: %s; start one of those it waits for, or: helenus force ID\n", s.Stale)
	}
	if h := s.Here; h != nil {
		fmt.Fprintf(w, "This node: %d of %d ranges filled, %s received\n", h.RangesDone, h.RangesTotal, nodetool.Size(float64(h.Bytes)))
		if h.Waits != "" {
			fmt.Fprintf(w, "This node waits: %s\n", h.Waits)
		}
		if h.Failed != "" {
			fmt.Fprintf(w, "Failed and tried again: %s\n", h.Failed)
		}
	}
}

// operationCommands are those that change who owns what.
func operationCommands() []*cobra.Command {
	return []*cobra.Command{operationsCommand(), abortCommand(), forceCommand(), decommissionCommand(), removeNodeCommand(), moveCommand(), rebalanceCommand(), cleanupCommand()}
}

func operationsCommand() *cobra.Command {
	return operator("operations", "Show the operations by which ranges are changing hands, and what they wait for", cobra.NoArgs, func(c *cobra.Command, t *target, _ []string) error {
		return show(c, t, "operations", nil, printOperations)
	})
}

func abortCommand() *cobra.Command {
	return operator("abort ID", "Abort an operation before reads have moved", cobra.ExactArgs(1), func(c *cobra.Command, t *target, args []string) error {
		return order(c, t, http.MethodDelete, "operations", url.Values{"id": args}, printOperations)
	})
}

func forceCommand() *cobra.Command {
	return operator("force ID", "Let an operation go on "+forceUsage, cobra.ExactArgs(1), func(c *cobra.Command, t *target, args []string) error {
		return order(c, t, http.MethodPost, "operations/force", url.Values{"id": args}, printOperations)
	})
}

// start sends one request for each host, and shows what is under way afterwards.
func start(c *cobra.Command, t *target, q url.Values, hosts ...string) error {
	for _, h := range hosts[:len(hosts)-1] {
		q.Set("host", h)
		if _, err := t.call(c.Context(), http.MethodPost, "operations", q, &node.Operations{}); err != nil {
			return fmt.Errorf("%s: %w", h, err)
		}
	}
	q.Set("host", hosts[len(hosts)-1])
	return order(c, t, http.MethodPost, "operations", q, printOperations)
}

const forceUsage = "even if fewer nodes are left than a keyspace has replicas, or too few replicas are alive to know every write"

// leaving returns a command by which nodes go; without hosts the node that is asked, where args lets there be none.
func leaving(kind, use, short string, args cobra.PositionalArgs) *cobra.Command {
	var force bool
	c := operator(use, short, args, func(c *cobra.Command, t *target, hosts []string) error {
		if len(hosts) == 0 {
			hosts = []string{""}
		}
		return start(c, t, url.Values{"kind": {kind}, "force": {strconv.FormatBool(force)}}, hosts...)
	})
	c.Flags().BoolVar(&force, "force", false, forceUsage)
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
	c := operator("move TOKEN...", "Give a node other tokens (negative ones after --)", cobra.MinimumNArgs(1), func(c *cobra.Command, t *target, tokens []string) error {
		return start(c, t, url.Values{"kind": {"move"}, "token": tokens}, of)
	})
	c.Flags().StringVar(&of, "of", "", "host id or address of the node that moves; without it the node that is asked")
	return c
}

func rebalanceCommand() *cobra.Command {
	var dry bool
	c := operator("rebalance", "Move tokens until nodes own nearly the same; with --dry-run only show what would move", cobra.NoArgs, func(c *cobra.Command, t *target, _ []string) error {
		method := http.MethodPost
		if dry {
			method = http.MethodGet
		}
		return order(c, t, method, "rebalance", nil, func(w io.Writer, s *node.RebalanceStatus) { printRebalance(w, s, dry) })
	})
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
