package nodetool

import (
	"fmt"
	"io"
	"strings"

	"github.com/helenusdb/helenus/node"
)

const barWidth = 24

// OperationName names an operation in a sentence: "decommission of 127.0.0.2 (operation 41)".
func OperationName(o node.OperationStatus) string {
	what := o.Kind + " of " + o.Address
	switch {
	case o.Keyspace != "":
		what = o.Kind + " of keyspace " + o.Keyspace
	case o.Replaces != "":
		what = fmt.Sprintf("replacement of %s by %s", o.Replaces, o.Address)
	}
	return fmt.Sprintf("%s (operation %d)", what, o.ID)
}

// phases says what is done in each phase.
var phases = map[string]string{"filling": "filling: rows are sent to their new replicas, reads are as before", "switched": "switched: reads have moved, and what was filled is compared once more"}

// Movement returns the lines that show how ranges change hands: the phase, the operations, and how far each node has come that gains some. nil when nothing moves.
func Movement(s *node.Operations) (lines []string) {
	if len(s.Operations) == 0 {
		return nil
	}
	var names []string
	for _, o := range s.Operations {
		names = append(names, OperationName(o))
	}
	lines = append(lines, strings.Join(names, ", "), phases[s.Phase])
	for _, n := range s.Nodes {
		if n.RangesTotal > 0 || n.Unknown != "" {
			lines = append(lines, progressLine(&n))
		}
	}
	for _, w := range s.WaitsFor {
		switch {
		case !w.Up:
			lines = append(lines, fmt.Sprintf("  waits for %s, which is down", w.Address))
		case w.For != "":
			lines = append(lines, fmt.Sprintf("  %s waits: %s", w.Address, w.For))
		}
	}
	return append(lines, wayOut(s)...)
}

// wayOut says what ends the waiting for replicas that are down; nil where nothing waits for any.
func wayOut(s *node.Operations) []string {
	switch {
	case s.Force == 0:
		return nil
	case s.Stale != "":
		return []string{fmt.Sprintf("Cannot end: %s. Start one of those it waits for, or give up waiting: helenus force %d", s.Stale, s.Force)}
	}
	return []string{fmt.Sprintf("Cannot go on: too few replicas are up. Start them, or give up what only they have: helenus force %d (it says first what that is)", s.Force)}
}

func progressLine(n *node.NodeProgress) string {
	more := ""
	switch {
	case n.Reported:
		more = "  done"
	case n.Unknown != "":
		return fmt.Sprintf("  %-15s  %s  (%s)", n.Address, bar(0), n.Unknown)
	case n.Failed != "":
		more = "  tried again: " + n.Failed
	}
	share := 0.0
	switch {
	case n.Reported:
		share = 1
	case n.RangesTotal > 0:
		share = float64(n.RangesDone) / float64(n.RangesTotal)
	}
	return fmt.Sprintf("  %-15s  %s  %3.0f%%  %5d of %d ranges  %10s%s", n.Address, bar(share), share*100, n.RangesDone, n.RangesTotal, Size(float64(n.Bytes)), more)
}

// bar draws a share of [0, 1].
func bar(share float64) string {
	full := int(share * barWidth)
	return "[" + strings.Repeat("#", full) + strings.Repeat("-", barWidth-full) + "]"
}

// Operations prints the operations under way, what they wait for and how far each node is.
func Operations(w io.Writer, s *node.Operations) {
	for _, n := range s.Keeps {
		fmt.Fprintf(w, "Node %s keeps rows of ranges that it lost in a movement that was forced, which may be nowhere else. To remove them, there: helenus cleanup\n", n)
	}
	if len(s.Operations) == 0 {
		fmt.Fprintln(w, "No operation is under way")
		return
	}
	fmt.Fprintf(w, "Phase: %s\n", s.Phase)
	fmt.Fprintf(w, "%-10s  %-12s  %-36s  %-15s  %s\n", "ID", "Operation", "Host ID / Keyspace", "Address", "")
	for _, o := range s.Operations {
		var more []string
		if o.Replaces != "" {
			more = append(more, "replaces "+o.Replaces)
		}
		if o.Forced {
			more = append(more, "forced")
		}
		fmt.Fprintf(w, "%-10d  %-12s  %-36s  %-15s  %s\n", o.ID, o.Kind, o.HostID+o.Keyspace, o.Address, strings.Join(more, ", "))
	}
	for _, n := range s.Nodes {
		fmt.Fprintln(w, progressLine(&n))
	}
	for _, n := range s.WaitsFor {
		up := ""
		if !n.Up {
			up = ", which is down"
		}
		fmt.Fprintf(w, "Waits for %s (%s)%s\n", n.Address, n.HostID, up)
		if n.For != "" {
			fmt.Fprintf(w, "  which waits: %s\n", n.For)
		}
	}
	for _, line := range wayOut(s) {
		fmt.Fprintln(w, line)
	}
	if h := s.Here; h != nil && h.Waits != "" {
		fmt.Fprintf(w, "This node waits: %s\n", h.Waits)
	}
}

// ForcePreview prints what forcing an operation gives up.
func ForcePreview(w io.Writer, p *node.ForcePreview) {
	fmt.Fprintf(w, "Forcing the %s lets it, and all that moves with it, go on without the replicas that are down.\n", OperationName(p.Operation))
	for _, l := range p.Losses {
		fmt.Fprintf(w, "  keyspace %s: %d ranges with too few replicas up to know every write; of %d of them none is up. Down: %s\n", l.Keyspace, l.Ranges, l.Gone, strings.Join(l.Down, ", "))
	}
	switch {
	case len(p.Losses) > 0:
		fmt.Fprintln(w, "Given up: every write and deletion there that only replicas have that are down; of a range of which none is up, all rows. They do not come back by themselves with those nodes, which keep what they have until they are cleaned up (helenus cleanup).")
	case p.Stale != "":
		fmt.Fprintf(w, "  %s\nGiven up: that nobody reads from those. A node that is cut off, and has not heard, may answer reads from its old rows until it hears; nothing is lost.\n", p.Stale)
	default:
		fmt.Fprintln(w, "Given up now: nothing, enough replicas are up for every range. It would also go on if one more went down.")
	}
}
