package main

import (
	"fmt"
	"io"
	"net/http"
	"net/url"

	"github.com/spf13/cobra"

	"github.com/helenusdb/helenus/node"
)

func cleanupCommand() *cobra.Command {
	return operator("cleanup [keyspace] [tables...]", "Remove what a node has of ranges that it does not own any more, also what it keeps since a movement was forced", cobra.ArbitraryArgs,
		func(c *cobra.Command, t *target, args []string) error {
			q := url.Values{}
			if len(args) > 0 {
				q.Set("keyspace", args[0])
				q["table"] = args[1:]
			}
			return order(c, t, http.MethodPost, "cleanup", q, printCleanup)
		})
}

// printCleanup prints nothing when there was nothing to do, as nodetool does.
func printCleanup(w io.Writer, s *node.CleanupStatus) {
	if s.Tables > 0 {
		fmt.Fprintf(w, "Tables cleaned up: %d\n", s.Tables)
	}
	if s.Kept {
		fmt.Fprintln(w, "The node still keeps what it lost in a movement that was forced: without a keyspace all of it is removed")
	}
}
