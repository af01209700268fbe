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
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/helenusdb/helenus/admin"
	"github.com/helenusdb/helenus/config"
	"github.com/helenusdb/helenus/node"
	"github.com/helenusdb/helenus/storage"
)

const (
	devNodesMax     = 9
	devNodesDefault = 3
	devSubnet       = "127.0.0"
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
		Long: "Run a small cluster in one process until Ctrl-C. From another terminal, helenus dev add adds a node to it and helenus dev remove takes one out, while clients go on; " +
			"the folder keeps the nodes that there are then.",
		RunE: func(c *cobra.Command, _ []string) error {
			numbers, err := o.resume(c.Flags().Changed("nodes"))
			if err != nil {
				return err
			}
			return dev(c.Context(), c.OutOrStdout(), o, numbers)
		}}
	c.Flags().IntVar(&o.nodes, "nodes", devNodesDefault, "number of nodes of a new cluster; one that is kept has those that it had at its end")
	c.Flags().StringVar(&o.dir, "dir", "dev-data", "folder that keeps the cluster between runs")
	c.Flags().BoolVar(&o.ephemeral, "ephemeral", false, "keep everything in memory, forget it at the end")
	c.Flags().BoolVarP(&o.verbose, "verbose", "v", false, "show the nodes' logs")
	c.PersistentFlags().StringVar(&o.subnet, "subnet", devSubnet, "first three numbers of the loopback addresses")
	c.AddCommand(devAddCommand(&o.subnet), devRemoveCommand(&o.subnet))
	return c
}

// resume finds out which nodes the folder's cluster has, in the order of their joining; a new one has as many as were asked for. A number that was
// chosen has to be theirs: with fewer the others would be down, and further ones join by helenus dev add.
func (o *devOptions) resume(chosen bool) ([]int, error) {
	if o.nodes < 1 || o.nodes > devNodesMax {
		return nil, fmt.Errorf("--nodes must be between 1 and %d", devNodesMax)
	}
	var fresh []int
	for i := range o.nodes {
		fresh = append(fresh, i+1)
	}
	if o.ephemeral {
		return fresh, nil
	}
	kept, err := o.kept()
	switch {
	case err != nil:
		return nil, err
	case len(kept) > 0 && chosen && len(kept) != o.nodes:
		return nil, fmt.Errorf("the cluster in %s has %d nodes: start it without --nodes (helenus dev add and dev remove change their number), or give another folder with --dir", o.dir, len(kept))
	case len(kept) > 0:
		return kept, o.keep(kept)
	}
	for _, number := range fresh { // all of them, before one has begun
		if err := os.MkdirAll(o.nodeDir(number), 0o755); err != nil {
			return nil, fmt.Errorf("dev: %w", err)
		}
	}
	return fresh, o.keep(fresh)
}

func (o *devOptions) nodeDir(number int) string {
	return filepath.Join(o.dir, fmt.Sprintf("node%d", number))
}

func (o *devOptions) address(number int) string { return fmt.Sprintf("%s.%d", o.subnet, number) }

// listFile names the nodes of the cluster in the folder, a number per line, in the order of their joining: the first has been a member for longest, so
// that it can be the first seed of all others. What has another number is left over.
const listFile = "nodes"

// kept returns the numbers of the nodes in the folder; nil when there is no cluster. Folders of before there was a list are in the order of their numbers.
func (o *devOptions) kept() (numbers []int, err error) {
	raw, err := os.ReadFile(filepath.Join(o.dir, listFile))
	if err == nil {
		for _, line := range strings.Fields(string(raw)) {
			number, err := strconv.Atoi(line)
			if err != nil || number < 1 || number > devNodesMax || slices.Contains(numbers, number) {
				return nil, fmt.Errorf("dev: %s: %q is no number of a node", filepath.Join(o.dir, listFile), line)
			}
			numbers = append(numbers, number)
		}
		return numbers, nil
	}
	if !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("dev: %w", err)
	}
	for number := 1; number <= devNodesMax; number++ {
		if _, err := os.Stat(o.nodeDir(number)); err == nil {
			numbers = append(numbers, number)
		} else if !errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("dev: %w", err)
		}
	}
	return numbers, nil
}

// keep writes the list.
func (o *devOptions) keep(numbers []int) error {
	if o.ephemeral {
		return nil
	}
	var b strings.Builder
	for _, number := range numbers {
		fmt.Fprintln(&b, number)
	}
	path := filepath.Join(o.dir, listFile)
	if err := os.WriteFile(path+".new", []byte(b.String()), 0o644); err != nil {
		return fmt.Errorf("dev: %w", err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		return fmt.Errorf("dev: %w", err)
	}
	return nil
}

func dev(ctx context.Context, out io.Writer, o devOptions, numbers []int) error {
	began := time.Now()
	f, err := newFleet(ctx, out, o, numbers)
	if err != nil {
		return err
	}
	return f.run(func() { sayHello(out, o, numbers, time.Since(began)) })
}

// newNode returns the node with that number, which knows the seeds.
func (o *devOptions) newNode(number int, seeds []string, more []admin.Endpoint) (*node.Node, error) {
	cfg := config.Default()
	addr, err := netip.ParseAddr(o.address(number))
	if err != nil {
		return nil, fmt.Errorf("--subnet: %w", err)
	}
	cfg.ClusterName, cfg.ListenAddress, cfg.Seeds = "dev", addr, seeds
	cfg.DataDir = o.nodeDir(number)
	cfg.BlockCache, cfg.RowCache, cfg.Memtable = 16<<20, 16<<20, 8<<20
	no := node.Options{Config: cfg, Version: version(), Filler: node.Filling, Endpoints: more,
		Logger: devLogger(os.Stderr, o.verbose).With("node", addr.String())}
	if o.ephemeral {
		no.FS, cfg.DiskReserve = storage.Memory(), 0
	}
	return node.New(no)
}

// devLogger shows what someone must act on in any case.
func devLogger(w io.Writer, verbose bool) *slog.Logger {
	level := slog.LevelError
	if verbose {
		level = slog.LevelInfo
	}
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: level}))
}

func sayHello(out io.Writer, o devOptions, numbers []int, took time.Duration) {
	var hosts []string
	for _, number := range numbers {
		hosts = append(hosts, fmt.Sprintf("'%s'", o.address(number)))
	}
	first := strings.Trim(hosts[0], "'")
	subnet := ""
	if o.subnet != devSubnet {
		subnet = " --subnet " + o.subnet
	}
	where := "kept in " + o.dir
	if o.ephemeral {
		where = "in memory only"
	}
	fmt.Fprintf(out, `%d nodes are up after %s, data centre datacenter1, data %s. Stop with Ctrl-C.

  shell    %s sh %s            (or: cqlsh %s, from PyPI)
  status   %s status --host %s
  nodes    %s dev add%s          (or: dev remove), in another terminal

  Python   pip install cassandra-driver
           from cassandra.cluster import Cluster
           session = Cluster([%s]).connect()

  Go       go get github.com/apache/cassandra-gocql-driver/v2
           session, err := gocql.NewCluster(%s).CreateSession()

  Node.js  npm install cassandra-driver
           const client = new cassandra.Client({ contactPoints: [%s], localDataCenter: 'datacenter1' })

`, len(numbers), took.Round(time.Millisecond), where, os.Args[0], first, first, os.Args[0], first, os.Args[0], subnet, strings.Join(hosts, ", "),
		strings.ReplaceAll(strings.Join(hosts, ", "), "'", `"`), strings.Join(hosts, ", "))
}
