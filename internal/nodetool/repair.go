package nodetool

import (
	"fmt"
	"io"
	"time"

	"github.com/helenusdb/helenus/node"
)

// RepairStatus prints when the tables of a node were last repaired, as of now.
func RepairStatus(w io.Writer, s *node.RepairStatus, now time.Time) {
	rows := [][]string{{"Keyspace", "Table", "Ranges", "Repaired", "Last repaired", "Oldest", "Tombstones kept", "Why"}}
	for _, t := range s.Tables {
		last, oldest, kept := "never", "never", "-"
		if t.Newest != nil {
			last = time.Unix(*t.Newest, 0).UTC().Format(snapshotTime)
		}
		if t.Oldest != nil {
			oldest = age(now.Sub(time.Unix(*t.Oldest, 0)))
		}
		if t.Mode == "repair" {
			kept = fmt.Sprintf("in %d", t.Kept)
		}
		rows = append(rows, []string{t.Keyspace, t.Table, fmt.Sprint(t.Ranges), fmt.Sprint(t.Repaired), last, oldest, kept, t.Why})
	}
	table(w, 2, rows)
	if s.Within == 0 {
		fmt.Fprintln(w, "repair_within is 0: ranges are repaired by helenus repair only.")
		return
	}
	fmt.Fprintf(w, "The ranges that the node is the first replica of; each is repaired every %s.\n", age(time.Duration(s.Within*float64(time.Second))))
}

// age prints a time span with its two largest units.
func age(d time.Duration) string {
	d = max(d, 0)
	switch {
	case d >= 24*time.Hour:
		return fmt.Sprintf("%dd%dh", d/(24*time.Hour), d%(24*time.Hour)/time.Hour)
	case d >= time.Hour:
		return fmt.Sprintf("%dh%dm", d/time.Hour, d%time.Hour/time.Minute)
	case d >= time.Minute:
		return fmt.Sprintf("%dm%ds", d/time.Minute, d%time.Minute/time.Second)
	}
	return fmt.Sprintf("%ds", d/time.Second)
}
