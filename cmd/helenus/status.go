package main

import (
	"fmt"
	"net/http"

	"github.com/spf13/cobra"

	"github.com/helenusdb/helenus/internal/nodetool"
	"github.com/helenusdb/helenus/node"
)

func statusCommand() *cobra.Command {
	var keyspace string
	c := operator("status [KEYSPACE]", "Show the nodes of the cluster, laid out as nodetool status does", cobra.MaximumNArgs(1), func(c *cobra.Command, t *target, args []string) error {
		if len(args) == 1 {
			keyspace = args[0]
		}
		var s node.Status
		raw, err := t.call(c.Context(), http.MethodGet, "status", nil, &s)
		if err != nil {
			return fmt.Errorf("status: %w", err)
		}
		if t.json {
			_, err := c.OutOrStdout().Write(raw)
			return err
		}
		return nodetool.Status(c.OutOrStdout(), &s, keyspace)
	})
	c.Flags().StringVar(&keyspace, "keyspace", "", "show effective ownership for this keyspace")
	return c
}
