package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/helenusdb/helenus/config"
	"github.com/helenusdb/helenus/internal/nodetool"
	"github.com/helenusdb/helenus/node"
)

// devCall bounds one request to a cluster in a process of this machine.
const devCall = 30 * time.Second

// findDev returns a node of the dev cluster that runs at the subnet, not that one (0: any), and what it says of all of them.
func findDev(ctx context.Context, subnet string, not int) (*target, *devStatus, error) {
	for number := 1; number <= devNodesMax; number++ {
		t := &target{host: fmt.Sprintf("%s.%d", subnet, number), port: config.Default().AdminPort, timeout: devCall}
		s := new(devStatus)
		if number == not {
			continue
		}
		if _, err := t.call(ctx, http.MethodGet, "dev", nil, s); err == nil {
			return t, s, nil
		}
	}
	return nil, nil, fmt.Errorf("no cluster of helenus dev runs at %s.1 to %s.%d: start one, or give its --subnet", subnet, subnet, devNodesMax)
}

func (s *devStatus) at(number int) (devNodeStatus, bool) {
	for _, n := range s.Nodes {
		if n.Number == number {
			return n, true
		}
	}
	return devNodeStatus{}, false
}

func devAddCommand(subnet *string) *cobra.Command {
	return &cobra.Command{Use: "add", Short: "Add a node to the dev cluster that runs, and show the rebalance until it is over", Args: cobra.NoArgs,
		Long: "Starts one more node in the process of helenus dev and shows how it is sent its rows. Ctrl-C stops the showing; the node goes on joining.",
		RunE: func(c *cobra.Command, _ []string) error {
			t, _, err := findDev(c.Context(), *subnet, 0)
			if err != nil {
				return err
			}
			var added devNodeStatus
			if _, err := t.call(c.Context(), http.MethodPost, "dev/nodes", nil, &added); err != nil {
				return fmt.Errorf("dev add: %w", err)
			}
			return awaitAdded(c, t, added)
		}}
}

// awaitAdded shows the rebalance until the node serves clients and nothing of its joining is under way any more.
func awaitAdded(c *cobra.Command, t *target, added devNodeStatus) error {
	shown := newScreen(c.ErrOrStderr(), false, 3)
	var got received
	for heard := time.Now(); ; {
		var s devStatus
		_, err := t.call(c.Context(), http.MethodGet, "dev", nil, &s)
		var o *node.Operations
		if err == nil {
			o, _, err = look(c.Context(), t, nil)
		}
		switch now, listed := s.at(added.Number); {
		case err != nil && c.Context().Err() == nil && time.Since(heard) > devCall:
			return fmt.Errorf("dev add: %w", err)
		case err != nil:
		case !listed:
			return fmt.Errorf("dev add: %s has left again", added.Address)
		case now.State == devFailed:
			return fmt.Errorf("dev add: %s could not be added: %s", added.Address, now.Error)
		default:
			heard = time.Now()
			got.note(o)
			shown.show(append([]string{fmt.Sprintf("%s is %s", added.Address, now.State)}, nodetool.Movement(o)...))
			if now.State == devUp && !concerns(o, added.Address) {
				return got.summary(c, t, fmt.Sprintf("%s has joined.", added.Address))
			}
		}
		if pauseWatch(c.Context()) {
			return errors.New("dev add: stopped watching; the node goes on joining (helenus dev remove takes it out again)")
		}
	}
}

// concerns tells whether an operation of the node at the address is under way.
func concerns(o *node.Operations, addr string) bool {
	return slices.ContainsFunc(o.Operations, func(op node.OperationStatus) bool { return op.Address == addr })
}

func devRemoveCommand(subnet *string) *cobra.Command {
	force := false
	c := &cobra.Command{Use: "remove [NODE]", Short: "Take a node out of the dev cluster that runs, the last one without NODE, and show the rebalance until it is over", Args: cobra.MaximumNArgs(1),
		Long: "Decommissions a node, named by its number or address: its rows are sent to the others, its folder is removed. Ctrl-C stops the showing; the node goes on leaving " +
			"(helenus abort ends that, while reads have not moved).",
		RunE: func(c *cobra.Command, args []string) error {
			_, s, err := findDev(c.Context(), *subnet, 0)
			if err != nil {
				return err
			}
			goes, err := s.named(args)
			if err != nil {
				return err
			}
			t, _, err := findDev(c.Context(), *subnet, goes.Number)
			if err != nil {
				return errors.New("dev remove: it is the only node: stop the cluster instead")
			}
			return devRemove(c, t, goes, force)
		}}
	c.Flags().BoolVar(&force, "force", false, forceUsage)
	return c
}

// named finds the node that a command means.
func (s *devStatus) named(args []string) (devNodeStatus, error) {
	var out devNodeStatus
	for _, n := range s.Nodes {
		if len(args) == 0 && n.State == devUp && n.Number > out.Number {
			out = n
		}
		if len(args) == 1 && (n.Address == args[0] || strconv.Itoa(n.Number) == args[0]) {
			return n, nil
		}
	}
	switch {
	case out.Number > 0:
		return out, nil
	case len(args) == 1:
		return out, fmt.Errorf("dev remove: %q is no node: give a number or an address as helenus status shows it", args[0])
	}
	return out, errors.New("dev remove: no node is up")
}

func devRemove(c *cobra.Command, t *target, goes devNodeStatus, force bool) error {
	var s node.Operations
	q := url.Values{"kind": {"decommission"}, "host": {goes.Address}, "force": {strconv.FormatBool(force)}}
	if _, err := t.call(c.Context(), http.MethodPost, "operations", q, &s); err != nil {
		return fmt.Errorf("dev remove: %w", err)
	}
	if len(s.Started) > 0 {
		if err := await(c, t, s.Started); err != nil {
			return fmt.Errorf("dev remove: %w", err)
		}
	}
	for heard := time.Now(); time.Since(heard) < devCall; {
		var s devStatus
		if _, err := t.call(c.Context(), http.MethodGet, "dev", nil, &s); err == nil {
			if _, there := s.at(goes.Number); !there {
				return (&received{}).summary(c, t, fmt.Sprintf("%s has left, its folder is removed.", goes.Address))
			}
		}
		if pauseWatch(c.Context()) {
			break
		}
	}
	return fmt.Errorf("dev remove: %s has left the cluster, and does not end", goes.Address)
}
