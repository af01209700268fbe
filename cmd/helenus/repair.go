package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/helenusdb/helenus/internal/nodetool"
	"github.com/helenusdb/helenus/node"
)

const repairLineMax = 16 << 20

func repairCommand() *cobra.Command {
	var q node.RepairRequest
	c := operator("repair [keyspace] [tables...]", "Make the replicas of a node's ranges equal", cobra.ArbitraryArgs, func(c *cobra.Command, t *target, args []string) error {
		if len(args) > 0 {
			q.Keyspace, q.Tables = args[0], args[1:]
		}
		return leadRepair(c, t, &q)
	})
	c.Long = "Compares the ranges that the node replicates with their other replicas and sends each what it lacks, deletions too. " +
		"Without a keyspace all are repaired. Ctrl-C ends it; what was sent by then stays, and a later repair goes on from there."
	c.AddCommand(repairStatusCommand())
	f := c.Flags()
	f.StringArrayVar(&q.Ranges, "range", nil, "start:end, only these tokens, start excluded; may be given again")
	f.BoolVar(&q.Primary, "primary", false, "only the ranges that the node is the first replica of: run it on every node")
	f.StringSliceVar(&q.DCs, "dc", nil, "only replicas in these data centres")
	f.StringSliceVar(&q.Hosts, "hosts", nil, "only these replicas, by address or host id, the node among them")
	f.BoolVar(&q.Preview, "preview", false, "count what would be sent, send nothing")
	f.BoolVar(&q.Validate, "validate", false, "only find out whether replicas differ")
	f.BoolVar(&q.Full, "full", false, "read all rows again instead of trusting kept Merkle leaves")
	return c
}

// leadRepair has a node repair and prints what came of it.
func leadRepair(c *cobra.Command, t *target, q *node.RepairRequest) error {
	p, err := runRepair(c.Context(), t.addr(), q, c.ErrOrStderr(), !t.json)
	if err != nil {
		return err
	}
	if t.json {
		e := json.NewEncoder(c.OutOrStdout())
		e.SetIndent("", "  ")
		err = e.Encode(p)
	} else {
		err = printRepair(c.OutOrStdout(), p, q)
	}
	return errors.Join(err, repairFailure(p))
}

func rebuildCommand() *cobra.Command {
	var q node.RepairRequest
	c := operator("rebuild DC [keyspace] [tables...]", "Give a node what it lacks of its ranges from the replicas in a data centre", cobra.MinimumNArgs(1), func(c *cobra.Command, t *target, args []string) error {
		q.Rebuild = args[0]
		if len(args) > 1 {
			q.Keyspace, q.Tables = args[1], args[2:]
		}
		return leadRepair(c, t, &q)
	})
	c.Long = "Compares every range that the node replicates with one live replica in the data centre, and takes from it what the node lacks, deletions too; nothing is changed elsewhere. " +
		"Without a keyspace all are rebuilt. Ctrl-C ends it; what has come stays, and a later rebuild goes on from there."
	f := c.Flags()
	f.BoolVar(&q.Preview, "preview", false, "count what would be sent, send nothing")
	f.BoolVar(&q.Full, "full", false, "read all rows again instead of trusting kept Merkle leaves")
	return c
}

func repairStatusCommand() *cobra.Command {
	c := operator("status", "Show when the ranges of a node's tables were last repaired, and why not", cobra.NoArgs, func(c *cobra.Command, t *target, _ []string) error {
		return show(c, t, "repairstatus", nil, func(w io.Writer, s *node.RepairStatus) { nodetool.RepairStatus(w, s, time.Now()) })
	})
	c.Long = "Shows the ranges that the node is the first replica of: how many were repaired on all their replicas, when the last and the oldest of them were, and whether " +
		"tombstones are kept because they were not. Ask each node for its own."
	return c
}

// runRepair asks a node for a repair, shows its progress and returns its result.
func runRepair(ctx context.Context, addr string, q *node.RepairRequest, progress io.Writer, show bool) (*node.RepairProgress, error) {
	body, err := json.Marshal(q)
	if err != nil {
		return nil, fmt.Errorf("repair: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+addr+node.RepairPath, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("repair: %w", err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, fmt.Errorf("repair: no node answers at %s: %w", addr, err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		raw, _ := io.ReadAll(io.LimitReader(res.Body, 4096))
		return nil, fmt.Errorf("repair: %s: %s", addr, strings.TrimSpace(string(raw)))
	}
	lines := bufio.NewScanner(res.Body)
	lines.Buffer(nil, repairLineMax)
	for lines.Scan() {
		p := new(node.RepairProgress)
		if err := json.Unmarshal(lines.Bytes(), p); err != nil {
			return nil, fmt.Errorf("repair: the answer does not decode: %w", err)
		}
		if p.Finished {
			return p, nil
		}
		if show {
			fmt.Fprintf(progress, "%d of %d ranges, %d rows sent, %.0f s\n", p.Done, p.Ranges, rowsSent(p), p.Seconds)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("repair: the connection to %s broke: %w", addr, err)
	}
	return nil, fmt.Errorf("repair: %s closed the connection before the repair had ended", addr)
}

func rowsSent(p *node.RepairProgress) (rows int64) {
	for _, t := range p.Tables {
		for _, r := range t.Peers {
			rows += r.Rows + r.Deletions
		}
	}
	return rows
}

// repairFailure is the error of a repair that did not do all of it.
func repairFailure(p *node.RepairProgress) error {
	failed := int64(0)
	for _, t := range p.Tables {
		failed += t.RangesFailed
	}
	switch {
	case p.Error != "":
		return fmt.Errorf("repair: %s", p.Error)
	case failed > 0:
		return fmt.Errorf("repair: %d of %d ranges were not repaired", failed, p.Ranges)
	}
	return nil
}

func printRepair(w io.Writer, p *node.RepairProgress, q *node.RepairRequest) error {
	verb := "sent to"
	if q.Preview {
		verb = "to be sent to"
	}
	for _, t := range p.Tables {
		fmt.Fprintf(w, "%s.%s: %d rows in %d ranges compared, %d ranges differ", t.Keyspace, t.Table, t.Items, t.Ranges, t.RangesDifferent)
		if t.RangesFailed > 0 {
			fmt.Fprintf(w, ", %d failed", t.RangesFailed)
		}
		fmt.Fprintln(w)
		for _, r := range t.Peers {
			if r.Rows+r.Deletions+r.Traffic > 0 {
				fmt.Fprintf(w, "  %d rows, %d deletions, %d bytes %s %s (%d bytes of messages)\n", r.Rows, r.Deletions, r.Bytes, verb, r.Address, r.Traffic)
			}
		}
		for _, e := range t.Errors {
			fmt.Fprintf(w, "  failed: %s\n", e)
		}
	}
	_, err := fmt.Fprintf(w, "%d of %d ranges in %.1f s\n", p.Done, p.Ranges, p.Seconds)
	return err
}
