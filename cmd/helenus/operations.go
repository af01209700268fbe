package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/helenusdb/helenus/config"
	"github.com/helenusdb/helenus/internal/nodetool"
	"github.com/helenusdb/helenus/node"
	"github.com/helenusdb/helenus/ring"
)

// operatorTime bounds one request to a node.
const operatorTime = 30 * time.Second

// asker is how commands reach a node's admin interface.
type asker struct {
	host   string
	port   int
	asJSON bool
}

func (o *asker) flags(c *cobra.Command) *cobra.Command {
	c.Flags().StringVar(&o.host, "host", "127.0.0.1", "admin address of a node")
	c.Flags().IntVar(&o.port, "port", config.Default().AdminPort, "admin port of the node")
	c.Flags().BoolVar(&o.asJSON, "json", false, "print JSON")
	return c
}

// ask sends a request and decodes its answer into out, whose bytes it returns too.
func (o *asker) ask(ctx context.Context, method, path string, body, out any) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, operatorTime)
	defer cancel()
	var sent io.Reader
	if body != nil {
		raw, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		sent = bytes.NewReader(raw)
	}
	addr := net.JoinHostPort(o.host, strconv.Itoa(o.port))
	req, err := http.NewRequestWithContext(ctx, method, "http://"+addr+path, sent)
	if err != nil {
		return nil, err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, fmt.Errorf("no node answers at %s: %w", addr, err)
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(res.Body, answerBytesMax))
	switch {
	case err != nil:
		return nil, err
	case res.StatusCode != http.StatusOK:
		return nil, errors.New(strings.TrimPrefix(strings.TrimSpace(string(raw)), "meta: refused: "))
	}
	return raw, json.Unmarshal(raw, out)
}

// show prints the operations that a request was answered with.
func (o *asker) show(c *cobra.Command, method, path string, body any) error {
	var s node.Operations
	raw, err := o.ask(c.Context(), method, path, body, &s)
	switch {
	case err != nil:
		return err
	case o.asJSON:
		_, err := c.OutOrStdout().Write(raw)
		return err
	}
	printOperations(c.OutOrStdout(), &s)
	return nil
}

func printOperations(w io.Writer, s *node.Operations) {
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

const operationsPath = "/api/v1/operations"

// operationCommands are those that change who owns what.
func operationCommands() []*cobra.Command {
	return []*cobra.Command{operationsCommand(), abortCommand(), decommissionCommand(), removeNodeCommand(), moveCommand(), rebalanceCommand()}
}

func operationsCommand() *cobra.Command {
	o := &asker{}
	return o.flags(&cobra.Command{Use: "operations", Short: "Show the operations by which ranges are changing hands, and what they wait for", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return o.show(c, http.MethodGet, operationsPath, nil) }})
}

func abortCommand() *cobra.Command {
	o := &asker{}
	return o.flags(&cobra.Command{Use: "abort ID", Short: "Abort an operation before reads have moved", Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return o.show(c, http.MethodDelete, operationsPath+"/"+args[0], nil)
		}})
}

// start sends one request for each host, and shows what is under way afterwards.
func (o *asker) start(c *cobra.Command, q node.OperationRequest, hosts ...string) error {
	for _, h := range hosts[:len(hosts)-1] {
		q.Host = h
		if _, err := o.ask(c.Context(), http.MethodPost, operationsPath, &q, &node.Operations{}); err != nil {
			return fmt.Errorf("%s: %w", h, err)
		}
	}
	q.Host = hosts[len(hosts)-1]
	return o.show(c, http.MethodPost, operationsPath, &q)
}

func decommissionCommand() *cobra.Command {
	o := &asker{}
	q := node.OperationRequest{Kind: "decommission"}
	c := &cobra.Command{Use: "decommission [HOST...]", Short: "Let nodes give their ranges to the others and leave; without HOST the node that is asked",
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) == 0 {
				args = []string{""}
			}
			return o.start(c, q, args...)
		}}
	c.Flags().BoolVar(&q.Force, "force", false, "even if fewer nodes are left than a keyspace has replicas, or too few replicas are alive to know every write")
	return o.flags(c)
}

func removeNodeCommand() *cobra.Command {
	o := &asker{}
	q := node.OperationRequest{Kind: "remove"}
	c := &cobra.Command{Use: "removenode HOST...", Short: "Take dead nodes out of the cluster; the others make up for them", Args: cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error { return o.start(c, q, args...) }}
	c.Flags().BoolVar(&q.Force, "force", false, "even if fewer nodes are left than a keyspace has replicas, or too few replicas are alive to know every write")
	return o.flags(c)
}

func moveCommand() *cobra.Command {
	o := &asker{}
	q := node.OperationRequest{Kind: "move"}
	var of string
	c := &cobra.Command{Use: "move TOKEN...", Short: "Give a node other tokens (negative ones after --)", Args: cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			q.Tokens = nil
			for _, a := range args {
				t, err := strconv.ParseInt(a, 10, 64)
				if err != nil {
					return fmt.Errorf("%q is no token", a)
				}
				q.Tokens = append(q.Tokens, ring.Token(t))
			}
			return o.start(c, q, of)
		}}
	c.Flags().StringVar(&of, "of", "", "host id or address of the node that moves; without it the node that is asked")
	return o.flags(c)
}

func rebalanceCommand() *cobra.Command {
	o := &asker{}
	var dry bool
	c := &cobra.Command{Use: "rebalance", Short: "Move tokens until nodes own nearly the same; with --dry-run only show what would move", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			method := http.MethodPost
			if dry {
				method = http.MethodGet
			}
			var s node.RebalanceStatus
			raw, err := o.ask(c.Context(), method, "/api/v1/rebalance", nil, &s)
			switch {
			case err != nil:
				return err
			case o.asJSON:
				_, err := c.OutOrStdout().Write(raw)
				return err
			}
			printRebalance(c.OutOrStdout(), &s, dry)
			return nil
		}}
	c.Flags().BoolVar(&dry, "dry-run", false, "show what would move")
	return o.flags(c)
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
