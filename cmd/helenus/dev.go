package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/helenusdb/helenus/config"
	"github.com/helenusdb/helenus/node"
	"github.com/helenusdb/helenus/storage"
)

const (
	devNodesMax     = 9
	devNodesDefault = 3
)

type devOptions struct {
	nodes     int
	dir       string
	ephemeral bool
	verbose   bool
	subnet    string
}

func devCommand() *cobra.Command {
	var o devOptions
	c := &cobra.Command{Use: "dev", Short: "Run a small cluster in one process, on 127.0.0.1, 127.0.0.2, ...", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := o.resume(c.Flags().Changed("nodes")); err != nil {
				return err
			}
			return dev(c.Context(), c.OutOrStdout(), o)
		}}
	c.Flags().IntVar(&o.nodes, "nodes", devNodesDefault, "number of nodes of a new cluster; one that is kept has as many as it was made with")
	c.Flags().StringVar(&o.dir, "dir", "dev-data", "folder that keeps the cluster between runs")
	c.Flags().BoolVar(&o.ephemeral, "ephemeral", false, "keep everything in memory, forget it at the end")
	c.Flags().BoolVarP(&o.verbose, "verbose", "v", false, "show the nodes' logs")
	c.Flags().StringVar(&o.subnet, "subnet", "127.0.0", "first three numbers of the loopback addresses")
	return c
}

// resume finds out how many nodes the folder's cluster was made with, and takes as many. A number that was chosen has to be that
// one: with fewer the others would be down, and further ones cannot join once there are rows.
func (o *devOptions) resume(chosen bool) error {
	if o.nodes < 1 || o.nodes > devNodesMax {
		return fmt.Errorf("--nodes must be between 1 and %d", devNodesMax)
	}
	if o.ephemeral {
		return nil
	}
	made := 0
	for i := range devNodesMax {
		if _, err := os.Stat(o.nodeDir(i)); err == nil {
			made = i + 1
		} else if !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("dev: %w", err)
		}
	}
	switch {
	case made > 0 && chosen && made != o.nodes:
		return fmt.Errorf("the cluster in %s was made with --nodes %d: start it with that number, or give another folder with --dir", o.dir, made)
	case made > 0:
		o.nodes = made
		return nil
	}
	for i := range o.nodes { // all of them, before one has begun: their number is the cluster's
		if err := os.MkdirAll(o.nodeDir(i), 0o755); err != nil {
			return fmt.Errorf("dev: %w", err)
		}
	}
	return nil
}

func (o *devOptions) nodeDir(i int) string { return filepath.Join(o.dir, fmt.Sprintf("node%d", i+1)) }

func dev(ctx context.Context, out io.Writer, o devOptions) error {
	nodes, err := devNodes(o)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	began := time.Now()
	errs := make([]error, len(nodes))
	var wg sync.WaitGroup
	for i, n := range nodes {
		wg.Go(func() {
			errs[i] = n.Run(ctx)
			cancel() // one node that ends, ends the cluster
		})
	}
	if allReady(ctx, nodes) {
		sayHello(out, o, time.Since(began))
	}
	wg.Wait()
	return errors.Join(errs...)
}

func devNodes(o devOptions) ([]*node.Node, error) {
	var seeds []string
	for i := range o.nodes {
		seeds = append(seeds, fmt.Sprintf("%s.%d", o.subnet, i+1))
	}
	var nodes []*node.Node
	for i := range o.nodes {
		cfg := config.Default()
		addr, err := netip.ParseAddr(seeds[i])
		if err != nil {
			return nil, fmt.Errorf("--subnet: %w", err)
		}
		cfg.ClusterName, cfg.ListenAddress, cfg.Seeds = "dev", addr, seeds
		cfg.DataDir = o.nodeDir(i)
		cfg.BlockCache, cfg.RowCache, cfg.Memtable = 16<<20, 16<<20, 8<<20
		no := node.Options{Config: cfg, Version: version(), Filler: node.Filling, Logger: devLogger(os.Stderr, o.verbose).With("node", seeds[i])}
		if o.ephemeral {
			no.FS, cfg.DiskReserve = storage.Memory(), 0
		}
		n, err := node.New(no)
		if err != nil {
			return nil, err
		}
		nodes = append(nodes, n)
	}
	return nodes, nil
}

// devLogger shows what someone must act on in any case.
func devLogger(w io.Writer, verbose bool) *slog.Logger {
	level := slog.LevelError
	if verbose {
		level = slog.LevelInfo
	}
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: level}))
}

func allReady(ctx context.Context, nodes []*node.Node) bool {
	for _, n := range nodes {
		select {
		case <-n.Ready():
		case <-ctx.Done():
			return false
		}
	}
	return true
}

func sayHello(out io.Writer, o devOptions, took time.Duration) {
	var hosts []string
	for i := range o.nodes {
		hosts = append(hosts, fmt.Sprintf("'%s.%d'", o.subnet, i+1))
	}
	first := strings.Trim(hosts[0], "'")
	where := "kept in " + o.dir
	if o.ephemeral {
		where = "in memory only"
	}
	fmt.Fprintf(out, `%d nodes are up after %s, data centre datacenter1, data %s. Stop with Ctrl-C.

  shell    %s sh %s            (or: cqlsh %s, from PyPI)
  status   %s status --host %s

  Python   pip install cassandra-driver
           from cassandra.cluster import Cluster
           session = Cluster([%s]).connect()

  Go       go get github.com/apache/cassandra-gocql-driver/v2
           session, err := gocql.NewCluster(%s).CreateSession()

  Node.js  npm install cassandra-driver
           const client = new cassandra.Client({ contactPoints: [%s], localDataCenter: 'datacenter1' })

`, o.nodes, took.Round(time.Millisecond), where, os.Args[0], first, first, os.Args[0], first, strings.Join(hosts, ", "),
		strings.ReplaceAll(strings.Join(hosts, ", "), "'", `"`), strings.Join(hosts, ", "))
}
