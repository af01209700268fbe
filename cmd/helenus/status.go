package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/helenusdb/helenus/config"
	"github.com/helenusdb/helenus/node"
)

const statusBytesMax = 16 << 20

func statusCommand() *cobra.Command {
	var host, keyspace string
	var port int
	var asJSON bool
	c := &cobra.Command{Use: "status", Short: "Show the nodes of the cluster, laid out as nodetool status does", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			raw, err := fetchStatus(c.Context(), net.JoinHostPort(host, fmt.Sprint(port)))
			if err != nil {
				return err
			}
			if asJSON {
				_, err := c.OutOrStdout().Write(raw)
				return err
			}
			var s node.Status
			if err := json.Unmarshal(raw, &s); err != nil {
				return fmt.Errorf("status: the answer does not decode: %w", err)
			}
			return printStatus(c.OutOrStdout(), &s, keyspace)
		}}
	c.Flags().StringVar(&host, "host", "127.0.0.1", "admin address of a node")
	c.Flags().IntVar(&port, "port", config.Default().AdminPort, "admin port of the node")
	c.Flags().StringVar(&keyspace, "keyspace", "", "show effective ownership for this keyspace")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

func fetchStatus(ctx context.Context, addr string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/api/v1/status", nil)
	if err != nil {
		return nil, fmt.Errorf("status: %w", err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, fmt.Errorf("status: no node answers at %s: %w", addr, err)
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(res.Body, statusBytesMax))
	if err != nil {
		return nil, fmt.Errorf("status: %w", err)
	}
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("status: %s answers %s: %s", addr, res.Status, strings.TrimSpace(string(raw)))
	}
	return raw, nil
}

// printStatus writes nodetool's layout, whose columns scripts cut.
func printStatus(w io.Writer, s *node.Status, keyspace string) error {
	owns, effective, err := ownership(s, keyspace)
	if err != nil {
		return err
	}
	byDC := map[string][]node.NodeStatus{}
	for _, n := range s.Nodes {
		byDC[n.DC] = append(byDC[n.DC], n)
	}
	var dcs []string
	for dc := range byDC {
		dcs = append(dcs, dc)
	}
	slices.Sort(dcs)
	for _, dc := range dcs {
		nodes := byDC[dc]
		slices.SortFunc(nodes, func(a, b node.NodeStatus) int { return strings.Compare(a.Address, b.Address) })
		printDC(w, dc, nodes, owns, effective)
	}
	if !effective {
		fmt.Fprintln(w, "Note: Non-system keyspaces don't have the same replication settings, effective ownership information is meaningless")
	}
	return nil
}

// ownership is that of the keyspace, or of all user keyspaces when they agree, or that of the primary ranges.
func ownership(s *node.Status, keyspace string) (owns map[string]float64, effective bool, err error) {
	for _, k := range s.Keyspaces {
		if k.Keyspace == keyspace {
			return k.Owns, true, nil
		}
	}
	if keyspace != "" {
		return nil, false, fmt.Errorf("status: the keyspace %s, does not exist", keyspace)
	}
	if len(s.Keyspaces) > 0 {
		first := s.Keyspaces[0].Owns
		same := !slices.ContainsFunc(s.Keyspaces, func(k node.Ownership) bool { return !equalOwns(k.Owns, first) })
		if same {
			return first, true, nil
		}
	}
	owns = map[string]float64{}
	for _, n := range s.Nodes {
		owns[n.HostID] = n.Owns
	}
	return owns, len(s.Keyspaces) == 0, nil
}

func equalOwns(a, b map[string]float64) bool {
	for k, v := range a {
		if b[k] != v {
			return false
		}
	}
	return len(a) == len(b)
}

func printDC(w io.Writer, dc string, nodes []node.NodeStatus, owns map[string]float64, effective bool) {
	title := "Datacenter: " + dc
	fmt.Fprintf(w, "%s\n%s\nStatus=Up/Down\n|/ State=Normal/Leaving/Joining/Moving\n", title, strings.Repeat("=", len(title)))
	header := "Owns"
	if effective {
		header = "Owns (effective)"
	}
	address := len("Address")
	for _, n := range nodes {
		address = max(address, len(n.Address))
	}
	fmt.Fprintf(w, "--  %-*s  %-10s  %-6s  %-16s  %-36s  %s\n", address, "Address", "Load", "Tokens", header, "Host ID", "Rack")
	for _, n := range nodes {
		fmt.Fprintf(w, "%s  %-*s  %-10s  %-6d  %-16s  %-36s  %s\n", code(n), address, n.Address, size(n.Load), n.Tokens,
			fmt.Sprintf("%.1f%%", owns[n.HostID]*100), n.HostID, n.Rack)
	}
	fmt.Fprintln(w)
}

func code(n node.NodeStatus) string {
	up := "D"
	if n.Up {
		up = "U"
	}
	return up + map[string]string{"normal": "N", "leaving": "L", "joining": "J"}[n.State]
}

func size(b uint64) string {
	units := []string{"bytes", "KiB", "MiB", "GiB", "TiB"}
	v, i := float64(b), 0
	for v >= 1024 && i < len(units)-1 {
		v, i = v/1024, i+1
	}
	if i == 0 {
		return fmt.Sprintf("%d bytes", b)
	}
	return fmt.Sprintf("%.2f %s", v, units[i])
}
