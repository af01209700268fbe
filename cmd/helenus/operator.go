package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/helenusdb/helenus/admin"
	"github.com/helenusdb/helenus/config"
	"github.com/helenusdb/helenus/internal/nodetool"
	"github.com/helenusdb/helenus/node"
)

const answerBytesMax = 256 << 20

// target is the admin interface that a command asks.
type target struct {
	host string
	port int
	json bool
	// timeout of the whole command; 0: none, for what takes as long as there is data.
	timeout time.Duration
}

// operator returns a command that asks a node. run is called when its flags are known.
func operator(use, short string, args cobra.PositionalArgs, run func(c *cobra.Command, t *target, args []string) error) *cobra.Command {
	t := &target{timeout: 60 * time.Second}
	c := &cobra.Command{Use: use, Short: short, Args: args, RunE: func(c *cobra.Command, args []string) error { return run(c, t, args) }}
	c.Flags().StringVar(&t.host, "host", "127.0.0.1", "admin address of a node, with or without :PORT")
	c.Flags().IntVar(&t.port, "port", config.Default().AdminPort, "admin port of the node")
	c.Flags().BoolVar(&t.json, "json", false, "print JSON")
	return c
}

func (t *target) addr() string {
	if _, _, err := net.SplitHostPort(t.host); err == nil {
		return t.host
	}
	return net.JoinHostPort(t.host, fmt.Sprint(t.port))
}

// call asks the node and decodes the answer into v; the bytes are returned too.
func (t *target) call(ctx context.Context, method, path string, args url.Values, v any) ([]byte, error) {
	if t.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, t.timeout)
		defer cancel()
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://"+t.addr()+"/api/v1/"+path+"?"+args.Encode(), nil)
	if err != nil {
		return nil, err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, fmt.Errorf("no node answers at %s: %w", t.addr(), err)
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(res.Body, answerBytesMax))
	if err != nil {
		return nil, err
	}
	if res.StatusCode != http.StatusOK {
		var f admin.Failure
		if json.Unmarshal(raw, &f) == nil && f.Error != "" {
			return nil, fmt.Errorf("%s", f.Error)
		}
		return nil, fmt.Errorf("%s answers %s: %s", t.addr(), res.Status, strings.TrimSpace(string(raw)))
	}
	if err := json.Unmarshal(raw, v); err != nil {
		return nil, fmt.Errorf("the answer of %s does not decode: %w", t.addr(), err)
	}
	return raw, nil
}

// show asks with GET and prints the answer, by layout or as JSON.
func show[T any](c *cobra.Command, t *target, path string, args url.Values, layout func(io.Writer, *T)) error {
	return order(c, t, http.MethodGet, path, args, layout)
}

// order is show with another method.
func order[T any](c *cobra.Command, t *target, method, path string, args url.Values, layout func(io.Writer, *T)) error {
	var v T
	raw, err := t.call(c.Context(), method, path, args, &v)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if t.json {
		_, err := c.OutOrStdout().Write(raw)
		return err
	}
	layout(c.OutOrStdout(), &v)
	return nil
}

// tablesOf makes "keyspace table table" of nodetool into names; without tables the keyspace is one, and keyspace.table is taken
// too.
func tablesOf(args []string) []string {
	if len(args) < 2 || strings.Contains(args[0], ".") {
		return args
	}
	var out []string
	for _, t := range args[1:] {
		out = append(out, args[0]+"."+t)
	}
	return out
}

func operatorCommands() []*cobra.Command {
	return []*cobra.Command{infoCommand(), ringCommand(), tableStatsCommand(), compactionStatsCommand(),
		simple("describecluster", "Show name, schema versions, data centres and keyspaces", nodetool.DescribeCluster),
		simple("netstats", "Show the traffic between nodes and read repair", nodetool.NetStats),
		simple("tpstats", "Show the stages of work, as far as Helenus has them", nodetool.PoolStats),
		simple("proxyhistograms", "Show how long requests took that the node coordinated", nodetool.ProxyHistograms),
		simple("gossipinfo", "Show what gossip says about each node", func(w io.Writer, g *[]node.GossipNode) { nodetool.GossipInfo(w, *g) }),
		operator("describering KEYSPACE", "Show the ranges of a keyspace and their replicas", cobra.ExactArgs(1), func(c *cobra.Command, t *target, args []string) error {
			return show(c, t, "describering", url.Values{"keyspace": args[:1]}, nodetool.DescribeRing)
		}),
		operator("getendpoints KEYSPACE TABLE KEY", "Show the replicas of a partition key", cobra.ExactArgs(3), func(c *cobra.Command, t *target, args []string) error {
			return show(c, t, "getendpoints", url.Values{"keyspace": {args[0]}, "table": {args[1]}, "key": {args[2]}}, func(w io.Writer, e *node.EndpointsOf) {
				for _, p := range e.Endpoints {
					fmt.Fprintln(w, p.Host)
				}
			})
		}),
		operator("tablehistograms KEYSPACE TABLE", "Show latencies and partition sizes of a table on the node", cobra.RangeArgs(1, 2), tableHistograms),
		action("flush [KEYSPACE [TABLE...]]", "Write memtables to disk"),
		action("compact [KEYSPACE [TABLE...]]", "Compact tables to the bottom of the store and wait for it"),
	}
}

func simple[T any](name, short string, layout func(io.Writer, *T)) *cobra.Command {
	return operator(name, short, cobra.NoArgs, func(c *cobra.Command, t *target, _ []string) error { return show(c, t, name, nil, layout) })
}

// action is a command that does something and prints nothing.
func action(use, short string) *cobra.Command {
	name, _, _ := strings.Cut(use, " ")
	return operator(use, short, cobra.ArbitraryArgs, func(c *cobra.Command, t *target, args []string) error {
		t.timeout = 0
		if _, err := t.call(c.Context(), http.MethodPost, name, url.Values{"table": tablesOf(args)}, &struct{}{}); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		return nil
	})
}

func tableHistograms(c *cobra.Command, t *target, args []string) error {
	ks, table, _ := strings.Cut(args[0], ".")
	if len(args) == 2 {
		ks, table = args[0], args[1]
	}
	return show(c, t, "tablehistograms", url.Values{"keyspace": {ks}, "table": {table}}, nodetool.TableHistograms)
}

func infoCommand() *cobra.Command {
	tokens := false
	c := operator("info", "Show what the node is and what it uses", cobra.NoArgs, func(c *cobra.Command, t *target, _ []string) error {
		return show(c, t, "info", nil, func(w io.Writer, i *node.Info) { nodetool.Info(w, i, tokens) })
	})
	c.Flags().BoolVarP(&tokens, "tokens", "T", false, "show all tokens")
	return c
}

func ringCommand() *cobra.Command {
	return operator("ring [KEYSPACE]", "Show every token of the ring", cobra.MaximumNArgs(1), func(c *cobra.Command, t *target, args []string) error {
		return show(c, t, "ring", url.Values{"keyspace": args}, nodetool.Ring)
	})
}

func tableStatsCommand() *cobra.Command {
	human := false
	c := operator("tablestats [KEYSPACE | KEYSPACE.TABLE]...", "Show what tables hold and did on the node", cobra.ArbitraryArgs, func(c *cobra.Command, t *target, args []string) error {
		return show(c, t, "tablestats", url.Values{"table": args}, func(w io.Writer, s *[]node.TableStats) { nodetool.TableStats(w, *s, human) })
	})
	c.Flags().BoolVarP(&human, "human-readable", "H", false, "show bytes as KiB, MiB, GiB")
	return c
}

func compactionStatsCommand() *cobra.Command {
	human := false
	c := operator("compactionstats", "Show what compaction has to do and did", cobra.NoArgs, func(c *cobra.Command, t *target, _ []string) error {
		return show(c, t, "compactionstats", nil, func(w io.Writer, s *node.CompactionStats) { nodetool.CompactionStats(w, s, human) })
	})
	c.Flags().BoolVarP(&human, "human-readable", "H", false, "show bytes as KiB, MiB, GiB")
	return c
}
