package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/helenusdb/helenus/internal/nodetool"
	"github.com/helenusdb/helenus/node"
)

func snapshotCommands() []*cobra.Command {
	return []*cobra.Command{snapshotCommand(), listSnapshotsCommand(), clearSnapshotCommand(), restoreCommand()}
}

// each asks one node or all, and gives every answer to layout. Nodes that failed are named in the error, after the others were shown.
func each[T any](c *cobra.Command, t *target, method, path string, args url.Values, layout func(w io.Writer, v *T)) error {
	var answers []node.NodeAnswer
	raw, err := t.call(c.Context(), method, path, args, &answers)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if t.json {
		if _, err := c.OutOrStdout().Write(raw); err != nil {
			return err
		}
	}
	var errs []error
	for _, a := range answers {
		var v T
		switch {
		case a.Error != "":
			errs = append(errs, fmt.Errorf("%s: node %s: %s", path, a.Address, a.Error))
			continue
		case t.json:
			continue
		}
		if err := json.Unmarshal(a.Value, &v); err != nil {
			return fmt.Errorf("%s: the answer of %s does not decode: %w", path, a.Address, err)
		}
		if len(answers) > 1 {
			fmt.Fprintf(c.OutOrStdout(), "Node %s:\n", a.Address)
		}
		layout(c.OutOrStdout(), &v)
	}
	return errors.Join(errs...)
}

func clusterFlag(c *cobra.Command, args url.Values) {
	c.Flags().BoolFunc("cluster", "on every node of the cluster", func(s string) error { args.Set("cluster", s); return nil })
}

func snapshotCommand() *cobra.Command {
	args := url.Values{}
	var tag, tables string
	var ttl time.Duration
	c := operator("snapshot [KEYSPACE...]", "Take a snapshot of keyspaces or tables, of all without", cobra.ArbitraryArgs, func(c *cobra.Command, t *target, names []string) error {
		t.timeout = 0
		if tables != "" {
			if len(names) > 0 {
				return errors.New("snapshot: keyspaces and --kt-list exclude each other")
			}
			names = strings.Split(tables, ",")
		}
		if tag == "" {
			tag = fmt.Sprint(time.Now().UnixMilli())
		}
		args["table"] = names
		args.Set("tag", tag)
		if ttl > 0 {
			args.Set("ttl", ttl.String())
		}
		if !t.json {
			nodetool.SnapshotRequested(c.OutOrStdout(), names, tag, ttl)
		}
		return each(c, t, http.MethodPost, "snapshot", args, func(w io.Writer, _ *struct{}) { fmt.Fprintf(w, "Snapshot directory: %s\n", tag) })
	})
	c.Flags().StringVarP(&tag, "tag", "t", "", "name of the snapshot (default: the time in ms)")
	c.Flags().StringVar(&tables, "kt-list", "", "comma-separated KEYSPACE.TABLE")
	c.Flags().DurationVar(&ttl, "ttl", 0, "remove it by itself after so long, for example 36h")
	clusterFlag(c, args)
	return c
}

func listSnapshotsCommand() *cobra.Command {
	args := url.Values{}
	c := operator("listsnapshots", "Show the snapshots and what they cost", cobra.NoArgs, func(c *cobra.Command, t *target, _ []string) error {
		return each(c, t, http.MethodGet, "listsnapshots", args, nodetool.Snapshots)
	})
	clusterFlag(c, args)
	return c
}

func clearSnapshotCommand() *cobra.Command {
	args := url.Values{}
	var tag string
	all := false
	c := operator("clearsnapshot [KEYSPACE...]", "Remove a snapshot, or all", cobra.ArbitraryArgs, func(c *cobra.Command, t *target, keyspaces []string) error {
		t.timeout = 0
		args["keyspace"] = keyspaces
		args.Set("tag", tag)
		args.Set("all", fmt.Sprint(all))
		return each(c, t, http.MethodPost, "clearsnapshot", args, func(w io.Writer, _ *node.Cleared) { nodetool.ClearRequested(w, keyspaces, tag) })
	})
	c.Flags().StringVarP(&tag, "tag", "t", "", "name of the snapshot")
	c.Flags().BoolVar(&all, "all", false, "all snapshots")
	clusterFlag(c, args)
	return c
}

func restoreCommand() *cobra.Command {
	args := url.Values{}
	var tag, level string
	var paths []string
	c := operator("restore [KEYSPACE | KEYSPACE.TABLE]...", "Write a snapshot's rows through the cluster, with their own timestamps", cobra.ArbitraryArgs, func(c *cobra.Command, t *target, names []string) error {
		t.timeout = 0
		if (tag == "") == (len(paths) == 0) {
			return errors.New("restore: give either --tag or --path")
		}
		args["table"] = names
		args.Set("consistency", level)
		if tag != "" {
			args.Set("tag", tag)
			return each(c, t, http.MethodPost, "restore", args, nodetool.Restored)
		}
		for _, p := range paths {
			args.Set("path", p)
			if err := each(c, t, http.MethodPost, "restore", args, nodetool.Restored); err != nil {
				return err
			}
		}
		return nil
	})
	c.Flags().StringVarP(&tag, "tag", "t", "", "name of a snapshot of the node that is asked, or with --cluster of every node")
	c.Flags().StringArrayVar(&paths, "path", nil, "folder with a snapshot of any node, on the machine of the node that is asked; may be repeated")
	c.Flags().StringVar(&level, "consistency", "QUORUM", "of the writes: ONE, QUORUM, LOCAL_QUORUM, EACH_QUORUM or ALL")
	clusterFlag(c, args)
	return c
}
