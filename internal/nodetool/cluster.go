package nodetool

import (
	"fmt"
	"io"
	"slices"
	"sort"
	"strconv"
	"strings"

	"github.com/helenusdb/helenus/node"
)

const meaningless = "Note: Non-system keyspaces don't have the same replication settings, effective ownership information is meaningless"

func sortedKeys[V any](m map[string]V) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	sort.Strings(out)
	return out
}

// Status prints nodetool status. The error is that of a keyspace that does not exist.
func Status(w io.Writer, s *node.Status, keyspace string) error {
	owns, effective, err := s.Ownership(keyspace)
	if err != nil {
		return err
	}
	byDC := map[string][]node.NodeStatus{}
	rows := map[string][][]string{}
	header := "Owns"
	if effective {
		header = "Owns (effective)"
	}
	head := []string{"--", "Address", "Load", "Tokens", header, "Host ID", "Rack"}
	all := [][]string{append(slices.Clone(head[:6]), "Rack ")}
	for _, n := range s.Nodes {
		byDC[n.DC] = append(byDC[n.DC], n)
	}
	for _, dc := range sortedKeys(byDC) {
		slices.SortFunc(byDC[dc], func(a, b node.NodeStatus) int { return strings.Compare(a.Address, b.Address) })
		for _, n := range byDC[dc] {
			share := "?"
			if effective {
				share = fmt.Sprintf("%.1f%%", owns[n.HostID]*100)
			}
			row := []string{stateCode(n.Up, n.State), n.Address, Size(float64(n.Load)), strconv.Itoa(n.Tokens), share, n.HostID, n.Rack}
			rows[dc], all = append(rows[dc], row), append(all, row)
		}
	}
	widths := widthsOf(all)
	for _, dc := range sortedKeys(byDC) {
		title := "Datacenter: " + dc
		fmt.Fprintf(w, "%s\n%s\nStatus=Up/Down\n|/ State=Normal/Leaving/Joining/Moving\n", title, strings.Repeat("=", len(title)))
		for _, r := range append([][]string{all[0]}, rows[dc]...) {
			fmt.Fprintln(w, padded(r, widths, "  "))
		}
		fmt.Fprintln(w)
	}
	if !effective {
		fmt.Fprintln(w, meaningless)
	}
	return nil
}

func widthsOf(rows [][]string) []int {
	widths := make([]int, len(rows[0]))
	for _, r := range rows {
		for i, c := range r {
			widths[i] = max(widths[i], len(c))
		}
	}
	return widths
}

func padded(r []string, widths []int, gap string) string {
	var b strings.Builder
	for i, c := range r {
		if i > 0 {
			b.WriteString(gap)
		}
		fmt.Fprintf(&b, "%-*s", widths[i], c)
	}
	return b.String()
}

// stateCode is UN, DN, UJ and so on.
func stateCode(up bool, state string) string {
	code := "D"
	if up {
		code = "U"
	}
	if s, ok := map[string]string{"normal": "N", "leaving": "L", "joining": "J", "moving": "M"}[state]; ok {
		return code + s
	}
	return code + "?"
}

// Info prints nodetool info.
func Info(w io.Writer, i *node.Info, tokens bool) {
	line := func(name, format string, args ...any) {
		fmt.Fprintf(w, "%-23s: %s\n", name, fmt.Sprintf(format, args...))
	}
	mib := func(b float64) float64 { return b / (1 << 20) }
	cache := func(c node.CacheInfo) string {
		rate := "NaN"
		if c.Requests > 0 {
			rate = fmt.Sprintf("%.3f", float64(c.Hits)/float64(c.Requests))
		}
		return fmt.Sprintf("entries %d, size %s, capacity %s, %d hits, %d requests, %s recent hit rate, 0 save period in seconds", c.Entries, Size(float64(c.Size)),
			Size(float64(c.Capacity)), c.Hits, c.Requests, rate)
	}
	line("ID", "%s", i.ID)
	line("Gossip active", "%t", i.GossipActive)
	line("Native Transport active", "%t", i.NativeActive)
	line("Load", "%s", Size(float64(i.Load)))
	line("Uncompressed load", "n/a")
	line("Generation No", "%d", i.Generation)
	line("Uptime (seconds)", "%d", i.Uptime)
	line("Heap Memory (MB)", "%.2f / %.2f", mib(float64(i.HeapUsed)), mib(float64(i.HeapLimit)))
	line("Off Heap Memory (MB)", "%.2f", mib(float64(i.BlockCache.Size)))
	line("Data Center", "%s", i.DC)
	line("Rack", "%s", i.Rack)
	line("Exceptions", "%d", i.Exceptions)
	line("Key Cache", "%s", cache(i.BlockCache))
	line("Row Cache", "%s", cache(i.RowCache))
	line("Counter Cache", "n/a")
	line("Network Cache", "n/a, capacity %s", Size(float64(i.InFlightLimit)))
	line("Percent Repaired", "n/a")
	if i.Abstains != "" {
		line("Paxos vote", "none: %s", i.Abstains)
	}
	if tokens {
		for _, t := range i.Tokens {
			line("Token", "%s", t)
		}
	} else {
		line("Token", "(invoke with -T/--tokens to see all %d tokens)", len(i.Tokens))
	}
	line("Bootstrap state", "%s", map[bool]string{true: "IN_PROGRESS", false: "COMPLETED"}[i.State == "joining"])
	line("Bootstrap failed", "false")
	line("Decommissioning", "%t", i.State == "leaving")
	line("Decommission failed", "false")
}

// Ring prints nodetool ring.
func Ring(w io.Writer, r *node.Ring) {
	byDC := map[string][]node.RingToken{}
	address := 0
	for _, t := range r.Tokens {
		byDC[t.DC] = append(byDC[t.DC], t)
		address = max(address, len(t.Address))
	}
	format := fmt.Sprintf("%%-%ds%%-12s%%-7s%%-8s%%-16s%%-20s%%-44s\n", address+7)
	several := false
	for _, dc := range sortedKeys(byDC) {
		tokens, nodes := byDC[dc], map[string]bool{}
		fmt.Fprintf(w, "\nDatacenter: %s\n==========\n", dc)
		fmt.Fprintf(w, format, "Address", "Rack", "Status", "State", "Load", "Owns", "Token")
		fmt.Fprintf(w, format, "", "", "", "", "", "", tokens[len(tokens)-1].Token)
		for _, t := range tokens {
			several = several || nodes[t.HostID]
			nodes[t.HostID] = true
			owns := "?"
			if r.Effective {
				owns = fmt.Sprintf("%.2f%%", t.Owns*100)
			}
			fmt.Fprintf(w, format, t.Address, t.Rack, map[bool]string{true: "Up", false: "Down"}[t.Up], title(t.State), Size(float64(t.Load)), owns, t.Token)
		}
	}
	fmt.Fprintln(w)
	if several {
		fmt.Fprint(w, "  Warning: \"nodetool ring\" is used to output all the tokens of a node.\n  To view status related info of a node use \"nodetool status\" instead.\n\n\n  ")
	}
	if !r.Effective {
		fmt.Fprintln(w, meaningless)
	}
}

func title(s string) string {
	if s == "" {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:]
}

// DescribeRing prints nodetool describering.
func DescribeRing(w io.Writer, d *node.DescribeRing) {
	fmt.Fprintf(w, "Schema Version:%s\nTokenRange: \n", d.Schema)
	for _, r := range d.Ranges {
		var hosts, native, details []string
		for _, e := range r.Endpoints {
			hosts, native = append(hosts, e.Host), append(native, e.Native)
			details = append(details, fmt.Sprintf("EndpointDetails(host:%s, datacenter:%s, rack:%s)", e.Host, e.DC, e.Rack))
		}
		fmt.Fprintf(w, "\tTokenRange(start_token:%s, end_token:%s, endpoints:[%s], rpc_endpoints:[%s], endpoint_details:[%s])\n", r.Start, r.End,
			strings.Join(hosts, ", "), strings.Join(native, ", "), strings.Join(details, ", "))
	}
}

// DescribeCluster prints nodetool describecluster. Snitches do not exist: a node's data centre and rack are in its configuration.
func DescribeCluster(w io.Writer, d *node.DescribeCluster) {
	fmt.Fprintf(w, "Cluster Information:\n\tName: %s\n\tSnitch: n/a\n\tDynamicEndPointSnitch: enabled\n\tPartitioner: %s\n\tSchema versions:\n", d.Name, d.Partitioner)
	for _, v := range sortedKeys(d.Schemas) {
		fmt.Fprintf(w, "\t\t%s: [%s]\n\n", v, strings.Join(d.Schemas[v], ", "))
	}
	fmt.Fprintf(w, "Stats for all nodes:\n\tLive: %d\n\tJoining: %d\n\tMoving: 0\n\tLeaving: %d\n\tUnreachable: %d\n\nData Centers: \n", d.Live, d.Joining, d.Leaving, d.Unreachable)
	for _, dc := range d.DCs {
		fmt.Fprintf(w, "\t%s #Nodes: %d #Down: %d\n", dc.Name, dc.Nodes, dc.Down)
	}
	fmt.Fprint(w, "\nDatabase versions:\n")
	for _, v := range sortedKeys(d.Versions) {
		fmt.Fprintf(w, "\t%s: [%s]\n", v, strings.Join(d.Versions[v], ", "))
	}
	fmt.Fprint(w, "\nKeyspaces:\n")
	for _, k := range d.Keyspaces {
		var options []string
		for _, o := range sortedKeys(k.Options) {
			options = append(options, o+"="+k.Options[o])
		}
		fmt.Fprintf(w, "\t%s -> Replication class: %s {%s}\n", k.Name, k.Class, strings.Join(options, ", "))
	}
	if !d.Effective {
		fmt.Fprintf(w, "\n%s\n", meaningless)
	}
}

// GossipInfo prints nodetool gossipinfo, without the versions of single facts, which memberlist does not have.
func GossipInfo(w io.Writer, nodes []node.GossipNode) {
	for _, n := range nodes {
		fmt.Fprintf(w, "/%s\n  generation:%d\n  heartbeat:n/a\n", n.Address, n.Generation)
		fmt.Fprintf(w, "  STATUS:%s\n  LOAD:%d.0\n  SCHEMA:%s\n  DC:%s\n  RACK:%s\n  RELEASE_VERSION:%s\n", n.Status, n.Load, n.Schema, n.DC, n.Rack, n.Release)
		fmt.Fprintf(w, "  HOST_ID:%s\n  RPC_READY:%t\n", n.HostID, n.Ready)
		if n.Native != "" {
			fmt.Fprintf(w, "  NATIVE_ADDRESS_AND_PORT:%s\n", n.Native)
		}
		fmt.Fprintf(w, "  EPOCH:%d\n  ALIVE:%t\n", n.Epoch, n.Alive)
	}
	fmt.Fprintln(w)
}
